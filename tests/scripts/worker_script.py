"""What the workers of test_train_workers.py run: a tiny training that writes down its weights.

worker_script.py LOGS EPOCHS [--resume] [--die=WORKER,BATCH] [--stop=WORKER,BATCH]
"""

import os
import signal
import sys
from pathlib import Path

import keras
import numpy as np

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "goldens")]

from mrcnn.mask_rcnn import MaskRCNN  # noqa: E402
from mrcnn.training import distribution  # noqa: E402
from tests.tiny import propose_anchors, random_rectangles, tiny_config, weights_of  # noqa: E402


def main(logs, epochs, *options):
    worker = distribution.worker_index()
    model = MaskRCNN("training", tiny_config(IMAGES_PER_GPU=1), logs)
    propose_anchors(model.keras_model)
    if "--resume" in options:
        model.load_weights(model.find_last())
    seen = []

    class Seen(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if f"--stop={worker},{len(seen)}" in options:
                os.kill(os.getpid(), signal.SIGTERM)

        def on_train_batch_end(self, batch, logs=None):
            seen.append(float(logs["loss"]))
            if f"--die={worker},{len(seen)}" in options:
                os.kill(os.getpid(), signal.SIGKILL)

    dataset = random_rectangles(4)
    model.train(dataset, None, 0.001, int(epochs), "all", custom_callbacks=[Seen()])
    weights = weights_of(model.keras_model)
    np.savez(Path(logs) / f"after_{worker}.npz", losses=seen, epoch=model.epoch, **weights)


if __name__ == "__main__":
    main(*sys.argv[1:])
