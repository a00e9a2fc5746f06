"""Find balloons in photographs, and turn everything else grey: a small data set of one class.

Data: DIR/train and DIR/val, each with images and their annotations, `via_region_data.json` of the
VGG Image Annotator. samples/balloon/README.md says where to get it and how to use your own.

    # from the COCO weights; or --weights=imagenet, last, or a file
    python samples/balloon/balloon.py train --dataset=DIR --weights=coco
    # COCO AP of boxes and masks
    python samples/balloon/balloon.py evaluate --dataset=DIR --weights=last
    # grey except for the balloons: splash_<time>.png or .avi
    python samples/balloon/balloon.py splash --weights=last --image=PATH_OR_URL
    python samples/balloon/balloon.py splash --weights=last --video=PATH_OR_URL
"""

from __future__ import annotations

import argparse
import datetime
import http.client
import os
import sys
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

# This checkout, in case the package is not installed.
ROOT_DIR = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
if ROOT_DIR not in sys.path:
    sys.path.append(ROOT_DIR)

from mrcnn import quiet  # noqa: E402
from mrcnn.config import Config  # noqa: E402
from mrcnn.data.dataset import read_image  # noqa: E402
from mrcnn.data.formats.via import ViaDataset  # noqa: E402
from mrcnn.data.videos import (  # noqa: E402
    VIDEO_CODECS,
    batches,
    is_url,
    open_video,
    video_writer,
)
from mrcnn.files import written_beside  # noqa: E402
from mrcnn.types import PathLike  # noqa: E402

if TYPE_CHECKING:
    from mrcnn.mask_rcnn import MaskRCNN

COCO_WEIGHTS_PATH = os.path.join(ROOT_DIR, "mask_rcnn_coco.h5")
DEFAULT_LOGS_DIR = os.path.join(ROOT_DIR, "logs")

ANNOTATIONS = "via_region_data.json"
# Codecs that OpenCV's own builds can write.
IMAGE_ENDINGS = (".png", ".jpg", ".jpeg")

# The parsed command line, for `train(model)`; None if this file is imported.
args: argparse.Namespace | None = None


class BalloonConfig(Config):
    """Training: photographs of any size, scaled and padded to 1024x1024."""

    NAME = "balloon"
    IMAGES_PER_GPU = 2
    NUM_CLASSES = 1 + 1
    STEPS_PER_EPOCH = 100
    DETECTION_MIN_CONFIDENCE = 0.9


class BalloonInferenceConfig(BalloonConfig):
    """Detection, one image at a time."""

    GPU_COUNT = 1
    IMAGES_PER_GPU = 1


class BalloonEvaluationConfig(BalloonInferenceConfig):
    """Evaluation: average precision ranks detections by score, so all are kept."""

    DETECTION_MIN_CONFIDENCE = 0


# ---- Data set ------------------------------------------------------------------------------------


class BalloonDataset(ViaDataset):
    """Photographs of balloons, one class."""

    def load_balloon(self, dataset_dir: PathLike, subset: str, skip_invalid: bool = False) -> None:
        """Register the images of a subset that have regions.

        Args:
            dataset_dir: holds one folder per subset, with images and `via_region_data.json`.
            subset: `train`, `val`, or the name of another folder.
            skip_invalid: leave out regions and images that cannot be used, and log how many.

        Raises:
            FileNotFoundError: there is no such folder, or it lacks the annotations or an image.
            ValueError: the annotations cannot be used, see `ViaDataset.load_via`.
        """
        folder = Path(dataset_dir) / subset
        if not (folder / ANNOTATIONS).is_file():
            raise FileNotFoundError(
                f"{folder / ANNOTATIONS} does not exist; a data set has the folders train and val, "
                f"each with images and {ANNOTATIONS}. README.md beside this script says more."
            )
        self.load_via(folder / ANNOTATIONS, folder, source="balloon", skip_invalid=skip_invalid)

    def image_reference(self, image_id: int) -> str:
        """Path of an image."""
        info = self.image_info[image_id]
        if info["source"] == "balloon":
            return info["path"]
        return super().image_reference(image_id)


def load_dataset(dataset_dir: PathLike, subset: str) -> BalloonDataset:
    """The prepared BalloonDataset of a subset; `--skip-invalid` of the command line counts."""
    dataset = BalloonDataset()
    dataset.load_balloon(dataset_dir, subset, getattr(args, "skip_invalid", False))
    dataset.prepare()
    return dataset


# ---- Training and evaluation ---------------------------------------------------------------------


def train(model: MaskRCNN, dataset_dir: PathLike | None = None, epochs: int = 30) -> None:
    """Train the heads on `train` and validate on `val`.

    Args:
        model: MaskRCNN in training mode.
        dataset_dir: as `BalloonDataset.load_balloon` takes it; None for `--dataset` of the command
            line, the module's `args`.
        epochs: total number of epochs, including those of a resumed run.

    Raises:
        ValueError: neither `dataset_dir` nor the command line gives a folder.
    """
    dataset_dir = dataset_dir or getattr(args, "dataset", None)
    if dataset_dir is None:
        raise ValueError("dataset_dir is None; give the folder that holds train and val.")
    done = getattr(model, "epoch", 0)
    if done >= epochs:
        print(f"Nothing is left to train: {done} epochs are done, and training ends with {epochs}.")
        return
    dataset_train = load_dataset(dataset_dir, "train")
    dataset_val = load_dataset(dataset_dir, "val")
    # Only the heads: the data set is small, and COCO weights already know photographs.
    print(f"Train heads, until epoch {epochs}")
    model.train(
        dataset_train,
        dataset_val,
        learning_rate=model.config.LEARNING_RATE,
        epochs=epochs,
        layers="heads",
    )


def evaluate(model: MaskRCNN, dataset_dir: PathLike, subset: str = "val") -> dict:
    """Print COCO's figures of boxes and masks on a subset.

    Args:
        model: MaskRCNN in inference mode.
        dataset_dir, subset: as `BalloonDataset.load_balloon` takes them.

    Returns:
        The figures, as `mrcnn.evaluation.evaluate` does.
    """
    from mrcnn import evaluation

    scores = evaluation.evaluate(model, load_dataset(dataset_dir, subset))
    for iou_type, figures in scores.items():
        print(iou_type, evaluation.summary(figures), sep="\n")
    return scores


# ---- Color splash --------------------------------------------------------------------------------


def color_splash(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """An image in grey, except for the pixels of the masks, which keep their colour.

    Args:
        image: uint8; `[H, W, 3]` RGB, `[H, W, 4]` RGBA, whose alpha channel is dropped, or grey
            `[H, W]` or `[H, W, 1]`.
        mask: `[H, W, N]` bool; with N = 0 the whole image turns grey.

    Returns:
        `[H, W, 3]` uint8.

    Raises:
        ValueError: the image has another shape, or the masks have another size than the image.
    """
    from skimage.color import rgb2gray

    image, mask = _as_rgb(image), np.asarray(mask)
    if mask.ndim != 3 or (mask.shape[2] and mask.shape[:2] != image.shape[:2]):
        raise ValueError(
            f"masks have the shape {mask.shape}; those of an image {image.shape} are "
            f"[{image.shape[0]}, {image.shape[1]}, N]."
        )
    gray = np.rint(rgb2gray(image) * 255).astype(np.uint8)[..., None].repeat(3, axis=2)
    if not mask.shape[2]:
        return gray
    return np.where(mask.any(axis=2, keepdims=True), image, gray)


def _as_rgb(image: np.ndarray) -> np.ndarray:
    """`[H, W, 3]` of a grey, RGB or RGBA image."""
    image = np.asarray(image)
    pixels = image[..., None] if image.ndim == 2 else image
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or image.dtype != np.uint8:
        raise ValueError(
            f"image is {image.dtype} of shape {image.shape}; it must be uint8 of [H, W, 3], or "
            "grey or RGBA."
        )
    return pixels[..., :3] if pixels.shape[2] > 1 else pixels.repeat(3, axis=2)


def detect_and_color_splash(
    model: MaskRCNN,
    image_path: PathLike | None = None,
    video_path: PathLike | None = None,
    output: PathLike | None = None,
) -> str:
    """Write the color splash of an image or a video.

    Args:
        model: MaskRCNN in inference mode.
        image_path, video_path: path or URL; exactly one of them.
        output: the file to write, `.png` or `.jpg` for an image, `.avi` or `.mp4` for a video;
            by default `splash_<time>.png` or `.avi` in the current folder.

    Returns:
        The path of the file. It appears when it is complete.

    Raises:
        ValueError: neither or both of image and video are given, or `output` has an unknown ending.
        OSError: a file cannot be read or written.
    """
    if bool(image_path) == bool(video_path):
        raise ValueError(
            f"image_path is {image_path!r} and video_path {video_path!r}; give one of them."
        )
    endings = tuple(VIDEO_CODECS) if video_path else IMAGE_ENDINGS
    if output is None:
        output = f"splash_{datetime.datetime.now():%Y%m%dT%H%M%S}{endings[0]}"
    output = Path(output)
    if output.suffix.lower() not in endings:
        raise ValueError(f"output is {output}; the file must end with {' or '.join(endings)}.")
    if video_path:
        splash_video(model, str(video_path), output)
    else:
        splash_image(model, str(image_path), output)
    print("Saved to", output)
    return str(output)


def splash_image(model: MaskRCNN, image_path: str, output: PathLike) -> None:
    """Write the color splash of an image to the file `output`."""
    from PIL import Image

    print("Detecting in", image_path)
    image = open_image(image_path)
    (result,) = model.detect([image])
    with written_beside(output) as path:
        Image.fromarray(color_splash(image, result["masks"])).save(path)


def open_image(image_path: str) -> np.ndarray:
    """The image of a path or URL as `[H, W, 3]` uint8, whatever the file holds.

    Raises:
        OSError: it cannot be read; the message names the path or URL.
    """
    if not is_url(image_path):
        return read_image(image_path)
    try:
        with urllib.request.urlopen(image_path, timeout=60) as response:
            content = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise OSError(f"{image_path} could not be downloaded: {error}") from error
    with tempfile.TemporaryDirectory() as folder:
        # The ending may tell the format.
        path = Path(folder) / f"image{Path(urllib.parse.urlparse(image_path).path).suffix}"
        path.write_bytes(content)
        try:
            return read_image(path)
        except (OSError, ValueError) as error:
            raise OSError(f"{image_path} is not an image that can be read: {error}") from error


def splash_video(model: MaskRCNN, video_path: str, output: PathLike) -> None:
    """Write the color splash of a video, frame by frame, to the file `output`.

    The model gets BATCH_SIZE frames at a time. Size and frame rate stay; the sound is lost.
    """
    from keras.utils import Progbar

    frames, rate, count = open_video(video_path)
    progress, done = Progbar(count, unit_name="frame"), 0
    with written_beside(output) as path, video_writer(path, rate) as write:
        for batch in batches(frames, model.config.BATCH_SIZE):
            for frame, result in zip(batch, model.detect(batch), strict=True):
                write(color_splash(frame, result["masks"]))
            done += len(batch)
            progress.update(done)
    if done != count:
        print()  # the progress bar ends its line only when it is complete
    if done < (count or 0):
        print(f"{video_path} says it has {count} frames; {done} could be read.")


# ---- Command line --------------------------------------------------------------------------------


def load_weights(model: MaskRCNN, weights: PathLike) -> None:
    """Load what `--weights` names: `coco`, `imagenet`, `last` or the path of a file."""
    from mrcnn.weights import load_start_weights

    load_start_weights(model, weights, COCO_WEIGHTS_PATH)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Mask R-CNN for balloons: train, evaluate, or turn everything else grey."
    )
    add = parser.add_argument
    add("command", choices=("train", "evaluate", "splash"))
    add("--weights", required=True, help="a weights file, or 'coco', 'imagenet' or 'last'")
    add("--dataset", metavar="DIR", help="folder of the data set, with train and val")
    add("--logs", default=DEFAULT_LOGS_DIR, metavar="DIR", help="folder of training runs")
    add("--epochs", type=int, default=30, metavar="N", help="train until epoch N (default 30)")
    add(
        "--steps",
        type=int,
        metavar="N",
        help="batches per epoch (default 100), and at most for val",
    )
    add("--subset", default="val", help="folder in DIR to evaluate on (default val)")
    add("--skip-invalid", action="store_true", help="leave out annotations that cannot be used")
    add("--image", metavar="PATH_OR_URL", help="image to splash")
    add("--video", metavar="PATH_OR_URL", help="video to splash")
    add("--output", metavar="FILE", help="file to write (default splash_<time>.png or .avi here)")
    arguments = parser.parse_args(argv)
    if arguments.command != "splash" and not arguments.dataset:
        parser.error(f"{arguments.command} needs --dataset DIR")
    if arguments.command == "splash" and bool(arguments.image) == bool(arguments.video):
        parser.error("splash needs --image or --video, one of them")
    if arguments.command != "train" and arguments.weights.lower() in ("coco", "imagenet"):
        parser.error(
            f"--weights={arguments.weights} knows no balloons; training starts from it. "
            f"{arguments.command} needs 'last' or a trained weight file"
        )
    return arguments


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command of the command line."""
    global args
    args = parse_arguments(argv)
    quiet.import_keras()
    from mrcnn.model import MaskRCNN

    if args.command == "train":
        config = BalloonConfig()
        if args.steps is not None:
            config.STEPS_PER_EPOCH = args.steps
            config.VALIDATION_STEPS = min(config.VALIDATION_STEPS, args.steps)
        model = MaskRCNN("training", config, args.logs)
    else:
        is_splash = args.command == "splash"
        config = BalloonInferenceConfig() if is_splash else BalloonEvaluationConfig()
        model = MaskRCNN("inference", config, args.logs)
    config.display()
    load_weights(model, args.weights)
    if args.command == "train":
        train(model, epochs=args.epochs)
    elif args.command == "evaluate":
        evaluate(model, args.dataset, args.subset)
    else:
        detect_and_color_splash(model, args.image, args.video, args.output)


if __name__ == "__main__":
    main()
