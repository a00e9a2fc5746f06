"""Checks that a file has the same kind of ResNet as the model.

The original's ResNets and those of version 1.5 (PyTorch's) have the same layer names, but the
stride is on different convolutions. So the weights of either kind give wrong numbers in the other
kind.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import keras

from mrcnn.types import PathLike

# A layer of ResNet101 that ResNet50 does not have.
DEEP_LAYER = "res4g_branch2a"
# A layer of both; in version 1.5 it has the stride and no bias.
STRIDED_LAYER = "res3a_branch2b"


def require_version_1_5(
    filepath: PathLike, layers: Mapping[str, keras.Layer], stored: Collection[str]
) -> None:
    """Check that the model has the ResNet, version 1.5, of a PyTorch checkpoint.

    Args:
        layers: the model's layers with weights, by name.
        stored: names of the layers that the checkpoint holds.

    Raises:
        ValueError: the model has another backbone; the message says which BACKBONE fits.
    """
    fits = "resnet101_v1_5" if DEEP_LAYER in stored else "resnet50_v1_5"
    if STRIDED_LAYER not in layers:
        found = "has no ResNet"
    elif not _is_version_1_5(layers):
        found = "has the original's ResNet, its stride on another convolution than PyTorch's"
    elif (DEEP_LAYER in layers) != (DEEP_LAYER in stored):
        found = f"has a ResNet{101 if DEEP_LAYER in layers else 50}"
    else:
        return
    raise ValueError(
        f'{filepath} is a checkpoint for BACKBONE = "{fits}"; this model {found}. Build it with '
        "that BACKBONE"
    )


def require_same_version(
    filepath: PathLike, layers: Mapping[str, keras.Layer], stored: Mapping[str, Sequence]
) -> None:
    """Check that a file of the original's ResNet is not loaded into one of version 1.5.

    Args:
        layers: the model's layers with weights that are to be loaded, by name.
        stored: the weights in the file, by layer name.

    Raises:
        ValueError: the file has the original's ResNet and the model version 1.5; the message says
            which BACKBONE fits.
    """
    weights = stored.get(STRIDED_LAYER, ())
    if STRIDED_LAYER in layers and _is_version_1_5(layers) and len(weights) == 2:
        fits = "resnet101" if DEEP_LAYER in stored else "resnet50"
        raise ValueError(
            f'{filepath} is a file for BACKBONE = "{fits}", whose convolutions have biases; this '
            "model has PyTorch's ResNet, version 1.5, its stride on another convolution. Build it "
            "with that BACKBONE"
        )


def _is_version_1_5(layers: Mapping[str, keras.Layer]) -> bool:
    """Is the stride where PyTorch has it, on the 3x3 convolution?"""
    strides = getattr(layers[STRIDED_LAYER], "strides", None)
    return strides is not None and tuple(strides) == (2, 2)
