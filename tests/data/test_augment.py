"""Augmentation: image and masks move together, colours change the image only."""

import copy
import io
import subprocess
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import albumentations as A
import cv2
import imgaug.augmenters as iaa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from scipy import ndimage

from mrcnn.data.augment import (
    augment,
    check_augmentation,
    pack_masks,
    unpack_masks,
)
from mrcnn.data.loader import BatchLoader, load_image_gt

# imaug's PiecewiseAffine calls what scikit-image 0.26 calls outdated.
pytestmark = pytest.mark.filterwarnings("ignore:`estimate` is deprecated:FutureWarning")

ARCHIVE = Path(__file__).parents[2] / "samples/nucleus/nuclei_small.tar.gz"
STAINED = "7773ac91af61"  # how the name of the image begins


def turn(image, masks, rng):
    """A user's function: quarter turns, then gains."""
    turns = int(rng.integers(1, 4))
    image = np.clip(np.rot90(image, turns) * rng.uniform(0.8, 1.2), 0, 255).astype(image.dtype)
    return np.ascontiguousarray(image), np.ascontiguousarray(np.rot90(masks, turns))


def roll_image(image, masks, rng):
    return np.roll(image, 6, axis=1), masks


def roll_masks(image, masks, rng):
    return image, np.roll(masks, 6, axis=1)


def mix_up(image, masks, rng):
    """Moves both, and gives the objects each other's masks."""
    return image[::-1].copy(), np.roll(masks[::-1], 1, axis=2)


IMGAUG_MOVING = {
    "flip": iaa.Fliplr(1),
    "flip upside down": iaa.Flipud(1),
    "quarter turns": iaa.Rot90((1, 3), keep_size=True),
    "affine": iaa.Affine(scale=(0.8, 1.2), rotate=(-45, 45), shear=(-8, 8)),
    "crop": iaa.Crop(percent=(0.05, 0.2)),
    "crop of fixed size": iaa.KeepSizeByResize(iaa.CropToFixedSize(160, 200)),
    "pad": iaa.Pad(percent=(0.05, 0.2)),
    "crop and pad": iaa.CropAndPad(percent=(-0.2, 0.2)),
    "perspective": iaa.PerspectiveTransform(scale=(0.05, 0.1)),
    "piecewise": iaa.PiecewiseAffine(scale=0.02),
    "elastic": iaa.ElasticTransformation(alpha=30, sigma=6),
    "polar": iaa.WithPolarWarping(iaa.Affine(rotate=20)),
    "jigsaw": iaa.Jigsaw(nb_rows=4, nb_cols=4),
    "sometimes crop": iaa.Sometimes(0.99, iaa.Crop(percent=(0.05, 0.2))),
    "nested": iaa.Sequential(
        [
            iaa.Sometimes(0.5, iaa.Affine(rotate=90), iaa.Flipud(1)),
            iaa.SomeOf(1, [iaa.Fliplr(1), iaa.Affine(translate_px=9)]),
            iaa.OneOf([iaa.Affine(scale=0.7), iaa.Crop(percent=0.1)]),
            iaa.OneOf([iaa.Multiply((0.7, 0.9)), iaa.GaussianBlur(0.5)]),
        ],
        random_order=True,
    ),
}
ALBUMENTATIONS_MOVING = {
    "A flip": A.HorizontalFlip(p=1),
    "A D4": A.D4(p=1),
    "A rotate": A.Rotate(45, p=1),
    "A safe rotate": A.SafeRotate(45, p=1),
    "A affine": A.Affine(scale=(0.8, 1.2), rotate=(-45, 45), shear=(-8, 8), p=1),
    "A reflecting": A.Affine(translate_percent=(0.2, 0.3), border_mode=cv2.BORDER_REFLECT_101, p=1),
    "A wrapping": A.Rotate((30, 60), border_mode=cv2.BORDER_WRAP, p=1),
    "A crop": A.RandomResizedCrop((256, 256), scale=(0.3, 0.9), p=1),
    "A crop and pad": A.CropAndPad(percent=(-0.2, 0.2), p=1),
    "A crop, then resize": A.Compose([A.RandomCrop(180, 200), A.Resize(256, 256)]),
    "A pad, then crop": A.Compose([A.Pad(40), A.RandomCrop(256, 256)]),
    "A perspective": A.Perspective(p=1),
    "A elastic": A.ElasticTransform(alpha=200, sigma=8, p=1),
    "A grid distortion": A.GridDistortion(p=1),
    "A optical distortion": A.OpticalDistortion(p=1),
    "A thin plates": A.ThinPlateSpline(p=1),
    "A shuffled grid": A.RandomGridShuffle((4, 4), p=1),
    "A dropped objects": A.Compose([A.MaskDropout((9, 9), p=1)]),
    "A holes in both": A.CoarseDropout((9, 9), (30, 50), (30, 50), fill=0, fill_mask=0, p=1),
    "A crop where objects are": A.Compose(
        [A.CropNonEmptyMaskIfExists(128, 128), A.Resize(256, 256)]
    ),
    "A nested": A.Compose(
        [
            A.OneOf([A.HorizontalFlip(p=1), A.Affine(rotate=(-30, 30), p=1)], p=0.99),
            A.SomeOf([A.Transpose(p=1), A.VerticalFlip(p=1), A.RandomRotate90(p=1)], n=2),
            A.RandomOrder([A.RandomGamma(p=1), A.Sequential([A.GaussianBlur((3, 3))])], n=2),
        ]
    ),
}
LOOKING_AT_ALL = ("A dropped objects", "A crop where objects are")
MOVING = {**IMGAUG_MOVING, **ALBUMENTATIONS_MOVING, "function": turn}

COLOURING = {
    "blur": iaa.GaussianBlur(1),
    "noise": iaa.AdditiveGaussianNoise(scale=20),
    "brightness": iaa.Multiply((0.5, 0.9)),
    "contrast": iaa.LinearContrast(0.5),
    "colours": iaa.AddToHueAndSaturation((30, 60)),
    "dropout": iaa.CoarseDropout(0.2, size_percent=0.1),
    "cutout": iaa.Cutout(nb_iterations=2),
    "nested": iaa.Sometimes(1, iaa.OneOf([iaa.Invert(1), iaa.Posterize(nb_bits=3)])),
    "A blur": A.GaussianBlur((3, 5), p=1),
    "A noise": A.GaussNoise(p=1),
    "A brightness": A.RandomBrightnessContrast((0.1, 0.2), p=1),
    "A colours": A.HueSaturationValue((10, 20), p=1),
    "A equalised": A.CLAHE(p=1),
    "A compressed": A.ImageCompression(quality_range=(40, 60), p=1),
    "A holes": A.CoarseDropout((5, 9), (20, 30), (20, 30), p=1),
    "A nested": A.OneOf([A.InvertImg(p=1), A.Compose([A.ToGray(p=1)])], p=1),
    "function": lambda image, masks, rng: (255 - image, masks),
}
BORDERS = {
    "imgaug": iaa.Affine(translate_px={"x": 20}, mode="reflect"),
    "A constant": A.Affine(translate_px={"x": 20, "y": 0}, p=1),
    "A filled": A.Affine(translate_px={"x": 20, "y": 0}, fill=255, fill_mask=1, p=1),
}


@pytest.fixture(scope="module")
def nuclei():
    """A stained tissue section: image `[256, 256, 3]` uint8, masks `[256, 256, 35]` bool."""
    files = {}
    with tarfile.open(ARCHIVE) as archive:
        for member in archive:
            if STAINED in member.name and member.isfile():
                content = archive.extractfile(member).read()
                files[member.name] = Image.open(io.BytesIO(content))
    is_mask = {name: "/masks/" in name for name in files}
    (image,) = (np.array(file.convert("RGB")) for name, file in files.items() if not is_mask[name])
    masks = [np.array(file) > 0 for name, file in files.items() if is_mask[name]]
    masks = np.stack(masks, axis=2)[:256, :256]
    return image[:256, :256], masks[:, :, masks.any(axis=(0, 1))]


@pytest.fixture(scope="module")
def painted(nuclei):
    """The same with a red that is full on objects and a green that is full on every other one."""
    image, masks = nuclei
    image = image.copy()
    image[:, :, 0] = 255 * masks.any(axis=2)
    image[:, :, 1] = 255 * masks[:, :, ::2].any(axis=2)
    return image, masks


def scene():
    """A black image with three white shapes, two of which overlap, and their masks."""
    y, x = np.mgrid[:256, :256] * 3 / 8
    masks = np.stack(
        [
            (y - 40) ** 2 + (x - 36) ** 2 < 20**2,
            (y - 50) ** 2 + (x - 52) ** 2 < 15**2,
            (abs(y - 70) < 10) & (abs(x - 25) < 14),
        ],
        axis=2,
    )
    image = np.where(masks.any(axis=2), 255, 0)[:, :, None].repeat(3, axis=2).astype(np.uint8)
    return image, masks


def overlap(a, b):
    return (a & b).sum() / (a | b).sum()


def painted_overlap(image, masks, augmenter, seed):
    """IoU of paint and masks, of all objects and of every other one, after the augmenter.

    Half of the brightest is taken for paint, which changes of brightness leave as it is.
    """
    image, masks = augment(image, masks, augmenter, np.random.default_rng(seed))
    red, green = (image[:, :, k] > image[:, :, k].max() / 2 for k in (0, 1))
    return overlap(red, masks.any(axis=2)), overlap(green, masks[:, :, ::2].any(axis=2))


def best_shift(image, masks, reach=4):
    """The shift of the masks' outline, (dy, dx) pixels, at which it meets the steepest edges."""
    gray = ndimage.gaussian_filter(image.astype(float).mean(axis=2), 1)
    steepness = np.minimum(np.hypot(*np.gradient(gray)), 20)  # a hole's edge is not to outweigh
    inside = np.stack([ndimage.binary_erosion(mask) for mask in np.moveaxis(masks, 2, 0)], axis=2)
    outline = (masks & ~inside).any(axis=2)
    span = range(-reach, reach + 1)
    shifts = [(dy, dx) for dy in span for dx in span]
    return max(shifts, key=lambda shift: steepness[np.roll(outline, shift, axis=(0, 1))].mean())


# The objects are 20 pixels across: masks half a pixel beside the image give 0.89 to 0.94. The
# distortion shifts by half a pixel nearly everywhere, where rounding and averaging differ most.
LOOSER = {"A optical distortion": 0.9}


@pytest.mark.parametrize("name", MOVING)
@pytest.mark.parametrize("seed", range(2))
def test_image_and_masks_move_together(painted, name, seed):
    image, masks = painted
    assert min(painted_overlap(image, masks, MOVING[name], seed)) > LOOSER.get(name, 0.95)
    moved, moved_masks = augment(image, masks, MOVING[name], np.random.default_rng(seed))
    assert moved.shape == image.shape and moved.dtype == image.dtype
    assert moved_masks.shape == masks.shape and moved_masks.dtype == bool
    assert overlap(moved_masks.any(axis=2), masks.any(axis=2)) < 0.9  # it did move
    assert moved_masks.any(axis=(0, 1)).mean() > 0.2  # and did not just empty everything


@pytest.mark.parametrize("broken", [roll_image, roll_masks, mix_up])
def test_the_test_above_sees_what_does_not_move_together(painted, broken):
    assert min(painted_overlap(*painted, lambda *both: both[:2], 0)) == 1
    assert min(painted_overlap(*painted, broken, 0)) < 0.6


@pytest.mark.parametrize("name", COLOURING)
def test_colours_leave_the_masks_alone(nuclei, name):
    image, masks = nuclei
    original = image.copy()
    coloured, same = augment(image, masks, COLOURING[name], np.random.default_rng(0))
    np.testing.assert_array_equal(same, masks)
    assert (coloured != original).any(axis=2).mean() > 0.01
    np.testing.assert_array_equal(image, original)
    dy, dx = best_shift(coloured, same)
    assert abs(dy) <= 1 and abs(dx) <= 1


@pytest.mark.parametrize("broken", [roll_image, roll_masks])
def test_the_test_above_sees_a_shift(nuclei, broken):
    both = augment(*nuclei, broken, np.random.default_rng(0))
    dy, dx = best_shift(*both, reach=8)
    assert abs(dx) >= 5 and abs(dy) <= 1


@pytest.mark.parametrize("name", BORDERS)
def test_masks_are_empty_beyond_the_border(name):
    image, masks = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64, 2), bool)
    masks[10:30, 0:30, 0] = masks[40:60, 5:30, 1] = True
    moved = augment(image, masks, BORDERS[name], np.random.default_rng(0))[1]
    assert not moved[:, :19].any()
    np.testing.assert_array_equal(moved[:, 21:], masks[:, 1:44])


def test_reflected_images_have_reflected_objects_with_albumentations():
    image, masks = scene()
    mirror = A.Affine(translate_px={"x": 120, "y": 0}, border_mode=cv2.BORDER_REFLECT_101, p=1)
    image, moved = augment(image, masks, mirror, np.random.default_rng(0))
    assert moved[:, :120].any()
    assert overlap(image[:, :, 0] > 127, moved.any(axis=2)) > 0.98


@pytest.mark.parametrize("fill_mask", [0, 1, 255])
def test_holes_in_masks_if_wanted(fill_mask):
    """Label 1 is an object to us and a value to paint with to albumentations."""
    image, masks = np.full((64, 64, 3), 99, np.uint8), np.ones((64, 64, 3), bool)
    holes = A.CoarseDropout((1, 1), (20, 20), (20, 20), fill=0, fill_mask=fill_mask, p=1)
    image, masks = augment(image, masks, A.Sequential([holes]), np.random.default_rng(0))
    hole = (image == 0).all(axis=2)
    assert hole.sum() == 400
    for i in range(3):
        np.testing.assert_array_equal(masks[:, :, i], ~hole)


def test_labels_are_not_averaged():
    """A pipeline that smooths masks would make a border of object 2 beside object 3."""
    y, x = np.mgrid[:64, :64]
    masks = np.stack([x < 8, (x >= 12) & (x < 20), x >= 40], axis=2)
    image = masks.any(axis=2)[:, :, None].repeat(3, axis=2).astype(np.uint8)
    smooth = A.Compose(
        [A.Affine(scale=0.8, mask_interpolation=1, p=1), A.Resize(64, 64, mask_interpolation=1)],
        mask_interpolation=cv2.INTER_LINEAR,
    )
    moved = augment(image, masks, smooth, np.random.default_rng(0))[1]
    columns = [np.flatnonzero(moved[32, :, i]) for i in range(3)]
    assert all((np.diff(where) == 1).all() for where in columns)
    assert columns[0][-1] < columns[1][0] and columns[1][-1] < columns[2][0]


@pytest.mark.parametrize("name", [name for name in MOVING if name not in LOOKING_AT_ALL])
def test_each_object_moves_as_it_would_alone(name):
    """Objects share label images; one by one they must give the same."""
    image, masks = scene()
    together = augment(image, masks, MOVING[name], np.random.default_rng(4))[1]
    for i in range(masks.shape[2]):
        alone = augment(image, masks[:, :, i : i + 1], MOVING[name], np.random.default_rng(4))[1]
        np.testing.assert_array_equal(together[:, :, i], alone[:, :, 0])


@pytest.mark.parametrize("augmenter", [iaa.Crop(px=16), A.CropAndPad(px=-16, p=1)])
def test_hundreds_of_objects(augmenter):
    masks = np.zeros((256, 256, 400), bool)
    for i in range(400):
        y, x = 12 * (i // 20), 12 * (i % 20)
        masks[y : y + 13, x : x + 13, i] = True  # each overlaps its neighbours
    image = np.zeros((256, 256, 3), np.uint8)
    moved = augment(image, masks, augmenter, np.random.default_rng(1))[1]
    alone = augment(image, masks[:, :, 210:211], augmenter, np.random.default_rng(1))[1]
    assert moved.shape == masks.shape and alone.any()
    np.testing.assert_array_equal(moved[:, :, 210], alone[:, :, 0])


@pytest.mark.parametrize(
    "augmenter",
    [iaa.Affine(rotate=(-90, 90)), A.Compose([A.Rotate(90, p=1)], seed=3), turn],
    ids=["imgaug", "albumentations", "function"],
)
def test_the_generator_decides(nuclei, augmenter):
    image, masks = nuclei
    first, again, other = (
        augment(image, masks, augmenter, np.random.default_rng(seed)) for seed in (1, 1, 4)
    )
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize(
    "flips",
    [
        iaa.Sequential([iaa.Fliplr(0.5), iaa.Flipud(0.5)]),
        A.Compose([A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)]),
        A.Compose([A.Compose([A.HorizontalFlip(p=0.5)]), A.VerticalFlip(p=0.5)], seed=1),
    ],
)
def test_transforms_of_a_pipeline_are_drawn_independently(flips):
    image = np.arange(4, dtype=np.uint8).reshape(2, 2, 1)
    rng = np.random.default_rng(0)
    none = np.zeros((2, 2, 0), bool)
    drawn = {augment(image, none, flips, rng)[0].tobytes() for _ in range(60)}
    assert len(drawn) == 4


def test_the_callers_augmenter_is_not_touched():
    image, masks = scene()
    augmenter = iaa.Sequential([iaa.Affine(rotate=(-90, 90)), iaa.Fliplr(0.5)], seed=7)
    before = copy.deepcopy(augmenter)
    original = image.copy()
    augment(image, masks, augmenter, np.random.default_rng(0))
    np.testing.assert_array_equal(image, original)
    np.testing.assert_array_equal(augmenter(image=image), before(image=image))


def test_the_callers_pipeline_is_not_touched():
    image, masks = scene()
    pipeline = A.Compose(
        [A.CropAndPad(percent=(-0.2, 0.2), fill_mask=7, mask_interpolation=1, p=1), A.D4(p=1)],
        seed=7,
        bbox_params=A.BboxParams("coco", label_fields=["labels"]),
    )
    before = copy.deepcopy(pipeline)
    augment(image, masks, pipeline, np.random.default_rng(0))
    boxes = {"bboxes": [[1, 2, 30, 40]], "labels": [5]}
    left, right = (
        p(image=image, mask=masks[:, :, 0] * np.uint8(9), **boxes) for p in (pipeline, before)
    )
    for name in ("image", "mask", "bboxes"):
        np.testing.assert_array_equal(left[name], right[name])


def test_a_function_may_write_into_what_it_gets():
    image, masks = scene()
    kept_image, kept_masks = image.copy(), masks.copy()

    def darken(image, masks, rng):
        image //= 2
        masks[:] = False
        return image, masks

    dark, none = augment(image, masks, darken, np.random.default_rng(0))
    assert dark.max() == 127 and not none.any()
    np.testing.assert_array_equal(image, kept_image)
    np.testing.assert_array_equal(masks, kept_masks)


@pytest.mark.parametrize("name", ["nested", "A nested", "A elastic", "function"])
def test_threads_do_not_meet(name):
    image, masks = scene()
    augmenter = MOVING[name]

    def run(seed):
        return augment(image, masks, augmenter, np.random.default_rng(seed))

    alone = [run(seed) for seed in range(12)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(run, range(12)))
    for (image1, masks1), (image2, masks2) in zip(alone, together, strict=True):
        np.testing.assert_array_equal(image1, image2)
        np.testing.assert_array_equal(masks1, masks2)


AWAY = {
    "imgaug": iaa.Affine(translate_px={"x": 40}),
    "albumentations": A.Affine(translate_px={"x": 40, "y": 0}, p=1),
    "function": lambda image, masks, rng: tuple(
        np.pad(array, [(0, 0), (40, 0), (0, 0)])[:, :-40] for array in (image, masks)
    ),
}


@pytest.mark.parametrize("library", AWAY)
def test_objects_that_leave_the_image_are_dropped_with_their_class(
    boxes_dataset, make_config, library
):
    """By the loader, and their boxes follow from the masks."""
    dataset = boxes_dataset([[(1, (10, 40, 30, 60)), (3, (5, 2, 25, 20)), (2, (30, 10, 60, 34))]])
    config = make_config(IMAGE_RESIZE_MODE="square")
    rng = np.random.default_rng(0)
    image, _, class_ids, boxes, masks = load_image_gt(
        dataset, config, 0, augmentation=AWAY[library], rng=rng
    )
    assert class_ids.tolist() == [3, 2] and masks.shape == (64, 64, 2)
    assert abs(boxes - [[5, 42, 25, 60], [30, 50, 60, 64]]).max() <= 1
    assert overlap(image[:, :, 1] > 127, masks.any(axis=2)) > 0.95


@pytest.mark.parametrize("name", ["nested", "A nested", "function"])
def test_batches_do_not_depend_on_the_threads_that_make_them(many, config, name):
    def batches(workers):
        loader = BatchLoader(many(8), config, augmentation=MOVING[name], seed=1)
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(loader.__getitem__, range(len(loader))))

    if name == "A nested":
        assert isinstance(MOVING[name], A.Compose)
    for (one,), (four,) in zip(batches(1), batches(4), strict=True):
        for left, right in zip(one, four, strict=True):
            np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("flip", [iaa.Fliplr(1), A.HorizontalFlip(p=1)])
@pytest.mark.parametrize("channels", [1, 3, 4, 6])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_channels_and_pixel_types(flip, channels, dtype):
    image = np.linspace(0, 255, 32 * 40 * channels).reshape(32, 40, channels).astype(dtype)
    masks = np.zeros((32, 40, 2), bool)
    masks[:, :10, 0] = True
    moved, moved_masks = augment(image, masks, flip, np.random.default_rng(0))
    assert moved.dtype == dtype
    np.testing.assert_allclose(moved, image[:, ::-1], rtol=1e-6)
    np.testing.assert_array_equal(moved_masks, masks[:, ::-1])


@pytest.mark.parametrize("name", [n for n in ALBUMENTATIONS_MOVING if n != "A nested"])
@pytest.mark.parametrize("channels", [1, 5])
def test_albumentations_keeps_unusual_channels(painted, name, channels):
    image, masks = painted
    image = image[:, :, :1].repeat(channels, axis=2)
    moved, moved_masks = augment(image, masks, MOVING[name], np.random.default_rng(0))
    assert moved.shape == image.shape
    assert overlap(moved[:, :, -1] > 127, moved_masks.any(axis=2)) > 0.9


def test_float_images_are_0_to_255_on_both_sides_of_albumentations():
    """Its floats are 0..1: brighter by 0.2 is brighter by 51, and nothing is cut off at 1."""
    image = np.full((16, 16, 3), 100, np.float32)
    masks = np.zeros((16, 16, 0), bool)
    brighter = A.RandomBrightnessContrast((0.2, 0.2), (0, 0), p=1)
    bright = augment(image, masks, brighter, np.random.default_rng(0))[0]
    np.testing.assert_allclose(bright, 151, rtol=1e-5)


@pytest.mark.parametrize("name", MOVING)
def test_no_objects(nuclei, name):
    image, masks = nuclei
    moved, none = augment(image, masks[:, :, :0], MOVING[name], np.random.default_rng(0))
    assert moved.shape == image.shape
    assert none.shape == (256, 256, 0) and none.dtype == bool


def test_an_empty_mask_stays_empty():
    image, masks = scene()
    masks[:, :, 1] = False
    for augmenter in (iaa.Fliplr(1), A.HorizontalFlip(p=1), turn):
        moved = augment(image, masks, augmenter, np.random.default_rng(0))[1]
        assert moved.any(axis=(0, 1)).tolist() == [True, False, True]


BOX_PARAMS = {
    "labels": A.BboxParams("coco", label_fields=["class_labels"], min_visibility=0.3),
    "no labels": A.BboxParams("yolo"),
}


@pytest.mark.parametrize("params", BOX_PARAMS)
@pytest.mark.parametrize(
    "transform", [A.RandomSizedBBoxSafeCrop(256, 256, p=1), A.BBoxSafeRandomCrop(p=1)]
)
def test_pipelines_with_boxes_of_their_own(params, transform):
    """Transforms that keep all boxes inside get them from the masks."""
    pipeline = A.Compose(
        [A.Affine(rotate=(5, 10), p=1), transform, A.Resize(256, 256)],
        bbox_params=BOX_PARAMS[params],
        keypoint_params=A.KeypointParams("xy", label_fields=["names"]),
        additional_targets={"image2": "image"},
        strict=True,
    )
    image, masks = scene()
    masks = np.concatenate([masks, np.zeros_like(masks[:, :, :1])], axis=2)
    for seed in range(5):
        moved, moved_masks = augment(image, masks, pipeline, np.random.default_rng(seed))
        assert overlap(moved[:, :, 0] > 127, moved_masks.any(axis=2)) > 0.95
        assert moved_masks.any(axis=(0, 1)).tolist() == [True, True, True, False]
        assert moved_masks.mean() > masks.mean()  # cropped, so larger


def test_boxes_of_no_objects():
    crop = A.RandomSizedBBoxSafeCrop(64, 64, p=1)
    pipeline = A.Compose([crop], bbox_params=A.BboxParams("coco", label_fields=["labels"]))
    image = np.zeros((64, 64, 3), np.uint8)
    none = augment(image, np.zeros((64, 64, 0), bool), pipeline, np.random.default_rng(0))[1]
    assert none.shape == (64, 64, 0)


def test_what_albumentations_asks_for_in_vain():
    with pytest.raises(ValueError, match="pipeline asks for 'bboxes'; it gets .* bbox_params"):
        augment(*scene(), A.RandomSizedBBoxSafeCrop(256, 256, p=1), np.random.default_rng(0))


def test_a_pipeline_that_keeps_a_replay():
    image, masks = scene()
    replay = A.ReplayCompose([A.HorizontalFlip(p=1)])
    moved, moved_masks = augment(image, masks, replay, np.random.default_rng(0))
    np.testing.assert_array_equal(moved, image[:, ::-1])
    np.testing.assert_array_equal(moved_masks, masks[:, ::-1])


def test_a_view_may_be_augmented():
    for flip in (iaa.Fliplr(1), A.HorizontalFlip(p=1)):
        image, masks = (array[:, ::-1] for array in scene())
        moved, moved_masks = augment(image, masks, flip, np.random.default_rng(0))
        np.testing.assert_array_equal(moved, scene()[0])
        np.testing.assert_array_equal(moved_masks, scene()[1])


def test_maps_may_be_resized_by_a_share():
    """imgaug's own augmenters name pixels, a user's Lambda may not."""
    halve_and_double = iaa.Lambda(
        func_images=lambda images, *_: images,
        func_segmentation_maps=lambda maps, *_: [m.resize(0.5).resize(2.0) for m in maps],
    )
    image, masks = scene()
    same = augment(image, masks, halve_and_double, np.random.default_rng(0))[1]
    assert overlap(same, masks) > 0.95


CHANGING = {
    "crop": (iaa.Crop(px=5, keep_size=False), r"uint8 of shape \(246, 246, 3\)"),
    "resize": (iaa.Resize(0.5), r"uint8 of shape \(128, 128, 3\)"),
    "A crop": (A.RandomCrop(100, 90), r"uint8 of shape \(100, 90, 3\)"),
    "A normalise": (A.Normalize(), r"float32 of shape \(256, 256, 3\)"),
    "function": (lambda image, masks, rng: (image / 1, masks), "float64 of shape"),
    "nothing": (lambda image, masks, rng: (None, masks), "a NoneType"),
}


@pytest.mark.parametrize("name", CHANGING)
def test_the_image_must_keep_its_shape(name):
    augmenter, made = CHANGING[name]
    message = (
        rf"made a uint8 image of shape \(256, 256, 3\) into {made}.*; it must keep both\. "
        r".*keep_size=True.*Resize\(256, 256\)"
    )
    with pytest.raises(ValueError, match=message):
        augment(*scene(), augmenter, np.random.default_rng(0))


@pytest.mark.parametrize(
    "function, message",
    [
        (
            lambda i, m, rng: (i, m[:, :, 1:]),
            r"bool masks of .* into bool of shape \(256, 256, 2\)",
        ),
        (lambda i, m, rng: (i, m * 255), "made bool masks of .* into int64 of shape"),
        (
            lambda i, m, rng: i,
            r"<lambda> returned a ndarray; it must return two .*\(image, masks\)",
        ),
        (lambda i, m, rng: None, "returned a NoneType"),
        (lambda i, m, rng: (i, m, rng), "returned a tuple; it must return two arrays"),
    ],
)
def test_what_a_function_must_return(function, message):
    with pytest.raises(ValueError, match=message):
        augment(*scene(), function, np.random.default_rng(0))


@pytest.mark.parametrize("dtype", [np.int64, np.uint16, bool])
def test_pixel_types_that_albumentations_does_not_take(dtype):
    image, masks = scene()
    with pytest.raises(ValueError, match=f"image is {np.dtype(dtype)} .* return uint8"):
        augment(image.astype(dtype), masks, A.HorizontalFlip(p=1), np.random.default_rng(0))


@pytest.mark.parametrize(
    "wrong, kind",
    [
        ("flip", "a str"),
        ([iaa.Fliplr(1)], "a list"),
        (lambda image: image, "a function"),
        (iaa.Fliplr, "the class Fliplr"),
        (A.HorizontalFlip, "the class HorizontalFlip"),
    ],
)
def test_what_is_no_augmenter_is_refused(wrong, kind):
    message = rf"augmentation is {kind}.*imgaug.*albumentations.*\(image, masks, rng\).*Compose"
    with pytest.raises(ValueError, match=message):
        check_augmentation(wrong)


def test_what_is_an_augmenter():
    class Turner:
        def __call__(self, image, masks, rng):
            return turn(image, masks, rng)

    check_augmentation(None)
    for augmenter in [*MOVING.values(), *COLOURING.values(), Turner(), turn]:
        check_augmentation(augmenter)


def test_an_old_albumentations_is_named(monkeypatch):
    class Old(A.HorizontalFlip):
        @property
        def set_random_state(self):
            raise AttributeError

    monkeypatch.setattr(A, "__version__", "1.3.1")
    with pytest.raises(ValueError, match=r"albumentations 1\.3\.1 .*albumentations>=2\.0"):
        check_augmentation(Old(p=1))


def test_neither_library_is_imported_before_it_is_used():
    code = "import sys, mrcnn.data.augment as a; a.check_augmentation(lambda i, m, r: (i, m)); "
    code += "print([m for m in ('imgaug', 'albumentations') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


masks_strategy = hnp.arrays(bool, st.tuples(st.just(6), st.just(7), st.integers(1, 6)))


@settings(deadline=None)
@given(masks_strategy)
def test_packing_round_trip(masks):
    layers = pack_masks(masks)
    assert layers.dtype == np.int32 and layers.shape[2] <= masks.shape[2]
    np.testing.assert_array_equal(unpack_masks(layers, masks.shape[2]), masks)


def test_objects_apart_share_one_layer():
    masks = np.zeros((40, 40, 100), bool)
    for i in range(100):
        masks[4 * (i // 10) : 4 * (i // 10) + 3, 4 * (i % 10) : 4 * (i % 10) + 3, i] = True
    assert pack_masks(masks).shape == (40, 40, 1)
    assert pack_masks(np.ones((4, 4, 3), bool)).shape == (4, 4, 3)
