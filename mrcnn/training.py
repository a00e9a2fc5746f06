"""Training: the Keras model that compares its outputs, what of it trains, and the run folder.

A run has a folder `logs/<name><YYYYmmddTHHMM>/` with TensorBoard events and a checkpoint an epoch,
`mask_rcnn_<name>_<epoch:04d>.h5`. The path of a checkpoint says which run and epoch it is, so
loading one is enough to go on with that run.
"""

from __future__ import annotations

import datetime
import functools
import importlib.util
import logging
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
from keras import ops

from mrcnn import backend, distribution, losses
from mrcnn.config import LOSS_NAMES, Config
from mrcnn.data.loader import BatchLoader
from mrcnn.nn import folded
from mrcnn.nn.network import dtype_policy, training_graph
from mrcnn.weights import Network, save_checkpoint

logger = logging.getLogger("mrcnn")

_HEADS = r"(mrcnn\_.*)|(rpn\_.*)|(fpn\_.*)"
# What `train(layers=…)` means: regular expressions for the names of layers.
LAYER_PRESETS = {
    "heads": _HEADS,
    "5+": rf"(res5.*)|(bn5.*)|{_HEADS}",
    "4+": rf"(res4.*)|(bn4.*)|(res5.*)|(bn5.*)|{_HEADS}",
    "3+": rf"(res3.*)|(bn3.*)|(res4.*)|(bn4.*)|(res5.*)|(bn5.*)|{_HEADS}",
    "all": ".*",
}


# Rows of an image that the mask head is computed for where no more are positive, else for all that
# can be. Every size is another copy of the head to be traced and compiled.
_MASK_ROWS = (16,)


# ---- The model -------------------------------------------------------------------------------


@keras.saving.register_keras_serializable("mrcnn")
class TrainingModel(Network):
    """The training graph with the five losses: `TrainingModel(inputs, outputs)`.

    Targets are among its inputs, so `fit` and `train_on_batch` take those alone. The loss is
    the weighted sum of the five, plus L2 on whatever trains. Progress bar, TensorBoard and
    history name the five as Config.LOSS_WEIGHTS does, each with its weight applied.
    """

    def __init__(
        self,
        *args,
        loss_weights=None,
        weight_decay=0.0,
        gradient_checkpointing=False,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        self.loss_means = {name: keras.metrics.Mean(name=name) for name in LOSS_NAMES}
        self.loss_weights = dict(loss_weights or {})
        self.weight_decay = float(weight_decay)
        self.gradient_checkpointing = bool(gradient_checkpointing)
        self.distribution = distribution.current()

    def get_config(self):
        settings = {
            "loss_weights": dict(self.loss_weights),
            "weight_decay": self.weight_decay,
            "gradient_checkpointing": self.gradient_checkpointing,
        }
        return {**super().get_config(), **settings}

    def compile(self, optimizer, loss_weights=None, weight_decay=None, **kwargs):
        """`keras.Model.compile` with a weight by loss name, 1 if unnamed, and the L2 factor.

        None keeps what the last call set, or the Config that the model was built from.
        """
        kwargs.setdefault("jit_compile", "auto" if backend.SUPPORTS_JIT else False)
        with distribution.scope_of(self):
            super().compile(optimizer=optimizer, **kwargs)
            distribution.clip_the_mean(self.optimizer)
        # Keras starts the mean of the whole loss afresh here; its parts must go with it.
        for mean in self.loss_means.values():
            mean.reset_state()
        if loss_weights is not None:
            self.loss_weights = dict(loss_weights)
        if weight_decay is not None:
            self.weight_decay = float(weight_decay)

    def get_compile_config(self):
        if not self.compiled:
            return None
        return {
            "optimizer": keras.saving.serialize_keras_object(self.optimizer),
            "loss_weights": dict(self.loss_weights),
            "weight_decay": self.weight_decay,
        }

    def compile_from_config(self, config):
        optimizer = keras.saving.deserialize_keras_object(config["optimizer"])
        self.compile(optimizer, config["loss_weights"], config["weight_decay"])
        start_optimizer(self)

    def call(self, inputs, training=None, mask=None):
        """The outputs by name, computed as `nn.folded` does."""
        values = keras.tree.flatten(inputs)
        if any(isinstance(value, keras.KerasTensor) for value in values):
            return super().call(inputs, training=training, mask=mask)
        given = [
            (symbol, ops.convert_to_tensor(value, dtype=symbol.dtype))
            for symbol, value in zip(self.inputs, values, strict=True)
        ]
        if self.gradient_checkpointing and training:
            given += folded.run_blocks(self.block_ends, *given[0], training=True)
        before_masks = self.get_layer("roi_align_mask").input
        names = [name for name in self.output if name != "mrcnn_mask"]
        symbols = [*(self.output[name] for name in names), *before_masks]
        found = folded.run(symbols, given, training=bool(training))
        outputs = dict(zip(names, found, strict=False))
        rest = list(zip(before_masks, found[len(names) :], strict=True))
        outputs["mrcnn_mask"] = self._masks(rest, outputs["target_class_ids"], bool(training))
        return outputs

    @functools.cached_property
    def block_ends(self) -> list:
        """Tensors between which GRADIENT_CHECKPOINTING keeps nothing."""
        return folded.block_ends(self.get_layer("fpn_c5p5").input, self.inputs[0])

    def _masks(self, given, target_class_ids, training: bool):
        """The mask head's output, computed for the rows that are positive and zero in the others.

        Args:
            given: `(symbol, value)` of the mask head's inputs, ROIs first.
            target_class_ids: `[B, N]`, the positive ones first.
        """
        symbol = self.output["mrcnn_mask"]
        (rois, boxes), *others = given
        rows = boxes.shape[1]
        # A few fixed numbers of rows: nothing is traced again, and XLA can compile it.
        sizes = [size for size in _MASK_ROWS if size < rows]
        if training and self.get_layer("mrcnn_mask_bn1").train_bn is not False:
            sizes = []  # all rows count in the statistics
        if training and not backend.convolves_in_branches():
            sizes = []

        def of_size(size):
            def masks(boxes, *values):
                head = [(s, value) for (s, _), value in zip(others, values, strict=True)]
                (x,) = folded.run([symbol], [(rois, boxes[:, :size]), *head], training)
                return ops.pad(x, [[0, 0], [0, rows - size], [0, 0], [0, 0], [0, 0]])

            return masks

        positives = ops.max(ops.sum(ops.cast(target_class_ids > 0, "int32"), axis=1))
        index = sum((ops.cast(positives > size, "int32") for size in sizes), 0)
        branches = [of_size(size) for size in (*sizes, rows)]
        values = [boxes, *(value for _, value in others)]
        return ops.switch(index, branches, *values) if sizes else branches[0](*values)

    def fit(self, x=None, *args, validation_data=None, **kwargs):
        """`keras.Model.fit`, which also takes generators of `(inputs, outputs)`.

        `data_generator` makes such batches, two lists; outputs are not looked at.
        """
        if isinstance(x, Iterator):
            kwargs.setdefault("shuffle", False)
        with distribution.data_on(self.distribution):
            return super().fit(
                _inputs_alone(x), *args, validation_data=_inputs_alone(validation_data), **kwargs
            )

    def train_on_batch(self, *args, **kwargs):
        with distribution.data_on(self.distribution):
            return super().train_on_batch(*args, **kwargs)

    def test_on_batch(self, *args, **kwargs):
        with distribution.data_on(self.distribution):
            return super().test_on_batch(*args, **kwargs)

    def evaluate(self, *args, **kwargs):
        with distribution.data_on(self.distribution):
            return super().evaluate(*args, **kwargs)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        # Of a model on several devices, Keras on TensorFlow would average a batch over them to
        # learn its shapes, which no bool can be. All but the optimizer is built already.
        if self.optimizer is not None and not self.optimizer.built:
            start_optimizer(self)

    def fit_generator(
        self,
        generator,
        steps_per_epoch=None,
        epochs=1,
        *,
        max_queue_size=None,
        workers=None,
        use_multiprocessing=None,
        **kwargs,
    ):
        """`fit` under its name in Keras 2; the last three arguments have no meaning any more."""
        return self.fit(generator, steps_per_epoch=steps_per_epoch, epochs=epochs, **kwargs)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        total = losses.l2_loss(_decayed(self.trainable_variables), self.weight_decay)
        for name, loss in five_losses(y_pred).items():
            loss = loss * self.loss_weights.get(name, 1.0)
            self.loss_means[name].update_state(loss)
            total = total + loss
        # TensorFlow adds up the replicas' gradients, and Keras multiplies what it reports by this.
        return total / distribution.replica_count()


def _inputs_alone(data):
    """A generator of `(inputs, outputs)` as one of `(inputs,)`; anything else as it is.

    TensorFlow takes no lists in a generator's batches.
    """
    if not isinstance(data, Iterator):
        return data
    return ((tuple(inputs),) for inputs, *_ in data)


def five_losses(outputs: dict) -> dict:
    """The losses by name, in the order of LOSS_NAMES, of the outputs of `training_graph`.

    Returns:
        dict of float32 scalars.
    """
    match, ids = outputs["rpn_match"], outputs["target_class_ids"]
    masked = outputs["mrcnn_mask"].shape[1]  # rows that can be positive, the first ones
    values = (
        losses.rpn_class_loss(match, outputs["rpn_class_logits"]),
        losses.rpn_bbox_loss(outputs["rpn_target_bbox"], match, outputs["rpn_bbox"]),
        losses.mrcnn_class_loss(ids, outputs["mrcnn_class_logits"], outputs["active_class_ids"]),
        losses.mrcnn_bbox_loss(outputs["target_bbox"], ids, outputs["mrcnn_bbox"]),
        losses.mrcnn_mask_loss(
            outputs["target_mask"][:, :masked], ids[:, :masked], outputs["mrcnn_mask"]
        ),
    )
    return dict(zip(LOSS_NAMES, values, strict=True))


# Of batch normalisation: they have no scale to keep small.
NOT_DECAYED = ("gamma", "beta")


def _decayed(variables):
    return [v for v in variables if v.name not in NOT_DECAYED]


def build_training_model(config: Config) -> TrainingModel:
    """The model that `fit` trains, on GPU_COUNT devices of each worker."""
    with distribution.scope(_device_count(config)), dtype_policy(config.DTYPE_POLICY):
        inputs, outputs = training_graph(config)
        model = TrainingModel(inputs=inputs, outputs=outputs, name="mask_rcnn")
    model.loss_weights = dict(config.LOSS_WEIGHTS)
    model.weight_decay = _l2_factor(config)
    model.gradient_checkpointing = bool(config.GRADIENT_CHECKPOINTING)
    if model.gradient_checkpointing and not model.block_ends:
        raise ValueError(
            "GRADIENT_CHECKPOINTING is True, and the BACKBONE has no blocks, which end in a sum "
            "(keras.layers.Add); it must be False."
        )
    return model


def _device_count(config: Config) -> int:
    """GPU_COUNT, or 1 where Keras cannot train on several devices."""
    if config.GRADIENT_ACCUMULATION_STEPS > 1 or config.DTYPE_POLICY == "mixed_float16":
        return distribution.one_device_on_tensorflow(
            config.GPU_COUNT,
            "Keras on TensorFlow neither accumulates gradients (GRADIENT_ACCUMULATION_STEPS) nor "
            "trains in mixed_float16 on several devices",
        )
    return config.GPU_COUNT


def _l2_factor(config: Config) -> float:
    """Weights decay once: by L2 in the loss or, where that is asked for, in the optimizer."""
    return 0.0 if config.DECOUPLED_WEIGHT_DECAY else float(config.WEIGHT_DECAY)


def compile_model(model: TrainingModel, config: Config, learning_rate, momentum) -> None:
    """The Config's optimizer, all gradients together clipped to GRADIENT_CLIP_NORM."""
    with distribution.scope_of(model):
        optimizer = build_optimizer(config, learning_rate, momentum)
    model.compile(optimizer, config.LOSS_WEIGHTS, _l2_factor(config))


def start_optimizer(model: TrainingModel) -> None:
    """Let the optimizer of a compiled model have its variables, before the first step."""
    if model.optimizer.built:  # the one of mixed_float16 would get its counters a second time
        return
    with distribution.scope_of(model):
        model.optimizer.build(model.trainable_variables)


def build_optimizer(config: Config, learning_rate, momentum) -> keras.optimizers.Optimizer:
    """The optimizer of OPTIMIZER, DECOUPLED_WEIGHT_DECAY, EMA_MOMENTUM and the like.

    Args:
        momentum: of "sgd"; Adam has its own.
    """
    settings = {
        # Keras would number them, and a checkpoint names what it holds by this.
        "name": config.OPTIMIZER,
        "learning_rate": learning_rate,
        # Keras' AdamW has a decay of its own if none is given.
        "weight_decay": config.DECOUPLED_WEIGHT_DECAY,
        # The norm of all gradients; Keras' `clipnorm` would clip each variable on its own.
        "global_clipnorm": config.GRADIENT_CLIP_NORM,
        "use_ema": config.EMA_MOMENTUM > 0,
        "ema_momentum": config.EMA_MOMENTUM,
    }
    if config.GRADIENT_ACCUMULATION_STEPS > 1:
        settings["gradient_accumulation_steps"] = config.GRADIENT_ACCUMULATION_STEPS
    if config.OPTIMIZER == "sgd":
        # None, not 0, so that the plain optimizer does no work for it.
        settings["weight_decay"] = config.DECOUPLED_WEIGHT_DECAY or None
        optimizer = keras.optimizers.SGD(momentum=momentum, **settings)
    elif config.OPTIMIZER == "adam":
        optimizer = keras.optimizers.Adam(**settings)
    else:
        optimizer = keras.optimizers.AdamW(**settings)
    if config.DECOUPLED_WEIGHT_DECAY:
        # TensorFlow's variables are named `gamma:0`.
        names = [rf"(^|/){name}(:\d+)?$" for name in NOT_DECAYED]
        optimizer.exclude_from_weight_decay(var_names=names)
    return optimizer


# ---- Learning rate -----------------------------------------------------------------------------


@keras.saving.register_keras_serializable("mrcnn")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that first rises in a line from a thousandth of itself (Goyal et al. 2017).

    Args:
        learning_rate: a number or a schedule.
        steps: batches until it is what it is.
    """

    def __init__(self, learning_rate, steps: int):
        super().__init__()
        self.learning_rate = learning_rate
        self.steps = int(steps)

    def __call__(self, step):
        rate = self.learning_rate
        rate = rate(step) if callable(rate) else rate
        done = ops.minimum(ops.cast(step, "float32") / self.steps, 1.0)
        return rate * (0.001 + 0.999 * done)

    def get_config(self):
        rate = self.learning_rate
        if callable(rate):
            rate = keras.saving.serialize_keras_object(rate)
        return {"learning_rate": rate, "steps": self.steps}

    @classmethod
    def from_config(cls, config):
        rate = config["learning_rate"]
        if isinstance(rate, dict):
            rate = keras.saving.deserialize_keras_object(rate)
        return cls(rate, config["steps"])


def learning_rate_schedule(config: Config, learning_rate: float, steps: int):
    """What LEARNING_RATE_SCHEDULE and WARMUP_STEPS make of a learning rate.

    Args:
        steps: batches of the whole training, those before a resumption included.

    Returns:
        A Keras schedule by batches, or the number itself if it stays.
    """
    rate = learning_rate
    if config.LEARNING_RATE_SCHEDULE == "step":
        # A boundary is the last batch with the value before it.
        ends = [max(round(part * steps) - 1, 0) for part in config.LEARNING_RATE_DROPS]
        values = [learning_rate * 0.1**i for i in range(len(ends) + 1)]
        rate = keras.optimizers.schedules.PiecewiseConstantDecay(ends, values)
    elif config.LEARNING_RATE_SCHEDULE == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(learning_rate, max(steps, 1))
    return WarmUp(rate, config.WARMUP_STEPS) if config.WARMUP_STEPS else rate


def set_schedule(model: TrainingModel, config: Config, steps_ahead: int) -> None:
    """Put the Config's schedule in place of the learning rate that a model was compiled with.

    It goes by the optimizer's count of batches, which a checkpoint has: a resumed run goes on with
    it where it was.

    Args:
        steps_ahead: batches that are still to come.
    """
    if config.LEARNING_RATE_SCHEDULE == "constant" and not config.WARMUP_STEPS:
        return
    optimizer = model.optimizer
    steps = _batches_done(optimizer) + steps_ahead
    rate = float(optimizer.learning_rate.numpy())
    optimizer.learning_rate = learning_rate_schedule(config, rate, steps)


def _batches_done(optimizer) -> int:
    # `iterations` counts steps of the optimizer, each of so many batches.
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    return int(ops.convert_to_numpy(inner.iterations)) * (inner.gradient_accumulation_steps or 1)


# ---- What trains -----------------------------------------------------------------------------


def set_trainable(model: keras.Model, layer_regex: str) -> list[str]:
    """Let exactly the layers whose whole name matches train.

    Args:
        model: layers of models inside it are looked at one by one.
        layer_regex: a regular expression or the name of a preset, see LAYER_PRESETS.

    Returns:
        Names of the layers with weights that train now.

    Raises:
        ValueError: no regular expression, or one that matches no layer with weights.
    """
    expression = LAYER_PRESETS.get(layer_regex, layer_regex)
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise ValueError(
            f"layers is {layer_regex!r}, no regular expression ({error}); it must be one, or "
            f"one of {', '.join(LAYER_PRESETS)}."
        ) from error
    weighted = list(_layers_with_weights(model))
    selected = [layer.name for layer in weighted if pattern.fullmatch(layer.name)]
    if not selected:
        raise ValueError(
            f"layers is {layer_regex!r}, which matches no layer with weights; it must be a "
            f"regular expression for layer names, or one of {', '.join(LAYER_PRESETS)}."
        )
    for layer in weighted:
        layer.trainable = layer.name in selected
    return selected


def _layers_with_weights(model: keras.Model):
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _layers_with_weights(layer)
        elif layer.weights:
            yield layer


# ---- Run folder --------------------------------------------------------------------------------


@dataclass
class RunFolder:
    """Where a run writes, and the epochs it has behind it.

    Attributes:
        log_dir: the folder. checkpoint_path: pattern with `{epoch:04d}`. epoch: 0 for a new run.
    """

    log_dir: str
    checkpoint_path: str
    epoch: int = 0


def run_folder(model_dir, name: str, weights_path=None) -> RunFolder:
    """The folder of the run a checkpoint belongs to, or of a new run.

    Args:
        model_dir: folder of all runs.
        name: Config.NAME.
        weights_path: file that was loaded; one named like a checkpoint inside a run folder
            continues that run.
    """
    run_name = str(name).lower()
    log_dir, epoch = None, 0
    if weights_path:
        path = Path(weights_path).absolute()
        file = re.fullmatch(rf"mask_rcnn_{re.escape(run_name)}_(\d{{4,}})\.h5", path.name)
        if file and re.fullmatch(rf"{re.escape(run_name)}\d{{8}}T\d{{4}}", path.parent.name):
            log_dir, epoch = str(path.parent), int(file.group(1))
            if path.parent.parent != Path(model_dir).absolute():
                log_dir = os.path.join(model_dir, path.parent.name)
    if log_dir is None:
        log_dir = os.path.join(model_dir, f"{run_name}{datetime.datetime.now():%Y%m%dT%H%M}")
    pattern = os.path.join(log_dir, f"mask_rcnn_{run_name}_{{epoch:04d}}.h5")
    return RunFolder(log_dir, pattern, epoch)


def find_last(model_dir, name: str) -> str:
    """Path of the last checkpoint of the last run that has one.

    Raises:
        FileNotFoundError: no run of this name, or none with a checkpoint.
    """
    run_name = re.escape(str(name).lower())
    folder = Path(model_dir)
    named = re.compile(rf"{run_name}\d{{8}}T\d{{4}}")
    runs = [path for path in folder.glob("*") if path.is_dir() and named.fullmatch(path.name)]
    for run in sorted(runs, key=lambda path: path.name, reverse=True):
        epochs = {}
        for path in run.iterdir():
            match = re.fullmatch(rf"mask_rcnn_{run_name}_(\d+)\.h5", path.name)
            if match:
                epochs[int(match.group(1))] = path
        if epochs:
            return str(epochs[max(epochs)])
    raise FileNotFoundError(
        f"no checkpoint of a run named {name!r} in {folder}; train first, or name a weight file."
    )


# ---- Training --------------------------------------------------------------------------------


class ValidationLoader(BatchLoader):
    """The same random batches every epoch, so that the losses of epochs compare."""

    def on_epoch_end(self) -> None:
        pass


class Checkpoint(keras.callbacks.Callback):
    """Writes weights and optimizer state after every epoch.

    Args:
        path: pattern with `{epoch:04d}`.
    """

    def __init__(self, path: str):
        super().__init__()
        self.path = path

    def on_epoch_end(self, epoch, logs=None):
        save_checkpoint(self.model, self.path.format(epoch=epoch + 1))


def _tensorboard(log_dir: str) -> list[keras.callbacks.Callback]:
    """Keras' callback that writes events, which takes TensorFlow, whatever the backend."""
    if importlib.util.find_spec("tensorflow") is None:
        logger.warning("TensorFlow is not installed: no TensorBoard events of epochs are written.")
        return []
    return [keras.callbacks.TensorBoard(log_dir=log_dir, write_graph=False)]


def _weight_averaging(model: TrainingModel) -> list[keras.callbacks.Callback]:
    """The callback that lets the averages stand in for the weights at the end of an epoch."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    if not optimizer.use_ema:
        return []
    if int(ops.convert_to_numpy(optimizer.iterations)):
        # Resumed: a checkpoint has the averages as its weights, and the weights as averages.
        back = keras.callbacks.SwapEMAWeights()
        back.set_model(model)
        back.on_test_begin()
    return [keras.callbacks.SwapEMAWeights(swap_on_epoch=True)]


def fit(
    model: TrainingModel,
    config: Config,
    train_dataset,
    val_dataset,
    run: RunFolder,
    epochs: int,
    augmentation=None,
    custom_callbacks=(),
    no_augmentation_sources=None,
    seed: int = 0,
) -> keras.callbacks.History:
    """Train a compiled model from the run's epoch up to `epochs`.

    Of several workers each reads its share of a batch, and the first one alone writes checkpoints
    and TensorBoard. Their batch is BATCH_SIZE images of each.
    """
    share = (distribution.worker_index(), distribution.worker_count())
    set_schedule(model, config, (epochs - run.epoch) * math.ceil(config.STEPS_PER_EPOCH))
    train_loader = BatchLoader(
        train_dataset,
        config,
        steps=math.ceil(config.STEPS_PER_EPOCH),
        augmentation=augmentation,
        no_augmentation_sources=no_augmentation_sources,
        seed=seed,
        initial_epoch=run.epoch,
        share=share,
    )
    val_loader = None
    if val_dataset is not None and config.VALIDATION_STEPS:
        steps = math.ceil(config.VALIDATION_STEPS)
        val_loader = ValidationLoader(val_dataset, config, steps=steps, share=share)
    os.makedirs(run.log_dir, exist_ok=True)
    is_first = share[0] == 0
    callbacks = [
        *_weight_averaging(model),
        *([Checkpoint(run.checkpoint_path)] if is_first else []),
        *(custom_callbacks or ()),
    ]
    if is_first:
        # Last, so that it shows what callbacks add to an epoch's logs.
        callbacks += _tensorboard(run.log_dir)
    try:
        return model.fit(
            train_loader,
            initial_epoch=run.epoch,
            epochs=epochs,
            callbacks=callbacks,
            validation_data=val_loader,
            # The loader shuffles; Keras would shuffle its batches by an order of its own.
            shuffle=False,
            verbose="auto" if is_first else 0,
        )
    except Exception:
        # TensorFlow turns an error of the loader into text inside one of its own.
        for loader in (train_loader, val_loader):
            if loader is not None and loader.failure is not None:
                raise loader.failure from None
        raise
