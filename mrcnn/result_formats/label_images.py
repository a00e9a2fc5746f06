"""Label images: `labels/<image>.tif`, 0 for background, then the number of each object.

Object 1 has the best score, and numbers are those of the other formats. Where objects overlap, the
pixel belongs to the better score. napari, ImageJ, QuPath and CellProfiler open these files.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from mrcnn.data.formats.raster_files import write_labels
from mrcnn.result_formats.found import Add, FoundImage
from mrcnn.types import PathLike


@contextmanager
def write_label_images(folder: PathLike) -> Iterator[Add]:
    """Write `labels/`, one TIFF of 16 bits per image, or of 32 bits for more than 65535 objects."""

    def add(image: FoundImage) -> None:
        labels = np.zeros((image.height, image.width), np.uint32)
        for number, one in reversed(list(enumerate(image.objects, start=1))):
            labels[one.mask()] = number
        write_labels(Path(folder, "labels", f"{image.stem}.tif"), labels)

    yield add
