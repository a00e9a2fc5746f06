"""ProposalLayer against the same done image by image with plain NumPy."""

import numpy as np
import pytest
from keras import ops

from mrcnn.geometry import boxes as geometry
from mrcnn.nn.proposals import ProposalLayer
from tests.gradients import compiled, gradients
from tests.layer_contract import check_layer

STD_DEV = np.array([0.1, 0.1, 0.2, 0.2], np.float32)


def inputs(batch=2, anchors=30, seed=0):
    rng = np.random.default_rng(seed)
    score = rng.random((batch, anchors))
    corner = rng.uniform(-0.1, 0.8, (batch, anchors, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0.05, 0.4, corner.shape)], axis=-1)
    deltas = rng.normal(size=(batch, anchors, 4))
    probs = np.stack([1 - score, score], axis=-1)
    return [x.astype(np.float32) for x in (probs, deltas, boxes)]


def propose_slowly(probs, deltas, anchors, count, threshold, limit):
    order = np.argsort(-probs[:, 1], kind="stable")[:limit]
    boxes = geometry.apply_box_deltas(anchors[order], deltas[order] * STD_DEV)
    boxes = geometry.clip_boxes(boxes, np.array([0, 0, 1, 1], np.float32))
    keep = geometry.non_max_suppression(boxes, probs[order, 1], threshold)[:count]
    padded = np.zeros((count, 4), np.float32)
    padded[: len(keep)] = boxes[keep]
    return padded


@pytest.mark.parametrize(
    ("count", "threshold", "limit"),
    [(8, 0.3, 20), (40, 0.7, 30), (8, 0.5, 100)],
    ids=["fewer", "padded", "fewer anchors than the limit"],
)
def test_proposals_are_those_of_the_slow_way(count, threshold, limit):
    layer, batch = ProposalLayer(count, threshold, pre_nms_limit=limit), inputs()
    proposals = ops.convert_to_numpy(compiled(layer.call)(batch))
    wanted = [propose_slowly(*image, count, threshold, limit) for image in zip(*batch, strict=True)]
    np.testing.assert_allclose(proposals, wanted, atol=1e-6)


def test_layer_keeps_the_contract():
    proposals = check_layer(ProposalLayer(6, 0.7, pre_nms_limit=20), inputs(batch=3))
    assert (proposals >= 0).all() and (proposals <= 1).all()


def test_one_anchor_fills_one_row():
    probs, deltas, anchors = inputs(batch=1, anchors=1)
    layer = ProposalLayer(3, 0.5, pre_nms_limit=4)
    proposals = ops.convert_to_numpy(layer([probs, deltas, anchors]))
    assert proposals[0, 0].any() and not proposals[0, 1:].any()


def test_scores_of_zero_are_proposed_too():
    probs, deltas, anchors = inputs(batch=1)
    probs[..., 1] = 0
    layer = ProposalLayer(8, 0.3, pre_nms_limit=30)
    proposals = ops.convert_to_numpy(layer([probs, deltas, anchors]))[0]
    assert proposals.any(axis=1).sum() == 8


def test_gradient_reaches_the_deltas_and_is_finite():
    probs, deltas, anchors = inputs()
    layer = ProposalLayer(8, 0.3, pre_nms_limit=20)
    layer([probs, deltas, anchors])
    by_deltas, by_probs = gradients(
        lambda deltas, probs: ops.sum(layer([probs, deltas, anchors])), deltas, probs
    )
    assert np.isfinite(by_deltas).all() and by_deltas.any()
    assert not by_probs.any()


def test_half_precision_deltas_are_computed_in_full():
    probs, deltas, anchors = inputs()
    half = ops.cast(deltas, "bfloat16")
    full = ops.convert_to_numpy(ops.cast(half, "float32"))
    layer = ProposalLayer(8, 0.3, pre_nms_limit=20)
    np.testing.assert_array_equal(layer([probs, half, anchors]), layer([probs, full, anchors]))


def test_steps_lead_to_the_proposals():
    batch = inputs()
    layer = ProposalLayer(8, 0.3, pre_nms_limit=20)
    proposals = ops.convert_to_numpy(layer(batch))
    steps = layer.steps([ops.convert_to_tensor(x) for x in batch])
    before, refined, clipped, kept, valid = map(ops.convert_to_numpy, steps)
    for image, (probs, deltas, anchors) in enumerate(zip(*batch, strict=True)):
        order = np.argsort(-probs[:, 1], kind="stable")[:20]
        np.testing.assert_array_equal(before[image], anchors[order])
        moved = geometry.apply_box_deltas(anchors[order], deltas[order] * STD_DEV)
        np.testing.assert_allclose(refined[image], moved, atol=1e-6)
        np.testing.assert_allclose(clipped[image], np.clip(moved, 0, 1), atol=1e-6)
        count = valid[image].sum()
        assert 0 < count <= 8 and valid[image, :count].all()
        rows = clipped[image, kept[image, :count]]
        np.testing.assert_array_equal(proposals[image, :count], rows)
        assert not proposals[image, count:].any()


def test_steps_of_fewer_anchors_than_the_limit_never_keep_padding():
    layer = ProposalLayer(40, 0.9, pre_nms_limit=100)
    steps = layer.steps([ops.convert_to_tensor(x) for x in inputs(anchors=30)])
    assert steps.refined_anchors.shape == (2, 100, 4)
    kept, valid = map(ops.convert_to_numpy, (steps.kept, steps.valid))
    assert valid.any() and (kept[valid] < 30).all()


def test_settings_have_the_originals_defaults():
    config = ProposalLayer(7, 0.6).get_config()
    assert config["pre_nms_limit"] == 6000 and config["bbox_std_dev"] == [0.1, 0.1, 0.2, 0.2]
    assert config["proposal_count"] == 7 and config["nms_threshold"] == 0.6


def one_proposal(delta, std_dev=None):
    """The proposal of one anchor whose deltas are these."""
    anchor = np.array([[[0.4, 0.4, 0.6, 0.6]]], np.float32)
    probs, deltas = np.array([[[0.5, 0.5]]], np.float32), np.array([[delta]], np.float32)
    settings = {} if std_dev is None else {"bbox_std_dev": std_dev}
    layer = ProposalLayer(2, 0.5, pre_nms_limit=3, **settings)
    return ops.convert_to_numpy(layer([probs, deltas, anchor]))[0, 0]


def test_deltas_are_in_units_of_their_standard_deviation():
    np.testing.assert_allclose(one_proposal([1, 0, 0, 0]), [0.42, 0.4, 0.62, 0.6], rtol=1e-6)
    np.testing.assert_allclose(one_proposal([0, 2, 0, 0]), [0.4, 0.44, 0.6, 0.64], rtol=1e-6)
    high = one_proposal([0, 0, np.log(2) / 0.2, 0])
    np.testing.assert_allclose(high, [0.3, 0.4, 0.7, 0.6], rtol=1e-6)
    wide = one_proposal([0, 0, 0, np.log(2)], std_dev=[1, 1, 1, 1])
    np.testing.assert_allclose(wide, [0.4, 0.3, 0.6, 0.7], rtol=1e-6)


def test_proposals_are_cut_to_the_image():
    np.testing.assert_allclose(one_proposal([40, 0, 0, 0]), [1, 0.4, 1, 0.6], rtol=1e-6)
    np.testing.assert_allclose(one_proposal([0, -25, 0, 0]), [0.4, 0, 0.6, 0.1], atol=1e-6)


@pytest.mark.parametrize(("threshold", "rows"), [(0.49, 1), (0.5, 2)])
def test_a_proposal_that_overlaps_by_the_threshold_stays(threshold, rows):
    anchors = np.array([[[0, 0, 1, 1], [0, 0, 1, 0.5]]], np.float32)
    probs = np.array([[[0.1, 0.9], [0.2, 0.8]]], np.float32)
    layer = ProposalLayer(3, threshold, pre_nms_limit=2)
    proposals = ops.convert_to_numpy(layer([probs, np.zeros((1, 2, 4), "f4"), anchors]))[0]
    assert proposals.any(axis=1).sum() == rows
