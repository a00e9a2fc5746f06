"""The report on a network: each stage, and its errors against counts by hand."""

import numpy as np
import pytest

from mrcnn.evaluation.coco import coco_ground_truth, coco_results
from mrcnn.evaluation.errors import BACKGROUND, CORRECT, IGNORED, Judged
from mrcnn.inspection.model import confusion_of, model_sections, precision_recall
from mrcnn.inspection.page import write_report
from mrcnn.mask_rcnn import MaskRCNN
from tests.inspection.test_page import check_page
from tests.slim import seed_weights
from tests.tiny import Rectangles, TinyConfig, random_rectangles

# Those of the original's inspection notebooks that need a network.
CHECKS = ["Deltas applied to boxes", "ProposalLayer", "Detection targets", "Final predictions"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    made = MaskRCNN("inference", TinyConfig(), tmp_path_factory.mktemp("logs"))
    seed_weights(made.keras_model, 21)
    return made


def test_all_stages_are_on_the_page(model, tmp_path):
    sections = model_sections(model, random_rectangles(3))
    titles = [section.title for section in sections]
    assert set(CHECKS) <= set(titles) and len(titles) == len(set(titles))
    text = check_page(write_report(tmp_path / "report", "Network", [], sections))
    assert "Kinds of errors" in text and "duplicate" in text and "Bolya et al. 2020" in text


def test_data_without_objects_are_named(model):
    with pytest.raises(ValueError, match="no image of the data has an object"):
        model_sections(model, Rectangles([[], []]))


def test_precision_and_recall_after_each_detection():
    kinds = [(0.9, CORRECT), (0.8, BACKGROUND), (0.7, IGNORED), (0.6, CORRECT)]
    judged = [Judged(0, 1, score, kind) for score, kind in kinds[::-1]]
    precision, recall = precision_recall(judged, objects=4)
    np.testing.assert_allclose(precision, [1, 1 / 2, 2 / 3])
    np.testing.assert_allclose(recall, [1 / 4, 1 / 4, 2 / 4])
    assert [len(x) for x in precision_recall([], 0)] == [0, 0]


def test_confusion_counts_each_object_once():
    boxes = [(0, 0, 20, 20), (0, 30, 20, 50), (40, 0, 60, 20)]
    dataset = Rectangles([[(1, boxes[0]), (1, boxes[1]), (2, boxes[2])]])
    coco_gt = coco_ground_truth(dataset, [0])
    masks, _ = dataset.load_mask(0)
    elsewhere = np.zeros((64, 64), bool)
    elsewhere[40:60, 40:60] = True
    # The first object twice, the second as class 2, the third not at all, and one of nothing.
    found = [(masks[..., 0], 1, 0.9), (masks[..., 0], 1, 0.8), (masks[..., 1], 2, 0.7)]
    found += [(elsewhere, 3, 0.6), (masks[..., 2], 2, 0.1)]
    detection = {
        "rois": np.zeros((5, 4), np.int32),
        "class_ids": np.array([class_id for _, class_id, _ in found]),
        "scores": np.array([score for *_, score in found]),
        "masks": np.stack([mask for mask, *_ in found], axis=-1),
    }
    table = confusion_of(coco_gt, coco_results(0, detection), 0.5, 4)
    assert table.tolist() == [[1, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0], [1, 0, 1, 0]]
    nothing = confusion_of(coco_gt, [], 0.5, 4)
    assert nothing.tolist() == [[0, 0, 0, 2], [0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]]
