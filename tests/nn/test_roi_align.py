"""PyramidROIAlign: the level of a ROI, and its crop."""

import math

import keras
import numpy as np
import pytest
from keras import ops

from mrcnn import backend
from mrcnn.nn.roi_align import PyramidROIAlign, roi_levels
from tests.gradients import gradients
from tests.layer_contract import check_layer

SIDE = 1024  # of the image; the maps are smaller than they would be, which crops do not mind


def metas(batch):
    meta = np.zeros((batch, 14), np.float32)
    meta[:, 4:7] = [SIDE, SIDE, 3]
    return meta


def inputs(batch=2, rois=6, channels=2):
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 0.2, (batch, rois, 2))
    size = np.geomspace(0.05, 0.8, rois)[None, :, None] * np.ones((batch, 1, 2))
    boxes = np.concatenate([corner, corner + size], axis=-1).astype(np.float32)
    maps = [rng.normal(size=(batch, s, s, channels)).astype("f4") for s in (32, 16, 8, 4)]
    return [boxes, metas(batch), *maps]


def level_slowly(box, image_area):
    area = (box[2] - box[0]) * (box[3] - box[1]) * image_area
    if area <= 0:
        return 0
    return min(5, max(2, 4 + round(math.log2(math.sqrt(area) / 224)))) - 2


def test_levels_follow_the_papers_equation():
    rng = np.random.default_rng(1)
    corner = rng.uniform(0, 0.2, (2, 200, 2))
    boxes = np.concatenate([corner, corner + np.exp(rng.uniform(-7, 0, corner.shape))], axis=-1)
    boxes = boxes.astype(np.float32)
    areas = np.array([1024.0**2, 300.0 * 400.0], np.float32)
    levels = ops.convert_to_numpy(roi_levels(ops.convert_to_tensor(boxes), areas))
    wanted = [[level_slowly(b, a) for b in bs] for bs, a in zip(boxes, areas, strict=True)]
    np.testing.assert_array_equal(levels, wanted)
    assert set(levels[0]) == {0, 1, 2, 3}


@pytest.mark.parametrize(("side", "level"), [(1, 0), (112, 1), (224, 2), (448, 3), (1000, 3)])
def test_levels_of_squares(side, level):
    boxes = ops.convert_to_tensor(np.array([[[0, 0, side / 1024, side / 1024]]], np.float32))
    assert int(roi_levels(boxes, np.array([1024.0**2], np.float32))[0, 0]) == level


def test_padding_and_boxes_turned_round_go_to_p2():
    boxes = np.array([[[0, 0, 0, 0], [0.5, 0.5, 0.5, 0.9], [0.9, 0.1, 0.1, 0.9]]], np.float32)
    levels = roi_levels(ops.convert_to_tensor(boxes), np.array([SIDE**2], np.float32))
    assert not ops.convert_to_numpy(levels).any()


def test_layer_keeps_the_contract():
    crops = check_layer(PyramidROIAlign([3, 2]), inputs())
    assert crops.shape == (2, 6, 3, 2, 2)


def test_each_roi_is_cropped_from_its_level():
    boxes, meta, *maps = batch = inputs()
    crops = ops.convert_to_numpy(PyramidROIAlign((3, 2))(batch))
    levels = [[level_slowly(box, SIDE**2) for box in image] for image in boxes]
    assert set(levels[0]) == {0, 1, 2, 3}
    index = np.zeros(1, np.int32)
    for image in range(2):
        for row, level in enumerate(levels[image]):
            inputs_of_one = maps[level][image][None], boxes[image, row][None], index
            tensors = [ops.convert_to_tensor(x) for x in inputs_of_one]
            wanted = ops.convert_to_numpy(backend.crop_and_resize(*tensors, (3, 2)))[0]
            np.testing.assert_allclose(crops[image, row], wanted, atol=1e-6)


def test_padding_gives_finite_crops_and_gradients():
    boxes, meta, *maps = inputs(batch=1)
    boxes = np.zeros_like(boxes)
    layer = PyramidROIAlign((2, 2))
    crops = ops.convert_to_numpy(layer([boxes, meta, *maps]))
    np.testing.assert_array_equal(crops, np.broadcast_to(maps[0][:, None, :1, :1, :], crops.shape))
    found = gradients(lambda b, p2: ops.sum(layer([b, meta, p2, *maps[1:]])), boxes, maps[0])
    assert not found[0].any() and np.isfinite(found[1]).all() and found[1].any()


def test_boxes_are_not_rounded_to_half_precision():
    boxes, meta, *maps = inputs(channels=1)
    half = [ops.cast(x, "bfloat16") for x in maps]
    crops = PyramidROIAlign((2, 2), dtype="mixed_bfloat16")([boxes, meta, *half])
    assert keras.backend.standardize_dtype(crops.dtype) == "bfloat16"
    full = [ops.convert_to_numpy(ops.cast(x, "float32")) for x in half]
    wanted = PyramidROIAlign((2, 2))([boxes, meta, *full])
    np.testing.assert_array_equal(
        ops.convert_to_numpy(ops.cast(crops, "float32")),
        ops.convert_to_numpy(ops.cast(ops.cast(wanted, "bfloat16"), "float32")),
    )


def test_levels_change_between_two_powers_of_two():
    """Rounded: 224 / sqrt(2) is the border of P3 and P4, 224 * sqrt(2) that of P4 and P5."""
    sides = 224 * np.array([0.25, 0.352, 0.355, 0.5, 0.705, 0.709, 1, 1.41, 1.42, 2, 4]) / 1024
    boxes = np.zeros((1, len(sides), 4), np.float32)
    boxes[0, :, 2:] = sides[:, None]
    levels = roi_levels(ops.convert_to_tensor(boxes), np.array([1024.0**2], np.float32))
    assert ops.convert_to_numpy(levels)[0].tolist() == [0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_a_level_goes_by_the_area_of_the_box():
    boxes = np.array([[[0, 0, 0.125, 0.5], [0.3, 0.3, 0.8, 0.425]]], np.float32)  # 256 squared
    levels = roi_levels(ops.convert_to_tensor(boxes), np.array([1024.0**2], np.float32))
    assert ops.convert_to_numpy(levels)[0].tolist() == [2, 2]


def test_the_image_of_a_level_may_be_no_square():
    boxes, meta, *maps = inputs(batch=1)
    boxes[0, :] = [0, 0, 0.5, 0.5]
    meta[0, 4:7] = [896, 224, 3]  # the box has 448x112 pixels, an area of 224 squared: P4
    crops = ops.convert_to_numpy(PyramidROIAlign((2, 2))([boxes, meta, *maps]))
    index = ops.zeros((1,), "int32")
    wanted = backend.crop_and_resize(
        ops.convert_to_tensor(maps[2]), ops.convert_to_tensor(boxes[0, :1]), index, (2, 2)
    )
    np.testing.assert_allclose(crops[0, 0], ops.convert_to_numpy(wanted)[0], atol=1e-6)
