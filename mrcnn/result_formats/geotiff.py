"""GeoTIFFs of object numbers: `geotiff/<image>.tif`, with the raster's place on the earth.

Numbers are those of `label_images`, with 32 bits; 0 is background and counts as no data.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mrcnn.data.windowed_images import Box, Georeference
from mrcnn.files import written_beside
from mrcnn.result_formats.found import Add, FoundImage
from mrcnn.result_formats.georeferenced import georeference_of, import_rasterio
from mrcnn.result_formats.label_windows import LabelWindows
from mrcnn.types import PathLike

_TILE = 512
# Side of what is drawn in one go: whole tiles.
_WINDOW = 2048
_CACHE_MEGABYTES = 64


@contextmanager
def write_geotiffs(folder: PathLike) -> Iterator[Add]:
    """Write `geotiff/`, one GeoTIFF per image.

    Raises:
        ImportError: rasterio is not installed. ValueError: an image does not say where it lies.
    """
    rasterio = import_rasterio()

    def add(image: FoundImage) -> None:
        with image.open() as pixels:
            place = georeference_of(pixels)
        path = Path(folder, "geotiff", f"{image.stem}.tif")
        with written_beside(path) as temporary, rasterio.Env(GDAL_CACHEMAX=_CACHE_MEGABYTES):
            _write(rasterio, temporary, LabelWindows(image), place)

    yield add


def _write(rasterio: Any, path: Path, labels: LabelWindows, place: Georeference) -> None:
    height, width = labels.shape
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=height,
        width=width,
        count=1,
        dtype="uint32",
        nodata=0,
        crs=rasterio.crs.CRS.from_wkt(place.crs),
        transform=rasterio.Affine(*place.transform),
        tiled=True,
        blockxsize=_TILE,
        blockysize=_TILE,
        compress="deflate",
        bigtiff="if_safer",
    ) as raster:
        for box in _boxes(height, width):
            y1, x1, y2, x2 = box
            window = rasterio.windows.Window(x1, y1, x2 - x1, y2 - y1)
            raster.write(labels.draw(box).astype(np.uint32), 1, window=window)


def _boxes(height: int, width: int) -> Iterator[Box]:
    for top in range(0, height, _WINDOW):
        for left in range(0, width, _WINDOW):
            yield top, left, min(top + _WINDOW, height), min(left + _WINDOW, width)
