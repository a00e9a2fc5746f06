"""ROIs of ImageJ and Fiji: `rois/<image>.zip`, for the ROI Manager.

Outlines run along the edges of pixels, so ImageJ fills the same pixels. An object of several parts
or with holes becomes one composite ROI.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mrcnn.files import written_beside
from mrcnn.result_formats.colours import colour_of
from mrcnn.result_formats.found import Add, FoundImage, FoundObject
from mrcnn.types import PathLike

# Steps of a composite ROI's path, as Java's PathIterator numbers them.
_MOVE, _LINE, _CLOSE = 0.0, 1.0, 4.0


@contextmanager
def write_imagej_rois(folder: PathLike) -> Iterator[Add]:
    """Write `rois/`, one ZIP per image.

    Raises:
        ImportError: roifile is not installed.
    """
    roifile = import_roifile()

    def add(image: FoundImage) -> None:
        path = Path(folder, "rois", f"{image.stem}.zip")
        with written_beside(path) as temporary, zipfile.ZipFile(temporary, "w") as file:
            for number, one in enumerate(image.objects, start=1):
                name = f"{number:04d}-{one.class_name}"
                roi = _roi(roifile, one, name)
                # A slash would be a folder in the ZIP.
                file.writestr(f"{name.replace('/', '_')}.roi", roi.tobytes())

    yield add


def import_roifile() -> Any:
    """Roifile, which writes ROIs.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import roifile
    except ImportError as error:
        raise ImportError(
            'ROIs of ImageJ are written by roifile: pip install "mask-rcnn-keras3[imagej]".'
        ) from error
    return roifile


def _roi(roifile: Any, one: FoundObject, name: str) -> Any:
    parts = one.outlines()
    if len(parts) == 1 and not parts[0].holes:
        # Whole numbers, or roifile moves the points by half a pixel.
        roi = roifile.ImagejRoi.frompoints(parts[0].ring.astype(np.int32), name=name)
        roi.roitype = roifile.ROI_TYPE.POLYGON
    else:
        roi = _composite(roifile, [ring for part in parts for ring in (part.ring, *part.holes)])
        roi.name = name
    roi.stroke_color = bytes([255, *colour_of(one.category_id)])
    return roi


def _composite(roifile: Any, rings: list[np.ndarray]) -> Any:
    """Several rings as one ROI, filled by the even-odd rule."""
    steps: list[float] = []
    for ring in rings:
        for number, (x, y) in enumerate(ring):
            steps += [_LINE if number else _MOVE, float(x), float(y)]
        steps.append(_CLOSE)
    points = np.concatenate(rings)
    roi = roifile.ImagejRoi()
    roi.roitype = roifile.ROI_TYPE.RECT
    roi.left, roi.top = (int(side) for side in points.min(axis=0))
    roi.right, roi.bottom = (int(side) for side in points.max(axis=0))
    roi.shape_roi_size = len(steps)
    roi.multi_coordinates = np.array(steps, np.float32)
    return roi
