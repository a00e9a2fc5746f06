"""Networks with random weights, and images and objects for them."""

from __future__ import annotations

import cv2
import keras
import numpy as np
from keras import layers

from mrcnn.config import Config
from mrcnn.data.dataset import Dataset
from mrcnn.mask_rcnn import MaskRCNN
from mrcnn.nn.backbone import BatchNorm

CLASSES = 80


# ---- Networks --------------------------------------------------------------------------------


def small_backbone(input_image, stage5=True, train_bn=None):
    """One convolution per stage: it costs little, so the rest of the network dominates."""
    maps, x = [], input_image
    for stage in (1, 2, 3, 4, 5):
        strides = {1: 4, 2: 1}.get(stage, 2)
        x = layers.Conv2D(16, 5, strides=strides, padding="same", name=f"res{stage}a_branch2a")(x)
        x = BatchNorm(name=f"bn{stage}a_branch2a")(x, training=train_bn)
        x = layers.Activation("relu")(x)
        maps.append(x)
    return maps


def small_backbone_shapes(image_shape) -> np.ndarray:
    """Sizes of P2 to P6 of a network on `small_backbone`."""
    return np.array([[-(-side // stride) for side in image_shape[:2]] for stride in STRIDES])


STRIDES = (4, 8, 16, 32, 64)
SMALL = {
    "BACKBONE": staticmethod(small_backbone),
    "COMPUTE_BACKBONE_SHAPE": staticmethod(small_backbone_shapes),
    "TOP_DOWN_PYRAMID_SIZE": 16,
    "FPN_CLASSIF_FC_LAYERS_SIZE": 32,
    "RPN_ANCHOR_SCALES": (8, 16, 32, 64, 128),
    "POST_NMS_ROIS_TRAINING": 200,
    "POST_NMS_ROIS_INFERENCE": 200,
    "TRAIN_ROIS_PER_IMAGE": 20,
    "RPN_TRAIN_ANCHORS_PER_IMAGE": 64,
    "MINI_MASK_SHAPE": (28, 28),
}


def make_config(backbone: str, side: int, policy: str = "float32", **settings) -> Config:
    """A Config for COCO's 80 classes and square images that keeps detections of any score.

    `backbone` is a setting of BACKBONE or "small".
    """
    values = {
        "NAME": "benchmark",
        "NUM_CLASSES": 1 + CLASSES,
        "IMAGES_PER_GPU": 1,
        "IMAGE_MIN_DIM": side,
        "IMAGE_MAX_DIM": side,
        "DETECTION_MIN_CONFIDENCE": 0.0,
        "DTYPE_POLICY": policy,
        **(SMALL if backbone == "small" else {"BACKBONE": backbone}),
        **settings,
    }
    return type("BenchmarkConfig", (Config,), values)()


def make_model(mode: str, config: Config) -> MaskRCNN:
    """A model with the same random weights each time."""
    model = MaskRCNN(mode, config, "logs")
    set_random_weights(model.keras_model)
    return model


# With these, scores and boxes resemble those of a trained network, with objects of all sizes.
GAINS = {
    "fpn_p2": 0.1,
    "fpn_p3": 0.2,
    "fpn_p4": 0.4,
    "rpn_class_raw": 0.2,
    "rpn_bbox_pred": 0.01,
    "mrcnn_class_logits": 0.5,
    "mrcnn_bbox_fc": 0.02,
}


def set_random_weights(model: keras.Model, seed: int = 0) -> None:
    """Set random weights with which activations neither vanish nor grow in a hundred layers."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        layer, kind = variable.path.split("/")[-2:]
        values = _random_weight(rng, layer, kind.split(":")[0], tuple(variable.shape))
        if values is not None:
            variable.assign(values)


def _random_weight(rng, layer: str, kind: str, shape) -> np.ndarray | None:
    """Random values for a variable; None for the state of a random generator, which stays."""
    if kind == "kernel":
        values = rng.standard_normal(shape, np.float32)
        if layer == "mrcnn_class_logits":
            # Otherwise one class would win everywhere.
            values -= values.mean(axis=0)
        # Of a transposed convolution the last axis is the input.
        fan_in = shape[-1] if layer == "mrcnn_mask_deconv" else np.prod(shape[:-1])
        return values * np.float32(GAINS.get(layer, 1.0) * np.sqrt(2.0 / fan_in))
    if kind in ("bias", "beta", "moving_mean"):
        return 0.05 * rng.standard_normal(shape, np.float32)
    if kind == "gamma":
        # The last convolution of a residual block adds little; a hundred of them would add up.
        return rng.uniform(0.2, 0.4, shape) if layer.endswith("branch2c") else np.ones(shape)
    if kind == "moving_variance":
        # The first layer sees pixels of -124 to 151.
        return np.full(shape, 15000.0 if layer in ("bn_conv1", "bn1a_branch2a") else 1.0)
    return None


# ---- Images and objects --------------------------------------------------------------------------


def photo(height: int, width: int) -> np.ndarray:
    """A photograph `[height, width, 3]` uint8: its largest part of these proportions, resized."""
    from skimage import data

    image = data.astronaut()
    scale = min(image.shape[0] / height, image.shape[1] / width)
    image = image[: round(height * scale), : round(width * scale)]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)


def photos(count: int, side: int) -> list[np.ndarray]:
    """Copies of the square photograph, each shifted by some more columns."""
    return [np.roll(photo(side, side), 37 * i, axis=1) for i in range(count)]


class Ellipses(Dataset):
    """Photographs with one ellipse per given box, held in memory like decoded images.

    Args:
        boxes: for each image `[N, (y1, x1, y2, x2)]` int, pixels.
        shape: `(height, width)` of all images.
    """

    def __init__(self, boxes, shape):
        super().__init__()
        for class_id in range(1, CLASSES + 1):
            self.add_class("benchmark", class_id, str(class_id))
        image = photo(*shape)
        self.images = [np.roll(image, 37 * i, axis=1) for i in range(len(boxes))]
        self.masks = [_ellipses(of_image, shape) for of_image in boxes]
        for i in range(len(boxes)):
            self.add_image("benchmark", i, path=None)
        self.prepare()

    def load_image(self, image_id):
        return self.images[image_id]

    def load_mask(self, image_id):
        masks = self.masks[image_id]
        return masks, 1 + np.arange(masks.shape[2], dtype=np.int32) % CLASSES


def _ellipses(boxes, shape) -> np.ndarray:
    masks = np.zeros((*shape, len(boxes)), bool)
    for i, (y1, x1, y2, x2) in enumerate(np.asarray(boxes).tolist()):
        y, x = np.ogrid[: shape[0], : shape[1]]
        y, x = (2 * y + 1 - y1 - y2) / (y2 - y1), (2 * x + 1 - x1 - x2) / (x2 - x1)
        masks[:, :, i] = y**2 + x**2 <= 1
    return masks


def random_boxes(images: int, objects: int, shape, seed: int = 0) -> list[np.ndarray]:
    """Boxes per image, `[objects, (y1, x1, y2, x2)]` int, a tenth to half of its smaller side."""
    rng = np.random.default_rng(seed)
    smaller = min(shape)
    boxes = []
    for _ in range(images):
        sizes = rng.integers(smaller // 10, smaller // 2, (objects, 2))
        corners = rng.integers(0, np.array(shape) - sizes)
        boxes.append(np.concatenate([corners, corners + sizes], axis=1))
    return boxes
