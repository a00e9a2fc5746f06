"""Pictures with the objects drawn on them: `overlays/<image>.png`; a video becomes one video."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from mrcnn.data.videos import video_writer
from mrcnn.data.windowed_images import reader_of_rgb
from mrcnn.detection.pictures import Video
from mrcnn.files import written_beside
from mrcnn.result_formats.colours import colour_of
from mrcnn.result_formats.found import Add, FoundImage
from mrcnn.types import PathLike

_FILL = 0.35
# Small images are enlarged to about this side, so that captions can be read.
_WANTED_SIDE = 800
_MOST_ENLARGED = 8
# Larger images are shown smaller.
_LARGEST_SIDE = 8192
_ROWS_AT_ONCE = 64
# More captions would hide the picture.
_MOST_CAPTIONS = 500
_FONT = cv2.FONT_HERSHEY_SIMPLEX


@contextmanager
def write_overlays(folder: PathLike) -> Iterator[Add]:
    """Write `overlays/`: a PNG per image, and an MP4 per video."""
    with contextlib.ExitStack() as open_video:
        current: tuple[Video, Callable[[np.ndarray], None]] | None = None

        def add(image: FoundImage) -> None:
            nonlocal current
            if image.video is None:
                _write_png(Path(folder, "overlays", f"{image.stem}.png"), draw(image))
                return
            # Frames of a video follow each other.
            if current is None or current[0] != image.video:
                open_video.close()
                path = Path(folder, "overlays", image.video.name).with_suffix(".mp4")
                temporary = open_video.enter_context(written_beside(path))
                writer = open_video.enter_context(video_writer(temporary, image.video.rate))
                current = image.video, writer
            current[1](draw(image, enlarge=False))

        yield add


def _write_png(path: Path, pixels: np.ndarray) -> None:
    import PIL.Image

    with written_beside(path) as temporary:
        PIL.Image.fromarray(pixels).save(temporary, "PNG")


def draw(image: FoundImage, enlarge: bool = True) -> np.ndarray:
    """The image with outlines, filled masks and captions, `[h, w, 3]` uint8.

    Each object has its own colour, in a video each class. Drawn by OpenCV, which takes milliseconds
    where Matplotlib takes a second. A large image is shown smaller.

    Args:
        enlarge: show a small image by whole factors larger.
    """
    step = -(-max(image.height, image.width) // _LARGEST_SIDE)
    pixels = _shrunk(image, step) if step > 1 else np.ascontiguousarray(image.read()[..., :3])
    factor = int(
        np.clip(_WANTED_SIDE // max(pixels.shape[:2]), 1, _MOST_ENLARGED if enlarge else 1)
    )
    drawn = pixels.repeat(factor, axis=0).repeat(factor, axis=1)
    captions = []
    # Large objects first, so that small ones in front of them stay visible.
    numbered = sorted(enumerate(image.objects), key=lambda n: -n[1].bbox[2] * n[1].bbox[3])
    for number, one in numbered:
        # Neighbours can be told apart; in a video, colours that change would flicker.
        colour = colour_of(number if image.video is None else one.category_id)
        x, y, width, height = one.bbox
        y1, x1, y2, x2 = (-(-side // step) for side in (y, x, y + height, x + width))
        mask = one.part((y1, x1, y2, x2), step).repeat(factor, axis=0).repeat(factor, axis=1)
        if not mask.size:
            continue
        top, left = factor * y1, factor * x1
        inside = drawn[top : top + mask.shape[0], left : left + mask.shape[1]]
        inside[mask] = np.rint((1 - _FILL) * inside[mask] + _FILL * np.array(colour))
        lines, _ = cv2.findContours(
            mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE, offset=(left, top)
        )
        cv2.drawContours(drawn, lines, -1, colour, 1)
        caption = f"{one.class_name} {one.score:.2f}"
        captions.append((caption, factor * (x // step), factor * (y // step)))
    if len(captions) <= _MOST_CAPTIONS:
        for text, x, y in captions:
            _write_caption(drawn, text, x, y)
    return drawn


def _shrunk(image: FoundImage, step: int) -> np.ndarray:
    """Each `step`-th pixel of each `step`-th row, read by windows."""
    rows = _ROWS_AT_ONCE * step
    with image.open() as windows:
        read = reader_of_rgb(windows)
        parts = [
            read((top, 0, min(top + rows, image.height), image.width))[::step, ::step]
            for top in range(0, image.height, rows)
        ]
    return np.concatenate(parts)


def _write_caption(drawn: np.ndarray, text: str, x: int, y: int) -> None:
    """White text on black lines, above the box where there is room."""
    size = max(0.35, min(drawn.shape[:2]) / 2000)
    (width, height), _ = cv2.getTextSize(text, _FONT, size, 1)
    place = (min(x, max(drawn.shape[1] - width, 0)), y - 3 if y > height + 3 else y + height + 3)
    cv2.putText(drawn, text, place, _FONT, size, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(drawn, text, place, _FONT, size, (255, 255, 255), 1, cv2.LINE_AA)
