"""Detection in windows: as in the whole image, with any source of pixels, and after a stop."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage

from mrcnn.data.windowed_images import windows_of_array
from mrcnn.detection.pictures import Picture
from mrcnn.geometry.masks import Patch
from mrcnn.geometry.rle import patch_rle, rle_patch
from mrcnn.mask_rcnn import MaskRCNN
from mrcnn.tiles import Tiling, detect_picture_tiled, detect_tiled, detection
from tests.slim import seed_weights
from tests.tiles import scenes
from tests.tiny import TinyConfig, tiny_config

CLASSES = [(3, "disk")]


def scene(seed=0, shape=(300, 260), count=40):
    """Bright disks that do not touch, as an image `[H, W]` uint8."""
    random = np.random.default_rng(seed)
    image, taken = np.zeros(shape, np.uint8), np.zeros(shape, bool)
    for _ in range(count):
        size = int(random.integers(4, 30))
        y, x = random.integers(0, np.array(shape) - size)
        around = taken[max(y - 2, 0) : y + size + 2, max(x - 2, 0) : x + size + 2]
        if not around.any():
            disk = scenes.ellipse(size, size)
            image[y : y + size, x : x + size][disk] = random.integers(100, 250)
            taken[y : y + size, x : x + size] |= disk
    return image


def bright_parts(image):
    """Connected bright parts, as detections in the form of result files."""
    labels, _ = scipy.ndimage.label(image > 50)
    found = []
    for number, (rows, columns) in enumerate(scipy.ndimage.find_objects(labels), start=1):
        patch = Patch(labels[rows, columns] == number, rows.start, columns.start)
        y1, x1, y2, x2 = patch.box
        found.append(
            {
                "category_id": 3,
                "category_name": "disk",
                "score": 0.9,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "segmentation": patch_rle(patch, image.shape),
            }
        )
    return found


class Threshold:
    """A detector that sees each bright part exactly; it stands in for the network."""

    def __init__(self, stop_after=None):
        self.seen, self.stop_after = [], stop_after

    def __call__(self, model, pictures, classes):
        for picture in pictures:
            if len(self.seen) == self.stop_after:
                raise KeyboardInterrupt
            self.seen.append(picture.name)
            try:
                image = picture.read()
            except OSError as error:
                yield {"file_name": picture.name, "error": str(error)}
                continue
            height, width = image.shape[:2]
            yield {
                "file_name": picture.name,
                "width": width,
                "height": height,
                "detections": bright_parts(image[:, :, 0]),
            }


@pytest.fixture
def threshold(monkeypatch):
    detector = Threshold()
    monkeypatch.setattr(detection, "detect_pictures", detector)
    return detector


class Model:
    """What detection asks a model for besides its network."""

    config = tiny_config()


def result_of(image, tiling, earlier=(), keep=lambda result: None, moved=None, name="a.png"):
    picture = Picture(name, lambda: image)
    return detect_picture_tiled(Model, picture, tiling, CLASSES, earlier, keep, moved)


@pytest.mark.parametrize("tile", [64, 100, 200, 1000])
def test_tiled_equals_untiled(threshold, tile):
    image = scene()
    result = result_of(image, Tiling(tile, 32))
    assert (result["width"], result["height"]) == (260, 300)

    def masks(detections):
        return sorted((one["bbox"], one["segmentation"]["counts"]) for one in detections)

    assert masks(result["detections"]) == masks(bright_parts(image))
    assert {one["category_name"] for one in result["detections"]} == {"disk"}
    assert not any("cut" in one for one in result["detections"])


def test_each_window_is_seen_once_and_counted(threshold):
    moves = []
    result_of(scene(), Tiling(100, 20), moved=lambda done, total: moves.append((done, total)))
    assert len(threshold.seen) == len(set(threshold.seen)) == 4 * 3
    assert threshold.seen[:2] == ["a.png@0,0", "a.png@0,80"]
    assert moves == [(number, 12) for number in range(1, 13)]


def test_a_stopped_detection_goes_on_with_the_next_window(monkeypatch):
    image, kept = scene(), []
    monkeypatch.setattr(detection, "detect_pictures", Threshold())
    wanted = result_of(image, Tiling(100, 32))
    first = Threshold(stop_after=5)
    monkeypatch.setattr(detection, "detect_pictures", first)
    with pytest.raises(KeyboardInterrupt):
        result_of(image, Tiling(100, 32), keep=kept.append)
    second = Threshold()
    monkeypatch.setattr(detection, "detect_pictures", second)
    assert result_of(image, Tiling(100, 32), earlier=kept) == wanted
    assert len(kept) == 5 and not set(first.seen) & set(second.seen)


def test_windows_without_data_are_passed_over(threshold, monkeypatch):
    image = scene()
    image[:150] = 7
    windowed = windows_of_array(image, nodata=7)
    picture = Picture("a.png", lambda: image)
    monkeypatch.setattr(detection, "open_picture", lambda _: _opened(windowed))
    moves = []
    detect_picture_tiled(
        Model, picture, Tiling(100, 0), CLASSES, (), lambda _: None, lambda *m: moves.append(m)
    )
    assert len(threshold.seen) == 6 and moves[-1] == (9, 9)


def _opened(windowed):
    import contextlib

    return contextlib.nullcontext(windowed)


def test_a_window_that_cannot_be_read_is_the_result_of_the_image(threshold):
    def read():
        raise OSError("a.png is damaged")

    picture = Picture("a.png", read)
    result = detect_picture_tiled(Model, picture, Tiling(), CLASSES, (), lambda _: None)
    assert result == {"file_name": "a.png", "error": "a.png is damaged"}


def test_as_many_objects_as_allowed_are_said(threshold, monkeypatch, caplog):
    monkeypatch.setattr(Model.config, "DETECTION_MAX_INSTANCES", 2)
    result_of(scene(), Tiling(1000, 32))
    assert "a.png@0,0 has as many objects as DETECTION_MAX_INSTANCES allows (2)" in caplog.text


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny network that finds something in anything."""
    model = MaskRCNN("inference", TinyConfig(), tmp_path_factory.mktemp("logs"))
    seed_weights(model.keras_model, 21)
    return model


def test_an_image_of_one_window_is_detected_as_by_detect(model):
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    (wanted,) = model.detect([image])
    found = detect_tiled(model, image, tile=64, overlap=16)
    masks = wanted["masks"]
    shown = masks.any(axis=(0, 1))
    assert shown.any()

    def boxes(rois, class_ids):
        return sorted(zip(rois.tolist(), class_ids.tolist(), strict=True))

    whole = [rle_patch(rle).part((0, 0, 64, 64)) for rle in found["masks"]]
    assert sorted(mask.tobytes() for mask in whole) == sorted(
        np.ascontiguousarray(masks[:, :, n]).tobytes() for n in np.flatnonzero(shown)
    )
    assert sorted(found["class_ids"]) == sorted(wanted["class_ids"][shown])
    np.testing.assert_allclose(found["scores"], wanted["scores"][shown], atol=1e-6)
    assert not found["cut"].any()


@pytest.mark.parametrize("kind", ["array", "npy", "tif"])
def test_any_image_that_is_read_by_windows(model, tmp_path, kind):
    import tifffile

    image = np.random.default_rng(1).integers(0, 255, (90, 130, 3), np.uint8)
    np.save(tmp_path / "a.npy", image)
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb", tile=(32, 32))
    source = image if kind == "array" else tmp_path / f"a.{kind}"
    found = detect_tiled(model, source, tile=64, overlap=16)
    wanted = detect_tiled(model, image, tile=64, overlap=16)
    assert len(found["rois"]) and found["masks"] == wanted["masks"]
    assert (np.diff(found["scores"]) <= 0).all()
    assert all(rle["size"] == [90, 130] for rle in found["masks"])


@pytest.mark.parametrize(("tile", "overlap"), [(64, 64), (64, 70), (64, -1), (0, 0)])
def test_windows_that_cannot_be(model, tile, overlap):
    with pytest.raises(ValueError, match=f"overlap of windows is {overlap}|windows of height 0"):
        detect_tiled(model, np.zeros((90, 90, 3), np.uint8), tile=tile, overlap=overlap)


@pytest.mark.slow
def test_forty_thousand_objects_of_a_large_image_in_little_memory(tmp_path):
    """20,000 x 20,000 pixels, 529 windows; the image alone would take 400 MB."""
    script = Path(__file__).with_name("large_image.py")
    printed = subprocess.run(
        [sys.executable, script, tmp_path], capture_output=True, text=True, check=True
    )
    objects, cut, megabytes = map(int, printed.stdout.split())
    assert (objects, cut) == (40_000, 0)
    assert megabytes < 800
