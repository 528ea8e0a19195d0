# SPDX-License-Identifier: Apache-2.0
"""What a refined focal length and lens mean for cameras, pictures, evidence and sequences.

The solver's unknowns (`solver.lens`) are two numbers a frame: s, the logarithm of the focal length
by the given one, and κ, a radial coefficient beside the given lens. Everything here turns them into
cameras and back; nothing here is solved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from posefit_shared.frames import Camera
from posefit_shared.sequence import Sequence as PoseSequence
from posefit_shared.settings import RefineSettings

from ..body import BodyModel, PoseParameters, pose_joints
from ..errors import RefinementError
from ..parameters import parameters_of_sequence
from ..solver import SurfacePoints
from .pictures import Picture

__all__ = [
    "as_given",
    "check_refinable",
    "refined_camera",
    "settle_cameras",
    "slid_parameters",
    "with_refined_cameras",
]

Unknowns = Float[Tensor, "frame 2"]


def check_refinable(settings: RefineSettings, views: int) -> None:
    """Refuse to refine what is calibrated, or what no file can hold.

    Raises:
        RefinementError: several views, or a lens coefficient for each frame.
    """
    if settings.refine_focal == "off" and not settings.refine_distortion:
        return
    if views > 1:
        raise RefinementError(
            f"the shot has {views} calibrated cameras, focal length and lens are refined for one: "
            "leave --refine-focal and --refine-distortion out, or refine a single camera"
        )
    if settings.refine_focal == "frame" and settings.refine_distortion:
        raise RefinementError(
            "a lens has one distortion in all frames: use --refine-distortion with --refine-focal "
            "clip"
        )


def refined_camera(camera: Camera, log_focal: float, radial: float) -> Camera:
    """A camera with another focal length and lens.

    The given lens bends the same pixels as before: its coefficients are told in units of the focal
    length, so they change with it. The radial coefficient is added to k1.

    Args:
        camera: the given one.
        log_focal: logarithm of the new focal length by the given one.
        radial: coefficient beside the given lens.
    """
    grown = float(np.exp(log_focal))
    intrinsics = camera.intrinsics.copy()
    intrinsics[0, :2] *= grown
    intrinsics[1, 1] *= grown
    powers = grown ** np.array([2.0, 4.0, 1.0, 1.0, 6.0])
    distortion = camera.distortion * powers
    distortion[0] += radial
    return Camera(intrinsics, camera.world_to_camera, camera.image_size, distortion)


def with_refined_cameras(
    pictures: Sequence[Picture | None], unknowns: Unknowns | None
) -> list[Picture | None]:
    """The same pictures with the cameras that the unknowns make of theirs."""
    if unknowns is None:
        return list(pictures)
    rows = unknowns.double().cpu().tolist()
    return [
        None if picture is None else replace(picture, camera=refined_camera(picture.camera, *row))
        for picture, row in zip(pictures, rows, strict=True)
    ]


def as_given(points: SurfacePoints, unknowns: Unknowns | None) -> SurfacePoints:
    """Evidence that was made in a refined camera's pixels as the given camera would have it.

    The solver applies the unknowns to all evidence alike, so that what was seen before the camera
    was refined and what was seen after stand beside each other.

    Args:
        points: in pixels of refined pinhole cameras, or of crops of them.
        unknowns: of the points' frames.
    """
    if unknowns is None:
        return points
    unknowns = unknowns.to(points.targets)
    intrinsics = points.intrinsics.clone()
    focal = torch.stack([intrinsics[:, 0, 0], intrinsics[:, 1, 1]], -1)[:, None]
    principal = intrinsics[:, None, :2, 2]
    offset = points.targets - principal
    radius = (offset / focal).square().sum(-1, keepdim=True)
    targets = principal + offset * (1.0 + unknowns[:, 1, None, None] * radius)
    intrinsics[:, :2, :2] = intrinsics[:, :2, :2] * (-unknowns[:, 0]).exp()[:, None, None]
    return replace(points, targets=targets, intrinsics=intrinsics)


def slid_parameters(
    parameters: PoseParameters,
    unknowns: Unknowns | None,
    sequence: PoseSequence,
    body: BodyModel,
) -> PoseParameters:
    """Bodies moved along the optical axis so that they stay as large under the new focal length.

    Args:
        parameters: one row a frame of the sequence, as the given camera has them.
        unknowns: of the same frames; None moves nothing.
        sequence: with the given camera.
        body: the model.
    """
    if unknowns is None or sequence.world_to_camera is None:
        return parameters
    matrix = torch.tensor(sequence.world_to_camera, dtype=body.dtype, device=body.device)
    matrix = matrix.expand(len(parameters), 4, 4)
    axis = matrix[:, 2, :3]
    pelvis = pose_joints(body, parameters)[:, 0]
    depth = (axis * pelvis).sum(-1, keepdim=True) + matrix[:, 2, 3:]
    moved = (unknowns[:, :1].to(depth).exp() - 1.0) * depth * axis
    return replace(parameters, transl=parameters.transl + moved)


def settle_cameras(
    given: PoseSequence,
    found: PoseSequence,
    unknowns: Unknowns,
    weight: np.ndarray,
    settings: RefineSettings,
    body: BodyModel,
) -> tuple[PoseSequence, PoseSequence]:
    """Both sequences under the camera that is written out, ready to be blended.

    One focal length for the clip is taken by all frames, those that keep their pose too: they slide
    along the axis. Where each frame has its own, a frame takes as much of it as of its pose.

    Args:
        given: the input.
        found: the refined sequence, poses alone.
        unknowns: of all frames.
        weight: (T,) how much of the refined pose each frame takes, 0 to 1.
        settings: its influence and mode count.
        body: the model.

    Returns:
        The input and the refined sequence with new intrinsics and distortion.
    """
    values = unknowns.double().cpu()
    if settings.refine_focal == "frame":
        taken = values * torch.from_numpy(weight)[:, None]
    else:
        taken = values * settings.influence
        given_before, found_before = (parameters_of_sequence(one, body) for one in (given, found))
        slid = slid_parameters(given_before, taken, given, body)
        back = slid_parameters(found_before, taken - values, found, body)
        given = given.replace(trans=slid.transl.cpu().numpy())
        found = found.replace(trans=back.transl.cpu().numpy())
    camera = _camera_fields(found, taken)
    return given.replace(**camera), found.replace(**camera)


def _camera_fields(sequence: PoseSequence, unknowns: Unknowns) -> dict[str, np.ndarray]:
    """Intrinsics and distortion of a sequence under the unknowns; one camera stays one."""
    rows = unknowns.tolist()
    is_one = all(row == rows[0] for row in rows)
    intrinsics = sequence.intrinsics
    if intrinsics is not None and intrinsics.ndim == 2 and is_one:
        rows = rows[:1]
    cameras = [refined_camera(sequence.camera(t), *row) for t, row in enumerate(rows)]
    stacked = np.stack([camera.intrinsics for camera in cameras])
    distortion = np.mean([camera.distortion for camera in cameras], axis=0)
    return {
        "intrinsics": stacked[0] if len(cameras) == 1 else stacked,
        "distortion": distortion,
    }
