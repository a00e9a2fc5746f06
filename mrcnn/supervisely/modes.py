"""The five modes of inference: which parts of an image the network sees.

A mode gives **regions**, boxes `(y1, x1, y2, x2)` in pixels with (y2, x2) outside. What the network
finds in a region is moved to its place in the image; the objects of sliding windows are joined.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from mrcnn.geometry.boxes import compute_overlaps
from mrcnn.geometry.masks import Patch
from mrcnn.geometry.rle import rle_patch
from mrcnn.supervisely.schemas import ALL, Settings
from mrcnn.tiles.joining import join, view_of
from mrcnn.tiles.windows import Box, windows_of


class Found(NamedTuple):
    """An object that the network found, in pixels of the image."""

    title: str
    score: float
    patch: Patch


class Existing(NamedTuple):
    """An object that the image's annotation has: its class and the box around it."""

    title: str
    box: Box


class Region(NamedTuple):
    """A part of an image that the network saw, and the class of its rectangle if it is kept."""

    box: Box
    title: str


# From parts of the image `[h, w, 3]` to the objects in each, in pixels of the part.
FindObjects = Callable[[Sequence[np.ndarray]], Sequence[Sequence[Found]]]


def apply_mode(
    image: np.ndarray, mode: Settings, existing: Sequence[Existing], find: FindObjects
) -> tuple[list[Found], list[Region]]:
    """The objects that a mode finds in an image, and the regions that the network saw.

    Args:
        image: `[H, W, 3]` uint8.
        mode: of `checked_mode`.
        existing: the annotation's objects, for `bboxes`.
        find: the network.

    Raises:
        ValueError: bounds that leave nothing, or a window larger than the image.
    """
    height, width = image.shape[:2]
    if mode["name"].startswith("sliding_window"):
        return _slide(image, mode, find)
    regions = _regions(mode, height, width, existing)
    parts = [image[y1:y2, x1:x2] for (y1, x1, y2, x2), _ in regions]
    found = find(parts) if parts else []
    return [
        _moved(one, region.box)
        for region, objects in zip(regions, found, strict=True)
        for one in objects
    ], regions


def _regions(mode: Settings, height: int, width: int, existing: Sequence[Existing]) -> list[Region]:
    if mode["name"] == "roi":
        return [Region(_bounds(mode["bounds"], height, width), mode["class_name"])]
    if mode["name"] == "bboxes":
        return [
            Region(_padded(one.box, mode["padding"], height, width), one.title + mode["add_suffix"])
            for one in existing
            if mode["from_classes"] == ALL or one.title in mode["from_classes"]
        ]
    assert mode["name"] == "full_image"
    return [Region((0, 0, height, width), "")]


def _bounds(bounds: dict[str, str], height: int, width: int) -> Box:
    top, bottom = (_pixels(bounds[side], height) for side in ("top", "bottom"))
    left, right = (_pixels(bounds[side], width) for side in ("left", "right"))
    box = (top, left, height - bottom, width - right)
    if box[0] >= box[2] or box[1] >= box[3]:
        given = ", ".join(f"{side} {distance}" for side, distance in bounds.items())
        raise ValueError(
            f"mode.bounds ({given}) leave nothing of an image of {height}x{width} pixels."
        )
    return box


def _padded(box: Box, padding: dict[str, str], height: int, width: int) -> Box:
    """The box with padding, inside the image; percent are of the box's side."""
    y1, x1, y2, x2 = box
    tall, wide = y2 - y1, x2 - x1
    return (
        max(0, y1 - _pixels(padding["top"], tall)),
        max(0, x1 - _pixels(padding["left"], wide)),
        min(height, y2 + _pixels(padding["bottom"], tall)),
        min(width, x2 + _pixels(padding["right"], wide)),
    )


def _pixels(distance: str, side: int) -> int:
    if distance.endswith("%"):
        return round(float(distance[:-1]) * side / 100)
    return int(distance[: -len("px")])


def _moved(one: Found, box: Box) -> Found:
    patch = Patch(one.patch.pixels, one.patch.top + box[0], one.patch.left + box[1])
    return one._replace(patch=patch)


# ---- Sliding windows -----------------------------------------------------------------------------


def _slide(
    image: np.ndarray, mode: Settings, find: FindObjects
) -> tuple[list[Found], list[Region]]:
    height, width = image.shape[:2]
    size, overlap = mode["window"], mode["min_overlap"]
    if size["height"] > height or size["width"] > width:
        raise ValueError(
            f"mode.window is {size['height']}x{size['width']} (height x width), larger than an "
            f"image of {height}x{width} pixels; choose a smaller one, or full_image."
        )
    rows = windows_of(height, width, (size["height"], size["width"]), (overlap["y"], overlap["x"]))
    windows = [window for row in rows for window in row]
    found = find([image[w.box[0] : w.box[2], w.box[1] : w.box[3]] for w in windows])
    titles = sorted({one.title for objects in found for one in objects})
    views = [
        view_of(
            window, titles.index(one.title), one.score, _moved(one, window.box).patch, image.shape
        )
        for window, objects in zip(windows, found, strict=True)
        for one in objects
    ]
    joined = join(view for view in views if view is not None)
    objects = [Found(titles[one.class_id], one.score, rle_patch(one.rle)) for one in joined]
    after = mode.get("nms_after")
    if after is not None and after["enable"]:
        objects = _suppressed(objects, after["iou_threshold"])
    return objects, [Region(window.box, mode["class_name"]) for window in windows]


def _suppressed(objects: Sequence[Found], threshold: float) -> list[Found]:
    """Objects without those whose box overlaps a better one of the class; the best come first."""
    boxes = np.array([one.patch.box for one in objects], float).reshape(-1, 4)
    overlaps: Any = compute_overlaps(boxes, boxes)
    kept: list[int] = []
    for number, one in enumerate(objects):
        if not any(
            objects[other].title == one.title and overlaps[number, other] > threshold
            for other in kept
        ):
            kept.append(number)
    return [objects[number] for number in kept]
