"""Masks and label images as files: their numbers count, not their colours.

A **mask** shows one object: its pixels are not black. A **label image** has one channel of whole
numbers: 0 is background, each other number is an object.

Error messages begin with a verb; the caller puts the name of the file before them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image

from mrcnn.data.decoders import Refusal, decode_with_pillow, pixel_limit
from mrcnn.data.formats.image_folder import possible_sizes
from mrcnn.data.formats.problems import Problems, problem_of_image_size
from mrcnn.data.tiff_files import decode_tiff, is_tiff, read_header
from mrcnn.files import written_beside
from mrcnn.messages import shortened
from mrcnn.types import PathLike

if TYPE_CHECKING:
    from mrcnn.data.tiff_files import TiffHeader

# Compression without loss. JPEG changes pixels, so that a mask gets a noisy edge.
MASK_ENDINGS = (".png", ".tif", ".tiff", ".bmp")
LABEL_ENDINGS = (".png", ".tif", ".tiff")
_ONE_CHANNEL = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")
_LARGEST_UINT16 = 65535


def mask_size(path: PathLike) -> tuple[int, int]:
    """(height, width) of a mask from its header; no pixel is decoded.

    Raises:
        ValueError: it is no image, a stack, or too large.
    """
    return _size(path, needs_numbers=False)


def label_size(path: PathLike) -> tuple[int, int]:
    """(height, width) of a label image from its header; no pixel is decoded.

    Raises:
        ValueError: it is no image, a stack, a picture in colour, or has numbers with fractions.
    """
    return _size(path, needs_numbers=True)


def read_mask(path: PathLike) -> np.ndarray:
    """A mask as `[H, W]` bool: true where the colour is not black. Transparency does not count.

    Raises:
        ValueError: it cannot be read.
    """
    pixels = _decoded(path, _mask_pixels)
    return np.asarray(pixels.any(axis=2) if pixels.ndim == 3 else pixels != 0)


def read_labels(path: PathLike) -> np.ndarray:
    """A label image: `[H, W]` of whole numbers, none of them negative.

    In a picture with a palette, the numbers are the places in the palette.

    Raises:
        ValueError: it cannot be read, or it is no label image.
    """
    label_size(path)
    labels = _decoded(path, _label_pixels)
    if labels.ndim != 2 or labels.dtype.kind not in "bui":
        raise ValueError(
            f"holds an array of shape {labels.shape} and type {labels.dtype}; a label image has "
            "one channel of whole numbers."
        )
    if labels.size and labels.min() < 0:
        raise ValueError(f"has the number {labels.min()}; 0 is background, objects count from 1.")
    return labels.astype(np.uint8) if labels.dtype == bool else labels


def write_mask(path: PathLike, mask: np.ndarray) -> None:
    """Write a mask `[H, W]` bool as a PNG: 255 for the object, 0 elsewhere."""
    with written_beside(path) as temporary:
        PIL.Image.fromarray(mask.astype(np.uint8) * 255).save(temporary, "PNG")


def write_labels(path: PathLike, labels: np.ndarray) -> None:
    """Write a label image `[H, W]` as a TIFF of 16 bits, or of 32 bits if its numbers need them."""
    import tifffile

    largest = int(labels.max(initial=0))
    dtype = np.uint16 if largest <= _LARGEST_UINT16 else np.uint32
    # Without `photometric`, tifffile takes an image that is 3 or 4 pixels wide for RGB.
    with written_beside(path) as temporary:
        tifffile.imwrite(
            temporary,
            labels.astype(dtype),
            photometric="minisblack",
            compression="zlib",
            metadata=None,
        )


def common_size(
    entry: str,
    image: PathLike,
    rasters: Iterable[Path],
    kind: str,
    size_of: Callable[[PathLike], tuple[int, int]],
    problems: Problems,
) -> tuple[int, int] | None:
    """The (height, width) of an image and its masks; without one, `problems` has the reason.

    Args:
        entry: what messages call the image; image: its file.
        rasters: the files that must have its size.
        kind: what messages call such a file, "mask" or "label image".
        size_of: `mask_size` or `label_size`.
    """
    try:
        sizes = possible_sizes(image)
    except (OSError, ValueError) as error:
        problems.add(entry, f"cannot be used: {error}")
        return None
    if problem := problem_of_image_size(*sizes[0]):
        problems.add(entry, problem)
        return None
    size = None
    for file in rasters:
        try:
            found = size_of(file)
        except ValueError as error:
            problems.add(entry, f"has a {kind} {file.name} that {error}")
            return None
        if found not in sizes or found != (size or found):
            problems.add(
                entry,
                f"has {sized(sizes[0])} (height x width), and its {kind} {file.name} has "
                f"{sized(found)}; both must be of one size.",
            )
            return None
        size = found
    return size or sizes[0]


def sized(size: Sequence[int]) -> str:
    """(height, width) in words."""
    return f"{size[0]}x{size[1]}"


# ---- Headers -------------------------------------------------------------------------------------


def _size(path: PathLike, needs_numbers: bool) -> tuple[int, int]:
    try:
        size, problem = _tiff_header(path) if is_tiff(path) else _picture_header(path)
    except Exception as error:  # decoders raise any error: SyntaxError, struct.error, ...
        raise ValueError(f"cannot be read as an image: {shortened(error, 200)}.") from error
    several, no_numbers = problem
    wrong = problem_of_image_size(*size) or several or (no_numbers if needs_numbers else None)
    if wrong:
        raise ValueError(wrong)
    return size


# (height, width); why it is not one image, why it is no label image.
_Header = tuple[tuple[int, int], tuple[str | None, str | None]]


def _tiff_header(path: PathLike) -> _Header:
    header = read_header(path)
    several = header.several and _stack(header.several)
    return (header.height, header.width), (several, _problem_of_tiff_numbers(header))


def _problem_of_tiff_numbers(header: TiffHeader) -> str | None:
    if header.channels != 1:
        return _colours(f"{header.channels} channels")
    return _fractions(f"floats of {header.bits} bits") if header.is_float else None


def _picture_header(path: PathLike) -> _Header:
    with PIL.Image.open(path) as picture:
        frames = getattr(picture, "n_frames", 1)
        several = _stack(f"{frames} images") if frames > 1 else None
        numbers = None
        if picture.mode == "F":
            numbers = _fractions("floats")
        elif picture.mode not in _ONE_CHANNEL:
            numbers = _colours(f"the mode {picture.mode}")
        return (picture.height, picture.width), (several, numbers)


def _stack(what: str) -> str:
    return f"is a stack of {what}; save each image as a file of its own."


def _colours(what: str) -> str:
    return (
        f"has {what}; a label image has one channel, in which 0 is background and each other "
        "number is an object."
    )


def _fractions(what: str) -> str:
    return (
        f"has {what}; a label image has whole numbers, so save it with 8, 16 or 32 bits without "
        "fractions."
    )


# ---- Pixels --------------------------------------------------------------------------------------


def _decoded(path: PathLike, decode: Callable[[PathLike], np.ndarray]) -> np.ndarray:
    try:
        return decode(path)
    except Refusal as refusal:
        raise ValueError(str(refusal)) from refusal
    except PIL.Image.DecompressionBombError as error:
        raise ValueError(f"has more pixels than the limit of {pixel_limit():,}.") from error
    except Exception as error:  # decoders raise any error: SyntaxError, struct.error, ...
        raise ValueError(f"cannot be read as an image: {shortened(error, 200)}.") from error


def _mask_pixels(path: PathLike) -> np.ndarray:
    if is_tiff(path):
        return _without_alpha(decode_tiff(path).pixels)
    with PIL.Image.open(path) as picture:
        if picture.mode in ("1", "L"):
            return np.asarray(picture)
    return _without_alpha(decode_with_pillow(path).pixels)


def _without_alpha(pixels: np.ndarray) -> np.ndarray:
    if pixels.ndim == 3 and pixels.shape[2] in (2, 4):
        return pixels[:, :, :-1]
    return pixels


def _label_pixels(path: PathLike) -> np.ndarray:
    if is_tiff(path) and read_header(path).bits > 8:
        return decode_tiff(path).pixels
    with PIL.Image.open(path) as picture:
        if picture.mode in _ONE_CHANNEL:
            pixels = np.asarray(picture)
            return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    return decode_with_pillow(path).pixels
