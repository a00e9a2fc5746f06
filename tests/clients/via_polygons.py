"""A custom data set annotated with the VGG Image Annotator: train, then detect.

    python via_polygons.py train --dataset=data --weights=none --logs=logs
    python via_polygons.py detect --dataset=data --weights=last --logs=logs --output=out
"""

import argparse
import json
import os
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import skimage.color
import skimage.draw
import skimage.io

ROOT_DIR = os.path.abspath("../../")
sys.path.append(ROOT_DIR)

from mrcnn import model as modellib
from mrcnn import utils, visualize
from mrcnn.config import Config

DEFAULT_LOGS_DIR = os.path.join(ROOT_DIR, "logs")


class LeafConfig(Config):
    NAME = "Leaf"
    IMAGES_PER_GPU = 2
    NUM_CLASSES = 1 + 1
    STEPS_PER_EPOCH = 2
    VALIDATION_STEPS = 1
    DETECTION_MIN_CONFIDENCE = 0.0

    BACKBONE = "resnet50"
    TOP_DOWN_PYRAMID_SIZE = 32
    FPN_CLASSIF_FC_LAYERS_SIZE = 32
    IMAGE_MIN_DIM = 64
    IMAGE_MAX_DIM = 64
    RPN_ANCHOR_SCALES = (8, 16, 24, 32, 48)
    RPN_TRAIN_ANCHORS_PER_IMAGE = 32
    POST_NMS_ROIS_TRAINING = 100
    POST_NMS_ROIS_INFERENCE = 50
    TRAIN_ROIS_PER_IMAGE = 16
    MAX_GT_INSTANCES = 10
    DETECTION_MAX_INSTANCES = 10

    # The project's own.
    STAGE_EPOCHS = (1, 2)
    ANNOTATION_FILE = "via_region_data.json"

    def __init__(self, stage_epochs=None):
        if stage_epochs:
            self.STAGE_EPOCHS = stage_epochs
        super().__init__()


class InferenceConfig(LeafConfig):
    GPU_COUNT = 1
    IMAGES_PER_GPU = 1


class LeafDataset(utils.Dataset):
    def load_leaves(self, dataset_dir, subset, config):
        self.add_class("leaf", 1, "leaf")
        assert subset in ["train", "val"]
        dataset_dir = os.path.join(dataset_dir, subset)

        with open(os.path.join(dataset_dir, config.ANNOTATION_FILE)) as f:
            annotations = list(json.load(f).values())
        # The tool keeps images nobody drew on.
        annotations = [a for a in annotations if a["regions"]]

        for a in annotations:
            # VIA 1 writes a dict, VIA 2 a list.
            if type(a["regions"]) is dict:
                polygons = [r["shape_attributes"] for r in a["regions"].values()]
            else:
                polygons = [r["shape_attributes"] for r in a["regions"]]
            image_path = os.path.join(dataset_dir, a["filename"])
            height, width = skimage.io.imread(image_path).shape[:2]
            self.add_image(
                "leaf",
                image_id=a["filename"],
                path=image_path,
                width=width,
                height=height,
                polygons=polygons,
            )

    def load_mask(self, image_id):
        info = self.image_info[image_id]
        if info["source"] != "leaf":
            return super(self.__class__, self).load_mask(image_id)
        mask = np.zeros([info["height"], info["width"], len(info["polygons"])], dtype=np.uint8)
        for i, p in enumerate(info["polygons"]):
            rr, cc = skimage.draw.polygon(p["all_points_y"], p["all_points_x"])
            mask[rr, cc, i] = 1
        return mask.astype(bool), np.ones([mask.shape[-1]], dtype=np.int32)

    def image_reference(self, image_id):
        info = self.image_info[image_id]
        if info["source"] == "leaf":
            return info["path"]
        super(self.__class__, self).image_reference(image_id)


def train(model, config, dataset_dir):
    dataset_train = LeafDataset()
    dataset_train.load_leaves(dataset_dir, "train", config)
    dataset_train.prepare()
    dataset_val = LeafDataset()
    dataset_val.load_leaves(dataset_dir, "val", config)
    dataset_val.prepare()
    print("Images: {}\nClasses: {}".format(len(dataset_train.image_ids), dataset_train.class_names))

    print("Training network heads")
    model.train(
        dataset_train,
        dataset_val,
        learning_rate=config.LEARNING_RATE,
        epochs=config.STAGE_EPOCHS[0],
        layers="heads",
    )
    print("Training everything")
    model.train(
        dataset_train,
        dataset_val,
        learning_rate=config.LEARNING_RATE / 10,
        epochs=config.STAGE_EPOCHS[1],
        layers="all",
    )


def color_splash(image, mask):
    """Colour where a leaf is, grey elsewhere."""
    gray = skimage.color.gray2rgb(skimage.color.rgb2gray(image)) * 255
    if mask.shape[-1] > 0:
        mask = np.sum(mask, -1, keepdims=True) >= 1
        return np.where(mask, image, gray).astype(np.uint8)
    return gray.astype(np.uint8)


def detect(model, config, dataset_dir, output):
    dataset = LeafDataset()
    dataset.load_leaves(dataset_dir, "val", config)
    dataset.prepare()
    os.makedirs(output, exist_ok=True)
    for image_id in dataset.image_ids:
        image = dataset.load_image(image_id)
        r = model.detect([image], verbose=1)[0]
        name = os.path.splitext(dataset.image_info[image_id]["id"])[0]
        visualize.display_instances(
            image,
            r["rois"],
            r["masks"],
            r["class_ids"],
            dataset.class_names,
            r["scores"],
            title="Predictions",
            figsize=(4, 4),
        )
        plt.savefig(os.path.join(output, name + ".png"))
        plt.close()
        skimage.io.imsave(
            os.path.join(output, name + "_splash.png"), color_splash(image, r["masks"])
        )
        print("{}: {} instances".format(dataset.image_reference(image_id), len(r["rois"])))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("command", metavar="<command>", help="'train' or 'detect'")
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--weights", required=True, help="path, 'last' or 'none'")
    parser.add_argument("--logs", default=DEFAULT_LOGS_DIR)
    parser.add_argument("--output", default="output")
    args = parser.parse_args()

    if args.command == "train":
        config = LeafConfig(stage_epochs=(1, 2))
    else:
        config = InferenceConfig()
    config.display()

    if args.command == "train":
        model = modellib.MaskRCNN(mode="training", config=config, model_dir=args.logs)
    else:
        model = modellib.MaskRCNN(mode="inference", config=config, model_dir=args.logs)

    if args.weights.lower() != "none":
        weights_path = model.find_last() if args.weights.lower() == "last" else args.weights
        print("Loading weights ", weights_path)
        model.load_weights(weights_path, by_name=True)

    if args.command == "train":
        train(model, config, args.dataset)
    elif args.command == "detect":
        detect(model, config, args.dataset, args.output)
    else:
        print("'{}' is not recognized. Use 'train' or 'detect'".format(args.command))
