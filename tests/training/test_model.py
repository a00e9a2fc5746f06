"""The training model: the original's losses and steps, L2, precision, variants of the graph."""

import keras
import numpy as np
import pytest
from keras import ops

from mrcnn import backend, training, weights
from mrcnn.config import LOSS_NAMES
from mrcnn.data.loader import BatchLoader, data_generator
from mrcnn.losses import all_losses
from mrcnn.nn import sampling
from mrcnn.training import build_training_model, compile_model, set_trainable
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
    leaves,
    random_rectangles,
    run_eagerly,
    stage,
    tiny_config,
    tiny_model,
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

    losses = all_losses(outputs)
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


def test_weights_decay_once():
    model, config, _ = tiny_model(WEIGHT_DECAY=0.25, DECOUPLED_WEIGHT_DECAY=0.5)
    assert model.weight_decay == 0
    compile_model(model, config, 0.001, 0.9)
    assert model.weight_decay == 0 and model.optimizer.weight_decay == 0.5
    compile_model(model, tiny_config(WEIGHT_DECAY=0.25), 0.001, 0.9)
    assert model.weight_decay == 0.25 and model.optimizer.weight_decay is None


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
