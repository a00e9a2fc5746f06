"""Coloured squares, circles and triangles, drawn on demand: no download, quick to learn.

python samples/shapes/shapes.py train --epochs=3 --steps=100
"""

from __future__ import annotations

import argparse
import math
import os
import random
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np

# This checkout, in case the package is not installed.
ROOT_DIR = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
if ROOT_DIR not in sys.path:
    sys.path.append(ROOT_DIR)

from mrcnn import quiet  # noqa: E402
from mrcnn.config import Config  # noqa: E402
from mrcnn.data.dataset import Dataset  # noqa: E402
from mrcnn.geometry.boxes import non_max_suppression  # noqa: E402

DEFAULT_LOGS_DIR = os.path.join(ROOT_DIR, "logs")

if TYPE_CHECKING:
    from mrcnn.mask_rcnn import MaskRCNN

Dims: TypeAlias = tuple[int, int, int]  # (x, y, size)
Shape: TypeAlias = tuple[str, tuple[int, ...], Dims]  # (name, color, dims)

# Distance of shapes from the border and their smallest size, in pixels.
MARGIN = 20
# If the IoU of the boxes of two shapes is above this, only the larger shape is kept.
OVERLAP = 0.3


class ShapesConfig(Config):
    """Small images, a batch of eight."""

    NAME = "shapes"
    GPU_COUNT = 1
    IMAGES_PER_GPU = 8
    NUM_CLASSES = 1 + 3
    IMAGE_MIN_DIM = 128
    IMAGE_MAX_DIM = 128
    RPN_ANCHOR_SCALES = (8, 16, 32, 64, 128)
    TRAIN_ROIS_PER_IMAGE = 32
    STEPS_PER_EPOCH = 100
    VALIDATION_STEPS = 5


class ShapesDataset(Dataset):
    """Images stored as lists of shapes; pixels and masks are drawn on demand.

    The shapes come from Python's `random`: `random.seed(...)` before `load_shapes` repeats them.
    """

    def load_shapes(self, count: int, height: int, width: int) -> None:
        """Register `count` random images of `height` x `width` pixels."""
        for class_id, name in enumerate(("square", "circle", "triangle"), start=1):
            self.add_class("shapes", class_id, name)
        for i in range(count):
            bg_color, shapes = self.random_image(height, width)
            self.add_image(
                "shapes",
                image_id=i,
                path=None,
                width=width,
                height=height,
                bg_color=bg_color,
                shapes=shapes,
            )

    def load_image(self, image_id: int) -> np.ndarray:
        """Draw an image: `[height, width, 3]` uint8."""
        info = self.image_info[image_id]
        image = np.empty((info["height"], info["width"], 3), np.uint8)
        image[:] = info["bg_color"]
        for shape, color, dims in info["shapes"]:
            self.draw_shape(image, shape, dims, color)
        return image

    def image_reference(self, image_id: int):
        """The shapes of an image: a list of `(shape, color, (x, y, size))`."""
        info = self.image_info[image_id]
        if info["source"] == "shapes":
            return info["shapes"]
        return super().image_reference(image_id)

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Masks `[height, width, N]` bool of the visible parts of shapes, class ids `[N]` int32."""
        info = self.image_info[image_id]
        shapes = info["shapes"]
        mask = np.zeros((info["height"], info["width"], len(shapes)), bool)
        covered = np.zeros(mask.shape[:2], bool)
        # Shapes are drawn in order, so the last one lies on top.
        for i in reversed(range(len(shapes))):
            name, _, dims = shapes[i]
            drawn = self.draw_shape(np.zeros(mask.shape[:2], np.uint8), name, dims, 1) > 0
            mask[..., i] = drawn & ~covered
            covered |= drawn
        class_ids = [self.class_names.index(name) for name, _, _ in shapes]
        return mask, np.array(class_ids, np.int32)

    def draw_shape(self, image: np.ndarray, shape: str, dims: Dims, color) -> np.ndarray:
        """Draw a filled shape into an image, in place, and return the image.

        Args:
            image: `[H, W]` or `[H, W, 3]` uint8.
            shape: `square`, `circle` or `triangle`.
            dims: `(x, y, size)`: the centre, and half a side, the radius or half the height.
            color: one value per channel.

        Raises:
            ValueError: an unknown shape.
        """
        x, y, size = dims
        if shape == "square":
            cv2.rectangle(image, (x - size, y - size), (x + size, y + size), color, -1)
        elif shape == "circle":
            cv2.circle(image, (x, y), size, color, -1)
        elif shape == "triangle":
            half = size / math.sin(math.radians(60))
            corners = [(x, y - size), (x - half, y + size), (x + half, y + size)]
            cv2.fillPoly(image, [np.array(corners, np.int32)], color)
        else:
            raise ValueError(f"shape is {shape!r}; it must be 'square', 'circle' or 'triangle'.")
        return image

    def random_shape(self, height: int, width: int) -> Shape:
        """A random `(shape, color, (x, y, size))` for an image of this size."""
        shape = random.choice(["square", "circle", "triangle"])
        color = tuple(random.randint(0, 255) for _ in range(3))
        y = random.randint(MARGIN, height - MARGIN - 1)
        x = random.randint(MARGIN, width - MARGIN - 1)
        return shape, color, (x, y, random.randint(MARGIN, height // 4))

    def random_image(self, height: int, width: int) -> tuple[np.ndarray, list[Shape]]:
        """A random background colour `[3]` and a list of one to four shapes."""
        bg_color = np.array([random.randint(0, 255) for _ in range(3)])
        shapes = [self.random_shape(height, width) for _ in range(random.randint(1, 4))]
        boxes = np.array([[y - s, x - s, y + s, x + s] for _, _, (x, y, s) in shapes])
        sizes = np.array([s for _, _, (_, _, s) in shapes])
        kept = non_max_suppression(boxes, sizes, OVERLAP)
        return bg_color, [shapes[i] for i in sorted(kept)]


def load_dataset(count: int, config: Config) -> ShapesDataset:
    """A prepared data set of `count` random images of the configuration's IMAGE_SHAPE."""
    dataset = ShapesDataset()
    dataset.load_shapes(count, *config.IMAGE_SHAPE[:2])
    dataset.prepare()
    return dataset


def train(model: MaskRCNN, epochs: int) -> None:
    """Train all layers on 500 images and validate on 50 others.

    Args:
        model: MaskRCNN in training mode.
        epochs: total number of epochs, including those of a resumed run.
    """
    model.train(
        load_dataset(500, model.config),
        load_dataset(50, model.config),
        learning_rate=model.config.LEARNING_RATE,
        epochs=epochs,
        layers="all",
    )


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Mask R-CNN on drawn shapes.")
    parser.add_argument("command", choices=("train",))
    parser.add_argument("--epochs", type=int, default=3)
    steps = ShapesConfig.STEPS_PER_EPOCH
    parser.add_argument("--steps", type=int, default=steps, help="batches per epoch")
    parser.add_argument(
        "--weights", metavar="FILE", help="weights to start from (default: random ones)"
    )
    parser.add_argument(
        "--logs", default=DEFAULT_LOGS_DIR, metavar="DIR", help="folder of training runs"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command of the command line."""
    arguments = parse_arguments(argv)
    quiet.import_keras()
    from mrcnn.model import MaskRCNN

    config = ShapesConfig()
    config.STEPS_PER_EPOCH = arguments.steps
    if arguments.weights is None:
        # Random weights have no statistics yet: batch statistics, gathered while training.
        config.TRAIN_BN = None
    model = MaskRCNN("training", config, arguments.logs)
    if arguments.weights is not None:
        model.load_weights(arguments.weights, by_name=True)
    train(model, arguments.epochs)
    print("Weights are in", model.log_dir)


if __name__ == "__main__":
    main()
