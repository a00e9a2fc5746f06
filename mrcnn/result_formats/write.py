"""All formats of results by name, and writing several of them in one pass over the images."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from mrcnn.data.windowed_images import WindowedImage
from mrcnn.detection.pictures import Picture
from mrcnn.detection.result_files import import_pyarrow
from mrcnn.messages import did_you_mean
from mrcnn.result_formats.coco_json import write_coco_json
from mrcnn.result_formats.found import FoundImage, Writer
from mrcnn.result_formats.geojson import write_geojson
from mrcnn.result_formats.geopackage import import_pyogrio, write_geopackages
from mrcnn.result_formats.georeferenced import check_georeference, import_rasterio
from mrcnn.result_formats.geotiff import write_geotiffs
from mrcnn.result_formats.imagej_rois import import_roifile, write_imagej_rois
from mrcnn.result_formats.label_images import write_label_images
from mrcnn.result_formats.mask_files import write_mask_files
from mrcnn.result_formats.ome_tiff import write_ome_tiffs
from mrcnn.result_formats.overlays import write_overlays
from mrcnn.result_formats.tables import write_csv, write_parquet
from mrcnn.result_formats.wgs84 import write_wgs84
from mrcnn.types import PathLike


class ResultFormat(NamedTuple):
    """A format of results.

    Attributes:
        path: what it writes, in the folder of the results.
        text: what that is.
        write: writes it.
        library: imports the optional library that writes it; None: there is none.
        check: raises a ValueError for an image that the format cannot hold; None: it holds all.
    """

    path: str
    text: str
    write: Writer
    library: Callable[[], object] | None = None
    check: Callable[[WindowedImage], None] | None = None


RESULT_FORMATS = {
    "json": ResultFormat("detections.json", "COCO's results", write_coco_json),
    "csv": ResultFormat("objects.csv", "a row per object: size, shape, intensity", write_csv),
    "parquet": ResultFormat(
        "objects.parquet", "the same table in Parquet", write_parquet, import_pyarrow
    ),
    "overlays": ResultFormat("overlays/", "pictures or videos with objects drawn", write_overlays),
    "labels": ResultFormat(
        "labels/", "TIFFs of object numbers: napari, ImageJ", write_label_images
    ),
    "masks": ResultFormat("masks/", "a PNG per object", write_mask_files),
    "geojson": ResultFormat("geojson/", "outlines for QuPath", write_geojson),
    "rois.zip": ResultFormat("rois/", "ROIs for ImageJ", write_imagej_rois, import_roifile),
    "ome": ResultFormat("ome/", "OME-TIFFs of object numbers, at all zooms", write_ome_tiffs),
    "gpkg": ResultFormat(
        "gpkg/", "GeoPackages: QGIS", write_geopackages, import_pyogrio, check_georeference
    ),
    "wgs84": ResultFormat(
        "wgs84/", "outlines for web maps", write_wgs84, import_rasterio, check_georeference
    ),
    "geotiff": ResultFormat(
        "geotiff/",
        "GeoTIFFs of object numbers",
        write_geotiffs,
        import_rasterio,
        check_georeference,
    ),
}


def check_formats(names: Sequence[str]) -> None:
    """Check names of formats, and that their libraries are there.

    Raises:
        ValueError: an unknown name; ImportError: a format's library is not installed.
    """
    for name in names:
        if name not in RESULT_FORMATS:
            raise ValueError(
                f"{name!r} is no format of results; there are {', '.join(RESULT_FORMATS)}."
                f"{did_you_mean(name, RESULT_FORMATS)}"
            )
        if (library := RESULT_FORMATS[name].library) is not None:
            library()


def check_pictures(pictures: Iterable[Picture], names: Sequence[str]) -> None:
    """Check that formats can hold images, before the network looks for objects.

    Rasters are not decoded. Images that cannot be opened are passed over: detection names them.

    Raises:
        ValueError: an image that a format cannot hold.
    """
    checks = {check for name in names if (check := RESULT_FORMATS[name].check) is not None}
    if not checks:
        return
    for picture in pictures:
        if picture.open is None:  # a frame of a video, already decoded
            continue
        with contextlib.ExitStack() as files:
            try:
                image = files.enter_context(picture.open())
            except (OSError, ValueError):
                continue
            for check in checks:
                check(image)


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
