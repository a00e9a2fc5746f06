"""Names for frequent type annotations."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

# A tensor of the backend (TensorFlow, JAX or PyTorch), or a symbolic one of Keras while a graph is
# built. The three frameworks share no base class, so a type checker cannot check more.
Tensor: TypeAlias = Any
ArrayOrTensor: TypeAlias = np.ndarray | Any
PathLike: TypeAlias = str | os.PathLike[str]
# A few numbers in a list, a tuple or an array: a box, deltas, scales, strides.
Numbers: TypeAlias = Sequence[float] | np.ndarray
# `(height, width)` or `(height, width, channels)`.
Shape: TypeAlias = Sequence[int] | np.ndarray
