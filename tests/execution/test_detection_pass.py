"""Detections and masks of the compiled functions against those of the Keras model."""

import numpy as np
import pytest

from mrcnn.detection import AnchorCache, build_inference_model, mold_inputs
from tests.slim import seed_weights
from tests.tiny import random_rectangles, tiny_config


def molded(config, count=2):
    dataset = random_rectangles(count)
    images, metas, _ = mold_inputs([dataset.load_image(i) for i in range(count)], config)
    anchors = AnchorCache(config)(images[0].shape)
    anchors = np.broadcast_to(anchors, (count, *anchors.shape)).astype(np.float32)
    return np.stack(images), metas.astype(np.float32), anchors


@pytest.fixture(scope="module")
def model():
    return build_inference_model(tiny_config())


def check_network(model, inputs):
    wanted, _, _, wanted_masks, *_ = model.predict_on_batch(list(inputs))
    detections, masks = model.detect_on_batch(*inputs)
    np.testing.assert_allclose(detections, wanted, atol=1e-4)
    rows = masks.shape[1]
    class_ids = wanted[:, :rows, 4].astype(int)[:, :, None, None, None]
    # Every channel holds the mask of the detection's class.
    of_class = np.take_along_axis(wanted_masks[:, :rows], class_ids, axis=4)
    assert masks.shape == wanted_masks[:, :rows].shape and masks.dtype == np.float32
    np.testing.assert_allclose(masks, np.broadcast_to(of_class, masks.shape), atol=1e-4)
    found = (wanted[:, :, 4] > 0).sum(axis=1).max()
    assert masks.shape[1] >= found > 0


@pytest.mark.parametrize("count", [1, 2])
def test_the_network_detects_the_same(model, count):
    seed_weights(model, 3)
    check_network(model, molded(tiny_config(), count))


def test_new_weights_are_used_at_once(model):
    inputs = molded(tiny_config(), 1)
    for seed in (4, 5):
        seed_weights(model, seed)
        check_network(model, inputs)


def test_masks_are_made_for_the_detections_that_there_are(model):
    config = tiny_config(DETECTION_MAX_INSTANCES=40)
    many = build_inference_model(config)
    seed_weights(many, 3)
    inputs = molded(config, 1)
    scores = many.detect_on_batch(*inputs)[0][0, :, 5]
    fewer = 0.5 * (scores[2] + scores[3])
    few = build_inference_model(
        tiny_config(DETECTION_MAX_INSTANCES=40, DETECTION_MIN_CONFIDENCE=float(fewer))
    )
    seed_weights(few, 3)
    detections, masks = few.detect_on_batch(*inputs)
    assert (detections[0, :, 4] > 0).sum() == 3
    assert masks.shape[1] < 40
    check_network(few, inputs)


def test_no_detections_need_no_masks():
    model = build_inference_model(tiny_config(DETECTION_MIN_CONFIDENCE=1.0))
    seed_weights(model, 3)
    detections, masks = model.detect_on_batch(*molded(tiny_config(), 1))
    assert not detections.any() and masks.shape[2:] == (8, 8, 4)
