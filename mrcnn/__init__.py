"""Mask R-CNN for Keras 3: object detection and instance segmentation.

Importing this package loads nothing else; import the module you need, such as `mrcnn.model`.
"""

from mrcnn import moved as moved  # old names of modules go on working

__version__ = "0.2.0"
