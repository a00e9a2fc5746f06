"""The report on a weight file: ranges, histograms, broken values, changes. No network is built."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from mrcnn.inspection.figures import histogram, panels
from mrcnn.inspection.page import Picture, Section, Table
from mrcnn.messages import listed
from mrcnn.types import PathLike
from mrcnn.weights import hdf5, torch_files

# Numbers that training never reaches.
_LARGE = 1000.0
# Bars of a histogram in text; any value at all gives a bar above the first.
_BARS = " ▁▂▃▄▅▆▇█"
# Parts of the network in the order of the forward pass, by the beginning of a layer's name.
_PARTS = {
    "conv1": r"(bn_)?conv1",
    "stage 2": r"(res|bn)2",
    "stage 3": r"(res|bn)3",
    "stage 4": r"(res|bn)4",
    "stage 5": r"(res|bn)5",
    "FPN": r"fpn_",
    "RPN": r"rpn_",
    "class and box": r"mrcnn_(class|bbox)",
    "mask": r"mrcnn_mask",
}
Weights = Mapping[str, np.ndarray]


class Stated(NamedTuple):
    """What is said about one array.

    Attributes:
        name: `layer, number of the array`. shape: of the array.
        remark: what looks wrong, or "".
        low, high, mean, spread: smallest, largest, mean value and standard deviation of the finite
            values; None without any.
        bars: a histogram of the finite values from the smallest to the largest, as text.
    """

    name: str
    shape: tuple[int, ...]
    remark: str
    low: float | None = None
    high: float | None = None
    mean: float | None = None
    spread: float | None = None
    bars: str = ""


def read_weights(path: PathLike) -> dict[str, np.ndarray]:
    """The arrays of a weight file by `layer, number`.

    A file of PyTorch (`.pth`, `.pt`, `.bin`, `.safetensors`) has them by its own names.

    Raises:
        FileNotFoundError: there is no such file. ValueError: it is no file of weights.
    """
    if torch_files.is_checkpoint(path):
        tensors = torch_files.read_checkpoint(path)[0]
        # A view in a file may claim any shape.
        large = [name for name, array in tensors.items() if array.size > os.path.getsize(path)]
        if large:
            raise ValueError(f"{path} states more values than it has bytes, in {listed(large)}.")
        return tensors
    with hdf5.open_weights(path) as root:
        layers = hdf5.read_layers(root, ())
        return {
            f"{layer}, {number}": array.read()
            for layer, arrays in layers.items()
            for number, array in enumerate(arrays, start=1)
        }


def weight_sections(weights: Weights, other: Weights | None = None) -> list[Section]:
    """All sections of the report.

    Args:
        weights: from `read_weights`.
        other: weights to compare with, or None.

    Raises:
        ValueError: the two have no array in common.
    """
    stated = [state(name, array) for name, array in weights.items()]
    wrong = [one for one in stated if one.remark]
    sections = [
        Section(
            "What may be wrong",
            f"{len(wrong)} of {len(stated)} arrays.",
            [
                Table(
                    "Findings",
                    "A value that is not finite spoils every result; a kernel of equal values "
                    "computes nothing; values above 1000 come from a training that diverged.",
                    ["layer, array", "finding"],
                    [[one.name, one.remark] for one in wrong],
                )
            ],
        ),
        Section("Histograms", "All values of the parts of the network.", [_histograms(weights)]),
    ]
    if other is not None:
        sections.append(_differences(weights, other))
    rows = [
        [
            one.name,
            "x".join(map(str, one.shape)),
            one.low,
            one.high,
            one.mean,
            one.spread,
            one.bars,
            one.remark,
        ]
        for one in stated
    ]
    columns = ["layer, array", "shape", "smallest", "largest", "mean", "std", "histogram", ""]
    look = (
        "Neighbouring layers of one kind have similar ranges. The histogram goes from the smallest "
        "to the largest value; a kernel has one hump."
    )
    return [
        *sections,
        Section("Layers", f"{len(rows)} arrays.", [Table("Arrays", look, columns, rows)]),
    ]


def state(name: str, array: np.ndarray) -> Stated:
    """Measure one array."""
    finite = array[np.isfinite(array)].astype(np.float64)
    lost = array.size - finite.size
    remark = ""
    if lost:
        remark = f"{lost} of {array.size} values are NaN or infinite"
    # Biases and normalisations begin with equal values; a kernel never does.
    elif array.ndim > 1 and array.size > 1 and finite.min() == finite.max():
        remark = f"dead: all values are {finite.flat[0]:g}"
    elif np.abs(finite).max(initial=0) > _LARGE:
        remark = f"values up to {np.abs(finite).max():.3g}"
    if not finite.size:
        return Stated(name, array.shape, remark)
    return Stated(
        name,
        array.shape,
        remark,
        float(finite.min()),
        float(finite.max()),
        float(finite.mean()),
        float(finite.std()),
        bars(finite),
    )


def bars(values: np.ndarray) -> str:
    """A histogram as text: a bar for each of 16 equal parts between smallest and largest value."""
    counts, _ = np.histogram(values, bins=16)
    heights = np.ceil(counts / max(counts.max(), 1) * (len(_BARS) - 1)).astype(int)
    return "".join(_BARS[height] for height in heights)


def by_part(weights: Weights) -> dict[str, list[np.ndarray]]:
    """The arrays of each part of the network; "others" for layers of other names."""
    parts: dict[str, list[np.ndarray]] = {}
    for name, array in weights.items():
        fits = [part for part, pattern in _PARTS.items() if re.match(pattern, name)]
        parts.setdefault(fits[0] if fits else "others", []).append(array)
    return {part: parts[part] for part in (*_PARTS, "others") if part in parts}


def _histograms(weights: Weights) -> Picture:
    parts = by_part(weights)
    figure, grid = panels(len(parts))
    for axes, (part, arrays) in zip(grid, parts.items(), strict=True):
        # Kernels only: the statistics of a normalisation have other units.
        kernels = [array.ravel() for array in arrays if array.ndim > 1] or [
            a.ravel() for a in arrays
        ]
        histogram(axes, np.concatenate(kernels), part, bins=60, log=True)
    look = "A bell around 0; single far values or two humps are unusual."
    return Picture("Kernels by part", look, figure)


def differences(weights: Weights, other: Weights) -> dict[str, float | None]:
    """Length of the change by the length of the other array; None for another shape."""
    found: dict[str, float | None] = {}
    for name in weights:
        if name not in other:
            continue
        one, two = (np.asarray(x, np.float64) for x in (weights[name], other[name]))
        if one.shape != two.shape:
            found[name] = None
            continue
        length = float(np.linalg.norm(two)) or 1.0
        found[name] = float(np.linalg.norm(one - two)) / length
    return found


def _differences(weights: Weights, other: Weights) -> Section:
    found = differences(weights, other)
    if not found:
        raise ValueError(
            f"the two weight files have no layer in common: one has {next(iter(weights), 'none')}, "
            f"the other {next(iter(other), 'none')}."
        )
    rows = [
        [name, value, "another shape" if value is None else "equal" if value == 0 else ""]
        for name, value in found.items()
    ]
    rows += [[name, None, "only here"] for name in weights if name not in other]
    rows += [[name, None, "only in the other"] for name in other if name not in weights]
    names = [name for name, value in found.items() if value is not None]
    figure, (axes,) = panels(1, shape=(1, 3))
    axes.bar(range(len(names)), [found[name] or 0.0 for name in names], width=1.0)
    axes.set_xlabel("arrays in the order of the network", fontsize="small")
    axes.set_title("length of the change / length of the array", fontsize="small")
    return Section(
        "Difference to the other weights",
        f"{sum(value == 0 for value in found.values())} of {len(found)} arrays are equal.",
        [
            Picture(
                "How far each array has moved",
                "Frozen layers have not moved; a layer that moved by more than its own length was "
                "learned anew.",
                figure,
            ),
            Table(
                "By array",
                "Layers of the classes have another shape for other classes.",
                ["layer, array", "change", ""],
                rows,
            ),
        ],
    )
