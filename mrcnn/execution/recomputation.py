"""Gradient checkpointing: blocks computed again for gradients, not kept (Chen et al. 2016)."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import KerasTensor, layers

from mrcnn.execution.graph_record import call_of, tensors_between
from mrcnn.execution.walk import Given, values_of
from mrcnn.types import Tensor


def block_ends(output: KerasTensor, source: KerasTensor) -> list[KerasTensor]:
    """The tensors between `source` and `output` at which blocks end, in order.

    A block ends in a sum. The only tensor that it needs from before the block is the end of the
    block before it. In a ResNet these are the residual blocks. If an activation follows the sum,
    the block ends in the activation, because TensorFlow computes both as one.
    """
    ends: list[KerasTensor] = []
    way = tensors_between(source, output)
    activated = {id(call_of(x).inputs[0]) for x in way if _is_activation(x)}
    for tensor in way:
        summed = call_of(tensor).inputs[0] if _is_activation(tensor) else tensor
        last = ends[-1] if ends else source
        if (
            isinstance(call_of(summed).layer, layers.Add)
            and id(tensor) not in activated
            and not any(call_of(needed).is_input for needed in tensors_between(last, tensor))
        ):
            ends.append(tensor)
    return ends


def values_at_ends(
    ends: Sequence[KerasTensor], source: KerasTensor, value: Tensor, training: bool = False
) -> Given:
    """Values of the tensors at which blocks end; values between them are not kept for gradients.

    Args:
        ends: from `block_ends`.
        source, value: the tensor before the first block, and its value.
    """
    found = []
    for end in ends:

        def block(x: Tensor, source: KerasTensor = source, end: KerasTensor = end) -> Tensor:
            return values_of([end], [(source, x)], training)[0]

        value = keras.remat(block)(value)
        source = end
        found.append((end, value))
    return found


def _is_activation(tensor: KerasTensor) -> bool:
    return isinstance(call_of(tensor).layer, layers.Activation)
