"""A pickle read as data: nothing that it names is imported or called.

A pickle is a program for a small machine with a stack. Python's own reader runs it, and calls any
function of any module that the pickle names. The machine here knows only lists, tuples, dicts,
numbers and strings. It does not look names up, and an object of a class that the caller does not
handle becomes an empty `Object`. So a hostile file runs no code.

A pickle may refer to one value any number of times, with two bytes per reference. So no operation
copies or walks through a value that it gets, and the time of reading is proportional to the
pickle's length.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from mmap import mmap
from typing import IO, Any, cast

from mrcnn.messages import shortened

_LITERALS = frozenset(
    """
    INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT
    STRING BINSTRING SHORT_BINSTRING UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8
    BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8
    """.split()
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLE_LENGTHS = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
# Limit of a name's length, because each reference joins the name again. Names of modules and
# classes are far shorter.
_LONGEST_NAME = 1000
# Larger numbers are not used as keys: many of them can share one hash, which makes a dict slow.
_LARGEST_KEY = 2**32
# Errors that the machine itself raises if operations do not fit together.
_DAMAGE = (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError)


@dataclass(frozen=True, eq=False)
class Name:
    """The name of a function or class in the pickle; it is not looked up.

    Attributes:
        name: `module.name`.
    """

    name: str


@dataclass(frozen=True, eq=False)
class Object:
    """Stands for an object, or the result of a call, that the caller does not handle.

    Attributes:
        name: name of the class or function.
    """

    name: str


def read_pickle(
    file: BytesIO | mmap,
    calls: Mapping[str, Callable[[tuple], object]],
    load: Callable[[object], object],
) -> tuple[object, list[str]]:
    """Read one pickle.

    Args:
        file: positioned at the pickle's start, and at its end afterwards. It must be in memory, so
            that a false length in a hostile pickle allocates nothing.
        calls: {`module.name`: function that gets the arguments instead of that function}. It must
            not walk through a whole argument, see the top of this file.
        load: returns the value for a persistent id, a reference to data outside the pickle.

    Returns:
        The value, and the names in the pickle that are not in `calls`.

    Raises:
        ValueError: this is no pickle, or it is damaged.
    """
    try:
        return _run(file, calls, load)
    except _DAMAGE as error:
        raise ValueError(f"the pickle is damaged ({shortened(error, 200)})") from error


def _run(
    file: BytesIO | mmap,
    calls: Mapping[str, Callable[[tuple], object]],
    load: Callable[[object], object],
) -> tuple[object, list[str]]:
    stack: list = []
    marks: list[int] = []
    memo: dict[int, object] = {}
    unknown: dict[str, None] = {}  # in the order of the pickle

    def since_mark() -> list:
        return _cut(stack, marks.pop())

    def name(*parts: object) -> Name:
        texts = [part for part in parts if isinstance(part, str)]
        if sum(map(len, texts)) > _LONGEST_NAME:
            raise ValueError("a name is too long")
        whole = ".".join(texts)
        if whole not in calls:
            unknown[whole] = None
        return Name(whole)

    def call(function: object, arguments: object) -> object:
        called = function.name if isinstance(function, Name) else "an object"
        if called not in calls:
            return Object(called)
        if not isinstance(arguments, tuple):
            raise ValueError(f"the arguments of {called} are no tuple")
        return calls[called](arguments)

    value: Any  # argument of the operation: a number, a text or None
    for opcode, value, _ in pickletools.genops(cast("IO[bytes]", file)):
        if opcode.name in _LITERALS:
            stack.append(value)
        elif opcode.name in _CONSTANTS:
            stack.append(_CONSTANTS[opcode.name])
        elif opcode.name in _TUPLE_LENGTHS:
            length = _TUPLE_LENGTHS[opcode.name]
            stack.append(tuple(_cut(stack, len(stack) - length)))
        else:
            match opcode.name:
                case "PROTO" | "FRAME":
                    pass
                case "STOP":
                    return stack.pop(), list(unknown)
                case "MARK":
                    marks.append(len(stack))
                case "POP":
                    (marks if marks and marks[-1] == len(stack) else stack).pop()
                case "POP_MARK":
                    since_mark()
                case "DUP":
                    stack.append(stack[-1])
                case "PUT" | "BINPUT" | "LONG_BINPUT":
                    if abs(value) > _LARGEST_KEY:
                        raise ValueError(f"there is no place {value} in the memo")
                    memo[value] = stack[-1]
                case "MEMOIZE":
                    memo[len(memo)] = stack[-1]
                case "GET" | "BINGET" | "LONG_BINGET":
                    stack.append(memo[value])
                case "EMPTY_DICT":
                    stack.append({})
                case "EMPTY_LIST" | "EMPTY_SET":  # a set would have to hash its elements
                    stack.append([])
                case "LIST" | "FROZENSET":
                    stack.append(since_mark())
                case "TUPLE":
                    stack.append(tuple(since_mark()))
                case "DICT":
                    items = since_mark()
                    stack.append({})
                    _set_items(stack[-1], items)
                case "APPEND":
                    item = stack.pop()
                    _extend(stack[-1], [item])
                case "APPENDS" | "ADDITEMS":
                    items = since_mark()
                    _extend(stack[-1], items)
                case "SETITEM":
                    items = _cut(stack, len(stack) - 2)
                    _set_items(stack[-1], items)
                case "SETITEMS":
                    items = since_mark()
                    _set_items(stack[-1], items)
                case "GLOBAL":
                    stack.append(name(*value.split(" ", 1)))
                case "STACK_GLOBAL":
                    stack.append(name(*_cut(stack, len(stack) - 2)))
                case "EXT1" | "EXT2" | "EXT4":
                    stack.append(name("copyreg extension", str(value)))
                case "REDUCE" | "NEWOBJ":
                    function, arguments = _cut(stack, len(stack) - 2)
                    stack.append(call(function, arguments))
                case "NEWOBJ_EX":
                    function, arguments, _ = _cut(stack, len(stack) - 3)
                    stack.append(call(function, arguments))
                case "INST":
                    arguments = tuple(since_mark())
                    stack.append(call(name(*value.split(" ", 1)), arguments))
                case "OBJ":
                    function, *arguments = since_mark()
                    stack.append(call(function, tuple(arguments)))
                case "BUILD":  # an object's attributes, or the argument of its __setstate__
                    stack.pop()
                case "PERSID":
                    stack.append(load(value))
                case "BINPERSID":
                    stack.append(load(stack.pop()))
                case _:  # buffers outside the pickle
                    raise ValueError(f"{opcode.name} cannot be followed")
    raise AssertionError("pickletools.genops ends with STOP or raises")


def _cut(stack: list, start: int) -> list:
    """Remove and return everything from `start` on."""
    if not 0 <= start <= len(stack):
        raise IndexError("an operation takes more than there is")
    items = stack[start:]
    del stack[start:]
    return items


def _extend(target: object, items: list) -> None:
    """Append to a list; other values stand for unknown objects and ignore it."""
    if isinstance(target, list):
        target += items


def _set_items(target: object, items: list) -> None:
    """Add alternating keys and values to a dict; only texts and small whole numbers are keys."""
    if isinstance(target, dict):
        pairs = zip(items[::2], items[1::2], strict=True)
        target.update((key, item) for key, item in pairs if _is_key(key))


def _is_key(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, int) and abs(value) <= _LARGEST_KEY)
