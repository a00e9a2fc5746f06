"""Image files of any kind, read as RGB of 8 bits.

Pillow, tifffile and OpenCV decode them. These libraries differ in their limits and in their
treatment of rotation tags and of 16 bits. So this package decides how many pixels are too many (see
`mrcnn.data.decoders`), which values are black and white, and whether an image is rotated.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import PIL.Image

from mrcnn.data.decoders import Decoded, Refusal, decode_other, decode_with_pillow, turned
from mrcnn.data.tiff_files import decode_tiff, is_tiff
from mrcnn.data.value_range import Statistics, statistics_of, to_8_bits
from mrcnn.types import PathLike

logger = logging.getLogger("mrcnn")

# Files of a folder that are taken for images, by the end of their name.
IMAGE_ENDINGS = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


class Remark(NamedTuple):
    """A message that the user gets once."""

    key: tuple  # remarks with the same key are logged only once
    text: str


class ImageFile(NamedTuple):
    """The image that was read, and remarks on what had to be guessed."""

    pixels: np.ndarray  # [H, W, 3] uint8 RGB
    remarks: tuple[Remark, ...]


_said: dict[tuple, object] = {}


def read_image(
    path: PathLike,
    size: tuple[int, int] | None = None,
    *,
    value_range: Sequence[float] | None = None,
    page: int | None = None,
) -> np.ndarray:
    """An image file as RGB of 8 bits.

    Grey is repeated to three channels, transparency is dropped, other colours become RGB. Floats
    of 0..1 become 0..255. Integers of more than 8 bits are scaled by the bits that the file states,
    else by the fewest of 8, 10, 12, 14 or 16 bits that hold its largest value; the log says so
    once. A camera's rotation tag is applied where `size` asks for it, and never without `size`.

    Args:
        path: a file of any format that Pillow or OpenCV knows.
        size: `(height, width)` that an annotation file states for the image. An image with a
            rotation tag is rotated if only the rotated image has this size. If the size does not
            decide, the log has a warning.
        value_range: `(black, white)`, the values that become 0 and 255 in files of floats or of
            more than 8 bits.
        page: which image of a file with several, from 0. None: the first of an animation; a TIFF
            must have only one.

    Returns:
        `[H, W, 3]` uint8.

    Raises:
        OSError: the file is missing, damaged or no image; ValueError: it has too many pixels, or
            the user must choose what to show. Both messages name the file.
    """
    image = load_image_file(path, size, value_range, page)
    say_once(image.remarks, _said)
    return image.pixels


def read_values(path: PathLike, page: int | None = None) -> np.ndarray:
    """The numbers of an image file as they are stored, for measuring: `[H, W]` or `[H, W, C]`.

    Neither scaled nor rotated, so the pixels lie where `read_image` without `size` has them.

    Args:
        path, page: as in `read_image`.

    Raises:
        OSError, ValueError: as `read_image`.
    """
    return _decode(path, page).pixels


def load_image_file(
    path: PathLike,
    size: tuple[int, int] | None = None,
    value_range: Sequence[float] | None = None,
    page: int | None = None,
) -> ImageFile:
    """`read_image` that returns its remarks instead of logging them."""
    decoded = _decode(path, page)
    try:
        channels = grey_or_rgb(decoded.pixels)
        pixels, guess = to_8_bits(channels, value_range, decoded.white)
    except ValueError as error:
        raise ValueError(f"{path} {error}") from error
    if decoded.white_is_zero:
        pixels = 255 - pixels
    is_turned, doubt = turns(decoded.orientation, pixels.shape[:2], size)
    if is_turned:
        pixels = turned(pixels, decoded.orientation)
    remarks = []
    if guess is not None:
        remarks.append(_remark_on_range(path, statistics_of(channels), guess))
    if doubt is not None:
        remarks.append(Remark(("rotation", str(path)), f"{path} {doubt}"))
    pixels = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
    return ImageFile(np.ascontiguousarray(pixels), tuple(remarks))


def say_once(remarks: tuple[Remark, ...], said: dict[tuple, object]) -> None:
    """Log remarks as warnings, except those in `said`; new ones are added to it."""
    for remark in remarks:
        mine = object()
        if said.setdefault(remark.key, mine) is mine:  # one step: several threads read images
            # A file name that is not UTF-8 could not be printed.
            logger.warning("%s", remark.text.encode("utf-8", "backslashreplace").decode())


def turns(
    orientation: int, stored: tuple[int, ...], size: tuple[int, int] | None
) -> tuple[bool, str | None]:
    """Whether to rotate an image with a rotation tag, and a remark if that is unknown.

    Args:
        orientation: the tag, 1 to 8; stored: `(height, width)` of the pixels as stored.
        size: `(height, width)` that the annotation file states.

    Returns:
        Whether to rotate; None or a remark that begins with a verb.
    """
    if orientation == 1 or size is None:
        return False, None
    height, width = stored
    shown = (width, height) if orientation >= 5 else (height, width)
    if shown != (height, width) and size in (shown, (height, width)):
        return size == shown, None
    reason = (
        "its size is the same either way"
        if size == (height, width)
        else f"the annotations state {size[0]}x{size[1]}, which it has in neither way"
    )
    return False, (
        f"is stored as {height}x{width} with a rotation tag ({orientation}), and whether its masks "
        f"are drawn on the turned image is unknown: {reason}. The pixels are taken as stored. "
        "If its masks do not fit, store it turned: PIL.ImageOps.exif_transpose."
    )


def _decode(path: PathLike, page: int | None) -> Decoded:
    """The pixels as they are stored; errors name the file."""
    try:
        if is_tiff(path):
            return decode_tiff(path, page)
        try:
            return decode_with_pillow(path, page or 0)
        except PIL.UnidentifiedImageError:
            return decode_other(path)
    except FileNotFoundError:
        raise
    except Refusal as refusal:
        raise ValueError(f"{path} {refusal}") from refusal
    except Exception as error:  # decoders raise any error: SyntaxError, struct.error, ...
        raise OSError(f"{path} cannot be read as an image: {error}") from error


def grey_or_rgb(pixels: np.ndarray) -> np.ndarray:
    """`[H, W, 1]` or `[H, W, 3]`, without alpha."""
    channels = pixels[:, :, None] if pixels.ndim == 2 else pixels
    if channels.ndim == 3 and channels.shape[2] in (1, 2):
        return channels[:, :, :1]
    if channels.ndim == 3 and channels.shape[2] in (3, 4):
        return channels[:, :, :3]
    raise ValueError(
        f"holds an array of shape {pixels.shape}, which is not one grey, RGB or RGBA image; "
        "override load_image to choose what to show."
    )


def say_range_once(path: PathLike, pixels: Statistics, guess: tuple[float, float]) -> None:
    """Log once that black and white were derived from the data."""
    say_once((_remark_on_range(path, pixels, guess),), _said)


def _remark_on_range(path: PathLike, pixels: Statistics, guess: tuple[float, float]) -> Remark:
    black, white = guess
    return Remark(
        ("range", guess),
        f"{path} holds {pixels.dtype} values up to {pixels.high:g}, so "
        f"{black:g} is taken as black and {white:g} as white. Other images may be scaled "
        f"otherwise: IMAGE_VALUE_RANGE = ({black:g}, {white:g}) in the Config, or "
        "image_value_range of the Dataset, scales all alike.",
    )
