"""Batches for training: `load_image_gt` for one image, `BatchLoader` for Keras' `fit`.

Why `keras.utils.PyDataset` with **threads**. Processes forked after TensorFlow has started its
threads can hang for ever ("stuck at epoch 1"); spawned ones must import and pickle the Dataset,
which a class defined in a notebook does not survive. The library grain runs its workers in such
processes too and would be one dependency more. Threads share the Dataset as it is and cannot hang
that way, and most of a batch's work (decoding, resizing, warping, reductions) is done by libraries
that release Python's lock. A `load_mask` that is pure Python does hold it: make that one faster, or
store its masks.

Batch `i` of an epoch depends on `(seed, epoch, i)` alone, not on the number of workers nor on
anything drawn elsewhere.

Letters in shapes: B images a batch, A anchors, T RPN_TRAIN_ANCHORS_PER_IMAGE, M MAX_GT_INSTANCES,
N objects of an image, h and w MINI_MASK_SHAPE, or the image's size without USE_MINI_MASK.
"""

from __future__ import annotations

import functools
import logging
import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import keras
import numpy as np

from mrcnn.config import Config
from mrcnn.data.augment import augment as apply_augmentation
from mrcnn.data.augment import check_augmentation
from mrcnn.data.dataset import Dataset, describe_image
from mrcnn.data.image import (
    match_channels,
    mold_image,
    random_generator,
    resize_image,
    view_resized,
)
from mrcnn.data.image_meta import compose_image_meta
from mrcnn.data.targets import (
    AnchorIndex,
    build_detection_targets,
    build_rpn_targets,
    generate_random_rois,
    pyramid_anchors,
)
from mrcnn.geometry.masks import MaskView, view_of

log = logging.getLogger("mrcnn")

# Independent random streams of one seed.
_ORDER, _IMAGE, _REPLACEMENT, _ROIS = range(4)
# From this many images on, a majority of bad ones stops the run at once.
_ENOUGH_TO_JUDGE = 20
_LISTED = 50


class Annotated(NamedTuple):
    """What the user's dataset says of an image."""

    image: np.ndarray  # [H, W, IMAGE_CHANNEL_COUNT]
    masks: np.ndarray  # [H, W, N] bool
    class_ids: np.ndarray  # [N] int32, negative for a crowd


@dataclass(frozen=True)
class Sample:
    """One image, resized and augmented, with its objects."""

    image: np.ndarray  # [H, W, channels], not molded
    meta: np.ndarray  # [12 + NUM_CLASSES]
    class_ids: np.ndarray  # [N] int32, negative for a crowd
    boxes: np.ndarray  # [N, (y1, x1, y2, x2)] int32 pixels
    masks: MaskView  # of [H, W, N] bool


class Example(NamedTuple):
    """A sample with the targets of its anchors."""

    sample: Sample  # at most MAX_GT_INSTANCES objects
    masks: np.ndarray  # [H, W, N] bool, or mini-masks [h, w, N]
    rpn_match: np.ndarray  # [A] int32
    rpn_bbox: np.ndarray  # [T, (dy, dx, log dh, log dw)]


def load_image_gt(
    dataset: Dataset,
    config: Config,
    image_id: int,
    augment=False,
    augmentation=None,
    use_mini_mask=False,
    *,
    rng: np.random.Generator | None = None,
):
    """An image and its ground truth, resized (and augmented) as for training.

    Args:
        augment: True mirrors every other image.
        augmentation: an augmenter, see `mrcnn.data.augment`.
        use_mini_mask: masks as mini-masks of MINI_MASK_SHAPE.
        rng: for everything random; NumPy's global state without it.

    Returns:
        image `[H, W, channels]`, not molded; image meta `[12 + NUM_CLASSES]` float64; class ids
        `[N]` int32, negative for a crowd; boxes `[N, (y1, x1, y2, x2)]` int32 in pixels; masks
        `[H, W, N]` bool or `[h, w, N]`. Objects of which no pixel is left are not among them.

    Raises:
        ValueError: masks of another size than their image, another number of masks than of class
            ids, a class id that NUM_CLASSES does not hold, an image that cannot get
            IMAGE_CHANNEL_COUNT channels. OSError: an unreadable file. Both name the image.
    """
    _check_classes(dataset, config)
    rng = random_generator(rng)
    try:
        annotated = _read(dataset, config, image_id)
    except ValueError as error:
        raise ValueError(f"{describe_image(dataset, image_id)}: {error}") from error
    sample = _fit(dataset, config, image_id, annotated, augment, augmentation, rng)
    masks = _masks_of(sample, config.MINI_MASK_SHAPE if use_mini_mask else None)
    return sample.image, sample.meta, sample.class_ids, sample.boxes, masks


def _check_classes(dataset: Dataset, config: Config) -> None:
    if not hasattr(dataset, "num_classes"):
        raise ValueError(f"{type(dataset).__name__} is not prepared; call prepare() first.")
    if dataset.num_classes != config.NUM_CLASSES:
        raise ValueError(
            f"{type(dataset).__name__} has {dataset.num_classes} classes, background included, and "
            f"NUM_CLASSES is {config.NUM_CLASSES}; they must be equal."
        )


def _read(dataset: Dataset, config: Config, image_id: int) -> Annotated:
    """What the user's dataset says of an image, checked."""
    image = np.asarray(dataset.load_image(image_id))
    if image.dtype.kind not in "buif":
        raise ValueError(f"load_image returned {image.dtype}, not numbers.")
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        raise ValueError("load_image returned NaN or infinite values; pixels are 0..255.")
    image = match_channels(image, config.IMAGE_CHANNEL_COUNT)
    masks, class_ids = dataset.load_mask(image_id)
    masks = _checked_masks(np.asarray(masks), image.shape)
    class_ids = _checked_class_ids(np.asarray(class_ids), masks.shape[2], config)
    return Annotated(image, masks, class_ids)


def _checked_masks(masks: np.ndarray, image_shape) -> np.ndarray:
    height, width = image_shape[:2]
    if masks.ndim == 3 and masks.shape[2] == 0:
        return np.zeros((height, width, 0), bool)
    if masks.shape[:2] != (height, width) or masks.ndim != 3:
        raise ValueError(
            f"load_mask returned masks of shape {masks.shape} for an image of {height}x{width}; "
            f"it must return ({height}, {width}, number of objects)."
        )
    if masks.dtype.kind not in "buif":
        raise ValueError(f"load_mask returned masks of {masks.dtype}; bool is what would do.")
    return masks.astype(bool, copy=False)


def _checked_class_ids(class_ids: np.ndarray, mask_count: int, config) -> np.ndarray:
    if class_ids.shape != (mask_count,):
        raise ValueError(
            f"load_mask returned {mask_count} masks and class ids of shape {class_ids.shape}; it "
            "must return one class id a mask."
        )
    if mask_count == 0:
        return np.zeros(0, np.int32)
    if class_ids.dtype.kind not in "iuf" or (class_ids != np.floor(class_ids)).any():
        raise ValueError(f"class ids must be whole numbers, load_mask returned {class_ids}.")
    largest = config.NUM_CLASSES - 1
    wrong = sorted({int(i) for i in class_ids if i == 0 or abs(i) > largest})
    if wrong:
        raise ValueError(
            f"load_mask returned class id {', '.join(map(str, wrong))}; with NUM_CLASSES "
            f"{config.NUM_CLASSES} an object is of class 1 to {largest}, a crowd of the negative."
        )
    return class_ids.astype(np.int32)


def _fit(dataset, config, image_id, annotated, augment, augmentation, rng) -> Sample:
    """Resize, flip and augment an image with its masks, and drop objects that vanished."""
    image, window, scale, padding, crop = resize_image(
        annotated.image,
        min_dim=config.IMAGE_MIN_DIM,
        max_dim=config.IMAGE_MAX_DIM,
        min_scale=config.IMAGE_MIN_SCALE,
        mode=config.IMAGE_RESIZE_MODE,
        rng=rng,
    )
    masks = view_resized(annotated.masks, scale, padding, crop)
    if augment and rng.random() < 0.5:
        image, masks = image[:, ::-1], masks.mirrored()
    if augmentation is not None:
        image, array = apply_augmentation(image, masks.array(), augmentation, rng)
        masks = view_of(array)

    active = _active_classes(dataset, image_id)
    original_shape = annotated.image.shape
    meta = compose_image_meta(image_id, original_shape, image.shape, window, scale, active)
    boxes = masks.boxes()
    left = np.flatnonzero(boxes[:, 2] > boxes[:, 0])
    return _select(Sample(image, meta, annotated.class_ids, boxes, masks), left)


def _active_classes(dataset: Dataset, image_id: int) -> np.ndarray:
    """`[NUM_CLASSES]` int32: 1 for the classes of the image's source, which alone it trains."""
    active = np.zeros(dataset.num_classes, np.int32)
    active[dataset.source_class_ids[dataset.image_info[image_id]["source"]]] = 1
    return active


def _select(sample: Sample, ids: np.ndarray) -> Sample:
    """The sample with these of its objects only."""
    if len(ids) == len(sample.class_ids):
        return sample
    return replace(
        sample,
        class_ids=sample.class_ids[ids],
        boxes=sample.boxes[ids],
        masks=sample.masks.select(ids),
    )


def _masks_of(sample: Sample, mini_shape) -> np.ndarray:
    """Mini-masks `[h, w, N]`, or without a shape for them masks `[H, W, N]`, bool."""
    if mini_shape is None:
        return sample.masks.array()
    return sample.masks.minimize(sample.boxes, mini_shape)


class _NoObjects(ValueError):
    """Of an image that is no mistake, but has nothing to train on."""


class BatchLoader(keras.utils.PyDataset):
    """Training batches of a Dataset for `fit`, made by threads, the same for the same seed.

    A **pass** shows every image once, in an order of its own. An **epoch** is `steps` batches; the
    next one goes on where it ended, in the middle of a pass if need be.

    An image that cannot be read or that is annotated wrongly is named in a warning once, left out
    from then on, and stood in for by another image of the pass, so that batches stay full. The
    run stops with the list of such images when there are too many: more than `max_bad_share` of
    the data set (a single one is forgiven), more than half of at least 20 tried, or all. Only
    OSError and ValueError of the Dataset count as bad data; any other error in it is a mistake in
    its code and is raised at once, with a note which image it was.

    An image without objects is left out too, but any number of them may be: many data sets show
    empty scenes. Only the first is named. With TRAIN_EMPTY_IMAGES they are trained on.

    Give it to `fit` with `shuffle=False`: left to itself, `fit` draws the order of the batches from
    Python's global state. `load_image` and `load_mask` are called from several threads at once.

    Item `i` is `(inputs,)` with the seven inputs of the training graph:
    images `[B, H, W, channels]` float32, molded; image metas `[B, 12 + NUM_CLASSES]` float32;
    rpn_match `[B, A, 1]` int32; rpn_bbox `[B, T, 4]` float32; class ids `[B, M]` int32;
    boxes `[B, M, (y1, x1, y2, x2)]` int32 in pixels; masks `[B, h, w, M]` bool; the last three
    padded with zeros.

    Args:
        dataset: prepared; config: NUM_CLASSES must be the dataset's.
        batch_size: images a batch, config.BATCH_SIZE by default.
        steps: batches an epoch; by default as many as hold every image.
        shuffle: False keeps the dataset's order.
        augment: mirror every other image; augmentation: an augmenter, see `mrcnn.data.augment`.
        no_augmentation_sources: sources whose images `augmentation` leaves alone.
        seed: of order, crops, augmentation and the choice of anchors.
        initial_epoch: the epoch to start with, to resume a run where it stopped.
        share: `(i, n)`: of batches of `n * batch_size` images, part i of n, counted from 0.
        workers: threads that make batches ahead.
        max_bad_share: share of images, 0 to 1, that may be bad.

    Attributes:
        epoch: the current one; `fit` advances it, a loop of one's own sets it.
        skipped: image id to the reason why it was left out.
        failure: the exception that ended the loading, or None. Keras on TensorFlow passes it on
            as text in an error of its own.

    Raises:
        ValueError: no images, a number of classes that is not the config's, an argument out of
            range.
    """

    def __init__(
        self,
        dataset: Dataset,
        config: Config,
        *,
        batch_size: int | None = None,
        steps: int | None = None,
        shuffle: bool = True,
        augment: bool = False,
        augmentation=None,
        no_augmentation_sources=None,
        seed: int = 0,
        initial_epoch: int = 0,
        share: tuple[int, int] = (0, 1),
        workers: int = 4,
        max_bad_share: float = 0.1,
    ):
        super().__init__(workers=workers, use_multiprocessing=False, max_queue_size=2 * workers)
        self.dataset = dataset
        self.config = config
        self.batch_size = config.BATCH_SIZE if batch_size is None else batch_size
        self.share = share
        whole_pass = math.ceil(len(dataset.image_ids) / max(self.batch_size * share[1], 1))
        self.steps = whole_pass if steps is None else steps
        self.shuffle = shuffle
        self.augment = augment
        self.augmentation = augmentation
        self.no_augmentation_sources = tuple(no_augmentation_sources or ())
        self.seed = seed
        self.epoch = initial_epoch
        self._within_epoch = False
        self.max_bad_share = max_bad_share
        self.skipped: dict[int, str] = {}
        self._without_objects: set[int] = set()
        self.failure: Exception | None = None
        self._check()
        self._image_ids = np.array(dataset.image_ids)
        self._tried: set[int] = set()
        self._emptied: set[int] = set()
        self._lock = threading.Lock()
        self._anchors = functools.lru_cache(maxsize=8)(
            lambda shape: AnchorIndex(pyramid_anchors(config, shape))
        )

    def _check(self) -> None:
        if len(self.dataset.image_ids) == 0:
            raise ValueError(
                f"{type(self.dataset).__name__} has no images; call add_image for each image and "
                "then prepare()."
            )
        _check_classes(self.dataset, self.config)
        if self.config.IMAGE_RESIZE_MODE == "rectangle":
            raise ValueError(
                "IMAGE_RESIZE_MODE is 'rectangle', which gives every image a shape of its own, for "
                "detection; 'square' trains the same network at the same scale."
            )
        check_augmentation(self.augmentation)
        leasts = {"batch_size": 1, "steps": 1, "workers": 1, "seed": 0, "epoch": 0}
        for name, least in leasts.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least}.")
        if not 0 <= self.share[0] < self.share[1]:
            raise ValueError(f"share is {self.share}; it must be (i, n) with 0 <= i < n.")
        if not 0 <= self.max_bad_share <= 1:
            raise ValueError(f"max_bad_share is {self.max_bad_share}; it must be within 0 and 1.")

    def __len__(self) -> int:
        return self.steps

    def on_epoch_begin(self) -> None:
        """Keras calls this before an epoch."""
        self._within_epoch = True

    def on_epoch_end(self) -> None:
        """Go on to the next epoch, if one was begun: Keras calls this before the first one too."""
        self.epoch += self._within_epoch
        self._within_epoch = False

    def __getitem__(self, index: int) -> tuple[tuple[np.ndarray, ...]]:
        if not 0 <= index < self.steps:
            raise IndexError(f"batch {index} of an epoch of {self.steps} batches.")
        try:
            return (_stack(self.examples(index), self.config),)
        except Exception as error:
            self.failure = self.failure or error
            raise

    def examples(self, index: int) -> list[Example]:
        """The images of batch `index` of the current epoch before they are stacked."""
        self._stop_if_too_many_bad()
        part, parts = self.share
        first = ((self.epoch * self.steps + index) * parts + part) * self.batch_size
        return [self._example(first + k) for k in range(self.batch_size)]

    def _example(self, position: int) -> Example:
        """The image at a position of the endless sequence of passes, or its stand-in."""
        for image_id in self._candidates(position):
            if image_id in self.skipped:
                continue
            rng = self._generator(_IMAGE, position, image_id)
            sample = self._sample(image_id, rng)
            if sample is not None:
                return self._with_targets(sample, rng)
        raise ValueError(
            "no image has an object left after resizing, cropping and augmentation; look at "
            "IMAGE_RESIZE_MODE, IMAGE_MIN_DIM and the augmenter."
        )

    def _candidates(self, position: int) -> Iterator[int]:
        """The image at a position, then the others of its pass from a random one on."""
        count = len(self._image_ids)
        number, place = divmod(position, count)
        order = _order(count, self.seed, number) if self.shuffle else np.arange(count)
        yield int(self._image_ids[order[place]])
        start = int(self._generator(_REPLACEMENT, position).integers(count))
        for other in np.roll(order, -start):
            if other != order[place]:
                yield int(self._image_ids[other])

    def _generator(self, *key: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, *key))

    def _sample(self, image_id: int, rng: np.random.Generator) -> Sample | None:
        """The image with its objects, None where it cannot be trained on."""
        try:
            annotated = self._read_usable(image_id)
        except (OSError, ValueError) as error:
            self._skip(image_id, error)
            return None
        except Exception as error:
            note = f"This came from the Dataset, at {describe_image(self.dataset, image_id)}."
            getattr(error, "add_note", log.error)(note)  # Python 3.10 has no notes
            raise
        augmentation = self._augmentation_of(image_id)
        sample = _fit(
            self.dataset, self.config, image_id, annotated, self.augment, augmentation, rng
        )
        if (sample.class_ids > 0).any() or self.config.TRAIN_EMPTY_IMAGES:
            return sample
        self._note_emptied(image_id)
        return None

    def _read_usable(self, image_id: int) -> Annotated:
        """`_read`, and an error for what is no mistake but cannot be trained on."""
        annotated = _read(self.dataset, self.config, image_id)
        height, width = annotated.image.shape[:2]
        if not (annotated.class_ids > 0).any() and not self.config.TRAIN_EMPTY_IMAGES:
            raise _NoObjects("it has no objects.")
        if self.config.IMAGE_RESIZE_MODE == "none" and (height % 64 or width % 64):
            raise ValueError(
                f"its size is {height}x{width}; with IMAGE_RESIZE_MODE 'none' both sides must be "
                "multiples of 64."
            )
        with self._lock:
            self._tried.add(image_id)
        return annotated

    def _augmentation_of(self, image_id: int):
        source = self.dataset.image_info[image_id]["source"]
        return None if source in self.no_augmentation_sources else self.augmentation

    def _with_targets(self, sample: Sample, rng: np.random.Generator) -> Example:
        config = self.config
        anchors = self._anchors(sample.image.shape)
        rpn_match, rpn_bbox = build_rpn_targets(
            sample.image.shape, anchors, sample.class_ids, sample.boxes, config, rng=rng
        )
        if len(sample.class_ids) > config.MAX_GT_INSTANCES:
            kept = rng.choice(len(sample.class_ids), config.MAX_GT_INSTANCES, replace=False)
            sample = _select(sample, kept)
        masks = _masks_of(sample, config.MINI_MASK_SHAPE if config.USE_MINI_MASK else None)
        return Example(sample, masks, rpn_match, rpn_bbox)

    def _skip(self, image_id: int, error: Exception) -> None:
        """Leave an image out from now on, say so once, and stop when it is one too many."""
        with self._lock:
            self._tried.add(image_id)
            if image_id not in self.skipped:
                reason = self.skipped[image_id] = str(error) or type(error).__name__
                is_named = not isinstance(error, _NoObjects) or not self._without_objects
                if isinstance(error, _NoObjects):
                    self._without_objects.add(image_id)
                    reason += " So are all others without objects."
                if is_named:
                    name = describe_image(self.dataset, image_id)
                    log.warning("%s is left out: %s", name, reason)
        self._stop_if_too_many_bad()

    def _note_emptied(self, image_id: int) -> None:
        with self._lock:
            if image_id not in self._emptied:
                self._emptied.add(image_id)
                log.warning(
                    "%s has no object left after resizing, cropping and augmentation; where this "
                    "happens another image stands in for it.",
                    describe_image(self.dataset, image_id),
                )

    def _stop_if_too_many_bad(self) -> None:
        with self._lock:
            tried, count = len(self._tried), len(self._image_ids)
            none_left = len(self.skipped) == count
            bad = len(self.skipped) - (0 if none_left else len(self._without_objects))
            too_many = (
                none_left
                or bad > max(1, self.max_bad_share * count)
                or (tried >= _ENOUGH_TO_JUDGE and bad > max(0.5, self.max_bad_share) * tried)
            )
            if too_many:
                raise ValueError(
                    f"{bad} of the {tried} images tried cannot be trained on (the data set has "
                    f"{count}, max_bad_share is {self.max_bad_share}):\n{self._bad_list(none_left)}"
                )

    def _bad_list(self, with_empty: bool) -> str:
        listed = [i for i in self.skipped if with_empty or i not in self._without_objects]
        lines = [
            f"  {describe_image(self.dataset, image_id)}: {self.skipped[image_id]}"
            for image_id in listed[:_LISTED]
        ]
        if len(listed) > _LISTED:
            lines.append(f"  and {len(listed) - _LISTED} more")
        return "\n".join(lines)


@functools.lru_cache(maxsize=8)
def _order(count: int, seed: int, number: int) -> np.ndarray:
    """The order of a pass, `[count]` int."""
    order = np.random.default_rng((seed, _ORDER, number)).permutation(count)
    order.setflags(write=False)
    return order


def _stack(examples: list[Example], config) -> tuple[np.ndarray, ...]:
    """The seven inputs of the training graph, see `BatchLoader`."""
    shapes = {example.sample.image.shape for example in examples}
    if len(shapes) > 1:
        raise ValueError(
            f"images of a batch have the shapes {sorted(shapes)}; IMAGE_RESIZE_MODE "
            f"{config.IMAGE_RESIZE_MODE!r} leaves them different. Use 'square' or 'crop', or a "
            "batch of one image (IMAGES_PER_GPU = 1, GPU_COUNT = 1)."
        )
    samples = [example.sample for example in examples]
    count = config.MAX_GT_INSTANCES
    images = np.empty((len(samples), *samples[0].image.shape), np.float32)
    for sample, molded in zip(samples, images, strict=True):
        mold_image(sample.image, config, out=molded)
    return (
        images,
        np.stack([sample.meta for sample in samples]).astype(np.float32),
        np.stack([example.rpn_match for example in examples])[:, :, None],
        np.stack([example.rpn_bbox for example in examples]).astype(np.float32),
        np.stack([_padded(sample.class_ids, count, axis=0) for sample in samples]),
        np.stack([_padded(sample.boxes, count, axis=0) for sample in samples]),
        np.stack([_padded(example.masks, count, axis=2) for example in examples]),
    )


def _padded(array: np.ndarray, count: int, axis: int) -> np.ndarray:
    """Zeros appended along an axis up to `count`."""
    padding = [(0, 0)] * array.ndim
    padding[axis] = (0, count - array.shape[axis])
    return np.pad(array, padding)


def data_generator(
    dataset: Dataset,
    config: Config,
    shuffle=True,
    augment=False,
    augmentation=None,
    random_rois=0,
    batch_size=1,
    detection_targets=False,
    no_augmentation_sources=None,
) -> Iterator[tuple[list[np.ndarray], list[np.ndarray]]]:
    """Endless training batches, to inspect or for loops of one's own; `BatchLoader` makes them.

    NumPy's global state at the call decides on everything random.

    Args:
        random_rois: this many random ROIs an image as an eighth input, to train the heads without
            the RPN (USE_RPN_ROIS = False).
        detection_targets: add the second stage's targets for these: TRAIN_ROIS_PER_IMAGE ROIs as
            a ninth input; class ids `[B, R, 1]`, deltas and masks as outputs, see
            `build_detection_targets`.
        The rest as in `BatchLoader`.

    Yields:
        `(inputs, outputs)`, two lists; the seven inputs of `BatchLoader`, and no outputs.

    Raises:
        ValueError: as `BatchLoader`; detection_targets without random_rois.
    """
    if detection_targets and not random_rois:
        raise ValueError("detection_targets are made for random_rois, which is 0.")
    loader = BatchLoader(
        dataset,
        config,
        batch_size=batch_size,
        shuffle=shuffle,
        augment=augment,
        augmentation=augmentation,
        no_augmentation_sources=no_augmentation_sources,
        seed=int(np.random.randint(2**31)),
    )
    return _endless(loader, random_rois, detection_targets)


def _endless(loader: BatchLoader, random_rois: int, detection_targets: bool):
    while True:
        for index in range(len(loader)):
            examples = loader.examples(index)
            inputs, outputs = list(_stack(examples, loader.config)), []
            if random_rois:
                rng = np.random.default_rng((loader.seed, _ROIS, loader.epoch, index))
                rois, targets = _roi_arrays(
                    examples, random_rois, detection_targets, loader.config, rng
                )
                inputs, outputs = inputs + rois, outputs + targets
            yield inputs, outputs
        loader.epoch += 1


def _roi_arrays(examples, count, with_targets, config, rng):
    """Random ROIs and, if wanted, the second stage's targets: the inputs and outputs they add."""
    samples = [example.sample for example in examples]
    rois = [
        generate_random_rois(s.image.shape, count, s.class_ids, s.boxes, rng=rng) for s in samples
    ]
    if not with_targets:
        return [np.stack(rois)], []
    made = [
        build_detection_targets(r, e.sample.class_ids, e.sample.boxes, e.masks, config, rng=rng)
        for r, e in zip(rois, examples, strict=True)
    ]
    chosen, class_ids, deltas, masks = (np.stack(parts) for parts in zip(*made, strict=True))
    return [np.stack(rois), chosen], [class_ids[:, :, None], deltas, masks]
