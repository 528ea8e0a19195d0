# SPDX-License-Identifier: Apache-2.0
"""Figures of a finished job, small enough that those of a hundred thousand can be read one by one.

Change is how far the joints of a frame moved on average, millimetres. A frame is as sure as its
least sure body part, and a part as its joints on average.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from posefit_shared.skeleton import BODY_PARTS

__all__ = [
    "CHANGE_EDGES_MM",
    "CONFIDENCE_EDGES",
    "SUMMARY_FILE",
    "JobSummary",
    "WorstFrame",
    "frame_confidence",
    "histogram",
    "read_summary",
    "spread_worst",
    "write_summary",
]

SUMMARY_FILE = "summary.json"
CHANGE_EDGES_MM = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0)
"""Lower edges of the bins of change; the last one is open."""
CONFIDENCE_EDGES = tuple(k / 10 for k in range(10))
"""Lower edges of the bins of confidence."""
_NOT_COMPUTED = {"no_person": "the person was not seen", "failed": "no solution was found"}
_LARGEST_FILE = 4 << 20


@dataclass(frozen=True)
class WorstFrame:
    """A frame that deserves a look."""

    person: str
    """The result file it is in."""
    frame: int
    """Decoded frame of the footage."""
    confidence: float
    """0 to 1, of its least sure part."""
    why: str
    """That part, or what became of the frame."""
    before: str = ""
    """Picture of the input over the frame, in the job's folder."""
    after: str = ""
    """Picture of the result."""


@dataclass(frozen=True)
class JobSummary:
    """What came out of a job."""

    name: str
    """The job's name."""
    fingerprint: str
    """What it was made from (`folder.fingerprint`)."""
    version: str = ""
    """posefit's."""
    seconds: float = 0.0
    """Wall time."""
    outputs: tuple[str, ...] = ()
    """Sequence files."""
    status: dict[str, int] = field(default_factory=dict)
    """How many frames were refined, kept and so on."""
    change_mm: tuple[int, ...] = (0,) * len(CHANGE_EDGES_MM)
    """Frames by change."""
    confidence: tuple[int, ...] = (0,) * len(CONFIDENCE_EDGES)
    """Frames by confidence; empty bins where the result has none."""
    median_change_mm: float = 0.0
    """Over the frames."""
    median_confidence: float | None = None
    """Over the frames."""
    worst: tuple[WorstFrame, ...] = ()
    """The least sure frames, the worst first."""

    @property
    def frames(self) -> int:
        """Frames of all people."""
        return sum(self.status.values())

    @property
    def refined(self) -> int:
        """Frames that took a change."""
        return self.status.get("refined", 0)


def write_summary(folder: Path, summary: JobSummary) -> None:
    """Write the figures beside the result; they are on the disk when this returns."""
    with (folder / SUMMARY_FILE).open("w", encoding="utf-8") as handle:
        json.dump(asdict(summary), handle, ensure_ascii=True, indent=1)
        handle.flush()
        os.fsync(handle.fileno())


def read_summary(folder: Path) -> JobSummary | None:
    """The figures of a job's folder; None where there are none that can be read."""
    path = folder / SUMMARY_FILE
    try:
        if path.stat().st_size > _LARGEST_FILE:
            return None
        values: dict[str, Any] = json.loads(path.read_text("utf-8"))
        known = {entry.name for entry in fields(JobSummary)}
        values = {name: value for name, value in values.items() if name in known}
        worst = tuple(WorstFrame(**entry) for entry in values.pop("worst", ()))
        lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return JobSummary(**{**values, **lists, "worst": worst})
    except (OSError, ValueError, TypeError):
        return None


def histogram(values: npt.NDArray[np.floating], edges: tuple[float, ...]) -> tuple[int, ...]:
    """How many values lie in each bin; the last one takes what is beyond it, NaN counts nowhere."""
    finite = np.asarray(values, np.float64)
    finite = finite[np.isfinite(finite)]
    bins = np.searchsorted(edges, finite, side="right") - 1
    counts = np.bincount(bins.clip(0), minlength=len(edges))
    return tuple(int(count) for count in counts)


def frame_confidence(
    confidence: npt.NDArray[np.floating], status: tuple[str, ...]
) -> tuple[npt.NDArray[np.float64], list[str]]:
    """How sure each frame is, and why not surer.

    Args:
        confidence: (T, J) of the joints; NaN where not known.
        status: (T,) what became of each frame.

    Returns:
        (T,) 0 to 1, NaN where nothing is known, and for each frame its least sure part or what
        became of it.
    """
    names = list(BODY_PARTS)
    rows = np.asarray(confidence, np.float64)
    with np.errstate(all="ignore"):
        parts = np.stack(
            [
                np.where(
                    np.isfinite(rows[:, list(joints)]).any(1),
                    np.nansum(rows[:, list(joints)], 1)
                    / np.maximum(np.isfinite(rows[:, list(joints)]).sum(1), 1),
                    np.nan,
                )
                for joints in BODY_PARTS.values()
            ],
            axis=1,
        )
    known = np.isfinite(parts)
    filled = np.where(known, parts, np.inf)
    sure = np.where(known.any(1), filled.min(1), np.nan)
    why = [names[k] for k in filled.argmin(1)]
    for frame, word in enumerate(status):
        if word in _NOT_COMPUTED:
            sure[frame], why[frame] = 0.0, _NOT_COMPUTED[word]
    return sure, why


def spread_worst(
    sure: npt.NDArray[np.floating], times: npt.NDArray[np.floating], count: int, apart_s: float
) -> list[int]:
    """The least sure frames, no two of them nearer in time than `apart_s` seconds."""
    chosen: list[int] = []
    for frame in np.argsort(np.where(np.isfinite(sure), sure, np.inf), kind="stable"):
        if len(chosen) == count or not np.isfinite(sure[frame]):
            break
        if all(abs(times[frame] - times[other]) >= apart_s for other in chosen):
            chosen.append(int(frame))
    return chosen
