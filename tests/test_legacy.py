"""The original's own signatures: layers that take a Config, functions of one image."""

import keras
import numpy as np
import pytest
from keras import ops

import mrcnn.model
import mrcnn.parallel_model
import mrcnn.utils
from mrcnn import legacy, losses
from mrcnn.config import Config
from mrcnn.geometry import boxes
from mrcnn.nn import detections, proposals, sampling
from tests.layer_contract import check_layer

RNG = np.random.default_rng(0)


class Small(Config):
    NUM_CLASSES = 4
    PRE_NMS_LIMIT = 20
    RPN_BBOX_STD_DEV = np.array([0.2, 0.2, 0.4, 0.4])
    BBOX_STD_DEV = np.array([0.3, 0.3, 0.1, 0.1])
    TRAIN_ROIS_PER_IMAGE = 8
    ROI_POSITIVE_RATIO = 0.5
    USE_MINI_MASK = False
    MASK_SHAPE = [6, 6]
    DETECTION_MAX_INSTANCES = 5
    DETECTION_MIN_CONFIDENCE = 0.4
    DETECTION_NMS_THRESHOLD = 0.5


def numbers(*shape):
    return RNG.random(shape).astype(np.float32)


def some_boxes(*shape):
    corner = numbers(*shape, 2) * 0.6
    return np.concatenate([corner, corner + 0.1 + 0.3 * numbers(*shape, 2)], axis=-1)


def rpn_outputs():
    return [numbers(2, 30, 2), numbers(2, 30, 4), some_boxes(2, 30)]


def head_outputs():
    probs = RNG.dirichlet(np.full(4, 0.2), (2, 12)).astype(np.float32)
    meta = np.zeros((2, 16), np.float32)
    meta[:, 4:7], meta[:, 7:11] = [65, 65, 3], [0, 0, 65, 65]
    return [some_boxes(2, 12), probs, numbers(2, 12, 4, 4), meta]


def ground_truth():
    objects = some_boxes(2, 3)
    near = np.repeat(objects, 4, axis=1) + 0.02 * numbers(2, 12, 4)
    ids = np.array([[1, 2, 0], [3, 0, 0]], np.int32)
    return [near, ids, objects, RNG.random((2, 32, 32, 3)) > 0.5]


def same(found, wanted):
    for one, other in zip(keras.tree.flatten(found), keras.tree.flatten(wanted), strict=True):
        one, other = ops.convert_to_numpy(one), ops.convert_to_numpy(other)
        np.testing.assert_allclose(one, other, atol=1e-6)


# ---- Layers that take a Config -------------------------------------------------------------------


def test_proposal_layer_takes_its_settings_from_a_config():
    inputs = rpn_outputs()
    layer = legacy.ProposalLayer(6, 0.7, config=Small(), name="ROI")
    wanted = proposals.ProposalLayer(6, 0.7, pre_nms_limit=20, bbox_std_dev=[0.2, 0.2, 0.4, 0.4])
    same(layer(inputs), wanted(inputs))
    check_layer(layer, inputs)


def test_detection_layer_takes_its_settings_from_a_config():
    inputs = head_outputs()
    layer = legacy.DetectionLayer(Small(), name="mrcnn_detection")
    wanted = detections.DetectionLayer(5, 0.4, 0.5, [0.3, 0.3, 0.1, 0.1])
    same(layer(inputs), wanted(inputs))
    check_layer(layer, inputs)


def test_detection_targets_have_no_masks():
    assert legacy.DetectionTargetLayer(Small()).compute_mask(ground_truth()) == [None] * 4


def test_detection_target_layer_takes_its_settings_from_a_config():
    inputs = ground_truth()
    layer = legacy.DetectionTargetLayer(Small(), name="proposal_targets", seed=3)
    wanted = sampling.DetectionTargetLayer(8, 0.5, (6, 6), False, [0.3, 0.3, 0.1, 0.1], seed=3)
    same(layer(inputs), wanted(inputs))
    check_layer(layer, inputs, images_apart=False)


# ---- One image at a time -------------------------------------------------------------------------


def test_refine_detections_graph_is_the_layer_on_one_image():
    rois, probs, deltas, meta = head_outputs()
    batch = legacy.DetectionLayer(Small())([rois, probs, deltas, meta])
    window = np.array([0, 0, 1, 1], np.float32)
    for image in range(2):
        found = legacy.refine_detections_graph(
            rois[image], probs[image], deltas[image], window, Small()
        )
        same(found, batch[image])


def test_detection_targets_graph_is_the_layer_on_one_image():
    inputs = ground_truth()
    for image in range(2):
        one = [x[image] for x in inputs]
        rois, class_ids, deltas, masks = map(
            ops.convert_to_numpy, legacy.detection_targets_graph(*one, Small())
        )
        assert rois.shape == deltas.shape == (8, 4) and masks.shape == (8, 6, 6)
        positive = class_ids > 0
        assert 0 < positive.sum() <= 4
        assert set(class_ids[positive]) <= set(one[1]) - {0}
        overlaps = boxes.compute_overlaps(rois[positive], one[2])
        nearest = one[2][(overlaps * (one[1] > 0)).argmax(axis=1)]
        wanted = boxes.box_refinement(rois[positive], nearest) / Small.BBOX_STD_DEV
        np.testing.assert_allclose(deltas[positive], wanted, atol=1e-4)


# ---- Functions -----------------------------------------------------------------------------------


def test_batch_slice_stacks_what_a_function_gives_for_each_image():
    a, b = numbers(3, 4), numbers(3, 4)
    total = mrcnn.utils.batch_slice([a, b], lambda x, y: x + y, 3)
    same(total, a + b)
    both = mrcnn.utils.batch_slice((a, b), lambda x, y: (x + y, x * y), 3, names=["sum", "product"])
    same(both, [a + b, a * b])
    same(mrcnn.utils.batch_slice(a, lambda x: 2 * x, 2), 2 * a[:2])


def test_batch_slice_of_symbols():
    image = keras.Input((4,), batch_size=2)
    doubled = mrcnn.utils.batch_slice([image], lambda x: 2 * x, 2)
    assert doubled.shape == (2, 4)
    x = numbers(2, 4)
    same(keras.Model(image, doubled)(x), 2 * x)


def test_trim_zeros_graph():
    rows = np.array([[0, 0, 0, 0], [1, 2, 3, 4], [0, 0, 0, 0], [-1, 1, 0, 0]], np.float32)
    trimmed, there = mrcnn.model.trim_zeros_graph(ops.convert_to_tensor(rows), name="trim")
    same([trimmed, there], [rows[[1, 3]], np.array([False, True, False, True])])


def test_batch_pack_graph():
    x = numbers(3, 4, 2)
    packed = mrcnn.model.batch_pack_graph(ops.convert_to_tensor(x), np.array([2, 0, 4]), 3)
    same(packed, np.concatenate([x[0, :2], x[2]]))


def test_small_functions():
    one, other = some_boxes(3), some_boxes(2)
    same(mrcnn.model.overlaps_graph(one, other), boxes.compute_overlaps(one, other))
    same(mrcnn.model.log2_graph(np.array([1.0, 8.0], np.float32)), np.array([0.0, 3.0]))
    target, predicted = numbers(2, 3, 4), numbers(2, 5, 4)
    match = np.array([[[1], [0], [-1], [1], [0]]] * 2, np.int32)
    target, match, predicted = map(ops.convert_to_tensor, (target, match, predicted))
    same(
        mrcnn.model.rpn_bbox_loss_graph(Small(), target, match, predicted),
        losses.rpn_bbox_loss(target, match, predicted),
    )


# ---- ParallelModel -------------------------------------------------------------------------------


def test_parallel_model_is_the_model():
    image = keras.Input((3,))
    inner = keras.Model(image, keras.layers.Dense(2, name="dense")(image))
    model = mrcnn.parallel_model.ParallelModel(inner, gpu_count=2)
    x = numbers(4, 3)
    same(model(x), inner(x))
    assert [layer.name for layer in model.layers] == [layer.name for layer in inner.layers]
    assert len(model.weights) == len(inner.weights) == 2
    assert all(a is b for a, b in zip(model.weights, inner.weights, strict=True))
    model.compile(optimizer="sgd", loss="mse")
    before = ops.convert_to_numpy(inner.get_layer("dense").kernel)
    model.train_on_batch(x, np.ones((4, 2), np.float32))
    assert not np.array_equal(before, ops.convert_to_numpy(inner.get_layer("dense").kernel))


def test_parallel_model_takes_and_gives_what_the_model_does():
    inputs = [keras.Input((3,), name="a"), keras.Input((3,), name="b")]
    inner = keras.Model(inputs, {"sum": inputs[0] + inputs[1], "product": inputs[0] * inputs[1]})
    model = mrcnn.parallel_model.ParallelModel(inner, gpu_count=2)
    x = [numbers(4, 3), numbers(4, 3)]
    outputs = model.predict_on_batch(x)
    assert outputs.keys() == {"sum", "product"}
    same(outputs["product"], x[0] * x[1])


def regression():
    """A model of one layer, and the same as a ParallelModel."""
    image = keras.Input((3,))
    inner = keras.Model(image, keras.layers.Dense(2, name="dense")(image), name="one")
    return inner, mrcnn.parallel_model.ParallelModel(inner, gpu_count=2)


def test_parallel_model_is_compiled_and_told_as_the_model():
    inner, model = regression()
    assert (model.inner_model, model.gpu_count, model.name) == (inner, 2, "one")
    model.compile(optimizer="sgd", loss="mse", run_eagerly=True)
    assert inner.compiled and model.optimizer is inner.optimizer
    model.trainable = False
    assert inner.trainable is False and not inner.trainable_weights
    with pytest.raises(AttributeError, match="no_such_name"):
        model.no_such_name  # noqa: B018


def test_parallel_model_uses_the_models_own_loss():
    class Counted(keras.Model):
        calls = 0

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            Counted.calls += 1
            return ops.mean(ops.square(y_pred))

    image = keras.Input((3,))
    inner = Counted(image, keras.layers.Dense(2)(image))
    model = mrcnn.parallel_model.ParallelModel(inner, gpu_count=2)
    model.compile(optimizer="sgd", run_eagerly=True)
    loss = model.train_on_batch(numbers(4, 3), np.zeros((4, 2)))
    assert Counted.calls == 1 and float(loss) > 0


def test_parallel_model_saves_and_loads_the_model(tmp_path):
    inner, model = regression()
    x = numbers(4, 3)
    wanted = ops.convert_to_numpy(inner(x))
    model.save(tmp_path / "whole.keras")
    loaded = keras.models.load_model(tmp_path / "whole.keras")
    assert type(loaded) is type(inner)
    same(loaded(x), wanted)
    model.save_weights(tmp_path / "its.weights.h5")
    inner.get_layer("dense").kernel.assign(np.zeros((3, 2)))
    model.load_weights(tmp_path / "its.weights.h5")
    same(model(x), wanted)


def test_parallel_model_in_keras_own_format(tmp_path):
    inner, model = regression()
    keras.saving.save_model(model, tmp_path / "parallel.keras")
    loaded = keras.saving.load_model(tmp_path / "parallel.keras")
    assert type(loaded) is mrcnn.parallel_model.ParallelModel and loaded.gpu_count == 2
    x = numbers(4, 3)
    same(loaded(x), inner(x))


def test_parallel_model_prints_both_summaries_and_splits_nothing(capsys):
    inner, model = regression()
    inner.summary()
    once = capsys.readouterr().out
    model.summary()
    assert capsys.readouterr().out == 2 * once and "dense" in once
    assert model.make_parallel() is inner.output


def test_a_subclass_of_parallel_model_may_override():
    class Own(mrcnn.parallel_model.ParallelModel):
        def predict_on_batch(self, x):
            return super().predict_on_batch(x) + 1

    inner, _ = regression()
    x = numbers(4, 3)
    same(Own(inner, 2).predict_on_batch(x), inner.predict_on_batch(x) + 1)
