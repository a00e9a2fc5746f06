"""Detection in images of any size: windows are pictures like others, and their objects are joined.

    found = detect_tiled(model, "slide.tif", tile=1024, overlap=128)

Each window's result is kept on its own, so a run that was interrupted goes on with the window after
the last.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mrcnn.config import Config
from mrcnn.data.windowed_images import (
    WindowedImage,
    open_windows,
    reader_of_rgb,
    windows_of_array,
)
from mrcnn.detection.folder import Classes, check_detection, detect_pictures
from mrcnn.detection.pictures import Picture, open_picture
from mrcnn.geometry.masks import Patch
from mrcnn.geometry.rle import rle_patch
from mrcnn.tiles.joining import Joined, View, join, view_of
from mrcnn.tiles.windows import Window, windows_of
from mrcnn.types import PathLike

if TYPE_CHECKING:  # `mask_rcnn` is above this file in the reading order
    from mrcnn.mask_rcnn import MaskRCNN

logger = logging.getLogger("mrcnn")


class Tiling(NamedTuple):
    """How an image is cut into windows.

    Attributes:
        tile: side of a window in pixels.
        overlap: pixels that neighbours share; objects smaller than this are found as in one piece.
    """

    tile: int = 1024
    overlap: int = 128

    def windows(self, height: int, width: int) -> list[Window]:
        """The windows of an image, row by row, see `windows_of`."""
        sides, shared = (self.tile, self.tile), (self.overlap, self.overlap)
        return [one for row in windows_of(height, width, sides, shared) for one in row]


def detect_tiled(
    model: MaskRCNN,
    image: np.ndarray | PathLike | WindowedImage,
    tile: int = 1024,
    overlap: int = 128,
    *,
    nodata: float | None = None,
    moved: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Detect in an image of any size, window by window; the image is never in memory as a whole.

    Args:
        model: a `MaskRCNN` in inference mode.
        image: `[H, W]` or `[H, W, C]`, also a memory map or a Zarr array; or a path, see
            `data.windowed_images`.
        tile: side of a window in pixels. A window is resized like an image, so at IMAGE_MIN_DIM
            pixels it keeps its scale.
        overlap: pixels that neighbours share, more than most objects measure.
        nodata: value of pixels of an array that show nothing; windows of nothing else are passed
            over.
        moved: called with the number of windows done and of all.

    Returns:
        As `MaskRCNN.detect`, but `masks` are COCO's run lengths, one dict per object; and `cut`
        `[N]` bool says which objects go on where no piece of them was found.

    Raises:
        ValueError, OSError: as `windows_of`, `open_windows` and `detect`.
    """
    tiling = Tiling(tile, overlap)
    classes = [(number, str(number)) for number in range(1, model.config.NUM_CLASSES)]
    check_detection(model.config, classes)
    with _opened(image, nodata) as windowed:
        results = detect_in_windows(model, windowed, "", tiling, classes, (), _ignore, moved)
        joined = join(views_of(results, windowed, tiling))
    return _as_detection(joined)


def _ignore(result: dict[str, Any]) -> None:
    """Keep nothing."""


@contextlib.contextmanager
def _opened(
    image: np.ndarray | PathLike | WindowedImage, nodata: float | None
) -> Iterator[WindowedImage]:
    if isinstance(image, WindowedImage):
        yield image
    elif isinstance(image, (str, os.PathLike)):
        with open_windows(image) as windowed:
            yield windowed
    else:
        yield windows_of_array(image, nodata=nodata)


def _as_detection(joined: Sequence[Joined]) -> dict[str, Any]:
    return {
        "rois": np.array([one.box for one in joined], np.int32).reshape(-1, 4),
        "class_ids": np.array([one.class_id for one in joined], np.int32),
        "scores": np.array([one.score for one in joined], np.float32),
        "masks": [one.rle for one in joined],
        "cut": np.array([one.is_cut for one in joined], bool),
    }


def detect_picture_tiled(
    model: MaskRCNN | None,
    picture: Picture,
    tiling: Tiling,
    classes: Classes,
    earlier: Iterable[dict[str, Any]],
    keep: Callable[[dict[str, Any]], None],
    moved: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """The result of a picture of any size, in the form of `result_files`.

    A detection that goes on where no piece of it was found has `"cut": true`.

    Args:
        model, classes: as in `detect_folder`; the model may be None if no window is left.
        earlier: results of windows that are known, such as those that an earlier run kept.
        keep: called with the result of each window.
        moved: called with the number of windows done and of all.
    """
    try:
        with open_picture(picture) as image:
            results = detect_in_windows(
                model, image, picture.name, tiling, classes, earlier, keep, moved
            )
            joined = join(views_of(results, image, tiling))
            height, width = image.height, image.width
    except (OSError, ValueError) as error:
        return {"file_name": picture.name, "error": str(error)}
    names = dict(classes)
    return {
        "file_name": picture.name,
        "width": width,
        "height": height,
        "detections": [_as_result(one, names[one.class_id]) for one in joined],
    }


def _as_result(one: Joined, name: str) -> dict[str, Any]:
    y1, x1, y2, x2 = one.box
    result = {
        "category_id": one.class_id,
        "category_name": name,
        "score": one.score,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "segmentation": one.rle,
    }
    return {**result, "cut": True} if one.is_cut else result


# ---- Windows as pictures -------------------------------------------------------------------------


def window_name(name: str, window: Window) -> str:
    """The name of a window in results: `scan.tif@1792,0` begins at row 1792 and column 0."""
    return f"{name}@{window.box[0]},{window.box[1]}"


def image_of_window(name: str) -> str:
    """The name of the image that a window's name was made from."""
    return name.rpartition("@")[0]


def detect_in_windows(
    model: MaskRCNN | None,
    image: WindowedImage,
    name: str,
    tiling: Tiling,
    classes: Classes,
    earlier: Iterable[dict[str, Any]],
    keep: Callable[[dict[str, Any]], None],
    moved: Callable[[int, int], None] | None = None,
) -> Iterator[dict[str, Any]]:
    """The result of each window, those of an earlier run first.

    Raises:
        ValueError, OSError: a window cannot be read.
    """
    windows = tiling.windows(image.height, image.width)
    done = 0
    kept = set()
    for result in earlier:
        kept.add(result["file_name"])
        done += 1
        yield _readable(result)
    left = [window for window in windows if window_name(name, window) not in kept]
    if model is None or not left:
        return
    shown, total = _Shown(image, left), len(windows)
    pictures = _pictures(image, name, shown, model.config)
    full = []
    for result in detect_pictures(model, pictures, classes):
        keep(result)
        done += 1
        if moved is not None:
            moved(done + shown.passed_over, total)
        yield _readable(result)
        if len(result["detections"]) >= model.config.DETECTION_MAX_INSTANCES:
            full.append(result["file_name"])
    if full:
        logger.warning(
            "%s as many objects as DETECTION_MAX_INSTANCES allows (%d), so some may be missing; "
            "choose smaller tiles or a larger DETECTION_MAX_INSTANCES",
            f"the window {full[0]} has" if len(full) == 1 else f"{len(full)} windows have",
            model.config.DETECTION_MAX_INSTANCES,
        )


class _Shown:
    """The windows that show something; those without data are counted."""

    def __init__(self, image: WindowedImage, windows: Sequence[Window]):
        self.passed_over = 0
        self._image, self._windows = image, windows

    def __iter__(self) -> Iterator[Window]:
        for window in self._windows:
            if self._image.mask is None or self._image.mask(window.box).any():
                yield window
            else:
                self.passed_over += 1


def _pictures(
    image: WindowedImage, name: str, windows: Iterable[Window], config: Config
) -> Iterator[Picture]:
    if image.value_range is None:
        image = image._replace(value_range=config.IMAGE_VALUE_RANGE)
    read = reader_of_rgb(image)
    for window in windows:
        yield Picture(window_name(name, window), functools.partial(read, window.box))


def _readable(result: dict[str, Any]) -> dict[str, Any]:
    if "error" in result:
        raise OSError(result["error"])
    return result


def views_of(
    results: Iterable[dict[str, Any]], image: WindowedImage, tiling: Tiling
) -> Iterator[View]:
    """The objects of windows' results, in pixels of the image."""
    places = {w.box[:2]: w for w in tiling.windows(image.height, image.width)}
    for result in results:
        top, left = map(int, result["file_name"].rpartition("@")[2].split(","))
        window = places[top, left]
        for one in result["detections"]:
            patch = rle_patch(one["segmentation"])
            moved = Patch(patch.pixels, patch.top + top, patch.left + left)
            shape = image.height, image.width
            view = view_of(window, one["category_id"], one["score"], moved, shape)
            if view is not None:
                yield view


def check_tiling(tiling: Tiling) -> Tiling:
    """Check the sides before the first image is opened.

    Raises:
        ValueError: as `windows_of`.
    """
    tiling.windows(tiling.tile, tiling.tile)
    return tiling
