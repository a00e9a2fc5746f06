"""samples/shapes: what is drawn, where, and that it trains."""

import random

import numpy as np
import pytest

from samples.shapes import shapes
from tests.tiny import run_eagerly


def seeded(seed, count=5):
    random.seed(seed)
    return shapes.load_dataset(count, shapes.ShapesConfig())


@pytest.fixture
def dataset():
    return seeded(0, count=30)


def test_images_show_each_shape_where_its_mask_is(dataset):
    for image_id in dataset.image_ids:
        image = dataset.load_image(image_id)
        masks, class_ids = dataset.load_mask(image_id)
        assert image.shape == (128, 128, 3) and image.dtype == np.uint8
        assert masks.dtype == bool and class_ids.dtype == np.int32
        for i, (name, color, _) in enumerate(dataset.image_reference(image_id)):
            assert dataset.class_names[class_ids[i]] == name
            assert (image[masks[..., i]] == color).all()
        background = dataset.image_info[image_id]["bg_color"]
        assert (image[~masks.any(-1)] == background).all()


def test_masks_do_not_overlap(dataset):
    for image_id in dataset.image_ids:
        masks, class_ids = dataset.load_mask(image_id)
        assert masks.sum(-1).max() <= 1
        assert 1 <= len(class_ids) <= 4


def test_images_are_drawn_alike_each_time_and_differ_by_seed(dataset):
    np.testing.assert_array_equal(dataset.load_image(3), dataset.load_image(3))
    np.testing.assert_array_equal(seeded(7).load_image(2), seeded(7).load_image(2))
    assert (seeded(7).load_image(2) != seeded(8).load_image(2)).any()


@pytest.mark.parametrize(
    ("shape", "area"), [("square", 21 * 21), ("circle", np.pi * 100), ("triangle", 20 * 11.55)]
)
def test_shapes_have_their_size(dataset, shape, area):
    drawn = dataset.draw_shape(np.zeros((64, 64), np.uint8), shape, (30, 32, 10), 1)
    rows, columns = np.nonzero(drawn)
    assert (rows.min(), rows.max()) == (22, 42)
    assert abs((columns.min() + columns.max()) / 2 - 30) <= 1
    assert drawn.sum() == pytest.approx(area, rel=0.15)


def test_an_unknown_shape_is_an_error(dataset):
    with pytest.raises(ValueError, match="'star'; it must be 'square', 'circle' or 'triangle'"):
        dataset.draw_shape(np.zeros((64, 64), np.uint8), "star", (30, 32, 10), 1)


@pytest.mark.slow
def test_train_writes_weights(tmp_path, monkeypatch):
    run_eagerly(monkeypatch)
    monkeypatch.setattr(shapes.ShapesConfig, "BACKBONE", "resnet50")
    monkeypatch.setattr(shapes.ShapesConfig, "IMAGES_PER_GPU", 1)
    monkeypatch.setattr(shapes.ShapesConfig, "VALIDATION_STEPS", 1)
    shapes.main(["train", "--epochs=1", "--steps=1", f"--logs={tmp_path}"])
    assert [path.name for path in tmp_path.rglob("*.h5")] == ["mask_rcnn_shapes_0001.h5"]
