"""scripts/benchmark.py with its tiny network: what is measured, printed and written."""

import json
import sys

import numpy as np
import pytest

from mrcnn.geometry.boxes import compute_overlaps
from mrcnn.geometry.masks import extract_bboxes
from scripts import benchmark as script
from scripts.benchmarks import networks, rows
from scripts.benchmarks.measuring import Settings, in_turn

QUICK = Settings(quick=True, repeats=2)


# ---- Command line --------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_command_prints_a_table_and_appends_to_the_days_file(tmp_path, capfd):
    assert script.main(["data", "--quick", "--repeats", "1", "--output", str(tmp_path)]) == 0
    printed = capfd.readouterr().out
    assert "images per GEMM" in printed and ">= 14" in printed
    (path,) = tmp_path.iterdir()
    (first,) = json.loads(path.read_text())
    assert script.append(tmp_path, first) == path
    assert json.loads(path.read_text()) == [first, first]
    assert first["command"] == f"scripts/benchmark.py data --quick --repeats 1 --output {tmp_path}"
    assert first["backend"] == "tensorflow"
    assert first["versions"]["numpy"] == np.__version__
    assert path.name.startswith(first["date"][:10])
    (row,) = first["rows"]
    assert row["repeats"] == 1
    seconds, gemm = row["seconds"]["median"], row["gemm_seconds"]["median"]
    assert row["images_per_gemm"] == pytest.approx(10 * gemm / seconds, rel=0.01)


def test_a_row_that_fails_is_said_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    def run(function, arguments, settings, backend):
        if arguments["policy"] == "float32":
            raise RuntimeError("exit status 1: out of memory")
        return {"gemms": {"median": 3.0, "min": 2.0}}

    monkeypatch.setattr(rows, "run", run)
    assert script.main(["train", "--only", "few", "--output", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "out of memory" in printed and "3.00 GEMMs (min 2.00)" in printed
    (path,) = tmp_path.iterdir()
    failed, measured = json.loads(path.read_text())[0]["rows"]
    assert failed["error"] == "exit status 1: out of memory"
    assert measured["gemms"] == {"median": 3.0, "min": 2.0}


def test_what_a_process_said_last_is_the_reason_of_its_failure():
    with pytest.raises(RuntimeError, match="exit status 1: .*unexpected keyword argument 'wrong'"):
        rows.run("data", {"wrong": 1}, QUICK)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["detect", "--only", "R152"], "'R152' names no row of detect"),
        (["detect", "--repeats", "0"], "--repeats is 0; it must be at least 1"),
        (["speed"], "invalid choice"),
    ],
)
def test_a_wrong_command_line_is_told(arguments, message, capsys):
    with pytest.raises(SystemExit):
        script.parse_arguments(arguments)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("command", ["detect", "train", "data", "memory", "import", "gpu"])
def test_every_row_names_a_function_and_its_arguments(command):
    chosen = script.rows_of(command, "", quick=False)
    assert chosen
    for row in chosen:
        function = rows.FUNCTIONS[row.function]
        names = function.__code__.co_varnames[1 : function.__code__.co_argcount]
        assert set(row.arguments) <= set(names)


def test_torchvision_is_compared_at_the_same_batch():
    measured = [
        (row, {"images_per_second": 10.0 if row.backend else 25.0})
        for row in script.gpu_rows(quick=False)
    ]
    script.compare_with_torchvision(measured)
    assert {row.backend for row, _ in measured} == {None, "torch"}
    for row, result in measured:
        ours = row.backend is None and row.arguments["backbone"] == "resnet50"
        assert result.get("times_torchvision") == (2.5 if ours else None)


# ---- What is measured ---------------------------------------------------------------------------


def test_work_and_product_take_turns(monkeypatch):
    order = []

    def product(side):
        assert side == QUICK.gemm
        return lambda: order.append("gemm")

    monkeypatch.setattr("scripts.benchmarks.measuring.matrix_product", product)
    result = in_turn(lambda: order.append("work"), QUICK, images=3)
    assert order == ["work"] * 2 + ["gemm"] * 3 + ["work", "gemm"] * 2
    ratio = result["seconds"]["median"] / result["gemm_seconds"]["median"]
    assert result["gemms"]["median"] == ratio
    assert result["images_per_gemm"] == pytest.approx(3 / ratio)


@pytest.mark.slow
def test_detection_finds_as_many_as_are_asked_for():
    every = rows.detect(QUICK, "resnet50", "float32")
    assert every["detections"] == 100
    few = rows.detect(QUICK, "resnet50", "mixed_bfloat16", (480, 640), 8, "rectangle")
    assert few["detections"] == 8
    assert 0 <= few["agreement"]["masks"] <= few["agreement"]["boxes"] <= 1


@pytest.mark.slow
def test_objects_where_proposals_are_make_more_of_them_positive():
    few = rows.train(QUICK, "resnet50", "float32", "few")
    many = rows.train(QUICK, "resnet50", "float32", "many")
    assert len(few["positive_rois"]) == len(many["positive_rois"]) == 2
    assert sum(many["positive_rois"]) > sum(few["positive_rois"])


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_rows_and_start():
    for function in (rows.memory_detect, rows.memory_train):
        assert 0.05 < function(QUICK)["gigabytes"] < 20
    for function in (rows.flat_detect, rows.flat_train):
        result = function(QUICK)
        after = result["gigabytes_after_6"]
        assert result["growth"] == pytest.approx(after / result["gigabytes_after_3"] - 1)
    result = rows.start(Settings(quick=True, repeats=1))
    assert sum(result["parts"].values()) == pytest.approx(result["seconds"]["median"])


@pytest.mark.slow
def test_profiles_name_operations_and_functions(capsys):
    rows.detect(Settings(quick=True, profile=True, repeats=1), "resnet50", "float32")
    printed = capsys.readouterr().out
    assert "Conv2D" in printed
    assert "molding.py" in printed


def found(boxes, class_ids, masks):
    return {"rois": np.array(boxes), "class_ids": np.array(class_ids), "masks": masks}


def test_agreement_asks_for_class_box_and_mask():
    masks = np.zeros((20, 20, 4), bool)
    masks[:10, :10] = True
    boxes = [[0, 0, 10, 10]] * 4
    reference = found(boxes, [1, 2, 3, 4], masks)
    other_masks = masks.copy()
    other_masks[:1, :, 3] = False  # IoU 0.9
    other_boxes = [[2, 0, 10, 8], [0, 0, 10, 13], *boxes[2:]]
    other = found(other_boxes, [1, 2, 9, 4], other_masks)
    assert rows.agreement(reference, reference) == {"boxes": 1.0, "masks": 1.0}
    assert rows.agreement(reference, other) == {"boxes": 0.5, "masks": 0.25}
    none = found(np.zeros((0, 4)), [], masks[:, :, :0])
    assert rows.agreement(reference, none) == {"boxes": 0.0, "masks": 0.0}


def test_crowded_places_are_those_with_most_proposals():
    lonely, crowd = [100, 100, 130, 130], [[10 + i, 10, 40 + i, 40] for i in range(4)]
    (box,) = rows._crowded(np.array([lonely, *crowd]), 1)
    assert compute_overlaps(np.float32([box]), np.float32(crowd)).min() >= 0.5
    (_, second) = rows._crowded(np.array([lonely, *crowd]), 2)
    assert second.tolist() == lonely


def test_ellipses_fill_their_boxes():
    boxes = networks.random_boxes(2, 3, (60, 80))
    dataset = networks.Ellipses(boxes, (60, 80))
    for image_id, of_image in enumerate(boxes):
        assert dataset.load_image(image_id).shape == (60, 80, 3)
        masks, class_ids = dataset.load_mask(image_id)
        assert np.abs(extract_bboxes(masks) - of_image).max() <= 1
        assert class_ids.tolist() == [1, 2, 3]


def test_a_photo_keeps_its_proportions():
    tall, wide = networks.photo(64, 64), networks.photo(48, 64)
    assert tall.shape == (64, 64, 3) and wide.shape == (48, 64, 3)
    assert np.abs(tall[:48].astype(int) - wide).mean() < 1


def test_weights_are_the_same_each_time():
    config = networks.make_config("small", 128)
    first, second = (networks.make_model("inference", config).keras_model for _ in range(2))
    for a, b in zip(first.weights, second.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
