"""The pixel limit, which holds for every format before its pixels are decoded."""

import math
import os
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import tifffile

from mrcnn.data.decoders import check_size, pixel_limit, turned, undoing
from mrcnn.data.image_files import read_image

ROOT = Path(__file__).parents[2]
RGB = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)


def test_the_limit_is_pillows(monkeypatch):
    assert pixel_limit() == 2 * PIL.Image.MAX_IMAGE_PIXELS == 178_956_970
    check_size(178_956_970, 1)
    with pytest.raises(ValueError, match="178956971x1 pixels.*178,956,970.*MAX_IMAGE_PIXELS"):
        check_size(178_956_971, 1)
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", None)
    assert pixel_limit() == math.inf
    check_size(10**9, 10**9)


def write(path, name):
    """A file of 20x30 pixels; the name says the kind."""
    wide = RGB.astype(np.uint16) * 257
    if name in ("grey16.tif", "planes.tif"):
        planes = wide[..., 0] if name == "grey16.tif" else np.moveaxis(wide, -1, 0)
        options = dict(photometric="rgb", planarconfig="separate") if name == "planes.tif" else {}
        tifffile.imwrite(path, np.ascontiguousarray(planes), compression="zlib", **options)
    elif name in ("wide.png", "wide.tif"):
        cv2.imwrite(str(path), wide)
    elif name in ("a.hdr", "a.pfm"):
        cv2.imwrite(str(path), RGB.astype(np.float32) / 255)
    elif name == "a.pam":
        cv2.imwrite(str(path), RGB)
    else:
        PIL.Image.fromarray(RGB).save(path)


KINDS = ["a.png", "a.jpg", "a.bmp", "a.webp", "a.gif", "a.ppm", "a.tif", "a.jp2"]
KINDS += ["wide.png", "wide.tif", "grey16.tif", "planes.tif", "a.hdr", "a.pfm", "a.pam"]


# pytest makes errors of warnings; its filters come before that of mrcnn.data.decoders.
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", KINDS)
def test_every_format_obeys_the_limit(tmp_path, monkeypatch, name):
    write(tmp_path / name, name)
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 300)
    assert read_image(tmp_path / name).shape == RGB.shape  # 600 pixels, the limit
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 299)
    with pytest.raises(
        ValueError, match=rf"{name} has (20x30|600) pixels.*limit of 598; .*MRCNN_MAX_IMAGE_PIXELS"
    ):
        read_image(tmp_path / name)
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", None)
    assert read_image(tmp_path / name).shape == RGB.shape


def large_png(path, side):
    def chunk(kind, data):
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", side, side, 16, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IEND", b""))


def large_tiff(path, side):
    tifffile.imwrite(path, np.zeros((4, 4), np.uint16))
    with tifffile.TiffFile(path, mode="r+") as tif:
        tif.pages[0].tags["ImageWidth"].overwrite(side)
        tif.pages[0].tags["ImageLength"].overwrite(side)


def large_hdr(path, side):
    path.write_bytes(b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y %d +X %d\n" % (side, side))


def large_pam(path, side):
    """With a small size first, for those who look no further."""
    size = b"WIDTH 1\nHEIGHT 1\nWIDTH %d\nHEIGHT %d\n" % (side, side)
    path.write_bytes(b"P7\n" + size + b"DEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\n")


def large_exr(path, side):
    window = struct.pack("<4i", 0, 0, side - 1, side - 1)
    path.write_bytes(b"\x76\x2f\x31\x01\2\0\0\0dataWindow\0box2i\0\x10\0\0\0" + window)


@pytest.mark.parametrize("make", [large_png, large_tiff, large_hdr, large_pam, large_exr])
def test_a_header_is_enough_to_refuse(tmp_path, make):
    make(tmp_path / "bomb", 60_000)
    with pytest.raises(ValueError, match=r"bomb has (60000x60000|3,600,000,000) pixels"):
        read_image(tmp_path / "bomb")


def test_an_unknown_format_is_not_handed_to_opencv(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"\xff\x0a something")
    with pytest.raises(OSError, match="a.jpg cannot be read as an image: no image format"):
        read_image(tmp_path / "a.jpg")


def limit_with(value: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", "from mrcnn.data import decoders; print(decoders.pixel_limit())"],
        cwd=ROOT,
        env={**os.environ, "MRCNN_MAX_IMAGE_PIXELS": value},
        capture_output=True,
        text=True,
    )


def test_the_environment_variable():
    assert limit_with("500000000").stdout.strip() == "500000000"
    assert limit_with("0").stdout.strip() == "inf"
    assert "MRCNN_MAX_IMAGE_PIXELS is 'many'; it must be" in limit_with("many").stderr


def test_pillow_does_not_warn_below_the_limit(tmp_path, monkeypatch):
    PIL.Image.fromarray(RGB).save(tmp_path / "a.png")
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 400)
    with warnings.catch_warnings(record=True) as caught:
        warnings.resetwarnings()
        warnings.filterwarnings(
            "ignore", category=PIL.Image.DecompressionBombWarning, append=True
        )  # as mrcnn.data.decoders does; pytest has filters of its own
        read_image(tmp_path / "a.png")
    assert not caught


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turning_is_what_pillow_does_and_can_be_undone(orientation):
    picture = PIL.Image.fromarray(RGB)
    picture.getexif()[0x0112] = orientation
    expected = np.asarray(PIL.ImageOps.exif_transpose(picture))
    np.testing.assert_array_equal(turned(RGB, orientation), expected)
    np.testing.assert_array_equal(turned(expected, undoing(orientation)), RGB)
