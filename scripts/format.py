"""Turn an old submission into one that COCO's tools take.

    python scripts/format.py OLD.json NEW.json

A submission is a list with an entry a detection. Of old ones, the category may be a list of one
number, run lengths a Python bytes literal such as "b'...'", a list of counts, and the box missing.
NEW.json has integers, strings and a box: `{"image_id", "category_id", "bbox", "score",
"segmentation": {"size", "counts"}}`.
"""

from __future__ import annotations

import argparse
import ast
import json
import math
import os
import sys
from pathlib import Path

# The checkout this file lies in, for when the package is not installed.
ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

from mrcnn.data.formats.coco import read_json, segmentation_to_rle  # noqa: E402


def format_results(old) -> list[dict]:
    """Results in COCO's format from an old submission's list.

    Raises:
        ValueError: an entry that cannot be understood, named by its position.
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


def format_result(entry) -> dict:
    """One detection in COCO's format."""
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


def _number(entry, name) -> float:
    value = entry.get(name)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"has the {name} {entry.get(name)!r}; it must be a number.")
    return number


def _whole_number(entry, name) -> int:
    number = _number(entry, name)
    if number != int(number):
        raise ValueError(f"has the {name} {entry[name]!r}; it must be a whole number.")
    return int(number)


def _run_lengths(segmentation) -> dict:
    """`{"size": [height, width], "counts": str}` from run lengths in any form."""
    if not isinstance(segmentation, dict):
        raise ValueError(f"has the segmentation {segmentation!r}; it must be run lengths.")
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if not (isinstance(size, list) and len(size) == 2 and all(type(side) is int for side in size)):
        raise ValueError(f"has run lengths of size {size!r}; it must be [height, width].")
    if isinstance(counts, str) and counts[:2] in ("b'", 'b"'):
        try:
            counts = ast.literal_eval(counts).decode("ascii")
        except (SyntaxError, ValueError) as error:
            raise ValueError(f"has run lengths that cannot be read: {counts[:40]!r}.") from error
    rle = segmentation_to_rle({"size": size, "counts": counts}, *size)
    return {"size": size, "counts": rle["counts"].decode("ascii")}


def _box(box, rle) -> list[float]:
    """`[x, y, width, height]`, of the mask where there is none."""
    from pycocotools import mask as coco_mask

    if box is None:
        return coco_mask.toBbox(rle).tolist()
    if not isinstance(box, list) or len(box) != 4:
        raise ValueError(f"has the bbox {box!r}; it must be [x, y, width, height].")
    return [_number({"bbox": value}, "bbox") for value in box]


def main(argv=None) -> None:
    """Read OLD.json, write NEW.json when all of it is understood."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", metavar="OLD.json", type=Path)
    parser.add_argument("new", metavar="NEW.json", type=Path)
    arguments = parser.parse_args(argv)
    old = read_json(arguments.old)
    try:
        results = format_results(old)
    except ValueError as error:
        raise ValueError(f"{arguments.old}: {error}") from error
    beside = arguments.new.with_name(arguments.new.name + ".part")
    beside.write_text(json.dumps(results), encoding="utf-8")
    os.replace(beside, arguments.new)
    print(f"{len(results)} detections are in {arguments.new}")


if __name__ == "__main__":
    main()
