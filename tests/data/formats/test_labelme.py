"""LabelMe's files as LabelMe and others write them; what is refused."""

import base64
import io
import json
import logging

import numpy as np
import PIL.Image
import pytest

from mrcnn.data.formats.drawn import encode_png
from mrcnn.data.formats.labelme import LabelmeDataset, is_labelme, write_labelme
from mrcnn.data.formats.objects import LabelledImage, LabelledObject

TRIANGLE = [[1.0, 1.0], [9.0, 1.0], [1.0, 9.0]]


def shape(label="leaf", points=None, kind="polygon", **more):
    points = TRIANGLE if points is None else points
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, **more}


def write(folder, *shapes, name="a", image="a.png", size=(12, 10), **more):
    """An image of 12x10 (width x height) and its file."""
    if image:
        (folder / image).parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("RGB", size, (1, 2, 3)).save(folder / image)
    content = {
        "version": "5.5.0",
        "flags": {},
        "shapes": list(shapes),
        "imagePath": image,
        "imageData": None,
        "imageHeight": size[1],
        "imageWidth": size[0],
        **more,
    }
    path = folder / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def load(path, **options):
    dataset = LabelmeDataset()
    dataset.load_labelme(path, **options)
    dataset.prepare()
    return dataset


def test_shapes_are_objects(tmp_path):
    mask = np.array([[True, False], [True, True]])
    write(
        tmp_path,
        shape(),
        shape("rect", [[8, 7], [4, 3]], "rectangle"),
        shape("rect", [[0, 0], [2, 0], [2, 2], [0, 2]], "rectangle"),
        shape("dot", [[6, 5], [6, 8]], "circle"),
        shape("vein", [[0, 5], [12, 5]], "linestrip"),
        shape("vein", [[0, 5], [12, 5]], "line"),
        shape("spot", [[3, 4], [4, 5]], "mask", mask=encode_png(mask)),
        shape("turned", [[3, 0], [6, 3], [3, 6], [0, 3]], "rotation"),
    )
    dataset = load(tmp_path)
    assert dataset.class_names == ["BG", "dot", "leaf", "rect", "spot", "turned", "vein"]
    masks, class_ids = dataset.load_mask(0)
    names = [dataset.class_names[i] for i in class_ids]
    assert names == ["leaf", "rect", "rect", "dot", "vein", "vein", "spot", "turned"]
    assert masks[3:7, 4:8, 1].all() and masks[..., 1].sum() == 16
    assert masks[..., 2].sum() == 4 and masks[..., 3].sum() == 32  # a disk of radius 3
    assert masks[..., 4].all() and np.array_equal(masks[..., 4], masks[..., 5])
    np.testing.assert_array_equal(masks[4:6, 3:5, 6], mask)
    rings = dataset.load_rings(0)
    np.testing.assert_array_equal(rings[0], TRIANGLE)
    assert [ring is None for ring in rings] == [False] * 3 + [True] * 4 + [False]


def test_shapes_of_a_group_are_one_object(tmp_path):
    square = [[0, 0], [2, 2]]
    write(
        tmp_path,
        shape(points=square, kind="rectangle", group_id=1),
        shape(points=[[5, 5], [7, 7]], kind="rectangle", group_id=1),
        shape("stem", square, "rectangle", group_id=1),
        shape(points=square, kind="rectangle", group_id=2),
    )
    masks, class_ids = load(tmp_path).load_mask(0)
    assert class_ids.tolist() == [1, 2, 1]
    assert masks.sum(axis=(0, 1)).tolist() == [8, 4, 4]


@pytest.mark.parametrize(
    ("image", "stated", "name"),
    [
        ("a.png", "a.png", "a"),
        ("images/a.png", "..\\images\\a.png", "labels/a"),
        ("images/a.png", "../images/a.png", "labels/a"),
        ("a.png", "C:\\Users\\me\\photos\\a.png", "a"),
        ("a.png", "renamed.png", "a"),
        ("a b.png", "a%20b.png", "x"),
    ],
)
def test_the_image_is_found(tmp_path, image, stated, name):
    path = write(tmp_path, shape(), name=name, image=image)
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "imagePath": stated}))
    assert load(tmp_path).load_image(0)[0, 0].tolist() == [1, 2, 3]


def embedded(size=(12, 10), kind="JPEG"):
    buffer = io.BytesIO()
    PIL.Image.new("RGB", size, (90, 90, 90)).save(buffer, kind)
    return base64.b64encode(buffer.getvalue()).decode()


def test_the_image_may_be_in_the_file(tmp_path):
    write(tmp_path, shape(), image="", imageData=embedded(), imagePath="gone.jpg")
    dataset = load(tmp_path)
    image = dataset.load_image(0)
    assert image.shape == (10, 12, 3) and abs(int(image[0, 0, 0]) - 90) < 3
    assert dataset.load_mask(0)[0].shape == (10, 12, 1)


def test_sizes_may_be_missing(tmp_path):
    write(tmp_path, shape(), imageHeight=None, imageWidth=None)
    assert load(tmp_path).load_mask(0)[0].shape == (10, 12, 1)


def test_one_file_and_given_classes(tmp_path):
    path = write(tmp_path, shape())
    write(tmp_path, shape("stem"), name="b", image="b.png")
    assert len(load(path).image_ids) == 1
    assert load(tmp_path, classes=["stem", "leaf", "root"]).class_names[1:] == [
        "stem",
        "leaf",
        "root",
    ]
    with pytest.raises(ValueError, match=r"b.json has the unknown label 'stem'; the classes are"):
        load(tmp_path, classes=["leaf"])


def test_images_without_a_file_and_shapes_outside_are_counted(tmp_path, caplog):
    caplog.set_level(logging.INFO, "mrcnn")
    write(tmp_path, shape(), shape(points=[[20, 20], [30, 20], [20, 30]]))
    PIL.Image.new("RGB", (3, 3)).save(tmp_path / "new.png")
    assert load(tmp_path).load_mask(0)[0].shape[2] == 1
    assert "1 images such as new.png have no JSON file" in caplog.text
    assert "lie outside the image: 1" in caplog.text


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (7, "a.json, shape 0 is 7; it must be a JSON object"),
        (shape(label=""), "has the label ''; it must be a class name"),
        (shape(label=None), "has the label None"),
        (shape(kind="point", points=[[1, 1]]), "is a point, which has no area"),
        (shape(points=[[1, 1], [2, 2]]), "is a polygon with 2 different points"),
        (shape(points="x"), "is a polygon with the points 'x'"),
        (shape(kind="rectangle", points=[[1, 1]]), "it needs at least 2"),
        (shape(kind="rectangle", points=TRIANGLE), "is a rectangle with 3 points"),
        (shape(kind="circle", points=[[1, 1], [1, 1]]), "is a circle with 1 different"),
        (shape(kind="mask", points=[[1, 1], [2, 2]]), "is a mask with the data None"),
    ],
)
def test_shapes_that_cannot_be_used(tmp_path, found, message, caplog):
    write(tmp_path, found, shape())
    with pytest.raises(ValueError, match=message) as error:
        load(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert load(tmp_path, skip_invalid=True).load_mask(0)[0].shape[2] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"imageHeight": 11}, "states imageHeight x imageWidth 11x12, and its image has 10x12"),
        ({"imagePath": "gone.png"}, None),
        ({"imagePath": 3}, None),
        ({"shapes": None}, "is no file of LabelMe: it holds an object with"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, change, message):
    write(tmp_path, shape(), **change)
    if message is None:  # an image of the same name lies beside the file
        assert len(load(tmp_path).image_ids) == 1
    else:
        with pytest.raises(ValueError, match=message):
            load(tmp_path)


@pytest.mark.parametrize("data", [None, "?", base64.b64encode(b"text").decode()])
def test_an_image_that_is_nowhere(tmp_path, data):
    write(tmp_path, shape(), image="", imageData=data, imagePath="gone.jpg")
    with pytest.raises((FileNotFoundError, ValueError), match="gone.jpg is not there|imageData"):
        load(tmp_path)


def test_an_embedded_image_of_too_many_pixels_is_not_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 50)
    write(tmp_path, shape(), image="", imageData=embedded((12, 10), "PNG"), imagePath="gone.jpg")
    with pytest.raises(ValueError, match="pixels"):
        load(tmp_path)


def test_a_name_cannot_lead_out_of_the_folder(tmp_path):
    PIL.Image.new("RGB", (12, 10)).save(tmp_path / "secret.png")
    inside = tmp_path / "a" / "b" / "c"
    write(inside, shape(), image="", imagePath="../../../secret.png")
    with pytest.raises(FileNotFoundError, match="is not there"):
        load(inside)


def test_folders_without_labels(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="has no JSON files"):
        load(tmp_path)
    write(tmp_path)
    with pytest.raises(ValueError, match="has no shapes; its files: a.json"):
        load(tmp_path)


def test_what_is_labelme(tmp_path):
    assert not is_labelme(tmp_path) and not is_labelme(tmp_path / "nowhere")
    (tmp_path / "other.json").write_text('{"images": []}')
    assert not is_labelme(tmp_path) and not is_labelme(tmp_path / "other.json")
    path = write(tmp_path, shape())
    assert is_labelme(tmp_path) and is_labelme(path)
    (tmp_path / "broken.json").write_text("{")
    assert is_labelme(tmp_path) and not is_labelme(tmp_path / "broken.json")


def test_what_is_written(tmp_path):
    PIL.Image.new("RGB", (12, 10)).save(tmp_path / "a.png")
    block, ring = np.zeros((10, 12), bool), np.ones((10, 12), bool)
    block[2:5, 3:7] = True
    ring[3:6, 3:6] = False
    objects = [LabelledObject("leaf", block), LabelledObject("leaf", ring)]
    objects += [LabelledObject("leaf", block, is_crowd=True)]
    image = LabelledImage("a.png", str(tmp_path / "a.png"), 10, 12, objects)
    assert write_labelme([image], ["leaf", "stem"], tmp_path / "new") == [
        "1 crowd is left out: LabelMe has no crowds.",
        "The class stem without objects is left out: LabelMe has no list of classes.",
    ]
    content = json.loads((tmp_path / "new" / "a.json").read_text())
    assert content["imagePath"] == "a.png" and content["imageHeight"] == 10
    first, second = content["shapes"]
    assert first["shape_type"] == "polygon"
    assert first["points"] == [[3, 2], [7, 2], [7, 5], [3, 5]]
    assert second["shape_type"] == "mask" and second["points"] == [[0, 0], [11, 9]]
