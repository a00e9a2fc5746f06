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

from mrcnn.config import Config  # noqa: E402
from mrcnn.data.formats.coco import entries_by_id  # noqa: E402
from mrcnn.files import read_json  # noqa: E402
from samples.coco import coco  # noqa: E402

# These load Keras, so functions import them: `--help` and most errors come at once.
if TYPE_CHECKING:
    from mrcnn.detection.result_files import Store
    from mrcnn.training.trained import Classes, Trained

SOME_UNREADABLE = 3
FORMATS = ("jsonl", "parquet")
# An output that ends in one of these is a file of JSON lines.
JSONL_ENDINGS = (".jsonl", ".ndjson")
# Files of these kinds are not written, whatever the format.
OTHER_ENDINGS = (".csv", ".json", ".tsv", ".txt", ".xlsx", *JSONL_ENDINGS)


# ---- Classes and configuration -------------------------------------------------------------------


def load_classes(arguments: argparse.Namespace) -> Classes | None:
    """Category id and name of the classes 1 to K; None if they follow from the configuration."""
    names = arguments.classes
    if names and len(names) == 1 and names[0].lower().endswith(".json"):
        categories = entries_by_id(read_json(names[0]), "categories", names[0])
        return [(number, categories[number]["name"]) for number in sorted(categories)]
    return list(enumerate(names, start=1)) if names else None


def load_trained(arguments: argparse.Namespace) -> Trained:
    """Weights, settings and classes that the command line names."""
    from mrcnn.training.trained import open_trained

    classes = load_classes(arguments)
    trained = open_trained(
        weights_file(arguments.weights),
        arguments.config,
        None if classes is None else [name for _, name in classes],
        coco.CocoConfig,
    )
    for remark in trained.remarks:
        print(remark)
    return trained if classes is None else trained._replace(classes=classes)


def config_for(arguments: argparse.Namespace, trained: Config) -> Config:
    """The settings of a training for detection, changed by the flags."""
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
    """Path of the weights; COCO's released ones are downloaded if they are not there."""
    if weights == "coco":
        if not os.path.exists(coco.COCO_MODEL_PATH):
            from mrcnn.utils import download_trained_weights

            download_trained_weights(coco.COCO_MODEL_PATH)
        return coco.COCO_MODEL_PATH
    from mrcnn.training.trained import weights_at

    return weights_at(weights)


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
    trained = load_trained(arguments)
    weights, classes = trained.weights, trained.classes
    config = config_for(arguments, trained.config)

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
