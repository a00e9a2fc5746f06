"""AP over a validation set, with the figures one looks at."""

import os
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from shapes_project import InferenceConfig, ShapesConfig, make_dataset

import mrcnn.model as modellib
from mrcnn import utils, visualize
from mrcnn.model import log

OUT = sys.argv[1]
STEPS = int(sys.argv[2])
MODEL_DIR = os.path.join(OUT, "logs")


def get_ax(rows=1, cols=1, size=6):
    _, ax = plt.subplots(rows, cols, figsize=(size * cols, size * rows))
    return ax


class TrainConfig(ShapesConfig):
    STEPS_PER_EPOCH = STEPS


dataset_train, dataset_val = make_dataset(8), make_dataset(4, seed=3)
model = modellib.MaskRCNN(mode="training", config=TrainConfig(), model_dir=MODEL_DIR)
model.train(dataset_train, dataset_val, learning_rate=0.01, epochs=1, layers="all")

inference_config = InferenceConfig()
model = modellib.MaskRCNN(mode="inference", config=inference_config, model_dir=MODEL_DIR)
model_path = model.find_last()
print("Loading weights from ", model_path)
model.load_weights(model_path, by_name=True)

np.random.seed(2)
image_ids = np.random.choice(dataset_val.image_ids, 4)
APs, ranges, recalls_at_half = [], [], []
for image_id in image_ids:
    image, image_meta, gt_class_id, gt_bbox, gt_mask = modellib.load_image_gt(
        dataset_val, inference_config, image_id, use_mini_mask=False
    )
    molded_images = np.expand_dims(modellib.mold_image(image, inference_config), 0)
    assert molded_images.shape == (1, 64, 64, 3)
    results = model.detect([image], verbose=0)
    r = results[0]
    AP, precisions, recalls, overlaps = utils.compute_ap(
        gt_bbox, gt_class_id, gt_mask, r["rois"], r["class_ids"], r["scores"], r["masks"]
    )
    APs.append(AP)
    ranges.append(
        utils.compute_ap_range(
            gt_bbox,
            gt_class_id,
            gt_mask,
            r["rois"],
            r["class_ids"],
            r["scores"],
            r["masks"],
            iou_thresholds=np.arange(0.5, 1.0, 0.05),
            verbose=0,
        )
    )
    recall, positive_ids = utils.compute_recall(r["rois"], gt_bbox, iou=0.5)
    recalls_at_half.append(recall)
    gt_match, pred_match, pair_overlaps = utils.compute_matches(
        gt_bbox,
        gt_class_id,
        gt_mask,
        r["rois"],
        r["class_ids"],
        r["scores"],
        r["masks"],
        iou_threshold=0.3,
    )
    assert len(gt_match) == len(gt_bbox) and len(pred_match) == len(r["rois"])
    if r["masks"].shape[-1]:
        by_hand = utils.compute_overlaps_masks(r["masks"], gt_mask)
        assert by_hand.shape == pair_overlaps.shape
        boxes_too = utils.compute_overlaps(r["rois"], gt_bbox)
        assert boxes_too.shape == by_hand.shape

# The ground truth finds itself.
perfect = utils.compute_ap(
    gt_bbox, gt_class_id, gt_mask, gt_bbox, gt_class_id, np.ones(len(gt_bbox)), gt_mask
)[0]
print("perfect", perfect)
print("mAP: ", np.mean(APs))
print("mAP 50-95: ", np.mean(ranges))
print("AR: ", np.mean(recalls_at_half))
utils.compute_ap_range(
    gt_bbox, gt_class_id, gt_mask, r["rois"], r["class_ids"], r["scores"], r["masks"], verbose=1
)

# As inspecting notebooks do it: the image of the data set with the meta that came with it.
r = model.detect_molded(np.expand_dims(image, 0), np.expand_dims(image_meta, 0), verbose=1)[0]
log("gt_class_id", gt_class_id)
log("gt_bbox", gt_bbox)
log("gt_mask", gt_mask)
log("rois", r["rois"])

visualize.plot_precision_recall(AP, precisions, recalls)
plt.savefig(os.path.join(OUT, "precision_recall.png"))
r = results[0]
visualize.plot_overlaps(
    gt_class_id, r["class_ids"], r["scores"], overlaps, dataset_val.class_names
)
plt.savefig(os.path.join(OUT, "overlaps.png"))
visualize.display_differences(
    image,
    gt_bbox,
    gt_class_id,
    gt_mask,
    r["rois"],
    r["class_ids"],
    r["scores"],
    r["masks"],
    dataset_val.class_names,
    ax=get_ax(),
    show_box=False,
    iou_threshold=0.5,
    score_threshold=0.5,
)
plt.savefig(os.path.join(OUT, "differences.png"))
