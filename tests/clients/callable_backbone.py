"""A backbone of one's own, given to the Config as functions."""

import sys

import keras.layers as KL
import numpy as np
from shapes_project import ShapesConfig, make_dataset, small_backbone, small_shapes

import mrcnn.model as modellib


class FrozenNorm(modellib.BatchNorm):
    """Never batch statistics, whatever it is told."""

    def call(self, inputs, training=None):
        return super(FrozenNorm, self).call(inputs, training=False)


def depthwise_block(x, filters, stage, train_bn, strides=(2, 2)):
    x = KL.DepthwiseConv2D(
        (3, 3), strides=strides, padding="same", name="res{}_dw".format(stage), use_bias=False
    )(x)
    x = FrozenNorm(name="bn{}_dw".format(stage), axis=3)(x, training=train_bn)
    x = KL.ReLU(6.0, name="res{}_dw_relu".format(stage))(x)
    x = KL.Conv2D(filters, (1, 1), padding="same", name="res{}_pw".format(stage))(x)
    x = modellib.BatchNorm(name="bn{}_pw".format(stage))(x, training=train_bn)
    return KL.Activation("relu", name="res{}_out".format(stage))(x)


def mobile_graph(config, input_image, stage5=False, train_bn=True):
    """A method of the Config, as a function set in its class is."""
    assert config.NAME == "mobile"
    x = KL.Conv2D(8, (3, 3), strides=(2, 2), padding="same", name="conv1")(input_image)
    x = modellib.BatchNorm(name="bn_conv1")(x, training=train_bn)
    C1 = KL.Activation("relu")(x)
    C2 = depthwise_block(C1, 16, 2, train_bn)
    C3 = depthwise_block(C2, 16, 3, train_bn)
    C4 = depthwise_block(C3, 24, 4, train_bn)
    C5 = depthwise_block(C4, 32, 5, train_bn) if stage5 else None
    return [C1, C2, C3, C4, C5]


def mobile_shapes(config, image_shape):
    return np.array(
        [
            [-(-image_shape[0] // stride), -(-image_shape[1] // stride)]
            for stride in config.BACKBONE_STRIDES
        ]
    )


class MobileConfig(ShapesConfig):
    NAME = "mobile"
    BACKBONE = mobile_graph
    COMPUTE_BACKBONE_SHAPE = mobile_shapes
    # A fixed learning set: batch statistics may move.
    TRAIN_BN = None
    GRADIENT_CLIP_NORM = 1.0


class AssignedConfig(ShapesConfig):
    """The same network as in ShapesConfig, but assigned to the instance."""

    NAME = "assigned"

    def __init__(self):
        self.BACKBONE = small_backbone
        self.COMPUTE_BACKBONE_SHAPE = small_shapes
        super(AssignedConfig, self).__init__()


logs = sys.argv[1]
dataset = make_dataset(6)
dataset_val = make_dataset(2, seed=1)

config = MobileConfig()
config.display()
print("pyramid", modellib.compute_backbone_shapes(config, config.IMAGE_SHAPE).tolist())
model = modellib.MaskRCNN(mode="training", config=config, model_dir=logs)
frozen_before = model.keras_model.get_layer("bn3_dw").get_weights()
moving_before = model.keras_model.get_layer("bn3_pw").get_weights()
model.train(dataset, dataset_val, learning_rate=0.002, epochs=1, layers="all")
frozen = model.keras_model.get_layer("bn3_dw").get_weights()
moving = model.keras_model.get_layer("bn3_pw").get_weights()
# gamma, beta, moving mean, moving variance
print("frozen moved", not np.array_equal(frozen_before[2], frozen[2]))
print("free moved", not np.array_equal(moving_before[2], moving[2]))


class MobileInferenceConfig(MobileConfig):
    IMAGES_PER_GPU = 1


model = modellib.MaskRCNN(mode="inference", config=MobileInferenceConfig(), model_dir=logs)
model.load_weights(model.find_last(), by_name=True)
results = model.detect([dataset_val.load_image(0)], verbose=1)
print("detected", len(results[0]["rois"]), results[0]["masks"].shape)

model = modellib.MaskRCNN(mode="inference", config=AssignedConfig(), model_dir=logs)
print("assigned", model.get_anchors((64, 64, 3)).shape)
