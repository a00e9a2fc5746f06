"""Weight files with changed bytes: loaded with other numbers, or refused in one sentence."""

import keras
import numpy as np
import pytest
from keras import layers

from mrcnn import weights

# Changed bytes make any number, and Keras 3.15 warns of NumPy 2 while it saves.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:A total of .* objects could not be loaded:UserWarning"),
]

FEW, MANY = 40, 400


def build():
    image = keras.Input((9, 9, 3))
    x = layers.BatchNormalization(name="bn")(layers.Conv2D(4, 3, name="conv1")(image))
    inside = keras.Input((7, 7, 4))
    y = layers.Conv2D(2, 1, name="second")(layers.Conv2D(3, 1, name="first")(inside))
    return weights.Network(image, keras.Model(inside, y, name="nested")(x), name="network")


@pytest.fixture(scope="module")
def model():
    model = build()
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss="mse")
    model.optimizer.build(model.trainable_variables)
    return model


SAVE = {
    "w.h5": weights.save_weights,
    "w.weights.h5": weights.save_weights,
    "whole.h5": weights.save_model,
    "checkpoint.h5": weights.save_checkpoint,
}


def by_our_reader(model, path):
    weights.load_weights(model, path)


def by_the_model(model, path):
    model.load_weights(path, skip_mismatch=False)


READ = [
    ("w.h5", by_our_reader),
    ("w.weights.h5", by_our_reader),
    ("w.weights.h5", by_the_model),
    ("whole.h5", by_our_reader),
    ("checkpoint.h5", weights.load_optimizer),
]


def damaged(content, count, seed):
    """Copies with a flipped bit, eight random bytes, a run of 0xff, or an end cut off."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        copy = bytearray(content)
        # Half of the changes go to the first kilobytes, where most of the structure lies.
        position = int(rng.integers(len(copy) if number % 2 else min(len(copy), 4096)))
        kind = number % 4
        if kind == 0:
            copy[position] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            copy[position : position + 8] = rng.bytes(8)
        elif kind == 2:
            copy[position : position + 4] = b"\xff" * 4
        else:
            del copy[position:]
        yield bytes(copy)


@pytest.mark.parametrize(
    "count", [FEW, pytest.param(MANY, marks=pytest.mark.slow)], ids=["few", "many"]
)
@pytest.mark.parametrize(("name", "read"), READ, ids=lambda value: getattr(value, "__name__", None))
def test_a_changed_file_is_loaded_or_refused_whole(model, tmp_path, name, read, count):
    path = tmp_path / name
    SAVE[name](model, path)
    variables = [*model.variables, *model.optimizer.variables]
    before = [np.array(variable) for variable in variables]
    refused = 0
    for content in damaged(path.read_bytes(), count, seed=len(name)):
        path.write_bytes(content)
        try:
            read(model, path)
        except ValueError as error:
            refused += 1
            assert str(path) in str(error) and "\n" not in str(error)
            for variable, old in zip(variables, before, strict=True):
                np.testing.assert_array_equal(np.asarray(variable), old)
        for variable, old in zip(variables, before, strict=True):
            variable.assign(old)
    assert 0 < refused <= count
