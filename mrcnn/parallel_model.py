"""The original's `mrcnn.parallel_model`: its name, from where it lives here."""

from mrcnn.legacy import ParallelModel as ParallelModel

__all__ = ["ParallelModel"]
