"""The layers of a model that hold weights, by name: the one place that walks them."""

import difflib
from collections.abc import Iterator, Sequence

import keras
import numpy as np


def _walk(model: keras.Model) -> Iterator[keras.Layer]:
    """All layers, a nested model followed by the layers inside it."""
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from _walk(layer)


def weighted_layers(model: keras.Model) -> dict[str, keras.Layer]:
    layers: dict[str, keras.Layer] = {}
    for layer in _walk(model):
        if isinstance(layer, keras.Model) or not layer.weights:
            continue
        if layers.setdefault(layer.name, layer) is not layer:
            raise ValueError(f"two layers of the model are named {layer.name!r}; rename one")
    return layers


def excluded_layers(model: keras.Model, exclude: Sequence[str]) -> set[str]:
    """Names of the weighted layers that `exclude` stands for."""
    if isinstance(exclude, str):
        raise ValueError(f"exclude is a list of layer names, received the string {exclude!r}")
    layers = {layer.name: layer for layer in _walk(model)}
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
    """Weights of each top-level layer by the names that Keras 2 gave them, `conv1/kernel:0`."""
    weighted_layers(model)  # names that occur twice: refused here, no reader could tell them apart
    return {layer.name: keras2_weights(layer) for layer in model.layers}


def keras2_weights(layer: keras.Layer) -> dict[str, np.ndarray]:
    owners = weighted_layers(layer).values() if isinstance(layer, keras.Model) else [layer]
    arrays: dict[str, np.ndarray] = {}
    for owner in owners:
        names = [variable.name for variable in owner.weights]
        for index, variable in enumerate(owner.weights):
            copies = names[:index].count(variable.name)
            suffix = f"_{copies}" if copies else ""  # only in layers made of several
            arrays[f"{owner.name}/{variable.name}{suffix}:0"] = np.asarray(variable)
    return arrays
