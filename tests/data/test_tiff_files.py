"""TIFF files: colours, compressions, numbers of bits, pages, and what must not be believed."""

import re
import struct
import zlib

import cv2
import numpy as np
import PIL.Image
import pytest
import tifffile

from mrcnn.data.image_files import load_image_file, read_image

RGB = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
GRAY = RGB[:, :, 0]
WIDE = RGB.astype(np.uint16) * 257
PICTURE = PIL.Image.fromarray(RGB)
AS_RGB = np.repeat(GRAY[:, :, None], 3, axis=2)


@pytest.fixture
def without_imagecodecs(monkeypatch):
    """The optional package, which would decode more kinds, is not installed."""
    monkeypatch.setattr("mrcnn.data.tiff_files._has_imagecodecs", lambda: False)


# ---- Colours and compressions of 8 bits ----------------------------------------------------------


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "packbits", "tiff_adobe_deflate"])
def test_compressions(tmp_path, compression):
    PICTURE.save(tmp_path / "a.tif", compression=compression)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), RGB)


def test_jpeg_in_a_tiff(tmp_path):
    flat = np.full((20, 30, 3), (200, 30, 60), np.uint8)
    PIL.Image.fromarray(flat).save(tmp_path / "a.tif", compression="jpeg", quality=95)
    assert np.abs(read_image(tmp_path / "a.tif").astype(int) - flat).max() <= 3


@pytest.mark.parametrize("compression", ["raw", "group3", "group4", "tiff_ccitt"])
def test_fax(tmp_path, compression):
    PIL.Image.fromarray(GRAY > 128).save(tmp_path / "a.tif", compression=compression)
    expected = np.repeat((GRAY > 128)[:, :, None] * np.uint8(255), 3, axis=2)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), expected)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LAB", "RGBA", "LA"])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_colours(tmp_path, mode, compression):
    flat = np.full((20, 30, 3), (200, 30, 60), np.uint8)
    flat[5:10, 5:10] = (10, 240, 90)
    PIL.Image.fromarray(flat).convert(mode).save(tmp_path / "a.tif", compression=compression)
    image = read_image(tmp_path / "a.tif").astype(int)
    if mode == "LA":
        assert np.ptp(image[0, 0]) == 0 and image[0, 0, 0] == 84  # its brightness
    else:
        assert np.abs(image - flat).max() <= 3


def test_a_palette_without_loss(tmp_path):
    flat = np.full((20, 30, 3), (200, 30, 60), np.uint8)
    flat[5:10, 5:10] = (10, 240, 90)
    PIL.Image.fromarray(flat).quantize(8).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), flat)


@pytest.mark.parametrize("wide", [1, 257, 16])
def test_white_is_zero(tmp_path, wide):
    dtype = np.uint8 if wide == 1 else np.uint16
    tifffile.imwrite(tmp_path / "a.tif", (255 - GRAY).astype(dtype) * dtype(wide), photometric=0)
    image = read_image(tmp_path / "a.tif").astype(int)
    assert np.abs(image - AS_RGB).max() <= (wide == 16)


def test_planes_tiles_and_alpha(tmp_path):
    planes = np.ascontiguousarray(np.moveaxis(RGB, -1, 0))
    alpha = np.concatenate([RGB, GRAY[:, :, None]], axis=2)
    for pixels, options in (
        (planes, dict(planarconfig="separate")),
        (planes, dict(planarconfig="separate", compression="zlib")),
        (RGB, dict(tile=(16, 16))),
        (RGB, dict(tile=(16, 16), compression="zlib", predictor=True)),
        (alpha, dict(extrasamples=["unassalpha"])),
        (RGB, dict(bigtiff=True)),
        (RGB, dict(byteorder=">")),
    ):
        tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", **options)
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), RGB, err_msg=str(options))


# ---- More bits -----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, dict(compression="zlib"), dict(tile=(16, 16))])
@pytest.mark.parametrize("byteorder", "<>")
def test_colours_of_16_bits(tmp_path, options, byteorder):
    planes = np.ascontiguousarray(np.moveaxis(WIDE, -1, 0))
    alpha = np.concatenate([WIDE, WIDE[..., :1]], axis=2)
    for pixels, more in (
        (WIDE, {}),
        (planes, dict(planarconfig="separate")),
        (alpha, dict(extrasamples=["unassalpha"])),
    ):
        options = {**options, **more, "byteorder": byteorder, "photometric": "rgb"}
        tifffile.imwrite(tmp_path / "a.tif", pixels, **options)
        image = load_image_file(tmp_path / "a.tif")
        np.testing.assert_array_equal(image.pixels, RGB, err_msg=str(options))
        assert not image.remarks
        options.pop("planarconfig", None), options.pop("extrasamples", None)


def test_16_bits_with_lzw(tmp_path, without_imagecodecs):
    lzw = [cv2.IMWRITE_TIFF_COMPRESSION, 5]
    cv2.imwrite(str(tmp_path / "rgb.tif"), WIDE[..., ::-1], lzw)
    PIL.Image.fromarray(WIDE[..., 0]).save(tmp_path / "grey.tif", compression="tiff_lzw")
    for name, expected in (("rgb.tif", RGB), ("grey.tif", AS_RGB)):
        with tifffile.TiffFile(tmp_path / name) as tif:
            assert tif.pages[0].compression == 5 and tif.pages[0].dtype == np.uint16
        np.testing.assert_array_equal(read_image(tmp_path / name), expected)


def test_16_bits_with_lzw_and_a_rotation_tag(tmp_path, without_imagecodecs):
    """OpenCV turns TIFFs, which is undone."""
    cv2.imwrite(str(tmp_path / "a.tif"), WIDE[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, 5])
    for tag in (3, 6, 8):
        with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as tif:
            tag_of = tif.pages[0].tags.get(274) or tif.pages[0].tags["PlanarConfiguration"]
            entry = tag_of.offset
        content = bytearray((tmp_path / "a.tif").read_bytes())
        content[entry : entry + 12] = struct.pack("<HHIHH", 274, 3, 1, tag, 0)
        (tmp_path / "a.tif").write_bytes(content)
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), RGB)


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.uint32, np.int32, np.float32])
def test_fewer_bits_than_the_file_has(tmp_path, bits, dtype):
    white = 2**bits - 1
    values = np.array([[0, white // 2, white]])
    tifffile.imwrite(tmp_path / "a.tif", values.astype(dtype))
    image = load_image_file(tmp_path / "a.tif")
    assert image.pixels[0, :, 0].tolist() == [0, round(255 * (white // 2) / white), 255]
    (remark,) = image.remarks
    assert remark.key == ("range", (0, white)) and f"{white} as white" in remark.text


def packed_12_bits(path, values):
    """A grey TIFF of 12 bits per pixel, two pixels in three bytes."""
    data = b"".join(
        struct.pack(">I", a << 12 | b)[1:] for a, b in zip(*[iter(values)] * 2, strict=True)
    )
    tags = [(256, 3, len(values)), (257, 3, 1), (258, 3, 12), (259, 3, 1), (262, 3, 1)]
    tags += [(273, 4, 8 + 2 + 12 * 9 + 4), (277, 3, 1), (278, 3, 1), (279, 4, len(data))]
    entries = b"".join(
        struct.pack("<HHII", code, kind, 1, value) for code, kind, value in sorted(tags)
    )
    header = b"II*\0" + struct.pack("<I", 8)
    path.write_bytes(header + struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0) + data)


def test_12_bits_that_the_header_states(tmp_path):
    packed_12_bits(tmp_path / "a.tif", [0, 100, 200, 400])
    image = load_image_file(tmp_path / "a.tif")
    assert image.pixels[0, :, 0].tolist() == [0, 6, 12, 25] and not image.remarks


def test_bits_that_other_tags_state(tmp_path):
    dark = np.array([[0, 400]], np.uint16)
    for tags, expected in (
        ([(281, "H", 1, 4000, True)], 25),  # MaxSampleValue: 12 bits
        ([(281, "H", 1, 65535, True)], 2),
        ([(281, "H", 1, 300, True)], 100),  # contradicts the data: they need 10 bits
        ([(281, "H", 1, 0, True)], 100),
    ):
        tifffile.imwrite(tmp_path / "a.tif", dark, extratags=tags, metadata=None)
        assert read_image(tmp_path / "a.tif")[0, :, 0].tolist() == [0, expected]
    tifffile.imwrite(tmp_path / "a.ome.tif", dark, metadata={"SignificantBits": 14})
    assert read_image(tmp_path / "a.ome.tif")[0, :, 0].tolist() == [0, 6]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_floats_of_0_to_1(tmp_path, dtype, compression):
    for pixels, expected, options in ((RGB, RGB, dict(photometric="rgb")), (GRAY, AS_RGB, {})):
        floats = (pixels / 255).astype(dtype)
        tifffile.imwrite(tmp_path / "a.tif", floats, compression=compression, **options)
        image = load_image_file(tmp_path / "a.tif")
        assert np.abs(image.pixels.astype(int) - expected).max() <= (dtype == np.float16)
        assert not image.remarks


def test_signed_numbers(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.array([[0, 100]], np.int8))
    assert read_image(tmp_path / "a.tif")[0, :, 0].tolist() == [0, 100]
    tifffile.imwrite(tmp_path / "a.tif", np.array([[-100, 100]], np.int8))
    with pytest.raises(ValueError, match="a.tif has pixels of int8 from -100 to 100"):
        read_image(tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif", value_range=(-128, 127))[0, :, 0].tolist() == [28, 228]


# ---- Several images ------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3, 4, 7])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_stack_of_grey_images_is_not_a_colour_image(tmp_path, count, dtype):
    stack = np.arange(count, dtype=dtype)[:, None, None] * np.ones((20, 30), dtype)
    for options in ({}, dict(imagej=True), dict(truncate=True), dict(imagej=True, truncate=True)):
        tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack", **options)
        with pytest.raises(
            ValueError, match=rf"a.tif has {count} (pages|images), .*20x30.*load_image.*page=0"
        ):
            read_image(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack")
    assert (read_image(tmp_path / "a.tif", page=1) == 1).all()
    with pytest.raises(ValueError, match=f"a.tif has no page {count}; there are {count}"):
        read_image(tmp_path / "a.tif", page=count)


def test_pages_of_colours(tmp_path):
    PICTURE.save(tmp_path / "a.tif", save_all=True, append_images=[PICTURE.rotate(180)])
    with pytest.raises(ValueError, match="a.tif has 2 pages"):
        read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", page=1), RGB[::-1, ::-1])


def test_thumbnails_smaller_copies_and_masks_are_no_pages(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(RGB, photometric="rgb", metadata=None)
        tif.write(RGB[::2, ::2], photometric="rgb", metadata=None)
        tif.write(RGB, photometric="rgb", subfiletype=1, metadata=None)
        tif.write(GRAY > 128, photometric="minisblack", subfiletype=4, metadata=None)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), RGB)


# ---- What is refused -----------------------------------------------------------------------------


def test_other_numbers_of_channels(tmp_path):
    many = np.zeros((20, 30, 7), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", many, photometric="minisblack", planarconfig="contig")
    with pytest.raises(ValueError, match="a.tif has 7 channels.*override load_image"):
        read_image(tmp_path / "a.tif")


def overwritten(path, **values):
    with tifffile.TiffFile(path, mode="r+") as tif:
        for name, value in values.items():
            tif.pages[0].tags[name].overwrite(value)


def test_colours_that_nothing_decodes(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", WIDE, photometric="rgb", metadata=None)
    overwritten(tmp_path / "a.tif", PhotometricInterpretation=8)  # LAB of 16 bits
    with pytest.raises(ValueError, match="a.tif has the colours CIELAB in 3 channels of 16 bits"):
        read_image(tmp_path / "a.tif")


def test_a_compression_that_nothing_decodes(tmp_path, without_imagecodecs):
    tifffile.imwrite(
        tmp_path / "a.tif", np.moveaxis(WIDE, -1, 0), photometric="rgb", planarconfig=2
    )
    overwritten(tmp_path / "a.tif", Compression=5)
    with pytest.raises(ValueError, match="a.tif has the colours RGB .* with compression LZW"):
        read_image(tmp_path / "a.tif")


def test_a_strip_that_unpacks_to_more_than_its_size(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif",
        np.zeros((3, 8, 8), np.uint16),
        photometric="rgb",
        planarconfig="separate",
        compression="zlib",
        metadata=None,
    )
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        offset = tif.pages[0].dataoffsets[0]
        offsets, counts = (tif.pages[0].tags[code] for code in (273, 279))
        assert offsets.count == counts.count == 3
    bomb = zlib.compress(bytes(50_000_000))
    end = (tmp_path / "a.tif").stat().st_size
    with open(tmp_path / "a.tif", "ab") as file:
        file.write(bomb)
    overwritten(tmp_path / "a.tif", StripOffsets=[end] * 3, StripByteCounts=[len(bomb)] * 3)
    assert offset != end
    with pytest.raises(OSError, match="a.tif cannot be read.*128 bytes unpacks to more"):
        read_image(tmp_path / "a.tif")


def test_a_tile_larger_than_the_limit(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", WIDE, photometric="rgb", tile=(16, 16), metadata=None)
    overwritten(tmp_path / "a.tif", TileWidth=60000, TileLength=60000)
    with pytest.raises(ValueError, match="a.tif has 60000x60000 pixels"):
        read_image(tmp_path / "a.tif")


def test_no_other_file_is_read(tmp_path):
    """OME-TIFF may keep its images in several files and name them."""
    secret = np.full((20, 30), 99, np.uint16)
    tifffile.imwrite(tmp_path / "secret.ome.tif", secret, metadata={"axes": "YX"})
    tifffile.imwrite(tmp_path / "a.ome.tif", WIDE[..., 0], metadata={"axes": "YX"})
    with tifffile.TiffFile(tmp_path / "secret.ome.tif") as tif:
        text = tif.pages[0].description
    named = re.sub(
        "<TiffData.*?(/>|</TiffData>)",
        '<TiffData IFD="0" PlaneCount="1">'
        '<UUID FileName="secret.ome.tif">urn:uuid:1</UUID></TiffData>',
        text,
        flags=re.S,
    )
    tifffile.imwrite(tmp_path / "a.ome.tif", WIDE[..., 0], description=named, metadata=None)
    np.testing.assert_array_equal(read_image(tmp_path / "a.ome.tif"), AS_RGB)
