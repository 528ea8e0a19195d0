# SPDX-License-Identifier: Apache-2.0
"""Functions of tensors, recorded once for each shape as CUDA graphs and replayed from then on.

A refinement is some ten thousand small kernels: a GPU is done with each long before the host has
asked for the next. Recorded, they are asked for at once. What is called through `replayed` must be
a pure function of its arguments that never waits for the device.

Arguments are records (dataclasses), sequences, mappings, partial functions and plain values, with
tensors anywhere inside. Tensors are copied into a recording's own before each replay; objects of
types marked `@device_constant` are not, and a recording belongs to exactly those objects; plain
values are part of the recording, so what changes from call to call should be a tensor.

Recording happens inside `recording` alone, on a GPU, at the second call with the same shapes: the
first is run as it is, which also loads kernels and fills caches. Everywhere else functions are
simply called.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from .copies import Packed, copy_all

__all__ = [
    "Recorder",
    "device_constant",
    "forget_recordings",
    "recording",
    "replayed",
    "replayed_loop",
]

logger = logging.getLogger(__name__)

MOST_RECORDINGS = 192
"""Recordings kept, the least used are dropped: each holds the memory of its arguments. A frame, a
clip's first look, its windows and its last one take some fifteen each."""

Result = TypeVar("Result")
Class = TypeVar("Class", bound=type)

_constants: set[type] = set()
_state = threading.local()


def device_constant(cls: Class) -> Class:
    """Marks a type whose objects never change: recordings use their tensors in place."""
    _constants.add(cls)
    return cls


class _Same:
    """An object that is equal to itself alone, and is kept."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


# Shapes are nested tuples, which hash and compare fast; the first entry says what they stand for.
_TENSOR, _SAME, _RECORD, _SEQUENCE, _MAPPING, _PARTIAL, _SLICE, _VALUE = range(8)


@functools.cache
def _field_names(kind: type) -> tuple[str, ...] | None:
    """Fields of a record type that make it; None for other types."""
    if not dataclasses.is_dataclass(kind):
        return None
    return tuple(field.name for field in dataclasses.fields(kind) if field.init)


def flatten(value: Any, tensors: list[Tensor]) -> tuple:
    """The shape of a value, hashable, without its tensors, which are appended to a list."""
    if isinstance(value, Tensor):
        tensors.append(value)
        return _TENSOR, value.shape, value.dtype, value.device
    kind = type(value)
    if kind in _constants or isinstance(value, torch.nn.Module):
        return _SAME, _Same(value)
    if (names := _field_names(kind)) is not None:
        return _RECORD, kind, tuple([flatten(getattr(value, name), tensors) for name in names])
    if kind is list or kind is tuple:
        return _SEQUENCE, kind, tuple([flatten(part, tensors) for part in value])
    if kind is dict:
        parts = tuple([flatten(part, tensors) for part in value.values()])
        return _MAPPING, tuple(value), parts
    if kind is functools.partial:
        parts = (value.func, value.args, value.keywords)
        return _PARTIAL, tuple([flatten(part, tensors) for part in parts])
    if kind is slice:
        return _SLICE, value.start, value.stop, value.step
    return _VALUE, value


def rebuild(shape: tuple, tensors: Iterator[Tensor]) -> Any:
    """The value of that shape with other tensors."""
    tag = shape[0]
    if tag == _TENSOR:
        return next(tensors)
    if tag == _SAME:
        return shape[1].value
    if tag == _VALUE:
        return shape[1]
    if tag == _SLICE:
        return slice(*shape[1:])
    parts = [rebuild(part, tensors) for part in shape[-1]]
    if tag == _RECORD:
        return shape[1](**dict(zip(_field_names(shape[1]) or (), parts, strict=True)))
    if tag == _MAPPING:
        return dict(zip(shape[1], parts, strict=True))
    if tag == _PARTIAL:
        return functools.partial(parts[0], *parts[1], **parts[2])
    return shape[1](parts)


Run = Callable[[], tuple[Any, list[Tensor]]]
"""Runs what is to be recorded: the shape of its result, and the tensors in it."""
Record = Callable[[Run], tuple[Callable[[], None], Any, list[Tensor]]]
"""Records a run: what runs it again, into the same tensors, and what it returned."""


class _Recording:
    """One function at one shape: tensors that it reads, how to run it, tensors that it writes."""

    def __init__(self, record: Record, function: Callable, shape: Any, tensors: list[Tensor]):
        self._inputs = [torch.empty_like(one).copy_(one) for one in tensors]
        arguments = rebuild(shape, iter(self._inputs))

        def run() -> tuple[Any, list[Tensor]]:
            written: list[Tensor] = []
            return flatten(function(*arguments), written), written

        self._replay, self._shape, results = record(run)
        self._results = Packed(results)

    def __call__(self, tensors: list[Tensor]) -> Any:
        copy_all(self._inputs, tensors)
        self._replay()
        return rebuild(self._shape, self._results.copies())


class LoopState(Protocol):
    """What a loop goes on with."""

    @property
    def is_done(self) -> Tensor:
        """0-d, true where nothing remains to be done."""
        ...


State = TypeVar("State", bound=LoopState)


class _LoopRecording:
    """A loop at one shape: its state lies in tensors that each step writes anew."""

    def __init__(
        self, record: Record, begin: Callable, advance: Callable, shape: Any,
        tensors: list[Tensor],
    ) -> None:  # fmt: skip
        self._inputs = [torch.empty_like(one).copy_(one) for one in tensors]
        arguments = rebuild(shape, iter(self._inputs))

        def start() -> tuple[Any, list[Tensor]]:
            written: list[Tensor] = []
            # Steps write over the state: its tensors must be its own.
            return flatten(begin(*arguments), written), [one.clone() for one in written]

        self._begin, self._shape, self._state = record(start)
        state = rebuild(self._shape, iter(self._state))
        self._is_done: Tensor = state.is_done

        def step() -> tuple[Any, list[Tensor]]:
            written: list[Tensor] = []
            if flatten(advance(*arguments, state), written) != self._shape:
                raise TypeError(f"{_name(advance)} changes the shape of what it goes on with")
            copy_all(self._state, written)
            return None, []

        self._advance, _, _ = record(step)
        self._results = Packed(self._state)

    def __call__(self, tensors: list[Tensor], most: int) -> tuple[Any, int]:
        copy_all(self._inputs, tensors)
        self._begin()
        steps = 0
        while steps < most and not bool(self._is_done):
            self._advance()
            steps += 1
        return rebuild(self._shape, self._results.copies()), steps


class Recorder:
    """Recordings and what has been called once; a GPU's own, or in tests a stand-in."""

    def __init__(self, record: Record, device_type: str):
        """Nothing is recorded yet.

        Args:
            record: how.
            device_type: of the tensors that are recorded; others' functions are called.
        """
        self._record, self._device_type = record, device_type
        self._kept: OrderedDict[Any, Any] = OrderedDict()
        self._seen: OrderedDict[Any, None] = OrderedDict()
        self.replays = 0

    def call(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """The function's result: replayed, recorded, or called as it is."""
        tensors: list[Tensor] = []
        shape = flatten(arguments, tensors)
        known = self._known(
            (function, shape), tensors, lambda: _Recording(self._record, function, shape, tensors)
        )
        return function(*arguments) if known is None else known(tensors)

    def loop(
        self, begin: Callable[..., State], advance: Callable[..., State], arguments: tuple,
        most: int,
    ) -> tuple[State, int]:  # fmt: skip
        """As `call`, for `replayed_loop`."""
        tensors: list[Tensor] = []
        shape = flatten(arguments, tensors)
        known = self._known(
            (begin, advance, shape), tensors,
            lambda: _LoopRecording(self._record, begin, advance, shape, tensors),
        )  # fmt: skip
        return run_loop(begin, advance, arguments, most) if known is None else known(tensors, most)

    def _known(self, key: Any, tensors: list[Tensor], make: Callable[[], Any]) -> Any:
        """The recording of a key, made when it is asked for a second time; None until then."""
        if any(one.device.type != self._device_type for one in tensors):
            logger.debug("%s is not recorded: its tensors lie elsewhere", _name(key[0]))
            return None
        if key not in self._kept and key not in self._seen:
            self._seen[key] = None
            while len(self._seen) > 4 * MOST_RECORDINGS:
                self._seen.popitem(last=False)
            return None
        if key not in self._kept:
            try:
                with _suspended():
                    self._kept[key] = make()
            except RuntimeError as error:
                # Slower, not wrong: the function is called from now on.
                logger.warning("%s could not be recorded: %s", _name(key[0]), error)
                self._kept[key] = None
        self._kept.move_to_end(key)
        while len(self._kept) > MOST_RECORDINGS:
            self._kept.popitem(last=False)
        self.replays += self._kept[key] is not None
        return self._kept[key]

    @property
    def recorded(self) -> set[str]:
        """Names of the functions that there are recordings of."""
        return {_name(key[0]) for key, one in self._kept.items() if one is not None}

    def forget(self) -> None:
        """Drop all recordings and their memory."""
        self._kept.clear()
        self._seen.clear()
        if isinstance(self._record, _CudaRecord):
            self._record.renew()


def _name(function: Callable) -> str:
    return getattr(function, "__qualname__", repr(function))


class _CudaRecord:
    """Records on one device; recordings share the memory of what passes between kernels."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Begin another pool: one whose recordings are all gone cannot be used again."""
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, run: Run) -> tuple[Callable[[], None], Any, list[Tensor]]:
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        try:
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                shape, results = run()
        except RuntimeError:
            # What broke off may leave the memory that was shared with it behind.
            self.renew()
            raise
        return graph.replay, shape, results


@contextlib.contextmanager
def _suspended() -> Iterator[None]:
    """Functions inside a recording are part of it."""
    active, _state.active = getattr(_state, "active", None), None
    try:
        yield
    finally:
        _state.active = active


@contextlib.contextmanager
def recording(
    device: torch.device | None = None, recorder: Recorder | None = None
) -> Iterator[None]:
    """Within this, `replayed` records and replays on the current thread.

    Args:
        device: whose functions are recorded, if it is a GPU; None is the current GPU.
        recorder: None takes this thread's own one for that device.
    """
    before = getattr(_state, "active", None)
    on_gpu = torch.cuda.is_available() and (device is None or device.type == "cuda")
    with torch.cuda.device(device) if on_gpu else contextlib.nullcontext():
        _state.active = recorder or (_own_recorder() if on_gpu else before)
        try:
            yield
        finally:
            _state.active = before


def _own_recorder() -> Recorder:
    device = torch.cuda.current_device()
    mine = _state.__dict__.setdefault("recorders", {})
    if device not in mine:
        mine[device] = Recorder(_CudaRecord(), "cuda")
    return mine[device]


def forget_recordings() -> None:
    """Drop this thread's recordings and give their memory back."""
    for recorder in _state.__dict__.get("recorders", {}).values():
        recorder.forget()


def replayed(function: Callable[..., Result], *arguments: Any) -> Result:
    """The result of a function of tensors, replayed where it has been recorded.

    Args:
        function: pure; it neither waits for the device nor copies from the host to it.
        arguments: see the module's docstring.

    Returns:
        What the function returns, in tensors of its own.
    """
    active: Recorder | None = getattr(_state, "active", None)
    if active is None or torch.is_grad_enabled():
        return function(*arguments)
    return active.call(function, *arguments)


def run_loop(
    begin: Callable[..., State], advance: Callable[..., State], arguments: tuple, most: int
) -> tuple[State, int]:
    """`replayed_loop` without recordings."""
    state, steps = begin(*arguments), 0
    while steps < most and not bool(state.is_done):
        state = advance(*arguments, state)
        steps += 1
    return state, steps


def replayed_loop(
    begin: Callable[..., State], advance: Callable[..., State], arguments: tuple, *, most: int
) -> tuple[State, int]:
    """A loop whose start and whose step are replayed where they have been recorded.

    Args:
        begin: gives the first state; pure, as for `replayed`.
        advance: gives the next state from the arguments and the last one, of the same shape.
        arguments: of both.
        most: steps; fewer are taken where the state says that it is done.

    Returns:
        The last state, and how many steps were taken.
    """
    active: Recorder | None = getattr(_state, "active", None)
    if active is None or torch.is_grad_enabled():
        return run_loop(begin, advance, arguments, most)
    return active.loop(begin, advance, arguments, most)
