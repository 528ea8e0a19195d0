# SPDX-License-Identifier: Apache-2.0
"""Sequence and shot files: what goes in comes out, and what is broken is refused in words."""

import json

import numpy as np
import pytest

from posefit_shared import rotations, sequence, shot
from posefit_shared.sequence import Sequence, SequenceError, read_sequence, write_sequence


def walk(frames: int = 6, joints: int = 24) -> Sequence:
    rng = np.random.default_rng(0)
    return Sequence(
        poses=rng.normal(size=(frames, joints, 3)) * 0.2, trans=rng.normal(size=(frames, 3)),
        betas=rng.normal(size=10), intrinsics=np.diag([500.0, 500.0, 1.0]),
        world_to_camera=np.stack([np.eye(4)] * frames), image_size=(640, 480), body="free",
        confidence=np.full((frames, joints), 0.5), status=("kept",) * frames,
        frame_indices=np.arange(frames) * 2 + 10, mocap_framerate=59.94, person_id=3,
    )  # fmt: skip


def test_a_sequence_survives_the_file(tmp_path):
    before = walk()
    write_sequence(tmp_path / "name with spaces é.npz", before)
    after = read_sequence(tmp_path / "name with spaces é.npz")
    for name in ("poses", "trans", "betas", "intrinsics", "world_to_camera", "frame_indices",
                 "confidence"):  # fmt: skip
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name), name)
    for name in ("body", "status", "image_size", "mocap_framerate", "person_id", "model_type"):
        assert getattr(after, name) == getattr(before, name)


def test_the_file_has_the_promised_keys(tmp_path):
    write_sequence(tmp_path / "a.npz", walk())
    with np.load(tmp_path / "a.npz", allow_pickle=False) as archive:
        assert archive["posefit_schema"] == 1
        assert archive["poses"].shape == (6, 72)
        assert archive["poses"].dtype == np.float32
        assert {"trans", "betas", "mocap_framerate", "frame_indices", "status"} <= set(
            archive.files
        )


@pytest.mark.parametrize(("width", "model"), [(72, "smpl"), (156, "smplh"), (165, "smplx")])
def test_the_model_follows_from_the_width(tmp_path, width, model):
    np.savez(tmp_path / "a.npz", poses=np.zeros((2, width)), trans=np.zeros((2, 3)))
    assert read_sequence(tmp_path / "a.npz").model_type == model


def test_amass_as_it_is_can_be_read(tmp_path):
    np.savez(
        tmp_path / "amass.npz", poses=np.zeros((4, 156)), trans=np.ones((4, 3)),
        betas=np.arange(16.0), gender=np.array("male"), mocap_frame_rate=np.array(120.0),
        dmpls=np.zeros((4, 8)),
    )  # fmt: skip
    read = read_sequence(tmp_path / "amass.npz")
    assert (read.mocap_framerate, read.gender, read.betas.shape) == (120.0, "male", (16,))


def test_matrices_and_split_poses_can_be_read(tmp_path):
    poses = walk().poses
    matrices = rotations.rotvec_to_matrix(poses)
    np.savez(tmp_path / "a.npz", global_orient=matrices[:, :1], body_pose=matrices[:, 1:],
             transl=np.ones((6, 3)))  # fmt: skip
    read = read_sequence(tmp_path / "a.npz")
    np.testing.assert_allclose(read.poses, poses, atol=1e-5)
    assert read.trans[0, 0] == 1


def test_a_slice_takes_everything_that_belongs_to_its_frames():
    part = walk().slice(2, 5)
    assert len(part) == 3
    assert part.frame_indices.tolist() == [14, 16, 18]
    assert part.world_to_camera.shape == (3, 4, 4)
    assert len(part.status) == 3


def test_a_newer_schema_is_refused_in_words(tmp_path):
    np.savez(tmp_path / "a.npz", posefit_schema=2, poses=np.zeros((2, 72)))
    with pytest.raises(SequenceError, match="schema 2, this posefit reads up to 1: update"):
        read_sequence(tmp_path / "a.npz")


def test_nan_is_refused_with_the_frame(tmp_path):
    poses = np.zeros((5, 72))
    poses[3, 7] = np.nan
    np.savez(tmp_path / "a.npz", poses=poses)
    with pytest.raises(SequenceError, match="NaN or infinity \\(first at frame 3\\)"):
        read_sequence(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({}, "no poses found"),
        ({"poses": np.zeros((2, 71))}, r"poses is \(2, 71\), expected"),
        ({"poses": np.zeros((2, 75))}, "25 joints, expected 24"),
        ({"poses": np.zeros((0, 72))}, "expected .frames ≥ 1"),
        ({"poses": np.zeros((2, 72)), "trans": np.zeros((3, 3))}, r"trans is \(3, 3\), expected"),
        (
            {"poses": np.zeros((2, 72)), "intrinsics": np.eye(3)},
            "but no world_to_camera",
        ),
        ({"poses": np.zeros((2, 72)), "world": "moon"}, "expected 'gravity' or 'camera'"),
        ({"poses": np.zeros((2, 72)), "mocap_framerate": 0}, "mocap_framerate is 0"),
        ({"poses": np.array([["a"] * 72] * 2)}, "expected numbers"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(tmp_path, arrays, words):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(SequenceError, match=words):
        read_sequence(tmp_path / "a.npz")


def test_a_missing_truncated_or_pickled_file_is_refused_in_words(tmp_path):
    with pytest.raises(SequenceError, match="no sequence file at"):
        read_sequence(tmp_path / "none.npz")
    write_sequence(tmp_path / "a.npz", walk())
    (tmp_path / "cut.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:700])
    with pytest.raises(SequenceError, match=r"cut.npz is no readable .npz"):
        read_sequence(tmp_path / "cut.npz")
    np.savez(tmp_path / "pickled.npz", poses=np.array([{}], dtype=object))
    with pytest.raises(SequenceError, match="without objects"):
        read_sequence(tmp_path / "pickled.npz")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    write_sequence(tmp_path / "a.npz", walk())
    before = (tmp_path / "a.npz").read_bytes()

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sequence.np, "savez_compressed", full)
    with pytest.raises(SequenceError, match="No space left on device"):
        write_sequence(tmp_path / "a.npz", walk(3))
    assert (tmp_path / "a.npz").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def shot_file(tmp_path, **changes):
    camera = {
        "name": "cam01", "footage": "clip one.mp4", "frame_offset": -4, "image_size": [64, 48],
        "intrinsics": np.diag([50.0, 50.0, 1.0]).tolist(), "world_to_camera": np.eye(4).tolist(),
    }  # fmt: skip
    camera.update(changes)
    path = tmp_path / "shot.json"
    path.write_text(json.dumps({"cameras": [camera], "people": ["a.npz"]}))
    return path


def test_a_shot_gives_cameras_and_people(tmp_path):
    read = shot.read_shot(shot_file(tmp_path))
    assert read.camera("cam01").frame_offset == -4
    assert read.camera("cam01").footage == tmp_path / "clip one.mp4"
    assert read.people == (tmp_path / "a.npz",)
    with pytest.raises(SequenceError, match="no camera 'cam09', expected one of cam01"):
        read.camera("cam09")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"intrinsics": [[1]]}, "not usable: intrinsics has shape"),
        ({"world_to_camera": "missing.npy"}, "not usable"),
        ({"image_size": "large"}, "not usable"),
    ],
)
def test_a_broken_shot_is_refused_in_words(tmp_path, changes, words):
    with pytest.raises(SequenceError, match=words):
        shot.read_shot(shot_file(tmp_path, **changes))
