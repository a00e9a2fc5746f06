"""Settings and stages for training on a data set of tens to thousands of images.

    config, stages, reasons = recipe_for(train_set, val_set, name="leaf", start="coco")
    for stage in stages:
        model.train(train_set, val_set, config.LEARNING_RATE, stage.end, stage.layers)

Each choice follows from the data, and `reasons` says why. The settings are a start: a `Config` of
one's own, or `--set` on the command line, changes them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mrcnn.config import Config
from mrcnn.data.dataset import Dataset
from mrcnn.geometry.masks import extract_bboxes

# Masks of so many images are measured.
_MOST_MEASURED = 200
_LARGEST_SIDE = 1024
_SMALLEST_SIDE = 256
# Smaller objects are enlarged to about this side, since the finest feature map has a stride of 4.
_WANTED_SIDE = 32
_MOST_ENLARGED = 4
# Below this side in the resized image, hardly any anchor fits.
_TOO_SMALL = 8
# The steps of a training by default, and the epochs they may take.
_STEPS = 2000
_EPOCHS = (10, 100)
# Share of the epochs in which only the heads train.
_HEADS_SHARE = 1 / 3


class Stage(NamedTuple):
    """A part of a training: which layers train, and up to which epoch."""

    layers: str
    end: int


class Measured(NamedTuple):
    """What a data set shows.

    Attributes:
        images: number of images.
        long_side: of the images in pixels; 9 in 10 are not longer.
        object_sides: `[N]` square roots of the objects' box areas, in pixels.
        most_objects: largest number of objects in an image.
        has_empty: whether an image has no objects.
    """

    images: int
    long_side: int
    object_sides: np.ndarray
    most_objects: int
    has_empty: bool


class Recipe(NamedTuple):
    """Settings, stages, and a sentence for each choice."""

    config: Config
    stages: list[Stage]
    reasons: list[str]


def recipe_for(
    train_set: Dataset,
    val_set: Dataset | None,
    name: str,
    start: str = "coco",
    epochs: int | None = None,
    layers: str | None = None,
    batch_size: int | None = None,
) -> Recipe:
    """Choose settings and stages for a data set.

    Args:
        train_set, val_set: prepared.
        name: NAME of the settings.
        start: the weights to start from, see `load_start_weights`.
        epochs: number of epochs. None: as many as make about 2000 steps, 10 to 100.
        layers: which layers train, in one stage. None: first the heads, then all; from random
            weights all at once.
        batch_size: images per step. None: 2.

    Raises:
        ValueError: no image has an object.
    """
    found = measure(train_set)
    if not len(found.object_sides):
        raise ValueError(
            f"none of the {min(found.images, _MOST_MEASURED)} images that were looked at has an "
            "object; training needs labelled objects."
        )
    config, reasons = _settings(found, train_set, name, start)
    _choose_steps(
        config, found.images, 0 if val_set is None else len(val_set.image_ids), batch_size
    )
    steps = math.ceil(config.STEPS_PER_EPOCH)
    total = epochs or int(np.clip(math.ceil(_STEPS / steps), *_EPOCHS))
    return Recipe(config, *_stages(config, reasons, total, steps, start, layers))


def measure(dataset: Dataset) -> Measured:
    """Measure images and objects; of many images, some spread over the whole data set."""
    count = len(dataset.image_ids)
    chosen = np.unique(np.linspace(0, count - 1, min(count, _MOST_MEASURED)).astype(int))
    long_sides, object_sides, most, has_empty = [], [np.zeros(0)], 0, False
    for image_id in dataset.image_ids[chosen]:
        masks, _ = dataset.load_mask(int(image_id))
        long_sides.append(_long_side(dataset, int(image_id), masks))
        boxes = extract_bboxes(masks) if masks.shape[-1] else np.zeros((0, 4))
        object_sides.append(
            np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]).astype(float))
        )
        most, has_empty = max(most, len(boxes)), has_empty or not len(boxes)
    return Measured(
        count,
        math.ceil(np.percentile(long_sides, 90)) if long_sides else 0,
        np.concatenate(object_sides),
        most,
        has_empty,
    )


def _long_side(dataset: Dataset, image_id: int, masks: np.ndarray) -> int:
    info = dataset.image_info[image_id]
    if "height" in info and "width" in info:
        return max(info["height"], info["width"])
    # Without objects, a data set may return masks of height and width 0.
    return max(masks.shape[:2]) or max(dataset.load_image(image_id).shape[:2])


# ---- Settings ------------------------------------------------------------------------------------


def _settings(
    found: Measured, train_set: Dataset, name: str, start: str
) -> tuple[Config, list[str]]:
    config, reasons = Config(), []
    config.NAME = name
    config.CLASS_NAMES = [str(info["name"]) for info in train_set.class_info[1:]]
    config.NUM_CLASSES = 1 + len(config.CLASS_NAMES)
    config.BACKBONE = "resnet101" if start.lower() == "coco" else "resnet50"
    config.DTYPE_POLICY = "auto"
    config.KEEP_CHECKPOINTS = 2
    reasons += _choose_size(config, found)
    reasons += _choose_counts(config, found)
    return config, reasons


def _choose_steps(config: Config, train: int, val: int, batch_size: int | None) -> None:
    """Epochs in which each image is seen once."""
    config.IMAGES_PER_GPU = batch_size or min(2, train)
    config.STEPS_PER_EPOCH = math.ceil(train / config.IMAGES_PER_GPU)
    config.VALIDATION_STEPS = math.ceil(val / config.IMAGES_PER_GPU)


def _choose_size(config: Config, found: Measured) -> list[str]:
    """The size at which the network sees images, and its anchors."""
    median = float(np.median(found.object_sides))
    enlarged = float(np.clip(_WANTED_SIDE / median, 1, _MOST_ENLARGED))
    side = int(
        np.clip(64 * math.ceil(enlarged * found.long_side / 64), _SMALLEST_SIDE, _LARGEST_SIDE)
    )
    # Images are enlarged at most so far that the longer side still fits.
    scale = min(enlarged, side / found.long_side)
    config.IMAGE_MIN_DIM, config.IMAGE_MAX_DIM = 0, side
    config.IMAGE_MIN_SCALE = round(scale, 3) if scale > 1 else 0
    sides = found.object_sides * scale
    smallest = int(np.clip(2 ** math.floor(math.log2(np.percentile(sides, 10))), 8, 32))
    config.RPN_ANCHOR_SCALES = tuple(smallest * 2**level for level in range(5))
    changed = f"enlarged {scale:.1f} times" if scale > 1 else f"reduced to {scale:.0%}"
    shown = "shown at their size" if 0.95 <= scale <= 1.05 else changed
    reasons = [
        f"Images of {found.long_side} pixels are {shown}, to {side}x{side}: half of the objects "
        f"have sides above {median:.0f} pixels.",
        f"Anchors begin at {smallest} pixels: 9 in 10 objects are at least "
        f"{np.percentile(sides, 10):.0f} pixels large then.",
    ]
    if np.median(sides) < _TOO_SMALL:
        reasons.append(
            f"Half of the objects are below {np.median(sides):.0f} pixels then, which is too small "
            "to find them: cut the images into smaller ones."
        )
    return reasons


def _choose_counts(config: Config, found: Measured) -> list[str]:
    """How many objects an image may have, and whether images without objects are used."""
    reasons = []
    if found.most_objects > config.MAX_GT_INSTANCES:
        most = 100 * math.ceil(found.most_objects / 100)
        config.MAX_GT_INSTANCES = config.DETECTION_MAX_INSTANCES = most
        reasons.append(f"Up to {most} objects per image: one has {found.most_objects}.")
    if found.has_empty:
        config.TRAIN_EMPTY_IMAGES = True
        reasons.append("Images without objects are used: they teach what background looks like.")
    return reasons


# ---- Stages --------------------------------------------------------------------------------------


def _stages(
    config: Config, reasons: list[str], epochs: int, steps: int, start: str, layers: str | None
) -> tuple[list[Stage], list[str]]:
    config.LEARNING_RATE_SCHEDULE = "cosine"
    config.WARMUP_STEPS = min(100, epochs * steps // 10)
    if layers is not None or epochs == 1:
        return [Stage(layers or "all", epochs)], reasons
    if start.lower() == "random":
        why = "All layers train from the first epoch, since all begin with random weights."
        return [Stage("all", epochs)], [*reasons, why]
    heads = max(1, round(_HEADS_SHARE * epochs))
    return [Stage("heads", heads), Stage("all", epochs)], [
        *reasons,
        f"The heads train first, up to epoch {heads}, since they know nothing yet; then all layers "
        f"train, up to epoch {epochs}, about {epochs * steps:,} steps in total.",
    ]


def next_stages(stages: Sequence[Stage], done: int) -> list[Stage]:
    """The stages that are left after so many epochs."""
    return [stage for stage in stages if stage.end > done]
