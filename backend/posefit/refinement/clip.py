# SPDX-License-Identifier: Apache-2.0
"""What is refined: a sequence with its pictures and all that is known of it beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from posefit_shared.sequence import Sequence as PoseSequence

from ..errors import RefinementError
from ..solver import Evidence, LandmarkPixels
from ..views import View
from .observation import TextureMaps
from .others import Occluders

__all__ = ["Clip", "check_visible", "clip_seconds", "spread_frames", "world_stands_still"]

_NEIGHBOURHOOD = 0.4
"""How far a frame may be moved, in distances between frames that are spread evenly."""


@dataclass(frozen=True)
class Clip:
    """What is refined, and everything that is known about it beforehand."""

    sequence: PoseSequence
    """The input."""
    views: Sequence[View]
    """Pictures of it through one or several cameras."""
    landmarks: Sequence[LandmarkPixels] = ()
    """Keypoint evidence, one entry for each view that has it."""
    textures: TextureMaps = lambda frames: None
    """The person's texture for each frame, painted by other frames."""
    evidence: Sequence[Evidence] = ()
    """What other tools found, with a row for each frame of the sequence."""
    others: Occluders | None = None
    """Who else is there and may hide this person."""


def clip_seconds(clip: Clip) -> npt.NDArray[np.float64]:
    """Seconds of each frame, rising."""
    sequence = clip.sequence
    if sequence.times is not None:
        return sequence.times
    indices = sequence.frame_indices
    assert indices is not None, "a Sequence always has frame_indices"
    if (np.diff(indices) > 0).all():
        view = clip.views[0]
        if not view.footage.is_even and (view.frame_indices >= 0).all():
            return view.footage.times[view.frame_indices]
        return indices / view.footage.fps
    return np.arange(len(sequence)) / sequence.mocap_framerate


def world_stands_still(clip: Clip) -> bool:
    """Whether a point that is still in the world is still: the camera's motion is known."""
    sequence = clip.sequence
    cameras = sequence.world_to_camera
    moves = cameras is not None and cameras.ndim == 3
    return sequence.world == "gravity" or moves or len(clip.views) > 1


def check_visible(boxes: Sequence[npt.NDArray[np.float64]]) -> None:
    """Refuse a clip in which no camera sees any part of the body.

    Args:
        boxes: of each view, from `pictures.boxes_of_clip`.
    """
    if not any(np.isfinite(of_view).all(1).any() for of_view in boxes):
        raise RefinementError(
            f"the body lies wholly outside the picture in all {len(boxes[0])} frames: check that "
            "the sequence, its camera and its footage belong together"
        )


def spread_frames(clip: Clip, count: int) -> npt.NDArray[np.int64]:
    """So many frames spread evenly over a clip, or all of them; rising.

    Where its footage is a film, each is the one of its neighbourhood that is reached by decoding
    the fewest others: key frames lie up to ten seconds apart.
    """
    frames = len(clip.sequence)
    even = np.unique(np.linspace(0, frames - 1, min(frames, count)).round().astype(np.int64))
    keys = clip.views[0].footage.key_frames if clip.views else None
    if keys is None or not len(keys) or len(even) == frames:
        return even
    pictures = clip.views[0].frame_indices
    key_before = keys[np.maximum(np.searchsorted(keys, pictures, "right") - 1, 0)]
    effort = np.where(pictures < 0, frames, pictures - key_before)
    reach = int(_NEIGHBOURHOOD * frames / len(even))
    chosen = []
    for frame in even:
        near = np.arange(max(frame - reach, 0), min(frame + reach + 1, frames))
        order = np.lexsort((np.abs(near - frame), effort[near]))
        chosen.append(near[order[0]])
    return np.unique(chosen)
