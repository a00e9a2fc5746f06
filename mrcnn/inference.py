"""Detection: images molded into a batch, the network, and its answers put back into pixels."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator

import keras
import numpy as np
from keras import ops

from mrcnn import backend
from mrcnn.config import Config
from mrcnn.data.image import compose_image_meta, match_channels, mold_image, resize_image
from mrcnn.data.targets import pyramid_anchors
from mrcnn.geometry.boxes import denorm_boxes, norm_boxes
from mrcnn.geometry.masks import mask_rle, paste_mask
from mrcnn.nn import folded
from mrcnn.nn.network import dtype_policy, inference_graph
from mrcnn.weights import Network

# Sizes in which the mask head runs: on the detections that there are, each size traced once.
_MASK_ROWS = (8, 32)


@keras.saving.register_keras_serializable("mrcnn")
class DetectionModel(Network):
    """The inference graph, with a way of its own to what `detect` needs.

    `predict_on_batch` gives all seven outputs of `inference_graph`. `detect_on_batch` gives two
    of them, faster: batch normalisation is folded, and only detections that exist get masks.
    """

    def detect_on_batch(self, images, image_metas, anchors) -> tuple[np.ndarray, np.ndarray]:
        """Detections and their masks, as arrays.

        Args:
            images: `[B, H, W, channels]` molded; image_metas: `[B, meta]`; anchors: `[B, A, 4]`.

        Returns:
            detections `[B, D, 6]`; masks `[B, K, h, w, C]` of the first K rows, K at least as large
            as the number of detections of any image.
        """
        # Where images are padded to a square there is one size; else the first one has functions of
        # its own, and all others share theirs. So have single images, which are faster alone.
        first = self.__dict__.setdefault("_first_size", images.shape[1:3])
        batch = (0,) if len(images) > 1 else ()
        maps = (*batch, 1, 2) if images.shape[1:3] != first else batch
        detections, *pyramid = self._find(
            images, image_metas, anchors, open_axes=[maps, batch, maps[:-1] if 1 in maps else batch]
        )
        found = ops.convert_to_numpy(detections)
        count = int((found[:, :, 4] > 0).sum(axis=1).max())
        rows = min(n for n in (*_MASK_ROWS, found.shape[1]) if n >= count)
        (masks,) = self._segment(
            detections[:, :rows], image_metas, *pyramid, open_axes=[batch, batch, *[maps] * 4]
        )
        return found, _array(masks)

    @functools.cached_property
    def _find(self):
        return self._part([self.outputs[0], *self._pyramid], self.inputs)

    @functools.cached_property
    def _segment(self):
        return self._part([self.outputs[3]], [self.outputs[0], self.inputs[1], *self._pyramid])

    @property
    def _pyramid(self) -> list:
        return [self.get_layer(f"fpn_p{level}").output for level in (2, 3, 4, 5)]

    def _part(self, outputs, inputs):
        """The way from some tensors of the graph to others as a compiled function."""
        return backend.compiled(
            lambda *values: folded.run(outputs, list(zip(inputs, values, strict=True))),
            self.variables,
        )


def _array(tensor) -> np.ndarray:
    return ops.convert_to_numpy(ops.cast(tensor, "float32"))


def build_inference_model(config: Config) -> DetectionModel:
    """The model that detects: three inputs, seven outputs, see `inference_graph`."""
    with dtype_policy(config.DTYPE_POLICY):
        inputs, outputs = inference_graph(config)
    return DetectionModel(inputs, outputs, name="mask_rcnn")


def mold_inputs(images, config: Config) -> tuple[list, np.ndarray, np.ndarray]:
    """Images as the network takes them.

    Args:
        images: list of `[H, W, channels]` or `[H, W]`, of any sizes, values 0..255.
        config: IMAGE_RESIZE_MODE and its sizes, MEAN_PIXEL.

    Returns:
        molded images, list of `[h, w, channels]` float32; image metas `[N, meta]`; windows
        `[N, (y1, x1, y2, x2)]` in pixels of the molded image, the part that is not padding.

    Raises:
        ValueError: something that is no image, or that does not fit the network; no images;
            IMAGE_RESIZE_MODE "crop", which shows a part of an image only.
    """
    _check_images(images, config)
    inputs = [_mold(image, index, config) for index, image in enumerate(images)]
    molded, metas, windows = zip(*inputs, strict=True)
    return list(molded), np.stack(metas), np.stack(windows)


def _mold(image, index: int, config: Config) -> tuple[np.ndarray, np.ndarray, tuple]:
    """One image molded, its meta and its window; errors call it image `index`."""
    image = _checked(image, index, config)
    resized, window, scale, _, _ = resize_image(
        image,
        min_dim=config.IMAGE_MIN_DIM,
        max_dim=config.IMAGE_MAX_DIM,
        min_scale=config.IMAGE_MIN_SCALE,
        mode=config.IMAGE_RESIZE_MODE,
    )
    _check_divisible(resized, index)
    all_classes = np.zeros([config.NUM_CLASSES], np.int32)
    meta = compose_image_meta(0, image.shape, resized.shape, window, scale, all_classes)
    return mold_image(resized, config), meta, window


def _check_images(images, config: Config) -> None:
    if config.IMAGE_RESIZE_MODE == "crop":
        raise ValueError(
            "IMAGE_RESIZE_MODE is 'crop', which cuts a random part out of each image, for training "
            "only; 'square' or 'pad64' shows the network whole images."
        )
    if isinstance(images, np.ndarray) and images.ndim < 4:
        raise ValueError(
            f"images is one array of shape {images.shape}; it must be a list of images: [image]."
        )
    if len(images) == 0:
        raise ValueError("images is empty; there must be at least one.")


def _checked(image, index: int, config: Config) -> np.ndarray:
    image = np.asarray(image)
    if image.ndim not in (2, 3) or 0 in image.shape:
        raise ValueError(
            f"image {index} has shape {image.shape}; an image is [height, width, "
            f"{config.IMAGE_CHANNEL_COUNT}] with at least one pixel."
        )
    if not np.issubdtype(image.dtype, np.number) or np.iscomplexobj(image):
        raise ValueError(f"image {index} has dtype {image.dtype}; pixels are numbers of 0..255.")
    if not np.isfinite(image).all():
        raise ValueError(f"image {index} holds NaN or infinite values; pixels are 0..255.")
    return match_channels(image, config.IMAGE_CHANNEL_COUNT)


def _check_divisible(image: np.ndarray, index: int) -> None:
    height, width = image.shape[:2]
    if height % 64 or width % 64:
        raise ValueError(
            f"image {index} is {height}x{width} for the network, which needs sides that are "
            "multiples of 64; IMAGE_RESIZE_MODE 'square' or 'pad64' would make them so."
        )


def unmold_detections(
    detections, mrcnn_mask, original_image_shape, image_shape, window
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """One image's detections in pixels of the image as it was given.

    Args:
        detections: `[D, (y1, x1, y2, x2, class_id, score)]`, normalised, zeros at the end.
        mrcnn_mask: `[D, h, w, classes]` in 0..1.
        original_image_shape, image_shape: `(height, width, …)` before and after resizing.
        window: `[(y1, x1, y2, x2)]` in pixels of the resized image.

    Returns:
        boxes `[N, (y1, x1, y2, x2)]` int32 pixels, class_ids `[N]` int32, scores `[N]` float32,
        masks `[height, width, N]` bool. Detections that round to no area are left out.
    """
    boxes, class_ids, scores, masks = _in_pixels(
        detections, mrcnn_mask, original_image_shape, image_shape, window
    )
    # A mask after the other in memory; seen with the objects last, as the original had them.
    full_masks = np.zeros((len(boxes), *original_image_shape[:2]), bool)
    for full_mask, mask, box in zip(full_masks, masks, boxes, strict=True):
        paste_mask(full_mask, mask, box)
    return boxes, class_ids, scores, full_masks.transpose(1, 2, 0)


def unmold_rle(detections, mrcnn_mask, original_image_shape, image_shape, window):
    """`unmold_detections` with COCO's run lengths, `[N]` dicts, in place of full-size masks."""
    boxes, class_ids, scores, masks = _in_pixels(
        detections, mrcnn_mask, original_image_shape, image_shape, window
    )
    rles = [mask_rle(m, box, original_image_shape) for m, box in zip(masks, boxes, strict=True)]
    return boxes, class_ids, scores, rles


def _in_pixels(detections, mrcnn_mask, original_image_shape, image_shape, window):
    """Boxes, class ids, scores, and masks `[N, h, w]` as the network made them."""
    empty = np.flatnonzero(detections[:, 4] == 0)
    count = empty[0] if len(empty) else len(detections)
    class_ids = detections[:count, 4].astype(np.int32)
    scores = detections[:count, 5]
    masks = mrcnn_mask[np.arange(count), :, :, class_ids]

    # From the resized image to its window, which shows the whole original.
    window = norm_boxes(window, image_shape[:2])
    origin = np.tile(window[:2], 2)
    size = np.tile(window[2:] - window[:2], 2)
    # A window one pixel high or wide has no extent in coordinates from centre to centre.
    boxes = (detections[:count, :4] - origin) / np.where(size > 0, size, 1)
    height, width = original_image_shape[:2]
    # Only an image one pixel high or wide has boxes to clip, for the same reason.
    boxes = denorm_boxes(boxes, (height, width))
    boxes = np.clip(boxes, 0, [height - 1, width - 1, height, width]).astype(np.int32)
    visible = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return boxes[visible], class_ids[visible], scores[visible], masks[visible]


class AnchorCache:
    """Normalised anchors by image shape; making those of a large image takes a while.

    Args:
        config: its pyramid.

    Attributes:
        pixels: `[A, (y1, x1, y2, x2)]` of the shape last asked for, not normalised.
    """

    def __init__(self, config: Config):
        self.config = config
        self._by_shape: dict[tuple, tuple] = {}

    def __call__(self, image_shape) -> np.ndarray:
        """`[A, (y1, x1, y2, x2)]` float32, normalised, for a molded image of this shape."""
        shape = tuple(int(side) for side in image_shape[:2])
        if shape not in self._by_shape:
            pixels = pyramid_anchors(self.config, shape)
            self._by_shape[shape] = pixels, norm_boxes(pixels, shape)
        self.pixels, normalised = self._by_shape[shape]
        return normalised


def predict(model: keras.Model, anchors: np.ndarray, molded_images, image_metas) -> tuple:
    """Detections `[B, D, 6]` and masks `[B, K, h, w, C]` for a batch of molded images of one shape.

    Args:
        model: a DetectionModel, or any other with the outputs of `inference_graph`.
        anchors: `[A, (y1, x1, y2, x2)]`, normalised.
        molded_images: `[B, H, W, channels]`; image_metas: `[B, meta]`.
    """
    images, metas = np.asarray(molded_images, np.float32), np.asarray(image_metas, np.float32)
    anchors = np.broadcast_to(np.float32(anchors), (len(images), *anchors.shape))
    if isinstance(model, DetectionModel):
        return model.detect_on_batch(images, metas, anchors)
    detections, _, _, masks, *_ = model.predict_on_batch([images, metas, anchors])
    return detections, masks


def unmold_batch(
    outputs, original_shapes, molded_shape, windows, unmold=unmold_detections
) -> Iterator[dict]:
    """The result of `detect` for each image of a batch; unmold is like `unmold_detections`."""
    detections, mrcnn_mask = outputs
    for index, (original_shape, window) in enumerate(zip(original_shapes, windows, strict=True)):
        rois, class_ids, scores, masks = unmold(
            detections[index], mrcnn_mask[index], original_shape, molded_shape, window
        )
        yield {"rois": rois, "class_ids": class_ids, "scores": scores, "masks": masks}


def detect(
    model: keras.Model, config: Config, anchors: AnchorCache, images, unmold=unmold_detections
) -> list[dict]:
    """Detect in any number of images of any sizes, BATCH_SIZE at a time.

    Args:
        unmold: a function like `unmold_detections`.
        images: list of `[H, W, channels]` or `[H, W]`, values 0..255.

    Returns:
        A dict an image, in order: rois `[N, (y1, x1, y2, x2)]` int32 pixels, class_ids `[N]`
        int32, scores `[N]` float32, masks `[H, W, N]` bool; best score first.
    """
    if len(images):
        _check_images(images, config)
    results: list = [None] * len(images)
    inputs = ((index, *_mold(image, index, config)) for index, image in enumerate(images))
    for batch in batches_of_one_shape(inputs, config.BATCH_SIZE, lambda one: one[1].shape):
        indices, molded, metas, windows = zip(*batch, strict=True)
        shape = molded[0].shape
        outputs = predict(model, anchors(shape), np.stack(molded), metas)
        originals = [np.shape(images[index]) for index in indices]
        for index, result in zip(
            indices, unmold_batch(outputs, originals, shape, windows, unmold), strict=True
        ):
            results[index] = result
    return results


def batches_of_one_shape(
    images: Iterable, size: int, shape_of: Callable, most: float = math.inf
) -> Iterator[list]:
    """Images in lists of `size`, those of one shape together; one without a shape comes at once.

    Args:
        shape_of: function of an image, its shape or None.
        most: when so many wait for others of their shape, those that wait longest go as they are.
    """
    waiting: dict[tuple, list] = {}
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
