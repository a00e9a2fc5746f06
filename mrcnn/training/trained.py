"""A trained network on disk: its weights, the settings it was trained with, its class names.

    trained = open_trained("logs/leaf20260101T0000")
    trained = open_trained("leaf.h5", config_file="leaf.json", classes=["healthy", "sick"])
    trained = open_trained("coco")

A run's folder has all three. Beside a weight file, the `config.json` that a run left is taken.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mrcnn.config import Config, class_names_of, read_settings
from mrcnn.messages import listed
from mrcnn.training.run import CONFIG, find_last, find_weights, read_record, runs_in
from mrcnn.types import PathLike
from mrcnn.weights.coco_classes import COCO_CATEGORIES
from mrcnn.weights.start import COCO_CLASS_COUNT, coco_weights_path, download_trained_weights

logger = logging.getLogger("mrcnn")

COCO = "coco"
# Settings that change no number of a training.
_FREE = ("CHECKPOINT_MINUTES", "KEEP_CHECKPOINTS", "NAME")

# Category id and name of the classes 1 to K.
Classes = list[tuple[int, str]]


class ReleasedConfig(Config):
    """The settings of the released COCO weights."""

    NAME = "coco"
    NUM_CLASSES = COCO_CLASS_COUNT


class Trained(NamedTuple):
    """A trained network on disk.

    Attributes:
        weights: path of the weight file.
        config: the settings that it was trained with.
        classes: category id and name of the classes 1 to K.
        remarks: sentences that the user should read: what was taken from where.
    """

    weights: str
    config: Config
    classes: Classes
    remarks: list[str]

    @property
    def class_names(self) -> list[str]:
        """The names of the classes 1 to K."""
        return [name for _, name in self.classes]


def open_trained(
    place: PathLike,
    config_file: PathLike | None = None,
    classes: Sequence[str] | None = None,
    base: type[Config] = ReleasedConfig,
) -> Trained:
    """Find weights, settings and class names; no weight is read.

    Args:
        place: a run's folder, a weight file, or "coco" for the released weights, which are
            downloaded if they are not there.
        config_file: a JSON file of settings, all or only those that differ from `base`. None: the
            `config.json` beside the weights, else `base`.
        classes: class names. None: CLASS_NAMES of the settings, else COCO's if there are as many
            and NAME is "coco", else numbers.
        base: the Config class that the file's settings belong to.

    Raises:
        FileNotFoundError: there is no such file or folder, or no weights in it.
        ValueError: settings that cannot be used, or another number of names than classes.
    """
    weights = weights_at(place)
    remarks = [f"Weights: {weights}"] if os.path.isdir(place) else []
    path = config_file or settings_beside(weights)
    if path is None:
        config = base()
        if classes is not None:
            config.NUM_CLASSES = 1 + len(classes)
    else:
        remarks.append(f"Settings are those of {path}")
        config, unused = read_config(path, base)
        if unused:
            remarks.append(f"{path} has settings that detection does not use: {listed(unused)}")
    if classes is not None:
        return Trained(weights, config, list(enumerate(classes, start=1)), remarks)
    known, remark = classes_of(config)
    return Trained(weights, config, known, [*remarks, *([remark] if remark else [])])


class Begun(NamedTuple):
    """How an earlier training began, for one that goes on.

    Attributes:
        start: what it started from: "coco", "random", a file, ...
        settings: its settings by name; only BACKBONE for weights of another run.
        checkpoint: the checkpoint that the training goes on from, None for another start.
        record: the entries of its `run.json`, the first training first.
    """

    start: str
    settings: dict[str, Any]
    checkpoint: str | None = None
    record: Sequence[dict[str, Any]] = ()


def how_it_began(start: str, model_dir: PathLike, name: str) -> Begun:
    """The start and the settings that `--weights` brings along.

    Args:
        start: as for `load_start_weights`. "last" brings the start and all settings of the last
            run; a weight file the BACKBONE of the run that it lies in; other starts nothing.
        model_dir: folder of all runs; name: NAME.

    Raises:
        FileNotFoundError: "last", and there is no checkpoint.
    """
    is_last = start.lower() == "last"
    path = find_last(model_dir, name) if is_last else start
    beside = settings_beside(path) if os.path.isfile(path) else None
    settings = {} if beside is None else read_settings(beside)
    if not is_last:
        return Begun(start, {key: settings[key] for key in ("BACKBONE",) if key in settings})
    record = read_record(os.path.dirname(path))
    begun = str(record[0].get("weights", start)) if record else start
    return Begun(begun, settings, path, record)


def check_goes_on(
    begun: Begun, classes: Sequence[str], data: Mapping[str, Any], config: Config, is_exact: bool
) -> None:
    """Check that a run is continued with its own classes, data and settings.

    Args:
        begun: what `how_it_began` gave for "last".
        classes: names of the classes 1 to K in the data.
        data: where the data are and how they are split, as the run's `notes` have it.
        config: the settings to go on with.
        is_exact: the curve must go on as if nothing had happened, so all must be equal; otherwise
            other data are a warning, and settings may differ.

    Raises:
        ValueError: something differs; the message names it.
    """
    if begun.checkpoint is None:
        return
    run = os.path.dirname(begun.checkpoint)
    trained = begun.settings.get("CLASS_NAMES")
    if isinstance(trained, list) and list(classes) != trained:
        raise ValueError(
            f"the run in {run} learns the classes {listed(trained, 20)}, and the data have "
            f"{listed(classes, 20)}; --name begins another run, and --weights FILE takes the "
            "weights over."
        )
    last = begun.record[-1] if begun.record else {}
    other = [
        f"{key} was {last[key]} and is {value}"
        for key, value in data.items()
        if key in last and last[key] != value
    ]
    if is_exact:
        values = config.json_values()
        other += [
            f"{name} was {before} and is {values[name]}"
            for name, before in begun.settings.items()
            if name in values and name not in _FREE and values[name] != before
        ]
    if not other:
        return
    text = f"the run in {run} was trained in another way: {listed(other, 10)}"
    if is_exact:
        raise ValueError(
            f"{text}; --resume needs the same, --weights last goes on with the difference, and "
            "--name begins another run."
        )
    logger.warning("%s.", text)


def weights_at(place: PathLike) -> str:
    """The weight file of a run's folder: its best weights, else its last checkpoint.

    Args:
        place: as in `open_trained`; a weight file is returned as it is.

    Raises:
        FileNotFoundError: there is no such file or folder, or no weights in it.
    """
    if os.fspath(place) == COCO:
        path = coco_weights_path()
        if not os.path.exists(path):
            download_trained_weights(path)
        return path
    if os.path.isfile(place):
        return os.fspath(place)
    if not os.path.isdir(place):
        raise FileNotFoundError(
            f"there is no weight file {os.fspath(place)}; give a path, a run's folder, or coco."
        )
    found = find_weights(place)
    if found is not None:
        return found
    runs = runs_in(place)
    newest = f"; the newest run in it is {runs[0]}" if runs else ""
    raise FileNotFoundError(
        f"{os.fspath(place)} has no weights: a run's folder has files like mask_rcnn_<name>_0001.h5"
        f"{newest}."
    )


def settings_beside(weights: PathLike) -> str | None:
    """Path of the `config.json` that a training left beside a weight file; None without one."""
    path = Path(weights).parent / CONFIG
    # Other tools have files of this name too.
    return str(path) if path.is_file() and "NUM_CLASSES" in read_settings(path) else None


def read_config(path: PathLike, base: type[Config]) -> tuple[Config, list[str]]:
    """The configuration of a file, and the names of settings that only the user's Config had.

    The file of a training has nearly all settings, and those that the user's Config class added.
    In a file of differences an unknown name is an error.
    """
    known, values = base().names(), read_settings(path)
    own = [name for name in values if name not in known and name.isupper()]
    if own and 2 * len(values.keys() & set(known)) > len(known):
        base = type("ConfigOfFile", (base,), dict.fromkeys(own))
    else:
        own = []
    return base.from_json(path), own


def classes_of(config: Config) -> tuple[Classes, str | None]:
    """Category id and name of the classes 1 to K of a configuration, and a remark if it has none.

    The names are its CLASS_NAMES; else those of COCO if NAME and NUM_CLASSES are COCO's; else
    numbers.
    """
    names = class_names_of(config)
    if names is not None:
        return list(enumerate(names, start=1)), None
    if config.NAME == COCO and config.NUM_CLASSES == COCO_CLASS_COUNT:
        return list(COCO_CATEGORIES.items()), None
    numbers = [(number, str(number)) for number in range(1, config.NUM_CLASSES)]
    return numbers, "Without --classes the classes are called by their numbers"
