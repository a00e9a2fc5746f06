"""callbacks.py: figures go into logs, TensorBoard, History and the table; the best weights stay."""

import copy
import os

import keras
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mrcnn import callbacks, evaluation
from mrcnn.callbacks import CocoEvaluation, read_table, write_table
from mrcnn.mask_rcnn import MaskRCNN
from tests.tiny import propose_anchors, random_rectangles, run_eagerly, tiny_config, weights_of

TRAIN = random_rectangles(4, seed=1)


def training_model(folder, **settings):
    keras.utils.set_random_seed(0)
    model = MaskRCNN("training", tiny_config(VALIDATION_STEPS=0, **settings), folder)
    propose_anchors(model.keras_model)
    return model


def given_figures(monkeypatch, *segm_ap):
    """Let the evaluations find these segm APs in turn; box AP is always half, no small objects."""
    values = iter(segm_ap)

    def evaluate(model, dataset, **images):
        figures = dict.fromkeys(evaluation.COCO_FIGURES, 0.25) | {"APs": -1.0}
        return {"bbox": {**figures, "AP": 0.5}, "segm": {**figures, "AP": next(values)}}

    monkeypatch.setattr(callbacks, "evaluate", evaluate)


@pytest.mark.slow
def test_the_figures_are_those_of_detecting_with_the_weights_as_they_are(tmp_path, monkeypatch):
    run_eagerly(monkeypatch)
    model = training_model(tmp_path)
    seen = []

    def evaluate(detector, dataset, **images):
        seen.append(weights_of(detector.keras_model))
        return evaluation.evaluate(detector, dataset, **images)

    monkeypatch.setattr(callbacks, "evaluate", evaluate)
    callback = CocoEvaluation(model, TRAIN, limit=3)
    history = model.train(TRAIN, None, 1e-3, 2, "all", custom_callbacks=[callback])
    assert {len(history.history[f"val_{name}"]) for name in ("bbox_AP", "segm_AR100")} == {2}
    before, after = seen
    trained = weights_of(model.keras_model)
    assert before.keys() <= trained.keys()
    for path in before:
        np.testing.assert_array_equal(after[path], trained[path], err_msg=path)
    assert any((before[path] != after[path]).any() for path in before)
    best = training_model(tmp_path / "elsewhere")
    best.load_weights(f"{model.log_dir}/mask_rcnn_tiny_best.h5")
    assert best.epoch == 0  # no checkpoint: going on from it is a new run
    found = weights_of(best.keras_model)
    for path in before:  # both epochs found nothing: the first stays the best
        np.testing.assert_array_equal(found[path], before[path], err_msg=path)


def test_every_second_epoch_to_table_history_and_tensorboard(tmp_path, monkeypatch):
    run_eagerly(monkeypatch)
    given_figures(monkeypatch, 0.1, 0.3)
    model = training_model(tmp_path, STEPS_PER_EPOCH=1)
    callback = CocoEvaluation(model, TRAIN, every=2)
    history = model.train(TRAIN, None, 1e-4, 5, "heads", custom_callbacks=[callback]).history
    assert history["val_segm_AP"] == [0.1, 0.3] and history["val_bbox_AP"] == [0.5, 0.5]
    assert "val_segm_APs" not in history and len(history["loss"]) == 5
    rows = read_table(f"{model.log_dir}/coco_ap.csv")
    assert [(row["epoch"], row["segm_AP"]) for row in rows] == [(2, 0.1), (4, 0.3)]
    assert set(rows[0]) == {"epoch", *callbacks.FIGURES} - {"bbox_APs", "segm_APs"}
    events = EventAccumulator(f"{model.log_dir}/validation").Reload()
    assert [event.step for event in events.Tensors("epoch_segm_AP")] == [1, 3]


def test_the_best_weights_stay_also_over_a_resumed_run(tmp_path, monkeypatch):
    given_figures(monkeypatch, 0.2, 0.4, 0.1, 0.3, 0.5)
    model = training_model(tmp_path)
    callback = CocoEvaluation(model, TRAIN)
    bias = model.keras_model.get_layer("mrcnn_bbox_fc").weights[1]

    def best_after(epoch, callback):
        bias.assign(np.full(bias.shape, epoch + 1.0))
        callback.on_epoch_end(epoch, logs := {})
        saved = training_model(tmp_path / "read")
        saved.load_weights(callback.best_path)
        return float(saved.keras_model.get_layer("mrcnn_bbox_fc").weights[1][0]), logs

    os.makedirs(model.log_dir)
    assert [best_after(epoch, callback)[0] for epoch in range(3)] == [1, 2, 2]
    # The run was killed and goes on from its second epoch: the third is done again.
    resumed = CocoEvaluation(model, TRAIN)
    assert best_after(2, resumed)[0] == 2
    assert best_after(3, resumed)[0] == 4
    table = read_table(f"{model.log_dir}/coco_ap.csv")
    assert [(row["epoch"], row["segm_AP"]) for row in table] == [
        (1, 0.2), (2, 0.4), (3, 0.3), (4, 0.5)
    ]  # fmt: skip


def test_settings_of_detection_are_those_of_training_but_for_a_few():
    config = tiny_config(IMAGE_RESIZE_MODE="crop", IMAGES_PER_GPU=3, DETECTION_MIN_CONFIDENCE=0.7)
    before = copy.deepcopy(vars(config))
    for_detection = callbacks.detection_config(config)
    assert (for_detection.BATCH_SIZE, for_detection.IMAGE_RESIZE_MODE) == (1, "pad64")
    assert for_detection.DETECTION_MIN_CONFIDENCE == 0
    assert for_detection.DETECTION_MAX_INSTANCES == config.DETECTION_MAX_INSTANCES
    assert vars(config) == before and config.IMAGES_PER_GPU == 3
    assert callbacks.detection_config(tiny_config()).IMAGE_RESIZE_MODE == "square"


def test_table_round_trip_and_what_is_none(tmp_path):
    path = tmp_path / "coco_ap.csv"
    assert read_table(path) == []
    rows = [{"epoch": 1, "bbox_AP": 0.125}, {"epoch": 12, "segm_ARl": 1 / 3, "bbox_AP": 0.0}]
    write_table(path, rows)
    assert read_table(path) == rows
    assert [entry.name for entry in tmp_path.iterdir()] == ["coco_ap.csv"]
    for text in ("a,b\n1,2\n", "epoch,bbox_AP\none,0.5\n", "epoch,bbox_AP\n1,high\n"):
        path.write_text(text)
        with pytest.raises(ValueError, match="coco_ap.csv is not a table of COCO figures"):
            read_table(path)


def test_every_must_be_an_epoch_at_least(tmp_path):
    with pytest.raises(ValueError, match="every is 0"):
        CocoEvaluation(training_model(tmp_path), TRAIN, every=0)
