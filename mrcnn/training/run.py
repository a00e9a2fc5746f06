"""A run: its folder, the names of its files, the epochs done, and which checkpoints are kept.

A run writes into `<model_dir>/<name><YYYYmmdd>T<HHMM>/`. `<name>` is Config.NAME in lower case, the
rest is the minute in which the model was built. If another run has that folder, the name gets a
number: `leaf20260101T0000_2`. The folder holds

    mask_rcnn_<name>_<epoch:04d>.h5   a checkpoint of each epoch
    mask_rcnn_<name>_<epoch:04d>_step<step:06d>.h5
                                      the state within the next epoch, after so many of its steps
    mask_rcnn_<name>_best.h5          the weights with the best mask AP, see CocoEvaluation
    coco_ap.csv                       COCO's figures by epoch
    class_ap.csv                      mask AP of each class by epoch
    config.json                       the Config, with the names of the classes
    run.json                          one entry per training: command, versions, backend, epochs
    split.json                        which images train and which validate, if that was drawn
    train/, validation/               event files of TensorBoard
    worker<i>/                        files of the callbacks of worker i, see distribution.py
    .lock                             while a process trains the run

The path of a checkpoint names the run, the epoch and the step, so loading one is enough to resume
that run.
These names are defined only in this file.
"""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import json
import logging
import os
import platform
import re
import shlex
import sys
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import filelock
import keras

import mrcnn
from mrcnn.config import Config, class_names_of
from mrcnn.files import read_json, remove_leftovers, write_text
from mrcnn.training import distribution
from mrcnn.training.figures import read_table
from mrcnn.types import PathLike
from mrcnn.weights import hdf5
from mrcnn.weights.checkpoint import validation_loss

logger = logging.getLogger("mrcnn")

# The minute in which a run began, and a number if several runs began in it.
_BEGAN = r"(?P<minute>\d{8}T\d{4})(?:_(?P<number>\d+))?"
# The end of a checkpoint's name: epochs done, and steps of the next one.
_PROGRESS = r"(?P<epoch>\d+)(?:_step(?P<step>\d+))?\.h5"
# Keras' TensorBoard writes there. A new run owns its folder once it has created this one.
_EVENTS_OF_TRAINING = "train"
RECORD = "run.json"
SPLIT = "split.json"
CONFIG = "config.json"
FIGURES_TABLE = "coco_ap.csv"
CLASS_TABLE = "class_ap.csv"
_LOCK = ".lock"


class CheckpointPath(str):
    """The path of a checkpoint, whose item 1 is the path itself.

    In Matterport's releases up to 2.1, `find_last` returned `(folder, checkpoint)`, and scripts of
    that time use `find_last()[1]`. In all other respects this is a str.
    """

    __slots__ = ()

    def __getitem__(self, index: Any) -> str:
        """The path itself for index 1; otherwise a character or a slice, as for any str."""
        return str(self) if index == 1 else super().__getitem__(index)


@dataclass(eq=False)
class Run:
    """One training run.

    Attributes:
        name: Config.NAME in lower case.
        log_dir: folder that this process writes to: the run's folder, or `worker<i>` in it for
            worker i above 0.
        checkpoint_path: pattern of the checkpoints' paths, with `{epoch:04d}`. Braces in the
            folder's name are doubled, as `str.format` requires.
        epoch: number of epochs done.
        step: number of steps done of the next epoch, in the checkpoint of `resume_from`.
        keep: KEEP_CHECKPOINTS: how many of the latest checkpoints to keep, or rules; None for all.
        resume_from: checkpoint whose optimizer and random state the next training takes over.
        is_interrupted: a training of this process stopped there, so its weights are not loaded yet.
        is_new: the folder does not exist yet.
        is_custom: other code, such as a subclass of MaskRCNN, chose folder or pattern.
        notes: what else `run.json` says of the next trainings, such as where the data are.
        split: names of images by part, for `split.json`.
    """

    name: str
    log_dir: str = ""
    checkpoint_path: str = ""
    epoch: int = 0
    step: int = 0
    keep: int | Mapping[str, int] | None = None
    resume_from: PathLike | None = None
    is_interrupted: bool = False
    is_new: bool = False
    is_custom: bool = False
    notes: dict[str, Any] = field(default_factory=dict)
    split: dict[str, list[str]] | None = None
    _folder: str = field(default="", repr=False)
    _texts: dict[str, str] = field(default_factory=dict, repr=False)

    def checkpoint(self, epoch: int) -> str:
        """Path of the checkpoint written after this epoch, counted from 1.

        Raises:
            ValueError: `checkpoint_path` is no pattern.
        """
        try:
            return self.checkpoint_path.format(epoch=epoch)
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(
                f"checkpoint_path is {self.checkpoint_path!r}, no pattern with {{epoch:04d}} "
                f"({error!r}); other braces in it must be doubled."
            ) from error

    def checkpoint_within(self, epoch: int, step: int) -> str:
        """Path of the state after so many steps of the epoch that follows `epoch` whole ones."""
        stem, ending = os.path.splitext(self.checkpoint(epoch))
        return f"{stem}_step{step:06d}{ending}"

    @property
    def kept(self) -> str:
        """What is saved so far, for messages."""
        found = [path for path, *_ in self._within() if os.path.exists(path)]
        if not found and self.epoch:
            found = [self.checkpoint(self.epoch)]
        return (
            f"the last good checkpoint is {found[-1]}" if found else "no checkpoint is written yet"
        )

    @property
    def best(self) -> str:
        """Path of the weights with the best mask AP."""
        return os.path.join(self.log_dir, f"mask_rcnn_{self.name}_best.h5")

    @property
    def figures_path(self) -> str:
        """Path of the table of COCO's figures by epoch."""
        return os.path.join(self.log_dir, FIGURES_TABLE)

    @property
    def class_figures_path(self) -> str:
        """Path of the table of the classes' mask AP by epoch."""
        return os.path.join(self.log_dir, CLASS_TABLE)

    @property
    def config_path(self) -> str:
        """Path of the Config as JSON."""
        return os.path.join(self.log_dir, CONFIG)

    def begin(self) -> None:
        """Create the folder, before the first epoch of a training.

        A new run gets a folder that no other run has, and remembers its name. Temporary files that
        killed processes left in the folder are removed.
        """
        self.checkpoint(1)
        if self.is_new:
            if distribution.worker_index() == 0:
                self._make_folder()
            self._move_to(distribution.text_of_first_worker(self._folder))
            self.is_new = False
        os.makedirs(self.log_dir, exist_ok=True)
        remove_leftovers(self.log_dir)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training this run meanwhile.

        The operating system frees the lock of a process that was killed.

        Raises:
            ValueError: another process trains it.
        """
        lock = filelock.FileLock(os.path.join(self.log_dir, _LOCK), timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout:
            raise ValueError(
                f"another process trains the run in {self.log_dir} now; wait for its end, or begin "
                "a new run."
            ) from None
        except (NotImplementedError, OSError) as error:
            # Some network file systems have no locks.
            logger.warning("%s cannot be locked (%s): start one process only.", self.log_dir, error)
        try:
            yield
        finally:
            if lock.is_locked:
                # Scripts list the folder, so it holds nothing that is of no use to them.
                with contextlib.suppress(OSError):
                    os.unlink(lock.lock_file)
            lock.release()

    def finish_epoch(self, epoch: int) -> None:
        """Count an epoch as done and remove the checkpoints that `keep` leaves out.

        Args:
            epoch: counted from 1; its checkpoint is written.
        """
        self.epoch = epoch
        for path, done, _ in self._within():
            if done < epoch:
                Path(path).unlink(missing_ok=True)
        if self.keep is None:
            return
        rules = self.keep if isinstance(self.keep, Mapping) else {"last": self.keep}
        paths = {e: self.checkpoint(e) for e in range(1, epoch + 1)}
        # The latest is what a resumption needs.
        kept = set(range(epoch - rules.get("last", 1) + 1, epoch + 1))
        if "every" in rules:
            kept |= set(range(0, epoch + 1, rules["every"]))
        if "best" in rules:
            kept |= set(self._ranked(epoch)[: rules["best"]])
        for path in set(paths.values()) - {paths[e] for e in kept if e in paths}:
            Path(path).unlink(missing_ok=True)

    def finish_step(self, epoch: int, step: int) -> None:
        """Remove earlier states of this epoch; that of the step is written."""
        written = self.checkpoint_within(epoch, step)
        for path, *done in self._within():
            if done <= [epoch, step] and path != written:
                Path(path).unlink(missing_ok=True)

    def _within(self) -> list[tuple[str, int, int]]:
        """Path, epochs and steps done of the states within epochs, in this order of time."""
        found = []
        for path in Path(self.log_dir or ".").glob("*_step*.h5"):
            match = re.fullmatch(r"(.*?(?P<epoch>\d*))_step(?P<step>\d+)\.h5", path.name)
            if match and match["epoch"]:
                epoch, step = int(match["epoch"]), int(match["step"])
                # Other programs, or another pattern, may have named the file.
                if os.path.abspath(self.checkpoint_within(epoch, step)) == os.path.abspath(path):
                    found.append((str(path), epoch, step))
        return sorted(found, key=lambda one: one[1:])

    def _ranked(self, epoch: int) -> list[int]:
        """The epochs up to this one, the best first: by mask AP if it is known, else by loss."""
        figures = {
            int(row["epoch"]): -row["segm_AP"]
            for row in read_table(self.figures_path)
            if "segm_AP" in row
        }
        if not figures:
            paths = {e: self.checkpoint(e) for e in range(1, epoch + 1)}
            losses = {e: validation_loss(p) for e, p in paths.items() if os.path.exists(p)}
            figures = {e: loss for e, loss in losses.items() if loss is not None}
        return sorted((e for e in figures if e <= epoch), key=lambda e: (figures[e], e))

    @property
    def record_path(self) -> str:
        """Path of the record of the run's trainings."""
        return os.path.join(self.log_dir, RECORD)

    def write_config(self, config: Config, class_names: Sequence[str] = ()) -> None:
        """Write `config.json` beside the checkpoints, with the settings that JSON can hold.

        An existing `config.json` that does not hold the settings of a Config is not changed.

        Args:
            config: the Config.
            class_names: the names of the classes 1 to K, for a Config without CLASS_NAMES.
        """
        if self.is_custom or not _is_config_or_absent(self.config_path):
            return
        values = config.json_values()
        if class_names and class_names_of(config) is None:
            values["CLASS_NAMES"] = list(class_names)
        self._write(self.config_path, json.dumps(values, indent=2) + "\n")

    def write_record(self, epochs: int) -> None:
        """Add an entry to `run.json`: how this training was started, and `notes`; write the split.

        Args:
            epochs: the epoch that it is to end with.
        """
        if self.is_custom:
            return
        entry = {
            "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            "command": shlex.join(sys.argv),
            "folder": os.getcwd(),
            "backend": keras.backend.backend(),
            "versions": _versions(),
            "epochs": [self.epoch + 1, epochs],
            **self.notes,
        }
        entries = [*read_record(self.log_dir), entry]
        self._write(self.record_path, json.dumps(entries, indent=2) + "\n")
        if self.split is not None:
            path = os.path.join(self.log_dir, SPLIT)
            self._write(path, json.dumps(self.split, indent=1) + "\n")

    def _write(self, path: str, text: str) -> None:
        write_text(path, text)
        self._texts[path] = text

    def restore_folder(self) -> None:
        """Make the run's folder again, with its text files, if somebody has removed it."""
        if os.path.isdir(self.log_dir):
            return
        logger.warning("%s is gone; it is made again.", self.log_dir)
        for path, text in self._texts.items():
            write_text(path, text)

    def choose(self, log_dir: str | None = None, checkpoint_path: str | None = None) -> None:
        """Use a folder or a pattern that other code chose."""
        self.is_new, self.is_custom = False, True
        if log_dir is not None:
            self.log_dir = log_dir
        if checkpoint_path is not None:
            self.checkpoint_path = checkpoint_path

    def _move_to(self, folder: str) -> None:
        self._folder = folder
        self.log_dir = distribution.folder_of_worker(folder)
        start = os.path.join(folder, f"mask_rcnn_{self.name}_")
        start = start.replace("{", "{{").replace("}", "}}")
        self.checkpoint_path = start + "{epoch:04d}.h5"

    def _make_folder(self) -> None:
        """Create the folder; while another run has the name, try the next name."""
        wanted = self._folder
        for folder in _numbered(wanted):
            try:
                # Fails if the folder of events exists. The run's folder itself may exist, because
                # scripts may write into `log_dir` before they train.
                os.makedirs(os.path.join(folder, _EVENTS_OF_TRAINING))
            except FileExistsError:
                continue
            break
        if folder != wanted:
            logger.warning(
                "Another run began in %s since this model was built; this run writes to %s.",
                wanted,
                folder,
            )
            self._move_to(folder)


def read_record(log_dir: PathLike) -> list[dict[str, Any]]:
    """The entries of a run's `run.json`, the first training first; [] if there is none."""
    path = os.path.join(log_dir, RECORD)
    if not os.path.isfile(path):
        return []
    entries = read_json(path)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"{path} is no record of a run, which is a list of objects; move it away.")
    return entries


def _versions() -> dict[str, str]:
    """The versions of Python and of the libraries that results depend on."""
    versions = {"python": platform.python_version(), "mrcnn": mrcnn.__version__}
    for name in ("keras", keras.backend.backend(), "numpy"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # a build without metadata
            versions[name] = "unknown"
    return versions


# New runs of this process without a folder yet, so that two models built in the same minute get
# different names.
_planned: weakref.WeakSet[Run] = weakref.WeakSet()


def new_run(model_dir: PathLike, name: str | None, will_train: bool = True) -> Run:
    """A run that begins now; its folder is created when training begins.

    Args:
        model_dir: folder of all runs.
        name: Config.NAME.
        will_train: False for a model that only detects; then the name is not reserved.

    Raises:
        ValueError: the name holds a slash.
    """
    run = Run(_run_name(name), is_new=True)
    stem = os.path.join(model_dir, f"{run.name}{datetime.datetime.now():%Y%m%dT%H%M}")
    planned = {other._folder for other in _planned}
    for folder in _numbered(stem):
        if folder not in planned and not os.path.exists(folder):
            break
    run._move_to(folder)
    if will_train:
        _planned.add(run)
    return run


def resumed_run(model_dir: PathLike, name: str | None, weights_path: PathLike) -> Run | None:
    """The run that a checkpoint belongs to, None for any other weight file.

    Args:
        model_dir: folder of all runs. A run from another folder continues in this one, with the
            same name.
        name: Config.NAME.
        weights_path: a checkpoint is named like one and lies in a folder named like a run's.
    """
    run = Run(_run_name(name), resume_from=weights_path)
    path = Path(weights_path).absolute()
    checkpoint = _checkpoint_names(run.name).fullmatch(path.name)
    if not checkpoint or not _folder_names(run.name).fullmatch(path.parent.name):
        return None
    is_there = path.parent.parent == Path(model_dir).absolute()
    run._move_to(str(path.parent) if is_there else os.path.join(model_dir, path.parent.name))
    run.epoch, run.step = int(checkpoint["epoch"]), int(checkpoint["step"] or 0)
    return run


def find_last(model_dir: PathLike, name: str | None) -> str:
    """Path of the last checkpoint of the last run that has one.

    Empty or damaged files are skipped with a warning.

    Args:
        model_dir: folder of all runs.
        name: Config.NAME.

    Raises:
        FileNotFoundError: no run of this name, or none with a checkpoint.
    """
    for folder in _run_folders(model_dir, _run_name(name)):
        for path in _checkpoints(folder, _run_name(name)):
            try:
                with hdf5.open_weights(path):
                    return CheckpointPath(path)
            except ValueError as error:
                logger.warning("find_last passes over a checkpoint: %s", error)
    raise FileNotFoundError(
        f"no checkpoint of a run named {name!r} in {Path(model_dir)}; train first, or name a "
        "weight file."
    )


def find_weights(folder: PathLike) -> str | None:
    """The best weights in a run's folder, else its last checkpoint that is whole; None without."""
    best = sorted(Path(folder).glob("mask_rcnn_*_best.h5"))
    for path in [*best, *_checkpoints_of_any(Path(folder))]:
        try:
            with hdf5.open_weights(path):
                return str(path)
        except ValueError as error:
            logger.warning("a damaged weight file is passed over: %s", error)
    return None


def runs_in(folder: PathLike) -> list[str]:
    """The folders of runs of any name inside a folder, the last run first."""
    began = re.compile(f".*{_BEGAN}")
    found = []
    for path in Path(folder).glob("*"):
        match = began.fullmatch(path.name)
        if match and path.is_dir():
            found.append((match["minute"], int(match["number"] or 1), str(path)))
    return [path for _, _, path in sorted(found, reverse=True)]


def _checkpoints_of_any(folder: Path) -> list[Path]:
    return _sorted_checkpoints(folder, re.compile(rf"mask_rcnn_.*_{_PROGRESS}"))


def _run_folders(model_dir: PathLike, run_name: str) -> list[Path]:
    """Folders of the runs of a name, the last run first."""
    named = _folder_names(run_name)
    found = []
    for path in Path(model_dir).glob("*"):
        match = named.fullmatch(path.name)
        if match and path.is_dir():
            found.append((match["minute"], int(match["number"] or 1), path))
    return [path for _, _, path in sorted(found, reverse=True)]


def _checkpoints(folder: Path, run_name: str) -> list[Path]:
    """Checkpoints in a run's folder, the last epoch first."""
    return _sorted_checkpoints(folder, _checkpoint_names(run_name))


def _sorted_checkpoints(folder: Path, named: re.Pattern[str]) -> list[Path]:
    found = [(match, path) for path in folder.iterdir() if (match := named.fullmatch(path.name))]
    done = [(int(match["epoch"]), int(match["step"] or 0), path) for match, path in found]
    return [path for *_, path in sorted(done, reverse=True)]


def _folder_names(run_name: str) -> re.Pattern[str]:
    return re.compile(re.escape(run_name) + _BEGAN)


def _checkpoint_names(run_name: str) -> re.Pattern[str]:
    return re.compile(rf"mask_rcnn_{re.escape(run_name)}_{_PROGRESS}")


def _numbered(stem: str) -> Iterator[str]:
    """Names to try for a folder: the name itself, then with the numbers 2, 3 and so on."""
    yield stem
    number = 2
    while True:
        yield f"{stem}_{number}"
        number += 1


def _run_name(name: str | None) -> str:
    run_name = str(name).lower()
    if "/" in run_name or "\\" in run_name:
        raise ValueError(
            f"NAME is {name!r}; folders and checkpoints carry it, so it may hold no slash. "
            "Runs are kept apart in folders by model_dir."
        )
    return run_name


def _is_config_or_absent(path: str) -> bool:
    """Is there no file, or does it hold the settings of a Config (names in upper case)?"""
    if not os.path.exists(path):
        return True
    try:
        values = read_json(path)
    except ValueError:
        return False
    return isinstance(values, dict) and all(name.isupper() for name in values)
