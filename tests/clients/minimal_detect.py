"""Weights and a folder of pictures in, pictures with what was found out."""

import os
import sys

import numpy as np
import skimage.io
from shapes_project import ShapesConfig

import mrcnn.model as modellib
from mrcnn import visualize

WEIGHTS_PATH, IMAGE_DIR, OUT_DIR = sys.argv[1:]
class_names = ["BG", "square", "bar", "dot"]


class InferenceConfig(ShapesConfig):
    # One image at a time: a batch is GPU_COUNT * IMAGES_PER_GPU.
    GPU_COUNT = 1
    IMAGES_PER_GPU = 1


config = InferenceConfig()
config.display()
model = modellib.MaskRCNN(mode="inference", model_dir=os.path.join(OUT_DIR, "logs"), config=config)
model.load_weights(WEIGHTS_PATH, by_name=True)

colors = visualize.random_colors(len(class_names))
for file_name in sorted(next(os.walk(IMAGE_DIR))[2]):
    image = skimage.io.imread(os.path.join(IMAGE_DIR, file_name))
    results = model.detect([image], verbose=1)
    r = results[0]
    drawn = image[..., :3].copy()
    for i in range(r["rois"].shape[0]):
        color = colors[r["class_ids"][i]]
        drawn = visualize.apply_mask(drawn, r["masks"][:, :, i], color)
        drawn = visualize.draw_box(drawn, r["rois"][i], np.array(color) * 255)
        label = class_names[r["class_ids"][i]]
        print(file_name, label, "{:.3f}".format(r["scores"][i]), r["rois"][i].tolist())
    skimage.io.imsave(os.path.join(OUT_DIR, file_name), drawn)
