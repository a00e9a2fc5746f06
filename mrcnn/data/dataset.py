"""Dataset: the user's images, classes and masks. Subclass it and override `load_mask`.

A dataset may join several **sources** (`"coco"`, `"galaxyzoo"`): each has its own class and image
ids, and an image trains only the classes of its own source.
"""

from __future__ import annotations

import os

import numpy as np


class Dataset:
    """Images, classes and masks; every method may be overridden.

    Use: `add_class` and `add_image` for each class and image, then `prepare`. From then on class
    and image ids count from 0 in the order they were added, and class 0 is the background::

        class BalloonDataset(Dataset):
            def load_balloon(self, folder):
                self.add_class("balloon", 1, "balloon")
                for name in os.listdir(folder):
                    self.add_image("balloon", image_id=name, path=os.path.join(folder, name))

            def load_mask(self, image_id):
                ...  # from self.image_info[image_id]
                return masks, class_ids

    Attributes:
        image_info, class_info: one dict an image or class: `id` and `source`, then `path` and
            whatever `add_image` got, or `name`.
        num_classes, class_ids, class_names: background included.
        num_images, image_ids; sources.
        class_from_source_map, image_from_source_map: `"source.id"` to class or image id.
        source_class_ids: for each source its class ids, background included.
    """

    def __init__(self, class_map=None):
        self._image_ids = np.array([], dtype=int)
        self.image_info = []
        self.class_info = [{"source": "", "id": 0, "name": "BG"}]
        self.source_class_ids = {}

    def add_class(self, source: str, class_id, class_name: str) -> None:
        """Add a class, once; `class_id` is the source's own.

        Raises:
            ValueError: a dot in the source's name.
        """
        if "." in source:
            raise ValueError(
                f"the source name {source!r} holds a dot; a dot parts source and id, so write "
                f"{source.replace('.', '_')!r} for one."
            )
        if not any(c["source"] == source and c["id"] == class_id for c in self.class_info):
            self.class_info.append({"source": source, "id": class_id, "name": class_name})

    def add_image(self, source: str, image_id, path, **kwargs) -> None:
        """Add an image; `kwargs` are kept in its `image_info`, for `load_mask` to use."""
        self.image_info.append({"id": image_id, "source": source, "path": path, **kwargs})

    def prepare(self, class_map=None) -> None:
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
                    f"{describe_image(self, image_id)} is of source {info['source']!r}, for which "
                    f"no class was added; there are classes of {', '.join(self.sources[1:])}."
                )

    @property
    def image_ids(self) -> np.ndarray:
        """`[num_images]` int; empty until `prepare`."""
        return self._image_ids

    def map_source_class_id(self, source_class_id: str) -> int:
        """Class id of a `"source.id"` string: `"coco.12"`."""
        return self.class_from_source_map[source_class_id]

    def get_source_class_id(self, class_id: int, source: str):
        """The source's own id of one of its classes.

        Raises:
            ValueError: the class is another source's.
        """
        info = self.class_info[class_id]
        if info["source"] != source:
            raise ValueError(f"class {class_id} is of source {info['source']!r}, not {source!r}.")
        return info["id"]

    def image_reference(self, image_id: int) -> str:
        """What helps to find an image again, a link for one; empty unless overridden."""
        return ""

    def source_image_link(self, image_id: int):
        """Path or URL of an image."""
        return self.image_info[image_id]["path"]

    def load_image(self, image_id: int) -> np.ndarray:
        """The image: `[H, W, 3]` uint8 RGB, whatever its file holds (see `read_image`).

        An override may return any number of channels, for IMAGE_CHANNEL_COUNT other than 3.
        """
        return read_image(self.image_info[image_id]["path"])

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """The masks of an image's objects and their classes; to be overridden.

        An override may call this one for an image without objects: it returns none.

        Returns:
            masks: `[H, W, N]` bool, one object a channel; without objects H and W may be anything.
            class_ids: `[N]` int32; negative for a crowd, a mask around many objects of that class
                that were not told apart.

        Raises:
            NotImplementedError: nothing overrides it.
        """
        if getattr(self.load_mask, "__func__", None) is Dataset.load_mask:
            raise NotImplementedError(
                f"{type(self).__name__} does not say what the masks of an image are; "
                "override load_mask(image_id) -> (masks [H, W, N], class_ids [N])."
            )
        return np.zeros((0, 0, 0), bool), np.zeros(0, np.int32)


def _ids_by_source(infos, ids) -> dict[str, int]:
    return {f"{info['source']}.{info['id']}": i for info, i in zip(infos, ids, strict=True)}


def describe_image(dataset: Dataset, image_id: int) -> str:
    """An image in words, for messages: its number, and its source, id and path where known."""
    info = dataset.image_info[image_id]
    name = f"image {image_id} ({info['source']} {info['id']}"
    return f"{name}, {info['path']})" if info.get("path") else f"{name})"


def read_image(path: str | os.PathLike) -> np.ndarray:
    """An image file as RGB of 8 bits.

    Grey images are repeated to three channels, transparency is dropped, 16 bits are scaled to 8,
    float images to 0..255 from 0..1. A camera's rotation tag is not applied: masks are drawn on
    the pixels as stored.

    Returns:
        `[H, W, 3]` uint8.

    Raises:
        OSError: the file is missing, damaged or no image; ValueError: an image that cannot be
            shown in 8 bits without a choice. Both name the file.
    """
    try:
        pixels = _decode(path)
    except FileNotFoundError:
        raise
    except Exception as error:  # decoders raise anything: SyntaxError, struct.error, ...
        raise OSError(f"{path} cannot be read as an image: {error}") from error
    try:
        return _rgb(_to_8_bits(pixels))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _decode(path) -> np.ndarray:
    """Pixels as the file holds them, colours as RGB."""
    import PIL.Image

    if str(path).lower().endswith((".tif", ".tiff")):
        import skimage.io

        return skimage.io.imread(path)  # Pillow has no TIFF of 3 x 16 bits, nor of many channels
    try:
        with PIL.Image.open(path) as picture:
            if picture.mode == "F" or picture.mode.startswith("I"):
                return np.asarray(picture)
            if picture.mode == "P":
                picture = picture.convert("RGBA")  # Pillow warns of a palette's transparency
            return np.asarray(picture.convert("RGB"))
    except PIL.UnidentifiedImageError:
        return _decode_with_opencv(path)


def _decode_with_opencv(path) -> np.ndarray:
    import cv2

    # cv2.imread ends the process on a file name that is no UTF-8, and imdecode raises on no bytes.
    data = np.fromfile(path, np.uint8)
    pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    if pixels is None:
        raise ValueError("no image format that Pillow or OpenCV knows.")
    return (
        pixels
        if pixels.ndim == 2
        else np.concatenate([pixels[..., 2::-1], pixels[..., 3:]], axis=-1)
    )


def _to_8_bits(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == bool:
        return pixels.astype(np.uint8) * np.uint8(255)
    low, high = (pixels.min(), pixels.max()) if pixels.size else (0, 0)
    if pixels.dtype.kind in "iu" and low >= 0 and high <= 65535:
        return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if pixels.dtype.kind == "f" and low >= 0 and high <= 1:
        return np.rint(pixels * 255).astype(np.uint8)
    raise ValueError(
        f"pixels are {pixels.dtype} from {low} to {high}; 8 or 16 bits, or floats of 0..1, have a "
        "known brightness. Override load_image to choose another."
    )


def _rgb(pixels: np.ndarray) -> np.ndarray:
    if pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (1, 2)):
        gray = pixels.reshape(*pixels.shape[:2], -1)[:, :, :1]
        return np.repeat(gray, 3, axis=2)
    if pixels.ndim == 3 and pixels.shape[2] in (3, 4):
        return np.ascontiguousarray(pixels[:, :, :3])
    raise ValueError(
        f"the array has shape {pixels.shape}, which is not one grey, RGB or RGBA image; override "
        "load_image to choose what to show."
    )
