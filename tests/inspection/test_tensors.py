"""The inside of a network under the original's names: tensors, values, layers with weights."""

from collections import OrderedDict

import keras
import numpy as np
import pytest

from mrcnn import inspection
from mrcnn.geometry import boxes
from mrcnn.mask_rcnn import MaskRCNN
from tests.tiny import propose_anchors, random_rectangles, tiny_config

DATA = random_rectangles(4)
NMS_NAMES = (
    "ROI/rpn_non_max_suppression:0",
    "ROI/rpn_non_max_suppression",
    "ROI/rpn_non_max_suppression/NonMaxSuppressionV2:0",
    "ROI/rpn_non_max_suppression/NonMaxSuppressionV3:0",
)


def build(mode, folder, **settings):
    keras.utils.set_random_seed(0)
    model = MaskRCNN(mode, tiny_config(**settings), folder)
    propose_anchors(model.keras_model)
    return model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return build("inference", tmp_path_factory.mktemp("logs"), DETECTION_MAX_INSTANCES=5)


@pytest.fixture(scope="module")
def training_model(tmp_path_factory):
    return build("training", tmp_path_factory.mktemp("logs"))


@pytest.fixture(scope="module")
def pillar(model):
    return output_of(model, "ROI")


def output_of(model, name):
    return model.keras_model.get_layer(name).output


def steps_of(model, pillar):
    names = ("pre_nms_anchors", "refined_anchors", "refined_anchors_clipped")
    named = [(name, model.ancestor(pillar, f"ROI/{name}:0")) for name in names]
    return [
        ("rpn_class", output_of(model, "rpn_class")),
        *named,
        ("post_nms_anchor_ix", model.ancestor(pillar, NMS_NAMES[0])),
        ("proposals", pillar),
    ]


# ---- Tensors by name -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["ROI/pre_nms_anchors", "ROI/refined_anchors:0", "refined_anchors_clipped"]
)
def test_steps_of_the_proposals_are_found(model, pillar, name):
    assert model.ancestor(pillar, name).shape == (None, None, 4)


@pytest.mark.parametrize("name", NMS_NAMES)
def test_kept_rows_are_found_under_each_name_tensorflow_gave_them(model, pillar, name):
    tensor = model.ancestor(pillar, name)
    assert tensor.shape == (None,) and tensor.dtype == "int32"


@pytest.mark.parametrize("name", ["rpn_class", "mrcnn_mask", "res3a_branch2a", "input_image"])
@pytest.mark.parametrize("suffix", ["", ":0"])
def test_any_layer_is_found_from_the_outputs(model, name, suffix):
    tensor = model.ancestor(model.keras_model.output, name + suffix)
    assert tensor is output_of(model, name)


def test_a_layer_is_found_only_behind_the_tensor(model, pillar):
    assert model.ancestor(pillar, "rpn_bbox") is output_of(model, "rpn_bbox")
    assert model.ancestor(pillar, "mrcnn_mask") is None
    assert model.ancestor(output_of(model, "rpn_class"), "ROI/refined_anchors") is None


@pytest.mark.parametrize(
    "name",
    ["refined", "ROI/", "ROI/anchors", "OI", "", "rpn_class:1", "ROI_1/refined_anchors"],
)
def test_a_name_that_is_not_there_gives_none(model, pillar, name):
    assert model.ancestor(pillar, name) is None


def test_a_name_may_leave_out_the_number():
    image = keras.Input((4,), name="image")
    x = keras.layers.Dense(3, name="part_2")(image)
    assert inspection.ancestor(x, "part") is inspection.ancestor(x, "part_2:0") is x
    assert inspection.ancestor(x, "part_3") is None
    exact = keras.layers.Dense(3, name="part")(x)
    # The exact name goes before a nearer one with a number.
    assert inspection.ancestor(keras.layers.Dense(3, name="part_7")(exact), "part") is exact


def test_further_outputs_of_a_layer_have_their_number(training_model):
    sampled = training_model.keras_model.get_layer("proposal_targets").output
    end = output_of(training_model, "mrcnn_mask")
    for index, tensor in enumerate(sampled):
        found = training_model.ancestor(list(sampled), f"proposal_targets:{index}")
        assert found is tensor
    assert training_model.ancestor(end, "proposal_targets:0") is sampled[0]


def test_tensors_already_checked_are_passed_over_and_remembered(model, pillar):
    checked = [output_of(model, "rpn_bbox")]
    assert model.ancestor(pillar, "rpn_bbox", checked) is None
    assert any(tensor is pillar for tensor in checked) and len(checked) > 10


def test_what_is_no_tensor_of_a_model_is_an_error(model):
    with pytest.raises(ValueError, match=r"array.* is no tensor of a model; .*get_layer"):
        model.ancestor(np.zeros(3), "ROI")


# ---- Values ----------------------------------------------------------------------------------


def test_proposals_step_by_step(model, pillar, capsys):
    image = DATA.load_image(1)
    rpn = model.run_graph([image], steps_of(model, pillar))
    assert isinstance(rpn, OrderedDict)
    assert list(rpn) == [name for name, _ in steps_of(model, pillar)]
    assert all(isinstance(array, np.ndarray) for array in rpn.values())
    for line, (name, array) in zip(capsys.readouterr().out.splitlines(), rpn.items(), strict=True):
        assert line.startswith(name) and str(array.shape) in line

    anchors = model.get_anchors((64, 64, 3))
    order = np.argsort(-rpn["rpn_class"][0, :, 1], kind="stable")
    # 1000 rows may take part, and the image has that many anchors and 23 more.
    assert rpn["pre_nms_anchors"].shape == (1, 1000, 4)
    np.testing.assert_array_equal(rpn["pre_nms_anchors"][0], anchors[order[:1000]])
    # This RPN moves nothing.
    np.testing.assert_allclose(rpn["refined_anchors"], rpn["pre_nms_anchors"], atol=1e-6)
    clipped = rpn["refined_anchors_clipped"][0]
    np.testing.assert_array_equal(clipped, np.clip(rpn["refined_anchors"][0], 0, 1))
    kept = rpn["post_nms_anchor_ix"]
    proposals = rpn["proposals"][0]
    np.testing.assert_array_equal(kept, np.unique(kept))
    np.testing.assert_array_equal(clipped[kept], proposals[: len(kept)])
    assert not proposals[len(kept) :].any()
    limit = 10
    np.testing.assert_array_equal(
        rpn["refined_anchors_clipped"][0, rpn["post_nms_anchor_ix"][:limit]], proposals[:limit]
    )
    overlaps = boxes.compute_overlaps(clipped[kept], clipped[kept])
    np.fill_diagonal(overlaps, 0)
    assert overlaps.max() <= model.config.RPN_NMS_THRESHOLD


def test_no_row_of_padding_is_shown_where_anchors_are_few(tmp_path):
    model = build("inference", tmp_path, PRE_NMS_LIMIT=2000, POST_NMS_ROIS_INFERENCE=1500)
    rpn = model.run_graph([DATA.load_image(0)], steps_of(model, output_of(model, "ROI")))
    assert rpn["pre_nms_anchors"].shape == (1, 1023, 4)
    kept = rpn["post_nms_anchor_ix"]
    assert 0 < len(kept) < 1023 and kept.max() < 1023
    assert rpn["proposals"].shape == (1, 1500, 4)


def test_kept_rows_are_those_of_the_first_image(model, pillar):
    images = [DATA.load_image(0), DATA.load_image(1)]
    both = model.run_graph(images, steps_of(model, pillar))
    alone = model.run_graph(images[:1], steps_of(model, pillar))
    assert both["proposals"].shape[0] == 2
    np.testing.assert_array_equal(both["post_nms_anchor_ix"], alone["post_nms_anchor_ix"])


def test_values_are_those_of_predict(model):
    names = ("mrcnn_detection", "mrcnn_class", "mrcnn_bbox", "mrcnn_mask", "ROI", "rpn_class")
    image = DATA.load_image(0)
    molded, metas, _ = model.mold_inputs([image])
    anchors = model.get_anchors(molded[0].shape)[np.newaxis]
    wanted = model.keras_model.predict([molded, metas, anchors], verbose=0)
    assert len(wanted) == 7
    values = model.run_graph([image], [(name, output_of(model, name)) for name in names])
    for name, array in zip(names, wanted, strict=False):
        np.testing.assert_allclose(values[name], array, atol=1e-4, err_msg=name)


def test_inputs_are_outputs_too(model):
    image = DATA.load_image(0)
    wanted, metas, _ = model.mold_inputs([image])
    names = ("input_image", "conv1", "input_image_meta", "input_anchors")
    values = model.run_graph([image], [(name, output_of(model, name)) for name in names])
    assert list(values) == list(names)
    np.testing.assert_array_equal(values["input_image"], wanted)
    np.testing.assert_array_equal(values["input_image_meta"], metas)
    assert values["conv1"].shape == (1, 32, 32, 8) and values["input_anchors"].shape[0] == 1
    alone = model.run_graph([image], [("image", output_of(model, "input_image"))])
    np.testing.assert_array_equal(alone["image"], wanted)


def test_molded_images_come_with_their_metas(model, pillar):
    image = DATA.load_image(2)
    molded, metas, _ = model.mold_inputs([image])
    given = model.run_graph(molded, [("ROI", pillar)], image_metas=metas)
    assert given["ROI"].shape == (1, 40, 4)
    made = model.run_graph([image], [("ROI", pillar)])
    np.testing.assert_array_equal(given["ROI"], made["ROI"])
    listed = model.run_graph(list(molded), [("ROI", pillar)], image_metas=list(metas))
    np.testing.assert_array_equal(listed["ROI"], made["ROI"])


def test_a_training_model_shows_what_needs_no_ground_truth(training_model):
    image = DATA.load_image(0)
    steps = steps_of(training_model, output_of(training_model, "ROI"))
    values = training_model.run_graph([image], steps)
    kept, proposals = values["post_nms_anchor_ix"], values["proposals"][0]
    np.testing.assert_array_equal(
        values["refined_anchors_clipped"][0, kept], proposals[: len(kept)]
    )
    with pytest.raises(
        ValueError, match="output 'probs' depends on input_gt_boxes.*; .*need an inference model"
    ):
        training_model.run_graph([image], [("probs", output_of(training_model, "mrcnn_class"))])


def test_statistics_of_a_training_model_stay(tmp_path):
    model = build("training", tmp_path, TRAIN_BN=None)
    normalisation = model.keras_model.get_layer("bn_conv1")
    before = normalisation.get_weights()
    model.run_graph([DATA.load_image(0)], [("C1", normalisation.output)])
    for mine, wanted in zip(normalisation.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, wanted)


def test_half_precision_comes_as_float32():
    image = keras.Input((4,), name="image")
    half = keras.layers.Dense(2, dtype="mixed_bfloat16")(image)
    values = inspection.run_graph({"image": np.ones((2, 4), np.float32)}, [("half", half)])
    assert values["half"].shape == (2, 2) and values["half"].dtype == np.float32


@pytest.mark.parametrize("tensor", [None, np.zeros(3), "ROI"])
def test_an_output_that_is_no_tensor_is_named(model, tensor):
    with pytest.raises(ValueError, match="output 'mine' is .*; it must be a tensor of the model"):
        model.run_graph([DATA.load_image(0)], [("mine", tensor)])


def test_images_of_several_shapes_are_an_error(tmp_path):
    other = build("inference", tmp_path, IMAGE_RESIZE_MODE="none")
    images = [np.zeros((64, 64, 3), np.uint8), np.zeros((64, 128, 3), np.uint8)]
    with pytest.raises(ValueError, match="a batch has one"):
        other.run_graph(images, [("ROI", output_of(other, "ROI"))])


def test_anchors_are_those_of_the_shape_last_worked_on(tmp_path):
    model = build("inference", tmp_path, IMAGE_RESIZE_MODE="none")
    model.detect([np.zeros((64, 128, 3), np.uint8)])
    wide = model.anchors
    np.testing.assert_allclose(
        boxes.norm_boxes(wide, (64, 128)), model.get_anchors((64, 128, 3)), atol=1e-6
    )
    model.get_anchors((64, 64, 3))
    assert len(model.anchors) < len(wide)
    # As a get_anchors of the user's own would do.
    model.anchors = wide
    assert model.anchors is wide


# ---- Layers ----------------------------------------------------------------------------------


def test_layers_with_weights_are_listed_one_by_one(model):
    layers = model.get_trainable_layers()
    names = [layer.name for layer in layers]
    assert len(set(names)) == len(names)
    for name in ("conv1", "bn_conv1", "fpn_c5p5", "rpn_class_raw", "mrcnn_mask_deconv"):
        assert name in names
    assert not {"rpn_model", "ROI", "mrcnn_detection", "input_image"} & set(names)
    counted = sum(len(layer.get_weights()) for layer in layers)
    assert counted == len(model.keras_model.weights)
    kinds = {layer.name: type(layer).__name__ for layer in layers}
    assert kinds["mrcnn_class_conv1"] == "Conv2D" and kinds["mrcnn_class_logits"] == "Dense"
    assert kinds["mrcnn_mask_deconv"] == "Conv2DTranspose"


def test_frozen_layers_are_listed_too(training_model):
    before = len(training_model.get_trainable_layers())
    training_model.set_trainable("heads", verbose=0)
    assert len(training_model.get_trainable_layers()) == before
    training_model.set_trainable("all", verbose=0)


def test_a_wrapper_is_taken_off(model):
    wrapped = model.keras_model.get_layer("mrcnn_mask_conv1")
    layer = model.find_trainable_layer(wrapped)
    assert type(layer) is keras.layers.Conv2D and layer is wrapped.layer
    assert model.find_trainable_layer(layer) is layer
    twice = keras.layers.TimeDistributed(keras.layers.TimeDistributed(layer))
    assert model.find_trainable_layer(twice) is layer
