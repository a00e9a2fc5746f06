"""Detection: images are batched, run through the network, and its outputs mapped back to pixels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias, TypeVar

import keras
import numpy as np
from keras import ops

from mrcnn.config import Config
from mrcnn.data.targets import pyramid_anchors
from mrcnn.detection.model import DetectionModel, build_inference_model
from mrcnn.detection.molding import check_images, mold_one, unmold_detections
from mrcnn.detection.threads import count_threads, map_ahead
from mrcnn.geometry.boxes import norm_boxes
from mrcnn.types import Tensor

# Functions like `unmold_detections`, and functions like an AnchorCache: image shape to anchors.
Unmold: TypeAlias = Callable[..., tuple]
Anchors: TypeAlias = Callable[[Sequence[int]], np.ndarray]
Item = TypeVar("Item")

# Largest size of an AnchorCache. For 1024x1024 pixels, anchors take 12 MB, and 25 ms to make them.
ANCHOR_BYTES = 128 << 20


class AnchorCache:
    """Normalised anchors by image shape; the last used are kept, up to `ANCHOR_BYTES`.

    Args:
        config: its RPN_ANCHOR_SCALES, RPN_ANCHOR_RATIOS, RPN_ANCHOR_STRIDE and BACKBONE_STRIDES.

    Attributes:
        pixels: `[A, (y1, x1, y2, x2)]` in pixels, of the shape last asked for.
    """

    def __init__(self, config: Config):
        self.config = config
        # Ordered by last use, the latest last.
        self._by_shape: dict[tuple[int, ...], tuple[np.ndarray, np.ndarray]] = {}

    def __call__(self, image_shape: Sequence[int]) -> np.ndarray:
        """`[A, (y1, x1, y2, x2)]` float32, normalised, for a molded image of this shape."""
        shape = tuple(int(side) for side in image_shape[:2])
        # Threads of a server share a cache: between any two steps, another thread may run.
        anchors = self._by_shape.pop(shape, None) or self._make(shape)
        self._by_shape[shape] = anchors
        self._drop_oldest()
        self.pixels, normalised = anchors
        return normalised

    def _make(self, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        pixels = pyramid_anchors(self.config, shape)
        return pixels, norm_boxes(pixels, shape)

    def _drop_oldest(self) -> None:
        """Keep the last used shapes that fit; the latest one stays even if it is too large."""
        held = 0
        for number, (shape, arrays) in enumerate(reversed(list(self._by_shape.items()))):
            held += sum(array.nbytes for array in arrays)
            if number and held > ANCHOR_BYTES:
                self._by_shape.pop(shape, None)


class Detector:
    """A network that detects, with its settings and its anchors.

    Args:
        config: settings of detection.

    Attributes:
        keras_model: the inference model. config: the settings.
    """

    def __init__(self, config: Config):
        self.config = config
        self.keras_model = build_inference_model(config)
        self._anchors = AnchorCache(config)

    def detect(self, images: Sequence[np.ndarray]) -> list[dict[str, Any]]:
        """Detect in images, see the function `detect`."""
        return detect(self.keras_model, self.config, self._anchors, images)


def predict(
    model: keras.Model,
    anchors: np.ndarray,
    molded_images: Sequence[np.ndarray] | np.ndarray,
    image_metas: Sequence[np.ndarray] | np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Run the network on a batch of molded images of one shape.

    Args:
        model: a DetectionModel, or another Keras model with the outputs of `inference_graph`.
        anchors: `[A, (y1, x1, y2, x2)]`, normalised.
        molded_images: `[B, H, W, channels]`; image_metas: `[B, meta]`.

    Returns:
        detections `[B, D, (y1, x1, y2, x2, class_id, score)]`, normalised, zeros at the end; masks
        `[B, K, h, w, C]` of the first K detections.
    """
    metas = np.asarray(image_metas, np.float32)
    if isinstance(model, DetectionModel):
        boxes = ops.convert_to_tensor(anchors, "float32")
        boxes = ops.broadcast_to(boxes, (len(metas), *anchors.shape))
        return model.detect_on_batch(_as_tensor(molded_images), metas, boxes)
    images = np.asarray(molded_images, np.float32)
    boxes = np.broadcast_to(np.float32(anchors), (len(metas), *anchors.shape))
    detections, _, _, masks, *_ = model.predict_on_batch([images, metas, boxes])
    return detections, masks


def _as_tensor(images: Sequence[np.ndarray] | np.ndarray) -> Tensor:
    """Images of one shape as a tensor `[B, H, W, channels]` float32; threads copy them to a GPU."""
    if len(images) == 1:
        return ops.convert_to_tensor(np.asarray(images[0])[None], "float32")

    def convert(image: np.ndarray) -> Tensor:
        return ops.convert_to_tensor(image, "float32")

    threads = min(count_threads(), len(images))
    return ops.stack(list(map_ahead(convert, images, threads, ahead=len(images))))


def unmold_batch(
    outputs: tuple[np.ndarray, np.ndarray],
    original_shapes: Sequence[Sequence[int]],
    molded_shape: Sequence[int],
    windows: Sequence[Any],
    unmold: Unmold = unmold_detections,
) -> Iterator[dict[str, Any]]:
    """The result of `detect` for each image of a batch.

    Args:
        outputs: of `predict`.
        original_shapes: `(height, width, …)` of each image before molding; molded_shape: after.
        windows: `(y1, x1, y2, x2)` of each image in pixels of the molded one.
        unmold: a function like `unmold_detections`.
    """
    detections, mrcnn_mask = outputs
    for index, (original_shape, window) in enumerate(zip(original_shapes, windows, strict=True)):
        rois, class_ids, scores, masks = unmold(
            detections[index], mrcnn_mask[index], original_shape, molded_shape, window
        )
        yield {"rois": rois, "class_ids": class_ids, "scores": scores, "masks": masks}


def detect(
    model: keras.Model,
    config: Config,
    anchors: Anchors,
    images: Sequence[np.ndarray] | np.ndarray,
    unmold: Unmold = unmold_detections,
) -> list[dict[str, Any]]:
    """Detect in any number of images of any sizes, BATCH_SIZE at a time.

    Args:
        model: see `predict`.
        anchors: an AnchorCache.
        images: list of `[H, W, channels]` or `[H, W]`, values 0..255.
        unmold: a function like `unmold_detections`.

    Returns:
        One dict per image, in order: rois `[N, (y1, x1, y2, x2)]` int32 pixels, class_ids `[N]`
        int32, scores `[N]` float32, masks `[H, W, N]` bool; best score first.

    Raises:
        ValueError: as `mold_inputs`.
    """
    if not len(images):
        return []
    check_images(images)
    results: list = [None] * len(images)

    def mold(index: int) -> tuple[int, Any, Any, Any]:
        return index, *mold_one(images[index], index, config)

    threads = min(count_threads(), len(images))
    inputs = map_ahead(mold, range(len(images)), threads, ahead=config.BATCH_SIZE)
    for batch in batches_of_one_shape(inputs, config.BATCH_SIZE, lambda one: one[1].shape):
        indices, molded, metas, windows = zip(*batch, strict=True)
        shape = molded[0].shape
        outputs = predict(model, anchors(shape), molded, metas)
        originals = [np.shape(images[index]) for index in indices]
        for index, result in zip(
            indices, unmold_batch(outputs, originals, shape, windows, unmold), strict=True
        ):
            results[index] = result
    return results


def batches_of_one_shape(
    images: Iterable[Item],
    size: int,
    shape_of: Callable[[Item], tuple[int, ...] | None],
    most: float = math.inf,
) -> Iterator[list[Item]]:
    """Group images of one shape into batches.

    Args:
        size: images per batch.
        shape_of: function from an image to its shape; an image whose shape is None becomes a batch
            of one at once.
        most: number of images that may wait for others of their shape. At this number, the images
            of the shape that has waited longest become a batch, full or not.
    """
    waiting: dict[tuple[int, ...], list[Item]] = {}
    for image in images:
        shape = shape_of(image)
        if shape is None:
            yield [image]
            continue
        waiting.setdefault(shape, []).append(image)
        if len(waiting[shape]) == size:
            yield waiting.pop(shape)
        elif sum(map(len, waiting.values())) == most:
            yield waiting.pop(next(iter(waiting)))
    yield from waiting.values()
