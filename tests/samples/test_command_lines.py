"""Every sample's `--help` comes at once: it loads neither Keras nor a framework."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(
    str(path.relative_to(ROOT))
    for folder in ("samples", "scripts")
    for path in (ROOT / folder).rglob("*.py")
    if "ArgumentParser(" in path.read_text(encoding="utf-8")
)
SLOW_TO_LOAD = {"keras", "tensorflow", "jax", "torch", "imgaug", "matplotlib.pyplot"}
HELP = f"""
import runpy, sys
path = sys.argv[1]
sys.argv = [path, "--help"]
try:
    runpy.run_path(path, run_name="__main__")
except SystemExit as end:
    assert not end.code
    print("loaded:", *sorted({SLOW_TO_LOAD!r} & set(sys.modules)))
"""


def test_all_samples_are_looked_at():
    assert {"samples/coco/coco.py", "samples/nucleus/demo.py", "samples/shapes/shapes.py"} <= {
        *SCRIPTS
    }


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_comes_from_anywhere_and_loads_nothing_slow(script, tmp_path):
    command = [sys.executable, "-c", HELP, str(ROOT / script)]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "usage" in result.stdout
    assert result.stdout.splitlines()[-1].strip() == "loaded:"
