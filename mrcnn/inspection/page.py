"""A report as one HTML page that needs no other file, and its pictures as PNGs.

jinja2 fills the page in and escapes what comes from data sets, such as the names of classes.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mrcnn.files import check_new_folder, folder_beside
from mrcnn.types import PathLike

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE = "report.html"
_DPI = 100


class Picture(NamedTuple):
    """A figure, and a sentence on what to look for."""

    title: str
    look: str
    figure: Figure


class Table(NamedTuple):
    """Rows of texts and numbers, and a sentence on what to look for."""

    title: str
    look: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


class Section(NamedTuple):
    """A part of a report, with a sentence on what it shows."""

    title: str
    text: str
    parts: Sequence[Picture | Table]


def write_report(
    folder: PathLike, title: str, facts: Sequence[tuple[str, Any]], sections: Sequence[Section]
) -> Path:
    """Write `report.html` and the pictures into a new folder; returns the path of the page.

    Args:
        folder: gets its name when all is written.
        title: of the page. facts: names and values below the title.
        sections: in their order.

    Raises:
        ValueError: the folder is not empty; NotADirectoryError: it is a file.
    """
    import jinja2

    folder = check_new_folder(folder)
    # The page is complete before anything of it is in sight.
    template = resources.files("mrcnn.inspection").joinpath("page.html").read_text("utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    with folder_beside(folder) as temporary:
        temporary.mkdir(parents=True)
        filled = [
            {
                "title": section.title,
                "anchor": _slug(section.title),
                "text": section.text,
                "parts": [_filled(part, number, temporary) for part in section.parts],
            }
            for number, section in enumerate(sections, start=1)
        ]
        text = environment.from_string(template).render(title=title, facts=facts, sections=filled)
        (temporary / PAGE).write_text(text, encoding="utf-8")
    return folder / PAGE


def _filled(part: Picture | Table, number: int, folder: Path) -> dict[str, Any]:
    """What the template needs of a part; a picture is also written as a file."""
    if isinstance(part, Table):
        rows = [[_text(cell) for cell in row] for row in part.rows]
        numbers = [
            bool(part.rows) and all(isinstance(row[i], (int, float)) for row in part.rows)
            for i in range(len(part.columns))
        ]
        columns = [
            {"name": name, "is_number": is_number}
            for name, is_number in zip(part.columns, numbers, strict=True)
        ]
        return {"title": part.title, "look": part.look, "columns": columns, "rows": rows}
    stream = io.BytesIO()
    part.figure.savefig(stream, format="png", dpi=_DPI)
    data = stream.getvalue()
    (folder / f"{number:02d}_{_slug(part.title)}.png").write_bytes(data)
    width, height = (round(side * _DPI) for side in part.figure.get_size_inches())
    image = base64.b64encode(data).decode("ascii")
    size = {"width": width, "height": height}
    return {"title": part.title, "look": part.look, "image": image, **size}


def _text(cell: Any) -> str:
    if isinstance(cell, float):
        return f"{cell:.4g}"
    return "-" if cell is None else str(cell)


def _slug(title: str) -> str:
    """A title as part of an address or of a file's name."""
    return re.sub(r"\W+", "_", title.lower()).strip("_")[:60]
