# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes photographs of renderings: sensor noise, earlier compression, the file that is kept."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ["contact_sheet", "develop"]


def develop(
    rendering: Path, output: Path, *, noise: float, qualities: tuple[int, ...], quality: int,
    seed: tuple[int, ...],
) -> None:  # fmt: skip
    """Writes the JPEG of a rendering.

    Args:
        rendering: .png as it came from Cycles.
        output: .jpg to write.
        noise: spread at middle grey, 0 to 1; grows with the square root of light, blotchy by a
            third.
        qualities: JPEG qualities that the picture goes through first.
        quality: of the file.
        seed: of the noise.
    """
    random = np.random.default_rng(seed)
    with Image.open(rendering) as picture:
        pixels = np.asarray(picture.convert("RGB"), np.float32) / 255
    spread = noise * np.sqrt(pixels.mean(2, keepdims=True) / 0.5 + 0.05)
    fine = random.normal(0, 1, pixels.shape)
    coarse = random.normal(0, 1, (*(n // 2 for n in pixels.shape[:2]), 3)).repeat(2, 0).repeat(2, 1)
    pixels = pixels + spread * (0.8 * fine + 0.5 * coarse)
    image = Image.fromarray((pixels.clip(0, 1) * 255 + 0.5).astype(np.uint8))
    for earlier in qualities:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=earlier)
        image = Image.open(io.BytesIO(buffer.getvalue()))
    image.save(output, "JPEG", quality=quality)


def contact_sheet(pictures: list[list[Path]], output: Path, side: int, quality: int = 82) -> None:
    """Writes all pictures as one, a row a person."""
    rows, columns = len(pictures), max(map(len, pictures))
    sheet = Image.new("RGB", (columns * side, rows * side), (255, 255, 255))
    for row, files in enumerate(pictures):
        for column, file in enumerate(files):
            with Image.open(file) as picture:
                small = picture.convert("RGB").resize((side, side), Image.Resampling.LANCZOS)
                sheet.paste(small, (column * side, row * side))
    output.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(output, quality=quality)
