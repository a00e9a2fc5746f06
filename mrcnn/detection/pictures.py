"""What to detect in: image files, folders, patterns, TIFFs of several pages, and videos.

    inputs = find_inputs(["photos", "scan.tif", "clip.mp4", "more/*.png"])
    for picture in pictures_of(inputs):
        picture.name, picture.read()

A page is named `scan.tif#0001`, a frame `clip.mp4#000001`; both count from 1.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np

from mrcnn.data.decoders import pixel_limit
from mrcnn.data.image_files import IMAGE_ENDINGS, read_image
from mrcnn.data.tiff_files import count_pages, is_tiff
from mrcnn.data.videos import VIDEO_ENDINGS, open_video
from mrcnn.data.windowed_images import (
    WINDOWED_ENDINGS,
    WindowedImage,
    open_windows,
    reader_of_rgb,
    windows_of_array,
)
from mrcnn.detection.image_names import as_text, image_names
from mrcnn.types import PathLike

ENDINGS = (*IMAGE_ENDINGS, *VIDEO_ENDINGS)


class Picture(NamedTuple):
    """An image to detect in: its name in results, and how it is read.

    Attributes:
        name: unique among the images.
        read: returns `[H, W, C]`; OSErrors and ValueErrors become the result of the image.
        open: opens the image to read its stored numbers by windows; None: they are those of `read`.
        video: the video that this is a frame of.
    """

    name: str
    read: Callable[[], np.ndarray]
    open: Callable[[], AbstractContextManager[WindowedImage]] | None = None
    video: Video | None = None


def open_picture(picture: Picture) -> AbstractContextManager[WindowedImage]:
    """Open a picture to read its stored numbers by windows; a frame of a video is in memory."""
    if picture.open is not None:
        return picture.open()
    return contextlib.nullcontext(windows_of_array(picture.read(), picture.name))


class Video(NamedTuple):
    """A video: its name in results, and its frames per second."""

    name: str
    rate: float


class Input(NamedTuple):
    """A file with images.

    Attributes:
        name: unique, with "/" between folders; path: where it is.
        pages: number of pages if there are several, in a TIFF.
        is_video: whether it is a video.
    """

    name: str
    path: str
    pages: int = 1
    is_video: bool = False


def find_inputs(paths: Sequence[PathLike], recursive: bool = False) -> list[Input]:
    """The files that paths mean, each once, in their order; a folder's files by name.

    Args:
        paths: files, folders, and patterns such as `photos/*.png`, or `**` for any folders.
        recursive: also look into the folders inside folders.

    Raises:
        FileNotFoundError: a path means no file; the message says what was looked for.
    """
    files = [file for path in paths for file in _files(os.fspath(path), recursive)]
    files = list(dict.fromkeys(map(os.path.abspath, files)))
    shared = os.path.commonpath([os.path.dirname(file) for file in files]) if files else ""
    return [_input(file, os.path.relpath(file, shared).replace(os.sep, "/")) for file in files]


def _files(path: str, recursive: bool) -> Iterable[str]:
    if os.path.isdir(path) and not _is_zarr(path):
        names = sorted(image_names(path, recursive, ENDINGS))
        if not names:
            deeper = "" if recursive else "; with --recursive the folders inside are looked into"
            raise FileNotFoundError(
                f"there are no images or videos ({', '.join(ENDINGS)}) in {path}{deeper}."
            )
        return [os.path.join(path, name) for name in names]
    if os.path.exists(path):
        return [path]
    if glob.has_magic(path):
        found = sorted(glob.glob(path, recursive=True))
        if found:
            return [file for file in found if os.path.isfile(file)]
    raise FileNotFoundError(f"there is no file, no folder and no match for {path}.")


def _is_zarr(path: str) -> bool:
    """A Zarr array is a folder, and one image."""
    return path.rstrip("/" + os.sep).lower().endswith(".zarr")


def _input(path: str, name: str) -> Input:
    if path.lower().endswith(VIDEO_ENDINGS):
        return Input(as_text(name), path, is_video=True)
    try:
        pages = count_pages(path) if not _is_zarr(path) and is_tiff(path) else 1
    except Exception:  # a damaged file; reading it gives the message
        pages = 1
    return Input(as_text(name), path, pages)


def pictures_of(
    inputs: Iterable[Input], value_range: Sequence[float] | None = None
) -> Iterator[Picture]:
    """The images of files, in order. The frames of a video are read as they are asked for.

    Args:
        value_range: as in `read_image`.
    """
    for one in inputs:
        if one.is_video:
            yield from _frames(one)
        elif one.pages > 1:
            for page in range(one.pages):
                yield picture_of_file(one.path, f"{one.name}#{page + 1:04d}", value_range, page)
        else:
            yield picture_of_file(one.path, one.name, value_range)


def picture_of_file(
    path: str, name: str, value_range: Sequence[float] | None = None, page: int | None = None
) -> Picture:
    """The image of a file.

    Args:
        name: its name in results. value_range, page: as in `read_image`.
    """
    if os.path.splitext(path)[1].lower() in WINDOWED_ENDINGS:
        read = functools.partial(_read_whole, path, value_range)
    else:
        read = functools.partial(read_image, path, value_range=value_range, page=page)
    return Picture(name, read, functools.partial(open_windows, path, page, value_range))


def _read_whole(path: str, value_range: Sequence[float] | None) -> np.ndarray:
    with open_windows(path, value_range=value_range) as image:
        if image.height * image.width > pixel_limit():
            raise ValueError(
                f"{path} has {image.height}x{image.width} pixels, too many to be read as one "
                "image; detect in tiles, with --tile."
            )
        return reader_of_rgb(image)((0, 0, image.height, image.width))


def _frames(one: Input) -> Iterator[Picture]:
    try:
        frames, rate, _ = open_video(one.path)
    except OSError as error:
        yield Picture(one.name, functools.partial(_raise, error))
        return
    video = Video(one.name, rate)
    for number, frame in enumerate(frames, start=1):
        yield Picture(f"{one.name}#{number:06d}", functools.partial(_same, frame), video=video)


def _same(frame: np.ndarray) -> np.ndarray:
    return frame


def _raise(error: OSError) -> Any:
    raise error
