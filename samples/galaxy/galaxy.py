"""Bars and spiral arms of galaxies: one JSON file has all settings of a run.

    python samples/galaxy/galaxy.py prepare  --config FILE    # volunteers' markings to masks
    python samples/galaxy/galaxy.py train    --config FILE    # --resume continues the last run
    python samples/galaxy/galaxy.py evaluate --config FILE    # COCO figures of boxes and masks
    python samples/galaxy/galaxy.py predict  --config FILE --images DIR --out DIR
    python samples/galaxy/galaxy.py logs     --config FILE    # curves of all runs in one figure

Paths in the file are relative to the working directory. If there are no data and the file has the
key `made_up`, `prepare` and `train` draw made-up galaxies. samples/galaxy/README.md explains the
keys.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

# This checkout, in case the package is not installed.
ROOT_DIR = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
if ROOT_DIR not in sys.path:
    sys.path.append(ROOT_DIR)

from mrcnn import quiet  # noqa: E402
from mrcnn.config import Config  # noqa: E402
from mrcnn.data.dataset import Dataset  # noqa: E402
from mrcnn.data.formats.table import TableDataset, group_rows, image_path, read_table  # noqa: E402
from mrcnn.files import write_text, written_beside  # noqa: E402
from mrcnn.types import PathLike  # noqa: E402
from samples.galaxy import catalogue, markings, synthesize  # noqa: E402
from samples.galaxy.settings import (  # noqa: E402
    BACKBONES,
    MADE_UP,
    RESNET_BLOCKS,
    Settings,
    build_config,
    load_settings,
    run_name,
)

if TYPE_CHECKING:
    import keras

    from mrcnn.mask_rcnn import MaskRCNN

DEFAULT_CONFIG = os.path.join(ROOT_DIR, "configs", "Zoobot-backbone-transfer_config.json")
SPLITS = ("train", "validation", "test")
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
HEADS = r"(mrcnn_.*)|(rpn_.*)|(fpn_.*)"


# ---- Data ----------------------------------------------------------------------------------------


class GalaxyDataset(TableDataset):
    """Pictures and masks of a table, with the channels in `bands`.

    Args:
        bands: channels of the pictures, counted from 0; None for all.
    """

    def __init__(self, bands: Sequence[int] | None = None):
        super().__init__()
        self.bands = bands

    def load_image(self, image_id: int) -> np.ndarray:
        """The picture, `[H, W, channels]` uint8.

        Raises:
            OSError: the file is not a picture; ValueError: it has too few channels.
        """
        image = super().load_image(image_id)
        if self.bands is None:
            return image
        if max(self.bands) >= image.shape[-1]:
            raise ValueError(
                f"bands is {self.bands}, and {self.image_info[image_id]['path']} has "
                f"{image.shape[-1]} channels."
            )
        return image[..., list(self.bands)]


def prepare_data(settings: Settings) -> None:
    """Make sure that there is a table; draw made-up galaxies if the key `made_up` asks for them.

    Raises:
        FileNotFoundError: there is no table, and nothing asks for made-up galaxies.
    """
    if settings.made_up is not None and not _has_data(settings):
        make_up(settings)
    need_data(settings)


def need_data(settings: Settings) -> None:
    """Make sure that there is a table, and say so if its galaxies are made up.

    Raises:
        FileNotFoundError: there is no table; the message says what would do.
    """
    if os.path.isfile(settings.data_table):
        if next(iter(object_ids(settings))).startswith("made-up-"):
            print(f"The galaxies of {settings.data_table} are made up.")
        return
    missing = f"the table {settings.data_table} does not exist"
    if os.path.isfile(markings_path(settings)):
        raise FileNotFoundError(
            f"{missing}; galaxy.py prepare makes it from {markings_path(settings)}."
        )
    if _has_data(settings):
        raise FileNotFoundError(
            f"{missing}, and {settings.image_dir} has pictures; data_table must name the table, or "
            f"{markings_path(settings)} and galaxy.py prepare make one."
        )
    drawing = (
        'To try the sample without data, give the key "made_up", such as {"count": 400}, and '
        if settings.made_up is None
        else 'The key "made_up" asks for made-up galaxies, so '
    )
    raise FileNotFoundError(
        f"{missing}, and there are no pictures in {os.path.join(settings.image_dir, 'pngs')}; "
        f"data_table and image_dir must name them. {drawing}galaxy.py prepare or train draws them."
    )


def _has_data(settings: Settings) -> bool:
    return (
        os.path.isfile(settings.data_table)
        or os.path.isfile(markings_path(settings))
        or os.path.isdir(os.path.join(settings.image_dir, "pngs"))
    )


def make_up(settings: Settings) -> None:
    """Draw the made-up galaxies of the key `made_up`.

    Their masks are the ground truth or, with volunteers, what made-up volunteers agree on.
    """
    _need_standard_table(settings)
    made_up = settings.made_up or MADE_UP
    print(
        f"There are no data in {settings.image_dir}: drawing {made_up['count']} MADE-UP galaxies "
        f"of {made_up['size']} pixels there. samples/galaxy/README.md says how to use your own."
    )
    synthesize.write_made_up(settings.image_dir, **made_up)
    if made_up["volunteers"]:
        aggregate(settings, markings_path(settings))


def markings_path(settings: Settings) -> str:
    """Path of the volunteers' markings, whether there are any or not."""
    return settings.markings or os.path.join(settings.image_dir, markings.MARKINGS)


def aggregate(settings: Settings, path: str) -> None:
    """Write masks and table from volunteers' markings, and print the numbers."""
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
    """Masks and their table are written to `image_dir`, with the classes of the markings."""
    standard = os.path.join(settings.image_dir, markings.TABLE)
    if os.path.abspath(settings.data_table) != os.path.abspath(standard):
        raise ValueError(
            f"data_table is {settings.data_table}, and the table made in image_dir is {standard}; "
            "data_table must be that one, or a table that exists."
        )
    if tuple(settings.class_names) != markings.CLASSES:
        raise ValueError(
            f"class_names is {settings.class_names}; made-up galaxies and markings have "
            f"{list(markings.CLASSES)}."
        )


def object_ids(settings: Settings) -> list[str]:
    """The object ids of the table, in its order."""
    return list(group_rows(read_table(settings.data_table, settings.num_classes - 1)))


def split_objects(settings: Settings, fold: int = 0) -> dict[str, list[str]]:
    """Object ids by split, drawn at random from `seed`.

    Args:
        fold: 1 to k_folds, the part used for validation; 0 without folds: validation_split counts.

    Raises:
        ValueError: there are too few objects for these splits.
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
    """The prepared data set of these objects."""
    dataset = GalaxyDataset(settings.bands)
    dataset.load_table(
        settings.data_table, settings.image_dir, ids, classes=settings.class_names, source="galaxy"
    )
    dataset.prepare()
    return dataset


def folds_of(settings: Settings, fold: int | None = None) -> list[int]:
    """The folds to work on: all, one of them, or [0] without folds.

    Raises:
        ValueError: there is no such fold.
    """
    known = list(range(1, settings.k_folds + 1)) if settings.k_folds > 1 else [0]
    if fold is None:
        return known
    if fold not in known:
        raise ValueError(f"--fold is {fold}, and k_folds is {settings.k_folds}.")
    return [fold]


def folder_of(settings: Settings, fold: int) -> str:
    """Folder of the runs of a fold."""
    return os.path.join(settings.log_dir, f"fold_{fold}") if fold else settings.log_dir


# ---- Training ------------------------------------------------------------------------------------


def train(settings: Settings, fold: int = 0, resume: bool = False) -> MaskRCNN:
    """Train one model; returns it.

    Raises:
        FileNotFoundError: pretrained_ckpt is missing; ValueError: it has another architecture.
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
    if model.epoch >= settings.epochs:
        print(
            f"Nothing is left to train: {model.epoch} epochs are done, and epochs is "
            f"{settings.epochs}."
        )
        return model
    layers = trainable_layers(settings)
    model.set_trainable(layers, verbose=0)
    print(describe_trainable(model.keras_model, settings))
    print(", ".join(f"{name}: {len(ids)} galaxies" for name, ids in parts.items() if ids))
    callbacks = [CocoEvaluation(model, val_set)] if val_set else []

    def write_run(logs: Any = None) -> None:
        write_json(os.path.join(model.log_dir, "config.json"), dataclasses.asdict(settings))
        write_json(os.path.join(model.log_dir, "split.json"), parts)

    # As a callback, because only `train` settles the run's folder.
    callbacks.append(keras.callbacks.LambdaCallback(on_train_begin=write_run))
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
    """The checkpoint to resume from; None, with a message, if a fold has none yet."""
    from mrcnn.training import find_last

    try:
        return find_last(folder_of(settings, fold), run_name(settings))
    except FileNotFoundError:
        print(f"There is no checkpoint in {folder_of(settings, fold)} yet: training starts.")
        return None


def load_pretrained(model: MaskRCNN, settings: Settings) -> None:
    """Load the backbone of `pretrained_ckpt`; without one, say that weights are random."""
    check_pretrained(settings)
    path = settings.pretrained_ckpt
    if path is None:
        print("pretrained_ckpt is null: training starts from random weights.")
        if settings.trainable_layers < len(RESNET_BLOCKS):
            print(f"With trainable_layers {settings.trainable_layers}, frozen ones stay random.")
        return
    report = model.load_weights(path, by_name=True)
    skipped = f"; {len(report.skipped)} entries are not needed" if report.skipped else ""
    print(f"{len(report.loaded)} layers are loaded from {path}{skipped}")


def check_pretrained(settings: Settings) -> None:
    """Make sure that the file of `pretrained_ckpt` exists.

    Raises:
        FileNotFoundError: it does not.
    """
    path = settings.pretrained_ckpt
    if path is not None and not os.path.isfile(path):
        raise FileNotFoundError(
            f"pretrained_ckpt {path} does not exist; name a checkpoint of Zoobot or another "
            "ResNet, or null for random weights."
        )


def trainable_layers(settings: Settings) -> str:
    """Regular expression of the layers that train: the heads and the upper blocks."""
    blocks = list(BACKBONES[settings.backbone].values())[: settings.trainable_layers]
    return "|".join([HEADS, *(f"({block})" for block in blocks)])


def describe_trainable(model: keras.Model, settings: Settings) -> str:
    """A sentence with the blocks and the number of weights that train.

    As in PyTorch, statistics of batch normalisation do not count as weights.
    """
    blocks = list(BACKBONES[settings.backbone])
    training, frozen = blocks[: settings.trainable_layers], blocks[settings.trainable_layers :]
    count, total = count_weights(model)
    return (
        f"trainable_layers {settings.trainable_layers}: "
        f"{', '.join([*training, 'FPN, RPN and heads'])} train, "
        f"{', '.join(frozen) or 'nothing'} is frozen: {count:,} of {total:,} weights train."
    )


def count_weights(model: keras.Model) -> tuple[int, int]:
    """Number of weights that train and of all weights, without statistics."""
    weights = [w for w in model.weights if not re.search("moving_|seed_generator", w.path)]
    trained = {id(w) for w in model.trainable_weights}
    sizes = [(int(np.prod(w.shape)), id(w) in trained) for w in weights]
    return sum(size for size, trains in sizes if trains), sum(size for size, _ in sizes)


def flips() -> Any:
    """Mirror pictures left to right and upside down, each with probability 0.5."""
    from imgaug import augmenters as iaa

    return iaa.Sequential([iaa.Fliplr(0.5), iaa.Flipud(0.5)])


@functools.cache
def say_where_it_runs() -> None:
    """Print the devices that compute, on the first call."""
    import keras

    gpus = keras.distribution.list_devices("gpu")
    print(f"Computing on {', '.join(gpus) or f'{os.cpu_count()} CPU cores: there is no GPU'}.")


def write_json(path: PathLike, values: Any) -> None:
    """Write values to a JSON file, which replaces an older one only when it is complete."""
    write_text(path, json.dumps(values, indent=2) + "\n")


# ---- The final model -----------------------------------------------------------------------------


def final_checkpoint(settings: Settings, fold: int = 0) -> str:
    """The weight file for evaluation and prediction.

    It is `final_model_ckpt`, as given or in `log_dir`. Without it, it is the file of the last run
    with the best mask AP in validation, or its last checkpoint if there was no validation.

    Raises:
        FileNotFoundError: there is none.
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
            "takes the best weights of the last run."
        )
    last = find_last(folder_of(settings, fold), run_name(settings))
    best = Path(last).with_name(f"mask_rcnn_{run_name(settings)}_best.h5")
    return str(best) if best.is_file() else last


def load_final(settings: Settings, config: Config, fold: int = 0) -> MaskRCNN:
    """The final model in inference mode.

    Raises:
        FileNotFoundError: there is no checkpoint; ValueError: it belongs to another network.
    """
    from mrcnn.model import MaskRCNN

    path = final_checkpoint(settings, fold)
    say_where_it_runs()
    model = MaskRCNN("inference", config, folder_of(settings, fold))
    print(f"Weights are loaded from {path}")
    model.load_weights(path)
    return model


def evaluate(settings: Settings, split: str = "validation", fold: int = 0) -> dict:
    """Print COCO figures of the final model on a split, and write them beside the runs.

    Returns:
        `{"bbox": figures, "segm": figures, "segm_AP50_by_class": {name: AP50}}`.

    Raises:
        ValueError: the split is empty.
    """
    from mrcnn import evaluation
    from mrcnn.training.callbacks import detection_config

    ids = split_objects(settings, fold)[split]
    if not ids:
        raise ValueError(f"there are no objects to evaluate: {split}_split is 0.")
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


def ap50_by_class(coco_eval: Any) -> list[float]:
    """AP at IoU 0.5 of each class, in 0..1; -1 for a class without objects."""
    at_half, all_sizes, most_detections = 0, 0, -1
    precisions = coco_eval.eval["precision"][at_half, :, :, all_sizes, most_detections]
    return [float(precisions[:, k].mean()) for k in range(precisions.shape[1])]


def progress_bar(total: int) -> Callable[[int, Any], None]:
    """A function `(done, total)` that shows a progress bar."""
    import keras

    bar = keras.utils.Progbar(total)
    return lambda done, _: bar.update(done)


# ---- Prediction ----------------------------------------------------------------------------------


def predict(
    settings: Settings, images: str, out: str, table: str = "parquet", fold: int = 0
) -> dict[str, int]:
    """Detect in all pictures of a folder and write the detections.

    `out/pictures/{object_id}.png` has the outlines, `out/masks/{object_id}_mask.png` one grey value
    per detection, `out/detections.parquet` one row per detection, see `catalogue.py`. Pictures that
    cannot be read are named and left out.

    Args:
        table: "parquet" or "csv".

    Returns:
        the numbers of pictures, detections and unreadable pictures.

    Raises:
        FileNotFoundError: there are no pictures; ValueError: two of them have the same name;
            OSError: none of them can be read.
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
    """A data set of the pictures in a folder; an object's id is its file's name."""
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


def _readable(pictures: Dataset, image_ids: Iterable[int]) -> Iterator[tuple[int, np.ndarray]]:
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


def write_png(path: PathLike, pixels: np.ndarray) -> None:
    """Write a picture, which replaces an older one only when it is complete."""
    import PIL.Image

    with written_beside(path) as temporary:
        PIL.Image.fromarray(pixels).save(temporary, format="PNG")


# ---- Command line --------------------------------------------------------------------------------


def run_prepare(settings: Settings, arguments: argparse.Namespace) -> None:
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


def run_train(settings: Settings, arguments: argparse.Namespace) -> None:
    """The command `train`."""
    from mrcnn.training.callbacks import read_table as read_figures

    if not arguments.resume:
        check_pretrained(settings)  # drawing galaxies and building the network takes minutes
    prepare_data(settings)
    for fold in folds_of(settings, arguments.fold):
        model = train(settings, fold, arguments.resume)
        print(f"Logs and checkpoints are in {model.log_dir}")
        rows = read_figures(os.path.join(model.log_dir, "coco_ap.csv"))
        if rows:
            best = max(rows, key=lambda row: row.get("segm_AP", 0.0))
            path = os.path.join(model.log_dir, f"mask_rcnn_{run_name(settings)}_best.h5")
            print(
                f"Best epoch {best['epoch']}: segm AP {best.get('segm_AP', 0):.3f}, AP50 "
                f"{best.get('segm_AP50', 0):.3f}: {path}"
            )


def run_evaluate(settings: Settings, arguments: argparse.Namespace) -> None:
    """The command `evaluate`."""
    need_data(settings)
    folds = folds_of(settings, arguments.fold)
    found = [evaluate(settings, arguments.split, fold) for fold in folds]
    if len(found) > 1:
        for iou_type in ("bbox", "segm"):
            aps = [figures[iou_type]["AP50"] for figures in found]
            print(f"{iou_type} AP50 of {len(aps)} folds: {np.mean(aps):.3f} +- {np.std(aps):.3f}")


def run_predict(settings: Settings, arguments: argparse.Namespace) -> None:
    """The command `predict`."""
    images = arguments.images
    if images is None:
        need_data(settings)
        images = os.path.dirname(image_path(settings.image_dir, ""))
    out = arguments.out or os.path.join(settings.log_dir, "predictions")
    (fold, *_) = folds_of(settings, arguments.fold)
    predict(settings, images, out, arguments.table, fold)


def run_logs(settings: Settings, arguments: argparse.Namespace) -> None:
    """The command `logs`."""
    from mrcnn.training import event_files as logs

    folders = [run for folder in (arguments.runs or [settings.log_dir]) for run in _runs(folder)]
    out = arguments.out or os.path.join(settings.log_dir, "training.png")
    ending = os.path.splitext(out)[1].lstrip(".") or "png"
    with written_beside(out) as temporary:
        logs.draw_runs(logs.read_runs(folders)).savefig(temporary, format=ending, dpi=120)
    print(f"Curves of {len(folders)} runs are in {out}")


def _runs(folder: str) -> list[str]:
    from mrcnn.training import event_files as logs

    found = logs.find_runs(folder)
    if not found:
        raise FileNotFoundError(f"{folder} has no event files of TensorBoard; train first.")
    return found


COMMANDS = {
    "prepare": (run_prepare, "make masks and table from markings, check them, draw overlays"),
    "train": (run_train, "train, and write logs, figures and a checkpoint after each epoch"),
    "evaluate": (run_evaluate, "COCO figures of the final checkpoint"),
    "predict": (run_predict, "pictures, masks and a table of the detections in a folder"),
    "logs": (run_logs, "draw the curves of runs in one figure"),
}


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Find bars and spiral arms of galaxies.")
    commands = parser.add_subparsers(dest="command", required=True)
    added: dict[str, argparse.ArgumentParser] = {}
    for name, (_, what) in COMMANDS.items():
        added[name] = commands.add_parser(name, help=what, description=what)
        added[name].add_argument("--config", default=DEFAULT_CONFIG, metavar="FILE.json")
    for name in ("train", "evaluate", "predict"):
        added[name].add_argument("--fold", type=int, metavar="N", help="only fold N of k_folds")
    add = added["prepare"].add_argument
    add(
        "--overlays",
        type=int,
        default=50,
        metavar="N",
        help="number of overlays to draw (default 50)",
    )
    add = added["train"].add_argument
    add("--resume", action="store_true", help="continue the last run")
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


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command of the command line."""
    arguments = parse_arguments(argv)
    if arguments.command != "prepare":
        quiet.import_keras()
    run, _ = COMMANDS[arguments.command]
    run(load_settings(arguments.config), arguments)


if __name__ == "__main__":
    main()
