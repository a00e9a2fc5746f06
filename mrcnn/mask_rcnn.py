"""MaskRCNN, the object that users hold: short methods that call the rooms below.

Training, then detection with the last checkpoint:

    model = MaskRCNN(mode="training", config=config, model_dir="logs")
    model.load_weights("mask_rcnn_coco.h5", by_name=True, exclude=["mrcnn_class_logits", …])
    model.train(train_set, val_set, learning_rate=0.001, epochs=30, layers="heads")

    model = MaskRCNN(mode="inference", config=config, model_dir="logs")
    model.load_weights(model.find_last())
    results = model.detect([image])
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np

from mrcnn import detection, inspection, training, weights
from mrcnn.config import Config
from mrcnn.data.dataset import Dataset
from mrcnn.training import distribution
from mrcnn.types import PathLike

logger = logging.getLogger("mrcnn")

MODES = ("training", "inference")


def log(text: str, array: np.ndarray | None = None) -> None:
    """Print a text and, if given, an array's shape, range and dtype."""
    if array is not None:
        array = np.asarray(array)
        extent = (
            f"min: {array.min():10.5f}  max: {array.max():10.5f}"
            if array.size
            else f"min: {'':10}  max: {'':10}"
        )
        text = f"{text:<25}  shape: {str(array.shape):<20}  {extent}  {array.dtype}"
    print(text)


class MaskRCNN:
    """Mask R-CNN for training or for detection.

    Args:
        mode: "training" or "inference".
        config: a Config; checked here, before anything is built.
        model_dir: folder in which every run gets its own folder.

    Attributes:
        keras_model: the Keras model.
        log_dir: the run's folder.
        checkpoint_path: pattern of its checkpoints, with `{epoch:04d}`.
        epoch: number of epochs done.
        anchors: `[A, (y1, x1, y2, x2)]` in pixels, for the molded shape that was last used in
            detection or in `get_anchors`.

    Raises:
        ValueError: another mode, or a Config that cannot work.
    """

    # None until `set_log_dir`, which a subclass may override.
    _run: training.Run | None = None

    def __init__(self, mode: str, config: Config, model_dir: str | os.PathLike):
        if mode not in MODES:
            raise ValueError(f"mode is {mode!r}; it must be one of {', '.join(MODES)}.")
        if isinstance(config, type):
            name = config.__name__
            raise ValueError(f"config is the class {name}; it must be an instance: {name}().")
        config.validate()
        self.mode = mode
        self.config = config
        self.model_dir = os.fspath(model_dir)
        self.set_log_dir()
        self.keras_model = self.build(mode=mode, config=config)

    def build(self, mode: str, config: Config) -> keras.Model:
        """A new Keras model for this mode."""
        if mode == "training":
            return training.build_training_model(config)
        with distribution.data_on(None):
            return detection.build_inference_model(config)

    # ---- Weights and runs -------------------------------------------------------------------

    def load_weights(
        self, filepath: PathLike, by_name: bool = False, exclude: Sequence[str] | None = None
    ) -> weights.LoadReport:
        """Load a weight file, see `weights.load_weights`; a run's checkpoint resumes that run.

        Args:
            filepath: `.h5` of Keras 2 or of this package, Keras 3's `.weights.h5`; with by_name
                also a checkpoint of PyTorch or a `.safetensors` of a ResNet, for a BACKBONE that
                ends in `_v1_5`.
            by_name: load the layers that file and model both have; otherwise the file must fit the
                whole network.
            exclude: names of layers to leave unchanged; implies by_name.
        """
        report = weights.load_weights(
            self.keras_model, filepath, by_name=by_name or bool(exclude), exclude=exclude
        )
        self.set_log_dir(filepath)
        return report

    def get_imagenet_weights(self) -> str:
        """Path of Keras' ImageNet weights for the backbone, downloaded if need be."""
        return weights.get_imagenet_weights(self.config.BACKBONE)

    def find_last(self) -> str:
        """Path of the last checkpoint of the last run with this Config's NAME."""
        return training.find_last(self.model_dir, self.config.NAME)

    def set_log_dir(self, model_path: PathLike | None = None) -> None:
        """Take over the run that a checkpoint belongs to, or plan a new one.

        An override sets `log_dir`, `checkpoint_path` and `epoch`.

        Args:
            model_path: the weight file that was loaded, if any.
        """
        name, run = self.config.NAME, None
        if model_path:
            run = training.resumed_run(self.model_dir, name, model_path)
        will_train = getattr(self, "mode", None) == "training"
        # The folder that this model has planned so far is free again.
        self._run = None
        self._run = run or training.new_run(self.model_dir, name, will_train)

    @property
    def training_run(self) -> training.Run:
        """The run: its folder, the names of its files, the epochs done."""
        if self._run is None:
            self._run = training.Run(str(self.config.NAME).lower(), is_custom=True)
        return self._run

    @property
    def log_dir(self) -> str:
        """The run's folder."""
        return self.training_run.log_dir

    @log_dir.setter
    def log_dir(self, folder: PathLike) -> None:
        self.training_run.choose(log_dir=os.fspath(folder))

    @property
    def checkpoint_path(self) -> str:
        """Pattern of the checkpoints' paths, with `{epoch:04d}`."""
        return self.training_run.checkpoint_path

    @checkpoint_path.setter
    def checkpoint_path(self, pattern: PathLike) -> None:
        self.training_run.choose(checkpoint_path=os.fspath(pattern))

    @property
    def epoch(self) -> int:
        """Number of epochs done."""
        return self.training_run.epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self.training_run.epoch = epoch

    # ---- Training ---------------------------------------------------------------------------

    def compile(self, learning_rate: float, momentum: float) -> None:
        """Compile the model with losses, L2 and optimizer for the layers that are trainable now."""
        self._need("training", "compile")
        training.compile_model(self.keras_model, self.config, learning_rate, momentum)

    def set_trainable(
        self,
        layer_regex: str,
        keras_model: keras.Model | None = None,
        indent: int = 0,
        verbose: int = 1,
    ) -> None:
        """Let the layers train whose whole name matches, see `training.set_trainable`."""
        names = training.set_trainable(keras_model or self.keras_model, layer_regex)
        if verbose:
            log(f"{' ' * indent}Training {len(names)} layers: {', '.join(names)}")

    def train(
        self,
        train_dataset: Dataset,
        val_dataset: Dataset | None,
        learning_rate: float,
        epochs: int,
        layers: str,
        augmentation: Any = None,
        custom_callbacks: Iterable[keras.callbacks.Callback] | None = None,
        no_augmentation_sources: Iterable[str] | None = None,
        seed: int = 0,
        verbose: str | int = "auto",
    ) -> keras.callbacks.History:
        """Train up to an epoch.

        `epoch` counts every epoch done, also if an error, Ctrl-C or a callback ends the training.
        The next call continues from there. Ctrl-C and SIGTERM save the state within the epoch, and
        the next call continues from that step.

        Args:
            train_dataset: prepared.
            val_dataset: prepared; None for no validation.
            learning_rate: of the optimizer.
            epochs: the total number, including earlier calls and those of the loaded checkpoint.
            layers: "heads", "3+", "4+", "5+", "all" or a regular expression of layer names.
            augmentation: an augmenter, see `mrcnn.data.augment`, for images and masks alike.
            custom_callbacks: further Keras callbacks, such as
                `mrcnn.training.callbacks.CocoEvaluation`.
            no_augmentation_sources: names of sources whose images are not augmented.
            seed: seed of the images' order, of augmentation, and of all other random choices in
                batches.
            verbose: Keras' progress bars, 0 for none.

        Returns:
            Keras' History of this call.

        Raises:
            KeyboardInterrupt, SystemExit: Ctrl-C or SIGTERM stopped the training.
            FloatingPointError: the training diverged; the last checkpoint is from before that.
            ValueError: an argument or a data set that cannot be used.
        """
        self._need("training", "train")
        if not self.config.USE_RPN_ROIS:
            raise ValueError(
                "USE_RPN_ROIS is False, so the network takes ROIs as an input, which train() does "
                "not make; call compile(), and keras_model.train_on_batch on the inputs of "
                "data_generator(…, random_rois=POST_NMS_ROIS_TRAINING)."
            )
        if epochs <= self.epoch:
            logger.warning(
                "train(epochs=%d): nothing is left to train; epochs is the total and %d are done.",
                epochs,
                self.epoch,
            )
        log(f"\nStarting at epoch {self.epoch}. LR={learning_rate}\n")
        log(f"Checkpoint path: {self.checkpoint_path}")
        self.set_trainable(layers, verbose=0)
        # For subclasses that make their own optimizer.
        with distribution.scope_of(self.keras_model):
            self.compile(learning_rate, self.config.LEARNING_MOMENTUM)
        return training.fit(
            self.keras_model,
            self.config,
            train_dataset,
            val_dataset,
            self.training_run,
            epochs,
            augmentation=augmentation,
            custom_callbacks=custom_callbacks,
            no_augmentation_sources=no_augmentation_sources,
            seed=seed,
            verbose=verbose,
        )

    # ---- Detection --------------------------------------------------------------------------

    def detect(
        self, images: Sequence[np.ndarray] | np.ndarray, verbose: int = 0
    ) -> list[dict[str, Any]]:
        """Detect objects in any number of images of any sizes, see `detection.detect`.

        Args:
            images: list of `[H, W, channels]` or `[H, W]`, values 0..255.
            verbose: 1 prints the number of images and the shape and range of each, 0 nothing.

        Returns:
            One dict per image: rois `[N, (y1, x1, y2, x2)]` int32 pixels, class_ids `[N]` int32,
            scores `[N]` float32, masks `[H, W, N]` bool; best score first.

        Raises:
            ValueError: the model is in training mode; as `detection.detect`.
        """
        self._need("inference", "detect")
        if verbose:
            log(f"Processing {len(images)} images")
            for image in images:
                log("image", image)
        # A callback may detect while a model trains on several devices.
        with distribution.data_on(None):
            return detection.detect(
                self.keras_model, self.config, self.get_anchors, images, self.unmold_detections
            )

    def detect_molded(
        self,
        molded_images: Sequence[np.ndarray] | np.ndarray,
        image_metas: Sequence[np.ndarray] | np.ndarray,
        verbose: int = 0,
    ) -> list[dict[str, Any]]:
        """Detect in images that `mold_inputs` made; boxes and masks fit the molded images.

        Args:
            molded_images: list of `[H, W, channels]` of one shape; image_metas: `[N, meta]`.
            verbose: as in `detect`.

        Returns:
            As `detect`.

        Raises:
            ValueError: the model is in training mode; images of several shapes, or none.
        """
        self._need("inference", "detect_molded")
        shapes = {np.shape(image) for image in molded_images}
        if len(shapes) != 1:
            raise ValueError(f"molded_images have shapes {sorted(shapes)}; a batch has one.")
        shape = shapes.pop()
        if verbose:
            log(f"Processing {len(molded_images)} images")
            for image in molded_images:
                log("image", image)
        with distribution.data_on(None):
            outputs = detection.predict(
                self.keras_model, self.get_anchors(shape), molded_images, image_metas
            )
        count = len(molded_images)
        window = [0, 0, *shape[:2]]
        return list(
            detection.unmold_batch(
                outputs, [shape] * count, shape, [window] * count, self.unmold_detections
            )
        )

    def mold_inputs(
        self, images: Sequence[np.ndarray] | np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Resize and normalise images for the network, see `detection.mold_inputs`.

        Returns:
            molded images `[N, H, W, channels]` float32; image metas `[N, meta]`; windows
            `[N, (y1, x1, y2, x2)]` in pixels.

        Raises:
            ValueError: as `detection.mold_inputs`; images of several shapes after resizing.
        """
        molded, metas, windows = detection.mold_inputs(images, self.config)
        shapes = sorted({image.shape for image in molded})
        if len(shapes) > 1:
            raise ValueError(
                f"the images have shapes {shapes} after resizing; a batch has one. `detect` "
                "takes them as they are."
            )
        return np.stack(molded), metas, windows

    def unmold_detections(
        self,
        detections: np.ndarray,
        mrcnn_mask: np.ndarray,
        original_image_shape: Sequence[int],
        image_shape: Sequence[int],
        window: Sequence[int] | np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Convert the outputs for one image to its pixels, see `detection.unmold_detections`."""
        return detection.unmold_detections(
            detections, mrcnn_mask, original_image_shape, image_shape, window
        )

    @functools.cached_property
    def _anchors(self) -> detection.AnchorCache:
        # Not in __init__, because subclasses may override it.
        return detection.AnchorCache(self.config)

    def get_anchors(self, image_shape: Sequence[int]) -> np.ndarray:
        """Normalised anchors `[A, (y1, x1, y2, x2)]` for a molded image of this shape."""
        normalised = self._anchors(image_shape)
        self.anchors = self._anchors.pixels
        return normalised

    # ---- Looking inside ---------------------------------------------------------------------

    def ancestor(
        self, tensor: Any, name: str, checked: list | None = None
    ) -> keras.KerasTensor | None:
        """The tensor of this name from which `tensor` is computed, see `inspection.ancestor`."""
        return inspection.ancestor(tensor, name, checked)

    def find_trainable_layer(self, layer: keras.Layer) -> keras.Layer:
        """The layer that holds the weights: a wrapper's inner layer, otherwise the layer itself."""
        return inspection.find_trainable_layer(layer)

    def get_trainable_layers(self) -> list[keras.Layer]:
        """All layers with weights."""
        return inspection.get_trainable_layers(self.keras_model)

    def run_graph(
        self,
        images: Sequence[np.ndarray] | np.ndarray,
        outputs: Iterable[tuple[str, keras.KerasTensor]],
        image_metas: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """Compute tensors of the model for images, as in detection, and print their shapes.

        Args:
            images: as for `detect`, all of one size after resizing; molded ones with image_metas.
            outputs: pairs `(name, tensor)`; tensors come from `keras_model.get_layer(name).output`
                or `ancestor`. A training model can compute tensors up to the proposals.
            image_metas: `[N, meta]`.

        Returns:
            OrderedDict of arrays by name.
        """
        if image_metas is None:
            images, image_metas, _ = self.mold_inputs(images)
        images = np.asarray(images, np.float32)
        anchors = self.get_anchors(images.shape[1:])
        inputs = {
            "input_image": images,
            "input_image_meta": np.asarray(image_metas, np.float32),
            "input_anchors": np.broadcast_to(anchors, (len(images), *anchors.shape)),
        }
        arrays = inspection.run_graph(inputs, outputs)
        for name, array in arrays.items():
            log(name, array)
        return arrays

    def _need(self, mode: str, method: str) -> None:
        if self.mode != mode:
            raise ValueError(
                f"{method} was called on a model in {self.mode!r} mode; it needs "
                f"MaskRCNN(mode={mode!r}, …)."
            )
