# SPDX-License-Identifier: Apache-2.0
"""Which of this machine's files a client may name as footage: those below a media root."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import PosefitError

__all__ = ["MediaError", "resolve_media_path"]


class MediaError(PosefitError):
    """Footage that may not or cannot be used; the message says why."""


def resolve_media_path(path: str, roots: Sequence[Path]) -> Path:
    """The real file or folder behind a client's path.

    Links are followed first, so that neither `..` nor a symbolic link leads out of the roots. What
    lies outside is refused in the same words whether it exists or not.

    Args:
        path: absolute path on this machine, as the client wrote it.
        roots: folders that the operator named.

    Raises:
        MediaError: it is outside every root, or not there.
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
        inside = any(real.is_relative_to(root.resolve()) for root in roots)
    except (OSError, RuntimeError, ValueError) as error:
        raise MediaError(f"footage path {path!r} cannot be resolved: check the path") from error
    if not inside:
        raise MediaError(
            f"footage path {path!r} is outside the media roots of this backend: move the footage "
            "below one of them, or start the backend with another --media-root"
        )
    if not real.exists():
        raise MediaError(f"there is no footage at {path!r}: check the path")
    return real
