"""Weights in and out by layer name: what other rooms and users call."""

from mrcnn.weights.by_name import LoadReport as LoadReport
from mrcnn.weights.by_name import copy_weights as copy_weights
from mrcnn.weights.by_name import load_weights as load_weights
from mrcnn.weights.by_name import save_weights as save_weights
from mrcnn.weights.checkpoint import load_means as load_means
from mrcnn.weights.checkpoint import load_optimizer as load_optimizer
from mrcnn.weights.checkpoint import save_checkpoint as save_checkpoint
from mrcnn.weights.imagenet import get_imagenet_weights as get_imagenet_weights
from mrcnn.weights.imagenet import original_resnet_name as original_resnet_name
from mrcnn.weights.layers import CLASS_LAYERS as CLASS_LAYERS
from mrcnn.weights.network import Network as Network
from mrcnn.weights.network import save_model as save_model
from mrcnn.weights.start import COCO_MODEL_URL as COCO_MODEL_URL
from mrcnn.weights.start import download_trained_weights as download_trained_weights
from mrcnn.weights.start import load_start_weights as load_start_weights

__all__ = [name for name in dir() if not name.startswith("_")]
