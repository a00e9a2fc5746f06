"""`mrcnn convert`: labels in another format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mrcnn.cli import options
from mrcnn.cli.console import progress

EPILOG = """\b
Example:
    mrcnn convert leaves leaves_yolo --to yolo
    mrcnn convert instances_val2017.json nuclei --images val2017 --to masks

\b
Formats:
    coco         COCO's JSON
    via          VGG Image Annotator, 1 and 2
    labelme      LabelMe's JSON files
    cvat         CVAT for images 1.1, XML
    yolo         YOLO for segmentation
    masks        a mask file per object
    labels       label images: Cellpose, StarDist, QuPath
    instances    a table beside instance masks (only read)
    supervisely  a Supervisely project

The new folder has copies of the images. What the new format cannot hold is said.
"""


@click.command(epilog=EPILOG)
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--to", required=True, metavar="FORMAT", help="The new format.")
@options.labels
@options.debug
def convert(source: Path, target: Path, to: str, **chosen: Any) -> int:
    """Write labels in another format."""
    from mrcnn.data.convert import convert as convert_labels

    chosen["format"] = chosen.pop("format_name")
    with progress("images") as move:
        done = convert_labels(source, target, to, progress=move, **chosen)
    click.echo(
        f"{target}: {done.images} images, {done.objects} objects, "
        f"{len(done.class_names)} classes, from {done.source_format} to {to}"
    )
    for sentence in done.losses:
        click.echo(f"- {sentence}")
    return 0
