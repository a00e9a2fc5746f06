"""Weights in and out, against a file of Keras 2.2.5 and against keras.applications' ResNets."""

import hashlib
import io
import json
import logging
import subprocess
import sys
import zlib
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras import layers, ops

from mrcnn.config import Config
from mrcnn.detection import build_inference_model
from mrcnn.nn.backbone import BatchNorm, resnet_graph
from mrcnn.nn.heads import PerROI
from mrcnn.nn.rpn import build_rpn_model
from mrcnn.training import build_training_model
from mrcnn.weights import (
    LoadReport,
    get_imagenet_weights,
    hdf5,
    load_optimizer,
    load_weights,
    original_resnet_name,
    save_checkpoint,
    save_weights,
)
from seeded_weights import seeded_weight
from tests.slim import SlimInferenceConfig, SlimTrainingConfig, seed_weights

# Keras 3.15's own `save_weights` warns so with NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

ROOT = Path(__file__).parents[2]
HEADS = ["mrcnn_class_logits", "mrcnn_bbox_fc", "mrcnn_bbox", "mrcnn_mask"]
RPN = ["rpn_conv_shared", "rpn_class_raw", "rpn_bbox_pred"]
SLIM = "slim_keras225.h5"


def tiny(classes=3, seed=0, head="mrcnn_class_logits"):
    """One layer of every kind that the network has: plain, normalising, nested, per ROI."""
    keras.utils.set_random_seed(seed)
    image = keras.Input((8, 8, 3), name="input_image")
    x = BatchNorm(name="bn_conv1")(layers.Conv2D(4, 3, name="conv1")(image), training=False)
    rpn = build_rpn_model(1, 3, 4)(x)
    x = PerROI(layers.Conv2D(5, 2, name="mrcnn_class_conv1"))(ops.expand_dims(x, 1))
    logits = layers.Dense(classes, name=head)(layers.Flatten()(x))
    return keras.Model(image, [*rpn, logits])


def arrays(model):
    return [np.asarray(variable).copy() for variable in model.weights]


def assert_equal(actual, expected):
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def assert_seeded(model, seed, but=()):
    """Every layer holds the reference weights, except those `but` names."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            assert_seeded(layer, seed, but)
        for variable in layer.weights if not isinstance(layer, keras.Model) else []:
            expected = seeded_weight(seed, layer.name, variable.name, tuple(variable.shape))
            same = np.array_equal(np.asarray(variable), expected)
            assert same == (layer.name not in but), layer.name


@pytest.fixture(scope="module")
def slim():
    return build_training_model(SlimTrainingConfig())


@pytest.fixture
def saved(tmp_path):
    """A model and the file of its weights."""
    model = tiny(seed=1)
    save_weights(model, tmp_path / "mask_rcnn.h5")
    return model, tmp_path / "mask_rcnn.h5"


# ---- Files of Keras 2 ------------------------------------------------------------------------


@pytest.mark.parametrize("by_name", [False, True])
def test_a_file_of_keras_225_fills_every_layer(slim, goldens, by_name):
    seed_weights(slim, 3)
    report = load_weights(slim, goldens / SLIM, by_name=by_name)
    assert_seeded(slim, 11)
    assert len(report.loaded) == 85
    assert not report.excluded and not report.missing and not report.unexpected


def test_a_full_model_of_keras_225_loads(slim, goldens, tmp_path):
    seed_weights(slim, 3)
    with h5py.File(goldens / SLIM) as source, h5py.File(tmp_path / "model.h5", "w") as file:
        source.copy(source["/"], file, "model_weights")
        file.attrs["model_config"] = b"{}"
        file.create_group("optimizer_weights")
    load_weights(slim, tmp_path / "model.h5")
    assert_seeded(slim, 11)


def test_the_keras_model_itself_saves_and_loads_files_of_keras_2(slim, goldens, tmp_path):
    slim.load_weights(str(goldens / SLIM))
    assert_seeded(slim, 11)
    slim.save_weights(str(tmp_path / "shapes.h5"))
    with pytest.raises(ValueError, match="shapes.h5 exists, and overwrite is False"):
        slim.save_weights(tmp_path / "shapes.h5", overwrite=False)
    detecting = build_inference_model(SlimInferenceConfig())
    for path in (tmp_path / "shapes.h5", goldens / SLIM):
        seed_weights(detecting, 3)
        detecting.load_weights(path, by_name=True)
        assert_seeded(detecting, 11)


def test_excluded_layers_stay(slim, goldens):
    seed_weights(slim, 3)
    report = load_weights(slim, goldens / SLIM, exclude=[*HEADS, "rpn_model"])
    excluded = {"mrcnn_class_logits", "mrcnn_bbox_fc", "mrcnn_mask", *RPN}
    assert_seeded(slim, 11, but=excluded)
    assert set(report.excluded) == excluded
    assert not report.missing and not report.unexpected


def test_a_layer_inside_a_model_can_be_excluded_alone(slim, goldens):
    seed_weights(slim, 3)
    load_weights(slim, goldens / SLIM, exclude=["rpn_class_raw"])
    assert_seeded(slim, 11, but=["rpn_class_raw"])


def test_what_is_written_is_what_keras_225_wrote(slim, goldens, tmp_path):
    seed_weights(slim, 11)
    save_weights(slim, tmp_path / "w.h5")
    with h5py.File(tmp_path / "w.h5") as ours, h5py.File(goldens / SLIM) as theirs:
        for name in ("backend", "keras_version"):
            assert ours.attrs[name] == theirs.attrs[name]
        for name in ("backend", "keras_version", "layer_names"):
            assert_same_attribute_type(ours, theirs, name)
        # Names that Keras 2 numbered, and Lambda layers, differ; they hold no weights.
        weighted = [name for name in names(theirs) if len(theirs[name].attrs["weight_names"])]
        assert {n for n in names(ours) if len(ours[n].attrs["weight_names"])} == set(weighted)
        end = weighted.index("rpn_model")
        assert [name for name in names(ours) if name in weighted][:end] == weighted[:end]
        for name in weighted:
            weights = theirs[name].attrs["weight_names"].tolist()
            assert ours[name].attrs["weight_names"].tolist() == weights
            assert_same_attribute_type(ours[name], theirs[name], "weight_names")
            for weight in weights:
                np.testing.assert_array_equal(ours[name][weight], theirs[name][weight])
                assert ours[name][weight].dtype == theirs[name][weight].dtype
        assert_same_attribute_type(ours["input_image"], theirs["input_image"], "weight_names")


def names(file):
    return [name.decode() for name in file.attrs["layer_names"]]


def assert_same_attribute_type(ours, theirs, name):
    """Keras 2 decodes what it reads, so bytes must come back as bytes, and lists as lists."""
    ours, theirs = ours.attrs.get_id(name), theirs.attrs.get_id(name)
    assert ours.get_type().get_class() == theirs.get_type().get_class()
    assert len(ours.shape) == len(theirs.shape)
    if theirs.get_type().get_class() == h5py.h5t.STRING:
        assert ours.get_type().get_cset() == theirs.get_type().get_cset()
        assert ours.get_type().is_variable_str() == theirs.get_type().is_variable_str()


def test_the_layout_of_the_released_coco_file_fits(goldens, tmp_path):
    """The ResNet101 network of 81 classes; each weight is filled with a number of its own."""
    layout = json.loads((goldens / "resnet101_coco_h5_layout.json").read_text())["layers"]
    path = tmp_path / "mask_rcnn_coco.h5"
    with h5py.File(path, "w") as file:
        hdf5.write_layers(file, {name: {} for name, _ in layout})
        for layer, weights in layout:
            file[layer].attrs["weight_names"] = [name.encode() for name, _ in weights]
            for name, shape in weights:  # a fill value takes no room in the file
                file[layer].create_dataset(name, shape, "f4", fillvalue=number_of(name))
    model = build_inference_model(CocoConfig())
    report = load_weights(model, path)
    assert sorted(report.loaded) == sorted({n.split("/")[0] for _, w in layout for n, _ in w})
    for layer in (*model.layers, *model.get_layer("rpn_model").layers):
        for variable in [] if isinstance(layer, keras.Model) else layer.weights:
            expected = np.float32(number_of(f"{layer.name}/{variable.name}:0"))
            assert np.all(np.asarray(variable) == expected)


class CocoConfig(Config):
    NAME = "coco"
    BACKBONE = "resnet101"
    NUM_CLASSES = 81


def number_of(name):
    return zlib.crc32(name.encode()) / 2**32


# ---- Round trips -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["w.h5", "w.weights.h5", "new/folder/w.h5"])
def test_weights_come_back_bit_for_bit(tmp_path, name):
    model, other = tiny(seed=1), tiny(seed=2)
    save_weights(model, tmp_path / name)
    save_weights(other, tmp_path / name)  # replaces the file
    save_weights(model, str(tmp_path / name))
    report = load_weights(other, str(tmp_path / name))
    assert_equal(arrays(other), arrays(model))
    assert set(report.loaded) == {
        "conv1", "bn_conv1", *RPN, "mrcnn_class_conv1", "mrcnn_class_logits"
    }  # fmt: skip
    assert [path.name for path in (tmp_path / name).parent.iterdir()] == [name.split("/")[-1]]


@pytest.mark.parametrize("name", ["w.h5", "w.weights.h5"])
def test_both_formats_load_by_name_and_exclude(tmp_path, name):
    model, other = tiny(seed=1), tiny(classes=7, seed=2, head="another")
    save_weights(model, tmp_path / name)
    (tmp_path / name).rename(tmp_path / "misleading.keras")  # the content says what it is
    before = arrays(other)
    report = load_weights(other, tmp_path / "misleading.keras", True, ["rpn_model", "bn_conv1"])
    assert report.loaded == ["conv1", "mrcnn_class_conv1"]
    assert sorted(report.excluded) == sorted(["bn_conv1", *RPN])
    assert report.missing == ["another"]
    assert report.unexpected == ["mrcnn_class_logits"]
    source = {variable.path: variable for variable in model.weights}
    for variable, old in zip(other.weights, before, strict=True):
        loaded = variable.path.split("/")[0] in report.loaded
        expected = np.asarray(source[variable.path]) if loaded else old
        np.testing.assert_array_equal(np.asarray(variable), expected)


def test_weights_are_the_same_whichever_layers_train(tmp_path):
    """Keras lists the weights of a frozen layer apart; files do not."""
    model, other = tiny(seed=1), tiny(seed=2)
    model.get_layer("rpn_model").get_layer("rpn_conv_shared").trainable = False
    model.get_layer("bn_conv1").trainable = False
    other.get_layer("conv1").trainable = False
    save_weights(model, tmp_path / "w.h5")
    load_weights(other, tmp_path / "w.h5")
    for layer in ("conv1", "bn_conv1", "rpn_model", "mrcnn_class_conv1", "mrcnn_class_logits"):
        assert_equal(arrays(other.get_layer(layer)), arrays(model.get_layer(layer)))


class Twins(layers.Layer):
    """A layer made of two, as in a backbone of a user's own."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.twins = [layers.Dense(2), layers.Dense(2)]

    def call(self, x):
        return self.twins[0](x) + self.twins[1](x)


def test_a_layer_made_of_several(tmp_path):
    image = keras.Input((2,))
    model = keras.Model(image, Twins(name="twins")(image))
    expected = [np.full(v.shape, i, "float32") for i, v in enumerate(model.weights)]
    model.set_weights(expected)
    save_weights(model, tmp_path / "w.h5")
    save_weights(model, tmp_path / "w.weights.h5")
    model.set_weights([0 * array for array in expected])
    with pytest.raises(ValueError, match="made of several .* as .h5 instead"):
        load_weights(model, tmp_path / "w.weights.h5")
    load_weights(model, tmp_path / "w.h5")
    assert_equal(arrays(model), expected)


@pytest.mark.parametrize("save", [save_weights, save_checkpoint])
def test_a_failed_write_leaves_the_old_file(saved, save, monkeypatch):
    model, path = saved
    model.compile("sgd")
    content = path.read_bytes()

    def fail(file, layers):
        file["half"] = 1
        raise OSError("no space left on device")

    monkeypatch.setattr(hdf5, "write_layers", fail)
    with pytest.raises(OSError, match="no space"):
        save(model, path)
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


FULL_DISK = """
import os, resource, sys
import keras
from keras import layers
from mrcnn import weights

image = keras.Input((16, 16, 3))
model = weights.Network(image, layers.Conv2D(512, 9, name="conv1")(image), name="network")
model.compile("sgd")
model.optimizer.build(model.trainable_variables)
folder = sys.argv[1]
# The file system takes so many bytes of one file; Python ignores the signal that goes with it.
for limit in (0, 100, 5_000, 100_000, 400_000):
    for save, name in (
        (weights.save_weights, "w.h5"),
        (weights.save_weights, "w.weights.h5"),
        (weights.save_checkpoint, "checkpoint.h5"),
        (weights.save_model, "whole.h5"),
        (weights.Network.save_weights, "model.weights.h5"),
        (weights.Network.save, "model.h5"),
        (weights.Network.save, "model.keras"),
    ):
        path = os.path.join(folder, name)
        with open(path, "wb") as file:
            file.write(b"old")
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            save(model, path)
            print(name, limit, "no error")
        except OSError:
            print("OSError")
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        with open(path, "rb") as file:
            assert file.read() == b"old", path
assert not [name for name in os.listdir(folder) if name.startswith(".")]
"""


@pytest.mark.slow
def test_a_full_disk_is_an_error_and_leaves_the_old_files(tmp_path):
    """HDF5 itself would end the process with a signal."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FULL_DISK, tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["OSError"] * 35


@pytest.mark.parametrize("save", [save_weights, save_checkpoint])
def test_hdf5_writes_to_memory_only(saved, save, monkeypatch):
    """The quick half of the test above: HDF5 gets no path to write to."""
    model, path = saved
    model.compile("sgd")
    opened = []
    original = h5py.File

    def open_file(name, *args, **kwargs):
        opened.append(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(h5py, "File", open_file)
    save(model, path)
    if save is save_weights:
        save(model, path.with_name("w.weights.h5"))
    assert opened and all(isinstance(name, io.BytesIO) for name in opened)


@pytest.mark.parametrize("name", ["w.keras", "w", "w.ckpt"])
def test_other_file_names_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=f"ends in .h5 or .weights.h5, received .*{name}"):
        save_weights(tiny(), tmp_path / name)


# ---- What does not fit -----------------------------------------------------------------------


def refused(model, path, **kwargs):
    """The error's message, after checking that nothing was loaded."""
    before = arrays(model)
    with pytest.raises(ValueError) as error:
        load_weights(model, path, **kwargs)
    assert_equal(arrays(model), before)
    return str(error.value)


@pytest.mark.parametrize("by_name", [False, True])
def test_another_shape_is_an_error_that_says_what_to_exclude(saved, by_name):
    model = tiny(classes=5)
    message = refused(model, saved[1], by_name=by_name)
    assert "mrcnn_class_logits (kernel, bias) is [(125, 3), (3,)] in the file" in message
    assert "[(125, 5), (5,)] in the model" in message
    assert message.endswith("exclude=['mrcnn_class_logits']")
    report = load_weights(model, saved[1], by_name=by_name, exclude=["mrcnn_class_logits"])
    assert report.excluded == ["mrcnn_class_logits"]


def test_another_number_of_weights_is_an_error(saved):
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, layers.Conv2D(4, 3, use_bias=False, name="conv1")(image))
    message = refused(model, saved[1], by_name=True)
    assert "conv1 (kernel) is [(3, 3, 3, 4), (4,)] in the file, [(3, 3, 3, 4)]" in message


def test_by_name_false_wants_the_same_layers(saved):
    message = refused(tiny(head="another"), saved[1])
    assert "not in the file: another; not in the model: mrcnn_class_logits; by_name=True" in message
    # Excluded layers need not be in the file, but the file's own must be in the model.
    message = refused(tiny(head="another"), saved[1], exclude=["another"])
    assert "not in the file: none; not in the model: mrcnn_class_logits" in message


def test_nothing_in_common_is_an_error(saved):
    image = keras.Input((8,))
    model = keras.Model(image, layers.Dense(1, name="stranger")(image))
    message = refused(model, saved[1], by_name=True)
    assert "nothing to load" in message and "stranger" in message


def test_an_excluded_name_must_be_a_layer(saved):
    message = refused(tiny(), saved[1], exclude=["mrcnn_clas_logits"])
    assert "'mrcnn_clas_logits'" in message and "did you mean 'mrcnn_class_logits'" in message
    assert "received the string 'conv1'" in refused(tiny(), saved[1], exclude="conv1")


def test_a_cut_off_file_loads_nothing(saved):
    model, path = saved
    path.write_bytes(path.read_bytes()[:-1000])
    assert "is damaged" in refused(model, path)


def test_two_layers_of_one_name_are_refused(tmp_path):
    image = keras.Input((4,))
    nested = keras.Model(image, layers.Dense(4, name="twice")(image))
    other = keras.Input((4,))
    model = keras.Model(other, layers.Dense(4, name="twice")(nested(other)))
    with pytest.raises(ValueError, match="two layers of the model are named 'twice'"):
        save_weights(model, tmp_path / "w.h5")


# ---- The report ------------------------------------------------------------------------------


def test_the_report_is_logged_and_warns_of_what_did_not_match(saved, caplog):
    caplog.set_level(logging.INFO, logger="mrcnn")
    report = load_weights(tiny(), saved[1])
    load_weights(tiny(head="another"), saved[1], by_name=True)
    complete, partial = caplog.records
    assert (complete.levelname, complete.getMessage()) == ("INFO", f"{saved[1]}: 7 layers loaded")
    assert str(report) == complete.getMessage()
    assert partial.levelname == "WARNING"
    assert partial.getMessage() == (
        f"{saved[1]}: 6 layers loaded, 1 missing (another), 1 unexpected (mrcnn_class_logits)"
    )


def test_a_long_report_is_shortened():
    report = LoadReport("f.h5", ["a"], [], [f"l{i}" for i in range(20)], [])
    assert str(report) == ("f.h5: 1 layers loaded, 20 missing (l0, l1, l2, l3 and 16 more)")


@pytest.mark.parametrize("show", [str, repr])
def test_a_report_of_hundreds_of_layers_is_one_short_line(show):
    names = [f"a_layer_with_a_name_{number}" for number in range(300)]
    report = LoadReport("/logs/f.h5", names, names, names, names, names, names)
    assert "\n" not in show(report)
    assert len(show(report)) < (800 if show is str else 200)
    assert repr(report) == (
        "<LoadReport of f.h5: 300 loaded, 300 with NaN or infinite weights, 300 excluded, 300 "
        "missing, 300 unexpected, 300 skipped>"
    )
    assert repr(LoadReport("f.h5", ["a"], [], [], [])) == "<LoadReport of f.h5: 1 loaded>"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["w.h5", "w.weights.h5"])
def test_weights_that_are_not_finite_load_with_a_warning(tmp_path, caplog, name, value):
    caplog.set_level(logging.INFO, logger="mrcnn")
    model, other = tiny(seed=1), tiny(seed=2)
    for layer in ("conv1", "mrcnn_class_logits"):
        bias = model.get_layer(layer).bias
        bias.assign(np.append(np.asarray(bias)[1:], value))
    save_weights(model, tmp_path / name)
    report = load_weights(other, tmp_path / name)
    assert sorted(report.not_finite) == ["conv1", "mrcnn_class_logits"]
    assert_equal(arrays(other), arrays(model))
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert str(tmp_path / name) in record.getMessage()
    assert "2 with NaN or infinite weights (conv1, mrcnn_class_logits)" in record.getMessage()


def test_a_number_too_large_for_the_model_is_infinite_there(tmp_path, caplog):
    model = tiny(seed=1)
    save_weights(model, tmp_path / "w.h5")
    with h5py.File(tmp_path / "w.h5", "r+") as file:
        del file["conv1/conv1/bias:0"]
        file["conv1/conv1/bias:0"] = np.full(4, 1e300)
    assert load_weights(model, tmp_path / "w.h5").not_finite == ["conv1"]
    assert "1 with NaN or infinite weights (conv1)" in caplog.text


# ---- The optimizer ---------------------------------------------------------------------------


def compiled(seed, trainable=("conv1", "bn_conv1", "rpn_model", "mrcnn_class_logits")):
    model = tiny(seed=seed)
    for layer in model.layers:
        layer.trainable = layer.name in trainable
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss=["mse"] * 4)
    model.optimizer.build(model.trainable_variables)
    return model


def step(model):
    rng = np.random.default_rng(5)
    images = rng.normal(size=(2, 8, 8, 3)).astype("float32")
    targets = [rng.normal(size=output.shape) for output in model(images)]
    return model.train_on_batch(images, targets)


def test_training_goes_on_where_the_checkpoint_was_written(tmp_path):
    model, resumed = compiled(1), compiled(2)
    for _ in range(3):
        step(model)
    save_checkpoint(model, tmp_path / "run" / "mask_rcnn_0003.h5")
    resumed.optimizer.learning_rate = 0.01
    load_weights(resumed, tmp_path / "run" / "mask_rcnn_0003.h5")
    load_optimizer(resumed, tmp_path / "run" / "mask_rcnn_0003.h5")
    assert int(resumed.optimizer.iterations) == 3
    for _ in range(2):
        step(model)
        step(resumed)
    for actual, expected in zip(arrays(resumed), arrays(model), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_the_learning_rate_is_not_restored(tmp_path):
    save_checkpoint(compiled(1), tmp_path / "w.h5")
    model = compiled(1)
    model.optimizer.learning_rate = 0.5
    load_optimizer(model, tmp_path / "w.h5")
    assert float(model.optimizer.learning_rate) == 0.5


def test_a_checkpoint_is_a_weight_file_as_well(tmp_path):
    model = compiled(1)
    save_checkpoint(model, tmp_path / "checkpoint.h5")
    save_weights(model, tmp_path / "weights.h5")
    with h5py.File(tmp_path / "checkpoint.h5") as a, h5py.File(tmp_path / "weights.h5") as b:
        assert set(a) == set(b) | {"optimizer_weights", "random_state", "mean_losses"}
        assert names(a) == names(b)


@pytest.mark.parametrize("built", [True, False])
def test_the_state_of_other_layers_is_refused(tmp_path, built):
    save_checkpoint(compiled(1), tmp_path / "w.h5")
    model = compiled(1, trainable=("mrcnn_class_logits",))
    if not built:
        model = tiny()
        model.compile(keras.optimizers.SGD(0.01, momentum=0.9))
    before = [np.asarray(variable).copy() for variable in model.optimizer.variables]
    with pytest.raises(ValueError, match="not that of this model.*bn_conv1_beta_momentum"):
        load_optimizer(model, tmp_path / "w.h5")
    assert_equal([np.asarray(variable) for variable in model.optimizer.variables], before)


def test_what_holds_no_optimizer_state_is_said(saved):
    model, path = saved
    with pytest.raises(ValueError, match="compile it first"):
        save_checkpoint(model, path)
    with pytest.raises(ValueError, match="holds no optimizer state"):
        load_optimizer(compiled(1), path)
    with pytest.raises(ValueError, match="not in .weights.h5"):
        save_checkpoint(compiled(1), path.with_name("w.weights.h5"))


# ---- ResNets of keras.applications -----------------------------------------------------------


@pytest.fixture(scope="module")
def keras_resnet50():
    """Keras' own, its statistics taken from one image and small beside the original's epsilon."""
    keras.utils.set_random_seed(7)
    model = keras.applications.ResNet50(weights=None, include_top=False, input_shape=(66, 66, 3))
    for layer in model.layers:
        if isinstance(layer, layers.Conv2D):
            layer.kernel.assign(layer.kernel * 0.02)
        elif isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.0
            # Small residual branches, as after training: else rounding grows tenfold a stage.
            layer.gamma.assign(layer.gamma * (0.2 if layer.name.endswith("_3_bn") else 1.0))
    model(image66(), training=True)
    return model


def image66():
    """A size at which Keras' pooling, padded on both sides, is the original's "same"."""
    return np.random.default_rng(8).normal(size=(1, 66, 66, 3)).astype("float32")


@pytest.fixture(scope="module")
def our_resnet50():
    image = keras.Input((66, 66, 3))
    return keras.Model(image, resnet_graph(image, "resnet50", stage5=True, train_bn=False))


@pytest.mark.parametrize("name", ["w.h5", "w.weights.h5"])
def test_keras_resnet50_computes_the_same_features_here(
    keras_resnet50, our_resnet50, tmp_path, name
):
    save_weights(keras_resnet50, tmp_path / name)
    report = load_weights(our_resnet50, tmp_path / name)
    assert len(report.loaded) == 106
    expected = np.asarray(keras_resnet50(image66()))
    actual = np.asarray(our_resnet50(image66())[-1])
    assert expected.std() > 0.1
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4 * expected.max())

    # Without the correction the features would be others.
    variance = our_resnet50.get_layer("bn5c_branch2b").moving_variance
    theirs = keras_resnet50.get_layer("conv5_block3_2_bn").moving_variance
    np.testing.assert_allclose(
        np.asarray(variance) + 1e-3, np.asarray(theirs) + 1.001e-5, rtol=1e-3
    )
    for layer in our_resnet50.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.moving_variance.assign(layer.moving_variance + 1e-3 - 1.001e-5)
    other = np.asarray(our_resnet50(image66())[-1])
    assert np.abs(other - expected).max() > 0.1 * expected.max()


def test_a_file_under_the_original_names_is_taken_as_it_is(our_resnet50, tmp_path):
    save_weights(our_resnet50, tmp_path / "old.h5")
    before = arrays(our_resnet50)
    load_weights(our_resnet50, tmp_path / "old.h5", by_name=True)
    assert_equal(arrays(our_resnet50), before)


def test_a_file_with_both_names_of_a_layer_keeps_them_apart(our_resnet50, tmp_path):
    kernel = np.zeros((7, 7, 3, 64), np.float32)
    layer = {"kernel:0": kernel, "bias:0": np.zeros(64, np.float32)}
    with h5py.File(tmp_path / "w.h5", "w") as file:
        hdf5.write_layers(file, {"conv1_conv": {"kernel:0": kernel}, "conv1": layer})
    report = load_weights(our_resnet50, tmp_path / "w.h5", by_name=True)
    assert (report.loaded, report.unexpected) == (["conv1"], ["conv1_conv"])


def test_a_model_on_a_keras_backbone_keeps_its_names_and_values(keras_resnet50, tmp_path):
    save_weights(keras_resnet50, tmp_path / "w.h5")
    before = arrays(keras_resnet50)
    load_weights(keras_resnet50, tmp_path / "w.h5")
    assert_equal(arrays(keras_resnet50), before)


def test_keras_resnet101_is_the_original_under_other_names(goldens):
    layout = json.loads((goldens / "resnet101_coco_h5_layout.json").read_text())["layers"]
    expected = {
        name: [tuple(shape) for _, shape in weights]
        for name, weights in layout
        if weights and (name.startswith(("res", "bn")) or name == "conv1")
    }
    model = keras.applications.ResNet101(weights=None, include_top=False)
    actual = {
        original_resnet_name(layer.name): [tuple(v.shape) for v in layer.weights]
        for layer in model.layers
        if layer.weights
    }
    assert actual == expected


@pytest.mark.parametrize("name", ["fpn_c5p5", "res2a_branch1", "conv2d", "conv1", "conv1_relu"])
def test_other_names_stay(name):
    assert original_resnet_name(name) == name


# ---- ImageNet --------------------------------------------------------------------------------

NOTOP = "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A folder that stands for Keras' address, and one for its cache: (server, cache)."""
    (tmp_path / "server").mkdir()
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    url = (tmp_path / "server").as_uri() + "/"
    monkeypatch.setattr("mrcnn.weights.imagenet._IMAGENET_URL", url)
    return tmp_path / "server", tmp_path / "keras" / "models"


def accept(monkeypatch, *contents):
    checksums = tuple(hashlib.md5(content).hexdigest() for content in contents)
    monkeypatch.setattr("mrcnn.weights.imagenet._IMAGENET_MD5", {"resnet50": checksums})


def test_imagenet_weights_are_downloaded_once(server, monkeypatch):
    served, cache = server
    (served / NOTOP).write_bytes(b"weights")
    accept(monkeypatch, b"weights")
    assert get_imagenet_weights("resnet50") == str(cache / NOTOP)
    (served / NOTOP).unlink()
    assert get_imagenet_weights("resnet50") == str(cache / NOTOP)
    assert (cache / NOTOP).read_bytes() == b"weights"


def test_the_file_that_the_original_downloaded_serves_too(server, monkeypatch):
    _, cache = server
    accept(monkeypatch, b"new names", b"old names")
    cache.mkdir(parents=True)
    (cache / NOTOP).write_bytes(b"old names")
    assert get_imagenet_weights("resnet50") == str(cache / NOTOP)


def test_without_network_it_is_said_which_file_to_put_where(server):
    with pytest.raises(OSError) as error:
        get_imagenet_weights("resnet101")
    message = str(error.value)
    assert "resnet101_weights_tf_dim_ordering_tf_kernels_notop.h5" in message
    assert f"(MD5 88cf7a10940856eca736dc7b7e228a21) into {server[1]}" in message


def test_a_wrong_download_is_refused(server, monkeypatch):
    served, _ = server
    (served / NOTOP).write_bytes(b"a login page")
    accept(monkeypatch, b"weights")
    with pytest.raises(OSError, match="could not download .*corrupted"):
        get_imagenet_weights("resnet50")


def test_a_file_with_another_checksum_is_used_with_a_warning(server, monkeypatch, caplog):
    _, cache = server
    accept(monkeypatch, b"weights")
    cache.mkdir(parents=True)
    (cache / NOTOP).write_bytes(b"weig")
    assert get_imagenet_weights("resnet50") == str(cache / NOTOP)
    assert f"{cache / NOTOP} has MD5" in caplog.text and "delete it" in caplog.text
    assert (cache / NOTOP).read_bytes() == b"weig"


@pytest.mark.parametrize("architecture", ["resnet152", tiny, None])
def test_other_backbones_have_no_imagenet_weights(architecture):
    with pytest.raises(ValueError, match="known for resnet50 and resnet101, received"):
        get_imagenet_weights(architecture)
