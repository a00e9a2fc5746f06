"""Labels converted from any format to any other: the same objects, or a sentence about what not."""

import tempfile
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mrcnn.data.convert import convert
from mrcnn.data.formats.find import FORMATS, open_labels
from mrcnn.data.formats.objects import LabelledImage, LabelledObject, class_names, labelled_images
from mrcnn.data.formats.outlines import fill, overlap
from tests.data.formats.labelled import (
    image_sets,
    keys,
    new_folders,
    number_of,
    without_crowds,
    write_images,
)

WRITTEN = [name for name, kind in FORMATS.items() if kind.write]
# Formats that need another test: overlaps are lost, or images without objects.
EXACT = [name for name in WRITTEN if name not in ("labels", "via")]


def read(folder):
    return sorted(labelled_images(open_labels(folder)), key=number_of)


@pytest.mark.parametrize("name", EXACT)
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(image_sets(crowds=True))
def test_masks_come_back_to_the_pixel(name, data):
    names, content = data
    with new_folders() as (source, target):
        images = write_images(source, content)
        wanted = images if name == "coco" else without_crowds(images)
        if name in ("labelme", "yolo") and not any(image.objects for image in wanted):
            return  # such a folder has no class or no label at all
        FORMATS[name].write(images, names, target)
        for found, image in zip(read(target), wanted, strict=True):
            assert keys(found) == keys(image)


@st.composite
def polygons(draw):
    """A polygon of three to eight corners in an image of 60x80, larger than 100 pixels."""
    corners = draw(st.integers(3, 8))
    angles = np.sort(draw(st.lists(st.floats(0, 6.28), min_size=corners, max_size=corners)))
    radii = draw(st.lists(st.floats(10, 28), min_size=corners, max_size=corners))
    return np.stack([40 + radii * np.cos(angles), 30 + radii * np.sin(angles)], axis=1)


@pytest.mark.parametrize("name", WRITTEN)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(ring=polygons())
def test_polygons_come_back_as_they_were_drawn(name, ring):
    mask = fill([ring], 60, 80)
    if mask.sum() <= 100:
        return
    with new_folders() as (source, target):
        labelled = LabelledObject("leaf", mask, ring=ring)
        (image,) = write_images(source, [("a.png", (60, 80), [labelled])])
        FORMATS[name].write([image], ["leaf"], target)
        (found,) = read(target)
        (back,) = found.objects
        assert overlap(back.mask, mask) >= (0.99 if back.ring is not None else 1.0)


@pytest.fixture(scope="module")
def originals():
    """Two images, objects with a hole, of two parts, and as drawn, in two classes."""
    with tempfile.TemporaryDirectory() as folder:
        images = []
        for number in range(2):
            path = Path(folder, f"{number}.png")
            PIL.Image.fromarray(np.full((60, 80, 3), number, np.uint8)).save(path)
            ring = np.array([(5.5, 5.25), (30.75, 8), (20, 25.5)])
            hole = np.zeros((60, 80), bool)
            hole[35:55, 5:30] = True
            hole[40:45, 10:20] = False
            parts = np.zeros((60, 80), bool)
            parts[5:15, 50:60] = parts[20:30, 50:70] = True
            objects = [LabelledObject("leaf", fill([ring], 60, 80), ring=ring)]
            objects += [LabelledObject("stem", hole), LabelledObject("leaf", parts)]
            images.append(LabelledImage(f"{number}.png", str(path), 60, 80, objects))
        yield images


@pytest.mark.parametrize("source", WRITTEN)
@pytest.mark.parametrize("to", WRITTEN)
def test_any_format_becomes_any_other(originals, tmp_path, source, to):
    FORMATS[source].write(originals, ["leaf", "stem"], tmp_path / "first")
    done = convert(tmp_path / "first", tmp_path / "second", to)
    assert (done.source_format, done.images, done.objects) == (source, 2, 6)
    assert done.class_names == ["leaf", "stem"]
    dataset = open_labels(tmp_path / "second")
    assert class_names(dataset) == ["leaf", "stem"]
    for found, wanted in zip(read(tmp_path / "second"), originals, strict=True):
        for one in wanted.objects:
            same = [o.mask for o in found.objects if o.class_name == one.class_name]
            assert max(overlap(mask, one.mask) for mask in same) >= 0.98
        assert len(found.objects) == 3
        assert Path(found.path).read_bytes() == Path(wanted.path).read_bytes()


def test_what_a_format_cannot_hold_is_said(originals, tmp_path):
    crowd = originals[0].objects[1]._replace(is_crowd=True)
    images = [originals[0]._replace(objects=[*originals[0].objects, crowd]), originals[1]]
    images.append(images[1]._replace(name="2.png", objects=[]))
    FORMATS["coco"].write(images, ["leaf", "stem", "root"], tmp_path / "coco")
    assert convert(tmp_path / "coco", tmp_path / "via", "via").losses == [
        "1 crowd is left out: VIA has no crowds.",
        "4 objects have parts or holes: VIA has one polygon per object, so bridges without width "
        "join them.",
        "The class root without objects is left out: VIA has no list of classes.",
        "1 image without objects counts as not labelled: VIA does not tell them apart.",
    ]
    assert "1 object loses" not in str(convert(tmp_path / "coco", tmp_path / "l", "labels").losses)
    assert convert(tmp_path / "coco", tmp_path / "again", "coco").losses == []


def test_nothing_is_written_where_something_is_wrong(originals, tmp_path):
    folder = tmp_path / "labels"
    FORMATS["coco"].write(originals, ["leaf", "stem"], folder)
    with pytest.raises(ValueError, match="'xml' is no format of labels"):
        convert(folder, tmp_path / "new", "xml")
    with pytest.raises(ValueError, match="instances is only read; coco, via"):
        convert(folder, tmp_path / "new", "instances")
    with pytest.raises(ValueError, match="labels is not empty: it has annotations.json, images; n"):
        convert(folder, folder, "yolo")
    with pytest.raises(NotADirectoryError, match="is a file; name a new or empty folder"):
        convert(folder, folder / "annotations.json", "yolo")
    (folder / "images" / "1.png").unlink()
    with pytest.raises(FileNotFoundError, match="1.png does not exist"):
        convert(folder, tmp_path / "new", "yolo")
    assert [path.name for path in tmp_path.iterdir()] == ["labels"]
    (tmp_path / "new").mkdir()
    done = convert(folder, tmp_path / "new", "yolo", skip_invalid=True)
    assert done.images == 1 and (tmp_path / "new" / "data.yaml").is_file()


def test_a_damaged_image_leaves_nothing_half_written(originals, tmp_path, monkeypatch):
    folder = tmp_path / "labels"
    FORMATS["masks"].write(originals, ["leaf", "stem"], folder)
    (folder / "1" / "masks" / "leaf" / "00001.png").write_bytes(b"\x89PNG")
    with pytest.raises(ValueError, match="00001.png"):
        convert(folder, tmp_path / "new", "coco")
    assert [path.name for path in tmp_path.iterdir()] == ["labels"]


def test_classes_that_differ_in_case_only_stay_apart(originals, tmp_path):
    images = [
        image._replace(
            objects=[o._replace(class_name="aAb"[i]) for i, o in enumerate(image.objects)]
        )
        for image in originals
    ]
    for name in WRITTEN:
        FORMATS[name].write(images, ["a", "A", "b"], tmp_path / name)
        assert sorted(class_names(open_labels(tmp_path / name))) == ["A", "a", "b"]
