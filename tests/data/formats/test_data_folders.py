"""Folders of data sets: names, classes, and where a data set may be written."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mrcnn.data.formats.data_folders import (
    FileNames,
    check_class_names,
    copy_image,
    files_in,
    folder_names,
    folders_in,
    read_class_file,
    safe_name,
    start_folder,
    write_class_file,
)
from mrcnn.data.formats.objects import LabelledImage
from tests.data.formats.labelled import new_folders


@given(st.text())
def test_a_safe_name_is_one_file_in_every_folder(name):
    safe = safe_name(name)
    assert safe and not safe.startswith(".") and not safe.endswith((".", " "))
    assert not set(safe) & set('/\\:*?"<>|\0\n')
    assert len(safe.encode()) < 130


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("cell", "cell"),
        ("Zelle ü", "Zelle ü"),
        ("a/b", "a_b"),
        ("..", "_"),
        (".hidden", "_.hidden"),
        ("", "_"),
        ("con", "con_"),
        ("nul.txt", "nul_.txt"),
        ("\udcff", "_"),
    ],
)
def test_safe_names(name, safe):
    assert safe_name(name).replace("?", "_") == safe


@given(st.lists(st.text("aA/:.", max_size=3), unique=True))
def test_classes_have_different_folders(names):
    folders = folder_names(names)
    assert len({folder.casefold() for folder in folders.values()}) == len(names)


def image(name, path="missing"):
    return LabelledImage(name, str(path), 1, 1, [])


@given(st.lists(st.text("aA/.\\", min_size=1, max_size=3), unique=True))
def test_images_have_different_stems(names):
    picked = FileNames()
    stems = [picked.pick(image(f"{name}.png")) for name in names]
    assert len({stem.casefold() for stem, _ in stems}) == len(names)
    assert {ending for _, ending in stems} <= {".png"}


def test_an_ending_of_images_stays():
    names = FileNames()
    assert names.pick(image("a/b.PNG")) == ("a_b", ".PNG")
    assert names.pick(image("a_b.jpg")) == ("a_b-2", ".jpg")


@pytest.mark.parametrize(("kind", "ending"), [("PNG", ".png"), ("JPEG", ".jpg"), ("TIFF", ".tif")])
def test_an_image_without_an_ending_gets_that_of_its_content(tmp_path, kind, ending):
    Image.new("RGB", (2, 2)).save(tmp_path / "scan.0.5", kind)
    assert FileNames().pick(image("scan.0.5", tmp_path / "scan.0.5")) == ("scan.0.5", ending)


def test_an_image_that_no_folder_would_show_is_refused(tmp_path):
    Image.new("L", (2, 2)).save(tmp_path / "a.gif")
    for name in ("a.gif", "missing"):
        with pytest.raises(ValueError, match=f"{name} does not end in .bmp.*; save it as PNG"):
            FileNames().pick(image(name, tmp_path / name))


def test_hidden_files_and_folders_do_not_count(tmp_path):
    for name in ("b.png", "A.PNG", ".a.png", "a.txt"):
        (tmp_path / name).touch()
    for name in ("z.png", ".git", "y"):
        (tmp_path / name).mkdir()
    assert [path.name for path in files_in(tmp_path)] == ["A.PNG", "b.png"]
    assert [path.name for path in folders_in(tmp_path)] == ["y", "z.png"]
    assert files_in(tmp_path / "missing") == folders_in(tmp_path / "missing") == []


# ---- Class files -------------------------------------------------------------------------------


@given(
    st.lists(
        st.text(string.printable + "ü\u2028", min_size=1, max_size=5).filter(
            lambda name: (
                name.strip() and len(name.splitlines()) == 1 and name == name.splitlines()[0]
            )
        ),
        min_size=1,
        unique=True,
    )
)
def test_class_files_round_trip(names):
    with new_folders() as (folder, _):
        write_class_file(folder, names)
        assert read_class_file(folder) == names


def test_class_files_of_other_systems(tmp_path):
    assert read_class_file(tmp_path) is None
    (tmp_path / "classes.txt").write_bytes("\ufeffa b\r\n\r\nc\r\n".encode())
    assert read_class_file(tmp_path) == ["a b", "c"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\nb\na\n", "the class 'a' is there twice"),
        (b"\n", r"classes is \[\]; it must be a list of class names"),
        (b"\xff\xfe\x00", "is not a text file in UTF-8"),
        (b"a" * 1_000_001, "has 1,000,001 bytes; it must be a short list"),
    ],
)
def test_class_files_that_cannot_be_used(tmp_path, content, message):
    (tmp_path / "classes.txt").write_bytes(content)
    with pytest.raises(ValueError, match=f"classes.txt.*{message}"):
        read_class_file(tmp_path)


@pytest.mark.parametrize("names", ["cell", None, [], 7])
def test_names_must_be_a_list(names):
    with pytest.raises(ValueError, match=r"^data: classes is .*; it must be a list of class names"):
        check_class_names(names, "data")


@pytest.mark.parametrize("name", ["", " ", "a\nb", "a\u2028b", 5])
def test_a_name_is_one_line(name):
    with pytest.raises(ValueError, match="is no class name"):
        check_class_names(["a", name], "data")


# ---- Writing -----------------------------------------------------------------------------------


def test_a_data_set_is_written_to_a_new_or_empty_folder(tmp_path):
    assert start_folder(tmp_path / "a" / "b").is_dir()
    assert start_folder(tmp_path / "a" / "b").is_dir()
    with pytest.raises(ValueError, match=r"a is not empty: it has b; name a new or empty folder"):
        start_folder(tmp_path / "a")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="file is a file; name a new or empty folder"):
        start_folder(tmp_path / "file")


def test_a_copy_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(FileNotFoundError):
        copy_image(image("a.png", tmp_path / "missing.png"), tmp_path / "new" / "a.png")
    assert list((tmp_path / "new").iterdir()) == []
