"""Slurm's scripts, without Slurm: their options, and how an array shares images out.

`scripts/slurm/try_locally.sh` runs train.sbatch on a Slurm of its own.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts" / "slurm"
# Takes the place of srun, mrcnn and scontrol: writes down what it is called with.
STAND_IN = '#!/bin/sh\nprintf "%s\\n" "$(basename "$0")" "$@" >> "$CALLS"\nexit "${STATUS:-0}"\n'


@pytest.fixture
def call(tmp_path):
    """Function that runs a script with stand-ins: its exit status and what it called."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("srun", "scontrol"):
        (folder / name).write_text(STAND_IN)
        (folder / name).chmod(0o755)

    def call(script, *words, **settings):
        calls = tmp_path / "calls"
        calls.write_text("")
        environment = {**os.environ, "CALLS": str(calls), **settings}
        environment["PATH"] = f"{folder}:{os.environ['PATH']}"
        command = ["bash", SCRIPTS / script, *map(str, words)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        return done, calls.read_text().splitlines()

    return call


@pytest.mark.parametrize("path", sorted(SCRIPTS.iterdir()), ids=lambda path: path.name)
def test_scripts_can_be_read(path):
    subprocess.run(["bash", "-n", path], check=True)
    # Slurm reads options up to the first command.
    before = path.read_text().partition("set -")[0]
    options = re.findall(r"^#SBATCH (--[\w-]+)", path.read_text(), re.MULTILINE)
    assert options == re.findall(r"^#SBATCH (--[\w-]+)", before, re.MULTILINE)
    assert path.suffix != ".sbatch" or {"--time", "--cpus-per-task"} <= set(options)


@pytest.mark.parametrize(
    ("status", "is_queued"), [(0, False), (1, False), (130, False), (143, True)]
)
def test_a_training_is_queued_again_when_its_time_is_up(call, status, is_queued):
    words = ["my leaves", "--epochs", "3"]
    done, calls = call("train.sbatch", *words, STATUS=str(status), SLURM_JOB_ID="17")
    assert done.returncode == status
    assert calls[:6] == ["srun", "mrcnn", "train", *words]
    assert calls[6:] == ["--resume", *(["scontrol", "requeue", "17"] if is_queued else [])]


@pytest.mark.parametrize("shares", [1, 3, 9])
def test_an_array_takes_each_image_once(call, tmp_path, shares):
    images = tmp_path / "photos of it"
    images.mkdir()
    names = [f"image {i}.png" for i in range(7)]
    for name in names:
        (images / name).touch()
    taken = []
    words = ["run", images, tmp_path / "out", shares, "--min-score", "0.5"]
    for task in range(shares):
        done, calls = call("detect_array.sbatch", *words, SLURM_ARRAY_TASK_ID=str(task))
        assert done.returncode == 0, done.stderr
        if not calls:
            assert f"task {task} has no images" in done.stdout
            continue
        assert calls[:4] == ["srun", "mrcnn", "detect", "run"]
        assert calls[-4:] == [
            "--output",
            f"{tmp_path / 'out'}/{task}",
            "--min-score",
            "0.5",
        ]
        taken += [Path(path).name for path in calls[4:-4]]
    assert sorted(taken) == names
    done, calls = call("detect_array.sbatch", *words, SLURM_ARRAY_TASK_ID=str(shares))
    assert done.returncode == 1 and f"there is no share {shares}" in done.stderr and not calls
