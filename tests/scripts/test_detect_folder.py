"""scripts/detect_folder.py: the command line, with the tiny network on drawn images."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pandas
import PIL.Image
import pytest

from mrcnn.detection.folder import in_shard
from mrcnn.detection.result_files import read_jsonl
from mrcnn.mask_rcnn import MaskRCNN
from scripts import detect_folder as script
from tests.tiny import CLASSES, TinyConfig, propose_anchors, random_rectangles, tiny_config

COUNT = 7
BROKEN = next(index for index in range(2) if in_shard("broken.png", index, 2))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Weights of a tiny network that finds something."""
    keras.utils.set_random_seed(1)
    folder = tmp_path_factory.mktemp("weights")
    model = MaskRCNN("inference", TinyConfig(), folder)
    propose_anchors(model.keras_model)
    model.keras_model.save_weights(folder / "tiny.h5")
    return str(folder / "tiny.h5")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    dataset = random_rectangles(COUNT)
    for number in range(COUNT):
        PIL.Image.fromarray(dataset.load_image(number)).save(folder / f"{number}.png")
    return folder


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """The default configuration is the tiny one, whose backbone no JSON file can name."""
    monkeypatch.setattr(script.coco, "CocoConfig", TinyConfig)


@pytest.fixture
def run(tmp_path, photos, weights):
    """Function that runs the script, an image a batch; its exit status."""

    def run(*arguments, folder=photos, output=tmp_path / "found.jsonl", classes=CLASSES):
        named = ["--classes", *classes] if classes else []
        paths = [str(folder), "--weights", weights, "--output", str(output)]
        return script.main([*paths, *named, "--batch-size", "1", *map(str, arguments)])

    run.photos = photos
    return run


def test_what_the_network_finds_is_written(run, tmp_path, photos, weights, capsys):
    assert run("--batch-size", 3) == 0
    found = {result["file_name"]: result for result in read_jsonl(tmp_path / "found.jsonl")}
    config = TinyConfig()
    config.IMAGES_PER_GPU = 1
    model = MaskRCNN("inference", config, tmp_path)
    model.load_weights(weights)
    total = 0
    for number in range(COUNT):
        (one,) = model.detect([np.asarray(PIL.Image.open(photos / f"{number}.png"))])
        result = found.pop(f"{number}.png")
        assert (result["width"], result["height"]) == (64, 64)
        total += len(one["rois"])
        for detection, (y1, x1, y2, x2), class_id, score in zip(
            result["detections"], one["rois"], one["class_ids"], one["scores"], strict=True
        ):
            assert detection["bbox"] == [x1, y1, x2 - x1, y2 - y1]
            assert detection["category_id"] == class_id
            assert detection["category_name"] == CLASSES[class_id - 1]
            assert detection["score"] == pytest.approx(score, abs=1e-5)
    assert not found and total
    assert f"{COUNT} images, {total} detections, 0 images that" in capsys.readouterr().out


def test_parts_limits_shards_and_unreadable_images(run, tmp_path, photos, caplog):
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in photos.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    assert run(folder=folder) == 0
    (folder / "broken.png").write_bytes(b"nothing")

    def parts(*arguments):
        return run("--format", "parquet", *arguments, folder=folder, output=tmp_path / "parts")

    assert parts("--shard", f"{BROKEN}/2") == script.SOME_UNREADABLE
    assert "broken.png cannot be read" in caplog.text
    assert parts("--shard", f"{1 - BROKEN}/2", "--limit", 2) == 0
    assert parts("--shard", f"{1 - BROKEN}/2") == 0
    # Results that hold an error say so whenever they are continued.
    assert parts("--shard", f"{BROKEN}/2") == script.SOME_UNREADABLE
    table = pandas.read_parquet(tmp_path / "parts")
    whole = {r["file_name"]: r["detections"] for r in read_jsonl(tmp_path / "found.jsonl")}
    assert set(table.file_name) == {*whole, "broken.png"}
    for name, detections in whole.items():
        rows = table[(table.file_name == name) & table.category_id.notna()]
        assert rows.segmentation.tolist() == [d["segmentation"]["counts"] for d in detections]
    with pytest.raises(ValueError, match="is of 2 shards, and this is shard 0/1"):
        parts()


def test_a_run_with_other_settings_does_not_mix_in(run, tmp_path):
    assert run("--limit", 1) == 0
    with pytest.raises(ValueError, match="DETECTION_MIN_CONFIDENCE was 0.0 and is 0.5"):
        run("--min-confidence", 0.5)
    assert len(list(read_jsonl(tmp_path / "found.jsonl"))) == 1


def test_settings_and_names_are_those_beside_the_weights(run, tmp_path, weights, capsys):
    """A training leaves all settings there, and those that its Config class added."""
    run_folder = tmp_path / "tiny20260101T0000"
    run_folder.mkdir()
    own = run_folder / "tiny.h5"
    own.write_bytes(Path(weights).read_bytes())
    values = {**TinyConfig().json_values(), "DETECTION_MAX_INSTANCES": 1, "MY_COLOURS": {"a": [1]}}
    (run_folder / "config.json").write_text(json.dumps({**values, "CLASS_NAMES": list("abc")}))
    command = ["--weights", own, "--output", tmp_path / "found.jsonl", "--limit", 2]
    assert script.main([str(run.photos), *map(str, command)]) == 0
    found = list(read_jsonl(tmp_path / "found.jsonl"))
    assert sorted(len(result["detections"]) for result in found) in ([0, 1], [1, 1])
    assert {d["category_name"] for r in found for d in r["detections"]} <= set("abc")
    printed = capsys.readouterr().out
    assert f"Settings are those of {run_folder / 'config.json'}" in printed
    assert "does not use: MY_COLOURS" in printed


def test_a_first_try_with_wrong_weights_does_not_block_the_right_ones(run, tmp_path, weights):
    wrong = tmp_path / "wrong.h5"
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save_weights(
        tmp_path / "wrong.weights.h5"
    )
    (tmp_path / "wrong.weights.h5").rename(wrong)
    with pytest.raises(ValueError, match="wrong.h5"):
        run("--weights", wrong, "--limit", 1)
    assert run("--limit", 1) == 0
    assert len(list(read_jsonl(tmp_path / "found.jsonl"))) == 1


def test_a_folder_as_output_holds_one_file(run, tmp_path, capsys):
    (tmp_path / "config.json").write_text('{"DETECTION_MAX_INSTANCES": 3}')
    config = ("--config", tmp_path / "config.json")
    assert run(*config, "--limit", 2, output=tmp_path, classes=()) == 0
    found = list(read_jsonl(tmp_path / "detections.jsonl"))
    assert len(found) == 2 and all(len(result["detections"]) <= 3 for result in found)
    assert {d["category_name"] for r in found for d in r["detections"]} <= {"1", "2", "3"}
    assert "called by their numbers" in capsys.readouterr().out


# ---- Arguments -----------------------------------------------------------------------------------


def parsed(*arguments):
    return script.parse_arguments(["folder", "--output", "out", "--weights", *arguments])


def test_classes_are_those_of_the_line_or_of_an_annotation_file(tmp_path):
    assert script.load_classes(parsed("coco")) is None
    assert script.load_classes(parsed("w.h5", "--classes", "a b", "c")) == [(1, "a b"), (2, "c")]
    path = tmp_path / "instances.json"
    content = {"images": [], "annotations": [], "categories": [{"id": 7, "name": "x"}]}
    content["categories"].append({"id": 3, "name": "y"})
    path.write_text(json.dumps(content))
    assert script.load_classes(parsed("w.h5", "--classes", str(path))) == [(3, "y"), (7, "x")]


def test_the_category_ids_of_an_annotation_file_are_kept(tmp_path, weights):
    path = tmp_path / "instances.json"
    categories = [{"id": 10 * i, "name": name} for i, name in enumerate("xyz", start=1)]
    path.write_text(json.dumps({"images": [], "annotations": [], "categories": categories}))
    trained = script.load_trained(parsed(weights, "--classes", str(path)))
    assert trained.classes == [(10, "x"), (20, "y"), (30, "z")]
    assert trained.config.NUM_CLASSES == 4


def test_the_configuration_follows_the_flags(capsys):
    config = tiny_config(IMAGE_RESIZE_MODE="crop", GPU_COUNT=2, IMAGES_PER_GPU=1)
    flags = ("--batch-size", "3", "--min-confidence", "0.25")
    changed = script.config_for(parsed("w.h5", *flags), config)
    assert (changed.BATCH_SIZE, changed.DETECTION_MIN_CONFIDENCE) == (3, 0.25)
    assert changed.IMAGE_RESIZE_MODE == "pad64" and "pad64" in capsys.readouterr().out
    assert script.config_for(parsed("w.h5"), config).BATCH_SIZE == 2
    with pytest.raises(ValueError, match="IMAGES_PER_GPU is 0"):
        script.config_for(parsed("w.h5", "--batch-size", "0"), config)


@pytest.mark.parametrize("text", ["3/3", "1", "-1/2", "a/b", "0/0"])
def test_a_shard_that_does_not_exist_is_refused(text, capsys):
    with pytest.raises(SystemExit):
        parsed("w.h5", f"--shard={text}")
    assert "of 3 there are 0/3, 1/3 and 2/3" in capsys.readouterr().err


def test_weights_that_are_not_there_leave_nothing(photos, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no weight file nowhere.h5"):
        script.main([str(photos), "--weights", "nowhere.h5", "--output", str(tmp_path / "o.jsonl")])
    assert not list(tmp_path.iterdir())


def test_a_file_or_nothing_in_place_of_the_folder_leaves_nothing(run, photos, tmp_path):
    with pytest.raises(NotADirectoryError, match="0.png is a file; name the folder"):
        run(folder=photos / "0.png")
    with pytest.raises(FileNotFoundError, match="there is no folder .*nowhere"):
        run(folder=photos / "nowhere")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("output", "kind"),
    [
        ("found.csv", "jsonl"),
        ("found.JSON", "jsonl"),
        ("found.parquet", "jsonl"),
        ("a/found.v2", "jsonl"),
        ("found.jsonl", "parquet"),
        ("found.csv", "parquet"),
        ("there", "parquet"),
    ],
)
def test_an_output_of_another_kind_is_refused(run, output, kind, tmp_path):
    (tmp_path / "there").touch()
    with pytest.raises(ValueError, match=f"--output is .*{output}; .* folder"):
        run("--format", kind, output=tmp_path / output)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


@pytest.mark.parametrize(
    ("output", "kind", "path"),
    [
        ("found.jsonl", "jsonl", "found.jsonl"),
        ("found.ndjson", "jsonl", "found.ndjson"),
        ("found", "jsonl", "found"),
        ("new/", "jsonl", "new/detections.jsonl"),
        ("found", "parquet", "found"),
        ("found.parquet", "parquet", "found.parquet"),
        ("run.3", "parquet", "run.3"),
    ],
)
def test_outputs_that_are_taken(output, kind, path):
    assert script.output_path(output, kind) == path


# ---- Killed --------------------------------------------------------------------------------------

AS_A_PROCESS = """
import sys
sys.path[:0] = [".", "tests/goldens"]
from scripts import detect_folder as script
from tests.tiny import TinyConfig
script.coco.CocoConfig = TinyConfig
sys.exit(script.main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_run_that_is_killed_goes_on(tmp_path, weights):
    """With a journal and parts; test_result_files.py kills writers of both kinds."""
    (tmp_path / "photos").mkdir()
    dataset = random_rectangles(400)
    for number in range(400):
        PIL.Image.fromarray(dataset.load_image(number)).save(tmp_path / f"photos/{number}.png")
    names = {f"{number}.png" for number in range(400)}
    lines = tmp_path / "parts/_part.jsonl"
    output = lines.parent
    command = [sys.executable, "-c", AS_A_PROCESS, str(tmp_path / "photos"), "--weights", weights]
    command += ["--classes", *CLASSES, "--output", str(output), "--format", "parquet"]
    rng = random.Random(0)
    sizes = []
    for _ in range(2):
        before = lines.stat().st_size if lines.exists() else 0
        with subprocess.Popen(command, cwd=Path(__file__).parents[2]) as process:
            while process.poll() is None and (not lines.exists() or lines.stat().st_size <= before):
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.2))
            assert process.poll() is None, "it ended before it was killed"
            os.kill(process.pid, signal.SIGKILL)
        sizes.append(lines.stat().st_size)
    assert sizes == sorted(set(sizes)), "each run came further than the one before"
    subprocess.run(command, cwd=Path(__file__).parents[2], check=True)
    column = pandas.read_parquet(output).file_name
    found = column[column != column.shift()].tolist()
    assert sorted(found) == sorted(names)
