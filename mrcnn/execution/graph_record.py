"""Keras' record of a functional graph: which call of which layer a symbolic tensor comes from.

This is the only file that uses Keras' private attributes `_keras_history` and `_inbound_nodes`. The
public `keras.models.clone_model(…, call_function=…)` was tried instead, and has four disadvantages.
It passes one layer at a time, so the layer after a convolution is unknown. A model inside the model
comes as one call. Each part of a graph adds calls to the user's layers. A layer that replaces
several layers runs in a separate autocast scope, which changes results in half precision.
`ancestor` of `mrcnn.inspection` needs the record in any case.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import keras
from keras import KerasTensor

from mrcnn.types import Tensor


class LayerCall(NamedTuple):
    """One call of a layer, or of an operation of `keras.ops`, while the graph was built.

    Attributes:
        layer: the layer, operation or model that was called.
        inputs, outputs: symbolic tensors, as flat lists.
        args, kwargs: arguments of the call.
        is_input: True for an input of the graph, which nothing computes.
    """

    layer: Any
    inputs: list[KerasTensor]
    outputs: list[KerasTensor]
    args: tuple
    kwargs: dict[str, Any]
    is_input: bool


def call_of(tensor: KerasTensor) -> LayerCall:
    """The call of a layer that a symbolic tensor comes from.

    Raises:
        ValueError: the tensor belongs to no graph.
    """
    history = getattr(tensor, "_keras_history", None)
    if history is None:
        raise ValueError(
            f"{tensor!r:.100} is no tensor of a model; model.keras_model.get_layer(name).output is"
            " one."
        )
    node = history.operation._inbound_nodes[history.node_index]
    return LayerCall(
        node.operation,
        list(node.input_tensors),
        list(node.output_tensors),
        node.arguments.args,
        node.arguments.kwargs,
        node.is_input,
    )


def arguments_of(call: LayerCall, values: Mapping[int, Tensor]) -> tuple[tuple, dict[str, Any]]:
    """The arguments of a call with values in place of symbolic tensors.

    Args:
        values: values by the `id` of the symbolic tensor.
    """
    return keras.tree.map_structure(
        lambda x: values[id(x)] if isinstance(x, KerasTensor) else x, (call.args, call.kwargs)
    )


def calls_before(tensors: Any, seen: list[KerasTensor]) -> Iterator[LayerCall]:
    """All calls from which tensors are computed; depth first, the nearest first.

    Args:
        tensors: one symbolic tensor, or several in any nesting.
        seen: tensors to skip; visited tensors are added.
    """
    known = {id(tensor) for tensor in seen}
    waiting = keras.tree.flatten(tensors)[::-1]
    while waiting:
        tensor = waiting.pop()
        if id(tensor) in known:
            continue
        known.add(id(tensor))
        seen.append(tensor)
        call = call_of(tensor)
        yield call
        waiting += call.inputs[::-1]


def tensors_between(source: KerasTensor, output: KerasTensor) -> list[KerasTensor]:
    """All tensors from which `output` is computed, in order of computation; `output` is the last.

    `source` and the tensors that only `source` depends on are left out.
    """
    done: dict[int, KerasTensor] = {}
    waiting = [output]
    while waiting:
        needed = [x for x in call_of(waiting[-1]).inputs if x is not source]
        missing = [x for x in needed if id(x) not in done]
        if missing:
            waiting += missing
        else:
            tensor = waiting.pop()
            done[id(tensor)] = tensor
    return list(done.values())
