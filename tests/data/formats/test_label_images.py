"""Label images as Cellpose, StarDist and QuPath write them; what is refused; round trips."""

import logging

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from PIL import Image

from mrcnn.data.formats import label_images
from mrcnn.data.formats.label_images import LabelImageDataset, is_label_images, write_label_images
from mrcnn.data.formats.objects import LabelledObject, class_names, labelled_images
from tests.data.formats.labelled import (
    assert_same,
    image_sets,
    new_folders,
    number_of,
    without_crowds,
    write_images,
)

LABELS = np.array([[0, 1, 1], [7, 7, 0]], np.uint16)
MASKS = np.stack([LABELS == 1, LABELS == 7], axis=-1)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        Image.fromarray(pixels).save(path)
    else:
        # Three columns would count as RGB.
        tifffile.imwrite(path, pixels, photometric="minisblack", metadata=None)


def make(folder, *names, labels=LABELS):
    """Write label images and, for other names, images of their size."""
    for name in names:
        is_labels = name.split("/")[0] in ("labels", "masks") or any(
            end in name for end in ("_masks", "-label", "_label")
        )
        save(folder / name, labels if is_labels else np.full(labels.shape, 9, np.uint8))


def load(folder, **kwargs):
    dataset = LabelImageDataset()
    dataset.load_label_images(folder, **kwargs)
    dataset.prepare()
    return dataset


@pytest.mark.parametrize(
    "names",
    [
        ("a.tif", "a_masks.tif"),
        ("a.png", "a_cp_masks.png"),
        ("a_img.tif", "a_masks.tif"),
        ("a_img.tif", "a_img_cp_masks.tif"),
        ("images/a.tif", "masks/a.tif"),
        ("images/a.png", "labels/a.png"),
        ("images/a.png", "labels/a-labelled.tif"),
        ("a.png", "a-labels.png"),
        ("slide [x=0,y=512].png", "slide [x=0,y=512]-labelled.tif"),
        ("a.tif", "a_labels.tif"),
    ],
    ids=str,
)
def test_names_that_tools_give(tmp_path, names):
    make(tmp_path, *names)
    assert is_label_images(tmp_path)
    dataset = load(tmp_path)
    assert dataset.class_names == ["BG", "object"]
    masks, class_ids = dataset.load_mask(0)
    np.testing.assert_array_equal(masks, MASKS)
    np.testing.assert_array_equal(class_ids, [1, 1])
    assert masks.dtype == bool and class_ids.dtype == np.int32
    assert dataset.load_image(0).shape == (2, 3, 3)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int32])
def test_numbers_of_every_width(tmp_path, dtype):
    labels = LABELS.astype(dtype)
    labels[0, 0] = np.iinfo(dtype).max
    make(tmp_path, "a.tif", "a_masks.tif", labels=labels)
    masks, _ = load(tmp_path).load_mask(0)
    np.testing.assert_array_equal(masks[:, :, :2], MASKS)
    assert masks[:, :, 2].sum() == 1 and masks.shape[2] == 3


def test_a_folder_per_class(tmp_path):
    make(tmp_path, "images/a.png", "images/b.png", "labels/cell/a.tif", "labels/dust/a.tif")
    make(tmp_path, "labels/dust/b.tif")
    dataset = load(tmp_path)
    assert dataset.class_names == ["BG", "cell", "dust"]
    masks, class_ids = dataset.load_mask(0)
    np.testing.assert_array_equal(masks, np.concatenate([MASKS, MASKS], axis=2))
    np.testing.assert_array_equal(class_ids, [1, 1, 2, 2])
    np.testing.assert_array_equal(dataset.load_mask(1)[1], [2, 2])
    dataset = load(tmp_path, classes=["dust", "cell"])
    np.testing.assert_array_equal(dataset.load_mask(1)[1], [1, 1])
    with pytest.raises(ValueError, match="masks of the unknown class 'cell'"):
        load(tmp_path, classes=["dust"])


def test_the_only_class_may_be_named(tmp_path):
    make(tmp_path, "a.tif", "a_masks.tif")
    assert load(tmp_path, classes=["nucleus"]).class_names == ["BG", "nucleus"]


def test_nothing_but_background(tmp_path):
    make(tmp_path, "a.tif", "a_masks.tif", labels=np.zeros((2, 3), np.uint16))
    masks, class_ids = load(tmp_path).load_mask(0)
    assert masks.shape == (2, 3, 0) and class_ids.shape == (0,)


def test_pictures_that_cellpose_makes_are_no_images(tmp_path, caplog):
    make(tmp_path, "a.tif", "a_cp_masks.tif", "a_flows.tif", "a_cp_output.png", "a_seg.tif")
    (tmp_path / "a_seg.tif").unlink()
    (tmp_path / "a_seg.npy").write_bytes(b"\x93NUMPY")
    with caplog.at_level(logging.INFO, "mrcnn"):
        assert len(load(tmp_path).image_info) == 1
    assert "2 pictures such as a_cp_output.png" in caplog.text


def test_an_image_whose_own_name_ends_like_labels(tmp_path):
    make(tmp_path, "images/a.png", "images/a_masks.png", "labels/a.tif", "labels/a_masks.tif")
    assert [info["id"] for info in load(tmp_path).image_info] == ["a", "a_masks"]


def test_labels_of_an_image_that_is_turned_when_shown(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.new("RGB", (2, 3)).save(tmp_path / "a.jpg", exif=exif)
    make(tmp_path, "a_masks.tif")
    dataset = load(tmp_path)
    assert dataset.load_image(0).shape[:2] == (2, 3) == dataset.load_mask(0)[0].shape[:2]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["images/bad.png"], "image bad has no label image, such as bad_masks.tif; without objec"),
        (["labels/bad.tif"], "label image labels/bad.tif has no image of its name"),
        (["images/bad.png", "images/bad.tif", "labels/bad.tif"],
         "image bad is there twice: bad.png, bad.tif; labels belong to one"),
        (["images/bad.png", "labels/bad.png", "labels/bad.tif"],
         "image bad has several label images: labels/bad.png, labels/bad.tif; it must have one"),
        (["images/bad.png", "labels/bad.png", "masks/bad.png"], "has several label images"),
    ],
)  # fmt: skip
def test_what_has_no_partner_or_two(tmp_path, caplog, wrong, message):
    make(tmp_path, "images/good.png", "labels/good.tif", *wrong)
    with pytest.raises(ValueError, match=f"{message}.*With skip_invalid=True it is left out"):
        load(tmp_path)
    with caplog.at_level(logging.WARNING, "mrcnn"):
        assert [i["id"] for i in load(tmp_path, skip_invalid=True).image_info] == ["good"]
    assert "1 entries cannot be used and are left out" in caplog.text


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((4, 2, 3), np.uint16), "label image bad.tif that is a stack of 4 pages"),
        (np.zeros((2, 3), np.float32), "label image bad.tif that has floats of 32 bits"),
        (
            np.zeros((5, 3), np.uint8),
            r"has 2x3 \(height x width\), and its label image bad.tif has 5",
        ),
    ],
)
def test_label_images_that_cannot_be_used(tmp_path, labels, message):
    make(tmp_path, "images/good.png", "labels/good.tif", "images/bad.png")
    save(tmp_path / "labels/bad.tif", labels)
    with pytest.raises(
        ValueError, match=f"image bad has .*{message}" if "that" in message else message
    ):
        load(tmp_path)
    assert [i["id"] for i in load(tmp_path, skip_invalid=True).image_info] == ["good"]


def test_a_pickle_is_not_opened(tmp_path):
    make(tmp_path, "a.tif")
    (tmp_path / "a_seg.npy").write_bytes(b"\x93NUMPY")
    message = "image a has its labels in a_seg.npy only, a pickle, which can run programs"
    with pytest.raises(ValueError, match=message):
        load(tmp_path)
    assert not is_label_images(tmp_path)


def test_damaged_images_and_negative_numbers(tmp_path):
    make(tmp_path, "images/a.png", "labels/a.tif")
    (tmp_path / "images/a.png").write_bytes(b"no")
    with pytest.raises(ValueError, match="image a cannot be used: .*a.png cannot be read"):
        load(tmp_path)
    make(tmp_path, "images/a.png", "labels/a.tif", labels=np.array([[0, -1]], np.int32))
    with pytest.raises(ValueError, match="labels/a.tif has the number -1"):
        load(tmp_path).load_mask(0)


def test_labels_that_changed_since_are_named(tmp_path):
    make(tmp_path, "images/a.png", "labels/a.tif")
    dataset = load(tmp_path)
    make(tmp_path, "labels/a.tif", labels=np.zeros((9, 9), np.uint8))
    with pytest.raises(ValueError, match="labels/a.tif has 9x9; its image has 2x3"):
        dataset.load_mask(0)


def test_a_photograph_in_place_of_labels_does_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(label_images, "_MOST_BYTES", 50)
    labels = np.arange(12, dtype=np.uint16).reshape(3, 4)
    make(tmp_path, "images/a.png", "labels/a.tif", labels=labels)
    with pytest.raises(ValueError, match="labels/a.tif has 11 objects in 3x4 pixels, whose masks"):
        load(tmp_path).load_mask(0)


def test_folders_of_something_else(tmp_path):
    with pytest.raises(FileNotFoundError, match="the folder .*missing does not exist"):
        load(tmp_path / "missing")
    with pytest.raises(
        ValueError, match="has no label images: it holds none, and must hold images/"
    ):
        load(tmp_path)
    make(tmp_path, "photo.png")
    with pytest.raises(ValueError, match="it holds photo.png, and must hold"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["missing", "file.json", "empty", "photos", "yolo"])
def test_other_things_are_no_label_images(tmp_path, name):
    (tmp_path / "file.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    make(tmp_path / "photos", "a.png", "b.png")
    make(tmp_path / "yolo", "images/a.png")
    (tmp_path / "yolo/labels").mkdir()
    (tmp_path / "yolo/labels/a.txt").write_text("0 0 0 1 0 1 1\n")
    assert not is_label_images(tmp_path / name)
    assert not is_label_images("\0")


def test_images_of_another_source_have_no_masks(tmp_path):
    make(tmp_path, "a.tif", "a_masks.tif")
    dataset = LabelImageDataset()
    dataset.load_label_images(tmp_path)
    dataset.add_image("labels", "x", tmp_path / "a.tif")
    dataset.prepare()
    assert dataset.load_mask(1)[0].shape == (0, 0, 0)


# ---- Writing -----------------------------------------------------------------------------------


def apart(images):
    """The images with objects of one class that share no pixel; what is left of each."""
    kept = []
    for image in without_crowds(images):
        objects, taken = [], {}
        for each in reversed(image.objects):
            above = taken.get(each.class_name, np.zeros_like(each.mask))
            if (each.mask & ~above).any():
                objects.insert(0, each._replace(mask=each.mask & ~above))
            taken[each.class_name] = above | each.mask
        kept.append(image._replace(objects=objects))
    return kept


@settings(max_examples=50, deadline=None)
@given(image_sets(crowds=True))
def test_round_trip(image_set):
    """What the later object of a class covers is lost, and nothing else is."""
    names, images = image_set
    with new_folders() as (source, target):
        written = write_images(source, images)
        sentences = write_label_images(written, names, target)
        left = apart(written)
        assert any("crowd" in s for s in sentences) == (without_crowds(written) != written)
        hidden = sum(
            len(a.objects) - len(b.objects)
            for a, b in zip(without_crowds(written), left, strict=True)
        )
        found = [s for s in sentences if "left out, because" in s]
        assert [int(s.split()[0]) for s in found] == ([hidden] if hidden else [])
        assert is_label_images(target)
        dataset = load(target)
        assert class_names(dataset) == names
        assert_same(labelled_images(dataset), left)


def test_what_objects_share_goes_to_the_later_one(tmp_path):
    wide, left, right = np.zeros((3, 2, 4), bool)
    wide[:], left[:, :2], right[:, 2:] = True, True, True
    images = write_images(tmp_path, [("a.png", (2, 4), [])])

    def write(name, *masks):
        objects = [LabelledObject("cell", mask) for mask in masks]
        return write_label_images([images[0]._replace(objects=objects)], ["cell"], tmp_path / name)

    why = "in a label image a pixel belongs to one object, here the later one."
    assert write("none", left, right) == []
    assert write("part", wide, left) == [
        f"1 object loses the pixels that it shares with others: {why}"
    ]
    assert write("parts", wide, left, wide & ~left | left & (np.arange(4) == 1)) == [
        f"1 object loses the pixels that it shares with others: {why}",
        f"1 object is left out, because others cover all of its pixels: {why}",
    ]
    assert write("whole", left, right, wide) == [
        f"2 objects are left out, because others cover all of their pixels: {why}"
    ]


def test_more_objects_than_16_bits_hold(tmp_path):
    side = 257
    images = write_images(tmp_path, [("a.png", (side, side), [])])
    labels = np.arange(side * side, dtype=np.uint32).reshape(side, side)
    label_images.write_labels(tmp_path / "labels.tif", labels)
    assert tifffile.imread(tmp_path / "labels.tif").dtype == np.uint32
    assert number_of(images[0]) == 0


def test_nothing_is_written_over(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty: it has mine.txt"):
        write_label_images([], ["cell"], tmp_path)
