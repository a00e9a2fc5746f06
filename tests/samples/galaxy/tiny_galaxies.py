"""A configuration of made-up galaxies and a network so small that it is built in seconds."""

import json

from samples.galaxy.settings import load_settings

TINY = {
    "IMAGE_MIN_DIM": 64,
    "IMAGE_MAX_DIM": 64,
    "TOP_DOWN_PYRAMID_SIZE": 16,
    "FPN_CLASSIF_FC_LAYERS_SIZE": 32,
    "MASK_POOL_SIZE": 4,
    "MASK_SHAPE": [8, 8],
    "MINI_MASK_SHAPE": [14, 14],
    "RPN_ANCHOR_SCALES": [4, 8, 16, 32, 64],
    "RPN_TRAIN_ANCHORS_PER_IMAGE": 32,
    "PRE_NMS_LIMIT": 300,
    "POST_NMS_ROIS_TRAINING": 60,
    "POST_NMS_ROIS_INFERENCE": 30,
    "TRAIN_ROIS_PER_IMAGE": 8,
    "MAX_GT_INSTANCES": 8,
    "DETECTION_MAX_INSTANCES": 10,
}


def write_config(folder, **changes):
    """A configuration of made-up galaxies and a tiny network in a folder; its path."""
    values = {
        "log_dir": str(folder / "logs"),
        "data_table": str(folder / "data" / "mask_labels.gzip"),
        "image_dir": str(folder / "data"),
        "backbone": "small",
        "trainable_layers": 5,
        "batch_size": 2,
        "epochs": 2,
        "made_up": {"count": 10, "size": 64, "volunteers": 0},
        "settings": TINY,
        **changes,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.json"
    path.write_text("// what differs\n" + json.dumps(values), encoding="utf-8")
    return path


def settings_of(folder, **changes):
    return load_settings(write_config(folder, **changes))
