"""Dataset: ids and sources, and reading any image file."""

import cv2
import numpy as np
import PIL.Image
import pytest
import skimage.io

from mrcnn.data.dataset import Dataset, describe_image, read_image

RGB = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
GRAY = RGB[:, :, 0]


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
    with pytest.raises(ValueError, match="class 2 is of source 'pets', not 'coco'"):
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


def save(path, pixels, mode=None, **options):
    PIL.Image.fromarray(pixels).convert(mode).save(path, **options)


def test_colour_files(tmp_path):
    for name in ("a.png", "a.bmp", "a.tif", "a.ppm"):
        save(tmp_path / name, RGB)
        np.testing.assert_array_equal(read_image(tmp_path / name), RGB)
    save(tmp_path / "a.png", RGB, "RGBA")
    np.testing.assert_array_equal(read_image(str(tmp_path / "a.png")), RGB)
    save(tmp_path / "a.webp", RGB, lossless=True)
    np.testing.assert_array_equal(read_image(tmp_path / "a.webp"), RGB)


def test_lossy_and_palette_files(tmp_path):
    smooth = np.linspace(0, 255, 20 * 30 * 3).reshape(20, 30, 3).astype(np.uint8)
    for name, mode in (("a.jpg", "RGB"), ("b.jpg", "CMYK"), ("a.gif", "P"), ("p.png", "P")):
        save(tmp_path / name, smooth, mode)
        image = read_image(tmp_path / name)
        assert image.shape == smooth.shape and image.dtype == np.uint8
        assert np.abs(image.astype(int) - smooth).mean() < 20, name


def test_a_palette_with_transparency(tmp_path):
    save(tmp_path / "p.png", GRAY, "P", transparency=bytes(range(256)))
    np.testing.assert_array_equal(read_image(tmp_path / "p.png")[:, :, 1], GRAY)


def test_gray_files(tmp_path):
    expected = np.repeat(GRAY[:, :, None], 3, axis=2)
    for name in ("a.png", "a.tif", "a.pgm"):
        save(tmp_path / name, GRAY)
        np.testing.assert_array_equal(read_image(tmp_path / name), expected)
    save(tmp_path / "la.png", GRAY, "LA")
    np.testing.assert_array_equal(read_image(tmp_path / "la.png"), expected)
    save(tmp_path / "bits.png", GRAY > 128)
    assert set(np.unique(read_image(tmp_path / "bits.png"))) == {0, 255}


def test_sixteen_bits_become_eight(tmp_path):
    wide = GRAY.astype(np.uint16) * 257
    skimage.io.imsave(tmp_path / "g.png", wide, check_contrast=False)
    skimage.io.imsave(tmp_path / "g.tif", wide, check_contrast=False)
    skimage.io.imsave(tmp_path / "c.tif", RGB.astype(np.uint16) * 257, check_contrast=False)
    expected = np.repeat(GRAY[:, :, None], 3, axis=2)
    np.testing.assert_array_equal(read_image(tmp_path / "g.png"), expected)
    np.testing.assert_array_equal(read_image(tmp_path / "g.tif"), expected)
    np.testing.assert_array_equal(read_image(tmp_path / "c.tif"), RGB)


def test_floats_of_0_to_1(tmp_path):
    skimage.io.imsave(tmp_path / "f.tif", (RGB / 255).astype(np.float32), check_contrast=False)
    np.testing.assert_array_equal(read_image(tmp_path / "f.tif"), RGB)
    skimage.io.imsave(tmp_path / "g.tif", np.array([[-3.0, 90.0]]), check_contrast=False)
    with pytest.raises(ValueError, match=r"g.tif.*float64 from -3.0 to 90.0.*load_image"):
        read_image(tmp_path / "g.tif")


def test_a_format_only_opencv_knows(tmp_path):
    cv2.imwrite(str(tmp_path / "a.hdr"), np.full((4, 5, 3), (0.0, 0.5, 1.0), np.float32))
    image = read_image(tmp_path / "a.hdr")
    assert image.shape == (4, 5, 3)
    assert image[0, 0, 0] == 255 and image[0, 0, 2] == 0  # OpenCV's BGR has become RGB


def test_one_pixel(tmp_path):
    save(tmp_path / "dot.png", RGB[:1, :1])
    np.testing.assert_array_equal(read_image(tmp_path / "dot.png"), RGB[:1, :1])


def test_a_stack_of_images_is_not_an_image(tmp_path):
    stack = np.zeros((7, 20, 30), np.uint8)
    skimage.io.imsave(tmp_path / "stack.tif", stack, check_contrast=False)
    with pytest.raises(ValueError, match=r"stack.tif.*\(7, 20, 30\).*load_image"):
        read_image(tmp_path / "stack.tif")


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
def test_damaged_files_are_named(tmp_path, name):
    path = tmp_path / name
    save(path, RGB)
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b"hello", b""):
        path.write_bytes(damaged)
        with pytest.raises(OSError, match=f"{name} cannot be read as an image"):
            read_image(path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=name):
        read_image(path)


def test_load_image_reads_the_path(tmp_path):
    save(tmp_path / "a.png", RGB)
    dataset = Dataset()
    dataset.add_image("x", 0, path=tmp_path / "a.png")
    dataset.prepare()
    np.testing.assert_array_equal(dataset.load_image(0), RGB)
