"""samples/balloon: the data set, training calls, color splash of images and videos."""

import functools
import http.server
import json
import re
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.color
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from mrcnn.config import Config
from samples.balloon import balloon
from tests.tiny import run_eagerly, tiny_config

HEIGHT, WIDTH = 48, 64
RED, GREEN = (200, 30, 20), (40, 160, 70)
RED_GRAY, GREEN_GRAY = (65, 65, 65), (128, 128, 128)


def write_subset(folder, names=("one", "two"), version=1):
    """Images with a red circle each on green, and a VIA file."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = {}
    for name in names:
        Image.fromarray(photo()).save(folder / f"{name}.png")
        shape = {"name": "circle", "cx": 20, "cy": 24, "r": 10}
        regions = [{"shape_attributes": shape, "region_attributes": {}}]
        entries[name] = {
            "filename": f"{name}.png",
            "regions": {"0": regions[0]} if version == 1 else regions,
        }
    (folder / balloon.ANNOTATIONS).write_text(json.dumps(entries), encoding="utf-8")


def photo(cx=20):
    """A red balloon on green, `[HEIGHT, WIDTH, 3]`."""
    return np.where(disc(cx)[..., None], np.uint8(RED), np.uint8(GREEN))


def disc(cx=20):
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return (x - cx) ** 2 + (y - 24) ** 2 <= 100


class Finder:
    """Stands in for a model: red is a balloon."""

    def __init__(self, batch_size=1):
        self.config = type("Config", (), {"BATCH_SIZE": batch_size})()
        self.batches = []

    def detect(self, images):
        self.batches.append(len(images))
        masks = [image[..., 0].astype(int) > image[..., 1] + 60 for image in images]
        return [{"masks": mask[..., None][..., : int(mask.any())]} for mask in masks]


# ---- Data set ----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [1, 2])
def test_the_data_set_is_read(tmp_path, version):
    write_subset(tmp_path / "train", version=version)
    dataset = balloon.load_dataset(tmp_path, "train")
    assert dataset.class_names == ["BG", "balloon"] and dataset.num_images == 2
    masks, class_ids = dataset.load_mask(1)
    np.testing.assert_array_equal(masks[..., 0], disc())
    assert class_ids.tolist() == [1]
    np.testing.assert_array_equal(dataset.load_image(1), photo())
    assert dataset.image_reference(1) == str(tmp_path / "train" / "two.png")


def test_references_of_other_sources_are_theirs(tmp_path):
    write_subset(tmp_path / "val")
    dataset = balloon.BalloonDataset()
    dataset.add_image("coco", 5, path="x.png")
    dataset.load_balloon(tmp_path, "val")
    assert dataset.image_reference(0) == ""
    assert dataset.image_info[1]["source"] == "balloon"


def test_a_missing_subset_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="test/via_region_data.json does not exist"):
        balloon.load_dataset(tmp_path, "test")


# ---- Training ----------------------------------------------------------------------------------


class Trainee:
    def __init__(self):
        self.config = balloon.BalloonConfig()
        self.calls = []

    def train(self, train_set, val_set, **settings):
        self.calls.append((train_set.num_images, val_set.num_images, settings))


def test_train_takes_the_heads_for_30_epochs(tmp_path, monkeypatch):
    write_subset(tmp_path / "train")
    write_subset(tmp_path / "val", names=["three"])
    model = Trainee()
    balloon.train(model, tmp_path)
    monkeypatch.setattr(balloon, "args", balloon.argparse.Namespace(dataset=str(tmp_path)))
    balloon.train(model)
    balloon.train(model, epochs=2)
    settings = {"learning_rate": 0.001, "epochs": 30, "layers": "heads"}
    assert model.calls == [
        (2, 1, settings),
        (2, 1, settings),
        (2, 1, {**settings, "epochs": 2}),
    ]


@pytest.mark.parametrize(("epoch", "is_left"), [(29, True), (30, False), (31, False)])
def test_a_finished_run_has_nothing_left_to_train(tmp_path, capsys, epoch, is_left):
    write_subset(tmp_path / "train")
    write_subset(tmp_path / "val", names=["three"])
    model = Trainee()
    model.epoch = epoch
    balloon.train(model, tmp_path)
    said = f"Nothing is left to train: {epoch} epochs are done, and training ends with 30."
    assert len(model.calls) == int(is_left)
    assert (said in capsys.readouterr().out) != is_left


def test_train_without_a_data_set_is_an_error():
    with pytest.raises(ValueError, match="dataset_dir is None"):
        balloon.train(Trainee())


def test_configurations_are_those_the_names_promise():
    training, inference = balloon.BalloonConfig(), balloon.BalloonInferenceConfig()
    assert isinstance(training, Config) and training.NUM_CLASSES == 2
    assert (training.BATCH_SIZE, training.STEPS_PER_EPOCH) == (2, 100)
    assert (inference.BATCH_SIZE, inference.DETECTION_MIN_CONFIDENCE) == (1, 0.9)
    assert balloon.BalloonEvaluationConfig().DETECTION_MIN_CONFIDENCE == 0


# ---- Color splash of an array --------------------------------------------------------------------

IMAGES = hnp.arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 6), st.just(3)))


@settings(deadline=None)  # the first call imports scikit-image
@given(IMAGES, st.integers(0, 3), st.randoms(use_true_random=False))
def test_colour_stays_where_any_mask_is_and_nowhere_else(image, count, random):
    mask = np.array([random.random() < 0.4 for _ in range(image[..., 0].size * count)], bool)
    mask = mask.reshape(*image.shape[:2], count)
    before = image.copy()
    splash = balloon.color_splash(image, mask)
    inside = mask.any(axis=-1)
    np.testing.assert_array_equal(splash[inside], image[inside])
    gray = skimage.color.rgb2gray(image)[~inside, None] * 255
    assert np.all(abs(splash[~inside] - gray) <= 0.5 + 1e-6)
    assert splash.shape == image.shape and splash.dtype == np.uint8
    np.testing.assert_array_equal(image, before)


def test_grey_and_transparent_images_are_taken():
    mask = disc()[..., None]
    np.testing.assert_array_equal(
        balloon.color_splash(np.dstack([photo(), disc() * np.uint8(9)]), mask),
        balloon.color_splash(photo(), mask),
    )
    gray = photo()[..., 0]
    for image in (gray, gray[..., None]):
        np.testing.assert_array_equal(balloon.color_splash(image, mask), np.dstack([gray] * 3))


@pytest.mark.parametrize(
    ("image", "mask", "message"),
    [
        (photo(), np.zeros((HEIGHT, WIDTH), bool), r"masks have the shape \(48, 64\)"),
        (photo(), np.zeros((WIDTH, HEIGHT, 1), bool), r"are \[48, 64, N\]"),
        (photo() / 255, np.zeros((HEIGHT, WIDTH, 1), bool), "image is float64"),
        (np.zeros((4, 4, 5), np.uint8), np.zeros((4, 4, 1), bool), r"of shape \(4, 4, 5\)"),
    ],
)
def test_arrays_that_do_not_fit_are_named(image, mask, message):
    with pytest.raises(ValueError, match=message):
        balloon.color_splash(image, mask)


def test_masks_of_any_size_go_where_there_are_none():
    splash = balloon.color_splash(photo(), np.zeros((0, 0, 0), bool))
    assert len(np.unique(splash)) == 2


# ---- Color splash of files -----------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_an_image_is_written_in_the_current_folder(tmp_path, monkeypatch, capsys, mode):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(photo()).convert(mode, palette=Image.Palette.ADAPTIVE).save("in.png")
    path = balloon.detect_and_color_splash(Finder(), image_path="in.png")
    assert re.fullmatch(r"splash_\d{8}T\d{6}\.png", path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.png", path]
    assert f"Saved to {path}" in capsys.readouterr().out
    pixels = np.asarray(Image.open(path)).astype(int)
    assert np.all(abs(pixels[disc()] - RED) <= 2) and np.all(abs(pixels[~disc()] - GREEN_GRAY) <= 2)


def test_a_grey_image_stays_grey(tmp_path):
    Image.fromarray(photo()).convert("L").save(tmp_path / "in.png")
    path = balloon.detect_and_color_splash(
        Finder(), image_path=tmp_path / "in.png", output=tmp_path / "new" / "out.png"
    )
    assert path == str(tmp_path / "new" / "out.png")
    expected = np.asarray(Image.fromarray(photo()).convert("L"))
    np.testing.assert_array_equal(np.asarray(Image.open(path)), np.dstack([expected] * 3))


@pytest.fixture
def address(tmp_path):
    """Address of a server of what is in tmp_path."""
    handler = functools.partial(Silent, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def test_an_image_may_be_a_url(tmp_path, address):
    Image.fromarray(photo()).save(tmp_path / "in.png")
    (tmp_path / "text.png").write_text("no image")
    image = balloon.open_image(f"{address}/in.png?size=large")
    np.testing.assert_array_equal(image, photo())
    with pytest.raises(OSError, match=f"{address}/gone.png could not be downloaded: .*404"):
        balloon.open_image(f"{address}/gone.png")
    with pytest.raises(OSError, match=f"{address}/text.png is not an image"):
        balloon.open_image(f"{address}/text.png")


FRAMES, RATE = 7, 12.5


@pytest.fixture
def video(tmp_path):
    """A video of a balloon that goes right and, in the last frame, is gone."""
    path = tmp_path / "in.avi"
    with balloon.video_writer(path, RATE) as write:
        for i in range(FRAMES - 1):
            write(photo(cx=15 + 5 * i))
        write(np.full((HEIGHT, WIDTH, 3), GREEN, np.uint8))
    return path


def read_frames(path):
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        is_read, frame = capture.read()
        if not is_read:
            return np.array(frames), capture.get(cv2.CAP_PROP_FPS)
        frames.append(frame[..., ::-1].astype(int))


@pytest.mark.parametrize("name", ["out.avi", "out.mp4"])
def test_a_video_keeps_its_length_size_rate_and_its_balloons_colour(tmp_path, video, name):
    model = Finder(batch_size=3)
    path = balloon.detect_and_color_splash(model, video_path=video, output=tmp_path / name)
    assert model.batches == [3, 3, 1]
    frames, rate = read_frames(path)
    assert frames.shape == (FRAMES, HEIGHT, WIDTH, 3) and rate == RATE
    kernel = np.ones((9, 9), np.uint8)  # compression blurs the edges
    for i, frame in enumerate(frames[:-1]):
        inside = cv2.erode(disc(15 + 5 * i).astype(np.uint8), kernel) > 0
        outside = cv2.dilate(disc(15 + 5 * i).astype(np.uint8), kernel) == 0
        assert np.all(abs(frame[inside].mean(0) - RED) < 20)
        assert np.all(abs(frame[outside] - GREEN_GRAY) < 30)
    assert np.all(abs(frames[-1] - GREEN_GRAY) < 15)
    assert not list(tmp_path.glob("*.part*"))


def test_a_video_of_unknown_length_goes_through(tmp_path, video, monkeypatch, capsys):
    known = balloon.open_video
    monkeypatch.setattr(balloon, "open_video", lambda path: (*known(path)[:2], None))
    path = balloon.detect_and_color_splash(Finder(), video_path=video, output=tmp_path / "o.avi")
    assert len(read_frames(path)[0]) == FRAMES
    assert "could be read" not in capsys.readouterr().out


def test_a_video_that_ends_early_is_told(tmp_path, video, monkeypatch, capsys):
    known = balloon.open_video
    monkeypatch.setattr(balloon, "open_video", lambda path: (*known(path)[:2], 9))
    path = balloon.detect_and_color_splash(Finder(), video_path=video, output=tmp_path / "o.avi")
    assert len(read_frames(path)[0]) == FRAMES
    assert "in.avi says it has 9 frames; 7 could be read." in capsys.readouterr().out


def test_a_video_says_its_length_and_rate(video):
    frames, rate, count = balloon.open_video(str(video))
    assert (rate, count) == (RATE, FRAMES)
    assert len(list(frames)) == FRAMES


def test_a_video_is_cut_into_batches():
    assert list(balloon.batches(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(balloon.batches(range(4), 2)) == [[0, 1], [2, 3]]
    assert list(balloon.batches([], 2)) == []


class Failing(Finder):
    def detect(self, images):
        if self.batches:
            raise RuntimeError("out of memory")
        return super().detect(images)


def test_nothing_half_written_is_left(tmp_path, video):
    output = tmp_path / "out.avi"
    output.write_bytes(b"of an earlier run")
    with pytest.raises(RuntimeError, match="out of memory"):
        balloon.detect_and_color_splash(Failing(), video_path=video, output=output)
    assert output.read_bytes() == b"of an earlier run"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.avi", "out.avi"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "image_path is None and video_path None; give one"),
        ({"image_path": "a.png", "video_path": "a.avi"}, ValueError, "give one of them"),
        ({"image_path": "a.png", "output": "a.avi"}, ValueError, "must end with .png or .jpg"),
        ({"video_path": "a.avi", "output": "a.gif"}, ValueError, "must end with .avi or .mp4"),
        ({"image_path": "a.png"}, FileNotFoundError, "a.png"),
        ({"video_path": "a.avi"}, FileNotFoundError, "a.avi does not exist"),
        ({"video_path": "text.avi"}, OSError, "text.avi cannot be opened as a video"),
        ({"image_path": "text.avi"}, OSError, "text.avi cannot be read as an image"),
    ],
)
def test_what_cannot_be_splashed_is_named(tmp_path, monkeypatch, arguments, error, message):
    monkeypatch.chdir(tmp_path)
    Path("text.avi").write_text("no video")
    with pytest.raises(error, match=message):
        balloon.detect_and_color_splash(Finder(), **arguments)
    assert [p.name for p in tmp_path.iterdir()] == ["text.avi"]


# ---- Command line --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--weights=coco"], "train needs --dataset DIR"),
        (["evaluate", "--weights=last"], "evaluate needs --dataset DIR"),
        (["splash", "--weights=last"], "splash needs --image or --video"),
        (["splash", "--weights=last", "--image=a", "--video=b"], "one of them"),
        (["splash", "--weights=COCO", "--image=a"], "--weights=COCO knows no balloons"),
        (["sing", "--weights=last"], "invalid choice: 'sing'"),
    ],
)
def test_the_command_line_says_what_is_missing(words, message, capsys):
    with pytest.raises(SystemExit):
        balloon.parse_arguments(words)
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_the_sample_runs_from_anywhere(tmp_path):
    path = Path(balloon.ROOT_DIR) / "samples" / "balloon" / "balloon.py"
    command = [sys.executable, path, "--help"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "usage" in result.stdout


@pytest.mark.slow
def test_train_evaluate_and_splash_from_the_command_line(tmp_path, monkeypatch, capsys):
    from mrcnn.model import MaskRCNN
    from mrcnn.weights import save_weights

    def tiny(**settings):
        return lambda: tiny_config(NAME="balloon", NUM_CLASSES=2, **settings)

    monkeypatch.setattr(balloon, "BalloonConfig", tiny(IMAGES_PER_GPU=1))
    monkeypatch.setattr(balloon, "BalloonInferenceConfig", tiny(IMAGES_PER_GPU=1))
    monkeypatch.setattr(balloon, "BalloonEvaluationConfig", tiny(IMAGES_PER_GPU=1))
    monkeypatch.setattr(balloon, "args", None)
    run_eagerly(monkeypatch)
    for subset in ("train", "val"):
        write_subset(tmp_path / "data" / subset)
    model = MaskRCNN("training", balloon.BalloonConfig(), tmp_path / "logs")
    save_weights(model.keras_model, tmp_path / "random.h5")
    words = [f"--logs={tmp_path / 'logs'}", f"--dataset={tmp_path / 'data'}"]

    balloon.main(["train", f"--weights={tmp_path / 'random.h5'}", "--epochs=1", *words])
    (checkpoint,) = (tmp_path / "logs").rglob("mask_rcnn_balloon_0001.h5")
    balloon.main(["evaluate", "--weights=last", *words])
    assert f"Loading weights {checkpoint}" in (printed := capsys.readouterr().out)
    assert "segm" in printed
    image = tmp_path / "data" / "val" / "one.png"
    output = tmp_path / "splash.jpg"
    balloon.main(["splash", "--weights=last", words[0], f"--image={image}", f"--output={output}"])
    assert balloon.read_image(output).shape == (HEIGHT, WIDTH, 3)
