"""What every layer must keep, tried on whichever layer is handed over."""

import keras
import numpy as np
from keras import tree


def check_layer(layer, inputs, images_apart=True):
    """Hold a layer to its contract; returns its outputs for `inputs` as arrays.

    Its configuration makes an equal layer; it gives the shapes it says, float32 or int32; a
    functional model of unknown batch size, compiled, gives what it gives eagerly; an image gives
    the same wherever in the batch it is; it runs where the policy is mixed precision.

    Args:
        layer: as its constructor left it.
        inputs: array or list of arrays, each `[B, …]`.
        images_apart: False for a layer that draws at random or that normalises a batch.
    """
    if not layer.built:
        layer(inputs)
    wanted = _arrays(_copy(layer)(inputs))
    shapes = tree.map_structure(np.shape, inputs)
    assert _listed(layer.compute_output_shape(shapes)) == [output.shape for output in wanted]
    assert {output.dtype.name for output in wanted} <= {"float32", "int32"}

    _check_config(layer)
    _check_functional(_copy(layer), inputs, wanted)
    if images_apart:
        turned = tree.map_structure(lambda x: x[::-1].copy(), inputs)
        _check_close(_arrays(_copy(layer)(turned)), [output[::-1] for output in wanted])
    _check_mixed_precision(layer, inputs, wanted)
    return wanted if len(wanted) > 1 else wanted[0]


def _check_config(layer):
    again = _copy(layer)
    assert type(again) is type(layer)
    serialize = keras.saving.serialize_keras_object
    assert serialize(again)["config"] == serialize(layer)["config"]


def _check_functional(layer, inputs, wanted):
    symbols = tree.map_structure(lambda x: keras.Input(x.shape[1:], dtype=x.dtype.name), inputs)
    outputs = layer(symbols)
    found = [(None, *output.shape[1:]) for output in wanted]
    assert [output.shape for output in tree.flatten(outputs)] == found
    dtypes = [output.dtype.name for output in wanted]
    assert [output.dtype for output in tree.flatten(outputs)] == dtypes
    predicted = keras.Model(symbols, outputs).predict_on_batch(inputs)
    _check_close(_arrays(predicted), wanted)


def _check_mixed_precision(layer, inputs, wanted):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        config = _without_dtypes(keras.saving.serialize_keras_object(layer))
        outputs = keras.saving.deserialize_keras_object(config)(inputs)
    finally:
        keras.config.set_dtype_policy(before)
    for output, like in zip(tree.flatten(outputs), wanted, strict=True):
        assert tuple(output.shape) == like.shape
        assert np.isfinite(_array(output)).all()


def _without_dtypes(config):
    """A layer's configuration with the policy left to who builds it."""
    if not isinstance(config, dict):
        return config
    return {key: _without_dtypes(value) for key, value in config.items() if key != "dtype"}


def _copy(layer):
    """The same layer afresh: random numbers begin anew."""
    config = keras.saving.serialize_keras_object(layer)
    again = keras.saving.deserialize_keras_object(config)
    copy_weights(layer, again)
    return again


def copy_weights(source, target):
    """Give a layer or model the weights of another. (On JAX Keras' `get_weights` warns.)"""
    for weight, value in zip(target.weights, source.weights, strict=True):
        # A copy: JAX gives the memory of a model's weights away while the model runs.
        weight.assign(keras.ops.convert_to_numpy(value.value).copy())


def _array(tensor) -> np.ndarray:
    return keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32"))


def _arrays(outputs) -> list:
    return [keras.ops.convert_to_numpy(output) for output in tree.flatten(outputs)]


def _listed(shapes) -> list:
    return [tuple(shapes)] if shapes[0] is None or isinstance(shapes[0], int) else list(shapes)


def _check_close(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
