# SPDX-License-Identifier: Apache-2.0
"""Tracks that a tracker broke become one person, and two people never do."""

import numpy as np
import pytest

from posefit.importers import ImportedPerson
from posefit.importers.relinking import relinked
from posefit_shared.sequence import Sequence

RATE = 30.0
LENS = np.array([[1000.0, 0, 640], [0, 1000, 360], [0, 0, 1]])


def walk(frames, seed=0, *, offset=(0.0, 0.0, 0.0), number=1, **changes):
    """Somebody who walks to the right at 1.5 m/s, seen in these frames."""
    frames = np.asarray(frames)
    rng = np.random.default_rng(seed)
    pose = 0.2 * rng.normal(size=(24, 3))
    poses = pose + 0.05 * np.sin(0.2 * frames)[:, None, None]
    trans = np.array(offset) + [-1.0, 0.0, 4.0] + np.outer(frames / RATE, [1.5, 0.0, 0.0])
    fields = {
        "poses": poses, "trans": trans, "betas": 0.3 * rng.normal(size=10),
        "frame_indices": frames, "intrinsics": LENS, "world_to_camera": np.eye(4),
        "image_size": (1280, 720), "world": "camera", "person_id": number, **changes,
    }  # fmt: skip
    return ImportedPerson(Sequence(**fields), f"track {number}", ("a note",))


def test_a_track_that_was_lost_for_some_frames_goes_on():
    first, later = walk(range(20)), walk(range(30, 50), number=7)
    (whole,) = relinked([later, first], shares_world=False)
    assert whole.sequence.person_id == 1
    assert whole.sequence.frame_indices.tolist() == [*range(20), *range(30, 50)]
    assert whole.sequence.betas.shape == (10,)
    assert whole.notes == (
        "a note",
        "track 7 from frame 30 on is taken for track 1 after 10 frames without them: place, pose "
        "and shape agree",
    )
    np.testing.assert_array_equal(whole.sequence.trans[20:], later.sequence.trans)


def test_a_track_that_broke_twice_is_one_person_and_keeps_its_shapes():
    people = [walk(range(k, k + 8), number=k) for k in (0, 10, 20)]
    people[1] = walk(range(10, 18), number=10, betas=people[0].sequence.betas + 0.1)
    (whole,) = relinked(people, shares_world=False)
    assert len(whole.sequence) == 24
    assert whole.sequence.betas.shape == (24, 10)
    assert len(whole.notes) == 3


@pytest.mark.parametrize(
    "later",
    [
        walk(range(55, 70)),  # more than a second later
        walk(range(15, 35)),  # at the same time
        walk(range(30, 50), offset=(0.0, 1.0, 0.0)),  # elsewhere in the picture
        walk(range(30, 50), offset=(0.0, 0.0, 0.8)),  # further away
        walk(range(30, 50), seed=4),  # in another pose
        walk(range(30, 50), betas=np.full(10, 2.0)),  # of another shape
        walk(range(30, 50), gender="female"),
        walk(range(30, 50), world_to_camera=np.diag([1.0, -1, -1, 1])),  # through another camera
    ],
)
def test_what_disagrees_stays_two_people(later):
    assert len(relinked([walk(range(20)), later], shares_world=False)) == 2


def test_where_two_could_go_on_nobody_does():
    people = [walk(range(20)), walk(range(30, 50)), walk(range(32, 50), offset=(0.1, 0, 0))]
    assert len(relinked(people, shares_world=False)) == 3


def test_tracks_in_one_world_are_compared_in_the_cameras_that_saw_them():
    def panned(frames, number):
        one = walk(frames, number=number).sequence
        cameras = np.tile(np.eye(4), (len(one), 1, 1))
        cameras[:, 0, 3] = -one.trans[:, 0]  # the camera goes with them
        return ImportedPerson(one.replace(world="gravity", world_to_camera=cameras), str(number))

    people = [panned(range(20), 1), panned(range(30, 50), 2)]
    assert len(relinked(people, shares_world=False)) == 2
    (whole,) = relinked(people, shares_world=True)
    assert whole.sequence.world_to_camera.shape == (40, 4, 4)
