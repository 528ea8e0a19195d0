# SPDX-License-Identifier: Apache-2.0
"""Cuts photographs and panoramas into small squares for the training generator's backgrounds.

Every image found in the given folders gives `--crops` random squares; `.exr` panoramas are tone
mapped at several exposures first. Writes one `.npz` of JPEG bytes:

    data   (bytes,) uint8  the JPEG files one after the other
    sizes  (N,) int64      length of each
    source (N,) int16      which image a square was cut from
    names  (S,) str        file names of the sources

The file isn't part of the project: each photograph has its own licence (`docs/training.md`).

    python tools/training/prepare_backgrounds.py --folders DIR … --output F
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

os.environ["OPENCV_IO_ENABLE_OPENEXR"] = "1"  # read by cv2 when it is imported
import cv2

SUFFIXES = {".jpg", ".jpeg", ".png", ".exr", ".hdr"}


@dataclass(frozen=True)
class Options:
    """What to cut and how."""

    folders: tuple[Path, ...]
    """Folders searched for pictures."""
    output: Path
    """File to write (.npz)."""
    crops: int = 9
    """Squares cut from each picture."""
    size: int = 384
    """Side of a square in pixels."""
    quality: int = 88
    """JPEG quality."""
    seed: int = 0
    """Seed of the cuts."""


def read_picture(path: Path, random: np.random.Generator) -> np.ndarray | None:
    """The picture as (H, W, 3) uint8 BGR; panoramas at a random exposure. None if unreadable."""
    if path.suffix.lower() in (".exr", ".hdr"):
        radiance = cv2.imread(str(path), cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)
        if radiance is None:
            return None
        exposure = 0.4 * 2.0 ** random.uniform(-1.0, 1.2) / (np.median(radiance) + 1e-6)
        mapped = (radiance[..., :3] * exposure).clip(0, 1) ** (1 / 2.2)
        return (mapped * 255).astype(np.uint8)
    return cv2.imread(str(path), cv2.IMREAD_COLOR)


def random_square(picture: np.ndarray, size: int, random: np.random.Generator) -> np.ndarray:
    """A square of 25 to 100% of the shorter side, resized to `size`."""
    height, width = picture.shape[:2]
    side = min(height, width)
    side = int(max(min(size * 0.5, side), side * random.uniform(0.25, 1.0)))
    top, left = random.integers(0, height - side + 1), random.integers(0, width - side + 1)
    square = picture[top : top + side, left : left + side]
    return cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA)


def main(options: Options) -> None:
    """Cuts all pictures and writes the file."""
    random = np.random.default_rng(options.seed)
    files, sources, names, seen = [], [], [], set()
    for folder in options.folders:
        for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES):
            if path.stem in seen or "screenshot" in path.stem or path.is_symlink():
                continue
            for _ in range(options.crops):
                picture = read_picture(path, random)
                if picture is None or min(picture.shape[:2]) < 200:
                    break
                square = random_square(picture, options.size, random)
                if square.std() < 8:
                    continue
                parameters = [cv2.IMWRITE_JPEG_QUALITY, options.quality]
                files.append(cv2.imencode(".jpg", square, parameters)[1].reshape(-1))
                sources.append(len(names))
            names.append(f"{folder.name}/{path.parent.name}/{path.name}")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        options.output,
        data=np.concatenate(files),
        sizes=np.array([len(f) for f in files]),
        source=np.array(sources, np.int16),
        names=np.array(names),
    )
    total = sum(map(len, files)) / 2**20
    print(f"{len(names)} pictures, {len(files)} squares, {total:.1f} MiB -> {options.output}")


if __name__ == "__main__":
    main(tyro.cli(Options))
