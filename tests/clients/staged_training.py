"""Three stages on weights of another number of classes, with augmentation and callbacks."""

import os
import sys

import imgaug.augmenters as iaa
import keras
import numpy as np
from shapes_project import ShapesConfig, make_dataset

from mrcnn import model as modellib

ROOT = sys.argv[1]
MODEL_DIR = os.path.join(ROOT, "logs")
PRETRAINED = os.path.join(ROOT, "mask_rcnn_pretrained.h5")


class PretrainedConfig(ShapesConfig):
    NAME = "many"
    NUM_CLASSES = 1 + 9


class PrintLosses(keras.callbacks.Callback):
    def __init__(self):
        super(PrintLosses, self).__init__()
        self.rows = []

    def on_epoch_end(self, epoch, logs=None):
        logs = logs or {}
        self.rows.append(dict(logs))
        print("epoch {} loss {:.4f} val {:.4f}".format(epoch, logs["loss"], logs["val_loss"]))


# The weights to start from, as another project left them.
model = modellib.MaskRCNN(mode="training", config=PretrainedConfig(), model_dir=MODEL_DIR)
model.keras_model.save_weights(PRETRAINED)

config = ShapesConfig()
dataset_train, dataset_val = make_dataset(6), make_dataset(2, seed=5)
model = modellib.MaskRCNN(mode="training", config=config, model_dir=MODEL_DIR)
conv1 = model.keras_model.get_layer("conv1")
conv1_at_start = conv1.get_weights()[0].copy()
model.load_weights(
    PRETRAINED,
    by_name=True,
    exclude=["mrcnn_class_logits", "mrcnn_bbox_fc", "mrcnn_bbox", "mrcnn_mask"],
)
conv1_loaded = conv1.get_weights()[0].copy()
print("pretrained taken", not np.allclose(conv1_at_start, conv1_loaded))

augmentation = iaa.SomeOf(
    (0, 2),
    [
        iaa.Fliplr(0.5),
        iaa.Flipud(0.5),
        iaa.OneOf([iaa.Affine(rotate=90), iaa.Affine(rotate=180), iaa.Affine(rotate=270)]),
        iaa.Multiply((0.8, 1.5)),
        iaa.GaussianBlur(sigma=(0.0, 2.0)),
    ],
)
printer = PrintLosses()
callbacks = [
    printer,
    keras.callbacks.ReduceLROnPlateau(monitor="val_loss", factor=0.5, patience=5),
    keras.callbacks.CSVLogger(os.path.join(ROOT, "history.csv"), append=True),
    keras.callbacks.EarlyStopping(monitor="val_loss", patience=50),
]

history = None
for epochs, layers, rate in ((1, "heads", 1e-3), (2, "4+", 1e-4), (4, "all", 1e-5)):
    print("stage", layers)
    model.train(
        dataset_train,
        dataset_val,
        learning_rate=rate,
        epochs=epochs,
        layers=layers,
        augmentation=augmentation,
        custom_callbacks=callbacks,
        no_augmentation_sources=["elsewhere"],
    )
    moved = not np.array_equal(conv1_loaded, conv1.get_weights()[0])
    print("after {}: epoch {}, conv1 moved {}".format(layers, model.epoch, moved))
    stage = model.keras_model.history.history
    history = stage if history is None else {k: history[k] + stage[k] for k in history}

print("epochs", len(history["loss"]), "keys", sorted(history))
for row in printer.rows:
    parts = sum(v for k, v in row.items() if k.endswith("_loss") and not k.startswith("val_"))
    print("total {:.6f} parts {:.6f}".format(row["loss"], parts))
final = os.path.join(ROOT, "mask_rcnn_final.h5")
model.keras_model.save_weights(final)
np.save(os.path.join(ROOT, "conv1.npy"), conv1.get_weights()[0])
