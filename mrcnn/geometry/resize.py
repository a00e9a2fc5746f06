"""Resizing of arrays: bilinear for images, nearest neighbour for masks.

The bilinear one has pixel centres at half coordinates and zeros beyond the border, as
`skimage.transform.resize(order=1, mode="constant", anti_aliasing=False)`, so the outermost pixels
of an enlarged array fade. The nearest one puts the centres of the corner pixels on each other, as
`scipy.ndimage.zoom(order=0)`. Weights trained with these numbers expect them.
"""

from __future__ import annotations

import cv2
import numpy as np


def resize(
    image,
    output_shape,
    order=1,
    mode="constant",
    cval=0,
    clip=True,
    preserve_range=False,
    anti_aliasing=False,
    anti_aliasing_sigma=None,
) -> np.ndarray:
    """`skimage.transform.resize` with the defaults this network was trained with.

    Args:
        image: `[height, width, ...]`; booleans count as 0 and 1.
        output_shape: `(height, width)` in pixels; the rest as in scikit-image.

    Returns:
        `[*output_shape, ...]` float; in 0..1 for whole numbers unless `preserve_range`.
    """
    import skimage.transform  # half a second, and only this function needs it

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


def resize_bilinear(image: np.ndarray, shape) -> np.ndarray:
    """`resize(image, shape, preserve_range=True)`, about a hundred times faster.

    Args:
        image: `[height, width]` or `[height, width, channels]`, any number or bool; not empty.
        shape: `(height, width)` wanted, in pixels.

    Returns:
        `[*shape, ...]` float32, inside the image's own range.
    """
    image = np.asarray(image).astype(np.float32)
    low, high = image.min(), image.max()
    resized = cv2.resize(image, (int(shape[1]), int(shape[0])), interpolation=cv2.INTER_LINEAR)
    resized = resized.reshape(*shape, *image.shape[2:])
    # OpenCV repeats the border pixels; what they lose to the zeros beyond is taken off here.
    for axis in (0, 1):
        weight = _border_weight(image.shape[axis], shape[axis])
        fading = np.flatnonzero(weight < 1)
        rows = np.moveaxis(resized, axis, 0)
        rows[fading] *= weight[fading].reshape(-1, *[1] * (rows.ndim - 1))
    return np.clip(resized, low, high, out=resized)


def _border_weight(size: int, new_size: int) -> np.ndarray:
    """Share of each new pixel that comes from inside the old array, `[new_size]` float32."""
    center = (np.arange(new_size) + 0.5) * (size / new_size) - 0.5
    outside = np.maximum(np.maximum(-center, center - (size - 1)), 0)
    return (1 - outside).astype(np.float32)


def resize_nearest(image: np.ndarray, scale: float) -> np.ndarray:
    """`scipy.ndimage.zoom(image, [scale, scale, 1], order=0)`, about a hundred times faster.

    Args:
        image: `[height, width, ...]`, any dtype.
        scale: new size / old size.

    Returns:
        `[round(height * scale), round(width * scale), ...]` of the same dtype, no side below 1.
    """
    rows, columns = (nearest(size, scaled_size(size, scale)) for size in image.shape[:2])
    return image[rows[:, None], columns]


def scaled_size(size: int, scale: float) -> int:
    """A side in pixels after scaling; a thin image keeps one pixel instead of vanishing."""
    return max(1, round(size * scale))


def nearest(size: int, new_size: int) -> np.ndarray:
    """For each new index the old one that `resize_nearest` takes it from, `[new_size]` int."""
    step = (size - 1) / (new_size - 1) if new_size > 1 else 1.0
    return np.floor(np.arange(new_size) * step + 0.5).astype(np.intp)
