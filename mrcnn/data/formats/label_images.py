"""Label images: one PNG or TIFF per image, in which each object has its own number.

    dataset = LabelImageDataset()
    dataset.load_label_images("cells", classes=["cell"])
    dataset.prepare()

A label image has 8, 16 or 32 bits in one channel; 0 is background. Three layouts are read:

    images/a.tif  masks/a.tif            StarDist; QuPath with the folder labels instead of masks
    a.tif  a_masks.tif                   Cellpose, in one folder; QuPath with a-labels.tif
    images/a.tif  labels/cell/a.tif      one folder per class

In all of them, the name of a label image may end with `_masks`, `_cp_masks`, `-labels`, `_labels`,
`-labelled` or `_labelled`, where that of the image may end with `_img`. Without folders per class
the class is "object", or the only class of `classes` or of `classes.txt`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mrcnn.data.dataset import Dataset
from mrcnn.data.formats.data_folders import (
    FileNames,
    FolderClasses,
    check_folder,
    class_folders,
    copy_image,
    crowds_left_out,
    files_in,
    folders_in,
    start_folder,
    write_class_file,
)
from mrcnn.data.formats.objects import LabelledImage, LabelledObject
from mrcnn.data.formats.problems import Problems
from mrcnn.data.formats.raster_files import (
    LABEL_ENDINGS,
    common_size,
    label_size,
    read_labels,
    sized,
    write_labels,
)
from mrcnn.messages import listed
from mrcnn.types import PathLike

logger = logging.getLogger("mrcnn")

# What tools append to an image's name for its label image, longer ones first.
_LABEL_ENDS = ("_cp_masks", "_masks", "-labelled", "_labelled", "-labels", "_labels")
_IMAGE_END = "_img"
# Pictures that Cellpose writes beside an image: they are neither images nor labels.
_BY_PRODUCTS = ("_flows", "_cp_flows", "_outlines", "_cp_outlines", "_cp_output", "_cp")
_PICKLE_END = "_seg.npy"
_LABEL_FOLDERS = ("labels", "masks")
# The masks of one image, one byte per pixel and object.
_MOST_BYTES = 8 * 2**30
_LAYOUTS = (
    "images/a.tif with masks/a.tif or labels/a.tif, a.tif with a_masks.tif, or images/a.tif with "
    "labels/<class>/a.tif"
)

# The folder of the class, and the file.
_Labels = tuple[str | None, Path]


class _Image(NamedTuple):
    """An image with its label images, one per class that it shows."""

    stem: str
    path: Path
    labels: list[_Labels]


class LabelImageDataset(Dataset):
    """Images, classes and masks of label images, of several folders if need be."""

    def load_label_images(
        self,
        path: PathLike,
        source: str = "labels",
        classes: Sequence[str] | None = None,
        *,
        skip_invalid: bool = False,
    ) -> None:
        """Add the classes and images of a folder. Headers are read, no pixel is.

        Args:
            path: the folder.
            source: name of the source, for `add_class` and `add_image`.
            classes: class names, numbered from 1 in this order. None: those of `classes.txt`, else
                the folders of classes in alphabetical order, else "object".
            skip_invalid: leave out images and label images that cannot be used, and log how many;
                otherwise they are an error.

        Raises:
            FileNotFoundError: there is no such folder.
            ValueError: it has none of the layouts, files cannot be used, or `classes` differs from
                the source's classes. All messages name the folder and the image.
        """
        check_folder(path)
        problems = Problems(path, skip_invalid)
        images = _find(Path(path), problems)
        chosen = FolderClasses({f for image in images for f, _ in image.labels}, classes, path)
        usable = []
        for image in images:
            names = [chosen.of(f, f"image {image.stem}", problems) for f, _ in image.labels]
            size = _size(image, problems) if None not in names else None
            if size is not None:
                usable.append((image, size, names))
        problems.settle()
        if not usable:
            raise ValueError(f"{path} has no image that can be used.")
        ids = chosen.add_to(self, source)
        for image, (height, width), names in usable:
            self.add_image(
                source,
                image_id=image.stem,
                path=os.fspath(image.path),
                file_name=image.path.name,
                height=height,
                width=width,
                label_files=[os.fspath(file) for _, file in image.labels],
                class_ids=[ids[name] for name in names if name is not None],
            )

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Masks and classes of an image, class by class in ascending order of their numbers.

        Returns:
            masks `[H, W, N]` bool; class ids `[N]` int32.

        Raises:
            ValueError: a label image that cannot be read or has too many objects, with its file.
        """
        info = self.image_info[image_id]
        if "label_files" not in info:
            return super().load_mask(image_id)
        size = info["height"], info["width"]
        masks, class_ids = [np.zeros((*size, 0), bool)], []
        for file, class_id in zip(info["label_files"], info["class_ids"], strict=True):
            masks.append(_masks_of(file, size))
            number = self.map_source_class_id(f"{info['source']}.{class_id}")
            class_ids += [number] * masks[-1].shape[2]
        joined = masks[1] if len(masks) == 2 else np.concatenate(masks, axis=2)
        return joined, np.array(class_ids, np.int32)


def is_label_images(path: PathLike) -> bool:
    """Whether a folder has one of the layouts, from the names in it."""
    try:
        folder = Path(path)
        if (folder / "images").is_dir():
            stems = {file.stem for file in files_in(folder / "images")}
            return any(_stem_of(file, stems) is not None for _, file in _label_files(folder))
        files = files_in(folder)
        stems = {file.stem for file in files if not _is_labels(file)}
        return any(_is_labels(file) and _stem_of(file, stems) is not None for file in files)
    except (OSError, ValueError):
        return False


def _masks_of(file: str, size: tuple[int, int]) -> np.ndarray:
    """The masks `[H, W, N]` of a label image, in ascending order of their numbers."""
    try:
        labels = read_labels(file)
    except ValueError as error:
        raise ValueError(f"{file} {error}") from error
    if labels.shape != size:
        raise ValueError(f"{file} has {sized(labels.shape)}; its image has {sized(size)}.")
    numbers = np.unique(labels)
    numbers = numbers[numbers != 0]
    if labels.size * len(numbers) > _MOST_BYTES:
        raise ValueError(
            f"{file} has {len(numbers):,} objects in {sized(size)} pixels, whose masks take more "
            f"than {_MOST_BYTES // 2**30} GB of memory; is it a label image? If so, cut it into "
            "smaller ones."
        )
    # Contiguous per object, which makes filling and searching masks fastest.
    return np.moveaxis(labels == numbers[:, None, None], 0, -1)


# ---- Finding images and labels -------------------------------------------------------------------


def _find(folder: Path, problems: Problems) -> list[_Image]:
    if (folder / "images").is_dir():
        images = files_in(folder / "images")
        labels = _label_files(folder)
        pickles = _pickles(folder / "images", *(folder / name for name in _LABEL_FOLDERS))
    else:
        files = files_in(folder)
        images = [file for file in files if not _is_labels(file)]
        images = _without_by_products(images, folder)
        labels = [(None, file) for file in files if _is_labels(file)]
        pickles = _pickles(folder)
    if not labels and not (images and pickles):
        inside = [path.name for path in [*folders_in(folder), *files_in(folder)]]
        raise ValueError(
            f"{folder} has no label images: it holds {listed(inside)}, and must hold {_LAYOUTS}."
        )
    return _matched(images, labels, pickles, problems)


def _label_files(folder: Path) -> list[_Labels]:
    """The label images of `labels` or `masks` beside `images`; those in folders with the folder."""
    found: list[_Labels] = []
    for name in _LABEL_FOLDERS:
        found += [(None, file) for file in files_in(folder / name, LABEL_ENDINGS)]
    for inner in folders_in(folder / "labels"):
        found += [(inner.name, file) for file in files_in(inner, LABEL_ENDINGS)]
    return found


def _matched(
    images: list[Path], labels: list[_Labels], pickles: set[str], problems: Problems
) -> list[_Image]:
    """Each image with its label images; what has no partner, or two, is a problem."""
    by_stem: dict[str, list[Path]] = {}
    for path in images:
        by_stem.setdefault(path.stem, []).append(path)
    labels_by_stem: dict[str, list[_Labels]] = {}
    for folder, file in labels:
        stem = _stem_of(file, by_stem)
        if stem is None:
            problems.add(f"label image {file.parent.name}/{file.name}", "has no image of its name.")
        else:
            labels_by_stem.setdefault(stem, []).append((folder, file))
    matched = []
    for stem, paths in by_stem.items():
        own = labels_by_stem.get(stem, [])
        problem = _problem_of_match(stem, paths, own, stem in pickles)
        if problem:
            problems.add(f"image {stem}", problem)
        else:
            matched.append(_Image(stem, paths[0], own))
    return matched


def _problem_of_match(
    stem: str, paths: list[Path], labels: list[_Labels], has_pickle: bool
) -> str | None:
    folders = [folder for folder, _ in labels]
    if len(paths) > 1:
        return f"is there twice: {listed(path.name for path in paths)}; labels belong to one."
    if not labels and has_pickle:
        return (
            f"has its labels in {stem}{_PICKLE_END} only, a pickle, which can run programs and is "
            "not opened; in Cellpose, save the masks as PNG or TIFF."
        )
    if not labels:
        return f"has no label image, such as {stem}_masks.tif; without objects it is all 0."
    if len(set(folders)) < len(folders):
        names = listed(f"{file.parent.name}/{file.name}" for _, file in labels)
        return f"has several label images: {names}; it must have one."
    return None


def _stem_of(file: Path, stems: Collection[str]) -> str | None:
    """The stem of the image that a label image belongs to; None if it is not among `stems`."""
    bare = next((file.stem.removesuffix(e) for e in _LABEL_ENDS if file.stem.endswith(e)), None)
    possible = [file.stem] if bare is None else [file.stem, bare, f"{bare}{_IMAGE_END}"]
    return next((stem for stem in possible if stem in stems), None)


def _is_labels(path: Path) -> bool:
    """Whether a file beside images is a label image, by the end of its name."""
    return path.stem.endswith(_LABEL_ENDS) and path.suffix.lower() in LABEL_ENDINGS


def _pickles(*folders: Path) -> set[str]:
    """The stems of images that have a `_seg.npy`."""
    files = [file for folder in folders for file in files_in(folder, (".npy",))]
    ends = [file.name for file in files if file.name.endswith(_PICKLE_END)]
    return {name.removesuffix(_PICKLE_END) for name in ends}


def _without_by_products(images: list[Path], folder: Path) -> list[Path]:
    """The images without the pictures that Cellpose made of them; the log has their number."""
    stems = {path.stem for path in images}
    made = [
        path
        for path in images
        for end in _BY_PRODUCTS
        if path.stem.endswith(end) and path.stem.removesuffix(end) in stems
    ]
    if made:
        logger.info(
            "%s: %d pictures such as %s, which Cellpose wrote beside the images, are no images.",
            folder,
            len(made),
            made[0].name,
        )
    return [path for path in images if path not in set(made)]


def _size(image: _Image, problems: Problems) -> tuple[int, int] | None:
    files = [file for _, file in image.labels]
    return common_size(
        f"image {image.stem}", image.path, files, "label image", label_size, problems
    )


# ---- Writing -------------------------------------------------------------------------------------


def write_label_images(
    images: Iterable[LabelledImage], class_names: Sequence[str], folder: PathLike
) -> list[str]:
    """Write `images/`, `labels/` with TIFFs, and `classes.txt`.

    With several classes, label images lie in `labels/<class>/`. A number has 16 bits, or 32 where
    an image has more objects. Image files are copied unchanged.

    Arguments, result and errors are those of every format, see `objects`.
    """
    folder = start_folder(folder)
    write_class_file(folder, class_names)
    folders, names = class_folders(class_names), FileNames()
    crowds = covered = hidden = 0
    for image in images:
        stem, ending = names.pick(image)
        copy_image(image, folder / "images" / f"{stem}{ending}")
        by_class: dict[str, list[LabelledObject]] = {}
        for labelled in image.objects:
            crowds += labelled.is_crowd
            if not labelled.is_crowd:
                by_class.setdefault(labelled.class_name, []).append(labelled)
        # An image without objects has a label image too, or it would count as unlabelled.
        for name in by_class or class_names[:1]:
            labels, partly, wholly = _numbered(by_class.get(name, []), image)
            covered, hidden = covered + partly, hidden + wholly
            write_labels(folder / "labels" / folders[name] / f"{stem}.tif", labels)
    return [*crowds_left_out(crowds, "a label image"), *_overlap_sentences(covered, hidden)]


def _numbered(objects: list[LabelledObject], image: LabelledImage) -> tuple[np.ndarray, int, int]:
    """A label image, and how many objects later ones cover in part and as a whole."""
    labels = np.zeros((image.height, image.width), np.uint32)
    for number, labelled in enumerate(objects, start=1):
        labels[labelled.mask] = number
    left = np.bincount(labels.ravel(), minlength=len(objects) + 1)[1:]
    whole = np.array([labelled.mask.sum() for labelled in objects], int)
    wholly = left == 0
    return labels, int((~wholly & (left < whole)).sum()), int(wholly.sum())


def _overlap_sentences(covered: int, hidden: int) -> list[str]:
    why = "in a label image a pixel belongs to one object, here the later one"
    sentences = []
    if covered:
        objects, share = (
            ("1 object loses", "it shares")
            if covered == 1
            else (f"{covered:,} objects lose", "they share")
        )
        sentences.append(f"{objects} the pixels that {share} with others: {why}.")
    if hidden:
        objects, whose = (
            ("1 object is", "its") if hidden == 1 else (f"{hidden:,} objects are", "their")
        )
        sentences.append(f"{objects} left out, because others cover all of {whose} pixels: {why}.")
    return sentences
