r"""Detect in the images of a folder, be they a million, and write what is found as it is found.

    python scripts/detect_folder.py FOLDER --weights coco --output found.jsonl
    python scripts/detect_folder.py FOLDER --weights leaf.h5 --config config.json --output found \
        --classes healthy sick --format parquet --shard 0/3

Run again, it goes on where it was interrupted. docs/detecting_folders.md tells what is written.
The exit status is 0, or 3 where all is done but some images could not be read.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from pathlib import Path

# The checkout this file lies in, for when the package is not installed.
ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))
# TensorFlow's estimates of what operations cost fill pages; its errors still show.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from mrcnn.config import Config  # noqa: E402
from mrcnn.data.formats.coco import entries_by_id, read_json  # noqa: E402
from mrcnn.detection.result_files import (  # noqa: E402
    FORMATS,
    open_jsonl,
    open_parquet,
    refuse_other_splits,
    shard_ending,
)
from samples.coco import coco  # noqa: E402

SOME_UNREADABLE = 3

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


def load_classes(arguments) -> list[tuple[int, str]] | None:
    """Category id and name of the classes 1 to K; None where the network's number decides."""
    names = arguments.classes
    if names and len(names) == 1 and names[0].lower().endswith(".json"):
        categories = entries_by_id(read_json(names[0]), "categories", names[0])
        return [(number, categories[number]["name"]) for number in sorted(categories)]
    if names:
        return list(enumerate(names, start=1))
    if arguments.weights == "coco" or arguments.config is None:
        return list(COCO_CATEGORIES.items())
    return None


def load_config(arguments, classes) -> Config:
    """The configuration: of --config, else COCO's with as many classes, and the flags on top."""
    if arguments.config:
        config = coco.CocoConfig.from_json(arguments.config)
    else:
        config = coco.CocoConfig()
        config.NUM_CLASSES = 1 + len(classes)
    if config.IMAGE_RESIZE_MODE == "crop":
        config.IMAGE_RESIZE_MODE = "pad64"
        print("IMAGE_RESIZE_MODE is pad64: whole images at the scale of the crops of training")
    if arguments.batch_size is not None:
        config.GPU_COUNT, config.IMAGES_PER_GPU = 1, arguments.batch_size
    if arguments.min_confidence is not None:
        config.DETECTION_MIN_CONFIDENCE = arguments.min_confidence
    config.validate()
    return config


def weights_file(weights: str) -> str:
    """Path of the weights; the released ones of COCO are downloaded if need be."""
    if weights != "coco":
        return weights
    if not os.path.exists(coco.COCO_MODEL_PATH):
        from mrcnn.utils import download_trained_weights

        download_trained_weights(coco.COCO_MODEL_PATH)
    return coco.COCO_MODEL_PATH


def open_results(arguments, settings: dict[str, str]):
    """The results that --output, --format and --shard name, as a context."""
    output, shard = arguments.output, arguments.shard
    if arguments.format == "parquet":
        refuse_other_splits(output, "part", shard)
        return open_parquet(output, settings, f"part{shard_ending(shard)}")
    if os.path.isdir(output) or output.endswith(os.sep):
        output = os.path.join(output, "detections.jsonl")
    stem, ending = os.path.splitext(output)
    refuse_other_splits(os.path.dirname(output) or ".", os.path.basename(stem), shard)
    return open_jsonl(f"{stem}{shard_ending(shard)}{ending}", settings)


def detect(arguments) -> int:
    """Do what the command line says; the exit status."""
    from mrcnn.detection.folder import detect_folder, run_settings
    from mrcnn.model import MaskRCNN

    start = time.monotonic()
    classes = load_classes(arguments)
    config = load_config(arguments, classes)
    if classes is None:
        classes = [(number, str(number)) for number in range(1, config.NUM_CLASSES)]
        print("Without --classes they are called by their numbers")
    weights = weights_file(arguments.weights)
    settings = run_settings(config, arguments.folder, weights, classes)
    with open_results(arguments, settings) as store:
        model = MaskRCNN("inference", config, os.path.dirname(os.path.abspath(arguments.output)))
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


def parse_arguments(argv=None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("folder", metavar="FOLDER", help="folder of images")
    add("--weights", required=True, metavar="FILE", help="a weight file, or coco")
    add("--config", metavar="FILE.json", help="what differs from CocoConfig in samples/coco")
    add(
        "--classes",
        nargs="+",
        metavar="NAME",
        help="names of the classes, without the background, or an annotation file in COCO's "
        "format that has them (default: COCO's)",
    )
    add("--output", required=True, metavar="FILE_OR_FOLDER", help="where to write")
    add("--format", choices=FORMATS, default="jsonl", help="(default jsonl)")
    add("--shard", type=_shard, default=(0, 1), metavar="I/N", help="do part I of N, from 0/N on")
    add("--batch-size", type=int, metavar="N", help="images a batch")
    add("--min-confidence", type=float, metavar="P", help="least score (default 0.7)")
    add("--recursive", action="store_true", help="look into the folders in FOLDER too")
    add("--limit", type=int, metavar="N", help="do no more than N images")
    return parser.parse_args(argv)


def _shard(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not int(match[1]) < int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is none; of 3 there are 0/3, 1/3 and 2/3")
    return int(match[1]), int(match[2])


def main(argv=None) -> int:
    """Parse the command line and do what it says."""
    return detect(parse_arguments(argv))


if __name__ == "__main__":
    sys.exit(main())
