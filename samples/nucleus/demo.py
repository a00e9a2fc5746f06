"""All steps in minutes on a CPU: train from random weights, evaluate and draw, on real images.

    python samples/nucleus/demo.py

Trains a small Mask R-CNN on the nuclei images of this repository with the settings of
configs/nucleus_demo.json, computes COCO AP on held-out images, and saves pictures, weights,
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
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

from mrcnn import quiet  # noqa: E402
from mrcnn.files import write_text, written_beside  # noqa: E402
from mrcnn.geometry.masks import extract_bboxes  # noqa: E402
from mrcnn.types import PathLike, Tensor  # noqa: E402
from samples.nucleus.nucleus import (  # noqa: E402
    NucleusConfig,
    NucleusDataset,
    load_dataset,
)

if TYPE_CHECKING:
    import keras

    from mrcnn.mask_rcnn import MaskRCNN

CONFIG = ROOT / "configs" / "nucleus_demo.json"
ARCHIVE = Path(__file__).with_name("nuclei_small.tar.gz")
IMAGES = Path(__file__).with_name("data")
PICTURES = 6
EPOCHS = 6


def small_backbone(
    input_image: Tensor, stage5: bool = True, train_bn: bool | None = None
) -> list[Tensor | None]:
    """A residual network of five stages, small enough to train on a CPU.

    It uses group normalisation: with a stained and a fluorescent image in a batch of two, batch
    normalisation would learn statistics that fit neither.

    Args:
        input_image: `[B, H, W, C]`, molded.
        stage5: compute C5, which the pyramid needs.
        train_bn: Config.TRAIN_BN; not used here.

    Returns:
        `[C1, C2, C3, C4, C5]` at strides 2, 4, 8, 16 and 32; C5 is None without `stage5`.
    """
    features: list[Tensor | None] = [_convolution(input_image, 16, 2, "stage1")]
    for stage, filters in enumerate((32, 64, 96, 128), start=2):
        features.append(_residual(features[-1], filters, f"stage{stage}"))
    return features if stage5 else features[:4] + [None]


def _residual(x: Tensor, filters: int, name: str) -> Tensor:
    """A convolution of stride 2, and a residual block of two convolutions."""
    from keras import layers

    x = _convolution(x, filters, 2, f"{name}_down")
    y = _convolution(x, filters, 1, f"{name}_a")
    y = _convolution(y, filters, 1, f"{name}_b")
    return layers.Add(name=f"{name}_add")([x, y])


def _convolution(x: Tensor, filters: int, strides: int, name: str) -> Tensor:
    from keras import layers

    x = layers.Conv2D(filters, 3, strides, "same", use_bias=False, name=f"{name}_conv")(x)
    x = layers.GroupNormalization(groups=8, name=f"{name}_gn")(x)
    return layers.Activation("relu", name=f"{name}_relu")(x)


def pyramid_shapes(image_shape: Sequence[int]) -> np.ndarray:
    """Sizes of P2 to P6, `[levels, (height, width)]`, as COMPUTE_BACKBONE_SHAPE returns them."""
    return np.array([np.ceil(np.divide(image_shape[:2], s)) for s in (4, 8, 16, 32, 64)], int)


class DemoConfig(NucleusConfig):
    """A small backbone; all other settings are in configs/nucleus_demo.json."""

    BACKBONE = staticmethod(small_backbone)
    COMPUTE_BACKBONE_SHAPE = staticmethod(pyramid_shapes)


def unpack_images() -> Path:
    """The folder with `train` and `val`, unpacked from the archive on the first call."""
    if not IMAGES.exists():
        with tempfile.TemporaryDirectory(dir=IMAGES.parent) as folder, tarfile.open(ARCHIVE) as tar:
            # Python before 3.10.12 has no filters; the archive is part of this repository.
            safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
            tar.extractall(folder, **safely)
            os.rename(Path(folder) / "nuclei", IMAGES)
    return IMAGES


def augmentation() -> Any:
    """Flips and quarter turns: nuclei have no preferred direction."""
    from imgaug import augmenters as iaa

    return iaa.Sequential([iaa.Fliplr(0.5), iaa.Flipud(0.5), iaa.Rot90((0, 3))])


def schedule(rate: float, epochs: int) -> keras.callbacks.Callback:
    """A callback for a cosine learning-rate schedule, from `rate` to 0."""
    import keras

    return keras.callbacks.LearningRateScheduler(
        lambda epoch, _: rate * (1 + math.cos(math.pi * epoch / epochs)) / 2
    )


def train(
    config: DemoConfig,
    dataset_train: NucleusDataset,
    dataset_val: NucleusDataset,
    epochs: int,
    logs: PathLike,
) -> Path:
    """Train all layers; returns the weight file of the last epoch."""
    from mrcnn.mask_rcnn import MaskRCNN

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


def draw_pair(
    image: np.ndarray, truth: dict, found: dict, class_names: Sequence[str], path: PathLike
) -> None:
    """Save a picture with the ground truth on the left and the detections on the right."""
    from matplotlib.figure import Figure

    from mrcnn import visualize

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
    with written_beside(path) as temporary:
        figure.savefig(temporary, bbox_inches="tight", pad_inches=0.05)


def draw(model: MaskRCNN, dataset: NucleusDataset, folder: Path) -> list[str]:
    """Save pictures of `PICTURES` images spread over the data set; returns their paths."""
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


def confident(result: dict, least: float = 0.5) -> dict:
    """The detections of an image whose score is at least `least`."""
    kept = result["scores"] >= least
    return {
        "rois": result["rois"][kept],
        "masks": result["masks"][..., kept],
        "class_ids": result["class_ids"][kept],
        "scores": result["scores"][kept],
    }


def report(summary: dict[str, Any], logs: Path) -> None:
    """Save the summary and print where everything is."""
    path = logs / "summary.json"
    write_text(path, json.dumps(summary, indent=2) + "\n")
    print(f"\nFinished in {summary['seconds'] / 60:.1f} minutes. COCO figures on held-out images:")
    for kind, what in (("bbox", "boxes"), ("segm", "masks")):
        ap, ap50 = summary[f"{kind}_AP"], summary[f"{kind}_AP50"]
        print(f"  AP of {what} {ap:.3f}, at IoU 0.5 {ap50:.3f}")
    print("Pictures    ", *summary["pictures"], sep="\n  ")
    print(f"Weights      {summary['weights']}")
    print(f"TensorBoard  tensorboard --logdir '{logs}'")
    print(f"Summary      {path}")


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train, evaluate and draw on nuclei images.")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--steps", type=int, help="batches per epoch, instead of STEPS_PER_EPOCH")
    parser.add_argument(
        "--logs", type=Path, default=ROOT / "logs" / "demo", metavar="DIR", help="where to write"
    )
    arguments = parser.parse_args(argv)
    arguments.logs = arguments.logs.resolve()
    return arguments


def main(argv: Sequence[str] | None = None) -> None:
    """Train, evaluate, draw; print and save where everything is."""
    arguments = parse_arguments(argv)
    start = time.perf_counter()
    quiet.import_keras()
    import keras

    from mrcnn.evaluation import evaluate
    from mrcnn.mask_rcnn import MaskRCNN

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

    config = DemoConfig.from_json(CONFIG).for_detection()
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
