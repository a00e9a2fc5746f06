"""Resizing against scikit-image and SciPy, whose numbers it has to give."""

import numpy as np
import pytest
import scipy.ndimage
import skimage.transform
from hypothesis import given, settings
from hypothesis import strategies as st

from mrcnn.geometry.resize import (
    nearest,
    resize,
    resize_and_compare,
    resize_bilinear,
    resize_nearest,
    scaled_size,
)

sides = st.integers(1, 24)


@settings(deadline=None)
@given(
    sides, sides, st.integers(1, 40), st.integers(1, 40), st.sampled_from([(), (1,), (3,), (7,)])
)
def test_bilinear_equals_scikit_image(height, width, new_height, new_width, channels):
    rng = np.random.default_rng(height * 97 + width)
    image = rng.integers(0, 256, (height, width, *channels)).astype(np.uint8)
    ours = resize_bilinear(image, (new_height, new_width))
    theirs = resize(image, (new_height, new_width), preserve_range=True)
    assert ours.shape == theirs.shape == (new_height, new_width, *channels)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, atol=5e-3)


@settings(deadline=None)
@given(
    sides,
    sides,
    st.integers(1, 60),
    st.integers(1, 60),
    st.sampled_from([0.0, 0.3, 0.5, 0.50001, 1.0, 1.1]),
    st.sampled_from(["noise", "low", "high", "full", "empty"]),
)
def test_comparing_at_once_gives_the_same_pixels(
    height, width, new_height, new_width, threshold, kind
):
    noise = np.random.default_rng(height * 97 + width).random((height, width)).astype(np.float32)
    image = {
        "noise": noise,
        "low": noise * 0.4,
        "high": noise * 0.4 + 0.6,
        "full": np.ones((height, width), bool),
        "empty": np.zeros((height, width), np.float32),
    }[kind]
    wanted = resize_bilinear(image, (new_height, new_width)) >= threshold
    got = resize_and_compare(image, (new_height, new_width), threshold)
    assert got.dtype == bool
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, np.int64, np.float32, np.float64])
def test_bilinear_takes_any_numbers(dtype):
    image = np.ones((3, 5), dtype)
    np.testing.assert_array_equal(resize_bilinear(image, (7, 4)), np.ones((7, 4), np.float32))


@settings(deadline=None)
@given(sides, sides, st.floats(0.05, 4))
def test_nearest_equals_scipy_zoom(height, width, scale):
    rng = np.random.default_rng(height * 89 + width)
    mask = rng.random((height, width, 2)) > 0.5
    ours = resize_nearest(mask, scale)
    assert ours.dtype == bool
    assert ours.shape == (scaled_size(height, scale), scaled_size(width, scale), 2)
    if ours.shape[:2] == (round(height * scale), round(width * scale)):
        # SciPy's own default fills a last row that a rounding error put outside with zeros.
        theirs = scipy.ndimage.zoom(mask, [scale, scale, 1], order=0, mode="nearest")
        np.testing.assert_array_equal(ours, theirs)


def test_a_thin_image_keeps_a_pixel():
    assert resize_nearest(np.ones((1, 5000, 1), bool), 1024 / 5000).shape == (1, 1024, 1)


def test_resize_has_the_defaults_of_the_original():
    image = np.full((4, 4, 3), 255, np.uint8)
    np.testing.assert_allclose(resize(image, (9, 9)), 1)
    np.testing.assert_allclose(resize(image, (9, 9), preserve_range=True), 255)
    mask = np.eye(4, dtype=bool)
    assert set(np.unique(resize(mask, (8, 8), order=0))) == {0, 1}
    assert 0 < resize(mask, (8, 8)).mean() < 1


def test_sizes_are_rounded_and_at_least_one():
    assert [scaled_size(size, 0.5) for size in (1, 2, 3, 5, 7)] == [1, 1, 2, 2, 4]
    assert scaled_size(1000, 0.0001) == 1
    assert scaled_size(10, 1.26) == 13


@pytest.mark.parametrize(
    ("size", "new_size", "indices"),
    [
        (4, 4, [0, 1, 2, 3]),
        (3, 5, [0, 1, 1, 2, 2]),
        (5, 3, [0, 2, 4]),
        (7, 1, [0]),
        (1, 3, [0, 0, 0]),
        (2, 2, [0, 1]),
    ],
)
def test_nearest_aligns_the_corner_pixels_and_rounds_halves_up(size, new_size, indices):
    assert nearest(size, new_size).tolist() == indices


def test_the_outermost_pixels_of_an_enlarged_image_fade():
    image = np.array([[0.0, 8.0, 8.0, 8.0]])
    # New centres lie at -0.25, 0.25, ... and 3.25: the last one is a quarter outside.
    wide = resize_bilinear(image, (1, 8))[0]
    np.testing.assert_allclose(wide, [0, 2, 6, 8, 8, 8, 8, 6])
    # What interpolation gives stays inside the image's range.
    image = np.full((2, 2), 8.0)
    np.testing.assert_array_equal(resize_bilinear(image, (8, 8)), np.full((8, 8), 8.0))


def test_resize_hands_its_settings_on():
    image = np.arange(16.0).reshape(4, 4)
    for changed in (
        {"mode": "edge"},
        {"cval": 3.0},
        {"clip": False, "cval": -3.0},
        {"anti_aliasing": True, "anti_aliasing_sigma": 2.0},
        {"order": 3},
    ):
        wanted = skimage.transform.resize(
            image, (3, 3), **{"mode": "constant", "anti_aliasing": False, **changed}
        )
        np.testing.assert_allclose(resize(image, (3, 3), **changed), wanted)
