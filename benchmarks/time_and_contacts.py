# SPDX-License-Identifier: Apache-2.0
"""What the solver makes of time: speed, memory, amplitude, jitter, sliding feet.

    python benchmarks/time_and_contacts.py [--parts speed long swing smoothness contacts]

Estimates and evidence are simulated (`simulated_clips`) on the motion clips of `data/motion`; rows
of clips that settings were chosen on are marked `tuned`. One thread.
"""

from __future__ import annotations

import json
import math
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import tyro
from simulated_clips import Scene, TrueClip, errors, make_scene, read_clips

from posefit.body import BodyModel, PoseParameters, load_body, pose_joints
from posefit.refinement.contacts import find_contacts
from posefit.refinement.windows import join_windows, split_windows
from posefit.solver import Contacts, Solution, SolverConfig, solve

SMOOTH = SolverConfig(shape="fixed", smoothness=1.0)
ALONE = replace(SMOOTH, smoothness=0.0)
ONE_SIGMA = replace(SMOOTH, acceleration_sigma=25.0, acceleration_share=0.0)
GROUND = torch.tensor([0.0, 0.0, 1.0, 0.0])
RESULTS = Path(__file__).parent / "results/time_and_contacts.json"


@dataclass(frozen=True)
class Options:
    """What is measured and where it goes."""

    parts: tuple[str, ...] = ("speed", "long", "swing", "smoothness", "contacts")
    """Which tables."""
    long_frames: int = 10_000
    """Length of the long clip."""
    output: Path = field(default=RESULTS)
    """JSON; parts that are not measured keep what the file says."""


def solved(
    body: BodyModel,
    scene: Scene,
    config: SolverConfig = SMOOTH,
    *,
    start: PoseParameters | None = None,
    contacts: Contacts | None = None,
) -> Solution:
    """One solve of a scene."""
    return solve(
        body,
        start or scene.start,
        scene.evidence,
        config,
        reference=scene.start,
        times=scene.clip.times,
        contacts=contacts,
    )


def repeated(clip: TrueClip, frames: int) -> TrueClip:
    """The clip played to and fro until it has so many frames."""
    forth = torch.arange(len(clip.times))
    cycle = torch.cat([forth, forth.flip(0)[1:-1]])
    rows = cycle.repeat(math.ceil(frames / len(cycle)))[:frames]
    times = torch.arange(frames, dtype=torch.float64) / 30.0
    return replace(clip, parameters=clip.parameters[rows], times=times, stands=clip.stands[rows])


def part_of(scene: Scene, rows: slice) -> Scene:
    """Some frames of a scene."""
    clip = scene.clip
    seen = [
        replace(
            entry,
            **{
                name: getattr(entry, name)[rows]
                for name in ("targets", "weights", "scales", "intrinsics", "world_to_camera")
            },
        )
        for entry in scene.evidence
    ]
    return Scene(
        replace(
            clip,
            parameters=clip.parameters[rows],
            times=clip.times[rows],
            stands=clip.stands[rows],
        ),
        scene.start[rows],
        scene.intrinsics[rows],
        [camera[rows] for camera in scene.world_to_camera],
        seen,
    )


def measure_speed(body: BodyModel, clips: list[TrueClip]) -> list[dict]:
    """One core's milliseconds a frame of a solve (8 steps, contacts held) by frames and views."""
    rows = []
    config = replace(SMOOTH, max_iterations=8, tolerance=0.0)
    for frames, views in [(n, 1) for n in (32, 128, 512, 2048)] + [(128, 2), (128, 3)]:
        scene = make_scene(body, repeated(clips[0], frames), views=views)
        contacts = find_contacts(body, scene.clip.parameters, scene.clip.times, ground=GROUND)
        best = math.inf
        for _ in range(3 if frames <= 128 else 1):
            began = time.process_time()
            steps = solved(body, scene, config, contacts=contacts).iterations
            best = min(best, time.process_time() - began)
        rows.append(
            {"frames": frames, "views": views, "steps": steps, "ms_per_frame": 1e3 * best / frames}
        )
        print(f"{frames:5d} frames, {views} views: {rows[-1]['ms_per_frame']:6.2f} ms a frame")
    return rows


def measure_long(body: BodyModel, clips: list[TrueClip], frames: int) -> list[dict]:
    """A long clip in windows of 128 that share 16: time and memory do not grow with it."""
    rows = []
    clip = repeated(clips[0], 512)
    scene = make_scene(body, clip)
    for length in (1000, frames):
        windows = split_windows(length, 128, 16)
        began = time.process_time()

        def pieces(windows=windows):
            for window in windows:
                first = window.start % 384
                piece = part_of(scene, slice(first, first + len(window)))
                found = solved(body, piece).parameters
                pose = torch.cat([found.global_orient[:, None], found.body_pose], 1)
                yield pose.numpy(), found.transl.numpy()

        poses, _ = join_windows(windows, pieces())
        spent = time.process_time() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        rows.append(
            {"frames": len(poses), "ms_per_frame": 1e3 * spent / length, "peak_rss_mib": peak}
        )
        print(f"{length} frames in windows: {rows[-1]['ms_per_frame']:.1f} ms a frame, "
              f"peak of the process {peak:.0f} MiB")  # fmt: skip
    return rows


def swinging(clip: TrueClip, axis: int, hertz: float) -> TrueClip:
    """The first pose of a clip, standing, while the left arm swings ±40° about an axis."""
    count = 61
    times = torch.arange(count, dtype=torch.float64) / 30.0
    pose = torch.zeros(count, 23, 3)
    pose[:, 15, 2] = -0.9
    pose[:, 15, axis] -= 0.7 * torch.sin(2 * math.pi * hertz * times).float()
    still = clip.parameters[:1]
    # SMPL's y is up; the camera stands to the person's side and a little in front.
    upright = torch.tensor([[math.pi / 2, 0.0, 0.0]])
    found = replace(
        still,
        betas=still.betas.expand(count, -1),
        global_orient=upright.expand(count, 3),
        body_pose=pose,
        transl=torch.tensor([[0.0, 0.0, 0.95]]).expand(count, 3),
    )
    stands = torch.ones(count, 4, dtype=torch.bool)
    return TrueClip("swing", found, times, stands, False)


def measure_swing(body: BodyModel, clips: list[TrueClip]) -> list[dict]:
    """Amplitude that is left, and acceleration error, of an arm that swings."""
    rows = []
    wrist = body.joint_names.index("L_Wrist")
    for axis in (1, 2):
        for hertz in (1.0, 2.0, 3.0):
            clip = swinging(clips[0], axis, hertz)
            scene = make_scene(body, clip, severity=0.4)
            true = pose_joints(body, clip.parameters)
            row: dict = {"axis": "xyz"[axis], "hertz": hertz}
            for name, config in (("without", ALONE), ("one_sigma", ONE_SIGMA), ("with", SMOOTH)):
                first = solved(body, scene, config).parameters
                found = pose_joints(body, solved(body, scene, config, start=first).parameters)
                wave, kept = (j[:, wrist] - j[:, 0] for j in (true, found))
                wave, kept = wave - wave.mean(0), kept - kept.mean(0)
                row[f"amplitude_{name}"] = float((wave * kept).sum() / wave.square().sum())
                wrong = (found - true).diff(n=2, dim=0).norm(dim=-1).mean()
                row[f"accel_mm_per_frame2_{name}"] = 1e3 * float(wrong)
            rows.append(row)
            for name in ("without", "one_sigma", "with"):
                amplitude, wrong = row[f"amplitude_{name}"], row[f"accel_mm_per_frame2_{name}"]
                print(f"about {row['axis']} at {hertz} Hz, {name:9s} amplitude {amplitude:.3f}, "
                      f"acceleration error {wrong:5.1f} mm/frame²")  # fmt: skip
    return rows


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    return {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}


def measure_smoothness(body: BodyModel, clips: list[TrueClip]) -> list[dict]:
    """Kinds of acceleration prior on all clips, two rounds each."""
    kinds = {
        "none": ALONE,
        "one sigma, 25 m/s2": ONE_SIGMA,
        "by local acceleration": SMOOTH,
    }
    rows = []
    for held_out in (False, True):
        chosen = [clip for clip in clips if clip.is_held_out == held_out]
        scenes = [make_scene(body, clip, seed=k) for k, clip in enumerate(chosen)]
        for name, config in kinds.items():
            found = []
            for scene in scenes:
                first = solved(body, scene, config).parameters
                second = solved(body, scene, config, start=first).parameters
                found.append(errors(body, scene, second))
            rows.append({"prior": name, "held_out": held_out, **_means(found)})
            print(_line(rows[-1]["prior"], held_out, rows[-1]))
    return rows


def measure_contacts(body: BodyModel, clips: list[TrueClip]) -> list[dict]:
    """Sliding and accuracy with and without contacts, cameras static and moving."""
    rows = []
    for clip in clips:
        for moving in (False, True):
            scene = make_scene(body, clip, moving=moving, seed=7)
            first = solved(body, scene).parameters
            second = solved(body, scene, start=first).parameters
            ways: dict[str, Callable[[], PoseParameters]] = {
                "estimate": lambda scene=scene: scene.start,
                "frames alone": lambda scene=scene: (
                    solved(body, scene, replace(SMOOTH, smoothness=0.0)).parameters
                ),
                "smooth": lambda second=second: second,
                "held": lambda scene=scene, at=second: _held(body, scene, at, None),
                "held, ground given": lambda scene=scene, at=second: _held(body, scene, at, GROUND),
            }
            for name, way in ways.items():
                found = errors(body, scene, way())
                rows.append(
                    {"clip": clip.name, "held_out": clip.is_held_out, "moving_camera": moving,
                     "way": name, **found}
                )  # fmt: skip
                camera = "moving" if moving else "static"
                print(_line(f"{clip.name}, {camera}, {name}", clip.is_held_out, found))
    _summary(rows)
    return rows


def _held(
    body: BodyModel, scene: Scene, start: PoseParameters, ground: torch.Tensor | None
) -> PoseParameters:
    contacts = find_contacts(
        body, start, scene.clip.times, ground=ground, world_to_camera=scene.world_to_camera[0]
    )
    return solved(body, scene, start=start, contacts=contacts).parameters


def _summary(rows: list[dict]) -> None:
    keys = ("pve_mm", "world_mm", "root_mm", "accel_mm_per_frame2", "slide_mm_per_s")
    for held_out in (False, True):
        for way in dict.fromkeys(row["way"] for row in rows):
            chosen = [
                {key: row[key] for key in keys}
                for row in rows
                if row["way"] == way and row["held_out"] == held_out
            ]
            if chosen:
                print(_line(f"all, {way}", held_out, _means(chosen)))


def _line(name: str, held_out: bool, found: dict) -> str:
    side = "held out" if held_out else "tuned"
    errors_mm = f"PVE {found['pve_mm']:5.1f}, in the world {found['world_mm']:5.1f} mm"
    shake = f"acceleration {found['accel_mm_per_frame2']:5.1f} mm/frame²"
    slide = f"sliding {found['slide_mm_per_s']:6.1f} mm/s"
    return f"{name:44s} {side:8s} {errors_mm}, {shake}, {slide}"


def main(options: Options) -> None:
    """Measures, prints and writes."""
    torch.set_num_threads(1)
    body, clips = load_body("free"), read_clips()
    measures: dict[str, Callable[[], list[dict]]] = {
        "speed": lambda: measure_speed(body, clips),
        "long": lambda: measure_long(body, clips, options.long_frames),
        "swing": lambda: measure_swing(body, clips),
        "smoothness": lambda: measure_smoothness(body, clips),
        "contacts": lambda: measure_contacts(body, clips),
    }
    found = json.loads(options.output.read_text()) if options.output.exists() else {}
    for part in options.parts:
        print(f"-- {part}")
        found[part] = measures[part]()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Options))
