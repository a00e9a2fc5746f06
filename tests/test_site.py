"""The site of the guides: it builds without a warning, and each page can be reached."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mkdocs")
pytest.importorskip("material")

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    start = (tmp_path / "site" / "index.html").read_text()
    for page in sorted((ROOT / "docs").glob("*.md")):
        name = "" if page.stem == "index" else f"{page.stem}/"
        assert (tmp_path / "site" / name / "index.html").is_file()
        assert page.stem == "index" or f'href="{name}"' in start, f"{page.name} is not in nav"
    reference = (tmp_path / "site" / "reference" / "index.html").read_text()
    for name in ("MaskRCNN.detect", "Dataset.load_mask", "CocoEvaluation", "RunBoard"):
        assert re.search(rf'id="mrcnn[\w.]*{re.escape(name)}"', reference), name
