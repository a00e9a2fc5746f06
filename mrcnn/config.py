"""Config: the settings of a run, as UPPERCASE attributes that a subclass overrides.

A subclass states its differences from the defaults and may add attributes of its own::

    class BalloonConfig(Config):
        NAME = "balloon"
        NUM_CLASSES = 1 + 1
        STEPS_PER_EPOCH = 100

Values that follow from others (`BATCH_SIZE`, `IMAGE_SHAPE`, `IMAGE_META_SIZE`) are computed on
every read, so they are right whenever and wherever an attribute was changed.
"""

from __future__ import annotations

import copy
import difflib
import json
import math
import numbers
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from mrcnn.architectures import BACKBONES, STRIDES
from mrcnn.files import read_json, write_text
from mrcnn.messages import did_you_mean
from mrcnn.types import Numbers, PathLike, Shape

RESIZE_MODES = ("square", "rectangle", "pad64", "crop", "none")
OPTIMIZERS = ("sgd", "adam", "adamw")
SCHEDULES = ("constant", "step", "cosine")
# The rules of KEEP_CHECKPOINTS.
KEEP_RULES = ("last", "best", "every")
DTYPE_POLICIES = ("float32", "mixed_bfloat16", "mixed_float16", "auto")
# The five losses, named as in progress bars, TensorBoard and LOSS_WEIGHTS.
LOSS_NAMES = (
    "rpn_class_loss",
    "rpn_bbox_loss",
    "mrcnn_class_loss",
    "mrcnn_bbox_loss",
    "mrcnn_mask_loss",
)


# A Config or a subclass of it.
AnyConfig = TypeVar("AnyConfig", bound="Config")


class derived:
    """An attribute that is computed on every read, unless a value was assigned on the instance.

    Args:
        compute: instance -> value.
        class_value: the value that a subclass has in its body for this attribute. Reading the
            attribute on the class gives this value; instances compute it, as the original's
            `Config.__init__` did.
    """

    def __init__(self, compute: Callable[[Any], Any], class_value: Any = None):
        self.compute = compute
        self.class_value = class_value
        self.__doc__ = compute.__doc__
        self._has_warned = False

    def __get__(self, instance: Config | None, owner: type[Config]) -> Any:
        if instance is None:
            return self if self.class_value is None else self.class_value
        value = self.compute(instance)
        if self.class_value is not None and not self._has_warned:
            self._warn_if_different(type(instance).__name__, value)
        return value

    def _warn_if_different(self, class_name: str, value: Any) -> None:
        if np.array_equal(self.class_value, value):
            return
        self._has_warned = True
        name = self.compute.__name__
        warnings.warn(
            f"{class_name}.{name} is {self.class_value!r} in the class, but {value!r} counts: it "
            f"is computed from other settings ({_COMPUTED_FROM[name]}). Change those, or assign "
            f"config.{name} on the instance.",
            stacklevel=3,
        )


_COMPUTED_FROM = {
    "BATCH_SIZE": "IMAGES_PER_GPU * GPU_COUNT",
    "IMAGE_SHAPE": "IMAGE_MIN_DIM or IMAGE_MAX_DIM, by IMAGE_RESIZE_MODE, and IMAGE_CHANNEL_COUNT",
    "IMAGE_META_SIZE": "NUM_CLASSES",
}


class Config:
    """Every setting of network, training and detection, with the original's names and defaults."""

    # ---- Run --------------------------------------------------------------------------------
    # Name of the experiment, part of the names of run folders and checkpoints.
    NAME: str | None = None
    # A batch has GPU_COUNT * IMAGES_PER_GPU images. Training uses GPU_COUNT devices, or one device
    # if there are fewer: docs/distribution.md.
    GPU_COUNT = 1
    IMAGES_PER_GPU = 2
    # Batches per epoch. After each epoch come validation, TensorBoard and a checkpoint. An epoch
    # need not be one pass over the data: the next epoch continues with the next images.
    STEPS_PER_EPOCH = 1000
    VALIDATION_STEPS = 50
    # Which checkpoints of a run to keep. None: all; a number: as many of the latest; or by rules,
    # {"last": 2, "best": 1, "every": 10}: docs/resuming.md.
    KEEP_CHECKPOINTS: int | dict[str, int] | None = None
    # Minutes from one saved state to the next within an epoch; 0: only at the end of epochs.
    CHECKPOINT_MINUTES = 10.0

    # ---- Network ----------------------------------------------------------------------------
    # "resnet50" or "resnet101"; "resnet50_v1_5" or "resnet101_v1_5" for PyTorch's weights; or a
    # callable (input_image, stage5=True, train_bn=...) -> [C1, C2, C3, C4, C5].
    BACKBONE: str | Callable[..., list[Any]] = "resnet101"
    # For a callable BACKBONE, a callable image_shape -> [levels, (height, width)], the sizes of its
    # feature maps P2 to P6. None: they follow from BACKBONE_STRIDES.
    COMPUTE_BACKBONE_SHAPE: Callable[[Any], Any] | None = None
    # Stride of each pyramid level P2 to P6, in pixels. A property of the backbone: change it for a
    # callable BACKBONE only.
    BACKBONE_STRIDES = [4, 8, 16, 32, 64]
    FPN_CLASSIF_FC_LAYERS_SIZE = 1024
    TOP_DOWN_PYRAMID_SIZE = 256
    # Number of classes, the background included.
    NUM_CLASSES = 1
    # Names of the classes without the background. None: a run takes those of its data set into its
    # config.json.
    CLASS_NAMES: Sequence[str] | None = None
    POOL_SIZE = 7
    MASK_POOL_SIZE = 14
    # Twice MASK_POOL_SIZE: the mask head has one deconvolution of stride 2.
    MASK_SHAPE = [28, 28]
    # Batch normalisation. False: moving averages, also in training, because batches are small.
    # None: batch statistics in training, moving averages otherwise. True: always batch statistics.
    TRAIN_BN: bool | None = False

    # ---- Images -----------------------------------------------------------------------------
    # "square": scale, then pad to IMAGE_MAX_DIM x IMAGE_MAX_DIM. "rectangle": scale in the same
    # way, then pad to multiples of 64; for detection, a quarter fewer pixels for a 4:3 photograph.
    # "pad64": pad to multiples of 64, without IMAGE_MAX_DIM. "crop": take a random crop of
    # IMAGE_MIN_DIM x IMAGE_MIN_DIM. "none": neither scale nor pad.
    IMAGE_RESIZE_MODE = "square"
    IMAGE_MIN_DIM = 800
    IMAGE_MAX_DIM = 1024
    # Smallest scale factor, applied before IMAGE_MIN_DIM; 0 for no limit.
    IMAGE_MIN_SCALE: float = 0
    IMAGE_CHANNEL_COUNT = 3
    # (black, white): the values that become 0 and 255 in image files of floats or of more than 8
    # bits; (0, 4095) for a camera of 12 bits. None: the bits that each file states or uses decide,
    # so files of one data set may be scaled differently. A Dataset may have its own range.
    IMAGE_VALUE_RANGE: Sequence[float] | None = None
    # One value per channel, subtracted from pixel values 0..255.
    MEAN_PIXEL: np.ndarray | Sequence[float] = np.array([123.7, 116.8, 103.9])
    # The difference is divided by this: one number, or one per channel. PyTorch states mean and
    # deviation for pixel values 0..1; multiply both by 255. For ImageNet this gives
    # [123.675, 116.28, 103.53] and [58.395, 57.12, 57.375].
    PIXEL_STD: float | np.ndarray | Sequence[float] = 1.0

    # ---- Anchors and proposals --------------------------------------------------------------
    # Side of a square anchor in pixels, one value per pyramid level from P2 on. With fewer than
    # five values, the last levels have no anchors.
    RPN_ANCHOR_SCALES = (32, 64, 128, 256, 512)
    # Anchor shapes as width / height.
    RPN_ANCHOR_RATIOS = [0.5, 1, 2]
    # 1: anchors at every cell of a feature map; 2: at every second cell.
    RPN_ANCHOR_STRIDE = 1
    RPN_NMS_THRESHOLD = 0.7
    RPN_TRAIN_ANCHORS_PER_IMAGE = 256
    # Anchors kept by score before non-maximum suppression, and proposals kept after it.
    PRE_NMS_LIMIT = 6000
    POST_NMS_ROIS_TRAINING = 2000
    POST_NMS_ROIS_INFERENCE = 1000
    # Box deltas are divided by these, which gives targets a standard deviation near 1.
    RPN_BBOX_STD_DEV = np.array([0.1, 0.1, 0.2, 0.2])
    BBOX_STD_DEV = np.array([0.1, 0.1, 0.2, 0.2])

    # ---- Training targets -------------------------------------------------------------------
    # Masks are cropped to their boxes and resized to this (height, width), which saves memory and
    # blurs them slightly.
    USE_MINI_MASK = True
    MINI_MASK_SHAPE = (56, 56)
    TRAIN_ROIS_PER_IMAGE = 200
    ROI_POSITIVE_RATIO = 0.33
    # If an image has more objects than this, a random choice of them is used.
    MAX_GT_INSTANCES = 100
    # False: the training graph takes ROIs as its eighth input instead of the RPN's proposals.
    USE_RPN_ROIS = True
    # True: images without objects are used too; RPN and class head learn background from them.
    # False: they are left out.
    TRAIN_EMPTY_IMAGES = False
    # True: the pixels that `Dataset.load_neutral` returns leave every loss. Anchors and ROIs with
    # such pixels are neither positive nor negative.
    USE_NEUTRAL_PIXELS = False
    # Share of a data set's images that may be bad before training stops. Bad images are those that
    # cannot be loaded or are annotated wrongly; they are left out and named.
    MAX_BAD_IMAGE_SHARE = 0.2

    # ---- Detection --------------------------------------------------------------------------
    DETECTION_MAX_INSTANCES = 100
    DETECTION_MIN_CONFIDENCE = 0.7
    DETECTION_NMS_THRESHOLD = 0.3

    # ---- Optimisation -----------------------------------------------------------------------
    LEARNING_RATE = 0.001
    LEARNING_MOMENTUM = 0.9
    WEIGHT_DECAY = 0.0001
    LOSS_WEIGHTS = {name: 1.0 for name in LOSS_NAMES}
    # Largest global norm of the gradients.
    GRADIENT_CLIP_NORM = 5.0
    # "sgd" with momentum LEARNING_MOMENTUM, "adam" or "adamw". The last two are the same here.
    OPTIMIZER = "sgd"
    # Decoupled weight decay (Loshchilov and Hutter 2019), for any optimizer: each step subtracts
    # it times the learning rate times the weight. Above 0 it replaces WEIGHT_DECAY, the L2 loss.
    DECOUPLED_WEIGHT_DECAY = 0.0
    # Number of warm-up steps, in which the learning rate rises linearly from a thousandth.
    WARMUP_STEPS = 0
    # Learning-rate schedule over the steps of one call of `train`: "constant"; "step", divided by
    # ten after each of these fractions; "cosine", down to 0.
    LEARNING_RATE_SCHEDULE = "constant"
    LEARNING_RATE_DROPS = (2 / 3, 8 / 9)
    # Number of batches whose gradients are averaged before the optimizer makes a step.
    GRADIENT_ACCUMULATION_STEPS = 1
    # True: activations of the backbone's blocks are recomputed for the gradients, not stored (Chen
    # et al. 2016): less memory, more time.
    GRADIENT_CHECKPOINTING = False
    # EMA decay, such as 0.999. Above 0, checkpoints, validation and detection during training use
    # the exponential moving average of the weights.
    EMA_MOMENTUM = 0.0
    # Precision of training and detection: "float32", "mixed_bfloat16", "mixed_float16", or "auto":
    # mixed_bfloat16 where the processor or GPU computes bfloat16, else float32. Weights, boxes and
    # losses are always float32.
    DTYPE_POLICY = "float32"

    # ---- Derived ----------------------------------------------------------------------------
    @derived
    def BATCH_SIZE(self) -> int:
        """Images per batch."""
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

    def __new__(cls: type[AnyConfig], *args: Any, **kwargs: Any) -> AnyConfig:
        """A new instance, whose derived values are computed whatever its class says."""
        for owner in cls.__mro__[: cls.__mro__.index(Config)]:
            for name in _COMPUTED_FROM:
                value = vars(owner).get(name)
                # A property or another descriptor computes, so it is left alone.
                if value is not None and not hasattr(value, "__get__"):
                    compute = vars(Config)[name].compute
                    setattr(owner, name, derived(compute, class_value=value))
        return super().__new__(cls)

    # ---- Showing, saving, checking ----------------------------------------------------------
    def names(self) -> list[str]:
        """Names of all settings in alphabetical order, including those that a user added."""
        return [name for name in dir(self) if name.isupper() and not name.startswith("_")]

    def display(self) -> None:
        """Print every setting."""
        print("\nConfigurations:")
        for name in self.names():
            print(f"{name:30} {getattr(self, name)}")
        print()

    def to_json(self, path: PathLike) -> None:
        """Write every setting except the derived ones to a JSON file for `from_json`.

        Raises:
            ValueError: JSON cannot hold a setting, such as a callable BACKBONE.
        """
        values = {name: getattr(self, name) for name in self.names() if not self._follows(name)}
        try:
            text = json.dumps(values, indent=2, default=_plain)
        except TypeError as error:
            raise ValueError(f"this Config cannot be written to {path}: {error}.") from error
        write_text(path, text + "\n")

    def json_values(self) -> dict[str, object]:
        """Every setting except the derived ones, in the form for a JSON file.

        A function, such as a BACKBONE, is written as its import path, `module:name`. Settings that
        a user added and that JSON cannot hold are left out.
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
    def from_json(cls: type[AnyConfig], path: PathLike) -> AnyConfig:
        """A Config of this class with the settings of a JSON file; `//` comments are allowed.

        Raises:
            ValueError: the file is not JSON, or names a setting that this class does not have.
        """
        config = cls()
        config.update(read_settings(path), path)
        return config

    def update(self, values: Mapping[str, Any], origin: PathLike) -> None:
        """Assign settings as JSON holds them: a list becomes an array where the default is one.

        Args:
            values: settings by name.
            origin: where they come from, for messages.

        Raises:
            ValueError: a setting that this class does not have; then nothing is assigned.
        """
        known = self.names()
        for name in values:
            if name not in known:
                raise ValueError(f"{origin}: unknown setting {name!r}.{did_you_mean(name, known)}")
        for name, value in values.items():
            setattr(self, name, _like(getattr(self, name), value))

    def assign(self, text: str) -> None:
        """Assign one setting as a command line has it: `IMAGE_MAX_DIM=512`, `MEAN_PIXEL=0,0,0`.

        Raises:
            ValueError: no `NAME=VALUE`, an unknown name, or a value of another kind.
        """
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not name:
            raise ValueError(
                f"{text!r} is no setting; write NAME=VALUE, such as IMAGE_MAX_DIM=512."
            )
        known = self.names()
        if name not in known:
            raise ValueError(f"unknown setting {name!r}.{did_you_mean(name.upper(), known)}")
        default = [] if name == "CLASS_NAMES" else getattr(self, name)
        found = _like(default, _value_of_text(value, default))
        wanted = None if default is None or name == "CLASS_NAMES" else _wanted_kind(name, default)
        if wanted and not wanted[1](found):
            raise ValueError(f"{name} is {value!r}; it must be {wanted[0]}.")
        setattr(self, name, found)

    def for_detection(self: AnyConfig) -> AnyConfig:
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

        Warns about an added attribute whose name is close to that of a setting.
        """
        self._warn_of_near_misses()
        self._check_types()
        self._check_ranges()
        self._check_network()
        self._check_image_size()
        check_value_range("IMAGE_VALUE_RANGE", self.IMAGE_VALUE_RANGE)

    def _follows(self, name: str) -> bool:
        """Is this setting computed, without a value assigned on the instance?"""
        if name in vars(self):
            return False
        owners = (owner for owner in type(self).__mro__ if name in vars(owner))
        return isinstance(vars(next(owners))[name], derived)

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
        for name in _FROM_ZERO_TO_ONE:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be from 0 to 1.")
        if not 0 < self.ROI_POSITIVE_RATIO <= 1:
            raise ValueError(
                f"ROI_POSITIVE_RATIO is {self.ROI_POSITIVE_RATIO}; it must be above 0 and at "
                "most 1: 0.33 keeps one positive ROI for every two negative ones."
            )
        self._check_checkpoints()
        if self.NUM_CLASSES < 2:
            raise ValueError(
                f"NUM_CLASSES is {self.NUM_CLASSES}; it includes the background, so a data set of "
                "one class has NUM_CLASSES = 1 + 1."
            )
        self._check_loss_weights()
        self._check_optimisation()

    def _check_checkpoints(self) -> None:
        keep = self.KEEP_CHECKPOINTS
        rules = keep if isinstance(keep, dict) else {} if keep is None else {"last": keep}
        unknown = [name for name in rules if name not in KEEP_RULES]
        if unknown or not all(_is_whole(number) and number >= 1 for number in rules.values()):
            raise ValueError(
                f"KEEP_CHECKPOINTS is {keep!r}; it must be a whole number above 0, None to keep "
                f"all checkpoints, or such numbers by the names {', '.join(KEEP_RULES)}."
            )
        minutes = self.CHECKPOINT_MINUTES
        if isinstance(minutes, bool) or not isinstance(minutes, (int, float)) or not minutes >= 0:
            raise ValueError(
                f"CHECKPOINT_MINUTES is {minutes!r}; it must be a number of minutes, or 0 to save "
                "at the end of epochs only."
            )

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
                f"LEARNING_RATE_DROPS is {self.LEARNING_RATE_DROPS!r}; it must be rising fractions "
                "of the training, above 0 and below 1."
            )
        if self.GRADIENT_CHECKPOINTING and self.TRAIN_BN is not False:
            raise ValueError(
                f"GRADIENT_CHECKPOINTING is True and TRAIN_BN {self.TRAIN_BN}; recomputed "
                "activations would count twice in the statistics, so TRAIN_BN must be False."
            )
        if not 0 <= self.EMA_MOMENTUM < 1:
            raise ValueError(
                f"EMA_MOMENTUM is {self.EMA_MOMENTUM}; it must be at least 0 and below 1, where 0 "
                "means no moving average."
            )

    def _check_loss_weights(self) -> None:
        for name, weight in self.LOSS_WEIGHTS.items():
            if name not in LOSS_NAMES:
                raise ValueError(
                    f"LOSS_WEIGHTS names {name!r}, which is not a loss."
                    + did_you_mean(str(name), list(LOSS_NAMES))
                )
            if not is_number(weight):
                raise ValueError(f"LOSS_WEIGHTS[{name!r}] is {weight!r}; it must be a number.")

    def _check_network(self) -> None:
        for name in _ALL_ABOVE_ZERO:
            if np.min(getattr(self, name)) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)!r}; all must be above 0.")
        self._check_backbone()
        self._check_pyramid()
        if list(self.MASK_SHAPE) != [2 * self.MASK_POOL_SIZE] * 2:
            raise ValueError(
                f"MASK_SHAPE is {list(self.MASK_SHAPE)} with MASK_POOL_SIZE {self.MASK_POOL_SIZE}; "
                f"the mask head doubles the pool, so it must be {[2 * self.MASK_POOL_SIZE] * 2}."
            )
        if len(self.MEAN_PIXEL) != self.IMAGE_CHANNEL_COUNT:
            raise ValueError(
                f"MEAN_PIXEL has {len(self.MEAN_PIXEL)} values and IMAGE_CHANNEL_COUNT is "
                f"{self.IMAGE_CHANNEL_COUNT}; it needs one value per channel."
            )
        if np.size(self.PIXEL_STD) not in (1, self.IMAGE_CHANNEL_COUNT):
            raise ValueError(
                f"PIXEL_STD has {np.size(self.PIXEL_STD)} values and IMAGE_CHANNEL_COUNT is "
                f"{self.IMAGE_CHANNEL_COUNT}; it needs one number, or one per channel."
            )

    def _check_backbone(self) -> None:
        if callable(self.BACKBONE):
            if self.COMPUTE_BACKBONE_SHAPE is None or callable(self.COMPUTE_BACKBONE_SHAPE):
                return
            raise ValueError(
                f"COMPUTE_BACKBONE_SHAPE is {self.COMPUTE_BACKBONE_SHAPE!r}; it must be None or a "
                "callable image_shape -> [levels, (height, width)]."
            )
        if self.BACKBONE not in BACKBONES:
            raise ValueError(
                f"BACKBONE is {self.BACKBONE!r}; it must be one of {', '.join(BACKBONES)} or a "
                "callable (input_image, stage5=True, train_bn=None) -> [C1, C2, C3, C4, C5]."
            )

    def _check_pyramid(self) -> None:
        scales, strides = len(self.RPN_ANCHOR_SCALES), list(self.BACKBONE_STRIDES)
        levels = len(STRIDES)
        if scales > levels:
            raise ValueError(
                f"RPN_ANCHOR_SCALES has {scales} values; there are {levels} pyramid levels, P2 to "
                f"P6, so it can have at most {levels}."
            )
        if not scales <= len(strides) <= levels:
            raise ValueError(
                f"BACKBONE_STRIDES has {len(strides)} values and RPN_ANCHOR_SCALES {scales}; it "
                f"must have one per pyramid level, {levels} for P2 to P6."
            )
        # The strides of a callable BACKBONE are checked against its feature maps.
        if not callable(self.BACKBONE) and strides != list(STRIDES[: len(strides)]):
            raise ValueError(
                f"BACKBONE_STRIDES is {strides}; it must be {list(STRIDES)}, the strides of the "
                f"feature maps of {self.BACKBONE!r}."
            )

    def _check_image_size(self) -> None:
        if self.IMAGE_RESIZE_MODE not in RESIZE_MODES:
            raise ValueError(
                f"IMAGE_RESIZE_MODE is {self.IMAGE_RESIZE_MODE!r}; it must be one of "
                f"{', '.join(RESIZE_MODES)}."
            )
        # The side that becomes IMAGE_SHAPE and, with pad64, the side small images are enlarged to.
        if self.IMAGE_RESIZE_MODE != "crop":
            self._check_divisible("IMAGE_MAX_DIM", least=64)
        if self.IMAGE_RESIZE_MODE in ("crop", "pad64"):
            least = 64 if self.IMAGE_RESIZE_MODE == "crop" else 0
            self._check_divisible("IMAGE_MIN_DIM", least)
        bounded = self.IMAGE_RESIZE_MODE in ("square", "rectangle")
        if bounded and self.IMAGE_MIN_DIM > self.IMAGE_MAX_DIM:
            raise ValueError(
                f"IMAGE_MIN_DIM is {self.IMAGE_MIN_DIM} and IMAGE_MAX_DIM {self.IMAGE_MAX_DIM}; "
                "the limit of the shorter side cannot exceed that of the longer side."
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


def check_value_range(name: str, value: object) -> None:
    """Check an IMAGE_VALUE_RANGE: None, or two finite numbers, the smaller one first.

    Raises:
        ValueError: anything else.
    """
    if value is not None and not (
        _is_number_list(value) and len(value) == 2 and value[0] < value[1]  # type: ignore
    ):
        raise ValueError(
            f"{name} is {value!r}; it must be None or (black, white), two numbers of which the "
            "first is smaller: (0, 4095) for images of 12 bits."
        )


def compute_backbone_shapes(config: Config, image_shape: Shape) -> np.ndarray:
    """Sizes of the feature maps P2 to P6 for an image of this shape.

    Args:
        config: its BACKBONE_STRIDES; for a callable BACKBONE its COMPUTE_BACKBONE_SHAPE, if given.
        image_shape: `(height, width, ...)` in pixels.

    Returns:
        `[levels, (height, width)]` int.
    """
    if callable(config.BACKBONE) and callable(config.COMPUTE_BACKBONE_SHAPE):
        return np.asarray(config.COMPUTE_BACKBONE_SHAPE(image_shape))
    return feature_shapes(config.BACKBONE_STRIDES, image_shape)


def feature_shapes(strides: Numbers, image_shape: Shape) -> np.ndarray:
    """Sizes of feature maps with these strides: `[levels, (height, width)]` int."""
    return np.array([[math.ceil(side / stride) for side in image_shape[:2]] for stride in strides])


def _is_bool(value: object) -> bool:
    return isinstance(value, (bool, np.bool_))


def _is_whole(value: object) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Is this a finite real number, but not a bool?"""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond float64, such as 10**400
        return False


def _is_number_list(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    return isinstance(value, (list, tuple)) and len(value) > 0 and all(map(is_number, value))


# The kind of a setting follows from its default, except for these.
# Numbers of steps may be fractions, such as the result of a division; they are rounded up.
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
_FROM_ZERO_TO_ONE = (
    "RPN_NMS_THRESHOLD",
    "DETECTION_NMS_THRESHOLD",
    "DETECTION_MIN_CONFIDENCE",
    "MAX_BAD_IMAGE_SHARE",
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


def _wanted_kind(name: str, default: Any) -> tuple[str, Callable[[Any], bool]] | None:
    """`(words, check)` for a setting with this default, None if another check says more."""
    if name in _OPEN:
        return None
    if name == "TRAIN_BN":
        return "True, False or None", lambda value: value is None or _is_bool(value)
    if name == "PIXEL_STD":
        words = "a number, or a list of one number per channel"
        return words, lambda value: is_number(value) or _is_number_list(value)
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
        return "a number", is_number
    if isinstance(default, int):
        return "a whole number", _is_whole
    if isinstance(default, dict):
        return "a dict", lambda value: isinstance(value, dict)
    return "a list of numbers that is not empty", _is_number_list


def _plain(value: object) -> Any:
    """A NumPy value as a plain Python value that JSON can hold."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r} has no JSON form")


def _value_of_text(text: str, default: Any) -> Any:
    """A value as a command line has it: JSON, Python's True, False and None, `1,2,3`, or a text."""
    words = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    is_list = isinstance(default, (list, tuple, np.ndarray))
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        parts = [_value_of_text(part.strip(), None) for part in text.split(",") if "," in text]
        if is_list or (default is None and parts and all(map(is_number, parts))):
            return parts or [text]
        return text
    return [value] if is_list and not isinstance(value, list) else value


def class_names_of(config: Config) -> list[str] | None:
    """The names of the classes 1 to NUM_CLASSES - 1 from CLASS_NAMES; None if it has no such names.

    A Config of a user may count the background in.
    """
    names, count = config.CLASS_NAMES, config.NUM_CLASSES - 1
    if isinstance(names, (list, tuple)) and len(names) in (count, count + 1):
        return [str(name) for name in names[len(names) - count :]]
    return None


def import_path(function: Any) -> str:
    """The import path of a function or class, `module:name`; for an object that of its class."""
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}:{named.__qualname__}"


def _like(default: Any, value: Any) -> Any:
    """A value from JSON in the type of the default: a list becomes an array or a tuple.

    The import path of the default becomes the default itself.
    """
    if callable(default) and value == import_path(default):
        return default
    if isinstance(value, list) and isinstance(default, np.ndarray):
        return np.array(value)
    if isinstance(value, list) and isinstance(default, tuple):
        return tuple(value)
    return value


def read_settings(path: PathLike) -> dict:
    """The settings in a JSON file, by name; `//` comments are allowed.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not JSON, or holds no object.
    """
    values = read_json(path, comments=True)
    if not isinstance(values, dict):
        raise ValueError(
            f"{path} holds a JSON {type(values).__name__}; a configuration is an object, "
            '{"NAME": …, …}.'
        )
    return values
