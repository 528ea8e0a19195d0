# SPDX-License-Identifier: Apache-2.0
"""What a job of a batch came to: figures of its people, and small pictures of its worst frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from posefit_shared.sequence import Sequence

from .. import __version__
from ..body import BodyModel, pose_body
from ..parameters import parameters_of_sequence
from ..refine_files import Person
from ..report.drawing import AFTER_COLOR, BEFORE_COLOR, crop_box, draw_over
from .summary import (
    CHANGE_EDGES_MM,
    CONFIDENCE_EDGES,
    JobSummary,
    WorstFrame,
    frame_confidence,
    histogram,
    spread_worst,
)

__all__ = ["JobFigures"]

_POSING_BATCH = 64
_PICTURE_HEIGHT = 360
_PICTURE_ASPECT = 0.8
"""Width by height, so that pictures of many jobs stand in even rows."""
_WORST_APART_S = 0.5
"""Worst frames of a job are so far apart: neighbours show the same fault."""


class JobFigures:
    """Figures of a job's people, gathered one by one.

    Args:
        pictures: worst frames of which pictures are drawn.
    """

    def __init__(self, pictures: int) -> None:
        self._pictures = pictures
        self._outputs: list[str] = []
        self._status: dict[str, int] = {}
        self._change: list[npt.NDArray[np.float64]] = []
        self._sure: list[npt.NDArray[np.float64]] = []
        self._worst: list[WorstFrame] = []

    def add(self, person: Person, after: Sequence, body: BodyModel, folder: Path) -> None:
        """Take note of a person's result, with pictures of its worst frames."""
        status = after.status or ("refined",) * len(after)
        self._outputs.append(person.output.name)
        for word in status:
            self._status[word] = self._status.get(word, 0) + 1
        self._change.append(1e3 * _joint_change_m(person.sequence, after, body))
        if after.confidence is None:
            return
        sure, why = frame_confidence(after.confidence, status)
        self._sure.append(sure)
        self._worst += _worst_frames(person, after, body, folder, sure, why, self._pictures)

    def summary(self, name: str, fingerprint: str, seconds: float) -> JobSummary:
        """What there is to say of the job."""
        change = np.concatenate(self._change)
        sure = np.concatenate(self._sure) if self._sure else np.full(0, np.nan)
        sure = sure[np.isfinite(sure)]
        return JobSummary(
            name=name, fingerprint=fingerprint, version=__version__, seconds=round(seconds, 3),
            outputs=tuple(self._outputs), status=self._status,
            change_mm=histogram(change, CHANGE_EDGES_MM),
            confidence=histogram(sure, CONFIDENCE_EDGES),
            median_change_mm=round(float(np.median(change)), 3),
            median_confidence=round(float(np.median(sure)), 4) if len(sure) else None,
            worst=tuple(sorted(self._worst, key=lambda frame: frame.confidence)),
        )  # fmt: skip


def _joint_change_m(before: Sequence, after: Sequence, body: BodyModel) -> npt.NDArray[np.float64]:
    """(T,) how far the joints moved on average, metres."""
    first, second = (parameters_of_sequence(one, body) for one in (before, after))
    moved = []
    with torch.no_grad():
        for start in range(0, len(after), _POSING_BATCH):
            part = slice(start, start + _POSING_BATCH)
            joints = [pose_body(body, one[part]).joints for one in (first, second)]
            moved.append((joints[1] - joints[0]).norm(dim=-1).mean(1).cpu().numpy())
    return np.concatenate(moved).astype(np.float64)


def _worst_frames(
    person: Person,
    after: Sequence,
    body: BodyModel,
    folder: Path,
    sure: npt.NDArray[np.float64],
    why: list[str],
    count: int,
) -> list[WorstFrame]:
    view = person.views[0]
    indices = view.frame_indices
    times = indices / view.footage.fps if after.times is None else after.times
    # A frame that this camera does not have, or whose person was not seen, has nothing to show.
    shown = np.where(indices >= 0, sure, np.nan)
    entries = []
    for frame in spread_worst(shown, times, count, _WORST_APART_S):
        names = (f"{person.output.stem}-{indices[frame]}-{which}.jpg" for which in ("in", "out"))
        entry = WorstFrame(
            person.output.name, int(indices[frame]), round(float(sure[frame]), 4), why[frame],
            *names,
        )  # fmt: skip
        _draw(person, after, body, frame, folder / entry.before, folder / entry.after)
        entries.append(entry)
    return entries


def _draw(
    person: Person, after: Sequence, body: BodyModel, frame: int, first: Path, second: Path
) -> None:
    """Write pictures of one frame with the body as it came in, and as it went out."""
    view = person.views[0]
    camera, picture = view.camera(frame), view.footage.read(int(view.frame_indices[frame]))
    with torch.no_grad():
        posed = [
            pose_body(body, parameters_of_sequence(one.slice(frame, frame + 1), body))
            .vertices[0].cpu().numpy()
            for one in (person.sequence, after)
        ]  # fmt: skip
    box = _even_box(crop_box(posed, camera, margin=0.2), view.footage.size)
    for path, vertices, color in zip(
        (first, second), posed, (BEFORE_COLOR, AFTER_COLOR), strict=True
    ):
        drawn = draw_over(
            picture, vertices, camera, body, color=color, box=box, height=_PICTURE_HEIGHT
        )
        Image.fromarray(drawn).save(path, "JPEG", quality=82, optimize=True)


def _even_box(box: tuple[int, int, int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """A box grown to the pictures' shape, as far as the frame of `size` (width, height) allows."""
    x0, y0, x1, y1 = box
    width = min(max(x1 - x0, round(_PICTURE_ASPECT * (y1 - y0))), size[0])
    height = min(max(y1 - y0, round(width / _PICTURE_ASPECT)), size[1])
    left = min(max((x0 + x1 - width) // 2, 0), size[0] - width)
    top = min(max((y0 + y1 - height) // 2, 0), size[1] - height)
    return left, top, left + width, top + height
