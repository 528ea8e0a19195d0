# SPDX-License-Identifier: GPL-3.0-or-later
"""What the steps of the session share: a desk, files, waiting for backend and results."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
from pathlib import Path

from desk import Desk, StepError

CLIP, SEQUENCE, PYTHON = (
    Path("/mnt") / name for name in ("film/beam.mp4", "film/other.npz", "posefit/python")
)
LONG_RANGE = (1, 100)
BACKEND_SECONDS, REFINE_SECONDS = 300, 900
"""How long a backend may take to be there, and a refinement to be done."""
PORT = 5561
"""Of the backend that is started by hand."""


class Steps:
    """A session under way, and what its steps have in common."""

    def __init__(self, desk: Desk, options: argparse.Namespace) -> None:
        self.desk = desk
        self.options = options
        self.served: subprocess.Popen | None = None

    def _choose_file(self, button: str, path: Path, options: dict[str, str]) -> None:
        """Open a file dialog by its button, fill it in, and confirm with Return."""
        desk = self.desk
        desk.click(f"posefit.{button}", until=lambda s: "FILE_BROWSER" in s["areas"])
        desk.ask("choose_file", path=str(path), options=options)
        desk.picture(f"{button}_dialog")
        desk.keys("Return")
        desk.wait_for("the dialog's end", lambda s: "VIEW_3D" in s["areas"])
        desk.keys("Escape")  # the box with a remark, where there is one

    def _start_here(self) -> None:
        going = ("starting", "connecting", "connected")
        self.desk.click("posefit.start_backend", until=lambda s: s["connection"]["kind"] in going)
        self._wait_connected()

    def _wait_connected(self) -> None:
        def is_ready(state: dict) -> bool:
            view = state["connection"]
            return view["kind"] == "connected" and any("Device" in d for d in view["details"])

        self.desk.wait_for("a backend", is_ready, BACKEND_SECONDS)

    def _wait_for_result(self, picture: str) -> dict:
        desk = self.desk
        desk.wait_for("the job", lambda s: s["jobs"] and s["jobs"][-1]["fraction"] > 0.02, 120)
        desk.picture(f"{picture}_under_way")
        state = desk.wait_for("the result", lambda s: not s["is_busy"], REFINE_SECONDS)
        job = state["jobs"][-1]
        expect(not job["is_problem"], f"it says: {job['words']}")
        expect(state["armature"]["refined"], f"nothing to compare; it says: {job['words']}")
        return state

    def _begin_long_range(self) -> None:
        self.desk.ask("set_range", start=LONG_RANGE[0], end=LONG_RANGE[1])
        self.desk.click("posefit.refine_range", until=lambda s: s["is_busy"])
        self.desk.wait_for(
            "the range", lambda s: s["is_busy"] and s["jobs"][-1]["fraction"] > 0.02, 120
        )

    def _serve(self) -> None:
        command = [str(PYTHON), "-m", "posefit.server"]
        command += ["--bind", f"tcp://127.0.0.1:{PORT}", "--device", "cpu"]
        log = (self.options.output / "served.log").open("ab")
        self.served = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def expect(claim: object, otherwise: str) -> None:
    """Fail a step, in words, unless a claim holds."""
    if not claim:
        raise StepError(otherwise)


def kill_backends() -> None:
    """SIGKILL every backend: the broker first, its workers end with it or are killed too."""
    found = backends()
    expect(found, "no backend runs")
    for pid in found:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def backends() -> list[int]:
    """Process ids of backends in this room, oldest first."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"posefit.server" in words:
            found.append(int(folder.name))
    return sorted(found)
