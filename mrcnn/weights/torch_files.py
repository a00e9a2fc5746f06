"""PyTorch checkpoints and `.safetensors` files as tensors by name, read without PyTorch.

`torch.save` writes a zip archive. Its entry `data.pkl` is a pickle of names, shapes and strides; an
entry `data/0`, `data/1`, … per storage has the raw numbers. Before PyTorch 1.6 it wrote several
pickles and then the raw numbers. Lightning's `.ckpt`, and most `.pth`, `.pt` and `.bin`, are such
files. The pickle is never run, see `pickles.py`. Tensors are views of the bytes read, so a file
needs only as much memory as its own length, whatever shapes it states.
"""

from __future__ import annotations

import io
import mmap
import os
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mrcnn.messages import listed, shortened
from mrcnn.types import PathLike
from mrcnn.weights.pickles import Name, Object, read_pickle

# `mrcnn.pytorch` was the name of this file in release 0.1, which had this function too.
from mrcnn.weights.torch_resnet import resnet_weights as resnet_weights

Tensors = dict[str, np.ndarray]

# PyTorch's names; all but bfloat16 are NumPy's too.
_DTYPES = frozenset(
    """
    bool uint8 uint16 uint32 uint64 int8 int16 int32 int64
    float16 bfloat16 float32 float64 complex64 complex128
    """.split()
)
_STORAGE_DTYPES = {
    "torch.BoolStorage": "bool",
    "torch.ByteStorage": "uint8",
    "torch.CharStorage": "int8",
    "torch.ShortStorage": "int16",
    "torch.IntStorage": "int32",
    "torch.LongStorage": "int64",
    "torch.HalfStorage": "float16",
    "torch.BFloat16Storage": "bfloat16",
    "torch.FloatStorage": "float32",
    "torch.DoubleStorage": "float64",
    "torch.ComplexFloatStorage": "complex64",
    "torch.ComplexDoubleStorage": "complex128",
    "torch.storage.UntypedStorage": "uint8",
}
# PyTorch's own limit; NumPy 1 has half of it.
_MOST_AXES = 64
_SAFETENSORS_DTYPES = {
    "BOOL": "bool",
    "BF16": "bfloat16",
    "C64": "complex64",
    **{f"{kind}{bits}": f"{word}{bits}" for kind, word in (("U", "uint"), ("I", "int"))
       for bits in (8, 16, 32, 64)},
    **{f"F{bits}": f"float{bits}" for bits in (16, 32, 64)},
}  # fmt: skip

# The number at the start of files of the old format, as a pickle of protocol 2.
_LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
# Names of the entry with the weights if a file holds other things too; Lightning's name first.
_STATE_DICT_KEYS = ("state_dict", "model_state_dict", "model_state", "model")


# ---- Files to tensors ------------------------------------------------------------------------


def is_checkpoint(filepath: PathLike) -> bool:
    """Does the file begin like a file of PyTorch or safetensors? Its name does not count."""
    path = Path(filepath)
    return path.is_file() and _reader(path) is not None


def read_checkpoint(filepath: PathLike) -> tuple[Tensors, list[str]]:
    """The weights of a checkpoint by name, and its other entries.

    Returns:
        {name: array} and the names of skipped entries. Arrays have the stored dtype, but bfloat16
        becomes float32. They are read-only views, whose shapes may be larger than the file. Skipped
        entries are the optimizer's state and other values, tensors of a dtype that NumPy does not
        have, and the classes and functions that the pickle names.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: a `.safetensors` file, and the package safetensors is not installed.
        ValueError: the file is no such checkpoint, is damaged, or holds no tensors by name.
    """
    path = Path(filepath)
    if not path.exists():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    read = _reader(path) if path.is_file() else None
    if read is None:
        raise ValueError(f"{path} is no checkpoint of PyTorch and no safetensors file")
    try:
        return read(path)
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def _reader(path: Path) -> Callable[[Path], tuple[Tensors, list[str]]] | None:
    """The function that reads files of this kind, by the first bytes; None if there is none."""
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith(b"PK\x03\x04") and path.suffix != ".keras":  # a zip of another kind
        return _read_zip
    if start.startswith(_LEGACY_START):
        return _read_legacy
    length = int.from_bytes(start[:8], "little")
    if start[8:9] == b"{" and 8 + length <= path.stat().st_size:
        return _read_safetensors
    return None


def _read_zip(path: Path) -> tuple[Tensors, list[str]]:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = set(archive.namelist())
            if sum(entry.compress_size for entry in archive.infolist()) > path.stat().st_size:
                raise ValueError("it is damaged: entries of the archive overlap or are cut off")
            pickles = [name for name in entries if name.split("/")[1:] == ["data.pkl"]]
            if len(pickles) != 1:
                raise ValueError("it is a zip archive, but not of torch.save: no data.pkl in it")
            folder = pickles[0].removesuffix("data.pkl")
            order = f"{folder}byteorder"
            big_endian = order in entries and _read_entry(archive, order) == b"big"
            pickled = io.BytesIO(_read_entry(archive, pickles[0]))
            tree, unknown = read_pickle(pickled, _CALLS, _storage)

            def read(storage: _Storage) -> bytes:
                return _read_entry(archive, f"{folder}data/{storage.key}")

            return _weights(tree, unknown, read, big_endian)
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise ValueError(f"it is damaged, perhaps cut off in a copy ({error})") from error


def _read_entry(archive: zipfile.ZipFile, name: str) -> bytes:
    """An entry's bytes; torch.save does not compress, so an entry cannot exceed the file's size."""
    try:
        entry = archive.getinfo(name)
    except KeyError:
        raise ValueError(f"it is damaged: {shortened(name)} is not in the archive") from None
    if entry.header_offset < 0:  # otherwise zipfile fails later, with an unclear error
        raise ValueError(f"it is damaged: {shortened(name)} lies outside the archive")
    stored = entry.compress_type == zipfile.ZIP_STORED and entry.file_size == entry.compress_size
    if not stored or entry.flag_bits & 1:
        raise ValueError(
            f"{shortened(name)} is compressed or encrypted, which torch.save does not do"
        )
    return archive.read(entry)


def _read_legacy(path: Path) -> tuple[Tensors, list[str]]:
    storages: dict[str, _Storage] = {}

    def load(identifier: object) -> _Storage | Object:
        storage = _storage(identifier)
        if isinstance(storage, _Storage):
            storages.setdefault(storage.key, storage)
        return storage

    # A memory map reads at most the bytes that exist. Reading from a file would first allocate the
    # whole length that a damaged file states.
    with path.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as file:
        for _ in ("magic number", "version", "sizes of the machine that wrote it"):
            read_pickle(file, {}, load)
        tree, unknown = read_pickle(file, _CALLS, load)
        in_order, _ = read_pickle(file, {}, load)
        entries = in_order if isinstance(in_order, list) else []
        keys = [key for key in entries if isinstance(key, str)]
        if not storages.keys() <= set(keys):
            raise ValueError("it is damaged: the list of storages is incomplete")
        positions = {}
        for key in keys:
            length = file.read(8)
            if key not in storages or length != struct.pack("<q", storages[key].count):
                raise ValueError(
                    f"it is damaged: storage {shortened(key)} is not as its tensors say"
                )
            positions[key] = file.tell()
            file.seek(storages[key].nbytes, os.SEEK_CUR)

        def read(storage: _Storage) -> bytes:
            file.seek(positions[storage.key])
            return file.read(storage.nbytes)

        # The old format is little-endian on every machine.
        return _weights(tree, unknown, read, big_endian=False)


def _read_safetensors(path: Path) -> tuple[Tensors, list[str]]:
    try:
        from safetensors import SafetensorError, deserialize
    except ImportError as error:
        raise ImportError(f"{path} needs safetensors: pip install safetensors") from error
    try:
        stored = deserialize(path.read_bytes())
    except SafetensorError as error:
        raise ValueError(f"it is damaged ({error})") from error
    tensors, skipped = {}, []
    for name, tensor in sorted(stored):
        dtype = _SAFETENSORS_DTYPES.get(tensor["dtype"])
        if dtype is None:
            skipped.append(f"{name} ({tensor['dtype']})")
        else:
            tensors[name] = _numbers(tensor["data"], dtype, False).reshape(tensor["shape"])
    return tensors, skipped


# ---- Tensors in the pickle -------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Storage:
    """Raw numbers outside the pickle.

    Attributes:
        key: name of the storage. dtype: PyTorch's name of the type. count: how many numbers.
    """

    key: str
    dtype: str
    count: int

    @property
    def nbytes(self) -> int:
        return self.count * (2 if self.dtype == "bfloat16" else np.dtype(self.dtype).itemsize)


@dataclass(frozen=True, eq=False)
class _Tensor:
    """A view of a storage; offset and stride count numbers of this dtype, not bytes."""

    storage: _Storage
    dtype: str
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def _storage(identifier: object) -> _Storage | Object:
    """The storage that a persistent id stands for."""
    match identifier:
        case ("module", *_):  # the old format keeps the source code of classes
            return Object("module")
        case ("storage", Name(name=kind), str(key), _, int(count)) | (
            "storage", Name(name=kind), str(key), _, int(count), None,
        ):  # fmt: skip
            if kind not in _STORAGE_DTYPES or not 0 <= count < 2**48:
                raise ValueError(f"a storage of {count} {kind} is unknown")
            return _Storage(key, _STORAGE_DTYPES[kind], count)
        case ("storage", Name(), str(), _, int(), _):
            raise ValueError("storages inside storages; PyTorch can load and save it anew")
    raise ValueError("a persistent id that is no storage")


def _tensor(arguments: tuple) -> _Tensor:
    """Stands for torch._utils._rebuild_tensor and _rebuild_tensor_v2."""
    storage, offset, size, stride = arguments[:4]
    if not isinstance(storage, _Storage):
        raise ValueError("a tensor without a storage")
    return _view(storage, storage.dtype, offset, size, stride)


def _tensor_v3(arguments: tuple) -> _Tensor:
    """Stands for torch._utils._rebuild_tensor_v3, which names the dtype."""
    storage, offset, size, stride, _, _, dtype = arguments[:7]
    if not isinstance(storage, _Storage) or not isinstance(dtype, Name):
        raise ValueError("a tensor without a storage or a dtype")
    return _view(storage, dtype.name.removeprefix("torch."), offset, size, stride)


def _view(storage: _Storage, dtype: str, offset: object, size: object, stride: object) -> _Tensor:
    if not isinstance(size, (tuple, list)) or not isinstance(stride, (tuple, list)):
        raise ValueError("a tensor with no whole numbers as its shape")
    if len(size) > _MOST_AXES or len(size) != len(stride):
        raise ValueError(
            f"a tensor of {len(size)} axes and {len(stride)} strides does not fit into an array"
        )
    numbers = (offset, *size, *stride)
    if not isinstance(offset, int) or not all(isinstance(n, int) and n >= 0 for n in numbers):
        raise ValueError("a tensor with no whole numbers as its shape")
    return _Tensor(storage, dtype, offset, tuple(size), tuple(stride))


def _tensor_of_a_type(arguments: tuple) -> _Tensor | Object:
    """The plain tensor inside a tensor with attributes or of a subclass."""
    function, _, inner = arguments[:3]
    if not isinstance(function, Name) or not isinstance(inner, tuple):
        raise ValueError("a tensor made in an unknown way")
    if function.name == "torch._utils._rebuild_tensor_v2":
        return _tensor(inner)
    return Object(function.name)


def _first(arguments: tuple) -> object:
    """Stands for functions that add something to their first argument."""
    return arguments[0]


def _dict(arguments: tuple) -> dict:
    """An OrderedDict; Python 2 gave it its items as a list of pairs."""
    if not arguments:
        return {}
    pairs = arguments[0]
    if not isinstance(pairs, list):
        raise ValueError("an OrderedDict of something else than pairs")
    made = {key: value for key, value in pairs if isinstance(key, str)}
    # Python's own pickles refer to such a list once. It is emptied, so that a hostile pickle cannot
    # have it walked through a million times.
    pairs.clear()
    return made


_CALLS = {
    "collections.OrderedDict": _dict,
    "torch.Size": _first,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch.nn.parameter.Parameter": _first,
    "torch._tensor._rebuild_from_type_v2": _tensor_of_a_type,
}


def _weights(
    tree: object, unknown: list[str], read: Callable[[_Storage], bytes], big_endian: bool
) -> tuple[Tensors, list[str]]:
    """The tensors of the state dict as arrays, and the names of all other entries."""
    state, skipped = _state_dict(tree)
    contents: dict[str, bytes] = {}
    arrays: dict[tuple[str, str], np.ndarray] = {}

    def numbers(tensor: _Tensor) -> np.ndarray:
        storage = tensor.storage
        if storage.key not in contents:
            contents[storage.key] = read(storage)
        data = contents[storage.key]
        if len(data) != storage.nbytes:
            raise ValueError(
                f"it is damaged: storage {shortened(storage.key)} has {len(data)} bytes, and its "
                f"tensors say {storage.count} x {storage.dtype}"
            )
        if (storage.key, tensor.dtype) not in arrays:
            arrays[storage.key, tensor.dtype] = _numbers(data, tensor.dtype, big_endian)
        return arrays[storage.key, tensor.dtype]

    tensors = {}
    for name, value in state.items():
        if not isinstance(value, _Tensor):
            kind = value.name if isinstance(value, Object) else type(value).__name__
            skipped.append(f"{name} ({kind})")
        elif value.dtype not in _DTYPES:
            skipped.append(f"{name} ({value.dtype})")
        else:
            tensors[str(name)] = _strided(str(name), value, numbers(value))
    plain = _STORAGE_DTYPES.keys() | {f"torch.{dtype}" for dtype in _DTYPES} | {"torch.device"}
    return tensors, skipped + [f"{name} (not imported)" for name in unknown if name not in plain]


def _state_dict(tree: object) -> tuple[dict, list[str]]:
    """The dict that has the tensors, and the names of the entries beside it."""
    if isinstance(tree, dict):
        if _has_tensors(tree):
            return tree, []
        # By identity: a hostile pickle may refer to one large dict any number of times.
        values = {id(value): value for value in tree.values()}
        with_tensors = {key for key, value in values.items() if _has_tensors(value)}
        inside = [key for key, value in tree.items() if id(value) in with_tensors]
        known = [key for key in _STATE_DICT_KEYS if key in inside]
        if known or len(inside) == 1:
            chosen = (known or inside)[0]
            return tree[chosen], [str(key) for key in tree if key != chosen]
        found = listed(map(shortened, tree)) if tree else "nothing"
        raise ValueError(
            "it holds no tensors by name, neither itself nor in one entry such as state_dict, but "
            f"{found}"
        )
    kind = tree.name if isinstance(tree, Object) else type(tree).__name__
    raise ValueError(
        f"it holds an object of {kind}, not tensors by name; save the model's state_dict() with "
        "PyTorch"
    )


def _has_tensors(value: object) -> bool:
    return isinstance(value, dict) and any(isinstance(item, _Tensor) for item in value.values())


def _numbers(data: bytes, dtype: str, big_endian: bool) -> np.ndarray:
    """Raw bytes as numbers of this dtype in this machine's byte order."""
    stored = np.dtype("uint16" if dtype == "bfloat16" else dtype)
    numbers = np.frombuffer(data, stored.newbyteorder(">" if big_endian else "<"))
    if dtype == "bfloat16":  # the upper half of a float32
        return (numbers.astype(np.uint32) << 16).view(np.float32)
    return numbers.astype(dtype, copy=False)


def _strided(name: str, tensor: _Tensor, numbers: np.ndarray) -> np.ndarray:
    """A tensor as a view of its storage's numbers; refused unless it lies inside them."""
    strides = [step * numbers.itemsize for step in tensor.stride]
    try:  # NumPy checks that the view lies inside
        return np.ndarray(
            tensor.size, numbers.dtype, numbers, tensor.offset * numbers.itemsize, strides
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"it is damaged: {shortened(name)} of shape {tensor.size} does not fit into its "
            f"storage of {numbers.size} numbers ({error})"
        ) from error
