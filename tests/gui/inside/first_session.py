# SPDX-License-Identifier: GPL-3.0-or-later
"""An artist's first session, from the empty file to the accepted refinement, and what goes wrong.

    python3 first_session.py --zip posefit.zip --output FOLDER

Runs inside the room. Buttons, slider, fields and keys are pressed with mouse and keyboard; set
through control.py are: the file dialog's fields, the frame that is shown, the ends of the range.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

from desk import Desk, StepError

CLIP, SEQUENCE, PYTHON = (
    Path("/mnt") / name for name in ("film/beam.mp4", "film/other.npz", "posefit/python")
)
FRAME, RANGE, LONG_RANGE = 30, (28, 33), (1, 100)
BACKEND_SECONDS, REFINE_SECONDS = 300, 900
"""How long a backend may take to be there, and a refinement to be done."""
PORT = 5561
"""Of the backend that is started by hand."""


class FirstSession:
    """The steps, in order: every public method is one."""

    def __init__(self, desk: Desk, options: argparse.Namespace) -> None:
        self.desk = desk
        self.options = options
        self.served: subprocess.Popen | None = None

    def install_the_extension(self) -> None:
        """Blender's own command installs the zip and switches it on."""
        words = self.desk.run_blender(
            "--command", "extension", "install-file", "-r", "user_default", "-e",
            str(self.options.zip),
        )  # fmt: skip
        expect("Installed" in words, f"Blender said: {words}")

    def open_blender(self) -> None:
        """A window opens, with the default scene; the user has run posefit's installer."""
        note = Path(self.desk.environment["XDG_CONFIG_HOME"]) / "posefit/backend.json"
        note.parent.mkdir(parents=True)
        installed = {"version": "0.1.0", "device": "cpu", "installed": time.strftime("%Y-%m-%d")}
        note.write_text(json.dumps({"posefit_backend": 1, "python": str(PYTHON), **installed}))
        self.desk.open_blender()

    def empty_the_scene(self) -> None:
        """A and Delete remove cube, light and camera, as many artists begin."""
        self.desk.over_view()
        self.desk.keys("a", "Delete")
        self.desk.wait_for("the empty scene", lambda s: not s["camera"])

    def open_the_tab(self) -> None:
        """N opens the sidebar, a click on its tab the panels."""
        desk = self.desk
        desk.over_view()
        desk.keys("n")
        bar = desk.wait_for("the sidebar", lambda s: s["sidebar"]["width"] > 100)["sidebar"]
        top = desk.height - bar["y"] - bar["height"]
        for y in range(top + 10, top + 700, 20):
            if desk.ask("open_tab") == "posefit":
                break  # a second click on an open tab closes the sidebar
            desk.press(bar["x"] + bar["width"] - 12, y)
        desk.wait_for("the tab posefit", lambda s: s["sidebar"]["tab"] == "posefit")
        desk.picture("tab")

    def start_a_backend(self) -> None:
        """Start Here runs the installed backend, and it is there."""
        self._start_here()
        self.desk.picture("connected")

    def import_a_sequence(self) -> None:
        """The file dialog brings body, camera and footage; Delete takes them away again."""
        self._choose_file("import_sequence", SEQUENCE, {"footage": str(CLIP)})
        state = self.desk.wait_for("the body", lambda s: s["armature"] and s["camera"])
        expect(state["armature"]["keys"] > 100, "the body has no keys")
        self.empty_the_scene()

    def estimate_from_the_clip(self) -> None:
        """The backend finds the person in the clip; body, keys, camera and clip are there."""
        desk = self.desk
        self._choose_file("estimate", CLIP, {})
        desk.wait_for("the job", lambda s: s["is_busy"])
        desk.picture("estimate_under_way")
        state = desk.wait_for("the estimate", lambda s: not s["is_busy"], REFINE_SECONDS)
        expect(not state["jobs"][-1]["is_problem"], f"it says: {state['jobs'][-1]['words']}")
        state = desk.wait_for("the body", lambda s: s["armature"] and s["camera"])
        expect(state["armature"]["keys"] > 1000, f"{state['armature']['keys']} keys")

    def look_through_the_camera(self) -> None:
        """Numeric pad 0 shows the body over the clip."""
        desk = self.desk
        desk.over_view()
        desk.keys("KP_Insert")
        desk.wait_for("the camera's view", lambda s: s["sidebar"]["perspective"] == "CAMERA")
        desk.ask("show_body")
        desk.ask("set_frame", frame=FRAME)
        desk.picture("imported")

    def refine_a_frame(self) -> None:
        """Refine Frame changes that frame, in a new action."""
        desk = self.desk
        before = desk.state["armature"]
        desk.click("posefit.refine_frame", until=lambda s: s["is_busy"])
        state = self._wait_for_result("refine_frame")
        after = state["armature"]
        expect(after["action"] == f"{before['action']}.posefit", f"action is {after['action']}")
        expect(after["keys"] == before["keys"], f"{before['keys']} keys became {after['keys']}")
        expect(after["changed_frames"] == [FRAME], f"changed: {after['changed_frames']}")
        desk.picture("frame_refined")

    def refine_a_range(self) -> None:
        """Refine Range changes the range and leaves what lies around it."""
        desk = self.desk
        desk.click("use_scene_range", until=lambda s: not s["uses_scene_range"])
        desk.ask("set_range", start=RANGE[0], end=RANGE[1])
        desk.click("posefit.refine_range", until=lambda s: s["is_busy"])
        after = self._wait_for_result("refine_range")["armature"]
        first, last = RANGE
        changed = after["changed_frames"]
        expect(changed and all(first <= f <= last for f in changed), f"changed: {changed}")
        desk.picture("range_refined")

    def compare_with_the_slider(self) -> None:
        """The slider shows what lies between, and goes back to the refined motion."""
        desk = self.desk
        x, y = desk.find("amount")
        for _ in range(3):
            desk.drag(x, y, x - 70)
            if 0 < desk.state["armature"]["amount"] < 1:
                break
            desk.keys("Escape")  # where it was taken for a click, the number is being typed
        state = desk.wait_for("the slider", lambda s: 0 < s["armature"]["amount"] < 1)
        expect(state["armature"]["action"].endswith(".preview"), "no blend is shown")
        desk.picture("comparing")
        for _ in range(4):  # a busy Blender misses the end of a quick pull
            desk.drag(x, y, x + 250)
            if desk.state["armature"]["amount"] == 1:
                break
        desk.wait_for("the slider's end", lambda s: s["armature"]["amount"] == 1)

    def accept_it(self) -> None:
        """Accept leaves one action, and the original in the file."""
        desk = self.desk
        before = desk.state["armature"]
        desk.click("posefit.accept", until=lambda s: s["armature"]["refined"] is None)
        state = desk.state
        expect(state["armature"]["action"] == before["refined"], "another action is in use")
        expect(before["original"] in state["actions"], "the original is gone")
        desk.picture("accepted")

    def undo_the_acceptance(self) -> None:
        """One Ctrl Z takes Accept back, and nothing else; Ctrl Shift Z brings it again."""
        desk = self.desk
        desk.over_view()
        desk.keys("ctrl+z")
        desk.wait_for("the undo", lambda s: s["armature"] and s["armature"]["refined"])
        desk.picture("undone")
        desk.over_view()
        desk.keys("ctrl+shift+z")
        desk.wait_for("the redo", lambda s: s["armature"] and not s["armature"]["refined"])

    def cancel_a_range(self) -> None:
        """Cancel ends a range that is under way; nothing is changed."""
        desk = self.desk
        before = desk.state
        self._begin_long_range()
        desk.picture("range_under_way")
        desk.click("posefit.cancel", until=lambda s: not s["is_busy"])
        state = desk.state
        words = state["jobs"][-1]["words"]
        expect("cancelled" in words or "stopped" in words, f"it says: {words}")
        expect(state["actions"] == before["actions"], "an action was added or removed")
        desk.picture("cancelled")

    def lose_the_backend(self) -> None:
        """A backend that is killed is said; another Python is typed in, and starts another."""
        desk = self.desk
        self._begin_long_range()
        kill_backends()
        state = desk.wait_for("the loss", lambda s: s["connection"]["kind"] == "lost")
        expect(not state["is_busy"], "the refinement is still said to be under way")
        expect("killed" in state["jobs"][-1]["words"], f"it says: {state['jobs'][-1]['words']}")
        desk.scroll(-60)
        desk.picture("backend_killed")
        desk.fill("posefit.start_backend", -1, str(PYTHON))
        desk.wait_for("the Python", lambda s: s["preferences"]["backend_python"] == str(PYTHON))
        self._start_here()
        desk.picture("backend_again")

    def connect_by_address(self) -> None:
        """Disconnect, then Connect to a backend that was started by hand."""
        desk = self.desk
        desk.click("posefit.disconnect", until=lambda s: s["connection"]["kind"] == "off")
        self._serve()
        address = f"tcp://127.0.0.1:{PORT}"
        desk.fill("posefit.connect", -1, address)
        desk.wait_for("the address", lambda s: s["preferences"]["address"] == address)
        desk.click("posefit.connect", until=lambda s: s["connection"]["kind"] != "off")
        self._wait_connected()

    def come_back_by_itself(self) -> None:
        """A backend that goes and comes again is found again, without a button."""
        desk = self.desk
        kill_backends()
        assert self.served is not None
        self.served.wait(20)
        desk.wait_for("the silence", lambda s: s["connection"]["kind"] == "lost")
        desk.picture("backend_silent")
        self._serve()
        self._wait_connected()
        desk.picture("connected_again")
        desk.click("posefit.disconnect", until=lambda s: s["connection"]["kind"] == "off")

    # What steps share

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


STEPS = tuple(
    name for name in vars(FirstSession) if not name.startswith("_")
)  # in the order in which they are written


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


def run(desk: Desk, options: argparse.Namespace) -> bool:
    """Do every step; true if all were right."""
    session = FirstSession(desk, options)
    try:
        return _run_steps(session)
    finally:
        if session.served is not None:
            session.served.terminate()


def _run_steps(session: FirstSession) -> bool:
    for name in STEPS:
        began = time.monotonic()
        try:
            getattr(session, name)()
        except (StepError, subprocess.SubprocessError, OSError) as error:
            say(f"WRONG {name}: {error}")
            if not isinstance(error, StepError):
                say(traceback.format_exc())
            session.desk.picture(f"wrong_{name}")
            return False
        say(f"ok    {name} ({time.monotonic() - began:.1f} s)")
    return True


def say(words: str) -> None:
    """A line for whoever waits."""
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


def main() -> int:
    """Run the session; 0 if every step was right."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("zip", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--size", default="1600x1100")
    options = parser.parse_args()
    with Desk(options.output, options.size) as desk:
        is_right = run(desk, options)
    deadline = time.monotonic() + 20
    while backends() and time.monotonic() < deadline:
        time.sleep(0.2)
    left = len(backends())
    say(f"WRONG {left} backend processes outlived Blender" if left else "ok    nothing is left")
    return 0 if is_right and not left else 1


if __name__ == "__main__":
    sys.exit(main())
