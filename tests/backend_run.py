"""The whole way on one backend, for `test_backends.py`: `KERAS_BACKEND=jax backend_run.py FOLDER`.

Trains, resumes, saves and detects, and writes what came of it into FOLDER; then waits for a line on
standard input, and reads the checkpoints that the runs on other backends have written meanwhile.
"""

import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "goldens")]
warnings.filterwarnings("error", module="mrcnn")

import h5py  # noqa: E402
import keras  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

from mrcnn import weights  # noqa: E402
from mrcnn.config import LOSS_NAMES  # noqa: E402
from mrcnn.mask_rcnn import MaskRCNN  # noqa: E402
from mrcnn.training.callbacks import CocoEvaluation  # noqa: E402
from tests.slim import SlimInferenceConfig, seed_weights  # noqa: E402
from tests.tiny import (  # noqa: E402
    propose_anchors,
    random_rectangles,
    run_eagerly,
    tiny_config,
    weights_of,
)

TRAIN = random_rectangles(4, seed=1)
VAL = random_rectangles(2, seed=2)
# Averaged weights are what an optimizer keeps besides momentum.
SETTINGS = {"EMA_MOMENTUM": 0.5}


class Stride2(SlimInferenceConfig):
    RPN_ANCHOR_STRIDE = 2


def main(folder: Path) -> None:
    name = keras.backend.backend()
    if name == "tensorflow":  # its graphs are what all the other tests run
        run_eagerly(pytest.MonkeyPatch())
    model = train(folder / name)
    save(model, folder, name)
    detect(folder / f"{name}_detections.npz")
    print("written", flush=True)
    sys.stdin.readline()
    for path in sorted(folder.glob("*.h5")):
        read(model, path)


def train(logs: Path) -> MaskRCNN:
    """Two epochs with validation and COCO's figures, and a third, resumed, in half precision."""
    keras.utils.set_random_seed(0)
    model = MaskRCNN("training", tiny_config(**SETTINGS), logs)
    propose_anchors(model.keras_model)
    before = weights_of(model.keras_model)
    history = model.train(TRAIN, VAL, 1e-3, 2, "all", custom_callbacks=[CocoEvaluation(model, VAL)])
    check_history(history.history, epochs=2)
    assert "val_segm_AP" in history.history
    after = weights_of(model.keras_model)
    assert any((before[path] != after[path]).any() for path in before)

    # XLA takes several times as long to compile the step in half precision for a CPU.
    on_jax = keras.backend.backend() == "jax"
    policy = "float32" if on_jax else "mixed_bfloat16"
    resumed = MaskRCNN("training", tiny_config(**SETTINGS, DTYPE_POLICY=policy), logs)
    resumed.load_weights(resumed.find_last())
    assert resumed.epoch == 2
    check_same(weights_of(resumed.keras_model), after)
    resumed.train(TRAIN, None, 1e-3, 3, "all")
    assert resumed.epoch == 3
    return resumed


def check_history(history: dict, epochs: int) -> None:
    """Five losses, in training and in validation, whose sum and L2 are the loss."""
    for prefix in ("", "val_"):
        parts = np.array([history[f"{prefix}{name}"] for name in LOSS_NAMES])
        assert parts.shape == (5, epochs) and np.isfinite(parts).all()
        l2 = np.array(history[f"{prefix}loss"]) - parts.sum(axis=0)
        assert (l2 > 0).all() and (l2 < 0.1).all(), l2


def save(model: MaskRCNN, folder: Path, name: str) -> None:
    """The same weights from every kind of file; `<name>.h5` is the checkpoint for the others."""
    wanted = weights_of(model.keras_model)
    whole, alone = folder / name / "whole.keras", folder / name / "alone.weights.h5"
    model.keras_model.save(whole)
    found = weights_of(keras.models.load_model(whole))
    # Wrapped layers have shorter paths there.
    check_same(dict(zip(wanted, found.values(), strict=True)), wanted)
    model.keras_model.save_weights(alone)
    detector = MaskRCNN("inference", tiny_config(), folder)
    detector.load_weights(alone)
    found = weights_of(detector.keras_model)
    check_same(found, {path: wanted[path] for path in found})
    weights.save_checkpoint(model.keras_model, folder / f"{name}.h5")


def detect(path: Path) -> None:
    """What the network of the reference numbers sees in one of its pictures: forty objects."""
    with np.load(ROOT / "tests" / "goldens" / "inference.npz") as goldens:
        image = goldens["stride2_image_0"]
    model = MaskRCNN("inference", Stride2(), path.parent)
    seed_weights(model.keras_model, 21)
    np.savez(path, **model.detect([image])[0])


def read(model: MaskRCNN, path: Path) -> None:
    """Weights and optimizer state of a checkpoint, bit for bit: written again they are the same."""
    model.load_weights(path)
    weights.load_optimizer(model.keras_model, path)
    weights.load_means(model.keras_model, path)
    again = Path(model.model_dir) / path.name
    weights.save_checkpoint(model.keras_model, again)
    check_same(arrays_of(again), arrays_of(path))


def arrays_of(path: Path) -> dict:
    """All arrays of an HDF5 file by path."""
    arrays = {}

    def keep(name, item):
        if isinstance(item, h5py.Dataset):
            arrays[name] = np.asarray(item)

    with h5py.File(path) as file:
        file.visititems(keep)
    assert any(name.startswith("optimizer_weights/") for name in arrays)
    return arrays


def check_same(found: dict, wanted: dict) -> None:
    assert found.keys() == wanted.keys()
    for path, array in wanted.items():
        np.testing.assert_array_equal(found[path], array, err_msg=path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
