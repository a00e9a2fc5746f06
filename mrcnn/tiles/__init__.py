"""Images of any size: detection in windows, and the objects of all windows joined."""

from mrcnn.tiles.detection import Tiling as Tiling
from mrcnn.tiles.detection import check_tiling as check_tiling
from mrcnn.tiles.detection import detect_picture_tiled as detect_picture_tiled
from mrcnn.tiles.detection import detect_tiled as detect_tiled
from mrcnn.tiles.detection import image_of_window as image_of_window
from mrcnn.tiles.detection import window_name as window_name
from mrcnn.tiles.joining import Joined as Joined
from mrcnn.tiles.joining import View as View
from mrcnn.tiles.joining import join as join
from mrcnn.tiles.joining import view_of as view_of
from mrcnn.tiles.windows import Window as Window
from mrcnn.tiles.windows import windows_of as windows_of

__all__ = [name for name in dir() if not name.startswith("_")]
