"""`mrcnn inspect`: a page of pictures and tables of data, a network, weights or runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mrcnn.cli import options
from mrcnn.cli.console import load_keras
from mrcnn.cli.train import name_of

if TYPE_CHECKING:
    from mrcnn.inspection.page import Section

EPILOG = """\b
Example:
    mrcnn inspect data leaves
    mrcnn inspect model logs/leaves20260101T0000 more_leaves
    mrcnn inspect weights logs/leaves20260101T0000
    mrcnn inspect run logs/leaves20260101T0000

The folder of --output gets report.html, which needs no other file, and its pictures as PNGs.
"""


@click.group(epilog=EPILOG)
@options.debug
def inspect() -> None:
    """Look at data, a network, weights or runs: a page of pictures and tables."""


def _output(default: str) -> Any:
    return click.option(
        "--output",
        type=click.Path(file_okay=False, path_type=Path),
        default=default,
        show_default=True,
        help="New folder to write to.",
    )


_limit = click.option("--limit", type=click.IntRange(1), help="Look at so many images only.")


@inspect.command()
@click.argument("data", type=click.Path(path_type=Path))
@options.labels
@options.augmentation
@_limit
@_output("inspection_data")
@options.settings
@options.debug
def data(data: Path, output: Path, **chosen: Any) -> int:
    """Labels: what is in them, what is wrong with them, what the network gets of them."""
    load_keras()
    from mrcnn.data.formats.find import open_labels
    from mrcnn.files import check_new_folder
    from mrcnn.inspection.data import data_sections
    from mrcnn.training.recipe import recipe_for

    check_new_folder(output)
    keys = ("images", "classes", "attribute", "line_width", "skip_invalid")
    dataset = open_labels(data, chosen["format_name"], **{key: chosen[key] for key in keys})
    recipe = recipe_for(dataset, None, name_of(data), "coco", None, None, None)
    options.change(recipe.config, chosen["config_file"], chosen["assignments"])
    recipe.config.validate()
    sections = data_sections(
        dataset, recipe.config, options.augmenter(chosen["augmentation"]), chosen["limit"]
    )
    facts = [
        ("data", os.path.abspath(data)),
        ("images", len(dataset.image_ids)),
        ("classes", ", ".join(map(str, dataset.class_names[1:]))),
        ("settings", "; ".join(recipe.reasons)),
    ]
    return _write(output, f"Data: {data.name}", facts, sections)


@inspect.command()
@click.argument("weights", metavar="RUN|WEIGHTS|coco")
@click.argument("data", type=click.Path(path_type=Path))
@options.labels
@_limit
@_output("inspection_model")
@options.settings
@options.debug
def model(weights: str, data: Path, output: Path, **chosen: Any) -> int:
    """A network on labelled images: each stage of the forward pass, and the errors."""
    load_keras()
    from mrcnn.cli.evaluate import detector_of
    from mrcnn.data.formats.find import open_labels
    from mrcnn.files import check_new_folder
    from mrcnn.inspection.model import model_sections

    check_new_folder(output)
    trained = options.open_weights(weights, chosen)
    keys = ("images", "attribute", "line_width", "skip_invalid")
    dataset = open_labels(
        data,
        chosen["format_name"],
        classes=trained.class_names,
        **{key: chosen[key] for key in keys},
    )
    sections = model_sections(detector_of(trained), dataset, chosen["limit"])
    facts = [("weights", trained.weights), ("data", os.path.abspath(data))]
    return _write(output, f"Network: {Path(trained.weights).name}", facts, sections)


@inspect.command()
@click.argument("weights", metavar="RUN|WEIGHTS|coco")
@click.option("--compare", metavar="RUN|WEIGHTS|coco", help="Other weights, to show the changes.")
@_output("inspection_weights")
@options.debug
def weights(weights: str, compare: str | None, output: Path) -> int:
    """Weights: ranges, histograms, dead or broken values, differences to others."""
    load_keras()
    from mrcnn.files import check_new_folder
    from mrcnn.inspection.weights import read_weights, weight_sections
    from mrcnn.training.trained import weights_at

    check_new_folder(output)
    path = weights_at(weights)
    facts = [("weights", os.path.abspath(path)), ("bytes", os.path.getsize(path))]
    other = None
    if compare is not None:
        other = read_weights(weights_at(compare))
        facts.append(("compared with", os.path.abspath(weights_at(compare))))
    sections = weight_sections(read_weights(path), other)
    return _write(output, f"Weights: {Path(path).name}", facts, sections)


@inspect.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@click.option(
    "--data", type=options.PATH, help="Labels: draw the images on which each run is worst."
)
@_limit
@_output("inspection_run")
@options.debug
def run(runs: tuple[Path, ...], data: Path | None, limit: int | None, output: Path) -> int:
    """Runs: curves side by side, time of a step, AP by epoch and class, pictures."""
    load_keras()
    from mrcnn.files import check_new_folder
    from mrcnn.inspection.run import run_sections

    check_new_folder(output)
    facts = [("runs", ", ".join(path.name for path in runs))]
    sections = run_sections(runs)
    if data is not None:
        facts.append(("data", os.path.abspath(data)))
        sections += [_worst_of(path, data, limit) for path in dict.fromkeys(runs)]
    return _write(output, f"Runs: {runs[0].name}", facts, sections)


def _worst_of(run: Path, data: Path, limit: int | None) -> Section:
    from mrcnn.cli.evaluate import detector_of
    from mrcnn.data.formats.find import open_labels
    from mrcnn.inspection.model import worst_section
    from mrcnn.training.trained import open_trained

    trained = open_trained(run)
    dataset = open_labels(data, None, classes=trained.class_names)
    return worst_section(detector_of(trained), dataset, f"Worst images of {run.name}", limit)


def _write(output: Path, title: str, facts: list[tuple[str, Any]], sections: list[Section]) -> int:
    from mrcnn.inspection.page import write_report

    page = write_report(output, title, facts, sections)
    pictures = len(list(output.glob("*.png")))
    click.echo(f"{page}: {len(sections)} sections; {pictures} pictures beside it")
    return 0
