"""The slim network of the reference numbers, and two oddities of TensorFlow 1.15's suppression.

tests/goldens/README.md describes it: the original's layers on a small backbone.
"""

import math
from types import SimpleNamespace

import keras
import numpy as np
from keras import layers, ops

from mrcnn.config import Config
from mrcnn.geometry.boxes import box_area, compute_iou
from mrcnn.nn import proposals
from mrcnn.nn.backbone import BatchNorm, conv_block, identity_block
from mrcnn.nn.detections import DetectionLayer
from seeded_weights import seeded_weight

STAGES = ((2, [16, 16, 32], 1), (3, [16, 16, 48], 2), (4, [24, 24, 64], 2), (5, [32, 32, 96], 2))
TRAINING_INPUTS = "images image_meta rpn_match rpn_bbox gt_class_ids gt_boxes gt_masks".split()


def slim_backbone(input_image, stage5=True, train_bn=False):
    x = layers.ZeroPadding2D(3)(input_image)
    x = layers.Conv2D(16, 7, strides=2, name="conv1")(x)
    x = BatchNorm(name="bn_conv1")(x, training=train_bn)
    x = layers.Activation("relu")(x)
    maps = [layers.MaxPooling2D(3, strides=2, padding="same")(x)]
    for stage, filters, stride in STAGES:
        x = conv_block(maps[-1], 3, filters, stage, "a", (stride, stride), train_bn=train_bn)
        maps.append(identity_block(x, 3, filters, stage, "b", train_bn=train_bn))
    return maps


def slim_shapes(image_shape):
    return np.array([[math.ceil(s / k) for s in image_shape[:2]] for k in (4, 8, 16, 32, 64)])


class SlimConfig(Config):
    NAME = "slim"
    BACKBONE = staticmethod(slim_backbone)
    COMPUTE_BACKBONE_SHAPE = staticmethod(slim_shapes)
    NUM_CLASSES = 7
    IMAGE_MIN_DIM = 200
    IMAGE_MAX_DIM = 256
    TOP_DOWN_PYRAMID_SIZE = 32
    FPN_CLASSIF_FC_LAYERS_SIZE = 64
    RPN_ANCHOR_SCALES = (16, 32, 64, 128, 256)
    PRE_NMS_LIMIT = 1000


class SlimInferenceConfig(SlimConfig):
    IMAGES_PER_GPU = 1
    POST_NMS_ROIS_INFERENCE = 200
    DETECTION_MIN_CONFIDENCE = 0.3
    DETECTION_MAX_INSTANCES = 40


class SlimTrainingConfig(SlimConfig):
    POST_NMS_ROIS_TRAINING = 250
    TRAIN_ROIS_PER_IMAGE = 640
    ROI_POSITIVE_RATIO = 1 / 40
    MASK_POOL_SIZE = 7
    MASK_SHAPE = [14, 14]
    MAX_GT_INSTANCES = 12
    RPN_TRAIN_ANCHORS_PER_IMAGE = 128


def seed_weights(model: keras.Model, seed: int) -> None:
    """Give every layer the weights that the reference run had."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            seed_weights(layer, seed)
            continue
        for weight in layer.weights:
            weight.assign(seeded_weight(seed, layer.name, weight.name, tuple(weight.shape)))


def use_ties_of_tf115(monkeypatch) -> None:
    """Let ProposalLayer take equal scores in the order of TensorFlow 1.15."""
    seam = SimpleNamespace(non_max_suppression=non_max_suppression_tf115, SUPPORTS_JIT=False)
    monkeypatch.setattr(proposals, "backend", seam)


def non_max_suppression_tf115(boxes, scores, max_output_size, iou_threshold, score_threshold):
    """`backend.non_max_suppression` with equal scores in the order of TensorFlow 1.15.

    It took boxes from a C++ priority queue that compares scores alone, so among equal ones the
    shape of the heap decides. The seeded weights drive hundreds of scores to exactly 1, and the
    reference proposals cannot be had without that order. TensorFlow 2 lets the first row go first.
    """

    def batch(boxes, scores):
        shape = (len(scores), max_output_size)
        indices, valid = np.zeros(shape, np.int32), np.zeros(shape, bool)
        for image, (b, s) in enumerate(zip(np.asarray(boxes), np.asarray(scores), strict=True)):
            kept = _suppress(b, s, max_output_size, iou_threshold, score_threshold)
            indices[image, : len(kept)] = kept
            valid[image, : len(kept)] = True
        return indices, valid

    import tensorflow as tf

    boxes, scores = ops.stop_gradient(boxes), ops.stop_gradient(scores)
    indices, valid = tf.numpy_function(batch, (boxes, scores), (tf.int32, tf.bool))
    static = (None, max_output_size)
    return tf.ensure_shape(indices, static), tf.ensure_shape(valid, static)


def _suppress(boxes, scores, max_output_size, iou_threshold, score_threshold):
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    heap = []
    for row in np.flatnonzero(scores > score_threshold):
        heap.append(None)
        _sift_up(heap, len(heap) - 1, row, scores)
    kept = []
    while heap and len(kept) < max_output_size:
        row = _pop(heap, scores)
        overlaps = compute_iou(boxes[row], boxes[kept], area[row], area[kept])
        if not len(kept) or overlaps.max() <= iou_threshold:
            kept.append(row)
    return kept


def _sift_up(heap, hole, row, scores):
    parent = (hole - 1) // 2
    while hole > 0 and scores[heap[parent]] < scores[row]:
        heap[hole] = heap[parent]
        hole, parent = parent, (parent - 1) // 2
    heap[hole] = row


def _pop(heap, scores):
    top, last = heap[0], heap.pop()
    if not heap:
        return top
    hole, child, size = 0, 0, len(heap)
    while child < (size - 1) // 2:
        child = 2 * (child + 1)
        if scores[heap[child]] < scores[heap[child - 1]]:
            child -= 1
        heap[hole] = heap[child]
        hole = child
    if size % 2 == 0 and child == (size - 2) // 2:
        child = 2 * child + 1
        heap[hole] = heap[child]
        hole = child
    _sift_up(heap, hole, last, scores)
    return top


def use_empty_boxes_of_tf115(monkeypatch) -> None:
    """Let a box without area end the detections of its class, as on the CPU of TensorFlow 1.15.

    Its kernel for suppression returned such a box again and again until the output was full, so
    that the lower-scoring boxes of the class had no place. The kernel for GPUs did not.
    """
    refine = DetectionLayer._refine

    def refine_as_tf115(self, *inputs):
        class_ids, scores, boxes = refine(self, *inputs)
        is_object = (class_ids > 0) & (scores >= self.min_confidence)
        is_last = is_object & (box_area(boxes) <= 0)
        same_class = class_ids[:, :, None] == class_ids[:, None, :]
        last_scores = ops.where(same_class & is_last[:, None, :], scores[:, None, :], 0.0)
        return class_ids, ops.where(scores < ops.max(last_scores, axis=-1), -1.0, scores), boxes

    monkeypatch.setattr(DetectionLayer, "_refine", refine_as_tf115)


def nearest_rows(boxes, expected):
    """For each row of `expected` the distance to the nearest row of `boxes`, and which it is."""
    distance = np.abs(boxes[:, None] - expected[None]).max(axis=-1)
    return distance.min(axis=0), distance.argmin(axis=0)
