"""The five losses of Mask R-CNN: pure functions (targets, predictions) -> scalar.

Ren et al. 2015 section 3.1.2 for the RPN, Girshick 2015 section 2.3 for the heads, He et al. 2017
section 3 for masks. Each is a mean over what counts, and 0 where nothing does.

`B` images, `A` anchors, `N` ROIs, `C` classes; all losses float32.
"""

from __future__ import annotations

from keras import ops

PROBABILITY_EPSILON = 1e-7


def smooth_l1_loss(y_true, y_pred):
    """`0.5 d²` below a difference of 1 and `d - 0.5` above; element by element."""
    difference = ops.abs(y_true - y_pred)
    return ops.where(difference < 1.0, 0.5 * difference**2, difference - 0.5)


def rpn_class_loss(rpn_match, rpn_class_logits):
    """Cross-entropy of object against background, over the sampled anchors.

    Args:
        rpn_match: `[B, A, 1]` int; 1 object, -1 background, 0 not sampled.
        rpn_class_logits: `[B, A, (background, object)]`.
    """
    match = rpn_match[..., 0]
    is_object = ops.cast(match == 1, "int32")
    return _masked_mean(_cross_entropy(is_object, rpn_class_logits), match != 0)


def rpn_bbox_loss(target_bbox, rpn_match, rpn_bbox):
    """Smooth L1 of the deltas of object anchors.

    Args:
        target_bbox: `[B, rows, (dy, dx, log dh, log dw)]`, row i for the image's i-th object
            anchor; further rows are padding.
        rpn_match: `[B, A, 1]` int, as in `rpn_class_loss`.
        rpn_bbox: `[B, A, (dy, dx, log dh, log dw)]`.
    """
    is_object = rpn_match[..., 0] == 1
    row = ops.cumsum(ops.cast(is_object, "int32"), axis=1) - 1
    row = ops.clip(row, 0, ops.shape(target_bbox)[1] - 1)
    target = ops.take_along_axis(ops.cast(target_bbox, "float32"), row[..., None], axis=1)
    loss = smooth_l1_loss(target, ops.cast(rpn_bbox, "float32"))
    return _masked_mean(ops.mean(loss, axis=-1), is_object)


def mrcnn_class_loss(target_class_ids, pred_class_logits, active_class_ids):
    """Cross-entropy of the ROIs' classes.

    A ROI counts where the class predicted is one that the image's data set has: a set without
    cats must not teach that a cat is background.

    Args:
        target_class_ids: `[B, N]` int.
        pred_class_logits: `[B, N, C]`.
        active_class_ids: `[B, C]`, 1 for the classes of the image's data set, else 0.
    """
    predicted = ops.argmax(pred_class_logits, axis=-1)
    is_active = ops.take_along_axis(active_class_ids, predicted, axis=1) > 0
    return _masked_mean(_cross_entropy(target_class_ids, pred_class_logits), is_active)


def mrcnn_bbox_loss(target_bbox, target_class_ids, pred_bbox):
    """Smooth L1 of the deltas of positive ROIs, those of the ROI's class alone.

    Args:
        target_bbox: `[B, N, (dy, dx, log dh, log dw)]`.
        target_class_ids: `[B, N]` int, above 0 for positives.
        pred_bbox: `[B, N, C, (dy, dx, log dh, log dw)]`.
    """
    own = ops.take_along_axis(pred_bbox, target_class_ids[..., None, None], axis=2)[:, :, 0]
    loss = smooth_l1_loss(target_bbox, ops.cast(own, "float32"))
    return _masked_mean(ops.mean(loss, axis=-1), target_class_ids > 0)


def mrcnn_mask_loss(target_masks, target_class_ids, pred_masks):
    """Binary cross-entropy of the masks of positive ROIs, those of the ROI's class alone.

    Args:
        target_masks: `[B, N, h, w]` of 0 and 1.
        target_class_ids: `[B, N]` int, above 0 for positives.
        pred_masks: `[B, N, h, w, C]` in 0..1.
    """
    own = ops.take_along_axis(pred_masks, target_class_ids[..., None, None, None], axis=4)[..., 0]
    own = ops.clip(ops.cast(own, "float32"), PROBABILITY_EPSILON, 1 - PROBABILITY_EPSILON)
    loss = -(target_masks * ops.log(own) + (1 - target_masks) * ops.log(1 - own))
    return _masked_mean(ops.mean(loss, axis=(-2, -1)), target_class_ids > 0)


def l2_loss(variables, weight_decay: float):
    """`weight_decay` times the mean of the squares of each variable, summed over variables."""
    return weight_decay * sum(ops.mean(ops.square(ops.cast(v, "float32"))) for v in variables)


def _cross_entropy(class_ids, logits):
    logits = ops.cast(logits, "float32")
    return ops.sparse_categorical_crossentropy(class_ids, logits, from_logits=True)


def _masked_mean(values, mask):
    mask = ops.cast(mask, "float32")
    return ops.sum(values * mask) / ops.maximum(ops.sum(mask), 1.0)
