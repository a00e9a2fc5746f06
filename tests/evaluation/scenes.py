"""Data sets, detections and models made of masks, for tests of evaluation."""

import types

import numpy as np

from mrcnn.geometry.masks import extract_bboxes

SIZE = 200


def filled(boxes, size=SIZE):
    """Masks `[size, size, N]` of filled boxes."""
    masks = np.zeros((size, size, len(boxes)), bool)
    for i, (y1, x1, y2, x2) in enumerate(boxes):
        masks[y1:y2, x1:x2, i] = True
    return masks


class Scenes:
    """A data set of masks: `scenes` is a list of `(masks [H, W, N], class_ids [N])`."""

    def __init__(self, scenes, class_names=("BG", "disc", "bar")):
        self.scenes = scenes
        self.class_names = list(class_names)
        self.image_ids = np.arange(len(scenes))

    def load_image(self, image_id):
        shape = self.scenes[image_id][0].shape[:2]
        return np.full((*(shape if 0 not in shape else (30, 40)), 3), image_id, np.uint8)

    def load_mask(self, image_id):
        return self.scenes[image_id]


def as_detection(masks, class_ids, scores=None):
    """What `detect` would give for these masks; scores fall from 1 unless told."""
    count = masks.shape[-1]
    return {
        "rois": extract_bboxes(masks),
        "class_ids": np.asarray(class_ids),
        "scores": np.linspace(1, 0.5, count) if scores is None else np.asarray(scores),
        "masks": masks,
    }


def model_giving(detections, batch_size=2):
    """A model whose `detect` looks up the answer; images carry their id as grey value."""

    def detect(images):
        assert 1 <= len(images) <= batch_size
        return [detections[int(image[0, 0, 0])] for image in images]

    return types.SimpleNamespace(config=types.SimpleNamespace(BATCH_SIZE=batch_size), detect=detect)


def random_boxes(rng, count, size=40):
    corner = rng.integers(0, size - 12, (count, 2))
    return np.concatenate([corner, corner + rng.integers(6, 12, (count, 2))], axis=1)
