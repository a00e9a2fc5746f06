"""The original's signatures, where they differ from this package's.

Layers of this package take plain values, and functions take whole batches. Scripts written for the
original give a layer a Config, or work image by image. Only `mrcnn.model`, `mrcnn.utils` and
`mrcnn.parallel_model` import this file, for such scripts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from mrcnn import losses
from mrcnn.config import Config
from mrcnn.geometry import boxes
from mrcnn.nn import detections, proposals, sampling
from mrcnn.types import ArrayOrTensor, Tensor

# ---- Layers that take a Config ---------------------------------------------------------------


@keras.saving.register_keras_serializable("mrcnn_legacy")
class ProposalLayer(proposals.ProposalLayer):
    """`nn.proposals.ProposalLayer` with its settings from a Config."""

    def __init__(
        self,
        proposal_count: int,
        nms_threshold: float,
        config: Config | None = None,
        **kwargs: Any,
    ):
        if config is not None:
            kwargs["pre_nms_limit"] = config.PRE_NMS_LIMIT
            kwargs["bbox_std_dev"] = config.RPN_BBOX_STD_DEV
        super().__init__(proposal_count, nms_threshold, **kwargs)


@keras.saving.register_keras_serializable("mrcnn_legacy")
class DetectionTargetLayer(sampling.DetectionTargetLayer):
    """`nn.sampling.DetectionTargetLayer` with its settings from a Config."""

    def __init__(self, config: Config | None = None, **kwargs: Any):
        if config is not None:
            kwargs = {**_sampling_settings(config), **kwargs}
        super().__init__(**kwargs)

    def compute_mask(self, inputs: Sequence[Tensor], mask: Any = None) -> list[None]:
        """None for each of the four outputs: none of them has a Keras mask."""
        return [None] * 4


@keras.saving.register_keras_serializable("mrcnn_legacy")
class DetectionLayer(detections.DetectionLayer):
    """`nn.detections.DetectionLayer` with its settings from a Config."""

    def __init__(self, config: Config | None = None, **kwargs: Any):
        if config is not None:
            kwargs = {**_detection_settings(config), **kwargs}
        super().__init__(**kwargs)


def _sampling_settings(config: Config) -> dict[str, Any]:
    return {
        "train_rois_per_image": config.TRAIN_ROIS_PER_IMAGE,
        "roi_positive_ratio": config.ROI_POSITIVE_RATIO,
        "mask_shape": config.MASK_SHAPE,
        "use_mini_mask": config.USE_MINI_MASK,
        "bbox_std_dev": config.BBOX_STD_DEV,
    }


def _detection_settings(config: Config) -> dict[str, Any]:
    return {
        "max_instances": config.DETECTION_MAX_INSTANCES,
        "min_confidence": config.DETECTION_MIN_CONFIDENCE,
        "nms_threshold": config.DETECTION_NMS_THRESHOLD,
        "bbox_std_dev": config.BBOX_STD_DEV,
    }


# ---- One image at a time ---------------------------------------------------------------------


def detection_targets_graph(
    proposals: ArrayOrTensor,
    gt_class_ids: ArrayOrTensor,
    gt_boxes: ArrayOrTensor,
    gt_masks: ArrayOrTensor,
    config: Config,
) -> tuple[Tensor, ...]:
    """Detection targets of one image.

    Args:
        proposals: `[N, (y1, x1, y2, x2)]`, normalised.
        gt_class_ids: `[G]`.
        gt_boxes: `[G, (y1, x1, y2, x2)]`, normalised.
        gt_masks: `[height, width, G]`.
        config: the settings of the layer.

    Returns:
        rois `[T, 4]`, class_ids `[T]`, deltas `[T, 4]`, masks `[T, h, w]`.
    """
    layer = sampling.DetectionTargetLayer(**_sampling_settings(config))
    inputs = (proposals, gt_class_ids, gt_boxes, gt_masks)
    return tuple(output[0] for output in layer([ops.convert_to_tensor(x)[None] for x in inputs]))


def refine_detections_graph(
    rois: ArrayOrTensor,
    probs: ArrayOrTensor,
    deltas: ArrayOrTensor,
    window: ArrayOrTensor,
    config: Config,
) -> Tensor:
    """Detections of one image.

    Args:
        rois: `[N, (y1, x1, y2, x2)]`, normalised.
        probs: `[N, C]`.
        deltas: `[N, C, (dy, dx, log dh, log dw)]`.
        window: `[(y1, x1, y2, x2)]`, normalised.
        config: the settings of the layer.

    Returns:
        `[D, (y1, x1, y2, x2, class_id, score)]`, normalised.
    """
    layer = detections.DetectionLayer(**_detection_settings(config))
    inputs = [ops.convert_to_tensor(x)[None] for x in (rois, probs, deltas, window)]
    return layer.select(*inputs)[0]


# ---- Names and arguments of the original's functions --------------------------------------------


def rpn_bbox_loss_graph(
    config: Config, target_bbox: Tensor, rpn_match: Tensor, rpn_bbox: Tensor
) -> Tensor:
    """`losses.rpn_bbox_loss`; `config` is ignored."""
    return losses.rpn_bbox_loss(target_bbox, rpn_match, rpn_bbox)


def overlaps_graph(boxes1: ArrayOrTensor, boxes2: ArrayOrTensor) -> Tensor:
    """Tensor `[N, M]` of overlaps of boxes `[N, 4]` and `[M, 4]`, as `compute_overlaps`."""
    return boxes.compute_overlaps(ops.convert_to_tensor(boxes1), ops.convert_to_tensor(boxes2))


def log2_graph(x: ArrayOrTensor) -> Tensor:
    """The logarithm to base 2 of a tensor."""
    return ops.log2(x)


def trim_zeros_graph(boxes: Tensor, name: str = "trim_zeros") -> tuple[Tensor, Tensor]:
    """The rows that are not all zero. Eager only: their number depends on the values.

    Args:
        boxes: `[N, 4]`.
        name: ignored.

    Returns:
        The rows `[M, 4]`, and `[N]` bool, true for these rows.
    """
    is_there = ops.any(boxes != 0, axis=1)
    return ops.take(boxes, ops.nonzero(is_there)[0], axis=0), is_there


def batch_pack_graph(x: Tensor, counts: ArrayOrTensor, num_rows: int) -> Tensor:
    """The first rows of every image of a batch in one tensor.

    Args:
        x: `[B, N, …]`.
        counts: `[B]`, number of rows to take from each image.
        num_rows: B.

    Returns:
        `[sum of counts, …]`.
    """
    return ops.concatenate([x[row, : int(counts[row])] for row in range(num_rows)], axis=0)


def batch_slice(
    inputs: ArrayOrTensor | Sequence[ArrayOrTensor],
    graph_fn: Callable[..., Any],
    batch_size: int,
    names: Sequence[str] | None = None,
) -> Tensor | list:
    """Call a function of one image for every image of a batch and stack the results.

    Args:
        inputs: list of tensors `[batch_size, …]`, or one tensor.
        graph_fn: function of one image's slice of every tensor.
        batch_size: number of images.
        names: ignored.

    Returns:
        A tensor `[batch_size, …]`, or a list of tensors if the function returns several.
    """
    inputs = inputs if isinstance(inputs, (list, tuple)) else [inputs]
    per_image = [graph_fn(*(x[index] for x in inputs)) for index in range(batch_size)]
    if not isinstance(per_image[0], (list, tuple)):
        return ops.stack(per_image, axis=0)
    return [ops.stack(list(outputs), axis=0) for outputs in zip(*per_image, strict=True)]


# ---- Several devices ---------------------------------------------------------------------------


@keras.saving.register_keras_serializable("mrcnn_legacy")
class ParallelModel(keras.Model):
    """The original's wrapper for several devices; here it only forwards everything to a model.

    Attributes are read from and set on the wrapped model: compiling, training, losses, layers,
    weights, loading and saving. Saved files hold the wrapped model.

    Args:
        keras_model: the wrapped model, in the attribute `inner_model`.
        gpu_count: ignored; GPU_COUNT of the Config decides on how many devices a model trains.
    """

    def __init__(self, keras_model: keras.Model, gpu_count: int):
        super().__init__(inputs=keras_model.input, outputs=keras_model.output)
        self.gpu_count = gpu_count
        self.inner_model = keras_model

    def __getattribute__(self, attrname: str) -> Any:
        inner = super().__getattribute__("__dict__").get("inner_model")
        if inner is None or _is_own(type(self), attrname):
            return super().__getattribute__(attrname)
        return getattr(inner, attrname)

    def __setattr__(self, attrname: str, value: Any) -> None:
        inner = self.__dict__.get("inner_model")
        if inner is None or _is_own(type(self), attrname):
            super().__setattr__(attrname, value)
        else:
            setattr(inner, attrname, value)

    def summary(self, *args: Any, **kwargs: Any) -> None:
        """Print the summaries of this model and the wrapped one; both list the same layers."""
        super().summary(*args, **kwargs)
        self.inner_model.summary(*args, **kwargs)

    def make_parallel(self) -> Any:
        """The outputs of the wrapped model: the batch is not split."""
        return self.inner_model.output

    def get_config(self) -> dict[str, Any]:
        inner = keras.saving.serialize_keras_object(self.inner_model)
        return {"keras_model": inner, "gpu_count": self.gpu_count}

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> ParallelModel:
        inner = keras.saving.deserialize_keras_object(config["keras_model"], custom_objects)
        return cls(inner, config["gpu_count"])


def _is_own(cls: type, name: str) -> bool:
    """Whether ParallelModel or a subclass, not the wrapped model, defines this name."""
    if name.startswith("__") or name in ("inner_model", "gpu_count"):
        return True
    classes = cls.__mro__[: cls.__mro__.index(ParallelModel) + 1]
    return any(name in vars(base) for base in classes)
