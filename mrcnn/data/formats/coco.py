"""COCO-format annotations: one JSON file of images, annotations and categories.

    dataset = CocoFormatDataset()
    dataset.load_annotations("instances_train2017.json", "train2017")
    dataset.prepare()

The whole file is checked before any part of it is used. Every annotation is checked, but no mask is
drawn, so the 860,000 annotations of COCO's largest file take seconds. Problems that show only when
a mask is drawn are errors of `load_mask`.

Masks have the size that the file states for their image. They come from polygons or run lengths,
see `segmentation`.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import logging
import math
import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mrcnn import files
from mrcnn.data.dataset import Dataset
from mrcnn.data.formats.data_folders import (
    FileNames,
    check_class_names,
    copy_image,
    start_folder,
)
from mrcnn.data.formats.image_folder import find_images, stored_size
from mrcnn.data.formats.objects import LabelledImage, LabelledObject
from mrcnn.data.formats.outlines import drawn_or_exact
from mrcnn.data.formats.problems import Problems, outline, problem_of_image_size, quoted
from mrcnn.data.formats.segmentation import (
    decode_counts as decode_counts,
)
from mrcnn.data.formats.segmentation import (
    problem_of_segmentation,
    segmentation_to_mask,
    segmentation_to_rle,
)
from mrcnn.geometry.rle import encode_masks
from mrcnn.messages import listed
from mrcnn.types import PathLike

if TYPE_CHECKING:  # imported in the functions that use it: importing mrcnn must stay fast
    from pycocotools.coco import COCO

logger = logging.getLogger("mrcnn")

Crowds = Literal["crowds", "objects"]
PARTS = ("images", "annotations", "categories")
# If the file states more pixels than this (4096x4096), the image's header must confirm the size.
_LARGE = 2**24
# Ids are stored in arrays of 64 bits.
_LARGEST_ID = 2**63 - 1
# Larger files are not read as a whole to find out what they are.
_LOOKED_AT = 20_000_000
# At least this many suspicious objects, or more than half of all, cause a warning.
_DOZEN = 12


class CocoFormatDataset(Dataset):
    """Images, classes and masks of COCO-format files, several of them if need be."""

    def load_annotations(
        self,
        annotations: PathLike,
        image_dir: PathLike,
        source: str = "coco",
        class_ids: Sequence[int] | None = None,
        *,
        skip_invalid: bool = False,
        crowds: Crowds = "crowds",
    ) -> dict[str, Any]:
        """Add the classes and images of an annotation file.

        Classes are numbered from 1 in order of their category ids, which may have gaps. A second
        file's categories are matched by name with the classes that the source has already.

        Args:
            annotations: the JSON file; image_dir: the folder that its file names start from.
            source: name of the source, for `add_class` and `add_image`.
            class_ids: category ids to take, numbered in this order, with the images that show
                any of them and no other objects. None or empty: all categories and all images.
            skip_invalid: leave out images and annotations that cannot be used, and log how many;
                otherwise they are an error.
            crowds: what entries with `iscrowd` 1 are. "crowds": areas of many objects, which train
                nothing, as COCO means it. "objects": one object each, as CVAT exports brush masks.

        Returns:
            The content of the file, checked and completed, see `check_annotations`. Category ids
            are those of the source's classes.

        Raises:
            FileNotFoundError: the annotation file, or an image that it names.
            ValueError: it is no COCO-format file; entries cannot be used; there is no image; or a
                category could be several of the source's classes. All messages name the file.
        """
        content = read_json(annotations)
        self.add_annotations(
            content,
            annotations,
            image_dir,
            source,
            class_ids,
            skip_invalid=skip_invalid,
            crowds=crowds,
        )
        return content

    def add_annotations(
        self,
        content: dict[str, Any],
        annotations: PathLike,
        image_dir: PathLike,
        source: str = "coco",
        class_ids: Sequence[int] | None = None,
        *,
        skip_invalid: bool = False,
        crowds: Crowds = "crowds",
    ) -> None:
        """`load_annotations` for content that was read from the file, and perhaps changed."""
        if crowds not in ("crowds", "objects"):
            raise ValueError(f"crowds is {crowds!r}; it must be 'crowds' or 'objects'.")
        check_annotations(content, annotations, skip_invalid)
        if crowds == "objects":
            for annotation in content["annotations"]:
                annotation["iscrowd"] = 0
        categories = {category["id"]: category["name"] for category in content["categories"]}
        wanted = list(class_ids) if class_ids is not None and len(class_ids) else sorted(categories)
        _check_class_ids(wanted, categories, annotations)
        known = {info["id"]: info["name"] for info in self.class_info if info["source"] == source}
        numbers = _match_categories(categories, wanted, known, source, annotations)
        images, by_image = _chosen_images(content, wanted, annotations)
        paths = find_images(
            {_called(image): image["file_name"] for image in images},
            image_dir,
            annotations,
            skip_invalid,
        )
        images = [image for image in images if _called(image) in paths]
        images = _without_oversized(images, paths, annotations, skip_invalid)

        _warn_of_crowds(content, annotations)
        _warn_of_specks(content, annotations)
        _renumber(content, numbers)
        for class_id in wanted:
            self.add_class(source, numbers[class_id], categories[class_id])
        for image in images:
            self.add_image(
                source,
                image_id=image["id"],
                path=paths[_called(image)],
                width=image["width"],
                height=image["height"],
                annotations=by_image[image["id"]],
                annotation_file=os.fspath(annotations),
            )

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Masks and classes of an image.

        Returns:
            masks `[H, W, N]` bool, of the size that the file states; class ids `[N]` int32,
            negative for a crowd. An object that covers no pixel is left out.

        Raises:
            ValueError: an annotation whose mask cannot be drawn, named with its file.
        """
        info = self.image_info[image_id]
        if "annotations" not in info:
            return super().load_mask(image_id)
        masks = np.zeros((info["height"], info["width"], len(info["annotations"])), bool, order="F")
        class_ids = np.zeros(masks.shape[2], np.int32)
        for i, annotation in enumerate(info["annotations"]):
            try:
                masks[:, :, i] = segmentation_to_mask(
                    annotation["segmentation"], info["height"], info["width"]
                )
            except ValueError as error:
                raise ValueError(
                    f"{info['annotation_file']}: annotation {annotation['id']} {error}"
                ) from error
            class_id = self.map_source_class_id(f"{info['source']}.{annotation['category_id']}")
            class_ids[i] = -class_id if annotation["iscrowd"] else class_id
        drawn = masks.any(axis=(0, 1))
        return (masks, class_ids) if drawn.all() else (masks[:, :, drawn], class_ids[drawn])

    def load_rings(self, image_id: int) -> list[np.ndarray | None]:
        """The polygons as they were drawn, for the objects that `load_mask` returns.

        Returns:
            A ring `[K, (x, y)]` float64 for an object that is one polygon; None for other objects.
        """
        info = self.image_info[image_id]
        size = info["height"], info["width"]
        segmentations = [one["segmentation"] for one in info.get("annotations", ())]
        return [
            _ring(segmentation)
            for segmentation in segmentations
            if segmentation_to_mask(segmentation, *size).any()
        ]


def _ring(segmentation: list | dict) -> np.ndarray | None:
    if isinstance(segmentation, list) and len(segmentation) == 1:
        return np.array(segmentation[0], np.float64).reshape(-1, 2)
    return None


def is_coco(path: PathLike) -> bool:
    """Whether this is a JSON file in COCO's format; of a large file, only the ends are read."""
    try:
        size = os.path.getsize(path)
        if os.fspath(path).lower().endswith(".json") and size > _LOOKED_AT:
            with open(path, "rb") as file:
                start = file.read(_LOOKED_AT)
                file.seek(-_LOOKED_AT, os.SEEK_END)
                ends = start + file.read()
            parts = sum(f'"{part}"'.encode() in ends for part in PARTS)
            # A list of images may be longer than what is read.
            return parts >= 2 or (b'"images"' in start and b'"file_name"' in start)
        content = files.read_json(path)
        return isinstance(content, dict) and all(isinstance(content.get(p), list) for p in PARTS)
    except (OSError, ValueError):
        return False


# ---- Reading and checking ------------------------------------------------------------------------


def read_json(path: PathLike) -> Any:
    """The value that a JSON file holds; large files are read faster than by `mrcnn.files`.

    Raises:
        FileNotFoundError: there is no such file; ValueError: it is no JSON.
    """
    # Without the garbage collector, COCO's largest file takes 12 s instead of 19 s.
    collects = gc.isenabled()
    gc.disable()
    try:
        return files.read_json(path)
    finally:
        if collects:
            gc.enable()


def as_coco(content: dict[str, Any]) -> COCO:
    """Pycocotools' `COCO` of an annotation file's content, without reading the file again."""
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = content
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def check_annotations(content: Any, path: PathLike, skip_invalid: bool = False) -> None:
    """Check that this is the content of a COCO-format file with masks, and complete it.

    Ids are whole numbers and unique, images have a file name and a size, annotations an image and
    a category that exist and a segmentation that fits the image. `iscrowd`, `bbox` and `area`,
    which COCO's evaluation reads, are filled in where they are missing or null.

    Args:
        content: what `read_json` returned; path: the file's name for messages.
        skip_invalid: remove images and annotations that cannot be used, and log how many;
            annotations of such images are removed too.

    Raises:
        ValueError: entries that cannot be used, with the file's name.
    """
    _check_outline(content, path)
    for part in ("images", "categories"):
        if not content[part]:
            raise ValueError(f"{path} has no {part}: the list is empty.")
    categories = _checked_categories(content, path)
    problems = Problems(path, skip_invalid)
    images, unusable = _usable_images(content, problems)
    annotations = {}
    for annotation_id, annotation in _entries(content, "annotations", problems).items():
        image_id = annotation.get("image_id")
        if type(image_id) is int and image_id in unusable:
            continue
        problem = _problem_of_annotation(annotation, images, categories, skip_invalid)
        if problem:
            problems.add(f"annotation {annotation_id}", problem)
        else:
            annotations[annotation_id] = annotation
    problems.settle()
    if problems.count:
        if not images:
            raise ValueError(f"{path} has no image that can be used.")
        content["images"] = list(images.values())
        content["annotations"] = list(annotations.values())


def entries_by_id(content: Any, part: str, path: PathLike) -> dict[int, dict]:
    """The images, annotations or categories of a COCO-format file by their ids.

    Raises:
        ValueError: the content is not that of a COCO-format file, or an id is missing or repeated.
    """
    _check_outline(content, path)
    problems = Problems(path)
    entries = _entries(content, part, problems)
    problems.settle()
    return entries


def _check_outline(content: Any, path: PathLike) -> None:
    if not isinstance(content, dict) or not all(isinstance(content.get(p), list) for p in PARTS):
        raise ValueError(
            f"{path} is not a COCO annotation file: it holds {outline(content)}, and must hold an "
            'object {"images": [...], "annotations": [...], "categories": [...]}.'
        )


def _entries(content: dict[str, Any], part: str, problems: Problems) -> dict[int, dict]:
    """The entries of a part that have a unique id; the others are problems."""
    entries: dict[int, dict] = {}
    for position, entry in enumerate(content[part]):
        entry_id = entry.get("id") if isinstance(entry, dict) else None
        if type(entry_id) is not int or abs(entry_id) > _LARGEST_ID:
            problems.add(
                f"entry {position} of {part!r}",
                f"has the id {quoted(entry_id)}; it must be a whole number of 64 bits.",
            )
        elif entries.setdefault(entry_id, entry) is not entry:
            problems.add(f"two entries of {part!r}", f"have the id {entry_id}.")
    return entries


def _checked_categories(content: dict[str, Any], path: PathLike) -> dict[int, dict]:
    categories = entries_by_id(content, "categories", path)
    problems = Problems(path)
    for category_id, category in categories.items():
        if not isinstance(category.get("name"), str):
            problems.add(
                f"category {category_id}",
                f"has the name {quoted(category.get('name'))}; it must be text.",
            )
    problems.settle()
    return categories


def _usable_images(content: dict[str, Any], problems: Problems) -> tuple[dict[int, dict], set[int]]:
    """The images by id, and the ids of those that cannot be used."""
    images = _entries(content, "images", problems)
    unusable = set()
    for image_id, image in images.items():
        if problem := _problem_of_image(image):
            problems.add(f"image {image_id}", problem)
            unusable.add(image_id)
    return {i: image for i, image in images.items() if i not in unusable}, unusable


def _problem_of_image(image: dict) -> str | None:
    if not isinstance(image.get("file_name"), str) or not image["file_name"]:
        return f"has the file_name {quoted(image.get('file_name'))}; it must be a path."
    return problem_of_image_size(image.get("height"), image.get("width"))


def _problem_of_annotation(
    annotation: dict, images: dict[int, dict], categories: dict[int, dict], decode: bool
) -> str | None:
    """What is wrong with an annotation, or None; missing values are filled in.

    Args:
        decode: decode compressed run lengths too.
    """
    image_id, category_id = annotation.get("image_id"), annotation.get("category_id")
    if type(image_id) is not int or image_id not in images:
        return f"is of image {quoted(image_id)}, which is not among the file's images."
    if type(category_id) is not int or category_id not in categories:
        return (
            f"has the category_id {quoted(category_id)}; the file's categories are "
            f"{listed(categories)}."
        )
    if problem := _problem_of_numbers(annotation):
        return problem
    height, width = images[image_id]["height"], images[image_id]["width"]
    segmentation = annotation.get("segmentation")
    if problem := problem_of_segmentation(segmentation, height, width):
        return problem
    is_missing = annotation.get("bbox") is None or annotation.get("area") is None
    if is_missing or (decode and isinstance(segmentation, dict)):
        return _complete(annotation, height, width)
    return None


def _problem_of_numbers(annotation: dict) -> str | None:
    """What is wrong with `iscrowd`, `bbox` or `area`, each of which may be missing or null."""
    if annotation.get("iscrowd") is None:
        annotation["iscrowd"] = 0
    if annotation["iscrowd"] not in (0, 1):
        return f"has iscrowd {quoted(annotation['iscrowd'])}; it must be 0 or 1."
    box, area = annotation.get("bbox"), annotation.get("area")
    if box is not None and not (isinstance(box, list) and len(box) == 4 and _is_finite(*box)):
        return f"has the bbox {quoted(box)}; it must be [x, y, width, height] in pixels."
    if isinstance(area, str):  # some tools write "1200"
        with contextlib.suppress(ValueError):
            annotation["area"] = area = float(area)
    if area is not None and not _is_finite(area):
        return f"has the area {quoted(area)}; it must be a number of pixels."
    return None


def _is_finite(*numbers: Any) -> bool:
    try:
        return math.isfinite(math.hypot(*numbers))
    except (TypeError, OverflowError):
        return False


def _complete(annotation: dict, height: int, width: int) -> str | None:
    """Fill in `bbox` and `area` from the segmentation, or say what is wrong with it."""
    from pycocotools import mask as coco_mask

    try:
        rle = segmentation_to_rle(annotation["segmentation"], height, width)
    except ValueError as error:
        return str(error)
    if annotation.get("bbox") is None:
        annotation["bbox"] = coco_mask.toBbox(rle).tolist()
    if annotation.get("area") is None:
        annotation["area"] = int(coco_mask.area(rle))
    return None


# ---- Classes -------------------------------------------------------------------------------------


def _check_class_ids(class_ids: list, categories: dict[int, str], path: PathLike) -> None:
    unknown = [class_id for class_id in class_ids if class_id not in categories]
    if unknown:
        raise ValueError(
            f"class_ids holds {listed(unknown)}; the categories of {path} are {listed(categories)}."
        )


def _match_categories(
    categories: dict[int, str],
    wanted: list[int],
    known: dict[Any, str],
    source: str,
    path: PathLike,
) -> dict[int, int]:
    """The ids of a file's categories in the data set, by their ids in the file.

    A category whose name the source has already is that class, whatever its number. A new name
    keeps its number if the number is free. If the name that has this number in the source is in
    this file too, the file numbers its categories in another order, and the new name gets a new
    number.

    Args:
        categories: the file's ids and names; wanted: the ids that become classes.
        known: ids and names of the source's classes.

    Raises:
        ValueError: a category that could be several classes.
    """
    new_ids = _free_ids({*categories, *known})
    numbers: dict[int, int] = {}
    for category_id in wanted:
        name = categories[category_id]
        namesakes = [known_id for known_id, other in known.items() if other == name]
        if known.get(category_id) == name or (category_id not in known and not namesakes):
            numbers[category_id] = category_id
        elif len(namesakes) == 1 and list(categories.values()).count(name) == 1:
            numbers[category_id] = namesakes[0]
        elif not namesakes and known[category_id] in categories.values():
            numbers[category_id] = new_ids()
        else:
            raise ValueError(_conflict(category_id, name, namesakes, known, source, path))
    # Categories that do not become classes keep their numbers where these are free.
    for category_id in categories:
        if category_id not in numbers:
            is_free = category_id not in {*numbers.values(), *known}
            numbers[category_id] = category_id if is_free else new_ids()
    return numbers


def _free_ids(taken: set) -> Callable[[], int]:
    last = max(i for i in taken if isinstance(i, int))

    def next_id() -> int:
        nonlocal last
        last += 1
        return last

    return next_id


def _conflict(
    category_id: int,
    name: str,
    namesakes: list,
    known: dict[Any, str],
    source: str,
    path: PathLike,
) -> str:
    if namesakes:
        what = f"could be several classes of the source {source!r}: that name is there twice"
    else:
        what = f"and the source {source!r} has class {category_id} {known[category_id]!r} already"
    return (
        f"{path}: category {category_id} is {name!r}, {what}. Give categories of one class the "
        "same name in all files, or load this file with another source name."
    )


def _renumber(content: dict[str, Any], numbers: dict[int, int]) -> None:
    if all(old == new for old, new in numbers.items()):
        return
    for category in content["categories"]:
        category["id"] = numbers[category["id"]]
    for annotation in content["annotations"]:
        annotation["category_id"] = numbers[annotation["category_id"]]


# ---- Images --------------------------------------------------------------------------------------


def _called(image: dict) -> str:
    return f"image {image['id']}"


def _chosen_images(
    content: dict[str, Any], wanted: list[int], path: PathLike
) -> tuple[list[dict], dict[int, list[dict]]]:
    """The images that show wanted categories, with their annotations by image id.

    If all categories are wanted, these are all images.
    """
    by_image: dict[int, list[dict]] = {image["id"]: [] for image in content["images"]}
    chosen = set(wanted)
    for annotation in content["annotations"]:
        if annotation["category_id"] in chosen:
            by_image[annotation["image_id"]].append(annotation)
    images = content["images"]
    if len(chosen) < len(content["categories"]):
        images = [image for image in images if by_image[image["id"]]]
    if not images:
        raise ValueError(f"{path} has no image with an object of the categories {listed(wanted)}.")
    return images, by_image


def _without_oversized(
    images: list[dict], paths: dict[str, str], path: PathLike, skip_invalid: bool
) -> list[dict]:
    """Refuse or leave out large images whose stated size exceeds that of their file."""
    problems = Problems(path, skip_invalid)
    kept = []
    for image in images:
        height, width = image["height"], image["width"]
        size = stored_size(paths[_called(image)]) if height * width > _LARGE else None
        if size is not None and height * width > size[0] * size[1]:
            problems.add(
                _called(image),
                f"has {width}x{height} pixels (width x height) in the annotation file, and its "
                f"image file {paths[_called(image)]} has {size[1]}x{size[0]}.",
            )
        else:
            kept.append(image)
    problems.settle()
    if not kept:
        raise ValueError(f"{path} has no image that can be used.")
    return kept


# ---- Warnings ------------------------------------------------------------------------------------


def _warn_of_crowds(content: dict[str, Any], path: PathLike) -> None:
    """Warn of many crowds, and name the classes that have only crowds: they cannot be learned."""
    names = {category["id"]: category["name"] for category in content["categories"]}
    crowds = [annotation for annotation in content["annotations"] if annotation["iscrowd"]]
    with_objects = {a["category_id"] for a in content["annotations"] if not a["iscrowd"]}
    only_crowds = {a["category_id"]: names[a["category_id"]] for a in crowds}
    for category_id in with_objects:
        only_crowds.pop(category_id, None)
    total = len(content["annotations"])
    # 1 % of COCO's own annotations are crowds.
    if _are_many(crowds, total, usual=0.1):
        logger.warning(
            "%s: %d of %d annotations are crowds (iscrowd 1); classes that have crowds only: %s. "
            "Crowds train nothing, and evaluation ignores them. CVAT exports every brush mask as a "
            'crowd: crowds="objects" takes each as one object.',
            path,
            len(crowds),
            total,
            listed(only_crowds.values()),
        )


def _warn_of_specks(content: dict[str, Any], path: PathLike) -> None:
    """Warn of polygons that seem to be in 0..1, or of objects of one pixel, if there are many."""
    total = len(content["annotations"])
    normalised = [a for a in content["annotations"] if _is_normalised(a["segmentation"])]
    if _are_many(normalised, total):
        logger.warning(
            "%s: %d of %d annotations, annotation %d for one, have polygons within 0..1. COCO's "
            "coordinates are pixels; normalised ones must be multiplied by the image's width and "
            "height.",
            path,
            len(normalised),
            total,
            normalised[0]["id"],
        )
        return
    specks = [a for a in content["annotations"] if a["area"] <= 1]
    if _are_many(specks, total):
        logger.warning(
            "%s: %d of %d annotations, annotation %d for one, have an area of one pixel or less.",
            path,
            len(specks),
            total,
            specks[0]["id"],
        )


def _is_normalised(segmentation: list | dict) -> bool:
    # The first point is almost always enough.
    return (
        isinstance(segmentation, list)
        and segmentation[0][0] <= 1
        and segmentation[0][1] <= 1
        and all(min(polygon) >= 0 and max(polygon) <= 1 for polygon in segmentation)
    )


def _are_many(some: list, total: int, usual: float = 0.01) -> bool:
    """Are these more than half of all, or at least a dozen and at least the usual share?"""
    return len(some) > total / 2 or len(some) >= max(_DOZEN, total * usual)


# ---- Writing -------------------------------------------------------------------------------------


def write_coco(
    images: Iterable[LabelledImage], class_names: Sequence[str], folder: PathLike
) -> list[str]:
    """Write `annotations.json` and `images/`.

    An object is a polygon as it was drawn, or polygons along the edges of its pixels, if
    pycocotools draws its mask from them; otherwise, and for a crowd, run lengths.

    Arguments, result and errors are those of every format, see `objects`.
    """
    folder = start_folder(folder)
    check_class_names(class_names, folder)
    numbers = {name: number for number, name in enumerate(class_names, start=1)}
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    names = FileNames()
    for image_id, image in enumerate(images, start=1):
        stem, ending = names.pick(image)
        copy_image(image, folder / "images" / f"{stem}{ending}")
        size = {"height": image.height, "width": image.width}
        entries.append({"id": image_id, "file_name": f"{stem}{ending}", **size})
        for labelled in image.objects:
            ids = {"id": 1 + len(annotations), "image_id": image_id}
            annotations.append({**ids, **_entry(labelled, numbers[labelled.class_name])})
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    content = {"images": entries, "annotations": annotations, "categories": categories}
    files.write_text(folder / "annotations.json", json.dumps(content, ensure_ascii=False))
    return []


def _entry(labelled: LabelledObject, category_id: int) -> dict[str, Any]:
    from pycocotools import mask as coco_mask

    (rle,) = encode_masks(labelled.mask[:, :, None])
    return {
        "category_id": category_id,
        "iscrowd": int(labelled.is_crowd),
        "bbox": coco_mask.toBbox(rle).tolist(),
        "area": int(coco_mask.area(rle)),
        "segmentation": rle if labelled.is_crowd else _polygons(labelled) or rle,
    }


def _polygons(labelled: LabelledObject) -> list[list[float]] | None:
    """Polygons that pycocotools draws as the object's mask; None if there are none."""
    size = labelled.mask.shape

    def draw(rings: Iterable[np.ndarray]) -> np.ndarray:
        lists = [ring.ravel().tolist() for ring in rings]
        return segmentation_to_mask(lists, *size).astype(bool)

    parts = drawn_or_exact(labelled, lambda ring: draw([ring]))
    rings = [part.ring for part in parts]
    if any(part.holes for part in parts):
        return None
    is_drawn = labelled.ring is not None and rings[0] is labelled.ring
    try:
        if not is_drawn and not np.array_equal(draw(rings), labelled.mask):
            return None
    except ValueError:  # an outline that is too long for the reader
        return None
    return [ring.ravel().tolist() for ring in rings]
