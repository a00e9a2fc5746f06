"""Figures that several reports draw."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mrcnn.data.dataset import Dataset
from mrcnn.geometry.masks import extract_bboxes
from mrcnn.visualize import draw_instances

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Width of a figure in inches.
_WIDTH = 11.0
# Captions of more objects hide the image.
_CAPTIONS = 15
_NAME_LENGTH = 32


def short_name(dataset: Dataset, image_id: int) -> str:
    """An image's number and the name of its file, for titles."""
    info = dataset.image_info[image_id]
    name = os.path.basename(str(info.get("file_name") or info.get("path") or info["id"]))
    name = name if len(name) <= _NAME_LENGTH else f"…{name[-_NAME_LENGTH:]}"
    return f"{image_id}: {name}"


def as_rgb(image: np.ndarray) -> np.ndarray:
    """The first three channels of an image, or its first one."""
    image = np.asarray(image)
    if image.ndim == 2:
        return image
    return image[..., :3] if image.shape[-1] >= 3 else image[..., 0]


def draw_objects(
    axes: Axes,
    image: np.ndarray,
    objects: dict[str, Any],
    class_names: Sequence[str],
    title: str,
) -> None:
    """Draw an image with objects in the form of a result of `detect`; scores may be missing."""
    masks, class_ids = objects["masks"], np.abs(objects["class_ids"])
    if masks.shape[:2] != image.shape[:2]:  # a data set may give no size without objects
        masks = np.zeros((*image.shape[:2], len(class_ids)), bool)
    draw_instances(
        axes,
        as_rgb(image),
        extract_bboxes(masks),
        masks,
        class_ids,
        class_names,
        objects.get("scores"),
        title=title,
        captions=[""] * len(class_ids) if len(class_ids) > _CAPTIONS else None,
    )
    axes.set_title(title, fontsize="small")


def panels(
    count: int, columns: int = 3, shape: tuple[float, float] = (3, 4)
) -> tuple[Figure, list[Axes]]:
    """A figure with some axes side by side.

    Args:
        count: number of axes. columns: at most so many in a row.
        shape: `(height, width)` of what is drawn, in any unit.
    """
    from matplotlib.figure import Figure

    columns = max(min(columns, count), 1)
    rows = max(-(-count // columns), 1)
    width = _WIDTH / columns
    height = min(width * shape[0] / shape[1], 2 * _WIDTH / rows) + 0.4
    figure = Figure(figsize=(_WIDTH, rows * height), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[count:]:
        axes.set_axis_off()
    return figure, list(grid[:count])


def images(
    arrays: Sequence[np.ndarray], titles: Sequence[str], columns: int = 3, **style: Any
) -> Figure:
    """A figure of images or maps `[H, W]` or `[H, W, 3]`; `style` is for `imshow`."""
    shape = arrays[0].shape[:2] if arrays else (1, 1)
    figure, grid = panels(len(arrays), columns, shape)
    for axes, array, title in zip(grid, arrays, titles, strict=True):
        axes.imshow(array, **style)
        axes.set_title(title, fontsize="small")
        axes.set_axis_off()
    return figure


def histogram(axes: Axes, values: Sequence[float] | np.ndarray, title: str, **style: Any) -> None:
    """Draw a histogram; `style` is for `hist`."""
    values = np.asarray(values, float)
    axes.hist(values[np.isfinite(values)], **{"bins": 30, "color": "C0", **style})
    axes.set_title(title, fontsize="small")
    axes.grid(alpha=0.3)
