"""Supervisely's Mask R-CNN by its own configurations: training, and inference in five modes."""
