"""Windows: they cover the image, and their cores share it out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrcnn.tiles import windows_of
from mrcnn.tiles.windows import shared_box

sides = st.integers(1, 60)


@given(sides, sides, sides, sides, st.integers(0, 30), st.integers(0, 30))
def test_windows_cover_the_image_and_cores_share_it_out(height, width, tall, wide, down, right):
    down, right = min(down, tall - 1), min(right, wide - 1)
    seen, owned = np.zeros((height, width), int), np.zeros((height, width), int)
    rows, columns = np.mgrid[:height, :width] + 0.5
    for row in windows_of(height, width, (tall, wide), (down, right)):
        for window in row:
            y1, x1, y2, x2 = window.box
            assert (y2 - y1, x2 - x1) == (min(tall, height), min(wide, width))
            assert window.is_inner == (y1 > 0, x1 > 0, y2 < height, x2 < width)
            seen[y1:y2, x1:x2] += 1
            top, left, bottom, right_ = window.core
            owned += (top <= rows) & (rows < bottom) & (left <= columns) & (columns < right_)
            assert y1 <= top < bottom <= y2 and x1 <= left < right_ <= x2
    assert (seen >= 1).all() and (owned == 1).all()


def test_neighbours_share_the_overlap_and_the_last_window_ends_at_the_border():
    (row,) = windows_of(10, 25, (10, 10), (0, 4))
    assert [window.box[1::2] for window in row] == [(0, 10), (6, 16), (12, 22), (15, 25)]
    assert [window.core[1::2] for window in row] == [(0, 8), (8, 14), (14, 18.5), (18.5, 25)]


@pytest.mark.parametrize("overlap", [-1, 10, 11])
def test_an_overlap_that_cannot_be(overlap):
    with pytest.raises(ValueError, match=f"overlap of windows is {overlap} and their height 10"):
        windows_of(50, 50, (10, 10), (overlap, 0))


def test_the_part_that_two_boxes_share():
    assert shared_box((0, 0, 5, 6), (2, 3, 9, 9)) == (2, 3, 5, 6)
    y1, x1, y2, x2 = shared_box((0, 0, 2, 2), (4, 5, 9, 9))
    assert y2 == y1 and x2 == x1
