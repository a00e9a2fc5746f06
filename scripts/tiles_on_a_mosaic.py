"""How good detection in tiles is: AP on a mosaic of images, in one pass and with tiles of any size.

    mrcnn train samples/nucleus/data/train --val samples/nucleus/data/val --weights random \
        --epochs 15 --set IMAGE_MIN_SCALE=0 --set IMAGE_MAX_DIM=256
    python scripts/tiles_on_a_mosaic.py logs/RUN samples/nucleus/data/val --tiles 192 256 384

Each image is resized to the side that the network was trained with, so the mosaic has one scale,
and the objects of neighbouring images touch.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

from mrcnn.data.formats.find import open_labels  # noqa: E402
from mrcnn.data.image import resize_image, resize_mask  # noqa: E402
from mrcnn.geometry.masks import Patch  # noqa: E402
from mrcnn.geometry.rle import patch_rle  # noqa: E402

# Far more than the mosaic has: COCO's own 100 objects per image would hide most of them.
MOST_OBJECTS = 5000


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", help="folder of a run, or a weight file with config.json beside it")
    parser.add_argument("data", help="labelled images")
    parser.add_argument("--tiles", type=int, nargs="+", default=[192, 256, 384])
    parser.add_argument("--overlap", type=int, default=64)
    parser.add_argument("--picture", help="also write the mosaic with the objects of the last size")
    arguments = parser.parse_args()
    # Keras takes seconds to load, so help and wrong arguments come first.
    from mrcnn.training.trained import open_trained

    trained = open_trained(arguments.run)
    side = trained.config.IMAGE_MAX_DIM
    mosaic, truth = make_mosaic(open_labels(arguments.data), side)
    height, width = mosaic.shape[:2]
    print(f"mosaic of {height}x{width} pixels with {len(truth)} objects")
    print("tile  overlap  windows  objects  cut  AP    AP50  seconds")
    # The images apart: no object is cut.
    print(measure(trained, mosaic, truth, side, 0)[0], flush=True)
    for tile in [*arguments.tiles, max(height, width)]:
        row, found = measure(trained, mosaic, truth, tile, arguments.overlap)
        print(row, flush=True)
        if arguments.picture and tile == arguments.tiles[-1]:
            draw(mosaic, found, Path(arguments.picture))


def make_mosaic(dataset: Any, side: int) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """The images side by side, `[H, W, 3]` uint8, and their objects as COCO's annotations."""
    images = []
    for number in dataset.image_ids:
        image = dataset.load_image(number)
        masks, _ = dataset.load_mask(number)
        small, _, scale, padding, crop = resize_image(image, min_dim=side, max_dim=side)
        images.append((small, resize_mask(masks, scale, padding, crop)))
    across = math.ceil(math.sqrt(len(images)))
    down = math.ceil(len(images) / across)
    mosaic = np.zeros((down * side, across * side, 3), np.uint8)
    truth: list[dict[str, Any]] = []
    for place, (image, masks) in enumerate(images):
        top, left = place // across * side, place % across * side
        mosaic[top : top + side, left : left + side] = image
        for index in range(masks.shape[2]):
            patch = Patch(masks[:, :, index].astype(bool), top, left).trimmed()
            if patch.pixels.size:
                y1, x1, y2, x2 = patch.box
                truth.append(
                    {
                        "id": len(truth) + 1,
                        "image_id": 1,
                        "category_id": 1,
                        "iscrowd": 0,
                        "bbox": [x1, y1, x2 - x1, y2 - y1],
                        "area": int(patch.pixels.sum()),
                        "segmentation": patch_rle(patch, mosaic.shape),
                    }
                )
    return mosaic, truth


def measure(
    trained: Any, mosaic: np.ndarray, truth: list[dict[str, Any]], tile: int, overlap: int
) -> tuple[str, dict[str, Any]]:
    """A row of the table, and what was found."""
    from mrcnn.mask_rcnn import MaskRCNN
    from mrcnn.tiles import detect_tiled

    config = trained.config.for_detection()
    config.IMAGES_PER_GPU = 1
    config.IMAGE_RESIZE_MODE = "square"
    # The scale of the training.
    config.IMAGE_MIN_DIM = config.IMAGE_MAX_DIM = -(-tile // 64) * 64
    config.IMAGE_MIN_SCALE = 0
    config.DETECTION_MIN_CONFIDENCE = 0.0
    config.DETECTION_MAX_INSTANCES = 1000
    config.validate()
    model = MaskRCNN("inference", config, str(Path(trained.weights).parent))
    model.load_weights(trained.weights)
    detect_tiled(model, mosaic[:tile, :tile], tile, overlap)  # traces the network
    moves: list[tuple[int, int]] = []
    started = time.perf_counter()
    found = detect_tiled(model, mosaic, tile, overlap, moved=lambda *move: moves.append(move))
    seconds = time.perf_counter() - started
    ap, ap50 = average_precision(truth, found, mosaic.shape)
    confident = found["scores"] >= 0.7
    cut = found["cut"][confident].sum()
    return (
        f"{tile:4d}  {overlap:7d}  {moves[-1][1]:7d}  {confident.sum():7d}  {cut:3d}  "
        f"{ap:.3f} {ap50:.3f} {seconds:7.1f}"
    ), found


def average_precision(
    truth: list[dict[str, Any]], found: dict[str, Any], shape: tuple[int, ...]
) -> tuple[float, float]:
    """AP over IoU 0.5 to 0.95 and AP at 0.5, of masks."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    coco = COCO()
    coco.dataset = {
        "images": [{"id": 1, "height": shape[0], "width": shape[1]}],
        "categories": [{"id": 1, "name": "object"}],
        "annotations": truth,
    }
    results = [
        {"image_id": 1, "category_id": 1, "score": float(score), "segmentation": rle}
        for score, rle in zip(found["scores"], found["masks"], strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), "segm")
        evaluation.params.maxDets = [MOST_OBJECTS]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, 0, 0, 0]
    return float(precision.mean()), float(precision[0].mean())


def draw(mosaic: np.ndarray, found: dict[str, Any], path: Path) -> None:
    """Write the mosaic with the objects of at least 0.7 on it."""
    from mrcnn.data.windowed_images import windows_of_array
    from mrcnn.result_formats.found import FoundImage, FoundObject
    from mrcnn.result_formats.overlays import draw as overlay

    height, width = mosaic.shape[:2]
    objects = [
        FoundObject(1, "", float(score), [x1, y1, x2 - x1, y2 - y1], rle, bool(cut))
        for score, rle, cut, (y1, x1, y2, x2) in zip(
            found["scores"], found["masks"], found["cut"], found["rois"].tolist(), strict=True
        )
        if score >= 0.7
    ]
    windows = windows_of_array(mosaic)
    image = FoundImage(
        1,
        path.name,
        path.stem,
        height,
        width,
        objects,
        lambda: mosaic,
        lambda: contextlib.nullcontext(windows),
    )
    PIL.Image.fromarray(overlay(image)).save(path)


if __name__ == "__main__":
    main()
