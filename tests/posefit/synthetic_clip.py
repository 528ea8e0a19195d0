# SPDX-License-Identifier: Apache-2.0
"""A made-up clip with exact truth, and an estimator that really looks at its pictures.

Frames show the true body painted with its own vertex colours. `ColorMatcher` finds, for pixels of
the rendered estimate, where the frame shows the same colour: correspondence without learning.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from posefit.body import BodyModel, pose_body
from posefit.displacement import DisplacementField
from posefit.footage import Footage
from posefit.modalities import Modalities, render_modalities
from posefit.parameters import parameters_of_sequence
from posefit.pipeline import Clip, refine
from posefit.views import View, view_of_sequence
from posefit_shared.sequence import Sequence
from posefit_shared.settings import RefineSettings

SIZE = (240, 320)
"""Width and height, pixels."""


class ArrayFootage(Footage):
    """Footage that lies in memory."""

    def __init__(self, images: np.ndarray, fps: float = 30.0):
        self.path = Path("memory")
        self.images = images
        self.size = (images.shape[2], images.shape[1])
        self.fps = fps

    def __len__(self) -> int:
        return len(self.images)

    def read(self, index: int) -> np.ndarray:
        """One frame."""
        self._check_index(index)
        return self.images[index]


class ColorMatcher:
    """Finds each rendered colour again in the frame."""

    name = "color matcher"

    def __init__(self, samples: int = 400):
        self.samples = samples

    def predict(self, images: torch.Tensor, modalities: Modalities) -> DisplacementField:
        """Displacement at some pixels; the others count as invisible."""
        batch, _, height, width = images.shape
        displacement = torch.zeros(batch, height, width, 2)
        visibility = torch.zeros(batch, height, width)
        generator = torch.Generator().manual_seed(0)
        for b in range(batch):
            rows, columns = (modalities.mask[b, 0] > 0).nonzero(as_tuple=True)
            if not len(rows):
                continue
            chosen = torch.randperm(len(rows), generator=generator)[: self.samples]
            rows, columns = rows[chosen], columns[chosen]
            wanted = modalities.vertex_colors[b][:, rows, columns].T
            seen_rows, seen_columns = (images[b].sum(0) > 0.05).nonzero(as_tuple=True)
            if not len(seen_rows):
                continue
            seen = images[b][:, seen_rows, seen_columns].T
            distance, nearest = torch.cdist(wanted, seen).min(1)
            displacement[b, rows, columns, 0] = (seen_columns[nearest] - columns).float()
            displacement[b, rows, columns, 1] = (seen_rows[nearest] - rows).float()
            visibility[b, rows, columns] = (distance < 0.02).float()
        return DisplacementField(displacement, torch.ones(batch, height, width), visibility)


class SoftMatcher:
    """As `ColorMatcher`, but what it finds moves little when pictures differ little: each pixel's
    place is the mean of all that show nearly its colour. Works where the pictures lie."""

    name = "soft matcher"
    WIDTH = 0.02
    """How far colours may be apart, of 1."""

    def predict(self, images: torch.Tensor, modalities: Modalities) -> DisplacementField:
        """Displacement at all pixels; visibility tells how many others show their colour."""
        batch, _, height, width = images.shape
        rows, columns = torch.meshgrid(
            *(torch.arange(n, device=images.device) + 0.5 for n in (height, width)), indexing="ij"
        )
        place = torch.stack([columns, rows], -1).reshape(-1, 2)
        found, support = [], []
        for wanted, seen in zip(modalities.vertex_colors, images, strict=True):
            likeness = torch.cdist(wanted.flatten(1).T, seen.flatten(1).T).div(self.WIDTH)
            weight = likeness.square().neg().exp() * (seen.flatten(1).sum(0) * 20 - 1).clamp(0, 1)
            total = weight.sum(1)
            found.append((weight @ place) / (total[:, None] + 1e-6) - place)
            support.append(total / (total + 0.3))
        seen = torch.stack(support).reshape(batch, height, width) * modalities.mask[:, 0]
        moved = torch.stack(found).reshape(batch, height, width, 2)
        return DisplacementField(moved, torch.ones_like(seen), seen)


def camera(yaw: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Intrinsics and world_to_camera of a camera 4 m from the origin, 1 m up, looking at it."""
    intrinsics = np.array([[420.0, 0, 120], [0, 420.0, 160], [0, 0, 1]])
    turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [0, 0, -1.0], [np.sin(yaw), np.cos(yaw), 0]])
    world_to_camera = np.eye(4)
    world_to_camera[:3, :3] = turn
    world_to_camera[:3, 3] = turn @ np.array([0, 0, -0.9]) + [0, 0, 4.0]
    return intrinsics, world_to_camera


def true_sequence(body: BodyModel, frames: int, rng: np.random.Generator) -> Sequence:
    """A person who stands before the camera, swings the arms and turns a little."""
    poses = np.zeros((frames, 24, 3), np.float32)
    phase = np.linspace(0, 1.5, frames)
    poses[:, 0] = [np.pi / 2, 0, 0]
    poses[:, 16, 2] = -1.1 + 0.4 * np.sin(phase)
    poses[:, 17, 2] = 1.1 + 0.3 * np.sin(phase)
    poses[:, 18, 1] = -0.5 - 0.3 * phase
    poses[:, 19, 1] = 0.6
    poses[:, 4, 0] = 0.2 + 0.2 * phase
    poses[:, 1, 0] = -0.2 * phase
    poses[:, 1:] += rng.normal(size=(23, 3)) * 0.03
    intrinsics, world_to_camera = camera()
    trans = np.zeros((frames, 3), np.float32)
    trans[:, 2] = 1.0
    return Sequence(
        poses=poses, trans=trans, betas=rng.normal(size=10) * 0.3, body=body.content_hash,
        intrinsics=intrinsics, world_to_camera=world_to_camera, image_size=SIZE,
    )  # fmt: skip


def disturbed(
    truth: Sequence, rng: np.random.Generator, angle: float = 0.12, shift_m: float = 0.04
) -> Sequence:
    """The sequence with an error that is the same in all frames, and a little more in each."""
    frames = len(truth)
    shared = rng.normal(size=(1, 24, 3)) * angle * 0.8
    own = rng.normal(size=(frames, 24, 3)) * angle * 0.3
    own[:, [10, 11, 22, 23]] = shared[:, [10, 11, 22, 23]] = 0
    return truth.replace(
        poses=truth.poses + shared + own,
        trans=truth.trans + rng.normal(size=(1, 3)) * shift_m,
    )


def filmed(body: BodyModel, truth: Sequence) -> ArrayFootage:
    """Pictures of the true sequence through its camera, in vertex colours on black."""
    frames = len(truth)
    vertices = pose_body(body, parameters_of_sequence(truth, body)).vertices
    cameras = [truth.camera(t) for t in range(frames)]
    stacked = [
        torch.tensor(np.stack([getattr(c, name) for c in cameras]), dtype=torch.float32)
        for name in ("world_to_camera", "intrinsics")
    ]
    modalities, _ = render_modalities(body, vertices, *stacked, (SIZE[1], SIZE[0]))
    images = (modalities.vertex_colors.permute(0, 2, 3, 1) * 255).round().byte().numpy()
    return ArrayFootage(images)


def vertex_error_mm(body: BodyModel, first: Sequence, second: Sequence) -> np.ndarray:
    """(T,) mean distance of vertices about the pelvis, millimetres."""
    a, b = (pose_body(body, parameters_of_sequence(s, body)) for s in (first, second))
    difference = (a.vertices - a.joints[:, :1]) - (b.vertices - b.joints[:, :1])
    return (difference.norm(dim=-1).mean(1) * 1e3).numpy()


def filmed_clip(body: BodyModel, seed: int, frames: int) -> tuple[Sequence, View]:
    """A start and its pictures, of another person in other poses for each seed."""
    rng = np.random.default_rng(seed)
    truth = true_sequence(body, frames, rng)
    start = disturbed(truth, rng)
    return start, view_of_sequence(start, filmed(body, truth))


def refined(body: BodyModel, start: Sequence, view: View) -> Sequence:
    """What a quick refinement of a clip gives."""
    settings = RefineSettings(crop_size=64, solver_iterations=4)
    clip = Clip(start, [view])
    return refine(clip, body=body, estimator=ColorMatcher(), settings=settings).sequence


def refined_clip(body: BodyModel, seed: int, frames: int = 3) -> Sequence:
    """What refining `filmed_clip` gives."""
    return refined(body, *filmed_clip(body, seed, frames))
