"""Pickles read as data: what comes out, and that no pickle gets anything to run."""

import collections
import io
import os
import pickle
import pickletools
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrcnn.weights.pickles import Name, Object, read_pickle

CALLS = {"collections.OrderedDict": lambda arguments: dict(*arguments)}


def read(data, load=None, calls=CALLS):
    return read_pickle(io.BytesIO(data), calls, load or refuse)


def refuse(identifier):
    raise ValueError(f"persistent id {identifier!r}")


# ---- Values ----------------------------------------------------------------------------------

plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
    | st.binary(),
    lambda inner: st.lists(inner)
    | st.lists(inner).map(tuple)
    | st.dictionaries(st.text() | st.integers(-(2**32), 2**32), inner),
)  # fmt: skip


@settings(deadline=None, max_examples=50)
@given(plain_values, st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_plain_values_come_back(value, protocol):
    # Protocols below 3 call a function of the module _codecs to make bytes.
    calls = {"_codecs.encode": lambda arguments: arguments[0].encode("latin1"),
             "__builtin__.bytes": lambda arguments: b""}  # fmt: skip
    back, unknown = read(pickle.dumps(value, protocol), calls=calls)
    assert (back, unknown) == (value, [])
    assert repr(back) == repr(value)  # tells 1 from True


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_shared_and_nested_values(protocol):
    shared = [1]
    shared.append(shared)
    value = {"a": shared, "b": (shared, collections.OrderedDict(x=shared)), 3: {1, 2}}
    back, unknown = read(pickle.dumps(value, protocol), calls={**CALLS, "__builtin__.set": list})
    assert back["a"][1] is back["a"] and back["b"][0] is back["a"]
    assert back["b"][1] == {"x": back["a"]} and type(back["b"][1]) is dict
    assert unknown in ([], ["__builtin__.set"]) or protocol < 4


def test_bytes_and_sets_of_newer_protocols():
    value = [bytearray(b"ab"), {1}, frozenset([2])]
    assert read(pickle.dumps(value, 5)) == ([bytearray(b"ab"), [1], [2]], [])


def test_keys_that_are_no_texts_or_numbers_are_left_out():
    assert read(pickle.dumps({(1, 2): 3, None: 4, "a": 5})) == ({"a": 5}, [])


def test_the_file_stands_behind_the_pickle():
    file = io.BytesIO(pickle.dumps([1]) + pickle.dumps("two") + b"rest")
    assert read_pickle(file, {}, refuse)[0] == [1]
    assert read_pickle(file, {}, refuse)[0] == "two"
    assert file.read() == b"rest"


class Thing:
    """An ordinary object with attributes."""

    def __init__(self, **attributes):
        self.__dict__.update(attributes)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_object_of_a_class_is_named_and_empty(protocol):
    value = [Thing(a=1), types.SimpleNamespace(b=2), Path("c"), np.float32(3)]
    back, unknown = read(pickle.dumps(value, protocol))
    assert all(type(item) is Object for item in back)
    assert {f"{Thing.__module__}.Thing", "types.SimpleNamespace"} & set(unknown)
    assert any(name.startswith("pathlib") for name in unknown)
    assert any(name.startswith("numpy") for name in unknown)


def test_what_is_answered_for_gets_the_arguments():
    seen = []
    data = pickle.dumps([complex(1, 2), complex], 4)
    back, unknown = read(data, calls={"builtins.complex": lambda args: seen.append(args) or "c"})
    assert back[0] == "c" and seen == [(1.0, 2.0)] and unknown == []
    assert isinstance(back[1], Name) and back[1].name == "builtins.complex"


def test_persistent_ids_are_handed_on():
    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return ("storage", 7) if value == "here" else None

    file = io.BytesIO()
    Pickler(file).dump(["here", "there"])
    assert read(file.getvalue(), load=lambda given: [given])[0] == [[("storage", 7)], "there"]
    assert read(b"Pan id\n.", load=str.upper)[0] == "AN ID"


# ---- Hostile files ---------------------------------------------------------------------------


def text(value):
    return b"X" + len(value.encode()).to_bytes(4, "little") + value.encode()


def hostile(path):
    """Pickles that write `path` when Python reads them, each in another way."""
    command = f"echo written > '{path}'"
    python = f"open({str(path)!r}, 'w').close()"

    class Reduced:
        def __init__(self, function, *arguments):
            self.reduced = function, arguments

        def __reduce__(self):
            return self.reduced

    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        yield pickle.dumps(Reduced(os.system, command), protocol)
        yield pickle.dumps({"state_dict": [Reduced(open, str(path), "w")]}, protocol)
    yield pickle.dumps(Reduced(exec, python))
    system = b"cos\nsystem\n"
    yield b"(" + text(command) + b"ios\nsystem\n."  # INST
    yield b"(" + system + text(command) + b"o."  # OBJ
    yield b"\x80\x04" + text("os") + text("system") + b"\x93" + text(command) + b"\x85R."
    # Dotted: an attribute of an attribute of a module.
    yield b"\x80\x04" + text("shutil") + text("os.system") + b"\x93" + text(command) + b"\x85R."
    # BUILD gives an object its own __setstate__, and calls it.
    state = b"}" + text("__setstate__") + system + b"s"
    yield b"ctypes\nSimpleNamespace\n)R" + state + b"b" + text(command) + b"b."
    # A function fetched from a module's dict.
    yield (
        b"cbuiltins\ngetattr\n(cos\n__dict__\n"
        + text("get")
        + b"tR"
        + text("system")
        + (b"\x85R" + text(command) + b"\x85R.")
    )
    # A list of calls, made while a list is filled.
    yield b"cbuiltins\nlist\n(cbuiltins\nmap\n" + system + b"]" + text(command) + b"a\x86RtR."
    yield b"cbuiltins\neval\n" + text(python) + b"\x85R."


def test_a_hostile_pickle_writes_nothing(tmp_path):
    path = tmp_path / "written"
    pickles = list(hostile(path))
    for data in pickles:
        value, unknown = read(data)
        assert unknown and not path.exists(), data
    assert which_write(pickles, path) == [True] * len(pickles)


def which_write(pickles, path):
    """Which of them write the file when Python reads them: without that, the test has no teeth."""
    program = (
        "import os, pickle, sys\n"
        "for line in sys.stdin:\n"
        "    pickle.loads(bytes.fromhex(line))\n"
        f"    print(os.path.exists({str(path)!r}), flush=True)\n"
        f"    os.path.exists({str(path)!r}) and os.remove({str(path)!r})\n"
    )
    lines = "\n".join(data.hex() for data in pickles)
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], input=lines, capture_output=True,
        text=True, timeout=100, check=True,
    )  # fmt: skip
    return [line == "True" for line in result.stdout.split()]


def test_nothing_that_a_pickle_names_is_imported(tmp_path, monkeypatch):
    (tmp_path / "never_imported.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    for data in (b"cnever_imported\nfunction\n.", b"(inever_imported\nThing\n."):
        value, unknown = read(data)
        assert len(unknown) == 1 and unknown[0].startswith("never_imported.")
        assert value.name == unknown[0]
    assert "never_imported" not in sys.modules


def test_extensions_are_not_looked_up():
    assert read(b"\x80\x02\x82\x05)R.")[1] == ["copyreg extension.5"]


def test_names_answered_for_are_whole():
    """A part of a name, or a name in two pieces, is another name."""
    for data in (b"ccollections\nOrdered\n.", b"cxcollections\nOrderedDict\n."):
        assert read(data)[1] != []
    dotted = b"\x80\x04" + text("collections.OrderedDict") + text("__init__") + b"\x93."
    assert read(dotted)[1] == ["collections.OrderedDict.__init__"]


def test_great_numbers_take_no_memory():
    assert read(b"K\x01r\xff\xff\xff\xff.")[0] == 1  # place 2**32 - 1 of the memo
    deep = read(b")" + b"\x85" * 100_000 + b".")[0]
    assert deep[0][0] != ()
    # As a key it would have to be hashed, which nests as deep.
    assert read(b"}" + b")" + b"\x85" * 100_000 + b"Ns.")[0] == {}
    with pytest.raises(ValueError, match="damaged"):
        read(b"\x8e" + (2**62).to_bytes(8, "little") + b"abc.")  # bytes of that length
    with pytest.raises(ValueError, match="no place 4294967297 in the memo"):
        read(b"K\x01p4294967297\n.")
    assert read(b"}\x8a\x09" + (2**62).to_bytes(9, "little") + b"Ns.")[0] == {}


def test_names_longer_than_any_are_refused():
    with pytest.raises(ValueError, match="damaged .a name is too long"):
        read(b"\x80\x04" + text("m" * 600) + text("n" * 600) + b"\x93.")


def test_arguments_are_a_tuple():
    """A list of any length could be passed a million times, and copied each time."""
    with pytest.raises(ValueError, match="arguments of collections.OrderedDict are no tuple"):
        read(b"ccollections\nOrderedDict\n]R.")


# ---- Damaged files ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b".",
        b"]",
        b"K",
        b"0.",
        b"t.",
        b"s.",
        b"R.",
        b"N\x85\x87.",
        b"h\x05.",
        b"a.",
        b"(K\x01K\x02K\x03d.",
        b"cmodule without an end",
        b"\x97.",
        b"\x00.",
        b"ccollections\nOrderedDict\nK\x01R.",
        b"ccollections\nOrderedDict\n(K\x01K\x02tR.",
        "\N{SNOWMAN}".encode() + b".",
    ],
)
def test_a_damaged_pickle_is_a_value_error(data):
    with pytest.raises(ValueError, match="the pickle is damaged"):
        read(data)


def test_every_cut_and_every_changed_byte_is_a_value_error_or_another_value():
    value = {"a": [1, 2.5, ("b", None)], "c": collections.OrderedDict(d=b"e"), "f": Thing(g={1})}
    for protocol in (0, 2, 4):
        data = pickle.dumps(value, protocol)
        damaged = [data[:length] for length in range(len(data))]
        for position in range(len(data)):
            for byte in (0, ord("R"), ord("("), 0x93, 0xFF, data[position] ^ 1):
                damaged.append(data[:position] + bytes([byte]) + data[position + 1 :])
        for changed in damaged:
            try:
                read(changed)
            except ValueError:
                pass


def test_every_operation_is_followed_or_refused():
    """No operation of the newest protocol falls through to an error of another kind."""
    for opcode in pickletools.opcodes:
        code = opcode.code.encode("latin1")
        for before in (b"", b"(", b"(NN", b"NNN", b"](", b"}(NN"):
            try:
                read(before + code + b"0\n0\n.....")
            except ValueError:
                pass
