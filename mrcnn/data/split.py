"""A part of a data set held back for validation."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from typing import TypeVar

from mrcnn.data.dataset import Dataset

AnyDataset = TypeVar("AnyDataset", bound=Dataset)


def split_images(dataset: Dataset, share: float, seed: int = 0) -> tuple[Dataset, Dataset]:
    """Split a prepared Dataset into training and validation images.

    An image's part depends on the seed and the ids, not on their order, so the same data are split
    alike on every machine. Both parts have at least one image.

    Args:
        dataset: prepared.
        share: share of the images that validate, above 0 and below 1.
        seed: another seed gives another split.

    Returns:
        The images to train on, and those to validate on, in the data set's order and with its
        methods.

    Raises:
        ValueError: fewer than two images, or another share.
    """
    count = len(dataset.image_ids)
    if not 0 < share < 1:
        raise ValueError(f"share is {share}; it must be above 0 and below 1.")
    if count < 2:
        raise ValueError(
            f"the data set has {count} image, which cannot be split; give validation images "
            "(--val), or none (--split 0)."
        )
    held = min(max(round(share * count), 1), count - 1)
    order = sorted(dataset.image_ids.tolist(), key=lambda i: _rank(dataset, i, seed))
    validation = set(order[:held])
    return (
        part_of(dataset, [i for i in range(count) if i not in validation]),
        part_of(dataset, sorted(validation)),
    )


def _rank(dataset: Dataset, image_id: int, seed: int) -> tuple[str, str]:
    """A number that looks random; the id decides between equal ones."""
    info = dataset.image_info[image_id]
    name = f"{info['source']}/{info['id']}"
    return hashlib.sha256(f"{seed}/{name}".encode(errors="surrogateescape")).hexdigest(), name


def part_of(dataset: AnyDataset, image_ids: Sequence[int]) -> AnyDataset:
    """A prepared Dataset with only these images, in this order, and the same methods."""
    part = copy.copy(dataset)
    part.image_info = [dataset.image_info[image_id] for image_id in image_ids]
    part.prepare()
    return part
