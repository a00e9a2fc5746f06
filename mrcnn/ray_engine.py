"""Detection on a cluster by Ray Data: a pool of actors, each with the network.

    for result in detect_rows(rows, trained, config, workers=8):
        store.add(result)

Ray schedules, moves rows to workers and starts a row again if its worker dies. What is ours: a row
names a file, a page, and a window; an actor reads it and detects; results come back one by one and
go to the same journal as without Ray, which knows each name once. So a driver that is killed goes
on where it was, too.

Ray finds a cluster by the environment variable RAY_ADDRESS; without one it starts workers here.
Files must have the same paths on all machines. https://docs.ray.io/en/latest/data/batch_inference.html
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from mrcnn.config import Config
from mrcnn.data.windowed_images import open_windows, range_of_windows, reader_of_rgb
from mrcnn.detection.folder import Classes, detect_pictures
from mrcnn.detection.pictures import Input, Picture, picture_of_file
from mrcnn.extras import import_extra
from mrcnn.mask_rcnn import MaskRCNN
from mrcnn.tiles import Tiling, window_name
from mrcnn.training.trained import Trained

# Rows that an actor gets at once, as a multiple of its batch: it reads the next images meanwhile.
_BATCHES_AT_ONCE = 4
Box = tuple[int, int, int, int]


class Row(NamedTuple):
    """An image, or a window of one, as it goes to a worker.

    Attributes:
        name: unique, as in `result_files`.
        path: the file. page: of a TIFF with several, counted from 0; None: there is one.
        box: `(y1, x1, y2, x2)` of a window; None: the whole image.
        value_range: as in `read_image`; the same for all windows of an image.
    """

    name: str
    path: str
    page: int | None = None
    box: Box | None = None
    value_range: tuple[float, float] | None = None


def detect_rows(
    rows: Sequence[Row], trained: Trained, config: Config, workers: int | None = None
) -> Iterator[dict[str, Any]]:
    """The result of each row, once, in the order in which they are done.

    Args:
        rows: with different names.
        trained: weights and classes.
        config: settings of detection.
        workers: number of actors; None: one per GPU, else one per two cores.

    Raises:
        ImportError: Ray is not installed. RuntimeError: rows came back without a result.
    """
    ray = import_ray()
    if not rows:
        return
    with _cluster(ray, workers) as (count, gpus):
        ray.data.DataContext.get_current().enable_progress_bars = False
        results = ray.data.from_items([{"row": json.dumps(row)} for row in rows]).map_batches(
            _Actor,
            fn_constructor_kwargs={
                "weights": os.path.abspath(trained.weights),
                "config": config,
                "classes": trained.classes,
            },
            batch_size=_BATCHES_AT_ONCE * config.BATCH_SIZE,
            compute=ray.data.ActorPoolStrategy(size=min(count, len(rows))),
            num_cpus=1,
            num_gpus=1 if gpus else 0,
        )
        left = {row.name for row in rows}
        for found in results.iter_rows():
            result = json.loads(found["result"])
            if result["file_name"] in left:  # a row that was started again may come twice
                left.remove(result["file_name"])
                yield result
    if left:
        raise RuntimeError(
            f"{len(left)} of {len(rows)} rows came back without a result, such as "
            f"{sorted(left)[0]}; start again with the same output to do them."
        )


class _Actor:
    """The network on a worker."""

    def __init__(self, weights: str, config: Config, classes: Classes):
        self._classes = [(int(number), str(name)) for number, name in classes]
        self._model = MaskRCNN("inference", config, os.path.dirname(weights))
        self._model.load_weights(weights)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[str]]:
        pictures = (_picture(_row(text)) for text in batch["row"])
        results = detect_pictures(self._model, pictures, self._classes)
        return {"result": [json.dumps(result) for result in results]}


def _row(text: str) -> Row:
    name, path, page, box, value_range = json.loads(text)
    return Row(name, path, page, box and tuple(box), value_range and tuple(value_range))


def _picture(row: Row) -> Picture:
    if row.box is None:
        return picture_of_file(row.path, row.name, row.value_range, row.page)
    return Picture(row.name, functools.partial(_read_window, row, row.box))


def _read_window(row: Row, box: Box) -> np.ndarray:
    with open_windows(row.path, row.page, row.value_range) as image:
        return reader_of_rgb(image)(box)


def import_ray() -> Any:
    """The library ray, with ray.data.

    Raises:
        ImportError: it is not installed.
    """
    # Its part in C++ writes to standard error, and reads this when it is loaded.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    ray = import_extra("ray", "detection on a cluster is by Ray Data", "ray")
    import ray.data as data

    assert data is ray.data
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return ray


@contextlib.contextmanager
def _cluster(ray: Any, workers: int | None) -> Iterator[tuple[int, int]]:
    """Join the cluster, or start one here; yields the numbers of workers and of GPUs."""
    is_ours = not ray.is_initialized()
    if is_ours:
        cores = os.cpu_count() or 1
        ray.init(
            # A core more than workers, for what Ray itself does.
            num_cpus=None if "RAY_ADDRESS" in os.environ else max(cores, (workers or 0) + 1),
            log_to_driver=False,
            logging_level=logging.ERROR,
            # Workers use the same backend, and find the user's modules, such as a BACKBONE.
            runtime_env={
                "env_vars": {
                    "KERAS_BACKEND": keras.backend.backend(),
                    "PYTHONPATH": os.pathsep.join(_own_paths()),
                }
            },
        )
    try:
        has = ray.cluster_resources()
        gpus = int(has.get("GPU", 0))
        yield workers or gpus or max(1, int(has.get("CPU", 2)) // 2), gpus
    finally:
        if is_ours:
            ray.shutdown()


def _own_paths() -> list[str]:
    """Where the user's modules are found: not those of Python itself, which workers have too."""
    parts = tuple(os.path.abspath(path) for path in (sys.prefix, sys.base_prefix))
    paths = (os.path.abspath(path) for path in sys.path)
    return [path for path in paths if os.path.isdir(path) and not path.startswith(parts)]


def rows_of(files: Iterable[Input], value_range: Sequence[float] | None = None) -> list[Row]:
    """A row per image of files, as `pictures_of` gives them.

    Args:
        files: of `find_inputs`; value_range: as in `read_image`.

    Raises:
        ValueError: a video, whose frames can only be read one after the other.
    """
    white = None if value_range is None else (float(value_range[0]), float(value_range[1]))
    rows = []
    for file in files:
        if file.is_video:
            raise ValueError(
                f"{file.path} is a video, whose frames are read one after the other; detect in it "
                "without --engine ray."
            )
        path = os.path.abspath(file.path)
        if file.pages > 1:
            pages = range(file.pages)
            rows += [Row(f"{file.name}#{page + 1:04d}", path, page, None, white) for page in pages]
        else:
            rows.append(Row(file.name, path, None, None, white))
    return rows


def rows_of_windows(row: Row, tiling: Tiling, done: set[str]) -> list[Row]:
    """A row per window of an image that shows something and is not done.

    Args:
        row: of the whole image. done: names of windows.

    Raises:
        OSError, ValueError: the image cannot be read.
    """
    with open_windows(row.path, row.page, row.value_range) as image:
        left = [
            (name, window.box)
            for window in tiling.windows(image.height, image.width)
            if (name := window_name(row.name, window)) not in done
        ]
        shown = [(name, box) for name, box in left if image.mask is None or image.mask(box).any()]
        # Found once for all windows, which may take a look at all pixels.
        white = range_of_windows(image) if shown else None
    return [row._replace(name=name, box=box, value_range=white) for name, box in shown]
