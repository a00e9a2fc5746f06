"""Label formats of annotation tools and benchmarks: one file per format.

A format is one file with a `Dataset` subclass that reads the format, checks it and draws its masks.
What all formats need is in four files: `problems` (bad entries, listed or left out), `image_folder`
(the image that a file name means), `segmentation` (COCO's polygons and run lengths), `shapes`
(polygons and ellipses of pixel centres).
"""
