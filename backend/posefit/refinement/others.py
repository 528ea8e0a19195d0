# SPDX-License-Identifier: Apache-2.0
"""The other people of a clip: which of this person's surface they hide from the camera.

Whoever stands before somebody looks, to a search for correspondence, like a part of them. So the
others are rendered too: what lies behind them is known to be hidden, pulls nothing, paints no
texture and is told no keypoint. They are where their own sequences put them; nobody moves here.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence as Many
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from posefit_shared.messages import OtherPeople
from posefit_shared.sequence import Sequence, SequenceError

from ..body import BodyModel, PoseParameters, pose_body
from ..crop import crop_intrinsics, square_boxes
from ..parameters import parameters_of_sequence
from ..rasterizer import Fragments, rasterize
from ..solver import Evidence, LandmarkPixels
from ..views import View
from .pictures import project_points

__all__ = ["Occluders", "OtherPerson", "in_camera_of", "in_frames_of", "in_world_of"]

logger = logging.getLogger(__name__)

_Kind = TypeVar("_Kind", bound=Evidence)

_NEARER_M = 0.02
"""Depth by which another surface must lie before this one to hide it: bodies that touch do not."""
_FRAMES_APART = 2
"""Decoded frames within which somebody is taken to be where they were: tools leave frames out."""
_SAME_PERSON = 0.1
"""Mean distance of joints in the picture, by the person's size there, below which two sequences
are of one person."""
_COMPARED_FRAMES = 32
_POSED_AT_ONCE = 64
_MAP_SIZE = 192
"""Side of the depth maps in which landmarks are looked up, pixels."""


@dataclass(frozen=True)
class OtherPerson:
    """Somebody else, in the frames and the world of the sequence that is refined."""

    sequence: Sequence
    """Their motion."""
    rows: npt.NDArray[np.int64]
    """(T,) its row for each frame of the refined sequence; −1 where it has none."""
    to_world: npt.NDArray[np.float64]
    """(T, 4, 4) from their world to the refined sequence's."""


def in_world_of(sequence: Sequence, others: Many[Sequence]) -> tuple[OtherPerson, ...]:
    """People of one shot, whose motions are in one world.

    Args:
        sequence: the one that is refined.
        others: everybody else.
    """
    same = np.broadcast_to(np.eye(4), (len(sequence), 4, 4))
    return tuple(OtherPerson(one, _rows_of(sequence, one), same) for one in others)


def in_camera_of(sequence: Sequence, others: Many[Sequence]) -> tuple[OtherPerson, ...]:
    """People of one footage, each with the camera that filmed them in a world of their own.

    Where the focal lengths differ, the others are put where this sequence's camera sees them at the
    same pixels in the same size.

    Args:
        sequence: the one that is refined.
        others: everybody else.

    Raises:
        SequenceError: one has no camera, or one for pictures of another size.
    """
    return tuple(_through_camera(sequence, one) for one in others)


def in_frames_of(sequence: Sequence, people: OtherPeople) -> tuple[OtherPerson, ...]:
    """People who came with a sequence, on its very frames.

    Args:
        sequence: the one that is refined.
        people: everybody else, on as many frames.
    """
    count = len(sequence)
    found = []
    for k in range(len(people.poses)):
        motion = Sequence(
            poses=people.poses[k],
            trans=people.trans[k],
            betas=people.betas[k],
            frame_indices=sequence.frame_indices,
        )
        rows = np.where(people.is_there[k] > 0, np.arange(count), -1)
        to_world = np.broadcast_to(people.to_world[k], (count, 4, 4))
        found.append(OtherPerson(motion, rows, to_world))
    return tuple(found)


def _through_camera(sequence: Sequence, other: Sequence) -> OtherPerson:
    rows = _rows_of(sequence, other)
    to_world = np.tile(np.eye(4), (len(rows), 1, 1))
    for t in np.flatnonzero(rows >= 0):
        own, theirs = sequence.camera(int(t)), other.camera(int(rows[t]))
        if tuple(own.image_size) != tuple(theirs.image_size):
            raise SequenceError(
                f"another person's camera is for pictures of {theirs.image_size[0]} × "
                f"{theirs.image_size[1]}, this one's for {own.image_size[0]} × "
                f"{own.image_size[1]}: give people of the same footage"
            )
        seen = np.eye(4)
        zoom = own.intrinsics[0, 0] / theirs.intrinsics[0, 0]
        seen[:3, :3] = zoom * np.linalg.inv(own.intrinsics) @ theirs.intrinsics
        to_world[t] = np.linalg.inv(own.world_to_camera) @ seen @ theirs.world_to_camera
    return OtherPerson(other, rows, to_world)


def _rows_of(sequence: Sequence, other: Sequence) -> npt.NDArray[np.int64]:
    """(T,) the other's row at each frame of a sequence; −1 where they were not seen."""
    wanted, known = sequence.frame_indices, other.frame_indices
    assert wanted is not None, "a Sequence always has frame_indices"
    assert known is not None, "a Sequence always has frame_indices"
    status = np.array(other.status or ("",) * len(other))
    seen = np.flatnonzero(status != "no_person")
    if not len(seen):
        return np.full(len(sequence), -1)
    apart = np.abs(known[seen][None] - wanted[:, None])
    nearest = apart.argmin(1)
    is_near = apart[np.arange(len(wanted)), nearest] <= _FRAMES_APART
    return np.where(is_near, seen[nearest], -1)


@dataclass(frozen=True)
class _Placed:
    """Another person on the body's device; their rows stay here, so that no GPU is waited for."""

    parameters: PoseParameters
    rows: npt.NDArray[np.int64]
    to_world: Tensor


@dataclass(frozen=True)
class Occluders:
    """Everybody else of a clip, ready to be rendered."""

    body: BodyModel
    people: tuple[_Placed, ...]

    @classmethod
    def of(
        cls, sequence: Sequence, others: Many[OtherPerson], views: Many[View], body: BodyModel
    ) -> Occluders | None:
        """The others who are somebody else; None where there is nobody.

        Args:
            sequence: the one that is refined.
            others: everybody else.
            views: pictures of it.
            body: poses all of them; its device is where everything runs.
        """
        people = []
        for k, other in enumerate(others):
            if other.sequence.poses.shape[1] != body.num_joints:
                logger.warning(
                    "other person %d poses %d joints, this body has %d: they cannot be drawn and "
                    "hide nothing", k + 1, other.sequence.poses.shape[1], body.num_joints,
                )  # fmt: skip
                continue
            placed = _Placed(
                parameters_of_sequence(other.sequence, body),
                other.rows,
                torch.tensor(other.to_world, dtype=body.dtype, device=body.device),
            )
            if _is_same_person(sequence, placed, views, body):
                logger.warning(
                    "other person %d lies over this one in the picture: they are taken for the "
                    "same person, who hides nothing", k + 1,
                )  # fmt: skip
            elif (placed.rows >= 0).any():
                people.append(placed)
        return cls(body, tuple(people)) if people else None

    def of_frames(self, frames: Int[Tensor, " frame"]) -> Occluders:
        """The same people for some frames of the sequence, which then count from 0."""
        rows, there = frames.cpu().numpy(), frames.to(self.body.device)
        people = (
            replace(one, rows=one.rows[rows], to_world=one.to_world[there]) for one in self.people
        )
        return Occluders(self.body, tuple(people))

    def depth(
        self,
        frames: Many[int],
        world_to_camera: Float[Tensor, "batch 4 4"],
        intrinsics: Float[Tensor, "batch 3 3"],
        image_size: tuple[int, int],
        *,
        backend: str = "warp",
    ) -> Float[Tensor, "batch height width"]:
        """Camera z of the nearest other person at each pixel; infinite where nobody is.

        Args:
            frames: of the refined sequence, one for each picture.
            world_to_camera: from the refined sequence's world, metres.
            intrinsics: pinhole, pixels.
            image_size: height and width, pixels.
            backend: of the rasterizer.
        """
        nearest = world_to_camera.new_full((len(frames), *image_size), torch.inf)
        at = np.asarray(list(frames))
        for one in self.people:
            known = np.flatnonzero(one.rows[at] >= 0)
            if not len(known):
                continue
            seen, frame, row = (
                torch.from_numpy(index).to(nearest.device)
                for index in (known, at[known], one.rows[at[known]])
            )
            posed = pose_body(self.body, one.parameters[row]).vertices
            to_camera = world_to_camera[seen] @ one.to_world[frame].to(world_to_camera)
            in_camera = posed @ to_camera[:, :3, :3].transpose(1, 2) + to_camera[:, None, :3, 3]
            drawn = rasterize(
                in_camera, self.body.faces, intrinsics[seen], image_size, backend=backend
            ).zbuf
            nearest[seen] = torch.minimum(nearest[seen], torch.where(drawn > 0, drawn, torch.inf))
        return nearest

    def hide(
        self,
        fragments: Fragments,
        frames: Many[int],
        world_to_camera: Float[Tensor, "batch 4 4"],
        intrinsics: Float[Tensor, "batch 3 3"],
        *,
        backend: str = "warp",
    ) -> Fragments:
        """What the camera sees of this person: fragments behind somebody else are emptied.

        Args:
            fragments: of this person's rendering alone.
            frames: of the refined sequence, one for each picture.
            world_to_camera: as for `depth`.
            intrinsics: of the rendering.
            backend: of the rasterizer.
        """
        size = (fragments.zbuf.shape[1], fragments.zbuf.shape[2])
        others = self.depth(frames, world_to_camera, intrinsics, size, backend=backend)
        hidden = others < fragments.zbuf - _NEARER_M
        return Fragments(
            pix_to_face=fragments.pix_to_face.masked_fill(hidden, -1),
            bary_coords=fragments.bary_coords.masked_fill(hidden[..., None], -1.0),
            zbuf=fragments.zbuf.masked_fill(hidden, -1.0),
        )

    def hide_landmarks(self, evidence: Many[_Kind], sequence: Sequence) -> list[_Kind]:
        """The evidence without landmarks that lie behind somebody else: detectors put them on
        whoever is in front.

        Args:
            evidence: a row for each frame of the sequence; what is not landmarks stays.
            sequence: where this person is thought to be.
        """
        parameters = parameters_of_sequence(sequence, self.body)
        return [
            replace(one, weights=one.weights * ~self._hidden_landmarks(one, parameters))
            if isinstance(one, LandmarkPixels)
            else one
            for one in evidence
        ]

    def _hidden_landmarks(
        self, evidence: LandmarkPixels, parameters: PoseParameters
    ) -> Bool[Tensor, "frame landmark"]:
        bound = evidence.table.bind(self.body, self.body.dtype)
        parts = []
        for first in range(0, len(parameters), _POSED_AT_ONCE):
            part = slice(first, first + _POSED_AT_ONCE)
            posed = pose_body(self.body, parameters[part])
            sources = torch.cat([posed.joints, posed.vertices[:, bound.vertices]], 1)
            points = bound.mixture.T @ sources
            parts.append(
                self._behind(
                    points, range(first, first + len(points)),
                    evidence.world_to_camera[part].to(points), evidence.intrinsics[part].to(points),
                )
            )  # fmt: skip
        return torch.cat(parts)

    def _behind(
        self, points: Tensor, frames: range, world_to_camera: Tensor, intrinsics: Tensor
    ) -> Bool[Tensor, "batch point"]:
        """Which points lie behind somebody else."""
        boxes = square_boxes(project_points(points, world_to_camera, intrinsics).cpu().numpy())
        boxes = np.nan_to_num(boxes, nan=1.0)
        cropped, _ = crop_intrinsics(intrinsics.cpu().numpy(), boxes, _MAP_SIZE)
        lens = torch.tensor(cropped, dtype=points.dtype, device=points.device)
        depth = self.depth(frames, world_to_camera, lens, (_MAP_SIZE, _MAP_SIZE))
        pixels = project_points(points, world_to_camera, lens)
        own = (points @ world_to_camera[:, :3, :3].mT + world_to_camera[:, None, :3, 3])[..., 2]
        inside = ((pixels >= 0) & (pixels < _MAP_SIZE)).all(-1)
        column, row = pixels.nan_to_num(0.0).clamp(0, _MAP_SIZE - 1).long().unbind(-1)
        batch = torch.arange(len(points), device=points.device)[:, None]
        return inside & (depth[batch, row, column] < own - _NEARER_M)


def _is_same_person(sequence: Sequence, other: _Placed, views: Many[View], body: BodyModel) -> bool:
    """Whether two sequences lie over each other in the picture wherever both are known."""
    shared = np.flatnonzero(other.rows >= 0)
    if not len(shared) or not views:
        return False
    places = np.linspace(0, len(shared) - 1, min(len(shared), _COMPARED_FRAMES)).round()
    chosen = shared[places.astype(int)]
    frames, rows = (
        torch.from_numpy(index).to(body.device) for index in (chosen, other.rows[chosen])
    )
    cameras = [views[0].camera(int(t)) for t in chosen]
    world_to_camera = np.stack([camera.world_to_camera for camera in cameras])
    extrinsics = torch.tensor(world_to_camera, dtype=body.dtype, device=body.device)
    lens = torch.tensor(np.stack([camera.intrinsics for camera in cameras])).to(extrinsics)
    own = pose_body(body, parameters_of_sequence(sequence, body)[frames]).joints
    theirs = pose_body(body, other.parameters[rows]).joints
    placed = other.to_world[frames]
    theirs = theirs @ placed[:, :3, :3].mT + placed[:, None, :3, 3]
    first, second = (project_points(joints, extrinsics, lens) for joints in (own, theirs))
    size = (first.amax(1) - first.amin(1)).norm(dim=-1).clamp_min(1e-6)
    apart = (first - second).norm(dim=-1).mean(1) / size
    return bool(apart.nan_to_num(torch.inf).median() < _SAME_PERSON)
