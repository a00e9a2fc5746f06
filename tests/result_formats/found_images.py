"""Images with objects that are known, as the formats of results get them."""

from contextlib import nullcontext

import numpy as np

from mrcnn.data.windowed_images import Georeference, windows_of_array
from mrcnn.geometry.rle import encode_masks
from mrcnn.result_formats.found import FoundImage, FoundObject

SIZE = (20, 30)
# UTM zone 33 north; pixels of half a metre.
PLACE = Georeference(
    'PROJCS["WGS 84 / UTM zone 33N",GEOGCS["WGS 84",DATUM["WGS_1984",'
    'SPHEROID["WGS 84",6378137,298.257223563]],PRIMEM["Greenwich",0],'
    'UNIT["degree",0.0174532925199433]],PROJECTION["Transverse_Mercator"],'
    'PARAMETER["latitude_of_origin",0],PARAMETER["central_meridian",15],'
    'PARAMETER["scale_factor",0.9996],PARAMETER["false_easting",500000],'
    'PARAMETER["false_northing",0],UNIT["metre",1]]',
    (0.5, 0.0, 500_000.0, 0.0, -0.5, 5_000_000.0),
)


def found_object(mask, class_name="leaf", score=0.9, category_id=1):
    (rle,) = encode_masks(mask[..., None])
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    bbox = [0, 0, 0, 0]
    if len(rows):
        bbox = [columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0]]
    return FoundObject(category_id, class_name, score, [int(side) for side in bbox], rle)


def box(y1, x1, y2, x2):
    mask = np.zeros(SIZE, bool)
    mask[y1:y2, x1:x2] = True
    return mask


def found_image(*objects, number=1, name="a.png", stem="a", values=None, video=None, place=PLACE):
    pixels = np.full((*SIZE, 3), 100, np.uint8)
    pixels[..., 0] = np.arange(SIZE[1])
    values = pixels if values is None else values
    windows = windows_of_array(values, name)._replace(georeference=place)
    return FoundImage(
        number,
        name,
        stem,
        *SIZE,
        list(objects),
        lambda: pixels,
        lambda: nullcontext(windows),
        video,
    )


def write(writer, folder, *images):
    """Write images with a format's writer."""
    with writer(folder) as add:
        for image in images:
            add(image)
