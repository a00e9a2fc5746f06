"""TIFF files: which library decodes which kind.

Pillow reads TIFFs of up to 8 bits, and those whose colours have to be converted (CMYK, palette,
YCbCr, LAB). It reduces colours of 16 bits to 8 and does not know many kinds of floats, so tifffile
reads these, or OpenCV if tifffile would need the optional package imagecodecs. tifffile reads every
header, and nothing is decoded before the header is checked.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import re
import threading
import zlib
from collections.abc import Callable, Iterator
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
# GeoTIFF: pixel scale, tie points, transformation.
_GEOGRAPHIC = (33550, 33922, 34264)
_MOST_SAMPLES = 4
# Pixels of one tile or strip, and bytes of tiles and strips that are kept decoded.
_LARGEST_CHUNK = 1 << 26
_CHUNK_BYTES = 256 << 20


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
        header = _chosen_page(tif.pages, page)
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


def _chosen_page(pages: tifffile.TiffPages, number: int | None) -> tifffile.TiffPage:
    if number is None:
        _check_single(pages)
    elif not 0 <= number < len(pages):
        raise Refusal(f"has no page {number}; there are {len(pages)}, counted from 0.")
    return _page(pages, number or 0)


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


# ---- By windows ----------------------------------------------------------------------------------


class TiffPage(NamedTuple):
    """A page of a TIFF file that is open.

    Attributes:
        height, width: in pixels.
        read: function from `(y1, x1, y2, x2)` to `[h, w]` or `[h, w, C]`, which decodes only the
            tiles or strips that the window meets; None: it cannot, for `reason`, a verb and more.
        white, white_is_zero: as in `Decoded`.
        is_georeferenced: whether the header says where the pixels lie on the earth.
    """

    height: int
    width: int
    read: Callable[[tuple[int, int, int, int]], np.ndarray] | None
    reason: str
    white: float | None
    white_is_zero: bool
    is_georeferenced: bool


@contextlib.contextmanager
def open_tiff_page(path: PathLike, number: int | None = None) -> Iterator[TiffPage]:
    """Open one page of a TIFF file; pages as in `decode_tiff`.

    Raises:
        Refusal: several pages, or no such page. Damaged files raise any error.
    """
    import tifffile

    with tifffile.TiffFile(path) as tif:
        page = _chosen_page(tif.pages, number)
        reason = _why_not_by_windows(page)
        reader = None if reason else _Chunks(tif, page).read
        yield TiffPage(
            page.imagelength,
            page.imagewidth,
            reader,
            reason,
            _stated_white(page),
            page.photometric == _WHITE_IS_ZERO,
            any(tag in page.tags for tag in _GEOGRAPHIC),
        )


def _why_not_by_windows(page: tifffile.TiffPage) -> str:
    if page.photometric not in (_WHITE_IS_ZERO, _GREY, _RGB):
        return f"has colours {getattr(page.photometric, 'name', page.photometric)}"
    if not 1 <= page.samplesperpixel <= _MOST_SAMPLES or page.imagedepth > 1:
        return f"has {page.samplesperpixel} channels"
    if _needs_imagecodecs(page) and not _has_imagecodecs():
        compression = getattr(page.compression, "name", page.compression)
        return f"has compression {compression}, which needs the package imagecodecs"
    height, width = page.chunks[:2] if page.planarconfig != _SEPARATE_PLANES else page.chunks[-2:]
    return "has one large strip" if height * width > _LARGEST_CHUNK else ""


class _Chunks:
    """The tiles or strips of a page; those used last are kept, up to `_CHUNK_BYTES`."""

    def __init__(self, tif: tifffile.TiffFile, page: tifffile.TiffPage):
        self._file, self._page = tif.filehandle, page
        self._is_separate = page.planarconfig == _SEPARATE_PLANES and page.samplesperpixel > 1
        self._planes = page.samplesperpixel if self._is_separate else 1
        height, width = page.tilelength or page.rowsperstrip, page.tilewidth or page.imagewidth
        self._size = min(height, page.imagelength) if not page.is_tiled else height, width
        self._across = -(-page.imagewidth // width)
        self._down = -(-page.imagelength // self._size[0])
        assert page.dtype is not None
        self._bytes = (
            self._size[0]
            * self._size[1]
            * page.dtype.itemsize
            * (1 if self._is_separate else page.samplesperpixel)
        )
        self._kept: dict[int, np.ndarray] = {}
        # The threads of a loader share one file.
        self._lock = threading.Lock()

    def read(self, box: tuple[int, int, int, int]) -> np.ndarray:
        y1, x1, y2, x2 = box
        height, width = self._size
        samples = self._page.samplesperpixel
        pixels = np.zeros((y2 - y1, x2 - x1, samples), self._page.dtype)
        for row, column, plane in itertools.product(
            range(y1 // height, -(-y2 // height)),
            range(x1 // width, -(-x2 // width)),
            range(self._planes),
        ):
            chunk = self._chunk((plane * self._down + row) * self._across + column)
            top, left = row * height, column * width
            rows = slice(max(y1, top), min(y2, top + chunk.shape[0]))
            columns = slice(max(x1, left), min(x2, left + chunk.shape[1]))
            part = pixels[rows.start - y1 : rows.stop - y1, columns.start - x1 : columns.stop - x1]
            inside = chunk[
                rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
            ]
            if self._is_separate:
                part[:, :, plane] = inside[:, :, 0]
            else:
                part[:] = inside
        return pixels[:, :, 0] if samples == 1 else pixels

    def _chunk(self, index: int) -> np.ndarray:
        """One tile or strip, `[h, w, samples]`; zeros where the file leaves it out."""
        with self._lock:
            kept = self._kept.pop(index, None)
            kept = self._decode(index) if kept is None else kept
            self._kept[index] = kept
            while len(self._kept) > max(1, _CHUNK_BYTES // max(1, self._bytes)):
                self._kept.pop(next(iter(self._kept)))
            return kept

    def _decode(self, index: int) -> np.ndarray:
        page = self._page
        offset, count = page.dataoffsets[index], page.databytecounts[index]
        if not count:
            samples = 1 if self._is_separate else page.samplesperpixel
            return np.zeros((*self._size, samples), page.dtype)
        self._file.seek(offset)
        data = self._file.read(count)
        try:
            if page.compression in _DEFLATE:
                _check_unpacked(data, self._bytes)
            segment, _, shape = page.decode(data, index)
        except Exception as error:  # decoders raise any error
            raise OSError(f"{self._file.name} has a damaged tile or strip: {error}") from error
        if segment is None:
            raise OSError(f"{self._file.name} has a damaged tile or strip, number {index}.")
        _, rows, columns, _ = shape
        return segment[0, :rows, :columns]


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
        _check_unpacked(tif.filehandle.read(count), size)


def _check_unpacked(data: bytes, size: int) -> None:
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
