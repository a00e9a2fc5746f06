"""Measuring detections: AP and recall of one image, COCO figures of a data set."""

from mrcnn.evaluation.coco import COCO_FIGURES as COCO_FIGURES
from mrcnn.evaluation.coco import IOU_TYPES as IOU_TYPES
from mrcnn.evaluation.coco import Detects as Detects
from mrcnn.evaluation.coco import ap_by_class as ap_by_class
from mrcnn.evaluation.coco import chosen_images as chosen_images
from mrcnn.evaluation.coco import coco_figures as coco_figures
from mrcnn.evaluation.coco import coco_ground_truth as coco_ground_truth
from mrcnn.evaluation.coco import detect_results as detect_results
from mrcnn.evaluation.coco import evaluate as evaluate
from mrcnn.evaluation.coco import run_coco_eval as run_coco_eval
from mrcnn.evaluation.coco import source_scope as source_scope
from mrcnn.evaluation.coco import summary as summary
from mrcnn.evaluation.coco import with_source_ids as with_source_ids
from mrcnn.evaluation.coco_results import coco_results as coco_results
from mrcnn.evaluation.image_ap import compute_ap as compute_ap
from mrcnn.evaluation.image_ap import compute_ap_range as compute_ap_range
from mrcnn.evaluation.image_ap import compute_matches as compute_matches
from mrcnn.evaluation.image_ap import compute_recall as compute_recall
from mrcnn.geometry.rle import encode_masks as encode_masks

__all__ = [name for name in dir() if not name.startswith("_")]
