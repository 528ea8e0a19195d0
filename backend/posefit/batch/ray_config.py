# SPDX-License-Identifier: Apache-2.0
"""What a batch may take of a Ray cluster, said without Ray."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["RayConfig"]


@dataclass(frozen=True)
class RayConfig:
    """What a job takes on a Ray cluster."""

    cpus: float = 1.0
    """CPU cores of a job, for decoding, detection and all that is no network."""
    gpus: float = 0.0
    """GPUs of a job; 0.25 lets four jobs share one."""
    decode_cpus: float = 0.0
    """CPU cores of a stage of its own, before the job, that decodes and looks for keypoints on any
    node; 0: the job does that itself."""
    chunk_frames: int = 2048
    """Longer clips are divided: parts of at most so many frames, in whole windows, are tasks of
    their own between one that finds what they share and one that joins them; 0: never."""
    in_flight: int = 256
    """Jobs that Ray knows of at once; an autoscaler sees what waits among them."""
