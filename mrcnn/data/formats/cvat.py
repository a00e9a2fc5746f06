"""CVAT for images 1.1: one XML file of images and shapes.

    dataset = CvatDataset()
    dataset.load_cvat("annotations.xml", "images")
    dataset.prepare()

Shapes are polygon, box, ellipse and mask; `drawn` says which pixels they cover. Shapes of one label
and one group of an image are one object. Labels without an object are classes too. The file is read
as data: a document type or an entity is refused, so nothing expands and no other file is opened.
https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/
"""

from __future__ import annotations

import functools
import logging
import math
import os
import xml.etree.ElementTree as ElementTree
import xml.parsers.expat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mrcnn.data.formats.data_folders import (
    FileNames,
    add_classes,
    check_class_names,
    copy_image,
    crowds_left_out,
    start_folder,
)
from mrcnn.data.formats.drawn import (
    DrawnDataset,
    Ellipse,
    Pixels,
    Polygon,
    Shape,
    cropped,
    is_outside,
    problem_of_points,
)
from mrcnn.data.formats.image_folder import find_images
from mrcnn.data.formats.objects import LabelledImage, LabelledObject
from mrcnn.data.formats.outlines import drawn_or_exact
from mrcnn.data.formats.problems import Problems, is_coordinate, problem_of_image_size, quoted
from mrcnn.files import written_beside
from mrcnn.messages import listed, shortened
from mrcnn.types import PathLike

logger = logging.getLogger("mrcnn")

SHAPES = ("polygon", "box", "ellipse", "mask")
_WITHOUT_AREA = ("polyline", "points", "cuboid", "skeleton")
_LARGEST_FILE = 2**31
# `is_cvat` reads so many bytes.
_LOOKED_AT = 4096
ANNOTATIONS = "annotations.xml"


class _Image(NamedTuple):
    """An image with its checked objects."""

    name: str
    size: tuple[int, int]
    objects: list[tuple[str, list[Shape]]]  # label and shapes


class CvatDataset(DrawnDataset):
    """Images, classes and masks of CVAT's files, several of them if need be."""

    def load_cvat(
        self,
        path: PathLike,
        image_dir: PathLike,
        source: str = "cvat",
        classes: Sequence[str] | None = None,
        *,
        skip_invalid: bool = False,
    ) -> None:
        """Add the classes and images of an XML file.

        Objects outside their image are left out, and the log has their number.

        Args:
            path: the XML file; image_dir: the folder that its image names start from.
            source: name of the source, for `add_class` and `add_image`.
            classes: class names, numbered from 1 in this order. None: the labels of the file's
                head, in its order, then others in alphabetical order.
            skip_invalid: leave out images and shapes that cannot be used, and log how many;
                otherwise they are an error.

        Raises:
            FileNotFoundError: the file, or an image that it names.
            ValueError: it is no file of CVAT for images, shapes cannot be used, or `classes`
                differs from the source's classes. All messages name the file, and the image and
                shape.
        """
        root = read_xml(path)
        _check_kind(root, path)
        problems = Problems(path, skip_invalid)
        images = [found for one in root.iter("image") if (found := _read_image(one, problems))]
        used = {label for image in images for label, _ in image.objects}
        stated = _stated_labels(root)
        names = [*stated, *sorted(used - set(stated))] if classes is None else list(classes)
        for image in images:
            for label in dict.fromkeys(label for label, _ in image.objects):
                if label not in names:
                    problems.add(
                        f"image {image.name!r}",
                        f"has the unknown label {quoted(label)}; the classes are {listed(names)}.",
                    )
        problems.settle()
        check_class_names(names, path)
        called = {f"image {image.name!r}": image.name for image in images}
        paths = find_images(called, image_dir, path, skip_invalid)
        ids = add_classes(self, source, names, path)
        for image in images:
            file = paths.get(f"image {image.name!r}")
            if file is None:
                continue
            objects = [(label, shapes) for label, shapes in image.objects if label in ids]
            self.add_image(
                source,
                image_id=image.name,
                path=file,
                file_name=image.name,
                height=image.size[0],
                width=image.size[1],
                objects=[shapes for _, shapes in objects],
                class_ids=[ids[label] for label, _ in objects],
                annotation_file=os.fspath(path),
            )


def is_cvat(path: PathLike) -> bool:
    """Whether this is an XML file of CVAT, or a folder with one, from the start of the file."""
    try:
        file = Path(path, ANNOTATIONS) if os.path.isdir(path) else Path(path)
        if file.suffix.lower() != ".xml" or not file.is_file():
            return False
        with open(file, "rb") as opened:
            start = opened.read(_LOOKED_AT)
        return b"<annotations" in start and (b"<image" in start or b"<meta" in start)
    except OSError:
        return False


def read_xml(path: PathLike) -> ElementTree.Element:
    """The root of an XML file without a document type.

    Raises:
        FileNotFoundError: there is no such file; ValueError: it is no XML, or has entities.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{os.fspath(path)} does not exist.")
    if os.path.getsize(path) > _LARGEST_FILE:
        raise ValueError(f"{path} has more than {_LARGEST_FILE >> 30} GB; split it.")
    builder = ElementTree.TreeBuilder()
    parser = xml.parsers.expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = _refuse
    parser.EntityDeclHandler = _refuse
    try:
        with open(path, "rb") as file:
            parser.ParseFile(file)
        return builder.close()
    except _Refused as error:
        raise ValueError(
            f"{path} has a document type or entities, which could expand or open other files; "
            "CVAT writes none."
        ) from error
    except (xml.parsers.expat.ExpatError, AssertionError) as error:
        raise ValueError(f"{path} is no XML file: {shortened(error, 200)}.") from error


class _Refused(Exception):
    """A document type or an entity."""


def _refuse(*_: Any) -> None:
    raise _Refused


def _check_kind(root: ElementTree.Element, path: PathLike) -> None:
    if root.tag != "annotations":
        raise ValueError(f"{path} is no file of CVAT: it begins with <{shortened(root.tag)}>.")
    if root.find("track") is not None:
        raise ValueError(
            f"{path} is CVAT for video, with tracks; export the task as CVAT for images 1.1."
        )
    if root.find("image") is None:
        raise ValueError(f"{path} has no images.")


def _stated_labels(root: ElementTree.Element) -> list[str]:
    """The labels in the head of the file, of a task, a project or a job, each once."""
    found = []
    for label in root.iterfind("./meta//labels/label"):
        name = (label.findtext("name") or "").strip()
        if name and (label.findtext("type") or "any") not in _WITHOUT_AREA:
            found.append(name)
    return list(dict.fromkeys(found))


# ---- Images and shapes ---------------------------------------------------------------------------


def _read_image(one: ElementTree.Element, problems: Problems) -> _Image | None:
    name = one.get("name", "")
    entry = f"image {name!r}"
    stated = one.get("height"), one.get("width")
    if not name:
        problems.add(f"image {one.get('id')}", "has no name.")
        return None
    height, width = _whole_numbers(stated) or stated
    if problem := problem_of_image_size(height, width):
        problems.add(entry, problem)
        return None
    assert isinstance(height, int) and isinstance(width, int)
    groups: dict[Any, tuple[str, list[Shape]]] = {}
    outside = 0
    for number, found in enumerate(one):
        if found.tag not in (*SHAPES, *_WITHOUT_AREA):
            continue  # a tag of the image, or what a newer CVAT adds
        try:
            shape = _shape(found, height, width)
        except ValueError as error:
            problems.add(f"{entry}, shape {number}", str(error))
            continue
        if is_outside([shape], height, width):
            outside += 1
            continue
        label, group = found.get("label", ""), found.get("group_id", "0")
        key = number if group == "0" else (label, group)
        groups.setdefault(key, (label, []))[1].append(shape)
    if outside:
        logger.warning("%s: shapes left out because they lie outside it: %d.", entry, outside)
    return _Image(name, (height, width), list(groups.values()))


def _shape(found: ElementTree.Element, height: int, width: int) -> Shape:
    """The shape of an element.

    Raises:
        ValueError: it cannot be used; the message begins with a verb.
    """
    if found.tag in _WITHOUT_AREA:
        raise ValueError(
            f"is a {found.tag}, which has no area; Mask R-CNN needs one of {listed(SHAPES)}."
        )
    if not found.get("label"):
        raise ValueError(f"is a {found.tag} without a label.")
    if found.tag == "polygon":
        points = [
            [_number(value) for value in point.split(",")]
            for point in found.get("points", "").split(";")
        ]
        if problem := problem_of_points(points, 3, "polygon"):
            raise ValueError(problem)
        return Polygon(np.array(points, np.float64))
    if found.tag == "box":
        return _box(found)
    if found.tag == "ellipse":
        cx, cy, rx, ry = _numbers(found, ("cx", "cy", "rx", "ry"))
        if rx <= 0 or ry <= 0:
            raise ValueError(f"is an ellipse with the half axes {rx:g} and {ry:g}; both are > 0.")
        return Ellipse(cx, cy, rx, ry, math.radians(_angle(found)))
    return _mask(found, height, width)


def _box(found: ElementTree.Element) -> Polygon:
    """A box; it is turned around its centre by `rotation`, clockwise."""
    x1, y1, x2, y2 = _numbers(found, ("xtl", "ytl", "xbr", "ybr"))
    if x1 == x2 or y1 == y2:
        raise ValueError("is a box without an area.")
    corners = np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)], np.float64)
    angle = math.radians(_angle(found))
    if angle:
        cos, sin = math.cos(angle), math.sin(angle)
        centre = corners.mean(axis=0)
        corners = (corners - centre) @ np.array([[cos, sin], [-sin, cos]]) + centre
    return Polygon(corners)


def _mask(found: ElementTree.Element, height: int, width: int) -> Pixels:
    """A mask: run lengths of 0 and 1 by turns, row by row in its rectangle."""
    keys = ("left", "top", "width", "height")
    sides = _whole_numbers([found.get(key) for key in keys])
    if sides is None:
        raise ValueError(
            f"is a mask whose {listed(keys)} are {listed(found.get(key) for key in keys)}; they "
            "must be whole numbers of pixels."
        )
    left, top, across, down = sides
    if not (0 < across <= width and 0 < down <= height):
        raise ValueError(
            f"is a mask of {across}x{down} pixels in an image of {width}x{height} (width x height)."
        )
    counts = _whole_numbers(found.get("rle", "").split(","))
    if counts is None or min(counts) < 0:
        raise ValueError("is a mask whose rle is no list of whole numbers.")
    if sum(counts) != across * down:
        raise ValueError(
            f"is a mask with run lengths of {quoted(sum(counts))} pixels; its rectangle has "
            f"{across * down}."
        )
    return Pixels(left, top, functools.partial(_decode, tuple(counts), down, across))


def _decode(counts: tuple[int, ...], height: int, width: int) -> np.ndarray:
    ones = np.arange(len(counts)) % 2 == 1
    return np.repeat(ones, counts).reshape(height, width)


def _encode(mask: np.ndarray) -> str:
    flat = mask.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    return ", ".join(map(str, [0, *counts] if flat[0] else counts))


def _numbers(found: ElementTree.Element, keys: Sequence[str]) -> list[float]:
    values = [_number(found.get(key, "")) for key in keys]
    for key, value in zip(keys, values, strict=True):
        if not is_coordinate(value):
            raise ValueError(
                f"is a {found.tag} with {key} {quoted(found.get(key))}; it must be a number of "
                "pixels."
            )
    return values  # type: ignore[return-value]


def _angle(found: ElementTree.Element) -> float:
    value = _number(found.get("rotation", "0"))
    if not is_coordinate(value):
        raise ValueError(
            f"is a {found.tag} with the rotation {quoted(found.get('rotation'))}; it is in degrees."
        )
    assert isinstance(value, float)
    return value


def _number(text: str) -> float | str:
    """A number, or the text if it is none."""
    try:
        return float(text)
    except ValueError:
        return text


def _whole_numbers(texts: Sequence[str | None]) -> list[int] | None:
    """Whole numbers; None if one of the texts is none."""
    try:
        return [int(text or "") for text in texts]
    except ValueError:
        return None


# ---- Writing -------------------------------------------------------------------------------------


def write_cvat(
    images: Iterable[LabelledImage], class_names: Sequence[str], folder: PathLike
) -> list[str]:
    """Write `annotations.xml` and `images/`, as CVAT imports them.

    An object is a polygon: as it was drawn, or along the edges of its pixels; a mask if it has
    holes or several parts.

    Arguments, result and errors are those of every format, see `objects`.
    """
    folder = start_folder(folder)
    check_class_names(class_names, folder)
    names, crowds = FileNames(), 0
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    labels = ElementTree.SubElement(
        ElementTree.SubElement(ElementTree.SubElement(root, "meta"), "task"), "labels"
    )
    for name in class_names:
        label = ElementTree.SubElement(labels, "label")
        ElementTree.SubElement(label, "name").text = name
        ElementTree.SubElement(label, "type").text = "any"
    for number, image in enumerate(images):
        stem, ending = names.pick(image)
        copy_image(image, folder / "images" / f"{stem}{ending}")
        found = ElementTree.SubElement(
            root,
            "image",
            id=str(number),
            name=f"{stem}{ending}",
            width=str(image.width),
            height=str(image.height),
        )
        kept = [labelled for labelled in image.objects if not labelled.is_crowd]
        crowds += len(image.objects) - len(kept)
        for labelled in kept:
            _add_element(found, labelled)
    ElementTree.indent(root)
    with written_beside(folder / ANNOTATIONS) as temporary:
        ElementTree.ElementTree(root).write(temporary, encoding="utf-8", xml_declaration=True)
    return crowds_left_out(crowds, "CVAT")


def _add_element(image: ElementTree.Element, labelled: LabelledObject) -> None:
    size = labelled.mask.shape
    common = {"label": labelled.class_name, "source": "manual", "occluded": "0", "z_order": "0"}
    parts = drawn_or_exact(labelled, lambda ring: Polygon(ring).draw(*size))
    if len(parts) == 1 and not parts[0].holes:
        points = ";".join(f"{x!r},{y!r}" for x, y in parts[0].ring.tolist())
        ElementTree.SubElement(image, "polygon", common, points=points)
        return
    x, y, cut = cropped(labelled.mask)
    ElementTree.SubElement(
        image,
        "mask",
        common,
        rle=_encode(cut),
        left=str(x),
        top=str(y),
        width=str(cut.shape[1]),
        height=str(cut.shape[0]),
    )
