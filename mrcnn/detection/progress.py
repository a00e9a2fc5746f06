"""The progress of a long run, printed as one line, once per second or minute."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable


def progress_line(total: int) -> Callable[[int], None]:
    """A function that prints how many images are done, the speed, and the time left.

    On a terminal, one line is rewritten once per second; elsewhere, one line per minute is printed.
    The speed does not include the time before the first call, when the network is traced.

    Args:
        total: number of images to do.

    Returns:
        Function to call with the number of images done.
    """
    on_terminal = sys.stdout.isatty()
    seconds_between = 1 if on_terminal else 60
    first: tuple[int, float] | None = None
    printed = time.monotonic()

    def say(done: int) -> None:
        nonlocal first, printed
        now = time.monotonic()
        first = first or (done, now)
        if done < total and now - printed < seconds_between:
            return
        printed = now
        speed = (done - first[0]) / max(now - first[1], 1e-9)
        left = total - done
        text = f"{done} of {total} images, {speed:.1f} images/s, {left} left"
        if left and speed:
            text += f", {_duration(left / speed)}"
        end = "" if on_terminal and left else "\n"
        print(f"\r{text:<70}" if on_terminal else text, end=end, flush=True)

    return say


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
