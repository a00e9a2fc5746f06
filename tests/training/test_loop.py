"""Training: the original's losses and steps, what trains, the run folder, resuming."""

import os
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from mrcnn import backend, training, weights
from mrcnn.config import LOSS_NAMES, Config
from mrcnn.data.loader import BatchLoader, data_generator
from mrcnn.detection import build_inference_model
from mrcnn.mask_rcnn import MaskRCNN
from mrcnn.nn import sampling
from mrcnn.training import (
    build_training_model,
    compile_model,
    find_last,
    run_folder,
    set_trainable,
)
from seeded_weights import seeded_weight
from tests.slim import (
    TRAINING_INPUTS,
    SlimTrainingConfig,
    nearest_rows,
    seed_weights,
    use_ties_of_tf115,
)
from tests.tiny import (
    Rectangles,
    TinyConfig,
    backbone_of_blocks,
    propose_anchors,
    random_rectangles,
    run_eagerly,
    tiny_config,
    weights_of,
)

DATA = random_rectangles(4, seed=1)
KERNELS = "conv1 res4b_branch2b fpn_c3p3 mrcnn_class_logits mrcnn_mask rpn_class_raw".split()

# Positives that the reference left out, `[2, (y1, x1, y2, x2)]` normalised, by layers and step. Its
# second image had 17 in the third step of "all" (so one box is here twice) and 18 in the fourth
# step of both; it drew 16. Of the 17 and 153 choices these give its losses, to 0.1 %; the next best
# miss them by 0.24 to 0.4 %.
LEFT_OUT = {
    ("all", 2): [[0.3417, 0.2956, 0.4171, 0.4447], [0.3417, 0.2956, 0.4171, 0.4447]],
    ("all", 3): [[0.5212, 0.5783, 0.6029, 0.7278], [0.6467, 0.3267, 0.7294, 0.4725]],
    ("heads", 3): [[0.7131, 0.4880, 0.7931, 0.6325], [0.6498, 0.2680, 0.7288, 0.4161]],
}


@pytest.fixture
def left_out(monkeypatch):
    """Variable `[2, 4]`: no proposal within 0.005 of these boxes is positive."""
    boxes = keras.Variable(np.zeros((2, 4)))
    match = sampling.match_proposals

    def matched(proposals, gt_class_ids, gt_boxes):
        positive, negative, gt_index = match(proposals, gt_class_ids, gt_boxes)
        distance = ops.max(ops.abs(proposals[:, :, None] - boxes), axis=-1)
        return positive & ops.all(distance > 0.005, axis=-1), negative, gt_index

    monkeypatch.setattr(sampling, "match_proposals", matched)
    return boxes


@pytest.fixture
def reference_model(monkeypatch):
    """The slim training model with the reference weights and TensorFlow 1.15's order of ties."""
    use_ties_of_tf115(monkeypatch)
    model = build_training_model(SlimTrainingConfig())
    seed_weights(model, 11)
    return model


@pytest.fixture
def batch(golden):
    return [golden("training.npz")[f"in_{name}"] for name in TRAINING_INPUTS]


def layer_of(model, name):
    inside = model.get_layer("rpn_model") if name.startswith("rpn_") else model
    return inside.get_layer(name)


def test_detection_targets_and_losses_are_the_originals(reference_model, batch, golden):
    expected = golden("training.npz")
    outputs = {name: ops.convert_to_numpy(x) for name, x in reference_model(batch).items()}
    np.testing.assert_allclose(outputs["rpn_rois"], expected["out_rpn_rois"], atol=1e-6)
    logits = outputs["rpn_class_logits"]
    np.testing.assert_allclose(logits, expected["out_rpn_class_logits"], rtol=1e-3, atol=1e-3)
    for image in range(2):
        used = expected["n_used"][image]
        rois, wanted = outputs["rois"][image], expected["out_rois"][image]
        assert not rois[used:].any()
        distance, rows = nearest_rows(rois[:used], wanted[:used])
        assert distance.max() < 1e-6 and sorted(rows) == list(range(used))
        for name in ("target_class_ids", "target_mask"):
            found = outputs[name][image][rows]
            np.testing.assert_array_equal(found, expected[f"out_{name}"][image][:used])
        found = outputs["target_bbox"][image][rows]
        np.testing.assert_allclose(found, expected["out_target_bbox"][image][:used], atol=1e-4)

    losses = training.five_losses(outputs)
    for name, loss in losses.items():
        np.testing.assert_allclose(float(loss), expected[f"out_{name}"], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("layers", ["all", "heads"])
def test_four_steps_are_the_originals(layers, left_out, reference_model, batch, golden):
    expected = golden("training.npz")
    steps = dict(zip(expected["metrics_names"], expected[f"steps_{layers}"].T, strict=True))
    set_trainable(reference_model, layers)
    compile_model(reference_model, SlimTrainingConfig(), 0.002, 0.9)
    logs = []
    for step in range(4):
        left_out.assign(LEFT_OUT.get((layers, step), np.zeros((2, 4))))
        reference_model.reset_metrics()
        logs.append(reference_model.train_on_batch(batch, return_dict=True))
    losses = {name: np.array([float(log[name]) for log in logs]) for name in steps}

    for name in steps:
        np.testing.assert_allclose(losses[name][0], steps[name][0], rtol=1e-5, err_msg=name)
    # One draw is left: the second step takes 195 negatives of one image, which over 90 runs moved
    # its mrcnn_class_loss by -1.1 to +0.7 %. The last two steps were within 0.15 %.
    for name in steps:
        rtol = {"mrcnn_class_loss": 0.03, "loss": 0.005}.get(name, 5e-4)
        np.testing.assert_allclose(losses[name][1], steps[name][1], rtol=rtol, err_msg=name)
        np.testing.assert_allclose(losses[name][2:], steps[name][2:], rtol=4e-3, err_msg=name)

    for name in KERNELS:
        kernel = layer_of(reference_model, name).get_weights()[0]
        start = seeded_weight(11, name, "kernel", kernel.shape)
        wanted = expected[f"after_{layers}_{name}"]
        change, error = np.abs(wanted - start), np.abs(kernel - wanted)
        if not change.any():
            np.testing.assert_array_equal(kernel, start)
            continue
        assert error.max() < 0.04 * change.max(), name
        assert np.median(error) < 0.005 * change.max(), name


# ---- The loss ----------------------------------------------------------------------------------


def tiny_model(seed=0, **settings):
    """A training model, its config and a batch in which each image has positive ROIs."""
    keras.utils.set_random_seed(seed)
    config = tiny_config(**settings)
    model = build_training_model(config)
    propose_anchors(model)
    return model, config, list(BatchLoader(random_rectangles(4), config)[0][0])


@pytest.fixture(scope="module")
def traced():
    """A tiny training model whose step is compiled once for several tests, and a batch."""
    model, config, batch = tiny_model()
    compile_model(model, config, 0.001, 0.9)
    return model, config, batch


def plain_l2(model, weight_decay):
    """The original's L2: the mean of squares of each trainable weight but gamma and beta."""
    total = 0.0
    for weight in model.trainable_weights:
        if "gamma" not in weight.path and "beta" not in weight.path:
            total += weight_decay * np.mean(np.square(weight.numpy(), dtype=np.float64))
    return total


def test_a_step_reports_the_five_losses_and_their_sum(traced):
    model, config, batch = traced
    l2 = plain_l2(model, config.WEIGHT_DECAY)
    model.reset_metrics()
    log = model.train_on_batch(batch, return_dict=True)
    assert set(log) == {"loss", *LOSS_NAMES}
    assert all(log[name] > 0 for name in LOSS_NAMES)
    assert log["loss"] == pytest.approx(sum(log[name] for name in LOSS_NAMES) + l2, rel=1e-6)


def test_compile_starts_the_reported_means_afresh(monkeypatch):
    run_eagerly(monkeypatch)
    model, config, batch = tiny_model()
    for _ in range(2):
        training.compile_model(model, config, 0.001, 0.9)
        l2 = plain_l2(model, config.WEIGHT_DECAY)
        log = model.test_on_batch(batch, return_dict=True)
    assert log["loss"] == pytest.approx(sum(log[name] for name in LOSS_NAMES) + l2, rel=1e-6)


def test_the_mask_head_sees_no_more_rows_than_can_be_positive(traced):
    model, config, batch = traced[:3]
    outputs = model(batch)
    positives = np.asarray(outputs["target_class_ids"]) > 0
    rows = outputs["mrcnn_mask"].shape[1]
    assert rows == int(config.TRAIN_ROIS_PER_IMAGE * config.ROI_POSITIVE_RATIO)
    assert positives.any() and not positives[:, rows:].any()


@pytest.mark.parametrize("few", [(1, 2, 5), (5,)])
def test_masks_of_the_positive_rows_are_those_of_all_rows(few, monkeypatch):
    monkeypatch.setattr("mrcnn.execution.training_pass.MASK_ROWS", few)
    switched, switch = [], ops.switch
    monkeypatch.setattr(ops, "switch", lambda *a: switched.append(len(a[1])) or switch(*a))
    found = []
    for in_branches in (True, False):
        monkeypatch.setattr(backend, "convolves_in_branches", lambda value=in_branches: value)
        model, _, batch = tiny_model()
        found.append(model(batch, training=True))
    assert switched == [len(few) + 1]
    by_few, by_all = found
    positive = np.asarray(by_all["target_class_ids"])[:, : by_all["mrcnn_mask"].shape[1]] > 0
    np.testing.assert_array_equal(by_few["target_class_ids"], by_all["target_class_ids"])
    masks = [np.asarray(outputs["mrcnn_mask"]) for outputs in found]
    np.testing.assert_allclose(*(mask[positive] for mask in masks), atol=1e-6)
    assert masks[0].shape == masks[1].shape and positive.any()


def test_loss_weights_scale_the_sum_and_what_is_reported():
    model, config, batch = tiny_model()
    outputs = model(batch, training=True)

    def reported(**settings):
        compile_model(model, tiny_config(**settings), 0.001, 0.9)
        total = float(model.compute_loss(y_pred=outputs))
        return total, {name: float(mean.result()) for name, mean in model.loss_means.items()}

    _, plain = reported()
    total, weighted = reported(LOSS_WEIGHTS={"rpn_class_loss": 3.0, "mrcnn_mask_loss": 0.0})
    assert list(weighted) == list(plain) == list(LOSS_NAMES)
    factors = {"rpn_class_loss": 3.0, "mrcnn_mask_loss": 0.0}
    for name in LOSS_NAMES:
        assert weighted[name] == pytest.approx(plain[name] * factors.get(name, 1.0))
    l2 = plain_l2(model, config.WEIGHT_DECAY)
    assert total == pytest.approx(sum(weighted.values()) + l2, rel=1e-6)


def test_another_optimizer_keeps_loss_weights_and_l2():
    model, config, _ = tiny_model(WEIGHT_DECAY=0.25, LOSS_WEIGHTS={"rpn_class_loss": 3.0})
    model.compile(optimizer=keras.optimizers.Adam(0.001), loss=[None] * len(model.outputs))
    assert model.weight_decay == 0.25 and model.loss_weights == {"rpn_class_loss": 3.0}
    training.compile_model(model, config, 0.001, 0.9)
    model.compile(keras.optimizers.Adam(0.001), {"mrcnn_mask_loss": 2.0}, 0.5)
    model.compile(keras.optimizers.Adam(0.001))
    assert model.weight_decay == 0.5 and model.loss_weights == {"mrcnn_mask_loss": 2.0}
    model.compile(keras.optimizers.Adam(0.001), {}, 0.0)
    assert model.weight_decay == 0 and model.loss_weights == {}


def test_l2_counts_only_what_trains():
    model, config, batch = tiny_model()
    outputs = model(batch, training=True)
    losses = []
    for chosen in ("all", "mrcnn_class_logits"):
        set_trainable(model, chosen)
        compile_model(model, tiny_config(WEIGHT_DECAY=10.0), 0.001, 0.9)
        loss = float(model.compute_loss(y_pred=outputs)) - plain_l2(model, 10.0)
        losses.append(loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert len(model.trainable_weights) == 2


def test_gradients_are_clipped_by_their_global_norm():
    model, config, _ = tiny_model()
    compile_model(model, config, 0.001, 0.9)
    assert model.optimizer.global_clipnorm == 5.0 and model.optimizer.clipnorm is None


def test_thirty_steps_on_a_handful_of_images_lower_the_loss(traced):
    model, config, _ = traced
    loader = BatchLoader(random_rectangles(4), config)
    logs = []
    for step in range(30):
        loader.epoch = step
        model.reset_metrics()
        logs.append(model.train_on_batch(loader[0][0], return_dict=True)["loss"])
    assert np.isfinite(logs).all()
    assert np.mean(logs[-5:]) < 0.6 * np.mean(logs[:5])


# ---- Optimizers ----------------------------------------------------------------------------------


def optimizer_of(learning_rate=0.1, **settings):
    return training.build_optimizer(tiny_config(**settings), learning_rate, 0.9)


def stepped(optimizer, *gradients, start=2.0):
    """Values of the variables `kernel` and `gamma` after steps with these gradients."""
    variables = [keras.Variable(start, name=name) for name in ("kernel", "gamma")]
    optimizer.build(variables)
    for gradient in gradients:
        optimizer.apply([ops.full((), gradient)] * 2, variables)
    return [float(variable) for variable in variables]


def test_the_optimizer_is_the_originals_unless_another_is_asked_for():
    optimizer = optimizer_of()
    assert type(optimizer) is keras.optimizers.SGD and optimizer.momentum == 0.9
    assert optimizer.weight_decay is None and optimizer.gradient_accumulation_steps is None
    assert not optimizer.use_ema
    assert type(optimizer_of(OPTIMIZER="adam")) is keras.optimizers.Adam
    assert type(optimizer_of(OPTIMIZER="adamw")) is keras.optimizers.AdamW


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_decoupled_decay_takes_a_part_of_each_weight_but_gamma_and_beta(name):
    decayed = optimizer_of(OPTIMIZER=name, DECOUPLED_WEIGHT_DECAY=0.5)
    kernel, gamma = stepped(decayed, 0.0, 0.0)
    assert kernel == pytest.approx(2.0 * (1 - 0.1 * 0.5) ** 2) and gamma == 2.0
    assert stepped(optimizer_of(OPTIMIZER=name), 0.0) == [2.0, 2.0]


def test_weights_decay_once():
    model, config, _ = tiny_model(WEIGHT_DECAY=0.25, DECOUPLED_WEIGHT_DECAY=0.5)
    assert model.weight_decay == 0
    compile_model(model, config, 0.001, 0.9)
    assert model.weight_decay == 0 and model.optimizer.weight_decay == 0.5
    compile_model(model, tiny_config(WEIGHT_DECAY=0.25), 0.001, 0.9)
    assert model.weight_decay == 0.25 and model.optimizer.weight_decay is None


def test_accumulated_gradients_make_one_step_of_their_mean():
    assert stepped(optimizer_of(GRADIENT_ACCUMULATION_STEPS=2), 1.0) == [2.0, 2.0]
    kernel, _ = stepped(optimizer_of(GRADIENT_ACCUMULATION_STEPS=2), 1.0, 3.0)
    assert kernel == pytest.approx(2.0 - 0.1 * 2.0)


# ---- Learning rate -------------------------------------------------------------------------------


def rates(steps, **settings):
    """The learning rate at each of a training's batches, 1 before schedules."""
    schedule = training.learning_rate_schedule(tiny_config(**settings), 1.0, steps)
    return np.array([float(schedule(step)) for step in range(steps)])


def test_a_warm_up_rises_in_a_line_from_a_thousandth():
    found = rates(12, WARMUP_STEPS=8)
    np.testing.assert_allclose(found[:9], np.linspace(0.001, 1, 9), rtol=1e-5)
    np.testing.assert_allclose(found[8:], 1.0, rtol=1e-6)


def test_steps_and_cosine_fall_over_the_whole_training():
    drops = rates(12, LEARNING_RATE_SCHEDULE="step", LEARNING_RATE_DROPS=(0.5, 0.75))
    np.testing.assert_allclose(drops, [1] * 6 + [0.1] * 3 + [0.01] * 3, rtol=1e-5)
    wave = (1 + np.cos(np.pi * np.arange(12) / 12)) / 2
    np.testing.assert_allclose(rates(12, LEARNING_RATE_SCHEDULE="cosine"), wave, atol=1e-6)
    both = rates(12, LEARNING_RATE_SCHEDULE="cosine", WARMUP_STEPS=4)
    rise = np.minimum(np.linspace(0.001, 1, 5)[np.minimum(np.arange(12), 4)], 1)
    np.testing.assert_allclose(both, wave * rise, atol=1e-6)


def test_a_constant_rate_stays_a_number_that_callbacks_can_set():
    assert training.learning_rate_schedule(tiny_config(), 0.25, 10) == 0.25


def test_a_schedule_survives_keras_own_format():
    config = tiny_config(LEARNING_RATE_SCHEDULE="cosine", WARMUP_STEPS=3)
    schedule = training.learning_rate_schedule(config, 0.5, 9)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert [float(copy(step)) for step in range(9)] == [float(schedule(s)) for s in range(9)]


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


# ---- Half precision ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "policy", ["mixed_bfloat16", pytest.param("mixed_float16", marks=pytest.mark.slow)]
)
def test_half_precision_is_in_the_layers_and_nowhere_else(policy, monkeypatch, tmp_path):
    run_eagerly(monkeypatch)
    model, config, batch = tiny_model(DTYPE_POLICY=policy)
    assert keras.config.dtype_policy().name == "float32"
    assert layer_of(model, "res4a_branch2a").compute_dtype == policy.removeprefix("mixed_")
    for name in ("ROI", "proposal_targets", "rpn_class_xxx"):
        assert layer_of(model, name).compute_dtype == "float32"
    assert {str(weight.dtype) for weight in model.trainable_weights} == {"float32"}
    plain, _, _ = tiny_model()
    weights.copy_weights(plain, model)
    training.compile_model(model, config, 0.001, 0.9)
    training.compile_model(plain, tiny_config(), 0.001, 0.9)
    log = model.test_on_batch(batch, return_dict=True)
    wanted = plain.test_on_batch(batch, return_dict=True)
    for name in ("rpn_class_loss", "rpn_bbox_loss"):
        assert log[name] == pytest.approx(wanted[name], rel=0.03)
    before = weights_of(model)
    training.start_optimizer(model)
    if policy == "mixed_float16":  # steps whose gradients overflow find this factor otherwise
        model.optimizer.dynamic_scale.assign(8.0)
    log = model.train_on_batch(batch, return_dict=True)
    assert np.isfinite(list(log.values())).all()
    changed = [path for path, weight in weights_of(model).items() if (weight != before[path]).any()]
    assert any("mrcnn_mask" in path for path in changed)

    path = tmp_path / "checkpoint.h5"
    weights.save_checkpoint(model, path)
    other, _, _ = tiny_model(seed=1, DTYPE_POLICY=policy)
    training.compile_model(other, config, 0.001, 0.9)
    training.start_optimizer(other)
    weights.load_weights(other, path)
    weights.load_optimizer(other, path)
    assert int(other.optimizer.iterations) == 1
    for mine, theirs in zip(other.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(mine, theirs, err_msg=theirs.path)


# ---- Gradient checkpointing ----------------------------------------------------------------------


def test_a_step_that_computes_blocks_again_changes_the_weights_alike(monkeypatch):
    monkeypatch.setattr(keras.random, "uniform", lambda shape, seed: ops.full(shape, 0.5))
    plain, config, batch = tiny_model(BACKBONE=staticmethod(backbone_of_blocks))
    again, _, _ = tiny_model(BACKBONE=staticmethod(backbone_of_blocks), GRADIENT_CHECKPOINTING=True)
    assert len(again.block_ends) == 4
    weights.copy_weights(plain, again)
    before = weights_of(plain)
    for model in (plain, again):
        compile_model(model, config, 0.01, 0.9)
    plain.run_eagerly = True
    logs = [model.train_on_batch(batch, return_dict=True) for model in (plain, again)]
    assert logs[1] == pytest.approx(logs[0], rel=1e-4)
    changed = weights_of(plain)
    assert (changed["conv1/kernel"] != before["conv1/kernel"]).any()
    for path, weight in weights_of(again).items():
        np.testing.assert_allclose(weight, changed[path], rtol=1e-4, atol=1e-6, err_msg=path)


def test_a_backbone_without_blocks_cannot_compute_them_again():
    with pytest.raises(ValueError, match="GRADIENT_CHECKPOINTING is True, and .* no blocks"):
        build_training_model(tiny_config(GRADIENT_CHECKPOINTING=True))


# ---- Images without objects ----------------------------------------------------------------------


def test_images_without_objects_teach_the_background(monkeypatch):
    run_eagerly(monkeypatch)
    keras.utils.set_random_seed(0)
    config = tiny_config(TRAIN_EMPTY_IMAGES=True)
    model = build_training_model(config)
    batch = list(BatchLoader(Rectangles([[], []]), config)[0][0])
    outputs = model(batch, training=True)
    assert (ops.convert_to_numpy(outputs["rois"]) != 0).any(axis=-1).sum() == 2 * 14
    training.compile_model(model, config, 0.01, 0.9)
    logs = []
    for _ in range(3):
        model.reset_metrics()
        logs.append(model.train_on_batch(batch, return_dict=True))
    for name in ("rpn_class_loss", "mrcnn_class_loss"):
        assert logs[0][name] > logs[-1][name] > 0
    for name in ("rpn_bbox_loss", "mrcnn_bbox_loss", "mrcnn_mask_loss"):
        assert logs[0][name] == 0


# ---- What trains -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def resnet50():
    config = type("ResNet50", (Config,), {"BACKBONE": "resnet50", "NUM_CLASSES": 3})()
    return build_inference_model(config)


def stage(name):
    """Stage of the ResNet a layer is in; 6 for what comes after."""
    found = re.fullmatch(r"(res|bn)([2-5]).*", name)
    return int(found.group(2)) if found else 1 if name in ("conv1", "bn_conv1") else 6


def leaves(model):
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from leaves(layer)
        elif layer.weights:
            yield layer


@pytest.mark.parametrize(
    ("preset", "first"), [("all", 1), ("3+", 3), ("4+", 4), ("5+", 5), ("heads", 6)]
)
def test_presets_let_exactly_their_stages_train(resnet50, preset, first):
    selected = set_trainable(resnet50, preset)
    wanted = [layer.name for layer in leaves(resnet50) if stage(layer.name) >= first]
    assert selected == wanted and len(wanted) >= 25
    for layer in leaves(resnet50):
        assert layer.trainable == (layer.name in wanted)
        assert bool(layer.trainable_weights) == (layer.name in wanted)


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("conv1", ["conv1"]),
        ("rpn_class_raw|mrcnn_mask", ["rpn_class_raw", "mrcnn_mask"]),
        (r"fpn_p\d", ["fpn_p5", "fpn_p4", "fpn_p3", "fpn_p2"]),
    ],
)
def test_a_regular_expression_selects_layers_by_their_whole_name(resnet50, expression, wanted):
    assert sorted(set_trainable(resnet50, expression)) == sorted(wanted)
    names = {weight.path.split("/")[-2] for weight in resnet50.trainable_weights}
    assert names == set(wanted)


@pytest.mark.parametrize("expression", ["head", "res4", "", "fpn_"])
def test_an_expression_that_matches_nothing_is_an_error(resnet50, expression):
    with pytest.raises(ValueError, match=rf"layers is '{expression}', which matches no layer"):
        set_trainable(resnet50, expression)


def test_an_expression_that_is_none_is_an_error(resnet50):
    with pytest.raises(ValueError, match=r"layers is '\(', no regular expression .* heads, 5\+"):
        set_trainable(resnet50, "(")


def test_an_error_leaves_what_trains_as_it_was(resnet50):
    set_trainable(resnet50, "heads")
    before = len(resnet50.trainable_weights)
    with pytest.raises(ValueError):
        set_trainable(resnet50, "head")
    assert len(resnet50.trainable_weights) == before


def changed_by_two_steps(monkeypatch, layers, **settings):
    """Paths of the weights that two steps changed, and of those they left bit-equal."""
    run_eagerly(monkeypatch)
    # So many anchors are sampled that every level of the pyramid has a part in the loss.
    model, config, batch = tiny_model(RPN_TRAIN_ANCHORS_PER_IMAGE=1000, **settings)
    set_trainable(model, layers)
    training.compile_model(model, config, 0.001, 0.9)
    before = weights_of(model)
    for _ in range(2):
        model.train_on_batch(batch)
    after = weights_of(model)
    changed = {path for path in before if (before[path] != after[path]).any()}
    return changed, before.keys() - changed


def is_statistic(path):
    return "moving_" in path


def test_frozen_layers_stay_bit_equal_and_the_others_train(monkeypatch):
    changed, kept = changed_by_two_steps(monkeypatch, "4+")
    frozen = {path for path in kept | changed if stage(path.split("/")[-2]) < 4}
    assert kept == frozen | {path for path in kept | changed if is_statistic(path)}


def test_gamma_and_beta_train_and_statistics_stay_with_train_bn_false(monkeypatch):
    changed, kept = changed_by_two_steps(monkeypatch, "all", TRAIN_BN=False)
    assert kept == {path for path in kept if is_statistic(path)}
    assert {path.split("/")[-1] for path in kept} == {"moving_mean", "moving_variance"}
    assert len([path for path in changed if path.endswith(("gamma", "beta"))]) == 2 * 11


@pytest.mark.parametrize("layers", ["all", "heads"])
def test_statistics_of_training_layers_move_with_train_bn_none(monkeypatch, layers):
    changed, kept = changed_by_two_steps(monkeypatch, layers, TRAIN_BN=None)
    moved = {path.split("/")[-2] for path in changed if is_statistic(path)}
    bn = {path.split("/")[-2] for path in changed | kept if is_statistic(path)}
    assert moved == (bn if layers == "all" else {name for name in bn if stage(name) == 6})


# ---- Variants of the graph ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"USE_MINI_MASK": False},
        {"GPU_COUNT": 2},
        {"RPN_ANCHOR_STRIDE": 2},
        {"IMAGE_RESIZE_MODE": "crop"},
        {"TRAIN_BN": True},
    ],
    ids=str,
)
def test_variants_train(monkeypatch, settings):
    run_eagerly(monkeypatch)
    model, config, batch = tiny_model(**settings)
    assert len(batch[0]) == 2 * settings.get("GPU_COUNT", 1)
    training.compile_model(model, config, 0.001, 0.9)
    log = model.train_on_batch(batch, return_dict=True)
    assert all(np.isfinite(value) for value in log.values())
    assert log["mrcnn_mask_loss"] > 0


def test_given_rois_train_the_heads(monkeypatch):
    run_eagerly(monkeypatch)
    keras.utils.set_random_seed(0)
    config = tiny_config(USE_RPN_ROIS=False, POST_NMS_ROIS_TRAINING=60)
    model = build_training_model(config)
    assert [x.name for x in model.inputs][7:] == ["input_roi"]
    training.compile_model(model, config, 0.001, 0.9)
    batches = data_generator(random_rectangles(4), config, random_rois=60, batch_size=2)
    inputs, outputs = next(batches)
    log = model.train_on_batch(inputs, return_dict=True)
    assert log["mrcnn_mask_loss"] > 0 and log["mrcnn_bbox_loss"] > 0
    history = model.fit(batches, steps_per_epoch=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()


@pytest.mark.parametrize("fit", ["fit", pytest.param("fit_generator", marks=pytest.mark.slow)])
def test_generators_of_inputs_and_outputs_train(fit, monkeypatch):
    run_eagerly(monkeypatch)
    model, config, _ = tiny_model()
    training.compile_model(model, config, 0.001, 0.9)
    batches, others = (data_generator(random_rectangles(4), config, batch_size=2) for _ in "12")
    queue = {"max_queue_size": 10, "workers": 2, "use_multiprocessing": True}
    history = getattr(model, fit)(
        batches,
        epochs=2,
        steps_per_epoch=1,
        validation_data=others,
        validation_steps=1,
        verbose=0,
        **(queue if fit == "fit_generator" else {}),
    ).history
    assert set(LOSS_NAMES) | {"val_loss"} <= set(history)
    assert np.isfinite(history["loss"]).all() and len(history["val_loss"]) == 2


# ---- Run folder --------------------------------------------------------------------------------


def touch(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


def test_find_last_takes_the_last_epoch_of_the_last_run(tmp_path):
    touch(tmp_path / "tiny20260101T0000", "mask_rcnn_tiny_0099.h5")
    touch(
        tmp_path / "tiny20260203T0405",
        "mask_rcnn_tiny_0002.h5",
        "mask_rcnn_tiny_0010.h5",
        "mask_rcnn_tiny_9999.h5.part",
        "events.out.tfevents.1",
    )
    assert find_last(tmp_path, "tiny") == str(
        tmp_path / "tiny20260203T0405" / "mask_rcnn_tiny_0010.h5"
    )


def test_find_last_goes_by_number_beyond_four_digits(tmp_path):
    run = tmp_path / "tiny20260101T0000"
    touch(run, "mask_rcnn_tiny_9999.h5", "mask_rcnn_tiny_10000.h5")
    assert find_last(tmp_path, "tiny") == str(run / "mask_rcnn_tiny_10000.h5")


def test_find_last_passes_over_other_names_empty_runs_and_files(tmp_path):
    run = tmp_path / "tiny20260101T0000"
    touch(run, "mask_rcnn_tiny_0001.h5", "mask_rcnn_tiny2_0007.h5")
    touch(tmp_path / "tiny20260901T0000")
    touch(tmp_path / "tiny220260901T0000", "mask_rcnn_tiny2_0005.h5")
    touch(tmp_path / "tinyx20260901T0000", "mask_rcnn_tinyx_0005.h5")
    touch(tmp_path, "tiny20260909T0000")
    assert find_last(tmp_path, "Tiny") == str(run / "mask_rcnn_tiny_0001.h5")


@pytest.mark.parametrize("folder", ["empty", "missing"])
def test_find_last_without_a_checkpoint_is_an_error(tmp_path, folder):
    touch(tmp_path / "empty" / "tiny20260901T0000")
    with pytest.raises(FileNotFoundError, match="no checkpoint of a run named 'tiny' in .*train"):
        find_last(tmp_path / folder, "tiny")


def test_a_checkpoints_path_says_run_and_epoch(tmp_path):
    path = tmp_path / "tiny20260203T0405" / "mask_rcnn_tiny_0012.h5"
    run = run_folder(tmp_path, "Tiny", path)
    assert (run.log_dir, run.epoch) == (str(path.parent), 12)
    assert run.checkpoint_path.format(epoch=12) == str(path)
    moved = run_folder(tmp_path / "elsewhere", "tiny", path)
    assert moved.log_dir == str(tmp_path / "elsewhere" / "tiny20260203T0405")
    assert moved.epoch == 12


@pytest.mark.parametrize(
    "path",
    [
        None,
        "mask_rcnn_coco.h5",
        "tiny20260203T0405/weights.h5",
        "mask_rcnn_tiny_0012.h5",
        "other20260203T0405/mask_rcnn_other_0012.h5",
        "tiny220260203T0405/mask_rcnn_tiny_0012.h5",
    ],
)
def test_other_paths_begin_a_new_run(tmp_path, path):
    run = run_folder(tmp_path, "Tiny", path)
    assert run.epoch == 0
    assert Path(run.log_dir).parent == tmp_path
    assert re.fullmatch(r"tiny\d{8}T\d{4}", os.path.basename(run.log_dir))
    assert not os.path.exists(run.log_dir)


# ---- The Keras format --------------------------------------------------------------------------


def test_a_training_model_survives_keras_own_format(tmp_path, monkeypatch):
    run_eagerly(monkeypatch)
    model, config, batch = tiny_model()
    set_trainable(model, "4+")
    training.compile_model(model, tiny_config(LOSS_WEIGHTS={"rpn_class_loss": 2.0}), 0.01, 0.5)
    model.train_on_batch(batch)
    path = str(tmp_path / "model.keras")
    model.save(path)
    loaded = keras.saving.load_model(path)
    assert type(loaded) is training.TrainingModel
    assert loaded.loss_weights == {"rpn_class_loss": 2.0}
    assert loaded.weight_decay == config.WEIGHT_DECAY
    trainable = [[layer.name for layer in leaves(m) if layer.trainable] for m in (loaded, model)]
    assert trainable[0] == trainable[1] and "res3a_branch2a" not in trainable[0]
    for mine, theirs in zip(loaded.weights, model.weights, strict=True):
        np.testing.assert_array_equal(mine, theirs, err_msg=theirs.path)
    for mine, theirs in zip(loaded.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(mine, theirs, err_msg=theirs.path)
    outputs, wanted = loaded(batch), model(batch)
    assert list(outputs) == list(wanted)
    for name in ("rpn_class_logits", "rpn_bbox", "rpn_rois"):
        np.testing.assert_allclose(outputs[name], wanted[name], atol=1e-6)
    loaded.run_eagerly = True
    log = loaded.train_on_batch(batch, return_dict=True)
    assert set(log) == {"loss", *LOSS_NAMES} and np.isfinite(list(log.values())).all()


def test_settings_of_the_test_network_are_sound():
    TinyConfig().validate()
