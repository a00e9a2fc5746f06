"""The report on a network with data: each stage of the forward pass, and its errors.

Letters: A anchors, N proposals, D detections. Boxes are `[…, (y1, x1, y2, x2)]`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mrcnn.config import compute_backbone_shapes
from mrcnn.data.dataset import Dataset, load_image_for
from mrcnn.data.loader import load_image_gt
from mrcnn.data.targets import build_detection_targets
from mrcnn.evaluation.errors import CORRECT, IGNORED, MATCH_IOU, Judged
from mrcnn.evaluation.report import Evaluation, evaluation_of
from mrcnn.geometry.boxes import apply_box_deltas, denorm_boxes
from mrcnn.inspection.figures import as_rgb, draw_objects, images, panels, short_name
from mrcnn.inspection.page import Picture, Section, Table
from mrcnn.inspection.tensors import run_graph
from mrcnn.nn.network import INFERENCE_OUTPUTS
from mrcnn.report import truth_of
from mrcnn.visualize import draw_boxes

if TYPE_CHECKING:  # `mask_rcnn` is above this file in the reading order
    from mrcnn.mask_rcnn import MaskRCNN

_SHOWN, _WORST, _FEW_WORST = 20, 10, 4


def model_sections(model: MaskRCNN, dataset: Dataset, limit: int | None = None) -> list[Section]:
    """All sections of the report.

    Args:
        model: in inference mode, with weights.
        dataset: prepared, with the model's classes; at least one image has an object.
        limit: largest number of images to evaluate.

    Raises:
        ValueError: no image has an object.
    """
    image_id = _first_with_objects(dataset)
    stages = Stages(model, dataset, image_id)
    return [
        _rpn_scores(stages),
        _deltas(stages),
        _proposals(stages),
        _targets(stages),
        _detections(stages),
        _masks(stages),
        _features(stages),
        _final(model, dataset, image_id),
        *_errors(model, dataset, limit),
    ]


def _first_with_objects(dataset: Dataset) -> int:
    for image_id in dataset.image_ids.tolist():
        if dataset.load_mask(image_id)[0].any():
            return int(image_id)
    raise ValueError("no image of the data has an object, so there are no targets to look at.")


class Stages:
    """The tensors of one image on its way through the network.

    Attributes:
        NAMES: the layers of the feature maps.
        image: `[H, W, 3]` as the network gets it, not molded.
        values: arrays by name, of the first image of the batch.
    """

    NAMES = ("fpn_p2", "fpn_p3", "fpn_p4", "fpn_p5", "fpn_p6")

    def __init__(self, model: MaskRCNN, dataset: Dataset, image_id: int):
        config = model.config
        self.config, self.dataset, self.image_id = config, dataset, image_id
        self.image, _, self.class_ids, self.boxes, self.masks = load_image_gt(
            dataset, config, image_id, rng=np.random.default_rng(0)
        )
        keras_model = model.keras_model
        names = [one.name for one in keras_model.layers]
        outputs = list(zip(INFERENCE_OUTPUTS, keras_model.outputs, strict=True))
        outputs += [
            (name, keras_model.get_layer(name).output) for name in self.NAMES if name in names
        ]
        pillar = keras_model.get_layer("ROI").output
        for step in ("pre_nms_anchors", "refined_anchors", "refined_anchors_clipped"):
            outputs.append((step, model.ancestor(pillar, f"ROI/{step}")))
        molded, metas, _ = model.mold_inputs([self.image])
        anchors = model.get_anchors(molded.shape[1:])
        inputs = {"input_image": molded, "input_image_meta": metas, "input_anchors": anchors[None]}
        found = run_graph(inputs, outputs)
        self.values = {name: array[0] for name, array in found.items()}

    def pixels(self, name: str) -> np.ndarray:
        """Normalised boxes of this name in pixels of the image."""
        return denorm_boxes(self.values[name][:, :4], self.image.shape[:2])

    def boxes_figure(self, shown: Sequence[tuple[str, np.ndarray, np.ndarray | None]]) -> Any:
        """A figure of panels `(title, boxes, refined boxes or None)`."""
        figure, grid = panels(len(shown), shape=self.image.shape[:2])
        for axes, (title, boxes, refined) in zip(grid, shown, strict=True):
            draw_boxes(as_rgb(self.image), boxes=boxes, refined_boxes=refined, ax=axes, title=title)
        return figure


# ---- The stages ----------------------------------------------------------------------------------


def _rpn_scores(stages: Stages) -> Section:
    config = stages.config
    ratios = len(config.RPN_ANCHOR_RATIOS)
    scores = stages.values["rpn_class"][:, 1]
    maps, titles, rows, first = [], [], [], 0
    for scale, (height, width) in zip(
        config.RPN_ANCHOR_SCALES, compute_backbone_shapes(config, stages.image.shape), strict=False
    ):
        rows_of_level = -(-int(height) // config.RPN_ANCHOR_STRIDE)
        columns = -(-int(width) // config.RPN_ANCHOR_STRIDE)
        count = rows_of_level * columns * ratios
        level = scores[first : first + count]
        first += count
        maps.append(level.reshape(rows_of_level, columns, ratios).max(axis=-1))
        titles.append(f"{scale:g} px: up to {level.max():.2f}")
        rows.append([f"{scale:g}", count, int((level > 0.5).sum()), float(level.max())])
    look = "Bright where objects of about this size are; before training all have one colour."
    return Section(
        "RPN scores by level",
        short_name(stages.dataset, stages.image_id),
        [
            Picture("Best score of each cell", look, images(maps, titles, vmin=0, vmax=1)),
            Table(
                "Scores",
                "A level without any score above 0.5 has no objects of its size, or is untrained.",
                ["scale", "anchors", "above 0.5", "highest"],
                rows,
            ),
        ],
    )


def _deltas(stages: Stages) -> Section:
    before, after = stages.pixels("pre_nms_anchors"), stages.pixels("refined_anchors")
    clipped = stages.pixels("refined_anchors_clipped")
    figure = stages.boxes_figure(
        [
            ("best anchors", before[:_SHOWN], None),
            ("refined", before[:_SHOWN], after[:_SHOWN]),
            ("clipped to the image", clipped[:_SHOWN], None),
        ]
    )
    return Section(
        "Deltas applied to boxes",
        f"The {_SHOWN} anchors with the best scores.",
        [Picture("Before and after", "Dashed anchors move onto the objects' boxes.", figure)],
    )


def _proposals(stages: Stages) -> Section:
    before = stages.pixels("refined_anchors_clipped")
    kept = stages.pixels("rpn_rois")
    kept = kept[(kept[:, 2] > kept[:, 0]) & (kept[:, 3] > kept[:, 1])]
    figure = stages.boxes_figure(
        [
            (f"before suppression: {len(before)}", before[:100], None),
            (f"proposals: {len(kept)}", kept[:100], None),
            (f"the best {_SHOWN}", kept[:_SHOWN], None),
        ]
    )
    return Section(
        "ProposalLayer",
        f"RPN_NMS_THRESHOLD is {stages.config.RPN_NMS_THRESHOLD}; at most 100 boxes are drawn.",
        [Picture("Suppression", "Each object keeps some boxes, and its doubles are gone.", figure)],
    )


def _targets(stages: Stages) -> Section:
    config = stages.config
    rois = np.rint(stages.pixels("rpn_rois")).astype(np.int32)
    rois = rois[(rois[:, 2] > rois[:, 0]) & (rois[:, 3] > rois[:, 1])]
    if len(rois) == 0 or not (stages.class_ids > 0).any():
        return Section("Detection targets", "The network proposes nothing.", [])
    made = build_detection_targets(
        rois,
        stages.class_ids,
        stages.boxes,
        stages.masks,
        _without_mini_masks(config),
        rng=np.random.default_rng(0),
    )
    chosen, class_ids, _, masks = made
    positive = np.flatnonzero(class_ids > 0)
    negative = np.flatnonzero((class_ids == 0) & (chosen[:, 2] > chosen[:, 0]))
    figure = stages.boxes_figure(
        [
            (f"positive: {len(positive)}", chosen[positive[:_SHOWN]], None),
            (f"negative: {len(negative)}", chosen[negative[:_SHOWN]], None),
        ]
    )
    parts: list[Picture | Table] = [
        Picture(
            "ROIs that train the heads",
            "Positive ROIs overlap an object by at least half; negative ones do not. A training "
            "whose positives are few learns masks slowly.",
            figure,
        )
    ]
    if len(positive):
        few = positive[:12]
        tiles = [masks[i, :, :, class_ids[i]] for i in few]
        titles = [str(stages.dataset.class_names[class_ids[i]])[:20] for i in few]
        look = "Each mask shows the object inside the ROI."
        parts.append(
            Picture(
                "Class and mask of positive ROIs",
                look,
                images(tiles, titles, columns=6, cmap="gray", vmin=0, vmax=1),
            )
        )
    text = "Chosen from the proposals, as training chooses them."
    return Section("Detection targets", text, parts)


def _without_mini_masks(config: Any) -> Any:
    other = copy.copy(config)
    other.USE_MINI_MASK = False
    return other


def _detections(stages: Stages) -> Section:
    config = stages.config
    probabilities, deltas = stages.values["mrcnn_class"], stages.values["mrcnn_bbox"]
    rois = stages.pixels("rpn_rois")
    best = probabilities.argmax(axis=1)
    scores = probabilities.max(axis=1)
    of_best = deltas[np.arange(len(deltas)), best] * np.asarray(config.BBOX_STD_DEV)
    refined = apply_box_deltas(rois, of_best)
    is_object = (best > 0) & (rois[:, 2] > rois[:, 0])
    threshold = config.DETECTION_MIN_CONFIDENCE or 0
    confident = is_object & (scores >= threshold)
    final = stages.values["detections"]
    final = final[final[:, 4] > 0]
    final_boxes = denorm_boxes(final[:, :4], stages.image.shape[:2])
    order = np.argsort(-scores)
    shown = [i for i in order if confident[i]][:_SHOWN]
    figure = stages.boxes_figure(
        [
            ("ROIs of objects, and refined", rois[shown], refined[shown]),
            ("after suppression", final_boxes, None),
        ]
    )
    rows = [
        ["proposals", int((rois[:, 2] > rois[:, 0]).sum())],
        ["an object, not background", int(is_object.sum())],
        [f"score of at least {threshold:g} (DETECTION_MIN_CONFIDENCE)", int(confident.sum())],
        [f"left by suppression ({config.DETECTION_NMS_THRESHOLD:g})", len(final)],
    ]
    return Section(
        "Detections step by step",
        "From proposals to detections.",
        [
            Table(
                "Counts", "Where the numbers fall to 0, objects are lost.", ["step", "boxes"], rows
            ),
            Picture("Boxes", "The refined boxes fit the objects better than the ROIs.", figure),
        ],
    )


def _masks(stages: Stages) -> Section:
    final, masks = stages.values["detections"], stages.values["mrcnn_mask"]
    rows = np.flatnonzero(final[:, 4] > 0)[:12]
    if not len(rows):
        return Section("Predicted masks", "Nothing is detected in this image.", [])
    class_ids = final[rows, 4].astype(int)
    names = stages.dataset.class_names
    figure = images(
        [masks[row, :, :, class_id] for row, class_id in zip(rows, class_ids, strict=True)],
        [f"{names[c]!s:.15} {final[row, 5]:.2f}" for row, c in zip(rows, class_ids, strict=True)],
        columns=6,
        vmin=0,
        vmax=1,
    )
    size = "x".join(map(str, masks.shape[1:3]))
    look = (
        "Clear shapes; a mask without clear edges is unsure, one that fills its box knows no shape."
    )
    return Section(
        "Predicted masks", f"{size} values from 0 to 1.", [Picture("Masks", look, figure)]
    )


def _features(stages: Stages) -> Section:
    names = [name for name in Stages.NAMES if name in stages.values]
    maps = [np.abs(stages.values[name]).mean(axis=-1) for name in names]
    look = "Objects differ from the ground on the level of their size."
    figure = images(
        maps, [f"{name} {m.shape[0]}x{m.shape[1]}" for name, m in zip(names, maps, strict=True)]
    )
    return Section(
        "Feature maps",
        "Mean size of the values over the channels.",
        [Picture("P2 to P6", look, figure)],
    )


def _final(model: MaskRCNN, dataset: Dataset, image_id: int) -> Section:
    return Section(
        "Final predictions",
        "What the network finds, beside the truth.",
        [_pair(model, dataset, image_id, short_name(dataset, image_id))],
    )


def _pair(model: MaskRCNN, dataset: Dataset, image_id: int, title: str) -> Picture:
    image = load_image_for(model.config, dataset, image_id)
    (found,) = model.detect([image])
    figure, grid = panels(2, columns=2, shape=image.shape[:2])
    truth = truth_of(dataset, image_id, image)
    for axes, objects, name in zip(grid, (truth, found), ("truth", "detected"), strict=True):
        count = len(objects["class_ids"])
        draw_objects(axes, image, objects, dataset.class_names, f"{name}: {count}")
    return Picture(title, "Both sides show the same objects with the same outlines.", figure)


# ---- Errors --------------------------------------------------------------------------------------


def _errors(model: MaskRCNN, dataset: Dataset, limit: int | None) -> list[Section]:
    found = evaluation_of(model, dataset, limit)
    names = list(dataset.class_names)
    figures = [
        [name, found.figures["bbox"][name], found.figures["segm"][name]]
        for name in found.figures["bbox"]
    ]
    columns = list(found.classes[0])
    counts = [[kind, number] for kind, number in found.errors.counts.items()]
    confusion = confusion_of(found.coco_gt, found.results, found.threshold, len(names))
    return [
        Section(
            "Precision and recall",
            f"{len(found.images)} images; scores from {found.threshold:.3f} on, where F1 is best: "
            f"precision {found.errors.precision:.3f}, recall {found.errors.recall:.3f}.",
            [
                Picture(
                    "Curves by class",
                    "A good network stays high far to the right.",
                    _curves(found.judged, found.coco_gt, names),
                ),
                Table(
                    "COCO's figures", "-1: no object of that size.", ["", "box", "mask"], figures
                ),
                Table(
                    "By class",
                    "Low recall: objects are missed; low precision: background is found.",
                    columns,
                    [list(row.values()) for row in found.classes],
                ),
            ],
        ),
        Section(
            "Kinds of errors",
            "As TIDE splits them (Bolya et al. 2020).",
            [
                Table(
                    "Counts",
                    "Missed: more data, or anchors; badly placed: longer training; wrong class: "
                    "labels; duplicate: DETECTION_NMS_THRESHOLD; background: negative images.",
                    ["kind", "number"],
                    counts,
                )
            ],
        ),
        Section(
            "Confusion between classes",
            "Objects by row, detections that overlap them by half by column.",
            [
                Table(
                    "Objects and detections",
                    "Numbers beside the diagonal are objects found as another class.",
                    ["truth", *names[1:], "missed"],
                    [
                        [name, *(int(number) for number in row)]
                        for name, row in zip([*names[1:], "background"], confusion, strict=True)
                    ],
                )
            ],
        ),
        _worst(model, dataset, found, "Worst images", _WORST),
    ]


def worst_section(
    model: MaskRCNN, dataset: Dataset, title: str, limit: int | None = None
) -> Section:
    """The images with the most errors, the truth beside the detections.

    Args:
        model, dataset, limit: as in `model_sections`.
        title: of the section.
    """
    return _worst(model, dataset, evaluation_of(model, dataset, limit), title, _FEW_WORST)


def _worst(model: MaskRCNN, dataset: Dataset, found: Evaluation, title: str, count: int) -> Section:
    worst = [row for row in found.worst() if row["f1"] < 1][:count]
    return Section(
        title,
        f"Images with the lowest F1, from a score of {found.threshold:.3f} on."
        if worst
        else "No image has an error.",
        [
            _pair(
                model,
                dataset,
                int(row["image_id"]),
                f"{short_name(dataset, int(row['image_id']))}: F1 {row['f1']:.2f}",
            )
            for row in worst
        ],
    )


def precision_recall(judged: Sequence[Judged], objects: int) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall after each detection, the best score first, `[P]` each.

    Args:
        judged: detections of one class; those in crowds do not count.
        objects: number of objects of the class.
    """
    counted = sorted((one for one in judged if one.kind != IGNORED), key=lambda one: -one.score)
    correct = np.cumsum([one.kind == CORRECT for one in counted])
    return correct / np.arange(1, len(counted) + 1), correct / max(objects, 1)


def _curves(judged: Sequence[Judged], coco_gt: Any, names: Sequence[str]) -> Any:
    figure, (axes,) = panels(1, shape=(1, 2))
    for category, name in enumerate(names[1:], start=1):
        objects = sum(
            one["category_id"] == category and not one["iscrowd"] for one in coco_gt.anns.values()
        )
        if objects:
            precision, recall = precision_recall(
                [one for one in judged if one.category_id == category], objects
            )
            axes.plot(recall, precision, label=name)
    axes.set(xlim=(0, 1.01), ylim=(0, 1.01), xlabel="recall", ylabel="precision")
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(fontsize="small", ncols=2)
    return figure


def confusion_of(
    coco_gt: Any, results: Sequence[dict[str, Any]], threshold: float, classes: int
) -> np.ndarray:
    """Objects by class against the class that they were found as.

    Args:
        coco_gt: from `coco_ground_truth`. results: as for `judge`.
        threshold: lowest score that counts.
        classes: number of classes, the background included.

    Returns:
        `[classes, classes]` int: row k - 1 is class k and the last row the background; column k - 1
        is a detection of class k and the last column a missed object.
    """
    from pycocotools import mask as coco_mask

    table = np.zeros((classes, classes), int)
    for image_id in coco_gt.imgs:
        objects = [one for one in coco_gt.imgToAnns[image_id] if not one["iscrowd"]]
        found = [
            one for one in results if one["image_id"] == image_id and one["score"] >= threshold
        ]
        found.sort(key=lambda one: -one["score"])
        free = np.ones(len(objects), bool)
        ious = (
            np.asarray(
                coco_mask.iou(
                    [one["segmentation"] for one in found],
                    [one["segmentation"] for one in objects],
                    [False] * len(objects),
                )
            )
            if objects and found
            else np.zeros((len(found), len(objects)))
        )
        for detection, row in zip(found, ious.reshape(len(found), len(objects)), strict=True):
            row = np.where(free, row, 0)
            column = detection["category_id"] - 1
            if row.max(initial=0) >= MATCH_IOU:
                taken = int(row.argmax())
                free[taken] = False
                table[objects[taken]["category_id"] - 1, column] += 1
            else:
                table[-1, column] += 1
        for one, is_missed in zip(objects, free, strict=True):
            table[one["category_id"] - 1, -1] += int(is_missed)
    return table
