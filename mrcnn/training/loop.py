"""The training loop: batches, callbacks, resuming, and a stop if training diverges."""

from __future__ import annotations

import importlib.util
import logging
import math
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from mrcnn.config import Config
from mrcnn.data.dataset import Dataset, describe_image
from mrcnn.data.loader import BatchLoader, check_same_classes
from mrcnn.messages import listed
from mrcnn.training import distribution
from mrcnn.training.model import TrainingModel, start_optimizer
from mrcnn.training.optimizers import inner_optimizer, set_schedule
from mrcnn.training.run import Run
from mrcnn.weights.checkpoint import load_optimizer, load_random_state, save_checkpoint

logger = logging.getLogger("mrcnn")


def fit(
    model: TrainingModel,
    config: Config,
    train_dataset: Dataset,
    val_dataset: Dataset | None,
    run: Run,
    epochs: int,
    augmentation: Any = None,
    custom_callbacks: Iterable[keras.callbacks.Callback] | None = (),
    no_augmentation_sources: Iterable[str] | None = None,
    seed: int = 0,
    verbose: str | int = "auto",
) -> keras.callbacks.History:
    """Train a compiled model from the run's epoch up to `epochs`.

    With several workers, a batch has BATCH_SIZE images per worker, and each worker reads its shard
    of it. Only the first worker writes checkpoints, the Config and TensorBoard's events.

    Args:
        model: a compiled training model.
        config: its Config.
        train_dataset: prepared.
        val_dataset: prepared; None for no validation.
        run: the run to write to. Its `epoch` counts every epoch done, however the training ends.
        epochs: the total number, including those before a resumption.
        augmentation: an augmenter, see `mrcnn.data.augment`.
        custom_callbacks: further callbacks, called after the checkpoint is written.
        no_augmentation_sources: sources whose images are not augmented.
        seed: seed of the images' order and of augmentation.
        verbose: Keras' progress bars, 0 for none.

    Returns:
        Keras' History of these epochs.

    Raises:
        FloatingPointError: the training diverged.
        ValueError: a data set or an argument that cannot be used.
    """
    check_same_classes(train_dataset, val_dataset)
    if epochs <= run.epoch:
        return _empty_history(model)
    shard = (distribution.worker_index(), distribution.worker_count())
    train_loader = BatchLoader(
        train_dataset,
        config,
        steps=math.ceil(config.STEPS_PER_EPOCH),
        augmentation=augmentation,
        no_augmentation_sources=no_augmentation_sources,
        seed=seed,
        initial_epoch=run.epoch,
        shard=shard,
    )
    val_loader = None
    if val_dataset is not None and config.VALIDATION_STEPS:
        steps = math.ceil(config.VALIDATION_STEPS)
        val_loader = ValidationLoader(val_dataset, config, steps=steps, shard=shard)

    custom = list(custom_callbacks or ())
    _begin(run, config, train_dataset, epochs, custom)
    _resume(model, run)
    set_schedule(model, config, (epochs - run.epoch) * math.ceil(config.STEPS_PER_EPOCH))
    is_first = shard[0] == 0
    callbacks = [
        *_weight_averaging(model),
        StopWhereDiverged(run, train_loader),
        Checkpoint(run, writes=is_first),
        *custom,
        # Last, so that it shows the values that other callbacks add to an epoch's logs.
        *(_tensorboard(run.log_dir) if is_first else []),
    ]
    try:
        return model.fit(
            train_loader,
            initial_epoch=run.epoch,
            epochs=epochs,
            callbacks=callbacks,
            validation_data=val_loader,
            # The loader shuffles; Keras would shuffle the loader's batches again.
            shuffle=False,
            verbose=verbose if is_first else 0,
        )
    except FloatingPointError:
        raise
    except Exception:
        # TensorFlow replaces an error of the loader by another one that contains its text.
        for loader in (train_loader, val_loader):
            if loader is not None and loader.failure is not None:
                raise loader.failure from None
        raise


def _begin(
    run: Run,
    config: Config,
    dataset: Dataset,
    epochs: int,
    callbacks: list[keras.callbacks.Callback],
) -> None:
    """Make the run's folder; write the Config and the record of this training into it."""
    planned = run.log_dir
    run.keep = config.KEEP_CHECKPOINTS
    run.begin()
    if run.log_dir != planned:
        # Another run has taken the folder meanwhile: StepLog and TensorBoard must not write there.
        for callback in callbacks:
            if getattr(callback, "log_dir", None) == planned:
                callback.log_dir = run.log_dir
    if distribution.worker_index() == 0:
        run.write_config(config, [str(info["name"]) for info in dataset.class_info[1:]])
        run.write_record(epochs)


def _resume(model: TrainingModel, run: Run) -> None:
    """Restore the optimizer and the random state from a loaded checkpoint."""
    path, run.resume_from = run.resume_from, None
    if path is None:
        return
    start_optimizer(model)
    try:
        load_optimizer(model, path)
    except ValueError as error:
        logger.warning("The optimizer starts afresh: %s", error)
    try:
        load_random_state(model, path)
    except ValueError as error:
        logger.warning("ROIs are sampled with a new random state: %s", error)


def _empty_history(model: TrainingModel) -> keras.callbacks.History:
    """A History without epochs."""
    history = keras.callbacks.History()
    history.set_model(model)
    history.on_train_begin()
    return history


class ValidationLoader(BatchLoader):
    """The same random batches in every epoch, so that losses of epochs can be compared."""

    def on_epoch_end(self) -> None:
        """Stay at the same epoch."""


# ---- Callbacks -----------------------------------------------------------------------------------


class Checkpoint(keras.callbacks.Callback):
    """Writes weights, optimizer state and random state after every epoch, and counts the epoch.

    Args:
        run: has the file names and the count of epochs.
        writes: False: only count, write nothing.
    """

    def __init__(self, run: Run, writes: bool = True):
        super().__init__()
        self.run = run
        self.writes = writes

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Write the checkpoint."""
        if self.writes:
            save_checkpoint(self.model, self.run.checkpoint(epoch + 1))
            self.run.finish_epoch(epoch + 1)
        else:
            self.run.epoch = epoch + 1


class StopWhereDiverged(keras.callbacks.Callback):
    """Raises FloatingPointError when the loss or a weight is no longer finite.

    It is called before `Checkpoint`, so the last checkpoint is finite.

    Args:
        run: the run; the error names its last checkpoint.
        loader: the loader of the batches; the error names the images of the last batch.
    """

    def __init__(self, run: Run, loader: BatchLoader):
        super().__init__()
        self.run = run
        self.loader = loader

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Note the epoch."""
        self._epoch = epoch
        self._batch = 0

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Check the mean loss of the epoch; after the first NaN it stays NaN."""
        self._batch = batch
        loss = float((logs or {}).get("loss", 0.0))
        if not math.isfinite(loss):
            self._stop(f"the loss is {loss}")

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Check the weights: the last step changes them after its loss is computed."""
        for weight in self.model.weights:
            if not np.isfinite(ops.convert_to_numpy(weight)).all():
                self._stop(f"the weight {weight.path} is not finite")

    def _stop(self, what: str) -> None:
        last = self.run.epoch
        kept = f"the last good checkpoint is {self.run.checkpoint(last)}" if last else (
            "no checkpoint is written yet"
        )  # fmt: skip
        raise FloatingPointError(
            f"the training diverged: {what} after epoch {self._epoch + 1}, step {self._batch + 1} "
            f"(images of the batch: {listed(self._images(), limit=32)}); {kept}. A lower learning "
            "rate, WARMUP_STEPS or a smaller GRADIENT_CLIP_NORM may help."
        )

    def _images(self) -> list[str]:
        """The images of the last batch in words."""
        self.loader.epoch = self._epoch
        try:
            ((_, metas, *_),) = self.loader[self._batch]
        except (OSError, ValueError):  # a file was removed meanwhile
            return ["unknown"]
        return [describe_image(self.loader.dataset, int(meta[0])) for meta in metas]


def _tensorboard(log_dir: str) -> list[keras.callbacks.Callback]:
    """Keras' callback that writes TensorBoard events; on every backend it needs TensorFlow."""
    if importlib.util.find_spec("tensorflow") is None:
        logger.warning("TensorFlow is not installed: no TensorBoard events of epochs are written.")
        return []
    return [keras.callbacks.TensorBoard(log_dir=log_dir, write_graph=False)]


def _weight_averaging(model: TrainingModel) -> list[keras.callbacks.Callback]:
    """The callback that puts the moving averages (EMA) in place of the weights between epochs."""
    optimizer = inner_optimizer(model.optimizer)
    if not optimizer.use_ema:
        return []
    if int(ops.convert_to_numpy(optimizer.iterations)):
        # After resuming: a checkpoint has the averages as its weights, and the weights as averages.
        back = keras.callbacks.SwapEMAWeights()
        back.set_model(model)
        back.on_test_begin()
    return [keras.callbacks.SwapEMAWeights(swap_on_epoch=True)]
