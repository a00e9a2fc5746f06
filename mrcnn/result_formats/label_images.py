"""Label images: `labels/<image>.tif`, 0 for background, then the number of each object.

Object 1 has the best score, and numbers are those of the other formats. Where objects overlap, the
pixel belongs to the better score. napari, ImageJ, QuPath and CellProfiler open these files.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mrcnn.data.formats.raster_files import write_labels
from mrcnn.files import written_beside
from mrcnn.result_formats.found import Add, FoundImage
from mrcnn.result_formats.label_windows import LARGE, LabelWindows
from mrcnn.types import PathLike

TILE = 512
# TIFF's places in a file have 32 bits; compression may save nothing.
_LARGEST_TIFF = 2**32 - 2**25


@contextmanager
def write_label_images(folder: PathLike) -> Iterator[Add]:
    """Write `labels/`, one TIFF of 16 bits per image, or of 32 bits for more than 65535 objects.

    A large image is written in tiles.
    """

    def add(image: FoundImage) -> None:
        path = Path(folder, "labels", f"{image.stem}.tif")
        labels = LabelWindows(image)
        if image.height * image.width > LARGE:
            _write_tiled(path, labels)
        else:
            write_labels(path, labels.draw((0, 0, image.height, image.width)))

    yield add


def _write_tiled(path: Path, labels: LabelWindows) -> None:
    import tifffile

    with written_beside(path) as temporary:
        tifffile.imwrite(
            temporary,
            labels.tiles(TILE),
            shape=labels.shape,
            dtype=labels.dtype,
            tile=(TILE, TILE),
            bigtiff=needs_bigtiff(labels),
            photometric="minisblack",
            compression="zlib",
            metadata=None,
        )


def needs_bigtiff(labels: LabelWindows) -> bool:
    """Whether the numbers may need more bytes than a TIFF without 64-bit places can have."""
    height, width = labels.shape
    # Smaller copies add a third.
    return height * width * labels.dtype.itemsize * 4 / 3 > _LARGEST_TIFF
