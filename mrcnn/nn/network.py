"""The forward pass, once; the training and the inference graph each continue it.

image -> backbone -> pyramid -> RPN -> proposals
    training:   -> detection targets -> heads on the sampled ROIs -> what the losses compare
    inference:  -> class and box of every proposal -> detections -> their masks
"""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass

import keras
from keras import layers

from mrcnn import backend
from mrcnn.config import Config, compute_backbone_shapes
from mrcnn.data.image_meta import split_image_meta
from mrcnn.geometry.boxes import norm_boxes
from mrcnn.nn.backbone import STAGE_4_BLOCKS_V1_5, resnet_graph, resnet_v1_5_graph
from mrcnn.nn.detections import DetectionLayer
from mrcnn.nn.fpn import fpn_graph
from mrcnn.nn.heads import build_fpn_mask_graph, fpn_classifier_graph
from mrcnn.nn.proposals import ProposalLayer
from mrcnn.nn.rpn import Anchors, build_rpn_model
from mrcnn.nn.sampling import DetectionTargetLayer


@dataclass
class Proposals:
    """What the part common to training and inference gives.

    Attributes:
        rois: `[B, proposals, (y1, x1, y2, x2)]`, normalised.
        feature_maps: P2 to P5.
        rpn_class_logits, rpn_class: `[B, A, (background, object)]`.
        rpn_bbox: `[B, A, (dy, dx, log dh, log dw)]`.
    """

    rois: keras.KerasTensor
    feature_maps: list
    rpn_class_logits: keras.KerasTensor
    rpn_class: keras.KerasTensor
    rpn_bbox: keras.KerasTensor


@contextlib.contextmanager
def dtype_policy(name: str):
    """Layers built within have this policy; "float32" leaves the one that Keras is set to.

    "auto" is mixed_bfloat16 where bfloat16 saves time and float32 elsewhere; which, is printed.
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


def propose(config: Config, image, anchors, proposal_count: int) -> Proposals:
    """Image and anchors to proposals, and the features to judge them by."""
    c2_to_c5 = _backbone(config, image)
    pyramid = fpn_graph(*c2_to_c5, config.TOP_DOWN_PYRAMID_SIZE)
    rpn = build_rpn_model(
        config.RPN_ANCHOR_STRIDE, len(config.RPN_ANCHOR_RATIOS), config.TOP_DOWN_PYRAMID_SIZE
    )
    names = ("rpn_class_logits", "rpn_class", "rpn_bbox")
    logits, probs, bbox = (
        layers.Concatenate(axis=1, name=name, dtype="float32")(list(of_levels))
        for name, of_levels in zip(names, zip(*map(rpn, pyramid), strict=True), strict=True)
    )
    rois = ProposalLayer(
        proposal_count,
        config.RPN_NMS_THRESHOLD,
        pre_nms_limit=config.PRE_NMS_LIMIT,
        bbox_std_dev=config.RPN_BBOX_STD_DEV,
        name="ROI",
    )([probs, bbox, anchors])
    # P6 is for proposals alone; the heads look at P2 to P5.
    return Proposals(rois, pyramid[:4], logits, probs, bbox)


def _backbone(config: Config, image):
    if callable(config.BACKBONE):
        maps = config.BACKBONE(image, stage5=True, train_bn=config.TRAIN_BN)
    elif config.BACKBONE in STAGE_4_BLOCKS_V1_5:
        maps = resnet_v1_5_graph(image, config.BACKBONE, stage5=True, train_bn=config.TRAIN_BN)
    else:
        maps = resnet_graph(image, config.BACKBONE, stage5=True, train_bn=config.TRAIN_BN)
    return maps[1:]


def classify(config: Config, rois, feature_maps, image_meta):
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


def segment(config: Config, rois, feature_maps, image_meta):
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
    """Inputs and outputs of detection, in the original's order.

    Inputs: image `[B, H, W, channels]` molded, image_meta `[B, meta]`, anchors `[B, A, 4]`
    normalised. Outputs: detections `[B, D, 6]`, mrcnn_class `[B, N, C]`, mrcnn_bbox
    `[B, N, C, 4]`, mrcnn_mask `[B, D, h, w, C]`, rpn_rois `[B, N, 4]`, rpn_class `[B, A, 2]`,
    rpn_bbox `[B, A, 4]`.
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
    # Not `[..., :4]`: Keras cannot load an ellipsis from an .h5 file.
    mrcnn_mask = segment(config, detections[:, :, :4], proposals.feature_maps, image_meta)
    outputs = [detections, mrcnn_class, mrcnn_bbox, mrcnn_mask]
    outputs += [proposals.rois, proposals.rpn_class, proposals.rpn_bbox]
    return [image, image_meta, anchors], outputs


def training_graph(config: Config) -> tuple[list, dict]:
    """Inputs and outputs of training.

    Inputs, in the original's order: image `[B, H, W, channels]` molded, image_meta `[B, meta]`,
    rpn_match `[B, A, 1]`, rpn_bbox `[B, anchors, 4]`, gt_class_ids `[B, G]`, gt_boxes
    `[B, G, 4]` in pixels, gt_masks `[B, h, w, G]`; without USE_RPN_ROIS also ROIs `[B, N, 4]` in
    pixels. Outputs: targets and predictions by name, all that the losses compare.
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
    # Positives come first, and no other row has a mask to learn: a third of the work.
    positives = max(1, int(config.TRAIN_ROIS_PER_IMAGE * config.ROI_POSITIVE_RATIO))
    mrcnn_mask = segment(config, rois[:, :positives], proposals.feature_maps, image_meta)
    return inputs, {
        "active_class_ids": split_image_meta(image_meta)["active_class_ids"],
        # Keras 3.10 to 3.12 take an input that is returned as it is for a disconnected one.
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


def _image_input(config: Config, shape):
    return keras.Input((*shape, config.IMAGE_CHANNEL_COUNT), name="input_image")


def _meta_input(config: Config):
    return keras.Input((config.IMAGE_META_SIZE,), name="input_image_meta")
