"""Blocks that are computed again: where they end, their values and gradients."""

import keras
import numpy as np
from keras import layers, ops

from mrcnn import backend
from mrcnn.execution.graph_record import call_of
from mrcnn.execution.recomputation import block_ends, values_at_ends
from mrcnn.execution.walk import values_of
from mrcnn.nn.backbone import resnet_graph
from tests.execution.graphs import norm, random_images, randomized
from tests.gradients import gradients


def block(x, filters):
    y = layers.Activation("relu")(norm()(layers.Conv2D(filters, 3, padding="same")(x)))
    return layers.Activation("relu")(layers.Add()([layers.Conv2D(filters, 1)(x), y]))


def test_blocks_of_a_resnet_end_in_its_sums():
    image = keras.Input((64, 64, 3))
    *_, c5 = resnet_graph(image, "resnet50", stage5=True, train_bn=False)
    names = [call_of(end).layer.name for end in block_ends(c5, image)]
    assert len(names) == 3 + 4 + 6 + 3
    assert names[:2] == ["res2a_out", "res2b_out"] and names[-1] == "res5c_out"


def test_a_sum_that_something_leads_past_ends_no_block():
    x = keras.Input((8, 8, 3))
    inside = layers.Add()([x, layers.Conv2D(3, 1)(x)])
    last = layers.Add()([layers.Conv2D(3, 1)(inside), layers.Conv2D(3, 1)(x)])
    assert block_ends(inside, x) == [inside]
    assert block_ends(layers.Conv2D(2, 1)(last), x) == [inside]


def test_blocks_computed_again_have_the_same_values_and_gradients(monkeypatch):
    x = keras.Input((8, 8, 3))
    y = block(block(block(x, 4), 4), 5)
    randomized(keras.Model(x, y))
    ends = block_ends(y, x)
    assert len(ends) == 3
    calls = []
    original = backend.conv2d
    monkeypatch.setattr(backend, "conv2d", lambda *a: calls.append(a) or original(*a))

    def value(image, again):
        given = [(x, image), *(values_at_ends(ends, x, image) if again else ())]
        (result,) = values_of([y], given)
        return ops.mean(ops.square(result))

    images, found, counts = random_images(2, 8, 8, 3), [], []
    for again in (False, True):
        calls.clear()
        found += gradients(lambda image, again=again: value(image, again), images)
        counts.append(len(calls))
    # The largest value is 3,670: its last digit in float32 is 2e-4, on any of the values.
    largest = np.abs(found[0]).max()
    assert largest > 0.01
    np.testing.assert_allclose(*found, rtol=1e-5, atol=1e-6 * largest)
    if keras.backend.backend() != "jax":  # which has its compiler do it
        assert counts == [6, 12]
