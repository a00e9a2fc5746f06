"""MaskRCNN from end to end: training in stages, run folders, resuming, errors, weight files."""

import re
from pathlib import Path

import imgaug.augmenters as iaa
import keras
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from mrcnn.config import LOSS_NAMES
from mrcnn.data.dataset import Dataset
from mrcnn.mask_rcnn import MaskRCNN, log
from mrcnn.training.callbacks import StepLog
from tests.tiny import (
    Rectangles,
    TinyConfig,
    propose_anchors,
    random_rectangles,
    run_eagerly,
    tiny_config,
    weights_of,
)

TRAIN = random_rectangles(6, seed=1)
VAL = random_rectangles(3, seed=2)


@pytest.fixture
def eager(monkeypatch):
    run_eagerly(monkeypatch)


def training_model(folder, seed=0, **settings):
    keras.utils.set_random_seed(seed)
    model = MaskRCNN("training", tiny_config(**settings), folder)
    propose_anchors(model.keras_model)
    return model


class Recorder(keras.callbacks.Callback):
    """The epochs that a callback sees, and the names of their logs."""

    def __init__(self):
        super().__init__()
        self.epochs = []

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append((epoch, sorted(logs)))


class Seen(Rectangles):
    """Remembers which images were loaded."""

    def __init__(self, content):
        super().__init__(content)
        self.ids = set()

    def load_image(self, image_id):
        self.ids.add(image_id)
        return super().load_image(image_id)


# ---- Training in stages ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """Three calls of train(): the model, its Histories and what a callback saw."""
    with pytest.MonkeyPatch.context() as patch:
        run_eagerly(patch)
        # Without L2 the loss must be the sum of the five, whatever trains.
        model = training_model(tmp_path_factory.mktemp("logs"), WEIGHT_DECAY=0.0)
        recorder = Recorder()
        histories = [
            model.train(TRAIN, VAL, 1e-4, epochs, layers, custom_callbacks=[recorder])
            for layers, epochs in (("heads", 1), ("4+", 3), ("all", 4))
        ]
    return model, histories, recorder


def test_three_calls_of_train_keep_the_loss_equal_to_the_sum_of_its_parts(stages):
    _, histories, _ = stages
    for history in histories:
        for prefix in ("", "val_"):
            loss = np.array(history.history[f"{prefix}loss"])
            parts = sum(np.array(history.history[prefix + name]) for name in LOSS_NAMES)
            np.testing.assert_allclose(loss, parts, rtol=1e-5)


def test_history_names_the_losses_and_counts_epochs_in_total(stages):
    model, histories, recorder = stages
    names = {"loss", *LOSS_NAMES}
    for history in histories:
        assert set(history.history) == names | {f"val_{name}" for name in names}
    assert [history.epoch for history in histories] == [[0], [1, 2], [3]]
    assert model.epoch == 4
    assert [epoch for epoch, _ in recorder.epochs] == [0, 1, 2, 3]
    assert set(recorder.epochs[0][1]) == set(histories[0].history)


def test_a_run_has_a_folder_with_a_checkpoint_an_epoch(stages):
    model, _, _ = stages
    folder = Path(model.log_dir)
    assert folder.parent == Path(model.model_dir)
    assert re.fullmatch(r"tiny\d{8}T\d{4}", folder.name)
    files = sorted(path.name for path in folder.glob("*.h5"))
    assert files == [f"mask_rcnn_tiny_{epoch:04d}.h5" for epoch in (1, 2, 3, 4)]
    assert model.find_last() == str(folder / files[-1])
    assert model.checkpoint_path.format(epoch=4) == str(folder / files[-1])


def test_tensorboard_shows_the_losses_of_every_epoch(stages):
    model, histories, _ = stages
    for part, prefix in (("train", ""), ("validation", "val_")):
        events = EventAccumulator(str(Path(model.log_dir) / part), size_guidance={"tensors": 0})
        events.Reload()
        for name in ("loss", *LOSS_NAMES):
            shown = events.Tensors(f"epoch_{name}")
            assert [event.step for event in shown] == [0, 1, 2, 3]
            values = [float(make_ndarray(event.tensor_proto)) for event in shown]
            wanted = [v for history in histories for v in history.history[prefix + name]]
            np.testing.assert_allclose(values, wanted, rtol=1e-6)


def test_the_last_checkpoint_holds_the_weights(stages):
    model, _, _ = stages
    other = MaskRCNN("training", tiny_config(), model.model_dir)
    other.load_weights(model.find_last())
    mine, theirs = weights_of(other.keras_model), weights_of(model.keras_model)
    for path in theirs:
        np.testing.assert_array_equal(mine[path], theirs[path], err_msg=path)
    assert (other.epoch, other.log_dir) == (4, model.log_dir)


def test_nothing_to_do_says_so(stages, caplog):
    model, _, _ = stages
    before = weights_of(model.keras_model)
    history = model.train(TRAIN, VAL, 1e-4, 4, "all")
    assert "nothing is left to train; epochs is the total and 4 are done" in caplog.text
    assert history.epoch == [] and model.epoch == 4
    for path, weight in weights_of(model.keras_model).items():
        np.testing.assert_array_equal(weight, before[path])


# ---- Resuming ----------------------------------------------------------------------------------


@pytest.mark.parametrize("train_bn", [False, pytest.param(None, marks=pytest.mark.slow)])
def test_two_epochs_equal_one_and_another_resumed(tmp_path, eager, train_bn):
    settings = {"TRAIN_BN": train_bn, "WEIGHT_DECAY": 0.01, "STEPS_PER_EPOCH": 1}
    whole = training_model(tmp_path / "whole", **settings)
    whole.train(TRAIN, None, 1e-4, 2, "all", augmentation=iaa.Fliplr(0.5))

    first = training_model(tmp_path / "parts", **settings)
    first.train(TRAIN, None, 1e-4, 1, "all", augmentation=iaa.Fliplr(0.5))
    second = training_model(tmp_path / "parts", seed=99, **settings)
    second.load_weights(second.find_last())
    assert (second.epoch, second.log_dir) == (1, first.log_dir)
    history = second.train(TRAIN, None, 1e-4, 2, "all", augmentation=iaa.Fliplr(0.5))

    assert history.epoch == [1] and second.epoch == 2
    assert int(second.keras_model.optimizer.iterations) == 2 * whole.config.STEPS_PER_EPOCH
    assert sorted(path.name for path in Path(first.log_dir).glob("*.h5")) == [
        "mask_rcnn_tiny_0001.h5",
        "mask_rcnn_tiny_0002.h5",
    ]
    wanted = weights_of(whole.keras_model)
    for path, weight in weights_of(second.keras_model).items():
        np.testing.assert_allclose(weight, wanted[path], rtol=1e-5, atol=1e-5, err_msg=path)
    optimizers = [model.keras_model.optimizer for model in (second, whole)]
    for mine, theirs in zip(*(o.variables for o in optimizers), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-5, err_msg=theirs.path)


@pytest.mark.slow
def test_momentum_starts_afresh_with_a_warning_where_other_layers_train(tmp_path, eager, caplog):
    first = training_model(tmp_path, STEPS_PER_EPOCH=1, VALIDATION_STEPS=0)
    first.train(TRAIN, None, 1e-4, 1, "heads")
    second = training_model(tmp_path, STEPS_PER_EPOCH=1, VALIDATION_STEPS=0)
    second.load_weights(first.find_last())
    second.train(TRAIN, None, 1e-4, 2, "all")
    assert "The optimizer starts afresh" in caplog.text
    assert int(second.keras_model.optimizer.iterations) == 1
    caplog.clear()
    second.train(TRAIN, None, 1e-4, 3, "heads")
    assert "starts afresh" not in caplog.text


class EndWith(keras.callbacks.Callback):
    """Ends the second epoch in one of the ways in which trainings end."""

    def __init__(self, end, when):
        super().__init__()
        setattr(self, when, self.act)
        self.end, self.epoch = end, None

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def act(self, *args, **kwargs):
        if self.epoch != 1:
            return
        if self.end is None:
            self.model.stop_training = True
        else:
            raise self.end("enough")


@pytest.mark.parametrize(
    ("end", "when", "done"),
    [
        (KeyboardInterrupt, "on_train_batch_begin", 1),
        pytest.param(KeyboardInterrupt, "on_test_batch_end", 1, marks=pytest.mark.slow),
        pytest.param(RuntimeError, "on_train_batch_end", 1, marks=pytest.mark.slow),
        # The checkpoint is written by then.
        pytest.param(RuntimeError, "on_epoch_end", 2, marks=pytest.mark.slow),
        pytest.param(None, "on_epoch_end", 2, marks=pytest.mark.slow),
    ],
)
def test_epoch_counts_what_was_done_whatever_ended_the_training(tmp_path, eager, end, when, done):
    model = training_model(tmp_path, STEPS_PER_EPOCH=1)
    arguments = (TRAIN, VAL, 1e-4, 3, "heads")
    if end is None:
        model.train(*arguments, custom_callbacks=[EndWith(end, when)])
    else:
        with pytest.raises(end):
            model.train(*arguments, custom_callbacks=[EndWith(end, when)])
    assert model.epoch == done
    assert model.find_last().endswith(f"mask_rcnn_tiny_{done:04d}.h5")
    history = model.train(*arguments)
    assert history.epoch == list(range(done, 3)) and model.epoch == 3


@pytest.mark.slow
def test_only_the_last_checkpoints_are_kept_where_the_config_says_so(tmp_path, eager):
    model = training_model(tmp_path, STEPS_PER_EPOCH=1, VALIDATION_STEPS=0, KEEP_CHECKPOINTS=2)
    model.train(TRAIN, None, 1e-4, 3, "heads")
    assert sorted(path.name[-7:] for path in Path(model.log_dir).glob("*.h5")) == [
        "0002.h5",
        "0003.h5",
    ]


@pytest.mark.slow
def test_two_models_built_in_one_minute_train_in_folders_of_their_own(tmp_path, eager):
    models = [training_model(tmp_path, seed, STEPS_PER_EPOCH=1) for seed in (0, 1)]
    for model in models:
        model.train(TRAIN, None, 1e-4, 1, "heads")
    for model in models:
        read = MaskRCNN("inference", TinyConfig(), tmp_path)
        read.load_weights(model.checkpoint_path.format(epoch=1))
        assert read.log_dir == model.log_dir
        trained = weights_of(model.keras_model)
        for path, weight in weights_of(read.keras_model).items():
            np.testing.assert_array_equal(weight, trained[path], err_msg=path)


def test_callbacks_follow_a_run_whose_folder_another_process_took(tmp_path, eager):
    model = training_model(tmp_path, STEPS_PER_EPOCH=1)
    log = StepLog(model.log_dir)
    (Path(model.log_dir) / "train").mkdir(parents=True)
    model.train(TRAIN, None, 1e-4, 1, "heads", custom_callbacks=[log])
    assert model.log_dir.endswith("_2") and log.log_dir == model.log_dir
    assert model.find_last() == model.checkpoint_path.format(epoch=1)


def test_a_run_has_its_config_beside_the_checkpoints(stages):
    model, _, _ = stages
    read = TinyConfig.from_json(Path(model.find_last()).with_name("config.json"))
    assert read.WEIGHT_DECAY == 0 and read.BACKBONE is TinyConfig.BACKBONE


# ---- What train() takes ------------------------------------------------------------------------


@pytest.fixture
def quick(tmp_path, eager):
    """A model of one step an epoch."""
    return training_model(tmp_path, STEPS_PER_EPOCH=1)


def test_train_without_a_validation_set(quick):
    history = quick.train(TRAIN, None, 1e-4, 1, "heads").history
    assert set(history) == {"loss", *LOSS_NAMES}
    assert not (Path(quick.log_dir) / "validation").exists()


def test_train_with_augmentation_but_for_some_sources(tmp_path, eager):
    class Inked(iaa.Fliplr):
        """Counts the images it is given."""

        seen = 0

        def _augment_batch_(self, batch, *args, **kwargs):
            Inked.seen += 1
            return super()._augment_batch_(batch, *args, **kwargs)

    model = training_model(tmp_path, STEPS_PER_EPOCH=1, VALIDATION_STEPS=0)
    inked = Inked(0.5)
    model.train(TRAIN, None, 1e-4, 1, "heads", augmentation=inked, no_augmentation_sources=["tiny"])
    assert Inked.seen == 0
    model.train(
        TRAIN, None, 1e-4, 2, "heads", augmentation=inked, no_augmentation_sources=["other"]
    )
    assert Inked.seen > 0


def test_train_with_two_gpus_worth_of_images(tmp_path, eager):
    model = training_model(tmp_path, GPU_COUNT=2, STEPS_PER_EPOCH=1)
    dataset = Seen(random_rectangles(20).content)
    history = model.train(TRAIN, dataset, 1e-4, 1, "heads").history
    assert len(dataset.ids) == 4 and np.isfinite(history["loss"]).all()


def test_a_dataset_class_of_a_function_or_notebook_works(quick):
    class Local(Rectangles):
        """Cannot be pickled, as little as one defined in a notebook."""

        def load_image(self, image_id):
            return super().load_image(image_id)

    Local.__module__ = "__main__"
    history = quick.train(Local(TRAIN.content), Local(VAL.content), 1e-4, 1, "heads").history
    assert np.isfinite(history["val_loss"]).all()


@pytest.mark.slow
def test_validation_sees_the_same_images_every_epoch(tmp_path, eager):
    model = training_model(tmp_path, STEPS_PER_EPOCH=1)
    dataset = Seen(random_rectangles(20).content)
    model.train(TRAIN, dataset, 1e-4, 2, "heads")
    # Two of the twenty, whichever the seed says: a third would be another epoch's.
    assert len(dataset.ids) == 2


def test_loss_weights_are_named_and_applied_in_history(tmp_path, eager):
    weights = {"mrcnn_mask_loss": 0.0, "rpn_class_loss": 5.0}
    model = training_model(
        tmp_path, STEPS_PER_EPOCH=1, VALIDATION_STEPS=0, LOSS_WEIGHTS=weights, WEIGHT_DECAY=0.0
    )
    history = model.train(TRAIN, None, 1e-4, 1, "heads").history
    assert history["mrcnn_mask_loss"] == [0.0]
    total = sum(history[name][0] for name in LOSS_NAMES)
    assert history["loss"][0] == pytest.approx(total, rel=1e-5)


def test_compile_and_train_on_batch_by_hand(tmp_path, eager):
    from mrcnn.data.loader import data_generator

    model = training_model(tmp_path)
    model.set_trainable("heads")
    model.compile(1e-3, 0.9)
    inputs, _ = next(data_generator(TRAIN, model.config, batch_size=2))
    logs = model.keras_model.train_on_batch(inputs, return_dict=True)
    assert set(logs) == {"loss", *LOSS_NAMES}
    assert float(model.keras_model.optimizer.learning_rate) == pytest.approx(1e-3)


# ---- Errors ------------------------------------------------------------------------------------


class Unreadable(Rectangles):
    def load_image(self, image_id):
        raise OSError(f"file {image_id} is damaged")


@pytest.mark.parametrize("part", ["train", "validation"])
def test_a_bad_dataset_ends_train_with_the_list_of_its_images(quick, part):
    bad = Unreadable(random_rectangles(8).content)
    datasets = (bad, VAL) if part == "train" else (TRAIN, bad)
    with pytest.raises(ValueError, match="images tried cannot be trained on") as caught:
        quick.train(*datasets, 1e-4, 1, "heads")
    assert re.search(r"image \d \(tiny \d\): OSError: file \d is damaged", str(caught.value))


def test_a_mistake_in_the_dataset_ends_train_with_its_traceback(quick):
    class Mistaken(Rectangles):
        def load_mask(self, image_id):
            return self.no_such_attribute

    with pytest.raises(ValueError, match="AttributeError: .*no_such_attribute") as caught:
        quick.train(Mistaken(TRAIN.content), VAL, 1e-4, 1, "heads")
    assert "return self.no_such_attribute" in str(caught.value)


def test_a_mistake_in_a_callback_reaches_the_caller_as_it_is(quick):
    class Mistaken(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise RuntimeError("my own mistake")

    with pytest.raises(RuntimeError, match="my own mistake"):
        quick.train(TRAIN, VAL, 1e-4, 1, "heads", custom_callbacks=[Mistaken()])


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"layers": "head"}, "layers is 'head', which matches no layer"),
        ({"train_dataset": Dataset()}, "is not prepared; call prepare|has no images"),
        ({"augmentation": "flip"}, "augmentation|augmenter"),
    ],
    ids=["layers", "dataset", "augmentation"],
)
def test_arguments_that_cannot_work_are_named(quick, arguments, error):
    usual = {"train_dataset": TRAIN, "val_dataset": VAL, "learning_rate": 1e-4, "epochs": 1}
    with pytest.raises(ValueError, match=error):
        quick.train(**{**usual, "layers": "heads", **arguments})


def test_a_dataset_of_other_classes_is_an_error(tmp_path):
    model = MaskRCNN("training", tiny_config(NUM_CLASSES=3), tmp_path)
    with pytest.raises(ValueError, match="has 4 classes.* NUM_CLASSES is 3"):
        model.train(TRAIN, VAL, 1e-4, 1, "heads")


def test_train_without_rpn_rois_says_what_to_use(tmp_path):
    model = MaskRCNN("training", tiny_config(USE_RPN_ROIS=False), tmp_path)
    with pytest.raises(ValueError, match=r"USE_RPN_ROIS.*data_generator\(.*random_rois"):
        model.train(TRAIN, VAL, 1e-4, 1, "heads")


@pytest.mark.parametrize("mode", ["train", "Inference", "", None])
def test_another_mode_is_an_error(tmp_path, mode):
    with pytest.raises(ValueError, match=f"mode is {mode!r}; it must be one of training, infer"):
        MaskRCNN(mode, TinyConfig(), tmp_path)


def test_training_methods_of_an_inference_model_are_errors(tmp_path):
    model = MaskRCNN("inference", TinyConfig(), tmp_path)
    with pytest.raises(ValueError, match=r"train was called on a model in 'inference' mode"):
        model.train(TRAIN, VAL, 1e-4, 1, "heads")
    with pytest.raises(ValueError, match=r"compile was called .* MaskRCNN\(mode='training'"):
        model.compile(1e-3, 0.9)


def test_inference_methods_of_a_training_model_are_errors(tmp_path):
    model = MaskRCNN("training", TinyConfig(), tmp_path)
    image = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(ValueError, match="detect was called on a model in 'training' mode"):
        model.detect([image])
    with pytest.raises(ValueError, match="detect_molded was called"):
        model.detect_molded([image], np.zeros((1, 16)))


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"NUM_CLASSES": 1}, "NUM_CLASSES is 1; .* 1 \\+ 1"),
        ({"IMAGE_MAX_DIM": 100}, "IMAGE_MAX_DIM is 100 .* 64 or 128"),
        ({"RPN_ANCHOR_SCALES": ()}, "RPN_ANCHOR_SCALES"),
        ({"IMAGES_PER_GPU": "2"}, "IMAGES_PER_GPU is '2'"),
    ],
    ids=str,
)
def test_a_config_that_cannot_work_is_refused_before_a_graph_is_built(
    tmp_path, monkeypatch, settings, error
):
    def build(*args, **kwargs):
        raise AssertionError("a graph was built")

    monkeypatch.setattr(MaskRCNN, "build", build)
    with pytest.raises(ValueError, match=error):
        MaskRCNN("training", tiny_config(**settings), tmp_path)


def test_the_config_class_in_place_of_an_instance_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"config is the class TinyConfig; .*: TinyConfig\(\)"):
        MaskRCNN("training", TinyConfig, tmp_path)


# ---- Weight files ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def inference(tmp_path_factory):
    keras.utils.set_random_seed(5)
    return MaskRCNN("inference", TinyConfig(), tmp_path_factory.mktemp("logs"))


@pytest.mark.parametrize("by_name", [True, False])
def test_weights_of_training_load_into_inference(stages, inference, by_name):
    trained, _, _ = stages
    report = inference.load_weights(trained.find_last(), by_name=by_name)
    assert not report.missing and not report.unexpected
    mine, theirs = weights_of(inference.keras_model), weights_of(trained.keras_model)
    assert mine.keys() == theirs.keys()
    for path in theirs:
        np.testing.assert_array_equal(mine[path], theirs[path], err_msg=path)
    assert inference.epoch == 4 and Path(inference.log_dir).name == Path(trained.log_dir).name


def test_excluded_layers_keep_their_weights(stages, inference):
    trained, _, _ = stages
    for weight in inference.keras_model.get_layer("mrcnn_class_logits").weights:
        weight.assign(np.full(weight.shape, 7.0))
    report = inference.load_weights(trained.find_last(), exclude=["mrcnn_class_logits"])
    assert report.excluded == ["mrcnn_class_logits"]
    for weight in inference.keras_model.get_layer("mrcnn_class_logits").weights:
        assert (weight.numpy() == 7.0).all()


def test_files_that_are_no_weights_are_errors_and_change_nothing(stages, inference, tmp_path):
    whole = Path(stages[0].find_last()).read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.h5").write_text("not found")
    before, log_dir = weights_of(inference.keras_model), inference.log_dir
    for name, error, message in (
        ("cut.h5", ValueError, "cut.h5 is damaged"),
        ("text.h5", ValueError, "text.h5 is no HDF5"),
        ("gone.h5", FileNotFoundError, "no weight file .*gone.h5"),
    ):
        with pytest.raises(error, match=message):
            inference.load_weights(tmp_path / name, by_name=True)
    assert inference.log_dir == log_dir
    for path, weight in weights_of(inference.keras_model).items():
        np.testing.assert_array_equal(weight, before[path])


# ---- Words -------------------------------------------------------------------------------------


def test_set_trainable_says_what_trains(tmp_path, capsys):
    model = MaskRCNN("training", TinyConfig(), tmp_path)
    model.set_trainable("rpn_class_raw|conv1", indent=2)
    printed = capsys.readouterr().out
    assert printed.startswith("  Training 2 layers: ")
    assert "rpn_class_raw" in printed and "conv1" in printed
    model.set_trainable("all", verbose=0)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "array",
    [np.zeros((2, 3), bool), np.arange(4), np.zeros((0, 4)), np.float32([1.5, np.nan])],
    ids=lambda array: str(array.dtype),
)
def test_log_describes_any_array(capsys, array):
    log("boxes", array)
    printed = capsys.readouterr().out
    assert printed.startswith("boxes") and f"shape: {array.shape}" in printed
    assert str(array.dtype) in printed


def test_summary_of_the_keras_models(stages, inference, capsys):
    for model in (stages[0], inference):
        model.keras_model.summary()
        assert "mrcnn_class_logits" in capsys.readouterr().out


def test_a_new_run_needs_no_folder_until_it_trains(tmp_path):
    model = MaskRCNN("training", TinyConfig(), tmp_path / "logs")
    assert not (tmp_path / "logs").exists()
    with pytest.raises(FileNotFoundError, match="no checkpoint of a run named 'tiny'"):
        model.find_last()


def test_weights_of_another_file_do_not_change_the_name_of_the_run(tmp_path):
    """The folder planned before and the one planned after loading were once two."""
    first = MaskRCNN("training", tiny_config(), tmp_path)
    path = tmp_path / "own.h5"
    first.keras_model.save_weights(path)
    second = MaskRCNN("training", tiny_config(), tmp_path)
    before = second.log_dir
    second.load_weights(path, by_name=True)
    minutes = {Path(folder).name.split("_")[0] for folder in (before, second.log_dir)}
    # In another minute, the name has that minute.
    assert second.log_dir == before or len(minutes) == 2
    assert second.log_dir != first.log_dir
