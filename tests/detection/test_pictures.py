"""What to detect in: files, folders, patterns, pages of TIFFs, frames of videos."""

import numpy as np
import PIL.Image
import pytest
import tifffile

from mrcnn.data.videos import video_writer
from mrcnn.detection.pictures import find_inputs, pictures_of


def photo(path, value=7):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", (6, 5), (value, value, value)).save(path)
    return path


def names(paths, **options):
    return [picture.name for picture in pictures_of(find_inputs(paths, **options))]


def test_files_folders_and_patterns(tmp_path):
    for name in ("b.png", "a.jpg", "in/c.png", "in/d.png", "in/deep/e.png", "in/notes.txt"):
        if name.endswith("txt"):
            (tmp_path / name).write_text("no image")
        else:
            photo(tmp_path / name)
    assert names([tmp_path]) == ["a.jpg", "b.png"]
    assert names([tmp_path / "in"], recursive=True) == ["c.png", "d.png", "deep/e.png"]
    assert names([tmp_path / "b.png", tmp_path / "in"]) == ["b.png", "in/c.png", "in/d.png"]
    assert names([f"{tmp_path}/**/*.png"]) == ["b.png", "in/c.png", "in/d.png", "in/deep/e.png"]
    assert names([f"{tmp_path}/in/[c].png", tmp_path / "in" / "c.png"]) == ["c.png"]
    (picture,) = pictures_of(find_inputs([tmp_path / "b.png"]))
    assert picture.read().shape == (5, 6, 3)
    with picture.open() as image:
        assert image.read((0, 0, 5, 6)).shape == (5, 6, 3)


def test_a_name_with_brackets_is_a_file_first(tmp_path):
    photo(tmp_path / "a[1].png")
    assert names([tmp_path / "a[1].png"]) == ["a[1].png"]


def test_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file, no folder and no match for"):
        find_inputs([tmp_path / "nowhere.png"])
    with pytest.raises(FileNotFoundError, match=r"no match for .*\*.png"):
        find_inputs([f"{tmp_path}/*.png"])
    photo(tmp_path / "in" / "a.png")
    with pytest.raises(FileNotFoundError, match="no images or videos .* with --recursive the fold"):
        find_inputs([tmp_path])


def test_pages_of_a_tiff(tmp_path):
    pages = np.arange(3 * 5 * 6, dtype=np.uint16).reshape(3, 5, 6)
    with tifffile.TiffWriter(tmp_path / "stack.tif") as file:
        for page in pages:
            file.write(page, metadata=None)
    pictures = list(pictures_of(find_inputs([tmp_path]), value_range=(0, 89)))
    assert [picture.name for picture in pictures] == [f"stack.tif#000{i}" for i in (1, 2, 3)]
    with pictures[1].open() as image:
        np.testing.assert_array_equal(image.read((0, 0, *pages[1].shape)), pages[1])
    np.testing.assert_array_equal(
        pictures[2].read()[..., 0], np.rint(pages[2] / 89 * 255).astype(np.uint8)
    )


def test_frames_of_a_video(tmp_path):
    with video_writer(tmp_path / "clip.avi", 12.0) as add:
        for value in (0, 100, 200):
            add(np.full((48, 64, 3), value, np.uint8))
    photo(tmp_path / "photo.png")
    pictures = list(pictures_of(find_inputs([tmp_path])))
    assert [p.name for p in pictures] == [
        *(f"clip.avi#00000{i}" for i in (1, 2, 3)),
        "photo.png",
    ]
    shades = [int(picture.read().mean()) for picture in pictures[:3]]
    assert np.allclose(shades, [0, 100, 200], atol=4)
    assert pictures[0].video == ("clip.avi", 12.0) and pictures[3].video is None


def test_damaged_files_fail_when_they_are_read(tmp_path):
    for name in ("a.tif", "b.mp4", "c.png"):
        (tmp_path / name).write_bytes(b"II*\0 not much")
    pictures = list(pictures_of(find_inputs([tmp_path])))
    assert [picture.name for picture in pictures] == ["a.tif", "b.mp4", "c.png"]
    for picture in pictures:
        with pytest.raises((OSError, ValueError), match=picture.name):
            picture.read()
