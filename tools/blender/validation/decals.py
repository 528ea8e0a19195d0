# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures printed on clothes, drawn here: a badge, a number, a word."""

from __future__ import annotations

import math
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

__all__ = ["decal_file"]

SIDE = 256


def decal_file(kind: str, text: str, folder: Path) -> str:
    """Draws a decal, white ink on black, unless it is there already.

    Args:
        kind: `badge`, `number` or `text`.
        text: what to write.
        folder: where to.

    Returns:
        The file's name in the folder.
    """
    name = f"decal_{kind}_{text}.png"
    if not (folder / name).exists():
        picture = Image.new("L", (SIDE, SIDE), 0)
        if kind == "badge":
            _badge(ImageDraw.Draw(picture))
        else:
            _words(ImageDraw.Draw(picture), text, 190 if kind == "number" else 84)
        picture.save(folder / name)
    return name


def _badge(draw: ImageDraw.ImageDraw) -> None:
    """A ring with a star and two bars."""
    draw.ellipse((28, 28, 228, 228), outline=255, width=16)
    star = [
        (128 + radius * math.sin(turn), 128 - radius * math.cos(turn))
        for turn, radius in zip((math.pi * k / 5 for k in range(10)), (72, 30) * 5, strict=True)
    ]
    draw.polygon(star, fill=255)
    draw.rectangle((4, 8, 252, 18), fill=255)
    draw.rectangle((4, 238, 252, 248), fill=255)


def _words(draw: ImageDraw.ImageDraw, text: str, size: int) -> None:
    font = ImageFont.load_default(size=size)
    draw.text((128, 128), text, fill=255, font=font, anchor="mm", stroke_width=5)
