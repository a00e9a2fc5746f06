"""`mrcnn detect`: from images to files of objects."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from mrcnn.cli import options, supervisely
from mrcnn.cli.console import load_keras, progress

if TYPE_CHECKING:
    from mrcnn.config import Config
    from mrcnn.detection.pictures import Input
    from mrcnn.detection.result_files import Store
    from mrcnn.mask_rcnn import MaskRCNN
    from mrcnn.ray_engine import Row
    from mrcnn.tiles import Tiling
    from mrcnn.training.trained import Trained

SOME_UNREADABLE = 3
RAY = "ray"
FOUND, WINDOWS = "detections.jsonl", "windows.jsonl"
DEFAULT_FORMATS = ("json", "csv", "overlays")

EPILOG = """\b
Example:
    mrcnn detect logs/leaves20260101T0000 photos
    mrcnn detect leaves.h5 scan.tif clip.mp4 --save csv --save labels --output found
    mrcnn detect leaves.h5 slide.tif --tile 1024 --overlap 128
    mrcnn detect --supervisely roi.json logs/RUN/epochs project --output found_project

\b
Formats of --save:
    json      detections.json, COCO's results
    csv       objects.csv, a row per object: size, shape, intensity
    parquet   objects.parquet, the same table
    overlays  pictures, or videos, with the objects drawn
    labels    TIFFs of object numbers, for napari and ImageJ
    masks     a PNG per object
    geojson   outlines for QuPath
    rois.zip  ROIs for ImageJ and Fiji
    ome       OME-TIFFs of object numbers at all zooms, for scanned slides
    gpkg      GeoPackages, outlines and areas on the map, for QGIS
    wgs84     GeoJSON in longitude and latitude, for web maps
    geotiff   GeoTIFFs of object numbers

Started again with the same --output, it continues where it was interrupted. Another --save then
writes other formats without detecting again. The exit status is 3 if some images could not be read.
"""


@click.command(epilog=EPILOG)
@click.argument("weights", metavar="RUN|WEIGHTS|coco")
@click.argument("inputs", nargs=-1, required=True, metavar="IMAGES...")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default="detections",
    show_default=True,
    help="Folder to write to.",
)
@click.option(
    "--save",
    "formats",
    multiple=True,
    metavar="FORMAT",
    help="May be repeated, or A,B. Default: json,csv,overlays.",
)
@click.option("--min-score", type=click.FloatRange(0, 1), help="Lowest score. Default: 0.7.")
@click.option("--recursive", is_flag=True, help="Also look into the folders inside folders.")
@click.option("--batch-size", type=click.IntRange(1), help="Images per step. Default: as trained.")
@click.option(
    "--classes",
    metavar="A,B",
    callback=options.names,
    help="Class names. Default: those of the run.",
)
@click.option(
    "--tile",
    type=click.IntRange(16),
    help="Cut images of any size into windows of this side in pixels, and join their objects.",
)
@click.option(
    "--overlap",
    type=click.IntRange(0),
    help="Pixels that neighbouring windows share; more than objects measure. Default: 128.",
)
@click.option(
    "--engine",
    type=click.Choice(("local", RAY)),
    default="local",
    show_default=True,
    help="ray: share the work out among processes or machines, by Ray Data.",
)
@click.option("--workers", type=click.IntRange(1), help="With --engine ray: networks at once.")
@supervisely.option
@options.settings
@options.debug
def detect(weights: str, inputs: tuple[str, ...], output: Path, **chosen: Any) -> int:
    """Find objects in images, and write them to files.

    RUN is a run's folder, which has weights, settings and class names. IMAGES are files, folders,
    patterns, TIFFs of several pages, and videos.
    """
    if chosen["supervisely_config"] is not None:
        return supervisely.detect(chosen["supervisely_config"], weights, inputs, output)
    load_keras()
    from mrcnn.detection.pictures import find_inputs

    formats = _formats(chosen["formats"])
    tiling = _tiling(chosen["tile"], chosen["overlap"])
    files = find_inputs(inputs, chosen["recursive"])
    _check_engine(files, chosen)
    _check_images(files, formats)
    trained = options.open_weights(weights, chosen)
    config = _config(trained, chosen)
    failed = _find(
        Work(trained, config, files, output, tiling, chosen["engine"], chosen["workers"])
    )
    _write(config, files, output, formats)
    return SOME_UNREADABLE if failed else 0


def _formats(chosen: tuple[str, ...]) -> list[str]:
    """The formats that `--save` names, each once."""
    from mrcnn.result_formats.write import check_formats

    names = [name.strip() for part in chosen for name in part.split(",") if name.strip()]
    try:
        check_formats(names)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--save") from error
    return list(dict.fromkeys(names)) or list(DEFAULT_FORMATS)


def _check_engine(files: list[Input], chosen: dict[str, Any]) -> None:
    """Refuse what Ray cannot do, and `--workers` without it, before anything is read."""
    if chosen["engine"] == RAY:
        from mrcnn.ray_engine import import_ray, rows_of

        import_ray()
        rows_of(files)
    elif chosen["workers"] is not None:
        raise click.UsageError("--workers is for --engine ray; without it, threads do the work.")


def _check_images(files: list[Input], formats: list[str]) -> None:
    """Refuse images that a format cannot hold before the network runs."""
    from mrcnn.detection.pictures import pictures_of
    from mrcnn.result_formats.write import check_pictures

    check_pictures(pictures_of(file for file in files if not file.is_video), formats)


def _tiling(tile: int | None, overlap: int | None) -> Tiling | None:
    """How images are cut into windows; None: they are not."""
    from mrcnn import tiles

    if tile is None:
        if overlap is not None:
            raise click.UsageError("--overlap is for images in windows; give --tile too.")
        return None
    try:
        return tiles.check_tiling(tiles.Tiling(tile, 128 if overlap is None else overlap))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--overlap") from error


def _config(trained: Trained, chosen: dict[str, Any]) -> Config:
    """The settings of the training for detection, changed by the options."""
    config = trained.config.for_detection()
    config.IMAGES_PER_GPU = chosen["batch_size"] or trained.config.BATCH_SIZE
    if chosen["min_score"] is not None:
        config.DETECTION_MIN_CONFIDENCE = chosen["min_score"]
    config.validate()
    return config


class Work(NamedTuple):
    """What to detect, and how: `files` with `trained`, in windows if there is a `tiling`."""

    trained: Trained
    config: Config
    files: list[Input]
    output: Path
    tiling: Tiling | None
    engine: str
    workers: int | None


def _find(work: Work) -> int:
    """Detect in the images without a result; returns how many could not be read, ever."""
    from mrcnn.detection.folder import check_detection, run_settings
    from mrcnn.detection.result_files import open_jsonl

    trained, config, files = work.trained, work.config, work.files
    check_detection(config, trained.classes)
    shared = os.path.commonpath([os.path.dirname(file.path) for file in files])
    settings = run_settings(config, shared, trained.weights, trained.classes)
    if work.tiling is not None:
        settings["tile"], settings["overlap"] = map(str, work.tiling)
    total = None if any(file.is_video for file in files) else sum(file.pages for file in files)
    images = failed = objects = 0
    with contextlib.ExitStack() as opened:
        store = opened.enter_context(open_jsonl(work.output / FOUND, settings))
        if total is None or store.done < total:
            if work.tiling is None:
                results = _whole(work, store, total)
            else:
                kept = opened.enter_context(open_jsonl(work.output / WINDOWS, settings))
                results = _tiled(work, work.tiling, store, kept)
            for result in results:
                store.add(result)
                images, failed = images + 1, failed + ("error" in result)
                objects += len(result.get("detections", ()))
                if "error" in result:
                    click.echo(f"Warning: {result['error']}", err=True)
        before = f", {store.done} images done before" if store.done else ""
        click.echo(f"{images} images, {objects} objects, {failed} unreadable{before}")
        return failed + store.failed


def _whole(work: Work, store: Store, total: int | None) -> Iterator[dict[str, Any]]:
    """The result of each image, which the network sees whole."""
    with progress("images") as move:
        results = _whole_by_ray(work, store) if work.engine == RAY else _whole_here(work, store)
        for number, result in enumerate(results, start=store.done + 1):
            yield result
            move(number, total)


def _whole_here(work: Work, store: Store) -> Iterator[dict[str, Any]]:
    from mrcnn.detection.folder import detect_pictures
    from mrcnn.detection.pictures import pictures_of

    model = _model(work.trained, work.config)
    every = pictures_of(work.files, work.config.IMAGE_VALUE_RANGE)
    left = (picture for picture in every if not store.is_done(picture.name))
    return detect_pictures(model, left, work.trained.classes)


def _whole_by_ray(work: Work, store: Store) -> Iterator[dict[str, Any]]:
    from mrcnn.ray_engine import detect_rows, rows_of

    rows = rows_of(work.files, work.config.IMAGE_VALUE_RANGE)
    left = [row for row in rows if not store.is_done(row.name)]
    return detect_rows(left, work.trained, work.config, work.workers)


def _tiled(work: Work, tiling: Tiling, store: Store, kept: Store) -> Iterator[dict[str, Any]]:
    """The result of each image, which the network sees in windows; `kept` has their results."""
    from mrcnn import tiles
    from mrcnn.detection.pictures import pictures_of

    earlier = _windows_by_image(work, store)
    model = None
    errors: dict[str, str] = {}
    if work.engine == RAY:
        rows, errors = _rows_of_windows(work, tiling, store, earlier)
        for result in _by_ray(work, rows):
            kept.add(result)
            earlier.setdefault(tiles.image_of_window(result["file_name"]), []).append(result)
    else:
        model = _model(work.trained, work.config)
    for picture in pictures_of(work.files, work.config.IMAGE_VALUE_RANGE):
        if store.is_done(picture.name):
            continue
        if picture.name in errors:
            yield {"file_name": picture.name, "error": errors[picture.name]}
            continue
        with progress(f"windows of {picture.name}") as move:
            yield tiles.detect_picture_tiled(
                model,
                picture,
                tiling,
                work.trained.classes,
                earlier.pop(picture.name, ()),
                kept.add,
                move,
            )


def _windows_by_image(work: Work, store: Store) -> dict[str, list[dict[str, Any]]]:
    """The results of windows that an earlier run kept, of images without a result."""
    from mrcnn import tiles
    from mrcnn.detection.result_files import read_jsonl

    found: dict[str, list[dict[str, Any]]] = {}
    for result in read_jsonl(work.output / WINDOWS):
        image = tiles.image_of_window(result["file_name"])
        if not store.is_done(image):
            found.setdefault(image, []).append(result)
    return found


def _rows_of_windows(
    work: Work, tiling: Tiling, store: Store, earlier: dict[str, list[dict[str, Any]]]
) -> tuple[list[Row], dict[str, str]]:
    """The windows that are left of all images, and what is wrong with images by name."""
    from mrcnn.ray_engine import rows_of, rows_of_windows

    rows: list[Row] = []
    errors = {}
    for row in rows_of(work.files, work.config.IMAGE_VALUE_RANGE):
        if not store.is_done(row.name):
            done = {result["file_name"] for result in earlier.get(row.name, ())}
            try:
                rows += rows_of_windows(row, tiling, done)
            except (OSError, ValueError) as error:
                errors[row.name] = str(error)
    return rows, errors


def _by_ray(work: Work, rows: list[Row]) -> Iterator[dict[str, Any]]:
    from mrcnn.ray_engine import detect_rows

    with progress("windows") as move:
        results = detect_rows(rows, work.trained, work.config, work.workers)
        for number, result in enumerate(results, start=1):
            yield result
            move(number, len(rows))


def _model(trained: Trained, config: Config) -> MaskRCNN:
    from mrcnn.mask_rcnn import MaskRCNN

    model = MaskRCNN("inference", config, os.path.dirname(trained.weights) or ".")
    model.load_weights(trained.weights)
    return model


def _write(config: Config, files: list[Input], output: Path, formats: list[str]) -> None:
    from mrcnn.detection.pictures import pictures_of
    from mrcnn.result_formats.found import found_images
    from mrcnn.result_formats.write import RESULT_FORMATS, write_results

    with progress("images written") as move:
        found = found_images(output / FOUND, pictures_of(files, config.IMAGE_VALUE_RANGE))

        def counted() -> Any:
            for image in found:
                yield image
                move(image.number, None)

        write_results(counted(), formats, output)
    for name in formats:
        click.echo(f"{output / RESULT_FORMATS[name].path}: {RESULT_FORMATS[name].text}")
