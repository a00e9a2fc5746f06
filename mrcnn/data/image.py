"""Images for the network: channels matched, resized, padded or cropped, and molded.

Molding subtracts the mean colour and divides by PIXEL_STD, which is 1 by default. The window of a
resized image is its part that is not padding.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TypeAlias

import cv2
import numpy as np

from mrcnn.config import RESIZE_MODES, Config
from mrcnn.data.value_range import to_8_bits
from mrcnn.geometry.masks import MaskView, extract_bboxes, minimize_mask
from mrcnn.geometry.resize import nearest, resize_bilinear, scaled_size

# Interpolation in float32 gives 179.9999 for 180; without this, truncation would make it 179.
_ROUNDING = 1e-4

Window: TypeAlias = tuple[int, int, int, int]  # (y1, x1, y2, x2) in pixels
Padding: TypeAlias = list[tuple[int, int]]  # [(top, bottom), (left, right), (0, 0)]
Crop: TypeAlias = tuple[int, int, int, int]  # (y, x, height, width) in pixels


def random_generator(rng: np.random.Generator | None) -> np.random.Generator:
    """`rng` itself; for None a new one, seeded from NumPy's global state (`np.random.seed`)."""
    return np.random.default_rng(np.random.randint(2**31)) if rng is None else rng


def match_channels(image: np.ndarray, count: int) -> np.ndarray:
    """An image with the number of channels that the network takes, if no colour is lost.

    Args:
        image: `[H, W]` or `[H, W, channels]`.
        count: IMAGE_CHANNEL_COUNT.

    Returns:
        `[H, W, count]`, same dtype. Grey is repeated to 3 channels, RGBA loses its alpha channel,
        and RGB with three equal channels becomes grey.

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
            f"an image of shape {image.shape} cannot become one of {count} "
            f"{'channel' if count == 1 else 'channels'} (IMAGE_CHANNEL_COUNT); set "
            "IMAGE_CHANNEL_COUNT and MEAN_PIXEL to what load_image returns, or convert it there."
        )
    return pixels


def scale_unit_floats(image: np.ndarray, config: Config) -> np.ndarray:
    """An image of floats in 0..1 or of booleans as uint8, where the network takes 0..255.

    `plt.imread` of a PNG and `skimage.img_as_float` give such images, which would be black to the
    network. Warns when it scales. A network takes 0..255 if MEAN_PIXEL or PIXEL_STD is above 1; a
    network that takes 0..1 has smaller ones.

    Args:
        image: `[H, W, channels]` or `[H, W]`, finite.
        config: MEAN_PIXEL, PIXEL_STD.

    Returns:
        uint8 of the same shape, or the image itself.
    """
    takes_255 = max(np.max(config.MEAN_PIXEL), np.max(config.PIXEL_STD)) > 1
    if not takes_255 or image.dtype.kind not in "bf" or not image.any():
        return image
    if image.min() < 0 or image.max() > 1:
        return image
    # The same text each time: Python shows it once.
    warnings.warn(
        "an image has values of 0..1, and the network takes 0..255: it is multiplied by 255. Give "
        "uint8 images; for a network that takes 0..1, set MEAN_PIXEL for such images.",
        stacklevel=2,
    )
    return to_8_bits(image).pixels


def resize_image(
    image: np.ndarray,
    min_dim: int | None = None,
    max_dim: int | None = None,
    min_scale: float | None = None,
    mode: str = "square",
    *,
    rng: np.random.Generator | None = None,
) -> tuple[np.ndarray, Window, float, Padding, Crop | None]:
    """Scale an image without changing its proportions, then pad or crop it.

    Args:
        image: `[H, W]` or `[H, W, channels]`.
        min_dim: the smaller side is enlarged to at least this many pixels.
        max_dim: in modes "square" and "rectangle", the largest size of the larger side in pixels.
        min_scale: lowest scale factor, even if min_dim needs a lower one.
        mode: "square" pads to max_dim x max_dim; "rectangle" scales the same way and pads to
            multiples of 64; "pad64" pads to multiples of 64 without max_dim (min_dim must be such
            a multiple); "crop" cuts out a random part of min_dim x min_dim; "none" returns the
            image unchanged.
        rng: draws the crop; None: NumPy's global state.

    Returns:
        image of the same dtype; window `(y1, x1, y2, x2)` in pixels; scale; padding `[(top,
        bottom), (left, right), (0, 0)]`; crop `(y, x, height, width)` or None.

    Raises:
        ValueError: an unknown mode, or a size that the mode needs is missing.
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
        assert min_dim is not None  # _check_resize
        rng = random_generator(rng)
        y, x = (int(rng.integers(side - min_dim + 1)) for side in (height, width))
        crop = (y, x, min_dim, min_dim)
        window = (0, 0, min_dim, min_dim)
        return image[y : y + min_dim, x : x + min_dim], window, scale, no_padding, crop
    if mode == "square":
        assert max_dim is not None
        target = (max_dim, max_dim)
    else:
        target = (-(-height // 64) * 64, -(-width // 64) * 64)
    top, left = (target[0] - height) // 2, (target[1] - width) // 2
    padding = [(top, target[0] - height - top), (left, target[1] - width - left), (0, 0)]
    window = (top, left, height + top, width + left)
    return np.pad(image, padding[: image.ndim]), window, scale, padding, None


def _check_resize(min_dim: int | None, max_dim: int | None, mode: str) -> None:
    if mode not in RESIZE_MODES:
        raise ValueError(f"resize mode {mode!r} is unknown; known: {', '.join(RESIZE_MODES)}.")
    if mode in ("square", "rectangle") and not max_dim:
        raise ValueError(f"resize mode {mode!r} needs max_dim, which is {max_dim!r}.")
    if mode == "crop" and not min_dim:
        raise ValueError(f"resize mode 'crop' needs min_dim, which is {min_dim!r}.")
    if mode == "pad64" and (min_dim or 0) % 64:
        raise ValueError(f"resize mode 'pad64' needs a min_dim that 64 divides, not {min_dim}.")


def _scale_of(
    height: int, width: int, min_dim: int | None, max_dim: int | None, min_scale: float | None
) -> float:
    scale: float = 1
    if min_dim:
        scale = max(1, min_dim / min(height, width))
    if min_scale:
        scale = max(scale, min_scale)
    if max_dim and round(max(height, width) * scale) > max_dim:
        scale = max_dim / max(height, width)
    return scale


def _resize_pixels(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    resized = resize_bilinear(image, shape)
    if image.dtype.kind in "iu":
        resized += np.float32(_ROUNDING)
    return resized.astype(image.dtype)


def resize_mask(
    mask: np.ndarray, scale: float, padding: Sequence, crop: Sequence[int] | None = None
) -> np.ndarray:
    """Masks scaled, then padded or cropped, as `resize_image` did with their image.

    Args:
        mask: `[H, W, N]`.
        scale, padding, crop: the values that `resize_image` returned.

    Returns:
        `[H', W', N]` of the same dtype, by nearest neighbour.
    """
    return view_resized(mask, scale, padding, crop).array()


def view_resized(
    masks: np.ndarray, scale: float, padding: Sequence, crop: Sequence[int] | None = None
) -> MaskView:
    """`resize_mask` as a view, which computes only the parts of masks that are read."""
    height, width = masks.shape[:2]
    y, x, crop_height, crop_width = crop or (0, 0, None, None)
    return MaskView(
        masks,
        _indices(height, scale, padding[0], y, crop_height),
        _indices(width, scale, padding[1], x, crop_width),
    )


def _indices(
    size: int, scale: float, padding: tuple[int, int], start: int, count: int | None
) -> np.ndarray:
    """The old row or column of each new one, after scaling, then cropping or padding; -1: none."""
    indices = nearest(size, scaled_size(size, scale)) if scale != 1 else np.arange(size)
    if count is not None:
        return indices[start : start + count]
    return np.pad(indices, padding, constant_values=-1)


def mold_mask(mask: np.ndarray, config: Config) -> np.ndarray:
    """Masks as the training graph takes them: mini-masks if USE_MINI_MASK, else unchanged.

    Args:
        mask: `[H, W, N]`, none of them empty.
        config: USE_MINI_MASK, MINI_MASK_SHAPE.
    """
    if not config.USE_MINI_MASK:
        return mask
    return minimize_mask(extract_bboxes(mask), mask, config.MINI_MASK_SHAPE)


def mold_image(images: np.ndarray, config: Config, out: np.ndarray | None = None) -> np.ndarray:
    """Images minus MEAN_PIXEL, divided by PIXEL_STD.

    Args:
        images: `[..., channels]`, values 0..255.
        config: MEAN_PIXEL, PIXEL_STD.
        out: float32 array of the images' shape that takes the result.

    Returns:
        `[..., channels]` float32.
    """
    images = np.asarray(images)
    mean, std = (np.asarray(x, np.float32) for x in (config.MEAN_PIXEL, config.PIXEL_STD))
    if images.dtype == np.uint8 and images.ndim == 3:
        # A table with the result for each grey level: the same numbers, four times as fast.
        levels = np.arange(256, dtype=np.float32)[:, None] - mean
        table = np.broadcast_to(levels / std, (256, images.shape[-1]))
        molded = cv2.LUT(np.ascontiguousarray(images), np.ascontiguousarray(table)[None], out)
        return molded.reshape(images.shape)
    molded = np.subtract(images, mean, out=out, dtype=np.float32)
    molded /= std
    return molded


def unmold_image(normalized_images: np.ndarray, config: Config) -> np.ndarray:
    """The inverse of `mold_image`, `[..., channels]` uint8."""
    pixels = np.asarray(normalized_images, np.float32) * np.asarray(config.PIXEL_STD, np.float32)
    pixels = pixels + np.asarray(config.MEAN_PIXEL, np.float32)
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
