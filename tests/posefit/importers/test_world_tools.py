# SPDX-License-Identifier: Apache-2.0
"""Results with the camera's way: TRAM, PromptHMR, SLAHMR, and sequences of 3DPW, EMDB and RICH."""

import json
import shutil

import numpy as np
import pytest
import torch
from dataset_layouts import (
    INTRINSICS,
    make_truth,
    seen,
    smplx_like,
    write_3dpw,
    write_emdb,
    write_rich,
)
from dataset_layouts import SIZE as DATASET_SIZE
from import_layouts import (
    FRAMES,
    SIZE,
    body,
    joints_of,
    moving,
    pinhole_pixels,
    pixels_of,
    worst,
    write_joblib,
)

from posefit.body import load_body
from posefit.importers import ImporterError, ImportOptions, read, sniff
from posefit_shared.rotations import rotvec_to_matrix

MIDDLE = (SIZE[0] / 2, SIZE[1] / 2)
FOCAL = 1100.0


def camera_way(frames):
    """Rotations and translations of a camera that turns and drifts, camera to world."""
    rotation = rotvec_to_matrix([[0.02 * k, -0.05 * k, 0.01] for k in range(frames)])
    return rotation, np.array([[0.1 * k, 0.02 * k, -0.05 * k] for k in range(frames)])


def write_tram(folder, motions, frames):
    rotation, place = camera_way(9)
    (folder / "hps").mkdir(parents=True)
    np.save(folder / "camera.npy", {
        "pred_cam_R": rotation.astype(np.float32), "pred_cam_T": place.astype(np.float32),
        "img_focal": np.float64(FOCAL), "img_center": np.array(MIDDLE),
    })  # fmt: skip
    for k, motion in enumerate(motions):
        np.save(folder / "hps" / f"hps_track_{k}.npy", {
            "pred_cam": torch.zeros(FRAMES, 3), "pred_pose": torch.zeros(FRAMES, 144),
            "pred_shape": torch.tensor(motion.betas).float(),
            "pred_rotmat": torch.tensor(motion.matrices).float(),
            "pred_trans": torch.tensor(motion.trans).float()[:, None],
            "frame": torch.tensor(frames),
        })  # fmt: skip
    return folder


@pytest.mark.parametrize("world", ["auto", "camera"])
@pytest.mark.parametrize("what", ["folder", "track"])
def test_tram_bodies_are_seen_where_tram_projects_them(tmp_path, world, what):
    motions = [moving(), moving(2)]
    folder = write_tram(tmp_path / "results" / "clip", motions, [0, 1, 2, 6, 7])
    path = folder if what == "folder" else folder / "hps" / "hps_track_0.npy"
    assert sniff(path) == "tram"
    people = read(path, ImportOptions(world=world))
    assert len(people) == (2 if what == "folder" else 1)
    for person, motion in zip(people, motions, strict=False):
        sequence = person.sequence
        assert (sequence.image_size, sequence.world) == (SIZE, "camera")
        assert sequence.frame_indices.tolist() == [0, 1, 2, 6, 7]
        joints = joints_of(motion.poses, motion.trans, motion.betas)
        assert worst(pixels_of(sequence), pinhole_pixels(joints, FOCAL, MIDDLE)) < 1e-3


def test_trams_world_is_the_body_moved_by_the_cameras_way(tmp_path):
    motion, frames = moving(), [0, 1, 2, 6, 7]
    folder = write_tram(tmp_path / "clip", [motion], frames)
    (person,) = read(folder)
    rotation, place = camera_way(9)
    joints = joints_of(motion.poses, motion.trans, motion.betas)
    expected = np.einsum("tij,tnj->tni", rotation[frames], joints) + place[frames][:, None]
    here = joints_of(person.sequence.poses, person.sequence.trans, person.sequence.betas)
    np.testing.assert_allclose(here, expected, atol=1e-5)


def test_tram_without_its_camera_is_refused_in_words(tmp_path):
    folder = write_tram(tmp_path / "clip", [moving()], range(FRAMES))
    (folder / "camera.npy").unlink()
    with pytest.raises(ImporterError, match="with camera.npy"):
        read(folder / "hps" / "hps_track_0.npy")


def write_prompthmr(path, motion, frames):
    """The world is y-up, the camera's way is world to camera."""
    full = np.zeros((FRAMES, 55, 3))
    full[:, :22] = motion.poses[:, :22]
    rotation, place = camera_way(9)
    flip = np.diag([1.0, -1.0, -1.0])
    to_world, origin = flip @ rotation, place @ flip
    pelvis = body().joint_template[0].numpy() + (
        body().joint_shapedirs[0].numpy() @ motion.betas[0]
    )
    root = to_world[frames] @ rotvec_to_matrix(full[:, 0])
    world = rotvec_to_matrix(full)
    world[:, 0] = root
    trans = np.einsum("tij,tj->ti", to_world[frames], motion.trans + pelvis) + origin[frames]
    camera = {"img_focal": np.float64(FOCAL), "img_center": np.array(MIDDLE)}
    person = {
        "track_id": 1, "frames": np.array(frames), "bboxes": np.zeros((FRAMES, 4)),
        "smplx_cam": {"rotmat": rotvec_to_matrix(full).astype(np.float32),
                      "pose": full[:, :25].reshape(FRAMES, 75).astype(np.float32),
                      "shape": motion.betas.astype(np.float32),
                      "trans": motion.trans.astype(np.float32)},
        "smplx_world": {"rotmat": world, "shape": motion.betas, "trans": trans - pelvis},
    }  # fmt: skip
    inverse = np.swapaxes(to_world, -1, -2)
    return write_joblib(path, {
        "people": {1: person}, "camera": camera | {"pred_cam_R": rotation, "pred_cam_T": place},
        "camera_world": camera | {"Rcw": inverse,
                                  "Tcw": -np.einsum("tij,tj->ti", inverse, origin)},
        "masks": None, "timings": {}, "has_slam": True,
    })  # fmt: skip


@pytest.mark.parametrize("world", ["auto", "camera"])
def test_prompthmr_bodies_are_seen_where_prompthmr_projects_them(tmp_path, world):
    motion, frames = moving(), [0, 1, 2, 6, 7]
    path = write_prompthmr(tmp_path / "results.pkl", motion, frames)
    assert sniff(path) == "prompthmr"
    (person,) = read(path, ImportOptions(world=world))
    sequence = person.sequence
    assert sequence.world == ("gravity" if world == "auto" else "camera")
    assert (sequence.model_type, sequence.person_id, sequence.image_size) == ("smplx", 1, SIZE)
    model = smplx_like().to(dtype=torch.float64)
    full = np.zeros((FRAMES, 55, 3))
    full[:, :22] = motion.poses[:, :22]
    joints = joints_of(full, motion.trans, motion.betas, model)
    assert worst(pixels_of(sequence, model), pinhole_pixels(joints, FOCAL, MIDDLE)) < 1e-3


def test_prompthmrs_camera_is_scaled_to_larger_footage(tmp_path):
    path = write_prompthmr(tmp_path / "r.pkl", moving(), list(range(FRAMES)))
    (person,) = read(path, ImportOptions(image_size=(2 * SIZE[0], 2 * SIZE[1])))
    assert person.sequence.image_size == (2 * SIZE[0], 2 * SIZE[1])
    np.testing.assert_allclose(person.sequence.intrinsics[0], [2 * FOCAL, 0, SIZE[0]])
    with pytest.raises(ImporterError, match="another form"):
        read(path, ImportOptions(image_size=(720, 720)))


def write_slahmr(folder, motions, seen_in):
    """Two tracks in the frames 10 … of a video, SMPL-H without hands."""
    rotation, place = camera_way(FRAMES)
    to_camera = np.swapaxes(rotation, -1, -2)
    shift = -np.einsum("tij,tj->ti", to_camera, place)
    people = len(motions)
    (folder / "motion_chunks").mkdir(parents=True)
    path = folder / "motion_chunks" / "clip_000100_world_results.npz"
    np.savez(
        path,
        trans=np.stack([m.trans for m in motions]),
        root_orient=np.stack([m.poses[:, 0] for m in motions]),
        pose_body=np.stack([m.poses[:, 1:22].reshape(FRAMES, 63) for m in motions]),
        betas=np.stack([np.append(m.betas[0], np.zeros(6)) for m in motions]),
        latent_pose=np.zeros((people, FRAMES, 32)),
        floor_plane=np.array([[0.0, -1.0, 0.0]]),
        cam_R=np.stack([to_camera] * people),
        cam_t=np.stack([shift] * people),
        intrins=np.array([FOCAL, FOCAL, *MIDDLE]),
    )
    tracks = {
        name: {"index": k, "vis_mask": [False] * 4 + list(seen_in[k])}
        for k, name in enumerate(("3", "11"))
    }
    meta = {"seq_interval": [4, 4 + FRAMES], "data_interval": [6, 15]}
    (folder / "track_info.json").write_text(json.dumps({"tracks": tracks, "meta": meta}))
    return path, to_camera, shift


def smplh_joints(motion):
    """SMPL-H without hands, posed by the free body: the first 22 joints are alike."""
    poses = motion.poses.copy()
    poses[:, 22:] = 0
    return joints_of(poses, motion.trans, motion.betas)[:, :22]


def test_slahmr_bodies_are_seen_where_slahmr_projects_them(tmp_path):
    motions = [moving(), moving(2)]
    seen_in = [[True, False, True, True, True], [False, True, True, True, False]]
    path, to_camera, shift = write_slahmr(tmp_path, motions, seen_in)
    assert sniff(path) == "slahmr"
    first, second = read(path)
    assert (first.sequence.person_id, second.sequence.person_id) == (3, 11)
    assert first.sequence.frame_indices.tolist() == [10, 11, 12, 13, 14]
    assert second.sequence.frame_indices.tolist() == [11, 12, 13]
    for person, motion, rows in ((first, motions[0], range(5)), (second, motions[1], (1, 2, 3))):
        rows = list(rows)
        sequence = person.sequence
        assert (sequence.model_type, sequence.image_size) == ("smplh", SIZE)
        camera = np.einsum("tij,tnj->tni", to_camera[rows], smplh_joints(motion)[rows])
        expected = pinhole_pixels(camera + shift[rows][:, None], FOCAL, MIDDLE)
        as_smpl = np.zeros((len(sequence), 24, 3))
        as_smpl[:, :22] = sequence.poses[:, :22]
        alike = sequence.replace(poses=as_smpl, model_type="smpl", betas=sequence.betas[:10])
        assert worst(pixels_of(alike)[:, :22], expected) < 1e-3


def test_slahmr_without_track_info_says_that_it_takes_everybody_to_be_there(tmp_path):
    path, _, _ = write_slahmr(tmp_path, [moving(), moving(2)], [[True] * 5] * 2)
    (tmp_path / "track_info.json").unlink()
    people = read(path)
    assert all(len(one.sequence) == FRAMES for one in people)
    assert any("track_info.json" in note for note in people[0].notes)


@pytest.fixture(scope="module")
def truths():
    model = load_body("free")
    return [make_truth(model), make_truth(model, seed=4)]


def dataset_pixels(truth, rows):
    """Where the data sets' own cameras see the joints."""
    joints = seen(truth.joints[rows], truth.cameras[rows])
    return pinhole_pixels(joints, INTRINSICS[0, 0], tuple(INTRINSICS[:2, 2]))


def test_a_file_of_3dpw_gives_its_actors_without_unusable_frames(tmp_path, truths):
    root = write_3dpw(tmp_path, truths)
    path = root / "sequenceFiles" / "test" / "downtown_walking_00.pkl"
    assert sniff(path) == "3dpw"
    people = read(path)
    assert [one.sequence.gender for one in people] == ["male", "female"]
    for person, truth in zip(people, truths, strict=True):
        assert 3 not in person.sequence.frame_indices
        assert person.sequence.image_size == DATASET_SIZE
        expected = dataset_pixels(truth, person.sequence.frame_indices)
        assert worst(pixels_of(person.sequence), expected) < 1e-3
    shutil.rmtree(root / "imageFiles")
    alone = read(path, ImportOptions(image_size=DATASET_SIZE))
    assert alone[0].sequence.has_camera


def test_a_file_of_emdb_is_upright_and_seen_as_before(tmp_path, truths):
    root = write_emdb(tmp_path, truths[0])
    path = root / "P0" / "09_outdoor_walk" / "P0_09_outdoor_walk_data.pkl"
    assert sniff(path) == "emdb"
    (person,) = read(path)
    assert (person.sequence.world, person.sequence.gender) == ("gravity", "female")
    assert 2 not in person.sequence.frame_indices
    expected = dataset_pixels(truths[0], person.sequence.frame_indices)
    assert worst(pixels_of(person.sequence), expected) < 2e-3


def test_a_folder_of_rich_gives_a_person_a_camera(tmp_path, truths):
    root = write_rich(tmp_path, truths[0])
    folder = root / "bodies" / "test" / "ParkingLot2_017_burpeejump2"
    assert sniff(folder) == "rich"
    people = read(folder)
    assert people
    for person in people:
        assert person.sequence.model_type == "smplx"
        assert person.sequence.frame_indices[0] == 20
        np.testing.assert_allclose(
            person.sequence.poses[:, :22], truths[0].poses[:, :22], atol=1e-6
        )
        np.testing.assert_allclose(person.sequence.trans, truths[0].trans, atol=1e-6)
