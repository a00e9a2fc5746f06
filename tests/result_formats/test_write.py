"""Every format of results, read again with the library that other programs use."""

import csv
import json
import math
import zipfile

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis.extra import numpy as hnp
from PIL import Image

from mrcnn.data.formats.outlines import fill, outlines
from mrcnn.data.videos import open_video
from mrcnn.detection.pictures import Video
from mrcnn.result_formats.coco_json import write_coco_json
from mrcnn.result_formats.colours import colour_of
from mrcnn.result_formats.geojson import geometry, write_geojson
from mrcnn.result_formats.imagej_rois import write_imagej_rois
from mrcnn.result_formats.label_images import write_label_images
from mrcnn.result_formats.mask_files import write_mask_files
from mrcnn.result_formats.overlays import draw, write_overlays
from mrcnn.result_formats.tables import COLUMNS, measure, write_csv, write_parquet
from mrcnn.result_formats.write import RESULT_FORMATS, check_formats, write_results
from tests.result_formats.found_images import SIZE, box, found_image, found_object, write

BOX = box(2, 3, 8, 13)
RING = box(0, 0, 12, 12) & ~box(4, 4, 8, 8)
PARTS = box(1, 1, 4, 4) | box(10, 20, 15, 29)


@pytest.mark.parametrize("name", RESULT_FORMATS)
def test_without_images_and_without_objects(tmp_path, name):
    write_results([], [name], tmp_path / "none")
    write_results([found_image()], [name], tmp_path / "empty")
    path = tmp_path / "empty" / RESULT_FORMATS[name].path
    assert path.exists()
    if RESULT_FORMATS[name].path.endswith("/"):
        assert not (tmp_path / "none").exists() and len(list(path.iterdir())) == 1


@pytest.mark.parametrize("name", RESULT_FORMATS)
def test_nothing_is_half_written(tmp_path, name):
    def images():
        yield found_image(found_object(BOX))
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write_results(images(), [name], tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".part")]
    assert not list(tmp_path.glob("objects.*")) + list(tmp_path.glob("*.json"))


def test_all_formats_in_one_pass(tmp_path):
    image = found_image(found_object(BOX), found_object(RING, "stem", 0.5, 2))
    write_results(iter([image]), list(RESULT_FORMATS), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "detections.json",
        "geojson",
        "geotiff",
        "gpkg",
        "labels",
        "masks",
        "objects.csv",
        "objects.parquet",
        "ome",
        "overlays",
        "rois",
        "wgs84",
    ]


def test_an_unknown_format():
    with pytest.raises(ValueError, match="'cvs' is no format of results; .* Did you mean csv?"):
        check_formats(["json", "cvs"])


def test_coco_json(tmp_path):
    images = [found_image(found_object(BOX), found_object(RING)), found_image(number=2, name="b")]
    write(write_coco_json, tmp_path, *images)
    first, second = json.loads((tmp_path / "detections.json").read_text())
    assert (first["image_id"], first["file_name"], first["bbox"]) == (1, "a.png", [3, 2, 10, 6])
    assert first["segmentation"]["size"] == list(SIZE) and second["score"] == 0.9


def test_label_images_show_the_better_score_in_front(tmp_path):
    covered = box(0, 0, 20, 30)
    write(write_label_images, tmp_path, found_image(found_object(BOX), found_object(covered)))
    labels = tifffile.imread(tmp_path / "labels" / "a.tif")
    assert labels.dtype == np.uint16
    np.testing.assert_array_equal(labels, np.where(BOX, 1, 2))


def test_mask_files(tmp_path):
    objects = [found_object(BOX, "a/b"), found_object(RING)]
    write(write_mask_files, tmp_path, found_image(*objects, stem="sub/a"), found_image(stem="b"))
    folder = tmp_path / "masks" / "sub" / "a"
    assert sorted(path.name for path in folder.iterdir()) == ["0001_a_b.png", "0002_leaf.png"]
    np.testing.assert_array_equal(np.asarray(Image.open(folder / "0001_a_b.png")) > 0, BOX)
    assert not list((tmp_path / "masks" / "b").iterdir())


# ---- Outlines ------------------------------------------------------------------------------------


def rings_of(geojson):
    polygons = geojson["coordinates"]
    polygons = [polygons] if geojson["type"] == "Polygon" else polygons
    return [np.array(ring, float) for polygon in polygons for ring in polygon]


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)))
def test_geojson_has_the_pixels(mask):
    rings = rings_of(geometry(outlines(mask)))
    assert all((ring[0] == ring[-1]).all() for ring in rings)
    np.testing.assert_array_equal(fill([ring[:-1] for ring in rings], *mask.shape), mask)


def test_geojson_as_qupath_reads_it(tmp_path):
    write(write_geojson, tmp_path, found_image(found_object(BOX), found_object(PARTS, "stem")))
    content = json.loads((tmp_path / "geojson" / "a.geojson").read_text())
    assert content["type"] == "FeatureCollection"
    first, second = content["features"]
    assert first["geometry"]["type"] == "Polygon"
    assert first["geometry"]["coordinates"] == [[[3, 2], [13, 2], [13, 8], [3, 8], [3, 2]]]
    assert second["geometry"]["type"] == "MultiPolygon"
    properties = first["properties"]
    assert properties["objectType"] == "detection"
    assert properties["classification"]["name"] == "leaf"
    assert properties["classification"]["color"] == list(colour_of(1))
    assert properties["measurements"] == {"score": 0.9}
    assert first["id"] != second["id"]


def drawn_roi(roi):
    """The pixels of a ROI, as ImageJ fills them."""
    if roi.multi_coordinates is None:
        return fill([roi.coordinates()], *SIZE)
    return fill(roi.coordinates(multi=True), *SIZE)


@settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=40)
@given(mask=hnp.arrays(bool, SIZE))
def test_rois_have_the_pixels(mask, tmp_path_factory):
    roifile = pytest.importorskip("roifile")
    if not mask.any():
        return
    folder = tmp_path_factory.mktemp("rois")
    write(write_imagej_rois, folder, found_image(found_object(mask)))
    (roi,) = roifile.roiread(folder / "rois" / "a.zip")
    np.testing.assert_array_equal(drawn_roi(roi), mask)


def test_rois_as_imagej_reads_them(tmp_path):
    roifile = pytest.importorskip("roifile")
    objects = [found_object(BOX, "a/b"), found_object(RING), found_object(PARTS)]
    write(write_imagej_rois, tmp_path, found_image(*objects), found_image(stem="b"))
    rois = roifile.roiread(tmp_path / "rois" / "a.zip")
    assert [roi.name for roi in rois] == ["0001-a/b", "0002-leaf", "0003-leaf"]
    assert rois[0].roitype == roifile.ROI_TYPE.POLYGON and rois[1].composite
    for roi, mask in zip(rois, (BOX, RING, PARTS), strict=True):
        np.testing.assert_array_equal(drawn_roi(roi), mask)
    with zipfile.ZipFile(tmp_path / "rois" / "b.zip") as file:
        assert file.namelist() == []


def test_rois_need_a_library(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "roifile", None)
    with pytest.raises(ImportError, match=r'pip install "mask-rcnn-keras3\[imagej\]"'):
        write(write_imagej_rois, tmp_path)


# ---- Tables --------------------------------------------------------------------------------------


def test_figures_of_a_rectangle(tmp_path):
    values = np.arange(SIZE[0] * SIZE[1], dtype=np.uint16).reshape(SIZE) * 100
    write(write_csv, tmp_path, found_image(found_object(BOX), values=values), found_image())
    with open(tmp_path / "objects.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert tuple(row) == COLUMNS
    assert [row[name] for name in COLUMNS[:4]] == ["a.png", "1", "leaf", "0.9"]
    assert [row[f"bbox-{i}"] for i in range(4)] == ["2", "3", "8", "13"]
    assert (float(row["area"]), float(row["perimeter"])) == (60, 28)
    assert (float(row["centroid-0"]), float(row["centroid-1"])) == (4.5, 7.5)
    assert float(row["orientation"]) == pytest.approx(math.pi / 2, abs=1e-4)
    # Squared deviations of n pixels in a row are (n^2 - 1) / 12.
    assert float(row["axis_major_length"]) == pytest.approx(4 * math.sqrt(99 / 12), 1e-4)
    assert float(row["intensity_mean-0"]) == pytest.approx(values[BOX].mean())
    assert float(row["intensity_sum-0"]) == values[BOX].sum()
    assert row["intensity_mean-1"] == row["intensity_sum-2"] == ""


def test_figures_of_any_mask_are_those_of_scikit_image():
    from skimage.measure import regionprops_table

    rng = np.random.default_rng(0)
    mask = rng.random(SIZE) < 0.4
    values = rng.integers(0, 4096, (*SIZE, 3)).astype(np.uint16)
    names = ["area", "perimeter", "centroid", "eccentricity", "orientation", "intensity_mean"]
    names += ["axis_major_length", "axis_minor_length", "bbox"]
    wanted = regionprops_table(mask.astype(np.uint8), values, properties=names)
    (row,) = measure(found_image(found_object(mask), values=values))
    for name, (value,) in wanted.items():
        assert row[name] == pytest.approx(value), name


def test_a_mask_without_pixels_has_no_figures():
    (row,) = measure(found_image(found_object(np.zeros(SIZE, bool))))
    assert row["area"] == 0 and "perimeter" not in row


def test_parquet_is_the_same_table(tmp_path, monkeypatch):
    pandas = pytest.importorskip("pandas")
    monkeypatch.setattr("mrcnn.result_formats.tables._ROWS_AT_ONCE", 2)
    images = [found_image(found_object(BOX), found_object(RING), number=i) for i in (1, 2)]
    images.append(found_image(found_object(PARTS, "stem"), name="b.png"))
    write(write_parquet, tmp_path, *images)
    table = pandas.read_parquet(tmp_path / "objects.parquet")
    assert list(table.columns) == list(COLUMNS) and len(table) == 5
    assert table["image"].tolist() == ["a.png"] * 4 + ["b.png"]
    assert table["area"].tolist() == [60, 128, 60, 128, 54]


# ---- Pictures ------------------------------------------------------------------------------------


def test_objects_are_drawn_over_the_image(tmp_path):
    image = found_image(found_object(BOX), found_object(RING, "stem", 0.25, 2))
    write(write_overlays, tmp_path, image)
    drawn = np.asarray(Image.open(tmp_path / "overlays" / "a.png"))
    assert drawn.shape == (8 * SIZE[0], 8 * SIZE[1], 3)
    plain = image.read().repeat(8, axis=0).repeat(8, axis=1)
    far = box(15, 20, 20, 30).repeat(8, axis=0).repeat(8, axis=1)
    np.testing.assert_array_equal(drawn[far], plain[far])
    inside = BOX.repeat(8, axis=0).repeat(8, axis=1)
    assert (drawn[inside] != plain[inside]).any(axis=-1).mean() > 0.95


def test_large_images_keep_their_size():
    image = found_image(found_object(BOX))
    assert draw(image, enlarge=False).shape == (*SIZE, 3)


def test_the_frames_of_a_video_become_a_video(tmp_path):
    videos = [Video("clips/one.mov", 10.0), Video("two.mp4", 25.0)]
    frames = [(videos[0], 3), (videos[1], 2)]
    images = [
        found_image(found_object(BOX), name=f"{video.name}#{i}", video=video)
        for video, count in frames
        for i in range(count)
    ]
    write(write_overlays, tmp_path, *images, found_image(stem="photo"))
    for name, count, rate in (("clips/one.mp4", 3, 10.0), ("two.mp4", 2, 25.0)):
        found, found_rate, _ = open_video(str(tmp_path / "overlays" / name))
        shown = list(found)
        assert len(shown) == count and found_rate == pytest.approx(rate)
        assert shown[0].shape == (*SIZE, 3)
        grey = cv2.cvtColor(shown[0], cv2.COLOR_RGB2HSV)[..., 1]
        assert grey[BOX].mean() > grey[box(15, 20, 20, 30)].mean() - 200
    assert (tmp_path / "overlays" / "photo.png").is_file()


def test_colours_of_classes_differ():
    colours = [colour_of(number) for number in range(1, 21)]
    assert len(set(colours)) == 20 and all(0 <= side <= 255 for c in colours for side in c)
