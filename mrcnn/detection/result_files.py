"""Results of detection on disk, in files that survive an interruption at any moment.

    with open_jsonl("found.jsonl", settings) as store:
        if not store.is_done("a/1.jpg"):
            store.add({"file_name": "a/1.jpg", "width": 640, "height": 480, "detections": []})

A result is a dict with `file_name`, then `width`, `height` and `detections`, or `error` in place of
these three. A detection has `category_id`, `category_name`, `score`, `bbox` `[x, y, width, height]`
and `segmentation`, COCO's run lengths `{"size": [height, width], "counts": str}`.

`open_jsonl` writes a line a result. `open_parquet` writes the same lines to a journal, and makes a
part file of each 64 MB of them: a row a detection, and for an image without any a row without one.
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
import textwrap
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

logger = logging.getLogger("mrcnn")

FORMATS = ("jsonl", "parquet")
PART_BYTES = 64 << 20
_ROWS_AT_ONCE = 5000
# A digest of 16 bytes: among a thousand million names, two are alike with a chance of 1e-21.
_DIGEST_BYTES = 16
_BEGINNING = re.compile(rb'\{"file_name": ("(?:[^"\\]|\\.)*"), "(error)?')


class Store(NamedTuple):
    """Results that are written, and the way to add one.

    Attributes:
        is_done: says whether an image, by its file name, has its result from an earlier run.
        done, failed: how many have, and how many of these results are errors.
        add: writes a result; it is safe on return.
    """

    is_done: Callable[[str], bool]
    done: int
    failed: int
    add: Callable[[dict[str, Any]], None]


@contextlib.contextmanager
def open_jsonl(path: str | os.PathLike, settings: dict[str, str]) -> Iterator[Store]:
    """Results as JSON lines; a file that is there is continued, a torn last line cut off.

    Args:
        path: the file; `_<name>.settings.json` beside it remembers the settings.
        settings: what the results depend on; those of one file have the same.

    Raises:
        ValueError: a file of other settings, or one that holds something else.
        OSError: another process writes to it.
    """
    path = os.path.abspath(path)
    folder, name = os.path.split(path)
    os.makedirs(folder, exist_ok=True)
    with _locked(path) as file:
        known = _read_lines(file, path)
        is_done, done, failed = _membership(known)
        _keep_settings(os.path.join(folder, f"_{name}.settings.json"), settings, path)
        yield Store(is_done, done, failed, lambda result: _add_line(file, result))


@contextlib.contextmanager
def open_parquet(
    folder: str | os.PathLike,
    settings: dict[str, str],
    name: str = "part",
    part_bytes: int = PART_BYTES,
) -> Iterator[Store]:
    """Results as numbered parquet files `<name>-000000.parquet`, to be read as one table.

    Columns: `file_name`, `width`, `height`, `error`, `category_id`, `category_name`, `score`,
    `bbox_x`, `bbox_y`, `bbox_width`, `bbox_height`, `segmentation`: COCO's `counts`, whose size is
    `[height, width]`.

    Args:
        folder: of the parts; files that begin with `_` are the journal and the settings.
        settings: as for `open_jsonl`.
        part_bytes: a part is made of so many bytes of JSON lines.

    Raises:
        ValueError, OSError: as `open_jsonl`; ImportError: pyarrow is not installed.
    """
    _import_pyarrow()
    folder = os.path.abspath(folder)
    os.makedirs(folder, exist_ok=True)
    journal = os.path.join(folder, f"_{name}.jsonl")
    with _locked(journal) as file:
        parts = _part_paths(folder, name)
        _drop_lines_of(parts[-1:], file, journal)
        file.seek(0)
        known = itertools.chain(_read_parts(parts), _read_lines(file, journal))
        is_done, done, failed = _membership(known)
        _keep_settings(os.path.join(folder, f"_{name}.settings.json"), settings, folder)
        numbers = itertools.count(_part_number(parts[-1]) + 1 if parts else 0)

        def make_part() -> None:
            _write_part(journal, os.path.join(folder, f"{name}-{next(numbers):06d}.parquet"))
            _empty(file)

        def add(result: dict[str, Any]) -> None:
            _add_line(file, result)
            if file.tell() >= part_bytes:
                make_part()

        yield Store(is_done, done, failed, add)
        # Not after an error: the lines wait in the journal for the next run.
        if file.tell():
            make_part()


# ---- What is done --------------------------------------------------------------------------------


def digest(name: str) -> bytes:
    """16 bytes for a file name, the same on every machine."""
    return hashlib.blake2b(name.encode("utf-8"), digest_size=_DIGEST_BYTES).digest()


def _membership(known: Iterable[tuple[str, bool]]) -> tuple[Callable[[str], bool], int, int]:
    """Function that says whether a name is among these, in 16 bytes a name; counts; failures."""
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


def _keep_settings(path: str, settings: dict[str, str], output: str) -> None:
    """Write down the settings, or compare them with those that are.

    Raises:
        ValueError: they differ.
    """
    if not os.path.exists(path):
        with open(f"{path}.part", "w", encoding="utf-8") as file:
            file.write(json.dumps(settings, indent=2) + "\n")
        os.replace(f"{path}.part", path)
        return
    with open(path, encoding="utf-8") as file:
        before = json.load(file)
    differ = [
        f"{key} was {_shortened(before.get(key))} and is {_shortened(settings.get(key))}"
        for key in {**before, **settings}
        if before.get(key) != settings.get(key)
    ]
    if differ:
        raise ValueError(
            f"{output} has results of other settings: {'; '.join(differ)}. Write to another "
            f"place, or delete {path} to add to them all the same."
        )


def _shortened(text: str | None) -> str:
    return textwrap.shorten(text, 60, placeholder=" …") if text else "nothing"


def refuse_other_splits(folder: str | os.PathLike, name: str, shard: tuple[int, int]) -> None:
    """Check that the results in a folder are of as many shards as this one is of.

    Args:
        name: the files' name before `shard_ending`; shard: `(index, count)`.

    Raises:
        ValueError: a file there is of another number of shards: images would be done twice.
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
    """`-0-of-3` for the first of three shards, nothing for the only one."""
    return f"-{shard[0]}-of-{shard[1]}" if shard[1] > 1 else ""


# ---- JSON lines ----------------------------------------------------------------------------------


@contextlib.contextmanager
def _locked(path: str):
    """A file to read and append to, for one process alone as long as it lives."""
    with open(path, "a+b") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OSError(
                f"another process is writing to {path}; wait for it, or write to another place."
            ) from error
        except (ImportError, OSError) as error:  # no such system, no such file system
            logger.warning("%s cannot be locked (%s): let one process alone write it", path, error)
        file.seek(0)
        yield file


def _read_lines(file, path: str) -> Iterator[tuple[str, bool]]:
    """`(file name, is it an error)` of each line; a torn last line is cut off.

    Raises:
        ValueError: a line that is none of ours.
    """
    end = 0
    for number, line in enumerate(file, start=1):
        match = _BEGINNING.match(line)
        if match and line.endswith(b"}\n"):
            end += len(line)
            yield json.loads(match[1]), match[2] is not None
        elif not line.endswith(b"\n") and (number > 1 or _may_begin_a_line(line)):
            logger.warning("%s ended in a torn line; its %d bytes are cut off", path, len(line))
            file.truncate(end)
        else:
            raise ValueError(
                f'{path}: line {number} is no result, which begins with {{"file_name": "…": '
                f"{line[:60]!r}; write to another place."
            )
    file.seek(0, os.SEEK_END)


def _may_begin_a_line(line: bytes) -> bool:
    beginning = b'{"file_name": "'
    return line.startswith(beginning) or beginning.startswith(line)


def _add_line(file, result: dict[str, Any]) -> None:
    file.write(json.dumps(result).encode("ascii") + b"\n")
    file.flush()


def _empty(file) -> None:
    file.truncate(0)
    file.seek(0)


def read_jsonl(path: str | os.PathLike) -> Iterator[dict[str, Any]]:
    """The results of a file that `open_jsonl` wrote, one at a time."""
    with open(path, "rb") as file:
        yield from map(json.loads, file)


# ---- Parquet -------------------------------------------------------------------------------------


def _import_pyarrow():
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
    return sorted(path for path in paths if _part_number(path, name) is not None)


def _part_number(path: str, name: str = "") -> int | None:
    match = re.fullmatch(rf"{re.escape(name) or '.*'}-(\d{{6,}})\.parquet", os.path.basename(path))
    return int(match[1]) if match else None


def _read_parts(paths: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """`(file name, is it an error)` of each image; its rows stand together, in one part."""
    pyarrow = _import_pyarrow()
    for path in paths:
        last = None
        with pyarrow.parquet.ParquetFile(path) as part:
            for batch in part.iter_batches(columns=["file_name", "error"]):
                names, errors = (column.to_pylist() for column in batch.columns)
                for name, error in zip(names, errors, strict=True):
                    if name != last:
                        yield name, error is not None
                    last = name


def _drop_lines_of(parts: list[str], file, journal: str) -> None:
    """Empty the journal if its lines are in the last part: a run ended between the two steps."""
    if not parts:
        return
    in_journal = next(_read_lines(file, journal), None)
    if in_journal is not None and in_journal == next(_read_parts(parts), None):
        _empty(file)


def _write_part(journal: str, path: str) -> None:
    """The journal's results as a parquet file, which gets its name when it is complete."""
    pyarrow = _import_pyarrow()
    folder, name = os.path.split(path)
    beside = os.path.join(folder, f"_{name}.part")
    rows = itertools.chain.from_iterable(map(_rows, read_jsonl(journal)))
    schema = _schema(pyarrow)
    with open(beside, "wb") as file:
        with pyarrow.parquet.ParquetWriter(file, schema, compression="zstd") as writer:
            while some := list(itertools.islice(rows, _ROWS_AT_ONCE)):
                writer.write_table(pyarrow.Table.from_pylist(some, schema=schema))
        file.flush()
        os.fsync(file.fileno())  # the journal is emptied next
    os.replace(beside, path)


def _schema(pyarrow):
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
    """A row a detection; what is not there is null."""
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
