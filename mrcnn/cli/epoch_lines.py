"""One line per epoch, and a bar of its steps in a terminal."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import click
import keras

from mrcnn.cli.console import progress

# Names in logs and in the line.
_SHOWN = {
    "loss": "loss",
    "val_loss": "val loss",
    "val_bbox_AP": "box AP",
    "val_segm_AP": "mask AP",
}


class EpochLines(keras.callbacks.Callback):
    """Prints a line after each epoch.

    Args:
        epochs: the epoch that the training ends with.
    """

    def __init__(self, epochs: int):
        super().__init__()
        self.epochs = epochs

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Show a bar."""
        self._start = time.monotonic()
        self._bar = contextlib.ExitStack()
        self._move = self._bar.enter_context(progress(f"epoch {epoch + 1}/{self.epochs}, steps"))

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Move the bar."""
        self._move(batch + 1, self.params["steps"])

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Replace the bar by a line."""
        self._bar.close()
        values = logs or {}
        found = [f"{text} {values[name]:.3f}" for name, text in _SHOWN.items() if name in values]
        seconds = time.monotonic() - self._start
        click.echo(f"Epoch {epoch + 1}/{self.epochs}: {', '.join(found)}, {seconds:.0f} s")

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Remove the bar of an epoch that was not finished."""
        self._bar.close()
