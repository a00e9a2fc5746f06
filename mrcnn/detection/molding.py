"""Images as the network takes them, and its answers put back into pixels."""

from __future__ import annotations

import numpy as np

from mrcnn.config import Config
from mrcnn.data.image import match_channels, mold_image, resize_image
from mrcnn.data.image_meta import compose_image_meta
from mrcnn.geometry.boxes import denorm_boxes, norm_boxes
from mrcnn.geometry.masks import paste_mask
from mrcnn.geometry.rle import mask_rle


def mold_inputs(images, config: Config) -> tuple[list, np.ndarray, np.ndarray]:
    """Images as the network takes them.

    Args:
        images: list of `[H, W, channels]` or `[H, W]`, of any sizes, values 0..255.
        config: IMAGE_RESIZE_MODE and its sizes, MEAN_PIXEL.

    Returns:
        molded images, list of `[h, w, channels]` float32; image metas `[N, meta]`; windows
        `[N, (y1, x1, y2, x2)]` in pixels of the molded image, the part that is not padding.

    Raises:
        ValueError: something that is no image, or that does not fit the network; no images;
            IMAGE_RESIZE_MODE "crop", which shows a part of an image only.
    """
    check_images(images, config)
    inputs = [mold_one(image, index, config) for index, image in enumerate(images)]
    molded, metas, windows = zip(*inputs, strict=True)
    return list(molded), np.stack(metas), np.stack(windows)


def mold_one(image, index: int, config: Config) -> tuple[np.ndarray, np.ndarray, tuple]:
    """One image molded, its meta and its window; errors call it image `index`."""
    image = _checked(image, index, config)
    resized, window, scale, _, _ = resize_image(
        image,
        min_dim=config.IMAGE_MIN_DIM,
        max_dim=config.IMAGE_MAX_DIM,
        min_scale=config.IMAGE_MIN_SCALE,
        mode=config.IMAGE_RESIZE_MODE,
    )
    _check_divisible(resized, index)
    all_classes = np.zeros([config.NUM_CLASSES], np.int32)
    meta = compose_image_meta(0, image.shape, resized.shape, window, scale, all_classes)
    return mold_image(resized, config), meta, window


def check_images(images, config: Config) -> None:
    if config.IMAGE_RESIZE_MODE == "crop":
        raise ValueError(
            "IMAGE_RESIZE_MODE is 'crop', which cuts a random part out of each image, for training "
            "only; 'square' or 'pad64' shows the network whole images."
        )
    if isinstance(images, np.ndarray) and images.ndim < 4:
        raise ValueError(
            f"images is one array of shape {images.shape}; it must be a list of images: [image]."
        )
    if len(images) == 0:
        raise ValueError("images is empty; there must be at least one.")


def _checked(image, index: int, config: Config) -> np.ndarray:
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
    return match_channels(image, config.IMAGE_CHANNEL_COUNT)


def _check_divisible(image: np.ndarray, index: int) -> None:
    height, width = image.shape[:2]
    if height % 64 or width % 64:
        raise ValueError(
            f"image {index} is {height}x{width} for the network, which needs sides that are "
            "multiples of 64; IMAGE_RESIZE_MODE 'square' or 'pad64' would make them so."
        )


def unmold_detections(
    detections, mrcnn_mask, original_image_shape, image_shape, window
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """One image's detections in pixels of the image as it was given.

    Args:
        detections: `[D, (y1, x1, y2, x2, class_id, score)]`, normalised, zeros at the end.
        mrcnn_mask: `[D, h, w, classes]` in 0..1.
        original_image_shape, image_shape: `(height, width, …)` before and after resizing.
        window: `[(y1, x1, y2, x2)]` in pixels of the resized image.

    Returns:
        boxes `[N, (y1, x1, y2, x2)]` int32 pixels, class_ids `[N]` int32, scores `[N]` float32,
        masks `[height, width, N]` bool. Detections that round to no area are left out.
    """
    boxes, class_ids, scores, masks = _in_pixels(
        detections, mrcnn_mask, original_image_shape, image_shape, window
    )
    # A mask after the other in memory; seen with the objects last, as the original had them.
    full_masks = np.zeros((len(boxes), *original_image_shape[:2]), bool)
    for full_mask, mask, box in zip(full_masks, masks, boxes, strict=True):
        paste_mask(full_mask, mask, box)
    return boxes, class_ids, scores, full_masks.transpose(1, 2, 0)


def unmold_rle(detections, mrcnn_mask, original_image_shape, image_shape, window):
    """`unmold_detections` with COCO's run lengths, `[N]` dicts, in place of full-size masks."""
    boxes, class_ids, scores, masks = _in_pixels(
        detections, mrcnn_mask, original_image_shape, image_shape, window
    )
    rles = [mask_rle(m, box, original_image_shape) for m, box in zip(masks, boxes, strict=True)]
    return boxes, class_ids, scores, rles


def _in_pixels(detections, mrcnn_mask, original_image_shape, image_shape, window):
    """Boxes, class ids, scores, and masks `[N, h, w]` as the network made them."""
    empty = np.flatnonzero(detections[:, 4] == 0)
    count = empty[0] if len(empty) else len(detections)
    class_ids = detections[:count, 4].astype(np.int32)
    scores = detections[:count, 5]
    masks = mrcnn_mask[np.arange(count), :, :, class_ids]

    # From the resized image to its window, which shows the whole original.
    window = norm_boxes(window, image_shape[:2])
    origin = np.tile(window[:2], 2)
    size = np.tile(window[2:] - window[:2], 2)
    # A window one pixel high or wide has no extent in coordinates from centre to centre.
    boxes = (detections[:count, :4] - origin) / np.where(size > 0, size, 1)
    height, width = original_image_shape[:2]
    # Only an image one pixel high or wide has boxes to clip, for the same reason.
    boxes = denorm_boxes(boxes, (height, width))
    boxes = np.clip(boxes, 0, [height - 1, width - 1, height, width]).astype(np.int32)
    visible = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return boxes[visible], class_ids[visible], scores[visible], masks[visible]
