# SPDX-License-Identifier: Apache-2.0
"""The align job: landmarks of a motion and of the pictures, brought together by `alignment`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from posefit_shared.frames import Camera, undistort_points
from posefit_shared.messages import AlignRequest, AlignResult
from posefit_shared.sequence import Sequence

from ..alignment import SeenLandmarks, align_motion
from ..body import BodyModel
from ..footage import open_footage
from ..keypoints.detection import Keypoints, detect_keypoints
from ..parameters import parameters_of_sequence
from ..solver import BLAZEPOSE
from ..solver.landmarks import pose_landmarks
from ..solver.skeleton import SkeletonModel, pose_skeleton, state_from_parameters
from .job_context import JobContext

__all__ = ["motion_landmarks", "run_align", "seen_landmarks"]

MOST_PICTURES = 160
"""Pictures that are looked at, spread over those that are offered: some seconds of detection."""
LEAST_CONFIDENCE = 0.3
"""Landmarks below this are left out."""
CHUNK = 512
"""Frames that are posed at once."""


def run_align(request: AlignRequest, body: BodyModel, context: JobContext) -> AlignResult:
    """Find when and where a motion belongs that was not shot with the footage."""
    count = len(request.picture_frames)
    chosen = np.unique(np.linspace(0, count - 1, min(count, MOST_PICTURES)).round().astype(int))
    with open_footage(context.resolve_media(request.media)) as footage:
        keypoints = detect_keypoints(
            footage,
            request.decoded_frames[chosen],
            person=request.person,
            with_masks=False,
            progress=lambda done, all_: context.progress(0.8 * done / all_, "finding the person"),
            cancelled=lambda: bool(context.check_cancelled()),
        )
        cameras = _cameras(request, chosen, footage.size)
        fps = footage.fps
    points = motion_landmarks(request.sequence, body)
    found = align_motion(
        points,
        request.first_frame,
        seen_landmarks(keypoints, request.picture_frames[chosen], cameras, body),
        offset=request.offset,
        search=request.search,
        step=max(1, round(fps / 6)),
        progress=lambda share: context.progress(0.8 + 0.2 * share, "trying times"),
    )
    return AlignResult(
        offset=found.offset,
        transform=found.transform,
        report={
            "misfit": found.misfit,
            "misfit_before": found.misfit_before,
            "turn_deg": found.turn_deg,
            "pictures": found.pictures,
            "is_offset_clear": found.is_offset_clear,
        },
    )


def motion_landmarks(sequence: Sequence, body: BodyModel) -> npt.NDArray[np.float64]:
    """(T, 33, 3) BlazePose's landmarks of a motion, metres, its world.

    Raises:
        RefinementError: the sequence poses other joints than the body has.
    """
    parts = []
    for start in range(0, len(sequence), CHUNK):
        some = sequence.slice(start, min(start + CHUNK, len(sequence)))
        parameters = parameters_of_sequence(some, body)
        dtype = parameters.transl.dtype
        model = SkeletonModel.from_body(body, parameters.betas.shape[1], dtype)
        bound = BLAZEPOSE.bind(body, dtype)
        skeleton = pose_skeleton(model, state_from_parameters(parameters), with_shape=False)
        with torch.no_grad():
            points = pose_landmarks(bound.mixture, bound.point_set(body, model), skeleton)
        parts.append(points.positions.transpose(1, 2).double().cpu().numpy())
    return np.concatenate(parts)


def seen_landmarks(
    keypoints: Keypoints,
    picture_frames: npt.NDArray[np.int64],
    cameras: list[Camera],
    body: BodyModel,
) -> SeenLandmarks:
    """What a detector saw, as rays of the cameras that took the pictures.

    Args:
        keypoints: of one person in P pictures.
        picture_frames: (P,) scene frames that show them.
        cameras: one for each.
        body: landmarks that it lacks weigh nothing.
    """
    known = BLAZEPOSE.bind(body, torch.float32).known.cpu().numpy()
    sure = np.where(keypoints.confidence >= LEAST_CONFIDENCE, keypoints.confidence, 0.0)
    rays, heights = [], []
    for t, camera in enumerate(cameras):
        pixels = undistort_points(camera, keypoints.pixels[t])
        ones = np.ones_like(pixels[:, :1])
        rays.append((np.concatenate([pixels, ones], 1) @ np.linalg.inv(camera.intrinsics).T)[:, :2])
        sides = keypoints.person_box[t, 2:] - keypoints.person_box[t, :2]
        heights.append(max(float(sides.max()), 1.0) / camera.intrinsics[1, 1])
    return SeenLandmarks(
        frames=np.asarray(picture_frames, np.int64),
        rays=np.stack(rays),
        weights=sure * keypoints.found[:, None] * known,
        heights=np.array(heights),
        world_to_camera=np.stack([camera.world_to_camera for camera in cameras]),
    )


def _cameras(
    request: AlignRequest, chosen: npt.NDArray[np.int64], size: tuple[int, int]
) -> list[Camera]:
    distortion = np.zeros(5) if request.distortion is None else request.distortion

    def of(values: npt.NDArray[np.float64], row: int) -> npt.NDArray[np.float64]:
        return values[row if len(values) > 1 else 0]

    return [
        Camera(of(request.intrinsics, row), of(request.world_to_camera, row), size, distortion)
        for row in chosen.tolist()
    ]
