"""The original's module name `mrcnn.utils`: imports its public names from their new modules."""

from mrcnn.data.dataset import Dataset as Dataset
from mrcnn.data.image import mold_mask as mold_mask
from mrcnn.data.image import resize_image as resize_image
from mrcnn.data.image import resize_mask as resize_mask
from mrcnn.evaluation.image_ap import compute_ap as compute_ap
from mrcnn.evaluation.image_ap import compute_ap_range as compute_ap_range
from mrcnn.evaluation.image_ap import compute_matches as compute_matches
from mrcnn.evaluation.image_ap import compute_recall as compute_recall
from mrcnn.geometry.anchors import generate_anchors as generate_anchors
from mrcnn.geometry.anchors import generate_pyramid_anchors as generate_pyramid_anchors
from mrcnn.geometry.boxes import apply_box_deltas as apply_box_deltas
from mrcnn.geometry.boxes import box_refinement as box_refinement
from mrcnn.geometry.boxes import box_refinement as box_refinement_graph
from mrcnn.geometry.boxes import compute_iou as compute_iou
from mrcnn.geometry.boxes import compute_overlaps as compute_overlaps
from mrcnn.geometry.boxes import denorm_boxes as denorm_boxes
from mrcnn.geometry.boxes import non_max_suppression as non_max_suppression
from mrcnn.geometry.boxes import norm_boxes as norm_boxes
from mrcnn.geometry.boxes import trim_zeros as trim_zeros
from mrcnn.geometry.masks import compute_overlaps_masks as compute_overlaps_masks
from mrcnn.geometry.masks import expand_mask as expand_mask
from mrcnn.geometry.masks import extract_bboxes as extract_bboxes
from mrcnn.geometry.masks import minimize_mask as minimize_mask
from mrcnn.geometry.masks import unmold_mask as unmold_mask
from mrcnn.geometry.resize import resize as resize
from mrcnn.legacy import batch_slice as batch_slice
from mrcnn.weights.start import COCO_MODEL_URL as COCO_MODEL_URL
from mrcnn.weights.start import download_trained_weights as download_trained_weights

__all__ = [name for name in dir() if not name.startswith("_")]
