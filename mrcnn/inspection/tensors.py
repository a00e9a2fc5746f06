"""Inspecting a network: its layers with weights, its tensors by name, and their values.

A tensor by the original's name, and its values for an image:

    pillar = model.keras_model.get_layer("ROI").output
    tensor = model.ancestor(pillar, "ROI/refined_anchors:0")
    values = model.run_graph([image], [("refined_anchors", tensor), ("proposals", pillar)])
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np
from keras import KerasTensor, layers, ops

from mrcnn.execution.graph_record import call_of, calls_before
from mrcnn.nn.proposals import ProposalLayer
from mrcnn.types import Tensor
from mrcnn.weights.layers import layers_with_weights

# Outputs of ProposalSteps under the names that the original gave to the operations in its "ROI".
STEP_NAMES = (
    "pre_nms_anchors",
    "refined_anchors",
    "refined_anchors_clipped",
    "rpn_non_max_suppression",
)


# ---- Layers ----------------------------------------------------------------------------------


def find_trainable_layer(layer: keras.Layer) -> keras.Layer:
    """The layer that holds the weights: a wrapper's inner layer, otherwise the layer itself."""
    while isinstance(layer, layers.Wrapper):
        layer = layer.layer
    return layer


def get_trainable_layers(model: keras.Model) -> list[keras.Layer]:
    """All layers with weights, frozen or not, including the layers of models inside the model."""
    return [find_trainable_layer(layer) for layer in layers_with_weights(model)]


# ---- Tensors by name -------------------------------------------------------------------------


class ProposalSteps(layers.Layer):
    """The intermediate results of a ProposalLayer as outputs.

    Args:
        proposals: the layer.

    Call arguments: those of `proposals`.

    Returns:
        Anchors in order of score, then refined, then clipped, each `[B, K, (y1, x1, y2, x2)]`,
        normalised, K the smaller of the number of anchors and `pre_nms_limit`; and `[M]` int32, the
        rows of the first image's clipped anchors that became its proposals.
    """

    def __init__(self, proposals: ProposalLayer, **kwargs: Any):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.proposals = proposals

    def call(self, inputs: list[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See the class."""
        steps = self.proposals.steps(inputs)
        boxes = (steps.pre_nms_anchors, steps.refined_anchors, steps.refined_anchors_clipped)
        # Rows beyond the number of anchors are padding.
        anchor_count = ops.shape(inputs[2])[1]
        kept_count = ops.sum(ops.cast(steps.valid[0], "int32"))
        first, refined, clipped = (rows[:, :anchor_count] for rows in boxes)
        return first, refined, clipped, steps.kept[0, :kept_count]

    def compute_output_spec(
        self, inputs: list[KerasTensor]
    ) -> tuple[KerasTensor, KerasTensor, KerasTensor, KerasTensor]:
        """Symbolic outputs of `call`."""
        first, refined, clipped = (KerasTensor((inputs[2].shape[0], None, 4)) for _ in range(3))
        return first, refined, clipped, KerasTensor((None,), "int32")


def ancestor(tensor: Any, name: str, checked: list | None = None) -> KerasTensor | None:
    """The nearest tensor of this name from which a tensor is computed.

    Args:
        tensor: symbolic tensor of a model, such as `layer.output`, or several of them.
        name: name of a layer, for its output, with or without `:0`; `:1` is its second output. Or a
            step of the proposals: `ROI/` followed by pre_nms_anchors, refined_anchors,
            refined_anchors_clipped or rpn_non_max_suppression, and optionally by the name of
            TensorFlow 1's operation. Names in the model may have an ending such as `_1`.
        checked: tensors to skip; searched tensors are added.

    Returns:
        The tensor, which `run_graph` can compute, or None if there is no such tensor.

    Raises:
        ValueError: `tensor` belongs to no model.
    """
    name, _, number = name.partition(":")
    name = re.sub(r"(/rpn_non_max_suppression)/NonMaxSuppressionV\d$", r"\1", name)
    index = int(number) if number.isdigit() else 0
    calls = list(calls_before(tensor, [] if checked is None else checked))
    for suffix in ("", r"(_\d+)?"):
        parts = (re.escape(part) + suffix for part in name.split("/"))
        pattern = re.compile("(.*/)?" + "/".join(parts))
        for call in calls:
            if pattern.fullmatch(call.layer.name) and index < len(call.outputs):
                return call.outputs[index]
            for step, step_name in enumerate(_step_names(call.layer)):
                if pattern.fullmatch(step_name) and index == 0:
                    return ProposalSteps(call.layer)(call.inputs)[step]
    return None


def _step_names(layer: keras.Operation) -> list[str]:
    if not isinstance(layer, ProposalLayer):
        return []
    return [f"{layer.name}/{name}" for name in STEP_NAMES]


# ---- Values ----------------------------------------------------------------------------------


def run_graph(
    inputs: Mapping[str, np.ndarray], outputs: Iterable[tuple[str, KerasTensor]]
) -> OrderedDict[str, np.ndarray]:
    """Compute tensors of a model in inference mode, without training anything.

    Other tensors are computed only if these need them. The graph is not compiled, because the
    number of rows may depend on the image.

    Args:
        inputs: arrays by the names of the input layers; inputs that are not needed are ignored.
        outputs: pairs `(name, tensor)` of a name of your choice and a symbolic tensor of the model.

    Returns:
        Arrays by name, in the order of `outputs`; half precision is converted to float32.

    Raises:
        ValueError: an output is not a tensor of a model, or needs an input that is not given.
    """
    tensors: OrderedDict[str, KerasTensor] = OrderedDict(outputs)
    sources = _sources(tensors, inputs)
    given = {name: inputs[name] for name in sources}
    # The value of an input layer's tensor is the given array, so no model is needed for it.
    computed = {
        name: tensor
        for name, tensor in tensors.items()
        if not any(tensor is source for source in sources.values())
    }
    values: dict[str, Tensor] = {}
    if computed:
        model = keras.Model(list(sources.values()), list(computed.values()))
        results = model([ops.convert_to_tensor(x) for x in given.values()], training=False)
        # Keras returns a single output without a list around it.
        values = dict(zip(computed, keras.tree.flatten(results), strict=True))
    return OrderedDict(
        (name, _array(values[name] if name in values else given[call_of(tensor).layer.name]))
        for name, tensor in tensors.items()
    )


def _sources(
    tensors: Mapping[str, KerasTensor], inputs: Mapping[str, np.ndarray]
) -> dict[str, KerasTensor]:
    """Tensors of the input layers on which these depend, by the layers' names."""
    sources: dict[str, KerasTensor] = {}
    for name, tensor in tensors.items():
        if not isinstance(tensor, KerasTensor):
            raise ValueError(
                f"output {name!r} is {tensor!r:.80}; it must be a tensor of the model, such as "
                "keras_model.get_layer(…).output or the result of ancestor()."
            )
        needed = {
            call.layer.name: call.outputs[0]
            for call in calls_before(tensor, [])
            if isinstance(call.layer, layers.InputLayer)
        }
        missing = sorted(needed.keys() - inputs.keys())
        if missing:
            raise ValueError(
                f"output {name!r} depends on {', '.join(missing)}, and run_graph has only "
                f"{', '.join(inputs)}; tensors after the proposals need an inference model."
            )
        sources |= needed
    return sources


def _array(value: Tensor) -> np.ndarray:
    if keras.backend.standardize_dtype(value.dtype) in ("float16", "bfloat16"):
        value = ops.cast(value, "float32")
    return ops.convert_to_numpy(value)
