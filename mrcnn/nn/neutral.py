"""Neutral pixels: parts of an image of which it is unknown what they show; they train nothing.

Two layers without weights, only in the training graph, and only with USE_NEUTRAL_PIXELS. The
loader leaves out anchors with neutral pixels itself (`data/targets.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

from mrcnn import backend
from mrcnn.geometry.boxes import NEUTRAL_SHARE, covered_share, denorm_boxes
from mrcnn.types import Shape, Tensor


@keras.saving.register_keras_serializable("mrcnn")
class WithoutNeutral(layers.Layer):
    """Proposals; those with neutral pixels become zeros, which are neither positive nor negative.

    Call arguments, a list:
        proposals: `[B, N, (y1, x1, y2, x2)]`, normalised.
        neutral: `[B, H, W]` bool.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**{"dtype": "float32", **kwargs})

    def call(self, inputs: Sequence[Tensor]) -> Tensor:
        proposals, neutral = inputs
        height, width = neutral.shape[1:]
        pixels = ops.cast(denorm_boxes(proposals, (height, width)), "float32")
        shares = covered_share(pixels, neutral)
        return ops.where(shares[..., None] < NEUTRAL_SHARE, proposals, 0.0)

    def compute_output_shape(self, input_shape: Sequence[Sequence[int | None]]) -> tuple:
        return tuple(input_shape[0])


@keras.saving.register_keras_serializable("mrcnn")
class CountedPixels(layers.Layer):
    """Which pixels of the ROIs' target masks count in the loss: those that are not neutral.

    Args:
        mask_shape: `(h, w)` of a target mask.

    Call arguments, a list:
        rois: `[B, N, (y1, x1, y2, x2)]`, normalised.
        neutral: `[B, H, W]` bool.

    Returns:
        `[B, N, h, w]` float32, 1 for a pixel that counts, else 0.
    """

    def __init__(self, mask_shape: Shape = (28, 28), **kwargs: Any):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.mask_shape = tuple(int(side) for side in mask_shape)
        self.supports_jit = backend.SUPPORTS_JIT

    def call(self, inputs: Sequence[Tensor]) -> Tensor:
        rois, neutral = inputs
        rows = rois.shape[1]
        boxes = ops.reshape(ops.cast(rois, "float32"), (-1, 4))
        image = ops.repeat(ops.arange(ops.shape(rois)[0], dtype="int32"), rows)
        pixels = ops.cast(neutral, "uint8")[..., None]
        crops = backend.crop_and_resize(pixels, boxes, image, self.mask_shape)
        return ops.where(ops.reshape(crops, (-1, rows, *self.mask_shape)) > 0, 0.0, 1.0)

    def compute_output_shape(self, input_shape: Sequence[Sequence[int | None]]) -> tuple:
        return (*input_shape[0][:2], *self.mask_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "mask_shape": self.mask_shape}
