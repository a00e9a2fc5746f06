"""Datasets in the formats of annotation tools and benchmarks: one file a format."""
