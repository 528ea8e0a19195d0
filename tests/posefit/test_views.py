# SPDX-License-Identifier: Apache-2.0
"""Cameras that a client names beside the sequence's own."""

import numpy as np
import pytest
from synthetic_clip import ArrayFootage

from posefit.views import view_of_reference
from posefit_shared.messages import MediaReference, ViewReference
from posefit_shared.sequence import SequenceError


def reference(**changes) -> ViewReference:
    places = np.eye(4)[None].repeat(4, 0)
    places[:, 0, 3] = np.arange(4)
    fields = {
        "name": "side",
        "media": MediaReference(path="/side.mp4"),
        "frame_indices": np.array([-1, 0, 1, 9]),
        "intrinsics": np.eye(3)[None],
        "world_to_camera": places,
        "image_size": (6, 4),
    }
    return ViewReference(**(fields | changes))


def test_a_named_camera_has_no_picture_before_and_beyond_its_footage() -> None:
    view = view_of_reference(reference(), ArrayFootage(np.zeros((3, 4, 6, 3), np.uint8)))
    assert view.frame_indices.tolist() == [-1, 0, 1, -1]
    assert [view.camera(t).world_to_camera[0, 3] for t in range(4)] == [0, 1, 2, 3]
    assert view.camera(3).intrinsics == pytest.approx(np.eye(3))


def test_a_named_camera_of_another_size_than_its_footage_is_refused() -> None:
    with pytest.raises(SequenceError, match="of 'side' is 5 × 4 pixels"):
        view_of_reference(reference(), ArrayFootage(np.zeros((3, 4, 5, 3), np.uint8)))
