"""Folders of one mask file per object: both layouts, what is refused, round trips."""

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from PIL import Image

from mrcnn.data.formats.mask_folder import (
    MaskFolderDataset,
    is_mask_folder,
    read_masks,
    write_mask_folder,
)
from mrcnn.data.formats.objects import LabelledImage, LabelledObject, class_names, labelled_images
from tests.data.formats.labelled import (
    assert_same,
    image_sets,
    new_folders,
    without_crowds,
    write_images,
)

SIZE = (6, 8)
KAGGLE = {"image": "{0}/images/{0}.png", "mask": "{0}/masks/{1}.png"}
SIDE_BY_SIDE = {"image": "images/{0}.png", "mask": "masks/{0}/{1}.png"}
LAYOUTS = pytest.mark.parametrize("layout", [KAGGLE, SIDE_BY_SIDE], ids=["kaggle", "beside"])


def mask(row):
    pixels = np.zeros(SIZE, np.uint8)
    pixels[row] = 255
    return pixels


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def make(folder, layout, **images):
    """Write images; each is a list of its masks' names, and the n-th mask fills row n."""
    for name, masks in images.items():
        save(folder / layout["image"].format(name), np.zeros((*SIZE, 3), np.uint8))
        (folder / layout["mask"].format(name, "x")).parent.mkdir(parents=True, exist_ok=True)
        for row, file in enumerate(masks):
            save(folder / layout["mask"].format(name, file), mask(row))


def load(folder, **kwargs):
    dataset = MaskFolderDataset()
    dataset.load_mask_folder(folder, **kwargs)
    dataset.prepare()
    return dataset


@LAYOUTS
def test_masks_and_images(tmp_path, layout):
    make(tmp_path, layout, one=["b", "a"], none=[])
    assert is_mask_folder(tmp_path)
    dataset = load(tmp_path)
    assert dataset.class_names == ["BG", "object"]
    assert [info["id"] for info in dataset.image_info] == ["none", "one"]
    masks, class_ids = dataset.load_mask(1)
    assert masks.dtype == bool and class_ids.dtype == np.int32
    np.testing.assert_array_equal(masks, np.stack([mask(1), mask(0)], axis=-1) > 0)
    np.testing.assert_array_equal(class_ids, [1, 1])
    masks, class_ids = dataset.load_mask(0)
    assert masks.shape == (*SIZE, 0) and class_ids.shape == (0,)
    assert dataset.load_image(0).shape == (*SIZE, 3)
    assert (dataset.image_info[0]["height"], dataset.image_info[0]["width"]) == SIZE


@LAYOUTS
def test_folders_of_classes(tmp_path, layout):
    make(tmp_path, layout, one=["cell/1", "cell/2", "dust/1"], two=["dust/9"])
    dataset = load(tmp_path)
    assert dataset.class_names == ["BG", "cell", "dust"]
    np.testing.assert_array_equal(dataset.load_mask(0)[1], [1, 1, 2])
    np.testing.assert_array_equal(dataset.load_mask(1)[1], [2])
    dataset = load(tmp_path, classes=["dust", "cell", "other"])
    np.testing.assert_array_equal(dataset.load_mask(0)[1], [2, 2, 1])
    assert dataset.class_names == ["BG", "dust", "cell", "other"]


def test_masks_without_and_with_a_folder(tmp_path):
    make(tmp_path, KAGGLE, one=["1", "cell/1"])
    assert load(tmp_path).class_names == ["BG", "object", "cell"]
    with pytest.raises(ValueError, match="one has masks in no folder of a class; the classes are"):
        load(tmp_path, classes=["cell", "dust"])


def test_the_only_class_needs_no_folder(tmp_path):
    make(tmp_path, KAGGLE, one=["1"])
    assert load(tmp_path, classes=["nucleus"]).class_names == ["BG", "nucleus"]
    (tmp_path / "classes.txt").write_text("kernel\n")
    assert load(tmp_path).class_names == ["BG", "kernel"]


def test_an_empty_mask_is_left_out(tmp_path):
    make(tmp_path, KAGGLE, one=["a/1", "b/2"])
    save(tmp_path / "one/masks/a/1.png", np.zeros(SIZE, np.uint8))
    masks, class_ids = load(tmp_path).load_mask(0)
    assert masks.shape == (*SIZE, 1)
    np.testing.assert_array_equal(class_ids, [2])


def test_masks_of_an_image_that_is_turned_when_shown(tmp_path):
    """A camera's image is stored lying, and its masks were drawn on the upright one."""
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "one/images").mkdir(parents=True)
    Image.new("RGB", (6, 8)).save(tmp_path / "one/images/one.jpg", exif=exif)
    save(tmp_path / "one/masks/1.png", mask(2))
    dataset = load(tmp_path)
    assert dataset.load_image(0).shape[:2] == SIZE == dataset.load_mask(0)[0].shape[:2]


def test_any_one_image_of_a_folder_will_do(tmp_path):
    make(tmp_path, KAGGLE, one=["1"])
    (tmp_path / "one/images/one.png").rename(tmp_path / "one/images/photo.png")
    assert load(tmp_path).image_info[0]["path"].endswith("photo.png")


@pytest.mark.parametrize(
    ("make_wrong", "message"),
    [
        (lambda f: save(f / "bad/masks/w.png", np.zeros((3, 4), np.uint8)),
         r"image bad has 6x8 \(height x width\), and its mask w.png has 3x4; both must be"),
        (lambda f: (f / "bad/masks/w.png").write_bytes(b"no"),
         "image bad has a mask w.png that cannot be read as an image"),
        (lambda f: save(f / "bad/masks/w.jpg", mask(0)),
         "image bad has masks that are no PNG, TIFF or BMP: w.jpg; save masks as PNG"),
        (lambda f: save(f / "bad/masks/cell/w.jpg", mask(0)), "no PNG, TIFF or BMP: cell/w.jpg"),
        (lambda f: (f / "bad/images/bad.png").write_bytes(b"no"),
         "image bad cannot be used: .*bad.png cannot be read as an image"),
        (lambda f: (f / "bad/images/bad.png").unlink(), "image bad has no file images/bad.png"),
        (lambda f: (f / "bad/masks").rmdir(),
         "image bad has no masks: .*masks does not exist. An image without objects has an empty"),
        (lambda f: save(f / "bad/images/bad.tif", mask(0)),
         "image bad has several image files, bad.png, bad.tif; it must have one, images/bad.png"),
    ],
)  # fmt: skip
def test_an_image_that_cannot_be_used(tmp_path, caplog, make_wrong, message):
    make(tmp_path, KAGGLE, good=["1"], bad=[])
    make_wrong(tmp_path)
    with pytest.raises(ValueError, match=f"{message}.*With skip_invalid=True it is left out"):
        load(tmp_path)
    with caplog.at_level(logging.WARNING, "mrcnn"):
        dataset = load(tmp_path, skip_invalid=True)
    assert [info["id"] for info in dataset.image_info] == ["good"]
    assert "1 entries cannot be used and are left out" in caplog.text


@pytest.mark.parametrize(
    ("make_wrong", "message"),
    [
        (lambda f: (f / "masks/other").mkdir(), r"masks/other has no image images/other\.\*"),
        (lambda f: save(f / "masks/lost.png", mask(0)), "masks/lost.png lies in no folder of an"),
        (
            lambda f: save(f / "images/bad.tif", mask(0)),
            "image bad is there twice: bad.png, bad.tif",
        ),
        (lambda f: (f / "masks/bad").rmdir(), "image bad has no masks: .*bad does not exist"),
    ],
)
def test_what_has_no_partner(tmp_path, make_wrong, message):
    make(tmp_path, SIDE_BY_SIDE, good=["1"], bad=[])
    make_wrong(tmp_path)
    with pytest.raises(ValueError, match=message):
        load(tmp_path)
    assert "good" in [info["id"] for info in load(tmp_path, skip_invalid=True).image_info]


def test_all_problems_are_listed(tmp_path):
    make(tmp_path, KAGGLE, **{f"image{i}": [] for i in range(12)})
    for i in range(12):
        (tmp_path / f"image{i}/masks/x.png").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"12 entries cannot be used(?s:.*)and 2 more"):
        load(tmp_path)
    with pytest.raises(ValueError, match="has no image that can be used"):
        load(tmp_path, skip_invalid=True)


def test_an_unknown_class_is_named(tmp_path):
    make(tmp_path, KAGGLE, one=["cell/1"])
    with pytest.raises(ValueError, match="masks of the unknown class 'cell'; the classes are dust"):
        load(tmp_path, classes=["dust"])


def test_folders_of_something_else(tmp_path):
    with pytest.raises(FileNotFoundError, match="the folder .*missing does not exist"):
        load(tmp_path / "missing")
    with pytest.raises(ValueError, match="has no masks: it holds none, and must hold <image>/im"):
        load(tmp_path)
    save(tmp_path / "photo.png", mask(0))
    with pytest.raises(ValueError, match="it holds photo.png, and must hold"):
        load(tmp_path)
    with pytest.raises(FileNotFoundError, match="the folder .*photo.png is a file"):
        load(tmp_path / "photo.png")


def test_a_second_folder_must_have_the_same_classes(tmp_path):
    make(tmp_path / "a", KAGGLE, one=["cell/1"])
    make(tmp_path / "b", KAGGLE, two=["dust/1"])
    dataset = MaskFolderDataset()
    dataset.load_mask_folder(tmp_path / "a")
    with pytest.raises(ValueError, match=r"the classes are \['dust'\], and the source 'masks' has"):
        dataset.load_mask_folder(tmp_path / "b")
    assert len(dataset.image_info) == 1
    dataset = MaskFolderDataset()
    for folder in "ab":
        dataset.load_mask_folder(tmp_path / folder, classes=["cell", "dust"])
    dataset.prepare()
    assert dataset.load_mask(1)[1] == [2]


def test_images_of_another_source_have_no_masks(tmp_path):
    make(tmp_path, KAGGLE, one=["1"])
    dataset = MaskFolderDataset()
    dataset.load_mask_folder(tmp_path)
    dataset.add_image("masks", "x", tmp_path / "one/images/one.png")
    dataset.prepare()
    assert dataset.load_mask(1)[0].shape == (0, 0, 0)


def test_a_mask_that_changed_since_is_named(tmp_path):
    make(tmp_path, KAGGLE, one=["1"])
    dataset = load(tmp_path)
    save(tmp_path / "one/masks/1.png", np.zeros((2, 2), np.uint8))
    with pytest.raises(ValueError, match="1.png has 2x2; its image has 6x8"):
        dataset.load_mask(0)
    (tmp_path / "one/masks/1.png").write_bytes(b"no")
    with pytest.raises(ValueError, match="1.png cannot be read as an image"):
        read_masks([tmp_path / "one/masks/1.png"], *SIZE)


@pytest.mark.parametrize("name", ["missing", "file.json", "empty"])
def test_other_things_are_no_mask_folders(tmp_path, name):
    (tmp_path / "file.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    assert not is_mask_folder(tmp_path / name)
    assert not is_mask_folder("\0")


def test_label_images_are_no_mask_folder(tmp_path):
    save(tmp_path / "images/a.png", mask(0))
    save(tmp_path / "masks/a.png", mask(0))
    assert not is_mask_folder(tmp_path)


# ---- Writing -----------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(image_sets(crowds=True))
def test_round_trip(image_set):
    names, images = image_set
    with new_folders() as (source, target):
        written = write_images(source, images)
        sentences = write_mask_folder(written, names, target)
        crowds = sum(each.is_crowd for image in written for each in image.objects)
        assert len(sentences) == (crowds > 0)
        assert is_mask_folder(target)
        dataset = load(target)
        assert class_names(dataset) == names
        assert_same(labelled_images(dataset), without_crowds(written))


def test_crowds_are_counted(tmp_path):
    images = write_images(tmp_path, [("a.png", (2, 2), [])])
    crowd = LabelledObject("cell", np.ones((2, 2), bool), True)
    for count, words in [(1, "1 crowd is"), (3, "3 crowds are")]:
        image = images[0]._replace(objects=[crowd] * count)
        sentences = write_mask_folder([image], ["cell"], tmp_path / str(count))
        assert sentences == [f"{words} left out: a folder of masks has no crowds."]


def test_nothing_is_written_over(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty: it has mine.txt"):
        write_mask_folder([], ["cell"], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_images_may_come_one_at_a_time(tmp_path):
    images = write_images(tmp_path, [("a.png", (2, 2), []), ("b.png", (2, 3), [])])
    assert write_mask_folder(iter(images), ["cell"], tmp_path / "new") == []
    assert isinstance(next(labelled_images(load(tmp_path / "new"))), LabelledImage)
