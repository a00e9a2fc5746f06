"""The seam: operations for which a framework has a faster kernel than `keras.ops` offers.

Only this file and `training/distribution.py` import TensorFlow, JAX or PyTorch. Every operation has
a generic version, written with `keras.ops`: it runs on every backend and is the reference. Some
have a native version too, which is faster and gives the same numbers: `tests/test_backend.py` and,
for convolutions, `tests/execution` compare them.

`B` images, `N` boxes per image, `M` boxes kept, `C` channels, `h x w` cells of a crop. Boxes are
normalised.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
from keras import ops

from mrcnn.geometry.boxes import compute_overlaps, split_box
from mrcnn.types import ArrayOrTensor, Tensor

_TENSORFLOW = keras.backend.backend() == "tensorflow"

# TensorFlow's kernels for crops and suppression have no XLA version: layers that call them set
# `supports_jit` to this.
SUPPORTS_JIT = not _TENSORFLOW


# ---- Precision -------------------------------------------------------------------------------

# x86's units for bfloat16, as Linux names them.
_BFLOAT16_UNITS = {"amx_bf16", "avx512_bf16"}
_CPUINFO = Path("/proc/cpuinfo")
# NVIDIA's GPUs compute bfloat16 from this compute capability on (Ampere).
_BFLOAT16_CAPABILITY = (8, 0)


@functools.cache
def computes_bfloat16() -> bool:
    """Does mixed_bfloat16 save time: has the GPU, or the processor if there is none, units for it?

    Four 3x3 convolutions of 64 channels, forward and back on two cores with AMX, took 405 ms in
    float32 and 105 ms in mixed_bfloat16 on TensorFlow, 852 and 523 ms on PyTorch, but 712 and
    733 ms on JAX, which therefore counts only with a GPU or TPU.
    """
    accelerators = _accelerator_capabilities()
    if accelerators:
        return all(tuple(capability) >= _BFLOAT16_CAPABILITY for capability in accelerators)
    return keras.backend.backend() != "jax" and bool(_BFLOAT16_UNITS & _processor_flags())


def _accelerator_capabilities() -> list[tuple[int, ...]]:
    """The compute capability of every GPU and TPU; (0, 0) for one that states none."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
        return [detail.get("compute_capability", (0, 0)) for detail in details]
    if backend == "jax":
        import jax

        devices = [device for device in jax.local_devices() if device.platform != "cpu"]
        return [_jax_capability(device) for device in devices]
    if backend == "torch":
        import torch

        return [torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count())]
    return []


def device_names() -> list[str]:
    """The devices of the backend in words: GPUs and TPUs, or the processor if there are none."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
        return [str(detail.get("device_name", "GPU")) for detail in details] or ["CPU"]
    if backend == "jax":
        import jax

        return [str(getattr(device, "device_kind", device)) for device in jax.local_devices()]
    if backend == "torch":
        import torch

        count = torch.cuda.device_count()
        return [torch.cuda.get_device_name(i) for i in range(count)] or ["CPU"]
    return []


def _jax_capability(device) -> tuple[int, ...]:
    if device.platform == "tpu":  # every TPU computes bfloat16
        return _BFLOAT16_CAPABILITY
    version = str(getattr(device, "compute_capability", "0"))
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _processor_flags() -> set[str]:
    """What the processor can do, as Linux lists it; empty on other systems."""
    if not sys.platform.startswith("linux"):
        return set()
    try:
        text = _CPUINFO.read_text(encoding="ascii", errors="replace")
    except OSError:
        return set()
    lines = (line.split(":", 1)[1] for line in text.splitlines() if line.startswith("flags"))
    return set(next(lines, "").split())


# ---- Crops -----------------------------------------------------------------------------------


def crop_and_resize(
    images: Tensor, boxes: Tensor, box_indices: Tensor, crop_size: Sequence[int]
) -> Tensor:
    """Bilinear crops with one sample per cell; the corner samples lie on the box's corners.

    Released weights were trained with this sampling. The ROIAlign of the Mask R-CNN paper differs:
    it averages several samples inside each cell.

    Args:
        images: `[I, H, W, C]`, any number type.
        boxes: `[N, (y1, x1, y2, x2)]` float32, normalised. Samples outside the image are 0.
        box_indices: `[N]` int32, the image of each box.
        crop_size: `(h, w)`.

    Returns:
        `[N, h, w, C]` float32. No gradient flows to the boxes.
    """
    boxes = ops.stop_gradient(boxes)
    if _TENSORFLOW:
        return _tf_crop_and_resize(images, boxes, box_indices, crop_size)
    return crop_and_resize_generic(images, boxes, box_indices, crop_size)


def crop_and_resize_generic(
    images: Tensor, boxes: Tensor, box_indices: Tensor, crop_size: Sequence[int]
) -> Tensor:
    """`crop_and_resize` with `keras.ops`; here gradients do flow to the boxes."""
    image_count, height, width, channels = ops.shape(images)
    cells = ops.reshape(images, (image_count * height * width, channels))
    first_cell = box_indices * (height * width)
    sizes = ops.ones_like(box_indices)
    return _sample(cells, first_cell, sizes * height, sizes * width, boxes, crop_size)


def pyramid_crop_and_resize(
    feature_maps: Sequence[Tensor], boxes: Tensor, levels: Tensor, crop_size: Sequence[int]
) -> Tensor:
    """`crop_and_resize` with every box cropped from its own level of a pyramid.

    Args:
        feature_maps: list of `[B, H_l, W_l, C]`, one per level.
        boxes: `[B, N, (y1, x1, y2, x2)]` float32, normalised.
        levels: `[B, N]` int32, index into `feature_maps`.
        crop_size: `(h, w)`.

    Returns:
        `[B, N, h, w, C]` float32. No gradient flows to the boxes.
    """
    boxes = ops.stop_gradient(boxes)
    if _TENSORFLOW:
        return _tf_pyramid_crop_and_resize(feature_maps, boxes, levels, crop_size)
    return pyramid_crop_and_resize_generic(feature_maps, boxes, levels, crop_size)


def pyramid_crop_and_resize_generic(
    feature_maps: Sequence[Tensor], boxes: Tensor, levels: Tensor, crop_size: Sequence[int]
) -> Tensor:
    """`pyramid_crop_and_resize` with `keras.ops`, from the cells of all levels in one tensor."""
    channels = feature_maps[0].shape[-1]
    shapes = [ops.shape(feature_map)[:3] for feature_map in feature_maps]
    cells = ops.concatenate([ops.reshape(f, (-1, channels)) for f in feature_maps], axis=0)

    heights = ops.cast(ops.stack([height for _, height, _ in shapes]), "int32")
    widths = ops.cast(ops.stack([width for _, _, width in shapes]), "int32")
    level_sizes = ops.cast(ops.stack([b * h * w for b, h, w in shapes]), "int32")
    level_starts = ops.cumsum(level_sizes) - level_sizes

    box_count = boxes.shape[1]
    image = ops.repeat(ops.arange(ops.shape(boxes)[0], dtype="int32"), box_count)
    level = ops.reshape(levels, (-1,))
    height, width = ops.take(heights, level), ops.take(widths, level)
    first_cell = ops.take(level_starts, level) + image * height * width
    crops = _sample(cells, first_cell, height, width, ops.reshape(boxes, (-1, 4)), crop_size)
    return ops.reshape(crops, (-1, box_count, *crop_size, channels))


def _sample(
    cells: Tensor,
    first_cell: Tensor,
    height: Tensor,
    width: Tensor,
    boxes: Tensor,
    crop_size: Sequence[int],
) -> Tensor:
    """Bilinear samples from feature maps whose cells are in one tensor.

    Args:
        cells: `[K, C]`, the cells of all maps, row by row, one map after the other.
        first_cell: `[N]` int32, index of the first cell of each box's map.
        height, width: `[N]` int32, size of each box's map.
        boxes: `[N, (y1, x1, y2, x2)]`, normalised.
        crop_size: `(h, w)`.

    Returns:
        `[N, h, w, C]` float32.
    """
    # Gradients of cells that many boxes share are summed: in float32 that is exact enough, and a
    # GPU has no fast sum of bfloat16 in memory (0.25 s of a step of 0.31 s on an H100).
    cells = ops.cast(cells, "float32")
    y1, x1, y2, x2 = split_box(boxes)
    y, y_inside = _positions(y1, y2, height, crop_size[0])
    x, x_inside = _positions(x1, x2, width, crop_size[1])
    top, left = ops.floor(y), ops.floor(x)
    y_weight, x_weight = (y - top)[:, :, None, None], (x - left)[:, None, :, None]

    def at(row: Tensor, column: Tensor) -> Tensor:
        row, column = ops.cast(row, "int32"), ops.cast(column, "int32")
        index = first_cell[:, None, None] + row[:, :, None] * width[:, None, None]
        return ops.take(cells, index + column[:, None, :], axis=0)

    bottom, right = ops.ceil(y), ops.ceil(x)
    above = at(top, left) + (at(top, right) - at(top, left)) * x_weight
    below = at(bottom, left) + (at(bottom, right) - at(bottom, left)) * x_weight
    inside = (y_inside[:, :, None] & x_inside[:, None, :])[..., None]
    return ops.where(inside, above + (below - above) * y_weight, 0.0)


def _positions(start: Tensor, end: Tensor, size: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Positions of `count` samples from `start` to `end` along a side of `size` cells.

    Args:
        start, end: `[N]`, normalised.
        size: `[N]` int32.
        count: samples per box.

    Returns:
        position: `[N, count]` in cells, clipped to the side.
        is_inside: `[N, count]` bool, whether the sample lay inside before.
    """
    last = ops.cast(size, "float32") - 1.0
    if count > 1:
        step = (end - start) * last / (count - 1)
        position = (start * last)[:, None] + ops.arange(count, dtype="float32") * step[:, None]
    else:
        position = (0.5 * (start + end) * last)[:, None]
    last = last[:, None]
    return ops.clip(position, 0.0, last), (position >= 0.0) & (position <= last)


# ---- Non-maximum suppression -------------------------------------------------------------------

# Boxes that the generic version looks at together.
_BLOCK = 512


def non_max_suppression(
    boxes: Tensor,
    scores: Tensor,
    max_output_size: int,
    iou_threshold: float,
    score_threshold: float,
) -> tuple[Tensor, Tensor]:
    """Greedy non-maximum suppression for every image of a batch, with a fixed number of rows.

    Args:
        boxes: `[B, N, (y1, x1, y2, x2)]` float32, any unit. A box without area overlaps no other.
        scores: `[B, N]` float32. Of equal scores, the first row comes first.
        max_output_size: M.
        iou_threshold: highest overlap with a kept box at which a box is kept as well.
        score_threshold: boxes whose score is not above it are ignored.

    Returns:
        indices: `[B, M]` int32, best score first. No gradient flows through them.
        valid: `[B, M]` bool, false in rows without a box.
    """
    boxes, scores = ops.stop_gradient(boxes), ops.stop_gradient(scores)
    native_or_generic = _tf_non_max_suppression if _TENSORFLOW else non_max_suppression_generic
    return native_or_generic(boxes, scores, max_output_size, iou_threshold, score_threshold)


def non_max_suppression_generic(
    boxes: Tensor,
    scores: Tensor,
    max_output_size: int,
    iou_threshold: float,
    score_threshold: float,
) -> tuple[Tensor, Tensor]:
    """`non_max_suppression` with `keras.ops`, one block of boxes after the other.

    A box is kept if no better one that is kept overlaps it too much. For the boxes of earlier
    blocks that is known; inside a block `_keep` finds it. A loop over single boxes would start
    thousands of kernels on a GPU, each of which has next to nothing to do.
    """
    count = boxes.shape[1]
    block = min(_BLOCK, count)
    order, is_there = _best_first(scores, score_threshold)
    padding = (0, -count % block)
    ordered = ops.pad(
        ops.take_along_axis(boxes, order[:, :, None], axis=1), ((0, 0), padding, (0, 0))
    )
    is_there = ops.pad(is_there, ((0, 0), padding))
    rows = ops.arange(block)
    is_better = rows[:, None] < rows[None, :]

    def is_unfinished(start: Tensor, kept: Tensor) -> Tensor:
        is_full = ops.sum(ops.cast(kept, "int32"), axis=1) >= max_output_size
        return (start < ordered.shape[1]) & ~ops.all(is_full)

    def add_block(start: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        batch = ops.shape(boxes)[0]
        here = ops.slice(ordered, (0, start, 0), (batch, block, 4))
        dropped = ops.any(
            (compute_overlaps(ordered, here) > iou_threshold) & kept[:, :, None], axis=1
        )
        candidates = ops.slice(is_there, (0, start), (batch, block)) & ~dropped
        suppresses = (compute_overlaps(here, here) > iou_threshold) & is_better
        return start + block, ops.slice_update(kept, (0, start), _keep(candidates, suppresses))

    start = (ops.zeros((), "int32"), ops.zeros_like(is_there))
    _, kept = ops.while_loop(is_unfinished, add_block, start)
    # The numbers of the kept boxes, in order; others follow.
    first = ops.argsort(ops.cast(~kept, "int32"), axis=1)[:, :max_output_size]
    indices = ops.take_along_axis(ops.pad(order, ((0, 0), padding)), first, axis=1)
    valid = ops.take_along_axis(kept, first, axis=1)
    missing = ((0, 0), (0, max(0, max_output_size - kept.shape[1])))
    return ops.pad(ops.cast(indices, "int32"), missing), ops.pad(valid, missing)


def _best_first(scores: Tensor, score_threshold: float) -> tuple[Tensor, Tensor]:
    """Indices `[B, N]` of the scores in falling order, and `[B, N]` whether each takes part."""
    scores = ops.where(scores > score_threshold, scores, float("-inf"))
    order = ops.argsort(-scores, axis=1)
    return order, ops.take_along_axis(scores, order, axis=1) > float("-inf")


def _keep(candidates: Tensor, suppresses: Tensor) -> Tensor:
    """Candidates that no kept candidate suppresses.

    Args:
        candidates: `[B, L]` bool.
        suppresses: `[B, L, L]` bool, whether the first box suppresses the second; only later ones.

    Returns:
        `[B, L]` bool. The rule has one solution: the first box depends on no other, the second on
        the first, and so on. So the loop, which applies the rule to all boxes at once until nothing
        changes, ends with it; a chain of n suppressions takes n rounds.
    """

    def apply(_: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        again = candidates & ~ops.any(suppresses & kept[:, :, None], axis=1)
        return ops.any(again != kept), again

    start = (ops.ones((), "bool"), candidates)
    return ops.while_loop(lambda changed, _: changed, apply, start)[1]


# ---- Convolution -------------------------------------------------------------------------------


def conv2d(
    x: Tensor,
    kernel: Tensor,
    bias: Tensor,
    strides: tuple[int, int],
    padding: str,
    relu: bool = False,
) -> Tensor:
    """Convolution with bias and, if asked for, ReLU.

    Args:
        x: `[B, H, W, C]`, float.
        kernel: `[h, w, C, filters]`, same dtype.
        bias: `[filters]`, same dtype.
        strides: `(down, across)`.
        padding: "same" or "valid", as in Keras.
        relu: whether ReLU follows.

    Returns:
        `[B, H', W', filters]`.
    """
    if _TENSORFLOW:
        return _tf_conv2d(x, kernel, bias, strides, padding, relu)
    return conv2d_generic(x, kernel, bias, strides, padding, relu)


def conv2d_generic(
    x: Tensor,
    kernel: Tensor,
    bias: Tensor,
    strides: tuple[int, int],
    padding: str,
    relu: bool = False,
) -> Tensor:
    """`conv2d` with `keras.ops`."""
    x = ops.conv(x, kernel, list(strides), padding, data_format="channels_last") + bias
    return ops.relu(x) if relu else x


def convolves_in_branches() -> bool:
    """Whether the gradients of a convolution inside a branch (`ops.switch`) are fast.

    They are not with JAX on a CPU: there XLA prepares convolutions for its fast kernels only
    outside of branches. A step of a ResNet50 with two images of 256x256 pixels was interrupted
    after 8 minutes, at the gradient of a kernel of the mask head.
    """
    if keras.backend.backend() != "jax":
        return True
    import jax

    return jax.default_backend() != "cpu"


# ---- Compilation -------------------------------------------------------------------------------


def compiled(
    function: Callable[..., list], variables: Sequence[keras.Variable]
) -> Callable[..., list]:
    """A function of tensors, traced by TensorFlow or compiled by JAX.

    Args:
        function: positional tensors -> list of tensors. It reads `variables` and assigns none.
        variables: Keras variables.

    Returns:
        Function `(*inputs, open_axes)` of arrays or tensors. `open_axes` lists for each input the
        axes whose size may differ in later calls: TensorFlow makes one trace for all these sizes.
        JAX compiles once per shape. PyTorch calls the function unchanged.
    """
    if _TENSORFLOW:
        return _tf_compiled(function)
    on_jax = keras.backend.backend() == "jax"
    return (_jax_compiled if on_jax else _torch_compiled)(function, variables)


def _jax_compiled(
    function: Callable[..., list], variables: Sequence[keras.Variable]
) -> Callable[..., list]:
    import jax

    @jax.jit
    def pure(values: list, *inputs: ArrayOrTensor) -> list:
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return function(*inputs)

    def run(*inputs: ArrayOrTensor, open_axes: Sequence) -> list:
        return pure([variable.value for variable in variables], *inputs)

    return run


def _torch_compiled(
    function: Callable[..., list], variables: Sequence[keras.Variable]
) -> Callable[..., list]:
    import torch

    def without_gradients(*inputs: ArrayOrTensor, open_axes: Sequence) -> list:
        with torch.no_grad():
            return function(*map(ops.convert_to_tensor, inputs))

    return without_gradients


# ---- TensorFlow ----------------------------------------------------------------------------------

if _TENSORFLOW:
    import tensorflow as tf

    def _tf_crop_and_resize(
        images: Tensor, boxes: Tensor, box_indices: Tensor, crop_size: Sequence[int]
    ) -> Tensor:
        images = tf.convert_to_tensor(images)
        if images.dtype == tf.bfloat16:  # the only number type that the kernel does not take
            images = tf.cast(images, tf.float32)
        return tf.image.crop_and_resize(images, boxes, box_indices, crop_size)

    def _tf_pyramid_crop_and_resize(
        feature_maps: Sequence[Tensor], boxes: Tensor, levels: Tensor, crop_size: Sequence[int]
    ) -> Tensor:
        # Each level crops only its own boxes, in tensors of unknown length: a tenth of the work of
        # cropping every box from every level. The crops are then put back in order.
        box_count = boxes.shape[1]
        levels, boxes = tf.reshape(levels, [-1]), tf.reshape(boxes, [-1, 4])
        crops, rows = [], []
        for level, feature_map in enumerate(feature_maps):
            row = tf.where(levels == level)[:, 0]
            image = tf.cast(row // box_count, tf.int32)
            box = tf.gather(boxes, row)
            crops.append(_tf_crop_and_resize(feature_map, box, image, crop_size))
            rows.append(row)
        crops = _tf_in_order(tf.concat(crops, axis=0), tf.concat(rows, axis=0))
        return tf.reshape(crops, [-1, box_count, *crop_size, feature_maps[0].shape[-1]])

    @tf.custom_gradient
    def _tf_in_order(crops: Tensor, rows: Tensor) -> tuple[Tensor, Callable]:
        """Crops in the order of their row numbers; `rows` is a permutation."""

        def gradient(upstream: Tensor) -> tuple[Tensor, None]:
            # TensorFlow's own gradient of `gather` sums over repeated rows, which is far slower;
            # a permutation has none.
            return tf.gather(upstream, rows), None

        return tf.gather(crops, tf.argsort(rows)), gradient

    def _tf_non_max_suppression(
        boxes: Tensor,
        scores: Tensor,
        max_output_size: int,
        iou_threshold: float,
        score_threshold: float,
    ) -> tuple[Tensor, Tensor]:
        def one_image(image: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            indices, count = tf.raw_ops.NonMaxSuppressionV4(
                boxes=image[0],
                scores=image[1],
                max_output_size=max_output_size,
                iou_threshold=iou_threshold,
                score_threshold=score_threshold,
                pad_to_max_output_size=True,
            )
            return indices, tf.range(max_output_size) < count

        spec = (
            tf.TensorSpec([max_output_size], tf.int32),
            tf.TensorSpec([max_output_size], tf.bool),
        )
        return tf.map_fn(one_image, (boxes, scores), fn_output_signature=spec)

    def _tf_conv2d(
        x: Tensor,
        kernel: Tensor,
        bias: Tensor,
        strides: tuple[int, int],
        padding: str,
        relu: bool,
    ) -> Tensor:
        def convolve(x: Tensor, padding: str | list[list[int]]) -> Tensor:
            x = tf.nn.bias_add(tf.nn.conv2d(x, kernel, strides, padding), bias)
            return tf.nn.relu(x) if relu else x

        # oneDNN, TensorFlow's library for CPUs, converts the kernel to its own layout only for
        # batches, and takes a quarter more time without. So a single image becomes a batch of its
        # two halves.
        halves = x.shape[0] == 1 and not tf.config.list_physical_devices("GPU")
        height, size, step = x.shape[1], tuple(kernel.shape[:2]), strides[0]
        if halves and size == (3, 3) and tuple(strides) == (1, 1) and padding == "same":
            whole = _tf_whole(convolve(_tf_halves(x), [[0, 0], [0, 0], [1, 1], [0, 0]]))
            # An odd height was padded to an even one.
            return whole if _is_even(height) else whole[:, : _tf_size(x, 1)]
        # A convolution without ReLU comes before a sum; TensorFlow fuses the two if nothing lies
        # between them.
        if halves and size == (1, 1) and relu and height and height % (2 * step) == 0:
            x = tf.reshape(x, [2, height // 2, _tf_size(x, 2), x.shape[3]])
            return _tf_whole(convolve(x, "VALID"))
        return convolve(x, padding.upper())

    def _is_even(size: int | None) -> bool:
        return size is not None and size % 2 == 0

    def _tf_size(x: Tensor, axis: int) -> int | Tensor:
        """The size of an axis; a number if it is known, because `tf.shape` takes time to trace."""
        return tf.shape(x)[axis] if x.shape[axis] is None else x.shape[axis]

    def _tf_halves(x: Tensor) -> Tensor:
        """The halves of `[1, H, W, C]` with one row above and below, `[2, H / 2 + 2, W, C]`."""
        rows, height = x[0], x.shape[1]
        if _is_even(height):
            # Slices of rows are views: every value is copied once, by `concat`.
            half, zeros = height // 2, tf.zeros_like(rows[:1])
            rows = tf.concat([zeros, rows[: half + 1], rows[half - 1 :], zeros], axis=0)
            return tf.reshape(rows, [2, half + 2, _tf_size(x, 2), x.shape[3]])
        rows = tf.pad(rows, [[1, 1 + _tf_size(rows, 0) % 2], [0, 0], [0, 0]])
        half = _tf_size(rows, 0) // 2 - 1
        return tf.stack([rows[: half + 2], rows[half:]])

    def _tf_whole(halves: Tensor) -> Tensor:
        """One image `[1, 2 * h, W, C]` from its upper and lower half `[2, h, W, C]`."""
        height, width = _tf_size(halves, 1), _tf_size(halves, 2)
        return tf.reshape(halves, [1, 2 * height, width, halves.shape[3]])

    def _tf_compiled(function: Callable[..., list]) -> Callable[..., list]:
        @functools.cache
        def traced(signature: tuple) -> Callable[..., list]:
            return tf.function(function, input_signature=signature, autograph=False)

        def run(*inputs: ArrayOrTensor, open_axes: Sequence[Sequence[int]]) -> list:
            tensors = [tf.convert_to_tensor(x) for x in inputs]
            signature = []
            for x, axes in zip(tensors, open_axes, strict=True):
                shape = [None if axis in axes else size for axis, size in enumerate(x.shape)]
                signature.append(tf.TensorSpec(shape, x.dtype))
            return traced(tuple(signature))(*tensors)

        return run
