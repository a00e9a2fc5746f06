"""`--supervisely CONFIG.json` of train and detect: what the configuration says replaces options."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from mrcnn.cli import options
from mrcnn.cli.console import load_keras, progress

if TYPE_CHECKING:
    from mrcnn.supervisely.schemas import Settings

option = click.option(
    "--supervisely",
    "supervisely_config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="CONFIG.json",
    help="A configuration of Supervisely's Mask R-CNN, in place of other options.",
)


def refuse_others(allowed: Iterable[str]) -> None:
    """Refuse options besides these: the configuration says what they would.

    Raises:
        UsageError: another option was given.
    """
    context = click.get_current_context()
    kept = {*allowed, "supervisely_config"}
    for parameter in context.command.params:
        given = context.get_parameter_source(str(parameter.name)) is ParameterSource.COMMANDLINE
        if given and parameter.name not in kept and isinstance(parameter, click.Option):
            raise click.UsageError(
                f"{parameter.opts[0]} cannot be given with --supervisely; the configuration says "
                "it, or has no such thing."
            )


def use_devices(numbers: Sequence[int]) -> None:
    """Let the backend see only these GPUs; before it is loaded."""
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", ",".join(map(str, numbers)))


def train(config: Path, project: Path, chosen: dict[str, Any]) -> int:
    """Train on a project by a training configuration."""
    refuse_others(("data", "weights", "logs", "seed", "config_file", "assignments"))
    from mrcnn.supervisely.schemas import read_train_config

    settings = read_train_config(config)
    use_devices(settings["gpu_devices"])
    load_keras()
    import keras

    from mrcnn.cli.epoch_lines import EpochLines
    from mrcnn.mask_rcnn import MaskRCNN
    from mrcnn.supervisely.training import prepare_training

    training = prepare_training(settings, project)
    training.say = click.echo
    options.change(training.config, chosen["config_file"], chosen["assignments"])
    click.echo(
        f"Training on {len(training.train_set.image_ids)} images, validation on "
        f"{len(training.val_set.image_ids)} images; classes {', '.join(training.titles)}"
    )
    keras.utils.set_random_seed(chosen["seed"])
    model = MaskRCNN("training", training.config, os.fspath(chosen["logs"]))
    training.load_weights(model, chosen["weights"])
    model.training_run.notes = {
        "data": os.path.abspath(project),
        "supervisely": settings,
        "weights": chosen["weights"],
        "seed": chosen["seed"],
    }
    best = training.run(model, [EpochLines(settings["epochs"])], chosen["seed"])
    click.echo(f"Best epoch, by validation loss: {best}")
    click.echo(f"Next: mrcnn detect --supervisely CONFIG.json {best} PROJECT --output NEW_PROJECT")
    return 0


def detect(config: Path, model: str, inputs: Sequence[str], output: Path) -> int:
    """Write a project with the objects that a model finds."""
    refuse_others(("weights", "inputs", "output"))
    from mrcnn.supervisely.schemas import read_inference_config

    if len(inputs) != 1:
        raise click.UsageError(
            f"with --supervisely there is one project to detect in; received {len(inputs)}."
        )
    settings: Settings = read_inference_config(config)
    use_devices([settings["model"]["gpu_device"]])
    load_keras()
    from mrcnn.supervisely.inference import ProjectModel, infer_project

    found = ProjectModel(model, settings)
    with progress("images") as move:
        added = infer_project(found, inputs[0], output, move)
    click.echo(f"{output}: {added} objects added, by the mode {settings['mode']['name']}")
    return 0
