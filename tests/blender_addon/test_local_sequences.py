# SPDX-License-Identifier: GPL-3.0-or-later
"""Sequence and shot files as motions with names, without Blender."""

import json

import numpy as np
import pytest
from blender_addon.sequences.local_sequences import have_one_camera, read_file
from scene_makers import camera_fields, random_sequence

from posefit_shared.sequence import SequenceError, write_sequence


def write_shot(folder, people, offset=0, **camera):
    fields = {
        "name": "left",
        "footage": "left.mp4",
        "frame_offset": offset,
        "image_size": [320, 240],
        "intrinsics": [[300, 0, 160], [0, 300, 120], [0, 0, 1]],
        "world_to_camera": [[1, 0, 0, 0], [0, 0, -1, 1], [0, 1, 0, 4], [0, 0, 0, 1]],
    }
    path = folder / "shot.json"
    path.write_text(json.dumps({"cameras": [fields | camera], "people": people}))
    return path


def test_the_people_of_a_shot_come_under_its_cameras_frames(rng, tmp_path):
    for name in ("anna", "ben"):
        motion = random_sequence(rng, count=3, frame_indices=np.arange(5, 8))
        write_sequence(tmp_path / f"{name}.npz", motion)
    found = read_file(write_shot(tmp_path, ["anna.npz", "ben.npz"], offset=10))
    assert [one.name for one in found] == ["anna", "ben"]
    assert found[0].motion.frame_indices.tolist() == [15, 16, 17]
    assert found[0].motion.has_camera
    assert have_one_camera(found[0].motion, found[1].motion)
    assert found[0].footage is None  # left.mp4 is not there
    (tmp_path / "left.mp4").touch()
    assert read_file(tmp_path / "shot.json")[0].footage == tmp_path / "left.mp4"


def test_files_of_one_name_in_several_folders_are_told_apart(rng, tmp_path):
    for name in ("a", "b"):
        write_sequence(tmp_path / name / "result.npz", random_sequence(rng, count=2))
    found = read_file(write_shot(tmp_path, ["a/result.npz", "b/result.npz"]))
    assert [one.name for one in found] == ["result.person1", "result.person2"]


def test_frames_before_the_cameras_first_are_left_out(rng, tmp_path):
    motion = random_sequence(rng, count=5)
    write_sequence(tmp_path / "anna.npz", motion)
    found = read_file(write_shot(tmp_path, ["anna.npz"], offset=-2))[0].motion
    assert found.frame_indices.tolist() == [0, 1, 2]
    assert np.array_equal(found.poses, motion.poses[2:])
    with pytest.raises(SequenceError, match="camera left shows nothing"):
        read_file(write_shot(tmp_path, ["anna.npz"], offset=-9))


def test_a_moving_camera_is_that_of_the_frame(rng, tmp_path):
    moving = np.tile(np.eye(4), (9, 1, 1))
    moving[:, 0, 3] = np.arange(9)
    np.save(tmp_path / "camera.npy", moving)
    write_sequence(tmp_path / "anna.npz", random_sequence(rng, count=3))
    path = write_shot(tmp_path, ["anna.npz"], offset=4, world_to_camera="camera.npy")
    placed = read_file(path)[0].motion.world_to_camera
    assert placed[:, 0, 3].tolist() == [4, 5, 6]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("file.bvh", "no sequence of posefit's"),
        ("none.npz", "no sequence file"),
        ("shot.json", "names no people"),
    ],
)
def test_what_is_no_file_of_posefits_is_said(tmp_path, name, words):
    write_shot(tmp_path, [])
    (tmp_path / "file.bvh").touch()
    with pytest.raises(SequenceError, match=words):
        read_file(tmp_path / name)


def test_cameras_that_differ_are_two(rng):
    fields = camera_fields(rng, 4, moving=True)
    first = random_sequence(rng, count=4, **fields)
    assert have_one_camera(first, first.slice(1, 3))
    elsewhere = fields["world_to_camera"] + np.eye(4) * [0, 0, 0, 0]
    elsewhere[3, 2, 3] += 1
    assert not have_one_camera(first, first.replace(world_to_camera=elsewhere))
    assert not have_one_camera(first, first.replace(intrinsics=first.intrinsics * [[2], [2], [1]]))
    assert not have_one_camera(first, random_sequence(rng, count=4))
