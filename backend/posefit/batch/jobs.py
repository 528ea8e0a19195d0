# SPDX-License-Identifier: Apache-2.0
"""What a batch is to do: jobs from a table, or from a folder of clips and sequences.

A row that cannot be understood is a job that fails with a sentence; the others go on.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from posefit_shared.settings import RefineSettings, SettingsError

from ..errors import PosefitError

__all__ = ["BatchError", "Job", "read_jobs"]

FILE_COLUMNS = (
    "sequence", "footage", "shot", "texture", "keypoints_file", "densepose", "iuv_mapping", "masks",
)  # fmt: skip
"""Columns that name a file or folder, relative to the table."""
WORD_COLUMNS = ("body", "uv")
"""Columns with a body or texture coordinates: a file, or a name that posefit knows."""
MAX_JOBS = 1_000_000
MAX_PEOPLE = 64
"""Jobs of one footage that know of each other, as in a shot; more are tries of the same people."""
_NAME = re.compile(r"[^\x00-\x1f/\\:*?\"<>|]{1,120}")
_VIDEO_SUFFIXES = (
    ".mp4", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m4v", ".ts", ".mts", ".m2ts",
    ".mxf", ".flv", ".ogv", ".wmv", ".gif",
)  # fmt: skip
_SETTINGS = {entry.name: entry for entry in fields(RefineSettings)}
_JOINTS = (".", "_", "-", " ")
"""What stands between a clip's name and a person's."""
_YES, _NO = ("yes", "true", "1", "on"), ("no", "false", "0", "off")


class BatchError(PosefitError):
    """A batch that cannot start or go on; says what to do."""


@dataclass(frozen=True)
class Job:
    """One refinement of a batch."""

    name: str
    """Names its result; no two jobs share one."""
    sequence: Path | None = None
    """Sequence file with its camera."""
    footage: Path | None = None
    """Its video or folder of images."""
    shot: Path | None = None
    """Shot file, instead of both."""
    texture: Path | None = None
    """The person's texture, if it was made before."""
    keypoints_file: Path | None = None
    """Keypoints of another tool."""
    densepose: Path | None = None
    """IUV maps."""
    iuv_mapping: Path | None = None
    """What the maps mean."""
    masks: Path | None = None
    """Person masks."""
    others: tuple[Path, ...] = ()
    """Sequences of other people in the same footage, who may hide this one."""
    body: str = "free"
    """Body file, or `free`."""
    uv: str | None = None
    """Texture coordinates: an .obj, or `xatlas`."""
    settings: RefineSettings = field(default_factory=RefineSettings)
    """How."""
    problem: str = ""
    """Why the job cannot be run, in a sentence; empty if it can."""

    def to_map(self) -> dict[str, Any]:
        """The job as plain values, which go to another process."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        plain = {
            name: str(value) if isinstance(value, Path) else value for name, value in values.items()
        }
        others = [str(path) for path in self.others]
        return plain | {"others": others, "settings": self.settings.to_map()}

    @classmethod
    def from_map(cls, values: dict[str, Any]) -> Job:
        """The job that `to_map` described."""
        paths = {name: Path(values[name]) for name in FILE_COLUMNS if values.get(name)}
        settings = RefineSettings.from_map(values["settings"])
        others = tuple(Path(path) for path in values["others"])
        return cls(**{**values, **paths, "others": others, "settings": settings})

    def input_files(self) -> Iterator[Path]:
        """Files and folders that the result depends on."""
        for name in FILE_COLUMNS:
            path = getattr(self, name)
            if path is not None:
                yield path
        yield from self.others
        for word in (self.body, self.uv):
            if word and Path(word).is_file():
                yield Path(word)


def read_jobs(source: Path, defaults: Job | None = None) -> list[Job]:
    """The jobs of a table (.csv, .tsv) or of a folder.

    Args:
        source: a table with a header, or a folder with pairs of a clip and an .npz of one name (or
            several that begin with it), and folders that hold a shot.json.
        defaults: body, settings and so on of jobs that do not state their own.

    Raises:
        BatchError: there is no such table or folder, or no job in it, or two jobs of one name.
    """
    defaults = defaults or Job("defaults")
    if source.is_dir():
        jobs = list(_jobs_of_folder(source, defaults))
        if not jobs:
            raise BatchError(
                f"{source} holds no jobs: put pairs like walk.mp4 and walk.npz there, or folders "
                "with a shot.json"
            )
    elif source.is_file():
        jobs = _jobs_of_table(source, defaults)
        if not jobs:
            raise BatchError(f"{source.name} has no rows below its header: add one for each job")
    else:
        raise BatchError(f"no table or folder of jobs at {source}: check the path")
    _check_names(source, jobs)
    return _with_others(jobs)


def _with_others(jobs: list[Job]) -> list[Job]:
    """Jobs that know who else is in their footage: the other jobs' sequences of the same file."""
    people: dict[Path, list[Path]] = {}
    for job in jobs:
        if job.footage is not None and job.sequence is not None:
            known = people.setdefault(job.footage.absolute(), [])
            if job.sequence not in known:
                known.append(job.sequence)
    return [
        replace(job, others=tuple(path for path in together if path != job.sequence))
        if job.footage is not None
        and 1 < len(together := people.get(job.footage.absolute(), [])) <= MAX_PEOPLE
        else job
        for job in jobs
    ]  # fmt: skip


def _check_names(source: Path, jobs: list[Job]) -> None:
    seen: dict[str, str] = {}
    for job in jobs:
        # Some file systems do not tell capitals from small letters.
        first = seen.setdefault(job.name.casefold(), job.name)
        if first is not job.name:
            raise BatchError(
                f"{source.name}: two jobs are called {job.name!r}, which names their results: "
                "give each its own in the column 'name'"
            )


def _jobs_of_folder(folder: Path, defaults: Job) -> Iterator[Job]:
    entries = sorted(folder.iterdir())
    clips: dict[str, list[Path]] = {}
    for path in entries:
        if not path.name.startswith(".") and (
            path.is_dir() or path.suffix.lower() in _VIDEO_SUFFIXES
        ):
            clips.setdefault(path.name if path.is_dir() else path.stem, []).append(path)
    for path in entries:
        if path.name.startswith("."):
            continue
        if path.is_dir() and (path / "shot.json").is_file():
            yield replace(defaults, name=path.name, shot=path / "shot.json")
        elif path.suffix.lower() == ".npz":
            named = clips.get(path.stem) or clips.get(_clip_of_several(path.stem, clips), [])
            found = [clip for clip in named if not (clip / "shot.json").is_file()]
            yield _pair(path, found, defaults)


def _clip_of_several(stem: str, clips: dict[str, list[Path]]) -> str:
    """The clip whose name a person's begins with: `walk` for `walk.anna` and `walk_2`."""
    begins = [name for name in clips if stem.startswith(tuple(name + mark for mark in _JOINTS))]
    return max(begins, key=len, default="")


def _pair(sequence: Path, clips: list[Path], defaults: Job) -> Job:
    job = replace(defaults, name=sequence.stem, sequence=sequence)
    if len(clips) == 1:
        return replace(job, footage=clips[0])
    if clips:
        names = ", ".join(clip.name for clip in clips)
        return replace(job, problem=f"several clips belong to {sequence.name} ({names}): keep one")
    return replace(
        job, problem=f"no clip belongs to {sequence.name}: put {sequence.stem}.mp4 (or a folder "
        f"{sequence.stem} of images) beside it, or name it after its clip: CLIP.PERSON.npz",
    )  # fmt: skip


def _jobs_of_table(path: Path, defaults: Job) -> list[Job]:
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BatchError(
            f"{path.name} cannot be read as a table ({error}): save it as CSV in UTF-8"
        ) from error
    header, _, _ = text.partition("\n")
    delimiter = max(",;\t", key=header.count)
    rows = csv.reader(text.splitlines(), delimiter=delimiter)
    try:
        columns = [name.strip().lower() for name in next(rows, [])]
        _check_columns(path, columns)
        return [
            _job_of_row(path.parent, number, columns, row, defaults)
            for number, row in enumerate(rows, start=2)
            if any(cell.strip() for cell in row)
        ]
    except csv.Error as error:
        raise BatchError(f"{path.name} is no table ({error}): save it as CSV in UTF-8") from error


def _check_columns(path: Path, columns: list[str]) -> None:
    known = {"name", *FILE_COLUMNS, *WORD_COLUMNS, *_SETTINGS}
    unknown = [name for name in columns if name not in known and not name.startswith("#")]
    if "sequence" not in columns and "shot" not in columns:
        raise BatchError(
            f"{path.name} begins with {', '.join(columns) or 'nothing'}, expected a header with "
            "the columns name, sequence and footage, or shot"
        )
    if unknown:
        raise BatchError(
            f"{path.name}: no setting is called {unknown[0]!r}; columns are name, "
            f"{', '.join(FILE_COLUMNS + WORD_COLUMNS)} and the settings of `posefit refine` "
            "(remarks go into columns that begin with #)"
        )
    if len(set(columns)) < len(columns):
        raise BatchError(f"{path.name}: a column stands there twice: keep one")


def _job_of_row(
    folder: Path, number: int, columns: list[str], row: list[str], defaults: Job
) -> Job:
    cells = {
        name: cell.strip()
        for name, cell in zip(columns, row, strict=False)
        if cell.strip() and not name.startswith("#")
    }
    files = {
        name: folder / Path(cells[name]).expanduser() for name in FILE_COLUMNS if name in cells
    }
    words: dict[str, Any] = {name: cells[name] for name in WORD_COLUMNS if name in cells}
    for name, word in words.items():
        if (folder / word).is_file():
            words[name] = str(folder / word)
    name, problem, settings = cells.get("name", ""), "", defaults.settings
    if not name:
        about = files.get("sequence")
        name = about.stem if about else files["shot"].parent.name if "shot" in files else ""
        name = name or f"row {number}"
    if len(row) > len(columns):
        problem = f"row {number} has {len(row)} cells, the header {len(columns)}: mend the row"
    elif "shot" not in files and not ("sequence" in files and "footage" in files):
        problem = f"row {number} names no sequence with footage and no shot: fill them in"
    elif _NAME.fullmatch(name) is None or name.startswith(".") or name.endswith((".", " ")):
        problem = f"row {number}: the name {name!r} cannot be a folder's: use letters and digits"
        name = f"row {number}"
    else:
        try:
            settings = _settings(cells, defaults.settings)
        except SettingsError as error:
            problem = f"row {number}: {error}"
    return replace(defaults, name=name, settings=settings, problem=problem, **files, **words)


def _settings(cells: dict[str, str], defaults: RefineSettings) -> RefineSettings:
    values = {
        name: _value(name, cell, _SETTINGS[name].default)
        for name, cell in cells.items()
        if name in _SETTINGS
    }
    return replace(defaults, **values)


def _value(name: str, cell: str, default: Any) -> Any:
    if isinstance(default, str):
        return cell
    if isinstance(default, bool):
        if cell.lower() in (*_YES, *_NO):
            return cell.lower() in _YES
        raise SettingsError(f"{name} is {cell!r}, expected yes or no")
    try:
        return type(default)(cell.replace(",", ".") if isinstance(default, float) else cell)
    except ValueError as error:
        raise SettingsError(f"{name} is {cell!r}, expected a number like {default}") from error
