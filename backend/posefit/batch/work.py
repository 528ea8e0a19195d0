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
from typing import Any

import torch

from posefit_shared.sequence import write_sequence

from ..body import BodyModel, load_body
from ..devices import choose_device
from ..engine import refine_views, refine_views_windows, view_keypoints
from ..evidence import EvidenceFiles
from ..pipeline import Hooks
from ..records import Arrays, Records
from ..refine_files import Person, RefineFiles, evidence_of_person, people_of_files
from ..refinement.checkpoint import Checkpoint
from ..refinement.windows import split_windows
from ..texture import load_png
from .chunks import Chunk, chunks_of_windows
from .figures import JobFigures
from .jobs import Job
from .summary import JobSummary, write_summary

__all__ = ["Machine", "begin_chunks", "do_chunk", "look_at_job", "run_job"]

logger = logging.getLogger(__name__)

Tell = Callable[[float, str], None]
"""Told how much is done, 0 to 1; called at least once for each batch of frames."""


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
    progress: Tell = lambda fraction, stage: None,
    records: Records | None = None,
) -> JobSummary:
    """Refine what a job names and write the result with its figures.

    Args:
        job: what.
        folder: empty, for the result.
        machine: where.
        fingerprint: kept in the figures.
        progress: told how much is done.
        records: what was done of this job before (`checkpoint`); the rest is added.

    Returns:
        The figures, which are in the folder as well.

    Raises:
        PosefitError, SequenceError, SettingsError, BodyFileError: in words.
    """
    began = time.perf_counter()
    work = _Work(job, folder, machine)
    figures = JobFigures(machine.pictures)
    records = {} if records is None else records
    for k, person in enumerate(work.people):
        share = 0.95 / len(work.people)
        hooks = _hooks(progress, k / len(work.people), share)
        refinement = refine_views(
            person.sequence, person.views, checkpoint=_checkpoint(records, k),
            **work.arguments(person, hooks),
        )  # fmt: skip
        write_sequence(person.output, refinement.sequence)
        figures.add(person, refinement.sequence, work.body, folder)
        for view in person.views:
            view.footage.close()
    summary = figures.summary(job.name, fingerprint, time.perf_counter() - began)
    write_summary(folder, summary)
    return summary


def begin_chunks(
    job: Job, machine: Machine, chunk_frames: int, records: Records,
    progress: Tell = lambda fraction, stage: None,
) -> list[Chunk]:  # fmt: skip
    """Find what a long job's windows share, so that they can be done apart by `do_chunk`.

    Args:
        job: what.
        machine: where.
        chunk_frames: length of a part, rounded up to whole windows.
        records: given what all parts need, and what `run_job` goes on from.
        progress: as for `run_job`.

    Returns:
        The parts; none when every person's clip is one.

    Raises:
        PosefitError, SequenceError, SettingsError, BodyFileError: in words.
    """
    work = _Work(job, Path(), machine)
    settings, chunks = job.settings, []
    for k, person in enumerate(work.people):
        windows = split_windows(
            len(person.sequence), settings.window_frames, settings.window_overlap
        )
        found = chunks_of_windows(k, windows, chunk_frames)
        if len(found) > 1:
            _do_windows(work, k, (), records, progress)
            chunks += found
    return chunks


def do_chunk(
    job: Job, chunk: Chunk, machine: Machine, records: Records,
    progress: Tell = lambda fraction, stage: None,
) -> dict[str, Arrays]:  # fmt: skip
    """Do a part of a job.

    Args:
        job: what.
        chunk: which part.
        machine: where.
        records: what `begin_chunks` found.
        progress: as for `run_job`.

    Returns:
        What `run_job` needs beside those records.

    Raises:
        PosefitError, SequenceError, SettingsError, BodyFileError: in words.
    """
    mine = dict(records)
    _do_windows(_Work(job, Path(), machine), chunk.person, chunk.windows, mine, progress)
    return {name: arrays for name, arrays in mine.items() if name not in records}


def look_at_job(
    job: Job, machine: Machine, progress: Tell = lambda fraction, stage: None
) -> dict[str, Arrays]:
    """Keypoints of a job's people in each of their views: the part of it that wants no GPU.

    Args:
        job: what.
        machine: how jobs are computed.
        progress: as for `run_job`.

    Returns:
        Records that `run_job` takes; none where the job wants no keypoints.

    Raises:
        PosefitError, SequenceError, BodyFileError: in words.
    """
    records: dict[str, Arrays] = {}
    if not job.settings.keypoints:
        return records
    body = _body(job.body, job.uv, "cpu")
    hooks = Hooks(progress=progress, check_cancelled=lambda: progress(0.0, "looking for keypoints"))
    for k, person in enumerate(people_of_files(_files(job, Path()))):
        checkpoint = _checkpoint(records, k)
        for v, view in enumerate(person.views):
            checkpoint.keep_keypoints(v, view_keypoints(person.sequence, view, body, hooks))
            view.footage.close()
    return records


class _Work:
    """A job's files, opened, and what all of its people are refined with."""

    def __init__(self, job: Job, folder: Path, machine: Machine) -> None:
        self._job, self._rasterizer = job, machine.rasterizer
        self.body = _body(job.body, job.uv, machine.device)
        self._files = _files(job, folder)
        self.people = people_of_files(self._files)
        self._texture = None if job.texture is None else load_png(job.texture, self.body)

    def arguments(self, person: Person, hooks: Hooks) -> dict[str, Any]:
        """How `refine_views` and `refine_views_windows` are called alike."""
        return {
            "body": self.body,
            "settings": self._job.settings,
            "texture": self._texture,
            "hooks": hooks,
            "rasterizer": self._rasterizer,
            "evidence": evidence_of_person(self._files, person, self.body),
            "others": person.others,
        }


def _do_windows(
    work: _Work, person: int, windows: tuple[int, ...], records: Records, progress: Tell
) -> None:
    one = work.people[person]
    refine_views_windows(
        one.sequence, one.views, windows, _checkpoint(records, person),
        **work.arguments(one, _hooks(progress, 0.0, 1.0)),
    )  # fmt: skip
    for view in one.views:
        view.footage.close()


def _checkpoint(records: Records, person: int) -> Checkpoint:
    return Checkpoint(records, f"person-{person}-")


def _hooks(progress: Tell, done: float, share: float) -> Hooks:
    """Hooks that tell of one person's share; each is a sign of life, also where nothing is new."""
    told = [done, ""]

    def tell(fraction: float, stage: str) -> None:
        told[:] = done + share * fraction, stage
        progress(told[0], stage)

    return Hooks(progress=tell, check_cancelled=lambda: progress(told[0], told[1]))


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
