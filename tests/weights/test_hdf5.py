"""Files: what is read of each layout, what is written, and what is said of a damaged one."""

import uuid

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrcnn.weights import hdf5
from mrcnn.weights.hdf5_tree import read_tree


def values(layers):
    return {name: hdf5.read_arrays(datasets) for name, datasets in layers.items()}


def assert_same(actual, expected):
    assert list(actual) == list(expected)
    for name in expected:
        assert len(actual[name]) == len(expected[name])
        for a, b in zip(actual[name], expected[name], strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype


def write(path, layers):
    with h5py.File(path, "w") as file:
        hdf5.write_layers(file, layers)
    return path


def read(path, whole=()):
    with hdf5.open_weights(path) as file:
        return values(hdf5.read_layers(file, whole))


def test_layers_come_back_in_order(tmp_path):
    layers = {
        "input_image": {},
        "conv1": {"conv1/kernel:0": np.ones((3, 3)), "conv1/bias:0": np.arange(3, dtype="f4")},
        "a/b": {"a/b/kernel:0": np.zeros(2)},
        "a": {"a/gamma:0": np.full(4, 7.0, "f4"), "a/beta:0": np.zeros(4, "f4")},
    }
    expected = {name: list(arrays.values()) for name, arrays in layers.items() if arrays}
    assert_same(read(write(tmp_path / "w.h5", layers)), expected)


def test_a_nested_model_is_read_as_the_layers_inside_it(tmp_path):
    """Keras 2 lists what trains first, so a layer's weights need not lie side by side."""
    arrays = {
        "conv/kernel:0": np.zeros(1),
        "bn/gamma:0": np.ones(2),
        "bn/beta:0": np.full(2, 2.0),
        "conv/bias:0": np.full(1, 3.0),
        "bn/moving_mean:0": np.full(2, 4.0),
    }
    path = write(tmp_path / "w.h5", {"rpn_model": arrays})
    conv = [arrays["conv/kernel:0"], arrays["conv/bias:0"]]
    bn = [arrays[f"bn/{weight}:0"] for weight in ("gamma", "beta", "moving_mean")]
    assert_same(read(path), {"conv": conv, "bn": bn})
    assert_same(read(path, whole=["rpn_model"]), {"rpn_model": list(arrays.values())})


def test_one_layer_goes_by_its_group_whatever_its_weights_are_called(tmp_path):
    layers = {
        "conv1": {"conv1_W:0": np.zeros(2), "conv1_b:0": np.ones(2)},  # Keras 1
        "head": {"time_distributed_3/kernel": np.full(3, 5.0)},  # some tf.keras
    }
    expected = {name: list(arrays.values()) for name, arrays in layers.items()}
    assert_same(read(write(tmp_path / "w.h5", layers)), expected)


def test_weights_of_a_full_model_lie_in_a_group(tmp_path):
    with h5py.File(tmp_path / "model.h5", "w") as file:
        hdf5.write_layers(file.create_group("model_weights"), {"a": {"a/kernel:0": np.ones(3)}})
        file.attrs["model_config"] = b"{}"
    assert_same(read(tmp_path / "model.h5"), {"a": [np.ones(3)]})


def test_names_beyond_the_size_of_an_attribute_are_split(tmp_path):
    layers = {
        f"{'a_layer_with_a_long_name':_<60}{i}": {f"{i}/kernel:0": np.full(1, i)}
        for i in range(1200)
    }
    path = write(tmp_path / "w.h5", layers)
    with h5py.File(path) as file:
        assert "layer_names" not in file.attrs
        assert {"layer_names0", "layer_names1"} <= set(file.attrs)
    assert_same(read(path), {name: list(arrays.values()) for name, arrays in layers.items()})


@given(names=st.lists(st.text("abcé_/:0", min_size=1, max_size=12), unique=True, max_size=12))
def test_any_list_of_names_is_split_and_joined(names):
    names = [f"{index}{name.replace('/', '_')}" for index, name in enumerate(names)]
    with h5py.File(uuid.uuid4().hex, "w", driver="core", backing_store=False) as file:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(hdf5, "ATTRIBUTE_LIMIT", 60)
            hdf5.write_group(file, {name: np.full(1, i) for i, name in enumerate(names)})
        assert all(np.asarray(attribute).nbytes <= 60 for attribute in file.attrs.values())
        read_back = hdf5.read_group(read_tree(file, "memory"))
        assert list(read_back) == names
        numbers = [int(array[0]) for array in hdf5.read_arrays(list(read_back.values()))]
        assert numbers == list(range(len(names)))


def keras3_file(path):
    with h5py.File(path, "w") as file:
        for group, name in (("dense", "first"), ("dense_1", "second")):
            variables = file.create_group(f"layers/functional/layers/{group}/vars")
            variables.attrs["name"] = name
            variables["0"] = np.full(2, len(group))
        wrapper = file.create_group("layers/wrapper/vars")
        wrapper.attrs["name"] = "wrapped"
        inner = file.create_group("layers/wrapper/layer/vars")
        for index in range(11):
            inner[str(index)] = np.full(1, index)
        file.create_group("optimizer/vars")["0"] = np.zeros(1)
    return path


def test_keras_3_layers_go_by_the_name_in_their_attributes(tmp_path):
    layers = read(keras3_file(tmp_path / "any_name.h5"))
    assert_same(
        layers,
        {
            "first": [np.full(2, 5)],
            "second": [np.full(2, 7)],
            "wrapped": [np.full(1, index) for index in range(11)],
        },
    )


def test_keras_3_file_without_names_is_refused(tmp_path):
    path = keras3_file(tmp_path / "old.weights.h5")
    with h5py.File(path, "r+") as file:
        del file["layers/wrapper/vars"].attrs["name"]
    with pytest.raises(ValueError, match="names no layers, as Keras before 3.6 wrote it"):
        read(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no weight file .*nothing\.h5"):
        read(tmp_path / "nothing.h5")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (b"epoch,loss\n1,2.0\n", "begins with b'epoch,loss"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
        (b"PK\x03\x04rest", "zip archive"),
    ],
)
def test_a_file_that_is_not_hdf5_is_described(tmp_path, content, said):
    path = tmp_path / "weights.h5"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"weights.h5 is no HDF5 weight file: .*{said}"):
        read(path)


def test_a_folder_is_called_one(tmp_path):
    with pytest.raises(ValueError, match="it is a folder"):
        read(tmp_path)


@pytest.mark.parametrize("kept", [0.05, 0.5, 0.99])
def test_a_file_that_was_cut_off_is_called_damaged(tmp_path, kept):
    path = write(tmp_path / "w.h5", {"a": {"a/kernel:0": np.zeros(10_000)}})
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ValueError, match="w.h5 is damaged"):
        read(path)


def test_data_with_flipped_bytes_is_called_damaged(tmp_path):
    path = write(tmp_path / "w.h5", {"a": {}})
    with h5py.File(path, "r+") as file:
        marked = np.full(1000, 1234.5)
        file["a"].create_dataset("kernel:0", data=marked, fletcher32=True, chunks=(1000,))
        file["a"].attrs["weight_names"] = [b"kernel:0"]
    content = path.read_bytes()
    assert marked.tobytes() in content
    path.write_bytes(content.replace(marked.tobytes(), marked[::-1].tobytes()[:-1] + b"\x01"))
    with pytest.raises(ValueError, match="w.h5 is damaged"):
        read(path)


def test_a_weight_that_is_listed_but_not_there_is_named(tmp_path):
    path = write(tmp_path / "w.h5", {"a": {"a/kernel:0": np.zeros(1)}})
    with h5py.File(path, "r+") as file:
        del file["a/a/kernel:0"]
    with pytest.raises(ValueError, match="damaged: the weight a/kernel:0 is gone"):
        read(path)
    with h5py.File(path, "r+") as file:
        del file["a"]
    with pytest.raises(ValueError, match="damaged: the group of layer a is gone"):
        read(path)


@pytest.mark.parametrize("fill", [lambda file: None, lambda file: file.create_dataset("x", (3,))])
def test_hdf5_without_weights_is_refused(tmp_path, fill):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        fill(file)
    with pytest.raises(ValueError, match="other.h5 is an HDF5 file, but holds no Keras weights"):
        read(tmp_path / "other.h5")


def test_weights_written_by_theano_are_refused(tmp_path):
    path = write(tmp_path / "w.h5", {"a": {"a/kernel:0": np.zeros(1)}})
    with h5py.File(path, "r+") as file:
        file.attrs["backend"] = b"theano"
    with pytest.raises(ValueError, match="Theano"):
        read(path)
