# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps of the session about the backend: started, named, stopped, killed, found again."""

from __future__ import annotations

from steps import PORT, PYTHON, Steps, expect, kill_backends

ELSEWHERE = "tcp://render.example:5557"
"""An address of another machine; nothing is sent there."""
MISSING_KEY = "/mnt/posefit/missing.key"


class BackendSteps(Steps):
    """A backend that is there, and one that is not."""

    def name_a_backend_elsewhere(self) -> None:
        """Another machine's address brings a field for a key file; a wrong one is said."""
        desk = self.desk
        usual = desk.state["preferences"]["address"]
        self._fill_above_connect(1, "address", ELSEWHERE)
        self._fill_above_connect(1, "key_file", MISSING_KEY)  # the address went up by one row
        desk.press(*desk.find("posefit.connect"))
        desk.picture("key_file_missing")
        expect(desk.state["connection"]["kind"] == "off", f"found {desk.state['connection']}")
        desk.keys("Escape")  # the message, which takes the mouse until then
        self._fill_above_connect(1, "key_file", "")
        self._fill_above_connect(2, "address", usual)

    def start_a_backend(self) -> None:
        """Start Here runs the installed backend, and it is there."""
        self._start_here()
        self.desk.picture("connected")

    def queue_several(self) -> None:
        """A second refinement waits behind the first; Cancel All ends both, nothing is changed."""
        desk = self.desk
        before = desk.state
        self._begin_long_range()
        desk.click(
            "posefit.refine_frame", until=lambda s: sum(job["is_open"] for job in s["jobs"]) == 2
        )
        desk.find("posefit.cancel")  # goes down to the queue
        desk.picture("queue")
        desk.click("posefit.cancel", until=lambda s: not s["is_busy"])
        state = desk.state
        for job in state["jobs"][-2:]:
            words = job["words"]
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
        self._fill_above_connect(1, "address", address)
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

    def _fill_above_connect(self, rows: int, name: str, text: str) -> None:
        """Type into the field that lies some rows above Connect, and see the setting change."""
        self.desk.fill("posefit.connect", -rows, text)
        self.desk.wait_for(f"the field {name}", lambda s: s["preferences"][name] == text)
