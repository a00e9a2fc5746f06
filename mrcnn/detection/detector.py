"""Detection: images molded into a batch, the network, and its answers put back into pixels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import keras
import numpy as np

from mrcnn.config import Config
from mrcnn.data.targets import pyramid_anchors
from mrcnn.detection.model import DetectionModel
from mrcnn.detection.molding import check_images, mold_one, unmold_detections
from mrcnn.geometry.boxes import norm_boxes


class AnchorCache:
    """Normalised anchors by image shape; making those of a large image takes a while.

    Args:
        config: its pyramid.

    Attributes:
        pixels: `[A, (y1, x1, y2, x2)]` of the shape last asked for, not normalised.
    """

    def __init__(self, config: Config):
        self.config = config
        self._by_shape: dict[tuple, tuple] = {}

    def __call__(self, image_shape) -> np.ndarray:
        """`[A, (y1, x1, y2, x2)]` float32, normalised, for a molded image of this shape."""
        shape = tuple(int(side) for side in image_shape[:2])
        if shape not in self._by_shape:
            pixels = pyramid_anchors(self.config, shape)
            self._by_shape[shape] = pixels, norm_boxes(pixels, shape)
        self.pixels, normalised = self._by_shape[shape]
        return normalised


def predict(model: keras.Model, anchors: np.ndarray, molded_images, image_metas) -> tuple:
    """Detections `[B, D, 6]` and masks `[B, K, h, w, C]` for a batch of molded images of one shape.

    Args:
        model: a DetectionModel, or any other with the outputs of `inference_graph`.
        anchors: `[A, (y1, x1, y2, x2)]`, normalised.
        molded_images: `[B, H, W, channels]`; image_metas: `[B, meta]`.
    """
    images, metas = np.asarray(molded_images, np.float32), np.asarray(image_metas, np.float32)
    anchors = np.broadcast_to(np.float32(anchors), (len(images), *anchors.shape))
    if isinstance(model, DetectionModel):
        return model.detect_on_batch(images, metas, anchors)
    detections, _, _, masks, *_ = model.predict_on_batch([images, metas, anchors])
    return detections, masks


def unmold_batch(
    outputs, original_shapes, molded_shape, windows, unmold=unmold_detections
) -> Iterator[dict]:
    """The result of `detect` for each image of a batch; unmold is like `unmold_detections`."""
    detections, mrcnn_mask = outputs
    for index, (original_shape, window) in enumerate(zip(original_shapes, windows, strict=True)):
        rois, class_ids, scores, masks = unmold(
            detections[index], mrcnn_mask[index], original_shape, molded_shape, window
        )
        yield {"rois": rois, "class_ids": class_ids, "scores": scores, "masks": masks}


def detect(
    model: keras.Model, config: Config, anchors: AnchorCache, images, unmold=unmold_detections
) -> list[dict]:
    """Detect in any number of images of any sizes, BATCH_SIZE at a time.

    Args:
        unmold: a function like `unmold_detections`.
        images: list of `[H, W, channels]` or `[H, W]`, values 0..255.

    Returns:
        A dict an image, in order: rois `[N, (y1, x1, y2, x2)]` int32 pixels, class_ids `[N]`
        int32, scores `[N]` float32, masks `[H, W, N]` bool; best score first.
    """
    if len(images):
        check_images(images, config)
    results: list = [None] * len(images)
    inputs = ((index, *mold_one(image, index, config)) for index, image in enumerate(images))
    for batch in batches_of_one_shape(inputs, config.BATCH_SIZE, lambda one: one[1].shape):
        indices, molded, metas, windows = zip(*batch, strict=True)
        shape = molded[0].shape
        outputs = predict(model, anchors(shape), np.stack(molded), metas)
        originals = [np.shape(images[index]) for index in indices]
        for index, result in zip(
            indices, unmold_batch(outputs, originals, shape, windows, unmold), strict=True
        ):
            results[index] = result
    return results


def batches_of_one_shape(
    images: Iterable, size: int, shape_of: Callable, most: float = math.inf
) -> Iterator[list]:
    """Images in lists of `size`, those of one shape together; one without a shape comes at once.

    Args:
        shape_of: function of an image, its shape or None.
        most: when so many wait for others of their shape, those that wait longest go as they are.
    """
    waiting: dict[tuple, list] = {}
    for image in images:
        shape = shape_of(image)
        if shape is None:
            yield [image]
            continue
        waiting.setdefault(shape, []).append(image)
        if len(waiting[shape]) == size:
            yield waiting.pop(shape)
        elif sum(map(len, waiting.values())) == most:
            yield waiting.pop(next(iter(waiting)))
    yield from waiting.values()
