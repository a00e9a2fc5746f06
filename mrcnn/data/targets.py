"""Training targets of an image: which anchors show an object, and how far they are from it.

`build_rpn_targets` makes the targets of the region proposal network (Faster R-CNN, section 3.1.2).
The graph makes the second stage's targets itself (`nn/sampling.py`). `build_detection_targets` and
`generate_random_rois` make them with NumPy, to inspect them or to train the heads without the RPN.

Letters in shapes: A is the number of anchors, N of objects, R of ROIs, and T is
TRAIN_ROIS_PER_IMAGE; H and W are the height and width of the image.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mrcnn.config import Config, compute_backbone_shapes
from mrcnn.data.image import random_generator
from mrcnn.geometry.anchors import generate_pyramid_anchors
from mrcnn.geometry.boxes import (
    NEUTRAL_SHARE,
    box_area,
    box_refinement,
    compute_iou,
    compute_overlaps,
    covered_share,
)
from mrcnn.geometry.masks import expand_mask
from mrcnn.geometry.resize import resize_bilinear

# Faster R-CNN, section 3.1.2: an anchor with at least the first IoU is positive, and one with less
# than the second is negative.
_POSITIVE_IOU, _NEGATIVE_IOU = 0.7, 0.3
# An anchor with at least this IoU with a crowd is not negative.
_CROWD_IOU = 0.001
# Fast R-CNN, section 2.3: an ROI with more IoU than this is positive.
_ROI_POSITIVE_IOU = 0.5
# Share of the random ROIs that lie near an object.
_NEAR_OBJECTS = 0.9


def pyramid_anchors(config: Config, image_shape: Sequence[int]) -> np.ndarray:
    """All anchors of an image.

    Args:
        config: its RPN_ANCHOR_… settings and BACKBONE_STRIDES.
        image_shape: `(H, W, ...)` in pixels.

    Returns:
        `[A, (y1, x1, y2, x2)]` float64 in pixels.
    """
    return generate_pyramid_anchors(
        config.RPN_ANCHOR_SCALES,
        config.RPN_ANCHOR_RATIOS,
        compute_backbone_shapes(config, image_shape),
        config.BACKBONE_STRIDES,
        config.RPN_ANCHOR_STRIDE,
    )


def build_rpn_targets(
    image_shape: Sequence[int] | None,
    anchors: np.ndarray | AnchorIndex,
    gt_class_ids: np.ndarray,
    gt_boxes: np.ndarray,
    config: Config,
    *,
    neutral: np.ndarray | None = None,
    rng: np.random.Generator | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Choose the anchors that train the RPN, and compute the deltas from them to their objects.

    An anchor is positive if its IoU with an object is at least 0.7, or if no other anchor has more
    IoU with that object. It is negative if its IoU with every object is less than 0.3 and it
    overlaps no crowd. All others are neutral. At most half of RPN_TRAIN_ANCHORS_PER_IMAGE stay
    positive, and negative ones fill the rest (Faster R-CNN, section 3.1.2).

    Args:
        image_shape: not used; callers of the original pass it.
        anchors: `[A, (y1, x1, y2, x2)]` in pixels, or an AnchorIndex of them to use many times.
        gt_class_ids: `[N]`, negative for a crowd.
        gt_boxes: `[N, (y1, x1, y2, x2)]` in pixels.
        config: its RPN_TRAIN_ANCHORS_PER_IMAGE and RPN_BBOX_STD_DEV.
        neutral: `[H, W]` bool; anchors with such pixels, see `NEUTRAL_SHARE`, are neutral.
        rng: chooses anchors if there are too many; None for NumPy's global state.

    Returns:
        rpn_match: `[A]` int32: 1 positive, -1 negative, 0 neutral.
        rpn_bbox: `[RPN_TRAIN_ANCHORS_PER_IMAGE, (dy, dx, log dh, log dw)]` float64, divided by
            RPN_BBOX_STD_DEV: one row per positive anchor in the order of the anchors, then zeros.
    """
    rng = random_generator(rng)
    gt_class_ids, gt_boxes = np.asarray(gt_class_ids), np.asarray(gt_boxes).reshape(-1, 4)
    objects, crowds = gt_boxes[gt_class_ids > 0], gt_boxes[gt_class_ids < 0]
    index = anchors if isinstance(anchors, AnchorIndex) else AnchorIndex(np.asarray(anchors))

    iou, nearest, is_best = _match_anchors(index, objects)
    crowd_iou = _match_anchors(index, crowds)[0]
    match = np.zeros(len(index), np.int32)
    match[(iou < _NEGATIVE_IOU) & (crowd_iou < _CROWD_IOU)] = -1
    match[is_best | (iou >= _POSITIVE_IOU)] = 1
    if neutral is not None and neutral.any():
        chosen = np.flatnonzero(match)
        shares = covered_share(index.anchors[None, chosen], neutral[None])[0]
        match[chosen[shares >= NEUTRAL_SHARE]] = 0

    wanted = config.RPN_TRAIN_ANCHORS_PER_IMAGE
    _keep_random(match, 1, wanted // 2, rng)
    _keep_random(match, -1, wanted - np.count_nonzero(match == 1), rng)

    positive = np.flatnonzero(match == 1)
    deltas = np.zeros((wanted, 4))
    deltas[: len(positive)] = _deltas(index.anchors[positive], objects[nearest[positive]])
    return match, deltas / config.RPN_BBOX_STD_DEV


class AnchorIndex:
    """Anchors sorted by size and row, so that those near a box are found fast.

    Anchors of one size form rows. The rows that a box meets are one slice, and only the columns in
    that slice are searched. That is a tenth of the 261,888 anchors of a 1024x1024 image.

    Args:
        anchors: `[A, (y1, x1, y2, x2)]` in pixels.

    Attributes:
        anchors: as given.
    """

    def __init__(self, anchors: np.ndarray):
        self.anchors = anchors
        sizes = np.round(anchors[:, 2:] - anchors[:, :2], 3)
        _, size_of = np.unique(sizes, axis=0, return_inverse=True)
        # By size, then from top to bottom.
        order = np.lexsort((anchors[:, 0], size_of.ravel()))
        ends = np.cumsum(np.bincount(size_of.ravel()))
        self._groups = [
            (ids, *np.ascontiguousarray(anchors[ids].T)) for ids in np.split(order, ends[:-1])
        ]

    def __len__(self) -> int:
        return len(self.anchors)

    def meeting(self, box: np.ndarray) -> np.ndarray:
        """Indices of the anchors that share an area with a box `(y1, x1, y2, x2)`, unsorted."""
        found = []
        for ids, y1, x1, y2, x2 in self._groups:
            first, last = y2.searchsorted(box[0], "right"), y1.searchsorted(box[2], "left")
            rows = slice(first, last)
            found.append(ids[rows][(x1[rows] < box[3]) & (x2[rows] > box[1])])
        return np.concatenate(found)


def _match_anchors(
    index: AnchorIndex, boxes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compare each anchor with boxes `[N, (y1, x1, y2, x2)]`.

    Returns:
        The anchor's largest IoU, `[A]` float64; the box with that IoU, `[A]` int, 0 where nothing
        overlaps; whether some box has its largest IoU with this anchor, `[A]` bool.
    """
    iou, nearest = np.zeros(len(index)), np.zeros(len(index), int)
    is_best = np.zeros(len(index), bool)
    # One box at a time, with the few thousand anchors that meet it: the full table of 261,888
    # anchors x 100 boxes would take hundreds of megabytes.
    boxes = boxes.astype(np.float64)
    for i in range(len(boxes)):
        box = boxes[i]
        meets = index.meeting(box)
        if box_area(box) <= 0 or not len(meets):
            continue
        near = index.anchors[meets]
        overlap = compute_iou(box, near, box_area(box), box_area(near))
        is_best[meets[overlap == overlap.max()]] = True
        better = overlap > iou[meets]
        iou[meets[better]] = overlap[better]
        nearest[meets[better]] = i
    return iou, nearest, is_best


def _keep_random(match: np.ndarray, label: int, count: int, rng: np.random.Generator) -> None:
    """Keep the label of `count` random anchors that have it; make the others neutral, in place."""
    ids = np.flatnonzero(match == label)
    if len(ids) > count:
        match[ids] = 0
        match[rng.choice(ids, count, replace=False)] = label


def _deltas(boxes: np.ndarray, gt_boxes: np.ndarray) -> np.ndarray:
    """`[N, (dy, dx, log dh, log dw)]` float64 from boxes to their objects, as `box_refinement`."""
    size, gt_size = boxes[:, 2:] - boxes[:, :2], gt_boxes[:, 2:] - gt_boxes[:, :2]
    shift = (gt_boxes[:, :2] + 0.5 * gt_size) - (boxes[:, :2] + 0.5 * size)
    return np.concatenate([shift / size, np.log(gt_size / size)], axis=1)


def build_detection_targets(
    rpn_rois: np.ndarray,
    gt_class_ids: np.ndarray,
    gt_boxes: np.ndarray,
    gt_masks: np.ndarray,
    config: Config,
    *,
    rng: np.random.Generator | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Choose ROIs and compute the second stage's targets for them, as the training graph does.

    Args:
        rpn_rois: `[R, (y1, x1, y2, x2)]` in pixels, R > 0.
        gt_class_ids: `[N]`; objects whose class id is not positive are ignored.
        gt_boxes: `[N, (y1, x1, y2, x2)]` in pixels.
        gt_masks: `[H, W, N]`, or mini-masks with USE_MINI_MASK; IMAGE_SHAPE is then the image's.
        config: its TRAIN_ROIS_PER_IMAGE (T), ROI_POSITIVE_RATIO, NUM_CLASSES, MASK_SHAPE,
            BBOX_STD_DEV, USE_MINI_MASK.
        rng: chooses the ROIs; without it NumPy's global state does.

    Returns:
        rois `[T, (y1, x1, y2, x2)]`, positive ones first; class ids `[T]` int32, 0 for background;
        deltas `[T, NUM_CLASSES, 4]` and masks `[T, *MASK_SHAPE, NUM_CLASSES]`, float32, which are
        zero except for the class of the ROI.

    Raises:
        ValueError: there is no ROI or no object.
    """
    rng = random_generator(rng)
    objects = np.flatnonzero(np.asarray(gt_class_ids) > 0)
    if len(rpn_rois) == 0 or len(objects) == 0:
        raise ValueError(
            f"detection targets need at least one ROI and one object; received {len(rpn_rois)} "
            f"ROIs and {len(objects)} objects with a class id above 0."
        )
    overlaps = compute_overlaps(rpn_rois.astype(np.float64), gt_boxes[objects].astype(np.float64))
    keep, positive = _choose_rois(overlaps.max(axis=1), config, rng)
    rois, nearest = rpn_rois[keep], objects[overlaps.argmax(axis=1)[keep]]

    class_ids = np.where(positive, gt_class_ids[nearest], 0).astype(np.int32)
    deltas = np.zeros((len(keep), config.NUM_CLASSES, 4), np.float32)
    masks = np.zeros((len(keep), *config.MASK_SHAPE, config.NUM_CLASSES), np.float32)
    for i in np.flatnonzero(positive):
        box = gt_boxes[nearest[i]]
        deltas[i, class_ids[i]] = box_refinement(rois[i], box) / config.BBOX_STD_DEV
        mask = gt_masks[:, :, nearest[i]]
        if config.USE_MINI_MASK:
            mask = expand_mask(box[None], mask[:, :, None], config.IMAGE_SHAPE)[:, :, 0]
        masks[i, :, :, class_ids[i]] = _cut(mask, rois[i], config.MASK_SHAPE)
    return rois, class_ids, deltas, masks


def _choose_rois(
    iou: np.ndarray, config: Config, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Choose from ROIs with this IoU `[R]`: indices `[T]`, positive first; positive `[T]` bool."""
    positive = np.flatnonzero(iou > _ROI_POSITIVE_IOU)
    negative = np.flatnonzero(iou <= _ROI_POSITIVE_IOU)
    count = config.TRAIN_ROIS_PER_IMAGE
    positive = _at_most(positive, int(count * config.ROI_POSITIVE_RATIO), rng)
    negative = _at_most(negative, count - len(positive), rng)
    missing = count - len(positive) - len(negative)
    # If there are too few, some are repeated: negative ones if there are any.
    repeated: np.ndarray = np.zeros(0, int)
    if missing:
        repeated = rng.choice(negative if len(negative) else positive, missing)
    keep = np.concatenate([positive, negative, repeated])
    return keep, iou[keep] > _ROI_POSITIVE_IOU


def _at_most(ids: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` random ids, or all of them if there are fewer."""
    return rng.choice(ids, count, replace=False) if len(ids) > count else ids


def _cut(mask: np.ndarray, roi: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """The part of a mask `[H, W]` inside an ROI as float32 of `shape`; zeros without a pixel."""
    y1, x1, y2, x2 = np.maximum(roi.astype(np.int32), 0)
    part = mask[y1:y2, x1:x2]
    return resize_bilinear(part, shape) if part.size else np.zeros(shape, np.float32)


def generate_random_rois(
    image_shape: Sequence[int],
    count: int,
    gt_class_ids: np.ndarray,
    gt_boxes: np.ndarray,
    *,
    rng: np.random.Generator | None = None,
) -> np.ndarray:
    """Random boxes in place of the RPN's proposals; nine of ten lie near an object.

    Args:
        image_shape: `(H, W, ...)` in pixels.
        count: number of boxes.
        gt_class_ids: `[N]`, not used; callers of the original pass it.
        gt_boxes: `[N, (y1, x1, y2, x2)]` in pixels, N may be 0.
        rng: the source of the boxes; without it NumPy's global state.

    Returns:
        `[count, (y1, x1, y2, x2)]` int32 in pixels, each with an area.
    """
    rng = random_generator(rng)
    image = np.array([0, 0, *image_shape[:2]])
    each = int(_NEAR_OBJECTS * count / len(gt_boxes)) if len(gt_boxes) else 0
    rois = [_random_boxes(_surroundings(box, image), each, rng) for box in gt_boxes]
    rois.append(_random_boxes(image, count - each * len(gt_boxes), rng))
    return np.concatenate(rois).astype(np.int32)


def _surroundings(box: np.ndarray, image: np.ndarray) -> np.ndarray:
    """The box enlarged by its size on every side, cut to the image, at least one pixel large."""
    size = box[2:] - box[:2]
    low = np.clip(box[:2] - size, 0, image[2:] - 1)
    high = np.clip(box[2:] + size, low + 1, image[2:])
    return np.concatenate([low, high])


def _random_boxes(within: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`[count, (y1, x1, y2, x2)]` int inside the box `within`; all sides are at least one pixel."""
    low, high = within[:2], within[2:]
    # Two different numbers from low to high: the second has one value fewer and skips the first.
    first = rng.integers(low, high + 1, (count, 2))
    second = rng.integers(low, high, (count, 2))
    second += second >= first
    return np.concatenate([np.minimum(first, second), np.maximum(first, second)], axis=1)
