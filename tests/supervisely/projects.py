"""Projects of made-up images, and a network that sees what is bright."""

import json

import numpy as np
import PIL.Image
import scipy.ndimage

from mrcnn.data.formats.supervisely import encode_bitmap
from mrcnn.geometry.masks import Patch
from mrcnn.supervisely.modes import Found

SHADES = {"pear": 90, "apple": 230}


def bitmap(title, mask):
    patch = Patch(np.asarray(mask, bool), 0, 0).trimmed()
    return {
        "classTitle": title,
        "tags": [],
        "geometryType": "bitmap",
        "bitmap": {"data": encode_bitmap(patch.pixels), "origin": [patch.left, patch.top]},
    }


def rectangle(title, y1, x1, y2, x2):
    """Both corners are pixels of the rectangle."""
    return {
        "classTitle": title,
        "tags": [],
        "geometryType": "rectangle",
        "points": {"exterior": [[x1, y1], [x2, y2]], "interior": []},
    }


def box_mask(shape, y1, x1, y2, x2):
    mask = np.zeros(shape, bool)
    mask[y1:y2, x1:x2] = True
    return mask


def write_image(folder, name, objects, tags=(), shape=(64, 64), pixels=None, size=None):
    """An image of a dataset, with its annotation."""
    if pixels is None:
        pixels = np.full((*shape, 3), 20, np.uint8)
    for part in ("img", "ann"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(pixels).save(folder / "img" / name)
    height, width = size or pixels.shape[:2]
    content = {
        "description": "",
        "tags": [{"name": tag, "value": None} for tag in tags],
        "size": {"height": height, "width": width},
        "objects": list(objects),
    }
    (folder / "ann" / f"{name}.json").write_text(json.dumps(content))


def write_meta(project, classes, tags=("train", "val")):
    """`classes`: title to shape."""
    project.mkdir(parents=True, exist_ok=True)
    content = {
        "classes": [
            {"title": title, "shape": shape, "color": "#FF0000"} for title, shape in classes.items()
        ],
        "tags": [{"name": tag, "value_type": "none", "color": "#00FF00"} for tag in tags],
        "projectType": "images",
    }
    (project / "meta.json").write_text(json.dumps(content))


def fruit(places, shape=(64, 64)):
    """An image and its objects `[(title, y1, x1, y2, x2)]`."""
    pixels, objects = np.full((*shape, 3), 20, np.uint8), []
    for title, *box in places:
        mask = box_mask(shape, *box)
        pixels[mask] = SHADES[title]
        objects.append(bitmap(title, mask))
    return pixels, objects


PLACES = [
    [("apple", 8, 8, 30, 32), ("pear", 36, 20, 60, 50)],
    [("pear", 4, 30, 28, 60)],
    [("apple", 20, 20, 50, 44)],
    [("apple", 30, 6, 58, 30), ("pear", 4, 34, 26, 60)],
]


def write_project(project, tags=(("train",), ("train",), ("val",), ("train", "val"))):
    """Four images with apples and pears, tagged in this way."""
    write_meta(project, {"pear": "bitmap", "apple": "bitmap", "bg": "rectangle"})
    for number, (places, names) in enumerate(zip(PLACES, tags, strict=True)):
        pixels, objects = fruit(places)
        objects.append(rectangle("bg", 0, 0, 5, 5))
        write_image(project / "ds", f"{number}.png", objects, names, pixels=pixels)
    return project


class Network:
    """Finds connected bright parts; their shade is their class."""

    def __init__(self):
        self.shapes = []

    def __call__(self, parts):
        self.shapes += [part.shape[:2] for part in parts]
        return [list(self._of(part[..., 0])) for part in parts]

    def _of(self, part):
        for title, shade in SHADES.items():
            labels, count = scipy.ndimage.label(part == shade)
            for number in range(1, count + 1):
                yield Found(title, shade / 255, Patch(labels == number, 0, 0).trimmed())
