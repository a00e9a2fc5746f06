"""Reading image files: every format as RGB of 8 bits."""

import cv2
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import skimage.io
import tifffile

from mrcnn.data.image_files import load_image_file, read_image, say_once, turns

RGB = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
GRAY = RGB[:, :, 0]


def save(path, pixels, mode=None, **options):
    PIL.Image.fromarray(pixels).convert(mode).save(path, **options)


def test_colour_files(tmp_path):
    for name in ("a.png", "a.bmp", "a.tif", "a.ppm"):
        save(tmp_path / name, RGB)
        np.testing.assert_array_equal(read_image(tmp_path / name), RGB)
    save(tmp_path / "a.png", RGB, "RGBA")
    np.testing.assert_array_equal(read_image(str(tmp_path / "a.png")), RGB)
    save(tmp_path / "a.webp", RGB, lossless=True)
    np.testing.assert_array_equal(read_image(tmp_path / "a.webp"), RGB)


def test_lossy_and_palette_files(tmp_path):
    smooth = np.linspace(0, 255, 20 * 30 * 3).reshape(20, 30, 3).astype(np.uint8)
    for name, mode in (("a.jpg", "RGB"), ("b.jpg", "CMYK"), ("a.gif", "P"), ("p.png", "P")):
        save(tmp_path / name, smooth, mode)
        image = read_image(tmp_path / name)
        assert image.shape == smooth.shape and image.dtype == np.uint8
        assert np.abs(image.astype(int) - smooth).mean() < 20, name


def test_a_palette_with_transparency(tmp_path):
    save(tmp_path / "p.png", GRAY, "P", transparency=bytes(range(256)))
    np.testing.assert_array_equal(read_image(tmp_path / "p.png")[:, :, 1], GRAY)


def test_gray_files(tmp_path):
    expected = np.repeat(GRAY[:, :, None], 3, axis=2)
    for name in ("a.png", "a.tif", "a.pgm"):
        save(tmp_path / name, GRAY)
        np.testing.assert_array_equal(read_image(tmp_path / name), expected)
    save(tmp_path / "la.png", GRAY, "LA")
    np.testing.assert_array_equal(read_image(tmp_path / "la.png"), expected)
    save(tmp_path / "bits.png", GRAY > 128)
    assert set(np.unique(read_image(tmp_path / "bits.png"))) == {0, 255}


def test_sixteen_bits_become_eight(tmp_path):
    wide = GRAY.astype(np.uint16) * 257
    skimage.io.imsave(tmp_path / "g.png", wide, check_contrast=False)
    skimage.io.imsave(tmp_path / "g.tif", wide, check_contrast=False)
    skimage.io.imsave(tmp_path / "c.tif", RGB.astype(np.uint16) * 257, check_contrast=False)
    expected = np.repeat(GRAY[:, :, None], 3, axis=2)
    np.testing.assert_array_equal(read_image(tmp_path / "g.png"), expected)
    np.testing.assert_array_equal(read_image(tmp_path / "g.tif"), expected)
    np.testing.assert_array_equal(read_image(tmp_path / "c.tif"), RGB)


def test_floats_of_0_to_1(tmp_path):
    skimage.io.imsave(tmp_path / "f.tif", (RGB / 255).astype(np.float32), check_contrast=False)
    np.testing.assert_array_equal(read_image(tmp_path / "f.tif"), RGB)
    skimage.io.imsave(tmp_path / "g.tif", np.array([[-3.0, 90.0]]), check_contrast=False)
    with pytest.raises(ValueError, match=r"g.tif.*float64 from -3.0 to 90.0.*IMAGE_VALUE_RANGE"):
        read_image(tmp_path / "g.tif")
    assert read_image(tmp_path / "g.tif", value_range=(-3, 90))[0, :, 0].tolist() == [0, 255]


def test_a_format_only_opencv_knows(tmp_path):
    cv2.imwrite(str(tmp_path / "a.hdr"), np.full((4, 5, 3), (0.0, 0.5, 1.0), np.float32))
    image = read_image(tmp_path / "a.hdr")
    assert image.shape == (4, 5, 3)
    assert image[0, 0, 0] == 255 and image[0, 0, 2] == 0  # OpenCV's BGR has become RGB


def test_one_pixel(tmp_path):
    save(tmp_path / "dot.png", RGB[:1, :1])
    np.testing.assert_array_equal(read_image(tmp_path / "dot.png"), RGB[:1, :1])


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.hdr", "wide.tif", "wide.png"])
def test_damaged_files_are_named(tmp_path, name):
    path = tmp_path / name
    if name.startswith("wide"):
        cv2.imwrite(str(path), RGB.astype(np.uint16) * 257)
    elif name == "a.hdr":
        cv2.imwrite(str(path), RGB.astype(np.float32) / 255)
    else:
        save(path, RGB)
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b"hello", b""):
        path.write_bytes(damaged)
        with pytest.raises(OSError, match=f"{name} cannot be read as an image"):
            read_image(path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=name):
        read_image(path)


def test_an_array_of_pixels_with_one_stated_white_is_not_stretched(tmp_path):
    """A PGM says how many bits it has, so a dark one stays dark."""
    (tmp_path / "dark.pgm").write_bytes(b"P5 2 1 4095\n" + bytes([0, 0, 1, 0]))  # 0 and 256
    image = load_image_file(tmp_path / "dark.pgm")
    assert image.pixels[0, :, 0].tolist() == [0, 16] and not image.remarks


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_colours_of_12_bits_in_files_of_16(tmp_path, name):
    """Pillow keeps the upper 8 of 16 bits, which are black here."""
    cv2.imwrite(str(tmp_path / name), RGB[..., ::-1].astype(np.uint16) * 16)
    image = load_image_file(tmp_path / name)
    assert np.abs(image.pixels.astype(int) - RGB).max() <= 1
    assert [remark.key for remark in image.remarks] == [("range", (0, 4095))]


def test_colours_of_16_bits_with_alpha_in_a_png(tmp_path):
    alpha = np.full((20, 30, 1), 65535, np.uint16)
    wide = np.concatenate([RGB[..., ::-1].astype(np.uint16) * 257, alpha], axis=2)
    cv2.imwrite(str(tmp_path / "a.png"), wide)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), RGB)


def test_a_format_goes_by_the_content_and_not_by_the_name(tmp_path):
    save(tmp_path / "png named.tif", RGB, format="PNG")
    save(tmp_path / "tiff named.png", RGB, format="TIFF")
    np.testing.assert_array_equal(read_image(tmp_path / "png named.tif"), RGB)
    np.testing.assert_array_equal(read_image(tmp_path / "tiff named.png"), RGB)


def test_postscript_is_not_run(tmp_path):
    save(tmp_path / "a.eps", RGB)
    (tmp_path / "a.eps").rename(tmp_path / "a.png")
    with pytest.raises(ValueError, match="a.png is a PostScript program"):
        read_image(tmp_path / "a.png")


def test_a_page_of_a_file_with_several(tmp_path):
    other = PIL.Image.fromarray(255 - RGB)
    for name in ("a.gif", "a.webp", "a.tif"):
        options = dict(lossless=True) if name == "a.webp" else {}
        save(tmp_path / name, RGB, save_all=True, append_images=[other], **options)
        second = read_image(tmp_path / name, page=1)
        assert np.abs(second.astype(int) - (255 - RGB)).mean() < 20
        with pytest.raises(ValueError, match=f"{name} has no page 2"):
            read_image(tmp_path / name, page=2)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "lzw.tif", "wide.tif"])
@pytest.mark.parametrize("tag", range(1, 9))
def test_rotation_tags(tmp_path, name, tag):
    path, exif = tmp_path / name, PIL.Image.Exif()
    exif[0x0112] = tag
    if name == "wide.tif":
        orientation = [(274, 3, 1, tag, True)]
        tifffile.imwrite(
            path, RGB.astype(np.uint16) * 257, photometric="rgb", extratags=orientation
        )
        shown = np.asarray(PIL.ImageOps.exif_transpose(with_tag(RGB, tag)))
    else:
        options = {"a.webp": dict(lossless=True), "lzw.tif": dict(compression="tiff_lzw")}
        save(path, RGB, exif=exif, **options.get(name, {}))
        with PIL.Image.open(path) as picture:
            shown = np.asarray(PIL.ImageOps.exif_transpose(picture))
    stored = read_image(path)
    assert stored.shape == RGB.shape
    if name != "a.jpg":
        np.testing.assert_array_equal(stored, RGB)
    np.testing.assert_array_equal(read_image(path, size=RGB.shape[:2]), stored)
    if tag >= 5:
        np.testing.assert_array_equal(read_image(path, size=(30, 20)), shown)


def with_tag(pixels, tag):
    picture = PIL.Image.fromarray(pixels)
    picture.getexif()[0x0112] = tag
    return picture


def test_damaged_exif_data_do_not_matter(tmp_path):
    save(tmp_path / "a.png", RGB, exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", size=(30, 20)), RGB)


@pytest.mark.parametrize(
    ("tag", "stored", "size", "turned", "words"),
    [
        (1, (20, 30), (30, 20), False, None),
        (6, (20, 30), None, False, None),
        (6, (20, 30), (30, 20), True, None),
        (6, (20, 30), (20, 30), False, None),
        (6, (20, 20), (20, 20), False, "the same either way"),
        (6, (20, 30), (40, 60), False, "state 40x60"),
        (6, (20, 20), (40, 60), False, "state 40x60"),
        (3, (20, 30), (20, 30), False, "the same either way"),
        (2, (20, 30), (30, 20), False, "state 30x20"),
        (3, (20, 30), None, False, None),
    ],
)
def test_which_images_are_turned(tag, stored, size, turned, words):
    is_turned, doubt = turns(tag, stored, size)
    assert is_turned == turned
    assert doubt is None if words is None else words in doubt


def test_reading_without_a_data_set_says_a_range_once(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("mrcnn.data.image_files._said", {})
    for name in ("a.tif", "b.tif"):
        tifffile.imwrite(tmp_path / name, np.array([[0, 250]], np.uint16))
        assert read_image(tmp_path / name)[0, :, 0].tolist() == [0, 250]
    (message,) = caplog.messages
    assert "a.tif holds uint16 values up to 250" in message and "255 as white" in message


def test_what_was_said_is_not_said_again(tmp_path, caplog):
    tifffile.imwrite(tmp_path / "a.tif", np.array([[0, 250]], np.uint16))
    remarks, said = load_image_file(tmp_path / "a.tif").remarks, {}
    say_once(remarks, said)
    say_once(remarks, said)
    assert len(caplog.messages) == 1
