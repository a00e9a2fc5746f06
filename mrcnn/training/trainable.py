"""Which layers train: presets, and regular expressions of layer names."""

from __future__ import annotations

import re

import keras

_HEADS = r"(mrcnn\_.*)|(rpn\_.*)|(fpn\_.*)"


# What `train(layers=…)` means: regular expressions for the names of layers.
LAYER_PRESETS = {
    "heads": _HEADS,
    "5+": rf"(res5.*)|(bn5.*)|{_HEADS}",
    "4+": rf"(res4.*)|(bn4.*)|(res5.*)|(bn5.*)|{_HEADS}",
    "3+": rf"(res3.*)|(bn3.*)|(res4.*)|(bn4.*)|(res5.*)|(bn5.*)|{_HEADS}",
    "all": ".*",
}


def set_trainable(model: keras.Model, layer_regex: str) -> list[str]:
    """Let exactly the layers whose whole name matches train.

    Args:
        model: layers of models inside it are looked at one by one.
        layer_regex: a regular expression or the name of a preset, see LAYER_PRESETS.

    Returns:
        Names of the layers with weights that train now.

    Raises:
        ValueError: no regular expression, or one that matches no layer with weights.
    """
    expression = LAYER_PRESETS.get(layer_regex, layer_regex)
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise ValueError(
            f"layers is {layer_regex!r}, no regular expression ({error}); it must be one, or "
            f"one of {', '.join(LAYER_PRESETS)}."
        ) from error
    weighted = list(_layers_with_weights(model))
    selected = [layer.name for layer in weighted if pattern.fullmatch(layer.name)]
    if not selected:
        raise ValueError(
            f"layers is {layer_regex!r}, which matches no layer with weights; it must be a "
            f"regular expression for layer names, or one of {', '.join(LAYER_PRESETS)}."
        )
    for layer in weighted:
        layer.trainable = layer.name in selected
    return selected


def _layers_with_weights(model: keras.Model):
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _layers_with_weights(layer)
        elif layer.weights:
            yield layer
