"""Run lengths against pycocotools, from masks of the whole image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from mrcnn.geometry.masks import unmold_mask
from mrcnn.geometry.rle import mask_rle

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
