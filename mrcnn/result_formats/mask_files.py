"""Masks: `masks/<image>/<number>_<class>.png`, 255 for the object and 0 elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mrcnn.data.formats.data_folders import safe_name
from mrcnn.data.formats.raster_files import write_mask
from mrcnn.result_formats.found import Add, FoundImage
from mrcnn.result_formats.label_windows import LARGE
from mrcnn.types import PathLike


@contextmanager
def write_mask_files(folder: PathLike) -> Iterator[Add]:
    """Write `masks/`, a folder per image with a PNG per object; the best score is 0001.

    Raises:
        ValueError: an image is so large that each of its masks would fill memory and disk.
    """

    def add(image: FoundImage) -> None:
        if image.height * image.width > LARGE:
            raise ValueError(
                f"{image.name} has {image.height}x{image.width} pixels, and masks would have a PNG "
                f"of this size per object; save labels, ome, geojson or json instead."
            )
        own = Path(folder, "masks", image.stem)
        own.mkdir(parents=True, exist_ok=True)
        for number, one in enumerate(image.objects, start=1):
            write_mask(own / f"{number:04d}_{safe_name(one.class_name)}.png", one.mask())

    yield add
