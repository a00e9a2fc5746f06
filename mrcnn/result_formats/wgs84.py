"""GeoJSON on the map: `wgs84/<image>.geojson`, longitude before latitude, in degrees of WGS84.

Web maps, QGIS and databases read it. Outer rings go counterclockwise and holes clockwise, and a
polygon across the 180th meridian is cut there.
https://www.rfc-editor.org/rfc/rfc7946
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely.geometry.polygon import orient

from mrcnn.files import written_beside
from mrcnn.result_formats.found import Add, FoundImage, FoundObject
from mrcnn.result_formats.georeferenced import (
    georeference_of,
    import_rasterio,
    on_the_map,
    polygons_of,
)
from mrcnn.types import PathLike

# A tenth of a millimetre.
_DECIMALS = 9
# Objects that are in memory as polygons at once.
_AT_ONCE = 1000


@contextmanager
def write_wgs84(folder: PathLike) -> Iterator[Add]:
    """Write `wgs84/`, one GeoJSON file per image, one feature per object.

    Raises:
        ImportError: rasterio is not installed. ValueError: an image does not say where it lies.
    """
    import_rasterio()

    def add(image: FoundImage) -> None:
        path = Path(folder, "wgs84", f"{image.stem}.geojson")
        with written_beside(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
            before = '{"type": "FeatureCollection", "features": ['
            for feature in _features(image):
                file.write(f"{before}\n{json.dumps(feature, ensure_ascii=False)}")
                before = ","
            file.write("\n]}\n" if before == "," else before + "]}\n")

    yield add


def _features(image: FoundImage) -> Iterator[dict[str, Any]]:
    with image.open() as pixels:
        name, place = pixels.name, georeference_of(pixels)
    for first in range(0, len(image.objects), _AT_ONCE):
        objects = image.objects[first : first + _AT_ONCE]
        polygons = in_degrees(on_the_map(polygons_of(objects), place), place.crs, name)
        for number, (one, polygon) in enumerate(zip(objects, polygons, strict=True), first + 1):
            yield _feature(number, one, polygon)


def _feature(number: int, one: FoundObject, polygon: shapely.MultiPolygon | None) -> dict[str, Any]:
    return {
        "type": "Feature",
        "id": number,
        "geometry": None if polygon is None else _geometry(polygon),
        "properties": {
            "number": number,
            "class": one.class_name,
            "score": one.score,
            "cut": one.is_cut,
        },
    }


def _geometry(polygon: shapely.MultiPolygon) -> dict[str, Any]:
    parts = [orient(part, 1.0) for part in shapely.get_parts(_cut_at_180_degrees(polygon))]
    geometry: dict[str, Any] = shapely.geometry.mapping(
        parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)
    )
    return geometry


def in_degrees(polygons: np.ndarray, crs: str, name: str) -> np.ndarray:
    """Polygons as longitude and latitude; longitudes may lie outside -180..180.

    Args:
        crs: the coordinate reference system of `polygons` as WKT; name: the image's, for messages.

    Raises:
        ValueError: a corner has no longitude and latitude.
    """
    import rasterio.crs
    import rasterio.warp

    source = rasterio.crs.CRS.from_wkt(crs)
    problem = (
        f"{name} lies where its coordinate reference system has no longitude and latitude; save "
        "gpkg or geotiff, which keep its own coordinates."
    )

    def degrees(points: np.ndarray) -> np.ndarray:
        try:
            # x comes before y in every system, whatever EPSG says of its axes.
            found = rasterio.warp.transform(source, "EPSG:4326", *points.T.tolist())
        except Exception as error:  # GDAL's errors have no common class that is public
            raise ValueError(f"{problem} ({error})") from error
        degrees = np.stack(found, axis=1).round(_DECIMALS)
        if not np.isfinite(degrees).all():
            raise ValueError(problem)
        return degrees

    return np.asarray(shapely.transform(polygons, degrees))


def _cut_at_180_degrees(polygon: shapely.MultiPolygon) -> shapely.Geometry:
    """A polygon with longitudes in -180..180, in parts on both sides of the 180th meridian."""
    west, _, east, _ = polygon.bounds
    if east - west > 180:  # its longitudes jump from 180 to -180
        polygon = shapely.transform(polygon, lambda p: np.where(p < [0, -np.inf], p + [360, 0], p))
        west, _, east, _ = polygon.bounds
    if -180 <= west and east <= 180:
        return polygon
    parts = []
    for turn in (-360, 0, 360):
        inside = shapely.intersection(polygon, shapely.box(turn - 180, -90, turn + 180, 90))
        parts += [
            shapely.transform(part, lambda points, turn=turn: points - [turn, 0])
            for part in shapely.get_parts(inside)
            if part.geom_type == "Polygon"
        ]
    return shapely.MultiPolygon(parts)
