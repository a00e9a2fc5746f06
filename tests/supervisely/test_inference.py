"""Inference on projects: annotations of the input stay, objects are added, and it opens again."""

import json

import numpy as np
import pytest

from mrcnn.data.formats.supervisely import SuperviselyDataset
from mrcnn.supervisely import inference
from mrcnn.supervisely.inference import ProjectModel, infer_project
from mrcnn.supervisely.model_folder import write_model_folder
from mrcnn.supervisely.schemas import checked_inference
from tests.supervisely.projects import (
    PLACES,
    SHADES,
    Network,
    bitmap,
    box_mask,
    rectangle,
    write_image,
    write_meta,
    write_project,
)
from tests.tiny import TinyConfig, tiny_config

TITLES = ["apple", "pear"]
SETTINGS = {"special_classes": {"background": "bg"}}


class Weights:
    def save_weights(self, path):
        open(path, "w").close()


@pytest.fixture
def epoch(tmp_path):
    config = tiny_config(NUM_CLASSES=3, CLASS_NAMES=TITLES)
    write_model_folder(tmp_path / "epochs" / "0001", Weights(), config, SETTINGS, [])
    return tmp_path / "epochs" / "0001"


def model_of(epoch, monkeypatch, **content):
    """A model whose network sees what is bright."""
    model = ProjectModel(epoch, checked_inference(content, "config.json"), TinyConfig)
    model.network = Network()
    monkeypatch.setattr(model, "_find", model.network)
    return model


def annotation(project, number=0):
    return json.loads((project / "ds" / "ann" / f"{number}.png.json").read_text())


def meta(project):
    content = json.loads((project / "meta.json").read_text())
    return {one["title"]: one["shape"] for one in content["classes"]}, content["tags"]


def test_objects_are_added_with_confidence_and_suffix(epoch, tmp_path, monkeypatch):
    project, output = write_project(tmp_path / "fruit"), tmp_path / "out" / "found"
    model = model_of(epoch, monkeypatch, model={"confidence_tag_name": "sure"})
    moves = []
    added = infer_project(model, project, output, lambda *move: moves.append(move))
    assert added == sum(map(len, PLACES)) and moves == [(i, 4) for i in range(1, 5)]
    before, after = annotation(project), annotation(output)
    assert after["objects"][: len(before["objects"])] == before["objects"]
    new = after["objects"][len(before["objects"]) :]
    assert sorted(one["classTitle"] for one in new) == ["apple_maskrcnn", "pear_maskrcnn"]
    for one in new:
        shade = SHADES[one["classTitle"].removesuffix("_maskrcnn")]
        assert one["tags"] == [{"name": "sure", "value": round(shade / 255, 6)}]
    assert after["tags"] == before["tags"] and after["size"] == before["size"]
    classes, tags = meta(output)
    assert classes["apple_maskrcnn"] == "bitmap" and classes["bg"] == "rectangle"
    assert tags[-1]["name"] == "sure" and tags[-1]["value_type"] == "any_number"
    for number in range(4):
        name = f"ds/img/{number}.png"
        assert (output / name).read_bytes() == (project / name).read_bytes()


def test_the_result_opens_again_with_the_same_masks(epoch, tmp_path, monkeypatch):
    project, output = write_project(tmp_path / "fruit"), tmp_path / "found"
    infer_project(model_of(epoch, monkeypatch), project, output)
    dataset = SuperviselyDataset()
    dataset.load_supervisely(output)
    dataset.prepare()
    for number, places in enumerate(PLACES):
        masks, ids = dataset.load_mask(number)
        found = {
            (dataset.class_names[i], masks[:, :, n].tobytes())
            for n, i in enumerate(ids)
            if dataset.class_names[i].endswith("_maskrcnn")
        }
        assert found == {
            (f"{title}_maskrcnn", box_mask((64, 64), *box).tobytes()) for title, *box in places
        }


@pytest.mark.parametrize(
    ("mode", "titles"),
    [
        ({"name": "roi", "bounds": {"left": "10px"}, "save": True}, {"inference_roi"}),
        ({"name": "bboxes", "save": True, "from_classes": ["pear"]}, {"pear_input_bbox"}),
        (
            {"name": "sliding_window", "save": True, "window": {"width": 40, "height": 40}},
            {"sliding_window_bbox"},
        ),
        (
            {"name": "sliding_window_det", "save": True, "window": {"width": 64, "height": 40}},
            {"sliding_window_bbox"},
        ),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) else "",
)
def test_what_the_network_saw_is_kept(epoch, tmp_path, monkeypatch, mode, titles):
    project, output = write_project(tmp_path / "fruit"), tmp_path / "found"
    infer_project(model_of(epoch, monkeypatch, mode=mode), project, output)
    classes, _ = meta(output)
    kept = [one for one in annotation(output)["objects"] if one["classTitle"] in titles]
    assert kept and {classes[title] for title in titles} == {"rectangle"}
    for one in kept:
        (x1, y1), (x2, y2) = one["points"]["exterior"]
        assert 0 <= x1 <= x2 <= 63 and 0 <= y1 <= y2 <= 63
    SuperviselyDataset().load_supervisely(output)


def test_only_the_classes_that_are_asked_for(epoch, tmp_path, monkeypatch):
    classes = {"save_classes": ["pear"], "add_suffix": ""}
    mode = {"name": "full_image", "model_classes": classes}
    project, output = write_project(tmp_path / "fruit"), tmp_path / "found"
    model = model_of(epoch, monkeypatch, mode=mode)
    infer_project(model, project, output)
    count = len(annotation(project)["objects"])
    assert [one["classTitle"] for one in annotation(output)["objects"][count:]] == ["pear"]
    assert meta(output)[0] == meta(project)[0]
    mode["model_classes"]["save_classes"] = ["pears"]
    with pytest.raises(ValueError, match="'pears', which the model does not know.* mean pear?"):
        model_of(epoch, monkeypatch, mode=mode)


def test_a_class_of_another_shape_is_refused(epoch, tmp_path, monkeypatch):
    project = write_project(tmp_path / "fruit")
    write_meta(
        project, {"pear": "bitmap", "apple": "bitmap", "bg": "any", "apple_maskrcnn": "polygon"}
    )
    with pytest.raises(ValueError, match="'apple_maskrcnn' has objects of the shape polygon"):
        infer_project(model_of(epoch, monkeypatch), project, tmp_path / "found")
    assert not (tmp_path / "found").exists()


def test_a_server_needs_two_functions(epoch, monkeypatch):
    model = model_of(epoch, monkeypatch)
    image = np.full((64, 64, 3), 20, np.uint8)
    image[5:20, 5:20] = SHADES["apple"]
    found = model.annotation_of(image)
    assert found["size"] == {"height": 64, "width": 64}
    (one,) = found["objects"]
    assert one["classTitle"] == "apple_maskrcnn" and one["bitmap"]["origin"] == [5, 5]
    made = model.output_meta({"classes": [], "tags": []})
    assert [one["title"] for one in made["classes"]] == ["apple_maskrcnn", "pear_maskrcnn"]


def broken(kind, project):
    """A project with one fault, and what is said of it."""
    if kind == "no meta":
        (project / "meta.json").unlink()
        return r"fruit has no meta\.json"
    if kind == "another size":
        write_image(project / "ds", "0.png", [], size=(64, 63))
        return "has 64x64 pixels .* its annotation states 64x63"
    if kind == "unknown class":
        write_image(project / "ds", "0.png", [rectangle("plum", 0, 0, 3, 3)])
        return "has the unknown class 'plum'"
    if kind == "damaged bitmap":
        one = bitmap("pear", box_mask((64, 64), 3, 3, 9, 9))
        one["bitmap"]["data"] = "AAAA"
        write_image(project / "ds", "3.png", [one])
        return r"3\.png: has a bitmap that"
    if kind == "large bitmap":
        one = bitmap("pear", box_mask((90, 90), 0, 0, 80, 80))
        write_image(project / "ds", "3.png", [one])
        return "has a bitmap of 80x80 in an image of 64x64"
    assert kind == "window"
    return r"mode\.window is 80x80 .* larger than an image of 64x64"


@pytest.mark.parametrize(
    "kind",
    ["no meta", "another size", "unknown class", "damaged bitmap", "large bitmap", "window"],
)
def test_a_project_that_cannot_be_used_leaves_nothing(epoch, tmp_path, monkeypatch, kind):
    project, output = write_project(tmp_path / "fruit"), tmp_path / "found"
    sentence = broken(kind, project)
    window = {"name": "sliding_window", "window": {"width": 80, "height": 80}}
    mode = window if kind == "window" else {"name": "full_image"}
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        infer_project(model_of(epoch, monkeypatch, mode=mode), project, output)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epochs", "fruit"]


def test_a_class_to_look_at_that_the_project_lacks(epoch, tmp_path, monkeypatch):
    mode = {"name": "bboxes", "from_classes": ["pair"]}
    project = write_project(tmp_path / "fruit")
    with pytest.raises(ValueError, match="from_classes has 'pair', .* Did you mean pear?"):
        infer_project(model_of(epoch, monkeypatch, mode=mode), project, tmp_path / "found")


def test_a_folder_that_is_not_empty(epoch, tmp_path, monkeypatch):
    project = write_project(tmp_path / "fruit")
    with pytest.raises(ValueError, match="fruit is not empty"):
        infer_project(model_of(epoch, monkeypatch), project, project)


def test_the_network_is_asked_with_the_settings(epoch, monkeypatch):
    """Lowest confidence, classes by number, masks as patches."""
    content = {"model": {"min_confidence_threshold": 0.25}}
    model = ProjectModel(epoch, checked_inference(content, ""), TinyConfig)
    built = {}

    class Loaded:
        keras_model = get_anchors = None

        def __init__(self, mode, config, folder):
            built.update(mode=mode, confidence=config.DETECTION_MIN_CONFIDENCE, config=config)
            self.config = config

        def load_weights(self, path):
            built["weights"] = path

    monkeypatch.setattr("mrcnn.mask_rcnn.MaskRCNN", Loaded)
    (rle,) = inference_rles(box_mask((30, 40), 2, 3, 9, 20))
    result = {"class_ids": [2], "scores": [0.5], "masks": [rle]}
    monkeypatch.setattr(inference, "detect", lambda *_: [result])
    ((one,),) = model._find([np.zeros((30, 40, 3), np.uint8)])
    assert (one.title, one.score, one.patch.box) == ("pear", 0.5, (2, 3, 9, 20))
    assert built["mode"] == "inference" and built["confidence"] == 0.25
    assert built["weights"].endswith("model.h5")


def inference_rles(*masks):
    from mrcnn.geometry.rle import encode_masks

    return encode_masks(np.stack(masks, axis=2))


def test_folders_that_hold_no_model(tmp_path, epoch):
    settings = checked_inference({}, "")
    with pytest.raises(FileNotFoundError, match="is no folder of an epoch"):
        ProjectModel(tmp_path, settings)
    (epoch / "config.json").write_text('{"class_title_to_idx": {"bg": 0, "apple": 2}}')
    with pytest.raises(ValueError, match="has no class_title_to_idx"):
        ProjectModel(epoch, settings)
    (epoch / "config.json").write_text('{"class_title_to_idx": {"bg": 0, "apple": 1}}')
    with pytest.raises(ValueError, match="has no mask_rcnn_config"):
        ProjectModel(epoch, settings)
    (epoch.parent / "best.json").write_text('{"folder": "../../elsewhere"}')
    with pytest.raises(ValueError, match="does not name the folder of an epoch"):
        ProjectModel(epoch.parent, settings)
