"""Georeferenced TIFFs: half a metre per pixel, in UTM zone 33N."""

import numpy as np
import pytest

PLACE = (0.5, 0.0, 500_000.0, 0.0, -0.5, 4_600_000.0)


def write_raster(path, pixels, crs="EPSG:32633", transform=PLACE, **options):
    """Write `[H, W]` or `[H, W, C]`; further options are those of rasterio."""
    rasterio = pytest.importorskip("rasterio")
    bands = np.moveaxis(np.atleast_3d(pixels), -1, 0)
    count, height, width = bands.shape
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=height,
        width=width,
        count=count,
        dtype=bands.dtype,
        crs=crs,
        transform=rasterio.Affine(*transform),
        **options,
    ) as raster:
        raster.write(bands)
