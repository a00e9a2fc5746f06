"""YOLO's data sets for segmentation, as Ultralytics reads them: `data.yaml` and text files.

    dataset = YoloDataset()
    dataset.load_yolo("data.yaml")
    dataset.prepare()

`data.yaml` names the classes, and for `train`, `val` and `test` a folder of images, a text file of
image paths, or a list of these. The labels of `images/a.jpg` are in `labels/a.txt`: one object per
line, the number of its class and the corners of a polygon in shares of width and height. `drawn`
says which pixels a polygon covers. An image without a text file shows nothing. Shares are of the
image as it is shown: Ultralytics turns photos by their rotation tag, and so does `load_image` here.
https://docs.ultralytics.com/datasets/segment/
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mrcnn.data.formats.data_folders import (
    FileNames,
    add_classes,
    bridges,
    check_class_names,
    copy_image,
    crowds_left_out,
    files_in,
    start_folder,
)
from mrcnn.data.formats.drawn import DrawnDataset, Polygon, is_outside
from mrcnn.data.formats.image_folder import possible_sizes
from mrcnn.data.formats.objects import LabelledImage, LabelledObject
from mrcnn.data.formats.outlines import drawn_or_exact, joined
from mrcnn.data.formats.problems import Problems, outline, problem_of_image_size, quoted
from mrcnn.data.image_files import IMAGE_ENDINGS
from mrcnn.files import write_text
from mrcnn.messages import listed, shortened
from mrcnn.types import PathLike

logger = logging.getLogger("mrcnn")

SPLITS = ("train", "val", "test")
DATA = "data.yaml"
_ENDINGS = (".yaml", ".yml")
# The key of data sets of poses, whose lines are a box and points of a body.
_POSES = "kpt_shape"
_LARGEST_YAML = 1_000_000
_LARGEST_LIST = 100_000_000
# Shares beyond this are no shares: the polygons of some tools reach a little over the edge.
_FARTHEST_SHARE = 2.0
# Shares are written with so many digits that a corner is right to a millionth of a pixel.
_DIGITS = 11

# An object: the number of its class, and its corners `[K, (x, y)]` in shares.
_Labelled = tuple[int, np.ndarray]


class YoloDataset(DrawnDataset):
    """Images, classes and masks of YOLO's data sets, several of them if need be."""

    def load_yolo(
        self,
        path: PathLike,
        source: str = "yolo",
        classes: Sequence[str] | None = None,
        splits: Sequence[str] | None = None,
        *,
        skip_invalid: bool = False,
    ) -> None:
        """Add the classes and images of a data set.

        Objects outside their image are left out, and the log has their number.

        Args:
            path: the YAML file, or the folder of `data.yaml`.
            source: name of the source, for `add_class` and `add_image`.
            classes: class names, numbered from 1 in this order. None: those of the YAML file.
            splits: "train", "val", "test". None: all that there are.
            skip_invalid: leave out images and lines that cannot be used, and log how many;
                otherwise they are an error.

        Raises:
            FileNotFoundError: the YAML file, or what it names, is not there.
            ValueError: it is no such file, lines cannot be used, or `classes` differs from the
                source's classes. All messages name the file, and the line.
        """
        file = _yaml_file(Path(path))
        content = read_yaml(file)
        known = _names(content, file)
        names = list(known.values()) if classes is None else list(classes)
        check_class_names(names, file)
        problems = Problems(file, skip_invalid)
        images = list(dict.fromkeys(_images(content, file, splits)))
        if not images:
            raise ValueError(f"{file} names no images in {listed(splits or SPLITS)}.")
        unlabelled = [image for image in images if not labels_of(image).is_file()]
        if len(unlabelled) == len(images):
            raise ValueError(
                f"{file}: none of the {len(images)} images has labels; those of {images[0]} would "
                f"be {labels_of(images[0])}."
            )
        read = [
            (image, size, labelled)
            for image in images
            if (size := _size(image, problems))
            and (labelled := _read_labels(image, known, names, problems)) is not None
        ]
        problems.settle()
        if not read:
            raise ValueError(f"{file} has no image that can be used.")
        ids = add_classes(self, source, names, file)
        root = os.path.commonpath([os.path.dirname(image) for image, _, _ in read])
        outside = 0
        for image, (height, width), labelled in read:
            objects = [
                (known[number], [Polygon(shares * (width, height))]) for number, shares in labelled
            ]
            inside = [one for one in objects if not is_outside(one[1], height, width)]
            outside += len(objects) - len(inside)
            self.add_image(
                source,
                image_id=os.path.relpath(image, root).replace(os.sep, "/"),
                path=os.fspath(image),
                height=height,
                width=width,
                objects=[shapes for _, shapes in inside],
                class_ids=[ids[name] for name, _ in inside],
                annotation_file=os.fspath(labels_of(image)),
            )
        if unlabelled:
            logger.info(
                "%s: %d images have no text file, and so no objects.", file, len(unlabelled)
            )
        if outside:
            logger.warning("%s: objects left out because they lie outside: %d.", file, outside)


def is_yolo(path: PathLike) -> bool:
    """Whether this is a YAML file of a YOLO data set, or a folder with one."""
    try:
        content = read_yaml(_yaml_file(Path(path)))
        has_images = any(split in content for split in SPLITS)
        return "names" in content and has_images and _POSES not in content
    except (OSError, ValueError):
        return False


def labels_of(image: Path) -> Path:
    """The text file of an image: the last folder `images` of its path becomes `labels`."""
    parts = list(image.parts)
    places = [i for i, part in enumerate(parts[:-1]) if part == "images"]
    if places:
        parts[places[-1]] = "labels"
    return Path(*parts).with_suffix(".txt")


# ---- The YAML file -------------------------------------------------------------------------------


def _yaml_file(path: Path) -> Path:
    if path.is_dir():
        found = [file for file in files_in(path, _ENDINGS)]
        named = [file for file in found if file.stem in ("data", "dataset")]
        if len(named or found) == 1:
            return (named or found)[0]
        raise ValueError(f"{path} has the YAML files {listed(f.name for f in found)}; name one.")
    if path.suffix.lower() not in _ENDINGS:
        raise ValueError(f"{path} is no YAML file.")
    return path


def read_yaml(path: Path) -> dict[str, Any]:
    """The content of a small YAML file, read as data.

    Raises:
        FileNotFoundError: there is no such file; ValueError: it holds no object.
    """
    import yaml

    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist.")
    if path.stat().st_size > _LARGEST_YAML:
        raise ValueError(f"{path} has {path.stat().st_size:,} bytes; a data.yaml is short.")
    text = path.read_bytes()
    # An alias repeats a part of the file, and aliases of aliases fill the memory.
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise ValueError(f"{path} has aliases (*name), which a data.yaml does not need.")
        content = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is no YAML file: {shortened(error, 200)}.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds {outline(content)}; a data.yaml has names and train.")
    return content


def _names(content: dict[str, Any], file: Path) -> dict[int, str]:
    """The class names by their numbers."""
    if _POSES in content:
        raise ValueError(
            f"{file} has {_POSES}: its labels are poses, boxes with points; Mask R-CNN needs "
            "polygons, as of Ultralytics' segmentation."
        )
    names = content.get("names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names:
        raise ValueError(f"{file} has the names {quoted(names)}; they must be a list or an object.")
    if not all(type(number) is int and number >= 0 for number in names):
        raise ValueError(f"{file} has names with the numbers {listed(names)}; they count from 0.")
    for name in names.values():
        if type(name) not in (str, int, float):
            raise ValueError(
                f"{file} has the name {quoted(name)}; it must be text. YAML takes yes, no, on, off "
                'and null for other things than text if they have no quotes: "yes".'
            )
    return {number: str(names[number]) for number in sorted(names)}


def _images(content: dict[str, Any], file: Path, splits: Sequence[str] | None) -> Iterator[Path]:
    """The images of all splits."""
    root = _root(content, file)
    for split in splits or SPLITS:
        value = content.get(split)
        for place in value if isinstance(value, list) else [value]:
            if place is None and splits is None:
                continue
            if not isinstance(place, str):
                raise ValueError(f"{file}: {split} is {quoted(place)}; it must be a path.")
            yield from _images_at(place, root, file, split)


def _root(content: dict[str, Any], file: Path) -> Path:
    """The folder that paths start from: `path`, relative to the file, or the file's own."""
    stated = content.get("path")
    if stated is not None and not isinstance(stated, str):
        raise ValueError(f"{file} has the path {quoted(stated)}; it must be text.")
    root = file.parent / (stated or "")
    # Ultralytics also looks in a folder of its own settings, which is not known here.
    return root if root.is_dir() else file.parent


def _images_at(place: str, root: Path, file: Path, split: str) -> Iterator[Path]:
    # Roboflow writes `../train/images` where it means a folder beside the file.
    tried = [root / place, root / place.removeprefix("../")]
    found = next((path for path in tried if path.exists()), None)
    if found is None:
        raise FileNotFoundError(f"{file}: {split} is {quoted(place)}, and {tried[0]} is not there.")
    if found.is_dir():
        images = sorted(path for path in found.rglob("*") if path.suffix.lower() in IMAGE_ENDINGS)
        yield from (path for path in images if path.is_file() and not path.name.startswith("."))
        return
    if found.suffix.lower() != ".txt" or found.stat().st_size > _LARGEST_LIST:
        raise ValueError(f"{file}: {split} is {found}, neither a folder nor a list of images.")
    for line in found.read_text(encoding="utf-8-sig", errors="replace").splitlines():
        if line.strip():
            # `./` stands for the folder of the list.
            name = line.strip().removeprefix("./")
            yield found.parent / name


def _size(image: Path, problems: Problems) -> tuple[int, int] | None:
    try:
        size = possible_sizes(image)[-1]  # as the image is shown
    except (OSError, ValueError) as error:
        problems.add(f"image {image.name}", f"cannot be used: {error}")
        return None
    if problem := problem_of_image_size(*size):
        problems.add(f"image {image.name}", problem)
        return None
    return size


# ---- Labels --------------------------------------------------------------------------------------


def _read_labels(
    image: Path, known: dict[int, str], names: Sequence[str], problems: Problems
) -> list[_Labelled] | None:
    """The objects of an image; None, with a problem, if its file cannot be read."""
    file = labels_of(image)
    if not file.is_file():
        return []
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        problems.add(f"{file.name}", f"cannot be read: {shortened(error, 200)}.")
        return None
    found = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                found.append(_read_line(line, known, names))
            except ValueError as error:
                problems.add(f"{file.name}, line {number}", str(error))
    return found


def _read_line(line: str, known: dict[int, str], names: Sequence[str]) -> _Labelled:
    """An object.

    Raises:
        ValueError: no such line; the message begins with a verb.
    """
    try:
        number, *shares = (float(word) for word in line.split())
    except ValueError as error:
        raise ValueError(f"has something else than numbers: {quoted(line[:60])}.") from error
    if number not in known or known[int(number)] not in names:
        raise ValueError(f"has the class {number:g}; the classes are {listed(known)}.")
    if len(shares) == 4:
        raise ValueError(
            "is a box (a class and four numbers); Mask R-CNN needs polygons, as of "
            "Ultralytics' segmentation."
        )
    if len(shares) < 6 or len(shares) % 2:
        raise ValueError(
            f"has {len(shares)} numbers after the class; a polygon has x and y of at least three "
            "points."
        )
    values = np.array(shares)
    if not np.isfinite(values).all() or np.abs(values).max() > _FARTHEST_SHARE:
        raise ValueError(
            f"has the coordinate {values[np.abs(values).argmax()]:g}; they are shares of width and "
            "height, 0 to 1."
        )
    return int(number), values.reshape(-1, 2)


# ---- Writing -------------------------------------------------------------------------------------


def write_yolo(
    images: Iterable[LabelledImage], class_names: Sequence[str], folder: PathLike
) -> list[str]:
    """Write `data.yaml`, `images/` and `labels/`; all images are `train` and `val` at once.

    An object is one polygon: as it was drawn, cut to the image, or along the edges of its pixels.
    Parts and holes are joined by bridges without width.

    Arguments, result and errors are those of every format, see `objects`.
    """
    import yaml

    folder = start_folder(folder)
    check_class_names(class_names, folder)
    numbers = {name: number for number, name in enumerate(class_names)}
    names, crowds, bridged, unturned = FileNames(), 0, 0, 0
    for image in images:
        if (image.height, image.width) in possible_sizes(image.path)[:-1]:
            unturned += 1
            continue
        stem, ending = names.pick(image)
        copy_image(image, folder / "images" / f"{stem}{ending}")
        lines = []
        for labelled in image.objects:
            if labelled.is_crowd:
                crowds += 1
                continue
            shares, is_bridged = _ring(labelled)
            bridged += is_bridged
            corners = " ".join(f"{share:.{_DIGITS}f}".rstrip("0") for share in shares.ravel())
            lines.append(f"{numbers[labelled.class_name]} {corners}\n")
        write_text(folder / "labels" / f"{stem}.txt", "".join(lines))
    # Without `path`, Ultralytics starts from this file's folder; "." would be the one it runs in.
    content: dict[str, Any] = {"train": "images", "val": "images"}
    content |= {"names": {number: name for name, number in numbers.items()}}
    write_text(folder / DATA, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    return [
        *crowds_left_out(crowds, "YOLO"),
        *bridges(bridged, "YOLO"),
        *_unturned_sentences(unturned),
    ]


def _unturned_sentences(count: int) -> list[str]:
    if not count:
        return []
    images = "1 image is" if count == 1 else f"{count:,} images are"
    return [
        f"{images} left out: the masks are drawn on the pixels as stored, and YOLO turns images by "
        "their rotation tag; store them turned."
    ]


def _ring(labelled: LabelledObject) -> tuple[np.ndarray, bool]:
    """The polygon of an object in shares, as they are read again, and whether it has bridges."""
    size = labelled.mask.shape
    if labelled.ring is not None:
        # Ultralytics leaves out images with shares far outside 0 to 1, and so does the reader here.
        labelled = labelled._replace(ring=labelled.ring.clip(0, size[::-1]))

    def shares(ring: np.ndarray) -> np.ndarray:
        return np.round(ring / size[::-1], _DIGITS)

    parts = drawn_or_exact(labelled, lambda ring: Polygon(shares(ring) * size[::-1]).draw(*size))
    return shares(joined(parts)), len(parts) > 1 or bool(parts[0].holes)
