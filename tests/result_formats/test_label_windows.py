"""Label images drawn window by window: the pixels of the image that is drawn as a whole."""

import tracemalloc

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mrcnn.geometry.masks import Patch
from mrcnn.geometry.rle import patch_rle
from mrcnn.result_formats.found import FoundObject
from mrcnn.result_formats.geotiff import write_geotiffs
from mrcnn.result_formats.label_images import write_label_images
from mrcnn.result_formats.label_windows import LabelWindows
from mrcnn.result_formats.mask_files import write_mask_files
from mrcnn.result_formats.ome_tiff import write_ome_tiffs
from tests.result_formats.found_images import PLACE, SIZE, box, found_image, found_object, write

LARGE_SIZE = (5000, 6000)


def drawn(image):
    """The label image as a whole."""
    labels = np.zeros((image.height, image.width), np.uint32)
    for number, one in reversed(list(enumerate(image.objects, start=1))):
        labels[one.mask()] = number
    return labels


def disk(y, x, radius):
    rows, columns = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return Patch(rows**2 + columns**2 <= radius**2, y - radius, x - radius)


def object_of(patch):
    y1, x1, y2, x2 = patch.box
    bbox = [x1, y1, x2 - x1, y2 - y1]
    return FoundObject(1, "leaf", 0.9, bbox, patch_rle(patch, LARGE_SIZE))


@pytest.fixture(scope="module")
def large():
    """Disks that overlap, and one that covers many tiles; and their label image."""
    rng = np.random.default_rng(0)
    height, width = LARGE_SIZE
    disks = [
        disk(int(y), int(x), int(radius))
        for radius, y, x in zip(
            rng.integers(5, 60, 300),
            rng.integers(60, height - 60, 300),
            rng.integers(60, width - 60, 300),
            strict=True,
        )
    ]
    disks.append(disk(2500, 3000, 1400))
    labels = np.zeros(LARGE_SIZE, np.uint16)
    for number, one in reversed(list(enumerate(disks, start=1))):
        y1, x1, y2, x2 = one.box
        labels[y1:y2, x1:x2][one.pixels] = number
    image = found_image(*map(object_of, disks))
    return image._replace(height=height, width=width), labels


@given(
    st.lists(hnp.arrays(bool, (7, 9)), max_size=4),
    st.tuples(st.integers(-2, 5), st.integers(-2, 5), st.integers(0, 9), st.integers(0, 9)),
    st.integers(1, 4),
)
def test_any_window_of_any_smaller_copy(masks, place, step):
    image = found_image(*map(found_object, masks))._replace(height=7, width=9)
    y1, x1, height, width = place
    window = LabelWindows(image).draw((y1, x1, y1 + height, x1 + width), step)
    small = np.pad(drawn(image)[::step, ::step], 20)
    np.testing.assert_array_equal(
        window, small[y1 + 20 : y1 + 20 + height, x1 + 20 : x1 + 20 + width]
    )


def test_a_box_that_reaches_out_of_the_image():
    """As the network gives it."""
    one = found_object(box(0, 0, 5, 5))._replace(bbox=[-3, -2, 40, 30])
    image = found_image(one)
    np.testing.assert_array_equal(LabelWindows(image).draw((0, 0, *SIZE)), drawn(image))


def test_numbers_have_the_bits_that_they_need():
    one = found_object(box(2, 3, 8, 13))
    assert LabelWindows(found_image(*[one] * 65535)).dtype == np.uint16
    labels = LabelWindows(found_image(*[one] * 65536))
    assert labels.dtype == np.uint32


@pytest.mark.parametrize("objects", [[], [found_object(box(2, 3, 8, 13))]])
def test_large_label_images_are_written_in_tiles(tmp_path, monkeypatch, objects):
    image = found_image(*objects, found_object(box(0, 0, 20, 30)))
    write(write_label_images, tmp_path / "small", image)
    monkeypatch.setattr("mrcnn.result_formats.label_images.LARGE", 599)
    write(write_label_images, tmp_path / "large", image)
    with (
        tifffile.TiffFile(tmp_path / "small" / "labels" / "a.tif") as small,
        tifffile.TiffFile(tmp_path / "large" / "labels" / "a.tif") as large,
    ):
        assert large.pages[0].is_tiled and not small.pages[0].is_tiled
        assert large.pages[0].dtype == small.pages[0].dtype == np.uint16
        np.testing.assert_array_equal(large.asarray(), small.asarray())


def test_masks_of_large_images_are_refused(tmp_path):
    image = found_image(found_object(box(2, 3, 8, 13)))._replace(height=8001, width=8000)
    with pytest.raises(ValueError, match=r"a\.png has 8001x8000 pixels, .*; save labels, ome"):
        write(write_mask_files, tmp_path, image)
    assert not list(tmp_path.iterdir())


def test_smaller_copies_in_an_ome_tiff(tmp_path, large):
    image, whole = large
    write(write_ome_tiffs, tmp_path, image)
    with tifffile.TiffFile(tmp_path / "ome" / "a.ome.tif") as file:
        assert file.is_ome and file.series[0].axes == "YX" and file.series[0].dtype == np.uint16
        levels = file.series[0].levels
        assert [level.shape for level in levels] == [
            (5000, 6000),
            (2500, 3000),
            (1250, 1500),
            (625, 750),
        ]
        assert all(level.pages[0].is_tiled for level in levels)
        for number, level in enumerate(levels):
            np.testing.assert_array_equal(level.asarray(), whole[:: 2**number, :: 2**number])


@pytest.mark.parametrize("name", ["Größe <1>.tif", "scan.tif#0001"])
def test_a_small_ome_tiff_has_one_level(tmp_path, name):
    image = found_image(found_object(box(2, 3, 8, 13)), name=name)
    write(write_ome_tiffs, tmp_path, image, found_image(stem="sub/empty"))
    with tifffile.TiffFile(tmp_path / "ome" / "a.ome.tif") as file:
        assert len(file.series[0].levels) == 1
        np.testing.assert_array_equal(file.asarray(), drawn(image))
        assert tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Name"] == name
        assert ".part" not in file.ome_metadata
    assert not tifffile.imread(tmp_path / "ome" / "sub" / "empty.ome.tif").any()


# Angles and mirrors that maps have: north up, turned, south up.
TRANSFORMS = [
    PLACE.transform,
    (0.4, 0.3, 500_000.0, 0.3, -0.4, 5_000_000.0),
    (2.0, 0.0, 500_000.0, 0.0, 2.0, 5_000_000.0),
]


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_a_geotiff_of_numbers(tmp_path, transform):
    rasterio = pytest.importorskip("rasterio")
    covered = found_object(box(0, 0, 20, 30))
    place = PLACE._replace(transform=transform)
    image = found_image(found_object(box(2, 3, 8, 13)), covered, place=place)
    write(write_geotiffs, tmp_path, image)
    with rasterio.open(tmp_path / "geotiff" / "a.tif") as raster:
        np.testing.assert_array_equal(raster.read(1), np.where(box(2, 3, 8, 13), 1, 2))
        assert raster.dtypes == ("uint32",) and raster.nodata == 0
        assert raster.crs.to_epsg() == 32633 or raster.crs.to_wkt() == place.crs
        assert tuple(raster.transform)[:6] == transform


def test_a_large_geotiff_in_tiles(tmp_path, large):
    rasterio = pytest.importorskip("rasterio")
    image, whole = large
    write(write_geotiffs, tmp_path, image)
    with rasterio.open(tmp_path / "geotiff" / "a.tif") as raster:
        assert raster.block_shapes == [(512, 512)] and raster.compression.name == "deflate"
        np.testing.assert_array_equal(raster.read(1), whole)


def test_memory_does_not_grow_with_the_image(tmp_path, monkeypatch, large):
    monkeypatch.setattr("mrcnn.result_formats.label_images.LARGE", 1)
    monkeypatch.setattr("mrcnn.result_formats.geotiff._WINDOW", 512)
    # Tiles wait for threads that compress them; all tiles of the image have 60 MB.
    monkeypatch.setattr(tifffile.TIFF, "BUFFERSIZE", 1 << 20)
    image, _ = large
    writers = [write_label_images, write_ome_tiffs, write_geotiffs]
    for writer in writers:
        write(writer, tmp_path, found_image())  # imports
        tracemalloc.start()
        try:
            write(writer, tmp_path, image)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 20e6
