"""Arrays of a file are compared with a model's variables, converted, and then assigned.

All checks are done before the first variable changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import keras
import numpy as np


class ArrayInFile(Protocol):
    """The properties of an array that are known before its numbers are read."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...


def mismatch(variables: Sequence[keras.Variable], stored: Sequence[ArrayInFile]) -> str | None:
    """Why these arrays do not fit the variables: "is … in the file, … in the model"; or None."""
    in_file = [array.shape for array in stored]
    in_model = [tuple(variable.shape) for variable in variables]
    if in_file != in_model:
        return f"is {in_file} in the file, {in_model} in the model"
    for variable, array in zip(variables, stored, strict=True):
        if not _converts(array.dtype, _numpy_dtype(variable)):
            return f"holds {array.dtype} in the file, {variable.dtype} in the model"
    return None


def converted(variable: keras.Variable, array: np.ndarray) -> np.ndarray:
    """A copy of the array in the variable's dtype; for bfloat16 in float32, which `assign` rounds.

    It is a copy even if the dtype is right, because JAX and PyTorch may keep using the given
    memory, and several tensors of a checkpoint may share memory.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return np.array(array, _numpy_dtype(variable), order="C")


def has_only_finite(array: np.ndarray) -> bool:
    """Are all numbers finite?"""
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def assign(variables: Sequence[keras.Variable], arrays: Sequence[np.ndarray]) -> None:
    """Give the variables these values, which were compared and converted."""
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


def _numpy_dtype(variable: keras.Variable) -> np.dtype:
    name = keras.backend.standardize_dtype(variable.dtype)
    return np.dtype("float32" if name == "bfloat16" else name)


def _converts(stored: np.dtype, wanted: np.dtype) -> bool:
    """Are both whole numbers, or is the wanted kind wider? Text cannot be converted."""
    if stored.kind not in "biuf":
        return False
    both_whole = stored.kind in "iu" and wanted.kind in "iu"
    return both_whole or np.can_cast(stored, wanted, "same_kind")
