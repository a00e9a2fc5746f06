"""Whole models in a file: saved, loaded with `keras.models.load_model`, and used like the first."""

import subprocess
import sys
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import mrcnn.model as modellib
from mrcnn import weights
from mrcnn.data.loader import BatchLoader
from mrcnn.inspection import get_trainable_layers
from mrcnn.parallel_model import ParallelModel
from mrcnn.training import TrainingModel
from tests.tiny import (
    propose_anchors,
    random_rectangles,
    run_eagerly,
    tiny_backbone,
    tiny_config,
    weights_of,
)

DATA = random_rectangles(4)
ROOT = Path(__file__).parents[2]


def build(mode, folder, **settings):
    keras.utils.set_random_seed(0)
    model = modellib.MaskRCNN(mode, tiny_config(**settings), folder)
    propose_anchors(model.keras_model)
    return model


def inputs_of(model):
    molded, metas, _ = model.mold_inputs([DATA.load_image(0), DATA.load_image(1)])
    anchors = model.get_anchors(molded[0].shape)
    return [molded, metas, np.broadcast_to(anchors, (2, *anchors.shape))]


def assert_equal_weights(mine, theirs, **tolerance):
    """Layer by layer: the path of a wrapped layer's weight loses the wrapper when it is loaded."""
    mine, theirs = map(get_trainable_layers, (mine, theirs))
    assert [layer.name for layer in mine] == [layer.name for layer in theirs]
    for one, other in zip(mine, theirs, strict=True):
        for weight, wanted in zip(one.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_allclose(weight, wanted, **{"rtol": 0, **tolerance})


# ---- Inference -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """A model for detection, and the folder it was saved to in both formats."""
    folder = tmp_path_factory.mktemp("detector")
    model = build("inference", folder)
    # Tracing takes longer than the few images that are detected in.
    model.keras_model.run_eagerly = True
    for suffix in ("keras", "h5"):
        model.keras_model.save(folder / f"whole.{suffix}")
    return model, folder


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_an_inference_model_gives_the_same_after_loading(detector, suffix):
    model, folder = detector
    loaded = keras.models.load_model(folder / f"whole.{suffix}")
    assert type(loaded) is type(model.keras_model)
    assert [layer.name for layer in loaded.layers] == [
        layer.name for layer in model.keras_model.layers
    ]
    assert [tensor.name for tensor in loaded.inputs] == [
        tensor.name for tensor in model.keras_model.inputs
    ]
    assert_equal_weights(loaded, model.keras_model)
    outputs, wanted = loaded(inputs_of(model)), model.keras_model(inputs_of(model))
    assert len(outputs) == 7
    for mine, theirs in zip(outputs, wanted, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_a_loaded_model_takes_the_place_of_the_built_one(detector, tmp_path):
    model, folder = detector
    other = modellib.MaskRCNN("inference", tiny_config(), tmp_path)
    other.keras_model = keras.models.load_model(folder / "whole.keras")
    other.keras_model.run_eagerly = True
    images = [DATA.load_image(i) for i in range(2)]
    for mine, theirs in zip(other.detect(images), model.detect(images), strict=True):
        np.testing.assert_array_equal(mine["rois"], theirs["rois"])
        np.testing.assert_array_equal(mine["masks"], theirs["masks"])
    pillar = other.keras_model.get_layer("ROI").output
    values = other.run_graph(images, [("kept", other.ancestor(pillar, "ROI/refined_anchors"))])
    assert values["kept"].shape[0] == 2
    other.keras_model.save_weights(tmp_path / "weights.h5")
    report = model.load_weights(tmp_path / "weights.h5")
    assert not report.missing and not report.unexpected


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_importing_the_originals_module_is_enough_to_load(detector, suffix):
    path = detector[1] / f"whole.{suffix}"
    command = (
        "import keras, mrcnn.model, sys\n"
        "print(len(keras.models.load_model(sys.argv[1]).outputs), 'outputs')"
    )
    done = subprocess.run(
        [sys.executable, "-c", command, path], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "7 outputs" in done.stdout


def test_a_whole_h5_file_is_a_weight_file_too(detector, tmp_path):
    model, folder = detector
    other = modellib.MaskRCNN("inference", tiny_config(), tmp_path)
    report = other.load_weights(folder / "whole.h5", by_name=True)
    assert not report.missing and not report.unexpected
    assert_equal_weights(other.keras_model, model.keras_model)


@pytest.mark.parametrize("function", ["predict", "train", "test"])
def test_servers_for_keras_2_may_prepare_a_function(detector, function):
    model, _ = detector
    assert getattr(model.keras_model, f"_make_{function}_function")() is None


def test_a_file_that_is_there_is_not_overwritten_unless_asked(detector):
    model, folder = detector
    before = (folder / "whole.h5").read_bytes()
    with pytest.raises(ValueError, match=r"whole\.h5 exists, and overwrite is False"):
        model.keras_model.save(folder / "whole.h5", overwrite=False)
    assert (folder / "whole.h5").read_bytes() == before
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("name", ["w.weights.h5", "whole.keras"])
def test_other_formats_are_not_overwritten_unless_asked_either(tmp_path, name):
    image = keras.Input((2,))
    network = weights.Network(image, layers.Dense(3, name="dense")(image))
    save = network.save_weights if name.endswith(".weights.h5") else network.save
    save(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    with pytest.raises(ValueError, match="exists, and overwrite is False"):
        save(tmp_path / name, overwrite=False)
    assert (tmp_path / name).read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_weights_h5_file_that_keras_cannot_load_changes_nothing(tmp_path):
    """Keras assigns one layer after the other, and fails at the last."""
    image = keras.Input((2,))

    def network(units):
        x = layers.Dense(3, name="first")(image)
        return weights.Network(image, layers.Dense(units, name="second")(x))

    network(5).save_weights(tmp_path / "other.weights.h5")
    model = network(4)
    before = model.get_weights()
    with pytest.raises(ValueError, match="other.weights.h5 does not fit the model") as error:
        model.load_weights(tmp_path / "other.weights.h5")
    assert "\n" not in str(error.value)
    for mine, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, old)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model.load_weights(tmp_path / "other.weights.h5", skip_mismatch=True)
    assert any("could not be loaded" in str(warning.message) for warning in said)
    assert not np.array_equal(model.get_weights()[0], before[0])
    with pytest.raises(FileNotFoundError, match="none.weights.h5"):
        model.load_weights(tmp_path / "none.weights.h5")


def test_keras_itself_reads_what_is_written(tmp_path):
    image = keras.Input((2,))
    model = weights.Network(image, layers.Dense(3, name="dense")(image))
    model.save_weights(tmp_path / "w.weights.h5")
    plain = keras.Model(image, layers.Dense(3, name="dense")(image))
    plain.load_weights(tmp_path / "w.weights.h5")
    for mine, theirs in zip(plain.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_layers_that_take_a_config_are_saved_with_its_values(tmp_path):
    config = tiny_config(PRE_NMS_LIMIT=20, RPN_BBOX_STD_DEV=np.array([0.5, 0.5, 1.0, 1.0]))
    inputs = [keras.Input((30, 2)), keras.Input((30, 4)), keras.Input((30, 4))]
    outputs = modellib.ProposalLayer(6, 0.7, config=config, name="ROI")(inputs)
    model = keras.Model(inputs, outputs)
    model.save(tmp_path / "layer.keras")
    loaded = keras.models.load_model(tmp_path / "layer.keras")
    layer = loaded.get_layer("ROI")
    assert type(layer) is modellib.ProposalLayer
    assert (layer.pre_nms_limit, layer.bbox_std_dev) == (20, [0.5, 0.5, 1.0, 1.0])


class FrozenNorm(modellib.BatchNorm):
    """A user's own: never batch statistics, whatever it is told."""

    def call(self, inputs, training=None):
        return super().call(inputs, training=False)


def own_backbone(input_image, stage5=True, train_bn=None):
    *earlier, last = tiny_backbone(input_image, stage5, train_bn)
    return [*earlier, FrozenNorm(name="own_norm")(last, training=train_bn)]


@pytest.mark.parametrize("train_bn", [True, pytest.param(None, marks=pytest.mark.slow)])
def test_a_users_batch_norm_in_a_callable_backbone(tmp_path, monkeypatch, train_bn):
    run_eagerly(monkeypatch)
    settings = {"BACKBONE": staticmethod(own_backbone), "STEPS_PER_EPOCH": 1}
    model = build("training", tmp_path, TRAIN_BN=train_bn, **settings)
    before = weights_of(model.keras_model)
    model.train(DATA, None, 1e-4, 1, "all")
    after = weights_of(model.keras_model)
    moved = {path for path in before if (before[path] != after[path]).any()}
    assert "bn_conv1/moving_mean" in moved
    assert "own_norm/moving_mean" not in moved and "own_norm/gamma" in moved
    model.keras_model.save(tmp_path / "own.keras")
    with pytest.raises(TypeError, match="FrozenNorm"):
        keras.models.load_model(tmp_path / "own.keras")
    loaded = keras.models.load_model(
        tmp_path / "own.keras", custom_objects={"FrozenNorm": FrozenNorm}
    )
    assert type(loaded.get_layer("own_norm")) is FrozenNorm
    assert_equal_weights(loaded, model.keras_model)


# ---- Training --------------------------------------------------------------------------------


# Sums on several threads differ by up to 2e-5; a step moves weights by 7e-4, 4e-4 of it momentum.
AFTER_A_STEP = {"rtol": 1e-4, "atol": 5e-5}


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A training model after a step, and a batch; ROIs are always the same."""
    run_eagerly(monkeypatch)
    monkeypatch.setattr(keras.random, "uniform", lambda shape, seed: keras.ops.full(shape, 0.5))
    model = build("training", tmp_path, WEIGHT_DECAY=0.01, LOSS_WEIGHTS={"rpn_class_loss": 3.0})
    batch = list(BatchLoader(DATA, model.config)[0][0])
    model.set_trainable("4+", verbose=0)
    model.compile(1e-3, 0.9)
    model.keras_model.train_on_batch(batch)
    return model, batch


def test_a_training_model_trains_on_as_if_it_had_not_been_saved(trained, tmp_path):
    model, batch = trained
    model.keras_model.save(tmp_path / "whole.keras")
    loaded = keras.models.load_model(tmp_path / "whole.keras")
    assert type(loaded) is TrainingModel and loaded.compiled
    loaded.run_eagerly = True
    logs = []
    for network in (loaded, model.keras_model):
        network.reset_metrics()
        logs.append(network.train_on_batch(batch, return_dict=True))
    assert logs[0].keys() == logs[1].keys()
    for name in logs[0]:
        np.testing.assert_allclose(logs[0][name], logs[1][name], rtol=1e-4, err_msg=name)
    assert_equal_weights(loaded, model.keras_model, **AFTER_A_STEP)


def test_a_training_model_in_h5_keeps_all_but_momentum(trained, tmp_path):
    model, batch = trained
    # A nested model in which what trains does not come first.
    model.set_trainable("rpn_bbox_pred", verbose=0)
    model.compile(1e-3, 0.9)
    model.keras_model.save(tmp_path / "whole.h5")
    loaded = keras.models.load_model(tmp_path / "whole.h5")
    assert type(loaded) is TrainingModel and loaded.compiled
    assert_equal_weights(loaded, model.keras_model)
    assert loaded.loss_weights == {"rpn_class_loss": 3.0} and loaded.weight_decay == 0.01
    assert loaded.optimizer.get_config() == model.keras_model.optimizer.get_config()
    loaded.run_eagerly = True
    for network in (loaded, model.keras_model):
        network.train_on_batch(batch)
    assert_equal_weights(loaded, model.keras_model, **AFTER_A_STEP)


@pytest.mark.slow
def test_a_loaded_training_model_goes_on_in_stages(trained, tmp_path):
    model, _ = trained
    model.keras_model.save(tmp_path / "whole.keras")
    other = build("training", tmp_path, STEPS_PER_EPOCH=1)
    other.keras_model = keras.models.load_model(tmp_path / "whole.keras")
    history = other.train(DATA, DATA, 1e-4, 1, "heads").history
    assert np.isfinite(history["loss"] + history["val_loss"]).all()


# ---- ParallelModel ---------------------------------------------------------------------------


def test_a_parallel_model_around_the_training_model(tmp_path, monkeypatch):
    run_eagerly(monkeypatch)
    model = build("training", tmp_path, GPU_COUNT=2, IMAGES_PER_GPU=1, STEPS_PER_EPOCH=1)
    inner = model.keras_model
    model.keras_model = ParallelModel(inner, model.config.GPU_COUNT)
    history = model.train(DATA, DATA, 1e-4, 1, "heads").history
    parts = sum(history[name][0] for name in inner.loss_means)
    assert history["loss"][0] > parts > 0
    assert model.keras_model.optimizer is inner.optimizer

    single = build("training", tmp_path, IMAGES_PER_GPU=1)
    report = single.load_weights(model.find_last())
    assert not report.missing and not report.unexpected
    assert_equal_weights(single.keras_model, inner)

    model.keras_model.save(tmp_path / "whole.keras")
    loaded = keras.models.load_model(tmp_path / "whole.keras")
    assert type(loaded) is TrainingModel
    assert_equal_weights(loaded, inner)
    model.keras_model.save_weights(str(tmp_path / "weights.h5"))
    inner.get_layer("mrcnn_class_logits").kernel.assign_add(
        layers.Dense(1).kernel_initializer((32, 4))
    )
    model.load_weights(tmp_path / "weights.h5", by_name=True)
    assert_equal_weights(inner, loaded)
