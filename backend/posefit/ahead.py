# SPDX-License-Identifier: Apache-2.0
"""Things made in a thread shortly before they are needed: decoding beside computing."""

from __future__ import annotations

import logging
import queue
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Generic, TypeVar

import numpy as np

__all__ = ["Ahead", "frames_ahead"]

logger = logging.getLogger(__name__)

_Made = TypeVar("_Made")

_WAIT_S = 0.1
"""How often a side that waits looks whether the other is done."""
_LONGEST_WAIT_S = 30.0
"""Longest wait for one result that nobody wants any more; a disk may never answer."""
_MOST_BYTES = 192 << 20
"""Memory of what lies ready."""
_MOST_READY = 32
_TURN_S = 2e-4
"""How long a thread computes in Python while another one waits for its turn: whoever waited for a
GPU should not wait for this thread's usual 5 ms as well."""


class Ahead(Generic[_Made]):
    """What `make(0)`, `make(1)`, … give, in order, at most so many made before they are asked for.

    All of them are made in one thread, which has ended when the block is left (unless it hangs in
    one of them); whatever they use must be left alone by others until then. An error is raised
    where its result would have come.

    Args:
        make: gives one result.
        count: how many there are.
        most: results that may lie ready, at least 1.
        waiting: called now and then while the next one is not there yet; may raise to stop.
    """

    def __init__(
        self,
        make: Callable[[int], _Made],
        count: int,
        most: int,
        waiting: Callable[[], None] = lambda: None,
    ) -> None:
        self._make, self._count, self._waiting = make, count, waiting
        self._ready: queue.Queue[tuple[_Made | None, Exception | None]] = queue.Queue(most)
        self._given = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ahead", daemon=True)
        self._thread.start()

    def __enter__(self) -> Ahead[_Made]:
        self._usual_turn_s = sys.getswitchinterval()
        sys.setswitchinterval(min(_TURN_S, self._usual_turn_s))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopped.set()
        sys.setswitchinterval(self._usual_turn_s)
        self._thread.join(_LONGEST_WAIT_S)
        if self._thread.is_alive():
            logger.warning("a frame has been read for %g s: it is not waited for", _LONGEST_WAIT_S)

    def __iter__(self) -> Iterator[_Made]:
        return self

    def __next__(self) -> _Made:
        if self._given == self._count:
            raise StopIteration
        while True:
            try:
                made, error = self._ready.get(timeout=_WAIT_S)
                break
            except queue.Empty:
                self._waiting()
        if error is not None:
            self._given = self._count
            raise error
        self._given += 1
        return made  # pyright: ignore[reportReturnType]

    def _run(self) -> None:
        for k in range(self._count):
            try:
                result: tuple[_Made | None, Exception | None] = (self._make(k), None)
            except Exception as error:  # raised again where the result was wanted
                result = (None, error)
            while not self._stopped.is_set():
                try:
                    self._ready.put(result, timeout=_WAIT_S)
                    break
                except queue.Full:
                    continue
            if self._stopped.is_set() or result[1] is not None:
                return


def frames_ahead(
    read: Callable[[int], _Made],
    indices: Sequence[int] | np.ndarray,
    frame_bytes: int,
    waiting: Callable[[], None] = lambda: None,
    *,
    room: int = 1,
) -> Ahead[_Made]:
    """Frames of footage that are decoded before they are asked for, in bounded memory.

    Args:
        read: `Footage.read`, or what makes something smaller of its frames.
        indices: frames in the order in which they are wanted.
        frame_bytes: of one result.
        waiting: as for `Ahead`.
        room: times the usual memory, for what needs its frames in large lots.
    """
    most = int(np.clip(room * _MOST_BYTES // max(frame_bytes, 1), 1, room * _MOST_READY))
    return Ahead(lambda k: read(int(indices[k])), len(indices), most, waiting)
