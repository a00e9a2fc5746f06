"""The convolution of the seam against the generic one."""

import numpy as np
import pytest
from keras import ops

from mrcnn import backend
from tests.execution.graphs import random_images

SHAPES = [(1, 8, 8, 3), (1, 6, 5, 2), (1, 7, 8, 3), (1, 9, 4, 2), (2, 8, 8, 3), (1, 2, 1, 4)]


CONVOLUTIONS = [
    (shape, size, strides, padding)
    for shape in SHAPES
    for size, strides in [(1, 1), (1, 2), (3, 1), (3, 2), (2, 1)]
    for padding in ("same", "valid")
    if padding == "same" or min(shape[1:3]) >= size
]


@pytest.mark.parametrize("shape, size, strides, padding", CONVOLUTIONS)
@pytest.mark.parametrize("relu", [True, False])
def test_one_image_or_several_are_convolved_alike(shape, size, strides, padding, relu):
    rng = np.random.default_rng(2)
    kernel = rng.normal(size=(size, size, shape[3], 4)).astype(np.float32)
    bias = rng.normal(size=4).astype(np.float32)
    arguments = [ops.convert_to_tensor(a) for a in (random_images(*shape), kernel, bias)]
    settings = (strides, strides), padding, relu
    wanted = backend.conv2d_generic(*arguments, *settings)
    found = backend.conv2d(*arguments, *settings)
    np.testing.assert_allclose(
        ops.convert_to_numpy(found), ops.convert_to_numpy(wanted), rtol=1e-5, atol=1e-5
    )
