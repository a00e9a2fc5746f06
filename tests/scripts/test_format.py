"""scripts/format.py: old submissions become results that pycocotools loads."""

import copy
import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from mrcnn.data.formats.coco import as_coco
from scripts import format as script
from tests import coco_data

MASK = np.zeros((20, 30), np.uint8)
MASK[3:9, 2:10] = 1
RLE = coco_mask.encode(np.asfortranarray(MASK))
COUNTS = RLE["counts"].decode()


def result(**changes):
    """A result as COCO's tools take it, less what is changed to None."""
    entry = {
        "image_id": 7,
        "category_id": 18,
        "bbox": [2.0, 3.0, 8.0, 6.0],
        "score": 0.5,
        "segmentation": {"size": [20, 30], "counts": COUNTS},
    }
    return {name: value for name, value in (entry | changes).items() if value is not None}


def with_counts(counts):
    return result(segmentation={"size": [20, 30], "counts": counts})


def runs(mask):
    """Uncompressed run lengths, pixel by pixel."""
    counts, value = [0], 0
    for pixel in mask.T.ravel():
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return counts


@pytest.mark.parametrize(
    "old",
    [
        result(),
        result(category_id=[18]),
        result(category_id=18.0, image_id="7", score="0.5"),
        result(bbox=None),
        result(id=3, area=48, iscrowd=0),
        with_counts(str(RLE["counts"])),
        with_counts(runs(MASK)),
    ],
    ids=["new", "list", "numbers", "no box", "more", "bytes", "counts"],
)
def test_an_old_entry_becomes_a_result(old):
    assert script.format_results([old]) == [result()]


def test_a_long_whole_number_keeps_its_digits():
    assert script.format_result(result(image_id=2**60 + 1))["image_id"] == 2**60 + 1


def test_backslashes_of_a_bytes_literal_are_those_of_the_string():
    rng = np.random.default_rng(0)
    while True:
        rle = coco_mask.encode(np.asfortranarray(rng.integers(0, 2, (40, 40)), np.uint8))
        if b"\\" in rle["counts"]:
            break
    entry = result(segmentation={"size": [40, 40], "counts": str(rle["counts"])})
    assert script.format_result(entry)["segmentation"]["counts"] == rle["counts"].decode()


def test_old_entries_are_left_as_they_are():
    old = [result(category_id=[18])]
    before = copy.deepcopy(old)
    script.format_results(old)
    assert old == before


def test_pycocotools_loads_the_new_file(tmp_path, capsys):
    old = [result(category_id=[18], bbox=None), with_counts(str(RLE["counts"]))]
    (tmp_path / "old.json").write_text(json.dumps(old))
    script.main([str(tmp_path / "old.json"), str(tmp_path / "new.json")])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.json", "old.json"]
    assert "2 detections" in capsys.readouterr().out
    loaded = as_coco(coco_data.content()).loadRes(str(tmp_path / "new.json"))
    for annotation in loaded.anns.values():
        assert annotation["category_id"] == 18
        np.testing.assert_array_equal(loaded.annToMask(annotation), MASK)


@pytest.mark.parametrize(
    ("old", "message"),
    [
        ({"annotations": []}, "holds a dict; a submission is a list"),
        ([result(), 3], "entry 1 is a int"),
        ([result(category_id=[1, 2])], r"entry 0 has the category_id \[1, 2\]"),
        ([result(category_id=1.5)], "category_id 1.5; it must be a whole number"),
        ([result(image_id=None)], "entry 0 has the image_id None"),
        ([result(score=float("nan"))], "score nan"),
        ([result(bbox=[1, 2, 3])], r"entry 0 has the bbox \[1, 2, 3\]"),
        ([result(segmentation=[[1, 2, 3, 4, 5, 6]])], "it must be run lengths"),
        ([result(segmentation={"size": [20], "counts": COUNTS})], r"of size \[20\]"),
        ([with_counts("b'" + COUNTS)], "cannot be read"),
        ([with_counts("b'', 1")], "cannot be read"),
        ([with_counts("b''[" + "(" * 10000)], "cannot be read"),
        ([result(score=10**400)], "score 1000"),
        ([with_counts(COUNTS[:-2])], "entry 0 has run lengths"),
        ([with_counts(None)], "neither a string nor a list"),
    ],
)
def test_what_cannot_be_understood_is_named_and_nothing_written(tmp_path, old, message):
    (tmp_path / "old.json").write_text(json.dumps(old))
    with pytest.raises(ValueError, match=message) as caught:
        script.main([str(tmp_path / "old.json"), str(tmp_path / "new.json")])
    assert str(caught.value).startswith(str(tmp_path / "old.json"))
    assert [path.name for path in tmp_path.iterdir()] == ["old.json"]
