"""Run a training script in several processes that train one model together, on JAX.

    python scripts/train_workers.py --workers 2 samples/shapes/shapes.py train --epochs=3
    srun --kill-on-bad-exit=1 python scripts/train_workers.py samples/shapes/shapes.py train
    python scripts/train_workers.py --address HOST:PORT --workers 4 --index 2 SCRIPT …

The first starts both workers on this machine, to try things out or where cores are many. The second
is a worker of a Slurm job, which tells it all it needs (scripts/train.slurm). The third is one of
four workers started by hand; HOST is the machine of the first, index 0.

Every worker runs the script from its beginning, with the same random seed: docs/distribution.md.
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

ROOT_DIR = os.path.abspath(os.path.join(os.path.dirname(__file__), ".."))
# Seconds for the other workers to end by themselves when one has failed.
PATIENCE = 150


def parse_arguments(argv=None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="A training script in several processes that train one model together, on JAX.",
        allow_abbrev=False,
    )
    parser.add_argument("--workers", type=int, metavar="N", help="how many; Slurm knows by itself")
    parser.add_argument("--address", metavar="HOST:PORT", help="of the first worker")
    parser.add_argument("--index", type=int, metavar="I", help="of this worker, from 0")
    parser.add_argument("--seed", type=int, default=0, help="of every worker (default 0)")
    parser.add_argument("script", help="a Python file that calls MaskRCNN.train")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="of the script")
    arguments = parser.parse_args(argv)
    if arguments.workers is not None and arguments.workers < 1:
        parser.error(f"--workers is {arguments.workers}; it must be at least 1.")
    if (arguments.address is None) != (arguments.index is None):
        parser.error("--address and --index belong together; --workers alone starts all here.")
    if arguments.address is not None and arguments.workers is None:
        parser.error("--address needs --workers, how many there are.")
    if not os.path.isfile(arguments.script):
        parser.error(f"there is no file {arguments.script}.")
    return arguments


def start_here(arguments: argparse.Namespace) -> int:
    """Start all workers on this machine and wait for them; the exit status."""
    # Ends as by an error, so that no worker stays behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, __file__, "--address", address]
    command += ["--workers", str(arguments.workers), "--seed", str(arguments.seed)]
    workers = [
        subprocess.Popen([*command, "--index", str(i), arguments.script, *arguments.arguments])
        for i in range(arguments.workers)
    ]
    try:
        return wait_for(workers)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def wait_for(workers: list[subprocess.Popen]) -> int:
    """0 once all workers have ended well; 1 when one failed and the others had time to end."""
    deadline = math.inf
    while time.monotonic() < deadline:
        statuses = [worker.poll() for worker in workers]
        failed = [(i, status) for i, status in enumerate(statuses) if status]
        if failed and deadline == math.inf:
            # A worker ends soon after its peer: which of several was first is not known.
            ended = ", ".join(f"Worker {i} ended with status {status}" for i, status in failed)
            print(
                f"{ended}; the others end too. "
                "Start again with the run's last checkpoint to go on.",
                file=sys.stderr,
                flush=True,
            )
            deadline = time.monotonic() + PATIENCE
        if None not in statuses:
            return int(bool(failed))
        time.sleep(0.1)
    return 1


def run_worker(arguments: argparse.Namespace) -> None:
    """Join the other workers and run the script."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    # Else JAX catches SIGTERM, to tell programs that look at it, and Slurm has to kill the worker.
    os.environ.setdefault("JAX_ENABLE_PREEMPTION_SERVICE", "false")
    if ROOT_DIR not in sys.path:
        sys.path.append(ROOT_DIR)
    import keras

    from mrcnn.training import distribution

    distribution.join(arguments.address, arguments.workers, arguments.index)
    # Scripts that draw a data set or split one at random must do it alike.
    keras.utils.set_random_seed(arguments.seed)
    sys.argv = [arguments.script, *arguments.arguments]
    sys.path.insert(0, os.path.dirname(os.path.abspath(arguments.script)))
    runpy.run_path(arguments.script, run_name="__main__")


def end_at_once(error: BaseException) -> None:
    """End with an error, without waiting for the other workers as Python's own end would."""
    status = error.code if isinstance(error, SystemExit) else 1
    if isinstance(status, int):
        traceback.print_exception(error)
    else:
        print(status, file=sys.stderr)
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def main(argv=None) -> None:
    """Start workers, or be one."""
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
