"""Tables of objects: `objects.csv` and `objects.parquet`, one row per object.

Columns have the names of scikit-image's `regionprops`; lengths are in pixels, angles in radians:

    image, object, class, score
    bbox-0 … bbox-3                 first row, first column, and the row and column after the last
    area, perimeter, centroid-0, centroid-1 (row, column), axis_major_length, axis_minor_length
    eccentricity, orientation
    intensity_mean-0 …, intensity_sum-0 …   of each channel, in the numbers that the file stores
    cut                                     1 if it goes on beyond a tile, where nothing was found
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mrcnn.data.windowed_images import WindowedImage
from mrcnn.files import written_beside
from mrcnn.result_formats.found import Add, FoundImage, FoundObject
from mrcnn.types import PathLike

_CHANNELS = 3
_MEASURED = (
    "area",
    "perimeter",
    "centroid-0",
    "centroid-1",
    "axis_major_length",
    "axis_minor_length",
    "eccentricity",
    "orientation",
)
_TEXT = ("image", "class")
_WHOLE = ("object", "bbox-0", "bbox-1", "bbox-2", "bbox-3", "cut")
COLUMNS = (
    "image",
    "object",
    "class",
    "score",
    *_WHOLE[1:5],
    *_MEASURED,
    *(f"intensity_mean-{channel}" for channel in range(_CHANNELS)),
    *(f"intensity_sum-{channel}" for channel in range(_CHANNELS)),
    "cut",
)
# Rows of a parquet file that are in memory at once.
_ROWS_AT_ONCE = 5000


@contextmanager
def write_csv(folder: PathLike) -> Iterator[Add]:
    """Write `objects.csv`; an image without objects has no row."""
    with (
        written_beside(Path(folder, "objects.csv")) as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        yield lambda image: writer.writerows(map(_rounded, measure(image)))


@contextmanager
def write_parquet(folder: PathLike) -> Iterator[Add]:
    """Write `objects.parquet`.

    Raises:
        ImportError: pyarrow is not installed.
    """
    from mrcnn.detection.result_files import import_pyarrow

    pyarrow = import_pyarrow()
    schema = _schema(pyarrow)
    rows: list[dict[str, Any]] = []
    with (
        written_beside(Path(folder, "objects.parquet")) as temporary,
        pyarrow.parquet.ParquetWriter(temporary, schema, compression="zstd") as writer,
    ):

        def flush() -> None:
            writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))
            rows.clear()

        def add(image: FoundImage) -> None:
            rows.extend(measure(image))
            if len(rows) >= _ROWS_AT_ONCE:
                flush()

        yield add
        flush()


def _schema(pyarrow: Any) -> Any:
    def kind(name: str) -> Any:
        if name in _TEXT:
            return pyarrow.string()
        return pyarrow.int32() if name in _WHOLE else pyarrow.float64()

    return pyarrow.schema([(name, kind(name)) for name in COLUMNS])


def measure(image: FoundImage) -> Iterable[dict[str, Any]]:
    """The rows of an image's objects."""
    if not image.objects:
        return
    with image.open() as pixels:
        for number, one in enumerate(image.objects, start=1):
            yield {
                "image": image.name,
                "object": number,
                "class": one.class_name,
                "score": one.score,
                **measure_object(one, pixels),
                "cut": int(one.is_cut),
            }


def measure_object(one: FoundObject, image: WindowedImage) -> dict[str, Any]:
    """The figures of an object: those of its pixels, whether they are connected or not.

    Args:
        one: the object; image: the image, of which only the object's box is read.
    """
    from skimage.measure import regionprops

    patch = one.patch()
    mask, top, left = patch
    if not mask.size:
        return {"area": 0.0}
    (region,) = regionprops(mask.astype(np.uint8))
    centre = region.centroid
    pixels = np.atleast_3d(image.read(patch.box))[mask].astype(float)
    return {
        **dict(zip(_WHOLE[1:5], patch.box, strict=True)),
        "area": float(region.area),
        "perimeter": float(region.perimeter),
        "centroid-0": float(centre[0] + top),
        "centroid-1": float(centre[1] + left),
        "axis_major_length": float(region.axis_major_length),
        "axis_minor_length": float(region.axis_minor_length),
        "eccentricity": float(region.eccentricity),
        "orientation": float(region.orientation),
        **_by_channel("intensity_mean", pixels.mean(axis=0)),
        **_by_channel("intensity_sum", pixels.sum(axis=0)),
    }


def _by_channel(name: str, values: Sequence[float] | np.ndarray) -> dict[str, float]:
    return {f"{name}-{i}": float(value) for i, value in enumerate(values[:_CHANNELS])}


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    """Six digits are more than any measurement has."""
    return {
        name: f"{value:.6g}" if isinstance(value, float) and abs(value) < 1e6 else value
        for name, value in row.items()
    }
