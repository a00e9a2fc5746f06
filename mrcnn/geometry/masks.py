"""Masks: their boxes and overlaps, mini-masks and back, predicted masks pasted into images.

Masks of an image are `[H, W, N]` bool, one object a channel, so that objects may overlap. Boxes are
pixels, (y2, x2) just outside. A **mini-mask** is an object's mask cut to its box and resized to one
small shape for all objects: 56x56 in place of 1024x1024.
"""

from __future__ import annotations

import numpy as np

from mrcnn.geometry.resize import resize_bilinear

# Interpolation between 0 and 1 meets 0.5 exactly where a pixel lies on an object's edge, give or
# take a rounding error; the margin makes every machine say "outside" there.
_HALF = 0.5 + 1e-5
# From this probability on, a pixel belongs to a predicted mask.
_SURE = 0.5


def extract_bboxes(mask: np.ndarray) -> np.ndarray:
    """Boxes around masks.

    Args:
        mask: `[H, W, N]`, bool or numbers that are 0 outside the object.

    Returns:
        `[N, (y1, x1, y2, x2)]` int32 in pixels, (y2, x2) outside; zeros for an empty mask.
    """
    height, width, count = mask.shape
    if mask.size == 0:
        return np.zeros((count, 4), np.int32)
    rows, columns = mask.any(axis=1), mask.any(axis=0)
    y1, x1 = rows.argmax(axis=0), columns.argmax(axis=0)
    y2 = height - rows[::-1].argmax(axis=0)
    x2 = width - columns[::-1].argmax(axis=0)
    boxes = np.stack([y1, x1, y2, x2], axis=1).astype(np.int32)
    boxes[~rows.any(axis=0)] = 0
    return boxes


def compute_overlaps_masks(masks1: np.ndarray, masks2: np.ndarray) -> np.ndarray:
    """Intersection over union of every pair of masks.

    Args:
        masks1: `[H, W, N]`; masks2: `[H, W, M]`; bool, or numbers that count above 0.5.

    Returns:
        `[N, M]` float32 in 0..1; 0 where both masks are empty.
    """
    counts = masks1.shape[-1], masks2.shape[-1]
    if 0 in counts:
        return np.zeros(counts, np.float32)
    flat1 = (masks1.reshape(-1, counts[0]) > 0.5).astype(np.float32)
    flat2 = (masks2.reshape(-1, counts[1]) > 0.5).astype(np.float32)
    intersections = flat1.T @ flat2
    unions = flat1.sum(axis=0)[:, None] + flat2.sum(axis=0)[None, :] - intersections
    return intersections / np.where(unions > 0, unions, 1)


def minimize_mask(bbox: np.ndarray, mask: np.ndarray, mini_shape) -> np.ndarray:
    """Mini-masks of masks.

    Args:
        bbox: `[N, (y1, x1, y2, x2)]` in pixels; mask: `[H, W, N]`.
        mini_shape: `(height, width)` of a mini-mask in pixels.

    Returns:
        `[*mini_shape, N]` bool.

    Raises:
        ValueError: a box that holds no pixel of the image.
    """
    mini = np.zeros((*mini_shape, mask.shape[-1]), bool)
    for i, box in enumerate(bbox):
        y1, x1, y2, x2 = box[:4]
        inside = mask[y1:y2, x1:x2, i]
        if inside.size == 0:
            raise ValueError(
                f"object {i} has the box {list(map(int, box[:4]))}, which holds no pixel of the "
                f"{mask.shape[0]}x{mask.shape[1]} mask; drop objects with an empty mask first."
            )
        mini[:, :, i] = resize_bilinear(inside.astype(bool), mini_shape) > _HALF
    return mini


def expand_mask(bbox: np.ndarray, mini_mask: np.ndarray, image_shape) -> np.ndarray:
    """Mini-masks back in the image, the inverse of `minimize_mask` but for the lost detail.

    Args:
        bbox: `[N, (y1, x1, y2, x2)]` in pixels; a part outside the image is cut off, and a box
            without area (padding) gives an empty mask.
        mini_mask: `[h, w, N]`.
        image_shape: `(H, W, ...)` in pixels.

    Returns:
        `[H, W, N]` bool.
    """
    masks = np.zeros((*image_shape[:2], mini_mask.shape[-1]), bool)
    for i, box in enumerate(bbox):
        _paste(masks[:, :, i], mini_mask[:, :, i], box[:4], _HALF)
    return masks


def unmold_mask(mask: np.ndarray, bbox, image_shape) -> np.ndarray:
    """The mask head's output for one object as a mask of the image.

    Args:
        mask: `[h, w]` float in 0..1, typically 28x28.
        bbox: `(y1, x1, y2, x2)` in pixels; parts outside the image and boxes without area as in
            `expand_mask`.
        image_shape: `(H, W, ...)` in pixels.

    Returns:
        `[H, W]` bool, true where the resized mask is at least 0.5.
    """
    full = np.zeros(tuple(image_shape[:2]), bool)
    paste_mask(full, mask, bbox)
    return full


def paste_mask(canvas: np.ndarray, mask: np.ndarray, bbox) -> None:
    """`unmold_mask` into the pixels of its box of an empty canvas `[H, W]` bool."""
    _paste(canvas, mask, bbox, _SURE)


def mask_rle(mask: np.ndarray, bbox, image_shape) -> dict:
    """`unmold_mask` as COCO's run lengths, without a mask of the whole image.

    Args:
        mask, bbox, image_shape: as there.

    Returns:
        `{"size": [H, W], "counts": str}`.
    """
    from pycocotools import mask as coco_mask  # only those who want run lengths need it

    height, width = (int(side) for side in image_shape[:2])
    patch, top, left = _patch(mask, bbox, image_shape, _SURE)
    # Run lengths go down the columns; those beside the box hold nothing.
    columns = np.zeros((patch.shape[1], height), bool)
    columns[:, top : top + patch.shape[0]] = patch.T
    changes = np.flatnonzero(np.diff(columns.ravel(), prepend=False, append=False)) + left * height
    inside = changes[changes < height * width]
    # They begin with a run of zeros, be it of length 0.
    counts = np.diff(inside, prepend=0, append=height * width)
    rle = coco_mask.frPyObjects({"size": [height, width], "counts": counts.tolist()}, height, width)
    return {"size": [height, width], "counts": rle["counts"].decode("ascii")}


def _paste(canvas: np.ndarray, mask: np.ndarray, box, threshold: float) -> None:
    """Write a mask, resized to its box, into the canvas `[H, W]` bool, as far as they meet."""
    patch, top, left = _patch(mask, box, canvas.shape, threshold)
    canvas[top : top + patch.shape[0], left : left + patch.shape[1]] = patch


def _patch(mask: np.ndarray, box, image_shape, threshold: float):
    """A mask resized to its box, and cut off at the image's border.

    Returns:
        `[h, w]` bool, empty for a box without area or outside; its first row and column in pixels.
    """
    y1, x1, y2, x2 = (int(side) for side in box)
    top, left, bottom, right = (
        min(max(side, 0), limit)
        for side, limit in zip((y1, x1, y2, x2), (*image_shape[:2], *image_shape[:2]), strict=True)
    )
    if bottom <= top or right <= left:
        return np.zeros((0, 0), bool), top, left
    patch = resize_bilinear(mask, (y2 - y1, x2 - x1)) >= threshold
    return patch[top - y1 : bottom - y1, left - x1 : right - x1], top, left
