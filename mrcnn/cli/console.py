"""What the command shows: results on standard output, all else on standard error, in lines."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from mrcnn import quiet

logger = logging.getLogger("mrcnn")

# Set by --debug: errors are shown with their traceback.
DEBUG = threading.Event()


class _Lines(logging.Handler):
    """Writes each message as one line, to the standard error of the moment."""

    def emit(self, record: logging.LogRecord) -> None:
        mark = "Warning: " if record.levelno >= logging.WARNING else ""
        _say(f"{mark}{record.getMessage()}")


def set_up_messages() -> None:
    """Show messages and warnings of this package as lines; hide those of the libraries below."""
    if not any(isinstance(handler, _Lines) for handler in logger.handlers):
        logger.addHandler(_Lines())
        logger.setLevel(logging.INFO)
        logger.propagate = False
    warnings.showwarning = _show_warning
    DEBUG.clear()


def _show_warning(
    message: Warning | str, category: type[Warning], filename: str, *_: Any, **__: Any
) -> None:
    # Warnings for programmers, such as of a function that will be removed, are not for users.
    if issubclass(category, UserWarning) or DEBUG.is_set():
        _say(f"Warning: {message}")


def say_error(text: str) -> None:
    """Show why the command failed."""
    _say(f"Error: {text}")


def _say(text: str) -> None:
    if sys.stderr is not None:
        print(text, file=sys.stderr, flush=True)


def load_keras() -> None:
    """Import Keras and its backend without their start-up lines.

    Raises:
        ImportError: KERAS_BACKEND names a backend that is not installed, or none.
    """
    try:
        quiet.import_keras()
    except ImportError as error:
        backend = os.environ.get("KERAS_BACKEND", "tensorflow")
        raise ImportError(
            f"the backend {backend!r} cannot be imported ({error}); install it, or set "
            "KERAS_BACKEND to tensorflow, jax or torch."
        ) from error
    except ValueError as error:
        raise ImportError(
            f"KERAS_BACKEND is {os.environ.get('KERAS_BACKEND')!r}; it must be tensorflow, jax or "
            "torch."
        ) from error


@contextlib.contextmanager
def progress(what: str) -> Iterator[Callable[[int, int | None], None]]:
    """A function `(done, total)` that moves a bar; nothing is shown where there is no terminal.

    Args:
        what: what is counted, such as "images".
    """
    if not (sys.stderr and sys.stderr.isatty()):
        yield _ignore
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task(what, total=None)

        def move(done: int, total: int | None = None) -> None:
            bars.update(bar, completed=done, total=total)

        yield move


def _ignore(done: int, total: int | None) -> None:
    """Show nothing."""


def table(columns: list[str], rows: list[list[str]]) -> str:
    """A table as text, numbers to the right: it is the same in a terminal and in a file."""
    cells = [columns, *rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    left = [all(not _is_number(row[i]) for row in rows) for i in range(len(columns))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if is_left else cell.rjust(width)
            for cell, width, is_left in zip(row, widths, left, strict=True)
        ).rstrip()
        for row in cells
    )


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).replace("-", "", 1).replace(",", "").isdigit() or text == "-"
