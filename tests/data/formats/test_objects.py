"""What formats exchange: names, sizes and objects of any Dataset."""

import numpy as np
import pytest
from PIL import Image

from mrcnn.data.dataset import Dataset
from mrcnn.data.formats.objects import class_names, labelled_images


class Squares(Dataset):
    """Two objects per image: one of class 1, and a crowd of class 2 that leaves the image."""

    def load_mask(self, image_id):
        masks = np.zeros((8, 9, 3), bool)  # larger than the image of 6x7
        masks[1:3, 1:3, 0] = True
        masks[4:, 4:, 1] = True
        masks[7:, 8:, 2] = True  # outside
        return masks, np.array([1, -2, 1], np.int32)


class Rings(Squares):
    ring = np.array([[1.0, 1.0], [3.0, 1.0], [3.0, 3.0], [1.0, 3.0]])

    def load_rings(self, image_id):
        return [self.ring, None, None]


def dataset(folder, names, kind=Squares, **info):
    made = kind()
    made.add_class("s", 1, "square")
    made.add_class("s", 2, "heap")
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (7, 6)).save(path)
        made.add_image("s", name, path, **info)
    made.prepare()
    return made


def test_masks_are_cut_and_empty_ones_left_out(tmp_path):
    (image,) = labelled_images(dataset(tmp_path, ["a.png"]))
    assert (image.height, image.width) == (6, 7)
    assert [(o.class_name, o.is_crowd, o.mask.sum()) for o in image.objects] == [
        ("square", False, 4),
        ("heap", True, 6),
    ]
    assert all(o.mask.shape == (6, 7) and o.ring is None for o in image.objects)


def test_rings_go_with_their_objects(tmp_path):
    (image,) = labelled_images(dataset(tmp_path, ["a.png"], Rings))
    assert image.objects[0].ring is Rings.ring
    assert image.objects[1].ring is None


def test_a_stated_size_spares_reading_the_image(tmp_path):
    made = dataset(tmp_path, ["a.png"], height=6, width=7)
    (tmp_path / "a.png").unlink()
    (image,) = labelled_images(made)
    assert (image.height, image.width) == (6, 7)


def test_names_start_where_the_paths_part(tmp_path):
    made = dataset(tmp_path, ["x/one/a.png", "x/one/b.png", "x/two/a.png"])
    names = [image.name for image in labelled_images(made)]
    assert names == ["one/a.png", "one/b.png", "two/a.png"]
    made = dataset(tmp_path, ["x/one/a.png", "x/one/b.png"])
    assert [image.name for image in labelled_images(made)] == ["a.png", "b.png"]


@pytest.mark.parametrize("name", ["../../etc/a.png", "/etc/a.png", 7])
def test_a_file_name_that_leads_out_is_not_taken(tmp_path, name):
    made = dataset(tmp_path, ["a.png"], file_name=name)
    assert [image.name for image in labelled_images(made)] == ["a.png"]


def test_equal_names_get_numbers(tmp_path):
    made = dataset(tmp_path, ["a.png", "b.png", "c.png"], file_name="x/y.png")
    made.image_info[1]["file_name"] = "x/y-2.png"
    names = [image.name for image in labelled_images(made)]
    assert names == ["y.png", "y-2.png", "y-3.png"]


def test_no_images_and_no_objects(tmp_path):
    class Nothing(Dataset):
        def load_mask(self, image_id):
            return super().load_mask(image_id)

    assert list(labelled_images(dataset(tmp_path, [], Nothing))) == []
    (image,) = labelled_images(dataset(tmp_path, ["a.png"], Nothing))
    assert image.objects == []


def test_too_few_rings_are_an_error(tmp_path):
    class TooFew(Squares):
        def load_rings(self, image_id):
            return [None]

    with pytest.raises(ValueError, match=r"load_rings returned 1 rings, and load_mask 3 masks"):
        list(labelled_images(dataset(tmp_path, ["a.png"], TooFew)))


def test_class_names_leave_out_the_background_and_repetitions(tmp_path):
    made = dataset(tmp_path, ["a.png"])
    made.add_class("other", 1, "square")
    assert class_names(made) == ["square", "heap"]
