"""The model that detects."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

import keras
import numpy as np

from mrcnn.config import Config
from mrcnn.execution.detection_pass import DetectionPass
from mrcnn.nn.network import dtype_policy, inference_graph
from mrcnn.weights.network import Network


@keras.saving.register_keras_serializable("mrcnn")
class DetectionModel(Network):
    """The inference graph, with a faster way to compute the two outputs that `detect` needs.

    `predict_on_batch` gives all seven outputs of `inference_graph`.
    """

    def detect_on_batch(
        self, images: np.ndarray, image_metas: np.ndarray, anchors: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Detections and their masks, see `DetectionPass`.

        Args:
            images: `[B, H, W, channels]` float32, molded; image_metas: `[B, meta]`; anchors:
                `[B, A, (y1, x1, y2, x2)]`, normalised.

        Returns:
            detections `[B, D, (y1, x1, y2, x2, class_id, score)]`, normalised, zeros at the end;
            masks `[B, K, h, w, C]` of the first K rows, K at least the largest number of detections
            in one image.
        """
        # A trace contains the threshold as a constant, so each threshold needs its own traces.
        threshold = self.get_layer("mrcnn_detection").min_confidence
        if threshold not in self._passes:
            self._passes[threshold] = DetectionPass(self)
        return self._passes[threshold](images, image_metas, anchors)

    @contextlib.contextmanager
    def all_scores(self) -> Iterator[None]:
        """A context in which DETECTION_MIN_CONFIDENCE is 0, for average precision.

        The first detection in this context traces the network once more; later ones use this trace.
        """
        layer = self.get_layer("mrcnn_detection")
        threshold, traced = layer.min_confidence, getattr(self, "predict_function", None)
        # The trace of Keras' own `predict` contains the threshold too.
        layer.min_confidence, self.predict_function = 0.0, None
        try:
            yield
        finally:
            layer.min_confidence, self.predict_function = threshold, traced

    @functools.cached_property
    def _passes(self) -> dict[float, DetectionPass]:
        return {}


def build_inference_model(config: Config) -> DetectionModel:
    """The model that detects: three inputs, seven outputs, see `inference_graph`."""
    with dtype_policy(config.DTYPE_POLICY):
        inputs, outputs = inference_graph(config)
    return DetectionModel(inputs, outputs, name="mask_rcnn")
