"""Names of the images in a folder, as a stream, and the split of the names into shards."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

from mrcnn.data.image_files import IMAGE_ENDINGS as IMAGE_ENDINGS
from mrcnn.detection.result_files import digest
from mrcnn.types import PathLike

logger = logging.getLogger("mrcnn")


def image_names(
    folder: PathLike, recursive: bool = False, endings: tuple[str, ...] = IMAGE_ENDINGS
) -> Iterator[str]:
    """Names of a folder's images relative to it, in any order, one at a time.

    Args:
        recursive: also look into the folders inside, but not into links to folders.
        endings: of the files that count, in lower case.

    Raises:
        OSError: a folder that cannot be listed.
    """
    folders = [""]
    while folders:
        inside = folders.pop()
        with os.scandir(os.path.join(folder, inside)) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if recursive:
                        folders.append(f"{inside}{entry.name}/")
                elif entry.name.lower().endswith(endings):
                    yield inside + entry.name
                elif recursive and entry.is_symlink() and entry.is_dir():
                    logger.warning("%s is a link to a folder and is left out", entry.path)


def check_folder(folder: PathLike, recursive: bool = False) -> None:
    """Check that a folder holds an image.

    Raises:
        FileNotFoundError: there is no such folder, or no image in it.
        NotADirectoryError: it is a file.
    """
    path = os.fspath(folder)
    if not os.path.exists(path):
        raise FileNotFoundError(f"there is no folder {path}.")
    if not os.path.isdir(path):
        raise NotADirectoryError(f"{path} is a file; name the folder in which the images lie.")
    if next(image_names(path, recursive), None) is None:
        deeper = "" if recursive else "; with recursive, the folders inside are looked into"
        raise FileNotFoundError(
            f"there are no images ({', '.join(IMAGE_ENDINGS)}) in {path}{deeper}."
        )


def in_shard(name: str, index: int, count: int) -> bool:
    """Is a name in part `index` of `count`? Other names have no influence on this."""
    return int.from_bytes(digest(name)[:8], "little") % count == index


def as_text(name: str) -> str:
    r"""A file name as in results: bytes that are not UTF-8 are written as in `caf\xe9.jpg`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
