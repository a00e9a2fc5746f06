"""COCO's segmentations: polygons and run lengths, checked and drawn as pycocotools draws them.

A segmentation is a list of polygons `[[x1, y1, x2, y2, ...], ...]` in pixels, run lengths
`{"size": [height, width], "counts": [...]}` of 0 and 1 by turns, column by column, or run lengths
with `counts` as a compressed string. Error messages begin with a verb; the caller puts the name of
the annotation before them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mrcnn.data.formats.problems import problem_of_image_size, quoted

# pycocotools walks along every edge, so a coordinate of 1e9 would take all the memory. Limits: how
# far a polygon reaches, in units of the image's longer side, and the pixels of its outline.
_FARTHEST = 100
_LONGEST_OUTLINE = 4_000_000


def segmentation_to_mask(segmentation: list | dict, height: int, width: int) -> np.ndarray:
    """The mask of a segmentation: `[height, width]` uint8, 0 and 1.

    Polygons are filled as pycocotools does; several are joined.

    Raises:
        ValueError: no mask of this size.
    """
    from pycocotools import mask as coco_mask

    return coco_mask.decode(segmentation_to_rle(segmentation, height, width))


def segmentation_to_rle(segmentation: list | dict, height: int, width: int) -> dict[str, Any]:
    """A segmentation as pycocotools' run lengths, `{"size": [height, width], "counts": bytes}`.

    Raises:
        ValueError: as `segmentation_to_mask`.
    """
    from pycocotools import mask as coco_mask

    if problem := problem_of_image_size(height, width):
        raise ValueError(problem)
    if isinstance(segmentation, dict):
        plain = _plain_run_lengths(segmentation, height, width)
        return coco_mask.frPyObjects(plain, height, width)
    if problem := problem_of_polygons(segmentation, height, width):
        raise ValueError(problem)
    return coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))


def problem_of_segmentation(segmentation: Any, height: int, width: int) -> str | None:
    """What is wrong with a segmentation, or None. Compressed strings are not decoded."""
    if isinstance(segmentation, list):
        return problem_of_polygons(segmentation, height, width)
    if not isinstance(segmentation, dict):
        return (
            f"has the segmentation {quoted(segmentation)}; Mask R-CNN needs polygons or run "
            "lengths."
        )
    if problem := _problem_of_size(segmentation, height, width):
        return problem
    counts = segmentation.get("counts")
    # Decoding a string takes longer than all other checks, so it is done when the mask is drawn.
    return None if isinstance(counts, str) else _problem_of_counts(counts, height, width)


def problem_of_polygons(polygons: list, height: int, width: int) -> str | None:
    """What is wrong with the polygons of an object, or None."""
    if not polygons:
        return "has an empty segmentation; it must have at least one polygon."
    farthest = _FARTHEST * max(height, width)
    for number, polygon in enumerate(polygons):
        if not isinstance(polygon, list):
            return (
                f"has a segmentation that is a list of {type(polygon).__name__}; it must be a list "
                "of polygons, [[x1, y1, x2, y2, x3, y3, ...], ...]."
            )
        if len(polygon) < 6 or len(polygon) % 2:
            return (
                f"has {len(polygon)} numbers in polygon {number}; a polygon is [x1, y1, x2, y2, "
                "...] with at least three points."
            )
        # No coordinate is larger than the root of the sum of squares. This one check is enough for
        # nearly all polygons, and takes a third of the time.
        try:
            bound = math.hypot(*polygon)
        except (TypeError, OverflowError):
            bound = math.nan
        if not math.isfinite(bound):
            return f"has something else than finite numbers in polygon {number}."
        if bound > farthest or bound * len(polygon) > _LONGEST_OUTLINE:
            if problem := _problem_of_reach(polygon, number, height, width):
                return problem
    return None


def _problem_of_reach(polygon: list, number: int, height: int, width: int) -> str | None:
    reach = max(max(polygon), -min(polygon))
    if reach > _FARTHEST * max(height, width):
        return (
            f"has a polygon that reaches {quoted(reach)}, far outside its image of "
            f"{height}x{width}."
        )
    if _outline_length(polygon) > _LONGEST_OUTLINE:
        return (
            f"has an outline of more than {_LONGEST_OUTLINE:,} pixels in polygon {number}, too "
            "long to draw."
        )
    return None


def _outline_length(polygon: list[float]) -> float:
    """Pixels along a closed outline, each edge counted along its longer axis."""
    x, y = np.array(polygon, np.float64).reshape(-1, 2).T
    steps = np.maximum(np.abs(np.roll(x, -1) - x), np.abs(np.roll(y, -1) - y))
    return float(steps.sum())


def _problem_of_size(rle: dict, height: int, width: int) -> str | None:
    if rle.get("size") != [height, width]:
        return (
            f"has run lengths of size {quoted(rle.get('size'))} [height, width]; its image is "
            f"{[height, width]}."
        )
    return None


def _problem_of_counts(counts: Any, height: int, width: int) -> str | None:
    if not isinstance(counts, list) or not all(type(c) is int and c >= 0 for c in counts):
        return "has run lengths whose counts are neither a string nor a list of whole numbers."
    if sum(counts) != height * width:
        return (
            f"has run lengths of {quoted(sum(counts))} pixels in all; its image has "
            f"{height * width}."
        )
    return None


def _plain_run_lengths(rle: dict, height: int, width: int) -> dict[str, Any]:
    """Run lengths, compressed or not, with a list of counts that fills the image."""
    if problem := _problem_of_size(rle, height, width):
        raise ValueError(problem)
    counts = rle.get("counts")
    if isinstance(counts, (str, bytes)):
        counts = decode_counts(counts)
    # If the runs are too short, pycocotools fills the rest of the mask with random memory content.
    if problem := _problem_of_counts(counts, height, width):
        raise ValueError(problem)
    return {"size": [height, width], "counts": counts}


def decode_counts(counts: str | bytes) -> list[int]:
    """Compressed run lengths as a list: runs of 0 and 1 by turns, column by column.

    Each number is written in digits of five bits, the lowest first. From the fourth number on, it
    is the difference to the number two places before.

    Raises:
        ValueError: no such string.
    """
    data = counts.encode("utf-8", "surrogatepass") if isinstance(counts, str) else counts
    digits = np.frombuffer(data, np.uint8).astype(np.int64) - 48
    is_last = (digits & 32) == 0
    if not digits.size or digits.min() < 0 or digits.max() > 63 or not is_last[-1]:
        raise ValueError(f"has run lengths that cannot be decoded: {quoted(counts[:40])}.")
    ends = np.flatnonzero(is_last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    places = np.arange(len(digits)) - np.repeat(starts, ends - starts + 1)
    if places.max() > 6:
        raise ValueError(f"has run lengths with a number beyond 32 bits: {quoted(counts[:40])}.")
    numbers = np.add.reduceat((digits & 31) << (5 * places), starts)
    # The highest bit of the last digit is the sign.
    numbers -= np.where(digits[ends] & 16, 1 << (5 * (places[ends] + 1)), 0)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers.tolist()
