"""The label image of an image's objects, drawn window by window.

Pixels are 0 for background, else the number of an object; object 1 has the best score. Where
objects overlap, the pixel belongs to the better score.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import shapely

from mrcnn.data.windowed_images import Box
from mrcnn.result_formats.found import FoundImage

# Images of more pixels are not written as one array.
LARGE = 64_000_000
_LARGEST_UINT16 = 65535


class LabelWindows:
    """Draws windows of the label image of an image; only the objects in a window are decoded.

    Attributes:
        shape: `(H, W)` of the image.
        dtype: of 16 bits, or of 32 bits for more than 65535 objects.
    """

    def __init__(self, image: FoundImage):
        self.shape = image.height, image.width
        self.dtype = np.dtype(np.uint16 if len(image.objects) <= _LARGEST_UINT16 else np.uint32)
        self._objects = image.objects
        boxes = np.array([one.bbox for one in image.objects], np.int64).reshape(-1, 4)
        x, y, width, height = boxes.T
        self._boxes = np.stack([y, x, y + height, x + width], axis=1)
        self._tree = shapely.STRtree(shapely.box(x, y, x + width, y + height))

    def draw(self, box: Box, step: int = 1) -> np.ndarray:
        """The numbers inside a box, `[y2 - y1, x2 - x1]`.

        Args:
            box: `(y1, x1, y2, x2)` in pixels of the smaller image; may reach out of it.
            step: pixel (y, x) of the smaller image is pixel (step * y, step * x).
        """
        y1, x1, y2, x2 = box
        labels = np.zeros((y2 - y1, x2 - x1), self.dtype)
        window = shapely.box(step * x1, step * y1, step * x2, step * y2)
        # The best score last, so that it lies in front.
        for index in sorted(self._tree.query(window).tolist(), reverse=True):
            top, left, bottom, right = (-(-side // step) for side in self._boxes[index].tolist())
            top, left, bottom, right = max(top, y1), max(left, x1), min(bottom, y2), min(right, x2)
            if top < bottom and left < right:
                part = self._objects[index].part((top, left, bottom, right), step)
                labels[top - y1 : bottom - y1, left - x1 : right - x1][part] = index + 1
        return labels

    def size(self, step: int = 1) -> tuple[int, int]:
        """(height, width) of the image that has each `step`-th pixel of each `step`-th row."""
        height, width = (-(-side // step) for side in self.shape)
        return height, width

    def tiles(self, side: int, step: int = 1) -> Iterator[np.ndarray]:
        """The tiles `[side, side]` of a TIFF, row by row; 0 where they reach out of the image."""
        height, width = self.size(step)
        for top in range(0, height, side):
            for left in range(0, width, side):
                yield self.draw((top, left, top + side, left + side), step)
