"""Training targets of an image: which anchors are objects, and where these should move.

`build_rpn_targets` feeds the region proposal network (Faster R-CNN, 3.1.2). The second stage's
targets are made inside the graph (`nn/sampling.py`); `build_detection_targets` and
`generate_random_rois` make them here, to look at or to train the heads without the RPN.
"""

from __future__ import annotations

import numpy as np

from mrcnn.config import Config, compute_backbone_shapes
from mrcnn.data.image import random_generator
from mrcnn.geometry.anchors import generate_pyramid_anchors
from mrcnn.geometry.boxes import box_area, box_refinement, compute_iou, compute_overlaps
from mrcnn.geometry.masks import expand_mask
from mrcnn.geometry.resize import resize_bilinear

# Faster R-CNN, 3.1.2: an anchor is an object from this overlap on, and background below that.
_POSITIVE_IOU, _NEGATIVE_IOU = 0.7, 0.3
# An anchor that touches a crowd more than this is not background.
_CROWD_IOU = 0.001
# Fast R-CNN, 2.3.
_ROI_POSITIVE_IOU = 0.5


def pyramid_anchors(config: Config, image_shape) -> np.ndarray:
    """The anchors of an image of this shape: `[A, (y1, x1, y2, x2)]` float64 in pixels."""
    return generate_pyramid_anchors(
        config.RPN_ANCHOR_SCALES,
        config.RPN_ANCHOR_RATIOS,
        compute_backbone_shapes(config, image_shape),
        config.BACKBONE_STRIDES,
        config.RPN_ANCHOR_STRIDE,
    )


def build_rpn_targets(image_shape, anchors, gt_class_ids, gt_boxes, config, *, rng=None):
    """Which anchors the RPN should call objects, and the deltas from these to their objects.

    An anchor is positive that overlaps an object by at least 0.7, or that no other overlaps more;
    negative that overlaps every object by less than 0.3 and touches no crowd; else neutral. No
    more than half of RPN_TRAIN_ANCHORS_PER_IMAGE stay positive, and as many negative as fill it.

    Args:
        image_shape: kept for the callers of the original; the anchors say it all.
        anchors: `[A, (y1, x1, y2, x2)]` in pixels, or an AnchorIndex of them, to be used again.
        gt_class_ids: `[N]`, negative for a crowd; gt_boxes: `[N, (y1, x1, y2, x2)]` in pixels.
        config: its RPN_TRAIN_ANCHORS_PER_IMAGE and RPN_BBOX_STD_DEV.
        rng: for the choice where there are too many; NumPy's global state without it.

    Returns:
        rpn_match: `[A]` int32: 1 positive, -1 negative, 0 neutral.
        rpn_bbox: `[RPN_TRAIN_ANCHORS_PER_IMAGE, (dy, dx, log dh, log dw)]` float64, divided by
            RPN_BBOX_STD_DEV; one row a positive anchor in their order, then zeros.
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

    wanted = config.RPN_TRAIN_ANCHORS_PER_IMAGE
    _keep_random(match, 1, wanted // 2, rng)
    _keep_random(match, -1, wanted - np.count_nonzero(match == 1), rng)

    positive = np.flatnonzero(match == 1)
    deltas = np.zeros((wanted, 4))
    deltas[: len(positive)] = _deltas(index.anchors[positive], objects[nearest[positive]])
    return match, deltas / config.RPN_BBOX_STD_DEV


class AnchorIndex:
    """Anchors `[A, (y1, x1, y2, x2)]` by their size, so that those near a box are found at once.

    Each size has its anchors in rows: those that a box meets are one slice of them, to be searched
    for the columns. That looks at a tenth of a quarter million anchors.

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

    def meeting(self, box) -> np.ndarray:
        """Indices of the anchors that have a part in common with a box, in no order."""
        found = []
        for ids, y1, x1, y2, x2 in self._groups:
            first, last = y2.searchsorted(box[0], "right"), y1.searchsorted(box[2], "left")
            rows = slice(first, max(first, last))
            found.append(ids[rows][(x1[rows] < box[3]) & (x2[rows] > box[1])])
        return np.concatenate(found)


def _match_anchors(index: AnchorIndex, boxes: np.ndarray):
    """Each anchor's largest overlap, the box it is with, and whether no anchor overlaps it more.

    Returns:
        `[A]` float64, `[A]` int (0 where nothing overlaps), `[A]` bool.
    """
    iou, nearest = np.zeros(len(index)), np.zeros(len(index), int)
    is_best = np.zeros(len(index), bool)
    # Box by box over the anchors that meet it, a few thousand of a quarter million: the full
    # table of 261,888 anchors x 100 boxes would take gigabytes.
    for i, box in enumerate(boxes.astype(np.float64)):
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
    """Make neutral all but `count` of the anchors with this label, in place."""
    ids = np.flatnonzero(match == label)
    if len(ids) > count:
        match[ids] = 0
        match[rng.choice(ids, count, replace=False)] = label


def _deltas(boxes: np.ndarray, gt_boxes: np.ndarray) -> np.ndarray:
    """`box_refinement` in float64, `[N, 4]`."""
    size, gt_size = boxes[:, 2:] - boxes[:, :2], gt_boxes[:, 2:] - gt_boxes[:, :2]
    shift = (gt_boxes[:, :2] + 0.5 * gt_size) - (boxes[:, :2] + 0.5 * size)
    return np.concatenate([shift / size, np.log(gt_size / size)], axis=1)


def build_detection_targets(rpn_rois, gt_class_ids, gt_boxes, gt_masks, config, *, rng=None):
    """Targets of the second stage for given ROIs, as the graph makes them, to inspect.

    Args:
        rpn_rois: `[R, (y1, x1, y2, x2)]` in pixels, R > 0.
        gt_class_ids: `[N]`, those that are not positive are left out; gt_boxes:
            `[N, (y1, x1, y2, x2)]` in pixels.
        gt_masks: `[H, W, N]`, or mini-masks if USE_MINI_MASK (then IMAGE_SHAPE says the size).
        config: its TRAIN_ROIS_PER_IMAGE (T below), ROI_POSITIVE_RATIO, NUM_CLASSES, MASK_SHAPE …
        rng: for the choice of ROIs; NumPy's global state without it.

    Returns:
        rois `[T, (y1, x1, y2, x2)]`, positive ones first; class ids `[T]` int32, 0 for background;
        deltas `[T, NUM_CLASSES, 4]` and masks `[T, *MASK_SHAPE, NUM_CLASSES]` float32, each zero
        but for the class of the ROI.

    Raises:
        ValueError: no ROIs, or no object.
    """
    rng = random_generator(rng)
    objects = np.flatnonzero(np.asarray(gt_class_ids) > 0)
    if len(rpn_rois) == 0 or len(objects) == 0:
        raise ValueError(
            f"detection targets need ROIs and objects; received {len(rpn_rois)} ROIs and "
            f"{len(objects)} objects with a class above 0."
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


def _choose_rois(iou: np.ndarray, config, rng) -> tuple[np.ndarray, np.ndarray]:
    """`[T]` indices of ROIs, positive ones first, and `[T]` bool, which are positive."""
    positive, negative = np.flatnonzero(iou > _ROI_POSITIVE_IOU), np.flatnonzero(iou <= 0.5)
    count = config.TRAIN_ROIS_PER_IMAGE
    positive = _at_most(positive, int(count * config.ROI_POSITIVE_RATIO), rng)
    negative = _at_most(negative, count - len(positive), rng)
    missing = count - len(positive) - len(negative)
    # Too few ROIs: repeat some, background if there is any.
    repeated = rng.choice(negative if len(negative) else positive, missing) if missing else []
    keep = np.concatenate([positive, negative, repeated]).astype(int)
    return keep, iou[keep] > _ROI_POSITIVE_IOU


def _at_most(ids: np.ndarray, count: int, rng) -> np.ndarray:
    return rng.choice(ids, count, replace=False) if len(ids) > count else ids


def _cut(mask: np.ndarray, roi: np.ndarray, shape) -> np.ndarray:
    """The part of a mask `[H, W]` inside an ROI, `shape` float32; zeros for an ROI of no pixel."""
    y1, x1, y2, x2 = np.maximum(roi.astype(np.int32), 0)
    part = mask[y1:y2, x1:x2]
    return resize_bilinear(part, shape) if part.size else np.zeros(shape, np.float32)


def generate_random_rois(image_shape, count, gt_class_ids, gt_boxes, *, rng=None) -> np.ndarray:
    """Random boxes, nine in ten near an object: stand-ins for the RPN's proposals.

    Args:
        image_shape: `(H, W, ...)` in pixels; count: how many.
        gt_class_ids: `[N]`; gt_boxes: `[N, (y1, x1, y2, x2)]` in pixels, N may be 0.
        rng: NumPy's global state without it.

    Returns:
        `[count, (y1, x1, y2, x2)]` int32 in pixels, none without area.
    """
    rng = random_generator(rng)
    image = np.array([0, 0, *image_shape[:2]])
    each = int(0.9 * count / len(gt_boxes)) if len(gt_boxes) else 0
    rois = [_random_boxes(_surroundings(box, image), each, rng) for box in gt_boxes]
    rois.append(_random_boxes(image, count - each * len(gt_boxes), rng))
    return np.concatenate(rois).astype(np.int32)


def _surroundings(box: np.ndarray, image: np.ndarray) -> np.ndarray:
    """The box enlarged by its size on every side, inside the image, at least a pixel large."""
    size = box[2:] - box[:2]
    low = np.clip(box[:2] - size, 0, image[2:] - 1)
    high = np.clip(box[2:] + size, low + 1, image[2:])
    return np.concatenate([low, high])


def _random_boxes(within: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`[count, (y1, x1, y2, x2)]` int with sides of at least one pixel inside a box of such."""
    low, high = within[:2], within[2:]
    # Two different whole numbers of low..high: the second is drawn from one fewer and skips over.
    first = rng.integers(low, high + 1, (count, 2))
    second = rng.integers(low, high, (count, 2))
    second += second >= first
    return np.concatenate([np.minimum(first, second), np.maximum(first, second)], axis=1)
