# SPDX-License-Identifier: Apache-2.0
"""Readers of public data sets, on small files in their layouts made with the free body."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from dataset_layouts import (
    FRAMES,
    INTRINSICS,
    SIZE,
    h36m_metadata,
    make_truth,
    pose,
    seen,
    write_3dpw,
    write_bedlam,
    write_cdf,
    write_emdb,
    write_pickle,
    write_rich,
)

from posefit.body import load_body
from posefit.datasets import DatasetError, upright
from posefit.datasets.bedlam import read_bedlam
from posefit.datasets.emdb import read_emdb
from posefit.datasets.human36m import H36M_17, read_human36m
from posefit.datasets.human36m_cameras import read_metadata
from posefit.datasets.recording import Recording
from posefit.datasets.rich import read_rich
from posefit.datasets.threedpw import read_3dpw
from posefit_shared.frames import apply, project
from posefit_shared.model_pickle import ModelPickleError, read_array_pickle
from posefit_shared.rotations import rotvec_to_matrix


@pytest.fixture(scope="module")
def body():
    return load_body("free")


@pytest.fixture(scope="module")
def truth(body):
    return make_truth(body)


def posed_joints(recording: Recording, body) -> np.ndarray:
    sequence = recording.sequence
    return pose(body, sequence.poses, sequence.trans, sequence.betas)[0]


# ------------------------------------------------------------------------------------- pickles


@pytest.mark.parametrize("protocol", range(6))
def test_nested_arrays_come_back_whatever_python_wrote_them(protocol) -> None:
    data = {"a": [np.arange(6.0).reshape(2, 3), np.ones(3, bool)], "b": {"k": np.float32(2)}}
    read = read_array_pickle(pickle.dumps({**data, "s": "male", "n": None}, protocol))
    assert np.array_equal(read["a"][0], data["a"][0])
    assert read["a"][1].dtype == bool
    assert read["b"]["k"] == 2
    assert (read["s"], read["n"]) == ("male", None)


class _Evil:
    def __reduce__(self):
        return (Path, ("x",))


def test_a_pickle_that_names_anything_else_is_refused_and_not_run() -> None:
    with pytest.raises(ModelPickleError, match="nothing was run"):
        read_array_pickle(pickle.dumps({"a": [_Evil()]}))


# --------------------------------------------------------------------------------------- 3DPW


def test_3dpw_gives_an_actor_a_recording_with_the_pictures_size(tmp_path, truth, body) -> None:
    other = make_truth(body, seed=1)
    one, two = read_3dpw(write_3dpw(tmp_path, [truth, other]), "test")
    assert (one.name, two.name) == ("downtown_walking_00_0", "downtown_walking_00_1")
    assert (one.sequence.gender, two.sequence.gender) == ("male", "female")
    assert one.sequence.image_size == SIZE
    assert one.up is None
    assert one.sequence.world == "camera"
    assert np.allclose(posed_joints(two, body), other.joints, atol=1e-5)
    assert np.allclose(two.joints, other.joints)
    assert not one.valid[3]
    assert one.valid.sum() == FRAMES - 1
    assert not one.has_keypoints[5]


def test_samples_are_the_valid_frames_with_their_pictures(tmp_path, truth, body) -> None:
    (recording,) = read_3dpw(write_3dpw(tmp_path, [truth]), "test")
    samples = list(recording.samples())
    assert [sample.frame for sample in samples] == [k for k in range(FRAMES) if k != 3]
    sample = samples[6]
    assert sample.picture == tmp_path / "imageFiles/downtown_walking_00/image_00007.jpg"
    assert sample.picture.is_file()
    expected = INTRINSICS @ seen(truth.joints[7:8], truth.cameras[7:8])[0].T
    pixels, depth = project(sample.camera, truth.joints[7])
    assert np.allclose(pixels.T, expected[:2] / expected[2])
    assert (depth > 0).all()
    assert [s.frame for s in recording.samples(stride=5)] == [0, 5, 10]


def test_frames_with_nan_are_invalid_and_not_an_error(tmp_path, truth) -> None:
    poses = truth.poses.reshape(FRAMES, 72).copy()
    poses[9] = np.nan
    (recording,) = read_3dpw(write_3dpw(tmp_path, [truth], poses=[poses]), "test")
    assert not recording.valid[9]
    assert np.isfinite(recording.sequence.poses).all()


def test_wrong_3dpw_layouts_are_refused_in_one_sentence(tmp_path, truth) -> None:
    with pytest.raises(DatasetError, match="no folder .*sequenceFiles.test.*docs/datasets.md"):
        list(read_3dpw(tmp_path, "test"))
    with pytest.raises(DatasetError, match="no split 'val', it has train, validation, test"):
        list(read_3dpw(tmp_path, "val"))
    write_3dpw(tmp_path, [truth], cam_poses=np.zeros((FRAMES, 3, 4)))
    with pytest.raises(DatasetError, match=r"cam_poses in .* is \(12, 3, 4\), expected"):
        list(read_3dpw(tmp_path, "test"))
    write_pickle(tmp_path / "sequenceFiles/test/downtown_walking_00.pkl", {"poses": []})
    with pytest.raises(DatasetError, match="lacks 'cam_poses' and has poses"):
        list(read_3dpw(tmp_path, "test"))


# --------------------------------------------------------------------------------------- EMDB


def test_emdb_keeps_its_world_and_can_be_stood_up(tmp_path, truth, body) -> None:
    (recording,) = read_emdb(write_emdb(tmp_path, truth), "emdb2")
    assert recording.tags == {"emdb1", "emdb2"}
    assert not recording.valid[2]
    standing = upright(recording, body)
    assert standing.sequence.world == "gravity"
    joints = posed_joints(standing, body)
    head, foot = body.joint_names.index("Head"), body.joint_names.index("L_Foot")
    assert (joints[:, head, 2] - joints[:, foot, 2] > 1).all()
    assert np.allclose(
        seen(joints, standing.sequence.world_to_camera),
        seen(truth.joints, truth.cameras),
        atol=1e-5,
    )


def test_emdb_subsets_leave_other_sequences_out(tmp_path, truth) -> None:
    write_emdb(tmp_path, truth)
    write_emdb(tmp_path, truth, "P1_14_outdoor_climb", emdb1=False)
    assert [r.name for r in read_emdb(tmp_path, "emdb1")] == ["P0_09_outdoor_walk"]
    assert len(list(read_emdb(tmp_path))) == 2


def test_a_world_without_known_up_is_not_stood_up(tmp_path, truth, body) -> None:
    (recording,) = read_3dpw(write_3dpw(tmp_path, [truth]), "test")
    with pytest.raises(DatasetError, match="does not document where up is"):
        upright(recording, body)


# --------------------------------------------------------------------------------------- RICH


def test_rich_gives_each_camera_with_pictures_a_recording(tmp_path, truth) -> None:
    (recording,) = read_rich(write_rich(tmp_path, truth), "test")
    assert recording.name == "ParkingLot2_017_burpeejump2_017_cam_01"
    sequence = recording.sequence
    assert (sequence.model_type, sequence.gender, sequence.image_size) == (
        "smplx", "female", SIZE,
    )  # fmt: skip
    assert np.allclose(sequence.poses[:, :22], truth.poses[:, :22], atol=1e-6)
    assert np.allclose(sequence.poses[:, 22], 0.1)
    assert not sequence.poses[:, 25:].any()
    assert recording.posed_joints[-1] == "R_Eye"
    assert recording.sample(3).picture.name == "00023_01.bmp"
    assert list(sequence.frame_indices[:2]) == [20, 21]
    assert np.allclose(sequence.world_to_camera[1], [0, -1, 0, 0])


def test_rich_without_calibration_or_gender_is_refused(tmp_path, truth) -> None:
    write_rich(tmp_path, truth)
    camera = tmp_path / "scan_calibration/ParkingLot2/calibration/001.xml"
    camera.write_text("<opencv_storage/>")
    with pytest.raises(DatasetError, match="has no Intrinsics of 3 × 3 numbers"):
        list(read_rich(tmp_path, "test"))
    (tmp_path / "resource/gender.json").write_text("{}")
    with pytest.raises(DatasetError, match="no gender for subject 017"):
        list(read_rich(tmp_path, "test"))


# ---------------------------------------------------------------------------------- Human3.6M

ANGLES, POSITION_MM = np.array([-1.4, 0.3, 0.2]), np.array([500.0, -4000.0, 1500.0])


def h36m_root(root: Path, rng, name: str = "Directions 1.60457274") -> np.ndarray:
    (root / "metadata.xml").write_text(h36m_metadata(ANGLES, POSITION_MM))
    in_camera_mm = rng.normal(size=(10, 32, 3)) * 300 + [0, 0, 4000]
    write_cdf(
        root / f"S9/MyPoseFeatures/D3_Positions_mono/{name}.cdf", in_camera_mm.reshape(10, 96)
    )
    return in_camera_mm


def test_h36m_joints_lie_in_the_world_from_which_the_camera_sees_them(tmp_path, rng) -> None:
    stored = h36m_root(tmp_path, rng)
    (recording,) = read_human36m(tmp_path, "test")
    assert recording.name == "S9_Directions_1_60457274"
    assert not recording.has_body
    assert recording.sequence.image_size == (1000, 1002)
    back = apply(recording.sequence.world_to_camera, recording.joints)
    assert np.allclose(back, stored[:, H36M_17] / 1000, atol=1e-5)
    with pytest.raises(DatasetError, match="no SMPL parameters"):
        list(recording.samples())


def test_h36m_cameras_stand_where_the_metadata_says(tmp_path, rng) -> None:
    h36m_root(tmp_path, rng)
    camera = read_metadata(tmp_path / "metadata.xml").camera(9, "60457274")
    assert np.allclose(camera.position, POSITION_MM / 1000)
    turns = [rotvec_to_matrix(np.eye(3)[k] * ANGLES[k]) for k in range(3)]
    assert np.allclose(camera.world_to_camera[:3, :3], turns[0] @ turns[1] @ turns[2])
    assert np.allclose(camera.distortion, [-0.2, 0.24, -0.0009, -0.001, -0.002])


def test_h36m_takes_fits_by_the_metadatas_mapping(tmp_path, rng) -> None:
    h36m_root(tmp_path, rng)
    fit = {"pose": [0.1] * 72, "shape": [0.5] * 10, "trans": [1.0, 2.0, 3.0]}
    (tmp_path / "annotations").mkdir()
    path = tmp_path / "annotations/Human36M_subject9_SMPL_NeuralAnnot.json"
    path.write_text(json.dumps({"2": {"1": {"0": fit, "5": fit}}}))
    (recording,) = read_human36m(tmp_path, "test")
    assert [sample.frame for sample in recording.samples()] == [0, 5]
    assert np.allclose(recording.sequence.trans[5], [1, 2, 3])
    assert recording.sequence.gender == "neutral"


def test_h36m_without_metadata_or_poses_is_refused(tmp_path, rng) -> None:
    with pytest.raises(DatasetError, match=r"metadata.xml cannot be read"):
        list(read_human36m(tmp_path, "test"))
    (tmp_path / "metadata.xml").write_text("<metadata><w0>[1 2 3]</w0></metadata>")
    with pytest.raises(DatasetError, match="has 3 numbers, expected 300"):
        list(read_human36m(tmp_path, "test"))
    (tmp_path / "metadata.xml").write_text(h36m_metadata(ANGLES, POSITION_MM))
    with pytest.raises(DatasetError, match="D3_Positions_mono"):
        list(read_human36m(tmp_path, "test"))


# ------------------------------------------------------------------------------------- BEDLAM


def test_bedlam_tells_the_people_of_a_picture_sequence_apart(tmp_path, truth) -> None:
    one, two = read_bedlam(write_bedlam(tmp_path, truth), "training")
    assert len(one) == len(two) == FRAMES
    assert (one.sequence.person_id, two.sequence.person_id) == (0, 1)
    assert np.allclose(two.sequence.trans - one.sequence.trans, [1, 0, 0])
    assert list(one.sequence.frame_indices[:3]) == [0, 5, 10]
    assert one.sequence.image_size == (1280, 720)
    assert one.sequence.gender == "neutral"
    assert one.sequence.betas[10] == pytest.approx(0.25)
    picture = one.sample(1).picture
    assert picture == (
        tmp_path / "training_images/20221010_3_1000_batch01hand_6fps/png"
        "/seq_000000/seq_000000_0005.png"
    )


def test_bedlams_closeups_need_a_quarter_turn(tmp_path, truth) -> None:
    write_bedlam(tmp_path, truth, "20221011_1_250_batch01hand_closeup_suburb_a_6fps")
    recording = next(read_bedlam(tmp_path, "training"))
    assert recording.sample(0).quarter_turns == 1


def test_bedlam_names_that_do_not_count_pictures_are_refused(tmp_path, truth) -> None:
    write_bedlam(tmp_path, truth)
    (path,) = (tmp_path / "training_labels/all_npz_12_training").glob("*.npz")
    with np.load(path, allow_pickle=True) as data:
        arrays = dict(data)
    np.savez(path, **(arrays | {"imgname": np.array(["a.png"] * 2 * FRAMES)}))
    with pytest.raises(DatasetError, match="imgname in .* holds 'a.png'"):
        list(read_bedlam(tmp_path, "training"))
