"""What Keras recorded of a graph."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from mrcnn.execution.graph_record import arguments_of, call_of, calls_before, tensors_between


@pytest.fixture(scope="module")
def diamond():
    """An input, two layers on it, and their sum."""
    x = keras.Input((3,), name="x")
    left = layers.Dense(3, name="left")(x)
    right = layers.Dense(3, name="right")(x)
    return x, left, right, layers.Add(name="sum")([left, right])


def test_a_call_knows_its_layer_and_its_tensors(diamond):
    x, left, right, total = diamond
    call = call_of(total)
    assert call.layer.name == "sum" and not call.is_input
    assert [id(t) for t in call.inputs] == [id(left), id(right)]
    assert [id(t) for t in call.outputs] == [id(total)]
    assert call_of(x).is_input


def test_arguments_take_values_in_place_of_tensors(diamond):
    _, left, right, total = diamond
    args, kwargs = arguments_of(call_of(total), {id(left): 1.0, id(right): 2.0})
    assert args == ([1.0, 2.0],) and not kwargs


def test_calls_are_visited_once_and_the_nearest_first(diamond):
    x, left, right, total = diamond
    seen = []
    assert [c.layer.name for c in calls_before(total, seen)] == ["sum", "left", "x", "right"]
    assert [id(t) for t in seen] == [id(t) for t in (total, left, x, right)]
    assert [c.layer.name for c in calls_before([total], [left])] == ["sum", "right", "x"]


def test_tensors_between_come_in_the_order_of_computation(diamond):
    x, left, right, total = diamond
    way = tensors_between(x, total)
    assert {id(t) for t in way} == {id(left), id(right), id(total)} and way[-1] is total
    assert [id(t) for t in tensors_between(left, total)][-3:] == [id(x), id(right), id(total)]


def test_operations_on_tensors_are_calls_too():
    x = keras.Input((4, 6))
    part = x[:, :2]
    args, _ = arguments_of(call_of(part), {id(x): np.zeros((1, 4, 6))})
    assert call_of(part).inputs[0] is x and np.shape(args[0]) == (1, 4, 6)
    assert call_of(ops.relu(part)).inputs[0] is part


def test_what_is_no_tensor_of_a_graph_is_named():
    with pytest.raises(ValueError, match="is no tensor of a model"):
        call_of(np.zeros(3))
