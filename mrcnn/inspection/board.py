"""What TensorBoard shows of a run besides its curves: settings, AP by class, pictures."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from mrcnn.config import Config
from mrcnn.data.dataset import Dataset, load_image_for
from mrcnn.inspection.figures import draw_objects, panels, short_name
from mrcnn.report import truth_of
from mrcnn.training import distribution
from mrcnn.training.callbacks import CocoEvaluation, event_writer
from mrcnn.types import PathLike

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Detections with less are not drawn.
_LEAST_SCORE = 0.5
# Settings that people vary, for the tab of hyper-parameters.
_VARIED = (
    "BACKBONE",
    "IMAGE_MAX_DIM",
    "BATCH_SIZE",
    "LEARNING_RATE",
    "LEARNING_RATE_SCHEDULE",
    "OPTIMIZER",
    "WEIGHT_DECAY",
    "GRADIENT_CLIP_NORM",
    "RPN_NMS_THRESHOLD",
    "TRAIN_ROIS_PER_IMAGE",
    "TRAIN_BN",
)


class RunBoard(keras.callbacks.Callback):
    """Writes settings, AP by class, and pictures of predictions beside the truth for TensorBoard.

    The settings are a text and hyper-parameters, written when training begins. After each epoch
    that `evaluation` evaluates come `Classes/<name>`, the segm AP, and `Predictions/<image>`, the
    truth on the left and detections from a score of 0.5 on on the right. Epochs count from 1.

    Args:
        log_dir: folder to write to, `MaskRCNN.log_dir` for a run.
        config: the settings of the training.
        evaluation: comes earlier in the list of callbacks; None: only the settings are written.
        count: number of pictures.

    Raises:
        ImportError: when training begins, TensorBoard is not installed.
    """

    def __init__(
        self,
        log_dir: PathLike,
        config: Config,
        evaluation: CocoEvaluation | None = None,
        count: int = 4,
    ):
        super().__init__()
        self.log_dir = log_dir
        self.config = config
        self.evaluation = evaluation
        self.count = count

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Write the settings."""
        self._writer = event_writer(str(self.log_dir))
        self._write(0, _settings_text(self.config))
        self._write(0, _hyper_parameters(self.config, Path(self.log_dir).name))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write AP by class and pictures."""
        evaluation = self.evaluation
        if evaluation is None or (epoch + 1) % evaluation.every:
            return
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [
            Summary.Value(tag=f"Classes/{name}", simple_value=ap)
            for name, ap in evaluation.by_class.items()
        ]
        dataset = evaluation.dataset
        detector = evaluation.current_detector()
        ids = dataset.image_ids[np.linspace(0, len(dataset.image_ids) - 1, self.count).astype(int)]
        for image_id in dict.fromkeys(ids.tolist()):
            with distribution.data_on(None):
                figure = _picture(detector, self.config, dataset, image_id)
            name = short_name(dataset, image_id)
            values.append(Summary.Value(tag=f"Predictions/{name}", image=_as_image(figure)))
        self._write(epoch + 1, Summary(value=values))

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Close the event file."""
        self._writer.close()

    def _write(self, step: int, summary: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._writer.add_event(Event(step=step, wall_time=time.time(), summary=summary))
        self._writer.flush()


def _picture(detector: Any, config: Config, dataset: Dataset, image_id: int) -> Figure:
    image = load_image_for(config, dataset, image_id)
    (found,) = detector.detect([image])
    kept = found["scores"] >= _LEAST_SCORE
    objects = {
        "masks": found["masks"][..., kept],
        "class_ids": found["class_ids"][kept],
        "scores": found["scores"][kept],
    }
    figure, grid = panels(2, columns=2, shape=image.shape[:2])
    pairs = ((truth_of(dataset, image_id, image), "truth"), (objects, "detected"))
    for axes, (shown, name) in zip(grid, pairs, strict=True):
        title = f"{name}: {len(shown['class_ids'])}"
        draw_objects(axes, image, shown, dataset.class_names, title)
    return figure


def _as_image(figure: Figure) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary

    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=80)
    width, height = (round(side * 80) for side in figure.get_size_inches())
    return Summary.Image(
        height=height, width=width, colorspace=4, encoded_image_string=stream.getvalue()
    )


def _settings_text(config: Config) -> Any:
    """The settings as a table in Markdown."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.text.metadata import create_summary_metadata
    from tensorboard.util.tensor_util import make_tensor_proto

    rows = [f"| {name} | {json.dumps(value)} |" for name, value in config.json_values().items()]
    text = "\n".join(["| setting | value |", "|---|---|", *rows])
    value = Summary.Value(
        tag="config",
        metadata=create_summary_metadata("config", ""),
        tensor=make_tensor_proto(np.array(text.encode("utf-8"), object)),
    )
    return Summary(value=[value])


def _hyper_parameters(config: Config, run: str) -> Any:
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb

    values = {name: getattr(config, name) for name in _VARIED}
    plain = {
        name: value if isinstance(value, (bool, int, float, str)) else str(value)
        for name, value in values.items()
    }
    return hparams_pb(plain, trial_id=run)
