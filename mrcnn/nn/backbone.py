"""ResNet50 and ResNet101 (He et al. 2015), as the weights in use were trained.

`resnet_graph` is the original's: the stride of a stage is on the first 1x1 convolution of its first
block and on its shortcut. `resnet_v1_5_graph` is PyTorch's. The names of the layers are the same.
"""

from __future__ import annotations

import keras
from keras import layers

# Blocks of stage 4; the other stages are the same in both.
STAGE_4_BLOCKS = {"resnet50": 6, "resnet101": 23}
STAGE_4_BLOCKS_V1_5 = {"resnet50_v1_5": 6, "resnet101_v1_5": 23}


@keras.saving.register_keras_serializable("mrcnn")
class BatchNorm(layers.BatchNormalization):
    """Batch normalisation whose statistics can be frozen while gamma and beta still train.

    Called first with `training=False` it normalises by the moving statistics ever after, in
    training too: batches of one or two images have no useful statistics of their own. With
    `training=None` it is Keras' layer; with `training=True` batch statistics are always used.
    (Keras' functional models override a `training` argument given while building, so the layer
    remembers it.)
    """

    def __init__(self, *args, train_bn: bool | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self.train_bn = train_bn

    def __call__(self, inputs, training=None, **kwargs):
        if not self.built and training is not None:
            self.train_bn = training
        # Here and not in `call`: a subclass may decide otherwise there.
        if self.train_bn is not None:
            training = self.train_bn
        return super().__call__(inputs, training=training, **kwargs)

    def get_config(self):
        return {**super().get_config(), "train_bn": self.train_bn}


def identity_block(input_tensor, kernel_size, filters, stage, block, use_bias=True, train_bn=True):
    """Three convolutions around a shortcut that is the input itself.

    Args:
        input_tensor: `[B, H, W, filters[2]]`.
        kernel_size: of the middle convolution, 3.
        filters: of the three convolutions.
        stage, block: name the layers, `res{stage}{block}_branch2a` and so on.
        train_bn: as Config.TRAIN_BN.

    Returns:
        `[B, H, W, filters[2]]`.
    """
    x = _branch(input_tensor, kernel_size, filters, stage, block, (1, 1), use_bias, train_bn)
    return _join(x, input_tensor, stage, block)


def conv_block(
    input_tensor,
    kernel_size,
    filters,
    stage,
    block,
    strides=(2, 2),
    use_bias=True,
    train_bn=True,
):
    """Three convolutions around a shortcut with a convolution of its own: the first of a stage.

    Args:
        input_tensor: `[B, H, W, any]`; the rest as in `identity_block`.
        strides: of the first convolution and of the shortcut.

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


def _branch(x, kernel_size, filters, stage, block, strides, use_bias, train_bn):
    """1x1, k x k, 1x1, each with batch normalisation, with ReLU between them."""
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


def _join(x, shortcut, stage, block):
    x = layers.Add()([x, shortcut])
    return layers.Activation("relu", name=f"res{stage}{block}_out")(x)


def resnet_graph(input_image, architecture, stage5=False, train_bn=True):
    """The ResNet's feature maps.

    Args:
        input_image: `[B, H, W, channels]` float32, molded.
        architecture: "resnet50" or "resnet101".
        stage5: build C5 too; else it is None.
        train_bn: as Config.TRAIN_BN.

    Returns:
        `[C1, C2, C3, C4, C5]`, strides 4, 4, 8, 16, 32, channels 64, 256, 512, 1024, 2048.

    Raises:
        ValueError: another architecture.
    """
    blocks_of_4 = _stage_4_blocks(architecture, STAGE_4_BLOCKS)
    x = layers.ZeroPadding2D((3, 3))(input_image)
    x = layers.Conv2D(64, (7, 7), strides=(2, 2), use_bias=True, name="conv1")(x)
    x = BatchNorm(name="bn_conv1")(x, training=train_bn)
    x = layers.Activation("relu")(x)
    maps = [layers.MaxPooling2D((3, 3), strides=(2, 2), padding="same")(x)]

    for stage, width, blocks in _stages(blocks_of_4, stage5):
        filters = [width, width, 4 * width]
        strides = (1, 1) if stage == 2 else (2, 2)
        x = conv_block(maps[-1], 3, filters, stage, "a", strides=strides, train_bn=train_bn)
        for index in range(1, blocks):
            x = identity_block(x, 3, filters, stage, chr(ord("a") + index), train_bn=train_bn)
        maps.append(x)
    return maps if stage5 else [*maps, None]


def resnet_v1_5_graph(input_image, architecture, stage5=False, train_bn=True):
    """The feature maps of the ResNet that torchvision and timm have, equal to theirs in number.

    Its stride is on the 3x3 convolution ("version 1.5", Goyal et al. 2017, section 5.1), padding is
    the same on all sides, convolutions have no bias, and epsilon and momentum are PyTorch's.

    Args:
        input_image: `[B, H, W, channels]` float32, molded as the weights were trained: theirs want
            RGB less MEAN_PIXEL, divided by PIXEL_STD.
        architecture: "resnet50_v1_5" or "resnet101_v1_5".
        stage5, train_bn: as in `resnet_graph`.

    Returns:
        `[C1, C2, C3, C4, C5]`, strides 4, 4, 8, 16, 32, channels 64, 256, 512, 1024, 2048.

    Raises:
        ValueError: another architecture.
    """
    blocks_of_4 = _stage_4_blocks(architecture, STAGE_4_BLOCKS_V1_5)
    x = _conv_bn_v1_5(input_image, 64, 7, 2, "conv1", "bn_conv1", train_bn)
    x = layers.Activation("relu")(x)
    # PyTorch pads with -inf. Zeros give the same maximum: no value is below 0 after ReLU, and each
    # window holds at least one.
    x = layers.ZeroPadding2D(1)(x)
    maps = [layers.MaxPooling2D(3, strides=2)(x)]

    for stage, width, blocks in _stages(blocks_of_4, stage5):
        x = maps[-1]
        for index in range(blocks):
            stride = 2 if stage > 2 and index == 0 else 1
            x = _block_v1_5(x, width, stage, chr(ord("a") + index), stride, train_bn)
        maps.append(x)
    return maps if stage5 else [*maps, None]


def _stage_4_blocks(architecture, known: dict[str, int]) -> int:
    if architecture not in known:
        raise ValueError(f"architecture is {architecture!r}; it must be one of {', '.join(known)}.")
    return known[architecture]


def _stages(blocks_of_4: int, stage5: bool) -> list[tuple[int, int, int]]:
    """Number, width and blocks of each stage."""
    stages = [(2, 64, 3), (3, 128, 4), (4, 256, blocks_of_4)]
    return [*stages, (5, 512, 3)] if stage5 else stages


def _block_v1_5(x, width, stage, block, stride, train_bn):
    """1x1, 3x3, 1x1 around a shortcut, which has a convolution in the first block of a stage."""

    def conv_bn(x, filters, kernel, stride, branch):
        name = f"{stage}{block}_branch{branch}"
        return _conv_bn_v1_5(x, filters, kernel, stride, f"res{name}", f"bn{name}", train_bn)

    y = layers.Activation("relu")(conv_bn(x, width, 1, 1, "2a"))
    y = layers.Activation("relu")(conv_bn(y, width, 3, stride, "2b"))
    y = conv_bn(y, 4 * width, 1, 1, "2c")
    shortcut = conv_bn(x, 4 * width, 1, stride, "1") if block == "a" else x
    return _join(y, shortcut, stage, block)


def _conv_bn_v1_5(x, filters, kernel, stride, conv_name, bn_name, train_bn):
    """A convolution padded by half its kernel on all sides, and its normalisation."""
    # With stride 1, "same" is that padding; with stride 2 it would pad less above and left.
    padding = "same" if stride == 1 else "valid"
    if kernel > 1 and stride > 1:
        x = layers.ZeroPadding2D(kernel // 2)(x)
    x = layers.Conv2D(
        filters, kernel, strides=stride, padding=padding, use_bias=False, name=conv_name
    )(x)
    # PyTorch's momentum of 0.1 is the part of the new value.
    return BatchNorm(momentum=0.9, epsilon=1e-5, name=bn_name)(x, training=train_bn)
