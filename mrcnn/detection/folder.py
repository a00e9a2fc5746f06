"""Detection over a folder of any size: images are read ahead, results are written one by one.

    with open_jsonl("found.jsonl", run_settings(config, "photos", "leaf.h5", classes)) as store:
        detect_folder(model, "photos", store, classes)

While the network works on a batch, threads read and mold the images of the next batches, and one
thread makes the results of the last batch. Memory does not grow with the number of images, except
by 16 bytes for each image that an earlier run did.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from mrcnn.config import Config
from mrcnn.data.dataset import read_image
from mrcnn.detection import detector
from mrcnn.detection.image_names import IMAGE_ENDINGS as IMAGE_ENDINGS
from mrcnn.detection.image_names import as_text, check_folder, image_names, in_shard
from mrcnn.detection.molding import mold_inputs, unmold_rle
from mrcnn.detection.pictures import Picture
from mrcnn.detection.progress import progress_line
from mrcnn.detection.result_files import Store
from mrcnn.detection.threads import count_threads, map_ahead
from mrcnn.evaluation.coco_results import coco_results
from mrcnn.types import PathLike

if TYPE_CHECKING:  # `mask_rcnn` is above this file in the reading order
    from mrcnn.mask_rcnn import MaskRCNN

logger = logging.getLogger("mrcnn")

# Number of batches of molded images that may wait for others of their shape.
_WAITING_BATCHES = 4

# Category id and name of the classes 1 to K.
Classes = Sequence[tuple[int, str]]
Result = TypeVar("Result")


class Counts(NamedTuple):
    """What one call of `detect_folder` did: images, failed images among them, and detections."""

    images: int
    failures: int
    detections: int


def detect_folder(
    model: MaskRCNN,
    folder: PathLike,
    store: Store,
    classes: Classes,
    *,
    recursive: bool = False,
    shard: tuple[int, int] = (0, 1),
    limit: int | None = None,
    read: Callable[[str], np.ndarray] = read_image,
) -> Counts:
    """Detect in those images of a folder that have no result yet, and write the results.

    Args:
        model: a `MaskRCNN` in inference mode.
        folder: folder of images.
        store: from `open_jsonl` or `open_parquet`.
        classes: category id and name of the classes 1 to K.
        recursive: also look into the folders inside, but not into links to folders.
        shard: `(index, count)`: do part `index` of `count` disjoint parts. An image stays in its
            part when others are added or removed.
        limit: largest number of images to do.
        read: function from a path to an image; its OSErrors and ValueErrors become the result of
            the image.

    Raises:
        ValueError: the shard does not exist, the Config cannot detect, or the number of classes is
            not the network's.
        FileNotFoundError, NotADirectoryError: as `check_folder`.
    """
    check_detection(model.config, classes, shard, limit)
    check_folder(folder, recursive)
    total = _count_left(folder, store, recursive, shard)
    total = total if limit is None else min(total, limit)
    names = (n for n in image_names(folder, recursive) if _is_ours(n, store, shard))
    # A file that appears after the count is left for the next run.
    names_to_do = itertools.islice(names, total)
    say, counts = progress_line(total), Counts(0, 0, 0)
    pictures = (_picture(folder, name, read, model.config) for name in names_to_do)
    for result in detect_pictures(model, pictures, classes):
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


def check_detection(
    config: Config, classes: Classes, shard: tuple[int, int] = (0, 1), limit: int | None = None
) -> None:
    """Check the arguments before the first image is read."""
    index, count = shard
    if not 0 <= index < count:
        raise ValueError(f"shard is {index}/{count}; of 3 shards there are 0/3, 1/3 and 2/3.")
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; it must be 1 or more.")
    if len(classes) != config.NUM_CLASSES - 1:
        raise ValueError(
            f"there are {len(classes)} classes, and NUM_CLASSES is {config.NUM_CLASSES}: "
            f"{config.NUM_CLASSES - 1} and the background; give one name per class."
        )
    if config.IMAGE_RESIZE_MODE == "crop":
        raise ValueError(
            "IMAGE_RESIZE_MODE is 'crop', which is for training; build the model with "
            "config.for_detection(), which shows it whole images."
        )
    mold_inputs([np.zeros((64, 64, config.IMAGE_CHANNEL_COUNT), np.uint8)], config)


def _picture(
    folder: PathLike, name: str, read: Callable[[str], np.ndarray], config: Config
) -> Picture:
    """An image of a folder."""
    if read is read_image:
        read = functools.partial(read_image, value_range=config.IMAGE_VALUE_RANGE)
    return Picture(as_text(name), functools.partial(read, os.path.join(folder, name)))


def _count_left(folder: PathLike, store: Store, recursive: bool, shard: tuple[int, int]) -> int:
    images = left = 0
    for name in image_names(folder, recursive):
        images += 1
        left += _is_ours(name, store, shard)
    print(f"{images} images in {os.fspath(folder)}, {store.done} done before, {left} to do here")
    return left


def _is_ours(name: str, store: Store, shard: tuple[int, int]) -> bool:
    name = as_text(name)
    return in_shard(name, *shard) and not store.is_done(name)


# ---- Images, batches, results --------------------------------------------------------------------


class _Molded(NamedTuple):
    """An image that is ready for the network."""

    name: str
    shape: tuple[int, ...]  # as it was read
    image: np.ndarray
    meta: np.ndarray
    window: np.ndarray


class _Unreadable(NamedTuple):
    """An image that could not be read or molded, and why."""

    name: str
    error: str


def detect_pictures(
    model: MaskRCNN, pictures: Iterable[Picture], classes: Classes
) -> Iterator[dict[str, Any]]:
    """The result of each picture, in the form of `result_files`, roughly in their order.

    Args:
        model, classes: as in `detect_folder`.
        pictures: taken one by one, a few ahead; several threads read them.
    """
    size, threads = model.config.BATCH_SIZE, count_threads()

    def load(picture: Picture) -> _Molded | _Unreadable:
        return _load(picture, model.config)

    images = map_ahead(load, pictures, threads, ahead=size + threads)
    batches = detector.batches_of_one_shape(images, size, _shape, most=_WAITING_BATCHES * size)
    steps = (_run_network(model, batch, classes) for batch in batches)
    for results in map_ahead(_call, steps, threads=1, ahead=1):
        yield from results


def _load(picture: Picture, config: Config) -> _Molded | _Unreadable:
    try:
        image = picture.read()
        (molded,), (meta,), (window,) = mold_inputs([image], config)
    except (OSError, ValueError) as error:
        return _Unreadable(picture.name, as_text(str(error)))
    return _Molded(picture.name, np.shape(image), molded, meta, window)


def _shape(image: _Molded | _Unreadable) -> tuple[int, ...] | None:
    return image.image.shape if isinstance(image, _Molded) else None


def _run_network(
    model: MaskRCNN, batch: Sequence[_Molded | _Unreadable], classes: Classes
) -> Callable[[], list[dict[str, Any]]]:
    """Run the network on a batch of one shape; returns a function that makes the results."""
    molded = [image for image in batch if isinstance(image, _Molded)]
    if not molded:
        unreadable = [image for image in batch if isinstance(image, _Unreadable)]
        return functools.partial(_error_results, unreadable)
    images, metas = [image.image for image in molded], [image.meta for image in molded]
    anchors = model.get_anchors(images[0].shape)
    outputs = detector.predict(model.keras_model, anchors, images, metas)
    return functools.partial(_results, molded, outputs, classes)


def _call(function: Callable[[], Result]) -> Result:
    return function()


def _error_results(images: Sequence[_Unreadable]) -> list[dict[str, Any]]:
    return [{"file_name": image.name, "error": image.error} for image in images]


def _results(
    images: Sequence[_Molded], outputs: tuple[np.ndarray, np.ndarray], classes: Classes
) -> list[dict[str, Any]]:
    found = detector.unmold_batch(
        outputs,
        [image.shape for image in images],
        images[0].image.shape,
        [image.window for image in images],
        unmold_rle,
    )
    return [
        {
            "file_name": image.name,
            "width": image.shape[1],
            "height": image.shape[0],
            "detections": [_named(one, classes) for one in coco_results(image.name, detections)],
        }
        for image, detections in zip(images, found, strict=True)
    ]


def _named(result: dict[str, Any], classes: Classes) -> dict[str, Any]:
    """One dict of `coco_results` with its category's id and name, and rounded numbers."""
    category_id, category_name = classes[result["category_id"] - 1]
    return {
        "category_id": category_id,
        "category_name": category_name,
        "score": round(result["score"], 6),
        "bbox": [int(side) for side in result["bbox"]],
        "segmentation": result["segmentation"],
    }


# ---- Settings ------------------------------------------------------------------------------------


def run_settings(
    config: Config, folder: PathLike, weights: PathLike, classes: Classes
) -> dict[str, str]:
    """The settings that results depend on: folder, digest of the weights, classes and Config.

    Raises:
        OSError: the weight file cannot be read.
    """
    sizes = ("GPU_COUNT", "IMAGES_PER_GPU", "BATCH_SIZE")
    values = {name: getattr(config, name) for name in config.names() if name not in sizes}
    return {
        "folder": os.path.realpath(folder),
        "weights": f"SHA-256 {_sha256(weights)}",
        "classes": ", ".join(f"{number} {name}" for number, name in classes),
        # The repr of a function contains its address, which differs from run to run.
        **{name: getattr(value, "__qualname__", str(value)) for name, value in values.items()},
    }


def _sha256(path: PathLike) -> str:
    total = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()
