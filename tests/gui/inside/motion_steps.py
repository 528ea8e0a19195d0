# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps of the session: from the empty window to a refinement that was accepted and undone."""

from __future__ import annotations

import json
import time
from pathlib import Path

from steps import CLIP, PYTHON, REFINE_SECONDS, SEQUENCE, Steps, expect

FRAME, RANGE = 30, (28, 33)


class MotionSteps(Steps):
    """A body is found in the clip, refined, looked at, and decided on."""

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
        changed = desk.ask("changed_frames")
        expect(changed == [FRAME], f"changed: {changed}")
        desk.picture("frame_refined")

    def refine_a_range(self) -> None:
        """Refine Range changes the range and leaves what lies around it."""
        desk = self.desk
        desk.click("use_scene_range", until=lambda s: not s["uses_scene_range"])
        desk.ask("set_range", start=RANGE[0], end=RANGE[1])
        desk.click("posefit.refine_range", until=lambda s: s["is_busy"])
        self._wait_for_result("refine_range")
        first, last = RANGE
        changed = desk.ask("changed_frames")
        expect(changed and all(first <= f <= last for f in changed), f"changed: {changed}")
        desk.picture("range_refined")

    def review_in_colours(self) -> None:
        """Review goes to a frame, colours the body, and draws the original beside it."""
        desk = self.desk
        first, last = RANGE
        desk.ask("set_frame", frame=1)
        desk.click("posefit.show_frame", until=lambda s: first <= s["frame"] <= last)
        for colours in ("CONFIDENCE", "CHANGE"):
            desk.cycle("colours", until=lambda s, c=colours: s["review"]["colours"] == c)
            desk.picture(f"{colours.lower()}_in_colours")
        desk.cycle("colours", until=lambda s: s["review"]["colours"] == "OFF", back=True)
        desk.cycle("ghost", until=lambda s: s["review"]["ghost"] == "BODY")
        desk.click("use_arrows", until=lambda s: s["review"]["use_arrows"])
        desk.picture("ghost_and_arrows")

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

    def align_to_the_footage(self) -> None:
        """Align to Footage asks, then moves the whole motion; one Ctrl Z takes it back."""
        desk = self.desk
        before = desk.state["armature"]["place"]
        desk.open_panel("posefit.show_renderings", 1, brings="posefit.align_to_footage")
        desk.press(*desk.find("posefit.align_to_footage"))
        desk.picture("align_dialog")
        desk.keys("Return")
        desk.wait_for("the job", lambda s: s["is_busy"])
        desk.picture("align_under_way")
        state = desk.wait_for("the alignment", lambda s: not s["is_busy"], REFINE_SECONDS)
        job = state["jobs"][-1]
        expect(not job["is_problem"], f"it says: {job['words']}")
        expect("moved into place" in job["words"], f"it says: {job['words']}")
        desk.wait_for("the move", lambda s: s["armature"]["place"] != before)
        desk.scroll(12)
        desk.picture("aligned")
        desk.over_view()
        desk.keys("ctrl+z")
        desk.wait_for("the undo", lambda s: s["armature"] and s["armature"]["place"] == before)
