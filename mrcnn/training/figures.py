"""Tables by epoch in a run's folder: COCO's figures, and the mask AP of each class."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence

from mrcnn.evaluation.coco import COCO_FIGURES, IOU_TYPES
from mrcnn.files import written_beside
from mrcnn.types import PathLike

# Names in logs and in the table: bbox_AP, bbox_AP50, …, segm_AP, …
FIGURES = [f"{iou_type}_{name}" for iou_type in IOU_TYPES for name in COCO_FIGURES]


def read_table(path: PathLike) -> list[dict[str, float]]:
    """The rows of a `coco_ap.csv`, each a dict of figures by name; [] if there is no file.

    Raises:
        ValueError: a cell is not a number, or there is no column `epoch`.
    """
    if not os.path.exists(path):
        return []
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    try:
        epochs = [int(row["epoch"]) for row in rows]
        figures = [{name: float(cell) for name, cell in row.items() if cell} for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is not a table of COCO figures ({error}); move it away to begin a new one."
        ) from error
    return [{**row, "epoch": epoch} for epoch, row in zip(epochs, figures, strict=True)]


def write_table(
    path: PathLike, rows: Sequence[dict[str, float]], names: Sequence[str] = FIGURES
) -> None:
    """Write rows in the format of `read_table`; an existing file is replaced at the end."""
    with (
        written_beside(path) as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, ["epoch", *names], restval="")
        writer.writeheader()
        writer.writerows(rows)
