"""Weights in and out, matched by layer name.

A *weighted layer* is a layer of the model that holds weights. A nested model such as `rpn_model`
counts as the layers inside it, a wrapper as itself. `mrcnn/hdf5.py` has the layouts of Keras'
files, `mrcnn/pytorch.py` reads PyTorch's.
"""

import difflib
import hashlib
import json
import logging
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import keras
import numpy as np
from keras import ops

from mrcnn import hdf5, pytorch

logger = logging.getLogger("mrcnn")

# keras.applications builds its ResNets with this epsilon in every batch normalisation.
_KERAS_RESNET_EPSILON = 1.001e-5
_KERAS_RESNET_LAYER = re.compile(r"conv([2-5])_block(\d+)_([0-3])_(conv|bn)")
# A layer that ResNet101 has and ResNet50 has not.
_DEEP_RESNET_LAYER = "res4g_branch2a"

# Address and MD5 as in keras/src/applications/resnet.py; the first MD5 is what the address serves.
# The second is the file of deep-learning-models v0.2, which the original downloaded under the same
# name: older Keras caches still hold it, and it serves as well.
_IMAGENET_URL = "https://storage.googleapis.com/tensorflow/keras-applications/resnet/"
_IMAGENET_MD5 = {
    "resnet50": ("4d473c1dd8becc155b73f8504c6f6626", "a268eb855778b3df3c7506639542a6af"),
    "resnet101": ("88cf7a10940856eca736dc7b7e228a21",),
}


@dataclass(frozen=True)
class LoadReport:
    """What `load_weights` did, in names of weighted layers.

    Attributes:
        filepath: the file read.
        loaded: layers that now hold the file's weights.
        excluded: layers left alone because `exclude` names them or the model they lie in.
        missing: layers of the model that the file does not hold, left alone.
        unexpected: layers of the file that the model does not have.
        skipped: what else a checkpoint of PyTorch holds: a classifier, the optimizer's state.
    """

    filepath: str
    loaded: list[str]
    excluded: list[str]
    missing: list[str]
    unexpected: list[str]
    skipped: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        parts = [f"{len(self.loaded)} layers loaded"]
        for what in ("excluded", "missing", "unexpected", "skipped"):
            if names := getattr(self, what):
                parts.append(f"{len(names)} {what} ({_shorten(names)})")
        return f"{self.filepath}: " + ", ".join(parts)


def load_weights(
    model: keras.Model,
    filepath: str | os.PathLike,
    by_name: bool = False,
    exclude: Sequence[str] | None = None,
) -> LoadReport:
    """Load weights; either all that fits is loaded or, on an error, nothing.

    Args:
        filepath: Keras 2 `.h5` (weights alone or a full model) or Keras 3 `.weights.h5`. A ResNet
            under keras.applications' layer names loads into one under the original's. Checkpoints
            of PyTorch (`.ckpt`, `.pth`, `.pt`, `.bin`) and `.safetensors` of a ResNet load into a
            BACKBONE of version 1.5, see `pytorch.resnet_weights`.
        by_name: False: file and model must hold the same layers. True: load the layers that both
            hold, and log a warning that names the others.
        exclude: names of layers to leave as they are. A nested model's name stands for all layers
            inside it.

    Returns:
        The report, which is also logged.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: a `.safetensors` file, and the package safetensors is not installed.
        ValueError: the file is damaged, holds no weights, or those for another BACKBONE; a layer
            has another number of weights or other shapes than in the model; by_name=False and the
            layers differ; by_name=True and no layer is in both; `exclude` names no layer of the
            model.
    """
    layers = _weighted_layers(model)
    excluded = _excluded_layers(model, exclude or [])
    if pytorch.is_checkpoint(filepath):
        report, arrays = _read_checkpoint(filepath, layers, excluded, by_name)
    else:
        report, arrays = _read_hdf5(filepath, layers, excluded, by_name)
    for name in report.loaded:
        for variable, array in zip(layers[name].weights, arrays[name], strict=True):
            variable.assign(array)
    level = logging.WARNING if report.missing or report.unexpected else logging.INFO
    logger.log(level, "%s", report)
    return report


def _read_hdf5(filepath, layers, excluded, by_name) -> tuple[LoadReport, dict[str, list]]:
    """The report of what is to be loaded, and its arrays by layer name."""
    with hdf5.open_weights(filepath) as file:
        stored, renamed = _with_original_names(hdf5.read_layers(file, whole=layers), layers)
        report = _compare_names(file.filename, layers, stored, excluded)
        _require_match(report, by_name)
        _require_no_older_resnet(report, layers, stored)
        _require_same_shapes(report, layers, stored)
        arrays = {name: hdf5.read_arrays(stored[name]) for name in report.loaded}
    for name in renamed & arrays.keys():
        arrays[name] = _fold_epsilon(layers[name], arrays[name])
    return report, arrays


def _read_checkpoint(filepath, layers, excluded, by_name) -> tuple[LoadReport, dict[str, list]]:
    """As `_read_hdf5`, of a ResNet in a checkpoint of PyTorch or a safetensors file."""
    tensors, skipped = pytorch.read_checkpoint(filepath)
    try:
        stored, unused = pytorch.resnet_weights(tensors)
    except ValueError as error:
        raise ValueError(f"{filepath} does not fit the model: {error}") from None
    _require_its_backbone(filepath, layers, stored)
    report = _compare_names(os.fspath(filepath), layers, stored, excluded)
    report.skipped.extend([*unused, *skipped])
    _require_match(report, by_name)
    _require_same_shapes(report, layers, stored)
    return report, stored


def save_weights(model: keras.Model, filepath: str | os.PathLike) -> None:
    """Save weights as Keras 2.2.5 did (`.h5`), or in Keras 3's own format (`.weights.h5`).

    The folder is made where it does not exist; a file of that name is replaced when the new one
    is complete.

    Raises:
        ValueError: the name ends in neither.
    """
    path = _h5_path(filepath)
    with hdf5.written_beside(path) as temporary:
        if path.name.endswith(".weights.h5"):
            model.save_weights(temporary)
        else:
            with h5py.File(temporary, "w") as file:
                hdf5.write_layers(file, _keras2_layers(model))


def save_model(model: keras.Model, filepath: str | os.PathLike) -> None:
    """Save a whole model to an `.h5` file from which `keras.models.load_model` makes it again.

    Layers, weights, and how it was compiled; not the optimizer's momentum, which Keras 3 does not
    take from such a file. (Its own writer of them fails on registered classes.)

    Raises:
        ValueError: the name does not end in `.h5`.
    """
    path = _h5_path(filepath)
    parts = keras.saving.serialize_keras_object(model)
    described = {"class_name": parts["registered_name"], "config": parts["config"]}
    layers = {layer.name: _in_keras_order(layer) for layer in model.layers}
    with hdf5.written_beside(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["model_config"] = json.dumps(described)
        if model.compiled:
            file.attrs["training_config"] = json.dumps(_training_config(parts["compile_config"]))
        hdf5.write_layers(file.create_group("model_weights"), layers)


def _in_keras_order(layer: keras.Layer) -> dict[str, np.ndarray]:
    """A layer's weights as Keras assigns them, by position: first those that train."""
    named = zip(_keras2_weights(layer).items(), layer.weights, strict=True)
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


def _is_keras2_name(filepath: str | os.PathLike) -> bool:
    name = os.fspath(filepath)
    return name.endswith(".h5") and not name.endswith(".weights.h5")


def save_checkpoint(model: keras.Model, filepath: str | os.PathLike) -> None:
    """Save weights as `save_weights` does to `.h5`, and the optimizer's state beside them.

    The state lies in a group `optimizer_weights`, which the original and `load_weights` pass
    over: a checkpoint is a weight file as well.

    Raises:
        ValueError: the model is not compiled, or the name does not end in `.h5`.
    """
    path = _h5_path(filepath)
    if path.name.endswith(".weights.h5"):
        raise ValueError(f"the name of a checkpoint ends in .h5, not in .weights.h5: {path}")
    state = {name: np.asarray(v) for name, v in _optimizer_variables(model).items()}
    with hdf5.written_beside(path) as temporary, h5py.File(temporary, "w") as file:
        hdf5.write_layers(file, _keras2_layers(model))
        hdf5.write_group(file.create_group("optimizer_weights"), state)


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
                f"in {_shorten(differing)}"
            )
        arrays = hdf5.read_arrays([stored[name] for name in variables])
    for variable, array in zip(variables.values(), arrays, strict=True):
        variable.assign(array)


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Give every layer of `target` the weights of the layer of its name in `source`."""
    layers = _weighted_layers(source)
    for name, layer in _weighted_layers(target).items():
        for mine, theirs in zip(layer.weights, layers[name].weights, strict=True):
            # A copy: JAX gives the memory of a model's weights away while the model runs.
            mine.assign(ops.copy(theirs))


def get_imagenet_weights(architecture: str) -> str:
    """Path of Keras' ImageNet weights of "resnet50" or "resnet101", without the classifier.

    The file is downloaded once into the folder `models` of Keras' cache (`KERAS_HOME`, or
    `~/.keras`). One that already lies there is used, with a warning if it is not the published one;
    no network is needed then.

    Raises:
        ValueError: another architecture.
        OSError: the download failed; the message says which file to put where.
    """
    if not isinstance(architecture, str) or architecture not in _IMAGENET_MD5:
        raise ValueError(
            f"ImageNet weights are known for {' and '.join(_IMAGENET_MD5)}, received "
            f"{architecture!r}; load another backbone's file with load_weights(by_name=True)"
        )
    checksums = _IMAGENET_MD5[architecture]
    name = f"{architecture}_weights_tf_dim_ordering_tf_kernels_notop.h5"
    cache = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
    path = cache / "models" / name
    if path.exists():
        _compare_checksum(path, checksums)
        return str(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return keras.utils.get_file(
            name,
            _IMAGENET_URL + name,
            cache_dir=str(cache),
            cache_subdir="models",
            file_hash=checksums[0],
        )
    except Exception as error:  # get_file reports a failed download as a bare Exception
        raise OSError(
            f"could not download {_IMAGENET_URL}{name} ({error}); without network, put that file "
            f"(MD5 {checksums[0]}) into {path.parent}"
        ) from None


def original_resnet_name(name: str) -> str:
    """The original's name of the ResNet layer that keras.applications calls `name`.

    `conv4_block23_2_conv` is `res4w_branch2b`; names of other patterns stay as they are.
    """
    if name in ("conv1_conv", "conv1_bn"):
        return {"conv1_conv": "conv1", "conv1_bn": "bn_conv1"}[name]
    match = _KERAS_RESNET_LAYER.fullmatch(name)
    if match is None:
        return name
    stage, block, position, kind = match.groups()
    letter = chr(ord("a") + int(block) - 1)
    branch = {"0": "1", "1": "2a", "2": "2b", "3": "2c"}[position]
    return f"{'res' if kind == 'conv' else 'bn'}{stage}{letter}_branch{branch}"


def _walk(model: keras.Model) -> Iterator[keras.Layer]:
    """All layers, a nested model followed by the layers inside it."""
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from _walk(layer)


def _weighted_layers(model: keras.Model) -> dict[str, keras.Layer]:
    layers: dict[str, keras.Layer] = {}
    for layer in _walk(model):
        if isinstance(layer, keras.Model) or not layer.weights:
            continue
        if layers.setdefault(layer.name, layer) is not layer:
            raise ValueError(f"two layers of the model are named {layer.name!r}; rename one")
    return layers


def _excluded_layers(model: keras.Model, exclude: Sequence[str]) -> set[str]:
    """Names of the weighted layers that `exclude` stands for."""
    if isinstance(exclude, str):
        raise ValueError(f"exclude is a list of layer names, received the string {exclude!r}")
    layers = {layer.name: layer for layer in _walk(model)}
    excluded: set[str] = set()
    for name in exclude:
        if name not in layers:
            (nearest,) = difflib.get_close_matches(str(name), layers, n=1, cutoff=0)
            raise ValueError(
                f"exclude names {name!r}, which the model does not have; did you mean {nearest!r}?"
            )
        layer = layers[name]
        excluded.update(_weighted_layers(layer) if isinstance(layer, keras.Model) else [name])
    return excluded & _weighted_layers(model).keys()


def _with_original_names(
    stored: hdf5.Layers, layers: Collection[str]
) -> tuple[hdf5.Layers, set[str]]:
    """Layers of a keras.applications ResNet under the original's names, and which these are.

    Only where the model has the new name and not the old one: a model that is built on a
    keras.applications backbone keeps its names.
    """
    names = {name: name for name in stored}
    for name in stored.keys() - layers:
        if (new_name := original_resnet_name(name)) in layers:
            names[name] = new_name
    renamed = {new for old, new in names.items() if new != old}
    return {names[old]: datasets for old, datasets in stored.items()}, renamed


def _fold_epsilon(layer: keras.Layer, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Make a batch normalisation trained with Keras' ResNet epsilon exact under the layer's own.

    In inference the layer divides by sqrt(variance + epsilon). The original's epsilon is 1e-3, a
    hundred times the 1.001e-5 these files were trained with: unchanged variances would scale down
    every channel that varies little. So the difference goes into the variance; that may turn
    negative, the sum never does.
    """
    if not isinstance(layer, keras.layers.BatchNormalization):
        return arrays
    *others, variance = arrays
    shifted = variance.astype(np.float64) + _KERAS_RESNET_EPSILON - layer.epsilon
    return [*others, shifted.astype(variance.dtype)]


def _compare_names(
    filepath: str, layers: Collection[str], stored: Collection[str], excluded: Collection[str]
) -> LoadReport:
    wanted = [name for name in layers if name not in excluded]
    return LoadReport(
        filepath=filepath,
        loaded=[name for name in wanted if name in stored],
        excluded=[name for name in layers if name in excluded],
        missing=[name for name in wanted if name not in stored],
        unexpected=[name for name in stored if name not in layers],
    )


def _require_match(report: LoadReport, by_name: bool) -> None:
    if not by_name and (report.missing or report.unexpected):
        raise ValueError(
            f"{report.filepath} does not fit the model: not in the file: "
            f"{_shorten(report.missing)}; not in the model: {_shorten(report.unexpected)}; "
            "by_name=True loads the layers that both have"
        )
    if not report.loaded:
        raise ValueError(
            f"nothing to load from {report.filepath}: it holds none of the layers "
            f"{_shorten(report.missing)}"
        )


def _require_its_backbone(
    filepath: str | os.PathLike, layers: dict[str, keras.Layer], stored: Collection[str]
) -> None:
    """The model is the ResNet that the checkpoint was trained as, stride on the 3x3 convolution.

    The original's has the same names with another stride, and would give other numbers.
    """
    fits = "resnet101_v1_5" if _DEEP_RESNET_LAYER in stored else "resnet50_v1_5"
    if "res3a_branch2b" not in layers:
        found = "has no ResNet"
    elif not _is_v1_5(layers):
        found = "has the original's ResNet, its stride on another convolution than PyTorch's"
    elif (_DEEP_RESNET_LAYER in layers) != (_DEEP_RESNET_LAYER in stored):
        found = f"has a ResNet{101 if _DEEP_RESNET_LAYER in layers else 50}"
    else:
        return
    raise ValueError(
        f'{filepath} is a checkpoint for BACKBONE = "{fits}"; this model {found}. Build it with '
        "that BACKBONE"
    )


def _require_no_older_resnet(
    report: LoadReport, layers: dict[str, keras.Layer], stored: hdf5.Layers
) -> None:
    """A file of the original's ResNet is not loaded into one of version 1.5."""
    name = "res3a_branch2b"
    if name in report.loaded and _is_v1_5(layers) and len(stored[name]) == 2:
        fits = "resnet101" if _DEEP_RESNET_LAYER in stored else "resnet50"
        raise ValueError(
            f'{report.filepath} is a file for BACKBONE = "{fits}", whose convolutions have biases; '
            "this model has PyTorch's ResNet, version 1.5, its stride on another convolution. "
            "Build it with that BACKBONE"
        )


def _is_v1_5(layers: dict[str, keras.Layer]) -> bool:
    """Has the model's ResNet the stride where PyTorch has it, on the 3x3 convolution?"""
    strides = getattr(layers.get("res3a_branch2b"), "strides", None)
    return strides is not None and tuple(strides) == (2, 2)


def _require_same_shapes(
    report: LoadReport,
    layers: dict[str, keras.Layer],
    stored: Mapping[str, Sequence[h5py.Dataset | np.ndarray]],
) -> None:
    differences = {}
    for name in report.loaded:
        in_file = [dataset.shape for dataset in stored[name]]
        in_model = [tuple(variable.shape) for variable in layers[name].weights]
        if in_file != in_model:
            weights = ", ".join(variable.name for variable in layers[name].weights)
            differences[name] = (
                f"{name} ({weights}) is {in_file} in the file, {in_model} in the model"
            )
    if differences:
        raise ValueError(
            f"{report.filepath} does not fit the model: {'; '.join(differences.values())}. "
            f"To leave these layers as they are: exclude={list(differences)}"
        )


def _compare_checksum(path: Path, checksums: Sequence[str]) -> None:
    received = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    if received not in checksums:
        logger.warning(
            "%s has MD5 %s, not %s: not the published file, or not all of it; delete it to "
            "download that one",
            path,
            received,
            " or ".join(checksums),
        )


def _h5_path(filepath: str | os.PathLike) -> Path:
    path = Path(filepath)
    if path.suffix != ".h5":
        raise ValueError(f"the name of a weight file ends in .h5 or .weights.h5, received {path}")
    return path


def _keras2_layers(model: keras.Model) -> dict[str, dict[str, np.ndarray]]:
    """Weights of each top-level layer by the names that Keras 2 gave them, `conv1/kernel:0`."""
    _weighted_layers(model)  # names that occur twice: refused here, no reader could tell them apart
    return {layer.name: _keras2_weights(layer) for layer in model.layers}


def _keras2_weights(layer: keras.Layer) -> dict[str, np.ndarray]:
    owners = _weighted_layers(layer).values() if isinstance(layer, keras.Model) else [layer]
    arrays: dict[str, np.ndarray] = {}
    for owner in owners:
        names = [variable.name for variable in owner.weights]
        for index, variable in enumerate(owner.weights):
            copies = names[:index].count(variable.name)
            suffix = f"_{copies}" if copies else ""  # only in layers made of several
            arrays[f"{owner.name}/{variable.name}{suffix}:0"] = np.asarray(variable)
    return arrays


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


def _shorten(names: Sequence[str], limit: int = 8) -> str:
    """The first names and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return (", ".join(names[:limit]) or "none") + more
