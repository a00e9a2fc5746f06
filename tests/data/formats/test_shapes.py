"""Shapes as masks, against scikit-image and slow simple code."""

import math

import numpy as np
import pytest
import skimage.draw
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mrcnn.data.formats import shapes
from mrcnn.data.formats.problems import FARTHEST
from mrcnn.data.formats.shapes import ellipse_reach, ellipse_to_mask, polygon_to_mask
from tests.data.formats.shape_points import points, quarters

HEIGHT, WIDTH = 20, 30


def is_covered(x, y, corners):
    """Whether (x, y) lies in a polygon or on its outline; exact for quarters of pixels."""
    inside = False
    for (x1, y1), (x2, y2) in zip(corners, corners[1:] + corners[:1], strict=True):
        side = (x2 - x1) * (y - y1) - (y2 - y1) * (x - x1)
        if side == 0 and min(x1, x2) <= x <= max(x1, x2) and min(y1, y2) <= y <= max(y1, y2):
            return True
        if (y1 > y) != (y2 > y):
            inside ^= (side > 0) == (y2 > y1)
    return inside


@settings(deadline=None)
@given(points(quarters(-6, 13), quarters(-6, 12)))
@example([(0, 0), (5, 0), (5, 5), (0, 5), (0, 0)])  # closed, as VIA 1 has it
@example([(0, 4), (4, 0), (4, 4), (0, 0)])  # crosses itself
@example([(1, 1), (9, 9), (5, 5)])  # no area
@example([(2, 0), (4, 4), (6, 0), (6, 6), (2, 6)])  # a notch down to a corner
def test_a_polygon_covers_pixels_whose_centre_lies_in_it_or_on_it(corners):
    mask = polygon_to_mask(*zip(*corners, strict=True), 7, 8)
    expected = [[is_covered(x, y, corners) for x in range(8)] for y in range(7)]
    np.testing.assert_array_equal(mask, expected)
    assert mask.dtype == bool


def on_outline(x, y, corners):
    """Whether (x, y) is within a millionth of a pixel of the outline."""
    for (x1, y1), (x2, y2) in zip(corners, corners[1:] + corners[:1], strict=True):
        length = math.hypot(x2 - x1, y2 - y1) or 1
        if abs((x2 - x1) * (y - y1) - (y2 - y1) * (x - x1)) / length < 1e-6:
            return True
    return False


@settings(deadline=None)
@given(points(st.integers(-40, 80), st.integers(-30, 60), most=12))
@example([(10, -1), (16, -7), (-7, 16)])  # scikit-image misses this line
def test_polygons_are_those_of_scikit_image_but_for_rounding_on_the_outline(corners):
    xs, ys = zip(*corners, strict=True)
    expected = np.zeros((40, 50), bool)
    expected[skimage.draw.polygon(ys, xs, expected.shape)] = True
    mask = polygon_to_mask(xs, ys, 40, 50)
    assert not (expected & ~mask).any()
    assert all(on_outline(x, y, corners) for y, x in np.argwhere(mask & ~expected))


@settings(deadline=None)
@given(st.tuples(st.integers(0, 9), st.integers(0, 9)), points(quarters(-9, 9), quarters(-9, 9)))
def test_clipping_is_the_window_of_the_whole(offset, corners):
    xs, ys = np.array(corners).T
    whole = polygon_to_mask(xs + 10, ys + 10, 30, 30)
    y, x = offset
    part = polygon_to_mask(xs + 10 - x, ys + 10 - y, 12, 8)
    np.testing.assert_array_equal(part, whole[y : y + 12, x : x + 8])


def test_the_start_and_direction_of_a_polygon_do_not_matter():
    rng = np.random.default_rng(0)
    for _ in range(50):
        corners = rng.uniform(-5, 35, (6, 2))
        mask = polygon_to_mask(*corners.T, HEIGHT, WIDTH)
        for same in (np.roll(corners, 2, axis=0), corners[::-1], np.vstack([corners, corners[0]])):
            np.testing.assert_array_equal(polygon_to_mask(*same.T, HEIGHT, WIDTH), mask)


def test_a_very_large_polygon_covers_everything():
    far = FARTHEST
    mask = polygon_to_mask([-far, far, far, -far], [-far, -far, far, far], 300, 400)
    assert mask.all()
    many = np.linspace(0, 2 * np.pi, 20001)[:-1]
    disc = polygon_to_mask(100 + 90 * np.cos(many), 100 + 90 * np.sin(many), 200, 200)
    assert abs(disc.sum() - np.pi * 90**2) < 200


def test_an_outline_that_takes_too_much_memory_is_refused(monkeypatch):
    monkeypatch.setattr(shapes, "_MOST_CROSSINGS", 20)
    xs, ys = [0, 10, 0, 10], [0, 10, 10, 0]
    assert polygon_to_mask(xs, ys, 12, 12).any()  # two edges of ten rows
    with pytest.raises(ValueError, match="crosses 22 rows of pixels, too many to draw"):
        polygon_to_mask(xs, [0, 11, 11, 0], 12, 12)


@settings(deadline=None)
@given(
    st.floats(-10, 40), st.floats(-10, 30), st.floats(0.5, 25), st.floats(0.5, 25), st.floats(-7, 7)
)
def test_an_ellipse_covers_what_its_equation_says(cx, cy, rx, ry, theta):
    mask = ellipse_to_mask(cx, cy, rx, ry, theta, HEIGHT, WIDTH)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    turned = (x - cx + 1j * (y - cy)) * np.exp(-1j * theta)
    value = (turned.real / rx) ** 2 + (turned.imag / ry) ** 2
    assert ((mask == (value <= 1)) | (abs(value - 1) < 1e-9)).all()


@given(st.floats(0.5, 25), st.floats(0.5, 25), st.floats(-7, 7))
def test_an_ellipse_reaches_as_far_as_its_outline(rx, ry, theta):
    turns = np.linspace(0, 2 * np.pi, 2001)
    outline = (rx * np.cos(turns) + 1j * ry * np.sin(turns)) * np.exp(1j * theta)
    expected = np.abs(outline.real).max(), np.abs(outline.imag).max()
    np.testing.assert_allclose(ellipse_reach(rx, ry, theta), expected, rtol=1e-4)
