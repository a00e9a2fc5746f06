"""Trains the tiny network and appends the mean losses of each step to a file; goes on where it was.

python tests/training/killed_run.py train FOLDER EPOCHS
python tests/training/killed_run.py kill TIMES

The network is so small that a step takes a tenth of a second; its state is saved after each step.
"""

import contextlib
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
STEPS = 5
STEP_FILE = "steps.jsonl"


def train(folder, epochs):
    import keras

    from mrcnn.mask_rcnn import MaskRCNN
    from tests.tiny import propose_anchors, random_rectangles, tiny_config

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()

    class Steps(keras.callbacks.Callback):
        """Writes a line per step: epoch, step, mean losses so far."""

        def on_epoch_begin(self, epoch, logs=None):
            self._epoch = epoch

        def on_train_batch_end(self, batch, logs=None):
            with open(folder / STEP_FILE, "a") as file:
                line = json.dumps([self._epoch, batch, logs["loss"], logs["rpn_bbox_loss"]])
                file.write(f"{line}\n")

    config = tiny_config(
        STEPS_PER_EPOCH=STEPS,
        CHECKPOINT_MINUTES=1e-6,
        LEARNING_RATE_SCHEDULE="cosine",
        KEEP_CHECKPOINTS=2,
    )
    keras.utils.set_random_seed(0)
    model = MaskRCNN("training", config, str(folder))
    propose_anchors(model.keras_model)
    with contextlib.suppress(FileNotFoundError):
        model.load_weights(model.find_last())
    data = random_rectangles(7)
    model.train(data, None, 1e-3, epochs, "all", custom_callbacks=[Steps()], verbose=0)


def check(folder, kills):
    """Kill a run at random moments until it is done, and compare its curve with an unbroken one.

    Returns:
        Number of kills, number of trained steps, largest difference of a mean loss.
    """
    import numpy as np

    from mrcnn.weights import hdf5

    epochs, seed = kills, random.Random(kills)
    for name in ("whole", "parts"):
        (folder / name).mkdir()
    subprocess.run(command(folder / "whole", epochs), check=True)
    path, killed = folder / "parts" / STEP_FILE, 0
    while True:
        before = len(steps_in(path))
        process = subprocess.Popen(command(folder / "parts", epochs))
        while process.poll() is None and killed < kills:
            if len(steps_in(path)) > before:
                time.sleep(seed.uniform(0, 0.5))
                process.kill()
                killed += 1
                break
            time.sleep(0.01)
        is_done = process.wait() == 0
        for checkpoint in (folder / "parts").glob("*/mask_rcnn_*.h5"):
            with hdf5.open_weights(checkpoint) as root:
                assert root.group("optimizer_weights") is not None
        if is_done:
            break
    whole = {(e, s): losses for e, s, *losses in steps_in(folder / "whole" / STEP_FILE)}
    steps = steps_in(path)
    worst = max(abs(np.array(losses) - whole[e, s]).max() for e, s, *losses in steps)
    # A step is trained twice if its state was lost with the process; none is passed over.
    order = [e * STEPS + s for e, s, *_ in steps]
    assert all(0 <= later - one <= 1 for one, later in zip(order[:-1], order[1:], strict=True))
    assert sorted(set(order)) == list(range(epochs * STEPS))
    return killed, len(steps), worst


def command(folder, epochs):
    return [sys.executable, __file__, "train", folder, str(epochs)]


def steps_in(path):
    """`[epoch, step, losses …]` of each whole line."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.split("\n")[:-1]]


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "goldens")]
    from mrcnn import quiet

    quiet.import_keras()
    if sys.argv[1] == "train":
        train(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            began = time.monotonic()
            killed, steps, worst = check(Path(temporary), int(sys.argv[2]))
            seconds = time.monotonic() - began
        print(f"{killed} kills, {steps} steps, largest difference {worst:.2g}, {seconds:.0f} s")
