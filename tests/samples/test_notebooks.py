"""The notebooks: nothing they printed is kept in git, and they run from top to bottom.

Each runs in a kernel of the Python that runs the tests, from the checkout, with small settings and
a log folder of its own.
"""

import base64
import io
import json
import os
import random
import re
import sys
from pathlib import Path

import nbformat
import numpy as np
import PIL.Image
import pytest

from samples.shapes import shapes

SAMPLES = Path(shapes.ROOT_DIR) / "samples"
DEMO = SAMPLES / "demo.ipynb"
TRAIN_SHAPES = SAMPLES / "shapes" / "train_shapes.ipynb"
INSPECT_DATA = SAMPLES / "coco" / "inspect_data.ipynb"
INSPECT_MODEL = SAMPLES / "coco" / "inspect_model.ipynb"
INSPECT_WEIGHTS = SAMPLES / "coco" / "inspect_weights.ipynb"
CONVERT_DATA, MASK_RCNN_BARS, READ_TRAINING_LOGS, SAMPLE_PREDICTION = (
    SAMPLES / "galaxy" / f"{name}.ipynb"
    for name in ("convert_data", "MaskRCNN_bars", "read_training_logs", "sample_prediction")
)
NOTEBOOKS = sorted(SAMPLES.rglob("*.ipynb"))
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


# ---- As they are in git --------------------------------------------------------------------------


def test_notebooks_have_the_names_of_the_originals():
    assert {DEMO, TRAIN_SHAPES, INSPECT_DATA, INSPECT_MODEL, INSPECT_WEIGHTS} <= {*NOTEBOOKS}
    assert {CONVERT_DATA, MASK_RCNN_BARS, READ_TRAINING_LOGS, SAMPLE_PREDICTION} <= {*NOTEBOOKS}


@each_notebook
def test_nothing_of_a_run_is_kept(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    nbformat.validate(notebook)
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"] == METADATA
    for cell in notebook["cells"]:
        assert cell["metadata"] == {}
        assert not cell.get("outputs") and cell.get("execution_count") is None
        assert "".join(cell["source"]).strip()


@each_notebook
def test_the_first_cell_says_what_it_shows_and_how_to_run_it(path):
    first = nbformat.read(path, as_version=4).cells[0]
    assert first.cell_type == "markdown" and first.source.startswith("# ")
    assert f"jupyter lab {path.relative_to(shapes.ROOT_DIR).as_posix()}" in first.source


# ---- As they run ---------------------------------------------------------------------------------


def run(path, logs, **environment):
    """The executed notebook; an error in a cell is raised here."""
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpec
    from nbclient import NotebookClient

    class ThisPython(AsyncKernelManager):
        """Starts the running Python, whichever kernels are installed."""

        @property
        def kernel_spec(self):
            command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
            return KernelSpec(argv=command, language="python", display_name="this Python")

    unset = ("MPLBACKEND", "TF_CPP_MIN_LOG_LEVEL")  # as in a user's shell
    inherited = {name: value for name, value in os.environ.items() if name not in unset}
    settings = {"MRCNN_SMALL": "1", "MRCNN_LOGS": str(logs), "IPYTHONDIR": str(logs / "ipython")}
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        kernel_manager_class=ThisPython,
        resources={"metadata": {"path": path.parent}},
        timeout=600,
    )
    client.execute(env={**inherited, **settings, **environment})
    assert_no_warning(notebook)
    return notebook


def outputs(notebook):
    for cell in notebook.cells:
        yield from cell.get("outputs", [])


def stream(notebook, name):
    parts = (output for output in outputs(notebook) if output.output_type == "stream")
    return "".join(part.text for part in parts if part.name == name)


def assert_no_warning(notebook):
    """No warning of Python's, none of this package's logger, and no line of TensorFlow's C++."""
    lines = stream(notebook, "stderr").splitlines()
    unwanted = r"\w+Warning: |is left out: |^[IWE]\d{4} |absl::InitializeLog|retracing"
    assert [line for line in lines if re.search(unwanted, line)] == []


def pictures(notebook):
    """The pictures of a notebook, `[H, W, 3]` each; one without anything drawn is an error."""
    shown = [o["data"]["image/png"] for o in outputs(notebook) if "image/png" in o.get("data", {})]
    decoded = [PIL.Image.open(io.BytesIO(base64.b64decode(picture))) for picture in shown]
    arrays = [np.asarray(picture.convert("RGB")) for picture in decoded]
    assert all(array.std() > 5 for array in arrays)
    return arrays


def count_of(name, printed):
    """The number that a line `name   number` states."""
    return int(re.search(rf"^{name} +(\d+)$", printed, re.MULTILINE).group(1))


def tables(notebook):
    """The tables of a notebook as lists of rows."""
    shown = [o["data"]["text/html"] for o in outputs(notebook) if "text/html" in o.get("data", {})]
    return [
        [re.findall(r"<td>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", table)]
        for table in shown
    ]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo's log folder, with the weights it trained, and the executed notebook."""
    logs = tmp_path_factory.mktemp("demo")
    return logs, run(DEMO, logs)


@pytest.mark.slow
def test_demo_trains_where_there_are_no_weights_and_draws_what_it_detects(demo):
    logs, notebook = demo
    assert [path.name for path in logs.rglob("*.h5")] == ["mask_rcnn_nucleus_demo_0001.h5"]
    printed = stream(notebook, "stdout")
    assert f"No weights in {logs}: training" in printed
    assert re.search(r"^masks +shape: \(\d+, \d+, \d+\) .* bool$", printed, re.MULTILINE)
    assert len(pictures(notebook)) == 2


@pytest.mark.slow
def test_train_shapes_learns(tmp_path):
    notebook = run(TRAIN_SHAPES, tmp_path)
    assert len(list(tmp_path.rglob("mask_rcnn_shapes_*.h5"))) == 3
    printed = stream(notebook, "stdout")
    losses = re.search(r"^loss by epoch: (.*)$", printed, re.MULTILINE).group(1)
    first, *_, last = map(float, losses.split())
    assert 0 < last < first
    score = re.search(r"mean AP of 4 images at IoU 0.5: (\S+)", printed).group(1)
    assert 0 <= float(score) <= 1
    assert len(pictures(notebook)) == 4 + 1 + 3


@pytest.mark.slow
def test_inspect_data_of_the_nuclei(tmp_path):
    notebook = run(INSPECT_DATA, tmp_path)
    assert "66 images, 1 classes\nnucleus\n" in stream(notebook, "stdout")
    assert_data_is_sound(notebook)


@pytest.mark.slow
def test_inspect_data_of_coco(tmp_path):
    write_coco(tmp_path / "coco")
    notebook = run(INSPECT_DATA, tmp_path, MRCNN_COCO_DIR=str(tmp_path / "coco"))
    assert "6 images, 3 classes\nsquare, circle, triangle\n" in stream(notebook, "stdout")
    assert_data_is_sound(notebook)


def assert_data_is_sound(notebook):
    printed = stream(notebook, "stdout")
    overlap = re.search(r"least overlap of a refined anchor with its object: (\S+)", printed)
    assert float(overlap.group(1)) > 0.99
    positive, negative, neutral = (
        count_of(name, printed) for name in ("positive", "negative", "neutral")
    )
    assert positive > 0 and positive + negative == 256
    ((_, *levels, total),) = tables(notebook)
    assert int(total[-1]) == sum(int(row[-1]) for row in levels) == positive + negative + neutral
    assert len(pictures(notebook)) == 1 + 3 + 1 + 1 + 3 + 1 + 1 + 1 + 1 + 1 + 1


def write_coco(folder):
    """A data set in COCO's layout: six images of shapes."""
    from mrcnn.evaluation import coco_ground_truth

    random.seed(0)
    dataset = shapes.load_dataset(6, shapes.ShapesConfig())
    content = coco_ground_truth(dataset).dataset
    (folder / "train2017").mkdir(parents=True)
    (folder / "annotations").mkdir()
    for image in content["images"]:
        image["id"], image["file_name"] = int(image["id"]), f"{image['id']}.png"
        pixels = dataset.load_image(image["id"])
        PIL.Image.fromarray(pixels).save(folder / "train2017" / image["file_name"])
    for annotation in content["annotations"]:
        annotation["image_id"] = int(annotation["image_id"])
    path = folder / "annotations" / "instances_train2017.json"
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.slow
def test_inspect_weights_names_every_weight(demo):
    logs, _ = demo
    notebook = run(INSPECT_WEIGHTS, logs)
    printed = stream(notebook, "stdout")
    assert "missing in the file: none\nin the file only: none\n" in printed
    assert "kernels that are still as they started: none" in printed
    weights, dead = tables(notebook)
    assert weights[0] == ["WEIGHT NAME", "SHAPE", "MIN", "MAX", "STD"]
    names = [row[0] for row in weights]
    for expected in ("stage1_conv/kernel", "rpn_class_raw/kernel", "mrcnn_mask/kernel"):
        assert any(name.endswith(expected) for name in names)
    assert not any("***" in name for name in names)
    assert dead[-1][0] == "all" and int(dead[-1][1]) > 1000
    assert len(pictures(notebook)) == 4


@pytest.mark.slow
def test_inspect_model_goes_the_same_way_as_the_network(demo):
    logs, _ = demo
    notebook = run(INSPECT_MODEL, logs)
    printed = stream(notebook, "stdout")
    score = re.search(r"^AP at IoU 0.5: (\S+)$", printed, re.MULTILINE).group(1)
    assert 0 <= float(score) <= 1
    steps = ("proposals", "not background", "confident", "after suppression")
    counts = [count_of(name, printed) for name in steps]
    assert counts == sorted(counts, reverse=True) and counts[-1] > 0
    # Suppression in NumPy leaves what the network's own layer leaves.
    assert counts[-1] == count_of("detections of the network", printed)
    (recalls,) = tables(notebook)
    shares = [float(share) for _, share in recalls[1:]]
    assert shares == sorted(shares) and 0 < shares[-1] <= 1
    assert len(pictures(notebook)) == 2 + 2 + 1 + 3 + 2 + 1 + 1 + 4


@pytest.fixture(scope="module")
def bars(tmp_path_factory):
    """The log folder of the training on made-up galaxies, and the executed notebook."""
    logs = tmp_path_factory.mktemp("bars")
    return logs, run(MASK_RCNN_BARS, logs)


@pytest.mark.slow
def test_mask_rcnn_bars_trains_and_measures(bars):
    logs, notebook = bars
    printed = stream(notebook, "stdout")
    assert "MADE-UP galaxies" in printed and "trainable_layers 5: " in printed
    assert len(re.findall(r"^epoch +\d: bbox AP50 [\d.]+, segm AP50 [\d.]+$", printed, re.M)) == 2
    assert re.search(r"^segm AP50 of bar: -?[\d.]+$", printed, re.M)
    assert (count_of("train", printed), count_of("validation", printed)) == (8, 4)
    assert len(list(logs.glob("galaxy_demo*/mask_rcnn_galaxy_demo_000?.h5"))) == 2
    assert len(pictures(notebook)) == 2


@pytest.mark.slow
def test_read_training_logs_draws_the_run(bars):
    logs, _ = bars
    notebook = run(READ_TRAINING_LOGS, logs)
    printed = stream(notebook, "stdout")
    assert re.search(r"^galaxy_demo\d+T\d+: 2 epochs, \d+ figures$", printed, re.M)
    assert re.search(r"best val_loss [\d.]+ in epoch [12]$", printed, re.M)
    assert len(pictures(notebook)) == 2


@pytest.mark.slow
def test_sample_prediction_draws_galaxies_of_the_validation(bars):
    logs, _ = bars
    notebook = run(SAMPLE_PREDICTION, logs)
    printed = stream(notebook, "stdout")
    (split,) = (json.loads(path.read_text()) for path in logs.rglob("split.json"))
    named = re.search(r"^galaxies: (.*)$", printed, re.M).group(1).split(", ")
    assert len(named) == 2 and set(named) <= set(split["validation"])
    assert count_of("detections", printed) >= 0
    assert len(pictures(notebook)) == 2


@pytest.mark.slow
def test_convert_data_makes_masks_of_markings(tmp_path):
    notebook = run(CONVERT_DATA, tmp_path)
    printed = stream(notebook, "stdout")
    assert "4 galaxies, 15 volunteers in the first" in printed
    assert "4 objects agree with their masks" in printed and count_of("galaxies", printed) == 4
    assert (tmp_path / "converted" / "mask_labels.gzip").is_file()
    assert len(pictures(notebook)) == 4
