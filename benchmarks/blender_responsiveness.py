# SPDX-License-Identifier: GPL-3.0-or-later
"""How long Blender is held while long motion comes in, is refined, compared and accepted.

    .venv-bpy52/bin/python benchmarks/blender_responsiveness.py [--output rows.json]

A sequence of 5 000 frames is imported as the button does it. Then three armatures of as many keyed
frames are refined one after another by the scripted backend of the tests, which answers at once,
first with half of the frames: what is left is the extension's own work on the main thread. A step
of the session is what Blender's timer calls; while one runs, Blender does not draw. Given is the
longest step of each kind, by the thread's own time. Runs with the module `bpy`, without a window,
so pushing undo steps and drawing are not in it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests/blender_addon")]

import bpy  # noqa: E402
import numpy as np  # noqa: E402
from scene_makers import camera_fields, random_sequence, write_footage  # noqa: E402
from scripted_backend import ScriptedBackend, half_done, turned_result  # noqa: E402

import blender_addon  # noqa: E402
from posefit_shared.sequence import write_sequence  # noqa: E402
from posefit_shared.settings import RefineSettings  # noqa: E402

KEYED_FRAMES, KEY_REPEATS = 300, 7


@dataclasses.dataclass(frozen=True)
class Span:
    """How long something took, milliseconds."""

    wall: float
    own: float
    """Of which the main thread computed; less where other programs had the processor."""


class Watch:
    """Measures from its making on."""

    def __init__(self) -> None:
        self._wall, self._own = time.perf_counter(), time.thread_time()

    def read(self) -> Span:
        """What has passed since."""
        wall, own = time.perf_counter() - self._wall, time.thread_time() - self._own
        return Span(1000 * wall, 1000 * own)


def main() -> None:
    """Print one row for each figure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--frames", type=int, default=5000)
    parser.add_argument("--armatures", type=int, default=3)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.context.preferences.addons.new().module = "blender_addon"
    blender_addon.register()
    try:
        spans = measure(arguments.frames, arguments.armatures)
    finally:
        blender_addon.unregister()
    print(f"{'milliseconds':<48} {'wall':>9} {'own':>9}")
    for name, span in spans.items():
        print(f"{name:<48} {span.wall:>9.1f} {span.own:>9.1f}")
    if arguments.output is not None:
        load = os.getloadavg()[0]
        about = {
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {load:.1f}",
            "blender": bpy.app.version_string,
            "armatures": arguments.armatures,
            "frames each": arguments.frames,
        }
        found = {name: dataclasses.asdict(span) for name, span in spans.items()}
        text = json.dumps({"about": about, "milliseconds": found}, indent=1)
        arguments.output.write_text(text + "\n", encoding="utf-8")


def measure(frames: int, armatures: int) -> dict[str, Span]:
    """All figures."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        footage = write_footage(Path(folder) / "footage", frames, (32, 24))
        spans = import_pressed(rng, frames, Path(folder) / "pressed.npz")
        shots = [add_shot(rng, f"Shot{k}", frames, footage) for k in range(armatures)]
        spans |= refine_all(shots, frames) | decide_all(shots)
    return spans | {f"keys of 24 bones × {KEYED_FRAMES} frames (median)": key_writing(rng)}


def import_pressed(rng: np.random.Generator, frames: int, path: Path) -> dict[str, Span]:
    """Import a file as the button does, and time every step of the session; the body goes again."""
    from blender_addon.rigs import body_builder
    from blender_addon.session import SESSION

    moving = camera_fields(rng, frames, moving=True)
    write_sequence(path, random_sequence(rng, count=frames, **moving))
    watch = Watch()
    body_builder.load_body("free")
    spans = {"the first reading of the free body": watch.read()}
    watch = Watch()
    bpy.ops.posefit.import_sequence(filepath=str(path), in_turns=True)
    spans["press of Import Sequence"] = watch.read()
    (job,) = SESSION.jobs
    steps = []
    while job.is_open:
        steps.append(_step(SESSION))
    assert not job.is_problem, job.words
    spans["step that builds an imported body"] = steps.pop()
    spans["longest step that keys an imported body"] = max(steps, key=lambda span: span.own)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    return spans


def add_shot(rng: np.random.Generator, name: str, frames: int, footage: Path) -> bpy.types.Object:
    """An armature with a key on every frame of every bone, before a camera with footage."""
    from blender_addon.sequences import sequence_import

    is_first = bpy.context.scene.camera is None
    motion = random_sequence(rng, count=frames, **camera_fields(rng, size=(32, 24)))
    options = sequence_import.ImportOptions(
        name, footage=footage if is_first else None, with_camera=is_first
    )
    return sequence_import.import_sequence(bpy.context, motion, options).armature


def refine_all(shots: list[bpy.types.Object], frames: int) -> dict[str, Span]:
    """Refine all armatures, and time every step of the session."""
    from blender_addon.jobs.refine_job import RefineJob
    from blender_addon.session import SESSION

    kinds = ("reads", "takes a part in", "copies the action", "builds on", "puts in place")
    steps: dict[str, list[Span]] = {kind: [] for kind in (*kinds, "does the rest")}
    settings = RefineSettings(refine_shape=False)
    asking = []
    with ScriptedBackend(answer=turned_result, provisional=half_done) as backend:
        SESSION.connect(backend.address)
        while not SESSION.is_connected:
            SESSION.step()
            time.sleep(0.01)
        for shot in shots:
            watch = Watch()
            SESSION.refine(bpy.context, shot, range(1, frames + 1), settings)
            asking.append(watch.read())
        while SESSION.is_busy:
            ended_before = sum(not job.is_open for job in SESSION.jobs)
            is_reading = any(job.is_reading for job in SESSION.jobs)
            finished_before = SESSION.finished_count
            was_building = any(job.build is not None for job in SESSION.jobs)
            watch = Watch()
            SESSION.step()
            span = watch.read()
            kind = "reads" if is_reading else "does the rest"
            if sum(not job.is_open for job in SESSION.jobs) > ended_before:
                kind = "puts in place"
            elif any(job.build is not None for job in SESSION.jobs):
                kind = "builds on" if was_building else "copies the action"
            elif finished_before != SESSION.finished_count:
                kind = "takes a part in"
            steps[kind].append(span)
            time.sleep(0.001)
        words = [job.words for job in SESSION.jobs if isinstance(job, RefineJob)]
        SESSION.disconnect()
    assert all("frames refined" in one for one in words), words
    longest = {"longest press of Refine Range": max(asking, key=lambda span: span.own)}
    for kind, spans in steps.items():
        if spans:
            longest[f"longest step that {kind}"] = max(spans, key=lambda span: span.own)
    return longest


def decide_all(shots: list[bpy.types.Object]) -> dict[str, Span]:
    """Move the first armature's slider, accept at that amount in several ways, reject the last."""
    from blender_addon.results import comparison
    from blender_addon.results.accepted_keys import AcceptOptions
    from blender_addon.session import SESSION

    spans = {}
    for amount in (0.5, 0.6):
        for shot in shots:
            shot.posefit_comparison["amount"] = amount  # without the update, which waits for all
            watch = Watch()
            comparison.show(shot, amount, at_once=False)
            first = "first move of the slider" if amount == 0.5 else "next move of the slider"
            spans.setdefault(first, []).append(watch.read())
        bpy.context.view_layer.update()
        blends = spans.setdefault("longest step that blends", [])
        while SESSION.previews.is_open:
            blends.append(_step(SESSION))
    ways = {"as computed": AcceptOptions(), "fewest keys": AcceptOptions(keys="FEWEST")}
    for shot, (way, options) in zip(shots, ways.items(), strict=False):
        job = SESSION.accept(bpy.context, shot, options)
        steps = spans.setdefault(f"longest step that accepts, {way}", [])
        while job.is_open:
            steps.append(_step(SESSION))
        assert not job.is_problem, job.words
    watch = Watch()
    comparison.reject(bpy.context, shots[-1])
    spans["reject"] = [watch.read()]
    return {name: max(rows, key=lambda span: span.own) for name, rows in spans.items()}


def _step(session: object) -> Span:
    watch = Watch()
    session.step()
    return watch.read()


def key_writing(rng: np.random.Generator) -> Span:
    """Putting keys of all bones on a body without any; the median of several times."""
    from blender_addon.keys.keyframe_writer import key_motion
    from blender_addon.rigs import rig
    from blender_addon.scenes.scene_reader import read_rig
    from blender_addon.sequences import sequence_import

    motion = random_sequence(rng, count=KEYED_FRAMES)
    frames = list(range(1, KEYED_FRAMES + 1))
    taken = []
    for k in range(KEY_REPEATS):
        options = sequence_import.ImportOptions(f"Body{k}", with_camera=False)
        armature = sequence_import.import_sequence(bpy.context, motion, options).armature
        armature.animation_data_clear()
        still = read_rig(armature)
        at_frames = dataclasses.replace(
            still,
            scene_frames=tuple(frames),
            object_matrices=np.repeat(still.object_matrices, len(frames), axis=0),
            above_root=np.repeat(still.above_root, len(frames), axis=0),
        )
        bones = rig.pose_to_motion(motion.poses, motion.trans, at_frames)
        watch = Watch()
        key_motion(armature, still.match.bones, frames, bones, f"Keys{k}")
        taken.append(watch.read())
    return sorted(taken, key=lambda span: span.own)[len(taken) // 2]


if __name__ == "__main__":
    main()
