"""Augmentation: random changes to a training image, and the same changes to its masks.

An augmenter is one of

- any imgaug augmenter, including nested ones (`Sometimes`, `SomeOf`, `OneOf`, ...);
- any albumentations transform or pipeline of version 2: `Compose`, `OneOf`, a single transform;
- a function `(image, masks, rng) -> (image, masks)`, which changes both itself: image
  `[H, W, channels]`, masks `[H, W, N]` bool, `rng` a NumPy Generator. The function gets copies, and
  several threads call it at once. With the same seed it draws the same numbers from `rng`.

An augmenter's name does not decide what happens to the masks. Each library gets the masks in its
own type for masks: it moves their pixels as it moves those of the image (with nearest neighbour),
and leaves them unchanged if only colours change. Masks are passed as label images, each with
several objects. A transform that computes new mask values instead of moving pixels, such as
albumentations' `Morphological`, may therefore mix up objects that touch.

Masks are empty beyond the image's border. Only albumentations' `border_mode`s that reflect or wrap
do the same to masks as to the image: an object and its reflection become one object in one box.

Holes that are cut into an image (imgaug's `Cutout` and `CoarseDropout`, albumentations'
`CoarseDropout` and similar ones) leave the masks whole, as if something stood in front of the
object. With `fill_mask=0` albumentations cuts the holes out of the masks too. Any other number in
`fill_mask` has the same effect as 0: the holes become empty.

With `bbox_params` an albumentations pipeline gets boxes made from the masks, for transforms that
need to know where the objects are. Filters by box (`min_visibility`, ...) have no effect: an object
is left out only when it has no pixel.

The caller's augmenter is never changed. Each image gets a copy, which is seeded from the image's
own generator. The result therefore depends only on that generator, and threads do not disturb each
other. A copy takes about half a millisecond per transform, and longer for transforms that hold
images.
"""

from __future__ import annotations

import copy
import functools
import inspect
import random
import sys
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import scipy.ndimage

from mrcnn.geometry.masks import extract_bboxes


def check_augmentation(augmentation: Any) -> None:
    """Refuse what `augment` cannot apply.

    Args:
        augmentation: an augmenter, or None for no augmentation.

    Raises:
        ValueError: it is something else, or a transform of an old albumentations.
    """
    if augmentation is None or _is_imgaug(augmentation):
        return
    if _is_albumentations(augmentation):
        _check_version(augmentation)
    elif not _takes_three_arguments(augmentation):
        is_class = isinstance(augmentation, type)
        kind = f"the class {augmentation.__name__}" if is_class else f"a {_type_name(augmentation)}"
        raise ValueError(
            f"augmentation is {kind}; it must be an imgaug augmenter, such as "
            "imgaug.augmenters.Fliplr(0.5), an albumentations transform, such as "
            "albumentations.HorizontalFlip(), or a function (image, masks, rng) that returns image "
            "and masks. Put several into imgaug's Sequential([...]) or albumentations' "
            "Compose([...])."
        )


def augment(
    image: np.ndarray, masks: np.ndarray, augmentation: Any, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Apply an augmenter to an image and its masks.

    Args:
        image: `[H, W, channels]`, values 0..255. Most imgaug augmenters need uint8; albumentations
            takes uint8 and floats.
        masks: `[H, W, N]` bool.
        augmentation: an augmenter, see the top of this file.
        rng: the source of all random choices.

    Returns:
        image of the same shape and dtype; masks `[H, W, N]` bool, some of which may be empty.

    Raises:
        ValueError: this is no augmenter, or it changes the shape or dtype of image or masks, or
            albumentations does not take the image's dtype.
    """
    check_augmentation(augmentation)
    apply: Callable[..., tuple[np.ndarray, np.ndarray]]
    if _is_imgaug(augmentation):
        apply = _augment_with_imgaug
    elif _is_albumentations(augmentation):
        apply = _augment_with_albumentations
    else:
        apply = _augment_with_function
    new_image, new_masks = apply(image, masks, augmentation, rng)
    if _kind(new_image) != _kind(image):
        height, width = image.shape[:2]
        raise ValueError(
            f"augmentation made a {image.dtype} image of shape {image.shape} into "
            f"{_kind(new_image)}; it must keep both. Give imgaug's crops and pads keep_size=True, "
            f"put Resize({height}, {width}) after those of albumentations, and leave out "
            "normalising: the network's input is normalised later."
        )
    if _kind(new_masks) != _kind(masks):
        raise ValueError(
            f"augmentation made {masks.dtype} masks of shape {masks.shape} into "
            f"{_kind(new_masks)}; it must keep both. The mask of an object that disappears must "
            "be empty."
        )
    return new_image, new_masks


def _kind(array: Any) -> str:
    if not isinstance(array, np.ndarray):
        return f"a {_type_name(array)}"
    return f"{array.dtype} of shape {array.shape}"


def _type_name(thing: Any) -> str:
    return type(thing).__name__


def _is_imgaug(augmentation: Any) -> bool:
    meta = sys.modules.get("imgaug.augmenters.meta")  # imported if there is an augmenter
    return meta is not None and isinstance(augmentation, meta.Augmenter)


def _is_albumentations(augmentation: Any) -> bool:
    library = sys.modules.get("albumentations")
    kinds = [getattr(library, name, None) for name in ("BasicTransform", "BaseCompose")]
    return isinstance(augmentation, tuple(kind for kind in kinds if kind is not None))


def _check_version(augmentation: Any) -> None:
    if not hasattr(augmentation, "set_random_state"):
        version = getattr(sys.modules["albumentations"], "__version__", "")
        raise ValueError(
            f"albumentations {version} cannot be seeded per image, version 2 can: "
            "pip install 'albumentations>=2.0'."
        )


def _takes_three_arguments(function: Any) -> bool:
    if isinstance(function, type) or not callable(function):
        return False
    try:
        inspect.signature(function).bind(None, None, None)
    except TypeError:
        return False
    except ValueError:  # some functions written in C have no signature
        pass
    return True


def _augment_with_function(
    image: np.ndarray, masks: np.ndarray, function: Callable, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    result = function(image.copy(), masks.copy(), rng)
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        raise ValueError(
            f"the augmentation {getattr(function, '__name__', _type_name(function))} returned a "
            f"{_type_name(result)}; it must return two arrays, (image, masks)."
        )
    return result[0], result[1]


def _augment_with_imgaug(
    image: np.ndarray, masks: np.ndarray, augmentation: Any, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    seeded = augmentation.deepcopy()
    seeded.seed_(int(rng.integers(2**31)))
    if masks.shape[2] == 0:
        return seeded(image=np.ascontiguousarray(image)), masks
    maps = _imgaug_maps_class()(pack_masks(masks), shape=image.shape)
    image, maps = seeded(image=np.ascontiguousarray(image), segmentation_maps=maps)
    if maps.arr.shape[:2] != image.shape[:2]:
        maps = maps.resize(image.shape[:2])  # some augmenters do not resize the map
    return image, unpack_masks(maps.arr, masks.shape[2])


@functools.cache
def _imgaug_maps_class() -> type:
    from imgaug.augmentables import segmaps

    class SegmentationMapsOnImage(segmaps.SegmentationMapsOnImage):  # imgaug looks at this name
        """imgaug's maps, resized like its images: imgaug's own resizing is half a pixel off.

        For a disk of 24 pixels in `CropAndPad` the IoU of image and mask is 0.99 instead of 0.9.
        """

        def resize(self, sizes, interpolation="nearest"):
            sizes = np.asarray(sizes)
            if sizes.shape != (2,) or sizes.dtype.kind not in "iu":  # fractions of the size
                return super().resize(sizes.tolist(), interpolation=interpolation)
            return self.deepcopy(_resize_centered(self.arr, sizes))

        def deepcopy(self, arr=None, shape=None):
            copied = super().deepcopy(arr, shape)
            copied.__class__ = type(self)
            return copied

    return SegmentationMapsOnImage


def _resize_centered(labels: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """`[*shape, L]`: each new pixel is the old pixel that contains its centre."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.intp)
        for old, new in zip(labels.shape[:2], shape, strict=True)
    )
    return labels[rows[:, None], columns]


def _augment_with_albumentations(
    image: np.ndarray, masks: np.ndarray, augmentation: Any, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    if image.dtype != np.uint8 and image.dtype.kind != "f":
        raise ValueError(
            f"the image is {image.dtype} and albumentations takes only uint8 or floats; load_image "
            "must return uint8."
        )
    pipeline = _seeded_pipeline(augmentation, rng)
    targets = _albumentations_targets(image, masks, with_boxes="bboxes" in pipeline.processors)
    try:
        result = pipeline(**targets)
    except KeyError as error:
        raise ValueError(
            f"the albumentations pipeline asks for {error}; it gets image, mask and masks, and "
            "bboxes too if it is a Compose with bbox_params."
        ) from error
    new_image = result["image"]
    if image.dtype.kind == "f" and getattr(new_image, "dtype", None) == np.float32:
        new_image = (new_image * 255).astype(image.dtype)
    if "masks" not in result:
        return new_image, masks
    return new_image, unpack_masks(np.moveaxis(result["masks"], 0, 2), masks.shape[2])


def _seeded_pipeline(augmentation: Any, rng: np.random.Generator) -> Any:
    """A seeded copy with exact masks, inside a new outermost Compose."""
    from albumentations import BboxParams, Compose

    boxes = "bboxes" in getattr(augmentation, "processors", ())
    # pascal_voc is (x1, y1, x2, y2) in pixels. The caller's own bbox_params and keypoint_params now
    # belong to an inner Compose, which does not use them: there are no label_fields for them.
    box_params = BboxParams("pascal_voc", filter_invalid_bboxes=True, clip=True) if boxes else None
    pipeline = Compose([copy.deepcopy(augmentation)], bbox_params=box_params)
    for transform in _transforms_in(pipeline):
        _make_masks_exact(transform)
    # One generator for all transforms: `set_random_seed` would give each of them the same numbers,
    # so two flips with p=0.5 would always happen together.
    seed = int(rng.integers(2**63))
    pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))
    return pipeline


def _transforms_in(pipeline: Any) -> Iterator[Any]:
    for transform in pipeline.transforms:
        if hasattr(transform, "transforms"):
            yield from _transforms_in(transform)
        else:
            yield transform


def _make_masks_exact(transform: Any) -> None:
    """Use nearest neighbour and fill with 0: labels cannot be averaged, and 0 is no object."""
    for name in ("fill_mask", "mask_drop_value"):
        if getattr(transform, name, None) is not None:
            setattr(transform, name, 0)
    schema = getattr(getattr(transform, "InitSchema", None), "model_fields", {})
    if "mask_interpolation" in schema:
        # For resizing, OpenCV's plain nearest neighbour is half a pixel off. For warping it has
        # no exact one.
        allowed = typing.get_args(schema["mask_interpolation"].annotation)
        exact = cv2.INTER_NEAREST_EXACT in allowed
        transform.mask_interpolation = cv2.INTER_NEAREST_EXACT if exact else cv2.INTER_NEAREST


def _albumentations_targets(
    image: np.ndarray, masks: np.ndarray, with_boxes: bool
) -> dict[str, Any]:
    """The arguments for a pipeline.

    `masks` are the objects as label images. `mask` is 1 in all objects. It and `bboxes` are for
    transforms that use the places of objects (`CropNonEmptyMaskIfExists`, `BBoxSafeRandomCrop`).
    """
    pixels = (image / 255).astype(np.float32) if image.dtype.kind == "f" else image
    targets: dict[str, Any] = {"image": np.ascontiguousarray(pixels)}
    targets["mask"] = np.zeros(masks.shape[:2], np.uint8)
    if masks.shape[2]:
        labels = pack_masks(masks).astype(
            np.min_scalar_type(masks.shape[2])
        )  # some transforms refuse int32
        targets["mask"] = labels.any(axis=2).astype(np.uint8)
        targets["masks"] = np.ascontiguousarray(np.moveaxis(labels, 2, 0))
    if with_boxes:
        boxes = extract_bboxes(masks)
        targets["bboxes"] = boxes[boxes[:, 2] > boxes[:, 0]][:, [1, 0, 3, 2]].astype(np.float32)
    return targets


def pack_masks(masks: np.ndarray) -> np.ndarray:
    """Draw masks into few label images; objects that do not overlap share a label image.

    Otherwise hundreds of objects would be hundreds of full-size arrays to transform. The result of
    nearest-neighbour transforms is the same.

    Args:
        masks: `[H, W, N]` bool.

    Returns:
        `[H, W, L]` int32: L label images, each pixel 0 or the index of an object + 1.
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
    """The inverse of `pack_masks`.

    Args:
        layers: `[H, W, L]` of whole numbers, label images.
        count: the number of objects.

    Returns:
        `[H, W, count]` bool.
    """
    masks = np.zeros((*layers.shape[:2], count), bool)
    for layer in np.moveaxis(layers, 2, 0):
        for i, place in enumerate(scipy.ndimage.find_objects(layer, count)):
            if place is not None:
                masks[(*place, i)] |= layer[place] == i + 1
    return masks
