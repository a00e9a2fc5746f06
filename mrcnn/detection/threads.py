"""Threads: how many there are, and work done ahead of its use.

NumPy and OpenCV let other threads run while they compute, so threads share out pixels.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_MOST_THREADS = 16

Item = TypeVar("Item")
Result = TypeVar("Result")


def count_threads() -> int:
    """Number of threads: one per core that this process may use, up to `_MOST_THREADS`."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return min(cores, _MOST_THREADS)


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int, ahead: int
) -> Iterator[Result]:
    """`map(function, items)` in threads that compute at most `ahead` results in advance."""
    pool = ThreadPoolExecutor(threads)
    waiting: deque = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
