"""Training: what other rooms and users call."""

from mrcnn.training.loop import ValidationLoader as ValidationLoader
from mrcnn.training.loop import fit as fit
from mrcnn.training.model import TrainingModel as TrainingModel
from mrcnn.training.model import build_training_model as build_training_model
from mrcnn.training.model import compile_model as compile_model
from mrcnn.training.model import start_optimizer as start_optimizer
from mrcnn.training.optimizers import WarmUp as WarmUp
from mrcnn.training.optimizers import build_optimizer as build_optimizer
from mrcnn.training.optimizers import learning_rate_schedule as learning_rate_schedule
from mrcnn.training.optimizers import set_schedule as set_schedule
from mrcnn.training.run import Run as Run
from mrcnn.training.run import find_last as find_last
from mrcnn.training.run import new_run as new_run
from mrcnn.training.run import resumed_run as resumed_run
from mrcnn.training.saving import Checkpoint as Checkpoint
from mrcnn.training.trainable import LAYER_PRESETS as LAYER_PRESETS
from mrcnn.training.trainable import set_trainable as set_trainable

__all__ = [name for name in dir() if not name.startswith("_")]
