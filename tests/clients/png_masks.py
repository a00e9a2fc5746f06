"""Cells under two microscopes: a PNG a mask, grey or RGBA images, two sources with a class each."""

import argparse
import os

import matplotlib

matplotlib.use("Agg")
import numpy as np
import skimage.color
import skimage.io
from matplotlib import pyplot as plt
from shapes_project import ShapesConfig

import mrcnn.model as modellib
import mrcnn.utils as utils
from mrcnn import visualize

CLASSES = {"bright": (1, "nucleus"), "fluo": (7, "vesicle")}


class CellConfig(ShapesConfig):
    NAME = "cell"
    NUM_CLASSES = 1 + len(CLASSES)
    IMAGE_RESIZE_MODE = "crop"
    IMAGE_MIN_SCALE = 1.2
    MEAN_PIXEL = np.array([43.5, 39.6, 48.2])
    MAX_GT_INSTANCES = 20


class CellInferenceConfig(CellConfig):
    GPU_COUNT = 1
    IMAGES_PER_GPU = 1
    # Whole images instead of crops.
    IMAGE_RESIZE_MODE = "pad64"
    RPN_NMS_THRESHOLD = 0.8


class CellDataset(utils.Dataset):
    def load_cells(self, dataset_dir, held_out=()):
        for source, (class_id, name) in CLASSES.items():
            self.add_class(source, class_id, name)
            folder = os.path.join(dataset_dir, source)
            for image_id in sorted(next(os.walk(folder))[1]):
                if image_id in held_out:
                    continue
                self.add_image(
                    source,
                    image_id=image_id,
                    path=os.path.join(folder, image_id, "images", image_id + ".png"),
                )

    def load_image(self, image_id):
        image = skimage.io.imread(self.image_info[image_id]["path"])
        if image.ndim != 3:
            image = skimage.color.gray2rgb(image)
        if image.shape[-1] == 4:
            image = image[..., :3]
        return image

    def load_mask(self, image_id):
        info = self.image_info[image_id]
        mask_dir = os.path.join(os.path.dirname(os.path.dirname(info["path"])), "masks")
        mask = []
        for f in sorted(next(os.walk(mask_dir))[2]):
            if f.endswith(".png"):
                mask.append(skimage.io.imread(os.path.join(mask_dir, f)).astype(bool))
        if not mask:
            # Nothing to see here.
            return super(CellDataset, self).load_mask(image_id)
        mask = np.stack(mask, axis=-1)
        class_id = self.map_source_class_id(
            "{}.{}".format(info["source"], CLASSES[info["source"]][0])
        )
        return mask, np.ones([mask.shape[-1]], dtype=np.int32) * class_id

    def image_reference(self, image_id):
        info = self.image_info[image_id]
        return "{}::{}".format(info["source"], info["id"])


def rle_encode(mask):
    """Run lengths down the columns, counted from 1."""
    padded = np.concatenate([[0], mask.T.flatten(), [0]])
    edges = np.where(padded[1:] != padded[:-1])[0] + 1
    return " ".join(str(n) for pair in edges.reshape(-1, 2) for n in (pair[0], pair[1] - pair[0]))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--logs", required=True)
    parser.add_argument("--results", required=True)
    parser.add_argument("--val", default="")
    args = parser.parse_args()

    val_ids = args.val.split(",")
    config = CellConfig()
    dataset_train = CellDataset()
    dataset_train.load_cells(args.dataset, held_out=val_ids)
    dataset_train.prepare()
    dataset_val = CellDataset()
    dataset_val.load_cells(args.dataset)
    dataset_val.prepare()
    for info in dataset_train.class_info:
        print("{:3}. {:20} {}".format(info["id"], info["name"], info["source"]))

    model = modellib.MaskRCNN(mode="training", config=config, model_dir=args.logs)
    model.train(
        dataset_train, dataset_val, learning_rate=config.LEARNING_RATE, epochs=1, layers="all"
    )

    inference_config = CellInferenceConfig()
    model = modellib.MaskRCNN(mode="inference", config=inference_config, model_dir=args.logs)
    model.load_weights(model.find_last(), by_name=True)

    if not os.path.exists(args.results):
        os.makedirs(args.results)
    submission = []
    for image_id in dataset_val.image_ids:
        image = dataset_val.load_image(image_id)
        r = model.detect([image], verbose=0)[0]
        source_id = dataset_val.image_info[image_id]["id"]
        order = np.argsort(r["scores"])[::-1] + 1
        label = np.max(r["masks"] * np.reshape(order, [1, 1, -1]), -1) if len(order) else None
        if label is None:
            submission.append("{},".format(source_id))
        else:
            for i in order:
                rle = rle_encode(np.where(label == i, 1, 0))
                submission.append("{}, {}".format(source_id, rle))
        visualize.display_instances(
            image,
            r["rois"],
            r["masks"],
            r["class_ids"],
            dataset_val.class_names,
            r["scores"],
            show_bbox=False,
            show_mask=False,
            title="Predictions",
            figsize=(4, 4),
        )
        plt.savefig("{}/{}.png".format(args.results, source_id))
        plt.close("all")
    with open(os.path.join(args.results, "submit.csv"), "w") as f:
        f.write("ImageId,EncodedPixels\n" + "\n".join(submission))
    print("Saved to ", args.results)


if __name__ == "__main__":
    main()
