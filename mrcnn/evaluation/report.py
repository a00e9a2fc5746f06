"""All that an evaluation says: COCO's figures, by class, precision and recall, errors by image."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from mrcnn.data.dataset import Dataset
from mrcnn.evaluation.coco import (
    IOU_TYPES,
    Detects,
    ap_by_class,
    chosen_images,
    coco_figures,
    coco_ground_truth,
    detect_results,
    run_coco_eval,
)
from mrcnn.evaluation.errors import (
    CORRECT,
    FALSE_KINDS,
    MISSED,
    Errors,
    Judged,
    best_threshold,
    count_errors,
    judge,
)

if TYPE_CHECKING:
    from pycocotools.coco import COCO


class Evaluation(NamedTuple):
    """The figures of one evaluation.

    Attributes:
        figures: COCO's twelve figures by name, for "bbox" and "segm".
        threshold: the lowest score that counts in what follows.
        is_best_threshold: whether it is the one with the best F1.
        errors: of all images.
        classes: one row per class; None where the data have no object of the class.
        images: one row per image.
        coco_gt: the ground truth, from `coco_ground_truth`.
        results: the detections, from `detect_results`.
        judged: the kind of each detection.
    """

    figures: dict[str, dict[str, float]]
    threshold: float
    is_best_threshold: bool
    errors: Errors
    classes: list[dict[str, Any]]
    images: list[dict[str, Any]]
    coco_gt: COCO
    results: list[dict[str, Any]]
    judged: list[Judged]

    def worst(self) -> list[dict[str, Any]]:
        """The rows of the images, the worst F1 first; of equal ones, that with more errors."""
        return sorted(self.images, key=lambda row: (row["f1"], -row["missed"] - row["false"]))

    def as_json(self) -> dict[str, Any]:
        """Everything but the images, for a JSON file."""
        return {
            "figures": self.figures,
            "threshold": self.threshold,
            "precision": self.errors.precision,
            "recall": self.errors.recall,
            "f1": self.errors.f1,
            "objects": self.errors.objects,
            "counts": self.errors.counts,
            "classes": self.classes,
        }


def evaluation_of(
    model: Detects,
    dataset: Dataset,
    limit: int | None = None,
    threshold: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Detect on a data set and compare with its masks.

    Args:
        model, dataset, limit, progress: as in `evaluation.evaluate`.
        threshold: lowest score for precision, recall and errors. None: where F1 is best.
    """
    image_ids = chosen_images(dataset, None, limit)
    coco_gt = coco_ground_truth(dataset, image_ids)
    results = detect_results(model, dataset, image_ids, progress=progress)
    evals = {iou_type: run_coco_eval(coco_gt, results, iou_type) for iou_type in IOU_TYPES}
    judged = judge(coco_gt, results)
    objects = count_errors(coco_gt, (), 0.0).objects
    score = best_threshold(objects, judged) if threshold is None else threshold
    aps = {iou_type: ap_by_class(found) for iou_type, found in evals.items()}
    return Evaluation(
        {iou_type: coco_figures(found) for iou_type, found in evals.items()},
        score,
        threshold is None,
        count_errors(coco_gt, judged, score),
        [
            _class_row(category, aps, count_errors(coco_gt, judged, score, category_id=number))
            for number, category in enumerate(list(dataset.class_names)[1:], start=1)
        ],
        _image_rows(coco_gt, dataset, judged, score),
        coco_gt,
        results,
        judged,
    )


def _class_row(name: str, aps: dict[str, dict[str, float]], errors: Errors) -> dict[str, Any]:
    has_objects = errors.objects > 0

    def ap(iou_type: str) -> float | None:
        return aps[iou_type][name] if aps[iou_type][name] >= 0 else None

    return {
        "class": name,
        "objects": errors.objects,
        "box AP": ap("bbox"),
        "mask AP": ap("segm"),
        "precision": errors.precision,
        "recall": errors.recall if has_objects else None,
        "F1": errors.f1 if has_objects else None,
        **{kind: errors.counts[kind] for kind in (CORRECT, MISSED, *FALSE_KINDS)},
    }


def _image_rows(
    coco_gt: Any, dataset: Dataset, judged: list[Judged], threshold: float
) -> list[dict[str, Any]]:
    by_image: dict[int, list[Judged]] = {image_id: [] for image_id in coco_gt.imgs}
    for one in judged:
        by_image[one.image_id].append(one)
    rows = []
    for image_id, found in by_image.items():
        objects = sum(not one["iscrowd"] for one in coco_gt.imgToAnns[image_id])
        kinds = [one.kind for one in found if one.score >= threshold]
        counts = {kind: kinds.count(kind) for kind in (CORRECT, *FALSE_KINDS)}
        errors = Errors(objects, {**counts, MISSED: objects - counts[CORRECT]})
        info = dataset.image_info[image_id]
        rows.append(
            {
                "image_id": image_id,
                "name": str(info.get("file_name") or info["id"]),
                "objects": objects,
                "f1": errors.f1,
                **errors.counts,
                "false": sum(counts[kind] for kind in FALSE_KINDS),
            }
        )
    return rows
