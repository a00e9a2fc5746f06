"""A training that goes on from a checkpoint, also from the middle of an epoch."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import keras

from mrcnn.data.loader import BatchLoader
from mrcnn.training.model import TrainingModel, minimise_losses, start_optimizer
from mrcnn.training.optimizers import inner_optimizer
from mrcnn.training.run import Run
from mrcnn.types import PathLike
from mrcnn.weights.by_name import load_weights
from mrcnn.weights.checkpoint import load_means, load_optimizer, load_random_state

logger = logging.getLogger("mrcnn")


def restore(model: TrainingModel, run: Run, steps: int) -> tuple[int, PathLike | None]:
    """Restore the optimizer and the random state from the checkpoint that the run goes on from.

    Args:
        model: compiled.
        run: its `resume_from` and `step` say from where, and are used up.
        steps: STEPS_PER_EPOCH.

    Returns:
        The number of steps that are done of the next epoch, and the checkpoint's path.
    """
    path, run.resume_from = run.resume_from, None
    step, run.step = run.step, 0
    is_interrupted, run.is_interrupted = run.is_interrupted, False
    if path is None:
        return 0, None
    if step >= steps:
        logger.warning(
            "%s is from step %d of an epoch, which now has %d: the epoch begins again.",
            path,
            step,
            steps,
        )
        step = 0
    elif is_interrupted:
        # Keras puts the averages of EMA_MOMENTUM in place of the weights when `fit` is interrupted.
        load_weights(model, path)
    start_optimizer(model)
    try:
        load_optimizer(model, path)
    except ValueError as error:
        logger.warning("The optimizer starts afresh: %s", error)
    try:
        load_random_state(model, path)
    except ValueError as error:
        logger.warning("ROIs are sampled with a new random state: %s", error)
    return step, path


def fit_from_step(
    model: TrainingModel,
    loader: BatchLoader,
    step: int,
    checkpoint: PathLike,
    *,
    initial_epoch: int,
    epochs: int,
    callbacks: list[keras.callbacks.Callback],
    validation_data: Any,
    verbose: str | int,
) -> keras.callbacks.History:
    """`fit` that begins in the middle of an epoch; callbacks see one training.

    Keras can only begin with the first step of an epoch, so it is called twice: for the rest of the
    epoch, and for the other epochs.

    Args:
        model: compiled, with weights, optimizer and random state of the checkpoint.
        loader: the batches of whole epochs.
        step: number of steps that are done.
        checkpoint: has the mean losses of these steps.
        initial_epoch, epochs, callbacks, validation_data, verbose: as for `keras.Model.fit`.
    """
    minimise_losses(callbacks)
    once = _OneTraining(
        [_Means(checkpoint), *callbacks],
        add_history=True,
        add_progbar=verbose != 0,
        verbose=verbose,
        epochs=epochs,
        steps=len(loader),
        model=model,
    )
    once.steps_before = step
    once.begin()
    settings = {
        "callbacks": once,
        "validation_data": validation_data,
        "shuffle": False,
        "verbose": verbose,
    }
    with _not_finalised(model.optimizer):
        history = model.fit(
            _RestOfEpoch(loader, step),
            initial_epoch=initial_epoch,
            epochs=initial_epoch + 1,
            **settings,
        )
    once.steps_before = 0
    if initial_epoch + 1 < epochs and not model.stop_training:
        history = model.fit(loader, initial_epoch=initial_epoch + 1, epochs=epochs, **settings)
    else:
        inner_optimizer(model.optimizer).finalize_variable_values(model.trainable_variables)
    once.finish()
    return history


class _RestOfEpoch(keras.utils.PyDataset):
    """The batches of an epoch from a step on."""

    def __init__(self, loader: BatchLoader, step: int):
        super().__init__(workers=loader.workers, max_queue_size=loader.max_queue_size)
        self._loader, self._step = loader, step

    def __len__(self) -> int:
        return len(self._loader) - self._step

    def __getitem__(self, index: int) -> tuple:
        return self._loader[self._step + index]

    def on_epoch_begin(self) -> None:
        self._loader.on_epoch_begin()

    def on_epoch_end(self) -> None:
        self._loader.on_epoch_end()


class _OneTraining(keras.callbacks.CallbackList):
    """Callbacks that take several calls of `fit` for one training.

    Attributes:
        steps_before: steps of the epoch that were done before this call.
    """

    steps_before = 0
    _logs: dict[str, Any] | None = None

    def begin(self) -> None:
        """Tell the callbacks that the training begins."""
        super().on_train_begin()

    def finish(self) -> None:
        """Tell the callbacks that the training ends."""
        super().on_train_end(self._logs)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """A call of `fit` begins."""

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """A call of `fit` ends."""
        self._logs = logs

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Count steps from the epoch's beginning."""
        super().on_train_batch_begin(self.steps_before + batch, logs)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Count steps from the epoch's beginning."""
        super().on_train_batch_end(self.steps_before + batch, logs)


class _Means(keras.callbacks.Callback):
    """Puts the mean losses of the steps that are done back, after Keras has reset them."""

    def __init__(self, checkpoint: PathLike):
        super().__init__()
        self._checkpoint: PathLike | None = checkpoint

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Restore the means in the first epoch."""
        if self._checkpoint is not None:
            try:
                load_means(self.model, self._checkpoint)
            except ValueError as error:
                logger.warning("The epoch's mean losses are those of its other steps: %s", error)
            self._checkpoint = None


@contextlib.contextmanager
def _not_finalised(optimizer: keras.optimizers.Optimizer) -> Iterator[None]:
    """Keras ends `fit` by putting averages of the weights (EMA) in their place: not here."""
    optimizer = inner_optimizer(optimizer)
    optimizer.finalize_variable_values = lambda variables: None
    try:
        yield
    finally:
        del optimizer.finalize_variable_values
