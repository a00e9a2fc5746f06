"""Optimizers and learning-rate schedules."""

from __future__ import annotations

import keras
from keras import ops

from mrcnn.config import Config

# Of batch normalisation: they have no scale to keep small.
NOT_DECAYED = ("gamma", "beta")


def decayed(variables):
    return [v for v in variables if v.name not in NOT_DECAYED]


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


def set_schedule(model: keras.Model, config: Config, steps_ahead: int) -> None:
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
