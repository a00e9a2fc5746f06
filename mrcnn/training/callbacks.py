"""Callbacks for `MaskRCNN.train(custom_callbacks=[…])`: COCO's figures and step curves."""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Sequence
from pathlib import Path

import keras

from mrcnn import weights
from mrcnn.config import Config
from mrcnn.evaluation.coco import COCO_FIGURES, IOU_TYPES, evaluate
from mrcnn.mask_rcnn import MaskRCNN

# As logs and the CSV name them: bbox_AP, bbox_AP50, …, segm_AP, …
FIGURES = [f"{iou_type}_{name}" for iou_type in IOU_TYPES for name in COCO_FIGURES]


class CocoEvaluation(keras.callbacks.Callback):
    """Detects on a data set every few epochs, writes the COCO figures down and keeps the best.

    The figures go, as `val_bbox_AP`, `val_segm_AP50` and so on, into the epoch's logs, and so into
    History, TensorBoard and whatever monitors them; and, a row an epoch, into `coco_ap.csv` in
    the run's folder. The weights with the best segm AP of the run lie beside its checkpoints as
    `mask_rcnn_<name>_best.h5`. A resumed run goes on with the file and the best of before;
    checkpoints come first, so a run that is stopped while it evaluates lacks that epoch's figures.

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


class StepLog(keras.callbacks.Callback):
    """Writes losses and learning rate of every step for TensorBoard, and what validation found.

    `Training/Loss`, `Training/mrcnn_mask_loss` and so on and `Training/learning_rate` go by the
    steps of the run from 1; a resumed run goes on counting, epochs times the steps of one.
    `Validation/Loss`, `Validation/mrcnn_mask_loss` and so on, and after a `CocoEvaluation` earlier
    in the list of callbacks `Validation/segm_AP` and the others, go by epochs from 1.

    A loss is that of the step itself. Keras hands on the mean since the epoch began, in float32;
    the difference of two such sums is off by about 1e-7 of the mean for each step of the epoch
    that is done. What is no longer finite stays so until the epoch ends.

    Args:
        log_dir: folder to write to, `MaskRCNN.log_dir` for a run.
        every: steps from one entry to the next; it has their mean loss, the learning rate that the
            first of them took and the number of the last. An epoch's last step ends an entry.
            Measured with ResNet101 on one core: 0.4 ms an entry, on JAX 8 ms, as the model's
            state is fetched for the learning rate.

    Raises:
        ValueError: `every` below 1; while training, epochs of unknown length.
        ImportError: while training, TensorBoard is not installed.
    """

    def __init__(self, log_dir: str | os.PathLike, every: int = 1):
        super().__init__()
        if every < 1:
            raise ValueError(f"every is {every}; it must be at least 1 step.")
        self.log_dir = os.fspath(log_dir)
        self.every = every

    def on_train_begin(self, logs=None):
        if self.params["steps"] is None:
            raise ValueError("StepLog counts steps by epochs; give fit their steps_per_epoch.")
        self._writer = _event_writer(self.log_dir)

    def on_train_end(self, logs=None):
        self._writer.close()

    def on_epoch_begin(self, epoch, logs=None):
        self._steps_before = epoch * self.params["steps"]
        self._begin_entry(0, {})

    def on_train_batch_begin(self, batch, logs=None):
        if self._learning_rate is None:
            self._learning_rate = _learning_rate(self.model.optimizer)

    def on_train_batch_end(self, batch, logs=None):
        done = batch + 1
        if done - self._done < self.every and done < self.params["steps"]:
            return
        sums = {name: done * float(mean) for name, mean in logs.items()}
        means = {
            name: (sums[name] - self._sums.get(name, 0.0)) / (done - self._done) for name in sums
        }
        means["learning_rate"] = self._learning_rate
        _write_scalars(self._writer, "Training", self._steps_before + done, means)
        self._begin_entry(done, sums)

    def on_epoch_end(self, epoch, logs=None):
        found = {
            name.removeprefix("val_"): float(value)
            for name, value in (logs or {}).items()
            if name.startswith("val_")
        }
        if found:
            _write_scalars(self._writer, "Validation", epoch + 1, found)

    def _begin_entry(self, done: int, sums: dict[str, float]) -> None:
        """Steps of the epoch that are written, and the sums of their losses."""
        self._done, self._sums, self._learning_rate = done, sums, None


def _learning_rate(optimizer: keras.optimizers.Optimizer) -> float:
    """What the next step takes."""
    # Half precision wraps the optimizer.
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    return float(keras.ops.convert_to_numpy(optimizer.learning_rate))


def _event_writer(folder: str):
    """TensorBoard's own writer, which needs no TensorFlow."""
    try:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
    except ImportError as error:
        hint = "event files are written with TensorBoard: pip install tensorboard"
        raise ImportError(hint) from error
    return EventFileWriter(folder)


def _write_scalars(writer, group: str, step: int, values: dict[str, float]) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    tags = {name: f"{group}/{'Loss' if name == 'loss' else name}" for name in values}
    summary = Summary(
        value=[Summary.Value(tag=tags[name], simple_value=values[name]) for name in values]
    )
    writer.add_event(Event(step=step, wall_time=time.time(), summary=summary))
    # A run that is stopped has its last steps too.
    writer.flush()


def detection_config(config: Config) -> Config:
    """A training Config's settings for evaluation: one whole image at a time, all scores."""
    config = config.for_detection()
    config.DETECTION_MIN_CONFIDENCE = 0.0
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
