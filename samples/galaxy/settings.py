"""Settings of a run: the keys of its JSON file, their allowed values, and the Config they make.

README.md, beside this file, explains each key.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mrcnn.config import DTYPE_POLICIES, OPTIMIZERS, Config, is_number, read_settings
from mrcnn.messages import did_you_mean
from mrcnn.types import PathLike
from samples.galaxy import markings, synthesize

# Blocks of a backbone in the order in which `trainable_layers` unfreezes them, and their layers.
RESNET_BLOCKS = {
    "layer4": r"(res|bn)5.*",
    "layer3": r"(res|bn)4.*",
    "layer2": r"(res|bn)3.*",
    "layer1": r"(res|bn)2.*",
    "conv1": r"conv1|bn_conv1",
}
SMALL_BLOCKS = {f"stage{number}": rf"stage{number}_.*" for number in (5, 4, 3, 2, 1)}
BACKBONES = {
    "resnet50_v1_5": RESNET_BLOCKS,
    "resnet101_v1_5": RESNET_BLOCKS,
    "resnet50": RESNET_BLOCKS,
    "resnet101": RESNET_BLOCKS,
    "small": SMALL_BLOCKS,
}
# Values of the key `made_up` that a file leaves out.
MADE_UP = {"count": 400, "size": synthesize.SIZE, "seed": 0, "volunteers": 15}


@dataclass
class Settings:
    """The keys of the JSON file and their default values; README.md explains them."""

    model_name: str = "galaxy"
    model_type: str | None = None
    description: str | None = None
    trainable_layers: int = 0
    log_dir: str = "./models/galaxy/"
    pretrained_ckpt: str | None = None
    data_table: str = "./data/mask_labels.gzip"
    image_dir: str = "./data/"
    batch_size: int = 16
    num_classes: int = 1 + len(markings.CLASSES)
    epochs: int = 150
    channels: int = 3
    bands: list | None = None
    k_folds: int = 0
    image_mean: list = field(default_factory=lambda: [0.485, 0.456, 0.406])
    image_std: list = field(default_factory=lambda: [0.229, 0.224, 0.225])
    validation_split: float = 0.2
    test_split: float = 0.0
    final_model_ckpt: str | None = None

    class_names: list = field(default_factory=lambda: list(markings.CLASSES))
    backbone: str = "resnet50_v1_5"
    optimizer: str = "adamw"
    learning_rate: float = 1e-4
    weight_decay: float = 5e-5
    precision: str = "float32"
    seed: int = 0
    min_score: float = 0.5
    markings: str | None = None
    min_votes: int = 5
    min_area: int = 60
    one_instance_classes: list = field(default_factory=lambda: list(markings.ONE_INSTANCE_CLASSES))
    made_up: dict | None = None
    settings: dict = field(default_factory=dict)


KEYS = [key.name for key in dataclasses.fields(Settings)]
# Settings of mrcnn's Config and the keys that give them.
GIVEN_BY = {
    "NAME": "model_name",
    "BACKBONE": "backbone",
    "COMPUTE_BACKBONE_SHAPE": "backbone",
    "IMAGES_PER_GPU": "batch_size",
    "NUM_CLASSES": "num_classes",
    "IMAGE_CHANNEL_COUNT": "channels",
    "MEAN_PIXEL": "image_mean",
    "PIXEL_STD": "image_std",
    "OPTIMIZER": "optimizer",
    "LEARNING_RATE": "learning_rate",
    "DECOUPLED_WEIGHT_DECAY": "weight_decay",
    "DTYPE_POLICY": "precision",
}


def load_settings(path: PathLike) -> Settings:
    """The settings of a JSON file; `//` comments are allowed.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not JSON, has an unknown key, or a value that cannot be used; the message
            has the file's name and what would do.
    """
    values = read_settings(path)
    for key in values:
        if key not in KEYS:
            raise ValueError(f"{path}: unknown key {key!r}.{did_you_mean(key, KEYS)}")
    made_up = values.get("made_up")
    if isinstance(made_up, dict):
        values["made_up"] = {**MADE_UP, **made_up}
    settings = Settings(**values)
    for key, wanted, is_fine in _rules(settings):
        if not is_fine:
            raise ValueError(f"{path}: {key} is {getattr(settings, key)!r}; it must be {wanted}.")
    _check_config_names(path, settings)
    return settings


def _rules(s: Settings) -> Iterator[tuple[str, str, bool]]:
    """Key, what it must be, and whether it is; a rule may rely on the rules before it."""
    for key in ("model_name", "log_dir", "data_table", "image_dir"):
        yield key, "text", isinstance(getattr(s, key), str) and bool(getattr(s, key))
    for key in ("model_type", "description", "pretrained_ckpt", "final_model_ckpt", "markings"):
        yield key, "text or null", isinstance(getattr(s, key), (str, type(None)))
    for key, least in (("batch_size", 1), ("epochs", 1), ("channels", 1), ("num_classes", 2)):
        yield key, f"a whole number from {least}", _is_whole(getattr(s, key), least)
    for key, least in (("k_folds", 0), ("seed", 0), ("min_votes", 1), ("min_area", 1)):
        yield key, f"a whole number from {least}", _is_whole(getattr(s, key), least)
    layers = f"from 0 to {len(RESNET_BLOCKS)}, the blocks that train, from the top"
    yield (
        "trainable_layers",
        layers,
        _is_whole(s.trainable_layers, 0) and s.trainable_layers <= len(RESNET_BLOCKS),
    )
    for key, known in (
        ("backbone", BACKBONES),
        ("optimizer", OPTIMIZERS),
        ("precision", DTYPE_POLICIES),
    ):
        yield key, f"one of {', '.join(known)}", getattr(s, key) in tuple(known)
    for key in ("learning_rate", "weight_decay"):
        yield key, "a number from 0", is_number(getattr(s, key)) and getattr(s, key) >= 0
    for key in ("validation_split", "test_split", "min_score"):
        value = getattr(s, key)
        yield key, "from 0 to below 1", is_number(value) and 0 <= value < 1
    yield (
        "test_split",
        f"so small that objects to train on are left beside validation_split {s.validation_split}",
        s.validation_split + s.test_split < 1,
    )
    for key in ("image_mean", "image_std"):
        value = getattr(s, key)
        is_fine = isinstance(value, list) and len(value) == s.channels
        is_fine = is_fine and all(is_number(v) and 0 <= v <= 1 for v in value)
        is_fine = is_fine and (key == "image_mean" or min(value) > 0)
        yield key, f"a list of {s.channels} numbers (channels), for images of 0..1", is_fine
    is_fine = s.bands is None or (
        isinstance(s.bands, list)
        and len(s.bands) == s.channels
        and all(_is_whole(band, 0) for band in s.bands)
    )
    yield "bands", f"null, or a list of {s.channels} (channels) channels of the pictures", is_fine
    is_fine = isinstance(s.class_names, list) and all(isinstance(n, str) for n in s.class_names)
    yield (
        "class_names",
        f"a list of {s.num_classes - 1} different names: num_classes {s.num_classes} counts the "
        "background",
        is_fine and len(set(s.class_names)) == len(s.class_names) == s.num_classes - 1,
    )
    is_fine = isinstance(s.one_instance_classes, list)
    yield (
        "one_instance_classes",
        "a list of class names",
        is_fine and set(s.one_instance_classes) <= set(s.class_names),
    )
    yield (
        "made_up",
        "null, or an object of whole numbers: count (from 3), size (from 16), seed and volunteers "
        "(from 0)",
        s.made_up is None or _is_made_up(s.made_up),
    )
    yield "settings", "an object of settings of mrcnn.config.Config", isinstance(s.settings, dict)


def _is_made_up(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == set(MADE_UP)
        and all(
            _is_whole(value[key], least)
            for key, least in (("count", 3), ("size", 16), ("seed", 0), ("volunteers", 0))
        )
    )


def _is_whole(value: Any, least: int) -> bool:
    return type(value) is int and value >= least


def _check_config_names(path: PathLike, settings: Settings) -> None:
    known = GalaxyConfig().names()
    for name in settings.settings:
        if name in GIVEN_BY:
            raise ValueError(
                f"{path}: settings has {name}, which the key {GIVEN_BY[name]} gives; set that one."
            )
        if name not in known:
            raise ValueError(
                f"{path}: settings has the unknown {name!r}.{did_you_mean(name, known)}"
            )


class GalaxyConfig(Config):
    """Differences from the package's defaults, besides the keys of the JSON file."""

    # torchvision's 800, and the next multiple of 64; pictures are square.
    IMAGE_MIN_DIM = 800
    IMAGE_MAX_DIM = 832
    # Blocks that train gather batch statistics; frozen blocks keep theirs.
    TRAIN_BN = None
    # Galaxies without markings teach the background.
    TRAIN_EMPTY_IMAGES = True
    # Boxes of two arms overlap.
    DETECTION_NMS_THRESHOLD = 0.5


def run_name(settings: Settings) -> str:
    """The name of run folders and checkpoints: `model_name` as it can be part of a file's name."""
    return re.sub(r"\W+", "_", settings.model_name).strip("_").lower() or "galaxy"


def build_config(settings: Settings, images: int = 0, validation_images: int = 0) -> GalaxyConfig:
    """The package's Config for these settings.

    Args:
        images, validation_images: their numbers; an epoch is one pass over the data.
    """
    config = GalaxyConfig()
    config.NAME = run_name(settings)
    config.BACKBONE = settings.backbone
    if settings.backbone == "small":
        from samples.nucleus.demo import pyramid_shapes, small_backbone

        config.BACKBONE, config.COMPUTE_BACKBONE_SHAPE = small_backbone, pyramid_shapes
    config.IMAGES_PER_GPU = settings.batch_size
    config.NUM_CLASSES = settings.num_classes
    config.IMAGE_CHANNEL_COUNT = settings.channels
    config.MEAN_PIXEL = 255 * np.array(settings.image_mean)
    config.PIXEL_STD = 255 * np.array(settings.image_std)
    config.STEPS_PER_EPOCH = max(math.ceil(images / settings.batch_size), 1)
    config.VALIDATION_STEPS = math.ceil(validation_images / settings.batch_size)
    config.OPTIMIZER = settings.optimizer
    config.LEARNING_RATE = settings.learning_rate
    config.DECOUPLED_WEIGHT_DECAY = settings.weight_decay
    config.WARMUP_STEPS = min(config.STEPS_PER_EPOCH, 1000)
    config.DTYPE_POLICY = settings.precision
    for name, value in settings.settings.items():
        setattr(config, name, value)
    config.validate()
    return config
