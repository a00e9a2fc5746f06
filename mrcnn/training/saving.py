"""What is saved while a model trains, and when: nothing that was computed is lost.

The whole state (weights, optimizer, random states, epoch and step) is written after every epoch,
every CHECKPOINT_MINUTES within an epoch, and when SIGINT (Ctrl-C) or SIGTERM asks for the end. Data
order and augmentation follow from the seed and the step alone, so they need no state.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import keras
import numpy as np
from keras import ops

from mrcnn.training import distribution
from mrcnn.training.run import Run
from mrcnn.weights.checkpoint import save_checkpoint

logger = logging.getLogger("mrcnn")

# Keras' callbacks may get None.
Logs = dict[str, Any] | None


class StopSignals:
    """A context in which SIGINT and SIGTERM let a training save its state before it ends.

    While `is_deferred`, the first signal is noted in `received`, further SIGTERMs change nothing,
    and a further SIGINT ends the program at once. Otherwise the first one does. Signals for which
    the program has a handler of its own stay as they are, and so does everything outside the main
    thread, where Python allows no handlers.

    Attributes:
        received: the signal's number, None before it comes.
        is_deferred: there is something to save.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.is_deferred = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                handler = signal.getsignal(number)
                if handler in (signal.SIG_DFL, signal.default_int_handler):
                    self._before[number] = handler
                    signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _receive(self, number: int, _: FrameType | None) -> None:
        is_first = self.received is None
        # Slurm sends SIGTERM twice in the same second when it preempts a job.
        if not self.is_deferred or (not is_first and number == signal.SIGINT):
            self.received = number
            self.end()
        if is_first:
            self.received = number
            logger.warning(
                "%s: the state is saved after this step; Ctrl-C ends at once.",
                signal.Signals(number).name,
            )

    def end(self) -> None:
        """End the program as the signal asks: with exit status 130 for SIGINT, 143 for SIGTERM."""
        assert self.received is not None
        if self.received == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + self.received)


class Checkpoint(keras.callbacks.Callback):
    """Writes the whole state after every epoch and at moments within it, and counts epochs.

    Args:
        run: has the file names and the count of epochs.
        writes: False: only count, write nothing.
        minutes: from one state to the next within an epoch; 0 for none within it.
        signals: signals that end the training, after its state is written.
        clock: seconds that never go back.

    Attributes:
        is_stopping: the state of a step is saved, and `Stop` ends the training after it.

    Raises:
        OSError: a state cannot be written; the message names the last one that was.
    """

    def __init__(
        self,
        run: Run,
        writes: bool = True,
        minutes: float = 0,
        signals: StopSignals | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        super().__init__()
        self.run = run
        self.writes = writes
        self.minutes = minutes
        self.signals = signals or StopSignals()
        self._clock = clock
        self.is_stopping = False
        self._epoch = self._step = 0

    def on_train_begin(self, logs: Logs = None) -> None:
        """Start the clock."""
        self._saved_at = self._clock()

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Note the epoch."""
        self._epoch, self._step = epoch, 0

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Write the state if it is time to, or if the training is to end here."""
        self._step = batch + 1
        self.signals.is_deferred = True
        # What follows the last step, validation or the end of the epoch, looks after it.
        if self._step == self.params["steps"]:
            return
        if self._must_stop():
            self._save_within_epoch(is_last=True)
            self.is_stopping = True
        elif self.minutes and self._clock() - self._saved_at >= 60 * self.minutes:
            self._save_within_epoch()

    def on_test_batch_end(self, batch: int, logs: Logs = None) -> None:
        """End a validation that a signal interrupts; the epoch's steps are all done."""
        if self._step == self.params["steps"] and self._must_stop():
            self._save_epoch(None)
            self.stop()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Write the checkpoint."""
        self._save_epoch((logs or {}).get("val_loss"))
        if self._must_stop():
            self.stop()

    def _must_stop(self) -> bool:
        return distribution.any_worker(self.signals.received is not None)

    def stop(self) -> None:
        """End the training as the signal asks."""
        if self.signals.received is None:  # another worker got the signal
            self.signals.received = int(signal.SIGTERM)
        logger.warning("Stopped: %s.", self.run.kept)
        self.signals.end()

    def _save_epoch(self, val_loss: float | None) -> None:
        done = self._epoch + 1
        if self.writes:
            self._save(self.run.checkpoint(done), val_loss)
            self.run.finish_epoch(done)
        self.run.epoch, self.run.step = done, 0

    def _save_within_epoch(self, is_last: bool = False) -> None:
        # The step's loss was finite, but its weights may not be: the last good state stays.
        if not_finite(self.model) is not None:
            return
        path = self.run.checkpoint_within(self._epoch, self._step)
        if self.writes:
            self._save(path, None)
            self.run.finish_step(self._epoch, self._step)
        if is_last:  # `train` may be called again in this process
            self.run.step, self.run.resume_from = self._step, path
            self.run.is_interrupted = True

    def _save(self, path: str, val_loss: float | None) -> None:
        self.run.restore_folder()
        try:
            save_checkpoint(self.model, path, val_loss)
        except OSError as error:
            raise OSError(
                f"the state after epoch {self._epoch + 1}, step {self._step} could not be written "
                f"to {path}: {error}; {self.run.kept}. Make room or free the folder, and resume."
            ) from error
        self._saved_at = self._clock()
        self.signals.is_deferred = distribution.worker_count() > 1


class Stop(keras.callbacks.Callback):
    """Ends a training that a signal stops, after all other callbacks have seen its last step.

    Args:
        checkpoint: has saved the state of the step.
    """

    def __init__(self, checkpoint: Checkpoint):
        super().__init__()
        self.checkpoint = checkpoint

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """End the training."""
        if self.checkpoint.is_stopping:
            self.checkpoint.stop()


def not_finite(model: keras.Model) -> str | None:
    """The path of a weight with a value that is NaN or infinite, None if there is none."""
    for weight in model.weights:
        if not np.isfinite(ops.convert_to_numpy(weight)).all():
            return str(weight.path)
    return None
