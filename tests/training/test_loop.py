"""The training loop: resuming, a stop where training diverges, callbacks of Keras."""

import re
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras import ops
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from mrcnn import training, weights
from mrcnn.config import LOSS_NAMES
from mrcnn.data.loader import BatchLoader
from mrcnn.mask_rcnn import MaskRCNN
from mrcnn.training import compile_model
from mrcnn.training.model import minimise_losses
from mrcnn.weights.checkpoint import load_random_state
from tests.tiny import (
    propose_anchors,
    random_rectangles,
    run_eagerly,
    tiny_config,
    tiny_model,
    weights_of,
)

DATA = random_rectangles(4, seed=1)


@pytest.fixture
def eager(monkeypatch):
    run_eagerly(monkeypatch)


def training_model(folder, **settings):
    keras.utils.set_random_seed(0)
    model = MaskRCNN("training", tiny_config(**settings), folder)
    propose_anchors(model.keras_model)
    return model


# ---- Resuming ----------------------------------------------------------------------------------


class Killed(Exception):
    pass


class KillAfter(keras.callbacks.Callback):
    """Ends a training as a lost machine would."""

    def __init__(self, epochs):
        super().__init__()
        self.epochs = epochs

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epochs:
            raise Killed


def learning_rates(log_dir):
    events = EventAccumulator(f"{log_dir}/train").Reload()
    return [
        float(make_ndarray(event.tensor_proto)) for event in events.Tensors("epoch_learning_rate")
    ]


@pytest.mark.slow
def test_a_resumed_run_goes_on_with_schedule_and_averages(tmp_path, monkeypatch):
    run_eagerly(monkeypatch)
    monkeypatch.setattr(keras.random, "uniform", lambda shape, seed: ops.full(shape, 0.5))
    config = tiny_config(
        STEPS_PER_EPOCH=2,
        LEARNING_RATE_SCHEDULE="cosine",
        WARMUP_STEPS=3,
        EMA_MOMENTUM=0.5,
        DECOUPLED_WEIGHT_DECAY=0.01,
    )

    def model_in(folder):
        keras.utils.set_random_seed(0)
        model = MaskRCNN("training", config, str(tmp_path / folder))
        propose_anchors(model.keras_model)
        return model

    def train(model, *callbacks):
        model.train(DATA, DATA, 1e-3, 3, "all", custom_callbacks=callbacks)

    whole = model_in("whole")
    train(whole)
    with pytest.raises(Killed):
        train(first := model_in("parts"), KillAfter(1))
    second = model_in("parts")
    second.load_weights(second.find_last())
    assert second.epoch == 1
    train(second)

    wanted = 1e-3 * (1 + np.cos(np.pi * np.array([2, 4, 6]) / 6)) / 2 * [0.667, 1, 1]
    np.testing.assert_allclose(learning_rates(whole.log_dir), wanted, rtol=1e-3, atol=1e-9)
    np.testing.assert_allclose(learning_rates(first.log_dir)[-2:], wanted[1:], rtol=1e-3, atol=1e-9)
    trained = weights_of(whole.keras_model)
    # Two whole runs differ by 2e-5, as sums on several threads do; a step moves a weight by 1e-3.
    for path, weight in weights_of(second.keras_model).items():
        np.testing.assert_allclose(weight, trained[path], rtol=1e-4, atol=1e-4, err_msg=path)


def test_the_random_state_of_sampling_is_in_the_checkpoint(tmp_path):
    made, config, batch = tiny_model()
    compile_model(made, config, 0.001, 0.9)
    training.start_optimizer(made)
    made(batch, training=True)  # moves the state
    weights.save_checkpoint(made, tmp_path / "checkpoint.h5")
    first = np.asarray(made(batch, training=True)["rois"])
    other, _, _ = tiny_model(seed=5)
    weights.load_weights(other, tmp_path / "checkpoint.h5")
    assert (np.asarray(other(batch, training=True)["rois"]) != first).any()
    load_random_state(other, tmp_path / "checkpoint.h5")
    np.testing.assert_array_equal(other(batch, training=True)["rois"], first)


def test_checkpoints_with_another_random_state_or_none(tmp_path):
    def network(dropouts):
        x = inputs = keras.Input((3,))
        for _ in range(dropouts):
            x = keras.layers.Dropout(0.5, seed=1)(keras.layers.Dense(2)(x))
        model = keras.Model(inputs, x)
        model.compile("sgd")
        return model

    one, path = network(1), tmp_path / "one.h5"
    weights.save_checkpoint(one, path)
    with pytest.raises(ValueError, match="one.h5 is that of 1 generators, and this model has 2"):
        load_random_state(network(2), path)
    with h5py.File(path, "a") as file:
        del file["random_state"]
    before = [np.asarray(variable) for variable in one.variables]
    load_random_state(one, path)
    for variable, value in zip(one.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_checkpoints_have_the_averages_of_the_weights(tmp_path, monkeypatch):
    run_eagerly(monkeypatch)
    bias = "mrcnn_class_conv1"
    seen = []

    class Record(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(self.model.get_layer(bias).get_weights()[0])

    keras.utils.set_random_seed(0)
    config = tiny_config(STEPS_PER_EPOCH=3, EMA_MOMENTUM=0.5)
    model = MaskRCNN("training", config, str(tmp_path))
    propose_anchors(model.keras_model)
    model.train(DATA, None, 0.01, 1, "all", custom_callbacks=[Record()])
    model.load_weights(model.find_last())
    saved = model.keras_model.get_layer(bias).get_weights()[0]
    average = 0.25 * seen[0] + 0.25 * seen[1] + 0.5 * seen[2]
    np.testing.assert_allclose(saved, average, atol=1e-6)
    assert np.abs(saved - seen[2]).max() > 1e-5


# ---- Divergence ----------------------------------------------------------------------------------


class Spoil(keras.callbacks.Callback):
    """Makes one weight NaN before or after a step."""

    def __init__(self, epoch, batch, when):
        super().__init__()
        setattr(self, f"on_train_batch_{when}", self.act)
        self.at, self.epoch = (epoch, batch), None

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def act(self, batch, logs=None):
        if (self.epoch, batch) == self.at:
            bias = self.model.get_layer("mrcnn_class_conv1").weights[1]
            bias.assign(np.full(bias.shape, np.nan))


@pytest.mark.parametrize(
    ("at", "when", "said", "checkpoints"),
    [
        ((1, 1), "begin", "the loss is nan after epoch 2, step 2", 1),
        # The loss of the epoch's last step was computed before.
        ((1, 1), "end", "the weight .*/bias is not finite after epoch 2, step 2", 1),
        ((0, 0), "begin", "the loss is nan after epoch 1, step 1", 0),
    ],
)
def test_a_training_that_diverges_stops_and_keeps_the_last_good_checkpoint(
    tmp_path, eager, at, when, said, checkpoints
):
    model = training_model(tmp_path, STEPS_PER_EPOCH=2, VALIDATION_STEPS=0)
    with pytest.raises(FloatingPointError, match=f"the training diverged: {said} ") as caught:
        model.train(DATA, None, 1e-4, 3, "heads", custom_callbacks=[Spoil(*at, when)])
    images = {int(i) for i in re.findall(r"image (\d) \(tiny \1\)", str(caught.value))}
    loader = BatchLoader(DATA, model.config, steps=2, initial_epoch=at[0])
    assert images == {int(meta[0]) for meta in loader[at[1]][0][1]}
    assert model.epoch == checkpoints
    assert len(list(Path(model.log_dir).glob("*.h5"))) == checkpoints
    kept = model.find_last() if checkpoints else "no checkpoint is written yet"
    assert kept in str(caught.value)


def test_an_infinite_learning_rate_writes_no_checkpoint(tmp_path, eager):
    model = training_model(tmp_path, STEPS_PER_EPOCH=2, VALIDATION_STEPS=0)
    with pytest.raises(FloatingPointError, match="the training diverged"):
        model.train(DATA, None, 1e30, 3, "all")
    assert not list(Path(model.log_dir).glob("*.h5"))


# ---- Callbacks of Keras --------------------------------------------------------------------------


@pytest.mark.parametrize("monitor", [*LOSS_NAMES, *(f"val_{name}" for name in LOSS_NAMES)])
def test_callbacks_of_keras_know_that_less_is_better_for_every_loss(monitor):
    made = [
        keras.callbacks.EarlyStopping(monitor=monitor),
        keras.callbacks.ReduceLROnPlateau(monitor=monitor),
        keras.callbacks.ModelCheckpoint("x.keras", monitor=monitor),
        keras.callbacks.EarlyStopping(monitor=monitor, mode="max"),
        keras.callbacks.EarlyStopping(monitor="val_segm_AP"),
    ]
    minimise_losses([*made, keras.callbacks.History()])
    assert [callback.mode for callback in made] == ["min", "min", "min", "max", "auto"]


def test_keras_own_fit_knows_it_too(tmp_path, eager):
    model = training_model(tmp_path, STEPS_PER_EPOCH=1)
    model.set_trainable("heads", verbose=0)
    model.compile(1e-3, 0.9)
    stop = keras.callbacks.EarlyStopping(monitor="mrcnn_mask_loss")
    loader = BatchLoader(DATA, model.config, steps=1)
    model.keras_model.fit(loader, epochs=1, callbacks=[stop], shuffle=False, verbose=0)
    assert stop.mode == "min"


def test_early_stopping_on_a_loss_without_mode(tmp_path, eager):
    model = training_model(tmp_path, STEPS_PER_EPOCH=1)
    worse = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: logs.update(val_mrcnn_mask_loss=1.0 + epoch)
    )
    stop = keras.callbacks.EarlyStopping(monitor="val_mrcnn_mask_loss", patience=1)
    slower = keras.callbacks.ReduceLROnPlateau(monitor="rpn_class_loss", patience=1)
    best = keras.callbacks.ModelCheckpoint(
        str(tmp_path / "best.weights.h5"),
        monitor="val_mrcnn_mask_loss",
        save_best_only=True,
        save_weights_only=True,
    )
    callbacks = [worse, stop, slower, best]
    model.train(DATA, DATA, 1e-4, 4, "heads", custom_callbacks=callbacks)
    assert model.epoch == 2 and float(stop.best) == float(best.best) == 1.0
    assert (tmp_path / "best.weights.h5").is_file()
