# SPDX-License-Identifier: Apache-2.0
"""Every format that is read: told from what a file holds, the most particular first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .aist import read_aist, recognises_aist
from .bvh import read_bvh, recognises_bvh
from .content import Content, load_content
from .gvhmr import read_gvhmr, recognises_gvhmr
from .person import ImportedPerson, ImporterError, ImportOptions
from .phalp import read_phalp, recognises_phalp
from .romp import read_romp, recognises_romp
from .smpl_files import read_amass, read_smpl, recognises_amass, recognises_smpl
from .wham import read_wham, recognises_wham

__all__ = ["FORMATS", "Format", "Imported", "import_file", "read", "sniff"]


@dataclass(frozen=True)
class Format:
    """One format."""

    title: str
    """What it is, for people."""
    recognises: Callable[[Content], bool]
    read: Callable[[Content, ImportOptions], list[ImportedPerson]]


@dataclass(frozen=True)
class Imported:
    """What a file was taken for, and the people in it."""

    format: str
    """Name of the format."""
    title: str
    people: tuple[ImportedPerson, ...]
    """Those seen longest first."""


FORMATS: dict[str, Format] = {
    "wham": Format("results of WHAM", recognises_wham, read_wham),
    "phalp": Format("tracks of 4D-Humans, TokenHMR or PHALP", recognises_phalp, read_phalp),
    "gvhmr": Format("results of GVHMR", recognises_gvhmr, read_gvhmr),
    "romp": Format("results of ROMP or BEV", recognises_romp, read_romp),
    "aist": Format("a motion of AIST++", recognises_aist, read_aist),
    "bvh": Format("a BVH motion", recognises_bvh, read_bvh),
    "amass": Format("a motion of AMASS", recognises_amass, read_amass),
    "smpl": Format("parameters of SMPL, SMPL-H or SMPL-X", recognises_smpl, read_smpl),
}
"""Formats by the name that `--format` takes, in the order in which they are tried."""


def sniff(path: str | Path) -> str | None:
    """Name of the format of a file or folder; None where no format knows it.

    Raises:
        ImporterError: the file cannot be opened at all.
    """
    content = load_content(Path(path))
    return next((name for name, one in FORMATS.items() if one.recognises(content)), None)


def read(
    path: str | Path, options: ImportOptions | None = None, format_name: str | None = None
) -> list[ImportedPerson]:
    """The people in another tool's file or folder, those seen longest first.

    Args:
        path: the file or folder.
        options: what it may not say itself; nothing unless given.
        format_name: one of `FORMATS`; found out unless given.

    Raises:
        ImporterError: no format knows it, or it is not as its tool writes it.
    """
    return list(import_file(path, options, format_name).people)


def import_file(
    path: str | Path, options: ImportOptions | None = None, format_name: str | None = None
) -> Imported:
    """`read`, with what the file was taken for.

    Args:
        path: the file or folder.
        options: what it may not say itself; nothing unless given.
        format_name: one of `FORMATS`; found out unless given.

    Raises:
        ImporterError: no format knows it, or it is not as its tool writes it.
    """
    path = Path(path)
    if format_name is not None and format_name not in FORMATS:
        raise ImporterError(
            f"no format is called {format_name!r}: expected one of {', '.join(FORMATS)}"
        )
    content = load_content(path)
    if format_name is None:
        known = (name for name, one in FORMATS.items() if one.recognises(content))
        format_name = next(known, None)
        if format_name is None:
            raise ImporterError(_unknown(content))
    elif not FORMATS[format_name].recognises(content):
        raise ImporterError(
            f"{path.name} is not as {FORMATS[format_name].title} should be ({_inside(content)}): "
            "leave out the format to have it found out"
        )
    chosen = FORMATS[format_name]
    people = chosen.read(content, options or ImportOptions())
    if not people:
        raise ImporterError(f"{path.name} ({chosen.title}) has no people")
    people.sort(key=lambda one: (-len(one.sequence), one.sequence.person_id))
    return Imported(format_name, chosen.title, tuple(people))


def _unknown(content: Content) -> str:
    return (
        f"{content.path.name} is none of the formats that posefit imports ({_inside(content)}); "
        f"expected one of {', '.join(FORMATS)} (docs/importing.md)"
    )


def _inside(content: Content) -> str:
    if content.kind == "folder":
        return "it is a folder"
    if isinstance(content.data, dict):
        keys = ", ".join(str(key)[:40] for key in list(content.data)[:12]) or "nothing"
        return f"it holds {keys}"
    return f"it holds a {type(content.data).__name__}"
