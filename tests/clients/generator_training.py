"""Loops of one's own, and subclasses of MaskRCNN that train in another way."""

import math
import os
import sys

import keras
import numpy as np
from shapes_project import ShapesConfig, make_dataset

import mrcnn.model as modellib

MODEL_DIR = os.path.join(sys.argv[1], "logs")
dataset_train, dataset_val = make_dataset(6), make_dataset(2, seed=9)


def batches(dataset, config):
    return modellib.data_generator(
        dataset, config, shuffle=True, augmentation=None, batch_size=config.BATCH_SIZE
    )


# ---- 1: train_on_batch ------------------------------------------------------------------------
config = ShapesConfig()
model = modellib.MaskRCNN("training", config, MODEL_DIR)
model.set_trainable(r"(mrcnn\_.*)|(rpn\_.*)|(fpn\_.*)", verbose=1)
model.compile(config.LEARNING_RATE, config.LEARNING_MOMENTUM)
generator = batches(dataset_train, config)
for step in range(2):
    inputs, outputs = next(generator)
    assert len(inputs) == 7 and outputs == []
    losses = model.keras_model.train_on_batch(inputs, outputs)
    print("train_on_batch", step, np.ravel(losses)[0])
print("metrics", model.keras_model.metrics_names)

# ---- 2: fit on the generator ------------------------------------------------------------------
history = model.keras_model.fit(
    generator,
    initial_epoch=0,
    epochs=2,
    steps_per_epoch=2,
    validation_data=batches(dataset_val, config),
    validation_steps=1,
    verbose=2,
)
print("fit", len(history.history["loss"]), sorted(history.history))


# ---- 3: a schedule by overriding compile and train ---------------------------------------------
class CosineMaskRCNN(modellib.MaskRCNN):
    """Adam, and a learning rate that falls with the cosine."""

    def __init__(self, mode, config, model_dir, total_epochs):
        self.total_epochs = total_epochs
        super(CosineMaskRCNN, self).__init__(mode, config, model_dir)

    def compile(self, learning_rate, momentum):
        super(CosineMaskRCNN, self).compile(learning_rate, momentum)
        self.keras_model.compile(
            optimizer=keras.optimizers.Adam(learning_rate=learning_rate),
            loss=[None] * len(self.keras_model.outputs),
        )

    def train(self, train_dataset, val_dataset, learning_rate, epochs, layers, **kwargs):
        def cosine(epoch):
            rate = learning_rate * 0.5 * (1 + math.cos(math.pi * epoch / self.total_epochs))
            print("rate for epoch {}: {:.6f}".format(epoch, rate))
            return rate

        callbacks = list(kwargs.pop("custom_callbacks", None) or [])
        callbacks.append(keras.callbacks.LearningRateScheduler(cosine))
        super(CosineMaskRCNN, self).train(
            train_dataset,
            val_dataset,
            learning_rate,
            epochs,
            layers,
            custom_callbacks=callbacks,
            **kwargs
        )


class CosineConfig(ShapesConfig):
    NAME = "cosine"


model = CosineMaskRCNN("training", CosineConfig(), MODEL_DIR, total_epochs=2)
model.train(dataset_train, dataset_val, 0.001, 2, "all")
print("optimizer", type(model.keras_model.optimizer).__name__, "epoch", model.epoch)


# ---- 4: build overridden, the log folder chosen -----------------------------------------------
class NamedRun(modellib.MaskRCNN):
    """No date in the folder's name; a graph with a name of its own on top."""

    def build(self, mode, config):
        keras_model = super(NamedRun, self).build(mode, config)
        keras_model.get_layer("conv1").trainable = False
        return keras_model

    def set_log_dir(self, model_path=None):
        self.epoch = 0
        self.log_dir = os.path.join(self.model_dir, "chosen")
        self.checkpoint_path = os.path.join(self.log_dir, "mask_rcnn_chosen_{epoch:04d}.h5")


model = NamedRun("training", config, MODEL_DIR)
model.train(dataset_train, None, 0.001, 1, "heads")
print("chosen", sorted(os.listdir(model.log_dir)))


# ---- 5: train written anew, as forks do ---------------------------------------------------------
class OwnTrain(modellib.MaskRCNN):
    def train(self, train_dataset, val_dataset, learning_rate, epochs, layers):
        assert self.mode == "training", "Create model in training mode."
        train_generator = modellib.data_generator(
            train_dataset, self.config, shuffle=True, batch_size=self.config.BATCH_SIZE
        )
        val_generator = modellib.data_generator(
            val_dataset, self.config, shuffle=True, batch_size=self.config.BATCH_SIZE
        )
        if not os.path.exists(self.log_dir):
            os.makedirs(self.log_dir)
        callbacks = [
            keras.callbacks.TensorBoard(
                log_dir=self.log_dir, histogram_freq=0, write_graph=True, write_images=False
            ),
            keras.callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: self.keras_model.save_weights(
                    self.checkpoint_path.format(epoch=epoch + 1)
                )
            ),
        ]
        self.set_trainable(layers)
        self.compile(learning_rate, self.config.LEARNING_MOMENTUM)
        modellib.log("Checkpoint Path: {}".format(self.checkpoint_path))
        self.keras_model.fit(
            train_generator,
            initial_epoch=self.epoch,
            epochs=epochs,
            steps_per_epoch=self.config.STEPS_PER_EPOCH,
            callbacks=callbacks,
            validation_data=val_generator,
            validation_steps=self.config.VALIDATION_STEPS,
        )
        self.epoch = max(self.epoch, epochs)


class OwnConfig(ShapesConfig):
    NAME = "own"


model = OwnTrain("training", OwnConfig(), MODEL_DIR)
model.train(dataset_train, dataset_val, 0.001, 1, ".*")
print("own", model.epoch, os.path.basename(model.find_last()))


# ---- 6: ROIs from outside ------------------------------------------------------------------------
class NoRpnConfig(ShapesConfig):
    NAME = "norpn"
    USE_RPN_ROIS = False


config = NoRpnConfig()
model = modellib.MaskRCNN("training", config, MODEL_DIR)
model.compile(0.001, 0.9)
generator = modellib.data_generator(
    dataset_train, config, random_rois=config.POST_NMS_ROIS_TRAINING, batch_size=config.BATCH_SIZE
)
inputs, _ = next(generator)
print("given rois", len(inputs), np.ravel(model.keras_model.train_on_batch(inputs, []))[0])


# ---- 7: a detector with a constructor and an unmolding of its own -----------------------------
class Detector(modellib.MaskRCNN):
    """Keeps the best detection of an image, and counts them all."""

    def __init__(self, mode, config, model_dir):
        assert mode in ["training", "inference"]
        self.mode = mode
        self.config = config
        self.model_dir = model_dir
        self.set_log_dir()
        self.keras_model = self.build(mode=mode, config=config)
        self.seen = 0

    def unmold_detections(self, detections, mrcnn_mask, *shapes):
        boxes, class_ids, scores, masks = super(Detector, self).unmold_detections(
            detections, mrcnn_mask, *shapes
        )
        self.seen += len(boxes)
        return boxes[:1], class_ids[:1], scores[:1], masks[:, :, :1]


class DetectorConfig(OwnConfig):
    IMAGES_PER_GPU = 1


detector = Detector("inference", DetectorConfig(), MODEL_DIR)
detector.load_weights(detector.find_last(), by_name=True)
r = detector.detect([dataset_val.load_image(0)])[0]
print("detector", detector.seen, len(r["rois"]), r["masks"].shape)
