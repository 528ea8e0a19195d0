# SPDX-License-Identifier: Apache-2.0
"""What a camera does to a picture: exposure, colour, blur by lens and motion, noise, JPEG."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from .config import GeneratorConfig
from .draws import Draws

__all__ = ["CameraLook", "JpegTables", "blur", "develop", "jpeg_tables", "sample_camera_look"]

KERNEL = 9
"""Side of blur kernels in pixels."""

# JPEG's example luminance table (ITU-T T.81, table K.1), by which strength is scaled
_LUMINANCE = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip


@dataclass(frozen=True)
class CameraLook:
    """The camera's share in each frame."""

    gamma: Float[Tensor, "batch 1 1 1"]
    gain: Float[Tensor, "batch 3 1 1"]
    kernels: Float[Tensor, "batch side side"]
    """Blur of each frame."""
    noise: Float[Tensor, "batch 1 1 1"]
    """Deviation of the noise."""
    compression: Float[Tensor, "batch 1 1 1 1"]
    """Scale of JPEG's quantisation table, in 0..1 colours; 0 leaves the picture alone."""


def sample_camera_look(draws: Draws, config: GeneratorConfig) -> CameraLook:
    """Draws each person's camera and each frame's motion blur."""
    people, frames = config.people, config.frames
    batch = people * frames

    def each(values: Tensor) -> Tensor:
        return values.repeat_interleave(frames, dim=0)

    exposure = each(draws.normal(people, 1)) * 0.2 + draws.normal(batch, 1) * 0.05
    tint = each(draws.normal(people, 3)) * 0.07 + draws.normal(batch, 3) * 0.01
    strength = draws.uniform(people, 1, 1, 1, 1, 1, low=0.1, high=2.0) ** 2
    compressed = draws.happens(0.6, people, 1, 1, 1, 1, 1)
    return CameraLook(
        gamma=each(torch.exp(draws.normal(people, 1) * 0.2))[:, :, None, None],
        gain=torch.exp(exposure + tint)[:, :, None, None],
        kernels=_kernels(draws, config),
        noise=each(draws.uniform(people, 1) ** 2 * 0.06)[:, :, None, None],
        compression=each(strength * compressed / 255.0)[:, :, 0],
    )


def _kernels(draws: Draws, config: GeneratorConfig) -> Float[Tensor, "batch side side"]:
    """Gaussians drawn out along a random direction of motion."""
    batch = config.people * config.frames
    offsets = torch.arange(KERNEL, device=draws.device) - KERNEL // 2
    y, x = torch.meshgrid(offsets, offsets, indexing="ij")
    sharp = draws.uniform(config.people, 1, low=0.3, high=1.3).repeat_interleave(config.frames, 0)
    length = draws.uniform(batch, 1, high=4.0) * draws.happens(0.25, batch, 1)
    angle = draws.uniform(batch, 1, high=math.pi)
    along = (x.flatten() * angle.cos() + y.flatten() * angle.sin()).abs()
    across = y.flatten() * angle.cos() - x.flatten() * angle.sin()
    beyond = (along - length).clamp_min(0)
    weights = torch.exp(-(beyond**2 + across**2) / (2 * sharp**2))
    return (weights / weights.sum(1, keepdim=True)).view(batch, KERNEL, KERNEL)


def blur(
    images: Float[Tensor, "batch 3 height width"], kernels: Float[Tensor, "batch side side"]
) -> Float[Tensor, "batch 3 height width"]:
    """Each picture through its own kernel."""
    batch, channels, height, width = images.shape
    half = kernels.shape[-1] // 2
    flat = images.reshape(1, batch * channels, height, width)
    flat = functional.pad(flat, (half, half, half, half), mode="replicate")
    weights = kernels.repeat_interleave(channels, dim=0)[:, None]
    return functional.conv2d(flat, weights.to(flat.dtype), groups=batch * channels).view_as(images)


@dataclass(frozen=True)
class JpegTables:
    """Constants of JPEG, on a device."""

    cosines: Float[Tensor, "8 8"]
    """One-dimensional cosine transform."""
    steps: Float[Tensor, "3 1 1 8 8"]
    """Quantisation of brightness and of the two colour channels, in grey levels of 255."""
    to_ycc: Float[Tensor, "3 3"]
    to_rgb: Float[Tensor, "3 3"]


def jpeg_tables(device: torch.device | str) -> JpegTables:
    """The constants that `develop` needs.

    Args:
        device: where they go.
    """
    k = torch.arange(8.0)
    cosines = torch.cos((2 * k[None] + 1) * k[:, None] * math.pi / 16) * 0.5
    cosines[0] *= 0.5**0.5
    steps = torch.tensor(_LUMINANCE, dtype=torch.float32).view(8, 8)
    steps = steps * torch.tensor([1.0, 1.8, 1.8]).view(3, 1, 1, 1, 1)
    to_ycc = [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
    to_rgb = [[1.0, 0.0, 1.402], [1.0, -0.344136, -0.714136], [1.0, 1.772, 0.0]]
    values = (cosines, steps, torch.tensor(to_ycc), torch.tensor(to_rgb))
    return JpegTables(*(value.to(device) for value in values))


def develop(
    images: Float[Tensor, "batch 3 height width"],
    noise: Float[Tensor, "batch 3 height width"],
    look: CameraLook,
    tables: JpegTables,
) -> Float[Tensor, "batch 3 height width"]:
    """Pictures as files hold them: curve, gain, noise, compression; 0..1.

    Args:
        images: light, after blur.
        noise: normally distributed numbers.
        look: the camera's share.
        tables: constants of JPEG.
    """
    images = images.clamp(1e-4, 1.3) ** look.gamma * look.gain
    images = (images + noise * look.noise).clamp(0, 1)
    return _compressed(images, look.compression, tables).clamp(0, 1)


def _compressed(images: Tensor, strength: Tensor, tables: JpegTables) -> Tensor:
    """Pictures after quantising 8×8 cosine coefficients of brightness and colour."""
    batch, _, height, width = images.shape
    cosines = tables.cosines
    ycc = torch.einsum("ij,njhw->nihw", tables.to_ycc, images)
    blocks = ycc.view(batch, 3, height // 8, 8, width // 8, 8).permute(0, 1, 2, 4, 3, 5)
    coefficients = cosines @ blocks @ cosines.T
    step = tables.steps * strength[:, :, None].clamp_min(1e-6)
    coefficients = (coefficients / step).round() * step
    blocks = cosines.T @ coefficients @ cosines
    decoded = blocks.permute(0, 1, 2, 4, 3, 5).reshape(batch, 3, height, width)
    decoded = torch.einsum("ij,njhw->nihw", tables.to_rgb, decoded)
    return torch.where(strength[:, :, 0] > 0, decoded, images)
