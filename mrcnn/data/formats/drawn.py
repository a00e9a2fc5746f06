"""Objects that are drawn with shapes: what the formats of LabelMe, CVAT and YOLO share.

Coordinates are pixels; pixel i covers i to i + 1 of its axis. A shape covers the pixels whose
centre, at i + 0.5, lies in it or on its outline.
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import PIL.Image

from mrcnn.data.dataset import Dataset
from mrcnn.data.formats.problems import is_coordinate, quoted
from mrcnn.data.formats.shapes import ellipse_to_mask, polygon_to_mask
from mrcnn.messages import shortened


class Polygon(NamedTuple):
    """A ring `[K, (x, y)]` float64."""

    ring: np.ndarray

    def draw(self, height: int, width: int) -> np.ndarray:
        return polygon_to_mask(self.ring[:, 0] - 0.5, self.ring[:, 1] - 0.5, height, width)


class Ellipse(NamedTuple):
    """An ellipse: centre, half axes, and the angle of the first axis, clockwise, in radians."""

    cx: float
    cy: float
    rx: float
    ry: float
    theta: float = 0.0

    def draw(self, height: int, width: int) -> np.ndarray:
        centre = self.cx - 0.5, self.cy - 0.5
        return ellipse_to_mask(*centre, self.rx, self.ry, self.theta, height, width)


class Line(NamedTuple):
    """A line of a width along points `[K, (x, y)]`, with round ends."""

    points: np.ndarray
    width: float

    def draw(self, height: int, width: int) -> np.ndarray:
        mask = np.zeros((height, width), bool)
        radius = self.width / 2
        for x, y in self.points:
            mask |= ellipse_to_mask(x - 0.5, y - 0.5, radius, radius, 0.0, height, width)
        for (x1, y1), (x2, y2) in zip(self.points[:-1], self.points[1:], strict=True):
            length = float(np.hypot(x2 - x1, y2 - y1))
            if length:
                across = np.array([y1 - y2, x2 - x1]) * radius / length
                corners = np.array([(x1, y1), (x2, y2), (x2, y2), (x1, y1)])
                corners = corners + [across, across, -across, -across]
                mask |= Polygon(corners).draw(height, width)
        return mask


class Pixels(NamedTuple):
    """Pixels of a rectangle whose upper left pixel is (x, y); `decode` returns `[h, w]` bool."""

    x: int
    y: int
    decode: Callable[[], np.ndarray]

    def draw(self, height: int, width: int) -> np.ndarray:
        mask = np.zeros((height, width), bool)
        pixels = self.decode()[max(-self.y, 0) :, max(-self.x, 0) :]
        target = mask[max(self.y, 0) :, max(self.x, 0) :]
        rows, columns = min(len(pixels), len(target)), min(pixels.shape[1], target.shape[1])
        target[:rows, :columns] = pixels[:rows, :columns]
        return mask


Shape = Polygon | Ellipse | Line | Pixels


class DrawnDataset(Dataset):
    """Masks of objects that are drawn with shapes.

    `image_info` of an image has `objects`, a list of lists of shapes, which have a method
    `draw(height, width)` and perhaps a `ring`; `class_ids`, the source's ids of their classes; and
    `annotation_file`, for messages.
    """

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Masks and classes of an image.

        Returns:
            masks `[H, W, N]` bool; class ids `[N]` int32. An object without a pixel is left out.

        Raises:
            ValueError: a shape that cannot be drawn, named with its file.
        """
        info = self.image_info[image_id]
        if "objects" not in info:
            return super().load_mask(image_id)
        masks = self._masks(image_id)
        source = info["source"]
        class_ids = [self.map_source_class_id(f"{source}.{i}") for i in info["class_ids"]]
        drawn = masks.any(axis=(1, 2))
        masks = masks if drawn.all() else masks[drawn]
        return np.moveaxis(masks, 0, -1), np.array(class_ids, np.int32)[drawn]

    def load_rings(self, image_id: int) -> list[np.ndarray | None]:
        """The polygons as they were drawn, for the objects that `load_mask` returns.

        Returns:
            A ring `[K, (x, y)]` float64 for an object that is one polygon; None for other objects.
        """
        info = self.image_info[image_id]
        if "objects" not in info:
            return []
        drawn = np.atleast_1d(self._masks(image_id).any(axis=(1, 2)))
        return [
            _ring(shapes)
            for shapes, is_drawn in zip(info["objects"], drawn, strict=True)
            if is_drawn
        ]

    def _masks(self, image_id: int) -> np.ndarray:
        """`[N, H, W]` bool, empty ones too."""
        info = self.image_info[image_id]
        size = info["height"], info["width"]
        masks = np.zeros((len(info["objects"]), *size), bool)
        for i, shapes in enumerate(info["objects"]):
            try:
                for shape in shapes:
                    masks[i] |= shape.draw(*size)
            except ValueError as error:
                raise ValueError(
                    f"{info['annotation_file']}: image {info['id']}, object {i} of {len(masks)}, "
                    f"{error}"
                ) from error
        return masks


def _ring(shapes: Sequence[Any]) -> np.ndarray | None:
    (first, *others) = shapes
    return None if others else getattr(first, "ring", None)


# ---- Checking ------------------------------------------------------------------------------------


def problem_of_points(points: Any, least: int, what: str) -> str | None:
    """What is wrong with points `[[x, y], …]` of a file; the sentence begins with a verb."""
    if not isinstance(points, list) or not all(
        isinstance(point, (list, tuple)) and len(point) == 2 for point in points
    ):
        return f"is a {what} with the points {quoted(points)}; they must be a list of [x, y]."
    wrong = [value for point in points for value in point if not is_coordinate(value)]
    if wrong:
        return f"is a {what} with the coordinate {quoted(wrong[0])}; it must be a number of pixels."
    count = len({tuple(point) for point in points})
    if count < least:
        return f"is a {what} with {count} different points; it needs at least {least}."
    return None


def is_outside(shapes: Sequence[Shape], height: int, width: int) -> bool:
    """Whether nothing of these shapes can lie in the image."""
    return all(_outside(shape, height, width) for shape in shapes)


def _outside(shape: Shape, height: int, width: int) -> bool:
    if isinstance(shape, Pixels):
        return shape.x >= width or shape.y >= height
    if isinstance(shape, Ellipse):
        reach = max(shape.rx, shape.ry)
        low = np.array([shape.cx - reach, shape.cy - reach])
        high = np.array([shape.cx + reach, shape.cy + reach])
    else:
        points = shape.ring if isinstance(shape, Polygon) else shape.points
        margin = 0 if isinstance(shape, Polygon) else shape.width / 2
        low, high = points.min(axis=0) - margin, points.max(axis=0) + margin
    return bool((high <= 0).any() or low[0] >= width or low[1] >= height)


# ---- Masks in base64 -----------------------------------------------------------------------------


def decode_png(data: str, height: int, width: int) -> np.ndarray:
    """A PNG in base64 as `[h, w]` bool, true where it is not black.

    Args:
        height, width: of the image; a mask is not larger.

    Raises:
        ValueError: no such data; the message begins with a verb.
    """
    try:
        png = base64.b64decode(data, validate=True)
        with PIL.Image.open(io.BytesIO(png), formats=["PNG"]) as picture:
            size = picture.height, picture.width
            if size[0] <= height and size[1] <= width:
                pixels = np.asarray(picture.convert("L") if picture.mode != "1" else picture)
                return pixels > 0
    except binascii.Error as error:
        raise ValueError(f"has a mask that is not in base64: {error}.") from error
    except Exception as error:  # decoders raise any error: SyntaxError, struct.error, ...
        raise ValueError(
            f"has a mask that is no PNG or a damaged one: {shortened(error, 200)}."
        ) from error
    raise ValueError(
        f"has a mask of {size[0]}x{size[1]} in an image of {height}x{width}; a mask is not larger "
        "than its image."
    )


def encode_png(mask: np.ndarray) -> str:
    """A mask `[h, w]` bool as a PNG in base64."""
    png = io.BytesIO()
    PIL.Image.fromarray(mask).save(png, "PNG")
    return base64.b64encode(png.getvalue()).decode("ascii")


def cropped(mask: np.ndarray) -> tuple[int, int, np.ndarray]:
    """X and y of a mask's upper left pixel, and the mask cut to its pixels."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    cut = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return int(columns[0]), int(rows[0]), cut
