# SPDX-License-Identifier: Apache-2.0
"""`posefit import` and the import job: other tools' files in, sequences out, with what to know."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from posefit_shared.messages import FREE_BODY, ImportRequest, ImportResult
from posefit_shared.sequence import Sequence, write_sequence

from ..importers import Imported, ImportedPerson, ImporterError, ImportOptions, import_file

__all__ = ["ImportFiles", "import_for_client", "import_people"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImportFiles:
    """Files of one `posefit import`."""

    file: Path
    """The tool's file or folder."""
    output: Path
    """Sequence file for one person, or a folder for everybody."""
    footage: Path | None = None
    """Video or folder of images that the result was made from."""


def import_people(
    files: ImportFiles,
    *,
    format_name: str | None = None,
    person: int | None = None,
    body: str = FREE_BODY,
    world: Literal["auto", "camera"] = "auto",
    up: Literal["auto", "z", "y", "-y"] = "auto",
    focal: float | None = None,
    rate: float | None = None,
    relink: bool = True,
) -> list[Sequence]:
    """`posefit import`: write one person, or everybody of a file.

    Args:
        files: what to read and write; an output that ends in .npz is for one person.
        format_name: which tool's it is; found out unless given.
        person: which person, the one seen longest first.
        body: body file that the motion will be used with.
        world: whether to take a file's world or its camera's frame.
        up: up axis of plain SMPL files.
        focal: focal length of weak-perspective cameras, pixels.
        rate: frames a second.
        relink: whether broken tracks of one person are joined.

    Returns:
        What was written.

    Raises:
        ImporterError: the file cannot be imported, or has no such person.
        FootageError: the footage cannot be read.
        SequenceError: the output cannot be written.
    """
    size, footage_rate = _footage(files.footage)
    options = ImportOptions(
        body=body, image_size=size, frame_rate=rate or footage_rate, world=world, up=up,
        focal_px=focal, relink=relink,
    )  # fmt: skip
    imported = import_file(files.file, options, format_name)
    logger.info("%s: taken for %s (%s)", files.file, imported.title, imported.format)
    if len(imported.people) > 1:
        logger.info("it has %d people: %s", len(imported.people), _listed(imported))
    is_file = files.output.suffix.lower() == ".npz"
    if not is_file and person is None:
        return _write_everybody(imported, files)
    chosen = _chosen(imported, person)
    if person is None and len(imported.people) > 1:
        logger.warning("person 0 was taken: --person takes another, a folder as --output all")
    output = files.output if is_file else files.output / _file_name(chosen)
    write_sequence(output, chosen.sequence)
    _tell(output, chosen)
    return [chosen.sequence]


def import_for_client(path: Path, request: ImportRequest, body: str) -> ImportResult:
    """The import job: one person of a file that a client sent or named.

    Args:
        path: the file.
        request: which format and person, and the footage's size.
        body: body file that the motion will be used with, or `free`.

    Raises:
        ImporterError: the file cannot be imported, or has no such person.
    """
    options = ImportOptions(body=body, image_size=request.image_size)
    imported = import_file(path, options, request.format)
    chosen = _chosen(imported, request.person)
    notes = list(chosen.notes)
    if len(imported.people) > 1:
        notes.insert(0, f"the file has {len(imported.people)} people: {_listed(imported)}")
    report: dict[str, Any] = {
        "format": imported.format,
        "title": imported.title,
        "people": len(imported.people),
        "notes": notes,
    }
    return ImportResult(chosen.sequence, report)


def _chosen(imported: Imported, person: int | None) -> ImportedPerson:
    people = imported.people
    if person is not None and not 0 <= person < len(people):
        last = len(people) - 1
        raise ImporterError(
            f"there is no person {person}, the file has {len(people)}: {_listed(imported)}; choose "
            + ("person 0" if last == 0 else f"0 to {last}")
        )
    return people[person or 0]


def _listed(imported: Imported) -> str:
    shown = [
        f"{k} is {one.label} ({len(one.sequence)} frames)"
        for k, one in enumerate(imported.people[:12])
    ]
    more = len(imported.people) - len(shown)
    return ", ".join([*shown, *([f"and {more} more"] if more else [])])


def _write_everybody(imported: Imported, files: ImportFiles) -> list[Sequence]:
    names = []
    for one in imported.people:
        name = _file_name(one)
        if name in names:
            name = f"{Path(name).stem}_{len(names)}.npz"
        names.append(name)
        write_sequence(files.output / name, one.sequence)
        _tell(files.output / name, one)
    if files.footage is not None:
        shot = _shot(imported, files.footage, files.output, names)
        if shot is not None:
            _write_text(files.output / "shot.json", json.dumps(shot, indent=1) + "\n")
            logger.info("%s: everybody before one camera", files.output / "shot.json")
    return [one.sequence for one in imported.people]


def _write_text(path: Path, text: str) -> None:
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise ImporterError(
            f"could not write {path} ({error.strerror or error}): choose another folder"
        ) from error


def _shot(
    imported: Imported, footage: Path, folder: Path, names: list[str]
) -> dict[str, Any] | None:
    """A shot of everybody, where they share one still camera; None where they do not."""
    sequences = [one.sequence for one in imported.people]
    first = sequences[0]
    if first.image_size is None or first.intrinsics is None or first.world_to_camera is None:
        return None
    for one in sequences:
        same_size = one.image_size == first.image_size
        if not same_size or one.intrinsics is None or one.world_to_camera is None:
            return None
        if one.intrinsics.ndim != 2 or not np.allclose(one.intrinsics, first.intrinsics):
            return None
        if one.world_to_camera.ndim != 2 or not np.allclose(
            one.world_to_camera, first.world_to_camera
        ):
            return None
    distortion = np.zeros(5) if first.distortion is None else first.distortion
    camera = {
        "name": "camera",
        "footage": str(footage.resolve()),
        "frame_offset": 0,
        "image_size": list(first.image_size),
        "intrinsics": first.intrinsics.tolist(),
        "distortion": distortion.tolist(),
        "world_to_camera": first.world_to_camera.tolist(),
    }
    return {"cameras": [camera], "people": names}


def _file_name(person: ImportedPerson) -> str:
    return f"person_{person.sequence.person_id}.npz"


def _tell(output: Path, person: ImportedPerson) -> None:
    sequence = person.sequence
    logger.info("%s: %s, %d frames of %s", output, person.label, len(sequence), sequence.model_type)
    for note in person.notes:
        logger.info("%s", note)


def _footage(path: Path | None) -> tuple[tuple[int, int] | None, float | None]:
    """Size and rate of the footage."""
    if path is None:
        return None, None
    from ..footage import open_footage

    with open_footage(path) as footage:
        if footage.remark:
            raise ImporterError(
                f"{path.name} cannot give the pictures' size{footage.remark}; run the tool on a "
                "copy with square pixels (ffmpeg -i IN -vf scale=iw*sar:ih,setsar=1 OUT), and "
                "import that"
            )
        return footage.size, footage.fps if path.is_file() else None
