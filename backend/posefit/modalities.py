# SPDX-License-Identifier: Apache-2.0
"""Renderings of the current body that the displacement estimator compares with the frame.

Fragments → textured RGB, depth, normals, unique vertex colours, mask: everything in the crop's own
pinhole camera. The texture may differ from frame to frame, because the frame that is refined never
paints the texture it is compared with.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import grid_sample

from .body import BodyModel, vertex_normals
from .rasterizer import Fragments, interpolate, rasterize

__all__ = ["Modalities", "fragment_uv", "render_modalities", "sample_texture"]


@dataclass(frozen=True)
class Modalities:
    """What is rendered of a body; zero wherever it covers nothing."""

    rgb: Float[Tensor, "batch 3 height width"]
    """Personal texture, 0 to 1; grey where the texture knows nothing."""
    texture_valid: Float[Tensor, "batch 1 height width"]
    """How well the texture is known there, 0 to 1."""
    depth: Float[Tensor, "batch 1 height width"]
    """Camera z, metres."""
    normals: Float[Tensor, "batch 3 height width"]
    """Unit normals in the OpenCV camera frame."""
    vertex_colors: Float[Tensor, "batch 3 height width"]
    """The surface point's own colour, 0 to 1."""
    mask: Float[Tensor, "batch 1 height width"]
    """1 on the body, 0 elsewhere."""


def render_modalities(
    body: BodyModel,
    vertices: Float[Tensor, "batch vertex 3"],
    world_to_camera: Float[Tensor, "batch 4 4"],
    intrinsics: Float[Tensor, "batch 3 3"],
    image_size: tuple[int, int],
    *,
    texture: Float[Tensor, "texture 4 texheight texwidth"] | None = None,
    backend: str = "warp",
) -> tuple[Modalities, Fragments]:
    """Render posed bodies.

    Args:
        body: whose faces, colours and texture coordinates are used.
        vertices: posed, world frame, metres.
        world_to_camera: metres, OpenCV camera.
        intrinsics: pinhole, pixels.
        image_size: height and width, pixels.
        texture: RGB and validity, 0 to 1, v downwards: one for all bodies or one for each; None
            renders grey that is known nowhere.
        backend: `warp` or `pytorch3d`.

    Returns:
        The renderings, and the fragments they were made of.
    """
    in_camera = (
        vertices @ world_to_camera[:, :3, :3].transpose(1, 2) + world_to_camera[:, None, :3, 3]
    )
    fragments = rasterize(in_camera, body.faces, intrinsics, image_size, backend=backend)
    covered = (fragments.pix_to_face >= 0)[..., None].to(vertices.dtype)
    normals = vertex_normals(in_camera, body.faces)
    colors = body.vertex_colors.expand(len(vertices), -1, -1)
    both = interpolate(fragments, body.faces, torch.cat([normals, colors], dim=-1))
    rgb, valid = _textured(body, fragments, texture, covered)
    modalities = Modalities(
        rgb=_first(rgb),
        texture_valid=_first(valid),
        depth=_first(fragments.zbuf[..., None] * covered),
        normals=_first(torch.nn.functional.normalize(both[..., :3], dim=-1) * covered),
        vertex_colors=_first(both[..., 3:] * covered),
        mask=_first(covered),
    )
    return modalities, fragments


def sample_texture(
    texture: Float[Tensor, "texture channel texheight texwidth"],
    uv: Float[Tensor, "batch height width 2"],
) -> Float[Tensor, "batch height width channel"]:
    """A texture map at texture coordinates, bilinear.

    Args:
        texture: one map for all pictures or one for each; its first row is v = 1.
        uv: texture coordinates, v up, 0 to 1.
    """
    at = torch.stack([uv[..., 0] * 2 - 1, 1 - uv[..., 1] * 2], dim=-1)
    texture = texture.expand(len(uv), -1, -1, -1)
    sampled = grid_sample(texture, at, align_corners=False, padding_mode="border")
    return sampled.permute(0, 2, 3, 1)


def fragment_uv(body: BodyModel, fragments: Fragments) -> Float[Tensor, "batch height width 2"]:
    """Texture coordinates of each covered pixel; the body must have them."""
    assert body.vt is not None, "callers check that the body has texture coordinates"
    assert body.ft is not None, "a body with vt has ft"
    return interpolate(fragments, body.ft, body.vt[None])


def _textured(
    body: BodyModel, fragments: Fragments, texture: Tensor | None, covered: Tensor
) -> tuple[Tensor, Tensor]:
    if texture is None or body.vt is None:
        return 0.5 * covered.expand(*covered.shape[:3], 3), torch.zeros_like(covered)
    sampled = sample_texture(texture, fragment_uv(body, fragments))
    valid = sampled[..., 3:]
    # Unknown texels hold no colour of their own: show them as grey.
    rgb = 0.5 + (sampled[..., :3] - 0.5) * valid.gt(0).to(sampled.dtype)
    return rgb * covered, valid * covered


def _first(image: Float[Tensor, "batch height width channel"]) -> Tensor:
    return image.permute(0, 3, 1, 2).contiguous()
