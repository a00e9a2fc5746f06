"""VIA files: what is read and refused; masks of every shape."""

import json
import logging
import math
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mrcnn.data.dataset import Dataset
from mrcnn.data.formats import shapes as drawing
from mrcnn.data.formats import via
from mrcnn.data.formats.shapes import polygon_to_mask
from mrcnn.data.formats.via import (
    SHAPES,
    ViaDataset,
    class_attribute,
    read_via,
    shape_bounds,
    shape_to_mask,
)
from tests.data.formats.shape_points import points, quarters

HEIGHT, WIDTH = 20, 30
EXIF_ORIENTATION = 0x0112
RECT = {"name": "rect", "x": 2, "y": 3, "width": 4, "height": 5}
TRIANGLE = {"name": "polygon", "all_points_x": [0, 10, 0], "all_points_y": [0, 0, 10]}


def region(shape, **attributes):
    return {"shape_attributes": shape, "region_attributes": attributes}


def entries(**regions):
    """Content of a VIA 2 file: an entry for each `name=[region, ...]`."""
    return {
        f"{name}.png123": {
            "filename": f"{name}.png",
            "size": 123,
            "regions": regions_,
            "file_attributes": {},
        }
        for name, regions_ in regions.items()
    }


@pytest.fixture
def write(tmp_path):
    """Function `content -> (path, folder)`: writes a VIA file and the images a, b and c."""

    def write(content):
        for name in "abc":
            Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / f"{name}.png")
        path = tmp_path / "via.json"
        text = content if isinstance(content, str) else json.dumps(content)
        path.write_text(text, encoding="utf-8")
        return path, tmp_path

    return write


def load(files, **kwargs):
    dataset = ViaDataset()
    dataset.load_via(*files, **kwargs)
    dataset.prepare()
    return dataset


# ---- What is read ------------------------------------------------------------------------------


def as_via_1(content):
    """The same in VIA 1: regions are a dict."""
    return {
        key: {**entry, "regions": {str(i): r for i, r in enumerate(entry["regions"])}}
        for key, entry in content.items()
    }


def as_project(content):
    """The same as a project of VIA 2."""
    return {"_via_settings": {}, "_via_img_metadata": content, "_via_attributes": {}}


LINE = {"name": "polyline", "all_points_x": [2, 8], "all_points_y": [3, 3]}


def test_polylines_are_lines_where_a_width_is_given(write):
    files = write(entries(a=[region(LINE), region(TRIANGLE)]))
    with pytest.raises(ValueError, match="polyline with fewer than three different points: 2"):
        load(files)
    dataset = load(files, line_width=3)
    masks, _ = dataset.load_mask(0)
    assert masks[2:5, 2:9, 0].all() and masks[..., 0].sum() == 21 + 2 * 3  # round ends
    rings = dataset.load_rings(0)
    assert rings[0] is None and rings[1][0].tolist() == [0.5, 0.5]
    for wrong in (0, -1, "3", float("nan")):
        with pytest.raises(ValueError, match="line_width is .*; it must be a positive number"):
            load(files, line_width=wrong)


@pytest.mark.parametrize(
    ("attributes", "chosen"),
    [
        ([{}, {}], None),
        ([{"kind": "a"}, {"kind": "b"}], "kind"),
        ([{"kind": "a", "note": ""}, {"kind": "b", "note": "x"}], "kind"),
        ([{"kind": "a", "Label": "x"}, {"kind": "b", "Label": "x"}], "Label"),
        ([{"kind": {"a": True, "b": False}}, {"kind": {"b": True}}], "kind"),
    ],
)
def test_the_attribute_that_is_the_class_is_found_out(write, attributes, chosen):
    path, _ = write(entries(a=[region(RECT, **found) for found in attributes]))
    assert class_attribute(path) == chosen


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ([{"a": "x", "b": "y"}] * 2, "have the attributes a, b; name the one that is the class"),
        ([{"a": "x"}, {"b": "y"}], "no attribute has a value in all 2 regions; a has one in 1, b "),
    ],
)
def test_attributes_that_leave_open_which_is_the_class(write, attributes, message):
    path, _ = write(entries(a=[region(RECT, **found) for found in attributes]))
    with pytest.raises(ValueError, match=message):
        class_attribute(path)


@pytest.mark.parametrize("version", [dict, as_via_1, as_project])
def test_every_version_is_read_alike(write, version):
    content = entries(a=[region(RECT), region(TRIANGLE)], b=[region(TRIANGLE)])
    dataset = load(write(version(content)), source="leaf")
    assert dataset.class_names == ["BG", "leaf"]
    assert [info["id"] for info in dataset.image_info] == ["a.png", "b.png"]
    masks, class_ids = dataset.load_mask(0)
    assert masks.shape == (HEIGHT, WIDTH, 2) and masks.dtype == bool
    np.testing.assert_array_equal(class_ids, [1, 1])
    assert class_ids.dtype == np.int32
    np.testing.assert_array_equal(masks[..., 0], shape_to_mask(RECT, HEIGHT, WIDTH))
    np.testing.assert_array_equal(masks[..., 1], shape_to_mask(TRIANGLE, HEIGHT, WIDTH))
    assert dataset.load_image(1).shape == (HEIGHT, WIDTH, 3)


def test_an_image_knows_its_size_from_the_header_alone(write):
    files = write(entries(a=[region(RECT)]))
    path = files[1] / "a.png"
    path.write_bytes(path.read_bytes()[:41])  # up to the pixels
    dataset = load(files)
    assert dataset.load_mask(0)[0].shape[:2] == (HEIGHT, WIDTH)
    with pytest.raises(OSError, match="a.png cannot be read"):
        dataset.load_image(0)


def test_an_image_that_pillow_cannot_open_is_measured_all_the_same(write):
    import skimage.io

    files = write(entries(a=[region(RECT)]))
    pixels = np.zeros((7, 9, 3), np.uint16)
    skimage.io.imsave(files[1] / "deep.tif", pixels, check_contrast=False)
    content = entries(a=[region(RECT)])
    content["a.png123"]["filename"] = "deep.tif"
    (info,) = load(write(content)).image_info
    assert (info["height"], info["width"]) == (7, 9)


def test_images_without_regions_are_left_out(write):
    content = entries(a=[], b=[region(RECT)], gone=[])
    dataset = load(write(content))
    assert [info["id"] for info in dataset.image_info] == ["b.png"]
    content["a.png123"]["regions"] = {}
    assert load(write(content)).num_images == 1
    assert [entry["filename"] for entry in read_via(write(content)[0])] == [
        "a.png",
        "b.png",
        "gone.png",
    ]


def test_regions_outside_their_image_are_left_out_and_logged(write, caplog):
    outside = [
        {**RECT, "x": WIDTH},
        {**RECT, "y": -9},
        {"name": "circle", "cx": -5, "cy": 5, "r": 4.5},
        {**TRIANGLE, "all_points_x": [-8, -1, -8]},
    ]
    content = entries(a=[*map(region, outside), region(RECT)], b=[region(outside[0])])
    with caplog.at_level(logging.WARNING, "mrcnn"):
        dataset = load(write(content))
    assert dataset.num_images == 1 and dataset.load_mask(0)[0].shape[-1] == 1
    (record,) = caplog.records
    assert "image 'a.png', region 0 (image of 30x20) lies outside" in record.getMessage()
    assert record.getMessage().endswith("for that: 5.")


@settings(deadline=None)
@given(st.sampled_from(["polygon", "rect", "circle", "ellipse"]), st.data())
def test_only_what_covers_no_pixel_counts_as_outside(name, data):
    """Bounds that miss the image belong to an empty mask, and hold every pixel of it else."""
    shape = data.draw(shapes(name))
    x1, y1, x2, y2 = shape_bounds(shape)
    rows, columns = np.nonzero(shape_to_mask(shape, HEIGHT, WIDTH))
    if x2 < 0 or y2 < 0 or x1 > WIDTH - 1 or y1 > HEIGHT - 1:
        assert not rows.size
    if rows.size:
        slack = 1e-9
        assert y1 - slack <= rows.min() and rows.max() <= y2 + slack
        assert x1 - slack <= columns.min() and columns.max() <= x2 + slack


def test_a_region_between_pixel_centres_is_no_object(write):
    speck = {**RECT, "x": 4.2, "y": 4.2, "width": 0.5, "height": 0.5}
    dataset = load(write(entries(a=[region(speck), region(RECT)], b=[region(speck)])))
    masks, class_ids = dataset.load_mask(0)
    np.testing.assert_array_equal(masks[..., 0], shape_to_mask(RECT, HEIGHT, WIDTH))
    assert class_ids.tolist() == [1]
    masks, class_ids = dataset.load_mask(1)
    assert masks.shape == (HEIGHT, WIDTH, 0) and class_ids.shape == (0,)


def test_a_rotation_tag_is_told(write, caplog):
    content = entries(a=[region(RECT)], b=[region(RECT)])
    content["b.png123"]["filename"] = "b.jpg"
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    _, folder = write({})
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "b.jpg", exif=exif)
    with caplog.at_level(logging.WARNING, "mrcnn"):
        dataset = load(write(content))
    assert "1 images have a camera's rotation tag, 'b.jpg'" in caplog.text
    assert dataset.load_mask(1)[0].shape[:2] == dataset.load_image(1).shape[:2]


# ---- Classes -----------------------------------------------------------------------------------


def leaves():
    return entries(
        a=[region(RECT, kind="oak"), region(TRIANGLE, kind=" ash\n")],
        b=[region(RECT, kind={"ash": False, "elm": True})],
    )


def test_classes_come_from_an_attribute(write):
    dataset = load(write(leaves()), attribute="kind")
    assert dataset.class_names == ["BG", "ash", "elm", "oak"]
    assert dataset.load_mask(0)[1].tolist() == [3, 1]
    assert dataset.load_mask(1)[1].tolist() == [2]


def test_the_order_of_classes_can_be_given(write):
    dataset = load(write(leaves()), attribute="kind", classes=["oak", "fir", "elm", "ash"])
    assert dataset.class_names == ["BG", "oak", "fir", "elm", "ash"]
    assert dataset.load_mask(0)[1].tolist() == [1, 4]
    assert load(write(leaves()), classes=["leaf"]).class_names == ["BG", "leaf"]


def test_numbers_are_labels_too(write):
    dataset = load(write(entries(a=[region(RECT, kind=7)])), attribute="kind")
    assert dataset.class_names == ["BG", "7"]


def test_a_second_file_has_the_classes_of_the_first(write):
    dataset = ViaDataset()
    dataset.add_class("stone", 1, "granite")
    dataset.load_via(*write(leaves()), attribute="kind")
    path, folder = write(entries(c=[region(RECT, kind="oak")]))
    dataset.load_via(path, folder, attribute="kind")
    dataset.prepare()
    assert dataset.class_names == ["BG", "granite", "ash", "elm", "oak"]
    assert [dataset.load_mask(i)[1].tolist() for i in range(3)] == [[4, 2], [3], [4]]
    with pytest.raises(ValueError, match=r"classes is \['oak'\].*'via' has \['ash', 'elm', 'oak'"):
        dataset.load_via(path, folder, attribute="kind", classes=["oak"])


def test_class_ids_that_were_added_before_are_kept(write):
    dataset = ViaDataset()
    dataset.add_class("leaf", 12, "ash")
    dataset.add_class("leaf", 5, "oak")
    path, folder = write(entries(a=[region(RECT, kind="oak")]))
    dataset.load_via(path, folder, source="leaf", attribute="kind")
    dataset.prepare()
    assert dataset.load_mask(0)[1].tolist() == [2]
    assert dataset.get_source_class_id(2, "leaf") == 5


def test_images_of_another_source_have_no_masks_here(write):
    dataset = ViaDataset()
    dataset.add_image("other", 0, path=None)
    assert dataset.load_mask(0)[0].shape[-1] == 0
    assert isinstance(dataset, Dataset)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({}, "attribute 'kind' is None; it has the attributes none"),
        ({"name": "x", "b": "y"}, "attribute 'kind' is None; it has the attributes name, b"),
        ({"kind": "  "}, "attribute 'kind' is '  '"),
        ({"kind": {"ash": True, "elm": True}}, "attribute 'kind' is {'ash': True, 'elm': True}"),
        ({"kind": {}}, "attribute 'kind' is {}"),
        ({"kind": [1]}, r"attribute 'kind' is \[1\]"),
    ],
)
def test_a_region_without_a_class_is_named(write, attributes, message):
    content = entries(b=[region(RECT, kind="ash"), region(RECT, **attributes)])
    with pytest.raises(ValueError, match=f"via.json: image 'b.png', region 1 .*{message}"):
        load(write(content), attribute="kind")


def test_an_unknown_class_is_named(write):
    with pytest.raises(
        ValueError, match="'a.png', region 1 has the unknown class 'ash'.* oak, elm"
    ):
        load(write(leaves()), attribute="kind", classes=["oak", "elm"])


@pytest.mark.parametrize("classes", ["leaf", ["a", "b", "a"]])
def test_classes_must_be_a_list_of_different_names(write, classes):
    with pytest.raises(ValueError, match="must be a list of different names"):
        load(write(leaves()), attribute="kind", classes=classes)


def test_several_classes_need_an_attribute(write):
    with pytest.raises(ValueError, match="classes oak, ash, so `attribute` must name"):
        load(write(leaves()), classes=["oak", "ash"])


# ---- What is refused ---------------------------------------------------------------------------


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.json"):
        load((tmp_path / "nowhere.json", tmp_path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not a JSON file"),
        ("[]", "is not a file of VIA 1 or 2: it holds a list"),
        ({"images": [], "categories": []}, "holds an object with images, categories, and must"),
        ({"x": {"file": "a.png"}}, "is not a file of VIA"),
        ({"x": {"filename": "a.png"}}, "image 'a.png' has no regions; .* empty list"),
        ({"x": {"filename": "a.png", "regions": None}}, "image 'a.png' has the regions None; they"),
        ({"x": {"filename": 3, "regions": []}}, "is not a file of VIA"),
        ({"_via_img_metadata": 3}, "is not a file of VIA"),
        ({"x": {"filename": "a.png", "regions": "none"}}, "has the regions 'none'; they must be"),
        ({**entries(a=[]), "y": 3}, "entry 'y' is 3; it must be an object"),
        ({**entries(a=[]), "y": {"filename": 3}}, "entry 'y' has the filename 3; it must be text"),
        ({}, "has no annotated image; images in it: 0"),
        ({"_via_img_metadata": {}}, "has no annotated image; images in it: 0"),
        (entries(a=[], b=[]), "has no annotated image; images in it: 2"),
        (entries(a=[region({**RECT, "x": 99})]), "region 0 .* lies outside the image, and so do"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(write, content, message):
    with pytest.raises(ValueError, match=f"via.json.*{message}"):
        load(write(content))


def polygon(xs, ys, name="polygon"):
    return {"name": name, "all_points_x": xs, "all_points_y": ys}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (3, "has no shape_attributes"),
        ({"region_attributes": {}}, "has no shape_attributes"),
        ({"shape_attributes": RECT, "region_attributes": "ash"}, "region_attributes 'ash'"),
        (region({"name": "point", "cx": 1, "cy": 2}), "is a point, .* one of polygon, polyline"),
        (region({"name": "star"}), "has the shape 'star'; known are polygon"),
        (region({}), "has the shape None"),
        (region({"name": ["rect"]}), r"has the shape \['rect'\]"),
        (region({"name": "polygon"}), "polygon without the lists"),
        (region(polygon([1, 2, 3], [1, 2])), "polygon with 3 x and 2 y coordinates"),
        (region(polygon([1, 2], [1, 2])), "polygon with fewer than three different points: 2"),
        (region(polygon([], [], "polyline")), "polyline with fewer than three .* points: 0"),
        (region(polygon([1, 5, 1], [1, 2, 1])), "polygon with fewer than three .* points: 2"),
        (region(polygon([1, "5", 1], [1, 2, 3])), "with the coordinate '5'"),
        (region(polygon([1, math.nan, 1], [1, 2, 3])), "with the coordinate nan"),
        (region(polygon([1, 2, 1], [1, 2, 1e300])), r"with the coordinate 1e\+300"),
        (region(polygon([1, True, 1], [1, 2, 3])), "with the coordinate True"),
        (region({**RECT, "width": 0}), "rect with width 0; it must be a positive number of pixels"),
        (region({**RECT, "x": None}), "rect with x None; it must be a number"),
        (region({"name": "circle", "cx": 1, "cy": 1}), "circle with r None"),
        (region({"name": "circle", "cx": 1, "cy": 1, "r": -2}), "circle with r -2"),
        (
            region({"name": "ellipse", "cx": 1, "cy": 1, "rx": 2, "ry": 3, "theta": "0"}),
            "ellipse with theta '0'; it must be an angle in radians",
        ),
    ],
)
def test_a_region_that_cannot_be_used_is_named(write, bad, message):
    content = entries(a=[region(RECT)], b=[region(RECT), bad])
    with pytest.raises(ValueError, match=f"via.json: image 'b.png', region 1 .*{message}"):
        load(write(content))


def test_a_missing_image_is_named(write):
    content = entries(a=[region(RECT)], gone=[region(RECT)], lost=[region(RECT)])
    with pytest.raises(FileNotFoundError, match=r"via.json: image 'gone.png'.*2 of 3 images"):
        load(write(content))


def test_a_damaged_image_is_named(write):
    files = write(entries(a=[region(RECT)]))
    (files[1] / "a.png").write_bytes(b"no image")
    with pytest.raises(OSError, match="a.png cannot be read as an image"):
        load(files)


def test_an_image_annotated_twice_is_named(write):
    content = entries(a=[region(RECT)], b=[])
    content["a.png99"] = content["a.png123"]
    with pytest.raises(ValueError, match="two entries with regions are of image 'a.png'"):
        load(write(content))
    content["a.png99"] = {**content["a.png123"], "regions": []}
    assert load(write(content)).num_images == 1


def test_nothing_is_added_of_a_file_that_is_refused(write):
    dataset = ViaDataset()
    with pytest.raises(ValueError, match="fewer than three"):
        dataset.load_via(*write(entries(a=[region(RECT)], b=[region(polygon([1], [1]))])))
    assert dataset.image_info == [] and len(dataset.class_info) == 1


def bad_file():
    """An entry without regions, bad regions in two others, an image that is not there."""
    speck = region(polygon([1, 2], [1, 2]), kind="oak")
    content = entries(
        a=[region(RECT, kind="oak"), speck, region({"name": "point"}, kind="oak")],
        b=[speck],
        c=[region(TRIANGLE, kind="ash")],
        gone=[region(RECT, kind="oak")],
    )
    content["d.png1"] = {"filename": "d.png", "size": 1}
    return content


def test_all_bad_entries_are_named_at_once(write):
    path, folder = write(bad_file())
    with pytest.raises(ValueError) as error:
        load((path, folder))
    first, *lines = str(error.value).split("\n")
    assert first == f"{path}: 4 entries cannot be used; skip_invalid=True leaves them out:"
    assert [line.split(" is ")[0].split(" has ")[0].strip() for line in lines] == [
        "image 'a.png', region 1",
        "image 'a.png', region 2",
        "image 'b.png', region 0",
        "image 'd.png'",
    ]


def test_bad_entries_can_be_left_out(write, caplog):
    dataset = load(write(bad_file()), attribute="kind", skip_invalid=True)
    assert [info["id"] for info in dataset.image_info] == ["a.png", "c.png"]
    assert dataset.class_names == ["BG", "ash", "oak"]
    assert [dataset.load_mask(i)[1].tolist() for i in range(2)] == [[2], [1]]
    assert "4 entries cannot be used and are left out" in caplog.text
    assert "image 'gone.png' is not there" in caplog.text
    assert len(read_via(write(bad_file())[0], skip_invalid=True)) == 4


def test_regions_without_a_known_class_can_be_left_out(write, caplog):
    content = entries(
        a=[region(RECT, kind="elm"), region(RECT, kind="oak"), region(TRIANGLE)],
        b=[region(RECT, kind="elm")],
    )
    files = write(content)
    with pytest.raises(
        ValueError, match="2 entries .*\n.*'a.png', region 0 .*\n.*'b.png', region 0"
    ):
        content["a.png123"]["regions"].pop()
        load(write(content), attribute="kind", classes=["oak"])
    files[0].write_text(json.dumps(content | entries(a=[region(RECT), region(RECT, kind="oak")])))
    dataset = load(files, attribute="kind", classes=["oak"], skip_invalid=True)
    assert [info["id"] for info in dataset.image_info] == ["a.png"]
    assert dataset.load_mask(0)[1].tolist() == [1]
    assert "'a.png', region 0 has no class" in caplog.text
    assert "'b.png', region 0 has the unknown class 'elm'" in caplog.text
    with pytest.raises(ValueError, match="has no region that can be used"):
        load(files, attribute="kind", classes=["fir"], skip_invalid=True)


def test_damaged_and_doubled_images_can_be_left_out(write, caplog):
    content = entries(a=[region(RECT)], b=[region(RECT)])
    content["b.png9"] = content["b.png123"]
    files = write(content)
    (files[1] / "a.png").write_bytes(b"no image")
    dataset = load(files, skip_invalid=True)
    assert [info["id"] for info in dataset.image_info] == ["b.png"]
    assert "image 'a.png' cannot be used: " in caplog.text
    assert "two entries with regions are of image 'b.png'" in caplog.text
    (files[1] / "b.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="via.json has no image that can be used"):
        load(files, skip_invalid=True)


def test_something_must_be_left(write):
    content = entries(a=[region(polygon([1], [1]))])
    with pytest.raises(ValueError, match="has no annotated image; images in it: 1"):
        load(write(content), skip_invalid=True)


def test_names_of_another_spelling_are_taken(write, caplog):
    content = entries(a=[region(RECT)], b=[region(RECT)])
    content["a.png123"]["filename"] = "C:\\photos\\a.png"
    files = write(content)
    dataset = load(files)
    assert dataset.image_info[0]["path"] == f"{files[1]}/a.png"
    assert dataset.load_image(0).shape == (HEIGHT, WIDTH, 3)
    assert "1 file names are spelled otherwise" in caplog.text
    content["a.png123"]["filename"] = "../a.png"
    with pytest.raises(ValueError, match="image '../a.png' has .* leads out of the image folder"):
        load(write(content))


@pytest.mark.parametrize("value", [10**400, [10**400], "[" * 5000 + "]" * 5000, "9" * 5000])
def test_huge_numbers_and_deep_nesting_are_an_error_that_names_the_file(write, value):
    text = json.dumps(entries(a=[region({**RECT, "x": "VALUE"})]))
    text = text.replace('"VALUE"', value if isinstance(value, str) else json.dumps(value))
    with pytest.raises(ValueError, match="via.json") as error:
        load(write(text))
    assert len(str(error.value)) < 500


def test_an_image_header_is_not_believed(write):
    files = write(entries(a=[region(RECT)]))
    data = bytearray((files[1] / "a.png").read_bytes())
    data[16:24] = (100_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    (files[1] / "a.png").write_bytes(data)
    with pytest.raises((OSError, ValueError), match="a.png"):
        load(files)


def test_a_polygon_that_takes_too_much_memory_is_named(write, monkeypatch):
    dataset = load(write(entries(a=[region(TRIANGLE)])))
    monkeypatch.setattr(drawing, "_MOST_CROSSINGS", 5)
    with pytest.raises(
        ValueError, match="via.json: image 'a.png' has a polygon that has an outline"
    ):
        dataset.load_mask(0)


def test_keys_of_other_tools_do_not_matter(write):
    extra = {**region(RECT, kind="oak"), "label": "no", "number": "no"}
    assert load(write(entries(a=[extra]))).load_mask(0)[1].tolist() == [1]
    assert load(write(entries(a=[extra])), attribute="kind").class_names == ["BG", "oak"]


# ---- Masks -------------------------------------------------------------------------------------


@st.composite
def shapes(draw, name):
    if name == "polygon":
        corners = draw(points(quarters(-20, 50), quarters(-20, 40)))
        return polygon(*map(list, zip(*corners, strict=True)))
    keys = [key for key in SHAPES[name] if key not in via._LENGTHS]
    shape = {key: draw(st.floats(-30, 60)) for key in keys}
    shape |= {key: draw(st.floats(0.1, 20)) for key in set(SHAPES[name]) - set(keys)}
    return {"name": name, **shape}


def test_a_rect_covers_what_the_polygon_of_its_corners_does():
    mask = shape_to_mask(RECT, HEIGHT, WIDTH)
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[3:9, 2:7] = True
    np.testing.assert_array_equal(mask, expected)
    corners = polygon([2, 6, 6, 2, 2], [3, 3, 8, 8, 3])
    np.testing.assert_array_equal(mask, shape_to_mask(corners, HEIGHT, WIDTH))


def test_a_polyline_is_closed():
    line = polygon([2, 20, 9], [2, 4, 18], "polyline")
    expected = polygon_to_mask([2, 20, 9], [2, 4, 18], HEIGHT, WIDTH)
    np.testing.assert_array_equal(shape_to_mask(line, HEIGHT, WIDTH), expected)
    assert expected.sum() > 100


def test_a_circle_covers_pixels_at_most_its_radius_away():
    mask = shape_to_mask({"name": "circle", "cx": 7, "cy": 8, "r": 5}, HEIGHT, WIDTH)
    expected = [[(x - 7) ** 2 + (y - 8) ** 2 <= 25 for x in range(WIDTH)] for y in range(HEIGHT)]
    np.testing.assert_array_equal(mask, expected)
    assert mask[8, 12] and mask[12, 10] and not mask[12, 11]


def test_theta_turns_clockwise_from_the_x_axis():
    """An eighth of a turn: the long axis goes down to the right."""
    shape = {"name": "ellipse", "cx": 10, "cy": 10, "rx": 9, "ry": 1, "theta": math.pi / 4}
    mask = shape_to_mask(shape, HEIGHT, WIDTH)
    assert mask[15, 15] and mask[5, 5] and not mask[5, 15] and not mask[15, 5]
    upright = shape_to_mask({**shape, "theta": math.pi / 2}, HEIGHT, WIDTH)
    assert upright[2:19, 10].all() and not upright[10, 2]
    flat = {key: value for key, value in shape.items() if key != "theta"}
    assert shape_to_mask(flat, HEIGHT, WIDTH)[10, 1:20].all()
