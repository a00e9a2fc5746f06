"""The model that detects: the inference graph and the fast way to what `detect` needs of it."""

from __future__ import annotations

import functools

import keras
import numpy as np
from keras import ops

from mrcnn import backend
from mrcnn.config import Config
from mrcnn.execution import folding
from mrcnn.nn.network import dtype_policy, inference_graph
from mrcnn.weights.network import Network

# Sizes in which the mask head runs: on the detections that there are, each size traced once.
_MASK_ROWS = (8, 32)


@keras.saving.register_keras_serializable("mrcnn")
class DetectionModel(Network):
    """The inference graph, with a way of its own to what `detect` needs.

    `predict_on_batch` gives all seven outputs of `inference_graph`. `detect_on_batch` gives two
    of them, faster: batch normalisation is folded, and only detections that exist get masks.
    """

    def detect_on_batch(self, images, image_metas, anchors) -> tuple[np.ndarray, np.ndarray]:
        """Detections and their masks, as arrays.

        Args:
            images: `[B, H, W, channels]` molded; image_metas: `[B, meta]`; anchors: `[B, A, 4]`.

        Returns:
            detections `[B, D, 6]`; masks `[B, K, h, w, C]` of the first K rows, K at least as large
            as the number of detections of any image.
        """
        # Where images are padded to a square there is one size; else the first one has functions of
        # its own, and all others share theirs. So have single images, which are faster alone.
        first = self.__dict__.setdefault("_first_size", images.shape[1:3])
        batch = (0,) if len(images) > 1 else ()
        maps = (*batch, 1, 2) if images.shape[1:3] != first else batch
        detections, *pyramid = self._find(
            images, image_metas, anchors, open_axes=[maps, batch, maps[:-1] if 1 in maps else batch]
        )
        found = ops.convert_to_numpy(detections)
        count = int((found[:, :, 4] > 0).sum(axis=1).max())
        rows = min(n for n in (*_MASK_ROWS, found.shape[1]) if n >= count)
        (masks,) = self._segment(
            detections[:, :rows], image_metas, *pyramid, open_axes=[batch, batch, *[maps] * 4]
        )
        return found, _array(masks)

    @functools.cached_property
    def _find(self):
        return self._part([self.outputs[0], *self._pyramid], self.inputs)

    @functools.cached_property
    def _segment(self):
        return self._part([self.outputs[3]], [self.outputs[0], self.inputs[1], *self._pyramid])

    @property
    def _pyramid(self) -> list:
        return [self.get_layer(f"fpn_p{level}").output for level in (2, 3, 4, 5)]

    def _part(self, outputs, inputs):
        """The way from some tensors of the graph to others as a compiled function."""
        return backend.compiled(
            lambda *values: folding.run(outputs, list(zip(inputs, values, strict=True))),
            self.variables,
        )


def _array(tensor) -> np.ndarray:
    return ops.convert_to_numpy(ops.cast(tensor, "float32"))


def build_inference_model(config: Config) -> DetectionModel:
    """The model that detects: three inputs, seven outputs, see `inference_graph`."""
    with dtype_policy(config.DTYPE_POLICY):
        inputs, outputs = inference_graph(config)
    return DetectionModel(inputs, outputs, name="mask_rcnn")
