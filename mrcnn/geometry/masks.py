"""Masks: their boxes and overlaps, mini-masks and back, predicted masks pasted into images.

Masks of an image are `[H, W, N]` bool, one object a channel, so that objects may overlap. Boxes are
pixels, (y2, x2) just outside. A **mini-mask** is an object's mask cut to its box and resized to one
small shape for all objects: 56x56 in place of 1024x1024.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    return _boxes_of_sides(*_occupied(mask))


def _occupied(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows `[H, N]` and the columns `[W, N]` in which each object has a pixel, bool."""
    height, width, count = mask.shape
    if mask.size == 0:
        return np.zeros((height, count), bool), np.zeros((width, count), bool)
    mask = mask if mask.dtype == bool else mask != 0
    columns, rows = mask.any(axis=0), mask
    # Halves laid upon each other: NumPy's `any` of an axis in the middle is ten times slower.
    while rows.shape[1] > 1:
        half = (rows.shape[1] + 1) // 2
        rows = rows[:, :half] | rows[:, -half:]
    return rows[:, 0], columns


def _boxes_of_sides(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Boxes from the first to the last occupied row and column, `[N, 4]` int32."""
    if rows.size == 0 or columns.size == 0:
        return np.zeros((rows.shape[1], 4), np.int32)
    y1, x1 = rows.argmax(axis=0), columns.argmax(axis=0)
    y2 = len(rows) - rows[::-1].argmax(axis=0)
    x2 = len(columns) - columns[::-1].argmax(axis=0)
    boxes = np.stack([y1, x1, y2, x2], axis=1).astype(np.int32)
    boxes[~(rows.any(axis=0) & columns.any(axis=0))] = 0
    return boxes


@dataclass(frozen=True)
class MaskView:
    """Masks of a resized image, looked up in those of the original only where they are needed.

    Attributes:
        masks: `[H, W, N]`, before resizing.
        rows, columns: `[h]` and `[w]` int, the one that each row and column comes from, -1 for
            padding.
    """

    masks: np.ndarray
    rows: np.ndarray
    columns: np.ndarray

    def boxes(self) -> np.ndarray:
        """`extract_bboxes` of `array()`."""
        sides = zip((self.rows, self.columns), self.masks.shape, strict=False)
        if any(len(np.unique(side[side >= 0])) < size for side, size in sides):
            # With rows left out, a pixel in a row that is kept may lie in a column that is not.
            return extract_bboxes(self.array())
        rows, columns = _occupied(self.masks)
        return _boxes_of_sides(
            rows[self.rows] & (self.rows >= 0)[:, None],
            columns[self.columns] & (self.columns >= 0)[:, None],
        )

    def inside(self, index: int, box) -> np.ndarray:
        """`array()[y1:y2, x1:x2, index]` of a box `(y1, x1, y2, x2)` without padding in it."""
        y1, x1, y2, x2 = box[:4]
        rows, columns = self.rows[y1:y2], self.columns[x1:x2]
        return self.masks[rows[:, None], columns[None], index]

    def array(self) -> np.ndarray:
        """`[h, w, N]`, of the dtype of `masks`."""
        rows, columns = np.flatnonzero(self.rows >= 0), np.flatnonzero(self.columns >= 0)
        shape = (len(self.rows), len(self.columns))
        found = self.masks[self.rows[rows][:, None], self.columns[columns]]
        if (len(rows), len(columns)) == shape:
            return found
        resized = np.zeros((*shape, *self.masks.shape[2:]), self.masks.dtype)
        if found.size:
            resized[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = found
        return resized

    def mirrored(self) -> MaskView:
        """Left and right exchanged."""
        return MaskView(self.masks, self.rows, self.columns[::-1])

    def select(self, ids) -> MaskView:
        """Some of the objects."""
        return MaskView(self.masks[:, :, ids], self.rows, self.columns)

    def minimize(self, bbox: np.ndarray, mini_shape) -> np.ndarray:
        """`minimize_mask` of `array()`."""
        return _minimize(bbox, self.inside, (len(self.rows), len(self.columns)), mini_shape)


def view_of(masks: np.ndarray) -> MaskView:
    """Masks as they are."""
    return MaskView(masks, *map(np.arange, masks.shape[:2]))


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
    return _minimize(bbox, view_of(mask).inside, mask.shape[:2], mini_shape)


def _minimize(bbox, inside_of, shape, mini_shape) -> np.ndarray:
    mini = np.zeros((*mini_shape, len(bbox)), bool)
    for i, box in enumerate(bbox):
        inside = inside_of(i, box)
        if inside.size == 0:
            raise ValueError(
                f"object {i} has the box {list(map(int, box[:4]))}, which holds no pixel of the "
                f"{shape[0]}x{shape[1]} mask; drop objects with an empty mask first."
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
