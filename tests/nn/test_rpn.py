"""Region proposal network: its outputs come in the order of the anchors."""

import keras
import numpy as np
import pytest
from keras import ops

from mrcnn.config import Config, compute_backbone_shapes
from mrcnn.geometry.anchors import generate_pyramid_anchors
from mrcnn.geometry.boxes import norm_boxes
from mrcnn.nn.rpn import Anchors, build_rpn_model
from tests.layer_contract import check_layer

SHAPES = [[16, 8], [8, 4], [4, 2], [2, 1], [1, 1]]


def anchors_layer(stride=1):
    scales, ratios = (8, 16, 32, 64, 128), np.array([0.5, 1, 2])
    return Anchors(scales, ratios, np.array(SHAPES), [4, 8, 16, 32, 64], stride, (64, 32))


@pytest.mark.parametrize("stride", [1, 2])
def test_anchors_keep_the_contract_and_are_those_of_geometry(stride):
    anchors = check_layer(anchors_layer(stride), np.zeros((3, 64, 32, 1), np.float32))
    pixels = generate_pyramid_anchors(
        (8, 16, 32, 64, 128), [0.5, 1, 2], SHAPES, [4, 8, 16, 32, 64], stride
    )
    assert anchors.dtype == np.float32
    np.testing.assert_array_equal(anchors, np.stack([norm_boxes(pixels, (64, 32))] * 3))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(16, 8), (1, 1), (3, 5)])
def test_there_are_as_many_outputs_as_anchors(stride, shape):
    rpn = build_rpn_model(stride, 3, 2)
    logits, probs, bbox = rpn(np.zeros((2, *shape, 2), np.float32))
    count = len(generate_pyramid_anchors([8], [0.5, 1, 2], [shape], [4], stride))
    assert tuple(logits.shape) == tuple(probs.shape) == (2, count, 2)
    assert tuple(bbox.shape) == (2, count, 4)


def test_outputs_come_row_by_row_and_ratio_by_ratio():
    rpn = build_rpn_model(1, 3, 2)
    for weight in rpn.weights:
        weight.assign(np.zeros(weight.shape, np.float32))
    # The shared layer hands channel 0 on; each of the outputs scales it by its own number.
    kernel = np.zeros((3, 3, 2, 512), np.float32)
    kernel[1, 1, 0, 0] = 1
    rpn.get_layer("rpn_conv_shared").kernel.assign(kernel)
    for name, count in (("rpn_class_raw", 6), ("rpn_bbox_pred", 12)):
        kernel = np.zeros((1, 1, 512, count), np.float32)
        kernel[0, 0, 0] = np.arange(count)
        rpn.get_layer(name).kernel.assign(kernel)
    cells = np.arange(1.0, 7.0).reshape(1, 2, 3, 1)
    maps = np.concatenate([cells, cells], axis=-1).astype(np.float32)
    logits, probs, bbox = (ops.convert_to_numpy(x) for x in rpn(maps))
    cell = np.arange(1.0, 7.0)[:, None]
    np.testing.assert_allclose(logits, (cell * np.arange(6)).reshape(1, 18, 2))
    np.testing.assert_allclose(bbox, (cell * np.arange(12)).reshape(1, 18, 4))
    np.testing.assert_allclose(np.sum(probs, axis=-1), 1, rtol=1e-6)
    np.testing.assert_allclose(probs[..., 1], 1 / (1 + np.exp(-1.0 * cell.repeat(3)[None])), 1e-5)


def test_layers_are_named_as_in_weight_files():
    rpn = build_rpn_model(1, 3, 4)
    assert rpn.name == "rpn_model"
    assert {layer.name for layer in rpn.layers if layer.weights} == {
        "rpn_conv_shared",
        "rpn_class_raw",
        "rpn_bbox_pred",
    }


def test_one_model_serves_every_level_with_the_same_weights():
    rpn = build_rpn_model(1, 3, 4)
    inputs = [keras.Input((side, side, 4)) for side in (8, 4)]
    model = keras.Model(inputs, [rpn(x)[0] for x in inputs])
    assert model.count_params() == rpn.count_params()


def test_anchors_of_a_config():
    shapes = compute_backbone_shapes(Config(), (1024, 1024))
    layer = Anchors(
        Config.RPN_ANCHOR_SCALES,
        Config.RPN_ANCHOR_RATIOS,
        shapes,
        Config.BACKBONE_STRIDES,
        1,
        (1024, 1024),
    )
    assert layer.compute_output_shape((None, 1024, 1024, 3)) == (None, 261888, 4)


def test_the_rpn_has_a_hidden_layer_of_512_channels_and_relu():
    rpn = build_rpn_model(2, 3, 4)
    shared = rpn.get_layer("rpn_conv_shared")
    assert shared.kernel.shape == (3, 3, 4, 512)
    assert (shared.strides, shared.padding) == ((2, 2), "same")
    assert shared.activation is keras.activations.relu
    assert rpn.get_layer("rpn_class_raw").kernel.shape == (1, 1, 512, 6)
    assert rpn.get_layer("rpn_bbox_pred").kernel.shape == (1, 1, 512, 12)
