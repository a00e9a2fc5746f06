"""Detects in a TIFF of 20,000 x 20,000 pixels by windows; prints objects and megabytes.

python tests/tiles/large_image.py FOLDER
"""

import resource
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SIDE, TILE, STEP = 20_000, 512, 100


def tiles():
    """Tiles of an image with a bright square of 40 pixels in each 100 pixels."""
    import numpy as np

    for top in range(0, SIDE, TILE):
        for left in range(0, SIDE, TILE):
            rows, columns = ((np.arange(start, start + TILE) % STEP) < 40 for start in (top, left))
            yield np.where(rows[:, None] & columns, np.uint8(200), np.uint8(0))


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "goldens")]
    import tifffile

    from mrcnn.data.windowed_images import open_windows
    from mrcnn.detection.pictures import Picture
    from mrcnn.tiles import Tiling, detect_picture_tiled, detection
    from tests.tiles.test_detection import CLASSES, Model, Threshold

    path = Path(sys.argv[1], "large.tif")
    tifffile.imwrite(
        path,
        tiles(),
        shape=(SIDE, SIDE),
        dtype="uint8",
        tile=(TILE, TILE),
        photometric="minisblack",
        compression="zlib",
    )
    detection.detect_pictures = Threshold()
    Model.config.DETECTION_MAX_INSTANCES = 1000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    picture = Picture("large.tif", lambda: None, lambda: open_windows(path))
    result = detect_picture_tiled(Model, picture, Tiling(), CLASSES, (), lambda _: None)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cut = sum(one.get("cut", False) for one in result["detections"])
    print(len(result["detections"]), cut, (after - before) // 1024)
