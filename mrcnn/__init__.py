"""Mask R-CNN for Keras 3: object detection and instance segmentation.

Importing this package loads nothing else; import the module you need, such as `mrcnn.model`. It
sets TensorFlow's log level if nobody did: `mrcnn.quiet`.
"""

from mrcnn import moved as moved  # old names of modules still work
from mrcnn import quiet

quiet.set_log_level()

__version__ = "0.2.0"
