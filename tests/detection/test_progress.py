"""detection/progress.py: what is said, and how often."""

from mrcnn.detection import progress


def test_progress_is_said_now_and_then_and_at_the_end(monkeypatch, capsys):
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    say = progress.progress_line(1000)
    for done in range(1, 1001):
        clock[0] += 0.5  # the first takes as long as the others, and is not counted
        say(done)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "120 of 1000 images, 2.0 images/s, 880 left, 7 min"
    assert lines[-1] == "1000 of 1000 images, 2.0 images/s, 0 left"
    assert len(lines) == 9


def test_long_times_are_said_in_hours():
    assert [progress._duration(seconds) for seconds in (0, 90, 3600, 86400)] == [
        "0 min",
        "2 min",
        "1 h 0 min",
        "24 h 0 min",
    ]
