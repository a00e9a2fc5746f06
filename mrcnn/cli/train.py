"""`mrcnn train`: from labelled images to weights."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mrcnn.cli import options, supervisely
from mrcnn.cli.console import load_keras, table

if TYPE_CHECKING:
    from mrcnn.data.dataset import Dataset
    from mrcnn.mask_rcnn import MaskRCNN
    from mrcnn.training.recipe import Stage

# The columns of the table at the end.
TABLE = {
    "epoch": "epoch",
    "loss": "loss",
    "val_loss": "val loss",
    "bbox_AP": "box AP",
    "segm_AP": "mask AP",
}

EPILOG = """\b
Example:
    mrcnn train leaves --val more_leaves --epochs 20
    mrcnn train annotations.json --images photos --weights imagenet --set IMAGE_MAX_DIM=512
    mrcnn train leaves --val more_leaves --epochs 20 --name plants --resume
    mrcnn train --supervisely train.json project

DATA is a file or a folder of labels in one of the formats of mrcnn convert --help; the format is
found out from its content.

The run's folder, such as logs/leaves20260101T0000, gets the weights of the last two epochs and of
the best one, config.json, run.json (command, versions, data), split.json (which images were held
back), coco_ap.csv, curves.png, pictures of six validation images, and events for TensorBoard.

The state is saved after each epoch and every ten minutes. Ctrl-C (exit status 130) and SIGTERM
(143) save it and end the training; a second Ctrl-C ends it at once.
"""


@click.command(epilog=EPILOG)
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--val", "val_data", type=options.PATH, metavar="DATA", help="Labels to validate on.")
@click.option(
    "--split",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.2,
    show_default=True,
    help="Without --val: share of the images that is held back to validate on; 0 for none.",
)
@options.labels
@click.option(
    "--weights",
    default="coco",
    show_default=True,
    metavar="random|imagenet|coco|last|FILE",
    help="Weights to start from; last resumes the last run of this name.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with the last run of this name, from the step where it was stopped; begin one if "
    "there is none.",
)
@click.option("--layers", help="heads, 3+, 4+, 5+, all, or a regular expression of layer names.")
@click.option("--epochs", type=click.IntRange(1), help="Default: as many as make 2000 steps.")
@click.option(
    "--patience",
    type=click.IntRange(1),
    metavar="EPOCHS",
    help="End the training when mask AP has not risen for so many epochs.",
)
@click.option("--batch-size", type=click.IntRange(1), help="Images per step. Default: 2.")
@options.augmentation
@click.option("--name", help="Name of the run. Default: that of DATA.")
@click.option(
    "--logs", type=options.PATH, default="logs", show_default=True, help="Folder of all runs."
)
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="Of the split and of all that is random in training.",
)
@supervisely.option
@options.settings
@options.debug
def train(data: Path, val_data: Path | None, split: float, **chosen: Any) -> int:
    """Train on labelled images.

    A Config for small data is made from the images; --config and --set change it.
    """
    if chosen["patience"] is not None and val_data is None and not split:
        raise click.UsageError("--patience needs a validation: give --val, or --split above 0.")
    if chosen["supervisely_config"] is not None:
        return supervisely.train(chosen["supervisely_config"], data, chosen)
    from mrcnn.data.dataset import describe_names
    from mrcnn.data.formats.find import open_labels
    from mrcnn.data.split import split_images

    keys = ("images", "classes", "attribute", "line_width", "skip_invalid")
    given = {key: chosen[key] for key in keys}
    whole = open_labels(data, chosen["format_name"], **given)
    if val_data is not None:
        # The images of a folder of labels are in it.
        images = given["images"] if val_data.is_file() else None
        others = {**given, "images": images, "classes": list_of_classes(whole)}
        train_set, val_set = whole, open_labels(val_data, chosen["format_name"], **others)
    elif split:
        train_set, val_set = split_images(whole, split, chosen["seed"])
    else:
        train_set, val_set = whole, None
    notes = {
        "data": os.path.abspath(data),
        "val": val_data and os.path.abspath(val_data),
        "split": split if val_data is None else None,
        "seed": chosen["seed"],
        "images": describe_names(train_set),
        "val_images": val_set and describe_names(val_set),
        "weights": chosen["weights"],
    }
    name = chosen["name"] or name_of(data)
    if chosen["resume"] and _is_begun(chosen["logs"], name):
        chosen["weights"] = "last"
    click.echo(_described(train_set, val_set))
    return _train(train_set, val_set, name, notes, chosen)


def _is_begun(logs: Path, name: str) -> bool:
    """Whether there is a run of this name with a checkpoint."""
    from mrcnn.training.run import find_last

    try:
        find_last(logs, name)
    except FileNotFoundError:
        return False
    return True


def list_of_classes(dataset: Dataset) -> list[str]:
    """The names of a data set's classes, without the background."""
    return [str(info["name"]) for info in dataset.class_info[1:]]


def name_of(data: Path) -> str:
    """A name for a run from the path of its data: `leaves` for `my/leaves/annotations.json`."""
    path = data.resolve()
    name = path.parent.name if path.is_file() else path.name
    return re.sub(r"[^\w.-]+", "_", name) or "run"


def _described(train_set: Dataset, val_set: Dataset | None) -> str:
    names = list_of_classes(train_set)
    held = "none" if val_set is None else f"{len(val_set.image_ids)} images"
    return (
        f"Training on {len(train_set.image_ids)} images, validation on {held}; "
        f"{'class' if len(names) == 1 else 'classes'} {', '.join(names)}"
    )


def _train(
    train_set: Dataset,
    val_set: Dataset | None,
    name: str,
    notes: dict[str, Any],
    chosen: dict[str, Any],
) -> int:
    load_keras()
    import keras

    from mrcnn import report
    from mrcnn.mask_rcnn import MaskRCNN
    from mrcnn.training.recipe import next_stages, recipe_for
    from mrcnn.training.trained import check_goes_on, how_it_began
    from mrcnn.weights.start import coco_weights_path, load_start_weights

    begun = how_it_began(chosen["weights"], chosen["logs"], name)
    recipe = recipe_for(
        train_set,
        val_set,
        name,
        begun.start,
        chosen["epochs"],
        chosen["layers"],
        chosen["batch_size"],
    )
    known = recipe.config.names()
    # --batch-size decides them anew.
    chosen_anew = {"IMAGES_PER_GPU", "STEPS_PER_EPOCH", "VALIDATION_STEPS"}
    left_out = chosen_anew if chosen["batch_size"] is not None else set()
    earlier = {
        key: value for key, value in begun.settings.items() if key in known and key not in left_out
    }
    recipe.config.update(earlier, "config.json")
    options.change(recipe.config, chosen["config_file"], chosen["assignments"])
    data = {key: notes[key] for key in notes if key != "weights"}
    classes = list_of_classes(train_set)
    check_goes_on(begun, classes, data, recipe.config, is_exact=chosen["resume"])
    for reason in recipe.reasons:
        click.echo(f"- {reason}")
    keras.utils.set_random_seed(chosen["seed"])
    model = MaskRCNN("training", recipe.config, os.fspath(chosen["logs"]))
    load_start_weights(model, chosen["weights"], coco_weights_path(), may_learn_classes=True)
    stages = next_stages(recipe.stages, model.epoch)
    if not stages:
        click.echo(f"Nothing is left to train: {model.epoch} epochs are done.")
        return 0
    model.training_run.notes = notes
    if notes["split"] and val_set is not None:
        model.training_run.split = {
            part: [str(dataset.image_info[i]["id"]) for i in dataset.image_ids]
            for part, dataset in (("train", train_set), ("val", val_set))
        }
    first_epoch = model.epoch + 1
    logs = _run_stages(model, stages, train_set, val_set, chosen)
    if val_set is not None:
        _write_pictures(model, val_set)
    if report.write_curves(model.log_dir, os.path.join(model.log_dir, "curves.png")):
        click.echo(f"Curves: {os.path.join(model.log_dir, 'curves.png')}")
    rows = report.epoch_table(logs, model.training_run.figures_path, first_epoch)
    columns = [name for name in TABLE if any(name in row for row in rows)]
    click.echo(
        table(
            [TABLE[name] for name in columns],
            [[_cell(name, row.get(name)) for name in columns] for row in rows],
        )
    )
    click.echo(f"Next: mrcnn detect {model.log_dir} IMAGES")
    return 0


def _run_stages(
    model: MaskRCNN,
    stages: list[Stage],
    train_set: Dataset,
    val_set: Dataset | None,
    chosen: dict[str, Any],
) -> list[dict[str, float]]:
    """Train; returns Keras' logs of each epoch."""
    from mrcnn.cli.epoch_lines import EpochLines
    from mrcnn.inspection.board import RunBoard
    from mrcnn.training.callbacks import CocoEvaluation, StepLog, StopWithoutProgress

    logs: list[dict[str, float]] = []
    evaluation: list[Any] = [] if val_set is None else [CocoEvaluation(model, val_set)]
    board = RunBoard(model.log_dir, model.config, *evaluation)
    if chosen["patience"] is not None:
        evaluation.append(StopWithoutProgress(model, chosen["patience"]))
    for stage in stages:
        click.echo(f"Training {stage.layers} up to epoch {stage.end}")
        history = model.train(
            train_set,
            val_set,
            learning_rate=model.config.LEARNING_RATE,
            epochs=stage.end,
            layers=stage.layers,
            augmentation=options.augmenter(chosen["augmentation"]),
            custom_callbacks=[
                *evaluation,
                board,
                StepLog(model.log_dir, batch_size=model.config.BATCH_SIZE),
                EpochLines(stages[-1].end),
            ],
            seed=chosen["seed"],
            verbose=0,
        ).history
        epochs = len(history.get("loss", ()))
        logs += [{name: values[i] for name, values in history.items()} for i in range(epochs)]
        if model.epoch < stage.end:  # no progress
            break
    return logs


def _write_pictures(model: MaskRCNN, val_set: Dataset) -> None:
    """Pictures of validation images, detected with the best weights."""
    from mrcnn import report
    from mrcnn.mask_rcnn import MaskRCNN

    detector = MaskRCNN("inference", report.picture_config(model.config), model.model_dir)
    detector.load_weights(model.training_run.best)
    folder = os.path.join(model.log_dir, "pictures")
    paths = report.write_pictures(detector, val_set, folder)
    click.echo(f"Best weights: {model.training_run.best}")
    click.echo(f"Pictures of {len(paths)} validation images: {folder}")


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return str(int(value)) if name == "epoch" else f"{value:.3f}"
