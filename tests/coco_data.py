"""A small data set in COCO's format: category ids with gaps, a crowd, an image without objects."""

import json

import numpy as np
import PIL.Image
from pycocotools import mask as coco_mask

# The middle third of image 3, as a compressed string.
BAND = np.zeros((12, 16), np.uint8)
BAND[4:8] = 1
COMPRESSED = coco_mask.encode(np.asfortranarray(BAND))["counts"].decode()


def content() -> dict:
    """What the annotation file holds, new each time."""
    return {
        "info": {"year": 2017},
        "images": [
            {"id": 7, "file_name": "a.png", "height": 20, "width": 30},
            {"id": 3, "file_name": "b.png", "height": 12, "width": 16},
            {"id": 12, "file_name": "c.png", "height": 10, "width": 10},
        ],
        "annotations": [
            annotation(101, 7, 18, [[2, 3, 10, 3, 10, 9, 2, 9]]),
            annotation(100, 7, 5, [[12, 1, 18, 1, 18, 5, 12, 5], [20, 1, 26, 1, 26, 5, 20, 5]]),
            annotation(102, 7, 90, {"size": [20, 30], "counts": [10, 10, 580]}, iscrowd=1),
            annotation(103, 3, 5, {"size": [12, 16], "counts": COMPRESSED}),
        ],
        "categories": [
            {"id": 18, "name": "dog", "supercategory": "animal"},
            {"id": 5, "name": "cat", "supercategory": "animal"},
            {"id": 90, "name": "tie"},
        ],
    }


def annotation(annotation_id, image_id, category_id, segmentation, iscrowd=0) -> dict:
    """An annotation with the box and area of its mask."""
    size = {7: (20, 30), 3: (12, 16), 12: (10, 10)}[image_id]
    if isinstance(segmentation, list):
        rle = coco_mask.merge(coco_mask.frPyObjects(segmentation, *size))
    elif isinstance(segmentation["counts"], list):
        rle = coco_mask.frPyObjects(segmentation, *size)
    else:
        rle = segmentation
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": category_id,
        "iscrowd": iscrowd,
        "segmentation": segmentation,
        "bbox": coco_mask.toBbox(rle).tolist(),
        "area": float(coco_mask.area(rle)),
    }


def write(path, data=None):
    """Write an annotation file; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content() if data is None else data), encoding="utf-8")
    return path


def write_images(folder, data=None):
    """Write a grey image for each of an annotation file's; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for image in (data or content())["images"]:
        pixels = np.full((image["height"], image["width"], 3), 60, np.uint8)
        (folder / image["file_name"]).parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(pixels).save(folder / image["file_name"])
    return folder
