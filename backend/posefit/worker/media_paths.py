# SPDX-License-Identifier: Apache-2.0
"""Which of this machine's files a client may name as footage: those below a media root."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import PosefitError

__all__ = ["MediaError", "resolve_media_path"]


class MediaError(PosefitError):
    """Footage that may not or cannot be used; the message says why."""


def resolve_media_path(path: str, roots: Sequence[Path], *, look_inside: bool = False) -> Path:
    """The real file or folder behind a client's path.

    Links are followed first, so that neither `..` nor a symbolic link leads out of the roots. What
    lies outside is refused in the same words whether it exists or not.

    Args:
        path: absolute path on this machine, as the client wrote it.
        roots: folders that the operator named.
        look_inside: whether files of a folder may not be links that lead out either.

    Raises:
        MediaError: it, or a file in it, is outside every root, or it is not there.
    """
    if not roots:
        raise MediaError(
            "this backend was started without a media root, so footage cannot be named by path: "
            "start it with --media-root FOLDER, or upload the footage"
        )
    wanted = Path(path)
    if not wanted.is_absolute():
        raise MediaError(f"footage path {path!r} is relative, expected an absolute path")
    try:
        real = wanted.resolve()
        real_roots = [root.resolve() for root in roots]
        inside = _is_below(real, real_roots)
    except (OSError, RuntimeError, ValueError) as error:
        raise MediaError(f"footage path {path!r} cannot be resolved: check the path") from error
    if not inside:
        raise MediaError(
            f"footage path {path!r} is outside the media roots of this backend: move the footage "
            "below one of them, or start the backend with another --media-root"
        )
    if not (real.is_file() or real.is_dir()):  # nor what never ends, such as a pipe
        raise MediaError(f"there is no footage at {path!r}: check the path")
    if look_inside and real.is_dir():
        _check_links(real, real_roots)
    return real


def _is_below(real: Path, real_roots: Sequence[Path]) -> bool:
    return any(real.is_relative_to(root) for root in real_roots)


def _check_links(folder: Path, real_roots: Sequence[Path]) -> None:
    """Refuse a folder in which a link leads out of the roots."""
    try:
        with os.scandir(folder) as entries:
            links = [Path(entry.path) for entry in entries if entry.is_symlink()]
        leading_out = [link.name for link in links if not _is_below(link.resolve(), real_roots)]
    except (OSError, RuntimeError) as error:
        raise MediaError(f"{folder.name} cannot be looked into: check its permissions") from error
    if leading_out:
        raise MediaError(
            f"{leading_out[0]!r} in {folder.name} is a link that leads outside the media roots of "
            "this backend: copy the file itself"
        )
