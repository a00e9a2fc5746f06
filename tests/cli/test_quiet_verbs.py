"""Each verb in a process of its own, on shipped data: what the user sees, and nothing else.

The network is the tiny one; what frameworks print at their start does not depend on it.
"""

import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NUCLEI = ROOT / "samples" / "nucleus" / "nuclei_small.tar.gz"
SCRIPT = Path(__file__).with_name("tiny_verbs.py")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder with three of the shipped images and their masks."""
    folder = tmp_path_factory.mktemp("here")
    with tarfile.open(NUCLEI) as archive:
        names = sorted({Path(name).parts[2] for name in archive.getnames()})[:3]
        wanted = [m for m in archive.getmembers() if Path(m.name).parts[2] in names]
        archive.extractall(folder, members=wanted, filter="data")
    (folder / "nuclei" / "train").rename(folder / "cells")
    return folder


def run(here, *words):
    """The exit status, the lines on standard output, and those on standard error.

    How many layers a weight file had is for users to see, so it is left out.
    """
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    command = [sys.executable, SCRIPT, *map(str, words)]
    done = subprocess.run(
        command,
        cwd=here,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        errors="replace",
    )
    err = [line for line in done.stderr.splitlines() if not line.endswith(" layers loaded")]
    return done.returncode, done.stdout.splitlines(), err


def test_the_way_from_labels_to_a_table(here):
    status, out, err = run(
        here, "train", "cells", "--weights", "random", "--epochs", 1, "--classes", "nucleus"
    )
    assert (status, err) == (0, [])
    folder = re.fullmatch(r"Next: mrcnn detect (\S+) IMAGES", out[-1])[1]
    status, out, err = run(
        here, "detect", folder, "cells", "--recursive", "--min-score", 0, "--save", "csv"
    )
    assert (status, err) == (0, [])
    assert (here / "detections" / "objects.csv").stat().st_size > 500
    status, out, err = run(here, "evaluate", folder, "cells")
    assert (status, err) == (0, [])
    assert any(line.startswith("nucleus ") for line in out)
    status, out, err = run(here, "info", folder)
    assert (status, err) == (0, []) and any("nucleus" in line for line in out)


def test_conversion_and_info_are_quiet(here):
    status, out, err = run(here, "convert", "cells", "cells_yolo", "--to", "yolo")
    assert (status, err) == (0, []) and out[0].startswith("cells_yolo: 3 images, ")
    status, out, err = run(here, "info", "--no-speed")
    assert (status, err) == (0, []) and any(line.startswith("  mrcnn ") for line in out)
