"""Training on a Supervisely project by its training configuration.

    training = prepare_training(read_train_config("train.json"), "lemons")
    model = MaskRCNN("training", training.config, "logs")
    training.load_weights(model, "mask_rcnn_coco.h5")
    training.run(model)

A class's number is its place among the titles in alphabetical order, from 1. An image trains or
validates by its tags; one with both does both, one with neither does nothing.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

from mrcnn.config import Config
from mrcnn.data.dataset import Dataset
from mrcnn.data.formats.supervisely import SuperviselyDataset, read_meta, tag_names
from mrcnn.data.split import part_of
from mrcnn.files import read_json, write_text
from mrcnn.messages import listed
from mrcnn.supervisely.model_folder import (
    BEST,
    check_same_titles,
    open_model_folder,
    write_model_folder,
)
from mrcnn.supervisely.schemas import CONTINUE, Settings
from mrcnn.training.trained import weights_at
from mrcnn.types import PathLike
from mrcnn.weights.layers import CLASS_LAYERS
from mrcnn.weights.start import load_start_weights

if TYPE_CHECKING:  # `mask_rcnn` knows nothing of this room
    from mrcnn.mask_rcnn import MaskRCNN

logger = logging.getLogger("mrcnn")

EPOCHS = "epochs"
_META = "meta.json"


@dataclass
class Training:
    """A training that is prepared.

    Attributes:
        settings: the training configuration.
        config: the network's settings.
        titles: the classes 1 to K.
        classes: the project's classes as `meta.json` describes them.
        train_set, val_set: the images.
    """

    settings: Settings
    config: Config
    titles: list[str]
    classes: list[dict[str, Any]]
    train_set: Dataset
    val_set: Dataset
    say: Callable[[str], None] = field(default=print)

    def load_weights(self, model: MaskRCNN, start: PathLike = "coco") -> None:
        """Load the weights to start from, as `weights_init_type` says.

        Args:
            model: a `MaskRCNN` in training mode.
            start: for `continue_training` an epoch's folder, or the folder of all epochs; for
                `transfer_learning` also a weight file, "coco", "imagenet" or "random".

        Raises:
            ValueError: the weights are of other classes, or do not fit.
            FileNotFoundError: there is no such folder or file.
        """
        if self.settings["weights_init_type"] == CONTINUE:
            found = open_model_folder(start, type(self.config))
            check_same_titles(found, self.titles)
            model.load_weights(found.weights, by_name=True)
            self.say(f"Continuing the training of {found.weights}: all layers are loaded")
            return
        if start in ("random", "imagenet"):
            load_start_weights(model, start)
            has = "random weights" if start == "random" else "ImageNet's weights in the backbone"
            self.say(f"Training begins with {has}")
            return
        path = open_model_folder(start).weights if os.path.isdir(start) else weights_at(start)
        model.load_weights(path, by_name=True, exclude=list(CLASS_LAYERS))
        self.say(
            f"Transfer learning from {os.fspath(start)}: all layers are loaded but those of the "
            f"classes, {', '.join(CLASS_LAYERS)}"
        )

    def run(
        self, model: MaskRCNN, callbacks: Sequence[keras.callbacks.Callback] = (), seed: int = 0
    ) -> Path:
        """Train; returns the folder of the best epoch.

        Args:
            model: a `MaskRCNN` in training mode with this `config`.
            callbacks: further ones; seed: of all that is random.

        Raises:
            FloatingPointError: the loss is NaN.
        """
        folders = EpochFolders(model, self)
        model.train(
            self.train_set,
            self.val_set,
            learning_rate=self.config.LEARNING_RATE,
            epochs=self.settings["epochs"],
            layers=self.settings["train_layers"],
            custom_callbacks=[folders, *callbacks],
            seed=seed,
            verbose=0,
        )
        return folders.best


def prepare_training(
    settings: Settings, project: PathLike, base: type[Config] = Config
) -> Training:
    """Read a project, split its images by tags, and choose the network's settings.

    Args:
        settings: of `read_train_config`.
        project: the project's folder.
        base: the Config class to begin with.

    Raises:
        FileNotFoundError, ValueError: no project, annotations that cannot be used, an empty split,
            or a setting that cannot work.
    """
    background = settings["special_classes"]["background"]
    neutral = settings["special_classes"].get("neutral")
    shapes = read_meta(project)
    if neutral is not None and neutral not in shapes:
        raise ValueError(
            f"special_classes.neutral is {neutral!r}, and {Path(project, _META)} has no such "
            f"class; it has {listed(shapes, 20)}."
        )
    if neutral == background:
        raise ValueError(f"special_classes names {neutral!r} twice; a class has one meaning.")
    titles = sorted(title for title in shapes if title not in (background, neutral))
    if not titles:
        raise ValueError(f"{Path(project, _META)} has no class to train besides the special ones.")
    present = [background] if background in shapes else []
    dataset = SuperviselyDataset()
    dataset.load_supervisely(project, classes=titles, background=present, neutral=neutral)
    dataset.prepare()
    train_set, val_set = (
        _with_tag(dataset, settings["dataset_tags"][part], part, project)
        for part in ("train", "val")
    )
    config = _config(settings, titles, project, base, len(train_set.image_ids))
    config.VALIDATION_STEPS = math.ceil(len(val_set.image_ids) / config.BATCH_SIZE)
    config.validate()
    classes = read_json(Path(project, _META))["classes"]
    return Training(settings, config, titles, classes, train_set, val_set)


def _with_tag(dataset: SuperviselyDataset, tag: str, part: str, project: PathLike) -> Dataset:
    tags_of = [tag_names(info["tags"]) for info in dataset.image_info]
    ids = [i for i in dataset.image_ids if tag in tags_of[i]]
    if not ids:
        tags = {name for names in tags_of for name in names}
        raise ValueError(
            f"no image of {os.fspath(project)} has the tag {tag!r} (dataset_tags.{part}); its "
            f"images have the tags {listed(sorted(tags), 20)}."
        )
    return part_of(dataset, ids)


def _config(
    settings: Settings, titles: list[str], project: PathLike, base: type[Config], images: int
) -> Config:
    config = base()
    config.NAME = re.sub(r"[^\w.-]+", "_", Path(project).resolve().name) or "project"
    config.NUM_CLASSES = 1 + len(titles)
    config.CLASS_NAMES = list(titles)
    size = settings["input_size"]
    if size["max_dim"] % 64:
        raise ValueError(
            f"input_size.max_dim is {size['max_dim']}; the network needs a multiple of 64, such as "
            f"{max(64, round(size['max_dim'] / 64) * 64)}."
        )
    if size["min_dim"] > size["max_dim"]:
        raise ValueError(
            f"input_size.min_dim is {size['min_dim']} and max_dim {size['max_dim']}; min_dim must "
            "not be larger."
        )
    config.IMAGE_MIN_DIM, config.IMAGE_MAX_DIM = size["min_dim"], size["max_dim"]
    config.GPU_COUNT = len(settings["gpu_devices"])
    config.IMAGES_PER_GPU = settings["batch_size"]["train"]
    config.STEPS_PER_EPOCH = math.ceil(images / config.BATCH_SIZE)
    config.LEARNING_RATE = settings["lr"]
    config.USE_NEUTRAL_PIXELS = "neutral" in settings["special_classes"]
    config.DTYPE_POLICY = "auto"
    # Images without objects are part of a project.
    config.TRAIN_EMPTY_IMAGES = True
    # The epochs' folders are what is kept.
    config.KEEP_CHECKPOINTS = 1
    return config


class EpochFolders(keras.callbacks.Callback):
    """Writes a folder that is complete in itself after each epoch, and notes the best.

    Args:
        model: a `MaskRCNN`; training: what is trained.
    """

    def __init__(self, model: MaskRCNN, training: Training):
        super().__init__()
        self._mask_rcnn, self._training = model, training
        self._lowest = math.inf

    @property
    def folder(self) -> Path:
        """The folder of all epochs."""
        return Path(self._mask_rcnn.log_dir, EPOCHS)

    @property
    def best(self) -> Path:
        """The folder of the epoch with the lowest validation loss."""
        return self.folder / str(read_json(self.folder / BEST)["folder"])

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Remember the best epoch of a run that goes on."""
        if (self.folder / BEST).is_file():
            self._lowest = float(read_json(self.folder / BEST)["val_loss"])

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write the epoch's folder."""
        training = self._training
        name = f"{epoch + 1:04d}"
        # An epoch that is trained again, after its run was taken up at an earlier one.
        shutil.rmtree(self.folder / name, ignore_errors=True)
        write_model_folder(
            self.folder / name,
            self._mask_rcnn.keras_model,
            training.config,
            training.settings,
            training.classes,
        )
        loss = float((logs or {})["val_loss"])
        if loss < self._lowest or not (self.folder / BEST).is_file():
            self._lowest = loss
            content = {"epoch": epoch + 1, "folder": name, "val_loss": loss}
            write_text(self.folder / BEST, json.dumps(content, indent=2) + "\n")
