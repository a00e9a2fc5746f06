"""What this machine has: versions, devices, optional packages, downloaded weights, and speed."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

import mrcnn
from mrcnn import backend
from mrcnn.config import Config
from mrcnn.data.image_files import read_image
from mrcnn.mask_rcnn import MaskRCNN
from mrcnn.weights.imagenet import cache_folder
from mrcnn.weights.start import coco_weights_path

# A microscope image of Kaggle's Data Science Bowl 2018, CC0.
EXAMPLE = Path(__file__).with_name("example.png")
_LIBRARIES = ("keras", "tensorflow", "jax", "torch", "numpy", "opencv-python", "imaug")
_MATRIX = 2048


class Extra(NamedTuple):
    """An optional package."""

    name: str
    is_installed: bool
    use: str


# The extra of pyproject.toml, the module that it brings, and what it gives.
_EXTRAS = (
    ("jax", "jax", "the backend JAX: KERAS_BACKEND=jax"),
    ("torch", "torch", "the backend PyTorch: KERAS_BACKEND=torch"),
    ("albumentations", "albumentations", "its pipelines as augmentation"),
    ("eval", "faster_coco_eval", "COCO's figures in less time"),
    ("galaxy", "pyarrow", "Parquet: tables of instances, mrcnn detect --save parquet"),
    ("geo", "rasterio", "georeferenced rasters: mrcnn detect --save gpkg, wgs84, geotiff"),
    ("imagej", "roifile", "ROIs for ImageJ: mrcnn detect --save rois.zip"),
    ("ray", "ray", "detection on a cluster: mrcnn detect --engine ray"),
    ("slides", "openslide", "whole-slide images"),
    ("supervisely", "jsonschema", "Supervisely's configurations"),
    ("tiles", "zarr", "Zarr arrays; more compressions of large TIFFs"),
    ("safetensors", "safetensors", "weights in .safetensors files"),
)


def versions() -> dict[str, str]:
    """The versions of this package, of Python, and of the libraries that are installed."""
    found = {"mrcnn": mrcnn.__version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def devices() -> dict[str, str]:
    """The backend, its devices, and whether bfloat16 saves time on them."""
    pays = backend.computes_bfloat16()
    return {
        "backend": keras.backend.backend(),
        "devices": ", ".join(backend.device_names()) or "none",
        "cores": str(os.cpu_count()),
        "bfloat16": f"saves {'' if pays else 'no '}time here: DTYPE_POLICY auto is "
        f"{'mixed_bfloat16' if pays else 'float32'}",
    }


def extras() -> list[Extra]:
    """The optional packages, and what each gives."""
    return [
        Extra(name, importlib.util.find_spec(module) is not None, use)
        for name, module, use in _EXTRAS
    ]


def weight_files() -> dict[str, str]:
    """Where downloaded weights are, and which are there."""
    path = coco_weights_path()
    there = sorted(file.name for file in cache_folder().glob("*.h5"))
    return {
        "COCO": f"{path}{'' if os.path.isfile(path) else ' (not downloaded yet)'}",
        "downloads": f"{cache_folder()}: {', '.join(there) or 'empty'}",
    }


def speed() -> dict[str, str]:
    """Matrix products in both precisions, and a detection on a small picture, in seconds.

    The detection is the second one, by ResNet50 with random weights, which takes as long as with
    trained ones.
    """
    image = read_image(EXAMPLE)
    return {
        "float32": f"{_products('float32'):.0f} billion operations per second",
        "bfloat16": f"{_products('bfloat16'):.0f} billion operations per second",
        "detection": f"{_detection(image):.2f} s for {EXAMPLE.name}, "
        f"{image.shape[1]}x{image.shape[0]}, ResNet50",
    }


def _products(dtype: str) -> float:
    """Billions of operations per second in matrix products."""
    values = np.random.default_rng(0).standard_normal((_MATRIX, _MATRIX), np.float32)
    matrix = ops.cast(ops.convert_to_tensor(values), dtype)

    def multiply() -> None:
        ops.convert_to_numpy(ops.cast(ops.matmul(matrix, matrix)[0, :1], "float32"))

    return 2e-9 * _MATRIX**3 / _seconds(multiply)


def _detection(image: np.ndarray) -> float:
    config = Config()
    config.BACKBONE, config.NUM_CLASSES, config.DTYPE_POLICY = "resnet50", 2, "auto"
    config.IMAGES_PER_GPU, config.IMAGE_MIN_DIM, config.IMAGE_MAX_DIM = 1, 512, 512
    model = MaskRCNN("inference", config, ".")
    return _seconds(lambda: model.detect([image]))


def _seconds(function: Callable[[], object]) -> float:
    """Time of the second call: the first one compiles."""
    function()
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
