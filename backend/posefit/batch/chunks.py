# SPDX-License-Identifier: Apache-2.0
"""How a long clip is divided among machines: runs of whole windows, which are solved apart anyway
(`windows`), so that the numbers are those of the clip done in one piece."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..refinement.windows import Window

__all__ = ["Chunk", "chunks_of_windows"]


@dataclass(frozen=True)
class Chunk:
    """A part of a job."""

    person: int
    """Whose clip, of the job's people."""
    windows: tuple[int, ...]
    """Which of its windows."""


def chunks_of_windows(person: int, windows: Sequence[Window], frames: int) -> list[Chunk]:
    """Parts of about equal length, in order.

    Args:
        person: whose windows they are.
        windows: of the whole clip.
        frames: of a part at most, but every part has a window.
    """
    new = [window.stop - before for window, before in
           zip(windows, [0, *(one.stop for one in windows)], strict=False)]  # fmt: skip
    most = max(1, frames // max(new))
    parts = -(-len(windows) // most)
    edges = [round(k * len(windows) / parts) for k in range(parts + 1)]
    return [
        Chunk(person, tuple(range(first, last)))
        for first, last in zip(edges, edges[1:], strict=False)
    ]
