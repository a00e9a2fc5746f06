"""Training targets against the reference numbers and a simple implementation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrcnn.config import Config
from mrcnn.data.targets import (
    AnchorIndex,
    build_detection_targets,
    build_rpn_targets,
    generate_random_rois,
    pyramid_anchors,
)
from mrcnn.geometry.boxes import apply_box_deltas
from mrcnn.geometry.masks import extract_bboxes, minimize_mask
from mrcnn.geometry.resize import resize_bilinear

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


def inside(*widths):
    """Anchors in the object `LONG`, whose IoU with it is their width / 100."""
    return np.array([[0.0, 0.0, 10.0, width] for width in widths])


LONG = np.array([[0, 0, 10, 100]])
FAR = [500.0, 500.0, 510.0, 510.0]


def test_the_limits_of_positive_and_negative_anchors():
    anchors = np.concatenate([inside(100, 71, 70, 69, 31, 30, 29, 1), [FAR]])
    match, deltas = build_rpn_targets(None, anchors, [1], LONG, All())
    assert list(match) == [1, 1, 1, 0, 0, 0, -1, -1, -1]
    expected = [[0, (50 - w / 2) / w, 0, np.log(100 / w)] for w in (100, 71, 70)]
    np.testing.assert_allclose(deltas[:3] * All().RPN_BBOX_STD_DEV, expected, atol=1e-12)


@pytest.mark.parametrize("width, expected", [(143, -1), (100, 0), (99, 0)])
def test_the_limit_of_an_anchor_that_touches_a_crowd(width, expected):
    """Its one pixel of a crowd of 7x143, 10x100 or 10x99 pixels."""
    crowd = [0, 0, 7 if width == 143 else 10, width]
    anchors = np.array([[0.0, 0.0, 1.0, 1.0], FAR])
    match, _ = build_rpn_targets(None, anchors, [-3], np.array([crowd]), All())
    assert list(match) == [expected, -1]


def test_a_crowd_does_not_make_an_anchor_of_an_object_neutral():
    match, _ = build_rpn_targets(None, inside(100, 80, 50), [1, -1], np.tile(LONG, (2, 1)), All())
    assert list(match) == [1, 1, 0]


def test_the_best_anchors_are_positive_however_little_they_overlap():
    anchors = np.array(
        [[0.0, 0, 10, 20], [0, 80, 10, 100], [0, 40, 10, 59], FAR, [0, 100, 10, 120]]
    )
    match, _ = build_rpn_targets(None, anchors, [1], LONG, All())
    assert list(match) == [1, 1, -1, -1, -1]


def test_an_anchor_between_two_objects_is_the_firsts():
    boxes = np.array([[0, 10, 10, 20], [0, 0, 10, 10]])
    for order in ([0, 1], [1, 0]):
        match, deltas = build_rpn_targets(
            None, np.array([[0, 5, 10, 15.0]]), [1, 2], boxes[order], All()
        )
        assert list(match) == [1]
        moved = apply_box_deltas(np.array([[0, 5, 10, 15.0]]), deltas[:1] * All().RPN_BBOX_STD_DEV)
        np.testing.assert_allclose(moved, boxes[order][:1], atol=1e-6)


def test_each_positive_anchor_goes_to_the_object_it_overlaps_most():
    boxes = np.array([[0, 0, 10, 100], [0, 0, 10, 90], [0, 0, 10, 80]])
    anchors = inside(100, 91, 86, 79)
    match, deltas = build_rpn_targets(None, anchors, [1, 1, 1], boxes, All())
    assert list(match) == [1, 1, 1, 1]
    moved = apply_box_deltas(anchors, deltas[:4] * All().RPN_BBOX_STD_DEV)
    np.testing.assert_allclose(moved, boxes[[0, 1, 1, 2]], atol=1e-6)


def test_padding_is_neither_object_nor_crowd():
    match, deltas = build_rpn_targets(None, inside(100, 70), [0], LONG, All())
    assert list(match) == [-1, -1] and not deltas.any()


@pytest.mark.parametrize("box", [[5, 20, 5, 60], [2, 30, 8, 30], [5, 30, 5, 30]])
def test_boxes_without_area_have_no_anchor(box):
    anchors = np.concatenate([inside(100, 70), [[4.0, 10, 6, 70]]])
    match, _ = build_rpn_targets(None, anchors, [1], np.array([box]), All())
    assert list(match) == [-1, -1, -1]


def test_an_object_of_one_pixel_has_its_best_anchor():
    match, _ = build_rpn_targets(None, inside(100, 70), [1], np.array([[5, 20, 6, 21]]), All())
    assert list(match) == [-1, 1]


def test_objects_that_touch_no_anchor():
    anchors = np.array([[0.0, 100, 10, 120], [10, 0, 20, 100], FAR])
    match, deltas = build_rpn_targets(None, anchors, [1], LONG, All())
    assert list(match) == [-1, -1, -1] and not deltas.any()


@settings(deadline=None, max_examples=25)
@given(st.tuples(*[st.integers(-20, 110)] * 4))
def test_anchors_that_meet_a_box_share_an_area_with_it(box):
    anchors = pyramid_anchors(Small(), SHAPE)[::5]
    y1, x1, y2, x2 = anchors.T
    shares = (y2 > box[0]) & (y1 < box[2]) & (x2 > box[1]) & (x1 < box[3])
    index = AnchorIndex(anchors)
    assert len(index) == len(anchors)
    found = index.meeting(np.array(box, float))
    np.testing.assert_array_equal(np.sort(found), np.flatnonzero(shares))


def test_anchors_at_the_edge_of_a_box_do_not_meet_it():
    box = np.array([10.0, 10, 20, 20])
    beside = [[0, 10, 10, 20], [20, 10, 30, 20], [10, 0, 20, 10], [10, 20, 20, 30]]
    index = AnchorIndex(np.array([*beside, [10, 10, 20, 20]], float))
    assert list(index.meeting(box)) == [4]


def test_an_index_has_a_group_for_each_size():
    anchors = pyramid_anchors(Config(), (1024, 1024, 3))
    assert len(AnchorIndex(anchors)._groups) == 15


def test_an_index_gives_the_same_targets():
    anchors = pyramid_anchors(Small(), SHAPE)
    arguments = ([1, -1], np.array([[3, 5, 40, 50], [30, 60, 50, 90]]), All())
    for one, other in zip(
        build_rpn_targets(SHAPE, anchors, *arguments),
        build_rpn_targets(SHAPE, AnchorIndex(anchors), *arguments),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("wanted, positive, negative", [(7, 3, 4), (8, 4, 4), (1, 0, 1)])
def test_half_of_the_chosen_anchors_are_positive_at_most(wanted, positive, negative):
    class Few(Small):
        RPN_TRAIN_ANCHORS_PER_IMAGE = wanted

    anchors = np.concatenate([inside(*range(90, 100)), inside(*range(10, 20))])
    match, deltas = build_rpn_targets(None, anchors, [1], LONG, Few())
    assert (match == 1).sum() == positive and (match == -1).sum() == negative
    assert (match[:10] >= 0).all() and (match[10:] <= 0).all()
    assert deltas.shape == (wanted, 4) and deltas.any(axis=1).sum() == positive


def test_as_many_anchors_as_wanted_are_all_kept():
    class Four(Small):
        RPN_TRAIN_ANCHORS_PER_IMAGE = 4

    match, _ = build_rpn_targets(None, inside(100, 90, 10, 11), [1], LONG, Four())
    assert list(match) == [1, 1, -1, -1]


def test_without_a_generator_numpys_global_state_chooses(one_disc):
    anchors, (ids, boxes, masks) = pyramid_anchors(Small(), SHAPE), one_disc
    rois = np.random.default_rng(0).integers(0, 30, (50, 4)) + [0, 0, 30, 30]

    def draw(seed):
        np.random.seed(seed)
        match, _ = build_rpn_targets(SHAPE, anchors, ids, boxes, Small())
        chosen = build_detection_targets(rois, ids, boxes, masks, Small())[0]
        return match, chosen, generate_random_rois(SHAPE, 9, ids, boxes)

    for first, again, other in zip(draw(1), draw(1), draw(2), strict=True):
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)


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


def test_nine_of_ten_random_rois_lie_near_an_object():
    box = np.array([[100, 100, 120, 130]])
    rois = generate_random_rois((1000, 1000, 3), 2000, [1], box, rng=np.random.default_rng(0))
    near = (rois[:, 0] >= 80) & (rois[:, 2] <= 140) & (rois[:, 1] >= 70) & (rois[:, 3] <= 160)
    assert near[:1800].all() and not near[1800:].any()
    # The object's size on every side of it, and no pixel less.
    assert list(rois[:1800].min(axis=0)[:2]) == [80, 70]
    assert list(rois[:1800].max(axis=0)[2:]) == [140, 160]
    assert rois[1800:].min() < 20 and rois[1800:].max() > 980


def test_random_rois_of_several_objects_and_of_none():
    boxes = np.array([[100, 100, 110, 110], [800, 800, 820, 820]])
    rois = generate_random_rois((1000, 1000), 101, [1, 1], boxes, rng=np.random.default_rng(0))
    centres = rois.reshape(-1, 2, 2).mean(axis=1)
    assert (abs(centres[:45] - 105) <= 15).all() and (abs(centres[45:90] - 810) <= 30).all()
    assert centres[90:].std() > 100 and len(rois) == 101
    rois = generate_random_rois((50, 40), 30, [], np.zeros((0, 4), int))
    assert rois.shape == (30, 4)


@pytest.mark.parametrize(
    "box, near",
    [
        ([10, 12, 20, 20], [0, 4, 30, 28]),
        ([5, 5, 15, 25], [0, 0, 25, 45]),
        ([90, 45, 99, 50], [81, 40, 100, 50]),
        ([100, 50, 100, 50], [99, 49, 100, 50]),
        ([0, 0, 0, 0], [0, 0, 1, 1]),
    ],
)
def test_random_rois_near_the_border(box, near):
    rois = generate_random_rois(
        (100, 50, 3), 3000, [1], np.array([box]), rng=np.random.default_rng(0)
    )[:2700]
    assert list(rois.min(axis=0)[:2]) == near[:2] and list(rois.max(axis=0)[2:]) == near[2:]


def test_random_rois_are_uniform():
    """The pairs of different numbers of 0, 1, 2 are equally frequent, on both axes."""
    rois = generate_random_rois((2, 2), 9000, [], np.zeros((0, 4)), rng=np.random.default_rng(0))
    for low, high in ((0, 2), (1, 3)):
        pairs, counts = np.unique(rois[:, [low, high]], axis=0, return_counts=True)
        assert pairs.tolist() == [[0, 1], [0, 2], [1, 2]]
        assert (abs(counts - 3000) < 200).all()


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


def test_an_roi_with_half_of_an_object_is_background():
    masks = np.ones((10, 100, 1), bool)
    rois = np.array([[0, 0, 10, 50], [0, 0, 10, 51]])
    chosen, class_ids, *_ = build_detection_targets(rois, np.array([3]), LONG, masks, Small())
    assert list(class_ids) == [3] + [0] * 19
    np.testing.assert_array_equal(chosen, rois[[1] + [0] * 19])


@pytest.mark.parametrize("positive, negative", [(20, 0), (3, 0), (3, 2), (0, 2), (7, 13), (2, 40)])
def test_too_few_rois_are_repeated(one_disc, positive, negative):
    """At most a third are positive; negative ones are repeated if there are any."""
    ids, boxes, masks = one_disc
    rois = np.concatenate(
        [np.repeat(boxes[:1], positive, axis=0), np.full((negative, 4), (0, 0, 9, 9))]
    )
    chosen, class_ids, *_ = build_detection_targets(rois, ids, boxes, masks, Small())
    expected = min(positive, 6) if negative else 20
    assert chosen.shape == (20, 4)
    assert list(class_ids) == [2] * expected + [0] * (20 - expected)


def test_as_many_rois_as_wanted_keep_their_order(one_disc):
    ids, boxes, masks = one_disc
    rois = np.array([[0, 0, 3, x] for x in range(5, 19)])
    rois = np.concatenate([boxes[:1] + np.arange(6)[:, None] % 3, rois])
    chosen = build_detection_targets(rois, ids, boxes, masks, Small())[0]
    np.testing.assert_array_equal(chosen, rois)


def test_every_roi_has_the_chance_to_be_chosen(one_disc):
    ids, boxes, masks = one_disc
    negative = np.array([[0, 0, 2, x] for x in range(2, 42)])
    rois = np.concatenate([boxes[:1] + np.arange(12)[:, None] % 3, negative])
    seen = set()
    for seed in range(30):
        chosen = build_detection_targets(
            rois, ids, boxes, masks, Small(), rng=np.random.default_rng(seed)
        )[0]
        assert len({tuple(roi) for roi in chosen[6:]}) == 14  # none twice
        seen |= {tuple(roi) for roi in chosen}
    assert seen == {tuple(roi) for roi in rois}


@pytest.mark.parametrize(
    "roi, part",
    [
        ([1, 2, 17, 18], (slice(1, 17), slice(2, 18))),
        ([1.9, 2.2, 17.9, 17.1], (slice(1, 17), slice(2, 17))),
        ([-3, -1, 18, 19], (slice(0, 18), slice(0, 19))),
    ],
)
def test_mask_targets_are_the_mask_in_the_roi(roi, part):
    y, x = np.mgrid[:64, :64]
    masks = ((y - 8) ** 2 + (x - 9) ** 2 < 81)[:, :, None]
    _, class_ids, _, targets = build_detection_targets(
        np.array([roi], float), np.array([2]), extract_bboxes(masks), masks, Small()
    )
    assert (class_ids == 2).all()
    expected = resize_bilinear(masks[:, :, 0][part], (14, 14))
    np.testing.assert_array_equal(targets[0, :, :, 2], expected)


def test_a_positive_roi_without_a_pixel_has_an_empty_mask():
    box = np.array([[10.2, 10.2, 10.6, 10.6]])
    _, class_ids, _, targets = build_detection_targets(
        box, np.array([2]), box, np.ones((20, 20, 1), bool), Small()
    )
    assert (class_ids == 2).all() and not targets.any()


def test_objects_apart_have_their_own_rois():
    boxes = np.array([[0, 0, 10, 10], [40, 40, 60, 60]])
    masks = np.zeros((64, 64, 2), bool)
    masks[:10, :10, 0] = masks[40:60, 40:60, 1] = True
    chosen, class_ids, _, targets = build_detection_targets(
        np.concatenate([boxes[::-1], [[20, 20, 30, 30]]]), np.array([3, 1]), boxes, masks, Small()
    )
    assert list(class_ids) == [1, 3] + [0] * 18
    np.testing.assert_array_equal(chosen[:2], boxes[::-1])
    assert targets[0, :, :, 1].all() and targets[1, :, :, 3].all()


def test_the_second_stages_target_is_the_nearest_object_without_crowds():
    boxes = np.array([[0, 0, 10, 100], [0, 0, 10, 90], [0, 0, 10, 80]])
    masks = np.zeros((10, 100, 3), bool)
    for i, box in enumerate(boxes):
        masks[:, : box[3], i] = True
    rois = np.array([[0, 0, 10, 99], [0, 0, 10, 90], [0, 0, 10, 81]])
    chosen, class_ids, deltas, _ = build_detection_targets(
        rois, np.array([1, -2, 3]), boxes, masks, Small()
    )
    assert list(class_ids[:3]) == [1, 1, 3]
    moved = apply_box_deltas(chosen[:3], deltas[range(3), class_ids[:3]] * Small().BBOX_STD_DEV)
    np.testing.assert_allclose(moved, boxes[[0, 0, 2]], atol=1e-4)


def test_rois_without_pixels_give_empty_masks(one_disc):
    ids, boxes, masks = one_disc
    rois = boxes[:1] + np.array([[0.2, 0.2, 0.4, 0.4]])
    tiny = np.array([[10.2, 10.2, 10.6, 10.6]])
    targets = build_detection_targets(
        np.concatenate([rois, tiny]), ids, boxes, masks, Small(), rng=np.random.default_rng(0)
    )
    assert all(np.isfinite(part).all() for part in targets)


@pytest.mark.parametrize(
    "roi_count, ids, words",
    [(0, [1], "0 ROIs and 1"), (3, [-1], "3 ROIs and 0"), (3, [0], "3 ROIs and 0")],
)
def test_detection_targets_need_rois_and_objects(roi_count, ids, words):
    rois = np.tile([0, 0, 9, 9], (roi_count, 1))
    with pytest.raises(ValueError, match=words):
        build_detection_targets(
            rois, np.array(ids), np.array([[0, 0, 9, 9]]), np.ones((9, 9, 1), bool), Small()
        )
