# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames as people write them, `1, 20-24`, and as numbers (no Blender here)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..rigs.rig import SceneError

MOST_FRAMES = 100_000
"""The most frames that one list may name."""
_PART = re.compile(r"(-?\d+)(?:\s*(?:-|\.\.)\s*(-?\d+))?")


def read_frames(text: str) -> tuple[int, ...]:
    """The frames that a list names, in order of time, each once.

    Args:
        text: frames and ranges between commas: `1, 20-24` (or `20..24`), negative ones too.

    Raises:
        SceneError: it is no such list; the message quotes what is not understood.
    """
    frames: set[int] = set()
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = _PART.fullmatch(part)
        if match is None:
            raise SceneError(f"'{part}' is no frame: expected a list like 1, 20-24")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last - first >= MOST_FRAMES:
            raise SceneError(f"'{part}' is no range of frames: expected one like 20-24")
        frames.update(range(first, last + 1))
    return tuple(sorted(frames))


def write_frames(frames: Iterable[int]) -> str:
    """A list that names these frames, runs of them as ranges."""
    runs: list[list[int]] = []
    for frame in sorted(set(frames)):
        if runs and frame == runs[-1][1] + 1:
            runs[-1][1] = frame
        else:
            runs.append([frame, frame])
    return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in runs)
