"""Weights in and out, matched by layer name.

A *weighted layer* is a layer of the model that holds weights. A nested model such as `rpn_model`
counts as the layers inside it, a wrapper as itself. `hdf5.py` has the layouts of Keras'
files, `torch_files.py` reads PyTorch's.
"""

import logging
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import h5py
import keras
import numpy as np
from keras import ops

from mrcnn.files import written_beside
from mrcnn.messages import listed
from mrcnn.weights import hdf5, torch_files
from mrcnn.weights.hdf5 import h5_path
from mrcnn.weights.imagenet import fold_epsilon, original_resnet_name
from mrcnn.weights.layers import excluded_layers, keras2_layers, weighted_layers

logger = logging.getLogger("mrcnn")

# A layer that ResNet101 has and ResNet50 has not.
_DEEP_RESNET_LAYER = "res4g_branch2a"


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
                parts.append(f"{len(names)} {what} ({listed(names)})")
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
            BACKBONE of version 1.5, see `torch_files.resnet_weights`.
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
    layers = weighted_layers(model)
    excluded = excluded_layers(model, exclude or [])
    if torch_files.is_checkpoint(filepath):
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
        arrays[name] = fold_epsilon(layers[name], arrays[name])
    return report, arrays


def _read_checkpoint(filepath, layers, excluded, by_name) -> tuple[LoadReport, dict[str, list]]:
    """As `_read_hdf5`, of a ResNet in a checkpoint of PyTorch or a safetensors file."""
    tensors, skipped = torch_files.read_checkpoint(filepath)
    try:
        stored, unused = torch_files.resnet_weights(tensors)
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
    path = h5_path(filepath)
    with written_beside(path) as temporary:
        if path.name.endswith(".weights.h5"):
            model.save_weights(temporary)
        else:
            with h5py.File(temporary, "w") as file:
                hdf5.write_layers(file, keras2_layers(model))


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Give every layer of `target` the weights of the layer of its name in `source`."""
    layers = weighted_layers(source)
    for name, layer in weighted_layers(target).items():
        for mine, theirs in zip(layer.weights, layers[name].weights, strict=True):
            # A copy: JAX gives the memory of a model's weights away while the model runs.
            mine.assign(ops.copy(theirs))


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
            f"{listed(report.missing)}; not in the model: {listed(report.unexpected)}; "
            "by_name=True loads the layers that both have"
        )
    if not report.loaded:
        raise ValueError(
            f"nothing to load from {report.filepath}: it holds none of the layers "
            f"{listed(report.missing)}"
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
