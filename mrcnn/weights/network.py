"""Network: a Keras model whose `.h5` files have the layout of Keras 2."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from mrcnn.files import written_beside
from mrcnn.messages import shortened
from mrcnn.types import PathLike
from mrcnn.weights import hdf5
from mrcnn.weights.by_name import load_weights, save_weights
from mrcnn.weights.layers import keras2_weights


def save_model(model: keras.Model, filepath: PathLike) -> None:
    """Save a whole model to an `.h5` file that `keras.models.load_model` can load.

    The file holds layers, weights, and the arguments of `compile`. It does not hold the optimizer's
    momentum, which Keras 3 does not read from such a file. (Keras' own writer of these files fails
    on registered classes.)

    Raises:
        OSError: the file cannot be written, for example because the disk is full.
        ValueError: the name does not end in `.h5`.
    """
    path = hdf5.h5_path(filepath)
    parts = keras.saving.serialize_keras_object(model)
    described = {"class_name": parts["registered_name"], "config": parts["config"]}
    layers = {layer.name: _in_keras_order(layer) for layer in model.layers}
    with hdf5.new_file(path) as file:
        file.attrs["model_config"] = json.dumps(described)
        if model.compiled:
            file.attrs["training_config"] = json.dumps(_training_config(parts["compile_config"]))
        hdf5.write_layers(file.create_group("model_weights"), layers)


def _in_keras_order(layer: keras.Layer) -> dict[str, np.ndarray]:
    """A layer's weights in the order in which Keras assigns them: trainable ones first."""
    named = zip(keras2_weights(layer).items(), layer.weights, strict=True)
    return dict(item for item, _ in sorted(named, key=lambda pair: not pair[1].trainable))


def _training_config(compiled: dict) -> dict:
    """The arguments of `compile`, under the names that Keras reads in an `.h5` file."""
    optimizer = {key: compiled["optimizer"][key] for key in ("class_name", "config")}
    return {"optimizer_config": optimizer, "loss_weights": compiled["loss_weights"]}


@keras.saving.register_keras_serializable("mrcnn")
class Network(keras.Model):
    """A Keras model that saves and loads `.h5` files like Keras 2: weights, and the whole model.

    Files that end in `.weights.h5` or `.keras` have Keras 3's format, as for any model.
    """

    def save(self, filepath: PathLike, overwrite: bool = True, **kwargs: Any) -> None:
        """Save the whole model: `.h5` by `save_model`, other names by Keras."""
        if _is_keras2_name(filepath):
            _require_free(filepath, overwrite)
            save_model(self, filepath)
        elif str(filepath).endswith(".keras") and "://" not in str(filepath):
            _require_free(filepath, overwrite)
            with written_beside(filepath) as temporary:
                super().save(temporary, **kwargs)
        else:
            super().save(filepath, overwrite=overwrite, **kwargs)

    def save_weights(self, filepath: PathLike, overwrite: bool = True, **kwargs: Any) -> None:
        """Save weights: `.h5` and `.weights.h5` by `weights.save_weights`, other names by Keras."""
        # A buffer instead of a path comes from `weights.save_weights`; shards have other endings.
        by_keras = not isinstance(filepath, (str, os.PathLike)) or any(kwargs.values())
        if by_keras or not str(filepath).endswith(".h5") or "://" in str(filepath):
            super().save_weights(filepath, overwrite=overwrite, **kwargs)
            return
        _require_free(filepath, overwrite)
        save_weights(self, filepath)

    def load_weights(self, filepath: PathLike, skip_mismatch: bool = False, **kwargs: Any) -> None:
        """Load weights: `.h5` by `weights.load_weights`, other names or `skip_mismatch` by Keras.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is damaged, refers to other files, or does not fit. All weights are
                then unchanged.
        """
        if _is_keras2_name(filepath) and not skip_mismatch:
            load_weights(self, filepath, by_name=kwargs.get("by_name", False))
            return
        if str(filepath).endswith(".h5") and "://" not in str(filepath):
            with hdf5.open_weights(filepath):  # checks the file; Keras itself checks less
                pass
        with _unchanged_on_error(self, filepath):
            super().load_weights(filepath, skip_mismatch=skip_mismatch, **kwargs)

    def _make_predict_function(self) -> None:
        """Do nothing. With Keras 2, servers had to call this before they started threads."""

    _make_train_function = _make_test_function = _make_predict_function


@contextmanager
def _unchanged_on_error(model: keras.Model, filepath: PathLike) -> Iterator[None]:
    """Restore the model's weights if loading fails, and name the file in the error.

    This is needed because Keras assigns weights one by one while it reads.
    """
    before = [np.array(variable) for variable in model.variables]
    try:
        yield
    except Exception as error:  # Keras passes on any error of reading
        for variable, array in zip(model.variables, before, strict=True):
            variable.assign(array)
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ValueError(
            f"{filepath} does not fit the model, or is damaged: {shortened(error, 300)}"
        ) from error


def _require_free(filepath: PathLike, overwrite: bool) -> None:
    if not overwrite and os.path.exists(filepath):
        raise ValueError(f"{filepath} exists, and overwrite is False.")


def _is_keras2_name(filepath: PathLike) -> bool:
    return str(filepath).endswith(".h5") and not hdf5.is_keras3_name(filepath)
