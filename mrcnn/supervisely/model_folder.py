"""The folder that each epoch leaves: all that inference, or further training, needs.

config.json               the training configuration, the classes and their ids, the Config
model_weights/model.h5    the weights
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from mrcnn.config import Config
from mrcnn.files import folder_beside, read_json, write_text
from mrcnn.messages import listed
from mrcnn.training.trained import open_trained
from mrcnn.types import PathLike

CONFIG, WEIGHTS = "config.json", os.path.join("model_weights", "model.h5")
# Which epoch of a run is the best.
BEST = "best.json"


class Saves(Protocol):
    """A model that writes its weights; `MaskRCNN.keras_model` does."""

    def save_weights(self, filepath: PathLike) -> None: ...


class ModelFolder(NamedTuple):
    """A trained network with its classes.

    Attributes:
        weights: path of the weight file.
        config: the settings that it was trained with.
        titles: the classes 1 to K.
        settings: the training configuration.
    """

    weights: str
    config: Config
    titles: list[str]
    settings: dict[str, Any]


def write_model_folder(
    folder: PathLike,
    model: Saves,
    config: Config,
    settings: dict[str, Any],
    classes: Sequence[dict[str, Any]],
) -> None:
    """Write the folder; it gets its name when it is complete.

    Args:
        folder: a new folder.
        model: has the weights.
        config: the network's settings; its CLASS_NAMES are the titles of the classes 1 to K.
        settings: the training configuration.
        classes: the classes as `meta.json` describes them.
    """
    titles = [settings["special_classes"]["background"], *(config.CLASS_NAMES or ())]
    content = {
        "settings": settings,
        "classes": list(classes),
        "class_title_to_idx": {title: number for number, title in enumerate(titles)},
        "mask_rcnn_config": config.json_values(),
    }
    with folder_beside(folder) as temporary:
        (temporary / WEIGHTS).parent.mkdir(parents=True)
        model.save_weights(str(temporary / WEIGHTS))
        write_text(temporary / CONFIG, json.dumps(content, ensure_ascii=False, indent=2) + "\n")


def open_model_folder(place: PathLike, base: type[Config] = Config) -> ModelFolder:
    """Find weights, settings and classes; no weight is read.

    Args:
        place: an epoch's folder, its `model.h5`, or the folder of all epochs, whose best is taken;
            or what `open_trained` opens, such as a run of `mrcnn train`.
        base: the Config class that the settings belong to.

    Raises:
        FileNotFoundError: there is no such folder, or a file of it is missing.
        ValueError: `config.json` is not that of an epoch's folder.
    """
    folder = _folder_of(Path(place))
    path = folder / CONFIG
    if not path.is_file() or not (folder / WEIGHTS).is_file():
        return _of_a_run(place, base)
    content = read_json(path)
    numbers = content.get("class_title_to_idx") if isinstance(content, dict) else None
    if not isinstance(numbers, dict) or sorted(numbers.values(), key=str) != sorted(
        range(len(numbers)), key=str
    ):
        raise ValueError(
            f"{path} has no class_title_to_idx, an object that gives the classes and the "
            "background the numbers from 0 on."
        )
    titles = [title for title, number in sorted(numbers.items(), key=lambda one: one[1]) if number]
    values = content.get("mask_rcnn_config")
    if not isinstance(values, dict):
        raise ValueError(f"{path} has no mask_rcnn_config, the settings of the network.")
    config = base()
    config.update({key: value for key, value in values.items() if key in base().names()}, path)
    settings = content.get("settings")
    return ModelFolder(
        str(folder / WEIGHTS), config, titles, settings if isinstance(settings, dict) else {}
    )


def _of_a_run(place: PathLike, base: type[Config]) -> ModelFolder:
    try:
        found = open_trained(place, base=base)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{os.fspath(place)} is no folder of an epoch, which has {CONFIG} and {WEIGHTS}, and "
            "no run of mrcnn train."
        ) from error
    return ModelFolder(found.weights, found.config, found.class_names, {})


def _folder_of(place: Path) -> Path:
    if place.is_file() and place.name == os.path.basename(WEIGHTS):
        return place.parent.parent
    for best in (place / BEST, place / "epochs" / BEST):
        if best.is_file():
            content = read_json(best)
            name = content.get("folder") if isinstance(content, dict) else None
            if not isinstance(name, str) or os.path.basename(name) != name:
                raise ValueError(f"{best} does not name the folder of an epoch beside it.")
            return best.parent / name
    return place


def check_same_titles(found: ModelFolder, titles: Sequence[str]) -> None:
    """Check that the training goes on with the same classes.

    Raises:
        ValueError: it does not; the message names both.
    """
    if found.titles != list(titles):
        raise ValueError(
            "continue_training needs the classes of the model, and it has "
            f"{listed(found.titles, 20)}; the project has {listed(titles, 20)}. With "
            "transfer_learning other classes are trained from the model's features."
        )
