"""Images of any size: detection in windows, and the objects of all windows joined."""

from mrcnn.tiles.joining import Joined as Joined
from mrcnn.tiles.joining import View as View
from mrcnn.tiles.joining import join as join
from mrcnn.tiles.joining import view_of as view_of
from mrcnn.tiles.windows import Window as Window
from mrcnn.tiles.windows import windows_of as windows_of
