"""Neutral pixels: the two layers of the graph against plain NumPy."""

import numpy as np

from mrcnn.geometry.boxes import norm_boxes
from mrcnn.nn.neutral import CountedPixels, WithoutNeutral
from tests.layer_contract import check_layer

SIDE = 40


def neutral_pixels():
    """Two images: a strip at the bottom, and a single pixel."""
    neutral = np.zeros((2, SIDE, SIDE), bool)
    neutral[0, 30:] = True
    neutral[1, 3, 5] = True
    return neutral


BOXES = np.array(
    [[0, 0, 20, 20], [10, 10, 31, 31], [10, 10, 30, 30], [35, 0, 40, 40], [3, 5, 4, 6]], np.float32
)


def proposals():
    return np.stack([norm_boxes(BOXES, (SIDE, SIDE))] * 2).astype(np.float32)


def test_proposals_with_neutral_pixels_become_zeros():
    found = check_layer(WithoutNeutral(), [proposals(), neutral_pixels()])
    kept = found.any(axis=2)
    # The first box has one neutral pixel in 400, more than one in a thousand.
    assert kept.tolist() == [[True, False, True, False, True], [False, True, True, True, False]]
    np.testing.assert_array_equal(found[kept], proposals()[kept])


def test_neutral_pixels_of_a_mask_do_not_count():
    counts = check_layer(CountedPixels((10, 10)), [proposals(), neutral_pixels()])
    assert counts.shape == (2, 5, 10, 10) and set(np.unique(counts)) <= {0.0, 1.0}
    assert counts[0, 0].all() and counts[0, 2].all() and not counts[0, 3].any()
    # Rows 10 to 31 in ten samples: the last one lies on row 30.
    assert counts[0, 1, :9].all() and not counts[0, 1, 9].any()
