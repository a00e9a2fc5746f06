"""Supervisely's projects as the platform exports them; what is refused; round trips."""

import base64
import io
import json
import logging
import zlib

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings

from mrcnn.data.formats.objects import class_names, labelled_images
from mrcnn.data.formats.supervisely import (
    SuperviselyDataset,
    decode_bitmap,
    encode_bitmap,
    is_supervisely,
    write_supervisely,
)
from tests.data.formats.labelled import (
    assert_same,
    image_sets,
    new_folders,
    without_crowds,
    write_images,
)

SQUARE = {"exterior": [[2, 1], [6, 1], [6, 5], [2, 5]], "interior": []}
MASK = np.array([[True, False, True], [True, True, False]])


def png(pixels, **options):
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "PNG", **options)
    return buffer.getvalue()


def with_alpha(mask):
    """A bitmap as Supervisely's own library writes it: the mask is the alpha channel."""
    pixels = np.zeros((*mask.shape, 4), np.uint8)
    pixels[mask] = (255, 255, 255, 128)
    return base64.b64encode(zlib.compress(png(pixels))).decode()


def bitmap(data, origin=(3, 4)):
    return {"data": data, "origin": list(origin)}


def entry(kind="polygon", title="leaf", **more):
    if kind in ("polygon", "rectangle") and "points" not in more:
        more["points"] = SQUARE
    return {"classTitle": title, "geometryType": kind, **more}


META = {"classes": [{"title": "leaf", "shape": "any"}, {"title": "stem", "shape": "bitmap"}]}


def write(project, *objects, dataset="ds", image="a.png", name=None, meta=META, **more):
    """A project with one image of 12x10 (width x height)."""
    folder = project / dataset
    for inner in ("img", "ann"):
        (folder / inner).mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", (12, 10)).save(folder / "img" / image)
    content = {"description": "", "tags": [], "size": {"height": 10, "width": 12}}
    content |= {"objects": list(objects), **more}
    (folder / "ann" / f"{name or image}.json").write_text(json.dumps(content))
    (project / "meta.json").write_text(json.dumps(meta))
    return project


def load(project, **options):
    dataset = SuperviselyDataset()
    dataset.load_supervisely(project, **options)
    dataset.prepare()
    return dataset


def test_geometries_are_objects(tmp_path):
    hole = {**SQUARE, "interior": [[[3, 2], [5, 2], [5, 4], [3, 4]]]}
    far = {"exterior": [[8, 7], [10, 7], [10, 9], [8, 9]], "interior": []}
    write(
        tmp_path,
        entry(),
        entry(points=hole),
        entry("multipolygon", parts=[SQUARE, far]),
        entry("rectangle", points={"exterior": [[6, 5], [2, 1]], "interior": []}),
        entry("bitmap", "stem", bitmap=bitmap(with_alpha(MASK))),
    )
    dataset = load(tmp_path)
    assert dataset.class_names == ["BG", "leaf", "stem"]
    masks, class_ids = dataset.load_mask(0)
    assert class_ids.tolist() == [1, 1, 1, 1, 2]
    # Pixels on an outline belong to a polygon, those on the outline of a hole to the hole.
    assert masks[1:6, 2:7, 0].all()
    assert masks.sum(axis=(0, 1)).tolist() == [25, 25 - 9, 25 + 9, 25, 4]
    np.testing.assert_array_equal(masks[4:6, 3:6, 4], MASK)
    rings = dataset.load_rings(0)
    np.testing.assert_array_equal(rings[0], np.array(SQUARE["exterior"]) + 0.5)
    assert rings[1:] == [None] * 4


def test_old_files_say_less(tmp_path):
    meta = {"classes": [{"title": "leaf", "shape": "polygon"}, {"title": "x", "shape": "bitmap"}]}
    old = {"classTitle": "leaf", "points": SQUARE}
    drawn = {"classTitle": "x", "bitmap": bitmap(encode_bitmap(MASK))}
    write(tmp_path, old, drawn, name="a", meta=meta)
    masks, class_ids = load(tmp_path).load_mask(0)
    assert class_ids.tolist() == [1, 2] and masks.sum(axis=(0, 1)).tolist() == [25, 4]


def test_datasets_may_have_datasets(tmp_path):
    write(tmp_path, entry(), dataset="a")
    write(tmp_path, entry(), dataset="a/datasets/b")
    write(tmp_path, entry(), dataset="a/datasets/b/datasets/c")
    assert [info["id"] for info in load(tmp_path).image_info] == [
        "a/a.png",
        "a/b/a.png",
        "a/b/c/a.png",
    ]


def test_classes_without_an_area_are_left_out(tmp_path, caplog):
    meta = {"classes": [{"title": "axis", "shape": "line"}, *META["classes"]]}
    assert load(write(tmp_path, entry(), meta=meta)).class_names == ["BG", "leaf", "stem"]
    assert "classes without an area are left out: axis (line)" in caplog.text


def test_objects_outside_are_counted(tmp_path, caplog):
    caplog.set_level(logging.INFO, "mrcnn")
    far = {"exterior": [[20, 1], [30, 1], [30, 5]], "interior": []}
    project = write(
        tmp_path, entry(), entry(points=far), entry("bitmap", bitmap=bitmap("x", (12, 0)))
    )
    assert load(project).load_mask(0)[0].shape[2] == 1
    assert "objects left out for that: 2" in caplog.text


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (3, "image ds/a.png, object 0 is 3; it must be a JSON object"),
        (entry(title="root"), "has the unknown class 'root'; the classes are leaf, stem"),
        (entry("point", points=SQUARE), "is a point, which has no area"),
        (entry("graph"), "is a graph, which has no area"),
        (entry("bitmap"), "bitmap"),
        (entry("bitmap", bitmap={"data": 3, "origin": [0, 0]}), "bitmap"),
        (entry("bitmap", bitmap={"data": "", "origin": [0]}), "bitmap|origin"),
        (entry("multipolygon", parts=[]), "has the parts"),
        (entry(points={"exterior": [[1, 1], [2, 2]]}), "exterior"),
        (entry(points={"exterior": [[1, 1], [2, "x"], [3, 3]]}), "has the point"),
        (entry("rectangle", points={"exterior": [[1, 1]]}), "rectangle|points|corners"),
    ],
)
def test_objects_that_cannot_be_used(tmp_path, found, message):
    project = write(tmp_path, found, entry())
    with pytest.raises(ValueError, match=message) as error:
        load(project)
    assert str(project) in str(error.value)
    assert load(project, skip_invalid=True).load_mask(0)[0].shape[2] == 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"objects": None}, "must be an object with `size` and a list `objects`"),
        ({"size": None}, "has the height None"),
        ({"size": {"height": 11, "width": 12}}, "11"),
    ],
)
def test_annotations_that_cannot_be_used(tmp_path, more, message):
    with pytest.raises(ValueError, match=message):
        load(write(tmp_path, entry(), **more))


def test_what_has_no_partner(tmp_path):
    project = write(tmp_path, entry())
    PIL.Image.new("RGB", (12, 10)).save(project / "ds" / "img" / "new.png")
    with pytest.raises(ValueError, match="ds/img/new.png has no annotation ann/new.png.json"):
        load(project)
    (project / "ds" / "img" / "a.png").unlink()
    with pytest.raises(ValueError, match="ds/ann/a.png.json has no image"):
        load(project)


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ([], "is no meta.json of Supervisely: it holds a list"),
        ({"classes": [{"title": "a"}]}, "class 0 has no title or no shape"),
        ({"classes": META["classes"] * 2}, "has the title 'leaf', which is there twice"),
        ({"classes": [{"title": "a", "shape": "point"}]}, "has no class with an area: it has a"),
    ],
)
def test_meta_files_that_cannot_be_used(tmp_path, meta, message):
    with pytest.raises(ValueError, match=message):
        load(write(tmp_path, entry(), meta=meta))


def test_folders_that_are_no_project(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no meta.json"):
        load(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        load(tmp_path / "nowhere")
    assert not is_supervisely(tmp_path) and not is_supervisely(tmp_path / "nowhere")
    (tmp_path / "meta.json").write_text(json.dumps(META))
    assert not is_supervisely(tmp_path)
    assert is_supervisely(write(tmp_path, entry()))


# ---- Bitmaps -------------------------------------------------------------------------------------


def coded(data):
    return base64.b64encode(data).decode()


@pytest.mark.parametrize(
    "data",
    [
        with_alpha(MASK),
        encode_bitmap(MASK),
        coded(png(MASK)),
        coded(zlib.compress(png(MASK.astype(np.uint8) * 255))),
        coded(png(np.repeat(MASK[..., None], 3, axis=2).astype(np.uint8))),
    ],
    ids=["alpha", "ours", "one bit", "grey", "colours without zlib"],
)
def test_bitmaps_of_any_kind(data):
    np.testing.assert_array_equal(decode_bitmap(data, 10, 12), MASK)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("no base64!", "is not in base64"),
        (coded(b"text"), "zlib cannot unpack"),
        (coded(zlib.compress(b"text")), "is no PNG or a damaged one"),
        (coded(zlib.compress(png(MASK))[:-9]), "is cut off"),
        (coded(zlib.compress(bytes(5_000_000))), "unpacks to more than"),
        (coded(png(np.ones((11, 3), bool))), "a bitmap of 11x3 in an image of 10x12"),
        (coded(png(np.ones((3, 13), bool))), "a bitmap of 3x13 in an image of 10x12"),
        (coded(png(np.ones((9, 9), bool))[:45]), "is no PNG or a damaged one"),
    ],
)
def test_bitmaps_that_cannot_be_used(tmp_path, data, message):
    with pytest.raises(ValueError, match=message):
        decode_bitmap(data, 10, 12)
    dataset = load(write(tmp_path, entry(), entry("bitmap", bitmap=bitmap(data))))
    with pytest.raises(ValueError, match=f"image ds/a.png, object 1 of 2, .*{message}"):
        dataset.load_mask(0)


@pytest.mark.parametrize(("origin", "count"), [((-1, 0), 2), ((10, 9), 1), ((-3, 0), 0)])
def test_bitmaps_are_cut_at_the_border(tmp_path, origin, count):
    project = write(tmp_path, entry(), entry("bitmap", bitmap=bitmap(encode_bitmap(MASK), origin)))
    masks, _ = load(project).load_mask(0)
    assert masks.sum() - 25 == count


# ---- Round trips ---------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(image_sets(crowds=True))
def test_what_is_written_comes_back(data):
    names, content = data
    with new_folders() as (source, target):
        images = write_images(source, content)
        crowds = sum(each.is_crowd for image in images for each in image.objects)
        losses = write_supervisely(images, names, target)
        assert [loss.split()[0] for loss in losses] == ([str(crowds)] if crowds else [])
        assert is_supervisely(target)
        dataset = load(target)
        assert class_names(dataset) == names
        assert_same(labelled_images(dataset), without_crowds(images))


def test_folders_of_images_become_datasets(tmp_path):
    (tmp_path / "source").mkdir()
    content = [(name, (2, 2), []) for name in ("a.png", "x/a.png", "x/y/b.png")]
    write_supervisely(write_images(tmp_path / "source", content), ["leaf"], tmp_path / "new")
    assert sorted(info["id"] for info in load(tmp_path / "new").image_info) == [
        "ds/a.png",
        "x/a.png",
        "x/y/b.png",
    ]
    with pytest.raises(ValueError, match="new is not empty: it has ds, meta.json, x"):
        write_supervisely([], ["leaf"], tmp_path / "new")
