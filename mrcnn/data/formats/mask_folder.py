"""Folders with one mask file per object.

    dataset = MaskFolderDataset()
    dataset.load_mask_folder("stage1_train", classes=["nucleus"])
    dataset.prepare()

Two layouts are read, the first as Kaggle's Data Science Bowl 2018 has it:

    <image>/images/<image>.png      <image>/masks/*.png
    images/<image>.png              masks/<image>/*.png

A mask may lie in a folder of its class, `masks/<class>/*.png` or `masks/<image>/<class>/*.png`.
Otherwise its class is "object", or the only class of `classes` or of `classes.txt`. An image
without objects has a folder of masks that is empty; without that folder it counts as unlabelled.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
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
from mrcnn.data.formats.objects import LabelledImage
from mrcnn.data.formats.problems import Problems
from mrcnn.data.formats.raster_files import (
    MASK_ENDINGS,
    common_size,
    mask_size,
    read_mask,
    sized,
    write_mask,
)
from mrcnn.messages import listed
from mrcnn.types import PathLike

logger = logging.getLogger("mrcnn")

_LAYOUTS = (
    "<image>/images/<image>.png with <image>/masks/*.png, or images/<image>.png with "
    "masks/<image>/*.png"
)


class _Image(NamedTuple):
    """An image with the files of its masks."""

    name: str
    path: Path
    masks: list[tuple[str | None, Path]]  # the folder of the class, and the file


class MaskFolderDataset(Dataset):
    """Images, classes and masks of folders, several of them if need be."""

    def load_mask_folder(
        self,
        path: PathLike,
        source: str = "masks",
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
            skip_invalid: leave out images that cannot be used, with all their masks, and log how
                many; otherwise they are an error.

        Raises:
            FileNotFoundError: there is no such folder.
            ValueError: it has neither layout, images or masks cannot be used, or `classes` differs
                from the source's classes. All messages name the folder and the image.
        """
        check_folder(path)
        problems = Problems(path, skip_invalid)
        images = _find(Path(path), problems)
        found = {folder for image in images for folder, _ in image.masks}
        chosen = FolderClasses(found, classes, path)
        usable = []
        for image in images:
            names = {f: chosen.of(f, _called(image), problems) for f in _folders_of(image)}
            size = _size(image, problems) if None not in names.values() else None
            if size is not None:
                usable.append((image, size, [names[folder] for folder, _ in image.masks]))
        problems.settle()
        if not usable:
            raise ValueError(f"{path} has no image that can be used.")
        ids = chosen.add_to(self, source)
        for image, (height, width), labels in usable:
            self.add_image(
                source,
                image_id=image.name,
                path=os.fspath(image.path),
                file_name=f"{image.name}{image.path.suffix}",
                height=height,
                width=width,
                mask_files=[os.fspath(file) for _, file in image.masks],
                class_ids=[ids[label] for label in labels if label is not None],
            )

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Masks and classes of an image.

        Returns:
            masks `[H, W, N]` bool; class ids `[N]` int32. A mask without a pixel is left out.

        Raises:
            ValueError: a mask that cannot be read, named with its file.
        """
        info = self.image_info[image_id]
        if "mask_files" not in info:
            return super().load_mask(image_id)
        masks = read_masks(info["mask_files"], info["height"], info["width"])
        source = info["source"]
        class_ids = [self.map_source_class_id(f"{source}.{i}") for i in info["class_ids"]]
        drawn = masks.any(axis=(0, 1))
        return (
            masks if drawn.all() else masks[:, :, drawn],
            np.array(class_ids, np.int32)[drawn],
        )


def is_mask_folder(path: PathLike) -> bool:
    """Whether a folder has one of the two layouts, from the names in it."""
    try:
        folder = Path(path)
        if (folder / "images").is_dir():
            stems = {file.stem for file in files_in(folder / "images")}
            return any(inner.name in stems for inner in folders_in(folder / "masks"))
        return any(_is_image_folder(inner) for inner in folders_in(folder))
    except (OSError, ValueError):
        return False


def read_masks(files: Sequence[PathLike], height: int, width: int) -> np.ndarray:
    """The masks of an image: `[height, width, number of files]` bool.

    Raises:
        ValueError: a file that cannot be read or has another size, with its name.
    """
    masks = np.zeros((len(files), height, width), bool)
    for i, file in enumerate(files):
        try:
            mask = read_mask(file)
        except ValueError as error:
            raise ValueError(f"{file} {error}") from error
        if mask.shape != (height, width):
            raise ValueError(f"{file} has {sized(mask.shape)}; its image has {height}x{width}.")
        masks[i] = mask
    return np.moveaxis(masks, 0, -1)


def mask_files(folder: PathLike) -> list[Path]:
    """The files of masks that lie directly in a folder, by name."""
    return files_in(folder, MASK_ENDINGS)


# ---- Finding images and masks --------------------------------------------------------------------


def _find(folder: Path, problems: Problems) -> list[_Image]:
    if (folder / "images").is_dir() and (folder / "masks").is_dir():
        images = list(_side_by_side(folder, problems))
    else:
        images = list(_one_folder_each(folder, problems))
    if not images and not problems.count:
        inside = [path.name for path in [*folders_in(folder), *files_in(folder)]]
        raise ValueError(
            f"{folder} has no masks: it holds {listed(inside)}, and must hold {_LAYOUTS}."
        )
    return images


def _side_by_side(folder: Path, problems: Problems) -> Iterator[_Image]:
    """The images of `images/<image>.png` and `masks/<image>/*.png`."""
    by_stem: dict[str, list[Path]] = {}
    for path in files_in(folder / "images"):
        by_stem.setdefault(path.stem, []).append(path)
    for file in mask_files(folder / "masks"):
        problems.add(f"masks/{file.name}", "lies in no folder of an image, masks/<image>/.")
    for inner in folders_in(folder / "masks"):
        if inner.name not in by_stem:
            problems.add(f"masks/{inner.name}", f"has no image images/{inner.name}.*.")
    for stem, paths in by_stem.items():
        if len(paths) > 1:
            problems.add(f"image {stem}", f"is there twice: {listed(p.name for p in paths)}.")
        else:
            yield from _with_masks(stem, paths[0], folder / "masks" / stem, problems)


def _one_folder_each(folder: Path, problems: Problems) -> Iterator[_Image]:
    """The images of `<image>/images/<image>.png` and `<image>/masks/*.png`."""
    for inner in folders_in(folder):
        if not (inner / "images").is_dir():
            continue
        paths = files_in(inner / "images")
        named = [path for path in paths if path.stem == inner.name]
        if len(named or paths) == 1:
            yield from _with_masks(inner.name, (named or paths)[0], inner / "masks", problems)
        elif paths:
            problems.add(
                f"image {inner.name}",
                f"has several image files, {listed(p.name for p in named or paths)}; it must have "
                f"one, images/{inner.name}.png.",
            )
        else:
            problems.add(f"image {inner.name}", f"has no file images/{inner.name}.png.")


def _with_masks(name: str, path: Path, folder: Path, problems: Problems) -> Iterator[_Image]:
    if not folder.is_dir():
        problems.add(
            f"image {name}",
            f"has no masks: {folder} does not exist. An image without objects has an empty folder.",
        )
        return
    masks: list[tuple[str | None, Path]] = [(None, file) for file in mask_files(folder)]
    lossy = [file.name for file in files_in(folder) if file.suffix.lower() not in MASK_ENDINGS]
    for inner in folders_in(folder):
        masks += [(inner.name, file) for file in mask_files(inner)]
        lossy += [
            f"{inner.name}/{file.name}"
            for file in files_in(inner)
            if file.suffix.lower() not in MASK_ENDINGS
        ]
    if lossy:
        problems.add(
            f"image {name}",
            f"has masks that are no PNG, TIFF or BMP: {listed(lossy, 3)}; save masks as PNG.",
        )
    else:
        yield _Image(name, path, masks)


def _is_image_folder(folder: Path) -> bool:
    return (folder / "images").is_dir() and (folder / "masks").is_dir()


def _called(image: _Image) -> str:
    return f"image {image.name}"


def _folders_of(image: _Image) -> set[str | None]:
    return {folder for folder, _ in image.masks}


def _size(image: _Image, problems: Problems) -> tuple[int, int] | None:
    files = [file for _, file in image.masks]
    return common_size(_called(image), image.path, files, "mask", mask_size, problems)


# ---- Writing -------------------------------------------------------------------------------------


def write_mask_folder(
    images: Iterable[LabelledImage], class_names: Sequence[str], folder: PathLike
) -> list[str]:
    """Write `<image>/images/<image>.png`, `<image>/masks/*.png` and `classes.txt`.

    With several classes, masks lie in `<image>/masks/<class>/`. Image files are copied unchanged.

    Arguments, result and errors are those of every format, see `objects`.
    """
    folder = start_folder(folder)
    write_class_file(folder, class_names)
    folders, names, crowds = class_folders(class_names), FileNames(), 0
    for image in images:
        stem, ending = names.pick(image)
        copy_image(image, folder / stem / "images" / f"{stem}{ending}")
        masks = folder / stem / "masks"
        masks.mkdir()
        kept = [labelled for labelled in image.objects if not labelled.is_crowd]
        crowds += len(image.objects) - len(kept)
        for number, labelled in enumerate(kept, start=1):
            inner = masks / folders[labelled.class_name]
            write_mask(inner / f"{number:05d}.png", labelled.mask)
    return crowds_left_out(crowds, "a folder of masks")
