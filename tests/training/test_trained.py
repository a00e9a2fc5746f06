"""A trained network on disk: run folders, weight files, settings beside them, class names."""

import json
import shlex
import sys
from pathlib import Path

import keras
import pytest

from mrcnn.mask_rcnn import MaskRCNN
from mrcnn.training.run import new_run, read_record
from mrcnn.training.trained import (
    ReleasedConfig,
    classes_of,
    how_it_began,
    open_trained,
    read_config,
    settings_beside,
    weights_at,
)
from tests.tiny import CLASSES, TinyConfig, random_rectangles, tiny_config


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """The folder of a training of one epoch."""
    keras.utils.set_random_seed(0)
    model = MaskRCNN("training", tiny_config(STEPS_PER_EPOCH=1), tmp_path_factory.mktemp("logs"))
    model.training_run.notes = {"data": "rectangles"}
    model.training_run.split = {"train": ["0"], "val": ["1"]}
    model.train(random_rectangles(2), None, 0.001, epochs=1, layers="heads", verbose=0)
    return Path(model.log_dir)


def test_a_run_s_folder_is_enough(run_folder):
    trained = open_trained(run_folder, base=TinyConfig)
    assert trained.weights == str(run_folder / "mask_rcnn_tiny_0001.h5")
    assert trained.class_names == list(CLASSES)
    assert trained.config.STEPS_PER_EPOCH == 1 and trained.config.NUM_CLASSES == 4
    model = MaskRCNN("inference", trained.config.for_detection(), run_folder)
    assert model.load_weights(trained.weights).loaded
    assert f"Settings are those of {run_folder / 'config.json'}" in trained.remarks


def test_the_best_weights_go_before_the_last_checkpoint(run_folder, tmp_path):
    copy = tmp_path / run_folder.name
    copy.mkdir()
    content = (run_folder / "mask_rcnn_tiny_0001.h5").read_bytes()
    for name in ("0001", "0002", "0010"):
        (copy / f"mask_rcnn_tiny_{name}.h5").write_bytes(content)
    assert weights_at(copy) == str(copy / "mask_rcnn_tiny_0010.h5")
    (copy / "mask_rcnn_tiny_0010.h5").write_bytes(content[:100])
    assert weights_at(copy) == str(copy / "mask_rcnn_tiny_0002.h5")
    (copy / "mask_rcnn_tiny_best.h5").write_bytes(content)
    assert weights_at(copy) == str(copy / "mask_rcnn_tiny_best.h5")


def test_the_record_says_how_a_run_was_started(run_folder):
    (entry,) = read_record(run_folder)
    assert entry["epochs"] == [1, 1] and entry["data"] == "rectangles"
    assert entry["versions"]["keras"] == keras.__version__
    assert entry["backend"] == keras.backend.backend()
    assert entry["command"] == shlex.join(sys.argv)
    assert json.loads((run_folder / "split.json").read_text()) == {"train": ["0"], "val": ["1"]}


def test_a_record_of_another_program_is_no_record(tmp_path):
    (tmp_path / "run.json").write_text('{"a": 1}')
    with pytest.raises(ValueError, match="run.json is no record of a run"):
        read_record(tmp_path)
    assert read_record(tmp_path / "nowhere") == []


def test_names_of_the_config_go_before_those_of_the_data_set(tmp_path):
    run = new_run(tmp_path, "tiny")
    run.begin()
    run.write_config(tiny_config(CLASS_NAMES=["BG", "x", "y", "z"]), list(CLASSES))
    values = json.loads(Path(run.config_path).read_text())
    assert values["CLASS_NAMES"] == ["BG", "x", "y", "z"]
    run.write_config(TinyConfig(), list(CLASSES))
    assert json.loads(Path(run.config_path).read_text())["CLASS_NAMES"] == list(CLASSES)


def test_what_is_not_there_is_said(run_folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no weight file .*nowhere.h5; give"):
        open_trained(tmp_path / "nowhere.h5")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(FileNotFoundError, match="empty has no weights: a run's folder has files"):
        open_trained(empty)
    with pytest.raises(FileNotFoundError, match=f"the newest run in it is .*{run_folder.name}"):
        open_trained(run_folder.parent)


def test_a_weight_file_alone_has_the_released_settings(tmp_path):
    weights = tmp_path / "w.h5"
    weights.touch()
    trained = open_trained(weights)
    assert len(trained.classes) == 80 and trained.config.NUM_CLASSES == 81
    assert trained.classes[0] == (1, "person") and trained.classes[-1] == (90, "toothbrush")
    trained = open_trained(weights, classes=["a", "b"])
    assert trained.config.NUM_CLASSES == 3 and trained.classes == [(1, "a"), (2, "b")]


def test_the_released_weights_are_taken_from_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mask_rcnn_coco.h5").touch()
    assert weights_at("coco") == "mask_rcnn_coco.h5"


def test_an_unknown_name_in_a_file_of_differences_is_an_error(tmp_path):
    (tmp_path / "c.json").write_text('{"DETECTION_MAX_INSTANCE": 5}')
    with pytest.raises(ValueError, match="c.json: unknown setting .*MAX_INSTANCES"):
        read_config(tmp_path / "c.json", TinyConfig)


def test_settings_that_only_the_user_s_config_had_are_named(tmp_path):
    (tmp_path / "c.json").write_text(json.dumps({**TinyConfig().json_values(), "MY_COLOURS": 1}))
    config, unused = read_config(tmp_path / "c.json", TinyConfig)
    assert unused == ["MY_COLOURS"] and config.MY_COLOURS == 1


def test_what_goes_on_has_the_settings_and_the_start_of_the_run(run_folder, tmp_path):
    last = how_it_began("LAST", run_folder.parent, "tiny")
    assert last.settings["STEPS_PER_EPOCH"] == 1 and last.start == "LAST"
    record = json.loads((run_folder / "run.json").read_text())
    record[0]["weights"] = "coco"
    (run_folder / "run.json").write_text(json.dumps(record))
    assert how_it_began("last", run_folder.parent, "tiny").start == "coco"
    weights = run_folder / "mask_rcnn_tiny_0001.h5"
    begun = how_it_began(str(weights), tmp_path, "other")
    assert (begun.start, list(begun.settings)) == (str(weights), ["BACKBONE"])
    assert how_it_began("coco", tmp_path, "other")[:2] == ("coco", {})
    with pytest.raises(FileNotFoundError, match="no checkpoint of a run named 'other'"):
        how_it_began("last", tmp_path, "other")


def test_a_config_of_another_tool_beside_the_weights_is_left_alone(tmp_path):
    (tmp_path / "config.json").write_text('{"log_dir": "logs"}')
    assert settings_beside(tmp_path / "w.h5") is None
    (tmp_path / "config.json").write_text('{"NUM_CLASSES": 3}')
    assert settings_beside(tmp_path / "w.h5") == str(tmp_path / "config.json")


def test_classes_follow_from_a_configuration():
    def classes(**settings):
        return classes_of(tiny_config(**settings))

    assert classes(CLASS_NAMES=["BG", "a", "b", "c"]) == ([(1, "a"), (2, "b"), (3, "c")], None)
    assert classes(CLASS_NAMES=("a", "b", "c")) == ([(1, "a"), (2, "b"), (3, "c")], None)
    coco, remark = classes_of(ReleasedConfig())
    assert coco[-1] == (90, "toothbrush") and remark is None
    for numbered in ({}, {"CLASS_NAMES": ["a"]}, {"CLASS_NAMES": "abc"}):
        found, remark = classes(**numbered)
        assert found == [(1, "1"), (2, "2"), (3, "3")] and "called by their numbers" in remark
