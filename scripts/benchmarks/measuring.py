"""Times relative to that of a matrix product, and memory.

The speed of a shared machine changes from minute to minute. So the work and the product of two
matrices are timed by turns, and a figure is the quotient of the two times, in "GEMMs".
"""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

GIGABYTE = 1e9


@dataclass(frozen=True)
class Settings:
    """How to measure.

    Attributes:
        quick: a tiny network and tiny images, to try the script itself.
        profile: also print where the time goes.
        repeats: number of timings of each piece of work.
    """

    quick: bool = False
    profile: bool = False
    repeats: int = 7

    @property
    def gemm(self) -> int:
        """Side of the square matrices."""
        return 256 if self.quick else 4096


def seconds_of(work: Callable) -> float:
    """Wall time of a call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def matrix_product(side: int) -> Callable:
    """A function that multiplies two float32 matrices on Keras' backend and waits for it."""
    import keras
    import numpy as np

    rng = np.random.default_rng(0)
    a, b = (
        keras.ops.convert_to_tensor(rng.standard_normal((side, side), np.float32)) for _ in range(2)
    )
    # Reading one number waits for the whole product, and copies only that number from a GPU.
    return lambda: keras.ops.convert_to_numpy(keras.ops.matmul(a, b)[0, 0])


def in_turn(
    work: Callable, settings: Settings, images: int = 1, timer: Callable | None = None
) -> dict:
    """Time work and matrix product in turn: GEMM, work, GEMM, …, work, GEMM.

    Args:
        work: function to time; two calls beforehand trace and compile it.
        images: number of images per call.
        timer: function that does the work and returns its time in seconds, in place of a timed
            call; it gets no warm-up calls.

    Returns:
        seconds and gemm_seconds, each with median and min; gemms, the quotient of the medians and
        the quotient of the minima; images_per_second and images_per_gemm, from the medians.
    """
    if timer is None:
        work(), work()
    memory = device_gigabytes()
    gemm = matrix_product(settings.gemm)
    gemm(), gemm()
    gemm_seconds, seconds = [seconds_of(gemm)], []
    for _ in range(settings.repeats):
        seconds.append(timer() if timer else seconds_of(work))
        gemm_seconds.append(seconds_of(gemm))
    of_work, of_gemm = _summary(seconds), _summary(gemm_seconds)
    gemms = {name: of_work[name] / of_gemm[name] for name in of_work}
    result = {
        "gemms": gemms,
        "seconds": of_work,
        "gemm_seconds": of_gemm,
        "repeats": settings.repeats,
        "images_per_second": images / of_work["median"],
        "images_per_gemm": images / gemms["median"],
    }
    return result if memory is None else {**result, "device_gigabytes": memory}


def _summary(seconds: list[float]) -> dict[str, float]:
    return {"median": statistics.median(seconds), "min": min(seconds)}


def peak_gigabytes() -> float:
    """Peak host memory of this process so far."""
    # In bytes on macOS, in kilobytes elsewhere.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIGABYTE


def resident_gigabytes() -> float:
    """Host memory of this process now; Linux only."""
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize() / GIGABYTE


# ---- Accelerators: Keras has no functions for all backends ---------------------------------------


def accelerator() -> str | None:
    """Name of the GPU that Keras' backend computes on, None for the CPU."""
    backend = _backend()
    if backend == "tensorflow":
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        return tf.config.experimental.get_device_details(gpus[0])["device_name"] if gpus else None
    if backend == "jax":
        import jax

        device = jax.devices()[0]
        return None if device.platform == "cpu" else device.device_kind
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def device_gigabytes() -> float | None:
    """Peak memory of the accelerator so far, None on a CPU."""
    if accelerator() is None:
        return None
    backend = _backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.config.experimental.get_memory_info("GPU:0")["peak"] / GIGABYTE
    if backend == "jax":
        import jax

        return jax.local_devices()[0].memory_stats()["peak_bytes_in_use"] / GIGABYTE
    import torch

    return torch.cuda.max_memory_allocated() / GIGABYTE


def _backend() -> str:
    import keras

    return keras.backend.backend()
