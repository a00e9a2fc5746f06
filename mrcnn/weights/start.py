"""Weights to start from: the released COCO weights, ImageNet's, the last run's, or any file."""

from __future__ import annotations

import os
import shutil
import urllib.request
from pathlib import Path
from typing import Any, Protocol

import h5py

from mrcnn.files import written_beside
from mrcnn.types import PathLike
from mrcnn.weights import hdf5
from mrcnn.weights.by_name import LoadReport
from mrcnn.weights.imagenet import cache_folder
from mrcnn.weights.layers import CLASS_LAYERS

COCO_FILE = "mask_rcnn_coco.h5"
COCO_MODEL_URL = "https://github.com/matterport/Mask_RCNN/releases/download/v2.0/mask_rcnn_coco.h5"
# The classes of COCO and the background.
COCO_CLASS_COUNT = 81


class ModelOfRuns(Protocol):
    """The part of a model that `load_start_weights` uses; `MaskRCNN` has it."""

    config: Any

    def get_imagenet_weights(self) -> str: ...

    def find_last(self) -> str: ...

    def load_weights(
        self, filepath: PathLike, by_name: bool = False, exclude: list[str] | None = None
    ) -> LoadReport: ...


def load_start_weights(
    model: ModelOfRuns,
    start: PathLike,
    coco_path: PathLike = COCO_FILE,
    may_learn_classes: bool = False,
) -> LoadReport | None:
    """Load the weights that a command line names with `--weights` or `--model`.

    Args:
        model: a `MaskRCNN`.
        start: "coco", "imagenet", "last" (the last checkpoint of the last run with this NAME),
            "random" (load nothing), or the path of a weight file. Upper case counts as lower case.
        coco_path: path of the COCO weights; they are downloaded if there is no such file. The
            layers that depend on the classes (`CLASS_LAYERS`) are left out if the model has another
            number of classes than COCO.
        may_learn_classes: leave them out for a file of another number of classes too, because the
            model is to be trained. False: such a file is an error.

    Returns:
        The report of `load_weights`; None for "random".

    Raises:
        FileNotFoundError: there is no such file, or no checkpoint of a run.
        OSError: a download failed; the message says which file to put where.
        ValueError: the file does not fit the model, see `load_weights`.
    """
    exclude = None
    name = os.fspath(start).lower()
    if name == "random":
        return None
    if name == "coco":
        path = os.fspath(coco_path)
        if not os.path.exists(path):
            download_trained_weights(path)
        exclude = _left_out("COCO", COCO_CLASS_COUNT, model.config.NUM_CLASSES)
    elif name == "imagenet":
        path = model.get_imagenet_weights()
    elif name == "last":
        path = model.find_last()
    else:
        path = os.fspath(start)
        if may_learn_classes and os.path.isfile(path):
            exclude = _left_out(path, _class_count(path), model.config.NUM_CLASSES)
    print("Loading weights", path)
    return model.load_weights(path, by_name=True, exclude=exclude)


def _left_out(origin: str, stored: int | None, wanted: int) -> list[str] | None:
    """The layers that must be learned anew, and a line about them; None if there are none."""
    if stored is None or stored == wanted:
        return None
    print(
        f"Left out, because {origin} has {stored} classes and the data {wanted}: "
        f"{', '.join(CLASS_LAYERS)}"
    )
    return list(CLASS_LAYERS)


def _class_count(path: PathLike) -> int | None:
    """The number of classes of a weight file; None for one without heads."""
    if not h5py.is_hdf5(path):
        return None  # `load_weights` says what it is, or reads its backbone
    with hdf5.open_weights(path) as root:
        stored = hdf5.read_layers(root, ()).get("mrcnn_class_logits")
        return int(stored[0].shape[-1]) if stored and stored[0].shape else None


def coco_weights_path() -> str:
    """Where the released COCO weights are, or where a download puts them.

    That is the current folder if they are there, else the folder of Keras' own downloads.
    """
    if os.path.isfile(COCO_FILE):
        return COCO_FILE
    return os.path.join(cache_folder(), COCO_FILE)


def download_trained_weights(coco_model_path: PathLike, verbose: int = 1) -> None:
    """Download the weights trained on COCO that the original's authors released.

    Args:
        coco_model_path: path to write the file to.
        verbose: print this path.

    Raises:
        OSError: the download failed; the message says which file to put where.
    """
    path = Path(coco_model_path).absolute()
    if verbose:
        print(f"Downloading the COCO weights to {path} ...")
    try:
        with (
            urllib.request.urlopen(COCO_MODEL_URL) as response,
            written_beside(path) as temporary,
            temporary.open("wb") as file,
        ):
            shutil.copyfileobj(response, file)
            expected = response.headers.get("Content-Length")
            if expected is not None and file.tell() != int(expected):
                raise OSError(f"{file.tell()} of {expected} bytes arrived")
    except OSError as error:
        raise OSError(
            f"{COCO_MODEL_URL} could not be downloaded ({error}); fetch it elsewhere and put it "
            f"at {path}."
        ) from error
