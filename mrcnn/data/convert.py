"""Labels of any format written in another one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from mrcnn.data.dataset import Dataset
from mrcnn.data.formats.find import FORMATS, check_format, find_format, open_labels
from mrcnn.data.formats.objects import LabelledImage, class_names, labelled_images
from mrcnn.files import folder_beside
from mrcnn.messages import listed
from mrcnn.types import PathLike


class Conversion(NamedTuple):
    """What was converted.

    Attributes:
        source_format: the format that was read.
        images, objects: how many were read.
        class_names: names of the classes in their order.
        losses: a sentence for each kind of thing that the new format cannot hold.
    """

    source_format: str
    images: int
    objects: int
    class_names: list[str]
    losses: list[str]


def convert(
    source: PathLike,
    target: PathLike,
    to: str,
    format: str | None = None,
    *,
    images: PathLike | None = None,
    classes: Sequence[str] | None = None,
    attribute: str | None = None,
    line_width: float | None = None,
    skip_invalid: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Conversion:
    """Write labels in another format, with copies of the images.

    Args:
        source: a file or folder of labels.
        target: a new or empty folder. It appears when it is complete.
        to: name of the new format, see `FORMATS`.
        format, images, classes, attribute, line_width, skip_invalid: as in `open_labels`.
        progress: called after each image with (images done, total).

    Raises:
        ValueError: an unknown format, or labels that cannot be used or written.
        OSError: a file that cannot be read or written.
    """
    check_format(to)
    write = FORMATS[to].write
    if write is None:
        writable = [name for name, kind in FORMATS.items() if kind.write is not None]
        raise ValueError(f"{to} is only read; {listed(writable, 20)} can be written.")
    counts = {"images": 0, "objects": 0}

    def counted(dataset: Dataset) -> Iterator[LabelledImage]:
        for image in labelled_images(dataset):
            counts["images"] += 1
            counts["objects"] += len(image.objects)
            yield image
            if progress is not None:
                progress(counts["images"], len(dataset.image_ids))

    with folder_beside(target) as folder:
        name, _ = find_format(source, format)
        dataset = open_labels(
            source,
            format,
            images=images,
            classes=classes,
            attribute=attribute,
            line_width=line_width,
            skip_invalid=skip_invalid,
        )
        names = class_names(dataset)
        losses = write(counted(dataset), names, folder)
    return Conversion(name, counts["images"], counts["objects"], names, losses)
