"""All formats by name, and which one a file or folder holds."""

import json

import numpy as np
import PIL.Image
import pytest

from mrcnn.data.formats.find import FORMATS, find_format, open_labels
from mrcnn.data.formats.objects import LabelledImage, LabelledObject, class_names

WRITTEN = [name for name, kind in FORMATS.items() if kind.write]


@pytest.fixture
def images(tmp_path):
    """Two images with three objects of two classes."""
    source = tmp_path / "source"
    source.mkdir()
    for name in ("a.png", "b.png"):
        PIL.Image.new("RGB", (12, 10)).save(source / name)
    block = np.zeros((10, 12), bool)
    block[2:5, 3:7] = True
    leaf, stem = LabelledObject("leaf", block), LabelledObject("stem", block[::-1])
    return [
        LabelledImage("a.png", str(source / "a.png"), 10, 12, [leaf, stem]),
        LabelledImage("b.png", str(source / "b.png"), 10, 12, [leaf]),
    ]


def write(images, name, folder):
    FORMATS[name].write(images, ["leaf", "stem"], folder)
    return folder


@pytest.mark.parametrize("name", WRITTEN)
def test_each_format_is_found_by_its_content_and_only_that(images, tmp_path, name):
    folder = write(images, name, tmp_path / "labels of mine")
    assert find_format(folder)[0] == name
    assert find_format(folder, name) == find_format(folder)
    place = find_format(folder)[1]
    assert find_format(place) == (name, place)
    dataset = open_labels(folder)
    assert class_names(dataset) == ["leaf", "stem"]
    assert sorted(len(dataset.load_mask(i)[1]) for i in dataset.image_ids) == [1, 2]


@pytest.mark.parametrize("name", WRITTEN)
def test_the_user_s_classes_keep_their_order(images, tmp_path, name):
    folder = write(images, name, tmp_path / "labels")
    dataset = open_labels(folder, classes=["root", "stem", "leaf"])
    assert class_names(dataset) == ["root", "stem", "leaf"]
    assert {i for image in dataset.image_ids for i in dataset.load_mask(image)[1]} == {2, 3}
    with pytest.raises(ValueError, match="stem|which is not among|has the class 1|unknown"):
        open_labels(folder, classes=["leaf"])


@pytest.mark.parametrize("name", [name for name in WRITTEN if FORMATS[name].is_file])
def test_images_may_be_elsewhere(images, tmp_path, name):
    folder = write(images, name, tmp_path / "labels")
    place = find_format(folder)[1]
    moved = tmp_path / "moved" / place.name
    moved.parent.mkdir()
    place.rename(moved)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        open_labels(moved)
    inner = folder / "images" if (folder / "images").is_dir() else folder
    assert len(open_labels(moved, images=inner).image_ids) == 2


def test_images_of_via_may_be_in_a_folder_of_their_own(images, tmp_path):
    folder = write(images, "via", tmp_path / "labels")
    (folder / "images").mkdir()
    for path in folder.glob("*.png"):
        path.rename(folder / "images" / path.name)
    assert len(open_labels(folder).image_ids) == 2


def test_large_files_are_not_read_to_find_out_what_they_are(images, tmp_path, monkeypatch):
    via = write(images, "via", tmp_path / "via") / "via_region_data.json"
    coco = write(images, "coco", tmp_path / "coco") / "annotations.json"
    for module in ("via", "coco"):
        monkeypatch.setattr(f"mrcnn.data.formats.{module}._LOOKED_AT", 200)
        monkeypatch.setattr(f"mrcnn.data.formats.{module}.read_json", None)
    assert [FORMATS["via"].holds(path) for path in (via, coco)] == [True, False]
    assert FORMATS["coco"].holds(coco)
    content = json.loads(coco.read_text())
    content["images"] *= 20
    order = {part: content[part] for part in ("images", "categories", "annotations")}
    coco.write_text(json.dumps(order))
    assert FORMATS["coco"].holds(coco)


def test_coco_s_own_folders(images, tmp_path):
    folder = write(images, "coco", tmp_path / "coco")
    (folder / "annotations").mkdir()
    (folder / "annotations.json").rename(folder / "annotations" / "instances_val2017.json")
    (folder / "images").rename(folder / "val2017")
    assert len(open_labels(folder / "annotations" / "instances_val2017.json").image_ids) == 2
    assert find_format(folder)[0] == "coco"
    assert len(open_labels(folder).image_ids) == 2


def test_the_table_of_instances(tmp_path):
    pandas = pytest.importorskip("pandas")
    for folder in ("pngs", "masks"):
        (tmp_path / folder).mkdir()
    PIL.Image.new("RGB", (12, 10)).save(tmp_path / "pngs" / "g.png")
    mask = np.zeros((10, 12), np.uint8)
    mask[2:5, 3:7] = 1
    PIL.Image.fromarray(mask).save(tmp_path / "masks" / "g_mask.png")
    row = {"object_id": "g", "labels": 2, "bbox_xmin": 3, "bbox_ymin": 2, "bbox_xmax": 6}
    pandas.DataFrame([{**row, "bbox_ymax": 4}]).to_parquet(tmp_path / "mask_labels.gzip")
    assert find_format(tmp_path) == ("instances", tmp_path / "mask_labels.gzip")
    assert class_names(open_labels(tmp_path)) == ["1", "2"]
    dataset = open_labels(tmp_path, classes=["spiral", "bar"])
    assert dataset.load_mask(0)[1].tolist() == [2]


def test_classes_that_differ_in_case_are_said(images, tmp_path, caplog):
    folder = write(images, "coco", tmp_path / "labels")
    content = (folder / "annotations.json").read_text()
    assert not caplog.text and open_labels(folder) and not caplog.text
    (folder / "annotations.json").write_text(content.replace('"stem"', '"LEAF "'))
    assert class_names(open_labels(folder)) == ["leaf", "LEAF "]
    assert "the classes 'leaf' and 'LEAF ' differ in case or spaces only" in caplog.text


# ---- Nothing, or too much ------------------------------------------------------------------------


def test_nothing_is_found(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist; name a file or folder"):
        find_format(tmp_path / "nowhere")
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(ValueError) as error:
        find_format(tmp_path)
    message = str(error.value)
    assert "has no labels that are known here: it holds photo.jpg." in message
    assert "coco (COCO's JSON)" in message and "supervisely" in message
    with pytest.raises(ValueError, match="its content is none of them"):
        find_format(tmp_path / "photo.jpg")


def test_labels_one_folder_deeper_are_named(images, tmp_path):
    write(images, "via", tmp_path / "all" / "train")
    write(images, "via", tmp_path / "all" / "val")
    with pytest.raises(ValueError, match="There are labels in train, val: name one of these"):
        find_format(tmp_path / "all")


def test_two_formats_in_one_folder(images, tmp_path):
    folder = write(images, "via", tmp_path / "both")
    other = write(images, "coco", tmp_path / "other")
    (other / "annotations.json").rename(folder / "annotations.json")
    with pytest.raises(ValueError, match="labels of several formats: coco .*, via .*; name one w"):
        find_format(folder)
    assert find_format(folder, "via")[0] == "via"
    assert len(open_labels(folder, "coco").image_ids) == 2


def test_two_files_of_one_format(images, tmp_path):
    folder = write(images, "coco", tmp_path / "coco")
    content = (folder / "annotations.json").read_text()
    (folder / "train.json").write_text(content)
    with pytest.raises(ValueError, match="several files of labels: annotations.json, train.json"):
        find_format(folder)


def test_a_wrong_name_of_a_format(images, tmp_path):
    folder = write(images, "coco", tmp_path / "coco")
    with pytest.raises(ValueError, match="'cooc' is no format of labels; .* Did you mean coco?"):
        find_format(folder, "cooc")
    with pytest.raises(ValueError, match="has no labels that are known here"):
        find_format(folder, "via")


def test_a_named_format_says_what_is_wrong_with_a_file(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"images": []}))
    with pytest.raises(ValueError, match="is not a COCO annotation file"):
        open_labels(path, "coco")


@pytest.mark.parametrize("name", FORMATS)
def test_looking_never_raises(tmp_path, name):
    holds = FORMATS[name].holds
    for content in (b"", b"{", b"[1]", b"\x00\xff", b"PAR1", b"<annotations", b'{"shapes": 1}'):
        for ending in ("json", "xml", "yaml", "parquet", "png"):
            path = tmp_path / f"a.{ending}"
            path.write_bytes(content)
            assert holds(path) is False or (name, ending) == ("cvat", "xml")
    assert holds(tmp_path / "nowhere") is False
