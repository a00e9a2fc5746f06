"""detection/image_names.py: names of images as a stream, and their parts."""

import os
from collections import Counter
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrcnn.detection.image_names import check_folder, image_names, in_shard


def test_names_are_those_that_a_walk_finds(tmp_path):
    for name in ("1.jpg", "2.JPEG", "a/3.png", "a/b/c/4.tif", "a/b/5.txt", "6", ".hidden.webp"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "folder.jpg" / "7.bmp").touch()
    walked = {
        os.path.relpath(os.path.join(where, name), tmp_path).replace(os.sep, "/")
        for where, _, names in os.walk(tmp_path)
        for name in names
    }
    assert set(image_names(tmp_path, recursive=True)) == walked - {"a/b/5.txt", "6"}
    assert sorted(image_names(tmp_path)) == [".hidden.webp", "1.jpg", "2.JPEG"]


def test_links_to_files_count_and_links_to_folders_are_named(tmp_path, caplog):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "1.png").touch()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "link.png").symlink_to(tmp_path / "elsewhere" / "1.png")
    (tmp_path / "photos" / "round").symlink_to(tmp_path / "photos")
    assert list(image_names(tmp_path / "photos", recursive=True)) == ["link.png"]
    assert "round is a link to a folder" in caplog.text


def test_names_come_while_the_folder_is_listed(monkeypatch):
    class Endless:
        def __enter__(self):
            return (
                SimpleNamespace(name=f"{n}.png", is_dir=lambda **_: False) for n in range(10**9)
            )

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(os, "scandir", lambda _: Endless())
    names = image_names("anywhere")
    assert [next(names) for _ in range(3)] == ["0.png", "1.png", "2.png"]


@given(st.lists(st.text()), st.integers(1, 7))
def test_each_name_is_in_one_shard(names, count):
    for name in names:
        assert sum(in_shard(name, index, count) for index in range(count)) == 1


def test_shards_are_the_same_everywhere_and_about_as_large():
    # Written down once: a name that moved would be done twice, or never.
    places = {"a.jpg": 1, "b.jpg": 2, "c/d.png": 2, "ü": 1}
    assert all(in_shard(name, place, 3) for name, place in places.items())
    sizes = Counter(i for n in range(3000) for i in range(3) if in_shard(f"{n:012d}.jpg", i, 3))
    assert all(900 < size < 1100 for size in sizes.values())


@pytest.mark.parametrize("recursive", [False, True])
def test_a_folder_that_is_none_is_named(tmp_path, recursive):
    (tmp_path / "1.png").touch()
    (tmp_path / "deep" / "empty").mkdir(parents=True)
    check_folder(tmp_path, recursive)
    with pytest.raises(NotADirectoryError, match=r"1.png is a file; name the folder"):
        check_folder(tmp_path / "1.png", recursive)
    with pytest.raises(FileNotFoundError, match="there is no folder .*nowhere"):
        check_folder(tmp_path / "nowhere", recursive)
    with pytest.raises(FileNotFoundError, match="there are no images .*deep") as caught:
        check_folder(tmp_path / "deep", recursive)
    assert ("with recursive" in str(caught.value)) is not recursive
