"""Images that are read by windows, so that they need not fit into memory.

    with open_windows("slide.tif") as image:
        image.read((0, 0, 1024, 1024))

TIFFs are read tile by tile or strip by strip, `.npy` files through a memory map, Zarr arrays by
their chunks, georeferenced rasters by rasterio, and scanned slides by OpenSlide. Other files are
decoded whole, up to the limit of `decoders`.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from mrcnn.data.decoders import Refusal, pixel_limit
from mrcnn.data.image_files import grey_or_rgb, read_values, say_range_once
from mrcnn.data.tiff_files import is_tiff, open_tiff_page
from mrcnn.data.value_range import Statistics, range_of, statistics_of, to_8_bits
from mrcnn.extras import import_extra
from mrcnn.types import PathLike

# Whole-slide images that OpenSlide knows.
SLIDE_ENDINGS = (".bif", ".mrxs", ".ndpi", ".scn", ".svs", ".svslide", ".vms", ".vmu")
# Files that only this module reads.
WINDOWED_ENDINGS = (*SLIDE_ENDINGS, ".npy", ".zarr")
_MOST_CHANNELS = 4
# Side of the part of an image whose values are looked at in one go.
_BLOCK = 2048
_GDAL_MEGABYTES = 256
# (y1, x1, y2, x2) in pixels, (y2, x2) outside.
Box = tuple[int, int, int, int]


class Georeference(NamedTuple):
    """Where the pixels of a raster lie on the earth.

    Attributes:
        crs: the coordinate reference system as WKT.
        transform: `(a, b, c, d, e, f)`: x = a * column + b * row + c, y = d * column + e * row + f,
            of a pixel's upper left corner.
    """

    crs: str
    transform: tuple[float, float, float, float, float, float]


class WindowedImage(NamedTuple):
    """An image that is read by windows.

    Attributes:
        name: for messages.
        height, width: in pixels.
        read: function from `(y1, x1, y2, x2)`, inside the image, to the stored numbers, `[h, w]` or
            `[h, w, C]`.
        white: the largest possible value where the file states it.
        white_is_zero: larger values are darker.
        value_range: `(black, white)` as the user states them; None: see `reader_of_rgb`.
        mask: function from `(y1, x1, y2, x2)` to which pixels show something, `[h, w]` bool; None:
            all do.
        georeference: where it lies; None: unknown.
    """

    name: str
    height: int
    width: int
    read: Callable[[Box], np.ndarray]
    white: float | None = None
    white_is_zero: bool = False
    value_range: Sequence[float] | None = None
    mask: Callable[[Box], np.ndarray] | None = None
    georeference: Georeference | None = None


def windows_of_array(
    array: Any, name: str = "the image", nodata: float | None = None
) -> WindowedImage:
    """An array as an image: NumPy's, a memory map, or Zarr's; `[H, W]`, `[H, W, C]`, `[C, H, W]`.

    Args:
        nodata: value of pixels that show nothing.

    Raises:
        ValueError: the shape is none of these, with up to 4 channels.
    """
    shape = tuple(int(side) for side in array.shape)
    first = len(shape) == 3 and shape[0] <= _MOST_CHANNELS < shape[2]
    if len(shape) not in (2, 3) or 0 in shape or (shape[0 if first else -1] > 4 and len(shape) > 2):
        raise ValueError(
            f"{name} has shape {shape}; an image is [height, width], [height, width, channels] or "
            f"[channels, height, width], with up to {_MOST_CHANNELS} channels."
        )

    def read(box: Box) -> np.ndarray:
        rows, columns = slice(box[0], box[2]), slice(box[1], box[3])
        if first:
            return np.moveaxis(np.asarray(array[:, rows, columns]), 0, -1)
        return np.asarray(array[rows, columns])

    height, width = shape[1:] if first else shape[:2]
    if nodata is None:
        return WindowedImage(name, height, width, read)

    def mask(box: Box) -> np.ndarray:
        values = read(box)
        shown = ~np.isnan(values) if np.isnan(nodata) else values != nodata
        return shown if shown.ndim == 2 else shown.any(axis=2)

    return WindowedImage(name, height, width, read, mask=mask)


@contextlib.contextmanager
def open_windows(
    path: PathLike, page: int | None = None, value_range: Sequence[float] | None = None
) -> Iterator[WindowedImage]:
    """Open an image file, to be read by windows.

    Args:
        page: of a TIFF with several, counted from 0.
        value_range: as in `read_image`.

    Raises:
        FileNotFoundError: there is no such file. ImportError: a slide or a Zarr array, without the
            library that reads it. OSError: it cannot be read. ValueError: it is no image.
    """
    path = os.fspath(path)
    if not os.path.exists(path):
        raise FileNotFoundError(f"there is no image {path}.")
    with contextlib.ExitStack() as files:
        yield _open(path, page, files)._replace(value_range=value_range)


def _open(path: str, page: int | None, files: contextlib.ExitStack) -> WindowedImage:
    ending = os.path.splitext(path.rstrip("/\\"))[1].lower()
    if ending == ".zarr":
        return _open_zarr(path)
    if ending == ".npy":
        return _open_array(path)
    if ending in SLIDE_ENDINGS:
        return _open_slide(path, files)
    if os.path.isfile(path) and is_tiff(path):
        return _open_tiff(path, page, files)
    return windows_of_array(read_values(path, page), path)


def _open_array(path: str) -> WindowedImage:
    try:
        # Without pickles: those would run as programs.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise ValueError(f"{path} is no array of numbers as np.save writes it: {error}") from error
    return windows_of_array(array, path)


def _open_tiff(path: str, page: int | None, files: contextlib.ExitStack) -> WindowedImage:
    try:
        tiff = files.enter_context(open_tiff_page(path, page))
    except Refusal as refusal:
        raise ValueError(f"{path} {refusal}") from refusal
    except Exception as error:  # damaged files raise any error
        raise OSError(f"{path} cannot be read as a TIFF: {error}") from error
    # Without rasterio it is an image like others, at an unknown place.
    if tiff.is_georeferenced and page is None and importlib.util.find_spec("rasterio"):
        return _open_raster(path, files)
    if tiff.read is None:
        if tiff.height * tiff.width > pixel_limit():
            raise ValueError(
                f"{path} {tiff.reason}, so it cannot be read by windows, and with "
                f"{tiff.height}x{tiff.width} pixels it is too large to be read whole."
            )
        return windows_of_array(read_values(path, page), path)
    return WindowedImage(path, tiff.height, tiff.width, tiff.read, tiff.white, tiff.white_is_zero)


def _open_raster(path: str, files: contextlib.ExitStack) -> WindowedImage:
    """A georeferenced raster, by rasterio: GDAL knows its CRS, its mask and its compression."""
    rasterio = import_extra("rasterio", "georeferenced TIFFs are read by rasterio", "geo")
    # Otherwise GDAL keeps a twentieth of the machine's memory full of tiles.
    files.enter_context(rasterio.Env(GDAL_CACHEMAX=_GDAL_MEGABYTES))
    try:
        source = files.enter_context(rasterio.open(path, driver="GTiff"))
    except rasterio.errors.RasterioError as error:
        raise OSError(f"{path} cannot be read as a raster: {error}") from error
    # Grey and RGB, with or without alpha; of the many bands of a satellite the first three.
    bands = list(range(1, {1: 1, 2: 1, 4: 4}.get(source.count, 3) + 1))
    lock = threading.Lock()  # a dataset of GDAL serves one thread

    def window(box: Box) -> Any:
        return rasterio.windows.Window(box[1], box[0], box[3] - box[1], box[2] - box[0])

    def read(box: Box) -> np.ndarray:
        with lock:
            values = np.moveaxis(source.read(bands, window=window(box)), 0, -1)
        return values[:, :, 0] if len(bands) == 1 else values

    def mask(box: Box) -> np.ndarray:
        with lock:
            return source.dataset_mask(window=window(box)) > 0

    crs = source.crs.to_wkt() if source.crs else ""
    return WindowedImage(
        path,
        int(source.height),
        int(source.width),
        read,
        mask=mask,
        georeference=Georeference(crs, _six(source.transform)),
    )


def _six(transform: Sequence[float]) -> tuple[float, float, float, float, float, float]:
    a, b, c, d, e, f = (float(one) for one in transform[:6])
    return a, b, c, d, e, f


def _open_slide(path: str, files: contextlib.ExitStack) -> WindowedImage:
    openslide = import_extra("openslide", "scanned slides are read by OpenSlide", "slides")
    try:
        slide = files.enter_context(openslide.OpenSlide(path))
    except openslide.OpenSlideError as error:
        raise OSError(f"{path} cannot be read as a slide: {error}") from error
    width, height = slide.dimensions

    def read_rgba(box: Box) -> np.ndarray:
        return np.asarray(
            slide.read_region((box[1], box[0]), 0, (box[3] - box[1], box[2] - box[0]))
        )

    # What was not scanned is transparent.
    return WindowedImage(
        path,
        height,
        width,
        lambda box: read_rgba(box)[:, :, :3],
        mask=lambda box: read_rgba(box)[:, :, 3] > 0,
    )


def _open_zarr(path: str) -> WindowedImage:
    """A Zarr array, or the largest image of an OME-Zarr group."""
    zarr = import_extra("zarr", "Zarr arrays are read by zarr", "tiles")
    try:
        found = zarr.open(path, mode="r")
        while not hasattr(found, "shape"):
            found = found["0"]
    except Exception as error:  # zarr raises errors of many kinds
        raise OSError(f"{path} cannot be read as a Zarr array: {error}") from error
    return windows_of_array(_without_single_axes(found), path)


class _SingleAxes(NamedTuple):
    """An array of more axes, of which only those of an image have more than one element."""

    array: Any
    shape: tuple[int, ...]
    kept: tuple[int, ...]

    def __getitem__(self, index: tuple[slice, ...]) -> Any:  # type: ignore[override]
        whole: list[int | slice] = [0] * self.array.ndim
        for axis, part in zip(self.kept, index, strict=False):
            whole[axis] = part
        for axis in self.kept[len(index) :]:
            whole[axis] = slice(None)
        return self.array[tuple(whole)]


def _without_single_axes(array: Any) -> Any:
    """OME-Zarr stores `[1, C, 1, H, W]` for time and depth of one."""
    if array.ndim <= 3:
        return array
    kept = tuple(axis for axis, side in enumerate(array.shape) if side > 1)
    return _SingleAxes(array, tuple(array.shape[axis] for axis in kept), kept)


# ---- As the network sees it ----------------------------------------------------------------------


def reader_of_rgb(image: WindowedImage) -> Callable[[Box], np.ndarray]:
    """A function from `(y1, x1, y2, x2)` to the window as `[h, w, 3]` uint8.

    Pixels without data are black. All windows are scaled alike, see `range_of_windows`.

    Raises:
        ValueError: as `to_8_bits`.
    """
    return functools.partial(_read_rgb, image, range_of_windows(image))


def range_of_windows(image: WindowedImage) -> tuple[float, float] | None:
    """Values of black and white for all windows; None for 8 bits, which stay as they are.

    If neither the user nor the file states them, they follow from all pixels, which are read for
    that.

    Raises:
        ValueError: as `to_8_bits`.
    """
    if image.value_range is not None:
        black, white = image.value_range
        return black, white
    if image.read((0, 0, 1, 1)).dtype in (np.uint8, bool):
        return None
    found = _statistics(image)
    try:
        chosen, is_guess = range_of(found, image.white)
    except ValueError as error:
        raise ValueError(f"{image.name} {error}") from error
    if is_guess:
        say_range_once(image.name, found, chosen)
    return chosen


def _statistics(image: WindowedImage) -> Statistics:
    found = []
    for top in range(0, image.height, _BLOCK):
        for left in range(0, image.width, _BLOCK):
            box = (top, left, min(top + _BLOCK, image.height), min(left + _BLOCK, image.width))
            values = grey_or_rgb(image.read(box))
            found.append(statistics_of(values if image.mask is None else values[image.mask(box)]))
    return Statistics(
        found[0].dtype,
        min(one.low for one in found),
        max(one.high for one in found),
        all(one.is_whole for one in found),
    )


def _read_rgb(image: WindowedImage, value_range: Sequence[float] | None, box: Box) -> np.ndarray:
    try:
        values = grey_or_rgb(image.read(box))
        mask = None if image.mask is None else image.mask(box)
        if mask is not None:
            values = np.where(mask[:, :, None], values, values.dtype.type(0))
        pixels, _ = to_8_bits(values, value_range)
    except ValueError as error:
        raise ValueError(f"{image.name} {error}") from error
    pixels = 255 - pixels if image.white_is_zero else pixels
    if mask is not None:
        pixels = np.where(mask[:, :, None], pixels, np.uint8(0))
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
