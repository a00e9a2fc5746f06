"""Detections of a batch and then their masks, as two compiled functions.

Masks are computed only for detections that exist, not for all DETECTION_MAX_INSTANCES rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import KerasTensor, ops

from mrcnn import backend
from mrcnn.execution.walk import values_of
from mrcnn.nn.network import INFERENCE_OUTPUTS
from mrcnn.types import ArrayOrTensor, Tensor

# Numbers of rows per image that the mask head is traced for, besides DETECTION_MAX_INSTANCES.
MASK_ROWS = (8, 32)

_BATCH, _HEIGHT, _WIDTH = 0, 1, 2


class DetectionPass:
    """The inference graph from images to detections and masks.

    Args:
        model: model of the inference graph, see `nn.network.inference_graph`. Its variables are
            read in every call.
    """

    def __init__(self, model: keras.Model):
        outputs = dict(zip(INFERENCE_OUTPUTS, model.outputs, strict=True))
        detections = outputs["detections"]
        _, image_metas, _ = model.inputs
        pyramid = [model.get_layer(f"fpn_p{level}").output for level in (2, 3, 4, 5)]
        self._find = _compiled(model, model.inputs, [detections, *pyramid])
        self._segment = _compiled(
            model, [detections, image_metas, *pyramid], [outputs["mrcnn_mask"]], _of_its_class
        )
        self._class_count = outputs["mrcnn_mask"].shape[-1]
        self._first_size: tuple[int, int] | None = None

    def __call__(
        self, images: ArrayOrTensor, image_metas: ArrayOrTensor, anchors: ArrayOrTensor
    ) -> tuple[np.ndarray, np.ndarray]:
        """Detections and their masks.

        Args:
            images: `[B, H, W, channels]` float32, molded; image_metas: `[B, meta]`; anchors:
                `[B, A, (y1, x1, y2, x2)]`, normalised.

        Returns:
            detections `[B, D, (y1, x1, y2, x2, class_id, score)]`, normalised, zeros at the end;
            masks `[B, K, h, w, C]` float32 of the first K rows, K at least the largest number of
            detections in one image. Every channel of a detection holds the mask of its own class:
            the others stay on the device, and the channels are one array (read only).
        """
        size = self._varying(images.shape)
        batch = [axis for axis in size if axis == _BATCH]
        # The number of anchors, axis 1, varies with the image's size.
        of_anchors = [*batch, 1] if _HEIGHT in size else batch
        detections, *pyramid = self._find(
            images, image_metas, anchors, open_axes=[size, batch, of_anchors]
        )
        found = ops.convert_to_numpy(detections)
        count = int((found[:, :, 4] > 0).sum(axis=1).max())
        rows = min(n for n in (*MASK_ROWS, found.shape[1]) if n >= count)
        (masks,) = self._segment(
            detections[:, :rows], image_metas, *pyramid, open_axes=[batch, batch, *[size] * 4]
        )
        masks = ops.convert_to_numpy(masks)
        return found, np.broadcast_to(masks, (*masks.shape[:-1], self._class_count))

    def _varying(self, shape: tuple[int, ...]) -> list[int]:
        """Axes of the images whose size one trace leaves open.

        The first image size gets its own trace, because fixed sizes run faster; all other sizes
        share one. Batches of one image also get their own traces, because these run faster.
        """
        size = (shape[_HEIGHT], shape[_WIDTH])
        self._first_size = self._first_size or size
        batch = [_BATCH] if shape[_BATCH] > 1 else []
        return batch if size == self._first_size else [*batch, _HEIGHT, _WIDTH]


def _of_its_class(detections: Tensor, masks: Tensor) -> Tensor:
    """Of masks `[B, K, h, w, C]`, each detection's mask of its class, `[B, K, h, w, 1]` float32."""
    class_ids = ops.cast(detections[:, :, 4], "int32")
    masks = ops.take_along_axis(masks, class_ids[:, :, None, None, None], axis=4)
    return ops.cast(masks, "float32")


def _compiled(
    model: keras.Model,
    inputs: Sequence[KerasTensor],
    outputs: Sequence[KerasTensor],
    then: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Callable[..., list[Tensor]]:
    """The part of a model's graph from given tensors to other tensors, as a compiled function.

    Args:
        then: function of the first input and the only output, whose result takes its place.
    """

    def part(*values: Tensor) -> list[Tensor]:
        found = values_of(outputs, list(zip(inputs, values, strict=True)))
        return found if then is None else [then(values[0], *found)]

    return backend.compiled(part, model.variables)
