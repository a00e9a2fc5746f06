r"""LabelMe: one JSON file per image, also as X-AnyLabeling and others write it.

    dataset = LabelmeDataset()
    dataset.load_labelme("leaves")
    dataset.prepare()

The file lies beside its image, which `imagePath` names, or holds the image itself in `imageData`.
Shapes are polygon, rectangle, circle, linestrip, line and mask; `drawn` says which pixels they
cover. LabelMe's own export of polygons adds the pixels that the outline touches. Shapes of one
label and one `group_id` are one object. Lines are 10 pixels wide, as LabelMe draws them.
https://github.com/wkentaro/labelme
"""

from __future__ import annotations

import base64
import functools
import io
import json
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL.Image

from mrcnn.data.decoders import pixel_limit
from mrcnn.data.formats.data_folders import (
    FileNames,
    add_classes,
    check_class_names,
    classes_left_out,
    copy_image,
    crowds_left_out,
    start_folder,
)
from mrcnn.data.formats.drawn import (
    DrawnDataset,
    Ellipse,
    Line,
    Pixels,
    Polygon,
    Shape,
    cropped,
    decode_png,
    encode_png,
    is_outside,
    problem_of_points,
)
from mrcnn.data.formats.image_folder import find_images, possible_sizes
from mrcnn.data.formats.objects import LabelledImage, LabelledObject
from mrcnn.data.formats.outlines import drawn_or_exact
from mrcnn.data.formats.problems import Problems, outline, problem_of_image_size, quoted
from mrcnn.data.image_files import IMAGE_ENDINGS
from mrcnn.files import read_json, write_text
from mrcnn.messages import listed, shortened
from mrcnn.types import PathLike

logger = logging.getLogger("mrcnn")

SHAPES = ("polygon", "rectangle", "circle", "linestrip", "line", "mask")
_LINE_WIDTH = 10.0
_LEAST_POINTS = {"polygon": 3, "rectangle": 2, "circle": 2, "linestrip": 2, "line": 2, "mask": 2}
# `is_labelme` looks at so many files of a folder, none of them larger.
_LOOKED_AT, _LARGEST_LOOKED_AT = 5, 50_000_000
_VERSION = "5.5.0"


class _Annotated(NamedTuple):
    """A JSON file with its image and checked objects."""

    name: str  # of the image, for messages and files
    image: Path | None  # None: in the JSON file
    file: Path
    size: tuple[int, int]
    objects: list[tuple[str, list[Shape]]]  # label and shapes


class LabelmeDataset(DrawnDataset):
    """Images, classes and masks of LabelMe's files, of several folders if need be."""

    def load_labelme(
        self,
        path: PathLike,
        source: str = "labelme",
        classes: Sequence[str] | None = None,
        *,
        skip_invalid: bool = False,
    ) -> None:
        """Add the classes and images of a folder of JSON files, or of one file.

        Images of the folder without a JSON file are left out: nobody has labelled them. Objects
        outside their image are left out too. The log has the numbers of both.

        Args:
            path: the folder; the folders inside it count too.
            source: name of the source, for `add_class` and `add_image`.
            classes: class names, numbered from 1 in this order. None: the labels in alphabetical
                order.
            skip_invalid: leave out images and shapes that cannot be used, and log how many;
                otherwise they are an error.

        Raises:
            FileNotFoundError: there is no such path, or an image is missing.
            ValueError: there are no files of LabelMe, shapes cannot be used, or `classes` differs
                from the source's classes. All messages name the file and the shape.
        """
        files = _json_files(Path(path))
        problems = Problems(path, skip_invalid)
        read = [found for file in files if (found := _read(file, Path(path), problems))]
        labels = sorted({label for one in read for label, _ in one.objects})
        names = labels if classes is None else list(classes)
        if not names and not problems.count:
            raise ValueError(f"{path} has no shapes; its files: {listed(f.name for f in files)}.")
        for one in read:
            for label in dict.fromkeys(label for label, _ in one.objects):
                if label not in names:
                    problems.add(
                        f"{one.file.name}",
                        f"has the unknown label {quoted(label)}; the classes are {listed(names)}.",
                    )
        problems.settle()
        check_class_names(names, path)
        if not read:
            raise ValueError(f"{path} has no image that can be used.")
        _log_unlabelled(Path(path), read)
        ids = add_classes(self, source, names, path)
        for one in read:
            objects = [(label, shapes) for label, shapes in one.objects if label in ids]
            self.add_image(
                source,
                image_id=one.name,
                path=os.fspath(one.image or one.file),
                file_name=one.name,
                height=one.size[0],
                width=one.size[1],
                objects=[shapes for _, shapes in objects],
                class_ids=[ids[label] for label, _ in objects],
                annotation_file=os.fspath(one.file),
            )

    def load_image(self, image_id: int) -> np.ndarray:
        """The image as `[H, W, 3]` uint8; that of `imageData` if there is no image file.

        Raises:
            OSError, ValueError: as `Dataset.load_image`.
        """
        info = self.image_info[image_id]
        if "annotation_file" not in info or info["path"] != info["annotation_file"]:
            return super().load_image(image_id)
        with _embedded(read_json(info["path"]), info["path"]) as picture:
            return np.asarray(picture.convert("RGB"))


def is_labelme(path: PathLike) -> bool:
    """Whether this is a file of LabelMe, or a folder that holds one, from the first few files."""
    path = Path(path)
    try:
        files = [path] if path.is_file() else sorted(path.glob("*.json"))[:_LOOKED_AT]
        return any(_is_labelme_file(file) for file in files)
    except OSError:
        return False


def _is_labelme_file(file: Path) -> bool:
    try:
        if file.suffix.lower() != ".json" or file.stat().st_size > _LARGEST_LOOKED_AT:
            return False
        return _is_content(read_json(file))
    except (OSError, ValueError):
        return False


def _is_content(content: Any) -> bool:
    return (
        isinstance(content, dict)
        and isinstance(content.get("shapes"), list)
        and ("imagePath" in content or "imageData" in content)
    )


# ---- Files and images ----------------------------------------------------------------------------


def _json_files(path: Path) -> list[Path]:
    """The files of LabelMe; other JSON files of a folder do not count."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise FileNotFoundError(f"{path} does not exist; name a folder of LabelMe's JSON files.")
    files = [file for file in sorted(path.rglob("*.json")) if not file.name.startswith(".")]
    if not files:
        raise ValueError(f"{path} has no JSON files; LabelMe writes one beside each image.")
    return files


def _read(file: Path, root: Path, problems: Problems) -> _Annotated | None:
    """A file with its image and objects; None, with a problem, if it cannot be used."""
    try:
        content = read_json(file)
        if not _is_content(content):
            raise ValueError(
                f"is no file of LabelMe: it holds {outline(content)}, and must hold an object with "
                "shapes and imagePath."
            )
        image, size = _image_of(content, file)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        problems.add(file.name, str(error).removeprefix(f"{file} "))
        return None
    folder = root if root.is_dir() else root.parent
    place = (image or file).relative_to(folder) if (image or file).is_relative_to(folder) else file
    name = str(place).replace(os.sep, "/")
    name = name if image else f"{name.removesuffix('.json')}.png"
    return _Annotated(name, image, file, size, _objects(content, file, size, problems))


def _image_of(content: dict[str, Any], file: Path) -> tuple[Path | None, tuple[int, int]]:
    """The image file, if it is there, and the (height, width) of the masks."""
    name = content.get("imagePath")
    stated = content.get("imageHeight"), content.get("imageWidth")
    image = _image_file(name, file, has_data=bool(content.get("imageData")))
    if image is None:
        with _embedded(content, file) as picture:
            sizes = [(picture.height, picture.width)]
    else:
        sizes = possible_sizes(image)
    if problem := problem_of_image_size(*sizes[0]):
        raise ValueError(f"has an image that {problem}")
    if None in stated:
        return image, sizes[0]
    if stated not in sizes:
        raise ValueError(
            f"states imageHeight x imageWidth {quoted(stated[0])}x{quoted(stated[1])}, and its "
            f"image has {sizes[0][0]}x{sizes[0][1]}."
        )
    return image, (int(stated[0]), int(stated[1]))


def _image_file(name: Any, file: Path, has_data: bool) -> Path | None:
    """The image that `imagePath` names, else one with the stem of the JSON file."""
    same_stem = [file.with_suffix(ending) for ending in IMAGE_ENDINGS]
    beside = next((path for path in same_stem if path.is_file()), None)
    if not isinstance(name, str) or not name:
        if beside is None and not has_data:
            raise ValueError(f"has the imagePath {quoted(name)}; it must be a file name.")
        return beside
    # `../images/a.jpg` is usual where JSON files lie in a folder of their own.
    try:
        for folder in (file.parent, file.parent.parent):
            spelled = name.removeprefix("../").removeprefix("..\\")
            wanted = spelled if folder == file.parent.parent else name
            if folder == file.parent and wanted.startswith(".."):
                continue
            found = find_images({"image": wanted}, folder, file)
            return Path(found["image"])
    except (FileNotFoundError, ValueError):
        pass
    if beside is not None or has_data:
        return beside
    raise FileNotFoundError(
        f"{file}: its image {shortened(name, 200)} is not there, and it holds no imageData."
    )


def _embedded(content: dict[str, Any], file: PathLike) -> PIL.Image.Image:
    """The image in `imageData`.

    Raises:
        ValueError: it is none, or has too many pixels.
    """
    data = content.get("imageData")
    if not isinstance(data, str):
        raise ValueError(f"{file} has no image: imageData is {quoted(data)}.")
    try:
        picture = PIL.Image.open(io.BytesIO(base64.b64decode(data)), formats=["PNG", "JPEG", "BMP"])
    except Exception as error:  # decoders raise any error: SyntaxError, struct.error, ...
        raise ValueError(
            f"{file} has an imageData that cannot be read: {shortened(error, 200)}."
        ) from error
    if picture.height * picture.width > pixel_limit():
        raise ValueError(f"{file} has an imageData of more than {pixel_limit():,} pixels.")
    return picture


def _log_unlabelled(path: Path, read: list[_Annotated]) -> None:
    if not path.is_dir():
        return
    labelled = {one.image for one in read}
    images = [p for p in path.rglob("*") if p.suffix.lower() in IMAGE_ENDINGS and p.is_file()]
    unlabelled = [image for image in images if image not in labelled]
    if unlabelled:
        logger.info(
            "%s: %d images such as %s have no JSON file and are left out: nobody has labelled "
            "them.",
            path,
            len(unlabelled),
            unlabelled[0].name,
        )


# ---- Shapes --------------------------------------------------------------------------------------


def _objects(
    content: dict[str, Any], file: Path, size: tuple[int, int], problems: Problems
) -> list[tuple[str, list[Shape]]]:
    """Label and shapes of each object; shapes of a group are one."""
    groups: dict[Any, tuple[str, list[Shape]]] = {}
    outside = 0
    for number, found in enumerate(content["shapes"]):
        if problem := _problem_of_shape(found):
            problems.add(f"{file.name}, shape {number}", problem)
            continue
        shape = _shape(found, size)
        if is_outside([shape], *size):
            outside += 1
            continue
        group = found.get("group_id")
        key = number if group is None else (found["label"], str(group))
        groups.setdefault(key, (found["label"], []))[1].append(shape)
    if outside:
        logger.warning("%s: shapes left out because they lie outside the image: %d.", file, outside)
    return list(groups.values())


def _problem_of_shape(found: Any) -> str | None:
    if not isinstance(found, dict):
        return f"is {quoted(found)}; it must be a JSON object."
    label = found.get("label")
    if not isinstance(label, str) or not label.strip():
        return f"has the label {quoted(label)}; it must be a class name."
    kind = _kind(found)
    if kind not in SHAPES:
        return (
            f"is a {shortened(kind)}, which has no area; Mask R-CNN needs one of {listed(SHAPES)}."
        )
    if problem := problem_of_points(found.get("points"), _LEAST_POINTS[kind], kind):
        return problem
    if kind == "rectangle" and len(found["points"]) not in (2, 4):
        return f"is a rectangle with {len(found['points'])} points; it has two corners, or four."
    if kind == "mask" and not isinstance(found.get("mask"), str):
        return f"is a mask with the data {quoted(found.get('mask'))}; it must be a PNG in base64."
    return None


def _kind(found: dict[str, Any]) -> str:
    kind = found.get("shape_type") or "polygon"
    # X-AnyLabeling's rectangles that are turned have four corners.
    return "polygon" if kind in ("rotation", "oriented_rectangle") else str(kind)


def _shape(found: dict[str, Any], size: tuple[int, int]) -> Shape:
    kind, points = _kind(found), np.array(found["points"], np.float64)
    if kind == "circle":
        return Ellipse(*points[0], *[float(np.hypot(*(points[1] - points[0])))] * 2)
    if kind in ("linestrip", "line"):
        return Line(points, _LINE_WIDTH)
    if kind == "mask":
        x, y = np.floor(points.min(axis=0)).astype(int).tolist()
        return Pixels(x, y, functools.partial(decode_png, found["mask"], *size))
    if kind == "rectangle" and len(points) == 2:
        (x1, y1), (x2, y2) = points
        points = np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)])
    return Polygon(points)


# ---- Writing -------------------------------------------------------------------------------------


def write_labelme(
    images: Iterable[LabelledImage], class_names: Sequence[str], folder: PathLike
) -> list[str]:
    """Write a JSON file beside a copy of each image.

    An object is a polygon: as it was drawn, or along the edges of its pixels; a mask if it has
    holes or several parts.

    Arguments, result and errors are those of every format, see `objects`.
    """
    folder = start_folder(folder)
    check_class_names(class_names, folder)
    names, crowds, used = FileNames(), 0, set()
    for image in images:
        stem, ending = names.pick(image)
        copy_image(image, folder / f"{stem}{ending}")
        kept = [labelled for labelled in image.objects if not labelled.is_crowd]
        crowds += len(image.objects) - len(kept)
        used |= {labelled.class_name for labelled in kept}
        content: dict[str, Any] = {
            "version": _VERSION,
            "flags": {},
            "shapes": [_entry(labelled) for labelled in kept],
            "imagePath": f"{stem}{ending}",
            "imageData": None,
            "imageHeight": image.height,
            "imageWidth": image.width,
        }
        write_text(folder / f"{stem}.json", json.dumps(content, ensure_ascii=False, indent=1))
    return [*crowds_left_out(crowds, "LabelMe"), *classes_left_out(class_names, used, "LabelMe")]


def _entry(labelled: LabelledObject) -> dict[str, Any]:
    size = labelled.mask.shape
    parts = drawn_or_exact(labelled, lambda ring: Polygon(ring).draw(*size))
    entry: dict[str, Any] = {
        "label": labelled.class_name,
        "points": [],
        "group_id": None,
        "description": "",
        "shape_type": "polygon",
        "flags": {},
        "mask": None,
    }
    if len(parts) == 1 and not parts[0].holes:
        return {**entry, "points": parts[0].ring.tolist()}
    x, y, cut = cropped(labelled.mask)
    # The second point is the last pixel, which belongs to the mask.
    corners = [[x, y], [x + cut.shape[1] - 1, y + cut.shape[0] - 1]]
    return {**entry, "points": corners, "shape_type": "mask", "mask": encode_png(cut)}
