"""Detections as a catalogue: one row per detection with its mask's shape, in parquet or CSV.

    with written_catalogue("detections.parquet") as add:
        add(rows_of("J0831", detection, ("spiral", "bar")))

Columns: `object_id`, `grey_value` (of the detection in the object's mask file, 0 if other
detections cover it), `label`, `class_name`, `score`, `bbox_xmin` ... `bbox_ymax` (first and last
pixel, as in the table of instances), `mask` (COCO's run lengths as JSON), `area` (pixels),
`position_angle`, `axis_ratio`.
"""

from __future__ import annotations

import contextlib
import csv
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence

import numpy as np

# This checkout, in case the package is not installed.
ROOT_DIR = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
if ROOT_DIR not in sys.path:
    sys.path.append(ROOT_DIR)

from mrcnn.data.formats.table import BOX_COLUMNS  # noqa: E402
from mrcnn.evaluation import encode_masks  # noqa: E402
from mrcnn.files import written_beside  # noqa: E402
from mrcnn.types import PathLike  # noqa: E402

TYPES = {
    "object_id": str,
    "grey_value": int,
    "label": int,
    "class_name": str,
    "score": float,
    **dict.fromkeys(BOX_COLUMNS, int),
    "mask": str,
    "area": int,
    "position_angle": float,
    "axis_ratio": float,
}
FORMATS = ("parquet", "csv")
_ROWS_AT_ONCE = 2000


def mask_shape(mask: np.ndarray) -> tuple[int, float, float]:
    """Area, position angle and axis ratio of a mask, from its second moments.

    Args:
        mask: `[H, W]` bool.

    Returns:
        area in pixels; position angle of the long axis in degrees from 0 (up) through 90 (left) to
        below 180, which is astronomers' angle if north is up and east left; short axis over long
        axis, 0..1. Angle and ratio are NaN for a mask without pixels.
    """
    y, x = np.nonzero(mask)
    if len(y) == 0:
        return 0, math.nan, math.nan
    up, left = -(y - y.mean()), -(x - x.mean())
    # A pixel is a square, not a point: its own second moment is added.
    pixel = 1 / 12
    uu, ll, ul = np.mean(up**2) + pixel, np.mean(left**2) + pixel, np.mean(up * left)
    # Twice, because -1e-20 % 180 is 180.0.
    angle = math.degrees(0.5 * math.atan2(2 * ul, uu - ll)) % 180 % 180
    spread = math.hypot(uu - ll, 2 * ul)
    ratio = math.sqrt(max(uu + ll - spread, 0) / (uu + ll + spread))
    return len(y), angle, ratio


def label_detections(masks: np.ndarray) -> np.ndarray:
    """Masks as grey values: mask n has the value n, and of overlapping masks the first counts.

    Args:
        masks: `[H, W, N]` bool, N at most 255.

    Returns:
        `[H, W]` uint8.
    """
    labels = np.zeros(masks.shape[:2], np.uint8)
    for number in range(masks.shape[-1], 0, -1):
        labels[masks[:, :, number - 1]] = number
    return labels


def rows_of(object_id: str, detection: dict, class_names: Sequence[str]) -> list[dict]:
    """The rows of one picture's detections.

    Args:
        detection: of the picture, as `MaskRCNN.detect` returns it.
        class_names: names of the labels 1 to K.
    """
    shown = set(np.unique(label_detections(detection["masks"])))
    rows = []
    for i, mask in enumerate(encode_masks(detection["masks"])):
        y1, x1, y2, x2 = map(int, detection["rois"][i])
        area, angle, ratio = mask_shape(detection["masks"][:, :, i])
        label = int(detection["class_ids"][i])
        values = (
            object_id,
            i + 1 if i + 1 in shown else 0,
            label,
            class_names[label - 1],
            round(float(detection["scores"][i]), 6),
            *(x1, y1, x2 - 1, y2 - 1),
            json.dumps(mask, separators=(",", ":")),
            *(area, round(angle, 3), round(ratio, 5)),
        )
        rows.append(dict(zip(TYPES, values, strict=True)))
    return rows


@contextlib.contextmanager
def written_catalogue(path: PathLike) -> Iterator[Callable[[list[dict]], None]]:
    """A function that adds rows to a catalogue, which gets its name when it is complete.

    Args:
        path: ends in `.parquet` or `.csv`.

    Raises:
        ValueError: `path` has another ending; ImportError: parquet without pyarrow.
    """
    ending = os.path.splitext(path)[1].lstrip(".").lower()
    if ending not in FORMATS:
        raise ValueError(f"{path} ends in {ending!r}; a catalogue ends in .parquet or .csv.")
    writer = _parquet_writer if ending == "parquet" else _csv_writer
    with written_beside(path) as temporary, writer(temporary) as add:
        yield add


@contextlib.contextmanager
def _csv_writer(path: PathLike) -> Iterator[Callable[[list[dict]], None]]:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(TYPES))
        writer.writeheader()
        yield writer.writerows


@contextlib.contextmanager
def _parquet_writer(path: PathLike) -> Iterator[Callable[[list[dict]], None]]:
    """Rows are written in groups, so a folder of any size needs little memory."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError(
            'pyarrow writes parquet files: pip install "mask-rcnn-keras3[galaxy]", or ask for csv'
        ) from error
    kinds = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64()}
    schema = pyarrow.schema([(name, kinds[kind]) for name, kind in TYPES.items()])
    waiting: list[dict] = []

    def write() -> None:
        writer.write_table(pyarrow.Table.from_pylist(waiting, schema=schema))
        waiting.clear()

    def add(rows: list[dict]) -> None:
        waiting.extend(rows)
        if len(waiting) >= _ROWS_AT_ONCE:
            write()

    with parquet.ParquetWriter(path, schema) as writer:
        yield add
        write()
