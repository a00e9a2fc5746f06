"""From labels to tables by the verbs, in this process, with the tiny network."""

import csv
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from mrcnn.cli.convert import EPILOG as CONVERT_EPILOG
from mrcnn.cli.detect import EPILOG as DETECT_EPILOG
from mrcnn.cli.main import main
from mrcnn.cli.train import name_of
from mrcnn.data.formats.find import FORMATS
from mrcnn.data.formats.objects import LabelledImage, LabelledObject
from mrcnn.result_formats.write import RESULT_FORMATS
from tests.cli.tiny_verbs import use_the_tiny_network
from tests.inspection.test_page import check_page
from tests.rasters import write_raster
from tests.tiny import CLASSES, random_rectangles


def write_labels(folder, count, to="coco", seed=0, classes=None):
    """Rectangles as PNGs with labels; `classes` gives other names to CLASSES."""
    called = [(classes or {}).get(name, name) for name in CLASSES]
    dataset = random_rectangles(count, seed)
    source = folder.parent / f"source of {folder.name}"
    source.mkdir(parents=True)
    images = []
    for number in range(count):
        path = source / f"{number}.png"
        PIL.Image.fromarray(dataset.load_image(number)).save(path)
        masks, class_ids = dataset.load_mask(number)
        objects = [
            LabelledObject(called[class_id - 1], masks[..., i])
            for i, class_id in enumerate(class_ids)
        ]
        images.append(LabelledImage(path.name, str(path), 64, 64, objects))
    FORMATS[to].write(images, called, folder)
    return folder


@pytest.fixture(scope="module")
def tiny():
    """The verbs use the tiny network."""
    with pytest.MonkeyPatch.context() as patch:
        use_the_tiny_network(patch)
        yield


@pytest.fixture(scope="module")
def trained_run(tiny, tmp_path_factory):
    """A run of two epochs, and what the command printed."""
    import contextlib
    import io

    folder = tmp_path_factory.mktemp("cli")
    data = write_labels(folder / "leaves", 5)
    words = ["train", data, "--weights", "random", "--epochs", 2, "--logs", folder / "logs"]
    words += ["--split", 0.4, "--set", "TRAIN_ROIS_PER_IMAGE=10", "--seed", 3]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main(list(map(str, words))) == 0
    (run,) = (folder / "logs").iterdir()
    return run, printed.getvalue(), data


@pytest.fixture
def run(trained_run, capsys):
    """Function that runs a command line: its exit status, output and error lines."""

    def run(*words):
        status = main([str(word) for word in words])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def test_a_training_leaves_all_that_it_says(trained_run):
    folder, printed, data = trained_run
    assert folder.name.startswith("leaves2")
    names = {path.name for path in folder.iterdir()}
    assert names >= {
        "mask_rcnn_leaves_0002.h5",
        "mask_rcnn_leaves_best.h5",
        "config.json",
        "run.json",
        "split.json",
        "coco_ap.csv",
        "curves.png",
        "pictures",
    }
    assert len(list((folder / "pictures").iterdir())) == 2
    config = json.loads((folder / "config.json").read_text())
    assert config["CLASS_NAMES"] == list(CLASSES) and config["TRAIN_ROIS_PER_IMAGE"] == 10
    (entry,) = json.loads((folder / "run.json").read_text())
    assert entry["data"] == str(data) and entry["weights"] == "random" and entry["seed"] == 3
    split = json.loads((folder / "split.json").read_text())
    assert (len(split["train"]), len(split["val"])) == (3, 2)
    assert "Training on 3 images, validation on 2 images; classes bar, block, tile" in printed
    assert "Epoch 1/2: loss " in printed and "val loss " in printed and "mask AP " in printed
    lines = printed.splitlines()
    assert lines[-1] == f"Next: mrcnn detect {folder} IMAGES"
    assert lines[-4].split() == ["epoch", "loss", "val", "loss", "box", "AP", "mask", "AP"]
    assert [line.split()[0] for line in lines[-3:-1]] == ["1", "2"]


@pytest.mark.slow
def test_last_goes_on_with_the_run(trained_run, run):
    folder, _, data = trained_run
    words = ["--split", 0.4, "--seed", 3, "--logs", folder.parent]
    status, out, _ = run("train", data, "--weights", "last", "--epochs", 2, *words)
    assert status == 0 and "Nothing is left to train: 2 epochs are done." in out
    status, out, _ = run("train", data, "--weights", "last", "--epochs", 3, *words)
    assert status == 0 and "Epoch 3/3" in out
    assert len(json.loads((folder / "run.json").read_text())) == 2
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@pytest.mark.slow
def test_resume_begins_a_run_and_goes_on_with_it(trained_run, run, tmp_path):
    _, _, data = trained_run
    words = ["train", data, "--weights", "random", "--logs", tmp_path, "--split", 0.4]
    words += ["--resume", "--name", "again"]
    status, out, _ = run(*words, "--epochs", 1)
    assert status == 0 and "Epoch 1/1" in out
    status, out, err = run(*words, "--epochs", 2)
    assert status == 0 and "Epoch 2/2" in out and "Epoch 1/2" not in out, err
    (folder,) = tmp_path.glob("again*")
    # What differs from the run is named, and nothing is trained.
    for other, message in [
        (["--seed", 5], "seed was 0 and is 5"),
        (["--split", 0.2], "split was 0.4 and is 0.2"),
        (["--batch-size", 3], "IMAGES_PER_GPU was 2 and is 3"),
        (["--set", "LEARNING_RATE=0.5"], "LEARNING_RATE was 0.001 and is 0.5"),
    ]:
        status, _, err = run(*words, "--epochs", 3, *other)
        assert status == 1 and message in err and "--resume needs the same" in err
        assert "Traceback" not in err and not (folder / "mask_rcnn_again_0003.h5").exists()
    # The same folder, with an image more.
    moved = tmp_path / "more"
    shutil.copytree(data, moved)
    write_labels(data.parent / "seven", 7)
    shutil.rmtree(data)
    shutil.copytree(data.parent / "seven", data)
    try:
        status, _, err = run(*words, "--epochs", 3)
        assert status == 1 and re.search("images was 3 with .* and is 4 with", err)
    finally:
        shutil.rmtree(data)
        shutil.copytree(moved, data)
    # Another batch is no hindrance where the curve need not go on exactly.
    words.remove("--resume")
    words += ["--weights", "last", "--epochs", 3, "--batch-size", 3]
    status, out, err = run(*words)
    assert status == 0 and "Epoch 3/3" in out, err
    assert json.loads((folder / "config.json").read_text())["IMAGES_PER_GPU"] == 3


def test_a_run_of_other_classes_is_not_continued(trained_run, run, tmp_path):
    folder, _, _ = trained_run
    names = {"bar": "rod", "block": "block", "tile": "tile"}
    data = write_labels(tmp_path / "leaves", 3, classes=names)
    words = ["--logs", folder.parent, "--name", "leaves", "--epochs", 9]
    status, _, err = run("train", data, "--weights", "last", *words)
    assert status == 1 and "learns the classes bar, block, tile, and the data have" in err


@pytest.mark.slow
def test_weights_of_other_classes_are_a_start(trained_run, run, tmp_path):
    folder, _, _ = trained_run
    data = write_labels(tmp_path / "rods", 3)
    labels = json.loads((data / "annotations.json").read_text())
    labels["categories"].append({"id": 9, "name": "rod"})
    (data / "annotations.json").write_text(json.dumps(labels))
    words = ["--logs", tmp_path, "--split", 0, "--epochs", 1, "--layers", "heads"]
    status, out, err = run("train", data, "--weights", folder / "mask_rcnn_leaves_best.h5", *words)
    assert status == 0 and "Left out, because" in out and "4 classes and the data 5" in out, err


def test_patience_needs_a_validation(trained_run, run, tmp_path):
    _, _, data = trained_run
    status, _, err = run("train", data, "--split", 0, "--patience", 3, "--logs", tmp_path)
    assert status == 2 and "--patience needs a validation" in err


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_saves_the_state_and_gives_the_exit_status(trained_run, tmp_path, number, status):
    _, _, data = trained_run
    words = [sys.executable, Path(__file__).with_name("tiny_verbs.py"), "train", data]
    words += ["--weights", "random", "--epochs", "500", "--logs", tmp_path, "--name", "a"]
    words += ["--set", "CHECKPOINT_MINUTES=0", "--set", "STEPS_PER_EPOCH=50"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    while process.poll() is None:
        # The first event of a step is written, so there is something to save.
        if any(b"Training/Loss" in path.read_bytes() for path in tmp_path.glob("a*/events*")):
            process.send_signal(getattr(signal, number))
            break
        time.sleep(0.05)
    out, err = process.communicate(timeout=300)
    assert process.returncode == status, err
    (folder,) = tmp_path.glob("a*")
    (state,) = folder.glob("*_step*.h5")
    assert f"Stopped: the last good checkpoint is {state}." in err and "Traceback" not in err


def test_validation_data_of_their_own(run, tmp_path):
    train = write_labels(tmp_path / "train", 2)
    val = write_labels(tmp_path / "val", 1, to="labelme", seed=9)
    words = ["--weights", "random", "--epochs", 1, "--logs", tmp_path / "logs", "--name", "mine"]
    status, out, _ = run("train", train, "--val", val, *words)
    assert status == 0 and "Training on 2 images, validation on 1 images" in out
    (folder,) = (tmp_path / "logs").iterdir()
    assert folder.name.startswith("mine2") and not (folder / "split.json").exists()
    assert json.loads((folder / "config.json").read_text())["CLASS_NAMES"] == list(CLASSES)


@pytest.mark.slow
def test_without_validation(run, tmp_path):
    data = write_labels(tmp_path / "train", 2)
    words = ["--weights", "random", "--epochs", 1, "--logs", tmp_path / "logs", "--split", 0]
    status, out, _ = run("train", data, "--augmentation", "turn", "--batch-size", 1, *words)
    assert status == 0 and "validation on none" in out and "AP" not in out.splitlines()[-3]


def test_detection_by_the_folder_of_a_run(trained_run, run, tmp_path, monkeypatch):
    folder, _, data = trained_run
    monkeypatch.chdir(tmp_path)
    (data / "images" / "broken.png").write_bytes(b"no image")
    words = ["detect", folder, data / "images", "--min-score", 0]
    status, out, err = run(*words)
    (data / "images" / "broken.png").unlink()
    assert status == 3 and "6 images, " in out and "1 unreadable" in out
    assert "broken.png cannot be read as an image" in err
    found = tmp_path / "detections"
    assert sorted(path.name for path in found.iterdir()) == [
        "_detections.jsonl.settings.json",
        "detections.json",
        "detections.jsonl",
        "objects.csv",
        "overlays",
    ]
    with open(found / "objects.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    results = json.loads((found / "detections.json").read_text())
    assert rows and len(rows) == len(results) and {row["class"] for row in rows} <= set(CLASSES)
    assert sorted(path.name for path in (found / "overlays").iterdir()) == [
        f"{number}.png" for number in range(5)
    ]


def test_another_format_needs_no_detection(trained_run, run, tmp_path, monkeypatch):
    folder, _, data = trained_run
    words = ["detect", folder, data / "images", "--min-score", 0, "--output", tmp_path / "out"]
    assert run(*words, "--save", "csv")[0] == 0
    monkeypatch.setattr("mrcnn.cli.detect._model", None)
    status, out, _ = run(*words, "--save", "labels,masks", "--save", "geojson")
    assert status == 0 and "0 images, 0 objects, 0 unreadable, 5 images done before" in out
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"labels", "masks", "geojson"}
    status, _, err = run(*words[:-1], tmp_path / "out", "--set", "DETECTION_MAX_INSTANCES=3")
    assert status == 1 and "has results of other settings: DETECTION_MAX_INSTANCES was" in err


def test_an_image_in_tiles(trained_run, run, tmp_path, monkeypatch):
    folder, _, data = trained_run
    parts = [random_rectangles(4, seed=5).load_image(number) for number in range(4)]
    mosaic = np.block([[[parts[0]], [parts[1]]], [[parts[2]], [parts[3]]]])
    PIL.Image.fromarray(mosaic).save(tmp_path / "mosaic.png")
    words = ["detect", folder, tmp_path / "mosaic.png", "--min-score", 0, "--output"]
    tiled = [*words, tmp_path / "out", "--tile", 64, "--overlap", 32]
    status, out, _ = run(*tiled, "--save", "csv,labels,overlays,geojson,rois.zip,masks")
    (found,) = (line for line in out.splitlines() if line.startswith("1 images, "))
    assert status == 0
    windows = (tmp_path / "out" / "windows.jsonl").read_text().splitlines()
    assert len(windows) == 9
    with open(tmp_path / "out" / "objects.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows and {row["cut"] for row in rows} <= {"0", "1"}
    (labels,) = (tmp_path / "out" / "labels").iterdir()
    with PIL.Image.open(labels) as image:
        assert image.size == (128, 128)
    # Interrupted before the image was joined: its windows are not detected again.
    (tmp_path / "out" / "detections.jsonl").write_text("")
    monkeypatch.setattr("mrcnn.tiles.detection.detect_pictures", lambda *_: iter(()))
    assert found in run(*tiled, "--save", "csv")[1].splitlines()
    status, _, err = run(*words, tmp_path / "out", "--tile", 64, "--overlap", 16)
    assert status == 1 and "has results of other settings: overlap was" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--overlap", 3], "--overlap is for images in windows; give --tile too."),
        (["--tile", 64, "--overlap", 64], "the overlap of windows is 64 and their height 64"),
        (["--tile", 8], "8 is not in the range"),
    ],
)
def test_tiles_that_cannot_be(trained_run, run, tmp_path, words, message):
    folder, _, data = trained_run
    status, _, err = run("detect", folder, data / "images", "--output", tmp_path / "out", *words)
    assert status == 2 and message in err and not (tmp_path / "out").exists()


def test_objects_of_a_raster_are_on_the_map(trained_run, run, tmp_path):
    pyogrio, rasterio = map(pytest.importorskip, ("pyogrio", "rasterio"))
    folder, _, _ = trained_run
    pixels = np.random.default_rng(0).integers(0, 255, (90, 100, 3)).astype(np.uint8)
    write_raster(tmp_path / "field.tif", pixels)
    words = ["detect", folder, tmp_path / "field.tif", "--output", tmp_path / "out"]
    status, _, _ = run(*words, "--min-score", 0, "--save", "json,gpkg,wgs84,geotiff,ome")
    found = json.loads((tmp_path / "out" / "detections.json").read_text())
    _, _, _, columns = pyogrio.raw.read(tmp_path / "out" / "gpkg" / "field.gpkg")
    assert status == 0 and found and columns[0].tolist() == list(range(1, len(found) + 1))
    assert columns[2].tolist() == [one["score"] for one in found]
    with rasterio.open(tmp_path / "out" / "geotiff" / "field.tif") as raster:
        labels = raster.read(1)
    assert labels.shape == (90, 100) and labels.max() <= len(found)
    text = (tmp_path / "out" / "wgs84" / "field.geojson").read_text()
    assert len(json.loads(text)["features"]) == len(found)


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--save", "cvs"], 2, "'cvs' is no format of results; .* Did you mean csv?"),
        (
            ["--set", "IMAGE_MAX_DIN=64"],
            2,
            "unknown setting 'IMAGE_MAX_DIN'. Did you",
        ),
        (["--classes", "a,b"], 1, "there are 2 classes, and NUM_CLASSES is 4"),
        (
            ["--save", "csv,gpkg"],
            1,
            "0.png does not say where it lies on the earth: give a GeoTIFF",
        ),
    ],
)
def test_wrong_options_leave_nothing(trained_run, run, tmp_path, words, status, message):
    folder, _, data = trained_run
    output = tmp_path / "out"
    found = run("detect", folder, data / "images", "--output", output, *words)
    assert found[0] == status and re.search(message, found[2]) and not output.exists()
    found = run("detect", folder, tmp_path / "nowhere", "--output", output)
    assert found[0] == 1 and "there is no file" in found[2] and not output.exists()
    found = run("detect", folder.parent, data / "images", "--output", output)
    assert found[0] == 1 and f"the newest run in it is {folder}" in found[2]


def test_inspection_of_data_network_weights_and_run(trained_run, run, tmp_path):
    folder, _, data = trained_run
    for words, sections in [
        (("data", data), 8),
        (("model", folder, data), 12),
        (("weights", folder), 3),
        (("weights", folder, "--compare", folder), 4),
        (("run", folder), 5),
        (("run", folder, "--data", data), 6),
    ]:
        output = tmp_path / f"{words[0]}_{len(words)}"
        status, out, err = run("inspect", *words, "--output", output)
        assert status == 0, err
        assert f"{output / 'report.html'}: {sections} sections; " in out
        check_page(output / "report.html")
    status, _, err = run("inspect", "data", data, "--output", output)
    assert status == 1 and "is not empty" in err
    status, _, err = run("inspect", "run", tmp_path, "--output", tmp_path / "no")
    assert status == 1 and "has no event files" in err and not (tmp_path / "no").exists()
    other = write_labels(tmp_path / "two", 2, classes={"bar": "rod"})
    status, _, err = run("inspect", "model", folder, other, "--output", tmp_path / "no")
    assert status == 1 and "rod" in err and "Traceback" not in err


def test_evaluation(trained_run, run, tmp_path):
    folder, _, data = trained_run
    output = tmp_path / "evaluation"
    status, out, _ = run("evaluate", folder, data, "--output", output)
    assert status == 0 and "Average Precision" in out and "Of " in out
    assert sorted(path.name for path in output.iterdir()) == [
        "classes.csv",
        "evaluation.json",
        "images.csv",
        "worst",
    ]
    read = json.loads((output / "evaluation.json").read_text())
    assert set(read["figures"]) == {"bbox", "segm"} and read["objects"] > 0
    with open(output / "images.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 5
    pictures = list((output / "worst").iterdir())
    assert 1 <= len(pictures) <= 5
    assert np.asarray(PIL.Image.open(pictures[0])).shape[1] > 600


def test_evaluation_on_labels_of_other_classes(trained_run, run, tmp_path):
    folder, _, _ = trained_run
    data = write_labels(tmp_path / "other", 1)
    content = json.loads((data / "annotations.json").read_text())
    content["categories"][0]["name"] = "Bar"
    (data / "annotations.json").write_text(json.dumps(content))
    status, _, err = run("evaluate", folder, data, "--output", tmp_path / "out")
    assert status == 1 and "has the category Bar, which is not among the classes bar, b" in err
    assert not (tmp_path / "out").exists()


def test_what_a_run_was(trained_run, run):
    folder, _, data = trained_run
    status, out, _ = run("info", folder)
    assert status == 0 and "bar, block, tile" in out
    assert re.search(rf"data +{re.escape(str(data))}\n", out)
    assert "Training 1" in out and "Best epoch: " in out


def test_what_there_is(run, monkeypatch):
    monkeypatch.setattr("mrcnn.machine._MATRIX", 64)
    monkeypatch.setattr("mrcnn.machine._detection", lambda image: 0.5)
    status, out, _ = run("info")
    assert status == 0
    for title in ("Versions", "Devices", "Weights", "Extras", "Speed"):
        assert f"\n{title}\n" in f"\n{out}"
    assert "0.50 s for example.png, 256x256" in out and "billion operations per second" in out
    assert "Speed" not in run("info", "--no-speed")[1]


def test_conversion(run, tmp_path):
    data = write_labels(tmp_path / "leaves", 2)
    status, out, _ = run("convert", data, tmp_path / "new", "--to", "labelme")
    assert status == 0 and "2 images, " in out and "from coco to labelme" in out
    status, _, err = run("convert", data, tmp_path / "new", "--to", "yolo")
    assert status == 1 and "new is not empty" in err


def test_help_names_all_formats():
    for name, kind in FORMATS.items():
        assert f"    {name:<12} {kind.text}" in CONVERT_EPILOG
    for name in RESULT_FORMATS:
        assert f"    {name:<9} " in DETECT_EPILOG


@pytest.mark.parametrize(
    ("path", "name"),
    [("my leaves", "my_leaves"), ("a/b/annotations.json", "b"), ("Blätter", "Blätter")],
)
def test_the_name_of_a_run(tmp_path, path, name):
    path = tmp_path / path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch() if path.suffix else path.mkdir()
    assert name_of(path) == name
    assert name_of(Path("/")) == "run"
