"""Reads TensorBoard's event files of training runs as arrays, and draws them in one figure.

    runs = read_runs(["logs/nucleus20260101T0000", "logs/nucleus20260102T0000"])
    runs["nucleus20260101T0000"]["val_loss"].values
    draw_runs(runs).savefig("curves.png")

The folder of a run holds event files, or Keras' folders `train` and `validation` with them. Values
by epoch are named as in Keras' History: `loss`, `val_loss`, `val_segm_AP`, `learning_rate`.
`callbacks.StepLog` adds the values of every step: `Training/Loss`, `Training/mrcnn_mask_loss`,
`Training/learning_rate`.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mrcnn.config import LOSS_NAMES
from mrcnn.messages import listed
from mrcnn.types import PathLike

if TYPE_CHECKING:  # importing it takes a second, so functions import it themselves
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

# The first panels of a figure, in this order.
PANELS = (
    *("loss", *LOSS_NAMES),
    *("bbox_AP", "bbox_AP50", "segm_AP", "segm_AP50"),
    "learning_rate",
    *(f"Training/{name}" for name in ("Loss", *LOSS_NAMES, "learning_rate")),
)
# COCO's twenty other figures are drawn only on request.
_DETAIL = re.compile(r"(bbox|segm)_A[PR].+")
_EVENT_FILES = "*tfevents*"
# A curve with more points is drawn faintly, and the means of this many parts in bold on top.
_LONG = 150


class Scalars(NamedTuple):
    """One curve of a training.

    Attributes:
        steps: `[N]` int64, rising.
        values: `[N]` float64.
    """

    steps: np.ndarray
    values: np.ndarray


Curves = dict[str, Scalars]


# ---- Reading -------------------------------------------------------------------------------------


def find_runs(folder: PathLike) -> list[str]:
    """Folders of runs: a folder itself or folders below it, in alphabetical order."""
    holders = {path.parent for path in Path(folder).rglob(_EVENT_FILES)}
    runs = {holder.parent if holder.name in _PARTS else holder for holder in holders}
    return sorted(str(run) for run in runs)


def read_runs(folders: Iterable[PathLike]) -> dict[str, Curves]:
    """The curves of several runs; the keys are the parts of the paths that differ.

    Args:
        folders: of the runs, see `read_run`.

    Raises:
        FileNotFoundError: a folder has no event files.
    """
    folders = [os.path.abspath(folder) for folder in dict.fromkeys(folders)]
    common = os.path.commonpath([os.path.dirname(folder) for folder in folders]) if folders else ""
    return {os.path.relpath(folder, common): read_run(folder) for folder in folders}


def read_run(folder: PathLike) -> Curves:
    """The curves of one run.

    Keras' values by epoch (`train/epoch_loss`, `validation/epoch_loss`) are named `loss`,
    `val_loss`; their steps are epochs from 1. Values of other programs keep their tags and steps,
    such as `Training/Loss`.

    Args:
        folder: folder of the run.

    Raises:
        FileNotFoundError: it holds no event file.
    """
    run: Curves = {}
    for part, prefix in _PARTS.items():
        where = Path(folder, part)
        if not any(where.glob(_EVENT_FILES)):
            continue
        for tag, scalars in read_events(where).items():
            if tag.startswith("epoch_"):
                name = prefix + tag.removeprefix("epoch_")
                run[name] = Scalars(scalars.steps + 1, scalars.values)
            # Keras also writes the validation values by batch.
            elif not tag.endswith("_vs_iterations"):
                run[prefix + tag] = scalars
    if not run:
        raise FileNotFoundError(
            f"{folder} has no event files of TensorBoard with values in them; the folder of a run "
            "gets some after its first epoch."
        )
    return run


# Keras' folders within a run, and the prefix that History gives to their names.
_PARTS = {"": "", "train": "", "validation": "val_"}


def read_events(folder: PathLike) -> Curves:
    """All scalars in the event files of a folder, by tag, with the files' own steps.

    A resumed run may have written some steps twice; then the later value counts.

    Raises:
        ImportError: TensorBoard is not installed.
    """
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    except ImportError as error:
        raise ImportError("event files are read with TensorBoard: pip install tensorboard") from (
            error
        )
    # 0 keeps all values; by default TensorBoard keeps a sample of them.
    events = EventAccumulator(os.fspath(folder), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    tags = events.Tags()
    found = {tag: _without_repeats(_of_scalars(events, tag)) for tag in tags["scalars"]}
    found |= {tag: _without_repeats(_of_tensors(events, tag)) for tag in tags["tensors"]}
    return {tag: scalars for tag, scalars in found.items() if len(scalars.steps)}


def seconds_per_step(folder: PathLike) -> Scalars:
    """Seconds from one step to the next, as `callbacks.StepLog` wrote them down.

    What comes between epochs, and the start of a resumed run, is left out.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(os.fspath(folder), size_guidance={"scalars": 0})
    events.Reload()
    tag = "Training/Loss"
    found = events.Scalars(tag) if tag in events.Tags()["scalars"] else []
    pairs = [
        (later.step, (later.wall_time - one.wall_time) / (later.step - one.step))
        for one, later in zip(found[:-1], found[1:], strict=True)
        if later.step > one.step
    ]
    # An evaluation takes as long as many steps.
    usual = float(np.median([seconds for _, seconds in pairs])) if pairs else 0.0
    kept = [(step, seconds) for step, seconds in pairs if seconds <= 10 * usual]
    return Scalars(
        np.array([step for step, _ in kept], np.int64), np.array([s for _, s in kept], np.float64)
    )


def _of_scalars(events: Any, tag: str) -> Iterator[tuple[float, int, float]]:
    for event in events.Scalars(tag):
        yield event.wall_time, event.step, event.value


def _of_tensors(events: Any, tag: str) -> Iterator[tuple[float, int, float]]:
    """The tensors with a single number; histograms and pictures, also tensors, are left out."""
    from tensorboard.util.tensor_util import make_ndarray

    for event in events.Tensors(tag):
        value = make_ndarray(event.tensor_proto)
        if value.size == 1 and value.dtype.kind in "fiu":
            yield event.wall_time, event.step, float(value.reshape(()))


def _without_repeats(events: Iterable[tuple[float, int, float]]) -> Scalars:
    """Steps and values in order of time; a repeated step replaces that step and all later ones."""
    steps: list[int] = []
    values: list[float] = []
    for _, step, value in sorted(events, key=lambda event: event[0]):
        while steps and steps[-1] >= step:
            steps.pop()
            values.pop()
        steps.append(step)
        values.append(value)
    return Scalars(np.array(steps, np.int64), np.array(values, np.float64))


# ---- Drawing -------------------------------------------------------------------------------------


def draw_runs(runs: dict[str, Curves], names: Sequence[str] | None = None) -> Figure:
    """One figure with the curves of several runs, each run in its own colour.

    Training is a solid line, validation a dashed line in the same panel. Long curves are drawn
    faintly, with their means over short stretches on top.

    Args:
        runs: result of `read_runs`.
        names: curves to draw, one per panel, without `val_`. None draws `PANELS` and all others,
            except COCO's detailed figures; a curve that has two names is drawn once.

    Raises:
        ValueError: there is no run, or no run has a curve with one of these names.
    """
    from matplotlib.figure import Figure

    if not runs:
        raise ValueError("there is no run to draw; give read_runs at least one folder.")
    known = {name.removeprefix("val_") for run in runs.values() for name in run}
    unknown = sorted(set(names or ()) - known)
    if unknown:
        raise ValueError(
            f"no run has {listed(unknown)}; they have {listed(sorted(known), limit=99)}."
        )
    names = list(names or _panel_names(runs))
    columns = min(3, len(names))
    rows = math.ceil(len(names) / columns)
    size = (4.6 * columns, 2.8 * rows + 0.3 * (1 + len(runs)))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    lines: dict[str, Line2D] = {}
    for axes, name in zip(grid[: len(names)], names, strict=True):
        _draw_panel(axes, name, runs, lines)
    for axes in grid[len(names) :]:
        axes.set_axis_off()
    figure.legend(
        handles=list(lines.values()),
        labels=list(lines),
        loc="outside upper center",
        fontsize="small",
    )
    return figure


def _panel_names(runs: dict[str, Curves]) -> list[str]:
    known = {
        name.removeprefix("val_")
        for run in runs.values()
        for name in run
        if _name_in_keras(name) not in run
    }
    others = sorted(name for name in known - set(PANELS) if not _DETAIL.fullmatch(name))
    return [name for name in PANELS if name in known] + others


def _name_in_keras(name: str) -> str | None:
    """History's name for a value that StepLog wrote by epoch; None for any other."""
    group, _, rest = name.partition("/")
    return None if group != "Validation" else f"val_{'loss' if rest == 'Loss' else rest}"


def _draw_panel(axes: Axes, name: str, runs: dict[str, Curves], lines: dict[str, Line2D]) -> None:
    """Draw one curve of all runs, and add its lines to those of the legend, by their text."""
    for index, (run_name, run) in enumerate(runs.items()):
        for key, style, what in (
            (name, "-", "training"),
            (f"val_{name}", "--", "validation"),
        ):
            if key in run:
                steps, values = run[key]
                color = f"C{index % 10}"
                if len(steps) > _LONG:
                    axes.plot(steps, values, color=color, linewidth=0.5, alpha=0.3, zorder=1)
                    steps, values = _means_of_parts(run[key])
                # A single epoch is drawn as a dot, because it gives no line.
                marker = "o" if len(steps) < 10 else None
                (line,) = axes.plot(steps, values, style, color=color, marker=marker, markersize=3)
                lines.setdefault(f"{run_name}: {what}", line)
    axes.set_title(name, fontsize="medium")
    axes.set_xlabel("step" if name.startswith("Training/") else "", fontsize="small")
    axes.grid(alpha=0.3)
    axes.locator_params(axis="x", integer=True)


def _means_of_parts(scalars: Scalars) -> Scalars:
    """A curve reduced to `_LONG` points, the means of parts of nearly equal length."""
    means = ([part.mean() for part in np.array_split(all_, _LONG)] for all_ in scalars)
    return Scalars(*map(np.array, means))
