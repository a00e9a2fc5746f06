"""Pictures of images, objects and detections.

`display_*` makes a figure and shows it on the screen or in the notebook; with `ax` it draws there
and shows nothing. `draw_*` and `plot_*` draw on Axes, return them and never show a figure.
`save_instances` writes a picture file and needs no screen. `apply_mask` and `draw_box` paint into
the array of an image.

An image is `[H, W]`, `[H, W, 1]` or `[H, W, 3]`; integers and floats of any range are scaled to
0..255. Boxes are in pixels, (y2, x2) just outside; masks `[H, W, N]` bool; a colour is (red, green,
blue) in 0..1, and may have an opacity.

If there are more colours, captions, scores or titles than objects, the first ones are used.
"""

from __future__ import annotations

import colorsys
import html
import itertools
import math
import random
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from matplotlib import patches, patheffects
from matplotlib import path as mpath
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mrcnn.evaluation.image_ap import compute_matches
from mrcnn.files import written_beside
from mrcnn.geometry.masks import extract_bboxes, unmold_mask
from mrcnn.types import PathLike

Color: TypeAlias = Sequence[float] | np.ndarray
Colors: TypeAlias = Sequence[Color] | np.ndarray
Texts: TypeAlias = Sequence[str | None] | np.ndarray
Box: TypeAlias = Sequence[float] | np.ndarray

# The original's name for the root folder of its checkout; here it is the folder that holds `mrcnn`.
ROOT_DIR = str(Path(__file__).resolve().parents[1])

# Lowest number of pixels along the longer side of a saved picture: on a small image, lines and
# captions would cover the objects.
SAVED_SIDE = 1200
SAVED_DPI = 100

CAPTION_POINTS = (7.0, 12.0)  # smallest and largest font size
GRAY = (0.5, 0.5, 0.5)
GREEN = (0.0, 1.0, 0.0)
RED = (1.0, 0.0, 0.0)


# ---- Painting into arrays -----------------------------------------------------------------------


def random_colors(N: int, bright: bool = True) -> list[tuple[float, float, float]]:
    """N colours with evenly spaced hues, in an order that looks random but is always the same.

    Args:
        N: number of colours.
        bright: full brightness, else 0.7.
    """
    brightness = 1.0 if bright else 0.7
    colors = [colorsys.hsv_to_rgb(i / N, 1, brightness) for i in range(N)]
    random.Random(0).shuffle(colors)
    return colors


def apply_mask(image: np.ndarray, mask: np.ndarray, color: Color, alpha: float = 0.5) -> np.ndarray:
    """Blend a colour into an image where a mask is set, in place.

    Args:
        image: `[H, W, 3]`, values 0..255 of any dtype.
        mask: `[H, W]`, set where it is 1.
        color: `(red, green, blue)` in 0..1.
        alpha: 0 leaves the image as it is, 1 covers it.

    Returns:
        The same image.

    Raises:
        ValueError: a mask of another size.
    """
    _check_mask_size(image, mask)
    inside = mask == 1
    tint = alpha * np.asarray(color[:3], float) * 255
    image[inside] = (image[inside] * (1 - alpha) + tint).astype(image.dtype)
    return image


def draw_box(image: np.ndarray, box: Box, color: Color) -> np.ndarray:
    """Paint the outline of a box, two pixels wide, into an image, in place.

    Args:
        image: `[H, W, C]`; box: `(y1, x1, y2, x2)` in pixels, clipped to the image.
        color: C values in the image's own range.

    Returns:
        The same image.
    """
    height, width = image.shape[:2]
    y1, y2 = (int(np.clip(y, 0, max(height - 2, 0))) for y in (box[0], box[2]))
    x1, x2 = (int(np.clip(x, 0, max(width - 2, 0))) for x in (box[1], box[3]))
    for y in (y1, y2):
        image[y : y + 2, x1:x2] = color
    for x in (x1, x2):
        image[y1:y2, x : x + 2] = color
    return image


# ---- Objects ------------------------------------------------------------------------------------


def display_instances(
    image: np.ndarray,
    boxes: np.ndarray,
    masks: np.ndarray,
    class_ids: np.ndarray,
    class_names: Sequence[str],
    scores: np.ndarray | None = None,
    title: str = "",
    figsize: tuple[float, float] = (16, 16),
    ax: Axes | None = None,
    show_mask: bool = True,
    show_bbox: bool = True,
    colors: Colors | None = None,
    captions: Texts | None = None,
) -> Axes:
    """Show an image with its objects: `draw_instances` on a new figure, or on `ax`.

    Args:
        figsize: width and height of the figure in inches.
        ax: Axes to draw on without showing them; None for a new figure that is shown.
        The rest is as in `draw_instances`.
    """
    drawn = draw_instances(
        _new_axes(figsize) if ax is None else ax,
        image,
        boxes,
        masks,
        class_ids,
        class_names,
        scores,
        title=title,
        show_mask=show_mask,
        show_bbox=show_bbox,
        colors=colors,
        captions=captions,
    )
    if ax is None:
        _show()
    return drawn


def draw_instances(
    ax: Axes,
    image: np.ndarray,
    boxes: np.ndarray,
    masks: np.ndarray,
    class_ids: np.ndarray,
    class_names: Sequence[str],
    scores: np.ndarray | None = None,
    title: str = "",
    show_mask: bool = True,
    show_bbox: bool = True,
    colors: Colors | None = None,
    captions: Texts | None = None,
) -> Axes:
    """Draw an image with the outlines, masks, boxes and captions of its objects.

    Args:
        image: `[H, W]`, `[H, W, 1]` or `[H, W, 3]`.
        boxes: `[N, (y1, x1, y2, x2)]`; an object whose box is all zero is padding.
        masks: `[H, W, N]`; class_ids: `[N]`, negative for a crowd; scores: N or more, or None.
        class_names: name of each class id, with the background's.
        title: text above the picture; if it is empty and there are no objects, the title says so.
        show_mask: fill the outlines. show_bbox: draw the boxes.
        colors: N or more colours; None or an empty list for `random_colors`.
        captions: N or more texts; None or an empty list for class name and score.

    Raises:
        ValueError: sizes that disagree, or a class id without a name.
    """
    _check_instances(image, boxes, masks, class_ids)
    count = len(boxes)
    if colors is None or not len(colors):
        colors = _line_colors(count)
    chosen = _first(count, "colors", colors)
    if captions is None or not len(captions):
        captions = _captions(class_ids, class_names, scores)
    _draw_image(ax, image, title or ("" if count else "No objects"))
    # Large objects are drawn first, so that small ones in front of them stay visible.
    for i in np.argsort(-_areas(boxes), kind="stable"):
        if not np.any(boxes[i]):
            continue
        _draw_outline(ax, masks[..., i], chosen[i], fill=0.35 if show_mask else 0)
        if show_bbox:
            _draw_rectangle(ax, boxes[i], chosen[i], linewidth=1, alpha=0.8)
    _draw_captions(ax, boxes, captions, image.shape)
    return ax


def save_instances(
    path: PathLike,
    image: np.ndarray,
    result: dict[str, np.ndarray],
    class_names: Sequence[str],
    title: str = "",
) -> None:
    """Write a picture of an image and its objects; needs no screen.

    The longer side of the picture has 1200 pixels, or those of the image if they are more.

    Args:
        path: the file; its ending chooses the format, for example `.png` or `.jpg`.
        image: as given to `detect`.
        result: `rois`, `masks`, `class_ids` and perhaps `scores`: one dict of `detect`, or the
            ground truth.
        class_names: name of each class id.
        title: above the picture.

    Raises:
        ValueError: as `draw_instances`.
    """
    height, width = image.shape[:2]
    scale = max(SAVED_SIDE / max(height, width), 1) / SAVED_DPI
    figure = Figure(figsize=(width * scale, height * scale), dpi=SAVED_DPI)
    draw_instances(
        figure.add_axes((0, 0, 1, 1)),
        image,
        result["rois"],
        result["masks"],
        result["class_ids"],
        class_names,
        result.get("scores"),
        title=title,
    )
    kind = Path(path).suffix[1:].lower()
    with written_beside(path) as temporary:
        figure.savefig(temporary, format=kind, bbox_inches="tight", pad_inches=0)


def display_differences(
    image: np.ndarray,
    gt_box: np.ndarray,
    gt_class_id: np.ndarray,
    gt_mask: np.ndarray,
    pred_box: np.ndarray,
    pred_class_id: np.ndarray,
    pred_score: np.ndarray,
    pred_mask: np.ndarray,
    class_names: Sequence[str],
    title: str = "",
    ax: Axes | None = None,
    show_mask: bool = True,
    show_box: bool = True,
    iou_threshold: float = 0.5,
    score_threshold: float = 0.5,
) -> Axes:
    """Show ground truth (green) and predictions (red), captioned with score / IoU.

    The IoU shown is that of the prediction and its matching object. Without a match, it is the
    highest IoU with any object.

    Args:
        gt_box: `[G, (y1, x1, y2, x2)]`; gt_class_id: `[G]`; gt_mask: `[H, W, G]`.
        pred_box: `[P, (y1, x1, y2, x2)]`; pred_class_id: `[P]`; pred_score: `[P]`;
            pred_mask: `[H, W, P]`.
        iou_threshold, score_threshold: as in `compute_matches`.
        The rest is as in `display_instances`.
    """
    real = np.flatnonzero(np.any(np.reshape(pred_box, (-1, 4)) != 0, axis=1))
    # compute_matches counts predictions in this order.
    order = real[np.argsort(pred_score[real], kind="stable")[::-1]]
    _, pred_match, overlaps = compute_matches(
        gt_box,
        gt_class_id,
        gt_mask,
        pred_box,
        pred_class_id,
        pred_score,
        pred_mask,
        iou_threshold,
        score_threshold,
    )
    ious = [
        row[match] if match > -1 else row.max(initial=0)
        for row, match in zip(overlaps, pred_match, strict=True)
    ]
    pred_captions = [f"{pred_score[i]:.2f} / {iou:.2f}" for i, iou in zip(order, ious, strict=True)]
    return display_instances(
        image,
        np.concatenate([gt_box, pred_box[order]]),
        _joined(gt_mask, pred_mask[..., order]),
        np.concatenate([gt_class_id, pred_class_id[order]]),
        class_names,
        title=title or "Ground Truth and Detections\n GT=green, pred=red, captions: score/IoU",
        ax=ax,
        show_mask=show_mask,
        show_bbox=show_box,
        colors=[GREEN] * len(gt_box) + [RED] * len(order),
        captions=[""] * len(gt_box) + pred_captions,
    )


# ---- Many images, masks by class ----------------------------------------------------------------


def display_images(
    images: Sequence[np.ndarray],
    titles: Sequence[str] | None = None,
    cols: int = 4,
    cmap: Any = None,
    norm: Any = None,
    interpolation: str | None = None,
) -> list[Axes]:
    """Show images in a grid.

    Args:
        images: `[H, W]`, `[H, W, 1]` or `[H, W, 3]` each, of any sizes.
        titles: at least one per image.
        cols: images per row.
        cmap, norm: colours of images without channels, as in matplotlib's `imshow`; grey by
            default.
        interpolation: as in `imshow`.

    Returns:
        One Axes per image.

    Raises:
        ValueError: fewer titles than images.
    """
    titles = [""] * len(images) if titles is None else _first(len(images), "titles", titles)
    rows = max(math.ceil(len(images) / cols), 1)
    figure = _new_figure((14, 14 * rows / cols))
    axes = []
    for i, (image, title) in enumerate(zip(images, titles, strict=True), start=1):
        ax = figure.add_subplot(rows, cols, i)
        ax.set_title(title, fontsize=9)
        ax.axis("off")
        flat = image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image
        shown = flat if flat.ndim == 2 else _as_rgb(flat)
        ax.imshow(shown, cmap=cmap or "gray", norm=norm, interpolation=interpolation)
        axes.append(ax)
    _show()
    return axes


def display_top_masks(
    image: np.ndarray,
    mask: np.ndarray,
    class_ids: np.ndarray,
    class_names: Sequence[str],
    limit: int = 4,
) -> list[Axes]:
    """Show an image and, beside it, the masks of the classes that cover most of it.

    Args:
        image: `[H, W, 3]`; mask: `[H, W, N]`; class_ids: `[N]`.
        class_names: name of each class id.
        limit: number of classes.

    Raises:
        ValueError: sizes that disagree, or a class id without a name.
    """
    if mask.shape[-1] != len(class_ids):
        raise ValueError(
            f"sizes disagree: mask {mask.shape}, class_ids {np.shape(class_ids)}; for N objects "
            "they are [H, W, N] and [N]."
        )
    areas = {i: np.count_nonzero(mask[..., class_ids == i]) for i in np.unique(class_ids)}
    top = sorted((i for i in areas if areas[i]), key=lambda i: areas[i], reverse=True)[:limit]
    images, titles = [image], [f"H x W={image.shape[0]}x{image.shape[1]}"]
    for class_id in top:
        objects = mask[..., class_ids == class_id]
        # Each object has its own shade.
        images.append((objects * np.arange(1, objects.shape[-1] + 1)).sum(axis=-1))
        titles.append(_class_name(class_id, class_names))
    blank = limit - len(top)
    images += [np.zeros(image.shape[:2], int)] * blank
    titles += ["-"] * blank
    return display_images(images, titles, cols=limit + 1, cmap="Blues_r")


# ---- Inside the network -------------------------------------------------------------------------


def draw_rois(
    image: np.ndarray,
    rois: np.ndarray,
    refined_rois: np.ndarray,
    mask: np.ndarray,
    class_ids: np.ndarray,
    class_names: Sequence[str],
    limit: int = 10,
) -> Axes:
    """Draw randomly chosen ROIs (dashed), the refined ROIs (solid) and their masks.

    Args:
        image: `[H, W, 3]`.
        rois, refined_rois: `[N, (y1, x1, y2, x2)]`.
        mask: `[N, h, w]` float, the mask head's output for each ROI.
        class_ids: `[N]`, 0 for a negative ROI.
        class_names: name of each class id.
        limit: largest number of ROIs.
    """
    count = len(rois)
    ids = np.random.permutation(count)[:limit]
    positive = np.count_nonzero(class_ids)
    ax = _new_axes((12, 12))
    _draw_image(
        ax,
        image,
        f"Showing {len(ids)} random ROIs out of {count}\n"
        f"{positive} positive, {count - positive} negative, "
        f"ratio {positive / max(count, 1):.2f}",
    )
    for i, color in zip(ids, _line_colors(len(ids)), strict=True):
        if not class_ids[i]:
            _draw_rectangle(ax, rois[i], GRAY, linewidth=1, linestyle="dashed")
            continue
        _draw_rectangle(ax, rois[i], color, linewidth=1, linestyle="dashed")
        _draw_refinement(ax, rois[i], refined_rois[i], color)
        _draw_outline(ax, unmold_mask(mask[i], rois[i][:4], image.shape), color, fill=0.35)
    refined = [i for i in ids if class_ids[i]]
    names = [_class_name(class_ids[i], class_names) for i in refined]
    _draw_captions(ax, refined_rois[refined], names, image.shape)
    return ax


def draw_boxes(
    image: np.ndarray,
    boxes: np.ndarray | None = None,
    refined_boxes: np.ndarray | None = None,
    masks: np.ndarray | None = None,
    captions: Texts | None = None,
    visibilities: Sequence[int] | None = None,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw boxes before (dashed) and after refinement (solid), joined by a line.

    Args:
        image: `[H, W, 3]`.
        boxes, refined_boxes: `[N, (y1, x1, y2, x2)]`; one of them may be None.
        masks: `[H, W, N]`.
        captions: N or more texts.
        visibilities: N or more, for each box 0 for grey and faint, 1 for coloured, 2 for coloured
            and not dashed; None for 1.
        title: above the picture.
        ax: Axes to draw on, None for a new figure.

    Raises:
        ValueError: neither boxes nor refined boxes; too few captions or visibilities.
    """
    captioned = boxes if refined_boxes is None else refined_boxes
    if captioned is None:
        raise ValueError("draw_boxes needs boxes, refined_boxes or both; it got neither.")
    count = len(captioned)
    if visibilities is not None:
        visibilities = _first(count, "visibilities", visibilities)
    ax = _new_axes((12, 12)) if ax is None else ax
    _draw_image(ax, image, title)
    for i, color in enumerate(_line_colors(count)):
        visibility = 1 if visibilities is None else visibilities[i]
        color = color if visibility else GRAY
        alpha = 1.0 if visibility else 0.5
        if boxes is not None and np.any(boxes[i]):
            style = "solid" if visibility == 2 else "dashed"
            _draw_rectangle(ax, boxes[i], color, linewidth=1.5, linestyle=style, alpha=alpha)
        if refined_boxes is not None and visibility:
            start = boxes[i] if boxes is not None else refined_boxes[i]
            _draw_refinement(ax, start, refined_boxes[i], color)
        if masks is not None:
            _draw_outline(ax, masks[..., i], color, fill=0.35)
    if captions is not None:
        _draw_captions(ax, captioned, captions, image.shape)
    return ax


def display_weight_stats(model: Any) -> None:
    """Show shape, minimum, maximum and standard deviation of each weight, and flag odd ones.

    Args:
        model: a `MaskRCNN`, or a Keras model.
    """
    table = [["WEIGHT NAME", "SHAPE", "MIN", "MAX", "STD"]]
    for weight in getattr(model, "keras_model", model).weights:
        values = weight.numpy()
        flag = _weight_flag(weight.name, values)
        numbers = (values.min(), values.max(), values.std())
        table.append(
            [f"{weight.path}{flag}", str(values.shape), *(f"{number:+10.4f}" for number in numbers)]
        )
    display_table(table)


# ---- Precision, recall, overlaps ----------------------------------------------------------------


def plot_precision_recall(AP: float, precisions: np.ndarray, recalls: np.ndarray) -> Axes:
    """Plot the curve that `compute_ap` returned for an IoU threshold of 0.5.

    Args:
        AP: area under the curve; precisions, recalls: `[K]`.
    """
    ax = _new_axes(None)
    ax.set(
        title=f"Precision-Recall Curve. AP@50 = {AP:.3f}",
        xlabel="Recall",
        ylabel="Precision",
        xlim=(0, 1.1),
        ylim=(0, 1.1),
    )
    ax.plot(recalls, precisions)
    return ax


def plot_overlaps(
    gt_class_ids: np.ndarray,
    pred_class_ids: np.ndarray,
    pred_scores: np.ndarray,
    overlaps: np.ndarray,
    class_names: Sequence[str],
    threshold: float = 0.5,
) -> Axes:
    """Plot the IoU of each prediction with each object, and whether their classes agree.

    Args:
        gt_class_ids: `[G]`; pred_class_ids: `[P]`, 0 for padding in both; pred_scores: P or more.
        overlaps: `[P, G]` IoU.
        class_names: name of each class id.
        threshold: a higher IoU is labelled "match" or "wrong", by the classes.

    Raises:
        ValueError: fewer scores than predictions, or a class id without a name.
    """
    gt_class_ids = gt_class_ids[gt_class_ids != 0]
    pred_class_ids = pred_class_ids[pred_class_ids != 0]
    ax = _new_axes((12, 10))
    ax.imshow(overlaps, interpolation="nearest", cmap="Blues", vmin=0, vmax=1, aspect="auto")
    objects = [_class_name(i, class_names) for i in gt_class_ids]
    scores = _first(len(pred_class_ids), "pred_scores", pred_scores)
    predictions = [
        f"{_class_name(i, class_names)} ({score:.2f})"
        for i, score in zip(pred_class_ids, scores, strict=True)
    ]
    ax.set_xticks(range(len(objects)), objects, rotation=90)
    ax.set_yticks(range(len(predictions)), predictions)
    ax.set(xlabel="Ground Truth", ylabel="Predictions")
    for (i, j), overlap in np.ndenumerate(overlaps):
        verdict = ""
        if overlap > threshold:
            verdict = "\nmatch" if gt_class_ids[j] == pred_class_ids[i] else "\nwrong"
        color = "white" if overlap > 0.5 else "black"
        ax.text(j, i, f"{overlap:.2f}{verdict}", ha="center", va="center", fontsize=9, color=color)
    figure = ax.get_figure()
    assert isinstance(figure, Figure)
    figure.tight_layout()
    return ax


# ---- Tables -------------------------------------------------------------------------------------


def display_table(table: Sequence[Sequence]) -> None:
    """Show rows of cells: as an HTML table in a notebook, as aligned text elsewhere."""
    rows = [[str(cell) for cell in row] for row in table]
    if _in_notebook():
        from IPython.display import HTML, display

        cells = ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows]
        display(HTML(f"<table>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"))
        return
    widths = [max(map(len, column)) for column in itertools.zip_longest(*rows, fillvalue="")]
    for row in rows:
        print("  ".join(map(str.ljust, row, widths)).rstrip())


def _weight_flag(name: str, values: np.ndarray) -> str:
    if not np.all(np.isfinite(values)):
        return "*** not finite"
    # Initial biases and weights of batch normalisation are all equal; those of a kernel never are.
    if name == "kernel" and values.min() == values.max():
        return "*** dead?"
    if np.abs(values).max() > 1000:
        return "*** overflow?"
    return ""


def _in_notebook() -> bool:
    """Does this code run in a notebook's kernel? Such a kernel has already imported IPython."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and "IPKernelApp" in shell.config


# ---- Drawing on Axes ----------------------------------------------------------------------------


def _draw_image(ax: Axes, image: np.ndarray, title: str) -> None:
    height, width = image.shape[:2]
    ax.imshow(_as_rgb(image), interpolation="bicubic")
    ax.set_xlim(-0.5, width - 0.5)
    ax.set_ylim(height - 0.5, -0.5)
    ax.set_title(title)
    ax.axis("off")


def _draw_rectangle(ax: Axes, box: Box, color: Color, **style: Any) -> None:
    y1, x1, y2, x2 = box[:4]
    # The origin of Axes is the centre of the first pixel; the origin of boxes is its corner.
    corner = (x1 - 0.5, y1 - 0.5)
    style["edgecolor"] = color
    ax.add_patch(patches.Rectangle(corner, x2 - x1, y2 - y1, fill=False, **style))


def _draw_refinement(ax: Axes, box: Box, refined: Box, color: Color) -> None:
    _draw_rectangle(ax, refined, color, linewidth=2)
    ax.plot([box[1] - 0.5, refined[1] - 0.5], [box[0] - 0.5, refined[0] - 0.5], color=color)


def _draw_outline(ax: Axes, mask: np.ndarray, color: Color, fill: float) -> None:
    """Draw the outline of a mask `[H, W]` and fill it with the opacity `fill`."""
    rings = _outlines(mask)
    if not rings:
        return
    rgb = tuple(color[:3])
    # One path for all rings. The rings of holes run in the other direction, so holes stay empty.
    path = mpath.Path.make_compound_path(*(mpath.Path(ring, closed=True) for ring in rings))
    ax.add_patch(
        patches.PathPatch(path, facecolor=(*rgb, fill), edgecolor=rgb, linewidth=1.5, zorder=1.5)
    )


def _outlines(mask: np.ndarray) -> list[np.ndarray]:
    """Closed lines around a mask `[H, W]`, each `[K, (x, y)]` from the first pixel's centre."""
    from skimage.measure import find_contours

    y1, x1, y2, x2 = extract_bboxes(mask[..., None])[0]
    # A margin closes the outlines of a mask that touches the image's border.
    inside = np.pad(mask[y1:y2, x1:x2].astype(bool), 1).astype(float)
    if inside.size <= 4:
        return []
    return [ring[:, ::-1] + (x1 - 1, y1 - 1) for ring in find_contours(inside, 0.5)]


def _draw_captions(
    ax: Axes, boxes: np.ndarray, captions: Texts, image_shape: Sequence[int]
) -> None:
    """Write each caption near its box, where it covers the earlier captions least."""
    points = _points_per_pixel(ax, image_shape)
    written = np.zeros((0, 4))
    for box, text in zip(boxes, _first(len(boxes), "captions", captions), strict=True):
        if text is None or not str(text) or not np.any(box):
            continue
        caption = str(text)
        y1, x1, y2, x2 = (float(side) for side in box[:4])
        object_side = points * math.sqrt(max(y2 - y1, 0) * max(x2 - x1, 0))
        size = float(np.clip(5 + 0.03 * object_side, *CAPTION_POINTS))
        # A character of the default font is about 0.6 times as wide as its font size.
        height, width = 1.4 * size / points, 0.6 * size * len(caption) / points
        place = _place((y1, x1, y2, x2), height, width, written, image_shape)
        written = np.concatenate([written, place[None]])
        ax.text(
            place[1] + 0.1 * height,
            place[2] - 0.1 * height,
            caption,
            size=size,
            color="white",
            va="bottom",
            clip_on=True,
            path_effects=[patheffects.withStroke(linewidth=size / 4, foreground="black")],
        )


def _place(
    box: Box, height: float, width: float, written: np.ndarray, image_shape: Sequence[int]
) -> np.ndarray:
    """Place of a caption of `height` x `width`: `(y1, x1, y2, x2)` in the image, near its box."""
    y1, x1, y2, x2 = box
    above, below, inside = y1 - height, y2, y1
    # A small object would vanish behind its own caption.
    rows = (inside, above, below) if y2 - y1 > 5 * height else (above, below, inside)
    corners = np.array([(row, column) for row in rows for column in (x1, x2 - width)])
    room = np.maximum(np.array(image_shape[:2]) - (height, width), 0)
    corners = np.clip(corners, 0, room)
    places = np.concatenate([corners, corners + (height, width)], axis=1)
    # If several places cover equally little, argmin takes the first one, which is preferred.
    return places[np.argmin(_covered(places, written))]


def _covered(places: np.ndarray, written: np.ndarray) -> np.ndarray:
    """The area of each place `[N, 4]` that written captions `[M, 4]` cover, `[N]`."""
    corner = np.maximum(places[:, None, :2], written[None, :, :2])
    opposite = np.minimum(places[:, None, 2:], written[None, :, 2:])
    return np.prod(np.maximum(opposite - corner, 0), axis=-1).sum(axis=-1)


def _points_per_pixel(ax: Axes, image_shape: Sequence[int]) -> float:
    """Width of a pixel of the image in points (1/72 inch)."""
    window = ax.get_window_extent()
    dots = min(window.height / image_shape[0], window.width / image_shape[1])
    return dots * 72 / ax.figure.dpi


# ---- Values, checks, figures --------------------------------------------------------------------


def _as_rgb(image: np.ndarray) -> np.ndarray:
    """Any image as `[H, W, 3]` uint8."""
    image = np.asarray(image)
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[-1] not in (1, 3):
        raise ValueError(
            f"an image of shape {image.shape} cannot be drawn; choose one channel or three: "
            "[H, W], [H, W, 1] or [H, W, 3]."
        )
    if image.dtype != np.uint8:
        image = _to_bytes(np.nan_to_num(image.astype(np.float64)))
    return np.broadcast_to(image, (*image.shape[:2], 3))


def _to_bytes(image: np.ndarray) -> np.ndarray:
    """Floats to 0..255: values up to 1, or above 255, are scaled; others are taken as they are."""
    top = image.max(initial=0)
    scale = 255 if top <= 1 else 255 / top if top > 255 else 1
    return np.clip(np.round(image * scale), 0, 255).astype(np.uint8)


def _line_colors(count: int) -> list[tuple[float, float, float]]:
    """`random_colors` for thin lines: dark colours, mainly blue, are mixed with white."""
    return [_lightened(color) for color in random_colors(count)]


def _lightened(color: tuple[float, float, float]) -> tuple[float, float, float]:
    """The colour, mixed with as much white as it needs to stand out on black."""
    luminance = float(np.dot(color, (0.2126, 0.7152, 0.0722)))
    white = max(0.0, (0.35 - luminance) / (1 - luminance))
    red, green, blue = (part + white * (1 - part) for part in color)
    return red, green, blue


def _areas(boxes: np.ndarray) -> np.ndarray:
    boxes = np.asarray(boxes, float).reshape(-1, 4)
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _joined(masks1: np.ndarray, masks2: np.ndarray) -> np.ndarray:
    """Both in one array `[H, W, N + M]`; if one has no masks, its H and W may have any values."""
    if not masks1.shape[-1] or not masks2.shape[-1]:
        return masks1 if masks1.shape[-1] else masks2
    return np.concatenate([masks1, masks2], axis=-1)


def _captions(
    class_ids: np.ndarray, class_names: Sequence[str], scores: np.ndarray | None
) -> list[str]:
    names = [_class_name(i, class_names) for i in class_ids]
    if scores is None:
        return names
    shown = _first(len(names), "scores", scores)
    return [f"{name} {score:.2f}" for name, score in zip(names, shown, strict=True)]


def _first(count: int, name: str, values: Any) -> Any:
    """The first `count` of the values of the argument `name`, which may have more."""
    if len(values) < count:
        raise ValueError(f"{name} holds {len(values)} of the {count} that are needed.")
    return values[:count]


def _class_name(class_id: int, class_names: Sequence[str]) -> str:
    """Name of a class id; a negative id marks a crowd."""
    if abs(class_id) >= len(class_names):
        raise ValueError(
            f"class id {class_id} has no name: class_names holds {len(class_names)}, with the "
            "background's."
        )
    return class_names[abs(class_id)] + (" (crowd)" if class_id < 0 else "")


def _check_mask_size(image: np.ndarray, masks: np.ndarray) -> None:
    if masks.shape[:2] != image.shape[:2]:
        raise ValueError(
            f"masks of shape {masks.shape} do not fit an image of shape {image.shape}: height and "
            "width must be the same."
        )


def _check_instances(
    image: np.ndarray, boxes: np.ndarray, masks: np.ndarray, class_ids: np.ndarray
) -> None:
    count = len(boxes)
    if not len(class_ids) == masks.shape[-1] == count:
        raise ValueError(
            f"sizes disagree: boxes {np.shape(boxes)}, masks {masks.shape}, class_ids "
            f"{np.shape(class_ids)}; for N objects they are [N, 4], [H, W, N] and [N]."
        )
    if count:
        _check_mask_size(image, masks)


def _new_figure(figsize: tuple[float, float] | None) -> Figure:
    """A pyplot figure, which a notebook shows at the end of its cell."""
    import matplotlib.pyplot as plt

    return plt.figure(figsize=figsize)


def _new_axes(figsize: tuple[float, float] | None) -> Axes:
    return _new_figure(figsize).add_subplot()


def _show() -> None:
    import matplotlib.pyplot as plt

    with warnings.catch_warnings():
        # Without a screen nothing is shown, and the figure can still be saved.
        warnings.filterwarnings("ignore", message=".*(cannot show|cannot be shown)")
        plt.show()
