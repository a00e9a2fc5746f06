"""callbacks.py: figures go into logs, TensorBoard, History and the table; the best weights stay;
every step's losses are those of the step."""

import copy
import os
import subprocess
import sys
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mrcnn import evaluation, losses
from mrcnn.config import LOSS_NAMES
from mrcnn.evaluation.coco import coco_evals
from mrcnn.mask_rcnn import MaskRCNN
from mrcnn.training import callbacks
from mrcnn.training.callbacks import CocoEvaluation, StepLog, read_table, write_table
from mrcnn.training.event_files import read_run
from tests.tiny import propose_anchors, random_rectangles, run_eagerly, tiny_config, weights_of

TRAIN = random_rectangles(4, seed=1)


def training_model(folder, **settings):
    keras.utils.set_random_seed(0)
    model = MaskRCNN("training", tiny_config(VALIDATION_STEPS=0, **settings), folder)
    propose_anchors(model.keras_model)
    return model


def given_figures(monkeypatch, *segm_ap):
    """Let the evaluations find these segm APs in turn; box AP is always half, no small objects."""
    values = iter(segm_ap)

    def evals(model, dataset, **images):
        figures = dict.fromkeys(evaluation.COCO_FIGURES, 0.25) | {"APs": -1.0}
        return {"bbox": {**figures, "AP": 0.5}, "segm": {**figures, "AP": next(values)}}

    monkeypatch.setattr(callbacks, "coco_evals", evals)
    monkeypatch.setattr(callbacks, "coco_figures", lambda figures: figures)
    by_class = {"bar": 0.5, "block": -1.0}  # no object of the second class
    monkeypatch.setattr(callbacks, "ap_by_class", lambda figures: by_class)


@pytest.mark.slow
def test_the_figures_are_those_of_detecting_with_the_weights_as_they_are(tmp_path, monkeypatch):
    run_eagerly(monkeypatch)
    model = training_model(tmp_path)
    seen = []

    def evals(detector, dataset, **images):
        seen.append(weights_of(detector.keras_model))
        return coco_evals(detector, dataset, **images)

    monkeypatch.setattr(callbacks, "coco_evals", evals)
    callback = CocoEvaluation(model, TRAIN, limit=3)
    history = model.train(TRAIN, None, 1e-3, 2, "all", custom_callbacks=[callback])
    assert {len(history.history[f"val_{name}"]) for name in ("bbox_AP", "segm_AR100")} == {2}
    before, after = seen
    trained = weights_of(model.keras_model)
    assert before.keys() <= trained.keys()
    for path in before:
        np.testing.assert_array_equal(after[path], trained[path], err_msg=path)
    assert any((before[path] != after[path]).any() for path in before)
    best = training_model(tmp_path / "elsewhere")
    best.load_weights(f"{model.log_dir}/mask_rcnn_tiny_best.h5")
    assert best.epoch == 0  # no checkpoint: going on from it is a new run
    found = weights_of(best.keras_model)
    for path in before:  # both epochs found nothing: the first stays the best
        np.testing.assert_array_equal(found[path], before[path], err_msg=path)


def test_every_second_epoch_to_table_history_and_tensorboard(tmp_path, monkeypatch):
    run_eagerly(monkeypatch)
    given_figures(monkeypatch, 0.1, 0.3)
    model = training_model(tmp_path, STEPS_PER_EPOCH=1)
    callback = CocoEvaluation(model, TRAIN, every=2)
    history = model.train(TRAIN, None, 1e-4, 5, "heads", custom_callbacks=[callback]).history
    assert history["val_segm_AP"] == [0.1, 0.3] and history["val_bbox_AP"] == [0.5, 0.5]
    assert "val_segm_APs" not in history and len(history["loss"]) == 5
    rows = read_table(f"{model.log_dir}/coco_ap.csv")
    assert [(row["epoch"], row["segm_AP"]) for row in rows] == [(2, 0.1), (4, 0.3)]
    assert set(rows[0]) == {"epoch", *callbacks.FIGURES} - {"bbox_APs", "segm_APs"}
    events = EventAccumulator(f"{model.log_dir}/validation").Reload()
    assert [event.step for event in events.Tensors("epoch_segm_AP")] == [1, 3]


def test_a_training_without_progress_ends(tmp_path, caplog):
    figures = [0.1, 0.3, 0.2, 0.3, 0.4]
    run = SimpleNamespace(figures_path=str(tmp_path / "coco_ap.csv"))
    model = SimpleNamespace(training_run=run)
    ended = []
    for epoch in range(len(figures)):
        callback = callbacks.StopWithoutProgress(model, 2)  # each time, as in a resumed run
        callback.set_model(SimpleNamespace(stop_training=False))
        rows = [{"epoch": e + 1, "segm_AP": figures[e]} for e in range(epoch + 1)]
        callbacks.write_table(run.figures_path, rows)
        callback.on_epoch_end(epoch)
        ended.append(callback.model.stop_training)
    assert ended == [False, False, False, True, False]
    with pytest.raises(ValueError, match="patience is 0"):
        callbacks.StopWithoutProgress(model, 0)


def test_the_best_weights_stay_also_over_a_resumed_run(tmp_path, monkeypatch):
    given_figures(monkeypatch, 0.2, 0.4, 0.1, 0.3, 0.5)
    model = training_model(tmp_path)
    callback = CocoEvaluation(model, TRAIN)
    bias = model.keras_model.get_layer("mrcnn_bbox_fc").weights[1]

    def best_after(epoch, callback):
        bias.assign(np.full(bias.shape, epoch + 1.0))
        callback.on_epoch_end(epoch, logs := {})
        saved = training_model(tmp_path / "read")
        saved.load_weights(callback.best_path)
        return float(saved.keras_model.get_layer("mrcnn_bbox_fc").weights[1][0]), logs

    os.makedirs(model.log_dir)
    assert [best_after(epoch, callback)[0] for epoch in range(3)] == [1, 2, 2]
    # The run was killed and goes on from its second epoch: the third is done again.
    resumed = CocoEvaluation(model, TRAIN)
    assert best_after(2, resumed)[0] == 2
    assert best_after(3, resumed)[0] == 4
    table = read_table(f"{model.log_dir}/coco_ap.csv")
    assert [(row["epoch"], row["segm_AP"]) for row in table] == [
        (1, 0.2), (2, 0.4), (3, 0.3), (4, 0.5)
    ]  # fmt: skip


def test_settings_of_detection_are_those_of_training_but_for_a_few():
    config = tiny_config(IMAGE_RESIZE_MODE="crop", IMAGES_PER_GPU=3, DETECTION_MIN_CONFIDENCE=0.7)
    before = copy.deepcopy(vars(config))
    for_detection = callbacks.detection_config(config)
    assert (for_detection.BATCH_SIZE, for_detection.IMAGE_RESIZE_MODE) == (1, "pad64")
    assert for_detection.DETECTION_MIN_CONFIDENCE == 0
    assert for_detection.DETECTION_MAX_INSTANCES == config.DETECTION_MAX_INSTANCES
    assert vars(config) == before and config.IMAGES_PER_GPU == 3
    assert callbacks.detection_config(tiny_config()).IMAGE_RESIZE_MODE == "square"


def test_table_round_trip_and_what_is_none(tmp_path):
    path = tmp_path / "coco_ap.csv"
    assert read_table(path) == []
    rows = [{"epoch": 1, "bbox_AP": 0.125}, {"epoch": 12, "segm_ARl": 1 / 3, "bbox_AP": 0.0}]
    write_table(path, rows)
    assert read_table(path) == rows
    assert [entry.name for entry in tmp_path.iterdir()] == ["coco_ap.csv"]
    for text in ("a,b\n1,2\n", "epoch,bbox_AP\none,0.5\n", "epoch,bbox_AP\n1,high\n"):
        path.write_text(text)
        with pytest.raises(ValueError, match="coco_ap.csv is not a table of COCO figures"):
            read_table(path)


def test_every_must_be_an_epoch_at_least(tmp_path):
    with pytest.raises(ValueError, match="every is 0"):
        CocoEvaluation(training_model(tmp_path), TRAIN, every=0)


# ---- StepLog -------------------------------------------------------------------------------------

X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
Y = X.sum(axis=1, keepdims=True) + 1
BATCH, STEPS = 4, 10


def line_model():
    """A line through zero for X and Y, trained by SGD with a learning rate that falls each step."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])
    model.set_weights([np.zeros((3, 1))])
    rate = keras.optimizers.schedules.ExponentialDecay(0.125, 1, 0.96)
    model.compile(keras.optimizers.SGD(rate), loss="mse")
    return model


def fit(model, **settings):
    data = {"batch_size": BATCH, "shuffle": False, "verbose": 0, **settings}
    return model.fit(X, Y, **data)


def steps_by_hand(count):
    """Loss and learning rate of each step of `line_model`."""
    kernel, losses, rates = np.zeros((3, 1)), [], []
    for step in range(count):
        first = BATCH * (step % STEPS)
        x, y = X[first : first + BATCH].astype(float), Y[first : first + BATCH]
        losses.append(np.mean((x @ kernel - y) ** 2))
        rates.append(0.125 * 0.96**step)
        kernel -= rates[-1] * 2 / BATCH * x.T @ (x @ kernel - y)
    return np.array(losses), np.array(rates)


def test_each_step_has_its_own_loss_and_learning_rate(tmp_path):
    history = fit(
        line_model(), epochs=2, callbacks=[StepLog(tmp_path)], validation_data=(X, Y)
    ).history
    run = read_run(tmp_path)
    assert set(run) == {"Training/Loss", "Training/learning_rate", "Validation/Loss"}
    losses, rates = steps_by_hand(20)
    assert run["Training/Loss"].steps.tolist() == list(range(1, 21))
    np.testing.assert_allclose(run["Training/Loss"].values, losses, rtol=1e-4)
    np.testing.assert_allclose(run["Training/learning_rate"].values, rates, rtol=1e-5)
    assert run["Validation/Loss"].steps.tolist() == [1, 2]
    np.testing.assert_allclose(run["Validation/Loss"].values, history["val_loss"], rtol=1e-6)


def test_an_entry_every_few_steps_is_their_mean_and_an_epoch_ends_one(tmp_path):
    fit(line_model(), epochs=2, callbacks=[StepLog(tmp_path, every=4)])
    run = read_run(tmp_path)
    losses, rates = steps_by_hand(20)
    ends = [4, 8, 10, 14, 18, 20]
    begins = [0, *ends[:-1]]
    assert run["Training/Loss"].steps.tolist() == ends
    means = [losses[begin:end].mean() for begin, end in zip(begins, ends, strict=True)]
    np.testing.assert_allclose(run["Training/Loss"].values, means, rtol=1e-4)
    np.testing.assert_allclose(run["Training/learning_rate"].values, rates[begins], rtol=1e-5)
    assert "Validation/Loss" not in run


def test_a_resumed_run_goes_on_counting_and_replaces_what_a_killed_one_began(tmp_path):
    log = StepLog(tmp_path)

    class Killed(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if self.params["steps"] == batch + 3:
                raise KeyboardInterrupt

    model = line_model()
    with pytest.raises(KeyboardInterrupt):
        fit(model, callbacks=[log, Killed()])
    # Nothing waits in a buffer.
    assert read_run(tmp_path)["Training/Loss"].steps.tolist() == list(range(1, 9))
    model = line_model()
    fit(model, callbacks=[StepLog(tmp_path)])
    fit(model, initial_epoch=1, epochs=2, callbacks=[StepLog(tmp_path)])
    run = read_run(tmp_path)
    assert run["Training/Loss"].steps.tolist() == list(range(1, 21))
    np.testing.assert_allclose(run["Training/Loss"].values, steps_by_hand(20)[0], rtol=1e-4)


def test_all_losses_of_a_training_are_those_of_its_steps(tmp_path, monkeypatch):
    run_eagerly(monkeypatch)
    seen = []
    all_losses = losses.all_losses

    def note(outputs):
        found = all_losses(outputs)
        seen.append([float(found[name]) for name in LOSS_NAMES])
        return found

    monkeypatch.setattr(losses, "all_losses", note)
    weighted = {"LOSS_WEIGHTS": {**dict.fromkeys(LOSS_NAMES, 1.0), "rpn_bbox_loss": 0.5}}
    settings = {"STEPS_PER_EPOCH": 3, "VALIDATION_STEPS": 1, "WEIGHT_DECAY": 0.0, **weighted}
    keras.utils.set_random_seed(0)
    model = MaskRCNN("training", tiny_config(**settings), tmp_path)
    log = StepLog(model.log_dir)
    history = model.train(TRAIN, TRAIN, 1e-3, 2, "heads", custom_callbacks=[log]).history
    run = read_run(model.log_dir)
    # Of each epoch three steps, then validation.
    values = np.reshape(seen, (2, 4, 5)) * [1, 0.5, 1, 1, 1]
    for k, name in enumerate(LOSS_NAMES):
        np.testing.assert_allclose(
            run[f"Training/{name}"].values, values[:, :3, k].ravel(), rtol=1e-5, atol=1e-6
        )
        np.testing.assert_allclose(run[f"Validation/{name}"].values, values[:, 3, k], rtol=1e-5)
        np.testing.assert_allclose(run[name].values, history[name], rtol=1e-5)
    sums = values.sum(axis=-1)
    np.testing.assert_allclose(run["Training/Loss"].values, sums[:, :3].ravel(), rtol=1e-5)
    np.testing.assert_allclose(run["Validation/Loss"].values, sums[:, 3], rtol=1e-5)
    assert np.ptp(values[:, :3, 0]) > 1e-3


def test_figures_of_coco_are_there_by_epochs(tmp_path, monkeypatch):
    run_eagerly(monkeypatch)
    given_figures(monkeypatch, 0.1, 0.3)
    model = training_model(tmp_path, STEPS_PER_EPOCH=1)
    both = [CocoEvaluation(model, TRAIN), StepLog(model.log_dir)]
    model.train(TRAIN, None, 1e-4, 2, "heads", custom_callbacks=both)
    run = read_run(model.log_dir)
    np.testing.assert_allclose(run["Validation/segm_AP"].values, [0.1, 0.3], rtol=1e-6)
    assert run["Validation/bbox_AP50"].steps.tolist() == [1, 2]
    assert run["Training/mrcnn_mask_loss"].steps.tolist() == [1, 2]


def test_what_is_not_finite_is_written_and_over_with_the_epoch(tmp_path):
    log = StepLog(tmp_path)
    log.set_params({"steps": 3})
    log.set_model(line_model())
    log.on_train_begin()
    for epoch, means in enumerate(((1.0, np.inf, np.inf), (1.0, 2.0, 3.0))):
        log.on_epoch_begin(epoch)
        for batch, mean in enumerate(means):
            log.on_train_batch_begin(batch)
            log.on_train_batch_end(batch, {"loss": mean})
    log.on_train_end()
    values = read_run(tmp_path)["Training/Loss"].values
    np.testing.assert_array_equal(values, [1, np.inf, np.nan, 1, 3, 5])


def test_the_learning_rate_of_half_precision_is_that_of_the_optimizer_inside():
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.5))
    assert callbacks._learning_rate(optimizer) == 0.5


def test_what_step_log_cannot_do_is_an_error(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="every is 0; it must be at least 1 step"):
        StepLog(tmp_path, every=0)
    log = StepLog(tmp_path)
    log.set_params({"steps": None})
    with pytest.raises(ValueError, match="give fit their steps_per_epoch"):
        log.on_train_begin()
    log.set_params({"steps": 3})
    monkeypatch.setitem(sys.modules, "tensorboard.summary.writer.event_file_writer", None)
    with pytest.raises(ImportError, match="pip install tensorboard"):
        log.on_train_begin()
    assert not list(tmp_path.iterdir())


# Fits `line_model` on a backend, where TensorFlow cannot be imported.
PROGRAM = """
import sys
sys.modules["tensorflow"] = None
import keras
import numpy as np
from mrcnn.training.callbacks import StepLog
x, y, folder = np.load(sys.argv[1]), np.load(sys.argv[2]), sys.argv[3]
model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])
model.set_weights([np.zeros((3, 1))])
rate = keras.optimizers.schedules.ExponentialDecay(0.125, 1, 0.96)
model.compile(keras.optimizers.SGD(rate), loss="mse")
model.fit(x, y, 4, epochs=2, shuffle=False, verbose=0, callbacks=[StepLog(folder)])
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_write_the_same_without_tensorflow(backend, tmp_path):
    pytest.importorskip(backend)
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", Y)
    files = [str(tmp_path / name) for name in ("x.npy", "y.npy", "run")]
    environment = {**os.environ, "KERAS_BACKEND": backend}
    subprocess.run([sys.executable, "-c", PROGRAM, *files], env=environment, check=True)
    run = read_run(tmp_path / "run")
    losses, rates = steps_by_hand(20)
    np.testing.assert_allclose(run["Training/Loss"].values, losses, rtol=1e-4)
    np.testing.assert_allclose(run["Training/learning_rate"].values, rates, rtol=1e-5)
