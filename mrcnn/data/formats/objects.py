"""Labelled images and their objects, as every format can write them.

`labelled_images` reads them from any Dataset, so each format is written from each other one.

Outlines are rings `[K, (x, y)]` float64 in pixels. A ring is closed: its last point joins its first.
Pixel i covers the range i to i + 1 of its axis, so a ring around pixel (0, 0) goes from 0 to 1.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from mrcnn.data.annotated import cut_masks, drop_empty_masks
from mrcnn.data.dataset import Dataset


class LabelledObject(NamedTuple):
    """An object of an image.

    Attributes:
        class_name: name of its class.
        mask: `[H, W]` bool, the pixels that it covers.
        is_crowd: whether it is an area of many objects.
        rings: the polygon as the annotator drew it, if it is one polygon without holes: `[K, (x,
            y)]`. None: there is only the mask.
    """

    class_name: str
    mask: np.ndarray
    is_crowd: bool = False
    ring: np.ndarray | None = None


class LabelledImage(NamedTuple):
    """An image file with its objects.

    Attributes:
        name: file name, with "/" between folders.
        path: where the file is.
        height, width: in pixels, as `Dataset.load_image` returns it.
        objects: its objects; those without a pixel are left out.
    """

    name: str
    path: str
    height: int
    width: int
    objects: list[LabelledObject]


def labelled_images(dataset: Dataset) -> Iterator[LabelledImage]:
    """The images of a prepared Dataset with their objects, one after the other.

    A Dataset that knows the polygons as they were drawn has a method `load_rings(image_id)`, with
    one ring or None for each object that `load_mask` returns.
    """
    raise NotImplementedError
