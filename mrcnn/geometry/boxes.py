"""Boxes: overlaps, deltas, clipping and normalised coordinates.

A box is `(y1, x1, y2, x2)`. In **pixels**, (y2, x2) lies just outside the box, so its height is
`y2 - y1`. **Normalised** coordinates put (0, 0) on the centre of the first pixel and (1, 1) on the
centre of the last one, so (y2, x2) lies inside the box: `norm_boxes` computes
`(box - [0, 0, 1, 1]) / [h - 1, w - 1, h - 1, w - 1]`. This is not Keras' format `rel_yxyx`.

A delta is `(dy, dx, log dh, log dw)`: the shift of the centre in units of the box's size, and the
logarithm of the change of that size (Girshick et al. 2014, appendix C).

Functions for "arrays or tensors" take NumPy arrays or tensors of any backend and return the same
kind. `[..., 4]` stands for any number of leading dimensions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mrcnn.types import ArrayOrTensor, Shape

# An untrained network can predict a logarithm above 88, where exp() leaves float32: the box would
# have infinite corners, and their difference would be NaN.
MAX_LOG_SCALE = 80.0


# Anchors and ROIs with this share of neutral pixels are neither positive nor negative. A box with
# fewer trains, but for these pixels of its mask.
NEUTRAL_SHARE = 0.001


def array_module(x: ArrayOrTensor) -> Any:
    """`numpy` for a NumPy array, `keras.ops` for a tensor; their functions have the same names."""
    if isinstance(x, (np.ndarray, np.generic)):
        return np
    from keras import ops

    return ops


def split_box(
    boxes: ArrayOrTensor,
) -> tuple[ArrayOrTensor, ArrayOrTensor, ArrayOrTensor, ArrayOrTensor]:
    """The four coordinates y1, x1, y2, x2 of boxes `[..., 4]`, each `[...]`."""
    return boxes[..., 0], boxes[..., 1], boxes[..., 2], boxes[..., 3]


def box_area(boxes: ArrayOrTensor) -> ArrayOrTensor:
    """Areas `[...]` of boxes `[..., (y1, x1, y2, x2)]`, in the square of the boxes' unit."""
    y1, x1, y2, x2 = split_box(boxes)
    return (y2 - y1) * (x2 - x1)


def compute_overlaps(boxes1: ArrayOrTensor, boxes2: ArrayOrTensor) -> ArrayOrTensor:
    """Intersection over union of every pair of boxes; arrays or tensors.

    Args:
        boxes1: `[..., N, (y1, x1, y2, x2)]`.
        boxes2: `[..., M, (y1, x1, y2, x2)]`, same unit.

    Returns:
        `[..., N, M]` in 0..1; 0 for pairs whose union is empty.
    """
    xp = array_module(boxes1)
    a, b = boxes1[..., :, None, :], boxes2[..., None, :, :]
    height = xp.minimum(a[..., 2], b[..., 2]) - xp.maximum(a[..., 0], b[..., 0])
    width = xp.minimum(a[..., 3], b[..., 3]) - xp.maximum(a[..., 1], b[..., 1])
    intersection = xp.maximum(height, 0) * xp.maximum(width, 0)
    union = box_area(a) + box_area(b) - intersection
    # Two boxes without area have a union of 0: 0 / 1 gives no overlap, 0 / 0 would give NaN.
    return intersection / xp.where(union > 0, union, xp.ones_like(union))


def compute_iou(
    box: np.ndarray, boxes: np.ndarray, box_area: float | np.ndarray, boxes_area: np.ndarray
) -> np.ndarray:
    """Intersection over union of one box with many boxes whose areas are known.

    Args:
        box: `[(y1, x1, y2, x2)]`.
        boxes: `[N, (y1, x1, y2, x2)]`, same unit.
        box_area: area of the box.
        boxes_area: `[N]`, areas of the boxes. Callers use them many times and compute them once.

    Returns:
        `[N]` float.
    """
    height = np.minimum(box[2], boxes[:, 2]) - np.maximum(box[0], boxes[:, 0])
    width = np.minimum(box[3], boxes[:, 3]) - np.maximum(box[1], boxes[:, 1])
    intersection = np.maximum(height, 0) * np.maximum(width, 0)
    union = box_area + boxes_area - intersection
    return intersection / np.where(union > 0, union, 1)


def non_max_suppression(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """Greedy non-maximum suppression on arrays.

    Args:
        boxes: `[N, (y1, x1, y2, x2)]`.
        scores: `[N]`.
        threshold: highest overlap with a kept box at which a box is kept as well.

    Returns:
        `[K]` int32, indices of the kept boxes, best score first.
    """
    boxes = np.asarray(boxes, dtype=np.float32)
    area = box_area(boxes)
    remaining = np.asarray(scores).argsort()[::-1]
    keep = []
    while len(remaining):
        best, rest = remaining[0], remaining[1:]
        keep.append(best)
        overlaps = compute_iou(boxes[best], boxes[rest], area[best], area[rest])
        remaining = rest[overlaps <= threshold]
    return np.array(keep, dtype=np.int32)


def apply_box_deltas(boxes: ArrayOrTensor, deltas: ArrayOrTensor) -> ArrayOrTensor:
    """Move and scale boxes by deltas; arrays or tensors.

    Args:
        boxes: `[..., (y1, x1, y2, x2)]`.
        deltas: `[..., (dy, dx, log dh, log dw)]`; a logarithm above MAX_LOG_SCALE counts as that.

    Returns:
        `[..., (y1, x1, y2, x2)]`; float32 for arrays.
    """
    xp = array_module(boxes)
    if xp is np:
        boxes = np.asarray(boxes, dtype=np.float32)
    y1, x1, y2, x2 = split_box(boxes)
    height, width = y2 - y1, x2 - x1
    center_y = y1 + 0.5 * height + deltas[..., 0] * height
    center_x = x1 + 0.5 * width + deltas[..., 1] * width
    height = height * xp.exp(xp.minimum(deltas[..., 2], MAX_LOG_SCALE))
    width = width * xp.exp(xp.minimum(deltas[..., 3], MAX_LOG_SCALE))
    y1, x1 = center_y - 0.5 * height, center_x - 0.5 * width
    moved = xp.stack([y1, x1, y1 + height, x1 + width], axis=-1)
    return moved.astype(np.float32) if xp is np else moved


def box_refinement(box: ArrayOrTensor, gt_box: ArrayOrTensor) -> ArrayOrTensor:
    """The deltas that turn each box into its ground-truth box; arrays or tensors.

    Args:
        box: `[..., (y1, x1, y2, x2)]`.
        gt_box: ground truth, same shape and unit.

    Returns:
        `[..., (dy, dx, log dh, log dw)]`; float32 for arrays. Boxes without area give infinity or
        NaN: callers mask such rows.
    """
    xp = array_module(box)
    if xp is np:
        box, gt_box = np.asarray(box, np.float32), np.asarray(gt_box, np.float32)
    y1, x1, y2, x2 = split_box(box)
    gt_y1, gt_x1, gt_y2, gt_x2 = split_box(gt_box)
    height, width = y2 - y1, x2 - x1
    gt_height, gt_width = gt_y2 - gt_y1, gt_x2 - gt_x1
    dy = ((gt_y1 + 0.5 * gt_height) - (y1 + 0.5 * height)) / height
    dx = ((gt_x1 + 0.5 * gt_width) - (x1 + 0.5 * width)) / width
    return xp.stack([dy, dx, xp.log(gt_height / height), xp.log(gt_width / width)], axis=-1)


def clip_boxes(boxes: ArrayOrTensor, window: ArrayOrTensor) -> ArrayOrTensor:
    """Boxes cut to a window; arrays or tensors.

    Args:
        boxes: `[..., N, (y1, x1, y2, x2)]`.
        window: `[..., (y1, x1, y2, x2)]`, same unit; one window for all N boxes.

    Returns:
        `[..., N, (y1, x1, y2, x2)]`. A box outside the window becomes a box without area on the
        window's border.
    """
    xp = array_module(boxes)
    low = xp.concatenate([window[..., None, :2], window[..., None, :2]], axis=-1)
    high = xp.concatenate([window[..., None, 2:], window[..., None, 2:]], axis=-1)
    return xp.maximum(xp.minimum(boxes, high), low)


def norm_boxes(boxes: ArrayOrTensor, shape: Shape | ArrayOrTensor) -> ArrayOrTensor:
    """Normalised boxes from boxes in pixels; arrays or tensors.

    Args:
        boxes: `[..., (y1, x1, y2, x2)]` in pixels, (y2, x2) outside the box.
        shape: `(height, width)` of the image in pixels; for tensors also `[B, (height, width)]`
            with boxes `[B, N, 4]`.

    Returns:
        `[..., (y1, x1, y2, x2)]`, normalised, (y2, x2) inside the box; float32 for arrays.
    """
    xp = array_module(boxes)
    scale, shift = _norm_scale_shift(shape)
    # Functions and not operators: those of a PyTorch tensor on a GPU do not take NumPy arrays.
    normalised = xp.divide(xp.subtract(boxes, shift), scale)
    return normalised.astype(np.float32) if xp is np else normalised


def denorm_boxes(boxes: ArrayOrTensor, shape: Shape | ArrayOrTensor) -> ArrayOrTensor:
    """Boxes in whole pixels from normalised boxes; arrays or tensors.

    Args:
        boxes: `[..., (y1, x1, y2, x2)]`, normalised.
        shape: as in `norm_boxes`.

    Returns:
        `[..., (y1, x1, y2, x2)]` int32 in pixels, rounded, (y2, x2) outside the box.
    """
    xp = array_module(boxes)
    scale, shift = _norm_scale_shift(shape)
    rounded = xp.round(xp.add(xp.multiply(boxes, scale), shift))
    return rounded.astype(np.int32) if xp is np else xp.cast(rounded, "int32")


def _norm_scale_shift(
    shape: Shape | ArrayOrTensor,
) -> tuple[ArrayOrTensor, np.ndarray]:
    """Divisor `[4]` or `[B, 1, 4]`, and the offset `[4]` subtracted first."""
    shift = np.array([0, 0, 1, 1], np.float32)
    # In an image that is one pixel high, the first row is the last one: the distance 0 becomes 1.
    if isinstance(shape, (tuple, list, np.ndarray)):
        h, w = (max(int(side) - 1, 1) for side in shape)
        return np.array([h, w, h, w], np.float32), shift
    from keras import ops

    last = ops.maximum(ops.cast(shape, "float32") - 1, 1)
    return ops.concatenate([last, last], axis=-1)[..., None, :], shift


def trim_zeros(x: np.ndarray) -> np.ndarray:
    """The rows of `[N, columns]` that are not all zero, `[M, columns]`: zero rows are padding."""
    assert x.ndim == 2, f"expected a 2-D array, got shape {x.shape}"
    return x[~np.all(x == 0, axis=1)]


def covered_share(boxes: ArrayOrTensor, mask: ArrayOrTensor) -> ArrayOrTensor:
    """Share of each box's pixels that a mask covers; arrays or tensors.

    Args:
        boxes: `[B, N, (y1, x1, y2, x2)]` in pixels; what lies outside the image does not count.
        mask: `[B, H, W]` bool.

    Returns:
        `[B, N]` float32 in 0..1; 0 for a box without a pixel of the image.
    """
    xp = array_module(boxes)
    height, width = mask.shape[1:]
    # Sums of all pixels above and to the left; exact in float32 up to 16 million pixels.
    ones = xp.where(mask, np.float32(1), np.float32(0))
    sums = xp.cumsum(xp.cumsum(xp.pad(ones, ((0, 0), (1, 0), (1, 0))), axis=1), axis=2)
    sums = xp.reshape(sums, (-1, (height + 1) * (width + 1)))
    y1, x1, y2, x2 = split_box(boxes)
    top, left = xp.clip(xp.floor(y1), 0, height), xp.clip(xp.floor(x1), 0, width)
    bottom, right = xp.clip(xp.ceil(y2), 0, height), xp.clip(xp.ceil(x2), 0, width)

    def upto(y: ArrayOrTensor, x: ArrayOrTensor) -> ArrayOrTensor:
        place = y * (width + 1) + x
        place = place.astype(int) if xp is np else xp.cast(place, "int32")
        return xp.take_along_axis(sums, place, axis=1)

    covered = upto(bottom, right) - upto(top, right) - upto(bottom, left) + upto(top, left)
    return covered / xp.maximum((bottom - top) * (right - left), 1.0)
