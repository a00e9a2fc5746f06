"""What a user's Dataset returns, checked; `test_loader.py` has the wrong annotations."""

import numpy as np
import pytest

from mrcnn.data.annotated import (
    Annotated,
    UnusableImage,
    cut_masks,
    drop_empty_masks,
    load_annotated,
)


def some_masks(dtype=bool):
    """`[4, 5, 4]`: the second and the last mask are empty."""
    masks = np.zeros((4, 5, 4), dtype)
    masks[0, 0, 0] = masks[3, 4, 2] = 1
    return masks


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float32])
def test_empty_masks_are_dropped_with_their_class_ids(dtype):
    masks, class_ids = drop_empty_masks(some_masks(dtype), np.array([1, 0, -3, 2], np.int32))
    np.testing.assert_array_equal(masks, some_masks(dtype)[:, :, [0, 2]])
    assert list(class_ids) == [1, -3]
    assert masks.dtype == dtype and class_ids.dtype == np.int32


@pytest.mark.parametrize("shape", [(4, 5, 3), (4, 5, 0), (0, 0, 0)])
def test_nothing_but_empty_masks(shape):
    masks, class_ids = drop_empty_masks(np.zeros(shape, bool), np.ones(shape[2], np.int32))
    assert masks.shape == (*shape[:2], 0) and class_ids.shape == (0,)


def test_masks_are_cut_below_and_on_the_right():
    masks = np.arange(60).reshape(5, 4, 3)
    np.testing.assert_array_equal(cut_masks(masks, (3, 2, 3)), masks[:3, :2])
    np.testing.assert_array_equal(cut_masks(masks, (5, 4)), masks)


@pytest.mark.parametrize(
    "class_ids, has_objects, has_pixels",
    [
        ([1, 1, 1, 1], True, True),
        ([-1, 1, -1, 1], True, False),
        ([-1, -1, -1, -1], False, False),
        ([-1, 2, 2, -1], True, True),
    ],
)
def test_objects_and_their_pixels(class_ids, has_objects, has_pixels):
    annotated = Annotated(np.zeros((4, 5, 3), np.uint8), some_masks(), np.array(class_ids))
    assert annotated.has_objects() is has_objects
    assert annotated.has_object_pixels() is has_pixels


def test_what_is_loaded(boxes_dataset, config):
    dataset = boxes_dataset([[(1, (2, 3, 10, 20)), (-2, (0, 0, 9, 9))], []], shape=(30, 40))
    loaded = load_annotated(dataset, config, 0)
    np.testing.assert_array_equal(loaded.image, dataset.load_image(0))
    np.testing.assert_array_equal(loaded.masks, dataset.load_mask(0)[0])
    assert list(loaded.class_ids) == [1, -2] and loaded.cut_from is None
    assert loaded.masks.dtype == bool and loaded.class_ids.dtype == np.int32
    empty = load_annotated(dataset, config, 1)
    assert empty.masks.shape == (30, 40, 0) and not empty.has_objects()
    dataset.load_mask = lambda i: (np.zeros((0, 0, 0)), [])
    assert load_annotated(dataset, config, 0).cut_from is None


def test_objects_outside_the_image_are_known_to_be_cut(boxes_dataset, config):
    dataset = boxes_dataset([[(1, (2, 3, 10, 20))]], shape=(30, 40))
    dataset.load_mask = lambda i: (np.ones((31, 45, 1), bool), [1])
    loaded = load_annotated(dataset, config, 0)
    assert loaded.cut_from == (31, 45) and loaded.masks.shape == (30, 40, 1)


def test_errors_do_not_name_the_image_but_their_cause(boxes_dataset, config):
    dataset = boxes_dataset([[(1, (2, 3, 10, 20))]])
    dataset.load_mask = lambda i: (np.ones((64, 64, 1), bool), [7])
    with pytest.raises(UnusableImage, match="^load_mask returned class id 7; with NUM_CLASSES 4"):
        load_annotated(dataset, config, 0)
