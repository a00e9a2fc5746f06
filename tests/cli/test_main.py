"""The command line as a whole: verbs, help, errors of one line, exit statuses."""

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from mrcnn.cli import console
from mrcnn.cli.main import VERBS, main, mrcnn

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(capsys):
    """Function that runs a command line: its exit status, output and error lines."""

    def run(*words):
        status = main([str(word) for word in words])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def test_help_lists_every_verb(run):
    for words in (["--help"], ["-h"], []):
        status, out, _ = run(*words)
        assert status == (0 if words else 2)
        for name, verb in VERBS.items():
            assert re.search(rf"^  {name} +{re.escape(verb.help)}", out, re.MULTILINE)


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_has_an_example_and_all_options(run, verb):
    status, out, err = run(verb, "--help")
    assert status == 0 and not err
    assert "Example:" in out and f"mrcnn {verb} " in out and "--debug" in out
    command = mrcnn.get_command(None, verb)
    options = [one for one in command.params if isinstance(one, click.Option)]
    assert options and all(one.help for one in options)
    assert max(map(len, out.splitlines())) <= 100


def test_the_version(run):
    import importlib.metadata

    status, out, _ = run("--version")
    assert (status, out) == (0, f"mrcnn {importlib.metadata.version('mask-rcnn-keras3')}\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "there is no verb 'trian'; there are train, .* Did you mean train?"),
        (["train"], "Missing argument 'DATA'. See mrcnn train --help."),
        (["train", "x", "--epoch", "3"], "No such option"),
        (["train", "x", "--epochs", "three"], "'three' is not a valid integer"),
        (["train", "x", "--epochs", "0"], "0 is not in the range"),
        (
            ["train", "x", "--format", "cooc"],
            "'cooc' is no format of labels; .* mean coco?",
        ),
        (["train", "x", "--classes", "a,,b"], "a name is empty; write cat,dog"),
        (["train", "x", "--config", "nowhere.json"], "'nowhere.json' does not exist"),
        (["train", "x", "--augmentation", "much"], "'much' is not one of"),
        (["convert", "a", "b"], "Missing option '--to'"),
        (["detect", "run"], "Missing argument 'IMAGES"),
        (["evaluate", "run", "data", "--threshold", "2"], "2.0 is not in the range"),
        (["info", "nowhere"], "'nowhere' does not exist"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_status_2(run, words, message):
    status, out, err = run(*words)
    assert status == 2 and not out
    assert re.search(message, err) and err.startswith("Error: ") and err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "nowhere"], "Error: nowhere does not exist; name a file or folder of labels."),
        (["convert", "nowhere", "new", "--to", "coco"], "Error: nowhere does not exist"),
        (["convert", ".", "new", "--to", "xml"], "Error: 'xml' is no format of labels"),
    ],
)
def test_what_fails_is_one_line_and_status_1(run, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(*words)
    assert (status, out) == (1, "") and err.startswith(message) and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_debug_shows_the_traceback(run):
    status, _, err = run("train", "nowhere", "--debug")
    assert status == 1 and "Traceback (most recent call last)" in err
    assert err.splitlines()[-1].startswith("Error: nowhere does not exist")
    assert "Traceback" not in run("train", "nowhere")[2]


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (KeyError("x"), 1, "Error: unexpected KeyError: 'x'; --debug shows the traceback."),
        (ValueError("two\nlines"), 1, "Error: two lines"),
        (ValueError(), 1, "Error: unexpected ValueError: ; --debug shows the traceback."),
        (PermissionError(13, "Permission denied", "/x"), 1, "Error: /x: permission denied; choose"),
        (OSError(28, "No space left on device", "/x"), 1, "Error: /x: no space left on device; "),
    ],
)
def test_errors_of_any_kind(run, monkeypatch, error, status, message):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("mrcnn.data.convert.convert", fail)
    found, _, err = run("convert", "a", "b", "--to", "coco")
    assert found == status and err.startswith(message) and err.count("\n") == 1


def test_ctrl_c(run, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("mrcnn.data.convert.convert", stop)
    status, _, err = run("convert", "a", "b", "--to", "coco")
    assert (status, err.strip()) == (130, "Error: stopped.")


def test_warnings_and_messages_are_lines(run, monkeypatch):
    def warn(*_, **__):
        import logging
        import warnings

        logging.getLogger("mrcnn").info("%d images", 3)
        logging.getLogger("mrcnn").warning("odd")
        warnings.warn("strange", stacklevel=1)
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("for programmers", DeprecationWarning, stacklevel=1)
        raise ValueError("done")

    monkeypatch.setattr("mrcnn.data.convert.convert", warn)
    monkeypatch.setattr("warnings.filters", [])
    _, _, err = run("convert", "a", "b", "--to", "coco")
    assert err.splitlines() == ["3 images", "Warning: odd", "Warning: strange", "Error: done"]


def test_help_loads_no_framework():
    code = (
        "import sys; from mrcnn.cli.main import main; main(['train', '--help']); "
        "print(sorted({'keras', 'tensorflow', 'jax', 'torch', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]" and not done.stderr


def test_python_m_mrcnn():
    command = [sys.executable, "-m", "mrcnn", "convert", "nowhere", "new", "--to", "coco"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("Error: nowhere does not exist")


# ---- Console -------------------------------------------------------------------------------------


def test_a_table_has_numbers_to_the_right():
    rows = [["leaf", "1", "0.500"], ["a stem", "12", "-"]]
    assert console.table(["class", "n", "AP"], rows).splitlines() == [
        "class    n     AP",
        "leaf     1  0.500",
        "a stem  12      -",
    ]


def test_bars_are_quiet_without_a_terminal(capsys):
    with console.progress("images") as move:
        move(1, 2)
        move(2, None)
    assert capsys.readouterr() == ("", "")


def test_bars_in_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with console.progress("images") as move:
        move(1, 2)
    assert "images" in capsys.readouterr().err
