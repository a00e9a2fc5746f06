"""Validation images held back: the same on every machine."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrcnn.data.split import split_images
from tests.tiny import random_rectangles


def ids(dataset):
    return [info["id"] for info in dataset.image_info]


@given(st.integers(2, 40), st.floats(0.01, 0.99), st.integers(0, 5))
def test_each_image_is_in_one_part(count, share, seed):
    dataset = random_rectangles(count)
    train, val = split_images(dataset, share, seed)
    assert sorted(ids(train) + ids(val)) == list(range(count))
    assert len(val.image_ids) == min(max(round(share * count), 1), count - 1)


def test_the_order_of_images_has_no_influence():
    dataset, turned = random_rectangles(20), random_rectangles(20)
    turned.image_info = turned.image_info[::-1]
    turned.prepare()
    assert set(ids(split_images(dataset, 0.3)[1])) == set(ids(split_images(turned, 0.3)[1]))
    assert set(ids(split_images(dataset, 0.3)[1])) != set(ids(split_images(dataset, 0.3, 1)[1]))


def test_the_choice_is_pinned():
    assert ids(split_images(random_rectangles(20), 0.2, seed=0)[1]) == PINNED


PINNED = [2, 4, 13, 15]


def test_parts_read_the_images_of_the_whole(tmp_path):
    from mrcnn.data.formats.find import FORMATS, open_labels
    from tests.data.formats.labelled import LabelledObject, number_of, write_images

    masks = [np.eye(4, dtype=bool), np.ones((4, 4), bool), ~np.eye(4, dtype=bool)]
    content = [(f"{i}.png", (4, 4), [LabelledObject("a", mask)]) for i, mask in enumerate(masks)]
    (tmp_path / "source").mkdir()
    FORMATS["masks"].write(write_images(tmp_path / "source", content), ["a"], tmp_path / "new")
    parts = split_images(open_labels(tmp_path / "new"), 0.4)
    for part in parts:
        for image_id, info in enumerate(part.image_info):
            number = number_of(type("Image", (), {"path": info["path"]}))
            np.testing.assert_array_equal(part.load_mask(image_id)[0][..., 0], masks[number])
    assert sum(len(part.image_ids) for part in parts) == 3


def test_what_cannot_be_split():
    with pytest.raises(ValueError, match="the data set has 1 image, which cannot be split; give v"):
        split_images(random_rectangles(1), 0.5)
    with pytest.raises(ValueError, match="share is 1.5; it must be above 0 and below 1"):
        split_images(random_rectangles(2), 1.5)
