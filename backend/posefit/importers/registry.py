# SPDX-License-Identifier: Apache-2.0
"""Every format that is read: told from what a file holds, the most particular first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from posefit_shared.body_files import BodyFileError
from posefit_shared.sequence import SequenceError

from ..errors import PosefitError
from .aist import read_aist, recognises_aist
from .bvh import read_bvh, recognises_bvh
from .cliff import read_cliff, recognises_cliff
from .content import Content, load_content
from .crops import read_crops, read_pymafx, recognises_crops, recognises_pymafx
from .dataset_files import (
    read_emdb,
    read_rich,
    read_threedpw,
    recognises_emdb,
    recognises_rich,
    recognises_threedpw,
)
from .glamr import read_glamr, recognises_glamr
from .gvhmr import read_gvhmr, recognises_gvhmr
from .human_data import read_human_data, recognises_human_data
from .nlf import read_nlf, recognises_nlf
from .person import ImportedPerson, ImporterError, ImportOptions
from .phalp import read_phalp, recognises_phalp
from .refused import why_not
from .relinking import relinked
from .romp import read_romp, recognises_romp
from .sam3d import read_sam3d, recognises_sam3d
from .slahmr import read_slahmr, recognises_slahmr
from .smpl_files import read_amass, read_smpl, recognises_amass, recognises_smpl
from .spin import read_spin, recognises_spin
from .tram import read_prompthmr, read_tram, recognises_prompthmr, recognises_tram
from .wham import read_wham, recognises_wham

__all__ = ["FORMATS", "Format", "Imported", "import_file", "read", "sniff"]


@dataclass(frozen=True)
class Format:
    """One format."""

    title: str
    """What it is, for people."""
    recognises: Callable[[Content], bool]
    read: Callable[[Content, ImportOptions], list[ImportedPerson]]
    tracks: Literal["true", "in camera", "in one world"] = "true"
    """Whether person ids are true, or a tracker's, which loses people: those are joined again where
    motions can be compared, which in a world of each track's own they cannot."""


@dataclass(frozen=True)
class Imported:
    """What a file was taken for, and the people in it."""

    format: str
    """Name of the format."""
    title: str
    people: tuple[ImportedPerson, ...]
    """Those seen longest first."""


FORMATS: dict[str, Format] = {
    "wham": Format("results of WHAM", recognises_wham, read_wham, "in camera"),
    "phalp": Format(
        "tracks of 4D-Humans, TokenHMR or PHALP", recognises_phalp, read_phalp, "in camera"
    ),
    "gvhmr": Format("results of GVHMR", recognises_gvhmr, read_gvhmr),
    "romp": Format("results of ROMP or BEV", recognises_romp, read_romp, "in camera"),
    "vibe": Format("results of VIBE or PARE", recognises_crops, read_crops, "in camera"),
    "pymafx": Format("results of PyMAF-X", recognises_pymafx, read_pymafx, "in camera"),
    "cliff": Format("results of CLIFF", recognises_cliff, read_cliff, "in camera"),
    "tram": Format("results of TRAM", recognises_tram, read_tram, "in one world"),
    "prompthmr": Format(
        "results of PromptHMR", recognises_prompthmr, read_prompthmr, "in one world"
    ),
    "slahmr": Format("results of SLAHMR", recognises_slahmr, read_slahmr, "in one world"),
    "glamr": Format("results of GLAMR", recognises_glamr, read_glamr, "in one world"),
    "sam3d": Format("results of SAM 3D Body", recognises_sam3d, read_sam3d, "in camera"),
    "nlf": Format("predictions of NLF", recognises_nlf, read_nlf, "in camera"),
    "spin": Format("results of SPIN", recognises_spin, read_spin),
    "3dpw": Format("a sequence of 3DPW", recognises_threedpw, read_threedpw),
    "emdb": Format("a sequence of EMDB", recognises_emdb, read_emdb),
    "rich": Format("a sequence of RICH", recognises_rich, read_rich),
    "humandata": Format(
        "HumanData of MMHuman3D", recognises_human_data, read_human_data, "in camera"
    ),
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
    return _format_of(load_content(Path(path)))


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
        format_name = _format_of(content)
        if format_name is None:
            reason = why_not(content)
            raise ImporterError(f"{path.name}: {reason}" if reason else _unknown(content))
    elif not FORMATS[format_name].recognises(content):
        raise ImporterError(
            f"{path.name} is not as {FORMATS[format_name].title} should be ({_inside(content)}): "
            "leave out the format to have it found out"
        )
    chosen = FORMATS[format_name]
    try:
        people = chosen.read(content, options or ImportOptions())
    except (PosefitError, SequenceError, BodyFileError):
        raise
    except _UNEXPECTED as error:
        raise ImporterError(
            f"{path.name} is not as {chosen.title} should be ({type(error).__name__}: {error}): "
            "check that it is whole and as the tool wrote it"
        ) from error
    if not people:
        raise ImporterError(f"{path.name} ({chosen.title}) has no people")
    options = options or ImportOptions()
    if options.relink and chosen.tracks != "true":
        people = relinked(people, shares_world=chosen.tracks == "in one world")
    people.sort(key=lambda one: (-len(one.sequence), one.sequence.person_id))
    return Imported(format_name, chosen.title, tuple(people))


_UNEXPECTED = (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError)
"""What a reader meets where a file has other things under the names that it knows."""


def _format_of(content: Content) -> str | None:
    for name, one in FORMATS.items():
        try:
            if one.recognises(content):
                return name
        except _UNEXPECTED:
            continue
    return None


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
