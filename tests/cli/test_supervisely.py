"""`mrcnn train --supervisely` and `mrcnn detect --supervisely`, with the tiny network."""

import functools
import json
import os

import pytest

from mrcnn.cli.main import main
from mrcnn.data.formats.supervisely import SuperviselyDataset
from mrcnn.supervisely import inference, training
from mrcnn.supervisely.schemas import MODES
from tests.supervisely.projects import write_project
from tests.tiny import TinyConfig, run_eagerly

MODE_SETTINGS = {
    "roi": {"bounds": {"left": "10%"}},
    "sliding_window": {"window": {"width": 48, "height": 48}, "min_overlap": {"x": 16, "y": 16}},
    "sliding_window_det": {"window": {"width": 48, "height": 48}},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a project and the epochs of a training."""
    folder = tmp_path_factory.mktemp("supervisely")
    write_project(folder / "fruit")
    size = {"min_dim": 64, "max_dim": 64}
    config = {"input_size": size, "batch_size": {"train": 2}, "epochs": 1}
    (folder / "train.json").write_text(json.dumps(config))
    with pytest.MonkeyPatch.context() as patch:
        run_eagerly(patch)
        patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        for module, name in ((training, "prepare_training"), (inference, "ProjectModel")):
            tiny = functools.partial(getattr(module, name), base=TinyConfig)
            patch.setattr(module, name, tiny)
        words = ["train", "--supervisely", folder / "train.json", folder / "fruit"]
        assert main([*map(str, words), "--weights", "random", "--logs", str(folder / "logs")]) == 0
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
        yield folder


def run(capsys, *words):
    status = main([str(word) for word in words])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


@pytest.mark.parametrize("mode", MODES)
def test_from_training_to_a_project_that_opens_again(folder, tmp_path, capsys, mode):
    (run_folder,) = (folder / "logs").iterdir()
    content = {"mode": {"name": mode, **MODE_SETTINGS.get(mode, {})}}
    (tmp_path / "found.json").write_text(json.dumps(content))
    output = tmp_path / "found"
    words = ["detect", "--supervisely", tmp_path / "found.json", run_folder, folder / "fruit"]
    status, out, err = run(capsys, *words, "--output", output)
    assert status == 0, err
    assert f"{output}: " in out and f"objects added, by the mode {mode}" in out
    dataset = SuperviselyDataset()
    dataset.load_supervisely(output)
    dataset.prepare()
    assert len(dataset.image_ids) == 4 and "apple_maskrcnn" in dataset.class_names
    for number in dataset.image_ids:
        masks, ids = dataset.load_mask(number)
        assert masks.shape[2] == len(ids) >= 1


def test_a_run_records_its_configuration(folder):
    (run_folder,) = (folder / "logs").iterdir()
    (entry,) = json.loads((run_folder / "run.json").read_text())
    assert entry["supervisely"]["epochs"] == 1 and entry["data"] == str(folder / "fruit")


@pytest.mark.parametrize(
    ("verb", "words", "status", "message"),
    [
        ("train", ["--epochs", 3], 2, "--epochs cannot be given with --supervisely"),
        ("train", ["--val", "x"], 2, "--val cannot be given with --supervisely"),
        ("detect", ["--tile", 64], 2, "--tile cannot be given with --supervisely"),
        ("detect", ["more"], 2, "there is one project to detect in; received 2"),
    ],
)
def test_what_the_configuration_says_is_no_option(
    folder, tmp_path, capsys, verb, words, status, message
):
    (tmp_path / "c.json").write_text("{}")
    given = [folder / "fruit"] if verb == "train" else [folder / "logs", folder / "fruit"]
    found = run(capsys, verb, "--supervisely", tmp_path / "c.json", *given, *words)
    assert found[0] == status and message in found[2]


def test_a_wrong_configuration_is_one_sentence(folder, tmp_path, capsys):
    (tmp_path / "c.json").write_text('{"epoch": 3}')
    status, _, err = run(capsys, "train", "--supervisely", tmp_path / "c.json", folder / "fruit")
    assert status == 1 and len(err.splitlines()) == 1
    assert 'c.json: unknown key "epoch" in the configuration' in err
