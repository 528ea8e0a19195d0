# SPDX-License-Identifier: Apache-2.0
"""What a field of a message may hold, checked where a message is made and where it is read.

A message is a frozen dataclass that derives from `Record`. Its annotations are the rules: plain
types have default bounds, `Annotated` narrows them (`Text`, `Between`, `AtMost`, `ArrayOf`,
`JsonTree`, `Foreign`). The same code checks a message when this side makes it and when the other
side's bytes are read, so a wrong shape fails where it is made. Bytes belong to `codec`, meanings to
`messages`.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, ClassVar, Literal, Self, Union, get_args, get_origin, get_type_hints

import numpy as np

MAX_TEXT = 4096
"""Characters of a text field that names no smaller bound."""
MAX_ITEMS = 4096
"""Entries of a tuple or map field that names no other bound."""
MAX_JSON_DEPTH = 8
"""Levels of a free-form report."""
MAX_JSON_VALUES = 100_000
"""Values in a free-form report, all levels together."""
MAX_INTEGER = 2**53
"""Largest magnitude of an integer: what every language's double still counts exactly."""


class ProtocolError(ValueError):
    """A message says something that the protocol does not allow; the text is one plain sentence."""


@dataclasses.dataclass(frozen=True)
class Text:
    """Bound on the length of a text, in characters."""

    at_most: int


@dataclasses.dataclass(frozen=True)
class Between:
    """Closed range of a number."""

    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class AtMost:
    """Bound on the number of entries of a tuple or map."""

    count: int


@dataclasses.dataclass(frozen=True)
class ArrayOf:
    """Dtype and shape of an array field.

    A dimension is a number or a name. A name stands for one size in all fields of a record, so
    `"frame 3"` beside `"frame joint"` ties both to one frame count.
    """

    dtype: str
    shape: str


@dataclasses.dataclass(frozen=True)
class JsonTree:
    """A free-form map of texts, numbers, booleans, lists and maps, bounded in depth and size."""


@dataclasses.dataclass(frozen=True)
class Foreign:
    """A class that knows nothing of the wire, with the functions that carry it there and back."""

    kind: type
    to_map: Callable[[Any], dict[str, Any]]
    from_map: Callable[[Mapping[str, Any]], Any]


class Record:
    """Base of every message and payload: checks itself when made, and reads itself from a map."""

    NAME: ClassVar[str] = "record"
    """What the wire and error sentences call this record."""

    def __post_init__(self) -> None:
        sizes: dict[str, int] = {}
        for name, rule in _rules(type(self)).items():
            value = getattr(self, name)
            checked = _check(value, rule, f"{self.NAME}.{name}", sizes)
            if checked is not value:
                object.__setattr__(self, name, checked)

    def to_map(self) -> dict[str, Any]:
        """Plain values and arrays under the field names; absent optional fields are left out."""
        values = {name: (getattr(self, name), rule) for name, rule in _rules(type(self)).items()}
        return {name: _plain(*pair) for name, pair in values.items() if pair[0] is not None}

    @classmethod
    def from_map(cls, values: Mapping[str, Any]) -> Self:
        """The record that `values` describes; fields that this version does not know are ignored.

        Raises:
            ProtocolError: a required field is missing, or a value breaks its rule.
        """
        if not isinstance(values, Mapping):
            raise ProtocolError(f"{cls.NAME} is {_kind(values)}, expected a map of its fields")
        missing = sorted(_required(cls) - values.keys())
        if missing:
            raise ProtocolError(f"{cls.NAME} lacks the required field '{missing[0]}'")
        return cls(**{name: values[name] for name in _rules(cls) if name in values})


@cache
def _rules(cls: type) -> dict[str, Any]:
    """Resolved annotation of each dataclass field."""
    hints = get_type_hints(cls, include_extras=True)
    return {item.name: hints[item.name] for item in dataclasses.fields(cls)}


@cache
def _required(cls: type) -> frozenset[str]:
    absent = dataclasses.MISSING
    return frozenset(
        item.name
        for item in dataclasses.fields(cls)
        if item.default is absent and item.default_factory is absent
    )


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"of type {type(value).__name__}"


def _split(rule: Any) -> tuple[Any, tuple[Any, ...]]:
    """An annotation without its `Annotated` shell, and what the shell said."""
    extras = getattr(rule, "__metadata__", None)
    return (rule, ()) if extras is None else (rule.__origin__, extras)


def _first(extras: tuple[Any, ...], kind: type) -> Any:
    return next((extra for extra in extras if isinstance(extra, kind)), None)


def _check(value: Any, rule: Any, where: str, sizes: dict[str, int]) -> Any:
    """`value` as the rule wants it: unchanged, or read from its wire form.

    Args:
        value: what the constructor was given.
        rule: the field's annotation.
        where: the field's name for error sentences.
        sizes: named array dimensions met so far in this record; extended in place.
    """
    base, extras = _split(rule)
    origin = get_origin(base)
    if array := _first(extras, ArrayOf):
        return _check_array(value, array, where, sizes)
    if _first(extras, JsonTree):
        return _check_json(value, where)
    if foreign := _first(extras, Foreign):
        return _check_foreign(value, foreign, where)
    if origin in (Union, types.UnionType):
        return None if value is None else _check(value, get_args(base)[0], where, sizes)
    if origin is tuple:
        return _check_tuple(value, get_args(base), extras, where, sizes)
    if origin is dict:
        return _check_dict(value, get_args(base), extras, where, sizes)
    if origin is Literal:
        return _check_choice(value, get_args(base), where)
    if isinstance(base, type) and issubclass(base, Record):
        return value if isinstance(value, base) else _read_record(value, base, where)
    return _check_scalar(value, base, extras, where)


def _read_record(value: Any, kind: type[Record], where: str) -> Record:
    if not dataclasses.is_dataclass(kind):
        raise ProtocolError(f"{where} is {_kind(value)}, expected a finished record")
    return kind.from_map(value)


def _check_scalar(value: Any, kind: type, extras: tuple[Any, ...], where: str) -> Any:
    if kind is float and type(value) is int:
        value = float(value)
    if isinstance(value, np.generic):
        value = value.item()
    if type(value) is not kind:
        raise ProtocolError(f"{where} is {_kind(value)}, expected {kind.__name__}")
    if kind is str:
        bound = _first(extras, Text) or Text(MAX_TEXT)
        if len(value) > bound.at_most:
            raise ProtocolError(
                f"{where} has {len(value)} characters, expected at most {bound.at_most}"
            )
    elif kind in (int, float):
        _check_range(value, extras, where)
    return value


def _check_range(value: float, extras: tuple[Any, ...], where: str) -> None:
    if not math.isfinite(value):
        raise ProtocolError(f"{where} is {value}, expected a finite number")
    bounds = _first(extras, Between) or Between(-math.inf, math.inf)
    if not bounds.low <= value <= bounds.high:
        raise ProtocolError(f"{where} is {value}, expected {bounds.low} to {bounds.high}")
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        raise ProtocolError(f"{where} is too large an integer, expected at most {MAX_INTEGER}")


def _check_choice(value: Any, choices: tuple[Any, ...], where: str) -> Any:
    if not isinstance(value, str) or value not in choices:
        found = repr(value[:40]) if isinstance(value, str) else _kind(value)
        raise ProtocolError(f"{where} is {found}, expected one of {', '.join(choices)}")
    return value


def _check_count(value: Any, extras: tuple[Any, ...], where: str) -> None:
    bound = _first(extras, AtMost) or AtMost(MAX_ITEMS)
    if len(value) > bound.count:
        raise ProtocolError(f"{where} has {len(value)} entries, expected at most {bound.count}")


def _check_tuple(
    value: Any, rules: tuple[Any, ...], extras: tuple[Any, ...], where: str, sizes: dict[str, int]
) -> tuple[Any, ...]:
    if not isinstance(value, (tuple, list)):
        raise ProtocolError(f"{where} is {_kind(value)}, expected a list")
    _check_count(value, extras, where)
    if len(rules) == 2 and rules[1] is Ellipsis:
        rules = (rules[0],) * len(value)
    if len(rules) != len(value):
        raise ProtocolError(f"{where} has {len(value)} entries, expected {len(rules)}")
    return tuple(
        _check(item, rule, f"{where}[{i}]", sizes)
        for i, (item, rule) in enumerate(zip(value, rules, strict=True))
    )


def _check_dict(
    value: Any, rules: tuple[Any, ...], extras: tuple[Any, ...], where: str, sizes: dict[str, int]
) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ProtocolError(f"{where} is {_kind(value)}, expected a map")
    _check_count(value, extras, where)
    return {
        _check(key, rules[0], f"a key of {where}", sizes): _check(
            item, rules[1], f"an entry of {where}", sizes
        )
        for key, item in value.items()
    }


def _check_array(value: Any, spec: ArrayOf, where: str, sizes: dict[str, int]) -> np.ndarray:
    if not isinstance(value, np.ndarray):
        raise ProtocolError(f"{where} is {_kind(value)}, expected an array of {spec.dtype}")
    dimensions = spec.shape.split()
    if value.dtype != np.dtype(spec.dtype) or value.ndim != len(dimensions):
        raise ProtocolError(
            f"{where} is {value.dtype} {value.shape}, expected {spec.dtype} ({spec.shape})"
        )
    for found, wanted in zip(value.shape, dimensions, strict=True):
        expected = int(wanted) if wanted.isdecimal() else sizes.setdefault(wanted, found)
        if found != expected:
            raise ProtocolError(
                f"{where} has shape {value.shape}, expected ({spec.shape}) with {wanted} {expected}"
                if not wanted.isdecimal()
                else f"{where} has shape {value.shape}, expected ({spec.shape})"
            )
    return value


def _check_foreign(value: Any, foreign: Foreign, where: str) -> Any:
    if isinstance(value, foreign.kind):
        return value
    if not isinstance(value, Mapping):
        raise ProtocolError(f"{where} is {_kind(value)}, expected a map")
    return foreign.from_map(value)


def _check_json(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ProtocolError(f"{where} is {_kind(value)}, expected a map")
    waiting: list[tuple[Any, int]] = [(value, 1)]
    seen = 0
    while waiting:
        item, depth = waiting.pop()
        seen += 1
        if depth > MAX_JSON_DEPTH or seen > MAX_JSON_VALUES:
            raise ProtocolError(
                f"{where} is too large, expected {MAX_JSON_DEPTH} levels and {MAX_JSON_VALUES}"
                " values at most"
            )
        waiting += [(child, depth + 1) for child in _json_children(item, where)]
    return dict(value)


def _json_children(item: Any, where: str) -> list[Any]:
    if isinstance(item, Mapping):
        if not all(isinstance(key, str) for key in item):
            raise ProtocolError(f"{where} has a key that is not a text")
        return list(item.values())
    if isinstance(item, (list, tuple)):
        return list(item)
    if item is None or isinstance(item, (str, bool, int, float)):
        return []
    raise ProtocolError(f"{where} holds something {_kind(item)}, expected plain values")


def _plain(value: Any, rule: Any) -> Any:
    """`value` in wire form: records and foreign classes as maps, tuples as lists."""
    base, extras = _split(rule)
    if foreign := _first(extras, Foreign):
        return foreign.to_map(value)
    if get_origin(base) in (Union, types.UnionType):
        return None if value is None else _plain(value, get_args(base)[0])
    if isinstance(value, Record):
        return value.to_map()
    if get_origin(base) is tuple:
        inner = get_args(base)[0]
        return [_plain(item, inner) for item in value]
    if get_origin(base) is dict:
        inner = get_args(base)[1]
        return {key: _plain(item, inner) for key, item in value.items()}
    return value
