# SPDX-License-Identifier: Apache-2.0
"""Motion clips with cameras, simulated estimates and simulated evidence: what benchmarks of time,
contacts and priors share. Errors are made up and called simulated wherever they are printed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from posefit.body import BodyModel, PoseParameters, pose_body, pose_joints, pose_vertices
from posefit.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from posefit.solver import SurfacePoints
from posefit.training.poses import JOINT_SPREAD, is_validation

CLIPS = Path(__file__).parent / "data/motion/clips.npz"
FEET = ("L_Ankle", "R_Ankle", "L_Foot", "R_Foot")
FOCAL_PX = 1000.0
SIZE_PX = (1280, 720)


@dataclass(frozen=True)
class TrueClip:
    """A motion whose contacts are known. z is up, the ground is z = 0."""

    name: str
    parameters: PoseParameters
    times: Tensor
    """Seconds."""
    stands: Tensor
    """(T, 4) whether each joint of FEET stands."""
    is_held_out: bool
    """On the side of the split that no setting was chosen on."""


@dataclass(frozen=True)
class Scene:
    """A clip before one or several cameras, with an estimate of it."""

    clip: TrueClip
    start: PoseParameters
    intrinsics: Tensor
    """(T, 3, 3)."""
    world_to_camera: list[Tensor]
    """(T, 4, 4) of each view."""
    evidence: list[SurfacePoints]


def read_clips(path: Path = CLIPS) -> list[TrueClip]:
    """All clips of the file."""
    found = []
    with np.load(path) as data:
        rate = float(data["rate"])
        for name in sorted({key.split("/")[0] for key in data.files if "/" in key}):
            pose = torch.from_numpy(data[f"{name}/pose"].astype(np.float32) * 1e-4)
            trans = torch.from_numpy(data[f"{name}/trans"].astype(np.float32) * 1e-4)
            parameters = PoseParameters(torch.zeros(len(pose), 10), pose[:, 0], pose[:, 1:], trans)
            found.append(
                TrueClip(
                    name=name,
                    parameters=parameters,
                    times=torch.arange(len(pose), dtype=torch.float64) / rate,
                    stands=torch.from_numpy(data[f"{name}/stands"]),
                    is_held_out=is_validation(str(data[f"{name}/source"])),
                )
            )
    return found


def look_at(centre: Tensor, target: Tensor) -> Tensor:
    """World to OpenCV camera of cameras (T, 3) that look at points (T, 3), z up in the world."""
    forward = torch.nn.functional.normalize(target - centre, dim=-1)
    up = torch.tensor([0.0, 0.0, 1.0]).expand_as(forward)
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, up), dim=-1)
    down = torch.linalg.cross(forward, right)
    matrix = torch.eye(4).repeat(len(centre), 1, 1)
    matrix[:, :3, :3] = torch.stack([right, down, forward], 1)
    matrix[:, :3, 3] = -(matrix[:, :3, :3] @ centre[..., None])[..., 0]
    return matrix


def cameras(clip: TrueClip, path: Tensor, views: int, moving: bool) -> list[Tensor]:
    """Cameras 4.5 m away that see all of the clip; a moving one circles and follows the person."""
    count, middle = len(path), path.mean(0)
    found = []
    for view in range(views):
        angle = torch.full((count,), 0.4 + 2.1 * view)
        target = middle.expand(count, 3)
        if moving:
            angle = angle + torch.linspace(0, 0.8, count)
            target = path
        spread = float((path - target).norm(dim=-1).max())
        away = 4.5 + 1.2 * spread
        offset = torch.stack([angle.cos() * away, angle.sin() * away, 0 * angle + 0.6], -1)
        found.append(look_at(target + offset, target))
    return found


def drifting(shape: tuple[int, ...], memory: float, generator: torch.Generator) -> Tensor:
    """Unit noise (T, …) whose neighbours correlate by `memory`."""
    noise = torch.randn(shape, generator=generator)
    for frame in range(1, shape[0]):
        noise[frame] = memory * noise[frame - 1] + (1 - memory**2) ** 0.5 * noise[frame]
    return noise


def estimate(
    clip: TrueClip, camera: Tensor, severity: float, generator: torch.Generator
) -> PoseParameters:
    """A simulated estimate: half its error is the clip's, half comes and goes within frames."""
    true = clip.parameters
    count = len(true)
    shared = torch.randn(1, 24, 3, generator=generator)
    vectors = 0.6 * shared + 0.8 * drifting((count, 24, 3), 0.7, generator)
    vectors = vectors * torch.tensor(JOINT_SPREAD)[:, None] * severity
    pose = torch.cat([true.global_orient[:, None], true.body_pose], 1)
    wrong = matrix_to_axis_angle(axis_angle_to_matrix(pose) @ axis_angle_to_matrix(vectors))
    offset = 0.6 * torch.randn(1, 3, generator=generator) + 0.8 * drifting(
        (count, 3), 0.7, generator
    )
    offset = offset * torch.tensor([0.025, 0.025, 0.12]) * severity
    place = true.transl + (camera[:, :3, :3].transpose(1, 2) @ offset[..., None])[..., 0]
    return replace(true, global_orient=wrong[:, 0], body_pose=wrong[:, 1:], transl=place)


def evidence(
    body: BodyModel,
    clip: TrueClip,
    intrinsics: Tensor,
    camera: Tensor,
    generator: torch.Generator,
    *,
    points: int = 400,
    part_px: float = 4.0,
    hidden: tuple[int, ...] = (),
    outliers: float = 0.0,
) -> SurfacePoints:
    """Simulated displacement targets: each body part is off by `part_px`, drifting over frames.

    Args:
        body: the body model.
        clip: the truth.
        intrinsics: (T, 3, 3).
        camera: (T, 4, 4).
        generator: random numbers.
        points: vertices a frame.
        part_px: σ of a part's error, pixels; each point has a quarter of it on its own.
        hidden: joints whose parts are not seen at all.
        outliers: share of points that lie anywhere within 60 px.
    """
    count = len(clip.parameters)
    index = torch.randint(0, body.num_vertices, (points,), generator=generator)
    seen = pose_vertices(body, clip.parameters, index) @ camera[:, :3, :3].transpose(1, 2)
    image = (seen + camera[:, None, :3, 3]) @ intrinsics.transpose(1, 2)
    pixels = image[..., :2] / image[..., 2:]
    part = body.lbs_weights[index].argmax(1)
    error = part_px * drifting((count, 24, 2), 0.7, generator)[:, part.clamp_max(23)]
    error = error + 0.25 * part_px * torch.randn(pixels.shape, generator=generator)
    wild = torch.rand(count, points, generator=generator) < outliers
    error = torch.where(
        wild[..., None], 120.0 * torch.rand(pixels.shape, generator=generator) - 60, error
    )
    weights = (~torch.isin(part, torch.tensor(hidden))).float().expand(count, points)
    return SurfacePoints(
        index, pixels + error, weights, torch.full_like(weights, part_px), intrinsics, camera
    )


def make_scene(
    body: BodyModel,
    clip: TrueClip,
    *,
    views: int = 1,
    moving: bool = False,
    severity: float = 0.8,
    seed: int = 0,
    **options,
) -> Scene:
    """A clip with cameras, an estimate and evidence; `options` go to `evidence`."""
    generator = torch.Generator().manual_seed(seed)
    path = pose_joints(body, clip.parameters)[:, 0]
    found = cameras(clip, path, views, moving)
    width, height = SIZE_PX
    matrix = torch.tensor([[FOCAL_PX, 0, width / 2], [0, FOCAL_PX, height / 2], [0, 0, 1]])
    intrinsics = matrix.expand(len(path), 3, 3)
    start = estimate(clip, found[0], severity, generator)
    seen = [evidence(body, clip, intrinsics, camera, generator, **options) for camera in found]
    return Scene(clip, start, intrinsics, found, seen)


def errors(body: BodyModel, scene: Scene, parameters: PoseParameters) -> dict[str, float]:
    """Errors in mm and mm/s: pelvis-aligned vertices, the root, acceleration, and sliding of the
    joints that stand in the truth."""
    found, true = pose_body(body, parameters), pose_body(body, scene.clip.parameters)
    root = found.joints[:, :1] - true.joints[:, :1]
    rate = 1.0 / float(scene.clip.times.diff().median())
    feet = [body.joint_names.index(name) for name in FEET]
    stands = scene.clip.stands[1:] & scene.clip.stands[:-1]
    step = found.joints[:, feet].diff(dim=0).norm(dim=-1)[stands]
    wrong = (found.joints - true.joints).diff(n=2, dim=0).norm(dim=-1)
    return {
        "pve_mm": 1e3 * float((found.vertices - root - true.vertices).norm(dim=-1).mean()),
        "world_mm": 1e3 * float((found.vertices - true.vertices).norm(dim=-1).mean()),
        "root_mm": 1e3 * float(root.norm(dim=-1).mean()),
        "accel_mm_per_frame2": 1e3 * float(wrong.mean()),
        "slide_mm_per_s": 1e3 * rate * float(step.mean()),
    }
