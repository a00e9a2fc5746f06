"""The forward pass, once; the training graph and the inference graph both continue it.

image -> backbone -> pyramid -> RPN -> proposals
    training:   -> detection targets -> heads on the sampled ROIs -> targets and predictions
    inference:  -> class and box of every proposal -> detections -> their masks

`B` images, `A` anchors, `N` proposals or ROIs, `G` rows of ground truth and `D` detections per
image, `C` classes.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import keras
from keras import layers

from mrcnn import backend
from mrcnn.config import Config, compute_backbone_shapes, feature_shapes
from mrcnn.data.image_meta import split_image_meta
from mrcnn.geometry.boxes import norm_boxes
from mrcnn.nn.backbone import named_backbone
from mrcnn.nn.detections import DetectionLayer
from mrcnn.nn.fpn import fpn_graph
from mrcnn.nn.heads import build_fpn_mask_graph, fpn_classifier_graph
from mrcnn.nn.neutral import CountedPixels, WithoutNeutral
from mrcnn.nn.proposals import ProposalLayer
from mrcnn.nn.rpn import Anchors, build_rpn_model
from mrcnn.nn.sampling import DetectionTargetLayer
from mrcnn.types import Tensor


@dataclass
class Proposals:
    """The outputs of the part common to training and inference.

    Attributes:
        rois: `[B, N, (y1, x1, y2, x2)]`, normalised.
        feature_maps: P2 to P5.
        rpn_class_logits: `[B, A, (background, object)]`.
        rpn_class: the same shape, probabilities.
        rpn_bbox: `[B, A, (dy, dx, log dh, log dw)]` in units of RPN_BBOX_STD_DEV.
    """

    rois: Tensor
    feature_maps: list
    rpn_class_logits: Tensor
    rpn_class: Tensor
    rpn_bbox: Tensor


@contextlib.contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """A context in which new layers get this dtype policy; "float32" means Keras' global policy.

    "auto" is mixed_bfloat16 if the hardware computes bfloat16, otherwise float32; the choice is
    printed.
    """
    before = keras.config.dtype_policy()
    name = _automatic_policy() if name == "auto" else name
    if name != "float32":
        keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@functools.cache
def _automatic_policy() -> str:
    pays = backend.computes_bfloat16()
    name = "mixed_bfloat16" if pays else "float32"
    print(f'DTYPE_POLICY "auto" is {name}: bfloat16 saves {"" if pays else "no "}time here.')
    return name


def propose(config: Config, image: Tensor, anchors: Tensor, proposal_count: int) -> Proposals:
    """Proposals for an image, and the feature maps for the heads.

    Args:
        config: the network's settings.
        image: `[B, H, W, channels]`, molded.
        anchors: `[B, A, (y1, x1, y2, x2)]`, normalised.
        proposal_count: N.
    """
    c2, c3, c4, c5 = _backbone(config, image)
    pyramid = fpn_graph(c2, c3, c4, c5, config.TOP_DOWN_PYRAMID_SIZE)
    rpn = build_rpn_model(
        config.RPN_ANCHOR_STRIDE, len(config.RPN_ANCHOR_RATIOS), config.TOP_DOWN_PYRAMID_SIZE
    )
    # With fewer scales than levels, the last levels have no anchors.
    per_level = [rpn(level) for level in pyramid[: len(config.RPN_ANCHOR_SCALES)]]
    names = ("rpn_class_logits", "rpn_class", "rpn_bbox")
    logits, probs, bbox = (
        layers.Concatenate(axis=1, name=name, dtype="float32")(list(of_levels))
        for name, of_levels in zip(names, zip(*per_level, strict=True), strict=True)
    )
    rois = ProposalLayer(
        proposal_count,
        config.RPN_NMS_THRESHOLD,
        pre_nms_limit=config.PRE_NMS_LIMIT,
        bbox_std_dev=config.RPN_BBOX_STD_DEV,
        name="ROI",
    )([probs, bbox, anchors])
    # Only the RPN uses P6; the heads use P2 to P5.
    return Proposals(rois, pyramid[:4], logits, probs, bbox)


def _backbone(config: Config, image: Tensor) -> list:
    """C2 to C5, each `[B, H / stride, W / stride, channels]`."""
    if not callable(config.BACKBONE):
        return named_backbone(image, config.BACKBONE, stage5=True, train_bn=config.TRAIN_BN)[1:]
    maps = config.BACKBONE(image, stage5=True, train_bn=config.TRAIN_BN)
    if len(maps) != 5:
        raise ValueError(
            f"the callable BACKBONE returned {len(maps)} feature maps; it must return five, "
            "[C1, C2, C3, C4, C5]."
        )
    _check_feature_maps(config, image, maps[1:])
    return maps[1:]


def _check_feature_maps(config: Config, image: Tensor, maps: Sequence[Tensor]) -> None:
    """Check that the anchors of a Config fit the feature maps of its callable BACKBONE.

    Args:
        config: its BACKBONE_STRIDES and COMPUTE_BACKBONE_SHAPE place the anchors.
        image: `[B, H, W, channels]`.
        maps: C2 to C5.

    Raises:
        ValueError: for an image of IMAGE_SHAPE, the feature maps have other sizes.
    """
    shape = tuple(int(side) for side in config.IMAGE_SHAPE)
    # The inference graph takes images of any size, so the sizes of `maps` are unknown.
    shapes = keras.Model(image, list(maps)).compute_output_shape((None, *shape))
    sizes = [list(map_shape[1:3]) for map_shape in shapes]
    found = f"for an image of {shape[0]}x{shape[1]} pixels the callable BACKBONE has"
    if any([2 * side for side in c] != finer for finer, c in itertools.pairwise(sizes)):
        raise ValueError(
            f"{found} feature maps C2 to C5 of {sizes} cells; each map must have half the height "
            "and width of the map before it."
        )
    sizes.append([math.ceil(side / 2) for side in sizes[-1]])  # P6 is every second cell of P5
    levels = len(config.RPN_ANCHOR_SCALES)
    by_strides = feature_shapes(config.BACKBONE_STRIDES, shape)
    if by_strides[:levels].tolist() != sizes[:levels]:
        wanted = [round(shape[0] / height) for height, _ in sizes]
        raise ValueError(
            f"BACKBONE_STRIDES is {list(config.BACKBONE_STRIDES)}; {found} feature maps P2 to P6 "
            f"of {sizes} cells, so it must be {wanted}."
        )
    given = compute_backbone_shapes(config, config.IMAGE_SHAPE)[:levels].tolist()
    if given != sizes[:levels]:
        raise ValueError(
            f"COMPUTE_BACKBONE_SHAPE returns {given}; {found} feature maps P2 to P6 of {sizes} "
            "cells. Without COMPUTE_BACKBONE_SHAPE, the sizes follow from BACKBONE_STRIDES."
        )


def classify(
    config: Config, rois: Tensor, feature_maps: Sequence[Tensor], image_meta: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, probabilities and deltas of ROIs, see `fpn_classifier_graph`."""
    return fpn_classifier_graph(
        rois,
        feature_maps,
        image_meta,
        config.POOL_SIZE,
        config.NUM_CLASSES,
        train_bn=config.TRAIN_BN,
        fc_layers_size=config.FPN_CLASSIF_FC_LAYERS_SIZE,
    )


def segment(
    config: Config, rois: Tensor, feature_maps: Sequence[Tensor], image_meta: Tensor
) -> Tensor:
    """Masks of ROIs for every class, see `build_fpn_mask_graph`."""
    return build_fpn_mask_graph(
        rois,
        feature_maps,
        image_meta,
        config.MASK_POOL_SIZE,
        config.NUM_CLASSES,
        train_bn=config.TRAIN_BN,
    )


# Names of the outputs of `inference_graph`, in its order.
INFERENCE_OUTPUTS = (
    "detections",
    "mrcnn_class",
    "mrcnn_bbox",
    "mrcnn_mask",
    "rpn_rois",
    "rpn_class",
    "rpn_bbox",
)


def inference_graph(config: Config) -> tuple[list, list]:
    """Inputs and outputs of the inference graph, in the original's order.

    Args:
        config: the network's settings.

    Returns:
        inputs: image `[B, H, W, channels]`, molded; image_meta `[B, meta]`; anchors `[B, A, 4]`,
            normalised.
        outputs: detections `[B, D, (y1, x1, y2, x2, class_id, score)]`; mrcnn_class `[B, N, C]`;
            mrcnn_bbox `[B, N, C, 4]`; mrcnn_mask `[B, D, h, w, C]`; rpn_rois `[B, N, 4]`;
            rpn_class `[B, A, 2]`; rpn_bbox `[B, A, 4]`.
    """
    image = _image_input(config, (None, None))
    image_meta = _meta_input(config)
    anchors = keras.Input((None, 4), name="input_anchors")

    proposals = propose(config, image, anchors, config.POST_NMS_ROIS_INFERENCE)
    _, mrcnn_class, mrcnn_bbox = classify(
        config, proposals.rois, proposals.feature_maps, image_meta
    )
    detections = DetectionLayer(
        max_instances=config.DETECTION_MAX_INSTANCES,
        min_confidence=config.DETECTION_MIN_CONFIDENCE,
        nms_threshold=config.DETECTION_NMS_THRESHOLD,
        bbox_std_dev=config.BBOX_STD_DEV,
        name="mrcnn_detection",
    )([proposals.rois, mrcnn_class, mrcnn_bbox, image_meta])
    # `[:, :, :4]` and not `[..., :4]`: Keras cannot load an ellipsis from an .h5 file.
    mrcnn_mask = segment(config, detections[:, :, :4], proposals.feature_maps, image_meta)
    outputs = [detections, mrcnn_class, mrcnn_bbox, mrcnn_mask]
    outputs += [proposals.rois, proposals.rpn_class, proposals.rpn_bbox]
    return [image, image_meta, anchors], outputs


def training_graph(config: Config) -> tuple[list, dict]:
    """Inputs and outputs of the training graph.

    Args:
        config: the network's settings.

    Returns:
        inputs: in the original's order, image `[B, H, W, channels]`, molded; image_meta
            `[B, meta]`; rpn_match `[B, A, 1]`; rpn_bbox `[B, RPN_TRAIN_ANCHORS_PER_IMAGE, 4]`;
            gt_class_ids `[B, G]`; gt_boxes `[B, G, 4]` in pixels; gt_masks `[B, h, w, G]`; without
            USE_RPN_ROIS also ROIs `[B, N, 4]` in pixels; with USE_NEUTRAL_PIXELS also the neutral
            pixels `[B, H, W]`.
        outputs: targets and predictions by name, as `losses.all_losses` takes them.
    """
    height, width = (int(side) for side in config.IMAGE_SHAPE[:2])
    image = _image_input(config, (height, width))
    image_meta = _meta_input(config)
    rows = config.MAX_GT_INSTANCES
    mask_shape = config.MINI_MASK_SHAPE if config.USE_MINI_MASK else (height, width)
    rpn_match = keras.Input((None, 1), name="input_rpn_match", dtype="int32")
    rpn_bbox = keras.Input((None, 4), name="input_rpn_bbox")
    gt_class_ids = keras.Input((rows,), name="input_gt_class_ids", dtype="int32")
    gt_boxes = keras.Input((rows, 4), name="input_gt_boxes")
    gt_masks = keras.Input((*mask_shape, rows), name="input_gt_masks", dtype="bool")
    inputs = [image, image_meta, rpn_match, rpn_bbox, gt_class_ids, gt_boxes, gt_masks]

    anchors = Anchors(
        config.RPN_ANCHOR_SCALES,
        config.RPN_ANCHOR_RATIOS,
        compute_backbone_shapes(config, config.IMAGE_SHAPE),
        config.BACKBONE_STRIDES,
        config.RPN_ANCHOR_STRIDE,
        (height, width),
        name="anchors",
    )(image)
    proposals = propose(config, image, anchors, config.POST_NMS_ROIS_TRAINING)
    candidates = proposals.rois
    if not config.USE_RPN_ROIS:
        given = keras.Input((config.POST_NMS_ROIS_TRAINING, 4), name="input_roi")
        inputs.append(given)
        candidates = norm_boxes(given, (height, width))

    neutral = None
    if config.USE_NEUTRAL_PIXELS:
        neutral = keras.Input((height, width), name="input_neutral", dtype="bool")
        inputs.append(neutral)
        candidates = WithoutNeutral(name="rois_without_neutral")([candidates, neutral])

    rois, target_class_ids, target_bbox, target_mask = DetectionTargetLayer(
        config.TRAIN_ROIS_PER_IMAGE,
        config.ROI_POSITIVE_RATIO,
        mask_shape=config.MASK_SHAPE,
        use_mini_mask=config.USE_MINI_MASK,
        bbox_std_dev=config.BBOX_STD_DEV,
        train_empty_images=config.TRAIN_EMPTY_IMAGES,
        name="proposal_targets",
    )([candidates, gt_class_ids, norm_boxes(gt_boxes, (height, width)), gt_masks])
    logits, mrcnn_class, mrcnn_bbox = classify(config, rois, proposals.feature_maps, image_meta)
    # Only positive ROIs, which come first, have a mask to learn; this is a third of the work.
    positives = max(1, int(config.TRAIN_ROIS_PER_IMAGE * config.ROI_POSITIVE_RATIO))
    mrcnn_mask = segment(config, rois[:, :positives], proposals.feature_maps, image_meta)
    outputs = {
        "active_class_ids": split_image_meta(image_meta)["active_class_ids"],
        # Keras 3.10 to 3.12 treat an input that is also an output as disconnected.
        "rpn_match": layers.Identity(name="rpn_match")(rpn_match),
        "rpn_target_bbox": layers.Identity(name="rpn_target_bbox")(rpn_bbox),
        "rpn_class_logits": proposals.rpn_class_logits,
        "rpn_class": proposals.rpn_class,
        "rpn_bbox": proposals.rpn_bbox,
        "rpn_rois": proposals.rois,
        "rois": rois,
        "target_class_ids": target_class_ids,
        "target_bbox": target_bbox,
        "target_mask": target_mask,
        "mrcnn_class_logits": logits,
        "mrcnn_class": mrcnn_class,
        "mrcnn_bbox": mrcnn_bbox,
        "mrcnn_mask": mrcnn_mask,
    }
    if neutral is not None:
        outputs["target_mask_counts"] = CountedPixels(config.MASK_SHAPE, name="counted_pixels")(
            [rois[:, :positives], neutral]
        )
    return inputs, outputs


def _image_input(config: Config, shape: tuple[int | None, int | None]) -> Tensor:
    return keras.Input((*shape, config.IMAGE_CHANNEL_COUNT), name="input_image")


def _meta_input(config: Config) -> Tensor:
    return keras.Input((config.IMAGE_META_SIZE,), name="input_image_meta")
