"""samples/galaxy/catalogue.py: shapes of drawn ellipses, grey values, whole files or none."""

import json
import math

import numpy as np
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from samples.galaxy import catalogue as c


def ellipse(long, short, angle, shape=(121, 141), center=(60.3, 70.6)):
    """A filled ellipse with these semi-axes, its long one `angle` degrees from up to the left."""
    y, x = np.indices(shape)
    up, left = center[0] - y, center[1] - x
    turn = math.radians(angle)
    along = up * math.cos(turn) + left * math.sin(turn)
    across = left * math.cos(turn) - up * math.sin(turn)
    return (along / long) ** 2 + (across / short) ** 2 <= 1


@given(
    long=st.floats(20, 50), ratio=st.floats(0.15, 0.9), angle=st.floats(0, 180, exclude_max=True)
)
def test_the_shape_of_an_ellipse_is_its_own(long, ratio, angle):
    area, found, found_ratio = c.mask_shape(ellipse(long, ratio * long, angle))
    assert area == pytest.approx(math.pi * ratio * long**2, rel=0.06)
    difference = (found - angle + 90) % 180 - 90
    assert abs(difference) < 2.5 and 0 <= found < 180
    assert found_ratio == pytest.approx(ratio, abs=0.03)


def test_angles_of_lines_go_from_up_to_the_left():
    line = np.zeros((9, 9), bool)
    line[:, 4] = True
    assert c.mask_shape(line)[1] == pytest.approx(0)
    assert c.mask_shape(line.T)[1] == pytest.approx(90)
    assert c.mask_shape(np.eye(9, dtype=bool))[1] == pytest.approx(45)
    assert c.mask_shape(np.eye(9, dtype=bool)[:, ::-1])[1] == pytest.approx(135)


def test_one_pixel_is_round_and_none_has_no_shape():
    mask = np.zeros((5, 5), bool)
    assert c.mask_shape(mask)[0] == 0 and np.isnan(c.mask_shape(mask)[1:]).all()
    mask[2, 3] = True
    assert c.mask_shape(mask) == (1, 0.0, 1.0)


def detection_of(*masks, shape=(40, 50)):
    """What `detect` would return of boxes `(y1, x1, y2, x2)` as masks."""
    stacked = np.zeros((*shape, len(masks)), bool)
    for i, (y1, x1, y2, x2) in enumerate(masks):
        stacked[y1:y2, x1:x2, i] = True
    return {
        "rois": np.array(masks, np.int32).reshape(-1, 4),
        "class_ids": np.array([2 - i % 2 for i in range(len(masks))], np.int32),
        "scores": np.array([0.9 - 0.1 * i for i in range(len(masks))], np.float32),
        "masks": stacked,
    }


def test_the_first_of_two_keeps_a_pixel():
    masks = detection_of((0, 0, 10, 10), (5, 5, 15, 15))["masks"]
    labels = c.label_detections(masks)
    assert labels.dtype == np.uint8 and labels.shape == (40, 50)
    np.testing.assert_array_equal(labels == 1, masks[..., 0])
    np.testing.assert_array_equal(labels == 2, masks[..., 1] & ~masks[..., 0])
    assert not c.label_detections(np.zeros((4, 5, 0), bool)).any()


def test_a_row_says_where_what_and_how_sure():
    found = detection_of((3, 4, 13, 34), (3, 4, 13, 34), (20, 10, 30, 14))
    rows = c.rows_of("J1", found, ("spiral", "bar"))
    assert [list(row) for row in rows] == [list(c.TYPES)] * 3
    first, second, third = rows
    assert (first["object_id"], first["label"], first["class_name"]) == ("J1", 2, "bar")
    assert second["class_name"] == "spiral"
    assert first["score"] == pytest.approx(0.9)
    assert [first[name] for name in c.BOX_COLUMNS] == [4, 3, 33, 12]
    assert (first["area"], first["position_angle"]) == (300, 90)
    assert first["axis_ratio"] == pytest.approx(1 / 3, abs=0.001)
    assert third["position_angle"] == 0
    assert [row["grey_value"] for row in rows] == [1, 0, 3]  # the second lies under the first
    decoded = coco_mask.decode(json.loads(third["mask"]))
    np.testing.assert_array_equal(decoded, found["masks"][..., 2])
    assert c.rows_of("J1", detection_of(), ("spiral", "bar")) == []


READ = {"parquet": pandas.read_parquet, "csv": pandas.read_csv}


@pytest.mark.parametrize("ending", c.FORMATS)
@pytest.mark.parametrize("count", [0, 1, 3000])
def test_both_formats_hold_all_rows(tmp_path, ending, count):
    path = tmp_path / "new" / f"found.{ending}"
    rows = c.rows_of("J1", detection_of((0, 0, 9, 3)), ("spiral", "bar"))
    with c.written_catalogue(path) as add:
        for i in range(count):
            add([{**rows[0], "object_id": f"J{i}"}])
            assert not path.exists()
    frame = READ[ending](path)
    assert list(frame.columns) == list(c.TYPES) and len(frame) == count
    if count:
        assert frame["object_id"].iloc[-1] == f"J{count - 1}"
        assert frame["axis_ratio"].dtype == float and frame["area"].dtype == np.int64
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", c.FORMATS)
def test_what_breaks_off_leaves_the_older_file_as_it_was(tmp_path, ending):
    path = tmp_path / f"found.{ending}"
    path.write_text("older")
    with pytest.raises(RuntimeError, match="broke"), c.written_catalogue(path) as add:
        add(c.rows_of("J1", detection_of((0, 0, 9, 3)), ("spiral", "bar")))
        raise RuntimeError("broke")
    assert path.read_text() == "older" and len(list(tmp_path.iterdir())) == 1


def test_another_ending_is_an_error(tmp_path):
    with (
        pytest.raises(ValueError, match="ends in 'fits'; a catalogue ends in .parquet or .csv"),
        c.written_catalogue(tmp_path / "found.fits"),
    ):
        pass
