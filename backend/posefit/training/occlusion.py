# SPDX-License-Identifier: Apache-2.0
"""What stands in the way: another person, objects, the frame's border."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .backgrounds import PhotoBank, photo_views
from .config import GeneratorConfig
from .draws import Draws

__all__ = ["add_objects", "add_second_person", "frame_cuts", "pixel_grid"]


def pixel_grid(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """x and y of pixel centres, each (size, size)."""
    centers = torch.arange(size, device=device) + 0.5
    y, x = torch.meshgrid(centers, centers, indexing="ij")
    return x, y


def add_second_person(
    draws: Draws,
    config: GeneratorConfig,
    images: Float[Tensor, "batch 3 height width"],
    colors: Float[Tensor, "batch 3 height width"],
    masks: Bool[Tensor, "batch height width"],
) -> tuple[Float[Tensor, "batch 3 height width"], Bool[Tensor, "batch height width"]]:
    """Pictures with some other people of the batch in them, shifted, before or behind.

    Returns:
        The pictures, and which pixels another person covers.
    """
    frames, size = config.frames, config.size
    columns = torch.arange(size, device=images.device)
    shift = draws.integers(size, len(images), 1)
    source = (columns - shift) % size
    turned = (torch.arange(len(images), device=images.device) + 2 * frames) % len(images)
    other_mask = masks[turned].gather(2, source[:, None].expand(-1, size, -1))
    index = source[:, None, None].expand(-1, 3, size, -1)
    other_color = colors[turned].gather(3, index)
    person = torch.arange(config.people, device=images.device).repeat_interleave(frames)
    present = draws.happens(config.second_person_share, config.people)[person]
    in_front = draws.happens(0.45, config.people)[person]
    covers = other_mask & present[:, None, None] & (in_front[:, None, None] | ~masks)
    return torch.where(covers[:, None], other_color, images), covers


def add_objects(
    draws: Draws,
    config: GeneratorConfig,
    photos: PhotoBank,
    images: Float[Tensor, "batch 3 height width"],
    joints: Float[Tensor, "batch joint 2"],
) -> tuple[Float[Tensor, "batch 3 height width"], Bool[Tensor, "batch height width"]]:
    """Pictures with ellipses and boxes of photographs in front, some of them about a joint.

    Args:
        draws: random numbers.
        config: how often.
        photos: what the objects look like.
        images: the pictures.
        joints: the person's joints in pixels.

    Returns:
        The pictures, and which pixels an object covers.
    """
    batch, size = len(images), config.size
    x, y = pixel_grid(size, images.device)
    anywhere = draws.uniform(batch, 2, low=0.08 * size, high=0.92 * size)
    joint = draws.integers(joints.shape[1], batch)
    at_joint = joints[torch.arange(batch, device=images.device), joint]
    at_joint = at_joint + draws.normal(batch, 2) * 0.03 * size
    center = torch.where(draws.happens(0.6, batch, 1), at_joint, anywhere)
    half = draws.log_uniform(batch, 2, low=0.045 * size, high=0.28 * size)
    wide = draws.happens(0.08, batch)
    half[:, 0] = torch.where(wide, 2.0 * size, half[:, 0])
    angle = torch.where(wide, draws.normal(batch) * 0.05, draws.uniform(batch, high=3.1416))
    cosine, sine = angle.cos()[:, None, None], angle.sin()[:, None, None]
    dx, dy = x - center[:, 0, None, None], y - center[:, 1, None, None]
    across = (dx * cosine + dy * sine) / half[:, 0, None, None]
    along = (dy * cosine - dx * sine) / half[:, 1, None, None]
    box = (across.abs() < 1) & (along.abs() < 1)
    ellipse = across**2 + along**2 < 1
    covers = torch.where(draws.happens(0.5, batch)[:, None, None], ellipse, box)
    covers = covers & draws.happens(config.occluder_share, batch)[:, None, None]
    views = photo_views(photos, draws, draws.integers(len(photos), batch), size, (0.2, 0.8))
    return torch.where(covers[:, None], views, images), covers


def frame_cuts(draws: Draws, config: GeneratorConfig, batch: int) -> Bool[Tensor, "batch h w"]:
    """Pixels of each crop that lie outside the frame."""
    size = config.size
    depth = draws.uniform(batch, 4, high=0.33 * size) * draws.happens(config.cut_share, batch, 4)
    x, y = pixel_grid(size, draws.device)
    left, right, top, bottom = depth[:, :, None, None].unbind(1)
    return (x < left) | (x > size - right) | (y < top) | (y > size - bottom)
