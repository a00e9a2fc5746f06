"""`mrcnn evaluate`: how good the detections of a network are on labelled images."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mrcnn.cli import options
from mrcnn.cli.console import load_keras, progress, table

if TYPE_CHECKING:
    from mrcnn.data.dataset import Dataset
    from mrcnn.evaluation.report import Evaluation
    from mrcnn.mask_rcnn import MaskRCNN
    from mrcnn.training.trained import Trained

WORST = 20

EPILOG = """\b
Example:
    mrcnn evaluate logs/leaves20260101T0000 more_leaves

DATA is as for mrcnn train. The folder of --output gets evaluation.json, classes.csv, images.csv,
and pictures of the images with the worst F1.
"""


@click.command(epilog=EPILOG)
@click.argument("weights", metavar="RUN|WEIGHTS|coco")
@click.argument("data", type=click.Path(path_type=Path))
@options.labels
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default="evaluation",
    show_default=True,
    help="Folder to write to.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    help="Lowest score for precision, recall and kinds of errors. Default: where F1 is best.",
)
@click.option("--limit", type=click.IntRange(1), help="Evaluate on the first images only.")
@options.settings
@options.debug
def evaluate(weights: str, data: Path, **chosen: Any) -> int:
    """Compare detections with labels: COCO's figures, kinds of errors, the worst images."""
    load_keras()
    from mrcnn.data.formats.find import open_labels
    from mrcnn.evaluation.report import evaluation_of

    trained = options.open_weights(weights, chosen)
    dataset = open_labels(
        data,
        chosen["format_name"],
        images=chosen["images"],
        attribute=chosen["attribute"],
        line_width=chosen["line_width"],
        classes=trained.class_names,
        skip_invalid=chosen["skip_invalid"],
    )
    model = detector_of(trained)
    with progress("images") as move:
        found = evaluation_of(model, dataset, chosen["limit"], chosen["threshold"], move)
    _print(found)
    _write(found, chosen["output"])
    _draw(model, dataset, found, chosen["output"])
    return 0


def detector_of(trained: Trained) -> MaskRCNN:
    """The model that detects with these weights."""
    from mrcnn.mask_rcnn import MaskRCNN

    config = trained.config.for_detection()
    model = MaskRCNN("inference", config, str(Path(trained.weights).parent))
    model.load_weights(trained.weights)
    return model


def _print(found: Evaluation) -> None:
    from mrcnn.evaluation import summary

    for iou_type, figures in found.figures.items():
        click.echo(f"{iou_type}\n{summary(figures)}")
    columns = list(found.classes[0])
    rows = [[_shown(row[name]) for name in columns] for row in found.classes]
    click.echo(table(columns, rows))
    chosen = "where F1 is best" if found.is_best_threshold else "as given"
    if not found.errors.counts["correct"]:
        chosen = "no detection is correct"
    click.echo(
        f"At scores from {found.threshold:.3f} ({chosen}): precision {found.errors.precision:.3f}, "
        f"recall {found.errors.recall:.3f}, F1 {found.errors.f1:.3f}"
    )
    counts = ", ".join(f"{number} {kind}" for kind, number in found.errors.counts.items())
    click.echo(f"Of {found.errors.objects} objects: {counts}")


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _write(found: Evaluation, folder: Path) -> None:
    from mrcnn.files import write_text, written_beside

    write_text(folder / "evaluation.json", json.dumps(found.as_json(), indent=2) + "\n")
    for name, rows in (("classes.csv", found.classes), ("images.csv", found.images)):
        with (
            written_beside(folder / name) as temporary,
            open(temporary, "w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    click.echo(f"{folder}: evaluation.json, classes.csv, images.csv")


def _draw(model: MaskRCNN, dataset: Dataset, found: Evaluation, folder: Path) -> None:
    from mrcnn import report

    model.config.DETECTION_MIN_CONFIDENCE = found.threshold
    worst = [row for row in found.worst() if row["f1"] < 1][:WORST]
    with progress("pictures") as move:
        for number, row in enumerate(worst, start=1):
            stem = Path(str(row["name"])).stem
            path = folder / "worst" / f"{number:02d}_{stem}.png"
            title = f"F1 {row['f1']:.2f}: {row['missed']} missed, {row['false']} false"
            report.write_picture(model, dataset, int(row["image_id"]), path, title)
            move(number, len(worst))
    if worst:
        click.echo(f"{folder / 'worst'}: the {len(worst)} images with the worst F1")
