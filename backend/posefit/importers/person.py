# SPDX-License-Identifier: Apache-2.0
"""What every importer takes and gives: options in, people with notes out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from posefit_shared.body_files import FREE_BODY
from posefit_shared.sequence import Sequence

from ..errors import PosefitError

__all__ = ["ImporterError", "ImportOptions", "ImportedPerson", "World"]

World = Literal["auto", "camera"]
"""`auto`: the file's world where it has one; `camera`: its in-camera motion alone."""


class ImporterError(PosefitError, ValueError):
    """Another tool's file that cannot be imported; the message says what to do."""


@dataclass(frozen=True)
class ImportOptions:
    """What a file may not say itself."""

    body: str | Path = FREE_BODY
    """Body file: turning a world, and changes between worlds, need its pelvis."""
    image_size: tuple[int, int] | None = None
    """Width and height of the footage, pixels."""
    frame_rate: float | None = None
    """Frames a second, instead of what the file says or the tool assumes."""
    world: World = "auto"
    """Which motion to take where a file has two."""
    up: Literal["auto", "z", "y", "-y"] = "auto"
    """Up axis of a plain SMPL file; `auto` is z."""
    focal_px: float | None = None
    """Focal length for a weak-perspective camera, instead of the tool's own."""
    relink: bool = True
    """Whether tracks that break off and go on under another number are joined (`relinking`)."""


@dataclass(frozen=True)
class ImportedPerson:
    """One person of a file."""

    sequence: Sequence
    """The motion; its `person_id` is the tool's own number where it has one."""
    label: str = ""
    """The tool's own name of the person."""
    notes: tuple[str, ...] = ()
    """What was converted and what was lost, a sentence each."""
