"""Scripts as users of the original wrote them, run from end to end; not a line knows this package.

Each is run in a folder of its own, on data made there, and judged by what its user would look at.
"""

import csv
import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
import skimage.io

import mrcnn.model as modellib
from mrcnn import training
from tests.clients import make_data
from tests.slim import seed_weights

CLIENTS = Path(__file__).parent


@pytest.fixture
def run(monkeypatch, tmp_path, capfd):
    """Function `(script, *arguments) -> what it printed`; runs in `tmp_path`, always alike."""

    def run_script(name, *arguments):
        keras.utils.set_random_seed(1)
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(CLIENTS / name), run_name="__main__")
        return capfd.readouterr().out

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(CLIENTS))
    yield run_script
    plt.close("all")
    sys.modules.pop("shapes_project", None)


@pytest.fixture
def eagerly(monkeypatch):
    """Steps without a graph: tracing takes longer than the few steps that are trained."""
    compile_model = training.TrainingModel.compile

    def compile_eagerly(model, *args, **kwargs):
        compile_model(model, *args, **{"run_eagerly": True, **kwargs})

    monkeypatch.setattr(training.TrainingModel, "compile", compile_eagerly)


def number(name, text):
    """The number behind a name in what was printed."""
    return float(re.search(rf"^{re.escape(name)}\s+(\S+)$", text, re.MULTILINE).group(1))


def checkpoints(folder):
    return sorted(path.name for path in Path(folder).rglob("*.h5"))


def assert_picture(path, least_colors=3):
    pixels = skimage.io.imread(path)
    colors = np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0)
    assert len(colors) >= least_colors, path


# ---- What users run ------------------------------------------------------------------------------


def script(name, folder, *arguments):
    """Run a client as its user does, in a process of its own: what it printed and its warnings."""
    environment = {**os.environ, "MPLBACKEND": "Agg"}
    done = subprocess.run(
        [sys.executable, str(CLIENTS / name), *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout, done.stderr


def move_to_the_border(annotation_file, name):
    """Move the first polygon of an image beyond its right border, as people draw them."""
    annotations = json.loads(annotation_file.read_text())
    (entry,) = (e for e in annotations.values() if e["filename"] == name)
    regions = entry["regions"]
    polygon = (list(regions.values()) if isinstance(regions, dict) else regions)[0]
    xs = polygon["shape_attributes"]["all_points_x"]
    width = skimage.io.imread(annotation_file.parent / name).shape[1]
    xs[:] = [x + width - max(xs) for x in xs]
    annotation_file.write_text(json.dumps(annotations))


@pytest.mark.slow
def test_via_polygons(tmp_path):
    make_data.via_project(tmp_path / "data")
    move_to_the_border(tmp_path / "data" / "train" / "via_region_data.json", "train_2.png")
    common = ["--dataset=data", "--logs=logs"]
    printed, warned = script("via_polygons.py", tmp_path, "train", *common, "--weights=none")
    assert re.search(
        r"image 2 \(leaf train_2.png, .*\) is left out: IndexError: index 80 is out of bounds for "
        r"axis 1 with size 80; .*shape=mask\.shape\[:2\]",
        warned,
    )
    assert warned.count("is left out") == 2  # once in each of the two calls of train
    assert "STAGE_EPOCHS                   (1, 2)" in printed
    assert "Images: 4\nClasses: ['BG', 'leaf']" in printed
    assert re.search(r"Starting at epoch 0\. LR=0\.001\n", printed)
    assert re.search(r"Starting at epoch 1\. LR=0\.0001\n", printed)
    assert checkpoints(tmp_path / "logs") == ["mask_rcnn_leaf_0001.h5", "mask_rcnn_leaf_0002.h5"]
    assert list(tmp_path.glob("logs/leaf*/**/events.out.tfevents*"))

    printed, _ = script(
        "via_polygons.py", tmp_path, "detect", *common, "--weights=last", "--output=out"
    )
    assert re.search(r"Loading weights  \S+mask_rcnn_leaf_0002\.h5", printed)
    assert len(re.findall(r"val_\d\.png: \d+ instances", printed)) == 2
    for i in range(2):
        assert_picture(tmp_path / "out" / f"val_{i}.png")
        splash = skimage.io.imread(tmp_path / "out" / f"val_{i}_splash.png")
        assert splash.shape == (72, 56, 3)


@pytest.mark.slow
def test_png_masks(run, eagerly, tmp_path):
    make_data.mask_folders(tmp_path / "cells")
    printed = run(
        "png_masks.py",
        "--dataset=cells",
        "--logs=logs",
        "--results=results/cells",
        "--val=bright0,fluo0",
    )
    assert "  7. vesicle              fluo" in printed
    assert checkpoints("logs") == ["mask_rcnn_cell_0001.h5"]
    names = [f"{source}{i}" for source in ("bright", "fluo") for i in range(4)]
    for name in names:
        assert_picture(f"results/cells/{name}.png")
    lines = Path("results/cells/submit.csv").read_text().splitlines()
    assert lines[0] == "ImageId,EncodedPixels"
    assert list(dict.fromkeys(line.split(",")[0] for line in lines[1:])) == names
    for line in lines[1:]:
        assert len(line.split(",")[1].split()) % 2 == 0


@pytest.mark.slow
def test_callable_backbone(run, eagerly):
    printed = run("callable_backbone.py", "logs")
    assert "pyramid [[16, 16], [8, 8], [4, 4], [2, 2], [1, 1]]" in printed
    assert "frozen moved False" in printed and "free moved True" in printed
    assert checkpoints("logs") == ["mask_rcnn_mobile_0001.h5"]
    count, shape = re.search(r"detected (\d+) \((.*)\)", printed).groups()
    assert 0 < int(count) <= 10 and shape == f"64, 64, {count}"
    # 3 ratios on 16^2 + 8^2 + 4^2 + 2^2 + 1 cells
    assert "assigned (1023, 4)" in printed


@pytest.mark.slow
def test_staged_training(run, eagerly):
    printed = run("staged_training.py", ".")
    assert "pretrained taken True" in printed
    assert "after heads: epoch 1, conv1 moved False" in printed
    assert "after 4+: epoch 2, conv1 moved False" in printed
    assert "after all: epoch 4, conv1 moved True" in printed
    for epoch, rate in ((0, 0.001), (1, 0.0001), (2, 1e-05)):
        assert f"Starting at epoch {epoch}. LR={rate}" in printed
    assert checkpoints("logs") == [f"mask_rcnn_shapes_{i:04d}.h5" for i in (1, 2, 3, 4)]
    assert len(list(Path("logs").glob("shapes*"))) == 1

    with open("history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [0, 1, 2, 3]
    losses = [float(row["loss"]) for row in rows]
    assert all(after < 1.8 * before for before, after in zip(losses, losses[1:], strict=False))
    rates = [float(row["learning_rate"]) for row in rows]
    np.testing.assert_allclose(rates, [1e-3, 1e-4, 1e-5, 1e-5], rtol=1e-5)
    sums = re.findall(r"total (\S+) parts (\S+)", printed)
    assert len(sums) == 4
    for total, parts in np.array(sums, float):
        # L2 of a small network is all that comes on top.
        assert total == pytest.approx(parts, rel=1e-3)

    config_module = runpy.run_path(str(CLIENTS / "shapes_project.py"))
    model = modellib.MaskRCNN("inference", config_module["InferenceConfig"](), "logs")
    report = model.load_weights("mask_rcnn_final.h5", by_name=True)
    assert not report.missing
    np.testing.assert_array_equal(
        model.keras_model.get_layer("conv1").get_weights()[0], np.load("conv1.npy")
    )


@pytest.mark.slow
def test_evaluation_loop(run, eagerly):
    printed = run("evaluation_loop.py", ".", 2)
    mean = number("mAP: ", printed)
    assert 0 <= mean <= 1
    assert 0 <= number("mAP 50-95: ", printed) <= mean
    assert 0 <= number("AR: ", printed) <= 1
    assert number("perfect", printed) == 1
    assert len(re.findall(r"AP @0\.\d\d:\t", printed)) == 10
    assert "AP @0.50-0.95:" in printed
    assert re.search(r"gt_mask +shape: \(64, 64, \d\) .*bool", printed)
    for name in ("precision_recall", "overlaps", "differences"):
        assert_picture(f"{name}.png")


@pytest.mark.slow
def test_inspection(run):
    printed = run("inspection.py", ".")
    pictures = "top_masks rpn_targets rois top_anchors refined_anchors after_nms masks".split()
    for name in (*pictures, "activations", "histograms"):
        assert_picture(f"{name}.png")
    assert "Count:  1023 Levels:  5" in printed
    assert re.search(r"rois +shape: \(3, 16, 4\)", printed)
    assert re.search(r"mrcnn_mask +shape: \(3, 16, 28, 28, 4\)", printed)
    assert re.search(r"target_rpn_match +shape: \(1023,\) +min: +-1.0+ +max: +1.0+", printed)
    # Clipped anchors that survive are the proposals, to the pixel.
    assert number("kept", printed) == 0
    assert "by hand True True" in printed
    assert "anchors True" in printed
    assert "rpn_conv_shared/kernel" in printed
    assert re.search(r"convolutions \d\d True", printed)


@pytest.mark.slow
def test_generator_training(run, eagerly):
    printed = run("generator_training.py", ".")
    steps = re.findall(r"train_on_batch \d (\S+)", printed)
    assert len(steps) == 2 and np.isfinite(np.array(steps, float)).all()
    assert re.search(r"fit 2 \['loss', .*'val_rpn_class_loss'\]", printed)
    assert "rate for epoch 0: 0.001000" in printed and "rate for epoch 1: 0.000500" in printed
    assert "optimizer Adam epoch 2" in printed
    assert re.search(r"chosen \['mask_rcnn_chosen_0001.h5', 'train'\]", printed)
    assert "own 1 mask_rcnn_own_0001.h5" in printed
    assert float(re.search(r"given rois 8 (\S+)", printed).group(1)) > 0
    seen, kept, masks = re.search(r"detector (\d+) (\d+) \(64, 64, (\d+)\)", printed).groups()
    assert int(seen) > 1 and kept == masks == "1"


@pytest.mark.slow
def test_xml_boxes(run, eagerly):
    make_data.boxes_in_xml(Path("deer"))
    printed = run("xml_boxes.py", "deer")
    assert "Train: 5\nTest: 2\nboxes [[8, 10, 40, 45]]" in printed
    assert "STEPS_PER_EPOCH                2.5" in printed
    assert "history 1 1" in printed
    assert checkpoints(".") == ["mask_rcnn_deer_cfg_0001.h5"]
    for subset in ("Train", "Test"):
        assert 0 <= number(f"{subset} mAP:", printed) <= 1
    assert_picture("truth.png")
    assert_picture("predicted.png")


def test_minimal_detect(run):
    make_data.pictures(Path("images"))
    config_module = runpy.run_path(str(CLIENTS / "shapes_project.py"))
    model = modellib.MaskRCNN("training", config_module["ShapesConfig"](), "logs")
    seed_weights(model.keras_model, 21)  # finds something in anything
    model.keras_model.save_weights("mask_rcnn_shapes.h5")
    printed = run("minimal_detect.py", "mask_rcnn_shapes.h5", "images", ".")
    assert printed.count("Processing 1 images") == 2
    for name, shape in (("a.png", (50, 90, 3)), ("b.jpg", (120, 64, 3))):
        assert skimage.io.imread(name).shape == shape
        found = re.findall(rf"^{re.escape(name)} (\w+) (\S+) (\[.*\])$", printed, re.MULTILINE)
        assert found
        for label, score, box in found:
            y1, x1, y2, x2 = json.loads(box)
            assert label in ("square", "bar", "dot") and 0 <= float(score) <= 1
            assert 0 <= y1 < y2 <= shape[0] and 0 <= x1 < x2 <= shape[1]
