"""The layers of a model that hold weights: only this file walks a model's layers.

A nested model such as `rpn_model` counts as the layers inside it, a wrapper as one layer.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence

import keras
import numpy as np

# The layers whose shapes depend on the number of classes. To load weights that were trained for
# other classes, leave them out: `load_weights(path, by_name=True, exclude=CLASS_LAYERS)`.
CLASS_LAYERS = ["mrcnn_class_logits", "mrcnn_bbox_fc", "mrcnn_bbox", "mrcnn_mask"]


def all_layers(model: keras.Model) -> Iterator[keras.Layer]:
    """All layers; a nested model is followed by the layers inside it."""
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from all_layers(layer)


def layers_with_weights(model: keras.Model) -> list[keras.Layer]:
    """The layers that hold weights, frozen or not, in the model's order."""
    return [
        layer for layer in all_layers(model) if layer.weights and not isinstance(layer, keras.Model)
    ]


def weighted_layers(model: keras.Model) -> dict[str, keras.Layer]:
    """The layers that hold weights, by name.

    Raises:
        ValueError: two layers have the same name.
    """
    layers: dict[str, keras.Layer] = {}
    for layer in layers_with_weights(model):
        if layers.setdefault(layer.name, layer) is not layer:
            raise ValueError(f"two layers of the model are named {layer.name!r}; rename one")
    return layers


def excluded_layers(model: keras.Model, exclude: Sequence[str]) -> set[str]:
    """Names of the layers with weights that `exclude` stands for.

    Args:
        exclude: names of layers; a nested model's name stands for all layers inside it.

    Raises:
        ValueError: `exclude` is a string, or names a layer that the model does not have.
    """
    if isinstance(exclude, str):
        raise ValueError(f"exclude is a list of layer names, received the string {exclude!r}")
    layers = {layer.name: layer for layer in all_layers(model)}
    excluded: set[str] = set()
    for name in exclude:
        if name not in layers:
            (nearest,) = difflib.get_close_matches(str(name), layers, n=1, cutoff=0)
            raise ValueError(
                f"exclude names {name!r}, which the model does not have; did you mean {nearest!r}?"
            )
        layer = layers[name]
        excluded.update(weighted_layers(layer) if isinstance(layer, keras.Model) else [name])
    return excluded & weighted_layers(model).keys()


def keras2_layers(model: keras.Model) -> dict[str, dict[str, np.ndarray]]:
    """Weights of each top-level layer under the names that Keras 2 gave them.

    Returns:
        {layer: {weight: array}}, for example {"conv1": {"conv1/kernel:0": array}}.

    Raises:
        ValueError: two layers have the same name; no reader could tell them apart.
    """
    weighted_layers(model)
    return {layer.name: keras2_weights(layer) for layer in model.layers}


def keras2_weights(layer: keras.Layer) -> dict[str, np.ndarray]:
    """Weights of one layer or nested model under Keras 2's names, such as `conv1/kernel:0`."""
    owners = weighted_layers(layer).values() if isinstance(layer, keras.Model) else [layer]
    arrays: dict[str, np.ndarray] = {}
    for owner in owners:
        names = [variable.name for variable in owner.weights]
        for index, variable in enumerate(owner.weights):
            copies = names[:index].count(variable.name)
            suffix = f"_{copies}" if copies else ""  # only in layers made of several
            arrays[f"{owner.name}/{variable.name}{suffix}:0"] = np.asarray(variable)
    return arrays
