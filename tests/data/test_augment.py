"""Augmentation: image and masks move together, colours change the image only."""

import copy
from concurrent.futures import ThreadPoolExecutor

import imgaug.augmenters as iaa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mrcnn.data.augment import (
    augment,
    check_augmentation,
    flip_horizontally,
    pack_masks,
    unpack_masks,
)

MOVING = {
    "flip": iaa.Fliplr(1),
    "flip upside down": iaa.Flipud(1),
    "quarter turns": iaa.Rot90((1, 3), keep_size=True),
    "affine": iaa.Affine(scale=(0.8, 1.2), rotate=(-45, 45), shear=(-8, 8), order=0),
    "affine, reflecting": iaa.Affine(translate_percent=0.2, mode="reflect", order=0),
    "crop": iaa.Crop(percent=(0.05, 0.2)),
    "pad": iaa.Pad(percent=(0.05, 0.2)),
    "crop and pad": iaa.CropAndPad(percent=(-0.2, 0.2)),
    "perspective": iaa.PerspectiveTransform(scale=(0.05, 0.1)),
    "piecewise": iaa.PiecewiseAffine(scale=0.02),
    "elastic": iaa.ElasticTransformation(alpha=10, sigma=4),
    "polar": iaa.WithPolarWarping(iaa.Affine(rotate=20)),
    "jigsaw": iaa.Jigsaw(nb_rows=4, nb_cols=4),
    "nested": iaa.Sequential(
        [
            iaa.Sometimes(0.5, iaa.Affine(rotate=90), iaa.Flipud(1)),
            iaa.SomeOf(1, [iaa.Fliplr(1), iaa.Affine(translate_px=9)]),
            iaa.OneOf([iaa.Affine(scale=0.7), iaa.GaussianBlur(0.5)]),
        ],
        random_order=True,
    ),
}
COLOURING = {
    "blur": iaa.GaussianBlur(2),
    "noise": iaa.AdditiveGaussianNoise(scale=20),
    "brightness": iaa.Multiply((0.5, 0.9)),
    "contrast": iaa.LinearContrast(0.5),
    "colours": iaa.AddToHueAndSaturation((30, 60)),
    "dropout": iaa.CoarseDropout(0.2, size_percent=0.1),
    "cutout": iaa.Cutout(nb_iterations=2),
    "nested": iaa.Sometimes(1, iaa.OneOf([iaa.Invert(1), iaa.Solarize(1, threshold=128)])),
}


# imaug's PiecewiseAffine calls what scikit-image 0.26 calls outdated.
pytestmark = pytest.mark.filterwarnings("ignore:`estimate` is deprecated:FutureWarning")


def scene():
    """A black image with three white shapes, two of which overlap, and their masks."""
    y, x = np.mgrid[:192, :192] / 2
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


@pytest.mark.parametrize("name", MOVING)
@pytest.mark.parametrize("seed", range(3))
def test_image_and_masks_move_together(name, seed):
    image, masks = scene()
    moved, moved_masks = augment(image, masks, MOVING[name], np.random.default_rng(seed))
    assert moved.shape == image.shape and moved.dtype == image.dtype
    assert moved_masks.shape == masks.shape and moved_masks.dtype == bool
    white = moved[:, :, 0] > 127
    if "reflecting" in name:  # what the image repeats beyond its border is no object
        assert white[moved_masks.any(axis=2)].mean() > 0.97
    else:
        assert overlap(white, moved_masks.any(axis=2)) > 0.95
    assert not np.array_equal(moved, image)


@pytest.mark.parametrize("name", COLOURING)
def test_colours_leave_the_masks_alone(name):
    image, masks = scene()
    coloured, same = augment(image // 2 + 60, masks, COLOURING[name], np.random.default_rng(0))
    np.testing.assert_array_equal(same, masks)
    assert not np.array_equal(coloured, image // 2 + 60)


@pytest.mark.parametrize("name", MOVING)
def test_each_object_moves_as_it_would_alone(name):
    """Objects share label images; one by one they must give the same."""
    image, masks = scene()
    together = augment(image, masks, MOVING[name], np.random.default_rng(4))[1]
    for i in range(masks.shape[2]):
        alone = augment(image, masks[:, :, i : i + 1], MOVING[name], np.random.default_rng(4))[1]
        np.testing.assert_array_equal(together[:, :, i], alone[:, :, 0])


def test_the_generator_decides():
    image, masks = scene()
    rotate = iaa.Affine(rotate=(-90, 90))
    first, again, other = (
        augment(image, masks, rotate, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])


def test_the_callers_augmenter_is_not_touched():
    image, masks = scene()
    augmenter = iaa.Sequential([iaa.Affine(rotate=(-90, 90)), iaa.Fliplr(0.5)], seed=7)
    before = copy.deepcopy(augmenter)
    original = image.copy()
    augment(image, masks, augmenter, np.random.default_rng(0))
    np.testing.assert_array_equal(image, original)
    np.testing.assert_array_equal(augmenter(image=image), before(image=image))


def test_threads_do_not_meet():
    image, masks = scene()
    augmenter = MOVING["nested"]

    def run(seed):
        return augment(image, masks, augmenter, np.random.default_rng(seed))

    alone = [run(seed) for seed in range(24)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(run, range(24)))
    for (image1, masks1), (image2, masks2) in zip(alone, together, strict=True):
        np.testing.assert_array_equal(image1, image2)
        np.testing.assert_array_equal(masks1, masks2)


def test_objects_may_leave_the_image():
    image, masks = scene()
    away = iaa.Affine(translate_px={"x": 500})
    gone = augment(image, masks, away, np.random.default_rng(0))[1]
    assert gone.shape == masks.shape and not gone.any()


def test_no_objects_and_one_channel():
    image, masks = scene()
    moved, none = augment(image, masks[:, :, :0], iaa.Fliplr(1), np.random.default_rng(0))
    np.testing.assert_array_equal(moved, image[:, ::-1])
    assert none.shape == (*image.shape[:2], 0)
    moved, _ = augment(image[:, :, :1], masks, iaa.Fliplr(1), np.random.default_rng(0))
    np.testing.assert_array_equal(moved, image[:, ::-1, :1])


def test_a_view_may_be_augmented():
    image, masks = flip_horizontally(*scene())
    moved, moved_masks = augment(image, masks, iaa.Fliplr(1), np.random.default_rng(0))
    np.testing.assert_array_equal(moved, scene()[0])
    np.testing.assert_array_equal(moved_masks, scene()[1])


def test_flip():
    image, masks = scene()
    flipped, flipped_masks = flip_horizontally(image, masks)
    np.testing.assert_array_equal(flipped[:, 0], image[:, -1])
    np.testing.assert_array_equal(flipped_masks[:, 0], masks[:, -1])


@pytest.mark.parametrize(
    "augmenter", [iaa.Crop(px=5, keep_size=False), iaa.Resize(0.5), iaa.ChangeColorspace("GRAY")]
)
def test_the_image_must_keep_its_shape(augmenter):
    image, masks = scene()
    if isinstance(augmenter, iaa.ChangeColorspace):
        augmenter = iaa.Lambda(
            func_images=lambda images, *_: [i.astype(np.float32) for i in images],
            func_segmentation_maps=lambda maps, *_: maps,
        )
    with pytest.raises(ValueError, match=r"uint8 image of shape \(192, 192, 3\) into .*keep both"):
        augment(image, masks, augmenter, np.random.default_rng(0))


@pytest.mark.parametrize("wrong", ["flip", [iaa.Fliplr(1)], lambda image: image])
def test_what_is_no_augmenter_is_refused(wrong):
    with pytest.raises(ValueError, match="must be an imgaug augmenter.*Sequential"):
        check_augmentation(wrong)
    check_augmentation(None)
    check_augmentation(iaa.Fliplr(1))


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
