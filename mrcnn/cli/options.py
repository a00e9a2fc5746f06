"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mrcnn.cli.console import DEBUG

if TYPE_CHECKING:
    from mrcnn.training.trained import Trained

Command = TypeVar("Command", bound=Callable[..., Any])
PATH = click.Path(path_type=Path)


def _set_debug(_: click.Context, __: click.Parameter, value: bool) -> None:
    if value:
        DEBUG.set()


debug = click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_set_debug,
    help="Show the traceback of an error.",
)


def names(_: click.Context, __: click.Parameter, value: str | None) -> list[str] | None:
    """The names in `A,B`."""
    if value is None:
        return None
    names = [name.strip() for name in value.split(",")]
    if not all(names):
        raise click.BadParameter("a name is empty; write cat,dog")
    return names


def _format(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    from mrcnn.data.formats.find import check_format

    if value is not None:
        try:
            check_format(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from error
    return value


augmentation = click.option(
    "--augmentation",
    type=click.Choice(("none", "flip", "turn")),
    default="flip",
    show_default=True,
    help="flip: left and right; turn: also up and down and by quarter turns.",
)


def augmenter(name: str) -> Any:
    """The augmenter of this name."""
    if name == "none":
        return None
    import imgaug.augmenters as iaa

    flip = iaa.Fliplr(0.5)
    return flip if name == "flip" else iaa.Sequential([flip, iaa.Flipud(0.5), iaa.Rot90((0, 3))])


def labels(command: Command) -> Command:
    """The options about a data set: `format_name`, `images`, `classes` and so on."""
    for option in (
        click.option(
            "--skip-invalid",
            is_flag=True,
            help="Leave out images and objects that cannot be used; otherwise they are an error.",
        ),
        click.option(
            "--line-width",
            type=click.FloatRange(0, min_open=True),
            help="VIA: polylines are lines of this width in pixels; otherwise they are closed.",
        ),
        click.option("--attribute", help="VIA: the region attribute that is the class."),
        click.option(
            "--classes",
            metavar="A,B",
            callback=names,
            help="Class names in their order. Default: those of the data.",
        ),
        click.option(
            "--images",
            type=PATH,
            metavar="DIR",
            help="Where the images are, if not beside the labels.",
        ),
        click.option(
            "--format",
            "format_name",
            metavar="FORMAT",
            callback=_format,
            help="The labels' format. Default: found out from DATA.",
        ),
    ):
        command = option(command)
    return command


def settings(command: Command) -> Command:
    """The options about settings: `config_file` and `assignments`."""
    for option in (
        click.option(
            "--set",
            "assignments",
            multiple=True,
            metavar="NAME=VALUE",
            help="Change a setting of Config, such as IMAGE_MAX_DIM=512; may be repeated.",
        ),
        click.option(
            "--config",
            "config_file",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            metavar="FILE.json",
            help="Settings that differ.",
        ),
    ):
        command = option(command)
    return command


def change(config: Any, config_file: Path | None, assignments: tuple[str, ...]) -> None:
    """Apply `--config`, then each `--set`."""
    from mrcnn.config import read_settings

    if config_file is not None:
        config.update(read_settings(config_file), config_file)
    for assignment in assignments:
        try:
            config.assign(assignment)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--set") from error


def open_weights(weights: str, chosen: dict[str, Any]) -> Trained:
    """Open a run or a weight file, with the settings of `--config` and `--set`; prints remarks.

    `--config` changes the settings of a run; for a weight file without any, it has them.
    """
    from mrcnn.training.trained import open_trained, settings_beside, weights_at

    changes = chosen["config_file"]
    has_settings = settings_beside(weights_at(weights)) is not None
    trained = open_trained(weights, None if has_settings else changes, chosen["classes"])
    for remark in trained.remarks:
        click.echo(remark)
    change(trained.config, changes if has_settings else None, chosen["assignments"])
    return trained
