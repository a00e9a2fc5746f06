"""ROIs cropped from the level of the pyramid that fits their size (Lin et al. 2016, 4.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

from mrcnn import backend
from mrcnn.data.image_meta import split_image_meta
from mrcnn.geometry.boxes import split_box
from mrcnn.types import Shape, Tensor


def roi_levels(boxes: Tensor, image_area: Tensor) -> Tensor:
    """Index of the level of every box: 0 for P2 to 3 for P5.

    A box of 224x224 pixels, the image size of ImageNet, belongs to P4; a box with half that side
    belongs to the next finer level. This is equation 1 of the FPN paper, but rounded to the nearest
    level instead of down, as in the original.

    Args:
        boxes: `[B, N, (y1, x1, y2, x2)]`, normalised.
        image_area: `[B]` float32, pixels.

    Returns:
        `[B, N]` int32.
    """
    y1, x1, y2, x2 = split_box(boxes)
    # The logarithm of padding's area 0 is not finite; any tiny area gives P2.
    side = ops.sqrt(ops.maximum((y2 - y1) * (x2 - x1), 1e-12))
    # log(x) / log(2) as in the original: log2(x) puts some boxes on another level by rounding.
    level = ops.log(side / (224.0 / ops.sqrt(image_area)[:, None])) / math.log(2.0)
    return ops.clip(2 + ops.cast(ops.round(level), "int32"), 0, 3)


@keras.saving.register_keras_serializable("mrcnn")
class PyramidROIAlign(layers.Layer):
    """Crops every ROI to the same size.

    Args:
        pool_shape: `(h, w)` of a crop.

    Call arguments, a list:
        boxes: `[B, N, (y1, x1, y2, x2)]`, normalised; rows of zeros are padding.
        image_meta: `[B, meta]`; only the image's size is used.
        P2, P3, P4, P5: `[B, H, W, C]`.

    Returns:
        `[B, N, h, w, C]`.
    """

    def __init__(self, pool_shape: Shape, **kwargs: Any):
        super().__init__(**kwargs)
        self.pool_shape = tuple(int(side) for side in pool_shape)
        self.supports_jit = backend.SUPPORTS_JIT
        # Otherwise Keras would cast the boxes to half precision before `call`.
        self.autocast = False

    def call(self, inputs: Sequence[Tensor]) -> Tensor:
        boxes, image_meta, *feature_maps = inputs
        boxes = ops.cast(boxes, "float32")
        image_shape = ops.cast(split_image_meta(image_meta)["image_shape"], "float32")
        levels = roi_levels(boxes, image_shape[:, 0] * image_shape[:, 1])
        crops = backend.pyramid_crop_and_resize(feature_maps, boxes, levels, self.pool_shape)
        return ops.cast(crops, self.compute_dtype)

    def compute_output_shape(self, input_shape: Sequence[Sequence[int | None]]) -> tuple:
        boxes, maps = input_shape[0], input_shape[2:]
        return (*boxes[:2], *self.pool_shape, maps[0][-1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "pool_shape": list(self.pool_shape)}
