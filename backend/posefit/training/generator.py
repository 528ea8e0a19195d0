# SPDX-License-Identifier: Apache-2.0
"""Batches of synthetic samples: people in pictures, wrong estimates of them, true displacements.

One batch is several people over several frames each, so that every frame's texture comes from the
others under their wrong estimates, as it does in use. Everything runs on one device; the steps are
the modules of this package, in the order of `Generator.batch`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..body import BodyModel, vertex_normals
from ..displacement.inputs import network_inputs
from . import clothing, lighting, occlusion, personal_texture, photometry
from .backgrounds import PhotoBank, photo_views
from .batch import SyntheticModalities, TrainingBatch
from .config import GeneratorConfig
from .drawing import Drawing
from .draws import Draws
from .estimate_errors import Errors
from .patterns import pattern_bank
from .people import ClothedSurface, load_surface, pose_garments
from .poses import PoseBank
from .scenes import Scene, build_scene, draw_scene, project

__all__ = ["Generator", "GeneratorAssets", "Truth", "load_assets"]

LARGEST_DISPLACEMENT = 128.0
"""Pixels beyond which a displacement doesn't count (at 256² crops)."""
HIDDEN_MARGIN_M = 0.06
"""A surface point this far behind what the picture shows is hidden; cloth may be in between."""


@dataclass(frozen=True)
class GeneratorAssets:
    """What pictures are made of, on one device, one side of the split."""

    body: BodyModel
    surface: ClothedSurface
    poses: PoseBank
    photos: PhotoBank
    patterns: Tensor


@dataclass(frozen=True)
class Truth:
    """How a batch came about, for validation and tests."""

    scene: Scene
    fragments: Any
    """Rendering of the estimates."""


@dataclass(frozen=True)
class _Picture:
    """Frames as photographed, and what tests of visibility need."""

    images: Float[Tensor, "batch 3 height width"]
    depth: Float[Tensor, "batch height width"]
    person: Bool[Tensor, "batch height width"]
    covered: Bool[Tensor, "batch height width"]


def load_assets(
    folder: Path, garments: Path, body: BodyModel, *, validation: bool
) -> GeneratorAssets:
    """Reads all that pictures are made of.

    Args:
        folder: with poses.npz and backgrounds.npz.
        garments: garment file of the body.
        body: whom to show, on the device to work on.
        validation: which side of the split.
    """
    device = body.device
    return GeneratorAssets(
        body,
        load_surface(body, garments),
        PoseBank(folder / "poses.npz", device, validation=validation),
        PhotoBank(folder / "backgrounds.npz", device, validation=validation),
        pattern_bank(64 if validation else 512, 128, device, validation=validation),
    )


class Generator:
    """Makes batches; two with equal seeds and settings make equal ones."""

    def __init__(
        self, assets: GeneratorAssets, drawing: Drawing, config: GeneratorConfig, seed: int
    ) -> None:
        """Takes what it needs; nothing is drawn yet.

        Args:
            assets: what pictures are made of.
            drawing: the rasterizer.
            config: what they are like.
            seed: of the random numbers.
        """
        self.assets, self.drawing, self.config = assets, drawing, config
        self.draws = Draws(seed, assets.body.device)
        self._albedo, self._shade, self._sunlit = clothing.albedo, lighting.shade, lighting.sunlit
        self._develop, self._median = photometry.develop, personal_texture.median_color
        self._views, self._build_scene = personal_texture.source_views, build_scene
        self._tables = photometry.jpeg_tables(assets.body.device)

    def compile(self) -> None:
        """Compiles the steps that work on every pixel; worth it for long runs."""
        for name in (
            "_albedo",
            "_shade",
            "_sunlit",
            "_develop",
            "_median",
            "_views",
            "_build_scene",
        ):
            setattr(self, name, torch.compile(getattr(self, name), dynamic=False))

    def batch(self) -> TrainingBatch:
        """The next batch."""
        return self.batch_with_truth()[0]

    @torch.no_grad()
    def batch_with_truth(
        self, *, errors: Errors | None = None, twists: Tensor | None = None
    ) -> tuple[TrainingBatch, Truth]:
        """The next batch and how it came about.

        Args:
            errors: of the estimates, in place of drawn ones.
            twists: of the estimates' segments, in place of drawn ones.
        """
        drawn = draw_scene(self.assets.poses, self.draws, self.config)
        if errors is not None:
            drawn = dataclasses.replace(drawn, errors=errors)
        if twists is not None:
            drawn = dataclasses.replace(drawn, twists=twists)
        scene = self._build_scene(self.assets.body, drawn, self.config.size)
        picture = self._photograph(scene)
        size = (self.config.size, self.config.size)
        faces = self.assets.body.faces
        fragments = self.drawing.rasterize(
            scene.estimated.vertices, faces, scene.intrinsics, size, face_mask=None
        )
        modalities, rendered_truth = self._render_estimate(scene, fragments, picture)
        render, image = network_inputs(picture.images, modalities)
        displacement, mask, visible = self._displacement(scene, fragments, rendered_truth, picture)
        batch = TrainingBatch(render, image, displacement, mask, visible)
        return batch, Truth(scene, fragments)

    def _photograph(self, scene: Scene) -> _Picture:
        """Frames that show the true people, dressed, lit, before backgrounds, behind objects."""
        config, draws, assets = self.config, self.draws, self.assets
        surface, size = assets.surface, (config.size, config.size)
        person = torch.arange(config.people, device=draws.device).repeat_interleave(config.frames)
        dress = clothing.sample_dress(draws, surface, config)
        look = clothing.sample_look(draws, config, len(assets.patterns), assets.photos)
        lights = lighting.sample_lights(draws, config)
        bare = pose_garments(surface, scene.true_betas, scene.true)
        normals = vertex_normals(bare, surface.faces.long())
        vertices = (bare + normals * dress.offset[person][..., None]).contiguous()
        faces_on = dress.faces_on[person]
        drawn = self.drawing.rasterize(
            vertices, surface.faces, scene.true_intrinsics, size, face_mask=faces_on
        )
        shared = torch.cat([surface.rest, surface.colors], dim=1)
        attributes = torch.cat([shared.expand(len(person), -1, -1), normals], dim=2)
        seen = self.drawing.interpolate(drawn, surface.faces, attributes).permute(0, 3, 1, 2)
        rest, colors, normals = seen.split(3, dim=1)
        on_body = drawn.pix_to_face >= 0
        piece = clothing.pieces_of(
            colors, drawn.pix_to_face, surface.part_ranges, surface.part_names,
            *(value[person][:, :, None] for value in (dress.sleeve, dress.waist, dress.leg)),
        )  # fmt: skip
        color = self._albedo(
            rest, piece + person[:, None, None] * clothing.PIECES, look,
            assets.patterns, assets.photos.squares,
        )  # fmt: skip
        sun_share = self._sun_share(scene, vertices, faces_on, drawn, lights)
        dressed = ((piece != clothing.SKIN) & (piece != clothing.HAIR)).float()
        normals = torch.nn.functional.normalize(normals, dim=1)
        color = self._shade(color, normals, rest, sun_share, dressed, lights)
        images = torch.where(on_body[:, None], color, self._backdrop(person))
        return self._finish(scene, images, color, on_body, drawn.zbuf)

    def _sun_share(
        self, scene: Scene, vertices: Tensor, faces_on: Tensor, drawn: Any, lights: lighting.Lights
    ) -> Tensor:
        """Share of the sun that each pixel's surface gets."""
        size = self.config.size
        transform, intrinsics = lighting.light_cameras(lights, scene.true.joints[:, 0], size)
        lit = vertices @ transform[:, :3, :3].transpose(1, 2) + transform[:, None, :3, 3]
        shadows = self.drawing.rasterize(
            lit.contiguous(), self.assets.surface.faces, intrinsics, (size, size),
            face_mask=faces_on,
        )  # fmt: skip
        x, y = occlusion.pixel_grid(size, vertices.device)
        camera = scene.true_intrinsics
        rays = torch.stack(
            [
                (x - camera[:, 0, 2, None, None]) / camera[:, 0, 0, None, None],
                (y - camera[:, 1, 2, None, None]) / camera[:, 1, 1, None, None],
                torch.ones_like(drawn.zbuf),
            ],
            dim=3,
        )
        return self._sunlit(rays * drawn.zbuf[..., None], transform, intrinsics, shadows.zbuf)

    def _backdrop(self, person: Tensor) -> Float[Tensor, "batch 3 height width"]:
        """Backgrounds: one photograph a person, another window of it in each frame."""
        config, draws = self.config, self.draws
        photos = draws.integers(len(self.assets.photos), config.people)[person]
        views = photo_views(self.assets.photos, draws, photos, config.size, (0.25, 1.0))
        gain = torch.exp(
            draws.normal(config.people, 3) * 0.15 + draws.normal(config.people, 1) * 0.3
        )
        plain = draws.happens(0.12, config.people)[person][:, None, None, None]
        flat = draws.uniform(config.people, 3)[person][:, :, None, None]
        return torch.where(plain, flat, views * gain[person][:, :, None, None])

    def _finish(
        self, scene: Scene, images: Tensor, color: Tensor, on_body: Tensor, depth: Tensor
    ) -> _Picture:
        """Adds what stands in the way, and the camera's share."""
        config, draws = self.config, self.draws
        images, by_person = occlusion.add_second_person(draws, config, images, color, on_body)
        joints = project(scene.true.joints, scene.true_intrinsics)
        images, by_object = occlusion.add_objects(draws, config, self.assets.photos, images, joints)
        cut = occlusion.frame_cuts(draws, config, len(images))
        look = photometry.sample_camera_look(draws, config)
        images = photometry.blur(images, look.kernels)
        images = self._develop(images, draws.normal(*images.shape), look, self._tables)
        covered = by_person | by_object | cut
        return _Picture(images * ~cut[:, None], depth, on_body & ~covered, covered)

    def _render_estimate(
        self, scene: Scene, fragments: Any, picture: _Picture
    ) -> tuple[SyntheticModalities, Float[Tensor, "batch height width 3"]]:
        """The estimates' renderings, and the true position of each pixel's surface point."""
        config, draws, body = self.config, self.draws, self.assets.body
        estimated = scene.estimated.vertices
        normals = vertex_normals(estimated, body.faces)
        towards = -torch.nn.functional.normalize(estimated, dim=2)
        masked = draws.happens(config.masked_texture_share, config.people)
        masked = masked.repeat_interleave(config.frames)[:, None, None]
        usable = picture.person | ~masked
        depth = fragments.zbuf.clamp_min(0.0)
        sources = personal_texture.Sources(
            torch.cat([picture.images, depth[:, None], usable[:, None].float()], dim=1),
            project(estimated, scene.intrinsics),
            estimated[..., 2:],
            (normals * towards).sum(-1, keepdim=True),
        )
        columns = [
            scene.true.vertices, normals, body.vertex_colors.expand(len(estimated), -1, -1),
            personal_texture.source_attributes(sources, config.frames),
        ]  # fmt: skip
        seen = self.drawing.interpolate(fragments, body.faces, torch.cat(columns, dim=2))
        true_points, normals, colors, others = seen.split([3, 3, 3, seen.shape[3] - 9], dim=3)
        used = personal_texture.sample_source_use(draws, config)
        texture, valid = self._median(*self._views(others, sources.pictures, used, config.frames))
        mask = (fragments.pix_to_face >= 0)[:, None]
        modalities = SyntheticModalities(
            personal_texture.texture_jitter(draws, config)(texture),
            (valid[:, None] & mask).float(),
            depth[:, None],
            torch.nn.functional.normalize(normals, dim=3).permute(0, 3, 1, 2),
            colors.permute(0, 3, 1, 2),
            mask.float(),
        )
        return modalities, true_points

    def _displacement(
        self, scene: Scene, fragments: Any, true_points: Tensor, picture: _Picture
    ) -> tuple[Tensor, Tensor, Tensor]:
        """True displacement, which pixels count, and whether their point can be seen."""
        size = self.config.size
        x, y = occlusion.pixel_grid(size, true_points.device)
        target = project(true_points.flatten(1, 2), scene.true_intrinsics).unflatten(
            1, (size, size)
        )
        displacement = target - torch.stack([x, y], dim=2)
        mask = (fragments.pix_to_face >= 0) & (true_points[..., 2] > 0.1)
        mask = mask & (displacement.abs().amax(-1) < LARGEST_DISPLACEMENT * size / 256)
        cell = target.floor().long()
        inside = ((cell >= 0) & (cell < size)).all(-1)
        index = (cell[..., 1].clamp(0, size - 1) * size + cell[..., 0].clamp(0, size - 1)).flatten(
            1
        )
        shown = picture.depth.flatten(1).gather(1, index).view_as(mask)
        covered = picture.covered.flatten(1).gather(1, index).view_as(mask)
        behind = (shown > 0) & (true_points[..., 2] > shown + HIDDEN_MARGIN_M)
        visible = inside & ~covered & ~behind
        return (displacement * mask[..., None]).permute(0, 3, 1, 2), mask, visible & mask
