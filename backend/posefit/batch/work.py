# SPDX-License-Identifier: Apache-2.0
"""One job of a batch, done: the refinement of `posefit refine`, its figures and small pictures.

Runs in a worker process or on a machine of a cluster, which may die under it; what it writes lies
in a folder of its own until the batch takes that for the result.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from posefit_shared.sequence import Sequence, write_sequence

from .. import __version__
from ..body import BodyModel, load_body, pose_body
from ..engine import choose_device, refine_views, view_keypoints
from ..evidence import EvidenceFiles
from ..keypoints.detection import Keypoints
from ..parameters import parameters_of_sequence
from ..pipeline import Hooks
from ..refine_files import Person, RefineFiles, evidence_of_person, people_of_files
from ..report.drawing import AFTER_COLOR, BEFORE_COLOR, crop_box, draw_over
from ..texture import load_png
from .jobs import Job
from .summary import (
    CHANGE_EDGES_MM,
    CONFIDENCE_EDGES,
    JobSummary,
    WorstFrame,
    frame_confidence,
    histogram,
    spread_worst,
    write_summary,
)

__all__ = ["Machine", "look_at_job", "run_job"]

logger = logging.getLogger(__name__)

_POSING_BATCH = 64
_PICTURE_HEIGHT = 360
_PICTURE_ASPECT = 0.8
"""Width by height, so that pictures of many jobs stand in even rows."""
_WORST_APART_S = 0.5
"""Worst frames of a job are so far apart: neighbours show the same fault."""


@dataclass(frozen=True)
class Machine:
    """Where and how jobs are computed."""

    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:N`; `auto:N` is the N-th GPU where there is one."""
    rasterizer: str = "warp"
    """`warp` or `pytorch3d`."""
    pictures: int = 2
    """Worst frames of each job of which pictures are kept."""


def run_job(
    job: Job,
    folder: Path,
    machine: Machine,
    fingerprint: str,
    progress: Callable[[float, str], None] = lambda fraction, stage: None,
    keypoints: list[list[Keypoints]] | None = None,
) -> JobSummary:
    """Refine what a job names and write the result with its figures.

    Args:
        job: what.
        folder: empty, for the result.
        machine: where.
        fingerprint: kept in the figures.
        progress: told how much is done, 0 to 1; it is called at least once for each batch of
            frames, also while the fraction stands still.
        keypoints: what `look_at_job` found, if it was called before.

    Returns:
        The figures, which are in the folder as well.

    Raises:
        PosefitError, SequenceError, SettingsError, BodyFileError: in words.
    """
    began = time.perf_counter()
    body = _body(job.body, job.uv, machine.device)
    files = _files(job, folder)
    people = people_of_files(files)
    texture = None if job.texture is None else load_png(job.texture, body)
    told = [0.0, ""]
    figures = _Figures(machine.pictures)
    for k, person in enumerate(people):
        share = 1 / len(people)

        def tell(fraction: float, stage: str, k: int = k, share: float = share) -> None:
            told[:] = (k + 0.95 * fraction) * share, stage
            progress(told[0], stage)

        refinement = refine_views(
            person.sequence, person.views, body=body, settings=job.settings, texture=texture,
            hooks=Hooks(progress=tell, check_cancelled=lambda: progress(told[0], told[1])),
            rasterizer=machine.rasterizer, evidence=evidence_of_person(files, person, body),
            others=person.others, keypoints=None if keypoints is None else keypoints[k],
        )  # fmt: skip
        write_sequence(person.output, refinement.sequence)
        figures.add(person, refinement.sequence, body, folder)
        for view in person.views:
            view.footage.close()
    summary = figures.summary(job.name, fingerprint, time.perf_counter() - began)
    write_summary(folder, summary)
    return summary


def look_at_job(
    job: Job,
    machine: Machine,
    progress: Callable[[float, str], None] = lambda fraction, stage: None,
) -> list[list[Keypoints]] | None:
    """Keypoints of a job's people in each of their views: the part of it that wants no GPU.

    Args:
        job: what.
        machine: how jobs are computed.
        progress: as for `run_job`.

    Returns:
        What `run_job` takes; None where the job wants no keypoints.

    Raises:
        PosefitError, SequenceError, BodyFileError: in words.
    """
    if not job.settings.keypoints:
        return None
    body, found = _body(job.body, job.uv, "cpu"), []
    hooks = Hooks(progress=progress, check_cancelled=lambda: progress(0.0, "looking for keypoints"))
    for person in people_of_files(_files(job, Path())):
        found.append([view_keypoints(person.sequence, view, body, hooks) for view in person.views])
        for view in person.views:
            view.footage.close()
    return found


def _files(job: Job, folder: Path) -> RefineFiles:
    output = folder if job.shot is not None else folder / f"{job.name}.npz"
    evidence = EvidenceFiles(job.keypoints_file, job.densepose, job.iuv_mapping, job.masks)
    footage = job.footage
    # Another job's file may be bad; that is no reason for this one to fail.
    return RefineFiles(
        output, job.sequence, footage, job.shot, evidence=evidence, others=job.others,
        skip_bad_others=True,
    )  # fmt: skip


@lru_cache(maxsize=4)
def _body(name: str, uv: str | None, device: str) -> BodyModel:
    return load_body(name, device_of(device), uv=uv)


def device_of(name: str) -> torch.device:
    """The device that a machine's setting means here."""
    kind, _, index = name.partition(":")
    if not index:
        return choose_device(name)
    is_there = torch.cuda.is_available() and int(index) < torch.cuda.device_count()
    if kind == "auto":
        return torch.device("cuda", int(index)) if is_there else torch.device("cpu")
    return torch.device(choose_device(kind).type, int(index))


class _Figures:
    """Figures of a job's people, gathered one by one."""

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
