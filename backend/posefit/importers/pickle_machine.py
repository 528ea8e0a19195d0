# SPDX-License-Identifier: Apache-2.0
"""Pickles of results read without running anything that they ask for.

A pickle is a program. Its instructions are carried out here one by one: they can make numbers,
text, containers and the records of `pickle_records` (numpy arrays, torch tensors), and nothing
else. No class that a pickle names is ever imported, no attribute of a real object is ever set.
joblib's files have the bytes of arrays between the instructions; these are read in passing.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Callable
from typing import Any

from posefit_shared.model_pickle import instructions

from .person import ImporterError
from .pickle_records import Record, RecordError, known_name, resolved

__all__ = ["load_pickle", "run_pickle"]

MAX_INSTRUCTIONS = 20_000_000
_VALUES = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
    "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
}  # fmt: skip
"""Instructions whose argument is the value."""
_FIXED: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": list,
}
"""Sets become lists: nothing here needs them, and records cannot always be hashed."""
_BROKEN = (
    EOFError, IndexError, KeyError, TypeError, ValueError, AttributeError, OverflowError,
    MemoryError, RecursionError, UnicodeError,
)  # fmt: skip
_MARK = object()


class _Global:
    """A name that a pickle may use: calling it makes a record or a plain value."""

    def __init__(self, module: str, name: str) -> None:
        maker = known_name(module, name)
        if maker is None:
            raise RecordError(
                f"it asks for {module}.{name}, which no result of arrays needs; nothing was run"
            )
        self.name, self.make = f"{module}.{name}", maker


def load_pickle(data: bytes, name: str) -> Any:
    """What a pickle or an unpacked joblib file holds: numbers, text, containers and numpy arrays.

    Args:
        data: the whole file.
        name: the file's name, for the message.

    Raises:
        ImporterError: it names anything but arrays, tensors and containers, or is broken.
    """
    try:
        return resolved(run_pickle(io.BytesIO(data)))
    except RecordError as error:
        raise ImporterError(
            f"{name} was refused ({error}): import only the result file that the tool itself wrote"
        ) from error
    except _BROKEN as error:
        raise ImporterError(
            f"{name} cannot be read as a pickle or joblib file ({error or type(error).__name__}): "
            "it may be cut short; copy it again"
        ) from error


def run_pickle(stream: io.BytesIO, persistent: Callable[[Any], Any] | None = None) -> Any:
    """The object that a pickle makes, records unresolved; the stream stops behind it.

    Args:
        stream: stands at the pickle's first byte.
        persistent: what a persistent id stands for; none allows none.

    Raises:
        RecordError: the pickle asks for something that is not allowed.
    """
    return _Machine(stream, persistent).run()


class _Machine:
    """One pickle under way: its stack and its memo."""

    def __init__(self, stream: io.BytesIO, persistent: Callable[[Any], Any] | None) -> None:
        self.stream, self.persistent = stream, persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        for count, (name, argument) in enumerate(instructions(self.stream)):
            if count > MAX_INSTRUCTIONS:
                raise RecordError("it has more instructions than any result")
            if name == "STOP":
                break
            if name in _VALUES:
                self.stack.append(argument)
            elif name in _FIXED:
                self.stack.append(_FIXED[name]())
            else:
                step = _STEPS.get(name)
                if step is None:
                    raise RecordError(f"it uses the pickle instruction {name}")
                step(self, argument)
        return self.stack.pop()

    def above_mark(self) -> list[Any]:
        place = len(self.stack) - 1
        while self.stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise IndexError("no mark")
        items = self.stack[place + 1 :]
        del self.stack[place:]
        return items

    def call(self, maker: Any, arguments: Any) -> Any:
        if not isinstance(maker, _Global) or not isinstance(arguments, tuple):
            raise RecordError("it calls something that is no known name")
        return maker.make(*arguments)

    def build(self, _: Any) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if not isinstance(target, Record):
            raise RecordError("it changes an object that is no array")
        target.build(state, self.stream)
        if target.has_nested_pickle:
            target.value = run_pickle(self.stream)

    def put_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise RecordError("it fills an object that is no dictionary")
        target.update(zip(items[::2], items[1::2], strict=True))

    def append_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise RecordError("it fills an object that is no list")
        target.extend(items)

    def persist(self, key: Any) -> None:
        if self.persistent is None:
            raise RecordError("it refers to objects outside of the file")
        self.stack.append(self.persistent(key))


def _reduce(machine: _Machine, _: Any) -> None:
    arguments, maker = machine.stack.pop(), machine.stack.pop()
    machine.stack.append(machine.call(maker, arguments))


def _new_with_keywords(machine: _Machine, _: Any) -> None:
    keywords, arguments, maker = (machine.stack.pop() for _ in range(3))
    if keywords:
        raise RecordError("it builds an object that no result holds")
    machine.stack.append(machine.call(maker, arguments))


def _global(machine: _Machine, argument: str) -> None:
    module, _, name = argument.partition(" ")
    machine.stack.append(_Global(module, name))


def _stack_global(machine: _Machine, _: Any) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    if not (isinstance(name, str) and isinstance(module, str)):
        raise RecordError("it names a class by something that is no text")
    machine.stack.append(_Global(module, name))


def _instance(machine: _Machine, argument: str) -> None:
    module, _, name = argument.partition(" ")
    arguments = tuple(machine.above_mark())
    machine.stack.append(machine.call(_Global(module, name), arguments))


def _object(machine: _Machine, _: Any) -> None:
    maker, *arguments = machine.above_mark()
    machine.stack.append(machine.call(maker, tuple(arguments)))


def _text(machine: _Machine, argument: bytes) -> None:
    """Python 2's quoted text."""
    machine.stack.append(codecs.escape_decode(argument.strip()[1:-1])[0].decode("latin1"))


def _tuple(count: int) -> Callable[[_Machine, Any], None]:
    def step(machine: _Machine, _: Any) -> None:
        items = tuple(machine.stack[-count:])
        del machine.stack[-count:]
        machine.stack.append(items)

    return step


def _pairs(items: list[Any]) -> dict[Any, Any]:
    return dict(zip(items[::2], items[1::2], strict=True))


def _memoize(machine: _Machine, key: Any) -> None:
    machine.memo[len(machine.memo) if key is None else int(key)] = machine.stack[-1]


def _pop_several(machine: _Machine, count: int) -> list[Any]:
    items = machine.stack[-count:]
    del machine.stack[-count:]
    return items


_STEPS: dict[str, Callable[[_Machine, Any], Any]] = {
    "PROTO": lambda m, a: None,
    "FRAME": lambda m, a: None,
    "MARK": lambda m, a: m.stack.append(_MARK),
    "POP": lambda m, a: m.stack.pop(),
    "POP_MARK": lambda m, a: m.above_mark(),
    "DUP": lambda m, a: m.stack.append(m.stack[-1]),
    "STRING": _text,
    "LIST": lambda m, a: m.stack.append(m.above_mark()),
    "TUPLE": lambda m, a: m.stack.append(tuple(m.above_mark())),
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "DICT": lambda m, a: m.stack.append(_pairs(m.above_mark())),
    "FROZENSET": lambda m, a: m.stack.append(m.above_mark()),
    "APPEND": lambda m, a: m.append_items([m.stack.pop()]),
    "APPENDS": lambda m, a: m.append_items(m.above_mark()),
    "ADDITEMS": lambda m, a: m.append_items(m.above_mark()),
    "SETITEM": lambda m, a: m.put_items(_pop_several(m, 2)),
    "SETITEMS": lambda m, a: m.put_items(m.above_mark()),
    "PUT": _memoize,
    "BINPUT": _memoize,
    "LONG_BINPUT": _memoize,
    "MEMOIZE": _memoize,
    "GET": lambda m, a: m.stack.append(m.memo[int(a)]),
    "BINGET": lambda m, a: m.stack.append(m.memo[a]),
    "LONG_BINGET": lambda m, a: m.stack.append(m.memo[a]),
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "INST": _instance,
    "OBJ": _object,
    "NEWOBJ": _reduce,
    "NEWOBJ_EX": _new_with_keywords,
    "REDUCE": _reduce,
    "BUILD": _Machine.build,
    "BINPERSID": lambda m, a: m.persist(m.stack.pop()),
    "PERSID": lambda m, a: m.persist(a),
}
