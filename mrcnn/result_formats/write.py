"""All formats of results by name, and writing several of them in one pass over the images."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mrcnn.messages import did_you_mean
from mrcnn.result_formats.coco_json import write_coco_json
from mrcnn.result_formats.found import FoundImage, Writer
from mrcnn.result_formats.geojson import write_geojson
from mrcnn.result_formats.imagej_rois import write_imagej_rois
from mrcnn.result_formats.label_images import write_label_images
from mrcnn.result_formats.mask_files import write_mask_files
from mrcnn.result_formats.overlays import write_overlays
from mrcnn.result_formats.tables import write_csv, write_parquet
from mrcnn.types import PathLike


class ResultFormat(NamedTuple):
    """A format of results.

    Attributes:
        path: what it writes, in the folder of the results.
        text: what that is.
        write: writes it.
    """

    path: str
    text: str
    write: Writer


RESULT_FORMATS = {
    "json": ResultFormat("detections.json", "COCO's results", write_coco_json),
    "csv": ResultFormat("objects.csv", "a row per object: size, shape, intensity", write_csv),
    "parquet": ResultFormat("objects.parquet", "the same table in Parquet", write_parquet),
    "overlays": ResultFormat("overlays/", "pictures or videos with objects drawn", write_overlays),
    "labels": ResultFormat(
        "labels/", "TIFFs of object numbers: napari, ImageJ", write_label_images
    ),
    "masks": ResultFormat("masks/", "a PNG per object", write_mask_files),
    "geojson": ResultFormat("geojson/", "outlines for QuPath", write_geojson),
    "rois.zip": ResultFormat("rois/", "ROIs for ImageJ", write_imagej_rois),
}


def check_formats(names: Sequence[str]) -> None:
    """Check names of formats.

    Raises:
        ValueError: an unknown name.
    """
    for name in names:
        if name not in RESULT_FORMATS:
            raise ValueError(
                f"{name!r} is no format of results; there are {', '.join(RESULT_FORMATS)}."
                f"{did_you_mean(name, RESULT_FORMATS)}"
            )


def write_results(images: Iterable[FoundImage], names: Sequence[str], folder: PathLike) -> None:
    """Write images' objects in several formats; one image is in memory at a time.

    Files of an earlier call are replaced.

    Raises:
        ValueError: an unknown name; ImportError: a format's library is not installed.
    """
    check_formats(names)
    with contextlib.ExitStack() as formats:
        adds = [formats.enter_context(RESULT_FORMATS[name].write(folder)) for name in names]
        for image in images:
            for add in adds:
                add(image)
