"""Resizing of arrays: bilinear for images, nearest neighbour for masks.

Bilinear resizing has pixel centres at half coordinates and zeros beyond the border, like
`skimage.transform.resize(order=1, mode="constant", anti_aliasing=False)`: the outermost pixels of
an enlarged array fade. Nearest-neighbour resizing aligns the centres of the corner pixels, like
`scipy.ndimage.zoom(order=0)`. Released weights were trained on images resized in this way.
"""

from __future__ import annotations

import functools
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
    image = np.asarray(image, np.float32)
    resized = _resize(image, shape)
    return np.clip(resized, image.min(), image.max(), out=resized)


def resize_and_compare(image: np.ndarray, shape: Shape, threshold: float) -> np.ndarray:
    """`resize_bilinear(image, shape) >= threshold`, in half the time; `[*shape, ...]` bool."""
    image = np.asarray(image, np.float32)
    # Nothing is above the highest value, whatever rounding adds, nor below the lowest one.
    if image.max() < threshold or image.min() >= threshold:
        return np.full((*shape, *image.shape[2:]), image.min() >= threshold)
    return _resize(image, shape) >= threshold


def _resize(image: np.ndarray, shape: Shape) -> np.ndarray:
    """`resize_bilinear` of float32; rounding may take it beyond the lowest and highest value."""
    resized: np.ndarray = cv2.resize(
        image, (int(shape[1]), int(shape[0])), interpolation=cv2.INTER_LINEAR
    )
    resized = resized.reshape(*shape, *image.shape[2:])
    # OpenCV repeats the border pixels where scikit-image has zeros: scale the new border pixels
    # by the share that comes from inside.
    rows, columns = resized, resized.swapaxes(0, 1)
    for axis, lines in ((0, rows), (1, columns)):
        first, last = _border_weights(image.shape[axis], int(shape[axis]))
        ones = (1,) * (lines.ndim - 1)
        lines[: len(first)] *= first.reshape(-1, *ones)
        lines[len(lines) - len(last) :] *= last.reshape(-1, *ones)
    return resized


@functools.lru_cache(maxsize=4096)
def _border_weights(size: int, new_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Share of the first and of the last new pixels that comes from inside the array, float32.

    Pixels between them lie inside. Masks of thousands of objects have few sizes.
    """
    center = (np.arange(new_size) + 0.5) * (size / new_size) - 0.5
    before, behind = -center, center - (size - 1)
    weights = [(1 - outside[outside > 0]).astype(np.float32) for outside in (before, behind)]
    return weights[0], weights[1]


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
