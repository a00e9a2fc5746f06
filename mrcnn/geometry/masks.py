"""Masks: their boxes and overlaps, mini-masks, and predicted masks pasted into images.

Masks of an image are `[H, W, N]` bool, one channel per object, so that objects may overlap. Boxes
are in pixels, (y2, x2) just outside. A **mini-mask** is an object's mask cut to its box and resized
to a small shape, the same for all objects: 56x56 instead of 1024x1024.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mrcnn.geometry.resize import resize_and_compare, resize_bilinear
from mrcnn.types import Numbers, Shape

# A pixel on an object's edge is interpolated to 0.5 plus or minus a rounding error. With this
# margin it is outside the object on every machine.
_HALF = 0.5 + 1e-5
# Lowest value of a pixel that belongs to a predicted mask.
MASK_THRESHOLD = 0.5


class Patch(NamedTuple):
    """The part of an image's mask that holds an object; the mask is False elsewhere.

    Attributes:
        pixels: `[h, w]` bool.
        top, left: row and column of the patch's first pixel in the image.
    """

    pixels: np.ndarray
    top: int
    left: int

    @property
    def box(self) -> tuple[int, int, int, int]:
        """`(y1, x1, y2, x2)` in pixels of the image, (y2, x2) outside."""
        height, width = self.pixels.shape
        return self.top, self.left, self.top + height, self.left + width

    def part(self, box: tuple[int, int, int, int]) -> np.ndarray:
        """The mask inside a box of the image, `[y2 - y1, x2 - x1]` bool; may reach out of it."""
        y1, x1, y2, x2 = box
        part = np.zeros((y2 - y1, x2 - x1), bool)
        top, left = max(y1, self.top), max(x1, self.left)
        inside = self.pixels[top - self.top : y2 - self.top, left - self.left : x2 - self.left]
        if top < y2 and left < x2 and inside.size:
            rows, columns = inside.shape
            part[top - y1 : top - y1 + rows, left - x1 : left - x1 + columns] = inside
        return part

    def trimmed(self) -> Patch:
        """The same mask without empty rows and columns at the borders."""
        rows, columns = (np.flatnonzero(self.pixels.any(axis=axis)) for axis in (1, 0))
        if not len(rows):
            return Patch(np.zeros((0, 0), bool), 0, 0)
        pixels = self.pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        return Patch(pixels, self.top + int(rows[0]), self.left + int(columns[0]))


def extract_bboxes(mask: np.ndarray) -> np.ndarray:
    """Boxes around masks.

    Args:
        mask: `[H, W, N]`, bool or numbers; 0 outside the object.

    Returns:
        `[N, (y1, x1, y2, x2)]` int32 in pixels, (y2, x2) outside; zeros for an empty mask.
    """
    return _boxes_of_sides(*_occupied(mask))


def _occupied(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows `[H, N]` and columns `[W, N]` in which each object has a pixel, bool."""
    height, width, count = mask.shape
    if mask.size == 0:
        return np.zeros((height, count), bool), np.zeros((width, count), bool)
    mask = mask if mask.dtype == bool else mask != 0
    columns, rows = np.asarray(mask.any(axis=0)), mask
    # Combines the left and the right half until one column is left. `any(axis=1)` takes ten times
    # as long in NumPy, because it reduces the middle axis of three.
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
    """Masks of a resized image as indices into the masks before resizing.

    The resized masks, 1024x1024 per object, are computed only where they are needed.

    Attributes:
        masks: `[H, W, N]`, before resizing.
        rows: `[h]` int, the row of `masks` that each row of the resized masks comes from; -1 for
            padding.
        columns: `[w]` int, the same for columns.
    """

    masks: np.ndarray
    rows: np.ndarray
    columns: np.ndarray

    def boxes(self) -> np.ndarray:
        """`extract_bboxes(self.array())`: `[N, (y1, x1, y2, x2)]` int32."""
        sides = zip((self.rows, self.columns), self.masks.shape[:2], strict=True)
        if any(len(np.unique(side[side >= 0])) < size for side, size in sides):
            # Some rows or columns are left out. The only pixel of a kept row may lie in a column
            # that is left out, so the box cannot be found from rows and columns separately.
            return extract_bboxes(self.array())
        rows, columns = _occupied(self.masks)
        return _boxes_of_sides(
            rows[self.rows] & (self.rows >= 0)[:, None],
            columns[self.columns] & (self.columns >= 0)[:, None],
        )

    def inside(self, index: int, box: Numbers) -> np.ndarray:
        """`self.array()[y1:y2, x1:x2, index]` of a box `(y1, x1, y2, x2)` that has no padding."""
        y1, x1, y2, x2 = box[:4]
        rows, columns = self.rows[y1:y2], self.columns[x1:x2]
        return self.masks[rows[:, None], columns[None], index]

    def array(self) -> np.ndarray:
        """The resized masks `[h, w, N]`, same dtype as `masks`."""
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
        """The view of the masks flipped from left to right."""
        return MaskView(self.masks, self.rows, self.columns[::-1])

    def select(self, ids: Sequence[int] | np.ndarray) -> MaskView:
        """The view of some of the objects, by index."""
        return MaskView(self.masks[:, :, ids], self.rows, self.columns)

    def minimize(self, bbox: np.ndarray, mini_shape: Shape) -> np.ndarray:
        """`minimize_mask(bbox, self.array(), mini_shape)`: `[*mini_shape, N]` bool."""
        return _minimize(bbox, self.inside, (len(self.rows), len(self.columns)), mini_shape)


def view_of(masks: np.ndarray) -> MaskView:
    """The view of masks `[H, W, N]` that are not resized."""
    return MaskView(masks, *map(np.arange, masks.shape[:2]))


def compute_overlaps_masks(masks1: np.ndarray, masks2: np.ndarray) -> np.ndarray:
    """Intersection over union of every pair of masks.

    Args:
        masks1: `[H, W, N]`, bool or numbers; a pixel above 0.5 belongs to the mask.
        masks2: `[H, W, M]`, likewise.

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


def minimize_mask(bbox: np.ndarray, mask: np.ndarray, mini_shape: Shape) -> np.ndarray:
    """Mini-masks of masks.

    Args:
        bbox: `[N, (y1, x1, y2, x2)]` in pixels.
        mask: `[H, W, N]`.
        mini_shape: `(height, width)` of a mini-mask in pixels.

    Returns:
        `[*mini_shape, N]` bool.

    Raises:
        ValueError: a box holds no pixel of the image.
    """
    return _minimize(bbox, view_of(mask).inside, mask.shape[:2], mini_shape)


def _minimize(
    bbox: np.ndarray,
    inside_of: Callable[[int, np.ndarray], np.ndarray],
    shape: Shape,
    mini_shape: Shape,
) -> np.ndarray:
    """`minimize_mask` for masks of this shape; `inside_of(i, box)` is mask i inside its box."""
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


def expand_mask(bbox: np.ndarray, mini_mask: np.ndarray, image_shape: Shape) -> np.ndarray:
    """Masks of the image from mini-masks; the detail that `minimize_mask` lost stays lost.

    Args:
        bbox: `[N, (y1, x1, y2, x2)]` in pixels. The part outside the image is cut off; a box
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


def unmold_mask(mask: np.ndarray, bbox: Numbers, image_shape: Shape) -> np.ndarray:
    """The mask of an image from the mask head's output for one object.

    Args:
        mask: `[h, w]` float in 0..1, by default 28x28.
        bbox: `(y1, x1, y2, x2)` in pixels; parts outside the image and boxes without area as in
            `expand_mask`.
        image_shape: `(H, W, ...)` in pixels.

    Returns:
        `[H, W]` bool, true where the resized mask is at least MASK_THRESHOLD.
    """
    full = np.zeros(tuple(image_shape[:2]), bool)
    paste_mask(full, mask, bbox)
    return full


def paste_mask(canvas: np.ndarray, mask: np.ndarray, bbox: Numbers) -> None:
    """Write `unmold_mask` into the box's pixels of an empty canvas `[H, W]` bool, in place."""
    _paste(canvas, mask, bbox, MASK_THRESHOLD)


def _paste(canvas: np.ndarray, mask: np.ndarray, box: Numbers, threshold: float) -> None:
    """Write a mask, resized to its box, into the canvas `[H, W]` bool; the rest is cut off."""
    patch, top, left = mask_in_box(mask, box, canvas.shape, threshold)
    canvas[top : top + patch.shape[0], left : left + patch.shape[1]] = patch


def mask_in_box(
    mask: np.ndarray,
    box: Numbers,
    image_shape: Shape,
    threshold: float = MASK_THRESHOLD,
) -> Patch:
    """A mask resized to its box and cut off at the image's border; empty outside the image.

    Args:
        mask: `[h, w]`, bool or float in 0..1.
        box: `(y1, x1, y2, x2)` in pixels, may reach out of the image.
        image_shape: `(H, W, ...)` in pixels.
        threshold: lowest value of a pixel that belongs to the mask.
    """
    y1, x1, y2, x2 = (int(side) for side in box)
    top, left, bottom, right = (
        min(max(side, 0), limit)
        for side, limit in zip((y1, x1, y2, x2), (*image_shape[:2], *image_shape[:2]), strict=True)
    )
    if bottom <= top or right <= left:
        return Patch(np.zeros((0, 0), bool), top, left)
    pixels = resize_and_compare(mask, (y2 - y1, x2 - x1), threshold)
    return Patch(pixels[top - y1 : bottom - y1, left - x1 : right - x1], top, left)
