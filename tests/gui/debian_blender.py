# SPDX-License-Identifier: GPL-3.0-or-later
"""A Debian with Blender, a screen and what presses buttons, each in a folder of its own.

Built once by debootstrap and apt, three to four minutes and 1.4 GB each, and used again after that.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

PACKAGES = (
    "blender", "xvfb", "xdotool", "imagemagick",
    "python3-numpy", "python3-requests", "python3-zmq", "python3-msgpack",
)  # fmt: skip
BUILD_SECONDS = 1800
"""How long one step of a build may take."""
DONE = ".built"
"""File in the folder of a build that was finished."""


@dataclass(frozen=True)
class Suite:
    """One Debian and the Blender that it has."""

    name: str
    """As Debian calls it."""
    blender: str
    """Which Blender it had when this was written."""
    more_packages: tuple[str, ...] = ()


SUITES = (Suite("sid", "5.2", ("python3-cattr",)), Suite("trixie", "4.3"))


class GuiError(RuntimeError):
    """The windowed tests cannot run; the message says what is needed."""


def check_host() -> None:
    """Whether this machine can build and enter such folders.

    Raises:
        GuiError: something is missing.
    """
    if os.geteuid() != 0:
        raise GuiError("make test-gui needs root, for debootstrap and chroot: run it as root")
    missing = [name for name in ("debootstrap", "unshare", "chroot") if shutil.which(name) is None]
    if missing:
        raise GuiError(
            f"make test-gui needs {' and '.join(missing)}: on Debian and Ubuntu, "
            "apt-get install debootstrap debian-archive-keyring"
        )


def ensure_built(suite: Suite, cache: Path) -> Path:
    """The folder of a Debian with its Blender, built where it is missing.

    Raises:
        GuiError: it could not be built.
    """
    folder = cache / suite.name
    if (folder / DONE).is_file():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder, ignore_errors=True)  # what an interrupted build left
    log = cache / f"{suite.name}.log"
    with log.open("wb") as output:
        _run(["debootstrap", "--variant=minbase", suite.name, str(folder), _mirror()], output)
        shutil.copy("/etc/resolv.conf", folder / "etc/resolv.conf")
        install = ["apt-get", "install", "--yes", "--no-install-recommends"]
        environment = ["env", "DEBIAN_FRONTEND=noninteractive"]
        command = ["chroot", str(folder), *environment, *install, *PACKAGES, *suite.more_packages]
        _run(command, output)
        _run(["chroot", str(folder), "apt-get", "clean"], output)
    (folder / DONE).touch()
    return folder


def _mirror() -> str:
    """Where Debian comes from: POSEFIT_DEBIAN_MIRROR, else what apt uses, else Debian's own."""
    if chosen := os.environ.get("POSEFIT_DEBIAN_MIRROR"):
        return chosen
    if shutil.which("apt-get"):
        command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Origin: Debian"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        found = [one for one in done.stdout.split() if one.rstrip("/").endswith("/debian")]
        if found:
            return found[0]
    return "http://deb.debian.org/debian"


def _run(command: list[str], output: object) -> None:
    try:
        done = subprocess.run(
            command, stdout=output, stderr=output, check=False, timeout=BUILD_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise GuiError(
            f"{command[0]} took longer than {BUILD_SECONDS} s: see {_name(output)}"
        ) from error
    if done.returncode != 0:
        raise GuiError(f"{command[0]} failed (status {done.returncode}): see {_name(output)}")


def _name(output: object) -> str:
    return str(getattr(output, "name", "its output"))
