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
from mrcnn.types import ArrayOrTensor
from mrcnn.weights.network import Network


@keras.saving.register_keras_serializable("mrcnn")
class DetectionModel(Network):
    """The inference graph, with a faster way to compute the two outputs that `detect` needs.

    `predict_on_batch` gives all seven outputs of `inference_graph`.
    """

    def detect_on_batch(
        self, images: ArrayOrTensor, image_metas: ArrayOrTensor, anchors: ArrayOrTensor
    ) -> tuple[np.ndarray, np.ndarray]:
        """Detections and their masks, see `DetectionPass`.

        Args:
            images, image_metas, anchors: the three inputs of the model.

        Returns:
            As `DetectionPass`.
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
