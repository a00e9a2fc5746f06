"""The report on weights: findings, parts, differences."""

import numpy as np
import pytest

from mrcnn.inspection.page import write_report
from mrcnn.inspection.weights import (
    bars,
    by_part,
    differences,
    read_weights,
    state,
    weight_sections,
)
from mrcnn.weights import save_weights, torch_files
from tests.inspection.test_page import check_page
from tests.tiny import tiny_model


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    model, *_ = tiny_model()
    path = tmp_path_factory.mktemp("weights") / "tiny.h5"
    save_weights(model, path)
    return path, model


def test_all_arrays_of_a_file_are_read(saved):
    path, model = saved
    weights = read_weights(path)
    count = sum(w.path.count("seed") == 0 for w in model.weights)
    assert len(weights) == count
    kernel = model.get_layer("conv1").get_weights()[0]
    np.testing.assert_array_equal(weights["conv1, 1"], kernel)


@pytest.mark.parametrize(
    ("array", "remark"),
    [
        (np.array([[1.0, 2.0]]), ""),
        (np.array([1.0, 1.0]), ""),
        (np.array([[0.0, 0.0]]), "dead: all values are 0"),
        (np.array([[1.0, np.nan, np.inf]]), "2 of 3 values are NaN or infinite"),
        (np.array([[np.nan]]), "1 of 1 values are NaN or infinite"),
        (np.array([[1.0, -5000.0]]), "values up to 5e+03"),
        (np.zeros((0, 3)), ""),
    ],
)
def test_what_is_wrong_with_an_array(array, remark):
    stated = state("conv1, 1", array)
    assert stated.remark == remark
    finite = array[np.isfinite(array)]
    if finite.size:
        assert (stated.low, stated.high) == (finite.min(), finite.max())
        assert stated.mean == pytest.approx(finite.mean())
        assert stated.spread == pytest.approx(finite.std())
    else:
        assert stated.low is None


def test_a_histogram_in_text():
    assert bars(np.array([0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])) == "▁" + 14 * " " + "█"
    assert len(bars(np.zeros(3))) == 16 and len(bars(np.zeros(0))) == 16
    bell = bars(np.random.default_rng(0).normal(size=100_000))
    assert bell.index("█") in (7, 8) and bell.count("█") <= 2


def test_weights_of_pytorch(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "net.safetensors"
    arrays = {"conv1.weight": np.ones((4, 3, 2, 2), np.float32), "fc.bias": np.zeros(4, np.float32)}
    safetensors.save_file(arrays, path)
    weights = read_weights(path)
    assert set(weights) == set(arrays)
    rows = weight_sections(weights)[0].parts[0].rows
    assert rows == [["conv1.weight", "dead: all values are 1"]]


def test_a_view_that_is_larger_than_its_file_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "small.pth"
    path.write_bytes(b"0" * 100)
    huge = np.broadcast_to(np.float32(0), (10**12,))
    monkeypatch.setattr(torch_files, "is_checkpoint", lambda _: True)
    monkeypatch.setattr(torch_files, "read_checkpoint", lambda _: ({"a": huge}, []))
    with pytest.raises(ValueError, match="states more values than it has bytes, in a"):
        read_weights(path)


def test_parts_follow_the_network(saved):
    parts = by_part(read_weights(saved[0]))
    assert list(parts) == [
        "conv1",
        *(f"stage {i}" for i in (2, 3, 4, 5)),
        "FPN",
        "RPN",
        "class and box",
        "mask",
    ]
    assert list(by_part({"dense_7, 1": np.ones(2)})) == ["others"]


def test_differences_by_array(saved, tmp_path):
    weights = read_weights(saved[0])
    other = {name: array * 2 for name, array in weights.items()}
    other["conv1, 1"] = weights["conv1, 1"]
    other["mrcnn_mask, 1"] = np.ones(3)
    del other["fpn_c5p5, 1"]
    found = differences(weights, other)
    assert found["conv1, 1"] == 0 and found["mrcnn_mask, 1"] is None
    assert "fpn_c5p5, 1" not in found and found["fpn_c4p4, 1"] == pytest.approx(0.5)
    sections = weight_sections(weights, other)
    text = check_page(write_report(tmp_path / "report", "Weights", [], sections))
    assert "another shape" in text and "only here" in text


def test_weights_with_nothing_in_common():
    one, two = {"a, 1": np.ones((2, 2))}, {"b, 1": np.ones((2, 2))}
    with pytest.raises(ValueError, match=r"no layer in common: one has a, 1, the other b, 1"):
        weight_sections(one, two)
