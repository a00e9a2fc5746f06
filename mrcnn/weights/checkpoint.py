"""A checkpoint: a weight file that also holds the state needed to continue training.

This is the state of the optimizer, of the random generators and of the mean losses of the epoch,
each in a separate group. The original and `load_weights` ignore these groups, so a checkpoint can
be used as a weight file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import keras
import numpy as np

from mrcnn.messages import listed
from mrcnn.types import PathLike
from mrcnn.weights import hdf5
from mrcnn.weights.hdf5_tree import StoredArray
from mrcnn.weights.layers import keras2_layers
from mrcnn.weights.variables import assign, converted, mismatch

OPTIMIZER_GROUP = "optimizer_weights"
RANDOM_GROUP = "random_state"
MEANS_GROUP = "mean_losses"
VALIDATION_GROUP = "validation"

Variables = dict[str, keras.Variable]


def save_checkpoint(model: keras.Model, filepath: PathLike, val_loss: float | None = None) -> None:
    """Save weights as `save_weights` does to `.h5`, with all that continuing a training needs.

    Args:
        model: compiled.
        filepath: ends in `.h5`.
        val_loss: the validation loss of these weights, for `validation_loss`.

    Raises:
        OSError: the file cannot be written, for example because the disk is full.
        ValueError: the model is not compiled, or the name does not end in `.h5`.
    """
    path = hdf5.h5_path(filepath)
    if hdf5.is_keras3_name(path):
        raise ValueError(f"the name of a checkpoint ends in .h5, not in .weights.h5: {path}")
    states = {
        OPTIMIZER_GROUP: _optimizer_variables(model),
        RANDOM_GROUP: _random_variables(model),
        MEANS_GROUP: _mean_variables(model),
    }
    with hdf5.new_file(path) as file:
        hdf5.write_layers(file, keras2_layers(model))
        for group, variables in states.items():
            arrays = {name: np.asarray(variable) for name, variable in variables.items()}
            hdf5.write_group(file.create_group(group), arrays)
        if val_loss is not None:
            arrays = {"loss": np.array([val_loss], np.float64)}
            hdf5.write_group(file.create_group(VALIDATION_GROUP), arrays)


def validation_loss(filepath: PathLike) -> float | None:
    """The validation loss that was saved with a checkpoint; None without.

    Raises:
        FileNotFoundError: there is no such file. ValueError: it is damaged.
    """
    with hdf5.open_weights(filepath) as root:
        group = root.group(VALIDATION_GROUP)
        stored = {} if group is None else hdf5.read_group(group)
        if "loss" not in stored or stored["loss"].shape != (1,):
            return None
        return float(stored["loss"].read()[0])


def load_optimizer(model: keras.Model, filepath: PathLike) -> None:
    """Restore the optimizer's state (step count, momentum) from a file of `save_checkpoint`.

    The learning rate stays as compiled. The optimizer must be built for the same trainable weights
    as when the file was written.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or holds no optimizer state or that of other variables. The
            optimizer is then unchanged.
    """
    variables = _optimizer_variables(model)
    with hdf5.open_weights(filepath) as root:
        group = root.group(OPTIMIZER_GROUP)
        if group is None:
            raise ValueError(f"{filepath} holds no optimizer state; save_checkpoint writes it")
        stored = hdf5.read_group(group)
        if differing := _differing(variables, stored):
            raise ValueError(
                f"the optimizer state in {filepath} is not that of this model, compiled for the "
                "same layers and built (optimizer.build(model.trainable_variables)); they differ "
                f"in {listed(differing)}"
            )
        arrays = _read(variables, stored)
    assign(list(variables.values()), arrays)


def load_random_state(model: keras.Model, filepath: PathLike) -> None:
    """Restore the state of the model's random generators from a file of `save_checkpoint`.

    Checkpoints of release 0.1 and of other programs have no such state; it is then unchanged.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or holds the state of other generators. The state is then
            unchanged.
    """
    variables = _random_variables(model)
    with hdf5.open_weights(filepath) as root:
        group = root.group(RANDOM_GROUP)
        if group is None:
            return
        stored = hdf5.read_group(group)
        if _differing(variables, stored):
            raise ValueError(
                f"the random state in {filepath} is that of {len(stored)} generators, and this "
                f"model has {len(variables)}"
            )
        arrays = _read(variables, stored)
    assign(list(variables.values()), arrays)


def load_means(model: keras.Model, filepath: PathLike) -> None:
    """Restore the mean losses of an epoch from a checkpoint in the middle of it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or holds no means or those of other losses. They are then
            unchanged.
    """
    variables = _mean_variables(model)
    with hdf5.open_weights(filepath) as root:
        group = root.group(MEANS_GROUP)
        stored = {} if group is None else hdf5.read_group(group)
        if differing := _differing(variables, stored):
            raise ValueError(f"{filepath} holds other means: {listed(differing)} differ")
        arrays = _read(variables, stored)
    assign(list(variables.values()), arrays)


def _differing(variables: Variables, stored: Mapping[str, StoredArray]) -> list[str]:
    """Names that only one of the two has, or whose shapes or kinds differ."""
    both = variables.keys() & stored.keys()
    unlike = {name for name in both if mismatch([variables[name]], [stored[name]])}
    return sorted(unlike | (variables.keys() ^ stored.keys()))


def _read(variables: Variables, stored: Mapping[str, StoredArray]) -> list[np.ndarray]:
    """The values for the variables, in their order."""
    arrays = hdf5.read_arrays([stored[name] for name in variables])
    return [converted(v, array) for v, array in zip(variables.values(), arrays, strict=True)]


def _random_variables(model: keras.Model) -> Variables:
    """The state of the model's random generators, `[2]` each, numbered in the model's order.

    Keras numbers the generators of a process, so their own names differ between processes.
    """
    states = [v for v in model.variables if v.path.endswith("seed_generator_state")]
    return {f"generator_{number}": state for number, state in enumerate(states)}


def _mean_variables(model: keras.Model) -> Variables:
    """Sums and counts of the losses since the epoch began: `rpn_class_loss/total`."""
    return {
        f"{metric.name}/{variable.name}": variable
        for metric in model.metrics
        for variable in metric.variables
    }


def _optimizer_variables(model: keras.Model) -> Variables:
    """The optimizer's variables without the learning rate, by path: `sgd/conv1_kernel_momentum`."""
    if getattr(model, "optimizer", None) is None:
        raise ValueError("the model has no optimizer; compile it first")
    # Keras numbers the optimizers of a process: sgd, sgd_1, …
    return {
        re.sub(r"^([^/]*?)(_\d+)?/", r"\1/", variable.path): variable
        for variable in model.optimizer.variables
        if variable.name != "learning_rate"
    }
