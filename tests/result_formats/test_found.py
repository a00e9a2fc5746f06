"""Results that are read again, in the order of the images."""

import json

import numpy as np

from mrcnn.detection.pictures import Picture
from mrcnn.geometry.rle import encode_masks
from mrcnn.result_formats.found import found_images


def line(name, **result):
    return json.dumps({"file_name": name, **result}) + "\n"


def picture(name):
    return Picture(name, lambda: np.zeros((4, 5, 3), np.uint8))


def test_images_come_in_the_order_of_the_files_not_of_the_results(tmp_path):
    mask = np.eye(4, 5, dtype=bool)
    (rle,) = encode_masks(mask[..., None])
    one = {"category_id": 7, "category_name": "leaf", "score": 0.5, "bbox": [0, 0, 4, 4]}
    size = {"width": 5, "height": 4}
    (tmp_path / "found.jsonl").write_text(
        line("b.png", **size, detections=[{**one, "segmentation": rle}])
        + line("broken.png", error="is broken")
        + line("gone.png", **size, detections=[])
        + line("a.png", **size, detections=[])
    )
    names = ["a.png", "new.png", "broken.png", "b.png"]
    first, second = found_images(tmp_path / "found.jsonl", map(picture, names))
    assert (first.name, first.number, first.objects) == ("a.png", 1, [])
    assert (second.name, second.number, second.height, second.width) == ("b.png", 2, 4, 5)
    (found,) = second.objects
    assert (found.category_id, found.class_name, found.score) == (7, "leaf", 0.5)
    np.testing.assert_array_equal(found.mask(), mask)
    with second.open() as image:
        assert image.read((0, 0, 4, 5)).shape == (4, 5, 3)


def test_names_for_files_differ(tmp_path):
    names = ["a/x.png", "a/x.tif", "b/x.png", "s.tif#0001", "s.tif#0002", "A/X.jpg", "../y.png"]
    results = "".join(line(name, width=5, height=4, detections=[]) for name in names)
    (tmp_path / "found.jsonl").write_text(results)
    found = found_images(tmp_path / "found.jsonl", map(picture, names))
    stems = [image.stem for image in found]
    assert stems == ["a/x_png", "a/x_tif", "b/x", "s_0001", "s_0002", "A/X_jpg", "_/y"]
