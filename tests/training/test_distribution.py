"""Training on several devices: two logical ones of the CPU, in a process of their own."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from mrcnn.data.loader import BatchLoader
from mrcnn.training import build_training_model, distribution
from tests.tiny import random_rectangles, tiny_config

ROOT = Path(__file__).parents[2]
# Two devices for JAX, and a compiler that is done sooner.
XLA_FLAGS = (
    "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0 "
    "--xla_llvm_disable_expensive_passes=true"
)


def run(code: str, **environment) -> str:
    """What Python code prints that runs with two devices."""
    settings = {
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "goldens")]),
        **environment,
    }
    process = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **settings},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert process.returncode == 0, process.stderr[-5000:]
    return process.stdout


TWO_CPUS = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
"""
ONE_AGAINST_TWO = '''
import keras
import numpy as np

from mrcnn import training
from mrcnn.data.loader import BatchLoader
from tests.tiny import (
    backbone_of_blocks, propose_anchors, random_rectangles, tiny_config, weights_of
)


# ROIs are drawn: here those that come first are, whatever the number of images in a batch.
keras.random.uniform = lambda shape, seed: keras.ops.zeros(shape)
# Nearly every anchor is a proposal, so that some are positive whatever the random weights.
EVERY_ANCHOR = {"POST_NMS_ROIS_TRAINING": 1000, "RPN_NMS_THRESHOLD": 0.99}


class Repeated(keras.utils.PyDataset):
    """One example, as often as there are devices, in every batch."""

    def __init__(self, config, steps):
        super().__init__()
        (inputs,) = BatchLoader(random_rectangles(1), config, batch_size=1)[0]
        self.inputs = tuple(np.repeat(x, config.BATCH_SIZE, axis=0) for x in inputs)
        self.steps = steps

    def __len__(self):
        return self.steps

    def __getitem__(self, index):
        return (self.inputs,)


def trained(gpu_count, steps, **settings):
    keras.utils.set_random_seed(0)
    config = tiny_config(GPU_COUNT=gpu_count, IMAGES_PER_GPU=1, **EVERY_ANCHOR, **settings)
    model = training.build_training_model(config)
    propose_anchors(model)
    training.compile_model(model, config, 0.01, 0.9)
    model.run_eagerly = EAGERLY
    loader = Repeated(config, steps)
    before = weights_of(model)
    history = model.fit(loader, validation_data=loader, shuffle=False, verbose=0).history
    return model, before, weights_of(model), history


def largest(one, two):
    return max(np.abs(one[path] - two[path]).max() for path in one)


def compare(steps=1, **settings):
    one, start, after_one, log_one = trained(1, steps, **settings)
    two, start_two, after_two, log_two = trained(2, steps, **settings)
    assert largest(start, start_two) == 0
    assert largest(start, after_one) > 1e-3, largest(start, after_one)
    assert largest(after_one, after_two) < 1e-5, largest(after_one, after_two)
    assert log_one.keys() == log_two.keys() and len(log_one) == 12
    assert log_one["mrcnn_mask_loss"][0] > 0
    for name in log_one:
        np.testing.assert_allclose(log_two[name], log_one[name], rtol=1e-4, err_msg=name)
    return two
'''


@pytest.mark.slow
def test_a_step_on_two_devices_is_the_step_on_one_with_the_same_image():
    """The gradient's norm is above what it is clipped to, and L2 is a good part of the loss."""
    code = f"EAGERLY = True\n{TWO_CPUS}{ONE_AGAINST_TWO}" + (
        "two = compare(GRADIENT_CLIP_NORM=3.0, WEIGHT_DECAY=10.0)\n"
        "print(two.distribute_strategy.num_replicas_in_sync)"
    )
    assert run(code).split()[-1] == "2"


@pytest.mark.slow
def test_other_optimizers_averages_and_checkpointing_on_two_devices():
    code = f"EAGERLY = True\n{TWO_CPUS}{ONE_AGAINST_TWO}" + (
        "compare(2, OPTIMIZER='adamw', DECOUPLED_WEIGHT_DECAY=0.1, EMA_MOMENTUM=0.5,"
        " BACKBONE=staticmethod(backbone_of_blocks), GRADIENT_CHECKPOINTING=True)"
    )
    run(code)


@pytest.mark.slow
def test_a_step_on_two_devices_of_jax():
    code = f"EAGERLY = False\n{ONE_AGAINST_TWO}" + (
        "two = compare(GRADIENT_CLIP_NORM=3.0, WEIGHT_DECAY=10.0)\n"
        "print(two.distribution.device_mesh.devices.size)"
    )
    assert run(code, KERAS_BACKEND="jax", XLA_FLAGS=XLA_FLAGS).split()[-1] == "2"


# The networks as users call them: a run, its validation, a callback that detects, a resumption.
WHOLE_RUN = """
import sys
import numpy as np

from mrcnn.training.callbacks import CocoEvaluation
from mrcnn.mask_rcnn import MaskRCNN
from tests.tiny import random_rectangles, tiny_config, weights_of

data = random_rectangles(4)


def model(**settings):
    config = tiny_config(IMAGES_PER_GPU=1, STEPS_PER_EPOCH=2, TRAIN_BN=None, **settings)
    return MaskRCNN("training", config, LOGS)


two = model(GPU_COUNT=2)
evaluation = CocoEvaluation(two, data, limit=1)
history = two.train(data, data, 1e-4, 1, "all", custom_callbacks=[evaluation]).history
assert np.isfinite(history["loss"] + history["val_loss"]).all() and "val_segm_AP" in history

one = model()
report = one.load_weights(one.find_last())
assert not report.missing and not report.unexpected and one.epoch == 1
expected = weights_of(two.keras_model)
for path, weight in weights_of(one.keras_model).items():
    np.testing.assert_array_equal(weight, expected[path], err_msg=path)

resumed = model(GPU_COUNT=2)
resumed.load_weights(resumed.find_last())
resumed.train(data, None, 1e-4, 2, "all")
assert int(resumed.keras_model.optimizer.iterations.numpy()) == 4
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_a_run_on_two_devices_from_training_to_its_resumption(backend, tmp_path):
    devices = TWO_CPUS if backend == "tensorflow" else ""
    code = f"{devices}LOGS = {str(tmp_path)!r}\n{WHOLE_RUN}"
    run(code, KERAS_BACKEND=backend, XLA_FLAGS=XLA_FLAGS)


# ---- Fewer devices -----------------------------------------------------------------------------


@pytest.fixture
def said(caplog):
    """What was said since, with nothing said before."""
    for function in (distribution._say_one_device, distribution._mirrored):
        function.cache_clear()
    caplog.set_level(logging.WARNING, logger="mrcnn")
    yield caplog
    distribution._mirrored.cache_clear()


def test_fewer_devices_than_gpu_count_are_said_once(said):
    for _ in range(2):
        with distribution.scope(64):
            assert distribution.replica_count() == 1
    (message,) = said.messages
    assert "GPU_COUNT is 64 and TensorFlow finds 1 CPU" in message
    assert "one device trains, on batches of GPU_COUNT * IMAGES_PER_GPU" in message


def test_one_device_says_nothing(said):
    with distribution.scope(1):
        assert distribution.replica_count() == 1
    assert not said.messages


@pytest.mark.parametrize(
    "settings", [{"GRADIENT_ACCUMULATION_STEPS": 2}, {"DTYPE_POLICY": "mixed_float16"}], ids=str
)
def test_what_keras_cannot_do_on_several_devices_is_done_on_one(settings, said):
    build_training_model(tiny_config(GPU_COUNT=2, **settings))
    (message,) = said.messages
    assert "accumulates gradients" in message and "mixed_float16" in message


# ---- Shards --------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [2, 3])
def test_shards_of_a_batch_are_the_batch(workers):
    dataset = random_rectangles(7)
    whole = BatchLoader(dataset, tiny_config(), batch_size=2 * workers, steps=4, seed=3)
    parts = [
        BatchLoader(dataset, tiny_config(), batch_size=2, steps=4, seed=3, shard=(i, workers))
        for i in range(workers)
    ]
    for epoch, index in [(0, 0), (0, 3), (2, 1)]:
        for loader in (whole, *parts):
            loader.epoch = epoch
        shards = zip(*(loader[index][0] for loader in parts), strict=True)
        for expected, shard in zip(whole[index][0], shards, strict=True):
            np.testing.assert_array_equal(np.concatenate(shard), expected)


def test_an_epoch_of_shards_holds_every_image():
    dataset = random_rectangles(7)
    assert len(BatchLoader(dataset, tiny_config(), batch_size=1, shard=(1, 3))) == 3


@pytest.mark.parametrize("shard", [(2, 2), (-1, 2), (0, 0)])
def test_a_shard_that_does_not_exist(shard):
    with pytest.raises(ValueError, match=r"shard is \(.*it must be \(i, n\) with 0 <= i < n"):
        BatchLoader(random_rectangles(2), tiny_config(), shard=shard)


# ---- Workers -------------------------------------------------------------------------------------


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="said where it is not JAX")
def test_workers_need_jax():
    with pytest.raises(ValueError, match="Keras runs on tensorflow.* KERAS_BACKEND=jax"):
        distribution.join("127.0.0.1:1", 2, 0)


def test_a_process_by_itself_is_the_first_worker():
    assert (distribution.worker_index(), distribution.worker_count()) == (0, 1)
    assert distribution.folder_of_worker("logs/run") == "logs/run"


def test_no_two_workers_write_into_one_folder(monkeypatch):
    monkeypatch.setattr(distribution, "worker_index", lambda: 3)
    assert distribution.folder_of_worker("run") == os.path.join("run", "worker3")
