"""Pixels of any number type as 8 bits: which value becomes black and which white.

A file of 16 bits often uses fewer: cameras write 10, 12 or 14 bits into it, and some programs store
8-bit images in it. A fixed division by 257 would make these images almost black.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# Beyond this, integers have no known white.
_LARGEST = 2**16 - 1


class Scaled(NamedTuple):
    """Pixels in 8 bits."""

    pixels: np.ndarray  # uint8, same shape as before
    guess: tuple[float, float] | None  # black and white if they were derived from the data alone


def to_8_bits(
    pixels: np.ndarray,
    value_range: Sequence[float] | None = None,
    white: float | None = None,
) -> Scaled:
    """Pixels as uint8: linear from black (0) to white (255); values beyond are clipped.

    uint8 stays as it is. Booleans become 0 and 255.

    Args:
        pixels: array of any shape and number type.
        value_range: `(black, white)`; None: decided by the file or the data.
        white: the largest possible value where the file states it.

    Raises:
        ValueError: pixels are not finite, or the value of white is neither stated nor clear from
            the data. The message begins with a verb; the caller puts the file's name before it.
    """
    if pixels.dtype == np.uint8:
        return Scaled(pixels, None)
    if pixels.dtype == bool:
        return Scaled(pixels.astype(np.uint8) * np.uint8(255), None)
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise ValueError("has pixels that are NaN or infinite.")
    if value_range is not None:
        return Scaled(_scaled(pixels, *value_range), None)
    chosen, is_guess = range_of(statistics_of(pixels), white)
    return Scaled(_scaled(pixels, *chosen), chosen if is_guess else None)


class Statistics(NamedTuple):
    """What the range of values follows from; that of several parts is that of the whole.

    Attributes:
        dtype: of the pixels. low, high: lowest and highest value.
        is_whole: whether all are whole numbers.
    """

    dtype: np.dtype
    low: float
    high: float
    is_whole: bool


def statistics_of(pixels: np.ndarray) -> Statistics:
    """Statistics of pixels of any shape; of none, they are zero."""
    low, high = (pixels.min(), pixels.max()) if pixels.size else (0, 0)
    return Statistics(pixels.dtype, low, high, _is_whole(pixels))


def range_of(pixels: Statistics, white: float | None) -> tuple[tuple[float, float], bool]:
    """Values of black and white, and whether they were derived from the data alone.

    Args:
        pixels: statistics of an image. white: as in `to_8_bits`.

    Raises:
        ValueError: as `to_8_bits`.
    """
    dtype, low, high, is_whole = pixels
    if white is not None and 0 <= low and high <= white:
        return (0, white), False
    if dtype.kind == "f" and 0 <= low and high <= 1:
        return (0, 1), False
    if not 0 <= low <= high <= _LARGEST or not is_whole:
        raise ValueError(
            f"has pixels of {dtype} from {low} to {high}; only whole numbers of 0..65535 "
            "and floats of 0..1 have a known brightness. Set IMAGE_VALUE_RANGE of the Config, or "
            "image_value_range of the Dataset, to the values of black and white."
        )
    guess = (0, white_of(float(high)))
    return guess, dtype != np.uint16 or guess[1] != _LARGEST


def white_of(highest: float) -> float:
    """White of an image with this highest value: the largest number of 8, 10, 12, 14 or 16 bits."""
    bits = max(8, int(highest).bit_length())
    return 2 ** (bits + bits % 2) - 1


def _is_whole(pixels: np.ndarray) -> bool:
    return pixels.dtype.kind in "iu" or bool((pixels == np.floor(pixels)).all())


def _scaled(pixels: np.ndarray, black: float, white: float) -> np.ndarray:
    if pixels.dtype == np.uint16:  # looked up: a tenth of the time
        return _scaled(np.arange(_LARGEST + 1, dtype=np.float64), black, white)[pixels]
    exact = np.float64 if pixels.dtype.kind in "iu" else np.promote_types(pixels.dtype, np.float32)
    levels = (pixels.astype(exact) - black) * 255 / (white - black)
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)
