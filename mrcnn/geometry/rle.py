"""Run lengths, the compact form of a mask in COCO's files."""

from __future__ import annotations

from typing import Any

import numpy as np

from mrcnn.geometry.masks import mask_in_box
from mrcnn.types import Numbers, Shape


def mask_rle(mask: np.ndarray, bbox: Numbers, image_shape: Shape) -> dict[str, Any]:
    """Run lengths of `unmold_mask`, computed without a mask of the whole image.

    Args:
        mask: `[h, w]` float in 0..1, the mask head's output for one object.
        bbox: `(y1, x1, y2, x2)` in pixels, may reach out of the image.
        image_shape: `(H, W, ...)` in pixels.

    Returns:
        `{"size": [H, W], "counts": str}`, COCO's compressed form.
    """
    from pycocotools import mask as coco_mask  # only run lengths need it

    height, width = (int(side) for side in image_shape[:2])
    patch, top, left = mask_in_box(mask, bbox, image_shape)
    # Run lengths go down the columns. Columns to the left and right of the box are empty.
    columns = np.zeros((patch.shape[1], height), bool)
    columns[:, top : top + patch.shape[0]] = patch.T
    changes = np.flatnonzero(np.diff(columns.ravel(), prepend=False, append=False)) + left * height
    inside = changes[changes < height * width]
    # The first run is of zeros; its length may be 0.
    counts = np.diff(inside, prepend=0, append=height * width)
    rle = coco_mask.frPyObjects({"size": [height, width], "counts": counts.tolist()}, height, width)
    return {"size": [height, width], "counts": rle["counts"].decode("ascii")}


def encode_masks(masks: np.ndarray) -> list[dict[str, Any]]:
    """Encode masks `[H, W, N]` as N COCO run lengths, `{"size": [H, W], "counts": str}`."""
    from pycocotools import mask as coco_mask

    if not masks.shape[-1]:
        return []
    encoded = coco_mask.encode(np.asfortranarray(masks.astype(bool), dtype=np.uint8))
    return [
        {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}
        for rle in encoded
    ]
