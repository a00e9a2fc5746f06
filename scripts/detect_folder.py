r"""Detect in the images of a folder of any size; each result is written as soon as it is known.

    python scripts/detect_folder.py FOLDER --weights coco --output found.jsonl
    python scripts/detect_folder.py FOLDER --weights leaf.h5 --config config.json --output found \
        --classes healthy sick --format parquet --shard 0/3

Started again, it continues where it was interrupted. docs/detecting_folders.md describes the files.
The exit status is 0, or 3 if all is done but some images could not be read.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

# This checkout, in case the package is not installed.
ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))
# TensorFlow prints pages of cost estimates of operations; its errors are still shown.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from mrcnn.config import Config, read_settings  # noqa: E402
from mrcnn.data.formats.coco import entries_by_id  # noqa: E402
from mrcnn.files import read_json  # noqa: E402
from mrcnn.messages import listed  # noqa: E402
from samples.coco import coco  # noqa: E402

# `mrcnn.detection` loads Keras, so functions import it: `--help` and most errors come at once.
if TYPE_CHECKING:
    from mrcnn.detection.result_files import Store

SOME_UNREADABLE = 3
FORMATS = ("jsonl", "parquet")
# An output that ends in one of these is a file of JSON lines.
JSONL_ENDINGS = (".jsonl", ".ndjson")
# Files of these kinds are not written, whatever the format.
OTHER_ENDINGS = (".csv", ".json", ".tsv", ".txt", ".xlsx", *JSONL_ENDINGS)

# COCO's categories by their ids, which have gaps.
# fmt: off
COCO_CATEGORIES = {
    1: "person", 2: "bicycle", 3: "car", 4: "motorcycle", 5: "airplane", 6: "bus", 7: "train",
    8: "truck", 9: "boat", 10: "traffic light", 11: "fire hydrant", 13: "stop sign",
    14: "parking meter", 15: "bench", 16: "bird", 17: "cat", 18: "dog", 19: "horse", 20: "sheep",
    21: "cow", 22: "elephant", 23: "bear", 24: "zebra", 25: "giraffe", 27: "backpack",
    28: "umbrella", 31: "handbag", 32: "tie", 33: "suitcase", 34: "frisbee", 35: "skis",
    36: "snowboard", 37: "sports ball", 38: "kite", 39: "baseball bat", 40: "baseball glove",
    41: "skateboard", 42: "surfboard", 43: "tennis racket", 44: "bottle", 46: "wine glass",
    47: "cup", 48: "fork", 49: "knife", 50: "spoon", 51: "bowl", 52: "banana", 53: "apple",
    54: "sandwich", 55: "orange", 56: "broccoli", 57: "carrot", 58: "hot dog", 59: "pizza",
    60: "donut", 61: "cake", 62: "chair", 63: "couch", 64: "potted plant", 65: "bed",
    67: "dining table", 70: "toilet", 72: "tv", 73: "laptop", 74: "mouse", 75: "remote",
    76: "keyboard", 77: "cell phone", 78: "microwave", 79: "oven", 80: "toaster", 81: "sink",
    82: "refrigerator", 84: "book", 85: "clock", 86: "vase", 87: "scissors", 88: "teddy bear",
    89: "hair drier", 90: "toothbrush",
}
# fmt: on


# ---- Classes and configuration -------------------------------------------------------------------


def load_classes(arguments: argparse.Namespace) -> list[tuple[int, str]] | None:
    """Category id and name of the classes 1 to K; None if they follow from the configuration."""
    names = arguments.classes
    if names and len(names) == 1 and names[0].lower().endswith(".json"):
        categories = entries_by_id(read_json(names[0]), "categories", names[0])
        return [(number, categories[number]["name"]) for number in sorted(categories)]
    if names:
        return list(enumerate(names, start=1))
    if settings_file(arguments) is None:
        return list(COCO_CATEGORIES.items())
    return None


def classes_of(config: Config) -> list[tuple[int, str]]:
    """Category id and name of the classes 1 to K of a configuration.

    The names are those of its CLASS_NAMES, with or without the background; else those of COCO if
    NAME and NUM_CLASSES are COCO's; else numbers.
    """
    count = config.NUM_CLASSES - 1
    names = getattr(config, "CLASS_NAMES", None)
    if isinstance(names, (list, tuple)) and len(names) in (count, count + 1):
        return list(enumerate(map(str, names[len(names) - count :]), start=1))
    if config.NAME == "coco" and count == len(COCO_CATEGORIES):
        return list(COCO_CATEGORIES.items())
    print("Without --classes the classes are called by their numbers")
    return [(number, str(number)) for number in range(1, count + 1)]


def settings_file(arguments: argparse.Namespace) -> str | None:
    """Path of --config, else of the config.json of a training beside the weights, else None."""
    if arguments.config or arguments.weights == "coco":
        return arguments.config
    path = os.path.join(os.path.dirname(arguments.weights), "config.json")
    # Other tools have files of this name too.
    return path if os.path.isfile(path) and "NUM_CLASSES" in read_settings(path) else None


def read_config(path: str) -> Config:
    """The configuration of a file.

    The file of a training has nearly all settings, and those that the user's Config class added.
    In a file of differences an unknown name is an error.
    """
    known, values = coco.CocoConfig().names(), read_settings(path)
    kind: type[Config] = coco.CocoConfig
    own = [name for name in values if name not in known and name.isupper()]
    if own and 2 * len(values.keys() & known) > len(known):
        print(f"{path} has settings that detection does not use: {listed(own)}")
        kind = type("ConfigOfFile", (coco.CocoConfig,), dict.fromkeys(own))
    return kind.from_json(path)


def load_config(arguments: argparse.Namespace, classes: Sequence | None) -> Config:
    """The configuration of `settings_file`, else COCO's for these classes, changed by the flags."""
    path = settings_file(arguments)
    if path:
        print(f"Settings are those of {path}")
        trained = read_config(path)
    else:
        trained = coco.CocoConfig()
        trained.NUM_CLASSES = 1 + len(classes or COCO_CATEGORIES)
    config = trained.for_detection()
    if config.IMAGE_RESIZE_MODE != trained.IMAGE_RESIZE_MODE:
        print(
            f"IMAGE_RESIZE_MODE is {config.IMAGE_RESIZE_MODE}: whole images at the scale of the "
            "crops of training"
        )
    batch_size = arguments.batch_size
    config.IMAGES_PER_GPU = trained.BATCH_SIZE if batch_size is None else batch_size
    if arguments.min_confidence is not None:
        config.DETECTION_MIN_CONFIDENCE = arguments.min_confidence
    config.validate()
    return config


def weights_file(weights: str) -> str:
    """Path of the weights; COCO's released ones are downloaded if they are not there.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if weights != "coco":
        if not os.path.isfile(weights):
            raise FileNotFoundError(f"there is no weight file {weights}; give a path, or coco.")
        return weights
    if not os.path.exists(coco.COCO_MODEL_PATH):
        from mrcnn.utils import download_trained_weights

        download_trained_weights(coco.COCO_MODEL_PATH)
    return coco.COCO_MODEL_PATH


# ---- Output --------------------------------------------------------------------------------------


def output_path(output: str, format: str) -> str:
    """The file of JSON lines, or the folder of parquet files, that --output names.

    Raises:
        ValueError: its ending is that of another kind of file.
    """
    ending = os.path.splitext(output)[1].lower()
    if format == "parquet":
        if os.path.isfile(output) or ending in OTHER_ENDINGS:
            raise ValueError(
                f"--output is {output}; with --format parquet it is a folder, such as found."
            )
        return output
    if os.path.isdir(output) or output.endswith(os.sep):
        return os.path.join(output, "detections.jsonl")
    if ending not in ("", *JSONL_ENDINGS):
        raise ValueError(
            f"--output is {output}; JSON lines are written to a file that ends in .jsonl or to a "
            "folder that is there; with --format parquet they are a table in a folder."
        )
    return output


def open_results(
    output: str, format: str, shard: tuple[int, int], settings: dict[str, str]
) -> AbstractContextManager[Store]:
    """Open the results at `output_path`, or this shard's part of them."""
    from mrcnn.detection.result_files import (
        open_jsonl,
        open_parquet,
        refuse_other_splits,
        shard_ending,
    )

    if format == "parquet":
        refuse_other_splits(output, "part", shard)
        return open_parquet(output, settings, f"part{shard_ending(shard)}")
    stem, ending = os.path.splitext(output)
    refuse_other_splits(os.path.dirname(output) or ".", os.path.basename(stem), shard)
    return open_jsonl(f"{stem}{shard_ending(shard)}{ending}", settings)


# ---- Command line --------------------------------------------------------------------------------


def detect(arguments: argparse.Namespace) -> int:
    """Do what the command line says; returns the exit status."""
    start = time.monotonic()
    output = output_path(arguments.output, arguments.format)
    weights = weights_file(arguments.weights)
    classes = load_classes(arguments)
    config = load_config(arguments, classes)
    if classes is None:
        classes = classes_of(config)

    from mrcnn.detection.folder import detect_folder, run_settings
    from mrcnn.detection.image_names import check_folder
    from mrcnn.model import MaskRCNN

    check_folder(arguments.folder, arguments.recursive)
    settings = run_settings(config, arguments.folder, weights, classes)
    with open_results(output, arguments.format, arguments.shard, settings) as store:
        model = MaskRCNN("inference", config, os.path.dirname(os.path.abspath(output)))
        model.load_weights(weights)
        counts = detect_folder(
            model,
            arguments.folder,
            store,
            classes,
            recursive=arguments.recursive,
            shard=arguments.shard,
            limit=arguments.limit,
        )
    print(
        f"{arguments.output}: {counts.images} images, {counts.detections} detections, "
        f"{counts.failures} images that could not be read, {time.monotonic() - start:.0f} s"
    )
    return SOME_UNREADABLE if counts.failures + store.failed else 0


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    add = parser.add_argument
    add("folder", metavar="FOLDER", help="folder of images")
    add("--weights", required=True, metavar="FILE", help="a weight file, or coco")
    add(
        "--config",
        metavar="FILE.json",
        help="settings that differ from CocoConfig in samples/coco (default: the config.json that "
        "a training run left beside the weights)",
    )
    add(
        "--classes",
        nargs="+",
        metavar="NAME",
        help="names of the classes without the background, or an annotation file in COCO's "
        "format that has them (default: COCO's)",
    )
    add("--output", required=True, metavar="FILE_OR_FOLDER", help="file (.jsonl) or folder")
    add("--format", choices=FORMATS, default="jsonl", help="(default jsonl)")
    add("--shard", type=_shard, default=(0, 1), metavar="I/N", help="do part I of N, from 0/N on")
    add("--batch-size", type=int, metavar="N", help="images per batch")
    add("--min-confidence", type=float, metavar="P", help="lowest score (default 0.7)")
    add("--recursive", action="store_true", help="also look into the folders in FOLDER")
    add("--limit", type=int, metavar="N", help="do at most N images")
    return parser.parse_args(argv)


def _shard(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not int(match[1]) < int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is no shard; of 3 there are 0/3, 1/3 and 2/3")
    return int(match[1]), int(match[2])


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and do what it says."""
    return detect(parse_arguments(argv))


if __name__ == "__main__":
    sys.exit(main())
