"""Augmentation: random changes to a training image, and the same to its masks.

An augmenter is one of

- any imgaug augmenter, nested ones (`Sometimes`, `SomeOf`, `OneOf`, ...) included;
- any albumentations transform or pipeline of version 2: `Compose`, `OneOf`, a single transform;
- a function `(image, masks, rng) -> (image, masks)`, which changes both itself: image
  `[H, W, channels]`, masks `[H, W, N]` bool, `rng` a NumPy Generator. It gets copies and is called
  from several threads at once. What it draws from `rng` is the same for the same seed.

What an augmenter does to masks is not guessed from its name. Each library gets the masks as its own
kind of masks, applies to them what moves pixels (nearest neighbour) and leaves them alone where
only colours change. They are handed over as label images, several objects in one, so a transform
that computes new mask values instead of moving pixels, such as albumentations' `Morphological`, may
mix up objects that touch.

Beyond the image's border masks are empty, but for albumentations' `border_mode`s that reflect or
wrap: they do the same to image and masks, and an object is one with its reflection, in one box.

Holes cut into an image (imgaug's `Cutout` and `CoarseDropout`, albumentations' `CoarseDropout` and
the like) leave the masks whole, as for an object that something stands in front of;
albumentations' `fill_mask=0` cuts them out of the masks too. Of `fill_mask` only None and not None
count: what is filled is empty.

With `bbox_params` an albumentations pipeline gets boxes made from the masks, for transforms that
ask where the objects are; what it would filter by box (`min_visibility`, ...) stays: an object is
dropped when no pixel of it is left.

The caller's augmenter is never touched: each image gets a copy seeded from its own generator, so a
result depends on that generator alone and threads do not meet. A copy costs about half a
millisecond for each transform, and as much as they hold for those that hold images.
"""

from __future__ import annotations

import copy
import functools
import inspect
import random
import sys
import typing

import cv2
import numpy as np
import scipy.ndimage

from mrcnn.geometry.masks import extract_bboxes


def check_augmentation(augmentation) -> None:
    """Refuse what `augment` could not apply; `None` is no augmentation.

    Raises:
        ValueError: neither None nor an augmenter.
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
            "and masks; several go into imgaug's Sequential([...]) or albumentations' "
            "Compose([...])."
        )


def augment(image: np.ndarray, masks: np.ndarray, augmentation, rng: np.random.Generator):
    """Apply an augmenter to an image and its masks.

    Args:
        image: `[H, W, channels]`, 0..255; most imgaug augmenters need uint8, albumentations
            takes uint8 and floats.
        masks: `[H, W, N]` bool.
        augmentation: an augmenter, see above; rng: what its random choices come from.

    Returns:
        image of the same shape and dtype, masks `[H, W, N]` bool; objects may have become empty.

    Raises:
        ValueError: no augmenter, one that changes the shape or dtype of image or masks, a pixel
            type that albumentations does not take.
    """
    check_augmentation(augmentation)
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
            f"{_kind(new_image)}; it must keep both: imgaug's crops and pads do with "
            f"keep_size=True, albumentations' with Resize({height}, {width}) after them, and "
            "normalising is the network's part."
        )
    if _kind(new_masks) != _kind(masks):
        raise ValueError(
            f"augmentation made {masks.dtype} masks of shape {masks.shape} into "
            f"{_kind(new_masks)}; it must keep both; an object that left is an empty mask."
        )
    return new_image, new_masks


def _kind(array) -> str:
    if not isinstance(array, np.ndarray):
        return f"a {_type_name(array)}"
    return f"{array.dtype} of shape {array.shape}"


def _type_name(thing) -> str:
    return type(thing).__name__


def _is_imgaug(augmentation) -> bool:
    meta = sys.modules.get("imgaug.augmenters.meta")  # whoever made an augmenter imported it
    return meta is not None and isinstance(augmentation, meta.Augmenter)


def _is_albumentations(augmentation) -> bool:
    library = sys.modules.get("albumentations")
    kinds = [getattr(library, name, None) for name in ("BasicTransform", "BaseCompose")]
    return isinstance(augmentation, tuple(kind for kind in kinds if kind is not None))


def _check_version(augmentation) -> None:
    if not hasattr(augmentation, "set_random_state"):
        version = getattr(sys.modules["albumentations"], "__version__", "")
        raise ValueError(
            f"albumentations {version} cannot be seeded for each image; version 2 can: pip install "
            "'albumentations>=2.0'."
        )


def _takes_three_arguments(function) -> bool:
    if isinstance(function, type) or not callable(function):
        return False
    try:
        inspect.signature(function).bind(None, None, None)
    except TypeError:
        return False
    except ValueError:  # some functions written in C do not tell
        pass
    return True


def _augment_with_function(image, masks, function, rng):
    result = function(image.copy(), masks.copy(), rng)
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        raise ValueError(
            f"the augmentation {getattr(function, '__name__', _type_name(function))} returned a "
            f"{_type_name(result)}; it must return two arrays, (image, masks)."
        )
    return result


def _augment_with_imgaug(image, masks, augmentation, rng):
    seeded = augmentation.deepcopy()
    seeded.seed_(int(rng.integers(2**31)))
    if masks.shape[2] == 0:
        return seeded(image=np.ascontiguousarray(image)), masks
    maps = _imgaug_maps_class()(pack_masks(masks), shape=image.shape)
    image, maps = seeded(image=np.ascontiguousarray(image), segmentation_maps=maps)
    if maps.arr.shape[:2] != image.shape[:2]:
        maps = maps.resize(image.shape[:2])  # some augmenters leave this to the reader of the map
    return image, unpack_masks(maps.arr, masks.shape[2])


@functools.cache
def _imgaug_maps_class():
    from imgaug.augmentables import segmaps

    class SegmentationMapsOnImage(segmaps.SegmentationMapsOnImage):  # imgaug goes by this name
        """imgaug's maps, resized like its images: its own lie half a pixel beside them.

        For a disk of 24 pixels in `CropAndPad` the IoU of image and mask is 0.99 and not 0.9.
        """

        def resize(self, sizes, interpolation="nearest"):
            sizes = np.asarray(sizes)
            if sizes.shape != (2,) or sizes.dtype.kind not in "iu":  # shares of the size
                return super().resize(sizes.tolist(), interpolation=interpolation)
            return self.deepcopy(_resize_centered(self.arr, sizes))

        def deepcopy(self, arr=None, shape=None):
            copied = super().deepcopy(arr, shape)
            copied.__class__ = type(self)
            return copied

    return SegmentationMapsOnImage


def _resize_centered(labels: np.ndarray, shape) -> np.ndarray:
    """For each new pixel the old one in which its centre lies, `[*shape, L]`."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.intp)
        for old, new in zip(labels.shape[:2], shape, strict=True)
    )
    return labels[rows[:, None], columns]


def _augment_with_albumentations(image, masks, augmentation, rng):
    if image.dtype != np.uint8 and image.dtype.kind != "f":
        raise ValueError(
            f"the image is {image.dtype} and albumentations takes uint8 or floats; let load_image "
            "return uint8."
        )
    pipeline = _seeded_pipeline(augmentation, rng)
    targets = _albumentations_targets(image, masks, with_boxes="bboxes" in pipeline.processors)
    try:
        result = pipeline(**targets)
    except KeyError as error:
        raise ValueError(
            f"the albumentations pipeline asks for {error}; it gets image, mask, masks and, where "
            "it is a Compose with bbox_params, bboxes."
        ) from error
    new_image = result["image"]
    if image.dtype.kind == "f" and getattr(new_image, "dtype", None) == np.float32:
        new_image = (new_image * 255).astype(image.dtype)
    if "masks" not in result:
        return new_image, masks
    return new_image, unpack_masks(np.moveaxis(result["masks"], 0, 2), masks.shape[2])


def _seeded_pipeline(augmentation, rng):
    """A copy, made exact for masks, in a Compose of our own as the outermost one."""
    from albumentations import BboxParams, Compose

    boxes = "bboxes" in getattr(augmentation, "processors", ())
    # pascal_voc is (x1, y1, x2, y2) in pixels. The caller's own bbox_params and keypoint_params are
    # those of an inner Compose now, which are not used: their label_fields are not ours.
    box_params = BboxParams("pascal_voc", filter_invalid_bboxes=True, clip=True) if boxes else None
    pipeline = Compose([copy.deepcopy(augmentation)], bbox_params=box_params)
    for transform in _transforms_in(pipeline):
        _make_masks_exact(transform)
    # One generator for all: `set_random_seed` would give each transform the same numbers, so that
    # two flips with p=0.5 would happen together or not at all.
    seed = int(rng.integers(2**63))
    pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))
    return pipeline


def _transforms_in(pipeline):
    for transform in pipeline.transforms:
        if hasattr(transform, "transforms"):
            yield from _transforms_in(transform)
        else:
            yield transform


def _make_masks_exact(transform) -> None:
    """Nearest neighbour and emptiness: label images cannot be averaged nor filled with a label."""
    for name in ("fill_mask", "mask_drop_value"):
        if getattr(transform, name, None) is not None:
            setattr(transform, name, 0)
    schema = getattr(getattr(transform, "InitSchema", None), "model_fields", {})
    if "mask_interpolation" in schema:
        # Where a transform resizes, plain nearest is half a pixel off; where it warps, OpenCV has
        # no exact one.
        allowed = typing.get_args(schema["mask_interpolation"].annotation)
        exact = cv2.INTER_NEAREST_EXACT in allowed
        transform.mask_interpolation = cv2.INTER_NEAREST_EXACT if exact else cv2.INTER_NEAREST


def _albumentations_targets(image, masks, with_boxes) -> dict:
    """What a pipeline is called with.

    `masks` are the objects, as label images. `mask`, where any object is, and `bboxes` are for
    transforms that look where the objects are (`CropNonEmptyMaskIfExists`, `BBoxSafeRandomCrop`).
    """
    pixels = (image / 255).astype(np.float32) if image.dtype.kind == "f" else image
    targets = {"image": np.ascontiguousarray(pixels)}
    targets["mask"] = np.zeros(masks.shape[:2], np.uint8)
    if masks.shape[2]:
        labels = pack_masks(masks).astype(np.min_scalar_type(masks.shape[2]))  # not all take int32
        targets["mask"] = labels.any(axis=2).astype(np.uint8)
        targets["masks"] = np.ascontiguousarray(np.moveaxis(labels, 2, 0))
    if with_boxes:
        boxes = extract_bboxes(masks)
        targets["bboxes"] = boxes[boxes[:, 2] > boxes[:, 0]][:, [1, 0, 3, 2]].astype(np.float32)
    return targets


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
