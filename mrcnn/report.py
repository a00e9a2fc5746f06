"""What a training left to look at: a table, curves, and pictures of validation images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mrcnn.config import Config
from mrcnn.data.dataset import Dataset, load_image_for
from mrcnn.detection.image_names import as_text
from mrcnn.files import written_beside
from mrcnn.geometry.masks import extract_bboxes
from mrcnn.training.callbacks import read_table
from mrcnn.types import PathLike
from mrcnn.visualize import draw_instances

if TYPE_CHECKING:
    from mrcnn.evaluation import Detects

PICTURES = 6
_DPI = 100
# Width of one half of a picture in inches.
_WIDTH = 8.0


def epoch_table(
    losses: Sequence[dict[str, float]], figures_path: PathLike, first_epoch: int = 1
) -> list[dict[str, float]]:
    """One row per epoch: `epoch`, `loss`, `val_loss`, `bbox_AP`, `segm_AP`, where they are known.

    Args:
        losses: Keras' logs of each epoch.
        figures_path: the run's table of COCO's figures.
        first_epoch: the epoch of the first logs.
    """
    figures = {int(row["epoch"]): row for row in read_table(figures_path)}
    rows = []
    for epoch, logs in enumerate(losses, start=first_epoch):
        row = {"epoch": float(epoch)}
        row |= {name: float(logs[name]) for name in ("loss", "val_loss") if name in logs}
        found = figures.get(epoch, {})
        row |= {name: found[name] for name in ("bbox_AP", "segm_AP") if name in found}
        rows.append(row)
    return rows


def write_curves(log_dir: PathLike, path: PathLike) -> bool:
    """Draw the losses and figures of a run; False if it wrote no events."""
    from mrcnn.training.event_files import draw_runs, find_runs, read_runs

    folder = os.fspath(log_dir)
    if not find_runs(folder):
        return False
    runs = read_runs([folder])
    # Values by step are many, and those by epoch show the same.
    names = [
        name
        for name in dict.fromkeys(
            name.removeprefix("val_") for run in runs.values() for name in run
        )
        if "/" not in name
    ]
    figure = draw_runs(runs, names)
    with written_beside(path) as temporary:
        figure.savefig(temporary, format=Path(path).suffix[1:], dpi=_DPI)
    return True


def write_pictures(
    model: Detects, dataset: Dataset, folder: PathLike, count: int = PICTURES
) -> list[str]:
    """Draw images of a data set, the truth on the left and the detections on the right.

    Args:
        model: detects; dataset: prepared.
        folder: to write to.
        count: number of images, spread over the data set.

    Returns:
        The paths of the pictures.
    """
    total = len(dataset.image_ids)
    chosen = np.unique(np.linspace(0, total - 1, min(count, total)).astype(int))
    paths = []
    for number, image_id in enumerate(dataset.image_ids[chosen].tolist(), start=1):
        stem = Path(as_text(os.path.basename(str(dataset.image_info[image_id]["path"])))).stem
        path = os.path.join(folder, f"{number}_{stem}.png")
        write_picture(model, dataset, image_id, path)
        paths.append(path)
    return paths


def write_picture(
    model: Detects, dataset: Dataset, image_id: int, path: PathLike, title: str = ""
) -> None:
    """Draw one image of a data set, as `write_pictures` does."""
    image = load_image_for(model.config, dataset, image_id)
    (found,) = model.detect([image])
    truth = truth_of(dataset, image_id, image)
    draw_pair(path, image, truth, found, dataset.class_names, title)


def truth_of(dataset: Dataset, image_id: int, image: np.ndarray) -> dict[str, Any]:
    """The objects of an image in the form of a result of `detect`, without scores."""
    masks, class_ids = dataset.load_mask(image_id)
    if not masks.shape[-1]:
        masks = np.zeros((*image.shape[:2], 0), bool)
    return {
        "rois": extract_bboxes(masks),
        "masks": masks.astype(bool, copy=False),
        "class_ids": np.asarray(class_ids),
    }


def draw_pair(
    path: PathLike,
    image: np.ndarray,
    truth: dict[str, Any],
    found: dict[str, Any],
    class_names: Sequence[str],
    title: str = "",
) -> None:
    """Write a picture of an image twice: with its truth, and with what was detected."""
    from matplotlib.figure import Figure

    height = _WIDTH * image.shape[0] / image.shape[1]
    figure = Figure(figsize=(2 * _WIDTH, min(height + 0.5, 4 * _WIDTH)), dpi=_DPI)
    for axes, (objects, name) in zip(
        figure.subplots(1, 2), ((truth, "truth"), (found, "detected")), strict=True
    ):
        count = len(objects["class_ids"])
        draw_instances(
            axes,
            image,
            objects["rois"],
            objects["masks"],
            objects["class_ids"],
            class_names,
            objects.get("scores"),
            title=f"{name}: {count}",
        )
    if title:
        figure.suptitle(title)
    figure.tight_layout()
    with written_beside(path) as temporary:
        figure.savefig(temporary, format="png")


def picture_config(config: Config) -> Config:
    """Settings of detection for pictures: whole images, and scores from 0.5 on."""
    config = config.for_detection()
    config.DETECTION_MIN_CONFIDENCE = min(config.DETECTION_MIN_CONFIDENCE, 0.5)
    return config
