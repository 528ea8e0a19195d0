# SPDX-License-Identifier: Apache-2.0
"""What people wear: which garments, where they end, how they stand off, and their colours.

Places on the body are told by its vertex colours (red across, green up, blue to the front; see
`posefit.rest_colors`); patterns are projected onto the rest surface along a direction of the
piece's own, so that left and right, front and back, differ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from .backgrounds import PhotoBank
from .config import GeneratorConfig
from .draws import Draws
from .people import ClothedSurface

__all__ = ["Dress", "Look", "albedo", "sample_dress", "sample_look"]

SKIN, HAIR, TOP, BOTTOM, SHOES, EXTRA = range(6)
PIECES = 6


@dataclass(frozen=True)
class Dress:
    """Shape of the clothes of each person."""

    faces_on: Bool[Tensor, "people all_face"]
    """Which faces of body and garments are there."""
    offset: Float[Tensor, "people all_vertex"]
    """How far the surface stands off the body, metres."""
    sleeve: Float[Tensor, "people 1"]
    """Where sleeves end (distance of red from the middle)."""
    waist: Float[Tensor, "people 1"]
    """Where top meets bottom (green)."""
    leg: Float[Tensor, "people 1"]
    """Where the legs of the bottom end (green)."""


@dataclass(frozen=True)
class Look:
    """Colours and patterns of every piece of each person, one row a piece."""

    values: Float[Tensor, "piece_of_person 21"]
    """Three colours (0–8), contrasts of pattern and print (9, 10), their scales (11, 12),
    projection (13–18), phases (19, 20)."""
    pattern: Int64[Tensor, " piece_of_person"]
    """Pattern of each piece."""
    detail: Int64[Tensor, " piece_of_person"]
    """A second pattern, printed over it."""
    photo: Int64[Tensor, " piece_of_person"]
    """Photograph of pieces that show one."""
    is_photo: Bool[Tensor, " piece_of_person"]
    """Which pieces do."""


def sample_dress(draws: Draws, surface: ClothedSurface, config: GeneratorConfig) -> Dress:
    """Draws garments, their borders and how far cloth stands off."""
    people = config.people
    sleeve = draws.uniform(people, 1, low=0.13, high=0.37)
    waist = draws.uniform(people, 1, low=0.48, high=0.60)
    leg = draws.uniform(people, 1, low=0.05, high=0.42)
    across = (surface.face_colors[:, 0] - 0.5).abs()
    up = surface.face_colors[:, 1]
    has_top, has_bottom = draws.happens(0.8, people, 1), draws.happens(0.8, people, 1)
    inside = ((up > waist) & (across < sleeve) & has_top) | (
        (up <= waist) & (up > leg) & has_bottom
    )
    on = torch.ones(people, len(up), dtype=torch.bool, device=draws.device)
    for column, (first, stop) in enumerate(surface.part_ranges):
        share = config.garment_share[min(column, 2)]
        worn = draws.happens(share, people, 1)
        clipped = surface.part_names[column] not in ("hair", "skirt")
        shown = worn & inside[:, first:stop] if clipped else worn.expand(-1, stop - first)
        on[:, first:stop] = shown
        over = surface.covering[column]
        on[:, : surface.num_body_faces] &= ~(on[:, over.clamp_min(0)] & (over >= 0))
    return Dress(on, _cloth_offset(draws, surface, config), sleeve, waist, leg)


def _cloth_offset(draws: Draws, surface: ClothedSurface, config: GeneratorConfig) -> Tensor:
    """Smooth distance from the body, zero at head, hands and feet."""
    people = config.people
    loose = draws.happens(config.loose_cloth_share, people, 1)
    size = draws.uniform(people, 1, high=config.loose_cloth_m) * loose
    waves = draws.normal(people, 4, 3) * 9.0
    phase = draws.uniform(people, 4, 1, high=2 * math.pi)
    bumps = torch.sin(waves @ surface.rest.T + phase).mean(dim=1) * 0.5 + 0.5
    red, green = (surface.colors[:, 0] - 0.5).abs(), surface.colors[:, 1]
    dressed = ((0.38 - red) / 0.03).clamp(0, 1) * ((green - 0.05) / 0.02).clamp(0, 1)
    dressed = dressed * ((0.88 - green) / 0.02).clamp(0, 1)
    return size * bumps * dressed


def sample_look(
    draws: Draws, config: GeneratorConfig, pattern_count: int, photos: PhotoBank
) -> Look:
    """Draws colours and patterns."""
    people, shape = config.people, (config.people, PIECES)
    first = draws.uniform(*shape, 3) ** 1.3
    gray = draws.uniform(*shape, 1).expand(-1, -1, 3)
    first = torch.where(draws.happens(0.4, *shape, 1), gray, first)
    tone = draws.constant(0.78, 0.58, 0.47)
    skin = tone * torch.exp(draws.normal(people, 1) * 0.4) + draws.normal(people, 3) * 0.04
    first[:, SKIN] = skin.clamp(0.04, 1.0)
    first[:, HAIR] *= 0.6
    near = (first + draws.normal(*shape, 3) * 0.3).clamp(0, 1)
    second = torch.where(draws.happens(0.5, *shape, 1), near, draws.uniform(*shape, 3))
    third = draws.uniform(*shape, 3)
    contrast = draws.uniform(*shape, 1) ** 0.7 * draws.happens(0.8, *shape, 1)
    print_contrast = draws.uniform(*shape, 1, low=0.4) * draws.happens(0.4, *shape, 1)
    contrast[:, SKIN] *= 0.2
    print_contrast[:, SKIN] *= 0.6 * draws.happens(0.3, people, 1)
    scale = draws.log_uniform(*shape, 1, low=0.5, high=5.0)
    print_scale = draws.log_uniform(*shape, 1, low=0.6, high=2.5)
    projection = _projections(draws, shape)
    phases = draws.uniform(*shape, 2)
    is_photo = draws.happens(config.photo_cloth_share, *shape)
    is_photo[:, SKIN] = False
    values = torch.cat(
        [first, second, third, contrast, print_contrast, scale, print_scale, projection], dim=2
    )
    values = torch.cat([values, phases], dim=2)
    rows = people * PIECES
    return Look(
        values.reshape(rows, -1),
        draws.integers(pattern_count, rows),
        draws.integers(pattern_count, rows),
        draws.integers(len(photos), rows),
        is_photo.reshape(rows),
    )


def _projections(draws: Draws, shape: tuple[int, int]) -> Tensor:
    """Two rows that map rest positions to a pattern's plane, from the front or from a side."""
    yaw = draws.normal(*shape) * 0.5 + draws.happens(0.3, *shape) * 1.5708
    spin = draws.integers(4, *shape) * 1.5708 + draws.normal(*shape) * 0.1
    across = torch.stack([yaw.cos(), torch.zeros_like(yaw), yaw.sin()], dim=-1)
    up = draws.constant(0.0, 1.0, 0.0).expand_as(across)
    cosine, sine = spin.cos()[..., None], spin.sin()[..., None]
    return torch.cat([cosine * across - sine * up, sine * across + cosine * up], dim=-1)


def pieces_of(
    colors: Float[Tensor, "batch 3 height width"],
    pix_to_face: Tensor,
    surface_ranges: tuple[tuple[int, int], ...],
    part_names: tuple[str, ...],
    sleeve: Float[Tensor, "batch 1 1"],
    waist: Float[Tensor, "batch 1 1"],
    leg: Float[Tensor, "batch 1 1"],
) -> Int64[Tensor, "batch height width"]:
    """Which piece of clothing each pixel shows."""
    across, up, front = (colors[:, 0] - 0.5).abs(), colors[:, 1], colors[:, 2]
    piece = torch.zeros_like(pix_to_face, dtype=torch.int64)
    piece = torch.where((up <= 0.87) & (up > waist) & (across < sleeve), TOP, piece)
    piece = torch.where((up <= waist) & (up > leg), BOTTOM, piece)
    piece = torch.where(up < 0.048, SHOES, piece)
    head = (up > 0.87) & (across < 0.13)
    piece = torch.where(head & ((up > 0.965) | ((up > 0.9) & (front < 0.56))), HAIR, piece)
    for (first, stop), name in zip(surface_ranges, part_names, strict=True):
        shown = (pix_to_face >= first) & (pix_to_face < stop)
        if name == "hair":
            piece = torch.where(shown, HAIR, piece)
        elif name == "skirt":
            piece = torch.where(shown, EXTRA, piece)
        else:
            piece = torch.where(shown, torch.where(up > waist, TOP, BOTTOM), piece)
    return piece


def albedo(
    rest: Float[Tensor, "batch 3 height width"],
    row: Int64[Tensor, "batch height width"],
    look: Look,
    patterns: Tensor,
    photos: Tensor,
) -> Float[Tensor, "batch height width 3"]:
    """Colour of the surface at each pixel, before light.

    Args:
        rest: rest position seen at each pixel, metres.
        row: which row of `look` each pixel shows.
        look: colours and patterns.
        patterns: (pattern, side, side) uint8.
        photos: (photo, side, side, 3) uint8.
    """
    values = look.values[row]
    first, second, third = values[..., 0:3], values[..., 3:6], values[..., 6:9]
    u = (rest.permute(0, 2, 3, 1) * values[..., 13:16]).sum(-1) + values[..., 19]
    v = (rest.permute(0, 2, 3, 1) * values[..., 16:19]).sum(-1) + values[..., 20]
    back = (rest[:, 2] < 0.03).float() * 0.37
    weave = _look_up(patterns, look.pattern[row], u + back, v, values[..., 11])
    printed = _look_up(patterns, look.detail[row], u + 2 * back, v, values[..., 12])
    color = first + (second - first) * (weave * values[..., 9])[..., None]
    print_share = (printed > 0.6).float() * values[..., 10]
    color = color + (third - color) * print_share[..., None]
    photo = _look_up(photos, look.photo[row], u + back, v, values[..., 11] * 0.7)
    return torch.where(look.is_photo[row][..., None], photo, color)


def _look_up(bank: Tensor, which: Tensor, u: Tensor, v: Tensor, scale: Tensor) -> Tensor:
    """Nearest texels of repeating pictures, 0..1; (…, 3) for coloured ones."""
    side = bank.shape[1]
    x = torch.remainder((u * scale * side).floor().long(), side)
    y = torch.remainder((v * scale * side).floor().long(), side)
    flat = (which * side + y) * side + x
    texels = bank.reshape(-1, 3) if bank.ndim == 4 else bank.reshape(-1)
    return texels[flat].float() / 255.0
