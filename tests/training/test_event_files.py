"""logs.py: event files of Keras and of other writers, resumed runs, figures of several runs."""

import keras
import numpy as np
import pytest
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from mrcnn.training import event_files as logs


def write_scalars(folder, tag, *events, suffix=""):
    """An event file as PyTorch writes it, of `(step, value, seconds)` each."""
    writer = EventFileWriter(str(folder), filename_suffix=suffix)
    for step, value, seconds in events:
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
        writer.add_event(Event(step=step, wall_time=seconds, summary=summary))
    writer.close()


@pytest.fixture(scope="module")
def keras_run(tmp_path_factory):
    """The folder of a run of three epochs that Keras wrote, and its History."""
    folder = tmp_path_factory.mktemp("runs") / "one"
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.125), loss="mse")
    x, y = np.eye(2), np.ones((2, 1))
    board = keras.callbacks.TensorBoard(str(folder), histogram_freq=1, write_graph=False)
    fit = model.fit(x, y, epochs=3, validation_data=(x, y), callbacks=[board], verbose=0)
    return folder, fit.history


def test_what_keras_wrote_is_its_history(keras_run):
    folder, history = keras_run
    run = logs.read_run(folder)
    assert set(run) == {"loss", "val_loss", "learning_rate"}  # no histogram is among them
    for name in ("loss", "val_loss"):
        assert run[name].steps.tolist() == [1, 2, 3]
        np.testing.assert_allclose(run[name].values, history[name], rtol=1e-6)
    assert run["learning_rate"].values.tolist() == [0.125] * 3


def test_what_others_wrote_keeps_its_tags_and_steps(tmp_path):
    write_scalars(tmp_path, "Training/Loss", (0, 3.0, 1), (500, 2.0, 2), (1000, 1.0, 3))
    write_scalars(tmp_path, "Validation/Loss_mask", (1, 0.5, 4), suffix=".more")
    run = logs.read_run(tmp_path)
    assert set(run) == {"Training/Loss", "Validation/Loss_mask"}
    assert run["Training/Loss"].steps.tolist() == [0, 500, 1000]
    assert run["Training/Loss"].values.tolist() == [3, 2, 1]


def test_all_steps_of_a_long_run_are_there(tmp_path):
    write_scalars(tmp_path, "loss", *[(step, step / 2, step) for step in range(20_000)])
    steps, values = logs.read_run(tmp_path)["loss"]
    np.testing.assert_array_equal(steps, np.arange(20_000))
    np.testing.assert_array_equal(values, np.arange(20_000) / 2)


def test_a_resumed_run_goes_on_where_it_was_taken_up(tmp_path):
    write_scalars(tmp_path, "loss", (0, 9, 1), (1, 8, 2), (2, 7, 3), (3, 6, 4), suffix=".killed")
    write_scalars(tmp_path, "loss", (2, 5, 10), suffix=".resumed")
    run = logs.read_run(tmp_path)
    assert run["loss"].steps.tolist() == [0, 1, 2] and run["loss"].values.tolist() == [9, 8, 5]


def test_a_file_cut_off_by_a_full_disk_is_read_as_far_as_it_goes(tmp_path):
    write_scalars(tmp_path, "loss", *[(step, 1.0, step) for step in range(10)])
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-5])
    assert logs.read_run(tmp_path)["loss"].steps.tolist() == list(range(9))


def test_runs_below_a_folder_are_found_and_named(keras_run, tmp_path):
    folder, _ = keras_run
    assert logs.find_runs(folder.parent) == [str(folder)] == logs.find_runs(folder)
    for name in ("a/fold_1", "a/fold_2", "b"):
        (tmp_path / name).mkdir(parents=True)
        write_scalars(tmp_path / name, "loss", (0, 1.0, 1))
    runs = logs.read_runs(logs.find_runs(tmp_path))
    assert list(runs) == ["a/fold_1", "a/fold_2", "b"]
    assert list(logs.read_runs([tmp_path / "b"])) == ["b"]


@pytest.mark.parametrize("name", ["empty", "missing"])
def test_a_folder_without_event_files_is_an_error(name, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=f"{name} has no event files of TensorBoard"):
        logs.read_run(tmp_path / name)
    assert logs.find_runs(tmp_path / name) == []


def scalars(*values):
    return logs.Scalars(np.arange(1, len(values) + 1), np.array(values, float))


def test_a_figure_has_a_panel_a_figure_and_a_colour_a_run(tmp_path):
    runs = {
        "one": {"loss": scalars(3, 2), "val_loss": scalars(4, 3), "val_segm_AP": scalars(0.1)},
        "two": {"loss": scalars(5, 4, 3), "Training/Loss": scalars(1.0)},
    }
    figure = logs.draw_runs(runs)
    panels = {axes.get_title(): axes for axes in figure.axes if axes.lines}
    assert list(panels) == ["loss", "segm_AP", "Training/Loss"]
    lines = panels["loss"].lines
    assert [list(line.get_ydata()) for line in lines] == [[3, 2], [4, 3], [5, 4, 3]]
    assert [line.get_color() for line in lines] == ["C0", "C0", "C1"]
    assert [line.get_linestyle() for line in lines] == ["-", "--", "-"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "one: training", "one: validation", "two: training"
    ]  # fmt: skip
    figure.savefig(tmp_path / "curves.png")


def test_coco_figures_beyond_ap_are_drawn_where_they_are_asked_for():
    run = {name: scalars(0.1, 0.2) for name in ("val_segm_AP50", "val_segm_ARl", "val_bbox_AP75")}
    titles = [axes.get_title() for axes in logs.draw_runs({"one": run}).axes]
    assert titles == ["segm_AP50"]
    figure = logs.draw_runs({"one": run}, ["segm_ARl", "segm_AP50"])
    assert [axes.get_title() for axes in figure.axes] == ["segm_ARl", "segm_AP50"]
    with pytest.raises(ValueError, match="no run has segm_AR; they have bbox_AP75, segm_AP50"):
        logs.draw_runs({"one": run}, ["segm_AR"])


def test_steps_have_panels_and_what_is_there_twice_has_one():
    ours = {
        "loss": scalars(3, 2),
        "val_loss": scalars(3, 2),
        "val_segm_AP": scalars(0.1),
        "Training/rpn_class_loss": scalars(1.0),
        "Training/Loss": scalars(*range(9)),
        "Validation/Loss": scalars(3, 2),
        "Validation/segm_AP": scalars(0.1),
        "Validation/segm_ARl": scalars(0.1),
    }
    ours["val_segm_ARl"] = ours["Validation/segm_ARl"]
    panels = ["loss", "segm_AP", "Training/Loss", "Training/rpn_class_loss"]
    axes = logs.draw_runs({"ours": ours}).axes
    assert [one.get_title() for one in axes if one.lines] == panels
    assert [one.get_xlabel() for one in axes if one.lines] == ["", "", "step", "step"]
    # A program that wrote the same tags, and no others, is shown beside ours.
    others = {"Validation/Loss": scalars(4, 3)}
    axes = logs.draw_runs({"ours": ours, "others": others}).axes
    assert [one.get_title() for one in axes if one.lines] == [*panels, "Validation/Loss"]
    assert len(axes[4].lines) == 2


def test_a_long_curve_is_drawn_as_it_is_and_as_its_means():
    values = np.arange(3000.0)
    values[1::2] = 0
    (axes,) = logs.draw_runs({"one": {"Training/Loss": scalars(*values)}}).axes
    faint, strong = axes.lines
    np.testing.assert_array_equal(faint.get_ydata(), values)
    # 150 parts of twenty steps; ten of them are the even numbers.
    np.testing.assert_allclose(strong.get_ydata(), np.arange(150) * 10 + 4.5)
    np.testing.assert_allclose(strong.get_xdata(), np.arange(150) * 20 + 10.5)
    assert faint.get_alpha() < 0.5 and faint.get_color() == strong.get_color()


def test_no_run_is_an_error():
    assert logs.read_runs([]) == {}
    with pytest.raises(ValueError, match="no run to draw"):
        logs.draw_runs({})
