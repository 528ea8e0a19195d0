# SPDX-License-Identifier: Apache-2.0
"""A made-up frame, refined and thrown away, so that the first real one is as fast as the tenth.

It loads the networks, compiles kernels and, on a GPU, records what is replayed later. A worker does
it once, when it has no job yet; a job that comes meanwhile ends it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from posefit_shared.messages import TextureRequest
from posefit_shared.sequence import Sequence
from posefit_shared.settings import RefineSettings

from ..body import BodyModel
from ..engine import refine_views
from ..footage import Footage
from ..keypoints.detection import KEYPOINTS, Keypoints, detect_keypoints
from ..pipeline import Hooks
from ..refinement.checkpoint import Checkpoint
from ..texture import Texture, uv_hash
from ..views import view_of_sequence

__all__ = ["rehearse_frame"]

SIDE = 512
"""Width and height of the picture, pixels."""
DISTANCE_M = 3.5
"""How far before the camera the body stands."""


class _Interrupted(Exception):  # noqa: N818  # a job has come
    """Somebody wants something real."""


class _Noise(Footage):
    """One picture of noise: nothing is found in it, and everything is looked for."""

    path = Path("rehearsal")
    size = (SIDE, SIDE)
    fps = 30.0

    def __len__(self) -> int:
        return 1

    def read(self, index: int) -> npt.NDArray[np.uint8]:
        """See `Footage`."""
        return np.random.default_rng(index).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


def rehearse_frame(body: BodyModel, is_wanted: Callable[[], bool]) -> bool:
    """Refine a made-up frame with everything that a frame is refined with by default.

    Args:
        body: on the device that computes; it has texture coordinates.
        is_wanted: whether a job has come, and the rehearsal is to end.

    Returns:
        Whether it came to its end.
    """

    def check() -> None:
        if is_wanted():
            raise _Interrupted

    sequence = _standing(body.num_joints)
    view = view_of_sequence(sequence, _Noise())
    middle = np.array([[SIDE / 4, SIDE / 4, 3 * SIDE / 4, 3 * SIDE / 4]], np.float32)
    try:
        check()
        detect_keypoints(view.footage, [0], box_hint=middle, with_masks=False)
        check()
        seen = Checkpoint({})
        seen.keep_keypoints(0, _middle_of(middle))
        refine_views(
            sequence,
            [view],
            body=body,
            settings=RefineSettings(rounds=1, solver_iterations=2),
            texture=_grey(body),
            checkpoint=seen,
            hooks=Hooks(check_cancelled=check),
        )
    except _Interrupted:
        return False
    return True


def _standing(joints: int) -> Sequence:
    """A body that stands before the camera, upright."""
    lens = np.array([[SIDE, 0, SIDE / 2], [0, SIDE, SIDE / 2], [0, 0, 1]], np.float64)
    return Sequence(
        poses=np.zeros((1, joints, 3), np.float32),
        trans=np.array([[0.0, 0.0, -DISTANCE_M]], np.float32),
        intrinsics=lens,
        world_to_camera=np.diag([1.0, -1.0, -1.0, 1.0]),
        image_size=(SIDE, SIDE),
    )


def _grey(body: BodyModel) -> Texture:
    """A texture like those that are painted."""
    side = TextureRequest.resolution
    return Texture(torch.full((side, side, 3), 0.5), torch.ones(side, side), uv_hash(body))


def _middle_of(box: npt.NDArray[np.float32]) -> Keypoints:
    """Landmarks that all lie in the middle of a box, and say little."""
    pixels = np.broadcast_to(box.reshape(2, 2).mean(0), (1, KEYPOINTS, 2))
    return Keypoints(
        frame_indices=np.zeros(1, np.int64),
        pixels=pixels.astype(np.float32),
        confidence=np.full((1, KEYPOINTS), 0.5, np.float32),
        world=np.zeros((1, KEYPOINTS, 3), np.float32),
        person_box=box,
        found=np.ones(1, bool),
    )
