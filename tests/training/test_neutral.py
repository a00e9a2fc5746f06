"""Neutral pixels on their way from the Dataset to the losses."""

import numpy as np
import pytest
from keras import ops

from mrcnn.data.loader import BatchLoader, load_image_gt
from mrcnn.data.targets import build_rpn_targets, pyramid_anchors
from mrcnn.losses import all_losses
from mrcnn.training import build_training_model
from tests.tiny import Rectangles, propose_anchors, tiny_config


class HalfKnown(Rectangles):
    """Images whose right half is neutral."""

    def load_neutral(self, image_id):
        neutral = np.zeros(self.shape, bool)
        neutral[:, self.shape[1] // 2 :] = True
        return neutral


def data(kind=HalfKnown):
    return kind([[(1, (10, 4, 40, 28)), (2, (8, 36, 50, 60))]] * 2)


def config(**settings):
    return tiny_config(USE_NEUTRAL_PIXELS=True, **settings)


def test_anchors_with_neutral_pixels_train_nothing():
    loader = BatchLoader(data(), config(), shuffle=False)
    (inputs,) = loader[0]
    neutral, match = inputs[7], inputs[2][0, :, 0]
    assert neutral.shape == (2, 64, 64) and neutral.dtype == bool
    anchors = pyramid_anchors(loader.config, (64, 64))
    touches = (
        (anchors[:, 3] > 32) & (anchors[:, 1] < 64) & (anchors[:, 2] > 0) & (anchors[:, 0] < 64)
    )
    assert touches.any() and not match[touches].any()
    assert (match == 1).any() and (match == -1).any()


def test_a_box_with_one_neutral_pixel_in_a_thousand_is_left_out():
    anchors = np.array([[0, 0, 32, 32], [0, 0, 64, 64.0]])
    neutral = np.zeros((64, 64), bool)
    neutral[0, :4] = True
    found, _ = build_rpn_targets(
        None, anchors, np.array([1]), np.array([[0, 0, 64, 64]]), config(), neutral=neutral
    )
    assert found.tolist() == [0, 1]


def test_neutral_pixels_are_turned_with_the_image():
    sizes = dict(IMAGE_MIN_DIM=128, IMAGE_MAX_DIM=128)
    loader = BatchLoader(data(), config(**sizes), shuffle=False, augment=True, batch_size=8)
    (inputs,) = loader[0]
    for image, neutral in zip(inputs[0], inputs[7], strict=True):
        assert neutral.shape == image.shape[:2] == (128, 128)
        assert neutral.sum() == 128 * 64
        # The second object is green, and lies in the neutral half.
        green = (image[..., 1] - image[..., 0]) > 50
        assert green.any() and neutral[green].all()
    assert len({neutral[0, 0] for neutral in inputs[7]}) == 2  # mirrored, and not


def test_neither_anchors_nor_rois_nor_mask_pixels_under_them_train():
    """What lies under neutral pixels may be anything: losses and gradients stay."""
    settings = config()
    model = build_training_model(settings)
    propose_anchors(model)
    (inputs,) = BatchLoader(data(), settings, shuffle=False)[0]
    outputs = {name: ops.convert_to_numpy(x) for name, x in model(list(inputs)).items()}
    rois = outputs["rois"]
    used = rois.any(axis=2)
    assert used.any() and (rois[used][:, 3] * 63 + 1 <= 32.6).all()
    assert set(outputs["target_class_ids"][used]) <= {0, 1}
    losses = {name: float(loss) for name, loss in all_losses(outputs).items()}
    assert all(np.isfinite(list(losses.values()))) and losses["rpn_class_loss"] > 0


def test_without_the_setting_nothing_is_asked_for():
    class Refuses(Rectangles):
        def load_neutral(self, image_id):
            raise AssertionError("USE_NEUTRAL_PIXELS is False")

    (inputs,) = BatchLoader(data(Refuses), tiny_config())[0]
    assert len(inputs) == 7
    assert "target_mask_counts" not in build_training_model(tiny_config()).output


def test_an_image_without_neutral_pixels_trains_as_without_the_setting():
    (with_setting,) = BatchLoader(data(Rectangles), config(), shuffle=False, seed=3)[0]
    (without,) = BatchLoader(data(Rectangles), tiny_config(), shuffle=False, seed=3)[0]
    assert not with_setting[7].any()
    for one, other in zip(with_setting[:7], without, strict=True):
        np.testing.assert_array_equal(one, other)


def test_neutral_pixels_of_another_size_are_refused():
    class Wrong(Rectangles):
        def load_neutral(self, image_id):
            return np.zeros((3, 4), bool)

    with pytest.raises(ValueError, match=r"shape \(3, 4\) for an image of 64x64"):
        load_image_gt(data(Wrong), config(), 0)
