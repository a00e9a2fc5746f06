"""Training targets against the reference numbers and a plain twin."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrcnn.config import Config
from mrcnn.data.targets import (
    build_detection_targets,
    build_rpn_targets,
    generate_random_rois,
    pyramid_anchors,
)
from mrcnn.geometry.boxes import apply_box_deltas
from mrcnn.geometry.masks import extract_bboxes, minimize_mask

SHAPE = (64, 96, 3)


class Small(Config):
    NUM_CLASSES = 4
    RPN_ANCHOR_SCALES = (8, 16, 32, 48, 64)
    RPN_TRAIN_ANCHORS_PER_IMAGE = 64
    IMAGE_MIN_DIM = IMAGE_MAX_DIM = 64
    TRAIN_ROIS_PER_IMAGE = 20
    USE_MINI_MASK = False
    MASK_SHAPE = [14, 14]


class All(Small):
    RPN_TRAIN_ANCHORS_PER_IMAGE = 100_000


class Reference(Config):
    RPN_TRAIN_ANCHORS_PER_IMAGE = 4000


def iou(a, b):
    height = min(a[2], b[2]) - max(a[0], b[0])
    width = min(a[3], b[3]) - max(a[1], b[1])
    inside = max(height, 0) * max(width, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inside
    return inside / union if union > 0 else 0.0


def plain_match(anchors, class_ids, boxes):
    """The rule, anchor by anchor and box by box, before anything is chosen at random."""
    objects = [box for i, box in zip(class_ids, boxes, strict=True) if i > 0]
    crowds = [box for i, box in zip(class_ids, boxes, strict=True) if i < 0]
    table = [[iou(anchor, box) for box in objects] for anchor in anchors]
    best = [max(column) for column in zip(*table, strict=True)]
    match = []
    for anchor, row in zip(anchors, table, strict=True):
        is_best = any(value == top > 0 for value, top in zip(row, best, strict=True))
        if is_best or max(row, default=0) >= 0.7:
            match.append(1)
        elif max(row, default=0) < 0.3 and all(iou(anchor, box) < 0.001 for box in crowds):
            match.append(-1)
        else:
            match.append(0)
    return match, [int(np.argmax(row)) if row else 0 for row in table], objects


def test_reference_numbers(golden):
    numbers = golden("utilities.npz")
    match, deltas = build_rpn_targets(
        None, numbers["rpn_t_anchors"], numbers["rpn_t_ids"], numbers["rpn_t_gt"], Reference()
    )
    np.testing.assert_array_equal(match, numbers["rpn_t_match"])
    assert match.dtype == numbers["rpn_t_match"].dtype
    np.testing.assert_allclose(deltas, numbers["rpn_t_bbox"], rtol=1e-12)
    assert deltas.dtype == numbers["rpn_t_bbox"].dtype


def test_anchors_of_the_pyramid():
    anchors = pyramid_anchors(Config(), (1024, 1024, 3))
    assert anchors.shape == (261888, 4) and anchors.dtype == np.float64
    assert len(pyramid_anchors(Small(), SHAPE)) == 3 * sum(
        math.ceil(64 / s) * math.ceil(96 / s) for s in (4, 8, 16, 32, 64)
    )


sides = st.integers(0, 40)
objects = st.lists(
    st.tuples(st.sampled_from([-2, -1, 1, 2, 3]), sides, sides, sides, sides), max_size=5
)


@settings(deadline=None, max_examples=25)
@given(objects)
def test_matches_equal_the_plain_twin(found):
    class_ids = np.array([f[0] for f in found], np.int32)
    boxes = np.array([(y, x, y + h, x + w) for _, y, x, h, w in found], np.int32).reshape(-1, 4)
    anchors = pyramid_anchors(Small(), SHAPE)[::7]
    match, deltas = build_rpn_targets(SHAPE, anchors, class_ids, boxes, All())
    expected, nearest, objects_ = plain_match(anchors, class_ids, boxes.astype(float))
    np.testing.assert_array_equal(match, expected)
    positive = np.flatnonzero(match == 1)
    assert np.isfinite(deltas).all() and not deltas[len(positive) :].any()
    if len(positive):
        moved = apply_box_deltas(
            anchors[positive], deltas[: len(positive)] * All().RPN_BBOX_STD_DEV
        )
        np.testing.assert_allclose(moved, [objects_[nearest[i]] for i in positive], atol=1e-3)


def test_too_many_anchors_are_chosen_at_random():
    anchors = pyramid_anchors(Small(), SHAPE)
    boxes = np.array([[y, x, y + 9, x + 8] for y in range(0, 56, 4) for x in range(0, 88, 4)])
    ids = np.ones(len(boxes), np.int32)
    match, deltas = build_rpn_targets(
        SHAPE, anchors, ids, boxes, Small(), rng=np.random.default_rng(0)
    )
    assert (match == 1).sum() == 32 and (match == -1).sum() == 32
    assert deltas.shape == (64, 4)
    assert deltas[:32].any(axis=1).all() and not deltas[32:].any()
    full = build_rpn_targets(SHAPE, anchors, ids, boxes, All())[0]
    assert (full == 1).sum() > 32
    assert (full[match == 1] == 1).all() and (full[match == -1] == -1).all()
    same, other = (
        build_rpn_targets(SHAPE, anchors, ids, boxes, Small(), rng=np.random.default_rng(seed))[0]
        for seed in (0, 1)
    )
    np.testing.assert_array_equal(match, same)
    assert not np.array_equal(match, other)


def test_few_positives_are_filled_with_negatives():
    anchors = pyramid_anchors(Small(), SHAPE)
    match, _ = build_rpn_targets(SHAPE, anchors, [1], np.array([[10, 10, 40, 60]]), Small())
    positive = (match == 1).sum()
    assert 0 < positive < 32 and (match == -1).sum() == 64 - positive


@pytest.mark.parametrize("ids, boxes", [([], np.zeros((0, 4))), ([1, 2], np.zeros((2, 4)))])
def test_nothing_to_find_is_all_background(ids, boxes):
    anchors = pyramid_anchors(Small(), SHAPE)
    match, deltas = build_rpn_targets(SHAPE, anchors, ids, boxes, All())
    assert (match == -1).all() and not deltas.any()


def test_only_a_crowd():
    anchors = pyramid_anchors(Small(), SHAPE)
    match, deltas = build_rpn_targets(SHAPE, anchors, [-1], np.array([[0, 0, 64, 96]]), All())
    assert not (match == 1).any() and (match == 0).any() and not deltas.any()


@settings(deadline=None)
@given(
    st.integers(1, 60), st.integers(1, 60), st.integers(0, 50), st.integers(0, 4), st.integers(0, 9)
)
def test_random_rois_have_area_inside_the_image(height, width, count, n_objects, seed):
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, (height, width), (n_objects, 2))
    boxes = np.concatenate([corner, rng.integers(corner, (height + 1, width + 1))], axis=1)
    rois = generate_random_rois((height, width, 3), count, np.ones(n_objects), boxes, rng=rng)
    assert rois.shape == (count, 4) and rois.dtype == np.int32
    assert (rois[:, 2:] > rois[:, :2]).all() and (rois >= 0).all()
    assert (rois[:, 2:] <= (height, width)).all()


def test_most_random_rois_lie_near_an_object():
    box = np.array([[100, 100, 120, 130]])
    rois = generate_random_rois((1000, 1000, 3), 200, [1], box, rng=np.random.default_rng(0))
    near = (rois[:, 0] >= 80) & (rois[:, 2] <= 140) & (rois[:, 1] >= 70) & (rois[:, 3] <= 160)
    assert 180 <= near.sum() < 200


@pytest.fixture
def one_disc():
    y, x = np.mgrid[:64, :64]
    masks = np.stack([(y - 30) ** 2 + (x - 25) ** 2 < 18**2, (y > 50) & (x > 40)], axis=2)
    return np.array([2, -3], np.int32), extract_bboxes(masks), masks


def test_detection_targets(one_disc):
    ids, boxes, masks = one_disc
    rois = np.array([boxes[0], boxes[0] + 1, [0, 0, 5, 5], [40, 40, 64, 64]], np.int32)
    config = Small()
    chosen, class_ids, deltas, targets = build_detection_targets(
        rois, ids, boxes, masks, config, rng=np.random.default_rng(0)
    )
    assert chosen.shape == (20, 4) and class_ids.dtype == np.int32
    assert list(class_ids[:2]) == [2, 2] and not class_ids[2:].any()
    np.testing.assert_array_equal(chosen[:2], rois[:2])
    assert {tuple(roi) for roi in chosen[2:]} == {tuple(roi) for roi in rois[2:]}

    moved = apply_box_deltas(chosen[:2], deltas[:2, 2] * config.BBOX_STD_DEV)
    np.testing.assert_allclose(moved, [boxes[0]] * 2, atol=1e-4)
    others = [0, 1, 3]
    assert not deltas[:, others].any() and not deltas[2:].any()
    assert not targets[..., others].any() and not targets[2:].any()
    assert targets.dtype == deltas.dtype == np.float32
    y1, x1, y2, x2 = boxes[0]
    share = masks[y1:y2, x1:x2, 0].mean()
    assert targets[0, :, :, 2].mean() == pytest.approx(share, abs=0.05)


def test_detection_targets_from_mini_masks_are_nearly_the_same(one_disc):
    class Mini(Small):
        USE_MINI_MASK = True

    ids, boxes, masks = one_disc
    mini = minimize_mask(boxes, masks, (56, 56))
    arguments = dict(rng=np.random.default_rng(0))
    whole = build_detection_targets(boxes[:1], ids, boxes, masks, Small(), **arguments)[3]
    small = build_detection_targets(boxes[:1], ids, boxes, mini, Mini(), **arguments)[3]
    assert np.abs(whole - small).mean() < 0.01


def test_positive_rois_are_a_third_at_most(one_disc):
    ids, boxes, masks = one_disc
    rois = np.concatenate([np.repeat(boxes[:1], 30, axis=0), np.full((30, 4), (0, 0, 9, 9))])
    class_ids = build_detection_targets(
        rois, ids, boxes, masks, Small(), rng=np.random.default_rng(0)
    )[1]
    assert (class_ids > 0).sum() == int(20 * 0.33)


def test_rois_without_pixels_give_empty_masks(one_disc):
    ids, boxes, masks = one_disc
    rois = boxes[:1] + np.array([[0.2, 0.2, 0.4, 0.4]])
    tiny = np.array([[10.2, 10.2, 10.6, 10.6]])
    targets = build_detection_targets(
        np.concatenate([rois, tiny]), ids, boxes, masks, Small(), rng=np.random.default_rng(0)
    )
    assert all(np.isfinite(part).all() for part in targets)


@pytest.mark.parametrize(
    "roi_count, ids, words", [(0, [1], "0 ROIs and 1"), (3, [-1], "3 ROIs and 0")]
)
def test_detection_targets_need_rois_and_objects(roi_count, ids, words):
    rois = np.tile([0, 0, 9, 9], (roi_count, 1))
    with pytest.raises(ValueError, match=words):
        build_detection_targets(
            rois, np.array(ids), np.array([[0, 0, 9, 9]]), np.ones((9, 9, 1), bool), Small()
        )
