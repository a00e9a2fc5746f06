"""Detections: confident ROIs after refinement and non-maximum suppression within each class.

`B` images, `N` ROIs and `D` detections per image, `C` classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

from mrcnn import backend
from mrcnn.data.image_meta import split_image_meta
from mrcnn.geometry.boxes import apply_box_deltas, clip_boxes, norm_boxes
from mrcnn.types import Numbers, Tensor


@keras.saving.register_keras_serializable("mrcnn")
class DetectionLayer(layers.Layer):
    """Selects a fixed number of detections from classified ROIs.

    Args:
        max_instances: rows of the output, D.
        min_confidence: lowest class probability of a detection.
        nms_threshold: of two boxes of a class that overlap more than this, the lower-scoring one is
            dropped. A box without area overlaps no other.
        bbox_std_dev: `[4]`, unit of the deltas.

    Call arguments, a list:
        rois: `[B, N, (y1, x1, y2, x2)]`, normalised.
        mrcnn_class: `[B, N, C]`, probabilities.
        mrcnn_bbox: `[B, N, C, (dy, dx, log dh, log dw)]`.
        image_meta: `[B, meta]`; its window, the part of the image that is not padding, is used.

    Returns:
        `[B, D, (y1, x1, y2, x2, class_id, score)]` float32, normalised, best first, then zeros.
    """

    def __init__(
        self,
        max_instances: int = 100,
        min_confidence: float = 0.7,
        nms_threshold: float = 0.3,
        bbox_std_dev: Numbers = (0.1, 0.1, 0.2, 0.2),
        **kwargs: Any,
    ):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.max_instances = int(max_instances)
        self.min_confidence = float(min_confidence)
        self.nms_threshold = float(nms_threshold)
        self.bbox_std_dev = [float(value) for value in bbox_std_dev]
        self.supports_jit = backend.SUPPORTS_JIT

    def call(self, inputs: Sequence[Tensor]) -> Tensor:
        rois, probs, deltas, image_meta = inputs
        return self.select(rois, probs, deltas, _windows(ops.cast(image_meta, "float32")))

    def select(self, rois: Tensor, probs: Tensor, deltas: Tensor, windows: Tensor) -> Tensor:
        """`call` with `windows` `[B, (y1, x1, y2, x2)]`, normalised, instead of `image_meta`."""
        class_ids, scores, boxes = self._refine(rois, probs, deltas, windows)
        is_object = (class_ids > 0) & (scores >= self.min_confidence)
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

    def _refine(
        self, rois: Tensor, probs: Tensor, deltas: Tensor, windows: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Class `[B, N]` of every ROI, its probability `[B, N]` and refined box `[B, N, 4]`."""
        class_ids = ops.argmax(probs, axis=-1)
        scores = ops.max(probs, axis=-1)
        own = ops.take_along_axis(deltas, class_ids[..., None, None], axis=2)[:, :, 0]
        boxes = apply_box_deltas(rois, own * ops.array(self.bbox_std_dev))
        return class_ids, scores, clip_boxes(boxes, windows)

    def compute_output_shape(self, input_shape: Sequence[Sequence[int | None]]) -> tuple:
        return (input_shape[0][0], self.max_instances, 6)

    def get_config(self) -> dict[str, Any]:
        names = "max_instances min_confidence nms_threshold bbox_std_dev".split()
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def classes_apart(boxes: Tensor, class_ids: Tensor, num_classes: int) -> Tensor:
    """Boxes shifted so that boxes of different classes cannot overlap.

    One non-maximum suppression then serves all classes. The classes are placed in a square grid,
    not in one row: for 81 classes, coordinates stay below 10, where float32 still resolves a
    thousandth of a pixel.

    Args:
        boxes: `[B, N, (y1, x1, y2, x2)]` in 0..1.
        class_ids: `[B, N]` int.
        num_classes: C.

    Returns:
        `[B, N, (y1, x1, y2, x2)]`.
    """
    side = math.isqrt(num_classes - 1) + 1
    row, column = class_ids // side, class_ids % side
    return boxes + ops.cast(ops.stack([row, column, row, column], axis=-1), boxes.dtype)


def _windows(image_meta: Tensor) -> Tensor:
    """Window of every image, normalised, `[B, (y1, x1, y2, x2)]`."""
    meta = split_image_meta(image_meta)
    return norm_boxes(meta["window"][:, None], meta["image_shape"][:, :2])[:, 0]
