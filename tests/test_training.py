"""Training: the original's losses and steps, what trains, the run folder, resuming."""

import numpy as np
import pytest
from keras import ops

from mrcnn import training
from mrcnn.training import build_training_model, compile_model, set_trainable
from seeded_weights import seeded_weight
from tests.slim import (
    TRAINING_INPUTS,
    SlimTrainingConfig,
    nearest_rows,
    seed_weights,
    use_ties_of_tf115,
)

KERNELS = "conv1 res4b_branch2b fpn_c3p3 mrcnn_class_logits mrcnn_mask rpn_class_raw".split()


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
def test_four_steps_are_the_originals(layers, reference_model, batch, golden):
    expected = golden("training.npz")
    steps = dict(zip(expected["metrics_names"], expected[f"steps_{layers}"].T, strict=True))
    set_trainable(reference_model, layers)
    compile_model(reference_model, SlimTrainingConfig(), 0.002, 0.9)
    logs = []
    for _ in range(4):
        reference_model.reset_metrics()
        logs.append(reference_model.train_on_batch(batch, return_dict=True))
    losses = {name: np.array([float(log[name]) for log in logs]) for name in steps}

    for name in steps:
        np.testing.assert_allclose(losses[name][0], steps[name][0], rtol=1e-5, err_msg=name)
    # From the second step on, ROIs whose scores are 1 to the last bit but for rounding change
    # places: four runs of this package differ from the reference by -1.1 to +0.1 % in the second
    # step's mrcnn_class_loss and by up to 5 % in the fourth's box loss, and from each other by as
    # much. Losses that no such tie touches stay equal.
    for name in ("rpn_class_loss", "rpn_bbox_loss", "mrcnn_bbox_loss", "mrcnn_mask_loss"):
        np.testing.assert_allclose(losses[name][1], steps[name][1], rtol=1e-3, err_msg=name)
    second, wanted = losses["mrcnn_class_loss"][1], steps["mrcnn_class_loss"][1]
    np.testing.assert_allclose(second, wanted, rtol=0.02)
    for name in steps:
        np.testing.assert_allclose(losses[name], steps[name], rtol=0.08, err_msg=name)
    np.testing.assert_allclose(losses["loss"], steps["loss"], rtol=0.01)

    for name in KERNELS:
        kernel = layer_of(reference_model, name).get_weights()[0]
        start = seeded_weight(11, name, "kernel", kernel.shape)
        wanted = expected[f"after_{layers}_{name}"]
        change, error = np.abs(wanted - start), np.abs(kernel - wanted)
        if not change.any():
            np.testing.assert_array_equal(kernel, start)
            continue
        assert error.max() < 0.06 * change.max(), name
        assert np.median(error) < 0.005 * change.max(), name
