"""Objects that several windows saw, joined so that it does not matter where the windows lie.

A window sees an object **whole** if the object touches no inner border of the window, and **cut**
otherwise. Views of different windows are compared inside the strip that both windows saw:

1. A whole view with its centre in the window's core is taken as it is. If two windows see an object
   whole, the better view is taken. This is exact for objects smaller than the overlap.
2. A cut view that is covered by a whole one is the same object, and is dropped.
3. The other cut views are joined piece by piece where their masks agree in the strip. If a piece
   is missing, the object is kept and marked as cut. Windows without overlap share no strip: there,
   pieces on both sides of a seam are joined if they reach it at the same places, so two objects
   that touch there may become one.
4. A view that nothing confirms is dropped if its centre lies in another window's core, which sees
   more of it. So one window decides on each place.
5. What is still found twice goes by the overlap of the masks, over the smaller one. Two objects
   that one window saw side by side are never taken for one.

Views are sorted first, so their order does not change the result. Masks are run lengths, and
neighbours come from a tree of boxes: time and memory grow with the number of objects, and not with
the size of the image.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import shapely
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from mrcnn.geometry.masks import Patch
from mrcnn.geometry.rle import patch_rle, rle_patch, union_rle
from mrcnn.tiles.windows import Box, Window, shared_box
from mrcnn.types import Shape

# A network's mask often ends a few pixels before the border that cuts the object.
MARGIN = 2
# Two masks are of one object if they share more than this.
SAME = 0.5
_PATCHES_KEPT = 512


class View(NamedTuple):
    """An object as one window saw it, in pixels of the image.

    Attributes:
        window: what saw it.
        class_id, score: as the network says.
        box: `(y1, x1, y2, x2)` of the mask, (y2, x2) outside.
        area: of the mask.
        rle: the mask as COCO's run lengths of the whole image.
    """

    window: Window
    class_id: int
    score: float
    box: Box
    area: int
    rle: dict[str, Any]


class Joined(NamedTuple):
    """An object of an image, from the views of all windows.

    Attributes:
        class_id, score: those of the whole view, or of the best piece.
        box: `(y1, x1, y2, x2)` of the mask, (y2, x2) outside.
        rle: the mask as COCO's run lengths of the whole image.
        is_cut: whether the object goes on beyond a seam where no piece of it was found.
    """

    class_id: int
    score: float
    box: Box
    rle: dict[str, Any]
    is_cut: bool


def view_of(
    window: Window, class_id: int, score: float, patch: Patch, image_shape: Shape
) -> View | None:
    """A view of a mask in pixels of the image; None if the mask has no pixel.

    Args:
        patch: the mask, in pixels of the image.
        image_shape: `(H, W, ...)`.
    """
    patch = patch.trimmed()
    if not patch.pixels.size:
        return None
    area = int(np.count_nonzero(patch.pixels))
    rle = patch_rle(patch, image_shape)
    return View(window, int(class_id), float(score), patch.box, area, rle)


def join(views: Iterable[View], margin: int = MARGIN) -> list[Joined]:
    """The objects of an image from what all its windows saw, the best score first.

    Args:
        views: of one image, in any order.
        margin: pixels between a mask and the border that cuts it, at most.
    """
    ordered = sorted(views, key=_place)
    if not ordered:
        return []
    seen = _Seen(ordered, margin)
    pairs = _pairs(ordered, margin)
    absorbed_by = _drop_whole_doubles(seen, pairs)
    _drop_covered_pieces(seen, pairs, absorbed_by)
    groups = [*_whole(seen, absorbed_by), *_joined_pieces(seen, pairs, absorbed_by)]
    found = _without_doubles(groups)
    return sorted(found, key=lambda one: (-one.score, one.box, one.class_id, one.rle["counts"]))


def _place(view: View) -> tuple:
    return view.window.box, view.class_id, view.box, -view.score, view.rle["counts"]


# ---- Views ---------------------------------------------------------------------------------------


class _Seen:
    """Views with what follows from their place in the window.

    Attributes:
        views: in their order.
        touches: `[V, (top, left, bottom, right)]` bool, inner borders that the view touches.
        is_whole: `[V]` bool, whether it touches none.
        in_core: `[V]` bool, whether its centre lies in the window's own core. If not, a neighbour
            sees more of the object: the border between the cores is the middle of the strip.
        rank: `[V]`, the place in the order in which whole views are trusted: those with their
            centre in the core first, then by score.
    """

    def __init__(self, views: Sequence[View], margin: int):
        self.views = views
        boxes = np.array([view.box for view in views])
        borders = np.array([view.window.box for view in views])
        is_inner = np.array([view.window.is_inner for view in views])
        distance = np.abs(boxes - borders)
        self.touches = is_inner & (distance <= margin)
        self.is_whole = ~self.touches.any(axis=1)
        cores = np.array([view.window.core for view in views])
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        self.in_core = ((cores[:, :2] <= centres) & (centres < cores[:, 2:])).all(axis=1)
        scores = np.array([view.score for view in views])
        self.rank = np.empty(len(views), int)
        self.rank[np.lexsort((-scores, ~self.in_core))] = np.arange(len(views))


class _Pairs(NamedTuple):
    """Pairs of views of one class from different windows whose masks share pixels.

    Attributes:
        first, second: `[P]` indices of views.
        shared: `[P]` pixels that both masks have.
        first_area, second_area: `[P]` pixels of each mask in the strip that both windows saw.
        is_best: `[P, 2]` bool: the second is the best match for the first in its window; and the
            first is for the second.
    """

    first: np.ndarray
    second: np.ndarray
    shared: np.ndarray
    first_area: np.ndarray
    second_area: np.ndarray
    is_best: np.ndarray


def _pairs(views: Sequence[View], margin: int) -> _Pairs:
    rows = [
        (one, other, *areas)
        for one, other in _neighbours(views, margin)
        if views[one].window != views[other].window
        and views[one].class_id == views[other].class_id
        and (areas := _compared(views[one], views[other], margin))[0]
    ]
    first, second, shared, first_area, second_area = np.array(rows, int).reshape(-1, 5).T
    iou = shared / np.maximum(first_area + second_area - shared, 1)
    numbers = {window: number for number, window in enumerate({view.window for view in views})}
    window = np.array([numbers[view.window] for view in views])
    is_best = np.stack(
        [
            _are_best(first, window[second], iou, second),
            _are_best(second, window[first], iou, first),
        ],
        axis=1,
    )
    return _Pairs(first, second, shared, first_area, second_area, is_best)


def _neighbours(things: Sequence[Any], reach: int = 0) -> Iterator[tuple[int, int]]:
    """Pairs `(i, j)`, i below j, of things whose boxes meet if each is enlarged by `reach`."""
    y1, x1, y2, x2 = np.array([thing.box for thing in things]).reshape(-1, 4).T
    boxes = shapely.box(x1 - reach, y1 - reach, x2 + reach, y2 + reach)
    for one, other in zip(*shapely.STRtree(boxes).query(boxes), strict=True):
        if one < other:
            yield int(one), int(other)


def _compared(one: View, other: View, margin: int) -> tuple[int, int, int]:
    """Pixels that both masks have, and pixels of each, inside the part that both windows saw.

    Windows that only touch saw nothing together: the pixels on both sides of the seam are compared.
    """
    strip = shared_box(one.window.box, other.window.box)
    if strip[0] < strip[2] and strip[1] < strip[3]:
        return _areas_in_strip(one, other, strip)
    for axis in (0, 1):
        if one.window.box[axis + 2] == other.window.box[axis]:
            return _areas_at_seam(one, other, axis, margin)
        if other.window.box[axis + 2] == one.window.box[axis]:
            shared, after, before = _areas_at_seam(other, one, axis, margin)
            return shared, before, after
    return 0, 0, 0


def _areas_at_seam(before: View, after: View, axis: int, margin: int) -> tuple[int, int, int]:
    """Places along a seam where both masks reach it, and where each does.

    Args:
        before, after: on both sides of the seam; axis: 0 for a seam along a row, 1 for a column.
    """
    seam, across = after.window.box[axis], 1 - axis
    low = min(before.box[across], after.box[across])
    high = max(before.box[across + 2], after.box[across + 2])

    def reaches(view: View, start: int, end: int) -> np.ndarray:
        box = (start, low, end, high) if axis == 0 else (low, start, high, end)
        part = _patch(view.rle["counts"], *view.rle["size"]).part(box)
        return np.asarray(part.any(axis=axis))

    one = reaches(before, seam - margin - 1, seam)
    other = reaches(after, seam, seam + margin + 1)
    return int((one & other).sum()), int(one.sum()), int(other.sum())


def _areas_in_strip(one: View, other: View, strip: Box) -> tuple[int, int, int]:
    box = shared_box(one.box, other.box)
    if box[0] >= box[2] or box[1] >= box[3]:
        return 0, 0, 0
    mask1, mask2 = (
        _patch(one.rle["counts"], *one.rle["size"]),
        _patch(other.rle["counts"], *other.rle["size"]),
    )
    shared = np.count_nonzero(mask1.part(box) & mask2.part(box))
    if not shared:
        return 0, 0, 0
    areas = (np.count_nonzero(mask.part(shared_box(strip, mask.box))) for mask in (mask1, mask2))
    return int(shared), *areas  # type: ignore[return-value]


@functools.lru_cache(maxsize=_PATCHES_KEPT)
def _patch(counts: str, height: int, width: int) -> Patch:
    return rle_patch({"size": [height, width], "counts": counts})


def _are_best(view: np.ndarray, window: np.ndarray, iou: np.ndarray, other: np.ndarray) -> Any:
    """`[P]` bool: whether no other view of that window has a higher IoU with the view."""
    order = np.lexsort((other, -iou, window, view))
    is_first = np.ones(len(order), bool)
    is_first[1:] = (np.diff(view[order]) != 0) | (np.diff(window[order]) != 0)
    best = np.empty(len(order), bool)
    best[order] = is_first
    return best


# ---- One object, seen by several windows ---------------------------------------------------------


def _drop_whole_doubles(seen: _Seen, pairs: _Pairs) -> np.ndarray:
    """For each view the whole view that takes its place, or itself."""
    area = np.array([view.area for view in seen.views])
    union = area[pairs.first] + area[pairs.second] - pairs.shared
    is_same = (
        pairs.is_best.all(axis=1)
        & seen.is_whole[pairs.first]
        & seen.is_whole[pairs.second]
        & (pairs.shared > SAME * union)
    )
    partners: dict[int, list[int]] = {}
    for one, other in zip(pairs.first[is_same], pairs.second[is_same], strict=True):
        partners.setdefault(int(one), []).append(int(other))
        partners.setdefault(int(other), []).append(int(one))
    absorbed_by = np.arange(len(seen.views))
    for view in sorted(partners, key=lambda view: seen.rank[view]):
        if absorbed_by[view] == view:
            for other in partners[view]:
                if absorbed_by[other] == other and seen.rank[other] > seen.rank[view]:
                    absorbed_by[other] = view
    return absorbed_by


def _drop_covered_pieces(seen: _Seen, pairs: _Pairs, absorbed_by: np.ndarray) -> None:
    """Note in `absorbed_by` each cut view that is part of a whole one."""
    best: dict[int, tuple[int, int]] = {}
    for pieces, wholes, is_best in (
        (pairs.first, pairs.second, pairs.is_best[:, 0]),
        (pairs.second, pairs.first, pairs.is_best[:, 1]),
    ):
        is_cover = is_best & ~seen.is_whole[pieces] & seen.is_whole[wholes]
        rows = np.stack([pieces, wholes, pairs.shared], axis=1)[is_cover]
        for piece, whole, shared in rows.tolist():
            # Both windows see the shared pixels, so they are compared with the whole piece.
            if shared > SAME * seen.views[piece].area:
                best[piece] = max(best.get(piece, (0, 0)), (shared, -whole))
    for piece, (_, minus_whole) in best.items():
        absorbed_by[piece] = absorbed_by[-minus_whole]


class _Group(NamedTuple):
    """Views of one object: those that make its mask, and the windows of all."""

    order: tuple  # groups are trusted in this order
    views: list[View]
    windows: frozenset[Box]
    is_cut: bool

    @property
    def box(self) -> Box:
        return _box_around(self.views)


def _whole(seen: _Seen, absorbed_by: np.ndarray) -> Iterator[_Group]:
    windows: dict[int, set[Box]] = {}
    for view, taken in enumerate(absorbed_by.tolist()):
        windows.setdefault(taken, set()).add(seen.views[view].window.box)
    for view in np.flatnonzero(seen.is_whole & (absorbed_by == np.arange(len(absorbed_by)))):
        by = frozenset(windows[int(view)])
        if len(by) > 1 or seen.in_core[view]:
            yield _Group((0, int(seen.rank[view])), [seen.views[view]], by, False)


def _joined_pieces(seen: _Seen, pairs: _Pairs, absorbed_by: np.ndarray) -> Iterator[_Group]:
    """Cut views that no whole one covers, joined where their masks agree in the strip."""
    count = len(seen.views)
    is_left = ~seen.is_whole & (absorbed_by == np.arange(count))
    agree = (
        is_left[pairs.first]
        & is_left[pairs.second]
        & pairs.is_best.any(axis=1)
        & (pairs.shared > SAME * np.minimum(pairs.first_area, pairs.second_area))
    )
    ends = pairs.first[agree], pairs.second[agree]
    _, labels = connected_components(
        coo_matrix((np.ones(len(ends[0])), ends), (count, count)), directed=False
    )
    groups: dict[int, list[int]] = {}
    for view in np.flatnonzero(is_left):
        groups.setdefault(int(labels[view]), []).append(int(view))
    for members in groups.values():
        views = [seen.views[view] for view in members]
        if not seen.in_core[members].any() and not _is_in_a_core(views):
            continue
        is_cut = any(
            _goes_on_unseen(seen.views[view], side, views)
            for view in members
            for side in np.flatnonzero(seen.touches[view])
        )
        windows = frozenset(view.window.box for view in views)
        area = sum(view.area for view in views)
        yield _Group((1 + is_cut, -area, *sorted(windows)), views, windows, is_cut)


def _box_around(views: Sequence[View]) -> Box:
    y1, x1, y2, x2 = np.array([view.box for view in views]).T
    return int(y1.min()), int(x1.min()), int(y2.max()), int(x2.max())


def _is_in_a_core(views: Sequence[View]) -> bool:
    """Does the centre of all pieces lie in the core of a window that saw one of them?"""
    y1, x1, y2, x2 = _box_around(views)
    y, x = (y1 + y2) / 2, (x1 + x2) / 2
    cores = (view.window.core for view in views)
    return any(core[0] <= y < core[2] and core[1] <= x < core[3] for core in cores)


def _goes_on_unseen(view: View, side: int, views: Sequence[View]) -> bool:
    """Is there no other piece from a window that sees what is beyond this border of the view's?"""
    axis = side % 2
    across = 1 - axis
    # The pixel beyond the border.
    beyond = view.window.box[side] - (1 if side < 2 else 0)
    return not any(
        other.window.box[axis] <= beyond < other.window.box[axis + 2]
        and other.window.box[across] < view.box[across + 2]
        and view.box[across] < other.window.box[across + 2]
        for other in views
        if other.window != view.window
    )


# ---- What is left twice --------------------------------------------------------------------------


def _without_doubles(groups: list[_Group]) -> list[Joined]:
    groups = sorted(groups, key=lambda group: group.order)
    rles = [
        group.views[0].rle
        if len(group.views) == 1
        else union_rle([view.rle for view in group.views])
        for group in groups
    ]
    dropped: set[int] = set()
    # The first of a pair is trusted more.
    for one, other in sorted(_neighbours(groups)):
        if (
            one not in dropped
            and other not in dropped
            and groups[one].views[0].class_id == groups[other].views[0].class_id
            and not groups[one].windows & groups[other].windows
            and _shares_most(rles[one], rles[other])
        ):
            dropped.add(other)
    return [
        Joined(
            group.views[0].class_id,
            max(view.score for view in group.views),
            group.box,
            rle,
            group.is_cut,
        )
        for number, (group, rle) in enumerate(zip(groups, rles, strict=True))
        if number not in dropped
    ]


def _shares_most(rle1: dict[str, Any], rle2: dict[str, Any]) -> bool:
    """Is more than half of the smaller mask shared?"""
    mask1, mask2 = (_patch(rle["counts"], *rle["size"]) for rle in (rle1, rle2))
    box = shared_box(mask1.box, mask2.box)
    shared = np.count_nonzero(mask1.part(box) & mask2.part(box))
    smaller = min(np.count_nonzero(mask1.pixels), np.count_nonzero(mask2.pixels))
    return bool(shared > SAME * smaller)
