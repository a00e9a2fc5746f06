"""COCO-format annotations: one JSON file of images, annotations and categories.

    dataset = CocoFormatDataset()
    dataset.load_annotations("instances_train2017.json", "train2017")
    dataset.prepare()

A file is checked as a whole before anything of it is used, annotation by annotation but without
drawing a mask, so that the 860,000 annotations of COCO's largest file take seconds. What shows
only in a mask that is drawn is an error of `load_mask`.

Masks come from polygons `[[x1, y1, x2, y2, ...], ...]`, from run lengths `{"size": [H, W],
"counts": [...]}` or from these compressed, where `counts` is a string.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import math
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mrcnn.data.dataset import Dataset

if TYPE_CHECKING:  # imported where it is used: importing mrcnn must stay cheap
    from pycocotools.coco import COCO

PARTS = ("images", "annotations", "categories")
# pycocotools walks along every edge, so that a coordinate of 1e9 would take all the memory.
_FARTHEST = 100


class CocoFormatDataset(Dataset):
    """Images, classes and masks of COCO-format files, several of them if need be."""

    def load_annotations(
        self,
        annotations: str | os.PathLike,
        image_dir: str | os.PathLike,
        source: str = "coco",
        class_ids: Sequence[int] | None = None,
    ) -> dict[str, Any]:
        """Add the classes and images of an annotation file.

        Classes are numbered from 1 in order of their category ids, which may have gaps.

        Args:
            annotations: the JSON file; image_dir: the folder that its file names start from.
            source: name of the source, for `add_class` and `add_image`.
            class_ids: category ids to take, numbered in this order, with the images that show
                any of them and no other objects. None or empty: all categories and all images.

        Returns:
            What the file holds, checked and completed, see `check_annotations`.

        Raises:
            FileNotFoundError: the annotation file, or an image that it names.
            ValueError: no COCO-format file, or an entry of it that cannot be used; no image.
                Both name the file and the entry.
        """
        content = read_json(annotations)
        self.add_annotations(content, annotations, image_dir, source, class_ids)
        return content

    def add_annotations(
        self,
        content: dict[str, Any],
        annotations: str | os.PathLike,
        image_dir: str | os.PathLike,
        source: str = "coco",
        class_ids: Sequence[int] | None = None,
    ) -> None:
        """`load_annotations` of what was read from the file already, and perhaps changed."""
        check_annotations(content, annotations)
        categories = {category["id"]: category["name"] for category in content["categories"]}
        wanted = list(class_ids) if class_ids is not None and len(class_ids) else sorted(categories)
        _check_class_ids(wanted, categories, annotations)
        by_image = {image["id"]: [] for image in content["images"]}
        chosen = set(wanted)
        for annotation in content["annotations"]:
            if annotation["category_id"] in chosen:
                by_image[annotation["image_id"]].append(annotation)
        images = content["images"]
        if len(chosen) < len(categories):
            images = [image for image in images if by_image[image["id"]]]
        if not images:
            raise ValueError(
                f"{annotations} has no image with an object of the categories {_shortened(wanted)}."
            )
        _check_images_exist(images, annotations, image_dir)

        for class_id in wanted:
            self.add_class(source, class_id, categories[class_id])
        for image in images:
            self.add_image(
                source,
                image_id=image["id"],
                path=os.path.join(image_dir, image["file_name"]),
                width=image["width"],
                height=image["height"],
                annotations=by_image[image["id"]],
                annotation_file=os.fspath(annotations),
            )

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Masks and classes of an image.

        Returns:
            masks `[H, W, N]` bool; class ids `[N]` int32, negative for a crowd. An object too
            small to cover a pixel is not among them.

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


# ---- Reading and checking ------------------------------------------------------------------------


def read_json(path: str | os.PathLike) -> Any:
    """What a JSON file holds.

    Raises:
        FileNotFoundError: there is no such file; ValueError: it is no JSON.
    """
    with open(path, "rb") as file:
        data = file.read()
    # Of the 19 s that COCO's largest file takes, 7 would go into a search for cyclic garbage.
    collects = gc.isenabled()
    gc.disable()
    try:
        return json.loads(data)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a JSON file: {error}.") from error
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


def check_annotations(content: Any, path: str | os.PathLike) -> None:
    """Check that this is the content of a COCO-format file with masks, and complete it.

    Ids are whole numbers and unique, images have a file name and a size, annotations an image and
    a category that exist and a segmentation that fits the image. `iscrowd`, `bbox` and `area`,
    which COCO's evaluation reads, are filled in where they are missing.

    Args:
        content: what `read_json` returned; path: the file's name for messages.

    Raises:
        ValueError: the first entry that cannot be used, with the file's name.
    """
    images, annotations, categories = (entries_by_id(content, part, path) for part in PARTS)
    for part in ("images", "categories"):
        if not content[part]:
            raise ValueError(f"{path} has no {part}: the list is empty.")
    for image_id, image in images.items():
        if problem := _problem_of_image(image):
            raise ValueError(f"{path}: image {image_id} {problem}")
    for category_id, category in categories.items():
        if not isinstance(category.get("name"), str):
            raise ValueError(
                f"{path}: category {category_id} has the name {category.get('name')!r}; it must "
                "be text."
            )
    for annotation_id, annotation in annotations.items():
        if problem := _problem_of_annotation(annotation, images, categories):
            raise ValueError(f"{path}: annotation {annotation_id} {problem}")
        if "bbox" not in annotation or "area" not in annotation:
            _complete(annotation, images[annotation["image_id"]], path)


def entries_by_id(content: Any, part: str, path: str | os.PathLike) -> dict[int, dict]:
    """The images, annotations or categories of a COCO-format file's content by their ids.

    Raises:
        ValueError: the content is not of a COCO-format file, an id is missing or there twice.
    """
    if not isinstance(content, dict) or not all(isinstance(content.get(p), list) for p in PARTS):
        raise ValueError(
            f"{path} is not a COCO annotation file: it holds {_outline(content)}, and must hold an "
            'object {"images": [...], "annotations": [...], "categories": [...]}.'
        )
    entries: dict[int, dict] = {}
    for position, entry in enumerate(content[part]):
        entry_id = entry.get("id") if isinstance(entry, dict) else None
        if type(entry_id) is not int:
            raise ValueError(
                f"{path}: entry {position} of {part!r} has the id {entry_id!r}; it must be a "
                "whole number."
            )
        if entries.setdefault(entry_id, entry) is not entry:
            raise ValueError(f"{path}: two entries of {part!r} have the id {entry_id}.")
    return entries


def _outline(content: Any) -> str:
    """A few words for what a JSON file holds."""
    if isinstance(content, dict):
        return f"an object with {_shortened(content) or 'nothing'}"
    return f"a {type(content).__name__}"


def _problem_of_image(image: dict) -> str | None:
    if not isinstance(image.get("file_name"), str) or not image["file_name"]:
        return f"has the file_name {image.get('file_name')!r}; it must be a path."
    for side in ("height", "width"):
        if type(image.get(side)) is not int or image[side] < 1:
            return f"has the {side} {image.get(side)!r}; it must be a whole number of pixels."
    return None


def _problem_of_annotation(annotation: dict, images: dict, categories: dict) -> str | None:
    image_id, category_id = annotation.get("image_id"), annotation.get("category_id")
    if type(image_id) is not int or image_id not in images:
        return f"is of image {image_id!r}, which is not among the file's images."
    if type(category_id) is not int or category_id not in categories:
        return (
            f"has the category_id {category_id!r}; the file's categories are "
            f"{_shortened(categories)}."
        )
    if annotation.setdefault("iscrowd", 0) not in (0, 1):
        return f"has iscrowd {annotation['iscrowd']!r}; it must be 0 or 1."
    box = annotation.get("bbox")
    if box is not None and (not isinstance(box, list) or len(box) != 4):
        return f"has the bbox {box!r}; it must be [x, y, width, height]."
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, list):
        return _problem_of_polygons(segmentation)
    if isinstance(segmentation, dict):
        counts, image = segmentation.get("counts"), images[image_id]
        size = image["height"], image["width"]
        problem = _problem_of_size(segmentation, *size)
        # To decode a string takes longer than all the rest: that is left to its mask.
        return problem or (None if isinstance(counts, str) else _problem_of_counts(counts, *size))
    return f"has the segmentation {segmentation!r}; Mask R-CNN needs polygons or run lengths."


def _problem_of_polygons(polygons: list) -> str | None:
    if not polygons:
        return "has an empty segmentation; it must have at least one polygon."
    for number, polygon in enumerate(polygons):
        if not isinstance(polygon, list):
            return (
                f"has a segmentation that is a list of {type(polygon).__name__}; it must be a list "
                "of polygons, [[x1, y1, x2, y2, x3, y3, ...], ...]."
            )
        if len(polygon) < 6 or len(polygon) % 2:
            return (
                f"has {len(polygon)} numbers in polygon {number}; a polygon is [x1, y1, x2, y2, "
                "...] with at least three points."
            )
        try:
            finite = math.isfinite(sum(polygon))
        except TypeError:
            finite = False
        if not finite:
            return f"has something else than finite numbers in polygon {number}."
    return None


def _problem_of_size(rle: dict, height: int, width: int) -> str | None:
    if rle.get("size") != [height, width]:
        return (
            f"has run lengths of size {rle.get('size')!r} [height, width]; its image is "
            f"{[height, width]}."
        )
    return None


def _problem_of_counts(counts: Any, height: int, width: int) -> str | None:
    if not isinstance(counts, list) or not all(type(c) is int and c >= 0 for c in counts):
        return "has run lengths whose counts are neither a string nor a list of whole numbers."
    if sum(counts) != height * width:
        return f"has run lengths of {sum(counts)} pixels in all; its image has {height * width}."
    return None


def _complete(annotation: dict, image: dict, path) -> None:
    """Fill in `bbox` and `area` from the mask."""
    from pycocotools import mask as coco_mask

    try:
        rle = segmentation_to_rle(annotation["segmentation"], image["height"], image["width"])
    except ValueError as error:
        raise ValueError(f"{path}: annotation {annotation['id']} {error}") from error
    annotation.setdefault("bbox", coco_mask.toBbox(rle).tolist())
    annotation.setdefault("area", int(coco_mask.area(rle)))


def _check_class_ids(class_ids: list, categories: dict, path) -> None:
    unknown = [class_id for class_id in class_ids if class_id not in categories]
    if unknown:
        raise ValueError(
            f"class_ids holds {_shortened(unknown)}; the categories of {path} are "
            f"{_shortened(categories)}."
        )


def _check_images_exist(images: list[dict], path, image_dir) -> None:
    """Every image has its file; a folder is listed once, however many images it has."""
    names_by_folder: dict[str, set[str]] = {}
    missing = []
    for image in images:
        folder, name = os.path.split(os.path.join(image_dir, image["file_name"]))
        if folder not in names_by_folder:
            names_by_folder[folder] = set(os.listdir(folder)) if os.path.isdir(folder) else set()
        if name not in names_by_folder[folder]:
            missing.append(image)
    if missing:
        first = os.path.join(image_dir, missing[0]["file_name"])
        raise FileNotFoundError(
            f"{path}: image {missing[0]['id']} is not there: {first} does not exist; "
            f"{len(missing)} of {len(images)} images are missing."
        )


def _shortened(values: Iterable) -> str:
    values = list(values)
    text = ", ".join(map(str, values[:10]))
    return f"{text} and {len(values) - 10} more" if len(values) > 10 else text


# ---- Masks ---------------------------------------------------------------------------------------


def segmentation_to_mask(segmentation: list | dict, height: int, width: int) -> np.ndarray:
    """The mask of an annotation's segmentation: `[height, width]` uint8, 0 and 1.

    Polygons are filled as pycocotools does; several are joined.

    Raises:
        ValueError: no mask of this size; the sentence begins with a verb, for the caller to say
            whose segmentation it is.
    """
    from pycocotools import mask as coco_mask

    return coco_mask.decode(segmentation_to_rle(segmentation, height, width))


def segmentation_to_rle(segmentation: list | dict, height: int, width: int) -> dict[str, Any]:
    """A segmentation as pycocotools' run lengths, `{"size": [height, width], "counts": bytes}`.

    Raises:
        ValueError: as `segmentation_to_mask`.
    """
    from pycocotools import mask as coco_mask

    if isinstance(segmentation, dict):
        plain = _plain_run_lengths(segmentation, height, width)
        return coco_mask.frPyObjects(plain, height, width)
    if problem := _problem_of_polygons(segmentation):
        raise ValueError(problem)
    farthest = max(max(map(abs, polygon)) for polygon in segmentation)
    if farthest > _FARTHEST * max(height, width):
        raise ValueError(
            f"has a polygon that reaches {farthest}, far outside its image of {height}x{width}."
        )
    return coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))


def _plain_run_lengths(rle: dict, height: int, width: int) -> dict[str, Any]:
    """Run lengths, compressed or not, with a list of counts that fills the image."""
    if problem := _problem_of_size(rle, height, width):
        raise ValueError(problem)
    counts = rle.get("counts")
    if isinstance(counts, (str, bytes)):
        counts = decode_counts(counts)
    # pycocotools would fill what the runs do not reach with whatever the memory holds.
    if problem := _problem_of_counts(counts, height, width):
        raise ValueError(problem)
    return {"size": [height, width], "counts": counts}


def decode_counts(counts: str | bytes) -> list[int]:
    """Compressed run lengths as a list: runs of 0 and 1 in turn, column by column.

    Each number is written in digits of five bits, the lowest first, and from the fourth on as the
    difference to the last but one.

    Raises:
        ValueError: no such string.
    """
    data = counts.encode("utf-8") if isinstance(counts, str) else counts
    digits = np.frombuffer(data, np.uint8).astype(np.int64) - 48
    is_last = (digits & 32) == 0
    if not digits.size or digits.min() < 0 or digits.max() > 63 or not is_last[-1]:
        raise ValueError(f"has run lengths that cannot be decoded: {counts[:40]!r}.")
    ends = np.flatnonzero(is_last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    places = np.arange(len(digits)) - np.repeat(starts, ends - starts + 1)
    if places.max() > 6:
        raise ValueError(f"has run lengths with a number beyond 32 bits: {counts[:40]!r}.")
    numbers = np.add.reduceat((digits & 31) << (5 * places), starts)
    # The highest bit of the last digit is the sign.
    numbers -= np.where(digits[ends] & 16, 1 << (5 * (places[ends] + 1)), 0)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers.tolist()
