"""Anchors: the reference numbers, their order and their shape."""

import numpy as np
import pytest

from mrcnn.config import Config, compute_backbone_shapes
from mrcnn.geometry.anchors import generate_anchors, generate_pyramid_anchors
from mrcnn.geometry.boxes import box_area


def pyramid(side, stride, scales, ratios=(0.5, 1, 2)):
    shapes = compute_backbone_shapes(Config(), (side, side))
    return generate_pyramid_anchors(scales, ratios, shapes, Config.BACKBONE_STRIDES, stride)


@pytest.mark.parametrize("stride", [1, 2])
def test_pyramid_anchors_are_the_originals(stride, golden):
    anchors = pyramid(256, stride, (16, 32, 64, 128, 256))
    wanted = golden("utilities.npz")[f"anchors_stride{stride}"]
    np.testing.assert_allclose(anchors[::5], wanted, atol=1e-9)


def test_there_are_as_many_as_in_the_original(golden):
    counts = [len(pyramid(1024, stride, Config.RPN_ANCHOR_SCALES)) for stride in (1, 2)]
    assert counts == [261888, 65472] == list(golden("utilities.npz")["anchor_count_1024"])


def test_one_cell():
    tall, square, wide = generate_anchors(32, [0.25, 1, 4], (1, 1), 16, 1)
    np.testing.assert_allclose(tall, [-32, -8, 32, 8])
    np.testing.assert_allclose(square, [-16, -16, 16, 16])
    np.testing.assert_allclose(wide, [-8, -32, 8, 32])


def test_order_is_row_cell_ratio():
    anchors = generate_anchors(8, [1, 2], (2, 3), 4, 1)
    centers = (anchors[:, :2] + anchors[:, 2:]) / 2
    wanted = [[4 * row, 4 * column] for row in range(2) for column in range(3) for _ in range(2)]
    np.testing.assert_allclose(centers, wanted)


def test_stride_two_is_every_other_cell_of_stride_one():
    shape, ratios = (5, 4), [0.5, 1, 2]
    every = generate_anchors(8, ratios, shape, 4, 1).reshape(5, 4, 3, 4)
    other = generate_anchors(8, ratios, shape, 4, 2).reshape(3, 2, 3, 4)
    np.testing.assert_array_equal(other, every[::2, ::2])


def test_area_is_the_scales_whatever_the_ratio():
    anchors = generate_anchors([8, 16], [0.3, 1, 2.5], (2, 2), 4, 1)
    assert len(anchors) == 2 * 2 * 2 * 3
    assert set(np.round(box_area(anchors), 6)) == {64.0, 256.0}
    height, width = anchors[:, 2] - anchors[:, 0], anchors[:, 3] - anchors[:, 1]
    assert set(np.round(width / height, 6)) == {0.3, 1.0, 2.5}


def test_the_first_levels_get_anchors_where_there_are_fewer_scales():
    """As in the original, where notebooks with four scales have five strides."""
    shapes, strides = [[4, 4], [2, 2], [1, 1]], [4, 8, 16]
    every = generate_pyramid_anchors((8, 16, 32), [1, 2], shapes, strides, 1)
    for count, anchors in ((1, 16), (2, 20)):
        first = generate_pyramid_anchors((8, 16, 32)[:count], [1, 2], shapes, strides, 1)
        np.testing.assert_array_equal(first, every[: 2 * anchors])


@pytest.mark.parametrize(("shapes", "strides"), [(1, 2), (2, 1), (1, 1)])
def test_every_scale_needs_a_shape_and_a_stride(shapes, strides):
    with pytest.raises(ValueError, match=f"2 scales, {shapes} feature_shapes and {strides}"):
        generate_pyramid_anchors((8, 16), [1], [[2, 2]] * shapes, [4, 8][:strides], 1)
