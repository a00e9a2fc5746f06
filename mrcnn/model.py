"""The original's module name `mrcnn.model`: imports its public names from their new modules."""

from mrcnn.config import compute_backbone_shapes as compute_backbone_shapes
from mrcnn.data.image import mold_image as mold_image
from mrcnn.data.image import unmold_image as unmold_image
from mrcnn.data.image_meta import compose_image_meta as compose_image_meta
from mrcnn.data.image_meta import parse_image_meta as parse_image_meta
from mrcnn.data.image_meta import split_image_meta as parse_image_meta_graph
from mrcnn.data.loader import data_generator as data_generator
from mrcnn.data.loader import load_image_gt as load_image_gt
from mrcnn.data.targets import build_detection_targets as build_detection_targets
from mrcnn.data.targets import build_rpn_targets as build_rpn_targets
from mrcnn.data.targets import generate_random_rois as generate_random_rois
from mrcnn.geometry.boxes import apply_box_deltas as apply_box_deltas_graph
from mrcnn.geometry.boxes import clip_boxes as clip_boxes_graph
from mrcnn.geometry.boxes import denorm_boxes as denorm_boxes_graph
from mrcnn.geometry.boxes import norm_boxes as norm_boxes_graph
from mrcnn.legacy import DetectionLayer as DetectionLayer
from mrcnn.legacy import DetectionTargetLayer as DetectionTargetLayer
from mrcnn.legacy import ProposalLayer as ProposalLayer
from mrcnn.legacy import batch_pack_graph as batch_pack_graph
from mrcnn.legacy import detection_targets_graph as detection_targets_graph
from mrcnn.legacy import log2_graph as log2_graph
from mrcnn.legacy import overlaps_graph as overlaps_graph
from mrcnn.legacy import refine_detections_graph as refine_detections_graph
from mrcnn.legacy import rpn_bbox_loss_graph as rpn_bbox_loss_graph
from mrcnn.legacy import trim_zeros_graph as trim_zeros_graph
from mrcnn.losses import mrcnn_bbox_loss as mrcnn_bbox_loss_graph
from mrcnn.losses import mrcnn_class_loss as mrcnn_class_loss_graph
from mrcnn.losses import mrcnn_mask_loss as mrcnn_mask_loss_graph
from mrcnn.losses import rpn_class_loss as rpn_class_loss_graph
from mrcnn.losses import smooth_l1_loss as smooth_l1_loss
from mrcnn.mask_rcnn import MaskRCNN as MaskRCNN
from mrcnn.mask_rcnn import log as log
from mrcnn.nn.backbone import BatchNorm as BatchNorm
from mrcnn.nn.backbone import conv_block as conv_block
from mrcnn.nn.backbone import identity_block as identity_block
from mrcnn.nn.backbone import resnet_graph as resnet_graph
from mrcnn.nn.heads import build_fpn_mask_graph as build_fpn_mask_graph
from mrcnn.nn.heads import fpn_classifier_graph as fpn_classifier_graph
from mrcnn.nn.roi_align import PyramidROIAlign as PyramidROIAlign
from mrcnn.nn.rpn import build_rpn_model as build_rpn_model
from mrcnn.nn.rpn import rpn_graph as rpn_graph

__all__ = [name for name in dir() if not name.startswith("_")]
