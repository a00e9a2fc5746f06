"""Callbacks for `MaskRCNN.train(custom_callbacks=[…])`: COCO's figures while training."""

from __future__ import annotations

import copy
import csv
import os
from collections.abc import Sequence
from pathlib import Path

import keras

from mrcnn import weights
from mrcnn.config import Config
from mrcnn.evaluation import COCO_FIGURES, IOU_TYPES, evaluate
from mrcnn.mask_rcnn import MaskRCNN

# As logs and the CSV name them: bbox_AP, bbox_AP50, …, segm_AP, …
FIGURES = [f"{iou_type}_{name}" for iou_type in IOU_TYPES for name in COCO_FIGURES]


class CocoEvaluation(keras.callbacks.Callback):
    """Detects on a data set every few epochs, writes the COCO figures down and keeps the best.

    The figures go, as `val_bbox_AP`, `val_segm_AP50` and so on, into the epoch's logs, and so into
    History, TensorBoard and whatever monitors them; and, a row an epoch, into `coco_ap.csv` in
    the run's folder. The weights with the best segm AP of the run lie beside its checkpoints as
    `mask_rcnn_<name>_best.h5`. A resumed run goes on with the file and the best of before.

    Args:
        model: the `MaskRCNN` that trains.
        dataset: prepared; the data set to detect on.
        config: settings of detection; by default those of training, one whole image at a time and
            with DETECTION_MIN_CONFIDENCE 0, as COCO ranks all detections.
        every: epochs from one evaluation to the next, counted from the start of the run.
        image_ids: images to look at, None for all.
        limit: at most so many of them, None or 0 for all.
        coco_gt: the annotation file's own ground truth, see `evaluation.evaluate`.

    Raises:
        ValueError: `every` below 1.
    """

    def __init__(
        self,
        model: MaskRCNN,
        dataset,
        config: Config | None = None,
        every: int = 1,
        image_ids: Sequence[int] | None = None,
        limit: int | None = None,
        coco_gt=None,
    ):
        super().__init__()
        if every < 1:
            raise ValueError(f"every is {every}; it must be at least 1 epoch.")
        self.mask_rcnn = model
        self.dataset = dataset
        self.config = config or detection_config(model.config)
        self.every = every
        self.images = {"image_ids": image_ids, "limit": limit, "coco_gt": coco_gt}
        self._detector: MaskRCNN | None = None

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.every:
            return
        figures = evaluate(self._current_detector(), self.dataset, **self.images)
        # -1 stands for no object of that size: nothing to plot.
        row = {
            f"{iou_type}_{name}": value
            for iou_type, by_name in figures.items()
            for name, value in by_name.items()
            if value >= 0
        }
        if logs is not None:
            logs.update({f"val_{name}": value for name, value in row.items()})
        table = Path(self.mask_rcnn.log_dir) / "coco_ap.csv"
        earlier = [old for old in read_table(table) if old["epoch"] <= epoch]
        best = max((old.get("segm_AP", 0.0) for old in earlier), default=-1.0)
        if row.get("segm_AP", 0.0) > best:
            weights.save_weights(self._detector.keras_model, self.best_path)
        write_table(table, [*earlier, {"epoch": epoch + 1, **row}])

    @property
    def best_path(self) -> str:
        """Path of the run's best weights."""
        name = str(self.mask_rcnn.config.NAME).lower()
        return os.path.join(self.mask_rcnn.log_dir, f"mask_rcnn_{name}_best.h5")

    def _current_detector(self) -> MaskRCNN:
        """A model for detection with the weights as they are now."""
        if self._detector is None:
            self._detector = MaskRCNN("inference", self.config, self.mask_rcnn.model_dir)
        weights.copy_weights(self.mask_rcnn.keras_model, self._detector.keras_model)
        return self._detector


def detection_config(config: Config) -> Config:
    """A training Config's settings for evaluation: one whole image at a time, all scores."""
    config = copy.copy(config)
    config.GPU_COUNT = config.IMAGES_PER_GPU = 1
    config.DETECTION_MIN_CONFIDENCE = 0.0
    if config.IMAGE_RESIZE_MODE == "crop":
        config.IMAGE_RESIZE_MODE = "pad64"  # the scale of the crops
    return config


def read_table(path: str | os.PathLike) -> list[dict[str, float]]:
    """Rows of a `coco_ap.csv`, figures by name; [] where there is no file.

    Raises:
        ValueError: a cell that is no number, or no column `epoch`.
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


def write_table(path: str | os.PathLike, rows: Sequence[dict[str, float]]) -> None:
    """Write rows as `read_table` reads them; a file of that name is replaced when complete."""
    beside = f"{os.fspath(path)}.part"
    with open(beside, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["epoch", *FIGURES], restval="")
        writer.writeheader()
        writer.writerows(rows)
    os.replace(beside, path)
