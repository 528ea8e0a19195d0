# SPDX-License-Identifier: Apache-2.0
"""Errors of one predicted sequence against one recording, as a protocol asks for them.

Both bodies are compared as their cameras see them; a prediction without a camera of its own counts
as lying in the recording's world. World metrics compare the two worlds after alignment.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from posefit_shared.sequence import Sequence

from .. import metrics
from ..body import BodyModel
from ..evaluate import take_frames
from .alignment import root_trajectory_error, world_errors
from .bodies import Bodies
from .joint_sets import CHUNK, JOINT_SETS, JointSet, Posed, Regressors, pose_in_chunks, regress
from .protocols import Protocol
from .recording import DatasetError, Recording

__all__ = ["METRICS", "RecordingScore", "score_recording"]

Array = npt.NDArray[np.float64]

MM = 1000.0
_WORLD_JOINTS = 24
METRICS = (
    "mpjpe_mm", "pa_mpjpe_mm", "pve_mm", "accel_mm_per_s2", "w_mpjpe_mm", "wa_mpjpe_mm",
    "rte_percent",
)  # fmt: skip
"""Every metric that a protocol can ask for, in the order of tables."""


@dataclass(frozen=True)
class RecordingScore:
    """Per-frame errors of one prediction in one recording."""

    values: dict[str, Array]
    """For each metric the values of the frames that it could be computed for."""
    frames: int
    """Frames compared."""
    missing: int
    """Frames of the protocol that the prediction lacks."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Metrics of the protocol that could not be computed, and why."""


@dataclass(frozen=True)
class _Side:
    """A sequence with what is needed to get points from it."""

    sequence: Sequence
    body: BodyModel | None
    """None where the recording's own joints stand in for a body that is not at hand."""
    cameras: Array
    """(T, 4, 4)."""
    joints: Array | None = None
    """(T, N, 3) the data set's own joints, in place of the body's."""


@dataclass(frozen=True)
class _Points:
    """What is compared of some frames: in the camera, and kinematic joints in the world."""

    full: Array
    """(T, N, 3) joints of the whole set."""
    vertices: Array | None
    """(T, V, 3)."""
    in_world: Array | None
    """(T, J, 3) kinematic joints."""


def score_recording(
    recording: Recording,
    predicted: Sequence,
    protocol: Protocol,
    bodies: Bodies,
    regressors: Regressors,
) -> RecordingScore:
    """Errors of a prediction over the frames of a recording that a protocol looks at.

    Args:
        recording: the reference.
        predicted: its frames are matched by `frame_indices`.
        protocol: what to compare.
        bodies: models of both, by type and gender.
        regressors: the user's files, where the protocol needs them.

    Raises:
        DatasetError: the prediction shares no frame with the protocol's, or a file is missing.
    """
    chosen = protocol.frames(recording)
    wanted = np.asarray(recording.sequence.frame_indices)[chosen]
    _, at, found = np.intersect1d(wanted, np.asarray(predicted.frame_indices), return_indices=True)
    if not len(at):
        raise DatasetError(
            f"the prediction for {recording.name} shares none of its {len(wanted)} frames: its "
            "frame_indices must count the data set's pictures"
        )
    left_out: dict[str, str] = {}
    reference = _reference(recording, chosen[at], protocol, bodies, left_out)
    if protocol.joint_set == "smpl24" and not protocol.converts_mesh:
        _check_is_smpl(predicted, recording.name, protocol)
    prediction = _prediction(take_frames(predicted, found), reference, bodies)
    joint_set = JOINT_SETS[protocol.joint_set]
    values: dict[str, list[Array]] = {"mpjpe_mm": [], "pa_mpjpe_mm": [], "pve_mm": []}
    centred: tuple[list[Array], list[Array]] = ([], [])
    worlds: tuple[list[Array], list[Array]] = ([], [])
    pairs = zip(
        _points(prediction, joint_set, protocol, bodies, regressors),
        _points(reference, joint_set, protocol, bodies, regressors),
        strict=True,
    )
    for one, two in pairs:
        _compare(one, two, joint_set, values, centred)
        for side, points in zip(worlds, (one, two), strict=True):
            if points.in_world is not None:
                side.append(points.in_world)
    result = {name: MM * np.concatenate(parts) for name, parts in values.items() if parts}
    if not protocol.with_vertices:
        result.pop("pve_mm", None)
    elif "pve_mm" not in result:
        left_out.setdefault("pve_mm", "the two bodies have different meshes")
    result |= _acceleration(centred, reference.sequence, protocol)
    result |= _world_metrics(worlds, protocol, left_out)
    return RecordingScore(result, len(at), len(wanted) - len(at), left_out)


def _reference(
    recording: Recording,
    index: npt.NDArray[np.int64],
    protocol: Protocol,
    bodies: Bodies,
    left_out: dict[str, str],
) -> _Side:
    sequence = take_frames(recording.sequence, index)
    cameras = _cameras(sequence)
    own = None if recording.joints is None else recording.joints[index]
    if JOINT_SETS[protocol.joint_set].regressed and recording.joint_set == "h36m17":
        return _Side(sequence, None, cameras, own)
    if not recording.has_body:
        raise DatasetError(
            f"{recording.name} has no SMPL parameters, which {protocol.name} needs: put the fits "
            "beside the data set (docs/datasets.md)"
        )
    try:
        return _Side(sequence, bodies.of(sequence), cameras)
    except DatasetError as error:
        if recording.joint_set != protocol.joint_set or own is None:
            raise
        left_out["pve_mm"] = str(error)
        return _Side(sequence, None, cameras, own)


def _check_is_smpl(predicted: Sequence, name: str, protocol: Protocol) -> None:
    if predicted.model_type != "smpl":
        raise DatasetError(
            f"the prediction for {name} is {predicted.model_type}, {protocol.name} compares SMPL's "
            "24 joints: give SMPL poses"
        )


def _prediction(predicted: Sequence, reference: _Side, bodies: Bodies) -> _Side:
    has_camera = predicted.world_to_camera is not None
    cameras = _cameras(predicted) if has_camera else reference.cameras
    return _Side(predicted, bodies.of(predicted), cameras)


def _cameras(sequence: Sequence) -> Array:
    cameras = np.asarray(sequence.world_to_camera, np.float64)
    return np.broadcast_to(cameras, (len(sequence), 4, 4))


def _points(
    side: _Side,
    joint_set: JointSet,
    protocol: Protocol,
    bodies: Bodies,
    regressors: Regressors,
) -> Iterator[_Points]:
    """Points of a sequence, a few frames at a time."""
    if side.body is None:
        assert side.joints is not None, "a side without a body has joints"
        for start in range(0, len(side.sequence), CHUNK):
            part = slice(start, start + CHUNK)
            joints = side.joints[part]
            yield _Points(
                _seen(joints, side.cameras[part]),
                None,
                None if joint_set.regressed else joints[:, :_WORLD_JOINTS],
            )
        return
    for part, posed in pose_in_chunks(side.sequence, side.body):
        full, vertices = _of_body(posed, side, joint_set, protocol, bodies, regressors)
        cameras = side.cameras[part]
        yield _Points(
            _seen(full, cameras),
            None if vertices is None else _seen(vertices, cameras),
            posed.joints[:, :_WORLD_JOINTS],
        )


def _of_body(
    posed: Posed,
    side: _Side,
    joint_set: JointSet,
    protocol: Protocol,
    bodies: Bodies,
    regressors: Regressors,
) -> tuple[Array, Array | None]:
    """All joints of the set, and the vertices that PVE compares, in the world."""
    vertices = posed.vertices
    if protocol.converts_mesh:
        return _converted(vertices, side.sequence, bodies, regressors)
    if joint_set.regressed:
        regressor = regressors.joint_regressor(vertices.shape[1])
        return regress(regressor, vertices), vertices if protocol.with_vertices else None
    return posed.joints, vertices if protocol.with_vertices else None


def _converted(
    vertices: Array, sequence: Sequence, bodies: Bodies, regressors: Regressors
) -> tuple[Array, Array]:
    """Joints and vertices of SMPL's mesh, also for an SMPL-X body."""
    if sequence.model_type == "smplx":
        matrix = regressors.mesh_regressor(vertices.shape[1])
        if matrix is None:
            raise DatasetError(
                "this protocol turns SMPL-X meshes into SMPL's: give smplx2smpl.pkl with "
                "--smplx-to-smpl, or take the protocol rich-22 (docs/datasets.md)"
            )
        vertices = regress(matrix, vertices)
    smpl = bodies.get("smpl", sequence.gender)
    regressor = smpl.J_regressor.double().cpu().numpy()
    if regressor.shape[1] != vertices.shape[1]:
        raise DatasetError(
            f"the SMPL body has {regressor.shape[1]} vertices, the converted mesh "
            f"{vertices.shape[1]}: give files that belong together"
        )
    return regress(regressor, vertices), vertices


def _compare(
    one: _Points,
    two: _Points,
    joint_set: JointSet,
    values: dict[str, list[Array]],
    centred: tuple[list[Array], list[Array]],
) -> None:
    """Adds the errors of some frames."""
    selected, roots = [], []
    for points, moved in zip((one, two), centred, strict=True):
        full = points.full
        root = full[:, list(joint_set.root)].mean(1, keepdims=True)
        selected.append(full[:, list(joint_set.chosen)])
        roots.append(root)
        moved.append(selected[-1] - root)
    values["mpjpe_mm"].append(metrics.mean_distance(centred[0][-1], centred[1][-1]))
    aligned = metrics.align_similarity(selected[0], selected[1])
    values["pa_mpjpe_mm"].append(metrics.mean_distance(aligned, selected[1]))
    if one.vertices is None or two.vertices is None:
        return
    if one.vertices.shape[1] == two.vertices.shape[1]:
        values["pve_mm"].append(
            metrics.mean_distance(one.vertices - roots[0], two.vertices - roots[1])
        )


def _acceleration(
    centred: tuple[list[Array], list[Array]], reference: Sequence, protocol: Protocol
) -> dict[str, Array]:
    """Acceleration error over runs of successive frames; nothing where frames are left out."""
    frames = np.asarray(reference.frame_indices)
    if protocol.stride != 1 or len(frames) < 3:
        return {}
    times = frames / reference.mocap_framerate
    one, two = (np.concatenate(parts) for parts in centred)
    errors = MM * metrics.acceleration_error(one, two, times)
    successive = (np.diff(frames)[1:] == 1) & (np.diff(frames)[:-1] == 1)
    return {"accel_mm_per_s2": errors[successive]} if successive.any() else {}


def _world_metrics(
    worlds: tuple[list[Array], list[Array]], protocol: Protocol, left_out: dict[str, str]
) -> dict[str, Array]:
    if not protocol.in_world:
        return {}
    if not worlds[0] or not worlds[1]:
        left_out["w_mpjpe_mm"] = left_out["wa_mpjpe_mm"] = "no joints in the world"
        return {}
    one, two = (np.concatenate(parts) for parts in worlds)
    first, everything = world_errors(one, two)
    path = root_trajectory_error(one[:, 0], two[:, 0])
    result = {"w_mpjpe_mm": MM * first, "wa_mpjpe_mm": MM * everything}
    if np.isfinite(path).all():
        result["rte_percent"] = path
    else:
        left_out["rte_percent"] = "the person never moves"
    return result


def _seen(points: Array, cameras: Array) -> Array:
    """Points (T, N, 3) in cameras (T, 4, 4)."""
    return points @ np.swapaxes(cameras[:, :3, :3], 1, 2) + cameras[:, None, :3, 3]
