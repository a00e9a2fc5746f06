"""Values of a graph with folded convolutions against the ones that Keras computes."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from mrcnn import backend
from mrcnn.execution.walk import values_of
from mrcnn.nn.heads import PerROI
from tests.execution.graphs import norm, random_images, randomized
from tests.gradients import gradients


def both_ways(model, *inputs):
    """Values of a model's outputs as Keras computes them, and as `values_of` does."""
    tensors = [ops.convert_to_tensor(x) for x in inputs]
    plain = keras.tree.flatten(model(tensors if len(tensors) > 1 else tensors[0], training=False))
    values = values_of(model.outputs, list(zip(model.inputs, tensors, strict=True)))
    return [[ops.convert_to_numpy(x) for x in way] for way in (plain, values)]


def check(model, *inputs):
    for plain, value in zip(*both_ways(model, *inputs), strict=True):
        np.testing.assert_allclose(value, plain, rtol=1e-4, atol=1e-4)


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
    ways = [model, lambda value: values_of([y], [(x, value)])[0]]
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
    (value,) = values_of([y], [(middle, ops.convert_to_tensor(given))])
    np.testing.assert_array_equal(ops.convert_to_numpy(value), np.maximum(given, 0))
