"""The heads: what each ROI gets, and the wrapper that applies a layer to every ROI."""

import keras
import numpy as np
import pytest
from keras import layers

from mrcnn.nn.heads import PerROI, build_fpn_mask_graph, fpn_classifier_graph
from tests.layer_contract import check_layer

LAYERS = {
    "conv": lambda: layers.Conv2D(4, 3, padding="same", name="inner"),
    "valid": lambda: layers.Conv2D(5, 2, padding="valid", name="inner"),
    "deconv": lambda: layers.Conv2DTranspose(3, 2, strides=2, activation="relu", name="inner"),
}


def values(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("kind", LAYERS)
def test_per_roi_keeps_the_contract_and_is_the_layer_roi_by_roi(kind):
    layer, x = PerROI(LAYERS[kind]()), values(2, 3, 4, 4, 2)
    outputs = check_layer(layer, x)
    for image in range(2):
        np.testing.assert_allclose(outputs[image], layer.layer(x[image]), atol=1e-5)


def test_per_roi_goes_by_the_name_and_weights_of_its_layer():
    layer = PerROI(LAYERS["conv"]())
    assert layer.name == "inner"
    layer(values(1, 2, 4, 4, 2))
    assert [weight.name for weight in layer.weights] == ["kernel", "bias"]
    assert all(a is b for a, b in zip(layer.weights, layer.layer.weights, strict=True))
    layer.trainable = False
    assert not layer.trainable_weights


def inputs(rois=5):
    sides = (16, 8, 4, 2)
    maps = [keras.Input((side, side, 6)) for side in sides]
    return keras.Input((rois, 4)), keras.Input((15,)), maps


def arrays(rois=5, batch=2):
    boxes = np.random.default_rng(1).random((batch, rois, 4)).astype(np.float32)
    boxes[..., 2:] = boxes[..., :2] + 0.3
    meta = np.zeros((batch, 15), np.float32)
    meta[:, 4:7] = [64, 64, 3]
    return [boxes, meta, *(values(batch, side, side, 6) for side in (16, 8, 4, 2))]


def classifier(**settings):
    rois, meta, maps = inputs()
    outputs = fpn_classifier_graph(rois, maps, meta, 3, 4, fc_layers_size=8, **settings)
    return keras.Model([rois, meta, *maps], outputs)


def masker(**settings):
    rois, meta, maps = inputs()
    masks = build_fpn_mask_graph(rois, maps, meta, 3, 4, **settings)
    return keras.Model([rois, meta, *maps], masks)


def test_classifier_gives_logits_their_softmax_and_deltas():
    model = classifier(train_bn=False)
    assert model.output_shape == [(None, 5, 4), (None, 5, 4), (None, 5, 4, 4)]
    logits, probs, _ = (keras.ops.convert_to_numpy(x) for x in model(arrays()))
    wanted = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(probs, wanted, rtol=1e-5)
    assert {layer.name for layer in model.layers if layer.weights} == {
        "mrcnn_class_conv1",
        "mrcnn_class_bn1",
        "mrcnn_class_conv2",
        "mrcnn_class_bn2",
        "mrcnn_class_logits",
        "mrcnn_bbox_fc",
    }


def test_deltas_of_a_class_are_four_neighbours_of_the_dense_layer():
    model = classifier(train_bn=False)
    dense = model.get_layer("mrcnn_bbox_fc")
    dense.kernel.assign(np.zeros(dense.kernel.shape, np.float32))
    dense.bias.assign(np.arange(16, dtype=np.float32))
    bbox = keras.ops.convert_to_numpy(model(arrays())[2])
    np.testing.assert_array_equal(bbox[1, 2], np.arange(16).reshape(4, 4))


def test_masks_are_twice_the_pool_and_in_0_to_1():
    model = masker(train_bn=False)
    assert model.output_shape == (None, 5, 6, 6, 4)
    masks = keras.ops.convert_to_numpy(model(arrays()))
    assert (masks > 0).all() and (masks < 1).all()
    names = {layer.name for layer in model.layers if layer.weights}
    assert names == {
        *(f"mrcnn_mask_conv{i}" for i in range(1, 5)),
        *(f"mrcnn_mask_bn{i}" for i in range(1, 5)),
        "mrcnn_mask_deconv",
        "mrcnn_mask",
    }


def test_what_a_roi_gets_does_not_depend_on_the_others():
    batch = arrays()
    for model in (classifier(train_bn=False), masker(train_bn=False)):
        outputs = keras.tree.flatten(model(batch))
        turned = keras.tree.flatten(model([batch[0][:, ::-1], *batch[1:]]))
        for one, other in zip(outputs, turned, strict=True):
            np.testing.assert_allclose(one, np.asarray(other)[:, ::-1], atol=1e-5)


def test_layers_have_the_sizes_of_weight_files():
    model = classifier(train_bn=False)
    assert [tuple(w.shape) for w in model.get_layer("mrcnn_class_conv1").weights][0] == (3, 3, 6, 8)
    assert [tuple(w.shape) for w in model.get_layer("mrcnn_class_conv2").weights][0] == (1, 1, 8, 8)
    assert model.get_layer("mrcnn_class_logits").kernel.shape == (8, 4)
    assert model.get_layer("mrcnn_bbox_fc").kernel.shape == (8, 16)
    assert model.get_layer("mrcnn_class_bn1").train_bn is False
    model = masker(train_bn=False)
    kernels = [model.get_layer(f"mrcnn_mask_conv{i}").weights[0].shape for i in range(1, 5)]
    assert kernels == [(3, 3, 6, 256)] + 3 * [(3, 3, 256, 256)]
    deconv = model.get_layer("mrcnn_mask_deconv")
    assert deconv.weights[0].shape == (2, 2, 256, 256)
    assert deconv.layer.strides == (2, 2) and deconv.layer.activation is keras.activations.relu
    assert model.get_layer("mrcnn_mask").weights[0].shape == (1, 1, 256, 4)


def test_defaults_are_1024_units_and_batch_statistics():
    rois, meta, maps = inputs()
    model = keras.Model([rois, meta, *maps], fpn_classifier_graph(rois, maps, meta, 3, 4))
    assert model.get_layer("mrcnn_class_logits").kernel.shape == (1024, 4)
    assert model.get_layer("mrcnn_class_bn2").train_bn is True
    assert masker().get_layer("mrcnn_mask_bn4").train_bn is True


def test_probabilities_are_float32_in_half_precision_too():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        logits, probs, _ = classifier(train_bn=False).output
    finally:
        keras.config.set_dtype_policy(before)
    assert (logits.dtype, probs.dtype) == ("bfloat16", "float32")
