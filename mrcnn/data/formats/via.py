"""Annotations of the VGG Image Annotator (VIA), versions 1 and 2, saved as JSON.

    dataset = ViaDataset()
    dataset.load_via("via_region_data.json", "images", source="leaf")
    dataset.prepare()

The file has one entry per image, `{"filename": …, "regions": …}`: regions are a dict in VIA 1 and a
list in VIA 2, whose project files have the entries under `_via_img_metadata`. A region is a shape
and attributes, one of which may be the class. VIA states no image sizes: masks have the size of the
image as it is stored. `shapes` says which pixels a shape covers.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from mrcnn.data.dataset import Dataset
from mrcnn.data.formats.data_folders import (
    FileNames,
    bridges,
    check_class_names,
    classes_left_out,
    copy_image,
    crowds_left_out,
    start_folder,
)
from mrcnn.data.formats.drawn import Line
from mrcnn.data.formats.image_folder import find_images, size_and_rotation
from mrcnn.data.formats.objects import LabelledImage, LabelledObject
from mrcnn.data.formats.outlines import drawn_or_exact, joined
from mrcnn.data.formats.problems import (
    Problems,
    is_coordinate,
    outline,
    problem_of_image_size,
    quoted,
)
from mrcnn.data.formats.shapes import ellipse_reach, ellipse_to_mask, polygon_to_mask
from mrcnn.files import read_json, write_text
from mrcnn.messages import listed
from mrcnn.types import PathLike

logger = logging.getLogger("mrcnn")

VIA_FILE = "via_region_data.json"
WRITTEN_ATTRIBUTE = "class"
# Shapes with an area, and what describes them; theta, of an ellipse in VIA 2, may be missing.
SHAPES = {
    "polygon": ("all_points_x", "all_points_y"),
    "polyline": ("all_points_x", "all_points_y"),  # closed, or a line of `line_width`
    "rect": ("x", "y", "width", "height"),
    "circle": ("cx", "cy", "r"),
    "ellipse": ("cx", "cy", "rx", "ry"),
}
# Attributes that are the class if a region has others too.
_USUAL_ATTRIBUTES = ("class", "label", "category", "name", "type", "object")
# Larger files are not read as a whole to find out what they are.
_LOOKED_AT = 20_000_000
_LENGTHS = ("width", "height", "r", "rx", "ry")
Entry = dict[str, Any]


class ViaDataset(Dataset):
    """Images, classes and masks of VIA files, several of them if need be."""

    def load_via(
        self,
        path: PathLike,
        image_dir: PathLike,
        source: str = "via",
        attribute: str | None = None,
        classes: Sequence[str] | None = None,
        *,
        line_width: float | None = None,
        skip_invalid: bool = False,
    ) -> None:
        """Add the images of a VIA file that have regions.

        VIA also lists images that nobody has annotated yet, so images without regions are left out.
        Regions outside their image are left out too. The log has the numbers of both.

        Args:
            path: the JSON file; image_dir: the folder that its file names start from.
            source: name of the source, for `add_class` and `add_image`.
            attribute: the region attribute that is the class: text, a choice of one, or checkboxes
                of which one is checked. None: all regions are of one class.
            classes: class names, numbered from 1 in this order. None: the classes that the source
                has already, or else the values in the file in alphabetical order; without
                `attribute`, the source's name. Give them if a training and a validation file might
                have different classes.
            line_width: in pixels; polylines are lines of this width. None: they are closed.
            skip_invalid: leave out entries, regions and images that cannot be used, and log how
                many; otherwise they are an error.

        Raises:
            FileNotFoundError: the file, or an image that has regions.
            ValueError: it is no VIA file, it has no region, regions cannot be used, or `classes`
                differs from the source's classes. All messages name the file, and the image and
                region.
        """
        check_line_width(line_width)
        entries = read_via(path, skip_invalid, has_lines=line_width is not None)
        entries = _annotated(entries, path, skip_invalid)
        if attribute is not None:
            entries = _labelled(entries, path, attribute, skip_invalid)
        classes = self._classes(entries, path, source, attribute, classes)
        if attribute is not None:
            entries = _of_classes(entries, classes, path, skip_invalid)
        paths = find_images(
            {_called(entry): entry["filename"] for entry in entries}, image_dir, path, skip_invalid
        )
        entries = [entry for entry in entries if _called(entry) in paths]
        paths = {entry["filename"]: paths[_called(entry)] for entry in entries}
        sizes = _image_sizes(paths, path, skip_invalid)
        entries = _inside([entry for entry in entries if entry["filename"] in sizes], sizes, path)

        if not any(info["source"] == source for info in self.class_info):
            for class_id, name in enumerate(classes, start=1):
                self.add_class(source, class_id, name)
        ids = {c["name"]: c["id"] for c in self.class_info if c["source"] == source}
        for entry in entries:
            height, width = sizes[entry["filename"]]
            self.add_image(
                source,
                image_id=entry["filename"],
                path=paths[entry["filename"]],
                width=width,
                height=height,
                shapes=[region["shape_attributes"] for region in entry["regions"]],
                class_ids=[
                    ids[classes[0] if attribute is None else region["label"]]
                    for region in entry["regions"]
                ],
                annotation_file=os.fspath(path),
                line_width=line_width,
            )

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Masks and classes of an image.

        Returns:
            masks `[H, W, N]` bool; class ids `[N]` int32. A region that covers no pixel's centre is
            left out.

        Raises:
            ValueError: a region that cannot be drawn, named with its file.
        """
        info = self.image_info[image_id]
        if "shapes" not in info:
            return super().load_mask(image_id)
        # Each mask is contiguous in memory, which makes filling and searching them fastest.
        masks = np.zeros((len(info["shapes"]), info["height"], info["width"]), bool)
        for i, shape in enumerate(info["shapes"]):
            try:
                masks[i] = shape_to_mask(
                    shape, info["height"], info["width"], info.get("line_width")
                )
            except ValueError as error:
                raise ValueError(
                    f"{info['annotation_file']}: image {quoted(info['id'])} has a {shape['name']} "
                    f"that {error}"
                ) from error
        source = info["source"]
        class_ids = [self.map_source_class_id(f"{source}.{i}") for i in info["class_ids"]]
        drawn = masks.any(axis=(1, 2))
        masks = masks if drawn.all() else masks[drawn]
        return np.moveaxis(masks, 0, -1), np.array(class_ids, np.int32)[drawn]

    def load_rings(self, image_id: int) -> list[np.ndarray | None]:
        """The polygons as they were drawn, for the objects that `load_mask` returns.

        Returns:
            A ring `[K, (x, y)]` float64 in pixels, where pixel i covers i to i + 1, for a polygon
            or rectangle; None for other shapes.
        """
        info = self.image_info[image_id]
        size = info["height"], info["width"]
        shapes, line_width = info.get("shapes", ()), info.get("line_width")
        return [
            _ring(shape, line_width)
            for shape in shapes
            if shape_to_mask(shape, *size, line_width).any()
        ]

    def _classes(
        self,
        entries: list[Entry],
        path: PathLike,
        source: str,
        attribute: str | None,
        classes: Sequence[str] | None,
    ) -> list[str]:
        """Names of the classes in order."""
        known = [info["name"] for info in self.class_info if info["source"] == source]
        if isinstance(classes, str) or (classes and len(set(classes)) < len(classes)):
            raise ValueError(f"classes is {classes!r}; it must be a list of different names.")
        names = list(classes or known)
        if attribute is None:
            names = names or [source]
            if len(names) > 1:
                raise ValueError(
                    f"{path}: there are the classes {listed(names)}, so `attribute` must "
                    "name the region attribute that tells them apart."
                )
        elif not names:
            names = sorted({region["label"] for entry in entries for region in entry["regions"]})
        if known and names != known:
            raise ValueError(
                f"{path}: classes is {names}, and the source {source!r} has {known} already."
            )
        return names


def check_line_width(line_width: object) -> None:
    """Check the width of lines.

    Raises:
        ValueError: neither None nor a positive number.
    """
    if line_width is not None and not (is_coordinate(line_width) and line_width > 0):  # type: ignore
        raise ValueError(f"line_width is {line_width!r}; it must be a positive number of pixels.")


def is_via(path: PathLike) -> bool:
    """Whether this is a JSON file of VIA 1 or 2; of a large file, only the start is read."""
    try:
        if os.path.getsize(path) > _LOOKED_AT:
            with open(path, "rb") as file:
                start = file.read(_LOOKED_AT)
            return b'"filename"' in start and b'"regions"' in start
        content = read_json(path)
    except (OSError, ValueError):
        return False
    if not isinstance(content, dict):
        return False
    entries = content.get("_via_img_metadata", content)
    return isinstance(entries, dict) and any(
        _has_name(entry) and "regions" in entry for entry in entries.values()
    )


def peek(path: PathLike) -> list[tuple[str, list[dict[str, Any]]]]:
    """File name and regions of each annotated image, unchecked, to find out what a file is about.

    Raises:
        ValueError: it is no JSON.
    """
    content = read_json(path)
    entries = content.get("_via_img_metadata", content) if isinstance(content, dict) else {}
    found = []
    for entry in entries.values() if isinstance(entries, dict) else ():
        regions = entry.get("regions") if _has_name(entry) else None
        regions = list(regions.values()) if isinstance(regions, dict) else regions
        if isinstance(regions, list) and regions:
            found.append((entry["filename"], [one for one in regions if isinstance(one, dict)]))
    return found


def class_attribute(path: PathLike) -> str | None:
    """The region attribute that is the class: the only one that all regions have a value of.

    Attributes that tools call so by default go before others. None: no attribute has values.

    Raises:
        ValueError: there are several, or none that all regions have.
    """
    attributes = [
        region.get("region_attributes") or {}
        for _, regions in peek(path)
        for region in regions
        if isinstance(region.get("region_attributes") or {}, dict)
    ]
    names = list(dict.fromkeys(name for found in attributes for name in found))
    counts = {name: sum(bool(_label(found.get(name))) for found in attributes) for name in names}
    valued = [name for name in names if counts[name]]
    complete = [name for name in valued if counts[name] == len(attributes)]
    usual = [name for name in complete if name.lower() in _USUAL_ATTRIBUTES]
    if not valued:
        return None
    if len(complete) == 1 or len(usual) == 1:
        return (usual or complete)[0]
    if complete:
        raise ValueError(
            f"{path}: the regions have the attributes {listed(complete)}; name the one that is the "
            "class (--attribute)."
        )
    raise ValueError(
        f"{path}: no attribute has a value in all {len(attributes)} regions; "
        + ", ".join(f"{name} has one in {counts[name]}" for name in valued)
        + "."
    )


# ---- Reading and checking ------------------------------------------------------------------------


def read_via(path: PathLike, skip_invalid: bool = False, has_lines: bool = False) -> list[Entry]:
    """The entries of a VIA file, checked, those without regions too.

    Args:
        skip_invalid: leave out entries and regions that cannot be used, and log how many.
        has_lines: polylines are lines, for which two points are enough.

    Returns:
        `[{"filename": name, "regions": [{"shape_attributes": …, "region_attributes": …, "number":
        its place in the file}, …]}, …]`, with all other values that the file has for an image.

    Raises:
        FileNotFoundError: there is no such file; ValueError: no VIA file, or entries and regions
            that cannot be used, with file, image and number.
    """
    content = read_json(path)
    is_project = isinstance(content, dict) and "_via_img_metadata" in content
    entries = content["_via_img_metadata"] if is_project else content
    is_via = isinstance(entries, dict) and (not entries or any(map(_has_name, entries.values())))
    if not is_via:
        raise ValueError(
            f"{path} is not a file of VIA 1 or 2: it holds {outline(content)}, and must hold an "
            'object with one entry {"filename": ..., "regions": ...} per image, or a VIA 2 project.'
        )
    problems = Problems(path, skip_invalid)
    read = []
    for key, entry in entries.items():
        if problem := _problem_of_entry(entry):
            who = _called(entry) if _has_name(entry) else f"entry {quoted(key)}"
            problems.add(who, problem)
        else:
            read.append({**entry, "regions": _usable_regions(entry, problems, has_lines)})
    problems.settle()
    return read


def _has_name(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("filename"), str)


def _problem_of_entry(entry: Any) -> str | None:
    if not isinstance(entry, dict):
        return f"is {quoted(entry)}; it must be an object that describes one image."
    if not _has_name(entry):
        return f"has the filename {quoted(entry.get('filename'))}; it must be text."
    if "regions" not in entry:
        return "has no regions; an image that shows nothing has an empty list, [] or {}."
    if not isinstance(entry["regions"], (dict, list)):
        return f"has the regions {quoted(entry['regions'])}; they must be a list or an object."
    return None


def _usable_regions(entry: Entry, problems: Problems, has_lines: bool) -> list[dict[str, Any]]:
    regions = entry["regions"]
    usable = []
    for number, region in enumerate(regions.values() if isinstance(regions, dict) else regions):
        if problem := _problem_of_region(region, has_lines):
            problems.add(_place(entry, number), problem)
        else:
            usable.append({**region, "number": number})
    return usable


def _called(entry: Entry) -> str:
    return f"image {entry['filename']!r}"


def _place(entry: Entry, number: int) -> str:
    return f"{_called(entry)}, region {number}"


def _problem_of_region(region: Any, has_lines: bool) -> str | None:
    shape = region.get("shape_attributes") if isinstance(region, dict) else None
    if not isinstance(shape, dict):
        return "has no shape_attributes."
    attributes = region.get("region_attributes", {})
    if not isinstance(attributes, dict):
        return f"has the region_attributes {quoted(attributes)}; they must be an object."
    name = shape.get("name")
    if name == "point":
        return f"is a point, which covers no area; a mask needs one of {', '.join(SHAPES)}."
    if not isinstance(name, str) or name not in SHAPES:
        return f"has the shape {quoted(name)}; known are {', '.join(SHAPES)}."
    if name in ("polygon", "polyline"):
        return _problem_of_points(name, shape, 2 if has_lines and name == "polyline" else 3)
    for key in SHAPES[name]:
        if not is_coordinate(shape.get(key)) or (key in _LENGTHS and shape[key] <= 0):
            kind = "a positive number" if key in _LENGTHS else "a number"
            return f"is a {name} with {key} {quoted(shape.get(key))}; it must be {kind} of pixels."
    if not is_coordinate(shape.get("theta", 0)):
        return f"is an {name} with theta {quoted(shape['theta'])}; it must be an angle in radians."
    return None


def _problem_of_points(name: str, shape: dict[str, Any], least: int) -> str | None:
    xs, ys = (shape.get(key) for key in SHAPES[name])
    if not isinstance(xs, list) or not isinstance(ys, list):
        return f"is a {name} without the lists all_points_x and all_points_y."
    if len(xs) != len(ys):
        return f"is a {name} with {len(xs)} x and {len(ys)} y coordinates; each point has both."
    if bad := [value for value in xs + ys if not is_coordinate(value)]:
        return f"is a {name} with the coordinate {quoted(bad[0])}; it must be a number of pixels."
    count = len(set(zip(xs, ys, strict=True)))
    if count < least:
        words = {2: "two", 3: "three"}[least]
        return f"is a {name} with fewer than {words} different points: {count}."
    return None


def _annotated(entries: list[Entry], path: PathLike, skip_invalid: bool) -> list[Entry]:
    """The entries that have regions; no image may have two."""
    with_regions = [entry for entry in entries if entry["regions"]]
    problems = Problems(path, skip_invalid)
    by_name: dict[str, Entry] = {}
    for entry in with_regions:
        if by_name.setdefault(entry["filename"], entry) is not entry:
            problems.add("two entries with regions", f"are of {_called(entry)}.")
    problems.settle()
    if not by_name:
        raise ValueError(f"{path} has no annotated image; images in it: {len(entries)}.")
    if len(with_regions) < len(entries):
        left_out = len(entries) - len(with_regions)
        logger.info("%s: %d images without regions are left out.", path, left_out)
    return list(by_name.values())


def _labelled(
    entries: list[Entry], path: PathLike, attribute: str, skip_invalid: bool
) -> list[Entry]:
    """The entries with a `label` in each region, the value of an attribute."""
    problems = Problems(path, skip_invalid)
    labelled = []
    for entry in entries:
        regions = []
        for region in entry["regions"]:
            attributes = region.get("region_attributes", {})
            if label := _label(attributes.get(attribute)):
                regions.append({**region, "label": label})
            else:
                problems.add(
                    _place(entry, region["number"]),
                    f"has no class: its attribute {attribute!r} is "
                    f"{quoted(attributes.get(attribute))}; it has the attributes "
                    f"{listed(attributes)}.",
                )
        labelled.append({**entry, "regions": regions})
    problems.settle()
    return _with_regions(labelled, path)


def _label(value: Any) -> str:
    """The class that an attribute's value names; empty if it names none, or several."""
    if isinstance(value, dict):  # checkboxes
        ticked = [name for name, is_ticked in value.items() if is_ticked]
        value = ticked[0] if len(ticked) == 1 else None
    return str(value).strip() if isinstance(value, (str, int)) else ""


def _of_classes(
    entries: list[Entry], classes: list[str], path: PathLike, skip_invalid: bool
) -> list[Entry]:
    """The entries with the regions of known classes."""
    problems = Problems(path, skip_invalid)
    known = []
    for entry in entries:
        for region in entry["regions"]:
            if region["label"] not in classes:
                problems.add(
                    _place(entry, region["number"]),
                    f"has the unknown class {quoted(region['label'])}; the classes are "
                    f"{listed(classes)}.",
                )
        regions = [region for region in entry["regions"] if region["label"] in classes]
        known.append({**entry, "regions": regions})
    problems.settle()
    return _with_regions(known, path)


def _with_regions(entries: list[Entry], path: PathLike) -> list[Entry]:
    kept = [entry for entry in entries if entry["regions"]]
    if not kept:
        raise ValueError(f"{path} has no region that can be used.")
    return kept


def _image_sizes(
    paths: dict[str, str], annotations: PathLike, skip_invalid: bool
) -> dict[str, tuple[int, int]]:
    """(height, width) of every image; the log names one image with a rotation tag."""
    problems = Problems(annotations, skip_invalid)
    sizes, turned = {}, []
    for name, path in paths.items():
        try:
            height, width, is_turned = size_and_rotation(path)
        except (OSError, ValueError) as error:
            if not skip_invalid:
                raise
            problems.add(f"image {name!r}", f"cannot be used: {error}")
            continue
        if problem := problem_of_image_size(height, width):
            problems.add(f"image {name!r}", problem)
            continue
        sizes[name] = height, width
        if is_turned:
            turned.append(name)
    problems.settle()
    if not sizes:
        raise ValueError(f"{annotations} has no image that can be used.")
    if turned:
        logger.warning(
            "%s: %d images have a camera's rotation tag, %r for one. Browsers turn them for VIA, "
            "which states no sizes; here pixels are taken as stored. Look whether the masks fit. "
            "If they do not, store the images turned before annotating them.",
            annotations,
            len(turned),
            turned[0],
        )
    return sizes


def _inside(entries: list[Entry], sizes: dict[str, tuple[int, int]], path: PathLike) -> list[Entry]:
    """The entries with only those regions that lie at least partly inside their image."""
    inside, outside = [], []
    for entry in entries:
        height, width = sizes[entry["filename"]]
        kept = []
        for region in entry["regions"]:
            x1, y1, x2, y2 = shape_bounds(region["shape_attributes"])
            if x2 < 0 or y2 < 0 or x1 > width - 1 or y1 > height - 1:
                place = _place(entry, region["number"])
                outside.append(f"{path}: {place} (image of {width}x{height})")
            else:
                kept.append(region)
        if kept:
            inside.append({**entry, "regions": kept})
    if not inside:
        raise ValueError(f"{outside[0]} lies outside the image, and so do all {len(outside)}.")
    if outside:
        logger.warning(
            "%s lies outside the image; regions left out for that: %d.", outside[0], len(outside)
        )
    return inside


# ---- Masks ---------------------------------------------------------------------------------------


def shape_to_mask(
    shape: dict[str, Any], height: int, width: int, line_width: float | None = None
) -> np.ndarray:
    """The pixels of an image that a region's `shape_attributes` cover: `[height, width]` bool.

    Args:
        line_width: of polylines, in pixels; None: they are closed.
    """
    if shape["name"] == "polyline" and line_width is not None:
        # Coordinates are centres of pixels here.
        return Line(np.stack(_corners(shape), axis=1) + 0.5, line_width).draw(height, width)
    if shape["name"] in ("circle", "ellipse"):
        return ellipse_to_mask(*_ellipse(shape), height, width)
    return polygon_to_mask(*_corners(shape), height, width)


def shape_bounds(shape: dict[str, Any]) -> tuple[float, float, float, float]:
    """(x1, y1, x2, y2) in pixels: lowest and highest coordinates of a region's shape."""
    if shape["name"] in ("circle", "ellipse"):
        cx, cy, rx, ry, theta = _ellipse(shape)
        reach_x, reach_y = ellipse_reach(rx, ry, theta)
        return cx - reach_x, cy - reach_y, cx + reach_x, cy + reach_y
    xs, ys = _corners(shape)
    return min(xs), min(ys), max(xs), max(ys)


def _corners(shape: dict[str, Any]) -> tuple[list[float], list[float]]:
    if shape["name"] != "rect":
        return shape["all_points_x"], shape["all_points_y"]
    x1, y1 = shape["x"], shape["y"]
    x2, y2 = x1 + shape["width"], y1 + shape["height"]
    return [x1, x2, x2, x1], [y1, y1, y2, y2]


def _ellipse(shape: dict[str, Any]) -> tuple[float, float, float, float, float]:
    """cx, cy, rx, ry, theta."""
    rx, ry = (shape["r"],) * 2 if shape["name"] == "circle" else (shape["rx"], shape["ry"])
    return shape["cx"], shape["cy"], rx, ry, shape.get("theta", 0.0)


def _ring(shape: dict[str, Any], line_width: float | None) -> np.ndarray | None:
    """The ring of a polygon or rectangle; VIA's coordinates are centres of pixels."""
    is_line = shape["name"] == "polyline" and line_width is not None
    if shape["name"] in ("circle", "ellipse") or is_line:
        return None
    return np.stack(_corners(shape), axis=1).astype(np.float64) + 0.5


# ---- Writing -------------------------------------------------------------------------------------


def write_via(
    images: Iterable[LabelledImage], class_names: Sequence[str], folder: PathLike
) -> list[str]:
    """Write `via_region_data.json` of VIA 2 beside copies of the images.

    An object is one polygon: as it was drawn, or half a pixel around its pixels. Parts and holes
    are joined by bridges without width. The class is the attribute `class`.

    Arguments, result and errors are those of every format, see `objects`.
    """
    folder = start_folder(folder)
    check_class_names(class_names, folder)
    names, entries = FileNames(), {}
    crowds = bridged = empty = 0
    used: set[str] = set()
    for image in images:
        stem, ending = names.pick(image)
        file = folder / f"{stem}{ending}"
        copy_image(image, file)
        kept = [labelled for labelled in image.objects if not labelled.is_crowd]
        crowds += len(image.objects) - len(kept)
        empty += not kept
        regions = []
        for labelled in kept:
            region, is_bridged = _region(labelled)
            regions.append(region)
            bridged += is_bridged
            used.add(labelled.class_name)
        size = file.stat().st_size
        entries[f"{file.name}{size}"] = {
            "filename": file.name,
            "size": size,
            "regions": regions,
            "file_attributes": {},
        }
    write_text(folder / VIA_FILE, json.dumps(entries, ensure_ascii=False))
    return [
        *crowds_left_out(crowds, "VIA"),
        *bridges(bridged, "VIA"),
        *classes_left_out(class_names, used, "VIA"),
        *_empty_sentences(empty),
    ]


def _region(labelled: LabelledObject) -> tuple[dict[str, Any], bool]:
    """The region of an object, and whether it has bridges."""
    size = labelled.mask.shape
    parts = drawn_or_exact(
        labelled, lambda ring: polygon_to_mask(ring[:, 0] - 0.5, ring[:, 1] - 0.5, *size)
    )
    xs, ys = (joined(parts) - 0.5).T.tolist()
    shape = {"name": "polygon", "all_points_x": xs, "all_points_y": ys}
    region = {
        "shape_attributes": shape,
        "region_attributes": {WRITTEN_ATTRIBUTE: labelled.class_name},
    }
    return region, len(parts) > 1 or bool(parts[0].holes)


def _empty_sentences(empty: int) -> list[str]:
    if not empty:
        return []
    images = "1 image without objects counts" if empty == 1 else (
        f"{empty:,} images without objects count"
    )  # fmt: skip
    return [f"{images} as not labelled: VIA does not tell them apart."]
