"""Windows that cover an image, with the same overlap at each seam.

The last window of a row or column is moved back so that it ends at the image's border. Two
neighbours share a **strip**, and the middle of the strip is the border between their **cores**: the
cores are parts of the image that do not overlap, and together are the whole image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

# (y1, x1, y2, x2)
Box = tuple[int, int, int, int]


class Window(NamedTuple):
    """A part of an image.

    Attributes:
        box: `(y1, x1, y2, x2)` in pixels, (y2, x2) outside.
        core: `(y1, x1, y2, x2)`, the part of the image that is this window's own.
        is_inner: which of the sides (top, left, bottom, right) is not at the image's border.
    """

    box: Box
    core: tuple[float, float, float, float]
    is_inner: tuple[bool, bool, bool, bool]


def windows_of(
    height: int,
    width: int,
    window: tuple[int, int] = (1024, 1024),
    overlap: tuple[int, int] = (128, 128),
) -> list[list[Window]]:
    """The windows that cover an image, in rows from top to bottom.

    Args:
        height, width: of the image in pixels.
        window: `(height, width)` of a window; an image that is smaller is one window.
        overlap: `(y, x)` pixels that neighbours share, or more at the last window.

    Raises:
        ValueError: a size that is not positive, or an overlap as large as the window.
    """
    rows = _spans(height, window[0], overlap[0], "height")
    columns = _spans(width, window[1], overlap[1], "width")
    return [[_window(row, column, height, width) for column in columns] for row in rows]


# Where a window starts and ends along one side, and where its core does.
_Span = tuple[int, int, float, float]


def _spans(size: int, window: int, overlap: int, name: str) -> list[_Span]:
    if size < 1 or window < 1:
        raise ValueError(f"an image of {name} {size} has no windows of {name} {window}.")
    if not 0 <= overlap < window:
        raise ValueError(
            f"the overlap of windows is {overlap} and their {name} {window}; the overlap must be "
            "0 or more, and smaller than the window."
        )
    window = min(window, size)
    step = max(1, window - overlap)
    starts = [*range(0, size - window, step), size - window]
    seams = [
        0,
        *((start + window + after) / 2 for start, after in zip(starts, starts[1:], strict=False)),
        size,
    ]
    return [
        (start, start + window, before, after)
        for start, before, after in zip(starts, seams, seams[1:], strict=False)
    ]


def _window(row: _Span, column: _Span, height: int, width: int) -> Window:
    top, bottom, core_top, core_bottom = row
    left, right, core_left, core_right = column
    return Window(
        (top, left, bottom, right),
        (core_top, core_left, core_bottom, core_right),
        (top > 0, left > 0, bottom < height, right < width),
    )


def shared_box(box1: Sequence[int], box2: Sequence[int]) -> Box:
    """The part of two boxes that both have; without area if there is none."""
    y1, x1 = max(box1[0], box2[0]), max(box1[1], box2[1])
    return y1, x1, max(y1, min(box1[2], box2[2])), max(x1, min(box1[3], box2[3]))
