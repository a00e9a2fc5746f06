"""samples/coco: COCO's folders, downloads, evaluation, stages of training, the command line."""

import io
import json
import re
import subprocess
import sys
import urllib.error
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pycocotools.coco import COCO

from mrcnn.data.augment import augment
from mrcnn.geometry.masks import extract_bboxes
from samples.coco import coco as sample
from tests import coco_data
from tests.tiny import run_eagerly, stand_in_checkpoint


def make_coco(folder, year="2017", subsets=("train", "val"), data=None):
    """COCO's folders with the small data set in every subset."""
    for subset in subsets:
        coco_data.write(folder / "annotations" / f"instances_{subset}{year}.json", data)
        images = "val" if subset.startswith(("mini", "valminus")) else subset
        coco_data.write_images(folder / f"{images}{year}", data)
    return folder


@pytest.fixture
def loaded(tmp_path):
    """`(dataset, COCO)` of the small data set."""
    dataset = sample.CocoDataset()
    coco = dataset.load_coco(make_coco(tmp_path / "coco"), "val", "2017", return_coco=True)
    dataset.prepare()
    return dataset, coco


class Oracle:
    """Detects what the data set says, crowds apart; images are told apart by their sizes."""

    def __init__(self, dataset):
        self.dataset, self.seen = dataset, 0
        self.config = SimpleNamespace(BATCH_SIZE=2)

    def detect(self, images):
        self.seen += len(images)
        return [self._truth(image.shape[:2]) for image in images]

    def _truth(self, size):
        (image_id,) = [
            i
            for i, info in enumerate(self.dataset.image_info)
            if (info["height"], info["width"]) == size
        ]
        masks, class_ids = self.dataset.load_mask(image_id)
        masks, class_ids = masks[:, :, class_ids > 0], class_ids[class_ids > 0]
        return {
            "rois": extract_bboxes(masks),
            "class_ids": class_ids,
            "scores": np.linspace(0.9, 0.5, len(class_ids), dtype=np.float32),
            "masks": masks,
        }


# ---- The data set --------------------------------------------------------------------------------


def test_the_originals_values():
    config = sample.CocoConfig()
    assert (config.NAME, config.IMAGES_PER_GPU, config.NUM_CLASSES) == ("coco", 2, 81)
    assert sample.DEFAULT_DATASET_YEAR == "2014"
    root = Path(__file__).parents[2]
    assert Path(sample.COCO_MODEL_PATH) == root / "mask_rcnn_coco.h5"
    assert Path(sample.DEFAULT_LOGS_DIR) == root / "logs"
    assert (root / "mrcnn").is_dir() and Path(sample.ROOT_DIR) == root


@pytest.mark.parametrize(
    ("year", "subset", "images"),
    [
        ("2017", "train", "train2017"),
        ("2017", "val", "val2017"),
        ("2014", "train", "train2014"),
        ("2014", "minival", "val2014"),
        ("2014", "valminusminival", "val2014"),
    ],
)
def test_folders_of_both_years(tmp_path, year, subset, images):
    make_coco(tmp_path, year, [subset])
    dataset = sample.CocoDataset()
    arguments = {} if year == "2014" else {"year": year}
    assert dataset.load_coco(str(tmp_path), subset, **arguments) is None
    dataset.prepare()
    assert Path(dataset.image_info[0]["path"]) == tmp_path / images / "a.png"
    assert dataset.load_image(0).shape == (20, 30, 3)
    assert dataset.class_names == ["BG", "cat", "dog", "tie"]
    assert list(dataset.load_mask(0)[1]) == [2, 1, -3]


def test_two_subsets_make_one_data_set(tmp_path):
    make_coco(tmp_path, "2014", ["train", "valminusminival"])
    dataset = sample.CocoDataset()
    dataset.load_coco(tmp_path, "train")
    dataset.load_coco(tmp_path, "valminusminival", class_ids=[18])
    dataset.prepare()
    assert (dataset.num_images, dataset.num_classes) == (4, 4)


def test_the_missing_file_and_what_is_there_are_named(tmp_path):
    make_coco(tmp_path, "2017")
    with pytest.raises(FileNotFoundError, match="instances_train2014.json does not exist") as error:
        sample.CocoDataset().load_coco(tmp_path, "train")
    assert "instances_train2017.json, instances_val2017.json" in str(error.value)
    with pytest.raises(FileNotFoundError, match="holds no JSON"):
        sample.CocoDataset().load_coco(tmp_path / "nowhere", "train")


def test_names_and_masks_as_the_original_has_them(loaded):
    dataset, coco = loaded
    assert isinstance(coco, COCO)
    assert dataset.image_reference(1) == "http://cocodataset.org/#explore?id=3"
    for annotation in coco.anns.values():
        size = [coco.imgs[annotation["image_id"]][side] for side in ("height", "width")]
        mask = dataset.annToMask(annotation, *size)
        np.testing.assert_array_equal(mask, coco.annToMask(annotation))
        assert dataset.annToRLE(annotation, *size)["size"] == size


def misfit(**changes):
    data = coco_data.content()
    data["annotations"][2] |= {"segmentation": {"size": [5, 6], "counts": [30]}} | changes
    return data


def test_a_crowd_of_another_size_covers_its_image_with_a_warning(tmp_path, caplog):
    dataset = sample.CocoDataset()
    make_coco(tmp_path, data=misfit())
    coco = dataset.load_coco(tmp_path, "val", "2017", return_coco=True)
    dataset.prepare()
    masks, class_ids = dataset.load_mask(0)
    assert list(class_ids) == [2, 1, -3] and masks[:, :, 2].all()
    (message,) = (text for text in caplog.messages if "crowd 102" in text)
    assert re.search(r"instances_val2017.json: crowd 102 .* \[5, 6\], its image 7 is", message)
    assert coco.anns[102]["area"] == 600 and coco.anns[102]["bbox"] == [0, 0, 30, 20]


def test_an_object_of_another_size_is_an_error(tmp_path):
    make_coco(tmp_path, data=misfit(iscrowd=0))
    with pytest.raises(ValueError, match="instances_val2017.json: annotation 102 has run lengths"):
        sample.CocoDataset().load_coco(tmp_path, "val", "2017")


# ---- Downloads -----------------------------------------------------------------------------------


class Response(io.BytesIO):
    def __init__(self, data, length=None):
        super().__init__(data)
        self.headers = {"Content-Length": str(len(data) if length is None else length)}


def zipped(source, *names):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        for name in names:
            file.write(source / name, name)
    return data.getvalue()


@pytest.fixture
def web(monkeypatch):
    """`{address: bytes}` that can be downloaded; addresses asked for are appended to `.asked`."""

    class Web(dict):
        asked = []

    def urlopen(url, timeout=None):
        pages.asked.append(url)
        if url not in pages:
            raise urllib.error.URLError("no network")
        page = pages[url]
        return page if isinstance(page, Response) else Response(page)

    pages = Web()
    pages.asked = []
    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    return pages


def test_a_subset_is_downloaded_once(tmp_path, web, capsys):
    source = make_coco(tmp_path / "source")
    images = [f"train2017/{name}.png" for name in "abc"]
    annotations = [f"annotations/instances_{subset}2017.json" for subset in ("train", "val")]
    web["http://images.cocodataset.org/zips/train2017.zip"] = zipped(source, *images)
    name = "http://images.cocodataset.org/annotations/annotations_trainval2017.zip"
    web[name] = zipped(source, *annotations)
    for _ in range(2):
        dataset = sample.CocoDataset()
        dataset.load_coco(tmp_path / "new", "train", "2017", auto_download=True)
        assert len(dataset.image_info) == 3
    assert len(web.asked) == 2
    files = [path for path in (tmp_path / "new").rglob("*") if path.is_file()]
    assert sorted(str(path.relative_to(tmp_path / "new")) for path in files) == sorted(
        images + annotations
    )
    assert "Downloading http://images.cocodataset.org/zips/train2017.zip: 0 of 0 MB" in (
        capsys.readouterr().out
    )


def test_minival_has_an_address_of_its_own(tmp_path, web):
    source = make_coco(tmp_path / "source", "2014", ["minival"])
    web["http://images.cocodataset.org/zips/val2014.zip"] = zipped(source, "val2014/a.png")
    name = "instances_minival2014.json"
    web[sample.SPLITS_OF_VAL2014["minival"]] = zipped(source / "annotations", name)
    (tmp_path / "new" / "annotations").mkdir(parents=True)
    (tmp_path / "new" / "annotations" / "mine.json").write_text("{}")
    sample.CocoDataset().auto_download(tmp_path / "new", "minival", "2014")
    there = sorted(path.name for path in (tmp_path / "new" / "annotations").iterdir())
    assert there == [name, "mine.json"]
    assert (tmp_path / "new" / "val2014" / "a.png").is_file()


@pytest.mark.parametrize("page", ["none", "broken off", "no zip", "another zip"])
def test_a_download_that_fails_says_what_to_do_and_leaves_nothing(tmp_path, web, page):
    source = make_coco(tmp_path / "source")
    data = zipped(source, "val2017/a.png")
    pages = {
        "broken off": Response(data, length=len(data) + 5),
        "no zip": b"<html>",
        "another zip": data,
    }
    address = "http://images.cocodataset.org/zips/train2017.zip"
    if page in pages:
        web[address] = pages[page]
    with pytest.raises(OSError, match=f"could not fetch {address}.*train2017 exists"):
        sample.CocoDataset().load_coco(tmp_path / "new", "train", "2017", auto_download=True)
    assert not list((tmp_path / "new").rglob("*"))


# ---- Evaluation ----------------------------------------------------------------------------------


def test_results_have_cocos_ids_and_load(loaded):
    dataset, coco = loaded
    found = Oracle(dataset)._truth((20, 30))
    results = sample.build_coco_results(
        dataset, [7], found["rois"], found["class_ids"], found["scores"], found["masks"]
    )
    assert [(r["image_id"], r["category_id"]) for r in results] == [(7, 18), (7, 5)]
    assert results[0]["bbox"] == [2.0, 3.0, 8.0, 6.0]
    results = json.loads(json.dumps(results))
    assert [type(r["category_id"]) for r in results] == [int, int]
    again = coco.loadRes(results)
    np.testing.assert_array_equal(again.annToMask(again.anns[2]), found["masks"][:, :, 1])
    assert sample.build_coco_results(dataset, [7], None, [], [], None) == []


@pytest.mark.parametrize("eval_type", ["bbox", "segm"])
def test_the_truth_has_an_ap_of_one(loaded, capsys, eval_type):
    dataset, coco = loaded
    figures = sample.evaluate_coco(Oracle(dataset), dataset, coco, eval_type)
    assert figures["AP"] == pytest.approx(1) and figures["AP50"] == pytest.approx(1)
    assert capsys.readouterr().out.count("Average") == 12


def test_evaluation_looks_at_the_images_asked_for(loaded):
    dataset, coco = loaded
    oracle = Oracle(dataset)
    figures = sample.evaluate_coco(oracle, dataset, coco, "segm", limit=1)
    assert oracle.seen == 1 and figures["AP"] == pytest.approx(1)
    oracle = Oracle(dataset)
    assert sample.evaluate_coco(oracle, dataset, coco, "segm", image_ids=[1])["AP"] == 1
    assert oracle.seen == 1


def test_evaluate_prints_both_and_every_class_and_writes_a_submission(loaded, tmp_path, capsys):
    dataset, coco = loaded
    path = tmp_path / "submission.json"
    figures = sample.evaluate(Oracle(dataset), dataset, coco, submission=path)
    assert figures["bbox"]["AP"] == pytest.approx(1) == figures["segm"]["AP"]
    out = capsys.readouterr().out
    assert out.count("Average") == 24
    lines = [line.split() for line in out.splitlines()[-4:]]
    assert lines == [
        ["AP", "by", "class", "bbox", "segm"],
        ["cat", "1.000", "1.000"],
        ["dog", "1.000", "1.000"],
        ["tie", "-", "-"],  # a crowd alone is nothing to find
    ]
    results = json.loads(path.read_text())
    assert [set(r) for r in results] == 3 * [
        {"image_id", "category_id", "bbox", "score", "segmentation"}
    ]
    assert all(isinstance(r["segmentation"]["counts"], str) for r in results)
    assert len(coco.loadRes(str(path)).anns) == 3
    assert not list(tmp_path.glob("*.part*"))


def test_detections_on_a_crowd_count_neither_way(loaded):
    dataset, coco = loaded

    class OnTheCrowd(Oracle):
        def _truth(self, size):
            found = super()._truth(size)
            if size != (20, 30):
                return found
            mask = np.zeros((20, 30, 1), bool)
            mask[10:18, 0] = True  # a part of it
            return {
                "rois": np.concatenate([found["rois"], extract_bboxes(mask)]),
                "class_ids": np.append(found["class_ids"], 3),
                "scores": np.append(found["scores"], 0.99),
                "masks": np.concatenate([found["masks"], mask], axis=2),
            }

    assert sample.evaluate_coco(OnTheCrowd(dataset), dataset, coco, "segm")["AP"] == 1


# ---- Training ------------------------------------------------------------------------------------


class Recorder:
    """Notes what `train` is called with, and counts epochs as a model does."""

    def __init__(self, config=None, epoch=0):
        self.config, self.epoch = config or sample.CocoConfig(), epoch
        self.calls, self.checked = [], []

    def set_trainable(self, layers, verbose=1):
        self.checked.append(layers)

    def train(self, train_set, val_set, learning_rate, epochs, layers, augmentation, **more):
        self.calls.append((layers, epochs, learning_rate))
        self.more = {"augmentation": augmentation, **more}
        self.epoch = epochs


THREE_STAGES = [("heads", 40, 0.001), ("4+", 120, 0.001), ("all", 160, pytest.approx(0.0001))]


@pytest.mark.parametrize(
    ("epoch", "epochs", "calls"),
    [
        (0, None, THREE_STAGES),
        (40, None, THREE_STAGES[1:]),
        (41, None, THREE_STAGES[1:]),
        (160, None, []),
        (3, 3, []),
        (0, 50, [("heads", 40, 0.001), ("4+", 50, 0.001)]),
        (0, 2, [("heads", 2, 0.001)]),
        (2, 3, [("heads", 3, 0.001)]),
    ],
)
def test_stages_of_the_original(epoch, epochs, calls, capsys):
    model = Recorder(epoch=epoch)
    sample.train(model, None, None, epochs=epochs)
    assert model.calls == calls
    assert ("Nothing is left to train" in capsys.readouterr().out) == (not calls)
    assert model.checked == ["heads", "4+", "all"]


def test_two_stages_and_what_else_the_configuration_says():
    config = sample.CocoConfig()
    config.SCHEDULE, config.AUGMENTATION, config.SEED = sample.SCHEDULES["two-stage"], "none", 7
    model = Recorder(config)
    callback = object()
    sample.train(model, None, None, custom_callbacks=[callback])
    assert model.calls == [("heads", 20, 0.001), ("4+", 100, 0.001)]
    assert model.more == {"augmentation": None, "custom_callbacks": [callback], "seed": 7}


def test_flip_is_the_default_augmentation():
    model = Recorder()
    sample.train(model, None, None, epochs=1)
    assert type(model.more["augmentation"]).__name__ == "Fliplr"
    assert model.more["augmentation"].p.p.value == 0.5


def test_heavy_augmentation_is_the_documented_one():
    heavy = sample.heavy()
    assert heavy.random_order
    by_name = {type(augmenter).__name__: augmenter for augmenter in heavy}
    assert list(by_name) == [
        *("Fliplr", "Crop", "Sometimes", "LinearContrast", "Multiply", "Affine")
    ]

    def bounds(parameter):
        return float(parameter.a.value), float(parameter.b.value)

    assert by_name["Fliplr"].p.p.value == 0.5
    cropped = -np.array(by_name["Crop"].all_sides.draw_samples(2000))  # a crop pads by less than 0
    assert 0 <= cropped.min() < 0.001 and 0.099 < cropped.max() <= 0.1
    assert by_name["Sometimes"].p.p.value == 0.5
    (blur,) = by_name["Sometimes"].then_list
    assert bounds(blur.sigma) == (0, 0.5)
    assert bounds(by_name["LinearContrast"].params1d[0]) == (0.75, 1.5)
    assert bounds(by_name["Multiply"].mul) == (0.8, 1.2)
    affine = by_name["Affine"]
    assert [bounds(scale) for scale in affine.scale] == [(0.8, 1.2)] * 2
    assert [bounds(shift) for shift in affine.translate[:2]] == [(-0.2, 0.2)] * 2
    assert bounds(affine.rotate) == (-10, 10)
    assert bounds(affine.shear) == (-2, 2)


def test_heavy_augmentation_moves_image_and_mask_alike():
    image = np.zeros((120, 120, 3), np.uint8)
    image[40:80, 30:70] = 200
    masks = (image[:, :, :1] > 0).copy()
    for seed in range(5):
        new_image, new_masks = augment(image, masks, sample.heavy(), np.random.default_rng(seed))
        bright = new_image[:, :, 0] > 100
        union = (bright | new_masks[:, :, 0]).sum()
        assert (bright & new_masks[:, :, 0]).sum() > 0.93 * union


# ---- The command line ----------------------------------------------------------------------------


def parse(*words, command="train"):
    if not any(word.startswith(("--dataset", "--annotations")) for word in words):
        words = ("--dataset=d", *words)
    return sample.parse_arguments([command, "--model=coco", *words])


def test_the_originals_flags_and_defaults():
    arguments = parse()
    assert (arguments.year, arguments.limit, arguments.download) == ("2014", 500, False)
    assert arguments.logs == sample.DEFAULT_LOGS_DIR
    assert parse("--download=True").download and parse("--download").download
    assert not parse("--download", "False").download


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--model=coco"], "one of --dataset DIR and --annotations FILE"),
        (["train", "--model=coco", "--dataset=d", "--annotations=f"], "one of --dataset DIR"),
        (["train", "--model=coco", "--annotations=f"], "needs --images DIR"),
        (["train", "--dataset=d"], "--model"),
        (["train", "--model=c", "--dataset=d", "--download=maybe"], "neither True nor False"),
        (["train", "--model=c", "--dataset=d", "--year=2015"], "2015"),
        (
            ["train", "--model=c", "--annotations=f", "--images=d", "--eval-every=1"],
            "needs --val-annotations",
        ),
    ],
)
def test_words_that_do_not_fit(words, message, capsys):
    with pytest.raises(SystemExit):
        sample.parse_arguments(words)
    assert message in capsys.readouterr().err


def test_subsets_of_both_years(tmp_path):
    def subsets(purpose, *words):
        return sample.subsets(parse(f"--dataset={tmp_path}", *words), purpose)

    assert (subsets("train", "--year=2017"), subsets("evaluate", "--year=2017")) == (
        ["train"],
        ["val"],
    )
    assert (subsets("train"), subsets("validate")) == (["train"], ["val"])
    assert subsets("evaluate", "--download") == ["minival"]
    make_coco(tmp_path, "2014", ["minival"])
    assert subsets("train") == ["train", "valminusminival"]
    assert subsets("validate") == subsets("evaluate") == ["minival"]
    assert subsets("train", "--year=2017") == ["train"]


def test_data_that_are_neither_year(tmp_path, capsys):
    train = coco_data.write(tmp_path / "mine.json")
    images = coco_data.write_images(tmp_path / "images")
    arguments = parse(f"--annotations={train}", f"--images={images}")
    dataset, coco = sample.load_split(arguments, "train")
    assert dataset.num_images == 3 and coco is None
    assert f"To train: 3 images of {train}" in capsys.readouterr().out
    assert sample.load_split(arguments, "validate") == (None, None)
    arguments.val_annotations = str(train)
    dataset, coco = sample.load_split(arguments, "validate", with_coco=True)
    assert dataset.num_images == 3 and set(coco.imgs) == {7, 3, 12}


@pytest.mark.parametrize("layout", ["coco", "own"])
def test_entries_that_cannot_be_used_are_left_out_where_asked_for(tmp_path, layout):
    data = coco_data.content()
    data["annotations"][0]["segmentation"] = [[1, 2, 3]]
    data["annotations"][0].pop("bbox", None)
    if layout == "coco":
        words = [f"--dataset={make_coco(tmp_path, data=data)}", "--year=2017"]
    else:
        path = coco_data.write(tmp_path / "mine.json", data)
        words = [f"--annotations={path}", f"--images={coco_data.write_images(tmp_path / 'images')}"]
    with pytest.raises(ValueError, match="annotation"):
        sample.load_split(parse(*words), "train")
    dataset, _ = sample.load_split(parse(*words, "--skip-invalid"), "train")
    kept = [len(dataset.load_mask(image_id)[1]) for image_id in dataset.image_ids]
    assert sum(kept) == len(data["annotations"]) - 1


def test_crowds_may_be_objects(tmp_path):
    words = [f"--dataset={make_coco(tmp_path)}", "--year=2017"]
    for flag, class_ids in (("crowds", [2, 1, -3]), ("objects", [2, 1, 3])):
        dataset, _ = sample.load_split(parse(*words, f"--crowds={flag}"), "train")
        assert list(dataset.load_mask(0)[1]) == class_ids


def test_flags_go_over_the_file(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"STEPS_PER_EPOCH": 7, "AUGMENTATION": "none", "SCHEDULE": [["all", 3, 0.5]]}')
    config = sample.load_config(parse(f"--config={path}"))
    assert (config.STEPS_PER_EPOCH, config.AUGMENTATION) == (7, "none")
    assert config.SCHEDULE == [["all", 3, 0.5]]
    words = "--steps=2 --augmentation=heavy --schedule=two-stage --backbone=resnet50".split()
    config = sample.load_config(parse(f"--config={path}", "--batch-size=3", "--seed=5", *words))
    assert (config.STEPS_PER_EPOCH, config.AUGMENTATION, config.SEED) == (2, "heavy", 5)
    assert config.VALIDATION_STEPS == 2
    assert config.SCHEDULE == sample.SCHEDULES["two-stage"]
    assert (config.BACKBONE, config.BATCH_SIZE) == ("resnet50", 3)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("SCHEDULE", [], "it must be a list of stages"),
        ("SCHEDULE", [["heads", 40]], r"the stage \['heads', 40\]"),
        ("SCHEDULE", [["heads", "40", 1]], "a stage is"),
        ("SCHEDULE", [[3, 40, 1]], "a stage is"),
        ("AUGMENTATION", "some", "one of flip, heavy, none"),
        ("SEED", -1, "a whole number from 0"),
    ],
)
def test_settings_that_cannot_be_used_are_named_with_their_file(tmp_path, name, value, message):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({name: value}))
    with pytest.raises(ValueError, match=f"config.json: {name} .*{message}"):
        sample.load_config(parse(f"--config={path}"))


def test_the_last_run_brings_its_settings(tmp_path):
    run = tmp_path / "coco20260101T0000"
    stand_in_checkpoint(run / "mask_rcnn_coco_0002.h5")
    arguments = parse(f"--logs={tmp_path}", "--model=last", "--seed=3")
    assert sample.load_config(arguments).BACKBONE == "resnet101"
    (run / "config.json").write_text('{"BACKBONE": "resnet50", "SEED": 9}')
    config = sample.load_config(arguments)
    assert (config.BACKBONE, config.SEED) == ("resnet50", 3)
    with pytest.raises(FileNotFoundError, match="no checkpoint of a run named 'coco'"):
        sample.load_config(parse(f"--logs={tmp_path / 'none'}", "--model=last"))


def test_evaluation_takes_the_settings_beside_the_weights(tmp_path):
    weights = tmp_path / "run" / "weights.h5"
    weights.parent.mkdir()
    words = [f"--logs={tmp_path}", f"--model={weights}"]
    for text in ('{"BACKBONE": "resnet50"}', None):
        if text:
            (weights.parent / "config.json").write_text(text)
        weights.touch()
        config = sample.load_config(parse(*words, command="evaluate"))
        assert config.BACKBONE == "resnet50"
    assert sample.load_config(parse(*words)).BACKBONE == "resnet101"  # training starts anew
    other = tmp_path / "other.json"
    other.write_text('{"SEED": 4}')
    config = sample.load_config(parse(*words, f"--config={other}", command="evaluate"))
    assert (config.BACKBONE, config.SEED) == ("resnet101", 4)
    # A name is no path, whatever lies in the working directory.
    assert sample.settings_beside("coco") is None


def test_random_weights_train_all_layers_with_live_statistics(tmp_path, capsys):
    def load(*words, **settings):
        path = tmp_path / "config.json"
        path.write_text(json.dumps(settings))
        arguments = parse("--model=random", f"--config={path}", *words)
        return sample.load_config(arguments), capsys.readouterr().out

    config, printed = load()
    assert config.TRAIN_BN is None
    assert config.SCHEDULE == [["all", 40, 1], ["all", 120, 1], ["all", 160, 0.1]]
    assert "TRAIN_BN is None" in printed and "all layers train from the first epoch" in printed
    assert sample.SCHEDULES["three-stage"][0] == ["heads", 40, 1]
    # What the user chose stays, and what it means is said.
    config, printed = load(TRAIN_BN=False, SCHEDULE=[["heads", 5, 1], ["all", 9, 1]])
    assert config.TRAIN_BN is False and config.SCHEDULE[0] == ["heads", 5, 1]
    assert "statistics stay" in printed and "stages [['heads', 5, 1]]" in printed
    config, printed = load("--schedule=two-stage")
    assert config.SCHEDULE == sample.SCHEDULES["two-stage"] and "layers they do not" in printed
    config, _ = load(GRADIENT_CHECKPOINTING=True)
    assert config.TRAIN_BN is False
    config.validate()
    assert sample.load_config(parse("--model=imagenet")).TRAIN_BN is False


class Loader:
    """Notes what weights are loaded."""

    def __init__(self, num_classes):
        self.config = SimpleNamespace(NUM_CLASSES=num_classes)

    def load_weights(self, path, by_name, exclude):
        self.loaded = path, by_name, exclude

    def find_last(self):
        return "last.h5"

    def get_imagenet_weights(self):
        return "imagenet.h5"


@pytest.mark.parametrize(
    ("name", "path"),
    [("last", "last.h5"), ("imagenet", "imagenet.h5"), ("my/own.h5", "my/own.h5")],
)
def test_weights_by_name(name, path):
    model = Loader(num_classes=4)
    sample.load_weights(model, name)
    assert model.loaded == (path, True, None)


def test_coco_weights_leave_out_class_layers_of_other_classes(tmp_path, monkeypatch, capsys):
    path = tmp_path / "mask_rcnn_coco.h5"
    path.touch()
    monkeypatch.setattr(sample, "COCO_MODEL_PATH", str(path))
    model = Loader(num_classes=81)
    sample.load_weights(model, "coco")
    assert model.loaded == (str(path), True, None)
    model = Loader(num_classes=4)
    sample.load_weights(model, "coco")
    layers = ["mrcnn_class_logits", "mrcnn_bbox_fc", "mrcnn_bbox", "mrcnn_mask"]
    assert model.loaded == (str(path), True, layers)
    assert ", ".join(layers) in capsys.readouterr().out


def test_the_number_of_classes_follows_the_data(loaded, capsys):
    config = sample.CocoConfig()
    sample.follow_classes(config, loaded[0])
    assert config.NUM_CLASSES == 4 and "NUM_CLASSES is 4" in capsys.readouterr().out


def test_other_classes_to_validate_on_are_an_error(tmp_path):
    other = coco_data.content()
    other["categories"][0]["name"] = "wolf"
    train, val = (
        coco_data.write(tmp_path / name, data)
        for name, data in (("train.json", None), ("val.json", other))
    )
    images = coco_data.write_images(tmp_path / "images")
    words = [f"--annotations={train}", f"--images={images}", f"--val-annotations={val}"]
    with pytest.raises(ValueError, match=r"\['cat', 'wolf', 'tie'\], those to train on"):
        sample.main(["train", "--model=random", *words])


def test_the_sample_runs_from_anywhere(tmp_path):
    script = Path(sample.ROOT_DIR) / "samples" / "coco" / "coco.py"
    command = [sys.executable, script, "--help"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "--annotations" in result.stdout


@pytest.mark.slow
def test_train_continue_and_evaluate_from_the_command_line(tmp_path, monkeypatch, capsys):
    run_eagerly(monkeypatch)
    settings = {
        "BACKBONE": "resnet50",
        "IMAGE_MIN_DIM": 64,
        "IMAGE_MAX_DIM": 64,
        "IMAGES_PER_GPU": 1,
        "VALIDATION_STEPS": 1,
        "RPN_ANCHOR_SCALES": [8, 16, 32, 48, 64],
        "DETECTION_MAX_INSTANCES": 5,
        "TOP_DOWN_PYRAMID_SIZE": 16,
        "FPN_CLASSIF_FC_LAYERS_SIZE": 32,
        "TRAIN_ROIS_PER_IMAGE": 8,
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps(settings))
    data = [f"--dataset={make_coco(tmp_path / 'coco')}", "--year=2017", f"--logs={tmp_path}"]
    sample.main(["train", *data, "--model=random", f"--config={path}", "--steps=1", "--epochs=1"])
    sample.main(["train", *data, "--model=last", "--epochs=2", "--eval-every=2"])
    (run,) = tmp_path.glob("coco2*")
    checkpoints = sorted(path.name for path in run.glob("mask_rcnn_coco_0*.h5"))
    assert checkpoints == ["mask_rcnn_coco_0001.h5", "mask_rcnn_coco_0002.h5"]
    assert (run / "coco_ap.csv").read_text().count("\n") == 2
    out = capsys.readouterr().out
    assert "NUM_CLASSES is 4" in out and "Starting at epoch 1" in out

    submission = tmp_path / "submission.json"
    sample.main(["evaluate", *data, "--model=last", "--limit=2", f"--submission={submission}"])
    assert capsys.readouterr().out.count("Average") == 24
    assert {r["image_id"] for r in json.loads(submission.read_text())} <= {7, 3}
