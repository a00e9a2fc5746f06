"""Supervisely's Mask R-CNN by its own configurations: training, and inference in five modes."""

from mrcnn.supervisely.inference import ProjectModel as ProjectModel
from mrcnn.supervisely.inference import infer_project as infer_project
from mrcnn.supervisely.model_folder import open_model_folder as open_model_folder
from mrcnn.supervisely.schemas import read_inference_config as read_inference_config
from mrcnn.supervisely.schemas import read_train_config as read_train_config
from mrcnn.supervisely.training import prepare_training as prepare_training

__all__ = [name for name in dir() if not name.startswith("_")]
