"""Anchors: the boxes that the region proposal network scores and refines (Faster R-CNN, 3.1.1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mrcnn.types import Numbers, Shape


def generate_anchors(
    scales: float | Numbers,
    ratios: float | Numbers,
    shape: Shape,
    feature_stride: float,
    anchor_stride: int,
) -> np.ndarray:
    """Anchors of one feature map, in pixels of the image.

    Args:
        scales: side of a square anchor in pixels; a number or a list of them.
        ratios: width / height of the anchors; `0.5` is twice as high as wide.
        shape: `(height, width)` of the feature map.
        feature_stride: pixels of the image from one cell of the feature map to the next.
        anchor_stride: 1 puts anchors on every cell, 2 on every second one.

    Returns:
        `[cells * len(scales) * len(ratios), (y1, x1, y2, x2)]` float64, row by row. The anchors of
        a cell follow each other, in the order of the network's outputs.
    """
    scale, ratio = np.meshgrid(np.atleast_1d(scales), np.atleast_1d(ratios))
    scale, root = scale.ravel(), np.sqrt(ratio.ravel())
    half_size = 0.5 * np.stack([scale / root, scale * root], axis=1)

    rows = np.arange(0, shape[0], anchor_stride) * feature_stride
    columns = np.arange(0, shape[1], anchor_stride) * feature_stride
    center = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 1, 2)
    return np.concatenate([center - half_size, center + half_size], axis=-1).reshape(-1, 4)


def generate_pyramid_anchors(
    scales: Numbers,
    ratios: Numbers,
    feature_shapes: Sequence[Shape] | np.ndarray,
    feature_strides: Numbers,
    anchor_stride: int,
) -> np.ndarray:
    """Anchors of the levels of a pyramid, one scale per level (FPN, 4.1), finest level first.

    Args:
        scales: `[levels]` pixels, or one list of scales per level.
        ratios: width / height, the same on every level.
        feature_shapes: `[levels or more, (height, width)]`. The last levels, which have no scale,
            get no anchors.
        feature_strides: `[levels or more]` pixels.
        anchor_stride: as in `generate_anchors`.

    Returns:
        `[A, (y1, x1, y2, x2)]` float64 in pixels: 261,888 at 1024x1024 with five scales and
        stride 1.

    Raises:
        ValueError: more scales than shapes or strides.
    """
    count = len(scales)
    if count > min(len(feature_shapes), len(feature_strides)):
        raise ValueError(
            f"received {count} scales, {len(feature_shapes)} feature_shapes and "
            f"{len(feature_strides)} feature_strides; every scale needs the shape and the stride "
            "of its level."
        )
    levels = zip(scales, feature_shapes[:count], feature_strides[:count], strict=True)
    return np.concatenate(
        [
            generate_anchors(scale, ratios, shape, stride, anchor_stride)
            for scale, shape, stride in levels
        ]
    )
