# SPDX-License-Identifier: Apache-2.0
"""How far a motion is from a reference motion, and how well it lies over pictures it never saw.

`evaluate` compares two sequences of one body. `score_views` needs no reference motion: it
compares the body with hand-checked points and silhouettes in cameras that had no part in making
the motion. What the figures mean is in `docs/evaluation.md`'s words: `metrics` holds the formulas.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Sequence as Many
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from posefit_shared.frames import Camera, apply, project
from posefit_shared.sequence import Sequence

from . import metrics
from .body import BodyModel, pose_body, vertex_normals
from .errors import PosefitError
from .parameters import parameters_of_sequence
from .rasterizer import rasterize
from .views import View

__all__ = [
    "EvaluationError",
    "ViewTruth",
    "body_points",
    "evaluate",
    "score_views",
    "take_frames",
]

Array = npt.NDArray[np.float64]

MM = 1000.0
STANDING_SPEED = 0.2
"""m/s below which a foot of the reference counts as standing."""
FEET = ("L_Ankle", "R_Ankle", "L_Foot", "R_Foot")
CHUNK = 64
"""Frames posed at once."""


class EvaluationError(PosefitError, ValueError):
    """Motions that cannot be compared; says why."""


@dataclass(frozen=True)
class ViewTruth:
    """What was checked by hand in the pictures of one camera."""

    camera: str
    """Name of the view."""
    points: Mapping[int, Mapping[str, tuple[float, float]]]
    """For frames of the footage: pixels (centres at +0.5) by the name of a joint or landmark."""
    masks: Mapping[int, npt.NDArray[np.bool_]]
    """For frames of the footage: the person's silhouette (H, W)."""


@dataclass(frozen=True)
class _Motion:
    """A sequence's body, posed: in its world, and where it has a camera seen from it."""

    vertices: npt.NDArray[np.float32]
    joints: Array
    cameras: tuple[Camera, ...]

    def in_view(self, points: npt.NDArray[Any]) -> Array:
        """Points (T, N, 3) in each frame's camera, or in the world where there is none."""
        if not self.cameras:
            return np.asarray(points, np.float64)
        return np.stack(
            [
                apply(camera.world_to_camera, frame)
                for camera, frame in zip(self.cameras, points, strict=True)
            ]
        )


def evaluate(predicted: Sequence, reference: Sequence, body: BodyModel) -> dict[str, Any]:
    """Errors of a motion against a reference, over the frames that both have.

    Motions are compared as the camera sees them where both have cameras, otherwise in the world.

    Args:
        predicted: the motion to judge.
        reference: the motion taken as true.
        body: the body of both; betas of another body are not used.

    Returns:
        For `mpjpe_mm`, `pa_mpjpe_mm`, `pve_mm`, `pa_pve_mm`, `root_error_mm`, `root_depth_mm`,
        `vertex_2d_px`, `accel_mm_per_s2` and `foot_slide_mm_per_s`: mean, median, p95, the frames
        and each frame's value; None where it cannot be said, with the reason in `left_out`.

    Raises:
        EvaluationError: the motions share no frame.
    """
    first, second = _shared_frames(predicted, reference)
    has_cameras = first.has_camera and second.has_camera
    a, b = _pose(first, body, has_cameras), _pose(second, body, has_cameras)
    times = _times(second)
    frames = np.asarray(second.frame_indices)
    left_out: dict[str, str] = {}
    values: dict[str, tuple[Array, npt.NDArray[Any]] | None] = {}
    joints_a, joints_b = a.in_view(a.joints), b.in_view(b.joints)
    centred_a, centred_b = joints_a - joints_a[:, :1], joints_b - joints_b[:, :1]
    values["mpjpe_mm"] = MM * metrics.mean_distance(centred_a, centred_b), frames
    aligned = metrics.align_similarity(joints_a, joints_b)
    values["pa_mpjpe_mm"] = MM * metrics.mean_distance(aligned, joints_b), frames
    values |= _vertex_errors(a, b, first, second, frames, left_out)
    root = np.abs(joints_a[:, 0] - joints_b[:, 0])
    values["root_error_mm"] = MM * np.linalg.norm(root, axis=1), frames
    values["root_depth_mm"] = (MM * root[:, 2], frames) if has_cameras else None
    values["vertex_2d_px"] = _pixel_errors(a, b, body, frames) if has_cameras else None
    if not has_cameras:
        for name in ("root_depth_mm", "vertex_2d_px"):
            left_out[name] = "one of the sequences has no camera"
    values |= _motion_errors(a, b, first, second, body, times, frames, left_out)
    return {
        **{name: _summary(*pair) if pair is not None else None for name, pair in values.items()},
        "frame_count": len(frames),
        "left_out": left_out,
    }


def _summary(values: Array, frames: npt.NDArray[Any]) -> dict[str, Any]:
    return {
        "mean": float(values.mean()),
        "median": float(np.median(values)),
        "p95": float(np.quantile(values, 0.95)),
        "frames": [int(frame) for frame in frames],
        "values": [round(float(value), 4) for value in values],
    }


def _shared_frames(predicted: Sequence, reference: Sequence) -> tuple[Sequence, Sequence]:
    frames_a = np.asarray(predicted.frame_indices)
    frames_b = np.asarray(reference.frame_indices)
    _, in_a, in_b = np.intersect1d(frames_a, frames_b, return_indices=True)
    if not len(in_a):
        raise EvaluationError(
            f"the sequences share no frame: one has frames {frames_a.min()} to {frames_a.max()}, "
            f"the other {frames_b.min()} to {frames_b.max()}; check that they are of one clip"
        )
    return take_frames(predicted, in_a), take_frames(reference, in_b)


def take_frames(sequence: Sequence, index: npt.NDArray[np.int64]) -> Sequence:
    """Chosen frames of a sequence.

    Args:
        sequence: whose frames.
        index: (N,) places in the sequence, in the order wanted.
    """
    parts = [sequence.slice(int(k), int(k) + 1) for k in index]
    joined = {}
    for name in ("poses", "trans", "times", "frame_indices", "confidence", "expression"):
        if getattr(sequence, name) is not None:
            joined[name] = np.concatenate([getattr(part, name) for part in parts])
    for name, rank in (("betas", 2), ("intrinsics", 3), ("world_to_camera", 3)):
        value = getattr(sequence, name)
        if value is not None and value.ndim == rank:
            joined[name] = np.concatenate([getattr(part, name) for part in parts])
    if sequence.status is not None:
        joined["status"] = tuple(sequence.status[int(k)] for k in index)
    return sequence.replace(**joined)


def _pose(sequence: Sequence, body: BodyModel, with_cameras: bool) -> _Motion:
    parameters = parameters_of_sequence(sequence, body)
    vertices, joints = [], []
    with torch.no_grad():
        for start in range(0, len(sequence), CHUNK):
            posed = pose_body(body, parameters[slice(start, start + CHUNK)])
            vertices.append(posed.vertices.cpu().numpy())
            joints.append(posed.joints.cpu().numpy().astype(np.float64))
    cameras = tuple(sequence.camera(t) for t in range(len(sequence))) if with_cameras else ()
    return _Motion(np.concatenate(vertices), np.concatenate(joints)[:, :24], cameras)


def _times(sequence: Sequence) -> Array:
    if sequence.times is not None:
        return np.asarray(sequence.times, np.float64)
    return np.asarray(sequence.frame_indices, np.float64) / sequence.mocap_framerate


def _vertex_errors(
    a: _Motion,
    b: _Motion,
    first: Sequence,
    second: Sequence,
    frames: npt.NDArray[Any],
    left_out: dict[str, str],
) -> dict[str, tuple[Array, npt.NDArray[Any]] | None]:
    if first.body and second.body and first.body != second.body:
        words = (
            f"betas belong to two bodies ({first.body[:12]}, {second.body[:12]}): vertices mean "
            "the same point only on one body; joints are compared on the body given"
        )
        left_out |= {"pve_mm": words, "pa_pve_mm": words}
        return {"pve_mm": None, "pa_pve_mm": None}
    pelvis_relative, aligned = [], []
    for t in range(len(frames)):
        one = a.in_view(a.vertices)[t] if not a.cameras else _seen(a, a.vertices[t], t)
        two = b.vertices[t] if not b.cameras else _seen(b, b.vertices[t], t)
        pelvis_a, pelvis_b = _seen(a, a.joints[t, 0], t), _seen(b, b.joints[t, 0], t)
        shifted = one - pelvis_a - two + pelvis_b
        pelvis_relative.append(np.linalg.norm(shifted, axis=-1).mean())
        fitted = metrics.align_similarity(one[None], two[None])
        aligned.append(metrics.mean_distance(fitted, two[None])[0])
    return {
        "pve_mm": (MM * np.array(pelvis_relative), frames),
        "pa_pve_mm": (MM * np.array(aligned), frames),
    }


def _seen(motion: _Motion, points: npt.NDArray[Any], frame: int) -> Array:
    """Points of one frame in its camera, or in the world where there is none."""
    if not motion.cameras:
        return np.asarray(points, np.float64)
    return apply(motion.cameras[frame].world_to_camera, points)


def _pixel_errors(
    a: _Motion, b: _Motion, body: BodyModel, frames: npt.NDArray[Any]
) -> tuple[Array, npt.NDArray[Any]]:
    """Distance in the picture, over vertices of the reference that face its camera."""
    errors = []
    for t in range(len(frames)):
        vertices = torch.as_tensor(b.vertices[t], device=body.device)
        normals = vertex_normals(vertices[None], body.faces)[0].cpu().numpy()
        facing = (normals * (b.cameras[t].position - b.vertices[t])).sum(-1) > 0
        pixels_a, depth_a = project(a.cameras[t], a.vertices[t][facing])
        pixels_b, depth_b = project(b.cameras[t], b.vertices[t][facing])
        ahead = (depth_a > 0) & (depth_b > 0)
        distance = np.linalg.norm(pixels_a - pixels_b, axis=-1)[ahead]
        errors.append(distance.mean() if len(distance) else np.nan)
    values = np.array(errors)
    usable = np.isfinite(values)
    return values[usable], frames[usable]


def _motion_errors(
    a: _Motion,
    b: _Motion,
    first: Sequence,
    second: Sequence,
    body: BodyModel,
    times: Array,
    frames: npt.NDArray[Any],
    left_out: dict[str, str],
) -> dict[str, tuple[Array, npt.NDArray[Any]] | None]:
    """Acceleration against the reference, and sliding of feet that stand in the reference."""
    result: dict[str, tuple[Array, npt.NDArray[Any]] | None] = {
        "accel_mm_per_s2": None,
        "foot_slide_mm_per_s": None,
    }
    if len(frames) < 3 or (np.diff(times) <= 0).any():
        words = "fewer than three frames, or times that do not rise"
        left_out |= dict.fromkeys(result, words)
        return result
    one, two = a.joints, b.joints
    if first.world != second.world and a.cameras:
        one, two = a.in_view(one), b.in_view(two)
    error = metrics.acceleration_error(one, two, times)
    result["accel_mm_per_s2"] = MM * error, frames[1:-1]
    if first.world != "gravity" or second.world != "gravity":
        left_out["foot_slide_mm_per_s"] = "up is not known in one of the sequences"
        return result
    feet = [body.joint_names.index(name) for name in FEET if name in body.joint_names]
    speed = np.linalg.norm(np.gradient(b.joints[:, feet], times, axis=0), axis=-1)
    slide = metrics.slide_speed(a.joints[:, feet], speed < STANDING_SPEED, times)
    usable = np.isfinite(slide)
    if usable.any():
        result["foot_slide_mm_per_s"] = MM * slide[usable], frames[1:][usable]
    else:
        left_out["foot_slide_mm_per_s"] = "no foot of the reference stands"
    return result


# Held-out cameras ------------------------------------------------------------------------------


def body_points(
    vertices: npt.NDArray[Any], joints: npt.NDArray[Any], body: BodyModel, names: Many[str]
) -> Array:
    """(N, 3) joints or surface landmarks of a posed body by name.

    Args:
        vertices: (V, 3).
        joints: (J, 3).
        body: whose names they are.
        names: joint names (`L_Wrist`: the joint's centre) or landmark names (`nose`: the skin).

    Raises:
        EvaluationError: the body knows no such point.
    """
    points = []
    for name in names:
        if name in body.joint_names:
            points.append(joints[body.joint_names.index(name)])
        elif name in body.landmarks:
            points.append(vertices[int(body.landmarks[name])])
        else:
            raise EvaluationError(f"the body has no joint or landmark {name!r}: check the points")
    return np.array(points, np.float64).reshape(-1, 3)


def score_views(
    sequence: Sequence,
    views: Many[View],
    truths: Many[ViewTruth],
    body: BodyModel,
    *,
    block: int = 10,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """How well a motion lies over pictures of cameras, by hand-checked points and silhouettes.

    Args:
        sequence: the motion, in the cameras' world.
        views: the cameras; those without a truth are left out.
        truths: what was checked by hand.
        body: the body of the motion.
        block: frames that are drawn together in the bootstrap.
        progress: called with views done and views in all.

    Returns:
        For each camera, and over `all` of them: `point_error_px` and `silhouette_iou`, each with
        mean, 95% interval (low, high), the number of blocks behind it, and single values.
    """
    motion = _pose(sequence, body, False)
    known = {truth.camera: truth for truth in truths}
    judged = [view for view in views if view.name in known]
    result: dict[str, Any] = {}
    everything: dict[str, list[tuple[int, float]]] = {"point_error_px": [], "silhouette_iou": []}
    for k, view in enumerate(judged):
        scores = _score_view(motion, view, known[view.name], body)
        result[view.name] = {name: _interval(pairs, block) for name, pairs in scores.items()}
        for name, pairs in scores.items():
            everything[name] += pairs
        if progress is not None:
            progress(k + 1, len(judged))
    result["all"] = {name: _interval(pairs, block) for name, pairs in everything.items()}
    return result


def _score_view(
    motion: _Motion, view: View, truth: ViewTruth, body: BodyModel
) -> dict[str, list[tuple[int, float]]]:
    points: list[tuple[int, float]] = []
    overlaps: list[tuple[int, float]] = []
    for t, footage_frame in enumerate(view.frame_indices):
        frame, camera = int(footage_frame), view.camera(t)
        if frame in truth.points:
            names = list(truth.points[frame])
            marked = np.array([truth.points[frame][name] for name in names])
            shown = body_points(motion.vertices[t], motion.joints[t], body, names)
            error = np.linalg.norm(project(camera, shown)[0] - marked, axis=-1)
            points += [(t, float(value)) for value in error]
        if frame in truth.masks:
            drawn = silhouette(motion.vertices[t], camera, body)
            overlaps.append((t, metrics.intersection_over_union(drawn, truth.masks[frame])))
    return {"point_error_px": points, "silhouette_iou": overlaps}


def silhouette(
    vertices: npt.NDArray[Any], camera: Camera, body: BodyModel
) -> npt.NDArray[np.bool_]:
    """(H, W) pixels that a posed body covers, lens distortion included.

    Args:
        vertices: (V, 3) world.
        camera: where it is seen from.
        body: for its faces.
    """
    # Distorting the vertices bends the picture as the lens does, up to the inside of a triangle.
    pixels, depth = project(camera, vertices)
    width, height = camera.image_size
    ideal = np.concatenate([pixels * depth[:, None], depth[:, None]], axis=1)
    device = body.device
    fragments = rasterize(
        torch.tensor(ideal[None], dtype=torch.float32, device=device),
        body.faces,
        torch.eye(3, device=device)[None],
        (height, width),
    )
    return (fragments.pix_to_face[0] >= 0).cpu().numpy()


def _interval(pairs: list[tuple[int, float]], block: int) -> dict[str, Any] | None:
    if not pairs:
        return None
    frames, values = np.array([t for t, _ in pairs]), np.array([v for _, v in pairs])
    interval = metrics.block_bootstrap(values, frames, block=block)
    return {
        **asdict(interval),
        "median": float(np.median(values)),
        "frames": [int(t) for t in frames],
        "values": [round(float(v), 4) for v in values],
    }
