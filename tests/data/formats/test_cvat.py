"""CVAT's files as CVAT writes them; what is refused."""

import logging

import numpy as np
import PIL.Image
import pytest

from mrcnn.data.formats.cvat import CvatDataset, is_cvat, write_cvat
from mrcnn.data.formats.objects import LabelledImage, LabelledObject

HEAD = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta>
    <{owner}>
      <id>1</id>
      <name>leaves</name>
      <labels>
        <label><name>leaf</name><color>#ff0000</color><type>any</type><attributes/></label>
        <label><name>stem</name><type>polygon</type></label>
        <label><name>axis</name><type>polyline</type></label>
      </labels>
    </{owner}>
    <dumped>2026-01-01</dumped>
  </meta>
"""
TRIANGLE = '<polygon label="leaf" source="manual" occluded="0" points="1.00,1.00;9.00,1.00;1.00,9.00" z_order="0"/>'  # noqa: E501
POINTS = [[1, 1], [9, 1], [1, 9]]


def write(folder, *shapes, owner="task", name="a.png", size=(12, 10), inner="images"):
    (folder / inner).mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", (12, 10)).save(folder / inner / "a.png")
    image = (
        f'<image id="0" name="{name}" width="{size[0]}" height="{size[1]}">'
        f"{''.join(shapes)}</image>"
    )
    path = folder / "annotations.xml"
    path.write_text(f"{HEAD.format(owner=owner)}{image}\n</annotations>")
    return path


def load(path, **options):
    dataset = CvatDataset()
    dataset.load_cvat(path, path.parent / "images", **options)
    dataset.prepare()
    return dataset


@pytest.mark.parametrize("owner", ["task", "project", "job"])
def test_shapes_are_objects(tmp_path, owner):
    path = write(
        tmp_path,
        "<tag label='good'/>",
        TRIANGLE,
        '<box label="stem" xtl="4.0" ytl="3.0" xbr="8.0" ybr="7.0" z_order="1"></box>',
        '<box label="stem" xtl="2" ytl="4" xbr="8" ybr="6" rotation="90.0"/>',
        '<ellipse label="leaf" cx="6" cy="5" rx="3" ry="3"/>',
        '<mask label="leaf" rle="0, 2, 1, 3" left="3" top="4" width="3" height="2"/>',
        owner=owner,
    )
    dataset = load(path)
    assert dataset.class_names == ["BG", "leaf", "stem"]
    masks, class_ids = dataset.load_mask(0)
    assert class_ids.tolist() == [1, 2, 2, 1, 1] and masks.shape == (10, 12, 5)
    assert masks[3:7, 4:8, 1].all() and masks[..., 1].sum() == 16
    assert masks[2:8, 4:6, 2].all() and masks[..., 2].sum() == 12
    assert masks[..., 3].sum() == 32
    assert masks[4:6, 3:6, 4].tolist() == [[True, True, False], [True, True, True]]
    rings = dataset.load_rings(0)
    np.testing.assert_array_equal(rings[0], POINTS)
    assert rings[3] is None and rings[4] is None


def test_shapes_of_a_group_are_one_object(tmp_path):
    box = '<box label="{}" xtl="{}" ytl="0" xbr="{}" ybr="2" group_id="{}"/>'
    boxes = [("leaf", 0, 2, 1), ("leaf", 5, 7, 1), ("stem", 0, 2, 1), ("leaf", 0, 2, 2)]
    boxes += [("leaf", 0, 2, 0), ("leaf", 0, 2, 0)]
    path = write(tmp_path, *(box.format(*one) for one in boxes))
    masks, class_ids = load(path).load_mask(0)
    assert class_ids.tolist() == [1, 2, 1, 1, 1]
    assert masks.sum(axis=(0, 1)).tolist() == [8, 4, 4, 4, 4]


def test_an_image_without_shapes_shows_nothing(tmp_path):
    masks, class_ids = load(write(tmp_path)).load_mask(0)
    assert masks.shape[2] == 0 and not len(class_ids)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (
            '<polyline label="leaf" points="1,1;2,2"/>',
            "'a.png', shape 0 is a polyline, which",
        ),
        ('<points label="leaf" points="1,1"/>', "is a points, which has no area"),
        ('<cuboid label="leaf"/>', "is a cuboid, which has no area"),
        ('<skeleton label="leaf"/>', "is a skeleton"),
        ('<polygon points="1,1;2,2;3,1"/>', "is a polygon without a label"),
        ('<polygon label="leaf" points="1,1;2,2"/>', "with 2 different points"),
        ('<polygon label="leaf" points="1,1;2,x;3,3"/>', "the coordinate 'x'"),
        ('<polygon label="leaf" points="1;2;3"/>', "they must be a list of"),
        ('<polygon label="leaf"/>', "they must be a list of"),
        ('<box label="leaf" xtl="a" ytl="1" xbr="2" ybr="2"/>', "is a box with xtl 'a'"),
        ('<box label="leaf" xtl="nan" ytl="1" xbr="2" ybr="2"/>', "is a box with xtl 'nan'"),
        ('<box label="leaf" xtl="2" ytl="1" xbr="2" ybr="2"/>', "is a box without an area"),
        ('<box label="leaf" xtl="1" ytl="1" xbr="2" ybr="2" rotation="x"/>', "the rotation 'x'"),
        ('<ellipse label="leaf" cx="1" cy="1" rx="0" ry="1"/>', "the half axes 0 and 1"),
        ('<ellipse label="leaf" cx="1" cy="1" rx="1"/>', "is an ellipse with ry None|with ry None"),
        (
            '<mask label="leaf" rle="1" left="0" top="0" width="13" height="1"/>',
            "13x1 pixels in",
        ),
        ('<mask label="leaf" rle="1" left="0" top="0" width="1" height="0"/>', "1x0 pixels in an"),
        ('<mask label="leaf" rle="1" left="x" top="0" width="1" height="1"/>', "x, 0, 1, 1; they"),
        ('<mask label="leaf" rle="1, -1, 1" left="0" top="0" width="1" height="1"/>', "no list of"),
        ('<mask label="leaf" rle="" left="0" top="0" width="1" height="1"/>', "no list of whole"),
        (
            '<mask label="leaf" rle="9" left="0" top="0" width="2" height="2"/>',
            "lengths of 9 pix",
        ),
        ('<polygon label="root" points="1,1;9,1;1,9"/>', None),
    ],
)
def test_shapes_that_cannot_be_used(tmp_path, found, message):
    path = write(tmp_path, found, TRIANGLE)
    if message is None:  # a label that the head lacks is a class all the same
        assert load(path).class_names == ["BG", "leaf", "stem", "root"]
        with pytest.raises(ValueError, match="has the unknown label 'root'"):
            load(path, classes=["leaf"])
        return
    with pytest.raises(ValueError, match=message) as error:
        load(path)
    assert str(path) in str(error.value)
    assert load(path, skip_invalid=True).load_mask(0)[0].shape[2] == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "image 0 has no name"),
        ({"size": ("x", 10)}, "has the height '10'|has the width 'x'"),
        ({"size": (12, 0)}, "has the height 0"),
        ({"size": (10**6, 10**6)}, "an image may have at most"),
    ],
)
def test_images_that_cannot_be_used(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        load(write(tmp_path, TRIANGLE, **changes))


def test_a_missing_image_and_one_outside_the_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.png does not exist"):
        load(write(tmp_path, TRIANGLE, name="gone.png"))
    with pytest.raises(ValueError, match="leads out of the image folder"):
        load(write(tmp_path, TRIANGLE, name="../annotations.xml"))


def test_shapes_outside_are_counted(tmp_path, caplog):
    caplog.set_level(logging.INFO, "mrcnn")
    far = '<box label="leaf" xtl="20" ytl="0" xbr="22" ybr="2"/>'
    assert load(write(tmp_path, TRIANGLE, far)).load_mask(0)[0].shape[2] == 1
    assert "lie outside it: 1" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotations>", "is no XML file"),
        ("", "is no XML file"),
        ("text", "is no XML file"),
        ("<html/>", "is no file of CVAT: it begins with <html>"),
        ("<annotations/>", "has no images"),
        ("<annotations><track id='0'/></annotations>", "CVAT for video, with tracks; export"),
        (
            '<!DOCTYPE a [<!ENTITY b "b"><!ENTITY c "&b;&b;&b;">]><annotations>&c;</annotations>',
            "has a document type or entities",
        ),
        (
            '<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotations/>',
            "has a document type or entities",
        ),
    ],
)
def test_files_that_cannot_be_used(tmp_path, text, message):
    path = tmp_path / "annotations.xml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load(path)
    with pytest.raises(FileNotFoundError, match="nowhere.xml does not exist"):
        load(tmp_path / "nowhere.xml")


def test_what_is_cvat(tmp_path):
    assert not is_cvat(tmp_path)
    path = write(tmp_path, TRIANGLE)
    assert is_cvat(path) and is_cvat(tmp_path)
    path.write_text("<annotation><object/></annotation>")  # Pascal VOC
    assert not is_cvat(path)
    assert not is_cvat(tmp_path / "images" / "a.png")


def test_what_is_written(tmp_path):
    PIL.Image.new("RGB", (12, 10)).save(tmp_path / "a.png")
    block, ring = np.zeros((10, 12), bool), np.ones((10, 12), bool)
    block[2:5, 3:7] = True
    ring[3:6, 3:6] = False
    objects = [LabelledObject("a<b>&", block), LabelledObject("a<b>&", ring)]
    objects += [LabelledObject("a<b>&", block, is_crowd=True)]
    image = LabelledImage("a.png", str(tmp_path / "a.png"), 10, 12, objects)
    losses = write_cvat([image], ["stem", "a<b>&"], tmp_path / "new")
    assert losses == ["1 crowd is left out: CVAT has no crowds."]
    text = (tmp_path / "new" / "annotations.xml").read_text()
    assert 'points="3.0,2.0;7.0,2.0;7.0,5.0;3.0,5.0"' in text and "<mask " in text
    dataset = load(tmp_path / "new" / "annotations.xml")
    assert dataset.class_names == ["BG", "stem", "a<b>&"]
    masks, class_ids = dataset.load_mask(0)
    assert class_ids.tolist() == [2, 2]
    np.testing.assert_array_equal(masks, np.stack([block, ring], axis=-1))
