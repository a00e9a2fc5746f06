r"""The image file that a name in an annotation file means, and its size.

Tools write names in several ways: `photos\a.png` on Windows, `a%20b.png` as in a link, `/a.png`,
an absolute path of another computer, or letters with accents in another Unicode form. If such a
name can mean only one file, that file is used, with a warning. A name cannot lead out of the image
folder.
"""

from __future__ import annotations

import logging
import os
import posixpath
import re
import unicodedata
import urllib.parse
import warnings
from collections.abc import Iterator, Mapping

from mrcnn.data.dataset import read_image
from mrcnn.data.formats.problems import Problems, quoted
from mrcnn.messages import shortened
from mrcnn.types import PathLike

logger = logging.getLogger("mrcnn")

_EXIF_ORIENTATION = 0x0112
# No file system has longer paths; searching for one would take long.
_LONGEST_NAME = 4096
_DRIVE = re.compile(r"[A-Za-z]:(?=/)")


def find_images(
    file_names: Mapping[str, str],
    image_dir: PathLike,
    annotations: PathLike,
    skip_invalid: bool = False,
) -> dict[str, str]:
    """Find the file of every image.

    Args:
        file_names: what messages call an image ("image 7"), and its name in the annotation file.
        image_dir: the folder that the names start from.
        annotations: the annotation file, for messages.
        skip_invalid: leave out images that are not there.

    Returns:
        The path of each image, by the keys of `file_names`.

    Raises:
        FileNotFoundError: the folder or an image is missing, or all images are.
        ValueError: a name leads out of the folder.
    """
    folder = _Folder(image_dir)
    problems = Problems(annotations, skip_invalid)
    found: dict[str, str] = {}
    respelled: dict[str, str] = {}
    missing = []
    for image, name in file_names.items():
        if (path := folder.exact(name)) is not None:
            found[image] = path
        elif (path := folder.nearest(name)) is not None:
            respelled[image] = path
        elif folder.relative(name) is None:
            problems.add(
                image,
                f"has the file name {quoted(name)}, which leads out of the image folder "
                f"{folder.path}; give a folder that holds all images as image_dir.",
            )
        else:
            missing.append(image)
    _check_respelled(respelled, found, file_names, problems)
    problems.settle()
    found.update(respelled)
    if missing and not (skip_invalid and found):
        raise FileNotFoundError(_message(missing, file_names, folder, annotations))
    if missing:
        logger.warning("%s", _message(missing, file_names, folder, annotations, "left out"))
    if respelled:
        first = next(iter(respelled))
        logger.warning(
            "%s: %d file names are spelled otherwise in %s: %s has %s, and %s is taken.",
            annotations,
            len(respelled),
            folder.path,
            first,
            quoted(file_names[first]),
            respelled[first],
        )
    return {image: found[image] for image in file_names if image in found}


def _check_respelled(
    respelled: dict[str, str],
    found: dict[str, str],
    file_names: Mapping[str, str],
    problems: Problems,
) -> None:
    """Refuse a respelled name if another image has the same file."""
    owners = {path: image for image, path in found.items()}
    for image, path in list(respelled.items()):
        owner = owners.setdefault(path, image)
        if owner != image:
            del respelled[image]
            problems.add(
                image,
                f"has the file name {quoted(file_names[image])}, which is not there; {path}, the "
                f"nearest one, is {owner}'s.",
            )


def _message(
    missing: list[str],
    file_names: Mapping[str, str],
    folder: _Folder,
    annotations: PathLike,
    verdict: str = "missing",
) -> str:
    first = missing[0]
    count = f"{len(missing)} of {len(file_names)} images are {verdict}"
    if not os.path.isdir(folder.path):
        reason = f"the folder {folder.path} does not exist"
    else:
        path = _shown(os.path.join(folder.path, file_names[first]))
        reason = f"{path} does not exist{folder.hint(file_names[first])}"
    return f"{annotations}: {first} is not there: {reason}; {count}."


def _shown(path: str) -> str:
    """A path for messages: at most a few lines, with escapes for characters that are not text."""
    return shortened(path, 300).encode("utf-8", "backslashreplace").decode("utf-8")


class _Folder:
    """An image folder; each of its folders is listed once, however many images it has."""

    def __init__(self, path: PathLike) -> None:
        self.path = os.fspath(path)
        self._listed: dict[str, frozenset[str]] = {}
        self._by_form: dict[str, dict[str, str]] = {}

    def exact(self, name: str) -> str | None:
        """The path of a file with exactly this name in the folder."""
        inside = self.relative(name)
        if not inside or os.path.basename(inside) not in self._names(os.path.dirname(inside)):
            return None
        return os.path.join(self.path, name)

    def relative(self, name: str) -> str | None:
        """A name as a path from the folder on; None if it leads out of the folder."""
        if ".." not in name and not os.path.isabs(name):
            return name
        if os.path.isabs(name):
            name = os.path.relpath(name, os.path.abspath(self.path))
        inside = os.path.normpath(name)
        return None if inside.split(os.sep)[0] == os.pardir else inside

    def nearest(self, name: str) -> str | None:
        """The path of the only file that a name spelled in another way can mean."""
        for spelling in _spellings(name):
            path = self._walk(spelling)
            if path is not None:
                return path
        return None

    def hint(self, name: str) -> str:
        """The end of a message: a file with a similar name, or nothing."""
        base = re.split(r"[/\\]", name)[-1].casefold()
        for entry in sorted(self._names("")):
            if entry.casefold() == base:
                return f"; {entry} is in {self.path}"
        return ""

    def _walk(self, name: str) -> str | None:
        """Go down part by part; only listed entries are followed, so no path leads out."""
        inside = ""
        for part in name.split("/"):
            names = self._forms(inside)
            entry = names.get(unicodedata.normalize("NFC", part))
            if entry is None:
                return None
            inside = os.path.join(inside, entry)
        path = os.path.join(self.path, inside)
        return path if os.path.isfile(path) else None

    def _names(self, inside: str) -> frozenset[str]:
        if inside not in self._listed:
            path = os.path.join(self.path, inside)
            names = os.listdir(path or os.curdir) if os.path.isdir(path or os.curdir) else ()
            self._listed[inside] = frozenset(names)
        return self._listed[inside]

    def _forms(self, inside: str) -> dict[str, str]:
        if inside not in self._by_form:
            names = sorted(self._names(inside))
            self._by_form[inside] = {unicodedata.normalize("NFC", name): name for name in names}
        return self._by_form[inside]


def _spellings(name: str) -> Iterator[str]:
    """Paths from the image folder that a name may mean, with slashes, the most likely first."""
    if len(name) > _LONGEST_NAME:
        return
    slashed = name.replace("\\", "/")
    for spelling in dict.fromkeys([name, slashed, *map(urllib.parse.unquote, (name, slashed))]):
        path = posixpath.normpath(_DRIVE.sub("", spelling.replace("\\", "/"), count=1))
        if not path.startswith("/"):
            yield path
            continue
        # A leading slash, or the absolute path of another computer: its last parts may exist here.
        parts = path.strip("/").split("/")
        for start in range(len(parts)):
            yield "/".join(parts[start:])


# ---- Sizes ---------------------------------------------------------------------------------------


def stored_size(path: PathLike) -> tuple[int, int] | None:
    """(height, width) from an image's header; None if the header cannot be read."""
    import PIL.Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)
            with PIL.Image.open(path) as picture:
                return picture.height, picture.width
    except Exception:  # decoders raise any error; reading the image will name it
        return None


def size_and_rotation(path: PathLike) -> tuple[int, int, bool]:
    """Height, width, and whether a rotation tag is set; pixels are decoded only if necessary.

    Raises:
        OSError, ValueError: as `read_image`.
    """
    height, width, tag = _size_and_tag(path)
    return height, width, tag in range(2, 9)


def possible_sizes(path: PathLike) -> list[tuple[int, int]]:
    """The sizes (height, width) that annotations of an image may have, that of the file first.

    There are two if the image has a rotation tag that swaps its sides. `Dataset.load_image` turns
    it if its `image_info` states the second one.

    Raises:
        OSError, ValueError: as `read_image`.
    """
    height, width, tag = _size_and_tag(path)
    swaps = tag in range(5, 9) and height != width
    return [(height, width), (width, height)] if swaps else [(height, width)]


def _size_and_tag(path: PathLike) -> tuple[int, int, int | None]:
    import PIL.Image

    try:
        with PIL.Image.open(path) as picture:
            # Cameras write JPEG; in a PNG, Pillow would decode the pixels to find a tag.
            is_photo = picture.format in ("JPEG", "MPO")
            tag = picture.getexif().get(_EXIF_ORIENTATION) if is_photo else None
            return picture.height, picture.width, tag
    except Exception:  # damage, or a format that Pillow does not read: read_image decides
        height, width = read_image(path).shape[:2]
        return height, width, None
