"""Proposals: the RPN's best boxes, refined and thinned out (Ren et al. 2015, section 3.3)."""

from __future__ import annotations

from typing import NamedTuple

import keras
from keras import KerasTensor, layers, ops

from mrcnn import backend
from mrcnn.geometry.boxes import apply_box_deltas, clip_boxes


class Steps(NamedTuple):
    """What ProposalLayer goes through, under the original's names for its tensors.

    Attributes:
        pre_nms_anchors: `[B, pre_nms_limit, (y1, x1, y2, x2)]`, normalised, best score first;
            where an image has fewer anchors, the last one fills up.
        refined_anchors: the same moved by the RPN's deltas; refined_anchors_clipped: and cut to
            the image.
        kept: `[B, proposal_count]` int32, rows of refined_anchors_clipped in the order of the
            proposals; valid: `[B, proposal_count]` bool, false where no box is left.
    """

    pre_nms_anchors: KerasTensor
    refined_anchors: KerasTensor
    refined_anchors_clipped: KerasTensor
    kept: KerasTensor
    valid: KerasTensor


@keras.saving.register_keras_serializable("mrcnn")
class ProposalLayer(layers.Layer):
    """Turns scores and deltas of all anchors into a fixed number of proposals.

    Args:
        proposal_count: rows of the output.
        nms_threshold: overlap above which the lower-scoring of two boxes is dropped.
        pre_nms_limit: anchors that take part, best scores first.
        bbox_std_dev: `[4]`, unit of the deltas.

    Call arguments, a list:
        rpn_probs: `[B, A, (background, object)]`.
        rpn_bbox: `[B, A, (dy, dx, log dh, log dw)]`.
        anchors: `[B, A, (y1, x1, y2, x2)]`, normalised.

    Returns:
        `[B, proposal_count, (y1, x1, y2, x2)]` float32, normalised, best first, then zeros.
    """

    def __init__(
        self,
        proposal_count: int,
        nms_threshold: float,
        pre_nms_limit: int = 6000,
        bbox_std_dev=(0.1, 0.1, 0.2, 0.2),
        **kwargs,
    ):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.proposal_count = int(proposal_count)
        self.nms_threshold = float(nms_threshold)
        self.pre_nms_limit = int(pre_nms_limit)
        self.bbox_std_dev = [float(value) for value in bbox_std_dev]
        self.supports_jit = backend.SUPPORTS_JIT

    def call(self, inputs):
        steps = self.steps(inputs)
        boxes = steps.refined_anchors_clipped
        proposals = ops.take_along_axis(boxes, steps.kept[..., None], axis=1)
        return ops.where(steps.valid[..., None], proposals, 0.0)

    def steps(self, inputs) -> Steps:
        """The steps on the way from the call's inputs to the proposals."""
        rpn_probs, rpn_bbox, anchors = (ops.cast(x, "float32") for x in inputs)
        # A small image has fewer anchors than the limit: rows whose score no anchor can have fill
        # up, so that the number of rows never depends on the image.
        scores = ops.pad(rpn_probs[..., 1], ((0, 0), (0, self.pre_nms_limit)), constant_values=-1.0)
        scores, best = ops.top_k(scores, self.pre_nms_limit)
        best = ops.minimum(best, ops.shape(anchors)[1] - 1)[..., None]
        deltas = ops.take_along_axis(rpn_bbox, best, axis=1) * ops.array(self.bbox_std_dev)
        pre_nms_anchors = ops.take_along_axis(anchors, best, axis=1)
        refined = apply_box_deltas(pre_nms_anchors, deltas)
        clipped = clip_boxes(refined, ops.array([0.0, 0.0, 1.0, 1.0]))
        kept, valid = backend.non_max_suppression(
            clipped,
            scores,
            max_output_size=self.proposal_count,
            iou_threshold=self.nms_threshold,
            score_threshold=-0.5,
        )
        return Steps(pre_nms_anchors, refined, clipped, kept, valid)

    def compute_output_shape(self, input_shape):
        return (input_shape[0][0], self.proposal_count, 4)

    def get_config(self):
        names = "proposal_count nms_threshold pre_nms_limit bbox_std_dev".split()
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
