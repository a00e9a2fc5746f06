"""Datasets and configurations for the tests of `mrcnn.data`."""

import logging

import numpy as np
import pytest

from mrcnn.config import Config
from mrcnn.data.dataset import Dataset


class SmallConfig(Config):
    NAME = "small"
    NUM_CLASSES = 1 + 3
    IMAGES_PER_GPU = 2
    IMAGE_MIN_DIM = 64
    IMAGE_MAX_DIM = 64
    RPN_ANCHOR_SCALES = (8, 16, 32, 48, 64)
    RPN_TRAIN_ANCHORS_PER_IMAGE = 32
    MAX_GT_INSTANCES = 6
    MINI_MASK_SHAPE = (14, 14)
    TRAIN_ROIS_PER_IMAGE = 20
    MASK_SHAPE = [14, 14]


class Boxes(Dataset):
    """Images of bright rectangles: `content[image_id]` is a list of `(class id, box)`.

    The red channel holds the image id, so that no two images are alike.
    """

    def __init__(self, content, shape=(64, 64)):
        super().__init__()
        self.content = content
        self.shape = shape
        for class_id in (1, 2, 3):
            self.add_class("boxes", class_id, f"class{class_id}")
        for image_id in range(len(content)):
            self.add_image("boxes", image_id, path=None)
        self.prepare()

    def load_image(self, image_id):
        image = np.zeros((*self.shape, 3), np.uint8)
        image[:, :, 0] = image_id % 256
        for _, (y1, x1, y2, x2) in self.content[image_id]:
            image[y1:y2, x1:x2, 1:] = 255
        return image

    def load_mask(self, image_id):
        objects = self.content[image_id]
        masks = np.zeros((*self.shape, len(objects)), bool)
        for i, (_, (y1, x1, y2, x2)) in enumerate(objects):
            masks[y1:y2, x1:x2, i] = True
        return masks, np.array([class_id for class_id, _ in objects], np.int32)


@pytest.fixture
def config():
    return SmallConfig()


@pytest.fixture
def make_config():
    """Function `(**settings) -> Config` with these differences from `SmallConfig`."""
    return lambda **settings: type("Changed", (SmallConfig,), settings)()


@pytest.fixture
def boxes_dataset():
    """The class `Boxes`."""
    return Boxes


@pytest.fixture
def many():
    """Function `count -> Boxes` with one or two objects an image."""

    def make(count, shape=(64, 64)):
        rng = np.random.default_rng(count)
        content = []
        for i in range(count):
            y, x = rng.integers(0, 40, 2)
            objects = [(1 + i % 3, (y, x, y + 15, x + 20))]
            content.append(objects + [(2, (2, 30, 50, 60))] * (i % 2))
        return Boxes(content, shape)

    return make


@pytest.fixture
def warned(caplog):
    """Function that returns the warnings of the logger `mrcnn` so far."""
    caplog.set_level(logging.INFO, logger="mrcnn")
    return lambda: [r.getMessage() for r in caplog.records if r.name == "mrcnn"]
