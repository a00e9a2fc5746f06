"""Label images as OME-TIFF: `ome/<image>.ome.tif`, in tiles, with smaller copies.

QuPath, napari, Fiji and OMERO show such a file at any zoom without reading all of it. Numbers are
those of `label_images`. Smaller copies have each second pixel of the one before, so that each
number stays one of an object.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mrcnn.files import written_beside
from mrcnn.result_formats.found import Add, FoundImage
from mrcnn.result_formats.label_images import TILE, needs_bigtiff
from mrcnn.result_formats.label_windows import LabelWindows
from mrcnn.types import PathLike

# The smallest copy has at most this side.
_SMALLEST = 1024


@contextmanager
def write_ome_tiffs(folder: PathLike) -> Iterator[Add]:
    """Write `ome/`, one OME-TIFF of 16 bits per image, or of 32 bits above 65535 objects."""

    def add(image: FoundImage) -> None:
        path = Path(folder, "ome", f"{image.stem}.ome.tif")
        with written_beside(path) as temporary:
            _write(temporary, image.name, LabelWindows(image))

    yield add


def _write(path: Path, name: str, labels: LabelWindows) -> None:
    import tifffile

    steps = [1]
    while max(labels.size(steps[-1])) > _SMALLEST:
        steps.append(2 * steps[-1])
    with tifffile.TiffWriter(path, bigtiff=needs_bigtiff(labels), ome=True) as file:
        for step in steps:
            is_whole = step == 1
            file.write(
                labels.tiles(TILE, step),
                shape=labels.size(step),
                dtype=labels.dtype,
                tile=(TILE, TILE),
                photometric="minisblack",
                compression="zlib",
                # The smaller copies follow in sub-IFDs of the first.
                subifds=len(steps) - 1 if is_whole else None,
                subfiletype=0 if is_whole else 1,
                metadata={"axes": "YX", "Name": name} if is_whole else None,
            )
