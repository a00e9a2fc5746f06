"""The original's module name `mrcnn.parallel_model`: imports its class from its new module."""

from mrcnn.legacy import ParallelModel as ParallelModel

__all__ = ["ParallelModel"]
