"""The training loop: batches, callbacks, resuming, and a stop if training diverges."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import math
from collections.abc import Iterable
from typing import Any

import keras
from keras import ops

from mrcnn.config import Config
from mrcnn.data.dataset import Dataset, describe_image
from mrcnn.data.loader import BatchLoader, check_same_classes
from mrcnn.messages import listed
from mrcnn.training import distribution
from mrcnn.training.model import TrainingModel
from mrcnn.training.optimizers import inner_optimizer, set_schedule
from mrcnn.training.resumption import fit_from_step, restore
from mrcnn.training.run import Run
from mrcnn.training.saving import Checkpoint, Stop, StopSignals, not_finite
from mrcnn.types import PathLike

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
    is_first = shard[0] == 0
    _make_folder(run, config, custom)
    with run.locked() if is_first else contextlib.nullcontext(), StopSignals() as signals:
        if is_first:
            run.write_config(config, [str(info["name"]) for info in train_dataset.class_info[1:]])
            run.write_record(epochs)
        step, checkpoint = restore(model, run, len(train_loader))
        set_schedule(model, config, (epochs - run.epoch) * len(train_loader) - step)
        checkpoints = Checkpoint(run, is_first, config.CHECKPOINT_MINUTES, signals)
        callbacks = [
            *_weight_averaging(model, is_within_epoch=step > 0),
            StopWhereDiverged(run, train_loader),
            checkpoints,
            *custom,
            # After them, so that it shows the values that they add to an epoch's logs.
            *(_tensorboard(run.log_dir) if is_first else []),
            Stop(checkpoints),
        ]
        settings = {
            "initial_epoch": run.epoch,
            "epochs": epochs,
            "callbacks": callbacks,
            "validation_data": val_loader,
            "verbose": verbose if is_first else 0,
        }
        return _fit(model, (train_loader, val_loader), step, checkpoint, settings)


def _fit(
    model: TrainingModel,
    loaders: tuple[BatchLoader, BatchLoader | None],
    step: int,
    checkpoint: PathLike | None,
    settings: dict[str, Any],
) -> keras.callbacks.History:
    """Keras' `fit`, with the errors of the loaders."""
    try:
        if step and checkpoint is not None:
            return fit_from_step(model, loaders[0], step, checkpoint, **settings)
        # The loader shuffles; Keras would shuffle the loader's batches again.
        return model.fit(loaders[0], shuffle=False, **settings)
    except FloatingPointError:
        raise
    except Exception:
        # TensorFlow replaces an error of the loader by another one that contains its text.
        for loader in loaders:
            if loader is not None and loader.failure is not None:
                raise loader.failure from None
        raise


def _make_folder(run: Run, config: Config, callbacks: list[keras.callbacks.Callback]) -> None:
    """Make the run's folder; tell callbacks if it is another one than planned."""
    planned = run.log_dir
    run.keep = config.KEEP_CHECKPOINTS
    run.begin()
    if run.log_dir != planned:
        # Another run has taken the folder meanwhile: StepLog and TensorBoard must not write there.
        for callback in callbacks:
            if getattr(callback, "log_dir", None) == planned:
                callback.log_dir = run.log_dir


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
        if (path := not_finite(self.model)) is not None:
            self._stop(f"the weight {path} is not finite")

    def _stop(self, what: str) -> None:
        raise FloatingPointError(
            f"the training diverged: {what} after epoch {self._epoch + 1}, step {self._batch + 1} "
            f"(images of the batch: {listed(self._images(), limit=32)}); {self.run.kept}. A lower "
            "learning rate, WARMUP_STEPS or a smaller GRADIENT_CLIP_NORM may help."
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


def _weight_averaging(
    model: TrainingModel, is_within_epoch: bool
) -> list[keras.callbacks.Callback]:
    """The callback that puts the moving averages (EMA) in place of the weights between epochs."""
    optimizer = inner_optimizer(model.optimizer)
    if not optimizer.use_ema:
        return []
    if int(ops.convert_to_numpy(optimizer.iterations)) and not is_within_epoch:
        # After resuming: the checkpoint of an epoch has the averages as its weights, and the
        # weights as averages.
        back = keras.callbacks.SwapEMAWeights()
        back.set_model(model)
        back.on_test_begin()
    return [keras.callbacks.SwapEMAWeights(swap_on_epoch=True)]
