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
    low, high = (pixels.min(), pixels.max()) if pixels.size else (0, 0)
    if white is not None and 0 <= low and high <= white:
        return Scaled(_scaled(pixels, 0, white), None)
    if pixels.dtype.kind == "f" and 0 <= low and high <= 1:
        return Scaled(_scaled(pixels, 0, 1), None)
    if not 0 <= low <= high <= _LARGEST or not _is_whole(pixels):
        raise ValueError(
            f"has pixels of {pixels.dtype} from {low} to {high}; only whole numbers of 0..65535 "
            "and floats of 0..1 have a known brightness. Set IMAGE_VALUE_RANGE of the Config, or "
            "image_value_range of the Dataset, to the values of black and white."
        )
    guess = (0, white_of(float(high)))
    is_full = pixels.dtype == np.uint16 and guess[1] == _LARGEST
    return Scaled(_scaled(pixels, *guess), None if is_full else guess)


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
