# SPDX-License-Identifier: Apache-2.0
"""A bank of grey patterns for cloth: noise, blots, stripes, checks, letters, shapes, blocks."""

from __future__ import annotations

import string

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

__all__ = ["pattern_bank"]

Picture = np.ndarray


def pattern_bank(
    count: int, side: int, device: torch.device | str, *, validation: bool
) -> UInt8[Tensor, "pattern side side"]:
    """Patterns of eight kinds in turn; training and validation have different ones.

    Args:
        count: how many.
        side: of each in pixels.
        device: where they are kept.
        validation: which side of the split.
    """
    random = np.random.default_rng(11 if validation else 7)
    kinds = (_noise, _blots, _stripes, _checks, _letters, _shapes, _blocks, _contours)
    pictures = [kinds[k % len(kinds)](random, side) for k in range(count)]
    return torch.from_numpy((np.stack(pictures).clip(0, 1) * 255).astype(np.uint8)).to(device)


def _noise(random: np.random.Generator, side: int) -> Picture:
    total = np.zeros((side, side), np.float32)
    for cells in (4, 8, 16, 32, 64):
        values = random.standard_normal((cells, cells)).astype(np.float32)
        fine = cv2.resize(values, (side, side), interpolation=cv2.INTER_CUBIC)
        total += fine / cells ** random.uniform(0.2, 1.0)
    total -= total.min()
    return total / total.max()


def _blots(random: np.random.Generator, side: int) -> Picture:
    return (_noise(random, side) > 0.5).astype(np.float32)


def _stripes(random: np.random.Generator, side: int) -> Picture:
    y, x = np.mgrid[0:side, 0:side] * (2 * np.pi / side)
    count, slant = random.integers(1, 10), random.choice([0.0, 1.0, 0.5])
    wave = np.sin(count * (x * slant + y * (1 - slant)))
    return (wave > random.uniform(-0.6, 0.6)).astype(np.float32)


def _checks(random: np.random.Generator, side: int) -> Picture:
    y, x = np.mgrid[0:side, 0:side]
    count = random.integers(1, 6)
    coarse = (x * count * 2 // side + y * count * 2 // side) % 2
    return (0.6 * coarse + 0.4 * ((x * count * 4 // side) % 2)).astype(np.float32)


def _letters(random: np.random.Generator, side: int) -> Picture:
    picture = np.zeros((side, side), np.uint8)
    letters = list(string.ascii_uppercase + string.digits)
    for _ in range(random.integers(2, 6)):
        word = "".join(random.choice(letters, random.integers(2, 6)))
        place = (int(random.integers(-10, side // 2)), int(random.integers(20, side)))
        size, weight = float(random.uniform(0.5, 2.0)), int(random.integers(1, 5))
        cv2.putText(picture, word, place, cv2.FONT_HERSHEY_SIMPLEX, size, 255, weight)
    return picture.astype(np.float32) / 255.0


def _shapes(random: np.random.Generator, side: int) -> Picture:
    picture = np.zeros((side, side), np.float32)
    for _ in range(random.integers(3, 16)):
        tone = float(random.uniform(0.2, 1.0))
        place = random.integers(0, side, 2)
        if random.random() < 0.5:
            cv2.circle(
                picture, tuple(map(int, place)), int(random.integers(3, side // 4)), tone, -1
            )
        else:
            corner = place + random.integers(5, side // 2, 2)
            cv2.rectangle(picture, tuple(map(int, place)), tuple(map(int, corner)), tone, -1)
    return picture


def _blocks(random: np.random.Generator, side: int) -> Picture:
    cells = random.random((side // 4, side // 4)).astype(np.float32)
    return cells.repeat(4, 0).repeat(4, 1)


def _contours(random: np.random.Generator, side: int) -> Picture:
    return np.abs(np.sin(_noise(random, side) * random.uniform(5, 25)))
