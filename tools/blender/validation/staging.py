# SPDX-License-Identifier: GPL-3.0-or-later
"""Works out every scene of the set and writes it down: one job a picture, and the truth of all."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from posefit.body import BodyModel, PosedBody, PoseParameters, pose_body
from posefit_shared.body_arrays import BodyArrays

from .body_map import BodyMap, map_body
from .cameras import place_cameras
from .cast import FRAMES, Cast, Member, Neighbour, Obstacle, betas_of
from .decals import decal_file
from .drape import Piece, pose_piece
from .face import skin_colors
from .motion import Clip, MotionError, walk

__all__ = ["Staged", "Truth", "stage_member"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Truth:
    """What is true of one person's frames."""

    betas: Array
    """(N,) shape."""
    poses: Array
    """(T, 24, 3) rotation vectors."""
    trans: Array
    """(T, 3) metres."""
    intrinsics: Array
    """(3, 3) pixels."""
    world_to_camera: Array
    """(T, 4, 4)."""
    rows: Array
    """(T,) rows of the clip."""


@dataclass(frozen=True)
class Staged:
    """One person's truth and where the jobs for their pictures lie."""

    truth: Truth
    jobs: tuple[Path, ...]


@dataclass(frozen=True)
class _Wearer:
    """A member's body and clothes, ready to pose."""

    member: Member
    body: BodyMap
    pieces: list[Piece]


def stage_member(
    cast: Cast, index: int, body: BodyModel, arrays: BodyArrays, clips: dict[str, Clip],
    folder: Path, side: int,
) -> Staged:  # fmt: skip
    """Writes the jobs of one person's pictures.

    Args:
        cast: all people of the set.
        index: place in the cast.
        body: the body model.
        arrays: the same as read from its file.
        clips: motion.
        folder: where jobs go.
        side: of the pictures, pixels.

    Returns:
        The truth and the jobs.
    """
    member = cast.members[index]
    random = np.random.default_rng([cast.seed, index])
    truth, vertices, matrices = _perform(member, body, clips, random)
    wearer = _dress(member, arrays)
    intrinsics, views = place_cameras(member.shot, vertices[1::3], side, random)
    truth = Truth(
        truth.betas, truth.poses[1::3], truth.trans[1::3], intrinsics, views, truth.rows[1::3]
    )
    looks = _materials("person", wearer, folder)
    others: dict[int, dict[str, npt.NDArray]] = {}
    if member.neighbour is not None:
        other = _dress(cast.members[member.neighbour.member], arrays)
        random = np.random.default_rng([cast.seed, 1000 + member.neighbour.member])
        others = _neighbour_meshes(member.neighbour, other, body, clips, truth, random)
        other_looks = _materials("neighbour", other, folder)
    jobs = []
    for frame in range(FRAMES):
        moments = [3 * frame, 3 * frame + 1, 3 * frame + 2] if member.blur else [3 * frame + 1]
        meshes = _meshes(wearer, vertices[moments], matrices[moments], truth.poses[frame])
        job = _job(member, index, frame, truth, side) | {"seed": cast.scenery + index}
        job["materials"] = looks | (other_looks if frame in others else {})
        jobs.append(_write_job(job, _flatten("person", meshes) | others.get(frame, {}), folder))
    return Staged(truth, tuple(jobs))


def _write_job(job: dict[str, object], meshes: dict[str, npt.NDArray], folder: Path) -> Path:
    """Writes a scene and its meshes; returns the scene's file."""
    path = folder / f"{job['name']}.json"
    np.savez(path.with_suffix(".npz"), **meshes)
    path.write_text(json.dumps(job | {"digest": _digest(job, meshes)}))
    return path


def _perform(
    member: Member, body: BodyModel, clips: dict[str, Clip], random: np.random.Generator
) -> tuple[Truth, Array, Array]:
    """Truth, vertices and joint motions before, at and after each frame (3·T moments)."""
    if member.clip not in clips:
        raise MotionError(
            f"{member.name} needs the clip {member.clip}, that side of the pose file's split has "
            f"{len(clips)} clips without it: prepare it from all three archives"
        )
    frames = member.start + member.stride * np.arange(FRAMES)
    rows = np.round(2 * np.stack([frames - 1, frames, frames + 1], 1).ravel()) / 2
    betas = betas_of(member, body.num_betas)
    poses, path = walk(
        body, betas, clips[member.clip], rows, heading=member.heading, turn=member.turn,
        grounded=member.grounded,
    )  # fmt: skip
    poses[:, 22:] += random.normal(0, 0.1, (1, 2, 3))
    posed = _pose(body, betas, poses, path)
    lowest = posed.vertices.numpy().astype(np.float64)[..., 2].min(1)
    path = path.copy()
    path[:, 2] = -np.repeat(lowest[1::3], 3) + 0.018
    posed = _pose(body, betas, poses, path)
    truth = Truth(betas, poses, path, np.eye(3), np.eye(4)[None], rows)
    return truth, posed.vertices.numpy().astype(float), posed.joint_matrices.numpy().astype(float)


def _pose(body: BodyModel, betas: Array, poses: Array, trans: Array) -> PosedBody:
    """The posed bodies of all moments."""
    values = torch.from_numpy(poses.astype(np.float32))
    shape = torch.from_numpy(np.tile(betas.astype(np.float32), (len(poses), 1)))
    moved = torch.from_numpy(trans.astype(np.float32))
    return pose_body(body, PoseParameters(shape, values[:, 0], values[:, 1:], moved))


def _dress(member: Member, arrays: BodyArrays) -> _Wearer:
    body = map_body(arrays, betas_of(member, arrays.shapedirs.shape[2]))
    return _Wearer(member, body, member.outfit(body))


def _meshes(
    wearer: _Wearer, vertices: Array, matrices: Array, pose: Array
) -> dict[str, dict[str, npt.NDArray]]:
    """Skin and clothes of one person at one or three moments."""
    body, meshes = wearer.body, {}
    phase = 2.0 * float(np.abs(pose[1:]).sum())
    hidden = np.zeros(len(body.faces), bool)
    for piece in wearer.pieces:
        if len(piece.covers):
            hidden |= piece.covers
        places = [
            pose_piece(piece, body, skin, motion, phase)
            for skin, motion in zip(vertices, matrices, strict=True)
        ]
        meshes[piece.name] = {
            "positions": np.stack(places).astype(np.float32),
            "faces": piece.faces.astype(np.int32),
            "rest": piece.rest.astype(np.float32),
            "thickness": np.float32(piece.thickness_m),
        }
    meshes["skin"] = {
        "positions": vertices.astype(np.float32),
        "faces": body.faces[~hidden].astype(np.int32),
        "rest": body.rest.astype(np.float32),
        "color": skin_colors(body, np.array(wearer.member.skin)).astype(np.float32),
        "thickness": np.float32(0),
    }
    return meshes


def _neighbour_meshes(
    neighbour: Neighbour, wearer: _Wearer, body: BodyModel, clips: dict[str, Clip], truth: Truth,
    random: np.random.Generator,
) -> dict[int, dict[str, npt.NDArray]]:  # fmt: skip
    """Meshes of the second person in the frames that they are in, flattened."""
    its, vertices, matrices = _perform(wearer.member, body, clips, random)
    view = truth.world_to_camera[FRAMES // 2]
    right, forward = view[0, :3] * [1, 1, 0], view[2, :3] * [1, 1, 0]
    aside, behind = neighbour.place
    place = truth.trans.mean(0) * [1, 1, 0]
    place += aside * right / np.linalg.norm(right) + behind * forward / np.linalg.norm(forward)
    result = {}
    for frame in range(FRAMES):
        if not neighbour.frames[0] <= frame <= neighbour.frames[1]:
            continue
        moment = 3 * frame + 1
        shift = place - its.trans[moment] * [1, 1, 0]
        moved = matrices[moment : moment + 1].copy()
        moved[..., :3, 3] += shift
        skin = vertices[moment : moment + 1] + shift
        result[frame] = _flatten("neighbour", _meshes(wearer, skin, moved, its.poses[moment]))
    return result


def _materials(who: str, wearer: _Wearer, folder: Path) -> dict[str, dict]:
    """How each of a person's meshes looks; prints are drawn into the folder."""
    materials: dict[str, dict] = {
        f"{who}/skin": {"pattern": "skin", "colors": [list(wearer.member.skin)]}
    }
    for piece in wearer.pieces:
        words = dict(piece.material)
        if "decal" in words:
            words["decal_file"] = decal_file(words["decal"], words.get("text", ""), folder)
            words["middle_m"] = float(wearer.body.joints[9, 1] - 0.02)
        materials[f"{who}/{piece.name}"] = words
    return materials


def _flatten(who: str, meshes: dict[str, dict[str, npt.NDArray]]) -> dict[str, npt.NDArray]:
    return {
        f"{who}/{name}/{key}": value for name, mesh in meshes.items() for key, value in mesh.items()
    }


def _job(member: Member, index: int, frame: int, truth: Truth, side: int) -> dict[str, object]:
    """All of a picture's scene but its meshes and materials."""
    view = truth.world_to_camera[frame]
    middle = truth.trans[frame] + [0, 0, 0.0]
    return {
        "name": f"p{index:02d}_f{frame:02d}",
        "seed": 0,
        "size": [side, side],
        "intrinsics": truth.intrinsics.tolist(),
        "world_to_camera": view.tolist(),
        "first_world_to_camera": truth.world_to_camera[0].tolist(),
        "setting": member.setting,
        "light": asdict(member.light),
        "obstacles": [_stand(obstacle, truth) for obstacle in member.obstacles],
        "middle": (truth.trans.mean(0) * [1, 1, 0]).tolist(),
        "focus_m": float(view[2, :3] @ middle + view[2, 3]),
        "blur": member.blur,
        "f_stop": member.f_stop,
        "exposure": member.exposure,
        "look": member.look,
    }


def _digest(job: dict[str, object], meshes: dict[str, npt.NDArray]) -> str:
    """Changes with anything that a picture shows."""
    digest = hashlib.sha256(json.dumps(job, sort_keys=True).encode())
    for name in sorted(meshes):
        digest.update(name.encode() + np.ascontiguousarray(meshes[name]).tobytes())
    return digest.hexdigest()


def _stand(obstacle: Obstacle, truth: Truth) -> dict[str, object]:
    """An obstacle with its place on the ground."""
    view = truth.world_to_camera[obstacle.frame]
    camera = -view[:3, :3].T @ view[:3, 3]
    person = truth.trans[obstacle.frame]
    place = person + obstacle.nearness * (camera - person) + obstacle.aside_m * view[0, :3]
    away = camera - person
    return {
        "kind": obstacle.kind,
        "place": [float(place[0]), float(place[1])],
        "turn": float(np.arctan2(away[1], away[0])),
        "size": obstacle.size,
    }
