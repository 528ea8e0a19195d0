# SPDX-License-Identifier: GPL-3.0-or-later
"""Running a program inside a folder with a Debian, so that all it starts ends with it.

The room has process ids and mounts of its own: whatever way its first process ends, the kernel
ends Xvfb, Blender and backends with it and takes the mounts away. The repository and the output
folder lie at the same paths inside as outside; the whole of the outside lies under /host, where
the backend's Python runs (Debian's libraries in the room are not those it was built for).
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

BACKEND_SCRIPT = """#!/bin/sh
# The checkout's Python, run where it was installed: outside the room that Blender lives in.
exec nice -n 10 chroot /host /usr/bin/env PYTHONPATH={path} OMP_WAIT_POLICY=PASSIVE {python} "$@"
"""


def write_backend_python(target: Path, repository: Path) -> None:
    """Write a program that can be called as a Python and is the checkout's."""
    path = shlex.quote(f"{repository / 'shared'}:{repository / 'backend'}")
    python = shlex.quote(str(repository / ".venv/bin/python"))
    target.write_text(BACKEND_SCRIPT.format(path=path, python=python))
    target.chmod(0o755)


def run_inside(
    room: Path,
    shared: Sequence[Path],
    disk: Path,
    command: Sequence[str],
    *,
    log: Path,
    timeout_s: float,
) -> int:
    """Run a program inside, and end everything that it started.

    Args:
        room: folder of the Debian.
        shared: folders that lie at the same path inside.
        disk: folder that lies at /mnt, for Blender and for the backend: the artist's files, under
            paths that are the same on every machine.
        command: what to run there.
        log: where its output goes, besides the terminal's.
        timeout_s: when to end it at the latest.

    Returns:
        Its exit status; 124 where it took too long.
    """
    inside = shlex.quote(str(room))
    lines = ["set -e", f"mkdir -p {inside}/host", f"mount --rbind / {inside}/host"]
    lines += [f"mount -t proc proc {inside}/proc", f"mount -t proc proc {inside}/host/proc"]
    lines += [f"mount --rbind /dev {inside}/dev", f"mount -t tmpfs tmpfs {inside}/tmp"]
    for place in (f"{room}/mnt", f"{room}/host/mnt"):
        lines.append(f"mount --bind {shlex.quote(str(disk))} {shlex.quote(place)}")
    for folder in shared:
        place = shlex.quote(f"{room}{folder}")
        lines += [f"mkdir -p {place}", f"mount --bind {shlex.quote(str(folder))} {place}"]
    lines.append(f"exec chroot {inside} {shlex.join(command)}")
    namespace = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
    namespace += ["--propagation", "private"]
    process = subprocess.Popen(
        [*namespace, "sh", "-c", "\n".join(lines)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return _follow(process, log, timeout_s)


def _follow(process: subprocess.Popen[str], log: Path, timeout_s: float) -> int:
    watchdog = threading.Timer(timeout_s, process.kill)
    watchdog.start()
    try:
        with log.open("w", encoding="utf-8") as file:
            assert process.stdout is not None
            for line in process.stdout:
                file.write(line)
                sys.stdout.write(line)
                sys.stdout.flush()
        status = process.wait(30)
    finally:
        was_alive = watchdog.is_alive()
        watchdog.cancel()
        process.kill()  # on an interrupt too; all that runs inside ends with it
        process.wait(30)
    return status if was_alive else 124
