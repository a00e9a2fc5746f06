"""Find balloons in photographs, and leave colour to nothing else: a small data set of one class.

Data: DIR/train and DIR/val, each with images and their annotations, `via_region_data.json` of the
VGG Image Annotator. samples/balloon/README.md tells where to get it and how to bring your own.

    # from the COCO weights; or --weights=imagenet, last, or a file
    python samples/balloon/balloon.py train --dataset=DIR --weights=coco
    # COCO AP of boxes and masks
    python samples/balloon/balloon.py evaluate --dataset=DIR --weights=last
    # grey, but for the balloons: splash_<time>.png or .avi
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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

# The checkout this file lies in, for when the package is not installed.
ROOT_DIR = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
if ROOT_DIR not in sys.path:
    sys.path.append(ROOT_DIR)
# TensorFlow's estimates of what operations cost fill pages; its errors still show.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from mrcnn import utils  # noqa: E402
from mrcnn.config import Config  # noqa: E402
from mrcnn.data.dataset import read_image  # noqa: E402
from mrcnn.data.formats.via import ViaDataset  # noqa: E402

COCO_WEIGHTS_PATH = os.path.join(ROOT_DIR, "mask_rcnn_coco.h5")
DEFAULT_LOGS_DIR = os.path.join(ROOT_DIR, "logs")

ANNOTATIONS = "via_region_data.json"
# Layers whose shapes depend on the number of classes: the COCO weights do not fit them.
CLASS_LAYERS = ["mrcnn_class_logits", "mrcnn_bbox_fc", "mrcnn_bbox", "mrcnn_mask"]
# Codecs that OpenCV's own builds can write.
VIDEO_CODECS = {".avi": "MJPG", ".mp4": "mp4v"}
IMAGE_ENDINGS = (".png", ".jpg", ".jpeg")

# The parsed command line, for `train(model)`; None where this file is imported.
args: argparse.Namespace | None = None


class BalloonConfig(Config):
    """Training: photographs of any size, brought to 1024x1024."""

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
    """Average precision counts detections by rank, so none is thrown away."""

    DETECTION_MIN_CONFIDENCE = 0


# ---- Data set ------------------------------------------------------------------------------------


class BalloonDataset(ViaDataset):
    """Photographs of balloons, one class."""

    def load_balloon(self, dataset_dir, subset):
        """Register the images of a subset that have regions.

        Args:
            dataset_dir: holds a folder a subset, with images and `via_region_data.json`.
            subset: `train`, `val`, or the name of another folder.

        Raises:
            FileNotFoundError: no such folder, no annotations in it, or an image missing.
            ValueError: annotations that cannot be used, see `ViaDataset.load_via`.
        """
        folder = Path(dataset_dir) / subset
        if not (folder / ANNOTATIONS).is_file():
            raise FileNotFoundError(
                f"{folder / ANNOTATIONS} does not exist; a data set has the folders train and val, "
                f"each with images and {ANNOTATIONS}. README.md beside this script tells more."
            )
        self.load_via(folder / ANNOTATIONS, folder, source="balloon")

    def image_reference(self, image_id):
        """Path of an image."""
        info = self.image_info[image_id]
        if info["source"] == "balloon":
            return info["path"]
        return super().image_reference(image_id)


def load_dataset(dataset_dir, subset) -> BalloonDataset:
    """The prepared BalloonDataset of a subset."""
    dataset = BalloonDataset()
    dataset.load_balloon(dataset_dir, subset)
    dataset.prepare()
    return dataset


# ---- Training and evaluation ---------------------------------------------------------------------


def train(model, dataset_dir=None, epochs=30):
    """Train the heads on `train`, with `val` to validate on.

    Args:
        model: MaskRCNN in training mode.
        dataset_dir: as `BalloonDataset.load_balloon` takes it; None: `--dataset` of the command
            line, the module's `args`.
        epochs: the epoch to end with.

    Raises:
        ValueError: no `dataset_dir`, and no command line either.
    """
    dataset_dir = dataset_dir or getattr(args, "dataset", None)
    if dataset_dir is None:
        raise ValueError("dataset_dir is None; give the folder that holds train and val.")
    dataset_train = load_dataset(dataset_dir, "train")
    dataset_val = load_dataset(dataset_dir, "val")
    # Heads alone: the data set is small, and the layers below them know photographs from COCO.
    print(f"Train heads, until epoch {epochs}")
    model.train(
        dataset_train,
        dataset_val,
        learning_rate=model.config.LEARNING_RATE,
        epochs=epochs,
        layers="heads",
    )


def evaluate(model, dataset_dir, subset="val"):
    """Print COCO's figures for boxes and masks over a subset.

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


def color_splash(image, mask):
    """An image in grey, but for the pixels of any mask, which keep their colour.

    Args:
        image: `[H, W, 3]` uint8 RGB; `[H, W, 4]` with an alpha channel, which is dropped, or grey
            `[H, W]`, `[H, W, 1]`.
        mask: `[H, W, N]` bool; with N = 0 the whole image turns grey.

    Returns:
        `[H, W, 3]` uint8.

    Raises:
        ValueError: an image of another shape, or masks of another size than it.
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


def _as_rgb(image) -> np.ndarray:
    """`[H, W, 3]` of a grey, RGB or RGBA image."""
    image = np.asarray(image)
    pixels = image[..., None] if image.ndim == 2 else image
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or image.dtype != np.uint8:
        raise ValueError(
            f"image is {image.dtype} of shape {image.shape}; it must be uint8 of [H, W, 3], or "
            "grey or RGBA."
        )
    return pixels[..., :3] if pixels.shape[2] > 1 else pixels.repeat(3, axis=2)


def detect_and_color_splash(model, image_path=None, video_path=None, output=None):
    """Write the color splash of what is found in an image or in a video.

    Args:
        model: MaskRCNN in inference mode.
        image_path, video_path: path or URL; one of the two.
        output: the file to write, `.png` or `.jpg` for an image, `.avi` or `.mp4` for a video;
            by default `splash_<time>.png` or `.avi` in the current folder.

    Returns:
        The path of the file. It appears when it is complete.

    Raises:
        ValueError: none or both of image and video; an ending of `output` that is not known.
        OSError: what cannot be read or written.
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


def splash_image(model, image_path, output):
    """Write the color splash of an image to the file `output`."""
    from PIL import Image

    print("Detecting in", image_path)
    image = open_image(image_path)
    (result,) = model.detect([image])
    with _complete(output) as path:
        Image.fromarray(color_splash(image, result["masks"])).save(path)


def open_image(image_path) -> np.ndarray:
    """An image of a path or URL: `[H, W, 3]` uint8, whatever the file holds.

    Raises:
        OSError: it cannot be read; names path or URL.
    """
    if not _is_url(image_path):
        return read_image(image_path)
    try:
        with urllib.request.urlopen(image_path, timeout=60) as response:
            content = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise OSError(f"{image_path} could not be downloaded: {error}") from error
    with tempfile.TemporaryDirectory() as folder:
        # The ending may say how to decode.
        path = Path(folder) / f"image{Path(urllib.parse.urlparse(image_path).path).suffix}"
        path.write_bytes(content)
        try:
            return read_image(path)
        except (OSError, ValueError) as error:
            raise OSError(f"{image_path} is not an image that can be read: {error}") from error


def _is_url(path) -> bool:
    return urllib.parse.urlparse(path).scheme in ("http", "https")


def splash_video(model, video_path, output):
    """Write the color splash of a video, frame by frame, to the file `output`.

    Frames are detected in batches of BATCH_SIZE. Size and frame rate stay; there is no sound.
    """
    from keras.utils import Progbar

    frames, rate, count = open_video(video_path)
    progress, done = Progbar(count, unit_name="frame"), 0
    with _complete(output) as path, video_writer(path, rate) as write:
        for batch in batches(frames, model.config.BATCH_SIZE):
            for frame, result in zip(batch, model.detect(batch), strict=True):
                write(color_splash(frame, result["masks"]))
            done += len(batch)
            progress.update(done)
    if done != count:
        print()  # the progress bar does so itself where it comes to its end
    if done < (count or 0):
        print(f"{video_path} says it has {count} frames; {done} could be read.")


def open_video(video_path) -> tuple[Iterator[np.ndarray], float, int | None]:
    """Frames `[H, W, 3]` uint8 RGB of a video, frames a second, and how many, where it is known.

    Raises:
        OSError: no video that OpenCV can read, or none of its frames.
    """
    import cv2

    if not _is_url(video_path) and not os.path.isfile(video_path):
        raise FileNotFoundError(f"{video_path} does not exist.")
    capture = cv2.VideoCapture(video_path)
    is_read, first = capture.read()
    if not is_read:
        raise OSError(f"{video_path} cannot be opened as a video: OpenCV reads no frame of it.")
    rate = capture.get(cv2.CAP_PROP_FPS)
    if not rate > 0:
        print("The frame rate is not known: 25 frames a second.")
        rate = 25.0
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    return _frames(capture, first), rate, count if count > 0 else None


def _frames(capture, frame) -> Iterator[np.ndarray]:
    """The frame that was read already, and all that follow, as RGB."""
    is_read = True
    while is_read:
        yield np.ascontiguousarray(frame[..., ::-1])
        is_read, frame = capture.read()
    capture.release()


def batches(items, size) -> Iterator[list]:
    """Lists of `size` items in turn; the last may be shorter."""
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


@contextmanager
def video_writer(path, rate):
    """Function that adds a frame `[H, W, 3]` uint8 RGB to a video; the first one sets the size.

    Raises:
        OSError: OpenCV cannot write the file.
    """
    import cv2

    codec = VIDEO_CODECS[Path(path).suffix.lower()]
    writer = cv2.VideoWriter()

    def write(frame):
        if not writer.isOpened():
            size = frame.shape[1], frame.shape[0]
            if not writer.open(str(path), cv2.VideoWriter_fourcc(*codec), rate, size):
                raise OSError(f"{path} cannot be written as a video ({codec}) by this OpenCV.")
        writer.write(np.ascontiguousarray(frame[..., ::-1]))

    try:
        yield write
    finally:
        writer.release()


@contextmanager
def _complete(output):
    """A path to write to; `output` appears when the block has ended, and not if it failed."""
    output = Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    # The ending tells Pillow and OpenCV the format, so it stays.
    part = output.with_name(f"{output.stem}.part{output.suffix}")
    try:
        yield part
        os.replace(part, output)
    finally:
        part.unlink(missing_ok=True)


# ---- Command line --------------------------------------------------------------------------------


def load_weights(model, weights):
    """Load what `--weights` names: `coco`, `imagenet`, `last` or the path of a file."""
    name = str(weights).lower()
    exclude = None
    if name == "coco":
        if not os.path.exists(COCO_WEIGHTS_PATH):
            utils.download_trained_weights(COCO_WEIGHTS_PATH)
        path, exclude = COCO_WEIGHTS_PATH, CLASS_LAYERS
    elif name == "imagenet":
        path = model.get_imagenet_weights()
    elif name == "last":
        path = model.find_last()
    else:
        path = weights
    print("Loading weights", path)
    model.load_weights(path, by_name=True, exclude=exclude)


def parse_arguments(argv=None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Mask R-CNN for balloons: train, measure, or leave colour to them alone."
    )
    add = parser.add_argument
    add("command", choices=("train", "evaluate", "splash"))
    add("--weights", required=True, help="a weights file, or 'coco', 'imagenet' or 'last'")
    add("--dataset", metavar="DIR", help="folder of the data set, with train and val")
    add("--logs", default=DEFAULT_LOGS_DIR, metavar="DIR", help="folder of training runs")
    add("--epochs", type=int, default=30, metavar="N", help="train until epoch N (default 30)")
    add("--steps", type=int, metavar="N", help="batches an epoch (default 100), validation at most")
    add("--subset", default="val", help="folder in DIR to evaluate on (default val)")
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
            f"--weights={arguments.weights} knows no balloons, it is what training starts from; "
            f"{arguments.command} needs 'last' or the file of a training"
        )
    return arguments


def main(argv=None):
    """Run one command of the command line."""
    global args
    args = parse_arguments(argv)
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
