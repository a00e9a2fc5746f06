"""Run lengths, the compact form of a mask in COCO's files.

COCO's text writes each length as a difference to the length two before, in groups of 5 bits. It is
read and written here with Python's whole numbers, because pycocotools' lengths end at 2^32, and a
scanned slide has more pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mrcnn.geometry.masks import Patch, mask_in_box
from mrcnn.types import Numbers, Shape

_BITS, _MORE, _SIGN, _FIRST_CHARACTER = 5, 0x20, 0x10, 48


def mask_rle(mask: np.ndarray, bbox: Numbers, image_shape: Shape) -> dict[str, Any]:
    """Run lengths of `unmold_mask`, computed without a mask of the whole image.

    Args:
        mask: `[h, w]` float in 0..1, the mask head's output for one object.
        bbox: `(y1, x1, y2, x2)` in pixels, may reach out of the image.
        image_shape: `(H, W, ...)` in pixels.

    Returns:
        `{"size": [H, W], "counts": str}`, COCO's compressed form.
    """
    return patch_rle(mask_in_box(mask, bbox, image_shape), image_shape)


def patch_rle(patch: Patch, image_shape: Shape) -> dict[str, Any]:
    """Run lengths of a mask that is given as a patch, made without a mask of the whole image.

    Args:
        patch: it must lie inside the image.
        image_shape: `(H, W, ...)` in pixels.

    Returns:
        `{"size": [H, W], "counts": str}`, COCO's compressed form.
    """
    height = int(image_shape[0])
    # Run lengths go down the columns.
    columns = np.pad(patch.pixels.T, ((0, 0), (1, 1)))
    edges = np.flatnonzero(columns[:, 1:] != columns[:, :-1])
    column, row = np.divmod(edges, len(patch.pixels) + 1)
    changes = (column + patch.left) * height + row + patch.top
    return _from_runs(changes[::2], changes[1::2], image_shape)


def rle_patch(rle: dict[str, Any]) -> Patch:
    """The smallest patch that holds the mask of run lengths; no mask of the whole image is made.

    Args:
        rle: `{"size": [H, W], "counts": str}`, COCO's compressed form.

    Raises:
        ValueError: the lengths do not add up to the size.
    """
    height = int(rle["size"][0])
    starts, ends = _runs(rle)
    if not len(starts):
        return Patch(np.zeros((0, 0), bool), 0, 0)
    column, top, bottom = _cut_by_columns(starts, ends, height)
    left, right, upper = column[0], column[-1] + 1, top.min()
    pixels = _filled(
        column - left, top - upper, bottom - upper, (bottom.max() - upper, right - left)
    )
    return Patch(pixels, int(upper), int(left))


def rle_part(rle: dict[str, Any], box: tuple[int, int, int, int], step: int = 1) -> np.ndarray:
    """The mask of run lengths inside a box; memory and time do not grow with the mask's area.

    Args:
        rle: `{"size": [H, W], "counts": str}`, COCO's compressed form.
        box: `(y1, x1, y2, x2)` in pixels of the smaller image; may reach out of it.
        step: pixel (y, x) of the smaller image is pixel (step * y, step * x).

    Returns:
        `[y2 - y1, x2 - x1]` bool.

    Raises:
        ValueError: the lengths do not add up to the size.
    """
    y1, x1, y2, x2 = box
    height = int(rle["size"][0])
    starts, ends = _runs(rle)
    first, last = step * x1 * height, step * x2 * height
    is_inside = (ends > first) & (starts < last)
    starts, ends = np.maximum(starts[is_inside], first), np.minimum(ends[is_inside], last)
    column, top, bottom = _cut_by_columns(starts, ends, height)
    is_kept = column % step == 0
    # The first multiple of `step` from each end on.
    top, bottom = (np.clip(-(-side[is_kept] // step), y1, y2) - y1 for side in (top, bottom))
    return _filled(column[is_kept] // step - x1, top, bottom, (y2 - y1, x2 - x1))


def _filled(
    column: np.ndarray, top: np.ndarray, bottom: np.ndarray, shape: tuple[int, int]
) -> np.ndarray:
    """A mask of vertical runs, each in one column, `shape` bool."""
    height, width = shape
    changes = np.zeros((width, height + 1), np.int8)
    # Numbers that leave the 8 bits come back: what remains at the end of each column is 0 or 1.
    np.add.at(changes, (column, top), 1)
    np.add.at(changes, (column, bottom), -1)
    pixels = np.cumsum(changes, axis=1, dtype=np.int8)[:, :-1].T.astype(bool)
    return np.ascontiguousarray(pixels)


def union_rle(rles: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Run lengths of the union of masks of one image, made without a mask of the image.

    Args:
        rles: one or more, `{"size": [H, W], "counts": str}`.
    """
    parts = [_runs(rle) for rle in rles]
    starts, ends = (np.concatenate(sides) for sides in zip(*parts, strict=True))
    order = np.argsort(starts, kind="stable")
    return _from_runs(starts[order], ends[order], rles[0]["size"])


def _runs(rle: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Where runs of ones start, and where they end: the place after the last, column by column."""
    height, width = (int(side) for side in rle["size"])
    places = np.cumsum(_decompress(rle["counts"]))
    if len(places) and (places[-1] != height * width or (np.diff(places) < 0).any()):
        raise ValueError(
            f"run lengths of {places[-1]} pixels for a mask of {height}x{width}; they must add up."
        )
    starts, ends = places[: len(places) // 2 * 2].reshape(-1, 2).T
    is_run = starts < ends
    return starts[is_run], ends[is_run]


def _from_runs(starts: np.ndarray, ends: np.ndarray, image_shape: Shape) -> dict[str, Any]:
    """Run lengths of runs in the order of their starts; runs that meet or overlap become one."""
    height, width = (int(side) for side in image_shape[:2])
    size = height * width
    if len(starts):
        reached = np.maximum.accumulate(ends)
        is_new = np.concatenate([[True], starts[1:] > reached[:-1]])
        starts, ends = starts[is_new], reached[np.append(is_new[1:], True)]
    changes = np.stack([starts, ends], axis=1).ravel()
    # The first run is of zeros; its length may be 0.
    counts = np.diff(changes[changes < size], prepend=0, append=size)
    return {"size": [height, width], "counts": _compress(counts)}


def _cut_by_columns(
    starts: np.ndarray, ends: np.ndarray, height: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Runs cut at the ends of columns: the column, the first row, and the row after the last."""
    first = starts // height
    times = (ends - 1) // height - first + 1
    column = np.repeat(first, times) + (
        np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times)
    )
    top = np.maximum(np.repeat(starts, times) - column * height, 0)
    bottom = np.minimum(np.repeat(ends, times) - column * height, height)
    return column, top, bottom


def encode_masks(masks: np.ndarray) -> list[dict[str, Any]]:
    """Encode masks `[H, W, N]` as N COCO run lengths, `{"size": [H, W], "counts": str}`."""
    from pycocotools import mask as coco_mask  # only run lengths need it

    if not masks.shape[-1]:
        return []
    encoded = coco_mask.encode(np.asfortranarray(masks.astype(bool), dtype=np.uint8))
    return [
        {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}
        for rle in encoded
    ]


# ---- COCO's text ---------------------------------------------------------------------------------


def _compress(counts: np.ndarray) -> str:
    values = counts.astype(np.int64)
    values[3:] -= counts[1:-2]
    groups = np.ones(len(values), int)
    while (outside := _needs_more(values, groups)).any():
        groups[outside] += 1
    place = np.arange(groups.max(initial=1))
    codes = (values[:, None] >> (_BITS * place)) & (_MORE - 1)
    codes += np.where(place < groups[:, None] - 1, _MORE, 0) + _FIRST_CHARACTER
    return codes[place < groups[:, None]].astype(np.uint8).tobytes().decode("ascii")


def _needs_more(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Which values do not fit into so many groups of bits, the highest bit being the sign."""
    limit = np.int64(1) << (_BITS * groups - 1)
    return (values >= limit) | (values < -limit)


def _decompress(text: str) -> np.ndarray:
    codes = np.frombuffer(text.encode("ascii"), np.uint8).astype(np.int64) - _FIRST_CHARACTER
    ends = np.flatnonzero((codes & _MORE) == 0)
    if not len(ends):
        return np.zeros(0, np.int64)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    place = np.arange(ends[-1] + 1) - np.repeat(starts, lengths)
    values = np.add.reduceat((codes[: ends[-1] + 1] & (_MORE - 1)) << (_BITS * place), starts)
    values -= np.where(codes[ends] & _SIGN, np.int64(1) << (_BITS * lengths), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
