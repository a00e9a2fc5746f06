"""Reports: one page without outside addresses, pictures beside it."""

import base64
import re
from html.parser import HTMLParser

import matplotlib.figure
import numpy as np
import PIL.Image
import pytest

from mrcnn.inspection.figures import images, panels, short_name
from mrcnn.inspection.page import Picture, Section, Table, write_report
from tests.tiny import random_rectangles


class Parsed(HTMLParser):
    """What a browser would load, the tags left open, and the text."""

    EMPTY = ("meta", "link", "img")

    def __init__(self, text):
        super().__init__()
        self.sources, self.open, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.sources += [values[name] for name in ("src", "href") if name in values]
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def check_page(path):
    """The page needs nothing else, and holds the PNGs that lie beside it; returns its text."""
    page = Parsed(path.read_text(encoding="utf-8"))
    assert not page.open
    ids = set(re.findall(r'id="([^"]*)"', path.read_text(encoding="utf-8")))
    pictures = []
    for source in page.sources:
        if source.startswith("#"):
            assert source[1:] in ids
        else:
            assert source.startswith("data:")
            if source.startswith("data:image/png;base64,"):
                pictures.append(base64.b64decode(source.partition(",")[2]))
    assert pictures
    beside = [file.read_bytes() for file in path.parent.glob("*.png")]
    assert sorted(pictures) == sorted(beside)
    for file in path.parent.glob("*.png"):
        with PIL.Image.open(file) as image:
            assert len(image.convert("L").getcolors(1 << 16)) > 1, f"{file} is blank"
    return page.text


def figure():
    drawn = matplotlib.figure.Figure(figsize=(2, 1))
    drawn.subplots().plot([1, 2])
    return drawn


def test_a_page_holds_all_and_escapes_names(tmp_path):
    nasty = '<script>alert("x")</script>'
    sections = [
        Section("One & two", "text", [Picture(f"A {nasty}", "Look here.", figure())]),
        Section("Empty", nasty, [Table("None", "Nothing.", ["a", "b"], [])]),
        Section("Numbers", "", [Table("T", "L", ["name", "n"], [[nasty, 0.123456], ["b", 1.0]])]),
        Section("Gaps", "", [Table("T", "L", ["n"], [[None], [2]])]),
    ]
    path = write_report(tmp_path / "new", "Title", [("weights", nasty)], sections)
    assert path == tmp_path / "new" / "report.html"
    assert "<script" not in path.read_text()
    text = check_page(path)
    for part in ("Title", "One & two", "Look here.", "none", "0.1235", nasty, "-"):
        assert part in text
    assert {p.name for p in path.parent.iterdir()} == {
        "report.html",
        "01_a_script_alert_x_script.png",
    }


def test_a_folder_that_is_not_empty_stays(tmp_path):
    (tmp_path / "mine").touch()
    with pytest.raises(ValueError, match="is not empty"):
        write_report(tmp_path, "T", [], [])


def test_nothing_is_left_of_a_report_that_fails(tmp_path):
    class Broken:
        def savefig(self, *_, **__):
            raise OSError("disk full")

    sections = [Section("S", "", [Picture("P", "", Broken())])]
    with pytest.raises(OSError, match="disk full"):
        write_report(tmp_path / "new", "T", [], sections)
    assert list(tmp_path.iterdir()) == []


def test_panels_and_names():
    for count in (0, 1, 3, 7):
        assert len(panels(count)[1]) == count
    assert len(images([np.zeros((3, 4))] * 2, ["a", "b"]).axes) == 2
    dataset = random_rectangles(2)
    assert short_name(dataset, 1) == "1: 1"
    dataset.image_info[1]["path"] = "/a/" + "b" * 100 + ".png"
    assert short_name(dataset, 1) == "1: …" + "b" * 28 + ".png"
