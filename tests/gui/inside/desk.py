# SPDX-License-Identifier: GPL-3.0-or-later
"""A virtual screen with a Blender on it, a mouse, a keyboard, and a camera. Standard library only.

Runs inside the room (room.py). Buttons are found by moving the mouse over the sidebar and asking
Blender what lies there, so nothing depends on fonts, themes or where a panel has moved.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

ROW_PIXELS = 12
"""How far apart the sidebar is probed; a button is 20 pixels high."""
SOON_SECONDS = 60
"""How long what is done at once may take, where other work holds the processors."""
CLICKS, CLICK_SECONDS = 3, 20
"""How often a button is clicked, and how long its effect may take."""
INSIDE_PIXELS = 5
"""From the first row at which a button was met to one that is well inside it."""
PITCH_PIXELS = 20
"""From one row of a column to the next."""
FIRST = ("nice", "-n", "-10")
"""Screen and Blender come before what computes (room.py gives the backend its usual rank back)."""
FIRST_HEADER_PIXELS, HEADER_PIXELS = 33, 26
"""From a panel's last button to the first closed panel below it, and from one of these to the next.
"""
HOVER_SECONDS = 0.02
"""How long the mouse's way to Blender takes, before Blender's own turns are counted."""


class StepError(AssertionError):
    """A step of the session did not do what it should; the message says what was found."""


class Desk:
    """Screen, Blender, mouse and keyboard; a context manager."""

    def __init__(self, output: Path, size: str) -> None:
        self.output = output
        self.width, self.height = (int(part) for part in size.split("x"))
        self.control = output / "control"
        self.control.mkdir(parents=True, exist_ok=True)
        self._places: dict[str, tuple[int, int]] = {}
        self._number = self._pictures = 0
        self._processes: list[subprocess.Popen] = []
        self.environment = dict(os.environ)

    # Coming and going

    def __enter__(self) -> Desk:
        try:
            self._start_screen()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)

    def _start_screen(self) -> None:
        reader, writer = os.pipe()
        screen = f"{self.width}x{self.height}x24"
        command = [
            *FIRST,
            "Xvfb",
            "-displayfd",
            str(writer),
            "-screen",
            "0",
            screen,
            "-nolisten",
            "tcp",
        ]
        log = (self.output / "xvfb.log").open("wb")
        self._processes.append(subprocess.Popen(command, pass_fds=[writer], stdout=log, stderr=log))
        os.close(writer)
        with os.fdopen(reader) as numbers:
            display = numbers.readline().strip()
        if not display:
            raise StepError(f"Xvfb did not start: see {self.output / 'xvfb.log'}")
        home = self.output / "home"
        home.mkdir(exist_ok=True)
        self.environment |= {
            "DISPLAY": f":{display}",
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home / ".config"),
            "LANG": "C.UTF-8",
            "LIBGL_ALWAYS_SOFTWARE": "1",
            "BLENDER_USER_RESOURCES": str(self.output / "blender_user"),
        }

    def run_blender(self, *arguments: str, seconds: float = 180) -> str:
        """Run Blender without a window to its end, and give back what it said."""
        done = subprocess.run(
            ["blender", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
        if done.returncode != 0:
            words = " ".join(arguments[:3])
            raise StepError(f"blender {words} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def open_blender(self) -> None:
        """Open Blender in a window that fills the screen."""
        log = (self.output / "blender.log").open("wb")
        geometry = ["--window-geometry", "0", "0", str(self.width), str(self.height)]
        script = Path(__file__).with_name("control.py")
        command = [*FIRST, "blender", *geometry, "--python", str(script), "--", str(self.control)]
        self._processes.append(
            subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        )
        self.wait_for("Blender's window", lambda s: "VIEW_3D" in s["areas"], 300)

    # What is there

    @property
    def state(self) -> dict:
        """What control.py wrote last; an empty one before it has."""
        try:
            return json.loads((self.control / "state.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return {"areas": []}

    def wait_for(
        self, what: str, condition: Callable[[dict], object], seconds: float = SOON_SECONDS
    ) -> dict:
        """Wait until the state is as it should be, and give it back."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._check_alive()
            if condition(state := self.state):
                return state
            time.sleep(0.05)
        raise StepError(f"waited {seconds:.0f} s for {what}; found {json.dumps(self.state)}")

    def ask(self, name: str, **arguments: object) -> object:
        """Have control.py do one of its commands."""
        self._number += 1
        wanted = {"number": self._number, "name": name, "arguments": arguments}
        scratch = self.control / "command.part"
        scratch.write_text(json.dumps(wanted), encoding="utf-8")
        scratch.replace(self.control / "command.json")
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            self._check_alive()
            try:
                answer = json.loads((self.control / "answer.json").read_text(encoding="utf-8"))
            except (FileNotFoundError, json.JSONDecodeError):
                answer = {"number": -1}
            if answer["number"] == self._number:
                if "error" in answer:
                    raise StepError(f"{name}: {answer['error']}")
                return answer["answer"]
            time.sleep(0.01)
        raise StepError(f"Blender did not answer {name} within a minute")

    def _check_alive(self) -> None:
        blender = self._processes[-1]
        if len(self._processes) > 1 and blender.poll() is not None:
            raise StepError(f"Blender ended (status {blender.returncode}): see blender.log")

    def picture(self, name: str) -> None:
        """Keep a picture of the screen."""
        self._pictures += 1
        if len(self._processes) > 1 and self._processes[-1].poll() is None:
            for _ in range(2):  # by the second answer Blender has drawn what it knew at the first
                self.turn()
        time.sleep(0.4)
        target = self.output / f"{self._pictures:02d}_{name}.png"
        self._x("import", "-window", "root", str(target))

    # Mouse and keyboard

    def move(self, x: float, y: float) -> None:
        """Move the mouse; pixels from the screen's upper left corner."""
        self._x("xdotool", "mousemove", str(round(x)), str(round(y)))

    def turn(self) -> None:
        """Wait until Blender has taken in all that mouse and keyboard did."""
        self.ask("turn")

    def press(self, x: float, y: float, times: int = 1) -> None:
        """Click."""
        self.move(x, y)
        self.turn()
        for _ in range(times):  # a second click comes soon enough to make it a double one
            self._x("xdotool", "mousedown", "1", "sleep", "0.06", "mouseup", "1")
        self.turn()

    def drag(self, x: float, y: float, to_x: float) -> None:
        """Pull sideways with the button held down."""
        self.move(x, y)
        self.turn()
        self._x("xdotool", "mousedown", "1")
        for k in range(1, 9):
            self.move(x + (to_x - x) * k / 8, y)
            self.turn()  # what Blender did not see is no drag
        self._x("xdotool", "mouseup", "1")
        self.turn()

    def keys(self, *names: str) -> None:
        """Press keys, one after another."""
        for name in names:
            self._x("xdotool", "key", "--clearmodifiers", name)
            self.turn()

    def type(self, text: str) -> None:
        """Type a text."""
        self._x("xdotool", "type", "--delay", "15", text)

    def over_view(self) -> None:
        """Put the mouse over the 3D view, which then takes the keys."""
        x, y, width, height = self.state["sidebar"]["area"]
        for part in (0.6, 0.5, 0.4):  # a message box goes away only when the mouse leaves it
            self.move(x + width * part, self.height - (y + height * 0.5))
            self.turn()

    # Buttons

    def find(self, wanted: str) -> tuple[int, int]:
        """Where a button of the sidebar is: an operator's name, or the end of a property's path."""
        known = self._places.get(wanted)
        if known is not None and _is_it(self._probe(*known), wanted):
            return known
        for steps in (0, -60, *[20] * 3):
            self.scroll(steps)
            place = self._scan(wanted)
            if place is not None:
                self._places[wanted] = place
                return place
        self.picture("not_found")
        raise StepError(f"no button {wanted} was found in the sidebar")

    def click(self, wanted: str, until: Callable[[dict], object] | None = None) -> None:
        """Find a button and click it.

        Args:
            wanted: which (`find`).
            until: what it brings about; where that does not come, the click is made again, as a
                busy machine loses one now and then.
        """
        for _ in range(CLICKS):
            self.press(*self.find(wanted))
            if until is None:
                return
            deadline = time.monotonic() + CLICK_SECONDS
            while time.monotonic() < deadline:
                self._check_alive()
                if until(self.state):
                    return
                time.sleep(0.05)
        self.picture("click_without_effect")
        words = f"{CLICKS} clicks on {wanted} had no effect"
        raise StepError(f"{words}; found {json.dumps(self.state)}")

    def cycle(self, wanted: str, until: Callable[[dict], object], *, back: bool = False) -> None:
        """Turn the wheel over a list, Ctrl held, until it shows what it should."""
        for _ in range(CLICKS):
            self.move(*self.find(wanted))
            self.turn()
            wheel = "4" if back else "5"
            self._x("xdotool", "keydown", "ctrl", "click", wheel, "keyup", "ctrl")
            self.turn()
            if until(self.state):
                return
        self.picture("cycle_without_effect")
        raise StepError(f"the list {wanted} did not change; found {json.dumps(self.state)}")

    def open_panel(self, below: str, index: int, brings: str) -> None:
        """Open one of the closed panels that follow a button.

        Args:
            below: the button, the last one of the panel that they belong to.
            index: which of them, from 0.
            brings: a button that it has.
        """
        self.scroll(-60)
        x, y = self.find(below)
        self.press(x, y + FIRST_HEADER_PIXELS + index * HEADER_PIXELS)
        self.find(brings)

    def fill(self, beside: str, rows: float, text: str) -> None:
        """Put a text into a field of the preferences, which Blender cannot name.

        Args:
            beside: a button near it.
            rows: how many rows of its column the field lies below that.
            text: what to type.
        """
        x, y = self.find(beside)
        self.press(x, y + rows * PITCH_PIXELS, times=2)
        self.keys("ctrl+a", "BackSpace")
        self.type(text)
        self.keys("Return")

    def _scan(self, wanted: str) -> tuple[int, int] | None:
        """Where a button is seen now, some pixels below its upper edge; none where it is not."""
        bar = self.state["sidebar"]
        x = bar["x"] + round(bar["width"] * 0.55)
        top, bottom = self.height - bar["y"] - bar["height"] + 4, self.height - bar["y"]
        rows = list(range(top, bottom, ROW_PIXELS))
        _, near = self._places.get(wanted, (x, top))
        for y in sorted(rows, key=lambda row: abs(row - near)):
            found = self._probe(x, y)
            self._places.setdefault(_name_of(found), (x, y))  # where to look first another time
            if not _is_it(found, wanted):
                continue
            while _is_it(self._probe(x, y - ROW_PIXELS), wanted):
                y -= ROW_PIXELS
            place = x, y + INSIDE_PIXELS
            return place if place[1] < bottom and _is_it(self._probe(*place), wanted) else None
        return None

    def _probe(self, x: int, y: int) -> str:
        self.move(x, y)
        time.sleep(HOVER_SECONDS)
        return str(self.ask("under_cursor", x=x, y=self.height - 1 - y))

    def scroll(self, steps: int) -> None:
        """Turn the mouse wheel over the sidebar, downwards; 60 upwards is its top."""
        if steps == 0:
            return
        bar = self.state["sidebar"]
        self.move(bar["x"] + bar["width"] / 2, self.height - bar["y"] - bar["height"] / 2)
        button = "5" if steps > 0 else "4"
        self._x("xdotool", "click", "--repeat", str(abs(steps)), "--delay", "10", button)
        self.turn()
        self.turn()

    def _x(self, *command: str) -> None:
        subprocess.run(command, env=self.environment, check=True, capture_output=True, timeout=60)


def _is_it(found: str, wanted: str) -> bool:
    return _name_of(found) == wanted


def _name_of(found: str) -> str:
    """`posefit.refine_frame` of an operator's call, `amount` of a property's path."""
    if found.startswith("bpy.ops."):
        return found.removeprefix("bpy.ops.").split("(")[0]
    return found.rsplit(".", 1)[-1]
