"""Convert an old submission to one that COCO's tools accept.

    python scripts/format.py OLD.json NEW.json

A submission is a list with one entry per detection. In an old one the category may be a list of one
number, the run lengths may be the text of Python bytes such as "b'...'" or a list of counts, and
the box may be missing. NEW.json has whole numbers, texts and a box: `{"image_id", "category_id",
"bbox", "score", "segmentation": {"size", "counts"}}`.
"""

from __future__ import annotations

import argparse
import ast
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# This checkout, in case the package is not installed.
ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

from mrcnn.data.formats.coco import segmentation_to_rle  # noqa: E402
from mrcnn.files import read_json, write_text  # noqa: E402


def format_results(old: Any) -> list[dict[str, Any]]:
    """Convert the list of an old submission to COCO's results format.

    Raises:
        ValueError: an entry that cannot be converted, named by its position.
    """
    if not isinstance(old, list):
        raise ValueError(f"holds a {type(old).__name__}; a submission is a list of detections.")
    results = []
    for position, entry in enumerate(old):
        try:
            results.append(format_result(entry))
        except ValueError as error:
            raise ValueError(f"entry {position} {error}") from error
    return results


def format_result(entry: Any) -> dict[str, Any]:
    """Convert one detection to COCO's results format.

    Raises:
        ValueError: it cannot be converted.
    """
    if not isinstance(entry, dict):
        raise ValueError(f"is a {type(entry).__name__}; it must be an object.")
    rle = _run_lengths(entry.get("segmentation"))
    return {
        "image_id": _whole_number(entry, "image_id"),
        "category_id": _whole_number(entry, "category_id"),
        "bbox": _box(entry.get("bbox"), rle),
        "score": _number(entry, "score"),
        "segmentation": rle,
    }


def _number(entry: dict[str, Any], name: str) -> float:
    value = entry.get(name)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    try:
        number = float(value)  # type: ignore[arg-type]  # anything may be there
    except (OverflowError, TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"has the {name} {entry.get(name)!r}; it must be a number.")
    return number


def _whole_number(entry: dict[str, Any], name: str) -> int:
    if type(entry.get(name)) is int:  # as a float it could lose digits
        return entry[name]
    number = _number(entry, name)
    if number != int(number):
        raise ValueError(f"has the {name} {entry[name]!r}; it must be a whole number.")
    return int(number)


def _run_lengths(segmentation: Any) -> dict[str, Any]:
    """`{"size": [height, width], "counts": str}` from run lengths in any form."""
    if not isinstance(segmentation, dict):
        raise ValueError(f"has the segmentation {segmentation!r}; it must be run lengths.")
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if not (isinstance(size, list) and len(size) == 2 and all(type(side) is int for side in size)):
        raise ValueError(f"has run lengths of size {size!r}; it must be [height, width].")
    if isinstance(counts, str) and counts[:2] in ("b'", 'b"'):
        try:
            counts = ast.literal_eval(counts).decode("ascii")
        except (AttributeError, MemoryError, RecursionError, SyntaxError, ValueError) as error:
            raise ValueError(f"has run lengths that cannot be read: {counts[:40]!r}.") from error
    rle = segmentation_to_rle({"size": size, "counts": counts}, *size)
    return {"size": size, "counts": rle["counts"].decode("ascii")}


def _box(box: Any, rle: dict[str, Any]) -> list[float]:
    """`[x, y, width, height]`; the mask's box if there is none."""
    from pycocotools import mask as coco_mask

    if box is None:
        return coco_mask.toBbox(rle).tolist()
    if not isinstance(box, list) or len(box) != 4:
        raise ValueError(f"has the bbox {box!r}; it must be [x, y, width, height].")
    return [_number({"bbox": value}, "bbox") for value in box]


def main(argv: Sequence[str] | None = None) -> None:
    """Read OLD.json, and write NEW.json if all of it can be converted."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("old", metavar="OLD.json", type=Path)
    parser.add_argument("new", metavar="NEW.json", type=Path)
    arguments = parser.parse_args(argv)
    old = read_json(arguments.old)
    try:
        results = format_results(old)
    except ValueError as error:
        raise ValueError(f"{arguments.old}: {error}") from error
    write_text(arguments.new, json.dumps(results))
    print(f"{len(results)} detections are in {arguments.new}")


if __name__ == "__main__":
    main()
