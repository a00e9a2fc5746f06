"""Augmentation: random changes to a training image, and the same to its masks.

An augmenter is a flip or an imgaug augmenter; `augment` is the one place that knows the libraries,
so that another one is another branch there and a function below. What an augmenter does to masks
is not guessed from its name: imgaug gets them as segmentation maps, applies to these what moves
pixels (nearest neighbour, emptiness beyond the border) and leaves them alone where only colours
change, nested augmenters (`Sometimes`, `SomeOf`, ...) included.

The caller's augmenter is never touched: each image gets a copy seeded from its own generator, so a
result depends on that generator alone and threads do not meet.
"""

from __future__ import annotations

import sys

import numpy as np
import scipy.ndimage

from mrcnn.geometry.masks import extract_bboxes


def check_augmentation(augmentation) -> None:
    """Refuse what `augment` could not apply; `None` is no augmentation.

    Raises:
        ValueError: neither None nor an imgaug augmenter.
    """
    if augmentation is None or _is_imgaug(augmentation):
        return
    raise ValueError(
        f"augmentation is a {type(augmentation).__name__}; it must be an imgaug augmenter, such as "
        "imgaug.augmenters.Fliplr(0.5); several go into imgaug.augmenters.Sequential([...])."
    )


def augment(image: np.ndarray, masks: np.ndarray, augmentation, rng: np.random.Generator):
    """Apply an augmenter to an image and its masks.

    Args:
        image: `[H, W, channels]`; most augmenters need uint8.
        masks: `[H, W, N]` bool.
        augmentation: an imgaug augmenter; rng: what its random choices come from.

    Returns:
        image of the same shape and dtype, masks `[H, W, N]` bool; objects may have become empty.

    Raises:
        ValueError: no augmenter, or one that changes the image's shape.
    """
    check_augmentation(augmentation)
    new_image, new_masks = _augment_with_imgaug(image, masks, augmentation, rng)
    if new_image.shape != image.shape or new_image.dtype != image.dtype:
        raise ValueError(
            f"augmentation made a {image.dtype} image of shape {image.shape} into {new_image.dtype}"
            f" of shape {new_image.shape}; it must keep both: use keep_size=True for one."
        )
    return new_image, new_masks


def flip_horizontally(image: np.ndarray, masks: np.ndarray):
    """Image `[H, W, ...]` and masks `[H, W, N]` mirrored left to right."""
    return image[:, ::-1], masks[:, ::-1]


def _is_imgaug(augmentation) -> bool:
    meta = sys.modules.get("imgaug.augmenters.meta")  # whoever made an augmenter imported it
    return meta is not None and isinstance(augmentation, meta.Augmenter)


def _augment_with_imgaug(image, masks, augmentation, rng):
    from imgaug.augmentables.segmaps import SegmentationMapsOnImage

    seeded = augmentation.deepcopy()
    seeded.seed_(int(rng.integers(2**31)))
    if masks.shape[2] == 0:
        return seeded(image=np.ascontiguousarray(image)), masks
    layers = pack_masks(masks)
    maps = SegmentationMapsOnImage(layers, shape=image.shape)
    image, maps = seeded(image=np.ascontiguousarray(image), segmentation_maps=maps)
    if maps.arr.shape[:2] != image.shape[:2]:
        maps = maps.resize(image.shape[:2])  # some augmenters leave this to the reader of the map
    return image, unpack_masks(maps.arr, masks.shape[2])


def pack_masks(masks: np.ndarray) -> np.ndarray:
    """Masks as few label images: objects that do not overlap share one.

    Hundreds of objects would be hundreds of full-size arrays to transform. Nearest-neighbour
    transforms give the same either way.

    Args:
        masks: `[H, W, N]` bool.

    Returns:
        `[H, W, L]` int32, each pixel 0 or the number of an object + 1.
    """
    layers: list[np.ndarray] = []
    for i, (y1, x1, y2, x2) in enumerate(extract_bboxes(masks)):
        mask = masks[y1:y2, x1:x2, i]
        free = (k for k, layer in enumerate(layers) if not layer[y1:y2, x1:x2][mask].any())
        k = next(free, len(layers))
        if k == len(layers):
            layers.append(np.zeros(masks.shape[:2], np.int32))
        layers[k][y1:y2, x1:x2][mask] = i + 1
    return np.stack(layers, axis=2)


def unpack_masks(layers: np.ndarray, count: int) -> np.ndarray:
    """The inverse of `pack_masks` for `count` objects: `[H, W, count]` bool."""
    masks = np.zeros((*layers.shape[:2], count), bool)
    for layer in np.moveaxis(layers, 2, 0):
        for i, place in enumerate(scipy.ndimage.find_objects(layer, count)):
            if place is not None:
                masks[(*place, i)] |= layer[place] == i + 1
    return masks
