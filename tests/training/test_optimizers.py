"""Optimizers, and learning-rate schedules over a whole training."""

import keras
import numpy as np
import pytest
from keras import ops

from mrcnn import training
from mrcnn.training.optimizers import inner_optimizer
from tests.tiny import tiny_config


def optimizer_of(learning_rate=0.1, **settings):
    return training.build_optimizer(tiny_config(**settings), learning_rate, 0.9)


def stepped(optimizer, *gradients, start=2.0):
    """Values of the variables `kernel` and `gamma` after steps with these gradients."""
    variables = [keras.Variable(start, name=name) for name in ("kernel", "gamma")]
    optimizer.build(variables)
    for gradient in gradients:
        optimizer.apply([ops.full((), gradient)] * 2, variables)
    return [float(variable) for variable in variables]


def test_the_optimizer_is_the_originals_unless_another_is_asked_for():
    optimizer = optimizer_of()
    assert type(optimizer) is keras.optimizers.SGD and optimizer.momentum == 0.9
    assert optimizer.weight_decay is None and optimizer.gradient_accumulation_steps is None
    assert not optimizer.use_ema
    assert type(optimizer_of(OPTIMIZER="adam")) is keras.optimizers.Adam
    assert type(optimizer_of(OPTIMIZER="adamw")) is keras.optimizers.AdamW


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_decoupled_decay_takes_a_part_of_each_weight_but_gamma_and_beta(name):
    decayed = optimizer_of(OPTIMIZER=name, DECOUPLED_WEIGHT_DECAY=0.5)
    kernel, gamma = stepped(decayed, 0.0, 0.0)
    assert kernel == pytest.approx(2.0 * (1 - 0.1 * 0.5) ** 2) and gamma == 2.0
    assert stepped(optimizer_of(OPTIMIZER=name), 0.0) == [2.0, 2.0]


def test_accumulated_gradients_make_one_step_of_their_mean():
    assert stepped(optimizer_of(GRADIENT_ACCUMULATION_STEPS=2), 1.0) == [2.0, 2.0]
    kernel, _ = stepped(optimizer_of(GRADIENT_ACCUMULATION_STEPS=2), 1.0, 3.0)
    assert kernel == pytest.approx(2.0 - 0.1 * 2.0)


# ---- Learning rate -------------------------------------------------------------------------------


def rates(steps, **settings):
    """The learning rate at each of a training's batches, 1 before schedules."""
    schedule = training.learning_rate_schedule(tiny_config(**settings), 1.0, steps)
    return np.array([float(schedule(step)) for step in range(steps)])


def test_a_warm_up_rises_in_a_line_from_a_thousandth():
    found = rates(12, WARMUP_STEPS=8)
    np.testing.assert_allclose(found[:9], np.linspace(0.001, 1, 9), rtol=1e-5)
    np.testing.assert_allclose(found[8:], 1.0, rtol=1e-6)


def test_steps_and_cosine_fall_over_the_whole_training():
    drops = rates(12, LEARNING_RATE_SCHEDULE="step", LEARNING_RATE_DROPS=(0.5, 0.75))
    np.testing.assert_allclose(drops, [1] * 6 + [0.1] * 3 + [0.01] * 3, rtol=1e-5)
    wave = (1 + np.cos(np.pi * np.arange(12) / 12)) / 2
    np.testing.assert_allclose(rates(12, LEARNING_RATE_SCHEDULE="cosine"), wave, atol=1e-6)
    both = rates(12, LEARNING_RATE_SCHEDULE="cosine", WARMUP_STEPS=4)
    rise = np.minimum(np.linspace(0.001, 1, 5)[np.minimum(np.arange(12), 4)], 1)
    np.testing.assert_allclose(both, wave * rise, atol=1e-6)


def test_a_constant_rate_stays_a_number_that_callbacks_can_set():
    assert training.learning_rate_schedule(tiny_config(), 0.25, 10) == 0.25


def test_a_schedule_survives_keras_own_format():
    config = tiny_config(LEARNING_RATE_SCHEDULE="cosine", WARMUP_STEPS=3)
    schedule = training.learning_rate_schedule(config, 0.5, 9)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert [float(copy(step)) for step in range(9)] == [float(schedule(s)) for s in range(9)]


def test_the_optimizer_inside_is_found():
    plain = keras.optimizers.SGD(0.5)
    assert inner_optimizer(plain) is plain
    assert inner_optimizer(keras.optimizers.LossScaleOptimizer(plain)) is plain
