"""What TensorFlow prints reaches users only where it says something."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mrcnn import quiet
from tests.samples.galaxy.tiny_galaxies import write_config

ROOT = Path(__file__).parents[1]
HARMLESS = [
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "I0000 00:00:1795.1  11458 port.cc:153] oneDNN custom operations are on. You may see slightly",
    "I0000 00:00:1795.1 cudart_stub.cc:31] Could not find cuda drivers on your machine, GPU will "
    "not be used.",
    "E0000 00:00:1732.1 cuda_dnn.cc:8310] Unable to register cuDNN factory: Attempting to",
]
TELLING = [
    "E0000 00:00:1795.1 cuda_dnn.cc:456] Loaded runtime CuDNN library: 9.1.0 but source was 9.3.0",
    "F0000 cpu_feature_guard.cc:14] The TensorFlow library was compiled to use AVX instructions",
    "words of the user's own",
]


def python(code, **environment):
    """The finished process; TensorFlow's level is not set unless it is given."""
    inherited = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
    )


def test_importing_the_package_sets_the_level_that_nobody_set():
    code = "import mrcnn, os; print(os.environ['TF_CPP_MIN_LOG_LEVEL'])"
    assert python(code).stdout.strip() in ("2", "3")
    assert python(code, TF_CPP_MIN_LOG_LEVEL="0").stdout.strip() == "0"


@pytest.mark.parametrize(
    ("platform", "has_driver", "level"),
    [("linux", False, "3"), ("linux", True, "2"), ("darwin", False, "2"), ("win32", False, "2")],
)
def test_errors_stay_where_there_may_be_a_gpu(monkeypatch, platform, has_driver, level):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    monkeypatch.setattr(quiet.sys, "platform", platform)
    monkeypatch.setattr(quiet, "_GPU_FILES", (__file__,) if has_driver else ("/no/such/file",))
    quiet.set_log_level()
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == level


def test_lines_about_retracing_are_dropped_and_others_are_not(caplog):
    logger = logging.getLogger("tensorflow")
    with caplog.at_level(logging.WARNING, logger="tensorflow"):
        logger.propagate = True
        logger.warning("%d out of the last %d calls to f triggered tf.function retracing.", 5, 5)
        logger.warning("Gradients do not exist for variables")
    assert caplog.messages == ["Gradients do not exist for variables"]


def within(body):
    return f"""
import os, sys
from mrcnn import quiet
lines = {[*HARMLESS, *TELLING]!r}
def write():
    for line in lines:
        os.write(2, line.encode() + b"\\n")
with quiet.without_harmless_lines():
    write()
    print("python's own", file=sys.stderr)
    {body}
print("afterwards", file=sys.stderr)
"""


def test_harmless_lines_are_held_back_and_all_others_arrive_in_order():
    result = python(within("pass"))
    assert result.stderr.splitlines() == [*TELLING, "python's own", "afterwards"]
    assert result.returncode == 0


def test_a_process_that_crashes_meanwhile_loses_no_line():
    result = python(within("os.abort()"))
    assert result.returncode < 0
    assert result.stderr.splitlines()[: len(TELLING) + 1] == [*TELLING, "python's own"]


def test_an_error_meanwhile_is_seen():
    result = python(within("raise RuntimeError('no module')"))
    assert result.returncode == 1 and "RuntimeError: no module" in result.stderr
    assert not any(line in result.stderr for line in HARMLESS)


@pytest.mark.slow
def test_a_script_that_trains_and_evaluates_prints_nothing_to_stderr(tmp_path):
    config = write_config(tmp_path, epochs=2, k_folds=0)
    inherited = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    script = ROOT / "samples" / "galaxy" / "galaxy.py"
    for command in ("train", "evaluate", "predict", "logs"):
        result = subprocess.run(
            [sys.executable, script, command, "--config", config],
            cwd=tmp_path,
            env={**inherited, "KERAS_BACKEND": "tensorflow"},
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr[-3000:]
        # The script itself writes its progress there, which ends in an empty line.
        said = [line for line in result.stderr.splitlines() if line.strip()]
        said = [line for line in said if "of 10 galaxies" not in line]
        assert said == []
