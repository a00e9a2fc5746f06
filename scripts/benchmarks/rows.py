"""One row of the benchmark, in its own process, so that its memory is measured alone.

    python rows.py '{"function": "detect", "arguments": {…}, "settings": {…}}' RESULT.json

`scripts/benchmark.py` starts it. Slow imports are inside the functions that need them, because the
row `first_detection` measures them too.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# This checkout, in case the package is not installed.
ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from scripts.benchmarks.measuring import (  # noqa: E402
    Settings,
    accelerator,
    in_turn,
    peak_gigabytes,
    resident_gigabytes,
    seconds_of,
)

PACKAGES = ("tensorflow", "jax", "torch", "torchvision", "keras", "numpy", "opencv-python")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that are installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


# ---- Detection -------------------------------------------------------------------------------


def detect(
    settings: Settings, backbone: str, policy: str, shape=(1024, 1024), count=100, mode="square"
) -> dict:
    """`detect` on a photograph of this `(height, width)`, with the given number of detections.

    In bfloat16 the result also has `agreement` with float32.
    """
    shape = [side // 8 for side in shape] if settings.quick else shape
    side = 128 if settings.quick else 1024
    model, image = _detector(settings, backbone, side, policy, shape, count, mode)
    result = _measure_detect(settings, model, [image])
    if policy != "float32":
        (other,) = model.detect([image])
        del model
        reference, _ = _detector(settings, backbone, side, "float32", shape, count, mode)
        result["agreement"] = agreement(reference.detect([image])[0], other)
    return result


def _detector(settings: Settings, backbone, side, policy, shape, count, mode):
    """A model and an image in which it finds the given number of objects."""
    import numpy as np

    from scripts.benchmarks.networks import make_config, make_model, photo

    backbone = "small" if settings.quick else backbone
    # With the longer side as the limit, 640x480 is enlarged to 1024x768.
    least = side * min(shape) // max(shape)
    config = make_config(backbone, side, policy, IMAGE_RESIZE_MODE=mode, IMAGE_MIN_DIM=least)
    model, image = make_model("inference", config), photo(*shape)
    if count < config.DETECTION_MAX_INSTANCES:
        scores = np.sort(model.detect([image])[0]["scores"])[::-1]
        config.DETECTION_MIN_CONFIDENCE = float(scores[count - 1 : count + 1].mean())
        model = make_model("inference", config)
    return model, image


def _measure_detect(settings: Settings, model, images) -> dict:
    found = [len(result["rois"]) for result in model.detect(images)]
    result = in_turn(lambda: model.detect(images), settings, images=len(images))
    _profile(settings, lambda: model.detect(images))
    return {"detections": found[0] if len(found) == 1 else found, **result}


def agreement(reference: dict, other: dict) -> dict[str, float]:
    """Shares of the detections for which another result has nearly the same detection.

    Returns:
        boxes: share with the same class and no side of the box more than 2 pixels away. masks:
        share that also has an IoU of the masks of at least 0.95.
    """
    import numpy as np

    near = np.abs(reference["rois"][:, None] - other["rois"][None]).max(axis=2) <= 2
    near &= reference["class_ids"][:, None] == other["class_ids"][None]
    found = set()
    for i, j in zip(*np.nonzero(near), strict=True):
        ours, theirs = reference["masks"][:, :, i], other["masks"][:, :, j]
        if (ours & theirs).sum() >= 0.95 * (ours | theirs).sum():
            found.add(i)
    return {"boxes": float(near.any(axis=1).mean()), "masks": len(found) / len(near)}


# ---- Training --------------------------------------------------------------------------------


def train(
    settings: Settings, backbone: str, policy: str, positives: str, side=512, batch=2
) -> dict:
    """One optimizer step of all layers on a prepared batch with 5 objects per image.

    Args:
        positives: "few" for objects anywhere, "many" for objects where proposals are.
    """
    model, inputs, count = _trainer(settings, backbone, policy, positives, side, batch)

    def work():
        model.train_on_batch(inputs)

    result = in_turn(work, settings, images=batch)
    _profile(settings, work)
    return {"positive_rois": count, **result}


def _trainer(settings: Settings, backbone, policy, positives, side, batch):
    """A compiled training model, a batch for it, and the number of positive ROIs per image."""
    import numpy as np
    from keras import ops

    from mrcnn.training import compile_model, set_trainable
    from scripts.benchmarks.networks import make_config, make_model, random_boxes

    side = 128 if settings.quick else side
    backbone = "small" if settings.quick else backbone
    config = make_config(backbone, side, policy, IMAGES_PER_GPU=batch)
    model = make_model("training", config).keras_model
    boxes = random_boxes(batch, 5, (side, side))
    inputs = _batch(config, boxes)
    outputs = model.predict_on_batch(inputs)
    if positives == "many":
        boxes = [_crowded(rois * side, 5) for rois in outputs["rpn_rois"]]
        inputs = _batch(config, boxes)
        outputs = model.predict_on_batch(inputs)
    counts = (ops.convert_to_numpy(outputs["target_class_ids"]) > 0).sum(axis=1)
    set_trainable(model, "all")
    # With a learning rate of 0 every step does the same work, on the same ROIs.
    compile_model(model, config, learning_rate=0.0, momentum=config.LEARNING_MOMENTUM)
    return model, inputs, np.asarray(counts).tolist()


def _batch(config, boxes) -> tuple:
    from mrcnn.data.loader import BatchLoader
    from scripts.benchmarks.networks import Ellipses

    dataset = Ellipses(boxes, tuple(config.IMAGE_SHAPE[:2]))
    (inputs,) = BatchLoader(dataset, config, shuffle=False, workers=1)[0]
    return inputs


def _crowded(proposals, count: int):
    """The `count` proposals of `[N, 4]` pixels that overlap most others, `[count, 4]` int."""
    import numpy as np

    from mrcnn.geometry.boxes import compute_overlaps

    proposals = np.asarray(proposals, np.float32)
    proposals = proposals[np.minimum(*(proposals[:, 2:] - proposals[:, :2]).T) > 8]
    close = compute_overlaps(proposals, proposals) >= 0.5
    chosen = []
    for _ in range(count):
        best = int(close.sum(axis=0).argmax())
        chosen.append(np.round(proposals[best]).astype(int))
        # A proposal that is positive for one object does not count for another.
        close[close[:, best]] = False
    return np.stack(chosen)


# ---- Data ------------------------------------------------------------------------------------


def data(settings: Settings, group: int = 10) -> dict:
    """Batches of one image by one worker, 480x640 to 1024x1024, timed in groups of `group`."""
    from mrcnn.data.loader import BatchLoader
    from scripts.benchmarks.networks import Ellipses, make_config, random_boxes

    shape = (60, 80) if settings.quick else (480, 640)
    side = 128 if settings.quick else 1024
    backbone = "small" if settings.quick else "resnet101"
    config = make_config(backbone, side, IMAGE_MIN_DIM=side * 3 // 4)
    dataset = Ellipses(random_boxes(group, 7, shape), shape)
    loader = BatchLoader(dataset, config, workers=1)

    def work():
        for index in range(group):
            loader[index]

    result = in_turn(work, settings, images=group)
    if settings.profile:
        from scripts.benchmarks.profiles import show_python

        show_python(work)
    return result


# ---- Memory ----------------------------------------------------------------------------------


def memory_detect(settings: Settings, backbone: str = "resnet101") -> dict:
    """Peak memory of a process that builds a network and detects."""
    side = 128 if settings.quick else 1024
    model, image = _detector(settings, backbone, side, "float32", (side, side), 100, "square")
    for _ in range(3):
        (found,) = model.detect([image])
    return {"gigabytes": peak_gigabytes(), "detections": len(found["rois"])}


def memory_train(settings: Settings, backbone: str = "resnet50") -> dict:
    """Peak memory of a process that builds a network and trains a few steps."""
    model, inputs, positives = _trainer(settings, backbone, "float32", "few", 512, 2)
    for _ in range(3):
        model.train_on_batch(inputs)
    return {"gigabytes": peak_gigabytes(), "positive_rois": positives}


def flat_detect(settings: Settings) -> dict:
    """Memory of a small network after few and after many detections in images of many sizes."""
    import numpy as np

    from scripts.benchmarks.networks import make_config, make_model, photo

    model = make_model("inference", make_config("small", 256))
    rng = np.random.default_rng(0)
    return _flatness(settings, lambda: model.detect([photo(*rng.integers(50, 400, 2))]))


def flat_train(settings: Settings) -> dict:
    """Memory of a small network after few and after many steps, each on another batch."""
    from mrcnn.data.loader import BatchLoader
    from mrcnn.training import compile_model, set_trainable
    from scripts.benchmarks.networks import Ellipses, make_config, make_model, random_boxes

    config = make_config("small", 128, IMAGES_PER_GPU=2)
    model = make_model("training", config).keras_model
    set_trainable(model, "all")
    compile_model(model, config, learning_rate=1e-6, momentum=0.9)
    dataset = Ellipses(random_boxes(20, 5, (128, 128)), (128, 128))
    loader = BatchLoader(dataset, config, steps=1000, workers=1)
    indices = iter(range(len(loader)))
    return _flatness(settings, lambda: model.train_on_batch(*loader[next(indices)]))


def _flatness(settings: Settings, step) -> dict:
    few, many = (3, 6) if settings.quick else (30, 300)
    for _ in range(few):
        step()
    before = resident_gigabytes()
    for _ in range(many - few):
        step()
    after = resident_gigabytes()
    return {
        "growth": after / before - 1,
        f"gigabytes_after_{few}": before,
        f"gigabytes_after_{many}": after,
    }


# ---- Start -----------------------------------------------------------------------------------


def start(settings: Settings, backbone: str = "resnet101") -> dict:
    """Time from the start of Python to the first detections, in a new process for each timing."""
    parts: list[dict] = []

    def seconds() -> float:
        arguments = {"backbone": backbone, "started": time.time()}
        parts.append(run("first_detection", arguments, settings))
        return parts[-1]["import"] + parts[-1]["build"] + parts[-1]["detect"]

    result = in_turn(None, settings, timer=seconds)
    names = ("import", "build", "detect")
    middle = {name: sorted(part[name] for part in parts)[len(parts) // 2] for name in names}
    del result["images_per_second"], result["images_per_gemm"]
    return {**result, "parts": middle, "detections": parts[0]["detections"]}


def first_detection(settings: Settings, backbone: str, started: float) -> dict:
    """Seconds until the package is imported, until the network is built, until it detects."""
    import numpy as np

    from mrcnn.model import MaskRCNN

    imported = time.time()
    from scripts.benchmarks.networks import make_config

    side = 128 if settings.quick else 1024
    config = make_config("small" if settings.quick else backbone, side)
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    building = time.time()
    model = MaskRCNN("inference", config, "logs")
    detecting = time.time()
    (found,) = model.detect([image])
    done = time.time()
    return {
        "import": imported - started,
        "build": detecting - building,
        "detect": done - detecting,
        "detections": len(found["rois"]),
    }


# ---- On a GPU --------------------------------------------------------------------------------


def gpu_detect(settings: Settings, backbone: str, batch: int) -> dict:
    """`detect` on a batch of square photographs in bfloat16; the network alone is timed too."""
    import numpy as np

    from mrcnn.detection import predict
    from scripts.benchmarks.networks import make_config, make_model, photos

    side = 128 if settings.quick else 1024
    config = make_config(
        "small" if settings.quick else backbone, side, "mixed_bfloat16", IMAGES_PER_GPU=batch
    )
    model, images = make_model("inference", config), photos(batch, side)
    result = _measure_detect(settings, model, images)
    molded, metas, _ = model.mold_inputs(images)
    anchors = model.get_anchors(molded.shape[1:])

    def network():
        predict(model.keras_model, anchors, molded, metas)

    seconds = sorted(seconds_of(network) for _ in range(settings.repeats))
    alone = batch / float(np.median(seconds))
    return {**result, "network_images_per_second": alone}


def gpu_train(settings: Settings, backbone: str, batch: int) -> dict:
    """One optimizer step in bfloat16 at 1024x1024."""
    return train(settings, backbone, "mixed_bfloat16", "few", side=1024, batch=batch)


def torchvision_detect(settings: Settings, batch: int) -> dict:
    """`gpu_detect` of torchvision's network."""
    from scripts.benchmarks import torchvision_rows

    return torchvision_rows.detect(settings, batch)


def torchvision_train(settings: Settings, batch: int) -> dict:
    """`gpu_train` of torchvision's network."""
    from scripts.benchmarks import torchvision_rows

    return torchvision_rows.train(settings, batch)


# ---- Processes -------------------------------------------------------------------------------


def _profile(settings: Settings, work) -> None:
    if settings.profile:
        from scripts.benchmarks.profiles import show_operations, show_python

        show_python(work)
        show_operations(work)


FUNCTIONS = {
    function.__name__: function
    for function in (
        detect,
        train,
        data,
        memory_detect,
        memory_train,
        flat_detect,
        flat_train,
        start,
        first_detection,
        gpu_detect,
        gpu_train,
        torchvision_detect,
        torchvision_train,
    )
}


def run(function: str, arguments: dict, settings: Settings, backend: str | None = None) -> dict:
    """A row's result, measured in a new process.

    Args:
        backend: KERAS_BACKEND of that process; None keeps the one of this process.

    Raises:
        RuntimeError: the process failed; the message has the last line of its standard error.
    """
    task = {"function": function, "arguments": arguments, "settings": vars(settings)}
    environment = {**os.environ, **({"KERAS_BACKEND": backend} if backend else {})}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.json"
        process = subprocess.run(
            [sys.executable, __file__, json.dumps(task), str(path)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        if process.returncode or not path.exists():
            lines = [line for line in process.stderr.splitlines() if line.strip()]
            words = lines[-1] if lines else "its standard error is empty"
            raise RuntimeError(f"exit status {process.returncode}: {words}")
        return json.loads(path.read_text(encoding="utf-8"))


def main(argv=None) -> None:
    """Measure the row that the command line describes, and write its result."""
    task, path = argv or sys.argv[1:]
    task = json.loads(task)
    result = FUNCTIONS[task["function"]](Settings(**task["settings"]), **task["arguments"])
    import keras

    result["environment"] = {
        "backend": keras.backend.backend(),
        "accelerator": accelerator(),
        "versions": versions(),
    }
    Path(path).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
