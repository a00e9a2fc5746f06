"""Objects on the map, read again with the libraries that GIS programs use."""

import functools
import json

import numpy as np
import pytest
import shapely
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis.extra import numpy as hnp

from mrcnn.data.windowed_images import open_windows, windows_of_array
from mrcnn.detection.pictures import Picture, find_inputs, pictures_of
from mrcnn.result_formats.found import FoundImage
from mrcnn.result_formats.geopackage import write_geopackages
from mrcnn.result_formats.georeferenced import (
    georeference_of,
    on_the_map,
    pixel_area,
    polygons_of,
)
from mrcnn.result_formats.geotiff import write_geotiffs
from mrcnn.result_formats.wgs84 import in_degrees, write_wgs84
from mrcnn.result_formats.write import check_formats, check_pictures, write_results
from tests.rasters import write_raster
from tests.result_formats.found_images import PLACE, SIZE, box, found_image, found_object, write

pyogrio = pytest.importorskip("pyogrio")
rasterio = pytest.importorskip("rasterio")

BOX = box(2, 3, 8, 13)
RING = box(0, 0, 12, 12) & ~box(4, 4, 8, 8)
PARTS = box(1, 1, 4, 4) | box(10, 20, 15, 29)
TURNED = (0.4, 0.3, 500_000.0, 0.3, -0.4, 5_000_000.0)
MAPS = ["gpkg", "wgs84", "geotiff"]


def blank_raster(path, crs="EPSG:32633", transform=PLACE.transform, size=SIZE):
    """A raster of one grey."""
    write_raster(path, np.full(size, 7, np.uint8), crs, transform)


def image_of(path, *objects, size=SIZE):
    """A file with the objects that were found in it."""
    opened = functools.partial(open_windows, path)
    return FoundImage(1, path.name, path.stem, *size, list(objects), lambda: None, opened)


def read_gpkg(path):
    """The columns, the polygons, and what the file says of itself."""
    meta, _, polygons, columns = pyogrio.raw.read(path)
    return dict(zip(meta["fields"], columns, strict=True)), shapely.from_wkb(polygons), meta


def read_geojson(path):
    return json.loads(path.read_text(encoding="utf-8"))["features"]


def rasterized(polygon, transform=(1, 0, 0, 0, 1, 0)):
    from rasterio.features import rasterize

    affine = rasterio.Affine(*transform)
    return rasterize([polygon], SIZE, transform=affine).astype(bool)


# ---- GeoPackages ---------------------------------------------------------------------------------


@pytest.mark.parametrize("transform", [PLACE.transform, TURNED, (2, 0, 10, 0, 3, 20)])
def test_a_geopackage_of_a_raster(tmp_path, transform):
    blank_raster(tmp_path / "field.tif", transform=transform)
    objects = [found_object(BOX, "Größe", 0.9), found_object(RING, "b", 0.5)]
    objects += [found_object(PARTS, "b", 0.25)._replace(is_cut=True)]
    write(write_geopackages, tmp_path, image_of(tmp_path / "field.tif", *objects))
    path = tmp_path / "gpkg" / "field.gpkg"
    assert pyogrio.list_layers(path).tolist() == [["objects", "MultiPolygon"]]
    columns, polygons, meta = read_gpkg(path)
    assert meta["crs"] == "EPSG:32633"
    assert columns["number"].tolist() == [1, 2, 3]
    assert columns["class"].tolist() == ["Größe", "b", "b"]
    assert columns["score"].tolist() == [0.9, 0.5, 0.25]
    assert columns["cut"].tolist() == [False, False, True]
    a, b, _, d, e, _ = transform
    pixels = np.array([BOX.sum(), RING.sum(), PARTS.sum()])
    np.testing.assert_array_equal(columns["area"], pixels * abs(a * e - b * d))
    np.testing.assert_allclose(shapely.area(polygons), columns["area"], 1e-6)
    assert shapely.is_valid(polygons).all()
    for polygon, mask in zip(polygons, (BOX, RING, PARTS), strict=True):
        np.testing.assert_array_equal(rasterized(polygon, transform), mask)


def test_corners_are_those_of_pixels():
    """Half a metre per pixel: column 3 begins at 500,001.5, row 2 at 4,999,999."""
    objects = [found_object(BOX), found_object(RING), found_object(PARTS)]
    pixels = polygons_of(objects)
    first, second, third = on_the_map(pixels, PLACE)
    assert first.bounds == (500_001.5, 4_999_996.0, 500_006.5, 4_999_999.0)
    assert len(first.geoms) == 1 and len(first.geoms[0].exterior.coords) == 5
    (hole,) = second.geoms[0].interiors
    assert hole.bounds == (500_002.0, 4_999_996.0, 500_004.0, 4_999_998.0)
    assert len(third.geoms) == 2
    assert shapely.area(pixels).tolist() == [60, 128, 54] and pixel_area(PLACE) == 0.25


@given(hnp.arrays(bool, SIZE))
@settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=30)
def test_polygons_have_the_pixels_and_are_valid(mask):
    (polygon,) = polygons_of([found_object(mask)])
    if not mask.any():
        assert polygon is None
        return
    assert polygon.geom_type == "MultiPolygon" and polygon.is_valid
    assert polygon.area == mask.sum()
    np.testing.assert_array_equal(rasterized(polygon), mask)


@given(hnp.arrays(bool, SIZE))
@settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=30)
def test_a_large_object_is_outlined_in_windows(mask):
    one = found_object(mask)
    (whole,) = polygons_of([one])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mrcnn.result_formats.georeferenced.LARGE", 1)
        patch.setattr("mrcnn.result_formats.georeferenced._WINDOW", 8)
        (polygon,) = polygons_of([one])
    assert (polygon is None) == (whole is None)
    if whole is not None:
        assert polygon.is_valid and polygon.equals(whole)


def test_a_ring_that_touches_itself():
    mask = np.zeros(SIZE, bool)
    # The hole meets the background at a corner.
    mask[2:5, 2:5] = [[1, 1, 1], [1, 0, 1], [1, 1, 0]]
    (polygon,) = polygons_of([found_object(mask)])
    assert polygon.is_valid and polygon.area == 7 and len(polygon.geoms) == 1


def test_a_geopackage_without_objects_and_with_a_mask_without_pixels(tmp_path):
    nothing = found_object(np.zeros(SIZE, bool))
    images = found_image(), found_image(nothing, found_object(BOX), stem="sub/b")
    write(write_geopackages, tmp_path, *images)
    assert pyogrio.read_info(tmp_path / "gpkg" / "a.gpkg")["features"] == 0
    columns, polygons, _ = read_gpkg(tmp_path / "gpkg" / "sub" / "b.gpkg")
    assert polygons[0] is None and columns["area"].tolist() == [0, 15]


def test_many_objects_are_written_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("mrcnn.result_formats.geopackage._ROWS_AT_ONCE", 2)
    objects = [found_object(box(i, 0, i + 1, i + 1)) for i in range(5)]
    for _ in range(2):  # an earlier file is replaced
        write(write_geopackages, tmp_path, found_image(*objects))
    columns, _, _ = read_gpkg(tmp_path / "gpkg" / "a.gpkg")
    assert columns["number"].tolist() == [1, 2, 3, 4, 5]
    assert columns["area"].tolist() == [0.25, 0.5, 0.75, 1, 1.25]


# ---- GeoJSON in WGS84 ----------------------------------------------------------------------------


def test_known_places_in_degrees():
    """On the central meridian of UTM 33, northing is 0.9996 of the meridian's arc.

    The quarter of WGS84's meridian has 10,001,965.729 m; at 45 degrees the arc has 4,984,944.378 m.
    """
    points = shapely.MultiPoint([[500_000, 0], [500_000, 0.9996 * 4_984_944.378]])
    (found,) = in_degrees(np.array([points], object), PLACE.crs, "a.tif")
    np.testing.assert_allclose(shapely.get_coordinates(found), [[15, 0], [15, 45]], atol=1e-7)
    # Web Mercator: the equator's half is pi * 6378137 m.
    web = rasterio.crs.CRS.from_epsg(3857).to_wkt()
    points = shapely.MultiPoint([[np.pi * 6378137 / 2, 0], [0, -np.pi * 6378137]])
    (found,) = in_degrees(np.array([points], object), web, "a.tif")
    wanted = [[90, 0], [0, -85.0511287798]]
    np.testing.assert_allclose(shapely.get_coordinates(found), wanted, atol=1e-8)


@pytest.mark.parametrize("transform", [PLACE.transform, TURNED, (0.5, 0, 500_000, 0, 0.5, 5e6)])
def test_geojson_in_longitude_and_latitude(tmp_path, transform):
    blank_raster(tmp_path / "field.tif", transform=transform)
    objects = [found_object(BOX, "Größe"), found_object(RING), found_object(PARTS)]
    write(write_wgs84, tmp_path, image_of(tmp_path / "field.tif", *objects))
    features = read_geojson(tmp_path / "wgs84" / "field.geojson")
    assert [one["geometry"]["type"] for one in features] == ["Polygon", "Polygon", "MultiPolygon"]
    assert features[0]["id"] == 1 and features[0]["properties"] == {
        "number": 1,
        "class": "Größe",
        "score": 0.9,
        "cut": False,
    }
    back = rasterio.warp.transform_geom
    for one, mask in zip(features, (BOX, RING, PARTS), strict=True):
        polygon = shapely.geometry.shape(one["geometry"])
        for part in shapely.get_parts(polygon):
            assert part.exterior.is_ccw and not any(hole.is_ccw for hole in part.interiors)
        longitude, latitude = shapely.get_coordinates(polygon).T
        assert (abs(longitude - 15) < 1e-3).all() and (abs(latitude - 45.15) < 0.01).all()
        in_metres = back("EPSG:4326", "EPSG:32633", one["geometry"])
        np.testing.assert_array_equal(rasterized(in_metres, transform), mask)


def test_a_raster_in_degrees_stays_as_it_is(tmp_path):
    """Degrees have latitude first in EPSG's book, and longitude first in rasters and GeoJSON."""
    blank_raster(tmp_path / "a.tif", "EPSG:4326", (0.25, 0, 7, 0, -0.25, 50))
    write(write_wgs84, tmp_path, image_of(tmp_path / "a.tif", found_object(BOX)))
    (one,) = read_geojson(tmp_path / "wgs84" / "a.geojson")
    assert shapely.geometry.shape(one["geometry"]).bounds == (7.75, 48, 10.25, 49.5)


@pytest.mark.parametrize(
    ("crs", "left"), [("EPSG:4326", 177.5), ("EPSG:4326", -182.5), ("EPSG:3832", None)]
)
def test_a_polygon_across_the_180th_meridian_is_cut(tmp_path, crs, left):
    if left is None:  # metres around the meridian of 150 degrees
        degree = np.pi * 6378137 / 180
        transform = (0.5 * degree, 0, 27.5 * degree, 0, -0.5 * degree, 5 * degree)
    else:
        transform = (0.5, 0, left, 0, -0.5, 5)
    blank_raster(tmp_path / "a.tif", crs, transform)
    west_and_east = [found_object(box(2, 0, 6, 4)), found_object(box(2, 6, 6, 9))]
    across = found_object(box(2, 3, 8, 13) & ~box(4, 4, 6, 6))
    write(write_wgs84, tmp_path, image_of(tmp_path / "a.tif", *west_and_east, across))
    first, second, third = (
        shapely.geometry.shape(one["geometry"])
        for one in read_geojson(tmp_path / "wgs84" / "a.geojson")
    )
    np.testing.assert_allclose(np.take(first.bounds, (0, 2)), (177.5, 179.5))
    np.testing.assert_allclose(np.take(second.bounds, (0, 2)), (-179.5, -178))
    assert third.is_valid and len(third.geoms) == 2
    bounds = sorted((part.bounds[0], part.bounds[2]) for part in third.geoms)
    np.testing.assert_allclose(bounds, [(-180, -176), (179, 180)])
    assert all(part.exterior.is_ccw for part in third.geoms)


def test_geojson_without_objects_and_with_a_mask_without_pixels(tmp_path, monkeypatch):
    monkeypatch.setattr("mrcnn.result_formats.wgs84._AT_ONCE", 1)
    nothing = found_object(np.zeros(SIZE, bool))
    write(write_wgs84, tmp_path, found_image(), found_image(found_object(BOX), nothing, stem="b"))
    assert json.loads((tmp_path / "wgs84" / "a.geojson").read_text()) == {
        "type": "FeatureCollection",
        "features": [],
    }
    first, second = read_geojson(tmp_path / "wgs84" / "b.geojson")
    assert first["geometry"] and second["geometry"] is None and second["id"] == 2


def test_a_place_without_longitude_and_latitude(tmp_path):
    blank_raster(tmp_path / "a.tif", transform=(1e9, 0, 1e12, 0, -1e9, 1e12))
    image = image_of(tmp_path / "a.tif", found_object(BOX))
    with pytest.raises(ValueError, match=r"a\.tif lies where its .* has no longitude"):
        write(write_wgs84, tmp_path, image)
    assert not list((tmp_path / "wgs84").iterdir())


# ---- What cannot be on a map ---------------------------------------------------------------------


def without_crs(folder):
    path = folder / "nowhere.tif"
    blank_raster(path, crs=None)
    return path


def no_raster(folder):
    path = folder / "plain.tif"
    tifffile.imwrite(path, np.zeros(SIZE, np.uint8))
    return path


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (without_crs, r"nowhere\.tif has no coordinate reference system: add one, .*EPSG:"),
        (no_raster, r"plain\.tif does not say where it lies on the earth: give a GeoTIFF"),
    ],
)
def test_an_image_that_lies_nowhere(tmp_path, name, make, message):
    image = image_of(make(tmp_path), found_object(BOX))
    with pytest.raises(ValueError, match=message):
        write_results([image], ["csv", name], tmp_path / "out")
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


@pytest.mark.parametrize("name", MAPS)
def test_it_is_said_before_detection(tmp_path, name):
    blank_raster(tmp_path / "field.tif")
    (tmp_path / "broken.tif").write_bytes(b"II*\0 and no more")
    good = list(pictures_of(find_inputs([tmp_path / "field.tif", tmp_path / "broken.tif"])))
    check_pictures(good, [name])
    bad = list(pictures_of(find_inputs([no_raster(tmp_path)])))
    check_pictures(bad, ["csv", "labels"])
    with pytest.raises(ValueError, match=r"plain\.tif does not say where it lies"):
        check_pictures([*good, *bad], [name])
    check_pictures([Picture("frame", lambda: np.zeros((*SIZE, 3)))], [name])


def test_an_array_lies_nowhere():
    with pytest.raises(ValueError, match="the image does not say where it lies"):
        georeference_of(windows_of_array(np.zeros(SIZE)))


@pytest.mark.parametrize(
    ("name", "library", "writer"),
    [
        ("gpkg", "pyogrio", write_geopackages),
        ("gpkg", "rasterio", write_geopackages),
        ("wgs84", "rasterio", write_wgs84),
        ("geotiff", "rasterio", write_geotiffs),
    ],
)
def test_maps_need_a_library(tmp_path, monkeypatch, name, library, writer):
    monkeypatch.setitem(__import__("sys").modules, library, None)
    hint = rf'by {library}: pip install "mask-rcnn-keras3\[geo\]"'
    with pytest.raises(ImportError, match=hint):
        check_formats(["csv", name])
    with pytest.raises(ImportError, match=hint):
        write(writer, tmp_path)
