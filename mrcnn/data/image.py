"""Images for the network: resized or padded, molded, and described by an image meta row.

Molding subtracts the mean colour and divides by PIXEL_STD, which is 1 unless set. An image meta
row says what was done to an image, so that detections can be undone into it: `[1 id, 3 original
shape, 3 shape, 4 window, 1 scale, NUM_CLASSES active classes]`. The window is the part of the
resized image that is not padding.
"""

from __future__ import annotations

import cv2
import numpy as np

from mrcnn.config import RESIZE_MODES
from mrcnn.geometry.masks import MaskView, extract_bboxes, minimize_mask
from mrcnn.geometry.resize import nearest, resize_bilinear, scaled_size

# Interpolation in float32 gives 179.9999 for 180, which cutting off to whole numbers made 179.
_ROUNDING = 1e-4


def random_generator(rng: np.random.Generator | None) -> np.random.Generator:
    """`rng` itself, or one seeded from NumPy's global state, so that `np.random.seed` rules."""
    return np.random.default_rng(np.random.randint(2**31)) if rng is None else rng


def match_channels(image: np.ndarray, count: int) -> np.ndarray:
    """An image with the number of channels the network wants, where that loses no colour.

    Args:
        image: `[H, W]` or `[H, W, channels]`.
        count: IMAGE_CHANNEL_COUNT.

    Returns:
        `[H, W, count]`, same dtype: grey repeated to 3, RGBA without its alpha, an RGB image of
        three equal channels as grey.

    Raises:
        ValueError: any other number of channels.
    """
    image = np.asarray(image)
    if image.ndim not in (2, 3) or 0 in image.shape:
        raise ValueError(f"an image is [H, W] or [H, W, channels], received shape {image.shape}.")
    pixels = image[:, :, None] if image.ndim == 2 else image
    if pixels.shape[2] == 4 and count in (1, 3):
        pixels = pixels[:, :, :3]
    if pixels.shape[2] == 1 and count == 3:
        pixels = np.repeat(pixels, 3, axis=2)
    if pixels.shape[2] == 3 and count == 1 and (pixels == pixels[:, :, :1]).all():
        pixels = pixels[:, :, :1]
    if pixels.shape[2] != count:
        raise ValueError(
            f"an image of shape {image.shape} cannot become one of {count} channel"
            f"{'s' if count > 1 else ''} (IMAGE_CHANNEL_COUNT); set IMAGE_CHANNEL_COUNT and "
            "MEAN_PIXEL to what load_image returns, or convert it there."
        )
    return pixels


def resize_image(image, min_dim=None, max_dim=None, min_scale=None, mode="square", *, rng=None):
    """Scale an image without changing its proportions, then pad or crop it.

    Args:
        image: `[H, W]` or `[H, W, channels]`.
        min_dim: the smaller side is enlarged to this; max_dim: the larger side is held within
            this in modes square and rectangle; pixels.
        min_scale: at least this much enlargement, even where min_dim asks for less.
        mode: "square" pads to max_dim x max_dim; "rectangle" scales alike and pads to multiples
            of 64; "pad64" pads to these too, min_dim being one, and knows no max_dim; "crop" cuts a
            random min_dim x min_dim; "none" leaves the image alone.
        rng: for the crop; NumPy's global state without it.

    Returns:
        image of the same dtype; window `(y1, x1, y2, x2)` in pixels; scale; padding `[(top,
        bottom), (left, right), (0, 0)]`; crop `(y, x, height, width)` or None.

    Raises:
        ValueError: an unknown mode, or a size the mode needs and did not get.
    """
    _check_resize(min_dim, max_dim, mode)
    height, width = image.shape[:2]
    no_padding = [(0, 0)] * 3
    if mode == "none":
        return image, (0, 0, height, width), 1, no_padding, None
    bounded = mode in ("square", "rectangle")
    scale = _scale_of(height, width, min_dim, max_dim if bounded else None, min_scale)
    if scale != 1:
        height, width = scaled_size(height, scale), scaled_size(width, scale)
        image = _resize_pixels(image, (height, width))
    if mode == "crop":
        rng = random_generator(rng)
        y, x = (int(rng.integers(side - min_dim + 1)) for side in (height, width))
        crop = (y, x, min_dim, min_dim)
        window = (0, 0, min_dim, min_dim)
        return image[y : y + min_dim, x : x + min_dim], window, scale, no_padding, crop
    if mode == "square":
        target = (max_dim, max_dim)
    else:
        target = (-(-height // 64) * 64, -(-width // 64) * 64)
    top, left = (target[0] - height) // 2, (target[1] - width) // 2
    padding = [(top, target[0] - height - top), (left, target[1] - width - left), (0, 0)]
    window = (top, left, height + top, width + left)
    return np.pad(image, padding[: image.ndim]), window, scale, padding, None


def _check_resize(min_dim, max_dim, mode) -> None:
    if mode not in RESIZE_MODES:
        raise ValueError(f"resize mode {mode!r} is none of {', '.join(RESIZE_MODES)}.")
    if mode in ("square", "rectangle") and not max_dim:
        raise ValueError(f"resize mode {mode!r} holds the image in max_dim, which is {max_dim!r}.")
    if mode == "crop" and not min_dim:
        raise ValueError(f"resize mode 'crop' cuts out min_dim pixels, which is {min_dim!r}.")
    if mode == "pad64" and (min_dim or 0) % 64:
        raise ValueError(f"resize mode 'pad64' needs a min_dim of multiples of 64, not {min_dim}.")


def _scale_of(height, width, min_dim, max_dim, min_scale):
    scale = 1
    if min_dim:
        scale = max(1, min_dim / min(height, width))
    if min_scale:
        scale = max(scale, min_scale)
    if max_dim and round(max(height, width) * scale) > max_dim:
        scale = max_dim / max(height, width)
    return scale


def _resize_pixels(image: np.ndarray, shape) -> np.ndarray:
    resized = resize_bilinear(image, shape)
    if image.dtype.kind in "iu":
        resized += np.float32(_ROUNDING)
    return resized.astype(image.dtype)


def resize_mask(mask, scale, padding, crop=None) -> np.ndarray:
    """Masks scaled, then padded or cropped, as `resize_image` did with their image.

    Args:
        mask: `[H, W, N]`; scale, padding, crop: what `resize_image` returned.

    Returns:
        `[H', W', N]` of the same dtype, each pixel the nearest of the old ones.
    """
    return view_resized(mask, scale, padding, crop).array()


def view_resized(masks, scale, padding, crop=None) -> MaskView:
    """`resize_mask` without making the masks."""
    height, width = masks.shape[:2]
    y, x, crop_height, crop_width = crop or (0, 0, None, None)
    return MaskView(
        masks,
        _indices(height, scale, padding[0], y, crop_height),
        _indices(width, scale, padding[1], x, crop_width),
    )


def _indices(size: int, scale, padding, start: int, count: int | None) -> np.ndarray:
    """Where each row or column comes from after scaling, then cropping or padding, -1 for none."""
    indices = nearest(size, scaled_size(size, scale)) if scale != 1 else np.arange(size)
    if count is not None:
        return indices[start : start + count]
    return np.pad(indices, padding, constant_values=-1)


def mold_mask(mask: np.ndarray, config) -> np.ndarray:
    """Masks as the training graph takes them: mini-masks if USE_MINI_MASK, else unchanged.

    Args:
        mask: `[H, W, N]`, none of them empty.
    """
    if not config.USE_MINI_MASK:
        return mask
    return minimize_mask(extract_bboxes(mask), mask, config.MINI_MASK_SHAPE)


def mold_image(images: np.ndarray, config, out: np.ndarray | None = None) -> np.ndarray:
    """Images `[..., channels]` of 0..255 less MEAN_PIXEL, divided by PIXEL_STD, float32.

    Args:
        out: float32 array of the images' shape to write to.
    """
    images = np.asarray(images)
    mean, std = (np.asarray(x, np.float32) for x in (config.MEAN_PIXEL, config.PIXEL_STD))
    if images.dtype == np.uint8 and images.ndim == 3:
        # Looked up in what each grey level becomes, the same numbers four times as fast.
        levels = np.arange(256, dtype=np.float32)[:, None] - mean
        table = np.broadcast_to(levels / std, (256, images.shape[-1]))
        molded = cv2.LUT(np.ascontiguousarray(images), np.ascontiguousarray(table)[None], out)
        return molded.reshape(images.shape)
    molded = np.subtract(images, mean, out=out, dtype=np.float32)
    molded /= std
    return molded


def unmold_image(normalized_images: np.ndarray, config) -> np.ndarray:
    """The inverse of `mold_image`, `[..., channels]` uint8."""
    pixels = np.asarray(normalized_images, np.float32) * np.asarray(config.PIXEL_STD, np.float32)
    pixels = pixels + np.asarray(config.MEAN_PIXEL, np.float32)
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
