"""Network: a Keras model whose `.h5` files are those of Keras 2."""

import json
import os

import h5py
import keras
import numpy as np

from mrcnn.files import written_beside
from mrcnn.weights import hdf5
from mrcnn.weights.by_name import load_weights, save_weights
from mrcnn.weights.hdf5 import h5_path
from mrcnn.weights.layers import keras2_weights


def save_model(model: keras.Model, filepath: str | os.PathLike) -> None:
    """Save a whole model to an `.h5` file from which `keras.models.load_model` makes it again.

    Layers, weights, and how it was compiled; not the optimizer's momentum, which Keras 3 does not
    take from such a file. (Its own writer of them fails on registered classes.)

    Raises:
        ValueError: the name does not end in `.h5`.
    """
    path = h5_path(filepath)
    parts = keras.saving.serialize_keras_object(model)
    described = {"class_name": parts["registered_name"], "config": parts["config"]}
    layers = {layer.name: _in_keras_order(layer) for layer in model.layers}
    with written_beside(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["model_config"] = json.dumps(described)
        if model.compiled:
            file.attrs["training_config"] = json.dumps(_training_config(parts["compile_config"]))
        hdf5.write_layers(file.create_group("model_weights"), layers)


def _in_keras_order(layer: keras.Layer) -> dict[str, np.ndarray]:
    """A layer's weights as Keras assigns them, by position: first those that train."""
    named = zip(keras2_weights(layer).items(), layer.weights, strict=True)
    return dict(item for item, _ in sorted(named, key=lambda pair: not pair[1].trainable))


def _training_config(compiled: dict) -> dict:
    """What `compile` was given, under the names that Keras reads in an `.h5` file."""
    optimizer = {key: compiled["optimizer"][key] for key in ("class_name", "config")}
    return {"optimizer_config": optimizer, "loss_weights": compiled["loss_weights"]}


@keras.saving.register_keras_serializable("mrcnn")
class Network(keras.Model):
    """A Keras model that knows `.h5` files as Keras 2 did: weights, and the whole model.

    Files that end in `.weights.h5` or `.keras` are Keras 3's, as for any model.
    """

    def save(self, filepath, overwrite: bool = True, **kwargs) -> None:
        if not _is_keras2_name(filepath):
            return super().save(filepath, overwrite=overwrite, **kwargs)
        if not overwrite and os.path.exists(filepath):
            raise ValueError(f"{filepath} exists, and overwrite is False.")
        save_model(self, filepath)

    def save_weights(self, filepath, overwrite: bool = True, **kwargs) -> None:
        if not _is_keras2_name(filepath):
            return super().save_weights(filepath, overwrite=overwrite, **kwargs)
        if not overwrite and os.path.exists(filepath):
            raise ValueError(f"{filepath} exists, and overwrite is False.")
        save_weights(self, filepath)

    def load_weights(self, filepath, skip_mismatch: bool = False, **kwargs):
        if not _is_keras2_name(filepath) or skip_mismatch:
            return super().load_weights(filepath, skip_mismatch=skip_mismatch, **kwargs)
        load_weights(self, filepath, by_name=kwargs.get("by_name", False))

    def _make_predict_function(self) -> None:
        """Do nothing. With Keras 2, servers had to call this before they started threads."""

    _make_train_function = _make_test_function = _make_predict_function


def _is_keras2_name(filepath: str | os.PathLike) -> bool:
    name = os.fspath(filepath)
    return name.endswith(".h5") and not name.endswith(".weights.h5")
