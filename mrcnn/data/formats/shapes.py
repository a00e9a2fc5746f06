"""Shapes of annotation tools as masks: polygons and ellipses.

A shape covers the pixels whose centre lies in it or on its outline. Centres have whole coordinates:
pixel (x, y) is at (x, y). A polygon that crosses itself covers what is inside an odd number of
times. Parts outside the image are cut off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

# A polygon is drawn from its crossings with rows of pixels; this many take about 1 GB of memory.
_MOST_CROSSINGS = 20_000_000


def polygon_to_mask(
    xs: Sequence[float] | np.ndarray, ys: Sequence[float] | np.ndarray, height: int, width: int
) -> np.ndarray:
    """The pixels whose centre lies in a polygon or on its outline.

    These are the pixels of `skimage.draw.polygon` and a few on the outline that it misses by
    rounding. It compares every pixel with every edge, which takes up to 2 s per balloon image.

    Args:
        xs, ys: `[K]` the corners, pixels; the last is joined to the first.

    Returns:
        `[height, width]` bool.

    Raises:
        ValueError: the outline crosses too many rows of pixels to be drawn.
    """
    mask = np.zeros((height, width), bool)
    rows, left, right = _spans(np.asarray(xs, np.float64), np.asarray(ys, np.float64), height)
    starts = np.ceil(left).clip(0, width).astype(int)
    stops = (np.floor(right) + 1).clip(0, width).astype(int)
    for row, start, stop in zip(rows.tolist(), starts.tolist(), stops.tolist(), strict=True):
        mask[row, start:stop] = True
    return mask


def _spans(x1: np.ndarray, y1: np.ndarray, height: int) -> tuple[np.ndarray, ...]:
    """The parts of pixel rows that a polygon `[K]` covers: `[S]` rows, left and right ends."""
    x2, y2 = np.roll(x1, -1), np.roll(y1, -1)
    rows, x = _crossings(x1, y1, x2, y2, height)
    # An edge crosses the row at its upper end but not the row at its lower end, so every row has an
    # even number of crossings. Corners and edges along a row are handled separately.
    corner = (y1 % 1 == 0) & (y1 >= 0) & (y1 < height)
    flat = corner & (y1 == y2)
    rows = np.concatenate([rows[::2], y1[corner], y1[flat]]).astype(int)
    left = np.concatenate([x[::2], x1[corner], np.minimum(x1, x2)[flat]])
    right = np.concatenate([x[1::2], x1[corner], np.maximum(x1, x2)[flat]])
    return rows, left, right


def _crossings(
    x1: np.ndarray, y1: np.ndarray, x2: np.ndarray, y2: np.ndarray, height: int
) -> tuple[np.ndarray, np.ndarray]:
    """Where edges `[K]` cross the rows of pixels: `[C]` rows and x, by row and then by x."""
    first = np.ceil(np.minimum(y1, y2)).clip(0, height).astype(int)
    counts = np.ceil(np.maximum(y1, y2)).clip(0, height).astype(int) - first
    if counts.sum() > _MOST_CROSSINGS:
        raise ValueError(
            f"has an outline that crosses {counts.sum():,} rows of pixels, too many to draw."
        )
    edge = np.repeat(np.arange(len(x1)), counts)
    rows = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts - first, counts)
    x = x1[edge] + (rows - y1[edge]) * (x2 - x1)[edge] / (y2 - y1)[edge]
    order = np.lexsort((x, rows))
    return rows[order], x[order]


def ellipse_to_mask(
    cx: float, cy: float, rx: float, ry: float, theta: float, height: int, width: int
) -> np.ndarray:
    """The pixels whose centre lies in an ellipse or on its outline.

    Args:
        cx, cy: centre; rx, ry: half axes, all in pixels.
        theta: angle from the x axis to rx in radians, clockwise on the screen.

    Returns:
        `[height, width]` bool.
    """
    mask = np.zeros((height, width), bool)
    reach_x, reach_y = ellipse_reach(rx, ry, theta)
    rows = slice(*np.clip([math.floor(cy - reach_y), math.ceil(cy + reach_y) + 1], 0, height))
    columns = slice(*np.clip([math.floor(cx - reach_x), math.ceil(cx + reach_x) + 1], 0, width))
    y, x = np.ogrid[rows, columns]
    along = (x - cx) * math.cos(theta) + (y - cy) * math.sin(theta)
    across = (y - cy) * math.cos(theta) - (x - cx) * math.sin(theta)
    # Products, not quotients: exact for whole numbers.
    mask[rows, columns] = (along * ry) ** 2 + (across * rx) ** 2 <= (rx * ry) ** 2
    return mask


def ellipse_reach(rx: float, ry: float, theta: float) -> tuple[float, float]:
    """How far an ellipse reaches from its centre along x and y, pixels."""
    cos, sin = math.cos(theta), math.sin(theta)
    return math.hypot(rx * cos, ry * sin), math.hypot(rx * sin, ry * cos)
