"""Supervisely's projects as the platform exports them; what is refused; round trips."""

import base64
import io
import json
import logging
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from mrcnn.data.convert import convert
from mrcnn.data.formats.objects import LabelledObject, class_names, labelled_images
from mrcnn.data.formats.supervisely import (
    SuperviselyDataset,
    decode_bitmap,
    encode_bitmap,
    geometry_to_mask,
    is_supervisely,
    read_meta,
    tag_names,
    write_supervisely,
)
from tests.data.formats.labelled import (
    assert_same,
    image_sets,
    new_folders,
    without_crowds,
    write_images,
)
from tests.supervisely import projects

HEIGHT, WIDTH = 8, 10
CLASSES = [("lemon", "polygon"), ("kiwi", "bitmap"), ("box", "rectangle"), ("thing", "any")]
SQUARE = [[1, 1], [5, 1], [5, 5], [1, 5]]
SPOT = np.array([[True, False, True], [True, True, False]])


def png_of(mask, mode="RGBA"):
    """The PNG of a mask, as Supervisely's library (RGBA) or the platform (LA, P) packs it."""
    alpha = Image.fromarray(np.where(mask, 255, 0).astype(np.uint8))
    options = {}
    if mode in ("RGBA", "LA"):
        # The colour says nothing: it is white everywhere.
        picture = Image.new(mode, alpha.size, (255,) * len(mode))
        picture.putalpha(alpha)
    elif mode == "P":
        picture = Image.fromarray(mask.astype(np.uint8))
        picture.putpalette([255, 255, 255, 255, 255, 255])
        options = {"transparency": 0}
    elif mode == "I;16":
        # No value of these survives a cut to 8 bits at either end.
        picture = Image.fromarray(np.where(mask, 256, 0).astype(np.uint16))
    else:
        picture = alpha.convert(mode)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", **options)
    return buffer.getvalue()


def in_base64(data):
    return base64.b64encode(data).decode()


def data_of(mask, mode="RGBA"):
    return in_base64(zlib.compress(png_of(mask, mode)))


def polygon(exterior=SQUARE, *interior, title="lemon", **more):
    """An object with all that the platform writes beside its area."""
    return {
        "id": 497521359,
        "classId": 1661571,
        "description": "",
        "geometryType": "polygon",
        "labelerLogin": "alexxx",
        "createdAt": "2020-08-07T11:09:51.054Z",
        "updatedAt": "2020-08-07T11:09:51.054Z",
        "tags": [],
        "classTitle": title,
        "points": {"exterior": exterior, "interior": list(interior)},
        **more,
    }


def rectangle(corners, title="box"):
    return polygon(corners, title=title, geometryType="rectangle")


def bitmap(data=None, origin=(2, 3), title="kiwi", **more):
    data = data_of(SPOT) if data is None else data
    found = polygon(title=title, geometryType="bitmap", **more)
    del found["points"]
    return {**found, "bitmap": {"data": data, "origin": list(origin)}}


def multipolygon(*parts, title="thing"):
    found = polygon(title=title, geometryType="multipolygon")
    del found["points"]
    return {**found, "parts": [{"exterior": ring, "interior": []} for ring in parts]}


def write_meta(folder, classes=CLASSES):
    folder.mkdir(parents=True, exist_ok=True)
    entries = [
        {"title": title, "shape": shape, "color": "#D0021B", "geometry_config": {}, "id": number}
        for number, (title, shape) in enumerate(classes)
    ]
    meta = {"classes": entries, "tags": [], "projectType": "images"}
    (folder / "meta.json").write_text(json.dumps(meta))


def write_image(folder, name, size=(WIDTH, HEIGHT)):
    path = folder / "img" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (1, 2, 3)).save(path)


def write_annotation(folder, name, *objects, **more):
    content = {
        "description": "",
        "tags": [],
        "size": {"height": HEIGHT, "width": WIDTH},
        "objects": list(objects),
        **more,
    }
    path = folder / "ann" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def make(project, *objects, image="ds1/a.png", **more):
    """Write a project with one image of 10x8 (width x height), or add one."""
    write_meta(project)
    dataset, _, name = image.rpartition("/")
    write_image(project / dataset, name)
    write_annotation(project / dataset, f"{name}.json", *objects, **more)


def load(project, *args, **kwargs):
    dataset = SuperviselyDataset()
    dataset.load_supervisely(project, *args, **kwargs)
    dataset.prepare()
    return dataset


def drawn(*areas, size=(HEIGHT, WIDTH)):
    """A mask with these areas (top, left, bottom, right), the last row and column included."""
    mask = np.zeros(size, bool)
    for top, left, bottom, right in areas:
        mask[top : bottom + 1, left : right + 1] = True
    return mask


# ---- Projects as the platform writes them ------------------------------------------------------


def test_every_geometry(tmp_path):
    make(
        tmp_path,
        polygon(),
        polygon(SQUARE, [[2, 2], [4, 2], [4, 4], [2, 4]]),
        bitmap(),
        rectangle([[2, 3], [4, 6]]),
        multipolygon([[0, 0], [1, 0], [1, 1], [0, 1]], [[6, 6], [8, 6], [8, 7], [6, 7]]),
    )
    assert is_supervisely(tmp_path)
    dataset = load(tmp_path)
    assert dataset.class_names == ["BG", "lemon", "kiwi", "box", "thing"]
    masks, class_ids = dataset.load_mask(0)
    assert masks.dtype == bool and class_ids.dtype == np.int32
    np.testing.assert_array_equal(class_ids, [1, 1, 2, 3, 4])
    wanted = [
        drawn((1, 1, 5, 5)),
        drawn((1, 1, 5, 5)) & ~drawn((2, 2, 4, 4)),
        drawn((3, 2, 3, 2), (3, 4, 3, 4), (4, 2, 4, 3)),
        drawn((3, 2, 6, 4)),
        drawn((0, 0, 1, 1), (6, 6, 7, 8)),
    ]
    np.testing.assert_array_equal(masks, np.stack(wanted, axis=-1))
    assert dataset.load_image(0).shape == (HEIGHT, WIDTH, 3)
    assert dataset.image_info[0]["id"] == "ds1/a.png"


def test_rings_of_polygons_without_holes(tmp_path):
    outside = bitmap(origin=(-5, -5))  # known only when it is decoded
    make(
        tmp_path, outside, polygon(), polygon(SQUARE, SQUARE[:3]), bitmap(), rectangle(SQUARE[::2])
    )
    dataset = load(tmp_path)
    rings = dataset.load_rings(0)
    assert dataset.load_mask(0)[0].shape[2] == len(rings) == 4
    np.testing.assert_array_equal(rings[0], np.array(SQUARE) + 0.5)
    assert rings[0].dtype == np.float64
    assert rings[1:] == [None] * 3


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "1", "RGB", "I;16"])
@pytest.mark.parametrize("pack", [zlib.compress, bytes])
def test_every_kind_of_png(mode, pack):
    data = in_base64(pack(png_of(SPOT, mode)))
    np.testing.assert_array_equal(decode_bitmap(data, 2, 3), SPOT)


def test_a_bitmap_that_is_stored_with_its_largest_size():
    """Sixteen bits for each of four channels that cannot be compressed are not too large."""
    noise = np.random.default_rng(0).integers(0, 256, 40 * 30 * 8 + 40, dtype=np.uint8)
    rows = noise.reshape(40, 241)
    rows[:, 0] = 0  # no filter

    def chunk(kind, content):
        summed = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", summed)

    header = struct.pack(">IIBBBBB", 30, 40, 16, 6, 0, 0, 0)
    pixels = zlib.compress(rows.tobytes(), 0)
    png = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )
    found = decode_bitmap(in_base64(zlib.compress(png)), 40, 30)
    np.testing.assert_array_equal(found, rows[:, 1:].reshape(40, 30, 8)[:, :, 6] > 0)


@settings(deadline=None)
@given(hnp.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_bitmaps_there_and_back(mask):
    np.testing.assert_array_equal(decode_bitmap(encode_bitmap(mask), *mask.shape), mask)
    # Supervisely's decoder takes the fourth channel.
    png = zlib.decompress(base64.b64decode(encode_bitmap(mask)))
    alpha = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))[:, :, 3]
    np.testing.assert_array_equal(alpha > 0, mask)


@settings(deadline=None)
@given(
    hnp.arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 6))),
    st.tuples(st.integers(-8, 12), st.integers(-8, 12)),
)
def test_bitmaps_are_cut_at_the_edges(spot, origin):
    height, width = 6, 6
    wanted = np.zeros((height, width), bool)
    for y, x in np.argwhere(spot):
        row, column = y + origin[1], x + origin[0]
        if 0 <= row < height and 0 <= column < width:
            wanted[row, column] = True
    geometry = {"data": encode_bitmap(spot), "origin": list(origin)}
    np.testing.assert_array_equal(geometry_to_mask("bitmap", geometry, height, width), wanted)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-9, 15), st.integers(-9, 15)), min_size=2, max_size=2))
def test_rectangles_include_both_corners(corners):
    (x1, y1), (x2, y2) = corners
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    wanted = (y >= min(y1, y2)) & (y <= max(y1, y2)) & (x >= min(x1, x2)) & (x <= max(x1, x2))
    geometry = {"parts": [{"exterior": [list(c) for c in corners], "interior": []}]}
    found = geometry_to_mask("rectangle", geometry, HEIGHT, WIDTH)
    np.testing.assert_array_equal(found, wanted)
    ring = [[x1, y1], [x2, y1], [x2, y2], [x1, y2]]
    geometry = {"parts": [{"exterior": ring, "interior": []}]}
    found = geometry_to_mask("polygon", geometry, HEIGHT, WIDTH)
    np.testing.assert_array_equal(found, wanted)


def test_polygons_far_beyond_the_image():
    ring = [[-1e7, -1e7], [1e7, -1e7], [1e7, 3], [-1e7, 3]]
    geometry = {"parts": [{"exterior": ring, "interior": []}]}
    found = geometry_to_mask("polygon", geometry, HEIGHT, WIDTH)
    np.testing.assert_array_equal(found, drawn((0, 0, 3, 9)))


def test_a_hole_belongs_to_its_own_part():
    whole = {"exterior": SQUARE, "interior": []}
    pierced = {"exterior": SQUARE, "interior": [[[2, 2], [3, 2], [3, 3], [2, 3]]]}
    found = geometry_to_mask("multipolygon", {"parts": [whole, pierced]}, HEIGHT, WIDTH)
    np.testing.assert_array_equal(found, drawn((1, 1, 5, 5)))


def test_points_are_rounded(tmp_path):
    make(tmp_path, rectangle([[1.5, 2.5], [3.4, 4.6]]), bitmap(origin=(1.6, 0.5)))
    masks, _ = load(tmp_path).load_mask(0)
    np.testing.assert_array_equal(masks[:, :, 0], drawn((2, 2, 5, 3)))
    np.testing.assert_array_equal(masks[:2, 2:5, 1], SPOT)


def test_datasets_in_datasets(tmp_path):
    make(tmp_path, polygon(), image="fruit/a.png")
    make(tmp_path, bitmap(), image="fruit/datasets/ripe/a.png")
    make(tmp_path, image="fruit/datasets/ripe/datasets/red/b.jpg")
    make(tmp_path, image="more/datasets/inner/c.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / ".hidden/ann").mkdir(parents=True)
    dataset = load(tmp_path)
    names = [info["id"] for info in dataset.image_info]
    assert names == ["fruit/a.png", "fruit/ripe/a.png", "fruit/ripe/red/b.jpg", "more/inner/c.png"]
    assert [dataset.load_mask(i)[1].tolist() for i in range(4)] == [[1], [2], [], []]
    assert dataset.load_mask(2)[0].shape == (HEIGHT, WIDTH, 0)
    assert dataset.load_rings(2) == []
    assert [image.name for image in labelled_images(dataset)] == names


def test_a_link_that_leads_back_up_has_an_end(tmp_path):
    make(tmp_path, polygon())
    try:
        (tmp_path / "ds1/datasets").symlink_to(tmp_path, target_is_directory=True)
    except OSError:
        pytest.skip("this system makes no links")
    assert 1 < len(load(tmp_path).image_info) < 50


def test_annotations_named_by_stem(tmp_path):
    write_meta(tmp_path)
    for name in ("a.jpg", "b.c.jpg", "d.png", "d.png.jpg"):
        write_image(tmp_path / "ds", name)
    write_annotation(tmp_path / "ds", "a.json", polygon())
    write_annotation(tmp_path / "ds", "b.c.json", bitmap())
    write_annotation(tmp_path / "ds", "d.png.json", bitmap(), bitmap())
    write_annotation(tmp_path / "ds", "d.png.jpg.json", polygon(), polygon())
    dataset = load(tmp_path)
    found = {info["id"]: info["class_ids"] for info in dataset.image_info}
    wanted = {"ds/a.jpg": [1], "ds/b.c.jpg": [2], "ds/d.png": [2, 2], "ds/d.png.jpg": [1, 1]}
    assert found == wanted


def test_old_files_state_the_shape_in_the_class_only(tmp_path):
    objects = [polygon(), bitmap(), rectangle([[2, 3], [4, 6]]), bitmap(title="thing")]
    objects.append(polygon(title="thing", bitmap=None))
    for each in objects:
        del each["geometryType"]
    # All had both fields.
    objects[1]["points"] = {"exterior": [], "interior": []}
    objects[3]["points"] = {"exterior": [], "interior": []}
    make(tmp_path, *objects)
    masks, _ = load(tmp_path).load_mask(0)
    assert masks.sum(axis=(0, 1)).tolist() == [25, 4, 12, 4, 25]


def test_given_classes(tmp_path):
    make(tmp_path, polygon(), bitmap())
    dataset = load(tmp_path, "fruit", classes=("kiwi", "lemon", "plum"))
    assert dataset.class_names == ["BG", "kiwi", "lemon", "plum"]
    assert dataset.load_mask(0)[1].tolist() == [2, 1]
    assert {info["source"] for info in dataset.class_info[1:]} == {"fruit"}


def test_several_projects(tmp_path):
    make(tmp_path / "one", polygon())
    make(tmp_path / "two", bitmap())
    dataset = SuperviselyDataset()
    dataset.load_supervisely(tmp_path / "one")
    dataset.load_supervisely(tmp_path / "two")
    dataset.prepare()
    assert [dataset.load_mask(i)[1].tolist() for i in range(2)] == [[1], [2]]
    write_meta(tmp_path / "two", [("kiwi", "bitmap")])
    with pytest.raises(ValueError, match="the source 'supervisely' has .* already; give `classes`"):
        dataset.load_supervisely(tmp_path / "two")


def test_classes_without_an_area_are_named_in_the_log(tmp_path, caplog):
    make(tmp_path, polygon())
    write_meta(tmp_path, [("stalk", "point"), *CLASSES, ("vein", "line")])
    with caplog.at_level(logging.WARNING, "mrcnn"):
        assert load(tmp_path).class_names == ["BG", "lemon", "kiwi", "box", "thing"]
    assert "classes without an area are left out: stalk (point), vein (line)." in caplog.text


def test_objects_outside_the_image_are_left_out(tmp_path, caplog):
    far = [[20, 20], [30, 20], [30, 30]]
    make(
        tmp_path,
        polygon(far),
        polygon([[-3, 0], [-1, 0], [-1, 4]]),
        multipolygon(far, far),
        multipolygon(far, SQUARE),
        rectangle([[0, HEIGHT], [4, 20]]),
        bitmap(origin=(WIDTH, 0)),
        bitmap(origin=(0, HEIGHT)),
        bitmap(origin=(WIDTH - 1, HEIGHT - 1)),
        bitmap(origin=(-3, 0)),  # known only when it is decoded
    )
    with caplog.at_level(logging.WARNING, "mrcnn"):
        dataset = load(tmp_path)
    message = "image ds1/a.png, object 0 (polygon) lies outside its image; objects left out for th"
    assert message in caplog.text and "at: 6." in caplog.text
    masks, class_ids = dataset.load_mask(0)
    assert class_ids.tolist() == [4, 2]
    assert masks[:, :, 1].sum() == 1 and masks[-1, -1, 1]
    assert [ring is None for ring in dataset.load_rings(0)] == [True, True]


def test_very_many_objects(tmp_path):
    make(tmp_path, *[rectangle([[i % WIDTH, i % HEIGHT]] * 2) for i in range(1000)])
    masks, _ = load(tmp_path).load_mask(0)
    assert masks.shape == (HEIGHT, WIDTH, 1000)
    assert (masks.sum(axis=(0, 1)) == 1).all()


def test_images_of_another_source_have_no_masks(tmp_path):
    make(tmp_path, polygon())
    dataset = SuperviselyDataset()
    dataset.load_supervisely(tmp_path)
    dataset.add_image("supervisely", "x", tmp_path / "ds1/img/a.png")
    dataset.prepare()
    assert dataset.load_mask(1)[0].shape == (0, 0, 0)
    assert dataset.load_rings(1) == []


# ---- What is refused ---------------------------------------------------------------------------


def polygon_of(**points):
    return {**polygon(), "points": points}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (7, "is 7; it must be a JSON object"),
        (polygon(title="pear"),
         "has the unknown class 'pear'; the classes are lemon, kiwi, box, thing"),
        (polygon(title=["lemon"]), r"has the unknown class \['lemon'\]"),
        ({"points": {}}, "has the unknown class None"),
        (polygon(geometryType="point"),
         "is a point, which has no area; Mask R-CNN needs one of bitmap, polygon, multi"),
        (polygon(geometryType=7), "is a 7, which has no area"),
        (bitmap() | {"bitmap": None}, "has the bitmap None; it must have `data`, a string, and"),
        (bitmap() | {"bitmap": {"data": 7}}, "has the bitmap {'data': 7}; it must have"),
        (bitmap(origin=[1]), r"has the origin \[1\]; it must be \[x, y\] in pixels"),
        (bitmap(origin=[1, float("nan")]), r"has the origin \[1, nan\]; it must be"),
        (bitmap() | {"bitmap": {"data": ""}}, "has the origin None; it must be"),
        (rectangle(SQUARE), r"has the corners .*; a rectangle is \[\[left, top\], \[right, bottom"),
        (rectangle([[1, 1], [2, "2"]]), r"has the corners \[\[1, 1\], \[2, '2'\]\]; a rectangle"),
        (rectangle(None), "has the corners None; a rectangle is"),
        (polygon() | {"points": None}, "has the exterior None; it must be a list of at least thre"),
        (polygon([]), r"has the exterior \[\]; it must be a list of at least three points"),
        (polygon(SQUARE[:2]), r"has the exterior \[\[1, 1\], \[5, 1\]\]; it must be a list of at"),
        (polygon([*SQUARE, [1, 2, 3]]),
         r"has the point \[1, 2, 3\] in its exterior; a point is \[x, y\] in pixels"),
        (polygon([*SQUARE, [1, 1e300]]), r"has the point \[1, 1e\+300\] in its exterior"),
        (polygon([*SQUARE, [1, True]]), r"has the point \[1, True\] in its exterior"),
        (polygon([*SQUARE, 10**400]), "has the point 1000.* in its exterior"),
        (polygon_of(exterior=SQUARE, interior=None),
         "has the interior None; it must be a list of holes"),
        (polygon(SQUARE, [[1, 1]]), r"has the hole \[\[1, 1\]\]; it must be a list of at least"),
        (polygon(SQUARE, SQUARE, [*SQUARE, None]), "has the point None in its hole; a point is"),
        (multipolygon() | {"parts": None}, "has the parts None; it must be a list of polygons"),
        (multipolygon(), r"has the parts \[\]; it must be a list of polygons"),
        (multipolygon(SQUARE, []), r"has the exterior \[\]; it must be a list of at least three"),
        (multipolygon() | {"parts": [7]}, "has the exterior None; it must be a list of at least"),
    ],
)  # fmt: skip
def test_objects_that_cannot_be_used(tmp_path, caplog, wrong, message):
    make(tmp_path, polygon(), wrong)
    with pytest.raises(ValueError, match=f"image ds1/a.png, object 1 {message}") as error:
        load(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "With skip_invalid=True it is left out" in str(error.value)
    with caplog.at_level(logging.WARNING, "mrcnn"):
        masks, class_ids = load(tmp_path, skip_invalid=True).load_mask(0)
    assert class_ids.tolist() == [1] and masks.sum() == 25
    assert "1 entries cannot be used and are left out" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no", "cannot be used: .*bad.png.json is not a JSON file"),
        ("[" * 100_000, "cannot be used: .*bad.png.json (is not a JSON|cannot be read)"),
        ("[]", "has an annotation that holds a list; it must be an object with `size` and a list"),
        ("{}", "has an annotation that holds an object with nothing; it must be"),
        ('{"objects": {}}', "has an annotation that holds an object with objects; it must be"),
        ('{"objects": []}', "has the height None; it must be a whole number of pixels"),
        ('{"objects": [], "size": {"height": 8, "width": "10"}}', "has the width '10'; it must be"),
        ('{"objects": [], "size": {"height": 100000, "width": 100000}}',
         "has 100000x100000 pixels .*; an image may have at most"),
        ('{"objects": [], "size": {"height": 10, "width": 8}}',
         r"has 8x10 pixels \(height x width\), and its annotation states 10x8; both must be of on"),
    ],
)  # fmt: skip
def test_annotations_that_cannot_be_used(tmp_path, content, message):
    make(tmp_path, polygon())
    write_image(tmp_path / "ds1", "bad.png")
    (tmp_path / "ds1/ann/bad.png.json").write_text(content)
    with pytest.raises(ValueError, match=f"image ds1/bad.png {message}"):
        load(tmp_path)
    found = load(tmp_path, skip_invalid=True).image_info
    assert [info["id"] for info in found] == ["ds1/a.png"]


@pytest.mark.parametrize(
    ("images", "annotations", "message"),
    [
        (["bad.png"], [], "ds1/img/bad.png has no annotation ann/bad.png.json"),
        ([], ["bad.png.json"], "ds1/ann/bad.png.json has no image; an annotation has the name of"),
        ([], ["bad.json"], "ds1/ann/bad.json has no image"),
        (["b.jpg", "b.png"], ["b.jpg.json", "b.png.json", "b.json"],
         "ds1/ann/b.json could belong to b.jpg, b.png; an annotation has the name of its image w"),
        ([], ["a.json"], "is a second annotation of a.png; an image must have one"),
    ],
)  # fmt: skip
def test_what_has_no_partner_or_two(tmp_path, images, annotations, message):
    make(tmp_path, polygon())
    for name in images:
        write_image(tmp_path / "ds1", name)
    for name in annotations:
        write_annotation(tmp_path / "ds1", name)
    with pytest.raises(ValueError, match=f"{message}.*With skip_invalid=True it is left out"):
        load(tmp_path)
    found = [info["id"] for info in load(tmp_path, skip_invalid=True).image_info]
    assert found[0] == "ds1/a.png" and len(found) == len(set(found))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no", "meta.json is not a JSON file"),
        ("[]", "is no meta.json of Supervisely: it holds a list, and must hold an object with"),
        ('{"classes": {}}', "it holds an object with classes, and must hold an object with a list"),
        ('{"classes": [7]}', "class 0 has no title or no shape; both must be text"),
        ('{"classes": [{"title": "a", "shape": 7}]}', "class 0 has no title or no shape"),
        ('{"classes": [{"title": "a", "shape": "any"}, {"title": "a", "shape": "any"}]}',
         "class 1 has the title 'a', which is there twice"),
        ('{"classes": []}', "has no class with an area: it has none; the shapes bitmap, polygon"),
        ('{"classes": [{"title": "a", "shape": "point"}]}',
         r"has no class with an area: it has a \(point\); the shapes"),
        ('{"classes": [{"title": " ", "shape": "any"}]}', "' ' is no class name; it must be one"),
    ],
)  # fmt: skip
def test_a_meta_that_cannot_be_used(tmp_path, content, message):
    make(tmp_path, polygon())
    (tmp_path / "meta.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        load(tmp_path)


def test_the_shapes_of_a_meta(tmp_path):
    write_meta(tmp_path)
    assert list(read_meta(tmp_path).items()) == CLASSES


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("lemon", "classes is 'lemon'; it must be a list of class names"),
        ([], r"classes is \[\]; it must be a list"),
        (["lemon", "lemon"], "the class 'lemon' is there twice"),
        (["kiwi"], "object 0 has the unknown class 'lemon'; the classes are kiwi"),
    ],
)
def test_wrong_classes(tmp_path, classes, message):
    make(tmp_path, polygon())
    with pytest.raises(ValueError, match=message):
        load(tmp_path, classes=classes)


def test_folders_of_something_else(tmp_path):
    with pytest.raises(FileNotFoundError, match="the folder .*missing does not exist"):
        load(tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match=r"has no meta.json, which names a project's clas"):
        load(tmp_path)
    write_meta(tmp_path)
    with pytest.raises(FileNotFoundError, match="the folder .*meta.json is a file"):
        load(tmp_path / "meta.json")
    with pytest.raises(ValueError, match="has no image that can be used; a project has <dataset>"):
        load(tmp_path)


def test_a_damaged_image(tmp_path):
    make(tmp_path, polygon())
    (tmp_path / "ds1/img/a.png").write_bytes(b"no")
    with pytest.raises(ValueError, match="image ds1/a.png cannot be used: .*a.png"):
        load(tmp_path)
    with pytest.raises(ValueError, match="has no image that can be used"):
        load(tmp_path, skip_invalid=True)


@pytest.mark.parametrize(
    "name", ["missing", "no-meta", "no-datasets", "coco", "broken", "huge", "meta.json", "\0"]
)
def test_other_things_are_no_projects(tmp_path, name):
    write_meta(tmp_path)
    make(tmp_path / "no-meta", polygon())
    (tmp_path / "no-meta/meta.json").unlink()
    write_meta(tmp_path / "no-datasets")
    for folder, content in [("coco", '{"images": []}'), ("broken", "{"), ("huge", "")]:
        make(tmp_path / folder, polygon())
        (tmp_path / folder / "meta.json").write_text(content)
    write_meta(tmp_path / "huge")
    with open(tmp_path / "huge/meta.json", "a") as file:
        file.write(" " * 16_000_000)
    assert not is_supervisely(tmp_path / name if name != "\0" else name)


# ---- Bitmaps that cannot be decoded ------------------------------------------------------------


def stating(width, height):
    """A small PNG whose header states this size."""
    png = bytearray(png_of(SPOT))
    png[16:24] = struct.pack(">II", width, height)
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    return in_base64(bytes(png))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("ä", "has a bitmap that is not in base64"),
        ("AAA", "has a bitmap that is not in base64"),
        ("AA AA", "has a bitmap that is not in base64"),
        ("", "has a bitmap that is cut off"),
        (in_base64(b"GIF89a, and no more"), "has a bitmap that zlib cannot unpack"),
        (in_base64(zlib.compress(png_of(SPOT))[:-9]), "has a bitmap that is cut off"),
        (in_base64(zlib.compress(bytes(2_000_000))),
         "has a bitmap that unpacks to more than 1,049,216 bytes"),
        (in_base64(zlib.compress(b"no")), "has a bitmap that is no PNG or a damaged one: cannot"),
        (in_base64(png_of(SPOT)[:60]), "has a bitmap that is no PNG or a damaged one"),
        (in_base64(png_of(SPOT)[:10]), "has a bitmap that is no PNG or a damaged one"),
        (data_of(np.ones((9, 3), bool)),
         "has a bitmap of 9x3 in an image of 8x10; a bitmap is not larger than its image"),
        (data_of(np.ones((3, 11), bool)), "has a bitmap of 3x11 in an image of 8x10"),
        (stating(5000, 4000), "has a bitmap of 4000x5000 in an image of 8x10"),
        (stating(100_000, 100_000), "has a bitmap that is no PNG or a damaged one: Image size"),
    ],
)  # fmt: skip
def test_damaged_bitmaps(tmp_path, data, message):
    make(tmp_path, polygon(), bitmap(data))
    dataset = load(tmp_path)
    wanted = f"{tmp_path}: image ds1/a.png, object 1 of 2, {message}"
    with pytest.raises(ValueError, match=wanted):
        dataset.load_mask(0)
    with pytest.raises(ValueError, match=wanted):
        dataset.load_rings(0)


def test_only_png_is_decoded():
    buffer = io.BytesIO()
    Image.fromarray(SPOT).convert("L").save(buffer, "BMP")
    with pytest.raises(ValueError, match="has a bitmap that is no PNG"):
        decode_bitmap(in_base64(zlib.compress(buffer.getvalue())), 9, 9)


@settings(deadline=None)
@given(st.binary(max_size=60), st.sampled_from(["bytes", "zlib", "png", "changed"]), st.data())
def test_any_bytes_give_a_mask_or_a_sentence(content, kind, data):
    if kind == "zlib":
        content = zlib.compress(content)
    elif kind == "png":
        content = b"\x89PNG\r\n\x1a\n" + content
    elif kind == "changed":
        changed = bytearray(png_of(SPOT))
        changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
        content = zlib.compress(bytes(changed))
    try:
        mask = decode_bitmap(in_base64(content), 4, 5)
    except ValueError as error:
        assert str(error).startswith("has a bitmap")
    else:
        assert mask.dtype == bool and mask.shape[0] <= 4 and mask.shape[1] <= 5


# ---- Writing -----------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(image_sets(crowds=True))
def test_round_trip(image_set):
    names, images = image_set
    with new_folders() as (source, target):
        written = write_images(source, images)
        sentences = write_supervisely(written, names, target)
        left = without_crowds(written)
        assert ["crowd" in sentence for sentence in sentences] == [True] * (left != written)
        assert is_supervisely(target)
        dataset = load(target)
        assert class_names(dataset) == names
        assert_same(labelled_images(dataset), left)


def test_files_that_are_written(tmp_path):
    mask = drawn((3, 2, 4, 5))
    images = write_images(
        tmp_path,
        [
            ("a.png", (HEIGHT, WIDTH), [LabelledObject("lemon", mask)]),
            ("ds/a.png", (3, 4), []),
            ("fruit/ripe/b.png", (3, 4), []),
            ("../c.png", (3, 4), []),
        ],
    )
    target = tmp_path / "project"
    target.mkdir()  # an empty folder will do
    assert write_supervisely(images, ["lemon", "kiwi"], target) == []
    meta = json.loads((target / "meta.json").read_text())
    assert [(each["title"], each["shape"]) for each in meta["classes"]] == [
        ("lemon", "bitmap"),
        ("kiwi", "bitmap"),
    ]
    colours = {each["color"] for each in meta["classes"]}
    assert len(colours) == 2 and all(len(c) == 7 and int(c[1:], 16) for c in colours)
    files = {p.relative_to(target).as_posix() for p in target.rglob("*") if p.is_file()}
    assert files == {
        "meta.json",
        "ds/img/a.png",
        "ds/ann/a.png.json",
        "ds/img/a-2.png",
        "ds/ann/a-2.png.json",
        "fruit/datasets/ripe/img/b.png",
        "fruit/datasets/ripe/ann/b.png.json",
        "_/img/c.png",
        "_/ann/c.png.json",
    }
    annotation = json.loads((target / "ds/ann/a.png.json").read_text())
    assert annotation["size"] == {"height": HEIGHT, "width": WIDTH}
    (found,) = annotation["objects"]
    assert found["classTitle"] == "lemon" and found["geometryType"] == "bitmap"
    assert found["bitmap"]["origin"] == [2, 3]
    assert decode_bitmap(found["bitmap"]["data"], HEIGHT, WIDTH).shape == (2, 4)


def test_every_geometry_there_and_back(tmp_path):
    make(
        tmp_path / "one",
        polygon(SQUARE, [[2, 2], [4, 2], [4, 4], [2, 4]]),
        rectangle([[2, 3], [4, 6]]),
        bitmap(),
    )
    images = list(labelled_images(load(tmp_path / "one")))
    write_supervisely(images, [title for title, _ in CLASSES], tmp_path / "two")
    (before,), (after,) = images, labelled_images(load(tmp_path / "two"))
    for one, two in zip(before.objects, after.objects, strict=True):
        assert one.class_name == two.class_name
        np.testing.assert_array_equal(one.mask, two.mask)


def test_nothing_is_written_over(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty: it has mine.txt"):
        write_supervisely([], ["cell"], tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "mine"
    with pytest.raises(NotADirectoryError, match="is a file; name a new or empty folder"):
        write_supervisely([], ["cell"], tmp_path / "mine.txt")


@pytest.mark.parametrize("names", [[], ["a", "a"], ["a\nb"], "ab"], ids=repr)
def test_class_names_that_are_not_written(tmp_path, names):
    with pytest.raises(ValueError, match="class name|is there twice"):
        write_supervisely([], names, tmp_path / "new")


def test_tags_of_images_and_objects_come_back(tmp_path):
    project = tmp_path / "project"
    projects.write_meta(project, {"pear": "bitmap"})
    one = projects.bitmap("pear", projects.box_mask((64, 64), 3, 4, 20, 30))
    one["tags"] = [{"name": "sure", "value": 0.5}, "old", {"no": "name"}]
    projects.write_image(project / "ds", "a.png", [one], ["train"])
    dataset = SuperviselyDataset()
    dataset.load_supervisely(project)
    dataset.prepare()
    assert tag_names(dataset.image_info[0]["tags"]) == ["train"]
    assert tag_names(dataset.image_info[0]["object_tags"][0]) == ["sure", "old"]
    convert(project, tmp_path / "again", "supervisely")
    content = json.loads((tmp_path / "again" / "ds" / "ann" / "a.png.json").read_text())
    assert content["tags"] == [{"name": "train", "value": None}]
    assert content["objects"][0]["tags"] == [{"name": "sure", "value": 0.5}, "old"]
    meta = json.loads((tmp_path / "again" / "meta.json").read_text())
    assert {tag["name"]: tag["value_type"] for tag in meta["tags"]} == {
        "train": "none",
        "sure": "any_number",
        "old": "none",
    }
