"""An image and its objects as the user's Dataset gives them, checked before anything uses them.

Letters in shapes: H and W are the height and width of the image, N is the number of its objects.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mrcnn.config import Config
from mrcnn.data.dataset import Dataset, load_image_for
from mrcnn.data.image import match_channels, scale_unit_floats

# Since version 0.17 scikit-image returns pixels outside the image too, unless it gets a shape.
_DRAWING_HINT = (
    "if load_mask draws with skimage.draw, pass shape=mask.shape[:2] to the drawing function, "
    "which then leaves out the pixels outside the image"
)


class UnusableImage(ValueError):
    """An image or its annotation cannot be used; the message is a whole sentence."""


class Annotated(NamedTuple):
    """A checked image with its objects."""

    image: np.ndarray  # [H, W, IMAGE_CHANNEL_COUNT]
    masks: np.ndarray  # [H, W, N] bool
    class_ids: np.ndarray  # [N] int32, negative for a crowd
    # (height, width) of the masks before they were cut to the image; None if they were not.
    cut_from: tuple[int, int] | None = None
    neutral: np.ndarray | None = None  # [H, W] bool, with USE_NEUTRAL_PIXELS

    def has_objects(self) -> bool:
        """Is there an object that is not a crowd?"""
        return bool((self.class_ids > 0).any())

    def has_object_pixels(self) -> bool:
        """Does the mask of an object that is not a crowd have a pixel?"""
        return any(self.masks[:, :, i].any() for i in np.flatnonzero(self.class_ids > 0))


def load_annotated(dataset: Dataset, config: Config, image_id: int) -> Annotated:
    """Load an image and its objects, and check them.

    Args:
        dataset: a prepared Dataset.
        config: its IMAGE_CHANNEL_COUNT and NUM_CLASSES are used.
        image_id: the image's id in the dataset.

    Returns:
        The image and its objects. An object with a wrong class id is left out if its mask is empty:
        many projects describe an image without objects by one empty mask of class 0.

    Raises:
        UnusableImage: the image or its annotation is wrong. Also every error of the Dataset.
    """
    image = np.asarray(load_image_for(config, dataset, image_id))
    if image.dtype.kind not in "buif":
        raise UnusableImage(f"load_image returned {image.dtype}, not numbers.")
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        raise UnusableImage("load_image returned NaN or infinite values; pixels are 0..255.")
    try:
        image = match_channels(scale_unit_floats(image, config), config.IMAGE_CHANNEL_COUNT)
    except ValueError as error:
        raise UnusableImage(str(error)) from error
    loaded_masks, class_ids = _load_objects(dataset, image_id)
    loaded_masks = _checked_masks(loaded_masks, image.shape)
    masks = cut_masks(loaded_masks, image.shape)
    size = loaded_masks.shape[0], loaded_masks.shape[1]
    cut_from = None if size == masks.shape[:2] else size
    masks, class_ids = _checked_objects(masks, class_ids, config.NUM_CLASSES)
    neutral = _load_neutral(dataset, image_id, image.shape) if config.USE_NEUTRAL_PIXELS else None
    return Annotated(image, masks, class_ids, cut_from, neutral)


def _load_neutral(dataset: Dataset, image_id: int, image_shape: Sequence[int]) -> np.ndarray:
    """The neutral pixels of an image, `[H, W]` bool."""
    neutral = dataset.load_neutral(image_id)
    if neutral is None:
        return np.zeros(image_shape[:2], bool)
    neutral = np.asarray(neutral)
    if neutral.shape != tuple(image_shape[:2]):
        raise UnusableImage(
            f"load_neutral returned an array of shape {neutral.shape} for an image of "
            f"{image_shape[0]}x{image_shape[1]}; both must have one size."
        )
    return neutral.astype(bool)


def drop_empty_masks(masks: np.ndarray, class_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Leave out the objects whose mask has no pixel.

    Args:
        masks: `[H, W, N]` bool or numbers.
        class_ids: `[N]`.

    Returns:
        masks `[H, W, n]` and class ids `[n]` of the n objects that are left, same dtypes.
    """
    has_pixel = masks.any(axis=(0, 1))
    return masks[:, :, has_pixel], class_ids[has_pixel]


def cut_masks(masks: np.ndarray, image_shape: Sequence[int]) -> np.ndarray:
    """Cut masks that are larger than their image on the right and at the bottom.

    Drawing functions make such masks where an object reaches beyond the image.

    Args:
        masks: `[at least H, at least W, N]`.
        image_shape: `(H, W, ...)` in pixels.

    Returns:
        `[H, W, N]`, a view of `masks`.
    """
    height, width = image_shape[:2]
    return masks[:height, :width]


def _load_objects(dataset: Dataset, image_id: int) -> tuple[np.ndarray, np.ndarray]:
    """The result of `load_mask` as two arrays of any shape and type."""
    try:
        loaded = dataset.load_mask(image_id)
    except IndexError as error:
        if re.search(r"out of bounds for axis [01] ", str(error)):
            raise IndexError(f"{error}; {_DRAWING_HINT}.") from error
        raise
    if not isinstance(loaded, (tuple, list)) or len(loaded) != 2:
        raise UnusableImage(
            f"load_mask returned a {type(loaded).__name__}; it must return two arrays, masks "
            "[H, W, N] and class_ids [N]."
        )
    masks, class_ids = loaded
    return np.asarray(masks), np.asarray(class_ids)


def _checked_masks(masks: np.ndarray, image_shape: Sequence[int]) -> np.ndarray:
    """The masks as bool, none of them smaller than the image."""
    height, width = image_shape[:2]
    if masks.ndim == 3 and masks.shape[2] == 0:
        return np.zeros((height, width, 0), bool)
    if masks.ndim != 3 or masks.shape[0] < height or masks.shape[1] < width:
        raise UnusableImage(
            f"load_mask returned masks of shape {masks.shape} for an image of {height}x{width}; "
            f"it must return ({height}, {width}, number of objects)."
        )
    if masks.dtype.kind not in "buif":
        raise UnusableImage(f"load_mask returned masks of {masks.dtype}; they must be bool.")
    return masks.astype(bool, copy=False)


def _checked_objects(
    masks: np.ndarray, class_ids: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Masks `[H, W, N]` and class ids `[N]` int32 that the network can train on."""
    count = masks.shape[2]
    if class_ids.shape != (count,):
        raise UnusableImage(
            f"load_mask returned {count} masks and class ids of shape {class_ids.shape}; it must "
            "return one class id per mask."
        )
    fault = _fault_of(class_ids, num_classes)
    if fault:
        masks, class_ids = drop_empty_masks(masks, class_ids)
        fault = _fault_of(class_ids, num_classes)
    if fault:
        raise UnusableImage(fault)
    return masks, class_ids.astype(np.int32)


def _fault_of(class_ids: np.ndarray, num_classes: int) -> str | None:
    """What is wrong with class ids `[N]`, as a sentence; None if they are fine."""
    if not len(class_ids):
        return None
    is_number = class_ids.dtype.kind in "iuf"
    if not is_number or not (np.isfinite(class_ids) & (class_ids == np.floor(class_ids))).all():
        return f"class ids must be whole numbers; load_mask returned {class_ids}."
    largest = num_classes - 1
    wrong = sorted({int(i) for i in class_ids if i == 0 or abs(i) > largest})
    if not wrong:
        return None
    return (
        f"load_mask returned class id {', '.join(map(str, wrong))}; with NUM_CLASSES "
        f"{num_classes} an object has a class id from 1 to {largest}, and a crowd the negative of "
        "its class id."
    )
