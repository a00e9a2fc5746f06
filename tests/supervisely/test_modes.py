"""The five modes: what the network sees, and where its objects are."""

import numpy as np
import pytest

from mrcnn.supervisely.modes import Existing, Region, apply_mode
from mrcnn.supervisely.schemas import checked_mode
from tests.supervisely.projects import Network, box_mask, fruit

SHAPE = (100, 120)
PLACES = [("apple", 10, 10, 30, 40), ("pear", 60, 20, 90, 50), ("apple", 40, 70, 70, 110)]


def run(name, existing=(), **mode):
    network = Network()
    image, _ = fruit(PLACES, SHAPE)
    mode = checked_mode({"name": name, **mode}, "config.json")
    found, regions = apply_mode(image, mode, existing, network)
    objects = sorted((one.title, one.patch.trimmed().box) for one in found)
    return objects, regions, network.shapes


WHOLE = sorted((title, tuple(box)) for title, *box in PLACES)


def test_the_full_image():
    objects, _, shapes = run("full_image")
    assert objects == WHOLE and shapes == [SHAPE]


def test_a_region_of_interest_in_pixels_and_percent():
    bounds = {"left": "50%", "top": "20px", "right": "5px", "bottom": "25%"}
    objects, regions, shapes = run("roi", bounds=bounds)
    assert regions == [Region((20, 60, 75, 115), "inference_roi")] and shapes == [(55, 55)]
    assert objects == [("apple", (40, 70, 70, 110))]


def test_an_object_that_the_bounds_cut_has_its_part_inside():
    objects, _, _ = run("roi", bounds={"left": "20px", "right": "80px"})
    assert objects == [("apple", (10, 20, 30, 40)), ("pear", (60, 20, 90, 40))]


@pytest.mark.parametrize(
    "bounds", [{"left": "60%", "right": "40%"}, {"top": "99px", "bottom": "1px"}, {"top": "200px"}]
)
def test_bounds_that_leave_nothing(bounds):
    with pytest.raises(ValueError, match="leave nothing of an image of 100x120 pixels"):
        run("roi", bounds=bounds)


def test_boxes_of_existing_objects_with_padding():
    existing = [Existing("a", (60, 20, 90, 50)), Existing("b", (0, 0, 20, 20))]
    padding = {"left": "10px", "top": "50%", "right": "0px", "bottom": "30px"}
    objects, regions, _ = run("bboxes", existing, padding=padding, from_classes=["a"])
    assert regions == [Region((45, 10, 100, 50), "a_input_bbox")]
    assert objects == [("pear", (60, 20, 90, 50))]
    assert len(run("bboxes", existing)[1]) == 2
    assert run("bboxes", [])[0] == []


@pytest.mark.parametrize("name", ["sliding_window", "sliding_window_det"])
@pytest.mark.parametrize("side", [50, 64, 100])
def test_masks_of_sliding_windows_are_joined(name, side):
    window, overlap = {"width": side, "height": side}, {"x": 16, "y": 16}
    objects, regions, shapes = run(name, window=window, min_overlap=overlap)
    assert objects == WHOLE
    assert set(shapes) == {(side, side)} and len(regions) == len(shapes) > 1
    assert {region.title for region in regions} == {"sliding_window_bbox"}
    assert max(region.box[2] for region in regions) == 100
    assert max(region.box[3] for region in regions) == 120


def test_a_window_larger_than_the_image():
    with pytest.raises(ValueError, match=r"mode\.window is 50x121 .* image of 100x120"):
        run("sliding_window", window={"width": 121, "height": 50})


class Twice(Network):
    """Finds each object twice, the second time a column to the right and less sure."""

    def _of(self, part):
        for one in super()._of(part):
            yield one
            moved = one.patch._replace(left=one.patch.left + 1)
            yield one._replace(patch=moved, score=one.score / 2)


@pytest.mark.parametrize(("threshold", "count"), [(0.5, 3), (0.99, 6)])
def test_suppression_after_sliding(threshold, count):
    image, _ = fruit(PLACES, SHAPE)
    content = {
        "name": "sliding_window_det",
        "window": {"width": 120, "height": 100},
        "nms_after": {"iou_threshold": threshold},
    }
    found, _ = apply_mode(image, checked_mode(content, ""), (), Twice())
    assert len(found) == count
    content["nms_after"]["enable"] = False
    assert len(apply_mode(image, checked_mode(content, ""), (), Twice())[0]) == 6


def test_the_masks_are_those_of_the_objects():
    image, _ = fruit(PLACES, SHAPE)
    mode = checked_mode(
        {"name": "sliding_window", "window": {"width": 50, "height": 50}, "min_overlap": {"x": 9}},
        "",
    )
    found, _ = apply_mode(image, mode, (), Network())
    for one in found:
        (place,) = (p for p in PLACES if p[0] == one.title and tuple(p[1:]) == one.patch.box)
        whole = one.patch.part((0, 0, *SHAPE))
        np.testing.assert_array_equal(whole, box_mask(SHAPE, *place[1:]))
