"""Gradients and compilation on any backend."""

import keras
import numpy as np
from keras import ops


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

        for tensor in tensors:
            tensor.requires_grad_(tensor.is_floating_point())
        result = function(*tensors)
        found = torch.autograd.grad(result, tensors, allow_unused=True, materialize_grads=True)
    return [ops.convert_to_numpy(gradient) for gradient in found]


def compiled(function):
    """The function, compiled as a whole where operations one by one are compiled anyway: JAX."""
    if keras.backend.backend() != "jax":
        return function
    import jax

    return jax.jit(function)
