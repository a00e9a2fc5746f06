"""TIFF files: which library decodes which kind.

Pillow reads TIFFs of up to 8 bits, and those whose colours have to be converted (CMYK, palette,
YCbCr, LAB). It reduces colours of 16 bits to 8 and does not know many kinds of floats, so tifffile
reads these, or OpenCV if tifffile would need the optional package imagecodecs. tifffile reads every
header, and nothing is decoded before the header is checked.
"""

from __future__ import annotations

import importlib.util
import re
import zlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import PIL.Image

from mrcnn.data.decoders import (
    Decoded,
    Refusal,
    as_orientation,
    check_size,
    decode_with_opencv,
    decode_with_pillow,
    turned,
    undoing,
)
from mrcnn.data.value_range import white_of
from mrcnn.types import PathLike

if TYPE_CHECKING:  # imported in the functions that use it: it takes a fifth of a second
    import tifffile

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# TIFF 6.0: values of PhotometricInterpretation, Compression, Predictor, SampleFormat, PlanarConfig.
_WHITE_IS_ZERO, _GREY, _RGB = 0, 1, 2
_UNCOMPRESSED, _DEFLATE = 1, (8, 32946)
_FLOAT_PREDICTOR = 3
_UNSIGNED, _FLOAT = 1, 3
_SEPARATE_PLANES = 2
_ORIENTATION, _MAX_SAMPLE, _S_MAX_SAMPLE = 274, 281, 341


def is_tiff(path: PathLike) -> bool:
    """Does the file begin like a TIFF? Its name does not count."""
    with open(path, "rb") as file:
        return file.read(4) in _MAGIC


class TiffHeader(NamedTuple):
    """What the header of a TIFF file's first page states."""

    height: int
    width: int
    channels: int
    bits: int  # of one channel
    is_float: bool
    several: str | None  # "5 pages" in a file of several images


def read_header(path: PathLike) -> TiffHeader:
    """The header of a TIFF file; nothing is decoded. Damaged files raise any error."""
    import tifffile

    with tifffile.TiffFile(path) as tif:
        page = _page(tif.pages, 0)
        return TiffHeader(
            page.imagelength,
            page.imagewidth,
            page.samplesperpixel,
            _bits(page),
            page.sampleformat == _FLOAT,
            _several_images(tif.pages),
        )


def count_pages(path: PathLike) -> int:
    """Number of images in a TIFF file; 1 for thumbnails and smaller copies beside one image."""
    import tifffile

    with tifffile.TiffFile(path) as tif:
        return len(tif.pages) if _several_images(tif.pages) else 1


def decode_tiff(path: PathLike, page: int | None = None) -> Decoded:
    """One page of a TIFF file.

    Args:
        page: counted from 0; None: the file must have only one. Thumbnails, pages marked as
            smaller copies and pages marked as masks do not count.

    Raises:
        Refusal: too many pixels, several pages, or a kind of TIFF that none of the three libraries
            decodes. Damaged files raise any error.
    """
    import tifffile

    with tifffile.TiffFile(path) as tif:
        # Only pages are used and never tifffile's series: for OME-TIFF these open other files.
        pages = tif.pages
        if page is None:
            _check_single(pages)
        elif not 0 <= page < len(pages):
            raise Refusal(f"has no page {page}; there are {len(pages)}, counted from 0.")
        header = _page(pages, page or 0)
        check_size(header.imagelength, header.imagewidth)
        is_plain = header.photometric in (_WHITE_IS_ZERO, _GREY, _RGB)
        if not is_plain or (_bits(header) <= 8 and header.sampleformat == _UNSIGNED):
            try:
                return decode_with_pillow(path, page or 0)
            except PIL.UnidentifiedImageError:
                if not is_plain:
                    raise Refusal(_unknown(header)) from None
        return _decode_plain(path, page or 0, tif, header)


def _page(pages: tifffile.TiffPages, number: int) -> tifffile.TiffPage:
    import tifffile

    page = pages[number]
    assert isinstance(page, tifffile.TiffPage)  # and no TiffFrame, which has no tags
    return page


def _check_single(pages: tifffile.TiffPages) -> None:
    if several := _several_images(pages):
        raise Refusal(_several(several, _page(pages, 0)))


def _several_images(pages: tifffile.TiffPages) -> str | None:
    """How many images there are, in words; None for one."""
    first = _page(pages, 0)
    for other in (_page(pages, number) for number in range(1, len(pages))):
        is_copy = other.is_reduced or other.is_mask
        if not is_copy and other.imagelength * other.imagewidth >= (
            first.imagelength * first.imagewidth
        ):
            return f"{len(pages)} pages"
    images = _images_of_one_page(first)
    return f"{images} images" if images > 1 else None


def _several(what: str, page: tifffile.TiffPage) -> str:
    return (
        f"has {what}, the first of {page.imagelength}x{page.imagewidth} pixels, and does not say "
        "which one to show; override load_image, with read_image(path, page=0) for the first."
    )


def _images_of_one_page(page: tifffile.TiffPage) -> int:
    """Images that follow each other under one header, as ImageJ and tifffile write large stacks."""
    if found := re.match(r"ImageJ=.*?\bimages=(\d{1,9})\b", page.description, re.DOTALL):
        return int(found[1])
    if found := re.match(r'\{"shape": \[([\d, ]{1,99})\]', page.description):
        count = float(np.prod([float(side) for side in found[1].split(",") if side.strip()]))
        return int(count // (page.imagelength * page.imagewidth * page.samplesperpixel))
    return page.imagedepth


def _bits(page: tifffile.TiffPage) -> int:
    return int(np.max(page.bitspersample))


def _unknown(page: tifffile.TiffPage) -> str:
    photometric = getattr(page.photometric, "name", page.photometric)
    compression = getattr(page.compression, "name", page.compression)
    return (
        f"has the colours {photometric} in {page.samplesperpixel} channels of {_bits(page)} bits "
        f"with compression {compression}, which nothing here decodes; save it as RGB without "
        "compression, or with LZW or Deflate."
    )


# ---- Grey and RGB of more than 8 bits ------------------------------------------------------------


def _decode_plain(
    path: PathLike, number: int, tif: tifffile.TiffFile, page: tifffile.TiffPage
) -> Decoded:
    if not 1 <= page.samplesperpixel <= 4:
        raise Refusal(
            f"has {page.samplesperpixel} channels, which is neither grey nor RGB nor RGBA; "
            "override load_image to choose which to show."
        )
    if _has_imagecodecs() or not _needs_imagecodecs(page):
        pixels = _decode_with_tifffile(tif, page)
    else:
        pixels = _decode_with_libtiff(path, number, page)
    return Decoded(
        pixels, _orientation(page), _stated_white(page), page.photometric == _WHITE_IS_ZERO
    )


def _has_imagecodecs() -> bool:
    return importlib.util.find_spec("imagecodecs") is not None


def _needs_imagecodecs(page: tifffile.TiffPage) -> bool:
    return (
        page.compression not in (_UNCOMPRESSED, *_DEFLATE)
        or page.predictor == _FLOAT_PREDICTOR
        or page.bitspersample not in (8, 16, 32, 64)
    )


def _decode_with_tifffile(tif: tifffile.TiffFile, page: tifffile.TiffPage) -> np.ndarray:
    check_size(*page.chunks[:2])  # a tile may be larger than its image
    if page.compression in _DEFLATE:
        _check_deflate(tif, page)
    pixels = page.asarray(maxworkers=1)
    if page.planarconfig == _SEPARATE_PLANES and page.samplesperpixel > 1:
        return np.moveaxis(pixels, 0, -1)
    return pixels


def _check_deflate(tif: tifffile.TiffFile, page: tifffile.TiffPage) -> None:
    """Check that no strip or tile unpacks to more than its size; tifffile sets no limit."""
    assert page.dtype is not None
    size = int(np.prod(page.chunks)) * page.dtype.itemsize
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        tif.filehandle.seek(offset)
        data = tif.filehandle.read(count)
        if data and len(zlib.decompressobj().decompress(data, size + 1)) > size:
            raise ValueError(f"a strip or tile of {size} bytes unpacks to more.")


def _decode_with_libtiff(path: PathLike, number: int, page: tifffile.TiffPage) -> np.ndarray:
    """A page decoded by Pillow or OpenCV: both contain libtiff, with its compressions."""
    if page.samplesperpixel == 1:
        try:
            return decode_with_pillow(path, number).pixels
        except PIL.UnidentifiedImageError:
            pass
    is_separate = page.planarconfig == _SEPARATE_PLANES and page.samplesperpixel > 1
    if number == 0 and page.samplesperpixel != 2 and not is_separate:
        # OpenCV rotates TIFFs as it decodes them.
        pixels = decode_with_opencv(path).pixels
        return turned(pixels, undoing(_orientation(page)))
    raise Refusal(_unknown(page))


def _orientation(page: tifffile.TiffPage) -> int:
    return as_orientation(page.tags.valueof(_ORIENTATION))


def _stated_white(page: tifffile.TiffPage) -> float | None:
    """The value of white if the header states it, as a number of bits or as a largest value."""
    if page.sampleformat == _FLOAT:
        return None
    if found := re.search(r'\bSignificantBits="(\d{1,2})"', page.description):
        return 2 ** int(found[1]) - 1  # OME
    if _bits(page) not in (8, 16, 32, 64):
        return 2 ** _bits(page) - 1
    stated = [page.tags.valueof(tag) for tag in (_MAX_SAMPLE, _S_MAX_SAMPLE)]
    # This is often the largest value in the image, so only its number of bits is used.
    largest = max((float(np.max(value)) for value in stated if value is not None), default=0)
    return white_of(largest) if 0 < largest < 2 ** _bits(page) else None
