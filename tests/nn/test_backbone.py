"""ResNets: names, shapes, and batch normalisation that can be frozen."""

import keras
import numpy as np
import pytest

from mrcnn.nn.backbone import BatchNorm, conv_block, identity_block, resnet_graph
from tests.layer_contract import check_layer, copy_weights

STATISTICS = {"moving_mean": 5.0, "moving_variance": 4.0}


def values(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def batch_norm(train_bn):
    """A layer whose moving statistics are far from those of any batch."""
    layer = BatchNorm(train_bn=train_bn)
    layer.build((None, 3))
    for weight in layer.non_trainable_weights:
        weight.assign(np.full(3, STATISTICS[weight.name], np.float32))
    return layer


def by_moving_statistics(x):
    return (x - 5.0) / np.sqrt(4.0 + 1e-3)


def by_batch_statistics(x):
    return (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-3)


@pytest.mark.parametrize("train_bn", [False, None])
def test_batch_norm_keeps_the_contract(train_bn):
    check_layer(batch_norm(train_bn), values(4, 3))


def test_batch_norm_keeps_the_contract_with_batch_statistics():
    check_layer(BatchNorm(train_bn=True), values(4, 3), images_apart=False)


@pytest.mark.parametrize(
    ("train_bn", "training", "expected"),
    [
        (False, True, by_moving_statistics),
        (False, False, by_moving_statistics),
        (None, True, by_batch_statistics),
        (None, False, by_moving_statistics),
        (True, True, by_batch_statistics),
        (True, False, by_batch_statistics),
    ],
)
def test_train_bn_decides_on_the_statistics(train_bn, training, expected):
    layer, x = batch_norm(train_bn), values(50, 3)
    np.testing.assert_allclose(layer(x, training=training), expected(x), atol=1e-4)


def test_frozen_statistics_stay_while_gamma_trains():
    layer = batch_norm(False)
    layer(values(50, 3), training=True)
    for weight in layer.non_trainable_weights:
        wanted = np.full(3, STATISTICS[weight.name], np.float32)
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(weight), wanted)
    assert [weight.name for weight in layer.trainable_weights] == ["gamma", "beta"]


@pytest.mark.parametrize("train_bn", [False, None, True])
def test_a_functional_model_keeps_what_the_layer_was_called_with(train_bn):
    image, x = keras.Input((3,)), values(50, 3)
    layer = BatchNorm()
    model = keras.Model(image, layer(image, training=train_bn))
    for weight in layer.non_trainable_weights:
        weight.assign(np.full(3, STATISTICS[weight.name], np.float32))
    again = keras.Model.from_config(model.get_config())
    copy_weights(model, again)
    expected = by_moving_statistics if train_bn is False else by_batch_statistics
    for one in (model, again):
        np.testing.assert_allclose(one(x, training=True), expected(x), atol=1e-4)


def test_blocks_add_a_shortcut():
    image = keras.Input((8, 8, 6))
    same = keras.Model(image, identity_block(image, 3, [2, 2, 6], 3, "b"))
    assert same.output_shape == (None, 8, 8, 6)
    for weight in same.weights:
        weight.assign(np.zeros(weight.shape, np.float32))
    x = values(1, 8, 8, 6)
    np.testing.assert_array_equal(same(x), np.maximum(x, 0))

    other = keras.Model(image, conv_block(image, 3, [2, 2, 5], 3, "a", train_bn=False))
    assert other.output_shape == (None, 4, 4, 5)
    names = {layer.name for layer in other.layers if layer.weights}
    branches = ("branch2a", "branch2b", "branch2c", "branch1")
    assert names == {f"{kind}3a_{branch}" for kind in ("res", "bn") for branch in branches}
    assert other.layers[-1].name == "res3a_out"
    strides = {layer.name: layer.strides for layer in other.layers if hasattr(layer, "strides")}
    assert strides["res3a_branch2a"] == strides["res3a_branch1"] == (2, 2)
    assert strides["res3a_branch2b"] == strides["res3a_branch2c"] == (1, 1)


def test_a_block_without_bias():
    image = keras.Input((4, 4, 6))
    model = keras.Model(image, conv_block(image, 3, [2, 2, 5], 2, "a", use_bias=False))
    assert len(model.get_layer("res2a_branch1").weights) == 1


@pytest.mark.parametrize(("architecture", "layers"), [("resnet50", 50), ("resnet101", 101)])
def test_resnet_has_its_depth_and_strides(architecture, layers):
    image = keras.Input((None, None, 3))
    maps = resnet_graph(image, architecture, stage5=True, train_bn=False)
    model = keras.Model(image, maps)
    channels = (64, 256, 512, 1024, 2048)
    assert [x.shape for x in maps] == [(None, None, None, count) for count in channels]
    shapes = model.compute_output_shape((2, 128, 64, 3))
    assert [shape[1:3] for shape in shapes] == [(32, 16), (32, 16), (16, 8), (8, 4), (4, 2)]
    convolutions = [x for x in model.layers if isinstance(x, keras.layers.Conv2D)]
    # The fully connected layer of the classifier is the one that is missing.
    assert len([x for x in convolutions if not x.name.endswith("branch1")]) == layers - 1
    norms = [x for x in model.layers if isinstance(x, BatchNorm)]
    assert len(norms) == len(convolutions) and all(x.epsilon == 1e-3 for x in norms)


def test_resnet_without_stage_5():
    maps = resnet_graph(keras.Input((64, 64, 1)), "resnet50")
    assert maps[4] is None and maps[3].shape == (None, 4, 4, 1024)


def test_another_architecture_is_refused():
    with pytest.raises(ValueError, match="'resnet34'.*resnet50, resnet101"):
        resnet_graph(keras.Input((64, 64, 3)), "resnet34")
