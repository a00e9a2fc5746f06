"""Objects on the map: where an image lies on the earth, and outlines as polygons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import shapely

from mrcnn.data.windowed_images import Georeference, WindowedImage, import_extra
from mrcnn.result_formats.found import FoundObject


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


def polygons_of(objects: Sequence[FoundObject], place: Georeference) -> np.ndarray:
    """The outlines of objects on the map, along the edges of pixels.

    Returns:
        `[N]`, shapely's MultiPolygons in the raster's coordinate reference system; None for a mask
        without pixels.
    """
    a, b, c, d, e, f = place.transform
    polygons = np.array([_polygon(one) for one in objects], object)
    linear = np.array([[a, d], [b, e]])
    return np.asarray(shapely.transform(polygons, lambda points: points @ linear + [c, f]))


def _polygon(one: FoundObject) -> shapely.MultiPolygon | None:
    """The outlines of an object in pixels."""
    parts = [shapely.Polygon(part.ring, part.holes) for part in one.outlines()]
    if not parts:
        return None
    polygon = shapely.MultiPolygon(parts)
    if polygon.is_valid:
        return polygon
    # A ring that touches itself at the corner of a pixel becomes two rings.
    return shapely.MultiPolygon(shapely.get_parts(shapely.make_valid(polygon)).tolist())
