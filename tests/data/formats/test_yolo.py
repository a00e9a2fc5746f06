"""YOLO's data sets as Ultralytics and Roboflow write them; what is refused."""

import logging

import numpy as np
import PIL.Image
import pytest
import yaml

from mrcnn.data.formats.objects import LabelledImage, LabelledObject
from mrcnn.data.formats.yolo import YoloDataset, is_yolo, labels_of, write_yolo

HALF = "0 0 0 0.5 0 0.5 1 0 1\n"
TRIANGLE = "1 0.1 0.1 0.9 0.1 0.1 0.9\n"


def write(folder, files, content=None, text=None):
    """Images of 12x10, text files, and data.yaml."""
    for name, lines in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".txt"):
            path.write_text(lines)
        else:
            PIL.Image.new("RGB", (12, 10)).save(path)
    content = content or {"path": ".", "train": "images", "names": {0: "leaf", 1: "stem"}}
    (folder / "data.yaml").write_text(text or yaml.safe_dump(content))
    return folder / "data.yaml"


def load(path, **options):
    dataset = YoloDataset()
    dataset.load_yolo(path, **options)
    dataset.prepare()
    return dataset


FILES = {"images/a.png": "", "labels/a.txt": f"{HALF}\n{TRIANGLE}"}


def test_polygons_are_objects(tmp_path):
    dataset = load(write(tmp_path, FILES))
    assert dataset.class_names == ["BG", "leaf", "stem"]
    masks, class_ids = dataset.load_mask(0)
    assert class_ids.tolist() == [1, 2] and masks.shape == (10, 12, 2)
    assert masks[:, :6, 0].all() and masks[..., 0].sum() == 60
    rings = dataset.load_rings(0)
    np.testing.assert_allclose(rings[1], [[1.2, 1], [10.8, 1], [1.2, 9]])


@pytest.mark.parametrize(
    ("content", "images"),
    [
        ({"path": ".", "train": "images/train", "val": "images/val"}, 2),
        ({"path": ".", "train": ["images/train", "images/val"]}, 2),
        ({"train": "images/train", "test": None}, 1),
        ({"path": "nowhere", "train": "images"}, 2),
        ({"train": "../images/train", "val": "../images/val", "nc": 2}, 2),
        ({"train": "list.txt"}, 1),
    ],
)
def test_places_of_images(tmp_path, content, images):
    files = {
        f"{kind}/{split}/{split}.{end}": HALF
        for kind, end in (("images", "png"), ("labels", "txt"))
        for split in ("train", "val")
    }  # noqa: E501
    write(tmp_path, {**files, "list.txt": "./images/val/val.png\n\n"}, {**content, "names": ["a"]})
    dataset = load(tmp_path)
    assert len(dataset.image_ids) == images and dataset.class_names == ["BG", "a"]
    assert all(dataset.load_mask(i)[0].shape[2] == 1 for i in dataset.image_ids)


def test_one_split(tmp_path):
    files = {"train/images/a.png": "", "train/labels/a.txt": HALF}
    files |= {"valid/images/b.png": "", "valid/labels/b.txt": HALF}
    content = {"train": "../train/images", "val": "../valid/images", "names": ["a"]}
    path = write(tmp_path, files, content)
    assert [i["id"] for i in load(path, splits=["val"]).image_info] == ["b.png"]
    assert sorted(i["id"] for i in load(path).image_info) == [
        "train/images/a.png",
        "valid/images/b.png",
    ]
    with pytest.raises(ValueError, match="test is None; it must be a path"):
        load(path, splits=["test"])


def test_the_last_folder_images_becomes_labels(tmp_path):
    assert labels_of(tmp_path / "images" / "a" / "images" / "b.x.jpg") == (
        tmp_path / "images" / "a" / "labels" / "b.x.txt"
    )
    assert labels_of(tmp_path / "a.jpg") == tmp_path / "a.txt"


def test_an_image_without_a_file_shows_nothing(tmp_path, caplog):
    caplog.set_level(logging.INFO, "mrcnn")
    dataset = load(
        write(tmp_path, {**FILES, "images/b.png": "", "images/c.png": "", "labels/c.txt": ""})
    )  # noqa: E501
    assert [dataset.load_mask(i)[0].shape[2] for i in range(3)] == [2, 0, 0]
    assert "1 images have no text file, and so no objects" in caplog.text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.2 0.2", "a.txt, line 2 is a box .* needs polygons"),
        ("0 0.1 0.1 0.2 0.2 0.3", "has 5 numbers after the class"),
        ("0 0.1 0.1", "has 2 numbers after the class"),
        ("2 0.1 0.1 0.9 0.1 0.1 0.9", "has the class 2; the classes are 0, 1"),
        ("0.5 0.1 0.1 0.9 0.1 0.1 0.9", "has the class 0.5"),
        ("leaf 0.1 0.1 0.9 0.1 0.1 0.9", "has something else than numbers: 'leaf"),
        ("0 0.1 0.1 nan 0.1 0.1 0.9", "has the coordinate nan"),
        ("0 12 10 90 10 12 90", "has the coordinate 90; they are shares"),
    ],
)
def test_lines_that_cannot_be_used(tmp_path, line, message):
    path = write(tmp_path, {"images/a.png": "", "labels/a.txt": f"{HALF}{line}\n"})
    with pytest.raises(ValueError, match=message) as error:
        load(path)
    assert str(path) in str(error.value)
    assert load(path, skip_invalid=True).load_mask(0)[0].shape[2] == 1


def test_classes_of_the_user(tmp_path):
    path = write(tmp_path, FILES)
    dataset = load(path, classes=["root", "stem", "leaf"])
    assert dataset.load_mask(0)[1].tolist() == [3, 2]
    with pytest.raises(ValueError, match="line 3 has the class 1"):
        load(path, classes=["leaf"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "holds a list; a data.yaml has names and train"),
        ("a: [", "is no YAML file"),
        ("train: images", "has the names None"),
        ("train: images\nnames: {a: b}", "names with the numbers a; they count from 0"),
        ("names: [a]", "names no images in train, val, test"),
        ("names: [a]\ntrain: 3", "train is 3; it must be a path"),
        ("names: [a]\npath: 3\ntrain: images", "has the path 3"),
        ("names: [a]\ntrain: labels/a.txt", None),
        ("names: &n [a]\nother: *n\ntrain: images", "has aliases"),
        ("names: [a, a]\ntrain: images", "the class 'a' is there twice"),
        ("names: [no, b]\ntrain: images", "has the name False; it must be text. YAML takes yes"),
        ("names: {0: null}\ntrain: images", "has the name None"),
        ("names: {0: [1, 2]}\ntrain: images", r"has the name \[1, 2\]"),
        ("names: [a]\nkpt_shape: [17, 3]\ntrain: images", "its labels are poses"),
        ("!!python/object/apply:os.system ['touch x']", "is no YAML file"),
    ],
)
def test_yaml_files_that_cannot_be_used(tmp_path, text, message):
    path = write(tmp_path, FILES, text=text)
    with pytest.raises((ValueError, OSError), match=message or "none of the 2 images has labels"):
        load(path)


def test_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.yaml does not exist"):
        load(tmp_path / "nowhere.yaml")
    path = write(tmp_path, {"images/a.png": ""}, {"names": ["a"], "train": "gone"})
    with pytest.raises(FileNotFoundError, match="train is 'gone', and .*gone is not there"):
        load(path)
    path = write(tmp_path, {"images/a.png": ""})
    with pytest.raises(ValueError, match="none of the 1 images has labels; those of .* would be"):
        load(path)
    with pytest.raises(ValueError, match="is no YAML file"):
        load(tmp_path / "images" / "a.png")


def test_objects_outside_are_counted(tmp_path, caplog):
    path = write(tmp_path, {**FILES, "labels/a.txt": f"{HALF}0 1.1 0 1.2 0 1.2 1 1.1 1\n"})
    assert load(path).load_mask(0)[0].shape[2] == 1
    assert "objects left out because they lie outside: 1" in caplog.text


def test_what_is_yolo(tmp_path):
    assert not is_yolo(tmp_path)
    path = write(tmp_path, FILES)
    assert is_yolo(path) and is_yolo(tmp_path)
    (tmp_path / "other.yaml").write_text("a: 1")
    assert is_yolo(tmp_path) and not is_yolo(tmp_path / "other.yaml")
    (tmp_path / "poses.yaml").write_text("names: [a]\ntrain: images\nkpt_shape: [17, 3]")
    assert not is_yolo(tmp_path / "poses.yaml")
    path.unlink()
    assert not is_yolo(tmp_path)


def test_what_is_written(tmp_path):
    PIL.Image.new("RGB", (12, 10)).save(tmp_path / "a.png")
    block, ring = np.zeros((10, 12), bool), np.ones((10, 12), bool)
    block[:5, 3:6] = True
    ring[3:6, 3:6] = False
    objects = [LabelledObject("leaf", block), LabelledObject("leaf", ring)]
    objects += [LabelledObject("leaf", block, is_crowd=True)]
    image = LabelledImage("a.png", str(tmp_path / "a.png"), 10, 12, objects)
    losses = write_yolo([image, image._replace(objects=[])], ["stem", "leaf"], tmp_path / "new")
    assert losses == [
        "1 crowd is left out: YOLO has no crowds.",
        "1 object has parts or holes: YOLO has one polygon per object, so bridges without width "
        "join them.",
    ]
    lines = (tmp_path / "new" / "labels" / "a.txt").read_text().splitlines()
    assert lines[0].split()[:7] == ["1", "0.25", "0.", "0.5", "0.", "0.5", "0.5"]
    content = yaml.safe_load((tmp_path / "new" / "data.yaml").read_text())
    assert content["names"] == {0: "stem", 1: "leaf"} and content["train"] == "images"
    dataset = load(tmp_path / "new")
    found = {info["id"]: dataset.load_mask(i)[0] for i, info in enumerate(dataset.image_info)}
    np.testing.assert_array_equal(found["a.png"], np.stack([block, ring], axis=-1))
    assert found["a-2.png"].shape[2] == 0


def turned_photo(path):
    """A photo stored as 8x12 that is shown as 12x8 (height x width), its left quarter white."""
    pixels = np.zeros((8, 12, 3), np.uint8)
    pixels[6:] = 255  # the lower rows come to the left
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(pixels).save(path, exif=exif, quality=95)


def test_a_photo_with_a_rotation_tag_is_labelled_as_it_is_shown(tmp_path):
    path = write(tmp_path, {"labels/a.txt": "0 0 0 0.25 0 0.25 1 0 1\n"})
    turned_photo(tmp_path / "images" / "a.jpg")
    dataset = load(path)
    (mask,) = np.moveaxis(dataset.load_mask(0)[0], -1, 0)
    assert mask.shape == (12, 8)
    np.testing.assert_array_equal(dataset.load_image(0)[..., 0] > 128, mask)


def test_a_photo_that_would_be_turned_away_from_its_masks_is_not_written(tmp_path):
    turned_photo(tmp_path / "a.jpg")
    mask = np.ones((8, 12), bool)
    stored = LabelledImage("a.jpg", str(tmp_path / "a.jpg"), 8, 12, [LabelledObject("a", mask)])
    shown = stored._replace(height=12, width=8, objects=[LabelledObject("a", mask.T)])
    assert write_yolo([stored, shown], ["a"], tmp_path / "new") == [
        "1 image is left out: the masks are drawn on the pixels as stored, and YOLO turns images "
        "by their rotation tag; store them turned."
    ]
    assert write_yolo([stored] * 2, ["a"], tmp_path / "none")[0].startswith("2 images are left out")
    dataset = load(tmp_path / "new")
    assert [info["id"] for info in dataset.image_info] == ["a.jpg"]
    assert dataset.load_mask(0)[0].shape == dataset.load_image(0).shape[:2] + (1,)


def test_written_paths_start_from_the_file(tmp_path):
    """Ultralytics takes `path: .` for the folder that it runs in."""
    write_yolo([], ["a"], tmp_path / "new")
    assert "path" not in yaml.safe_load((tmp_path / "new" / "data.yaml").read_text())


@pytest.mark.parametrize("reach", [-5.0, -1e6])
def test_a_drawn_ring_is_cut_to_the_image(tmp_path, reach):
    PIL.Image.new("RGB", (12, 10)).save(tmp_path / "a.png")
    mask = np.zeros((10, 12), bool)
    mask[2:7, :6] = True
    ring = np.array([[reach, 2.0], [6.0, 2.0], [6.0, 7.0], [reach, 7.0]])
    image = LabelledImage("a.png", str(tmp_path / "a.png"), 10, 12, [])
    write_yolo(
        [image._replace(objects=[LabelledObject("a", mask, ring=ring)])], ["a"], tmp_path / "n"
    )
    (line,) = (tmp_path / "n" / "labels" / "a.txt").read_text().splitlines()
    assert [float(word) for word in line.split()[1:]] == [0, 0.2, 0.5, 0.2, 0.5, 0.7, 0, 0.7]
    np.testing.assert_array_equal(load(tmp_path / "n").load_mask(0)[0][..., 0], mask)
