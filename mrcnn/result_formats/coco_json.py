"""COCO's results: one list of all objects, `detections.json`.

Beside the keys that COCO's tools read, an object has `file_name` and `category_name`. `image_id` is
the number of the image, from 1; pycocotools' `loadRes` needs the ids of an annotation file instead.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mrcnn.files import written_beside
from mrcnn.result_formats.found import Add, FoundImage
from mrcnn.types import PathLike


@contextmanager
def write_coco_json(folder: PathLike) -> Iterator[Add]:
    """Write `detections.json`."""
    with (
        written_beside(Path(folder, "detections.json")) as temporary,
        open(temporary, "w", encoding="utf-8") as file,
    ):
        before = "[\n"

        def add(image: FoundImage) -> None:
            nonlocal before
            for one in image.objects:
                entry = {
                    "image_id": image.number,
                    "file_name": image.name,
                    "category_id": one.category_id,
                    "category_name": one.class_name,
                    "bbox": one.bbox,
                    "score": one.score,
                    "segmentation": one.rle,
                }
                file.write(before + json.dumps(entry, ensure_ascii=False))
                before = ",\n"

        yield add
        file.write("\n]\n" if before == ",\n" else "[]\n")
