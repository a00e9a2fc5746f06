"""The seam: each primitive against a plain slow one, native against generic."""

from functools import cache

import keras
import numpy as np
import pytest
from keras import ops

from mrcnn import backend
from mrcnn.geometry.boxes import compute_overlaps
from tests.gradients import compiled, gradients

# Where the backend has native versions, these are tried too.
VERSIONS = ["generic", "native"] if keras.backend.backend() == "tensorflow" else ["generic"]
CROP = {"generic": backend.crop_and_resize_generic, "native": backend.crop_and_resize}
PYRAMID = {
    "generic": backend.pyramid_crop_and_resize_generic,
    "native": backend.pyramid_crop_and_resize,
}
SUPPRESS = {"generic": backend.non_max_suppression_generic, "native": backend.non_max_suppression}

every_version = pytest.mark.parametrize("version", VERSIONS)


def numpy_of(x):
    return ops.convert_to_numpy(x)


def crop(version, images, boxes, index, crop_size):
    return compiled(lambda *tensors: CROP[version](*tensors, crop_size))(images, boxes, index)


def pyramid_crop(version, maps, boxes, levels, crop_size):
    return compiled(lambda *tensors: PYRAMID[version](*tensors, crop_size))(maps, boxes, levels)


@cache
def suppression(version, *settings):
    return compiled(lambda boxes, scores: SUPPRESS[version](boxes, scores, *settings))


def random_boxes(rng, *shape):
    """Boxes a good part of which reach out of the unit square."""
    corner = rng.uniform(-0.3, 1.0, (*shape, 2))
    return np.concatenate([corner, corner + rng.uniform(0, 0.7, (*shape, 2))], -1).astype("f4")


# ---- Crops -------------------------------------------------------------------------------------


def crop_slowly(image, box, crop_size):
    """One crop, sample by sample, in float32 as the kernels compute."""
    (height, width, channels), (rows, columns) = image.shape, crop_size
    crop = np.zeros((rows, columns, channels), np.float32)
    for row in range(rows):
        for column in range(columns):
            y = place(box[0], box[2], height, row, rows)
            x = place(box[1], box[3], width, column, columns)
            if 0 <= y <= height - 1 and 0 <= x <= width - 1:
                crop[row, column] = bilinear(image.astype(np.float32), y, x)
    return crop


def place(start, end, size, index, count):
    last = np.float32(size - 1)
    if count == 1:
        return np.float32(0.5) * (start + end) * last
    return start * last + index * ((end - start) * last / np.float32(count - 1))


def bilinear(image, y, x):
    top, left = int(np.floor(y)), int(np.floor(x))
    bottom, right = int(np.ceil(y)), int(np.ceil(x))
    above = image[top, left] * (1 - (x - left)) + image[top, right] * (x - left)
    below = image[bottom, left] * (1 - (x - left)) + image[bottom, right] * (x - left)
    return above * (1 - (y - top)) + below * (y - top)


EDGES = np.array(
    [
        [0.2, 0.3, 0.2, 0.3],  # no area
        [0.8, 0.9, 0.1, 0.2],  # upside down
        [1.5, 1.5, 2.0, 2.0],  # outside
        [-2.0, -2.0, -1.0, -1.0],
        [-1.0, -1.0, 2.0, 2.0],
        [0.0, 0.0, 0.0, 0.0],  # padding
        [-1e6, -1e6, 1e6, 1e6],
        [1e9, 1e9, 2e9, 2e9],
    ],
    np.float32,
)


@every_version
@pytest.mark.parametrize("crop_size", [(1, 1), (1, 3), (4, 5)])
def test_crops_are_those_of_the_slow_way(version, crop_size):
    rng = np.random.default_rng(0)
    images = rng.random((3, 6, 9, 2)).astype(np.float32)
    boxes = np.concatenate([random_boxes(rng, 12), EDGES])
    index = rng.integers(0, 3, len(boxes)).astype(np.int32)
    crops = numpy_of(crop(version, images, boxes, index, crop_size))
    wanted = [crop_slowly(images[i], box, crop_size) for i, box in zip(index, boxes, strict=True)]
    np.testing.assert_allclose(crops, wanted, atol=2e-6)


@every_version
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 7, 3), (5, 1, 1)])
def test_crops_of_thin_images(version, shape):
    rng = np.random.default_rng(1)
    image = rng.random((1, *shape)).astype(np.float32)
    boxes = np.concatenate([[[0, 0, 0, 0], [0, 0, 1, 1]], EDGES]).astype(np.float32)
    crops = numpy_of(crop(version, image, boxes, np.zeros(len(boxes), np.int32), (3, 2)))
    wanted = [crop_slowly(image[0], box, (3, 2)) for box in boxes]
    np.testing.assert_allclose(crops, wanted, atol=2e-6)


@every_version
def test_one_box_and_no_box(version):
    images = np.random.default_rng(2).random((2, 5, 5, 3)).astype(np.float32)
    one = np.array([[0.1, 0.2, 0.9, 0.7]], np.float32)
    crops = numpy_of(crop(version, images, one, np.array([1], np.int32), (2, 2)))
    np.testing.assert_allclose(crops[0], crop_slowly(images[1], one[0], (2, 2)), atol=2e-6)
    crops = crop(version, images, np.zeros((0, 4), "f4"), np.zeros(0, np.int32), (2, 2))
    assert tuple(crops.shape) == (0, 2, 2, 3)


@every_version
@pytest.mark.parametrize("dtype", ["uint8", "int32", "float16", "bfloat16"])
def test_images_of_any_number_type_give_float32(version, dtype):
    values = np.random.default_rng(3).integers(0, 100, (1, 4, 4, 1)).astype(np.float32)
    boxes, index = np.array([[0.0, 0.1, 0.8, 1.0]], np.float32), np.zeros(1, np.int32)
    crops = crop(version, ops.cast(values, dtype), boxes, index, (3, 3))
    assert keras.backend.standardize_dtype(crops.dtype) == "float32"
    np.testing.assert_allclose(numpy_of(crops)[0], crop_slowly(values[0], boxes[0], (3, 3)), 1e-5)


def check_adjoint(crop_of, maps, boxes, weights):
    """Crops are linear in the maps, so their gradient must be the transposed of that map."""

    def weighted(maps, boxes):
        return ops.sum(ops.multiply(crop_of(maps, boxes), weights))

    by_maps, by_boxes = gradients(weighted, maps, boxes)
    other = np.random.default_rng(9).normal(size=maps.shape).astype(np.float32)
    wanted = np.sum(numpy_of(compiled(crop_of)(other, boxes)) * weights)
    np.testing.assert_allclose(np.sum(by_maps * other), wanted, rtol=1e-4)
    assert np.abs(by_maps).max() > 0 and (by_boxes == 0).all()
    return by_maps


def test_gradient_of_crops():
    rng = np.random.default_rng(4)
    images = rng.random((2, 6, 7, 2)).astype(np.float32)
    boxes = np.concatenate([random_boxes(rng, 10), EDGES])
    index = rng.integers(0, 2, len(boxes)).astype(np.int32)
    weights = rng.normal(size=(len(boxes), 3, 3, 2)).astype(np.float32)
    image_of_box = ops.convert_to_tensor(index)

    def crop_of(version):
        # `crop_and_resize` is what stops the gradient to the boxes.
        return lambda x, b: CROP[version](x, ops.stop_gradient(b), image_of_box, (3, 3))

    found = [check_adjoint(crop_of(version), images, boxes, weights) for version in VERSIONS]
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=1e-5)
    boxes_only = gradients(
        lambda b: ops.sum(backend.crop_and_resize(images, b, image_of_box, (3, 3))),
        boxes,
    )
    assert (boxes_only[0] == 0).all()


def pyramid_inputs(rng, batch, count):
    maps = [rng.random((batch, 16 >> i, 24 >> i, 2)).astype(np.float32) for i in range(4)]
    return maps, random_boxes(rng, batch, count), rng.integers(0, 4, (batch, count)).astype("i4")


@every_version
@pytest.mark.parametrize("batch", [1, 3])
def test_pyramid_crops_each_box_from_its_level(version, batch):
    rng = np.random.default_rng(5)
    maps, boxes, levels = pyramid_inputs(rng, batch, 9)
    boxes[-1, : len(EDGES)] = EDGES
    crops = numpy_of(pyramid_crop(version, maps, boxes, levels, (3, 4)))
    wanted = [
        [
            crop_slowly(maps[level][image], box, (3, 4))
            for level, box in zip(levels[image], boxes[image], strict=True)
        ]
        for image in range(batch)
    ]
    np.testing.assert_allclose(crops, wanted, atol=2e-6)


@every_version
def test_pyramid_with_all_boxes_on_one_level_and_with_one_box(version):
    rng = np.random.default_rng(6)
    maps, boxes, levels = pyramid_inputs(rng, 2, 1)
    for level in (0, 3):
        crops = numpy_of(pyramid_crop(version, maps, boxes, np.full_like(levels, level), (1, 2)))
        for image in range(2):
            wanted = crop_slowly(maps[level][image], boxes[image, 0], (1, 2))
            np.testing.assert_allclose(crops[image, 0], wanted, atol=2e-6)


def test_gradient_of_pyramid_crops_reaches_every_level():
    rng = np.random.default_rng(7)
    maps, boxes, levels = pyramid_inputs(rng, 2, 8)
    levels[0] = np.arange(8) % 4
    weights = rng.normal(size=(2, 8, 2, 2, 2)).astype(np.float32)

    levels, weights = ops.convert_to_tensor(levels), ops.convert_to_tensor(weights)

    def by_level(version):
        def weighted(boxes, *maps):
            return ops.sum(PYRAMID[version](list(maps), boxes, levels, (2, 2)) * weights)

        return gradients(weighted, boxes, *maps)[1:]

    found = [by_level(version) for version in VERSIONS]
    for level in range(4):
        assert np.abs(found[0][level]).max() > 0
        for other in found[1:]:
            np.testing.assert_allclose(other[level], found[0][level], atol=1e-5)

    maps = [ops.convert_to_tensor(x) for x in maps]

    def weighted(boxes):
        return ops.sum(backend.pyramid_crop_and_resize(maps, boxes, levels, (2, 2)))

    assert (gradients(weighted, boxes)[0] == 0).all()


@every_version
def test_pyramid_of_half_precision_maps(version):
    rng = np.random.default_rng(8)
    maps, boxes, levels = pyramid_inputs(rng, 1, 4)
    wanted = numpy_of(pyramid_crop(version, maps, boxes, levels, (2, 2)))
    half = [ops.cast(x, "bfloat16") for x in maps]
    crops = pyramid_crop(version, half, boxes, levels, (2, 2))
    assert keras.backend.standardize_dtype(crops.dtype) == "float32"
    np.testing.assert_allclose(numpy_of(crops), wanted, atol=1e-2)


# ---- Non-maximum suppression -------------------------------------------------------------------


def suppress_slowly(boxes, scores, max_output_size, iou_threshold, score_threshold):
    """Indices kept of one image, one box at a time."""
    kept = []
    for row in np.argsort(-scores, kind="stable"):
        if scores[row] > score_threshold and len(kept) < max_output_size:
            overlaps = compute_overlaps(boxes[row : row + 1], boxes[kept])
            if not (overlaps > iou_threshold).any():
                kept.append(row)
    return kept


def check_suppression(version, boxes, scores, *settings):
    indices, valid = map(numpy_of, suppression(version, *settings)(boxes, scores))
    assert indices.shape == valid.shape == (len(boxes), settings[0])
    assert indices.dtype == np.int32 and valid.dtype == bool
    assert (indices >= 0).all() and (indices < boxes.shape[1]).all()
    for image in range(len(boxes)):
        wanted = suppress_slowly(boxes[image], scores[image], *settings)
        assert list(indices[image][valid[image]]) == wanted
        assert list(valid[image]) == [True] * len(wanted) + [False] * (settings[0] - len(wanted))


def clustered_boxes(rng, batch, count):
    centers = rng.random((batch, 6, 4)).cumsum(axis=-1)
    boxes = centers[:, rng.integers(0, 6, count)] + rng.normal(scale=0.1, size=(batch, count, 4))
    one, other = boxes[..., :2], boxes[..., 2:]
    boxes = np.concatenate([np.minimum(one, other), np.maximum(one, other)], axis=-1)
    return boxes.astype(np.float32)


@every_version
@pytest.mark.parametrize("batch", [1, 3])
def test_boxes_kept_are_those_of_the_slow_way(version, batch):
    for seed in range(4):
        rng = np.random.default_rng(seed)
        boxes = clustered_boxes(rng, batch, 40)
        scores = rng.random((batch, 40)).astype(np.float32)
        check_suppression(version, boxes, scores, 12, [0.0, 0.3, 0.7, 1.0][seed], -0.5)


@every_version
def test_ties_go_to_the_first_row(version):
    rng = np.random.default_rng(10)
    boxes = clustered_boxes(rng, 3, 40)
    scores = rng.integers(0, 3, (3, 40)).astype(np.float32) / 2
    check_suppression(version, boxes, scores, 12, 0.3, -0.5)
    check_suppression(version, np.repeat(boxes[:, :1], 40, axis=1), scores, 12, 0.3, -0.5)


@every_version
def test_only_scores_above_the_threshold_take_part(version):
    rng = np.random.default_rng(11)
    boxes = clustered_boxes(rng, 3, 40)
    scores = np.stack([np.full(40, 0.4), np.full(40, 0.5), rng.random(40)]).astype(np.float32)
    check_suppression(version, boxes, scores, 12, 0.3, 0.5)
    check_suppression(version, boxes, np.full((3, 40), -1, np.float32), 12, 0.3, -0.5)


@every_version
def test_boxes_without_area_and_huge_ones(version):
    rng = np.random.default_rng(12)
    boxes = clustered_boxes(rng, 3, 40)
    boxes[0, :, 2:] = boxes[0, :, :2]
    boxes[1] *= 1e6
    boxes[2, ::2] = 0
    scores = rng.random((3, 40)).astype(np.float32)
    check_suppression(version, boxes, scores, 12, 0.3, -0.5)


@every_version
def test_fewer_boxes_than_rows(version):
    boxes = np.array([[[0, 0, 1, 1]]], np.float32)
    check_suppression(version, boxes, np.array([[0.5]], np.float32), 3, 0.5, -0.5)


@pytest.mark.parametrize("block", [1, 7, 40, 64])
@pytest.mark.parametrize("most", [5, 12, 60])
def test_boxes_kept_do_not_depend_on_the_block(monkeypatch, block, most):
    monkeypatch.setattr(backend, "_BLOCK", block)
    suppression.cache_clear()
    rng = np.random.default_rng(14)
    boxes = clustered_boxes(rng, 3, 40)
    scores = rng.integers(0, 30, (3, 40)).astype(np.float32) / 30
    scores[1] = -1
    check_suppression("generic", boxes, scores, most, 0.3, -0.5)
    suppression.cache_clear()


@pytest.mark.parametrize("block", [9, 512])
def test_a_long_chain_of_suppressions_is_followed_to_its_end(monkeypatch, block):
    """Each box overlaps the next one, so every second box is kept."""
    monkeypatch.setattr(backend, "_BLOCK", block)
    suppression.cache_clear()
    left = np.arange(50, dtype=np.float32)
    boxes = np.stack([0 * left, left, 0 * left + 1, left + 1.8], axis=-1)[None]
    scores = np.linspace(1, 0.5, 50, dtype=np.float32)[None]
    indices, valid = map(numpy_of, suppression("generic", 30, 0.2, -0.5)(boxes, scores))
    assert list(indices[0][valid[0]]) == list(range(0, 50, 2))
    suppression.cache_clear()


@every_version
def test_an_overlap_equal_to_the_threshold_stays(version):
    boxes = np.array([[[0, 0, 1, 1], [0, 0, 1, 0.5], [0, 0, 0.5, 0.5]]], np.float32)
    scores = np.array([[0.9, 0.8, 0.7]], np.float32)
    check_suppression(version, boxes, scores, 3, 0.5, -0.5)


def test_no_gradient_flows_through_the_choice():
    boxes = ops.convert_to_tensor(clustered_boxes(np.random.default_rng(13), 1, 5))

    def total(scores):
        indices, _ = backend.non_max_suppression(boxes, scores, 3, 0.5, -1.0)
        return ops.sum(ops.cast(indices, "float32"))

    assert (gradients(total, np.random.default_rng(0).random((1, 5)).astype("f4"))[0] == 0).all()


# ---- Precision -----------------------------------------------------------------------------------

CPUINFO = "processor: 0\nflags\t\t: fpu avx2 {}\nbugs: none\n\nprocessor: 1\nflags: fpu\n"


@pytest.mark.parametrize(
    ("capabilities", "flags", "pays"),
    [
        ([], "amx_bf16 amx_tile", True),
        ([], "avx512_bf16", True),
        ([], "avx512f avx512_fp16", False),
        ([], "avx512_bf16x", False),
        ([(8, 0)], "", True),
        ([(9, 0), (8, 6)], "", True),
        ([(7, 5)], "amx_bf16", False),  # the GPU computes, not the processor
        ([(9, 0), (7, 5)], "", False),
    ],
    ids=str,
)
def test_bfloat16_pays_where_something_computes_it(monkeypatch, capabilities, flags, pays):
    monkeypatch.setattr(backend, "_accelerator_capabilities", lambda: capabilities)
    monkeypatch.setattr(backend, "_processor_flags", lambda: set(flags.split()))
    on_jax = keras.backend.backend() == "jax" and not capabilities
    assert backend.computes_bfloat16.__wrapped__() == (pays and not on_jax)


def test_the_processor_is_asked_on_linux_only(monkeypatch, tmp_path):
    path = tmp_path / "cpuinfo"
    path.write_text(CPUINFO.format("amx_bf16"))
    monkeypatch.setattr(backend, "_CPUINFO", path)
    monkeypatch.setattr(backend.sys, "platform", "linux")
    assert backend._processor_flags() == {"fpu", "avx2", "amx_bf16"}
    path.unlink()
    assert backend._processor_flags() == set()
    path.write_text(CPUINFO.format("amx_bf16"))
    monkeypatch.setattr(backend.sys, "platform", "darwin")
    assert backend._processor_flags() == set()


def test_this_machine_has_an_answer():
    assert backend.computes_bfloat16() in (True, False)
    assert all(len(capability) >= 1 for capability in backend._accelerator_capabilities())
