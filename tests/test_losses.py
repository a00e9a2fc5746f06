"""The five losses against the same sums in plain NumPy, and where nothing counts."""

import numpy as np
import pytest
from keras import ops

from mrcnn import losses
from tests.gradients import gradients

BATCH, ANCHORS, ROIS, CLASSES = 2, 12, 6, 4


def rng():
    return np.random.default_rng(0)


def value(loss) -> float:
    assert tuple(loss.shape) == ()
    return float(ops.convert_to_numpy(loss))


def tensors(*arrays):
    return [ops.convert_to_tensor(array) for array in arrays]


def check_nothing_counts(function, predictions):
    """A loss of 0 with gradients of 0, not NaN."""
    assert value(function(ops.convert_to_tensor(predictions))) == 0
    (found,) = gradients(function, predictions)
    assert (found == 0).all()


def log_softmax(logits):
    shifted = logits - logits.max()
    return shifted - np.log(np.exp(shifted).sum())


def smooth_l1_slowly(difference):
    difference = abs(difference)
    return 0.5 * difference**2 if difference < 1 else difference - 0.5


def mean_smooth_l1(target, predicted):
    return np.mean([smooth_l1_slowly(t - p) for t, p in zip(target, predicted, strict=True)])


# ---- Smooth L1 -----------------------------------------------------------------------------------


@pytest.mark.parametrize("difference", [0.0, 1e-4, 0.5, 0.999999, 1.0, 1.000001, 3.0, 1e6])
@pytest.mark.parametrize("sign", [-1, 1])
def test_smooth_l1(difference, sign):
    one, other = tensors(np.float32([0.0]), np.float32([sign * difference]))
    loss = ops.convert_to_numpy(losses.smooth_l1_loss(one, other))
    np.testing.assert_allclose(loss, [smooth_l1_slowly(np.float32(difference))], rtol=1e-6)
    other = np.float32([sign * difference])
    (slope,) = gradients(lambda predicted: losses.smooth_l1_loss(one, predicted)[0], other)
    np.testing.assert_allclose(slope, [sign * min(difference, 1)], rtol=1e-5)


# ---- Region proposal network ---------------------------------------------------------------------


def rpn_match():
    match = rng().choice([-1, 0, 1], (BATCH, ANCHORS, 1), p=[0.4, 0.3, 0.3]).astype(np.int32)
    match[:, 0], match[:, 1], match[:, 2] = 1, -1, 0
    return match


def test_rpn_class_loss_is_that_of_the_sampled_anchors():
    match, logits = rpn_match(), rng().normal(size=(BATCH, ANCHORS, 2)).astype(np.float32)
    wanted = [
        -log_softmax(logits[image, anchor])[int(match[image, anchor, 0] == 1)]
        for image, anchor in np.argwhere(match[..., 0] != 0)
    ]
    loss = losses.rpn_class_loss(*tensors(match, logits))
    assert value(loss) == pytest.approx(np.mean(wanted), rel=1e-5)


def test_rpn_bbox_loss_pairs_object_anchors_with_target_rows_in_order():
    match, predicted = rpn_match(), rng().normal(size=(BATCH, ANCHORS, 4)).astype(np.float32)
    target = 2 * rng().normal(size=(BATCH, 9, 4)).astype(np.float32)
    wanted = [
        mean_smooth_l1(target[image, row], predicted[image, anchor])
        for image in range(BATCH)
        for row, anchor in enumerate(np.flatnonzero(match[image, :, 0] == 1))
    ]
    loss = losses.rpn_bbox_loss(*tensors(target, match, predicted))
    assert value(loss) == pytest.approx(np.mean(wanted), rel=1e-5)


def test_rpn_losses_without_anchors_that_count():
    match = tensors(np.zeros((BATCH, ANCHORS, 1), np.int32))[0]
    logits, bbox = np.ones((BATCH, ANCHORS, 2), "f4"), np.ones((BATCH, ANCHORS, 4), "f4")
    target = ops.zeros((BATCH, 9, 4))
    check_nothing_counts(lambda x: losses.rpn_class_loss(match, x), logits)
    check_nothing_counts(lambda x: losses.rpn_bbox_loss(target, match, x), bbox)
    # Background alone has a class and no box.
    check_nothing_counts(lambda x: losses.rpn_bbox_loss(target, match - 1, x), bbox)
    assert value(losses.rpn_class_loss(match - 1, ops.convert_to_tensor(logits))) > 0


def test_an_image_without_objects_leaves_the_other_ones_rows_alone():
    match, predicted = rpn_match(), rng().normal(size=(BATCH, ANCHORS, 4)).astype(np.float32)
    target = rng().normal(size=(BATCH, 9, 4)).astype(np.float32)
    match[0] = -1
    both = losses.rpn_bbox_loss(*tensors(target, match, predicted))
    one = losses.rpn_bbox_loss(*tensors(target[1:], match[1:], predicted[1:]))
    assert value(both) == pytest.approx(value(one), rel=1e-6)


# ---- Heads ---------------------------------------------------------------------------------------


def class_ids():
    ids = rng().integers(0, CLASSES, (BATCH, ROIS)).astype(np.int32)
    ids[:, :2] = [1, 0]
    return ids


def test_class_loss_counts_where_the_predicted_class_is_active_in_that_image():
    ids, logits = class_ids(), rng().normal(size=(BATCH, ROIS, CLASSES)).astype(np.float32)
    active = np.array([[1, 1, 0, 1], [1, 0, 1, 0]], np.float32)
    wanted = [
        -log_softmax(logits[image, roi])[ids[image, roi]]
        for image, roi in np.ndindex(BATCH, ROIS)
        if active[image, logits[image, roi].argmax()]
    ]
    assert 0 < len(wanted) < BATCH * ROIS
    loss = losses.mrcnn_class_loss(*tensors(ids, logits, active))
    assert value(loss) == pytest.approx(np.mean(wanted), rel=1e-5)
    other = losses.mrcnn_class_loss(*tensors(ids, logits, active[::-1].copy()))
    assert value(other) != pytest.approx(value(loss), rel=1e-3)


def test_class_loss_without_an_active_class():
    ids, active = tensors(class_ids(), np.zeros((BATCH, CLASSES), np.float32))
    logits = rng().normal(size=(BATCH, ROIS, CLASSES)).astype(np.float32)
    check_nothing_counts(lambda x: losses.mrcnn_class_loss(ids, x, active), logits)


def test_class_loss_of_sure_and_wrong_logits_is_finite():
    ids, active = tensors(np.zeros((1, 1), np.int32), np.ones((1, 2), np.float32))
    logits = np.array([[[-1e4, 1e4]]], np.float32)
    assert value(losses.mrcnn_class_loss(ids, ops.convert_to_tensor(logits), active)) == 2e4
    (found,) = gradients(lambda x: losses.mrcnn_class_loss(ids, x, active), logits)
    np.testing.assert_allclose(found, [[[-1, 1]]])


def test_bbox_loss_is_that_of_the_own_class_of_positive_rois():
    ids, target = class_ids(), rng().normal(size=(BATCH, ROIS, 4)).astype(np.float32)
    predicted = 2 * rng().normal(size=(BATCH, ROIS, CLASSES, 4)).astype(np.float32)
    wanted = [
        mean_smooth_l1(target[image, roi], predicted[image, roi, ids[image, roi]])
        for image, roi in np.argwhere(ids > 0)
    ]
    loss = losses.mrcnn_bbox_loss(*tensors(target, ids, predicted))
    assert value(loss) == pytest.approx(np.mean(wanted), rel=1e-5)


def masks():
    target = rng().integers(0, 2, (BATCH, ROIS, 3, 5)).astype(np.float32)
    return target, rng().uniform(0.01, 0.99, (BATCH, ROIS, 3, 5, CLASSES)).astype(np.float32)


def test_mask_loss_is_that_of_the_own_class_of_positive_rois():
    ids, (target, predicted) = class_ids(), masks()
    wanted = []
    for image, roi in np.argwhere(ids > 0):
        p, t = predicted[image, roi, :, :, ids[image, roi]], target[image, roi]
        wanted.append(-np.mean(t * np.log(p) + (1 - t) * np.log(1 - p)))
    loss = losses.mrcnn_mask_loss(*tensors(target, ids, predicted))
    assert value(loss) == pytest.approx(np.mean(wanted), rel=1e-5)


def test_head_losses_without_positives():
    (ids,) = tensors(np.zeros((BATCH, ROIS), np.int32))
    target, predicted = masks()
    bbox = rng().normal(size=(BATCH, ROIS, CLASSES, 4)).astype(np.float32)
    check_nothing_counts(
        lambda x: losses.mrcnn_bbox_loss(ops.zeros((BATCH, ROIS, 4)), ids, x), bbox
    )
    target = ops.convert_to_tensor(target)
    check_nothing_counts(lambda x: losses.mrcnn_mask_loss(target, ids, x), predicted)


def test_saturated_masks_have_finite_loss_and_gradient():
    ids, target = tensors(np.ones((1, 2), np.int32), np.ones((1, 2, 2, 2), np.float32))
    predicted = np.zeros((1, 2, 2, 2, 2), np.float32)
    predicted[:, 1] = 1
    loss = value(losses.mrcnn_mask_loss(target, ids, ops.convert_to_tensor(predicted)))
    assert loss == pytest.approx(-np.log(1e-7) / 2, rel=1e-3)
    (found,) = gradients(lambda x: losses.mrcnn_mask_loss(target, ids, x), predicted)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_predictions_give_float32_losses(dtype):
    (ids, active), (target, predicted) = tensors(class_ids(), np.ones((2, 4), "f4")), masks()
    bbox = rng().normal(size=(BATCH, ROIS, CLASSES, 4)).astype(np.float32)
    zeros, target = ops.zeros((BATCH, ROIS, 4)), ops.convert_to_tensor(target)
    for loss, predictions in (
        (lambda x: losses.mrcnn_class_loss(ids, x, active), bbox[..., 0]),
        (lambda x: losses.mrcnn_bbox_loss(zeros, ids, x), bbox),
        (lambda x: losses.mrcnn_mask_loss(target, ids, x), predicted),
    ):
        half, full = loss(ops.cast(predictions, dtype)), loss(ops.convert_to_tensor(predictions))
        assert "float32" in str(half.dtype)
        assert value(half) == pytest.approx(value(full), rel=2e-2)


def test_l2_is_the_sum_of_the_means_of_squares():
    variables = tensors(np.full((2, 3), 2, "f4"), np.array([3, 1], "f4"))
    assert value(losses.l2_loss(variables, 0.1)) == pytest.approx(0.1 * (4 + 5))
