"""The objects that were found in an image, as every format of results gets them.

They come from the results that `detection.result_files` keeps, and the image from its file again:
so a format can be added later without a new detection.

Letters: H and W an image's height and width.
"""

from __future__ import annotations

import functools
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np

from mrcnn.data.formats.data_folders import safe_name
from mrcnn.data.formats.outlines import Outline, outlines
from mrcnn.data.windowed_images import Box, WindowedImage
from mrcnn.detection.pictures import Picture, Video, open_picture
from mrcnn.geometry.masks import Patch
from mrcnn.geometry.rle import rle_part, rle_patch
from mrcnn.types import PathLike


class FoundObject(NamedTuple):
    """An object of an image.

    Attributes:
        category_id: the class as the annotation file of the training counts, from 1 without one.
        class_name: its name.
        score: 0..1.
        bbox: `[x, y, width, height]` in pixels.
        rle: the mask as COCO's run lengths.
        is_cut: whether it goes on where no piece of it was found: beyond the border of a tile.
    """

    category_id: int
    class_name: str
    score: float
    bbox: list[int]
    rle: dict[str, Any]
    is_cut: bool = False

    def patch(self) -> Patch:
        """The part of the mask that holds the object; the mask of the image is not made."""
        return rle_patch(self.rle)

    def outlines(self) -> list[Outline]:
        """The outlines of its parts, in pixels of the image."""
        patch = self.patch()
        origin = np.array([patch.left, patch.top])
        return [
            Outline(part.ring + origin, [hole + origin for hole in part.holes])
            for part in outlines(patch.pixels)
        ]

    def mask(self) -> np.ndarray:
        """`[H, W]` bool."""
        height, width = self.rle["size"]
        return self.part((0, 0, height, width))

    def part(self, box: Box, step: int = 1) -> np.ndarray:
        """The mask inside `(y1, x1, y2, x2)` of an image with each `step`-th pixel and row."""
        return rle_part(self.rle, box, step)


class FoundImage(NamedTuple):
    """An image with the objects that were found in it, the best score first.

    Attributes:
        number: of the image, from 1.
        name: as in `result_files`.
        stem: name for files about the image, with "/" between folders, without an ending.
        height, width: in pixels.
        objects: what was found.
        read: returns the image, `[H, W, 3]` uint8.
        open: opens the image to read its stored numbers by windows.
        video: the video that this is a frame of.
    """

    number: int
    name: str
    stem: str
    height: int
    width: int
    objects: list[FoundObject]
    read: Callable[[], np.ndarray]
    open: Callable[[], AbstractContextManager[WindowedImage]]
    video: Video | None = None


# Writes one image; the context makes the format's files complete.
Add = Callable[[FoundImage], None]
Writer = Callable[[PathLike], AbstractContextManager[Add]]


def found_images(jsonl: PathLike, pictures: Iterable[Picture]) -> Iterator[FoundImage]:
    """The images that were read, in the order of `pictures`, with their results.

    Args:
        jsonl: a file that `open_jsonl` wrote.
        pictures: the images; those without a result, and those that could not be read, are left
            out.
    """
    places = _places(jsonl)
    stems = _stems(places)
    number = 0
    with open(jsonl, "rb") as file:
        for picture in pictures:
            if picture.name not in places:
                continue
            file.seek(places[picture.name])
            result = json.loads(file.readline())
            if "error" in result:
                continue
            number += 1
            yield _found(number, picture, stems[picture.name], result)


def _found(number: int, picture: Picture, stem: str, result: dict[str, Any]) -> FoundImage:
    return FoundImage(
        number,
        picture.name,
        stem,
        result["height"],
        result["width"],
        [
            FoundObject(
                one["category_id"],
                one["category_name"],
                one["score"],
                one["bbox"],
                one["segmentation"],
                one.get("cut", False),
            )
            for one in result["detections"]
        ],
        picture.read,
        functools.partial(open_picture, picture),
        picture.video,
    )


def _places(jsonl: PathLike) -> dict[str, int]:
    """Where the result of each image begins in the file, in bytes."""
    places, place = {}, 0
    with open(jsonl, "rb") as file:
        for line in file:
            places[json.loads(line)["file_name"]] = place
            place += len(line)
    return places


def _stems(names: Iterable[str]) -> dict[str, str]:
    """A path without ending for each name: `a/b` for `a/b.png`, unless `a/b.tif` is there too."""
    names = list(names)
    bare = {name: _without_ending(name) for name in names}
    times = Counter(stem.casefold() for stem in bare.values())
    chosen = {
        name: stem if times[stem.casefold()] == 1 else name.replace(".", "_")
        for name, stem in bare.items()
    }
    return {
        name: "/".join(safe_name(part) for part in stem.split("/")) for name, stem in chosen.items()
    }


def _without_ending(name: str) -> str:
    """`scan_0001` for `scan.tif#0001`."""
    file, hash_sign, number = name.partition("#")
    stem = os.path.splitext(file)[0]
    return f"{stem}_{number}" if hash_sign else stem
