# SPDX-License-Identifier: Apache-2.0
"""Where posefit keeps what belongs to a user of this machine: keys, and a note of the backend."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["user_folder"]


def user_folder(
    platform: str = sys.platform,
    environment: Mapping[str, str] = os.environ,
    home: Path | None = None,
) -> Path:
    """The folder itself, which may not be there yet.

    Args:
        platform: as `sys.platform` names it.
        environment: the environment variables.
        home: the user's home folder; found unless given.
    """
    home = Path.home() if home is None else home
    if platform == "win32":
        settings = Path(environment.get("APPDATA") or home / "AppData/Roaming")
    elif platform == "darwin":
        settings = home / "Library/Application Support"
    else:
        settings = Path(environment.get("XDG_CONFIG_HOME", ""))
        settings = settings if settings.is_absolute() else home / ".config"
    return settings / "posefit"
