"""evaluation/coco.py: data sets against plain forms and figures computed by hand."""

import copy
import json
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrcnn import evaluation
from mrcnn.geometry.masks import extract_bboxes
from mrcnn.mask_rcnn import MaskRCNN
from tests.evaluation.scenes import SIZE, Scenes, as_detection, filled, model_giving, random_boxes
from tests.slim import seed_weights
from tests.tiny import random_rectangles, tiny_config

# pycocotools 2.0.11 decodes with an __array__ that NumPy 2 finds old-fashioned.
decodes_masks = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def figures_of(coco_gt, results, iou_type):
    return evaluation.coco_figures(evaluation.run_coco_eval(coco_gt, results, iou_type))


@pytest.fixture
def without_faster_coco_eval(monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)


@pytest.fixture
def scenes():
    """Objects of three sizes, one that fills its image, a crowd, an image without objects."""
    touching = filled([[0, 0, 20, 20], [0, 180, 40, 200], [150, 0, 200, 60], [160, 160, 200, 200]])
    whole = np.ones((50, 70, 1), bool)
    rows, columns = np.mgrid[:120, :130]
    disc = (rows - 60) ** 2 + (columns - 60) ** 2 < 30**2
    ring = disc & ((rows - 60) ** 2 + (columns - 60) ** 2 > 20**2)
    crowd = columns > 100
    pixel = (rows == 0) & (columns == 0)
    mixed = np.stack([ring, crowd, pixel], axis=-1)
    return Scenes(
        [
            (touching, np.array([1, 2, 1, 1])),
            (np.zeros((80, 60, 0), bool), np.array([], int)),
            (whole, np.array([2])),
            (mixed, np.array([1, -2, 2])),
            (filled([[20, 20, 180, 180]]), np.array([1])),
            (np.zeros((0, 0, 0), bool), np.array([], int)),
        ]
    )


def perfect(scenes):
    return [as_detection(masks, np.abs(class_ids)) for masks, class_ids in scenes.scenes]


def test_ground_truth_as_detections_scores_one(scenes, capsys):
    calls = []
    figures = evaluation.evaluate(
        model_giving(perfect(scenes)), scenes, progress=lambda *call: calls.append(call)
    )
    assert set(figures) == {"bbox", "segm"}
    for iou_type in figures:
        assert list(figures[iou_type]) == list(evaluation.COCO_FIGURES)
        for name in ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100", "ARs", "ARm", "ARl"):
            assert figures[iou_type][name] == pytest.approx(1.0), (iou_type, name)
        assert all(type(value) is float for value in figures[iou_type].values())
    assert calls == [(i + 1, 6) for i in range(6)]
    assert capsys.readouterr().out == ""


def test_image_ids_and_limit_choose_images(scenes):
    wrong = perfect(scenes)
    wrong[0] = as_detection(np.zeros((200, 200, 0), bool), [])
    model = model_giving(wrong)
    chosen = evaluation.evaluate(model, scenes, image_ids=[4, 2, 3, 2, 0], limit=3)
    assert chosen["segm"]["AP"] == pytest.approx(1.0)
    assert evaluation.evaluate(model, scenes, limit=0)["segm"]["AP"] < 1
    assert evaluation.evaluate(model, scenes, image_ids=np.array([1]))["bbox"]["AP"] == -1


def test_no_detections_score_zero_and_absent_sizes_minus_one():
    medium = Scenes([(filled([[0, 0, 50, 50]]), np.array([1]))])
    coco_gt = evaluation.coco_ground_truth(medium)
    for iou_type in ("bbox", "segm"):
        figures = figures_of(coco_gt, [], iou_type)
        assert figures["AP"] == figures["APm"] == figures["AR100"] == 0
        assert figures["APs"] == figures["APl"] == figures["ARs"] == figures["ARl"] == -1


def test_what_is_found_in_a_crowd_is_not_counted(scenes):
    """Three detections inside the crowd, best scores of all, cost nothing."""
    coco_gt = evaluation.coco_ground_truth(scenes, [3])
    masks, class_ids = scenes.load_mask(3)
    inside = np.zeros((*masks.shape[:2], 3), bool)
    for i in range(3):
        inside[i * 30 : i * 30 + 20, 105:125, i] = True
    both = np.concatenate([inside, masks[..., [0, 2]]], axis=-1)
    results = evaluation.coco_results(3, as_detection(both, [2, 2, 2, 1, 2]))
    for iou_type in ("bbox", "segm"):
        assert figures_of(coco_gt, results, iou_type)["AP"] == pytest.approx(1.0)


def test_ap_of_a_shifted_detection_by_hand():
    objects = filled([[10, 10, 20, 20], [50, 50, 60, 60]])
    shifted = filled([[10, 10, 20, 20], [50, 52, 60, 62]])
    dataset = Scenes([(objects, np.array([1, 1]))], class_names=("BG", "square"))
    figures = evaluation.evaluate(model_giving([as_detection(shifted, [1, 1])]), dataset)
    # IoU 80 / 120: both found at 0.50 to 0.65; above, the first alone, so that precision is 1 at
    # the 51 of 101 recalls up to 0.5 and 0 beyond.
    half = 51 / 101
    for iou_type in ("bbox", "segm"):
        assert figures[iou_type]["AP50"] == pytest.approx(1.0)
        assert figures[iou_type]["AP75"] == pytest.approx(half)
        assert figures[iou_type]["AP"] == pytest.approx((4 + 6 * half) / 10)
        assert figures[iou_type]["AR1"] == pytest.approx(0.5)
        assert figures[iou_type]["AR10"] == pytest.approx((4 + 6 * 0.5) / 10)


def test_size_of_a_detected_mask_is_its_area_not_that_of_its_box():
    """A small diagonal in a large box: missed and wrong among small ones, not among large."""
    diagonal = np.eye(200, dtype=bool)[..., None]
    dataset = Scenes([(filled([[0, 100, 100, 200]]), np.array([1]))], class_names=("BG", "thing"))
    coco_gt = evaluation.coco_ground_truth(dataset)
    both = np.concatenate([diagonal, dataset.load_mask(0)[0]], axis=-1)
    results = evaluation.coco_results(0, as_detection(both, [1, 1]))
    assert figures_of(coco_gt, results, "segm")["APl"] == pytest.approx(1.0)
    # As a box the diagonal is a large false alarm that comes first.
    assert figures_of(coco_gt, results, "bbox")["APl"] == pytest.approx(0.5)


def iou_of_boxes(a, b):
    height = min(a[2], b[2]) - max(a[0], b[0])
    width = min(a[3], b[3]) - max(a[1], b[1])
    both = max(height, 0) * max(width, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def slow_coco_ap50(scenes, detections):
    """COCO's AP at IoU 0.5 of one class without crowds: precision at 101 recalls, averaged."""
    found, scored = {}, []
    for image, detection in enumerate(detections):
        for box, score in zip(detection["rois"], detection["scores"], strict=True):
            scored.append((score, image, box))
    scored.sort(key=lambda item: -item[0])
    objects = [extract_bboxes(masks) for masks, _ in scenes]
    hits = []
    for _, image, box in scored:
        taken = found.setdefault(image, set())
        ious = {j: iou_of_boxes(box, other) for j, other in enumerate(objects[image])}
        free = {j: iou for j, iou in ious.items() if j not in taken and iou >= 0.5}
        hits.append(bool(free))
        if free:
            taken.add(max(free, key=free.get))
    total = sum(map(len, objects))
    points = [(sum(hits[:k]) / total, sum(hits[:k]) / k) for k in range(1, len(hits) + 1)]
    recalls = np.linspace(0, 1, 101)
    return np.mean([max((p for r, p in points if r >= want), default=0) for want in recalls])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), images=st.integers(1, 3), noise=st.integers(0, 3))
def test_coco_ap50_equals_its_plain_form(seed, images, noise):
    rng = np.random.default_rng(seed)
    scenes, detections = [], []
    for image in range(images):
        boxes = random_boxes(rng, 1 + rng.integers(0, 5))
        scenes.append((filled(boxes, 40), np.ones(len(boxes), int)))
        guesses = boxes[rng.integers(0, len(boxes), 6)] + rng.integers(-noise, noise + 1, (6, 4))
        # Distinct scores: pycocotools orders equal ones by image.
        scores = (rng.permutation(6) * images + image + 1) / 100
        masks = filled(np.clip(guesses, 0, 40), 40)
        detections.append(as_detection(masks, np.ones(6, int), scores))
    dataset = Scenes(scenes, class_names=("BG", "thing"))
    figures = evaluation.evaluate(model_giving(detections), dataset)
    expected = slow_coco_ap50(scenes, detections)
    assert figures["bbox"]["AP50"] == pytest.approx(expected, rel=1e-9)
    assert figures["segm"]["AP50"] == figures["bbox"]["AP50"]


def test_ap_by_class_names_each_class(scenes):
    scenes.class_names.append("never seen")
    detections = perfect(scenes)
    results = []
    for image_id in (0, 2, 3, 4):
        seen = detections[image_id]
        bars = seen["class_ids"] == 2
        seen["masks"] = np.where(bars, np.roll(seen["masks"], 60, axis=0), seen["masks"])
        seen["rois"] = extract_bboxes(seen["masks"])
        results += evaluation.coco_results(image_id, seen)
    coco_gt = evaluation.coco_ground_truth(scenes)
    coco_eval = evaluation.run_coco_eval(coco_gt, results, "segm")
    by_class = evaluation.ap_by_class(coco_eval)
    assert by_class["disc"] == pytest.approx(1.0)
    assert 0 < by_class["bar"] < 1  # the one that fills its image is still found
    assert by_class["never seen"] == -1
    mean = evaluation.coco_figures(coco_eval)["AP"]
    assert mean == pytest.approx((by_class["disc"] + by_class["bar"]) / 2)


def test_summary_is_the_table_of_pycocotools(scenes, capsys, without_faster_coco_eval):
    detection = as_detection(scenes.load_mask(0)[0][..., :3], [1, 2, 1])
    results = evaluation.coco_results(0, detection)
    coco_eval = evaluation.run_coco_eval(evaluation.coco_ground_truth(scenes), results, "segm")
    assert capsys.readouterr().out == ""
    coco_eval.summarize()
    theirs = capsys.readouterr().out.splitlines()
    ours = evaluation.summary(evaluation.coco_figures(coco_eval)).splitlines()
    assert [line.split() for line in ours] == [line.split() for line in theirs]


@decodes_masks
def test_ground_truth_holds_every_object(scenes):
    coco_gt = evaluation.coco_ground_truth(scenes)
    assert len(coco_gt.imgs) == 6
    assert coco_gt.imgs[1] == {"id": 1, "height": 80, "width": 60}
    assert coco_gt.imgs[5] == {"id": 5, "height": 30, "width": 40}  # from the image
    assert [coco_gt.cats[i]["name"] for i in sorted(coco_gt.cats)] == ["disc", "bar"]
    annotations = coco_gt.loadAnns(coco_gt.getAnnIds(imgIds=[3]))
    assert [a["iscrowd"] for a in annotations] == [0, 1, 0]
    assert [a["category_id"] for a in annotations] == [1, 2, 2]
    masks = scenes.load_mask(3)[0]
    for i, annotation in enumerate(annotations):
        np.testing.assert_array_equal(coco_gt.annToMask(annotation), masks[..., i])
        y1, x1, y2, x2 = extract_bboxes(masks)[i]
        assert annotation["bbox"] == [x1, y1, x2 - x1, y2 - y1]
        assert annotation["area"] == masks[..., i].sum()
    json.dumps(coco_gt.dataset)


def test_an_object_without_pixels_is_left_out_and_named():
    masks = np.concatenate([filled([[0, 0, 50, 50]]), np.zeros((SIZE, SIZE, 1), bool)], axis=-1)
    dataset = Scenes([(masks, np.array([1, 2]))])
    with pytest.warns(UserWarning, match="image 0: an object of class 2 has no pixel"):
        coco_gt = evaluation.coco_ground_truth(dataset)
    assert len(coco_gt.anns) == 1


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("count", [1, 3])
def test_an_image_without_objects_may_be_masks_without_pixels_of_class_0(count):
    positive = filled([[0, 0, 50, 50]]), np.array([1])
    negative = np.zeros((SIZE, SIZE, count), bool), np.zeros(count, np.int32)
    dataset = Scenes([positive, negative])
    coco_gt = evaluation.coco_ground_truth(dataset)
    assert len(coco_gt.anns) == 1 and len(coco_gt.imgs) == 2
    nothing = as_detection(np.zeros((SIZE, SIZE, 0), bool), [])
    model = model_giving([as_detection(*positive), nothing])
    assert evaluation.evaluate(model, dataset)["segm"]["AP"] == pytest.approx(1.0)


def noisy_results(coco_gt, seed):
    """Some objects once, some twice, some not, moved by a few pixels; scores with ties."""
    rng = np.random.default_rng(seed)
    results = []
    for annotation in coco_gt.dataset["annotations"]:
        mask = coco_gt.annToMask(annotation).astype(bool)
        for _ in range(rng.integers(0, 3)):
            moved = np.roll(mask, rng.integers(-5, 6, 2), (0, 1))[..., None]
            class_id = int(rng.integers(1, 3)) if rng.random() < 0.2 else annotation["category_id"]
            detection = as_detection(moved, [class_id], [round(rng.random(), 1)])
            results += evaluation.coco_results(annotation["image_id"], detection)
    return results


@decodes_masks
@pytest.mark.parametrize("iou_type", evaluation.IOU_TYPES)
def test_faster_coco_eval_gives_the_figures_of_pycocotools(scenes, iou_type, monkeypatch):
    from pycocotools.cocoeval import COCOeval

    coco_gt = evaluation.coco_ground_truth(scenes)
    for seed in range(5):
        results = noisy_results(coco_gt, seed)
        fast = evaluation.run_coco_eval(coco_gt, results, iou_type)
        monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
        slow = evaluation.run_coco_eval(coco_gt, results, iou_type)
        monkeypatch.undo()
        assert type(slow) is COCOeval and type(fast).__name__ == "COCOeval_faster"
        assert evaluation.coco_figures(fast) == pytest.approx(evaluation.coco_figures(slow))
        assert evaluation.ap_by_class(fast) == pytest.approx(evaluation.ap_by_class(slow))
        assert 0 < evaluation.coco_figures(slow)["AP50"] < 1


def test_results_are_plain_values_and_stay_as_they_are(scenes):
    masks, class_ids = scenes.load_mask(0)
    results = evaluation.coco_results(0, as_detection(masks, class_ids.astype(np.int32)))
    text = json.dumps(results)
    assert results[1]["bbox"] == [180.0, 0.0, 20.0, 40.0]
    assert [result["category_id"] for result in results] == [1, 2, 1, 1]
    figures_of(evaluation.coco_ground_truth(scenes), results, "segm")
    assert json.dumps(results) == text
    empty = as_detection(np.zeros((30, 40, 0), bool), np.zeros(0, int))
    assert evaluation.coco_results(0, empty) == []


@decodes_masks
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float32])
def test_encoded_masks_decode_to_themselves(dtype):
    from pycocotools import mask as coco_mask

    masks = np.random.default_rng(0).random((13, 7, 5)) > 0.5
    encoded = evaluation.encode_masks(masks.astype(dtype) * (255 if dtype == np.uint8 else 1))
    assert all(isinstance(rle["counts"], str) for rle in encoded)
    np.testing.assert_array_equal(coco_mask.decode(encoded), masks)


def test_a_file_of_coco_annotations_takes_the_same_results(scenes, tmp_path, capsys):
    """Polygons, gaps in the ids, and only some of its images looked at."""
    from pycocotools.coco import COCO

    polygon = [10, 10, 60, 10, 60, 60, 10, 60]
    images = [{"id": i, "height": 100, "width": 100} for i in (7, 42)]
    annotations = [
        {"id": 5 + i, "image_id": image["id"], "category_id": 90, "iscrowd": 0, "area": 2500}
        | {"segmentation": [polygon], "bbox": [10, 10, 50, 50]}
        for i, image in enumerate(images)
    ]
    file = {"images": images, "annotations": annotations}
    file["categories"] = [{"id": 90, "name": "toothbrush"}]
    (tmp_path / "instances.json").write_text(json.dumps(file))
    coco_gt = COCO(tmp_path / "instances.json")
    capsys.readouterr()
    results = evaluation.coco_results(42, as_detection(filled([[10, 10, 60, 60]], 100), [90]))
    only = evaluation.run_coco_eval(coco_gt, results, "segm", image_ids=[42])
    assert evaluation.coco_figures(only)["AP"] == pytest.approx(1.0)
    assert figures_of(coco_gt, results, "bbox")["AP"] == pytest.approx(51 / 101)


def numbered(coco_gt, ids):
    """The same ground truth with other annotation ids."""
    other = copy.deepcopy(coco_gt)
    for annotation, number in zip(other.dataset["annotations"], ids, strict=True):
        annotation["id"] = number
    other.createIndex()
    return other


@decodes_masks
@pytest.mark.parametrize("fast", [True, False], ids=["faster-coco-eval", "pycocotools"])
@pytest.mark.parametrize(
    "ids",
    [range(9), [0] * 9, [5, 5, 0, 0, 1, 1, 2, 3, 9], range(-3, 6), [f"a{n}" for n in range(9)]],
    ids=["from 0", "all 0", "twice", "negative", "text"],
)
def test_annotation_ids_of_a_file_change_no_figure(scenes, ids, fast, monkeypatch, capsys):
    """pycocotools takes id 0 for "no match", and looks annotations up by their ids."""
    if not fast:
        monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    coco_gt = evaluation.coco_ground_truth(scenes)
    assert sorted(coco_gt.anns) == list(range(1, 10))
    other = numbered(coco_gt, ids)
    before = json.dumps(other.dataset)
    found = [r for i, one in enumerate(perfect(scenes)) for r in evaluation.coco_results(i, one)]
    for results in (found, noisy_results(coco_gt, 3)):
        for iou_type in evaluation.IOU_TYPES:
            wanted = figures_of(coco_gt, results, iou_type)
            assert figures_of(other, results, iou_type) == wanted
            assert results is not found or wanted["AP"] == pytest.approx(1.0)
    assert json.dumps(other.dataset) == before


def test_a_data_set_read_from_a_file_is_scored_by_the_file(capsys):
    """Ids of its own for images and classes; a class that the data set left out does not count."""
    from pycocotools.coco import COCO

    coco_gt = COCO()
    box = {"bbox": [10, 10, 50, 50], "area": 2500, "iscrowd": 0}
    box["segmentation"] = [[10, 10, 60, 10, 60, 60, 10, 60]]
    coco_gt.dataset = {
        "images": [{"id": i, "height": 100, "width": 100} for i in (7, 42)],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 90, **box},
            {"id": 2, "image_id": 42, "category_id": 90, **box},
            {"id": 3, "image_id": 42, "category_id": 3, **box},
        ],
        "categories": [{"id": 3, "name": "car"}, {"id": 90, "name": "toothbrush"}],
    }
    coco_gt.createIndex()
    square = filled([[10, 10, 60, 60]], 100)
    dataset = Scenes([(square, np.array([1])), (square, np.array([1]))], ("BG", "toothbrush"))
    dataset.image_info = [{"id": 7}, {"id": 42}]
    dataset.class_info = [{"id": 0}, {"id": 90}]
    model = model_giving([as_detection(square, [1])] * 2)
    figures = evaluation.evaluate(model, dataset, coco_gt=coco_gt)
    assert figures["bbox"]["AP"] == figures["segm"]["AP"] == pytest.approx(1.0)
    only = evaluation.evaluate(model, dataset, image_ids=[1], coco_gt=coco_gt)
    assert only["segm"]["AP"] == pytest.approx(1.0)
    results = evaluation.with_source_ids(dataset, evaluation.detect_results(model, dataset))
    assert [(r["image_id"], r["category_id"]) for r in results] == [(7, 90), (42, 90)]
    everything = evaluation.run_coco_eval(coco_gt, results, "segm")
    assert evaluation.ap_by_class(everything) == pytest.approx({"car": 0, "toothbrush": 1})


def test_bad_input_is_named(scenes):
    coco_gt = evaluation.coco_ground_truth(scenes)
    good = evaluation.coco_results(0, as_detection(*scenes.load_mask(0)))
    with pytest.raises(ValueError, match="iou_type is 'keypoints'"):
        figures_of(coco_gt, good, "keypoints")
    with pytest.raises(ValueError, match="image_id 99"):
        figures_of(coco_gt, [{**good[0], "image_id": 99}], "bbox")
    with pytest.raises(ValueError, match=r"category_id 7.*\[1, 2\]"):
        figures_of(coco_gt, [{**good[0], "category_id": 7}], "bbox")
    smaller = as_detection(scenes.load_mask(0)[0][:100], [1, 2, 1, 1])
    with pytest.raises(ValueError, match=r"image 0 is \[100, 200\].*\[200, 200\]"):
        figures_of(coco_gt, evaluation.coco_results(0, smaller), "segm")
    with pytest.raises(ValueError, match=r"image 0 disagree: rois \(3, 4\)"):
        evaluation.coco_results(0, {**smaller, "rois": smaller["rois"][:3]})
    masks = filled([[0, 0, 10, 10]])
    for class_id in (0, 3, -3):
        with pytest.raises(ValueError, match=f"image 0: class id {class_id} has no name"):
            evaluation.coco_ground_truth(Scenes([(masks, np.array([class_id]))]))
    with pytest.raises(ValueError, match=r"image 0: load_mask gave masks \(200, 200, 1\)"):
        evaluation.coco_ground_truth(Scenes([(masks, np.array([1, 1]))]))


# ---- All scores ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unsure(tmp_path_factory):
    """A tiny network whose detections all score less than its DETECTION_MIN_CONFIDENCE."""
    config = tiny_config(DETECTION_MIN_CONFIDENCE=1.0, IMAGES_PER_GPU=1)
    model = MaskRCNN("inference", config, tmp_path_factory.mktemp("logs"))
    seed_weights(model.keras_model, 21)
    return model


@pytest.mark.parametrize(
    "faster",
    [
        pytest.param(True, id="detect_on_batch"),
        pytest.param(False, id="predict_on_batch", marks=pytest.mark.slow),
    ],
)
def test_detections_of_any_score_count_whatever_the_threshold(unsure, faster, monkeypatch):
    if not faster:
        monkeypatch.setattr("mrcnn.detection.detector.DetectionModel", type(None))
    dataset = random_rectangles(3)
    images = [dataset.load_image(i) for i in range(3)]
    before = [len(one["scores"]) for one in unsure.detect(images)]
    results = evaluation.detect_results(unsure, dataset)
    assert results and all(result["score"] < 1 for result in results)
    # The model itself stays as it was.
    assert [len(one["scores"]) for one in unsure.detect(images)] == before == [0, 0, 0]
    assert unsure.keras_model.get_layer("mrcnn_detection").min_confidence == 1
    assert evaluation.detect_results(unsure, dataset) == results


def test_figures_are_those_of_a_threshold_of_0(unsure, tmp_path):
    everything = MaskRCNN(
        "inference", tiny_config(DETECTION_MIN_CONFIDENCE=0.0, IMAGES_PER_GPU=1), tmp_path
    )
    everything.keras_model.set_weights(unsure.keras_model.get_weights())
    dataset = random_rectangles(6)
    figures = evaluation.evaluate(unsure, dataset)
    assert figures == evaluation.evaluate(everything, dataset)
    assert figures["bbox"]["AR100"] > 0


def test_the_threshold_is_that_of_before_after_an_error(unsure):
    class Broken(Scenes):
        def load_image(self, image_id):
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        evaluation.evaluate(unsure, Broken([(filled([[0, 0, 9, 9]]), np.array([1]))]))
    assert unsure.keras_model.get_layer("mrcnn_detection").min_confidence == 1


def test_each_threshold_is_traced_once(unsure, monkeypatch):
    dataset = random_rectangles(1)
    unsure.detect([dataset.load_image(0)])
    evaluation.evaluate(unsure, dataset)
    layer = unsure.keras_model.get_layer("mrcnn_detection")
    monkeypatch.setattr(type(layer), "call", None)  # no trace can be made any more
    unsure.detect([dataset.load_image(0)])
    evaluation.evaluate(unsure, dataset)
