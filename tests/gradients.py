"""Gradients and compilation on any backend."""

import contextlib

import keras
import numpy as np
from keras import ops, tree


def gradients(function, *arrays) -> list[np.ndarray]:
    """Gradient of a function of tensors, whose result is a scalar, by each of them."""
    tensors = [ops.convert_to_tensor(array) for array in arrays]
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(tensors)
            result = function(*tensors)
        found = tape.gradient(result, tensors, unconnected_gradients="zero")
    elif backend == "jax":
        import jax

        found = jax.jit(jax.grad(function, argnums=tuple(range(len(tensors)))))(*tensors)
    else:
        import torch

        with torch.enable_grad():
            tensors = [tensor.detach().clone().requires_grad_() for tensor in tensors]
            result = function(*tensors)
            if not result.requires_grad:  # no way at all from them to the result
                return [np.zeros_like(array) for array in arrays]
            found = torch.autograd.grad(result, tensors, allow_unused=True, materialize_grads=True)
    return [ops.convert_to_numpy(gradient) for gradient in found]


def compiled(function):
    """The function for arrays, compiled where operations one by one are compiled anyway: JAX."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return function
    if backend == "jax":
        import jax

        return jax.jit(function)
    # PyTorch's operators do not take arrays beside tensors.
    return lambda *arrays: function(*tree.map_structure(ops.convert_to_tensor, arrays))


def gradients_on():
    """A context in which PyTorch computes gradients, which `conftest.py` switches off."""
    if keras.backend.backend() != "torch":
        return contextlib.nullcontext()
    import torch

    return torch.enable_grad()
