"""Runs: folders of their own, file names, which checkpoints stay, the newest one."""

import datetime
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import pytest

from mrcnn.config import Config
from mrcnn.mask_rcnn import MaskRCNN
from mrcnn.training import Run, distribution, find_last, new_run, resumed_run
from mrcnn.training import run as run_module
from mrcnn.training.figures import write_table
from tests.tiny import TinyConfig, tiny_backbone, tiny_config


def write(folder, *names):
    """Checkpoints that can be opened, and empty files of other names."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        if name.endswith(".h5"):
            with h5py.File(folder / name, "w") as file:
                file["conv1"] = [0.0] * 1000
        else:
            (folder / name).touch()


@pytest.fixture
def at_midnight(monkeypatch):
    """Every run begins in the first minute of 2026."""

    class Then(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 1, 1)

    monkeypatch.setattr(run_module.datetime, "datetime", Then)


def folder_of(run):
    return Path(run.log_dir).name


# ---- The last checkpoint -------------------------------------------------------------------------


def test_find_last_takes_the_last_epoch_of_the_last_run(tmp_path):
    write(tmp_path / "tiny20260101T0000", "mask_rcnn_tiny_0099.h5")
    write(
        tmp_path / "tiny20260203T0405",
        "mask_rcnn_tiny_0002.h5",
        "mask_rcnn_tiny_0010.h5",
        "mask_rcnn_tiny_9999.h5.part",
        "events.out.tfevents.1",
    )
    assert find_last(tmp_path, "tiny") == str(
        tmp_path / "tiny20260203T0405" / "mask_rcnn_tiny_0010.h5"
    )


def test_find_last_goes_by_number_beyond_four_digits(tmp_path):
    run = tmp_path / "tiny20260101T0000"
    write(run, "mask_rcnn_tiny_9999.h5", "mask_rcnn_tiny_10000.h5")
    assert find_last(tmp_path, "tiny") == str(run / "mask_rcnn_tiny_10000.h5")


def test_find_last_passes_over_other_names_empty_runs_and_files(tmp_path):
    run = tmp_path / "tiny20260101T0000"
    write(run, "mask_rcnn_tiny_0001.h5", "mask_rcnn_tiny2_0007.h5", "mask_rcnn_tiny_best.h5")
    write(tmp_path / "tiny20260901T0000")
    write(tmp_path / "tiny220260901T0000", "mask_rcnn_tiny2_0005.h5")
    write(tmp_path / "tinyx20260901T0000", "mask_rcnn_tinyx_0005.h5")
    write(tmp_path, "tiny20260909T0000")
    assert find_last(tmp_path, "Tiny") == str(run / "mask_rcnn_tiny_0001.h5")


@pytest.mark.parametrize("folder", ["empty", "missing"])
def test_find_last_without_a_checkpoint_is_an_error(tmp_path, folder):
    write(tmp_path / "empty" / "tiny20260901T0000")
    with pytest.raises(FileNotFoundError, match="no checkpoint of a run named 'tiny' in .*train"):
        find_last(tmp_path / folder, "tiny")


def test_runs_of_one_minute_are_in_the_order_of_their_numbers(tmp_path):
    folders = ["tiny20260101T0000", "tiny20260101T0000_2", "tiny20260101T0000_10"]
    for name in folders:
        write(tmp_path / name, "mask_rcnn_tiny_0001.h5")
        assert Path(find_last(tmp_path, "tiny")).parent.name == name
    write(tmp_path / "tiny20260101T0001", "mask_rcnn_tiny_0001.h5")
    assert Path(find_last(tmp_path, "tiny")).parent.name == "tiny20260101T0001"


@pytest.mark.parametrize("damage", ["empty", "cut", "zeros", "text"])
def test_a_damaged_newest_checkpoint_is_passed_over_with_a_warning(tmp_path, caplog, damage):
    write(tmp_path / "tiny20260101T0000", "mask_rcnn_tiny_0003.h5")
    newest = tmp_path / "tiny20260203T0000"
    write(newest, "mask_rcnn_tiny_0006.h5", "mask_rcnn_tiny_0007.h5")

    def spoil(path):
        whole = path.read_bytes()
        content = {
            "empty": b"",
            "cut": whole[: len(whole) // 2],
            "zeros": bytes(len(whole)),
            "text": b"not found",
        }
        path.write_bytes(content[damage])

    spoil(newest / "mask_rcnn_tiny_0007.h5")
    assert find_last(tmp_path, "tiny").endswith("mask_rcnn_tiny_0006.h5")
    assert "passes over a checkpoint: " in caplog.text and "tiny_0007.h5" in caplog.text
    spoil(newest / "mask_rcnn_tiny_0006.h5")
    assert find_last(tmp_path, "tiny").endswith("mask_rcnn_tiny_0003.h5")
    spoil(tmp_path / "tiny20260101T0000" / "mask_rcnn_tiny_0003.h5")
    with pytest.raises(FileNotFoundError, match="no checkpoint of a run named 'tiny'"):
        find_last(tmp_path, "tiny")


def test_the_last_checkpoint_is_a_str_that_also_answers_as_the_pair_of_old_releases(tmp_path):
    write(tmp_path / "tiny20260101T0000", "mask_rcnn_tiny_0001.h5")
    path = find_last(tmp_path, "tiny")
    assert isinstance(path, str) and os.path.isfile(path) and Path(path).is_file()
    assert path[1] == str(path) and type(path[1]) is str
    assert path[0] == str(path)[0] and path[-3:] == ".h5" and path.split(os.sep)[-1][:4] == "mask"


# ---- Resuming ------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["tiny20260203T0405", "tiny20260203T0405_2"])
def test_a_checkpoints_path_says_run_and_epoch(tmp_path, folder):
    path = tmp_path / folder / "mask_rcnn_tiny_0012.h5"
    run = resumed_run(tmp_path, "Tiny", path)
    assert (run.log_dir, run.epoch, run.resume_from) == (str(path.parent), 12, path)
    assert run.checkpoint(12) == run.checkpoint_path.format(epoch=12) == str(path)
    moved = resumed_run(tmp_path / "elsewhere", "tiny", path)
    assert moved.log_dir == str(tmp_path / "elsewhere" / folder)
    assert moved.epoch == 12


@pytest.mark.parametrize(
    "path",
    [
        "mask_rcnn_coco.h5",
        "tiny20260203T0405/weights.h5",
        "tiny20260203T0405/mask_rcnn_tiny_best.h5",
        "mask_rcnn_tiny_0012.h5",
        "other20260203T0405/mask_rcnn_other_0012.h5",
        "tiny220260203T0405/mask_rcnn_tiny_0012.h5",
        "tiny20260203T0405_/mask_rcnn_tiny_0012.h5",
    ],
)
def test_other_paths_belong_to_no_run(tmp_path, path):
    assert resumed_run(tmp_path, "Tiny", path) is None


def test_a_resumed_run_goes_on_in_its_folder(tmp_path):
    write(tmp_path / "tiny20260203T0405" / "train", "events.out.tfevents.1")
    run = resumed_run(tmp_path, "tiny", tmp_path / "tiny20260203T0405/mask_rcnn_tiny_0001.h5")
    run.begin()
    assert folder_of(run) == "tiny20260203T0405"


def original_reading(path):
    """Epoch and folder that the original takes from a checkpoint's path."""
    regex = r".*[/\\][\w-]+(\d{4})(\d{2})(\d{2})T(\d{2})(\d{2})[/\\]mask\_rcnn\_[\w-]+(\d{4})\.h5"
    match = re.match(regex, path)
    return match and int(match.group(6))


def test_the_original_resumes_runs_and_never_writes_into_that_of_another(tmp_path, at_midnight):
    first, second = (new_run(tmp_path, "tiny") for _ in "12")
    assert original_reading(first.checkpoint(7)) == 7
    # The original makes up the folder from the minute alone, so it must not see a run in this one.
    assert original_reading(second.checkpoint(7)) is None
    # Its find_last takes the last name in alphabetical order.
    assert sorted(map(folder_of, (first, second)))[-1] == folder_of(second)


# ---- New runs ------------------------------------------------------------------------------------


def test_a_new_run_is_named_by_its_minute_and_makes_its_folder_when_it_begins(tmp_path):
    run = new_run(tmp_path / "logs", "Tiny")
    assert run.epoch == 0 and run.resume_from is None
    assert re.fullmatch(r"tiny\d{8}T\d{4}", folder_of(run))
    assert not (tmp_path / "logs").exists()
    run.begin()
    assert Path(run.log_dir).is_dir()


def test_runs_begun_in_one_minute_have_folders_of_their_own(tmp_path, at_midnight):
    write(tmp_path / "tiny20260101T0000")
    runs = [new_run(tmp_path, "tiny") for _ in range(3)]
    assert list(map(folder_of, runs)) == [f"tiny20260101T0000_{n}" for n in (2, 3, 4)]
    assert folder_of(new_run(tmp_path, "other")) == "other20260101T0000"
    assert folder_of(new_run(tmp_path / "elsewhere", "tiny")) == "tiny20260101T0000"
    for run in runs:
        run.begin()
    assert len(os.listdir(tmp_path)) == 4


def test_a_model_that_only_detects_reserves_no_name(tmp_path, at_midnight):
    detecting = MaskRCNN("inference", TinyConfig(), tmp_path)
    training = MaskRCNN("training", TinyConfig(), tmp_path)
    assert detecting.log_dir == training.log_dir
    assert folder_of(MaskRCNN("training", TinyConfig(), tmp_path)) == "tiny20260101T0000_2"


def planned_apart(folder, count):
    """Runs of one name and minute, each as if planned by another process."""
    runs = []
    for _ in range(count):
        runs.append(new_run(folder, "tiny"))
        run_module._planned.clear()
    return runs


def test_processes_that_begin_at_once_have_folders_of_their_own(tmp_path, at_midnight, caplog):
    runs = planned_apart(tmp_path, 8)
    assert {folder_of(run) for run in runs} == {"tiny20260101T0000"}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(Run.begin, runs))
    assert len({run.log_dir for run in runs}) == 8
    for run in runs:
        assert Path(run.checkpoint(1)).parent == Path(run.log_dir)
    assert caplog.text.count("Another run began in") == 7


def test_what_a_script_wrote_into_log_dir_before_training_is_the_runs_own(tmp_path, at_midnight):
    run = new_run(tmp_path, "tiny")
    write(Path(run.log_dir), "split.json")
    run.begin()
    assert folder_of(run) == "tiny20260101T0000"


def test_left_over_temporary_files_go_when_a_run_begins(tmp_path):
    run = new_run(tmp_path, "tiny")
    host = run_module.remove_leftovers.__globals__["_host"]()
    left = f".part-{host}-{2**22 + 1}-0123abcd-mask_rcnn_tiny_0001.h5"
    write(Path(run.log_dir), "notes.txt")
    (Path(run.log_dir) / left).write_bytes(b"half")
    run.begin()
    assert sorted(os.listdir(run.log_dir)) == ["notes.txt", "train"]


def test_a_run_knows_the_folder_of_a_worker(tmp_path, monkeypatch):
    monkeypatch.setattr(distribution, "worker_index", lambda: 3)
    run = new_run(tmp_path, "tiny")
    first = Path(run.log_dir).parent
    assert Path(run.log_dir).name == "worker3" and first.parent == tmp_path
    assert Path(run.checkpoint(1)).parent == first
    run.begin()
    assert os.listdir(first) == ["worker3"]


# ---- Names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "folder"),
    [("tiny", "{lr=0.1}"), ("tiny{2}", "logs"), ("{}", "{0}{"), ("a.b*[c] d", "l?gs")],
)
def test_braces_and_other_signs_work_in_names_and_folders(tmp_path, name, folder):
    run = new_run(tmp_path / folder, name)
    run.begin()
    path = Path(run.checkpoint(1))
    assert path.parent == Path(run.log_dir) and path.name == f"mask_rcnn_{name}_0001.h5"
    assert run.checkpoint_path.format(epoch=1) == str(path)
    write(path.parent, path.name)
    assert find_last(tmp_path / folder, name) == str(path)
    assert resumed_run(tmp_path / folder, name, path).checkpoint(1) == str(path)


@pytest.mark.parametrize("name", ["exp/1", "/leaf", "..\\leaf"])
def test_a_slash_in_the_name_is_refused_before_a_graph_is_built(tmp_path, monkeypatch, name):
    monkeypatch.setattr(MaskRCNN, "build", lambda *args, **kwargs: pytest.fail("built"))
    with pytest.raises(ValueError, match=r"NAME is '.*'; .* it may hold no slash"):
        MaskRCNN("training", tiny_config(NAME=name), tmp_path)
    with pytest.raises(ValueError, match="may hold no slash"):
        find_last(tmp_path, name)


@pytest.mark.parametrize("pattern", ["runs/{lr}_{epoch:04d}.h5", "a{b", "{}_{epoch}.h5"])
def test_a_pattern_that_cannot_be_used_is_refused_before_training(tmp_path, pattern):
    run = Run("tiny")
    run.choose(str(tmp_path / "chosen"), pattern)
    with pytest.raises(ValueError, match="checkpoint_path is .*, no pattern with {epoch:04d}"):
        run.begin()
    assert not (tmp_path / "chosen").exists()


def test_a_chosen_folder_is_taken_as_it_is(tmp_path):
    (tmp_path / "chosen" / "train").mkdir(parents=True)
    run = new_run(tmp_path, "tiny")
    run.choose(log_dir=str(tmp_path / "chosen"))
    run.begin()
    run.write_config(TinyConfig())
    assert run.log_dir == str(tmp_path / "chosen")
    assert os.listdir(run.log_dir) == ["train"] and os.listdir(tmp_path) == ["chosen"]


def test_the_public_attributes_of_a_model_are_those_of_its_run(tmp_path):
    model = MaskRCNN("training", TinyConfig(), tmp_path)
    run = model.training_run
    assert (model.log_dir, model.checkpoint_path, model.epoch) == (
        run.log_dir,
        run.checkpoint_path,
        0,
    )
    model.epoch = 3
    assert run.epoch == 3 and not run.is_custom
    model.log_dir = tmp_path / "mine"
    model.checkpoint_path = str(tmp_path / "mine" / "{epoch}.h5")
    assert run.is_custom and run.checkpoint(5) == str(tmp_path / "mine" / "5.h5")
    assert run.best == str(tmp_path / "mine" / "mask_rcnn_tiny_best.h5")


# ---- Which checkpoints stay ----------------------------------------------------------------------


@pytest.mark.parametrize(("keep", "kept"), [(None, range(1, 8)), (1, [7]), (5, range(3, 8))])
def test_the_last_checkpoints_are_kept(tmp_path, keep, kept):
    run = new_run(tmp_path, "tiny")
    run.keep = keep
    run.begin()
    write(Path(run.log_dir), "mask_rcnn_tiny_best.h5")
    for epoch in range(1, 8):
        write(Path(run.log_dir), f"mask_rcnn_tiny_{epoch:04d}.h5")
        run.finish_epoch(epoch)
    found = sorted(path.name for path in Path(run.log_dir).glob("*.h5"))
    epochs = [f"{epoch:04d}" for epoch in kept]
    assert found == [f"mask_rcnn_tiny_{part}.h5" for part in (*epochs, "best")]
    assert run.epoch == 7


def test_going_on_from_an_earlier_epoch_keeps_what_that_writes(tmp_path):
    folder = tmp_path / "tiny20260101T0000"
    write(folder, *(f"mask_rcnn_tiny_{epoch:04d}.h5" for epoch in range(1, 10)))
    run = resumed_run(tmp_path, "tiny", folder / "mask_rcnn_tiny_0004.h5")
    run.keep = 2
    run.finish_epoch(5)
    found = sorted(int(path.stem[-4:]) for path in folder.glob("*.h5"))
    assert found == [4, 5, 6, 7, 8, 9]


def test_a_pattern_without_the_epoch_keeps_its_one_file(tmp_path):
    run = Run("tiny", keep=1)
    run.choose(str(tmp_path), str(tmp_path / "last.h5"))
    write(tmp_path, "last.h5")
    run.finish_epoch(3)
    assert (tmp_path / "last.h5").exists()


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        ({"every": 3}, [3, 6, 8]),
        ({"last": 2, "every": 4}, [4, 7, 8]),
        ({"best": 2}, [2, 5, 8]),
        ({"last": 1, "best": 1, "every": 7}, [5, 7, 8]),
    ],
)
@pytest.mark.parametrize("by", ["figures", "loss"])
def test_checkpoints_are_kept_by_rule(tmp_path, keep, kept, by, monkeypatch):
    run = new_run(tmp_path, "tiny")
    run.keep = keep
    run.begin()
    figures = {1: 0.1, 2: 0.3, 3: 0.2, 4: 0.3, 5: 0.5, 6: 0.1, 7: 0.0, 8: 0.2}
    losses = {f"{epoch:04d}": 1 - value for epoch, value in figures.items()}
    monkeypatch.setattr(run_module, "validation_loss", lambda path: losses[Path(path).stem[-4:]])
    for epoch in range(1, 9):
        write(Path(run.log_dir), f"mask_rcnn_tiny_{epoch:04d}.h5")
        if by == "figures":
            rows = [{"epoch": e, "segm_AP": figures[e]} for e in range(1, epoch + 1)]
            write_table(run.figures_path, rows)
        run.finish_epoch(epoch)
    found = sorted(int(path.stem[-4:]) for path in Path(run.log_dir).glob("*.h5"))
    assert found == kept


def test_states_within_epochs_are_the_last_ones_until_their_epoch_ends(tmp_path):
    run = new_run(tmp_path, "tiny")
    run.begin()
    folder = Path(run.log_dir)
    write(folder, "mask_rcnn_tiny_0001.h5", "mask_rcnn_tiny_0001_step000010.h5")
    write(folder, "mask_rcnn_tiny_0001_step000009.h5", "other_step000001.h5")
    path = find_last(tmp_path, "tiny")
    assert path == run.checkpoint_within(1, 10)
    again = resumed_run(tmp_path, "tiny", path)
    assert (again.epoch, again.step, again.resume_from) == (1, 10, path)
    assert again.kept == f"the last good checkpoint is {path}"
    again.finish_step(1, 10)
    assert len(list(folder.glob("*.h5"))) == 3
    again.finish_epoch(2)
    found = sorted(path.name for path in folder.glob("*.h5"))
    assert found == ["mask_rcnn_tiny_0001.h5", "other_step000001.h5"]


def test_one_process_trains_a_run(tmp_path):
    first, second = Run("tiny"), Run("tiny")
    for run in (first, second):
        run.choose(str(tmp_path))
    with first.locked(), pytest.raises(ValueError, match="another process trains the run in"):
        second.locked().__enter__()
    with second.locked():
        pass


def test_a_file_system_without_locks(tmp_path, monkeypatch, caplog):
    def none(self):
        raise NotImplementedError("no flock")

    monkeypatch.setattr(run_module.filelock.FileLock, "acquire", none)
    run = Run("tiny")
    run.choose(str(tmp_path))
    with run.locked():
        assert "cannot be locked (no flock): start one process only" in caplog.text


@pytest.mark.parametrize("keep", [0, -1, 1.5, "5", True, {"last": 0}, {"first": 1}, {"best": "x"}])
def test_a_number_of_checkpoints_that_cannot_be(keep):
    with pytest.raises(ValueError, match="KEEP_CHECKPOINTS is .*; it must be a whole number"):
        tiny_config(KEEP_CHECKPOINTS=keep).validate()


# ---- The Config ----------------------------------------------------------------------------------


def test_the_config_lies_beside_the_checkpoints(tmp_path):
    run = new_run(tmp_path, "tiny")
    run.begin()
    config = tiny_config(LEARNING_RATE=0.25, AUGMENTER=object(), CENTRE=lambda x: x)
    run.write_config(config)
    values = json.loads(Path(run.config_path).read_text())
    assert values["BACKBONE"] == "tests.tiny:tiny_backbone" and values["LEARNING_RATE"] == 0.25
    assert values["COMPUTE_BACKBONE_SHAPE"] == "tests.slim:slim_shapes"
    assert "AUGMENTER" not in values and "BATCH_SIZE" not in values
    del values["CENTRE"]
    Path(run.config_path).write_text(json.dumps(values))
    read = TinyConfig.from_json(run.config_path)
    assert read.BACKBONE is tiny_backbone and read.LEARNING_RATE == 0.25
    read.validate()


def test_an_import_path_runs_nothing(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"BACKBONE": "os:getcwd"}')
    assert Config.from_json(path).BACKBONE == "os:getcwd"
    assert TinyConfig.from_json(path).BACKBONE == "os:getcwd"


@pytest.mark.parametrize(
    ("content", "stays"),
    [('{"NAME": "old"}', False), ('{"model_name": "a"}', True), ("[1]", True), ("text", True)],
)
def test_a_config_json_of_another_program_stays(tmp_path, content, stays):
    run = new_run(tmp_path, "tiny")
    run.begin()
    Path(run.config_path).write_text(content)
    run.write_config(TinyConfig())
    assert (Path(run.config_path).read_text() == content) == stays
