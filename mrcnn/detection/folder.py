"""Detection over a folder of any size: names as a stream, images read ahead, results one by one.

    with open_jsonl("found.jsonl", run_settings(config, "photos", "leaf.h5", classes)) as store:
        detect_folder(model, "photos", store, classes)

While the network works on a batch, threads read and mold the images of the next ones, and another
makes results of the last one. Of a folder of a million images nothing is kept but 16 bytes for each
one that an earlier run did.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from mrcnn.config import Config
from mrcnn.data.dataset import read_image
from mrcnn.detection import detector
from mrcnn.detection.molding import mold_inputs, unmold_rle
from mrcnn.detection.result_files import Store, digest

logger = logging.getLogger("mrcnn")

IMAGE_ENDINGS = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
# Molded images that wait for others of their shape, in batches.
_WAITING_BATCHES = 4
_MOST_THREADS = 16


class Counts(NamedTuple):
    """What one call of `detect_folder` did: images, failures among them, and detections."""

    images: int
    failures: int
    detections: int


def detect_folder(
    model,
    folder: str | os.PathLike,
    store: Store,
    classes: Sequence[tuple[int, str]],
    *,
    recursive: bool = False,
    shard: tuple[int, int] = (0, 1),
    limit: int | None = None,
    read: Callable[[str], np.ndarray] = read_image,
) -> Counts:
    """Detect in the images of a folder that have no result yet, and write the results.

    Args:
        model: a `MaskRCNN` in inference mode.
        store: from `open_jsonl` or `open_parquet`.
        classes: category id and name of the classes 1 to K.
        recursive: look into folders inside, though not into links to folders.
        shard: `(index, count)`: do one of `count` disjoint parts, the same whatever else is there.
        limit: do no more than so many images.
        read: makes an image of a path; what it raises as OSError or ValueError becomes the image's
            result.

    Raises:
        ValueError: a shard that does not exist, a Config that cannot detect, or another number of
            classes than the network's.
        FileNotFoundError: no images there.
    """
    _check(model.config, classes, shard, limit)
    total = _count_left(folder, store, recursive, shard)
    total = total if limit is None else min(total, limit)
    names = (n for n in image_names(folder, recursive) if _is_ours(n, store, shard))
    # A file that appeared since they were counted waits for the next run.
    names = (name for name, _ in zip(names, range(total), strict=False))
    say, counts = progress_line(total), Counts(0, 0, 0)
    for result in detect_names(model, folder, names, classes, read):
        store.add(result)
        if "error" in result:
            logger.warning("%s", result["error"])
        counts = Counts(
            counts.images + 1,
            counts.failures + ("error" in result),
            counts.detections + len(result.get("detections", ())),
        )
        say(counts.images)
    return counts


def _check(config: Config, classes, shard, limit) -> None:
    index, count = shard
    if not 0 <= index < count:
        raise ValueError(f"shard is {index}/{count}; of 3 shards there are 0/3, 1/3 and 2/3.")
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; it must be 1 or more.")
    if len(classes) != config.NUM_CLASSES - 1:
        raise ValueError(
            f"there are {len(classes)} classes, and NUM_CLASSES is {config.NUM_CLASSES}: "
            f"{config.NUM_CLASSES - 1} and the background; give one name a class."
        )
    # What no image could change is an error before the first, and not the result of each.
    mold_inputs([np.zeros((64, 64, config.IMAGE_CHANNEL_COUNT), np.uint8)], config)


def _count_left(folder, store: Store, recursive: bool, shard) -> int:
    images = left = 0
    for name in image_names(folder, recursive):
        images += 1
        left += _is_ours(name, store, shard)
    if not images:
        deeper = "" if recursive else "; recursive looks into the folders in it"
        raise FileNotFoundError(
            f"there are no images ({', '.join(IMAGE_ENDINGS)}) in {os.fspath(folder)}{deeper}."
        )
    print(f"{images} images in {os.fspath(folder)}, {store.done} done before, {left} to do here")
    return left


def _is_ours(name: str, store: Store, shard: tuple[int, int]) -> bool:
    name = as_text(name)
    return in_shard(name, *shard) and not store.is_done(name)


# ---- Names ---------------------------------------------------------------------------------------


def image_names(folder: str | os.PathLike, recursive: bool = False) -> Iterator[str]:
    """Names of a folder's images, relative to it, in no order but without a list of them.

    Raises:
        OSError: a folder that cannot be listed.
    """
    folders = [""]
    while folders:
        inside = folders.pop()
        with os.scandir(os.path.join(folder, inside)) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.extend([f"{inside}{entry.name}/"] * recursive)
                elif entry.name.lower().endswith(IMAGE_ENDINGS):
                    yield inside + entry.name
                elif recursive and entry.is_symlink() and entry.is_dir():
                    logger.warning("%s is a link to a folder and is left out", entry.path)


def in_shard(name: str, index: int, count: int) -> bool:
    """Is a name in this one of `count` parts? A name stays in its part when others come or go."""
    return int.from_bytes(digest(name)[:8], "little") % count == index


def as_text(name: str) -> str:
    r"""A file name as results have it: bytes that are no UTF-8 are written out, `caf\xe9.jpg`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


# ---- Images, batches, results --------------------------------------------------------------------


class _Image(NamedTuple):
    """An image on its way: as it was molded, or why it was not."""

    name: str
    shape: tuple = ()  # as it was read
    molded: np.ndarray | None = None
    meta: np.ndarray | None = None
    window: tuple = ()
    error: str | None = None

    @property
    def molded_shape(self) -> tuple | None:
        return None if self.molded is None else self.molded.shape


def detect_names(
    model,
    folder: str | os.PathLike,
    names: Iterable[str],
    classes: Sequence[tuple[int, str]],
    read: Callable[[str], np.ndarray] = read_image,
) -> Iterator[dict[str, Any]]:
    """The result of each image, as `result_files` writes it; in about the order of the names.

    Args:
        as for `detect_folder`; names: relative to the folder.
    """
    size, threads = model.config.BATCH_SIZE, _count_threads()

    def load(name: str) -> _Image:
        return _load(os.path.join(folder, name), as_text(name), model.config, read)

    def results(answer) -> list[dict]:
        return list(_results(*answer, classes))

    images = map_ahead(load, names, threads, ahead=size + threads)
    batches = detector.batches_of_one_shape(
        images, size, lambda image: image.molded_shape, most=_WAITING_BATCHES * size
    )
    answers = ((batch, _predict(model, batch)) for batch in batches)
    for of_batch in map_ahead(results, answers, threads=1, ahead=1):
        yield from of_batch


def map_ahead(function: Callable, items: Iterable, threads: int, ahead: int) -> Iterator:
    """`map(function, items)` in threads, at most `ahead` results before they are asked for."""
    pool = ThreadPoolExecutor(threads)
    waiting: deque = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _load(path: str, name: str, config: Config, read) -> _Image:
    try:
        image = read(path)
        (molded,), (meta,), (window,) = mold_inputs([image], config)
    except (OSError, ValueError) as error:
        return _Image(name, error=as_text(str(error)))
    return _Image(name, np.shape(image), molded, meta, window)


def _predict(model, batch: Sequence[_Image]) -> tuple | None:
    """Detections and their masks; None for an image that was not read."""
    shape = batch[0].molded_shape
    if shape is None:
        return None
    molded, metas = np.stack([image.molded for image in batch]), [image.meta for image in batch]
    return detector.predict(model.keras_model, model.get_anchors(shape), molded, metas)


def _results(batch: Sequence[_Image], outputs: tuple | None, classes) -> Iterator[dict[str, Any]]:
    if outputs is None:
        yield from ({"file_name": image.name, "error": image.error} for image in batch)
        return
    shapes, windows = [image.shape for image in batch], [image.window for image in batch]
    found = detector.unmold_batch(outputs, shapes, batch[0].molded_shape, windows, unmold_rle)
    for image, detection in zip(batch, found, strict=True):
        height, width = image.shape[:2]
        yield {
            "file_name": image.name,
            "width": width,
            "height": height,
            "detections": _as_coco(detection, classes),
        }


def _as_coco(detection: dict, classes: Sequence[tuple[int, str]]) -> list[dict[str, Any]]:
    """One image's detections, of `detect` with run lengths for masks."""
    found = zip(*(detection[k] for k in ("rois", "class_ids", "scores", "masks")), strict=True)
    return [
        {
            "category_id": classes[class_id - 1][0],
            "category_name": classes[class_id - 1][1],
            "score": round(float(score), 6),
            "bbox": [int(x1), int(y1), int(x2 - x1), int(y2 - y1)],
            "segmentation": rle,
        }
        for (y1, x1, y2, x2), class_id, score, rle in found
    ]


def _count_threads() -> int:
    """As many as this process may use cores."""
    mine = getattr(os, "sched_getaffinity", None)
    return min(len(mine(0)) if mine else os.cpu_count() or 1, _MOST_THREADS)


# ---- What a run says -----------------------------------------------------------------------------


def run_settings(
    config: Config,
    folder: str | os.PathLike,
    weights: str | os.PathLike,
    classes: Sequence[tuple[int, str]],
) -> dict[str, str]:
    """What results depend on, in words: the folder, the weights' digest, classes, the Config.

    Raises:
        OSError: no such file of weights.
    """
    sizes = ("GPU_COUNT", "IMAGES_PER_GPU", "BATCH_SIZE")
    values = {name: getattr(config, name) for name in config.names() if name not in sizes}
    return {
        "folder": os.path.realpath(folder),
        "weights": f"SHA-256 {_sha256(weights)}",
        "classes": ", ".join(f"{number} {name}" for number, name in classes),
        # A function's own text would have its address in it.
        **{name: getattr(value, "__qualname__", str(value)) for name, value in values.items()},
    }


def _sha256(path: str | os.PathLike) -> str:
    total = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()


def progress_line(total: int) -> Callable[[int], None]:
    """Function that says how many are done, how fast, and what is left; not more often than needed.

    On a terminal a line that is written over each second, else a line a minute. The speed leaves
    out what came before the first call, when the network is made.
    """
    on_terminal = sys.stdout.isatty()
    every = 1 if on_terminal else 60
    first, said = None, time.monotonic()

    def say(done: int) -> None:
        nonlocal first, said
        now = time.monotonic()
        first = first or (done, now)
        if done < total and now - said < every:
            return
        said = now
        speed = (done - first[0]) / max(now - first[1], 1e-9)
        left = total - done
        text = f"{done} of {total} images, {speed:.1f} images/s, {left} left"
        if left and speed:
            text += f", {_duration(left / speed)}"
        end = "" if on_terminal and left else "\n"
        print(f"\r{text:<70}" if on_terminal else text, end=end, flush=True)

    return say


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
