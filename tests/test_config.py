"""Config: defaults, derived values, JSON, and what is refused before a graph is built."""

import re
import warnings

import numpy as np
import pytest

from mrcnn.config import LOSS_NAMES, Config, compute_backbone_shapes

# The original's attributes and values.
DEFAULTS = {
    "NAME": None,
    "GPU_COUNT": 1,
    "IMAGES_PER_GPU": 2,
    "STEPS_PER_EPOCH": 1000,
    "VALIDATION_STEPS": 50,
    "BACKBONE": "resnet101",
    "COMPUTE_BACKBONE_SHAPE": None,
    "BACKBONE_STRIDES": [4, 8, 16, 32, 64],
    "FPN_CLASSIF_FC_LAYERS_SIZE": 1024,
    "TOP_DOWN_PYRAMID_SIZE": 256,
    "NUM_CLASSES": 1,
    "RPN_ANCHOR_SCALES": (32, 64, 128, 256, 512),
    "RPN_ANCHOR_RATIOS": [0.5, 1, 2],
    "RPN_ANCHOR_STRIDE": 1,
    "RPN_NMS_THRESHOLD": 0.7,
    "RPN_TRAIN_ANCHORS_PER_IMAGE": 256,
    "PRE_NMS_LIMIT": 6000,
    "POST_NMS_ROIS_TRAINING": 2000,
    "POST_NMS_ROIS_INFERENCE": 1000,
    "USE_MINI_MASK": True,
    "MINI_MASK_SHAPE": (56, 56),
    "IMAGE_RESIZE_MODE": "square",
    "IMAGE_MIN_DIM": 800,
    "IMAGE_MAX_DIM": 1024,
    "IMAGE_MIN_SCALE": 0,
    "IMAGE_CHANNEL_COUNT": 3,
    "MEAN_PIXEL": np.array([123.7, 116.8, 103.9]),
    "TRAIN_ROIS_PER_IMAGE": 200,
    "ROI_POSITIVE_RATIO": 0.33,
    "POOL_SIZE": 7,
    "MASK_POOL_SIZE": 14,
    "MASK_SHAPE": [28, 28],
    "MAX_GT_INSTANCES": 100,
    "RPN_BBOX_STD_DEV": np.array([0.1, 0.1, 0.2, 0.2]),
    "BBOX_STD_DEV": np.array([0.1, 0.1, 0.2, 0.2]),
    "DETECTION_MAX_INSTANCES": 100,
    "DETECTION_MIN_CONFIDENCE": 0.7,
    "DETECTION_NMS_THRESHOLD": 0.3,
    "LEARNING_RATE": 0.001,
    "LEARNING_MOMENTUM": 0.9,
    "WEIGHT_DECAY": 0.0001,
    "LOSS_WEIGHTS": {
        "rpn_class_loss": 1.0,
        "rpn_bbox_loss": 1.0,
        "mrcnn_class_loss": 1.0,
        "mrcnn_bbox_loss": 1.0,
        "mrcnn_mask_loss": 1.0,
    },
    "USE_RPN_ROIS": True,
    "TRAIN_BN": False,
    "GRADIENT_CLIP_NORM": 5.0,
}
# Settings that the original does not have; their values change nothing.
ADDED = {
    "CLASS_NAMES": None,
    "PIXEL_STD": 1.0,
    "IMAGE_VALUE_RANGE": None,
    "TRAIN_EMPTY_IMAGES": False,
    "USE_NEUTRAL_PIXELS": False,
    "MAX_BAD_IMAGE_SHARE": 0.2,
    "OPTIMIZER": "sgd",
    "DECOUPLED_WEIGHT_DECAY": 0.0,
    "WARMUP_STEPS": 0,
    "LEARNING_RATE_SCHEDULE": "constant",
    "LEARNING_RATE_DROPS": (2 / 3, 8 / 9),
    "GRADIENT_ACCUMULATION_STEPS": 1,
    "GRADIENT_CHECKPOINTING": False,
    "EMA_MOMENTUM": 0.0,
    "CHECKPOINT_MINUTES": 10.0,
    "KEEP_CHECKPOINTS": None,
    "DTYPE_POLICY": "float32",
}
DERIVED = {"BATCH_SIZE", "IMAGE_SHAPE", "IMAGE_META_SIZE"}


class Balloon(Config):
    NAME = "balloon"
    NUM_CLASSES = 1 + 1
    OWN_SETTING = (1, 2)


def changed(**settings) -> Config:
    """A Config that works, but for these settings."""
    config = Balloon()
    for name, value in settings.items():
        setattr(config, name, value)
    return config


def as_id(value) -> str:
    """A value in words that are the same in every process, which addresses are not."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))


def a_backbone(input_image, stage5=True, train_bn=None):
    return [input_image] * 5


def its_shapes(image_shape):
    return [[2, 3]] * 5


# ---- Values ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DEFAULTS)
def test_default_is_the_originals(name):
    value, wanted = getattr(Config, name), DEFAULTS[name]
    assert type(value) is type(wanted)
    np.testing.assert_equal(value, wanted)


def test_there_are_no_other_settings():
    assert set(Config().names()) == DEFAULTS.keys() | ADDED.keys() | DERIVED
    assert {name: getattr(Config, name) for name in ADDED} == ADDED


def test_derived_values_follow_what_they_depend_on():
    config = changed(GPU_COUNT=3, IMAGES_PER_GPU=4, IMAGE_MAX_DIM=128, IMAGE_CHANNEL_COUNT=1)
    assert config.BATCH_SIZE == 12
    assert list(config.IMAGE_SHAPE) == [128, 128, 1]
    assert config.IMAGE_META_SIZE == 1 + 3 + 3 + 4 + 1 + 2
    config.IMAGE_RESIZE_MODE, config.IMAGE_MIN_DIM, config.NUM_CLASSES = "crop", 64, 81
    assert list(config.IMAGE_SHAPE) == [64, 64, 1]
    assert config.IMAGE_META_SIZE == 93


def test_derived_values_can_be_assigned_on_an_instance():
    config = Balloon()
    config.BATCH_SIZE = 5
    assert config.BATCH_SIZE == 5
    assert Balloon().BATCH_SIZE == 2


# As in the original, whose constructor computes over what the class says.
@pytest.mark.parametrize(
    ("name", "value", "computed"),
    [
        ("BATCH_SIZE", 8, 2),
        ("IMAGE_SHAPE", np.array([64, 128, 3]), [1024, 1024, 3]),
        ("IMAGE_META_SIZE", 93, 14),
    ],
)
def test_derived_values_of_a_class_give_way_with_a_warning(name, value, computed):
    class Own(Balloon):
        locals()[name] = value
        STEPS_PER_EPOCH = 7

    class Further(Own):
        pass

    config = Further()
    with pytest.warns(UserWarning, match=rf"Further.{name} is .*counts.* config.{name} on the"):
        assert list(np.atleast_1d(getattr(config, name))) == list(np.atleast_1d(computed))
    with warnings.catch_warnings():  # said once
        warnings.simplefilter("error")
        assert np.array_equal(getattr(config, name), computed)
    assert np.array_equal(getattr(Own, name), value)
    assert name in config.names()
    setattr(config, name, value)
    assert np.array_equal(getattr(config, name), value)
    assert np.array_equal(getattr(Balloon(), name), computed)


def test_derived_values_of_a_class_that_are_right_or_set_later(tmp_path):
    class Right(Balloon):
        BATCH_SIZE = 2

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        config = Right()
        assert config.BATCH_SIZE == 2
        config.to_json(tmp_path / "config.json")
    assert "BATCH_SIZE" not in (tmp_path / "config.json").read_text()
    Right.BATCH_SIZE = 3
    with pytest.warns(UserWarning, match="Right.BATCH_SIZE is 3 in the class, but 2 counts"):
        assert Right().BATCH_SIZE == 2


def test_a_property_may_compute_a_derived_value():
    class Wide(Balloon):
        @property
        def IMAGE_SHAPE(self):
            return np.array([64, 128, 3])

    assert list(Wide().IMAGE_SHAPE) == [64, 128, 3]


def test_a_subclass_may_compute_settings_in_its_constructor():
    class Sized(Config):
        def __init__(self, classes):
            self.NUM_CLASSES = classes
            super().__init__()

    assert Sized(5).IMAGE_META_SIZE == 17


def test_changing_one_config_leaves_the_others():
    changed(NUM_CLASSES=9)
    assert Balloon().NUM_CLASSES == 2 and Config().NUM_CLASSES == 1


def test_display_prints_every_setting_and_the_users_own(capsys):
    Balloon().display()
    lines = capsys.readouterr().out.splitlines()
    printed = {line.split()[0]: line.split(maxsplit=1)[1:] for line in lines if line}
    assert printed.keys() >= DEFAULTS.keys() | DERIVED
    assert printed["OWN_SETTING"] == ["(1, 2)"]
    assert printed["BATCH_SIZE"] == ["2"]


def test_backbone_shapes_round_up():
    for backbone in ("resnet101", "resnet50_v1_5"):
        shapes = compute_backbone_shapes(changed(BACKBONE=backbone), (1024, 1000, 3))
        assert shapes.tolist() == [[256, 250], [128, 125], [64, 63], [32, 32], [16, 16]]
    config = changed(BACKBONE=a_backbone, COMPUTE_BACKBONE_SHAPE=its_shapes)
    assert compute_backbone_shapes(config, (128, 128, 3)).tolist() == [[2, 3]] * 5
    config = changed(BACKBONE=a_backbone, BACKBONE_STRIDES=(8, 16, 32))
    assert compute_backbone_shapes(config, (128, 100)).tolist() == [[16, 13], [8, 7], [4, 4]]
    # A named BACKBONE has no use for it.
    config = changed(COMPUTE_BACKBONE_SHAPE=its_shapes)
    assert compute_backbone_shapes(config, (128, 128, 3)).tolist()[0] == [32, 32]


# ---- JSON ------------------------------------------------------------------------------------


def test_json_round_trip_keeps_values_and_kinds(tmp_path):
    config = changed(
        MEAN_PIXEL=np.array([1.5, 2.0, 3.0]),
        PIXEL_STD=[4.0, 5.0, 6.0],
        RPN_ANCHOR_SCALES=(8, 16, 32, 64, 128),
        STEPS_PER_EPOCH=np.int64(7),
        LEARNING_RATE=np.float32(0.5),
        LOSS_WEIGHTS={name: 2.0 for name in LOSS_NAMES},
        TRAIN_BN=None,
        OWN_SETTING=(3, 4),
    )
    config.to_json(tmp_path / "deep" / "config.json")
    read = Balloon.from_json(tmp_path / "deep" / "config.json")
    assert type(read) is Balloon
    for name in config.names():
        np.testing.assert_equal(getattr(read, name), getattr(config, name), err_msg=name)
    for name in ("MEAN_PIXEL", "RPN_ANCHOR_SCALES", "OWN_SETTING", "RPN_ANCHOR_RATIOS"):
        assert type(getattr(read, name)) is type(getattr(config, name))


def test_json_holds_derived_values_only_when_assigned(tmp_path):
    path = tmp_path / "config.json"
    changed(GPU_COUNT=2).to_json(path)
    assert not any(name in path.read_text() for name in DERIVED)
    assert Balloon.from_json(path).BATCH_SIZE == 4
    changed(BATCH_SIZE=7).to_json(path)
    assert Balloon.from_json(path).BATCH_SIZE == 7


def test_json_may_have_comments_and_slashes_in_strings(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(
        '// trained "at night"\n'
        '{"NAME": "a//b \\" // c", // the name\n'
        ' "OWN_SETTING": [1] // the "last"\n'
        "}\n"
    )
    config = Balloon.from_json(path)
    assert config.NAME == 'a//b " // c'
    assert config.OWN_SETTING == (1,)


def test_json_with_an_unknown_name_suggests_the_known_one(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"LEARNIG_RATE": 1}')
    with pytest.raises(ValueError, match="LEARNIG_RATE.*Did you mean LEARNING_RATE"):
        Balloon.from_json(path)
    path.write_text('{"OWN_SETTING": 1}')
    with pytest.raises(ValueError, match="unknown setting 'OWN_SETTING'"):
        Config.from_json(path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not a JSON file"),
        ("", "not a JSON file"),
        ("[1]", "holds a JSON list"),
        ("3", "holds a JSON int"),
    ],
)
def test_json_that_is_no_configuration_is_refused(text, says, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=says) as error:
        Config.from_json(path)
    assert str(path) in str(error.value)


def test_a_binary_file_is_no_json(tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(b"\x89HDF\xff\xfe")
    with pytest.raises(ValueError, match="not a JSON file"):
        Config.from_json(path)


def test_what_json_cannot_hold_is_refused_and_nothing_is_written(tmp_path):
    path = tmp_path / "config.json"
    Balloon().to_json(path)
    before = path.read_text()
    config = changed(BACKBONE=a_backbone, COMPUTE_BACKBONE_SHAPE=its_shapes)
    with pytest.raises(ValueError, match="a_backbone"):
        config.to_json(path)
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]
    assert path.read_text() == before


# ---- What can work ----------------------------------------------------------------------------

WORKS = [
    {},
    {"IMAGES_PER_GPU": np.int32(3), "STEPS_PER_EPOCH": np.int64(1)},
    {"STEPS_PER_EPOCH": 131 / 4, "VALIDATION_STEPS": 2.5},
    {"LEARNING_RATE": np.float32(0.1), "DETECTION_MIN_CONFIDENCE": 0, "LEARNING_MOMENTUM": 0},
    {"IMAGE_MIN_SCALE": 1.5, "GRADIENT_CLIP_NORM": 1},
    {"USE_MINI_MASK": np.bool_(False), "USE_RPN_ROIS": False},
    {"TRAIN_BN": None},
    {"TRAIN_BN": True},
    {"RPN_ANCHOR_SCALES": np.array([8, 16, 32, 64, 128]), "RPN_ANCHOR_RATIOS": (1,)},
    {"RPN_ANCHOR_SCALES": (8, 16, 32, 64)},
    {"RPN_ANCHOR_SCALES": [64]},
    {"RPN_ANCHOR_SCALES": (8, 16, 32), "BACKBONE_STRIDES": np.array([4, 8, 16])},
    {"BACKBONE_STRIDES": (4, 8.0, 16, 32, 64)},
    {"BACKBONE": a_backbone, "BACKBONE_STRIDES": (8, 16, 32, 64, 128)},
    {"MASK_POOL_SIZE": 7, "MASK_SHAPE": (14, 14)},
    {"MASK_POOL_SIZE": 7, "MASK_SHAPE": np.array([14, 14])},
    {"IMAGE_CHANNEL_COUNT": 1, "MEAN_PIXEL": [110]},
    {"IMAGE_CHANNEL_COUNT": 1, "MEAN_PIXEL": [110], "PIXEL_STD": [50]},
    {"PIXEL_STD": 58},
    {"IMAGE_VALUE_RANGE": [0, 4095]},
    {"IMAGE_VALUE_RANGE": (-1024.0, 3071.0)},
    {"PIXEL_STD": np.array([58.395, 57.12, 57.375])},
    {"BACKBONE": "resnet50"},
    {"BACKBONE": "resnet50_v1_5"},
    {"BACKBONE": "resnet101_v1_5"},
    {"BACKBONE": a_backbone, "COMPUTE_BACKBONE_SHAPE": its_shapes},
    {"LOSS_WEIGHTS": {"rpn_class_loss": 2}},
    {"OPTIMIZER": "adamw", "DECOUPLED_WEIGHT_DECAY": 1, "EMA_MOMENTUM": 0.999},
    {"LEARNING_RATE_SCHEDULE": "step", "LEARNING_RATE_DROPS": [0.5], "WARMUP_STEPS": 1000},
    {"DTYPE_POLICY": "mixed_bfloat16", "GRADIENT_ACCUMULATION_STEPS": 4},
    {"DTYPE_POLICY": "auto"},
    {"GRADIENT_CHECKPOINTING": True},
    {"IMAGE_MIN_DIM": 100, "IMAGE_MAX_DIM": 128},
    {"IMAGE_MIN_DIM": 0, "IMAGE_MAX_DIM": 128},
    {"IMAGE_RESIZE_MODE": "pad64", "IMAGE_MIN_DIM": 128},
    {"IMAGE_RESIZE_MODE": "crop", "IMAGE_MIN_DIM": 64, "IMAGE_MAX_DIM": 100},
    {"IMAGE_RESIZE_MODE": "none", "IMAGE_MIN_DIM": 17},
]


@pytest.mark.parametrize("settings", WORKS, ids=as_id)
def test_what_can_work_is_accepted(settings):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        changed(**settings).validate()


# Settings, and the words that the answer must hold: name, value and what would do.
CANNOT_WORK = [
    ({"NUM_CLASSES": 1}, ["NUM_CLASSES is 1", "1 + 1"]),
    ({"NUM_CLASSES": 0}, ["NUM_CLASSES is 0"]),
    ({"IMAGE_MAX_DIM": 1000}, ["IMAGE_MAX_DIM is 1000", "square", "960 or 1024"]),
    ({"IMAGE_MAX_DIM": 30, "IMAGE_MIN_DIM": 20}, ["IMAGE_MAX_DIM is 30", "64 would do"]),
    (
        {"IMAGE_RESIZE_MODE": "pad64", "IMAGE_MIN_DIM": 800},
        ["IMAGE_MIN_DIM is 800", "pad64", "768 or 832"],
    ),
    (
        {"IMAGE_RESIZE_MODE": "crop", "IMAGE_MIN_DIM": 100},
        ["IMAGE_MIN_DIM is 100", "crop", "64 or 128"],
    ),
    (
        {"IMAGE_RESIZE_MODE": "pad64", "IMAGE_MIN_DIM": 64, "IMAGE_MAX_DIM": 100},
        ["IMAGE_MAX_DIM is 100", "64 or 128"],
    ),
    ({"IMAGE_RESIZE_MODE": "none", "IMAGE_MAX_DIM": 100}, ["IMAGE_MAX_DIM is 100", "none"]),
    ({"IMAGE_RESIZE_MODE": "crop", "IMAGE_MIN_DIM": 0}, ["IMAGE_MIN_DIM is 0", "64 would do"]),
    ({"IMAGE_RESIZE_MODE": "crop", "IMAGE_MIN_DIM": -64}, ["IMAGE_MIN_DIM is -64"]),
    ({"IMAGE_MIN_DIM": -1}, ["IMAGE_MIN_DIM is -1"]),
    ({"IMAGE_MIN_SCALE": -2}, ["IMAGE_MIN_SCALE is -2"]),
    ({"IMAGE_MIN_DIM": 1088}, ["IMAGE_MIN_DIM is 1088", "1024"]),
    ({"IMAGE_MAX_DIM": 0}, ["IMAGE_MAX_DIM is 0", "1 or more"]),
    ({"IMAGE_RESIZE_MODE": "squares"}, ["IMAGE_RESIZE_MODE is 'squares'", "pad64"]),
    ({"IMAGE_RESIZE_MODE": None}, ["IMAGE_RESIZE_MODE is None", "square"]),
    ({"RPN_ANCHOR_SCALES": ()}, ["RPN_ANCHOR_SCALES", "()"]),
    ({"RPN_ANCHOR_SCALES": (8, 16, 32, 64, 128, 256)}, ["RPN_ANCHOR_SCALES has 6", "at most 5"]),
    ({"RPN_ANCHOR_SCALES": (0, 16, 32, 64, 128)}, ["RPN_ANCHOR_SCALES", "above 0"]),
    ({"RPN_ANCHOR_SCALES": 32}, ["RPN_ANCHOR_SCALES is 32", "list of numbers"]),
    ({"RPN_ANCHOR_SCALES": "32, 64"}, ["RPN_ANCHOR_SCALES", "list of numbers"]),
    ({"RPN_ANCHOR_SCALES": ((8, 16), 32, 64, 128, 256)}, ["RPN_ANCHOR_SCALES", "numbers"]),
    ({"BACKBONE_STRIDES": [4, 8, 16, 32]}, ["BACKBONE_STRIDES has 4", "SCALES 5", "5 for P2"]),
    ({"BACKBONE_STRIDES": [4, 8, 16, 32, 64, 128]}, ["BACKBONE_STRIDES has 6", "5 for P2 to P6"]),
    ({"BACKBONE_STRIDES": (8, 16, 32, 64, 128)}, ["is [8, 16, 32, 64, 128]", "[4, 8, 16, 32, 64]"]),
    (
        {"BACKBONE_STRIDES": [4, 8, 16, 24, 48], "BACKBONE": "resnet50_v1_5"},
        ["BACKBONE_STRIDES is [4, 8, 16, 24, 48]", "[4, 8, 16, 32, 64]", "'resnet50_v1_5'"],
    ),
    (
        {"BACKBONE_STRIDES": [4, 8, 16, 33], "RPN_ANCHOR_SCALES": (8, 16, 32, 64)},
        ["BACKBONE_STRIDES is [4, 8, 16, 33]", "[4, 8, 16, 32, 64]"],
    ),
    ({"BACKBONE_STRIDES": [4, 8, 16, 32, -64]}, ["BACKBONE_STRIDES", "above 0"]),
    ({"RPN_ANCHOR_RATIOS": []}, ["RPN_ANCHOR_RATIOS"]),
    ({"RPN_ANCHOR_RATIOS": [0, 1]}, ["RPN_ANCHOR_RATIOS", "above 0"]),
    ({"RPN_ANCHOR_RATIOS": [1, "2"]}, ["RPN_ANCHOR_RATIOS", "numbers"]),
    ({"RPN_ANCHOR_STRIDE": 0}, ["RPN_ANCHOR_STRIDE is 0"]),
    ({"IMAGES_PER_GPU": 0}, ["IMAGES_PER_GPU is 0", "1 or more"]),
    ({"IMAGES_PER_GPU": 2.0}, ["IMAGES_PER_GPU is 2.0", "whole number"]),
    ({"IMAGES_PER_GPU": "2"}, ["IMAGES_PER_GPU is '2'", "whole number"]),
    ({"IMAGES_PER_GPU": True}, ["IMAGES_PER_GPU is True", "whole number"]),
    ({"IMAGES_PER_GPU": None}, ["IMAGES_PER_GPU is None", "whole number"]),
    ({"GPU_COUNT": np.float32(1)}, ["GPU_COUNT", "whole number"]),
    ({"STEPS_PER_EPOCH": 0}, ["STEPS_PER_EPOCH is 0"]),
    ({"VALIDATION_STEPS": -1}, ["VALIDATION_STEPS is -1"]),
    ({"LEARNING_RATE": "0.1"}, ["LEARNING_RATE is '0.1'", "number"]),
    ({"LEARNING_RATE": True}, ["LEARNING_RATE is True", "number"]),
    ({"LEARNING_RATE": float("nan")}, ["LEARNING_RATE is nan"]),
    ({"LEARNING_RATE": 10**400}, ["LEARNING_RATE is 1000", "number"]),
    ({"WEIGHT_DECAY": None}, ["WEIGHT_DECAY is None", "number"]),
    ({"USE_MINI_MASK": 1}, ["USE_MINI_MASK is 1", "True or False"]),
    ({"USE_RPN_ROIS": "no"}, ["USE_RPN_ROIS is 'no'", "True or False"]),
    ({"TRAIN_BN": "no"}, ["TRAIN_BN is 'no'", "None"]),
    ({"RPN_NMS_THRESHOLD": 1.1}, ["RPN_NMS_THRESHOLD is 1.1", "from 0 to 1"]),
    ({"DETECTION_NMS_THRESHOLD": -0.1}, ["DETECTION_NMS_THRESHOLD is -0.1"]),
    ({"DETECTION_MIN_CONFIDENCE": 70}, ["DETECTION_MIN_CONFIDENCE is 70"]),
    ({"ROI_POSITIVE_RATIO": 0}, ["ROI_POSITIVE_RATIO is 0", "0.33"]),
    ({"ROI_POSITIVE_RATIO": 1.5}, ["ROI_POSITIVE_RATIO is 1.5"]),
    ({"MEAN_PIXEL": [1.0]}, ["MEAN_PIXEL has 1", "IMAGE_CHANNEL_COUNT is 3"]),
    ({"IMAGE_CHANNEL_COUNT": 1}, ["MEAN_PIXEL has 3", "IMAGE_CHANNEL_COUNT is 1"]),
    ({"MEAN_PIXEL": 110.0}, ["MEAN_PIXEL is 110.0", "list of numbers"]),
    ({"MEAN_PIXEL": np.array(110.0)}, ["MEAN_PIXEL", "list of numbers"]),
    ({"MEAN_PIXEL": [None] * 3}, ["MEAN_PIXEL", "list of numbers"]),
    ({"PIXEL_STD": 0}, ["PIXEL_STD is 0", "above 0"]),
    ({"PIXEL_STD": [1.0, -1.0, 1.0]}, ["PIXEL_STD", "above 0"]),
    ({"PIXEL_STD": [1.0, 1.0]}, ["PIXEL_STD has 2", "IMAGE_CHANNEL_COUNT is 3"]),
    ({"PIXEL_STD": "58"}, ["PIXEL_STD is '58'", "a number, or a list"]),
    ({"PIXEL_STD": None}, ["PIXEL_STD is None", "a number, or a list"]),
    ({"IMAGE_VALUE_RANGE": (4095, 0)}, ["IMAGE_VALUE_RANGE is (4095, 0)", "(black, white)"]),
    ({"IMAGE_VALUE_RANGE": (0, 1, 2)}, ["IMAGE_VALUE_RANGE is (0, 1, 2)", "two numbers"]),
    ({"IMAGE_VALUE_RANGE": 4095}, ["IMAGE_VALUE_RANGE is 4095", "two numbers"]),
    ({"MASK_SHAPE": [14, 14]}, ["MASK_SHAPE is [14, 14]", "[28, 28]"]),
    ({"MASK_POOL_SIZE": 7}, ["MASK_POOL_SIZE 7", "[14, 14]"]),
    ({"MINI_MASK_SHAPE": (56,)}, ["MINI_MASK_SHAPE is (56,)", "two whole numbers"]),
    ({"MINI_MASK_SHAPE": (56, 0)}, ["MINI_MASK_SHAPE is (56, 0)"]),
    ({"MINI_MASK_SHAPE": (56.5, 56)}, ["MINI_MASK_SHAPE"]),
    ({"BBOX_STD_DEV": [0.1, 0.1]}, ["BBOX_STD_DEV is [0.1, 0.1]", "four numbers"]),
    ({"RPN_BBOX_STD_DEV": [0.1, 0.1, 0.2, 0.0]}, ["RPN_BBOX_STD_DEV", "above 0"]),
    ({"BACKBONE": "resnet34"}, ["BACKBONE is 'resnet34'", "resnet101, resnet50_v1_5"]),
    ({"BACKBONE": "resnet50_v1.5"}, ["BACKBONE is 'resnet50_v1.5'", "resnet50_v1_5"]),
    ({"BACKBONE": None}, ["BACKBONE is None"]),
    (
        {"BACKBONE": a_backbone, "COMPUTE_BACKBONE_SHAPE": [[2, 3]]},
        ["COMPUTE_BACKBONE_SHAPE is [[2, 3]]", "must be None or a callable"],
    ),
    ({"LOSS_WEIGHTS": [1.0]}, ["LOSS_WEIGHTS is [1.0]", "dict"]),
    ({"LOSS_WEIGHTS": {"rpn_clas_loss": 1.0}}, ["rpn_clas_loss", "Did you mean rpn_class_loss"]),
    ({"OPTIMIZER": "Adam"}, ["OPTIMIZER is 'Adam'", "sgd, adam, adamw"]),
    ({"OPTIMIZER": None}, ["OPTIMIZER is None"]),
    ({"DECOUPLED_WEIGHT_DECAY": -0.1}, ["DECOUPLED_WEIGHT_DECAY is -0.1", "0 or more"]),
    ({"WARMUP_STEPS": -1}, ["WARMUP_STEPS is -1"]),
    ({"WARMUP_STEPS": 0.5}, ["WARMUP_STEPS is 0.5", "whole number"]),
    ({"LEARNING_RATE_SCHEDULE": "linear"}, ["'linear'", "constant, step, cosine"]),
    ({"LEARNING_RATE_DROPS": (60, 80)}, ["LEARNING_RATE_DROPS is (60, 80)", "below 1"]),
    ({"LEARNING_RATE_DROPS": (0.9, 0.5)}, ["LEARNING_RATE_DROPS", "rising"]),
    ({"LEARNING_RATE_DROPS": ()}, ["LEARNING_RATE_DROPS"]),
    ({"GRADIENT_ACCUMULATION_STEPS": 0}, ["GRADIENT_ACCUMULATION_STEPS is 0", "1 or more"]),
    ({"GRADIENT_CHECKPOINTING": 1}, ["GRADIENT_CHECKPOINTING is 1", "True or False"]),
    ({"GRADIENT_CHECKPOINTING": True, "TRAIN_BN": None}, ["TRAIN_BN None", "must be False"]),
    ({"EMA_MOMENTUM": 1}, ["EMA_MOMENTUM is 1", "below 1"]),
    ({"DTYPE_POLICY": "float16"}, ["DTYPE_POLICY is 'float16'", "mixed_bfloat16"]),
    ({"TRAIN_EMPTY_IMAGES": 1}, ["TRAIN_EMPTY_IMAGES is 1", "True or False"]),
    ({"LOSS_WEIGHTS": {"rpn_class_loss": "1"}}, ["LOSS_WEIGHTS", "rpn_class_loss", "number"]),
]


@pytest.mark.parametrize(("settings", "words"), CANNOT_WORK, ids=as_id)
def test_what_cannot_work_is_refused_with_what_would(settings, words):
    with pytest.raises(ValueError) as error:
        changed(**settings).validate()
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("name", sorted(DEFAULTS.keys() - {"NAME", "COMPUTE_BACKBONE_SHAPE"}))
@pytest.mark.parametrize("value", [object(), {1}, b"7"], ids=["object", "set", "bytes"])
def test_no_setting_takes_just_anything(name, value):
    with pytest.raises(ValueError, match=name):
        changed(**{name: value}).validate()


def test_a_name_nearly_that_of_a_setting_warns():
    config = changed(LEARNING_RATES=0.1)
    with pytest.warns(UserWarning, match="LEARNING_RATES.*did you mean LEARNING_RATE"):
        config.validate()


# ---- From a command line -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("IMAGE_MAX_DIM=512", 512),
        (" LEARNING_RATE = 1e-2 ", 0.01),
        ("USE_MINI_MASK=false", False),
        ("BACKBONE=resnet50", "resnet50"),
        ("NAME=a,b", "a,b"),
        ("IMAGE_VALUE_RANGE=0,4095", [0, 4095]),
        ("RPN_ANCHOR_SCALES=8,16", (8, 16)),
        ("RPN_ANCHOR_SCALES=[8, 16]", (8, 16)),
        ("CLASS_NAMES=a,b", ["a", "b"]),
        ("CLASS_NAMES=a", ["a"]),
        ("KEEP_CHECKPOINTS=None", None),
        ("KEEP_CHECKPOINTS=3", 3),
        ("TRAIN_BN=null", None),
        ('LOSS_WEIGHTS={"rpn_class_loss": 2}', {"rpn_class_loss": 2}),
    ],
)
def test_a_setting_of_a_command_line_gets_its_type(text, value):
    config = Config()
    config.assign(text)
    found = getattr(config, text.split("=")[0].strip())
    assert found == value and type(found) is type(value)


def test_a_list_becomes_an_array_where_the_default_is_one():
    config = Config()
    config.assign("MEAN_PIXEL=1,2,3")
    np.testing.assert_array_equal(config.MEAN_PIXEL, [1, 2, 3])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("IMAGE_MAX_DIM", "'IMAGE_MAX_DIM' is no setting; write NAME=VALUE"),
        ("=3", "is no setting"),
        ("IMAGE_MAX_DIN=3", "unknown setting 'IMAGE_MAX_DIN'. Did you mean IMAGE_MAX_DIM?"),
        ("image_max_dim=3", "unknown setting 'image_max_dim'. Did you mean IMAGE_MAX_DIM?"),
        ("IMAGE_MAX_DIM=big", "IMAGE_MAX_DIM is 'big'; it must be a whole number."),
        ("USE_MINI_MASK=3", "USE_MINI_MASK is '3'; it must be True or False."),
        ("RPN_ANCHOR_SCALES=a,b", "it must be a list of numbers"),
    ],
)
def test_a_wrong_setting_of_a_command_line_is_one_sentence(text, message):
    config = Config()
    with pytest.raises(ValueError, match=re.escape(message)):
        config.assign(text)
    assert vars(config) == {}


def test_an_update_with_an_unknown_name_changes_nothing():
    config = Config()
    with pytest.raises(ValueError, match="f.json: unknown setting 'NAM'. Did you mean NAME?"):
        config.update({"IMAGE_MAX_DIM": 64, "NAM": "x"}, "f.json")
    assert vars(config) == {}
