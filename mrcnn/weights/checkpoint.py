"""A checkpoint: a weight file that holds the optimizer's state too."""

import os
import re

import h5py
import keras
import numpy as np

from mrcnn.files import written_beside
from mrcnn.messages import listed
from mrcnn.types import PathLike
from mrcnn.weights import hdf5
from mrcnn.weights.hdf5 import h5_path
from mrcnn.weights.layers import keras2_layers


def save_checkpoint(model: keras.Model, filepath: str | os.PathLike) -> None:
    """Save weights as `save_weights` does to `.h5`, and the optimizer's state beside them.

    The state lies in a group `optimizer_weights`, which the original and `load_weights` pass
    over: a checkpoint is a weight file as well.

    Raises:
        ValueError: the model is not compiled, or the name does not end in `.h5`.
    """
    path = h5_path(filepath)
    if path.name.endswith(".weights.h5"):
        raise ValueError(f"the name of a checkpoint ends in .h5, not in .weights.h5: {path}")
    state = {name: np.asarray(v) for name, v in _optimizer_variables(model).items()}
    with written_beside(path) as temporary, h5py.File(temporary, "w") as file:
        hdf5.write_layers(file, keras2_layers(model))
        hdf5.write_group(file.create_group("optimizer_weights"), state)
        random_state = {name: np.asarray(v) for name, v in _random_variables(model).items()}
        hdf5.write_group(file.create_group("random_state"), random_state)


def load_optimizer(model: keras.Model, filepath: str | os.PathLike) -> None:
    """Restore the optimizer's state (step count, momentum) from a file of `save_checkpoint`.

    The learning rate stays as compiled. The optimizer must be built, for the same trainable
    weights as when the file was written.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, holds no optimizer state, or that of other variables.
    """
    variables = _optimizer_variables(model)
    with hdf5.open_weights(filepath) as file:
        if "optimizer_weights" not in file:
            raise ValueError(f"{filepath} holds no optimizer state; save_checkpoint writes it")
        stored = hdf5.read_group(file["optimizer_weights"])
        in_file = {(name, dataset.shape) for name, dataset in stored.items()}
        in_model = {(name, tuple(v.shape)) for name, v in variables.items()}
        if in_file != in_model:
            differing = sorted({name for name, _ in in_file ^ in_model})
            raise ValueError(
                f"the optimizer state in {filepath} is not that of this model, compiled for the "
                "same layers and built (optimizer.build(model.trainable_variables)); they differ "
                f"in {listed(differing)}"
            )
        arrays = hdf5.read_arrays([stored[name] for name in variables])
    for variable, array in zip(variables.values(), arrays, strict=True):
        variable.assign(array)


def load_random_state(model: keras.Model, filepath: PathLike) -> None:
    """Restore the state of the model's random generators from a file of `save_checkpoint`.

    Checkpoints of release 0.1 and of other programs hold none; the state stays as it is then.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or holds the state of other generators.
    """
    variables = _random_variables(model)
    with hdf5.open_weights(filepath) as file:
        if "random_state" not in file:
            return
        stored = hdf5.read_group(file["random_state"])
        if {name: d.shape for name, d in stored.items()} != {
            name: tuple(v.shape) for name, v in variables.items()
        }:
            raise ValueError(
                f"the random state in {filepath} is that of {len(stored)} generators, and this "
                f"model has {len(variables)}"
            )
        arrays = hdf5.read_arrays([stored[name] for name in variables])
    for variable, array in zip(variables.values(), arrays, strict=True):
        variable.assign(array)


def _random_variables(model: keras.Model) -> dict[str, keras.Variable]:
    """The state of the model's random generators, `[2]` each, numbered in the model's order.

    Keras numbers the generators of a process, so their own names differ between processes.
    """
    states = [v for v in model.variables if v.path.endswith("seed_generator_state")]
    return {f"generator_{number}": state for number, state in enumerate(states)}


def _optimizer_variables(model: keras.Model) -> dict[str, keras.Variable]:
    """The optimizer's variables but the learning rate, by path: `sgd/conv1_kernel_momentum`."""
    if getattr(model, "optimizer", None) is None:
        raise ValueError("the model has no optimizer; compile it first")
    # Keras numbers the optimizers of a process: sgd, sgd_1, …
    return {
        re.sub(r"^([^/]*?)(_\d+)?/", r"\1/", variable.path): variable
        for variable in model.optimizer.variables
        if variable.name != "learning_rate"
    }
