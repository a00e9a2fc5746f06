"""Run lengths against pycocotools, from masks of the whole image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from mrcnn.geometry.masks import Patch, unmold_mask
from mrcnn.geometry.rle import encode_masks, mask_rle, patch_rle, rle_part, rle_patch, union_rle

sides = st.integers(-3, 14)


def rle_of_the_whole_image(mask, box, shape):
    whole = unmold_mask(mask, box, shape)
    counts = coco_mask.encode(np.asfortranarray(whole.astype(np.uint8)))["counts"]
    return {"size": list(shape[:2]), "counts": counts.decode()}


@given(
    st.integers(0, 2**32 - 1),
    st.tuples(sides, sides, sides, sides),
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
)
@settings(deadline=None)
def test_run_lengths_of_a_mask_are_those_of_the_whole_image(seed, box, shape):
    mask = np.random.default_rng(seed).random((4, 4))
    assert mask_rle(mask, box, shape) == rle_of_the_whole_image(mask, box, shape)


@pytest.mark.parametrize(
    "box",
    [(0, 0, 7, 5), (0, 0, 7, 1), (0, 4, 7, 5), (2, 1, 4, 3), (6, 4, 7, 5), (-4, -4, 9, 9)],
    ids=["whole", "first column", "last column", "inside", "last pixel", "larger"],
)
def test_run_lengths_of_a_full_mask(box):
    rle = mask_rle(np.ones((28, 28)), box, (7, 5, 3))
    assert rle == rle_of_the_whole_image(np.ones((28, 28)), box, (7, 5, 3))
    wanted = np.zeros((7, 5), np.uint8)
    wanted[max(box[0], 0) : box[2], max(box[1], 0) : box[3]] = 1
    np.testing.assert_array_equal(coco_mask.decode(rle), wanted)


@pytest.mark.parametrize("box", [(2, 2, 2, 4), (9, 0, 12, 3), (0, 0, 0, 0)])
def test_run_lengths_of_no_pixel(box):
    rle = mask_rle(np.ones((28, 28)), box, (7, 5))
    assert rle["size"] == [7, 5] and not coco_mask.decode(rle).any()


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 12), st.floats(0, 1))
@settings(deadline=None)
def test_a_patch_of_run_lengths_is_the_mask(seed, height, width, share):
    mask = np.random.default_rng(seed).random((height, width)) < share
    (rle,) = encode_masks(mask[:, :, None])
    patch = rle_patch(rle)
    np.testing.assert_array_equal(patch.part((0, 0, height, width)), mask)
    assert patch.box == patch.trimmed().box  # no empty row or column at its border
    assert patch_rle(patch, mask.shape) == rle
    assert patch_rle(Patch(mask, 0, 0), mask.shape) == rle


@pytest.mark.parametrize("length", [1, 15, 16, 31, 32, 511, 512, 2**20, 2**31])
def test_long_run_lengths_are_those_of_pycocotools(length):
    shape = (length + 3, 1)
    patch = Patch(np.ones((2, 1), bool), length, 0)
    counts = [length, 2, 1]
    wanted = coco_mask.frPyObjects({"size": list(shape), "counts": counts}, *shape)
    rle = patch_rle(patch, shape)
    assert rle["counts"] == wanted["counts"].decode()
    back = rle_patch(rle)
    assert back.box == patch.box and back.pixels.all()


def test_masks_of_images_beyond_four_billion_pixels():
    patch = Patch(np.eye(3, dtype=bool), 99_990, 149_990)
    back = rle_patch(patch_rle(patch, (100_000, 150_000)))
    assert back.box == patch.box
    np.testing.assert_array_equal(back.pixels, patch.pixels)


def test_run_lengths_that_do_not_add_up_are_refused():
    (rle,) = encode_masks(np.ones((4, 5, 1), bool))
    with pytest.raises(ValueError, match="run lengths of 20 pixels for a mask of 4x6"):
        rle_patch({**rle, "size": [4, 6]})


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 9), st.integers(1, 4))
@settings(deadline=None)
def test_the_union_of_run_lengths_is_that_of_the_masks(seed, height, width, count):
    masks = np.random.default_rng(seed).random((height, width, count)) < 0.3
    (wanted,) = encode_masks(masks.any(axis=2, keepdims=True))
    assert union_rle(encode_masks(masks)) == wanted


@given(st.integers(0, 2**32 - 1), st.tuples(sides, sides), st.integers(1, 4), st.floats(0, 1))
@settings(deadline=None)
def test_a_part_of_run_lengths_is_that_of_the_mask(seed, place, step, share):
    mask = np.random.default_rng(seed).random((9, 7)) < share
    (rle,) = encode_masks(mask[..., None])
    (y1, x1), (height, width) = place, (6, 5)
    part = rle_part(rle, (y1, x1, y1 + height, x1 + width), step)
    small = np.pad(mask[::step, ::step], 20)
    np.testing.assert_array_equal(
        part, small[y1 + 20 : y1 + 20 + height, x1 + 20 : x1 + 20 + width]
    )


def test_a_part_of_a_mask_of_many_pixels():
    """Eight bits count no further than 127."""
    rows = np.arange(1000) % 2 == 0
    (rle,) = encode_masks(np.broadcast_to(rows[:, None], (1000, 3))[..., None])
    np.testing.assert_array_equal(rle_part(rle, (990, 0, 1000, 1))[:, 0], rows[990:])
    np.testing.assert_array_equal(rle_part(rle, (0, 0, 4, 1))[:, 0], rows[:4])
