"""The heads: class, box and mask of every ROI (He et al. 2017, figure 4, right).

`B` images, `N` ROIs per image, `C` classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

from mrcnn.nn.backbone import BatchNorm
from mrcnn.nn.roi_align import PyramidROIAlign
from mrcnn.types import Tensor


@keras.saving.register_keras_serializable("mrcnn")
class PerROI(layers.Wrapper):
    """Applies a layer to every ROI: `[B, N, …]` is reshaped to `[B * N, …]` and back.

    The weights of this layer are those of the wrapped one, in the order of weight files.

    Args:
        layer: a convolution, for inputs `[B, …]`.
    """

    def __init__(self, layer: layers.Layer, **kwargs: Any):
        super().__init__(layer, **{"name": layer.name, **kwargs})

    def build(self, input_shape: Sequence[int | None]) -> None:
        if not self.layer.built:
            self.layer.build((None, *input_shape[2:]))
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        rois = inputs.shape[1]
        outputs = self.layer(ops.reshape(inputs, (-1, *inputs.shape[2:])))
        return ops.reshape(outputs, (-1, rois, *outputs.shape[1:]))

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple:
        output_shape = self.layer.compute_output_shape((None, *input_shape[2:]))
        return (*input_shape[:2], *output_shape[1:])


def _conv_bn_relu(
    x: Tensor,
    filters: int,
    kernel_size: int,
    padding: str,
    conv_name: str,
    bn_name: str,
    train_bn: bool | None,
) -> Tensor:
    x = PerROI(layers.Conv2D(filters, kernel_size, padding=padding, name=conv_name))(x)
    x = BatchNorm(name=bn_name)(x, training=train_bn)
    return layers.Activation("relu")(x)


def fpn_classifier_graph(
    rois: Tensor,
    feature_maps: Sequence[Tensor],
    image_meta: Tensor,
    pool_size: int,
    num_classes: int,
    train_bn: bool | None = True,
    fc_layers_size: int = 1024,
) -> tuple[Tensor, Tensor, Tensor]:
    """Class and box of every ROI.

    Args:
        rois: `[B, N, (y1, x1, y2, x2)]`, normalised.
        feature_maps: P2 to P5, each `[B, H, W, channels]`.
        image_meta: `[B, meta]`.
        pool_size: side of a ROI's crop, in cells.
        num_classes: C, background included.
        train_bn: as Config.TRAIN_BN.
        fc_layers_size: units of each of the two fully connected layers.

    Returns:
        logits: `[B, N, C]`.
        probs: `[B, N, C]` float32, their softmax.
        bbox: `[B, N, C, (dy, dx, log dh, log dw)]` in units of BBOX_STD_DEV.
    """
    x = PyramidROIAlign([pool_size, pool_size], name="roi_align_classifier")(
        [rois, image_meta, *feature_maps]
    )
    # Two fully connected layers, written as convolutions because weight files have them so.
    x = _conv_bn_relu(
        x, fc_layers_size, pool_size, "valid", "mrcnn_class_conv1", "mrcnn_class_bn1", train_bn
    )
    x = _conv_bn_relu(
        x, fc_layers_size, 1, "valid", "mrcnn_class_conv2", "mrcnn_class_bn2", train_bn
    )
    shared = layers.Reshape((-1, fc_layers_size), name="pool_squeeze")(x)

    logits = layers.Dense(num_classes, name="mrcnn_class_logits")(shared)
    probs = layers.Activation("softmax", name="mrcnn_class", dtype="float32")(logits)
    bbox = layers.Dense(num_classes * 4, name="mrcnn_bbox_fc")(shared)
    bbox = layers.Reshape((-1, num_classes, 4), name="mrcnn_bbox")(bbox)
    return logits, probs, bbox


def build_fpn_mask_graph(
    rois: Tensor,
    feature_maps: Sequence[Tensor],
    image_meta: Tensor,
    pool_size: int,
    num_classes: int,
    train_bn: bool | None = True,
) -> Tensor:
    """Mask of every ROI, one per class.

    Args:
        rois, feature_maps, image_meta, num_classes, train_bn: as in `fpn_classifier_graph`.
        pool_size: side of a ROI's crop, in cells; the side of the mask is twice that.

    Returns:
        `[B, N, 2 * pool_size, 2 * pool_size, C]` in 0..1.
    """
    x = PyramidROIAlign([pool_size, pool_size], name="roi_align_mask")(
        [rois, image_meta, *feature_maps]
    )
    for index in range(1, 5):
        x = _conv_bn_relu(
            x, 256, 3, "same", f"mrcnn_mask_conv{index}", f"mrcnn_mask_bn{index}", train_bn
        )
    x = PerROI(
        layers.Conv2DTranspose(256, (2, 2), strides=2, activation="relu", name="mrcnn_mask_deconv")
    )(x)
    return PerROI(layers.Conv2D(num_classes, (1, 1), activation="sigmoid", name="mrcnn_mask"))(x)
