"""The backbones that a Config can name, as plain values: `mrcnn.config` reads them without Keras.

To add a ResNet of bottleneck blocks, add a line here. To add a backbone of another kind, add a
table here and a function in `backbone.py` that `named_backbone` calls.
"""

from __future__ import annotations

# Blocks of stages 2 to 5 (He et al. 2015, table 1), built by `backbone.resnet_graph`.
RESNETS = {
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
}
# The same with PyTorch's layout, built by `backbone.resnet_v1_5_graph`.
RESNETS_V1_5 = {
    "resnet50_v1_5": (3, 4, 6, 3),
    "resnet101_v1_5": (3, 4, 23, 3),
}
BACKBONES = (*RESNETS, *RESNETS_V1_5)

# Pixels of the image from one cell to the next in P2 to P6 of all these backbones.
STRIDES = (4, 8, 16, 32, 64)
