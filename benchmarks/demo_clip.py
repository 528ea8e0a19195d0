# SPDX-License-Identifier: Apache-2.0
"""The demo's clip for benchmarks: its film, its first estimate, and clips of any length of it."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

from posefit.body import load_body
from posefit.footage import open_footage
from posefit_shared.sequence import Sequence
from posefit_shared.shot import read_shot

__all__ = ["estimated", "longer", "longer_film", "played", "to_and_fro"]


def estimated(frames: int | None = None) -> tuple[Sequence, Path]:
    """The first estimate of the clip's first frames, or of all, and the film."""
    from posefit.commands.demo import ASSETS, MAIN_CAMERA  # a machine with a GPU may lack what
    from posefit.estimate import estimate  # these import: the keypoint detector, the report

    camera = read_shot(ASSETS / "shot.json").camera(MAIN_CAMERA)
    with open_footage(camera.footage) as footage:
        indices = None if frames is None else np.arange(frames)
        sequence = estimate(
            footage, body=load_body("free"), camera=camera.camera, frame_indices=indices
        )
    return sequence, Path(camera.footage)


def to_and_fro(length: int, rows: np.ndarray) -> np.ndarray:
    """Frames of a short clip that make one of any length: forwards, backwards, forwards …

    Args:
        length: frames of the short clip.
        rows: of the long one.
    """
    at = rows % max(2 * length - 2, 1)
    return np.where(at < length, at, 2 * length - 2 - at)


def played(sequence: Sequence, rows: np.ndarray) -> Sequence:
    """Frames of the clip as it is played to and fro; its film is as short as before."""
    at = to_and_fro(len(sequence), rows)
    return sequence.replace(
        poses=sequence.poses[at], trans=sequence.trans[at], frame_indices=at,
        times=None, confidence=None, status=None,
    )  # fmt: skip


def longer(sequence: Sequence, frames: int) -> Sequence:
    """The clip played to and fro, of a film that is so too (`longer_film`)."""
    rows = np.arange(frames)
    return played(sequence, rows).replace(frame_indices=rows)


def longer_film(film: Path, path: Path, frames: int) -> Path:
    """The film played so: H.264 at its rate, a key frame a second."""
    with open_footage(film) as footage, av.open(str(path), "w") as container:
        rate = round(footage.fps)
        stream = container.add_stream("libx264", rate=rate, options={"g": str(rate), "crf": "20"})
        stream.width, stream.height = footage.size
        stream.pix_fmt = "yuv420p"
        pictures = [footage.read(frame) for frame in range(len(footage))]
        for row in to_and_fro(len(footage), np.arange(frames)):
            frame = av.VideoFrame.from_ndarray(pictures[row], format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
