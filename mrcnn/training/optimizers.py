"""Optimizers and learning-rate schedules."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import keras
from keras import ops

from mrcnn.config import Config
from mrcnn.types import ArrayOrTensor, Tensor

LearningRate: TypeAlias = float | keras.optimizers.schedules.LearningRateSchedule

# Variables of batch normalisation, which weight decay leaves out.
NOT_DECAYED = ("gamma", "beta")


def decayed(variables: Iterable[keras.Variable]) -> list[keras.Variable]:
    """The variables that weight decay applies to."""
    return [v for v in variables if v.name not in NOT_DECAYED]


def build_optimizer(
    config: Config, learning_rate: LearningRate, momentum: float
) -> keras.optimizers.Optimizer:
    """The optimizer that the Config describes: OPTIMIZER, EMA_MOMENTUM and related settings.

    Args:
        config: the settings of the optimizer.
        learning_rate: a number or a schedule.
        momentum: momentum of "sgd"; the others ignore it.
    """
    settings = {
        # A fixed name, because checkpoints name the variables by it; Keras would add a number.
        "name": config.OPTIMIZER,
        "learning_rate": learning_rate,
        # Without a value, Keras' AdamW uses 0.004.
        "weight_decay": config.DECOUPLED_WEIGHT_DECAY,
        # The norm of all gradients together; Keras' `clipnorm` would clip each variable separately.
        "global_clipnorm": config.GRADIENT_CLIP_NORM,
        "use_ema": config.EMA_MOMENTUM > 0,
        "ema_momentum": config.EMA_MOMENTUM,
    }
    if config.GRADIENT_ACCUMULATION_STEPS > 1:
        settings["gradient_accumulation_steps"] = config.GRADIENT_ACCUMULATION_STEPS
    if config.OPTIMIZER == "sgd":
        # None, not 0, so that plain SGD computes no decay.
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


@keras.saving.register_keras_serializable("mrcnn")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """A learning-rate schedule with linear warm-up from 0.001 times the rate (Goyal et al. 2017).

    Args:
        learning_rate: the rate after the warm-up, a number or a schedule.
        steps: number of warm-up steps.
    """

    def __init__(self, learning_rate: LearningRate, steps: int):
        super().__init__()
        self.learning_rate = learning_rate
        self.steps = int(steps)

    def __call__(self, step: ArrayOrTensor | int) -> Tensor:
        """The learning rate of a step, counted from 0."""
        rate = self.learning_rate
        rate = rate(step) if callable(rate) else rate
        done = ops.minimum(ops.cast(step, "float32") / self.steps, 1.0)
        return rate * (0.001 + 0.999 * done)

    def get_config(self) -> dict:
        """The arguments, for Keras' own format."""
        rate = self.learning_rate
        if callable(rate):
            rate = keras.saving.serialize_keras_object(rate)
        return {"learning_rate": rate, "steps": self.steps}

    @classmethod
    def from_config(cls, config: dict) -> WarmUp:
        """A schedule from the arguments of `get_config`."""
        rate = config["learning_rate"]
        if isinstance(rate, dict):
            rate = keras.saving.deserialize_keras_object(rate)
        return cls(rate, config["steps"])


def learning_rate_schedule(config: Config, learning_rate: float, steps: int) -> LearningRate:
    """The learning-rate schedule of LEARNING_RATE_SCHEDULE and WARMUP_STEPS.

    Args:
        config: the settings of the schedule.
        learning_rate: the rate before any decay.
        steps: number of batches in the whole training, including those before a resumption.

    Returns:
        A Keras schedule by batches; for a constant rate without warm-up, the number itself.
    """
    rate = learning_rate
    if config.LEARNING_RATE_SCHEDULE == "step":
        # Keras' boundary is the last step with the value before it.
        ends = [max(round(part * steps) - 1, 0) for part in config.LEARNING_RATE_DROPS]
        values = [learning_rate * 0.1**i for i in range(len(ends) + 1)]
        rate = keras.optimizers.schedules.PiecewiseConstantDecay(ends, values)
    elif config.LEARNING_RATE_SCHEDULE == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(learning_rate, max(steps, 1))
    return WarmUp(rate, config.WARMUP_STEPS) if config.WARMUP_STEPS else rate


def set_schedule(model: keras.Model, config: Config, steps_ahead: int) -> None:
    """Replace the learning rate that a model was compiled with by the Config's schedule.

    The schedule follows the optimizer's step count, which checkpoints hold, so a resumed run
    continues it.

    Args:
        model: compiled, with a number as its learning rate.
        config: the settings of the schedule.
        steps_ahead: number of batches still to come.
    """
    if config.LEARNING_RATE_SCHEDULE == "constant" and not config.WARMUP_STEPS:
        return
    optimizer = model.optimizer
    steps = _batches_done(optimizer) + steps_ahead
    rate = float(optimizer.learning_rate.numpy())
    optimizer.learning_rate = learning_rate_schedule(config, rate, steps)


def inner_optimizer(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """The optimizer itself, without the loss scaling that mixed_float16 wraps around it."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def _batches_done(optimizer: keras.optimizers.Optimizer) -> int:
    # `iterations` counts steps of the optimizer, each of GRADIENT_ACCUMULATION_STEPS batches.
    inner = inner_optimizer(optimizer)
    return int(ops.convert_to_numpy(inner.iterations)) * (inner.gradient_accumulation_steps or 1)
