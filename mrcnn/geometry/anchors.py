"""Anchors: the boxes that the region proposal network scores and refines (Faster R-CNN, 3.1.1)."""

from __future__ import annotations

import numpy as np


def generate_anchors(scales, ratios, shape, feature_stride, anchor_stride) -> np.ndarray:
    """Anchors of one feature map, in pixels of the image.

    Args:
        scales: side(s) of a square anchor in pixels; a number or a list of them.
        ratios: width / height of the anchors; `0.5` is a tall one.
        shape: `(height, width)` of the feature map.
        feature_stride: pixels of the image from one cell of the map to the next.
        anchor_stride: 1 puts anchors on every cell, 2 on every other one.

    Returns:
        `[cells * len(scales) * len(ratios), (y1, x1, y2, x2)]` float64, row by row; a cell's
        anchors follow each other, in the order of the network's outputs.
    """
    scale, ratio = np.meshgrid(np.atleast_1d(scales), np.atleast_1d(ratios))
    scale, root = scale.ravel(), np.sqrt(ratio.ravel())
    half_size = 0.5 * np.stack([scale / root, scale * root], axis=1)

    rows = np.arange(0, shape[0], anchor_stride) * feature_stride
    columns = np.arange(0, shape[1], anchor_stride) * feature_stride
    center = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 1, 2)
    return np.concatenate([center - half_size, center + half_size], axis=-1).reshape(-1, 4)


def generate_pyramid_anchors(
    scales, ratios, feature_shapes, feature_strides, anchor_stride
) -> np.ndarray:
    """Anchors of all levels of a pyramid, one scale a level (FPN, 4.1), finest level first.

    Args:
        scales: `[levels]` pixels, or one list of scales a level.
        ratios: width / height, the same on every level.
        feature_shapes: `[levels, (height, width)]`.
        feature_strides: `[levels]` pixels.
        anchor_stride: as in `generate_anchors`.

    Returns:
        `[A, (y1, x1, y2, x2)]` float64 in pixels: 261,888 at 1024x1024 with stride 1.
    """
    levels = zip(scales, feature_shapes, feature_strides, strict=True)
    return np.concatenate(
        [
            generate_anchors(scale, ratios, shape, stride, anchor_stride)
            for scale, shape, stride in levels
        ]
    )
