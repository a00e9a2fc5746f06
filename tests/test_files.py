"""Files that nobody sees half of, left-over ones, and JSON that is data."""

import json
import os
import subprocess
import sys

import pytest

from mrcnn import files


def test_a_file_is_replaced_only_when_the_new_one_is_complete(tmp_path):
    path = tmp_path / "new" / "folder" / "w.h5"
    with files.written_beside(path) as temporary:
        temporary.write_text("first")
        assert temporary.parent == path.parent
        assert not path.exists()
    assert path.read_text() == "first"
    with pytest.raises(RuntimeError), files.written_beside(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "first"
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_a_killed_process_left_is_removed(tmp_path):
    code = (
        "import os, sys; from mrcnn import files\n"
        f"with files.written_beside({str(tmp_path / 'w.h5')!r}) as path:\n"
        "    path.write_text('half'); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 9
    (left,) = tmp_path.iterdir()
    (tmp_path / ".part-of-the-users-own").write_text("kept")
    with files.written_beside(tmp_path / "mine.h5") as mine:
        mine.write_text("being written")
        assert files.remove_leftovers(tmp_path) == [left]
    assert {path.name for path in tmp_path.iterdir()} == {".part-of-the-users-own", "mine.h5"}


def test_a_file_of_another_machine_is_left_over_after_a_day(tmp_path):
    path = tmp_path / ".part-elsewhere-1-0123abcd-w.h5"
    path.write_text("half")
    assert files.remove_leftovers(tmp_path) == []
    os.utime(path, (0, 0))
    assert files.remove_leftovers(tmp_path) == [path]


def test_text_and_bytes_make_their_folder(tmp_path):
    files.write_text(tmp_path / "a" / "t.txt", "é")
    files.write_bytes(tmp_path / "a" / "b", b"\0\1")
    assert (tmp_path / "a" / "t.txt").read_bytes() == "é".encode()
    assert (tmp_path / "a" / "b").read_bytes() == b"\0\1"
    assert len(list((tmp_path / "a").iterdir())) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 5000 + "]" * 5000, "nested too deeply"),
        ("[" * 200_000, "nested too deeply"),
        ("9" * 5000, "not a JSON file"),
        ("{", "not a JSON file"),
        ("", "not a JSON file"),
    ],
    ids=["nested", "nested and open", "digits", "open", "empty"],
)
def test_what_is_no_json_is_one_sentence_with_the_files_name(tmp_path, text, message):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        files.read_json(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_bytes_that_are_no_utf_8_are_named(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(ValueError, match="a.json is not a JSON file in UTF-8"):
        files.read_json(path)


def test_comments_and_a_byte_order_mark_are_passed_over(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('\ufeff{"a": "http://b", // c\n "d": 1}', encoding="utf-8")
    assert files.read_json(path, comments=True) == {"a": "http://b", "d": 1}
    with pytest.raises(ValueError):
        files.read_json(path)


def test_nothing_stays_of_what_cannot_be_written(tmp_path):
    with pytest.raises(TypeError), files.written_beside(tmp_path / "a.json") as path:
        path.write_text(json.dumps(object()))
    assert list(tmp_path.iterdir()) == []


# ---- Several files at once -----------------------------------------------------------------------


def test_files_that_belong_together_get_their_names_together_and_in_order(tmp_path, monkeypatch):
    named = []
    replace = os.replace

    def note(source, target):
        named.append(target.name)
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", note)
    with files.written_together() as temporary_of:
        for name in ("b/one.png", "a/two.png", "table.gzip"):
            path = temporary_of(tmp_path / name)
            path.write_text(name)
            assert path == temporary_of(tmp_path / name)
            assert path.suffix == (tmp_path / name).suffix and not (tmp_path / name).exists()
    assert named == ["one.png", "two.png", "table.gzip"]
    assert (tmp_path / "a" / "two.png").read_text() == "a/two.png"


def test_on_an_error_none_of_them_is_written(tmp_path):
    (tmp_path / "one").write_text("before")
    with pytest.raises(RuntimeError), files.written_together() as temporary_of:
        temporary_of(tmp_path / "one").write_text("half")
        temporary_of(tmp_path / "two")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["one"]
    assert (tmp_path / "one").read_text() == "before"
