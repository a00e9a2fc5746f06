"""Region proposal network (RPN; Ren et al. 2015, section 3.1), shared by the pyramid's levels.

`B` images, `A` anchors of all levels together, in the order of `geometry.anchors`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from mrcnn.geometry.anchors import generate_pyramid_anchors
from mrcnn.geometry.boxes import norm_boxes
from mrcnn.types import Numbers, Shape, Tensor


def rpn_graph(feature_map: Tensor, anchors_per_location: int, anchor_stride: int) -> list:
    """The RPN on one feature map.

    Args:
        feature_map: `[B, H, W, depth]`.
        anchors_per_location: anchors per cell, one per ratio.
        anchor_stride: 1 for anchors on every cell, 2 for every second one.

    Returns:
        A list of three tensors:
        logits: `[B, H * W * anchors, (background, object)]`.
        probs: the same shape, float32, their softmax.
        bbox: `[B, H * W * anchors, (dy, dx, log dh, log dw)]` in units of RPN_BBOX_STD_DEV.
    """
    shared = layers.Conv2D(
        512,
        (3, 3),
        padding="same",
        activation="relu",
        strides=anchor_stride,
        name="rpn_conv_shared",
    )(feature_map)
    x = layers.Conv2D(2 * anchors_per_location, (1, 1), name="rpn_class_raw")(shared)
    logits = layers.Reshape((-1, 2))(x)
    probs = layers.Activation("softmax", name="rpn_class_xxx", dtype="float32")(logits)
    x = layers.Conv2D(4 * anchors_per_location, (1, 1), name="rpn_bbox_pred")(shared)
    return [logits, probs, layers.Reshape((-1, 4))(x)]


def build_rpn_model(anchor_stride: int, anchors_per_location: int, depth: int) -> keras.Model:
    """The RPN as a model named `rpn_model`, called on every level with the same weights.

    Args:
        anchor_stride, anchors_per_location: as in `rpn_graph`.
        depth: channels of the feature maps.

    Returns:
        Model from `[B, H, W, depth]` to the three outputs of `rpn_graph`.
    """
    feature_map = keras.Input((None, None, depth), name="input_rpn_feature_map")
    outputs = rpn_graph(feature_map, anchors_per_location, anchor_stride)
    return keras.Model(feature_map, outputs, name="rpn_model")


@keras.saving.register_keras_serializable("mrcnn")
class Anchors(layers.Layer):
    """The anchors for images whose shape is known when the graph is built, as in training.

    Args:
        scales, ratios, feature_shapes, feature_strides, anchor_stride: as in
            `generate_pyramid_anchors`.
        image_shape: `(height, width)` in pixels.

    Call arguments:
        image: `[B, H, W, channels]`; only its batch size is used.

    Returns:
        `[B, A, (y1, x1, y2, x2)]` float32, normalised.
    """

    def __init__(
        self,
        scales: Numbers,
        ratios: Numbers,
        feature_shapes: Sequence[Shape] | np.ndarray,
        feature_strides: Numbers,
        anchor_stride: int,
        image_shape: Shape,
        **kwargs: Any,
    ):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.scales = _listed(scales)
        self.ratios = _listed(ratios)
        self.feature_shapes = _listed(feature_shapes)
        self.feature_strides = _listed(feature_strides)
        self.anchor_stride = int(anchor_stride)
        self.image_shape = _listed(image_shape)
        pixels = generate_pyramid_anchors(
            self.scales,
            self.ratios,
            self.feature_shapes,
            self.feature_strides,
            self.anchor_stride,
        )
        self._anchors = norm_boxes(pixels, self.image_shape)

    def call(self, image: Tensor) -> Tensor:
        return ops.broadcast_to(self._anchors, (ops.shape(image)[0], *self._anchors.shape))

    def compute_output_shape(self, image_shape: Sequence[int | None]) -> tuple:
        return (image_shape[0], *self._anchors.shape)

    def get_config(self) -> dict[str, Any]:
        names = "scales ratios feature_shapes feature_strides anchor_stride image_shape".split()
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _listed(values: Sequence | np.ndarray) -> list:
    """Numbers as lists of Python's numbers, which a saved model's JSON can hold."""
    return np.asarray(values).tolist()
