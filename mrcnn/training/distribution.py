"""Data-parallel training on several devices and several machines.

Besides `backend.py`, this is the only file that imports frameworks, because Keras has no common API
for several devices. TensorFlow has `tf.distribute.MirroredStrategy` for the devices of one machine,
JAX has `keras.distribution.DataParallel` for the devices of one or several machines. Each device
has a copy of the model, a **replica**, which gets its part of a batch; the gradients are averaged.

A **worker** is one of several processes that train one model together, on JAX. A process that has
not joined others is worker 0 of 1.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from types import ModuleType
from typing import Any, TypeAlias

import keras
import numpy as np

from mrcnn.training.optimizers import inner_optimizer
from mrcnn.types import Tensor

# `keras.distribution.Distribution`, whose name is not public.
Distribution: TypeAlias = Any

logger = logging.getLogger("mrcnn")

_BACKEND = keras.backend.backend()


# ---- Devices -----------------------------------------------------------------------------------


def scope(count: int) -> AbstractContextManager:
    """A context in which models are built and compiled for `count` devices of each worker.

    If there are fewer devices, models are built for one device, and a single warning says so.

    Args:
        count: GPU_COUNT.
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
    """The number of devices if TensorFlow can use only one: 1 on TensorFlow, otherwise `count`.

    Args:
        count: GPU_COUNT; above 1, a single warning says that TensorFlow uses one device.
        reason: reason for the warning.
    """
    if _BACKEND != "tensorflow":
        return count
    if count > 1:
        _say_one_device(count, reason)
    return 1


def scope_of(model: keras.Model) -> AbstractContextManager:
    """The context in which to compile a model that was built in `scope`, with its optimizer."""
    if _BACKEND == "tensorflow":
        return model.distribute_strategy.scope()
    return data_on(getattr(model, "distribution", None))


def current() -> Distribution | None:
    """Keras' current distribution on JAX; None on other backends."""
    return keras.distribution.distribution() if _BACKEND == "jax" else None


@contextlib.contextmanager
def data_on(distribution: Distribution | None) -> Iterator[None]:
    """A context in which JAX puts variables and batches on a distribution's devices.

    Args:
        distribution: None for one device.
    """
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
def _mirrored(count: int) -> Any:
    """TensorFlow's strategy for this many devices, None if there are fewer."""
    import tensorflow as tf

    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if len(devices) < count:
        _say_one_device(count, f"TensorFlow finds {_counted(devices)}")
        return None
    return tf.distribute.MirroredStrategy(devices[:count])


@functools.cache
def _data_parallel(count: int) -> Distribution | None:
    """Keras' distribution over this many devices of each worker, None for one device in all."""
    jax = _jax()
    by_worker = [jax.local_devices(process_index=i) for i in range(jax.process_count())]
    fewest = min(by_worker, key=len)
    if len(fewest) < count:
        _say_one_device(count, f"JAX finds {_counted(fewest)}")
        if len(by_worker) == 1:
            return None
        count = 1
    devices = [f"{d.platform}:{d.id}" for of_worker in by_worker for d in of_worker[:count]]
    return keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False)


def _counted(devices: Sequence[Any]) -> str:
    """`1 CPU` or `4 GPUs`."""
    first = devices[0]
    kind = getattr(first, "device_type", None) or first.platform.upper()
    return f"{len(devices)} {kind}s" if len(devices) > 1 else f"1 {kind}"


@functools.cache
def _say_one_device(count: int, reason: str) -> None:
    logger.warning(
        "GPU_COUNT is %d and %s: one device trains, on batches of GPU_COUNT * IMAGES_PER_GPU.",
        count,
        reason,
    )


# ---- Workers -----------------------------------------------------------------------------------


def join(address: str | None = None, count: int | None = None, index: int | None = None) -> None:
    """Make this process one of several workers; call it before anything is computed.

    If a worker dies, the others end with an error of JAX's coordination service: at once, or after
    a minute or two, when the service notices that the worker is missing.

    JAX takes arguments that are None from the environment of Slurm, Open MPI or Kubernetes.

    Args:
        address: `host:port` of the first worker.
        count: number of workers.
        index: index of this worker, from 0.

    Raises:
        ValueError: the backend is not JAX.
    """
    if _BACKEND != "jax":
        raise ValueError(
            f"Keras runs on {_BACKEND}; several workers train on JAX: set KERAS_BACKEND=jax."
        )
    jax = _jax()
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(address, count, index)


def worker_count() -> int:
    """Number of processes that train together."""
    return _jax().process_count() if _BACKEND == "jax" else 1


def worker_index() -> int:
    """Index of this worker; only worker 0 writes checkpoints."""
    return _jax().process_index() if _BACKEND == "jax" else 0


def folder_of_worker(path: str) -> str:
    """The folder that this worker writes to: the run's for worker 0, `worker<i>` in it for others.

    So no two workers write the same file.

    Args:
        path: the run's folder.
    """
    index = worker_index()
    return os.path.join(path, f"worker{index}") if index else path


def text_of_first_worker(text: str) -> str:
    """Send the text of worker 0 to all workers, which call this at the same time.

    Args:
        text: at most 4,096 bytes in UTF-8; only the text of worker 0 is used.
    """
    if worker_count() == 1:
        return text
    from jax.experimental import multihost_utils

    message = np.zeros(4096, np.uint8)
    if worker_index() == 0:
        encoded = np.frombuffer(text.encode("utf-8"), np.uint8)
        message[: len(encoded)] = encoded
    received = np.asarray(multihost_utils.broadcast_one_to_all(message), np.uint8)
    return received.tobytes().rstrip(b"\0").decode("utf-8")


def any_worker(value: bool) -> bool:
    """Whether it is true on one of the workers, which all call this at the same time."""
    if worker_count() == 1:
        return value
    from jax.experimental import multihost_utils

    return bool(np.any(multihost_utils.process_allgather(np.array([value]))))


def _jax() -> ModuleType:
    import jax

    return jax


# ---- One step ----------------------------------------------------------------------------------


def replica_count() -> int:
    """Number of replicas whose gradients TensorFlow adds up; 1 on JAX, which sees whole batches."""
    if _BACKEND != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync


def clip_the_mean(optimizer: keras.optimizers.Optimizer) -> None:
    """Make an optimizer clip the sum of the replicas' gradients, as on one device.

    Keras clips the gradients of each replica and then adds them up.
    """
    if replica_count() == 1:
        return
    import tensorflow as tf

    optimizer = inner_optimizer(optimizer)
    clip = optimizer._clip_gradients

    def clip_sums(gradients: Sequence[Tensor]) -> list[Tensor]:
        context = tf.distribute.get_replica_context()
        sums = context.all_reduce(tf.distribute.ReduceOp.SUM, list(gradients))
        # Keras adds up the replicas' gradients once more.
        return [gradient / context.num_replicas_in_sync for gradient in clip(sums)]

    optimizer._clip_gradients = clip_sums
