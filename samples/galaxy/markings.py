"""Volunteers' markings of galaxies to instance masks, and the files of a data set.

**Markings** are JSON lines, one galaxy per line:

    {"object_id": "J0831", "size": 512, "volunteers": [
        {"spiral": [[[x, y], [x, y], [x, y]], ...], "bar": [[[x, y], ...]]}, {}, ...]}

`size` is the side of the square frame in which the polygons were drawn. It covers the whole
picture; x points right and y down from the upper left corner. Each volunteer has a list of closed
polygons per class; a class without polygons may be left out, and `{}` is a volunteer who saw
nothing to mark. The last point of a polygon is joined to the first. Other keys are ignored.

**A data set** has the files that `mrcnn.data.formats.table` reads: `pngs/{object_id}.png`,
`masks/{object_id}_mask.png` and the table `mask_labels.gzip`.

    prepare("data/markings.jsonl", "data", min_votes=5, min_area=60)

writes masks and table for the pictures in the folder. Files get their names when all of them are
complete, the table last, so a run that ends early changes nothing.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

# This checkout, in case the package is not installed.
ROOT_DIR = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
if ROOT_DIR not in sys.path:
    sys.path.append(ROOT_DIR)

from mrcnn.config import is_number  # noqa: E402
from mrcnn.data.dataset import Dataset  # noqa: E402
from mrcnn.data.formats.table import BOX_COLUMNS, COLUMNS, image_path, mask_path  # noqa: E402
from mrcnn.files import written_beside, written_together  # noqa: E402
from mrcnn.geometry.masks import extract_bboxes  # noqa: E402
from mrcnn.messages import shortened  # noqa: E402
from mrcnn.types import PathLike  # noqa: E402

# The names of the classes; the first has the label 1.
CLASSES = ("spiral", "bar")
LABELS = {name: label for label, name in enumerate(CLASSES, start=1)}
# A galaxy has at most one of these.
ONE_INSTANCE_CLASSES = ("bar",)

TABLE = "mask_labels.gzip"
MARKINGS = "markings.jsonl"
# For drawing: arms green, bars magenta.
COLORS = np.array([[0, 255, 120], [255, 90, 255]], np.uint8)


# ---- Votes ---------------------------------------------------------------------------------------


def markings_to_masks(
    markings: dict[str, Any],
    size: int,
    min_votes: int,
    min_area: int,
    one_instance_classes: Sequence[str] = ONE_INSTANCE_CLASSES,
) -> tuple[np.ndarray, np.ndarray]:
    """Instance masks of the pixels that enough volunteers agree on.

    Pixels of a class with at least `min_votes` votes are split into 8-connected components. A pixel
    belongs to one instance. Instances of `one_instance_classes` take their pixels first, so an arm
    drawn across the bar becomes two arms, one at each end.

    Args:
        markings: a galaxy of `read_markings`.
        size: side of the masks in pixels; polygons are scaled from their frame.
        min_votes: least number of volunteers per pixel, 1 or more.
        min_area: least number of pixels of an instance.
        one_instance_classes: classes of which only the largest component is kept.

    Returns:
        masks `[size, size, N]` bool that do not overlap, by class and then from top to bottom;
        class ids `[N]` int32, see `LABELS`.

    Raises:
        ValueError: `min_votes` exceeds the number of volunteers, or a class is unknown.
    """
    _check_votes(markings, min_votes, one_instance_classes)
    votes = count_votes(markings, size)
    free = np.ones((size, size), bool)
    instances = {}
    for name in sorted(CLASSES, key=lambda name: name not in one_instance_classes):
        parts = _components((votes[name] >= min_votes) & free, min_area)
        if name in one_instance_classes:
            parts = sorted(parts, key=np.sum, reverse=True)[:1]
        for part in parts:
            free &= ~part
        instances[name] = parts
    masks = [part for name in CLASSES for part in instances[name]]
    class_ids = [LABELS[name] for name in CLASSES for _ in instances[name]]
    return _stack(masks, size), np.array(class_ids, np.int32)


def count_votes(markings: dict[str, Any], size: int) -> dict[str, np.ndarray]:
    """Number of volunteers who marked each pixel, by class: `[size, size]` int32.

    A volunteer has one vote per pixel, however many polygons cover it.
    """
    votes = {name: np.zeros((size, size), np.int32) for name in CLASSES}
    for volunteer in markings["volunteers"]:
        for name, polygons in volunteer.items():
            votes[name] += fill_polygons(polygons, markings["size"], size)
    return votes


def fill_polygons(polygons: Sequence, frame: float, size: int) -> np.ndarray:
    """The union of closed polygons as `[size, size]` bool.

    A pixel is inside if its centre is, by the even-odd rule. Parts beyond the frame are cut off.

    Args:
        polygons: each `[K, (x, y)]` in a frame of `frame` x `frame`.
        size: side of the mask in pixels.
    """
    from skimage.draw import polygon as fill

    mask = np.zeros((size, size), bool)
    for polygon in polygons:
        # The centre of a pixel is at .5 in the frame, and at a whole number in scikit-image.
        x, y = np.asarray(polygon, float).T * (size / frame) - 0.5
        mask[fill(y, x, mask.shape)] = True
    return mask


def _check_votes(markings: dict, min_votes: int, one_instance_classes: Sequence[str]) -> None:
    count = len(markings["volunteers"])
    if not 1 <= min_votes <= count:
        raise ValueError(
            f"min_votes is {min_votes}, and galaxy {markings.get('object_id')} has {count} "
            f"volunteers; it must be from 1 to {count}."
        )
    unknown = [name for name in one_instance_classes if name not in CLASSES]
    if unknown:
        raise ValueError(
            f"one_instance_classes has {', '.join(map(repr, unknown))}; classes are "
            f"{', '.join(CLASSES)}."
        )


def _components(mask: np.ndarray, min_area: int) -> list[np.ndarray]:
    """8-connected components of at least `min_area` pixels, from top to bottom."""
    parts, count = ndimage.label(mask, np.ones((3, 3)))
    areas = np.bincount(parts.ravel(), minlength=count + 1)
    return [parts == i for i in range(1, count + 1) if areas[i] >= min_area]


def _stack(masks: list[np.ndarray], size: int) -> np.ndarray:
    return np.stack(masks, axis=-1) if masks else np.zeros((size, size, 0), bool)


# ---- JSON lines ----------------------------------------------------------------------------------


def read_markings(path: PathLike) -> list[dict[str, Any]]:
    """The galaxies of a file of markings, checked.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line cannot be used; the message has the file's name and the line's number.
    """
    galaxies: list[dict[str, Any]] = []
    lines: dict[str, int] = {}
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            galaxy = _parse(line, f"{path}, line {number}")
            first = lines.setdefault(galaxy["object_id"], number)
            if first != number:
                raise ValueError(
                    f"{path}, line {number}: object {galaxy['object_id']} is on line {first} "
                    "already; each galaxy has one line."
                )
            galaxies.append(galaxy)
    if not galaxies:
        raise ValueError(f"{path} holds no galaxy; each line must be one, a JSON object.")
    return galaxies


def write_markings(path: PathLike, galaxies: Iterable[dict[str, Any]]) -> None:
    """Write galaxies in the format of `read_markings`."""
    with written_beside(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for galaxy in galaxies:
            file.write(json.dumps(galaxy) + "\n")


def _parse(line: bytes, where: str) -> dict[str, Any]:
    try:
        galaxy = json.loads(line)
    except RecursionError:
        raise ValueError(f"{where} cannot be read: its JSON is nested too deeply.") from None
    except ValueError as error:  # no JSON, no UTF-8, or a number of more than 4,300 digits
        raise ValueError(f"{where} is not JSON: {error}.") from error
    if not isinstance(galaxy, dict):
        raise ValueError(
            f"{where} holds a JSON {type(galaxy).__name__}; a galaxy is an object with object_id, "
            "size and volunteers."
        )
    if problem := _problem_of_galaxy(galaxy):
        raise ValueError(f"{where}: {problem}")
    return galaxy | {"object_id": str(galaxy["object_id"])}


def _problem_of_galaxy(galaxy: dict) -> str | None:
    object_id, size = galaxy.get("object_id"), galaxy.get("size")
    if not _is_file_name(object_id):
        return (
            f"object_id is {_shown(object_id)}; it must be text or a whole number that can be part "
            "of a file's name."
        )
    if not is_number(size) or size <= 0:
        return (
            f"object {object_id} has size {_shown(size)}; it must be a positive number of pixels."
        )
    volunteers = galaxy.get("volunteers")
    if not isinstance(volunteers, list) or not volunteers:
        return (
            f"object {object_id} has volunteers {_shown(volunteers)}; it must be a list with one "
            "object per volunteer."
        )
    for number, volunteer in enumerate(volunteers):
        if problem := _problem_of_volunteer(volunteer):
            return f"object {object_id}, volunteer {number} {problem}"
    return None


def _problem_of_volunteer(volunteer: Any) -> str | None:
    if not isinstance(volunteer, dict):
        return f"is {_shown(volunteer)}; it must be an object of classes and their polygons."
    for name, polygons in volunteer.items():
        if name not in CLASSES:
            return f"has the class {name!r}; classes are {', '.join(CLASSES)}."
        if not isinstance(polygons, list):
            return f"has {name!r}: {_shown(polygons)}; it must be a list of polygons."
        for number, polygon in enumerate(polygons):
            if not _is_polygon(polygon):
                return (
                    f"has polygon {number} of {name!r} {_shown(polygon)}; a polygon is a list of "
                    "at least three points [x, y] of finite numbers."
                )
    return None


def _is_polygon(polygon: Any) -> bool:
    return (
        isinstance(polygon, list)
        and len(polygon) >= 3
        and all(isinstance(p, list) and len(p) == 2 and all(map(is_number, p)) for p in polygon)
    )


def _is_file_name(object_id: Any) -> bool:
    if type(object_id) is int:
        return True
    return (
        isinstance(object_id, str)
        and object_id.strip() not in ("", ".", "..")
        and not any(c in '/\\:*?"<>|' or ord(c) < 32 for c in object_id)
    )


def _shown(value: Any) -> str:
    return shortened(repr(value))


# ---- Files of a data set -------------------------------------------------------------------------


def prepare(
    markings: PathLike,
    folder: PathLike,
    min_votes: int,
    min_area: int,
    one_instance_classes: Sequence[str] = ONE_INSTANCE_CLASSES,
) -> dict[str, int]:
    """Write masks and table from a file of markings, for the pictures in `folder/pngs`.

    Args:
        markings: the file.
        min_votes, min_area, one_instance_classes: as for `markings_to_masks`; the area in pixels
            of the pictures.

    Returns:
        the number of galaxies, of those without anything marked, and of instances by class.

    Raises:
        FileNotFoundError: the file or a picture is missing.
        ValueError: a line cannot be used, or a picture is not square.
    """
    counts = {"galaxies": 0, "nothing marked": 0, **dict.fromkeys(CLASSES, 0)}

    def aggregated() -> Iterator[tuple[str, None, np.ndarray, np.ndarray]]:
        for galaxy in read_markings(markings):
            size = _picture_side(image_path(folder, galaxy["object_id"]), galaxy["object_id"])
            masks, class_ids = markings_to_masks(
                galaxy, size, min_votes, min_area, one_instance_classes
            )
            counts["galaxies"] += 1
            counts["nothing marked"] += len(class_ids) == 0
            for class_id in class_ids:
                counts[CLASSES[class_id - 1]] += 1
            yield galaxy["object_id"], None, masks, class_ids

    write_dataset(folder, aggregated())
    return counts


def write_dataset(
    folder: PathLike,
    galaxies: Iterable[tuple[str, np.ndarray | None, np.ndarray, np.ndarray]],
) -> None:
    """Write pictures, masks and table in the format of `mrcnn.data.formats.table`.

    Args:
        galaxies: for each its object id, its picture `[H, W, 3]` uint8 RGB or None to keep the
            file, masks `[H, W, N]` bool that do not overlap, class ids `[N]`.

    Raises:
        ValueError: masks overlap, are empty or are more than 255; an object appears twice, or its
            id cannot be a file's name; the message names the object. There is no galaxy.
    """
    import PIL.Image

    rows: list[tuple] = []
    object_ids: set[str] = set()
    with written_together() as temporary_of:
        for object_id, image, masks, class_ids in galaxies:
            _check_new(object_id, object_ids)
            if image is not None:
                path = temporary_of(image_path(folder, object_id))
                PIL.Image.fromarray(image).save(path, format="PNG")
            labels = label_image(masks, object_id)
            path = temporary_of(mask_path(folder, object_id))
            PIL.Image.fromarray(labels).save(path, format="PNG")
            rows += instance_rows(object_id, masks, class_ids)
        if not rows:
            raise ValueError(f"there is no galaxy to write to {folder}.")
        write_table(temporary_of(os.path.join(folder, TABLE)), rows)


def _check_new(object_id: str, object_ids: set[str]) -> None:
    if not _is_file_name(object_id):
        raise ValueError(f"object_id is {object_id!r}; it must be text that can be a file's name.")
    if object_id in object_ids:
        raise ValueError(
            f"object {object_id} appears twice; an object has one picture and one mask."
        )
    object_ids.add(object_id)


def label_image(masks: np.ndarray, object_id: str) -> np.ndarray:
    """Masks as grey values: mask n has the value n, the background 0.

    Args:
        masks: `[H, W, N]` bool; object_id: for messages.

    Returns:
        `[H, W]` uint8.

    Raises:
        ValueError: masks overlap, are empty or are more than 255.
    """
    count = masks.shape[-1]
    if count > 255:
        raise ValueError(f"object {object_id} has {count} instances; a mask file holds up to 255.")
    if masks.sum(axis=-1).max(initial=0) > 1:
        raise ValueError(
            f"object {object_id} has masks that overlap; in a mask file a pixel has one instance."
        )
    empty = np.flatnonzero(~masks.any(axis=(0, 1)))
    if len(empty):
        raise ValueError(f"object {object_id}: mask {empty[0]} has no pixel; leave it out.")
    return (masks * np.arange(1, count + 1)).sum(axis=-1).astype(np.uint8)


def instance_rows(object_id: str, masks: np.ndarray, class_ids: np.ndarray) -> list[tuple]:
    """Rows of an object's instances with the columns `COLUMNS`; one row with a NaN box if none."""
    if masks.shape[-1] == 0:
        return [(object_id, 0, *[math.nan] * 4)]
    boxes = extract_bboxes(masks)  # (y2, x2) outside; the table has the last pixel
    return [
        (object_id, int(class_id), float(x1), float(y1), float(x2 - 1), float(y2 - 1))
        for class_id, (y1, x1, y2, x2) in zip(class_ids, boxes, strict=True)
    ]


def write_table(path: PathLike, rows: list[tuple]) -> None:
    """Write rows of `instance_rows` as a parquet file."""
    try:
        import pandas
        import pyarrow  # noqa: F401  pandas writes with it
    except ImportError as error:
        raise ImportError(
            "the table is a parquet file, which pandas and pyarrow write: "
            'pip install "mask-rcnn-keras3[galaxy]"'
        ) from error
    types = {"object_id": str, "labels": np.int64, **dict.fromkeys(BOX_COLUMNS, float)}
    frame = pandas.DataFrame(rows, columns=list(COLUMNS)).astype(types)
    frame.to_parquet(path, engine="pyarrow", compression="gzip", index=False)


def _picture_side(path: str, object_id: str) -> int:
    import PIL.Image

    if not os.path.isfile(path):
        raise FileNotFoundError(f"object {object_id} has no picture: {path} does not exist.")
    try:
        with PIL.Image.open(path) as picture:
            width, height = picture.size
    except OSError as error:
        raise OSError(f"object {object_id}: {path} cannot be read as an image.") from error
    if width != height:
        raise ValueError(
            f"object {object_id}: {path} has {width}x{height} pixels; markings have a square frame "
            "and need a square picture."
        )
    return width


# ---- Looking -------------------------------------------------------------------------------------


def outline(image: np.ndarray, masks: np.ndarray, class_ids: np.ndarray) -> np.ndarray:
    """A copy of an image `[H, W, 3]` uint8 with the masks' outlines in their classes' colours."""
    drawn = image.copy()
    for i, class_id in enumerate(class_ids):
        mask = masks[:, :, i]
        drawn[mask & ~ndimage.binary_erosion(mask)] = COLORS[(class_id - 1) % len(COLORS)]
    return drawn


def draw_overlays(
    dataset: Dataset, folder: PathLike, image_ids: Iterable[int] | None = None
) -> None:
    """Write `folder/{object_id}.png`: the picture and, beside it, the picture with its outlines.

    Args:
        image_ids: which images; None for all.
    """
    import PIL.Image

    with written_together() as temporary_of:
        for image_id in dataset.image_ids if image_ids is None else image_ids:
            image = dataset.load_image(image_id)
            drawn = outline(image, *dataset.load_mask(image_id))
            path = temporary_of(Path(folder) / f"{dataset.image_info[image_id]['id']}.png")
            PIL.Image.fromarray(np.hstack([image, drawn])).save(path, format="PNG")


def contact_sheet(images: Sequence[np.ndarray], columns: int = 6) -> np.ndarray:
    """Images of one size side by side: `[H, W, 3]` uint8."""
    tiles = [np.pad(image, ((1, 1), (1, 1), (0, 0)), constant_values=64) for image in images]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    rows = [np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)]
    return np.vstack(rows)
