"""Boxes: the reference numbers, one code for arrays and tensors, and what the formulas promise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from mrcnn.geometry import boxes as B

SHAPE = (300, 400)


@st.composite
def pixel_boxes(draw, count=None, side=200):
    """`[N, 4]` whole pixels inside `side` x `side`, at least one pixel large."""
    count = draw(st.integers(1, 6)) if count is None else count
    rows = []
    for _ in range(count):
        y1, x1 = draw(st.integers(0, side - 2)), draw(st.integers(0, side - 2))
        rows.append([y1, x1, draw(st.integers(y1 + 1, side)), draw(st.integers(x1 + 1, side))])
    return np.array(rows, np.float32)


def random_boxes(count, seed=0):
    rng = np.random.default_rng(seed)
    corner, size = rng.random((count, 2)), rng.random((count, 2)) + 0.05
    return np.concatenate([corner, corner + size], axis=1).astype(np.float32)


# ---- The original's numbers --------------------------------------------------------------------


def test_overlaps_are_the_originals(golden):
    g = golden("utilities.npz")
    np.testing.assert_allclose(B.compute_overlaps(g["b1"], g["b2"]), g["overlaps"], atol=1e-12)


def test_non_max_suppression_is_the_originals(golden):
    g = golden("utilities.npz")
    keep = B.non_max_suppression(g["b1"], g["nms_scores"], 0.3)
    assert keep.dtype == np.int32
    np.testing.assert_array_equal(keep, g["nms_keep"])


def test_deltas_are_the_originals(golden):
    g = golden("utilities.npz")
    applied = B.apply_box_deltas(g["b1"], g["deltas"])
    assert applied.dtype == np.float32
    np.testing.assert_allclose(applied, g["applied"], rtol=1e-5, atol=1e-3)
    refined = B.box_refinement(g["b1"][:15], g["b2"])
    assert refined.dtype == np.float32
    np.testing.assert_allclose(refined, g["refine"], rtol=1e-5, atol=1e-6)


def test_normalised_coordinates_are_the_originals(golden):
    g = golden("utilities.npz")
    normalised = B.norm_boxes(g["b1"], SHAPE)
    assert normalised.dtype == np.float32
    np.testing.assert_allclose(normalised, g["norm"], rtol=1e-6)
    pixels = B.denorm_boxes(g["norm"], SHAPE)
    assert pixels.dtype == np.int32
    np.testing.assert_array_equal(pixels, g["denorm"])


def test_trim_zeros_is_the_originals(golden):
    wanted = golden("utilities.npz")["trim"]
    padded = np.concatenate([wanted[:1], np.zeros((1, 4)), wanted[1:], np.zeros((2, 4))])
    np.testing.assert_array_equal(B.trim_zeros(padded), wanted)


# ---- Arrays and tensors ------------------------------------------------------------------------

BOXES, OTHERS = random_boxes(5), random_boxes(3, seed=1)
DELTAS = np.random.default_rng(2).normal(size=(5, 4)).astype(np.float32)
WINDOW = np.array([0.2, 0.1, 0.9, 0.7], np.float32)


@pytest.mark.parametrize(
    ("function", "arrays"),
    [
        (B.box_area, (BOXES,)),
        (B.compute_overlaps, (BOXES, OTHERS)),
        (B.apply_box_deltas, (BOXES, DELTAS)),
        (B.box_refinement, (BOXES[:3], OTHERS)),
        (B.clip_boxes, (BOXES, WINDOW)),
        (lambda boxes: B.norm_boxes(boxes, SHAPE), (BOXES * 300,)),
        (lambda boxes: B.denorm_boxes(boxes, SHAPE), (BOXES,)),
    ],
    ids="area overlaps apply refine clip norm denorm".split(),
)
def test_tensors_give_what_arrays_give(function, arrays):
    wanted = function(*arrays)
    result = function(*(ops.convert_to_tensor(array) for array in arrays))
    assert isinstance(wanted, np.ndarray) and ops.is_tensor(result)
    result = ops.convert_to_numpy(result)
    assert result.dtype == wanted.dtype
    np.testing.assert_allclose(result, wanted, rtol=1e-5, atol=1e-6)
    # A batch is its images one by one.
    batch = function(*(ops.stack([ops.convert_to_tensor(array)] * 2) for array in arrays))
    for image in ops.convert_to_numpy(batch):
        np.testing.assert_allclose(image, wanted, rtol=1e-5, atol=1e-6)


def test_every_image_of_a_batch_may_have_its_own_size():
    boxes = np.stack([BOXES * 100, BOXES * 50])
    shapes = np.array([[200.0, 300.0], [100.0, 1.0]], np.float32)
    normalised = B.norm_boxes(ops.convert_to_tensor(boxes), ops.convert_to_tensor(shapes))
    for image in range(2):
        wanted = B.norm_boxes(boxes[image], tuple(shapes[image]))
        np.testing.assert_allclose(normalised[image], wanted, rtol=1e-6)
    pixels = B.denorm_boxes(normalised, ops.convert_to_tensor(shapes))
    np.testing.assert_array_equal(pixels[0], np.around(boxes[0]))


def boxes_and_mask(seed):
    """Boxes in and around two masks of 9x13 pixels, with sides of any length and fraction."""
    rng = np.random.default_rng(seed)
    low = rng.integers(-6, 28, (2, 7, 2)) / 2
    boxes = np.concatenate([low, low + rng.integers(0, 18, (2, 7, 2)) / 2], axis=2)
    return boxes.astype(np.float32), rng.random((2, 9, 13)) < 0.3


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=50)
def test_the_share_of_a_box_is_that_of_the_pixels_that_it_touches(seed):
    boxes, mask = boxes_and_mask(seed)
    shares = B.covered_share(boxes, mask)
    for image, row in np.ndindex(2, 7):
        y1, x1, y2, x2 = boxes[image, row]
        top, left = max(int(np.floor(y1)), 0), max(int(np.floor(x1)), 0)
        bottom, right = max(int(np.ceil(y2)), 0), max(int(np.ceil(x2)), 0)
        part = mask[image, top:bottom, left:right]
        assert shares[image, row] == pytest.approx(part.mean() if part.size else 0)


def test_the_share_of_a_box_of_tensors():
    boxes, mask = boxes_and_mask(3)
    shares = B.covered_share(ops.convert_to_tensor(boxes), ops.convert_to_tensor(mask))
    assert ops.is_tensor(shares)
    wanted = B.covered_share(boxes, mask)
    assert wanted.dtype == np.float32 and wanted.any()
    np.testing.assert_allclose(ops.convert_to_numpy(shares), wanted, rtol=1e-6)


# ---- Properties --------------------------------------------------------------------------------


@given(pixel_boxes(count=4), pixel_boxes(count=4))
@settings(max_examples=40, deadline=None)
def test_refinement_is_what_applying_needs(boxes, gt_boxes):
    applied = B.apply_box_deltas(boxes, B.box_refinement(boxes, gt_boxes))
    np.testing.assert_allclose(applied, gt_boxes, rtol=1e-4, atol=1e-2)


@given(pixel_boxes(), st.integers(2, 2000), st.integers(2, 2000))
@settings(max_examples=40, deadline=None)
def test_denormalised_is_what_was_normalised(boxes, height, width):
    shape = (height, width)
    np.testing.assert_array_equal(B.denorm_boxes(B.norm_boxes(boxes, shape), shape), boxes)


@given(pixel_boxes(), pixel_boxes())
@settings(max_examples=40, deadline=None)
def test_overlaps_are_symmetric_shares(boxes1, boxes2):
    overlaps = B.compute_overlaps(boxes1, boxes2)
    assert overlaps.shape == (len(boxes1), len(boxes2))
    assert (overlaps >= 0).all() and (overlaps <= 1).all()
    np.testing.assert_allclose(overlaps, B.compute_overlaps(boxes2, boxes1).T)
    np.testing.assert_allclose(np.diagonal(B.compute_overlaps(boxes1, boxes1)), 1)
    area = B.box_area(boxes2)
    for row, box in zip(overlaps, boxes1, strict=True):
        np.testing.assert_allclose(row, B.compute_iou(box, boxes2, B.box_area(box), area))


@given(pixel_boxes(), pixel_boxes(count=1))
@settings(max_examples=40, deadline=None)
def test_clipped_boxes_lie_inside_and_stay_when_they_did(boxes, window):
    window = window[0]
    clipped = B.clip_boxes(boxes, window)
    assert (clipped[:, :2] >= window[:2]).all() and (clipped[:, 2:] <= window[2:]).all()
    assert (clipped[:, 2:] >= clipped[:, :2]).all()
    np.testing.assert_array_equal(B.clip_boxes(clipped, window), clipped)
    overlaps = B.compute_overlaps(boxes, window[None])[:, 0]
    np.testing.assert_array_equal(B.box_area(clipped) > 0, overlaps > 0)


@given(pixel_boxes(), st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_kept_boxes_do_not_overlap_and_dropped_ones_do(boxes, threshold):
    scores = np.random.default_rng(0).random(len(boxes))
    keep = B.non_max_suppression(boxes, scores, threshold)
    assert list(scores[keep]) == sorted(scores[keep], reverse=True)
    overlaps = B.compute_overlaps(boxes, boxes)
    assert (overlaps[np.ix_(keep, keep)][~np.eye(len(keep), dtype=bool)] <= threshold).all()
    for row in set(range(len(boxes))) - set(keep):
        better = [other for other in keep if scores[other] > scores[row]]
        assert (overlaps[row, better] > threshold).any()


# ---- Edges -------------------------------------------------------------------------------------


def test_no_boxes():
    none = np.zeros((0, 4), np.float32)
    assert B.compute_overlaps(none, BOXES).shape == (0, 5)
    assert B.compute_overlaps(BOXES, none).shape == (5, 0)
    assert B.apply_box_deltas(none, none).shape == (0, 4)
    assert B.box_refinement(none, none).shape == (0, 4)
    assert B.clip_boxes(none, WINDOW).shape == (0, 4)
    assert B.norm_boxes(none, SHAPE).shape == (0, 4)
    assert B.denorm_boxes(none, SHAPE).shape == (0, 4)
    keep = B.non_max_suppression(none, np.zeros(0), 0.5)
    assert keep.shape == (0,) and keep.dtype == np.int32
    assert B.trim_zeros(np.zeros((3, 4))).shape == (0, 4)


def test_boxes_without_area_overlap_nothing():
    flat = np.array([[1, 1, 1, 5], [2, 2, 2, 2]], np.float32)
    assert (B.compute_overlaps(flat, flat) == 0).all()
    assert (B.compute_iou(flat[0], flat, 0.0, np.zeros(2)) == 0).all()
    assert list(B.non_max_suppression(flat, np.array([0.1, 0.9]), 0.5)) == [1, 0]


@pytest.mark.parametrize("shape", [(1, 1), (1, 8), (8, 1)])
def test_images_one_pixel_thin_have_finite_coordinates(shape):
    whole = np.array([[0, 0, *shape]], np.float32)
    normalised = B.norm_boxes(whole, shape)
    assert np.isfinite(normalised).all()
    np.testing.assert_array_equal(B.denorm_boxes(normalised, shape), whole)


def test_whole_image_is_the_unit_box_when_normalised():
    np.testing.assert_array_equal(B.norm_boxes(np.array([[0, 0, *SHAPE]]), SHAPE), [[0, 0, 1, 1]])


def test_trim_zeros_wants_rows():
    with pytest.raises(AssertionError, match="2-D"):
        B.trim_zeros(np.zeros(4))


@pytest.mark.parametrize("as_tensor", [False, True])
def test_huge_deltas_give_finite_boxes(as_tensor):
    boxes = np.array([[0.1, 0.1, 0.3, 0.4]], np.float32)
    deltas = np.array([[5.0, -5.0, 500.0, 1e6]], np.float32)
    if as_tensor:
        boxes, deltas = ops.convert_to_tensor(boxes), ops.convert_to_tensor(deltas)
    moved = np.asarray(B.apply_box_deltas(boxes, deltas))
    assert np.isfinite(moved).all() and (moved[0, 2:] > moved[0, :2]).all()


@pytest.mark.parametrize("as_tensor", [False, True])
def test_logarithms_above_80_count_as_80(as_tensor):
    boxes = np.array([[0, 0, 1, 1]] * 3, np.float32)
    deltas = np.array([[0, 0, 79, 79], [0, 0, 80, 80], [0, 0, 81, 500]], np.float32)
    if as_tensor:
        boxes, deltas = ops.convert_to_tensor(boxes), ops.convert_to_tensor(deltas)
    moved = np.asarray(B.apply_box_deltas(boxes, deltas)).astype(np.float64)
    sizes = moved[:, 2:] - moved[:, :2]
    np.testing.assert_allclose(sizes, np.exp([[79.0] * 2, [80.0] * 2, [80.0] * 2]), rtol=1e-3)


def test_overlap_equal_to_the_threshold_is_kept():
    boxes = np.array([[0, 0, 1, 1], [0, 0, 1, 0.5], [0, 0, 0.5, 0.25]], np.float32)
    scores = np.array([0.9, 0.8, 0.7])
    assert list(B.non_max_suppression(boxes, scores, 0.5)) == [0, 1, 2]
    assert list(B.non_max_suppression(boxes, scores, 0.49)) == [0, 2]


def test_areas_and_overlaps_by_hand():
    boxes = np.array([[0, 0, 4, 3], [1, 1, 5, 4], [4, 0, 6, 3], [10, 10, 10, 10]], np.float64)
    np.testing.assert_array_equal(B.box_area(boxes), [12, 12, 6, 0])
    overlaps = B.compute_overlaps(boxes, boxes)
    wanted = [[1, 6 / 18, 0, 0], [6 / 18, 1, 2 / 16, 0], [0, 2 / 16, 1, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(overlaps, wanted)
    areas = B.box_area(boxes)
    np.testing.assert_allclose(B.compute_iou(boxes[1], boxes, areas[1], areas), wanted[1])
    small = boxes * 0.01  # unions below 1
    np.testing.assert_allclose(B.compute_overlaps(small, small), wanted)
    np.testing.assert_allclose(
        B.compute_iou(small[1], small, areas[1] / 1e4, areas / 1e4), wanted[1]
    )


def test_negative_overlaps_in_both_directions_are_none():
    apart = np.array([[0, 0, 1, 1], [3, 3, 5, 5]], np.float64)
    assert B.compute_overlaps(apart[:1], apart[1:]) == 0
    assert B.compute_iou(apart[0], apart[1:], 1.0, np.array([4.0])) == 0
