"""Detections as files that other programs open, one file per format."""
