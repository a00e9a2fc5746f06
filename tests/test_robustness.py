"""Unusual images and objects in loader, training step and detection; bad input is one clear error.

Each case runs from the data set to the detections: no NaN, no crash, nothing skipped silently.
"""

import keras
import numpy as np
import PIL.Image
import pytest

from mrcnn import training
from mrcnn.data.dataset import Dataset
from mrcnn.data.loader import BatchLoader, load_image_gt
from mrcnn.detection import build_inference_model
from mrcnn.mask_rcnn import MaskRCNN
from mrcnn.training import build_training_model
from tests.tiny import (
    CLASSES,
    Rectangles,
    propose_anchors,
    random_rectangles,
    run_eagerly,
    tiny_config,
    weights_of,
)


class Given(Dataset):
    """Images and masks as given: a list of `(image, masks [H, W, N], class ids)`."""

    def __init__(self, samples):
        super().__init__()
        self.samples = samples
        for class_id, name in enumerate(CLASSES, start=1):
            self.add_class("given", class_id, name)
        for image_id in range(len(samples)):
            self.add_image("given", image_id, path=None)
        self.prepare()

    def load_image(self, image_id):
        return self.samples[image_id][0]

    def load_mask(self, image_id):
        return self.samples[image_id][1], np.array(self.samples[image_id][2], np.int32)


def whole_way(dataset, monkeypatch, tmp_path, **settings):
    """Train two steps on a data set, then detect in its images with the trained weights.

    Returns:
        the training batches, the logs of the steps, the results of `detect`.
    """
    run_eagerly(monkeypatch)
    keras.utils.set_random_seed(0)
    config = tiny_config(**settings)
    model = build_training_model(config)
    propose_anchors(model)
    training.compile_model(model, config, 1e-4, 0.9)
    batches = [BatchLoader(dataset, config, initial_epoch=epoch)[0][0] for epoch in range(2)]
    logs = []
    for batch in batches:
        model.reset_metrics()
        logs.append(model.train_on_batch(batch, return_dict=True))
    assert np.isfinite([list(log.values()) for log in logs]).all()
    weights = weights_of(model)
    assert all(np.isfinite(weight).all() for weight in weights.values())

    detector = MaskRCNN("inference", config, tmp_path)
    detector.keras_model.run_eagerly = True
    for weight in detector.keras_model.weights:
        weight.assign(weights[weight.path])
    images = [dataset.load_image(i) for i in dataset.image_ids]
    results = detector.detect(images)
    for image, result in zip(images, results, strict=True):
        assert result["masks"].shape == (*image.shape[:2], len(result["rois"]))
        assert np.isfinite(result["scores"]).all()
        y2, x2 = result["rois"][:, 2].max(initial=0), result["rois"][:, 3].max(initial=0)
        assert result["rois"].min(initial=0) >= 0 and y2 <= image.shape[0] and x2 <= image.shape[1]
    return batches, logs, results


def noise(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype)


# ---- Odd images --------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1), pytest.param((1, 50), marks=pytest.mark.slow)], ids=str)
def test_images_of_a_pixel_or_a_line(monkeypatch, tmp_path, shape):
    sample = (noise(*shape, 3), np.ones((*shape, 1), bool), [1])
    batches, _, _ = whole_way(Given([sample] * 2), monkeypatch, tmp_path)
    assert (batches[0][4][:, 0] == 1).all()


@pytest.mark.parametrize(
    "shape", [(64, 64), pytest.param((64, 64, 1), marks=pytest.mark.slow)], ids=str
)
def test_images_of_one_channel(monkeypatch, tmp_path, shape):
    masks = np.zeros((64, 64, 1), bool)
    masks[20:40, 20:45] = True
    dataset = Given([(noise(*shape), masks, [2])] * 2)
    settings = {"IMAGE_CHANNEL_COUNT": 1, "MEAN_PIXEL": np.array([110.0])}
    batches, logs, _ = whole_way(dataset, monkeypatch, tmp_path, **settings)
    assert batches[0][0].shape == (2, 64, 64, 1)
    assert logs[0]["mrcnn_mask_loss"] > 0


@pytest.mark.slow
def test_images_of_six_channels(monkeypatch, tmp_path):
    masks = np.zeros((64, 64, 1), bool)
    masks[20:40, 20:45] = True
    settings = {"IMAGE_CHANNEL_COUNT": 6, "MEAN_PIXEL": np.full(6, 100.0)}
    dataset = Given([(noise(64, 64, 6), masks, [2])] * 2)
    batches, _, _ = whole_way(dataset, monkeypatch, tmp_path, **settings)
    assert batches[0][0].shape == (2, 64, 64, 6)


class Files(Rectangles):
    """Images from files, their masks as drawn."""

    def __init__(self, content, paths):
        super().__init__(content)
        for info, path in zip(self.image_info, paths, strict=True):
            info["path"] = str(path)

    def load_image(self, image_id):
        return Dataset.load_image(self, image_id)


def test_files_of_16_bits_are_trained_on_like_those_of_8(monkeypatch, tmp_path):
    drawn = random_rectangles(2)
    paths = []
    for i in range(2):
        grey = drawn.load_image(i)[:, :, 1].astype(np.uint16) * 257
        paths.append(tmp_path / f"{i}.png")
        PIL.Image.fromarray(grey).save(paths[-1])
    dataset = Files(drawn.content, paths)
    batches, _, _ = whole_way(dataset, monkeypatch, tmp_path)
    molded = batches[0][0] + np.array([123.7, 116.8, 103.9])
    assert molded.min() >= -1e-3 and molded.max() <= 255.001
    assert np.ptp(molded) > 100


@pytest.mark.slow
def test_arrays_of_16_bits_are_taken_as_they_are(monkeypatch, tmp_path):
    masks = np.zeros((64, 64, 1), bool)
    masks[20:40, 20:45] = True
    image = noise(64, 64, 3, dtype=np.uint16) // 64
    dataset = Given([(image, masks, [2])] * 2)
    batches, _, _ = whole_way(dataset, monkeypatch, tmp_path, MEAN_PIXEL=np.full(3, 512.0))
    np.testing.assert_allclose(batches[0][0][0], image - 512.0)


# ---- Odd objects -------------------------------------------------------------------------------


def test_masks_that_touch_every_border(monkeypatch, tmp_path):
    full = (1, (0, 0, 64, 64))
    borders = [(2, (0, 0, 20, 64)), (3, (44, 0, 64, 64)), (1, (0, 0, 64, 20)), (2, (0, 44, 64, 64))]
    dataset = Rectangles([[full], borders])
    batches, logs, _ = whole_way(dataset, monkeypatch, tmp_path)
    boxes = {tuple(box) for box in batches[0][5].reshape(-1, 4).tolist()}
    assert {(0, 0, 64, 64), (0, 44, 64, 64), (44, 0, 64, 64)} <= boxes
    assert logs[0]["rpn_bbox_loss"] > 0


def test_objects_of_one_pixel(monkeypatch, tmp_path):
    dataset = Rectangles([[(1, (30, 30, 31, 31)), (2, (0, 0, 1, 1)), (3, (63, 63, 64, 64))]] * 2)
    batches, _, _ = whole_way(dataset, monkeypatch, tmp_path)
    assert (batches[0][4] > 0).sum() == 6


@pytest.mark.parametrize("use_mini_mask", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_three_hundred_objects_are_cut_to_max_gt_instances(monkeypatch, tmp_path, use_mini_mask):
    content = [
        (1 + i % 3, (i // 18 * 3, i % 18 * 3, i // 18 * 3 + 8, i % 18 * 3 + 9)) for i in range(300)
    ]
    dataset = Rectangles([content] * 2)
    batches, logs, _ = whole_way(
        dataset, monkeypatch, tmp_path, MAX_GT_INSTANCES=100, USE_MINI_MASK=use_mini_mask
    )
    assert batches[0][4].shape == (2, 100) and (batches[0][4] > 0).all()
    assert logs[0]["rpn_class_loss"] > 0


def test_a_crowd_beside_objects(monkeypatch, tmp_path):
    masks = np.zeros((64, 64, 2), bool)
    masks[:40, :, 0] = masks[42:62, 10:34, 1] = True
    dataset = Given([(noise(64, 64, 3), masks, [-1, 2])] * 2)
    batches, _, _ = whole_way(dataset, monkeypatch, tmp_path)
    assert sorted(batches[0][4][0].tolist()) == [-1, 0, 0, 0, 0, 2]


def with_inputs(batch, image, **changes):
    """The batch with the inputs of one image replaced: name -> array or number."""
    names = "images metas rpn_match rpn_bbox class_ids boxes masks".split()
    changed = [array.copy() for array in batch]
    for name, value in changes.items():
        changed[names.index(name)][image] = value
    return changed


@pytest.mark.parametrize("empty", [[0], pytest.param([1], marks=pytest.mark.slow), [0, 1]], ids=str)
def test_images_without_objects_or_positive_anchors_in_a_batch(monkeypatch, empty):
    run_eagerly(monkeypatch)
    keras.utils.set_random_seed(0)
    config = tiny_config()
    model = build_training_model(config)
    propose_anchors(model)
    training.compile_model(model, config, 1e-4, 0.9)
    batch = BatchLoader(random_rectangles(2), config)[0][0]
    for image in empty:
        match = np.where(batch[2][image] > 0, 0, batch[2][image])
        batch = with_inputs(
            batch, image, rpn_match=match, rpn_bbox=0, class_ids=0, boxes=0, masks=False
        )
    log = model.train_on_batch(batch, return_dict=True)
    assert np.isfinite(list(log.values())).all()
    alone = empty == [0, 1]
    assert (log["mrcnn_mask_loss"] == 0) == alone and (log["rpn_bbox_loss"] == 0) == alone
    assert all(np.isfinite(weight).all() for weight in weights_of(model).values())


def test_a_batch_in_which_nothing_counts_changes_nothing_but_by_decay(monkeypatch):
    run_eagerly(monkeypatch)
    config = tiny_config(WEIGHT_DECAY=0.0)
    model = build_training_model(config)
    training.compile_model(model, config, 1.0, 0.9)
    batch = [np.zeros_like(x) for x in BatchLoader(random_rectangles(2), config)[0][0]]
    before = weights_of(model)
    log = model.train_on_batch(batch, return_dict=True)
    assert log["loss"] == 0
    for path, weight in weights_of(model).items():
        np.testing.assert_array_equal(weight, before[path], err_msg=path)


def test_an_image_without_objects_is_left_out_and_named(monkeypatch, tmp_path, caplog):
    content = random_rectangles(12).content
    content[5] = []
    dataset = Rectangles(content)
    run_eagerly(monkeypatch)
    model = MaskRCNN("training", tiny_config(STEPS_PER_EPOCH=6, VALIDATION_STEPS=0), tmp_path)
    history = model.train(dataset, None, 1e-4, 1, "heads").history
    assert np.isfinite(history["loss"]).all()
    assert "image 5 (tiny 5) is left out: it has no objects" in caplog.text


def test_negative_images_as_an_empty_mask_of_class_0_train(monkeypatch, tmp_path, caplog):
    """As in the notebooks for RSNA's X-rays and their copies."""
    masks, empty = np.zeros((64, 64, 1), bool), np.zeros((64, 64, 1), np.uint8)
    masks[20:40, 20:45] = True
    dataset = Given([(noise(64, 64, 3), empty, [0])] * 3 + [(noise(64, 64, 3), masks, [2])])
    batches, _, _ = whole_way(dataset, monkeypatch, tmp_path)
    for batch in batches:
        assert batch[1][:, 0].tolist() == [3, 3] and batch[4][:, 0].tolist() == [2, 2]
    assert "it has no objects" in caplog.text


def test_masks_larger_than_their_image_train(monkeypatch, tmp_path, caplog):
    masks = np.zeros((150, 178, 2), bool)
    masks[30:120, 50:100, 0] = masks[5:25, 10:40, 1] = True
    dataset = Given([(noise(64, 64, 3), masks, [1, 2])] * 2)
    batches, _, _ = whole_way(dataset, monkeypatch, tmp_path)
    assert batches[0][5][0, :2].tolist() == [[30, 50, 64, 64], [5, 10, 25, 40]]
    assert "image 1 (given 1) has masks of 150x178 pixels for an image of 64x64" in caplog.text


def test_load_image_gt_shows_an_image_without_objects():
    image, _, class_ids, boxes, masks = load_image_gt(Rectangles([[]]), tiny_config(), 0)
    assert image.shape == (64, 64, 3) and masks.shape == (64, 64, 0)
    assert class_ids.shape == (0,) and boxes.shape == (0, 4)


# ---- Bad input ---------------------------------------------------------------------------------


class Undrawn(Given):
    """A user's Dataset with a mistake in its code."""

    def load_mask(self, image_id):
        return self.image_info[image_id]["polygons"], [1]


def bad(kind, tmp_path):
    """A data set of two images which both have this fault."""
    masks = np.zeros((64, 64, 1), bool)
    masks[20:40, 20:45] = True
    if kind == "unreadable":
        (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
        return Files(random_rectangles(2).content, [tmp_path / "broken.png"] * 2)
    if kind == "missing":
        return Files(random_rectangles(2).content, [tmp_path / "gone.png"] * 2)
    if kind == "mask size":
        return Given([(noise(64, 64, 3), masks[:60], [1])] * 2)
    if kind == "class id":
        return Given([(noise(64, 64, 3), masks, [4])] * 2)
    if kind == "background":
        return Given([(noise(64, 64, 3), masks, [0])] * 2)
    if kind == "channels":
        return Given([(noise(64, 64, 5), masks, [1])] * 2)
    if kind == "code":
        return Undrawn([(noise(64, 64, 3), masks, [1])] * 2)
    assert kind == "class ids"
    return Given([(noise(64, 64, 3), masks, [1, 2])] * 2)


FAULTS = {
    "unreadable": r"broken\.png cannot be read as an image",
    "missing": r"gone\.png",
    "mask size": r"masks of shape \(60, 64, 1\) for an image of 64x64",
    "class id": "class id 4; with NUM_CLASSES 4 an object has a class id from 1 to 3",
    "background": "class id 0; with NUM_CLASSES 4",
    "channels": r"shape \(64, 64, 5\) cannot become one of 3 channels",
    "class ids": r"1 masks and class ids of shape \(2,\)",
    "code": "'polygons'",
}


@pytest.mark.parametrize("kind", FAULTS)
def test_bad_data_end_train_with_the_reason_and_the_image(kind, tmp_path):
    model = MaskRCNN("training", tiny_config(), tmp_path)
    with pytest.raises(ValueError, match=FAULTS[kind]) as caught:
        model.train(bad(kind, tmp_path), None, 1e-4, 1, "heads")
    assert "image 0 (" in str(caught.value) and "image 1 (" in str(caught.value)
    assert ("in load_mask" in str(caught.value)) == (kind == "code")  # the traceback


@pytest.mark.parametrize("kind", FAULTS)
def test_bad_data_are_an_error_of_load_image_gt(kind, tmp_path):
    error = {"unreadable": OSError, "missing": OSError, "code": KeyError}.get(kind, ValueError)
    with pytest.raises(error, match=FAULTS[kind]):
        load_image_gt(bad(kind, tmp_path), tiny_config(), 0)


def test_a_validation_set_of_other_classes_is_refused(tmp_path):
    model = MaskRCNN("training", tiny_config(), tmp_path)
    train, val = random_rectangles(2), random_rectangles(2)
    val.class_info[1]["name"], val.class_info[2]["name"] = "block", "bar"
    val.prepare()
    with pytest.raises(ValueError, match="class 1 is 'bar' in the training set and 'block' in the"):
        model.train(train, val, 1e-4, 1, "heads")


def test_images_of_several_sizes_in_a_batch_are_an_error_that_says_what_to_do(tmp_path):
    masks = np.zeros((64, 128, 1), bool)
    masks[20:40, 20:45] = True
    samples = [(noise(64, 128, 3), masks, [1]), (noise(64, 64, 3), masks[:, :64], [1])]
    config = tiny_config(IMAGE_RESIZE_MODE="pad64")
    model = MaskRCNN("training", config, tmp_path)
    with pytest.raises(ValueError, match=r"images of a batch have the shapes .* Use 'square'"):
        model.train(Given(samples), None, 1e-4, 1, "heads")


def test_the_network_takes_no_shape_but_its_own():
    model = build_inference_model(tiny_config())
    assert [x.name for x in model.inputs] == ["input_image", "input_image_meta", "input_anchors"]
    with pytest.raises(ValueError):
        model(np.zeros((1, 64, 64, 3), np.float32))
