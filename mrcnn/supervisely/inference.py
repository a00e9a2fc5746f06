"""Inference on Supervisely's projects: objects that a model finds are added to the annotations.

    model = ProjectModel("logs/lemons20260101T0000/epochs", read_inference_config("roi.json"))
    infer_project(model, "lemons", "lemons_found")

`annotation_of` and `output_meta` are all that a server needs for one image and for a project's
`meta.json`.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mrcnn.config import Config
from mrcnn.data.formats.problems import Problems
from mrcnn.data.formats.supervisely import (
    Annotated,
    Item,
    ProjectReader,
    colour_of,
    encode_bitmap,
    geometry_to_mask,
    project_items,
    read_meta,
)
from mrcnn.data.image_files import read_image
from mrcnn.detection.detector import detect
from mrcnn.detection.molding import unmold_rle
from mrcnn.files import check_new_folder, folder_beside, read_json, write_text
from mrcnn.geometry.masks import Patch
from mrcnn.geometry.rle import rle_patch
from mrcnn.messages import did_you_mean, listed
from mrcnn.supervisely.model_folder import ModelFolder, open_model_folder
from mrcnn.supervisely.modes import Existing, Found, Region, apply_mode
from mrcnn.supervisely.schemas import ALL, Settings
from mrcnn.types import PathLike

_META = "meta.json"
# What an object of a class is; "any" takes all.
_BITMAP, _RECTANGLE, _ANY = "bitmap", "rectangle", "any"


class ProjectModel:
    """A trained network with an inference configuration.

    Args:
        place: as in `open_model_folder`.
        settings: of `read_inference_config`.
        base: the Config class that the model's settings belong to.

    Attributes:
        titles: the classes that the model knows.
        settings: the inference configuration.

    Raises:
        FileNotFoundError, ValueError: no model, or `save_classes` that it does not know.
    """

    def __init__(self, place: PathLike, settings: Settings, base: type[Config] = Config):
        self.settings = settings
        self._folder: ModelFolder = open_model_folder(place, base)
        self.titles = self._folder.titles
        self._check_classes(settings["mode"])
        self._model: Any = None

    def load(self) -> None:
        """Build the network and load its weights; the first image does so otherwise."""
        if self._model is None:
            from mrcnn.mask_rcnn import MaskRCNN

            config = self._folder.config.for_detection()
            config.DETECTION_MIN_CONFIDENCE = self.settings["model"]["min_confidence_threshold"]
            model = MaskRCNN("inference", config, os.path.dirname(self._folder.weights))
            model.load_weights(self._folder.weights)
            self._model = model

    def annotation_of(
        self,
        image: np.ndarray,
        annotation: dict[str, Any] | None = None,
        existing: Sequence[Existing] = (),
        mode: Settings | None = None,
    ) -> dict[str, Any]:
        """An image's annotation with the objects that the model finds.

        Args:
            image: `[H, W, 3]` uint8.
            annotation: what the image has already; it is not changed.
            existing: the objects of `annotation`, for the mode `bboxes`.
            mode: of `checked_mode`; None: that of the settings.

        Raises:
            ValueError: the mode does not fit the image, see `apply_mode`.
        """
        mode = self.settings["mode"] if mode is None else mode
        found, regions = apply_mode(image, mode, existing, self._find)
        height, width = image.shape[:2]
        empty = {"description": "", "tags": [], "size": {"height": height, "width": width}}
        result = {**empty, "objects": [], **copy.deepcopy(annotation or {})}
        result["objects"] += [_rectangle(region) for region in regions if mode.get("save")]
        result["objects"] += [self._object(one, mode) for one in found if _is_wanted(one, mode)]
        return result

    def output_meta(self, meta: dict[str, Any], mode: Settings | None = None) -> dict[str, Any]:
        """A project's `meta.json` with the classes and the tag that inference adds.

        Raises:
            ValueError: a new class has the title of one of the project's with another shape.
        """
        mode = self.settings["mode"] if mode is None else mode
        result = copy.deepcopy(meta)
        shapes = {one["title"]: one.get("shape") for one in result["classes"]}
        for title, shape in self._new_classes(mode, list(shapes)):
            if title not in shapes:
                shapes[title] = shape
                result["classes"].append(
                    {"title": title, "shape": shape, "color": colour_of(len(result["classes"]))}
                )
            elif shapes[title] not in (shape, _ANY):
                raise ValueError(
                    f"the project's class {title!r} has objects of the shape {shapes[title]}, and "
                    f"inference would add some of the shape {shape}; choose another add_suffix or "
                    "class_name."
                )
        tags = result.setdefault("tags", [])
        name = self.settings["model"]["confidence_tag_name"]
        if name not in [tag.get("name") if isinstance(tag, dict) else tag for tag in tags]:
            tags.append({"name": name, "value_type": "any_number", "color": colour_of(len(tags))})
        return result

    def _new_classes(self, mode: Settings, present: Sequence[str]) -> list[tuple[str, str]]:
        suffix = mode["model_classes"]["add_suffix"]
        new = [(title + suffix, _BITMAP) for title in _chosen(mode, self.titles)]
        if not mode.get("save"):
            return new
        if mode["name"] != "bboxes":
            return [*new, (mode["class_name"], _RECTANGLE)]
        wanted = present if mode["from_classes"] == ALL else mode["from_classes"]
        return [*new, *((title + mode["add_suffix"], _RECTANGLE) for title in wanted)]

    def _check_classes(self, mode: Settings) -> None:
        for title in _chosen(mode, self.titles):
            if title not in self.titles:
                raise ValueError(
                    f"mode.model_classes.save_classes has {title!r}, which the model does not "
                    f"know; it knows {listed(self.titles, 20)}.{did_you_mean(title, self.titles)}"
                )

    def _find(self, images: Sequence[np.ndarray]) -> list[list[Found]]:
        self.load()
        model = self._model
        results = detect(model.keras_model, model.config, model.get_anchors, images, unmold_rle)
        return [
            [
                Found(self.titles[class_id - 1], float(score), rle_patch(rle))
                for class_id, score, rle in zip(
                    result["class_ids"], result["scores"], result["masks"], strict=True
                )
            ]
            for result in results
        ]

    def _object(self, one: Found, mode: Settings) -> dict[str, Any]:
        patch = one.patch.trimmed()
        tag = {"name": self.settings["model"]["confidence_tag_name"], "value": round(one.score, 6)}
        return {
            "description": "",
            "geometryType": _BITMAP,
            "tags": [tag],
            "classTitle": one.title + mode["model_classes"]["add_suffix"],
            "bitmap": {"data": encode_bitmap(patch.pixels), "origin": [patch.left, patch.top]},
        }


def _chosen(mode: Settings, titles: Sequence[str]) -> Sequence[str]:
    wanted = mode["model_classes"]["save_classes"]
    return titles if wanted == ALL else wanted


def _is_wanted(one: Found, mode: Settings) -> bool:
    return bool(one.patch.pixels.any()) and one.title in _chosen(mode, [one.title])


def _rectangle(region: Region) -> dict[str, Any]:
    """The rectangle of a region; it includes its last row and column."""
    y1, x1, y2, x2 = region.box
    return {
        "description": "",
        "geometryType": _RECTANGLE,
        "tags": [],
        "classTitle": region.title,
        "points": {"exterior": [[x1, y1], [x2 - 1, y2 - 1]], "interior": []},
    }


# ---- Projects ------------------------------------------------------------------------------------


def infer_project(
    model: ProjectModel,
    project: PathLike,
    output: PathLike,
    moved: Callable[[int, int], None] | None = None,
) -> int:
    """Write a copy of a project with the objects that a model finds; returns their number.

    The project is checked before the network runs, and the new one gets its name when it is
    complete.

    Args:
        model: the model with its configuration.
        project: the project's folder.
        output: a new or empty folder.
        moved: called with the number of images done and of all.

    Raises:
        FileNotFoundError, ValueError: no project, annotations or a mode that cannot be used, or
            `output` is not empty.
    """
    check_new_folder(output)
    shapes = read_meta(project)
    meta = model.output_meta(read_json(Path(project, _META)))
    mode = model.settings["mode"]
    if mode["name"] == "bboxes" and mode["from_classes"] != ALL:
        for title in mode["from_classes"]:
            if title not in shapes:
                raise ValueError(
                    f"mode.from_classes has {title!r}, which {Path(project, _META)} has not; it "
                    f"has {listed(shapes, 20)}.{did_you_mean(title, shapes)}"
                )
    problems = Problems(project)
    reader = ProjectReader(list(shapes), shapes, problems)
    items = list(project_items(Path(project), problems))
    images = [reader.read(item) for item in items]
    problems.settle()
    reader.log_outside(project)
    added = 0
    with folder_beside(output) as temporary:
        for number, (item, image) in enumerate(zip(items, images, strict=True), start=1):
            assert image is not None  # `settle` refuses a project with such images
            added += _infer_image(model, item, image, Path(project), temporary)
            if moved is not None:
                moved(number, len(items))
        write_text(temporary / _META, json.dumps(meta, ensure_ascii=False, indent=1))
    return added


def _infer_image(
    model: ProjectModel, item: Item, image: Annotated, project: Path, output: Path
) -> int:
    annotation = read_json(item.annotation)
    try:
        existing = [
            Existing(title, box)
            for title, shape, geometry, _ in image.objects
            if (box := _box(geometry_to_mask(shape, geometry, *image.size))) is not None
        ]
        pixels = read_image(item.image, size=image.size)
        result = model.annotation_of(pixels, annotation, existing)
    except ValueError as error:
        raise ValueError(f"{item.image}: {error}") from error
    copy_of = output / item.image.relative_to(project)
    copy_of.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(item.image, copy_of)
    text = json.dumps(result, ensure_ascii=False)
    write_text(copy_of.parent.parent / "ann" / f"{item.image.name}.json", text)
    return len(result["objects"]) - len(annotation["objects"])


def _box(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    patch = Patch(mask, 0, 0).trimmed()
    return patch.box if patch.pixels.size else None
