"""The report on runs: their curves side by side, the time of a step, AP by epoch, pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mrcnn.data.image_files import read_image
from mrcnn.inspection.figures import images, panels
from mrcnn.inspection.page import Picture, Section, Table
from mrcnn.training.event_files import Curves, draw_runs, read_runs, seconds_per_step
from mrcnn.training.figures import read_table
from mrcnn.training.run import CLASS_TABLE, FIGURES_TABLE, RECORD, read_record
from mrcnn.types import PathLike

_SHOWN = 6
_FIGURES = ("bbox_AP", "bbox_AP50", "segm_AP", "segm_AP50", "segm_AP75")


def run_sections(folders: Sequence[PathLike]) -> list[Section]:
    """All sections of the report on some runs.

    Args:
        folders: of the runs.

    Raises:
        FileNotFoundError: a folder has no event files.
        ValueError: a table or record in it cannot be read.
    """
    runs = read_runs(folders)
    paths = dict(
        zip(runs, dict.fromkeys(os.path.abspath(folder) for folder in folders), strict=True)
    )
    sections = [_trainings(paths), _curves(runs), _times(paths), _figures(paths)]
    return [*sections, *(_pictures(name, Path(path)) for name, path in paths.items())]


def _trainings(paths: dict[str, str]) -> Section:
    rows: list[list[Any]] = []
    for name, path in paths.items():
        for entry in read_record(path):
            epochs = "-".join(map(str, entry.get("epochs", ())))
            rows.append(
                [
                    name,
                    *(str(entry.get(key, "")) for key in ("started", "backend", "command")),
                    epochs,
                ]
            )
    return Section(
        "Trainings",
        "How the runs were started; a resumed run has several rows.",
        [
            Table(
                RECORD,
                "The same command with the same data gives curves that can be compared.",
                ["run", "started", "backend", "command", "epochs"],
                rows,
            )
        ],
    )


def _curves(runs: dict[str, Curves]) -> Section:
    look = (
        "Training losses fall and level out. A validation loss (dashed) that rises while the "
        "training loss falls means that the network learns the images by heart."
    )
    return Section(
        "Curves",
        "Losses, figures and the learning rate of all runs, each run in its own colour.",
        [Picture("Losses, AP and learning rate", look, draw_runs(runs))],
    )


def _times(paths: dict[str, str]) -> Section:
    figure, (axes,) = panels(1, shape=(1, 3))
    rows: list[list[Any]] = []
    for name, path in paths.items():
        times = seconds_per_step(path)
        if len(times.steps):
            axes.plot(times.steps, times.values, label=name, linewidth=0.8)
            rows.append(
                [name, float(np.median(times.values)), float(np.quantile(times.values, 0.9))]
            )
    axes.set_xlabel("step", fontsize="small")
    axes.set_ylabel("seconds", fontsize="small")
    if rows:
        axes.legend(fontsize="small")
    return Section(
        "Time of a step",
        "From one written step to the next, without what comes between epochs.",
        [
            Picture(
                "Seconds by step", "A step that takes longer and longer waits for images.", figure
            ),
            Table(
                "Seconds",
                "The median, and what nine of ten steps stay below.",
                ["run", "median", "90 %"],
                rows,
            ),
        ],
    )


def _figures(paths: dict[str, str]) -> Section:
    rows: list[list[Any]] = []
    for name, path in paths.items():
        for row in read_table(os.path.join(path, FIGURES_TABLE)):
            rows.append([name, int(row["epoch"]), *(row.get(figure) for figure in _FIGURES)])
    parts: list[Picture | Table] = [
        Table(
            FIGURES_TABLE,
            "The best epoch has the highest segm_AP.",
            ["run", "epoch", *_FIGURES],
            rows,
        )
    ]
    by_class = {name: read_table(os.path.join(path, CLASS_TABLE)) for name, path in paths.items()}
    for name, table in by_class.items():
        if table:
            figure, (axes,) = panels(1, shape=(1, 2))
            for column in [key for key in table[-1] if key != "epoch"]:
                known = [(row["epoch"], row[column]) for row in table if column in row]
                axes.plot(*zip(*known, strict=True), marker="o", markersize=3, label=column)
            axes.set_xlabel("epoch", fontsize="small")
            axes.legend(fontsize="small", ncols=2)
            axes.grid(alpha=0.3)
            look = "A class that stays at 0 has too few objects, or looks like another one."
            parts.append(Picture(f"Mask AP by class: {name}", look, figure))
    return Section("AP by epoch", "COCO's figures of the validation images.", parts)


def _pictures(name: str, folder: Path) -> Section:
    paths = sorted((folder / "pictures").glob("*.png"))[:_SHOWN]
    parts = [
        Picture(
            path.stem,
            "Detections (right) agree with the truth (left).",
            images([read_image(path)], [path.name]),
        )
        for path in paths
    ]
    text = (
        "Validation images with the best weights." if parts else "The run has written no pictures."
    )
    return Section(f"Pictures of {name}", text, parts)
