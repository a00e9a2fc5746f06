"""Detections in COCO's results format."""

from __future__ import annotations

from typing import Any

import numpy as np

from mrcnn.geometry.rle import encode_masks


def coco_results(image_id: Any, detection: dict[str, Any]) -> list[dict[str, Any]]:
    """Convert the detections of one image to COCO's results format, ready for JSON.

    Args:
        image_id: the image's id in the ground truth.
        detection: one dict of `detect`: `rois` `[P, (y1, x1, y2, x2)]` pixels, `class_ids` `[P]`,
            `scores` `[P]`, `masks` `[H, W, P]` or P run lengths.

    Returns:
        One dict per detection: `image_id`, `category_id` (the class id), `bbox`
        `[x, y, width, height]`, `score`, `segmentation` as run lengths.

    Raises:
        ValueError: sizes that disagree.
    """
    class_ids, scores, masks = (detection[key] for key in ("class_ids", "scores", "masks"))
    boxes = np.asarray(detection["rois"], dtype=float).reshape(-1, 4)
    rles = masks if isinstance(masks, list) else encode_masks(masks)
    if not len(boxes) == len(class_ids) == len(scores) == len(rles):
        raise ValueError(
            f"sizes of the detections on image {image_id} disagree: rois {boxes.shape}, "
            f"class_ids {np.shape(class_ids)}, scores {np.shape(scores)}, masks {np.shape(masks)}."
        )
    return [
        {
            "image_id": image_id,
            "category_id": int(class_id),
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": float(score),
            "segmentation": segmentation,
        }
        for (y1, x1, y2, x2), class_id, score, segmentation in zip(
            boxes.tolist(), class_ids, scores, rles, strict=True
        )
    ]
