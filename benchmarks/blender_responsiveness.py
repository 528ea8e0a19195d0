# SPDX-License-Identifier: GPL-3.0-or-later
"""How long Blender is held while long motion comes in, is refined, compared and accepted.

    .venv-bpy52/bin/python benchmarks/blender_responsiveness.py [--output rows.json]

Three sequences of 5 000 frames are imported as the button does it, in a session that has not read
the body's file yet. Then three armatures of as many keyed frames are refined one after another by
the scripted backend of the tests, which turns every joint and answers at once, first with half of
the frames: what is left is the extension's own work on the main thread. A step of the session is
what Blender's timer calls; while one runs, Blender does not draw. Given is the longest step of each
kind by the wall clock, the longest by the thread's own time, and the median. Runs with the module
`bpy`, without a window: drawing is not in it. Blender's undo step is in the steps that put
something in place, and once more beside them; evaluating the scene, which Blender does after a
step, is measured on its own.
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
from scripted_backend import ScriptedBackend, turned_result  # noqa: E402

import blender_addon  # noqa: E402
from posefit_shared.messages import RefineRequest, RefineResult  # noqa: E402
from posefit_shared.sequence import write_sequence  # noqa: E402
from posefit_shared.settings import RefineSettings  # noqa: E402

KEYED_FRAMES, KEY_REPEATS = 300, 7


@dataclasses.dataclass(frozen=True)
class Span:
    """How long something took, milliseconds."""

    wall: float
    own: float
    """Of which the main thread computed; less where other programs had the processor."""


@dataclasses.dataclass(frozen=True)
class Spans:
    """How long one kind of thing took, milliseconds."""

    count: int
    """How often it was done."""
    wall: float
    """The longest, by the clock."""
    own: float
    """The longest, by the main thread's own time."""
    median: float
    """The typical one, by the main thread's own time."""

    @staticmethod
    def of(spans: list[Span]) -> Spans:
        """Several of them."""
        own = [span.own for span in spans]
        return Spans(len(spans), max(span.wall for span in spans), max(own), float(np.median(own)))


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
    print(f"{'milliseconds':<44} {'count':>6} {'wall':>8} {'own':>8} {'median':>8}")
    for name, span in spans.items():
        numbers = f"{span.wall:>8.1f} {span.own:>8.1f} {span.median:>8.1f}"
        print(f"{name:<44} {span.count:>6} {numbers}")
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


def measure(frames: int, armatures: int) -> dict[str, Spans]:
    """All figures."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        footage = write_footage(Path(folder) / "footage", frames, (32, 24))
        spans = import_pressed(rng, frames, armatures, Path(folder))
        shots = [add_shot(rng, f"Shot{k}", frames, footage) for k in range(armatures)]
        spans |= refine_all(shots, frames) | decide_all(shots)
    spans[f"keys of 24 bones × {KEYED_FRAMES} frames"] = key_writing(rng)
    return {name: Spans.of(several) for name, several in spans.items()}


def import_pressed(
    rng: np.random.Generator, frames: int, people: int, folder: Path
) -> dict[str, list[Span]]:
    """Import files as the button does, and time every step of the session; all goes again."""
    from blender_addon.session import SESSION

    names = [f"person{k}.npz" for k in range(people)]
    for name in names:
        moving = camera_fields(rng, frames, moving=True)
        write_sequence(folder / name, random_sequence(rng, count=frames, **moving))
    watch = Watch()
    bpy.ops.posefit.import_sequence(
        directory=str(folder), files=[{"name": name} for name in names], in_turns=True
    )
    spans = {"press of Import Sequence": [watch.read()]}
    preparing, placing = [], []
    while any(job.is_open for job in SESSION.jobs):
        open_before = sum(job.is_open for job in SESSION.jobs)
        span = _step(SESSION)
        is_placed = sum(job.is_open for job in SESSION.jobs) < open_before
        (placing if is_placed else preparing).append(span)
    assert not any(job.is_problem for job in SESSION.jobs), [job.words for job in SESSION.jobs]
    spans["step that prepares an imported body"] = preparing
    spans["step that puts an imported body in place"] = placing
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


def all_turned(request: RefineRequest) -> RefineResult:
    """Every joint turned and the root shifted: all channels have other values."""
    motion = request.sequence
    return turned_result(request, poses=motion.poses + np.float32(0.05))


def half_turned(request: RefineRequest) -> list[RefineResult]:
    """A revision with the first half of the frames done."""
    whole, motion = all_turned(request), request.sequence
    half = len(motion) // 2
    poses = np.concatenate([whole.poses[:half], motion.poses[half:]])
    trans = np.concatenate([whole.trans[:half], motion.trans[half:]])
    return [turned_result(request, "kept", poses=poses, trans=trans)]


def refine_all(shots: list[bpy.types.Object], frames: int) -> dict[str, list[Span]]:
    """Refine all armatures, and time every step of the session."""
    from blender_addon.jobs.refine_job import RefineJob
    from blender_addon.session import SESSION

    kinds = ("reads", "takes a part in", "copies the action", "builds on", "puts in place")
    steps: dict[str, list[Span]] = {kind: [] for kind in (*kinds, "does the rest")}
    settings = RefineSettings(refine_shape=False)
    asking, undo_steps, evaluated = [], [], []
    with ScriptedBackend(answer=all_turned, provisional=half_turned) as backend:
        SESSION.connect(backend.address)
        while not SESSION.is_connected:
            SESSION.step()
            time.sleep(0.01)
        bpy.ops.ed.undo_push(message="before")
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
            _evaluate(evaluated)
            if kind == "puts in place":
                watch = Watch()
                bpy.ops.ed.undo_push(message="Result in Place")
                undo_steps.append(watch.read())
            time.sleep(0.001)
        words = [job.words for job in SESSION.jobs if isinstance(job, RefineJob)]
        SESSION.disconnect()
    assert all("frames refined" in one for one in words), words
    found = {f"step that {kind}": spans for kind, spans in steps.items() if spans}
    found["an undo step of Blender's, alone"] = undo_steps
    found["evaluation after a step"] = evaluated
    return {"press of Refine Range": asking} | found


def decide_all(shots: list[bpy.types.Object]) -> dict[str, list[Span]]:
    """Move the first armature's slider, accept at that amount in several ways, reject the last."""
    from blender_addon.results import comparison
    from blender_addon.results.accepted_keys import AcceptOptions
    from blender_addon.session import SESSION

    spans: dict[str, list[Span]] = {}
    for amount in (0.5, 0.6):
        for shot in shots:
            shot.posefit_comparison["amount"] = amount  # without the update, which waits for all
            watch = Watch()
            comparison.show(shot, amount, at_once=False)
            first = "first move of the slider" if amount == 0.5 else "next move of the slider"
            spans.setdefault(first, []).append(watch.read())
        _evaluate(spans.setdefault("evaluation after a move", []))
        blends = spans.setdefault("step that blends", [])
        while SESSION.previews.is_open:
            blends.append(_step(SESSION))
            _evaluate(spans.setdefault("evaluation after a step that blends", []))
    ways = {"as computed": AcceptOptions(), "fewest keys": AcceptOptions(keys="FEWEST")}
    for shot, (way, options) in zip(shots, ways.items(), strict=False):
        job = SESSION.accept(bpy.context, shot, options)
        steps = spans.setdefault(f"step that accepts, {way}", [])
        while job.is_open:
            steps.append(_step(SESSION))
            _evaluate(spans.setdefault("evaluation after a step that accepts", []))
        assert not job.is_problem, job.words
    watch = Watch()
    comparison.reject(bpy.context, shots[-1])
    spans["reject"] = [watch.read()]
    return spans


def _step(session: object) -> Span:
    watch = Watch()
    session.step()
    return watch.read()


def _evaluate(spans: list[Span]) -> None:
    """What Blender does once the timer has ended."""
    watch = Watch()
    bpy.context.view_layer.update()
    spans.append(watch.read())


def key_writing(rng: np.random.Generator) -> list[Span]:
    """Putting keys of all bones into an action for a body, several times."""
    from blender_addon.keys.keyframe_writer import build_first_motion
    from blender_addon.rigs import body_builder, rig
    from blender_addon.rigs.rig_of_body import rig_of_body
    from blender_addon.slices import to_end

    motion = random_sequence(rng, count=KEYED_FRAMES)
    frames = list(range(1, KEYED_FRAMES + 1))
    still = rig_of_body(body_builder.load_body("free"), np.zeros(10))
    at_frames = dataclasses.replace(
        still,
        scene_frames=tuple(frames),
        object_matrices=np.repeat(still.object_matrices, len(frames), axis=0),
        above_root=np.repeat(still.above_root, len(frames), axis=0),
    )
    bones = rig.pose_to_motion(motion.poses, motion.trans, at_frames)
    taken = []
    for k in range(KEY_REPEATS):
        watch = Watch()
        to_end(build_first_motion(f"Keys{k}", still.match.bones, frames, bones))
        taken.append(watch.read())
    return taken


if __name__ == "__main__":
    main()
