"""Pillow and OpenCV as decoders, both held to one pixel limit before they decode.

The limit is that of Pillow: twice `PIL.Image.MAX_IMAGE_PIXELS`, 178,956,970 pixels unless changed.
Set `MAX_IMAGE_PIXELS` to None for no limit, or set the environment variable MRCNN_MAX_IMAGE_PIXELS
to a number of pixels (0: no limit); it is read once. The limit also holds for formats that Pillow
does not read.
"""

from __future__ import annotations

import math
import os
import re
import warnings
from typing import NamedTuple

import cv2
import numpy as np
import PIL.Image

from mrcnn.types import PathLike

PIXEL_LIMIT_VARIABLE = "MRCNN_MAX_IMAGE_PIXELS"
_ORIENTATION = 0x0112
# Formats whose grey images of 16 bits use all 16 bits: their headers state the number of bits, and
# Pillow scales the values up.
_SCALED_BY_PILLOW = ("PPM", "JPEG2000")
# Formats that OpenCV decodes and Pillow does not: the first bytes of the file, and the patterns of
# height and width in its header. Radiance HDR, PAM, PFM.
_OTHERS = (
    (b"#?", rb"FORMAT=\S+\n\n-Y (\d+) \+X \d+\n", rb"FORMAT=\S+\n\n-Y \d+ \+X (\d+)\n"),
    (b"P7\n", rb"HEIGHT\s+(\d+)\s", rb"WIDTH\s+(\d+)\s"),
    (b"PF", rb"\APF\s+\d+\s+(\d+)\s", rb"\APF\s+(\d+)\s"),
)
# OpenEXR: left, top, right, bottom.
_EXR_MAGIC = b"\x76\x2f\x31\x01"
_EXR_WINDOW = re.compile(rb"dataWindow\0box2i\0\x10\0\0\0(.{16})", re.DOTALL)
_HEADER_BYTES = 1 << 16

# Between its limit and twice that, Pillow warns of an attack. Here such images are allowed.
# Appended: filters that the user has set come first.
warnings.filterwarnings("ignore", category=PIL.Image.DecompressionBombWarning, append=True)


class Refusal(ValueError):
    """The image is not damaged, but is not read; the message is a sentence without its subject."""


class Decoded(NamedTuple):
    """An image as its file stores it."""

    pixels: np.ndarray  # [H, W] or [H, W, channels], colours as RGB, not rotated
    orientation: int = 1  # Exif orientation, 1 to 8: how to rotate the pixels to show the image
    white: float | None = None  # value of white, if the file states it
    white_is_zero: bool = False  # larger values are darker


# ---- The pixel limit -----------------------------------------------------------------------------


def _apply_variable() -> None:
    value = os.environ.get(PIXEL_LIMIT_VARIABLE)
    if value is None:
        return
    if not re.fullmatch(r"\d{1,18}", value):
        raise ValueError(
            f"the environment variable {PIXEL_LIMIT_VARIABLE} is {value!r}; it must be a number "
            "of pixels, or 0 for no limit."
        )
    PIL.Image.MAX_IMAGE_PIXELS = -(-int(value) // 2) or None


_apply_variable()


def pixel_limit() -> float:
    """Largest number of pixels of an image that is read; infinity for no limit."""
    largest = PIL.Image.MAX_IMAGE_PIXELS
    return math.inf if largest is None else 2 * largest


def check_size(height: int, width: int) -> None:
    """Check a size from a file's header against the limit, before memory of that size is used.

    Raises:
        Refusal: more pixels than the limit.
    """
    if height * width > pixel_limit():
        raise Refusal(_too_many(f"{height}x{width}"))


def _too_many(size: str) -> str:
    return (
        f"has {size} pixels, more than the limit of {pixel_limit():,}; to read it, set "
        "PIL.Image.MAX_IMAGE_PIXELS to None, or the environment variable "
        f"{PIXEL_LIMIT_VARIABLE} to a larger number."
    )


# ---- Pillow --------------------------------------------------------------------------------------


def decode_with_pillow(path: PathLike, page: int = 0) -> Decoded:
    """An image file of a format that Pillow knows; colours become RGB, palettes too.

    Args:
        page: of a file with several images, counted from 0.

    Raises:
        PIL.UnidentifiedImageError: no such format; Refusal: too large, no such page, or a format
            that another program would have to decode. Damaged files raise anything.
    """
    try:
        with PIL.Image.open(path) as picture:
            if picture.format == "EPS":
                raise Refusal("is a PostScript program, not an image; save it as PNG.")
            if page:
                _seek(picture, page)
            tag = _tiff_orientation(picture)
            pixels = _pixels(picture, path)
            if tag is None:
                orientation = _exif_orientation(picture)
            else:
                orientation = tag
                if _tiff_orientation(picture) != tag:  # Pillow turns TIFFs as it decodes them
                    pixels = turned(pixels, undoing(tag))
            is_grey = picture.mode.startswith("I")
            white = 65535 if is_grey and picture.format in _SCALED_BY_PILLOW else None
            return Decoded(pixels, orientation, white)
    except PIL.Image.DecompressionBombError as error:
        count = re.search(r"\((\d+) pixels\)", str(error))
        raise Refusal(_too_many(f"{int(count[1]):,}" if count else "too many")) from error


def _seek(picture: PIL.Image.Image, page: int) -> None:
    try:
        picture.seek(page)
    except EOFError as error:
        raise Refusal(f"has no page {page}; pages count from 0.") from error


def _pixels(picture: PIL.Image.Image, path: PathLike) -> np.ndarray:
    if picture.mode == "F" or picture.mode.startswith("I"):
        pixels = np.asarray(picture)
        return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    if picture.format == "PNG" and _has_16_bit_colours(path):
        picture.load()  # raises if the file is cut off; OpenCV would fill the rest with black
        return decode_with_opencv(path).pixels  # Pillow drops the lower 8 bits
    if picture.mode == "P":
        return np.asarray(picture.convert("RGBA").convert("RGB"))  # avoids Pillow's warning
    return np.asarray(picture.convert("RGB"))


def _has_16_bit_colours(path: PathLike) -> bool:
    """Does the header of a PNG state colours of 16 bits? Pillow's object does not tell."""
    with open(path, "rb") as file:
        bits, colour_type = file.read(26)[24:]
    return bits == 16 and colour_type in (2, 4, 6)  # RGB, grey with alpha, RGB with alpha


def _tiff_orientation(picture: PIL.Image.Image) -> int | None:
    """Orientation tag of a TIFF, 1 without one; None for another format."""
    tags = getattr(picture, "tag_v2", None)
    return None if tags is None else as_orientation(tags.get(_ORIENTATION))


def _exif_orientation(picture: PIL.Image.Image) -> int:
    try:
        return as_orientation(picture.getexif().get(_ORIENTATION))
    except Exception:  # damaged Exif data raise any error, and the pixels are good without them
        return 1


def as_orientation(value: object) -> int:
    """The value of an orientation tag; 1, as stored, for one that is missing or unknown."""
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels `[H, W, ...]` rotated and mirrored as an Exif orientation says."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def undoing(orientation: int) -> int:
    """The orientation that undoes this one."""
    return {6: 8, 8: 6}.get(orientation, orientation)


# ---- OpenCV --------------------------------------------------------------------------------------


def decode_other(path: PathLike) -> Decoded:
    """An image file of a format that OpenCV decodes and Pillow does not.

    Raises:
        Refusal: too large; ValueError: no such format, or damaged.
    """
    with open(path, "rb") as file:
        size = _other_size(file.read(_HEADER_BYTES))
    if size is None:
        raise ValueError("no image format that Pillow or OpenCV knows.")
    check_size(*size)
    return decode_with_opencv(path)


def _other_size(head: bytes) -> tuple[int, int] | None:
    """Height and width; the largest ones if a header has several."""
    for magic, height, width in _OTHERS:
        heights, widths = re.findall(height, head), re.findall(width, head)
        if head.startswith(magic) and heights and widths:
            return max(map(int, heights)), max(map(int, widths))
    if head.startswith(_EXR_MAGIC) and (window := _EXR_WINDOW.search(head)):
        left, top, right, bottom = (int(side) for side in np.frombuffer(window[1], "<i4"))
        return bottom - top + 1, right - left + 1
    return None


def decode_with_opencv(path: PathLike) -> Decoded:
    """An image file whose size was checked.

    Raises:
        ValueError: OpenCV does not decode it.
    """
    # cv2.imread ends the process on a file name that is not UTF-8; imdecode raises on empty files.
    data = np.fromfile(path, np.uint8)
    pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    if pixels is None:
        raise ValueError("OpenCV does not decode it.")
    if pixels.ndim == 3:  # OpenCV has BGR
        pixels = np.concatenate([pixels[..., 2::-1], pixels[..., 3:]], axis=-1)
    return Decoded(pixels)
