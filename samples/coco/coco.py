"""Train and evaluate on MS COCO, or on any data in COCO's format.

    # COCO as published: DIR/annotations, DIR/train2017, DIR/val2017
    python samples/coco/coco.py train --dataset=DIR --year=2017 --model=imagenet
    python samples/coco/coco.py train --dataset=DIR --year=2017 --model=last     # resume
    python samples/coco/coco.py evaluate --dataset=DIR --year=2017 --model=last --limit=0

    # any file in COCO's format; the number of classes follows
    python samples/coco/coco.py train --annotations=FILE --images=DIR --model=coco
    python samples/coco/coco.py evaluate --annotations=FILE --images=DIR --model=last

samples/coco/README.md says more.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import sys
import urllib.request
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

# This checkout, in case the package is not installed.
ROOT_DIR = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
if ROOT_DIR not in sys.path:
    sys.path.append(ROOT_DIR)

from mrcnn import evaluation, quiet  # noqa: E402
from mrcnn.config import Config, read_settings  # noqa: E402
from mrcnn.data.formats import coco as coco_format  # noqa: E402
from mrcnn.files import read_json, write_text  # noqa: E402
from mrcnn.messages import listed  # noqa: E402
from mrcnn.types import PathLike  # noqa: E402

if TYPE_CHECKING:
    from pycocotools.coco import COCO

    from mrcnn.mask_rcnn import MaskRCNN

logger = logging.getLogger("mrcnn")

COCO_MODEL_PATH = os.path.join(ROOT_DIR, "mask_rcnn_coco.h5")
DEFAULT_LOGS_DIR = os.path.join(ROOT_DIR, "logs")
DEFAULT_DATASET_YEAR = "2014"

# Stages of training: [layers, the epoch it ends with, factor of LEARNING_RATE].
SCHEDULES = {
    "three-stage": [["heads", 40, 1], ["4+", 120, 1], ["all", 160, 0.1]],
    "two-stage": [["heads", 20, 1], ["4+", 100, 1]],
}

COCO_URL = "http://images.cocodataset.org"
# The 5,000 images of val2014 on which results of 2014 are reported, and the 35,000 others.
SPLITS_OF_VAL2014 = {
    "minival": "https://dl.dropboxusercontent.com/s/o43o90bna78omob/instances_minival2014.json.zip?dl=1",
    "valminusminival": "https://dl.dropboxusercontent.com/s/s3tw5zcg7395368/instances_valminusminival2014.json.zip?dl=1",
}


class CocoConfig(Config):
    """Training on MS COCO; this sample adds SCHEDULE, AUGMENTATION and SEED."""

    NAME = "coco"
    IMAGES_PER_GPU = 2
    NUM_CLASSES = 1 + 80
    # [[layers, the epoch it ends with, factor of LEARNING_RATE], ...]
    SCHEDULE = SCHEDULES["three-stage"]
    # "flip", "heavy" or "none"
    AUGMENTATION = "flip"
    SEED = 0


# ---- Data set ------------------------------------------------------------------------------------


class CocoDataset(coco_format.CocoFormatDataset):
    """MS COCO in its published folders."""

    def load_coco(
        self,
        dataset_dir: PathLike,
        subset: str,
        year: str = DEFAULT_DATASET_YEAR,
        class_ids: Sequence[int] | None = None,
        class_map: Any = None,
        return_coco: bool = False,
        auto_download: bool = False,
        skip_invalid: bool = False,
        crowds: coco_format.Crowds = "crowds",
    ) -> COCO | None:
        """Add a subset of COCO: `annotations/instances_<subset><year>.json` and its images.

        A crowd whose run lengths have another size than its image covers the whole image instead,
        with a warning, because the published files contain such crowds.

        Args:
            dataset_dir: folder with `annotations` and one folder of images per subset.
            subset: `train` or `val`, or one of 2014's parts of val, `minival`, `valminusminival`.
            year: 2014 or 2017.
            class_ids: COCO's category ids to take, with the images that show them; None for all.
            class_map: not used.
            return_coco: return pycocotools' `COCO` of the annotation file.
            auto_download: download missing files.
            skip_invalid, crowds: as `CocoFormatDataset.load_annotations` takes them.

        Raises:
            FileNotFoundError, ValueError: as `CocoFormatDataset.load_annotations`.
            OSError: a download failed.
        """
        if auto_download:
            self.auto_download(dataset_dir, subset, year)
        path = annotation_path(dataset_dir, subset, year)
        if not path.is_file():
            raise FileNotFoundError(_what_is_there_instead(path))
        content = read_json(path)
        cover_images_with_misfit_crowds(content, path)
        images = image_folder(dataset_dir, subset, year)
        self.add_annotations(
            content, path, images, "coco", class_ids, skip_invalid=skip_invalid, crowds=crowds
        )
        return coco_format.as_coco(content) if return_coco else None

    def auto_download(self, dataDir: PathLike, dataType: str, dataYear: str) -> None:
        """Download a subset's images and annotations into `dataDir`, unless they are there.

        Raises:
            OSError: a download failed; the message has its address.
        """
        images = image_folder(dataDir, dataType, dataYear)
        if not images.is_dir():
            download_zip(f"{COCO_URL}/zips/{images.name}.zip", dataDir, images.name)
        path = annotation_path(dataDir, dataType, dataYear)
        if path.is_file():
            return
        if dataType in SPLITS_OF_VAL2014:
            download_zip(SPLITS_OF_VAL2014[dataType], path.parent, path.name)
        else:
            name = f"annotations_trainval{dataYear}.zip"
            download_zip(f"{COCO_URL}/annotations/{name}", dataDir, f"annotations/{path.name}")

    def image_reference(self, image_id: int) -> str:
        """The web page of a COCO image with its annotations."""
        info = self.image_info[image_id]
        if info["source"] == "coco":
            return f"http://cocodataset.org/#explore?id={info['id']}"
        return super().image_reference(image_id)

    def annToRLE(self, ann: dict, height: int, width: int) -> dict:
        """An annotation's mask as pycocotools' run lengths."""
        return coco_format.segmentation_to_rle(ann["segmentation"], height, width)

    def annToMask(self, ann: dict, height: int, width: int) -> np.ndarray:
        """An annotation's mask, `[height, width]` uint8."""
        return coco_format.segmentation_to_mask(ann["segmentation"], height, width)


def annotation_path(dataset_dir: PathLike, subset: str, year: str) -> Path:
    """Annotation file of a subset."""
    return Path(dataset_dir) / "annotations" / f"instances_{subset}{year}.json"


def image_folder(dataset_dir: PathLike, subset: str, year: str) -> Path:
    """Folder of a subset's images; minival and valminusminival are parts of val."""
    return Path(dataset_dir) / f"{'val' if subset in SPLITS_OF_VAL2014 else subset}{year}"


def _what_is_there_instead(path: Path) -> str:
    there = sorted(entry.name for entry in path.parent.glob("*.json"))
    found = f"{path.parent} holds {listed(there)}" if there else f"{path.parent} holds no JSON"
    return (
        f"{path} does not exist; {found}. --dataset and --year say where COCO is, --download "
        "downloads it, and --annotations FILE --images DIR read any other layout."
    )


def cover_images_with_misfit_crowds(content: dict, path: Path) -> None:
    """Let crowds whose run lengths have another size than their image cover it, with a warning."""
    images = coco_format.entries_by_id(content, "images", path)
    for annotation in coco_format.entries_by_id(content, "annotations", path).values():
        segmentation, image = annotation.get("segmentation"), images.get(annotation.get("image_id"))
        if not annotation.get("iscrowd") or not isinstance(segmentation, dict) or image is None:
            continue
        size = [image.get("height"), image.get("width")]
        if segmentation.get("size") != size and None not in size:
            logger.warning(
                "%s: crowd %d has run lengths of size %s, its image %d is %s [height, width]; the "
                "whole image counts as the crowd.",
                path,
                annotation["id"],
                segmentation.get("size"),
                image["id"],
                size,
            )
            whole = {"size": size, "counts": [0, size[0] * size[1]]}
            annotation.update(
                segmentation=whole, bbox=[0, 0, size[1], size[0]], area=size[0] * size[1]
            )


# ---- Downloads -----------------------------------------------------------------------------------


def download_zip(url: str, folder: PathLike, wanted: str) -> None:
    """Download an archive and unpack it into a folder; nothing half done appears there.

    Args:
        wanted: a file or folder that the archive must hold.

    Raises:
        OSError: there is no connection, the transfer broke off, or the archive is another one.
    """
    folder = Path(folder)
    archive = folder / (url.split("?")[0].rsplit("/", 1)[-1] + ".part")
    unpacked = folder / f"{archive.name}.unpacked"
    try:
        _download(url, archive)
        print(f"Unpacking {archive.stem} in {folder}", flush=True)
        with zipfile.ZipFile(archive) as file:
            file.extractall(unpacked)
        if not (unpacked / wanted).exists():
            raise OSError(f"the archive holds no {wanted}")
        _move_into(unpacked, folder)
    except (OSError, zipfile.BadZipFile) as error:
        raise OSError(
            f"could not fetch {url}: {error}. Without a network, unpack that archive so that "
            f"{folder / wanted} exists."
        ) from error
    finally:
        archive.unlink(missing_ok=True)
        shutil.rmtree(unpacked, ignore_errors=True)


def _download(url: str, path: Path) -> None:
    """Download a file, with a line that counts megabytes."""
    with urllib.request.urlopen(url, timeout=60) as response:
        total, done = int(response.headers.get("Content-Length") or 0), 0
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            while chunk := response.read(1 << 23):
                file.write(chunk)
                done += len(chunk)
                of_all = f" of {total >> 20}" if total else ""
                print(f"\rDownloading {url}: {done >> 20}{of_all} MB", end="", flush=True)
    print()
    if done < total:
        raise OSError(f"the connection ended after {done} of {total} bytes")


def _move_into(source: Path, folder: Path) -> None:
    """Move the content of a folder into another; a folder that is new there appears as a whole."""
    for path in source.iterdir():
        target = folder / path.name
        if not target.exists():
            os.replace(path, target)
        elif path.is_dir():
            _move_into(path, target)


# ---- Evaluation ----------------------------------------------------------------------------------


def build_coco_results(
    dataset: CocoDataset,
    image_ids: Sequence[int],
    rois: np.ndarray | None,
    class_ids: np.ndarray,
    scores: np.ndarray,
    masks: np.ndarray,
) -> list[dict]:
    """Detections in COCO's results format.

    Args:
        image_ids: COCO's ids of the images that all these detections belong to, usually one.
        rois: `[N, (y1, x1, y2, x2)]` pixels, or None for no detection; class_ids: `[N]`, the data
            set's; scores: `[N]`; masks: `[H, W, N]`.

    Returns:
        One dict per detection with COCO's ids, ready for JSON and for pycocotools' `loadRes`.
    """
    if rois is None:
        return []
    detection = {"rois": rois, "class_ids": class_ids, "scores": scores, "masks": masks}
    return [
        {**result, "category_id": dataset.get_source_class_id(result["category_id"], "coco")}
        for image_id in image_ids
        for result in evaluation.coco_results(int(image_id), detection)
    ]


def evaluate_coco(
    model: MaskRCNN,
    dataset: CocoDataset,
    coco: COCO,
    eval_type: str = "bbox",
    limit: int = 0,
    image_ids: Sequence[int] | None = None,
) -> dict[str, float]:
    """Detect in images of COCO and print the twelve figures of boxes or of masks.

    Args:
        model: MaskRCNN in inference mode; dataset: prepared.
        coco: pycocotools' `COCO` of the annotation file; `load_coco(return_coco=True)` returns it.
        eval_type: "bbox" or "segm".
        limit: number of images to use, 0 for all.
        image_ids: ids in `dataset`, None for all.

    Returns:
        The figures by name, see `mrcnn.evaluation.COCO_FIGURES`.
    """
    results, scope = detect(model, dataset, limit, image_ids)
    figures = evaluation.coco_figures(evaluation.run_coco_eval(coco, results, eval_type, **scope))
    print(f"\n{eval_type}", evaluation.summary(figures), sep="\n")
    return figures


def detect(
    model: MaskRCNN,
    dataset: CocoDataset,
    limit: int = 0,
    image_ids: Sequence[int] | None = None,
) -> tuple[list[dict], dict]:
    """Detections as COCO's results, and the images and categories that they cover."""
    image_ids = evaluation.chosen_images(dataset, image_ids, limit)
    results = evaluation.detect_results(model, dataset, image_ids, progress=_print_progress)
    scope = evaluation.source_scope(dataset, image_ids)
    return evaluation.with_source_ids(dataset, results), scope


def _print_progress(done: int, total: int) -> None:
    if done == total or done % 10 == 0:
        end = "\n" if done == total else ""
        print(f"\rDetecting: {done} of {total} images", end=end, flush=True)


def evaluate(
    model: MaskRCNN,
    dataset: CocoDataset,
    coco: COCO,
    limit: int = 0,
    submission: PathLike | None = None,
) -> dict[str, dict[str, float]]:
    """Print the figures of boxes and masks and the AP of every class; write a submission.

    Args:
        model, dataset, coco, limit: as `evaluate_coco` takes them.
        submission: JSON file to write the results to, in COCO's format.

    Returns:
        `{"bbox": figures, "segm": figures}`.
    """
    results, scope = detect(model, dataset, limit)
    if submission:
        write_results(submission, results)
        print(f"{len(results)} detections are in {submission}")
    figures, by_class = {}, {}
    for iou_type in evaluation.IOU_TYPES:
        coco_eval = evaluation.run_coco_eval(coco, results, iou_type, **scope)
        figures[iou_type] = evaluation.coco_figures(coco_eval)
        by_class[iou_type] = evaluation.ap_by_class(coco_eval)
        print(f"\n{iou_type}", evaluation.summary(figures[iou_type]), sep="\n")
    print("\n" + table_by_class(by_class))
    return figures


def table_by_class(by_class: dict[str, dict[str, float]]) -> str:
    """AP of boxes and masks, one line per class; a dash for a class without objects.

    Args:
        by_class: `{"bbox": {name: AP}, "segm": {name: AP}}`.
    """
    lines = [f"{'AP by class':<24} {'bbox':>6} {'segm':>6}"]
    for name in by_class["bbox"]:
        values = (by_class[iou_type][name] for iou_type in ("bbox", "segm"))
        lines.append(f"{name:<24}" + "".join(f" {v:6.3f}" if v >= 0 else "      -" for v in values))
    return "\n".join(lines)


def write_results(path: PathLike, results: list[dict]) -> None:
    """Write results to a JSON file, which replaces an older one only when it is complete."""
    write_text(path, json.dumps(results))


# ---- Training ------------------------------------------------------------------------------------


def flip() -> Any:
    """Mirror images left to right with probability 0.5."""
    from imgaug import augmenters as iaa

    return iaa.Fliplr(0.5)


def heavy() -> Any:
    """Flips, crops, blur, contrast, brightness and affine transforms, in random order."""
    from imgaug import augmenters as iaa

    return iaa.Sequential(
        [
            iaa.Fliplr(0.5),
            iaa.Crop(percent=(0, 0.1)),
            iaa.Sometimes(0.5, iaa.GaussianBlur(sigma=(0, 0.5))),
            iaa.LinearContrast((0.75, 1.5)),
            iaa.Multiply((0.8, 1.2)),
            iaa.Affine(
                scale={"x": (0.8, 1.2), "y": (0.8, 1.2)},
                translate_percent={"x": (-0.2, 0.2), "y": (-0.2, 0.2)},
                rotate=(-10, 10),
                shear=(-2, 2),
            ),
        ],
        random_order=True,
    )


AUGMENTATIONS: dict[str, Callable[[], Any]] = {"flip": flip, "heavy": heavy, "none": lambda: None}


def train(
    model: MaskRCNN,
    dataset_train: CocoDataset,
    dataset_val: CocoDataset | None,
    custom_callbacks: Sequence[Any] | None = None,
    epochs: int | None = None,
) -> None:
    """Train stage by stage; stages that a resumed run has completed are skipped.

    Args:
        model: MaskRCNN in training mode; its Config is a CocoConfig.
        dataset_train, dataset_val: prepared; there is no validation if the second is None.
        epochs: stop after this epoch even if SCHEDULE continues.
    """
    config = model.config
    for layers, _, _ in config.SCHEDULE:
        model.set_trainable(layers, verbose=0)  # an unknown name is an error now, not in hours
    end = min(config.SCHEDULE[-1][1], epochs or config.SCHEDULE[-1][1])
    if end <= model.epoch:
        print(
            f"Nothing is left to train: {model.epoch} epochs are done, and SCHEDULE and --epochs "
            f"end with epoch {end}."
        )
    for layers, last_epoch, factor in config.SCHEDULE:
        last_epoch = min(last_epoch, epochs or last_epoch)
        if last_epoch <= model.epoch:
            continue
        print(f"Train {layers} until epoch {last_epoch}")
        model.train(
            dataset_train,
            dataset_val,
            learning_rate=config.LEARNING_RATE * factor,
            epochs=last_epoch,
            layers=layers,
            augmentation=AUGMENTATIONS[config.AUGMENTATION](),
            custom_callbacks=custom_callbacks,
            seed=config.SEED,
        )


# ---- Command line --------------------------------------------------------------------------------


def load_split(
    arguments: argparse.Namespace, purpose: str, with_coco: bool = False
) -> tuple[CocoDataset | None, COCO | None]:
    """The prepared data set of a purpose; None if there is none to validate on.

    Args:
        purpose: "train", "validate" (while training) or "evaluate".

    Returns:
        The data set, and with `with_coco` the annotation file as pycocotools' `COCO`, else None.
    """
    dataset, coco = CocoDataset(), None
    if arguments.dataset:
        for subset in subsets(arguments, purpose):
            coco = dataset.load_coco(
                arguments.dataset,
                subset,
                arguments.year,
                return_coco=with_coco,
                auto_download=arguments.download,
                skip_invalid=arguments.skip_invalid,
                crowds=arguments.crowds,
            )
    else:
        annotations, images = arguments.annotations, arguments.images
        if purpose == "validate":
            annotations, images = arguments.val_annotations, arguments.val_images or images
        if annotations is None:
            return None, None
        content = dataset.load_annotations(
            annotations, images, skip_invalid=arguments.skip_invalid, crowds=arguments.crowds
        )
        coco = coco_format.as_coco(content) if with_coco else None
    dataset.prepare()
    files = dict.fromkeys(str(info["annotation_file"]) for info in dataset.image_info)
    print(f"To {purpose}: {dataset.num_images} images of {', '.join(files)}")
    return dataset, coco


def subsets(arguments: argparse.Namespace, purpose: str) -> list[str]:
    """Names of COCO's subsets for a purpose.

    For 2014 most of val is used for training and the rest, minival, for evaluation. Without the
    files of these two, the split is train and val, as in 2017.
    """
    is_split = arguments.year == "2014" and (
        arguments.download or annotation_path(arguments.dataset, "minival", "2014").is_file()
    )
    if purpose == "train":
        return ["train", "valminusminival"] if is_split else ["train"]
    return ["minival"] if is_split else ["val"]


def load_config(arguments: argparse.Namespace) -> CocoConfig:
    """The configuration: a JSON file if there is one, changed by the command line's flags.

    The file is --config, else the config.json beside the weights: of the last run for --model=last
    and, for `evaluate`, of any weight file.
    """
    path = arguments.config
    if path is None and arguments.model == "last":
        path = settings_of_last_run(arguments.logs)
    elif path is None and arguments.command == "evaluate":
        path = settings_beside(arguments.model)
    config = CocoConfig.from_json(path) if path else CocoConfig()
    if path:
        print(f"Settings are those of {path}")
    flags = {
        "BACKBONE": arguments.backbone,
        "STEPS_PER_EPOCH": arguments.steps,
        "SEED": arguments.seed,
        "AUGMENTATION": arguments.augmentation,
        "SCHEDULE": SCHEDULES.get(arguments.schedule),
    }
    if arguments.batch_size is not None:
        flags |= {"IMAGES_PER_GPU": arguments.batch_size, "GPU_COUNT": 1}
    if arguments.steps is not None:
        flags["VALIDATION_STEPS"] = min(config.VALIDATION_STEPS, arguments.steps)
    for name, value in flags.items():
        if value is not None:
            setattr(config, name, value)
    if arguments.command == "train" and arguments.model == "random":
        chosen = set(read_settings(path) if path else ())
        train_from_scratch(config, chosen | ({"SCHEDULE"} if arguments.schedule else set()))
    check_settings(config, path)
    return config


def settings_of_last_run(logs: PathLike) -> Path | None:
    """The config.json beside the last checkpoint of the last run, or None."""
    from mrcnn.training import find_last

    return settings_beside(find_last(logs, CocoConfig.NAME))


def settings_beside(weights: PathLike) -> Path | None:
    """The config.json in the folder of a weight file, or None."""
    path = Path(weights).with_name("config.json")
    return path if Path(weights).is_file() and path.is_file() else None


def train_from_scratch(config: CocoConfig, chosen: set[str]) -> None:
    """Let all layers train from the first epoch on, and batch normalisation gather statistics.

    Frozen layers with random weights would stay random, and so would their statistics.

    Args:
        chosen: names of settings that the user chose; they stay, and what follows is printed.
    """
    if "TRAIN_BN" not in chosen and config.TRAIN_BN is False and not config.GRADIENT_CHECKPOINTING:
        config.TRAIN_BN = None
    if "SCHEDULE" not in chosen:
        config.SCHEDULE = [["all", epoch, factor] for _, epoch, factor in config.SCHEDULE]
    if config.TRAIN_BN is False:
        print("Random weights with TRAIN_BN False: batch statistics stay at mean 0, variance 1.")
    else:
        print(f"Random weights: TRAIN_BN is {config.TRAIN_BN}, for statistics of the data.")
    frozen = [stage for stage in config.SCHEDULE if stage[:1] != ["all"]]
    if frozen:
        print(f"Random weights with the stages {frozen}: layers they do not train stay random.")
    else:
        print("Random weights: all layers train from the first epoch on.")


def check_settings(config: CocoConfig, path: PathLike | None) -> None:
    """Check SCHEDULE, AUGMENTATION and SEED, which `Config.validate` does not know.

    Args:
        path: file of the settings, for messages.

    Raises:
        ValueError: one of them cannot be used.
    """
    where = f"{path}: " if path else ""
    if config.AUGMENTATION not in AUGMENTATIONS:
        raise ValueError(
            f"{where}AUGMENTATION is {config.AUGMENTATION!r}; it must be one of "
            f"{', '.join(AUGMENTATIONS)}."
        )
    if type(config.SEED) is not int or config.SEED < 0:
        raise ValueError(f"{where}SEED is {config.SEED!r}; it must be a whole number from 0.")
    if not isinstance(config.SCHEDULE, list) or not config.SCHEDULE:
        raise ValueError(f"{where}SCHEDULE is {config.SCHEDULE!r}; it must be a list of stages.")
    for stage in config.SCHEDULE:
        if not _is_stage(stage):
            raise ValueError(
                f"{where}SCHEDULE has the stage {stage!r}; a stage is [layers, the epoch it ends "
                'with, factor of LEARNING_RATE], such as ["heads", 40, 1].'
            )


def _is_stage(stage: Any) -> bool:
    if not isinstance(stage, (list, tuple)) or len(stage) != 3:
        return False
    layers, epoch, factor = stage
    return isinstance(layers, str) and type(epoch) is int and type(factor) in (int, float)


def follow_classes(config: CocoConfig, dataset: CocoDataset) -> None:
    """Set NUM_CLASSES to the data set's, and print it if it changes."""
    if config.NUM_CLASSES != dataset.num_classes:
        print(
            f"NUM_CLASSES is {dataset.num_classes}, because the data has "
            f"{dataset.num_classes - 1} classes (it was {config.NUM_CLASSES})"
        )
        config.NUM_CLASSES = dataset.num_classes


def load_weights(model: MaskRCNN, weights: PathLike) -> None:
    """Load what `--model` names: `coco`, `imagenet`, `last`, `random` or the path of a file."""
    from mrcnn.weights import load_start_weights

    load_start_weights(model, weights, COCO_MODEL_PATH)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Train or evaluate Mask R-CNN on MS COCO, or on data in COCO's format."
    )
    add = parser.add_argument
    add("command", choices=("train", "evaluate"))
    add("--model", required=True, help="weights: imagenet, coco, last, random, or a weight file")
    add("--logs", default=DEFAULT_LOGS_DIR, metavar="DIR", help="folder of training runs")

    add = parser.add_argument_group("data").add_argument
    add(
        "--dataset",
        metavar="DIR",
        help="folder of COCO, with annotations and one folder per subset",
    )
    add("--year", default=DEFAULT_DATASET_YEAR, choices=("2014", "2017"), help="(default 2014)")
    add(
        "--download",
        type=_true_or_false,
        nargs="?",
        const=True,
        default=False,
        metavar="True|False",
        help="download what --dataset lacks (26 GB)",
    )
    add("--annotations", metavar="FILE", help="an annotation file, instead of --dataset")
    add("--images", metavar="DIR", help="folder of its images")
    add("--val-annotations", metavar="FILE", help="annotation file to validate on while training")
    add("--val-images", metavar="DIR", help="folder of its images (default: that of --images)")
    add("--skip-invalid", action="store_true", help="leave out entries that cannot be used")
    add(
        "--crowds",
        choices=("crowds", "objects"),
        default="crowds",
        help="iscrowd 1 means areas to ignore (default), or objects, as in CVAT's brush masks",
    )

    add = parser.add_argument_group("settings").add_argument
    add(
        "--config",
        metavar="FILE.json",
        help="settings that differ from CocoConfig; flags override it",
    )
    add("--backbone", help="BACKBONE: resnet50 or resnet101")
    add("--batch-size", type=int, metavar="N", help="images per batch")
    add("--seed", type=int, metavar="N", help="seed of the random numbers (default 0)")

    add = parser.add_argument_group("train").add_argument
    add("--schedule", choices=tuple(SCHEDULES), help="stages (default: the configuration's)")
    add("--augmentation", choices=tuple(AUGMENTATIONS), help="(default flip)")
    add("--steps", type=int, metavar="N", help="batches per epoch, and at most in validation")
    add("--epochs", type=int, metavar="N", help="stop after epoch N even if the schedule continues")
    add("--eval-every", type=int, default=0, metavar="N", help="COCO figures every N epochs")
    add("--eval-limit", type=int, default=0, metavar="N", help="on N images (default: all)")

    add = parser.add_argument_group("evaluate").add_argument
    add("--limit", type=int, default=500, metavar="N", help="images, 0 for all (default 500)")
    add("--submission", metavar="OUT.json", help="write the results in COCO's format")
    arguments = parser.parse_args(argv)
    if bool(arguments.dataset) == bool(arguments.annotations):
        parser.error("one of --dataset DIR and --annotations FILE is required")
    if arguments.annotations and not arguments.images:
        parser.error("--annotations needs --images DIR, the folder of its images")
    if arguments.eval_every and arguments.annotations and not arguments.val_annotations:
        parser.error("--eval-every needs --val-annotations FILE to evaluate on")
    return arguments


def _true_or_false(word: str) -> bool:
    if word.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{word!r} is neither True nor False")
    return word.lower() == "true"


def run_training(arguments: argparse.Namespace) -> None:
    """The command `train`."""
    import keras

    from mrcnn.model import MaskRCNN
    from mrcnn.training.callbacks import CocoEvaluation

    config = load_config(arguments)
    dataset_train, _ = load_split(arguments, "train")
    dataset_val, coco_val = load_split(arguments, "validate", with_coco=arguments.eval_every > 0)
    if dataset_val is not None and dataset_val.class_names != dataset_train.class_names:
        raise ValueError(
            f"the classes to validate on are {dataset_val.class_names[1:]}, those to train on "
            f"{dataset_train.class_names[1:]}; they must be the same, in the same order."
        )
    follow_classes(config, dataset_train)
    keras.utils.set_random_seed(config.SEED)
    model = MaskRCNN("training", config, arguments.logs)
    config.display()
    load_weights(model, arguments.model)
    config.to_json(os.path.join(model.log_dir, "config.json"))
    callbacks = []
    if arguments.eval_every:
        callbacks.append(
            CocoEvaluation(
                model,
                dataset_val,
                every=arguments.eval_every,
                limit=arguments.eval_limit,
                coco_gt=coco_val,
            )
        )
    train(model, dataset_train, dataset_val, callbacks, arguments.epochs)


def run_evaluation(arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """The command `evaluate`."""
    from mrcnn.model import MaskRCNN
    from mrcnn.training.callbacks import detection_config

    config = detection_config(load_config(arguments))
    if arguments.batch_size is not None:
        config.IMAGES_PER_GPU = arguments.batch_size
    dataset, coco = load_split(arguments, "evaluate", with_coco=True)
    follow_classes(config, dataset)
    model = MaskRCNN("inference", config, arguments.logs)
    load_weights(model, arguments.model)
    return evaluate(model, dataset, coco, arguments.limit, arguments.submission)


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command of the command line."""
    arguments = parse_arguments(argv)
    quiet.import_keras()
    {"train": run_training, "evaluate": run_evaluation}[arguments.command](arguments)


if __name__ == "__main__":
    main()
