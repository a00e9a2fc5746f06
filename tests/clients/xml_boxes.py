"""Boxes in XML files as masks, and names imported one by one, as a much-read tutorial has it."""

import sys
from os import listdir
from xml.etree import ElementTree

from matplotlib import pyplot
from matplotlib.patches import Rectangle
from numpy import asarray, expand_dims, mean, zeros
from shapes_project import ShapesConfig

from mrcnn.model import MaskRCNN, load_image_gt, mold_image
from mrcnn.utils import Dataset, compute_ap, extract_bboxes
from mrcnn.visualize import display_instances


class DeerDataset(Dataset):
    def load_dataset(self, dataset_dir, is_train=True):
        self.add_class("dataset", 1, "deer")
        for filename in sorted(listdir(dataset_dir + "/images/")):
            image_id = filename[:-4]
            if is_train == (int(image_id) >= 5):
                continue
            self.add_image(
                "dataset",
                image_id=image_id,
                path=dataset_dir + "/images/" + filename,
                annotation=dataset_dir + "/annots/" + image_id + ".xml",
            )

    def extract_boxes(self, filename):
        root = ElementTree.parse(filename).getroot()
        boxes = []
        for box in root.findall(".//bndbox"):
            boxes.append([int(box.find(side).text) for side in ("xmin", "ymin", "xmax", "ymax")])
        size = root.find("size")
        return boxes, int(size.find("width").text), int(size.find("height").text)

    def load_mask(self, image_id):
        boxes, w, h = self.extract_boxes(self.image_info[image_id]["annotation"])
        masks = zeros([h, w, len(boxes)], dtype="uint8")
        class_ids = []
        for i, (x1, y1, x2, y2) in enumerate(boxes):
            masks[y1:y2, x1:x2, i] = 1
            class_ids.append(self.class_names.index("deer"))
        return masks, asarray(class_ids, dtype="int32")

    def image_reference(self, image_id):
        return self.image_info[image_id]["path"]


class DeerConfig(ShapesConfig):
    NAME = "deer_cfg"
    NUM_CLASSES = 1 + 1


class PredictionConfig(DeerConfig):
    GPU_COUNT = 1
    IMAGES_PER_GPU = 1


def evaluate_model(dataset, model, cfg):
    APs = list()
    for image_id in dataset.image_ids:
        image, image_meta, gt_class_id, gt_bbox, gt_mask = load_image_gt(
            dataset, cfg, image_id, use_mini_mask=False
        )
        scaled_image = mold_image(image, cfg)
        sample = expand_dims(scaled_image, 0)
        yhat = model.detect(sample, verbose=0)
        r = yhat[0]
        AP, _, _, _ = compute_ap(
            gt_bbox, gt_class_id, gt_mask, r["rois"], r["class_ids"], r["scores"], r["masks"]
        )
        APs.append(AP)
    return mean(APs)


def plot_actual_vs_predicted(dataset, model, cfg, filename, n_images=2):
    for i in range(n_images):
        image = dataset.load_image(i)
        mask, _ = dataset.load_mask(i)
        yhat = model.detect(expand_dims(mold_image(image, cfg), 0), verbose=0)[0]
        pyplot.subplot(n_images, 2, i * 2 + 1)
        pyplot.imshow(image)
        for j in range(mask.shape[2]):
            pyplot.imshow(mask[:, :, j], cmap="gray", alpha=0.3)
        pyplot.subplot(n_images, 2, i * 2 + 2)
        pyplot.imshow(image)
        ax = pyplot.gca()
        for box in yhat["rois"]:
            y1, x1, y2, x2 = box
            ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, color="red"))
    pyplot.savefig(filename)


data_dir = sys.argv[1]
train_set = DeerDataset()
train_set.load_dataset(data_dir, is_train=True)
train_set.prepare()
print("Train: %d" % len(train_set.image_ids))
test_set = DeerDataset()
test_set.load_dataset(data_dir, is_train=False)
test_set.prepare()
print("Test: %d" % len(test_set.image_ids))

image_id = 0
image = train_set.load_image(image_id)
mask, class_ids = train_set.load_mask(image_id)
bbox = extract_bboxes(mask)
print("boxes", bbox.tolist())
display_instances(image, bbox, mask, class_ids, train_set.class_names)
pyplot.savefig("truth.png", dpi=30)
pyplot.close()

config = DeerConfig()
# As many steps as there are images, whatever that comes to.
config.STEPS_PER_EPOCH = train_set.num_images / (config.GPU_COUNT * config.IMAGES_PER_GPU)
config.VALIDATION_STEPS = test_set.num_images / (config.GPU_COUNT * config.IMAGES_PER_GPU)
config.display()
model = MaskRCNN(mode="training", model_dir="./", config=config)
history = model.train(
    train_set, test_set, learning_rate=config.LEARNING_RATE, epochs=1, layers="heads"
)
history = model.keras_model.history.history
print("history", len(history["loss"]), len(history["val_mrcnn_class_loss"]))

cfg = PredictionConfig()
model = MaskRCNN(mode="inference", model_dir="./", config=cfg)
model.load_weights(sys.argv[2] if len(sys.argv) > 2 else model.find_last(), by_name=True)
print("Train mAP: %.3f" % evaluate_model(train_set, model, cfg))
print("Test mAP: %.3f" % evaluate_model(test_set, model, cfg))
plot_actual_vs_predicted(test_set, model, cfg, "predicted.png")
