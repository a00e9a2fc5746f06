"""All formats of labels by name, and which of them a file or folder holds.

dataset = open_labels("leaves")                    # any format, prepared
dataset = open_labels("annotations.json", images="photos")
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mrcnn.data.dataset import Dataset
from mrcnn.data.formats.coco import CocoFormatDataset, is_coco, write_coco
from mrcnn.data.formats.cvat import CvatDataset, is_cvat, read_xml, write_cvat
from mrcnn.data.formats.data_folders import files_in, folders_in
from mrcnn.data.formats.label_images import LabelImageDataset, is_label_images, write_label_images
from mrcnn.data.formats.labelme import LabelmeDataset, is_labelme, write_labelme
from mrcnn.data.formats.mask_folder import MaskFolderDataset, is_mask_folder, write_mask_folder
from mrcnn.data.formats.objects import LabelledImage
from mrcnn.data.formats.supervisely import SuperviselyDataset, is_supervisely, write_supervisely
from mrcnn.data.formats.table import (
    TableDataset,
    group_rows,
    is_table,
    numbered_classes,
    read_table,
)
from mrcnn.data.formats.via import ViaDataset, class_attribute, is_via, peek, write_via
from mrcnn.data.formats.yolo import YoloDataset, is_yolo, write_yolo
from mrcnn.files import read_json
from mrcnn.messages import did_you_mean, listed
from mrcnn.types import PathLike

logger = logging.getLogger("mrcnn")

Write = Callable[[Iterable[LabelledImage], Sequence[str], PathLike], list[str]]
# Annotations of these kinds are looked for in a folder, in it and in these folders of it.
_FILE_ENDINGS = (".json", ".xml", ".parquet", ".gzip")
_FILE_FOLDERS = (".", "annotations")
_IMAGE_FOLDERS = (".", "images", "default")


class Options(NamedTuple):
    """What the user says about a data set.

    Attributes:
        images: where the images are; None: beside the labels.
        classes: class names in their order; None: those of the data.
        attribute: VIA's region attribute that is the class; None: found out.
        line_width: of VIA's polylines in pixels; None: they are closed.
        skip_invalid: leave out what cannot be used.
    """

    images: Path | None = None
    classes: Sequence[str] | None = None
    attribute: str | None = None
    line_width: float | None = None
    skip_invalid: bool = False


class Format(NamedTuple):
    """A format of labels.

    Attributes:
        text: what it is, in a few words.
        holds: whether a path holds it, from its content; reads little, never raises.
        is_file: the labels are one file; otherwise a folder.
        open: reads the labels at a path; the Dataset is not prepared.
        write: writes labels to a folder; None if it is only read.
    """

    text: str
    holds: Callable[[PathLike], bool]
    is_file: bool
    open: Callable[[Path, Options], Dataset]
    write: Write | None


# ---- Opening -------------------------------------------------------------------------------------


def _open_coco(path: Path, options: Options) -> Dataset:
    content = read_json(path)
    names = [image.get("file_name") for image in _entries(content, "images")]
    dataset = CocoFormatDataset()
    class_ids = None if options.classes is None else _category_ids(content, path, options.classes)
    dataset.add_annotations(
        content,
        path,
        options.images or _image_folder(path, names),
        class_ids=class_ids,
        skip_invalid=options.skip_invalid,
    )
    return dataset


def _entries(content: Any, part: str) -> list[dict[str, Any]]:
    entries = content.get(part) if isinstance(content, dict) else None
    return [one for one in entries if isinstance(one, dict)] if isinstance(entries, list) else []


def _category_ids(content: Any, path: Path, classes: Sequence[str]) -> list[int]:
    """The category ids of class names; all categories must be among them."""
    ids = {str(one.get("name")): one.get("id") for one in _entries(content, "categories")}
    unknown = [name for name in ids if name not in classes]
    if unknown:
        raise ValueError(
            f"{path} has the category {listed(unknown)}, which is not among the classes "
            f"{listed(classes)}."
        )
    missing = [name for name in classes if name not in ids]
    # Classes that the file lacks keep their place.
    free = max((i for i in ids.values() if isinstance(i, int)), default=0) + 1
    for number, name in enumerate(missing, start=free):
        content["categories"].append({"id": number, "name": name})
        ids[name] = number
    return [ids[name] for name in classes]  # type: ignore[misc]


def _open_via(path: Path, options: Options) -> Dataset:
    attribute = options.attribute or class_attribute(path)
    names = [name for name, _ in peek(path)]
    dataset = ViaDataset()
    classes = options.classes
    dataset.load_via(
        path,
        options.images or _image_folder(path, names),
        source="via" if classes or attribute else "object",
        attribute=attribute,
        classes=classes,
        line_width=options.line_width,
        skip_invalid=options.skip_invalid,
    )
    return dataset


def _open_cvat(path: Path, options: Options) -> Dataset:
    names = [one.get("name") for one in read_xml(path).iter("image")]
    dataset = CvatDataset()
    dataset.load_cvat(
        path,
        options.images or _image_folder(path, names),
        classes=options.classes,
        skip_invalid=options.skip_invalid,
    )
    return dataset


def _open_instances(path: Path, options: Options) -> Dataset:
    dataset = TableDataset()
    classes = list(options.classes or numbered_classes(path))
    ids = list(group_rows(read_table(path, len(classes), options.skip_invalid)))
    dataset.load_table(
        path,
        options.images or path.parent,
        ids,
        classes=classes,
        source="instances",
        skip_invalid=options.skip_invalid,
    )
    return dataset


def _open_labelme(path: Path, options: Options) -> Dataset:
    dataset = LabelmeDataset()
    dataset.load_labelme(path, classes=options.classes, skip_invalid=options.skip_invalid)
    return dataset


def _open_yolo(path: Path, options: Options) -> Dataset:
    dataset = YoloDataset()
    dataset.load_yolo(path, classes=options.classes, skip_invalid=options.skip_invalid)
    return dataset


def _open_masks(path: Path, options: Options) -> Dataset:
    dataset = MaskFolderDataset()
    dataset.load_mask_folder(path, classes=options.classes, skip_invalid=options.skip_invalid)
    return dataset


def _open_label_images(path: Path, options: Options) -> Dataset:
    dataset = LabelImageDataset()
    dataset.load_label_images(path, classes=options.classes, skip_invalid=options.skip_invalid)
    return dataset


def _open_supervisely(path: Path, options: Options) -> Dataset:
    dataset = SuperviselyDataset()
    dataset.load_supervisely(path, classes=options.classes, skip_invalid=options.skip_invalid)
    return dataset


FORMATS = {
    "coco": Format("COCO's JSON", is_coco, True, _open_coco, write_coco),
    "via": Format("VGG Image Annotator, 1 and 2", is_via, True, _open_via, write_via),
    "labelme": Format("LabelMe's JSON files", is_labelme, False, _open_labelme, write_labelme),
    "cvat": Format("CVAT for images 1.1, XML", is_cvat, True, _open_cvat, write_cvat),
    "yolo": Format("YOLO for segmentation", is_yolo, False, _open_yolo, write_yolo),
    "masks": Format(
        "a mask file per object", is_mask_folder, False, _open_masks, write_mask_folder
    ),
    "labels": Format(
        "label images: Cellpose, StarDist, QuPath",
        is_label_images,
        False,
        _open_label_images,
        write_label_images,
    ),
    "instances": Format("a table beside instance masks", is_table, True, _open_instances, None),
    "supervisely": Format(
        "a Supervisely project", is_supervisely, False, _open_supervisely, write_supervisely
    ),
}


def open_labels(
    path: PathLike,
    format: str | None = None,
    *,
    images: PathLike | None = None,
    classes: Sequence[str] | None = None,
    attribute: str | None = None,
    line_width: float | None = None,
    skip_invalid: bool = False,
) -> Dataset:
    """Read labels of any format.

    Args:
        path: a file, or a folder that holds labels.
        format: a name in `FORMATS`. None: found out from the content.
        images: where the images are, for formats whose labels are one file.
        classes: class names, numbered from 1 in this order. None: those of the data.
        attribute: VIA's region attribute that is the class.
        line_width: of VIA's polylines in pixels; None: they are closed.
        skip_invalid: leave out what cannot be used; otherwise it is an error.

    Returns:
        A prepared Dataset.

    Raises:
        FileNotFoundError: there is no such path, or an image is missing.
        ValueError: no format, several formats, or labels that cannot be used.
    """
    name, place = find_format(path, format)
    folder = None if images is None else Path(images)
    options = Options(folder, classes, attribute, line_width, skip_invalid)
    dataset = FORMATS[name].open(place, options)
    dataset.prepare()
    _warn_of_near_names([str(info["name"]) for info in dataset.class_info[1:]], path)
    return dataset


def _warn_of_near_names(names: Sequence[str], path: PathLike) -> None:
    """Warn of classes that differ in case or spaces only: most often they are meant to be one."""
    first: dict[str, str] = {}
    for name in names:
        other = first.setdefault("".join(name.casefold().split()), name)
        if other != name:
            logger.warning(
                "%s: the classes %r and %r differ in case or spaces only, and count as two; give "
                "them one name if they are one.",
                path,
                other,
                name,
            )


# ---- Finding -------------------------------------------------------------------------------------


def check_format(name: str) -> None:
    """Check a format's name.

    Raises:
        ValueError: an unknown name.
    """
    if name not in FORMATS:
        raise ValueError(
            f"{name!r} is no format of labels; there are {', '.join(FORMATS)}."
            f"{did_you_mean(name, FORMATS)}"
        )


def find_format(path: PathLike, format: str | None = None) -> tuple[str, Path]:
    """The format of labels, and the file or folder that holds them.

    Args:
        path: a file or a folder; format: a name in `FORMATS`, if it is known.

    Raises:
        FileNotFoundError: there is no such path.
        ValueError: no labels were found, or several; the message says what was looked for.
    """
    path = Path(path)
    if format is not None:
        check_format(format)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; name a file or folder of labels.")
    wanted = {format: FORMATS[format]} if format else FORMATS
    found = list(_found(path, wanted))
    if len(found) == 1:
        return found[0]
    if not found and format and (path.is_file() or not FORMATS[format].is_file):
        # Its reader says best what is wrong.
        return format, path
    if not found:
        raise ValueError(_nothing(path, wanted))
    names = list(dict.fromkeys(name for name, _ in found))
    if len(names) > 1:
        raise ValueError(
            f"{path} holds labels of several formats: "
            + ", ".join(f"{name} ({place.name})" for name, place in found)
            + "; name one with --format, or give its file."
        )
    raise ValueError(
        f"{path} holds several files of labels: {listed(place.name for _, place in found)}; give "
        "one of them."
    )


def _found(path: Path, wanted: dict[str, Format]) -> Iterable[tuple[str, Path]]:
    if path.is_file():
        yield from ((name, path) for name, kind in wanted.items() if kind.holds(path))
        return
    folders = {name: kind for name, kind in wanted.items() if not kind.is_file}
    found = [(name, path) for name, kind in folders.items() if kind.holds(path)]
    if ("labelme", path) in found:
        # An image beside LabelMe's files may have a name like that of a label image.
        found = [(name, place) for name, place in found if name != "labels"]
    yield from found
    # The files of LabelMe and Supervisely are JSON too.
    taken = {name for name, _ in found} & {"labelme", "supervisely"}
    files = {name: kind for name, kind in wanted.items() if kind.is_file}
    for folder in _FILE_FOLDERS if not taken else ():
        for file in files_in(path / folder, _FILE_ENDINGS):
            yield from ((name, file) for name, kind in files.items() if kind.holds(file))


def _nothing(path: Path, wanted: dict[str, Format]) -> str:
    inside = [inner.name for inner in [*folders_in(path), *_visible_files(path)]]
    holds = f"it holds {listed(inside)}" if path.is_dir() else "its content is none of them"
    deeper = [inner.name for inner in folders_in(path) if list(_found(inner, wanted))][:8]
    hint = f" There are labels in {listed(deeper)}: name one of these folders." if deeper else ""
    looked_for = ", ".join(f"{name} ({kind.text})" for name, kind in wanted.items())
    return f"{path} has no labels that are known here: {holds}. Looked for {looked_for}.{hint}"


def _visible_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    return sorted(one for one in path.iterdir() if one.is_file() and not one.name.startswith("."))


def _image_folder(labels: Path, names: Sequence[Any]) -> Path:
    """The folder that holds the images that a file of labels names.

    That is the folder of the file, `images` in it or beside it, or a folder of the name of the
    file's split: `val2017` for `instances_val2017.json`.
    """
    split = labels.stem.rpartition("_")[2]
    parents = [labels.parent, labels.parent.parent]
    tried = [
        parent / inner for parent in parents for inner in (*_IMAGE_FOLDERS, split, labels.stem)
    ]
    first = [name for name in names if isinstance(name, str) and name][:20]
    for folder in tried:
        if folder.is_dir() and any((folder / name.replace("\\", "/")).is_file() for name in first):
            return folder
    # Its reader says which image is missing.
    return next((folder for folder in tried[1:] if folder.is_dir()), labels.parent)
