"""Which layers train: presets and regular expressions of layer names."""

from __future__ import annotations

import re

import keras

from mrcnn.weights.layers import layers_with_weights

_HEADS = r"(mrcnn\_.*)|(rpn\_.*)|(fpn\_.*)"

# Regular expressions of layer names, by the names that `train(layers=…)` takes.
LAYER_PRESETS = {
    "heads": _HEADS,
    "5+": rf"(res5.*)|(bn5.*)|{_HEADS}",
    "4+": rf"(res4.*)|(bn4.*)|(res5.*)|(bn5.*)|{_HEADS}",
    "3+": rf"(res3.*)|(bn3.*)|(res4.*)|(bn4.*)|(res5.*)|(bn5.*)|{_HEADS}",
    "all": ".*",
}


def set_trainable(model: keras.Model, layer_regex: str) -> list[str]:
    """Make those layers trainable whose whole name matches, and freeze all others.

    Args:
        model: layers of nested models are matched one by one.
        layer_regex: a regular expression, or the name of a preset in LAYER_PRESETS.

    Returns:
        Names of the layers with weights that train now.

    Raises:
        ValueError: it is no regular expression, or it matches no layer with weights.
    """
    expression = LAYER_PRESETS.get(layer_regex, layer_regex)
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise ValueError(
            f"layers is {layer_regex!r}, no regular expression ({error}); it must be one, or "
            f"one of {', '.join(LAYER_PRESETS)}."
        ) from error
    weighted = layers_with_weights(model)
    selected = [layer.name for layer in weighted if pattern.fullmatch(layer.name)]
    if not selected:
        raise ValueError(
            f"layers is {layer_regex!r}, which matches no layer with weights; it must be a "
            f"regular expression for layer names, or one of {', '.join(LAYER_PRESETS)}."
        )
    for layer in weighted:
        layer.trainable = layer.name in selected
    return selected
