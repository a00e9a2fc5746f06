"""The original's own signatures, where this package calls the same thing differently.

Layers here take plain values and functions take whole batches; scripts written against the
original hand a Config to a layer, or work image by image. Nothing in the package imports this
file: `mrcnn.model`, `mrcnn.utils` and `mrcnn.parallel_model` show it to such scripts.
"""

from __future__ import annotations

import os
import shutil
import urllib.request

import keras
from keras import ops

from mrcnn import losses
from mrcnn.geometry import boxes
from mrcnn.nn import detections, proposals, sampling

COCO_MODEL_URL = "https://github.com/matterport/Mask_RCNN/releases/download/v2.0/mask_rcnn_coco.h5"


# ---- Layers that take a Config ---------------------------------------------------------------


@keras.saving.register_keras_serializable("mrcnn_legacy")
class ProposalLayer(proposals.ProposalLayer):
    """`nn.proposals.ProposalLayer` with its settings from a Config."""

    def __init__(self, proposal_count, nms_threshold, config=None, **kwargs):
        if config is not None:
            kwargs["pre_nms_limit"] = config.PRE_NMS_LIMIT
            kwargs["bbox_std_dev"] = config.RPN_BBOX_STD_DEV
        super().__init__(proposal_count, nms_threshold, **kwargs)


@keras.saving.register_keras_serializable("mrcnn_legacy")
class DetectionTargetLayer(sampling.DetectionTargetLayer):
    """`nn.sampling.DetectionTargetLayer` with its settings from a Config."""

    def __init__(self, config=None, **kwargs):
        if config is not None:
            kwargs = {**_sampling_settings(config), **kwargs}
        super().__init__(**kwargs)

    def compute_mask(self, inputs, mask=None):
        """No output has a mask."""
        return [None] * 4


@keras.saving.register_keras_serializable("mrcnn_legacy")
class DetectionLayer(detections.DetectionLayer):
    """`nn.detections.DetectionLayer` with its settings from a Config."""

    def __init__(self, config=None, **kwargs):
        if config is not None:
            kwargs = {**_detection_settings(config), **kwargs}
        super().__init__(**kwargs)


def _sampling_settings(config) -> dict:
    return {
        "train_rois_per_image": config.TRAIN_ROIS_PER_IMAGE,
        "roi_positive_ratio": config.ROI_POSITIVE_RATIO,
        "mask_shape": config.MASK_SHAPE,
        "use_mini_mask": config.USE_MINI_MASK,
        "bbox_std_dev": config.BBOX_STD_DEV,
    }


def _detection_settings(config) -> dict:
    return {
        "max_instances": config.DETECTION_MAX_INSTANCES,
        "min_confidence": config.DETECTION_MIN_CONFIDENCE,
        "nms_threshold": config.DETECTION_NMS_THRESHOLD,
        "bbox_std_dev": config.BBOX_STD_DEV,
    }


# ---- One image at a time ---------------------------------------------------------------------


def detection_targets_graph(proposals, gt_class_ids, gt_boxes, gt_masks, config):
    """Detection targets of one image.

    Args:
        proposals: `[N, (y1, x1, y2, x2)]`; gt_class_ids: `[G]`; gt_boxes: `[G, 4]`, all boxes
            normalised; gt_masks: `[height, width, G]`.

    Returns:
        rois `[T, 4]`, class_ids `[T]`, deltas `[T, 4]`, masks `[T, h, w]`.
    """
    layer = sampling.DetectionTargetLayer(**_sampling_settings(config))
    inputs = (proposals, gt_class_ids, gt_boxes, gt_masks)
    return tuple(output[0] for output in layer([ops.convert_to_tensor(x)[None] for x in inputs]))


def refine_detections_graph(rois, probs, deltas, window, config):
    """Detections of one image.

    Args:
        rois: `[N, (y1, x1, y2, x2)]`; probs: `[N, C]`; deltas: `[N, C, 4]`; window: `[4]`, boxes
            and window normalised.

    Returns:
        `[D, (y1, x1, y2, x2, class_id, score)]`, normalised.
    """
    layer = detections.DetectionLayer(**_detection_settings(config))
    inputs = [ops.convert_to_tensor(x)[None] for x in (rois, probs, deltas, window)]
    return layer.select(*inputs)[0]


# ---- Names and arguments of the original's functions --------------------------------------------


def rpn_bbox_loss_graph(config, target_bbox, rpn_match, rpn_bbox):
    """`losses.rpn_bbox_loss`; config is not looked at."""
    return losses.rpn_bbox_loss(target_bbox, rpn_match, rpn_bbox)


def overlaps_graph(boxes1, boxes2):
    """`geometry.boxes.compute_overlaps` of tensors: `[N, 4]`, `[M, 4]` -> `[N, M]`."""
    return boxes.compute_overlaps(ops.convert_to_tensor(boxes1), ops.convert_to_tensor(boxes2))


def log2_graph(x):
    """Logarithm to base 2 of a tensor."""
    return ops.log2(x)


def trim_zeros_graph(boxes, name="trim_zeros"):
    """Rows that are not all zero, and which they are; eagerly, their number is not known before.

    Args:
        boxes: `[N, 4]`.

    Returns:
        `[M, 4]`, and `[N]` bool.
    """
    is_there = ops.any(boxes != 0, axis=1)
    return ops.take(boxes, ops.nonzero(is_there)[0], axis=0), is_there


def batch_pack_graph(x, counts, num_rows):
    """The first rows of each image, one after the other.

    Args:
        x: `[B, N, …]`; counts: `[B]`, rows to take of each; num_rows: B.

    Returns:
        `[sum of counts, …]`.
    """
    return ops.concatenate([x[row, : int(counts[row])] for row in range(num_rows)], axis=0)


def batch_slice(inputs, graph_fn, batch_size, names=None):
    """Call a function of one image on every image of a batch and stack what it returns.

    Args:
        inputs: list of tensors `[batch_size, …]`, or one; graph_fn: takes a slice of each.
        names: not needed any more.

    Returns:
        A tensor `[batch_size, …]`, or a list of them if the function returns several.
    """
    inputs = inputs if isinstance(inputs, (list, tuple)) else [inputs]
    per_image = [graph_fn(*(x[index] for x in inputs)) for index in range(batch_size)]
    if not isinstance(per_image[0], (list, tuple)):
        return ops.stack(per_image, axis=0)
    return [ops.stack(list(outputs), axis=0) for outputs in zip(*per_image, strict=True)]


def download_trained_weights(coco_model_path, verbose=1) -> None:
    """Download the weights trained on COCO that the original's authors released.

    Args:
        coco_model_path: where to put the file; verbose: print progress.

    Raises:
        OSError: no connection; says which file to put where.
    """
    path = os.path.abspath(os.fspath(coco_model_path))
    if verbose:
        print(f"Downloading the COCO weights to {path} ...")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    try:
        with urllib.request.urlopen(COCO_MODEL_URL) as response, open(path + ".part", "wb") as file:
            shutil.copyfileobj(response, file)
    except OSError as error:
        raise OSError(
            f"{COCO_MODEL_URL} could not be downloaded ({error}); fetch it elsewhere and put it "
            f"at {path}."
        ) from error
    os.replace(path + ".part", path)


# ---- Several devices ---------------------------------------------------------------------------


@keras.saving.register_keras_serializable("mrcnn_legacy")
class ParallelModel(keras.Model):
    """A model under the original's name for one on several devices; it runs where the model does.

    Whatever it is asked for or told goes to the model inside: compiling, training, loss, layers,
    weights, and all that loads or saves, so that files hold that model.

    Args:
        keras_model: the model, `inner_model` from then on.
        gpu_count: accepted; a batch of GPU_COUNT * IMAGES_PER_GPU images goes through as one.
    """

    def __init__(self, keras_model, gpu_count):
        super().__init__(inputs=keras_model.input, outputs=keras_model.output)
        self.gpu_count = gpu_count
        self.inner_model = keras_model

    def __getattribute__(self, attrname):
        inner = super().__getattribute__("__dict__").get("inner_model")
        if inner is None or _is_own(type(self), attrname):
            return super().__getattribute__(attrname)
        return getattr(inner, attrname)

    def __setattr__(self, attrname, value):
        inner = self.__dict__.get("inner_model")
        if inner is None or _is_own(type(self), attrname):
            super().__setattr__(attrname, value)
        else:
            setattr(inner, attrname, value)

    def summary(self, *args, **kwargs):
        """Print the summary of both models, which have the same layers."""
        super().summary(*args, **kwargs)
        self.inner_model.summary(*args, **kwargs)

    def make_parallel(self):
        """The outputs for a whole batch: the model's own, as nothing is split."""
        return self.inner_model.output

    def get_config(self):
        inner = keras.saving.serialize_keras_object(self.inner_model)
        return {"keras_model": inner, "gpu_count": self.gpu_count}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        inner = keras.saving.deserialize_keras_object(config["keras_model"], custom_objects)
        return cls(inner, config["gpu_count"])


def _is_own(cls: type, name: str) -> bool:
    """Whether a name belongs to ParallelModel or a subclass of it, not to the model inside."""
    if name.startswith("__") or name in ("inner_model", "gpu_count"):
        return True
    classes = cls.__mro__[: cls.__mro__.index(ParallelModel) + 1]
    return any(name in vars(base) for base in classes)
