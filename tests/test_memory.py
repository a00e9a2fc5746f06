"""Memory does not grow, however long a process detects or trains."""

import gc
import os
import resource
from pathlib import Path

import numpy as np
import pytest

from mrcnn import training
from mrcnn.data.loader import BatchLoader
from mrcnn.mask_rcnn import MaskRCNN
from tests.slim import seed_weights
from tests.tiny import random_rectangles, tiny_config

STATM = Path("/proc/self/statm")
# After some steps buffers have their size. A megabyte more per step would show in the others.
_WARM, _STEPS = 20, 120

pytestmark = pytest.mark.slow


def resident_bytes() -> int:
    gc.collect()
    if not STATM.exists():  # no Linux: the most it ever was, in a unit of the system
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def check_flat(step):
    for index in range(_WARM):
        step(index)
    before = resident_bytes()
    for index in range(_WARM, _STEPS):
        step(index)
    assert resident_bytes() < 1.02 * before


def test_many_detections(tmp_path):
    model = MaskRCNN("inference", tiny_config(IMAGE_RESIZE_MODE="rectangle"), tmp_path)
    seed_weights(model.keras_model, 21)
    rng = np.random.default_rng(0)

    def detect(index):
        height, width = rng.integers(20, 100, 2)
        (found,) = model.detect([rng.integers(0, 255, (height, width, 3), np.uint8)])
        assert found["masks"].shape[:2] == (height, width)

    check_flat(detect)


def test_many_training_steps():
    config = tiny_config()
    model = training.build_training_model(config)
    training.compile_model(model, config, learning_rate=1e-4, momentum=0.9)
    loader = BatchLoader(random_rectangles(20), config, steps=_STEPS)
    check_flat(lambda index: model.train_on_batch(*loader[index]))
