"""ResNet50 and ResNet101 (He et al. 2015), as the weights in use were trained.

The stride of a stage is on the first 1x1 convolution of its first block and on its shortcut.
"""

from __future__ import annotations

import keras
from keras import layers

# Blocks of stage 4; the other stages are the same in both.
STAGE_4_BLOCKS = {"resnet50": 6, "resnet101": 23}


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
        return super().__call__(inputs, training=training, **kwargs)

    def call(self, inputs, training=None, mask=None):
        if self.train_bn is not None:
            training = self.train_bn
        return super().call(inputs, training=training, mask=mask)

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
    if architecture not in STAGE_4_BLOCKS:
        raise ValueError(
            f"architecture is {architecture!r}; it must be one of {', '.join(STAGE_4_BLOCKS)}."
        )
    x = layers.ZeroPadding2D((3, 3))(input_image)
    x = layers.Conv2D(64, (7, 7), strides=(2, 2), use_bias=True, name="conv1")(x)
    x = BatchNorm(name="bn_conv1")(x, training=train_bn)
    x = layers.Activation("relu")(x)
    maps = [layers.MaxPooling2D((3, 3), strides=(2, 2), padding="same")(x)]

    stages = [(2, 64, 3), (3, 128, 4), (4, 256, STAGE_4_BLOCKS[architecture])]
    if stage5:
        stages.append((5, 512, 3))
    for stage, width, blocks in stages:
        filters = [width, width, 4 * width]
        strides = (1, 1) if stage == 2 else (2, 2)
        x = conv_block(maps[-1], 3, filters, stage, "a", strides=strides, train_bn=train_bn)
        for index in range(1, blocks):
            x = identity_block(x, 3, filters, stage, chr(ord("a") + index), train_bn=train_bn)
        maps.append(x)
    return maps if stage5 else [*maps, None]
