"""A convolution with the batch normalisation and the ReLU that follow it, computed as one.

Normalisation with fixed statistics is one factor and one shift per channel, which can be folded
into a convolution's kernel and bias. The activations are then written to memory once instead of
three times, and stored once for the gradients. The kernel is folded in every run, from the
network's own variables. This is a hundredth of the work, needs no second copy of the weights, and
is never out of date. Kernel, gamma and beta get the same gradients as without folding.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any, NamedTuple

import keras
from keras import KerasTensor, layers, ops

from mrcnn import backend
from mrcnn.execution.graph_record import call_of
from mrcnn.nn.heads import PerROI
from mrcnn.types import Tensor


class Convolution(NamedTuple):
    """A convolution with the layers that follow it.

    Attributes:
        source: its input.
        layer: a Conv2D, a PerROI around one, or a PerROI around a Conv2DTranspose whose blocks do
            not overlap.
        norm: the normalisation that follows, if any.
        relu: True if a ReLU follows.
    """

    source: KerasTensor
    layer: layers.Layer
    norm: layers.BatchNormalization | None
    relu: bool


def convolution_ending_in(
    tensor: KerasTensor, known: Container[int], training: bool
) -> Convolution | None:
    """The convolution that ends in a tensor, or None if it cannot be computed as one.

    The end is a ReLU, a batch normalisation or the convolution itself. If another layer needs a
    tensor between convolution and end, that tensor is computed a second time.

    Args:
        known: ids of tensors whose values are known.
        training: whether normalisation may use batch statistics.
    """
    call = call_of(tensor)
    relu = type(call.layer) is layers.Activation and _is_relu(call.layer)
    if relu:
        tensor = call.inputs[0]
        call = call_of(tensor)
    norm = call.layer if _has_fixed_statistics(call.layer, training) else None
    if norm:
        tensor = call.inputs[0]
        call = call_of(tensor)
    if id(tensor) in known:
        return None
    convolution = _inner(call.layer)
    if not _is_plain(convolution) and not _makes_blocks(call.layer):
        return None
    if _is_relu(convolution):
        if norm or relu:
            return None
        relu = True
    elif convolution.activation is not keras.activations.linear:
        return None
    return Convolution(call.inputs[0], call.layer, norm, relu)


def _inner(layer: Any) -> Any:
    return layer.layer if isinstance(layer, PerROI) else layer


def _is_relu(layer: layers.Layer) -> bool:
    return layer.activation is keras.activations.relu


def _has_fixed_statistics(layer: Any, training: bool) -> bool:
    """Whether a layer normalises the last axis by its moving statistics."""
    # A subclass that overrides `call` may compute anything.
    if getattr(type(layer), "call", None) is not layers.BatchNormalization.call:
        return False
    wanted = getattr(layer, "train_bn", None)
    by_batch = wanted if wanted is not None else training
    return not by_batch and layer.axis in (-1, layer.input_spec.ndim - 1)


def _is_plain(layer: Any) -> bool:
    """Whether a layer is a convolution and nothing more."""
    return (
        type(layer) is layers.Conv2D
        and layer.data_format == "channels_last"
        and layer.groups == 1
        and tuple(layer.dilation_rate) == (1, 1)
    )


def _makes_blocks(wrapper: Any) -> bool:
    """Whether a layer turns each cell of a ROI into a block of cells, and no blocks overlap."""
    layer = _inner(wrapper)
    return (
        isinstance(wrapper, PerROI)
        and type(layer) is layers.Conv2DTranspose
        and layer.data_format == "channels_last"
        and layer.padding == "valid"
        and layer.output_padding is None
        and tuple(layer.dilation_rate) == (1, 1)
        and tuple(layer.kernel_size) == tuple(layer.strides)
    )


def convolve(convolution: Convolution, x: Tensor) -> Tensor:
    """The value at a convolution's end for the value `x` of its source."""
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


def _is_fully_connected(convolution: Convolution, x: Tensor) -> bool:
    """Whether a convolution's kernel covers the whole ROI."""
    layer = _inner(convolution.layer)
    whole = isinstance(convolution.layer, PerROI) and tuple(x.shape[2:4]) == layer.kernel_size
    return whole and layer.padding == "valid"


def _multiply(convolution: Convolution, x: Tensor, factor: Tensor | None, bias: Tensor) -> Tensor:
    """A fully connected convolution as a matrix product, which is much faster.

    It scales the result instead of the kernel, which has far more numbers.
    """
    layer = _inner(convolution.layer)
    kernel = ops.reshape(ops.cast(layer.kernel, x.dtype), (-1, layer.filters))
    rows = ops.reshape(x, (-1, kernel.shape[0]))
    y = ops.matmul(rows, kernel)
    y = (y if factor is None else y * ops.cast(factor, x.dtype)) + bias
    y = ops.relu(y) if convolution.relu else y
    return ops.reshape(y, (-1, x.shape[1], 1, 1, layer.filters))


def _multiply_to_blocks(
    convolution: Convolution, x: Tensor, factor: Tensor | None, bias: Tensor
) -> Tensor:
    """A transposed convolution as one matrix product per row of a block.

    XLA on a CPU has no fast kernel for the gradient of a transposed convolution's kernel: for the
    mask head and 64 ROIs it takes 9 s, the matrix product 0.1 s.
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


def _factor_and_bias(
    layer: layers.Layer, norm: layers.BatchNormalization | None
) -> tuple[Tensor | None, Tensor]:
    """The kernel's factor, None for 1, and the bias: `[filters]` float32 each."""
    bias = ops.convert_to_tensor(layer.bias) if layer.use_bias else ops.zeros(layer.filters)
    if norm is None:
        return None, bias
    factor = ops.rsqrt(norm.moving_variance + norm.epsilon)
    if norm.scale:
        factor = factor * norm.gamma
    bias = (bias - norm.moving_mean) * factor
    return factor, bias + norm.beta if norm.center else bias
