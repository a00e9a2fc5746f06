"""Molding and unmolding: from images to network inputs, and from outputs to pixels of the images.

Letters: N images or detections, D rows of the network's detections, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mrcnn.config import Config
from mrcnn.data.image import match_channels, mold_image, resize_image, scale_unit_floats
from mrcnn.data.image_meta import compose_image_meta
from mrcnn.detection.threads import count_threads, map_ahead
from mrcnn.geometry.boxes import denorm_boxes, norm_boxes
from mrcnn.geometry.masks import paste_mask
from mrcnn.geometry.resize import scaled_size
from mrcnn.geometry.rle import mask_rle

# Fewer masks than this are not worth a thread of their own.
_MASKS_PER_THREAD = 8


def mold_inputs(
    images: Sequence[np.ndarray] | np.ndarray, config: Config
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Resize and normalise images for the network.

    Args:
        images: list of `[H, W, channels]` or `[H, W]`, of any sizes, values 0..255.
        config: its IMAGE_RESIZE_MODE, IMAGE_MIN_DIM, IMAGE_MAX_DIM, IMAGE_MIN_SCALE, MEAN_PIXEL
            and PIXEL_STD.

    Returns:
        molded images, list of `[h, w, channels]` float32; image metas `[N, meta]`; windows
        `[N, (y1, x1, y2, x2)]`, the part of each molded image that is not padding, in pixels.

    Raises:
        ValueError: no images; an array that is not an image or does not fit the network; an image
            that IMAGE_RESIZE_MODE "crop" would cut.
    """
    check_images(images)
    inputs = [mold_one(image, index, config) for index, image in enumerate(images)]
    molded, metas, windows = zip(*inputs, strict=True)
    return list(molded), np.stack(metas), np.stack(windows)


def mold_one(
    image: np.ndarray, index: int, config: Config
) -> tuple[np.ndarray, np.ndarray, tuple[int, int, int, int]]:
    """`mold_inputs` for one image: molded image, meta, window; errors name it by its index."""
    image = _checked(image, index, config)
    resized, window, scale, _, crop = resize_image(
        image,
        min_dim=config.IMAGE_MIN_DIM,
        max_dim=config.IMAGE_MAX_DIM,
        min_scale=config.IMAGE_MIN_SCALE,
        mode=config.IMAGE_RESIZE_MODE,
    )
    if crop is not None:
        _check_whole(image.shape, scale, crop, index)
    _check_divisible(resized, index)
    all_classes = np.zeros([config.NUM_CLASSES], np.int32)
    meta = compose_image_meta(0, image.shape, resized.shape, window, scale, all_classes)
    return mold_image(resized, config), meta, window


def check_images(images: Sequence[np.ndarray] | np.ndarray) -> None:
    """Raise ValueError for a single image instead of a list, and for an empty list."""
    if isinstance(images, np.ndarray) and images.ndim < 4:
        raise ValueError(
            f"images is one array of shape {images.shape}; it must be a list of images: [image]."
        )
    if len(images) == 0:
        raise ValueError("images is empty; there must be at least one.")


def _checked(image: np.ndarray, index: int, config: Config) -> np.ndarray:
    image = np.asarray(image)
    if image.ndim not in (2, 3) or 0 in image.shape:
        raise ValueError(
            f"image {index} has shape {image.shape}; an image is [height, width, "
            f"{config.IMAGE_CHANNEL_COUNT}] with at least one pixel."
        )
    if not np.issubdtype(image.dtype, np.number) or np.iscomplexobj(image):
        raise ValueError(f"image {index} has dtype {image.dtype}; pixels are numbers of 0..255.")
    if not np.isfinite(image).all():
        raise ValueError(f"image {index} holds NaN or infinite values; pixels are 0..255.")
    return match_channels(scale_unit_floats(image, config), config.IMAGE_CHANNEL_COUNT)


def _check_whole(
    shape: tuple[int, ...], scale: float, crop: tuple[int, int, int, int], index: int
) -> None:
    """Refuse a crop that cuts the image: a random part of an image is for training only."""
    whole = tuple(scaled_size(side, scale) for side in shape[:2])
    if whole != crop[2:]:
        raise ValueError(
            f"image {index} is {whole[0]}x{whole[1]}, and IMAGE_RESIZE_MODE 'crop' would show the "
            f"network a random {crop[2]}x{crop[3]} part of it, which is for training only; build "
            "the model with config.for_detection(), which shows it whole images."
        )


def _check_divisible(image: np.ndarray, index: int) -> None:
    height, width = image.shape[:2]
    if height % 64 or width % 64:
        raise ValueError(
            f"image {index} is {height}x{width} for the network, which needs sides that are "
            "multiples of 64; IMAGE_RESIZE_MODE 'square' or 'pad64' would make them so."
        )


def unmold_detections(
    detections: np.ndarray,
    mrcnn_mask: np.ndarray,
    original_image_shape: Sequence[int],
    image_shape: Sequence[int],
    window: Sequence[int] | np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Convert the network's outputs for one image to pixels of the original image.

    Args:
        detections: `[D, (y1, x1, y2, x2, class_id, score)]`, normalised, zeros at the end.
        mrcnn_mask: `[D, h, w, C]` in 0..1.
        original_image_shape, image_shape: `(height, width, …)` before and after resizing.
        window: `(y1, x1, y2, x2)` in pixels of the resized image.

    Returns:
        boxes `[N, (y1, x1, y2, x2)]` int32 pixels, class_ids `[N]` int32, scores `[N]` float32,
        masks `[height, width, N]` bool. Boxes whose area rounds to zero are left out.
    """
    boxes, class_ids, scores, masks = _in_pixels(
        detections, mrcnn_mask, original_image_shape, image_shape, window
    )
    # Each mask is contiguous in memory; the view has the objects last, as in the original.
    full_masks = np.zeros((len(boxes), *original_image_shape[:2]), bool)
    threads = max(1, min(count_threads(), len(boxes) // _MASKS_PER_THREAD))

    def paste(thread: int) -> None:
        for i in range(thread, len(boxes), threads):
            paste_mask(full_masks[i], masks[i], boxes[i])

    for _ in map_ahead(paste, range(threads), threads, ahead=threads):
        pass
    return boxes, class_ids, scores, full_masks.transpose(1, 2, 0)


def unmold_rle(
    detections: np.ndarray,
    mrcnn_mask: np.ndarray,
    original_image_shape: Sequence[int],
    image_shape: Sequence[int],
    window: Sequence[int] | np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict]]:
    """`unmold_detections` with COCO run lengths, N dicts, in place of full-size masks."""
    boxes, class_ids, scores, masks = _in_pixels(
        detections, mrcnn_mask, original_image_shape, image_shape, window
    )
    rles = [mask_rle(m, box, original_image_shape) for m, box in zip(masks, boxes, strict=True)]
    return boxes, class_ids, scores, rles


def _in_pixels(
    detections: np.ndarray,
    mrcnn_mask: np.ndarray,
    original_image_shape: Sequence[int],
    image_shape: Sequence[int],
    window: Sequence[int] | np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Boxes in pixels, class ids, scores, and masks `[N, h, w]` in the network's output size."""
    empty = np.flatnonzero(detections[:, 4] == 0)
    count = empty[0] if len(empty) else len(detections)
    class_ids = detections[:count, 4].astype(np.int32)
    scores = detections[:count, 5]
    masks = mrcnn_mask[np.arange(count), :, :, class_ids]

    # From coordinates of the resized image to those of its window, which is the whole original.
    shown = norm_boxes(np.asarray(window), image_shape[:2])
    origin = np.tile(shown[:2], 2)
    size = np.tile(shown[2:] - shown[:2], 2)
    # Normalised coordinates go from the centre of the first pixel to that of the last one, so a
    # window that is one pixel high or wide has the size 0.
    boxes = (detections[:count, :4] - origin) / np.where(size > 0, size, 1)
    height, width = original_image_shape[:2]
    # For the same reason, only an image one pixel high or wide has boxes to clip.
    boxes = denorm_boxes(boxes, (height, width))
    boxes = np.clip(boxes, 0, [height - 1, width - 1, height, width]).astype(np.int32)
    visible = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return boxes[visible], class_ids[visible], scores[visible], masks[visible]
