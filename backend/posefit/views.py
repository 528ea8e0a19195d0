# SPDX-License-Identifier: Apache-2.0
"""Views: for each frame of a sequence, which picture shows it and through which camera.

A sequence filmed by its own camera is one view; a shot adds one for each calibrated camera. The
pipeline treats several views as one longer list of evidence.
"""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from posefit_shared.frames import Camera
from posefit_shared.messages import ViewReference
from posefit_shared.sequence import Sequence, SequenceError
from posefit_shared.shot import Shot, ShotCamera

from .footage import Footage, open_footage

__all__ = ["View", "check_footage", "view_of_reference", "view_of_sequence", "views_of_shot"]


@dataclass(frozen=True)
class View:
    """The pictures of a sequence through one camera."""

    name: str
    """What reports call it."""
    footage: Footage
    """Where the pictures come from."""
    frame_indices: npt.NDArray[np.int64]
    """(T,) decoded frame for each frame of the sequence; −1 where this camera has none."""
    cameras: tuple[Camera, ...]
    """The camera of each frame; one entry where it stands still."""

    def camera(self, frame: int) -> Camera:
        """The camera of a frame of the sequence."""
        return self.cameras[0] if len(self.cameras) == 1 else self.cameras[frame]

    def has_picture(self, frame: int) -> bool:
        """Whether this camera filmed that frame of the sequence."""
        return bool(self.frame_indices[frame] >= 0)


def view_of_sequence(sequence: Sequence, footage: Footage) -> View:
    """The view of the sequence's own camera.

    Raises:
        SequenceError: the sequence has no camera, its picture size is not the footage's, or it
            names frames that the footage does not have.
    """
    moving = sequence.intrinsics is not None and (
        sequence.intrinsics.ndim == 3
        or (sequence.world_to_camera is not None and sequence.world_to_camera.ndim == 3)
    )
    cameras = tuple(sequence.camera(t) for t in range(len(sequence) if moving else 1))
    indices = sequence.frame_indices
    assert indices is not None, "a Sequence always has frame_indices"
    view = View("camera", footage, indices, cameras)
    check_footage(view)
    last = int(indices.max())
    if last >= len(footage):
        raise SequenceError(
            f"the sequence names frame {last} of the footage, which has {len(footage)} frames "
            f"(0 to {len(footage) - 1}): check that they belong together, or cut the sequence"
        )
    return view


def view_of_reference(reference: ViewReference, footage: Footage) -> View:
    """The view of a camera that a client names beside the sequence's own.

    Frames that fall outside its footage have no picture there.

    Raises:
        SequenceError: the camera's picture size is not the footage's.
    """
    distortion = np.zeros(5) if reference.distortion is None else reference.distortion
    lenses, places = reference.intrinsics, reference.world_to_camera
    count = max(len(lenses), len(places))
    cameras = tuple(
        Camera(
            lenses[min(t, len(lenses) - 1)],
            places[min(t, len(places) - 1)],
            reference.image_size,
            distortion,
        )
        for t in range(count)
    )
    indices = np.where(reference.frame_indices < len(footage), reference.frame_indices, -1)
    view = View(reference.name, footage, indices, cameras)
    check_footage(view)
    return view


def views_of_shot(shot: Shot, sequence: Sequence, names: Many[str] | None = None) -> list[View]:
    """One view for each camera of a shot, or for the cameras named.

    Frames that fall outside a camera's footage have no picture there.

    Raises:
        SequenceError: a camera's picture size is not its footage's, or a name is unknown.
    """
    chosen = shot.cameras if names is None else [shot.camera(name) for name in names]
    return [_view_of_camera(camera, sequence) for camera in chosen]


def _view_of_camera(camera: ShotCamera, sequence: Sequence) -> View:
    footage = open_footage(camera.footage)
    assert sequence.frame_indices is not None, "a Sequence always has frame_indices"
    indices = sequence.frame_indices + camera.frame_offset
    indices = np.where((indices < 0) | (indices >= len(footage)), -1, indices)
    cameras = (camera.camera,)
    if camera.moving is not None:
        at = np.clip(indices, 0, len(camera.moving) - 1)
        still = camera.camera
        cameras = tuple(
            Camera(still.intrinsics, camera.moving[t], still.image_size, still.distortion)
            for t in at
        )
    view = View(camera.name, footage, indices, cameras)
    check_footage(view)
    if (indices < 0).all():
        raise SequenceError(
            f"no frame of the sequence lies in the footage of camera {camera.name!r}: check its "
            "frame_offset"
        )
    return view


def check_footage(view: View) -> None:
    """Refuse footage whose pictures are not of the size that the camera was calibrated for.

    Raises:
        SequenceError: the sizes differ.
    """
    expected = view.cameras[0].image_size
    if tuple(view.footage.size) != tuple(expected):
        width, height = view.footage.size
        raise SequenceError(
            f"the footage of {view.name!r} is {width} × {height} pixels, its camera is for "
            f"{expected[0]} × {expected[1]}: use the original footage or mend image_size and "
            f"intrinsics{view.footage.remark}"
        )
