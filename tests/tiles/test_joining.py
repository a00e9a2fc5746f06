"""Joined objects: the same as without windows, wherever the windows lie."""

import itertools

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

from mrcnn.geometry.masks import Patch
from mrcnn.tiles import join, view_of, windows_of
from tests.tiles import scenes

SHAPE = (90, 110)
WINDOW, OVERLAP = (40, 48), (16, 20)


def drawn(boxes, shape=SHAPE, apart=True):
    """Ellipses as `[(class_id, mask)]`; of those that would overlap, the first stays."""
    taken, objects = np.zeros(shape, bool), []
    for class_id, y, x, height, width in boxes:
        mask = np.zeros(shape, bool)
        part = mask[y : y + height, x : x + width]
        part |= scenes.ellipse(height, width)[: part.shape[0], : part.shape[1]]
        if mask.any() and not (apart and (taken & mask).any()):
            objects.append((class_id, mask))
            taken |= mask
    return objects


def placed(largest):
    sides = st.integers(1, largest)
    return st.lists(
        st.tuples(st.integers(1, 2), st.integers(0, 89), st.integers(0, 109), sides, sides),
        max_size=12,
    )


@pytest.mark.parametrize("largest", [16, 90], ids=["below the overlap", "above the window"])
@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_objects_of_any_size_come_back_as_they_are(largest, data):
    objects = drawn(data.draw(placed(largest)))
    joined = join(scenes.views(objects, SHAPE, WINDOW, OVERLAP))
    assert scenes.as_set(joined) == scenes.truth(objects)
    assert not any(one.is_cut for one in joined)


@given(placed(16))
@settings(deadline=None, max_examples=60)
def test_objects_that_overlap_stay_apart(boxes):
    objects = drawn(boxes, apart=False)
    objects = list({(c, m.tobytes()): (c, m) for c, m in objects}.values())
    joined = join(scenes.views(objects, SHAPE, WINDOW, OVERLAP))
    assert scenes.as_set(joined) == scenes.truth(objects)


@given(placed(60), st.randoms(use_true_random=False), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=30)
def test_the_order_of_windows_changes_nothing(boxes, random, seed):
    noise = np.random.default_rng(seed)
    views = scenes.views(
        drawn(boxes), SHAPE, WINDOW, OVERLAP, lambda part: part & (noise.random(part.shape) < 0.8)
    )
    wanted = join(views)
    random.shuffle(views)
    assert join(views) == wanted


overlaps = st.integers(5, 29)


@given(placed(30), st.integers(30, 95), st.integers(30, 115), overlaps, overlaps)
@settings(deadline=None, max_examples=40)
def test_it_does_not_matter_where_windows_lie(boxes, height, width, down, right):
    objects = drawn(boxes)
    joined = join(scenes.views(objects, SHAPE, (height, width), (down, right)))
    assert scenes.as_set(joined) == scenes.truth(objects)


@given(st.integers(0, 2**32 - 1), st.integers(20, 60), st.integers(20, 60))
@settings(deadline=None, max_examples=30)
def test_without_overlap_pieces_are_joined_along_the_seams(seed, height, width):
    """Exactly, if no two objects come near each other."""
    random = np.random.default_rng(seed)
    places = itertools.product(range(0, 90, 30), range(0, 90, 30))
    objects = drawn([(1, y, x, *random.integers(8, 25, 2)) for y, x in places])
    joined = join(scenes.views(objects, SHAPE, (height, width), (0, 0)))
    assert scenes.as_set(joined) == scenes.truth(objects)


def test_without_overlap_an_object_across_four_windows_is_one():
    mask = np.zeros(SHAPE, bool)
    mask[5:80, 8:100] = scenes.ellipse(75, 92)
    (one,) = join(scenes.views([(1, mask)], SHAPE, WINDOW, (0, 0)))
    assert scenes.as_set([one]) == scenes.truth([(1, mask)]) and not one.is_cut


def test_two_objects_that_touch_on_a_seam_stay_two():
    left, right = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    left[10:30, 20:36] = True
    right[10:30, 36:55] = True
    objects = [(1, left), (1, right)]
    joined = join(scenes.views(objects, SHAPE, WINDOW, OVERLAP))
    assert scenes.as_set(joined) == scenes.truth(objects)


def test_an_object_across_four_windows_is_one():
    mask = np.zeros(SHAPE, bool)
    mask[5:80, 8:100] = scenes.ellipse(75, 92)
    (one,) = join(scenes.views([(1, mask)], SHAPE, WINDOW, OVERLAP))
    assert scenes.as_set([one]) == scenes.truth([(1, mask)]) and not one.is_cut


def test_an_object_whose_piece_is_missing_is_kept_and_marked():
    mask = np.zeros(SHAPE, bool)
    mask[10:20, 5:100] = True
    views = scenes.views([(1, mask)], SHAPE, WINDOW, OVERLAP)
    first, second, third, last = sorted({view.window.box[1] for view in views})
    joined = join(view for view in views if view.window.box[1] in (first, third))
    assert [one.is_cut for one in joined] == [True, True]
    assert not any(one.is_cut for one in join(views))


def test_prongs_that_meet_in_the_next_window_are_one_object():
    """One window sees two ends of a horseshoe, the next one the bend."""
    shape = (64, 30)
    mask = np.zeros(shape, bool)
    mask[4:60, 4:26] = True
    mask[4:45, 10:20] = False
    upper, lower = ((0, 0, 40, 30), (24, 0, 64, 30))
    views = scenes.views([(1, mask)], shape, (40, 30), (16, 0))
    assert [view.window.box for view in views] == [upper, lower]
    prongs = []
    for columns in (slice(0, 15), slice(15, 30)):
        half = np.zeros_like(mask)
        half[:, columns] = mask[:, columns]
        seen = scenes.views([(1, half)], shape, (40, 30), (16, 0))
        prongs += [view for view in seen if view.window.box == upper]
    (one,) = join([*prongs, views[1]])
    assert scenes.as_set([one]) == scenes.truth([(1, mask)])


def test_other_classes_are_never_joined():
    mask = np.zeros(SHAPE, bool)
    mask[10:20, 20:60] = True
    views = scenes.views([(1, mask)], SHAPE, WINDOW, OVERLAP)
    mixed = [view._replace(class_id=1 + number % 2) for number, view in enumerate(views)]
    assert {one.class_id for one in join(mixed)} == {1, 2}


@pytest.mark.parametrize("seed", range(8))
def test_a_network_that_errs_by_pixels_finds_each_object_once(seed):
    """Each window draws each object up to one pixel beside its place."""
    places = itertools.product(range(0, 76, 16), range(0, 96, 16))
    objects = drawn([(1, y, x, 10, 10) for y, x in places])
    random = np.random.default_rng(seed)

    def noise(part):
        return scipy.ndimage.shift(part, random.integers(-1, 2, 2), order=0)

    joined = join(scenes.views(objects, SHAPE, WINDOW, OVERLAP, noise))
    assert len(joined) == len(objects)


# Two windows that share the columns 40 to 60; their cores meet at 50.
(PAIR,) = windows_of(40, 100, (40, 60), (0, 20))


def saw(which, left, right, score=0.9, windows=PAIR):
    """A view of columns `left` to `right`, 8 rows high."""
    pixels = np.ones((8, right - left), bool)
    return view_of(windows[which], 1, score, Patch(pixels, 16, left), (40, 100))


def columns(*views):
    """What is joined: left and right, and whether it is cut."""
    return sorted((one.box[1], one.box[3], one.is_cut) for one in join(views))


@pytest.mark.parametrize(
    ("views", "wanted"),
    [
        # Nobody but the window whose core it is not in saw it.
        ([saw(0, 51, 57)], []),
        ([saw(1, 43, 49)], []),
        ([saw(0, 43, 49)], [(43, 49, False)]),
        # Both saw it, each in the other's core; each in its own: the better view is taken.
        ([saw(0, 47, 55), saw(1, 45, 53, 0.8)], [(47, 55, False)]),
        ([saw(0, 44, 54, 0.8), saw(1, 46, 56)], [(46, 56, False)]),
        # The window whose core it is in is trusted, whatever the scores.
        ([saw(0, 44, 54, 0.5), saw(1, 45, 53)], [(44, 54, False)]),
        # A whole view covers most of the piece, or little of it.
        ([saw(0, 30, 48), saw(1, 40, 52)], [(30, 48, False)]),
        ([saw(0, 30, 48), saw(1, 40, 70)], [(30, 48, False), (40, 70, True)]),
        # A piece that hides a whole object, of which the other window saw nothing.
        ([saw(0, 42, 48), saw(1, 40, 70)], [(42, 48, False)]),
        # Pieces of one object; pieces that share less than half of the strip.
        ([saw(0, 20, 60), saw(1, 40, 80)], [(20, 80, False)]),
        ([saw(0, 20, 59), saw(1, 41, 80)], [(20, 80, False)]),
    ],
)
def test_what_two_windows_saw(views, wanted):
    assert columns(*views) == wanted
    assert columns(*views[::-1]) == wanted


@pytest.mark.parametrize(("left", "right"), [(50, 50), (48, 52), (50, 52)])
def test_pieces_that_end_before_a_seam_without_overlap_are_joined(left, right):
    (windows,) = windows_of(40, 100, (40, 50), (0, 0))
    views = saw(0, 30, left, windows=windows), saw(1, right, 70, windows=windows)
    assert columns(*views) == [(30, 70, False)]
    apart = saw(0, 30, 46, windows=windows), saw(1, 54, 70, windows=windows)
    assert columns(*apart) == [(30, 46, False), (54, 70, False)]


def test_scores_are_those_of_the_whole_view_or_the_best_piece():
    mask = np.zeros(SHAPE, bool)
    mask[10:20, 5:100] = True
    views = scenes.views([(1, mask)], SHAPE, WINDOW, OVERLAP)
    scored = [view._replace(score=0.1 * number) for number, view in enumerate(views, start=1)]
    (one,) = join(scored)
    assert one.score == max(view.score for view in scored)


def test_nothing_gives_nothing():
    assert join([]) == []
