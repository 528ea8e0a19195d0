# SPDX-License-Identifier: Apache-2.0
"""Photographs behind, before and on people."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.nn import functional

from .draws import Draws
from .poses import is_validation

__all__ = ["PhotoBank", "photo_views"]


class PhotoBank:
    """Square photographs on a device, one side of the split."""

    def __init__(self, path: Path, device: torch.device | str, *, validation: bool) -> None:
        """Reads and decodes the photographs.

        Args:
            path: file of tools/training/prepare_backgrounds.py.
            device: where they are kept.
            validation: which side of the split.
        """
        with np.load(path) as data:
            ends = np.cumsum(data["sizes"])
            chosen = np.array([is_validation(str(name)) == validation for name in data["names"]])
            files = np.split(data["data"], ends[:-1])
            keep = chosen[data["source"]]
        if not keep.any():
            raise ValueError(f"{path} has no pictures for validation={validation}, expected some")
        squares = [
            cv2.imdecode(file, cv2.IMREAD_COLOR)[:, :, ::-1]  # pyright: ignore
            for file, kept in zip(files, keep, strict=True)
            if kept
        ]
        self.squares: UInt8[Tensor, "photo side side 3"] = torch.from_numpy(
            np.stack(squares).copy()
        ).to(device)

    def __len__(self) -> int:
        return len(self.squares)


def photo_views(
    bank: PhotoBank,
    draws: Draws,
    photos: Int64[Tensor, " batch"],
    size: int,
    zoom: tuple[float, float],
) -> Float[Tensor, "batch 3 size size"]:
    """Random windows of photographs, some of them mirrored.

    Args:
        bank: the photographs.
        draws: random numbers.
        photos: which photograph each view shows.
        size: side of the views in pixels.
        zoom: smallest and largest share of the photograph's side that a view shows.

    Returns:
        Colours 0..1.
    """
    count = len(photos)
    scale = draws.uniform(count, 1, 1, low=zoom[0], high=zoom[1])
    center = draws.uniform(count, 1, 2, low=-1.0, high=1.0) * (1.0 - scale).clamp_min(0.0)
    mirrored = torch.where(draws.happens(0.5, count, 1), -1.0, 1.0)
    theta = torch.zeros(count, 2, 3, device=draws.device)
    theta[:, 0, 0] = (scale[:, 0] * mirrored)[:, 0]
    theta[:, 1, 1] = scale[:, 0, 0]
    theta[:, :, 2] = center[:, 0]
    grid = functional.affine_grid(theta, [count, 3, size, size], align_corners=False)
    pictures = bank.squares[photos].permute(0, 3, 1, 2).float() / 255.0
    return functional.grid_sample(pictures, grid, padding_mode="reflection", align_corners=False)
