"""Batches for training: `load_image_gt` for one image, `BatchLoader` for Keras' `fit`.

Why `keras.utils.PyDataset` with **threads**. Processes that are forked after TensorFlow has started
its threads can hang for ever ("stuck at epoch 1"). Spawned processes must import and pickle the
Dataset, which fails for a class defined in a notebook. The library grain runs its workers in such
processes too, and would be one more dependency. Threads share the Dataset and cannot hang in that
way. Most of the work for a batch (decoding, resizing, warping, reductions) is done by libraries
that release Python's lock. A `load_mask` in pure Python holds the lock: make it faster, or store
the masks in files.

Batch `i` of an epoch depends only on `(seed, epoch, i)`. The number of workers and other random
draws have no influence.

Letters in shapes: B is the number of images per batch, A of anchors, T is
RPN_TRAIN_ANCHORS_PER_IMAGE, M is MAX_GT_INSTANCES, N is the number of objects of an image; H and W
are the height and width of an image, h and w are those of MINI_MASK_SHAPE, or of the image without
USE_MINI_MASK.
"""

from __future__ import annotations

import functools
import itertools
import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import keras
import numpy as np

from mrcnn.config import Config
from mrcnn.data.annotated import Annotated, UnusableImage, load_annotated
from mrcnn.data.augment import augment as apply_augmentation
from mrcnn.data.augment import check_augmentation
from mrcnn.data.bad_images import BadImages
from mrcnn.data.dataset import Dataset, describe_image
from mrcnn.data.image import (
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
from mrcnn.messages import did_you_mean, listed

logger = logging.getLogger("mrcnn")

# The first number of a random generator's key: draws for different purposes are independent.
_ORDER, _IMAGE, _REPLACEMENT, _ROIS = range(4)
# Class names in a message.
_LISTED_CLASSES = 20


@dataclass(frozen=True)
class Sample:
    """One image, resized and augmented, with its objects."""

    image: np.ndarray  # [H, W, channels], not molded
    meta: np.ndarray  # [12 + NUM_CLASSES]
    class_ids: np.ndarray  # [N] int32, negative for a crowd
    boxes: np.ndarray  # [N, (y1, x1, y2, x2)] int32 pixels
    masks: MaskView  # of [H, W, N] bool
    neutral: np.ndarray | None = None  # [H, W] bool, with USE_NEUTRAL_PIXELS


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
    augment: bool = False,
    augmentation: Any = None,
    use_mini_mask: bool = False,
    *,
    rng: np.random.Generator | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Load an image and its ground truth, resized (and augmented) as for training.

    Args:
        dataset: a prepared Dataset with NUM_CLASSES classes.
        config: its settings for images and masks are used.
        image_id: the image's id in the dataset.
        augment: True mirrors every second image on average.
        augmentation: an augmenter, see `mrcnn.data.augment`, or None.
        use_mini_mask: return mini-masks of MINI_MASK_SHAPE.
        rng: the source of everything random; without it NumPy's global state.

    Returns:
        image `[H, W, channels]`, not molded; image meta `[12 + NUM_CLASSES]` float64; class ids
        `[N]` int32, negative for a crowd; boxes `[N, (y1, x1, y2, x2)]` int32 in pixels; masks
        `[H, W, N]` bool or `[h, w, N]`. Objects without a pixel are left out.

    Raises:
        ValueError: the image or its annotation is wrong: masks smaller than the image, not one
            class id per mask, a class id that NUM_CLASSES does not include, a number of channels
            that cannot become IMAGE_CHANNEL_COUNT. The message names the image.
        OSError: the file cannot be read. Other errors of the Dataset are raised unchanged.
    """
    _check_classes(dataset, config)
    rng = random_generator(rng)
    try:
        annotated = load_annotated(dataset, config, image_id)
    except ValueError as error:
        raise ValueError(f"{describe_image(dataset, image_id)}: {error}") from error
    if annotated.cut_from:
        logger.warning("%s %s", describe_image(dataset, image_id), _cut_text(annotated))
    sample = _fit(dataset, config, image_id, annotated, augment, augmentation, rng)
    masks = _masks_of(sample, config.MINI_MASK_SHAPE if use_mini_mask else None)
    return sample.image, sample.meta, sample.class_ids, sample.boxes, masks


def _cut_text(annotated: Annotated) -> str:
    assert annotated.cut_from is not None
    height, width = annotated.image.shape[:2]
    return (
        f"has masks of {annotated.cut_from[0]}x{annotated.cut_from[1]} pixels for an image of "
        f"{height}x{width}; they are cut to the image. If load_image resizes the image, load_mask "
        "must resize the masks."
    )


def _check_prepared(dataset: Dataset) -> None:
    if not hasattr(dataset, "num_classes"):
        raise ValueError(f"{type(dataset).__name__} is not prepared; call prepare() first.")


def _check_classes(dataset: Dataset, config: Config) -> None:
    _check_prepared(dataset)
    if dataset.num_classes != config.NUM_CLASSES:
        raise ValueError(
            f"{type(dataset).__name__} has {dataset.num_classes} classes, background included, and "
            f"NUM_CLASSES is {config.NUM_CLASSES}; they must be equal."
        )


def check_same_classes(train_dataset: Dataset, val_dataset: Dataset | None) -> None:
    """Refuse a validation set in which a class id means another class than in the training set.

    Args:
        train_dataset: a prepared Dataset.
        val_dataset: another one, or None.

    Raises:
        ValueError: the class names of the two data sets or their order differ.
    """
    if val_dataset is None:
        return
    for dataset in (train_dataset, val_dataset):
        _check_prepared(dataset)
    train_names, val_names = train_dataset.class_names[1:], val_dataset.class_names[1:]
    pairs = list(itertools.zip_longest(train_names, val_names))
    different = [class_id for class_id, (one, other) in enumerate(pairs, 1) if one != other]
    if different:
        in_train, in_val = (
            "missing" if name is None else repr(name) for name in pairs[different[0] - 1]
        )
        raise ValueError(
            f"class {different[0]} is {in_train} in the training set and {in_val} in the "
            "validation set; both must have the same classes in the same order. The training set "
            f"has {listed(train_names, _LISTED_CLASSES)}; the validation set has "
            f"{listed(val_names, _LISTED_CLASSES)}."
        )


def _fit(
    dataset: Dataset,
    config: Config,
    image_id: int,
    annotated: Annotated,
    augment: bool,
    augmentation: Any,
    rng: np.random.Generator,
) -> Sample:
    """Resize, flip and augment an image and its masks; leave out objects without a pixel."""
    image, window, scale, padding, crop = resize_image(
        annotated.image,
        min_dim=config.IMAGE_MIN_DIM,
        max_dim=config.IMAGE_MAX_DIM,
        min_scale=config.IMAGE_MIN_SCALE,
        mode=config.IMAGE_RESIZE_MODE,
        rng=rng,
    )
    count, marked = annotated.masks.shape[2], annotated.masks
    if annotated.neutral is not None:  # it goes the way of the masks, as the last of them
        marked = np.concatenate([marked, annotated.neutral[:, :, None]], axis=2)
    masks = view_resized(marked, scale, padding, crop)
    if augment and rng.random() < 0.5:
        image, masks = image[:, ::-1], masks.mirrored()
    if augmentation is not None:
        image, array = apply_augmentation(image, masks.array(), augmentation, rng)
        masks = view_of(array)

    neutral = None
    if annotated.neutral is not None:
        neutral, masks = masks.select([count]).array()[:, :, 0], masks.select(range(count))
    active = _active_classes(dataset, image_id)
    original_shape = annotated.image.shape
    meta = compose_image_meta(image_id, original_shape, image.shape, window, scale, active)
    boxes = masks.boxes()
    left = np.flatnonzero(boxes[:, 2] > boxes[:, 0])
    return _select(Sample(image, meta, annotated.class_ids, boxes, masks, neutral), left)


def _active_classes(dataset: Dataset, image_id: int) -> np.ndarray:
    """`[NUM_CLASSES]` int32: 1 for the classes of the image's source; it trains only these."""
    active = np.zeros(dataset.num_classes, np.int32)
    active[dataset.source_class_ids[dataset.image_info[image_id]["source"]]] = 1
    return active


def _select(sample: Sample, ids: np.ndarray) -> Sample:
    """The sample with only these of its objects."""
    if len(ids) == len(sample.class_ids):
        return sample
    return replace(
        sample,
        class_ids=sample.class_ids[ids],
        boxes=sample.boxes[ids],
        masks=sample.masks.select(ids),
    )


def _masks_of(sample: Sample, mini_shape: Sequence[int] | None) -> np.ndarray:
    """Mini-masks `[h, w, N]` bool, or masks `[H, W, N]` bool where `mini_shape` is None."""
    if mini_shape is None:
        return sample.masks.array()
    return sample.masks.minimize(sample.boxes, mini_shape)


class BatchLoader(keras.utils.PyDataset):
    """Training batches of a Dataset for `fit`, made by threads and reproducible by `seed`.

    A **pass** shows every image once; each pass has another order. An **epoch** is `steps` batches.
    The next epoch continues where the last one ended, which may be in the middle of a pass.

    An image is **bad** if the Dataset raises any Exception for it, or if its annotation is wrong.
    Each bad image is named once in a warning and left out from then on. Another image of the pass
    replaces it, so that batches stay full. Too many bad images stop the run with their list and
    the traceback of the first error: more than `max_bad_share` of the data set (one bad image is
    always allowed), more than half of at least 20 tried images, or all.

    An image without objects is left out too, but it is not bad: many data sets contain any number
    of empty scenes. Only the first one is named. An image whose masks are all empty is treated in
    the same way. With TRAIN_EMPTY_IMAGES such images are used for training.

    Give it to `fit` with `shuffle=False`, because `fit` would otherwise shuffle the batches with
    Python's global random state. Several threads call `load_image` and `load_mask` at once.

    Item `i` is `(inputs,)` with the seven inputs of the training graph:
    images `[B, H, W, channels]` float32, molded; image metas `[B, 12 + NUM_CLASSES]` float32;
    rpn_match `[B, A, 1]` int32; rpn_bbox `[B, T, 4]` float32; class ids `[B, M]` int32;
    boxes `[B, M, (y1, x1, y2, x2)]` int32 in pixels; masks `[B, h, w, M]` bool. The last three are
    padded with zeros. With USE_NEUTRAL_PIXELS an eighth input follows, `[B, H, W]` bool.

    Args:
        dataset: a prepared Dataset.
        config: the settings; NUM_CLASSES must be the dataset's number of classes.
        batch_size: number of images per batch, config.BATCH_SIZE by default.
        steps: number of batches per epoch, by default enough for every image.
        shuffle: False keeps the dataset's order.
        augment: mirror every second image on average.
        augmentation: an augmenter, see `mrcnn.data.augment`.
        no_augmentation_sources: names of sources, or one name; `augmentation` leaves the images of
            these sources alone.
        seed: the seed of order, crops, augmentation and the choice of anchors.
        initial_epoch: the first epoch, to resume a run.
        shard: `(i, n)`: load part i, counted from 0, of batches of `n * batch_size` images.
        workers: number of threads that make batches ahead of time.
        max_bad_share: the share of images, 0 to 1, that may be bad;
            config.MAX_BAD_IMAGE_SHARE by default.

    Attributes:
        epoch: the current epoch. `fit` advances it; your own loop sets it.
        skipped: image id to the reason why the image is left out.
        failure: the exception that ended the loading, or None. Keras on TensorFlow raises another
            error instead, which has only the text of this one.

    Raises:
        ValueError: the dataset has no images or another number of classes than the config, or an
            argument is out of range.
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
        augmentation: Any = None,
        no_augmentation_sources: str | Iterable[str] | None = None,
        seed: int = 0,
        initial_epoch: int = 0,
        shard: tuple[int, int] = (0, 1),
        workers: int = 4,
        max_bad_share: float | None = None,
    ):
        super().__init__(workers=workers, use_multiprocessing=False, max_queue_size=2 * workers)
        self.dataset = dataset
        self.config = config
        self.batch_size = config.BATCH_SIZE if batch_size is None else batch_size
        self.shard = shard
        whole_pass = math.ceil(len(dataset.image_ids) / max(self.batch_size * shard[1], 1))
        self.steps = whole_pass if steps is None else steps
        self.shuffle = shuffle
        self.augment = augment
        self.augmentation = augmentation
        self.no_augmentation_sources = _source_names(no_augmentation_sources)
        self.seed = seed
        self.epoch = initial_epoch
        self._within_epoch = False
        self.max_bad_share = config.MAX_BAD_IMAGE_SHARE if max_bad_share is None else max_bad_share
        self.failure: Exception | None = None
        self._check()
        self._image_ids = np.array(dataset.image_ids)
        self._bad_images = BadImages(dataset, self.max_bad_share)
        self.skipped = self._bad_images.reasons
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
                "IMAGE_RESIZE_MODE is 'rectangle', which gives images different shapes and is for "
                "detection; 'square' trains the same network at the same scale."
            )
        check_augmentation(self.augmentation)
        _warn_of_unknown_sources(self.no_augmentation_sources, self.dataset)
        least_values = {"batch_size": 1, "steps": 1, "workers": 1, "seed": 0, "epoch": 0}
        for name, least in least_values.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least}.")
        if not 0 <= self.shard[0] < self.shard[1]:
            raise ValueError(f"shard is {self.shard}; it must be (i, n) with 0 <= i < n.")
        if not 0 <= self.max_bad_share <= 1:
            raise ValueError(f"max_bad_share is {self.max_bad_share}; it must be from 0 to 1.")

    def __len__(self) -> int:
        return self.steps

    def on_epoch_begin(self) -> None:
        """Keras calls this before an epoch."""
        self._within_epoch = True

    def on_epoch_end(self) -> None:
        """Advance to the next epoch if one has begun: Keras also calls this before the first."""
        self.epoch += self._within_epoch
        self._within_epoch = False

    def __getitem__(self, index: int) -> tuple[tuple[np.ndarray, ...]]:
        if not 0 <= index < self.steps:
            raise IndexError(f"there is no batch {index}; an epoch has {self.steps} batches.")
        try:
            return (_stack(self.examples(index), self.config),)
        except Exception as error:
            self.failure = self.failure or error
            raise

    def examples(self, index: int) -> list[Example]:
        """The images of batch `index` of the current epoch, before they are stacked."""
        self._bad_images.stop_if_too_many()
        part, parts = self.shard
        first = ((self.epoch * self.steps + index) * parts + part) * self.batch_size
        return [self._example(first + k) for k in range(self.batch_size)]

    def _example(self, position: int) -> Example:
        """The image at a position of the endless sequence of passes, or its replacement."""
        for image_id in self._candidates(position):
            if image_id in self.skipped:
                continue
            rng = self._generator(_IMAGE, position, image_id)
            sample = self._sample(image_id, rng)
            if sample is not None:
                return self._with_targets(sample, rng)
        raise ValueError(
            "no image has an object left after resizing, cropping and augmentation; check "
            "IMAGE_RESIZE_MODE, IMAGE_MIN_DIM and the augmenter."
        )

    def _candidates(self, position: int) -> Iterator[int]:
        """The image at a position, then the other images of its pass, beginning at a random one."""
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
        """The image with its objects, or None if it cannot be used for training."""
        trains_empty = self.config.TRAIN_EMPTY_IMAGES
        try:
            annotated = load_annotated(self.dataset, self.config, image_id)
            is_usable = annotated.has_objects() or trains_empty
            if is_usable:
                _check_size(annotated.image, self.config)
        except Exception as error:  # the user's code may raise any error
            self._bad_images.add_bad(image_id, error)
            return None
        if not is_usable:
            self._bad_images.add_empty(image_id, "without objects", "it has no objects.")
            return None
        self._bad_images.add_good(image_id)
        if annotated.cut_from:
            self._bad_images.warn_once(image_id, "with large masks", _cut_text(annotated))
        augmentation = self._augmentation_of(image_id)
        sample = _fit(
            self.dataset, self.config, image_id, annotated, self.augment, augmentation, rng
        )
        if (sample.class_ids > 0).any():
            return sample
        self._note_lost_objects(image_id, annotated)
        return sample if trains_empty else None

    def _note_lost_objects(self, image_id: int, annotated: Annotated) -> None:
        """Log once why an image has no objects left."""
        trains_empty = self.config.TRAIN_EMPTY_IMAGES
        if annotated.has_objects() and not annotated.has_object_pixels():
            kind, reason = "with only empty masks", "its masks have no pixel; check load_mask."
            if trains_empty:
                text = f"is trained on as an image without objects: {reason}"
                self._bad_images.warn_once(image_id, kind, text)
            else:
                self._bad_images.add_empty(image_id, kind, reason)
        elif not trains_empty:
            self._bad_images.warn_once(
                image_id,
                "without a visible object",
                "has no object left after resizing, cropping and augmentation; another image "
                "replaces it whenever this happens.",
            )

    def _augmentation_of(self, image_id: int) -> Any:
        source = self.dataset.image_info[image_id]["source"]
        return None if source in self.no_augmentation_sources else self.augmentation

    def _with_targets(self, sample: Sample, rng: np.random.Generator) -> Example:
        config = self.config
        anchors = self._anchors(sample.image.shape)
        rpn_match, rpn_bbox = build_rpn_targets(
            sample.image.shape,
            anchors,
            sample.class_ids,
            sample.boxes,
            config,
            neutral=sample.neutral,
            rng=rng,
        )
        if len(sample.class_ids) > config.MAX_GT_INSTANCES:
            kept = rng.choice(len(sample.class_ids), config.MAX_GT_INSTANCES, replace=False)
            sample = _select(sample, kept)
        masks = _masks_of(sample, config.MINI_MASK_SHAPE if config.USE_MINI_MASK else None)
        return Example(sample, masks, rpn_match, rpn_bbox)


def _check_size(image: np.ndarray, config: Config) -> None:
    height, width = image.shape[:2]
    if config.IMAGE_RESIZE_MODE == "none" and (height % 64 or width % 64):
        raise UnusableImage(
            f"its size is {height}x{width}; with IMAGE_RESIZE_MODE 'none' both sides must be "
            "multiples of 64."
        )


def _source_names(sources: str | Iterable[str] | None) -> tuple[str, ...]:
    """The names of sources that are not augmented; a string is one name."""
    names = (sources,) if isinstance(sources, str) else tuple(sources or ())
    wrong = [name for name in names if not isinstance(name, str)]
    if wrong:
        raise ValueError(
            f"no_augmentation_sources has {wrong[0]!r}; it must be the name of a source, such as "
            "'coco', or a list of names."
        )
    return names


def _warn_of_unknown_sources(names: Sequence[str], dataset: Dataset) -> None:
    """Warn of names that no image has as its source: a script may serve several data sets."""
    known = sorted({info["source"] for info in dataset.image_info})
    for name in sorted(set(names) - set(known)):
        logger.warning(
            "no_augmentation_sources names %r, but no image is of this source; the sources of the "
            "images are %s.%s",
            name,
            listed(known),
            did_you_mean(name, known),
        )


@functools.lru_cache(maxsize=8)
def _order(count: int, seed: int, number: int) -> np.ndarray:
    """The order of the images in a pass, `[count]` int."""
    order = np.random.default_rng((seed, _ORDER, number)).permutation(count)
    order.setflags(write=False)
    return order


def _stack(examples: list[Example], config: Config) -> tuple[np.ndarray, ...]:
    """The inputs of the training graph; `BatchLoader` has their shapes."""
    shapes = {example.sample.image.shape for example in examples}
    if len(shapes) > 1:
        raise ValueError(
            f"the images of a batch have the shapes {sorted(shapes)}, because IMAGE_RESIZE_MODE is "
            f"{config.IMAGE_RESIZE_MODE!r}. Use 'square' or 'crop', or batches of one image "
            "(IMAGES_PER_GPU = 1, GPU_COUNT = 1)."
        )
    samples = [example.sample for example in examples]
    count = config.MAX_GT_INSTANCES
    images = np.empty((len(samples), *samples[0].image.shape), np.float32)
    for sample, molded in zip(samples, images, strict=True):
        mold_image(sample.image, config, out=molded)
    neutral = [sample.neutral for sample in samples if sample.neutral is not None]
    return (
        images,
        np.stack([sample.meta for sample in samples]).astype(np.float32),
        np.stack([example.rpn_match for example in examples])[:, :, None],
        np.stack([example.rpn_bbox for example in examples]).astype(np.float32),
        np.stack([_padded(sample.class_ids, count, axis=0) for sample in samples]),
        np.stack([_padded(sample.boxes, count, axis=0) for sample in samples]),
        np.stack([_padded(example.masks, count, axis=2) for example in examples]),
        *([np.stack(neutral)] if neutral else []),
    )


def _padded(array: np.ndarray, count: int, axis: int) -> np.ndarray:
    """The array with zeros appended along an axis until its length is `count`."""
    padding = [(0, 0)] * array.ndim
    padding[axis] = (0, count - array.shape[axis])
    return np.pad(array, padding)


def data_generator(
    dataset: Dataset,
    config: Config,
    shuffle: bool = True,
    augment: bool = False,
    augmentation: Any = None,
    random_rois: int = 0,
    batch_size: int = 1,
    detection_targets: bool = False,
    no_augmentation_sources: str | Iterable[str] | None = None,
) -> Iterator[tuple[list[np.ndarray], list[np.ndarray]]]:
    """Endless training batches, to inspect or for your own training loop.

    A `BatchLoader` makes them. NumPy's global state at the time of the call is the only source of
    everything random.

    Args:
        dataset, config, shuffle, augment, augmentation, batch_size, no_augmentation_sources: as in
            `BatchLoader`.
        random_rois: number of random ROIs per image in an eighth input, to train the heads
            without the RPN (USE_RPN_ROIS = False).
        detection_targets: add the second stage's targets for these ROIs: a ninth input with
            TRAIN_ROIS_PER_IMAGE (R) chosen ROIs; and as outputs class ids `[B, R, 1]`, deltas and
            masks, see `build_detection_targets`.

    Yields:
        `(inputs, outputs)`, two lists: the seven inputs of `BatchLoader`, and no outputs, unless
        the last two arguments add some.

    Raises:
        ValueError: as `BatchLoader`; or detection_targets without random_rois.
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


def _endless(
    loader: BatchLoader, random_rois: int, detection_targets: bool
) -> Iterator[tuple[list[np.ndarray], list[np.ndarray]]]:
    while True:
        for index in range(len(loader)):
            examples = loader.examples(index)
            inputs = list(_stack(examples, loader.config))
            outputs: list[np.ndarray] = []
            if random_rois:
                rng = np.random.default_rng((loader.seed, _ROIS, loader.epoch, index))
                rois, targets = _roi_arrays(
                    examples, random_rois, detection_targets, loader.config, rng
                )
                inputs, outputs = inputs + rois, outputs + targets
            yield inputs, outputs
        loader.epoch += 1


def _roi_arrays(
    examples: list[Example],
    count: int,
    with_targets: bool,
    config: Config,
    rng: np.random.Generator,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Random ROIs and, if wanted, the second stage's targets, as further inputs and outputs."""
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
