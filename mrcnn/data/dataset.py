"""Dataset: the user's images, classes and masks. Subclass it and override `load_mask`.

A dataset may join several **sources** (`"coco"`, `"galaxyzoo"`): each has its own class and image
ids, and an image trains only the classes of its own source.
"""

from __future__ import annotations

import hashlib
import numbers
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from mrcnn.config import Config, check_value_range
from mrcnn.data.image_files import load_image_file, say_once
from mrcnn.data.image_files import read_image as read_image
from mrcnn.types import PathLike


class Dataset:
    """Images, classes and masks; every method may be overridden.

    Call `add_class` and `add_image` for each class and image, then `prepare`. After that, class and
    image ids count from 0 in the order in which they were added, and class 0 is the background::

        class BalloonDataset(Dataset):
            def load_balloon(self, folder):
                self.add_class("balloon", 1, "balloon")
                for name in os.listdir(folder):
                    self.add_image("balloon", image_id=name, path=os.path.join(folder, name))

            def load_mask(self, image_id):
                ...  # from self.image_info[image_id]
                return masks, class_ids

    Attributes:
        image_info: one dict per image: `id`, `source`, `path` and the other arguments of
            `add_image`. If an image has a rotation tag, `load_image` compares it with the `height`
            and `width` here (those of an annotation file) to decide whether to rotate it.
        class_info: one dict per class: `id`, `source` and `name`.
        num_classes, class_ids, class_names: of all classes, background included.
        num_images, image_ids, sources: of all images; names of the sources.
        class_from_source_map, image_from_source_map: `"source.id"` to class or image id.
        source_class_ids: for each source its class ids, background included.
        image_value_range: `(black, white)`, the values that become 0 and 255 in files of floats or
            of more than 8 bits. None: IMAGE_VALUE_RANGE of the Config; if that is None too, each
            file decides for itself.
    """

    image_value_range: Sequence[float] | None = None
    # IMAGE_VALUE_RANGE of the Config, set by `load_image_for`.
    _config_value_range: Sequence[float] | None = None

    def __init__(self, class_map: object = None):
        self._image_ids = np.array([], dtype=int)
        self.image_info: list[dict[str, Any]] = []
        self.class_info: list[dict[str, Any]] = [{"source": "", "id": 0, "name": "BG"}]
        self.source_class_ids: dict[str, list[int]] = {}

    def add_class(self, source: str, class_id: Any, class_name: str) -> None:
        """Add a class, if it is not there yet; `class_id` is the source's own.

        Raises:
            ValueError: a dot in the source's name.
        """
        if "." in source:
            raise ValueError(
                f"the source name {source!r} holds a dot, which separates source and id; use "
                f"{source.replace('.', '_')!r} instead."
            )
        if not any(c["source"] == source and c["id"] == class_id for c in self.class_info):
            self.class_info.append({"source": source, "id": class_id, "name": class_name})

    def add_image(self, source: str, image_id: Any, path: PathLike | None, **kwargs: Any) -> None:
        """Add an image; its `image_info` keeps `kwargs`, for `load_mask` to use."""
        self.image_info.append({"id": image_id, "source": source, "path": path, **kwargs})

    def prepare(self, class_map: object = None) -> None:
        """Number classes and images; call it after the last `add_class` and `add_image`.

        Raises:
            ValueError: an image of a source for which no class was added.
        """
        self.num_classes = len(self.class_info)
        self.class_ids = np.arange(self.num_classes)
        # "person, human" is shown as "person".
        self.class_names = [str(info["name"]).split(",")[0] for info in self.class_info]
        self.num_images = len(self.image_info)
        self._image_ids = np.arange(self.num_images)
        self.class_from_source_map = _ids_by_source(self.class_info, self.class_ids)
        self.image_from_source_map = _ids_by_source(self.image_info, self._image_ids)
        self.sources = list(dict.fromkeys(info["source"] for info in self.class_info))
        self.source_class_ids = {
            source: [i for i, c in enumerate(self.class_info) if i == 0 or c["source"] == source]
            for source in self.sources
        }
        self._check_sources()

    def _check_sources(self) -> None:
        if self.num_classes == 1:
            return  # images alone, to detect on
        for image_id, info in enumerate(self.image_info):
            if info["source"] not in self.source_class_ids:
                raise ValueError(
                    f"{describe_image(self, image_id)} belongs to the source {info['source']!r}, "
                    f"which has no classes; there are classes of {', '.join(self.sources[1:])}."
                )

    @property
    def image_ids(self) -> np.ndarray:
        """`[num_images]` int; empty until `prepare`."""
        return self._image_ids

    def map_source_class_id(self, source_class_id: str) -> int:
        """The class id of a `"source.id"` string, such as `"coco.12"`."""
        return self.class_from_source_map[source_class_id]

    def get_source_class_id(self, class_id: int, source: str) -> Any:
        """The source's own id of one of its classes.

        Raises:
            ValueError: the class belongs to another source.
        """
        info = self.class_info[class_id]
        if info["source"] != source:
            raise ValueError(f"class {class_id} belongs to {info['source']!r}, not {source!r}.")
        return info["id"]

    def image_reference(self, image_id: int) -> str:
        """Text that helps to find an image again, such as a link; empty unless overridden."""
        return ""

    def source_image_link(self, image_id: int) -> Any:
        """Path or URL of an image."""
        return self.image_info[image_id]["path"]

    def load_image(self, image_id: int) -> np.ndarray:
        """The image as `[H, W, 3]` uint8 RGB, converted if need be (see `read_image`).

        An override may return any number of channels, for an IMAGE_CHANNEL_COUNT other than 3.

        Raises:
            OSError: the file is missing, damaged or no image; ValueError: the user must choose what
                to show. Both messages name the file.
        """
        info = self.image_info[image_id]
        value_range = self.image_value_range
        if value_range is None:
            value_range = self._config_value_range
        check_value_range("image_value_range", value_range)
        image = load_image_file(info["path"], _stated_size(info), value_range)
        # Not made by __init__: a Dataset may have been pickled by an earlier release.
        say_once(image.remarks, vars(self).setdefault("_said", {}))
        return image.pixels

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """The masks of an image's objects and their classes; override it.

        An override may call this method for an image without objects: it returns no masks.

        Returns:
            masks: `[H, W, N]` bool, one channel per object; without objects H and W may be
                anything.
            class_ids: `[N]` int32; negative for a crowd, which is one mask around many objects of
                that class.

        Raises:
            NotImplementedError: the subclass does not override it.
        """
        if getattr(self.load_mask, "__func__", None) is Dataset.load_mask:
            raise NotImplementedError(
                f"{type(self).__name__} has no masks; override "
                "load_mask(image_id) -> (masks [H, W, N], class_ids [N])."
            )
        return np.zeros((0, 0, 0), bool), np.zeros(0, np.int32)

    def load_neutral(self, image_id: int) -> np.ndarray | None:
        """Pixels of which it is unknown what they show; override it for USE_NEUTRAL_PIXELS.

        Returns:
            `[H, W]` bool; None if there are none.
        """
        return None


def _ids_by_source(infos: list[dict[str, Any]], ids: Iterable[int]) -> dict[str, int]:
    return {f"{info['source']}.{info['id']}": i for info, i in zip(infos, ids, strict=True)}


def _stated_size(info: dict[str, Any]) -> tuple[int, int] | None:
    """`(height, width)` of an `image_info`, None if it has no such numbers."""
    height, width = info.get("height"), info.get("width")
    if isinstance(height, numbers.Integral) and isinstance(width, numbers.Integral):
        return int(height), int(width)
    return None


def describe_names(dataset: Dataset) -> str:
    """The number of images and a checksum of their names, to know the data again."""
    names = sorted(str(dataset.image_info[i]["id"]) for i in dataset.image_ids)
    checksum = hashlib.sha256("\n".join(names).encode()).hexdigest()
    return f"{len(names)} with names of checksum {checksum[:12]}"


def load_image_for(config: Config, dataset: Dataset, image_id: int) -> np.ndarray:
    """`dataset.load_image(image_id)`, with IMAGE_VALUE_RANGE of the Config."""
    # The Config may lack the setting: evaluation takes any model with `config.BATCH_SIZE` and
    # `detect`, such as the models of tests.
    dataset._config_value_range = getattr(config, "IMAGE_VALUE_RANGE", None)
    return dataset.load_image(image_id)


def describe_image(dataset: Dataset, image_id: int) -> str:
    """An image in words, for messages: its number, source and id, and its path if known."""
    info = dataset.image_info[image_id]
    name = f"image {image_id} ({info['source']} {info['id']}"
    return f"{name}, {info['path']})" if info.get("path") else f"{name})"
