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
    """Class by class."""
    class_ids, scores = probs.argmax(axis=1), probs.max(axis=1)
    own = deltas[np.arange(len(rois)), class_ids]
    boxes = geometry.clip_boxes(geometry.apply_box_deltas(rois, own * STD_DEV), window)
    kept = []
    for class_id in range(1, probs.shape[1]):
        rows = np.flatnonzero((class_ids == class_id) & (scores >= least))
        kept.extend(rows[geometry.non_max_suppression(boxes[rows], scores[rows], threshold)])
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


def test_a_box_without_area_suppresses_nothing_and_is_not_suppressed():
    """Three ROIs of class 1 are clipped to a corner of the window, the others lie inside it."""
    inside, outside = [0.1, 0.1, 0.2, 0.2], [0.8, 0.8, 0.9, 0.9]
    rois = np.array(
        [inside, outside, [0.3, 0.3, 0.4, 0.4], outside, [0.1, 0.3, 0.2, 0.4], outside], np.float32
    )
    scores = np.array([0.9, 0.8, 0.75, 0.7, 0.65, 0.6], np.float32)
    class_ids = np.array([1, 1, 1, 1, 2, 1])
    probs = np.zeros((6, 3), np.float32)
    probs[np.arange(6), class_ids] = scores
    probs[:, 0] = 1 - scores
    window = np.array([[0, 0, 0.5, 0.5]], np.float32)
    found = check_detections([(rois, probs, np.zeros((6, 3, 4), "f4"))], window, 8, 0.0, 0.3)
    np.testing.assert_allclose(found[0, :6, 5], scores)
    np.testing.assert_array_equal(found[0, :6, 4], class_ids)
    corner = [0.5, 0.5, 0.5, 0.5]
    np.testing.assert_allclose(found[0, [1, 3, 5], :4], [corner] * 3)
    assert not found[0, 6:].any()


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


def test_settings_have_the_originals_defaults():
    config = DetectionLayer().get_config()
    assert config["max_instances"] == 100 and config["min_confidence"] == 0.7
    assert config["nms_threshold"] == 0.3 and config["bbox_std_dev"] == [0.1, 0.1, 0.2, 0.2]


@pytest.mark.parametrize(("least", "count"), [(0.5, 2), (0.7499, 2), (0.75, 2), (0.7501, 1)])
def test_a_probability_of_the_least_confidence_is_detected(least, count):
    rois = np.array([[0.1, 0.1, 0.2, 0.2], [0.5, 0.5, 0.6, 0.6]], np.float32)
    probs = np.array([[0.125, 0.875], [0.25, 0.75]], np.float32)
    zeros = np.zeros((2, 2, 4), np.float32)
    found = check_detections([(rois, probs, zeros)], WHOLE[None], 4, least, 0.3)
    assert (found[0, :, 5] > 0).sum() == count


@pytest.mark.parametrize(("threshold", "count"), [(0.49, 1), (0.5, 2), (0.51, 2)])
def test_a_detection_that_overlaps_by_the_threshold_stays(threshold, count):
    rois = np.array([[0, 0, 1, 1], [0, 0, 1, 0.5]], np.float32)
    probs = np.array([[0.125, 0.875], [0.25, 0.75]], np.float32)
    zeros = np.zeros((2, 2, 4), np.float32)
    found = check_detections([(rois, probs, zeros)], WHOLE[None], 4, 0.5, threshold)
    assert (found[0, :, 5] > 0).sum() == count


def test_a_probability_of_zero_can_be_detected_where_none_is_asked_for():
    """Scores of 0 are objects where the class is one: with min_confidence 0 they take part."""
    rois = np.array([[0.1, 0.1, 0.2, 0.2]], np.float32)
    layer = DetectionLayer(2, 0.0, 0.3)
    probs = np.array([[[-1.0, 0.0]]], np.float32)
    tensors = map(
        ops.convert_to_tensor, (rois[None], probs, np.zeros((1, 1, 2, 4), "f4"), WHOLE[None])
    )
    found = ops.convert_to_numpy(layer.select(*tensors))[0]
    np.testing.assert_allclose(found, [[0.1, 0.1, 0.2, 0.2, 1, 0], [0] * 6], atol=1e-6)


@pytest.mark.parametrize(("classes", "side"), [(2, 2), (4, 2), (5, 3), (9, 3), (10, 4), (81, 9)])
def test_classes_lie_in_a_square_grid(classes, side):
    class_ids = np.arange(classes)[None]
    moved = classes_apart(
        ops.zeros((1, classes, 4)), ops.convert_to_tensor(class_ids.astype(np.int32)), classes
    )
    cells = np.stack(np.divmod(class_ids[0], side), axis=-1)
    np.testing.assert_array_equal(ops.convert_to_numpy(moved)[0], np.tile(cells, 2))
