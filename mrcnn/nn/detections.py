"""Detections: the ROIs the classifier is sure of, refined, one box an object."""

from __future__ import annotations

import math

import keras
from keras import layers, ops

from mrcnn import backend
from mrcnn.data.image_meta import split_image_meta
from mrcnn.geometry.boxes import apply_box_deltas, box_area, clip_boxes, norm_boxes


@keras.saving.register_keras_serializable("mrcnn")
class DetectionLayer(layers.Layer):
    """Turns classified ROIs into a fixed number of detections.

    Args:
        max_instances: rows of the output, D.
        min_confidence: lowest class probability of a detection.
        nms_threshold: overlap above which the lower-scoring of two boxes of a class is dropped.
        bbox_std_dev: `[4]`, unit of the deltas.

    Call arguments, a list:
        rois: `[B, N, (y1, x1, y2, x2)]`, normalised.
        mrcnn_class: `[B, N, C]`, probabilities.
        mrcnn_bbox: `[B, N, C, (dy, dx, log dh, log dw)]`.
        image_meta: `[B, meta]`, for the window, the part of the image that is not padding.

    Returns:
        `[B, D, (y1, x1, y2, x2, class_id, score)]` float32, normalised, best first, then zeros.
    """

    def __init__(
        self,
        max_instances: int = 100,
        min_confidence: float = 0.7,
        nms_threshold: float = 0.3,
        bbox_std_dev=(0.1, 0.1, 0.2, 0.2),
        **kwargs,
    ):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.max_instances = int(max_instances)
        self.min_confidence = float(min_confidence)
        self.nms_threshold = float(nms_threshold)
        self.bbox_std_dev = [float(value) for value in bbox_std_dev]
        self.supports_jit = backend.SUPPORTS_JIT

    def call(self, inputs):
        rois, probs, deltas, image_meta = inputs
        return self.select(rois, probs, deltas, _windows(ops.cast(image_meta, "float32")))

    def select(self, rois, probs, deltas, windows):
        """`call` with `windows` `[B, (y1, x1, y2, x2)]`, normalised, in place of the meta."""
        class_ids, scores, boxes = self._refine(rois, probs, deltas, windows)
        is_object = (class_ids > 0) & (scores >= self.min_confidence)
        is_object = is_object & (scores >= _end_of_class(boxes, class_ids, scores, is_object))
        kept, valid = backend.non_max_suppression(
            classes_apart(boxes, class_ids, probs.shape[-1]),
            ops.where(is_object, scores, -1.0),
            max_output_size=self.max_instances,
            iou_threshold=self.nms_threshold,
            score_threshold=-0.5,
        )
        detections = ops.concatenate(
            [boxes, ops.cast(class_ids, "float32")[..., None], scores[..., None]], axis=-1
        )
        detections = ops.take_along_axis(detections, kept[..., None], axis=1)
        return ops.where(valid[..., None], detections, 0.0)

    def _refine(self, rois, probs, deltas, windows):
        """Best class, its probability and the box refined for it, of every ROI."""
        class_ids = ops.argmax(probs, axis=-1)
        scores = ops.max(probs, axis=-1)
        own = ops.take_along_axis(deltas, class_ids[..., None, None], axis=2)[:, :, 0]
        boxes = apply_box_deltas(rois, own * ops.array(self.bbox_std_dev))
        return class_ids, scores, clip_boxes(boxes, windows)

    def compute_output_shape(self, input_shape):
        return (input_shape[0][0], self.max_instances, 6)

    def get_config(self):
        names = "max_instances min_confidence nms_threshold bbox_std_dev".split()
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def classes_apart(boxes, class_ids, num_classes: int):
    """Boxes moved so far that only those of one class can overlap.

    One suppression then does for all classes. Each class gets a cell of its own in a square grid
    rather than a place in a row: numbers stay below 10 for 81 classes, where float32 still
    tells apart the thousandth part of a pixel.

    Args:
        boxes: `[B, N, (y1, x1, y2, x2)]` in 0..1; class_ids: `[B, N]` int.

    Returns:
        `[B, N, (y1, x1, y2, x2)]`.
    """
    side = math.isqrt(num_classes - 1) + 1
    row, column = class_ids // side, class_ids % side
    return boxes + ops.cast(ops.stack([row, column, row, column], axis=-1), boxes.dtype)


def _end_of_class(boxes, class_ids, scores, is_object):
    """Score below which an object's class has nothing more to say, `[B, N]` float32.

    Boxes whose object lies wholly outside the window are clipped to its border and have no area
    left. With TensorFlow 1.15 the best of them hides whatever of its class scores less, which the
    reference numbers show; without it, dozens of them fill the output.
    """
    is_end = is_object & (box_area(boxes) <= 0)
    same_class = class_ids[:, :, None] == class_ids[:, None, :]
    return ops.max(ops.where(same_class & is_end[:, None, :], scores[:, None, :], 0.0), axis=-1)


def _windows(image_meta):
    meta = split_image_meta(image_meta)
    return norm_boxes(meta["window"][:, None], meta["image_shape"][:, :2])[:, 0]
