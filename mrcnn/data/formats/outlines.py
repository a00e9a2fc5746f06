"""Outlines of masks along the edges of pixels, and how formats of polygons hold them.

Rings are `[K, (x, y)]` in pixels, where pixel i covers i to i + 1 of its axis: the outline of pixel
(0, 0) goes through (0, 0), (1, 0), (1, 1), (0, 1). Drawing an outline gives the same pixels again.

Pixels that touch at a corner only belong to different parts, so no outline crosses itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import scipy.ndimage
import scipy.spatial
from scipy.sparse import coo_matrix, csgraph

from mrcnn.data.formats.objects import LabelledObject
from mrcnn.data.formats.shapes import polygon_to_mask

# A polygon as it was drawn is kept if a format draws it with this IoU.
FAITHFUL = 0.99
_SMALLEST_RING = 3


class Outline(NamedTuple):
    """The outline of one connected part of a mask.

    Attributes:
        ring: `[K, (x, y)]` float64, its corners, clockwise on the screen.
        holes: the same for each hole, counterclockwise.
    """

    ring: np.ndarray
    holes: list[np.ndarray]


def outlines(mask: np.ndarray) -> list[Outline]:
    """The outlines of a mask `[H, W]` bool, one per part; parts are connected by edges of pixels.

    Time grows with the number of corners: 5 ms for a disk of 1000 pixels across.
    """
    mask = np.asarray(mask, bool)
    parts, count = scipy.ndimage.label(mask)
    found: dict[int, Outline] = {}
    holes: list[tuple[int, np.ndarray]] = []
    for ring in _rings(mask):
        x, y = ring[0].astype(int)
        if mask[y, x]:
            found[int(parts[y, x])] = Outline(ring, [])
        else:
            # The pixel above the highest edge of a hole belongs to the part around it.
            holes.append((int(parts[y - 1, x]), ring))
    assert len(found) == count
    for part, hole in holes:
        found[part].holes.append(hole)
    return [found[part] for part in sorted(found)]


def _rings(mask: np.ndarray) -> list[np.ndarray]:
    """All closed outlines, each from the left corner of its highest edge on.

    At a corner an outline changes between a horizontal and a vertical edge. Along a row of corners,
    edges join the first with the second, the third with the fourth, and so on; so do columns.
    """
    x, y, is_second_in_column = _corners(mask)
    beside = _partners(np.lexsort((np.arange(len(x)), x, y)))
    below = _partners(np.lexsort((is_second_in_column, y, x)))
    left = np.ones(len(x), bool)
    rings = []
    # Corners are in the order of rows, so the first that is left is a highest one.
    for start in range(len(x)):
        if not left[start]:
            continue
        # Clockwise around pixels, counterclockwise around holes.
        goes_right = mask[y[start], x[start]] if _is_inside(mask, x[start], y[start]) else False
        corner, ring, horizontal = start, [], bool(goes_right)
        while left[corner]:
            left[corner] = False
            ring.append(corner)
            corner = int((beside if horizontal else below)[corner])
            horizontal = not horizontal
        rings.append(np.stack([x[ring], y[ring]], axis=1).astype(np.float64))
    return rings


def _is_inside(mask: np.ndarray, x: int, y: int) -> bool:
    return y < mask.shape[0] and x < mask.shape[1]


def _corners(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """X and y of all corners, by row; and which of two at one place comes second in its column.

    Where two pixels touch at a corner only, there are two corners: each belongs to one pixel. The
    first has the edge to the left, the second that to the right.
    """
    padded = np.pad(mask, 1)
    upper_left, upper_right = padded[:-1, :-1], padded[:-1, 1:]
    lower_left, lower_right = padded[1:, :-1], padded[1:, 1:]
    count = upper_left.astype(np.int8) + upper_right + lower_left + lower_right
    is_diagonal = (count == 2) & (upper_left == lower_right)
    times = ((count == 1) | (count == 3)).astype(np.int8) + 2 * is_diagonal
    y, x = np.nonzero(times)
    repeats = times[y, x]
    place = np.repeat(np.arange(len(x)), repeats)
    is_second = np.concatenate([[False], place[1:] == place[:-1]]) if len(place) else place > 0
    x, y = x[place], y[place]
    # Pixels upper left and lower right: the first corner has the edge upwards. Otherwise it has the
    # edge downwards, and comes second in its column.
    is_falling = upper_left[y, x] & lower_right[y, x]
    is_pair = times[y, x] == 2
    return x, y, is_pair & (is_second == is_falling)


def _partners(order: np.ndarray) -> np.ndarray:
    """The other end of each corner's edge, where `order` has both ends next to each other."""
    partners = np.empty(len(order), int)
    partners[order[::2]], partners[order[1::2]] = order[1::2], order[::2]
    return partners


# ---- Polygons for a format -----------------------------------------------------------------------


def fill(rings: Sequence[np.ndarray], height: int, width: int) -> np.ndarray:
    """The pixels whose centre is inside an odd number of rings: `[height, width]` bool.

    Raises:
        ValueError: as `polygon_to_mask`.
    """
    mask = np.zeros((height, width), bool)
    for ring in rings:
        mask ^= polygon_to_mask(ring[:, 0] - 0.5, ring[:, 1] - 0.5, height, width)
    return mask


def drawn_or_exact(
    labelled: LabelledObject, draw: Callable[[np.ndarray], np.ndarray]
) -> list[Outline]:
    """The polygon of an object as it was drawn if a format draws it well, else its exact outlines.

    Args:
        labelled: the object.
        draw: how the format turns a ring into a mask `[H, W]` bool; a ValueError says that it
            cannot.
    """
    if labelled.ring is not None:
        try:
            drawn = draw(labelled.ring)
        except ValueError:  # such as a corner far outside the image
            return outlines(labelled.mask)
        if overlap(drawn, labelled.mask) >= FAITHFUL:
            return [Outline(labelled.ring, [])]
    return outlines(labelled.mask)


def overlap(mask1: np.ndarray, mask2: np.ndarray) -> float:
    """IoU of two masks; 1 if both are empty."""
    union = np.count_nonzero(mask1 | mask2)
    return np.count_nonzero(mask1 & mask2) / union if union else 1.0


def joined(parts: Sequence[Outline]) -> np.ndarray:
    """One ring for all parts and holes of an object, joined by bridges without width.

    For formats with one polygon without holes per object. A bridge goes there and back between near
    corners along edges of pixels, so it meets no pixel's centre. A thousand parts take 0.03 s.
    """
    rings = [ring for part in parts for ring in (part.ring, *part.holes)]
    if len(rings) == 1:
        return rings[0]
    points, nodes = np.unique(np.concatenate(rings), axis=0, return_inverse=True)
    nodes = nodes.ravel()
    ends = np.cumsum([len(ring) for ring in rings])
    follows = np.concatenate([np.roll(part, -1) for part in np.split(nodes, ends[:-1])])
    ways = list(zip(nodes.tolist(), follows.tolist(), strict=True))
    corners = points.tolist()
    for a, b in _bridges(points, nodes, follows):
        corners.append([corners[b][0], corners[a][1]])
        bend = len(corners) - 1
        ways += [(a, bend), (bend, b), (b, bend), (bend, a)]
    ring = np.array([corners[node] for node in _round_trip(ways)])
    # A bridge straight along a row or a column bends where it starts or ends.
    return ring[(ring != np.roll(ring, 1, axis=0)).any(axis=1)]


def _bridges(points: np.ndarray, nodes: np.ndarray, follows: np.ndarray) -> list[tuple[int, int]]:
    """Short bridges that join all rings, as pairs of points; rings that touch need none.

    Args:
        points: `[P, (x, y)]`; nodes, follows: `[E]` the two points of each edge of a ring.
    """
    shape = (len(points), len(points))
    edges = coo_matrix((np.ones(len(nodes)), (nodes, follows)), shape)
    count, ring_of = csgraph.connected_components(edges, directed=False)
    if count == 1:
        return []
    # The shortest bridges between rings are among the sides of these triangles.
    triangles = scipy.spatial.Delaunay(points).simplices
    sides = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    sides = sides[ring_of[sides[:, 0]] != ring_of[sides[:, 1]]]
    lengths = np.abs(points[sides[:, 0]] - points[sides[:, 1]]).sum(axis=1)
    order = np.lexsort((sides[:, 1], sides[:, 0], lengths))
    sides, lengths = sides[order], lengths[order]
    pairs, first = np.unique(np.sort(ring_of[sides], axis=1), axis=0, return_index=True)
    between = coo_matrix((lengths[first], (pairs[:, 0], pairs[:, 1])), (count, count))
    tree = csgraph.minimum_spanning_tree(between).tocoo()
    side_of = {(a, b): side for (a, b), side in zip(pairs.tolist(), sides[first], strict=True)}
    chosen = sorted(zip(tree.row.tolist(), tree.col.tolist(), strict=True))
    return [(int(side_of[pair][0]), int(side_of[pair][1])) for pair in chosen]


def _round_trip(ways: list[tuple[int, int]]) -> list[int]:
    """The points of one round trip along all ways, each once in its direction (Hierholzer's).

    At each point as many ways end as start, and all are connected.
    """
    onward: dict[int, list[int]] = {}
    for start, end in reversed(ways):
        onward.setdefault(start, []).append(end)
    trip, path = [], [ways[0][0]]
    while path:
        if further := onward[path[-1]]:
            path.append(further.pop())
        else:
            trip.append(path.pop())
    return trip[:0:-1]
