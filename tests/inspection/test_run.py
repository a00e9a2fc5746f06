"""The report on runs: curves, times, figures."""

import json

import pytest
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from mrcnn.inspection.page import write_report
from mrcnn.inspection.run import run_sections
from mrcnn.training.event_files import seconds_per_step
from mrcnn.training.figures import write_table
from tests.inspection.test_page import check_page


def write_run(folder, steps=6, seconds=2.0):
    """Events of a run whose steps take so many seconds, with a long pause in the middle."""
    folder.mkdir(parents=True)
    writer = EventFileWriter(str(folder))
    for step in range(1, steps + 1):
        value = Summary.Value(tag="Training/Loss", simple_value=1.0 / step)
        time = step * seconds + 100 * (step > steps // 2)
        writer.add_event(Event(step=step, wall_time=time, summary=Summary(value=[value])))
    writer.close()
    (folder / "run.json").write_text(json.dumps([{"command": "mrcnn train x", "epochs": [1, 2]}]))
    rows = [{"epoch": e, "segm_AP": e / 10} for e in (1, 2)]
    write_table(folder / "coco_ap.csv", rows)
    names = ["cat", "dog"]
    write_table(
        folder / "class_ap.csv", [{"epoch": 1, "cat": 0.5}, {"epoch": 2, "cat": 0.25}], names
    )
    return folder


def test_the_time_of_a_step_leaves_pauses_out(tmp_path):
    times = seconds_per_step(write_run(tmp_path / "a"))
    assert times.steps.tolist() == [2, 3, 5, 6] and times.values.tolist() == [2.0] * 4


def test_runs_side_by_side(tmp_path):
    folders = [write_run(tmp_path / "a"), write_run(tmp_path / "b", seconds=3.0)]
    sections = run_sections(folders)
    text = check_page(write_report(tmp_path / "report", "Runs", [], sections))
    for part in ("mrcnn train x", "1-2", "Mask AP by class: a", "The run has written no pictures."):
        assert part in text
    (times,) = (s for s in sections if s.title == "Time of a step")
    assert times.parts[1].rows == [["a", 2.0, 2.0], ["b", 3.0, 3.0]]


def test_a_folder_without_events(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no event files"):
        run_sections([tmp_path])


def test_an_event_file_that_was_cut_short(tmp_path):
    folder = write_run(tmp_path / "a", steps=20)
    (events,) = folder.glob("*tfevents*")
    data = events.read_bytes()
    events.write_bytes(data[: len(data) // 2])
    sections = run_sections([folder])
    assert 0 < len(seconds_per_step(folder).steps) < 19 and len(sections) == 5
