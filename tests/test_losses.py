"""The five losses against the same sums in plain NumPy, and where nothing counts."""

import numpy as np
import pytest
from keras import ops

from mrcnn import losses
from mrcnn.config import LOSS_NAMES
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


def test_neutral_pixels_leave_the_mask_loss():
    ids, (target, predicted) = class_ids(), masks()
    counts = (rng().random(target.shape) < 0.5).astype(np.float32)
    first = tuple(np.argwhere(ids > 0)[0])
    counts[first] = 0
    wanted = []
    for image, roi in np.argwhere(ids > 0)[1:]:
        p, t = predicted[image, roi, :, :, ids[image, roi]], target[image, roi]
        pixels = -(t * np.log(p) + (1 - t) * np.log(1 - p))
        wanted.append(pixels[counts[image, roi] > 0].mean())
    given = tensors(target, ids, predicted, counts)
    assert value(losses.mrcnn_mask_loss(*given)) == pytest.approx(np.mean(wanted), rel=1e-5)
    target, ids, _, counts = given
    (found,) = gradients(lambda x: losses.mrcnn_mask_loss(target, ids, x, counts), predicted)
    assert not found[ops.convert_to_numpy(counts) == 0].any() and found.any()


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


# ---- All of them -----------------------------------------------------------------------------


def training_outputs(mask_rows=ROIS):
    """Outputs of the training graph by name, all of them random."""
    target_masks, masks = masks_of_rows(mask_rows)
    arrays = {
        "active_class_ids": np.array([[1, 1, 0, 1], [1, 0, 1, 0]], np.float32),
        "rpn_match": rpn_match(),
        "rpn_target_bbox": rng().normal(size=(BATCH, 9, 4)).astype("f4"),
        "rpn_class_logits": rng().normal(size=(BATCH, ANCHORS, 2)).astype("f4"),
        "rpn_bbox": 2 * rng().normal(size=(BATCH, ANCHORS, 4)).astype("f4"),
        "target_class_ids": class_ids(),
        "target_bbox": rng().normal(size=(BATCH, ROIS, 4)).astype("f4"),
        "target_mask": target_masks,
        "mrcnn_class_logits": rng().normal(size=(BATCH, ROIS, CLASSES)).astype("f4"),
        "mrcnn_bbox": 3 * rng().normal(size=(BATCH, ROIS, CLASSES, 4)).astype("f4"),
        "mrcnn_mask": masks,
    }
    return dict(zip(arrays, tensors(*arrays.values()), strict=True))


def masks_of_rows(rows):
    target, predicted = masks()
    return target, predicted[:, :rows]


def test_all_losses_are_the_five_by_name():
    outputs = training_outputs()
    found = losses.all_losses(outputs)
    assert tuple(found) == LOSS_NAMES
    assert set(LOSS_NAMES) <= set(vars(losses))
    ids = outputs["target_class_ids"]
    wanted = {
        "rpn_class_loss": losses.rpn_class_loss(outputs["rpn_match"], outputs["rpn_class_logits"]),
        "rpn_bbox_loss": losses.rpn_bbox_loss(
            outputs["rpn_target_bbox"], outputs["rpn_match"], outputs["rpn_bbox"]
        ),
        "mrcnn_class_loss": losses.mrcnn_class_loss(
            ids, outputs["mrcnn_class_logits"], outputs["active_class_ids"]
        ),
        "mrcnn_bbox_loss": losses.mrcnn_bbox_loss(
            outputs["target_bbox"], ids, outputs["mrcnn_bbox"]
        ),
        "mrcnn_mask_loss": losses.mrcnn_mask_loss(
            outputs["target_mask"], ids, outputs["mrcnn_mask"]
        ),
    }
    values = [value(found[name]) for name in LOSS_NAMES]
    assert values == [value(wanted[name]) for name in LOSS_NAMES]
    assert len(set(values)) == 5 and min(values) > 0


def test_all_losses_of_masks_for_the_first_rois_only():
    """The mask head has the rows that can be positive; the others are not compared."""
    outputs = training_outputs(mask_rows=3)
    target, predicted = masks_of_rows(3)
    wanted = losses.mrcnn_mask_loss(*tensors(target[:, :3], class_ids()[:, :3], predicted))
    assert value(losses.all_losses(outputs)["mrcnn_mask_loss"]) == value(wanted)


# ---- By hand ---------------------------------------------------------------------------------


def test_a_probability_is_clipped_to_a_ten_millionth():
    ids = ops.ones((1, 1), "int32")
    for target, predicted, wanted in (
        (1, 0.0, 1e-7),
        (1, 1e-6, 1e-6),
        (0, 1.0, 1e-7),
        (0, 1 - 1e-6, 1e-6),
        (1, 1.0, 1),
        (1, 0.5, 0.5),
    ):
        masks = np.full((1, 1, 1, 1, 2), predicted, np.float32)
        loss = losses.mrcnn_mask_loss(*tensors(np.full((1, 1, 1, 1), target, "f4"), ids, masks))
        assert value(loss) == pytest.approx(-np.log(wanted), rel=2e-2, abs=1e-6)


def test_a_loss_is_the_mean_over_what_counts():
    """One anchor or ROI of several counts: the loss is its own, not divided by their number."""
    logits = np.log(np.array([[[3, 1], [1, 1], [1, 3]]], np.float32))
    for match, wanted in (
        ([0, 1, 0], np.log(2)),
        ([-1, 0, 0], np.log(4 / 3)),
        ([1, 0, 0], np.log(4)),
        ([-1, 0, 1], np.log(4 / 3)),
        ([1, 1, -1], np.mean(np.log([4, 2, 4]))),
    ):
        match = np.array([match], np.int32)[..., None]
        assert value(losses.rpn_class_loss(*tensors(match, logits))) == pytest.approx(wanted, 1e-5)


def test_anchors_beyond_the_target_rows_repeat_the_last_row():
    match = np.ones((1, 3, 1), np.int32)
    target = np.array([[[1, 1, 1, 1], [4, 4, 4, 4]]], np.float32)
    loss = losses.rpn_bbox_loss(*tensors(target, match, np.zeros((1, 3, 4), np.float32)))
    assert value(loss) == pytest.approx((0.5 + 3.5 + 3.5) / 3)


def test_class_0_is_no_positive():
    ids = np.array([[0, 1, 2]], np.int32)
    target = np.zeros((1, 3, 4), np.float32)
    bbox = np.zeros((1, 3, 3, 4), np.float32)
    bbox[0, 0], bbox[0, 1, 1], bbox[0, 2, 2] = 9, 2, 3
    loss = losses.mrcnn_bbox_loss(*tensors(target, ids, bbox))
    assert value(loss) == pytest.approx((1.5 + 2.5) / 2)
