# SPDX-License-Identifier: Apache-2.0
"""People of the texture set: drawn as training draws them, in several lights and clothes.

One call a person; `make_texture_set` adds wrong starts and writes everything.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

import posefit
from posefit.body import load_body, vertex_normals
from posefit.rotations import axis_angle_to_matrix
from posefit.training import clothing, lighting, occlusion, photometry
from posefit.training.backgrounds import PhotoBank, photo_views
from posefit.training.config import GeneratorConfig
from posefit.training.drawing import Drawing
from posefit.training.draws import Draws
from posefit.training.generator import GeneratorAssets
from posefit.training.patterns import pattern_bank
from posefit.training.people import load_surface, pose_garments
from posefit.training.poses import PoseBank
from posefit.training.scenes import Posed, pose_by_matrices
from posefit.validation_set import PERSON
from questions.cases import TARGETS

__all__ = ["FRAMES", "SIZE", "MadePerson", "load_drawn_assets", "make_person"]

SIZE = 288
FRAMES = 6
SETTINGS = GeneratorConfig(
    people=1, frames=FRAMES, size=SIZE, garment_share=(0.5, 0.0, 0.65), loose_cloth_m=0.02,
    photo_cloth_share=0.0,
)  # fmt: skip
"""As training draws people, but nobody wears a skirt, which hides how legs are turned."""


@dataclass(frozen=True)
class Stage:
    """One person before the camera in all frames: what all pictures of the person share."""

    true: Posed
    betas: torch.Tensor
    intrinsics: torch.Tensor
    backdrop: torch.Tensor
    camera: photometry.CameraLook
    noise: torch.Tensor


@dataclass(frozen=True)
class Wear:
    """What the person has on, and the light."""

    dress: clothing.Dress
    look: clothing.Look
    lights: lighting.Lights


@dataclass(frozen=True)
class MadePerson:
    """Everything that is written of one person."""

    pictures: dict[str, npt.NDArray[np.uint8]]
    """By folder: (F, S, S, 3); the variants in the order of `TARGETS`."""
    masks: npt.NDArray[np.uint8]
    betas: npt.NDArray[np.float32]
    rotations: torch.Tensor
    """(F, 24, 3, 3) true local rotations, camera frame."""
    roots: torch.Tensor
    intrinsics: npt.NDArray[np.float64]


class DrawnBackgrounds(PhotoBank):
    """Squares of patterns in three muted colours, in the place of photographs."""

    def __init__(self, count: int, side: int) -> None:
        """Draws them.

        Args:
            count: how many.
            side: of each, pixels.
        """
        patterns = pattern_bank(2 * count, side, "cpu", validation=True).float()[..., None] / 255.0
        draws = Draws(6000, "cpu")
        colors = draws.uniform(count, 3, 1, 1, 3)
        colors = 0.3 * colors + 0.7 * draws.uniform(count, 3, 1, 1, 1)
        coarse, fine = patterns.roll(3, dims=0).split(count)
        squares = colors[:, 0] + (colors[:, 1] - colors[:, 0]) * coarse
        squares = squares + 0.5 * (colors[:, 2] - squares) * fine
        self.squares = (squares * 255).byte()


def load_drawn_assets(poses: Path) -> GeneratorAssets:
    """What the set is made of: the validation side's clips and patterns, no photographs."""
    body = load_body("free")
    garments = Path(posefit.__file__).parent / "assets/training/free_garments.npz"
    return GeneratorAssets(
        body,
        load_surface(body, garments),
        PoseBank(poses, "cpu", validation=True),
        DrawnBackgrounds(48, 320),
        pattern_bank(64, 128, "cpu", validation=True),
    )


def make_person(assets: GeneratorAssets, drawing: Drawing, seed: int) -> MadePerson:
    """Draws one person's body, poses, clothes and light, and takes the pictures.

    Args:
        assets: what pictures are made of.
        drawing: the rasterizer.
        seed: decides everything.
    """
    draws = Draws(seed, "cpu")
    rotations, roots, betas = _bodies(assets, draws)
    true = pose_by_matrices(assets.body, betas, rotations, roots)
    intrinsics = _cameras(true, draws)
    stage = Stage(
        true, betas, intrinsics, _backdrop(assets, draws),
        photometry.sample_camera_look(draws, SETTINGS),
        draws.normal(FRAMES, 3, SIZE, SIZE),
    )  # fmt: skip
    patterns, photos = len(assets.patterns), assets.photos
    wear = Wear(
        clothing.sample_dress(draws, assets.surface, SETTINGS),
        clothing.sample_look(draws, SETTINGS, patterns, photos),
        lighting.sample_lights(draws, SETTINGS),
    )
    other_light = dataclasses.replace(wear, lights=lighting.sample_lights(draws, SETTINGS))
    other_look = clothing.sample_look(draws, SETTINGS, patterns, photos)
    other_clothes = dataclasses.replace(wear, look=_same_skin(wear.look, other_look))
    images, masks = _photograph(assets, drawing, stage, wear)
    pictures = {"images": images}
    for name, changed in (("light", other_light), ("clothes", other_clothes)):
        pictures[name] = _photograph(assets, drawing, stage, changed)[0][list(TARGETS)]
    return MadePerson(
        pictures, masks, betas[0].numpy(), rotations, roots, intrinsics.double().numpy()
    )


def _bodies(
    assets: GeneratorAssets, draws: Draws
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Local rotations (F, 24, 3, 3), pelvis places (F, 3) and shape (F, 10), camera frame."""
    pose = assets.poses.sample(draws, 1, FRAMES, SETTINGS.random_pose_share)[0]
    rotations = axis_angle_to_matrix(pose)
    yaw = draws.uniform(1, high=6.2832) + draws.normal(FRAMES) * 0.7
    pitch = draws.normal(1) * 0.2 + draws.normal(FRAMES) * 0.03
    zero = torch.zeros(FRAMES)
    turn = axis_angle_to_matrix(torch.stack([pitch, zero, zero], 1)) @ axis_angle_to_matrix(
        torch.stack([zero, yaw, zero], 1)
    )
    flip = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    rotations = torch.cat([(flip @ turn @ rotations[:, 0])[:, None], rotations[:, 1:]], 1)
    distance = draws.log_uniform(1, low=2.2, high=6.0) * (1 + 0.05 * draws.normal(FRAMES))
    across = draws.uniform(1, low=-0.2, high=0.2) + draws.normal(FRAMES) * 0.03
    roots = torch.stack([across, draws.normal(FRAMES) * 0.02, torch.ones(FRAMES)], 1)
    betas = draws.normal(1, 10).clamp(-2.0, 2.0).expand(FRAMES, -1)
    return rotations, roots * distance[:, None], betas.contiguous()


def _cameras(true: Posed, draws: Draws) -> torch.Tensor:
    """Intrinsics (F, 3, 3) of pictures with all of the person in them."""
    rays = true.vertices[..., :2] / true.vertices[..., 2:]
    low, high = rays.amin(1), rays.amax(1)
    extent = (high - low).amax(1)
    middle = (low + high) / 2 + draws.normal(FRAMES, 2) * 0.02 * extent[:, None]
    focal = SIZE / (extent * draws.uniform(FRAMES, low=1.15, high=1.35))
    intrinsics = torch.eye(3).repeat(FRAMES, 1, 1)
    intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = focal
    intrinsics[:, :2, 2] = SIZE / 2 - middle * focal[:, None]
    return intrinsics


def _backdrop(assets: GeneratorAssets, draws: Draws) -> torch.Tensor:
    photos = draws.integers(len(assets.photos), 1).expand(FRAMES)
    return photo_views(assets.photos, draws, photos, SIZE, (0.3, 1.0))


def _same_skin(before: clothing.Look, after: clothing.Look) -> clothing.Look:
    """Other clothes on the same person: skin and hair stay."""
    kept = torch.zeros(clothing.PIECES, dtype=torch.bool)
    kept[[clothing.SKIN, clothing.HAIR]] = True

    def chosen(name: str) -> torch.Tensor:
        old, new = getattr(before, name), getattr(after, name)
        return torch.where(kept.view(-1, *[1] * (old.ndim - 1)), old, new)

    names = [one.name for one in dataclasses.fields(before)]
    return clothing.Look(**{name: chosen(name) for name in names})


def _photograph(
    assets: GeneratorAssets, drawing: Drawing, stage: Stage, wear: Wear
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Pictures (F, S, S, 3) of the dressed person and where the person is (F, S, S)."""
    surface, size = assets.surface, (SIZE, SIZE)
    bare = pose_garments(surface, stage.betas, stage.true)
    normals = vertex_normals(bare, surface.faces.long())
    vertices = (bare + normals * wear.dress.offset[..., None]).contiguous()
    faces_on = wear.dress.faces_on.expand(FRAMES, -1)
    drawn = drawing.rasterize(vertices, surface.faces, stage.intrinsics, size, face_mask=faces_on)
    shared = torch.cat([surface.rest, surface.colors], 1).expand(FRAMES, -1, -1)
    seen = drawing.interpolate(drawn, surface.faces, torch.cat([shared, normals], 2))
    rest, colors, normals = seen.permute(0, 3, 1, 2).split(3, dim=1)
    borders = [value[:, :, None] for value in (wear.dress.sleeve, wear.dress.waist, wear.dress.leg)]
    piece = clothing.pieces_of(
        colors, drawn.pix_to_face, surface.part_ranges, surface.part_names, *borders
    )
    color = clothing.albedo(rest, piece, wear.look, assets.patterns, assets.photos.squares)
    sun = _sun_share(assets, drawing, stage, wear, vertices, drawn)
    dressed = ((piece != clothing.SKIN) & (piece != clothing.HAIR)).float()
    normals = torch.nn.functional.normalize(normals, dim=1)
    lit = lighting.shade(color, normals, rest, sun, dressed, wear.lights)
    on_body = drawn.pix_to_face >= 0
    images = torch.where(on_body[:, None], lit, stage.backdrop)
    images = photometry.blur(images, stage.camera.kernels)
    tables = photometry.jpeg_tables("cpu")
    images = photometry.develop(images, stage.noise, stage.camera, tables)
    pixels = (images.permute(0, 2, 3, 1) * 255).round().byte().numpy()
    return pixels, (on_body.byte() * PERSON).numpy()


def _sun_share(
    assets: GeneratorAssets,
    drawing: Drawing,
    stage: Stage,
    wear: Wear,
    vertices: torch.Tensor,
    drawn: Any,
) -> torch.Tensor:
    """Share of the sun at each pixel's surface point, by a shadow map."""
    centres = stage.true.joints[:, 0]
    transform, intrinsics = lighting.light_cameras(wear.lights, centres, SIZE)
    lit = vertices @ transform[:, :3, :3].transpose(1, 2) + transform[:, None, :3, 3]
    shadows = drawing.rasterize(
        lit.contiguous(), assets.surface.faces, intrinsics, (SIZE, SIZE),
        face_mask=wear.dress.faces_on.expand(FRAMES, -1),
    )  # fmt: skip
    x, y = occlusion.pixel_grid(SIZE, torch.device("cpu"))
    k = stage.intrinsics
    rays = torch.stack(
        [(x - k[:, 0, 2, None, None]) / k[:, 0, 0, None, None],
         (y - k[:, 1, 2, None, None]) / k[:, 1, 1, None, None],
         torch.ones_like(drawn.zbuf)], 3,
    )  # fmt: skip
    points = rays * drawn.zbuf[..., None]
    return lighting.sunlit(points, transform, intrinsics, shadows.zbuf)
