"""Videos: their frames in order, and files of frames with objects drawn."""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mrcnn.types import PathLike

VIDEO_ENDINGS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm")
# The kinds of video that are written, and their codecs.
VIDEO_CODECS = {".avi": "MJPG", ".mp4": "mp4v"}
# Where a file does not say.
_USUAL_RATE = 25.0


def is_url(path: str) -> bool:
    """Is this an address and not a path?"""
    return urllib.parse.urlparse(path).scheme in ("http", "https")


def open_video(video_path: str) -> tuple[Iterator[np.ndarray], float, int | None]:
    """A video's frames `[H, W, 3]` uint8 RGB, frames per second, and number of frames if known.

    Raises:
        OSError: OpenCV cannot read the video, or none of its frames.
    """
    import cv2

    if not is_url(video_path) and not os.path.isfile(video_path):
        raise FileNotFoundError(f"{video_path} does not exist.")
    capture = cv2.VideoCapture(video_path)
    is_read, first = capture.read()
    if not is_read:
        raise OSError(f"{video_path} cannot be opened as a video: OpenCV reads no frame of it.")
    rate = capture.get(cv2.CAP_PROP_FPS)
    if not rate > 0:
        print(f"The frame rate is unknown; {_USUAL_RATE:.0f} frames per second are taken.")
        rate = _USUAL_RATE
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    return _frames(capture, first), rate, count if count > 0 else None


def _frames(capture: Any, frame: np.ndarray) -> Iterator[np.ndarray]:
    """The frame already read and all that follow, as RGB."""
    is_read = True
    while is_read:
        yield np.ascontiguousarray(frame[..., ::-1])
        is_read, frame = capture.read()
    capture.release()


def batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Consecutive lists of `size` items; the last may be shorter."""
    batch: list[Any] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


@contextmanager
def video_writer(path: PathLike, rate: float) -> Iterator[Callable[[np.ndarray], None]]:
    """A function that adds a frame `[H, W, 3]` uint8 RGB to a video; the first sets the size.

    Raises:
        OSError: OpenCV cannot write the file.
    """
    import cv2

    codec = VIDEO_CODECS[Path(path).suffix.lower()]
    writer = cv2.VideoWriter()

    def write(frame: np.ndarray) -> None:
        if not writer.isOpened():
            size = frame.shape[1], frame.shape[0]
            if not writer.open(str(path), cv2.VideoWriter.fourcc(*codec), rate, size):
                raise OSError(f"{path} cannot be written as a video ({codec}) by this OpenCV.")
        writer.write(np.ascontiguousarray(frame[..., ::-1]))

    try:
        yield write
    finally:
        writer.release()
