"""When bad images stop a run; `test_loader.py` has the rest."""

import pytest

from mrcnn.data.annotated import UnusableImage
from mrcnn.data.bad_images import BadImages, reason_of


def add(bad_images, good, bad):
    """Try this many good images, then bad ones; the number of bad ones at which it stops."""
    for image_id in range(good):
        bad_images.add_good(image_id)
    for count in range(1, bad + 1):
        try:
            bad_images.add_bad(good + count - 1, UnusableImage("bad"))
        except ValueError:
            return count
    return None


@pytest.mark.parametrize(
    "count, max_share, good, stops_at",
    [
        (100, 0.2, 0, 20),  # of the first twenty all are bad
        (100, 0.2, 9, 11),  # 11 of 20
        (100, 0.2, 10, 11),  # 10 of 20 are no majority, 11 of 21 are one
        (100, 0.2, 50, 21),  # above a fifth of 100
        (100, 0.7, 10, 24),  # 24 of 34 are above 0.7
        (100, 0, 50, 2),  # one is always allowed
        (10, 0.2, 0, 3),
        (4, 0.2, 0, 2),
        (1, 0.2, 0, 1),  # none left
        (10, 1, 0, 10),
    ],
)
def test_when_there_are_too_many(many, count, max_share, good, stops_at):
    bad_images = BadImages(many(count), max_share)
    assert add(bad_images, good, count - good) == stops_at
    with pytest.raises(ValueError, match=f"^{stops_at} of the {good + stops_at} images tried"):
        bad_images.stop_if_too_many()


def test_images_without_objects_are_not_bad(many, warned):
    bad_images = BadImages(many(40), 0)
    for image_id in range(39):
        bad_images.add_empty(image_id, "of one kind" if image_id < 20 else "of another", "empty.")
    assert [m.split(": ")[1] for m in warned()] == [
        "empty. So are all others of one kind.",
        "empty. So are all others of another.",
    ]
    with pytest.raises(ValueError, match="^40 of the 40 images tried"):
        bad_images.add_empty(39, "of one kind", "empty.")


def test_a_list_of_fifty_and_a_number(many):
    bad_images = BadImages(many(60), 1)
    with pytest.raises(ValueError) as caught:
        for image_id in range(60):
            bad_images.add_empty(image_id, "of one kind", "empty.")
    lines = str(caught.value).splitlines()
    assert len(lines) == 52 and lines[-1] == "  and 10 more"
    assert lines[50] == "  image 49 (boxes 49): empty."


def test_each_image_and_kind_is_warned_of_once(many, warned):
    bad_images = BadImages(many(3), 0)
    for kind in ("small", "small", "dark"):
        bad_images.warn_once(1, kind, f"is {kind}.")
    assert warned() == ["image 1 (boxes 1) is small.", "image 1 (boxes 1) is dark."]
    assert not bad_images.reasons


class Odd(Exception):
    pass


@pytest.mark.parametrize(
    "error, reason",
    [
        (UnusableImage("masks are too small."), "masks are too small."),
        (OSError("disk on fire"), "OSError: disk on fire"),
        (KeyError("x"), "KeyError: 'x'"),
        (AssertionError(), "AssertionError"),
        (ValueError("two\n  lines"), "ValueError: two lines"),
        (Odd("why"), f"{Odd.__module__}.Odd: why"),
    ],
)
def test_reasons_are_the_last_line_of_a_traceback(error, reason):
    assert reason_of(error) == reason


def test_long_reasons_are_shortened():
    reason = reason_of(ValueError("x" * 10_000))
    assert 400 < len(reason) <= 500 and reason.startswith("ValueError: xxx")


def test_the_error_has_the_first_traceback_of_the_users_code(many):
    def fail(text):
        raise KeyError(text)

    bad_images = BadImages(many(9), 0.5)
    bad_images.add_bad(0, OSError("gone"))
    with pytest.raises(ValueError, match="Traceback") as caught:
        for image_id, text in enumerate(["first", "second", "third", "fourth"], start=1):
            try:
                fail(text)
            except KeyError as error:
                bad_images.add_bad(image_id, error)
    after = str(caught.value).split("The first error in the code of the Dataset:\n")[1]
    assert after.endswith("KeyError: 'first'") and "in fail" in after
    assert caught.value.__cause__ is None and caught.value.__suppress_context__
