"""All outputs of the training graph for one batch, by name.

The mask head is the most expensive part of a step, and only positive ROIs have a mask to learn.
They are the first rows of an image, so if few are positive, the head runs on few rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
from keras import KerasTensor, ops

from mrcnn import backend
from mrcnn.execution.recomputation import values_at_ends
from mrcnn.execution.walk import Given, values_of
from mrcnn.types import Tensor

# Numbers of rows per image that the mask head is traced for, besides all rows that can be positive.
# Each number adds one copy of the head to trace and compile.
MASK_ROWS = (16,)

_MASKS = "mrcnn_mask"


def training_outputs(
    model: keras.Model,
    inputs: Sequence[Tensor],
    training: bool,
    checkpoints: Sequence[KerasTensor] = (),
) -> dict[str, Tensor]:
    """Values of the model's outputs by name, see `nn.network.training_graph`.

    Args:
        model: of the training graph.
        inputs: values in the order of `model.inputs`.
        training: run in training mode.
        checkpoints: ends of blocks; values between them are not kept for gradients. See
            `recomputation.block_ends`.
    """
    given = [
        (tensor, ops.convert_to_tensor(value, dtype=tensor.dtype))
        for tensor, value in zip(model.inputs, inputs, strict=True)
    ]
    if checkpoints and training:
        given += values_at_ends(checkpoints, *given[0], training=True)
    # All outputs except the masks, and the inputs of the mask head.
    wanted = {name: tensor for name, tensor in model.output.items() if name != _MASKS}
    head_inputs = model.get_layer("roi_align_mask").input
    values = values_of([*wanted.values(), *head_inputs], given, training)
    outputs = dict(zip(wanted, values[: len(wanted)], strict=True))
    head = list(zip(head_inputs, values[len(wanted) :], strict=True))
    outputs[_MASKS] = _masks_of_positives(model, head, outputs["target_class_ids"], training)
    return outputs


def _masks_of_positives(
    model: keras.Model, head: Given, target_class_ids: Tensor, training: bool
) -> Tensor:
    """Masks `[B, N, h, w, C]` of the positive ROIs; rows that are not computed are zero.

    Args:
        head: the mask head's inputs with their values, ROIs `[B, N, 4]` first.
        target_class_ids: `[B, T]`, positive ROIs first; T is at least N.
    """
    (rois, boxes), *others = head
    rows = boxes.shape[1]
    # A few fixed numbers of rows, so nothing is traced again and XLA can compile it.
    sizes = [size for size in MASK_ROWS if size < rows] if _may_leave_rows(model, training) else []

    def masks_of(size: int) -> Callable[..., Tensor]:
        def masks(boxes: Tensor, *values: Tensor) -> Tensor:
            given = [(tensor, value) for (tensor, _), value in zip(others, values, strict=True)]
            given.append((rois, boxes[:, :size]))
            (x,) = values_of([model.output[_MASKS]], given, training)
            return ops.pad(x, [[0, 0], [0, rows - size], [0, 0], [0, 0], [0, 0]])

        return masks

    values = [boxes, *(value for _, value in others)]
    if not sizes:
        return masks_of(rows)(*values)
    positives = ops.max(ops.sum(ops.cast(target_class_ids > 0, "int32"), axis=1))
    index = sum((ops.cast(positives > size, "int32") for size in sizes), 0)
    return ops.switch(index, [masks_of(size) for size in (*sizes, rows)], *values)


def _may_leave_rows(model: keras.Model, training: bool) -> bool:
    """Whether the mask head may run on some of the rows only."""
    if not training:
        return True
    # Batch statistics need all rows.
    by_batch = model.get_layer("mrcnn_mask_bn1").train_bn is not False
    return not by_batch and backend.convolves_in_branches()
