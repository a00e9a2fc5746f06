"""The layouts of Keras' weight files; h5py and NumPy only.

This file reads Keras 2 `.h5` (weights alone, or a whole model with the weights in its group
`model_weights`) and Keras 3 `.weights.h5`; the content of a file decides which layout it has. It
writes the layout of Keras 2.2.5, the last one that the original could read.
"""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from mrcnn.files import write_bytes
from mrcnn.messages import shortened
from mrcnn.types import PathLike
from mrcnn.weights.hdf5_tree import StoredArray, StoredGroup, read_tree

# An HDF5 attribute holds at most 64 KB; Keras splits a longer list of names at this many bytes.
ATTRIBUTE_LIMIT = 64512

# Weights by layer name, in the order of the layer's own weights; the file must stay open for them.
Layers = dict[str, list[StoredArray]]


# ---- Reading ---------------------------------------------------------------------------------


@contextmanager
def open_weights(filepath: PathLike) -> Iterator[StoredGroup]:
    """Open an HDF5 file for reading; returns its root after every object in it is checked.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no HDF5 file, a damaged one, or one that refers to other files or links
            to itself, see `hdf5_tree.read_tree`.
    """
    path = Path(filepath)
    if not path.exists():
        raise FileNotFoundError(f"there is no weight file {path}")
    if not h5py.is_hdf5(path):
        raise ValueError(f"{path} is no HDF5 weight file: {_describe_content(path)}")
    try:
        file = h5py.File(path, "r")
    except PermissionError:
        raise
    except Exception as error:  # as in hdf5_tree.damage_named
        raise ValueError(
            f"{path} is damaged, perhaps cut off in a copy ({shortened(error, 200)})"
        ) from error
    with file:
        yield read_tree(file, str(path))


def read_layers(root: StoredGroup, whole: Collection[str]) -> Layers:
    """The layers of a file that hold weights; a nested model counts as the layers inside it.

    Args:
        root: root of the file.
        whole: names of layers that count as one even if their weights have the names of several.

    Raises:
        ValueError: the file holds no Keras weights, or damaged ones.
    """
    root = root.group("model_weights") or root
    layer_names = _read_names(root, "layer_names")
    if layer_names is not None:
        layers = _keras2_layers(root, layer_names, whole)
    elif "layers" in root.children:
        layers = _keras3_layers(root)
    else:
        layers = {}
    if not layers:
        raise ValueError(f"{root.filename} is an HDF5 file, but holds no Keras weights")
    return layers


def read_group(group: StoredGroup) -> dict[str, StoredArray]:
    """The weights of one group in the order of its attribute `weight_names`.

    Raises:
        ValueError: a weight that the attribute names is missing.
    """
    arrays = {}
    for name in _read_names(group, "weight_names") or []:
        array = group.find(name)
        if not isinstance(array, StoredArray):
            raise ValueError(f"{group.filename} is damaged: the weight {shortened(name)} is gone")
        arrays[name] = array
    return arrays


def read_arrays(stored: Sequence[StoredArray]) -> list[np.ndarray]:
    """The numbers of several arrays.

    Raises:
        ValueError: they are not numbers, or cannot be read.
    """
    return [array.read() for array in stored]


def _keras2_layers(root: StoredGroup, names: Sequence[str], whole: Collection[str]) -> Layers:
    """Keras 2: one group per layer, its weights in the order of the attribute `weight_names`.

    A nested model is one group. Its weights are named `layer/weight`, and the trainable ones come
    first, so the layers inside are found by these names, not by position.
    """
    if root.texts("backend") == ["theano"]:
        raise ValueError(f"{root.filename} was written by Theano, whose kernels are flipped")
    layers: Layers = {}
    for name in dict.fromkeys(names):
        group = root.group(name)
        if group is None:
            raise ValueError(
                f"{root.filename} is damaged: the group of layer {shortened(name)} is gone"
            )
        arrays = read_group(group).values()
        owners = [array.name.split("/")[-2] for array in arrays]
        nested = len(set(owners)) > 1 and name not in whole
        for owner, array in zip(owners, arrays, strict=True):
            layers.setdefault(owner if nested else name, []).append(array)
    return layers


def _keras3_layers(root: StoredGroup) -> Layers:
    """Keras 3: one group `<class>_<n>` per layer; its group `vars` has the layer's name."""
    layers: Layers = {}
    for group in _groups_in(root, "layers"):
        if "layers" in group.children:
            layers |= _keras3_layers(group)
        elif arrays := _keras3_arrays(group):
            variables = group.group("vars")
            name = variables.texts("name") if variables else None
            if not name:
                raise ValueError(
                    f"{root.filename} names no layers, as Keras before 3.6 wrote it: load it "
                    "with keras_model.load_weights into the same network and save it again"
                )
            layers[name[0]] = arrays
    return layers


def _keras3_arrays(group: StoredGroup) -> list[StoredArray]:
    """A layer's own weights in the order of their numbers, then those of the wrapped layer."""
    own: dict[int, StoredArray] = {}
    inner = []
    for name, child in group.children.items():
        if name != "vars":
            if isinstance(child, StoredGroup) and (arrays := _keras3_arrays(child)):
                inner.append(arrays)
            continue
        for key, array in child.children.items() if isinstance(child, StoredGroup) else ():
            if not isinstance(array, StoredArray) or not re.fullmatch("[0-9]{1,9}", key):
                raise ValueError(
                    f"{group.filename} is damaged: {shortened(array.name)} is no weight"
                )
            own[int(key)] = array
    if len(inner) > 1:
        raise ValueError(
            f"{group.filename} holds a layer made of several ({shortened(group.name)}), whose "
            "order the format does not keep: save these weights as .h5 instead"
        )
    return [own[number] for number in sorted(own)] + (inner[0] if inner else [])


def _groups_in(root: StoredGroup, name: str) -> list[StoredGroup]:
    """The groups inside the group of this name, which must hold only groups."""
    group = root.group(name)
    children = list(group.children.values()) if group else []
    groups = [child for child in children if isinstance(child, StoredGroup)]
    if group is None or len(groups) != len(children):
        raise ValueError(f"{root.filename} is damaged: {name} is no group of layers")
    return groups


def _read_names(group: StoredGroup, attribute: str) -> list[str] | None:
    """A list of names, which Keras splits into `<attribute>0`, `<attribute>1`, … if it is long."""
    names = group.texts(attribute)
    if names is not None:
        return names
    parts: list[list[str]] = []
    while (part := group.texts(f"{attribute}{len(parts)}")) is not None:
        parts.append(part)
    return [name for part in parts for name in part] if parts else None


def _describe_content(path: Path) -> str:
    """A guess, for messages, at the kind of a file that is not HDF5."""
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


# ---- Writing ---------------------------------------------------------------------------------


@contextmanager
def new_file(path: PathLike) -> Iterator[h5py.File]:
    """An HDF5 file in memory; it is written to `path` if there is no error.

    If the disk is full when HDF5 closes a file, HDF5 ends the process with a signal. Writing the
    bytes from memory raises an OSError instead.
    """
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        yield file
    write_bytes(path, memory.getbuffer())


def write_layers(file: h5py.Group, layers: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Write {layer: {weight name: array}} as Keras 2.2.5 did."""
    _write_names(file, "layer_names", list(layers))
    # The kernels of all backends have TensorFlow's layout. Keras 2 calls `decode` on both
    # attributes, so they are bytes.
    file.attrs["backend"] = b"tensorflow"
    file.attrs["keras_version"] = b"2.2.5"
    for name, arrays in layers.items():
        write_group(file.require_group(name), arrays)


def write_group(group: h5py.Group, arrays: Mapping[str, np.ndarray]) -> None:
    """Write {weight name: array}, with the order of the names in the attribute `weight_names`."""
    _write_names(group, "weight_names", list(arrays))
    for name, array in arrays.items():
        group[name] = array


def h5_path(filepath: PathLike) -> Path:
    """The path, after a check that its name ends like that of a weight file.

    Raises:
        ValueError: the name does not end in `.h5`.
    """
    path = Path(filepath)
    if path.suffix != ".h5":
        raise ValueError(f"the name of a weight file ends in .h5 or .weights.h5, received {path}")
    return path


def is_keras3_name(filepath: PathLike) -> bool:
    """Does the name end like that of a weight file in Keras 3's own format?"""
    return str(filepath).endswith(".weights.h5")


def _write_names(group: h5py.Group, attribute: str, names: Sequence[str]) -> None:
    encoded = np.asarray([name.encode("utf8") for name in names])
    if encoded.nbytes <= ATTRIBUTE_LIMIT:
        group.attrs[attribute] = encoded
        return
    size = max(1, ATTRIBUTE_LIMIT // encoded.itemsize)
    for part, start in enumerate(range(0, len(encoded), size)):
        group.attrs[f"{attribute}{part}"] = encoded[start : start + size]
