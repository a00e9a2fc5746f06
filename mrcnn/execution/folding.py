"""A network's graph run with batch normalisation folded into the convolutions.

Normalising by fixed statistics is a factor and a shift for each channel, which a convolution can
have in its kernel and bias: the activations are then written once instead of three times, and in
training kept once. Kernels are folded anew in every run, from the network's own variables. That is
a hundredth of the work, takes no second copy of the weights, can never be stale, and gradients flow
through it to the kernel, gamma and beta as they would without.

The graph is walked tensor by tensor; what calls `run` is traced or compiled as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import keras
from keras import KerasTensor, layers, ops

from mrcnn import backend
from mrcnn.nn.heads import PerROI


class Convolution(NamedTuple):
    """A convolution with what follows it, to be computed as one."""

    source: KerasTensor
    layer: layers.Layer  # Conv2D, PerROI around one, or around a Conv2DTranspose of blocks
    norm: layers.BatchNormalization | None
    relu: bool


def run(outputs: Sequence[KerasTensor], given: Sequence[tuple], training: bool = False) -> list:
    """Values of a network's symbolic tensors.

    Args:
        outputs: tensors of a functional model, as `layer.output` is.
        given: `(symbolic tensor, value)` of all that the outputs depend on, and that no layer has
            to compute: the model's inputs, or tensors on the way.
        training: leave normalisation by batch statistics, where training has that, as it is.

    Returns:
        A value an output.
    """
    values = {id(symbol): value for symbol, value in given}
    waiting = list(outputs)[::-1]
    # With a stack of its own: a ResNet101 is deeper than Python's.
    while waiting:
        symbol = waiting[-1]
        if id(symbol) in values:
            waiting.pop()
            continue
        convolution = _convolution(symbol, values, training)
        needed = [convolution.source] if convolution else _node(symbol).input_tensors
        missing = [tensor for tensor in needed if id(tensor) not in values]
        if missing:
            waiting += missing
        elif convolution:
            values[id(symbol)] = _convolve(convolution, values[id(convolution.source)])
        else:
            node = _node(symbol)
            results = _call(node, values, training)
            flat = zip(node.output_tensors, keras.tree.flatten(results), strict=True)
            values |= {id(tensor): value for tensor, value in flat}
    return [values[id(symbol)] for symbol in outputs]


def run_blocks(
    ends: Sequence[KerasTensor], source: KerasTensor, value, training: bool = False
) -> list[tuple]:
    """Values along a network; what lies between them is computed again for gradients, not kept.

    Args:
        ends: from `block_ends`. source, value: the tensor before the first of them.

    Returns:
        `(symbolic tensor, value)` an end, as `run` takes them.
    """
    found = []
    for end in ends:

        def block(x, source=source, end=end):
            return run([end], [(source, x)], training)[0]

        value = keras.remat(block)(value)
        source = end
        found.append((end, value))
    return found


def block_ends(output: KerasTensor, source: KerasTensor) -> list[KerasTensor]:
    """Sums on the way to a tensor that depend on nothing before the last one but on that itself.

    In a ResNet, the ends of its blocks. An activation of a sum stands for it: TensorFlow computes
    both in one, unless something else needs the sum.
    """
    ends: list[KerasTensor] = []
    way = _between(source, output)
    activated = {id(_node(x).input_tensors[0]) for x in way if _is_activation(x)}
    for symbol in way:
        summed = _node(symbol).input_tensors[0] if _is_activation(symbol) else symbol
        is_sum = isinstance(_node(summed).operation, layers.Add)
        last = ends[-1] if ends else source
        if (
            is_sum
            and id(symbol) not in activated
            and not any(_node(needed).is_input for needed in _between(last, symbol))
        ):
            ends.append(symbol)
    return ends


def _is_activation(symbol: KerasTensor) -> bool:
    return isinstance(_node(symbol).operation, layers.Activation)


def _between(source: KerasTensor, output: KerasTensor) -> list[KerasTensor]:
    """What a tensor depends on without what `source` does, itself last, as it can be computed."""
    done: dict[int, KerasTensor] = {}
    waiting = [output]
    while waiting:
        needed = [x for x in _node(waiting[-1]).input_tensors if x is not source]
        missing = [x for x in needed if id(x) not in done]
        if missing:
            waiting += missing
        else:
            symbol = waiting.pop()
            done[id(symbol)] = symbol
    return list(done.values())


def _node(symbol: KerasTensor):
    """Keras' record of the call of a layer that a tensor comes from."""
    history = symbol._keras_history
    return history.operation._inbound_nodes[history.node_index]


def _call(node, values: dict, training: bool):
    """What a layer, or a model inside the model, makes of its arguments."""
    args, kwargs = keras.tree.map_structure(
        lambda x: values[id(x)] if isinstance(x, KerasTensor) else x,
        (node.arguments.args, node.arguments.kwargs),
    )
    if isinstance(node.operation, keras.Model):
        inner = node.operation
        given = zip(inner.inputs, keras.tree.flatten(args), strict=True)
        return run(inner.outputs, list(given), training)
    if "training" in kwargs:
        kwargs["training"] = training  # as Keras' models do
    return node.operation(*args, **kwargs)


# ---- Convolutions ----------------------------------------------------------------------------


def _convolution(symbol: KerasTensor, values: dict, training: bool) -> Convolution | None:
    """The convolution at whose end a tensor stands, if all of it can be computed as one.

    Looked at from the end: ReLU, or batch normalisation, or the convolution itself. A tensor in
    its midst that something else needs too is computed on its own.
    """
    node = _node(symbol)
    relu = type(node.operation) is layers.Activation and _is_relu(node.operation)
    if relu:
        symbol = node.input_tensors[0]
        node = _node(symbol)
    norm = node.operation if _has_fixed_statistics(node.operation, training) else None
    if norm:
        symbol = node.input_tensors[0]
        node = _node(symbol)
    if id(symbol) in values:
        return None
    convolution = _inner(node.operation)
    if not _is_plain(convolution) and not _makes_blocks(node.operation):
        return None
    if _is_relu(convolution):
        if norm or relu:
            return None
        relu = True
    elif convolution.activation is not keras.activations.linear:
        return None
    return Convolution(node.input_tensors[0], node.operation, norm, relu)


def _inner(operation):
    return operation.layer if isinstance(operation, PerROI) else operation


def _is_relu(layer) -> bool:
    return layer.activation is keras.activations.relu


def _has_fixed_statistics(operation, training: bool) -> bool:
    """Whether a layer normalises the last axis by its moving statistics."""
    # A subclass with a `call` of its own may do anything.
    if getattr(type(operation), "call", None) is not layers.BatchNormalization.call:
        return False
    wanted = getattr(operation, "train_bn", None)
    by_batch = wanted if wanted is not None else training
    return not by_batch and operation.axis in (-1, operation.input_spec.ndim - 1)


def _is_plain(layer) -> bool:
    """Whether a layer is a convolution and nothing more."""
    return (
        type(layer) is layers.Conv2D
        and layer.data_format == "channels_last"
        and layer.groups == 1
        and tuple(layer.dilation_rate) == (1, 1)
    )


def _makes_blocks(operation) -> bool:
    """Whether each cell of each ROI becomes a block of cells that no other cell adds to."""
    layer = _inner(operation)
    return (
        isinstance(operation, PerROI)
        and type(layer) is layers.Conv2DTranspose
        and layer.data_format == "channels_last"
        and layer.padding == "valid"
        and layer.output_padding is None
        and tuple(layer.dilation_rate) == (1, 1)
        and tuple(layer.kernel_size) == tuple(layer.strides)
    )


def _convolve(convolution: Convolution, x):
    layer = _inner(convolution.layer)
    x = ops.cast(x, layer.compute_dtype)
    factor, bias = _factor_and_bias(layer, convolution.norm)
    bias = ops.cast(bias, x.dtype)
    if _is_fully_connected(convolution, x):
        return _multiply(convolution, x, factor, bias)
    if _makes_blocks(convolution.layer):
        return _multiply_to_blocks(convolution, x, factor, bias)
    kernel = layer.kernel if factor is None else layer.kernel * factor
    kernel = ops.cast(kernel, x.dtype)
    settings = layer.strides, layer.padding, convolution.relu
    if not isinstance(convolution.layer, PerROI):
        return backend.conv2d(x, kernel, bias, *settings)
    rois = x.shape[1]
    x = backend.conv2d(ops.reshape(x, (-1, *x.shape[2:])), kernel, bias, *settings)
    return ops.reshape(x, (-1, rois, *x.shape[1:]))


def _is_fully_connected(convolution: Convolution, x) -> bool:
    """Whether a convolution sees the whole of each ROI at once."""
    layer = _inner(convolution.layer)
    whole = isinstance(convolution.layer, PerROI) and tuple(x.shape[2:4]) == layer.kernel_size
    return whole and layer.padding == "valid"


def _multiply(convolution: Convolution, x, factor, bias):
    """The same by a product of matrices, which is much faster; few numbers come out to scale."""
    layer = _inner(convolution.layer)
    kernel = ops.reshape(ops.cast(layer.kernel, x.dtype), (-1, layer.filters))
    rows = ops.reshape(x, (-1, kernel.shape[0]))
    y = ops.matmul(rows, kernel)
    y = (y if factor is None else y * ops.cast(factor, x.dtype)) + bias
    y = ops.relu(y) if convolution.relu else y
    return ops.reshape(y, (-1, x.shape[1], 1, 1, layer.filters))


def _multiply_to_blocks(convolution: Convolution, x, factor, bias):
    """The same by a product of matrices for each row of a block.

    XLA on a CPU has no fast kernel for the gradient of a transposed convolution's kernel: 9 s for
    the mask head's, of 64 ROIs, where the product takes 0.1 s.
    """
    layer = _inner(convolution.layer)
    kernel = ops.cast(layer.kernel, x.dtype)  # [h, w, filters, C]
    if factor is not None:
        kernel = kernel * ops.cast(factor, x.dtype)[:, None]
    rois, height, width, channels = x.shape[1:]
    down, across = layer.kernel_size
    cells = ops.reshape(x, (-1, channels))
    rows = []
    for row in range(down):
        weights = ops.reshape(ops.transpose(kernel[row], (2, 0, 1)), (channels, -1))
        y = ops.matmul(cells, weights) + ops.tile(bias, across)
        y = ops.relu(y) if convolution.relu else y
        rows.append(ops.reshape(y, (-1, height, 1, width * across, layer.filters)))
    y = ops.concatenate(rows, axis=2)
    return ops.reshape(y, (-1, rois, height * down, width * across, layer.filters))


def _factor_and_bias(layer: layers.Layer, norm: layers.BatchNormalization | None):
    """What the kernel is multiplied by, or None, and what is added: `[filters]` float32 each."""
    bias = ops.convert_to_tensor(layer.bias) if layer.use_bias else ops.zeros(layer.filters)
    if norm is None:
        return None, bias
    factor = ops.rsqrt(norm.moving_variance + norm.epsilon)
    if norm.scale:
        factor = factor * norm.gamma
    bias = (bias - norm.moving_mean) * factor
    return factor, bias + norm.beta if norm.center else bias
