"""The image meta row: what was done to an image, so that detections can be undone into it.

A row is `[1 id, 3 original shape, 3 shape, 4 window, 1 scale, NUM_CLASSES active classes]`. The
window is the part of the resized image that is not padding. Only this file knows the layout.
"""

from __future__ import annotations

import numpy as np


def compose_image_meta(
    image_id, original_image_shape, image_shape, window, scale, active_class_ids
) -> np.ndarray:
    """The image meta row of an image.

    Args:
        image_id: a number; original_image_shape, image_shape: `(H, W, channels)` before and after
            resizing; window: `(y1, x1, y2, x2)` in pixels; scale: a number.
        active_class_ids: `[NUM_CLASSES]`, 1 for the classes of the image's source.

    Returns:
        `[12 + NUM_CLASSES]` float64.
    """
    parts = [[image_id], original_image_shape, image_shape, window, [scale], active_class_ids]
    return np.concatenate([np.asarray(part, np.float64) for part in parts])


def split_image_meta(meta) -> dict:
    """The parts of image meta rows, as they are; arrays or tensors.

    Args:
        meta: `[B, 12 + NUM_CLASSES]`.

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
    """`split_image_meta` of an array, with the scale as float32 and all else as int32."""
    dtypes = {"scale": np.float32}
    parts = split_image_meta(meta)
    return {name: part.astype(dtypes.get(name, np.int32)) for name, part in parts.items()}
