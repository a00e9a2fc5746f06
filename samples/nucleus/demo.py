"""The whole way in minutes on a CPU: train, measure and draw on real images, from random weights.

    python samples/nucleus/demo.py

Trains a small Mask R-CNN on the nuclei images of this repository with the settings of
configs/nucleus_demo.json, computes COCO AP on images it has not seen, and saves pictures, weights,
TensorBoard logs and `summary.json` in logs/demo.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
from imgaug import augmenters as iaa
from keras import layers
from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

from mrcnn import visualize  # noqa: E402
from mrcnn.evaluation import evaluate  # noqa: E402
from mrcnn.model import MaskRCNN  # noqa: E402
from mrcnn.utils import extract_bboxes  # noqa: E402
from samples.nucleus.nucleus import NucleusConfig, load_dataset  # noqa: E402

CONFIG = ROOT / "configs" / "nucleus_demo.json"
ARCHIVE = Path(__file__).with_name("nuclei_small.tar.gz")
IMAGES = Path(__file__).with_name("data")
PICTURES = 6
EPOCHS = 6


def small_backbone(input_image, stage5=True, train_bn=None):
    """A residual network of five stages, small enough to train on a CPU.

    Normalised over groups of channels, image by image: in batches of two, one stained and one
    fluorescent, batch normalisation learns statistics that fit neither.

    Args:
        input_image: `[B, H, W, C]`, molded.
        stage5: whether to compute C5; the pyramid needs it.
        train_bn: Config.TRAIN_BN, of no use here.

    Returns:
        `[C1, C2, C3, C4, C5]` at strides 2, 4, 8, 16 and 32; C5 is None without `stage5`.
    """
    features = [_convolution(input_image, 16, 2, "stage1")]
    for stage, filters in enumerate((32, 64, 96, 128), start=2):
        features.append(_residual(features[-1], filters, f"stage{stage}"))
    return features if stage5 else features[:4] + [None]


def _residual(x, filters, name):
    """Halve the map by one convolution, then add two more to it."""
    x = _convolution(x, filters, 2, f"{name}_down")
    y = _convolution(x, filters, 1, f"{name}_a")
    y = _convolution(y, filters, 1, f"{name}_b")
    return layers.Add(name=f"{name}_add")([x, y])


def _convolution(x, filters, strides, name):
    x = layers.Conv2D(filters, 3, strides, "same", use_bias=False, name=f"{name}_conv")(x)
    x = layers.GroupNormalization(groups=8, name=f"{name}_gn")(x)
    return layers.Activation("relu", name=f"{name}_relu")(x)


def pyramid_shapes(image_shape):
    """`(height, width)` of P2 to P6 for an image: what COMPUTE_BACKBONE_SHAPE asks for."""
    return np.array([np.ceil(np.divide(image_shape[:2], s)) for s in (4, 8, 16, 32, 64)], int)


class DemoConfig(NucleusConfig):
    """A small backbone; everything else stands in configs/nucleus_demo.json."""

    BACKBONE = staticmethod(small_backbone)
    COMPUTE_BACKBONE_SHAPE = staticmethod(pyramid_shapes)


def unpack_images() -> Path:
    """The folder with `train` and `val`, unpacked from the archive on first use."""
    if not IMAGES.exists():
        with tempfile.TemporaryDirectory(dir=IMAGES.parent) as folder, tarfile.open(ARCHIVE) as tar:
            # Pythons before 3.10.12 know no filters; the archive is our own.
            safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
            tar.extractall(folder, **safely)
            os.rename(Path(folder) / "nuclei", IMAGES)
    return IMAGES


def augmentation():
    """Flips and quarter turns: a nucleus has no upside."""
    return iaa.Sequential([iaa.Fliplr(0.5), iaa.Flipud(0.5), iaa.Rot90((0, 3))])


def schedule(rate, epochs):
    """A callback that takes the learning rate down to zero along half a cosine wave."""
    return keras.callbacks.LearningRateScheduler(
        lambda epoch, _: rate * (1 + math.cos(math.pi * epoch / epochs)) / 2
    )


def train(config, dataset_train, dataset_val, epochs, logs) -> Path:
    """Train all layers; returns the weights file of the last epoch."""
    model = MaskRCNN("training", config, str(logs))
    model.train(
        dataset_train,
        dataset_val,
        learning_rate=config.LEARNING_RATE,
        epochs=epochs,
        layers="all",
        augmentation=augmentation(),
        custom_callbacks=[schedule(config.LEARNING_RATE, epochs)],
    )
    return Path(model.find_last())


def draw_pair(image, truth, found, class_names, path):
    """Save a picture of the objects as they are and, beside them, as they were found."""
    height, width = image.shape[:2]
    figure = Figure(figsize=(10, 5.3 * height / width), layout="tight")
    results = {"ground truth": truth, "detections": found}
    for axes, (title, result) in zip(figure.subplots(1, 2), results.items(), strict=True):
        visualize.draw_instances(
            axes,
            image,
            result["rois"],
            result["masks"],
            result["class_ids"],
            class_names,
            title=f"{title}: {len(result['class_ids'])} nuclei",
            show_bbox=False,
            captions=[""] * len(result["class_ids"]),
        )
    figure.savefig(path, bbox_inches="tight", pad_inches=0.05)


def draw(model, dataset, folder) -> list[str]:
    """Save `PICTURES` pictures, of images spread over the data set; returns their paths."""
    paths = []
    for image_id in dataset.image_ids[:: max(1, len(dataset.image_ids) // PICTURES)][:PICTURES]:
        image = dataset.load_image(image_id)
        masks, class_ids = dataset.load_mask(image_id)
        truth = {"rois": extract_bboxes(masks), "masks": masks, "class_ids": class_ids}
        found = confident(model.detect([image])[0])
        path = folder / f"{dataset.image_reference(image_id)[:8]}.png"
        draw_pair(image, truth, found, dataset.class_names, path)
        paths.append(str(path))
    return paths


def confident(result, least=0.5):
    """Of what `detect` returned, the objects whose score is at least `least`."""
    kept = result["scores"] >= least
    return {
        "rois": result["rois"][kept],
        "masks": result["masks"][..., kept],
        "class_ids": result["class_ids"][kept],
        "scores": result["scores"][kept],
    }


def report(summary, logs):
    """Save the summary and say where everything is."""
    path = logs / "summary.json"
    beside = path.with_name(path.name + ".part")
    beside.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    beside.replace(path)
    print(f"\nFinished in {summary['seconds'] / 60:.1f} minutes. On images not trained on, COCO:")
    for kind, what in (("bbox", "boxes"), ("segm", "masks")):
        ap, ap50 = summary[f"{kind}_AP"], summary[f"{kind}_AP50"]
        print(f"  AP of {what} {ap:.3f}, at IoU 0.5 {ap50:.3f}")
    print("Pictures    ", *summary["pictures"], sep="\n  ")
    print(f"Weights      {summary['weights']}")
    print(f"TensorBoard  tensorboard --logdir '{logs}'")
    print(f"Summary      {path}")


def parse_arguments(argv=None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train, evaluate and draw on nuclei images.")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--steps", type=int, help="batches an epoch, in place of STEPS_PER_EPOCH")
    parser.add_argument(
        "--logs", type=Path, default=ROOT / "logs" / "demo", metavar="DIR", help="where to write"
    )
    arguments = parser.parse_args(argv)
    arguments.logs = arguments.logs.resolve()
    return arguments


def main(argv=None):
    """Train, evaluate, draw; print and save where everything is."""
    arguments = parse_arguments(argv)
    start = time.perf_counter()
    keras.utils.set_random_seed(0)
    images = unpack_images()
    dataset_train, dataset_val = (load_dataset(images, subset) for subset in ("train", "val"))

    config = DemoConfig.from_json(CONFIG)
    if arguments.steps is not None:
        config.STEPS_PER_EPOCH = arguments.steps
    print(
        f"Training on {dataset_train.num_images} images for {arguments.epochs} epochs of "
        f"{config.STEPS_PER_EPOCH} batches, then evaluating on {dataset_val.num_images} others."
    )
    weights = train(config, dataset_train, dataset_val, arguments.epochs, arguments.logs)

    config = DemoConfig.from_json(CONFIG)
    config.IMAGES_PER_GPU = 1
    config.IMAGE_RESIZE_MODE = "pad64"
    model = MaskRCNN("inference", config, str(arguments.logs))
    model.load_weights(str(weights), by_name=True)
    scores = evaluate(model, dataset_val)
    pictures = draw(model, dataset_val, arguments.logs)

    summary = {
        **{f"{kind}_{name}": scores[kind][name] for kind in scores for name in ("AP", "AP50")},
        "seconds": round(time.perf_counter() - start, 1),
        "pictures": pictures,
        "weights": str(weights),
    }
    report(summary, arguments.logs)


if __name__ == "__main__":
    main()
