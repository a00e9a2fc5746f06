"""Masks against the reference numbers, and against simple implementations of the formulas."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mrcnn.geometry.masks import (
    MaskView,
    compute_overlaps_masks,
    expand_mask,
    extract_bboxes,
    mask_in_box,
    minimize_mask,
    paste_mask,
    unmold_mask,
)

masks = hnp.arrays(
    bool, st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(0, 4)), elements=st.booleans()
)


def plain_bboxes(mask):
    boxes = np.zeros((mask.shape[2], 4), np.int32)
    for i in range(mask.shape[2]):
        rows, columns = np.nonzero(mask[:, :, i])
        if len(rows):
            boxes[i] = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
    return boxes


def solid(shape, box):
    mask = np.zeros(shape, bool)
    mask[box[0] : box[2], box[1] : box[3]] = True
    return mask


def test_reference_numbers(golden):
    numbers = golden("utilities.npz")
    mask = numbers["extract_mask"]
    boxes = extract_bboxes(mask)
    np.testing.assert_array_equal(boxes, numbers["extract_boxes"])
    assert boxes.dtype == numbers["extract_boxes"].dtype

    full = boxes[:, 2] > 0  # the last mask is empty
    mini = minimize_mask(boxes[full], mask[:, :, full], (28, 28))
    np.testing.assert_array_equal(mini, numbers["mini"])
    assert mini.dtype == bool
    expanded = expand_mask(boxes[full], mini, mask.shape)
    np.testing.assert_array_equal(expanded, numbers["expanded"])

    unmolded = unmold_mask(numbers["unmold_in"], numbers["unmold_box"], mask.shape)
    np.testing.assert_array_equal(unmolded, numbers["unmold_out"])
    assert unmolded.dtype == bool

    overlaps = compute_overlaps_masks(mask, mask[:, :, full])
    np.testing.assert_allclose(overlaps, numbers["overlaps_masks"], rtol=1e-6)


@settings(deadline=None)
@given(masks)
def test_boxes_equal_the_plain_twin(mask):
    boxes = extract_bboxes(mask)
    assert boxes.dtype == np.int32
    np.testing.assert_array_equal(boxes, plain_bboxes(mask))
    np.testing.assert_array_equal(extract_bboxes(mask.astype(np.float32)), boxes)


def test_boxes_of_no_pixels():
    assert extract_bboxes(np.zeros((0, 0, 0), bool)).shape == (0, 4)
    np.testing.assert_array_equal(extract_bboxes(np.zeros((0, 5, 2), bool)), np.zeros((2, 4)))


@settings(deadline=None)
@given(masks, masks)
def test_overlaps_equal_the_plain_twin(masks1, masks2):
    height, width = np.minimum(masks1.shape[:2], masks2.shape[:2])
    masks1, masks2 = masks1[:height, :width], masks2[:height, :width]
    overlaps = compute_overlaps_masks(masks1, masks2)
    assert overlaps.shape == (masks1.shape[2], masks2.shape[2])
    for i, j in np.ndindex(overlaps.shape):
        a, b = masks1[:, :, i], masks2[:, :, j]
        expected = (a & b).sum() / (a | b).sum() if (a | b).any() else 0
        assert overlaps[i, j] == pytest.approx(expected, rel=1e-6)


@settings(deadline=None)
@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 40), st.integers(1, 40))
def test_a_solid_box_survives_the_round_trip(y1, x1, height, width):
    box = np.array([y1, x1, y1 + height, x1 + width])
    mask = solid((70, 70), box)
    mini = minimize_mask(box[None], mask[:, :, None], (14, 20))
    assert mini.all()
    np.testing.assert_array_equal(expand_mask(box[None], mini, mask.shape)[:, :, 0], mask)
    np.testing.assert_array_equal(unmold_mask(np.ones((28, 28)), box, mask.shape), mask)


def test_a_disc_survives_the_round_trip_nearly():
    y, x = np.mgrid[:100, :100]
    disc = ((y - 50) ** 2 + (x - 45) ** 2 < 30**2)[:, :, None]
    box = extract_bboxes(disc)
    back = expand_mask(box, minimize_mask(box, disc, (56, 56)), disc.shape)
    assert compute_overlaps_masks(disc, back)[0, 0] > 0.97


@pytest.mark.parametrize(
    "box", [(-3, 2, 5, 9), (4, -9, 9, 9), (8, 8, 40, 13), (-5, -5, 30, 30), (3, 17, 9, 60)]
)
def test_what_lies_outside_the_image_is_cut_off(box):
    shape = (20, 18)
    expected = np.zeros(shape, bool)
    expected[max(box[0], 0) : box[2], max(box[1], 0) : box[3]] = True
    np.testing.assert_array_equal(unmold_mask(np.ones((28, 28)), box, shape), expected)
    mini = np.ones((7, 7, 1), bool)
    np.testing.assert_array_equal(expand_mask(np.array([box]), mini, shape)[:, :, 0], expected)


def test_the_part_inside_is_the_right_one():
    """The left half of the box is outside the image, so only the mask's right half is visible."""
    mask = np.zeros((28, 28), np.float32)
    mask[:, 14:] = 1
    seen = unmold_mask(mask, (0, -10, 10, 10), (10, 20))
    assert seen[:, :10].all() and not seen[:, 10:].any()


@pytest.mark.parametrize(
    "box", [(0, 0, 0, 0), (5, 5, 5, 9), (5, 5, 9, 5), (9, 9, 3, 3), (30, 2, 40, 9), (-9, 0, -2, 5)]
)
def test_a_box_without_pixels_in_the_image_gives_an_empty_mask(box):
    assert not unmold_mask(np.ones((28, 28)), box, (20, 20)).any()
    assert not expand_mask(np.array([box]), np.ones((7, 7, 1), bool), (20, 20)).any()


def test_no_objects():
    none = np.zeros((20, 20, 0), bool)
    boxes = extract_bboxes(none)
    mini = minimize_mask(boxes, none, (28, 28))
    assert mini.shape == (28, 28, 0)
    assert expand_mask(boxes, mini, none.shape).shape == none.shape
    assert compute_overlaps_masks(none, np.ones((20, 20, 3), bool)).shape == (0, 3)


def test_an_empty_mask_cannot_become_a_mini_mask():
    mask = np.zeros((20, 20, 2), bool)
    mask[3:5, 3:5, 0] = True
    with pytest.raises(ValueError, match=r"object 1 has the box \[0, 0, 0, 0\].*20x20"):
        minimize_mask(extract_bboxes(mask), mask, (28, 28))


indices = st.lists(st.integers(-1, 5), min_size=1, max_size=9)


@given(indices, indices, st.integers(0, 3), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_a_view_of_masks_is_what_it_stands_for(rows, columns, count, seed):
    """With padding around, as resizing leaves it."""
    rows, columns = (np.array([-1, *sorted(i for i in x if i >= 0), -1]) for x in (rows, columns))
    masks_before = np.random.default_rng(seed).random((6, 6, count)) < 0.3
    view = MaskView(masks_before, rows, columns)
    plain = masks_before[np.maximum(rows, 0)[:, None], np.maximum(columns, 0)]
    plain[rows < 0], plain[:, columns < 0] = False, False
    np.testing.assert_array_equal(view.array(), plain)
    np.testing.assert_array_equal(view.boxes(), plain_bboxes(plain))
    np.testing.assert_array_equal(view.mirrored().array(), plain[:, ::-1])
    np.testing.assert_array_equal(view.select([0] * count).array(), plain[:, :, [0] * count])
    seen = np.flatnonzero(plain.any(axis=(0, 1)))
    some = view.select(seen)
    np.testing.assert_array_equal(
        some.minimize(some.boxes(), (4, 5)),
        minimize_mask(plain_bboxes(plain)[seen], plain[:, :, seen], (4, 5)),
    )


@pytest.mark.parametrize("first", [0, 1, 2])
def test_boxes_of_a_view_that_keeps_every_row(first):
    """An image enlarged by two, padding around it; each object is one pixel."""
    before = np.zeros((3, 3, 3), bool)
    for i in range(3):
        before[(first + i) % 3, i, i] = True
    twice = np.array([-1, 0, 0, 1, 1, 2, 2, -1])
    view = MaskView(before, twice, twice)
    wanted = [
        [1 + 2 * row, 1 + 2 * i, 3 + 2 * row, 3 + 2 * i]
        for i in range(3)
        for row in [(first + i) % 3]
    ]
    np.testing.assert_array_equal(view.boxes(), wanted)
    np.testing.assert_array_equal(view.boxes(), plain_bboxes(view.array()))


def test_boxes_of_a_view_that_leaves_a_row_out():
    """The only pixel of the last column lies in the row that is left out."""
    before = np.zeros((3, 3, 1), bool)
    before[0, 0], before[1, 2], before[2, 1] = True, True, True
    view = MaskView(before, np.array([0, 2]), np.arange(3))
    np.testing.assert_array_equal(view.boxes(), [[0, 0, 2, 2]])
    turned = MaskView(before.swapaxes(0, 1), np.arange(3), np.array([0, 2]))
    np.testing.assert_array_equal(turned.boxes(), [[0, 0, 2, 2]])


@pytest.mark.parametrize("box", [(2, 2, 2, 4), (2, 2, 4, 2), (9, 0, 12, 3), (-3, 0, 0, 3)])
def test_no_part_of_a_box_in_the_image_is_an_empty_patch(box):
    patch, _, _ = mask_in_box(np.ones((4, 4)), box, (7, 5, 3))
    assert patch.shape == (0, 0) and patch.dtype == bool


# ---- Thresholds --------------------------------------------------------------------------------


def ramp(value, side=4):
    """A mask whose left half has this value, its right half 1: resizing by 1 keeps both."""
    mask = np.full((side, side), value, np.float64)
    mask[:, side // 2 :] = 1
    return mask


@pytest.mark.parametrize(("value", "belongs"), [(0.5, True), (0.4999, False), (0.5001, True)])
def test_a_predicted_pixel_belongs_to_the_mask_from_a_half_on(value, belongs):
    box, shape = (0, 0, 4, 4), (4, 4)
    seen = unmold_mask(ramp(value), box, shape)
    assert (seen[:, :2] == belongs).all() and seen[:, 2:].all()
    canvas = np.zeros(shape, bool)
    paste_mask(canvas, ramp(value), box)
    np.testing.assert_array_equal(canvas, seen)
    patch, top, left = mask_in_box(ramp(value), (1, 2, 5, 6), (9, 9))
    assert (top, left) == (1, 2)
    np.testing.assert_array_equal(patch, seen)


@pytest.mark.parametrize(
    ("value", "belongs"), [(0.5, False), (0.500005, False), (0.50002, True), (0.501, True)]
)
def test_an_interpolated_pixel_belongs_to_a_mask_above_a_half_only(value, belongs):
    """A value between 0 and 1 stands for what interpolation gives; the margin is 1e-5."""
    box = np.array([[0, 0, 4, 4]])
    seen = expand_mask(box, ramp(value)[:, :, None], (4, 4))[:, :, 0]
    assert (seen[:, :2] == belongs).all() and seen[:, 2:].all()


def test_half_a_pixel_is_outside_a_mini_mask():
    """Two pixels become one, their mean."""
    mask = np.zeros((2, 8, 1), bool)
    mask[:, 1:6] = True  # half of the first new pixel, all of the second and third
    mini = minimize_mask(np.array([[0, 0, 2, 8]]), mask, (2, 4))
    np.testing.assert_array_equal(mini[0, :, 0], [False, True, True, False])
    # Three quarters of the first new pixel, a quarter of the last one.
    mask = np.zeros((2, 8, 1), bool)
    mask[0, 0:2], mask[1, 0:1], mask[0, 6:7] = True, True, True
    mini = minimize_mask(np.array([[0, 0, 2, 8]]), mask, (1, 4))
    np.testing.assert_array_equal(mini[0, :, 0], [True, False, False, False])


def test_the_edge_of_an_enlarged_mask_lies_where_the_value_is_a_half():
    mask = np.zeros((2, 4, 1), bool)
    mask[:, :2] = True
    row = expand_mask(np.array([[0, 0, 50, 400]]), mask, (50, 400))[25, :, 0]
    # Each cell is 100 pixels wide. Between the centres of the second and the third one the value
    # falls from 1 to 0, by a hundredth per pixel: a threshold of 0.52 would move the edge by two.
    assert row[50:200].all() and not row[200:].any()


@pytest.mark.parametrize("value", [0.5, 0.50001])
def test_numbers_count_as_mask_above_a_half_in_overlaps(value):
    mask = np.array([[value, 1.0], [1.0, 0.0]])[:, :, None]
    solid = np.ones((2, 2, 1))
    assert compute_overlaps_masks(mask, solid) == pytest.approx(0.5 if value == 0.5 else 0.75)
    assert compute_overlaps_masks(solid, mask) == pytest.approx(0.5 if value == 0.5 else 0.75)
    none = np.zeros((2, 2, 1))
    assert compute_overlaps_masks(none, none) == 0
    one = np.zeros((2, 2, 1))
    one[0, 0] = 1
    assert compute_overlaps_masks(one, one) == 1


@pytest.mark.parametrize(
    ("box", "place"),
    [
        ((0, 0, 1, 1), (slice(0, 1), slice(0, 1))),
        ((5, 6, 6, 7), (slice(5, 6), slice(6, 7))),
        ((-1, -1, 1, 1), (slice(0, 1), slice(0, 1))),
        ((5, 6, 7, 8), (slice(5, 6), slice(6, 7))),
    ],
    ids=["first pixel", "last pixel", "across the first corner", "across the last corner"],
)
def test_one_pixel_of_a_box_is_inside(box, place):
    wanted = np.zeros((6, 7), bool)
    wanted[place] = True
    np.testing.assert_array_equal(unmold_mask(np.ones((4, 4)), box, (6, 7, 3)), wanted)
