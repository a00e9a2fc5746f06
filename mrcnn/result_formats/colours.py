"""Colours that differ from each other: one per class or object, the same in every format."""

from __future__ import annotations

import colorsys

# A turn of the golden section puts each new hue far from those before it.
_TURN = 0.618034


def colour_of(number: int) -> tuple[int, int, int]:
    """(red, green, blue) in 0..255."""
    red, green, blue = colorsys.hsv_to_rgb(number * _TURN % 1, 0.85, 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)
