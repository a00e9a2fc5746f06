"""Detection from end to end: any images in, pixels of those images out."""

from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from mrcnn.detection import (
    AnchorCache,
    batches_of_one_shape,
    build_inference_model,
    mold_inputs,
    unmold_detections,
    unmold_rle,
)
from mrcnn.execution import detection_pass
from mrcnn.geometry.boxes import norm_boxes
from mrcnn.mask_rcnn import MaskRCNN
from tests.slim import seed_weights
from tests.tiny import TinyConfig, random_rectangles, tiny_config

DATASET = random_rectangles(6)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny network that finds something in anything."""
    model = MaskRCNN("inference", TinyConfig(), tmp_path_factory.mktemp("logs"))
    seed_weights(model.keras_model, 21)
    return model


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def assert_result(result, shape):
    """A result as documented, for an image of this shape."""
    count = len(result["rois"])
    height, width = shape[:2]
    assert set(result) == {"rois", "class_ids", "scores", "masks"}
    assert result["rois"].shape == (count, 4) and result["rois"].dtype == np.int32
    assert result["class_ids"].shape == (count,) and result["class_ids"].dtype == np.int32
    assert result["scores"].shape == (count,) and result["scores"].dtype == np.float32
    assert result["masks"].shape == (height, width, count) and result["masks"].dtype == bool
    y1, x1, y2, x2 = result["rois"].T
    assert (0 <= y1).all() and (y1 < y2).all() and (y2 <= height).all()
    assert (0 <= x1).all() and (x1 < x2).all() and (x2 <= width).all()
    assert ((result["class_ids"] >= 1) & (result["class_ids"] < 4)).all()
    assert ((result["scores"] >= 0) & (result["scores"] <= 1)).all()
    assert (np.diff(result["scores"]) <= 0).all()


def assert_same(one, other):
    np.testing.assert_array_equal(one["class_ids"], other["class_ids"])
    np.testing.assert_allclose(one["scores"], other["scores"], atol=1e-4)
    assert np.abs(one["rois"] - other["rois"]).max(initial=0) <= 1
    assert one["masks"].shape == other["masks"].shape
    assert (one["masks"] != other["masks"]).mean() < 0.01 if one["masks"].size else True


# ---- detect ------------------------------------------------------------------------------------

IMAGES = [
    noise(64, 64, 3),
    noise(50, 90, 3, seed=6),
    noise(33, 33, seed=2),
    noise(200, 20, 4, seed=3),
    noise(80, 60, 3, seed=4).astype(np.float64),
]


@pytest.mark.parametrize("count", [0, 1, 3, 5])
def test_any_number_of_images_of_any_size_in_order(model, count):
    results = model.detect(IMAGES[:count])
    assert len(results) == count
    for image, result in zip(IMAGES, results, strict=False):
        assert_result(result, image.shape)
        assert len(result["rois"]) > 0
        assert_same(result, model.detect([image])[0])


def test_a_batch_array_and_a_tuple_are_taken_too(model):
    images = [DATASET.load_image(i) for i in range(3)]
    wanted = model.detect(images)
    for inputs in (np.stack(images), tuple(images)):
        for result, other in zip(model.detect(inputs), wanted, strict=True):
            assert_same(result, other)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float16, np.float64])
def test_the_type_of_the_pixels_does_not_matter(model, dtype):
    # A side of 64 pixels needs no resizing, which rounds whole numbers.
    image = noise(64, 64, 3)
    assert_same(model.detect([image.astype(dtype)])[0], model.detect([image])[0])


def test_grey_and_transparent_images_are_seen_in_colour(model):
    grey = noise(64, 64)
    wanted = model.detect([np.stack([grey] * 3, axis=-1)])[0]
    for image in (grey, grey[:, :, None], np.stack([grey] * 3 + [noise(64, 64, seed=9)], axis=-1)):
        assert_same(model.detect([image])[0], wanted)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 1), (1, 300, 3), (300, 1, 3), (2, 2, 3)])
def test_images_of_a_pixel_or_a_line(model, shape):
    image = np.full(shape, 200, np.uint8)
    (result,) = model.detect([image])
    assert_result(result, shape)
    assert len(result["rois"]) > 0


def test_the_images_given_are_left_alone(model):
    image = noise(64, 64, 3).astype(np.float32)
    before = image.copy()
    model.detect([image])
    np.testing.assert_array_equal(image, before)


def test_no_detection_gives_empty_arrays(tmp_path):
    model = MaskRCNN("inference", tiny_config(DETECTION_MIN_CONFIDENCE=1.0), tmp_path)
    keras.utils.set_random_seed(0)
    for weight in model.keras_model.get_layer("mrcnn_class_logits").weights:
        weight.assign(np.zeros(weight.shape))
    (result,) = model.detect([noise(40, 70, 3)])
    assert_result(result, (40, 70))
    assert len(result["rois"]) == 0 and result["masks"].shape == (40, 70, 0)


def test_verbose_says_what_is_worked_on(model, capsys):
    model.detect([noise(64, 64, 3)], verbose=1)
    printed = capsys.readouterr().out
    assert "Processing 1 images" in printed and "(64, 64, 3)" in printed
    model.detect([noise(64, 64, 3)])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("image", "error"),
    [
        (np.zeros((0, 5, 3)), r"image 1 has shape \(0, 5, 3\); an image is \[height, width, 3\]"),
        (np.zeros(5), r"image 1 has shape \(5,\)"),
        (np.zeros((1, 5, 5, 3)), r"image 1 has shape \(1, 5, 5, 3\)"),
        (np.zeros((5, 5, 2)), r"\(5, 5, 2\) cannot become one of 3 channels"),
        (np.full((5, 5, 3), "x"), "image 1 has dtype <U1; pixels are numbers"),
        (np.zeros((5, 5, 3), complex), "image 1 has dtype complex128"),
        (np.full((5, 5, 3), None), "image 1 has dtype object"),
        (np.full((5, 5, 3), np.nan), "image 1 holds NaN"),
        (np.full((5, 5, 3), np.inf), "image 1 holds NaN or infinite"),
    ],
    ids=["empty", "1-D", "4-D", "channels", "text", "complex", "object", "nan", "inf"],
)
def test_what_is_no_image_is_named(model, image, error):
    with pytest.raises(ValueError, match=error):
        model.detect([noise(64, 64, 3), image])


@pytest.mark.parametrize("shape", [(64, 64, 3), (64, 64)])
def test_one_image_in_place_of_a_list_is_an_error(model, shape):
    with pytest.raises(ValueError, match=r"images is one array of shape .*: \[image\]"):
        model.detect(noise(*shape))


# ---- detect_molded -----------------------------------------------------------------------------


def test_molded_images_are_detected_alike_in_their_own_pixels(model):
    images = [DATASET.load_image(i) for i in range(3)]
    molded, metas, windows = model.mold_inputs(images)
    assert molded.shape == (3, 64, 64, 3) and metas.shape == (3, model.config.IMAGE_META_SIZE)
    np.testing.assert_array_equal(windows, [[0, 0, 64, 64]] * 3)
    for result, wanted in zip(
        model.detect_molded(molded, metas), model.detect(images), strict=True
    ):
        assert_same(result, wanted)


def test_molded_results_show_the_padding_too(model):
    molded, metas, windows = model.mold_inputs([noise(40, 80, 3)])
    assert tuple(windows[0]) == (16, 0, 48, 64)
    (result,) = model.detect_molded(molded, metas, verbose=1)
    assert_result(result, (64, 64))
    assert (result["rois"][:, [0, 2]] >= 15).all() and (result["rois"][:, [0, 2]] <= 49).all()


def test_molded_images_of_several_shapes_or_none_are_errors(model):
    with pytest.raises(ValueError, match="molded_images have shapes .* a batch has one"):
        model.detect_molded([np.zeros((64, 64, 3)), np.zeros((64, 128, 3))], np.zeros((2, 16)))
    with pytest.raises(ValueError, match=r"molded_images have shapes \[\]"):
        model.detect_molded([], np.zeros((0, 16)))


def test_mold_inputs_needs_images(model):
    with pytest.raises(ValueError, match="images is empty"):
        model.mold_inputs([])


# ---- unmold_detections -------------------------------------------------------------------------


def detection(box, image_shape, class_id=2, score=0.9):
    """A row of the network's output for a box in pixels of the molded image."""
    return [*norm_boxes(np.array([box]), image_shape[:2])[0], class_id, score]


def unmold(rows, masks=None, original=(100, 200), molded=(128, 128), window=(32, 0, 96, 128)):
    detections = np.zeros((5, 6), np.float32)
    detections[: len(rows)] = np.reshape(rows, (-1, 6))
    mrcnn_mask = np.ones((5, 8, 8, 4), np.float32) if masks is None else masks
    return unmold_detections(detections, mrcnn_mask, (*original, 3), (*molded, 3), window)


@pytest.mark.parametrize("box", [(0, 0, 64, 128), (10, 20, 40, 60), (0, 100, 1, 128), (5, 5, 6, 6)])
def test_a_box_comes_back_to_the_pixel(box):
    # A molded image of twice the original's size, padded by 32 rows above and below.
    y1, x1, y2, x2 = box
    inside = (2 * y1 + 32, 2 * x1, 2 * y2 + 32, 2 * x2)
    rows = [detection(inside, (192, 256))]
    boxes, class_ids, scores, masks = unmold(
        rows, original=(64, 128), molded=(192, 256), window=(32, 0, 160, 256)
    )
    assert np.abs(boxes - [box]).max() <= 1 and class_ids.tolist() == [2]
    assert scores[0] == np.float32(0.9)
    y1, x1, y2, x2 = boxes[0]
    wanted = np.zeros((64, 128), bool)
    wanted[y1:y2, x1:x2] = True
    np.testing.assert_array_equal(masks[:, :, 0], wanted)


@pytest.mark.parametrize("box", [(0, 0, 64, 64), (3, 7, 31, 50), (63, 63, 64, 64), (0, 10, 1, 60)])
def test_an_image_that_was_not_resized_gives_back_the_very_box(box):
    boxes, _, _, masks = unmold(
        [detection(box, (64, 64))], original=(64, 64), molded=(64, 64), window=(0, 0, 64, 64)
    )
    np.testing.assert_array_equal(boxes, [box])
    assert masks.sum() == (box[2] - box[0]) * (box[3] - box[1])


def test_the_mask_of_the_detected_class_is_taken():
    masks = np.zeros((5, 8, 8, 4), np.float32)
    masks[0, :, :4, 3] = 1
    boxes, _, _, full = unmold(
        [detection((0, 0, 40, 40), (64, 64), class_id=3)],
        masks,
        original=(64, 64),
        molded=(64, 64),
        window=(0, 0, 64, 64),
    )
    # Resizing rounds the corners of a mask off.
    assert full[3:37, 3:18, 0].all() and not full[:, 22:].any() and not full[40:].any()


def test_boxes_that_vanish_are_dropped_with_their_class_and_mask():
    rows = [
        detection((40, 0, 60, 50), (128, 128), 1, 0.9),
        detection((50, 50, 50, 70), (128, 128), 2, 0.8),
        detection((50, 50, 60, 49), (128, 128), 2, 0.7),
        detection((70, 70, 90, 90), (128, 128), 3, 0.6),
    ]
    boxes, class_ids, scores, masks = unmold(rows)
    assert class_ids.tolist() == [1, 3] and scores.tolist() == [np.float32(0.9), np.float32(0.6)]
    assert len(boxes) == 2 and masks.shape == (100, 200, 2) and masks.any(axis=(0, 1)).all()


def test_what_comes_after_the_first_empty_row_is_padding():
    row = detection((40, 0, 60, 50), (128, 128))
    rows = [row, [0] * 6, row]
    assert len(unmold(rows)[0]) == 1
    boxes, class_ids, scores, masks = unmold([])
    assert boxes.shape == (0, 4) and masks.shape == (100, 200, 0)
    assert class_ids.shape == scores.shape == (0,)


def test_a_full_table_of_detections_has_no_padding():
    rows = [detection((40, 0, 60, 50), (128, 128))] * 5
    assert len(unmold(rows)[0]) == 5


def test_run_lengths_stand_for_the_same_masks():
    rows = [
        detection((40, 0, 60, 50), (128, 128), 1, 0.9),
        detection((50, 50, 50, 70), (128, 128), 2, 0.8),
        detection((70, 70, 90, 128), (128, 128), 3, 0.6),
    ]
    detections = np.zeros((5, 6), np.float32)
    detections[:3] = rows
    mrcnn_mask = np.random.default_rng(0).random((5, 8, 8, 4), np.float32)
    arguments = detections, mrcnn_mask, (100, 200, 3), (128, 128, 3), (32, 0, 96, 128)
    boxes, class_ids, scores, masks = unmold_detections(*arguments)
    *same, rles = unmold_rle(*arguments)
    for mine, wanted in zip(same, (boxes, class_ids, scores), strict=True):
        np.testing.assert_array_equal(mine, wanted)
    assert len(rles) == 2
    np.testing.assert_array_equal(coco_mask.decode(rles), masks)


def test_the_facade_unmolds_alike(model):
    rows = np.float32([detection((3, 7, 31, 50), (64, 64)), [0] * 6])
    shape, window, masks = (64, 64, 3), (0, 0, 64, 64), np.ones((2, 8, 8, 4), np.float32)
    one = model.unmold_detections(rows, masks, shape, shape, window)
    for mine, wanted in zip(one, unmold_detections(rows, masks, shape, shape, window), strict=True):
        np.testing.assert_array_equal(mine, wanted)


# ---- Batches -----------------------------------------------------------------------------------


@given(
    st.lists(st.sampled_from([None, (64, 64), (64, 128), (128, 64)]), max_size=40),
    st.integers(1, 5),
    st.integers(1, 4),
)
def test_batches_hold_every_image_once_and_few_wait(shapes, size, waiting):
    images = list(enumerate(shapes))
    most, taken, given_back = size * waiting, 0, []

    def counted():
        nonlocal taken
        for image in images:
            assert taken - len(given_back) < most
            taken += 1
            yield image

    for batch in batches_of_one_shape(counted(), size, lambda image: image[1], most):
        assert 1 <= len(batch) <= size
        assert len({shape for _, shape in batch}) == 1
        assert batch[0][1] is not None or len(batch) == 1
        given_back += batch
    assert sorted(given_back) == images


def test_batches_are_full_where_there_is_one_shape():
    batches = batches_of_one_shape(range(8), 3, lambda image: (64, 64), most=12)
    assert list(batches) == [[0, 1, 2], [3, 4, 5], [6, 7]]


# ---- Resize modes ------------------------------------------------------------------------------


class Pad64(TinyConfig):
    IMAGE_RESIZE_MODE = "pad64"
    IMAGE_MIN_DIM = 64


@pytest.mark.slow
def test_images_of_many_shapes_keep_their_order_in_pad64(tmp_path):
    model = MaskRCNN("inference", Pad64(), tmp_path)
    model.keras_model.run_eagerly = True  # one trace a shape would take longer
    seed_weights(model.keras_model, 21)
    images = [noise(h, w, 3, seed=i) for i, (h, w) in enumerate([(64, 64), (64, 120), (64, 64)])]
    images += [noise(64, 100, 3, seed=3), noise(130, 64, 3, seed=4)]
    with pytest.raises(ValueError, match="shapes .* after resizing; .* `detect`"):
        model.mold_inputs(images)
    for image, result in zip(images, model.detect(images), strict=True):
        assert_result(result, image.shape)
        assert_same(result, model.detect([image])[0])


def test_a_rectangle_has_the_scale_of_a_square_and_less_to_compute():
    image = noise(48, 96, 3, seed=0)
    sizes = {"IMAGE_MIN_DIM": 96, "IMAGE_MAX_DIM": 128}
    (square,), (meta,), _ = mold_inputs([image], tiny_config(**sizes))
    (rectangle,), (own_meta,), (window,) = mold_inputs(
        [image], tiny_config(IMAGE_RESIZE_MODE="rectangle", **sizes)
    )
    assert square.shape == (128, 128, 3) and rectangle.shape == (64, 128, 3)
    y1, x1, y2, x2 = window
    np.testing.assert_array_equal(rectangle[y1:y2, x1:x2], square[32:96])
    assert own_meta[11] == meta[11]  # the scale


@pytest.mark.parametrize("mode", ["square", "rectangle"])
def test_nothing_is_traced_twice(mode, tmp_path, monkeypatch):
    """Ten images of many sizes, with many numbers of objects, in calls of their own."""
    traces = []
    original = detection_pass.values_of

    def run(outputs, given, training=False):
        if outputs[0] is model.keras_model.outputs[0]:
            traces.append("image")
        elif outputs[0] is model.keras_model.outputs[3]:
            traces.append(f"masks of {given[0][1].shape[1]}")
        return original(outputs, given, training)

    monkeypatch.setattr(detection_pass, "values_of", run)
    config = tiny_config(
        IMAGE_RESIZE_MODE=mode,
        IMAGE_MAX_DIM=128,
        DETECTION_MAX_INSTANCES=40,
        DETECTION_MIN_CONFIDENCE=0.4,
    )
    model = MaskRCNN("inference", config, tmp_path)
    seed_weights(model.keras_model, 21)
    counts = set()
    for i in range(10):
        shape = (40 + 11 * i, 150 - 13 * i)
        counts.add(len(model.detect([noise(*shape, 3, seed=i)])[0]["scores"]))
    assert len(counts) > 3, counts
    # A shape of its own the first time, then one trace for all shapes.
    assert traces.count("image") == (1 if mode == "square" else 2)
    masks = [trace for trace in traces if trace != "image"]
    assert {*masks} <= {"masks of 8", "masks of 32", "masks of 40"}
    assert all(masks.count(trace) <= (1 if mode == "square" else 2) for trace in masks)


def test_a_size_that_the_network_cannot_take_is_named():
    config = tiny_config(IMAGE_RESIZE_MODE="none")
    with pytest.raises(ValueError, match=r"image 1 is 64x100 .* multiples of 64; .*'pad64'"):
        mold_inputs([noise(64, 128, 3), noise(64, 100, 3)], config)
    molded, _, windows = mold_inputs([noise(64, 128, 3)], config)
    assert molded[0].shape == (64, 128, 3) and tuple(windows[0]) == (0, 0, 64, 128)


@pytest.mark.parametrize("shape", [(64, 128), (65, 64), (32, 33), (200, 200)])
def test_a_random_part_of_an_image_is_not_detected_in(shape):
    config = tiny_config(IMAGE_RESIZE_MODE="crop")
    with pytest.raises(ValueError, match=r"image 1 is .*, .*'crop' .* config.for_detection\(\)"):
        mold_inputs([noise(64, 64, 3), noise(*shape, 3)], config)
    molded, _, windows = mold_inputs([noise(*shape, 3)], config.for_detection())
    assert molded[0].shape[0] % 64 == 0 and len(windows) == 1


@pytest.mark.parametrize("side", [64, 32, 1])
def test_an_image_that_a_crop_leaves_whole_is_detected_in(model, side):
    """As the galaxy notebook does, whose images have the size of the crops of training."""
    image = noise(side, side, 3)
    (molded,), (meta,), (window,) = mold_inputs([image], tiny_config(IMAGE_RESIZE_MODE="crop"))
    (square,), (own_meta,), (own_window,) = mold_inputs([image], tiny_config(IMAGE_MAX_DIM=64))
    np.testing.assert_array_equal(molded, square)
    np.testing.assert_array_equal(meta, own_meta)
    np.testing.assert_array_equal(window, own_window)


# ---- The Keras model ---------------------------------------------------------------------------


def test_anchors_of_a_shape_are_made_once(model):
    anchors = model.get_anchors((64, 64, 3))
    assert model.get_anchors(np.array([64, 64, 3])) is anchors
    assert anchors.shape == (3 * (16**2 + 8**2 + 4**2 + 2**2 + 1), 4)
    assert anchors.dtype == np.float32
    wide = model.get_anchors((64, 128, 3))
    assert wide.shape[0] == 2 * anchors.shape[0]
    assert AnchorCache(model.config)((64, 64)) is not anchors


def test_anchors_of_the_shapes_used_last_are_kept(monkeypatch):
    cache = AnchorCache(tiny_config())
    small, large = (64, 64), (64, 128)
    one_shape = cache(small).nbytes * 3  # float32 normalised, float64 in pixels
    monkeypatch.setattr("mrcnn.detection.detector.ANCHOR_BYTES", 3 * one_shape)
    kept = cache(small)
    assert cache((128, 64)) is cache((128, 64)) and cache(small) is kept
    assert cache.pixels.max() > 1 and len(cache.pixels) == len(kept)
    cache(large)  # as large as two small ones: what was used longest ago goes
    assert cache(small) is kept
    held = [sum(array.nbytes for array in arrays) for arrays in cache._by_shape.values()]
    assert sum(held) <= 3 * one_shape and len(held) == 2


def test_memory_of_anchors_does_not_grow_with_the_number_of_shapes(monkeypatch):
    monkeypatch.setattr("mrcnn.detection.detector.ANCHOR_BYTES", 1 << 20)
    cache = AnchorCache(tiny_config())
    for height in range(64, 1024, 64):
        for width in range(64, 1024, 192):
            anchors = cache((height, width, 3))
            held = sum(array.nbytes for pair in cache._by_shape.values() for array in pair)
            # One shape alone may be larger.
            assert held <= 1 << 20 or len(cache._by_shape) == 1
            assert cache((height, width)) is anchors


def test_threads_may_share_a_cache(monkeypatch):
    monkeypatch.setattr("mrcnn.detection.detector.ANCHOR_BYTES", 0)
    cache = AnchorCache(tiny_config())
    shapes = [(64, 64), (64, 128), (128, 128)] * 20
    counts = {(64, 64): 1023, (64, 128): 2046, (128, 128): 4092}
    with ThreadPoolExecutor(8) as pool:
        for shape, anchors in zip(shapes, pool.map(cache, shapes), strict=True):
            assert len(anchors) == counts[shape]


def predict(keras_model, model, images):
    molded, metas, _ = model.mold_inputs(images)
    anchors = np.stack([model.get_anchors(molded[0].shape)] * len(molded))
    return keras_model.predict([molded, metas.astype(np.float32), anchors], verbose=0)


def test_predict_gives_seven_outputs_of_documented_shapes(model):
    outputs = predict(model.keras_model, model, [noise(64, 64, 3), noise(70, 30, 3)])
    config, anchors = model.config, len(model.get_anchors((64, 64)))
    rois, found = config.POST_NMS_ROIS_INFERENCE, config.DETECTION_MAX_INSTANCES
    assert [output.shape for output in outputs] == [
        (2, found, 6),
        (2, rois, 4),
        (2, rois, 4, 4),
        (2, found, 8, 8, 4),
        (2, rois, 4),
        (2, anchors, 2),
        (2, anchors, 4),
    ]
    assert all(np.isfinite(output).all() for output in outputs)
    np.testing.assert_allclose(outputs[1].sum(axis=-1), 1, atol=1e-5)


@pytest.mark.slow
def test_the_model_survives_keras_own_format(model, tmp_path):
    path = str(tmp_path / "model.keras")
    model.keras_model.save(path)
    loaded = keras.saving.load_model(path)
    images = [DATASET.load_image(0), noise(64, 64, 3)]
    wanted = predict(model.keras_model, model, images)
    for output, expected in zip(predict(loaded, model, images), wanted, strict=True):
        np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5)
    # A new backbone of the same names takes the loaded model's weights.
    again = build_inference_model(model.config)
    again.set_weights(loaded.get_weights())
    np.testing.assert_allclose(predict(again, model, images)[0], wanted[0], atol=1e-5)


def test_batch_norm_on_batch_statistics_survives_keras_own_format(tmp_path):
    config = tiny_config(TRAIN_BN=None)
    original = build_inference_model(config)
    original.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_layer("bn_conv1").train_bn is None
    assert original.get_layer("bn_conv1").train_bn is None
