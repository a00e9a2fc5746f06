"""The seam: the primitives for which a framework has a faster kernel than `keras.ops` can be.

It and `distribution.py` alone import TensorFlow, JAX or PyTorch. Every primitive has a generic
version written with `keras.ops`, which runs on each backend and is the reference, and may have a
native one, which is a speed-up held to the same numbers by `tests/test_backend.py` and, for
convolutions, `tests/nn/test_folded.py`.

`B` images, `N` boxes an image, `M` boxes kept, `C` channels, `h x w` a crop. Boxes are normalised.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import keras
from keras import ops

from mrcnn.geometry.boxes import compute_overlaps, split_box

_TENSORFLOW = keras.backend.backend() == "tensorflow"

# TensorFlow's kernels for cropping have no XLA version; layers that use them say so with this.
SUPPORTS_JIT = not _TENSORFLOW


# ---- Precision -------------------------------------------------------------------------------

# x86's units for bfloat16, as Linux names them.
_BFLOAT16_UNITS = {"amx_bf16", "avx512_bf16"}
_CPUINFO = Path("/proc/cpuinfo")
# NVIDIA's GPUs compute bfloat16 from this compute capability on (Ampere).
_BFLOAT16_CAPABILITY = (8, 0)


@functools.cache
def computes_bfloat16() -> bool:
    """Does mixed_bfloat16 save time here: is there a GPU, or else a processor, with units for it?

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


def crop_and_resize(images, boxes, box_indices, crop_size):
    """Bilinear crops, one sample a cell, the corner samples on the box's corners.

    This is the sampling that released weights were trained with. It is not the ROIAlign of the
    Mask R-CNN paper, which averages several samples inside each cell.

    Args:
        images: `[I, H, W, C]`, any number type.
        boxes: `[N, (y1, x1, y2, x2)]` float32, normalised; may reach out of the image, where
            samples are 0.
        box_indices: `[N]` int32, the image each box lies in.
        crop_size: `(h, w)`.

    Returns:
        `[N, h, w, C]` float32. No gradient flows to the boxes.
    """
    boxes = ops.stop_gradient(boxes)
    if _TENSORFLOW:
        return _tf_crop_and_resize(images, boxes, box_indices, crop_size)
    return crop_and_resize_generic(images, boxes, box_indices, crop_size)


def crop_and_resize_generic(images, boxes, box_indices, crop_size):
    """`crop_and_resize` by gathering with `keras.ops`."""
    image_count, height, width, channels = ops.shape(images)
    cells = ops.reshape(images, (image_count * height * width, channels))
    first_cell = box_indices * (height * width)
    sizes = ops.ones_like(box_indices)
    return _sample(cells, first_cell, sizes * height, sizes * width, boxes, crop_size)


def pyramid_crop_and_resize(feature_maps, boxes, levels, crop_size):
    """`crop_and_resize` in which every box is cropped from its own level of a pyramid.

    Args:
        feature_maps: list of `[B, H_l, W_l, C]`, one a level.
        boxes: `[B, N, (y1, x1, y2, x2)]` float32, normalised, each in its own image.
        levels: `[B, N]` int32, index into `feature_maps`.
        crop_size: `(h, w)`.

    Returns:
        `[B, N, h, w, C]` float32. No gradient flows to the boxes.
    """
    boxes = ops.stop_gradient(boxes)
    if _TENSORFLOW:
        return _tf_pyramid_crop_and_resize(feature_maps, boxes, levels, crop_size)
    return pyramid_crop_and_resize_generic(feature_maps, boxes, levels, crop_size)


def pyramid_crop_and_resize_generic(feature_maps, boxes, levels, crop_size):
    """`pyramid_crop_and_resize` by gathering from all levels laid end to end."""
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


def _sample(cells, first_cell, height, width, boxes, crop_size):
    """Bilinear samples of maps laid end to end.

    Args:
        cells: `[K, C]`, the rows of all maps one after the other.
        first_cell, height, width: `[N]` int32, where the map of each box begins and its size.
        boxes: `[N, (y1, x1, y2, x2)]`; crop_size: `(h, w)`.

    Returns:
        `[N, h, w, C]` float32.
    """
    y1, x1, y2, x2 = split_box(boxes)
    y, y_inside = _positions(y1, y2, height, crop_size[0])
    x, x_inside = _positions(x1, x2, width, crop_size[1])
    top, left = ops.floor(y), ops.floor(x)
    y_weight, x_weight = (y - top)[:, :, None, None], (x - left)[:, None, :, None]

    def at(row, column):
        row, column = ops.cast(row, "int32"), ops.cast(column, "int32")
        index = first_cell[:, None, None] + row[:, :, None] * width[:, None, None]
        return ops.cast(ops.take(cells, index + column[:, None, :], axis=0), "float32")

    bottom, right = ops.ceil(y), ops.ceil(x)
    above = at(top, left) + (at(top, right) - at(top, left)) * x_weight
    below = at(bottom, left) + (at(bottom, right) - at(bottom, left)) * x_weight
    inside = (y_inside[:, :, None] & x_inside[:, None, :])[..., None]
    return ops.where(inside, above + (below - above) * y_weight, 0.0)


def _positions(start, end, size, count):
    """Where `count` samples from `start` to `end` fall in a side of `size` cells.

    Returns:
        positions `[N, count]` in cells, moved into the side, and `[N, count]` bool: were inside.
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


def non_max_suppression(boxes, scores, max_output_size, iou_threshold, score_threshold):
    """Greedy non-maximum suppression of every image of a batch, in a fixed number of rows.

    Args:
        boxes: `[B, N, (y1, x1, y2, x2)]` float32, any unit; one without area overlaps
            none.
        scores: `[B, N]` float32; of equal ones the first row goes first.
        max_output_size: M.
        iou_threshold: a box that overlaps a kept one by more than this is dropped.
        score_threshold: only scores above it take part.

    Returns:
        indices `[B, M]` int32, best score first, and `[B, M]` bool: is there one. No gradient.
    """
    boxes, scores = ops.stop_gradient(boxes), ops.stop_gradient(scores)
    native_or_generic = _tf_non_max_suppression if _TENSORFLOW else non_max_suppression_generic
    return native_or_generic(boxes, scores, max_output_size, iou_threshold, score_threshold)


def non_max_suppression_generic(boxes, scores, max_output_size, iou_threshold, score_threshold):
    """`non_max_suppression` with one pass over all boxes for each box that is kept."""
    rows, columns = ops.arange(scores.shape[1]), ops.arange(max_output_size)
    nothing = float("-inf")

    def keep_best(step, state):
        left, indices, valid = state
        best = ops.argmax(left, axis=1)
        is_there = ops.max(left, axis=1) > score_threshold
        best_box = ops.take_along_axis(boxes, best[:, None, None], axis=1)
        overlaps = compute_overlaps(best_box, boxes)[:, 0]
        dropped = (overlaps > iou_threshold) | (rows == best[:, None])
        here = columns == step
        return (
            ops.where(dropped, nothing, left),
            ops.where(here, ops.cast(best, "int32")[:, None], indices),
            ops.where(here, is_there[:, None], valid),
        )

    batch = ops.shape(scores)[0]
    start = (
        ops.where(scores > score_threshold, scores, nothing),
        ops.zeros((batch, max_output_size), "int32"),
        ops.zeros((batch, max_output_size), "bool"),
    )
    _, indices, valid = ops.fori_loop(0, max_output_size, keep_best, start)
    return indices, valid


# ---- Convolution -------------------------------------------------------------------------------


def conv2d(x, kernel, bias, strides, padding, relu=False):
    """Convolution, bias and, if wanted, ReLU in one.

    Args:
        x: `[B, H, W, C]`; kernel: `[h, w, C, filters]`; bias: `[filters]`; of one float type.
        strides: `(down, across)`; padding: "same" or "valid", as in Keras.

    Returns:
        `[B, H', W', filters]`.
    """
    if _TENSORFLOW:
        return _tf_conv2d(x, kernel, bias, strides, padding, relu)
    return conv2d_generic(x, kernel, bias, strides, padding, relu)


def conv2d_generic(x, kernel, bias, strides, padding, relu=False):
    """`conv2d` with `keras.ops`."""
    x = ops.conv(x, kernel, list(strides), padding, data_format="channels_last") + bias
    return ops.relu(x) if relu else x


def convolves_in_branches() -> bool:
    """Whether a convolution in a branch, `ops.switch`, has its gradients in decent time.

    XLA's compiler for CPUs brings convolutions into the form that its fast kernels want outside of
    branches only: a step of a ResNet50 with two images of 256 pixels took 8 minutes, and when
    interrupted was at the gradient of a kernel of the mask head.
    """
    if keras.backend.backend() != "jax":
        return True
    import jax

    return jax.default_backend() != "cpu"


# ---- Compilation -------------------------------------------------------------------------------


def compiled(function, variables):
    """A function of tensors, traced or compiled where the backend can.

    Args:
        function: positional tensors -> list of tensors; reads `variables`, and assigns none.
        variables: Keras variables.

    Returns:
        `(*inputs, open_axes)`, which also takes arrays. `open_axes` are for each input the axes
        that may be of another size in later calls: TensorFlow traces once for all of these. JAX
        compiles for each shape, PyTorch runs the function as it is.
    """
    if _TENSORFLOW:
        return _tf_compiled(function)
    on_jax = keras.backend.backend() == "jax"
    return (_jax_compiled if on_jax else _torch_compiled)(function, variables)


def _jax_compiled(function, variables):
    import jax

    @jax.jit
    def pure(values, *inputs):
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return function(*inputs)

    def run(*inputs, open_axes):
        return pure([variable.value for variable in variables], *inputs)

    return run


def _torch_compiled(function, variables):
    import torch

    def without_gradients(*inputs, open_axes):
        with torch.no_grad():
            return function(*map(ops.convert_to_tensor, inputs))

    return without_gradients


# ---- TensorFlow ----------------------------------------------------------------------------------

if _TENSORFLOW:
    import tensorflow as tf

    def _tf_crop_and_resize(images, boxes, box_indices, crop_size):
        images = tf.convert_to_tensor(images)
        if images.dtype == tf.bfloat16:  # the kernel has every number type but this one
            images = tf.cast(images, tf.float32)
        return tf.image.crop_and_resize(images, boxes, box_indices, crop_size)

    def _tf_pyramid_crop_and_resize(feature_maps, boxes, levels, crop_size):
        # Each level crops its own boxes only, in tensors of unknown length: a tenth of the work
        # of cropping every box from every level. The pieces are then put back in order.
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
    def _tf_in_order(crops, rows):
        """Crops put to the rows that they belong to, `rows` being a permutation."""

        def gradient(upstream):
            # TensorFlow's own would add up as if rows could come twice: far slower.
            return tf.gather(upstream, rows), None

        return tf.gather(crops, tf.argsort(rows)), gradient

    def _tf_non_max_suppression(boxes, scores, max_output_size, iou_threshold, score_threshold):
        def one_image(image):
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

    def _tf_conv2d(x, kernel, bias, strides, padding, relu):
        def convolve(x, padding):
            x = tf.nn.bias_add(tf.nn.conv2d(x, kernel, strides, padding), bias)
            return tf.nn.relu(x) if relu else x

        # oneDNN, the CPU's library, brings the kernel into its own layout for batches only, and is
        # a quarter slower without: so a single image goes in as a batch of its two halves.
        halves = x.shape[0] == 1 and not tf.config.list_physical_devices("GPU")
        height, size, step = x.shape[1], tuple(kernel.shape[:2]), strides[0]
        if halves and size == (3, 3) and tuple(strides) == (1, 1) and padding == "same":
            whole = _tf_whole(convolve(_tf_halves(x), [[0, 0], [0, 0], [1, 1], [0, 0]]))
            # An odd height was made even.
            return whole if _is_even(height) else whole[:, : _tf_size(x, 1)]
        # Without ReLU a sum follows, which TensorFlow fuses with a convolution right before it.
        if halves and size == (1, 1) and relu and height and height % (2 * step) == 0:
            x = tf.reshape(x, [2, height // 2, _tf_size(x, 2), x.shape[3]])
            return _tf_whole(convolve(x, "VALID"))
        return convolve(x, padding.upper())

    def _is_even(size) -> bool:
        return size is not None and size % 2 == 0

    def _tf_size(x, axis):
        """A number where it is known: operations that find it out take time to trace."""
        return tf.shape(x)[axis] if x.shape[axis] is None else x.shape[axis]

    def _tf_halves(x):
        """`[2, H / 2 + 2, W, C]`: the halves of `[1, H, W, C]` with the rows above and below."""
        rows, height = x[0], x.shape[1]
        if _is_even(height):
            # Slices of rows are no copies: everything is written once.
            half, zeros = height // 2, tf.zeros_like(rows[:1])
            rows = tf.concat([zeros, rows[: half + 1], rows[half - 1 :], zeros], axis=0)
            return tf.reshape(rows, [2, half + 2, _tf_size(x, 2), x.shape[3]])
        rows = tf.pad(rows, [[1, 1 + _tf_size(rows, 0) % 2], [0, 0], [0, 0]])
        half = _tf_size(rows, 0) // 2 - 1
        return tf.stack([rows[: half + 2], rows[half:]])

    def _tf_whole(halves):
        """The halves `[2, h, W, C]` below each other, `[1, 2 * h, W, C]`."""
        height, width = _tf_size(halves, 1), _tf_size(halves, 2)
        return tf.reshape(halves, [1, 2 * height, width, halves.shape[3]])

    def _tf_compiled(function):
        @functools.cache
        def traced(signature):
            return tf.function(function, input_signature=signature, autograph=False)

        def run(*inputs, open_axes):
            tensors = [tf.convert_to_tensor(x) for x in inputs]
            signature = []
            for x, axes in zip(tensors, open_axes, strict=True):
                shape = [None if axis in axes else size for axis, size in enumerate(x.shape)]
                signature.append(tf.TensorSpec(shape, x.dtype))
            return traced(tuple(signature))(*tensors)

        return run
