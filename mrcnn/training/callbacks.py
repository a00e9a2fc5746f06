"""Callbacks for `MaskRCNN.train(custom_callbacks=[…])`: COCO's figures and curves by step."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras

from mrcnn.config import Config
from mrcnn.data.dataset import Dataset
from mrcnn.detection.detector import Detector
from mrcnn.evaluation.coco import ap_by_class, coco_evals, coco_figures
from mrcnn.training import distribution
from mrcnn.training.figures import FIGURES as FIGURES
from mrcnn.training.figures import read_table, write_table
from mrcnn.training.optimizers import inner_optimizer
from mrcnn.types import PathLike
from mrcnn.weights.by_name import copy_weights, save_weights

if TYPE_CHECKING:  # `mask_rcnn` is above this file in the reading order
    from mrcnn.mask_rcnn import MaskRCNN

logger = logging.getLogger("mrcnn")

# Keras' callbacks may get None.
Logs = dict[str, Any] | None


class CocoEvaluation(keras.callbacks.Callback):
    """Computes COCO's figures every few epochs, writes them to a table and keeps the best weights.

    The figures are added to the epoch's logs as `val_bbox_AP`, `val_segm_AP50` and so on, so
    History, TensorBoard and callbacks with `monitor` see them. `coco_ap.csv` in the run's folder
    gets one row per evaluation. The weights with the best segm AP of the run are saved beside the
    checkpoints as `mask_rcnn_<name>_best.h5`. `class_ap.csv` has the segm AP of each class. A
    resumed run continues the tables and compares with the best AP in them. Checkpoints are written
    before the evaluation, so a run that is stopped during one lacks the figures of that epoch.

    Args:
        model: the `MaskRCNN` that trains.
        dataset: prepared; the data set to detect on.
        config: settings of detection; None for `detection_config(model.config)`.
        every: number of epochs from one evaluation to the next, counted from the run's start.
        image_ids: images to detect on, None for all.
        limit: largest number of images, None or 0 for all.
        coco_gt: the annotation file's own ground truth, see `evaluation.evaluate`.

    Attributes:
        by_class: segm AP of each class in the last evaluation; classes without objects are left
            out.

    Raises:
        ValueError: `every` is below 1.
    """

    def __init__(
        self,
        model: MaskRCNN,
        dataset: Dataset,
        config: Config | None = None,
        every: int = 1,
        image_ids: Sequence[int] | None = None,
        limit: int | None = None,
        coco_gt: Any = None,
    ):
        super().__init__()
        if every < 1:
            raise ValueError(f"every is {every}; it must be at least 1 epoch.")
        self.mask_rcnn = model
        self.dataset = dataset
        self.config = config or detection_config(model.config)
        self.every = every
        self.images = {"image_ids": image_ids, "limit": limit, "coco_gt": coco_gt}
        self.by_class: dict[str, float] = {}
        self._detector: Detector | None = None

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Evaluate, and write the figures and the best weights."""
        if (epoch + 1) % self.every:
            return
        detector = self.current_detector()
        with distribution.data_on(None):
            evals = coco_evals(detector, self.dataset, **self.images)
        # COCO gives -1 if there is no object of that size.
        row = {
            f"{iou_type}_{name}": value
            for iou_type, found in evals.items()
            for name, value in coco_figures(found).items()
            if value >= 0
        }
        if logs is not None:
            logs.update({f"val_{name}": value for name, value in row.items()})
        table = self.mask_rcnn.training_run.figures_path
        earlier = [old for old in read_table(table) if old["epoch"] <= epoch]
        best = max((old.get("segm_AP", 0.0) for old in earlier), default=-1.0)
        if row.get("segm_AP", 0.0) > best:
            save_weights(detector.keras_model, self.best_path)
        write_table(table, [*earlier, {"epoch": epoch + 1, **row}])
        self.by_class = {n: ap for n, ap in ap_by_class(evals["segm"]).items() if ap >= 0}
        self._write_classes(epoch, list(ap_by_class(evals["segm"])))

    def _write_classes(self, epoch: int, names: list[str]) -> None:
        table = self.mask_rcnn.training_run.class_figures_path
        earlier = [
            {name: row[name] for name in ("epoch", *names) if name in row}
            for row in read_table(table)
            if row["epoch"] <= epoch
        ]
        write_table(table, [*earlier, {"epoch": epoch + 1, **self.by_class}], names)

    @property
    def best_path(self) -> str:
        """Path of the run's weights with the best segm AP."""
        return self.mask_rcnn.training_run.best

    def current_detector(self) -> Detector:
        """A detector with the current weights."""
        # On one device, even if the training model is on several.
        with distribution.data_on(None):
            if self._detector is None:
                self.config.validate()
                self._detector = Detector(self.config)
            copy_weights(self.mask_rcnn.keras_model, self._detector.keras_model)
        return self._detector


class StopWithoutProgress(keras.callbacks.Callback):
    """Ends the training when segm AP has not risen for some epochs.

    The figures are those of a `CocoEvaluation` earlier in the list of callbacks. They are read from
    the run's table, so a resumed run counts on.

    Args:
        model: the `MaskRCNN` that trains.
        patience: number of epochs without a better AP.

    Raises:
        ValueError: `patience` is below 1.
    """

    def __init__(self, model: MaskRCNN, patience: int):
        super().__init__()
        if patience < 1:
            raise ValueError(f"patience is {patience}; it must be at least 1 epoch.")
        self.mask_rcnn = model
        self.patience = patience

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Compare with the best epoch so far."""
        rows = read_table(self.mask_rcnn.training_run.figures_path)
        figures = {int(row["epoch"]): row.get("segm_AP", 0.0) for row in rows}
        if not figures:
            return
        best = max(figures, key=lambda e: (figures[e], -e))
        if epoch + 1 - best >= self.patience:
            logger.info(
                "The training ends: mask AP has not risen since epoch %d (%.3f).",
                best,
                figures[best],
            )
            self.model.stop_training = True


class StepLog(keras.callbacks.Callback):
    """Writes losses and learning rate of every step, and validation results, for TensorBoard.

    `Training/Loss`, `Training/mrcnn_mask_loss` and so on and `Training/learning_rate` are written
    by step, counted from 1 over the whole run; a resumed run continues the count.
    `Validation/Loss`, `Validation/mrcnn_mask_loss` and so on are written by epoch, counted from 1.
    So are `Validation/segm_AP` and other figures, if a `CocoEvaluation` comes earlier in the list
    of callbacks.

    A written loss is that of its own step. Keras reports the mean since the epoch began, in
    float32, so the loss of a step is the difference of two sums computed from such means. Its error
    grows with each step of the epoch by about 1e-7 of the mean. After a loss that is not finite,
    all written losses of the epoch are not finite.

    Args:
        log_dir: folder to write to, `MaskRCNN.log_dir` for a run.
        every: number of steps per entry. An entry has the mean loss of its steps, the learning rate
            of the first step and the number of the last step. The last step of an epoch ends an
            entry. One entry takes 0.4 ms (ResNet101, one core), and 8 ms on JAX, which has to fetch
            the model's state for the learning rate.
        batch_size: images per step of all workers, for `Training/images_per_second`, which counts
            the wait for images too; None: it is not written.

    Raises:
        ValueError: `every` is below 1; or, when training begins, the length of an epoch is unknown.
        ImportError: when training begins, TensorBoard is not installed.
    """

    def __init__(self, log_dir: PathLike, every: int = 1, batch_size: int | None = None):
        super().__init__()
        if every < 1:
            raise ValueError(f"every is {every}; it must be at least 1 step.")
        self.log_dir = os.fspath(log_dir)
        self.every = every
        self.batch_size = batch_size
        self._learning_rate: float | None = None

    def on_train_begin(self, logs: Logs = None) -> None:
        """Open an event file."""
        if self.params["steps"] is None:
            raise ValueError("StepLog counts steps by epochs; give fit their steps_per_epoch.")
        self._writer = event_writer(self.log_dir)

    def on_train_end(self, logs: Logs = None) -> None:
        """Close the event file."""
        self._writer.close()

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Begin an entry."""
        self._steps_before = epoch * self.params["steps"]
        self._begin_entry(0, {})

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Note the learning rate of an entry's first step."""
        if self._learning_rate is None:
            self._learning_rate = _learning_rate(self.model.optimizer)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Write an entry after its last step."""
        done = batch + 1
        if done - self._done < self.every and done < self.params["steps"]:
            return
        sums = {name: done * float(mean) for name, mean in (logs or {}).items()}
        means = {
            name: (sums[name] - self._sums.get(name, 0.0)) / (done - self._done) for name in sums
        }
        assert self._learning_rate is not None
        means["learning_rate"] = self._learning_rate
        if self.batch_size is not None:
            seconds = time.perf_counter() - self._began
            means["images_per_second"] = self.batch_size * (done - self._done) / seconds
        _write_scalars(self._writer, "Training", self._steps_before + done, means)
        self._begin_entry(done, sums)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Write the validation results."""
        found = {
            name.removeprefix("val_"): float(value)
            for name, value in (logs or {}).items()
            if name.startswith("val_")
        }
        if found:
            _write_scalars(self._writer, "Validation", epoch + 1, found)

    def _begin_entry(self, done: int, sums: dict[str, float]) -> None:
        """Note how many steps of the epoch are written, and the sums of their losses."""
        self._done, self._sums, self._learning_rate = done, sums, None
        self._began = time.perf_counter()


def _learning_rate(optimizer: keras.optimizers.Optimizer) -> float:
    """The learning rate of the next step."""
    return float(keras.ops.convert_to_numpy(inner_optimizer(optimizer).learning_rate))


def event_writer(folder: str) -> Any:
    """TensorBoard's own writer of event files, which works without TensorFlow."""
    try:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
    except ImportError as error:
        hint = "event files are written with TensorBoard: pip install tensorboard"
        raise ImportError(hint) from error
    return EventFileWriter(folder)


def _write_scalars(writer: Any, group: str, step: int, values: dict[str, float]) -> None:
    """Write one value per name, under `group/name`."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    tags = {name: f"{group}/{'Loss' if name == 'loss' else name}" for name in values}
    summary = Summary(
        value=[Summary.Value(tag=tags[name], simple_value=values[name]) for name in values]
    )
    writer.add_event(Event(step=step, wall_time=time.time(), summary=summary))
    # Flushed at once, so that the last steps of a killed run are written.
    writer.flush()


def detection_config(config: Config) -> Config:
    """A copy of a training Config for evaluation: one whole image at a time, all scores.

    DETECTION_MIN_CONFIDENCE is 0, because COCO's AP ranks all detections.
    """
    config = config.for_detection()
    config.DETECTION_MIN_CONFIDENCE = 0.0
    return config
