"""Weights to start from, by the names that command lines take, and the download of COCO's."""

from types import SimpleNamespace

import pytest

import mrcnn.utils
from mrcnn import weights
from mrcnn.weights import start
from tests.tiny import tiny_model


class Loader:
    """Notes what is loaded."""

    def __init__(self, num_classes=4):
        self.config = SimpleNamespace(NUM_CLASSES=num_classes)
        self.loaded = None

    def load_weights(self, path, by_name, exclude):
        self.loaded = path, by_name, exclude
        return "report"

    def find_last(self):
        return "last.h5"

    def get_imagenet_weights(self):
        return "imagenet.h5"


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("last", "last.h5"),
        ("Last", "last.h5"),
        ("imagenet", "imagenet.h5"),
        ("my/own.h5", "my/own.h5"),
        ("My/Own.H5", "My/Own.H5"),
    ],
)
def test_a_name_or_a_path_is_loaded_by_layer_name(name, path, capsys):
    model = Loader()
    assert weights.load_start_weights(model, name) == "report"
    assert model.loaded == (path, True, None)
    assert capsys.readouterr().out == f"Loading weights {path}\n"


def test_a_path_object_is_a_path(tmp_path):
    model = Loader()
    weights.load_start_weights(model, tmp_path / "w.h5")
    assert model.loaded == (str(tmp_path / "w.h5"), True, None)


def test_random_loads_nothing():
    model = Loader()
    assert weights.load_start_weights(model, "random") is None
    assert model.loaded is None


@pytest.mark.parametrize(("classes", "exclude"), [(81, None), (2, weights.CLASS_LAYERS)])
def test_coco_weights_leave_out_the_layers_of_other_classes(tmp_path, capsys, classes, exclude):
    path = tmp_path / "mask_rcnn_coco.h5"
    path.touch()
    model = Loader(classes)
    weights.load_start_weights(model, "COCO", path)
    assert model.loaded == (str(path), True, exclude)
    said = "COCO has 81 classes and the data 2: mrcnn_class_logits, mrcnn_bbox_fc, mrcnn_bbox, "
    assert (said in capsys.readouterr().out) == (classes == 2)


@pytest.mark.parametrize(("classes", "exclude"), [(4, None), (2, weights.CLASS_LAYERS)])
def test_a_file_of_other_classes_starts_a_training(tmp_path, capsys, classes, exclude):
    """Only where the model is to be trained: with untrained heads nothing can be detected."""
    path = tmp_path / "own.h5"
    model, *_ = tiny_model()
    weights.save_weights(model, path)
    loader = Loader(classes)
    weights.load_start_weights(loader, path, may_learn_classes=True)
    assert loader.loaded == (str(path), True, exclude)
    said = f"{path} has 4 classes and the data 2: mrcnn_class_logits, "
    assert (said in capsys.readouterr().out) == (classes == 2)
    weights.load_start_weights(loader, path)
    assert loader.loaded[2] is None


def test_a_file_that_is_no_hdf5_is_left_to_the_loader(tmp_path):
    path = tmp_path / "resnet50.pth"
    path.write_bytes(b"PK")
    loader = Loader()
    weights.load_start_weights(loader, path, may_learn_classes=True)
    assert loader.loaded == (str(path), True, None)


def test_coco_weights_that_are_not_there_are_downloaded(tmp_path, monkeypatch):
    source = tmp_path / "there.h5"
    source.write_bytes(b"weights")
    monkeypatch.setattr(start, "COCO_MODEL_URL", source.as_uri())
    model = Loader(81)
    weights.load_start_weights(model, "coco", tmp_path / "new" / "coco.h5")
    assert model.loaded[0] == str(tmp_path / "new" / "coco.h5")
    assert (tmp_path / "new" / "coco.h5").read_bytes() == b"weights"


# ---- The download ----------------------------------------------------------------------------


def test_a_download_that_fails_says_what_to_put_where(tmp_path, monkeypatch):
    monkeypatch.setattr(start, "COCO_MODEL_URL", (tmp_path / "absent.h5").as_uri())
    path = tmp_path / "deep" / "coco.h5"
    with pytest.raises(OSError, match="absent.h5.*coco.h5"):
        mrcnn.utils.download_trained_weights(path, verbose=0)
    assert not path.parent.exists() or not list(path.parent.iterdir())


def test_a_download_that_is_cut_off_leaves_no_file(tmp_path, monkeypatch):
    source = tmp_path / "there.h5"
    source.write_bytes(b"weights")
    monkeypatch.setattr(start, "COCO_MODEL_URL", source.as_uri())
    monkeypatch.setattr(start.shutil, "copyfileobj", lambda response, file: file.write(b"wei"))
    with pytest.raises(OSError, match="3 of 7 bytes arrived.*coco.h5"):
        mrcnn.utils.download_trained_weights(tmp_path / "coco.h5")
    assert list(tmp_path.iterdir()) == [source]


def test_a_download_arrives_whole(tmp_path, monkeypatch, capsys):
    source = tmp_path / "there.h5"
    source.write_bytes(b"weights")
    monkeypatch.setattr(start, "COCO_MODEL_URL", source.as_uri())
    mrcnn.utils.download_trained_weights(str(tmp_path / "coco.h5"))
    assert (tmp_path / "coco.h5").read_bytes() == b"weights"
    assert "coco.h5" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["coco.h5", "there.h5"]
