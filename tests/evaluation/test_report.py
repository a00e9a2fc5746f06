"""All that an evaluation says, on data whose detections are known."""

import json

import numpy as np
import pytest

from mrcnn.evaluation.errors import CORRECT, MISSED
from mrcnn.evaluation.report import evaluation_of
from tests.tiny import CLASSES, Rectangles, TinyConfig

CONTENT = [
    [(1, (5, 5, 25, 30)), (2, (35, 35, 60, 60))],
    [(1, (10, 10, 40, 40))],
    [],
]


class Truth:
    """Detects the objects of a data set, without those of some images."""

    def __init__(self, dataset, blind=()):
        self.config = TinyConfig()
        self.config.IMAGES_PER_GPU = 1
        self.dataset, self.blind, self.next = dataset, blind, 0

    def detect(self, images):
        results = []
        for _ in images:
            masks, class_ids = self.dataset.load_mask(self.next)
            if self.next in self.blind:
                masks, class_ids = masks[..., :0], class_ids[:0]
            boxes = [one[1] for one in self.dataset.content[self.next]][: len(class_ids)]
            results.append(
                {
                    "rois": np.array(boxes, int).reshape(-1, 4),
                    "class_ids": class_ids,
                    "scores": np.full(len(class_ids), 0.75),
                    "masks": masks,
                }
            )
            self.next += 1
        return results


def test_the_truth_against_itself_is_perfect():
    dataset = Rectangles(CONTENT)
    steps = []
    found = evaluation_of(Truth(dataset), dataset, progress=lambda *done: steps.append(done))
    for figures in found.figures.values():
        assert figures["AP"] == pytest.approx(1.0) and figures["AR100"] == pytest.approx(1.0)
    assert found.threshold == 0.75 and found.is_best_threshold
    assert (found.errors.precision, found.errors.recall, found.errors.objects) == (1.0, 1.0, 3)
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert [row["class"] for row in found.classes] == list(CLASSES)
    assert [row["objects"] for row in found.classes] == [2, 1, 0]
    assert found.classes[0]["mask AP"] == pytest.approx(1.0)
    assert found.classes[2]["mask AP"] is None and found.classes[2]["F1"] is None
    assert [row["f1"] for row in found.images] == [1.0, 1.0, 1.0]


def test_missed_objects_are_counted_and_the_worst_image_comes_first():
    dataset = Rectangles(CONTENT)
    found = evaluation_of(Truth(dataset, blind=[1]), dataset)
    assert found.errors.counts[MISSED] == 1 and found.errors.counts[CORRECT] == 2
    assert found.errors.recall == pytest.approx(2 / 3)
    worst = found.worst()
    assert [row["image_id"] for row in worst] == [1, 0, 2]
    assert (worst[0]["f1"], worst[0][MISSED], worst[0]["false"]) == (0.0, 1, 0)


def test_a_threshold_of_the_user():
    dataset = Rectangles(CONTENT)
    found = evaluation_of(Truth(dataset), dataset, threshold=0.8)
    assert found.threshold == 0.8 and not found.is_best_threshold
    assert found.errors.recall == 0 and found.figures["bbox"]["AP"] == pytest.approx(1.0)


def test_a_limit():
    dataset = Rectangles(CONTENT)
    assert len(evaluation_of(Truth(dataset), dataset, limit=2).images) == 2


def test_everything_but_the_images_is_json():
    dataset = Rectangles(CONTENT)
    found = evaluation_of(Truth(dataset), dataset)
    read = json.loads(json.dumps(found.as_json()))
    assert read["f1"] == 1.0 and read["figures"]["segm"]["AP"] == pytest.approx(1.0)
    assert read["classes"][0]["class"] == CLASSES[0] and read["counts"][CORRECT] == 3
