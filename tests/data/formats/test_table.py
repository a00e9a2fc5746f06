"""Tables of instances beside pictures and masks: what is read, what is refused and how."""

import os

import numpy as np
import pandas
import PIL.Image
import pytest

from mrcnn.data.formats.table import COLUMNS, TableDataset, image_path, mask_path, read_table

CLASSES = ("spiral", "bar")
NAN = float("nan")
# Two galaxies and a negative one; the mask of the first has the grey values 7 and 200.
ROWS = [
    ("J1", 2, 4.0, 2.0, 9.0, 5.0),
    ("J2", 1, 0.0, 0.0, 3.0, 19.0),
    ("J1", 1, 10.0, 8.0, 29.0, 11.0),
    ("J3", 0, NAN, NAN, NAN, NAN),
]


def first_mask():
    mask = np.zeros((20, 30), np.uint8)
    mask[2:6, 4:10] = 7
    mask[8:12, 10:30] = 200
    return mask


def second_mask():
    mask = np.zeros((20, 30), np.uint8)
    mask[:, :4] = 1
    return mask


def save(path, pixels, mode=None):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    image = PIL.Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path)


def write_table(folder, rows=ROWS, columns=COLUMNS):
    path = folder / "mask_labels.gzip"
    pandas.DataFrame(rows, columns=list(columns)).to_parquet(path, compression="gzip")
    return path


@pytest.fixture
def folder(tmp_path):
    """A folder with three pictures, two masks and the table."""
    for number, object_id in enumerate(("J1", "J2", "J3")):
        save(image_path(tmp_path, object_id), np.full((20, 30, 3), 40 * number, np.uint8))
    save(mask_path(tmp_path, "J1"), first_mask())
    save(mask_path(tmp_path, "J2"), second_mask())
    write_table(tmp_path)
    return tmp_path


def load(folder, **kwargs):
    dataset = TableDataset()
    dataset.load_table(folder / "mask_labels.gzip", folder, classes=CLASSES, **kwargs)
    dataset.prepare()
    return dataset


def message(kind, folder, **kwargs):
    with pytest.raises(kind) as error:
        load(folder, **kwargs)
    return str(error.value)


def mask_problem(folder, object_id="J1"):
    """The message of load_mask, after checking that check says the same."""
    dataset = load(folder, object_ids=[object_id])
    with pytest.raises((ValueError, OSError)) as error:
        dataset.load_mask(0)
    with pytest.raises(ValueError) as checked:
        dataset.check()
    assert str(checked.value).split("\n")[1:] == [str(error.value)]
    return str(error.value)


# ---- What is read ------------------------------------------------------------------------------


def test_classes_and_objects_are_those_of_the_table(folder):
    dataset = load(folder)
    assert dataset.class_names == ["BG", "spiral", "bar"]
    assert [info["id"] for info in dataset.image_info] == ["J1", "J2", "J3"]
    assert dataset.load_image(1).shape == (20, 30, 3) and (dataset.load_image(1) == 40).all()


def test_the_nth_row_belongs_to_the_nth_grey_value(folder):
    dataset = load(folder)
    masks, class_ids = dataset.load_mask(0)
    assert masks.dtype == bool and class_ids.dtype == np.int32
    assert class_ids.tolist() == [2, 1]
    np.testing.assert_array_equal(masks[:, :, 0], first_mask() == 7)
    np.testing.assert_array_equal(masks[:, :, 1], first_mask() == 200)


def test_nothing_marked_needs_no_mask_but_may_have_an_empty_one(folder):
    for _ in range(2):
        dataset = load(folder, object_ids=["J3"])
        dataset.check()
        masks, class_ids = dataset.load_mask(0)
        assert masks.shape[-1] == 0 and class_ids.shape == (0,)
        save(mask_path(folder, "J3"), np.zeros((20, 30), np.uint8))


def test_objects_are_taken_in_the_order_asked_for(folder):
    dataset = load(folder, object_ids=["J3", "J1"])
    assert [info["id"] for info in dataset.image_info] == ["J3", "J1"]
    assert dataset.load_mask(1)[1].tolist() == [2, 1]


def test_two_tables_make_one_data_set(folder):
    dataset = TableDataset()
    for source, object_id in (("one", "J1"), ("two", "J2")):
        dataset.load_table(
            folder / "mask_labels.gzip", folder, [object_id], classes=CLASSES, source=source
        )
    dataset.prepare()
    assert dataset.class_names == ["BG", "spiral", "bar", "spiral", "bar"]
    assert dataset.load_mask(0)[1].tolist() == [2, 1]
    assert dataset.load_mask(1)[1].tolist() == [3]


@pytest.mark.parametrize("dtype", [np.int64, np.float64])
def test_ids_and_labels_may_be_numbers_of_any_kind(folder, dtype):
    os.rename(image_path(folder, "J2"), image_path(folder, "12"))
    os.rename(mask_path(folder, "J2"), mask_path(folder, "12"))
    frame = pandas.DataFrame([(12, *ROWS[1][1:])], columns=list(COLUMNS))
    frame = frame.astype({"object_id": dtype, "labels": dtype})
    frame.to_parquet(folder / "mask_labels.gzip")
    for object_ids in (None, [12], ["12"], np.array([12], dtype)):
        dataset = load(folder, object_ids=object_ids)
        assert dataset.image_info[0]["id"] == "12"
        assert dataset.load_mask(0)[1].tolist() == [1]


@pytest.mark.parametrize("mode", ["L", "P", "I;16", "1"])
def test_masks_may_have_any_mode_of_one_channel(folder, mode):
    mask = second_mask()
    if mode == "I;16":
        save(mask_path(folder, "J2"), mask.astype(np.uint16) * 40000)
    elif mode == "P":
        image = PIL.Image.fromarray(mask).convert("P")
        image.putpalette([0, 0, 0, 255, 0, 0])
        image.save(mask_path(folder, "J2"))
    else:
        save(mask_path(folder, "J2"), mask * 255, mode)
    masks, _ = load(folder, object_ids=["J2"]).load_mask(0)
    np.testing.assert_array_equal(masks[:, :, 0], second_mask() == 1)


@pytest.mark.parametrize("shift", [0, 1, 0.5, -1])
def test_boxes_may_name_the_last_pixel_or_the_one_behind(folder, shift):
    moved = [(*row[:4], row[4] + shift, row[5] + shift) for row in ROWS]
    write_table(folder, moved)
    load(folder).check()


def test_other_columns_do_not_matter(folder):
    write_table(folder, [(*row, "x") for row in ROWS], [*COLUMNS, "note"])
    load(folder).check()


def test_many_objects_load_without_their_masks(tmp_path):
    count = 3000
    write_table(tmp_path, [(f"g{i}", 1, 1.0, 1.0, 2.0, 2.0) for i in range(count)])
    for path_of in (image_path, mask_path):
        os.makedirs(os.path.dirname(path_of(tmp_path, "")))
        for i in range(count):
            open(path_of(tmp_path, f"g{i}"), "w").close()  # nothing in it
    assert load(tmp_path).num_images == count


# ---- Tables that cannot be used ----------------------------------------------------------------

BAD_ROWS = [
    ([("J1", 3, 1, 1, 2, 2)], "row 0, object J1, has the label 3; labels are whole numbers from 1"),
    ([("J1", 0, 1, 1, 2, 2)], "row 0, object J1, has the label 0"),
    ([("J1", 1.5, 1, 1, 2, 2)], "row 0, object J1, has the label 1.5"),
    ([("J1", NAN, 1, 1, 2, 2)], "row 0, object J1, has the label nan"),
    ([("J1", "bar", 1, 1, 2, 2)], "row 0, object J1, has labels 'bar'; it must be a number"),
    ([("J1", 1, "x", 1, 2, 2)], "row 0, object J1, has bbox_xmin 'x'; it must be a number"),
    ([("J1", 1, NAN, 1, 2, 2)], "row 0, object J1, has the box [nan, 1.0, 2.0, 2.0]; it must be"),
    ([("J1", 1, 1, 1, 2, float("inf"))], "row 0, object J1, has the box [1.0, 1.0, 2.0, inf]"),
    ([("J1", 1, 5, 1, 2, 2)], "row 0, object J1, has the box [5.0, 1.0, 2.0, 2.0], which ends bef"),
    ([(None, 1, 1, 1, 2, 2)], "row 0 has no object_id"),
    ([ROWS[1], ROWS[0], ROWS[0]], "row 2, object J1, is there twice; an instance has one row"),
    (
        [ROWS[0], ("J1", 0, NAN, NAN, NAN, NAN)],
        "row 1, object J1, has no box, which says that nothing is marked, and the object has other",
    ),
    ([], "has no rows"),
]


@pytest.mark.parametrize(("rows", "expected"), BAD_ROWS)
def test_a_row_that_cannot_be_used_is_named(folder, rows, expected):
    path = write_table(folder, rows)
    text = message(ValueError, folder)
    assert text.startswith(str(path)) and expected in text


def test_all_bad_rows_are_named_at_once(folder):
    path = write_table(folder, [("J1", n, 1.0, 1.0, 2.0, 2.0) for n in range(3, 15)])
    first, *lines = message(ValueError, folder).split("\n")
    assert first.startswith(
        f"{path}: 12 entries cannot be used; skip_invalid=True leaves them out:"
    )
    assert "row 0, object J1, has the label 3" in lines[0]
    assert "row 9, object J1, has the label 12" in lines[9] and lines[10] == "  and 2 more."


def test_objects_with_a_bad_row_can_be_left_out(folder, caplog):
    """The n-th row belongs to the n-th grey value, so that an object needs all of its rows."""
    path = write_table(
        folder, [*ROWS, ("J1", 9, 1.0, 1.0, 2.0, 2.0), (None, 1, 1.0, 1.0, 2.0, 2.0)]
    )
    for object_ids in (None, ["J1", "J2", "J3"]):
        dataset = load(folder, skip_invalid=True, object_ids=object_ids)
        assert [info["id"] for info in dataset.image_info] == ["J2", "J3"]
        dataset.check()
    assert f"{path}: 2 entries cannot be used and are left out" in caplog.text
    assert list(read_table(path, 2, skip_invalid=True)["object_id"]) == ["J2", "J3"]
    with pytest.raises(ValueError, match="has no object that can be used"):
        load(folder, skip_invalid=True, object_ids=["J1"])


def test_objects_without_their_files_can_be_left_out(folder, caplog):
    os.remove(image_path(folder, "J3"))
    os.remove(mask_path(folder, "J2"))
    dataset = load(folder, skip_invalid=True)
    assert [info["id"] for info in dataset.image_info] == ["J1"]
    assert "the picture of object J3 is not there" in caplog.text
    assert "the mask of object J2 is not there" in caplog.text
    os.remove(image_path(folder, "J1"))
    os.remove(image_path(folder, "J2"))
    with pytest.raises(FileNotFoundError, match="3 of 3 pictures are missing"):
        load(folder, skip_invalid=True)


@pytest.mark.parametrize("object_id", ["../masks/J1", "/etc/x", "a/b"])
def test_an_id_does_not_lead_to_another_folder(folder, object_id):
    write_table(folder, [(object_id, *ROWS[0][1:])])
    assert f"row 0, object {object_id}, has a slash in its object_id" in message(ValueError, folder)


def test_missing_columns_are_named(folder):
    columns = ["object_id", "label", *COLUMNS[2:5], "ymax"]
    path = write_table(folder, ROWS, columns)
    assert message(ValueError, folder) == (
        f"{path} has no column labels, bbox_ymax; it has {', '.join(columns)}, and must have "
        f"{', '.join(COLUMNS)}."
    )


@pytest.mark.parametrize("content", [b"", b"object_id,labels\n", b"PAR1 but no more"])
def test_a_file_that_is_no_parquet_is_named(folder, content):
    path = folder / "mask_labels.gzip"
    path.write_bytes(content)
    assert message(ValueError, folder).startswith(f"{path} cannot be read as a parquet file")


def test_a_missing_table_is_named(folder):
    path = folder / "mask_labels.gzip"
    path.unlink()
    assert message(FileNotFoundError, folder) == f"the table {path} does not exist."


@pytest.mark.parametrize("module", ["pandas", "pyarrow"])
def test_without_pandas_the_error_says_what_to_install(folder, monkeypatch, module):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    assert 'pip install "mask-rcnn-keras3[galaxy]"' in message(ImportError, folder)


def test_objects_that_are_not_there_are_named(folder):
    text = message(ValueError, folder, object_ids=["J1", "J9", "J8"])
    assert text.endswith("has no object J9, J8; its 3 objects begin with J1.")
    assert "J1 twice" in message(ValueError, folder, object_ids=["J1", "J2", "J1"])
    assert "object_ids is empty" in message(ValueError, folder, object_ids=[])


@pytest.mark.parametrize(("path_of", "what"), [(image_path, "picture"), (mask_path, "mask")])
def test_a_missing_file_is_named(folder, path_of, what):
    path = path_of(folder, "J2")
    os.remove(path)
    text = message(FileNotFoundError, folder)
    assert f"the {what} of object J2 is not there: {path} does not exist; 1 of" in text
    load(folder, object_ids=["J1", "J3"]).check()  # a split without it does not need it


# ---- Masks that disagree -----------------------------------------------------------------------


def test_more_grey_values_than_rows_are_named(folder):
    mask = first_mask()
    mask[0, 0] = 90
    save(mask_path(folder, "J1"), mask)
    text = mask_problem(folder)
    assert text.startswith(f"{mask_path(folder, 'J1')}: object J1 has 3 grey values other than 0")
    assert "(7, 90, 200), and 2 rows with a box in" in text


def test_a_mask_where_nothing_is_marked_is_named(folder):
    save(mask_path(folder, "J3"), first_mask())
    assert "object J3 has 2 grey values other than 0 (7, 200), and 0 rows" in mask_problem(
        folder, "J3"
    )


def test_rows_in_another_order_than_the_grey_values_are_named(folder):
    write_table(folder, [ROWS[2], ROWS[1], ROWS[0], ROWS[3]])
    dataset = load(folder)
    with pytest.raises(ValueError, match="object J1: grey value 7 covers .4, 2, 9, 5. .* row 1 of"):
        dataset.load_mask(0)
    assert len(dataset.disagreements()) == 2


@pytest.mark.parametrize("edge", range(4))
def test_a_box_two_pixels_off_is_named(folder, edge):
    row = list(ROWS[0])
    row[2 + edge] += 2
    write_table(folder, [tuple(row), *ROWS[1:]])
    assert "grey value 7 covers [4, 2, 9, 5]" in mask_problem(folder)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_a_mask_of_several_channels_is_named(folder, mode):
    save(mask_path(folder, "J1"), first_mask(), mode)
    assert f"object J1 has a mask of the mode {mode}; a mask has one channel" in mask_problem(
        folder
    )


def test_a_mask_of_another_size_than_the_picture_is_named(folder):
    save(mask_path(folder, "J1"), first_mask()[:10])
    text = mask_problem(folder)
    assert "object J1 has a mask of 30x10 pixels, and" in text and "has 30x20" in text


@pytest.mark.parametrize("keep", [0, 20, 60])
def test_a_damaged_mask_is_named(folder, keep):
    path = mask_path(folder, "J1")
    with open(path, "rb") as file:
        content = file.read()
    with open(path, "wb") as file:
        file.write(content[:keep])
    text = mask_problem(folder)
    assert path in text and "object J1" in text


def test_files_that_vanish_after_loading_are_named(folder):
    dataset = load(folder)
    os.remove(mask_path(folder, "J1"))
    os.remove(image_path(folder, "J2"))
    with pytest.raises(FileNotFoundError, match="object J1: .*J1_mask.png does not exist"):
        dataset.load_mask(0)
    assert len(dataset.disagreements()) == 2


def test_check_names_every_object_that_disagrees(folder):
    save(mask_path(folder, "J1"), first_mask(), "RGB")
    save(mask_path(folder, "J2"), np.zeros((20, 30), np.uint8))
    with pytest.raises(ValueError) as error:
        load(folder).check()
    first, *lines = str(error.value).split("\n")
    assert first == "2 disagreements between table and masks:"
    assert ["J1" in lines[0], "object J2 has 0 grey values other than 0 (none)" in lines[1]] == [
        True,
        True,
    ]


def test_read_table_gives_rows_in_the_files_order(folder):
    frame = read_table(folder / "mask_labels.gzip", 2)
    assert list(frame.columns) == list(COLUMNS)
    assert frame["object_id"].tolist() == ["J1", "J2", "J1", "J3"]
    assert frame["labels"].tolist() == [2, 1, 1, 0]
