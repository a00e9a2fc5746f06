"""Annotations of the VGG Image Annotator (VIA), versions 1 and 2, saved as JSON.

    dataset = ViaDataset()
    dataset.load_via("via_region_data.json", "images", source="leaf")
    dataset.prepare()

The file has an entry an image, `{"filename": …, "regions": …}`: regions are a dict in VIA 1 and a
list in VIA 2, whose project files have the entries under `_via_img_metadata`. A region is a shape
and attributes, one of which may be the class.

A shape covers the pixels whose centre lies in it or on its outline. Centres have whole
coordinates: pixel (x, y) is at (x, y). A polygon that crosses itself covers what is inside an odd
number of times. What leaves the image is cut off.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from mrcnn.data.dataset import Dataset, read_image
from mrcnn.data.formats.coco import read_json

logger = logging.getLogger("mrcnn")

# Shapes with an area, and what describes them; theta, of an ellipse in VIA 2, may be missing.
SHAPES = {
    "polygon": ("all_points_x", "all_points_y"),
    "polyline": ("all_points_x", "all_points_y"),  # closed
    "rect": ("x", "y", "width", "height"),
    "circle": ("cx", "cy", "r"),
    "ellipse": ("cx", "cy", "rx", "ry"),
}
_LENGTHS = ("width", "height", "r", "rx", "ry")
# Products of two coordinates are exact up to here.
_FARTHEST = 1e7
_EXIF_ORIENTATION = 0x0112


class ViaDataset(Dataset):
    """Images, classes and masks of VIA files, several of them if need be."""

    def load_via(
        self,
        path: str | os.PathLike,
        image_dir: str | os.PathLike,
        source: str = "via",
        attribute: str | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        """Add the images of a VIA file on which there are regions.

        VIA lists images that nobody has annotated yet, so one without regions is left out. So is
        a region that lies outside its image. The log says how many there are of both.

        Args:
            path: the JSON file; image_dir: the folder that its file names start from.
            source: name of the source, for `add_class` and `add_image`.
            attribute: the region attribute that is the class: text, a choice of one, or a set of
                boxes of which one is ticked. None: all regions are of one class.
            classes: class names, numbered from 1 in this order. None: those of the source that
                are there already, or else the values in the file in alphabetical order; without
                `attribute`, the source's name. Give them where a training and a validation file
                might not have the same.

        Raises:
            FileNotFoundError: the file, or an image that has regions.
            ValueError: no VIA file, no region in it, or one that cannot be used; `classes` that
                are not those the source has. All name the file, and the image and region.
        """
        entries = _annotated(read_via(path), path)
        classes, labels = self._classes(entries, path, source, attribute, classes)
        _check_labels(entries, labels, classes, path)
        _check_images_exist(entries, path, image_dir)
        sizes = _image_sizes(entries, path, image_dir)
        inside = _inside(entries, sizes, path)

        if not any(info["source"] == source for info in self.class_info):
            for class_id, name in enumerate(classes, start=1):
                self.add_class(source, class_id, name)
        ids = {c["name"]: c["id"] for c in self.class_info if c["source"] == source}
        for entry, names, (height, width), kept in zip(entries, labels, sizes, inside, strict=True):
            if kept:
                self.add_image(
                    source,
                    image_id=entry["filename"],
                    path=os.path.join(image_dir, entry["filename"]),
                    width=width,
                    height=height,
                    shapes=[entry["regions"][i]["shape_attributes"] for i in kept],
                    class_ids=[ids[names[i]] for i in kept],
                    annotation_file=os.fspath(path),
                )

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Masks and classes of an image.

        Returns:
            masks `[H, W, N]` bool; class ids `[N]` int32. A region so small that it covers no
            pixel's centre is not among them.
        """
        info = self.image_info[image_id]
        if "shapes" not in info:
            return super().load_mask(image_id)
        # One mask after the other in memory: so filling and searching them is fastest.
        masks = np.zeros((len(info["shapes"]), info["height"], info["width"]), bool)
        for i, shape in enumerate(info["shapes"]):
            masks[i] = shape_to_mask(shape, info["height"], info["width"])
        source = info["source"]
        class_ids = [self.map_source_class_id(f"{source}.{i}") for i in info["class_ids"]]
        drawn = masks.any(axis=(1, 2))
        masks = masks if drawn.all() else masks[drawn]
        return np.moveaxis(masks, 0, -1), np.array(class_ids, np.int32)[drawn]

    def _classes(self, entries, path, source, attribute, classes):
        """Names of the classes in order, and of each entry the names of its regions' classes."""
        known = [info["name"] for info in self.class_info if info["source"] == source]
        if isinstance(classes, str) or (classes and len(set(classes)) < len(classes)):
            raise ValueError(f"classes is {classes!r}; it must be a list of different names.")
        classes = list(classes or known)
        if attribute is None:
            classes = classes or [source]
            if len(classes) > 1:
                raise ValueError(
                    f"{path}: there are the classes {_shortened(classes)}, so `attribute` must "
                    "name the region attribute that tells them apart."
                )
            labels = [classes * len(entry["regions"]) for entry in entries]
        else:
            labels = [_labels(entry, path, attribute) for entry in entries]
            classes = classes or sorted({label for names in labels for label in names})
        if known and classes != known:
            raise ValueError(
                f"{path}: classes is {classes}, and the source {source!r} has {known} already."
            )
        return classes, labels


# ---- Reading and checking ------------------------------------------------------------------------


def read_via(path: str | os.PathLike) -> list[dict[str, Any]]:
    """The entries of a VIA file, checked, those without regions too.

    Returns:
        `[{"filename": name, "regions": [{"shape_attributes": …, "region_attributes": …}, …]}, …]`,
        with whatever else the file holds of an image.

    Raises:
        FileNotFoundError: there is no such file; ValueError: no VIA file, or the first region
            that cannot be used, with file, image and number.
    """
    content = read_json(path)
    is_project = isinstance(content, dict) and "_via_img_metadata" in content
    entries = content["_via_img_metadata"] if is_project else content
    if not isinstance(entries, dict) or not all(map(_is_entry, entries.values())):
        raise ValueError(
            f"{path} is not a file of VIA 1 or 2: it holds {_outline(content)}, and must hold an "
            'object with an entry {"filename": ..., "regions": ...} an image, or a VIA 2 project.'
        )
    read = []
    for entry in entries.values():
        regions = entry["regions"]
        regions = list(regions.values()) if isinstance(regions, dict) else regions
        for number, region in enumerate(regions):
            if problem := _problem_of_region(region):
                raise ValueError(f"{_place(path, entry, number)} {problem}")
        read.append({**entry, "regions": regions})
    return read


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("filename"), str)
        and isinstance(entry.get("regions"), (dict, list))
    )


def _outline(content: Any) -> str:
    """A few words for what a JSON file holds."""
    if isinstance(content, dict):
        return f"an object with {_shortened(content) or 'nothing'}"
    return f"a {type(content).__name__}"


def _place(path, entry: dict, number: int) -> str:
    return f"{path}: image {entry['filename']!r}, region {number}"


def _problem_of_region(region: Any) -> str | None:
    shape = region.get("shape_attributes") if isinstance(region, dict) else None
    if not isinstance(shape, dict):
        return "has no shape_attributes."
    if not isinstance(region.get("region_attributes", {}), dict):
        return f"has the region_attributes {region['region_attributes']!r}; they must be an object."
    name = shape.get("name")
    if name == "point":
        return f"is a point, which covers no area; a mask needs one of {', '.join(SHAPES)}."
    if not isinstance(name, str) or name not in SHAPES:
        return f"has the shape {name!r}; known are {', '.join(SHAPES)}."
    if name in ("polygon", "polyline"):
        return _problem_of_points(name, shape)
    for key in SHAPES[name]:
        if not _is_coordinate(shape.get(key)) or (key in _LENGTHS and shape[key] <= 0):
            kind = "a positive number" if key in _LENGTHS else "a number"
            return f"is a {name} with {key} {shape.get(key)!r}; it must be {kind} of pixels."
    if not _is_coordinate(shape.get("theta", 0)):
        return f"is an {name} with theta {shape['theta']!r}; it must be an angle in radians."
    return None


def _problem_of_points(name: str, shape: dict) -> str | None:
    xs, ys = (shape.get(key) for key in SHAPES[name])
    if not isinstance(xs, list) or not isinstance(ys, list):
        return f"is a {name} without the lists all_points_x and all_points_y."
    if len(xs) != len(ys):
        return f"is a {name} with {len(xs)} x and {len(ys)} y coordinates; each point has both."
    if bad := [value for value in xs + ys if not _is_coordinate(value)]:
        return f"is a {name} with the coordinate {bad[0]!r}; it must be a number of pixels."
    count = len(set(zip(xs, ys, strict=True)))
    if count < 3:
        return f"is a {name} with fewer than three different points: {count}."
    return None


def _is_coordinate(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= _FARTHEST


def _annotated(entries: list[dict], path) -> list[dict]:
    """The entries that have regions; no image may have two."""
    annotated = [entry for entry in entries if entry["regions"]]
    if not annotated:
        raise ValueError(f"{path} has no annotated image; images in it: {len(entries)}.")
    names = set()
    for entry in annotated:
        if entry["filename"] in names:
            raise ValueError(
                f"{path}: two entries with regions are of image {entry['filename']!r}."
            )
        names.add(entry["filename"])
    if len(annotated) < len(entries):
        left_out = len(entries) - len(annotated)
        logger.info("%s: %d images without regions are left out.", path, left_out)
    return annotated


def _labels(entry: dict, path, attribute: str) -> list[str]:
    """Of each region of an entry the value of an attribute."""
    labels = []
    for number, region in enumerate(entry["regions"]):
        attributes = region.get("region_attributes", {})
        value = attributes.get(attribute)
        if isinstance(value, dict):  # boxes to tick
            ticked = [name for name, is_ticked in value.items() if is_ticked]
            value = ticked[0] if len(ticked) == 1 else value
        label = str(value).strip() if isinstance(value, (str, int)) else ""
        if not label:
            raise ValueError(
                f"{_place(path, entry, number)} has no class: its attribute {attribute!r} is "
                f"{value!r}; it has the attributes {_shortened(attributes) or 'none'}."
            )
        labels.append(label)
    return labels


def _check_labels(entries, labels, classes: list[str], path) -> None:
    for entry, names in zip(entries, labels, strict=True):
        for number, name in enumerate(names):
            if name not in classes:
                raise ValueError(
                    f"{_place(path, entry, number)} has the unknown class {name!r}; the classes "
                    f"are {_shortened(classes)}."
                )


def _check_images_exist(entries: list[dict], path, image_dir) -> None:
    names = [entry["filename"] for entry in entries]
    missing = [name for name in names if not os.path.isfile(os.path.join(image_dir, name))]
    if missing:
        raise FileNotFoundError(
            f"{path}: image {missing[0]!r} is not there: {os.path.join(image_dir, missing[0])} "
            f"does not exist; {len(missing)} of {len(names)} annotated images are missing."
        )


def _image_sizes(entries: list[dict], path, image_dir) -> list[tuple[int, int]]:
    """(height, width) of every image; the log names one that a camera's tag would turn."""
    sizes, turned = [], []
    for entry in entries:
        height, width, is_turned = _read_header(os.path.join(image_dir, entry["filename"]))
        sizes.append((height, width))
        turned += [entry["filename"]] * is_turned
    if turned:
        logger.warning(
            "%s: %d images have a camera's rotation tag, %r for one. Browsers turn them for VIA, "
            "here pixels are taken as stored: look whether the masks fit, and store the images "
            "turned before annotating if they do not.",
            path,
            len(turned),
            turned[0],
        )
    return sizes


def _read_header(path) -> tuple[int, int, bool]:
    """Height, width and whether there is a rotation tag, without decoding pixels if possible."""
    import PIL.Image

    try:
        with PIL.Image.open(path) as picture:
            # Cameras write JPEG; of a PNG, Pillow would decode the pixels to find a tag.
            is_photo = picture.format in ("JPEG", "MPO")
            tag = picture.getexif().get(_EXIF_ORIENTATION) if is_photo else None
            return picture.height, picture.width, tag in range(2, 9)
    except Exception:  # a format that Pillow has not, or damage: read_image knows or names it
        return *read_image(path).shape[:2], False


def _inside(entries: list[dict], sizes, path) -> list[list[int]]:
    """Of each entry the numbers of the regions that reach into its image."""
    inside, outside = [], []
    for entry, (height, width) in zip(entries, sizes, strict=True):
        kept = []
        for number, region in enumerate(entry["regions"]):
            x1, y1, x2, y2 = shape_bounds(region["shape_attributes"])
            if x2 < 0 or y2 < 0 or x1 > width - 1 or y1 > height - 1:
                outside.append(f"{_place(path, entry, number)} (image of {width}x{height})")
            else:
                kept.append(number)
        inside.append(kept)
    if not any(inside):
        raise ValueError(f"{outside[0]} lies outside the image, and so do all {len(outside)}.")
    if outside:
        logger.warning(
            "%s lies outside the image; regions left out for that: %d.", outside[0], len(outside)
        )
    return inside


def _shortened(values) -> str:
    values = list(values)
    text = ", ".join(map(str, values[:10]))
    return f"{text} and {len(values) - 10} more" if len(values) > 10 else text


# ---- Masks ---------------------------------------------------------------------------------------


def shape_to_mask(shape: dict[str, Any], height: int, width: int) -> np.ndarray:
    """The pixels of an image that a region's `shape_attributes` cover: `[height, width]` bool."""
    if shape["name"] in ("circle", "ellipse"):
        return ellipse_to_mask(*_ellipse(shape), height, width)
    return polygon_to_mask(*_corners(shape), height, width)


def shape_bounds(shape: dict[str, Any]) -> tuple[float, float, float, float]:
    """(x1, y1, x2, y2), pixels: the least and greatest coordinates of a region's shape."""
    if shape["name"] in ("circle", "ellipse"):
        cx, cy, rx, ry, theta = _ellipse(shape)
        reach_x, reach_y = _reach(rx, ry, theta)
        return cx - reach_x, cy - reach_y, cx + reach_x, cy + reach_y
    xs, ys = _corners(shape)
    return min(xs), min(ys), max(xs), max(ys)


def _corners(shape: dict[str, Any]) -> tuple[list, list]:
    if shape["name"] != "rect":
        return shape["all_points_x"], shape["all_points_y"]
    x1, y1 = shape["x"], shape["y"]
    x2, y2 = x1 + shape["width"], y1 + shape["height"]
    return [x1, x2, x2, x1], [y1, y1, y2, y2]


def _ellipse(shape: dict[str, Any]) -> tuple[float, ...]:
    """cx, cy, rx, ry, theta."""
    rx, ry = (shape["r"],) * 2 if shape["name"] == "circle" else (shape["rx"], shape["ry"])
    return shape["cx"], shape["cy"], rx, ry, shape.get("theta", 0.0)


def _reach(rx: float, ry: float, theta: float) -> tuple[float, float]:
    """How far an ellipse reaches from its centre along x and y."""
    cos, sin = math.cos(theta), math.sin(theta)
    return math.hypot(rx * cos, ry * sin), math.hypot(rx * sin, ry * cos)


def polygon_to_mask(
    xs: Sequence[float], ys: Sequence[float], height: int, width: int
) -> np.ndarray:
    """The pixels whose centre lies in a polygon or on its outline.

    They are those of `skimage.draw.polygon`, but for a few on the outline that it misses by
    rounding; it looks at each pixel and edge together and takes up to 2 s a balloon image.

    Args:
        xs, ys: `[K]` the corners, pixels; the last is joined to the first.

    Returns:
        `[height, width]` bool.
    """
    mask = np.zeros((height, width), bool)
    rows, left, right = _spans(np.asarray(xs, np.float64), np.asarray(ys, np.float64), height)
    starts = np.ceil(left).clip(0, width).astype(int)
    stops = (np.floor(right) + 1).clip(0, width).astype(int)
    for row, start, stop in zip(rows.tolist(), starts.tolist(), stops.tolist(), strict=True):
        mask[row, start:stop] = True
    return mask


def _spans(x1: np.ndarray, y1: np.ndarray, height: int) -> tuple[np.ndarray, ...]:
    """What a polygon `[K]` covers of the rows of pixels: `[S]` rows, left and right ends."""
    x2, y2 = np.roll(x1, -1), np.roll(y1, -1)
    rows, x = _crossings(x1, y1, x2, y2, height)
    # A crossing is at an edge's upper end, never at its lower one, so that every row has an even
    # number. Corners and edges along a row count by themselves.
    corner = (y1 % 1 == 0) & (y1 >= 0) & (y1 < height)
    flat = corner & (y1 == y2)
    rows = np.concatenate([rows[::2], y1[corner], y1[flat]]).astype(int)
    left = np.concatenate([x[::2], x1[corner], np.minimum(x1, x2)[flat]])
    right = np.concatenate([x[1::2], x1[corner], np.maximum(x1, x2)[flat]])
    return rows, left, right


def _crossings(x1, y1, x2, y2, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Where edges `[K]` cross the rows of pixels: `[C]` rows and x, by row and then by x."""
    first = np.ceil(np.minimum(y1, y2)).clip(0, height).astype(int)
    counts = np.ceil(np.maximum(y1, y2)).clip(0, height).astype(int) - first
    edge = np.repeat(np.arange(len(x1)), counts)
    rows = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts - first, counts)
    x = x1[edge] + (rows - y1[edge]) * (x2 - x1)[edge] / (y2 - y1)[edge]
    order = np.lexsort((x, rows))
    return rows[order], x[order]


def ellipse_to_mask(
    cx: float, cy: float, rx: float, ry: float, theta: float, height: int, width: int
) -> np.ndarray:
    """The pixels whose centre lies in an ellipse or on its outline.

    Args:
        cx, cy: centre; rx, ry: half axes, all in pixels.
        theta: angle from the x axis to rx, radians, clockwise as one sees it.

    Returns:
        `[height, width]` bool.
    """
    mask = np.zeros((height, width), bool)
    reach_x, reach_y = _reach(rx, ry, theta)
    rows = slice(*np.clip([math.floor(cy - reach_y), math.ceil(cy + reach_y) + 1], 0, height))
    columns = slice(*np.clip([math.floor(cx - reach_x), math.ceil(cx + reach_x) + 1], 0, width))
    y, x = np.ogrid[rows, columns]
    along = (x - cx) * math.cos(theta) + (y - cy) * math.sin(theta)
    across = (y - cy) * math.cos(theta) - (x - cx) * math.sin(theta)
    # Products, not quotients: exact for whole numbers.
    mask[rows, columns] = (along * ry) ** 2 + (across * rx) ** 2 <= (rx * ry) ** 2
    return mask
