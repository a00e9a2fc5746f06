"""Objects on the map: where an image lies on the earth, and outlines as polygons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import shapely

from mrcnn.data.formats.outlines import Outline, outlines
from mrcnn.data.windowed_images import Georeference, WindowedImage
from mrcnn.extras import import_extra
from mrcnn.result_formats.found import FoundObject
from mrcnn.result_formats.label_windows import LARGE

# Side of the windows in which an object is outlined that is too large to be one array.
_WINDOW = 2048


def import_rasterio() -> Any:
    """Rasterio, which reads where a raster lies.

    Raises:
        ImportError: it is not installed.
    """
    return import_extra("rasterio", "georeferenced rasters are read by rasterio", "geo")


def georeference_of(image: WindowedImage) -> Georeference:
    """Where an image lies.

    Raises:
        ValueError: it does not say so.
    """
    instead = "to save gpkg, wgs84 or geotiff; or save csv, labels or geojson, which are in pixels."
    if image.georeference is None:
        raise ValueError(
            f"{image.name} does not say where it lies on the earth: give a GeoTIFF {instead}"
        )
    if not image.georeference.crs:
        raise ValueError(
            f"{image.name} has no coordinate reference system: add one, as gdal_edit.py -a_srs "
            f"EPSG:32633 does, {instead}"
        )
    return image.georeference


def check_georeference(image: WindowedImage) -> None:
    """Check that an image says where it lies; errors as `georeference_of`."""
    georeference_of(image)


def pixel_area(place: Georeference) -> float:
    """The area of a pixel in squared units of the coordinate reference system."""
    a, b, _, d, e, _ = place.transform
    return abs(a * e - b * d)


def polygons_of(objects: Sequence[FoundObject]) -> np.ndarray:
    """The outlines of objects along the edges of pixels.

    Returns:
        `[N]`, shapely's MultiPolygons in pixels; None for a mask without pixels.
    """
    return np.array([_polygon(one) for one in objects], object)


def on_the_map(polygons: np.ndarray, place: Georeference) -> np.ndarray:
    """Polygons in pixels, moved to the coordinate reference system of a raster."""
    a, b, c, d, e, f = place.transform
    linear = np.array([[a, d], [b, e]])
    return np.asarray(shapely.transform(polygons, lambda points: points @ linear + [c, f]))


def _polygon(one: FoundObject) -> shapely.MultiPolygon | None:
    _, _, width, height = one.bbox
    if width * height > LARGE:
        polygon = _polygon_of_large(one)
    else:
        polygon = _joined(one.outlines())
    if polygon.is_empty:
        return None
    return shapely.MultiPolygon(shapely.get_parts(polygon).tolist())


def _joined(parts: Sequence[Outline]) -> shapely.Geometry:
    polygon = shapely.MultiPolygon([shapely.Polygon(part.ring, part.holes) for part in parts])
    # A ring that touches itself at the corner of a pixel becomes two rings.
    return polygon if polygon.is_valid else shapely.make_valid(polygon)


def _polygon_of_large(one: FoundObject) -> shapely.Geometry:
    """The outlines of an object that is too large to be one array, joined from windows."""
    x, y, width, height = one.bbox
    found: list[shapely.Geometry] = []
    for top in range(y, y + height, _WINDOW):
        for left in range(x, x + width, _WINDOW):
            pixels = one.part((top, left, top + _WINDOW, left + _WINDOW))
            window = _joined(outlines(pixels))
            found.append(shapely.transform(window, lambda points, at=(left, top): points + at))
    # Without the corners along the borders of windows.
    return shapely.simplify(shapely.union_all(found), 0)
