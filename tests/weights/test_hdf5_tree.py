"""HDF5 files that refer to other files, link to themselves or state sizes they do not have."""

import h5py
import keras
import numpy as np
import pytest
from keras import layers

from mrcnn import weights
from mrcnn.weights import hdf5, hdf5_tree

# Keras 3.15's own `save_weights` warns so with NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SHAPE = (3, 3, 3, 4)
# Where each kind of file has the kernel of the convolution.
KERNEL = {
    "w.h5": "conv1/conv1/kernel:0",
    "whole.h5": "model_weights/conv1/conv1/kernel:0",
    "w.weights.h5": "layers/conv2d/vars/0",
    "checkpoint.h5": "optimizer_weights/sgd/conv1_kernel_momentum",
}


@pytest.fixture(scope="module")
def model():
    image = keras.Input((9, 9, 3))
    model = weights.Network(image, layers.Conv2D(4, 3, name="conv1")(image), name="network")
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss="mse")
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.fixture(scope="module")
def files(model, tmp_path_factory):
    """One file of each kind."""
    folder = tmp_path_factory.mktemp("files")
    weights.save_weights(model, folder / "w.h5")
    weights.save_weights(model, folder / "w.weights.h5")
    weights.save_model(model, folder / "whole.h5")
    weights.save_checkpoint(model, folder / "checkpoint.h5")
    return folder


def copy(files, name, folder):
    path = folder / name
    path.write_bytes((files / name).read_bytes())
    return path


def readers(name):
    """Every way in which such a file is read here."""
    if name == "checkpoint.h5":
        yield weights.load_optimizer
        return
    yield lambda model, path: weights.load_weights(model, path, by_name=True)
    yield lambda model, path: model.load_weights(path)
    yield lambda model, path: model.load_weights(path, skip_mismatch=True)


def values(model):
    return [np.array(v) for v in (*model.variables, *model.optimizer.variables)]


def assert_refused(model, path, says):
    """Every reader says so in one line that names the file, and changes nothing."""
    before = values(model)
    for read in readers(path.name):
        with pytest.raises(ValueError, match=says) as error:
            read(model, path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)
    for old, new in zip(before, values(model), strict=True):
        np.testing.assert_array_equal(old, new)


# ---- Other files -----------------------------------------------------------------------------


def external_storage(file, kernel, secret):
    file.create_dataset(kernel, SHAPE, "u1", external=[(secret, 0, 108)])


def virtual_dataset(file, kernel, secret):
    source = h5py.VirtualSource(secret, "k", shape=SHAPE)
    layout = h5py.VirtualLayout(SHAPE, "f4")
    layout[:] = source
    file.create_virtual_dataset(kernel, layout)


def external_link(file, kernel, secret):
    file[kernel] = h5py.ExternalLink(secret, "k")


def soft_link(file, kernel, secret):
    file["elsewhere"] = np.ones(SHAPE, "f4")
    file[kernel] = h5py.SoftLink("/elsewhere")


def linked_group(file, kernel, secret):
    group = kernel.rsplit("/", 1)[0]
    del file[group]
    file[group] = h5py.ExternalLink(secret, "/")


OUTSIDE = [
    (external_storage, "lie in another file"),
    (virtual_dataset, "lie in another file"),
    (external_link, "is an external link"),
    (soft_link, "is a soft link"),
    (linked_group, "is an external link"),
]


@pytest.mark.parametrize(
    ("make", "says"), OUTSIDE, ids=lambda value: getattr(value, "__name__", "")
)
@pytest.mark.parametrize("name", KERNEL)
def test_no_reader_reads_another_file(model, files, tmp_path, name, make, says):
    path = copy(files, name, tmp_path)
    secret = tmp_path / "secret"
    with h5py.File(secret, "w") as file:
        file["k"] = np.full(SHAPE, 7, "f4")
    with h5py.File(path, "r+") as file:
        del file[KERNEL[name]]
        make(file, KERNEL[name], str(secret))
    assert_refused(model, path, says)


def test_a_link_is_refused_wherever_it_lies(model, files, tmp_path):
    path = copy(files, "w.h5", tmp_path)
    with h5py.File(path, "r+") as file:
        file["unused/deep/link"] = h5py.SoftLink("/nothing")
    assert_refused(model, path, "/unused/deep/link is a soft link")


# ---- Circles and sizes -----------------------------------------------------------------------


def own_group(file):
    file["layers/conv2d/again"] = file["layers/conv2d"]


def root_inside(file):
    file["layers/conv2d/root"] = file["/"]


def two_groups(file):
    a, b = file.create_group("layers/a"), file.create_group("layers/b")
    a["b"], b["a"] = b, a


def many_paths(file):
    """25 groups, two links each to the next: 33 million paths."""
    group = file.create_group("layers/n0")
    for number in range(1, 26):
        outer = file.create_group(f"layers/n{number}")
        outer["one"], outer["other"] = group, group
        group = outer


@pytest.mark.parametrize("change", [own_group, root_inside, two_groups, many_paths])
def test_groups_that_link_to_each_other_are_refused_at_once(model, files, tmp_path, change):
    path = copy(files, "w.weights.h5", tmp_path)
    with h5py.File(path, "r+") as file:
        change(file)
    assert_refused(model, path, "is linked to a second time")


def test_groups_nested_without_end_are_refused(model, files, tmp_path):
    path = copy(files, "w.weights.h5", tmp_path)
    with h5py.File(path, "r+") as file:
        file.create_group("layers/conv2d" + "/layers" * 1000)
    assert_refused(model, path, "its groups are nested 50 deep")


def test_more_objects_than_any_network_has_are_refused(model, files, tmp_path, monkeypatch):
    path = copy(files, "w.h5", tmp_path)
    with h5py.File(path, "r+") as file:
        for number in range(30):
            file.create_group(f"group{number}")
    with hdf5.open_weights(path):
        pass
    monkeypatch.setattr(hdf5_tree, "MAX_OBJECTS", 30)
    assert_refused(model, path, "more than 30 groups and arrays")


@pytest.mark.parametrize("name", ["w.h5", "w.weights.h5"])
def test_a_shape_larger_than_any_memory_is_compared_first(model, files, tmp_path, name):
    path = copy(files, name, tmp_path)
    with h5py.File(path, "r+") as file:
        del file[KERNEL[name]]
        file.create_dataset(KERNEL[name], (2**40, 2**10), "f8", chunks=(2**10, 1))
    before = values(model)
    with pytest.raises(ValueError, match=r"\(1099511627776, 1024\)"):
        weights.load_weights(model, path)
    for old, new in zip(before, values(model), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_chunk_larger_than_its_array_is_refused(tmp_path):
    path = tmp_path / "w.h5"
    with h5py.File(path, "w") as file:
        settings = {"chunks": (2**28,), "maxshape": (None,), "compression": "gzip"}
        file.create_dataset("k", (4,), "f4", **settings)
    with (
        hdf5.open_weights(path) as root,
        pytest.raises(ValueError, match=r"w.h5 is damaged: /k states .* chunks of 1073741824"),
    ):
        root.find("k").read()


def test_compressed_weights_are_read(model, files, tmp_path):
    """Tools such as h5repack write them."""
    path = copy(files, "w.h5", tmp_path)
    with h5py.File(path, "r+") as file:
        del file[KERNEL["w.h5"]]
        file.create_dataset(KERNEL["w.h5"], data=np.full(SHAPE, 0.5, "f4"), compression="gzip")
    with hdf5.open_weights(path) as root:
        np.testing.assert_array_equal(root.find(KERNEL["w.h5"]).read(), np.full(SHAPE, 0.5))


# ---- Kinds of numbers ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", "i2", "u1", "bool"])
def test_numbers_of_other_kinds_are_converted(model, files, tmp_path, dtype):
    path = copy(files, "w.h5", tmp_path)
    numbers = np.arange(108).reshape(SHAPE).astype(dtype)
    with h5py.File(path, "r+") as file:
        del file[KERNEL["w.h5"]]
        file[KERNEL["w.h5"]] = numbers
    weights.load_weights(model, path)
    np.testing.assert_array_equal(np.asarray(model.weights[0]), numbers.astype("f4"))


@pytest.mark.parametrize(
    "dtype", ["S5", np.dtype([("a", "f4")]), "c8", h5py.string_dtype(), h5py.ref_dtype, "V2"]
)
@pytest.mark.parametrize("name", ["w.h5", "w.weights.h5", "checkpoint.h5"])
def test_what_is_no_real_number_is_refused(model, files, tmp_path, name, dtype):
    path = copy(files, name, tmp_path)
    with h5py.File(path, "r+") as file:
        del file[KERNEL[name]]
        file.create_dataset(KERNEL[name], SHAPE, dtype)
    before = values(model)
    read = weights.load_optimizer if name == "checkpoint.h5" else weights.load_weights
    with pytest.raises(ValueError) as error:
        read(model, path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    for old, new in zip(before, values(model), strict=True):
        np.testing.assert_array_equal(old, new)


def test_bfloat16_of_keras_3_becomes_float32(tmp_path):
    image = keras.Input((2,))
    stored = weights.Network(image, layers.Dense(3, name="dense", dtype="bfloat16")(image))
    stored.set_weights([np.full((2, 3), 0.7), np.arange(3)])
    stored.save_weights(tmp_path / "half.weights.h5")
    read = weights.Network(image, layers.Dense(3, name="dense")(image))
    weights.load_weights(read, tmp_path / "half.weights.h5")
    for mine, theirs in zip(read.weights, stored.weights, strict=True):
        np.testing.assert_array_equal(
            np.asarray(mine), np.asarray(keras.ops.cast(theirs, "float32"))
        )


# ---- Attributes ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (3, "layer_names of / holds no text"),
        (np.zeros((5, 5)), "layer_names of / holds no text"),
        ([b"conv1", b"\xff\xfe"], "layer_names of / cannot be read"),
        ([b"conv1\nline"], "layer_names of / cannot be read"),
        ([b"conv1", b"gone"], "the group of layer gone is gone"),
    ],
)
def test_a_list_of_names_that_is_none(model, files, tmp_path, value, says):
    path = copy(files, "w.h5", tmp_path)
    with h5py.File(path, "r+") as file:
        file.attrs["layer_names"] = value
    with pytest.raises(ValueError, match=says) as error:
        weights.load_weights(model, path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("target", ["layers", "layers/conv2d/vars"])
def test_a_group_that_is_an_array(model, files, tmp_path, target):
    path = copy(files, "w.weights.h5", tmp_path)
    with h5py.File(path, "r+") as file:
        del file[target]
        file[target] = np.zeros(3)
    with pytest.raises(ValueError, match=r"w\.weights\.h5"):
        weights.load_weights(model, path)


def test_names_as_texts_of_any_length_are_read(files, tmp_path, model):
    """Other tools write them so."""
    path = copy(files, "w.h5", tmp_path)
    with h5py.File(path, "r+") as file:
        file.attrs["layer_names"] = ["conv1"]
        file["conv1"].attrs["weight_names"] = ["conv1/kernel:0", "conv1/bias:0"]
    assert weights.load_weights(model, path).loaded == ["conv1"]
