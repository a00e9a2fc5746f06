"""Supervisely's projects of images, as the platform exports them.

    dataset = SuperviselyDataset()
    dataset.load_supervisely("lemons")
    dataset.prepare()

A project is a folder with `meta.json`, which names the classes, and a folder per dataset with
`img/<image>` and `ann/<image>.json` (formerly `ann/<image without ending>.json`). A dataset may
have more datasets in its folder `datasets`. Objects are bitmaps, polygons with or without holes,
multipolygons and rectangles.

Supervisely's own library draws polygons with OpenCV: pixel (x, y) is the point (x, y), pixels on
the outline belong to the polygon, and those on the outline of a hole belong to the hole. A
rectangle includes its last row and column. The same is done here.
https://developer.supervisely.com/getting-started/supervisely-annotation-format/objects
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import logging
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import PIL.Image

from mrcnn.data.formats.data_folders import (
    FileNames,
    add_classes,
    check_class_names,
    check_folder,
    copy_image,
    crowds_left_out,
    files_in,
    folders_in,
    safe_name,
    start_folder,
)
from mrcnn.data.formats.drawn import DrawnDataset
from mrcnn.data.formats.image_folder import possible_sizes
from mrcnn.data.formats.objects import LabelledImage, LabelledObject
from mrcnn.data.formats.problems import (
    Problems,
    is_coordinate,
    outline,
    problem_of_image_size,
    quoted,
)
from mrcnn.files import read_json, write_text
from mrcnn.messages import listed, shortened
from mrcnn.types import PathLike

logger = logging.getLogger("mrcnn")

SHAPES = ("bitmap", "polygon", "multipolygon", "rectangle")
# A class of this shape may have objects of any.
_ANY = "any"
_META = "meta.json"
_DEEPEST = 20
# `is_supervisely` reads no larger file.
_LARGEST_META = 16_000_000
_DEFAULT_DATASET = "ds"
Geometry = dict[str, Any]


class Drawn(NamedTuple):
    """An object of a project: its shape and what describes it."""

    shape: str
    geometry: Geometry

    @property
    def ring(self) -> np.ndarray | None:
        """The ring of a polygon without holes; corners are centres of pixels, hence the half."""
        if self.shape != "polygon" or self.geometry["parts"][0]["interior"]:
            return None
        return np.array(self.geometry["parts"][0]["exterior"], np.float64) + 0.5

    def draw(self, height: int, width: int) -> np.ndarray:
        """The mask `[height, width]` bool."""
        return geometry_to_mask(self.shape, self.geometry, height, width)


class ProjectObject(NamedTuple):
    """An object of a project that is checked.

    Attributes:
        title: of its class. shape, geometry: what it covers, see `geometry_to_mask`.
        tags: as the file has them: texts, or objects with `name` and `value`.
    """

    title: str
    shape: str
    geometry: Geometry
    tags: list[Any]


class Annotated(NamedTuple):
    """An image with its checked objects."""

    name: str  # dataset and file, "ds/a.png"
    path: Path
    size: tuple[int, int]
    objects: list[ProjectObject]
    tags: list[Any]  # as those of an object


class SuperviselyDataset(DrawnDataset):
    """Images, classes and masks of Supervisely's projects, several of them if need be."""

    def load_supervisely(
        self,
        path: PathLike,
        source: str = "supervisely",
        classes: Sequence[str] | None = None,
        *,
        background: Sequence[str] = (),
        neutral: str | None = None,
        skip_invalid: bool = False,
    ) -> None:
        """Add the classes and images of a project, of all its datasets.

        Objects outside their image are left out, and the log has their number. Bitmaps are not
        decoded yet: a damaged one is an error of `load_mask`.

        Args:
            path: the project's folder.
            source: name of the source, for `add_class` and `add_image`.
            classes: class names, numbered from 1 in this order. None: those of `meta.json` that may
                have an area, in its order.
            background: classes whose objects are background.
            neutral: class of pixels of which it is unknown what they show, see `load_neutral`.
            skip_invalid: leave out images and objects that cannot be used, and log how many;
                otherwise they are an error.

        Raises:
            FileNotFoundError: there is no such folder, or no `meta.json` in it.
            ValueError: it is no project, images or objects cannot be used, or `classes` differs
                from the source's classes. All messages name the file, and the object.
        """
        check_folder(path)
        shapes = read_meta(path)
        given = _with_area(shapes, path) if classes is None else classes
        check_class_names(given, path)
        special = [*background, *([] if neutral is None else [neutral])]
        names = [name for name in given if name not in special]
        problems = Problems(path, skip_invalid)
        found = ProjectReader([*names, *special], shapes, problems)
        images = [image for image in map(found.read, project_items(Path(path), problems)) if image]
        problems.settle()
        if not images:
            raise ValueError(
                f"{path} has no image that can be used; a project has <dataset>/img/<image> and "
                "<dataset>/ann/<image>.json."
            )
        found.log_outside(path)
        ids = add_classes(self, source, names, path)
        for image in images:
            objects = [one for one in image.objects if one.title in ids]
            self.add_image(
                source,
                image_id=image.name,
                path=os.fspath(image.path),
                file_name=image.name,
                height=image.size[0],
                width=image.size[1],
                objects=[[Drawn(one.shape, one.geometry)] for one in objects],
                class_ids=[ids[one.title] for one in objects],
                object_tags=[one.tags for one in objects],
                annotation_file=os.fspath(path),
                tags=image.tags,
                neutral=[
                    Drawn(shape, geometry)
                    for name, shape, geometry, _ in image.objects
                    if name == neutral
                ],
            )

    def load_neutral(self, image_id: int) -> np.ndarray | None:
        """The pixels of the objects of the class `neutral`, `[H, W]` bool; None without any."""
        info = self.image_info[image_id]
        drawn = [one.draw(info["height"], info["width"]) for one in info.get("neutral", ())]
        return np.logical_or.reduce(drawn) if drawn else None


def is_supervisely(path: PathLike) -> bool:
    """Whether a folder is a Supervisely project of images, from `meta.json` and the folders."""
    try:
        meta = Path(path, _META)
        if not meta.is_file() or meta.stat().st_size > _LARGEST_META:
            return False
        read_meta(path)
        return next(_datasets(Path(path)), None) is not None
    except (OSError, ValueError):
        return False


# ---- The project ---------------------------------------------------------------------------------


def read_meta(path: PathLike) -> dict[str, str]:
    """The shape of each class in a project's `meta.json`, in its order.

    Raises:
        FileNotFoundError: there is no such file; ValueError: it does not name classes.
    """
    file = Path(path, _META)
    if not file.is_file():
        raise FileNotFoundError(f"{path} has no {_META}, which names a project's classes.")
    content = read_json(file)
    classes = content.get("classes") if isinstance(content, dict) else None
    if not isinstance(classes, list):
        raise ValueError(
            f"{file} is no {_META} of Supervisely: it holds {outline(content)}, and must hold an "
            "object with a list `classes`."
        )
    shapes: dict[str, str] = {}
    problems = Problems(file)
    for number, entry in enumerate(classes):
        title = entry.get("title") if isinstance(entry, dict) else None
        shape = entry.get("shape") if isinstance(entry, dict) else None
        if not isinstance(title, str) or not isinstance(shape, str):
            problems.add(f"class {number}", "has no title or no shape; both must be text.")
        elif title in shapes:
            problems.add(f"class {number}", f"has the title {quoted(title)}, which is there twice.")
        else:
            shapes[title] = shape
    problems.settle()
    return shapes


def _with_area(shapes: dict[str, str], path: PathLike) -> list[str]:
    """The classes whose objects may have an area; the log names the others."""
    names = [name for name, shape in shapes.items() if shape in (*SHAPES, _ANY)]
    others = [f"{name} ({shape})" for name, shape in shapes.items() if name not in names]
    if not names:
        raise ValueError(
            f"{Path(path, _META)} has no class with an area: it has {listed(others)}; the shapes "
            f"{listed(SHAPES)} have one."
        )
    if others:
        logger.warning("%s: classes without an area are left out: %s.", path, listed(others))
    return names


def _datasets(folder: Path, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Path]]:
    """Name and folder of each dataset with annotations, those inside others too."""
    for inner in folders_in(folder):
        name = f"{prefix}{inner.name}"
        if (inner / "ann").is_dir():
            yield name, inner
        # A link may lead back up.
        if (inner / "datasets").is_dir() and depth < _DEEPEST:
            yield from _datasets(inner / "datasets", f"{name}/", depth + 1)


class Item(NamedTuple):
    """An image file and its annotation file."""

    name: str  # dataset and file, "ds/a.png"
    image: Path
    annotation: Path


def project_items(project: Path, problems: Problems) -> Iterator[Item]:
    """Images with their annotations; what has no partner is a problem."""
    for name, folder in _datasets(project):
        images = {path.name: path for path in files_in(folder / "img")}
        by_stem: dict[str, list[str]] = {}
        for image in images:
            by_stem.setdefault(Path(image).stem, []).append(image)
        annotated = set()
        for annotation in files_in(folder / "ann", (".json",)):
            stem = annotation.name[: -len(".json")]
            possible = [stem] if stem in images else by_stem.get(stem, [])
            if len(possible) == 1 and possible[0] in annotated:
                problems.add(
                    f"{name}/ann/{annotation.name}",
                    f"is a second annotation of {possible[0]}; an image must have one.",
                )
            elif len(possible) == 1:
                annotated.add(possible[0])
                yield Item(f"{name}/{possible[0]}", images[possible[0]], annotation)
            else:
                found = f"could belong to {listed(possible)}" if possible else "has no image"
                problems.add(
                    f"{name}/ann/{annotation.name}",
                    f"{found}; an annotation has the name of its image with .json after it.",
                )
        for image in sorted(images.keys() - annotated):
            problems.add(f"{name}/img/{image}", f"has no annotation ann/{image}.json.")


class ProjectReader:
    """Reads annotation files and checks their objects."""

    def __init__(self, names: list[str], shapes: dict[str, str], problems: Problems) -> None:
        self._names, self._shapes, self._problems = names, shapes, problems
        self._outside: list[str] = []

    def read(self, item: Item) -> Annotated | None:
        """An image with its objects; None if the image cannot be used."""
        entry = f"image {item.name}"
        try:
            content = read_json(item.annotation)
            sizes = possible_sizes(item.image)
        except (OSError, ValueError) as error:
            self._problems.add(entry, f"cannot be used: {error}")
            return None
        problem, size = _stated_size(content, sizes)
        if problem or size is None:
            self._problems.add(entry, str(problem))
            return None
        objects = []
        for number, found in enumerate(content["objects"]):
            place = f"{entry}, object {number}"
            problem = self._problem_of_object(found)
            if problem:
                self._problems.add(place, problem)
                continue
            shape = self._shape(found)
            if _is_outside(shape, found, *size):
                self._outside.append(f"{place} ({shape})")
            else:
                title, geometry = found["classTitle"], _geometry(shape, found)
                objects.append(ProjectObject(title, shape, geometry, _tags(found)))
        return Annotated(item.name, item.image, size, objects, _tags(content))

    def log_outside(self, path: PathLike) -> None:
        """Log the number of objects outside their image."""
        if self._outside:
            logger.warning(
                "%s: %s lies outside its image; objects left out for that: %d.",
                path,
                self._outside[0],
                len(self._outside),
            )

    def _shape(self, found: Geometry) -> str:
        """What an object is; old files say it only in the class, or not at all."""
        stated = found.get("geometryType") or found.get("shape")
        if stated is None:
            stated = self._shapes.get(found.get("classTitle", ""), _ANY)
        if stated == _ANY:
            return "bitmap" if found.get("bitmap") else "polygon"
        return stated if isinstance(stated, str) else quoted(stated)

    def _problem_of_object(self, found: Any) -> str | None:
        if not isinstance(found, dict):
            return f"is {quoted(found)}; it must be a JSON object."
        title = found.get("classTitle")
        if not isinstance(title, str) or title not in self._names:
            return f"has the unknown class {quoted(title)}; the classes are {listed(self._names)}."
        shape = self._shape(found)
        if shape not in SHAPES:
            return (
                f"is a {shortened(shape)}, which has no area; Mask R-CNN needs one of "
                f"{listed(SHAPES)}."
            )
        if shape == "bitmap":
            return _problem_of_bitmap(found.get("bitmap"))
        if shape == "rectangle":
            return _problem_of_rectangle(found.get("points"))
        parts = found.get("parts") if shape == "multipolygon" else [found.get("points")]
        if not isinstance(parts, list) or not parts:
            return f"has the parts {quoted(parts)}; it must be a list of polygons."
        return next(filter(None, map(_problem_of_polygon, parts)), None)


def _tags(content: dict[str, Any]) -> list[Any]:
    """The tags of an image or an object that have a name."""
    tags = content.get("tags")
    return [tag for tag in tags if tag_names([tag])] if isinstance(tags, list) else []


def tag_names(tags: Iterable[Any]) -> list[str]:
    """The names of tags; old files have texts in place of objects."""
    names = (tag.get("name") if isinstance(tag, dict) else tag for tag in tags)
    return [name for name in names if isinstance(name, str)]


def _stated_size(
    content: Any, sizes: list[tuple[int, int]]
) -> tuple[str | None, tuple[int, int] | None]:
    """What is wrong with an annotation file as a whole, or its (height, width)."""
    if not isinstance(content, dict) or not isinstance(content.get("objects"), list):
        return (
            f"has an annotation that holds {outline(content)}; it must be an object with `size` "
            "and a list `objects`."
        ), None
    stated = content.get("size")
    stated = stated if isinstance(stated, dict) else {}
    height: Any = stated.get("height")
    width: Any = stated.get("width")
    if problem := problem_of_image_size(height, width):
        return problem, None
    if (height, width) not in sizes:
        return (
            f"has {sizes[0][0]}x{sizes[0][1]} pixels (height x width), and its annotation states "
            f"{height}x{width}; both must be of one size."
        ), None
    return None, (int(height), int(width))


# ---- Checks of objects ---------------------------------------------------------------------------


def _problem_of_bitmap(bitmap: Any) -> str | None:
    if not isinstance(bitmap, dict) or not isinstance(bitmap.get("data"), str):
        return f"has the bitmap {quoted(bitmap)}; it must have `data`, a string, and `origin`."
    if not _is_point(bitmap.get("origin")):
        return f"has the origin {quoted(bitmap.get('origin'))}; it must be [x, y] in pixels."
    return None


def _problem_of_rectangle(points: Any) -> str | None:
    exterior = points.get("exterior") if isinstance(points, dict) else None
    if not isinstance(exterior, list) or len(exterior) != 2 or not all(map(_is_point, exterior)):
        return f"has the corners {quoted(exterior)}; a rectangle is [[left, top], [right, bottom]]."
    return None


def _problem_of_polygon(points: Any) -> str | None:
    exterior = points.get("exterior") if isinstance(points, dict) else None
    interior = points.get("interior", []) if isinstance(points, dict) else []
    if not isinstance(interior, list):
        return f"has the interior {quoted(interior)}; it must be a list of holes."
    for what, ring in [("exterior", exterior), *(("hole", hole) for hole in interior)]:
        if not isinstance(ring, list) or len(ring) < 3:
            return f"has the {what} {quoted(ring)}; it must be a list of at least three points."
        wrong = [point for point in ring if not _is_point(point)]
        if wrong:
            return f"has the point {quoted(wrong[0])} in its {what}; a point is [x, y] in pixels."
    return None


def _is_point(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(is_coordinate, value))


def _geometry(shape: str, found: Geometry) -> Geometry:
    """What describes an object's area, without the rest of its entry."""
    if shape == "bitmap":
        return {key: found["bitmap"][key] for key in ("data", "origin")}
    parts = found["parts"] if shape == "multipolygon" else [found["points"]]
    return {
        "parts": [
            {"exterior": part["exterior"], "interior": part.get("interior", [])} for part in parts
        ]
    }


def _is_outside(shape: str, found: Geometry, height: int, width: int) -> bool:
    """Whether nothing of an object can lie in its image."""
    if shape == "bitmap":
        x, y = _rounded([found["bitmap"]["origin"]])[0]
        return x >= width or y >= height  # how far it reaches is known when it is decoded
    parts = _geometry(shape, found)["parts"]
    points = np.concatenate([_rounded(part["exterior"]) for part in parts])
    (x1, y1), (x2, y2) = points.min(axis=0), points.max(axis=0)
    return bool(x2 < 0 or y2 < 0 or x1 >= width or y1 >= height)


def _rounded(points: Sequence[Sequence[float]]) -> np.ndarray:
    """Points `[K, (x, y)]` int64. The library rounds halves to even, as `np.rint` does."""
    return np.rint(np.array(points, np.float64)).astype(np.int64)


# ---- Masks ---------------------------------------------------------------------------------------


def geometry_to_mask(shape: str, geometry: Geometry, height: int, width: int) -> np.ndarray:
    """The pixels of an image that an object covers: `[height, width]` bool.

    Raises:
        ValueError: a bitmap that cannot be decoded; the message begins with a verb.
    """
    mask = np.zeros((height, width), bool)
    if shape == "bitmap":
        _paste(mask, decode_bitmap(geometry["data"], height, width), geometry["origin"])
    elif shape == "rectangle":
        corners = _rounded(geometry["parts"][0]["exterior"])
        (x1, y1), (x2, y2) = corners.min(axis=0), corners.max(axis=0)
        mask[max(y1, 0) : max(y2 + 1, 0), max(x1, 0) : max(x2 + 1, 0)] = True
    else:
        for part in geometry["parts"]:
            mask |= _polygon_to_mask(part, height, width)
    return mask


def _polygon_to_mask(part: Geometry, height: int, width: int) -> np.ndarray:
    canvas = np.zeros((height, width), np.uint8)
    cv2.fillPoly(canvas, [_rounded(part["exterior"]).astype(np.int32)], 1)
    for hole in part["interior"]:
        cv2.fillPoly(canvas, [_rounded(hole).astype(np.int32)], 0)
    return canvas.astype(bool)


def _paste(mask: np.ndarray, bitmap: np.ndarray, origin: Sequence[float]) -> None:
    """Put a bitmap into a mask; what lies outside is cut off."""
    x, y = _rounded([origin])[0].tolist()
    bitmap = bitmap[max(-y, 0) :, max(-x, 0) :]
    target = mask[max(y, 0) :, max(x, 0) :]
    rows, columns = min(len(bitmap), len(target)), min(bitmap.shape[1], target.shape[1])
    target[:rows, :columns] = bitmap[:rows, :columns]


def decode_bitmap(data: str, height: int, width: int) -> np.ndarray:
    """A bitmap's `data` as `[h, w]` bool.

    It is a PNG, in base64 and most often packed by zlib. Pixels that are not transparent belong to
    the object; in a PNG without transparency, those that are not black.

    Args:
        height, width: of the image; a bitmap is not larger.

    Raises:
        ValueError: no such data; the message begins with a verb.
    """
    try:
        packed = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"has a bitmap that is not in base64: {error}.") from error
    png = _unpacked(packed, height * width)
    try:
        with PIL.Image.open(io.BytesIO(png), formats=["PNG"]) as picture:
            if picture.height > height or picture.width > width:
                raise _TooLarge(
                    f"has a bitmap of {picture.height}x{picture.width} in an image of "
                    f"{height}x{width}; a bitmap is not larger than its image."
                )
            return _covered(picture)
    except _TooLarge:
        raise
    except Exception as error:  # decoders raise any error: SyntaxError, struct.error, ...
        raise ValueError(
            f"has a bitmap that is no PNG or a damaged one: {shortened(error, 200)}."
        ) from error


class _TooLarge(ValueError):
    """A bitmap that is larger than its image."""


def _unpacked(packed: bytes, pixels: int) -> bytes:
    """What zlib packed, or the data themselves if it did not."""
    if packed.startswith(b"\x89PNG"):
        return packed
    # A PNG has at most eight bytes per pixel before it compresses them, and texts of its own.
    limit = 8 * pixels + (1 << 20)
    unpacker = zlib.decompressobj()
    try:
        png = unpacker.decompress(packed, limit)
    except zlib.error as error:
        raise ValueError(f"has a bitmap that zlib cannot unpack: {error}.") from error
    if not unpacker.eof:
        reason = "is cut off" if len(png) < limit else f"unpacks to more than {limit:,} bytes"
        raise ValueError(f"has a bitmap that {reason}.")
    return png


def _covered(picture: PIL.Image.Image) -> np.ndarray:
    """The pixels of a PNG that belong to the object: `[h, w]` bool."""
    if picture.mode in ("LA", "RGBA") or "transparency" in picture.info:
        return np.asarray(picture.convert("RGBA"))[:, :, 3] > 0
    pixels = np.asarray(picture.convert("RGB") if picture.mode == "P" else picture)
    return np.asarray(pixels.any(axis=2) if pixels.ndim == 3 else pixels != 0)


# ---- Writing -------------------------------------------------------------------------------------


def write_supervisely(
    images: Iterable[LabelledImage], class_names: Sequence[str], folder: PathLike
) -> list[str]:
    """Write a project with bitmaps. Each folder of images becomes a dataset.

    Image files are copied unchanged. Images that lie in no folder go to the dataset `ds`.

    Arguments, result and errors are those of every format, see `objects`.
    """
    folder = start_folder(folder)
    check_class_names(class_names, folder)
    names: dict[str, FileNames] = {}
    crowds = 0
    tags: dict[str, dict[str, Any]] = {}
    for image in images:
        dataset = _dataset_folder(image.name)
        # Upper and lower case are one folder for some file systems.
        picked = names.setdefault(dataset.casefold(), FileNames())
        stem, ending = picked.pick(image._replace(name=image.name.rsplit("/", 1)[-1]))
        copy_image(image, folder / dataset / "img" / f"{stem}{ending}")
        kept = [labelled for labelled in image.objects if not labelled.is_crowd]
        crowds += len(image.objects) - len(kept)
        annotation = {
            "description": "",
            "tags": list(image.tags),
            "size": {"height": image.height, "width": image.width},
            "objects": [_entry(labelled) for labelled in kept],
        }
        tags |= _described_tags([*image.tags, *(tag for one in kept for tag in one.tags)])
        text = json.dumps(annotation, ensure_ascii=False)
        write_text(folder / dataset / "ann" / f"{stem}{ending}.json", text)
    meta = _meta(class_names, list(tags.values()))
    write_text(folder / _META, json.dumps(meta, ensure_ascii=False, indent=1))
    return crowds_left_out(crowds, "Supervisely")


def _described_tags(tags: Iterable[Any]) -> dict[str, dict[str, Any]]:
    """Tags as `meta.json` describes them, by name: with a value of some kind, or without."""
    found = {}
    for tag in tags:
        (name,) = tag_names([tag])
        value = tag.get("value") if isinstance(tag, dict) else None
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        kind = "none" if value is None else "any_number" if number else "any_string"
        found[name] = {"name": name, "value_type": kind, "color": colour_of(len(name))}
    return found


def _meta(class_names: Sequence[str], tags: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    classes = [
        {"title": name, "shape": "bitmap", "color": colour_of(number)}
        for number, name in enumerate(class_names)
    ]
    return {"classes": classes, "tags": list(tags), "projectType": "images"}


def colour_of(number: int) -> str:
    """A colour for a class; the golden angle keeps the hues of many classes apart."""
    hue = np.uint8(number * 180 * 0.381966 % 180)
    colour = np.array([[[hue, 200, 230]]], np.uint8)
    red, green, blue = cv2.cvtColor(colour, cv2.COLOR_HSV2RGB)[0, 0]
    return f"#{red:02X}{green:02X}{blue:02X}"


def _dataset_folder(name: str) -> str:
    """The folder of an image's dataset: `a/datasets/b` for an image `a/b/c.png`."""
    parts = [safe_name(part) for part in name.split("/")[:-1]]
    return "/datasets/".join(parts or [_DEFAULT_DATASET])


def _entry(labelled: LabelledObject) -> Geometry:
    """An object's entry in an annotation file, with the bitmap cut to its pixels."""
    rows, columns = (np.flatnonzero(labelled.mask.any(axis=axis)) for axis in (1, 0))
    cut = labelled.mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return {
        "description": "",
        "geometryType": "bitmap",
        "tags": list(labelled.tags),
        "classTitle": labelled.class_name,
        "bitmap": {"data": encode_bitmap(cut), "origin": [int(columns[0]), int(rows[0])]},
    }


def encode_bitmap(mask: np.ndarray) -> str:
    """A mask `[h, w]` bool as a bitmap's `data`: base64 of a PNG that zlib packed."""
    picture = PIL.Image.fromarray(mask.astype(np.uint8))
    # Supervisely's decoder takes the alpha channel, so the background must be transparent.
    picture.putpalette([0, 0, 0, 255, 255, 255])
    png = io.BytesIO()
    picture.save(png, "PNG", transparency=0)
    return base64.b64encode(zlib.compress(png.getvalue())).decode("ascii")
