"""Writing files that are never visible half-written, and reading JSON files as data.

A file is written to a temporary name in the same folder, flushed to disk and then renamed. A
process that is killed leaves the temporary file behind; `remove_leftovers` finds it by its name.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mrcnn.messages import listed
from mrcnn.types import PathLike

# The file's own name comes last, because some writers choose the format by the ending.
_TEMPORARY = re.compile(r"\.part-(?P<host>[\w.-]*?)-(?P<process>\d+)-[0-9a-f]{8}-.+", re.DOTALL)
# A process on another machine cannot be checked: after this time its file counts as left over.
_ABANDONED_SECONDS = 24 * 3600


@contextlib.contextmanager
def written_beside(path: PathLike) -> Iterator[Path]:
    """A temporary path in the same folder; the file is renamed to `path` if there is no error.

    The folder is created if it does not exist. The file is flushed to disk before it is renamed, so
    that a power failure leaves the old file or the new one. After an error nothing is left behind.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(_temporary_name(path.name))
    try:
        yield temporary
        flush_to_disk(temporary)
        os.replace(temporary, path)
        flush_to_disk(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def written_together() -> Iterator[Callable[[PathLike], Path]]:
    """A function `path -> temporary path`, for files that belong together.

    If there is no error, the files are renamed at the end, in the order in which their paths were
    requested. After an error, none of them is.
    """
    temporaries: dict[Path, Path] = {}

    def temporary_of(path: PathLike) -> Path:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        return temporaries.setdefault(path, path.with_name(_temporary_name(path.name)))

    try:
        yield temporary_of
        for temporary in temporaries.values():
            flush_to_disk(temporary)
        for path, temporary in temporaries.items():
            os.replace(temporary, path)
        for folder in {path.parent for path in temporaries}:
            flush_to_disk(folder)
    finally:
        for temporary in temporaries.values():
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def folder_beside(path: PathLike) -> Iterator[Path]:
    """A temporary path for a folder beside `path`; it is renamed to it if there is no error.

    Raises:
        ValueError, NotADirectoryError: as `check_new_folder`.
    """
    path = check_new_folder(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(_temporary_name(path.name))
    try:
        yield temporary
        # An empty folder may be there.
        os.replace(temporary, path)
        flush_to_disk(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_new_folder(path: PathLike) -> Path:
    """Check that there is no folder yet, or an empty one.

    Raises:
        ValueError: there is a folder that is not empty; NotADirectoryError: there is a file.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"{path} is a file; name a new or empty folder.")
    if path.is_dir() and (inside := os.listdir(path)):
        raise ValueError(
            f"{path} is not empty: it has {listed(sorted(inside), 3)}; name a new or empty folder."
        )
    return path


def write_text(path: PathLike, text: str) -> None:
    """Write a text file in UTF-8; it gets its name when it is complete."""
    with written_beside(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: PathLike, data: bytes | memoryview) -> None:
    """Write a file; it gets its name when it is complete."""
    with written_beside(path) as temporary:
        temporary.write_bytes(data)


def flush_to_disk(path: PathLike) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        if os.path.isdir(path):  # Windows cannot open folders
            return
        raise
    try:
        os.fsync(descriptor)
    except OSError:
        # Some network file systems cannot flush folders.
        if not os.path.isdir(path):
            raise
    finally:
        os.close(descriptor)


def remove_leftovers(folder: PathLike) -> list[Path]:
    """Remove temporary files of processes that have ended, and return their paths."""
    removed = []
    for path in Path(folder).glob(".part-*"):
        if _is_left_over(path):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            removed.append(path)
    return removed


def _temporary_name(name: str) -> str:
    return f".part-{_host()}-{os.getpid()}-{secrets.token_hex(4)}-{name}"


def _host() -> str:
    return re.sub(r"[^\w.]", "_", socket.gethostname())


def _is_left_over(path: Path) -> bool:
    match = _TEMPORARY.fullmatch(path.name)
    if match is None:
        return False
    if match["host"] == _host():
        return not _is_running(int(match["process"]))
    try:
        return time.time() - path.stat().st_mtime > _ABANDONED_SECONDS
    except FileNotFoundError:
        return False


def _is_running(process: int) -> bool:
    if os.name != "posix":  # signal 0 would end the process elsewhere
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


# ---- JSON ----------------------------------------------------------------------------------------


def read_json(path: PathLike, comments: bool = False) -> Any:
    """The value that a JSON file holds.

    Args:
        comments: allow `//` comments.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no JSON, or JSON that is nested too deeply or has numbers too long to
            read; the message names the file.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        return json.loads(_without_comments(text) if comments else text)
    except RecursionError:
        raise ValueError(f"{path} cannot be read: its JSON is nested too deeply.") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a JSON file in UTF-8: {error}.") from error
    except ValueError as error:
        # Besides wrong JSON, Python refuses numbers of more than 4,300 digits.
        raise ValueError(f"{path} is not a JSON file: {error}.") from error


def _without_comments(text: str) -> str:
    """JSON text without its `//` comments; a string that holds `//` stays whole."""
    string_or_comment = r'("(?:\\.|[^"\\])*")|//[^\n]*'
    return re.sub(string_or_comment, lambda match: match.group(1) or "", text)
