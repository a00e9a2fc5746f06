"""Windows of images: each is the same part of the image that is read whole."""

import numpy as np
import pytest
import tifffile

from mrcnn.data.image_files import read_image
from mrcnn.data.windowed_images import open_windows, reader_of_rgb, windows_of_array
from tests.rasters import PLACE, write_raster

HEIGHT, WIDTH = 150, 200
BOXES = [(0, 0, 150, 200), (0, 0, 1, 1), (149, 199, 150, 200), (31, 60, 97, 131), (64, 64, 128, 96)]


def picture(channels=3, dtype=np.uint8):
    shape = (HEIGHT, WIDTH) if channels == 1 else (HEIGHT, WIDTH, channels)
    return np.random.default_rng(0).integers(0, 250, shape).astype(dtype)


def check(path, pixels, **options):
    with open_windows(path, **options) as image:
        assert (image.height, image.width) == (HEIGHT, WIDTH)
        for y1, x1, y2, x2 in BOXES:
            np.testing.assert_array_equal(image.read((y1, x1, y2, x2)), pixels[y1:y2, x1:x2])


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize(
    "layout",
    [
        {"tile": (64, 64)},
        {"tile": (32, 48), "compression": "zlib"},
        {"rowsperstrip": 40},
        {"rowsperstrip": 7, "compression": "zlib", "predictor": True},
        {},
    ],
    ids=["tiles", "compressed tiles", "strips", "compressed strips", "one strip"],
)
def test_a_tiff_in_windows(tmp_path, channels, dtype, layout):
    if dtype == np.float32 and "predictor" in layout:
        layout = {**layout, "predictor": False}
    pixels = picture(channels, dtype)
    tifffile.imwrite(
        tmp_path / "image.tif",
        pixels,
        photometric="rgb" if channels > 1 else "minisblack",
        **layout,
    )
    check(tmp_path / "image.tif", pixels)


@pytest.mark.parametrize("layout", [{"tile": (64, 64)}, {"rowsperstrip": 30}])
def test_a_tiff_of_separate_planes(tmp_path, layout):
    pixels = picture()
    planes = np.moveaxis(pixels, -1, 0)
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, planes, photometric="rgb", planarconfig="separate", **layout)
    check(path, pixels)


def test_a_page_of_a_tiff(tmp_path):
    pages = np.stack([picture(1), 255 - picture(1)])
    tifffile.imwrite(tmp_path / "pages.tif", pages, photometric="minisblack", tile=(64, 64))
    check(tmp_path / "pages.tif", pages[1], page=1)
    with (
        pytest.raises(ValueError, match=r"pages\.tif has 2 pages"),
        open_windows(tmp_path / "pages.tif"),
    ):
        pass


def test_an_array_file_is_not_loaded(tmp_path):
    np.save(tmp_path / "image.npy", picture())
    check(tmp_path / "image.npy", picture())
    with open_windows(tmp_path / "image.npy") as image:
        assert isinstance(image.read((0, 0, 2, 2)).base, np.memmap)


def test_an_array_file_of_objects_runs_nothing(tmp_path):
    np.save(tmp_path / "image.npy", np.array([{}]), allow_pickle=True)
    with (
        pytest.raises(ValueError, match="no array of numbers"),
        open_windows(tmp_path / "image.npy"),
    ):
        pass


@pytest.mark.parametrize("name", ["image.png", "image.jpg"])
def test_other_files_are_decoded_whole(tmp_path, name):
    import cv2

    cv2.imwrite(str(tmp_path / name), picture())
    with open_windows(tmp_path / name) as image:
        whole = read_image(tmp_path / name)
        np.testing.assert_array_equal(image.read((10, 20, 60, 90)), whole[10:60, 20:90])


def test_a_zarr_array_and_an_ome_zarr_group(tmp_path):
    zarr = pytest.importorskip("zarr")
    pixels = picture()
    plain = zarr.open(
        tmp_path / "plain.zarr", mode="w", shape=pixels.shape, chunks=(64, 64, 3), dtype="u1"
    )
    plain[:] = pixels
    check(tmp_path / "plain.zarr", pixels)
    group = zarr.open_group(tmp_path / "ome.zarr", mode="w")
    level = group.create_array(
        "0", shape=(1, 3, 1, HEIGHT, WIDTH), chunks=(1, 1, 1, 64, 64), dtype="u1"
    )
    level[:] = np.moveaxis(pixels, -1, 0)[None, :, None]
    check(tmp_path / "ome.zarr", pixels)


def test_a_raster_says_where_it_lies(tmp_path):
    pixels = picture()
    write_raster(
        tmp_path / "field.tif", pixels, tiled=True, blockxsize=64, blockysize=64, compress="lzw"
    )
    check(tmp_path / "field.tif", pixels)
    with open_windows(tmp_path / "field.tif") as image:
        place = image.georeference
    assert "UTM zone 33N" in place.crs
    assert place.transform == PLACE


def test_pixels_of_a_raster_without_data(tmp_path):
    pixels = picture(1, np.float32) / 250
    pixels[:60] = -9999
    write_raster(tmp_path / "field.tif", pixels, nodata=-9999)
    with open_windows(tmp_path / "field.tif") as image:
        assert not image.mask((0, 0, 60, WIDTH)).any() and image.mask((60, 0, 150, WIDTH)).all()
        rgb = reader_of_rgb(image)((0, 0, 150, WIDTH))
    np.testing.assert_array_equal(rgb[:60], 0)
    np.testing.assert_array_equal(rgb[60:, :, 0], np.rint(pixels[60:] * np.float32(255)))


def test_a_scanned_slide(tmp_path):
    pytest.importorskip("openslide")
    tifffile.imwrite(tmp_path / "slide.svs", picture(), photometric="rgb", tile=(64, 64))
    check(tmp_path / "slide.svs", picture())


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float64])
def test_windows_are_scaled_as_the_whole_image(tmp_path, dtype):
    """12 bits in more: white follows from all pixels, not from those of a window."""
    pixels = picture(1, dtype)
    pixels[3, 5] = 4000
    tifffile.imwrite(tmp_path / "image.tif", pixels, photometric="minisblack", rowsperstrip=10)
    whole = read_image(tmp_path / "image.tif")
    with open_windows(tmp_path / "image.tif") as image:
        read = reader_of_rgb(image)
        for y1, x1, y2, x2 in BOXES:
            np.testing.assert_array_equal(read((y1, x1, y2, x2)), whole[y1:y2, x1:x2])


def test_white_may_be_zero(tmp_path):
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, picture(1), photometric="miniswhite", tile=(64, 64))
    with open_windows(path) as image:
        np.testing.assert_array_equal(reader_of_rgb(image)((0, 0, 9, 9)), read_image(path)[:9, :9])


@pytest.mark.parametrize("shape", [(5,), (2, 3, 4, 5), (6, 5, 7), (0, 5)])
def test_an_array_that_is_no_image(shape):
    with pytest.raises(ValueError, match=r"the image has shape \("):
        windows_of_array(np.zeros(shape))


def test_an_array_with_channels_first():
    pixels = picture()
    image = windows_of_array(np.moveaxis(pixels, -1, 0))
    np.testing.assert_array_equal(image.read((2, 3, 50, 60)), pixels[2:50, 3:60])


def test_pixels_of_an_array_without_data():
    pixels = picture(1)
    pixels[:50] = 7
    mask = windows_of_array(pixels, nodata=7).mask((0, 0, 50, 10))
    assert mask.shape == (50, 10) and not mask.any()
    floats = np.full((4, 4), np.nan)
    assert not windows_of_array(floats, nodata=np.nan).mask((0, 0, 4, 4)).any()


def test_a_file_that_is_missing_or_damaged(tmp_path):
    with pytest.raises(FileNotFoundError, match="no image"), open_windows(tmp_path / "no.tif"):
        pass
    path = tmp_path / "cut.tif"
    tifffile.imwrite(path, picture(), photometric="rgb", tile=(64, 64), compression="zlib")
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(OSError, match=r"cut\.tif"), open_windows(path) as image:
        image.read((0, 0, 150, 200))


def test_a_tile_that_unpacks_to_more_is_refused(tmp_path):
    import zlib

    path = tmp_path / "bomb.tif"
    tifffile.imwrite(path, picture(1), photometric="minisblack", tile=(64, 64), compression="zlib")
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[0]
        offset, count = page.dataoffsets[0], page.databytecounts[0]
    bomb = zlib.compress(bytes(500_000))
    assert len(bomb) <= count
    data = bytearray(path.read_bytes())
    data[offset : offset + len(bomb)] = bomb
    path.write_bytes(data)
    with open_windows(path) as image, pytest.raises(OSError, match="unpacks to more"):
        image.read((0, 0, 10, 10))
