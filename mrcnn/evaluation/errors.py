"""Kinds of errors of detections, and the score threshold that balances them best.

A detection is **correct** if its mask has an IoU of at least 0.5 with an object of its class that
no better detection has taken. Otherwise it is, in this order,

- a **duplicate**: the object has been taken by a better detection;
- of the **wrong class**: an object of another class has that IoU;
- **badly placed**: an object of its class has an IoU of at least 0.1;
- **background**: none of these.

An object without a correct detection is **missed**. Detections in a crowd of their class do not
count. The kinds follow TIDE (Bolya et al. 2020), section 3.

Letters: P detections, N objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from pycocotools.coco import COCO

MATCH_IOU, TOUCH_IOU = 0.5, 0.1
CORRECT, DUPLICATE, WRONG_CLASS, BADLY_PLACED, BACKGROUND, IGNORED = (
    "correct",
    "duplicate",
    "wrong class",
    "badly placed",
    "background",
    "ignored",
)
MISSED = "missed"
# What counts as a false detection.
FALSE_KINDS = (DUPLICATE, WRONG_CLASS, BADLY_PLACED, BACKGROUND)


class Judged(NamedTuple):
    """A detection and its kind.

    Attributes:
        image_id, category_id, score: as in the result.
        kind: one of the kinds above.
    """

    image_id: int
    category_id: int
    score: float
    kind: str


class Errors(NamedTuple):
    """How many detections above a threshold are of each kind.

    Attributes:
        objects: number of objects, without crowds.
        counts: number of detections of each kind, and of missed objects.
    """

    objects: int
    counts: dict[str, int]

    @property
    def precision(self) -> float:
        """Share of the detections that are correct; 1 without any."""
        correct = self.counts[CORRECT]
        detections = correct + sum(self.counts[kind] for kind in FALSE_KINDS)
        return correct / detections if detections else 1.0

    @property
    def recall(self) -> float:
        """Share of the objects that are found; 1 without any."""
        return self.counts[CORRECT] / self.objects if self.objects else 1.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return f1_of(self.precision, self.recall)


def f1_of(precision: float, recall: float) -> float:
    """Harmonic mean of precision and recall, 0 if both are 0."""
    total = precision + recall
    return 2 * precision * recall / total if total else 0.0


def judge(coco_gt: COCO, results: Sequence[Mapping[str, Any]]) -> list[Judged]:
    """The kind of each detection. A threshold on scores does not change the kinds above it.

    Args:
        coco_gt: from `coco_ground_truth`.
        results: as for `run_coco_eval`, with masks as run lengths.
    """
    by_image: dict[int, list[Mapping[str, Any]]] = {image_id: [] for image_id in coco_gt.imgs}
    for result in results:
        by_image[result["image_id"]].append(result)
    return [
        judged
        for image_id, found in by_image.items()
        for judged in _judge_image(coco_gt.imgToAnns[image_id], found)
    ]


def _judge_image(
    objects: Sequence[Mapping[str, Any]], results: Iterable[Mapping[str, Any]]
) -> list[Judged]:
    results = sorted(results, key=lambda result: -result["score"])
    overlaps = _overlaps(objects, results)
    classes = np.array([one["category_id"] for one in objects], int)
    is_crowd = np.array([one["iscrowd"] for one in objects], bool)
    taken = np.zeros(len(objects), bool)
    judged = []
    for result, ious in zip(results, overlaps, strict=True):
        same = classes == result["category_id"]
        free = np.where(same & ~is_crowd & ~taken, ious, 0)
        if free.max(initial=0) >= MATCH_IOU:
            taken[free.argmax()] = True
            kind = CORRECT
        else:
            kind = _kind(ious, same, is_crowd)
        judged.append(Judged(result["image_id"], result["category_id"], result["score"], kind))
    return judged


def _overlaps(
    objects: Sequence[Mapping[str, Any]], results: Sequence[Mapping[str, Any]]
) -> np.ndarray:
    """IoU `[P, N]`; for a crowd the share of the detection that lies in it."""
    from pycocotools import mask as coco_mask

    if not objects or not results:
        return np.zeros((len(results), len(objects)))
    return np.asarray(
        coco_mask.iou(
            [result["segmentation"] for result in results],
            [one["segmentation"] for one in objects],
            [one["iscrowd"] for one in objects],
        )
    )


def _kind(ious: np.ndarray, same: np.ndarray, is_crowd: np.ndarray) -> str:
    """The kind of a detection that is not correct."""

    def reaches(which: np.ndarray, least: float) -> bool:
        return bool((ious[which] >= least).any())

    if reaches(same & is_crowd, MATCH_IOU):
        return IGNORED
    if reaches(same & ~is_crowd, MATCH_IOU):
        return DUPLICATE
    if reaches(~same & ~is_crowd, MATCH_IOU):
        return WRONG_CLASS
    return BADLY_PLACED if reaches(same & ~is_crowd, TOUCH_IOU) else BACKGROUND


def count_errors(
    coco_gt: COCO,
    judged: Iterable[Judged],
    threshold: float,
    image_id: int | None = None,
    category_id: int | None = None,
) -> Errors:
    """Count the detections with at least this score.

    Args:
        coco_gt: the ground truth; judged: from `judge`.
        threshold: lowest score that counts.
        image_id, category_id: count only those of this image or class.
    """
    objects = sum(
        not one["iscrowd"]
        and image_id in (None, one["image_id"])
        and category_id in (None, one["category_id"])
        for one in coco_gt.anns.values()
    )
    counts = dict.fromkeys((CORRECT, *FALSE_KINDS, IGNORED), 0)
    for one in judged:
        if (
            one.score >= threshold
            and image_id in (None, one.image_id)
            and category_id in (None, one.category_id)
        ):
            counts[one.kind] += 1
    return Errors(objects, {**counts, MISSED: objects - counts[CORRECT]})


def best_threshold(objects: int, judged: Iterable[Judged]) -> float:
    """The score above which F1 is best; the highest of several, and 0.5 without a correct one.

    Args:
        objects: number of objects without crowds; judged: from `judge`.
    """
    counted = sorted((one for one in judged if one.kind != IGNORED), key=lambda one: -one.score)
    best, threshold, correct = 0.0, 0.5, 0
    for detections, one in enumerate(counted, start=1):
        correct += one.kind == CORRECT
        is_last_of_its_score = detections == len(counted) or counted[detections].score < one.score
        f1 = 2 * correct / (detections + objects)
        if is_last_of_its_score and f1 > best:
            best, threshold = f1, one.score
    return threshold
