"""Nothing that was trained is lost: states within epochs, signals, killed processes."""

import json
import logging
import os
import shutil
import signal
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from mrcnn.mask_rcnn import MaskRCNN
from mrcnn.training import run as run_module
from mrcnn.training import saving
from tests.tiny import propose_anchors, random_rectangles, run_eagerly, tiny_config, weights_of
from tests.training import killed_run

DATA = random_rectangles(5)


@pytest.fixture
def eager(monkeypatch):
    run_eagerly(monkeypatch)
    # Two whole runs then have the same ROIs; how they are drawn is another test.
    monkeypatch.setattr(keras.random, "uniform", lambda shape, seed: ops.full(shape, 0.5))


def model_in(folder, **settings):
    keras.utils.set_random_seed(0)
    config = tiny_config(**{"STEPS_PER_EPOCH": 3, "CHECKPOINT_MINUTES": 0, **settings})
    model = MaskRCNN("training", config, str(folder))
    propose_anchors(model.keras_model)
    return model


def resumed_in(folder, **settings):
    model = model_in(folder, **settings)
    model.load_weights(model.find_last())
    return model


class Steps(keras.callbacks.Callback):
    """Remembers the mean loss after each step; sends a signal at one of them."""

    def __init__(self, at=None, number=signal.SIGTERM, when="train"):
        super().__init__()
        self.at, self.number, self.when, self.losses, self.calls = at, number, when, {}, []

    def on_train_begin(self, logs=None):
        self.calls.append("begin")

    def on_train_end(self, logs=None):
        self.calls.append("end")

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == self.at and self.when == "train":
            os.kill(os.getpid(), self.number)

    def on_train_batch_end(self, batch, logs=None):
        self.losses[self.epoch, batch] = logs["loss"]

    def on_test_batch_begin(self, batch, logs=None):
        if self.when == "test":
            os.kill(os.getpid(), self.number)

    def on_epoch_end(self, epoch, logs=None):
        self.losses[epoch] = dict(logs)
        if self.when == "epoch":
            os.kill(os.getpid(), self.number)


def train(model, epochs, *callbacks, validation=DATA):
    # So low that the last digits, which vary with the order of threads, choose no other ROIs.
    return model.train(DATA, validation, 1e-5, epochs, "all", custom_callbacks=callbacks, verbose=0)


def names(folder):
    return sorted(path.name for path in Path(folder).glob("*.h5"))


EMA = {"EMA_MOMENTUM": 0.5, "LEARNING_RATE_SCHEDULE": "cosine", "WARMUP_STEPS": 2}


@pytest.mark.parametrize(
    ("number", "error", "settings"),
    [("SIGTERM", SystemExit, EMA), ("SIGINT", KeyboardInterrupt, {})],
    ids=["averages and schedule", "plain"],
)
def test_a_run_stopped_within_an_epoch_goes_on_step_for_step(
    tmp_path, eager, number, error, settings
):
    train(whole := model_in(tmp_path / "whole", **settings), 3, unbroken := Steps())
    first = model_in(tmp_path / "parts", **settings)
    with pytest.raises(error) as caught:
        train(first, 3, Steps((1, 1), getattr(signal, number)))
    if error is SystemExit:
        assert caught.value.code == 143
    assert names(first.log_dir) == ["mask_rcnn_tiny_0001.h5", "mask_rcnn_tiny_0001_step000002.h5"]
    second = resumed_in(tmp_path / "parts", **settings)
    history = train(second, 3, rest := Steps())
    assert rest.calls == ["begin", "end"]
    assert history.epoch == [1, 2] and len(history.history["loss"]) == 2
    assert list(rest.losses) == [(1, 2), 1, (2, 0), (2, 1), (2, 2), 2]
    assert int(second.keras_model.optimizer.iterations) == 9
    for key, losses in rest.losses.items():
        assert losses == pytest.approx(unbroken.losses[key], rel=1e-4), key
    for path, weight in weights_of(second.keras_model).items():
        np.testing.assert_allclose(weight, weights_of(whole.keras_model)[path], atol=1e-5)
    assert names(second.log_dir) == [f"mask_rcnn_tiny_000{i}.h5" for i in (1, 2, 3)]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_train_goes_on_in_the_same_process_too(tmp_path, eager):
    train(model_in(tmp_path / "whole"), 2, unbroken := Steps())
    model = model_in(tmp_path / "parts")
    with pytest.raises(KeyboardInterrupt):
        train(model, 2, Steps((0, 1), signal.SIGINT))
    train(model, 2, rest := Steps())
    assert list(rest.losses) == [(0, 2), 0, (1, 0), (1, 1), (1, 2), 1]
    for key, losses in rest.losses.items():
        assert losses == pytest.approx(unbroken.losses[key], rel=1e-4), key


@pytest.mark.parametrize("when", ["test", "epoch"])
def test_a_signal_after_the_last_step_finishes_the_epoch(tmp_path, eager, when):
    model = model_in(tmp_path, STEPS_PER_EPOCH=1)
    with pytest.raises(SystemExit):
        train(model, 3, steps := Steps(when=when))
    assert names(model.log_dir) == ["mask_rcnn_tiny_0001.h5"]
    assert model.epoch == 1 and resumed_in(tmp_path).epoch == 1
    assert (0 in steps.losses) == (when == "epoch")


def test_a_second_signal_and_one_with_nothing_to_save_end_at_once(tmp_path, eager):
    model = model_in(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train(model, 3, Steps((0, 0), signal.SIGINT))
    assert names(model.log_dir) == [] and model.epoch == 0
    signals = saving.StopSignals()
    signals.is_deferred = True
    with signals:
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.received == signal.SIGTERM
        os.kill(os.getpid(), signal.SIGTERM)  # Slurm sends it twice
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_program_keeps_its_own_handlers():
    mine = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        before = signal.getsignal(signal.SIGTERM)
        with saving.StopSignals():
            assert signal.getsignal(signal.SIGTERM) is before
            assert signal.getsignal(signal.SIGINT) != signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, mine)
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler


class Clock:
    """A quarter of a minute passes at each look."""

    def __init__(self):
        self.seconds = 0

    def __call__(self):
        self.seconds += 15
        return self.seconds


@pytest.mark.parametrize(("minutes", "count"), [(0, 0), (60, 0), (1, 1), (0.25, 5)])
def test_the_state_is_saved_every_some_minutes(tmp_path, monkeypatch, minutes, count):
    run = run_module.new_run(tmp_path, "tiny")
    run.begin()
    callback = saving.Checkpoint(run, minutes=minutes, clock=Clock())
    callback.set_params({"steps": 6})
    saved = []

    def save(model, path, loss):
        saved.append(path)
        Path(path).touch()

    monkeypatch.setattr(saving, "save_checkpoint", save)
    callback.set_model(keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1)]))
    callback.on_train_begin()
    callback.on_epoch_begin(0)
    for batch in range(6):
        callback.on_train_batch_end(batch)
    assert len(saved) == count
    assert names(run.log_dir) == [Path(path).name for path in saved[-1:]]
    callback.on_epoch_end(0, {"val_loss": 1.0})
    assert names(run.log_dir) == ["mask_rcnn_tiny_0001.h5"]


def test_a_state_with_a_weight_that_is_not_finite_is_not_saved(tmp_path):
    run = run_module.new_run(tmp_path, "tiny")
    run.begin()
    model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1)])
    model.layers[0].kernel.assign([[float("nan")]])
    assert saving.not_finite(model).endswith("kernel")
    callback = saving.Checkpoint(run, minutes=1e-9)
    callback.set_params({"steps": 6})
    callback.set_model(model)
    callback.on_train_begin()
    callback.on_epoch_begin(0)
    callback.on_train_batch_end(0)
    assert names(run.log_dir) == []


def test_a_full_disk_is_named_with_the_last_good_checkpoint(tmp_path, eager, monkeypatch):
    model = model_in(tmp_path, STEPS_PER_EPOCH=1)
    save = saving.save_checkpoint

    def full(keras_model, path, loss):
        if path.endswith("0002.h5"):
            raise OSError(28, "No space left on device")
        save(keras_model, path, loss)

    monkeypatch.setattr(saving, "save_checkpoint", full)
    with pytest.raises(
        OSError, match=r"after epoch 2, .* No space left .* checkpoint is .*0001\.h5"
    ):
        train(model, 3)
    assert names(model.log_dir) == ["mask_rcnn_tiny_0001.h5"]


class Remove(keras.callbacks.Callback):
    """Removes the run's folder before the second epoch."""

    def __init__(self, model):
        super().__init__()
        self.mask_rcnn = model

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            shutil.rmtree(self.mask_rcnn.log_dir)


def test_a_folder_that_vanishes_is_made_again(tmp_path, eager, caplog):
    model = model_in(tmp_path, STEPS_PER_EPOCH=1)
    with caplog.at_level(logging.WARNING, "mrcnn"):
        train(model, 2, Remove(model), validation=None)
    assert f"{model.log_dir} is gone; it is made again" in caplog.text
    assert resumed_in(tmp_path).epoch == 2
    config = json.loads(Path(model.log_dir, "config.json").read_text())
    assert config["NAME"] == "tiny" and Path(model.log_dir, "run.json").is_file()


def test_a_step_beyond_the_epoch_begins_the_epoch_again(tmp_path, eager, caplog):
    with pytest.raises(SystemExit):
        train(model_in(tmp_path), 2, Steps((0, 1)))
    model = resumed_in(tmp_path, STEPS_PER_EPOCH=2)
    train(model, 1, steps := Steps(), validation=None)
    assert "is from step 2 of an epoch, which now has 2: the epoch begins again" in caplog.text
    assert [key for key in steps.losses if key != 0] == [(0, 0), (0, 1)]


# ---- Killed processes ----------------------------------------------------------------------------


@pytest.mark.slow
def test_killed_at_random_moments_the_curve_goes_on(tmp_path):
    """`python tests/training/killed_run.py kill 20` does it twenty times."""
    killed, steps, worst = killed_run.check(tmp_path, 4)
    assert killed == 4 and steps >= 4 * killed_run.STEPS and worst <= 1e-6
