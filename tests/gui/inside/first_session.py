# SPDX-License-Identifier: GPL-3.0-or-later
"""An artist's first session, from the empty file to the accepted refinement, and what goes wrong.

    python3 first_session.py --zip posefit.zip --output FOLDER

Runs inside the room. Buttons, slider, fields, lists and keys are pressed with mouse and keyboard;
set through control.py are: the file dialog's fields, the frame that is shown, the ends of the
range.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import traceback
from pathlib import Path

from backend_steps import BackendSteps
from desk import Desk, StepError
from motion_steps import MotionSteps
from steps import backends

STEPS = (
    "install_the_extension",
    "open_blender",
    "empty_the_scene",
    "open_the_tab",
    "name_a_backend_elsewhere",
    "start_a_backend",
    "import_a_sequence",
    "estimate_from_the_clip",
    "look_through_the_camera",
    "refine_a_frame",
    "refine_a_range",
    "review_in_colours",
    "compare_with_the_slider",
    "accept_it",
    "undo_the_acceptance",
    "align_to_the_footage",
    "queue_several",
    "lose_the_backend",
    "connect_by_address",
    "come_back_by_itself",
)


class FirstSession(MotionSteps, BackendSteps):
    """Everything that the session does; `STEPS` has the order."""


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
