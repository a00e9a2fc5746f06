"""COCO figures of a data set, computed by COCO's own tool, pycocotools.

    figures = evaluate(model, dataset)               # {"bbox": {"AP": ...}, "segm": {...}}
    print(summary(figures["segm"]))

The steps of `evaluate` can also be called one by one: `detect_results`; `coco_ground_truth`, or the
annotation file that the data set was read from (then `with_source_ids`); `run_coco_eval`;
`coco_figures`.

Letters: N objects, P predictions, H and W an image's height and width.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mrcnn.data.dataset import Dataset, load_image_for
from mrcnn.evaluation.coco_results import coco_results
from mrcnn.geometry.rle import encode_masks

if TYPE_CHECKING:  # functions import pycocotools themselves: importing mrcnn must stay fast
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

IOU_TYPES = ("bbox", "segm")

# The twelve figures in pycocotools' order: (measure, IoU, object size, detections per image).
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


class Detects(Protocol):
    """The part of a model that evaluation uses; `MaskRCNN` in inference mode has it."""

    config: Any

    def detect(self, images: list[np.ndarray]) -> list[dict[str, Any]]:
        """One dict per image: `rois`, `class_ids`, `scores` and `masks`."""


def evaluate(
    model: Detects,
    dataset: Dataset,
    image_ids: Sequence[int] | None = None,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    coco_gt: COCO | None = None,
) -> dict[str, dict[str, float]]:
    """Detect on images of a data set and compute COCO figures of boxes and masks.

    Detections of any score count, whatever the model's DETECTION_MIN_CONFIDENCE, because average
    precision ranks them all. COCO counts the 100 best detections per image and class: an image
    with more objects of a class cannot reach 1.

    Args:
        model: a `MaskRCNN` in inference mode.
        dataset: a prepared `Dataset` with the class ids that the model was trained with.
        image_ids: ids of the images to evaluate on; None for all.
        limit: evaluate on the first `limit` of them; None or 0 for all.
        progress: function that is called after each image with (images done, total images).
        coco_gt: `COCO(path)` of the annotation file that `dataset` was read from; then its boxes
            and areas are the ground truth. None: they are computed from the data set's masks.

    Returns:
        `{"bbox": figures, "segm": figures}`, each with the keys of `COCO_FIGURES`, in 0..1;
        -1 where the data set has no object of that size.

    Raises:
        ValueError: as `coco_ground_truth` and `run_coco_eval`.
    """
    evals = coco_evals(model, dataset, image_ids, limit, progress, coco_gt)
    return {iou_type: coco_figures(one) for iou_type, one in evals.items()}


def coco_evals(
    model: Detects,
    dataset: Dataset,
    image_ids: Sequence[int] | None = None,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    coco_gt: COCO | None = None,
) -> dict[str, COCOeval]:
    """Pycocotools' evaluation of boxes and masks, from which `evaluate` takes its figures.

    Args:
        model, dataset, image_ids, limit, progress, coco_gt: as in `evaluate`.
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
    return {iou_type: run_coco_eval(coco_gt, results, iou_type, **scope) for iou_type in IOU_TYPES}


def chosen_images(
    dataset: Dataset, image_ids: Sequence[int] | None = None, limit: int | None = None
) -> list[int]:
    """The given image ids or all of the data set, each once; the first `limit` unless it is 0."""
    return _distinct(dataset.image_ids if image_ids is None else image_ids)[: limit or None]


def detect_results(
    model: Detects,
    dataset: Dataset,
    image_ids: Sequence[int] | None = None,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Detect on images of a data set; returns the detections in COCO's results format.

    Args:
        model, dataset, image_ids, limit, progress: as in `evaluate`.

    Returns:
        `coco_results` of all images, detections of any score, with the data set's internal image
        and class ids.
    """
    image_ids = chosen_images(dataset, image_ids, limit)
    results = []
    with _all_scores(model):
        detections = _detect_all(model, dataset, image_ids)
        for done, (image_id, detection) in enumerate(detections, start=1):
            results += coco_results(image_id, detection)
            if progress is not None:
                progress(done, len(image_ids))
    return results


def with_source_ids(dataset: Dataset, results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Results with the image and category ids of the annotation file, such as COCO's own."""
    return [
        {
            **result,
            "image_id": dataset.image_info[result["image_id"]]["id"],
            "category_id": dataset.class_info[result["category_id"]]["id"],
        }
        for result in results
    ]


def source_scope(dataset: Dataset, image_ids: Sequence[int]) -> dict[str, list]:
    """The annotation file's ids of some images and of all classes, for `run_coco_eval`."""
    return {
        "image_ids": [dataset.image_info[image_id]["id"] for image_id in image_ids],
        "category_ids": [info["id"] for info in dataset.class_info[1:]],
    }


def coco_ground_truth(dataset: Dataset, image_ids: Sequence[int] | None = None) -> COCO:
    """Build the ground truth of a data set in memory, as a `COCO` of pycocotools.

    A mask without a pixel is left out, because no detection could match it. A warning says so,
    unless its class id is 0, which some data sets use to mark an image without objects.

    Args:
        dataset: a prepared `Dataset`. Masks become run lengths, negative class ids crowds; ids of
            images and categories are the data set's internal ones.
        image_ids: ids of the images to take, None for all; images without objects count too.

    Raises:
        ValueError: a class id has no name, or the numbers of masks and class ids differ.
    """
    images, annotations = [], []
    for image_id in _distinct(dataset.image_ids if image_ids is None else image_ids):
        masks, class_ids = dataset.load_mask(image_id)
        _check_sizes(image_id, masks, class_ids)
        masks, class_ids = _without_empty_masks(image_id, masks, np.asarray(class_ids))
        _check_class_ids(dataset, image_id, class_ids)
        # Without objects, a data set may return masks of height and width 0.
        has_size = 0 not in masks.shape[:2]
        height, width = (masks if has_size else dataset.load_image(image_id)).shape[:2]
        images.append({"id": image_id, "height": int(height), "width": int(width)})
        annotations += _coco_annotations(image_id, masks, class_ids)
    names = list(dataset.class_names)[1:]
    categories = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
    return _coco(
        _numbered({"images": images, "annotations": annotations, "categories": categories})
    )


def run_coco_eval(
    coco_gt: COCO,
    results: Sequence[dict[str, Any]],
    iou_type: str,
    image_ids: Sequence[int] | None = None,
    category_ids: Sequence[int] | None = None,
) -> COCOeval:
    """Match results to the ground truth; nothing is printed.

    pycocotools is the reference. If the library faster-coco-eval is installed, it is used instead:
    it computes the same figures in less time.

    Args:
        coco_gt: from `coco_ground_truth`, or `COCO(path)` of a COCO annotation file; it is not
            changed.
        results: in COCO's format, as from `coco_results`; may be empty.
        iou_type: "bbox" or "segm". A detection counts as small, medium or large by the area of its
            box for "bbox", and by the area of its mask for "segm".
        image_ids, category_ids: ids to evaluate on, None for all of `coco_gt`.

    Returns:
        The library's `COCOeval`, accumulated and summarized. Its annotations are numbered from 1 in
        the order of `coco_gt.dataset`.

    Raises:
        ValueError: another iou_type; a result has an image, category or mask size that the ground
            truth does not have.
    """
    if iou_type not in IOU_TYPES:
        raise ValueError(f"iou_type is {iou_type!r}; it must be 'bbox' or 'segm'.")
    for result in results:
        _check_result(coco_gt, result, iou_type)
    annotations = [
        _result_as_annotation(result, number, iou_type)
        for number, result in enumerate(results, start=1)
    ]
    truth = _numbered(coco_gt.dataset)
    # The libraries' loadRes does this too, but it refuses an empty list and changes the results.
    detected = {**truth, "annotations": annotations}
    coco_eval = _coco_eval(truth, detected, iou_type)
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
    """The twelve figures of `COCO_FIGURES` by name, in 0..1; -1 where there are no objects."""
    # faster-coco-eval adds further figures after the twelve.
    stats = coco_eval.stats[: len(COCO_FIGURES)]
    return {name: float(value) for name, value in zip(COCO_FIGURES, stats, strict=True)}


def ap_by_class(coco_eval: COCOeval) -> dict[str, float]:
    """AP (IoU 0.50:0.95) of each class by name, in 0..1; -1 for a class without objects."""
    all_sizes, most_detections = 0, -1
    precisions = coco_eval.eval["precision"][:, :, :, all_sizes, most_detections]
    categories = coco_eval.cocoGt.loadCats(coco_eval.params.catIds)
    # pycocotools gives -1 at every recall for a class without objects, so the mean is -1.
    return {
        category["name"]: float(precisions[:, :, k].mean()) for k, category in enumerate(categories)
    }


def summary(figures: dict[str, float]) -> str:
    """The usual COCO table of twelve lines for the figures of boxes or of masks."""
    return "\n".join(
        f" Average {measure} @[ IoU={iou:<9} | area={area:>6} | maxDets={count:>3} ] = "
        f"{figures[name]:0.3f}"
        for name, (measure, iou, area, count) in COCO_FIGURES.items()
    )


def _all_scores(model: Detects) -> contextlib.AbstractContextManager:
    """A context in which the model returns detections of any score, if its network can do so."""
    all_scores = getattr(getattr(model, "keras_model", None), "all_scores", None)
    return all_scores() if all_scores else contextlib.nullcontext()


def _detect_all(
    model: Detects, dataset: Dataset, image_ids: Sequence[int]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """`(image_id, detection)` of each image; one batch is in memory at a time."""
    size = model.config.BATCH_SIZE
    for start in range(0, len(image_ids), size):
        batch = image_ids[start : start + size]
        detections = model.detect([load_image_for(model.config, dataset, i) for i in batch])
        yield from zip(batch, detections, strict=True)


def _distinct(image_ids: Sequence[int] | np.ndarray) -> list[int]:
    """Each id once, as COCO requires; samples drawn with replacement repeat some ids."""
    return list(dict.fromkeys(map(int, image_ids)))


def _coco(dataset: dict[str, Any]) -> COCO:
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = dataset
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def _numbered(dataset: dict[str, Any]) -> dict[str, Any]:
    """A data set in COCO's format with annotation ids from 1.

    pycocotools stores the id of the matched object, and 0 means "no match". But some tools count
    from 0, or use an id twice.
    """
    annotations = enumerate(dataset.get("annotations", ()), start=1)
    return {**dataset, "annotations": [{**entry, "id": number} for number, entry in annotations]}


def _coco_eval(truth: dict[str, Any], detected: dict[str, Any], iou_type: str) -> COCOeval:
    try:
        from faster_coco_eval import COCO as FastCOCO
        from faster_coco_eval import COCOeval_faster
    except ImportError:
        from pycocotools.cocoeval import COCOeval

        return COCOeval(_coco(truth), _coco(detected), iou_type)
    return COCOeval_faster(
        FastCOCO(truth), FastCOCO(detected), iou_type, print_function=lambda *_: None
    )


def _check_sizes(image_id: int, masks: np.ndarray, class_ids: np.ndarray) -> None:
    if masks.ndim != 3 or masks.shape[-1] != len(class_ids):
        raise ValueError(
            f"image {image_id}: load_mask gave masks {masks.shape} and class_ids "
            f"{np.shape(class_ids)}; for N objects they are [H, W, N] and [N]."
        )


def _without_empty_masks(
    image_id: int, masks: np.ndarray, class_ids: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    has_pixels = masks.astype(bool, copy=False).any(axis=(0, 1))
    for class_id in class_ids[~has_pixels]:
        if class_id:  # 0 marks an image without objects
            warnings.warn(
                f"image {image_id}: an object of class {class_id} has no pixel in its mask; "
                "it is left out of the evaluation.",
                stacklevel=3,
            )
    return masks[..., has_pixels], class_ids[has_pixels]


def _check_class_ids(dataset: Dataset, image_id: int, class_ids: np.ndarray) -> None:
    known = len(dataset.class_names)
    for class_id in class_ids:
        if not 1 <= abs(class_id) < known:
            raise ValueError(
                f"image {image_id}: class id {class_id} has no name; this data set has the class "
                f"ids 1 to {known - 1}, negative for a crowd."
            )


def _coco_annotations(
    image_id: int, masks: np.ndarray, class_ids: np.ndarray
) -> list[dict[str, Any]]:
    from pycocotools import mask as coco_mask

    return [
        {
            "image_id": image_id,
            "category_id": int(abs(class_id)),
            "iscrowd": int(class_id < 0),
            "area": int(coco_mask.area(segmentation)),
            "bbox": coco_mask.toBbox(segmentation).tolist(),
            "segmentation": segmentation,
        }
        for class_id, segmentation in zip(class_ids, encode_masks(masks), strict=True)
    ]


def _check_result(coco_gt: COCO, result: dict[str, Any], iou_type: str) -> None:
    image_id, category_id = result["image_id"], result["category_id"]
    if image_id not in coco_gt.imgs:
        raise ValueError(f"a result has image_id {image_id!r}, which the ground truth lacks.")
    # pycocotools would leave out such a result without a warning.
    if category_id not in coco_gt.cats:
        raise ValueError(
            f"a result on image {image_id} has category_id {category_id!r}; the ground truth's "
            f"are {sorted(coco_gt.cats)}."
        )
    image = coco_gt.imgs[image_id]
    size = [image["height"], image["width"]]
    # For masks of different sizes pycocotools gives an IoU below 0.
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
