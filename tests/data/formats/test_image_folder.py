"""The files that names in annotation files mean, whatever tool wrote them."""

import logging
import os
import unicodedata

import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrcnn.data.formats.image_folder import find_images, size_and_rotation, stored_size

ACCENTED = "Blätter é.png"
NAMES = ["a.png", "a b.png", "50%.png", "deep/er/c.png", "x..y.png", ACCENTED]


@pytest.fixture
def folder(tmp_path):
    """A folder of images, and beside it one that no name may reach."""
    for name in [f"images/{name}" for name in NAMES] + ["secret/s.png", "secret/a.png"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path / "images"


def find(folder, *names, **kwargs):
    files = {f"image {number}": name for number, name in enumerate(names)}
    return find_images(files, folder, "labels.json", **kwargs)


@pytest.mark.parametrize("name", [*NAMES, "./a.png", "deep/../a.png", "deep//er/c.png"])
def test_a_name_that_is_there_is_taken_as_it_is(folder, name, caplog):
    assert find(folder, name) == {"image 0": os.path.join(folder, name)}
    assert find(str(folder) + "/", name)["image 0"] == f"{folder}/{name}"
    assert not caplog.records


def test_an_absolute_path_into_the_folder_is_taken(folder, caplog):
    assert find(folder, f"{folder}/deep/er/c.png")["image 0"] == f"{folder}/deep/er/c.png"
    assert not caplog.records


def test_names_in_the_current_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert find("", "a.png") == {"image 0": "a.png"}
    assert find(".", "deep\\er\\c.png") == {"image 0": "./deep/er/c.png"}


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("deep\\er\\c.png", "deep/er/c.png"),
        (".\\a.png", "a.png"),
        ("a%20b.png", "a b.png"),
        ("x%2e%2ey.png", "x..y.png"),
        ("deep%2Fer%5Cc.png", "deep/er/c.png"),
        ("Bl%C3%A4tter%20%C3%A9.png", ACCENTED),
        ("/a.png", "a.png"),
        ("//deep/er/c.png", "deep/er/c.png"),
        ("/home/anna/project/deep/er/c.png", "deep/er/c.png"),
        ("C:\\Users\\Anna\\a b.png", "a b.png"),
        ("C:/Users/Anna/a%20b.png", "a b.png"),
        ("\\\\server\\share\\a.png", "a.png"),
        (unicodedata.normalize("NFD", ACCENTED), ACCENTED),
        (unicodedata.normalize("NFC", ACCENTED), ACCENTED),
    ],
)
def test_a_name_of_another_spelling_is_taken_with_a_warning(folder, name, meant, caplog):
    if name == meant:
        (folder / ACCENTED).rename(folder / unicodedata.normalize("NFD", ACCENTED))
        meant = unicodedata.normalize("NFD", ACCENTED)
    with caplog.at_level(logging.WARNING, "mrcnn"):
        assert find(folder, "50%.png", name)["image 1"] == str(folder / meant)
    (record,) = caplog.records
    assert record.getMessage().startswith(
        f"labels.json: 1 file names are spelled otherwise in {folder}: image 1 has "
    )


@pytest.mark.parametrize(
    "name",
    [
        "../secret/s.png",
        "deep/../../secret/s.png",
        "..",
        "/etc/passwd",
        "{parent}/secret/s.png",
        "{parent}/images/../secret/s.png",
        "/nowhere.png",
    ],
)
@pytest.mark.parametrize("skip_invalid", [False, True])
def test_a_name_that_leads_out_of_the_folder_is_refused(folder, name, skip_invalid, caplog):
    name = name.format(parent=folder.parent)
    message = f"image 1 has the file name .* leads out of the image folder {folder}"
    if skip_invalid:
        assert list(find(folder, "a.png", name, skip_invalid=True)) == ["image 0"]
        assert "leads out of the image folder" in caplog.text
    else:
        with pytest.raises(ValueError, match=message):
            find(folder, "a.png", name)


@pytest.mark.parametrize(
    "name", ["..\\secret\\s.png", "%2e%2e/secret/s.png", "..%2fsecret%2fs.png"]
)
def test_no_spelling_leads_out_of_the_folder(folder, name):
    with pytest.raises((ValueError, FileNotFoundError), match="labels.json: image 0 "):
        find(folder, name)


NAME_PARTS = st.sampled_from(
    [
        "..",
        ".",
        "/",
        "\\",
        "%2e",
        "%2F",
        "secret",
        "s.png",
        "a.png",
        "deep",
        "er",
        "c.png",
        "C:",
        "\0",
    ]
)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.one_of(NAME_PARTS, st.text(max_size=3)), max_size=8).map("".join))
def test_whatever_a_name_is_the_file_lies_in_the_folder(tmp_path_factory, name):
    parent = tmp_path_factory.getbasetemp() / "names"
    for path in ("images/a.png", "images/deep/er/c.png", "secret/s.png", "secret/a.png"):
        (parent / path).parent.mkdir(parents=True, exist_ok=True)
        (parent / path).write_bytes(b"")
    try:
        (found,) = find(parent / "images", name).values()
    except (ValueError, FileNotFoundError) as error:
        assert str(error).startswith("labels.json: image 0 ")
    else:
        assert os.path.realpath(found).startswith(str(parent / "images") + os.sep)


def test_a_file_is_not_taken_for_two_images(folder):
    with pytest.raises(
        ValueError, match="image 1 has .*/x/a.png', which is not there; .* image 0's"
    ):
        find(folder, "a.png", "/x/a.png")
    with pytest.raises(
        ValueError, match="image 1 has .*/y/a.png', which is not there; .* image 0's"
    ):
        find(folder, "/x/a.png", "/y/a.png")
    found = find(folder, "a.png", "/x/a.png", "50%.png", skip_invalid=True)
    assert list(found) == ["image 0", "image 2"]
    # A file of two entries under its own name is the annotator's choice.
    assert len(find(folder, "a.png", "a.png")) == 2


@pytest.mark.parametrize(
    "name", ["gone.png", "deep/er/gone.png", "", "x" * 300, "a/" * 9000, "\ud800"]
)
def test_a_missing_image_is_named_and_counted(folder, name):
    with pytest.raises(
        FileNotFoundError, match="^labels.json: image 1 is not there: .*does not exi"
    ):
        find(folder, "a.png", name)
    with pytest.raises(FileNotFoundError, match="2 of 3 images are missing.$"):
        find(folder, "a.png", name, "lost.png")


def test_a_name_alike_is_suggested(folder):
    with pytest.raises(
        FileNotFoundError, match=f"A.PNG does not exist; a.png is in {folder}; 1 of"
    ):
        find(folder, "A.PNG")
    with pytest.raises(
        FileNotFoundError, match=f"images/a.png does not exist; a.png is in {folder};"
    ):
        find(folder, "images/a.png")


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=f"the folder {tmp_path}/none does not exist; 1 of 1"
    ):
        find(tmp_path / "none", "a.png")


def test_missing_images_can_be_left_out_but_not_all(folder, caplog):
    with caplog.at_level(logging.WARNING, "mrcnn"):
        found = find(folder, "a.png", "gone.png", skip_invalid=True)
    assert list(found) == ["image 0"]
    assert "image 1 is not there" in caplog.text and "1 of 2 images are left out" in caplog.text
    with pytest.raises(FileNotFoundError, match="2 of 2 images are missing"):
        find(folder, "gone.png", "lost.png", skip_invalid=True)


def test_sizes_come_from_the_header(tmp_path):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg", exif=exif)
    PIL.Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    assert stored_size(tmp_path / "a.jpg") == stored_size(tmp_path / "a.png") == (20, 30)
    assert size_and_rotation(tmp_path / "a.jpg") == (20, 30, True)
    assert size_and_rotation(tmp_path / "a.png") == (20, 30, False)
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:41])  # up to the pixels
    assert stored_size(tmp_path / "b.png") == (20, 30)
    (tmp_path / "c.png").write_bytes(b"no image")
    assert stored_size(tmp_path / "c.png") is None and stored_size(tmp_path / "gone.png") is None
    with pytest.raises(OSError, match="c.png cannot be read as an image"):
        size_and_rotation(tmp_path / "c.png")
