"""How good detections are: of one image as the notebooks look at it, of a data set as COCO does.

Letters: G objects of the ground truth, P predictions, H and W an image's height and width.

`compute_ap` and its family look at one image and at all its classes together. Figures to compare
with others' come from COCO's own tool, pycocotools, and take a whole data set:

    figures = evaluate(model, dataset)               # {"bbox": {"AP": ...}, "segm": {...}}
    print(summary(figures["segm"]))

`evaluate` is steps that also stand alone: `detect_results`, `coco_ground_truth` or the annotation
file a data set came from (then `with_source_ids`), `run_coco_eval`, `coco_figures`.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # pycocotools is imported where it is used: importing mrcnn must stay cheap
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

IOU_TYPES = ("bbox", "segm")

# The twelve figures in pycocotools' order: (measure, IoU, size of object, detections an image).
COCO_FIGURES = {
    "AP": ("Precision  (AP)", "0.50:0.95", "all", 100),
    "AP50": ("Precision  (AP)", "0.50", "all", 100),
    "AP75": ("Precision  (AP)", "0.75", "all", 100),
    "APs": ("Precision  (AP)", "0.50:0.95", "small", 100),
    "APm": ("Precision  (AP)", "0.50:0.95", "medium", 100),
    "APl": ("Precision  (AP)", "0.50:0.95", "large", 100),
    "AR1": ("Recall     (AR)", "0.50:0.95", "all", 1),
    "AR10": ("Recall     (AR)", "0.50:0.95", "all", 10),
    "AR100": ("Recall     (AR)", "0.50:0.95", "all", 100),
    "ARs": ("Recall     (AR)", "0.50:0.95", "small", 100),
    "ARm": ("Recall     (AR)", "0.50:0.95", "medium", 100),
    "ARl": ("Recall     (AR)", "0.50:0.95", "large", 100),
}


# ---- One image ----------------------------------------------------------------------------------


# ---- A data set, as COCO does -------------------------------------------------------------------


def evaluate(
    model,
    dataset,
    image_ids: Sequence[int] | None = None,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    coco_gt: COCO | None = None,
) -> dict[str, dict[str, float]]:
    """Detect on images of a data set and score boxes and masks as COCO does.

    Of each class COCO counts the 100 best detections an image, so that an image with more objects
    than that cannot reach 1.

    Args:
        model: a `MaskRCNN` in inference mode.
        dataset: a prepared `Dataset`; class ids are those the model was trained with.
        image_ids: images to look at, None for all.
        limit: at most so many of them, None or 0 for all.
        progress: called with (images done, images in all) after every image.
        coco_gt: the ground truth as its authors published it, `COCO(path)` of the annotation file
            that `dataset` was read from: boxes and areas are the file's. Without it they are those
            of the data set's masks.

    Returns:
        `{"bbox": figures, "segm": figures}`, each with the keys of `COCO_FIGURES`, in 0..1;
        -1 where the data set has no object of that size.
    """
    image_ids = chosen_images(dataset, image_ids, limit)
    if coco_gt is None:
        coco_gt = coco_ground_truth(dataset, image_ids)
        results = detect_results(model, dataset, image_ids, progress=progress)
        scope = {}
    else:
        scope = source_scope(dataset, image_ids)
        results = with_source_ids(
            dataset, detect_results(model, dataset, image_ids, progress=progress)
        )
    return {
        iou_type: coco_figures(run_coco_eval(coco_gt, results, iou_type, **scope))
        for iou_type in IOU_TYPES
    }


def chosen_images(
    dataset, image_ids: Sequence[int] | None = None, limit: int | None = None
) -> list[int]:
    """Image ids to look at: all of the data set or those given, each once, at most `limit`."""
    return _distinct(dataset.image_ids if image_ids is None else image_ids)[: limit or None]


def detect_results(
    model,
    dataset,
    image_ids: Sequence[int] | None = None,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """What a model detects on images of a data set, in COCO's results format.

    Args:
        model, dataset, image_ids, limit, progress: as `evaluate` takes them.

    Returns:
        Results as `coco_results` makes them, with the data set's internal image and class ids.
    """
    image_ids = chosen_images(dataset, image_ids, limit)
    results = []
    for done, (image_id, detection) in enumerate(_detect_all(model, dataset, image_ids), start=1):
        results += coco_results(image_id, detection)
        if progress is not None:
            progress(done, len(image_ids))
    return results


def with_source_ids(dataset, results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Results with the ids that images and classes have at their source, such as COCO's own."""
    return [
        {
            **result,
            "image_id": dataset.image_info[result["image_id"]]["id"],
            "category_id": dataset.class_info[result["category_id"]]["id"],
        }
        for result in results
    ]


def source_scope(dataset, image_ids: Sequence[int]) -> dict[str, list]:
    """What `run_coco_eval` is to look at: the source's ids of these images and of all classes."""
    return {
        "image_ids": [dataset.image_info[image_id]["id"] for image_id in image_ids],
        "category_ids": [info["id"] for info in dataset.class_info[1:]],
    }


def coco_ground_truth(dataset, image_ids: Sequence[int] | None = None) -> COCO:
    """The ground truth of a data set as pycocotools holds it, built in memory.

    Args:
        dataset: a prepared `Dataset`. Its masks become run lengths, its negative class ids
            crowds; ids of images and categories are its internal ones.
        image_ids: images to take, None for all; those without objects count too.

    Raises:
        ValueError: a class id without a name, or masks and class ids that disagree.
    """
    images, annotations = [], []
    for image_id in _distinct(dataset.image_ids if image_ids is None else image_ids):
        masks, class_ids = dataset.load_mask(image_id)
        _check_objects(dataset, image_id, masks, class_ids)
        # A data set without objects may give masks of no size at all.
        has_size = 0 not in masks.shape[:2]
        height, width = (masks if has_size else dataset.load_image(image_id)).shape[:2]
        images.append({"id": image_id, "height": int(height), "width": int(width)})
        annotations += _coco_annotations(image_id, masks, class_ids)
    # Ids start at 1: to pycocotools an object found by detection 0 is not found.
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
    names = list(dataset.class_names)[1:]
    categories = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
    return _coco({"images": images, "annotations": annotations, "categories": categories})


def coco_results(image_id: int, detection: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """What was detected on one image in COCO's results format, ready for JSON.

    Args:
        image_id: the image's id in the ground truth.
        detection: one dict of `MaskRCNN.detect`: `rois` `[P, (y1, x1, y2, x2)]` pixels,
            `class_ids` `[P]`, `scores` `[P]`, `masks` `[H, W, P]`.

    Returns:
        One dict a detection: `image_id`, `category_id` (the class id), `bbox`
        `[x, y, width, height]`, `score`, `segmentation` as run lengths.

    Raises:
        ValueError: sizes that disagree.
    """
    class_ids, scores, masks = (detection[key] for key in ("class_ids", "scores", "masks"))
    boxes = np.asarray(detection["rois"], dtype=float).reshape(-1, 4)
    if not len(boxes) == len(class_ids) == len(scores) == masks.shape[-1]:
        raise ValueError(
            f"sizes of the detections on image {image_id} disagree: rois {boxes.shape}, "
            f"class_ids {np.shape(class_ids)}, scores {np.shape(scores)}, masks {masks.shape}."
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
            boxes.tolist(), class_ids, scores, encode_masks(masks), strict=True
        )
    ]


def evaluate_coco(
    coco_gt: COCO, results: Sequence[dict[str, Any]], iou_type: str
) -> dict[str, float]:
    """The twelve COCO figures of results, by name: `coco_figures` of `run_coco_eval`."""
    return coco_figures(run_coco_eval(coco_gt, results, iou_type))


def run_coco_eval(
    coco_gt: COCO,
    results: Sequence[dict[str, Any]],
    iou_type: str,
    image_ids: Sequence[int] | None = None,
    category_ids: Sequence[int] | None = None,
) -> COCOeval:
    """Match results to the ground truth; nothing is printed.

    pycocotools is the reference. Where the library faster-coco-eval is installed it does the same
    in less time; its figures are the same.

    Args:
        coco_gt: from `coco_ground_truth`, or `COCO(path)` of a COCO annotation file.
        results: in COCO's format, as from `coco_results`; may be empty.
        iou_type: "bbox" or "segm". The size of a detection, small to large, is by the area of its
            box or of its mask.
        image_ids, category_ids: what to look at, None for all of `coco_gt`.

    Returns:
        The library's `COCOeval`, accumulated and summarized.

    Raises:
        ValueError: another iou_type; a result whose image, category or mask size is not that of
            the ground truth.
    """
    if iou_type not in IOU_TYPES:
        raise ValueError(f"iou_type is {iou_type!r}; it must be 'bbox' or 'segm'.")
    for result in results:
        _check_result(coco_gt, result, iou_type)
    annotations = [
        _result_as_annotation(result, number, iou_type)
        for number, result in enumerate(results, start=1)
    ]
    # The libraries' loadRes would do this, but takes no empty list and writes into the results.
    detected = {**coco_gt.dataset, "annotations": annotations}
    coco_eval = _coco_eval(coco_gt, detected, iou_type)
    if image_ids is not None:
        coco_eval.params.imgIds = list(image_ids)
    if category_ids is not None:
        coco_eval.params.catIds = list(category_ids)
    with contextlib.redirect_stdout(io.StringIO()):
        coco_eval.evaluate()
        coco_eval.accumulate()
        coco_eval.summarize()
    return coco_eval


def coco_figures(coco_eval: COCOeval) -> dict[str, float]:
    """The figures of `COCO_FIGURES` by name, in 0..1; -1 where there is nothing to find."""
    # faster-coco-eval has figures of its own after the twelve.
    stats = coco_eval.stats[: len(COCO_FIGURES)]
    return {name: float(value) for name, value in zip(COCO_FIGURES, stats, strict=True)}


def ap_by_class(coco_eval: COCOeval) -> dict[str, float]:
    """AP (IoU 0.50:0.95) of every class by name, in 0..1; -1 for a class without objects."""
    all_sizes, most_detections = 0, -1
    precisions = coco_eval.eval["precision"][:, :, :, all_sizes, most_detections]
    categories = coco_eval.cocoGt.loadCats(coco_eval.params.catIds)
    # pycocotools writes -1 for all recalls of a class that has no objects: their mean is -1.
    return {
        category["name"]: float(precisions[:, :, k].mean()) for k, category in enumerate(categories)
    }


def summary(figures: dict[str, float]) -> str:
    """The usual COCO table of twelve lines for one dict of figures."""
    return "\n".join(
        f" Average {measure} @[ IoU={iou:<9} | area={area:>6} | maxDets={count:>3} ] = "
        f"{figures[name]:0.3f}"
        for name, (measure, iou, area, count) in COCO_FIGURES.items()
    )


def encode_masks(masks: np.ndarray) -> list[dict[str, Any]]:
    """Masks `[H, W, N]` as N COCO run lengths, `{"size": [H, W], "counts": str}`."""
    from pycocotools import mask as coco_mask

    if not masks.shape[-1]:
        return []
    encoded = coco_mask.encode(np.asfortranarray(masks.astype(bool), dtype=np.uint8))
    return [
        {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}
        for rle in encoded
    ]


def _detect_all(model, dataset, image_ids: Sequence[int]) -> Iterator[tuple[int, dict]]:
    """`(image_id, detection)` of every image, a batch in memory at a time."""
    size = model.config.BATCH_SIZE
    for start in range(0, len(image_ids), size):
        batch = image_ids[start : start + size]
        detections = model.detect([dataset.load_image(image_id) for image_id in batch])
        yield from zip(batch, detections, strict=True)


def _distinct(image_ids: Sequence[int]) -> list[int]:
    """Each id once, as COCO needs them: drawing samples with replacement repeats some."""
    return list(dict.fromkeys(map(int, image_ids)))


def _coco(dataset: dict[str, Any]) -> COCO:
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = dataset
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def _coco_eval(coco_gt: COCO, detected: dict[str, Any], iou_type: str) -> COCOeval:
    try:
        from faster_coco_eval import COCO as FastCOCO
        from faster_coco_eval import COCOeval_faster
    except ImportError:
        from pycocotools.cocoeval import COCOeval

        return COCOeval(coco_gt, _coco(detected), iou_type)
    truth, found = FastCOCO(coco_gt.dataset), FastCOCO(detected)
    return COCOeval_faster(truth, found, iou_type, print_function=lambda *_: None)


def _check_objects(dataset, image_id: int, masks: np.ndarray, class_ids: np.ndarray) -> None:
    if masks.ndim != 3 or masks.shape[-1] != len(class_ids):
        raise ValueError(
            f"image {image_id}: load_mask gave masks {masks.shape} and class_ids "
            f"{np.shape(class_ids)}; for N objects they are [H, W, N] and [N]."
        )
    known = len(dataset.class_names)
    for class_id in class_ids:
        if not 1 <= abs(class_id) < known:
            raise ValueError(
                f"image {image_id}: class id {class_id} has no name; this data set's are 1 to "
                f"{known - 1}, negative for a crowd."
            )


def _coco_annotations(image_id: int, masks: np.ndarray, class_ids: np.ndarray) -> list[dict]:
    from pycocotools import mask as coco_mask

    annotations = []
    for class_id, segmentation in zip(class_ids, encode_masks(masks), strict=True):
        area = int(coco_mask.area(segmentation))
        if not area:
            # Nothing could find it, and it would count as missed.
            warnings.warn(
                f"image {image_id}: an object of class {class_id} has no pixel in its mask; "
                "it is left out of the evaluation.",
                stacklevel=3,
            )
            continue
        annotations.append(
            {
                "image_id": image_id,
                "category_id": int(abs(class_id)),
                "iscrowd": int(class_id < 0),
                "area": area,
                "bbox": coco_mask.toBbox(segmentation).tolist(),
                "segmentation": segmentation,
            }
        )
    return annotations


def _check_result(coco_gt: COCO, result: dict[str, Any], iou_type: str) -> None:
    image_id, category_id = result["image_id"], result["category_id"]
    if image_id not in coco_gt.imgs:
        raise ValueError(f"a result is of image {image_id!r}, which the ground truth has not.")
    # pycocotools would leave such a result out without a word.
    if category_id not in coco_gt.cats:
        raise ValueError(
            f"a result on image {image_id} has category_id {category_id!r}; the ground truth's "
            f"are {sorted(coco_gt.cats)}."
        )
    image = coco_gt.imgs[image_id]
    size = [image["height"], image["width"]]
    # ... and would let masks of two sizes overlap by less than nothing.
    if iou_type == "segm" and list(result["segmentation"]["size"]) != size:
        raise ValueError(
            f"a mask detected on image {image_id} is {result['segmentation']['size']} "
            f"[height, width]; the image is {size}."
        )


def _result_as_annotation(result: dict[str, Any], number: int, iou_type: str) -> dict[str, Any]:
    from pycocotools import mask as coco_mask

    if iou_type == "bbox":
        area = result["bbox"][2] * result["bbox"][3]
    else:
        area = int(coco_mask.area(result["segmentation"]))
    return {**result, "id": number, "iscrowd": 0, "area": area}
