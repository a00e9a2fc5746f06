"""COCO's segmentations: polygons and run lengths against pycocotools and slow code."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask

from mrcnn.data.formats.segmentation import (
    decode_counts,
    problem_of_polygons,
    problem_of_segmentation,
    segmentation_to_mask,
    segmentation_to_rle,
)

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=40)
MASKS = hnp.arrays(np.uint8, SHAPES, elements=st.integers(0, 1))


def expand(counts, height, width):
    """Run lengths as a mask, pixel by pixel."""
    pixels = [value % 2 for value, count in enumerate(counts) for _ in range(count)]
    return np.array([[pixels[x * height + y] for x in range(width)] for y in range(height)])


@given(MASKS)
def test_compressed_run_lengths_round_trip(mask):
    rle = coco_mask.encode(np.asfortranarray(mask))
    counts = decode_counts(rle["counts"])
    np.testing.assert_array_equal(expand(counts, *mask.shape), mask)
    assert decode_counts(rle["counts"].decode()) == counts
    for form in (counts, rle["counts"], rle["counts"].decode()):
        segmentation = {"size": list(mask.shape), "counts": form}
        np.testing.assert_array_equal(segmentation_to_mask(segmentation, *mask.shape), mask)
        assert segmentation_to_rle(segmentation, *mask.shape) == rle


def test_long_runs_have_numbers_of_several_digits():
    mask = np.zeros((2000, 1500), np.uint8)
    mask[:, 700:] = 1
    mask[0] = 0
    rle = coco_mask.encode(np.asfortranarray(mask))
    counts = decode_counts(rle["counts"])
    assert counts[0] == 2000 * 700 + 1 and counts[1:3] == [1999, 1] and sum(counts) == mask.size


@given(st.lists(st.floats(-50, 80), min_size=6, max_size=20).filter(lambda p: len(p) % 2 == 0))
def test_polygons_are_filled_as_pycocotools_does(polygon):
    expected = coco_mask.decode(coco_mask.frPyObjects([polygon], 20, 30))[:, :, 0]
    np.testing.assert_array_equal(segmentation_to_mask([polygon], 20, 30), expected)


def test_polygons_are_joined():
    left, right = [0, 0, 4, 0, 4, 4, 0, 4], [2, 2, 8, 2, 8, 6, 2, 6]
    joined = segmentation_to_mask([left, right], 10, 10)
    either = segmentation_to_mask([left], 10, 10) | segmentation_to_mask([right], 10, 10)
    np.testing.assert_array_equal(joined, either)
    assert joined.sum() == 16 + 24 - 4


# ---- What is refused -----------------------------------------------------------------------------

SQUARE = [1, 1, 5, 1, 5, 5, 1, 5]


@pytest.mark.parametrize(
    "number", [math.nan, math.inf, -math.inf, 10**400, -(10**400), None, "5", [5], {}]
)
@pytest.mark.parametrize("place", [0, 5, 7])
def test_coordinates_are_finite_numbers(number, place):
    polygon = SQUARE[:place] + [number] + SQUARE[place + 1 :]
    expected = "has something else than finite numbers in polygon 1."
    assert problem_of_polygons([SQUARE, polygon], 20, 30) == expected
    with pytest.raises(ValueError, match=expected):
        segmentation_to_mask([SQUARE, polygon], 20, 30)


@pytest.mark.parametrize("reach", [3001, -3001, 1e9, 1e300, 10**30])
def test_polygons_stay_near_their_image(reach):
    polygon = [*SQUARE[:-1], reach]
    assert f"reaches {abs(reach)}, far outside its" in problem_of_polygons([polygon], 20, 30)
    assert problem_of_polygons([[*SQUARE[:-1], 3000]], 20, 30) is None
    assert problem_of_polygons([[*SQUARE[:-1], -3000]], 20, 30) is None


def test_outlines_are_of_a_length_that_fits_in_memory():
    zigzag = [0, 0, 20_000, 20_000] * 101
    assert "an outline of more than 4,000,000 pixels" in problem_of_polygons([zigzag], 20000, 20000)
    # As many points, or points as far away, are no reason.
    assert problem_of_polygons([zigzag[:396]], 20_000, 20_000) is None
    turns = np.linspace(0, 2 * np.pi, 5001)[:-1]
    circle = 10_000 + 9000 * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    assert problem_of_polygons([circle.ravel().tolist()], 20_000, 20_000) is None


@pytest.mark.parametrize(
    "size", [(200_000_000, 40), (200_000, 200_000), (0, 5), (True, 5), (5.0, 5)]
)
def test_sizes_that_cannot_be_are_refused_before_drawing(size):
    for segmentation in ([SQUARE], {"size": list(size), "counts": "0"}):
        with pytest.raises(ValueError, match="has (the height|.* pixels)"):
            segmentation_to_mask(segmentation, *size)


@pytest.mark.parametrize("counts", ["\ud800", "o" * 10_000, "0" * 9, b"\xff"])
def test_strings_that_are_no_run_lengths(counts):
    with pytest.raises(ValueError, match="^has run lengths"):
        segmentation_to_rle({"size": [4, 4], "counts": counts}, 4, 4)


JSON_NUMBERS = st.one_of(st.integers(-40, 60), st.floats(-40, 60), st.just(10**400))
JSON_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.text(max_size=3), st.floats(), JSON_NUMBERS),
    lambda inner: (
        st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)
RUN_LENGTHS = st.fixed_dictionaries(
    {"size": st.one_of(st.just([4, 5]), JSON_VALUES)},
    optional={"counts": st.one_of(JSON_VALUES, st.just([3, 17]), st.just("")), "x": JSON_VALUES},
)
POLYGONS = st.lists(st.lists(JSON_NUMBERS, min_size=4, max_size=8), max_size=3)


@given(st.one_of(JSON_VALUES, RUN_LENGTHS, POLYGONS))
def test_whatever_json_holds_is_drawn_or_refused_in_a_sentence(segmentation):
    problem = problem_of_segmentation(segmentation, 4, 5)
    if problem is None:
        try:
            assert segmentation_to_mask(segmentation, 4, 5).shape == (4, 5)
        except ValueError as error:  # a string of run lengths is decoded when it is drawn
            assert isinstance(segmentation["counts"], str) and str(error).startswith("has ")
    else:
        assert problem.startswith("has ") and len(problem) < 250
