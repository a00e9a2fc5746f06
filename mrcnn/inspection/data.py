"""The report on a data set: what is in it, what is wrong with it, and what the network gets of it.

Letters: N objects, I images, A anchors. No network is built.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import PIL.Image

from mrcnn.config import Config, compute_backbone_shapes
from mrcnn.data.annotated import load_annotated
from mrcnn.data.dataset import Dataset, describe_image
from mrcnn.data.image import unmold_image
from mrcnn.data.loader import BatchLoader, load_image_gt
from mrcnn.data.targets import build_rpn_targets, pyramid_anchors
from mrcnn.geometry.anchors import generate_anchors
from mrcnn.geometry.boxes import apply_box_deltas, box_area, compute_iou, compute_overlaps
from mrcnn.geometry.masks import (
    compute_overlaps_masks,
    expand_mask,
    extract_bboxes,
    minimize_mask,
)
from mrcnn.inspection.figures import as_rgb, draw_objects, histogram, images, panels, short_name
from mrcnn.inspection.page import Picture, Section, Table
from mrcnn.messages import shortened
from mrcnn.visualize import draw_boxes

# Images and objects that the slower parts look at.
_SHOWN, _MATCHED = 6, 500
_MINI_SIZES = (28, 56, 112)
# Masks of one class with more IoU are probably one object twice.
_DUPLICATE_IOU = 0.9
# A stated box with less IoU with that of its mask disagrees with it.
_BOX_IOU = 0.5
_EXIF_ORIENTATION = 274
# Faster R-CNN, section 3.1.2.
_POSITIVE_IOU = 0.7
# An object whose best anchor has less than the first is hardly found.
_COVER_IOUS = (0.5, _POSITIVE_IOU)


class Measured(NamedTuple):
    """What is measured in all images.

    Attributes:
        class_ids: `[N]` int; negative for a crowd.
        boxes: `[N, (y1, x1, y2, x2)]` in pixels of the image.
        areas: `[N]` pixels.
        counts: `[I]` objects of each image.
        sizes: `[I, (height, width)]`.
        problems: image and what is wrong with it.
        usable: `[I]` ids of the images that could be measured.
    """

    class_ids: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    counts: np.ndarray
    sizes: np.ndarray
    problems: list[tuple[str, str]]
    usable: list[int]


def data_sections(
    dataset: Dataset, config: Config, augmentation: Any = None, limit: int | None = None
) -> list[Section]:
    """All sections of the report.

    Args:
        dataset: prepared, with images. config: as for training.
        augmentation: an augmenter, see `mrcnn.data.augment`, or None.
        limit: largest number of images to look at, spread over the data set.
    """
    measured = measure(dataset, spread(dataset.image_ids.tolist(), limit), config)
    ids = measured.usable
    shown = _with_objects(dataset, ids)
    sections = [_ground_truth(dataset, ids), _counts(dataset, measured), _problems(measured)]
    if not shown:
        return sections
    boxes = network_boxes(dataset, config, spread(ids, _MATCHED))
    return [
        *sections,
        _augmented(dataset, config, shown[0], augmentation),
        _mini_masks(dataset, config, shown),
        _anchors(dataset, config, shown[0], boxes),
        _rpn_targets(dataset, config, shown[0]),
        _batch(dataset, config, augmentation),
    ]


def spread(ids: Sequence[int], limit: int | None) -> list[int]:
    """At most `limit` of the ids, at equal distances."""
    if limit is None or len(ids) <= limit:
        return list(ids)
    return [ids[i] for i in np.linspace(0, len(ids) - 1, limit).astype(int)]


def _with_objects(dataset: Dataset, ids: Iterable[int]) -> list[int]:
    found = []
    for image_id in ids:
        masks, _ = dataset.load_mask(image_id)
        if masks.any():
            found.append(image_id)
        if len(found) == _SHOWN:
            break
    return found


# ---- What is in the data -------------------------------------------------------------------------


def measure(dataset: Dataset, ids: Iterable[int], config: Config) -> Measured:
    """Measure the objects of all images, and list what is wrong with them.

    An image that a training would refuse is a problem too, and is left out of the rest.
    """
    class_ids, boxes, areas, counts, sizes = [], [], [], [], []
    problems: list[tuple[str, str]] = []
    usable: list[int] = []
    for image_id in ids:
        name = describe_image(dataset, image_id)
        try:
            annotated = load_annotated(dataset, config, image_id)
        except Exception as error:
            # A data set may raise anything, and the report shall name all images of this kind.
            problems.append((name, f"cannot be used: {shortened(error, 300)}"))
            continue
        usable.append(int(image_id))
        masks, of_image = annotated.masks, annotated.class_ids
        found = extract_bboxes(masks)
        if annotated.cut_from:
            problems.append((name, "its masks are larger than the image, and are cut to it"))
        problems += [(name, text) for text in problems_of(dataset, image_id, masks, of_image)]
        class_ids.append(of_image)
        boxes.append(found)
        areas.append(np.count_nonzero(masks, axis=(0, 1)))
        counts.append(len(of_image))
        sizes.append(annotated.image.shape[:2])
    return Measured(
        np.concatenate(class_ids) if class_ids else np.zeros(0, int),
        np.concatenate(boxes) if boxes else np.zeros((0, 4)),
        np.concatenate(areas) if areas else np.zeros(0),
        np.array(counts),
        np.array(sizes).reshape(-1, 2),
        problems,
        usable,
    )


def problems_of(
    dataset: Dataset, image_id: int, masks: np.ndarray, class_ids: np.ndarray
) -> list[str]:
    """What is wrong with an image, in words.

    Args:
        dataset: has the image. image_id: its id.
        masks: `[H, W, N]`; class_ids: `[N]`, as `load_mask` gave them.
    """
    found = []
    empty = np.flatnonzero(~masks.any(axis=(0, 1)))
    if not len(class_ids):
        found.append("no object")
    if len(empty):
        found.append(f"{len(empty)} of {len(class_ids)} masks without a pixel")
    found += [
        f"objects {one + 1} and {other + 1} are the same: their masks have an IoU of {iou:.2f}"
        for one, other, iou in duplicates(masks, class_ids)
    ]
    info = dataset.image_info[image_id]
    stated = [one.get("bbox") for one in info.get("annotations") or () if isinstance(one, dict)]
    if len(stated) == len(class_ids) and all(box is not None for box in stated):
        found += [
            f"object {number}: its box and its mask have an IoU of {iou:.2f}"
            for number, iou in _disagreeing(np.array(stated, float).reshape(-1, 4), masks)
        ]
    orientation = _orientation(info.get("path"))
    if orientation not in (None, 1):
        found.append(f"EXIF turns the image (orientation {orientation}); masks must fit it turned")
    return found


def duplicates(masks: np.ndarray, class_ids: np.ndarray) -> list[tuple[int, int, float]]:
    """Pairs of objects of one class with nearly the same mask, and their IoU."""
    boxes = extract_bboxes(masks).astype(float)
    # Equal masks have equal boxes, which are compared faster.
    near = np.triu(compute_overlaps(boxes, boxes) >= _DUPLICATE_IOU / 2, k=1)
    found = []
    for one, other in np.argwhere(near):
        if class_ids[one] == class_ids[other]:
            iou = float(compute_overlaps_masks(masks[:, :, [one]], masks[:, :, [other]])[0, 0])
            if iou >= _DUPLICATE_IOU:
                found.append((int(one), int(other), iou))
    return found


def _disagreeing(stated: np.ndarray, masks: np.ndarray) -> list[tuple[int, float]]:
    """Objects whose stated box `(x, y, width, height)` is not that of their mask."""
    x, y, width, height = stated.T
    boxes = np.stack([y, x, y + height, x + width], axis=1)
    found = extract_bboxes(masks).astype(float)
    ious = [
        float(compute_overlaps(b[None], f[None])[0, 0]) for b, f in zip(boxes, found, strict=True)
    ]
    return [
        (number, iou)
        for number, (iou, box) in enumerate(zip(ious, found, strict=True), start=1)
        if iou < _BOX_IOU and box.any()
    ]


def _orientation(path: Any) -> int | None:
    """The orientation in an image file's EXIF data, None without."""
    try:
        with PIL.Image.open(path) as image:
            value = image.getexif().get(_EXIF_ORIENTATION)
    except (OSError, ValueError, AttributeError, TypeError):
        return None  # drawn in memory, or in a format of other libraries
    return int(value) if isinstance(value, int) else None


def _ground_truth(dataset: Dataset, ids: Sequence[int]) -> Section:
    chosen = spread(ids, _SHOWN)
    if not chosen:
        return Section("Ground truth overlay", "No image can be used.", [])
    pixels = [dataset.load_image(image_id) for image_id in chosen]
    figure, grid = panels(len(chosen), columns=2, shape=pixels[0].shape[:2])
    for axes, image_id, image in zip(grid, chosen, pixels, strict=True):
        masks, class_ids = dataset.load_mask(image_id)
        objects = {"masks": masks, "class_ids": np.asarray(class_ids, int)}
        title = short_name(dataset, image_id)
        draw_objects(axes, image, objects, dataset.class_names, title)
    look = "Outlines lie on the objects, each object has its own colour, and no object is left."
    text = "Masks and classes as the data set gives them, over the images."
    return Section("Ground truth overlay", text, [Picture("Images", look, figure)])


def _counts(dataset: Dataset, measured: Measured) -> Section:
    names = list(dataset.class_names)
    # Masks without a pixel have no size; they are among the findings.
    drawn = measured.areas > 0
    sides, class_ids, boxes = (
        np.sqrt(measured.areas[drawn]),
        measured.class_ids[drawn],
        measured.boxes[drawn],
    )
    rows: list[list[Any]] = []
    for class_id, name in enumerate(names[1:], start=1):
        of_class = sides[class_ids == class_id]
        count = int(np.count_nonzero(measured.class_ids == class_id))
        crowds = int(np.count_nonzero(measured.class_ids == -class_id))
        low, middle, high = (
            np.quantile(of_class, [0.1, 0.5, 0.9]) if len(of_class) else (None, None, None)
        )
        rows.append([name, count, crowds, low, middle, high])
    heights, widths = (boxes[:, 2:] - boxes[:, :2]).T
    figure, (by_size, by_ratio, by_image, by_class) = panels(4, columns=2)
    histogram(by_size, sides, "square root of the mask's area, pixels")
    histogram(by_ratio, np.log2(widths / heights), "width / height, power of two")
    most = int(measured.counts.max(initial=0))
    histogram(by_image, measured.counts, "objects per image", bins=min(most + 1, 40))
    by_class.barh([str(name)[:30] for name in names[1:]], [float(row[1]) for row in rows])
    by_class.set_title("objects per class", fontsize="small")
    return Section(
        "Classes, sizes and shapes",
        f"{len(measured.class_ids)} objects in {len(measured.counts)} images.",
        [
            Table(
                "Objects by class",
                "A class with few objects is learned badly; sizes are the square roots of areas, "
                "in pixels, of the smallest tenth, the middle and the largest tenth.",
                ["class", "objects", "crowds", "10 %", "50 %", "90 %"],
                rows,
            ),
            Picture(
                "Distributions",
                "Objects much smaller than RPN_ANCHOR_SCALES, long thin ones, and images with more "
                "objects than MAX_GT_INSTANCES need other settings.",
                figure,
            ),
            Table(
                "Image sizes",
                "Very different sizes are scaled very differently.",
                ["", "height", "width"],
                [
                    [name, *map(int, value)]
                    for name, value in (
                        ("smallest", measured.sizes.min(axis=0)),
                        ("median", np.median(measured.sizes, axis=0)),
                        ("largest", measured.sizes.max(axis=0)),
                    )
                ]
                if len(measured.sizes)
                else [],
            ),
        ],
    )


def _problems(measured: Measured) -> Section:
    return Section(
        "What may be wrong",
        f"{len(measured.problems)} findings; images without objects may be meant so.",
        [
            Table(
                "Findings",
                "Masks without pixels and doubled objects are mistakes of labelling or conversion.",
                ["image", "finding"],
                [list(one) for one in measured.problems],
            )
        ],
    )


# ---- What the network gets -----------------------------------------------------------------------


def _augmented(dataset: Dataset, config: Config, image_id: int, augmentation: Any) -> Section:
    figure, grid = panels(_SHOWN, shape=config.IMAGE_SHAPE[:2])
    for number, axes in enumerate(grid):
        image, _, class_ids, _, masks = load_image_gt(
            dataset,
            config,
            image_id,
            augmentation=augmentation if number else None,
            rng=np.random.default_rng(number),
        )
        objects = {"masks": masks, "class_ids": class_ids}
        title = f"draw {number}" if number else "as it is"
        draw_objects(axes, image, objects, dataset.class_names, title)
    text = "An image as it is, and five times as training may see it."
    look = "Masks move with the image, and objects stay recognisable."
    return Section("Augmentation samples", text, [Picture("Five draws", look, figure)])


def _mini_masks(dataset: Dataset, config: Config, shown: Sequence[int]) -> Section:
    rows, arrays, titles = [], [], []
    for image_id in shown[:2]:
        image, _, _, boxes, masks = load_image_gt(
            dataset, config, image_id, rng=np.random.default_rng(0)
        )
        largest = [int(np.argmax(box_area(boxes)))]
        box, mask = boxes[largest], masks[:, :, largest]
        y1, x1, y2, x2 = box[0]
        arrays.append(mask[y1:y2, x1:x2, 0])
        titles.append(f"original, {y2 - y1}x{x2 - x1}")
        for size in _MINI_SIZES:
            mini = minimize_mask(box, mask, (size, size))
            back = expand_mask(box, mini, image.shape[:2])
            iou = float(compute_overlaps_masks(mask, back)[0, 0])
            arrays += [mini[:, :, 0], back[y1:y2, x1:x2, 0]]
            titles += [f"small, {size}x{size}", f"expanded, IoU {iou:.3f}"]
            rows.append([short_name(dataset, image_id), f"{size}x{size}", iou])
    height, width = config.MINI_MASK_SHAPE
    return Section(
        "Mini-mask original, small, expanded",
        f"Masks are trained on as mini-masks of MINI_MASK_SHAPE, {height}x{width} here.",
        [
            Picture(
                "The largest object of two images",
                "Fine parts that the expanded mask has lost are not learned.",
                images(arrays, titles, columns=7, cmap="gray", vmin=0, vmax=1),
            ),
            Table(
                "What is left of a mask",
                "If the IoU is much below 1, a larger MINI_MASK_SHAPE or USE_MINI_MASK = False "
                "keeps more.",
                ["image", "mini-mask", "IoU"],
                rows,
            ),
        ],
    )


def network_boxes(dataset: Dataset, config: Config, ids: Sequence[int]) -> np.ndarray:
    """Boxes of the objects in the pixels that the network sees, `[N, (y1, x1, y2, x2)]`."""
    found = []
    for image_id in ids:
        _, _, class_ids, boxes, _ = load_image_gt(
            dataset, config, image_id, use_mini_mask=True, rng=np.random.default_rng(0)
        )
        found.append(boxes[class_ids > 0])
    return np.concatenate(found).astype(float) if found else np.zeros((0, 4))


def best_ious(boxes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """The IoU of each box with the anchor that fits it best, `[N]`."""
    areas = box_area(anchors)
    return np.array(
        [
            compute_iou(box, anchors, area, areas).max()
            for box, area in zip(boxes, box_area(boxes), strict=True)
        ]
    )


def tried_scales(
    boxes: np.ndarray, config: Config, image_shape: Sequence[int]
) -> list[tuple[list[float], np.ndarray]]:
    """Settings of RPN_ANCHOR_SCALES and the best IoU of each box with their anchors.

    The present ones come first, then multiples of them, then scales at quantiles of the objects'
    sizes.
    """
    present = [float(scale) for scale in config.RPN_ANCHOR_SCALES]
    candidates = [[scale * factor for scale in present] for factor in (1, 0.25, 0.5, 0.75, 1.5, 2)]
    if len(boxes):
        sides = np.sqrt(box_area(boxes))
        fitted = np.quantile(sides, (np.arange(len(present)) + 0.5) / len(present))
        # Scales must rise from level to level.
        fitted = np.maximum.accumulate(
            np.maximum(np.round(fitted), 1) + np.arange(len(present)) * 0.5
        )
        candidates.append([float(x) for x in fitted])
    results = []
    for scales in candidates:
        other: Any = copy.copy(config)
        other.RPN_ANCHOR_SCALES = scales
        results.append((scales, best_ious(boxes, pyramid_anchors(other, image_shape))))
    return results


def best_cover(tried: Sequence[np.ndarray]) -> int:
    """Which anchors cover the objects best: most of them at an IoU of 0.5 and of 0.7 together.

    An object below 0.5 is hardly found; one above 0.7 has an anchor that learns it. The mean IoU
    would give up whole objects for a better fit of the others.

    Args:
        tried: for each choice of anchors, `[N]` the best IoU of each object.
    """
    shares = [sum(float((ious >= iou).mean()) for iou in _COVER_IOUS) for ious in tried]
    return int(np.argmax(shares))


def _anchors(dataset: Dataset, config: Config, image_id: int, boxes: np.ndarray) -> Section:
    image, *_ = load_image_gt(dataset, config, image_id, rng=np.random.default_rng(0))
    levels = anchors_by_level(config, image.shape)
    figure, grid = panels(len(levels), shape=image.shape[:2])
    centre = np.array(image.shape[:2]) / 2
    for axes, (scale, anchors) in zip(grid, levels, strict=True):
        centres = (anchors[:, :2] + anchors[:, 2:]) / 2
        distances = np.abs(centres - centre).sum(axis=1)
        nearest = anchors[distances <= distances.min() + 1e-6]
        draw_boxes(as_rgb(image), boxes=nearest, ax=axes, title=f"{scale:g} px: {len(anchors)}")
    text = f"RPN_ANCHOR_SCALES is {list(config.RPN_ANCHOR_SCALES)}, one per level of the pyramid."
    at_centre = Picture(
        "Anchors at the centre of an image",
        "The anchors of some level have about the size of the objects.",
        figure,
    )
    if not len(boxes):
        return Section(
            "Anchors per level", f"{text} The images have crowds only, no objects.", [at_centre]
        )
    tried = tried_scales(boxes, config, image.shape)
    best = best_cover([ious for _, ious in tried])
    rows = []
    for number, (scales, ious) in enumerate(tried):
        notes = [*(["present"] if number == 0 else []), *(["best"] if number == best else [])]
        shares = [float((ious >= iou).mean()) for iou in _COVER_IOUS]
        scales_text = ", ".join(f"{scale:g}" for scale in scales)
        rows.append([scales_text, *shares, float(ious.mean()), ", ".join(notes)])
    cover, (axes,) = panels(1, shape=(1, 3))
    histogram(axes, tried[0][1], "best IoU of an anchor with each object", range=(0, 1))
    axes.axvline(_POSITIVE_IOU, color="C1")
    return Section(
        "Anchors per level",
        text,
        [
            at_centre,
            Picture(
                "How well anchors cover the objects",
                "Most objects should reach 0.5; right of the line an anchor is positive.",
                cover,
            ),
            Table(
                "Other scales, tried out",
                "Share of the objects whose best anchor has at least this IoU. The best row has "
                "the largest sum of the two shares; if it is clearly better than the present one, "
                "use its scales from the first training on.",
                ["RPN_ANCHOR_SCALES", "IoU 0.5", "IoU 0.7", "mean IoU", ""],
                rows,
            ),
        ],
    )


def anchors_by_level(config: Config, image_shape: Sequence[int]) -> list[tuple[float, np.ndarray]]:
    """Scale and anchors `[A, (y1, x1, y2, x2)]` of each level of the pyramid."""
    levels = zip(
        config.RPN_ANCHOR_SCALES,
        compute_backbone_shapes(config, image_shape),
        config.BACKBONE_STRIDES,
        strict=False,  # a configuration may have fewer scales than feature maps
    )
    ratios, anchor_stride = config.RPN_ANCHOR_RATIOS, config.RPN_ANCHOR_STRIDE
    return [
        (float(scale), generate_anchors(scale, ratios, shape, stride, anchor_stride))
        for scale, shape, stride in levels
    ]


def _rpn_targets(dataset: Dataset, config: Config, image_id: int) -> Section:
    image, _, class_ids, boxes, _ = load_image_gt(
        dataset, config, image_id, rng=np.random.default_rng(0)
    )
    anchors = pyramid_anchors(config, image.shape)
    match, deltas = build_rpn_targets(
        image.shape, anchors, class_ids, boxes, config, rng=np.random.default_rng(0)
    )
    positive, negative = np.flatnonzero(match == 1), np.flatnonzero(match == -1)
    refined = apply_box_deltas(
        anchors[positive], deltas[: len(positive)] * np.array(config.RPN_BBOX_STD_DEV)
    )
    figure, (before, after, others) = panels(3, shape=image.shape[:2])
    draw_boxes(
        as_rgb(image), boxes=anchors[positive], ax=before, title=f"positive: {len(positive)}"
    )
    draw_boxes(as_rgb(image), refined_boxes=refined, ax=after, title="after refinement")
    draw_boxes(
        as_rgb(image),
        boxes=anchors[spread(negative.tolist(), 50)],
        ax=others,
        title=f"negative: {len(negative)}",
    )
    return Section(
        "RPN targets before and after refinement",
        f"RPN_TRAIN_ANCHORS_PER_IMAGE is {config.RPN_TRAIN_ANCHORS_PER_IMAGE}; at most half of "
        "them are positive.",
        [
            Picture(
                "Anchors that train the RPN",
                "Positive anchors lie on objects; refined, they are the objects' boxes; negative "
                "ones (50 are drawn) lie elsewhere.",
                figure,
            )
        ],
    )


def _batch(dataset: Dataset, config: Config, augmentation: Any) -> Section:
    loader = BatchLoader(dataset, config, augmentation=augmentation, workers=1)
    try:
        ((batch_images, metas, match, bbox, class_ids, boxes, masks, *_),) = loader[0]
    except ValueError as error:  # too few images can be trained on
        return Section("A generator batch", f"Training would stop: {shortened(error, 500)}", [])
    figure, grid = panels(len(batch_images), shape=config.IMAGE_SHAPE[:2])
    for number, axes in enumerate(grid):
        image = unmold_image(batch_images[number], config)
        real = class_ids[number] != 0
        draw_boxes(as_rgb(image), boxes=boxes[number][real], ax=axes)
        axes.set_title(short_name(dataset, int(metas[number][0])), fontsize="small")
    names = ("images", "metas", "rpn_match", "rpn_bbox", "class_ids", "boxes", "masks")
    arrays = (batch_images, metas, match, bbox, class_ids, boxes, masks)
    rows = [
        [
            name,
            "x".join(map(str, array.shape)),
            str(array.dtype),
            float(array.min()),
            float(array.max()),
        ]
        for name, array in zip(names, arrays, strict=True)
    ]
    return Section(
        "A generator batch",
        "The first batch of a training, read back from the network's inputs.",
        [
            Picture("Images and boxes", "Images have their colours, boxes their objects.", figure),
            Table(
                "Arrays",
                "Images have values around 0, and the rest is padded with zeros.",
                ["input", "shape", "type", "smallest", "largest"],
                rows,
            ),
        ],
    )
