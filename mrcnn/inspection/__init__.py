"""Inspection: what other rooms and users call. The reports are imported by name."""

from mrcnn.inspection.tensors import STEP_NAMES as STEP_NAMES
from mrcnn.inspection.tensors import ProposalSteps as ProposalSteps
from mrcnn.inspection.tensors import ancestor as ancestor
from mrcnn.inspection.tensors import find_trainable_layer as find_trainable_layer
from mrcnn.inspection.tensors import get_trainable_layers as get_trainable_layers
from mrcnn.inspection.tensors import run_graph as run_graph

__all__ = [name for name in dir() if not name.startswith("_")]
