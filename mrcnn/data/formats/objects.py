"""Labelled images and their objects, as every format can write them.

`labelled_images` reads them from any Dataset, so each format is written from each other one.

A format's `write_…(images, class_names, folder)` writes them into a new or empty folder, with
copies of the image files, and returns a sentence for each kind of thing that the format cannot
hold. It raises a ValueError if the folder is not empty, or class names are no different lines.
`class_names` are all classes, in their order.

Outlines are rings `[K, (x, y)]` float64 in pixels. A ring is closed: its last point joins its
first. Pixel i covers the range i to i + 1 of its axis, so a ring around pixel (0, 0) goes from 0 to
1.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from mrcnn.data.annotated import cut_masks
from mrcnn.data.dataset import Dataset, describe_image


class LabelledObject(NamedTuple):
    """An object of an image.

    Attributes:
        class_name: name of its class.
        mask: `[H, W]` bool, the pixels that it covers.
        is_crowd: whether it is an area of many objects.
        ring: the polygon as the annotator drew it, if it is one polygon without holes: `[K, (x,
            y)]`. None: there is only the mask.
        tags: what else is said of it, for formats with tags (Supervisely's).
    """

    class_name: str
    mask: np.ndarray
    is_crowd: bool = False
    ring: np.ndarray | None = None
    tags: Sequence[Any] = ()


class LabelledImage(NamedTuple):
    """An image file with its objects.

    Attributes:
        name: file name, with "/" between folders.
        path: where the file is.
        height, width: in pixels, as `Dataset.load_image` returns it.
        objects: its objects; those without a pixel are left out.
        tags: as those of an object.
    """

    name: str
    path: str
    height: int
    width: int
    objects: list[LabelledObject]
    tags: Sequence[Any] = ()


def labelled_images(dataset: Dataset) -> Iterator[LabelledImage]:
    """The images of a prepared Dataset with their objects, one after the other.

    An image has the name `file_name` of its `image_info`, or that of its path, without the folders
    that all images share. A Dataset that knows the polygons as they were drawn has a method
    `load_rings(image_id)`, with one ring or None for each object that `load_mask` returns.
    """
    names = _names(dataset)
    for image_id in dataset.image_ids:
        info = dataset.image_info[image_id]
        height, width = _size(dataset, image_id)
        yield LabelledImage(
            names[image_id],
            os.fspath(info["path"]),
            height,
            width,
            _objects(dataset, image_id, (height, width)),
            info.get("tags", ()),
        )


def class_names(dataset: Dataset) -> list[str]:
    """The names of a Dataset's classes in their order, without the background, each once."""
    return list(dict.fromkeys(str(info["name"]) for info in dataset.class_info[1:]))


def _names(dataset: Dataset) -> list[str]:
    """A name per image: without the folders that all images share."""
    names = [_name(info) for info in dataset.image_info]
    shared = os.path.commonprefix([name.split("/")[:-1] for name in names])
    return _different(["/".join(name.split("/")[len(shared) :]) for name in names])


def _name(info: dict[str, Any]) -> str:
    """The `file_name` that a format gives, if it is a name inside a folder; else the path."""
    name = info.get("file_name")
    if not isinstance(name, str) or name.startswith("/") or ".." in name.split("/"):
        name = os.path.splitdrive(os.path.abspath(info["path"]))[1].replace(os.sep, "/")
    return name.strip("/")


def _different(names: list[str]) -> list[str]:
    """The names; one that is there again gets a number before its ending."""
    taken, used, different = set(names), set(), []
    for name in names:
        unique, copy = name, 1
        while unique in used or (copy > 1 and unique in taken):
            copy += 1
            root, ending = os.path.splitext(name)
            unique = f"{root}-{copy}{ending}"
        used.add(unique)
        different.append(unique)
    return different


def _size(dataset: Dataset, image_id: int) -> tuple[int, int]:
    info = dataset.image_info[image_id]
    if "height" in info and "width" in info:
        return int(info["height"]), int(info["width"])
    height, width = dataset.load_image(image_id).shape[:2]
    return height, width


def _objects(dataset: Dataset, image_id: int, size: tuple[int, int]) -> list[LabelledObject]:
    masks, class_ids = dataset.load_mask(image_id)
    count = len(class_ids)
    load_rings = getattr(dataset, "load_rings", None)
    rings = load_rings(image_id) if load_rings is not None else [None] * count
    if not count:
        return []
    if len(rings) != count:
        raise ValueError(
            f"{describe_image(dataset, image_id)}: load_rings returned {len(rings)} rings, and "
            f"load_mask {count} masks; there must be one ring or None per mask."
        )
    tags = dataset.image_info[image_id].get("object_tags", [()] * count)
    masks = cut_masks(np.asarray(masks), size).astype(bool, copy=False)
    return [
        LabelledObject(
            str(dataset.class_info[abs(int(class_ids[i]))]["name"]),
            masks[:, :, i],
            bool(class_ids[i] < 0),
            rings[i],
            tags[i],
        )
        for i in range(count)
        if masks[:, :, i].any()
    ]
