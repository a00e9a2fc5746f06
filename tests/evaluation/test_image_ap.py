"""evaluation/image_ap.py against the reference numbers and against plain forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrcnn.evaluation import compute_ap, compute_ap_range, compute_matches, compute_recall
from mrcnn.geometry.boxes import compute_overlaps
from tests.evaluation.scenes import SIZE, filled, random_boxes


@pytest.fixture
def reference_case(golden):
    """Arguments of `compute_ap` and the reference numbers."""
    numbers = golden("utilities.npz")
    gt, pred = numbers["ap_gb"], numbers["ap_pb"]
    arguments = (gt, numbers["ap_gi"], filled(gt))
    arguments += (pred, numbers["ap_pi"], numbers["ap_ps"], filled(pred))
    return arguments, numbers


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.75])
def test_ap_equals_the_reference(reference_case, threshold):
    arguments, numbers = reference_case
    ap, precisions, recalls, overlaps = compute_ap(*arguments, iou_threshold=threshold)
    np.testing.assert_allclose(ap, numbers[f"ap_{threshold}"], rtol=1e-12)
    np.testing.assert_allclose(precisions, numbers[f"prec_{threshold}"], rtol=1e-12)
    np.testing.assert_allclose(recalls, numbers[f"rec_{threshold}"], rtol=1e-12)
    assert overlaps.shape == (16, 8)


def test_ap_range_and_recall_equal_the_reference(reference_case, capsys):
    arguments, numbers = reference_case
    ap = compute_ap_range(*arguments, verbose=0)
    np.testing.assert_allclose(ap, numbers["ap_range"], rtol=1e-12)
    assert capsys.readouterr().out == ""
    recall, positive_ids = compute_recall(arguments[3], arguments[0], 0.5)
    assert recall == numbers["recall"]
    overlapping = compute_overlaps(arguments[3], arguments[0]).max(axis=1) >= 0.5
    np.testing.assert_array_equal(positive_ids, np.flatnonzero(overlapping))


def test_ap_range_prints_when_verbose_and_takes_thresholds_as_an_array(reference_case, capsys):
    arguments, numbers = reference_case
    thresholds = np.array([0.3, 0.5, 0.75])
    ap = compute_ap_range(*arguments, iou_thresholds=thresholds)
    expected = np.mean([numbers[f"ap_{threshold}"] for threshold in thresholds])
    assert ap == pytest.approx(expected)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[0].split() == ["AP", "@0.30:", f"{numbers['ap_0.3']:.3f}"]
    assert lines[-1].split() == ["AP", "@0.30-0.75:", f"{expected:.3f}"]
    with pytest.raises(ValueError, match="iou_thresholds is empty"):
        compute_ap_range(*arguments, iou_thresholds=[])


def test_matches_count_predictions_by_falling_score():
    objects = np.array([[0, 0, 10, 10], [20, 20, 30, 30], [40, 40, 60, 60]])
    boxes = np.array([[40, 40, 60, 58], [0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]])
    gt_match, pred_match, overlaps = compute_matches(
        objects,
        np.array([1, 1, 2]),
        filled(objects),
        boxes,
        np.array([2, 1, 1, 2]),
        np.array([0.5, 0.6, 0.9, 0.7]),
        filled(boxes),
    )
    # By score: the narrower of two on object 0 wins it; the one on object 1 is of another class.
    np.testing.assert_array_equal(pred_match, [0, -1, -1, 2])
    np.testing.assert_array_equal(gt_match, [0, -1, 3])
    np.testing.assert_allclose(overlaps[:, 0], [0.9, 0, 1, 0], rtol=1e-6)
    assert overlaps[3, 2] == pytest.approx(0.9)


def test_score_threshold_leaves_out_by_score_not_by_overlap():
    boxes = np.array([[0, 0, 10, 10], [20, 20, 30, 30]])
    moved = np.array([[0, 0, 10, 6], [20, 20, 30, 26]])
    truth = boxes, np.array([1, 1]), filled(boxes)
    prediction = moved, np.array([1, 1]), np.array([0.9, 0.3]), filled(moved)
    _, pred_match, _ = compute_matches(*truth, *prediction, score_threshold=0.8)
    np.testing.assert_array_equal(pred_match, [0, -1])


def test_thresholds_belong_to_what_counts_and_scores_of_zero_do():
    """An IoU of 0.6 counts by default, and so does any score; a threshold itself is enough."""
    box, moved = np.array([[0, 0, 10, 10]]), np.array([[0, 0, 10, 6]])
    truth = box, np.array([1]), filled(box)

    def prediction(score):
        return moved, np.array([1]), np.array([score]), filled(moved)

    assert compute_ap(*truth, *prediction(0.0))[0] == 1
    assert compute_ap(*truth, *prediction(0.9), iou_threshold=0.61)[0] == 0
    _, match, _ = compute_matches(*truth, *prediction(0.5), score_threshold=0.5)
    assert match.tolist() == [0]


def test_recall_without_boxes_has_no_ids():
    recall, ids = compute_recall(np.zeros((0, 4)), np.array([[0, 0, 10, 10]]), 0.5)
    assert recall == 0 and ids.shape == (0,)


def test_padding_is_left_out():
    boxes = np.array([[0, 0, 10, 10], [20, 20, 30, 30]])
    padded = np.concatenate([boxes, np.zeros((3, 4), int)])
    ids, scores = np.array([1, 2]), np.array([0.9, 0.8])
    plain = compute_ap(boxes, ids, filled(boxes), boxes, ids, scores, filled(boxes))
    ids_padded, scores_padded = np.pad(ids, (0, 3)), np.pad(scores, (0, 3))
    for masks in filled(padded), filled(boxes):
        truth = padded, ids_padded, masks
        ap, precisions, _, overlaps = compute_ap(*truth, padded, ids_padded, scores_padded, masks)
        assert ap == plain[0] == 1
        assert overlaps.shape == (2, 2) and len(precisions) == 4


@pytest.mark.parametrize("gt_count, pred_count", [(0, 0), (0, 2), (2, 0)])
@pytest.mark.parametrize("no_masks", [(SIZE, SIZE, 0), (0, 0, 0)])
def test_ap_without_objects_or_predictions_is_zero(gt_count, pred_count, no_masks):
    boxes = np.array([[0, 0, 10, 10], [20, 20, 30, 30]])

    def some(count):
        masks = filled(boxes) if count else np.zeros(no_masks, bool)
        return boxes[:count], np.ones(count, int), np.linspace(1, 0.5, count), masks

    gt_boxes, gt_ids, _, gt_masks = some(gt_count)
    ap, precisions, recalls, overlaps = compute_ap(gt_boxes, gt_ids, gt_masks, *some(pred_count))
    assert ap == 0
    assert overlaps.shape == (pred_count, gt_count)
    np.testing.assert_array_equal(precisions, np.zeros(pred_count + 2))
    np.testing.assert_array_equal(recalls, [0] * (pred_count + 1) + [1])
    assert compute_recall(boxes[:pred_count], boxes[:gt_count], 0.5)[0] == 0


def test_sizes_that_disagree_are_named():
    boxes = np.array([[0, 0, 10, 10], [20, 20, 30, 30]])
    ids, scores, masks = np.array([1, 1]), np.array([0.9, 0.8]), filled(boxes)
    with pytest.raises(ValueError, match=r"ground truth disagree: boxes \(2, 4\).*\(3,\)"):
        compute_ap(boxes, np.array([1, 1, 1]), masks, boxes, ids, scores, masks)
    with pytest.raises(ValueError, match=r"predictions disagree.*scores \(1,\)"):
        compute_ap(boxes, ids, masks, boxes, ids, scores[:1], masks)
    with pytest.raises(ValueError, match=r"\(100, 200\).*\(200, 200\)"):
        compute_ap(boxes, ids, masks, boxes, ids, scores, masks[:100])


# A plain form of compute_matches and compute_ap, in the words of their docstrings.
def slow_ap(gt_ids, gt_masks, pred_ids, scores, pred_masks, threshold):
    taken, hits = set(), []
    for i in sorted(range(len(scores)), key=lambda i: -scores[i]):
        best = None
        for j in range(len(gt_ids)):
            a, b = pred_masks[..., i], gt_masks[..., j]
            iou = (a & b).sum() / (a | b).sum()
            if j in taken or gt_ids[j] != pred_ids[i] or iou < threshold:
                continue
            if best is None or iou > best[0]:
                best = iou, j
        hits.append(best is not None)
        taken |= {best[1]} if best else set()
    # Each hit adds 1 / G of recall, at the best precision reached here or later.
    precision = [sum(hits[: k + 1]) / (k + 1) for k in range(len(hits))]
    return sum(max(precision[k:]) for k in range(len(hits)) if hits[k]) / len(gt_ids)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    gt_count=st.integers(1, 6),
    pred_count=st.integers(0, 9),
    threshold=st.sampled_from([0.1, 0.5, 0.75]),
)
def test_ap_equals_its_plain_form(seed, gt_count, pred_count, threshold):
    rng = np.random.default_rng(seed)
    gt = random_boxes(rng, gt_count)
    pred = gt[rng.integers(0, gt_count, pred_count)] + rng.integers(-2, 3, (pred_count, 4))
    pred = np.clip(pred, 0, 40)
    gt_ids, pred_ids = rng.integers(1, 3, gt_count), rng.integers(1, 3, pred_count)
    scores = rng.permutation(pred_count) / 10 + 0.05
    gt_masks, pred_masks = filled(gt, 40), filled(pred, 40)
    ap = compute_ap(gt, gt_ids, gt_masks, pred, pred_ids, scores, pred_masks, threshold)[0]
    assert ap == pytest.approx(slow_ap(gt_ids, gt_masks, pred_ids, scores, pred_masks, threshold))
