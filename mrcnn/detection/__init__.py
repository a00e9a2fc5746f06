"""Detection: images to results, what other rooms and users call."""

from mrcnn.detection.detector import AnchorCache as AnchorCache
from mrcnn.detection.detector import Detector as Detector
from mrcnn.detection.detector import batches_of_one_shape as batches_of_one_shape
from mrcnn.detection.detector import detect as detect
from mrcnn.detection.detector import predict as predict
from mrcnn.detection.detector import unmold_batch as unmold_batch
from mrcnn.detection.model import DetectionModel as DetectionModel
from mrcnn.detection.model import build_inference_model as build_inference_model
from mrcnn.detection.molding import mold_inputs as mold_inputs
from mrcnn.detection.molding import unmold_detections as unmold_detections
from mrcnn.detection.molding import unmold_rle as unmold_rle

__all__ = [name for name in dir() if not name.startswith("_")]
