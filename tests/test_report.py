"""What a training leaves to look at: table, curves, pictures."""

import numpy as np
import PIL.Image
import pytest

from mrcnn import report
from mrcnn.training.callbacks import write_table
from tests.evaluation.test_report import Truth
from tests.tiny import Rectangles, TinyConfig

CONTENT = [[(1, (5, 5, 25, 30))], [(2, (10, 10, 40, 40))], []]


def test_the_table_has_a_row_per_epoch(tmp_path):
    write_table(tmp_path / "coco_ap.csv", [{"epoch": 2, "segm_AP": 0.25, "bbox_AP": 0.5}])
    logs = [{"loss": 3.0, "val_loss": 4.0, "rpn_class_loss": 1.0}, {"loss": 2.0}]
    assert report.epoch_table(logs, tmp_path / "coco_ap.csv", first_epoch=2) == [
        {"epoch": 2, "loss": 3.0, "val_loss": 4.0, "bbox_AP": 0.5, "segm_AP": 0.25},
        {"epoch": 3, "loss": 2.0},
    ]
    assert report.epoch_table([], tmp_path / "nowhere.csv") == []


def test_curves_by_epoch(tmp_path):
    pytest.importorskip("tensorboard")
    from tests.training.test_event_files import write_scalars

    assert not report.write_curves(tmp_path, tmp_path / "curves.png")
    write_scalars(tmp_path / "train", "epoch_loss", (0, 3.0, 1.0), (1, 2.0, 2.0))
    write_scalars(tmp_path, "Training/Loss", (1, 3.0, 1.0))
    assert report.write_curves(tmp_path, tmp_path / "curves.png")
    with PIL.Image.open(tmp_path / "curves.png") as picture:
        assert picture.width > 300


class Named(Rectangles):
    """Rectangles whose images have paths."""

    def __init__(self, content):
        super().__init__(content)
        for number, info in enumerate(self.image_info):
            info["path"] = f"/photos/leaf {number}.jpg"


def test_truth_and_detections_side_by_side(tmp_path):
    dataset = Named(CONTENT)
    paths = report.write_pictures(Truth(dataset), dataset, tmp_path / "pictures", count=6)
    assert [path.rpartition("/")[2] for path in paths] == [
        "1_leaf 0.png",
        "2_leaf 1.png",
        "3_leaf 2.png",
    ]
    picture = np.asarray(PIL.Image.open(paths[0]).convert("RGB")).astype(int)
    half = picture.shape[1] // 2
    left, right = picture[:, :half], picture[:, -half:]
    # The detections of this model are the truth; only captions and titles differ.
    assert (np.abs(left - right).max(axis=-1) > 60).mean() < 0.05
    assert picture.shape[1] > 2 * picture.shape[0] * 0.9


def test_some_images_are_chosen_of_many(tmp_path):
    dataset = Named(CONTENT * 3)
    model = Truth(dataset)
    paths = report.write_pictures(model, dataset, tmp_path, count=2)
    assert [path.rpartition("/")[2] for path in paths] == ["1_leaf 0.png", "2_leaf 8.png"]


def test_pictures_show_what_is_more_likely_than_not():
    config = TinyConfig()
    config.DETECTION_MIN_CONFIDENCE = 0.7
    assert report.picture_config(config).DETECTION_MIN_CONFIDENCE == 0.5
    config.DETECTION_MIN_CONFIDENCE = 0.2
    assert report.picture_config(config).DETECTION_MIN_CONFIDENCE == 0.2
    assert config.DETECTION_MIN_CONFIDENCE == 0.2
