"""Images with their ground truth, and batches of them."""

import re
from concurrent.futures import ThreadPoolExecutor

import imgaug.augmenters as iaa
import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrcnn.config import Config
from mrcnn.data.dataset import Dataset
from mrcnn.data.image_meta import parse_image_meta
from mrcnn.data.loader import BatchLoader, check_same_classes, data_generator, load_image_gt
from mrcnn.data.targets import pyramid_anchors
from mrcnn.geometry.masks import compute_overlaps_masks, expand_mask, extract_bboxes
from tests.data.conftest import Boxes

BOX = (10, 12, 40, 50)


class Recorded(Dataset):
    """The images the reference batch was made of."""

    def __init__(self, numbers):
        super().__init__()
        self.numbers = numbers
        for class_id in range(1, 7):
            self.add_class("recorded", class_id, str(class_id))
        for image_id in range(2):
            self.add_image("recorded", image_id, path=None)
        self.prepare()

    def load_image(self, image_id):
        return self.numbers[f"raw_image_{image_id}"]

    def load_mask(self, image_id):
        return self.numbers[f"raw_mask_{image_id}"], self.numbers[f"raw_class_ids_{image_id}"]


class RecordedConfig(Config):
    NUM_CLASSES = 7
    IMAGE_MIN_DIM = 200
    IMAGE_MAX_DIM = 256
    RPN_ANCHOR_SCALES = (16, 32, 64, 128, 256)
    MAX_GT_INSTANCES = 12
    RPN_TRAIN_ANCHORS_PER_IMAGE = 128


class Given(Dataset):
    """One image with whatever image, masks and class ids a test wants to see."""

    def __init__(self, image, masks, class_ids, num_classes=4):
        super().__init__()
        self.given = image, masks, class_ids
        for class_id in range(1, num_classes):
            self.add_class("given", class_id, str(class_id))
        self.add_image("given", "it", path="it.png")
        self.prepare()

    def load_image(self, image_id):
        return self.given[0]

    def load_mask(self, image_id):
        return self.given[1:]


def image_ids(batch):
    return [int(i) for i in batch[0][1][:, 0]]


def assert_same_batches(batches1, batches2):
    for (inputs1,), (inputs2,) in zip(batches1, batches2, strict=True):
        for array1, array2 in zip(inputs1, inputs2, strict=True):
            np.testing.assert_array_equal(array1, array2)


# ---- load_image_gt -------------------------------------------------------------------------


def test_the_reference_images(golden):
    numbers = golden("training.npz")
    dataset, config = Recorded(numbers), RecordedConfig()
    for i in range(2):
        image, meta, class_ids, boxes, masks = load_image_gt(dataset, config, i, use_mini_mask=True)
        count = len(class_ids)
        np.testing.assert_array_equal(image, numbers[f"raw_image_{i}"])
        np.testing.assert_array_equal(meta, numbers["in_image_meta"][i])
        np.testing.assert_array_equal(class_ids, numbers["in_gt_class_ids"][i, :count])
        np.testing.assert_array_equal(boxes, numbers["in_gt_boxes"][i, :count])
        np.testing.assert_array_equal(masks, numbers["in_gt_masks"][i, :, :, :count])
        whole = load_image_gt(dataset, config, i)[4]
        np.testing.assert_array_equal(whole, numbers[f"raw_mask_{i}"])


def test_types_and_meta(boxes_dataset, config):
    dataset = boxes_dataset([[(1, BOX), (-3, (0, 0, 30, 90))]], shape=(100, 120))
    image, meta, class_ids, boxes, masks = load_image_gt(dataset, config, 0)
    assert image.shape == (64, 64, 3) and image.dtype == np.uint8
    assert list(class_ids) == [1, -3] and class_ids.dtype == np.int32
    assert boxes.dtype == np.int32 and masks.dtype == bool
    np.testing.assert_array_equal(boxes, extract_bboxes(masks))
    parts = parse_image_meta(meta[None])
    assert parts["image_id"] == 0
    np.testing.assert_array_equal(parts["original_image_shape"], [[100, 120, 3]])
    np.testing.assert_array_equal(parts["image_shape"], [[64, 64, 3]])
    np.testing.assert_array_equal(parts["window"], [[5, 0, 58, 64]])
    assert parts["scale"] == pytest.approx(64 / 120)
    np.testing.assert_array_equal(parts["active_class_ids"], [[1, 1, 1, 1]])


def test_only_the_classes_of_the_source_are_active(config):
    dataset = Given(np.ones((9, 9, 3), np.uint8), np.ones((9, 9, 1), bool), [1], num_classes=3)
    dataset.add_class("other", 1, "other")
    dataset.prepare()
    meta = load_image_gt(dataset, config, 0)[1]
    np.testing.assert_array_equal(meta[12:], [1, 1, 1, 0])


@pytest.mark.parametrize("mode", ["square", "pad64", "crop"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (64, 64), (33, 90)])
def test_masks_at_every_border_in_images_of_any_size(make_config, mode, shape):
    config = make_config(IMAGE_RESIZE_MODE=mode, USE_MINI_MASK=True)
    dataset = Given(np.full((*shape, 3), 9, np.uint8), np.ones((*shape, 2), bool), [1, 2])
    image, meta, class_ids, boxes, masks = load_image_gt(dataset, config, 0, use_mini_mask=True)
    assert len(class_ids) == 2 and masks.all()
    window = parse_image_meta(meta[None])["window"]
    np.testing.assert_array_equal(boxes, np.repeat(window, 2, axis=0))
    batch = BatchLoader(dataset, config, batch_size=1)[0][0]
    assert all(np.isfinite(array).all() for array in batch)


@pytest.mark.parametrize("empty", [np.zeros((0, 0, 0)), np.zeros((20, 30, 0), bool)])
@pytest.mark.parametrize("ids", [[], np.zeros(0, np.int32)])
@pytest.mark.parametrize("use_mini_mask", [True, False])
def test_no_objects(config, empty, ids, use_mini_mask):
    dataset = Given(np.ones((20, 30, 3), np.uint8), empty, ids)
    _, _, class_ids, boxes, masks = load_image_gt(
        dataset, config, 0, augmentation=iaa.Fliplr(1), use_mini_mask=use_mini_mask
    )
    assert class_ids.shape == (0,) and boxes.shape == (0, 4) and masks.shape[2] == 0
    assert class_ids.dtype == boxes.dtype == np.int32 and masks.dtype == bool


def test_objects_that_vanish_are_dropped_with_their_class(config):
    masks = np.zeros((640, 640, 3), bool)
    masks[100:300, 100:300, 0] = True
    masks[401, 401, 1] = True  # less than a pixel in the resized image
    masks[500:600, 500:600, 2] = True
    dataset = Given(np.ones((640, 640, 3), np.uint8), masks, [1, 2, 3])
    _, _, class_ids, boxes, kept = load_image_gt(dataset, config, 0)
    assert list(class_ids) == [1, 3] and boxes.shape == (2, 4) and kept.any(axis=(0, 1)).all()


def test_flip_is_every_other_image(boxes_dataset, config):
    dataset = boxes_dataset([[(1, BOX)]])
    plain = load_image_gt(dataset, config, 0)
    flips = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        image, _, _, boxes, masks = load_image_gt(dataset, config, 0, augment=True, rng=rng)
        if np.array_equal(masks, plain[4]):
            np.testing.assert_array_equal(image, plain[0])
        else:
            flips += 1
            np.testing.assert_array_equal(image, plain[0][:, ::-1])
            np.testing.assert_array_equal(masks, plain[4][:, ::-1])
            np.testing.assert_array_equal(boxes, [[10, 64 - 50, 40, 64 - 12]])
    assert 10 < flips < 30


def test_augmentation_comes_from_the_generator_or_numpys_global_state(boxes_dataset, config):
    dataset = boxes_dataset([[(1, BOX)]])
    rotate = iaa.Affine(rotate=(-90, 90))

    def load(**options):
        return load_image_gt(dataset, config, 0, augmentation=rotate, **options)[0]

    first, again, other = (load(rng=np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    np.random.seed(3)
    first = load()
    np.random.seed(3)
    np.testing.assert_array_equal(load(), first)


def test_gray_config(make_config):
    config = make_config(IMAGE_CHANNEL_COUNT=1, MEAN_PIXEL=np.array([100.0]))
    for image in (np.ones((9, 9), np.uint8), np.ones((9, 9, 3), np.uint8)):
        dataset = Given(image, np.ones((9, 9, 1), bool), [1])
        loaded, meta, *_ = load_image_gt(dataset, config, 0)
        assert loaded.shape == (64, 64, 1)
        np.testing.assert_array_equal(meta[1:7], [9, 9, 1, 64, 64, 1])
        assert BatchLoader(dataset, config)[0][0][0].shape == (2, 64, 64, 1)


def test_what_counts_as_mask_and_class_id(config):
    image = np.ones((8, 9, 3), np.uint8)
    masks = np.zeros((8, 9, 1))
    masks[2:4, 3:5] = 255
    for dtype in (np.uint8, np.float32, np.int64):
        dataset = Given(image, masks.astype(dtype), np.ones(1))
        _, _, class_ids, _, loaded = load_image_gt(dataset, config, 0)
        assert loaded.any() and not loaded.all() and class_ids.dtype == np.int32


GOOD = np.ones((8, 9, 3), np.uint8), np.ones((8, 9, 2), bool), [1, 2]


@pytest.mark.parametrize(
    "place, value, words",
    [
        (1, np.ones((9, 8, 2), bool), r"masks of shape \(9, 8, 2\) for an image of 8x9.*\(8, 9,"),
        (1, np.ones((8, 9), bool), r"masks of shape \(8, 9\)"),
        (1, np.ones((2, 8, 9), bool), r"masks of shape \(2, 8, 9\)"),
        (1, np.full((8, 9, 2), "x"), "masks of <U1"),
        (1, np.ones((8, 9, 3), bool), r"3 masks and class ids of shape \(2,\)"),
        (2, [1], r"2 masks and class ids of shape \(1,\)"),
        (2, [[1, 2]], r"2 masks and class ids of shape \(1, 2\)"),
        (2, [1, 4], "class id 4; with NUM_CLASSES 4 an object has a class id from 1 to 3"),
        (2, [-4, 0], "class id -4, 0;"),
        (2, [1, 1.5], "whole numbers"),
        (2, [1, np.nan], "whole numbers"),
        (2, [1, np.inf], "whole numbers"),
        (2, ["cat", "dog"], "whole numbers"),
        (0, np.ones((8, 9, 5), np.uint8), r"\(8, 9, 5\) cannot become one of 3 channels"),
        (0, np.full((8, 9, 3), "x"), "load_image returned <U1"),
        (0, np.ones((0, 9, 3)), r"\(0, 9, 3\)"),
        (0, np.full((8, 9, 3), np.nan), "NaN or infinite"),
    ],
)
def test_wrong_data_is_one_clear_error(config, place, value, words):
    parts = list(GOOD)
    parts[place] = value
    with pytest.raises(ValueError, match=rf"image 0 \(given it, it.png\): .*{words}"):
        load_image_gt(Given(*parts), config, 0)


def test_a_dataset_that_does_not_fit_the_config(config):
    with pytest.raises(ValueError, match="Given has 3 classes.*NUM_CLASSES is 4"):
        load_image_gt(Given(*GOOD, num_classes=3), config, 0)
    unprepared = Dataset()
    with pytest.raises(ValueError, match="Dataset is not prepared; call prepare"):
        load_image_gt(unprepared, config, 0)


# ---- BatchLoader: what a batch is ----------------------------------------------------------


def test_the_reference_batch(golden):
    numbers = golden("training.npz")
    loader = BatchLoader(Recorded(numbers), RecordedConfig(), batch_size=2, shuffle=False)
    (inputs,) = loader[0]
    names = [
        "images",
        "image_meta",
        "rpn_match",
        "rpn_bbox",
        "gt_class_ids",
        "gt_boxes",
        "gt_masks",
    ]
    dtypes = [np.float32, np.float32, np.int32, np.float32, np.int32, np.int32, bool]
    for name, array, dtype in zip(names, inputs, dtypes, strict=True):
        assert array.dtype == dtype, name
        assert array.shape == numbers[f"in_{name}"].shape, name
        if name not in ("rpn_match", "rpn_bbox"):  # these hold a random choice of negatives
            np.testing.assert_allclose(array, numbers[f"in_{name}"], atol=1e-5, err_msg=name)
    np.testing.assert_array_equal(inputs[2] == 1, numbers["in_rpn_match"] == 1)
    np.testing.assert_allclose(inputs[3], numbers["in_rpn_bbox"], atol=1e-6)


def test_more_objects_than_max_gt_instances(make_config):
    config = make_config(MAX_GT_INSTANCES=100, RPN_TRAIN_ANCHORS_PER_IMAGE=256)
    masks = np.zeros((64, 64, 300), bool)
    for i in range(300):
        masks[3 * (i // 20) : 3 * (i // 20) + 2, 3 * (i % 20) : 3 * (i % 20) + 2, i] = True
    dataset = Given(np.ones((64, 64, 3), np.uint8), masks, np.arange(300) % 3 + 1)
    loader = BatchLoader(dataset, config, batch_size=2)
    (_, _, rpn_match, rpn_bbox, class_ids, boxes, mini) = loader[0][0]
    assert class_ids.shape == (2, 100) and (class_ids > 0).all()
    assert mini.shape == (2, 14, 14, 100) and mini.all()
    assert np.isfinite(rpn_bbox).all() and ((rpn_match == 1).sum(axis=(1, 2)) == 128).all()
    for b in range(2):
        assert len(np.unique(boxes[b], axis=0)) == 100
        numbers = boxes[b, :, 0] // 3 * 20 + boxes[b, :, 1] // 3
        np.testing.assert_array_equal(class_ids[b], numbers % 3 + 1)
    assert not np.array_equal(boxes[0], boxes[1])


def test_masks_in_full_size(make_config, boxes_dataset):
    dataset = boxes_dataset([[(1, BOX), (2, (0, 0, 64, 64))]])
    masks = BatchLoader(dataset, make_config(USE_MINI_MASK=False), batch_size=1)[0][0][6]
    assert masks.shape == (1, 64, 64, 6) and masks.dtype == bool
    np.testing.assert_array_equal(masks[0, :, :, :2], dataset.load_mask(0)[0])
    assert not masks[..., 2:].any()


def test_augmented_batches_stay_consistent(many, config):
    """Image, boxes and masks of augmented batches still show the same rectangles."""
    augmenter = iaa.Sequential([iaa.Fliplr(0.5), iaa.Affine(rotate=(-90, 90), order=0)])
    loader = BatchLoader(many(6), config, augment=True, augmentation=augmenter)
    for index in range(len(loader)):
        images, _, _, _, class_ids, boxes, mini = loader[index][0]
        for b in range(2):
            count = (class_ids[b] != 0).sum()
            masks = expand_mask(boxes[b, :count], mini[b, :, :, :count], (64, 64))
            white = images[b, :, :, 1] + config.MEAN_PIXEL[1] > 127
            union = masks.any(axis=2)
            assert compute_overlaps_masks(white[:, :, None], union[:, :, None])[0, 0] > 0.85


def test_images_of_different_shapes_do_not_stack(make_config, many):
    dataset = many(2)
    dataset.load_image = lambda i: np.ones((64, 64 + 64 * i, 3), np.uint8)
    dataset.load_mask = lambda i: (np.ones((64, 64 + 64 * i, 1), bool), [1])
    config = make_config(IMAGE_RESIZE_MODE="pad64")
    with pytest.raises(ValueError, match=r"\(64, 64, 3\), \(64, 128, 3\).*'pad64'.*IMAGES_PER_GPU"):
        BatchLoader(dataset, config)[0]
    shapes = {BatchLoader(dataset, config, batch_size=1)[i][0][0].shape for i in range(2)}
    assert shapes == {(1, 64, 64, 3), (1, 64, 128, 3)}


def test_rectangles_are_for_detection(make_config, many):
    with pytest.raises(ValueError, match="'rectangle', .* for detection; 'square' trains"):
        BatchLoader(many(2), make_config(IMAGE_RESIZE_MODE="rectangle"))


def test_mode_none_needs_multiples_of_64(make_config, many, warned):
    dataset = many(3)
    dataset.load_image = lambda i: np.ones((64, 64 + i % 2, 3), np.uint8)
    dataset.load_mask = lambda i: (np.ones((64, 64 + i % 2, 1), bool), [1])
    loader = BatchLoader(dataset, make_config(IMAGE_RESIZE_MODE="none"), batch_size=3)
    assert 1 not in image_ids(loader[0])
    assert "64x65" in loader.skipped[1] and "multiples of 64" in warned()[0]


@pytest.mark.parametrize(
    "options, words",
    [
        (dict(batch_size=0), "batch_size is 0; it must be at least 1"),
        (dict(steps=0), "steps is 0"),
        (dict(workers=0), "workers is 0"),
        (dict(seed=-1), "seed is -1; it must be at least 0"),
        (dict(max_bad_share=2), "max_bad_share is 2; it must be from 0 to 1"),
        (dict(augmentation="flip"), "augmentation is a str"),
    ],
)
def test_arguments_that_cannot_work(many, config, options, words):
    with pytest.raises(ValueError, match=words):
        BatchLoader(many(2), config, **options)


def test_datasets_that_cannot_work(config):
    with pytest.raises(ValueError, match="Dataset has no images; call add_image"):
        BatchLoader(Dataset(), config)
    with pytest.raises(ValueError, match="Given has 3 classes.*NUM_CLASSES is 4"):
        BatchLoader(Given(*GOOD, num_classes=3), config)


# ---- BatchLoader: which images when --------------------------------------------------------


def epochs_of(loader, count):
    """Image ids of so many epochs, in order."""
    ids = []
    for epoch in range(loader.epoch, loader.epoch + count):
        loader.epoch = epoch
        for index in range(len(loader)):
            ids += image_ids(loader[index])
    return ids


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 7), st.integers(1, 3), st.one_of(st.none(), st.integers(1, 4)))
def test_every_pass_holds_every_image_once(count, batch_size, steps):
    rng = np.random.default_rng(count)
    masks = np.ones((8, 8, 1), bool)
    dataset = Given(rng.integers(0, 255, (8, 8, 3)).astype(np.uint8), masks, [1])
    for i in range(1, count):
        dataset.add_image("given", i, path=None)
    dataset.prepare()

    class Tiny(Config):
        NUM_CLASSES = 4
        IMAGE_MIN_DIM = IMAGE_MAX_DIM = 64

    loader = BatchLoader(dataset, Tiny(), batch_size=batch_size, steps=steps)
    assert len(loader) == (steps or -(-count // batch_size))
    ids = epochs_of(loader, 3 + 2 * count // (len(loader) * batch_size))
    passes = [ids[i : i + count] for i in range(0, len(ids) - count + 1, count)]
    assert len(passes) >= 2
    assert all(sorted(one) == list(range(count)) for one in passes)


def test_passes_are_shuffled_anew_or_not_at_all(many, config):
    dataset = many(10)
    ids = epochs_of(BatchLoader(dataset, config), 3)
    passes = [tuple(ids[i : i + 10]) for i in (0, 10, 20)]
    assert len(set(passes)) == 3
    assert epochs_of(BatchLoader(dataset, config, seed=1), 1) != list(passes[0])
    assert epochs_of(BatchLoader(dataset, config, shuffle=False), 2) == list(range(10)) * 2


def test_a_run_resumes_where_it_stopped(many, config):
    dataset = many(7)
    whole = epochs_of(BatchLoader(dataset, config, steps=2), 5)
    assert epochs_of(BatchLoader(dataset, config, steps=2, initial_epoch=3), 2) == whole[12:]


def test_a_batch_depends_on_seed_epoch_and_index_only(many, make_config):
    dataset, config = many(9), make_config(IMAGE_RESIZE_MODE="crop", IMAGE_MIN_SCALE=1.5)
    augmenter = iaa.Affine(rotate=(-30, 30))

    def loader():
        return BatchLoader(dataset, config, augment=True, augmentation=augmenter, seed=4)

    in_order = [loader()[i] for i in range(5)]
    one = loader()
    assert_same_batches([one[i] for i in (3, 0, 4, 1, 2)], [in_order[i] for i in (3, 0, 4, 1, 2)])
    with ThreadPoolExecutor(4) as pool:
        assert_same_batches(pool.map(loader().__getitem__, range(5)), in_order)
    np.random.seed(0)
    assert_same_batches([loader()[i] for i in range(5)], in_order)


def test_a_batch_beyond_the_epoch(many, config):
    loader = BatchLoader(many(4), config)
    with pytest.raises(IndexError, match="no batch 2; an epoch has 2 batches"):
        loader[2]
    assert loader.failure is None
    assert len(list(loader)) == 2


@pytest.fixture
def two_sources(many):
    """Images 0 to 2 are of source "boxes", 3 to 5 of "coco"."""
    dataset = many(6)
    for image_id in (3, 4, 5):
        dataset.image_info[image_id]["source"] = "coco"
    for class_id in (1, 2, 3):
        dataset.class_info[class_id]["source"] = "coco" if class_id == 3 else "boxes"
    dataset.prepare()
    dataset.source_class_ids = dict.fromkeys(dataset.sources, [0, 1, 2, 3])
    return dataset


@pytest.mark.parametrize(
    "sources, augmented",
    [
        (None, {0, 1, 2, 3, 4, 5}),
        ([], {0, 1, 2, 3, 4, 5}),
        ("coco", {0, 1, 2}),
        (["coco"], {0, 1, 2}),
        (("coco", "boxes"), set()),
        ({"boxes": 1}.keys(), {3, 4, 5}),
    ],
)
def test_sources_without_augmentation(two_sources, config, warned, sources, augmented):
    options = dict(batch_size=1, shuffle=False)
    plain = BatchLoader(two_sources, config, **options)
    turned = BatchLoader(
        two_sources,
        config,
        augmentation=iaa.Affine(rotate=90),
        no_augmentation_sources=sources,
        **options,
    )
    different = {i for i in range(6) if (plain[i][0][0] != turned[i][0][0]).any()}
    assert different == augmented
    assert not warned()


@pytest.mark.parametrize("sources", ["cocoo", ["boxes", "cocoo"]])
def test_sources_that_no_image_has_are_named(two_sources, config, warned, sources):
    """They are no error: scripts for several data sets name the sources of all."""
    BatchLoader(two_sources, config, no_augmentation_sources=sources)
    (message,) = warned()
    assert "'cocoo', but no image is of this source" in message
    assert "are boxes, coco. Did you mean coco?" in message
    next(data_generator(two_sources, config, no_augmentation_sources=sources))
    assert len(warned()) == 2


@pytest.mark.parametrize("sources", [[1], [["coco"]], [None]])
def test_sources_that_are_no_text_are_refused(many, config, sources):
    with pytest.raises(ValueError, match="no_augmentation_sources has .* name of a source"):
        BatchLoader(many(2), config, no_augmentation_sources=sources)


@pytest.mark.parametrize("sources", ["boxes", ["boxes"]])
def test_the_generator_leaves_sources_alone_too(many, config, sources):
    turned = iaa.Affine(rotate=90)
    options = dict(shuffle=False, augmentation=turned, no_augmentation_sources=sources)
    inputs, _ = next(data_generator(many(2), config, **options))
    np.testing.assert_array_equal(inputs[0], BatchLoader(many(2), config)[0][0][0][:1])


# ---- Classes of training and validation ----------------------------------------------------


def classes(*names, source="it"):
    dataset = Dataset()
    for class_id, name in enumerate(names, start=1):
        dataset.add_class(source, class_id, name)
    dataset.prepare()
    return dataset


def test_the_same_classes_may_come_from_other_sources():
    check_same_classes(classes("apple", "pear"), None)
    check_same_classes(classes("apple", "pear"), classes("apple", "pear", source="other"))
    check_same_classes(classes("person, human"), classes("person"))


@pytest.mark.parametrize(
    "names, words",
    [
        (("pear", "apple"), "class 1 is 'apple' in the training set and 'pear' in the validation"),
        (("apple", "plum"), "class 2 is 'pear' in the training set and 'plum' in the validation"),
        (("apple",), "class 2 is 'pear' in the training set and missing in the validation"),
        (("apple", "pear", "plum"), "class 3 is missing in the training set and 'plum' in the"),
        (("Apple", "pear"), "class 1 is 'apple' in the training set and 'Apple' in the"),
    ],
)
def test_other_classes_are_refused_and_named(names, words):
    with pytest.raises(ValueError, match=words) as caught:
        check_same_classes(classes("apple", "pear"), classes(*names))
    text = str(caught.value)
    assert "The training set has apple, pear; the validation set has " + ", ".join(names) in text


def test_classes_of_an_unprepared_data_set():
    with pytest.raises(ValueError, match="not prepared; call prepare"):
        check_same_classes(classes("apple"), Dataset())


# ---- BatchLoader: bad images ---------------------------------------------------------------


def unreadable(dataset, bad):
    """The dataset with these images broken: `bad` is image id to exception."""
    load_image = dataset.load_image

    def load(image_id):
        if image_id in bad:
            raise bad[image_id]
        return load_image(image_id)

    dataset.load_image = load
    return dataset


def test_bad_images_are_named_once_and_replaced(boxes_dataset, config, warned):
    content = [[(1, BOX)] for _ in range(40)]
    content[3] = []
    content[8] = [(-1, BOX)]
    content[21] = [(9, BOX)]
    dataset = unreadable(boxes_dataset(content), {5: OSError("disk on fire")})
    loader = BatchLoader(dataset, config, seed=2)
    ids = epochs_of(loader, 3)
    assert len(ids) == 120
    good = set(range(40)) - {3, 5, 8, 21}
    assert set(ids) == good
    for start in (0, 40, 80):  # what is good comes every pass, stand-ins come on top
        assert set(ids[start : start + 40]) == good
    assert set(loader.skipped) == {3, 5, 8, 21}
    assert loader.skipped[5] == "OSError: disk on fire"
    assert "no objects" in loader.skipped[3] and "no objects" in loader.skipped[8]
    assert "class id 9" in loader.skipped[21]
    messages = warned()
    assert len(messages) == 3  # of the two without objects one
    assert "image 5 (boxes 5) is left out: OSError: disk on fire" in messages
    assert loader.failure is None


def test_stand_ins_do_not_depend_on_the_order_of_work(many, config):
    bad = {i: OSError("gone") for i in (2, 11, 17)}

    def loader():
        return BatchLoader(unreadable(many(30), bad), config, seed=1)

    in_order = [loader()[i] for i in range(15)]
    one = loader()
    one.epoch = 1
    _ = [one[i] for i in range(15)]  # by now it knows the bad ones
    one.epoch = 0
    assert_same_batches([one[i] for i in range(15)], in_order)
    with ThreadPoolExecutor(4) as pool:
        assert_same_batches(pool.map(loader().__getitem__, range(15)), in_order)


def test_bad_images_are_not_tried_again(many, config):
    tries = []
    dataset = unreadable(many(20), {4: OSError("gone")})
    load_image = dataset.load_image
    dataset.load_image = lambda i: (tries.append(i), load_image(i))[1]
    epochs_of(BatchLoader(dataset, config), 3)
    assert tries.count(4) == 1


@pytest.mark.parametrize("count, bad, share", [(40, 5, 0.1), (3, 2, 0.1), (10, 4, 0.3), (9, 2, 0)])
def test_too_many_bad_images_stop_the_run_with_their_list(many, config, count, bad, share):
    dataset = unreadable(many(count), {i: OSError(f"reason {i}") for i in range(bad)})
    loader = BatchLoader(dataset, config, max_bad_share=share, shuffle=False, batch_size=1)
    with pytest.raises(ValueError, match=f"{bad} of the .* has {count}") as caught:
        epochs_of(loader, 1)
    for i in range(bad):
        assert f"image {i} (boxes {i}): OSError: reason {i}" in str(caught.value)
    assert loader.failure is caught.value
    with pytest.raises(ValueError, match="cannot be trained on"):
        loader[count - 1]


@pytest.mark.parametrize("count, bad, share", [(40, 4, 0.1), (3, 1, 0.1), (10, 3, 0.3), (9, 8, 1)])
def test_a_few_bad_images_do_not(many, config, count, bad, share):
    dataset = unreadable(many(count), {i: OSError("gone") for i in range(bad)})
    ids = epochs_of(BatchLoader(dataset, config, max_bad_share=share, batch_size=1), 1)
    assert set(ids) == set(range(bad, count))


def test_any_number_of_images_may_have_no_objects(boxes_dataset, config, warned):
    content = [[(1, BOX)] if i % 5 == 0 else [] for i in range(40)]
    dataset = unreadable(boxes_dataset(content), {5: OSError("gone"), 15: OSError("gone")})
    loader = BatchLoader(dataset, config)
    assert set(epochs_of(loader, 2)) == set(range(0, 40, 5)) - {5, 15}
    assert len(loader.skipped) == 34
    assert sum("no objects" in message for message in warned()) == 1
    assert any("image 5 " in message for message in warned())


def test_images_without_objects_train_where_they_should(boxes_dataset, make_config, warned):
    config = make_config(TRAIN_EMPTY_IMAGES=True)
    dataset = boxes_dataset([[(1, BOX)] if i % 5 == 0 else [] for i in range(10)])
    loader = BatchLoader(dataset, config, batch_size=1, shuffle=False)
    assert epochs_of(loader, 1) == list(range(10))
    assert not loader.skipped and not warned()
    (_, _, rpn_match, rpn_bbox, class_ids, boxes, masks) = loader[1][0]
    assert (rpn_match == 1).sum() == 0
    assert (rpn_match == -1).sum() == config.RPN_TRAIN_ANCHORS_PER_IMAGE
    for array in (rpn_bbox, class_ids, boxes, masks):
        assert not array.any()


def test_empty_images_do_not_hide_bad_ones(boxes_dataset, config):
    content = [[(1, BOX)] if i % 2 else [] for i in range(40)]
    dataset = unreadable(boxes_dataset(content), {i: OSError("gone") for i in range(1, 11, 2)})
    loader = BatchLoader(dataset, config, max_bad_share=0.1)
    with pytest.raises(ValueError, match="5 of the .* images tried") as caught:
        epochs_of(loader, 1)
    assert len(str(caught.value).splitlines()) == 6 and "no objects" not in str(caught.value)


@pytest.mark.parametrize("count", [1, 2, 30])
def test_all_images_bad(boxes_dataset, config, count):
    loader = BatchLoader(boxes_dataset([[]] * count), config, max_bad_share=1)
    with pytest.raises(ValueError, match=f"{count} of the {count} .*(\n.*no objects.){{{count}}}"):
        loader[0]


def test_a_large_set_that_is_mostly_bad_stops_early(many, config):
    dataset = unreadable(many(500), {i: OSError("gone") for i in range(0, 500, 3)})
    dataset = unreadable(dataset, {i: OSError("gone") for i in range(1, 500, 3)})
    loader = BatchLoader(dataset, config, max_bad_share=0.5)
    with pytest.raises(ValueError, match="of the .* images tried"):
        epochs_of(loader, 1)
    assert len(loader.skipped) < 100


def test_a_long_list_is_cut(boxes_dataset, make_config):
    loader = BatchLoader(boxes_dataset([[]] * 80), make_config(), max_bad_share=0.9)
    with pytest.raises(ValueError) as caught:
        loader[0]
    assert len(str(caught.value).splitlines()) <= 52


class Code(Boxes):
    """A user's Dataset: `mistakes` is image id to what its load_mask does wrong."""

    def __init__(self, count, mistakes):
        super().__init__([[(1, BOX)]] * count)
        self.mistakes = mistakes

    def load_mask(self, image_id):
        masks, class_ids = super().load_mask(image_id)
        mistake = self.mistakes.get(image_id)
        return mistake(masks, class_ids) if mistake else (masks, class_ids)


def outside(masks, class_ids):
    """What skimage.draw.polygon without a shape leads to."""
    rows, columns = np.array([[30, 40], [10, 64]])
    masks[rows, columns, 0] = True
    return masks, class_ids


def exhausted(masks, class_ids):
    return next(iter([]))


MISTAKES = {
    "IndexError": (
        outside,
        r"IndexError: index 64 is out of bounds for axis 1 with size 64; .*skimage.*"
        r"shape=mask\.shape\[:2\]",
    ),
    "KeyError": (lambda m, c: {}["all_points_x"], "KeyError: 'all_points_x'"),
    "TypeError": (lambda m, c: (m + None, c), "TypeError: unsupported operand"),
    "AttributeError": (lambda m, c: m.polygons, "AttributeError: .*'polygons'"),
    "ValueError": (lambda m, c: (m, c.reshape(7, 7)), "ValueError: cannot reshape array"),
    "AssertionError": (lambda m, c: (_ for _ in ()).throw(AssertionError), "AssertionError$"),
    "ZeroDivisionError": (lambda m, c: (m, 1 // 0), "ZeroDivisionError: "),
    "StopIteration": (exhausted, "StopIteration$"),
    "MemoryError": (lambda m, c: (_ for _ in ()).throw(MemoryError("1 TB")), "MemoryError: 1 TB"),
    "nothing": (lambda m, c: None, "load_mask returned a NoneType; it must return two arrays"),
    "one array": (lambda m, c: m, "load_mask returned a ndarray; it must return two arrays"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_any_error_of_the_dataset_is_a_bad_image(config, warned, name):
    mistake, words = MISTAKES[name]
    dataset = Code(12, {3: mistake, 7: mistake})
    loader = BatchLoader(dataset, config)
    assert set(epochs_of(loader, 2)) == set(range(12)) - {3, 7}
    assert set(loader.skipped) == {3, 7}
    messages = warned()
    assert len(messages) == 2
    for message in messages:
        assert re.search(rf"^image [37] \(boxes [37]\) is left out: {words}", message)
    assert loader.failure is None


def test_an_error_of_load_image_is_a_bad_image_without_advice_about_drawing(many, config):
    error = IndexError("index 64 is out of bounds for axis 0 with size 64")
    loader = BatchLoader(unreadable(many(8), {2: error}), config)
    epochs_of(loader, 1)
    assert loader.skipped == {2: f"IndexError: {error}"}


@pytest.mark.parametrize(
    "text",
    [
        "list index out of range",
        "index 3 is out of bounds for axis 2 with size 3",
    ],
)
def test_other_index_errors_get_no_advice_about_drawing(config, text):
    def fail(masks, class_ids):
        raise IndexError(text)

    loader = BatchLoader(Code(8, {2: fail}), config)
    epochs_of(loader, 1)
    assert loader.skipped == {2: f"IndexError: {text}"}


@pytest.mark.parametrize("count", [1, 6, 500])
def test_a_mistake_that_hits_every_image_ends_the_run_with_its_traceback(config, count):
    dataset = Code(count, dict.fromkeys(range(count), lambda m, c: m.polygons))
    loader = BatchLoader(dataset, config, shuffle=False)
    with pytest.raises(ValueError, match=f"images tried cannot .* has {count}") as caught:
        loader[0]
    text = str(caught.value)
    assert len(loader.skipped) <= 20
    for i in loader.skipped:
        assert f"image {i} (boxes {i}): AttributeError: " in text
    assert text.count("Traceback (most recent call last)") == 1
    assert "in load_mask" in text and 'test_loader.py", line' in text
    assert loader.failure is caught.value


def test_files_that_are_missing_need_no_traceback(many, config):
    dataset = unreadable(many(4), {i: OSError("gone") for i in range(4)})
    with pytest.raises(ValueError, match="OSError: gone") as caught:
        BatchLoader(dataset, config)[0]
    assert "Traceback" not in str(caught.value)


def test_the_user_may_stop_in_load_mask(config):
    def stop(masks, class_ids):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        BatchLoader(Code(1, {0: stop}), config)[0]


@pytest.mark.parametrize("share, stops", [(0.2, True), (0.25, False)])
def test_the_share_of_bad_images_is_a_setting(many, make_config, share, stops):
    dataset = unreadable(many(20), {i: OSError("gone") for i in range(5)})
    loader = BatchLoader(dataset, make_config(MAX_BAD_IMAGE_SHARE=share))
    assert loader.max_bad_share == share
    if stops:
        with pytest.raises(ValueError, match="a share of 0.2 may be bad"):
            epochs_of(loader, 1)
    else:
        assert set(epochs_of(loader, 1)) == set(range(5, 20))
    assert BatchLoader(many(2), make_config()).max_bad_share == 0.2
    assert BatchLoader(many(2), make_config(), max_bad_share=0).max_bad_share == 0


def test_load_image_gt_raises_the_errors_of_the_dataset(config):
    with pytest.raises(KeyError, match="all_points_x"):
        load_image_gt(Code(1, {0: MISTAKES["KeyError"][0]}), config, 0)
    with pytest.raises(IndexError, match=r"axis 1 with size 64; .*shape=mask\.shape\[:2\]"):
        load_image_gt(Code(1, {0: outside}), config, 0)


# ---- Empty and large masks -----------------------------------------------------------------


NEGATIVES = {
    "class id 0": (np.zeros((64, 64, 1), bool), np.zeros(1, np.int32)),
    "class id 0, bytes": (np.zeros((64, 64, 1), np.uint8), np.zeros(1)),
    "unknown class id": (np.zeros((64, 64, 2), bool), [9, -1]),
    "no class id": (np.zeros((64, 64, 1)), [np.nan]),
    "no objects": (np.zeros((64, 64, 0)), []),
}


@pytest.mark.parametrize("name", NEGATIVES)
def test_negative_images_have_no_objects_whatever_their_class_id(
    boxes_dataset, config, warned, name
):
    dataset = boxes_dataset([[(1, BOX)] if i % 3 == 0 else [] for i in range(9)])
    load_mask = dataset.load_mask
    dataset.load_mask = lambda i: NEGATIVES[name] if i % 3 else load_mask(i)
    _, _, class_ids, boxes, masks = load_image_gt(dataset, config, 1)
    assert class_ids.shape == (0,) and boxes.shape == (0, 4) and masks.shape == (64, 64, 0)
    assert class_ids.dtype == np.int32
    loader = BatchLoader(dataset, config)
    assert set(epochs_of(loader, 2)) == {0, 3, 6}
    (message,) = warned()
    assert "it has no objects. So are all others without objects." in message


def test_an_empty_mask_of_class_0_beside_an_object(config):
    masks = np.zeros((8, 9, 3), bool)
    masks[2:5, 3:7, 1] = True
    dataset = Given(GOOD[0], masks, [0, 2, 0])
    _, _, class_ids, boxes, kept = load_image_gt(dataset, config, 0)
    assert list(class_ids) == [2] and kept.shape[2] == len(boxes) == 1


def test_a_mask_of_class_0_with_pixels_is_an_error(config):
    masks = np.zeros((8, 9, 2), bool)
    masks[2, 2, 0] = True
    with pytest.raises(ValueError, match="class id 0;"):
        load_image_gt(Given(GOOD[0], masks, [0, 0]), config, 0)


def without_pixels(dataset, which):
    load_mask = dataset.load_mask

    def load(image_id):
        masks, class_ids = load_mask(image_id)
        return (masks & (image_id not in which)), class_ids

    dataset.load_mask = load
    return dataset


def test_images_with_only_empty_masks_are_left_out_and_named_once(boxes_dataset, config, warned):
    content = [[(1, BOX)]] * 20
    content[4] = []
    dataset = without_pixels(boxes_dataset(content), {2, 7, 11, 12, 13, 14, 15, 16})
    loader = BatchLoader(dataset, config)
    assert set(epochs_of(loader, 2)) == {0, 1, 3, 5, 6, 8, 9, 10, 17, 18, 19}
    assert len(loader.skipped) == 9
    messages = warned()
    assert len(messages) == 2  # one image of each kind
    assert sum("its masks have no pixel" in message for message in messages) == 1
    assert sum("it has no objects" in message for message in messages) == 1


def test_only_empty_masks_in_the_whole_data_set(many, config):
    loader = BatchLoader(without_pixels(many(3), {0, 1, 2}), config)
    with pytest.raises(ValueError, match="3 of the 3 images tried") as caught:
        loader[0]
    assert str(caught.value).count("its masks have no pixel; check load_mask.") == 3
    assert "IMAGE_RESIZE_MODE" not in str(caught.value)


def test_images_with_only_empty_masks_train_as_images_without_objects(many, make_config, warned):
    config = make_config(TRAIN_EMPTY_IMAGES=True)
    loader = BatchLoader(without_pixels(many(6), {0, 2}), config, shuffle=False, batch_size=1)
    assert epochs_of(loader, 2) == [*range(6), *range(6)]
    assert not loader[0][0][4].any() and loader[1][0][4].any()
    messages = warned()
    assert len(messages) == 2 and all("its masks have no pixel" in m for m in messages)


def with_large_masks(dataset, below, right, where=None):
    """The dataset with masks that go on below and to the right of their images."""
    load_mask = dataset.load_mask

    def load(image_id):
        masks, class_ids = load_mask(image_id)
        if where is not None and image_id not in where:
            return masks, class_ids
        return np.pad(masks, [(0, below), (0, right), (0, 0)], mode="edge"), class_ids

    dataset.load_mask = load
    return dataset


@pytest.mark.parametrize("below, right", [(50, 50), (1, 0), (0, 7)])
def test_masks_larger_than_their_image_are_cut_to_it(many, config, warned, below, right):
    plain, large = many(6, shape=(64, 60)), with_large_masks(many(6, shape=(64, 60)), below, right)
    for one, other in zip(
        load_image_gt(plain, config, 1), load_image_gt(large, config, 1), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    (message,) = warned()
    size = f"{64 + below}x{60 + right}"
    assert f"image 1 (boxes 1) has masks of {size} pixels for an image of 64x60" in message
    loaders = [BatchLoader(dataset, config) for dataset in (plain, large)]
    assert_same_batches(*([loader[i] for i in range(3)] for loader in loaders))
    epochs_of(loaders[1], 2)
    assert len(warned()) == 7  # each image once
    assert not loaders[1].skipped


def test_an_object_beside_its_image_is_dropped(config):
    masks = np.zeros((20, 20, 2), bool)
    masks[9:, :, 0] = masks[2:5, 2:5, 1] = True
    _, _, class_ids, _, kept = load_image_gt(Given(GOOD[0], masks, [1, 2]), config, 0)
    assert list(class_ids) == [2] and kept.any()


@pytest.mark.parametrize("shape", [(9, 8, 2), (7, 100, 2), (100, 8, 2), (7, 9, 2), (8, 8, 2)])
def test_masks_smaller_than_their_image_are_an_error(config, shape):
    with pytest.raises(ValueError, match="masks of shape .* for an image of 8x9"):
        load_image_gt(Given(GOOD[0], np.ones(shape, bool), [1, 2]), config, 0)


def test_warnings_of_one_kind_end_after_fifty(many, config, warned):
    dataset = with_large_masks(many(70), 3, 0, where=set(range(10, 70)))
    epochs_of(BatchLoader(dataset, config), 1)
    messages = warned()
    assert len(messages) == 51 and len(set(messages)) == 51
    assert messages[-1] == "Further images with large masks are not named."


# ---- Augmentation --------------------------------------------------------------------------


def test_an_augmenter_that_cannot_work_is_no_bad_image(many, config):
    loader = BatchLoader(many(4), config, augmentation=iaa.Crop(px=4, keep_size=False))
    with pytest.raises(ValueError, match="augmentation made a uint8 image"):
        loader[0]
    assert not loader.skipped


def test_objects_lost_to_a_crop_are_stood_in_for(make_config, boxes_dataset, warned):
    config = make_config(IMAGE_RESIZE_MODE="crop")
    corner, everywhere = [(1, (0, 0, 8, 8))], [(2, (0, 0, 256, 256))]
    dataset = boxes_dataset([corner, everywhere, corner], shape=(256, 256))
    loader = BatchLoader(dataset, config, batch_size=1)
    batches = [loader[0]]
    for loader.epoch in range(1, 6):
        batches += [loader[index] for index in range(3)]
    assert all((batch[0][4] > 0).any() for batch in batches)
    assert not loader.skipped
    assert 1 <= len(warned()) <= 2 and "no object left after resizing" in warned()[0]


def test_no_object_anywhere_survives_the_augmentation(many, config):
    loader = BatchLoader(many(3), config, augmentation=iaa.Affine(translate_px=1000))
    with pytest.raises(ValueError, match="no image has an object left.*augmenter"):
        loader[0]


# ---- BatchLoader in fit --------------------------------------------------------------------


class Spy(keras.Model):
    """A model that only notes which images each training step sees."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def train_step(self, data):
        (inputs,) = data
        self.seen.append([int(i) for i in np.array(inputs[1])[:, 0]])
        return {"loss": np.float32(0)}

    def test_step(self, data):
        return {"loss": np.float32(0)}


def fit(loader, epochs, **options):
    spy = Spy()
    spy.compile(run_eagerly=True)
    spy.fit(loader, epochs=epochs, shuffle=False, verbose=0, **options)
    return spy.seen


@pytest.mark.parametrize("workers", [1, 4])
def test_fit_sees_every_image_once_an_epoch(many, config, workers):
    dataset = many(10)
    loader = BatchLoader(dataset, config, workers=workers)
    seen = fit(loader, 3, validation_data=BatchLoader(dataset, config, steps=1, workers=workers))
    assert loader.epoch == 3
    expected = epochs_of(BatchLoader(dataset, config), 3)
    assert [i for batch in seen for i in batch] == expected
    assert fit(loader, 1) == [
        epochs_of(BatchLoader(dataset, config, initial_epoch=3), 1)[i : i + 2]
        for i in range(0, 10, 2)
    ]


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("error", [AttributeError, OSError])
def test_an_error_in_a_worker_reaches_fit(many, config, workers, error):
    dataset = unreadable(many(20), {i: error(f"reason {i}") for i in range(10, 20)})
    loader = BatchLoader(dataset, config, workers=workers, shuffle=False)
    with pytest.raises(Exception, match="reason 1") as caught:
        fit(loader, 2)
    assert loader.failure is not None
    assert type(loader.failure) is ValueError
    assert "reason 1" in str(caught.value)


def test_a_dataset_defined_in_a_notebook_works(config):
    namespace = {}
    exec(
        "from mrcnn.data.dataset import Dataset\n"
        "import numpy as np\n"
        "class Local(Dataset):\n"
        "    def load_image(self, image_id): return np.ones((64, 64, 3), np.uint8)\n"
        "    def load_mask(self, image_id): return np.ones((64, 64, 1), bool), [1]\n",
        namespace,
    )
    dataset = namespace["Local"]()
    for class_id in (1, 2, 3):
        dataset.add_class("local", class_id, str(class_id))
    for image_id in range(4):
        dataset.add_image("local", image_id, path=None)
    dataset.prepare()
    assert len(fit(BatchLoader(dataset, config, workers=2), 2)) == 4


# ---- data_generator ------------------------------------------------------------------------


def test_the_generator_yields_the_loaders_batches_for_ever(many, config):
    dataset = many(4)
    np.random.seed(7)
    generator = data_generator(dataset, config, batch_size=2)
    ids = []
    for _ in range(6):
        inputs, outputs = next(generator)
        assert len(inputs) == 7 and outputs == []
        ids += [int(i) for i in inputs[1][:, 0]]
    assert [sorted(ids[i : i + 4]) for i in (0, 4, 8)] == [[0, 1, 2, 3]] * 3
    np.random.seed(7)
    again = next(data_generator(dataset, config, batch_size=2))[0]
    np.random.seed(7)
    first = next(data_generator(dataset, config, batch_size=2))[0]
    for array1, array2 in zip(first, again, strict=True):
        np.testing.assert_array_equal(array1, array2)
    assert next(data_generator(dataset, config))[0][0].shape[0] == 1
    ordered = data_generator(dataset, config, shuffle=False)
    assert [int(next(ordered)[0][1][0, 0]) for _ in range(5)] == [0, 1, 2, 3, 0]


@pytest.mark.parametrize("use_mini_mask", [True, False])
def test_random_rois_and_detection_targets(many, make_config, use_mini_mask):
    config = make_config(USE_MINI_MASK=use_mini_mask)
    inputs, outputs = next(data_generator(many(4), config, random_rois=50, batch_size=2))
    assert len(inputs) == 8 and outputs == []
    assert inputs[7].shape == (2, 50, 4) and inputs[7].dtype == np.int32

    generator = data_generator(
        many(4), config, random_rois=50, batch_size=2, detection_targets=True
    )
    inputs, (class_ids, deltas, masks) = next(generator)
    assert inputs[8].shape == (2, 20, 4)
    assert class_ids.shape == (2, 20, 1) and class_ids.any()
    assert deltas.shape == (2, 20, 4, 4) and masks.shape == (2, 20, 14, 14, 4)
    with pytest.raises(ValueError, match="detection_targets are made for random_rois, which is 0"):
        data_generator(many(4), config, detection_targets=True)


def test_anchors_are_those_of_the_image(many, config):
    rpn_match = BatchLoader(many(2), config)[0][0][2]
    assert rpn_match.shape == (2, len(pyramid_anchors(config, (64, 64, 3))), 1)
