"""Run a training script in several processes that together train one model, on JAX.

    python scripts/train_workers.py --workers 2 samples/shapes/shapes.py train --epochs=3
    srun --kill-on-bad-exit=1 python scripts/train_workers.py samples/shapes/shapes.py train
    python scripts/train_workers.py --address HOST:PORT --workers 4 --index 2 SCRIPT …

The first command starts both workers on this machine, for a trial or if it has many cores. The
second is one worker of a Slurm job, which provides address, number and index: see
scripts/slurm/train_nodes.sbatch. The third is one of four workers started by hand; HOST is the
machine of worker 0.

Every worker runs the whole script with the same random seed: docs/distribution.md.
"""

from __future__ import annotations

import argparse
import math
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from typing import Any

ROOT_DIR = os.path.abspath(os.path.join(os.path.dirname(__file__), ".."))
# Seconds in which the other workers can end by themselves after one failed.
PATIENCE = 150
# Exit statuses of workers that a signal stopped.
STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Run a training script in several processes that train one model, on JAX.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="number of workers (from Slurm in its jobs)"
    )
    parser.add_argument("--address", metavar="HOST:PORT", help="address of worker 0")
    parser.add_argument("--index", type=int, metavar="I", help="number of this worker, from 0")
    parser.add_argument(
        "--seed", type=int, default=0, help="random seed of every worker (default 0)"
    )
    parser.add_argument("script", help="a Python file that calls MaskRCNN.train")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="arguments of the script")
    arguments = parser.parse_args(argv)
    if arguments.workers is not None and arguments.workers < 1:
        parser.error(f"--workers is {arguments.workers}; it must be at least 1.")
    if (arguments.address is None) != (arguments.index is None):
        parser.error("--address and --index belong together; --workers alone starts all workers.")
    if arguments.address is not None and arguments.workers is None:
        parser.error("--address needs --workers, the number of workers.")
    if not os.path.isfile(arguments.script):
        parser.error(f"there is no file {arguments.script}.")
    return arguments


def start_here(arguments: argparse.Namespace) -> int:
    """Start all workers on this machine and wait for them; returns the exit status."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, __file__, "--address", address]
    command += ["--workers", str(arguments.workers), "--seed", str(arguments.seed)]
    workers = [
        subprocess.Popen([*command, "--index", str(i), arguments.script, *arguments.arguments])
        for i in range(arguments.workers)
    ]
    pass_on_signals(workers)
    try:
        return wait_for(workers)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def pass_on_signals(workers: list[subprocess.Popen]) -> None:
    """Let SIGTERM and Ctrl-C end the workers, which save their state first; a second one ends all.

    A terminal sends Ctrl-C to the workers too.
    """
    received: list[int] = []

    def receive(number: int, _: Any) -> None:
        received.append(number)
        if len(received) > 1:
            # SystemExit ends this process like an error does, so no worker stays behind.
            sys.exit(128 + number)
        if number == signal.SIGTERM:
            for worker in workers:
                worker.terminate()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, receive)


def wait_for(workers: list[subprocess.Popen]) -> int:
    """Wait for workers; returns 0 if all ended well, 143 or 130 if a signal stopped them, else 1.

    After one failed, the others have PATIENCE seconds to end.
    """
    deadline = math.inf
    while time.monotonic() < deadline:
        statuses = [worker.poll() for worker in workers]
        failed = [(i, s) for i, s in enumerate(statuses) if s and s not in STOPPED]
        if failed and deadline == math.inf:
            # One failure soon ends the other workers, so which failed first may be unknown.
            ended = ", ".join(f"Worker {i} ended with status {status}" for i, status in failed)
            print(
                f"{ended}; the others end too. "
                "To continue, start again with the run's last checkpoint.",
                file=sys.stderr,
                flush=True,
            )
            deadline = time.monotonic() + PATIENCE
        if None not in statuses:
            return 1 if failed else max(statuses)
        time.sleep(0.1)
    return 1


def run_worker(arguments: argparse.Namespace) -> None:
    """Join the other workers and run the script."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    # Otherwise JAX catches SIGTERM for programs that poll it, and Slurm has to kill the worker.
    os.environ.setdefault("JAX_ENABLE_PREEMPTION_SERVICE", "false")
    if ROOT_DIR not in sys.path:
        sys.path.append(ROOT_DIR)
    from mrcnn import quiet

    quiet.import_keras()
    import keras

    from mrcnn.training import distribution

    distribution.join(arguments.address, arguments.workers, arguments.index)
    # Random data sets and splits must be the same in every worker.
    keras.utils.set_random_seed(arguments.seed)
    sys.argv = [arguments.script, *arguments.arguments]
    sys.path.insert(0, os.path.dirname(os.path.abspath(arguments.script)))
    runpy.run_path(arguments.script, run_name="__main__")


def end_at_once(error: BaseException) -> None:
    """End with an error at once; Python's normal end would wait for the other workers."""
    status = error.code if isinstance(error, SystemExit) else 1
    if isinstance(error, KeyboardInterrupt):
        status = 128 + signal.SIGINT
    if status in STOPPED:
        pass  # a signal: the training has said where it stopped
    elif isinstance(status, int):
        traceback.print_exception(error)
    else:
        print(status, file=sys.stderr)
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def main(argv: Sequence[str] | None = None) -> None:
    """Start all workers, or run as one of them."""
    arguments = parse_arguments(argv)
    if arguments.workers is not None and arguments.address is None:
        sys.exit(start_here(arguments))
    try:
        run_worker(arguments)
    except BaseException as error:
        if isinstance(error, SystemExit) and not error.code:
            raise
        end_at_once(error)


if __name__ == "__main__":
    main()
