"""Keras' ImageNet files of the ResNets: their addresses, and the names of their layers."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

logger = logging.getLogger("mrcnn")

# Address and MD5 as in keras/src/applications/resnet.py; the file at this address has the first
# MD5. The second MD5 is that of the file of deep-learning-models v0.2, which the original
# downloaded under the same name. Older Keras caches still have it, and it can be used as well.
_IMAGENET_URL = "https://storage.googleapis.com/tensorflow/keras-applications/resnet/"
_IMAGENET_MD5 = {
    "resnet50": ("4d473c1dd8becc155b73f8504c6f6626", "a268eb855778b3df3c7506639542a6af"),
    "resnet101": ("88cf7a10940856eca736dc7b7e228a21",),
}
# keras.applications builds its ResNets with this epsilon in every batch normalisation.
_KERAS_RESNET_EPSILON = 1.001e-5
_KERAS_RESNET_LAYER = re.compile(r"conv([2-5])_block(\d{1,2})_([0-3])_(conv|bn)")


def cache_folder() -> Path:
    """The folder of downloaded weights, `models` in Keras' cache: `KERAS_HOME`, or `~/.keras`."""
    return Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models"


def get_imagenet_weights(architecture: object) -> str:
    """Path of Keras' ImageNet weights without the classifier.

    The file is downloaded once into the folder `models` of Keras' cache (`KERAS_HOME`, or
    `~/.keras`). A file that exists there is used without a network connection, with a warning if it
    is not the published one.

    Args:
        architecture: "resnet50" or "resnet101".

    Raises:
        ValueError: there are no weights for this architecture.
        OSError: the download failed; the message says which file to put where.
    """
    if not isinstance(architecture, str) or architecture not in _IMAGENET_MD5:
        raise ValueError(
            f"ImageNet weights are known for {' and '.join(_IMAGENET_MD5)}, received "
            f"{architecture!r}; load another backbone's file with load_weights(by_name=True)"
        )
    checksums = _IMAGENET_MD5[architecture]
    name = f"{architecture}_weights_tf_dim_ordering_tf_kernels_notop.h5"
    path = cache_folder() / name
    if path.exists():
        _compare_checksum(path, checksums)
        return str(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return keras.utils.get_file(
            name,
            _IMAGENET_URL + name,
            cache_dir=str(path.parent.parent),
            cache_subdir=path.parent.name,
            file_hash=checksums[0],
        )
    except Exception as error:  # get_file reports a failed download as a bare Exception
        raise OSError(
            f"could not download {_IMAGENET_URL}{name} ({error}); without network, put that file "
            f"(MD5 {checksums[0]}) into {path.parent}"
        ) from None


def original_resnet_name(name: str) -> str:
    """The original's name of a ResNet layer of keras.applications.

    Args:
        name: for example `conv4_block23_2_conv`, which is `res4w_branch2b`.

    Returns:
        The original's name; other names stay as they are.
    """
    if name in ("conv1_conv", "conv1_bn"):
        return {"conv1_conv": "conv1", "conv1_bn": "bn_conv1"}[name]
    match = _KERAS_RESNET_LAYER.fullmatch(name)
    if match is None:
        return name
    stage, block, position, kind = match.groups()
    letter = chr(ord("a") + int(block) - 1)
    branch = {"0": "1", "1": "2a", "2": "2b", "3": "2c"}[position]
    return f"{'res' if kind == 'conv' else 'bn'}{stage}{letter}_branch{branch}"


def fold_epsilon(layer: keras.Layer, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Adapt a batch normalisation trained with Keras' ResNet epsilon to the layer's own epsilon.

    In inference the layer divides by sqrt(variance + epsilon). The original's epsilon is 1e-3, a
    hundred times the 1.001e-5 of these files. With unchanged variances, channels with a small
    variance would be scaled down. So the difference of the epsilons is added to the variance. The
    variance may become negative, but variance + epsilon does not.

    Args:
        layer: the layer that takes the weights; arrays of other layers stay as they are.
        arrays: gamma, beta, mean, variance.
    """
    if not isinstance(layer, keras.layers.BatchNormalization):
        return arrays
    *others, variance = arrays
    shifted = variance.astype(np.float64) + _KERAS_RESNET_EPSILON - layer.epsilon
    return [*others, shifted.astype(variance.dtype)]


def _compare_checksum(path: Path, checksums: Sequence[str]) -> None:
    received = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    if received not in checksums:
        logger.warning(
            "%s has MD5 %s, not %s: it is not the published file, or not all of it; delete it to "
            "download the published one",
            path,
            received,
            " or ".join(checksums),
        )
