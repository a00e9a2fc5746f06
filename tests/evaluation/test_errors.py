"""Kinds of errors, held against a plain twin; the threshold with the best F1."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrcnn.evaluation.coco import coco_ground_truth
from mrcnn.evaluation.errors import (
    BACKGROUND,
    BADLY_PLACED,
    CORRECT,
    DUPLICATE,
    IGNORED,
    MISSED,
    WRONG_CLASS,
    Errors,
    Judged,
    best_threshold,
    count_errors,
    f1_of,
    judge,
)
from mrcnn.geometry.rle import encode_masks
from tests.tiny import Rectangles

SHAPE = (64, 64)


def result(box, score, category_id=1, image_id=0):
    """A detection that covers a box (y1, x1, y2, x2)."""
    y1, x1, y2, x2 = box
    mask = np.zeros((*SHAPE, 1), bool)
    mask[y1:y2, x1:x2] = True
    (rle,) = encode_masks(mask)
    return {
        "image_id": image_id,
        "category_id": category_id,
        "score": score,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "segmentation": rle,
    }


def kinds(objects, results):
    found = judge(coco_ground_truth(Rectangles([objects])), results)
    return [one.kind for one in found]


OBJECT = (10, 10, 30, 30)


@pytest.mark.parametrize(
    ("box", "category_id", "kind"),
    [
        (OBJECT, 1, CORRECT),
        ((10, 10, 30, 20), 1, CORRECT),  # IoU 0.5
        ((10, 10, 30, 19), 1, BADLY_PLACED),
        ((10, 10, 30, 12), 1, BADLY_PLACED),  # IoU 0.1
        ((10, 10, 29, 12), 1, BACKGROUND),
        (OBJECT, 2, WRONG_CLASS),
        ((10, 10, 30, 19), 2, BACKGROUND),
        ((40, 40, 60, 60), 1, BACKGROUND),
    ],
)
def test_one_detection_of_one_object(box, category_id, kind):
    assert kinds([(1, OBJECT)], [result(box, 0.9, category_id)]) == [kind]


def test_the_better_score_takes_the_object():
    results = [result((11, 10, 30, 30), 0.3), result(OBJECT, 0.2), result((12, 10, 30, 30), 0.8)]
    judged = judge(coco_ground_truth(Rectangles([[(1, OBJECT)]])), results)
    assert [(one.score, one.kind) for one in judged] == [
        (0.8, CORRECT),
        (0.3, DUPLICATE),
        (0.2, DUPLICATE),
    ]


def test_a_detection_takes_the_free_object_that_it_covers_best():
    two = [(1, (10, 10, 30, 30)), (1, (10, 14, 30, 34))]
    results = [result((10, 14, 30, 34), 0.9), result((10, 13, 30, 33), 0.8)]
    assert kinds(two, results) == [CORRECT, CORRECT]


class WithCrowd(Rectangles):
    def load_mask(self, image_id):
        masks, class_ids = super().load_mask(image_id)
        return masks, np.where(np.arange(len(class_ids)) == 0, -class_ids, class_ids)


def test_detections_in_a_crowd_do_not_count():
    dataset = WithCrowd([[(1, (0, 0, 40, 40)), (2, (50, 50, 60, 60))]])
    coco_gt = coco_ground_truth(dataset)
    judged = judge(coco_gt, [result((2, 2, 8, 8), 0.9), result((2, 2, 8, 8), 0.8, 2)])
    assert [one.kind for one in judged] == [IGNORED, BACKGROUND]
    errors = count_errors(coco_gt, judged, 0.0)
    assert errors.objects == 1 and errors.counts[MISSED] == 1


def test_nothing_to_find_and_nothing_found():
    coco_gt = coco_ground_truth(Rectangles([[]]))
    errors = count_errors(coco_gt, judge(coco_gt, []), 0.5)
    assert (errors.objects, errors.precision, errors.recall, errors.f1) == (0, 1.0, 1.0, 1.0)
    assert kinds([], [result(OBJECT, 0.5)]) == [BACKGROUND]
    assert kinds([(1, OBJECT)], []) == []


def test_counts_by_image_class_and_threshold():
    dataset = Rectangles([[(1, OBJECT), (2, (40, 40, 60, 60))], [(1, OBJECT)]])
    coco_gt = coco_ground_truth(dataset)
    results = [result(OBJECT, 0.9), result(OBJECT, 0.6, 1, 1), result(OBJECT, 0.7, 2, 1)]
    judged = judge(coco_gt, results)
    everything = count_errors(coco_gt, judged, 0.0)
    assert everything.objects == 3
    assert (everything.precision, everything.recall) == (2 / 3, 2 / 3)
    assert count_errors(coco_gt, judged, 0.65).counts[CORRECT] == 1
    second = count_errors(coco_gt, judged, 0.0, image_id=1)
    assert (second.objects, second.counts[CORRECT], second.counts[WRONG_CLASS]) == (1, 1, 1)
    of_class = count_errors(coco_gt, judged, 0.0, category_id=2)
    assert (of_class.objects, of_class.counts[MISSED], of_class.counts[WRONG_CLASS]) == (1, 1, 1)


# ---- Threshold -----------------------------------------------------------------------------------

KINDS = st.sampled_from([CORRECT, DUPLICATE, BACKGROUND, IGNORED])
SCORES = st.sampled_from([0.1, 0.2, 0.3, 0.5, 0.9])


@settings(max_examples=300)
@given(st.lists(st.tuples(SCORES, KINDS), max_size=12), st.integers(0, 4))
def test_no_other_threshold_has_a_better_f1(found, missed):
    judged = [Judged(0, 1, score, kind) for score, kind in found]
    objects = missed + sum(kind == CORRECT for _, kind in found)

    def f1(threshold):
        counted = [k for score, k in found if score >= threshold and k != IGNORED]
        correct = counted.count(CORRECT)
        precision = correct / len(counted) if counted else 1.0
        return f1_of(precision, correct / objects if objects else 1.0) if correct else 0.0

    chosen = best_threshold(objects, judged)
    assert f1(chosen) == pytest.approx(max(map(f1, (0.1, 0.2, 0.3, 0.5, 0.9))))
    if not any(kind == CORRECT for _, kind in found):
        assert chosen == 0.5


def test_f1():
    assert f1_of(0, 0) == 0 and f1_of(1, 0.5) == pytest.approx(2 / 3)
    counts = dict.fromkeys((CORRECT, DUPLICATE, WRONG_CLASS, BADLY_PLACED, BACKGROUND), 1)
    errors = Errors(2, {**counts, MISSED: 1})
    assert (errors.precision, errors.recall) == (0.2, 0.5)
