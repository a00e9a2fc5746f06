"""Labelled images for tests of formats, drawn by hypothesis or made by hand."""

import contextlib
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from mrcnn.data.formats.objects import LabelledImage, LabelledObject

CLASSES = ["cell", "a/b", "..", "Zelle ü", "CELL"]
NAMES = ["a.png", "b.png", "sub/a.png", "sub/A.png", "a_masks.png", "c_img.png", "sub/deep/x.png"]


@st.composite
def objects(draw, size, class_names, crowds):
    """Objects with pixels in an image of this size."""
    found = []
    for _ in range(draw(st.integers(0, 4))):
        mask = draw(hnp.arrays(bool, size))
        mask[draw(st.integers(0, size[0] - 1)), draw(st.integers(0, size[1] - 1))] = True
        is_crowd = crowds and draw(st.booleans())
        found.append(LabelledObject(draw(st.sampled_from(class_names)), mask, is_crowd))
    return found


@st.composite
def image_sets(draw, crowds=False):
    """Class names, and `(name, size, objects)` of each image."""
    class_names = CLASSES[: draw(st.integers(1, len(CLASSES)))]
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True))
    images = []
    for name in names:
        size = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
        images.append((name, size, draw(objects(size, class_names, crowds))))
    return class_names, images


def write_images(folder, images):
    """Write the image files of an image set; returns LabelledImages."""
    labelled = []
    for number, (name, (height, width), found) in enumerate(images):
        path = Path(folder, f"{number}.png")
        pixels = np.full((height, width, 3), number, np.uint8)
        Image.fromarray(pixels).save(path)
        labelled.append(LabelledImage(name, str(path), height, width, found))
    return labelled


@contextlib.contextmanager
def new_folders():
    """Two new folders: one for images, and the path of one that does not exist yet."""
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder, "source")
        images.mkdir()
        yield images, Path(folder, "target")


def without_crowds(images):
    """The images as a format without crowds holds them."""
    return [
        image._replace(objects=[each for each in image.objects if not each.is_crowd])
        for image in images
    ]


def number_of(image):
    """Which of the images of `write_images` this is: the grey value of its pixels."""
    return np.asarray(Image.open(image.path))[0, 0, 0]


def assert_same(back, images):
    """The same images with the same bytes, sizes and objects, in any order."""
    back = sorted(back, key=number_of)
    assert [number_of(image) for image in back] == list(range(len(images)))
    for found, wanted in zip(back, images, strict=True):
        assert Path(found.path).read_bytes() == Path(wanted.path).read_bytes()
        assert (found.height, found.width) == (wanted.height, wanted.width)
        assert keys(found) == keys(wanted)


def keys(image):
    """The objects of an image in an order of their own."""
    return sorted((o.class_name, o.is_crowd, o.mask.tobytes(), o.mask.shape) for o in image.objects)
