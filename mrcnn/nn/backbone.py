"""ResNet50 and ResNet101 (He et al. 2015), in the two layouts of released weights.

`resnet_graph` has the original's layout: the stride of a stage is on the first 1x1 convolution of
its first block and on its shortcut. `resnet_v1_5_graph` has PyTorch's layout. Both have the same
layer names.

`B` images. `train_bn` is Config.TRAIN_BN everywhere.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import keras
from keras import layers

from mrcnn.architectures import BACKBONES, RESNETS, RESNETS_V1_5
from mrcnn.types import Tensor


@keras.saving.register_keras_serializable("mrcnn")
class BatchNorm(layers.BatchNormalization):
    """Batch normalisation whose statistics can be frozen while gamma and beta still train.

    The `training` argument of the first call decides which statistics all later calls use. False:
    moving statistics, also in training, because batches of one or two images have no useful
    statistics. True: always batch statistics. None: batch statistics in training, otherwise moving
    statistics, like Keras' layer.
    (Keras' functional models replace a `training` argument that was given while the graph was
    built, so the layer has to remember it.)

    Args:
        train_bn: the `training` argument of the first call, if it is already known.
    """

    def __init__(self, *args: Any, train_bn: bool | None = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.train_bn = train_bn

    def __call__(self, inputs: Tensor, training: bool | None = None, **kwargs: Any) -> Tensor:
        if not self.built and training is not None:
            self.train_bn = training
        # Not in `call`, so that a subclass can override the decision there.
        if self.train_bn is not None:
            training = self.train_bn
        return super().__call__(inputs, training=training, **kwargs)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "train_bn": self.train_bn}


def identity_block(
    input_tensor: Tensor,
    kernel_size: int,
    filters: Sequence[int],
    stage: int,
    block: str,
    use_bias: bool = True,
    train_bn: bool | None = True,
) -> Tensor:
    """Three convolutions whose result is added to the input.

    Args:
        input_tensor: `[B, H, W, filters[2]]`.
        kernel_size: side of the middle convolution's kernel, 3.
        filters: channels of the three convolutions.
        stage, block: parts of the layer names, `res{stage}{block}_branch2a` and so on.
        use_bias: whether the convolutions have a bias.

    Returns:
        `[B, H, W, filters[2]]`.
    """
    x = _branch(input_tensor, kernel_size, filters, stage, block, (1, 1), use_bias, train_bn)
    return _join(x, input_tensor, stage, block)


def conv_block(
    input_tensor: Tensor,
    kernel_size: int,
    filters: Sequence[int],
    stage: int,
    block: str,
    strides: tuple[int, int] = (2, 2),
    use_bias: bool = True,
    train_bn: bool | None = True,
) -> Tensor:
    """The first block of a stage: its shortcut has a convolution too.

    Args:
        input_tensor: `[B, H, W, any]`; the rest as in `identity_block`.
        strides: strides of the first convolution and of the shortcut.

    Returns:
        `[B, H / strides, W / strides, filters[2]]`.
    """
    x = _branch(input_tensor, kernel_size, filters, stage, block, strides, use_bias, train_bn)
    name = f"{stage}{block}_branch1"
    shortcut = layers.Conv2D(
        filters[2], (1, 1), strides=strides, use_bias=use_bias, name=f"res{name}"
    )(input_tensor)
    shortcut = BatchNorm(name=f"bn{name}")(shortcut, training=train_bn)
    return _join(x, shortcut, stage, block)


def _branch(
    x: Tensor,
    kernel_size: int,
    filters: Sequence[int],
    stage: int,
    block: str,
    strides: tuple[int, int],
    use_bias: bool,
    train_bn: bool | None,
) -> Tensor:
    """Convolutions 1x1, k x k and 1x1, each with batch normalisation, and ReLU between them."""
    convolutions = (
        ("2a", filters[0], (1, 1), strides, "valid"),
        ("2b", filters[1], (kernel_size, kernel_size), (1, 1), "same"),
        ("2c", filters[2], (1, 1), (1, 1), "valid"),
    )
    for part, count, kernel, stride, padding in convolutions:
        name = f"{stage}{block}_branch{part}"
        x = layers.Conv2D(
            count, kernel, strides=stride, padding=padding, use_bias=use_bias, name=f"res{name}"
        )(x)
        x = BatchNorm(name=f"bn{name}")(x, training=train_bn)
        if part != "2c":
            x = layers.Activation("relu")(x)
    return x


def _join(x: Tensor, shortcut: Tensor, stage: int, block: str) -> Tensor:
    x = layers.Add()([x, shortcut])
    return layers.Activation("relu", name=f"res{stage}{block}_out")(x)


def named_backbone(
    input_image: Tensor, architecture: str, stage5: bool = False, train_bn: bool | None = True
) -> list:
    """The feature maps of one of `architectures.BACKBONES`; arguments as in `resnet_graph`."""
    _check_name(architecture, BACKBONES)
    graph = resnet_graph if architecture in RESNETS else resnet_v1_5_graph
    return graph(input_image, architecture, stage5, train_bn)


def resnet_graph(
    input_image: Tensor, architecture: str, stage5: bool = False, train_bn: bool | None = True
) -> list:
    """The ResNet's feature maps.

    Args:
        input_image: `[B, H, W, channels]` float32, molded.
        architecture: "resnet50" or "resnet101".
        stage5: whether to build C5; otherwise it is None.

    Returns:
        `[C1, C2, C3, C4, C5]`, each `[B, H / stride, W / stride, channels]`; strides 4, 4, 8, 16,
        32, channels 64, 256, 512, 1024, 2048.

    Raises:
        ValueError: another architecture.
    """
    _check_name(architecture, RESNETS)
    x = layers.ZeroPadding2D((3, 3))(input_image)
    x = layers.Conv2D(64, (7, 7), strides=(2, 2), use_bias=True, name="conv1")(x)
    x = BatchNorm(name="bn_conv1")(x, training=train_bn)
    x = layers.Activation("relu")(x)
    maps = [layers.MaxPooling2D((3, 3), strides=(2, 2), padding="same")(x)]

    for stage, width, blocks in _stages(RESNETS[architecture], stage5):
        filters = [width, width, 4 * width]
        strides = (1, 1) if stage == 2 else (2, 2)
        x = conv_block(maps[-1], 3, filters, stage, "a", strides=strides, train_bn=train_bn)
        for index in range(1, blocks):
            x = identity_block(x, 3, filters, stage, chr(ord("a") + index), train_bn=train_bn)
        maps.append(x)
    return maps if stage5 else [*maps, None]


def resnet_v1_5_graph(
    input_image: Tensor, architecture: str, stage5: bool = False, train_bn: bool | None = True
) -> list:
    """The feature maps of the ResNet of torchvision and timm, with the same numbers as theirs.

    The stride is on the 3x3 convolution ("version 1.5", Goyal et al. 2017, section 5.1), padding is
    the same on all sides, convolutions have no bias, and epsilon and momentum are PyTorch's.

    Args:
        input_image: `[B, H, W, channels]` float32, molded like the images that the weights were
            trained on: RGB minus MEAN_PIXEL, divided by PIXEL_STD.
        architecture: "resnet50_v1_5" or "resnet101_v1_5".
        stage5: as in `resnet_graph`.

    Returns:
        `[C1, C2, C3, C4, C5]` as in `resnet_graph`.

    Raises:
        ValueError: another architecture.
    """
    _check_name(architecture, RESNETS_V1_5)
    x = _conv_bn_v1_5(input_image, 64, 7, 2, "conv1", "bn_conv1", train_bn)
    x = layers.Activation("relu")(x)
    # PyTorch pads with -inf. Zeros give the same maximum: after ReLU no value is below 0, and every
    # window holds at least one of them.
    x = layers.ZeroPadding2D(1)(x)
    maps = [layers.MaxPooling2D(3, strides=2)(x)]

    for stage, width, blocks in _stages(RESNETS_V1_5[architecture], stage5):
        x = maps[-1]
        for index in range(blocks):
            stride = 2 if stage > 2 and index == 0 else 1
            x = _block_v1_5(x, width, stage, chr(ord("a") + index), stride, train_bn)
        maps.append(x)
    return maps if stage5 else [*maps, None]


def _check_name(architecture: str, known: Collection[str]) -> None:
    if architecture not in known:
        raise ValueError(f"architecture is {architecture!r}; it must be one of {', '.join(known)}.")


def _stages(blocks: Sequence[int], stage5: bool) -> list[tuple[int, int, int]]:
    """Number, width and number of blocks of the stages from 2 on."""
    stages = list(zip((2, 3, 4, 5), (64, 128, 256, 512), blocks, strict=True))
    return stages if stage5 else stages[:-1]


def _block_v1_5(
    x: Tensor, width: int, stage: int, block: str, stride: int, train_bn: bool | None
) -> Tensor:
    """Convolutions 1x1, 3x3 and 1x1; the shortcut of a stage's first block has one too."""

    def conv_bn(x: Tensor, filters: int, kernel: int, stride: int, branch: str) -> Tensor:
        name = f"{stage}{block}_branch{branch}"
        return _conv_bn_v1_5(x, filters, kernel, stride, f"res{name}", f"bn{name}", train_bn)

    y = layers.Activation("relu")(conv_bn(x, width, 1, 1, "2a"))
    y = layers.Activation("relu")(conv_bn(y, width, 3, stride, "2b"))
    y = conv_bn(y, 4 * width, 1, 1, "2c")
    shortcut = conv_bn(x, 4 * width, 1, stride, "1") if block == "a" else x
    return _join(y, shortcut, stage, block)


def _conv_bn_v1_5(
    x: Tensor,
    filters: int,
    kernel: int,
    stride: int,
    conv_name: str,
    bn_name: str,
    train_bn: bool | None,
) -> Tensor:
    """A convolution padded by half its kernel on all sides, and batch normalisation."""
    # With stride 1, "same" is that padding. With stride 2 it would pad less at the top and left.
    padding = "same" if stride == 1 else "valid"
    if kernel > 1 and stride > 1:
        x = layers.ZeroPadding2D(kernel // 2)(x)
    x = layers.Conv2D(
        filters, kernel, strides=stride, padding=padding, use_bias=False, name=conv_name
    )(x)
    # PyTorch's momentum is the weight of the new value, 0.1; Keras' is that of the present one.
    return BatchNorm(momentum=0.9, epsilon=1e-5, name=bn_name)(x, training=train_bn)
