"""GeoPackages: `gpkg/<image>.gpkg`, a row per object, in the raster's coordinate reference system.

QGIS, ArcGIS and geopandas open these files. The layer `objects` has MultiPolygons along the edges
of pixels, with holes, and the columns

    number      of the object; 1 has the best score
    class, score
    cut         whether it goes on beyond a tile, where nothing was found
    area        pixels times the area of a pixel, in squared units of the reference system
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from mrcnn.extras import import_extra
from mrcnn.files import written_beside
from mrcnn.result_formats.found import Add, FoundImage, FoundObject
from mrcnn.result_formats.georeferenced import (
    georeference_of,
    import_rasterio,
    on_the_map,
    pixel_area,
    polygons_of,
)
from mrcnn.types import PathLike

LAYER = "objects"
# Rows that are in memory at once.
_ROWS_AT_ONCE = 5000


@contextmanager
def write_geopackages(folder: PathLike) -> Iterator[Add]:
    """Write `gpkg/`, one GeoPackage per image.

    Raises:
        ImportError: rasterio or pyogrio is not installed. ValueError: an image does not say where
            it lies.
    """
    pyogrio = import_pyogrio()

    def add(image: FoundImage) -> None:
        with image.open() as pixels:
            place = georeference_of(pixels)
        with written_beside(Path(folder, "gpkg", f"{image.stem}.gpkg")) as temporary:
            for first in range(0, max(len(image.objects), 1), _ROWS_AT_ONCE):
                rows = image.objects[first : first + _ROWS_AT_ONCE]
                polygons = polygons_of(rows)
                # Sums of whole numbers: exactly the pixels; without any, the area is NaN.
                area = np.nan_to_num(shapely.area(polygons)) * pixel_area(place)
                columns = {**_columns(rows, first + 1), "area": area}
                pyogrio.raw.write(
                    str(temporary),
                    shapely.to_wkb(on_the_map(polygons, place)),
                    list(columns.values()),
                    list(columns),
                    layer=LAYER,
                    driver="GPKG",
                    geometry_type="MultiPolygon",
                    crs=place.crs,
                    append=first > 0,
                )

    yield add


def import_pyogrio() -> Any:
    """Pyogrio, which writes GeoPackages.

    Raises:
        ImportError: it is not installed, or rasterio is not.
    """
    import_rasterio()
    return import_extra("pyogrio", "GeoPackages are written by pyogrio", "geo")


def _columns(rows: list[FoundObject], first_number: int) -> dict[str, np.ndarray]:
    return {
        "number": np.arange(first_number, first_number + len(rows), dtype=np.int32),
        "class": np.array([one.class_name for one in rows], object),
        "score": np.array([one.score for one in rows], np.float64),
        "cut": np.array([one.is_cut for one in rows], bool),
    }
