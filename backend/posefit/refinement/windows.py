# SPDX-License-Identifier: Apache-2.0
"""Long sequences in windows: how a clip is cut, and how the solved pieces become one motion.

Windows share `overlap` frames with the next one and are solved on their own, so memory does not
grow with the clip, and in process, in a worker or on a cluster the numbers are the same. The rule
of joining: over the shared frames the weight of the later window rises linearly from 0 to 1 (at
the (k + 1)-th of n shared frames it is (k + 1) / (n + 1)); translations are averaged with it,
rotations go the shortest way between the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from posefit_shared import rotations

__all__ = ["Window", "blend_poses", "join_windows", "split_windows"]


@dataclass(frozen=True)
class Window:
    """A run of frames solved together."""

    start: int
    """First frame."""
    stop: int
    """One past the last frame."""

    def __len__(self) -> int:
        return self.stop - self.start


def split_windows(frames: int, window: int, overlap: int) -> list[Window]:
    """Windows that cover all frames, neighbours sharing `overlap` of them.

    Args:
        frames: length of the clip, at least 1.
        window: frames of a window; the last one may be shorter, but is longer than the overlap.
        overlap: frames that neighbours share, less than `window`.

    Returns:
        Windows in order of time; one alone when the clip fits into it.
    """
    if frames < 1 or window <= overlap or overlap < 0:
        raise ValueError(
            f"{frames} frames in windows of {window} sharing {overlap}: expected at least one "
            "frame and windows longer than what they share"
        )
    windows = [Window(0, min(window, frames))]
    while windows[-1].stop < frames:
        start = windows[-1].stop - overlap
        windows.append(Window(start, min(start + window, frames)))
    return windows


def join_windows(
    windows: Sequence[Window],
    solved: Iterable[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """One motion from the motions of its windows.

    Args:
        windows: as `split_windows` gave them.
        solved: for each window its poses (n, J, 3) rotation vectors and translations (n, 3).

    Returns:
        Poses (T, J, 3) and translations (T, 3) of the whole clip.
    """
    poses: npt.NDArray[np.float32] | None = None
    trans = np.zeros((0, 3), np.float32)
    for window, (window_poses, window_trans) in zip(windows, solved, strict=True):
        if poses is None:
            poses = np.zeros((windows[-1].stop, *window_poses.shape[1:]), np.float32)
            trans = np.zeros((windows[-1].stop, 3), np.float32)
            done = 0
        shared = done - window.start
        blended, own = slice(window.start, done), slice(done, window.stop)
        if shared:
            weight = (np.arange(shared) + 1.0)[:, None] / (shared + 1)
            poses[blended] = blend_poses(poses[blended], window_poses[:shared], weight[..., None])
            trans[blended] = (1 - weight) * trans[blended] + weight * window_trans[:shared]
        poses[own], trans[own] = window_poses[shared:], window_trans[shared:]
        done = window.stop
    if poses is None:
        raise ValueError("no windows: expected at least one")
    return poses, trans


def blend_poses(
    first: npt.ArrayLike, second: npt.ArrayLike, weight: float | npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """Rotation vectors (…, 3) on the shortest way from `first` (0) to `second` (weight 1)."""
    start = rotations.rotvec_to_matrix(first)
    turn = rotations.matrix_to_rotvec(
        np.swapaxes(start, -1, -2) @ rotations.rotvec_to_matrix(second)
    )
    step = rotations.rotvec_to_matrix(np.asarray(weight, np.float64) * turn)
    return rotations.matrix_to_rotvec(start @ step).astype(np.float32)
