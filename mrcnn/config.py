"""Config: what a run is, as UPPERCASE attributes that a subclass overrides.

A subclass states its differences from the defaults and may add attributes of its own::

    class BalloonConfig(Config):
        NAME = "balloon"
        NUM_CLASSES = 1 + 1
        STEPS_PER_EPOCH = 100

Values that follow from others (`BATCH_SIZE`, `IMAGE_SHAPE`, `IMAGE_META_SIZE`) are computed when
read, so that they are right whenever and wherever an attribute was changed.
"""

from __future__ import annotations

import copy
import difflib
import json
import math
import numbers
import warnings

import numpy as np

from mrcnn.files import read_json, write_text
from mrcnn.messages import did_you_mean
from mrcnn.types import PathLike

RESIZE_MODES = ("square", "rectangle", "pad64", "crop", "none")
OPTIMIZERS = ("sgd", "adam", "adamw")
SCHEDULES = ("constant", "step", "cosine")
DTYPE_POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")
BACKBONES = ("resnet50", "resnet101", "resnet50_v1_5", "resnet101_v1_5")
# The five losses, named as in progress bars, TensorBoard and LOSS_WEIGHTS.
LOSS_NAMES = (
    "rpn_class_loss",
    "rpn_bbox_loss",
    "mrcnn_class_loss",
    "mrcnn_bbox_loss",
    "mrcnn_mask_loss",
)


class derived:
    """An attribute computed on every read, until somebody assigns it on class or instance."""

    def __init__(self, compute):
        self.compute = compute
        self.__doc__ = compute.__doc__

    def __get__(self, instance, owner):
        return self if instance is None else self.compute(instance)


class Config:
    """Every setting of network, training and detection, with the original's names and defaults."""

    # ---- Run --------------------------------------------------------------------------------
    # Name of the experiment; the run folder and the checkpoints carry it.
    NAME = None
    # A batch is GPU_COUNT * IMAGES_PER_GPU images. Training uses GPU_COUNT devices, or one where
    # there are fewer: docs/distribution.md.
    GPU_COUNT = 1
    IMAGES_PER_GPU = 2
    # An epoch is this many batches: it ends in validation, TensorBoard and a checkpoint. It need
    # not be one pass over the data; the images go on where the last epoch left them.
    STEPS_PER_EPOCH = 1000
    VALIDATION_STEPS = 50
    # How many of a run's latest checkpoints to keep; None keeps all.
    KEEP_CHECKPOINTS = None

    # ---- Network ----------------------------------------------------------------------------
    # "resnet50", "resnet101"; "resnet50_v1_5", "resnet101_v1_5" for weights of PyTorch; or a
    # callable (input_image, stage5=True, train_bn=...) -> [C1, C2, C3, C4, C5].
    BACKBONE = "resnet101"
    # For a callable BACKBONE: image_shape -> [levels, (height, width)] of its pyramid.
    COMPUTE_BACKBONE_SHAPE = None
    # Pixels from one cell of P2 ... P6 to the next.
    BACKBONE_STRIDES = [4, 8, 16, 32, 64]
    FPN_CLASSIF_FC_LAYERS_SIZE = 1024
    TOP_DOWN_PYRAMID_SIZE = 256
    # Background counts as one.
    NUM_CLASSES = 1
    POOL_SIZE = 7
    MASK_POOL_SIZE = 14
    # Twice MASK_POOL_SIZE: the mask head has one deconvolution of stride 2.
    MASK_SHAPE = [28, 28]
    # Batch normalisation. False: moving statistics, also while training (small batches).
    # None: batch statistics while training, moving ones otherwise. True: always batch statistics.
    TRAIN_BN = False

    # ---- Images -----------------------------------------------------------------------------
    # square: scaled, then padded to IMAGE_MAX_DIM x IMAGE_MAX_DIM. rectangle: scaled alike, then
    # padded to a multiple of 64, for detection: a quarter fewer pixels for a photo of 4:3.
    # pad64: padded to a multiple of 64, without IMAGE_MAX_DIM. crop: random crop of IMAGE_MIN_DIM x
    # IMAGE_MIN_DIM. none: left as they are.
    IMAGE_RESIZE_MODE = "square"
    IMAGE_MIN_DIM = 800
    IMAGE_MAX_DIM = 1024
    # Smallest enlargement; 0 for none. Looked at before IMAGE_MIN_DIM.
    IMAGE_MIN_SCALE = 0
    IMAGE_CHANNEL_COUNT = 3
    # One value a channel, subtracted from images of 0..255.
    MEAN_PIXEL = np.array([123.7, 116.8, 103.9])
    # Then divided by this, one number or one a channel. Weights of PyTorch want both times 255 of
    # what is said for images of 0..1: of ImageNet, [123.675, 116.28, 103.53] and
    # [58.395, 57.12, 57.375].
    PIXEL_STD = 1.0

    # ---- Anchors and proposals --------------------------------------------------------------
    # Side of a square anchor in pixels, one a pyramid level.
    RPN_ANCHOR_SCALES = (32, 64, 128, 256, 512)
    # Width / height.
    RPN_ANCHOR_RATIOS = [0.5, 1, 2]
    # 1: anchors on every cell of a feature map; 2: on every other.
    RPN_ANCHOR_STRIDE = 1
    RPN_NMS_THRESHOLD = 0.7
    RPN_TRAIN_ANCHORS_PER_IMAGE = 256
    # Anchors kept by score before, proposals kept after non-maximum suppression.
    PRE_NMS_LIMIT = 6000
    POST_NMS_ROIS_TRAINING = 2000
    POST_NMS_ROIS_INFERENCE = 1000
    # Deltas are divided by these, so that their targets have a spread near 1.
    RPN_BBOX_STD_DEV = np.array([0.1, 0.1, 0.2, 0.2])
    BBOX_STD_DEV = np.array([0.1, 0.1, 0.2, 0.2])

    # ---- Training targets -------------------------------------------------------------------
    # Masks are cut to their box and stored at this (height, width): less memory, a little blur.
    USE_MINI_MASK = True
    MINI_MASK_SHAPE = (56, 56)
    TRAIN_ROIS_PER_IMAGE = 200
    ROI_POSITIVE_RATIO = 0.33
    # Objects beyond this number are left out, at random.
    MAX_GT_INSTANCES = 100
    # False: the training graph takes ROIs as an eighth input in place of the RPN's.
    USE_RPN_ROIS = True
    # True: images without objects train too, RPN and class head see background alone in them.
    # False: they are left out.
    TRAIN_EMPTY_IMAGES = False

    # ---- Detection --------------------------------------------------------------------------
    DETECTION_MAX_INSTANCES = 100
    DETECTION_MIN_CONFIDENCE = 0.7
    DETECTION_NMS_THRESHOLD = 0.3

    # ---- Optimisation -----------------------------------------------------------------------
    LEARNING_RATE = 0.001
    LEARNING_MOMENTUM = 0.9
    WEIGHT_DECAY = 0.0001
    LOSS_WEIGHTS = {name: 1.0 for name in LOSS_NAMES}
    # Largest norm of all gradients together.
    GRADIENT_CLIP_NORM = 5.0
    # "sgd", with LEARNING_MOMENTUM; "adam" or "adamw", the same but for the decay's default.
    OPTIMIZER = "sgd"
    # What each step takes off a weight, times the learning rate (Loshchilov and Hutter 2019), for
    # any optimizer. Above 0 it alone counts, and WEIGHT_DECAY, L2 in the loss, does not.
    DECOUPLED_WEIGHT_DECAY = 0.0
    # Batches in which the learning rate rises in a line from a thousandth of what it is then.
    WARMUP_STEPS = 0
    # From the first batch of a call of `train` to its last: "constant"; "step", a tenth after each
    # of these parts; "cosine", half a wave down to 0.
    LEARNING_RATE_SCHEDULE = "constant"
    LEARNING_RATE_DROPS = (2 / 3, 8 / 9)
    # Batches whose gradients are averaged for one step of the optimizer.
    GRADIENT_ACCUMULATION_STEPS = 1
    # True: what the blocks of the backbone compute is not kept for the gradients but computed again
    # (Chen et al. 2016), which takes less memory and more time.
    GRADIENT_CHECKPOINTING = False
    # Above 0, checkpoints, validation and detection while training have the moving average of the
    # weights, of which this part stays at each batch: 0.999 for one.
    EMA_MOMENTUM = 0.0
    # Of training and detection: "float32", "mixed_bfloat16" or "mixed_float16". Weights, boxes and
    # losses are float32 in all of them.
    DTYPE_POLICY = "float32"

    # ---- Derived ----------------------------------------------------------------------------
    @derived
    def BATCH_SIZE(self) -> int:
        """Images a batch."""
        return self.IMAGES_PER_GPU * self.GPU_COUNT

    @derived
    def IMAGE_SHAPE(self) -> np.ndarray:
        """`(height, width, channels)` of a molded image."""
        side = self.IMAGE_MIN_DIM if self.IMAGE_RESIZE_MODE == "crop" else self.IMAGE_MAX_DIM
        return np.array([side, side, self.IMAGE_CHANNEL_COUNT])

    @derived
    def IMAGE_META_SIZE(self) -> int:
        """Length of an image meta row: id, two shapes, window, scale, active classes."""
        return 1 + 3 + 3 + 4 + 1 + self.NUM_CLASSES

    # ---- Showing, saving, checking ----------------------------------------------------------
    def names(self) -> list[str]:
        """Names of all settings, the user's own included, in alphabetical order."""
        return [name for name in dir(self) if name.isupper() and not name.startswith("_")]

    def display(self) -> None:
        """Print every setting."""
        print("\nConfigurations:")
        for name in self.names():
            print(f"{name:30} {getattr(self, name)}")
        print()

    def to_json(self, path: PathLike) -> None:
        """Write every setting but the derived ones to a JSON file, `from_json` reads it back.

        Raises:
            ValueError: a setting that JSON cannot hold, a callable BACKBONE for one.
        """
        values = {name: getattr(self, name) for name in self.names() if not self._follows(name)}
        try:
            text = json.dumps(values, indent=2, default=_plain)
        except TypeError as error:
            raise ValueError(f"this Config cannot be written to {path}: {error}.") from error
        write_text(path, text + "\n")

    def json_values(self) -> dict[str, object]:
        """Every setting but the derived ones as JSON has it, where JSON can hold it.

        A function, such as a BACKBONE, is given by its import path, `module:name`. Settings of the
        user's own that JSON cannot hold are left out.
        """
        values = {}
        for name in self.names():
            if self._follows(name):
                continue
            value = getattr(self, name)
            try:
                text = json.dumps(import_path(value) if callable(value) else value, default=_plain)
            except (TypeError, ValueError):
                continue
            values[name] = json.loads(text)
        return values

    @classmethod
    def from_json(cls, path: PathLike) -> Config:
        """A Config of this class with the settings of a JSON file; `//` comments are allowed.

        Raises:
            ValueError: no JSON, or a name that this class does not have.
        """
        values = read_settings(path)
        config = cls()
        known = config.names()
        for name, value in values.items():
            if name not in known:
                raise ValueError(f"{path}: unknown setting {name!r}.{did_you_mean(name, known)}")
            setattr(config, name, _like(getattr(config, name), value))
        return config

    def for_detection(self) -> Config:
        """A copy of a training Config for detection: one whole image at a time.

        IMAGE_RESIZE_MODE "crop" becomes "pad64", which shows whole images at the scale of the
        crops.
        """
        config = copy.copy(self)
        config.GPU_COUNT = config.IMAGES_PER_GPU = 1
        if config.IMAGE_RESIZE_MODE == "crop":
            config.IMAGE_RESIZE_MODE = "pad64"
        return config

    def validate(self) -> None:
        """Check that this configuration can work; `MaskRCNN` does so before building a graph.

        Raises:
            ValueError: the first setting that cannot work, with its value and what would do.

        Warns about an attribute of the user's own whose name is nearly that of a setting.
        """
        self._warn_of_near_misses()
        self._check_types()
        self._check_ranges()
        self._check_network()
        self._check_image_size()

    def _follows(self, name: str) -> bool:
        """Is this setting derived, and not assigned by the user?"""
        return name not in vars(self) and isinstance(getattr(type(self), name, None), derived)

    def _warn_of_near_misses(self) -> None:
        known = [name for name in dir(Config) if name.isupper()]
        for name in set(self.names()) - set(known):
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.9)
            if close:
                warnings.warn(
                    f"{type(self).__name__}.{name} is not a setting of Config and changes "
                    f"nothing; did you mean {close[0]}?",
                    stacklevel=4,
                )

    def _check_types(self) -> None:
        for name in dir(Config):
            default = getattr(Config, name)
            if not name.isupper() or default is None or isinstance(default, derived):
                continue
            wanted = _wanted_kind(name, default)
            value = getattr(self, name)
            if wanted and not wanted[1](value):
                raise ValueError(f"{name} is {value!r}; it must be {wanted[0]}.")

    def _check_ranges(self) -> None:
        for least, names in ((1, _AT_LEAST_ONE), (0, _AT_LEAST_ZERO)):
            for name in names:
                if getattr(self, name) < least:
                    raise ValueError(
                        f"{name} is {getattr(self, name)}; it must be {least} or more."
                    )
        for name in ("RPN_NMS_THRESHOLD", "DETECTION_NMS_THRESHOLD", "DETECTION_MIN_CONFIDENCE"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be from 0 to 1.")
        if not 0 < self.ROI_POSITIVE_RATIO <= 1:
            raise ValueError(
                f"ROI_POSITIVE_RATIO is {self.ROI_POSITIVE_RATIO}; it must be above 0 and at "
                "most 1: 0.33 keeps one positive ROI to two negative ones."
            )
        keep = self.KEEP_CHECKPOINTS
        if keep is not None and not (_is_whole(keep) and keep >= 1):
            raise ValueError(
                f"KEEP_CHECKPOINTS is {keep!r}; it must be a whole number above 0, or None to keep "
                "all checkpoints."
            )
        if self.NUM_CLASSES < 2:
            raise ValueError(
                f"NUM_CLASSES is {self.NUM_CLASSES}; the background counts as one, so a data set "
                "of one class has NUM_CLASSES = 1 + 1."
            )
        self._check_loss_weights()
        self._check_optimisation()

    def _check_optimisation(self) -> None:
        for name, known in (
            ("OPTIMIZER", OPTIMIZERS),
            ("LEARNING_RATE_SCHEDULE", SCHEDULES),
            ("DTYPE_POLICY", DTYPE_POLICIES),
        ):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}; it must be one of {', '.join(known)}."
                )
        drops = list(self.LEARNING_RATE_DROPS)
        if drops != sorted(set(drops)) or not 0 < drops[0] <= drops[-1] < 1:
            raise ValueError(
                f"LEARNING_RATE_DROPS is {self.LEARNING_RATE_DROPS!r}; it must be parts of the "
                "training, rising, above 0 and below 1."
            )
        if self.GRADIENT_CHECKPOINTING and self.TRAIN_BN is not False:
            raise ValueError(
                f"GRADIENT_CHECKPOINTING is True and TRAIN_BN {self.TRAIN_BN}; what is computed "
                "twice would count twice in the statistics, so TRAIN_BN must be False."
            )
        if not 0 <= self.EMA_MOMENTUM < 1:
            raise ValueError(
                f"EMA_MOMENTUM is {self.EMA_MOMENTUM}; it must be at least 0, which is no moving "
                "average, and below 1."
            )

    def _check_loss_weights(self) -> None:
        for name, weight in self.LOSS_WEIGHTS.items():
            if name not in LOSS_NAMES:
                raise ValueError(
                    f"LOSS_WEIGHTS names {name!r}, which is no loss."
                    + did_you_mean(str(name), list(LOSS_NAMES))
                )
            if not _is_number(weight):
                raise ValueError(f"LOSS_WEIGHTS[{name!r}] is {weight!r}; it must be a number.")

    def _check_network(self) -> None:
        if not callable(self.BACKBONE) and self.BACKBONE not in BACKBONES:
            raise ValueError(
                f"BACKBONE is {self.BACKBONE!r}; it must be one of {', '.join(BACKBONES)} or a "
                "callable (input_image, stage5=True, train_bn=None) -> [C1, C2, C3, C4, C5]."
            )
        if callable(self.BACKBONE) and not callable(self.COMPUTE_BACKBONE_SHAPE):
            raise ValueError(
                f"BACKBONE is a callable and COMPUTE_BACKBONE_SHAPE is "
                f"{self.COMPUTE_BACKBONE_SHAPE!r}; with a backbone of your own it must be a "
                "callable image_shape -> [levels, (height, width)]."
            )
        if not len(self.RPN_ANCHOR_RATIOS):
            raise ValueError("RPN_ANCHOR_RATIOS is empty; give at least one width / height.")
        scales, strides = len(self.RPN_ANCHOR_SCALES), len(self.BACKBONE_STRIDES)
        if scales != strides or strides != 5:
            raise ValueError(
                f"RPN_ANCHOR_SCALES has {scales} values and BACKBONE_STRIDES {strides}; both "
                "need five, one a pyramid level P2 to P6."
            )
        for name in _ALL_ABOVE_ZERO:
            if np.min(getattr(self, name)) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)!r}; all must be above 0.")
        if list(self.MASK_SHAPE) != [2 * self.MASK_POOL_SIZE] * 2:
            raise ValueError(
                f"MASK_SHAPE is {list(self.MASK_SHAPE)} with MASK_POOL_SIZE {self.MASK_POOL_SIZE}; "
                f"the mask head doubles the pool, so it must be {[2 * self.MASK_POOL_SIZE] * 2}."
            )
        if len(self.MEAN_PIXEL) != self.IMAGE_CHANNEL_COUNT:
            raise ValueError(
                f"MEAN_PIXEL has {len(self.MEAN_PIXEL)} values and IMAGE_CHANNEL_COUNT is "
                f"{self.IMAGE_CHANNEL_COUNT}; it needs one value a channel."
            )
        if np.size(self.PIXEL_STD) not in (1, self.IMAGE_CHANNEL_COUNT):
            raise ValueError(
                f"PIXEL_STD has {np.size(self.PIXEL_STD)} values and IMAGE_CHANNEL_COUNT is "
                f"{self.IMAGE_CHANNEL_COUNT}; it needs one number, or one a channel."
            )

    def _check_image_size(self) -> None:
        if self.IMAGE_RESIZE_MODE not in RESIZE_MODES:
            raise ValueError(
                f"IMAGE_RESIZE_MODE is {self.IMAGE_RESIZE_MODE!r}; it must be one of "
                f"{', '.join(RESIZE_MODES)}."
            )
        # What ends up as IMAGE_SHAPE, and with pad64 what small images are enlarged to.
        if self.IMAGE_RESIZE_MODE != "crop":
            self._check_divisible("IMAGE_MAX_DIM", least=64)
        if self.IMAGE_RESIZE_MODE in ("crop", "pad64"):
            self._check_divisible("IMAGE_MIN_DIM", least=64 * (self.IMAGE_RESIZE_MODE == "crop"))
        bounded = self.IMAGE_RESIZE_MODE in ("square", "rectangle")
        if bounded and self.IMAGE_MIN_DIM > self.IMAGE_MAX_DIM:
            raise ValueError(
                f"IMAGE_MIN_DIM is {self.IMAGE_MIN_DIM} and IMAGE_MAX_DIM {self.IMAGE_MAX_DIM}; "
                "the smaller side cannot be larger than the larger one."
            )

    def _check_divisible(self, name: str, least: int) -> None:
        side = getattr(self, name)
        if side % 64 or side < least:
            below, above = 64 * math.floor(side / 64), max(64 * math.ceil(side / 64), least)
            would_do = f"{below} or {above}" if below > 0 else str(above)
            raise ValueError(
                f"{name} is {side} with IMAGE_RESIZE_MODE {self.IMAGE_RESIZE_MODE!r}; the pyramid "
                f"halves the image six times, so it must be a multiple of 64: {would_do} would do."
            )


def compute_backbone_shapes(config: Config, image_shape) -> np.ndarray:
    """Sizes of the feature maps P2 to P6 for an image of this shape.

    Args:
        config: its BACKBONE_STRIDES, or its COMPUTE_BACKBONE_SHAPE for a callable BACKBONE.
        image_shape: `(height, width, ...)` in pixels.

    Returns:
        `[levels, (height, width)]` int.
    """
    if callable(config.BACKBONE):
        return np.asarray(config.COMPUTE_BACKBONE_SHAPE(image_shape))
    return np.array(
        [
            [math.ceil(image_shape[0] / stride), math.ceil(image_shape[1] / stride)]
            for stride in config.BACKBONE_STRIDES
        ]
    )


def _is_bool(value) -> bool:
    return isinstance(value, (bool, np.bool_))


def _is_whole(value) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _is_number(value) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def _is_number_list(value) -> bool:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    return isinstance(value, (list, tuple)) and len(value) > 0 and all(map(_is_number, value))


# What a setting may be follows from its default, for all but these.
# Steps that come of a division are rounded up.
_FRACTIONS = ("IMAGE_MIN_SCALE", "GRADIENT_CLIP_NORM", "STEPS_PER_EPOCH", "VALIDATION_STEPS")
_OPEN = ("BACKBONE", "IMAGE_RESIZE_MODE", "OPTIMIZER", "LEARNING_RATE_SCHEDULE", "DTYPE_POLICY")
_STD_DEVS = ("BBOX_STD_DEV", "RPN_BBOX_STD_DEV")
_SHAPES = ("MASK_SHAPE", "MINI_MASK_SHAPE")
_AT_LEAST_ONE = (
    "GPU_COUNT",
    "IMAGES_PER_GPU",
    "STEPS_PER_EPOCH",
    "IMAGE_MAX_DIM",
    "IMAGE_CHANNEL_COUNT",
    "TOP_DOWN_PYRAMID_SIZE",
    "FPN_CLASSIF_FC_LAYERS_SIZE",
    "POOL_SIZE",
    "MASK_POOL_SIZE",
    "RPN_ANCHOR_STRIDE",
    "RPN_TRAIN_ANCHORS_PER_IMAGE",
    "PRE_NMS_LIMIT",
    "POST_NMS_ROIS_TRAINING",
    "POST_NMS_ROIS_INFERENCE",
    "TRAIN_ROIS_PER_IMAGE",
    "MAX_GT_INSTANCES",
    "DETECTION_MAX_INSTANCES",
    "GRADIENT_ACCUMULATION_STEPS",
)
_AT_LEAST_ZERO = (
    "VALIDATION_STEPS",
    "IMAGE_MIN_DIM",
    "IMAGE_MIN_SCALE",
    "LEARNING_RATE",
    "LEARNING_MOMENTUM",
    "WEIGHT_DECAY",
    "DECOUPLED_WEIGHT_DECAY",
    "WARMUP_STEPS",
)
_ALL_ABOVE_ZERO = (
    "RPN_ANCHOR_SCALES",
    "RPN_ANCHOR_RATIOS",
    "BACKBONE_STRIDES",
    "RPN_BBOX_STD_DEV",
    "BBOX_STD_DEV",
    "MINI_MASK_SHAPE",
    "PIXEL_STD",
)


def _wanted_kind(name: str, default):
    """`(words, check)` for a setting with this default, None where other checks say more."""
    if name in _OPEN:
        return None
    if name == "TRAIN_BN":
        return "True, False or None", lambda value: value is None or _is_bool(value)
    if name == "PIXEL_STD":
        words = "a number, or a list of one a channel"
        return words, lambda value: _is_number(value) or _is_number_list(value)
    if name in _STD_DEVS:
        words = "four numbers, one each for dy, dx, log dh and log dw"
        return words, lambda value: _is_number_list(value) and len(value) == 4
    if name in _SHAPES:
        words = "two whole numbers, (height, width)"
        return (
            words,
            lambda value: _is_number_list(value) and len(value) == 2 and all(map(_is_whole, value)),
        )
    if isinstance(default, bool):
        return "True or False", _is_bool
    if name in _FRACTIONS or isinstance(default, float):
        return "a number", _is_number
    if isinstance(default, int):
        return "a whole number", _is_whole
    if isinstance(default, dict):
        return "a dict", lambda value: isinstance(value, dict)
    return "a list of numbers that is not empty", _is_number_list


def _plain(value):
    """NumPy values as JSON knows them."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r} has no JSON form")


def import_path(function) -> str:
    """Where a function or class is imported from, `module:name`; of an object, its class."""
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}:{named.__qualname__}"


def _like(default, value):
    """A JSON list as the array or tuple that the default is, an import path as the default."""
    if callable(default) and value == import_path(default):
        return default
    if isinstance(value, list) and isinstance(default, np.ndarray):
        return np.array(value)
    if isinstance(value, list) and isinstance(default, tuple):
        return tuple(value)
    return value


def read_settings(path: PathLike) -> dict:
    """The object that a JSON file holds; `//` comments are allowed.

    Raises:
        FileNotFoundError: there is no such file; ValueError: no JSON, or no object.
    """
    values = read_json(path, comments=True)
    if not isinstance(values, dict):
        raise ValueError(
            f"{path} holds a JSON {type(values).__name__}; a configuration is an object, "
            '{"NAME": …, …}.'
        )
    return values
