"""Hides TensorFlow's harmless messages; its errors are still shown.

Importing `mrcnn` sets TensorFlow's log level, unless it is set already. This must happen before
TensorFlow is loaded: a script that imports `keras` or `tensorflow` first keeps TensorFlow's level.

TensorFlow prints six lines before it reads its level, so no level removes them. `import_keras`
loads Keras without these lines; the scripts and notebooks of this repository call it first.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import Iterator

# Lines that TensorFlow prints while it is imported and that need no action.
HARMLESS = (
    r"WARNING: All log messages before absl::InitializeLog\(\) is called",
    r"oneDNN custom operations are on\.",
    r"Could not find cuda drivers on your machine, GPU will not be used",
    r"This TensorFlow binary is optimized to use available CPU instructions",
    r"To enable the following instructions: .* rebuild TensorFlow",
    r"Unable to register cu(FFT|DNN|BLAS) factory",
    r"computation placer already registered",
)
# NVIDIA on Linux, Windows' GPUs in WSL, AMD.
_GPU_FILES = ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
# Copies standard input to standard error, line by line, without the harmless lines.
_FILTER = """
import re, sys
harmless = re.compile("|".join(sys.argv[1:]).encode())
for line in sys.stdin.buffer:
    if not harmless.search(line):
        sys.stderr.buffer.write(line)
        sys.stderr.buffer.flush()
"""


def set_log_level() -> None:
    """Set TF_CPP_MIN_LOG_LEVEL if it is not set, and drop TensorFlow's lines about retracing.

    Level 2 shows errors. On Linux without a GPU driver the level is 3, which shows only fatal
    errors. The errors hidden there are two: one about the missing GPU (cuInit), one about oneDNN
    using another implementation. Failures are raised as exceptions in any case.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2" if _may_have_gpu() else "3")
    logging.getLogger("tensorflow").addFilter(_is_not_about_retracing)


def import_keras() -> None:
    """Import Keras and its backend without TensorFlow's harmless lines."""
    if "tensorflow" in sys.modules:
        return
    with without_harmless_lines():
        import keras  # noqa: F401


@contextlib.contextmanager
def without_harmless_lines() -> Iterator[None]:
    """A context in which this process' standard error passes through a filter.

    C++ writes to the file descriptor, so Python's `sys.stderr` cannot remove the lines. The filter
    is a separate process, so it still passes on all other lines if this process crashes.
    """
    try:
        stderr = os.dup(2)
    except OSError:  # no standard error
        yield
        return
    command = [sys.executable, "-I", "-S", "-c", _FILTER, *HARMLESS]
    filtering = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=stderr)
    assert filtering.stdin is not None
    _flush()
    os.dup2(filtering.stdin.fileno(), 2)
    filtering.stdin.close()
    try:
        yield
    finally:
        _flush()
        os.dup2(stderr, 2)
        os.close(stderr)
        # The filter ends when its input is closed. A process started meanwhile may delay this.
        with contextlib.suppress(subprocess.TimeoutExpired):
            filtering.wait(timeout=10)


def _flush() -> None:
    if sys.stderr is not None:
        sys.stderr.flush()


def _may_have_gpu() -> bool:
    return not sys.platform.startswith("linux") or any(map(os.path.exists, _GPU_FILES))


def _is_not_about_retracing(record: logging.LogRecord) -> bool:
    return "triggered tf.function retracing" not in record.getMessage()
