"""samples/galaxy/settings.py: the JSON file and what becomes of it."""

from pathlib import Path

import numpy as np
import pytest

from mrcnn.config import Config
from samples.galaxy.galaxy import DEFAULT_CONFIG
from samples.galaxy.settings import KEYS, MADE_UP, Settings, build_config, load_settings
from tests.samples.galaxy.tiny_galaxies import TINY, settings_of

DEMO = Path(DEFAULT_CONFIG).with_name("galaxy_demo.json")
DOCUMENTED = """
    model_name model_type description trainable_layers log_dir pretrained_ckpt data_table image_dir
    batch_size num_classes epochs channels bands k_folds image_mean image_std validation_split
    test_split final_model_ckpt
""".split()


def test_the_file_in_use_has_every_documented_key():
    settings = load_settings(DEFAULT_CONFIG)
    text = Path(DEFAULT_CONFIG).read_text(encoding="utf-8")
    assert all(f'"{key}"' in text for key in DOCUMENTED)
    assert set(DOCUMENTED) <= set(KEYS)
    assert (settings.trainable_layers, settings.num_classes, settings.batch_size) == (0, 3, 16)
    build_config(settings, 1000, 200)
    build_config(load_settings(DEMO), 1000, 200)


def test_keys_left_out_have_the_recipes_values(tmp_path):
    path = tmp_path / "empty.json"
    path.write_text("{} // nothing")
    settings = load_settings(path)
    assert settings == Settings()
    config = build_config(settings, 1000, 200)
    assert (config.OPTIMIZER, config.LEARNING_RATE) == ("adamw", 1e-4)
    assert config.DECOUPLED_WEIGHT_DECAY == 5e-5
    assert (config.STEPS_PER_EPOCH, config.VALIDATION_STEPS, config.WARMUP_STEPS) == (63, 13, 63)
    assert build_config(settings, 160_000).WARMUP_STEPS == 1000
    assert config.TRAIN_EMPTY_IMAGES and not Config.TRAIN_EMPTY_IMAGES
    np.testing.assert_allclose(config.MEAN_PIXEL, [123.675, 116.28, 103.53])
    np.testing.assert_allclose(config.PIXEL_STD, [58.395, 57.12, 57.375])


def test_keys_become_settings_of_the_package(tmp_path):
    settings = settings_of(
        tmp_path,
        model_name="A name, with blanks",
        precision="mixed_bfloat16",
        channels=1,
        bands=[1],
        image_mean=[0.1],
        image_std=[0.2],
        settings={**TINY, "LEARNING_RATE_SCHEDULE": "cosine", "WARMUP_STEPS": 3},
    )
    config = build_config(settings, 10)
    assert config.NAME == "a_name_with_blanks" and config.DTYPE_POLICY == "mixed_bfloat16"
    assert config.IMAGE_SHAPE.tolist() == [64, 64, 1] and config.MEAN_PIXEL.tolist() == [25.5]
    assert (config.LEARNING_RATE_SCHEDULE, config.WARMUP_STEPS) == ("cosine", 3)


def test_precision_may_be_left_to_the_machine(tmp_path):
    assert build_config(settings_of(tmp_path, precision="auto"), 10).DTYPE_POLICY == "auto"
    assert load_settings(DEMO).precision == "auto"


def test_made_up_galaxies_are_asked_for_by_the_demo_and_by_nothing_else(tmp_path):
    assert load_settings(DEMO).made_up["count"] == 2000
    assert load_settings(DEFAULT_CONFIG).made_up is None and Settings().made_up is None
    assert settings_of(tmp_path, made_up={}).made_up == MADE_UP
    assert settings_of(tmp_path, made_up={"count": 5}).made_up == {**MADE_UP, "count": 5}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"trainable_layer": 1}, "unknown key 'trainable_layer'. Did you mean trainable_layers"),
        ({"trainable_layers": 6}, "trainable_layers is 6; it must be from 0 to 5"),
        ({"trainable_layers": -1}, "trainable_layers is -1"),
        ({"trainable_layers": True}, "trainable_layers is True"),
        ({"num_classes": 4}, "class_names is .* a list of 3 different names: num_classes 4"),
        ({"num_classes": 1}, "num_classes is 1; it must be a whole number from 2"),
        ({"batch_size": "16"}, "batch_size is '16'; it must be a whole number from 1"),
        ({"epochs": 1.5}, "epochs is 1.5"),
        ({"k_folds": -1}, "k_folds is -1"),
        ({"validation_split": 1.0}, "validation_split is 1.0; it must be from 0 to below 1"),
        ({"validation_split": 0.6, "test_split": 0.4}, "test_split is 0.4; .* left beside"),
        ({"image_mean": [0.5]}, r"image_mean is \[0.5\]; it must be a list of 3 numbers"),
        ({"image_mean": [123.0, 116.0, 103.0]}, "image_mean is .* images of 0..1"),
        ({"image_std": [0, 0.5, 0.5]}, "image_std is"),
        ({"bands": [0, 1]}, "bands is .* a list of 3"),
        ({"backbone": "resnet18"}, "backbone is 'resnet18'; it must be one of resnet50_v1_5"),
        ({"optimizer": "lion"}, "optimizer is 'lion'; it must be one of sgd, adam, adamw"),
        ({"precision": "half"}, "precision is 'half'; .* mixed_bfloat16"),
        ({"learning_rate": -1}, "learning_rate is -1"),
        ({"pretrained_ckpt": 3}, "pretrained_ckpt is 3; it must be text or null"),
        ({"one_instance_classes": ["ring"]}, "one_instance_classes is"),
        ({"learning_rate": 10**400}, "learning_rate is 1000"),
        ({"made_up": {"counts": 3}}, "made_up is"),
        ({"made_up": 400}, "made_up is 400; it must be null, or an object"),
        ({"made_up": {"count": 0}}, "made_up is .* count .from 3."),
        ({"settings": {"TRAIN_ROI_PER_IMAGE": 3}}, "'TRAIN_ROI_PER_IMAGE'. Did you mean TRAIN_R"),
        ({"settings": {"LEARNING_RATE": 3}}, "LEARNING_RATE, which the key learning_rate gives"),
        ({"settings": [1]}, "settings is"),
    ],
    ids=str,
)
def test_what_cannot_be_used_is_named_with_the_file(tmp_path, changes, says):
    with pytest.raises(ValueError, match=rf"config.json: .*{says}"):
        settings_of(tmp_path, **changes)
