"""Masks and label images as files: which numbers are read, what is refused."""

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from mrcnn.data.formats import raster_files
from mrcnn.data.formats.raster_files import (
    label_size,
    mask_size,
    read_labels,
    read_mask,
    write_labels,
    write_mask,
)
from tests.data.formats.labelled import new_folders

LABELS = np.array([[0, 1, 1, 0], [0, 2, 250, 250], [3, 3, 0, 0]])


def save(path, pixels, **kwargs):
    if path.suffix == ".png":
        Image.fromarray(pixels).save(path)
    else:
        tifffile.imwrite(path, pixels, **kwargs)
    return path


@pytest.mark.parametrize("ending", [".png", ".tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_numbers_of_8_and_16_bits(tmp_path, ending, dtype):
    path = save(tmp_path / f"a{ending}", LABELS.astype(dtype))
    assert label_size(path) == (3, 4)
    np.testing.assert_array_equal(read_labels(path), LABELS)


@pytest.mark.parametrize("dtype", [np.uint32, np.int32, np.int64, ">u2", ">u4"])
def test_tiffs_of_more_bits(tmp_path, dtype):
    labels = (LABELS.astype(np.int64) * 257).astype(dtype)
    path = save(tmp_path / "a.tif", labels, compression="zlib", photometric="minisblack")
    np.testing.assert_array_equal(read_labels(path), LABELS * 257)


def test_imagej_writes_a_label_image_as_one_slice(tmp_path):
    path = save(tmp_path / "a.tif", LABELS.astype(np.uint16), imagej=True)
    np.testing.assert_array_equal(read_labels(path), LABELS)


def test_places_in_the_palette_count(tmp_path):
    """QuPath colours label images so; two entries may even have one colour."""
    picture = Image.fromarray(LABELS.astype(np.uint8))
    picture.putpalette([9, 9, 9] * 256)
    picture.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), LABELS)


def test_one_bit_is_one_object(tmp_path):
    Image.fromarray(LABELS > 0).save(tmp_path / "a.png")
    labels = read_labels(tmp_path / "a.png")
    np.testing.assert_array_equal(labels, LABELS > 0)
    assert labels.dtype == np.uint8


@given(
    hnp.arrays(
        np.uint32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
        elements=st.sampled_from([0, 1, 2, 255, 256, 65535, 65536, 2**32 - 1]),
    )
)
def test_written_labels_are_read_again(labels):
    with new_folders() as (_, target):
        write_labels(target / "a.tif", labels)
        back = read_labels(target / "a.tif")
        np.testing.assert_array_equal(back, labels)
        assert back.dtype == (np.uint32 if labels.max() > 65535 else np.uint16)


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6)))
def test_written_masks_are_read_again(mask):
    with new_folders() as (_, target):
        write_mask(target / "a.png", mask)
        assert mask_size(target / "a.png") == mask.shape
        np.testing.assert_array_equal(read_mask(target / "a.png"), mask)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16"])
@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_masks_of_every_kind(tmp_path, mode, ending):
    """Black is background, whatever the transparency."""
    if (mode, ending) == ("I;16", ".tif"):
        picture = Image.fromarray((LABELS > 0).astype(np.uint16))
    elif mode == "I;16":
        picture = Image.fromarray((LABELS > 0).astype(np.uint16) * 300)
    else:
        picture = Image.fromarray((LABELS > 0).astype(np.uint8) * 255).convert(mode)
    path = tmp_path / f"a{ending}"
    picture.save(path)
    assert mask_size(path) == (3, 4)
    np.testing.assert_array_equal(read_mask(path), LABELS > 0)


def test_a_faint_colour_is_not_black(tmp_path):
    pixels = np.zeros((3, 4, 3), np.uint8)
    pixels[1, 2, 2] = 1
    read = read_mask(save(tmp_path / "a.png", pixels))
    assert read.sum() == 1 and read[1, 2]


def test_transparency_of_16_bits_does_not_count(tmp_path):
    pixels = np.zeros((3, 4, 4), np.uint16)
    pixels[..., 3] = 65535
    pixels[1, 2, 0] = 7
    path = save(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=["unassalpha"])
    read = read_mask(path)
    assert read.sum() == 1 and read[1, 2]


@pytest.mark.parametrize(
    ("name", "pixels", "message"),
    [
        ("a.tif", np.zeros((5, 3, 4), np.uint16), "is a stack of 5 pages; save each image"),
        ("a.tif", np.zeros((3, 4), np.float32), "has floats of 32 bits; a label image has whole"),
        ("a.png", np.zeros((3, 4, 3), np.uint8), "has the mode RGB; a label image has one channel"),
        ("a.tif", np.zeros((9, 9, 3), np.uint8), "has 3 channels; a label image has one channel"),
    ],
)
def test_what_is_no_label_image(tmp_path, name, pixels, message):
    path = tmp_path / name
    if name == "a.tif" and pixels.ndim == 3:
        is_rgb = pixels.shape[2] == 3
        save(path, pixels, photometric="rgb" if is_rgb else "minisblack", metadata=None)
    else:
        save(path, pixels)
    for read in (label_size, read_labels):
        with pytest.raises(ValueError, match=f"^{message}"):
            read(path)


def test_a_float_picture_of_pillow_is_refused(tmp_path):
    Image.fromarray(np.zeros((3, 4), np.float32)).save(tmp_path / "a.pfm")
    with pytest.raises(ValueError, match="^has floats; a label image has whole numbers"):
        label_size(tmp_path / "a.pfm")


def test_negative_numbers_are_refused(tmp_path):
    path = save(tmp_path / "a.tif", np.array([[0, -3]], np.int32))
    with pytest.raises(ValueError, match="^has the number -3; 0 is background"):
        read_labels(path)


def test_an_animation_is_no_mask(tmp_path):
    frames = [Image.new("L", (4, 3), grey) for grey in (0, 100, 200)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match="^is a stack of 3 images"):
        mask_size(tmp_path / "a.png")


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_damage_is_named(tmp_path, ending):
    whole = save(tmp_path / f"a{ending}", (np.arange(40000) % 251).reshape(200, 200).astype("u1"))
    data = whole.read_bytes()
    whole.write_bytes(data[: len(data) // 2] if ending == ".png" else data[:4])
    for read in (read_mask, read_labels):
        with pytest.raises(ValueError, match="^cannot be read as an image: "):
            read(whole)
    (tmp_path / "b.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="^cannot be read as an image: "):
        mask_size(tmp_path / "b.png")


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", LABELS.astype(np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    monkeypatch.setattr(raster_files, "_decoded", None)
    with pytest.raises(ValueError, match="pixels"):
        label_size(path)


def test_only_the_channels_of_a_plain_array_are_labels(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", LABELS.astype(np.uint8))
    monkeypatch.setattr(raster_files, "_label_pixels", lambda path: np.zeros((3, 4, 2), np.uint8))
    with pytest.raises(ValueError, match=r"^holds an array of shape \(3, 4, 2\)"):
        read_labels(path)
