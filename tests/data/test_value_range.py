"""Which value becomes black and which white."""

import numpy as np
import pytest
import tifffile

from mrcnn.config import Config
from mrcnn.data.dataset import Dataset
from mrcnn.data.loader import load_image_gt
from mrcnn.data.value_range import to_8_bits, white_of
from mrcnn.detection.molding import mold_inputs


@pytest.mark.parametrize(
    ("highest", "white"),
    [(0, 255), (1, 255), (255, 255), (256, 1023), (1023, 1023), (1024, 4095), (4095, 4095)]
    + [(4096, 16383), (16383, 16383), (16384, 65535), (65535, 65535)],
)
@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.uint32, np.int64, np.float32])
def test_the_fewest_bits_that_hold_the_largest_value(highest, white, dtype):
    assert white_of(highest) == white
    if dtype == np.float32 and highest <= 1:
        return
    pixels, guess = to_8_bits(np.array([0, highest], dtype))
    assert pixels.dtype == np.uint8 and pixels.tolist() == [0, round(255 * highest / white)]
    assert guess == (None if dtype == np.uint16 and white == 65535 else (0, white))


def test_every_value_of_16_bits_is_rounded():
    values = np.arange(65536, dtype=np.uint16)
    np.testing.assert_array_equal(to_8_bits(values).pixels, (values.astype(int) + 128) // 257)
    wide = values.astype(np.int32)
    np.testing.assert_array_equal(to_8_bits(wide).pixels, to_8_bits(values).pixels)


def test_8_bits_booleans_and_floats_of_0_to_1():
    bytes_ = np.arange(256, dtype=np.uint8)
    assert to_8_bits(bytes_).pixels is bytes_
    assert to_8_bits(bytes_, value_range=(0, 10)).pixels is bytes_
    assert to_8_bits(np.array([False, True])).pixels.tolist() == [0, 255]
    for dtype in (np.float16, np.float32, np.float64):
        pixels, guess = to_8_bits((bytes_ / 255).astype(dtype))
        assert guess is None
        assert np.abs(pixels.astype(int) - bytes_).max() <= (dtype == np.float16)


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.int32, np.float32, np.float64])
def test_a_value_range_is_linear_and_clips(dtype):
    values = np.array([0, 99, 100, 150, 200, 201, 3000], dtype)
    assert to_8_bits(values, (100, 200)).pixels.tolist() == [0, 0, 0, 128, 255, 255, 255]
    assert to_8_bits(values, (100, 200)).guess is None


def test_negative_values_need_a_range():
    hounsfield = np.array([-1024, 0, 3071], np.int16)
    assert to_8_bits(hounsfield, (-1024, 3071)).pixels.tolist() == [0, 64, 255]
    with pytest.raises(ValueError, match="int16 from -1024 to 3071.*IMAGE_VALUE_RANGE"):
        to_8_bits(hounsfield)


def test_white_that_the_file_states():
    dark = np.array([0, 200], np.uint16)
    pixels, guess = to_8_bits(dark, white=4095)
    assert pixels.tolist() == [0, 12] and guess is None
    # A statement that the data contradict is no statement.
    assert to_8_bits(dark, white=100).guess == (0, 255)


@pytest.mark.parametrize(
    "values", [[0.0, 1.5], [0.5, 300.25], [-0.1, 1.0], [0.0, 70000.0], [-1e9, 1e9]]
)
def test_floats_without_a_known_white(values):
    with pytest.raises(ValueError, match="float64 from .* known brightness.*IMAGE_VALUE_RANGE"):
        to_8_bits(np.array(values))


def test_integers_beyond_16_bits():
    with pytest.raises(ValueError, match="uint32 from 0 to 65536"):
        to_8_bits(np.array([0, 65536], np.uint32))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("value_range", [None, (0, 1)])
def test_pixels_that_are_not_finite(value, value_range):
    with pytest.raises(ValueError, match="NaN or infinite"):
        to_8_bits(np.array([0.5, value]), value_range)


def test_no_pixels():
    assert to_8_bits(np.zeros((0, 3), np.uint16)).pixels.shape == (0, 3)


class Small(Config):
    NAME = "small"
    NUM_CLASSES = 2
    IMAGE_MIN_DIM = IMAGE_MAX_DIM = 64


class OneImage(Dataset):
    """One image, from a file or an array, without objects."""

    def __init__(self, image):
        super().__init__()
        self.image = image
        self.add_class("x", 1, "thing")
        self.add_image("x", 0, path=image)
        self.prepare()

    def load_image(self, image_id):
        is_array = isinstance(self.image, np.ndarray)
        return self.image if is_array else super().load_image(image_id)

    def load_mask(self, image_id):
        return np.zeros((64, 64, 0), bool), np.zeros(0, np.int32)


def test_training_scales_by_the_configs_range(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.full((64, 64), 500, np.uint16))
    config = Small()
    config.IMAGE_VALUE_RANGE = (0, 1000)
    assert (load_image_gt(OneImage(tmp_path / "a.tif"), config, 0)[0] == 128).all()


def test_floats_of_0_to_1_are_seen_as_bytes_in_training_and_detection():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    with pytest.warns(UserWarning, match="multiplied by 255"):
        trained = load_image_gt(OneImage(image / 255), Small(), 0)[0]
    np.testing.assert_array_equal(trained, image)
    with pytest.warns(UserWarning, match="multiplied by 255"):
        detected = mold_inputs([image / 255], Small())[0]
    np.testing.assert_array_equal(detected, mold_inputs([image], Small())[0])
