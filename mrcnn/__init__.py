"""Mask R-CNN for Keras 3: object detection and instance segmentation.

Importing this package loads nothing else; import the module you need, such as `mrcnn.model`.
"""

__version__ = "0.1.0"
