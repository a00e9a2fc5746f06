"""Small graphs with random weights, for the tests of this folder."""

import numpy as np

from mrcnn.nn.backbone import BatchNorm


def randomized(model):
    """The model with weights drawn at random, variances included."""
    rng = np.random.default_rng(0)
    for variable in model.variables:
        values = rng.normal(size=variable.shape)
        if variable.name == "moving_variance":
            values = np.abs(values) + 0.1
        variable.assign(values.astype(variable.dtype))
    return model


def random_images(*shape):
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def norm(**settings):
    return BatchNorm(**settings)
