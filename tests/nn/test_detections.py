"""DetectionLayer against the same done class by class with plain NumPy."""

import numpy as np
import pytest
from keras import ops

from mrcnn.data.image_meta import compose_image_meta
from mrcnn.geometry import boxes as geometry
from mrcnn.nn.detections import DetectionLayer, classes_apart
from tests.gradients import compiled
from tests.layer_contract import check_layer

STD_DEV = np.array([0.1, 0.1, 0.2, 0.2], np.float32)
WHOLE = np.array([0, 0, 1, 1], np.float32)


def image(rois=40, classes=4, seed=0):
    """ROIs in a few heaps, sure of one class each; the deltas of every class differ."""
    rng = np.random.default_rng(seed)
    heaps = rng.uniform(0, 0.6, (5, 2))[rng.integers(0, 5, rois)]
    corner = heaps + rng.uniform(-0.05, 0.05, (rois, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0.2, 0.4, (rois, 2))], axis=1)
    probs = rng.dirichlet(np.full(classes, 0.2), rois)
    deltas = rng.normal(scale=0.5, size=(rois, classes, 4))
    return [x.astype(np.float32) for x in (boxes, probs, deltas)]


def detect_slowly(rois, probs, deltas, window, most, least, threshold):
    """Class by class; among the detections of a class none after one without area."""
    class_ids, scores = probs.argmax(axis=1), probs.max(axis=1)
    own = deltas[np.arange(len(rois)), class_ids]
    boxes = geometry.clip_boxes(geometry.apply_box_deltas(rois, own * STD_DEV), window)
    kept = []
    for class_id in range(1, probs.shape[1]):
        rows = np.flatnonzero((class_ids == class_id) & (scores >= least))
        rows = rows[geometry.non_max_suppression(boxes[rows], scores[rows], threshold)]
        ends = np.flatnonzero(geometry.box_area(boxes[rows]) <= 0)
        kept.extend(rows[: ends[0] + 1] if len(ends) else rows)
    kept = sorted(kept, key=lambda row: -scores[row])[:most]
    found = np.zeros((most, 6), np.float32)
    found[: len(kept)] = np.column_stack([boxes[kept], class_ids[kept], scores[kept]])
    return found


def check_detections(images, windows, most, least, threshold):
    layer = DetectionLayer(most, least, threshold)
    batch = [np.stack(parts) for parts in zip(*images, strict=True)]
    tensors = map(ops.convert_to_tensor, [*batch, windows])
    found = ops.convert_to_numpy(compiled(layer.select)(*tensors))
    wanted = [
        detect_slowly(*one, window, most, least, threshold)
        for one, window in zip(images, windows, strict=True)
    ]
    np.testing.assert_allclose(found, wanted, atol=2e-6)
    return found


@pytest.mark.parametrize("classes", [2, 81, 400])
def test_detections_are_those_of_the_slow_way(classes):
    images = [image(classes=classes, seed=seed) for seed in range(3)]
    found = check_detections(images, np.stack([WHOLE] * 3), 30, 0.0, 0.3)
    assert (found[..., 5] > 0).sum(axis=1).min() >= 5


@pytest.mark.parametrize("least", [0.0, 0.6, 0.99])
def test_only_the_sure_are_detected(least):
    found = check_detections([image(), image(seed=1)], np.stack([WHOLE] * 2), 30, least, 0.3)
    scores = found[..., 5][found[..., 5] > 0]
    assert (scores >= least).all()


def test_the_best_are_kept_where_there_are_too_many():
    many = check_detections([image()], WHOLE[None], 30, 0.0, 0.9)
    few = check_detections([image()], WHOLE[None], 4, 0.0, 0.9)
    np.testing.assert_array_equal(few, many[:, :4])
    assert (np.diff(few[0, :, 5]) <= 0).all()


def test_boxes_stay_inside_the_window_of_their_image():
    windows = np.array([[0.2, 0.1, 0.7, 0.8], [0, 0.3, 1, 0.5]], np.float32)
    found = check_detections([image(), image()], windows, 30, 0.0, 0.3)
    for detections, window in zip(found, windows, strict=True):
        boxes = detections[detections[:, 5] > 0, :4]
        assert len(boxes)
        assert (boxes[:, :2] >= window[:2]).all() and (boxes[:, 2:] <= window[2:]).all()


def test_no_object_gives_zeros():
    rois, probs, deltas = image()
    background = np.eye(4, dtype=np.float32)[np.zeros(40, int)]
    found = check_detections([(rois, background, deltas)], WHOLE[None], 5, 0.0, 0.3)
    assert not found.any()
    assert not check_detections([image()], WHOLE[None], 5, 1.0, 0.3).any()


def test_fewer_rois_than_detections():
    found = check_detections([image(rois=2)], WHOLE[None], 5, 0.0, 0.3)
    assert not found[0, 2:].any()


def test_overlapping_objects_of_two_classes_are_both_detected():
    rois = np.array([[0.1, 0.1, 0.5, 0.5]] * 3, np.float32)
    probs = np.array([[0, 0.9, 0.1], [0.2, 0, 0.8], [0.3, 0.7, 0]], np.float32)
    found = check_detections([(rois, probs, np.zeros((3, 3, 4), "f4"))], WHOLE[None], 3, 0.0, 0.3)
    np.testing.assert_allclose(found[0, :, 4:], [[1, 0.9], [2, 0.8], [0, 0]])


def test_a_box_without_area_ends_its_class_and_no_other():
    """Outside the window lies the second best of class 1; the third is hidden by it."""
    rois = np.array(
        [[0.1, 0.1, 0.2, 0.2], [0.8, 0.8, 0.9, 0.9], [0.3, 0.3, 0.4, 0.4], [0.1, 0.3, 0.2, 0.4]],
        np.float32,
    )
    probs = np.array([[0, 0.9, 0.1], [0.2, 0.8, 0], [0.3, 0.7, 0], [0.4, 0, 0.6]], np.float32)
    window = np.array([[0, 0, 0.5, 0.5]], np.float32)
    found = check_detections([(rois, probs, np.zeros((4, 3, 4), "f4"))], window, 4, 0.0, 0.3)
    np.testing.assert_allclose(found[0, :, 5], [0.9, 0.8, 0.6, 0.0])
    # One that is not sure enough to be detected ends nothing.
    probs[1] = [0.5, 0.5, 0]
    probs[2] = [0.45, 0.55, 0]
    found = check_detections([(rois, probs, np.zeros((4, 3, 4), "f4"))], window, 4, 0.52, 0.3)
    np.testing.assert_allclose(found[0, :, 5], [0.9, 0.6, 0.55, 0.0])


@pytest.mark.parametrize("classes", [2, 81, 400])
def test_classes_apart_keeps_overlaps_within_a_class_and_no_others(classes):
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 0.9, (1, 60, 2))
    boxes = np.concatenate([low, np.minimum(low + rng.uniform(0.01, 1, low.shape), 1)], -1)
    boxes = boxes.astype(np.float32)
    boxes[0, ::3] = [0, 0, 1, 1]
    class_ids = rng.integers(0, classes, (1, 60))
    class_ids[0, -2:] = [0, classes - 1]
    moved = classes_apart(ops.convert_to_tensor(boxes), ops.convert_to_tensor(class_ids), classes)
    moved = ops.convert_to_numpy(moved).astype(np.float64)
    same = class_ids[0][:, None] == class_ids[0][None]
    wanted = np.where(same, geometry.compute_overlaps(boxes[0], boxes[0]), 0)
    np.testing.assert_allclose(geometry.compute_overlaps(moved[0], moved[0]), wanted, atol=2e-3)
    # Padding and boxes as large as the image touch the next class and do not overlap it.
    assert (geometry.compute_overlaps(moved[0], moved[0])[~same] == 0).all()


def test_layer_keeps_the_contract_and_reads_the_window_from_the_meta():
    images = [image(seed=seed) for seed in range(2)]
    window = (10, 20, 90, 80)
    meta = compose_image_meta(0, (80, 60, 3), (101, 101, 3), window, 1.0, np.ones(4))
    batch = [np.stack(parts) for parts in zip(*images, strict=True)]
    batch.append(np.stack([meta, meta]).astype(np.float32))
    found = check_layer(DetectionLayer(8, 0.2, 0.3), batch)
    normalised = np.array([[0.10, 0.20, 0.89, 0.79]] * 2, np.float32)
    batch[3] = normalised
    wanted = DetectionLayer(8, 0.2, 0.3).select(*map(ops.convert_to_tensor, batch))
    np.testing.assert_allclose(found, wanted, atol=1e-6)
