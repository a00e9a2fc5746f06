"""Bars and spiral arms of galaxies: everything a run needs stands in one JSON file.

    python samples/galaxy/galaxy.py prepare  --config FILE    # volunteers' markings to masks
    python samples/galaxy/galaxy.py train    --config FILE    # --resume goes on with the last run
    python samples/galaxy/galaxy.py evaluate --config FILE    # COCO figures of boxes and masks
    python samples/galaxy/galaxy.py predict  --config FILE --images DIR --out DIR
    python samples/galaxy/galaxy.py logs     --config FILE    # curves of all runs in one figure

Paths in the file are relative to the working directory. Where there are no data at all, made-up
galaxies are drawn and taken. samples/galaxy/README.md tells what each key means.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

# The checkout this file lies in, for when the package is not installed.
ROOT_DIR = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
if ROOT_DIR not in sys.path:
    sys.path.append(ROOT_DIR)
# TensorFlow's estimates of what operations cost fill pages; its errors still show.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from mrcnn.config import Config  # noqa: E402
from mrcnn.data.dataset import Dataset  # noqa: E402
from mrcnn.data.formats.table import TableDataset, group_rows, image_path, read_table  # noqa: E402
from samples.galaxy import catalogue, markings, synthesize  # noqa: E402
from samples.galaxy.settings import (  # noqa: E402
    BACKBONES,
    RESNET_BLOCKS,
    Settings,
    build_config,
    load_settings,
)

DEFAULT_CONFIG = os.path.join(ROOT_DIR, "configs", "Zoobot-backbone-transfer_config.json")
SPLITS = ("train", "validation", "test")
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
HEADS = r"(mrcnn_.*)|(rpn_.*)|(fpn_.*)"


# ---- Data ----------------------------------------------------------------------------------------


class GalaxyDataset(TableDataset):
    """Pictures and masks of a table, with the channels that `bands` names.

    Args:
        bands: channels of the pictures from 0, None for all.
    """

    def __init__(self, bands: Sequence[int] | None = None):
        super().__init__()
        self.bands = bands

    def load_image(self, image_id: int) -> np.ndarray:
        """The picture, `[H, W, channels]` uint8.

        Raises:
            OSError: a file that is no picture; ValueError: it has not so many channels.
        """
        image = super().load_image(image_id)
        if self.bands is None:
            return image
        if max(self.bands) >= image.shape[-1]:
            raise ValueError(f"bands is {self.bands}, and it has {image.shape[-1]} channels.")
        return image[..., list(self.bands)]


def prepare_data(settings: Settings) -> None:
    """Let there be a table: of what is there, of the volunteers' markings, or of made-up galaxies.

    Raises:
        FileNotFoundError: pictures or markings without a table, which `prepare` would write.
    """
    if os.path.isfile(settings.data_table):
        if next(iter(object_ids(settings))).startswith("made-up-"):
            print(f"The galaxies of {settings.data_table} are made up.")
        return
    if os.path.isfile(markings_path(settings)):
        raise FileNotFoundError(
            f"the table {settings.data_table} does not exist; galaxy.py prepare makes it from "
            f"{markings_path(settings)}."
        )
    if os.path.isdir(os.path.join(settings.image_dir, "pngs")):
        raise FileNotFoundError(
            f"the table {settings.data_table} does not exist, and {settings.image_dir} has "
            f"pictures; data_table says where the table is, or {markings_path(settings)} and "
            "galaxy.py prepare make one."
        )
    make_up(settings)


def make_up(settings: Settings) -> None:
    """Draw made-up galaxies, with the truth as masks or what made-up volunteers agree on."""
    _need_standard_table(settings)
    made_up = settings.made_up
    print(
        f"There are no data in {settings.image_dir}: drawing {made_up['count']} MADE-UP galaxies "
        f"of {made_up['size']} pixels there. samples/galaxy/README.md says how to bring your own."
    )
    synthesize.write_made_up(settings.image_dir, **made_up)
    if made_up["volunteers"]:
        aggregate(settings, markings_path(settings))


def markings_path(settings: Settings) -> str:
    """Where the volunteers' markings are, or would be."""
    return settings.markings or os.path.join(settings.image_dir, markings.MARKINGS)


def aggregate(settings: Settings, path: str) -> None:
    """Write masks and table of what volunteers marked, and say what there is."""
    _need_standard_table(settings)
    counts = markings.prepare(
        path,
        settings.image_dir,
        settings.min_votes,
        settings.min_area,
        settings.one_instance_classes,
    )
    print(f"{settings.data_table}: " + ", ".join(f"{n} {what}" for what, n in counts.items()))


def _need_standard_table(settings: Settings) -> None:
    """Masks are written to `image_dir`, and so is their table."""
    standard = os.path.join(settings.image_dir, markings.TABLE)
    if os.path.abspath(settings.data_table) != os.path.abspath(standard):
        raise ValueError(
            f"data_table is {settings.data_table}, and the table made in image_dir is {standard}; "
            "name that one, or a table that exists."
        )
    if tuple(settings.class_names) != markings.CLASSES:
        raise ValueError(
            f"class_names is {settings.class_names}; galaxies and markings here have "
            f"{list(markings.CLASSES)}."
        )


def object_ids(settings: Settings) -> list[str]:
    """The objects of the table, in its order."""
    return list(group_rows(read_table(settings.data_table, settings.num_classes - 1)))


def split_objects(settings: Settings, fold: int = 0) -> dict[str, list[str]]:
    """Object ids by split, at random by `seed`.

    Args:
        fold: 1 to k_folds, whose part is the validation; 0 without folds, by validation_split.

    Raises:
        ValueError: too few objects for these splits.
    """
    ids = np.array(sorted(object_ids(settings)))
    ids = ids[np.random.default_rng(settings.seed).permutation(len(ids))]
    tested = round(settings.test_split * len(ids))
    test, rest = ids[:tested], ids[tested:]
    if fold:
        if settings.k_folds > len(rest):
            raise ValueError(f"k_folds is {settings.k_folds}, and there are {len(rest)} objects.")
        validation = np.array_split(rest, settings.k_folds)[fold - 1]
    else:
        validation = rest[: round(settings.validation_split * len(ids))]
    train = rest[~np.isin(rest, validation)]
    for key, share, part in (
        ("test_split", settings.test_split, test),
        ("validation_split", settings.validation_split, validation),
        ("validation_split", 1.0, train),
    ):
        if share and not len(part):
            raise ValueError(
                f"{settings.data_table} has {len(ids)} objects, too few for validation_split "
                f"{settings.validation_split} and test_split {settings.test_split}: change {key}."
            )
    parts = dict(zip(SPLITS, (train, validation, test), strict=True))
    return {name: part.tolist() for name, part in parts.items()}


def load_dataset(settings: Settings, ids: Sequence[str]) -> GalaxyDataset:
    """The data set of these objects, prepared."""
    dataset = GalaxyDataset(settings.bands)
    dataset.load_table(
        settings.data_table, settings.image_dir, ids, classes=settings.class_names, source="galaxy"
    )
    dataset.prepare()
    return dataset


def folds_of(settings: Settings, fold: int | None = None) -> list[int]:
    """The folds to work on: all, one of them, or [0] where there are none.

    Raises:
        ValueError: a fold that is not there.
    """
    known = list(range(1, settings.k_folds + 1)) if settings.k_folds > 1 else [0]
    if fold is None:
        return known
    if fold not in known:
        raise ValueError(f"--fold is {fold}, and k_folds is {settings.k_folds}.")
    return [fold]


def folder_of(settings: Settings, fold: int) -> str:
    """Where the runs of a fold are."""
    return os.path.join(settings.log_dir, f"fold_{fold}") if fold else settings.log_dir


# ---- Training ------------------------------------------------------------------------------------


def train(settings: Settings, fold: int = 0, resume: bool = False):
    """Train one model; returns it.

    Raises:
        FileNotFoundError: pretrained_ckpt; ValueError: a checkpoint of another architecture.
    """
    import keras

    from mrcnn.model import MaskRCNN
    from mrcnn.training.callbacks import CocoEvaluation, StepLog

    parts = split_objects(settings, fold)
    train_set = load_dataset(settings, parts["train"])
    val_set = load_dataset(settings, parts["validation"]) if parts["validation"] else None
    config = build_config(settings, len(parts["train"]), len(parts["validation"]))
    say_where_it_runs()
    keras.utils.set_random_seed(settings.seed)
    model = MaskRCNN("training", config, folder_of(settings, fold))
    last = last_checkpoint(settings, fold) if resume else None
    if last:
        model.load_weights(last)
    else:
        load_pretrained(model, settings)
    layers = trainable_layers(settings)
    model.set_trainable(layers, verbose=0)
    print(describe_trainable(model.keras_model, settings))
    print(", ".join(f"{len(ids)} galaxies to {name}" for name, ids in parts.items() if ids))
    write_json(os.path.join(model.log_dir, "config.json"), dataclasses.asdict(settings))
    write_json(os.path.join(model.log_dir, "split.json"), parts)
    callbacks = [CocoEvaluation(model, val_set)] if val_set else []
    model.train(
        train_set,
        val_set,
        learning_rate=config.LEARNING_RATE,
        epochs=settings.epochs,
        layers=layers,
        augmentation=flips(),
        custom_callbacks=[*callbacks, StepLog(model.log_dir)],
        seed=settings.seed,
    )
    return model


def last_checkpoint(settings: Settings, fold: int = 0) -> str | None:
    """The checkpoint to go on from; None, which is said, where a fold has none yet."""
    from mrcnn.training import find_last

    try:
        return find_last(folder_of(settings, fold), build_config(settings).NAME)
    except FileNotFoundError:
        print(f"There is no checkpoint in {folder_of(settings, fold)} yet: training begins.")
        return None


def load_pretrained(model, settings: Settings) -> None:
    """The backbone of a checkpoint, or random weights, which is said."""
    check_pretrained(settings)
    path = settings.pretrained_ckpt
    if path is None:
        print("pretrained_ckpt is null: training starts from random weights.")
        if settings.trainable_layers < len(RESNET_BLOCKS):
            print(f"trainable_layers {settings.trainable_layers} keeps some of them random.")
        return
    report = model.load_weights(path, by_name=True)
    skipped = f"; {len(report.skipped)} entries are of no use here" if report.skipped else ""
    print(f"{len(report.loaded)} layers are those of {path}{skipped}")


def check_pretrained(settings: Settings) -> None:
    """Let there be the checkpoint that is named.

    Raises:
        FileNotFoundError: there is none.
    """
    path = settings.pretrained_ckpt
    if path is not None and not os.path.isfile(path):
        raise FileNotFoundError(
            f"pretrained_ckpt {path} does not exist; name a checkpoint of Zoobot or another "
            "ResNet, or null for random weights."
        )


def trainable_layers(settings: Settings) -> str:
    """The regular expression of the layers that train: the heads and blocks from the top."""
    blocks = list(BACKBONES[settings.backbone].values())[: settings.trainable_layers]
    return "|".join([HEADS, *(f"({block})" for block in blocks)])


def describe_trainable(model, settings: Settings) -> str:
    """A sentence with the blocks that train and how many weights that are.

    Counted as PyTorch does: statistics of batch normalisation are no weights.
    """
    blocks = list(BACKBONES[settings.backbone])
    training, frozen = blocks[: settings.trainable_layers], blocks[settings.trainable_layers :]
    count, total = count_weights(model)
    return (
        f"trainable_layers {settings.trainable_layers}: "
        f"{', '.join([*training, 'FPN, RPN and heads'])} train, "
        f"{', '.join(frozen) or 'nothing'} is frozen: {count:,} of {total:,} weights train."
    )


def count_weights(model) -> tuple[int, int]:
    """How many weights train, and how many there are; no statistics."""
    weights = [w for w in model.weights if not re.search("moving_|seed_generator", w.path)]
    trained = {id(w) for w in model.trainable_weights}
    sizes = [(int(np.prod(w.shape)), id(w) in trained) for w in weights]
    return sum(size for size, trains in sizes if trains), sum(size for size, _ in sizes)


def flips():
    """Every other picture mirrored left to right, and every other upside down."""
    from imgaug import augmenters as iaa

    return iaa.Sequential([iaa.Fliplr(0.5), iaa.Flipud(0.5)])


@functools.cache
def say_where_it_runs() -> None:
    """Say what computes; once, as nothing is done when it is called again."""
    import keras

    gpus = keras.distribution.list_devices("gpu")
    print(f"Computing on {', '.join(gpus) or f'{os.cpu_count()} CPU cores: there is no GPU'}.")


def write_json(path: str, values) -> None:
    """Write values to a JSON file, which replaces one of that name when it is complete."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(f"{path}.part", "w", encoding="utf-8") as file:
        file.write(json.dumps(values, indent=2) + "\n")
    os.replace(f"{path}.part", path)


# ---- The final model -----------------------------------------------------------------------------


def final_checkpoint(settings: Settings, fold: int = 0) -> str:
    """The weights to judge and to predict with.

    `final_model_ckpt`, as it is or in `log_dir`; else, of the last run, those with the best mask AP
    in validation, or the last ones where nothing was validated.

    Raises:
        FileNotFoundError: there are none.
    """
    from mrcnn.training import find_last

    if settings.final_model_ckpt is not None:
        folder = folder_of(settings, fold)
        for path in (
            settings.final_model_ckpt,
            os.path.join(folder, settings.final_model_ckpt),
        ):
            if os.path.isfile(path):
                return path
        raise FileNotFoundError(
            f"final_model_ckpt {settings.final_model_ckpt} does not exist, nor in {folder}; null "
            "takes the best of the last run."
        )
    config = build_config(settings)
    last = find_last(folder_of(settings, fold), config.NAME)
    best = Path(last).with_name(f"mask_rcnn_{config.NAME}_best.h5")
    return str(best) if best.is_file() else last


def load_final(settings: Settings, config: Config, fold: int = 0):
    """The final model in inference mode.

    Raises:
        FileNotFoundError: no checkpoint; ValueError: one of another network.
    """
    from mrcnn.model import MaskRCNN

    path = final_checkpoint(settings, fold)
    say_where_it_runs()
    model = MaskRCNN("inference", config, folder_of(settings, fold))
    print(f"Weights are those of {path}")
    model.load_weights(path)
    return model


def evaluate(settings: Settings, split: str = "validation", fold: int = 0) -> dict:
    """COCO figures of the final model on a split, printed and written beside the runs.

    Returns:
        `{"bbox": figures, "segm": figures, "segm_AP50_by_class": {name: AP50}}`.

    Raises:
        ValueError: the split is empty.
    """
    from mrcnn import evaluation
    from mrcnn.training.callbacks import detection_config

    ids = split_objects(settings, fold)[split]
    if not ids:
        raise ValueError(f"there are no objects to look at: {split}_split is 0.")
    dataset = load_dataset(settings, ids)
    model = load_final(settings, detection_config(build_config(settings)), fold)
    results = evaluation.detect_results(model, dataset, progress=progress_bar(len(ids)))
    truth = evaluation.coco_ground_truth(dataset)
    found: dict = {}
    for iou_type in evaluation.IOU_TYPES:
        coco_eval = evaluation.run_coco_eval(truth, results, iou_type)
        found[iou_type] = evaluation.coco_figures(coco_eval)
        print(f"\n{iou_type}", evaluation.summary(found[iou_type]), sep="\n")
        by_class = dict(zip(settings.class_names, ap50_by_class(coco_eval), strict=True))
        found[f"{iou_type}_AP50_by_class"] = by_class
        print(" AP50 by class: " + ", ".join(f"{n} {ap:.3f}" for n, ap in by_class.items()))
    write_json(os.path.join(folder_of(settings, fold), f"evaluation_{split}.json"), found)
    return found


def ap50_by_class(coco_eval) -> list[float]:
    """AP at IoU 0.5 of each class, in 0..1; -1 for a class without objects."""
    at_half, all_sizes, most_detections = 0, 0, -1
    precisions = coco_eval.eval["precision"][at_half, :, :, all_sizes, most_detections]
    return [float(precisions[:, k].mean()) for k in range(precisions.shape[1])]


def progress_bar(total: int):
    """Function `(done, total)` that shows a bar."""
    import keras

    bar = keras.utils.Progbar(total)
    return lambda done, _: bar.update(done)


# ---- Prediction ----------------------------------------------------------------------------------


def predict(
    settings: Settings, images: str, out: str, table: str = "parquet", fold: int = 0
) -> dict[str, int]:
    """Detect on all pictures of a folder and write what was found.

    `out/pictures/{object_id}.png` has the outlines, `out/masks/{object_id}_mask.png` a grey value a
    detection, `out/detections.parquet` a row each, see `catalogue.py`. Pictures that cannot be read
    are named and left out.

    Args:
        table: "parquet" or "csv".

    Returns:
        how many pictures, detections and unreadable pictures there were.

    Raises:
        FileNotFoundError: no pictures there; ValueError: two of them have one name; OSError: none
            of them can be read.
    """
    pictures = list_pictures(images, settings.bands)
    config = build_config(settings)
    config.DETECTION_MIN_CONFIDENCE = settings.min_score
    model = load_final(settings, config, fold)
    progress = progress_bar(pictures.num_images)
    counts = {"pictures": 0, "detections": 0, "unreadable": 0}
    path = os.path.join(out, f"detections.{table}")
    with catalogue.written_catalogue(path) as add:
        size = settings.batch_size
        for start in range(0, pictures.num_images, size):
            batch = range(start, min(start + size, pictures.num_images))
            readable = dict(_readable(pictures, batch))
            counts["unreadable"] += len(batch) - len(readable)
            found = model.detect(list(readable.values())) if readable else []
            for image_id, detection in zip(readable, found, strict=True):
                object_id = pictures.image_info[image_id]["id"]
                write_prediction(out, object_id, readable[image_id], detection)
                add(catalogue.rows_of(object_id, detection, settings.class_names))
                counts["pictures"] += 1
                counts["detections"] += len(detection["class_ids"])
            progress(batch[-1] + 1, None)
        if not counts["pictures"]:
            raise OSError(f"none of the {counts['unreadable']} pictures in {images} can be read.")
    print(f"{out}: " + ", ".join(f"{count} {what}" for what, count in counts.items()))
    return counts


def list_pictures(folder: str, bands: Sequence[int] | None = None) -> Dataset:
    """A data set of the pictures of a folder; an object's id is its file's name."""
    paths = sorted(path for path in Path(folder).glob("*") if path.suffix.lower() in PICTURES)
    if not paths:
        raise FileNotFoundError(f"there are no pictures ({', '.join(PICTURES)}) in {folder}.")
    dataset = GalaxyDataset(bands)
    seen: dict[str, Path] = {}
    for path in paths:
        if path.stem in seen:
            raise ValueError(
                f"{seen[path.stem]} and {path} are both of object {path.stem}; rename one."
            )
        seen[path.stem] = path
        dataset.add_image("pictures", path.stem, str(path))
    dataset.prepare()
    return dataset


def _readable(pictures: Dataset, image_ids) -> Iterator[tuple[int, np.ndarray]]:
    for image_id in image_ids:
        try:
            yield image_id, pictures.load_image(image_id)
        except (OSError, ValueError) as error:
            path = pictures.image_info[image_id]["path"]
            print(f"\n{path} is left out: {error}", file=sys.stderr)


def write_prediction(out: str, object_id: str, image: np.ndarray, detection: dict) -> None:
    """Write one picture's outlines and masks."""
    drawn = markings.outline(_as_rgb(image), detection["masks"], detection["class_ids"])
    write_png(os.path.join(out, "pictures", f"{object_id}.png"), drawn)
    labels = catalogue.label_detections(detection["masks"])
    write_png(os.path.join(out, "masks", f"{object_id}_mask.png"), labels)


def _as_rgb(image: np.ndarray) -> np.ndarray:
    return image if image.shape[-1] == 3 else np.repeat(image[..., :1], 3, axis=-1)


def write_png(path: str, pixels: np.ndarray) -> None:
    """Write a picture, which replaces one of that name when it is complete."""
    import PIL.Image

    os.makedirs(os.path.dirname(path), exist_ok=True)
    PIL.Image.fromarray(pixels).save(f"{path}.part", format="PNG")
    os.replace(f"{path}.part", path)


# ---- Command line --------------------------------------------------------------------------------


def run_prepare(settings: Settings, arguments) -> None:
    """The command `prepare`."""
    if os.path.isfile(markings_path(settings)):
        aggregate(settings, markings_path(settings))
    else:
        prepare_data(settings)
    dataset = load_dataset(settings, object_ids(settings))
    dataset.check()
    folder = os.path.join(settings.image_dir, "overlays")
    count = min(arguments.overlays, dataset.num_images)
    markings.draw_overlays(dataset, folder, range(count))
    print(f"{dataset.num_images} objects agree with their masks; {count} overlays are in {folder}")


def run_train(settings: Settings, arguments) -> None:
    """The command `train`."""
    from mrcnn.training.callbacks import read_table as read_figures

    if not arguments.resume:
        check_pretrained(settings)  # before minutes of drawing galaxies and building the network
    prepare_data(settings)
    for fold in folds_of(settings, arguments.fold):
        model = train(settings, fold, arguments.resume)
        print(f"Logs and checkpoints are in {model.log_dir}")
        rows = read_figures(os.path.join(model.log_dir, "coco_ap.csv"))
        if rows:
            best = max(rows, key=lambda row: row.get("segm_AP", 0.0))
            print(
                f"Best epoch {best['epoch']}: segm AP {best.get('segm_AP', 0):.3f}, AP50 "
                f"{best.get('segm_AP50', 0):.3f}: {final_checkpoint(settings, fold)}"
            )


def run_evaluate(settings: Settings, arguments) -> None:
    """The command `evaluate`."""
    prepare_data(settings)
    folds = folds_of(settings, arguments.fold)
    found = [evaluate(settings, arguments.split, fold) for fold in folds]
    if len(found) > 1:
        for iou_type in ("bbox", "segm"):
            aps = [figures[iou_type]["AP50"] for figures in found]
            print(f"{iou_type} AP50 of {len(aps)} folds: {np.mean(aps):.3f} +- {np.std(aps):.3f}")


def run_predict(settings: Settings, arguments) -> None:
    """The command `predict`."""
    images = arguments.images
    if images is None:
        prepare_data(settings)
        images = os.path.dirname(image_path(settings.image_dir, ""))
    out = arguments.out or os.path.join(settings.log_dir, "predictions")
    (fold, *_) = folds_of(settings, arguments.fold)
    predict(settings, images, out, arguments.table, fold)


def run_logs(settings: Settings, arguments) -> None:
    """The command `logs`."""
    from mrcnn.training import event_files as logs

    folders = [run for folder in (arguments.runs or [settings.log_dir]) for run in _runs(folder)]
    out = arguments.out or os.path.join(settings.log_dir, "training.png")
    os.makedirs(os.path.dirname(os.path.abspath(out)), exist_ok=True)
    ending = os.path.splitext(out)[1].lstrip(".") or "png"
    logs.draw_runs(logs.read_runs(folders)).savefig(f"{out}.part", format=ending, dpi=120)
    os.replace(f"{out}.part", out)
    print(f"Curves of {len(folders)} runs are in {out}")


def _runs(folder: str) -> list[str]:
    from mrcnn.training import event_files as logs

    found = logs.find_runs(folder)
    if not found:
        raise FileNotFoundError(f"{folder} has no event files of TensorBoard; train first.")
    return found


COMMANDS = {
    "prepare": (run_prepare, "make masks and table of markings, check them, draw overlays"),
    "train": (run_train, "train, and write logs, figures and a checkpoint each epoch"),
    "evaluate": (run_evaluate, "COCO figures of the final checkpoint"),
    "predict": (run_predict, "pictures, masks and a table of what is found in a folder"),
    "logs": (run_logs, "draw the curves of runs into one figure"),
}


def parse_arguments(argv=None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Find bars and spiral arms of galaxies.")
    commands = parser.add_subparsers(dest="command", required=True)
    added = {}
    for name, (_, what) in COMMANDS.items():
        added[name] = commands.add_parser(name, help=what, description=what)
        added[name].add_argument("--config", default=DEFAULT_CONFIG, metavar="FILE.json")
    for name in ("train", "evaluate", "predict"):
        added[name].add_argument("--fold", type=int, metavar="N", help="one of k_folds alone")
    add = added["prepare"].add_argument
    add("--overlays", type=int, default=50, metavar="N", help="pictures to look at (default 50)")
    add = added["train"].add_argument
    add("--resume", action="store_true", help="go on with the last run")
    add = added["evaluate"].add_argument
    add("--split", choices=SPLITS, default="validation", help="(default validation)")
    add = added["predict"].add_argument
    add("--images", metavar="DIR", help="folder of pictures (default: those of image_dir)")
    add("--out", metavar="DIR", help="folder to write to (default: log_dir/predictions)")
    add("--table", choices=catalogue.FORMATS, default="parquet", help="(default parquet)")
    add = added["logs"].add_argument
    add("--runs", nargs="+", metavar="DIR", help="folders of runs (default: log_dir)")
    add("--out", metavar="FILE", help="picture to write (default: log_dir/training.png)")
    return parser.parse_args(argv)


def main(argv=None) -> None:
    """Run one command of the command line."""
    arguments = parse_arguments(argv)
    run, _ = COMMANDS[arguments.command]
    run(load_settings(arguments.config), arguments)


if __name__ == "__main__":
    main()
