# SPDX-License-Identifier: Apache-2.0
"""Which file of a folder belongs to which decoded frame.

Three rules, in this order: a file that is named like one of the footage's images belongs to it;
else the last number in its name is the decoded frame (0 is the first); else, where no file has a
number and there are as many files as frames, they belong together in the order of their names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from ..footage import Footage, ImageFootage, natural_key
from .errors import EvidenceError

__all__ = ["FrameNames", "files_by_frame"]


class FrameNames:
    """Decoded frames by the names that other tools give them."""

    def __init__(self, frames: int, names: Iterable[str] = ()) -> None:
        """Args: how many decoded frames there are, and their images' names where they have any."""
        self.frames = frames
        self._by_name = {Path(name).stem: index for index, name in enumerate(names)}

    @classmethod
    def of(cls, footage: Footage) -> FrameNames:
        """The names of a footage's frames: a video's frames have numbers alone."""
        names = ()
        if isinstance(footage, ImageFootage):
            names = tuple(footage.name(index) for index in range(len(footage)))
        return cls(len(footage), names)

    def index(self, name: str | int) -> int | None:
        """The decoded frame that a name or number means; None if it says nothing.

        Args:
            name: a frame number, or a file name with or without its ending.
        """
        if isinstance(name, int):
            return name
        stem = Path(name).stem if Path(name).suffix.lower() in _SUFFIXES else name
        if stem in self._by_name:
            return self._by_name[stem]
        numbers = re.findall(r"\d+", stem)
        return int(numbers[-1]) if numbers else None


_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".json", ".npz")


def files_by_frame(
    folder: Path, suffixes: tuple[str, ...], names: FrameNames, ending: str = ""
) -> dict[int, Path]:
    """The files of a folder by decoded frame.

    Args:
        folder: with the files; a single file stands for a folder that holds just it.
        suffixes: endings that count, lower case.
        names: of the footage's frames.
        ending: last part of each stem that does not belong to the frame's name.

    Raises:
        EvidenceError: there are none, or two files mean one frame.
    """
    paths = [folder] if folder.is_file() else []
    if folder.is_dir():
        paths = sorted(
            (path for path in folder.iterdir() if path.suffix.lower() in suffixes), key=natural_key
        )
    if not paths:
        raise EvidenceError(
            f"{folder} holds no {' or '.join(suffixes)} files: check the path, or make them first"
        )
    found = [names.index(path.stem.removesuffix(ending)) for path in paths]
    if any(index is None for index in found):
        if len(paths) != names.frames:
            raise EvidenceError(
                f"{folder} holds {len(paths)} files whose names have no frame number, the footage "
                f"has {names.frames} frames: number the files from 0"
            )
        return dict(enumerate(paths))
    frames: dict[int, Path] = {}
    for index, path in zip(found, paths, strict=True):
        assert index is not None, "just checked"
        if index in frames:
            raise EvidenceError(
                f"{frames[index].name} and {path.name} both mean frame {index}: keep one of them"
            )
        frames[index] = path
    return frames
