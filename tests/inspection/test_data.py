"""The report on data: what it finds, and its anchors against a slow twin."""

import numpy as np
import PIL.Image
import pytest

from mrcnn.data.targets import pyramid_anchors
from mrcnn.inspection.data import (
    anchors_by_level,
    best_cover,
    best_ious,
    data_sections,
    duplicates,
    measure,
    network_boxes,
    problems_of,
    spread,
    tried_scales,
)
from mrcnn.inspection.page import Picture, Table, write_report
from tests.inspection.test_page import check_page
from tests.tiny import Rectangles, random_rectangles, tiny_config


def part(sections, title):
    (found,) = (one for one in sections if one.title == title)
    return found


def table(sections, title, name):
    (found,) = (one for one in part(sections, title).parts if one.title == name)
    assert isinstance(found, Table)
    return found


# Those of the original's inspection notebooks that need no network.
CHECKS = [
    "Ground truth overlay",
    "RPN targets before and after refinement",
    "Mini-mask original, small, expanded",
    "Anchors per level",
    "A generator batch",
]


def test_all_checks_are_on_the_page(tmp_path):
    sections = data_sections(random_rectangles(6), tiny_config())
    titles = [section.title for section in sections]
    assert set(CHECKS) <= set(titles) and len(titles) == len(set(titles))
    for section in sections:
        assert all(one.look.endswith(".") for one in section.parts)
    text = check_page(write_report(tmp_path / "report", "Data", [], sections))
    assert "9 objects in 6 images" in text


def test_objects_are_counted_and_measured():
    content = [
        [(1, (0, 0, 10, 20)), (1, (30, 30, 40, 50))],
        [(2, (5, 5, 25, 25))],
        [],
    ]
    dataset = Rectangles(content)
    found = measure(dataset, dataset.image_ids.tolist(), tiny_config())
    assert found.class_ids.tolist() == [1, 1, 2]
    assert found.areas.tolist() == [200, 200, 400] and found.counts.tolist() == [2, 1, 0]
    assert found.boxes.tolist() == [[0, 0, 10, 20], [30, 30, 40, 50], [5, 5, 25, 25]]
    assert [text for _, text in found.problems] == ["no object"]
    rows = table(
        data_sections(dataset, tiny_config()), "Classes, sizes and shapes", "Objects by class"
    ).rows
    assert [row[:3] for row in rows] == [["bar", 2, 0], ["block", 1, 0], ["tile", 0, 0]]
    assert rows[0][4] == pytest.approx(200**0.5) and rows[2][4] is None


def test_what_is_wrong_is_found(tmp_path):
    box = (10, 10, 30, 30)
    dataset = Rectangles([[(1, box), (1, (10, 10, 30, 31)), (2, box), (1, (40, 40, 40, 40))]])
    path = tmp_path / "turned.jpg"
    exif = PIL.Image.Exif()
    exif[274] = 6
    PIL.Image.new("RGB", (8, 8)).save(path, exif=exif)
    dataset.image_info[0]["path"] = str(path)
    boxes = [[10, 10, 20, 20], [50, 50, 5, 5], [10, 10, 20, 20], [0, 0, 0, 0]]
    dataset.image_info[0]["annotations"] = [{"bbox": b} for b in boxes]
    masks, class_ids = dataset.load_mask(0)
    found = problems_of(dataset, 0, masks, class_ids)
    assert found[0] == "1 of 4 masks without a pixel"
    assert found[1].startswith("objects 1 and 2 are the same: their masks have an IoU of 0.95")
    assert found[2].startswith("object 2: its box and its mask have an IoU of 0.00")
    assert found[3].startswith("EXIF turns the image (orientation 6)") and len(found) == 4


def test_objects_of_other_classes_and_little_overlap_are_no_duplicates():
    masks = np.zeros((20, 20, 3), bool)
    masks[:10, :10, 0] = masks[:10, :10, 1] = masks[:10, 2:12, 2] = True
    assert duplicates(masks, np.array([1, 2, 1])) == []
    assert duplicates(masks, np.array([1, 1, 1])) == [(0, 1, 1.0)]


def slow_best_iou(box, anchors):
    best = 0.0
    for anchor in anchors:
        height = min(box[2], anchor[2]) - max(box[0], anchor[0])
        width = min(box[3], anchor[3]) - max(box[1], anchor[1])
        if height > 0 and width > 0:
            both = height * width
            areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (box, anchor)]
            best = max(best, both / (sum(areas) - both))
    return best


def test_anchors_cover_objects_as_a_slow_twin_says():
    config = tiny_config()
    boxes = network_boxes(random_rectangles(4), config, range(4))
    anchors = pyramid_anchors(config, config.IMAGE_SHAPE)
    wanted = [slow_best_iou(box, anchors) for box in boxes]
    np.testing.assert_allclose(best_ious(boxes, anchors), wanted)
    (scales, ious), *others = tried_scales(boxes, config, config.IMAGE_SHAPE)
    assert scales == list(config.RPN_ANCHOR_SCALES)
    np.testing.assert_allclose(ious, wanted)
    assert len(others) == 6 and all(np.all(np.diff(scales) > 0) for scales, _ in others)
    assert config.RPN_ANCHOR_SCALES == tiny_config().RPN_ANCHOR_SCALES


def test_anchors_of_levels_are_those_of_the_pyramid():
    config = tiny_config()
    levels = anchors_by_level(config, config.IMAGE_SHAPE)
    assert [scale for scale, _ in levels] == list(config.RPN_ANCHOR_SCALES)
    together = np.concatenate([anchors for _, anchors in levels])
    np.testing.assert_array_equal(together, pyramid_anchors(config, config.IMAGE_SHAPE))


class Faulty(Rectangles):
    """One image that cannot be read, one whose masks are too small, one without faults."""

    def __init__(self):
        super().__init__([[(1, (0, 0, 10, 20))], [(1, (5, 5, 30, 30))], [(2, (5, 5, 25, 25))]])

    def load_image(self, image_id):
        if image_id == 0:
            raise OSError("cannot identify image file 'a.png'")
        return super().load_image(image_id)

    def load_mask(self, image_id):
        masks, class_ids = super().load_mask(image_id)
        return (masks[:32], class_ids) if image_id == 1 else (masks, class_ids)


def test_images_that_cannot_be_used_are_findings(tmp_path):
    sections = data_sections(Faulty(), tiny_config())
    rows = table(sections, "What may be wrong", "Findings").rows
    assert [text.split(":")[0] for _, text in rows] == ["cannot be used"] * 2
    assert "'a.png'" in rows[0][1] and "(32, 64, 1)" in rows[1][1]
    assert set(CHECKS) <= {section.title for section in sections}
    assert "1 objects in 1 images" in part(sections, "Classes, sizes and shapes").text
    check_page(write_report(tmp_path / "report", "Data", [], sections))

    class AllFaulty(Faulty):
        def load_image(self, image_id):
            raise OSError("no image")

    sections = data_sections(AllFaulty(), tiny_config())
    assert len(table(sections, "What may be wrong", "Findings").rows) == 3
    check_page(write_report(tmp_path / "all_faulty", "Data", [], sections))


def test_masks_larger_than_the_image_are_a_finding():
    class Larger(Rectangles):
        def load_mask(self, image_id):
            masks, class_ids = super().load_mask(image_id)
            return np.pad(masks, ((0, 3), (0, 0), (0, 0))), class_ids

    sections = data_sections(Larger([[(1, (0, 0, 10, 20))]]), tiny_config())
    ((_, text),) = table(sections, "What may be wrong", "Findings").rows
    assert text == "its masks are larger than the image, and are cut to it"


def test_data_of_crowds_only_and_masks_without_pixels(tmp_path):
    class Crowds(Rectangles):
        def load_mask(self, image_id):
            masks, class_ids = super().load_mask(image_id)
            return masks, -class_ids

    sections = data_sections(Crowds([[(1, (0, 0, 10, 20))]]), tiny_config())
    assert "crowds only" in part(sections, "Anchors per level").text
    assert table(sections, "Classes, sizes and shapes", "Objects by class").rows[0][1:3] == [0, 1]
    check_page(write_report(tmp_path / "crowds", "Data", [], sections))
    # pytest makes a warning of a division an error.
    empty = [(1, (9, 9, 9, 9)), (1, (0, 0, 10, 20))]
    sections = data_sections(Rectangles([empty]), tiny_config())
    row = table(sections, "Classes, sizes and shapes", "Objects by class").rows[0]
    assert row[1] == 2 and row[3] == row[5] == pytest.approx(200**0.5)


def test_the_best_scales_lose_no_objects():
    """A higher mean IoU with an object lost is not better."""
    present = np.array([0.55, 0.55, 0.55, 0.55])
    others = np.array([0.69, 0.69, 0.69, 0.4])
    assert best_cover([present, others]) == 0
    assert best_cover([others, present]) == 1
    assert best_cover([present, np.array([0.75, 0.55, 0.55, 0.55])]) == 1


def test_data_without_objects_and_one_image(tmp_path):
    sections = data_sections(Rectangles([[]]), tiny_config())
    assert [section.title for section in sections][:3] == [
        "Ground truth overlay",
        "Classes, sizes and shapes",
        "What may be wrong",
    ]
    check_page(write_report(tmp_path / "report", "Data", [], sections))
    sections = data_sections(random_rectangles(1), tiny_config())
    assert set(CHECKS) <= {section.title for section in sections}


def test_a_limit_spreads_over_the_data():
    assert spread(list(range(10)), 3) == [0, 4, 9] and spread([1, 2], 5) == [1, 2]
    sections = data_sections(random_rectangles(8), tiny_config(), limit=3)
    picture = part(sections, "Ground truth overlay").parts[0]
    assert (
        isinstance(picture, Picture)
        and "in 3 images" in part(sections, "Classes, sizes and shapes").text
    )
