"""Resizing of arrays: bilinear for images, nearest neighbour for masks.

Bilinear resizing has pixel centres at half coordinates and zeros beyond the border, like
`skimage.transform.resize(order=1, mode="constant", anti_aliasing=False)`: the outermost pixels of
an enlarged array fade. Nearest-neighbour resizing aligns the centres of the corner pixels, like
`scipy.ndimage.zoom(order=0)`. Released weights were trained on images resized in this way.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike

from mrcnn.types import Shape


def resize(
    image: ArrayLike,
    output_shape: Shape,
    order: int = 1,
    mode: str = "constant",
    cval: float = 0,
    clip: bool = True,
    preserve_range: bool = False,
    anti_aliasing: bool = False,
    anti_aliasing_sigma: float | Sequence[float] | None = None,
) -> np.ndarray:
    """`skimage.transform.resize` with the defaults of the original's version of scikit-image.

    Args:
        image: `[height, width, ...]`; booleans count as 0 and 1.
        output_shape: `(height, width)` in pixels; the rest as in scikit-image.

    Returns:
        `[*output_shape, ...]` float; integers are scaled to 0..1 unless `preserve_range`.
    """
    import skimage.transform  # takes half a second, and only this function needs it

    image = np.asarray(image)
    return skimage.transform.resize(
        image.astype(np.float64) if image.dtype == bool else image,
        output_shape,
        order=order,
        mode=mode,
        cval=cval,
        clip=clip,
        preserve_range=preserve_range,
        anti_aliasing=anti_aliasing,
        anti_aliasing_sigma=anti_aliasing_sigma,
    )


def resize_bilinear(image: np.ndarray, shape: Shape) -> np.ndarray:
    """`resize(image, shape, preserve_range=True)`, about a hundred times faster.

    Args:
        image: `[height, width]` or `[height, width, channels]`, numbers or bool; not empty.
        shape: `(height, width)` of the result, in pixels.

    Returns:
        `[*shape, ...]` float32, between the image's lowest and highest value.
    """
    image = np.asarray(image).astype(np.float32)
    low, high = image.min(), image.max()
    resized: np.ndarray = cv2.resize(
        image, (int(shape[1]), int(shape[0])), interpolation=cv2.INTER_LINEAR
    )
    resized = resized.reshape(*shape, *image.shape[2:])
    # OpenCV repeats the border pixels where scikit-image has zeros: scale the new border pixels
    # by the share that comes from inside.
    for axis in (0, 1):
        weight = _border_weight(image.shape[axis], shape[axis])
        fading = np.flatnonzero(weight < 1)
        rows = np.moveaxis(resized, axis, 0)
        rows[fading] *= weight[fading].reshape(-1, *[1] * (rows.ndim - 1))
    return np.clip(resized, low, high, out=resized)


def _border_weight(size: int, new_size: int) -> np.ndarray:
    """Share of each new pixel that comes from inside the array, `[new_size]` float32."""
    center = (np.arange(new_size) + 0.5) * (size / new_size) - 0.5
    outside = np.maximum(np.maximum(-center, center - (size - 1)), 0)
    return (1 - outside).astype(np.float32)


def resize_nearest(image: np.ndarray, scale: float) -> np.ndarray:
    """`scipy.ndimage.zoom(image, [scale, scale, 1], order=0)`, about a hundred times faster.

    Args:
        image: `[height, width, ...]`, any dtype.
        scale: new size / present size.

    Returns:
        `[round(height * scale), round(width * scale), ...]`, same dtype; a side is at least 1.
    """
    rows, columns = (nearest(size, scaled_size(size, scale)) for size in image.shape[:2])
    return image[rows[:, None], columns]


def scaled_size(size: int, scale: float) -> int:
    """A side in pixels after scaling, at least 1: a thin image does not vanish."""
    return max(1, round(size * scale))


def nearest(size: int, new_size: int) -> np.ndarray:
    """Index in the array that each new pixel of `resize_nearest` comes from, `[new_size]` int."""
    step = (size - 1) / (new_size - 1) if new_size > 1 else 1.0
    return np.floor(np.arange(new_size) * step + 0.5).astype(np.intp)
