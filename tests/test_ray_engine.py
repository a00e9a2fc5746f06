"""Detection by Ray: the same results as without, each once, also when a worker dies."""

import contextlib
import json
import os
import signal
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from mrcnn.cli.main import main
from mrcnn.detection.folder import detect_pictures
from mrcnn.detection.pictures import find_inputs, pictures_of
from mrcnn.mask_rcnn import MaskRCNN
from mrcnn.training import trained
from mrcnn.training.trained import open_trained
from tests.ray_warnings import RAY_WARNINGS
from tests.slim import seed_weights
from tests.tiny import TinyConfig

ray_engine = pytest.importorskip("mrcnn.ray_engine")
pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, *RAY_WARNINGS]
IMAGES = 30


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with weights, settings, and images; one of them is damaged."""
    folder = tmp_path_factory.mktemp("ray")
    config = TinyConfig()
    model = MaskRCNN("inference", config, folder)
    seed_weights(model.keras_model, 21)
    model.keras_model.save_weights(folder / "leaf.h5")
    (folder / "config.json").write_text(json.dumps(config.json_values()))
    (folder / "images").mkdir()
    for number in range(IMAGES):
        pixels = np.random.default_rng(number).integers(0, 255, (64, 64, 3), np.uint8)
        PIL.Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
    (folder / "images" / "damaged.png").write_bytes(b"no image")
    return folder


def opened(run):
    found = open_trained(run / "leaf.h5", base=TinyConfig)
    config = found.config.for_detection()
    config.validate()
    return found, config


def by_name(results):
    results = list(results)
    found = {result["file_name"]: result for result in results}
    assert len(found) == len(results)
    return found


@pytest.fixture(scope="module")
def wanted(run):
    """The results without Ray."""
    found, config = opened(run)
    model = MaskRCNN("inference", config, run)
    model.load_weights(found.weights)
    pictures = pictures_of(find_inputs([run / "images"]))
    return by_name(detect_pictures(model, pictures, found.classes))


def check_same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, result in found.items():
        assert result.get("error") == wanted[name].get("error")
        assert len(result.get("detections", ())) == len(wanted[name].get("detections", ()))
        for one, other in zip(
            result.get("detections", ()), wanted[name].get("detections", ()), strict=True
        ):
            assert one["bbox"] == other["bbox"] and one["category_id"] == other["category_id"]
            assert one["score"] == pytest.approx(other["score"], abs=1e-4)


def workers():
    """Process numbers of the actors of Ray Data on this machine."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if path.read_bytes().startswith(b"ray::MapWorker"):
                found.append(int(path.parent.name))
    return found


def test_a_worker_that_dies_loses_nothing(run, wanted):
    found, config = opened(run)
    rows = ray_engine.rows_of(find_inputs([run / "images"]))
    assert len(rows) == IMAGES + 1
    results, killed = [], None
    for result in ray_engine.detect_rows(rows, found, config, workers=2):
        results.append(result)
        if killed is None:
            killed = workers()[0]
            os.kill(killed, signal.SIGKILL)
    assert killed and len(results) == IMAGES + 1
    check_same(by_name(results), wanted)


def test_the_command_line_with_tiles(run, tmp_path, monkeypatch, capsys):
    """Windows by Ray, joined as those without it; then nothing is left to do."""
    import functools

    monkeypatch.setattr(trained, "open_trained", functools.partial(open_trained, base=TinyConfig))
    mosaic = np.random.default_rng(0).integers(0, 255, (100, 130, 3), np.uint8)
    PIL.Image.fromarray(mosaic).save(tmp_path / "mosaic.png")
    words = ["detect", run / "leaf.h5", tmp_path / "mosaic.png", "--min-score", 0, "--save", "json"]
    words += ["--tile", 64, "--overlap", 16, "--output"]
    assert main([*map(str, words), str(tmp_path / "here")]) == 0
    capsys.readouterr()
    by_ray = [*words, tmp_path / "ray", "--engine", "ray", "--workers", 2]
    assert main([str(word) for word in by_ray]) == 0
    printed = capsys.readouterr()
    assert [line for line in printed.err.splitlines() if "layers loaded" not in line] == []
    found, wanted = (
        json.loads((tmp_path / name / "detections.jsonl").read_text()) for name in ("ray", "here")
    )
    check_same({"mosaic.png": found}, {"mosaic.png": wanted})
    monkeypatch.setattr(ray_engine, "detect_rows", None)
    assert main([str(word) for word in by_ray]) == 0
    assert "1 images done before" in capsys.readouterr().out


def test_what_ray_cannot_do(run, tmp_path, monkeypatch, capsys):
    def words(*more):
        given = ["detect", run / "leaf.h5", *more, "--output", tmp_path / "out"]
        return main([str(word) for word in given]), capsys.readouterr().err

    (tmp_path / "clip.mp4").write_bytes(b"")
    status, err = words(tmp_path / "clip.mp4", "--engine", "ray")
    assert status == 1 and "is a video, whose frames are read one after the other" in err
    status, err = words(run / "images", "--workers", 2)
    assert status == 2 and "--workers is for --engine ray" in err
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    status, err = words(run / "images", "--engine", "ray")
    assert status == 1 and 'pip install "mask-rcnn-keras3[ray]"' in err
    assert not (tmp_path / "out").exists()
