"""Several devices and several machines: which of them a model is built on and trains on.

The second part of the seam: what Keras leaves to each framework here has no common name. On
TensorFlow it is `tf.distribute.MirroredStrategy` over the devices of one machine, on JAX
`keras.distribution.DataParallel` over those of one or of several. Each replica, a copy of the model
on a device, sees its part of a batch, and their gradients are averaged.

A **worker** is one of several processes that train a model together, on JAX. The process that has
not joined others is the first of one worker.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os

import keras

logger = logging.getLogger("mrcnn")

_BACKEND = keras.backend.backend()


# ---- Devices -----------------------------------------------------------------------------------


def scope(count: int):
    """A context: models built and compiled in it are on `count` devices, GPU_COUNT.

    Where there are fewer, they are on one, which is said once.
    """
    if _BACKEND == "tensorflow" and count > 1:
        strategy = _mirrored(count)
        return strategy.scope() if strategy else contextlib.nullcontext()
    if _BACKEND == "jax" and (count > 1 or worker_count() > 1):
        distribution = _data_parallel(count)
        return distribution.scope() if distribution else contextlib.nullcontext()
    if count > 1:
        _say_one_device(count, "training on PyTorch uses one device")
    return contextlib.nullcontext()


def one_device_on_tensorflow(count: int, reason: str) -> int:
    """1 on TensorFlow, which is said once for a count above 1; elsewhere `count`."""
    if _BACKEND != "tensorflow":
        return count
    if count > 1:
        _say_one_device(count, reason)
    return 1


def scope_of(model: keras.Model):
    """A context to compile a model of `scope` in, and to build its optimizer."""
    if _BACKEND == "tensorflow":
        return model.distribute_strategy.scope()
    return data_on(getattr(model, "distribution", None))


def current():
    """JAX's distribution that is set, None on other backends."""
    return keras.distribution.distribution() if _BACKEND == "jax" else None


@contextlib.contextmanager
def data_on(distribution):
    """Within it, JAX puts variables and batches on a distribution's devices, for None on one."""
    before = current()
    if distribution is before:
        yield
        return
    keras.distribution.set_distribution(distribution)
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)


@functools.cache
def _mirrored(count: int):
    """The strategy for so many devices, None where there are fewer."""
    import tensorflow as tf

    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if len(devices) < count:
        _say_one_device(count, f"TensorFlow finds {_listed(devices)}")
        return None
    return tf.distribute.MirroredStrategy(devices[:count])


@functools.cache
def _data_parallel(count: int):
    """Keras' distribution over so many devices of each worker."""
    jax = _jax()
    by_worker = [jax.local_devices(process_index=i) for i in range(jax.process_count())]
    fewest = min(by_worker, key=len)
    if len(fewest) < count:
        _say_one_device(count, f"JAX finds {_listed(fewest)}")
        if len(by_worker) == 1:
            return None
        count = 1
    devices = [f"{d.platform}:{d.id}" for of_worker in by_worker for d in of_worker[:count]]
    return keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False)


def _listed(devices) -> str:
    kinds = [getattr(d, "device_type", None) or d.platform.upper() for d in devices]
    return f"{len(kinds)} {kinds[0]}{'s' if len(kinds) > 1 else ''}"


@functools.cache
def _say_one_device(count: int, reason: str) -> None:
    logger.warning(
        "GPU_COUNT is %d and %s: one device trains, on batches of GPU_COUNT * IMAGES_PER_GPU.",
        count,
        reason,
    )


# ---- Workers -----------------------------------------------------------------------------------


def join(address: str | None = None, count: int | None = None, index: int | None = None) -> None:
    """Make this process one of several workers; before anything is computed.

    When a worker dies the others end, with what JAX's coordination service says about it: at once
    or after a minute or two, as soon as it misses the worker.

    Args:
        address: `host:port` of the first worker; count: of workers; index: this one's, from 0.
            What is None, JAX finds in the environment of Slurm, Open MPI or Kubernetes.

    Raises:
        ValueError: another backend than JAX.
    """
    if _BACKEND != "jax":
        raise ValueError(
            f"Keras runs on {_BACKEND}; several workers train on JAX: set KERAS_BACKEND=jax."
        )
    jax = _jax()
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(address, count, index)


def worker_count() -> int:
    """Processes that train together."""
    return _jax().process_count() if _BACKEND == "jax" else 1


def worker_index() -> int:
    """0 for the first worker, which alone writes checkpoints."""
    return _jax().process_index() if _BACKEND == "jax" else 0


def folder_of_worker(path: str) -> str:
    """The run's folder for the first worker, one inside it for another: no two write one file."""
    index = worker_index()
    return os.path.join(path, f"worker{index}") if index else path


def _jax():
    import jax

    return jax


# ---- One step ----------------------------------------------------------------------------------


def replica_count() -> int:
    """Replicas whose gradients TensorFlow adds up, 1 elsewhere: JAX sees a batch as a whole."""
    if _BACKEND != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync


def clip_the_mean(optimizer: keras.optimizers.Optimizer) -> None:
    """Let an optimizer clip what is added up over replicas, as on one device.

    Keras clips each replica's gradients and adds them up then.
    """
    if replica_count() == 1:
        return
    import tensorflow as tf

    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    clip = optimizer._clip_gradients

    def clip_sums(gradients):
        context = tf.distribute.get_replica_context()
        sums = context.all_reduce(tf.distribute.ReduceOp.SUM, list(gradients))
        # Keras adds them up once more.
        return [gradient / context.num_replicas_in_sync for gradient in clip(sums)]

    optimizer._clip_gradients = clip_sums
