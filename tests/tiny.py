"""A network small enough to be traced in seconds, and a data set drawn in memory.

For tests of the code around the network; `tests/slim.py` has the network of the reference numbers.
"""

import re
from pathlib import Path

import h5py
import keras
import numpy as np
from keras import layers

from mrcnn import training
from mrcnn.config import Config
from mrcnn.data.dataset import Dataset
from mrcnn.data.loader import BatchLoader
from mrcnn.nn.backbone import BatchNorm
from tests.slim import slim_shapes

CLASSES = ("bar", "block", "tile")


def tiny_backbone(input_image, stage5=True, train_bn=False):
    """One convolution per stage, named like those of a ResNet."""
    x = layers.Conv2D(8, 3, strides=2, padding="same", name="conv1")(input_image)
    x = BatchNorm(name="bn_conv1")(x, training=train_bn)
    x = layers.Activation("relu")(x)
    maps = [layers.MaxPooling2D(2)(x)]
    for stage in (2, 3, 4, 5):
        strides = 1 if stage == 2 else 2
        x = layers.Conv2D(
            8 * stage, 3, strides=strides, padding="same", name=f"res{stage}a_branch2a"
        )(maps[-1])
        x = BatchNorm(name=f"bn{stage}a_branch2a")(x, training=train_bn)
        maps.append(layers.Activation("relu")(x))
    return maps


def backbone_of_blocks(input_image, stage5=True, train_bn=False):
    """A convolution and a sum per stage."""
    x = layers.Conv2D(8, 3, strides=2, padding="same", name="conv1")(input_image)
    maps = [layers.MaxPooling2D(2)(x)]
    for stage in (2, 3, 4, 5):
        x = maps[-1] if stage == 2 else layers.MaxPooling2D(2)(maps[-1])
        y = layers.Conv2D(8, 3, padding="same", name=f"res{stage}a_branch2a")(x)
        y = BatchNorm(name=f"bn{stage}a_branch2a")(y, training=train_bn)
        maps.append(layers.Activation("relu")(layers.Add()([x, y])))
    return maps


class TinyConfig(Config):
    NAME = "tiny"
    BACKBONE = staticmethod(tiny_backbone)
    COMPUTE_BACKBONE_SHAPE = staticmethod(slim_shapes)
    NUM_CLASSES = 1 + len(CLASSES)
    IMAGE_MIN_DIM = 64
    IMAGE_MAX_DIM = 64
    TOP_DOWN_PYRAMID_SIZE = 16
    FPN_CLASSIF_FC_LAYERS_SIZE = 32
    RPN_ANCHOR_SCALES = (16, 24, 32, 48, 64)
    RPN_TRAIN_ANCHORS_PER_IMAGE = 32
    PRE_NMS_LIMIT = 1000
    POST_NMS_ROIS_TRAINING = 400
    RPN_NMS_THRESHOLD = 0.9
    POST_NMS_ROIS_INFERENCE = 40
    TRAIN_ROIS_PER_IMAGE = 20
    POOL_SIZE = 5
    MASK_POOL_SIZE = 4
    MASK_SHAPE = [8, 8]
    MINI_MASK_SHAPE = (14, 14)
    MAX_GT_INSTANCES = 6
    DETECTION_MAX_INSTANCES = 12
    DETECTION_MIN_CONFIDENCE = 0.0
    STEPS_PER_EPOCH = 2
    VALIDATION_STEPS = 1


def tiny_config(**settings) -> Config:
    """A TinyConfig with these differences."""
    return type("Changed", (TinyConfig,), settings)()


class Rectangles(Dataset):
    """Bright rectangles on a dark ground, each class in its own colour.

    Args:
        content: for each image a list of `(class id, (y1, x1, y2, x2))`.
        shape: `(height, width)` of all images.
    """

    def __init__(self, content, shape=(64, 64)):
        super().__init__()
        self.content, self.shape = content, shape
        for class_id, name in enumerate(CLASSES, start=1):
            self.add_class("tiny", class_id, name)
        for image_id in range(len(content)):
            self.add_image("tiny", image_id, path=None)
        self.prepare()

    def load_image(self, image_id):
        image = np.full((*self.shape, 3), 20, np.uint8)
        for class_id, (y1, x1, y2, x2) in self.content[image_id]:
            image[y1:y2, x1:x2] = 90
            image[y1:y2, x1:x2, class_id - 1] = 230
        return image

    def load_mask(self, image_id):
        objects = self.content[image_id]
        masks = np.zeros((*self.shape, len(objects)), bool)
        for i, (_, (y1, x1, y2, x2)) in enumerate(objects):
            masks[y1:y2, x1:x2, i] = True
        return masks, np.array([class_id for class_id, _ in objects], np.int32)


def random_rectangles(count: int, seed: int = 0) -> Rectangles:
    """`count` images of 64x64 with one or two objects."""
    rng = np.random.default_rng(seed)
    content = []
    for i in range(count):
        y, x = map(int, rng.integers(0, 38, 2))
        objects = [(1 + i % 3, (y, x, y + 20, x + 25))]
        content.append(objects + [(2, (2, 34, 50, 60))] * (i % 2))
    return Rectangles(content)


def run_eagerly(monkeypatch) -> None:
    """Let steps run without a graph: for a few of them, tracing takes many times as long.

    Not on JAX, which compiles each operation by itself then: that takes four times as long as the
    step.
    """
    if keras.backend.backend() == "jax":
        return
    compile_model = training.compile_model

    def compile_eagerly(model, *args):
        compile_model(model, *args)
        model.run_eagerly = True

    monkeypatch.setattr(training, "compile_model", compile_eagerly)


def propose_anchors(model) -> None:
    """Let the untrained RPN propose its anchors as they are, so that some show an object."""
    layer = model.get_layer("rpn_model").get_layer("rpn_bbox_pred")
    layer.set_weights([np.zeros_like(weight) for weight in layer.get_weights()])


def tiny_model(seed: int = 0, **settings):
    """A training model, its Config and a batch in which each image has positive ROIs."""
    keras.utils.set_random_seed(seed)
    config = tiny_config(**settings)
    model = training.build_training_model(config)
    propose_anchors(model)
    return model, config, list(BatchLoader(random_rectangles(4), config)[0][0])


def stand_in_checkpoint(path: Path) -> str:
    """Write an HDF5 file that holds nothing, where a checkpoint would be; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    h5py.File(path, "w").close()
    return str(path)


def stage(name: str) -> int:
    """Stage of the ResNet a layer is in; 6 for all layers after it."""
    found = re.fullmatch(r"(res|bn)([2-5]).*", name)
    return int(found.group(2)) if found else 1 if name in ("conv1", "bn_conv1") else 6


def leaves(model):
    """Layers with weights, also those of models inside."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from leaves(layer)
        elif layer.weights:
            yield layer


def weights_of(model) -> dict[str, np.ndarray]:
    """Copies of all weights by path."""
    return {w.path: w.numpy().copy() for w in model.weights if "seed_generator" not in w.path}
