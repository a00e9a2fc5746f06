"""AP and recall of one image, all classes together, as in the original's notebooks.

Letters: G objects of the ground truth, P predictions, H and W an image's height and width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mrcnn.geometry.boxes import compute_overlaps
from mrcnn.geometry.masks import compute_overlaps_masks


def compute_matches(
    gt_boxes: np.ndarray,
    gt_class_ids: np.ndarray,
    gt_masks: np.ndarray,
    pred_boxes: np.ndarray,
    pred_class_ids: np.ndarray,
    pred_scores: np.ndarray,
    pred_masks: np.ndarray,
    iou_threshold: float = 0.5,
    score_threshold: float = 0.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Match the predictions of one image to its objects.

    In order of falling score, each prediction takes the object of its class whose mask it overlaps
    most, among the objects that are still free.

    Args:
        gt_boxes: `[G, (y1, x1, y2, x2)]`; rows that are all zero are padding.
        gt_class_ids: `[G]`; gt_masks: `[H, W, G]`.
        pred_boxes: `[P, (y1, x1, y2, x2)]`; rows that are all zero are padding.
        pred_class_ids: `[P]`; pred_scores: `[P]`; pred_masks: `[H, W, P]`.
        iou_threshold: lowest IoU of two masks that match.
        score_threshold: predictions with a lower score match nothing.

    Returns:
        gt_match: `[G]` int, index of the prediction that matches the object, or -1.
        pred_match: `[P]` int, index of the object that the prediction matches, or -1.
        overlaps: `[P, G]` IoU of masks.
        Predictions are in order of falling score in all three; padding is left out.

    Raises:
        ValueError: sizes that disagree.
    """
    overlaps, allowed = _compare(
        (gt_boxes, gt_class_ids, gt_masks),
        (pred_boxes, pred_class_ids, pred_scores, pred_masks),
        score_threshold,
    )
    gt_match, pred_match = _match(overlaps, allowed, iou_threshold)
    return gt_match, pred_match, overlaps


def compute_ap(
    gt_boxes: np.ndarray,
    gt_class_ids: np.ndarray,
    gt_masks: np.ndarray,
    pred_boxes: np.ndarray,
    pred_class_ids: np.ndarray,
    pred_scores: np.ndarray,
    pred_masks: np.ndarray,
    iou_threshold: float = 0.5,
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """Average precision of one image, all classes together: the area under precision over recall.

    Args:
        as in `compute_matches`.

    Returns:
        ap: 0..1; 0 for an image without objects.
        precisions: `[P + 2]`, made monotonically falling; recalls: `[P + 2]`, from 0 to 1.
        overlaps: `[P, G]` IoU of masks, predictions in order of falling score.

    Raises:
        ValueError: sizes that disagree.
    """
    overlaps, allowed = _compare(
        (gt_boxes, gt_class_ids, gt_masks), (pred_boxes, pred_class_ids, pred_scores, pred_masks)
    )
    return *_average_precision(overlaps, allowed, iou_threshold), overlaps


def compute_ap_range(
    gt_box: np.ndarray,
    gt_class_id: np.ndarray,
    gt_mask: np.ndarray,
    pred_box: np.ndarray,
    pred_class_id: np.ndarray,
    pred_score: np.ndarray,
    pred_mask: np.ndarray,
    iou_thresholds: Sequence[float] | None = None,
    verbose: int = 1,
) -> float:
    """Mean of `compute_ap` over IoU thresholds, by default 0.50, 0.55, … 0.95.

    Args:
        as in `compute_matches`.
        iou_thresholds: at least one.
        verbose: 1 prints one line per threshold and one for the mean, 0 nothing.

    Returns:
        0..1.

    Raises:
        ValueError: sizes that disagree, or no threshold.
    """
    thresholds = np.arange(0.5, 1.0, 0.05) if iou_thresholds is None else np.array(iou_thresholds)
    if not thresholds.size:
        raise ValueError("iou_thresholds is empty; give at least one, or None for 0.50 to 0.95.")
    overlaps, allowed = _compare(
        (gt_box, gt_class_id, gt_mask), (pred_box, pred_class_id, pred_score, pred_mask)
    )
    aps = [_average_precision(overlaps, allowed, float(iou))[0] for iou in thresholds]
    mean = float(np.mean(aps))
    if verbose:
        for threshold, ap in zip(thresholds, aps, strict=True):
            print(f"AP @{threshold:.2f}:\t {ap:.3f}")
        print(f"AP @{thresholds[0]:.2f}-{thresholds[-1]:.2f}:\t {mean:.3f}")
    return mean


def compute_recall(
    pred_boxes: np.ndarray, gt_boxes: np.ndarray, iou: float
) -> tuple[float, np.ndarray]:
    """Share of objects that some box overlaps enough, without regard to class; for RPN proposals.

    A box counts only for the object that it overlaps most.

    Args:
        pred_boxes: `[P, (y1, x1, y2, x2)]`; gt_boxes: `[G, (y1, x1, y2, x2)]`, same unit.
        iou: lowest IoU of a box that counts.

    Returns:
        recall: 0..1; 0 without objects.
        positive_ids: `[K]` int, indices of the boxes that count.
    """
    if not len(gt_boxes) or not len(pred_boxes):
        return 0.0, np.zeros(0, dtype=np.intp)
    overlaps = compute_overlaps(pred_boxes, gt_boxes)
    positive_ids = np.flatnonzero(overlaps.max(axis=1) >= iou)
    found = np.unique(overlaps.argmax(axis=1)[positive_ids])
    return len(found) / len(gt_boxes), positive_ids


def _compare(
    truth: tuple, prediction: tuple, score_threshold: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """IoU of masks `[P, G]`, and bool `[P, G]` which pairs may match; best prediction first."""
    gt_boxes, gt_class_ids, gt_masks = truth
    pred_boxes, pred_class_ids, pred_scores, pred_masks = prediction
    gt_class_ids, gt_masks = _without_padding(
        "ground truth", gt_boxes, gt_masks, class_ids=gt_class_ids
    )
    pred_class_ids, pred_scores, pred_masks = _without_padding(
        "predictions", pred_boxes, pred_masks, class_ids=pred_class_ids, scores=pred_scores
    )
    order = np.argsort(pred_scores, kind="stable")[::-1]
    overlaps = _overlaps_of_masks(pred_masks[..., order], gt_masks)
    same_class = pred_class_ids[order][:, None] == gt_class_ids
    scored = pred_scores[order][:, None] >= score_threshold
    return overlaps, same_class & scored


def _without_padding(
    what: str, boxes: np.ndarray, masks: np.ndarray, **columns: np.ndarray
) -> list[np.ndarray]:
    """The columns and the masks, without the entries whose box is all zero."""
    boxes = np.asarray(boxes)
    real = np.any(boxes.reshape(-1, 4) != 0, axis=1)
    masks = np.asarray(masks)
    columns = {name: np.asarray(values) for name, values in columns.items()}
    sizes = {*map(len, columns.values()), masks.shape[-1]}
    # Some callers pad only the boxes, others everything.
    if not sizes <= {len(real), np.count_nonzero(real)}:
        shapes = [f"{name} {values.shape}" for name, values in columns.items()]
        raise ValueError(
            f"sizes of the {what} disagree: boxes {boxes.shape}, {', '.join(shapes)}, "
            f"masks {masks.shape}; for N boxes [N, 4] there are N of each and masks [H, W, N]."
        )
    kept = [values[real] if len(values) == len(real) else values for values in columns.values()]
    return [*kept, masks[..., real] if masks.shape[-1] == len(real) else masks]


def _overlaps_of_masks(pred_masks: np.ndarray, gt_masks: np.ndarray) -> np.ndarray:
    """IoU `[P, G]` of masks `[H, W, P]` and `[H, W, G]`; if P or G is 0, H and W may differ."""
    counts = pred_masks.shape[-1], gt_masks.shape[-1]
    if 0 in counts:
        return np.zeros(counts)
    if pred_masks.shape[:2] != gt_masks.shape[:2]:
        raise ValueError(
            f"masks of predictions are {pred_masks.shape[:2]} (height, width), those of the "
            f"ground truth {gt_masks.shape[:2]}; both must have the size of their image."
        )
    return compute_overlaps_masks(pred_masks, gt_masks)


def _match(
    overlaps: np.ndarray, allowed: np.ndarray, iou_threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Each row of `[P, G]` in turn takes its best free column: gt_match `[G]`, pred_match `[P]`."""
    pred_match = np.full(overlaps.shape[0], -1)
    gt_match = np.full(overlaps.shape[1], -1)
    for i, row in enumerate(overlaps):
        candidates = np.flatnonzero(allowed[i] & (gt_match == -1) & (row >= iou_threshold))
        if candidates.size:
            # If objects have the same IoU, the last one is taken, as in the original.
            j = candidates[np.argsort(row[candidates], kind="stable")[-1]]
            pred_match[i], gt_match[j] = j, i
    return gt_match, pred_match


def _average_precision(
    overlaps: np.ndarray, allowed: np.ndarray, iou_threshold: float
) -> tuple[float, np.ndarray, np.ndarray]:
    """Area under the curve, precisions and recalls `[P + 2]` of overlaps `[P, G]`."""
    gt_match, pred_match = _match(overlaps, allowed, iou_threshold)
    found = np.cumsum(pred_match > -1)
    precisions = np.concatenate([[0], found / np.arange(1, len(found) + 1), [0]])
    recalls = np.concatenate([[0], found / max(len(gt_match), 1), [1]])
    # Precision at a recall is the highest one at this or any higher recall.
    precisions = np.maximum.accumulate(precisions[::-1])[::-1]
    return float(np.sum(np.diff(recalls) * precisions[1:])), precisions, recalls
