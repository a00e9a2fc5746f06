"""Small data in the layouts that users have: VIA polygons, a PNG a mask, pictures."""

import json
from pathlib import Path

import numpy as np
import skimage.draw
import skimage.io

LEAF, GROUND = (60, 180, 70), (120, 90, 60)


def _disc(shape, y, x, radius) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[skimage.draw.disk((y, x), radius, shape=shape)] = True
    return mask


def via_project(folder: Path) -> None:
    """`train` and `val`, each with pictures of another size and `via_region_data.json`."""
    for subset, count, shape in (("train", 4, (60, 80)), ("val", 2, (72, 56))):
        (folder / subset).mkdir(parents=True)
        rng = np.random.default_rng(len(subset))
        annotations = {}
        for i in range(count):
            image = np.full((*shape, 3), GROUND, np.uint8)
            regions = []
            for _ in range(1 + i % 2):
                y, x, radius = rng.integers(15, 40), rng.integers(15, 40), 12
                image[_disc(shape, y, x, radius)] = LEAF
                angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
                polygon = {
                    "name": "polygon",
                    "all_points_x": np.rint(x + radius * np.cos(angles)).astype(int).tolist(),
                    "all_points_y": np.rint(y + radius * np.sin(angles)).astype(int).tolist(),
                }
                regions.append({"shape_attributes": polygon, "region_attributes": {}})
            name = f"{subset}_{i}.png"
            path = folder / subset / name
            skimage.io.imsave(path, image, check_contrast=False)
            annotations[f"{name}{path.stat().st_size}"] = {
                "filename": name,
                "size": path.stat().st_size,
                # VIA 1 and VIA 2.
                "regions": regions if i % 2 else {str(k): r for k, r in enumerate(regions)},
            }
        annotations["nobody drew here"] = {"filename": "missing.png", "regions": []}
        (folder / subset / "via_region_data.json").write_text(json.dumps(annotations))


def mask_folders(folder: Path) -> None:
    """`<source>/<id>/images/<id>.png` and `masks/*.png`; grey and RGBA, some without a mask."""
    rng = np.random.default_rng(3)
    for source, count in (("bright", 4), ("fluo", 4)):
        for i in range(count):
            name = f"{source}{i}"
            shape = (70 + 10 * i, 90)
            image = np.full(shape, 15, np.uint8)
            masks = []
            for _ in range(0 if i == 3 else 5):
                mask = _disc(shape, rng.integers(12, shape[0] - 12), rng.integers(12, 78), 10)
                image[mask] = 200
                masks.append(mask)
            if source == "fluo":
                image = np.dstack([image, image // 2, image // 3, np.full(shape, 255, np.uint8)])
            for kind in ("images", "masks"):
                (folder / source / name / kind).mkdir(parents=True)
            skimage.io.imsave(
                folder / source / name / "images" / f"{name}.png", image, check_contrast=False
            )
            for k, mask in enumerate(masks):
                path = folder / source / name / "masks" / f"{k}.png"
                skimage.io.imsave(path, mask.astype(np.uint8) * 255, check_contrast=False)


def pictures(folder: Path) -> None:
    """Two pictures of other sizes than the network's."""
    folder.mkdir(parents=True)
    for name, shape in (("a.png", (50, 90)), ("b.jpg", (120, 64))):
        image = np.full((*shape, 3), 25, np.uint8)
        image[10:34, 12:36] = (220, 60, 40)
        skimage.io.imsave(folder / name, image, check_contrast=False)


def boxes_in_xml(folder: Path) -> None:
    """`images/<number>.jpg` and `annots/<number>.xml`, seven of them."""
    for kind in ("images", "annots"):
        (folder / kind).mkdir(parents=True)
    for i in range(7):
        height, width, box = 60 + i, 90, (10 + 5 * i, 8, 45 + 5 * i, 40)
        image = np.full((height, width, 3), GROUND, np.uint8)
        image[box[1] : box[3], box[0] : box[2]] = (200, 150, 90)
        skimage.io.imsave(folder / "images" / f"{i:05d}.jpg", image, check_contrast=False)
        sides = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        corners = "".join(f"<{name}>{side}</{name}>" for name, side in sides)
        (folder / "annots" / f"{i:05d}.xml").write_text(
            f"<annotation><size><width>{width}</width><height>{height}</height></size>"
            f"<object><name>deer</name><bndbox>{corners}</bndbox></object></annotation>"
        )
