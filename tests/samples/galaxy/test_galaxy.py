"""samples/galaxy/galaxy.py: splits, what trains, every command from end to end."""

import dataclasses
import json
import os
from pathlib import Path

import keras
import numpy as np
import pandas
import PIL.Image
import pytest

from mrcnn import training
from mrcnn.config import LOSS_NAMES
from mrcnn.data.loader import BatchLoader
from mrcnn.training import event_files as logs
from mrcnn.training.callbacks import read_table as read_figures
from samples.galaxy import galaxy as g
from samples.galaxy import markings
from tests.samples.galaxy.tiny_galaxies import TINY, settings_of, write_config
from tests.tiny import run_eagerly, stand_in_checkpoint, weights_of

ROOT = Path(g.ROOT_DIR)
DEMO = ROOT / "configs" / "galaxy_demo.json"


@pytest.fixture
def data(tmp_path):
    """The path of a configuration whose made-up galaxies are there."""
    path = write_config(tmp_path)
    g.prepare_data(g.load_settings(path))
    return path


# ---- Data ----------------------------------------------------------------------------------------


def test_without_data_made_up_galaxies_are_drawn_and_said_to_be(tmp_path, capsys):
    settings = settings_of(tmp_path)
    g.prepare_data(settings)
    assert "There are no data in" in capsys.readouterr().out
    assert len(g.object_ids(settings)) == 10
    before = os.stat(settings.data_table).st_mtime_ns
    g.prepare_data(settings)
    assert "are made up" in capsys.readouterr().out
    assert os.stat(settings.data_table).st_mtime_ns == before


def test_prepare_makes_masks_of_markings_and_overlays(tmp_path, capsys):
    made_up = {"count": 5, "size": 96, "volunteers": 7, "seed": 3}
    path = write_config(tmp_path, made_up=made_up, min_votes=3, min_area=20)
    g.main(["prepare", "--config", str(path), "--overlays", "3"])
    printed = capsys.readouterr().out
    assert "MADE-UP" in printed and "5 objects agree with their masks; 3 overlays" in printed
    assert len(list((tmp_path / "data" / "overlays").iterdir())) == 3
    settings = g.load_settings(path)
    first = pandas.read_parquet(settings.data_table)
    # Fewer votes mark more: the markings are taken again, and the table is written anew.
    fewer = write_config(tmp_path, made_up=made_up, min_votes=1, min_area=1)
    g.main(["prepare", "--config", str(fewer)])
    assert len(pandas.read_parquet(settings.data_table)) > len(first)


def test_pictures_or_markings_without_a_table_are_no_reason_to_make_galaxies_up(tmp_path):
    settings = settings_of(tmp_path)
    (tmp_path / "data" / "pngs").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="mask_labels.gzip does not exist, and .* pictures"):
        g.prepare_data(settings)
    (tmp_path / "data" / "markings.jsonl").write_text("{}")
    with pytest.raises(FileNotFoundError, match="galaxy.py prepare makes it from .*markings.jsonl"):
        g.prepare_data(settings)


@pytest.mark.parametrize("command", ["prepare", "train", "evaluate", "predict"])
@pytest.mark.parametrize("mistyped", ["both", "data_table", "image_dir"])
def test_nothing_is_drawn_that_nobody_asked_for(data, tmp_path, command, mistyped):
    other = {
        "data_table": str(tmp_path / "dta" / "mask_labels.gzip"),
        "image_dir": str(tmp_path / "dta"),
    }
    changes = other if mistyped == "both" else {mistyped: other[mistyped]}
    path = write_config(tmp_path, made_up=None, **changes)
    with pytest.raises((FileNotFoundError, ValueError)) as error:
        g.main([command, "--config", str(path)])
    if mistyped != "image_dir":
        assert "dta/mask_labels.gzip does not exist" in str(error.value)
    if mistyped == "both":
        assert 'give the key "made_up"' in str(error.value)
    assert not (tmp_path / "dta").exists() and not (tmp_path / "logs").exists()


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_what_needs_a_trained_model_draws_no_galaxies(tmp_path, command):
    path = write_config(tmp_path)
    with pytest.raises(FileNotFoundError, match='"made_up" asks .* prepare or train draws them'):
        g.main([command, "--config", str(path)])
    assert not (tmp_path / "data").exists()


def test_a_table_is_made_under_its_own_name_and_for_its_own_classes(tmp_path):
    with pytest.raises(ValueError, match="data_table is .*other.gzip, and the table made"):
        g.make_up(settings_of(tmp_path, data_table=str(tmp_path / "other.gzip")))
    with pytest.raises(ValueError, match="class_names is .*arm"):
        g.make_up(settings_of(tmp_path, class_names=["arm", "bar"], one_instance_classes=[]))


def test_bands_choose_channels(tmp_path, data):
    settings = g.load_settings(data)
    ids = g.object_ids(settings)[:1]
    whole = g.load_dataset(settings, ids).load_image(0)
    settings.bands = [2, 0]
    np.testing.assert_array_equal(g.load_dataset(settings, ids).load_image(0), whole[..., [2, 0]])
    settings.bands = [3]
    with pytest.raises(ValueError, match=r"bands is \[3\], and .* has 3 channels"):
        g.load_dataset(settings, ids).load_image(0)


def split_sizes(settings, fold=0):
    parts = g.split_objects(settings, fold)
    assert sorted(sum(parts.values(), [])) == sorted(g.object_ids(settings))
    return [len(parts[name]) for name in g.SPLITS]


def test_splits_are_random_shares_of_all_objects(data):
    settings = g.load_settings(data)
    assert split_sizes(settings) == [8, 2, 0]
    settings.test_split, settings.validation_split = 0.3, 0.4
    assert split_sizes(settings) == [3, 4, 3]
    before = g.split_objects(settings)
    assert g.split_objects(settings) == before
    settings.seed = 1
    assert g.split_objects(settings) != before
    settings.validation_split = settings.test_split = 0.0
    assert split_sizes(settings) == [10, 0, 0]


def test_folds_are_validated_on_in_turn_and_the_test_is_no_part_of_them(data):
    settings = g.load_settings(data)
    settings.k_folds, settings.test_split = 3, 0.1
    assert g.folds_of(settings) == [1, 2, 3] and g.folds_of(settings, 2) == [2]
    parts = [g.split_objects(settings, fold) for fold in (1, 2, 3)]
    assert [split_sizes(settings, fold) for fold in (1, 2, 3)] == [[6, 3, 1]] * 3
    assert len({tuple(part["test"]) for part in parts}) == 1
    validated = sum((part["validation"] for part in parts), [])
    assert sorted(validated + parts[0]["test"]) == sorted(g.object_ids(settings))
    with pytest.raises(ValueError, match="--fold is 4, and k_folds is 3"):
        g.folds_of(settings, 4)
    settings.k_folds = 20
    with pytest.raises(ValueError, match="k_folds is 20, and there are 9 objects"):
        g.split_objects(settings, 1)
    settings.k_folds = 1
    assert g.folds_of(settings) == [0]


def test_too_few_objects_for_a_split_are_an_error(data):
    settings = g.load_settings(data)
    settings.test_split = 0.01
    with pytest.raises(ValueError, match="10 objects, too few .* change test_split"):
        g.split_objects(settings)


# ---- Bad input, through the command line ---------------------------------------------------------


def first_marked(settings):
    frame = pandas.read_parquet(settings.data_table)
    return frame, frame["object_id"][frame["labels"] > 0].iloc[0]


def test_a_missing_column_is_named(data):
    settings = g.load_settings(data)
    frame, _ = first_marked(settings)
    frame.drop(columns="labels").to_parquet(settings.data_table)
    with pytest.raises(ValueError, match="mask_labels.gzip has no column labels"):
        g.main(["train", "--config", str(data)])


def test_a_mask_of_the_wrong_mode_is_named(data):
    settings = g.load_settings(data)
    _, object_id = first_marked(settings)
    path = Path(settings.image_dir, "masks", f"{object_id}_mask.png")
    PIL.Image.fromarray(np.repeat(read_png(path)[..., None], 3, axis=-1)).save(path)
    with pytest.raises(ValueError, match=f"object {object_id} has a mask of the mode RGB"):
        g.main(["prepare", "--config", str(data)])


def test_more_grey_values_than_rows_are_named(data):
    settings = g.load_settings(data)
    _, object_id = first_marked(settings)
    path = Path(settings.image_dir, "masks", f"{object_id}_mask.png")
    pixels = read_png(path)
    pixels[0, 0] = 99
    PIL.Image.fromarray(pixels).save(path)
    with pytest.raises(ValueError, match=f"object {object_id} has . grey values other than 0"):
        g.main(["prepare", "--config", str(data)])


def test_a_checkpoint_that_is_not_there_is_named(tmp_path):
    path = write_config(tmp_path, pretrained_ckpt="zoobot.ckpt")
    with pytest.raises(FileNotFoundError, match="pretrained_ckpt zoobot.ckpt does not exist"):
        g.main(["train", "--config", str(path)])
    assert not (tmp_path / "data").exists()  # nothing was drawn before that was looked at


def test_a_checkpoint_of_another_architecture_is_named(tmp_path):
    from safetensors.numpy import save_file

    checkpoint = tmp_path / "resnet.safetensors"
    kernels = {
        "conv1.weight": np.zeros((64, 3, 7, 7), np.float32),
        "layer1.0.conv1.weight": np.zeros((64, 64, 1, 1), np.float32),
    }
    save_file(kernels, checkpoint)
    path = write_config(tmp_path, pretrained_ckpt=str(checkpoint))
    with pytest.raises(ValueError, match=r"resnet.safetensors .*(BACKBONE|fit)"):
        g.main(["train", "--config", str(path)])


def test_no_final_checkpoint_is_an_error(data):
    with pytest.raises(FileNotFoundError, match="no checkpoint of a run named 'galaxy'"):
        g.main(["evaluate", "--config", str(data)])
    with pytest.raises(ValueError, match="no objects to evaluate: test_split is 0"):
        g.main(["evaluate", "--config", str(data), "--split", "test"])


# ---- What trains ---------------------------------------------------------------------------------

# Weights and biases of torchvision's ResNet50 by block, statistics not counted.
LAYER4, LAYER3, LAYER2, LAYER1, CONV1 = 14_964_736, 7_098_368, 1_219_584, 215_808, 9_536


def heads_of(classes):
    """Weights of FPN, RPN and heads, layer by layer."""
    fpn = sum(256 * c + 256 for c in (256, 512, 1024, 2048)) + 4 * (9 * 256 * 256 + 256)
    rpn = 9 * 256 * 512 + 512 + (512 * 6 + 6) + (512 * 12 + 12)
    box = (49 * 256 * 1024 + 1024) + (1024 * 1024 + 1024) + 2 * 2 * 1024
    box += (1024 * classes + classes) + (1024 * 4 * classes + 4 * classes)
    mask = 4 * (9 * 256 * 256 + 256 + 2 * 256) + (4 * 256 * 256 + 256) + (256 * classes + classes)
    return fpn + rpn + box + mask


@pytest.fixture(scope="module")
def zoobot_model():
    """The network of the configuration in use, on small pictures."""
    settings = g.load_settings(g.DEFAULT_CONFIG)
    settings.settings = {"IMAGE_MIN_DIM": 64, "IMAGE_MAX_DIM": 64}
    return training.build_training_model(g.build_config(settings))


@pytest.mark.parametrize("trainable", range(6))
def test_so_many_weights_train(zoobot_model, trainable):
    settings = g.Settings(trainable_layers=trainable)
    training.set_trainable(zoobot_model, g.trainable_layers(settings))
    blocks = [LAYER4, LAYER3, LAYER2, LAYER1, CONV1]
    count, total = g.count_weights(zoobot_model)
    assert total == sum(blocks) + heads_of(3)
    assert count == heads_of(3) + sum(blocks[:trainable])
    said = g.describe_trainable(zoobot_model, settings)
    assert f"{count:,} of {total:,} weights train" in said
    names = ["layer4", "layer3", "layer2", "layer1", "conv1"]
    frozen = ", ".join(names[trainable:]) or "nothing"
    assert f"heads train, {frozen} is frozen" in said
    trained = {weight.path.split("/")[-2] for weight in zoobot_model.trainable_weights}
    assert ("bn5c_branch2c" in trained) == (trainable >= 1)
    assert ("res2a_branch1" in trained) == (trainable >= 4)
    assert ("bn_conv1" in trained) == (trainable == 5)


@pytest.mark.parametrize("trainable", range(6))
def test_the_small_network_has_five_blocks_too(tmp_path, trainable):
    settings = settings_of(tmp_path, trainable_layers=trainable)
    model = training.build_training_model(g.build_config(settings))
    names = training.set_trainable(model, g.trainable_layers(settings))
    stages = {int(name[5]) for name in names if name.startswith("stage")}
    assert stages == set(range(6 - trainable, 6))


@pytest.mark.slow
def test_ten_steps_leave_frozen_weights_and_statistics_bit_equal(data):
    settings = g.load_settings(data)
    settings.backbone, settings.trainable_layers = "resnet50_v1_5", 2
    config = g.build_config(settings, 8)
    keras.utils.set_random_seed(0)
    model = training.build_training_model(config)
    training.set_trainable(model, g.trainable_layers(settings))
    training.compile_model(model, config, config.LEARNING_RATE, 0.9)
    loader = BatchLoader(g.load_dataset(settings, g.object_ids(settings)), config, steps=10)
    before = weights_of(model)
    for step in range(10):
        model.train_on_batch(list(loader[step][0]))
    after = weights_of(model)
    frozen = {path for path in before if is_frozen(path)}
    assert sum("moving_" in path for path in frozen) == 2 * (1 + 10 + 13)
    for path in before:
        if path in frozen:
            np.testing.assert_array_equal(after[path], before[path], err_msg=path)
    moved = {path for path in before if (after[path] != before[path]).any()}
    assert {path for path in before if "bn5c" in path or "bn4f" in path} <= moved


def is_frozen(path):
    return path.split("/")[-2].startswith(("conv1", "bn_conv1", "res2", "bn2", "res3", "bn3"))


def test_flips_go_both_ways():
    image = np.arange(12, dtype=np.uint8).reshape(3, 4, 1)
    seen = {g.flips().augment_image(image).tobytes() for _ in range(60)}
    wanted = [image, image[:, ::-1], image[::-1], image[::-1, ::-1]]
    assert seen == {np.ascontiguousarray(one).tobytes() for one in wanted}


def test_where_it_runs_is_said_once(capsys):
    g.say_where_it_runs.cache_clear()
    g.say_where_it_runs()
    g.say_where_it_runs()
    assert capsys.readouterr().out.count("Computing on") == 1


# ---- The final model -----------------------------------------------------------------------------


def test_the_final_model_is_the_one_that_is_named_else_the_best_else_the_last(tmp_path):
    settings = settings_of(tmp_path)
    run = tmp_path / "logs" / "galaxy20260101T0000"
    last = stand_in_checkpoint(run / "mask_rcnn_galaxy_0002.h5")
    assert g.final_checkpoint(settings) == last
    best = stand_in_checkpoint(run / "mask_rcnn_galaxy_best.h5")
    assert g.final_checkpoint(settings) == best
    settings.final_model_ckpt = last
    assert g.final_checkpoint(settings) == last
    settings.final_model_ckpt = "galaxy20260101T0000/mask_rcnn_galaxy_0002.h5"
    assert g.final_checkpoint(settings) == last
    settings.final_model_ckpt = "epoch_104.pth"
    with pytest.raises(FileNotFoundError, match="final_model_ckpt epoch_104.pth does not exist"):
        g.final_checkpoint(settings)
    settings.final_model_ckpt = None
    fold = stand_in_checkpoint(
        tmp_path / "logs" / "fold_2" / "galaxy20260101T0000" / "mask_rcnn_galaxy_0001.h5"
    )
    assert g.final_checkpoint(settings, 2) == fold


def test_what_to_resume_is_the_last_checkpoint_or_nothing_yet(tmp_path, capsys):
    settings = settings_of(tmp_path, k_folds=2)
    last = stand_in_checkpoint(
        tmp_path / "logs" / "fold_1" / "galaxy20260101T0000" / "mask_rcnn_galaxy_0007.h5"
    )
    assert g.last_checkpoint(settings, 1) == last and not capsys.readouterr().out
    assert g.last_checkpoint(settings, 2) is None
    assert "no checkpoint in" in capsys.readouterr().out


class Trained:
    """A model whose run has so many epochs behind it; training it again is an error."""

    def __init__(self, log_dir, epoch):
        self.log_dir, self.epoch = str(log_dir), epoch


def test_a_final_checkpoint_that_is_not_there_yet_ends_no_training(
    data, tmp_path, monkeypatch, capsys
):
    path = write_config(tmp_path, k_folds=3, final_model_ckpt="final.h5")
    folds = []

    def train(settings, fold, resume):
        run = tmp_path / f"run{fold}"
        run.mkdir()
        (run / "coco_ap.csv").write_text("epoch,segm_AP,segm_AP50\n1,0.2,0.4\n2,0.3,0.5\n")
        folds.append(fold)
        return Trained(run, 2)

    monkeypatch.setattr(g, "train", train)
    g.main(["train", "--config", str(path)])
    assert folds == [1, 2, 3]
    printed = capsys.readouterr().out
    best = tmp_path / "run3" / "mask_rcnn_galaxy_best.h5"
    assert f"Best epoch 2: segm AP 0.300, AP50 0.500: {best}" in printed


def test_a_finished_run_has_nothing_left_to_train(data, tmp_path, monkeypatch, capsys):
    import mrcnn.model

    class Model(Trained):
        def __init__(self, mode, config, model_dir):
            super().__init__(model_dir, 0)

        def load_weights(self, path):
            self.epoch = 2

    monkeypatch.setattr(mrcnn.model, "MaskRCNN", Model)
    stand_in_checkpoint(tmp_path / "logs" / "galaxy20260101T0000" / "mask_rcnn_galaxy_0002.h5")
    g.main(["train", "--config", str(data), "--resume"])
    assert (
        "Nothing is left to train: 2 epochs are done, and epochs is 2." in capsys.readouterr().out
    )


# ---- Prediction ----------------------------------------------------------------------------------


class Finds:
    """Detects the bright half of each picture, as a bar."""

    def detect(self, images):
        return [self._of(np.asarray(image)) for image in images]

    def _of(self, image):
        height, width = image.shape[:2]
        masks = np.zeros((height, width, 1), bool)
        masks[:, : width // 2] = True
        return {
            "rois": np.array([[0, 0, height, width // 2]]),
            "class_ids": np.array([2]),
            "scores": np.array([0.75], np.float32),
            "masks": masks,
        }


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """A folder of five pictures of several sizes and kinds, and a model that finds."""
    monkeypatch.setattr(g, "load_final", lambda *_: Finds())
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, mode in enumerate(("RGB", "L", "RGBA", "I;16", "RGB")):
        PIL.Image.new(mode, (20 + 10 * i, 40)).save(folder / f"J{i}.png")
    (folder / "notes.txt").write_text("no picture")
    return folder


def read_png(path):
    with PIL.Image.open(path) as picture:
        return np.array(picture)


@pytest.mark.parametrize("table", ["parquet", "csv"])
def test_predict_writes_pictures_masks_and_a_row_a_detection(tmp_path, pictures, table):
    out = tmp_path / "out"
    counts = g.predict(settings_of(tmp_path), str(pictures), str(out), table)
    assert counts == {"pictures": 5, "detections": 5, "unreadable": 0}
    read = {"parquet": pandas.read_parquet, "csv": pandas.read_csv}[table]
    frame = read(out / f"detections.{table}")
    assert frame["object_id"].tolist() == [f"J{i}" for i in range(5)]
    assert set(frame["class_name"]) == {"bar"} and frame["area"].tolist() == [
        40 * (20 + 10 * i) // 2 for i in range(5)
    ]
    for i in range(5):
        mask = read_png(out / "masks" / f"J{i}_mask.png")
        assert mask.shape == (40, 20 + 10 * i) and set(np.unique(mask)) == {0, 1}
        assert read_png(out / "pictures" / f"J{i}.png").shape == (40, 20 + 10 * i, 3)
    assert not list(out.rglob("*.part*"))


def test_pictures_that_cannot_be_read_are_named_and_left_out(tmp_path, pictures, capsys):
    (pictures / "J1.png").write_bytes(b"nothing")
    settings = settings_of(tmp_path)
    counts = g.predict(settings, str(pictures), str(tmp_path / "out"))
    assert counts == {"pictures": 4, "detections": 4, "unreadable": 1}
    assert f"{pictures / 'J1.png'} is left out" in capsys.readouterr().err
    for path in pictures.glob("*.png"):
        path.write_bytes(b"nothing")
    with pytest.raises(OSError, match="none of the 5 pictures"):
        g.predict(settings, str(pictures), str(tmp_path / "none"))
    assert not list(tmp_path.glob("none/*"))


def test_a_prediction_that_breaks_off_leaves_no_table(tmp_path, pictures, monkeypatch):
    class Breaks(Finds):
        def detect(self, images):
            if np.asarray(images[0]).shape[1] > 30:
                raise RuntimeError("out of memory")
            return super().detect(images)

    monkeypatch.setattr(g, "load_final", lambda *_: Breaks())
    with pytest.raises(RuntimeError, match="out of memory"):
        g.predict(settings_of(tmp_path), str(pictures), str(tmp_path / "out"))
    assert not list((tmp_path / "out").glob("detections*"))


def test_a_folder_without_pictures_and_one_with_two_of_a_name_are_errors(tmp_path, pictures):
    with pytest.raises(FileNotFoundError, match="there are no pictures .* in .*nowhere"):
        g.list_pictures(str(tmp_path / "nowhere"))
    PIL.Image.new("RGB", (9, 9)).save(pictures / "J0.jpg")
    with pytest.raises(ValueError, match="J0.jpg and .*J0.png are both of object J0"):
        g.list_pictures(str(pictures))


# ---- From end to end -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The configuration and folder of two folds of two epochs each."""
    with pytest.MonkeyPatch.context() as patch:
        run_eagerly(patch)
        folder = tmp_path_factory.mktemp("trained")
        path = write_config(folder, k_folds=2, min_score=0.0, test_split=0.2)
        g.main(["train", "--config", str(path)])
    return path, folder


@pytest.mark.slow
def test_training_leaves_checkpoints_figures_and_what_it_was(trained):
    path, folder = trained
    settings = g.load_settings(path)
    for fold in (1, 2):
        (run,) = (folder / "logs" / f"fold_{fold}").iterdir()
        names = {entry.name for entry in run.glob("*.h5")}
        assert names == {f"mask_rcnn_galaxy_{what}.h5" for what in ("0001", "0002", "best")}
        rows = read_figures(run / "coco_ap.csv")
        assert [row["epoch"] for row in rows] == [1, 2]
        split = json.loads((run / "split.json").read_text())
        assert split == g.split_objects(settings, fold)
        assert json.loads((run / "config.json").read_text()) == dataclasses.asdict(settings)
        curves = logs.read_run(run)
        # 4 galaxies in batches of 2, two epochs.
        for name in ("Loss", *LOSS_NAMES, "learning_rate"):
            assert curves[f"Training/{name}"].steps.tolist() == [1, 2, 3, 4]
        for name in ("Loss", *LOSS_NAMES, "bbox_AP", "segm_AP50", "segm_AR100"):
            assert curves[f"Validation/{name}"].steps.tolist() == [1, 2]
        assert g.final_checkpoint(settings, fold) == str(run / "mask_rcnn_galaxy_best.h5")


@pytest.mark.slow
def test_evaluate_predict_and_logs_of_what_was_trained(trained, capsys):
    path, folder = trained
    g.main(["evaluate", "--config", str(path), "--split", "test"])
    printed = capsys.readouterr().out
    assert "segm AP50 of 2 folds: " in printed and "AP50 by class: spiral" in printed
    found = json.loads((folder / "logs" / "fold_1" / "evaluation_test.json").read_text())
    assert set(found["segm_AP50_by_class"]) == {"spiral", "bar"} and "AP50" in found["bbox"]

    g.main(["predict", "--config", str(path), "--fold", "2", "--table", "csv"])
    out = folder / "logs" / "predictions"
    frame = pandas.read_csv(out / "detections.csv")
    assert len(list((out / "pictures").iterdir())) == 10
    assert set(frame["object_id"]) <= set(g.object_ids(g.load_settings(path)))

    g.main(["logs", "--config", str(path)])
    assert read_png(folder / "logs" / "training.png").std() > 5
    assert "Curves of 2 runs" in capsys.readouterr().out
    assert not list(folder.rglob("*.part*"))


@pytest.mark.slow
def test_a_run_is_resumed(trained, monkeypatch):
    run_eagerly(monkeypatch)
    path, folder = trained
    longer = write_config(folder / "longer", **{**json_of(path), "epochs": 3})
    g.main(["train", "--config", str(longer), "--fold", "1", "--resume"])
    (run,) = (folder / "logs" / "fold_1").glob("galaxy*")
    assert (run / "mask_rcnn_galaxy_0003.h5").is_file()
    assert [row["epoch"] for row in read_figures(run / "coco_ap.csv")] == [1, 2, 3]
    assert logs.read_run(run)["Training/Loss"].steps.tolist() == list(range(1, 7))


def json_of(path):
    return json.loads(path.read_text(encoding="utf-8").split("\n", 1)[1])


@pytest.mark.slow
def test_final_weights_of_another_network_are_named(trained, tmp_path):
    path, _ = trained
    settings = g.load_settings(path)
    other = write_config(
        tmp_path,
        **{
            **json_of(path),
            "k_folds": 0,
            "final_model_ckpt": g.final_checkpoint(settings, 1),
            "settings": {**TINY, "TOP_DOWN_PYRAMID_SIZE": 24},
        },
    )
    with pytest.raises(ValueError, match=r"best.h5 does not fit the model: fpn_"):
        g.main(["evaluate", "--config", str(other)])


def test_names_of_classes_are_those_of_the_markings():
    assert g.Settings().class_names == list(markings.CLASSES)
