"""DetectionTargetLayer against the same done image by image with plain NumPy."""

import numpy as np
import pytest
from keras import ops

from mrcnn.geometry import boxes as geometry
from mrcnn.nn.sampling import DetectionTargetLayer, match_proposals
from tests.gradients import gradients
from tests.layer_contract import check_layer
from tests.test_backend import crop_slowly

STD_DEV = np.array([0.1, 0.1, 0.2, 0.2], np.float32)
OBJECTS = np.array(
    [[0.1, 0.1, 0.4, 0.4], [0.5, 0.2, 0.9, 0.6], [0.05, 0.6, 0.45, 0.95]], np.float32
)
CLASS_IDS = np.array([3, 1, 2], np.int32)
ROWS = 5  # of ground truth


def jittered(boxes, count, rng, scale=0.02):
    """Boxes that overlap these by more than half."""
    chosen = boxes[rng.integers(0, len(boxes), count)]
    return chosen + rng.uniform(-scale, scale, (count, 4)).astype(np.float32)


def background(count, rng):
    """Boxes in the lower right corner, where no object is."""
    corner = rng.uniform(0.62, 0.8, (count, 2))
    return np.concatenate([corner, corner + 0.15], axis=-1).astype(np.float32)


def masks_of(shape, rng):
    """Blobs, at another place in each of the masks."""
    masks = np.zeros((*shape, ROWS), bool)
    for row in range(ROWS):
        y, x = rng.integers(0, shape[0] // 2, 2)
        masks[y : y + shape[0] // 2, x : x + shape[1] // 2, row] = True
    return masks


def image(positives=12, negatives=20, padding=4, objects=3, crowd=None, shape=(14, 14), seed=0):
    """The inputs of one image: proposals, class ids, boxes, masks."""
    rng = np.random.default_rng(seed)
    proposals = [background(negatives, rng), np.zeros((padding, 4), np.float32)]
    if positives:
        proposals.insert(0, jittered(OBJECTS[:objects], positives, rng))
    class_ids, boxes = np.zeros(ROWS, np.int32), np.zeros((ROWS, 4), np.float32)
    class_ids[:objects], boxes[:objects] = CLASS_IDS[:objects], OBJECTS[:objects]
    if crowd is not None:
        class_ids[objects], boxes[objects] = -1, crowd
    return np.concatenate(proposals), class_ids, boxes, masks_of(shape, rng)


def batch_of(*images):
    return [np.stack(parts) for parts in zip(*images, strict=True)]


def layer_of(total=24, ratio=0.25, mask_shape=(7, 7), seed=1, **settings):
    return DetectionTargetLayer(total, ratio, mask_shape=mask_shape, seed=seed, **settings)


BATCH = 4


def run(layer, batch):
    return [ops.convert_to_numpy(output) for output in layer(batch)]


def check_image(outputs, inputs, layer):
    """One image's outputs: counts, order and, ROI by ROI, the targets."""
    rois, class_ids, deltas, masks = outputs
    proposals, gt_class_ids, gt_boxes, gt_masks = inputs
    objects = np.flatnonzero(gt_class_ids > 0)
    overlaps = geometry.compute_overlaps(proposals, gt_boxes[objects]).max(axis=1, initial=0)
    crowds = geometry.compute_overlaps(proposals, gt_boxes[gt_class_ids < 0])
    is_box = proposals.any(axis=1)
    is_positive = is_box & (overlaps >= 0.5)
    is_negative = is_box & (overlaps < 0.5) & (crowds.max(axis=1, initial=0) < 0.001)

    most = int(layer.train_rois_per_image * layer.roi_positive_ratio)
    positives = min(is_positive.sum(), most)
    wanted = int(np.float32(1 / layer.roi_positive_ratio) * np.float32(positives)) - positives
    negatives = min(is_negative.sum(), wanted)
    assert len(rois) == layer.train_rois_per_image
    used = positives + negatives
    assert (class_ids[:positives] > 0).all() and not class_ids[positives:].any()
    assert rois[:used].any(axis=1).all() and not rois[used:].any()
    assert not deltas[positives:].any() and not masks[positives:].any()

    chosen = [np.flatnonzero((proposals == roi).all(axis=1))[0] for roi in rois[:used]]
    assert len(set(chosen)) == used
    assert is_positive[chosen[:positives]].all() and is_negative[chosen[positives:]].all()
    for row in range(positives):
        own = objects[geometry.compute_overlaps(rois[row : row + 1], gt_boxes[objects]).argmax()]
        assert class_ids[row] == gt_class_ids[own]
        wanted = geometry.box_refinement(rois[row], gt_boxes[own]) / STD_DEV
        np.testing.assert_allclose(deltas[row], wanted, atol=1e-4)
        frame = gt_boxes[own] if layer.use_mini_mask else np.array([0, 0, 1, 1], np.float32)
        size = frame[2:] - frame[:2]
        inside = (rois[row] - np.tile(frame[:2], 2)) / np.tile(size, 2)
        crop = crop_slowly(gt_masks[:, :, own, None], inside, layer.mask_shape)[..., 0]
        # A value of one half may be rounded either way.
        sure = np.abs(crop - 0.5) > 1e-3
        np.testing.assert_array_equal(masks[row][sure], np.round(crop[sure]))
    return positives, negatives


def check_batch(layer, images):
    # Always as many images: JAX compiles for each new shape.
    filled = (images * BATCH)[:BATCH]
    outputs = run(layer, batch_of(*filled))
    for output in outputs:
        assert np.isfinite(output).all()
    assert set(np.unique(outputs[3])) <= {0.0, 1.0}
    per_image = zip(*outputs, strict=True)
    found = [check_image(o, i, layer) for o, i in zip(per_image, filled, strict=True)]
    return found[: len(images)]


def test_layer_keeps_the_contract():
    images = [image(seed=0), image(positives=0, negatives=32, seed=1)] * 2
    outputs = check_layer(layer_of(), batch_of(*images), images_apart=False)
    assert [output.dtype.name for output in outputs] == ["float32", "int32", "float32", "float32"]


def test_positives_are_a_share_and_negatives_in_proportion():
    # 24 ROIs, a quarter positive: more than enough, too few, none, and too few negatives.
    images = [
        image(positives=12, negatives=24, padding=0, seed=0),
        image(positives=3, negatives=29, padding=4, seed=1),
        image(positives=0, negatives=30, padding=6, seed=2),
        image(positives=32, negatives=4, padding=0, seed=3),
    ]
    assert check_batch(layer_of(), images) == [(6, 18), (3, 9), (0, 0), (6, 4)]


@pytest.mark.parametrize(("count", "objects"), [(5, 1), (5, 3), (60, 3)])
def test_fewer_and_more_proposals_than_rois(count, objects):
    check_batch(layer_of(), [image(count, count, 0, objects, seed=seed) for seed in range(2)])


def test_masks_of_the_whole_image():
    images = [image(shape=(48, 48), seed=seed) for seed in range(2)]
    assert check_batch(layer_of(use_mini_mask=False), images) == [(6, 18)] * 2


def test_an_image_without_objects_trains_nothing():
    images = [image(), image(positives=0, negatives=32, objects=0), image(0, 0, 36)]
    assert check_batch(layer_of(), images) == [(6, 18), (0, 0), (0, 0)]


def test_an_image_without_objects_trains_negatives_where_it_should():
    crowd = np.array([0.6, 0.6, 0.7, 0.7], np.float32)
    images = [
        image(),
        image(positives=0, negatives=32, objects=0),
        image(positives=0, negatives=3, objects=0),
        image(positives=0, negatives=32),  # objects that no proposal found
        image(positives=0, negatives=0, padding=36, objects=0, crowd=crowd),
    ]
    layer = layer_of(train_empty_images=True)
    outputs = run(layer, batch_of(*[_same_length(one) for one in images]))
    used = (outputs[0] != 0).any(axis=-1).sum(axis=1)
    assert used.tolist() == [24, 18, 3, 0, 0]
    for output in outputs[1:]:
        assert not output[1:].any()
    assert DetectionTargetLayer.from_config(layer.get_config()).train_empty_images


def _same_length(one, length=40):
    proposals, *others = one
    return [np.pad(proposals, ((0, length - len(proposals)), (0, 0))), *others]


def test_what_lies_on_a_crowd_is_no_background():
    crowd = np.array([0.6, 0.6, 1.0, 1.0], np.float32)
    free = image(positives=12, negatives=20, crowd=None)
    crowded = image(positives=12, negatives=20, crowd=crowd)
    assert check_batch(layer_of(), [free, crowded]) == [(6, 18), (6, 0)]


def test_an_object_on_a_crowd_is_one_still():
    assert check_batch(layer_of(), [image(crowd=OBJECTS[0])])[0][0] == 6


def test_a_seed_reproduces_the_choice_and_calls_differ():
    batch = batch_of(*[image(positives=16, negatives=20, padding=0)] * BATCH)
    first, again, other = layer_of(seed=7), layer_of(seed=7), layer_of(seed=8)
    one = run(first, batch)
    for a, b in zip(one, run(again, batch), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(one[0], run(other, batch)[0])
    assert not np.array_equal(one[0], run(first, batch)[0])


def test_every_proposal_is_chosen_now_and_then():
    inputs = image(positives=12, negatives=24, padding=0)
    layer, batch, seen = layer_of(), batch_of(*[inputs] * BATCH), set()
    for _ in range(10):
        seen |= {tuple(roi) for roi in run(layer, batch)[0].reshape(-1, 4)}
    assert {tuple(roi) for roi in inputs[0]} <= seen


def test_gradient_is_finite_and_reaches_positive_proposals_alone():
    inputs = batch_of(*[image(), image(positives=0, negatives=32)] * 2)
    layer = layer_of()

    def total(proposals):
        _, _, deltas, masks = layer([proposals, *map(ops.convert_to_tensor, inputs[1:])])
        return ops.sum(deltas**2) + ops.sum(masks)

    layer(inputs)
    (found,) = gradients(total, inputs[0])
    assert np.isfinite(found).all()
    rows = found[0].any(axis=1)
    assert 0 < rows.sum() <= 6 and not rows[12:].any()
    assert not found[1].any()


def match(proposals, class_ids, boxes):
    """`match_proposals` of one image, as arrays."""
    dtypes = (np.float32, np.int32, np.float32)
    batch = [
        np.array([x], dtype) for x, dtype in zip((proposals, class_ids, boxes), dtypes, strict=True)
    ]
    found = match_proposals(*map(ops.convert_to_tensor, batch))
    return [ops.convert_to_numpy(x)[0] for x in found]


@pytest.mark.parametrize(
    ("share", "is_positive"),
    [(0.25, False), (0.46, False), (0.499, False), (0.5, True), (0.501, True), (0.54, True)],
)
def test_an_overlap_of_at_least_a_half_is_positive(share, is_positive):
    """The proposal is this share of the object's box, so their overlap is that."""
    positive, negative, index = match([[0, 0, 0.5, 0.5 * share]], [2], [[0, 0, 0.5, 0.5]])
    assert positive == is_positive and negative != is_positive and index == 0


@pytest.mark.parametrize(
    ("share", "is_negative"), [(0.0009, True), (0.001, False), (0.0011, False)]
)
def test_an_overlap_with_a_crowd_of_a_thousandth_is_not_negative(share, is_negative):
    proposal, crowd = [0, 0, 1, share], [0, 0, 1, 1]
    positive, negative, _ = match([proposal], [-1], [crowd])
    assert not positive and negative == is_negative


def test_padding_among_the_ground_truth_is_neither_object_nor_crowd():
    """Class 0 is padding wherever its box lies; 1 is an object, -1 a crowd."""
    proposals = [[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1], [0, 0.5, 0.5, 1]]
    positive, negative, index = match(proposals, [0, 1, -1], proposals)
    assert positive.tolist() == [False, True, False]
    assert negative.tolist() == [True, False, False]
    assert index[1] == 1


def test_a_proposal_without_area_is_neither_positive_nor_negative():
    line, box = [0.2, 0.1, 0.2, 0.5], [0.1, 0.1, 0.6, 0.6]
    positive, negative, _ = match([line, box, [0, 0, 1e-3, 1e-3]], [1], [box])
    assert positive.tolist() == [False, True, False]
    assert negative.tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("total", "ratio", "most", "negatives"),
    [(24, 0.25, 6, 18), (20, 0.33, 6, 12), (10, 0.5, 5, 5), (9, 0.4, 3, 4), (7, 1.0, 7, 0)],
)
def test_how_many_rois_there_are_of_each_kind(total, ratio, most, negatives):
    """At most `int(total * ratio)` positives, and negatives up to `positives / ratio` in all."""
    found = check_batch(layer_of(total, ratio), [image(positives=40, negatives=40, padding=0)])
    assert found == [(most, negatives)]


def test_settings_have_the_originals_defaults():
    layer = DetectionTargetLayer(200, 0.33)
    config = layer.get_config()
    assert config["mask_shape"] == (28, 28) and config["use_mini_mask"] is True
    assert config["bbox_std_dev"] == [0.1, 0.1, 0.2, 0.2]
    assert config["train_empty_images"] is False and config["seed"] is None


@pytest.mark.parametrize(("value", "rounded"), [(0.46, 0), (0.49, 0), (0.51, 1), (0.54, 1)])
def test_target_masks_are_rounded(value, rounded):
    """The mask rises from 0 at the left of the object to 1 at its right; one sample is taken."""
    proposals, class_ids, boxes, masks = image(positives=1, negatives=1, padding=0)
    masks[...] = False
    masks[:, 1] = True
    y1, x1, y2, x2 = boxes[0]
    proposals[0] = y1, x1, y2, x1 + 2 * value * (x2 - x1)
    batch = batch_of((proposals, class_ids, boxes, masks[:3, :2]))
    _, ids, _, target = run(layer_of(4, 0.5, mask_shape=(1, 1)), batch)
    assert ids[0, 0] == 3 and target[0, 0, 0, 0] == rounded


def test_match_proposals_names_the_nearest_object():
    proposals, class_ids, boxes, _ = image(crowd=OBJECTS[0])
    batch = [ops.convert_to_tensor(x[None]) for x in (proposals, class_ids, boxes)]
    positive, negative, index = map(ops.convert_to_numpy, match_proposals(*batch))
    overlaps = geometry.compute_overlaps(proposals, OBJECTS)
    np.testing.assert_array_equal(positive[0], overlaps.max(axis=1) >= 0.5)
    np.testing.assert_array_equal(index[0][positive[0]], overlaps.argmax(axis=1)[positive[0]])
    assert not (positive & negative).any()
    assert not positive[0, -4:].any() and not negative[0, -4:].any()
