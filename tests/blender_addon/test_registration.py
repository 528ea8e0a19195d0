# SPDX-License-Identifier: GPL-3.0-or-later
"""The extension leaves Blender as it found it, also when it could not come in."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.bpy

START = f"import sys; sys.path.insert(0, {str(Path(__file__).resolve().parents[2])!r})\n"
COUNT = """
def count():
    handlers = sum(len(getattr(bpy.app.handlers, n)) for n in ("load_post", "undo_post"))
    names = {n for n in dir(bpy.types) if n.startswith(("POSEFIT", "Posefit"))}
    menus = [len(getattr(bpy.types, f"TOPBAR_MT_file_{n}")._dyn_ui_initialize())
             for n in ("import", "export")]
    return handlers, menus, names, hasattr(bpy.types.Scene, "posefit"), len(dir(bpy.ops.posefit))
"""


def run(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", START + code], capture_output=True, text=True, check=False
    )
    # Blender 4.2 crashes at exit where something was left registered.
    assert done.returncode == 0, done.stdout + done.stderr


def test_in_and_out_twice_leaves_nothing_and_ends_cleanly():
    run(
        "import bpy, blender_addon\n" + COUNT + "before = count()\n"
        "for _ in range(2):\n"
        "    blender_addon.register(); assert count() != before\n"
        "    blender_addon.unregister(); assert count() == before, (count(), before)\n"
    )


def test_a_registration_that_fails_midway_takes_back_what_it_did():
    run(
        "import bpy, blender_addon\n" + COUNT + "before = count()\n"
        "from blender_addon import registration, session_timer\n"
        "def fail(): raise RuntimeError('no timer')\n"
        "start, session_timer.start = session_timer.start, fail\n"
        "try: blender_addon.register()\n"
        "except RuntimeError: pass\n"
        "else: raise SystemExit('it did not fail')\n"
        "assert count() == before, (count(), before)\n"
        "session_timer.start = start\n"
        "blender_addon.register(); blender_addon.unregister()\n"
        "assert count() == before\n"
    )


def test_objects_forget_their_refinements_with_the_extension():
    run(
        "import bpy, blender_addon\n"
        "blender_addon.register(); assert hasattr(bpy.types.Object, 'posefit_comparison')\n"
        "blender_addon.unregister(); assert not hasattr(bpy.types.Object, 'posefit_comparison')\n"
        "types = (bpy.types.Object, bpy.types.PoseBone, bpy.types.Scene)\n"
        "assert not [n for t in types for n in dir(t) if n.startswith('posefit')]\n"
    )
