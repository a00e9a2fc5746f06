"""COCO-format files: what is read and refused; masks against pycocotools and a slow twin."""

import gc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask

from mrcnn.data.formats.coco import (
    CocoFormatDataset,
    as_coco,
    check_annotations,
    decode_counts,
    read_json,
    segmentation_to_mask,
    segmentation_to_rle,
)
from tests import coco_data

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=40)
MASKS = hnp.arrays(np.uint8, SHAPES, elements=st.integers(0, 1))


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
    dataset = load(*files(changed("annotations", 0, segmentation=[[1, 1, 1e9, 1, 1, 5]])))
    with pytest.raises(ValueError, match="annotation 101 has a polygon that reaches 1000000000"):
        dataset.load_mask(0)


def test_check_annotations_takes_what_is_right():
    assert check_annotations(coco_data.content(), "file.json") is None


# ---- Masks ---------------------------------------------------------------------------------------


def expand(counts, height, width):
    """Run lengths as a mask, pixel by pixel."""
    pixels = [value % 2 for value, count in enumerate(counts) for _ in range(count)]
    return np.array([[pixels[x * height + y] for x in range(width)] for y in range(height)])


@given(MASKS)
def test_compressed_run_lengths_round_trip(mask):
    rle = coco_mask.encode(np.asfortranarray(mask))
    counts = decode_counts(rle["counts"])
    np.testing.assert_array_equal(expand(counts, *mask.shape), mask)
    assert decode_counts(rle["counts"].decode()) == counts
    for form in (counts, rle["counts"], rle["counts"].decode()):
        segmentation = {"size": list(mask.shape), "counts": form}
        np.testing.assert_array_equal(segmentation_to_mask(segmentation, *mask.shape), mask)
        assert segmentation_to_rle(segmentation, *mask.shape) == rle


def test_long_runs_have_numbers_of_several_digits():
    mask = np.zeros((2000, 1500), np.uint8)
    mask[:, 700:] = 1
    mask[0] = 0
    rle = coco_mask.encode(np.asfortranarray(mask))
    counts = decode_counts(rle["counts"])
    assert counts[0] == 2000 * 700 + 1 and counts[1:3] == [1999, 1] and sum(counts) == mask.size


@given(st.lists(st.floats(-50, 80), min_size=6, max_size=20).filter(lambda p: len(p) % 2 == 0))
def test_polygons_are_filled_as_pycocotools_does(polygon):
    expected = coco_mask.decode(coco_mask.frPyObjects([polygon], 20, 30))[:, :, 0]
    np.testing.assert_array_equal(segmentation_to_mask([polygon], 20, 30), expected)


def test_polygons_are_joined():
    left, right = [0, 0, 4, 0, 4, 4, 0, 4], [2, 2, 8, 2, 8, 6, 2, 6]
    joined = segmentation_to_mask([left, right], 10, 10)
    either = segmentation_to_mask([left], 10, 10) | segmentation_to_mask([right], 10, 10)
    np.testing.assert_array_equal(joined, either)
    assert joined.sum() == 16 + 24 - 4
