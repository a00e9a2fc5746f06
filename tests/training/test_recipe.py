"""Settings and stages that follow from the data."""

import numpy as np
import pytest

from mrcnn.training.recipe import Stage, measure, next_stages, recipe_for
from tests.tiny import CLASSES, Rectangles


def squares(side, size, count=3, each=2):
    """Images of a size with objects of one side."""
    place = (2, 2, 2 + side, 2 + side)
    return Rectangles([[(1, place)] * each for _ in range(count)], shape=size)


def test_what_is_measured():
    dataset = Rectangles([[(1, (0, 0, 10, 40))], [], [(2, (0, 0, 9, 9))] * 5], shape=(100, 140))
    found = measure(dataset)
    assert (found.images, found.long_side, found.most_objects) == (3, 140, 5)
    assert found.has_empty
    np.testing.assert_allclose(np.sort(found.object_sides), [9] * 5 + [20])


def test_of_many_images_some_are_measured(monkeypatch):
    monkeypatch.setattr("mrcnn.training.recipe._MOST_MEASURED", 4)
    dataset = squares(10, (32, 32), count=9)
    looked_at = []
    load = dataset.load_mask
    monkeypatch.setattr(dataset, "load_mask", lambda i: looked_at.append(i) or load(i))
    assert measure(dataset).images == 9 and looked_at == [0, 2, 5, 8]


def test_every_recipe_can_be_built():
    for side, size in ((4, (40, 60)), (30, (500, 700)), (200, (3000, 4000)), (9, (256, 256))):
        recipe = recipe_for(squares(side, size), squares(side, size, 1), "leaf")
        recipe.config.validate()
        assert recipe.config.NUM_CLASSES == 1 + len(CLASSES)
        assert list(recipe.config.CLASS_NAMES) == list(CLASSES)
        assert recipe.config.NAME == "leaf" and len(recipe.reasons) >= 3


@pytest.mark.parametrize(
    ("side", "size", "shown", "scale", "smallest"),
    [
        (64, (400, 500), 512, 0, 32),  # shown at its size
        (16, (200, 256), 512, 2.0, 32),  # small objects are enlarged to about 32
        (4, (200, 256), 1024, 4.0, 16),  # but at most four times
        (200, (3000, 4000), 1024, 0, 32),  # large images are reduced
        (20, (900, 1000), 1024, 1.024, 16),  # enlarged as far as there is room
    ],
)
def test_the_size_follows_from_images_and_objects(side, size, shown, scale, smallest):
    config = recipe_for(squares(side, size), None, "leaf").config
    assert (config.IMAGE_MAX_DIM, config.IMAGE_MIN_SCALE) == (shown, scale)
    assert config.RPN_ANCHOR_SCALES == tuple(smallest * 2**i for i in range(5))


def test_objects_that_get_too_small_are_said():
    reasons = recipe_for(squares(20, (4000, 4000)), None, "leaf").reasons
    assert any("too small to find them: cut the images" in reason for reason in reasons)
    assert any("reduced to 26%" in reason for reason in reasons)


def test_many_objects_and_empty_images():
    many = recipe_for(squares(10, (64, 64), each=130), None, "leaf")
    assert many.config.MAX_GT_INSTANCES == many.config.DETECTION_MAX_INSTANCES == 200
    assert not many.config.TRAIN_EMPTY_IMAGES
    empty = recipe_for(Rectangles([[(1, (0, 0, 20, 20))], []]), None, "leaf")
    assert empty.config.TRAIN_EMPTY_IMAGES


def test_nothing_to_learn_from():
    with pytest.raises(ValueError, match="none of the 2 images that were looked at has an object"):
        recipe_for(Rectangles([[], []]), None, "leaf")


def test_an_epoch_shows_each_image_once():
    config = recipe_for(squares(20, (64, 64), count=7), squares(20, (64, 64), 3), "leaf").config
    assert (config.IMAGES_PER_GPU, config.STEPS_PER_EPOCH, config.VALIDATION_STEPS) == (2, 4, 2)
    config = recipe_for(squares(20, (64, 64), 7), None, "leaf", batch_size=4).config
    assert (config.IMAGES_PER_GPU, config.STEPS_PER_EPOCH, config.VALIDATION_STEPS) == (4, 2, 0)
    assert recipe_for(squares(20, (64, 64), 1), None, "leaf").config.IMAGES_PER_GPU == 1


@pytest.mark.parametrize(("count", "epochs"), [(4, 100), (100, 40), (2000, 10)])
def test_small_data_get_more_epochs(count, epochs):
    stages = recipe_for(squares(20, (64, 64), count), None, "leaf").stages
    assert stages[-1].end == epochs


def test_stages():
    dataset = squares(20, (64, 64))
    stages = recipe_for(dataset, None, "leaf", epochs=30).stages
    assert stages == [("heads", 10), ("all", 30)]
    assert recipe_for(dataset, None, "leaf", epochs=1).stages == [("all", 1)]
    random = recipe_for(dataset, None, "leaf", "random", epochs=9)
    assert random.stages == [("all", 9)]
    assert random.config.BACKBONE == "resnet50"
    named = recipe_for(dataset, None, "leaf", epochs=9, layers="4+")
    assert named.stages == [("4+", 9)]
    assert named.config.BACKBONE == "resnet101"


def test_the_stages_that_are_left():
    stages = [Stage("heads", 10), Stage("all", 30)]
    assert next_stages(stages, 0) == stages
    assert next_stages(stages, 9) == stages
    assert next_stages(stages, 10) == stages[1:]
    assert next_stages(stages, 30) == []
