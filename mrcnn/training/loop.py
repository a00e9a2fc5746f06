"""Training: the Keras model that compares its outputs, what of it trains, and the run folder.

A run has a folder `logs/<name><YYYYmmddTHHMM>/` with TensorBoard events and a checkpoint an epoch,
`mask_rcnn_<name>_<epoch:04d>.h5`. The path of a checkpoint says which run and epoch it is, so
loading one is enough to go on with that run.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import os

import keras
from keras import ops

from mrcnn.config import Config
from mrcnn.data.loader import BatchLoader, check_same_classes
from mrcnn.training import distribution
from mrcnn.training.model import TrainingModel
from mrcnn.training.optimizers import set_schedule
from mrcnn.training.run import RunFolder
from mrcnn.weights.checkpoint import save_checkpoint

logger = logging.getLogger("mrcnn")


# ---- The model -------------------------------------------------------------------------------


# ---- Learning rate -----------------------------------------------------------------------------


# ---- What trains -----------------------------------------------------------------------------


# ---- Run folder --------------------------------------------------------------------------------


# ---- Training --------------------------------------------------------------------------------


class ValidationLoader(BatchLoader):
    """The same random batches every epoch, so that the losses of epochs compare."""

    def on_epoch_end(self) -> None:
        pass


class Checkpoint(keras.callbacks.Callback):
    """Writes weights and optimizer state after every epoch.

    Args:
        path: pattern with `{epoch:04d}`.
    """

    def __init__(self, path: str):
        super().__init__()
        self.path = path

    def on_epoch_end(self, epoch, logs=None):
        save_checkpoint(self.model, self.path.format(epoch=epoch + 1))


def _tensorboard(log_dir: str) -> list[keras.callbacks.Callback]:
    """Keras' callback that writes events, which takes TensorFlow, whatever the backend."""
    if importlib.util.find_spec("tensorflow") is None:
        logger.warning("TensorFlow is not installed: no TensorBoard events of epochs are written.")
        return []
    return [keras.callbacks.TensorBoard(log_dir=log_dir, write_graph=False)]


def _weight_averaging(model: TrainingModel) -> list[keras.callbacks.Callback]:
    """The callback that lets the averages stand in for the weights at the end of an epoch."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    if not optimizer.use_ema:
        return []
    if int(ops.convert_to_numpy(optimizer.iterations)):
        # Resumed: a checkpoint has the averages as its weights, and the weights as averages.
        back = keras.callbacks.SwapEMAWeights()
        back.set_model(model)
        back.on_test_begin()
    return [keras.callbacks.SwapEMAWeights(swap_on_epoch=True)]


def fit(
    model: TrainingModel,
    config: Config,
    train_dataset,
    val_dataset,
    run: RunFolder,
    epochs: int,
    augmentation=None,
    custom_callbacks=(),
    no_augmentation_sources=None,
    seed: int = 0,
) -> keras.callbacks.History:
    """Train a compiled model from the run's epoch up to `epochs`.

    Of several workers each reads its shard of a batch, and the first one alone writes checkpoints
    and TensorBoard. Their batch is BATCH_SIZE images of each.
    """
    check_same_classes(train_dataset, val_dataset)
    shard = (distribution.worker_index(), distribution.worker_count())
    set_schedule(model, config, (epochs - run.epoch) * math.ceil(config.STEPS_PER_EPOCH))
    train_loader = BatchLoader(
        train_dataset,
        config,
        steps=math.ceil(config.STEPS_PER_EPOCH),
        augmentation=augmentation,
        no_augmentation_sources=no_augmentation_sources,
        seed=seed,
        initial_epoch=run.epoch,
        shard=shard,
    )
    val_loader = None
    if val_dataset is not None and config.VALIDATION_STEPS:
        steps = math.ceil(config.VALIDATION_STEPS)
        val_loader = ValidationLoader(val_dataset, config, steps=steps, shard=shard)
    os.makedirs(run.log_dir, exist_ok=True)
    is_first = shard[0] == 0
    callbacks = [
        *_weight_averaging(model),
        *([Checkpoint(run.checkpoint_path)] if is_first else []),
        *(custom_callbacks or ()),
    ]
    if is_first:
        # Last, so that it shows what callbacks add to an epoch's logs.
        callbacks += _tensorboard(run.log_dir)
    try:
        return model.fit(
            train_loader,
            initial_epoch=run.epoch,
            epochs=epochs,
            callbacks=callbacks,
            validation_data=val_loader,
            # The loader shuffles; Keras would shuffle its batches by an order of its own.
            shuffle=False,
            verbose="auto" if is_first else 0,
        )
    except Exception:
        # TensorFlow turns an error of the loader into text inside one of its own.
        for loader in (train_loader, val_loader):
            if loader is not None and loader.failure is not None:
                raise loader.failure from None
        raise
