"""Work done ahead of its use."""

import pytest

from mrcnn.detection.threads import count_threads, map_ahead


def test_there_is_a_thread_per_core_up_to_a_limit(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(3)), raising=False)
    assert count_threads() == 3
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(300)))
    assert count_threads() == 16
    monkeypatch.delattr("os.sched_getaffinity")
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert count_threads() == 1


@pytest.mark.parametrize(("threads", "ahead"), [(1, 0), (1, 3), (4, 1), (4, 9)])
def test_mapping_ahead_keeps_the_order_and_reads_no_further(threads, ahead):
    taken, most = [], []

    def items():
        for number in range(30):
            taken.append(number)
            yield number

    for got, square in enumerate(map_ahead(lambda n: n * n, items(), threads, ahead), start=1):
        assert square == (got - 1) ** 2
        most.append(len(taken) - got)
    assert got == 30 and max(most) <= ahead
    assert list(map_ahead(abs, [], threads, ahead)) == []


def test_an_error_ahead_is_raised_in_its_turn_and_nothing_begins_after_it():
    began = []

    def inverse(number):
        began.append(number)
        return 1 / number

    got = []
    with pytest.raises(ZeroDivisionError):
        for value in map_ahead(inverse, [2, 1, 0, *range(1, 100)], threads=2, ahead=2):
            got.append(value)
    assert got == [0.5, 1.0] and len(began) <= 6
