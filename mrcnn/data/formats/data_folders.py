"""Data sets that are folders: names of their files and classes, and writing them.

A format of folders keeps the names of its classes in `classes.txt`, one per line, in their order.
The file is optional: the folders of the classes have names too. A name that cannot be a folder's
name ("a/b") gets the folder `folder_names` says, so reader and writer agree.
"""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import PIL.Image

from mrcnn.data.dataset import Dataset
from mrcnn.data.formats.objects import LabelledImage
from mrcnn.data.formats.problems import Problems, quoted
from mrcnn.data.image_files import IMAGE_ENDINGS
from mrcnn.files import check_new_folder, write_text, written_beside
from mrcnn.messages import listed
from mrcnn.types import PathLike

CLASS_FILE = "classes.txt"
# The class of objects that nobody named.
OBJECT = "object"
# A name of a file has at most 255 bytes, and "-2.png" or a temporary name is added to this one.
_LONGEST_BYTES = 120
_LARGEST_CLASS_FILE = 1_000_000
# Windows does not allow these in names of files.
_UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]')
# Windows takes these for devices, with any ending.
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(?=\.|$)", re.IGNORECASE)


# Pillow's names of formats.
_ENDINGS = {
    "PNG": ".png",
    "JPEG": ".jpg",
    "MPO": ".jpg",
    "TIFF": ".tif",
    "BMP": ".bmp",
    "WEBP": ".webp",
}


# ---- Names ---------------------------------------------------------------------------------------


def safe_name(name: str) -> str:
    """A name that every file system takes for one file or folder: other characters become "_"."""
    name = _UNSAFE.sub("_", name.encode("utf-8", "replace").decode())
    name = name.encode()[:_LONGEST_BYTES].decode("utf-8", "ignore")
    name = _DEVICE.sub(r"\1_", name.strip().rstrip("."))
    # Hidden files do not count as images, and ".." leads out of the folder.
    return f"_{name}" if not name or name.startswith(".") else name


def folder_names(class_names: Sequence[str]) -> dict[str, str]:
    """The folder of each class: its name, changed if it cannot be one or is taken."""
    names = _Unused()
    return {name: names.pick(safe_name(name)) for name in class_names}


class FileNames:
    """Names for image files that all go into one folder; their stems differ, so labels can too."""

    def __init__(self) -> None:
        self._names = _Unused()

    def pick(self, image: LabelledImage) -> tuple[str, str]:
        """The stem and the ending for a copy of an image: `a_b` and `.png` for `a/b.png`.

        Raises:
            ValueError: neither the name nor the content is of a kind that is found in a folder.
        """
        name = image.name
        ending = next((e for e in IMAGE_ENDINGS if name.lower().endswith(e)), "")
        stem = name[: len(name) - len(ending)]
        return (
            self._names.pick(safe_name(stem.replace("/", "_"))),
            name[len(stem) :] or _ending_of_content(image),
        )


def _ending_of_content(image: LabelledImage) -> str:
    try:
        with PIL.Image.open(image.path) as picture:
            return _ENDINGS[picture.format or ""]
    except Exception as error:  # no format that Pillow knows, or another one
        raise ValueError(
            f"{image.path} does not end in {listed(IMAGE_ENDINGS)}, so it would not be found in a "
            "folder of images; save it as PNG."
        ) from error


class _Unused:
    """Makes names differ, in upper and lower case too, by "-2", "-3", ..."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def pick(self, name: str) -> str:
        unused, number = name, 1
        while unused.casefold() in self._taken:
            number += 1
            unused = f"{name}-{number}"
        self._taken.add(unused.casefold())
        return unused


# ---- Reading -------------------------------------------------------------------------------------


def folders_in(folder: PathLike) -> list[Path]:
    """The folders inside a folder, by name; hidden ones do not count."""
    return [path for path in _visible(folder) if path.is_dir()]


def files_in(folder: PathLike, endings: tuple[str, ...] = IMAGE_ENDINGS) -> list[Path]:
    """The files of a folder with one of these endings, by name; hidden ones do not count."""
    return [path for path in _visible(folder) if path.suffix.lower() in endings and path.is_file()]


def _visible(folder: PathLike) -> list[Path]:
    folder = Path(folder)
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def check_folder(folder: PathLike) -> None:
    """Raise a FileNotFoundError if this is no folder."""
    if not os.path.isdir(folder):
        found = "is a file" if os.path.exists(folder) else "does not exist"
        raise FileNotFoundError(f"the folder {folder} {found}.")


def read_class_file(folder: PathLike) -> list[str] | None:
    """The names in a folder's `classes.txt`, in their order; None if there is no such file.

    Raises:
        ValueError: it is no text file, or a name is there twice.
    """
    path = Path(folder, CLASS_FILE)
    if not path.is_file():
        return None
    if path.stat().st_size > _LARGEST_CLASS_FILE:
        raise ValueError(
            f"{path} has {path.stat().st_size:,} bytes; it must be a short list of class names, "
            "one per line."
        )
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file in UTF-8: {error}.") from error
    names = [line.removesuffix("\r") for line in lines if line.strip()]
    check_class_names(names, path)
    return names


def check_class_names(names: object, path: PathLike) -> None:
    """Check names that a file or the user gives.

    Raises:
        ValueError: they are no list, or no different names of one line each.
    """
    if isinstance(names, str) or not isinstance(names, Sequence) or not names:
        raise ValueError(f"{path}: classes is {quoted(names)}; it must be a list of class names.")
    for name in names:
        if not isinstance(name, str) or not name.strip() or len(name.splitlines()) != 1:
            raise ValueError(
                f"{path}: {quoted(name)} is no class name; it must be one line of text."
            )
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise ValueError(f"{path}: the class {listed(map(quoted, twice))} is there twice.")


class FolderClasses:
    """The classes of a data set whose masks lie in one folder per class, or in none.

    Attributes:
        names: the class names in their order.
    """

    def __init__(
        self, found: Iterable[str | None], classes: Sequence[str] | None, path: PathLike
    ) -> None:
        """Choose the names.

        Args:
            found: the folders that hold masks; None for masks that lie in no such folder.
            classes: names that the user gives. None: those of `classes.txt`, else the folders in
                alphabetical order, after "object" if masks lie in no folder.
            path: the data set, where `classes.txt` is.

        Raises:
            ValueError: wrong names.
        """
        given = read_class_file(path) if classes is None else classes
        if given is None:
            folders = set(found)
            named = sorted(folder for folder in folders if folder is not None)
            unnamed = [OBJECT] if None in folders or not named else []
            given = list(dict.fromkeys([*unnamed, *named]))
        check_class_names(given, path)
        self._path = path
        self.names = [str(name) for name in given]
        self._by_folder = {folder: name for name, folder in folder_names(self.names).items()}

    def of(self, folder: str | None, entry: str, problems: Problems) -> str | None:
        """The class of the masks in a folder; None is added to `problems`."""
        if folder is None:
            if OBJECT in self.names or len(self.names) == 1:
                return OBJECT if OBJECT in self.names else self.names[0]
            problems.add(
                entry,
                f"has masks in no folder of a class; the classes are {listed(self.names)}.",
            )
        elif folder in self._by_folder:
            return self._by_folder[folder]
        else:
            problems.add(
                entry,
                f"has masks of the unknown class {quoted(folder)}; the classes are "
                f"{listed(self.names)}.",
            )
        return None

    def add_to(self, dataset: Dataset, source: str) -> dict[str, int]:
        """Add the classes to a Dataset; returns the source's ids by name.

        Raises:
            ValueError: the source has other classes already.
        """
        return add_classes(dataset, source, self.names, self._path)


def add_classes(
    dataset: Dataset, source: str, names: Sequence[str], path: PathLike
) -> dict[str, int]:
    """Add classes to a Dataset, numbered from 1; returns the source's ids by name.

    Raises:
        ValueError: the source has other classes already.
    """
    known = [info["name"] for info in dataset.class_info if info["source"] == source]
    if known and known != list(names):
        raise ValueError(
            f"{path}: the classes are {list(names)}, and the source {source!r} has {known} "
            "already; give `classes`, the names of all."
        )
    for class_id, name in enumerate(names, start=1):
        dataset.add_class(source, class_id, name)
    return {name: class_id for class_id, name in enumerate(names, start=1)}


# ---- Writing -------------------------------------------------------------------------------------


def start_folder(folder: PathLike) -> Path:
    """Make the folder that a data set is written to, if it is not there.

    Raises:
        ValueError: it is not empty; NotADirectoryError: it is a file.
    """
    folder = check_new_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def copy_image(image: LabelledImage, target: PathLike) -> None:
    """Copy an image file, byte by byte."""
    with written_beside(target) as temporary:
        shutil.copyfile(image.path, temporary)


def write_class_file(folder: PathLike, class_names: Sequence[str]) -> None:
    """Write `classes.txt`.

    Raises:
        ValueError: names that are not different lines.
    """
    check_class_names(class_names, Path(folder, CLASS_FILE))
    write_text(Path(folder, CLASS_FILE), "".join(f"{name}\n" for name in class_names))


def class_folders(class_names: Sequence[str]) -> dict[str, str]:
    """The folder of each class inside the folder of masks; "" if one class needs none."""
    return {class_names[0]: ""} if len(class_names) == 1 else folder_names(class_names)


def crowds_left_out(count: int, format_name: str) -> list[str]:
    """The sentence about crowds that a format cannot hold; none without crowds."""
    if not count:
        return []
    crowds = "1 crowd is" if count == 1 else f"{count:,} crowds are"
    return [f"{crowds} left out: {format_name} has no crowds."]


def bridges(count: int, format_name: str) -> list[str]:
    """The sentence about parts and holes that were joined; none without."""
    if not count:
        return []
    objects = "1 object has" if count == 1 else f"{count:,} objects have"
    return [
        f"{objects} parts or holes: {format_name} has one polygon per object, so bridges without "
        "width join them."
    ]


def classes_left_out(
    class_names: Sequence[str], used: Iterable[str], format_name: str
) -> list[str]:
    """The sentence about classes without objects, for a format without a list of classes."""
    used = set(used)
    unused = [name for name in class_names if name not in used]
    if not unused:
        return []
    classes = "The class" if len(unused) == 1 else "The classes"
    verb = "is" if len(unused) == 1 else "are"
    return [
        f"{classes} {listed(unused)} without objects {verb} left out: {format_name} has no list of "
        "classes."
    ]
