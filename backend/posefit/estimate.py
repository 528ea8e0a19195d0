# SPDX-License-Identifier: Apache-2.0
"""First estimate: one person's SMPL motion from footage alone.

Landmarks of the person (`keypoints`) and the pose solver do the work; this module says how they
follow each other: where the person stands, how they are posed, how large they are, and last the
whole motion at once, smooth in time. Frames that do not show the person carry the motion across.

The motion is right in the picture and plausible in depth. How far away the person is follows from
the camera's focal length and the body's size, and one camera tells neither.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from posefit_shared.frames import Camera
from posefit_shared.sequence import Sequence

from .body import BodyModel, PoseParameters, pose_vertices
from .camera_file import WorldCamera, default_camera
from .errors import PosefitError
from .footage import Footage, check_size
from .keypoints.detection import Keypoints, detect_keypoints
from .keypoints.evidence import (
    EstimateConfig,
    PinholeView,
    confidence_from_landmarks,
    evidence_for_estimate,
)
from .refinement.windows import blend_poses, join_windows, split_windows
from .solver import (
    BLAZEPOSE,
    Evidence,
    SolverConfig,
    held_joints,
    initial_root,
    solve,
)

__all__ = [
    "EstimateConfig",
    "EstimateError",
    "estimate",
    "estimate_from_keypoints",
    "confidence_from_landmarks",
    "evidence_for_estimate",
]

logger = logging.getLogger(__name__)

_HOLDING_FACTOR = 40.0
"""Geman–McClure scale of an acceleration, in σ, from which even wrong frames do not break away."""

Progress = Callable[[int, int], None]
Cancelled = Callable[[], bool]


class EstimateError(PosefitError, ValueError):
    """Footage from which no motion can be estimated; says what was found."""


def estimate(
    footage: Footage,
    *,
    body: BodyModel,
    camera: WorldCamera | Camera | None = None,
    person: int = 0,
    frame_indices: npt.NDArray[np.int64] | None = None,
    config: EstimateConfig | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Sequence:
    """The motion of one person in footage.

    Args:
        footage: where the frames come from.
        body: the body model.
        camera: known camera (a `Camera` stands in a world whose z is up); a level one with a usual
            lens by default.
        person: 0 is the largest and most central one.
        frame_indices: (T,) decoded frames in rising order; all by default.
        config: settings.
        progress: called with frames done and frames in all, while the person is followed.
        cancelled: asked before each frame.

    Returns:
        The sequence in the camera's world; `status` is `no_person` where the pose is carried across
        frames that do not show the person.

    Raises:
        FootageError: a frame cannot be decoded, or frames are not of the camera's size.
        EstimateError: no frame shows a person.
    """
    placed = camera if isinstance(camera, WorldCamera) else _in_world(camera, footage.size)
    check_size(footage, placed.camera.image_size)
    keypoints = detect_keypoints(
        footage,
        frame_indices,
        person=person,
        with_masks=False,
        progress=progress,
        cancelled=cancelled,
    )
    return estimate_from_keypoints(
        keypoints,
        body=body,
        camera=placed,
        times=footage.times[keypoints.frame_indices],
        fps=footage.fps,
        person=person,
        config=config,
    )


def estimate_from_keypoints(
    keypoints: Keypoints,
    *,
    body: BodyModel,
    camera: WorldCamera,
    times: npt.NDArray[np.float64],
    fps: float,
    person: int = 0,
    config: EstimateConfig | None = None,
) -> Sequence:
    """The motion of one person from landmarks that were found before.

    Args:
        keypoints: of one person, T frames in order of time.
        body: the body model.
        camera: the camera, with its world.
        times: (T,) seconds of the frames.
        fps: frames per second of the footage.
        person: written into the sequence.
        config: settings.

    Raises:
        EstimateError: no frame shows a person.
    """
    config = config or EstimateConfig()
    if not keypoints.found.any():
        raise EstimateError(
            f"no person was found in any of {len(keypoints)} frames: check that the video shows "
            "one, at least a tenth of the picture tall, or choose other frames or another person"
        )
    parameters = _start(keypoints, body, camera.camera, config)
    evidence = evidence_for_estimate(keypoints, camera.camera, body, config)
    seconds = torch.tensor(times - times[0], dtype=torch.float32, device=body.device)
    parameters = _solve_all(body, parameters, evidence, keypoints, seconds, config)
    world_camera = camera.camera
    if camera.world == "camera":
        parameters, world_camera = _stand_on_floor(body, parameters, world_camera)
    return _sequence(body, parameters, keypoints, WorldCamera(world_camera, camera.world)).replace(
        mocap_framerate=fps, person_id=person, times=np.asarray(times, np.float64)
    )


def _in_world(camera: Camera | None, size: tuple[int, int]) -> WorldCamera:
    return default_camera(size) if camera is None else WorldCamera(camera, "gravity")


def _start(
    keypoints: Keypoints, body: BodyModel, camera: Camera, config: EstimateConfig
) -> PoseParameters:
    """The rest pose turned and placed in every frame, carried across frames without the person."""
    view = PinholeView.of(keypoints, camera, body, config)
    start = initial_root(
        body,
        BLAZEPOSE,
        view.pixels,
        view.positions,
        view.weights,
        view.intrinsics,
        view.world_to_camera,
    )
    return _carry_across(start, keypoints.found)


def _carry_across(parameters: PoseParameters, found: npt.NDArray[np.bool_]) -> PoseParameters:
    """Parameters with gaps filled between the frames on either side."""
    if found.all():
        return parameters
    seen = np.flatnonzero(found)
    frames = np.arange(len(found))
    after = np.clip(np.searchsorted(seen, frames), 0, len(seen) - 1)
    before = np.clip(np.searchsorted(seen, frames, side="right") - 1, 0, len(seen) - 1)
    first, second = seen[before], seen[after]
    weight = np.where(second > first, (frames - first) / np.maximum(second - first, 1), 0.0)

    def between(values: torch.Tensor, is_rotation: bool) -> torch.Tensor:
        array = values.detach().cpu().numpy()
        share = weight.reshape(-1, *[1] * (array.ndim - 1))
        if is_rotation:
            filled = blend_poses(array[first], array[second], share)
        else:
            filled = (1 - share) * array[first] + share * array[second]
        filled = np.where(found.reshape(share.shape), array, filled)
        return torch.tensor(filled, dtype=values.dtype, device=values.device)

    return PoseParameters(
        betas=parameters.betas,
        global_orient=between(parameters.global_orient, True),
        body_pose=between(parameters.body_pose, True),
        transl=between(parameters.transl, False),
    )


def _solve_all(
    body: BodyModel,
    start: PoseParameters,
    evidence: list[Evidence],
    keypoints: Keypoints,
    seconds: torch.Tensor,
    config: EstimateConfig,
) -> PoseParameters:
    """Root, then pose, then shape from well-spread frames, then the motion, window by window."""
    prior = config.pose_prior_weight
    far = SolverConfig(
        robust_widening=10.0, pose_prior_weight=prior, shape="fixed", max_iterations=12
    )
    root_only = torch.ones(body.num_joints, dtype=torch.bool, device=body.device)
    root_only[0] = False
    placed = solve(body, start, evidence, far, locked=root_only).parameters
    # BlazePose's few points of a hand say nothing of its fingers.
    held = held_joints(body, evidence, len(keypoints))
    fingers = None if held is None else held[0]
    posed = solve(
        body, placed, evidence, replace(far, max_iterations=20), locked=fingers
    ).parameters
    posed = _carry_across(posed, keypoints.found)
    chosen = _well_spread(keypoints, config.shape_frames)
    # The detector is wrong in the same way in frame after frame: they say no more of the shape
    # than a few would.
    humility = min(config.independent_frames / len(chosen), 1.0) ** 0.5
    near = SolverConfig(pose_prior_weight=prior, max_iterations=12, shape_sigma=humility)
    index = torch.tensor(chosen, device=body.device)
    shaped = solve(body, posed[index], _frames_of(evidence, index), near, locked=fingers).parameters
    betas = shaped.betas[:1].expand_as(posed.betas)
    posed = replace(posed, betas=betas)
    motion = replace(
        near,
        shape="fixed",
        smoothness=config.smoothness,
        acceleration_sigma=config.acceleration_sigma,
        acceleration_share=0.0,
        max_iterations=25,
    )
    # Neighbours first hold every frame, wrong ones too: the kernel lets go of leaps afterwards.
    held_together = replace(motion, acceleration_robust_factor=_HOLDING_FACTOR)
    windows = split_windows(len(keypoints), config.window, config.overlap)
    solved = []
    for window in windows:
        index = torch.arange(window.start, window.stop, device=body.device)
        part, seen = posed[index], _frames_of(evidence, index)
        for stage in (held_together, motion):
            part = solve(body, part, seen, stage, times=seconds[index], locked=fingers).parameters
        poses = torch.cat([part.global_orient[:, None], part.body_pose], dim=1)
        solved.append((poses.cpu().numpy(), part.transl.cpu().numpy()))
    poses, trans = join_windows(windows, solved)

    def tensor(values: npt.NDArray[np.float32]) -> torch.Tensor:
        return torch.tensor(values, dtype=body.dtype, device=body.device)

    return PoseParameters(betas, tensor(poses[:, 0]), tensor(poses[:, 1:]), tensor(trans))


def _well_spread(keypoints: Keypoints, count: int) -> npt.NDArray[np.int64]:
    """At most `count` frames spread over the clip, the surest of each stretch."""
    seen = np.flatnonzero(keypoints.found)
    sure = keypoints.confidence.mean(axis=1)
    stretches = np.array_split(seen, min(count, len(seen)))
    return np.array([stretch[np.argmax(sure[stretch])] for stretch in stretches])


def _frames_of(evidence: list[Evidence], index: torch.Tensor) -> list[Evidence]:
    """The evidence of some frames."""
    chosen: list[Evidence] = []
    for entry in evidence:
        tensors = {
            name: value[index]
            for name, value in vars(entry).items()
            if isinstance(value, torch.Tensor)
        }
        chosen.append(replace(entry, **tensors))  # type: ignore[type-var]
    return chosen


def _stand_on_floor(
    body: BodyModel, parameters: PoseParameters, camera: Camera
) -> tuple[PoseParameters, Camera]:
    """World moved up so that the lowest point of the body, over the clip, lies at z = 0.

    Only where nothing is known of the world: it spares the animator a body below the grid.
    """
    step = max(len(body.v_template) // 500, 1)
    some = torch.arange(0, len(body.v_template), step, device=body.device)
    lowest = pose_vertices(body, parameters, some)[..., 2].amin(dim=1)
    rise = -float(lowest.quantile(0.05))
    shift = torch.tensor([0.0, 0.0, rise], dtype=body.dtype, device=body.device)
    moved = np.eye(4)
    moved[2, 3] = -rise
    world_to_camera = camera.world_to_camera @ moved
    raised = Camera(camera.intrinsics, world_to_camera, camera.image_size, camera.distortion)
    return replace(parameters, transl=parameters.transl + shift), raised


def _sequence(
    body: BodyModel, parameters: PoseParameters, keypoints: Keypoints, placed: WorldCamera
) -> Sequence:
    camera = placed.camera
    poses = torch.cat([parameters.global_orient[:, None], parameters.body_pose], dim=1)
    finite = torch.isfinite(poses).flatten(1).all(1) & torch.isfinite(parameters.transl).all(1)
    if not bool(finite.all()):
        raise EstimateError(
            f"{int((~finite).sum())} frames have no finite pose: give the camera's intrinsics, or "
            "choose other frames"
        )
    return Sequence(
        poses=poses.cpu().numpy(),
        trans=parameters.transl.cpu().numpy(),
        betas=parameters.betas[0].cpu().numpy(),
        body=body.content_hash,
        frame_indices=keypoints.frame_indices,
        intrinsics=camera.intrinsics,
        world_to_camera=camera.world_to_camera,
        distortion=camera.distortion,
        image_size=camera.image_size,
        world=placed.world,
        confidence=confidence_from_landmarks(keypoints, body),
        status=tuple("refined" if found else "no_person" for found in keypoints.found),
    )
