# SPDX-License-Identifier: Apache-2.0
"""Light on people: sky and ground, a lamp that throws shadows, a fill light, gloss, wrinkles."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from .config import GeneratorConfig
from .draws import Draws

__all__ = ["Lights", "light_cameras", "sample_lights", "shade", "sunlit"]

LIGHT_DISTANCE_M = 8.0
"""Distance of the shadow map's camera from the body."""
LIGHT_REACH_M = 1.35
"""Half the width of what the shadow map sees."""


@dataclass(frozen=True)
class Lights:
    """Light of each frame; directions point from the surface to the light, camera frame."""

    sun: Float[Tensor, "batch 3"]
    fill: Float[Tensor, "batch 3"]
    sun_color: Float[Tensor, "batch 3"]
    fill_color: Float[Tensor, "batch 3"]
    sky_color: Float[Tensor, "batch 3"]
    ground_color: Float[Tensor, "batch 3"]
    gloss: Float[Tensor, " batch"]
    """Strength of highlights."""
    shadow: Float[Tensor, " batch"]
    """How much of the sun a shadow takes, 0..1."""
    wrinkle_waves: Float[Tensor, "batch 4 3"]
    """Wave vectors of wrinkles over the rest surface, radians per metre."""
    wrinkle_phases: Float[Tensor, "batch 4"]
    wrinkle_size: Float[Tensor, "batch 1"]
    """How far wrinkles turn normals."""


def sample_lights(draws: Draws, config: GeneratorConfig) -> Lights:
    """Draws the light of each person; it turns a little from frame to frame."""
    people, frames = config.people, config.frames
    above = draws.constant(0.0, -1.0, -0.8)
    sun = draws.normal(people, 1, 3) + above + draws.normal(people, frames, 3) * 0.25
    fill = draws.directions(people, 1).expand(-1, frames, -1)

    def each(values: Tensor) -> Tensor:
        return values[:, None].expand(-1, frames, *values.shape[1:]).flatten(0, 1)

    waves = draws.directions(people * frames, 4) * draws.log_uniform(
        people * frames, 4, 1, low=15.0, high=110.0
    )

    def tinted(least_tint: float, low: float, high: float) -> Tensor:
        tint = draws.uniform(people, 3, low=least_tint)
        return tint * draws.uniform(people, 1, low=low, high=high)

    colors = [tinted(0.8, 0.0, 1.4), tinted(0.7, 0.0, 0.5), tinted(0.8, 0.2, 0.8)]
    colors.append(tinted(0.6, 0.05, 0.5))
    # cameras expose for what they see: the light on people stays within a range
    level = 0.4 * colors[0] + 0.2 * colors[1] + 0.5 * (colors[2] + colors[3])
    exposure = draws.log_uniform(people, 1, low=0.4, high=1.15) / level.mean(1, keepdim=True)
    sun_color, fill_color, sky_color, ground_color = (each(c * exposure) for c in colors)
    return Lights(
        sun=functional.normalize(sun, dim=-1).flatten(0, 1),
        fill=fill.flatten(0, 1),
        sun_color=sun_color,
        fill_color=fill_color,
        sky_color=sky_color,
        ground_color=ground_color,
        gloss=each(draws.uniform(people, high=0.5) * draws.happens(0.35, people)),
        shadow=each(draws.uniform(people, low=0.4) * draws.happens(config.shadow_share, people)),
        wrinkle_waves=waves,
        wrinkle_phases=draws.uniform(people * frames, 4, high=6.2832),
        wrinkle_size=each(draws.uniform(people, 1, high=0.35)),
    )


def light_cameras(
    lights: Lights, centers: Float[Tensor, "batch 3"], size: int
) -> tuple[Float[Tensor, "batch 4 4"], Float[Tensor, "batch 3 3"]]:
    """Cameras that look from the sun at the bodies, for shadow maps.

    Args:
        lights: the suns.
        centers: what to look at, camera frame.
        size: side of the shadow maps in pixels.

    Returns:
        Camera-to-light transforms and intrinsics of the shadow maps.
    """
    forward = -lights.sun
    zero, one = torch.zeros_like(forward[:, 0]), torch.ones_like(forward[:, 0])
    sideways = forward[:, 0].abs() > 0.8
    helper = torch.stack(
        [torch.where(sideways, zero, one), torch.where(sideways, one, zero), zero], 1
    )
    right = functional.normalize(torch.linalg.cross(helper, forward), dim=1)
    down = torch.linalg.cross(forward, right)
    turn = torch.stack([right, down, forward], dim=1)
    shift = torch.stack([zero, zero, one * LIGHT_DISTANCE_M], dim=1)
    shift = shift - (turn @ centers[..., None])[..., 0]
    bottom = torch.stack([zero, zero, zero, one], dim=1)[:, None]
    transform = torch.cat([torch.cat([turn, shift[..., None]], dim=2), bottom], dim=1)
    focal, middle = one * (0.5 * size * LIGHT_DISTANCE_M / LIGHT_REACH_M), one * (0.5 * size)
    rows = [(focal, zero, middle), (zero, focal, middle), (zero, zero, one)]
    return transform, torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)


def sunlit(
    points: Float[Tensor, "batch height width 3"],
    transform: Float[Tensor, "batch 4 4"],
    intrinsics: Float[Tensor, "batch 3 3"],
    shadow_depth: Float[Tensor, "batch rows columns"],
) -> Float[Tensor, "batch height width"]:
    """Share of the sun that each point sees, softened over a few texels.

    Args:
        points: surface points, camera frame.
        transform: camera to light frame.
        intrinsics: of the shadow maps.
        shadow_depth: their depth; ≤ 0 where nothing is.
    """
    size = shadow_depth.shape[-1]
    lit = torch.einsum("nij,nhwj->nhwi", transform[:, :3, :3], points)
    lit = lit + transform[:, None, None, :3, 3]
    pixels = lit[..., :2] / lit[..., 2:].clamp_min(0.1) * intrinsics[:, None, None, :1, 0]
    pixels = pixels / (0.5 * size)
    depth = torch.where(shadow_depth <= 0, 100.0, shadow_depth)[:, None]
    total = torch.zeros_like(lit[..., 2])
    for x, y in ((-0.7, -0.3), (0.3, -0.7), (0.7, 0.3), (-0.3, 0.7)):
        grid = torch.stack([pixels[..., 0] + 2 * x / size, pixels[..., 1] + 2 * y / size], dim=-1)
        nearest = functional.grid_sample(depth, grid, mode="nearest", align_corners=False)
        hidden = (nearest[:, 0] > 0) & (nearest[:, 0] < lit[..., 2] - 0.03)
        total = total + torch.where(hidden, 0.0, 0.25)
    return total


def shade(
    color: Float[Tensor, "batch height width 3"],
    normals: Float[Tensor, "batch 3 height width"],
    rest: Float[Tensor, "batch 3 height width"],
    sun_share: Float[Tensor, "batch height width"],
    dressed: Float[Tensor, "batch height width"],
    lights: Lights,
) -> Float[Tensor, "batch 3 height width"]:
    """Colours under the lights.

    Args:
        color: albedo.
        normals: unit, camera frame.
        rest: rest positions, where wrinkles are drawn.
        sun_share: share of the sun that arrives.
        dressed: 1 on cloth, which wrinkles.
        lights: the lights.
    """
    swing = torch.einsum("nkc,nchw->nkhw", lights.wrinkle_waves, rest)
    swing = torch.cos(swing + lights.wrinkle_phases[:, :, None, None])
    axes = functional.normalize(lights.wrinkle_waves, dim=2)
    bend = (
        torch.einsum("nkhw,nkc->nchw", swing, axes)
        * (dressed * lights.wrinkle_size[..., None])[:, None]
    )
    bent = functional.normalize(normals + bend, dim=1)

    def towards(direction: Tensor) -> Tensor:
        return torch.einsum("nchw,nc->nhw", bent, direction)

    facing_sun = towards(lights.sun)
    share = 1.0 - lights.shadow[:, None, None] * (1.0 - sun_share)
    upward = (0.5 - 0.5 * bent[:, 1])[..., None]
    sky, ground = lights.sky_color[:, None, None], lights.ground_color[:, None, None]
    light = upward * sky + (1.0 - upward) * ground
    light = light + (facing_sun.clamp_min(0) * share)[..., None] * lights.sun_color[:, None, None]
    light = light + towards(lights.fill).clamp_min(0)[..., None] * lights.fill_color[:, None, None]
    mirrored = 2.0 * facing_sun * bent[:, 2] - lights.sun[:, 2, None, None]
    highlight = lights.gloss[:, None, None] * (-mirrored).clamp_min(0) ** 12 * share
    return (color * light + highlight[..., None]).permute(0, 3, 1, 2)
