# SPDX-License-Identifier: GPL-3.0-or-later
"""Work done in slices, so that Blender stays usable: generators that yield where they may pause.

Between two slices anything may happen to the file, so such a generator keeps no bpy object across a
`yield`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from posefit_shared.slices import to_end

__all__ = ["CHUNK", "LONG_NEXT", "SLICE_SECONDS", "chunks", "to_end"]

LONG_NEXT = "the next slice is long"
"""What is yielded before work that cannot be divided: it then has a turn of its own."""

SLICE_SECONDS = 0.012
"""How long the slices of one turn may hold Blender before it gets the turn back; the last of them
may take longer, by as much as a slice is long."""

CHUNK = 128
"""Frames that are worked on at once: some milliseconds for a body's joints."""


def chunks(count: int) -> Iterator[npt.NDArray[np.int64]]:
    """The places 0 to `count` in chunks, one after the other; an empty one where there are none."""
    for start in range(0, max(count, 1), CHUNK):
        yield np.arange(start, min(start + CHUNK, count))
