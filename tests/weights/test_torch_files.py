"""Checkpoints of PyTorch: files written by hand, and by PyTorch itself where it is installed."""

import json
import logging
import pickle
import struct
import sys
import tracemalloc
import zipfile
from math import prod

import h5py
import keras
import numpy as np
import pytest

from mrcnn.config import Config
from mrcnn.mask_rcnn import MaskRCNN
from mrcnn.nn.backbone import resnet_graph, resnet_v1_5_graph
from mrcnn.weights import hdf5, load_weights, save_weights
from mrcnn.weights.torch_files import is_checkpoint, read_checkpoint
from mrcnn.weights.torch_resnet import resnet_weights

# ---- Checkpoints written without PyTorch -----------------------------------------------------

STORAGES = {
    "float16": "HalfStorage",
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "int16": "ShortStorage",
    "int32": "IntStorage",
    "int64": "LongStorage",
    "bool": "BoolStorage",
    "complex64": "ComplexFloatStorage",
}


def text(value):
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def whole(number):
    return b"\x8a\x09" + number.to_bytes(9, "little", signed=True)


def rows(*items):
    return b"(" + b"".join(items) + b"t"


def named(name):
    return "c{}\n{}\n".format(*name.rsplit(".", 1)).encode()


def call(name, *arguments):
    return named(name) + rows(*arguments) + b"R"


def mapping(items, made_by=b"}"):
    return made_by + b"(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


def storage(kind, key, count):
    kind = named(f"torch.{kind}")
    return rows(text("storage"), kind, text(key), text("cpu"), whole(count)) + b"Q"


def tensor(kind, key, count, size, stride, offset=0):
    """What torch.save writes for a tensor."""
    shape = [rows(*map(whole, numbers)) for numbers in (size, stride)]
    hooks = call("collections.OrderedDict")
    view = (storage(kind, key, count), whole(offset), *shape, b"\x89", hooks)
    return call("torch._utils._rebuild_tensor_v2", *view)


def strides_of(shape):
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))


def tensors_and_entries(arrays):
    """Pickles of tensors by name, and the raw numbers of their storages by key."""
    pickles, entries = {}, {}
    for key, (name, array) in enumerate(arrays.items()):
        entries[str(key)] = np.ascontiguousarray(array).tobytes()
        view = (array.shape, strides_of(array.shape))
        pickles[name] = tensor(STORAGES[array.dtype.name], str(key), array.size, *view)
    return pickles, entries


def write_zip(path, tree, entries, folder="archive", byteorder=None, **settings):
    """A file as torch.save writes it, from the pickle's operations and the raw numbers by key."""
    with zipfile.ZipFile(path, "w", **settings) as archive:
        archive.writestr(f"{folder}/data.pkl", b"\x80\x02" + tree + b".")
        if byteorder:
            archive.writestr(f"{folder}/byteorder", byteorder)
        for key, data in entries.items():
            archive.writestr(f"{folder}/data/{key}", data)
        archive.writestr(f"{folder}/version", "3\n")
    return path


def write_state_dict(path, arrays, **settings):
    pickles, entries = tensors_and_entries(arrays)
    return write_zip(path, mapping(pickles), entries, **settings)


def write_lightning(path, arrays, folder="epoch=3-step=40"):
    """With the keys that Lightning writes, an optimizer's state and objects among them."""
    pickles, entries = tensors_and_entries(arrays)
    momentum = np.ones(1000, np.float32)
    entries["optimizer"] = momentum.tobytes()
    averages = tensor("FloatStorage", "optimizer", 1000, (1000,), (1,))
    namespace = named("argparse.Namespace") + b")\x81" + mapping({"lr": whole(1)}) + b"b"
    made_by = call("collections.OrderedDict")
    tree = mapping(
        {
            "epoch": whole(3),
            "pytorch-lightning_version": text("2.2.1"),
            "state_dict": mapping(pickles, made_by) + mapping({"_metadata": made_by}) + b"b",
            "callbacks": b"}",
            "optimizer_states": b"]" + mapping({"state": mapping({"0": averages})}) + b"a",
            "hyper_parameters": mapping({"config": namespace}),
        }
    )
    return write_zip(path, tree, entries, folder)


def write_legacy(path, tree, arrays):
    """The format before PyTorch 1.6: pickles, then each storage behind its length."""
    with path.open("wb") as file:
        for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
            file.write(pickle.dumps(value, 2))
        file.write(b"\x80\x02" + tree + b".")
        file.write(pickle.dumps(list(arrays), 2))
        for array in arrays.values():
            file.write(struct.pack("<q", array.size) + array.tobytes())
    return path


def write_safetensors(path, stored):
    """A length, a header in JSON, and the raw numbers one behind the other."""
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, (dtype, shape, numbers) in stored.items():
        offsets = [len(data), len(data) + len(numbers)]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        data += numbers
    encoded = json.dumps(header).encode()
    path.write_bytes(struct.pack("<q", len(encoded)) + encoded + data)
    return path


def values(*shape, dtype="float32", seed=0):
    return np.random.default_rng(seed).normal(0, 9, shape).astype(dtype)


def assert_read(path, expected, skipped=()):
    tensors, left = read_checkpoint(path)
    assert list(tensors) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(tensors[name], array)
        assert tensors[name].dtype == array.dtype
    assert left == list(skipped)


def refused(path):
    with pytest.raises(ValueError) as error:
        read_checkpoint(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    return str(error.value)


# ---- Files to tensors ------------------------------------------------------------------------


def test_a_state_dict(tmp_path):
    arrays = {"conv1.weight": values(4, 3, 7, 7), "bn1.steps": np.array(7), "no": values(0, 3)}
    path = write_state_dict(tmp_path / "resnet.pth", arrays)
    assert is_checkpoint(path)
    assert_read(path, arrays)


def test_a_lightning_checkpoint(tmp_path):
    arrays = {"encoder.conv1.weight": values(2, 3), "head.0.bias": values(5)}
    path = write_lightning(tmp_path / "zoobot.ckpt", arrays)
    tensors, skipped = read_checkpoint(path)
    np.testing.assert_equal(tensors, arrays)
    assert skipped == [
        "epoch",
        "pytorch-lightning_version",
        "callbacks",
        "optimizer_states",
        "hyper_parameters",
        "argparse.Namespace (not imported)",
    ]


@pytest.mark.parametrize("byteorder", ["little", "big"])
@pytest.mark.parametrize("dtype", STORAGES)
def test_numbers_of_every_kind(tmp_path, dtype, byteorder):
    array = values(3, 5).astype(dtype)
    stored = array.astype(array.dtype.newbyteorder("<" if byteorder == "little" else ">"))
    view = ("0", 15, (3, 5), (5, 1))
    tree = mapping({"a": tensor(STORAGES[dtype], *view)})
    path = write_zip(tmp_path / "a.pt", tree, {"0": stored.tobytes()}, byteorder=byteorder)
    assert_read(path, {"a": array})


@pytest.mark.parametrize("order", ["<", ">"])
def test_bfloat16_becomes_float32(tmp_path, order):
    exact = np.array([1.0, -2.5, 3.0e38, 2.0**-130, np.inf], np.float32)  # 8 bits are enough
    exact[2] = np.float32(255 * 2.0**100)
    upper = (exact.view(np.uint32) >> 16).astype(f"{order}u2")
    tree = mapping({"a": tensor("BFloat16Storage", "0", 5, (5,), (1,))})
    byteorder = {"<": "little", ">": "big"}[order]
    path = write_zip(tmp_path / "a.pt", tree, {"0": upper.tobytes()}, byteorder=byteorder)
    assert_read(path, {"a": exact})


def test_views_share_their_storage(tmp_path):
    whole_array = np.arange(24, dtype=np.float32)
    views = {
        "transposed": tensor("FloatStorage", "0", 24, (6, 4), (1, 6)),
        "inside": tensor("FloatStorage", "0", 24, (2, 3), (12, 2), offset=5),
        "repeated": tensor("FloatStorage", "0", 24, (3, 2), (0, 1), offset=22),
        "one": tensor("FloatStorage", "0", 24, (), (), offset=23),
        "bytes": tensor("ByteStorage", "0", 96, (4,), (1,), offset=92),
    }
    path = write_zip(tmp_path / "a.pt", mapping(views), {"0": whole_array.tobytes()})
    expected = {
        "transposed": whole_array.reshape(4, 6).T,
        "inside": whole_array[5:].reshape(-1)[[[0, 2, 4], [12, 14, 16]]],
        "repeated": np.tile(whole_array[22:], (3, 1)),
        "one": whole_array[23],
        "bytes": np.frombuffer(whole_array.tobytes()[-4:], np.uint8),
    }
    assert_read(path, expected)


def test_parameters_and_tensors_with_attributes(tmp_path):
    array = values(4)
    plain = tensor("FloatStorage", "0", 4, (4,), (1,))
    hooks = call("collections.OrderedDict")
    inner = plain[len(named("torch._utils._rebuild_tensor_v2")) : -1]
    make = named("torch._utils._rebuild_tensor_v2")
    v3 = rows(
        storage("storage.UntypedStorage", "1", 6), whole(1), rows(whole(2)), rows(whole(1)),
        b"\x89", hooks, named("torch.uint16"),
    )  # fmt: skip
    made = {
        "parameter": call("torch._utils._rebuild_parameter", plain, b"\x88", hooks),
        "with_state": call(
            "torch._utils._rebuild_parameter_with_state", plain, b"\x88", hooks, mapping({})
        ),
        "typed": call(
            "torch._tensor._rebuild_from_type_v2", make, named("torch.Tensor"), inner, mapping({})
        ),
        "v3": named("torch._utils._rebuild_tensor_v3") + v3 + b"R",
    }
    numbers = np.array([1, 2, 65535], "<u2")
    entries = {"0": array.tobytes(), "1": numbers.tobytes()}
    path = write_zip(tmp_path / "a.pt", mapping(made), entries)
    expected = {name: array for name in made} | {"v3": numbers[1:]}
    assert_read(path, expected, ["torch.Tensor (not imported)"])


def test_tensors_of_other_kinds_are_skipped_by_name(tmp_path):
    hooks = call("collections.OrderedDict")
    float8 = call(
        "torch._utils._rebuild_tensor_v3", storage("storage.UntypedStorage", "0", 4), whole(0),
        rows(whole(4)), rows(whole(1)), b"\x89", hooks, named("torch.float8_e4m3fn"),
    )  # fmt: skip
    state = {
        "a": tensor("FloatStorage", "0", 1, (1,), (1,)),
        "small": float8,
        "sparse": call("torch._utils._rebuild_sparse_tensor", b"N"),
        "_extra": whole(3),
    }
    path = write_zip(tmp_path / "a.pt", mapping(state), {"0": bytes(4)})
    assert_read(
        path,
        {"a": np.zeros(1, np.float32)},
        [
            "small (float8_e4m3fn)",
            "sparse (torch._utils._rebuild_sparse_tensor)",
            "_extra (int)",
            "torch.float8_e4m3fn (not imported)",
            "torch._utils._rebuild_sparse_tensor (not imported)",
        ],
    )


@pytest.mark.parametrize(
    ("beside", "key", "skipped"),
    [
        ((), "state_dict", []),
        (("optimizer",), "model", ["optimizer"]),
        (("state_dict_ema", "arch"), "state_dict", ["state_dict_ema", "arch"]),
        (("epoch",), "net", ["epoch"]),
    ],
)
def test_the_weights_are_found_among_other_things(tmp_path, beside, key, skipped):
    pickles, entries = tensors_and_entries({"a": values(3)})
    tree = {name: mapping({}) for name in beside}
    if "state_dict_ema" in beside:
        tree["state_dict_ema"] = mapping({"a": tensor("FloatStorage", "no", 1, (1,), (1,))})
    path = write_zip(tmp_path / "a.pt", mapping(tree | {key: mapping(pickles)}), entries)
    assert_read(path, {"a": values(3)}, skipped)


def test_a_file_before_pytorch_1_6(tmp_path):
    arrays = {"94711": values(6), "94712": np.arange(4)}
    # Python 2 gave an OrderedDict its items as a list of pairs.
    a = rows(text("a"), tensor("FloatStorage", "94711", 6, (2, 3), (1, 2)))
    b = rows(text("b"), tensor("LongStorage", "94712", 4, (2,), (2,), offset=1))
    items = call("collections.OrderedDict", b"](" + a + b + b"e")
    tree = mapping({"state_dict": items})
    path = write_legacy(tmp_path / "resnet50.pth", tree.replace(b"tQ", b"NtQ"), arrays)
    assert is_checkpoint(path)
    assert_read(path, {"a": arrays["94711"].reshape(3, 2).T, "b": np.array([1, 3])})


def test_a_damaged_file_before_pytorch_1_6(tmp_path):
    tree = mapping({"a": tensor("FloatStorage", "7", 6, (6,), (1,)).replace(b"tQ", b"NtQ")})
    path = write_legacy(tmp_path / "a.pth", tree, {"7": values(6)})
    data = path.read_bytes()
    for length in range(40, len(data)):
        path.write_bytes(data[:length])
        refused(path)
    # A text of 4 GB, and a storage of as much as there can be.
    path.write_bytes(data.replace(b"X" + struct.pack("<I", 1) + b"a", b"X\xff\xff\xff\xff" + b"a"))
    assert "damaged" in refused(path)
    path.write_bytes(data.replace(whole(6) + b"NtQ", whole(2**40) + b"NtQ"))
    assert "storage 7 is not as its tensors say" in refused(path)
    path.write_bytes(path.read_bytes().replace(struct.pack("<q", 6), struct.pack("<q", 2**40)))
    refused(path)
    write_legacy(path, tree, {"7": values(5)})
    assert "storage 7 is not as its tensors say" in refused(path)
    write_legacy(path, tree, {"8": values(6)})
    assert "the list of storages is incomplete" in refused(path)
    deep = b")" + b"\x85" * 100_000
    path.write_bytes(data[: data.index(b".\x80\x02]")] + b".](" + deep + b"e.")
    assert "the list of storages is incomplete" in refused(path)
    write_legacy(path, tree.replace(b"NtQ", b"(NNNttQ"), {"7": values(6)})
    assert "storages inside storages; PyTorch can load and save it anew" in refused(path)


def test_safetensors(tmp_path):
    pytest.importorskip("safetensors")
    arrays = {
        "conv1.weight": values(4, 3, 7, 7),
        "half": values(2, 3, dtype="float16"),
        "steps": np.array(7),
        "mask": np.array([True, False]),
    }
    kinds = {"float32": "F32", "float16": "F16", "int64": "I64", "bool": "BOOL"}
    stored = {name: (kinds[x.dtype.name], x.shape, x.tobytes()) for name, x in arrays.items()}
    stored["brain"] = ("BF16", (2,), b"\x80\x3f\x20\xc0")
    stored["eight"] = ("F8_E4M3", (2,), b"ab")
    path = write_safetensors(tmp_path / "model.safetensors", stored)
    assert is_checkpoint(path)
    arrays["brain"] = np.array([1, -2.5], np.float32)
    assert_read(path, dict(sorted(arrays.items())), ["eight (F8_E4M3)"])
    path.write_bytes(path.read_bytes()[:-3])
    assert "damaged" in refused(path)


def test_without_the_package_safetensors(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<q", 2) + b"{}")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match="model.safetensors needs .*pip install safetensors"):
        read_checkpoint(path)


# ---- Hostile and damaged files ---------------------------------------------------------------


class Reduced:
    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


def test_a_hostile_checkpoint_runs_no_code(tmp_path):
    """tests/test_pickles.py has the ways in which a pickle can ask for it."""
    written = tmp_path / "written"
    request = pickle.dumps(Reduced(open, str(written), "w"), 2)[2:-1]
    good = tensor("FloatStorage", "0", 1, (1,), (1,))
    kept = np.zeros(1, np.float32)
    for tree in (
        mapping({"a": good, "b": request}),
        mapping({"a": good, "b": b"}" + request + b"b"}),
        mapping({"a": good + request + b"b"}),
        mapping({"state_dict": mapping({"a": good}), "hyper_parameters": request}),
    ):
        path = write_zip(tmp_path / "a.ckpt", tree, {"0": bytes(4)})
        tensors, skipped = read_checkpoint(path)
        np.testing.assert_equal(tensors, {"a": kept})
        assert "io.open (not imported)" in skipped
    for tree in (request, mapping({"a": request})):
        refused(write_zip(tmp_path / "a.ckpt", tree, {}))
    path.write_bytes(request)  # no torch.save at all
    refused(path)
    assert not written.exists()
    pickle.loads(request + b".").close()
    assert written.exists(), "the request would do no harm anywhere"


@pytest.mark.parametrize("key", ["../../secret", "/etc/passwd", "../version", "\x00"])
def test_a_storage_is_an_entry_of_the_archive(tmp_path, key):
    (tmp_path / "secret").write_bytes(bytes(4))
    tree = mapping({"a": tensor("FloatStorage", key, 1, (1,), (1,))})
    (tmp_path / "in").mkdir()
    message = refused(write_zip(tmp_path / "in" / "a.ckpt", tree, {"0": bytes(4)}))
    assert "is not in the archive" in message


@pytest.mark.parametrize(
    ("view", "says"),
    [
        (("FloatStorage", "0", 5, (4,), (1,)), "has 16 bytes, and its tensors say 5 x float32"),
        (("FloatStorage", "0", 3, (3,), (1,)), "has 16 bytes, and its tensors say 3 x float32"),
        (("DoubleStorage", "0", 4, (4,), (1,)), "say 4 x float64"),
        (("FloatStorage", "0", 2**40, (4,), (1,)), "has 16 bytes"),
        (("FloatStorage", "0", 2**63, (4,), (1,)), "a storage of 9223372036854775808"),
        (("FloatStorage", "0", -1, (4,), (1,)), "a storage of -1"),
        (("QInt8Storage", "0", 16, (4,), (1,)), "a storage of 16 torch.QInt8Storage is unknown"),
        (("FloatStorage", "0", 4, (5,), (1,)), r"a of shape \(5,\) does not fit"),
        (("FloatStorage", "0", 4, (2,), (4,)), "does not fit into its storage of 4 numbers"),
        (("FloatStorage", "0", 4, (4,), (1,), 1), "does not fit"),
        (("FloatStorage", "0", 4, (2,), (2**62,)), "does not fit"),
        (("FloatStorage", "0", 4, (2**40, 2**40), (0, 0)), "does not fit"),
        (("FloatStorage", "0", 4, (1,) * 70, (1,) * 70), "70 axes and 70 strides does not fit"),
        (("FloatStorage", "0", 4, (4,), ()), "does not fit"),
        (("FloatStorage", "0", 4, (-4,), (1,)), "no whole numbers"),
        (("FloatStorage", "0", 4, (2,), (-1,), 3), "no whole numbers"),
        (("FloatStorage", "0", 4, (4,), (1,), -1), "no whole numbers"),
    ],
)
def test_a_tensor_lies_inside_its_storage(tmp_path, view, says):
    path = write_zip(tmp_path / "a.ckpt", mapping({"a": tensor(*view)}), {"0": bytes(16)})
    with pytest.raises(ValueError, match=says):
        read_checkpoint(path)


def test_a_tensor_larger_than_any_memory_is_only_a_view(tmp_path):
    tree = mapping({"conv1.weight": tensor("FloatStorage", "0", 1, (2**40,), (0,))})
    tensors, _ = read_checkpoint(write_zip(tmp_path / "a.ckpt", tree, {"0": bytes(4)}))
    assert tensors["conv1.weight"].shape == (2**40,)
    with pytest.raises(ValueError, match="no ResNet"):
        resnet_weights(tensors)


def stride0_resnet(path, channels):
    """A whole ResNet50 in 60 kB: every tensor repeats one number."""
    pickles = {
        name: tensor("FloatStorage", "0", 1, shape, (0,) * len(shape))
        for name, shape in resnet_shapes(channels=channels).items()
    }
    return write_zip(path, mapping(pickles), {"0": bytes(4)})


@pytest.mark.parametrize("channels", [3, 250_000, 10**9])
def test_a_small_file_takes_no_more_memory_than_the_model(network, tmp_path, channels):
    path = stride0_resnet(tmp_path / "a.pth", channels)
    assert path.stat().st_size < 70_000
    tracemalloc.start()
    tensors, _ = read_checkpoint(path)
    layers, _ = resnet_weights(tensors)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert layers["conv1"][0].shape == (7, 7, channels, 64)
    assert peak < 10_000_000
    if channels != 3:
        assert_refused(network, path, f"[(7, 7, {channels}, 64)] in the file", "exclude=['conv1']")


def work(read):
    """Lines of Python that a call takes: a measure of time that every machine agrees on."""
    lines = 0

    def trace(frame, event, argument):
        nonlocal lines
        lines += 1
        return trace

    previous = sys.gettrace()
    sys.settrace(trace)
    try:
        read()
    finally:
        sys.settrace(previous)
    return lines


def one_dict_many_times(count):
    inner = mapping({f"{number:06}": b"N" for number in range(count)})
    outer = b"}(" + b"".join(text(f"k{number}") + b"h\x00" for number in range(count)) + b"u"
    return inner + b"q\x00" + b"0" + outer


def one_shape_many_times(count):
    size = b"(" + b"K\x01" * count + b"tq\x00" + b"0"
    view = storage("FloatStorage", "0", 1) + whole(0) + b"h\x00h\x00\x89N"
    return size + mapping(
        {
            str(n): named("torch._utils._rebuild_tensor_v2") + b"(" + view + b"tR"
            for n in range(count)
        }
    )


def one_argument_many_times(count):
    many = b"](" + b"N" * count + b"eq\x00" + b"0"
    return many + mapping({str(n): named("torch.Size") + b"h\x00R" for n in range(count)})


def one_name_many_times(count):
    name = text("x" * count) + b"q\x00" + b"0"
    return name + mapping({str(n): b"h\x00h\x00\x93" for n in range(count)})


def numbers_of_one_hash(count):
    """Python's hash of a whole number is its remainder by 2**61 - 1."""
    keys = (b"\x8a\x10" + (n * (2**61 - 1)).to_bytes(16, "little") + b"N" for n in range(count))
    return b"}(" + b"".join(keys) + b"u"


@pytest.mark.parametrize(
    "tree",
    [
        one_dict_many_times,
        one_shape_many_times,
        one_argument_many_times,
        one_name_many_times,
        numbers_of_one_hash,
    ],
)
def test_reading_takes_time_in_proportion_to_the_file(tmp_path, tree):
    path = tmp_path / "a.pth"

    def lines_of(count):
        write_zip(path, tree(count), {"0": bytes(4)})
        return work(lambda: refused(path))

    small, large = lines_of(500), lines_of(2000)
    assert large < 8 * small  # four times the file; quadratic would be sixteen


def test_entries_of_an_archive_do_not_overlap(tmp_path):
    """Else a file of 1 MB could hold gigabytes of storages, one inside the other."""
    path = write_state_dict(tmp_path / "a.pth", {"a": np.zeros(1000, np.float32)})
    data = path.read_bytes()
    start = data.rindex(b"PK\x01\x02", 0, data.rindex(b"archive/data/0"))
    directory = bytearray(data)
    for offset in (start + 20, start + 24):  # both lengths of the entry
        directory[offset : offset + 4] = (1_000_000).to_bytes(4, "little")
    path.write_bytes(directory)
    assert "entries of the archive overlap" in refused(path)


def test_compressed_entries_are_refused(tmp_path):
    """A small file cannot unfold into a large one."""
    arrays = {"a": np.zeros(10_000_000, np.uint8)}
    settings = {"compression": zipfile.ZIP_DEFLATED}
    path = write_state_dict(tmp_path / "a.ckpt", arrays, **settings)
    assert path.stat().st_size < 20_000
    assert "compressed or encrypted, which torch.save does not do" in refused(path)


def test_every_cut_and_every_changed_byte_is_a_value_error_or_other_numbers(tmp_path):
    path = write_lightning(tmp_path / "a.ckpt", {"encoder.a": values(3), "head.b": values(2)})
    data = path.read_bytes()
    for length in range(5, len(data), 41):
        path.write_bytes(data[:length])
        assert "damaged" in refused(path)
    rng = np.random.default_rng(0)
    for position in range(4, len(data), 7):
        changed = bytearray(data)
        changed[position] ^= int(rng.integers(1, 256))
        path.write_bytes(changed)
        try:
            read_checkpoint(path)
        except ValueError as error:
            assert str(path) in str(error)


def test_what_is_no_checkpoint_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no checkpoint .*missing.ckpt"):
        read_checkpoint(tmp_path / "missing.ckpt")
    assert "is no checkpoint of PyTorch and no safetensors file" in refused(tmp_path)
    path = tmp_path / "a.ckpt"
    for data in (b"", b"\x89HDF\r\n\x1a\n" + bytes(90), b"<!DOCTYPE html>", pickle.dumps({"a": 1})):
        path.write_bytes(data)
        assert not is_checkpoint(path)
        assert "is no checkpoint of PyTorch" in refused(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "")
    assert "a zip archive, but not of torch.save: no data.pkl" in refused(path)


@pytest.mark.parametrize(
    ("tree", "says"),
    [
        (call("torchvision.models.resnet.ResNet"), "an object of torchvision.models.resnet.ResNet"),
        (whole(3), "an object of int, not tensors by name; save the model's state_dict()"),
        (named("__torch__.Net") + b")\x81N" + b"b", "an object of __torch__.Net"),  # TorchScript
        (mapping({}), "but nothing"),
        (mapping({"epoch": whole(1), "loss": whole(2)}), "state_dict, but epoch, loss"),
    ],
)
def test_a_checkpoint_without_tensors_by_name(tmp_path, tree, says):
    assert says in refused(write_zip(tmp_path / "a.pt", tree, {}))


# ---- ResNets ---------------------------------------------------------------------------------

PREFIXES = [
    "",
    "encoder.",
    "zoobot.encoder.",
    "backbone.body.",
    "module.",
    "module.encoder.",
    "module.backbone.body.",
]


def resnet_shapes(blocks=(3, 4, 6, 3), channels=3):
    """torchvision's names and shapes of a ResNet of three convolutions a block."""
    norm = {"weight": "", "bias": "", "running_mean": "", "running_var": ""}
    shapes = {"conv1.weight": (64, channels, 7, 7)}
    shapes |= {f"bn1.{part}": (64,) for part in norm}
    before = 64
    for stage, count in enumerate(blocks, 1):
        width = 32 * 2**stage
        for block in range(count):
            name = f"layer{stage}.{block}"
            kernels = {
                "1": (width, before, 1, 1),
                "2": (width, width, 3, 3),
                "3": (4 * width, width, 1, 1),
            }
            for i, kernel in kernels.items():
                shapes[f"{name}.conv{i}.weight"] = kernel
                shapes |= {f"{name}.bn{i}.{part}": kernel[:1] for part in norm}
                shapes[f"{name}.bn{i}.num_batches_tracked"] = ()
            if block == 0:
                shapes[f"{name}.downsample.0.weight"] = (4 * width, before, 1, 1)
                shapes |= {f"{name}.downsample.1.{part}": (4 * width,) for part in norm}
            before = 4 * width
    return shapes


def empty(shapes, prefix="", dtype=np.float32):
    """Tensors of these shapes that take no memory."""
    return {prefix + name: np.broadcast_to(dtype(0), shape) for name, shape in shapes.items()}


def numbered(name):
    """Zoobot 1's name of torchvision's."""
    first, rest = name.split(".", 1)
    children = ["conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"]
    return f"{children.index(first)}.{rest}"


def seeded(shapes, seed=0):
    """Weights with which activations stay near 1."""
    rng = np.random.default_rng(seed)

    def one(name, shape):
        if len(shape) == 4:
            return rng.normal(0, (2 / prod(shape[1:])) ** 0.5, shape)
        if name.endswith(("running_var", ".weight")):
            return rng.uniform(0.5, 1.0, shape)
        return rng.normal(0, 0.1, shape)

    return {
        name: np.array(7) if name.endswith("tracked") else one(name, shape).astype(np.float32)
        for name, shape in shapes.items()
    }


@pytest.fixture(scope="module")
def network():
    """The backbone alone; C2 to C5 of any image."""
    image = keras.Input((None, None, 3))
    maps = resnet_v1_5_graph(image, "resnet50_v1_5", stage5=True, train_bn=False)
    return keras.Model(image, maps[1:])


@pytest.fixture(scope="module")
def weights():
    return seeded(resnet_shapes())


def assert_holds(layers, weights):
    """Each layer has its tensors, found here by a rule of its own."""
    for layer in layers:
        if not layer.weights:
            continue
        kind, _, name = layer.name.partition("_")
        if layer.name in ("conv1", "bn_conv1"):
            torch_name = "conv1" if layer.name == "conv1" else "bn1"
        else:
            stage, block = int(kind[-2]) - 1, "abcdef".index(kind[-1])
            number = "abc".find(name[-1]) + 1
            parts = [f"conv{number}", f"bn{number}"] if number else ["downsample.0", "downsample.1"]
            torch_name = f"layer{stage}.{block}.{parts[kind.startswith('bn')]}"
        for variable in layer.weights:
            part = {
                "kernel": "weight",
                "gamma": "weight",
                "beta": "bias",
                "moving_mean": "running_mean",
                "moving_variance": "running_var",
            }[variable.name]
            stored = weights[f"{torch_name}.{part}"]
            if variable.name == "kernel":
                stored = np.einsum("oihw->hwio", stored)
            np.testing.assert_array_equal(np.asarray(variable), stored, err_msg=layer.name)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_resnet_is_found_under_any_prefix(network, prefix):
    shapes = resnet_shapes()
    head = {"head.0.weight": np.zeros(3), f"{prefix}fc.bias": np.zeros(1000)}
    layers, unused = resnet_weights(empty(shapes, prefix, np.float16) | head)
    wanted = {x.name: [tuple(w.shape) for w in x.weights] for x in network.layers if x.weights}
    assert {name: [array.shape for array in arrays] for name, arrays in layers.items()} == wanted
    # Views, so that shapes are compared before anything is copied.
    assert {array.dtype for arrays in layers.values() for array in arrays} == {np.dtype("float16")}
    assert unused == ["head.0.weight", f"{prefix}fc.bias", "48 x num_batches_tracked"]


@pytest.mark.parametrize("prefix", ["", "model.0.", "module.model.0."])
def test_a_resnet_of_zoobot_1(prefix):
    tensors = {prefix + numbered(name): array for name, array in empty(resnet_shapes()).items()}
    layers, unused = resnet_weights(tensors | {"model.1.output.weight": np.zeros(3)})
    assert len(layers) == 106
    assert unused == ["model.1.output.weight", "48 x num_batches_tracked"]


def changed(shapes, **changes):
    """These shapes with some added, changed or, where None, left out."""
    changes = {name.replace("__", "."): shape for name, shape in changes.items()}
    return {name: shape for name, shape in (shapes | changes).items() if shape is not None}


BASIC = {f"layer{i}.{j}.conv1.weight": (64, 64, 3, 3) for i in range(1, 5) for j in range(2)}


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (resnet_shapes((3, 8, 36, 3)), ["ResNet152", "(3, 8, 36, 3) blocks"]),
        (resnet_shapes((1, 2, 3, 4)), ["an unknown ResNet, (1, 2, 3, 4) blocks"]),
        (BASIC | {"conv1.weight": (64, 3, 7, 7)}, ["ResNet18, (2, 2, 2, 2) blocks"]),
        (
            changed(resnet_shapes(), layer1__0__conv2__weight=(128, 4, 3, 3)),  # ResNeXt
            ["another architecture", "layer1.0.conv2.weight is (128, 4, 3, 3)", "(64, 64, 3, 3)"],
        ),
        (
            changed(resnet_shapes(), layer1__0__se__fc1__weight=(16, 256, 1, 1)),
            ["another architecture", "a plain ResNet50 has no layer1.0.se.fc1.weight"],
        ),
        (changed(resnet_shapes(), conv1__bias=(64,)), ["no conv1.bias"]),
        (
            changed(resnet_shapes(), conv1__weight=None, conv1__0__weight=(32, 3, 3, 3)),
            ["lacks conv1.weight"],
        ),
        (changed(resnet_shapes(), conv1__weight=(64, 3, 3, 3)), ["conv1.weight is (64, 3, 3, 3)"]),
        (
            changed(resnet_shapes(), layer4__2__bn3__running_var=None),
            ["lacks layer4.2.bn3.running_var", "ResNet50"],
        ),
        (
            {"encoder.conv_stem.weight": (32, 3, 3, 3), "encoder.blocks.0.0.conv_pw.weight": (9,)},
            ["an EfficientNet", "encoder.conv_stem.weight (32, 3, 3, 3)", "ResNet50 or ResNet101"],
        ),
        ({"stem.0.weight": (9,), "stages.0.blocks.0.conv_dw.weight": (9,)}, ["a ConvNeXt"]),
        ({"patch_embed.proj.weight": (9,)}, ["a transformer"]),
        ({"a": (3, 4)}, ["something else", "1 tensors, first a (3, 4)"]),
        ({}, ["0 tensors, first none"]),
        (
            {f"{p}.layer1.0.conv1.weight": (64, 64, 1, 1) for p in ("encoder_q", "encoder_k")},
            ["several ResNets, under 'encoder_q.', 'encoder_k.'"],
        ),
    ],
)
def test_another_architecture_is_named(shapes, words):
    with pytest.raises(ValueError) as error:
        resnet_weights(empty(shapes))
    for word in words:
        assert word in str(error.value)


# ---- Into the network ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lightning(tmp_path_factory, weights):
    path = tmp_path_factory.mktemp("zoobot") / "zoobot.ckpt"
    encoder = {f"encoder.{name}": array for name, array in weights.items()}
    head = {"head.0.weight": values(2, 3), "head.0.bias": values(2)}
    yield write_lightning(path, encoder | head)
    path.unlink()  # pytest would keep its 100 MB


def test_a_checkpoint_fills_the_backbone(network, weights, lightning, caplog):
    caplog.set_level(logging.INFO, logger="mrcnn")
    report = load_weights(network, lightning)  # by_name is not needed: the model is the backbone
    assert_holds(network.layers, weights)
    assert len(report.loaded) == 106
    assert not report.missing and not report.unexpected and not report.excluded
    assert report.skipped[:3] == ["head.0.weight", "head.0.bias", "48 x num_batches_tracked"]
    (record,) = caplog.records
    assert record.levelname == "INFO" and record.getMessage() == str(report)
    assert str(report).startswith(
        f"{lightning}: 106 layers loaded, 9 skipped (head.0.weight, head.0.bias, "
        "48 x num_batches_tracked, epoch and "
    )


def test_excluded_layers_stay(network, weights, lightning):
    load_weights(network, lightning)
    conv1 = network.get_layer("conv1").kernel
    conv1.assign(np.zeros(conv1.shape))
    report = load_weights(network, str(lightning), exclude=["conv1"])
    assert report.excluded == ["conv1"]
    assert_holds(network.layers, weights | {"conv1.weight": np.zeros((64, 3, 7, 7))})


def assert_refused(model, path, *words, **kwargs):
    before = [np.asarray(weight) for weight in model.weights]
    with pytest.raises(ValueError) as error:
        load_weights(model, path, by_name=True, **kwargs)
    for word in (str(path), *words):
        assert word in str(error.value)
    for weight, old in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(np.asarray(weight), old)


def test_another_depth_is_refused(network, tmp_path):
    shapes = resnet_shapes((3, 4, 23, 3))
    # Stage 4 alone would fit, so the file is refused as a ResNet101. Only the shapes count: all
    # tensors repeat one number.
    pickles = {
        name: tensor("FloatStorage", "0", 1, shape, (0,) * len(shape))
        for name, shape in shapes.items()
    }
    path = write_zip(tmp_path / "resnet101.pth", mapping(pickles), {"0": bytes(4)})
    assert_refused(network, path, "resnet101_v1_5", "this model has a ResNet50")


def test_one_channel_does_not_fit_three(network, tmp_path):
    pickles = {
        name: tensor("FloatStorage", "0", 1, shape, (0,) * len(shape))
        for name, shape in resnet_shapes(channels=1).items()
    }
    path = write_zip(tmp_path / "grey.pth", mapping(pickles), {"0": bytes(4)})
    words = "conv1 (kernel) is [(7, 7, 1, 64)] in the file, [(7, 7, 3, 64)] in the model"
    assert_refused(network, path, words, "exclude=['conv1']")
    assert load_weights(network, path, exclude=["conv1"]).excluded == ["conv1"]


def test_the_originals_resnet_takes_no_checkpoint_of_pytorch(lightning):
    image = keras.Input((None, None, 3))
    original = keras.Model(image, resnet_graph(image, "resnet50", True, False))
    assert_refused(original, lightning, 'BACKBONE = "resnet50_v1_5"', "stride on another")


def test_version_1_5_takes_no_file_of_the_original(network, tmp_path):
    layer = {"k:0": np.zeros((3, 3, 128, 128), np.float32), "b:0": np.zeros(128, np.float32)}
    for name, deeper in (("resnet50", {}), ("resnet101", {"res4g_branch2a": {"k:0": np.ones(1)}})):
        path = tmp_path / f"{name}.h5"
        with h5py.File(path, "w") as file:
            hdf5.write_layers(file, {"res3a_branch2b": layer} | deeper)
        assert_refused(network, path, f'BACKBONE = "{name}"', "biases", "stride on another")


def test_a_network_without_resnet_is_told_so(lightning):
    image = keras.Input((8,))
    model = keras.Model(image, keras.layers.Dense(1, name="stranger")(image))
    assert_refused(model, lightning, "this model has no ResNet", "resnet50_v1_5")


def test_a_damaged_checkpoint_loads_nothing(network, tmp_path):
    path = write_lightning(tmp_path / "zoobot.ckpt", {"encoder.conv1.weight": values(64, 3, 7, 7)})
    path.write_bytes(path.read_bytes()[:-1000])
    assert_refused(network, path, "damaged")
    with pytest.raises(FileNotFoundError, match="missing.ckpt"):
        load_weights(network, tmp_path / "missing.ckpt")


class GalaxyConfig(Config):
    NAME = "galaxy"
    BACKBONE = "resnet50_v1_5"
    NUM_CLASSES = 1 + 2
    IMAGE_MIN_DIM = 64
    IMAGE_MAX_DIM = 128
    MEAN_PIXEL = np.array([123.675, 116.28, 103.53])
    PIXEL_STD = np.array([58.395, 57.12, 57.375])


@pytest.mark.slow
def test_the_whole_network_takes_a_checkpoint(weights, lightning, tmp_path):
    model = MaskRCNN("inference", GalaxyConfig(), tmp_path)
    report = model.load_weights(lightning, by_name=True)
    assert len(report.loaded) == 106 and "fpn_c5p5" in report.missing
    backbone = [x for x in model.keras_model.layers if x.name in report.loaded]
    assert_holds(backbone, weights)
    with pytest.raises(ValueError, match="not in the file: fpn_c5p5.*by_name=True"):
        model.load_weights(lightning)
    results = model.detect([np.random.default_rng(0).integers(0, 256, (100, 128, 3), np.uint8)])
    assert results[0]["masks"].shape[:2] == (100, 128)
    path = tmp_path / "w.h5"
    save_weights(model.keras_model, path)
    again = MaskRCNN("training", GalaxyConfig(), tmp_path)
    assert not again.load_weights(path, by_name=True).missing
    path.unlink()
    names = {x.name for x in again.keras_model.layers if x.trainable_weights}
    assert {"conv1", "bn_conv1", "res5c_branch2c"} <= names


# ---- Against PyTorch -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def torch_resnet(torch, weights):
    """ResNet50 of PyTorch's own layers, under torchvision's names, with random weights."""
    nn = torch.nn

    class Bottleneck(nn.Module):
        def __init__(self, before, width, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(before, width, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(width)
            self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(width)
            self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
            self.bn3 = nn.BatchNorm2d(4 * width)
            self.downsample = nn.Identity()
            if stride > 1 or before != 4 * width:
                self.downsample = nn.Sequential(
                    nn.Conv2d(before, 4 * width, 1, stride=stride, bias=False),
                    nn.BatchNorm2d(4 * width),
                )

        def forward(self, x):
            y = torch.relu(self.bn1(self.conv1(x)))
            y = torch.relu(self.bn2(self.conv2(y)))
            return torch.relu(self.bn3(self.conv3(y)) + self.downsample(x))

    class ResNet50(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
            self.bn1 = nn.BatchNorm2d(64)
            self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
            before = 64
            for stage, count in enumerate((3, 4, 6, 3), 1):
                width = 32 * 2**stage
                blocks = []
                for block in range(count):
                    blocks.append(Bottleneck(before, width, 2 if stage > 1 and not block else 1))
                    before = 4 * width
                setattr(self, f"layer{stage}", nn.Sequential(*blocks))
            self.fc = nn.Linear(2048, 10)

        def forward(self, x):
            maps = [self.maxpool(torch.relu(self.bn1(self.conv1(x))))]
            for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
                maps.append(stage(maps[-1]))
            return maps[1:]

    resnet = ResNet50().eval()
    state = {name: torch.from_numpy(array.copy()) for name, array in weights.items()}
    left_out = resnet.load_state_dict(state, strict=False)
    assert not left_out.unexpected_keys
    assert all(name.startswith("fc.") or "tracked" in name for name in left_out.missing_keys)
    return resnet


def assert_same_maps(network, resnet, torch, size=(64, 96)):
    """The four stages agree within 1e-4 of the largest value of each."""
    image = np.random.default_rng(3).normal(size=(1, *size, 3)).astype(np.float32)
    with torch.no_grad():
        expected = [x.numpy() for x in resnet(torch.from_numpy(image.transpose(0, 3, 1, 2)))]
    for actual, wanted in zip(network(image), expected, strict=True):
        wanted = wanted.transpose(0, 2, 3, 1)
        assert wanted.std() > 0.01
        largest = np.abs(wanted).max()
        np.testing.assert_allclose(np.asarray(actual), wanted, rtol=0, atol=1e-4 * largest)


def loaded(network, path):
    """The report of loading into an emptied network; the file, 100 MB, is gone then."""
    for weight in network.weights:
        weight.assign(np.zeros(weight.shape))
    report = load_weights(network, path)
    path.unlink()
    return report


def lightning_of_torch(torch, resnet, path):
    import argparse
    import pathlib

    class Zoobot(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = resnet
            self.head = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Linear(8, 3))

    model = Zoobot()
    optimizer = torch.optim.AdamW(model.head.parameters())
    model.head(torch.ones(1, 8)).sum().backward()
    optimizer.step()
    hyper_parameters = argparse.Namespace(learning_rate=1e-4, save_dir=pathlib.PurePosixPath("a"))
    checkpoint = {
        "epoch": 7,
        "global_step": 1000,
        "pytorch-lightning_version": "2.2.1",
        "state_dict": model.state_dict(),
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'loss'}": {"best": torch.tensor(0.5)}},
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": hyper_parameters,
    }
    torch.save(checkpoint, path)


def test_a_zoobot_checkpoint_gives_pytorchs_activations(network, torch_resnet, torch, tmp_path):
    lightning_of_torch(torch, torch_resnet, tmp_path / "zoobot.ckpt")
    report = loaded(network, tmp_path / "zoobot.ckpt")
    assert_same_maps(network, torch_resnet, torch)
    assert {"head.1.weight", "optimizer_states", "hyper_parameters"} <= set(report.skipped)
    assert "53 x num_batches_tracked" in report.skipped
    assert "argparse.Namespace (not imported)" in report.skipped


@pytest.mark.parametrize("kind", ["pth", "legacy", "zoobot 1", "channels last", "safetensors"])
def test_other_files_of_pytorch_give_its_activations(network, torch_resnet, torch, tmp_path, kind):
    path = tmp_path / "encoder.bin"
    state = torch_resnet.state_dict()
    if kind == "safetensors":
        save_file = pytest.importorskip("safetensors.torch").save_file
        save_file({f"module.encoder.{name}": x for name, x in state.items()}, path)
    elif kind == "legacy":
        torch.save(state, path, _use_new_zipfile_serialization=False)
    elif kind == "zoobot 1":
        layers = {name: x for name, x in state.items() if not name.startswith("fc")}
        torch.save({f"model.0.{numbered(name)}": x for name, x in layers.items()}, path)
    elif kind == "channels last":  # strides other than those of the shape
        kernels = {
            name: x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x
            for name, x in state.items()
        }
        assert not kernels["conv1.weight"].is_contiguous()
        torch.save(kernels, path, pickle_protocol=5)
    else:
        torch.save(state, path)
    loaded(network, path)
    assert_same_maps(network, torch_resnet, torch)


@pytest.mark.parametrize(
    "dtype",
    [
        "bfloat16",
        pytest.param("float16", marks=pytest.mark.slow),
        pytest.param("float64", marks=pytest.mark.slow),
    ],
)
def test_other_numbers_of_pytorch_give_its_activations(
    network, torch_resnet, torch, tmp_path, dtype
):
    import copy

    other = copy.deepcopy(torch_resnet).to(getattr(torch, dtype))
    torch.save({"state_dict": other.state_dict()}, tmp_path / "half.pth")
    loaded(network, tmp_path / "half.pth")
    assert_same_maps(network, other.float(), torch, size=(64, 64))


def test_a_hostile_file_that_pytorch_would_run(torch, tmp_path):
    """Read with weights_only=False, as checkpoints of Lightning are, it writes a file."""
    written, path = tmp_path / "written", tmp_path / "a.ckpt"
    request = Reduced(open, str(written), "w")
    torch.save({"state_dict": {"a": torch.ones(2)}, "hyper_parameters": request}, path)
    tensors, skipped = read_checkpoint(path)
    np.testing.assert_array_equal(tensors["a"], np.ones(2))
    assert skipped == ["hyper_parameters", "io.open (not imported)"]
    assert not written.exists()
    torch.load(path, weights_only=False)["hyper_parameters"].close()
    assert written.exists()


def test_a_whole_pickled_model_is_refused(torch, tmp_path):
    torch.save(torch.nn.Linear(2, 3), tmp_path / "model.pth")
    assert "an object of torch.nn.modules.linear.Linear" in refused(tmp_path / "model.pth")
