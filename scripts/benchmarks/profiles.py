"""Where the time goes: operations of the framework and Python functions."""

from __future__ import annotations

import cProfile
import glob
import os
import pstats
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable

ROWS = 15


def show_python(work: Callable) -> None:
    """Print the Python functions that take most time during one call of the work."""
    profile = cProfile.Profile()
    profile.runcall(work)
    print("\nPython functions by their own time")
    pstats.Stats(profile, stream=sys.stdout).strip_dirs().sort_stats("tottime").print_stats(ROWS)


def show_operations(work: Callable) -> None:
    """Print the operations of Keras' backend that take most time during one call of the work."""
    import keras

    show = {"tensorflow": _show_tensorflow, "jax": _show_jax, "torch": _show_torch}
    show[keras.backend.backend()](work)


def _show_torch(work: Callable) -> None:
    import torch

    activities = [torch.profiler.ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profile:
        work()
    order = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
    print(profile.key_averages().table(sort_by=order, row_limit=ROWS))


def _show_jax(work: Callable) -> None:
    import jax

    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            work()
        profile = jax.profiler.ProfileData.from_file(_xplane_of(folder))
    events = [
        (event.name, event.duration_ns / 1e6)
        for plane in profile.planes
        for line in plane.lines
        # Lines of compiled operations, on a CPU and on a GPU; the others are Python's and the
        # runtime's.
        if line.name.startswith("tf_XLA") or "Stream" in line.name or line.name == "XLA Ops"
        for event in line.events
        if "::" not in event.name and " " not in event.name and "$" not in event.name
    ]
    # `fusion.12` is the twelfth operation of the kind `fusion`.
    _print_operations((re.sub(r"(\.\d+)+$", "", name), name, ms) for name, ms in events)


def _show_tensorflow(work: Callable) -> None:
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            work()
        space = _xplane_messages().XSpace()
        with open(_xplane_of(folder), "rb") as file:
            space.ParseFromString(file.read())
    events = []
    for plane in space.planes:
        names = {key: entry.name for key, entry in plane.event_metadata.items()}
        if not plane.name.startswith(("/host:CPU", "/device:GPU")):
            continue
        events += [
            (names[event.metadata_id], event.duration_ps / 1e9)
            for line in plane.lines
            for event in line.events
        ]
    # An operation is named `name in the graph:kind`. Function calls contain other operations.
    operations = [
        (name.rpartition(":")[2], name, ms)
        for name, ms in events
        if re.fullmatch(r"[^: ]+:[A-Z_]\w*", name) and not name.endswith(("Call", "While", "If"))
    ]
    _print_operations(operations)


def _xplane_messages():
    try:
        from tensorflow.tsl.profiler.protobuf import xplane_pb2
    except ImportError:
        try:
            from xprof.protobuf import xplane_pb2
        except ImportError as error:
            raise ImportError(
                "this TensorFlow cannot read its own profiles; `pip install xprof` can."
            ) from error
    return xplane_pb2


def _xplane_of(folder: str) -> str:
    (path,) = glob.glob(os.path.join(folder, "**", "*.xplane.pb"), recursive=True)
    return path


def _print_operations(operations: Iterable[tuple[str, str, float]]) -> None:
    """Print the slowest operations `(kind, name, milliseconds)`, by kind and one by one.

    The times of operations that run in parallel on several cores are added up.
    """
    kinds, counts, names = Counter(), Counter(), Counter()
    for kind, name, ms in operations:
        kinds[kind] += ms
        counts[kind] += 1
        names[name] += ms
    print("\nOperations by kind: milliseconds, how many")
    for kind, ms in kinds.most_common(ROWS):
        print(f"{ms:10.1f} {counts[kind]:6d}  {kind}")
    print("\nThe slowest operations: milliseconds")
    for name, ms in names.most_common(ROWS):
        print(f"{ms:10.1f}  {name}")
