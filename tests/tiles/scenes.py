"""Made-up images of objects, and what windows see of them."""

import numpy as np

from mrcnn.geometry.masks import Patch
from mrcnn.geometry.rle import encode_masks
from mrcnn.tiles import view_of, windows_of


def ellipse(height, width):
    y, x = np.mgrid[:height, :width]
    return ((y - height / 2 + 0.5) / height) ** 2 + ((x - width / 2 + 0.5) / width) ** 2 <= 0.25


def views(objects, shape, window, overlap, noise=None):
    """What each window sees: the objects `[(class_id, mask [H, W])]`, cut at its borders."""
    seen = []
    for row in windows_of(*shape, window, overlap):
        for one in row:
            y1, x1, y2, x2 = one.box
            for class_id, mask in objects:
                part = mask[y1:y2, x1:x2]
                part = part if noise is None else noise(part)
                view = view_of(one, class_id, 0.9, Patch(part, y1, x1), shape)
                if view is not None:
                    seen.append(view)
    return seen


def as_set(joined):
    return sorted((one.class_id, one.rle["counts"]) for one in joined)


def truth(objects):
    rles = encode_masks(np.stack([mask for _, mask in objects], axis=2)) if objects else []
    return sorted(
        (class_id, rle["counts"]) for (class_id, _), rle in zip(objects, rles, strict=True)
    )
