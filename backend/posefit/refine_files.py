# SPDX-License-Identifier: Apache-2.0
"""Files of one refinement: which people they hold, with their pictures and other tools' evidence.

`posefit refine`, a batch and the Python functions read their input here, so that the same files
give the same result.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from posefit_shared.sequence import Sequence, SequenceError, read_sequence
from posefit_shared.shot import read_shot

from .body import BodyModel
from .errors import RefinementError
from .evidence import EvidenceFiles, evidence_of_files
from .footage import open_footage
from .refinement.others import Occluders, OtherPerson, in_camera_of, in_world_of
from .solver import Evidence
from .views import View, view_of_sequence, views_of_shot

__all__ = ["Person", "RefineFiles", "evidence_of_person", "people_of_files"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RefineFiles:
    """Files of one `posefit refine`."""

    output: Path
    """Sequence file, or a folder with a shot."""
    sequence: Path | None = None
    """Sequence file with its camera."""
    frames: Path | None = None
    """Its footage."""
    shot: Path | None = None
    """Shot file, instead of both."""
    texture: Path | None = None
    """The person's texture, if it was made before."""
    report: Path | None = None
    """Folder for the report."""
    evidence: EvidenceFiles = EvidenceFiles()
    """What other tools found in the footage."""
    others: tuple[Path, ...] = ()
    """Sequence files of other people in the same footage; those of a shot know of each other."""
    skip_bad_others: bool = False
    """Whether others whose files are no use are left out with a warning, and not refused."""


@dataclass(frozen=True)
class Person:
    """One sequence with its pictures, and where its result goes."""

    sequence: Sequence
    """Where the person is now."""
    views: list[View]
    """Pictures of them."""
    output: Path
    """Where the result goes."""
    others: tuple[OtherPerson, ...] = ()
    """Who else is there and may hide them."""


def people_of_files(files: RefineFiles) -> list[Person]:
    """Everyone that the files tell of, with opened footage.

    Raises:
        RefinementError, SequenceError, FootageError: in words.
    """
    if files.shot is not None:
        if files.sequence is not None or files.frames is not None:
            raise RefinementError("give either --shot, or --sequence and --frames, and not both")
        if files.others:
            raise RefinementError(
                "a shot's people know of each other: list everybody under its 'people' and leave "
                "--others out"
            )
        shot = read_shot(files.shot)
        if not shot.people:
            raise RefinementError(
                f"{files.shot.name} names no people: add their sequence files under 'people'"
            )
        everybody = [read_sequence(path) for path in shot.people]
        return [
            Person(
                sequence, views_of_shot(shot, sequence), files.output / path.name,
                in_world_of(sequence, [one for one in everybody if one is not sequence]),
            )
            for path, sequence in zip(shot.people, everybody, strict=True)
        ]  # fmt: skip
    if files.sequence is None or files.frames is None:
        raise RefinementError("--sequence and --frames are needed (or --shot): give both")
    sequence = read_sequence(files.sequence)
    view = view_of_sequence(sequence, open_footage(files.frames))
    return [Person(sequence, [view], files.output, tuple(_others(files, sequence)))]


def _others(files: RefineFiles, sequence: Sequence) -> Iterator[OtherPerson]:
    for path in files.others:
        try:
            yield from in_camera_of(sequence, [read_sequence(path)])
        except SequenceError as error:
            if not files.skip_bad_others:
                raise
            logger.warning("%s is not taken for somebody who may hide this person: %s", path, error)


def evidence_of_person(files: RefineFiles, person: Person, body: BodyModel) -> list[Evidence]:
    """The named files' evidence; with several views each folder has one a camera, by its name."""
    if not files.evidence:
        return []
    others = Occluders.of(person.sequence, person.others, person.views, body)

    def found(chosen: EvidenceFiles, view: View) -> list[Evidence]:
        return evidence_of_files(chosen, person.sequence, view, body, others)

    if len(person.views) == 1:
        return found(files.evidence, person.views[0])
    return [one for view in person.views for one in found(files.evidence.of_view(view.name), view)]
