# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside the Blender that is tested: writes what is there to a file, and obeys a few words.

    blender --python control.py -- FOLDER

A timer writes FOLDER/state.json and takes FOLDER/command.json. It presses no button of the
extension: that is done from outside, with the mouse. What it does is said by `COMMANDS`.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import bpy
import numpy as np

PACKAGE = "bl_ext.user_default.posefit"
TICK_SECONDS = 0.01
STATE_SECONDS = 0.1
"""How often the state is written at most; a long animation is counted each time."""
FOLDER = Path(sys.argv[sys.argv.index("--") + 1])
SETTLING_TICKS = 1
"""Turns of Blender's loop that a command waits: by then it knows where the mouse is."""
PROGRESS = {"asked": -1, "answered": -1, "ticks_left": 0, "state_due": 0.0}


def session():
    """The extension's session."""
    return module("session").SESSION


def module(name: str):
    """A module of the extension, whichever of its folders it lies in."""
    inside = [one for one in sys.modules if one.startswith(f"{PACKAGE}.")]
    return sys.modules[next(one for one in inside if one.endswith(f".{name}"))]


def state() -> dict:
    """What the test wants to know, as plain values."""
    view = session().connection
    jobs = session().jobs
    return {
        "version": list(bpy.app.version),
        "areas": [area.type for area in bpy.context.window_manager.windows[0].screen.areas],
        "sidebar": sidebar_state(),
        "connection": {"kind": view.kind, "words": view.words, "details": list(view.details)},
        "jobs": [job_state(job) for job in jobs],
        "is_busy": session().is_busy,
        "armature": armature_state(),
        "frame": bpy.context.scene.frame_current,
        "actions": sorted(action.name for action in bpy.data.actions),
        "uses_scene_range": bpy.context.scene.posefit.use_scene_range,
        "preferences": preferences_state(),
        "review": review_state(),
        "camera": getattr(bpy.context.scene.camera, "name", None),
    }


def preferences_state() -> dict:
    """What was typed into the panel's fields."""
    found = bpy.context.preferences.addons[PACKAGE].preferences
    return {name: getattr(found, name) for name in ("address", "key_file", "backend_python")}


def review_state() -> dict:
    """What of a refinement is drawn in the viewport."""
    found = bpy.context.scene.posefit_review
    return {name: getattr(found, name) for name in ("colours", "ghost", "use_arrows")}


def job_state(job) -> dict:
    """One job as the panel has it."""
    names = ("label", "words", "fraction", "is_open", "is_problem")
    return {name: getattr(job, name) for name in names}


def view_area() -> bpy.types.Area | None:
    """The largest 3D view of the first window."""
    areas = bpy.context.window_manager.windows[0].screen.areas
    views = [area for area in areas if area.type == "VIEW_3D"]
    return max(views, key=lambda area: area.width * area.height, default=None)


def sidebar_state() -> dict | None:
    """Where the sidebar lies, from the window's lower left corner, and which tab is open."""
    area = view_area()
    if area is None:
        return None
    region = next(one for one in area.regions if one.type == "UI")
    return {
        "x": region.x,
        "y": region.y,
        "width": region.width,
        "height": region.height,
        "tab": region.active_panel_category if region.width > 1 else "",
        "perspective": area.spaces.active.region_3d.view_perspective,
        "area": [area.x, area.y, area.width, area.height],
    }


def armature_state() -> dict | None:
    """The active armature, its action and its comparison."""
    item = bpy.context.view_layer.objects.active
    if item is None or item.type != "ARMATURE":
        return None
    action = None if item.animation_data is None else item.animation_data.action
    settings = item.posefit_comparison
    return {
        "name": item.name,
        "action": None if action is None else action.name,
        "keys": sum(len(curve.keyframe_points) for curve in curves(item).values()),
        "refined": getattr(settings.refined, "name", None),
        "original": getattr(settings.original, "name", None),
        "amount": settings.amount,
        "place": [round(value, 5) for row in item.matrix_world for value in row],
    }


def curves(item: bpy.types.Object) -> dict:
    """An object's curves, whichever way this Blender keeps them."""
    return module("fcurves").curves_of(item)


def changed_frames() -> list[int]:
    """Frames whose keys differ between the active armature's original action and the refined."""
    settings = bpy.context.view_layer.objects.active.posefit_comparison
    if settings.refined is None or settings.original is None:
        return []
    curves_in = module("fcurves").curves_in
    before = curves_in(settings.original, settings.original_slot)
    after = curves_in(settings.refined, settings.refined_slot)
    changed: set[int] = set()
    for channel in before.keys() & after.keys():
        one, other = key_values(before[channel]), key_values(after[channel])
        changed |= {f for f in one | other if abs(one.get(f, 1e9) - other.get(f, 1e9)) > 1e-6}
    return sorted(changed)


def key_values(curve: bpy.types.FCurve) -> dict[int, float]:
    """Frame → value of a curve's keys."""
    flat = np.empty(2 * len(curve.keyframe_points), np.float32)
    curve.keyframe_points.foreach_get("co", flat)
    return {round(float(x)): float(y) for x, y in flat.reshape(-1, 2)}


# What can be asked for


def under_cursor(x: int, y: int) -> str:
    """What the button under the mouse is: an operator's call or a property's path.

    Blender itself answers, by its commands that copy them to the clipboard.

    Args:
        x: where the mouse is, pixels from the window's left edge.
        y: pixels from its lower edge.
    """
    manager = bpy.context.window_manager
    window = manager.windows[0]
    for area in window.screen.areas:
        for region in area.regions:
            inside_x = region.x <= x < region.x + region.width
            if not (inside_x and region.y <= y < region.y + region.height):
                continue
            with bpy.context.temp_override(window=window, area=area, region=region):
                manager.clipboard = ""
                for copy, options in (
                    (bpy.ops.ui.copy_python_command_button, {}),
                    (bpy.ops.ui.copy_data_path_button, {"full_path": True}),
                ):
                    if copy.poll() and copy(**options) == {"FINISHED"} and manager.clipboard:
                        return manager.clipboard
    return ""


def open_tab() -> str:
    """Which tab of the sidebar is open; none where there is no 3D view."""
    found = sidebar_state()
    return found["tab"] if found else ""


def turn() -> None:
    """Nothing: it is answered once Blender has taken in all that was done before."""


def prepare_window() -> None:
    """No splash, file dialogs in the same window, a mouse that stays where it is put."""
    view = bpy.context.preferences.view
    view.show_splash = False
    view.filebrowser_display_type = "SCREEN"
    view.show_tooltips = False
    bpy.context.preferences.inputs.use_mouse_continuous = False
    bpy.context.preferences.use_preferences_save = False


def choose_file(path: str, options: dict) -> None:
    """Fill in an open file dialog: its file name and the options in its sidebar."""
    area = next(a for a in bpy.context.window_manager.windows[0].screen.areas
                if a.type == "FILE_BROWSER")  # fmt: skip
    space = area.spaces.active
    space.params.directory = str(Path(path).parent).encode()
    space.params.filename = Path(path).name
    for name, value in options.items():
        setattr(space.active_operator, name, value)


def set_frame(frame: int) -> None:
    """Go to a frame."""
    bpy.context.scene.frame_set(frame)


def set_range(start: int, end: int) -> None:
    """The range of Refine Range."""
    bpy.context.scene.posefit.frame_start, bpy.context.scene.posefit.frame_end = start, end


def show_body() -> None:
    """A viewport in which picture and body are both seen: the body half transparent."""
    space = view_area().spaces.active
    space.overlay.show_floor = space.overlay.show_axis_x = space.overlay.show_axis_y = False
    space.shading.show_xray = True
    space.shading.xray_alpha = 0.6


COMMANDS = {
    command.__name__: command
    for command in (
        turn, under_cursor, open_tab, choose_file, set_frame, set_range, show_body, changed_frames
    )
}  # fmt: skip


def write(name: str, content: object) -> None:
    """A JSON file, whole or not at all."""
    scratch = FOLDER / f"{name}.part"
    scratch.write_text(json.dumps(content), encoding="utf-8")
    scratch.replace(FOLDER / f"{name}.json")


def tick() -> float:
    """Obey what was asked, and say what is there."""
    path = FOLDER / "command.json"
    if path.is_file():
        wanted = json.loads(path.read_text(encoding="utf-8"))
        if wanted["number"] != PROGRESS["asked"]:
            PROGRESS.update(asked=wanted["number"], ticks_left=SETTLING_TICKS)
        elif PROGRESS["ticks_left"] > 0:
            PROGRESS["ticks_left"] -= 1
        elif wanted["number"] != PROGRESS["answered"]:
            PROGRESS["answered"] = wanted["number"]
            answer(wanted)
    if time.monotonic() >= PROGRESS["state_due"]:
        write_state()
    return TICK_SECONDS


def write_state() -> None:
    """Say what is there, and leave Blender some time before it is said again."""
    try:
        write("state", state())
    except Exception as error:  # the timer must go on, and the test has to hear of it
        write("state", {"areas": [], "error": repr(error)})
    PROGRESS["state_due"] = time.monotonic() + STATE_SECONDS


def answer(wanted: dict) -> None:
    """Do one command, and say what came of it."""
    try:
        found = {"answer": COMMANDS[wanted["name"]](**wanted["arguments"])}
    except Exception as error:  # whatever it is, the test has to hear of it
        found = {"error": repr(error)}
    if wanted["name"] != "under_cursor":
        write_state()  # what is asked for after an answer is not older than it
    write("answer", {"number": wanted["number"], **found})


prepare_window()
bpy.app.timers.register(tick, first_interval=0.5, persistent=True)
