"""Which layers train: presets, and regular expressions of layer names."""

import pytest

from mrcnn.config import Config
from mrcnn.detection import build_inference_model
from mrcnn.training import set_trainable
from tests.tiny import leaves, stage


@pytest.fixture(scope="module")
def resnet50():
    config = type("ResNet50", (Config,), {"BACKBONE": "resnet50", "NUM_CLASSES": 3})()
    return build_inference_model(config)


@pytest.mark.parametrize(
    ("preset", "first"), [("all", 1), ("3+", 3), ("4+", 4), ("5+", 5), ("heads", 6)]
)
def test_presets_let_exactly_their_stages_train(resnet50, preset, first):
    selected = set_trainable(resnet50, preset)
    wanted = [layer.name for layer in leaves(resnet50) if stage(layer.name) >= first]
    assert selected == wanted and len(wanted) >= 25
    for layer in leaves(resnet50):
        assert layer.trainable == (layer.name in wanted)
        assert bool(layer.trainable_weights) == (layer.name in wanted)


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("conv1", ["conv1"]),
        ("rpn_class_raw|mrcnn_mask", ["rpn_class_raw", "mrcnn_mask"]),
        (r"fpn_p\d", ["fpn_p5", "fpn_p4", "fpn_p3", "fpn_p2"]),
    ],
)
def test_a_regular_expression_selects_layers_by_their_whole_name(resnet50, expression, wanted):
    assert sorted(set_trainable(resnet50, expression)) == sorted(wanted)
    names = {weight.path.split("/")[-2] for weight in resnet50.trainable_weights}
    assert names == set(wanted)


@pytest.mark.parametrize("expression", ["head", "res4", "", "fpn_"])
def test_an_expression_that_matches_nothing_is_an_error(resnet50, expression):
    with pytest.raises(ValueError, match=rf"layers is '{expression}', which matches no layer"):
        set_trainable(resnet50, expression)


def test_an_expression_that_is_none_is_an_error(resnet50):
    with pytest.raises(ValueError, match=r"layers is '\(', no regular expression .* heads, 5\+"):
        set_trainable(resnet50, "(")


def test_an_error_leaves_what_trains_as_it_was(resnet50):
    set_trainable(resnet50, "heads")
    before = len(resnet50.trainable_weights)
    with pytest.raises(ValueError):
        set_trainable(resnet50, "head")
    assert len(resnet50.trainable_weights) == before
