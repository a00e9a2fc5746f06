"""A report in Chromium: all pictures are drawn, and the console stays empty."""

import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from mrcnn.data.formats.find import open_labels
from mrcnn.inspection.data import data_sections
from mrcnn.inspection.page import write_report
from mrcnn.training.recipe import recipe_for

NUCLEI = Path(__file__).parents[2] / "samples" / "nucleus" / "nuclei_small.tar.gz"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# The page's title tells how many pictures there are and how many were not drawn.
COUNT = """<script>addEventListener("load", () => {
  const all = [...document.images];
  document.title = `${all.length} pictures, ${all.filter((i) => !i.naturalWidth).length} missing`;
})</script></body>"""


def looked_at(page, *words):
    """The page as the browser has it after loading, and what it writes."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("no Chromium")
    command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu"]
    command += ["--enable-logging=stderr", f"--user-data-dir={page.parent / 'profile'}"]
    command += ["--dump-dom", *words, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.slow
def test_a_report_on_nuclei_in_chromium(tmp_path):
    with tarfile.open(NUCLEI) as tar:
        tar.extractall(tmp_path, filter="data")
    dataset = open_labels(tmp_path / "nuclei" / "val")
    config = recipe_for(dataset, None, "nuclei").config
    sections = data_sections(dataset, config, limit=6)
    page = write_report(tmp_path / "report", "Data <of> “leaves”", [("a", "<b>")], sections)
    pictures = len(list(page.parent.glob("*.png")))
    counted = tmp_path / "counted.html"
    counted.write_text(page.read_text("utf-8").replace("</body>", COUNT), "utf-8")
    found, console = looked_at(counted)
    assert re.search("<title>(.*)</title>", found)[1] == f"{pictures} pictures, 0 missing"
    assert not console and pictures >= 8
    # The test sees what it looks for.
    bad = counted.read_text("utf-8").replace("</body>", "<img src=none.png></body>", 1)
    counted.write_text(bad.replace("</body>", "<script>console.error('no')</script></body>"))
    found, console = looked_at(counted)
    assert f"{pictures + 1} pictures, 1 missing" in found and len(console) >= 1
