"""TensorFlow, JAX and PyTorch: each trains, saves and detects, and all three agree.

`backend_run.py` is what each does, in a process of its own.
"""

import importlib.util
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
BACKENDS = ("tensorflow", "jax", "torch")
INSTALLED = [name for name in BACKENDS if importlib.util.find_spec(name)]


def start(backend: str, folder: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, ROOT / "tests" / "backend_run.py", folder],
        env={**os.environ, "KERAS_BACKEND": backend},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder of what the runs wrote, and by backend how each ended and what it printed."""
    folder = tmp_path_factory.mktemp("backends")
    processes = {name: start(name, folder) for name in INSTALLED}
    # One that hangs is an end of its output too.
    limit = threading.Timer(1500, lambda: [process.kill() for process in processes.values()])
    limit.start()
    try:
        printed = {name: _until_written(process) for name, process in processes.items()}
        # Only now are there all checkpoints for each to read.
        for name, process in processes.items():
            printed[name] += process.communicate("read\n" if process.poll() is None else None)[0]
    finally:
        limit.cancel()
        for process in processes.values():
            process.kill()
            process.wait()
    return folder, {name: (p.returncode, printed[name]) for name, p in processes.items()}


def _until_written(process: subprocess.Popen) -> str:
    lines = []
    for line in process.stdout:
        if line == "written\n":
            break
        lines.append(line)
    return "".join(lines)


def need(*backends):
    for name in backends:
        if name not in INSTALLED:
            pytest.skip(f"{name} is not installed; scripts/setup_venv.sh test,torch installs it")


@pytest.mark.parametrize("backend", BACKENDS)
def test_trains_resumes_saves_detects_and_reads_the_others_checkpoints(runs, backend):
    need(backend)
    folder, ends = runs
    code, printed = ends[backend]
    assert code == 0, printed[-6000:]
    assert {path.stem for path in (folder / backend).glob("*.h5")} >= ends.keys()


@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_detections_are_those_of_tensorflow(runs, backend):
    need(backend, "tensorflow")
    folder, _ = runs
    with np.load(folder / "tensorflow_detections.npz") as arrays:
        wanted = dict(arrays)
    with np.load(folder / f"{backend}_detections.npz") as arrays:
        found = dict(arrays)
    assert len(wanted["rois"]) == 40 and len(set(wanted["class_ids"])) > 1
    np.testing.assert_array_equal(found["class_ids"], wanted["class_ids"])
    np.testing.assert_allclose(found["scores"], wanted["scores"], atol=1e-4)
    np.testing.assert_allclose(found["rois"], wanted["rois"], atol=1)
    both = (found["masks"] & wanted["masks"]).sum(axis=(0, 1))
    either = (found["masks"] | wanted["masks"]).sum(axis=(0, 1))
    assert (both >= 0.98 * either).all() and either.any()
