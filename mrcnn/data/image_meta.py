"""The image meta row: how an image was resized, to map detections back to it.

A row is `[1 id, 3 original shape, 3 shape, 4 window, 1 scale, NUM_CLASSES active classes]`. The
window is the part of the resized image that is not padding. Only this file knows the layout.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mrcnn.types import ArrayOrTensor


def compose_image_meta(
    image_id: int,
    original_image_shape: Sequence[int],
    image_shape: Sequence[int],
    window: Sequence[float],
    scale: float,
    active_class_ids: Sequence[int] | np.ndarray,
) -> np.ndarray:
    """The image meta row of an image.

    Args:
        image_id: number of the image.
        original_image_shape: `(H, W, channels)` before resizing.
        image_shape: `(H, W, channels)` after resizing.
        window: `(y1, x1, y2, x2)` in pixels of the resized image.
        scale: factor of the resizing.
        active_class_ids: `[NUM_CLASSES]`, 1 for the classes of the image's source, else 0.

    Returns:
        `[12 + NUM_CLASSES]` float64.
    """
    parts = [[image_id], original_image_shape, image_shape, window, [scale], active_class_ids]
    return np.concatenate([np.asarray(part, np.float64) for part in parts])


def split_image_meta(meta: ArrayOrTensor) -> dict[str, ArrayOrTensor]:
    """The parts of image meta rows, in the rows' dtype.

    Args:
        meta: `[B, 12 + NUM_CLASSES]`, array or tensor.

    Returns:
        `image_id` [B], `original_image_shape` and `image_shape` [B, 3], `window` [B, (y1, x1, y2,
        x2)] in pixels, `scale` [B], `active_class_ids` [B, NUM_CLASSES].
    """
    return {
        "image_id": meta[:, 0],
        "original_image_shape": meta[:, 1:4],
        "image_shape": meta[:, 4:7],
        "window": meta[:, 7:11],
        "scale": meta[:, 11],
        "active_class_ids": meta[:, 12:],
    }


def parse_image_meta(meta: np.ndarray) -> dict[str, np.ndarray]:
    """`split_image_meta` of an array, with the scale as float32 and the other parts as int32."""
    dtypes = {"scale": np.float32}
    parts = split_image_meta(meta)
    return {name: part.astype(dtypes.get(name, np.int32)) for name, part in parts.items()}
