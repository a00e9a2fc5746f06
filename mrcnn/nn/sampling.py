"""Detection targets: the ROIs that the heads train on, and their targets.

Faster R-CNN 3.2 and Mask R-CNN 3.1: a proposal whose overlap with an object is at least 0.5 is
positive. A share of at most `roi_positive_ratio` of the ROIs is positive, the rest negative.
`B` images, `N` proposals, `G` rows of ground truth and `T` sampled ROIs per image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import KerasTensor, layers, ops

from mrcnn import backend
from mrcnn.geometry.boxes import box_area, box_refinement, compute_overlaps, split_box
from mrcnn.types import Numbers, Shape, Tensor

# Lowest overlap of a positive proposal with its object.
POSITIVE_IOU = 0.5
# Lowest overlap with a crowd at which a proposal is not negative.
CROWD_IOU = 0.001


@keras.saving.register_keras_serializable("mrcnn")
class DetectionTargetLayer(layers.Layer):
    """Samples ROIs from the proposals and computes the class, deltas and mask of each.

    Args:
        train_rois_per_image: T.
        roi_positive_ratio: highest share of positive ROIs.
        mask_shape: `(h, w)` of a target mask.
        use_mini_mask: whether ground-truth masks cover their box and not the image.
        bbox_std_dev: `[4]`, unit of the deltas.
        train_empty_images: whether an image without objects gets negative ROIs, as many as an image
            with the highest number of positive ones. If False it gets none, like every image
            without a positive proposal.
        seed: seed of the random choice.

    Call arguments, a list:
        proposals: `[B, N, (y1, x1, y2, x2)]`, normalised; rows of zeros are padding.
        gt_class_ids: `[B, G]` int; 0 for padding, negative for a crowd.
        gt_boxes: `[B, G, (y1, x1, y2, x2)]`, normalised.
        gt_masks: `[B, height, width, G]` bool.

    Returns, positive ROIs first, then negative ones, then rows of zeros:
        rois: `[B, T, (y1, x1, y2, x2)]` float32, normalised.
        target_class_ids: `[B, T]` int32, 0 for background and padding.
        target_bbox: `[B, T, (dy, dx, log dh, log dw)]` float32, 0 for all but positive ROIs.
        target_mask: `[B, T, h, w]` float32, values 0 and 1, 0 for all but positive ROIs.
    """

    def __init__(
        self,
        train_rois_per_image: int,
        roi_positive_ratio: float,
        mask_shape: Shape = (28, 28),
        use_mini_mask: bool = True,
        bbox_std_dev: Numbers = (0.1, 0.1, 0.2, 0.2),
        train_empty_images: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.train_rois_per_image = int(train_rois_per_image)
        self.roi_positive_ratio = float(roi_positive_ratio)
        self.mask_shape = tuple(int(side) for side in mask_shape)
        self.use_mini_mask = bool(use_mini_mask)
        self.bbox_std_dev = [float(value) for value in bbox_std_dev]
        self.train_empty_images = bool(train_empty_images)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_jit = backend.SUPPORTS_JIT

    def call(self, inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        proposals, gt_class_ids, gt_boxes, gt_masks = inputs
        # No `stop_gradient` for the proposals: as in the original, the box loss also trains the
        # RPN through target_bbox. Without it the original's losses cannot be reproduced.
        proposals = self._pad_rows(ops.cast(proposals, "float32"))
        gt_boxes = ops.cast(gt_boxes, "float32")

        positive, negative, gt_index = match_proposals(proposals, gt_class_ids, gt_boxes)
        is_empty = ~ops.any(gt_class_ids > 0, axis=1, keepdims=True)
        chosen, is_positive, is_used = self._choose(positive, negative, is_empty)
        rois = _rows(proposals, chosen)
        gt_index = ops.take_along_axis(gt_index, chosen, axis=1)
        roi_gt_boxes = _rows(gt_boxes, gt_index)

        # The formulas divide by the boxes' sizes, so rows that are not positive get a unit box.
        unit = ops.array([0.0, 0.0, 1.0, 1.0])
        counts = is_positive[..., None]
        safe_rois = ops.where(counts, rois, unit)
        safe_gt_boxes = ops.where(counts, roi_gt_boxes, unit)
        deltas = box_refinement(safe_rois, safe_gt_boxes) / ops.array(self.bbox_std_dev)
        class_ids = ops.take_along_axis(ops.cast(gt_class_ids, "int32"), gt_index, axis=1)
        masks = self._target_masks(gt_masks, gt_index, safe_rois, safe_gt_boxes)
        return (
            ops.where(is_used[..., None], rois, 0.0),
            ops.where(is_positive, class_ids, 0),
            ops.where(counts, deltas, 0.0),
            ops.where(is_positive[..., None, None], masks, 0.0),
        )

    def _pad_rows(self, proposals: Tensor) -> Tensor:
        """At least T rows: `[B, max(N, T), 4]`."""
        missing = max(0, self.train_rois_per_image - proposals.shape[1])
        return ops.pad(proposals, ((0, 0), (0, missing), (0, 0)))

    def _choose(
        self, positive: Tensor, negative: Tensor, is_empty: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A random choice of proposals.

        Args:
            positive: `[B, N]` bool, the positive proposals.
            negative: `[B, N]` bool, the negative ones.
            is_empty: `[B, 1]` bool, whether the image has no objects.

        Returns:
            chosen: `[B, T]` int32, rows of the proposals, positive ones first, then negative ones.
            is_positive: `[B, T]` bool.
            is_used: `[B, T]` bool, false for the rows that are to be zero.
        """
        total = self.train_rois_per_image
        most_positive = int(total * self.roi_positive_ratio)
        draw = keras.random.uniform(ops.shape(positive), seed=self.seed_generator)
        # Positives in random order, then negatives in random order, then the rest.
        score = ops.where(positive, 2.0, ops.where(negative, 0.0, -2.0)) + draw
        positive_rank = _rank(ops.where(positive, score, -3.0))
        kept_positive = positive & (positive_rank < most_positive)
        positive_count = ops.sum(ops.cast(kept_positive, "int32"), axis=1, keepdims=True)
        ratio = 1.0 / self.roi_positive_ratio
        negative_count = ops.cast(ratio * ops.cast(positive_count, "float32"), "int32")
        negative_count = negative_count - positive_count
        if self.train_empty_images:
            negative_count = ops.where(is_empty, total - most_positive, negative_count)
        negative_rank = _rank(ops.where(negative, score, -3.0))
        kept_negative = negative & (negative_rank < negative_count)

        score = ops.where(kept_positive | kept_negative, score, -3.0)
        _, chosen = ops.top_k(score, total)
        chosen = ops.cast(chosen, "int32")
        return (
            chosen,
            ops.take_along_axis(kept_positive, chosen, axis=1),
            ops.take_along_axis(kept_positive | kept_negative, chosen, axis=1),
        )

    def _target_masks(
        self, gt_masks: Tensor, gt_index: Tensor, rois: Tensor, roi_gt_boxes: Tensor
    ) -> Tensor:
        """The mask of each ROI's object inside the ROI, `[B, T, h, w]` float32, 0 and 1."""
        height, width, count = gt_masks.shape[1:]
        masks = ops.cast(ops.transpose(gt_masks, (0, 3, 1, 2)), "uint8")
        masks = ops.reshape(masks, (-1, height, width, 1))
        image = ops.arange(ops.shape(gt_index)[0], dtype="int32")[:, None]
        mask_index = ops.reshape(image * count + gt_index, (-1,))
        boxes = _in_box(rois, roi_gt_boxes) if self.use_mini_mask else rois
        boxes = ops.reshape(boxes, (-1, 4))
        crops = backend.crop_and_resize(masks, boxes, mask_index, self.mask_shape)
        # Interpolated values lie between 0 and 1; the binary cross-entropy needs 0 or 1.
        return ops.round(ops.reshape(crops, (-1, *gt_index.shape[1:], *self.mask_shape)))

    def compute_output_shape(self, input_shape: Sequence[Sequence[int | None]]) -> tuple:
        rows = (input_shape[0][0], self.train_rois_per_image)
        return ((*rows, 4), rows, (*rows, 4), (*rows, *self.mask_shape))

    def compute_output_spec(self, inputs: Sequence[Tensor]) -> tuple:
        # By default Keras assumes that all outputs are floats; class ids are integers.
        shapes = self.compute_output_shape([x.shape for x in inputs])
        dtypes = ("float32", "int32", "float32", "float32")
        return tuple(map(KerasTensor, shapes, dtypes))

    def get_config(self) -> dict[str, Any]:
        names = (
            "train_rois_per_image roi_positive_ratio mask_shape use_mini_mask bbox_std_dev "
            "train_empty_images seed"
        )
        return {**super().get_config(), **{name: getattr(self, name) for name in names.split()}}


def match_proposals(
    proposals: Tensor, gt_class_ids: Tensor, gt_boxes: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Positive and negative proposals, and the object that each proposal overlaps most.

    Args:
        proposals: `[B, N, (y1, x1, y2, x2)]`; boxes without area are padding.
        gt_class_ids: `[B, G]` int; 0 for padding, negative for a crowd.
        gt_boxes: `[B, G, (y1, x1, y2, x2)]`, same unit.

    Returns:
        positive: `[B, N]` bool, overlap with an object of at least POSITIVE_IOU.
        negative: `[B, N]` bool, overlap below POSITIVE_IOU with every object and below CROWD_IOU
            with every crowd. Padding is neither positive nor negative.
        gt_index: `[B, N]` int32, row of the object with the largest overlap.
    """
    overlaps = compute_overlaps(proposals, gt_boxes)
    object_overlaps = ops.where(gt_class_ids[:, None] > 0, overlaps, 0.0)
    crowd_overlaps = ops.where(gt_class_ids[:, None] < 0, overlaps, 0.0)
    best = ops.max(object_overlaps, axis=-1)
    is_there = box_area(proposals) > 0
    positive = is_there & (best >= POSITIVE_IOU)
    off_crowds = ops.max(crowd_overlaps, axis=-1) < CROWD_IOU
    negative = is_there & (best < POSITIVE_IOU) & off_crowds
    return positive, negative, ops.cast(ops.argmax(object_overlaps, axis=-1), "int32")


def _rank(score: Tensor) -> Tensor:
    """Rank of each value in its row, 0 for the largest: `[B, N]` int32."""
    order = ops.argsort(-score, axis=-1)
    return ops.cast(ops.argsort(order, axis=-1), "int32")


def _rows(boxes: Tensor, index: Tensor) -> Tensor:
    """Boxes `[B, N, 4]` by row numbers `[B, T]`: `[B, T, 4]`."""
    return ops.take_along_axis(boxes, index[..., None], axis=1)


def _in_box(boxes: Tensor, frames: Tensor) -> Tensor:
    """Boxes `[..., 4]` in coordinates in which their frame `[..., 4]` is (0, 0, 1, 1)."""
    y1, x1, y2, x2 = split_box(frames)
    origin = ops.stack([y1, x1, y1, x1], axis=-1)
    size = ops.stack([y2 - y1, x2 - x1, y2 - y1, x2 - x1], axis=-1)
    return (boxes - origin) / size
