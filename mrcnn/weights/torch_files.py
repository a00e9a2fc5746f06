"""Checkpoints of PyTorch and `.safetensors` files, read without PyTorch.

`torch.save` writes a zip of `data.pkl`, a pickle of names, shapes and strides, and an entry of raw
numbers for each storage, `data/0`, `data/1`, …; before PyTorch 1.6 it wrote several pickles and the
raw numbers one behind the other. `.ckpt` of Lightning, and mostly `.pth`, `.pt` and `.bin`, are
such files. The pickle is never run, see `pickles.py`.
"""

from __future__ import annotations

import io
import mmap
import os
import re
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mrcnn.weights.pickles import Name, Object, read_pickle

Tensors = dict[str, np.ndarray]

# PyTorch's names, which but for bfloat16 are NumPy's.
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
_SAFETENSORS_DTYPES = {
    "BOOL": "bool",
    "BF16": "bfloat16",
    "C64": "complex64",
    **{f"{kind}{bits}": f"{word}{bits}" for kind, word in (("U", "uint"), ("I", "int"))
       for bits in (8, 16, 32, 64)},
    **{f"F{bits}": f"float{bits}" for bits in (16, 32, 64)},
}  # fmt: skip

# The number that files of the old format begin with, as a pickle of protocol 2 has it.
_LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
# Where training scripts put the weights beside other things; Lightning's name first.
_STATE_DICT_KEYS = ("state_dict", "model_state_dict", "model_state", "model")


# ---- Files to tensors ------------------------------------------------------------------------


def is_checkpoint(filepath: str | os.PathLike) -> bool:
    """Does the file begin like one of PyTorch or safetensors? What it is called does not count."""
    path = Path(filepath)
    return path.is_file() and _reader(path) is not None


def read_checkpoint(filepath: str | os.PathLike) -> tuple[Tensors, list[str]]:
    """The weights of a checkpoint by name, and what else it holds.

    Returns:
        {name: array}, arrays of the dtype stored, bfloat16 as float32, read-only views where they
        share storage; names of what was skipped: the optimizer's state and other entries, tensors
        of a dtype that NumPy does not have, classes and functions that the pickle names.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: a `.safetensors` file, and the package safetensors is not installed.
        ValueError: no such checkpoint, a damaged one, or one without tensors by name.
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
    """The function that reads files which begin as this one does."""
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
    """An entry's bytes, as many as the file itself has: torch.save does not compress."""
    try:
        entry = archive.getinfo(name)
    except KeyError:
        raise ValueError(f"it is damaged: {name} is not in the archive") from None
    if entry.header_offset < 0:  # zipfile would only fail on seeking there
        raise ValueError(f"it is damaged: {name} lies outside the archive")
    stored = entry.compress_type == zipfile.ZIP_STORED and entry.file_size == entry.compress_size
    if not stored or entry.flag_bits & 1:
        raise ValueError(f"{name} is compressed or encrypted, which torch.save does not do")
    return archive.read(entry)


def _read_legacy(path: Path) -> tuple[Tensors, list[str]]:
    storages: dict[str, _Storage] = {}

    def load(identifier):
        storage = _storage(identifier)
        if isinstance(storage, _Storage):
            storages.setdefault(storage.key, storage)
        return storage

    # A memory map reads no more than there is; a file makes room first for all that a damaged
    # length asks for.
    with path.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as file:
        for _ in ("magic number", "version", "sizes of the machine that wrote it"):
            read_pickle(file, {}, load)
        tree, unknown = read_pickle(file, _CALLS, load)
        listed, _ = read_pickle(file, {}, load)
        keys = [key for key in listed if isinstance(key, str)] if isinstance(listed, list) else []
        if not storages.keys() <= set(keys):
            raise ValueError("it is damaged: the list of storages is incomplete")
        positions = {}
        for key in keys:
            length = file.read(8)
            if key not in storages or length != struct.pack("<q", storages[key].count):
                raise ValueError(f"it is damaged: storage {key} is not as its tensors say")
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


# ---- What the pickle says of tensors ---------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Storage:
    """Raw numbers kept outside the pickle: `count` of them, of this dtype, under this key."""

    key: str
    dtype: str
    count: int

    @property
    def nbytes(self) -> int:
        return self.count * (2 if self.dtype == "bfloat16" else np.dtype(self.dtype).itemsize)


@dataclass(frozen=True, eq=False)
class _Tensor:
    """A view of a storage; offset and stride count numbers of this dtype."""

    storage: _Storage
    dtype: str
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def _storage(identifier) -> _Storage | Object:
    """The storage that a persistent id stands for."""
    match identifier:
        case ("module", *_):  # the old format keeps the source code of classes
            return Object("module")
        case ("storage", Name(name=kind), str(key), _, int(count), *view):
            if kind not in _STORAGE_DTYPES or not 0 <= count < 2**48:
                raise ValueError(f"a storage of {count} {kind} is unknown")
            if view not in ([], [None]):
                raise ValueError("storages inside storages; PyTorch can load and save it anew")
            return _Storage(key, _STORAGE_DTYPES[kind], count)
    raise ValueError("a persistent id that is no storage")


def _tensor(arguments: tuple) -> _Tensor:
    storage, offset, size, stride = arguments[:4]
    return _view(storage, storage.dtype, offset, size, stride)


def _tensor_v3(arguments: tuple) -> _Tensor:
    storage, offset, size, stride, _, _, dtype = arguments[:7]
    return _view(storage, dtype.name.removeprefix("torch."), offset, size, stride)


def _view(storage, dtype, offset, size, stride) -> _Tensor:
    if not isinstance(storage, _Storage) or not all(
        isinstance(number, int) and number >= 0 for number in (offset, *size, *stride)
    ):
        raise ValueError("a tensor without a storage, or with no whole numbers as its shape")
    return _Tensor(storage, dtype, offset, tuple(size), tuple(stride))


def _tensor_of_a_type(arguments: tuple) -> _Tensor | Object:
    """A tensor with attributes or of a subclass, as the plain tensor it is made from."""
    function, _, inner = arguments[:3]
    if function.name == "torch._utils._rebuild_tensor_v2":
        return _tensor(inner)
    return Object(function.name)


def _first(arguments: tuple):
    return arguments[0]


def _dict(arguments: tuple) -> dict:
    """An OrderedDict; Python 2 gave it its items as a list of pairs."""
    if not arguments:
        return {}
    pairs = arguments[0]
    made = {key: value for key, value in pairs if isinstance(key, str)}
    # Nothing refers to such a list twice. Emptied, it cannot be asked for a million times over.
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
    tree, unknown: list[str], read: Callable[[_Storage], bytes], big_endian: bool
) -> tuple[Tensors, list[str]]:
    """The tensors of the state dict as arrays, and what else there is."""
    state, skipped = _state_dict(tree)
    arrays: dict[tuple[str, str], np.ndarray] = {}

    def numbers(tensor: _Tensor) -> np.ndarray:
        storage = tensor.storage
        if (storage.key, tensor.dtype) not in arrays:
            data = read(storage)
            if len(data) != storage.nbytes:
                raise ValueError(
                    f"it is damaged: storage {storage.key} has {len(data)} bytes, and its tensors "
                    f"say {storage.count} x {storage.dtype}"
                )
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


def _state_dict(tree) -> tuple[dict, list[str]]:
    """The dict that has the tensors, and the names of what lies beside it."""
    if isinstance(tree, dict):
        if _has_tensors(tree):
            return tree, []
        inside = [key for key, value in tree.items() if _has_tensors(value)]
        known = [key for key in _STATE_DICT_KEYS if key in inside]
        if known or len(inside) == 1:
            chosen = (known or inside)[0]
            return tree[chosen], [str(key) for key in tree if key != chosen]
        found = ", ".join(str(key) for key in list(tree)[:8]) or "nothing"
        raise ValueError(
            "it holds no tensors by name, neither itself nor in one entry such as state_dict, but "
            f"{found}"
        )
    kind = tree.name if isinstance(tree, Object) else type(tree).__name__
    raise ValueError(
        f"it holds an object of {kind}, not tensors by name; save the model's state_dict() with "
        "PyTorch"
    )


def _has_tensors(value) -> bool:
    return isinstance(value, dict) and any(isinstance(item, _Tensor) for item in value.values())


def _numbers(data: bytes, dtype: str, big_endian: bool) -> np.ndarray:
    order = ">" if big_endian else "<"
    if dtype == "bfloat16":  # the upper half of a float32
        return (np.frombuffer(data, f"{order}u2").astype(np.uint32) << 16).view(np.float32)
    numbers = np.frombuffer(data, np.dtype(dtype).newbyteorder(order))
    return numbers.astype(dtype, copy=False)


def _strided(name: str, tensor: _Tensor, numbers: np.ndarray) -> np.ndarray:
    strides = [step * numbers.itemsize for step in tensor.stride]
    try:  # NumPy checks that the view lies inside
        return np.ndarray(
            tensor.size, numbers.dtype, numbers, tensor.offset * numbers.itemsize, strides
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"it is damaged: {name} of shape {tensor.size} does not fit into its storage of "
            f"{numbers.size} numbers ({error})"
        ) from error


# ---- ResNets ---------------------------------------------------------------------------------

# Blocks of the stages; True: three convolutions a block.
_RESNETS = {
    (True, (3, 4, 6, 3)): "ResNet50",
    (True, (3, 4, 23, 3)): "ResNet101",
    (True, (3, 8, 36, 3)): "ResNet152",
    (False, (2, 2, 2, 2)): "ResNet18",
    (False, (3, 4, 6, 3)): "ResNet34",
}
_OTHERS = {
    "conv_stem.": "an EfficientNet",
    "stages.": "a ConvNeXt",
    "patch_embed.": "a transformer",
}
_COUNTER = ".num_batches_tracked"
_PARTS = ("weight", "bias", "running_mean", "running_var")
# The children of a torch.nn.Sequential made of a ResNet, as Zoobot 1 named them.
_CHILDREN = {"0": "conv1", "1": "bn1", **{str(i + 3): f"layer{i}" for i in range(1, 5)}}


def resnet_weights(tensors: Mapping[str, np.ndarray]) -> tuple[dict, list[str]]:
    """A ResNet's weights under this package's layer names, and the names of tensors not needed.

    Args:
        tensors: of a ResNet50 or ResNet101 by torchvision's and timm's names (`conv1.weight`,
            `layer1.0.bn1.running_mean`), or numbered as in Zoobot 1 (`0.weight`,
            `4.0.bn1.running_mean`), all with any prefix (`encoder.`, `backbone.body.`).

    Returns:
        {layer: [kernel `[height, width, in, out]`]} and {layer: [gamma, beta, mean, variance]},
        float32; names in `tensors` of what is no part of it, the classifier for one.

    Raises:
        ValueError: another architecture, or parts are missing; says what was found.
    """
    names = _torchvision_names(tensors)
    blocks = _count_blocks(names)
    kind = _RESNETS.get(("layer1.0.conv3.weight" in names, blocks), "an unknown ResNet")
    if kind not in ("ResNet50", "ResNet101"):
        raise ValueError(
            f"it holds {kind}, {blocks} blocks; what fits is a ResNet50, (3, 4, 6, 3) blocks of "
            "three convolutions, or a ResNet101, (3, 4, 23, 3)"
        )
    layers: dict[str, list[np.ndarray]] = {}
    used = set()
    for torch_name, layer, shapes in _resnet_layers(blocks):
        parts = [f"{torch_name}.{part}" for part in _PARTS[: len(shapes)]]
        if missing := [part for part in parts if part not in names]:
            raise ValueError(f"it lacks {missing[0]}, which a {kind} has")
        arrays = [tensors[names[part]] for part in parts]
        for part, array, shape in zip(parts, arrays, shapes, strict=True):
            if not _fits(array.shape, shape):
                raise ValueError(
                    f"it holds another architecture: {names[part]} is {array.shape}, in a plain "
                    f"{kind} {shape}"
                )
        layers[layer] = [_for_keras(array) for array in arrays]
        used.update(names[part] for part in parts)
    rest = {part: name for part, name in names.items() if name not in used}
    for part, name in rest.items():
        if re.match(r"(conv1|bn1|layer[1-4])\.", part) and not part.endswith(_COUNTER):
            raise ValueError(f"it holds another architecture: a plain {kind} has no {name}")
    return layers, _with_counters_summed([name for name in tensors if name not in used])


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(shape) == len(wanted) and all(
        b in (a, None) for a, b in zip(shape, wanted, strict=True)
    )


def _with_counters_summed(names: list[str]) -> list[str]:
    others = [name for name in names if not name.endswith(_COUNTER)]
    counters = len(names) - len(others)
    return [*others, f"{counters} x num_batches_tracked"] if counters else others


def _torchvision_names(tensors: Mapping[str, np.ndarray]) -> dict[str, str]:
    """{torchvision's name: name in the file} of everything under the ResNet's prefix."""
    found = {}
    for name in tensors:
        match = re.fullmatch(r"(.*\.)?(layer1|4)\.0\.conv1\.weight", name)
        if match:
            found[match[1] or ""] = match[2] == "4"
    if len(found) != 1:
        raise ValueError(_no_single_resnet(tensors, list(found)))
    ((prefix, numbered),) = found.items()
    names = {}
    for name in tensors:
        if name.startswith(prefix):
            first, dot, others = name.removeprefix(prefix).partition(".")
            names[(_CHILDREN.get(first, first) if numbered else first) + dot + others] = name
    return names


def _no_single_resnet(tensors: Mapping[str, np.ndarray], prefixes: list[str]) -> str:
    if prefixes:
        return f"it holds several ResNets, under {', '.join(map(repr, prefixes))}; save one alone"
    looks = [what for part, what in _OTHERS.items() if any(part in name for name in tensors)]
    shown = [f"{name} {array.shape}" for name, array in list(tensors.items())[:3]]
    return (
        f"it holds {looks[0] if looks else 'something else'} and no ResNet by torchvision's names: "
        f"{len(tensors)} tensors, first {', '.join(shown) or 'none'}; what fits is a ResNet50 or "
        "ResNet101"
    )


def _count_blocks(names: Mapping[str, str]) -> tuple[int, ...]:
    blocks = {match[0] for match in map(re.compile(r"layer[1-4]\.\d+\.").match, names) if match}
    return tuple(sum(block.startswith(f"layer{i}.") for block in blocks) for i in range(1, 5))


def _resnet_layers(blocks: tuple[int, ...]) -> Iterator[tuple[str, str, list[tuple]]]:
    """Of each layer PyTorch's name, this package's, and the shapes of its tensors in PyTorch.

    A None in a shape stands for any number.
    """
    yield "conv1", "conv1", [(64, None, 7, 7)]
    yield "bn1", "bn_conv1", [(64,)] * 4
    before = 64
    for stage, count in enumerate(blocks, start=1):
        width = 64 * 2 ** (stage - 1)
        for block in range(count):
            shapes = [(width, before, 1, 1), (width, width, 3, 3), (4 * width, width, 1, 1)]
            torch_name = f"layer{stage}.{block}"
            name = f"{stage + 1}{chr(ord('a') + block)}_branch"
            for i, shape in enumerate(shapes, start=1):
                branch = f"{name}2{'abc'[i - 1]}"
                yield f"{torch_name}.conv{i}", f"res{branch}", [shape]
                yield f"{torch_name}.bn{i}", f"bn{branch}", [shape[:1]] * 4
            if block == 0:
                yield f"{torch_name}.downsample.0", f"res{name}1", [(4 * width, before, 1, 1)]
                yield f"{torch_name}.downsample.1", f"bn{name}1", [(4 * width,)] * 4
            before = 4 * width


def _for_keras(array: np.ndarray) -> np.ndarray:
    if array.ndim == 4:  # [out, in, height, width]
        array = array.transpose(2, 3, 1, 0)
    return array.astype(np.float32)
