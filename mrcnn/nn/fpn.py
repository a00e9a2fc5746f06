"""Feature pyramid: P2..P6 from C2..C5 of the backbone (Lin et al. 2016, section 3)."""

from __future__ import annotations

from keras import layers

from mrcnn.types import Tensor


def fpn_graph(c2: Tensor, c3: Tensor, c4: Tensor, c5: Tensor, size: int) -> list:
    """The top-down path with lateral connections.

    Args:
        c2, c3, c4, c5: `[B, H / stride, W / stride, any]`, strides 4, 8, 16, 32.
        size: channels of every level.

    Returns:
        `[P2, P3, P4, P5, P6]`, each `[B, H / stride, W / stride, size]`, strides 4 to 64. Only the
        RPN uses P6, for its largest anchors.
    """
    p5 = layers.Conv2D(size, (1, 1), name="fpn_c5p5")(c5)
    p4 = _merge(p5, layers.Conv2D(size, (1, 1), name="fpn_c4p4")(c4), level=4)
    p3 = _merge(p4, layers.Conv2D(size, (1, 1), name="fpn_c3p3")(c3), level=3)
    p2 = _merge(p3, layers.Conv2D(size, (1, 1), name="fpn_c2p2")(c2), level=2)

    # A 3x3 convolution on every merged map reduces the aliasing of upsampling.
    levels = [
        layers.Conv2D(size, (3, 3), padding="same", name=f"fpn_p{level}")(p)
        for level, p in ((2, p2), (3, p3), (4, p4), (5, p5))
    ]
    p6 = layers.MaxPooling2D(pool_size=(1, 1), strides=2, name="fpn_p6")(levels[-1])
    return [*levels, p6]


def _merge(above: Tensor, lateral: Tensor, level: int) -> Tensor:
    up = layers.UpSampling2D(size=(2, 2), name=f"fpn_p{level + 1}upsampled")(above)
    return layers.Add(name=f"fpn_p{level}add")([up, lateral])
