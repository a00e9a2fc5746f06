"""What TensorBoard reads of a run: settings, AP by class, pictures."""

import io

import PIL.Image
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.util.tensor_util import make_ndarray

from mrcnn.inspection.board import RunBoard
from mrcnn.mask_rcnn import MaskRCNN
from mrcnn.training.callbacks import CocoEvaluation, StepLog
from mrcnn.training.event_files import read_run
from tests.tiny import random_rectangles, run_eagerly, tiny_config

DATA = random_rectangles(3)


@pytest.fixture
def log_dir(tmp_path, monkeypatch):
    """The folder of a run of two epochs, evaluated after the second."""
    run_eagerly(monkeypatch)
    model = MaskRCNN("training", tiny_config(STEPS_PER_EPOCH=1, LEARNING_RATE=0.004), str(tmp_path))
    evaluation = CocoEvaluation(model, DATA, every=2)
    board = RunBoard(model.log_dir, model.config, evaluation, count=5)
    steps = StepLog(model.log_dir, batch_size=2)
    callbacks = [evaluation, board, steps]
    model.train(DATA, None, 0.001, 2, "heads", custom_callbacks=callbacks, verbose=0)
    return model.log_dir


def test_a_run_on_the_board(log_dir):
    events = EventAccumulator(log_dir, size_guidance={"images": 0, "tensors": 0}).Reload()
    text = make_ndarray(events.Tensors("config")[0].tensor_proto).item().decode()
    assert "| LEARNING_RATE | 0.004 |" in text and "| IMAGE_MAX_DIM | 64 |" in text

    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    values = HParamsPluginData.FromString(content).session_start_info.hparams
    assert values["LEARNING_RATE"].number_value == 0.004
    assert values["OPTIMIZER"].string_value == "sgd"

    run = read_run(log_dir)
    classes = {name: run[name].steps.tolist() for name in run if name.startswith("Classes/")}
    assert classes == {f"Classes/{name}": [2] for name in ("bar", "block", "tile")}
    assert (run["Training/images_per_second"].values > 0).all()
    assert run["Training/images_per_second"].steps.tolist() == [1, 2]

    pictures = [tag for tag in events.Tags()["images"] if tag.startswith("Predictions/")]
    assert pictures == ["Predictions/0: 0", "Predictions/1: 1", "Predictions/2: 2"]
    (event,) = events.Images(pictures[0])
    with PIL.Image.open(io.BytesIO(event.encoded_image_string)) as image:
        assert image.size == (event.width, event.height) and event.step == 2
