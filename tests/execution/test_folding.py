"""The folded graph against the one that it stands for."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from mrcnn import backend
from mrcnn.detection import AnchorCache, build_inference_model, mold_inputs
from mrcnn.execution import folding
from mrcnn.nn.backbone import BatchNorm, resnet_graph
from mrcnn.nn.heads import PerROI
from tests.gradients import gradients
from tests.slim import seed_weights
from tests.tiny import random_rectangles, tiny_config


def randomized(model):
    """The model with weights drawn at random, variances included."""
    rng = np.random.default_rng(0)
    for variable in model.variables:
        values = rng.normal(size=variable.shape)
        if variable.name == "moving_variance":
            values = np.abs(values) + 0.1
        variable.assign(values.astype(variable.dtype))
    return model


def both_ways(model, *inputs):
    """Values of a model's outputs as Keras computes them, and folding."""
    tensors = [ops.convert_to_tensor(x) for x in inputs]
    plain = keras.tree.flatten(model(tensors if len(tensors) > 1 else tensors[0], training=False))
    values = folding.run(model.outputs, list(zip(model.inputs, tensors, strict=True)))
    return [[ops.convert_to_numpy(x) for x in way] for way in (plain, values)]


def check(model, *inputs):
    for plain, value in zip(*both_ways(model, *inputs), strict=True):
        np.testing.assert_allclose(value, plain, rtol=1e-4, atol=1e-4)


def random_images(*shape):
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def norm(**settings):
    return BatchNorm(**settings)


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("scale, center", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("relu", [True, False])
def test_a_convolution_takes_its_normalisation_in(use_bias, scale, center, relu, monkeypatch):
    x = keras.Input((9, 7, 3))
    y = layers.Conv2D(4, 3, strides=2, padding="same", use_bias=use_bias)(x)
    y = layers.BatchNormalization(scale=scale, center=center)(y)
    y = layers.Activation("relu")(y) if relu else y
    model = randomized(keras.Model(x, y))
    calls = []
    original = backend.conv2d
    monkeypatch.setattr(backend, "conv2d", lambda *a: calls.append(a) or original(*a))
    check(model, random_images(2, 9, 7, 3))
    assert len(calls) == 1 and calls[0][-1] is relu


def test_tensors_in_the_midst_of_a_convolution_can_be_had_too():
    x = keras.Input((8, 8, 3))
    convolved = layers.Conv2D(4, 1)(x)
    normalised = norm()(convolved, training=False)
    y = layers.Activation("relu")(normalised)
    z = layers.Conv2D(2, 3, activation="relu")(layers.Add()([y, convolved]))
    check(randomized(keras.Model(x, [y, z, normalised, convolved])), random_images(1, 8, 8, 3))


def test_what_is_no_plain_convolution_is_left_alone():
    x = keras.Input((8, 8, 4))
    y = norm()(layers.Conv2D(4, 3, dilation_rate=2)(x), training=False)
    y = norm()(layers.Conv2D(4, 1, groups=2)(y), training=False)
    y = norm()(layers.Conv2D(4, 1, activation="sigmoid")(y), training=False)
    y = layers.Activation("relu")(layers.Conv2D(4, 1, activation="relu")(y))
    y = norm()(layers.DepthwiseConv2D(3)(y), training=False)
    y = layers.Activation("tanh")(layers.Conv2DTranspose(2, 2, strides=2)(y))
    check(randomized(keras.Model(x, [y, y[:, :3] * 2])), random_images(2, 8, 8, 4))


class Doubling(layers.BatchNormalization):
    def call(self, inputs, training=None):
        return 2 * super().call(inputs, training=False)


def test_normalisation_of_another_kind_is_left_alone():
    x = keras.Input((6, 6, 3))
    y = Doubling()(layers.Conv2D(4, 1)(x))
    y = layers.BatchNormalization(axis=1)(layers.Conv2D(4, 1)(y))
    check(randomized(keras.Model(x, y)), random_images(3, 6, 6, 3))


def test_batch_statistics_are_kept_where_they_are_asked_for():
    x = keras.Input((6, 6, 3))
    y = norm()(layers.Conv2D(4, 1)(x), training=True)
    check(randomized(keras.Model(x, y)), random_images(3, 6, 6, 3))


@pytest.mark.parametrize("kernel_size, padding", [(5, "valid"), (3, "same"), (1, "valid")])
def test_convolutions_of_rois(kernel_size, padding):
    x = keras.Input((6, 5, 5, 3))
    y = PerROI(layers.Conv2D(4, kernel_size, padding=padding, name="conv"))(x)
    y = layers.Activation("relu")(norm()(y, training=False))
    check(randomized(keras.Model(x, y)), random_images(2, 6, 5, 5, 3))


@pytest.mark.parametrize("kernel_size", [(2, 2), (1, 3)])
@pytest.mark.parametrize("use_bias, normalised", [(True, False), (True, True), (False, False)])
def test_cells_of_rois_that_become_blocks(kernel_size, use_bias, normalised):
    x = keras.Input((6, 4, 5, 3))
    settings = {"strides": kernel_size, "use_bias": use_bias, "name": "deconv"}
    layer = layers.Conv2DTranspose(2, kernel_size, **settings)
    y = PerROI(layer)(x)
    y = layers.Activation("relu")(norm()(y, training=False) if normalised else y)
    model = randomized(keras.Model(x, y))
    rois = random_images(2, 6, 4, 5, 3)
    check(model, rois)

    def with_kernel(kernel, run):
        with keras.StatelessScope(state_mapping=[(layer.kernel, kernel)]):
            return ops.mean(ops.square(run(ops.convert_to_tensor(rois))))

    kernel = ops.convert_to_numpy(layer.kernel)
    ways = [model, lambda value: folding.run([y], [(x, value)])[0]]
    wanted, found = (
        gradients(lambda value, run=run: with_kernel(value, run), kernel)[0] for run in ways
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    assert np.abs(found).max() > 0.01


@pytest.mark.parametrize("settings", [{"strides": 1}, {"padding": "same"}, {"output_padding": 1}])
def test_what_makes_no_blocks_is_left_alone(settings):
    x = keras.Input((3, 4, 4, 3))
    y = PerROI(layers.Conv2DTranspose(2, 2, **{"strides": 2, "name": "deconv", **settings}))(x)
    check(randomized(keras.Model(x, y)), random_images(2, 3, 4, 4, 3))


def test_models_inside_a_model_and_shared_ones():
    inner_x = keras.Input((None, None, 3))
    inner = keras.Model(inner_x, layers.Conv2D(3, 3, padding="same", activation="relu")(inner_x))
    x = keras.Input((8, 8, 3))
    once = inner(x)
    model = keras.Model(x, [once, inner(layers.MaxPooling2D(2)(once))])
    check(randomized(model), random_images(2, 8, 8, 3))


def test_any_tensor_can_be_given():
    x = keras.Input((4, 4, 2))
    middle = layers.Conv2D(3, 1)(x)
    y = layers.Activation("relu")(middle)
    randomized(keras.Model(x, y))
    given = random_images(1, 4, 4, 3)
    (value,) = folding.run([y], [(middle, ops.convert_to_tensor(given))])
    np.testing.assert_array_equal(ops.convert_to_numpy(value), np.maximum(given, 0))


# ---- Blocks computed again -----------------------------------------------------------------------


def block(x, filters):
    y = layers.Activation("relu")(norm()(layers.Conv2D(filters, 3, padding="same")(x)))
    return layers.Activation("relu")(layers.Add()([layers.Conv2D(filters, 1)(x), y]))


def test_blocks_of_a_resnet_end_in_its_sums():
    image = keras.Input((64, 64, 3))
    *_, c5 = resnet_graph(image, "resnet50", stage5=True, train_bn=False)
    names = [end._keras_history.operation.name for end in folding.block_ends(c5, image)]
    assert len(names) == 3 + 4 + 6 + 3
    assert names[:2] == ["res2a_out", "res2b_out"] and names[-1] == "res5c_out"


def test_a_sum_that_something_leads_past_ends_no_block():
    x = keras.Input((8, 8, 3))
    inside = layers.Add()([x, layers.Conv2D(3, 1)(x)])
    last = layers.Add()([layers.Conv2D(3, 1)(inside), layers.Conv2D(3, 1)(x)])
    assert folding.block_ends(inside, x) == [inside]
    assert folding.block_ends(layers.Conv2D(2, 1)(last), x) == [inside]


def test_blocks_computed_again_have_the_same_values_and_gradients(monkeypatch):
    x = keras.Input((8, 8, 3))
    y = block(block(block(x, 4), 4), 5)
    randomized(keras.Model(x, y))
    ends = folding.block_ends(y, x)
    assert len(ends) == 3
    calls = []
    original = backend.conv2d
    monkeypatch.setattr(backend, "conv2d", lambda *a: calls.append(a) or original(*a))

    def value(image, again):
        given = [(x, image), *(folding.run_blocks(ends, x, image) if again else ())]
        (result,) = folding.run([y], given)
        return ops.mean(ops.square(result))

    images, found, counts = random_images(2, 8, 8, 3), [], []
    for again in (False, True):
        calls.clear()
        found += gradients(lambda image, again=again: value(image, again), images)
        counts.append(len(calls))
    np.testing.assert_allclose(*found, rtol=1e-5, atol=1e-6)
    assert np.abs(found[0]).max() > 0.01
    if keras.backend.backend() != "jax":  # which has its compiler do it
        assert counts == [6, 12]


# ---- The convolution of the seam -----------------------------------------------------------------

SHAPES = [(1, 8, 8, 3), (1, 6, 5, 2), (1, 7, 8, 3), (2, 8, 8, 3), (1, 2, 1, 4)]


CONVOLUTIONS = [
    (shape, size, strides, padding)
    for shape in SHAPES
    for size, strides in [(1, 1), (1, 2), (3, 1), (3, 2), (2, 1)]
    for padding in ("same", "valid")
    if padding == "same" or min(shape[1:3]) >= size
]


@pytest.mark.parametrize("shape, size, strides, padding", CONVOLUTIONS)
@pytest.mark.parametrize("relu", [True, False])
def test_one_image_or_several_are_convolved_alike(shape, size, strides, padding, relu):
    rng = np.random.default_rng(2)
    kernel = rng.normal(size=(size, size, shape[3], 4)).astype(np.float32)
    bias = rng.normal(size=4).astype(np.float32)
    arguments = [ops.convert_to_tensor(a) for a in (random_images(*shape), kernel, bias)]
    settings = (strides, strides), padding, relu
    wanted = backend.conv2d_generic(*arguments, *settings)
    found = backend.conv2d(*arguments, *settings)
    np.testing.assert_allclose(
        ops.convert_to_numpy(found), ops.convert_to_numpy(wanted), rtol=1e-5, atol=1e-5
    )


# ---- The network ---------------------------------------------------------------------------------


def molded(config, count=2):
    dataset = random_rectangles(count)
    images, metas, _ = mold_inputs([dataset.load_image(i) for i in range(count)], config)
    anchors = AnchorCache(config)(images[0].shape)
    anchors = np.broadcast_to(anchors, (count, *anchors.shape)).astype(np.float32)
    return np.stack(images), metas.astype(np.float32), anchors


@pytest.fixture(scope="module")
def model():
    return build_inference_model(tiny_config())


def check_network(model, inputs):
    wanted, _, _, wanted_masks, *_ = model.predict_on_batch(list(inputs))
    detections, masks = model.detect_on_batch(*inputs)
    np.testing.assert_allclose(detections, wanted, atol=1e-4)
    np.testing.assert_allclose(masks, wanted_masks[:, : masks.shape[1]], atol=1e-4)
    found = (wanted[:, :, 4] > 0).sum(axis=1).max()
    assert masks.shape[1] >= found > 0


@pytest.mark.parametrize("count", [1, 2])
def test_the_network_detects_the_same(model, count):
    seed_weights(model, 3)
    check_network(model, molded(tiny_config(), count))


def test_new_weights_are_used_at_once(model):
    inputs = molded(tiny_config(), 1)
    for seed in (4, 5):
        seed_weights(model, seed)
        check_network(model, inputs)


def test_masks_are_made_for_the_detections_that_there_are(model):
    config = tiny_config(DETECTION_MAX_INSTANCES=40)
    many = build_inference_model(config)
    seed_weights(many, 3)
    inputs = molded(config, 1)
    scores = many.detect_on_batch(*inputs)[0][0, :, 5]
    fewer = 0.5 * (scores[2] + scores[3])
    few = build_inference_model(
        tiny_config(DETECTION_MAX_INSTANCES=40, DETECTION_MIN_CONFIDENCE=float(fewer))
    )
    seed_weights(few, 3)
    detections, masks = few.detect_on_batch(*inputs)
    assert (detections[0, :, 4] > 0).sum() == 3
    assert masks.shape[1] < 40
    check_network(few, inputs)


def test_no_detections_need_no_masks():
    model = build_inference_model(tiny_config(DETECTION_MIN_CONFIDENCE=1.0))
    seed_weights(model, 3)
    detections, masks = model.detect_on_batch(*molded(tiny_config(), 1))
    assert not detections.any() and masks.shape[2:] == (8, 8, 4)
