"""`mrcnn info`: what there is, how fast it is, and what a run was."""

from __future__ import annotations

from pathlib import Path

import click

from mrcnn.cli import options
from mrcnn.cli.console import load_keras, table

EPILOG = """\b
Example:
    mrcnn info
    mrcnn info logs/leaves20260101T0000
"""


@click.command(epilog=EPILOG)
@click.argument("run", required=False, type=click.Path(exists=True, path_type=Path))
@click.option("--no-speed", is_flag=True, help="Do not measure, which takes about a minute.")
@options.debug
def info(run: Path | None, no_speed: bool) -> int:
    """Show versions, devices, speed, and what is missing; or what a RUN was."""
    load_keras()
    if run is not None:
        _show_run(run)
        return 0
    from mrcnn import machine

    _show("Versions", machine.versions())
    _show("Devices", machine.devices())
    _show("Weights", machine.weight_files())
    click.echo("\nExtras")
    extras = [
        [name, "installed" if found else "missing", use] for name, found, use in machine.extras()
    ]
    click.echo(table(["extra", "", "what for"], extras))
    if not no_speed:
        _show("Speed", machine.speed())
    return 0


def _show(title: str, lines: dict[str, str]) -> None:
    click.echo(f"\n{title}")
    width = max(map(len, lines), default=0)
    for name, value in lines.items():
        click.echo(f"  {name:<{width}}  {value}")


def _show_run(folder: Path) -> None:
    from mrcnn.training.callbacks import read_table
    from mrcnn.training.run import Run, read_record
    from mrcnn.training.trained import open_trained

    trained = open_trained(folder)
    config = trained.config
    _show(
        str(folder),
        {
            "weights": trained.weights,
            "classes": ", ".join(trained.class_names),
            "backbone": str(config.BACKBONE),
            "images": f"{config.IMAGE_RESIZE_MODE}, {config.IMAGE_SHAPE[0]} pixels",
            "precision": str(config.DTYPE_POLICY),
        },
    )
    for number, entry in enumerate(read_record(folder), start=1):
        lines = {key: _as_text(value) for key, value in entry.items() if value is not None}
        _show(f"Training {number}", lines)
    figures = read_table(Run("", log_dir=str(folder)).figures_path)
    if figures:
        best = max(figures, key=lambda row: row.get("segm_AP", 0.0))
        click.echo(
            f"\nBest epoch: {int(best['epoch'])} of {int(figures[-1]['epoch'])}, box AP "
            f"{best.get('bbox_AP', 0.0):.3f}, mask AP {best.get('segm_AP', 0.0):.3f}"
        )


def _as_text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {text}" for name, text in value.items())
    if isinstance(value, list):
        return " to ".join(map(str, value))
    return str(value)
