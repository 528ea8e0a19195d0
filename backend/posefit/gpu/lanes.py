# SPDX-License-Identifier: Apache-2.0
"""Work for a GPU from two threads: while one waits for a number, the other's kernels run.

A window of a refinement waits for the device some thirty times (boxes, a solver's flag) and is told
of in Python between; alone it leaves a GPU idle for a third of the time. Both threads use the same
CUDA stream, so nothing has to be ordered between them. They live as long as the process, for
recordings belong to threads (`graphs`).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache
from typing import TypeVar

import torch

from .graphs import recording
from .memory import usable_memory

__all__ = ["LaneStopped", "Stop", "in_lanes", "lanes_of"]

_LANES = 2
_LEAST_MEMORY = 16 << 30
"""Bytes of a GPU from which two windows at once are not in each other's way."""
_WAIT_S = 0.05
"""How often is asked whether all this is still wanted."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class LaneStopped(Exception):  # noqa: N818  # nothing went wrong here
    """What a lane's work ends with when others' failed or nobody wants it any more."""


class Stop:
    """A flag that lanes look at; what is asked outside may not know of threads."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Let lanes end at their next look."""
        self._event.set()

    def check(self) -> None:
        """Raises `LaneStopped` once it is set."""
        if self._event.is_set():
            raise LaneStopped


def lanes_of(device: torch.device) -> int:
    """How many windows are refined at once on a device."""
    if device.type != "cuda":
        return 1
    return _LANES if usable_memory(device) >= _LEAST_MEMORY else 1


def in_lanes(
    items: Iterable[_Item],
    work: Callable[[_Item, Stop], _Result],
    device: torch.device,
    lanes: int,
    still_wanted: Callable[[], None],
) -> Iterator[_Result]:
    """Results in the items' order, worked out by threads side by side.

    Args:
        items: taken in this thread, one more than there are lanes ahead of the results.
        work: of one item; looks at the flag now and then.
        device: where it computes.
        lanes: threads, at most two.
        still_wanted: called now and then in this thread; may raise to stop.

    Raises:
        what `work` raised first, in the items' order.
    """
    stop = Stop()
    pending: deque[Future[_Result]] = deque()

    def lane(item: _Item) -> _Result:
        stop.check()
        with torch.no_grad(), recording(device):
            return work(item, stop)

    def oldest() -> _Result:
        while not wait([pending[0]], _WAIT_S).done:
            still_wanted()
        return pending.popleft().result()

    try:
        for item in items:
            pending.append(_threads(lanes).submit(lane, item))
            if len(pending) > lanes:
                yield oldest()
        while pending:
            yield oldest()
    finally:
        stop.set()
        wait(pending)


@cache
def _threads(lanes: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(lanes, thread_name_prefix="lane")
