"""Proposals: the best boxes of the RPN after refinement and non-maximum suppression.

Ren et al. 2015, section 3.3. `B` images, `A` anchors per image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
from keras import layers, ops

from mrcnn import backend
from mrcnn.geometry.boxes import apply_box_deltas, clip_boxes
from mrcnn.types import Numbers, Tensor


class Steps(NamedTuple):
    """Intermediate results of ProposalLayer, under the original's names for its tensors.

    Attributes:
        pre_nms_anchors: `[B, pre_nms_limit, (y1, x1, y2, x2)]`, normalised, best score first. In an
            image with fewer anchors, copies of the last anchor fill the remaining rows.
        refined_anchors: the same, moved by the RPN's deltas.
        refined_anchors_clipped: the same, clipped to the image.
        kept: `[B, proposal_count]` int32, rows of refined_anchors_clipped in the order of the
            proposals.
        valid: `[B, proposal_count]` bool, false where there are no more proposals.
    """

    pre_nms_anchors: Tensor
    refined_anchors: Tensor
    refined_anchors_clipped: Tensor
    kept: Tensor
    valid: Tensor


@keras.saving.register_keras_serializable("mrcnn")
class ProposalLayer(layers.Layer):
    """Selects a fixed number of proposals by the scores and deltas of all anchors.

    Args:
        proposal_count: rows of the output.
        nms_threshold: of two boxes that overlap more than this, the lower-scoring one is dropped.
        pre_nms_limit: number of best-scoring anchors before non-maximum suppression.
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
        bbox_std_dev: Numbers = (0.1, 0.1, 0.2, 0.2),
        **kwargs: Any,
    ):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.proposal_count = int(proposal_count)
        self.nms_threshold = float(nms_threshold)
        self.pre_nms_limit = int(pre_nms_limit)
        self.bbox_std_dev = [float(value) for value in bbox_std_dev]
        self.supports_jit = backend.SUPPORTS_JIT

    def call(self, inputs: Sequence[Tensor]) -> Tensor:
        steps = self.steps(inputs)
        boxes = steps.refined_anchors_clipped
        proposals = ops.take_along_axis(boxes, steps.kept[..., None], axis=1)
        return ops.where(steps.valid[..., None], proposals, 0.0)

    def steps(self, inputs: Sequence[Tensor]) -> Steps:
        """The intermediate results for the inputs of `call`."""
        rpn_probs, rpn_bbox, anchors = (ops.cast(x, "float32") for x in inputs)
        # A small image has fewer anchors than the limit. Rows with a score of -1, which no anchor
        # has, are added, so that the number of rows does not depend on the image.
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

    def compute_output_shape(self, input_shape: Sequence[Sequence[int | None]]) -> tuple:
        return (input_shape[0][0], self.proposal_count, 4)

    def get_config(self) -> dict[str, Any]:
        names = "proposal_count nms_threshold pre_nms_limit bbox_std_dev".split()
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
