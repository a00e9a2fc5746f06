"""Values of a graph's tensors; each convolution is computed with its normalisation and ReLU.

The graph is walked tensor by tensor. The caller traces or compiles the walk as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import keras
from keras import KerasTensor

from mrcnn.execution.convolutions import convolution_ending_in, convolve
from mrcnn.execution.graph_record import LayerCall, arguments_of, call_of
from mrcnn.types import Tensor

Given: TypeAlias = Sequence[tuple[KerasTensor, Tensor]]
"""Symbolic tensors with their values."""


def values_of(outputs: Sequence[KerasTensor], given: Given, training: bool = False) -> list[Tensor]:
    """Values of symbolic tensors of a functional model.

    Args:
        outputs: tensors such as `layer.output`.
        given: values of tensors from which all outputs can be computed: the model's inputs, or
            intermediate tensors, which are then not computed.
        training: run layers in training mode. Normalisation that uses batch statistics in training
            is then not folded.

    Returns:
        One value per output.
    """
    values = {id(tensor): value for tensor, value in given}
    waiting = list(outputs)[::-1]
    # An explicit stack, because a ResNet101 is deeper than Python's recursion limit.
    while waiting:
        tensor = waiting[-1]
        if id(tensor) in values:
            waiting.pop()
            continue
        convolution = convolution_ending_in(tensor, values, training)
        needed = [convolution.source] if convolution else call_of(tensor).inputs
        missing = [x for x in needed if id(x) not in values]
        if missing:
            waiting += missing
        elif convolution:
            values[id(tensor)] = convolve(convolution, values[id(convolution.source)])
        else:
            call = call_of(tensor)
            results = keras.tree.flatten(_results(call, values, training))
            values |= {id(x): value for x, value in zip(call.outputs, results, strict=True)}
    return [values[id(tensor)] for tensor in outputs]


def _results(call: LayerCall, values: dict[int, Tensor], training: bool) -> Tensor:
    """The outputs of a layer, or of a model inside the model, for its arguments."""
    args, kwargs = arguments_of(call, values)
    if isinstance(call.layer, keras.Model):
        given = zip(call.layer.inputs, keras.tree.flatten(args), strict=True)
        return values_of(call.layer.outputs, list(given), training)
    if "training" in kwargs:
        kwargs["training"] = training  # as Keras' models do
    return call.layer(*args, **kwargs)
