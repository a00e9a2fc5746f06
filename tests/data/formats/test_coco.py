"""COCO-format files: which are read, which are refused; masks against pycocotools and slow code."""

import gc
import json
import math

import numpy as np
import PIL.Image
import pytest

from mrcnn.data.formats import coco as coco_format
from mrcnn.data.formats import segmentation as segmentation_format
from mrcnn.data.formats.coco import (
    CocoFormatDataset,
    as_coco,
    check_annotations,
    read_json,
    write_coco,
)
from mrcnn.data.formats.objects import LabelledImage, LabelledObject
from tests import coco_data


@pytest.fixture
def warned(caplog):
    """Function that returns the warnings of the logger `mrcnn` so far."""
    return lambda: [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]


@pytest.fixture
def files(tmp_path):
    """Function `data -> (annotation file, folder of images)`."""

    def write(data=None):
        path = coco_data.write(tmp_path / "annotations.json", data)
        return path, coco_data.write_images(tmp_path / "images")

    return write


def load(path, images, **kwargs):
    dataset = CocoFormatDataset()
    dataset.load_annotations(path, images, **kwargs)
    dataset.prepare()
    return dataset


# ---- What is read ------------------------------------------------------------------------------


def test_classes_are_numbered_by_category_id(files):
    dataset = load(*files())
    assert dataset.class_names == ["BG", "cat", "dog", "tie"]
    assert [dataset.get_source_class_id(i, "coco") for i in (1, 2, 3)] == [5, 18, 90]


def test_images_keep_the_files_order_and_what_it_says_of_them(files):
    path, images = files()
    dataset = load(path, images)
    assert [info["id"] for info in dataset.image_info] == [7, 3, 12]
    info = dataset.image_info[0]
    assert (info["width"], info["height"], info["source"]) == (30, 20, "coco")
    assert [annotation["id"] for annotation in info["annotations"]] == [101, 100, 102]
    assert dataset.load_image(0).shape == (20, 30, 3)


def test_masks_are_those_of_pycocotools(files):
    path, images = files()
    dataset = load(path, images)
    coco = as_coco(read_json(path))
    for image_id, info in enumerate(dataset.image_info):
        masks, class_ids = dataset.load_mask(image_id)
        annotations = coco.imgToAnns[info["id"]]
        assert masks.dtype == bool
        assert masks.shape == (info["height"], info["width"], len(annotations))
        assert class_ids.dtype == np.int32 and len(class_ids) == len(annotations)
        for i, annotation in enumerate(annotations):
            np.testing.assert_array_equal(masks[:, :, i], coco.annToMask(annotation))


def test_a_rectangle_covers_its_pixels(files):
    mask = load(*files()).load_mask(0)[0][:, :, 0]
    assert mask[3:9, 2:10].all() and mask.sum() == 6 * 8


def test_crowds_have_negative_classes(files):
    assert list(load(*files()).load_mask(0)[1]) == [2, 1, -3]


def test_an_image_without_objects_has_masks_of_its_size(files):
    masks, class_ids = load(*files()).load_mask(2)
    assert masks.shape == (10, 10, 0) and class_ids.shape == (0,)


def test_an_object_below_a_pixel_is_left_out(files):
    data = coco_data.content()
    data["annotations"][0]["segmentation"] = [[3.1, 3.1, 3.2, 3.1, 3.2, 3.2]]
    assert list(load(*files(data)).load_mask(0)[1]) == [1, -3]


def test_class_ids_choose_classes_and_images(files):
    dataset = load(*files(), class_ids=[90, 18])
    assert dataset.class_names == ["BG", "tie", "dog"]
    assert [info["id"] for info in dataset.image_info] == [7]
    assert list(dataset.load_mask(0)[1]) == [2, -1]
    assert load(*files(), class_ids=[]).num_images == 3


def test_several_files_make_one_data_set(files):
    path, images = files()
    dataset = CocoFormatDataset()
    dataset.load_annotations(path, images)
    dataset.load_annotations(path, images, source="again")
    dataset.load_annotations(path, images)
    dataset.prepare()
    assert (dataset.num_images, dataset.num_classes) == (9, 7)
    assert list(dataset.load_mask(3)[1]) == [5, 4, -6]


def test_images_may_lie_in_folders_of_their_own(files, tmp_path):
    data = coco_data.content()
    data["images"][1]["file_name"] = "deep/er/b.png"
    coco_data.write_images(tmp_path / "images", data)
    assert load(*files(data)).load_image(1).shape == (12, 16, 3)


def test_a_mask_of_another_source_is_left_to_the_subclass(files):
    class Joined(CocoFormatDataset):
        pass

    dataset = Joined()
    dataset.load_annotations(*files())
    dataset.add_class("own", 1, "thing")
    dataset.add_image("own", 1, path=None)
    dataset.prepare()
    masks, class_ids = dataset.load_mask(3)
    assert masks.shape[-1] == 0 and len(class_ids) == 0


def test_what_evaluation_needs_is_filled_in(files):
    data = coco_data.content()
    for annotation in data["annotations"]:
        for key in ("iscrowd", "bbox", "area"):
            del annotation[key]
    path, images = files(data)
    completed = CocoFormatDataset().load_annotations(path, images)
    expected = coco_data.content()
    expected["annotations"][2]["iscrowd"] = 0
    assert completed == expected


def test_a_byte_order_mark_is_no_obstacle(files):
    path, images = files()
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load(path, images).num_images == 3


def test_reading_leaves_the_garbage_collector_as_it_was(files, tmp_path):
    (tmp_path / "bad.json").write_text("{")
    for path in (files()[0], tmp_path / "bad.json"):
        assert gc.isenabled()
        try:
            read_json(path)
        except ValueError:
            pass
        assert gc.isenabled()


# ---- What is refused -----------------------------------------------------------------------------


def changed(part, position, **values):
    data = coco_data.content()
    data[part][position] |= values
    return data


def without(part, position, key):
    data = coco_data.content()
    del data[part][position][key]
    return data


def replaced(**parts):
    return coco_data.content() | parts


TWO_POINTS = [[1, 1, 5, 5]]
RLE_OF_ANOTHER_SIZE = {"size": [30, 20], "counts": [600]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "not a COCO annotation file: it holds a list"),
        ({"shapes": [], "version": 1}, "holds an object with shapes, version, and must hold"),
        (replaced(annotations=None), "not a COCO annotation file"),
        (replaced(images=[], annotations=[]), "has no images: the list is empty"),
        (replaced(categories=[]), "has no categories"),
        (replaced(images=["a.png"]), "entry 0 of 'images' has the id None"),
        (changed("images", 1, id=7), "two entries of 'images' have the id 7"),
        (changed("annotations", 1, id=101), "two entries of 'annotations' have the id 101"),
        (changed("categories", 1, id=18), "two entries of 'categories' have the id 18"),
        (without("annotations", 3, "id"), "entry 3 of 'annotations' has the id None"),
        (changed("images", 1, id="3"), "entry 1 of 'images' has the id '3'"),
        (without("images", 0, "file_name"), "image 7 has the file_name None"),
        (changed("images", 0, height=0), "image 7 has the height 0"),
        (changed("images", 0, width=3.5), "image 7 has the width 3.5"),
        (without("categories", 2, "name"), "category 90 has the name None"),
        (changed("annotations", 0, image_id=8), "annotation 101 is of image 8, which is not"),
        (changed("annotations", 0, image_id=[7]), r"annotation 101 is of image \[7\]"),
        (
            changed("annotations", 0, category_id=2),
            "annotation 101 has the category_id 2; the file's categories are 18, 5, 90",
        ),
        (changed("annotations", 0, category_id=[18]), r"has the category_id \[18\]"),
        (changed("annotations", 0, iscrowd="no"), "annotation 101 has iscrowd 'no'"),
        (changed("annotations", 0, bbox=[1, 2]), r"annotation 101 has the bbox \[1, 2\]"),
        (without("annotations", 0, "segmentation"), "annotation 101 has the segmentation None"),
        (changed("annotations", 0, segmentation=[]), "annotation 101 has an empty segmentation"),
        (changed("annotations", 0, segmentation=TWO_POINTS), "101 has 4 numbers in polygon 0"),
        (changed("annotations", 0, segmentation=[[1] * 7]), "101 has 7 numbers in polygon 0"),
        (changed("annotations", 0, segmentation=[1, 1, 5, 5, 1, 5]), "is a list of int; it must"),
        (
            changed("annotations", 0, segmentation=[[[1, 1], [2, 2]] * 3]),
            "annotation 101 has something else than finite numbers in polygon 0",
        ),
        (
            changed("annotations", 0, segmentation=[[1, 1, 5, float("nan"), 1, 5]]),
            "something else than finite numbers",
        ),
        (
            changed("annotations", 2, segmentation=RLE_OF_ANOTHER_SIZE),
            r"annotation 102 has run lengths of size \[30, 20\].*its image is \[20, 30\]",
        ),
        (changed("annotations", 0, segmentation=RLE_OF_ANOTHER_SIZE), "annotation 101 has run"),
        (
            changed("annotations", 2, segmentation={"size": [20, 30], "counts": [10, 10]}),
            "annotation 102 has run lengths of 20 pixels in all; its image has 600",
        ),
        (
            changed("annotations", 2, segmentation={"size": [20, 30], "counts": [-10, 610]}),
            "neither a string nor a list of whole numbers",
        ),
        (changed("annotations", 2, segmentation={"size": [20, 30]}), "neither a string nor"),
    ],
)
def test_bad_entries_are_named_with_their_file(files, data, message):
    path, images = files(data)
    dataset = CocoFormatDataset()
    with pytest.raises(ValueError, match=message) as caught:
        dataset.load_annotations(path, images)
    assert str(path) in str(caught.value)
    assert dataset.image_info == [] and len(dataset.class_info) == 1  # nothing half added


@pytest.mark.parametrize("text", [b"{", b"", b"\xff\xfe\x00", b"GIF89a"])
def test_a_file_that_is_no_json(tmp_path, text):
    path = tmp_path / "broken.json"
    path.write_bytes(text)
    with pytest.raises(ValueError, match="broken.json is not a JSON file"):
        CocoFormatDataset().load_annotations(path, tmp_path)


def test_a_missing_annotation_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.json"):
        CocoFormatDataset().load_annotations(tmp_path / "nowhere.json", tmp_path)


def test_a_missing_image_file_is_named(files):
    path, images = files()
    (images / "b.png").unlink()
    with pytest.raises(FileNotFoundError, match="annotations.json: image 3 .*b.png.*1 of 3 images"):
        load(path, images)
    with pytest.raises(FileNotFoundError, match="image 7 .*3 of 3 images"):
        load(path, images / "nowhere")


def test_class_ids_that_choose_nothing(files):
    path, images = files()
    with pytest.raises(ValueError, match="class_ids holds 4; .*json are 18, 5, 90"):
        load(path, images, class_ids=[5, 4])
    data = coco_data.content()
    data["annotations"] = data["annotations"][:1]
    with pytest.raises(ValueError, match="no image with an object of the categories 90"):
        load(*files(data), class_ids=[90])


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ("", "cannot be decoded"),
        ("!!", "cannot be decoded"),
        ("ä", "cannot be decoded"),
        ("o", "cannot be decoded"),  # a digit that announces another one
        ("oooooooooo1", "beyond 32 bits"),
        ("41", "5 pixels in all; its image has 192"),
        (coco_data.COMPRESSED[:-1], "pixels in all|neither a string nor a list|cannot be decoded"),
    ],
)
def test_a_damaged_string_of_run_lengths_is_named_with_its_mask(files, counts, message):
    data = coco_data.content()
    data["annotations"][3]["segmentation"]["counts"] = counts
    path, images = files(data)
    dataset = load(path, images)
    with pytest.raises(ValueError, match=message) as caught:
        dataset.load_mask(1)
    assert f"{path}: annotation 103 " in str(caught.value)


def test_a_polygon_far_outside_is_refused_before_it_takes_all_memory(files):
    with pytest.raises(ValueError, match="annotation 101 has a polygon that reaches 1000000000"):
        load(*files(changed("annotations", 0, segmentation=[[1, 1, 1e9, 1, 1, 5]])))


def test_check_annotations_takes_what_is_right():
    assert check_annotations(coco_data.content(), "file.json") is None


# ---- Bad entries ---------------------------------------------------------------------------------


def with_bad_entries():
    data = coco_data.content()
    data["annotations"][0]["segmentation"] = []
    data["annotations"][1]["segmentation"].append([1, 1, 5, 5])
    data["annotations"][3]["segmentation"]["counts"] = "ooo"
    data["images"].append({"id": 99, "file_name": "d.png", "height": None, "width": 5})
    data["annotations"].append(coco_data.annotation(104, 12, 5, [[1, 1, 5, 1, 5, 5]]))
    data["annotations"].append({**coco_data.annotation(105, 12, 5, [[1, 1, 5, 1, 5, 5]])})
    data["annotations"][-1]["image_id"] = 99
    return data


def test_all_bad_entries_are_named_at_once(files):
    path, images = files(with_bad_entries())
    with pytest.raises(ValueError) as error:
        load(path, images)
    assert str(error.value).split("\n") == [
        f"{path}: 3 entries cannot be used; skip_invalid=True leaves them out:",
        "  image 99 has the height None; it must be a whole number of pixels.",
        "  annotation 101 has an empty segmentation; it must have at least one polygon.",
        "  annotation 100 has 4 numbers in polygon 2; a polygon is [x1, y1, x2, y2, ...] with at "
        "least three points.",
    ]


def test_bad_entries_can_be_left_out(files, warned):
    path, images = files(with_bad_entries())
    dataset = CocoFormatDataset()
    content = dataset.load_annotations(path, images, skip_invalid=True)
    dataset.prepare()
    assert f"{path}: 4 entries cannot be used and are left out:" in warned()[0]
    assert "annotation 103 has run lengths that cannot be decoded: 'ooo'." in warned()[0]
    assert [info["id"] for info in dataset.image_info] == [7, 3, 12]
    assert [list(dataset.load_mask(i)[1]) for i in range(3)] == [[-3], [], [1]]
    # What evaluation reads has the same objects.
    assert sorted(as_coco(content).anns) == [102, 104] and sorted(as_coco(content).imgs) == [
        3,
        7,
        12,
    ]


def test_ids_that_are_there_twice_can_be_left_out(files):
    data = coco_data.content()
    data["annotations"].append({**data["annotations"][0], "category_id": 5})
    data["images"].append({**data["images"][0], "file_name": "c.png"})
    dataset = load(*files(data), skip_invalid=True)
    assert dataset.num_images == 3 and list(dataset.load_mask(0)[1]) == [2, 1, -3]


def test_missing_images_can_be_left_out(files, warned):
    path, images = files()
    (images / "b.png").unlink()
    dataset = load(path, images, skip_invalid=True)
    assert [info["id"] for info in dataset.image_info] == [7, 12]
    assert any("image 3 is not there" in text and "1 of 3" in text for text in warned())
    with pytest.raises(FileNotFoundError, match="3 of 3 images are missing"):
        load(path, images / "nowhere", skip_invalid=True)


def test_something_must_be_left(files):
    data = coco_data.content()
    for image in data["images"]:
        image["height"] = 0
    path, images = files()
    path.write_text(json.dumps(data))
    with pytest.raises(ValueError, match=f"{path} has no image that can be used"):
        load(path, images, skip_invalid=True)


def test_names_of_another_spelling_are_taken(files, warned):
    path, images = files()
    data = coco_data.content()
    data["images"][0]["file_name"] = "C:\\photos\\a.png"
    data["images"][1]["file_name"] = "%62.png"
    path.write_text(json.dumps(data))
    dataset = load(path, images)
    assert [info["path"] for info in dataset.image_info[:2]] == [
        f"{images}/a.png",
        f"{images}/b.png",
    ]
    assert any("2 file names are spelled otherwise" in text for text in warned())
    data["images"][0]["file_name"] = "../other/a.png"
    path.write_text(json.dumps(data))
    with pytest.raises(ValueError, match="image 7 has .* leads out of the image folder"):
        load(path, images)


def test_missing_values_are_filled_in_and_null_is_missing(files):
    expected = coco_data.content()
    data = coco_data.content()
    for annotation, value in zip(data["annotations"], (None, None, None, None), strict=True):
        annotation |= {"bbox": value, "area": value}
    data["annotations"][0]["iscrowd"] = None
    path, images = files(data)
    assert CocoFormatDataset().load_annotations(path, images) == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"area": "large"}, "has the area 'large'; it must be a number of pixels"),
        ({"area": [5]}, r"has the area \[5\]"),
        ({"area": math.nan}, "has the area nan"),
        ({"area": "inf"}, "has the area inf"),
        (
            {"bbox": [1, 2, "3", 4]},
            r"has the bbox \[1, 2, '3', 4\]; it must be \[x, y, width, height",
        ),
        ({"bbox": [1, 2, None, 4]}, "has the bbox"),
        ({"bbox": [1, 2, math.inf, 4]}, "has the bbox"),
        ({"bbox": {}}, "has the bbox {}"),
        ({"iscrowd": "1"}, "has iscrowd '1'"),
    ],
)
def test_values_that_evaluation_cannot_use_are_refused(files, values, message):
    with pytest.raises(ValueError, match=f"annotation 101 {message}"):
        load(*files(changed("annotations", 0, **values)))


def test_an_area_may_be_written_as_text(files):
    path, images = files(changed("annotations", 0, area="48.5"))
    content = CocoFormatDataset().load_annotations(path, images)
    assert content["annotations"][0]["area"] == 48.5


# ---- Damaged and hostile files -------------------------------------------------------------------

HUGE = 10**400
FIELDS = {
    "images": ("id", "height", "width"),
    "annotations": ("id", "image_id", "category_id", "area", "iscrowd", "bbox", "segmentation"),
    "categories": ("id",),
}


@pytest.mark.parametrize("value", [HUGE, -HUGE, [HUGE] * 4, [[HUGE] * 6], {"size": [HUGE, HUGE]}])
@pytest.mark.parametrize(
    ("part", "key"), [(part, key) for part, keys in FIELDS.items() for key in keys]
)
def test_huge_numbers_are_an_error_that_names_the_file(files, part, key, value):
    path, images = files()
    path.write_text(json.dumps(changed(part, 0, **{key: value})))
    with pytest.raises(ValueError, match="annotations.json") as error:
        load(path, images)
    assert len(str(error.value)) < 1500


@pytest.mark.parametrize(
    "info", ["[" * 5000 + "]" * 5000, '{"a":' * 5000 + "1" + "}" * 5000, "9" * 5000]
)
def test_json_that_python_does_not_read(files, info):
    path, images = files()
    path.write_text(json.dumps(coco_data.content())[:-1] + f', "x": {info}}}')
    with pytest.raises(ValueError, match="annotations.json (cannot be read|is not a JSON file): "):
        load(path, images)


@pytest.mark.parametrize(
    ("height", "width"),
    [(10**6, 40), (2 * 10**8, 40), (3 * 10**10, 40), (200_000, 200_000), (5, 2**25)],
)
@pytest.mark.parametrize("key", ["bbox", "unknown"])
def test_a_stated_size_is_not_believed(files, height, width, key):
    data = coco_data.content()
    del data["annotations"][3]
    data["annotations"][0].pop(key, None)  # without a box, its mask is drawn at once
    path, images = files()
    data["images"][1] |= {"height": height, "width": width}
    path.write_text(json.dumps(data))
    with pytest.raises(ValueError, match=f"annotations.json: image 3 has {width}x{height} pixels"):
        load(path, images)
    assert load(path, images, skip_invalid=True).num_images == 2


def test_a_large_size_must_be_that_of_the_file(files, monkeypatch):
    monkeypatch.setattr(coco_format, "_LARGE", 300)
    path, images = files()
    assert load(path, images).num_images == 3  # one of them of 20x30
    PIL.Image.new("L", (20, 30)).save(images / "a.png")
    assert load(path, images).num_images == 3  # a camera's tag may turn it
    PIL.Image.new("L", (29, 20)).save(images / "a.png")
    with pytest.raises(ValueError, match="image 7 has 30x20 pixels .* its image file .* has 29x20"):
        load(path, images)
    (images / "a.png").write_bytes(b"another format, without a header that is known")
    assert load(path, images).num_images == 3


def test_images_have_the_size_that_the_file_states(files):
    """Whether an image with a camera's rotation tag is turned depends on it."""
    path, images = files()
    PIL.Image.new("L", (20, 30)).save(images / "a.png")
    dataset = load(path, images)
    assert (dataset.image_info[0]["height"], dataset.image_info[0]["width"]) == (20, 30)
    assert dataset.load_mask(0)[0].shape[:2] == (20, 30)


# ---- Crowds, normalised polygons, specks ---------------------------------------------------------


def crowds_only():
    data = coco_data.content()
    for annotation in data["annotations"]:
        annotation["iscrowd"] = 1
    return data


def test_classes_of_crowds_only_are_named(files, warned):
    path, images = files(crowds_only())
    dataset = load(path, images)
    assert list(dataset.load_mask(0)[1]) == [-2, -1, -3]
    (text,) = warned()
    assert text.startswith(f"{path}: 4 of 4 annotations are crowds (iscrowd 1); classes that have")
    assert "crowds only: dog, cat, tie." in text and 'crowds="objects" takes each as one' in text


def test_crowds_can_be_taken_as_objects(files, warned):
    path, images = files(crowds_only())
    dataset = CocoFormatDataset()
    content = dataset.load_annotations(path, images, crowds="objects")
    dataset.prepare()
    assert list(dataset.load_mask(0)[1]) == [2, 1, 3] and warned() == []
    assert {annotation["iscrowd"] for annotation in as_coco(content).anns.values()} == {0}
    with pytest.raises(ValueError, match="crowds is 'object'; it must be 'crowds' or 'objects'"):
        load(path, images, crowds="object")


def many(count, crowds=0, **changes):
    data = coco_data.content()
    data["annotations"] = [
        {
            **coco_data.annotation(n + 1, 7, 18, [[2, 3, 10, 3, 10, 9, 2, 9]]),
            "iscrowd": int(n < crowds),
        }
        | changes
        for n in range(count)
    ]
    return data


@pytest.mark.parametrize(
    ("count", "crowds", "is_told"),
    [(100, 0, 0), (100, 11, 0), (100, 12, 1), (1000, 50, 0), (1, 1, 1)],
)
def test_a_few_crowds_are_usual(files, warned, count, crowds, is_told):
    load(*files(many(count, crowds)))
    assert len(warned()) == is_told


@pytest.mark.parametrize(
    ("polygon", "area", "text"),
    [
        (
            [0.1, 0.2, 0.6, 0.2, 0.6, 0.7],
            0.125,
            "have polygons within 0..1. COCO's coordinates are",
        ),
        ([0, 0, 1, 0, 1, 1], None, "have polygons within 0..1"),
        ([5, 5, 6, 5, 6, 6], 1, "have an area of one pixel or less"),
        ([5, 5, 5.1, 5, 5.1, 5.1], 0, "have an area of one pixel or less"),
    ],
)
def test_polygons_that_are_no_pixels_are_told(files, warned, polygon, area, text):
    changes = {"segmentation": [polygon], "area": area, "bbox": None}
    path, images = files(many(12, **changes))
    load(path, images)
    assert (
        len(warned()) == 1
        and f"{path}: 12 of 12 annotations, annotation 1 for one, {text}" in warned()[0]
    )


def test_a_few_small_objects_are_usual(files, warned):
    data = many(100)
    for annotation in data["annotations"][:11]:
        annotation |= {"segmentation": [[0, 0, 1, 0, 1, 1]], "area": 0.5}
    load(*files(data))
    assert warned() == []


# ---- Several files -------------------------------------------------------------------------------


@pytest.fixture
def load_both(tmp_path):
    """Function `(first, second, **kwargs) -> (data set, the second file's content)`.

    The first and second are `{category id: name}` of files with one object of each category.
    """

    def load_both(first, second, **kwargs):
        dataset, contents = CocoFormatDataset(), []
        images = coco_data.write_images(tmp_path / "images")
        for number, categories in enumerate((first, second)):
            data = coco_data.content()
            data["categories"] = [{"id": i, "name": name} for i, name in categories.items()]
            data["annotations"] = [
                coco_data.annotation(n + 1, 7, category_id, [[n, 0, n + 1, 0, n + 1, 5, n, 5]])
                for n, category_id in enumerate(categories)
            ]
            path = coco_data.write(tmp_path / f"{number}.json", data)
            contents.append(dataset.load_annotations(path, images, **(kwargs if number else {})))
        dataset.prepare()
        return dataset, contents[1]

    return load_both


def names_in(dataset, image_id):
    return [dataset.class_names[class_id] for class_id in dataset.load_mask(image_id)[1]]


@pytest.mark.parametrize(
    ("first", "second", "names"),
    [
        ({1: "apple", 2: "pear"}, {1: "pear", 2: "apple"}, "apple pear"),
        ({1: "apple", 2: "pear"}, {0: "apple", 1: "pear"}, "apple pear"),
        ({1: "apple", 2: "pear"}, {2: "pear"}, "apple pear"),
        ({1: "apple", 2: "pear"}, {7: "fig", 8: "pear"}, "apple fig pear"),
        ({1: "apple", 2: "pear"}, {1: "pear", 2: "plum"}, "apple pear plum"),
        ({1: "apple", 2: "pear"}, {1: "fig", 2: "pear", 5: "apple"}, "apple fig pear"),
        ({1: "head", 2: "head"}, {1: "head", 2: "head"}, "head head"),
        ({3: "a"}, {3: "c", 4: "a", 5: "b"}, "a b c"),
    ],
)
def test_categories_of_a_second_file_go_by_name(load_both, first, second, names):
    dataset, content = load_both(first, second)
    assert sorted(dataset.class_names[1:]) == names.split()
    assert names_in(dataset, 0) == [first[i] for i in first]
    assert names_in(dataset, 3) == [second[i] for i in second]
    # Evaluation finds the classes by the ids of the content.
    ids = {info["id"]: info["name"] for info in dataset.class_info[1:]}
    assert {
        category["id"]: category["name"] for category in content["categories"]
    }.items() <= ids.items()
    coco = as_coco(content)
    assert [ids[coco.anns[n + 1]["category_id"]] for n in range(len(second))] == list(
        second.values()
    )


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (
            {1: "apple"},
            {1: "Apple"},
            "category 1 is 'Apple', and the source 'coco' has class 1 'apple'",
        ),
        (
            {1: "apple", 2: "fig"},
            {1: "pear", 2: "fig"},
            "category 1 is 'pear', and the source 'coco'",
        ),
        ({1: "head", 2: "head"}, {3: "head"}, "category 3 is 'head', could be several classes of"),
        ({1: "head"}, {2: "head", 3: "head"}, "category 2 is 'head', could be several classes of"),
    ],
)
def test_categories_that_could_be_several_classes_are_refused(load_both, first, second, message):
    with pytest.raises(ValueError, match=f"1.json: {message}"):
        load_both(first, second)
    assert load_both(first, second, source="other")[0].num_classes == 1 + len(first) + len(second)


def test_nothing_is_changed_of_a_second_file_that_is_refused(files):
    path, images = files()
    dataset = CocoFormatDataset()
    dataset.load_annotations(path, images)
    data = changed("categories", 0, name="wolf")
    with pytest.raises(ValueError, match="category 18 is 'wolf'"):
        dataset.add_annotations(data, path, images)
    assert data["categories"][0]["id"] == 18
    assert len(dataset.image_info) == 3 and len(dataset.class_info) == 4


def test_chosen_class_ids_are_the_files_own(load_both):
    dataset, content = load_both({1: "apple", 2: "pear"}, {1: "pear", 2: "apple"}, class_ids=[1])
    assert dataset.class_names == ["BG", "apple", "pear"]
    assert names_in(dataset, 3) == ["pear"]
    assert sorted(as_coco(content).cats) == [2, 3]  # the apple of this file is not taken


# ---- Writing -------------------------------------------------------------------------------------


def written(tmp_path, labelled):
    """The segmentation that is written of an object, and the mask that is read of it."""
    height, width = labelled.mask.shape
    PIL.Image.new("RGB", (width, height)).save(tmp_path / "x.png")
    image = LabelledImage("x.png", str(tmp_path / "x.png"), height, width, [labelled])
    assert write_coco([image], ["a"], tmp_path / "new") == []
    path = tmp_path / "new" / "annotations.json"
    (annotation,) = read_json(path)["annotations"]
    return annotation["segmentation"], load(path, tmp_path / "new" / "images").load_mask(0)[0][
        ..., 0
    ]


def test_a_drawn_polygon_that_reaches_too_far_becomes_the_outline_of_its_mask(tmp_path):
    mask = np.zeros((20, 30), bool)
    mask[5:10, 5:] = True
    ring = np.array([[5, 5], [1e6, 5], [1e6, 10], [5, 10]])
    segmentation, read = written(tmp_path, LabelledObject("a", mask, ring=ring))
    assert segmentation == [[5, 5, 30, 5, 30, 10, 5, 10]]
    np.testing.assert_array_equal(read, mask)


def test_an_outline_that_is_too_long_becomes_run_lengths(tmp_path, monkeypatch):
    monkeypatch.setattr(segmentation_format, "_LONGEST_OUTLINE", 50)
    mask = np.zeros((40, 50), bool)
    mask[::2, 0] = mask[:, 1] = True
    segmentation, read = written(tmp_path, LabelledObject("a", mask))
    assert isinstance(segmentation, dict)
    np.testing.assert_array_equal(read, mask)
