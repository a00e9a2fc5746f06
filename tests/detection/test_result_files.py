"""detection/result_files.py: each result is there once and whole, however often writing stops."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrcnn.detection import result_files as results

SETTINGS = {"weights": "one", "NAME": "tiny"}


def detection(number):
    return {
        "category_id": 1 + number,
        "category_name": "bar, or\nblock",
        "score": 0.125 * number,
        "bbox": [number, 2, 3, 4],
        "segmentation": {"size": [40, 30], "counts": f"abc\\{number}"},
    }


def result(name, count=1):
    found = [detection(number) for number in range(count)]
    return {"file_name": name, "width": 30, "height": 40, "detections": found}


def failure(name):
    return {"file_name": name, "error": f'"{name}" is no image'}


ALL = [result("a/1.jpg"), result("2.jpg", 0), failure("3.jpg"), result('ü "4\\".jpg', 3)]


def write(opened, wanted=ALL):
    """Add what has no result yet; how many these were."""
    with opened as store:
        missing = [entry for entry in wanted if not store.is_done(entry["file_name"])]
        assert store.done == len(wanted) - len(missing)
        for entry in missing:
            store.add(entry)
    return len(missing)


def read_parts(folder):
    """Results as they were added, from the rows of all parts in order."""
    frame = pandas.concat(map(pandas.read_parquet, sorted(Path(folder).glob("[!_]*.parquet"))))
    found = []
    for name, rows in frame.groupby("file_name", sort=False):
        first = rows.iloc[0]
        if isinstance(first.error, str):
            found.append({"file_name": name, "error": first.error})
            continue
        shown = rows[rows.category_id.notna()]
        size = {"width": int(first.width), "height": int(first.height)}
        found.append({"file_name": name, **size, "detections": [*map(_as_detection, shown.iloc)]})
    return found


def _as_detection(row):
    return {
        "category_id": int(row.category_id),
        "category_name": row.category_name,
        "score": row.score,
        "bbox": [row.bbox_x, row.bbox_y, row.bbox_width, row.bbox_height],
        "segmentation": {"size": [int(row.height), int(row.width)], "counts": row.segmentation},
    }


# ---- JSON lines ----------------------------------------------------------------------------------


def test_json_lines_hold_what_was_added_and_continue(tmp_path):
    path = tmp_path / "new" / "found.jsonl"
    assert write(results.open_jsonl(path, SETTINGS), ALL[:2]) == 2
    assert write(results.open_jsonl(path, SETTINGS)) == 2
    assert write(results.open_jsonl(path, SETTINGS)) == 0
    assert [json.loads(line) for line in path.read_text().splitlines()] == ALL
    assert list(results.read_jsonl(path)) == ALL
    with results.open_jsonl(path, SETTINGS) as store:
        assert (store.done, store.failed) == (4, 1)
        assert not store.is_done("1.jpg")
    assert sorted(p.name for p in path.parent.iterdir()) == [
        "_found.jsonl.settings.json",
        "found.jsonl",
    ]


def test_a_line_is_in_the_file_as_soon_as_it_is_added(tmp_path):
    with results.open_jsonl(tmp_path / "found.jsonl", SETTINGS) as store:
        for count, entry in enumerate(ALL, start=1):
            store.add(entry)
            assert list(results.read_jsonl(tmp_path / "found.jsonl")) == ALL[:count]


def test_a_file_that_ends_at_any_byte_is_completed_to_what_it_was(tmp_path, caplog):
    path = tmp_path / "found.jsonl"
    write(results.open_jsonl(path, SETTINGS))
    whole = path.read_bytes()
    ends = {0, *np.cumsum([len(line) for line in whole.splitlines(keepends=True)]).tolist()}
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        caplog.clear()
        write(results.open_jsonl(path, SETTINGS))
        assert path.read_bytes() == whole, size
        assert ("incomplete line" in caplog.text) == (size not in ends), size


@settings(max_examples=40)
@given(st.lists(st.text(min_size=1), unique=True), st.text(min_size=1))
def test_any_names_are_found_again(tmp_path_factory, names, other):
    path = tmp_path_factory.mktemp("names") / "found.jsonl"
    write(results.open_jsonl(path, {}), [result(name) for name in names])
    with results.open_jsonl(path, {}) as store:
        assert store.done == len(names) and all(map(store.is_done, names))
        assert store.is_done(other) == (other in names)


@pytest.mark.parametrize(
    ("content", "line"),
    [(b"some text", 1), (b"[1, 2]\n", 1), (b'{"file_name": "a", "width": 3\n', 1), (b"%a\nb", 2)],
)
def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path, content, line):
    content = content.replace(b"%a", json.dumps(result("a")).encode())
    content = content + b"\n" if line == 2 else content
    path = tmp_path / "found.jsonl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"found.jsonl: line {line} is not a result"):
        write(results.open_jsonl(path, SETTINGS))
    assert path.read_bytes() == content
    assert [p.name for p in tmp_path.iterdir()] == ["found.jsonl"]


def test_results_of_other_settings_are_not_mixed(tmp_path):
    path = tmp_path / "found.jsonl"
    write(results.open_jsonl(path, SETTINGS), ALL[:2])
    with pytest.raises(ValueError, match="other settings: weights was one and is two; depth was n"):
        write(results.open_jsonl(path, {**SETTINGS, "weights": "two", "depth": "3"}))
    assert len(path.read_text().splitlines()) == 2
    (tmp_path / "_found.jsonl.settings.json").unlink()  # as the message says
    assert write(results.open_jsonl(path, {**SETTINGS, "weights": "two"})) == 2


@pytest.mark.parametrize("open_store", [results.open_jsonl, results.open_parquet])
def test_a_run_that_failed_before_its_first_result_binds_no_other(tmp_path, open_store):
    with pytest.raises(RuntimeError), open_store(tmp_path / "found", SETTINGS):
        raise RuntimeError("these weights do not fit")
    other = {**SETTINGS, "weights": "two"}
    assert write(open_store(tmp_path / "found", other)) == len(ALL)
    with pytest.raises(ValueError, match="weights was two and is one"):
        write(open_store(tmp_path / "found", SETTINGS))


@pytest.mark.parametrize("content", ["[]", "{", ""])
def test_settings_that_cannot_be_read_are_named(tmp_path, content):
    write(results.open_jsonl(tmp_path / "found.jsonl", SETTINGS), ALL[:1])
    (tmp_path / "_found.jsonl.settings.json").write_text(content)
    with pytest.raises(ValueError, match="_found.jsonl.settings.json (is not|does not)"):
        write(results.open_jsonl(tmp_path / "found.jsonl", SETTINGS))


@pytest.mark.skipif(sys.platform == "win32", reason="no fcntl")
@pytest.mark.parametrize("open_store", [results.open_jsonl, results.open_parquet])
def test_a_second_writer_is_refused(tmp_path, open_store):
    with open_store(tmp_path / "found", SETTINGS) as store:
        with pytest.raises(OSError, match="another process is writing to .*found"):
            write(open_store(tmp_path / "found", SETTINGS))
        store.add(ALL[0])
    assert write(open_store(tmp_path / "found", SETTINGS)) == len(ALL) - 1


# ---- Parquet -------------------------------------------------------------------------------------


@pytest.mark.parametrize("part_bytes", [1, 100, 1 << 20])
def test_parts_hold_what_was_added_and_continue(tmp_path, part_bytes):
    def opened():
        return results.open_parquet(tmp_path, SETTINGS, "part", part_bytes)

    assert write(opened(), ALL[:1]) == 1
    assert write(opened()) == 3
    assert write(opened()) == 0
    assert read_parts(tmp_path) == ALL
    with opened() as store:
        assert (store.done, store.failed) == (4, 1)
    # Readers take a folder as one table and leave out names that begin with "_".
    assert len(pandas.read_parquet(tmp_path)) == 1 + 1 + 1 + 3
    parts = sorted(tmp_path.glob("part-*"))
    assert [p.name for p in parts] == [f"part-{i:06d}.parquet" for i in range(len(parts))]
    assert len(parts) == (4 if part_bytes == 1 else 2 if part_bytes > 1000 else 3)


def test_nothing_is_lost_or_there_twice_when_making_a_part_breaks_off(tmp_path, monkeypatch):
    """A part is written, named, and its lines dropped: a run ends before each of these."""

    class Killed(BaseException):
        pass

    replace = os.replace

    def killed(*arguments):
        if str(arguments[-1]).endswith(".json"):  # the settings
            return replace(*arguments)
        raise Killed

    for broken in ("_write_part", "os.replace", "_empty"):
        with monkeypatch.context() as patch:
            patch.setattr(f"mrcnn.results.{broken}", killed)
            with pytest.raises(Killed):
                write(results.open_parquet(tmp_path / broken, {}, part_bytes=1))
        assert write(results.open_parquet(tmp_path / broken, {}, part_bytes=1)) == 3
        assert read_parts(tmp_path / broken) == ALL
        assert (tmp_path / broken / "_part.jsonl").read_bytes() == b""


def test_temporary_files_of_a_killed_run_are_removed_by_the_next(tmp_path):
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    left = tmp_path / f".part-{socket.gethostname()}-{killed.pid}-0123abcd-part-000000.parquet"
    left.touch()
    write(results.open_parquet(tmp_path, SETTINGS))
    assert not left.exists() and read_parts(tmp_path) == ALL


def test_after_an_error_lines_wait_in_the_journal(tmp_path):
    with pytest.raises(RuntimeError), results.open_parquet(tmp_path, SETTINGS) as store:
        store.add(ALL[0])
        raise RuntimeError
    assert not list(tmp_path.glob("*.parquet"))
    assert write(results.open_parquet(tmp_path, SETTINGS)) == 3
    assert read_parts(tmp_path) == ALL


def test_an_image_with_more_rows_than_are_written_at_once_is_one_image(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "_ROWS_AT_ONCE", 2)
    wanted = [result("a", 5), result("b", 1), result("c", 4)]
    write(results.open_parquet(tmp_path, SETTINGS), wanted)
    assert read_parts(tmp_path) == wanted
    assert write(results.open_parquet(tmp_path, SETTINGS), wanted) == 0


def test_without_pyarrow_a_hint_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match="pip install .*galaxy.*or ask for jsonl"):
        write(results.open_parquet(tmp_path / "out", SETTINGS))
    assert not (tmp_path / "out").exists()


# ---- Shards --------------------------------------------------------------------------------------


def test_names_of_shards():
    assert results.shard_ending((0, 1)) == ""
    assert results.shard_ending((2, 3)) == "-2-of-3"


@pytest.mark.parametrize(
    ("there", "shard", "refused"),
    [
        ("part-000000.parquet", (0, 1), False),
        ("part-000000.parquet", (0, 3), True),
        ("part-0-of-3-000007.parquet", (1, 3), False),
        ("part-0-of-3-000007.parquet", (1, 4), True),
        ("_part-0-of-3.jsonl", (0, 1), True),
        ("_part.jsonl", (0, 2), True),
        ("part.jsonl", (0, 2), True),
        ("parts.jsonl", (0, 2), False),
        ("_part.jsonl.settings.json", (0, 2), False),
    ],
)
def test_another_number_of_shards_is_refused(tmp_path, there, shard, refused):
    results.refuse_other_splits(tmp_path / "nowhere", "part", shard)
    (tmp_path / there).touch()
    if not refused:
        results.refuse_other_splits(tmp_path, "part", shard)
        return
    with pytest.raises(ValueError, match=rf"{there} is of \d shards, .* shard {shard[0]}/"):
        results.refuse_other_splits(tmp_path, "part", shard)


# ---- Killed --------------------------------------------------------------------------------------

WRITER = """
import sys, time
from mrcnn.detection import result_files as results
kind, path, count = sys.argv[1:]
entries = [{"file_name": f"{i}.jpg", "width": 3, "height": 4, "detections": [{
    "category_id": 1, "category_name": "a", "score": 0.5, "bbox": [0, 0, 1, 1],
    "segmentation": {"size": [4, 3], "counts": "x" * (50 * i)}}]} for i in range(int(count))]
opened = (results.open_jsonl(path, {}) if kind == "jsonl"
          else results.open_parquet(path, {}, part_bytes=20000))
with opened as store:
    print(store.done, flush=True)
    for entry in entries:
        if not store.is_done(entry["file_name"]):
            store.add(entry)
            print("x", end="", flush=True)
            time.sleep(0.002)
print()
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_writer_that_is_killed_goes_on(tmp_path, kind):
    path, count = tmp_path / "found", 120
    command = [sys.executable, "-c", WRITER, kind, str(path), str(count)]
    done = 0
    for before_the_end in (23, 40, 9):
        with subprocess.Popen(
            command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, bufsize=0
        ) as process:
            found = int(process.stdout.readline())
            assert found >= done
            marks = [process.stdout.read(1) for _ in range(before_the_end)]
            os.kill(process.pid, signal.SIGKILL)
        done = found + marks.count(b"x")
    ended = subprocess.run(
        command, cwd=Path(__file__).parents[2], check=True, capture_output=True, text=True
    )
    first, marks = ended.stdout.splitlines()
    assert done <= int(first) == count - len(marks)
    written = list(results.read_jsonl(path)) if kind == "jsonl" else read_parts(path)
    assert [entry["file_name"] for entry in written] == [f"{i}.jpg" for i in range(count)]
    counts = [entry["detections"][0]["segmentation"]["counts"] for entry in written]
    assert counts == ["x" * (50 * i) for i in range(count)]
