"""GeoJSON as QuPath imports it: `geojson/<image>.geojson`, one feature per object.

Coordinates are pixels, x before y, from the upper left corner of the image; a pixel is a square of
side 1, so outlines run along the edges of pixels. Parts and holes are kept.
https://qupath.readthedocs.io/en/stable/docs/advanced/exporting_annotations.html
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mrcnn.data.formats.outlines import Outline
from mrcnn.files import write_text
from mrcnn.result_formats.colours import colour_of
from mrcnn.result_formats.found import Add, FoundImage, FoundObject
from mrcnn.types import PathLike


@contextmanager
def write_geojson(folder: PathLike) -> Iterator[Add]:
    """Write `geojson/`, one file per image."""

    def add(image: FoundImage) -> None:
        features = [
            _feature(image, number, one) for number, one in enumerate(image.objects, start=1)
        ]
        text = json.dumps({"type": "FeatureCollection", "features": features}, ensure_ascii=False)
        write_text(Path(folder, "geojson", f"{image.stem}.geojson"), text + "\n")

    yield add


def _feature(image: FoundImage, number: int, one: FoundObject) -> dict[str, Any]:
    return {
        "type": "Feature",
        # The same object gets the same id in each run.
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{image.name}#{number}")),
        "geometry": geometry(one.outlines()),
        "properties": {
            "objectType": "detection",
            "classification": {"name": one.class_name, "color": list(colour_of(one.category_id))},
            "measurements": {"score": one.score},
        },
    }


def geometry(parts: Sequence[Outline]) -> dict[str, Any]:
    """The outlines of a mask as a Polygon, or as a MultiPolygon if it has several parts."""
    polygons = [[_closed(ring) for ring in (part.ring, *part.holes)] for part in parts]
    if len(polygons) == 1:
        return {"type": "Polygon", "coordinates": polygons[0]}
    return {"type": "MultiPolygon", "coordinates": polygons}


def _closed(ring: np.ndarray) -> list[list[int]]:
    """GeoJSON repeats the first point at the end."""
    points: list[list[int]] = ring.astype(int).tolist()
    return [*points, points[0]]
