"""What goes in, what each stage of a trained network makes of it, and its weights."""

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
from mrcnn.visualize import display_images

OUT = sys.argv[1]
MODEL_DIR = os.path.join(OUT, "logs")
count = 0


def save(name):
    plt.savefig(os.path.join(OUT, name + ".png"), dpi=50)
    plt.close("all")


def get_ax(rows=1, cols=1, size=5):
    _, ax = plt.subplots(rows, cols, figsize=(size * cols, size * rows))
    return ax


# ---- The data ------------------------------------------------------------------------------------
dataset = make_dataset(4)
config = InferenceConfig()
image_id = 1
image = dataset.load_image(image_id)
mask, class_ids = dataset.load_mask(image_id)
visualize.display_top_masks(image, mask, class_ids, dataset.class_names)
save("top_masks")
bbox = utils.extract_bboxes(mask)
log("image", image)
log("mask", mask)
log("class_ids", class_ids)
log("bbox", bbox)
image, window, scale, padding, _ = utils.resize_image(
    image,
    min_dim=config.IMAGE_MIN_DIM,
    max_dim=config.IMAGE_MAX_DIM,
    mode=config.IMAGE_RESIZE_MODE,
)
mask = utils.resize_mask(mask, scale, padding)
mini = utils.minimize_mask(bbox, mask, config.MINI_MASK_SHAPE)
log("mini", mini)
log("expanded", utils.expand_mask(bbox, mini, image.shape))

backbone_shapes = modellib.compute_backbone_shapes(config, config.IMAGE_SHAPE)
anchors = utils.generate_pyramid_anchors(
    config.RPN_ANCHOR_SCALES,
    config.RPN_ANCHOR_RATIOS,
    backbone_shapes,
    config.BACKBONE_STRIDES,
    config.RPN_ANCHOR_STRIDE,
)
print("Count: ", anchors.shape[0], "Levels: ", len(backbone_shapes))

g = modellib.data_generator(
    dataset, ShapesConfig(), shuffle=True, random_rois=40, batch_size=3, detection_targets=True
)
[
    normalized_images,
    image_meta,
    rpn_match,
    rpn_bbox,
    gt_class_ids,
    gt_boxes,
    gt_masks,
    rpn_rois,
    rois,
], [mrcnn_class_ids, mrcnn_bbox, mrcnn_mask] = next(g)
log("rois", rois)
log("mrcnn_class_ids", mrcnn_class_ids)
log("mrcnn_bbox", mrcnn_bbox)
log("mrcnn_mask", mrcnn_mask)
b = 0
sample = modellib.unmold_image(normalized_images[b], config)
print("image_id", modellib.parse_image_meta(image_meta)["image_id"].tolist())
positive = np.where(rpn_match[b] == 1)[0]
refined = utils.apply_box_deltas(
    anchors[positive].astype(np.float32), rpn_bbox[b, : len(positive)] * config.RPN_BBOX_STD_DEV
)
visualize.draw_boxes(
    sample,
    boxes=anchors[positive],
    refined_boxes=refined,
    captions=["anchor"] * len(positive),
    ax=get_ax(),
)
save("rpn_targets")
# Deltas of the class that each ROI has.
bbox_specific = mrcnn_bbox[
    b, np.arange(mrcnn_bbox.shape[1]), mrcnn_class_ids[b, :, 0], :
]
refined_rois = utils.apply_box_deltas(
    rois[b].astype(np.float32), bbox_specific * config.BBOX_STD_DEV
)
mask_specific = mrcnn_mask[
    b, np.arange(mrcnn_mask.shape[1]), :, :, mrcnn_class_ids[b, :, 0]
]
visualize.draw_rois(
    sample,
    rois[b],
    refined_rois,
    mask_specific,
    mrcnn_class_ids[b, :, 0],
    dataset.class_names,
    limit=6,
)
save("rois")

# ---- The network ---------------------------------------------------------------------------------
model = modellib.MaskRCNN(mode="inference", model_dir=MODEL_DIR, config=config)
image, meta, gt_class_id, gt_bbox, gt_mask = modellib.load_image_gt(
    dataset, config, image_id, use_mini_mask=False
)
info = dataset.image_info[image_id]
print("image ID: {}.{} ({})".format(info["source"], info["id"], image_id))
print(
    "Original image shape: ",
    modellib.parse_image_meta(meta[np.newaxis, ...])["original_image_shape"][0],
)
r = model.detect_molded(np.expand_dims(image, 0), np.expand_dims(meta, 0), verbose=1)[0]

# `model.anchors`: those of the image just looked at, in pixels.
target_rpn_match, target_rpn_bbox = modellib.build_rpn_targets(
    image.shape, model.anchors, gt_class_id, gt_bbox, model.config
)
log("target_rpn_match", target_rpn_match)
log("target_rpn_bbox", target_rpn_bbox)
positive_anchors = model.anchors[np.where(target_rpn_match[:] == 1)[0]]
log("positive_anchors", positive_anchors)

pillar = model.keras_model.get_layer("ROI").output
nms_node = None
for name in (
    "ROI/rpn_non_max_suppression:0",
    "ROI/rpn_non_max_suppression/NonMaxSuppressionV2:0",
    "ROI/rpn_non_max_suppression/NonMaxSuppressionV3:0",
):
    if nms_node is None:
        nms_node = model.ancestor(pillar, name)
rpn = model.run_graph(
    [image],
    [
        ("rpn_class", model.keras_model.get_layer("rpn_class").output),
        ("pre_nms_anchors", model.ancestor(pillar, "ROI/pre_nms_anchors:0")),
        ("refined_anchors", model.ancestor(pillar, "ROI/refined_anchors:0")),
        ("refined_anchors_clipped", model.ancestor(pillar, "ROI/refined_anchors_clipped:0")),
        ("post_nms_anchor_ix", nms_node),
        ("proposals", model.keras_model.get_layer("ROI").output),
    ],
    image_metas=meta[np.newaxis],
)
limit = 10
sorted_anchor_ids = np.argsort(rpn["rpn_class"][:, :, 1].flatten())[::-1]
visualize.draw_boxes(image, boxes=model.anchors[sorted_anchor_ids[:limit]], ax=get_ax())
save("top_anchors")
pre_nms_anchors = utils.denorm_boxes(rpn["pre_nms_anchors"][0], image.shape[:2])
refined_anchors = utils.denorm_boxes(rpn["refined_anchors"][0], image.shape[:2])
clipped = utils.denorm_boxes(rpn["refined_anchors_clipped"][0], image.shape[:2])
visualize.draw_boxes(
    image, boxes=pre_nms_anchors[:limit], refined_boxes=refined_anchors[:limit], ax=get_ax()
)
save("refined_anchors")
ixs = np.ravel(rpn["post_nms_anchor_ix"])[:limit]
visualize.draw_boxes(image, refined_boxes=clipped[ixs], ax=get_ax())
save("after_nms")
proposals = utils.denorm_boxes(rpn["proposals"][0], image.shape[:2])
# The proposals are the clipped anchors that were kept.
print("kept", np.abs(clipped[ixs] - proposals[: len(ixs)]).max())

mrcnn = model.run_graph(
    [image],
    [
        ("proposals", model.keras_model.get_layer("ROI").output),
        ("probs", model.keras_model.get_layer("mrcnn_class").output),
        ("deltas", model.keras_model.get_layer("mrcnn_bbox").output),
        ("masks", model.keras_model.get_layer("mrcnn_mask").output),
        ("detections", model.keras_model.get_layer("mrcnn_detection").output),
    ],
)
det_class_ids = mrcnn["detections"][0, :, 4].astype(np.int32)
padded = np.where(det_class_ids == 0)[0]
det_count = padded[0] if len(padded) else len(det_class_ids)
detections = mrcnn["detections"][0, :det_count]
print(
    "{} detections: {}".format(
        det_count, np.array(dataset.class_names)[detections[:, 4].astype(int)]
    )
)
roi_class_ids = np.argmax(mrcnn["probs"][0], axis=1)
roi_scores = mrcnn["probs"][0, np.arange(roi_class_ids.shape[0]), roi_class_ids]
print("{} valid proposals out of {}".format(
    np.sum(np.any(mrcnn["proposals"][0], axis=1)), mrcnn["proposals"].shape[1]
))
# Of the first class, whether detected or not.
display_images(mrcnn["masks"][0, :4, :, :, 1] * 255, cmap="Blues", interpolation="none")
save("masks")

activations = model.run_graph(
    [image],
    [
        ("res4a_out", model.keras_model.get_layer("res4a_out").output),
        ("rpn_bbox", model.keras_model.get_layer("rpn_bbox").output),
        ("roi", model.keras_model.get_layer("ROI").output),
    ],
)
display_images(np.transpose(activations["res4a_out"][0, :, :, :4], [2, 0, 1]), cols=4)
save("activations")

# ---- By hand ----------------------------------------------------------------------------------
molded_images, image_metas, windows = model.mold_inputs([image])
anchors = model.get_anchors(molded_images[0].shape)
anchors = np.broadcast_to(anchors, (config.BATCH_SIZE,) + anchors.shape)
outputs = model.keras_model.predict([molded_images, image_metas, anchors], verbose=0)
detections, _, _, mrcnn_mask, _, _, _ = outputs
rois, class_ids, scores, masks = model.unmold_detections(
    detections[0], mrcnn_mask[0], image.shape, molded_images[0].shape, windows[0]
)
r = model.detect([image])[0]
print("by hand", np.array_equal(rois, r["rois"]), np.array_equal(masks, r["masks"]))
centres = utils.denorm_boxes(model.get_anchors(image.shape), image.shape[:2])
print("anchors", np.abs(centres - model.anchors).max() <= 0.5)

# ---- Weights ------------------------------------------------------------------------------------
visualize.display_weight_stats(model)
layers = list(
    filter(lambda l: l.__class__.__name__ in ["Conv2D", "Dense"], model.get_trainable_layers())
)
print("convolutions", len(layers), "rpn_conv_shared" in [l.name for l in layers])
fig, ax = plt.subplots(len(layers), 2, figsize=(6, len(layers)), squeeze=False)
for i, layer in enumerate(layers):
    for j, weight in enumerate(layer.get_weights()):
        ax[i, j].set_title(layer.name)
        ax[i, j].hist(weight.flatten(), 50)
save("histograms")
