"""Dataset: ids and sources, and what it tells the reading of image files."""

import logging
import pickle
import types

import numpy as np
import PIL.Image
import pytest
import tifffile

from mrcnn.data import image_files
from mrcnn.data.dataset import Dataset, describe_image, load_image_for, read_image

RGB = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)


@pytest.fixture
def two_sources():
    dataset = Dataset()
    dataset.add_class("coco", 18, "dog, hound")
    dataset.add_class("pets", "d", "dog")
    dataset.add_class("coco", 17, "cat")
    dataset.add_class("coco", 17, "the same again")
    dataset.add_image("coco", 139, path="a/139.jpg", width=640)
    dataset.add_image("pets", "rex", path=None)
    dataset.prepare()
    return dataset


def test_attributes_after_prepare(two_sources):
    dataset = two_sources
    assert dataset.num_classes == 4
    assert list(dataset.class_ids) == [0, 1, 2, 3]
    assert dataset.class_names == ["BG", "dog", "dog", "cat"]
    assert dataset.num_images == 2
    assert list(dataset.image_ids) == list(dataset._image_ids) == [0, 1]
    assert dataset.sources == ["", "coco", "pets"]
    assert dataset.source_class_ids == {"": [0], "coco": [0, 1, 3], "pets": [0, 2]}
    assert dataset.class_from_source_map == {".0": 0, "coco.18": 1, "pets.d": 2, "coco.17": 3}
    assert dataset.image_from_source_map == {"coco.139": 0, "pets.rex": 1}
    assert dataset.class_info[0] == {"source": "", "id": 0, "name": "BG"}
    assert dataset.image_info[0] == dict(id=139, source="coco", path="a/139.jpg", width=640)


def test_look_ups(two_sources):
    assert two_sources.map_source_class_id("coco.17") == 3
    assert two_sources.get_source_class_id(3, "coco") == 17
    with pytest.raises(ValueError, match="class 2 belongs to 'pets', not 'coco'"):
        two_sources.get_source_class_id(2, "coco")
    assert two_sources.source_image_link(0) == "a/139.jpg"
    assert two_sources.image_reference(0) == ""
    assert describe_image(two_sources, 0) == "image 0 (coco 139, a/139.jpg)"
    assert describe_image(two_sources, 1) == "image 1 (pets rex)"


def test_before_prepare_there_are_no_images():
    dataset = Dataset()
    dataset.add_image("coco", 1, path="x")
    assert len(dataset.image_ids) == 0


def test_images_alone_may_do_without_classes():
    dataset = Dataset()
    dataset.add_image("photos", 1, path="x")
    dataset.prepare()
    assert dataset.num_images == 1 and dataset.num_classes == 1


def test_an_image_of_an_unknown_source():
    dataset = Dataset()
    dataset.add_class("coco", 1, "person")
    dataset.add_image("coco", 1, path="1.jpg")
    dataset.add_image("cocoo", 2, path="2.jpg")
    with pytest.raises(ValueError, match=r"image 1 \(cocoo 2, 2.jpg\).*'cocoo'.*classes of coco"):
        dataset.prepare()


def test_a_dot_in_a_source_is_refused():
    with pytest.raises(ValueError, match="'my.data' holds a dot.*'my_data'"):
        Dataset().add_class("my.data", 1, "thing")


def test_load_mask_must_be_overridden(two_sources):
    with pytest.raises(NotImplementedError, match="Dataset.*override load_mask"):
        two_sources.load_mask(0)


def test_an_override_may_ask_for_no_objects():
    class Delegating(Dataset):
        def load_mask(self, image_id):
            return super(self.__class__, self).load_mask(image_id)

    masks, class_ids = Delegating().load_mask(0)
    assert masks.shape == (0, 0, 0) and masks.dtype == bool
    assert class_ids.shape == (0,) and class_ids.dtype == np.int32


def test_reading_images_goes_on_importing_from_here():
    assert read_image is image_files.read_image


def dataset_of(*paths, **info) -> Dataset:
    dataset = Dataset()
    for number, path in enumerate(paths):
        dataset.add_image("x", number, path=path, **info)
    dataset.prepare()
    return dataset


def test_load_image_reads_the_path(tmp_path):
    PIL.Image.fromarray(RGB).save(tmp_path / "a.png")
    np.testing.assert_array_equal(dataset_of(tmp_path / "a.png").load_image(0), RGB)


@pytest.fixture
def of_12_bits(tmp_path):
    """Three images of a camera: two use all 12 bits, a dark one only 9."""
    paths = [tmp_path / f"{name}.tif" for name in ("first", "second", "dark")]
    for path, white in zip(paths, (4000, 4000, 500), strict=True):
        tifffile.imwrite(path, np.array([[0, white // 2, white]], np.uint16))
    return paths


def test_a_guessed_range_is_said_once_per_data_set_and_range(of_12_bits, caplog):
    for _ in range(2):
        caplog.clear()
        dataset = dataset_of(*of_12_bits)
        levels = [dataset.load_image(i)[0, :, 0].tolist() for i in (0, 1, 2, 2, 0)]
        assert levels[:3] == [[0, 125, 249], [0, 125, 249], [0, 62, 125]]
        first, dark = (record.getMessage() for record in caplog.records)
        assert "first.tif holds uint16 values up to 4000" in first
        assert "IMAGE_VALUE_RANGE = (0, 4095)" in first
        assert "dark.tif" in dark and "1023 as white" in dark


def test_a_value_range_scales_all_images_alike_and_nothing_is_said(of_12_bits, caplog):
    dataset = dataset_of(*of_12_bits)
    dataset.image_value_range = (0, 4000)
    assert [dataset.load_image(i).max() for i in range(3)] == [255, 255, 32]
    assert not caplog.records
    dataset.image_value_range = (4000, 0)
    with pytest.raises(ValueError, match=r"image_value_range is \(4000, 0\).*\(black, white\)"):
        dataset.load_image(0)


def test_the_configs_value_range_holds_unless_the_dataset_has_one(of_12_bits, caplog):
    dataset, config = dataset_of(*of_12_bits), types.SimpleNamespace(IMAGE_VALUE_RANGE=[0, 4000])
    assert load_image_for(config, dataset, 2).max() == 32
    config.IMAGE_VALUE_RANGE = (0, 8000)
    assert load_image_for(config, dataset, 0).max() == 128
    assert dataset.image_value_range is None
    dataset.image_value_range = (0, 4000)
    assert load_image_for(config, dataset, 0).max() == 255
    assert not caplog.records
    dataset.image_value_range = config.IMAGE_VALUE_RANGE = None
    assert load_image_for(config, dataset, 2).max() == 125


def test_a_config_without_the_setting_decides_nothing(of_12_bits):
    dataset = dataset_of(*of_12_bits)
    assert load_image_for(types.SimpleNamespace(BATCH_SIZE=1), dataset, 0).max() == 249


def test_the_stated_size_decides_whether_to_turn(tmp_path, caplog):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.fromarray(RGB).save(tmp_path / "a.png", exif=exif)
    turned = RGB.swapaxes(0, 1)[:, ::-1]
    for info, expected in (
        (dict(height=30, width=20), turned),
        (dict(height=np.int64(30), width=np.int64(20)), turned),
        (dict(height=20, width=30), RGB),
        (dict(height=None, width=None), RGB),
        (dict(height="30", width="20"), RGB),
        (dict(width=20), RGB),
        ({}, RGB),
    ):
        np.testing.assert_array_equal(
            dataset_of(tmp_path / "a.png", **info).load_image(0), expected
        )
    assert not caplog.records


def test_a_rotation_in_doubt_is_said_once_per_file(tmp_path, caplog):
    exif = PIL.Image.Exif()
    exif[0x0112] = 3
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in paths:
        PIL.Image.fromarray(RGB).save(path, exif=exif)
    dataset = dataset_of(*paths, height=20, width=30)
    for image_id in (0, 1, 0, 1):
        np.testing.assert_array_equal(dataset.load_image(image_id), RGB)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "a.png is stored as 20x30 with a rotation tag (3)" in caplog.messages[0]
    assert "b.png" in caplog.messages[1]


def test_a_dataset_pickles_after_it_has_said_something(of_12_bits):
    dataset = dataset_of(*of_12_bits)
    dataset.load_image(0)
    again = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(again.load_image(0), dataset.load_image(0))
