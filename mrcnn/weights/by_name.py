"""Weights in and out, matched by layer name.

`layers.py` says which layers count, `hdf5.py` has the layouts of Keras' files, `torch_files.py`
reads PyTorch's.
"""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np
from keras import ops

from mrcnn.files import written_beside
from mrcnn.messages import listed
from mrcnn.types import PathLike
from mrcnn.weights import hdf5, resnets, torch_files
from mrcnn.weights.imagenet import fold_epsilon, original_resnet_name
from mrcnn.weights.layers import excluded_layers, keras2_layers, weighted_layers
from mrcnn.weights.torch_resnet import resnet_weights
from mrcnn.weights.variables import ArrayInFile, assign, converted, has_only_finite, mismatch

logger = logging.getLogger("mrcnn")

Arrays = dict[str, list[np.ndarray]]

# An error about shapes describes this many layers, and names all of them.
SHOWN_DIFFERENCES = 4


@dataclass(frozen=True, repr=False)
class LoadReport:
    """The result of `load_weights`, as names of layers with weights.

    Attributes:
        filepath: the file read.
        loaded: layers that now have the file's weights.
        excluded: layers not changed because `exclude` names them or the model that contains them.
        missing: layers of the model that the file does not have; they are not changed.
        unexpected: layers of the file that the model does not have.
        skipped: other entries of a PyTorch checkpoint, such as a classifier or the optimizer's
            state.
        not_finite: loaded layers with NaN or infinite weights.
    """

    filepath: str
    loaded: list[str]
    excluded: list[str]
    missing: list[str]
    unexpected: list[str]
    skipped: list[str] = field(default_factory=list)
    not_finite: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        parts = [f"{len(self.loaded)} layers loaded"]
        for what, names in self._left_over().items():
            parts.append(f"{len(names)} {what} ({listed(names, 4)})")
        return f"{self.filepath}: " + ", ".join(parts)

    def __repr__(self) -> str:
        counts = [f"{len(names)} {what}" for what, names in self._left_over().items()]
        parts = [f"{len(self.loaded)} loaded", *counts]
        return f"<LoadReport of {os.path.basename(self.filepath)}: {', '.join(parts)}>"

    def _left_over(self) -> dict[str, list[str]]:
        named = {
            "with NaN or infinite weights": self.not_finite,
            "excluded": self.excluded,
            "missing": self.missing,
            "unexpected": self.unexpected,
            "skipped": self.skipped,
        }
        return {what: names for what, names in named.items() if names}


def load_weights(
    model: keras.Model,
    filepath: PathLike,
    by_name: bool = False,
    exclude: Sequence[str] | None = None,
) -> LoadReport:
    """Load weights; after an error the model is unchanged.

    Args:
        model: the model to fill.
        filepath: Keras 2 `.h5` (weights alone or a whole model) or Keras 3 `.weights.h5`. A ResNet
            under keras.applications' layer names loads into one under the original's. PyTorch
            checkpoints (`.ckpt`, `.pth`, `.pt`, `.bin`) and `.safetensors` of a ResNet load into a
            BACKBONE of version 1.5, see `torch_resnet.resnet_weights`.
        by_name: False: file and model must hold the same layers. True: load the layers that both
            hold, and log a warning that names the others.
        exclude: names of layers to leave unchanged. A nested model's name stands for all layers
            inside it.

    Returns:
        The report, which is also logged: as a warning if layers are missing or unexpected, or hold
        NaN or infinite weights.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: a `.safetensors` file, and the package safetensors is not installed.
        ValueError: the file is damaged, refers to other files, holds no weights, or those for
            another BACKBONE; a layer has another number of weights or other shapes than in the
            model; by_name=False and the layers differ; by_name=True and no layer is in both;
            `exclude` names no layer of the model.
    """
    layers = weighted_layers(model)
    excluded = excluded_layers(model, exclude or [])
    if torch_files.is_checkpoint(filepath):
        report, arrays = _read_checkpoint(filepath, layers, excluded, by_name)
    else:
        report, arrays = _read_hdf5(filepath, layers, excluded, by_name)
    for name in report.loaded:
        variables = layers[name].weights
        arrays[name] = [converted(v, x) for v, x in zip(variables, arrays[name], strict=True)]
        if not all(map(has_only_finite, arrays[name])):
            report.not_finite.append(name)
    for name in report.loaded:
        assign(layers[name].weights, arrays[name])
    warn = report.missing or report.unexpected or report.not_finite
    logger.log(logging.WARNING if warn else logging.INFO, "%s", report)
    return report


def save_weights(model: keras.Model, filepath: PathLike) -> None:
    """Save weights as Keras 2.2.5 did (`.h5`), or in Keras 3's own format (`.weights.h5`).

    The folder is created if it does not exist. An existing file is replaced when the new one is
    complete.

    Raises:
        OSError: the file cannot be written, for example because the disk is full.
        ValueError: the name does not end in `.h5`.
    """
    path = hdf5.h5_path(filepath)
    if hdf5.is_keras3_name(path):
        _save_keras3(model, path)
        return
    with hdf5.new_file(path) as file:
        hdf5.write_layers(file, keras2_layers(model))


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Give every layer of `target` the weights of the layer of the same name in `source`."""
    layers = weighted_layers(source)
    for name, layer in weighted_layers(target).items():
        for mine, theirs in zip(layer.weights, layers[name].weights, strict=True):
            # A copy, because JAX may reuse the memory of a model's weights while the model runs.
            mine.assign(ops.copy(theirs))


# ---- Files of Keras --------------------------------------------------------------------------


def _read_hdf5(
    filepath: PathLike,
    layers: Mapping[str, keras.Layer],
    excluded: Collection[str],
    by_name: bool,
) -> tuple[LoadReport, Arrays]:
    """The report on the layers to load, and their arrays by layer name."""
    with hdf5.open_weights(filepath) as root:
        stored, renamed = _with_original_names(hdf5.read_layers(root, whole=layers), layers)
        report = _compare_names(root.filename, layers, stored, excluded)
        _require_match(report, by_name)
        to_load = {name: layers[name] for name in report.loaded}
        resnets.require_same_version(root.filename, to_load, stored)
        _require_fit(report, layers, stored)
        arrays = {name: hdf5.read_arrays(stored[name]) for name in report.loaded}
    for name in renamed & arrays.keys():
        arrays[name] = fold_epsilon(layers[name], arrays[name])
    return report, arrays


def _with_original_names(
    stored: hdf5.Layers, layers: Collection[str]
) -> tuple[hdf5.Layers, set[str]]:
    """Layers of a keras.applications ResNet under the original's names, and the changed names.

    A layer is renamed only if the model has a layer with the original's name, and none with the
    file's name. So the names stay if the model is built on a keras.applications backbone.
    """
    names = {name: name for name in stored}
    for name in stored.keys() - layers:
        new_name = original_resnet_name(name)
        if new_name in layers and new_name not in stored:
            names[name] = new_name
    renamed = {new for old, new in names.items() if new != old}
    return {names[old]: arrays for old, arrays in stored.items()}, renamed


class _NamedMemory(io.BytesIO):
    """A buffer in memory with the name of a file, for Keras to write to.

    Keras 3.15 writes HDF5 to such an object. Keras 3.6 uses only its name, and writes the file.
    """

    def __init__(self, path: Path):
        super().__init__()
        self.path = path

    def __str__(self) -> str:
        return str(self.path)


def _save_keras3(model: keras.Model, path: Path) -> None:
    """Let Keras save its own format to memory first: see `hdf5.new_file`."""
    with written_beside(path) as temporary:
        memory = _NamedMemory(temporary)
        model.save_weights(memory)
        if memory.getbuffer().nbytes:
            temporary.write_bytes(memory.getbuffer())


# ---- Files of PyTorch ------------------------------------------------------------------------


def _read_checkpoint(
    filepath: PathLike,
    layers: Mapping[str, keras.Layer],
    excluded: Collection[str],
    by_name: bool,
) -> tuple[LoadReport, Arrays]:
    """As `_read_hdf5`, for a ResNet in a PyTorch checkpoint or a safetensors file."""
    tensors, skipped = torch_files.read_checkpoint(filepath)
    try:
        stored, unused = resnet_weights(tensors)
    except ValueError as error:
        raise ValueError(f"{filepath} does not fit the model: {error}") from None
    resnets.require_version_1_5(filepath, layers, stored)
    report = _compare_names(os.fspath(filepath), layers, stored, excluded)
    report.skipped.extend([*unused, *skipped])
    _require_match(report, by_name)
    _require_fit(report, layers, stored)
    return report, stored


# ---- File against model ----------------------------------------------------------------------


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
    """Check that file and model have common layers; without by_name, the same layers."""
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


def _require_fit(
    report: LoadReport,
    layers: Mapping[str, keras.Layer],
    stored: Mapping[str, Sequence[ArrayInFile]],
) -> None:
    """Check number, shapes and kinds of the weights of each layer to be loaded."""
    differences = {}
    for name in report.loaded:
        variables = layers[name].weights
        if difference := mismatch(variables, stored[name]):
            weights = ", ".join(variable.name for variable in variables)
            differences[name] = f"{name} ({weights}) {difference}"
    if differences:
        more = len(differences) - SHOWN_DIFFERENCES
        raise ValueError(
            f"{report.filepath} does not fit the model: "
            f"{'; '.join(list(differences.values())[:SHOWN_DIFFERENCES])}"
            f"{f'; and {more} more layers' if more > 0 else ''}. "
            f"To leave these layers as they are: exclude={list(differences)}"
        )
