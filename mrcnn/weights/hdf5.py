"""The layouts of Keras' weight files; h5py and NumPy only.

Read are Keras 2 `.h5` (weights alone, or a full model with the weights in its group
`model_weights`) and Keras 3 `.weights.h5`; which of them a file is shows from its content.
Written is the layout of Keras 2.2.5, the last that the original could read.
"""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

# An HDF5 attribute holds at most 64 KB; Keras splits a longer list of names at this many bytes.
ATTRIBUTE_LIMIT = 64512

Layers = dict[str, list[h5py.Dataset]]
"""Weights by layer name, in the order of the layer's own: views on an open file."""


@contextmanager
def open_weights(filepath: str | os.PathLike) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no HDF5 file, or a damaged one.
    """
    path = Path(filepath)
    if not path.exists():
        raise FileNotFoundError(f"there is no weight file {path}")
    if not h5py.is_hdf5(path):
        raise ValueError(f"{path} is no HDF5 weight file: {_describe_content(path)}")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{path} is damaged, perhaps cut off in a copy ({error})") from error
    with file:
        yield file


def read_layers(file: h5py.File, whole: Collection[str]) -> Layers:
    """The layers of the file that hold weights; a nested model counts as the layers inside it.

    Args:
        whole: names of layers that are one even where their weights are named after several.

    Raises:
        ValueError: the file holds no Keras weights, or damaged ones.
    """
    root = file["model_weights"] if "model_weights" in file else file
    if "layer_names" in root.attrs or "layer_names0" in root.attrs:
        layers = _keras2_layers(root, whole)
    elif "layers" in root:
        layers = _keras3_layers(root)
    else:
        layers = {}
    if not layers:
        raise ValueError(f"{file.filename} is an HDF5 file, but holds no Keras weights")
    return layers


def read_group(group: h5py.Group) -> dict[str, h5py.Dataset]:
    """The weights of one group in the order of its attribute `weight_names`."""
    return {name: _dataset(group, name) for name in _read_names(group, "weight_names")}


def read_arrays(datasets: Sequence[h5py.Dataset]) -> list[np.ndarray]:
    """The values, read from the file.

    Raises:
        ValueError: they cannot be read; the file is damaged.
    """
    try:
        return [np.asarray(dataset) for dataset in datasets]
    except OSError as error:
        raise ValueError(f"{datasets[0].file.filename} is damaged ({error})") from error


def write_layers(file: h5py.File, layers: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Write {layer: {weight name: array}} as Keras 2.2.5 did."""
    _write_names(file, "layer_names", list(layers))
    # Whichever backend is in use, its kernels lie as TensorFlow's do. Keras 2 calls `decode` on
    # both attributes, so they are bytes.
    file.attrs["backend"] = b"tensorflow"
    file.attrs["keras_version"] = b"2.2.5"
    for name, arrays in layers.items():
        write_group(file.require_group(name), arrays)


def write_group(group: h5py.Group, arrays: Mapping[str, np.ndarray]) -> None:
    """Write {weight name: array}, the order of names in the attribute `weight_names`."""
    _write_names(group, "weight_names", list(arrays))
    for name, array in arrays.items():
        group[name] = array


def _describe_content(path: Path) -> str:
    if path.is_dir():
        return "it is a folder"
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        return "it is empty"
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer to one, fetched with `git lfs pull`"
    if start.startswith(b"PK"):
        return "it is a zip archive; save a .keras model's weights with save_weights"
    return f"it begins with {start[:16]!r}"


def _keras2_layers(root: h5py.Group, whole: Collection[str]) -> Layers:
    """Keras 2: a group a layer, its weights in the order of the attribute `weight_names`.

    A nested model is one group, its weights named `layer/weight` and the trainable ones first:
    the layers inside are told apart by these names, not by position.
    """
    if _decode(root.attrs.get("backend", "")) == "theano":
        raise ValueError(f"{root.file.filename} was written by Theano, whose kernels are flipped")
    layers: Layers = {}
    for name in _read_names(root, "layer_names"):
        if name not in root:
            raise ValueError(f"{root.file.filename} is damaged: the group of layer {name} is gone")
        datasets = read_group(root[name]).values()
        owners = [dataset.name.split("/")[-2] for dataset in datasets]
        nested = len(set(owners)) > 1 and name not in whole
        for owner, dataset in zip(owners, datasets, strict=True):
            layers.setdefault(owner if nested else name, []).append(dataset)
    return layers


def _keras3_layers(root: h5py.Group) -> Layers:
    """Keras 3: a group `<class>_<n>` a layer, its name an attribute of the group `vars` inside."""
    layers: Layers = {}
    for group in root["layers"].values():
        if "layers" in group:
            layers |= _keras3_layers(group)
        elif datasets := _keras3_datasets(group):
            name = group["vars"].attrs.get("name")
            if name is None:
                raise ValueError(
                    f"{root.file.filename} names no layers, as Keras before 3.6 wrote it: load it "
                    "with keras_model.load_weights into the same network and save it again"
                )
            layers[_decode(name)] = datasets
    return layers


def _keras3_datasets(group: h5py.Group) -> list[h5py.Dataset]:
    """A layer's own weights, numbered, then those of the layer it wraps."""
    own = [group["vars"][key] for key in sorted(group["vars"], key=int)] if "vars" in group else []
    inner = [_keras3_datasets(child) for key, child in group.items() if key != "vars"]
    inner = [datasets for datasets in inner if datasets]
    if len(inner) > 1:
        raise ValueError(
            f"{group.file.filename} holds a layer made of several ({group.name}), whose order the "
            "format does not keep: save these weights as .h5 instead"
        )
    return own + sum(inner, [])


def _dataset(group: h5py.Group, name: str) -> h5py.Dataset:
    if not isinstance(group.get(name), h5py.Dataset):
        raise ValueError(f"{group.file.filename} is damaged: the weight {name} is gone")
    return group[name]


def _read_names(group: h5py.Group, attribute: str) -> list[str]:
    """A list of names, which Keras splits over `<attribute>0`, `<attribute>1`, … where long."""
    if attribute in group.attrs:
        return [_decode(name) for name in group.attrs[attribute]]
    names: list[str] = []
    part = 0
    while f"{attribute}{part}" in group.attrs:
        names += [_decode(name) for name in group.attrs[f"{attribute}{part}"]]
        part += 1
    return names


def _write_names(group: h5py.Group, attribute: str, names: Sequence[str]) -> None:
    encoded = np.asarray([name.encode("utf8") for name in names])
    if encoded.nbytes <= ATTRIBUTE_LIMIT:
        group.attrs[attribute] = encoded
        return
    size = max(1, ATTRIBUTE_LIMIT // encoded.itemsize)
    for part, start in enumerate(range(0, len(encoded), size)):
        group.attrs[f"{attribute}{part}"] = encoded[start : start + size]


def _decode(text: str | bytes) -> str:
    return text.decode("utf8") if isinstance(text, bytes) else text


def h5_path(filepath: str | os.PathLike) -> Path:
    path = Path(filepath)
    if path.suffix != ".h5":
        raise ValueError(f"the name of a weight file ends in .h5 or .weights.h5, received {path}")
    return path
