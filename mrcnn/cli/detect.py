"""`mrcnn detect`: from images to files of objects."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mrcnn.cli import options
from mrcnn.cli.console import load_keras, progress

if TYPE_CHECKING:
    from mrcnn.config import Config
    from mrcnn.detection.pictures import Input
    from mrcnn.mask_rcnn import MaskRCNN
    from mrcnn.training.trained import Trained

SOME_UNREADABLE = 3
FOUND = "detections.jsonl"
DEFAULT_FORMATS = ("json", "csv", "overlays")

EPILOG = """\b
Example:
    mrcnn detect logs/leaves20260101T0000 photos
    mrcnn detect leaves.h5 scan.tif clip.mp4 --save csv --save labels --output found

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
@options.settings
@options.debug
def detect(weights: str, inputs: tuple[str, ...], output: Path, **chosen: Any) -> int:
    """Find objects in images, and write them to files.

    RUN is a run's folder, which has weights, settings and class names. IMAGES are files, folders,
    patterns, TIFFs of several pages, and videos.
    """
    load_keras()
    from mrcnn.detection.pictures import find_inputs

    formats = _formats(chosen["formats"])
    files = find_inputs(inputs, chosen["recursive"])
    trained = options.open_weights(weights, chosen)
    config = _config(trained, chosen)
    failed = _find(trained, config, files, output)
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


def _config(trained: Trained, chosen: dict[str, Any]) -> Config:
    """The settings of the training for detection, changed by the options."""
    config = trained.config.for_detection()
    config.IMAGES_PER_GPU = chosen["batch_size"] or trained.config.BATCH_SIZE
    if chosen["min_score"] is not None:
        config.DETECTION_MIN_CONFIDENCE = chosen["min_score"]
    config.validate()
    return config


def _find(trained: Trained, config: Config, files: list[Input], output: Path) -> int:
    """Detect in the images without a result; returns how many could not be read, ever."""
    from mrcnn.detection.folder import check_detection, detect_pictures, run_settings
    from mrcnn.detection.pictures import pictures_of
    from mrcnn.detection.result_files import open_jsonl

    check_detection(config, trained.classes)
    shared = os.path.commonpath([os.path.dirname(file.path) for file in files])
    settings = run_settings(config, shared, trained.weights, trained.classes)
    total = None if any(file.is_video for file in files) else sum(file.pages for file in files)
    images = failed = objects = 0
    with open_jsonl(output / FOUND, settings) as store, progress("images") as move:
        pictures = (
            picture
            for picture in pictures_of(files, config.IMAGE_VALUE_RANGE)
            if not store.is_done(picture.name)
        )
        if total is None or store.done < total:
            model = _model(trained, config)
            for result in detect_pictures(model, pictures, trained.classes):
                store.add(result)
                images, failed = images + 1, failed + ("error" in result)
                objects += len(result.get("detections", ()))
                if "error" in result:
                    click.echo(f"Warning: {result['error']}", err=True)
                move(store.done + images, total)
        before = f", {store.done} images done before" if store.done else ""
        click.echo(f"{images} images, {objects} objects, {failed} unreadable{before}")
        return failed + store.failed


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
