"""A run: its folder, its name, its checkpoints, and the epochs it has behind it."""

from __future__ import annotations

import datetime
import os
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass
class RunFolder:
    """Where a run writes, and the epochs it has behind it.

    Attributes:
        log_dir: the folder. checkpoint_path: pattern with `{epoch:04d}`. epoch: 0 for a new run.
    """

    log_dir: str
    checkpoint_path: str
    epoch: int = 0


def run_folder(model_dir, name: str, weights_path=None) -> RunFolder:
    """The folder of the run a checkpoint belongs to, or of a new run.

    Args:
        model_dir: folder of all runs.
        name: Config.NAME.
        weights_path: file that was loaded; one named like a checkpoint inside a run folder
            continues that run.
    """
    run_name = str(name).lower()
    log_dir, epoch = None, 0
    if weights_path:
        path = Path(weights_path).absolute()
        file = re.fullmatch(rf"mask_rcnn_{re.escape(run_name)}_(\d{{4,}})\.h5", path.name)
        if file and re.fullmatch(rf"{re.escape(run_name)}\d{{8}}T\d{{4}}", path.parent.name):
            log_dir, epoch = str(path.parent), int(file.group(1))
            if path.parent.parent != Path(model_dir).absolute():
                log_dir = os.path.join(model_dir, path.parent.name)
    if log_dir is None:
        log_dir = os.path.join(model_dir, f"{run_name}{datetime.datetime.now():%Y%m%dT%H%M}")
    pattern = os.path.join(log_dir, f"mask_rcnn_{run_name}_{{epoch:04d}}.h5")
    return RunFolder(log_dir, pattern, epoch)


def find_last(model_dir, name: str) -> str:
    """Path of the last checkpoint of the last run that has one.

    Raises:
        FileNotFoundError: no run of this name, or none with a checkpoint.
    """
    run_name = re.escape(str(name).lower())
    folder = Path(model_dir)
    named = re.compile(rf"{run_name}\d{{8}}T\d{{4}}")
    runs = [path for path in folder.glob("*") if path.is_dir() and named.fullmatch(path.name)]
    for run in sorted(runs, key=lambda path: path.name, reverse=True):
        epochs = {}
        for path in run.iterdir():
            match = re.fullmatch(rf"mask_rcnn_{run_name}_(\d+)\.h5", path.name)
            if match:
                epochs[int(match.group(1))] = path
        if epochs:
            return str(epochs[max(epochs)])
    raise FileNotFoundError(
        f"no checkpoint of a run named {name!r} in {folder}; train first, or name a weight file."
    )
