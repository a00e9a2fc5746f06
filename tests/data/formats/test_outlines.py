"""Outlines of masks: drawn again they give the same pixels, whatever the mask."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mrcnn.data.formats.objects import LabelledObject
from mrcnn.data.formats.outlines import drawn_or_exact, fill, joined, outlines, overlap

SIDES = st.integers(1, 12)
MASKS = hnp.arrays(bool, st.tuples(SIDES, SIDES))


def rings_of(parts):
    return [ring for part in parts for ring in (part.ring, *part.holes)]


def area(ring):
    """Positive for a ring that goes clockwise on the screen."""
    x, y = ring.T
    return (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2


def count_parts(mask):
    """Parts by a search of its own, step by step."""
    left = {tuple(place) for place in np.argwhere(mask)}
    count = 0
    while left:
        count += 1
        waiting = [left.pop()]
        while waiting:
            y, x = waiting.pop()
            near = {(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)} & left
            left -= near
            waiting += near
    return count


def test_a_pixel_has_four_corners():
    mask = np.zeros((3, 4), bool)
    mask[1, 2] = True
    (part,) = outlines(mask)
    assert part.ring.tolist() == [[2, 1], [3, 1], [3, 2], [2, 2]] and part.holes == []


def test_a_hole_goes_the_other_way_round():
    mask = np.ones((3, 3), bool)
    mask[1, 1] = False
    (part,) = outlines(mask)
    assert part.ring.tolist() == [[0, 0], [3, 0], [3, 3], [0, 3]]
    assert [hole.tolist() for hole in part.holes] == [[[1, 1], [1, 2], [2, 2], [2, 1]]]


def test_pixels_that_touch_at_a_corner_are_two_parts():
    for mask in (np.eye(2, dtype=bool), np.eye(2, dtype=bool)[::-1]):
        assert len(outlines(mask)) == 2


@given(MASKS)
@example(np.zeros((1, 1), bool))
@example(np.ones((5, 7), bool))
@example(np.pad(np.zeros((1, 1), bool), 1, constant_values=True))
def test_outlines_give_the_pixels_again(mask):
    parts = outlines(mask)
    assert len(parts) == count_parts(mask)
    np.testing.assert_array_equal(fill(rings_of(parts), *mask.shape), mask)
    assert sum(area(ring) for ring in rings_of(parts)) == mask.sum()
    for part in parts:
        assert area(part.ring) > 0 and all(area(hole) < 0 for hole in part.holes)
        for ring in (part.ring, *part.holes):
            steps = np.roll(ring, -1, axis=0) - ring
            # Corners only: edges are horizontal and vertical by turns.
            assert ((steps == 0).sum(axis=1) == 1).all()
            assert ((steps[:, 0] == 0) != (np.roll(steps[:, 0], -1) == 0)).all()


@given(MASKS)
def test_one_ring_with_bridges_gives_the_pixels_again(mask):
    if mask.any():
        np.testing.assert_array_equal(fill([joined(outlines(mask))], *mask.shape), mask)


def test_a_bridge_joins_the_nearest_corners():
    mask = np.zeros((4, 40), bool)
    mask[1:3, 1:3] = mask[1:3, 5:7] = mask[1:3, 30:38] = True
    ring = joined(outlines(mask))
    steps = np.abs(np.roll(ring, -1, axis=0) - ring).sum()
    around = 8 + 8 + 20
    # There and back: 2 pixels between the first two, 23 between the last two.
    assert steps == around + 2 * (2 + 23)


@given(MASKS)
def test_both_usual_rules_fill_a_ring_with_bridges_alike(mask):
    """Even-odd as here, and nonzero winding: no pixel is gone around twice or backwards."""
    if not mask.any():
        return
    ring = joined(outlines(mask))
    y, x = np.mgrid[: mask.shape[0], : mask.shape[1]] + 0.5
    around = np.zeros(mask.shape, int)
    for (x1, y1), (x2, y2) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        assert (x1 == x2) != (y1 == y2) and x1 % 1 == y1 % 1 == 0
        if x1 == x2:
            crosses = (min(y1, y2) < y) & (y < max(y1, y2)) & (x < x1)
            around += np.where(crosses, int(np.sign(y2 - y1)), 0)
    np.testing.assert_array_equal(around, mask)


def test_thousands_of_parts_are_joined():
    """Each bridge must be found in one step: with a search per bridge this takes a minute."""
    mask = np.zeros((240, 240), bool)
    mask[::5, ::5] = mask[1::5, ::5] = True
    parts = outlines(mask)
    assert len(parts) == 48 * 48
    np.testing.assert_array_equal(fill([joined(parts)], *mask.shape), mask)


def test_large_masks():
    y, x = np.ogrid[:900, :1100]
    disk = (x - 500) ** 2 + (y - 450) ** 2 < 400**2
    disk &= (x - 480) ** 2 + (y - 440) ** 2 > 100**2
    (part,) = outlines(disk)
    assert len(part.holes) == 1
    np.testing.assert_array_equal(fill(rings_of([part]), *disk.shape), disk)


@pytest.mark.parametrize(("shift", "is_kept"), [(0.0, True), (0.004, True), (3.0, False)])
def test_a_drawn_polygon_is_kept_where_it_is_drawn_well(shift, is_kept):
    ring = np.array([(10.2, 10.2), (90.2, 12.2), (50.2, 80.2)])
    mask = fill([ring], 100, 100)
    labelled = LabelledObject("a", mask, ring=ring + shift)
    (part,) = drawn_or_exact(labelled, lambda drawn: fill([drawn], 100, 100))
    assert np.array_equal(part.ring, labelled.ring) == is_kept
    if not is_kept:
        np.testing.assert_array_equal(fill([part.ring], 100, 100), mask)


def test_a_ring_that_a_format_cannot_draw_gives_way_to_the_outline():
    def refuse(ring):
        raise ValueError("has a polygon that reaches 1000000, far outside its image.")

    mask = np.ones((2, 3), bool)
    (part,) = drawn_or_exact(LabelledObject("a", mask, ring=np.zeros((3, 2))), refuse)
    assert part.ring.tolist() == [[0, 0], [3, 0], [3, 2], [0, 2]]


def test_overlap_of_masks():
    half = np.array([[True, False]])
    assert overlap(half, np.ones((1, 2), bool)) == 0.5
    assert overlap(half, ~half) == 0.0 and overlap(half & ~half, half & ~half) == 1.0
