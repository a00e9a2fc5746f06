"""Results of detection on disk, in files that stay whole when the process is killed at any moment.

    with open_jsonl("found.jsonl", settings) as store:
        if not store.is_done("a/1.jpg"):
            store.add({"file_name": "a/1.jpg", "width": 640, "height": 480, "detections": []})

A result is a dict with `file_name`, then `width`, `height` and `detections`, or `error` in place of
these three. A detection has `category_id`, `category_name`, `score`, `bbox` `[x, y, width, height]`
and `segmentation`, COCO's run lengths `{"size": [height, width], "counts": str}`.

`open_jsonl` writes one line per result. `open_parquet` writes the same lines to a journal and turns
each 64 MB of them into a part file with one row per detection. An image without detections also has
one row.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import itertools
import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, Any, NamedTuple

import numpy as np

from mrcnn.files import read_json, remove_leftovers, write_text, written_beside
from mrcnn.messages import shortened
from mrcnn.types import PathLike

logger = logging.getLogger("mrcnn")

PART_BYTES = 64 << 20
_ROWS_AT_ONCE = 5000
# With digests of 16 bytes, the probability that any two of a billion names share one is 1e-21.
_DIGEST_BYTES = 16
_BEGINNING = re.compile(rb'\{"file_name": ("(?:[^"\\]|\\.)*"), "(error)?')


class Store(NamedTuple):
    """The results of earlier runs, and a function that adds a result.

    Attributes:
        is_done: function from a file name to whether an earlier run wrote its result.
        done, failed: number of results of earlier runs, and number of errors among them.
        add: writes a result; a process that is killed afterwards does not lose it.
    """

    is_done: Callable[[str], bool]
    done: int
    failed: int
    add: Callable[[dict[str, Any]], None]


@contextlib.contextmanager
def open_jsonl(path: PathLike, settings: dict[str, str]) -> Iterator[Store]:
    """Write results as JSON lines; append to an existing file without its incomplete last line.

    Args:
        path: the file; `_<name>.settings.json` beside it keeps the settings.
        settings: the settings that results depend on; all results of a file must have the same.

    Raises:
        ValueError: the file holds results of other settings, or is not a file of results.
        OSError: another process writes to it.
    """
    path = os.path.abspath(path)
    folder, name = os.path.split(path)
    _prepare(folder)
    with _locked(path) as file:
        known = _read_lines(file, path)
        is_done, done, failed = _membership(known)
        _keep_settings(os.path.join(folder, f"_{name}.settings.json"), settings, path, done)
        yield Store(is_done, done, failed, lambda result: _add_line(file, result))


@contextlib.contextmanager
def open_parquet(
    folder: PathLike,
    settings: dict[str, str],
    name: str = "part",
    part_bytes: int = PART_BYTES,
) -> Iterator[Store]:
    """Write results as numbered parquet files `<name>-000000.parquet`, to be read as one table.

    Columns: `file_name`, `width`, `height`, `error`, `category_id`, `category_name`, `score`,
    `bbox_x`, `bbox_y`, `bbox_width`, `bbox_height`, `segmentation`: COCO's `counts` of a mask of
    `[height, width]`.

    Args:
        folder: folder of the parts; the files whose names begin with `_` are journal and settings.
        settings: as in `open_jsonl`.
        name: first part of the files' names.
        part_bytes: bytes of JSON lines that make a part.

    Raises:
        ValueError, OSError: as `open_jsonl`; ImportError: pyarrow is not installed.
    """
    import_pyarrow()
    folder = os.path.abspath(folder)
    _prepare(folder)
    journal = os.path.join(folder, f"_{name}.jsonl")
    with _locked(journal) as file:
        parts = _part_paths(folder, name)
        _drop_lines_of(parts[-1:], file, journal)
        file.seek(0)
        known = itertools.chain(_read_parts(parts), _read_lines(file, journal))
        is_done, done, failed = _membership(known)
        _keep_settings(os.path.join(folder, f"_{name}.settings.json"), settings, folder, done)
        numbers = itertools.count(1 + max(map(_part_number, parts), default=-1))

        def make_part() -> None:
            _write_part(journal, os.path.join(folder, f"{name}-{next(numbers):06d}.parquet"))
            _empty(file)

        def add(result: dict[str, Any]) -> None:
            _add_line(file, result)
            if file.tell() >= part_bytes:
                make_part()

        yield Store(is_done, done, failed, add)
        # Not reached after an error: then the lines stay in the journal for the next run.
        if file.tell():
            make_part()


def _prepare(folder: str) -> None:
    os.makedirs(folder, exist_ok=True)
    remove_leftovers(folder)


# ---- Results of earlier runs ---------------------------------------------------------------------


def digest(name: str) -> bytes:
    """A digest of a file name, 16 bytes, the same on every machine."""
    return hashlib.blake2b(name.encode("utf-8"), digest_size=_DIGEST_BYTES).digest()


def _membership(known: Iterable[tuple[str, bool]]) -> tuple[Callable[[str], bool], int, int]:
    """A function that says whether a name is known; the number of names; the number of errors.

    The function keeps 16 bytes per name.
    """
    digests, failed = bytearray(), 0
    for name, is_error in known:
        digests += digest(name)
        failed += is_error
    table = np.frombuffer(digests, f"S{_DIGEST_BYTES}")
    table.sort()  # in place

    def is_done(name: str) -> bool:
        wanted = np.frombuffer(digest(name), table.dtype)
        (place,) = np.searchsorted(table, wanted)
        return bool(place < len(table) and table[place] == wanted[0])

    return is_done, len(table), failed


def _keep_settings(path: str, settings: dict[str, str], output: str, done: int) -> None:
    """Write the settings, or compare them with those of existing results.

    If a run failed before its first result, the next run may use other settings.

    Args:
        path: the file of the settings; output: the file or folder of the results.
        done: number of existing results.

    Raises:
        ValueError: results exist, and their settings differ.
    """
    if not done or not os.path.exists(path):
        write_text(path, json.dumps(settings, indent=2) + "\n")
        return
    before = read_json(path)
    if not isinstance(before, dict):
        raise ValueError(f"{path} does not hold the settings of a run; write to another place.")
    differ = [
        f"{key} was {shortened(before.get(key, 'nothing'))} and is "
        f"{shortened(settings.get(key, 'nothing'))}"
        for key in {**before, **settings}
        if before.get(key) != settings.get(key)
    ]
    if differ:
        raise ValueError(
            f"{output} has results of other settings: {'; '.join(differ)}. Write to another "
            f"place, or delete {path} to add to them nevertheless."
        )


def refuse_other_splits(folder: PathLike, name: str, shard: tuple[int, int]) -> None:
    """Check that all results in a folder are of the same number of shards.

    Args:
        folder: the folder of the results; it need not exist.
        name: the files' name before `shard_ending`.
        shard: `(index, count)` of this run.

    Raises:
        ValueError: a file belongs to another number of shards, so images would be done twice.
    """
    ours = re.compile(rf"_?{re.escape(name)}(?:-\d+-of-(\d+))?(?:-\d{{6,}})?\.\w+")
    for other in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        match = ours.fullmatch(other)
        if match and int(match[1] or 1) != shard[1]:
            raise ValueError(
                f"{os.path.join(folder, other)} is of {int(match[1] or 1)} shards, and this is "
                f"shard {shard[0]}/{shard[1]}; keep the number of shards, or write to another "
                "place."
            )


def shard_ending(shard: tuple[int, int]) -> str:
    """`-0-of-3` for the first of three shards; nothing if there is one shard."""
    return f"-{shard[0]}-of-{shard[1]}" if shard[1] > 1 else ""


# ---- JSON lines ----------------------------------------------------------------------------------


@contextlib.contextmanager
def _locked(path: str) -> Iterator[IO[bytes]]:
    """Open a file to read and append, and lock it against other processes until it is closed."""
    with open(path, "a+b") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OSError(
                f"another process is writing to {path}; wait for it, or write to another place."
            ) from error
        except (ImportError, OSError) as error:  # an operating or file system without locks
            logger.warning("%s cannot be locked (%s): let only one process write it", path, error)
        file.seek(0)
        yield file


def _read_lines(file: IO[bytes], path: str) -> Iterator[tuple[str, bool]]:
    """`(file name, whether it is an error)` of each line; an incomplete last line is cut off.

    Raises:
        ValueError: a line that `open_jsonl` did not write.
    """
    end = 0
    for number, line in enumerate(file, start=1):
        match = _BEGINNING.match(line)
        if match and line.endswith(b"}\n"):
            end += len(line)
            yield json.loads(match[1]), match[2] is not None
        elif not line.endswith(b"\n") and (number > 1 or _may_begin_a_line(line)):
            logger.warning("%s ends in an incomplete line; %d bytes are cut off", path, len(line))
            file.truncate(end)
        else:
            raise ValueError(
                f'{path}: line {number} is not a result, which begins with {{"file_name": "…": '
                f"{line[:60]!r}; write to another place."
            )
    file.seek(0, os.SEEK_END)


def _may_begin_a_line(line: bytes) -> bool:
    beginning = b'{"file_name": "'
    return line.startswith(beginning) or beginning.startswith(line)


def _add_line(file: IO[bytes], result: dict[str, Any]) -> None:
    file.write(json.dumps(result).encode("ascii") + b"\n")
    file.flush()


def _empty(file: IO[bytes]) -> None:
    file.truncate(0)
    file.seek(0)


def read_jsonl(path: PathLike) -> Iterator[dict[str, Any]]:
    """The results of a file that `open_jsonl` wrote, one at a time."""
    with open(path, "rb") as file:
        yield from map(json.loads, file)


# ---- Parquet -------------------------------------------------------------------------------------


def import_pyarrow() -> Any:
    """The module pyarrow.

    Raises:
        ImportError: it is not installed; the message says how to install it.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            'pyarrow writes parquet files: pip install "mask-rcnn-keras3[galaxy]", or ask for jsonl'
        ) from error
    return pyarrow


def _part_paths(folder: str, name: str) -> list[str]:
    paths = glob.glob(os.path.join(glob.escape(folder), f"{glob.escape(name)}-*.parquet"))
    part = re.compile(rf"{re.escape(name)}-\d{{6,}}\.parquet")
    return sorted(path for path in paths if part.fullmatch(os.path.basename(path)))


def _part_number(path: str) -> int:
    return int(os.path.splitext(path)[0].rpartition("-")[2])


def _read_parts(paths: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """`(file name, whether it is an error)` of each image; its rows are adjacent, in one part."""
    pyarrow = import_pyarrow()
    for path in paths:
        last = None
        with pyarrow.parquet.ParquetFile(path) as part:
            for batch in part.iter_batches(columns=["file_name", "error"]):
                names, errors = (column.to_pylist() for column in batch.columns)
                for name, error in zip(names, errors, strict=True):
                    if name != last:
                        yield name, error is not None
                    last = name


def _drop_lines_of(parts: Sequence[str], file: IO[bytes], journal: str) -> None:
    """Empty the journal if the last part has its lines: a run ended between these two steps."""
    if not parts:
        return
    in_journal = next(_read_lines(file, journal), None)
    if in_journal is not None and in_journal == next(_read_parts(parts), None):
        _empty(file)


def _write_part(journal: str, path: str) -> None:
    """Write the journal's results to a parquet file; afterwards the journal may be emptied."""
    pyarrow = import_pyarrow()
    rows = itertools.chain.from_iterable(map(_rows, read_jsonl(journal)))
    schema = _schema(pyarrow)
    with (
        written_beside(path) as temporary,
        pyarrow.parquet.ParquetWriter(temporary, schema, compression="zstd") as writer,
    ):
        while some := list(itertools.islice(rows, _ROWS_AT_ONCE)):
            writer.write_table(pyarrow.Table.from_pylist(some, schema=schema))


def _schema(pyarrow: Any) -> Any:
    text, whole, number = pyarrow.string(), pyarrow.int32(), pyarrow.float64()
    columns = {
        "file_name": text,
        "width": whole,
        "height": whole,
        "error": text,
        "category_id": whole,
        "category_name": text,
        "score": number,
        "bbox_x": number,
        "bbox_y": number,
        "bbox_width": number,
        "bbox_height": number,
        "segmentation": text,
    }
    return pyarrow.schema(list(columns.items()))


def _rows(result: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One row per detection, or one row without a detection; missing values are null."""
    image = {key: result.get(key) for key in ("file_name", "width", "height", "error")}
    for detection in result.get("detections") or [None]:
        if detection is None:
            yield image
            continue
        x, y, width, height = detection["bbox"]
        yield {
            **image,
            **{key: detection[key] for key in ("category_id", "category_name", "score")},
            "bbox_x": x,
            "bbox_y": y,
            "bbox_width": width,
            "bbox_height": height,
            "segmentation": detection["segmentation"]["counts"],
        }
