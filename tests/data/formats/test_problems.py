"""Bad entries of a file: listed in one error, or left out with a count."""

import logging
import math

import PIL.Image
import pytest

from mrcnn.data.formats.problems import (
    FARTHEST,
    Problems,
    is_coordinate,
    outline,
    pixel_limit,
    problem_of_image_size,
    quoted,
)


def problems_of(count, **kwargs):
    problems = Problems("labels.json", **kwargs)
    for number in range(count):
        problems.add(f"annotation {number}", "has no polygon.")
    return problems


def test_without_problems_nothing_happens(caplog):
    for skip_invalid in (None, False, True):
        problems = problems_of(0, skip_invalid=skip_invalid)
        problems.settle()
        assert problems.count == 0 and not caplog.records


def test_one_problem_is_one_sentence():
    with pytest.raises(ValueError) as error:
        problems_of(1).settle()
    assert str(error.value) == "labels.json: annotation 0 has no polygon."
    with pytest.raises(ValueError, match="no polygon. With skip_invalid=True it is left out.$"):
        problems_of(1, skip_invalid=False).settle()


@pytest.mark.parametrize(("count", "lines", "rest"), [(2, 2, 0), (10, 10, 0), (11, 10, 1)])
def test_all_problems_are_listed_up_to_ten(count, lines, rest):
    with pytest.raises(ValueError) as error:
        problems_of(count, skip_invalid=False).settle()
    first, *listed = str(error.value).split("\n")
    assert first == (
        f"labels.json: {count} entries cannot be used; skip_invalid=True leaves them out:"
    )
    expected = [f"  annotation {number} has no polygon." for number in range(lines)]
    assert listed == expected + ["  and 1 more."] * rest
    with pytest.raises(ValueError, match=f"^labels.json: {count} entries cannot be used:\n"):
        problems_of(count).settle()


def test_entries_that_are_left_out_are_counted_in_the_log(caplog):
    with caplog.at_level(logging.WARNING, "mrcnn"):
        problems_of(12, skip_invalid=True).settle()
    (record,) = caplog.records
    text = record.getMessage()
    assert text.startswith("labels.json: 12 entries cannot be used and are left out:\n  annotation")
    assert text.endswith("annotation 9 has no polygon.\n  and 2 more.")


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "None"), ("  ", "'  '"), ([1, 2], "[1, 2]"), (nested(100_000), "a deeply nested list")],
)
def test_short_values_are_quoted_whole(value, text):
    assert quoted(value) == text


@pytest.mark.parametrize("value", ["x" * 1000, 10**400, list(range(999)), "\n" * 400])
def test_long_values_are_cut_to_one_line(value):
    assert len(quoted(value)) <= 60 and "\n" not in quoted(value) and quoted(value).endswith("…")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([1], "a list"),
        (None, "a NoneType"),
        ({}, "an object with nothing"),
        ({"shapes": 1, "version": 2}, "an object with shapes, version"),
        ({str(i): i for i in range(50)}, "an object with 0, 1, 2, 3, 4, 5, 6, 7 and 42 more"),
    ],
)
def test_what_a_file_holds_is_told_in_a_few_words(content, text):
    assert outline(content) == text


def test_a_coordinate_is_a_finite_number_of_sensible_size():
    for value in (0, -3, 2.5, FARTHEST, -FARTHEST):
        assert is_coordinate(value)
    for value in (FARTHEST + 1, 1e300, 10**400, math.nan, math.inf, True, "3", None, [3]):
        assert not is_coordinate(value)


def test_sizes_of_images():
    for height, width in ((1, 1), (480, 640), (pixel_limit(), 1), (13_000, 13_000)):
        assert problem_of_image_size(height, width) is None
    for height in (0, -1, 2.0, True, None, "480", [480]):
        assert "has the height" in problem_of_image_size(height, 640)
        assert "has the width" in problem_of_image_size(640, height)
    for height, width in (
        (pixel_limit() + 1, 1),
        (2, pixel_limit()),
        (200_000_000, 40),
        (10**400,) * 2,
    ):
        assert "pixels (width x height); an image may have" in problem_of_image_size(height, width)


def test_the_pixel_limit_is_pillows(monkeypatch):
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 100)
    assert problem_of_image_size(10, 20) is None
    assert "has 21x10 pixels" in problem_of_image_size(10, 21)
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", None)
    assert problem_of_image_size(2**15, 2**15) is None
    assert "at most 2,147,483,647" in problem_of_image_size(2**16, 2**16)
