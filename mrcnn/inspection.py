"""Looking inside a network: its layers with weights, its tensors by name, and their values.

pillar = model.keras_model.get_layer("ROI").output
tensor = model.ancestor(pillar, "ROI/refined_anchors:0")
values = model.run_graph([image], [("refined_anchors", tensor), ("proposals", pillar)])
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping

import keras
import numpy as np
from keras import KerasTensor, layers, ops

from mrcnn.execution.graph_record import call_of, calls_before
from mrcnn.nn.proposals import ProposalLayer

# Outputs of ProposalSteps under the names that the original gave to the operations in its "ROI".
STEP_NAMES = (
    "pre_nms_anchors",
    "refined_anchors",
    "refined_anchors_clipped",
    "rpn_non_max_suppression",
)


# ---- Layers ----------------------------------------------------------------------------------


def find_trainable_layer(layer: keras.Layer) -> keras.Layer:
    """The layer that holds the weights: the one inside a wrapper, else the layer itself."""
    while isinstance(layer, layers.Wrapper):
        layer = layer.layer
    return layer


def get_trainable_layers(model: keras.Model) -> list[keras.Layer]:
    """All layers with weights, those of models inside the model one by one, frozen or not."""
    found = []
    for layer in map(find_trainable_layer, model.layers):
        if isinstance(layer, keras.Model):
            found += get_trainable_layers(layer)
        elif layer.weights:
            found.append(layer)
    return found


# ---- Tensors by name -------------------------------------------------------------------------


class ProposalSteps(layers.Layer):
    """The steps of a ProposalLayer as outputs.

    Args:
        proposals: the layer.

    Call arguments: those of `proposals`.

    Returns:
        Anchors by score, refined, and clipped, each `[B, K, (y1, x1, y2, x2)]`, normalised, K the
        lesser of the number of anchors and `pre_nms_limit`; and `[M]` int32, the rows of the first
        image's clipped anchors that its proposals are.
    """

    def __init__(self, proposals: ProposalLayer, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.proposals = proposals

    def call(self, inputs):
        steps = self.proposals.steps(inputs)
        boxes = (steps.pre_nms_anchors, steps.refined_anchors, steps.refined_anchors_clipped)
        # Rows beyond the number of anchors are padding.
        anchor_count = ops.shape(inputs[2])[1]
        kept_count = ops.sum(ops.cast(steps.valid[0], "int32"))
        return (*(rows[:, :anchor_count] for rows in boxes), steps.kept[0, :kept_count])

    def compute_output_spec(self, inputs):
        boxes = (KerasTensor((inputs[2].shape[0], None, 4)) for _ in range(3))
        return (*boxes, KerasTensor((None,), "int32"))


def ancestor(tensor, name: str, checked: list | None = None) -> KerasTensor | None:
    """The nearest tensor of this name that another comes from.

    Args:
        tensor: symbolic tensor of a model, as `layer.output` is, or several.
        name: of a layer, for its output, with or without `:0`; `:1` is its second output. Or of a
            step of the proposals: `ROI/` with pre_nms_anchors, refined_anchors,
            refined_anchors_clipped or rpn_non_max_suppression, with or without the operation that
            TensorFlow 1 had below that. `_1` and so on may follow in the model's names.
        checked: tensors not to look at; all that were looked at are added.

    Returns:
        The tensor, which `run_graph` can compute, or None if there is none.

    Raises:
        ValueError: `tensor` belongs to no model.
    """
    name, _, index = name.partition(":")
    name = re.sub(r"(/rpn_non_max_suppression)/NonMaxSuppressionV\d$", r"\1", name)
    index = int(index) if index.isdigit() else 0
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


def _step_names(operation) -> list[str]:
    if not isinstance(operation, ProposalLayer):
        return []
    return [f"{operation.name}/{name}" for name in STEP_NAMES]


# ---- Values ----------------------------------------------------------------------------------


def run_graph(inputs: Mapping, outputs: Iterable[tuple]) -> OrderedDict[str, np.ndarray]:
    """Compute tensors of a model, as in detection: nothing is trained, no statistics move.

    Only what the tensors depend on is computed. It runs without compilation, so that the number of
    rows may depend on the image.

    Args:
        inputs: array by name of the input layer; ones that are not needed may be there.
        outputs: `(name, tensor)` each, a name of your own and a symbolic tensor of the model.

    Returns:
        Array by name, in the order of `outputs`; half precision comes as float32.

    Raises:
        ValueError: an output is no tensor of a model, or depends on an input that is not given.
    """
    tensors = OrderedDict(outputs)
    sources = _sources(tensors, inputs)
    given = {name: inputs[name] for name in sources}
    # An input layer's own tensor goes past the model, which would compute nothing for it.
    computed = {
        name: tensor
        for name, tensor in tensors.items()
        if not any(tensor is source for source in sources.values())
    }
    values = {}
    if computed:
        model = keras.Model(list(sources.values()), list(computed.values()))
        results = model([ops.convert_to_tensor(x) for x in given.values()], training=False)
        # Keras gives a list of one output as that output.
        values = dict(zip(computed, keras.tree.flatten(results), strict=True))
    return OrderedDict(
        (name, _array(values[name] if name in values else given[call_of(tensor).layer.name]))
        for name, tensor in tensors.items()
    )


def _sources(tensors: Mapping, inputs: Mapping) -> dict:
    """Tensors of the input layers that these depend on, by the layer's name."""
    sources = {}
    for name, tensor in tensors.items():
        if not isinstance(tensor, KerasTensor):
            raise ValueError(
                f"output {name!r} is {tensor!r:.80}; it must be a tensor of the model, "
                "keras_model.get_layer(…).output or what ancestor() found."
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
                f"{', '.join(inputs)}; what comes after the proposals needs an inference model."
            )
        sources |= needed
    return sources


def _array(value) -> np.ndarray:
    if keras.backend.standardize_dtype(value.dtype) in ("float16", "bfloat16"):
        value = ops.cast(value, "float32")
    return ops.convert_to_numpy(value)
