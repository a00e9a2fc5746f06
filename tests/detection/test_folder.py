"""detection/folder.py: each image of a folder has its result once, whatever happens to it."""

import os

import numpy as np
import PIL.Image
import pytest
from pycocotools import mask as coco_mask

from mrcnn import detection
from mrcnn.detection import folder as f
from mrcnn.detection.result_files import open_jsonl, read_jsonl
from tests.tiny import CLASSES, tiny_config

NAMED = list(enumerate(CLASSES, start=11))


class Finds:
    """A model that finds in each image what its brightness says: 0 to 3 objects, the left half."""

    def __init__(self, **settings):
        self.config = tiny_config(**{"IMAGES_PER_GPU": 3, **settings})
        self.keras_model, self.batches = self, []

    def get_anchors(self, shape):
        return np.zeros((1, 4), np.float32)

    def predict_on_batch(self, inputs):
        images, metas, anchors = inputs
        assert len(images) == len(metas) == len(anchors)
        self.batches.append(images.shape)
        detections = np.zeros((len(images), 12, 6), np.float32)
        for row, image in zip(detections, images, strict=True):
            height, width = image.shape[:2]
            middle = image[height // 2, width // 2] + self.config.MEAN_PIXEL
            for number in range(min(round(middle[0]) // 50, 3)):
                row[number] = [0, 0, 1, 0.5, 1 + number, 0.9 - 0.1 * number]
        masks = np.ones((len(images), 12, 8, 8, 4), np.float32)
        return [detections, None, None, masks, None, None, None]


def draw(path, brightness=60, size=(40, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", size, (brightness,) * 3).save(path)


@pytest.fixture
def photos(tmp_path):
    """Ten images: brighter ones show more objects; of two sizes, in two folders."""
    folder = tmp_path / "photos"
    for number in range(10):
        where = "inside/" * (number % 2)
        draw(folder / f"{where}{number}.png", 60 * (number % 4), (40, 30 + number % 3))
    return folder


@pytest.fixture
def detect(tmp_path, photos):
    """Function that runs `detect_folder` on the photos: the counts, and all results by name."""

    def run(model=None, output="found.jsonl", folder=photos, **arguments):
        path = tmp_path / output
        with open_jsonl(path, {}) as store:
            arguments = {"recursive": True, **arguments}
            counts = f.detect_folder(model or Finds(), folder, store, NAMED, **arguments)
        written = list(read_jsonl(path))
        by_name = {result["file_name"]: result for result in written}
        assert len(by_name) == len(written)
        return counts, by_name

    return run


def expected_objects(name):
    return int(name.split("/")[-1][0]) % 4 if name.endswith(".png") else 0


@pytest.mark.skipif(os.name == "nt", reason="names are no bytes")
def test_a_name_that_is_no_utf_8_is_read_and_written_out(tmp_path, photos, detect):
    name = os.fsdecode(b"caf\xe9.png")
    try:
        draw(photos / name)
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    (photos / os.fsdecode(b"\xff.png")).write_bytes(b"nothing")
    counts, found = detect()
    assert counts.images == 12 and len(found["caf\\xe9.png"]["detections"]) == 1
    assert "xff.png cannot be read" in found["\\xff.png"]["error"]
    assert detect()[0].images == 0


# ---- Folders -------------------------------------------------------------------------------------


def test_every_image_has_its_result(photos, detect, capsys):
    counts, found = detect()
    names = {p.relative_to(photos).as_posix() for p in photos.rglob("*.png")}
    assert set(found) == names and len(names) == 10
    assert counts == (10, 0, sum(map(expected_objects, names)))
    for name, result in found.items():
        number = int(name.split("/")[-1][0])
        width, height = 40, 30 + number % 3
        assert (result["width"], result["height"]) == (width, height)
        assert len(result["detections"]) == number % 4  # none in some
        for place, found_one in enumerate(result["detections"]):
            assert found_one["category_id"] == 11 + place
            assert found_one["category_name"] == CLASSES[place]
            assert found_one["score"] == pytest.approx(0.9 - 0.1 * place, abs=1e-6)
            x, y, w, h = found_one["bbox"]
            assert (x, y) == (0, 0) and abs(w - width / 2) <= 1 and h == height
            mask = coco_mask.decode(found_one["segmentation"])
            assert mask.shape == (height, width) and mask.sum() == w * h
    said = capsys.readouterr().out
    assert "10 images" in said and "0 done before, 10 to do" in said and "10 of 10 images" in said


def test_results_are_those_of_detect(photos, detect):
    model = Finds(IMAGE_RESIZE_MODE="pad64", IMAGE_MIN_DIM=0)
    draw(photos / "wide.png", 120, (200, 40))
    _, found = detect(model)
    assert set(model.batches) >= {(1, 64, 256, 3), (3, 64, 64, 3)}
    names = sorted(found)
    images = [np.asarray(PIL.Image.open(photos / name)) for name in names]
    unmold = detection.unmold_rle
    wanted = detection.detect(model, model.config, model.get_anchors, images, unmold=unmold)
    for name, one in zip(names, wanted, strict=True):
        masks = [d["segmentation"] for d in found[name]["detections"]]
        assert masks == one["masks"] and len(masks) == len(one["rois"])


def test_what_cannot_be_read_is_named_counted_and_not_tried_again(photos, detect, caplog):
    (photos / "7.png").write_bytes(b"nothing")
    whole = (photos / "2.png").read_bytes()
    (photos / "2.png").write_bytes(whole[: len(whole) // 2])
    (photos / "gone.jpg").symlink_to(photos / "nowhere")
    counts, found = detect()
    assert counts.images == 12 and counts.failures == 3
    for name in ("7.png", "2.png", "gone.jpg"):
        assert set(found[name]) == {"file_name", "error"}
        assert str(photos / name) in found[name]["error"] and found[name]["error"] in caplog.text
    assert detect()[0] == (0, 0, 0)


def test_an_image_that_does_not_fit_the_network_is_no_end(photos, detect):
    def read(path):
        return np.zeros((4, 4, 7)) if path.endswith("4.png") else f.read_image(path)

    counts, found = detect(read=read)
    assert counts[:2] == (10, 1) and "7" in found["4.png"]["error"]


def test_a_run_that_breaks_off_is_continued_without_anything_twice(photos, detect):
    whole = detect(output="whole.jsonl")[1]

    class Breaks(Finds):
        def predict_on_batch(self, inputs):
            if len(self.batches) == 2:
                raise RuntimeError("out of memory")
            return super().predict_on_batch(inputs)

    with pytest.raises(RuntimeError, match="out of memory"):
        detect(Breaks(IMAGES_PER_GPU=2))
    model = Finds(IMAGES_PER_GPU=2)
    counts, found = detect(model)
    assert found == whole
    # The second batch was not written when the third one failed.
    assert counts.images == sum(shape[0] for shape in model.batches) in (6, 8)


def test_limits_add_up_and_new_images_are_found(photos, detect):
    assert [detect(limit=4)[0].images for _ in range(4)] == [4, 4, 2, 0]
    draw(photos / "8" / "new.png")
    counts, found = detect(limit=4)
    assert counts.images == 1 and "8/new.png" in found


def test_shards_together_are_the_whole_and_stay_when_the_folder_grows(photos, detect):
    whole = detect(output="whole.jsonl")[1]
    shards = [detect(output=f"{i}.jsonl", shard=(i, 3))[1] for i in range(3)]
    assert sum(map(len, shards)) == len(whole)
    assert {name: result for shard in shards for name, result in shard.items()} == whole
    for number in range(20, 40):
        draw(photos / f"{number}.png", 0)
    for i, before in enumerate(shards):
        after = detect(output=f"{i}.jsonl", shard=(i, 3))[1]
        assert before.items() <= after.items()
        assert all(f.in_shard(name, i, 3) for name in after)


def test_an_empty_shard_is_no_error_and_an_empty_folder_is(tmp_path, photos, detect):
    for path in list(photos.rglob("*.png"))[1:]:
        path.unlink()
    assert sorted(detect(output=f"{i}.jsonl", shard=(i, 2))[0].images for i in range(2)) == [0, 1]
    (tmp_path / "none").mkdir()
    draw(tmp_path / "none" / "deeper" / "1.png")
    with pytest.raises(FileNotFoundError, match="no images .* in .*none; with recursive"):
        detect(folder=tmp_path / "none", recursive=False)
    with pytest.raises(FileNotFoundError, match="no folder .*nowhere"):
        detect(folder=tmp_path / "nowhere")
    with pytest.raises(NotADirectoryError, match="1.png is a file"):
        detect(folder=tmp_path / "none" / "deeper" / "1.png")


@pytest.mark.parametrize(
    ("settings", "arguments", "message"),
    [
        ({}, {"shard": (3, 3)}, "shard is 3/3"),
        ({}, {"limit": 0}, "limit is 0"),
        ({"NUM_CLASSES": 3}, {}, "there are 3 classes, and NUM_CLASSES is 3: 2 and the backgr"),
        ({"IMAGE_RESIZE_MODE": "crop"}, {}, r"'crop', .* config.for_detection\(\)"),
    ],
)
def test_what_no_image_could_change_is_an_error_at_once(detect, settings, arguments, message):
    model = Finds(**settings)
    with pytest.raises(ValueError, match=message):
        detect(model, **arguments)
    assert not model.batches


# ---- What a run says -----------------------------------------------------------------------------


def test_settings_tell_networks_apart_and_not_batch_sizes(tmp_path):
    (tmp_path / "w.h5").write_bytes(b"weights")
    config = tiny_config()

    def settings(config=config, classes=NAMED):
        return f.run_settings(config, tmp_path, tmp_path / "w.h5", classes)

    first = settings()
    assert first == settings(tiny_config(IMAGES_PER_GPU=7))
    assert first != settings(tiny_config(DETECTION_MIN_CONFIDENCE=0.1))
    assert first != settings(classes=NAMED[::-1])
    assert first["classes"] == "11 bar, 12 block, 13 tile"
    assert all(isinstance(text, str) and " at 0x" not in text for text in first.values())
    (tmp_path / "w.h5").write_bytes(b"other weights")
    assert first != settings()
