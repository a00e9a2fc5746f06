"""What a project keeps beside its scripts: settings, a small backbone, a data set."""

import math

import keras.layers as KL
import numpy as np

import mrcnn.model as modellib
from mrcnn import utils
from mrcnn.config import Config

COLORS = {"square": (220, 60, 40), "bar": (50, 200, 70), "dot": (60, 90, 230)}


def small_backbone(input_image, stage5=True, train_bn=None):
    """A ResNet's five stages with one convolution each."""
    x = KL.ZeroPadding2D((3, 3))(input_image)
    x = KL.Conv2D(8, (7, 7), strides=(2, 2), name="conv1", use_bias=True)(x)
    x = modellib.BatchNorm(name="bn_conv1")(x, training=train_bn)
    x = KL.Activation("relu")(x)
    C1 = x = KL.MaxPooling2D((3, 3), strides=(2, 2), padding="same")(x)
    stages = [C1]
    for stage, filters in ((2, 16), (3, 16), (4, 24), (5, 32)):
        strides = (1, 1) if stage == 2 else (2, 2)
        x = KL.Conv2D(
            filters, (3, 3), strides=strides, padding="same", name="res%da_branch2a" % stage
        )(x)
        x = modellib.BatchNorm(name="bn%da_branch2a" % stage)(x, training=train_bn)
        x = KL.Activation("relu", name="res%da_out" % stage)(x)
        stages.append(x)
    return stages if stage5 else stages[:4] + [None]


def small_shapes(image_shape):
    return np.array(
        [
            [int(math.ceil(image_shape[0] / stride)), int(math.ceil(image_shape[1] / stride))]
            for stride in (4, 8, 16, 32, 64)
        ]
    )


class ShapesConfig(Config):
    NAME = "shapes"
    GPU_COUNT = 1
    IMAGES_PER_GPU = 2
    NUM_CLASSES = 1 + 3

    BACKBONE = staticmethod(small_backbone)
    COMPUTE_BACKBONE_SHAPE = staticmethod(small_shapes)
    TOP_DOWN_PYRAMID_SIZE = 32
    FPN_CLASSIF_FC_LAYERS_SIZE = 32

    IMAGE_MIN_DIM = 64
    IMAGE_MAX_DIM = 64
    RPN_ANCHOR_SCALES = (8, 16, 24, 32, 48)
    RPN_TRAIN_ANCHORS_PER_IMAGE = 32
    POST_NMS_ROIS_TRAINING = 100
    POST_NMS_ROIS_INFERENCE = 50
    PRE_NMS_LIMIT = 500
    TRAIN_ROIS_PER_IMAGE = 16
    MAX_GT_INSTANCES = 8
    MINI_MASK_SHAPE = (28, 28)
    DETECTION_MAX_INSTANCES = 10
    # A network of a few steps is sure of nothing.
    DETECTION_MIN_CONFIDENCE = 0

    STEPS_PER_EPOCH = 2
    VALIDATION_STEPS = 1


class InferenceConfig(ShapesConfig):
    GPU_COUNT = 1
    IMAGES_PER_GPU = 1


class ShapesDataset(utils.Dataset):
    """Images drawn when they are asked for, from a specification made by `load_shapes`."""

    def load_shapes(self, count, height, width, seed=0):
        for class_id, name in enumerate(COLORS, 1):
            self.add_class("shapes", class_id, name)
        rng = np.random.RandomState(seed)
        for i in range(count):
            specs = []
            for _ in range(1 + i % 2):
                name = list(COLORS)[rng.randint(3)]
                y, x = rng.randint(2, height - 26), rng.randint(2, width - 26)
                specs.append((name, int(y), int(x), int(rng.randint(12, 24))))
            self.add_image(
                "shapes", image_id=i, path=None, width=width, height=height, specs=specs
            )

    def _draw(self, canvas, spec, color):
        name, y, x, size = spec
        if name == "square":
            canvas[y : y + size, x : x + size] = color
        elif name == "bar":
            canvas[y : y + size, x : x + size // 2] = color
        else:
            rows, cols = np.ogrid[: canvas.shape[0], : canvas.shape[1]]
            radius = size / 2.0
            inside = (rows - y - radius) ** 2 + (cols - x - radius) ** 2 < radius**2
            canvas[inside] = color
        return canvas

    def load_image(self, image_id):
        info = self.image_info[image_id]
        image = np.ones([info["height"], info["width"], 3], dtype=np.uint8) * 25
        for spec in info["specs"]:
            image = self._draw(image, spec, COLORS[spec[0]])
        return image

    def load_mask(self, image_id):
        info = self.image_info[image_id]
        if info["source"] != "shapes":
            return super(self.__class__, self).load_mask(image_id)
        specs = info["specs"]
        mask = np.zeros([info["height"], info["width"], len(specs)], dtype=np.uint8)
        for i, spec in enumerate(specs):
            mask[:, :, i : i + 1] = self._draw(mask[:, :, i : i + 1].copy(), spec, 1)
        class_ids = np.array([self.class_names.index(spec[0]) for spec in specs])
        return mask.astype(bool), class_ids.astype(np.int32)

    def image_reference(self, image_id):
        info = self.image_info[image_id]
        if info["source"] == "shapes":
            return info["specs"]
        return super(self.__class__, self).image_reference(image_id)


def make_dataset(count, seed=0):
    dataset = ShapesDataset()
    dataset.load_shapes(count, 64, 64, seed)
    dataset.prepare()
    return dataset
