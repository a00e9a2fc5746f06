"""The five losses of Mask R-CNN: pure functions (targets, predictions) -> scalar.

Ren et al. 2015, section 3.1.2, for the RPN; Girshick 2015, section 2.3, for the heads; He et al.
2017, section 3, for masks. Each loss is a mean over the anchors or ROIs that it concerns, and 0 if
there are none. A new loss is a function here, a line in `all_losses`, and its name in
`config.LOSS_NAMES`.

`B` images, `A` anchors, `N` ROIs, `C` classes. All losses are float32 scalars.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from keras import ops

from mrcnn.types import Tensor

# Predicted probabilities keep this distance from 0 and 1, so that the logarithm is finite.
PROBABILITY_EPSILON = 1e-7


def all_losses(outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All losses by name, in the order of `config.LOSS_NAMES`.

    Args:
        outputs: targets and predictions by name, as `nn.network.training_graph` returns them.

    Returns:
        Name to loss, without weights.
    """
    match, ids = outputs["rpn_match"], outputs["target_class_ids"]
    # Only the first ROIs can be positive; the others have no mask.
    rows = outputs["mrcnn_mask"].shape[1]
    return {
        "rpn_class_loss": rpn_class_loss(match, outputs["rpn_class_logits"]),
        "rpn_bbox_loss": rpn_bbox_loss(outputs["rpn_target_bbox"], match, outputs["rpn_bbox"]),
        "mrcnn_class_loss": mrcnn_class_loss(
            ids, outputs["mrcnn_class_logits"], outputs["active_class_ids"]
        ),
        "mrcnn_bbox_loss": mrcnn_bbox_loss(outputs["target_bbox"], ids, outputs["mrcnn_bbox"]),
        "mrcnn_mask_loss": mrcnn_mask_loss(
            outputs["target_mask"][:, :rows],
            ids[:, :rows],
            outputs["mrcnn_mask"],
            outputs.get("target_mask_counts"),
        ),
    }


def smooth_l1_loss(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """Smooth L1, element by element: `0.5 d²` for a difference d below 1, else `d - 0.5`."""
    difference = ops.abs(y_true - y_pred)
    return ops.where(difference < 1.0, 0.5 * difference**2, difference - 0.5)


def rpn_class_loss(rpn_match: Tensor, rpn_class_logits: Tensor) -> Tensor:
    """Cross-entropy between object and background, over the sampled anchors.

    Args:
        rpn_match: `[B, A, 1]` int; 1 for an object, -1 for background, 0 for not sampled.
        rpn_class_logits: `[B, A, (background, object)]`.
    """
    match = rpn_match[..., 0]
    is_object = ops.cast(match == 1, "int32")
    return _masked_mean(_cross_entropy(is_object, rpn_class_logits), match != 0)


def rpn_bbox_loss(target_bbox: Tensor, rpn_match: Tensor, rpn_bbox: Tensor) -> Tensor:
    """Smooth L1 of the deltas, over the object anchors.

    Args:
        target_bbox: `[B, rows, (dy, dx, log dh, log dw)]`; row i belongs to the image's i-th object
            anchor, the remaining rows are padding.
        rpn_match: `[B, A, 1]` int, as in `rpn_class_loss`.
        rpn_bbox: `[B, A, (dy, dx, log dh, log dw)]`.
    """
    is_object = rpn_match[..., 0] == 1
    row = ops.cumsum(ops.cast(is_object, "int32"), axis=1) - 1
    row = ops.clip(row, 0, ops.shape(target_bbox)[1] - 1)
    target = ops.take_along_axis(ops.cast(target_bbox, "float32"), row[..., None], axis=1)
    loss = smooth_l1_loss(target, ops.cast(rpn_bbox, "float32"))
    return _masked_mean(ops.mean(loss, axis=-1), is_object)


def mrcnn_class_loss(
    target_class_ids: Tensor, pred_class_logits: Tensor, active_class_ids: Tensor
) -> Tensor:
    """Cross-entropy of the classes, over the ROIs whose predicted class is active.

    The classes of the image's source are active: a source without the class cat must not teach that
    cats are background.

    Args:
        target_class_ids: `[B, N]` int.
        pred_class_logits: `[B, N, C]`.
        active_class_ids: `[B, C]`, 1 for an active class, else 0.
    """
    predicted = ops.argmax(pred_class_logits, axis=-1)
    is_active = ops.take_along_axis(active_class_ids, predicted, axis=1) > 0
    return _masked_mean(_cross_entropy(target_class_ids, pred_class_logits), is_active)


def mrcnn_bbox_loss(target_bbox: Tensor, target_class_ids: Tensor, pred_bbox: Tensor) -> Tensor:
    """Smooth L1 of the deltas for the ROI's own class, over the positive ROIs.

    Args:
        target_bbox: `[B, N, (dy, dx, log dh, log dw)]`.
        target_class_ids: `[B, N]` int, above 0 for positive ROIs.
        pred_bbox: `[B, N, C, (dy, dx, log dh, log dw)]`.
    """
    own = ops.take_along_axis(pred_bbox, target_class_ids[..., None, None], axis=2)[:, :, 0]
    loss = smooth_l1_loss(target_bbox, ops.cast(own, "float32"))
    return _masked_mean(ops.mean(loss, axis=-1), target_class_ids > 0)


def mrcnn_mask_loss(
    target_masks: Tensor,
    target_class_ids: Tensor,
    pred_masks: Tensor,
    counts: Tensor | None = None,
) -> Tensor:
    """Binary cross-entropy of the mask for the ROI's own class, over the positive ROIs.

    Args:
        target_masks: `[B, N, h, w]`, values 0 and 1.
        target_class_ids: `[B, N]` int, above 0 for positive ROIs.
        pred_masks: `[B, N, h, w, C]` in 0..1.
        counts: `[B, N, h, w]`, 1 for pixels that count and 0 for neutral ones; None: all count.
    """
    own = ops.take_along_axis(pred_masks, target_class_ids[..., None, None, None], axis=4)[..., 0]
    own = ops.clip(ops.cast(own, "float32"), PROBABILITY_EPSILON, 1 - PROBABILITY_EPSILON)
    loss = -(target_masks * ops.log(own) + (1 - target_masks) * ops.log(1 - own))
    if counts is None:
        return _masked_mean(ops.mean(loss, axis=(-2, -1)), target_class_ids > 0)
    pixels = ops.sum(counts, axis=(-2, -1))
    of_rois = ops.sum(loss * counts, axis=(-2, -1)) / ops.maximum(pixels, 1.0)
    return _masked_mean(of_rois, (target_class_ids > 0) & (pixels > 0))


def l2_loss(variables: Iterable[Tensor], weight_decay: float) -> Tensor:
    """The sum over variables of `weight_decay` times the mean of a variable's squares."""
    return weight_decay * sum(ops.mean(ops.square(ops.cast(v, "float32"))) for v in variables)


def _cross_entropy(class_ids: Tensor, logits: Tensor) -> Tensor:
    """Softmax cross-entropy `[...]` of classes `[...]` and logits `[..., C]`, in float32."""
    logits = ops.cast(logits, "float32")
    return ops.sparse_categorical_crossentropy(class_ids, logits, from_logits=True)


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the values where the mask is true; 0 if it is false everywhere."""
    mask = ops.cast(mask, "float32")
    return ops.sum(values * mask) / ops.maximum(ops.sum(mask), 1.0)
