"""Shapes as masks: polygon, ellipse, line, pixels; masks in base64."""

import base64
import io
import pickle

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from mrcnn.data.formats.drawn import (
    DrawnDataset,
    Ellipse,
    Line,
    Pixels,
    Polygon,
    cropped,
    decode_png,
    encode_png,
    is_outside,
    problem_of_points,
)

SIZE = (20, 30)
SQUARE = Polygon(np.array([(2, 3), (6, 3), (6, 8), (2, 8)], float))


def whole():
    return np.ones((4, 5), bool)


def test_a_square_of_whole_coordinates_covers_its_pixels():
    mask = SQUARE.draw(*SIZE)
    assert mask.sum() == 4 * 5 and mask[3:8, 2:6].all()


def test_an_ellipse_covers_the_centres_inside():
    mask = Ellipse(10, 8, 5, 3).draw(*SIZE)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    np.testing.assert_array_equal(mask, ((x - 10) / 5) ** 2 + ((y - 8) / 3) ** 2 <= 1)
    turned = Ellipse(10, 8, 3, 5, np.pi / 2).draw(*SIZE)
    assert np.count_nonzero(turned != mask) <= 2  # centres on the outline


def test_a_line_covers_the_centres_within_half_its_width():
    points = np.array([(5, 5), (20, 5), (20, 15)], float)
    mask = Line(points, 4).draw(*SIZE)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    across = np.hypot(x - x.clip(5, 20), y - 5)
    down = np.hypot(x - 20, y - y.clip(5, 15))
    np.testing.assert_array_equal(mask, np.minimum(across, down) <= 2)


def test_a_line_of_one_place_is_a_dot():
    assert Line(np.array([(5, 5), (5, 5)], float), 4).draw(*SIZE).sum() == 12


@pytest.mark.parametrize(
    ("x", "y", "count"), [(0, 0, 20), (-2, -1, 9), (28, 18, 4), (30, 0, 0), (0, 20, 0)]
)
def test_pixels_are_cut_at_the_border(x, y, count):
    assert Pixels(x, y, whole).draw(*SIZE).sum() == count


@pytest.mark.parametrize(
    ("shape", "outside"),
    [
        (SQUARE, False),
        (Polygon(SQUARE.ring + (30, 0)), True),
        (Polygon(SQUARE.ring - (6, 0)), True),
        (Polygon(SQUARE.ring - (5, 0)), False),
        (Ellipse(-3, 5, 2, 2), True),
        (Ellipse(-1, 5, 2, 2), False),
        (Line(np.array([(-3.0, 5), (-4, 5)]), 4), True),
        (Line(np.array([(-1.0, 5), (-4, 5)]), 4), False),
        (Pixels(30, 0, whole), True),
        (Pixels(29, 19, whole), False),
    ],
)
def test_what_lies_outside(shape, outside):
    assert is_outside([shape], *SIZE) == outside
    assert not is_outside([shape, SQUARE], *SIZE)


def drawn_dataset():
    dataset = DrawnDataset()
    dataset.add_class("drawn", 7, "leaf")
    objects = [[SQUARE], [SQUARE, Ellipse(20, 10, 3, 3)], [Polygon(SQUARE.ring + 90)]]
    dataset.add_image(
        "drawn", "a", None, height=20, width=30, objects=objects, class_ids=[7, 7, 7],
        annotation_file="f.json",
    )  # fmt: skip
    dataset.prepare()
    return dataset


def test_an_object_of_several_shapes_is_one_mask_and_has_no_ring():
    dataset = drawn_dataset()
    masks, class_ids = dataset.load_mask(0)
    assert masks.shape == (20, 30, 2) and class_ids.tolist() == [1, 1]
    assert masks[..., 0].sum() == 20 and masks[..., 1].sum() > 40
    first, second = dataset.load_rings(0)
    np.testing.assert_array_equal(first, SQUARE.ring)
    assert second is None


def test_a_dataset_of_shapes_can_be_sent_to_another_process():
    masks, _ = pickle.loads(pickle.dumps(drawn_dataset())).load_mask(0)
    np.testing.assert_array_equal(masks, drawn_dataset().load_mask(0)[0])


def test_a_shape_that_cannot_be_drawn_is_named():
    dataset = drawn_dataset()
    dataset.image_info[0]["objects"][1] = [Pixels(0, 0, lambda: decode_png("?", 20, 30))]
    with pytest.raises(ValueError, match="f.json: image a, object 1 of 3, has a mask that is not"):
        dataset.load_mask(0)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (None, "points None; they must be a list of"),
        ([[1, 2], [3]], "they must be a list of"),
        ([[1, 2], [3, "x"], [4, 5]], "the coordinate 'x'; it must be a number of pixels"),
        ([[1, 2], [3, float("nan")], [4, 5]], "the coordinate nan"),
        ([[1, 2], [3, 1e9], [4, 5]], "the coordinate 1000000000.0"),
        ([[1, 2], [3, True], [4, 5]], "the coordinate True"),
        ([[1, 2], [1, 2], [4, 5]], "2 different points; it needs at least 3"),
    ],
)
def test_points_that_cannot_be_used(points, message):
    assert message in problem_of_points(points, 3, "polygon")


def test_points_that_can_be_used():
    assert problem_of_points([[1, 2], (3.5, 4), [5, -6]], 3, "polygon") is None


# ---- Masks in base64 -----------------------------------------------------------------------------


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)))
def test_a_mask_as_png_comes_back(mask):
    np.testing.assert_array_equal(decode_png(encode_png(mask), *mask.shape), mask)
    if mask.any():
        x, y, cut = cropped(mask)
        assert cut.any(axis=0)[[0, -1]].all() and cut.any(axis=1)[[0, -1]].all()
        np.testing.assert_array_equal(Pixels(x, y, lambda: cut).draw(*mask.shape), mask)


def png(mode, size=(4, 3), kind="PNG"):
    buffer = io.BytesIO()
    PIL.Image.new(mode, size, 1).save(buffer, kind)
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.mark.parametrize("mode", ["1", "L", "P", "I;16", "RGB"])
def test_any_kind_of_png_is_a_mask(mode):
    assert decode_png(png(mode), 3, 4).shape == (3, 4)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("no base64!", "is not in base64"),
        (base64.b64encode(b"text").decode(), "is no PNG or a damaged one"),
        (png("L", kind="BMP"), "is no PNG or a damaged one"),
        (png("L", (50, 3)), "has a mask of 3x50 in an image of 3x4; a mask is not larger"),
        (png("L", (400, 300))[:60], "is no PNG or a damaged one|larger"),
    ],
)
def test_data_that_is_no_mask(data, message):
    with pytest.raises(ValueError, match=message):
        decode_png(data, 3, 4)
