"""Configurations: strict, with defaults, and one sentence for what is wrong."""

import json
from pathlib import Path

import pytest

from mrcnn.supervisely.schemas import MODES, read_inference_config, read_train_config

EXAMPLES = Path(__file__).parents[2] / "configs" / "supervisely"


def write(folder, content):
    path = folder / "config.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_the_defaults_of_training(tmp_path):
    assert read_train_config(write(tmp_path, {})) == {
        "dataset_tags": {"train": "train", "val": "val"},
        "batch_size": {"train": 1, "val": 1},
        "input_size": {"min_dim": 256, "max_dim": 256},
        "special_classes": {"background": "bg"},
        "epochs": 2,
        "lr": 0.001,
        "weights_init_type": "transfer_learning",
        "gpu_devices": [0],
        "train_layers": "all",
    }


def test_what_is_given_stays_and_the_rest_gets_defaults(tmp_path):
    given = {"lr": 0.1, "batch_size": {"train": 4}, "special_classes": {"neutral": "fog"}}
    found = read_train_config(write(tmp_path, given))
    assert found["lr"] == 0.1 and found["batch_size"] == {"train": 4, "val": 1}
    assert found["special_classes"] == {"background": "bg", "neutral": "fog"}


def test_the_defaults_of_inference(tmp_path):
    assert read_inference_config(write(tmp_path, {})) == {
        "model": {
            "gpu_device": 0,
            "min_confidence_threshold": 0,
            "confidence_tag_name": "confidence",
        },
        "mode": {
            "name": "full_image",
            "model_classes": {"save_classes": "__all__", "add_suffix": "_maskrcnn"},
            "model_tags": {"save_names": "__all__", "add_suffix": ""},
        },
    }
    sliding = {"name": "sliding_window_det", "window": {"width": 30, "height": 20}}
    found = read_inference_config(write(tmp_path, {"mode": sliding}))["mode"]
    assert found["min_overlap"] == {"x": 0, "y": 0} and found["save"] is False
    assert found["nms_after"] == {
        "enable": True,
        "iou_threshold": 0.2,
        "confidence_tag_name": "confidence",
    }


def test_classes_may_stand_outside_the_mode(tmp_path):
    classes = {"save_classes": ["apple"], "add_suffix": "_x"}
    found = read_inference_config(write(tmp_path, {"model_classes": classes}))
    assert found["mode"]["model_classes"] == classes
    both = {"model_classes": classes, "mode": {"name": "full_image", "model_classes": classes}}
    with pytest.raises(ValueError, match="model_classes is there twice"):
        read_inference_config(write(tmp_path, both))


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.json")), ids=lambda path: path.stem)
def test_the_examples(path):
    if path.stem == "train":
        assert read_train_config(path)["epochs"] == 20
    else:
        assert read_inference_config(path)["mode"]["name"] == path.stem


def test_there_is_an_example_of_each_mode():
    assert {path.stem for path in EXAMPLES.glob("*.json")} == {*MODES, "train"}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"epoch": 3}, 'unknown key "epoch" in the configuration; .* Did you mean epochs?'),
        ({"batch_size": {"test": 1}}, 'unknown key "test" in batch_size; known are train, val'),
        ({"epochs": 0}, "epochs is 0; it must be at least 1"),
        ({"epochs": 2.5}, "epochs is 2.5; it must be a whole number"),
        ({"lr": 0}, "lr is 0; it must be above 0"),
        ({"lr": "high"}, 'lr is "high"; it must be a number'),
        ({"gpu_devices": []}, r"gpu_devices is \[\]; it must be a list that is not empty"),
        ({"gpu_devices": [0, -1]}, "gpu_devices.1 is -1; it must be at least 0"),
        ({"gpu_devices": [0, 0]}, "gpu_devices is .*; it must be a list of different values"),
        (
            {"weights_init_type": "random"},
            'weights_init_type is "random"; it must be one of "transfer_learning", "continue',
        ),
        ({"train_layers": "2+"}, 'train_layers is "2\\+"; it must be one of "all", "3\\+"'),
        (
            {"special_classes": {"background": ""}},
            'special_classes.background is ""; it must be a text that is not empty',
        ),
        ({"dataset_tags": ["train"]}, r'dataset_tags is \["train"\]; it must be an object'),
        ([], r"the configuration is \[\]; it must be an object"),
    ],
)
def test_what_is_wrong_in_training_is_said(tmp_path, content, sentence):
    with pytest.raises(ValueError, match=rf"config\.json: {sentence}"):
        read_train_config(write(tmp_path, content))


@pytest.mark.parametrize(
    ("mode", "sentence"),
    [
        ({"name": "full_imag"}, 'mode.name is "full_imag"; it must be one of .* mean full_image?'),
        ({}, "mode.name is null; it must be one of full_image, roi, bboxes"),
        ({"name": "roi"}, 'mode has no "bounds", which it needs'),
        (
            {"name": "roi", "bounds": {"left": "120%"}},
            "mode.bounds.left is 120%; percent go from 0% to 100%",
        ),
        (
            {"name": "roi", "bounds": {"left": "-3px"}},
            'mode.bounds.left is "-3px"; it must be pixels such as "12px", or percent',
        ),
        ({"name": "roi", "bounds": {"left": 3}}, "mode.bounds.left is 3; it must be a text"),
        ({"name": "bboxes", "paddings": {}}, 'unknown key "paddings" in mode; .* mean padding?'),
        ({"name": "bboxes", "from_classes": "apple"}, '"apple"; it must be "__all__" or a list'),
        ({"name": "sliding_window"}, 'mode has no "window"'),
        (
            {"name": "sliding_window", "window": {"width": 3}},
            'mode.window has no "height", which it needs',
        ),
        (
            {
                "name": "sliding_window",
                "window": {"width": 30, "height": 20},
                "min_overlap": {"x": 5, "y": 20},
            },
            "mode.min_overlap.y is 20; it must be smaller than the window's height, 20",
        ),
        (
            {"name": "sliding_window", "window": {"width": 3, "height": 3}, "nms_after": {}},
            'unknown key "nms_after" in mode',
        ),
        (
            {
                "name": "sliding_window_det",
                "window": {"width": 30, "height": 20},
                "nms_after": {"iou_threshold": 2},
            },
            "mode.nms_after.iou_threshold is 2; it must be at most 1",
        ),
    ],
)
def test_what_is_wrong_in_a_mode_is_said(tmp_path, mode, sentence):
    with pytest.raises(ValueError, match=rf"config\.json: .*{sentence}"):
        read_inference_config(write(tmp_path, {"mode": mode}))


def test_files_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_train_config(tmp_path / "no.json")
    with pytest.raises(ValueError, match=r"config\.json is not a JSON file"):
        read_train_config(write(tmp_path, "{"))
