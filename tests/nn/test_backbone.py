"""ResNets: names, shapes, and batch normalisation that can be frozen."""

import keras
import numpy as np
import pytest

from mrcnn.nn.backbone import (
    BatchNorm,
    conv_block,
    identity_block,
    resnet_graph,
    resnet_v1_5_graph,
)
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


# ---- Version 1.5, PyTorch's ------------------------------------------------------------------


def the_stem_and_first_blocks(channels=3):
    """C1, the first two blocks of stage 2 and the first of stage 3, weights drawn from a seed."""
    image = keras.Input((None, None, channels))
    maps = resnet_v1_5_graph(image, "resnet50_v1_5", train_bn=False)
    blocks = keras.Model(image, maps[2])
    ends = [blocks.get_layer(f"res{block}_out").output for block in ("2a", "2b", "3a")]
    model = keras.Model(image, [maps[0], *ends])
    rng = np.random.default_rng(0)
    for weight in model.weights:
        spread = 0.5 * (np.prod(weight.shape[:-1]) / 2) ** -0.5 if weight.name == "kernel" else 0.2
        centre = 1.0 if weight.name in ("gamma", "moving_variance") else 0.0
        weight.assign(rng.uniform(centre - spread, centre + spread, weight.shape))
    return model


def convolve(x, kernel, stride, padding):
    """PyTorch's Conv2d by sums over the kernel's cells, float64."""
    x = np.pad(x, [(0, 0), (padding, padding), (padding, padding), (0, 0)])
    side = kernel.shape[0]
    height, width = ((size - side) // stride + 1 for size in x.shape[1:3])
    out = 0
    for i in range(side):
        for j in range(side):
            rows = slice(i, i + stride * (height - 1) + 1, stride)
            columns = slice(j, j + stride * (width - 1) + 1, stride)
            out = out + x[:, rows, columns] @ kernel[i, j]
    return out


def pool(x):
    """PyTorch's MaxPool2d(3, stride=2, padding=1): borders of -inf."""
    x = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)], constant_values=-np.inf)
    height, width = ((size - 3) // 2 + 1 for size in x.shape[1:3])
    windows = [
        x[:, i : i + 2 * height - 1 : 2, j : j + 2 * width - 1 : 2]
        for i in range(3)
        for j in range(3)
    ]
    return np.max(windows, axis=0)


def plain_v1_5(model, x):
    """The same maps by NumPy, after torchvision's description."""

    def conv_bn(x, name, stride=1, padding=0):
        (kernel,) = arrays_of(model, name[0])
        gamma, beta, mean, variance = arrays_of(model, name[1])
        x = convolve(x, kernel, stride, padding)
        return (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta

    def block(x, block, stride):
        def branch(x, part, stride=1, padding=0):
            names = (f"res{block}_branch{part}", f"bn{block}_branch{part}")
            return conv_bn(x, names, stride, padding)

        y = np.maximum(branch(x, "2a"), 0)
        y = np.maximum(branch(y, "2b", stride, 1), 0)
        y = branch(y, "2c")
        return np.maximum(y + (branch(x, "1", stride) if block.endswith("a") else x), 0)

    maps = [pool(np.maximum(conv_bn(x, ("conv1", "bn_conv1"), 2, 3), 0))]
    maps.append(block(maps[-1], "2a", 1))
    maps.append(block(maps[-1], "2b", 1))
    # The last block of stage 2 stands between them in the network.
    maps.append(block(block(maps[-1], "2c", 1), "3a", 2))
    return maps


def arrays_of(model, name):
    return [keras.ops.convert_to_numpy(w).astype(np.float64) for w in model.get_layer(name).weights]


@pytest.mark.parametrize(("height", "width"), [(64, 128), (67, 45)])
def test_v1_5_is_pytorchs_layout_on_any_size(height, width):
    model = the_stem_and_first_blocks()
    x = values(2, height, width, 3)
    expected = plain_v1_5(model, x.astype(np.float64))
    for actual, wanted in zip(model(x), expected, strict=True):
        assert actual.shape == wanted.shape
        np.testing.assert_allclose(actual, wanted, atol=1e-5 * np.abs(wanted).max())


def test_v1_5_has_the_originals_names_and_shapes():
    image = keras.Input((None, None, 3))
    ours = keras.Model(image, resnet_v1_5_graph(image, "resnet50_v1_5", stage5=True))
    originals = keras.Model(image, resnet_graph(image, "resnet50", stage5=True))

    def weights(model):
        return {
            (layer.name, weight.name): tuple(weight.shape)
            for layer in model.layers
            for weight in layer.weights
            if weight.name != "bias"
        }

    assert weights(ours) == weights(originals)
    assert not [w.path for w in ours.weights if w.name == "bias"]
    size = (2, 128, 64, 3)
    assert ours.compute_output_shape(size) == originals.compute_output_shape(size)
    outputs = {layer.name for layer in ours.layers if layer.name.endswith("_out")}
    assert outputs == {x.name for x in originals.layers if x.name.endswith("_out")}
    norms = [x for x in ours.layers if isinstance(x, BatchNorm)]
    assert all((x.epsilon, x.momentum, x.train_bn) == (1e-5, 0.9, True) for x in norms)


def test_v1_5_of_101_layers_has_23_blocks_in_stage_4():
    image = keras.Input((64, 64, 3))
    maps = resnet_v1_5_graph(image, "resnet101_v1_5", train_bn=False)
    assert maps[4] is None and maps[3].shape == (None, 4, 4, 1024)
    layers = keras.Model(image, maps[3]).layers
    ends = [x.name for x in layers if x.name.endswith("_out")]
    assert ends[-23:] == [f"res4{chr(ord('a') + i)}_out" for i in range(23)]
    assert ends[:7] == [f"res{end}_out" for end in ("2a", "2b", "2c", "3a", "3b", "3c", "3d")]
    assert len(ends) == 30
    assert {x.train_bn for x in layers if isinstance(x, BatchNorm)} == {False}


def test_v1_5_saves_and_loads(tmp_path):
    model, x = the_stem_and_first_blocks(channels=1), values(1, 64, 64, 1)
    model.save(tmp_path / "resnet.keras")
    again = keras.saving.load_model(tmp_path / "resnet.keras")
    for actual, expected in zip(again(x), model(x), strict=True):
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("architecture", ["resnet50", None, "resnet152_v1_5"])
def test_another_v1_5_architecture_is_refused(architecture):
    with pytest.raises(ValueError, match=f"{architecture!r}.*resnet50_v1_5, resnet101_v1_5"):
        resnet_v1_5_graph(keras.Input((64, 64, 3)), architecture)


@pytest.mark.parametrize("block", [conv_block, identity_block])
def test_a_block_has_a_relu_between_its_convolutions_and_after_the_sum(block):
    """He et al. 2015, figure 5: none between the last convolution and the sum."""
    image = keras.Input((8, 8, 12))
    out = block(image, 3, [4, 4, 12], stage=2, block="a", train_bn=False)
    model = keras.Model(image, out)
    inner = [model.get_layer(f"res2a_branch{part}").input for part in ("2b", "2c")]
    last = model.get_layer("bn2a_branch2c").output
    second, third, before_sum, result = keras.Model(image, [*inner, last, out])(values(1, 8, 8, 12))
    assert all((np.asarray(x) >= 0).all() for x in (second, third, result))
    assert (np.asarray(before_sum) < 0).any()
