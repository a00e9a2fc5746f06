"""Two workers on this machine train one model: the command, a worker's death, the resumption."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mrcnn.training import find_last

ROOT = Path(__file__).parents[2]
COMMAND = ROOT / "scripts" / "train_workers.py"
SCRIPT = Path(__file__).with_name("worker_script.py")


def load_command():
    spec = importlib.util.spec_from_file_location("train_workers", COMMAND)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def start(*arguments, cache, workers=2):
    """The finished command, two workers by default."""
    settings = {
        "KERAS_BACKEND": "jax",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        # Compiled once for all runs of a test, and by a compiler that is done sooner.
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
    }
    return subprocess.run(
        [sys.executable, COMMAND, "--workers", str(workers), *map(str, arguments)],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=1500,
    )


def after(logs, worker):
    """Weights, losses and epoch that a worker of `worker_script.py` wrote down."""
    with np.load(logs / f"after_{worker}.npz") as arrays:
        return dict(arrays)


def assert_bit_equal(logs):
    one, two = after(logs, 0), after(logs, 1)
    assert one.keys() == two.keys() and len(one) > 40
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)


@pytest.mark.slow
def test_two_workers_one_dies_and_the_run_is_resumed(tmp_path):
    logs, cache = tmp_path / "logs", tmp_path / "cache"
    logs.mkdir()
    # After the first of the two batches of the second epoch.
    killed = start(SCRIPT, logs, 2, "--die=1,3", cache=cache)
    assert killed.returncode == 1
    assert re.search("Worker 1 ended with status -9.*; the others end too", killed.stderr)
    # The first worker says by itself what happened; it was not ended from outside.
    assert re.search("(?i)connection|heartbeat|distributed service", killed.stderr), killed.stderr
    assert not list(logs.glob("after_*"))
    last = Path(find_last(logs, "tiny"))
    assert last.name == "mask_rcnn_tiny_0001.h5"
    assert [path.name for path in logs.glob("*/train/*tfevents*")]
    assert not list(logs.glob("*/worker1/*"))

    # A signal to one of them, in the first step of the third epoch: both stop after that step.
    stopped = start(SCRIPT, logs, 3, "--resume", "--stop=1,2", cache=cache)
    assert stopped.returncode == 143, stopped.stderr[-5000:]
    middle = last.with_name("mask_rcnn_tiny_0002_step000001.h5")
    assert find_last(logs, "tiny") == str(middle) and "Traceback" not in stopped.stderr

    resumed = start(SCRIPT, logs, 3, "--resume", cache=cache)
    assert resumed.returncode == 0, resumed.stderr[-5000:]
    assert_bit_equal(logs)
    assert after(logs, 0)["epoch"] == 3 and len(after(logs, 0)["losses"]) == 1
    assert find_last(logs, "tiny") == str(last.with_name("mask_rcnn_tiny_0003.h5"))


def write(folder, text):
    path = folder / "script.py"
    path.write_text(text)
    return path


@pytest.mark.slow
def test_workers_draw_the_same_and_take_arguments(tmp_path):
    script = write(
        tmp_path,
        "import random, sys, numpy, helper\n"
        "from mrcnn.training import distribution as d\n"
        "open(sys.argv[1] + str(d.worker_index()), 'w').write("
        "f'{d.worker_count()} {random.random()} {numpy.random.random()} {__name__}')\n",
    )
    (tmp_path / "helper.py").touch()
    done = start("--seed=7", script, tmp_path / "out", cache=tmp_path / "cache")
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = ((tmp_path / f"out{i}").read_text() for i in range(2))
    assert one == two and one.startswith("2 0.") and one.endswith(" __main__")


@pytest.mark.slow
def test_an_error_of_one_worker_ends_both(tmp_path):
    script = write(
        tmp_path,
        "import time\nfrom mrcnn.training import distribution\n"
        "if distribution.worker_index() == 1: raise ValueError('no such folder')\n"
        "time.sleep(1000)\n",
    )
    code = (
        f"import sys; sys.path.insert(0, {str(COMMAND.parent)!r}); import train_workers as t\n"
        f"t.PATIENCE = 1; t.main(['--workers=2', {str(script)!r}])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 1
    assert "ValueError: no such folder" in done.stderr
    assert "Worker 1 ended with status 1; the others end too." in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers=2", "missing.py"], "there is no file missing.py"),
        (["--workers=0", __file__], "--workers is 0; it must be at least 1"),
        (["--address=h:1", "--workers=2", __file__], "--address and --index belong together"),
        (["--index=1", "--workers=2", __file__], "--address and --index belong together"),
        (["--address=h:1", "--index=1", __file__], "--address needs --workers"),
        ([], "required: script"),
    ],
)
def test_a_command_line_that_cannot_work(arguments, message, capsys):
    with pytest.raises(SystemExit) as end:
        load_command().parse_arguments(arguments)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_arguments_of_the_script_are_its_own():
    arguments = load_command().parse_arguments(["--workers=2", __file__, "train", "--seed=5"])
    assert arguments.arguments == ["train", "--seed=5"] and arguments.seed == 0


def ended_with(*statuses):
    return [subprocess.Popen([sys.executable, "-c", f"raise SystemExit({s})"]) for s in statuses]


@pytest.mark.parametrize(("statuses", "expected"), [((0, 0), 0), ((0, 3), 1), ((1, 3), 1)])
def test_the_status_is_that_of_the_workers(statuses, expected, capsys):
    assert load_command().wait_for(ended_with(*statuses)) == expected
    assert ("Worker 1 ended with status 3" in capsys.readouterr().err) == bool(expected)
