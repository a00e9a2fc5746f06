"""PyTorch's names of a ResNet's weights as layers of this package.

torchvision and timm use the same names; other projects put a prefix before these names or number
the parts. Nothing is copied here, so shapes can first be compared with a model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import numpy as np

from mrcnn.messages import listed, shortened

# Whether a block has three convolutions, and the number of blocks of each stage.
_RESNETS: dict[tuple[bool, tuple[int, ...]], str] = {
    (True, (3, 4, 6, 3)): "ResNet50",
    (True, (3, 4, 23, 3)): "ResNet101",
    (True, (3, 8, 36, 3)): "ResNet152",
    (False, (2, 2, 2, 2)): "ResNet18",
    (False, (3, 4, 6, 3)): "ResNet34",
}
# Parts of names by which other architectures are recognised.
_OTHERS = {
    "conv_stem.": "an EfficientNet",
    "stages.": "a ConvNeXt",
    "patch_embed.": "a transformer",
}
_COUNTER = ".num_batches_tracked"
_PARTS = ("weight", "bias", "running_mean", "running_var")
# The children of a torch.nn.Sequential made of a ResNet, as Zoobot 1 named them.
_CHILDREN = {"0": "conv1", "1": "bn1", **{str(i + 3): f"layer{i}" for i in range(1, 5)}}


def resnet_weights(
    tensors: Mapping[str, np.ndarray],
) -> tuple[dict[str, list[np.ndarray]], list[str]]:
    """A ResNet's weights under this package's layer names, and the names of tensors not needed.

    Args:
        tensors: tensors of a ResNet50 or ResNet101 under the names of torchvision and timm
            (`conv1.weight`, `layer1.0.bn1.running_mean`), or numbered as in Zoobot 1 (`0.weight`,
            `4.0.bn1.running_mean`), all with any prefix (`encoder.`, `backbone.body.`).

    Returns:
        {layer: [kernel `[height, width, in, out]`]} and {layer: [gamma, beta, mean, variance]},
        views of `tensors`; the names of tensors that are no part of the ResNet, such as the
        classifier's.

    Raises:
        ValueError: the tensors are of another architecture, or some are missing; the message says
            what was found.
    """
    names = _torchvision_names(tensors)
    blocks = _count_blocks(names)
    kind = _RESNETS.get(("layer1.0.conv3.weight" in names, blocks), "an unknown ResNet")
    if kind not in ("ResNet50", "ResNet101"):
        raise ValueError(
            f"it holds {kind}, {blocks} blocks; what fits is a ResNet50, (3, 4, 6, 3) blocks of "
            "three convolutions, or a ResNet101, (3, 4, 23, 3)"
        )
    layers: dict[str, list[np.ndarray]] = {}
    used: set[str] = set()
    for torch_name, layer, shapes in _resnet_layers(blocks):
        parts = [f"{torch_name}.{part}" for part in _PARTS[: len(shapes)]]
        if missing := [part for part in parts if part not in names]:
            raise ValueError(f"it lacks {missing[0]}, which a {kind} has")
        arrays = [tensors[names[part]] for part in parts]
        for part, array, shape in zip(parts, arrays, shapes, strict=True):
            if not _fits(array.shape, shape):
                raise ValueError(
                    f"it holds another architecture: {shortened(names[part])} is {array.shape}, in "
                    f"a plain {kind} {shape}"
                )
        layers[layer] = [_in_keras_order(array) for array in arrays]
        used.update(names[part] for part in parts)
    rest = {part: name for part, name in names.items() if name not in used}
    for part, name in rest.items():
        if re.match(r"(conv1|bn1|layer[1-4])\.", part) and not part.endswith(_COUNTER):
            raise ValueError(
                f"it holds another architecture: a plain {kind} has no {shortened(name)}"
            )
    return layers, _with_counters_summed([name for name in tensors if name not in used])


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    """Does the shape match the wanted one, in which None stands for any number?"""
    return len(shape) == len(wanted) and all(
        b in (a, None) for a, b in zip(shape, wanted, strict=True)
    )


def _with_counters_summed(names: list[str]) -> list[str]:
    """The names, with a single entry for all batch counters."""
    others = [name for name in names if not name.endswith(_COUNTER)]
    counters = len(names) - len(others)
    return [*others, f"{counters} x num_batches_tracked"] if counters else others


def _torchvision_names(tensors: Mapping[str, np.ndarray]) -> dict[str, str]:
    """{torchvision's name: name in the file} of everything under the ResNet's prefix."""
    found = {}
    for name in tensors:
        match = re.fullmatch(r"(.*\.)?(layer1|4)\.0\.conv1\.weight", name)
        if match:
            found[match[1] or ""] = match[2] == "4"
    if len(found) != 1:
        raise ValueError(_no_single_resnet(tensors, list(found)))
    ((prefix, numbered),) = found.items()
    names = {}
    for name in tensors:
        if name.startswith(prefix):
            first, dot, others = name.removeprefix(prefix).partition(".")
            names[(_CHILDREN.get(first, first) if numbered else first) + dot + others] = name
    return names


def _no_single_resnet(tensors: Mapping[str, np.ndarray], prefixes: list[str]) -> str:
    if prefixes:
        return f"it holds several ResNets, under {listed(map(repr, prefixes))}; save one alone"
    looks = [what for part, what in _OTHERS.items() if any(part in name for name in tensors)]
    shown = [f"{shortened(name)} {array.shape}" for name, array in list(tensors.items())[:3]]
    return (
        f"it holds {looks[0] if looks else 'something else'} and no ResNet by torchvision's names: "
        f"{len(tensors)} tensors, first {', '.join(shown) or 'none'}; what fits is a ResNet50 or "
        "ResNet101"
    )


def _count_blocks(names: Mapping[str, str]) -> tuple[int, ...]:
    """Number of blocks of each of the four stages."""
    blocks = {match[0] for match in map(re.compile(r"layer[1-4]\.\d+\.").match, names) if match}
    return tuple(sum(block.startswith(f"layer{i}.") for block in blocks) for i in range(1, 5))


def _resnet_layers(blocks: tuple[int, ...]) -> Iterator[tuple[str, str, list[tuple]]]:
    """PyTorch's name of each layer, this package's name, and the shapes of its tensors in PyTorch.

    A None in a shape stands for any number.
    """
    yield "conv1", "conv1", [(64, None, 7, 7)]
    yield "bn1", "bn_conv1", [(64,)] * 4
    before = 64
    for stage, count in enumerate(blocks, start=1):
        width = 64 * 2 ** (stage - 1)
        for block in range(count):
            shapes = [(width, before, 1, 1), (width, width, 3, 3), (4 * width, width, 1, 1)]
            torch_name = f"layer{stage}.{block}"
            name = f"{stage + 1}{chr(ord('a') + block)}_branch"
            for i, shape in enumerate(shapes, start=1):
                branch = f"{name}2{'abc'[i - 1]}"
                yield f"{torch_name}.conv{i}", f"res{branch}", [shape]
                yield f"{torch_name}.bn{i}", f"bn{branch}", [shape[:1]] * 4
            if block == 0:
                yield f"{torch_name}.downsample.0", f"res{name}1", [(4 * width, before, 1, 1)]
                yield f"{torch_name}.downsample.1", f"bn{name}1", [(4 * width,)] * 4
            before = 4 * width


def _in_keras_order(array: np.ndarray) -> np.ndarray:
    """A kernel `[out, in, height, width]` as `[height, width, in, out]`; others stay."""
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array
