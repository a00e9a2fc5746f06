"""Training on projects: split, classes, neutral pixels, weights, and what an epoch leaves."""

import json
from pathlib import Path

import numpy as np
import pytest

from mrcnn.mask_rcnn import MaskRCNN
from mrcnn.supervisely import training as training_module
from mrcnn.supervisely.model_folder import open_model_folder
from mrcnn.supervisely.schemas import TRAIN, checked
from mrcnn.supervisely.training import prepare_training
from mrcnn.weights.layers import CLASS_LAYERS
from tests.supervisely.projects import rectangle, write_image, write_meta, write_project
from tests.tiny import TinyConfig, run_eagerly, weights_of


def settings_of(**content):
    content.setdefault("input_size", {"min_dim": 64, "max_dim": 64})
    return checked(content, TRAIN, "config.json")


def prepared(project, **content):
    return prepare_training(settings_of(**content), project, TinyConfig)


def names(dataset):
    return [info["file_name"] for info in dataset.image_info]


def test_images_go_by_their_tags_and_classes_by_the_alphabet(tmp_path):
    training = prepared(write_project(tmp_path / "fruit"))
    assert names(training.train_set) == ["ds/0.png", "ds/1.png", "ds/3.png"]
    assert names(training.val_set) == ["ds/2.png", "ds/3.png"]
    assert training.titles == ["apple", "pear"]
    assert training.train_set.class_names == ["BG", "apple", "pear"]
    masks, ids = training.train_set.load_mask(0)
    # The object of the background is none.
    assert sorted(ids) == [1, 2] and masks.shape[2] == 2


def test_the_settings_of_the_network(tmp_path):
    config = prepared(
        write_project(tmp_path / "my fruit"),
        batch_size={"train": 2},
        lr=0.5,
        gpu_devices=[0],
        input_size={"min_dim": 100, "max_dim": 128},
    ).config
    assert config.NAME == "my_fruit" and config.CLASS_NAMES == ["apple", "pear"]
    assert (config.IMAGE_MIN_DIM, config.IMAGE_MAX_DIM, config.BATCH_SIZE) == (100, 128, 2)
    assert (config.STEPS_PER_EPOCH, config.VALIDATION_STEPS) == (2, 1)
    assert config.LEARNING_RATE == 0.5 and not config.USE_NEUTRAL_PIXELS


def test_neutral_objects_are_pixels_and_no_class(tmp_path):
    project = write_project(tmp_path / "fruit")
    write_meta(project, {"pear": "bitmap", "apple": "bitmap", "bg": "any", "fog": "rectangle"})
    write_image(project / "ds", "1.png", [rectangle("fog", 2, 3, 9, 11)], ["train"])
    training = prepared(project, special_classes={"neutral": "fog"})
    assert training.titles == ["apple", "pear"] and training.config.USE_NEUTRAL_PIXELS
    assert training.train_set.load_neutral(0) is None
    neutral = training.train_set.load_neutral(1)
    assert neutral.sum() == 8 * 9 and neutral[2:10, 3:12].all()
    assert len(training.train_set.load_mask(1)[1]) == 0


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            {"dataset_tags": {"val": "test"}},
            "no image of .* has the tag 'test' .dataset_tags.val.; .* tags train, val",
        ),
        ({"special_classes": {"neutral": "fog"}}, "neutral is 'fog', and .* has no such class"),
        ({"special_classes": {"neutral": "bg"}}, "names 'bg' twice"),
        ({"input_size": {"min_dim": 64, "max_dim": 100}}, "max_dim is 100; .* such as 128"),
        ({"input_size": {"min_dim": 128, "max_dim": 64}}, "min_dim is 128 and max_dim 64"),
    ],
)
def test_settings_that_do_not_fit_the_project(tmp_path, content, sentence):
    with pytest.raises(ValueError, match=sentence):
        prepared(write_project(tmp_path / "fruit"), **content)


def test_a_project_with_special_classes_only(tmp_path):
    write_meta(tmp_path / "empty", {"bg": "any"})
    with pytest.raises(ValueError, match="has no class to train besides the special ones"):
        prepared(tmp_path / "empty")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two epochs from random weights: the training, its model, the best folder, what was said."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        run_eagerly(patch)
        training = prepared(write_project(folder / "fruit"), batch_size={"train": 2})
        said = []
        training.say = said.append
        model = MaskRCNN("training", training.config, folder / "logs")
        training.load_weights(model, "random")
        best = training.run(model)
    return training, model, best, said


def test_each_epoch_leaves_a_folder(trained):
    training, model, best, _ = trained
    epochs = best.parent
    assert sorted(path.name for path in epochs.iterdir()) == ["0001", "0002", "best.json"]
    note = json.loads((epochs / "best.json").read_text())
    losses = model.keras_model.history.history["val_loss"]
    assert note == {
        "epoch": 1 + int(np.argmin(losses)),
        "folder": best.name,
        "val_loss": min(losses),
    }
    content = json.loads((best / "config.json").read_text())
    assert content["class_title_to_idx"] == {"bg": 0, "apple": 1, "pear": 2}
    assert content["settings"] == training.settings
    assert [one["title"] for one in content["classes"]] == ["pear", "apple", "bg"]
    assert sorted(path.name for path in best.iterdir()) == ["config.json", "model_weights"]
    found = open_model_folder(epochs, TinyConfig)
    assert found.titles == ["apple", "pear"] and found.weights.startswith(str(best))
    assert open_model_folder(model.log_dir, TinyConfig).weights == found.weights


def loaded(training, best, folder):
    """The weights of a new model that began with an epoch's folder, and what was said."""
    said = []
    training.say = said.append
    model = MaskRCNN("training", training.config, folder)
    training.load_weights(model, best)
    return weights_of(model.keras_model), said[0]


def test_an_epochs_folder_continues_or_starts_another_training(trained, tmp_path):
    _, _, best, _ = trained
    project = write_project(tmp_path / "fruit")
    again = prepared(project, weights_init_type="continue_training")
    continued, text = loaded(again, best, tmp_path)
    weights = best / "model_weights" / "model.h5"
    assert text == f"Continuing the training of {weights}: all layers are loaded"
    transferred, text = loaded(prepared(project), best, tmp_path)
    assert text.startswith(f"Transfer learning from {best}: all layers are loaded but those")
    differ = {
        name.split("/")[0]
        for name in continued
        if not np.array_equal(continued[name], transferred[name])
    }
    assert differ and differ <= set(CLASS_LAYERS)


def test_what_a_training_begins_with_is_said(trained, tmp_path, monkeypatch):
    """COCO's weights too are loaded without the layers of the classes."""
    _, model, best, _ = trained
    loaded, said = [], []
    monkeypatch.setattr(
        model, "load_weights", lambda path, **options: loaded.append((path, options))
    )
    monkeypatch.setattr(training_module, "load_start_weights", lambda *given: loaded.append(given))
    monkeypatch.setattr(training_module, "weights_at", lambda start: f"{start}.h5")
    training = prepared(write_project(tmp_path / "fruit"))
    training.say = said.append
    for start in ("random", "imagenet", "coco"):
        training.load_weights(model, start)
    assert [text.partition(":")[0] for text in said] == [
        "Training begins with random weights",
        "Training begins with ImageNet's weights in the backbone",
        "Transfer learning from coco",
    ]
    assert loaded[-1] == ("coco.h5", {"by_name": True, "exclude": list(CLASS_LAYERS)})


def test_other_classes_cannot_continue(trained, tmp_path):
    _, model, best, _ = trained
    project = write_project(tmp_path / "fruit")
    write_meta(project, {"pear": "bitmap", "apple": "bitmap", "bg": "any", "plum": "bitmap"})
    training = prepared(project, weights_init_type="continue_training")
    with pytest.raises(ValueError, match="it has apple, pear; the project has apple, pear, plum"):
        training.load_weights(model, best)
    with pytest.raises(FileNotFoundError, match="is no folder of an epoch"):
        training.load_weights(model, tmp_path)


def test_a_run_of_the_command_line_is_a_model_too(trained):
    training, model, _, _ = trained
    (checkpoint,) = (path for path in Path(model.log_dir).glob("*.h5"))
    found = open_model_folder(checkpoint, TinyConfig)
    assert found.weights == str(checkpoint) and found.titles == training.titles
