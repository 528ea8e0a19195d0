# SPDX-License-Identifier: Apache-2.0
"""Asset files of training in the tools' layout, made up."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

CLIPS = ("walk/a_1", "walk/b_2", "jump/c_3", "asfamc/03_1", "deepmimic/humanoid3d_jump")


def write_assets(folder: Path) -> Path:
    """Writes poses.npz and backgrounds.npz with random numbers; returns the folder."""
    random = np.random.default_rng(0)
    names = [*CLIPS, *(f"other/{k}_x" for k in "abcdefghijklmnopqrstuvwxyz")]
    np.savez(
        folder / "poses.npz",
        pose=(random.standard_normal((5 * len(names), 24, 3)) * 0.2).astype(np.float16),
        clip=np.repeat(np.arange(len(names)), 5).astype(np.int16),
        names=np.array(names),
        rate=15.0,
    )
    pictures = [random.integers(0, 255, (64, 64, 3)).astype(np.uint8) for _ in names]
    files = [cv2.imencode(".jpg", picture)[1].reshape(-1) for picture in pictures]
    np.savez(
        folder / "backgrounds.npz",
        data=np.concatenate(files),
        sizes=np.array([len(f) for f in files]),
        source=np.arange(len(names), dtype=np.int16),
        names=np.array(names),
    )
    return folder
