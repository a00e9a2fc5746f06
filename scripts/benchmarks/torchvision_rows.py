"""The same work done by torchvision's Mask R-CNN on the same device.

The network is `maskrcnn_resnet50_fpn` in bfloat16 by autocast. All layers train; batch
normalisation is frozen, as with pretrained weights.
"""

from __future__ import annotations

import statistics

import numpy as np
import torch

from scripts.benchmarks.measuring import Settings, in_turn, seconds_of
from scripts.benchmarks.networks import Ellipses, photos, random_boxes

CLASSES = 81


def make_network(side: int) -> torch.nn.Module:
    """The network with random weights that are scaled so that it finds 100 objects."""
    try:
        from torchvision.models.detection import MaskRCNN
        from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
        from torchvision.models.resnet import Bottleneck
    except ImportError as error:
        raise ImportError("torchvision is not installed, so there is nothing to compare") from error
    torch.manual_seed(0)
    backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, trainable_layers=5)
    network = MaskRCNN(backbone, CLASSES, min_size=side, max_size=side)
    for module in network.modules():
        # Otherwise sixteen residual blocks, whose normalisation is the identity, would add up.
        if isinstance(module, Bottleneck):
            module.bn3.weight.fill_(0.25)
    # High logits, so that hundreds of proposals have a class above the usual lowest score, 0.05.
    torch.nn.init.normal_(network.roi_heads.box_predictor.cls_score.weight, std=0.8)
    return network.to(device())


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _autocast():
    return torch.autocast(device().type, dtype=torch.bfloat16)


def _tensors(images) -> list[torch.Tensor]:
    """Images in torchvision's format, on the device."""
    return [
        torch.from_numpy(image).to(device()).permute(2, 0, 1).float() / 255.0 for image in images
    ]


def detect(settings: Settings, batch: int) -> dict:
    """Detection, from images in host memory to masks in host memory."""
    side = 128 if settings.quick else 1024
    network, images = make_network(side).eval(), photos(batch, side)

    def work():
        with torch.inference_mode(), _autocast():
            found = network(_tensors(images))
            return [(one["masks"][:, 0] > 0.5).cpu() for one in found]

    def network_alone():
        with torch.inference_mode(), _autocast():
            return network(tensors)[-1]["scores"].cpu()

    found = [len(masks) for masks in work()]
    result = in_turn(work, settings, images=batch)
    tensors = _tensors(images)
    seconds = statistics.median(seconds_of(network_alone) for _ in range(settings.repeats))
    return {
        "detections": found[0] if batch == 1 else found,
        **result,
        "network_images_per_second": batch / seconds,
    }


def train(settings: Settings, batch: int) -> dict:
    """One SGD step on a batch in host memory with 5 objects per image."""
    side = 128 if settings.quick else 1024
    network = make_network(side).train()
    dataset = Ellipses(random_boxes(batch, 5, (side, side)), (side, side))
    # A learning rate of 0, as in the rows that this one is compared with.
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0, momentum=0.9, weight_decay=1e-4)
    targets = [_target(dataset, i) for i in range(batch)]

    def work():
        on_device = [{k: v.to(device()) for k, v in target.items()} for target in targets]
        with torch.enable_grad():
            with _autocast():
                loss = sum(network(_tensors(dataset.images), on_device).values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return loss.item()

    loss = work()
    assert np.isfinite(loss)
    return in_turn(work, settings, images=batch)


def _target(dataset: Ellipses, image_id: int) -> dict[str, torch.Tensor]:
    masks, class_ids = dataset.load_mask(image_id)
    boxes = []
    for mask in masks.transpose(2, 0, 1):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        boxes.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    return {
        "boxes": torch.tensor(np.array(boxes), dtype=torch.float32),
        "labels": torch.from_numpy(class_ids.astype(np.int64)),
        "masks": torch.from_numpy(masks.transpose(2, 0, 1).astype(np.uint8)),
    }
