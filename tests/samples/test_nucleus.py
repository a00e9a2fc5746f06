"""samples/nucleus: the data set, run lengths, submission lines, the demo's parts."""

import keras
import numpy as np
import PIL.Image
import pytest
import skimage.io
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from samples.nucleus import demo, nucleus

MASKS = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12))


def write_image(folder, image_id, masks):
    """An image of 8x6 pixels in Kaggle's layout."""
    for kind in ("images", "masks"):
        (folder / image_id / kind).mkdir(parents=True)
    image = np.full((8, 6, 3), 40, np.uint8)
    skimage.io.imsave(folder / image_id / "images" / f"{image_id}.png", image, check_contrast=False)
    for number, mask in enumerate(masks):
        path = folder / image_id / "masks" / f"{number}.png"
        skimage.io.imsave(path, mask.astype(np.uint8) * 255, check_contrast=False)


@pytest.fixture
def masks():
    masks = np.zeros((2, 8, 6), bool)
    masks[0, :3, :2] = True
    masks[1, 5:, 4:] = True
    return masks


def ids(dataset):
    return [dataset.image_reference(image_id) for image_id in dataset.image_ids]


def test_stage1_train_is_split_by_the_list(tmp_path, masks):
    for image_id in ("first", nucleus.VAL_IMAGE_IDS[3], "second"):
        write_image(tmp_path / "stage1_train", image_id, masks)
    assert ids(nucleus.load_dataset(tmp_path, "train")) == ["first", "second"]
    assert ids(nucleus.load_dataset(tmp_path, "val")) == [nucleus.VAL_IMAGE_IDS[3]]
    assert len(nucleus.load_dataset(tmp_path, "stage1_train").image_ids) == 3


def test_train_and_val_folders_are_taken_as_they_are(tmp_path, masks):
    write_image(tmp_path / "train", nucleus.VAL_IMAGE_IDS[0], masks)
    write_image(tmp_path / "val", "another", masks)
    assert ids(nucleus.load_dataset(tmp_path, "train")) == [nucleus.VAL_IMAGE_IDS[0]]
    assert ids(nucleus.load_dataset(tmp_path, "val")) == ["another"]


def test_a_missing_subset_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder 'stage2_test'"):
        nucleus.load_dataset(tmp_path, "stage2_test")


class FindsNothing:
    """Notes the images it was shown, and finds nothing in them."""

    def __init__(self):
        self.shown = []

    def detect(self, images):
        self.shown += [image.shape[:2] for image in images]
        none = np.zeros((*images[0].shape[:2], 0), bool)
        empty = np.zeros(0, np.int32)
        return [{"rois": np.zeros((0, 4)), "masks": none, "class_ids": empty, "scores": empty}]


def test_detect_takes_a_folder_of_pictures_as_they_lie(tmp_path, monkeypatch):
    monkeypatch.setattr(nucleus, "RESULTS_DIR", str(tmp_path / "results"))
    folder = tmp_path / "new"
    folder.mkdir()
    for name, width in (("a.png", 30), ("b.jpg", 31), ("c.TIF", 32)):
        PIL.Image.new("RGB", (width, 20)).save(folder / name)
    (folder / "notes.txt").write_text("no picture")
    model = FindsNothing()
    out = nucleus.detect(model, tmp_path, "new")
    assert model.shown == [(20, 30), (20, 31), (20, 32)]
    lines = (out / "submit.csv").read_text().splitlines()
    assert lines == ["ImageId,EncodedPixels", "a,", "b,", "c,"]
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "b.png", "c.png", "submit.csv"]


@pytest.mark.parametrize("name", ["flat", "images"])
def test_pictures_without_masks_are_nothing_to_train_on(tmp_path, masks, name):
    (tmp_path / name).mkdir()
    (tmp_path / "masks").mkdir()  # of what, nobody says
    for folder in (name, "masks"):
        PIL.Image.new("L", (6, 8), 255).save(tmp_path / folder / "one.png")
    dataset = nucleus.load_dataset(tmp_path, name)
    with pytest.raises(FileNotFoundError, match="one.png has no masks"):
        dataset.load_mask(0)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "holds no images: neither <id>/images/<id>.png nor files that end in .png"),
        (["notes.txt", "one/two/three.png"], "holds no images"),
        (["a.png", "a.jpg"], "a.jpg and .*a.png have one name"),
        (["a/images/b.png", "c/images/c.png"], "without their image .*a/images/a.png.$"),
    ],
    ids=str,
)
def test_a_folder_of_another_layout_is_refused_and_nothing_is_written(
    tmp_path, monkeypatch, files, message
):
    monkeypatch.setattr(nucleus, "RESULTS_DIR", str(tmp_path / "results"))
    (tmp_path / "new").mkdir()
    for name in files:
        (tmp_path / "new" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "new" / name).touch()
    with pytest.raises((FileNotFoundError, ValueError), match=message):
        nucleus.detect(FindsNothing(), tmp_path, "new")
    assert not (tmp_path / "results").exists()


def test_masks_and_image(tmp_path, masks):
    write_image(tmp_path / "train", "one", masks)
    dataset = nucleus.load_dataset(tmp_path, "train")
    loaded, class_ids = dataset.load_mask(0)
    np.testing.assert_array_equal(loaded, np.moveaxis(masks, 0, -1))
    np.testing.assert_array_equal(class_ids, [1, 1])
    assert loaded.dtype == bool and class_ids.dtype == np.int32
    assert dataset.load_image(0).shape == (8, 6, 3)
    assert dataset.class_names == ["BG", "nucleus"]


def test_an_image_without_ground_truth_is_named(tmp_path):
    write_image(tmp_path / "stage1_test", "unlabelled", [])
    with pytest.raises(FileNotFoundError, match="unlabelled has no masks"):
        nucleus.load_dataset(tmp_path, "stage1_test").load_mask(0)


def test_run_lengths_go_down_the_columns_from_one():
    mask = np.array([[0, 1, 0], [1, 1, 0], [1, 0, 1]], bool)
    assert nucleus.rle_encode(mask) == "2 4 9 1"
    assert nucleus.rle_encode(np.zeros((2, 2))) == ""
    assert nucleus.rle_encode(np.ones((2, 3))) == "1 6"


@given(MASKS)
def test_run_lengths_round_trip(mask):
    decoded = nucleus.rle_decode(nucleus.rle_encode(mask), mask.shape)
    np.testing.assert_array_equal(decoded, mask)
    assert decoded.dtype == bool


@pytest.mark.parametrize("rle", ["6 2", "0 1", "7 1"])
def test_a_run_outside_the_image_is_an_error(rle):
    with pytest.raises(ValueError, match="leaves an image of 2x3"):
        nucleus.rle_decode(rle, (2, 3))


@given(
    hnp.arrays(bool, st.tuples(st.just(5), st.just(4), st.integers(0, 5))),
    st.lists(st.floats(0, 1), min_size=5, max_size=5),
)
def test_submission_lines_share_no_pixel_and_favour_the_best_score(mask, scores):
    scores = np.array(scores[: mask.shape[-1]])
    text = nucleus.mask_to_rle("id", mask, scores)
    runs = [line.removeprefix("id,").strip() for line in text.split("\n")]
    decoded = [nucleus.rle_decode(run, mask.shape[:2]) for run in runs]
    np.testing.assert_array_equal(np.sum(decoded, axis=0), mask.any(-1))
    if mask.shape[-1] and mask[..., np.argmax(scores)].any():
        np.testing.assert_array_equal(decoded[0], mask[..., np.argmax(scores)])


def test_an_image_without_objects_has_one_empty_line():
    assert nucleus.mask_to_rle("id", np.zeros((3, 3, 0), bool), np.zeros(0)) == "id,"


def test_detect_writes_a_submission_and_pictures(tmp_path, masks, monkeypatch):
    class Found:
        def detect(self, images):
            mask = np.moveaxis(masks, 0, -1)
            rois = np.array([[0, 0, 3, 2], [5, 4, 8, 6]])
            ones = np.ones(2, np.int32)
            return [{"rois": rois, "masks": mask, "class_ids": ones, "scores": ones * 0.9}]

    monkeypatch.setattr(nucleus, "RESULTS_DIR", str(tmp_path / "results"))
    write_image(tmp_path / "stage1_test", "one", [])
    folder = nucleus.detect(Found(), tmp_path, "stage1_test")
    assert (folder / "submit.csv").read_text().split("\n") == [
        "ImageId,EncodedPixels",
        "one, 1 3 9 3",
        "one, 38 3 46 3",
        "",
    ]
    assert skimage.io.imread(folder / "one.png").std() > 0


def test_the_command_line_knows_which_subset_a_command_wants():
    def subset(*words):
        return nucleus.parse_arguments([*words, "--dataset=d", "--weights=w"]).subset

    assert subset("train") == "train"
    assert subset("evaluate") == "val"
    assert subset("detect", "--subset=stage1_test") == "stage1_test"


def test_demo_unpacks_its_images_once(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "IMAGES", tmp_path / "data")
    images = demo.unpack_images()
    train, val = (nucleus.load_dataset(images, subset) for subset in ("train", "val"))
    assert (len(train.image_ids), len(val.image_ids)) == (66, 19)
    assert not set(ids(train)) & set(ids(val))
    for dataset, image_id in ((train, 0), (val, 18)):
        masks, class_ids = dataset.load_mask(image_id)
        assert masks.shape[:2] == dataset.load_image(image_id).shape[:2]
        assert masks.any(axis=(0, 1)).all() and len(class_ids) == masks.shape[-1]
    before = images.stat().st_mtime_ns
    assert demo.unpack_images() == images and images.stat().st_mtime_ns == before


def test_demo_archive_is_small():
    assert demo.ARCHIVE.stat().st_size < 3e6


def test_demo_configuration_fits_its_backbone():
    config = demo.DemoConfig.from_json(demo.CONFIG)
    config.validate()
    image = keras.Input(tuple(config.IMAGE_SHAPE))
    maps = demo.small_backbone(image, stage5=True, train_bn=config.TRAIN_BN)
    sizes = [tuple(feature.shape[1:3]) for feature in maps]
    assert sizes[1:] == [tuple(s) for s in demo.pyramid_shapes(config.IMAGE_SHAPE)[:4]]
    assert demo.small_backbone(image, stage5=False)[4] is None


def test_train_takes_the_heads_first_then_everything(tmp_path, masks):
    class Model:
        config = nucleus.NucleusConfig()
        calls = []

        def train(self, train_set, val_set, learning_rate, epochs, layers, augmentation):
            self.calls.append((ids(train_set), ids(val_set), learning_rate, epochs, layers))

    write_image(tmp_path / "train", "one", masks)
    write_image(tmp_path / "val", "two", masks)
    nucleus.train(Model(), tmp_path, "train")
    assert Model.calls == [
        (["one"], ["two"], 0.001, 20, "heads"),
        (["one"], ["two"], 0.001, 40, "all"),
    ]


@pytest.mark.parametrize(
    ("epoch", "layers"), [(0, ["heads", "all"]), (20, ["all"]), (33, ["all"]), (40, [])]
)
def test_a_resumed_run_passes_over_what_is_done(tmp_path, masks, epoch, layers, capsys):
    class Model:
        config = nucleus.NucleusConfig()

        def __init__(self):
            self.epoch, self.trained = epoch, []

        def train(self, *_, epochs, layers, **__):
            self.trained.append(layers)
            self.epoch = epochs

    write_image(tmp_path / "train", "one", masks)
    write_image(tmp_path / "val", "two", masks)
    model = Model()
    nucleus.train(model, tmp_path, "train")
    assert model.trained == layers
    assert ("Nothing is left to train: 40 epochs" in capsys.readouterr().out) == (not layers)


@pytest.mark.slow
def test_evaluate_and_detect_from_the_command_line(tmp_path, masks, monkeypatch, capsys):
    from mrcnn.model import MaskRCNN
    from mrcnn.weights import save_weights

    monkeypatch.setattr(nucleus, "RESULTS_DIR", str(tmp_path / "results"))
    monkeypatch.setattr(nucleus.NucleusConfig, "DETECTION_MAX_INSTANCES", 5)
    write_image(tmp_path / "data" / "val", "one", masks)
    model = MaskRCNN("inference", nucleus.NucleusInferenceConfig(), tmp_path / "logs")
    save_weights(model.keras_model, tmp_path / "random.h5")
    words = [f"--dataset={tmp_path / 'data'}", f"--weights={tmp_path / 'random.h5'}"]

    nucleus.main(["evaluate", *words])
    assert "segm" in capsys.readouterr().out
    nucleus.main(["detect", *words])
    (folder,) = (tmp_path / "results").iterdir()
    assert {path.name for path in folder.iterdir()} == {"submit.csv", "one.png"}
