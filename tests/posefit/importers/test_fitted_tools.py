# SPDX-License-Identifier: Apache-2.0
"""Results whose camera or body is found from points in the file: GLAMR, NLF, SAM 3D Body; SPIN."""

import pickle

import numpy as np
import pytest
import torch
from import_layouts import (
    SIZE,
    assert_damages_are_refused_in_words,
    body,
    joints_of,
    moving,
    pinhole_pixels,
    pixels_of,
    worst,
)

from posefit.body import PoseParameters, pose_body
from posefit.importers import ImporterError, ImportOptions, read, sniff
from posefit.importers.sam3d import _BODY, _hand_points
from posefit.solver import named_points
from posefit_shared.frames import invert
from posefit_shared.rotations import matrix_to_rotvec

MIDDLE = np.array(SIZE) / 2
GLAMR_JOINTS = [1, 2, 4, 5, 12, 7, 8, 16, 17, 18, 19, 20, 21]
GLAMR_PLACES = [1, 2, 4, 5, 6, 7, 8, 20, 21, 22, 23, 24, 25]
OFFSET = np.array([0.01, -0.04, 0.02])


def glamr(motion):
    """`grecon` of one person who is missed in the first frame and between two others."""
    count = len(motion.poses)
    turn = np.array([[1, 0, 0, 0.5], [0, 0, -1, 1.0], [0, 1, 0, 0.2], [0, 0, 0, 1.0]])
    cameras = np.stack([turn] * count)
    cameras[:, 0, 3] += 0.1 * np.arange(count)
    back = np.stack([invert(one) for one in cameras])
    joints = joints_of(motion.poses, motion.trans, motion.betas)
    root = motion.matrices[:, 0]
    pelvis = joints[:, 0] + root @ OFFSET
    pixels = np.zeros((count, 26, 2))
    pixels[:, GLAMR_PLACES] = pinhole_pixels(joints[:, GLAMR_JOINTS], 1000.0, tuple(MIDDLE))
    seen = np.array([k not in (0, 2) for k in range(count)])
    lens = np.array([[1000.0, 0, MIDDLE[0]], [0, 1000, MIDDLE[1]], [0, 0, 1]])
    person = {
        "smpl_pose": motion.poses[:, 1:].reshape(count, 69).astype(np.float32),
        "smpl_beta": motion.betas.astype(np.float32),
        "smpl_orient_world": matrix_to_rotvec(back[:, :3, :3] @ root).astype(np.float32),
        "root_trans_world": (
            np.einsum("tij,tj->ti", back[:, :3, :3], pelvis) + back[:, :3, 3]
        ).astype(np.float32),
        "cam_K": (lens * seen[:, None, None]).astype(np.float32),
        "kp_2d_pred": (pixels * seen[:, None, None]).astype(np.float32),
        "exist_frames": np.arange(count) > 0,
        "vis_frames": seen, "scale": None, "max_len": count,
    }  # fmt: skip
    return {
        "seq_name": "walk", "person_data": {0: person}, "cam_pose": cameras.astype(np.float32),
        "cam_pose_inv": back.astype(np.float32), "gt": {}, "meta": {"algo": "global_recon"},
    }  # fmt: skip


def test_glamr_bodies_are_seen_where_glamr_sees_them(tmp_path):
    motion = moving()
    path = tmp_path / "walk_seed1.pkl"
    path.write_bytes(pickle.dumps(glamr(motion)))
    assert sniff(path) == "glamr"
    (person,) = read(path)
    sequence = person.sequence
    assert sequence.frame_indices.tolist() == [1, 2, 3, 4]
    assert sequence.world == "gravity"
    assert sequence.image_size == SIZE
    assert "46 mm from SMPL's" in person.notes[0]
    joints = joints_of(motion.poses, motion.trans, motion.betas)[1:]
    assert worst(pixels_of(sequence), pinhole_pixels(joints, 1000.0, tuple(MIDDLE))) < 2e-3


def test_damaged_glamr_files_are_refused_in_words(tmp_path):
    assert_damages_are_refused_in_words(
        glamr(moving()), lambda p, v: p.write_bytes(pickle.dumps(v)), tmp_path / "g.pkl", keep=12
    )


def nlf(people, model=24):
    """`detect_smpl_batched` of pictures with two people, and one with nobody."""
    focal = 950.0
    lists = {name: [] for name in ("pose", "betas", "trans", "joints3d", "joints2d", "boxes")}
    for t in range(len(people[0].poses)):
        joints = [joints_of(one.poses, one.trans, one.betas)[t] for one in people]
        lists["pose"].append(np.stack([one.poses[t].reshape(-1) for one in people]))
        lists["betas"].append(np.stack([one.betas[t] for one in people]))
        lists["trans"].append(np.stack([one.trans[t] for one in people]))
        lists["joints3d"].append(1e3 * np.stack(joints))
        lists["joints2d"].append(pinhole_pixels(np.stack(joints), focal, tuple(MIDDLE)))
        lists["boxes"].append(np.zeros((len(people), 5)))
    empty = {"pose": 72, "betas": 10, "trans": 3, "joints3d": (24, 3), "joints2d": (24, 2)}
    for name, shape in empty.items():
        lists[name].append(np.zeros((0, *np.atleast_1d(shape))))
    lists["boxes"].append(np.zeros((0, 5)))
    return {k: [torch.tensor(one, dtype=torch.float32) for one in v] for k, v in lists.items()}


def test_nlf_people_are_linked_and_their_camera_is_found(tmp_path):
    first, other = moving(0), moving(1)
    other = type(other)(other.poses, other.trans + [1.5, 0, 0], other.betas)
    path = tmp_path / "pred.pt"
    torch.save(nlf([first, other]), path)
    assert sniff(path) == "nlf"
    people = sorted(read(path), key=lambda one: one.sequence.trans[0, 0])
    assert len(people) == 2
    for person, motion in zip(people, (first, other), strict=True):
        joints = joints_of(motion.poses, motion.trans, motion.betas)
        assert person.sequence.image_size == SIZE
        assert (
            worst(pixels_of(person.sequence), pinhole_pixels(joints, 950.0, tuple(MIDDLE))) < 0.01
        )
        np.testing.assert_allclose(person.sequence.intrinsics[0, 0], 950.0, rtol=1e-4)


def test_nlf_points_of_no_one_camera_are_refused(tmp_path):
    prediction = nlf([moving(0)])
    prediction["joints2d"][2] = prediction["joints2d"][2] + torch.randn(24, 2) * 40
    torch.save(prediction, tmp_path / "pred.pt")
    with pytest.raises(ImporterError, match="do not fit one camera"):
        read(tmp_path / "pred.pt")


def test_nlf_fits_of_a_sequence_come_in(tmp_path):
    motion = moving()
    joints = joints_of(motion.poses, motion.trans, motion.betas)
    np.savez(tmp_path / "fit.npz", pose=motion.poses.reshape(-1, 72), betas=motion.betas,
             trans=motion.trans, joints=joints)  # fmt: skip
    (person,) = read(tmp_path / "fit.npz")
    np.testing.assert_allclose(person.sequence.trans, motion.trans, atol=1e-6)
    assert person.sequence.world == "camera"


def mhr_points(motion):
    """(T, 70, 3) of the body's own named points; points that it lacks lie at the origin."""
    model, names = body(), {**_BODY, **_hand_points()}
    rows = torch.tensor(motion.poses)
    posed = pose_body(
        model,
        PoseParameters(*(torch.tensor(x) for x in (motion.betas,)), rows[:, 0], rows[:, 1:],
                       torch.tensor(motion.trans)),
    )  # fmt: skip
    bound = named_points(*names.values()).bind(model, model.dtype)
    sources = torch.cat([posed.joints, posed.vertices[:, bound.vertices]], 1)
    points = np.tile(motion.trans[:, None], (1, 70, 1))
    points[:, list(names)] = (bound.mixture.T @ sources).numpy()
    return points


def sam3d(motion):
    points = mhr_points(motion)
    pixels = pinhole_pixels(points, 1100.0, tuple(MIDDLE))
    return [
        {
            "pred_keypoints_3d": (points[t] - motion.trans[t]).astype(np.float32),
            "pred_keypoints_2d": pixels[t].astype(np.float32),
            "pred_cam_t": motion.trans[t].astype(np.float32),
            "focal_length": np.float32(1100.0), "bbox": np.zeros(4, np.float32),
            "mhr_model_params": np.zeros(204, np.float32), "mask": None,
        }
        for t in range(len(points))
    ]  # fmt: skip


@pytest.mark.parametrize("layout", ["folder", "list"])
def test_sam3d_bodies_become_smpl_that_meets_their_points(tmp_path, layout):
    motion = moving()
    results = sam3d(motion)
    path = tmp_path / "results"
    if layout == "folder":
        path.mkdir()
        for t, one in enumerate(results):
            kept = {k: v for k, v in one.items() if v is not None}
            np.savez(path / f"img_{3 * t:05d}_subj00.npz", **kept)
    else:
        path = tmp_path / "results.npy"
        np.save(path, np.array([[one] for one in results] + [[]], dtype=object))
    assert sniff(path) == "sam3d"
    (person,) = read(path)
    sequence = person.sequence
    assert sequence.frame_indices.tolist() == [
        (3 if layout == "folder" else 1) * t for t in range(5)
    ]
    joints = joints_of(motion.poses, motion.trans, motion.betas)
    found = joints_of(sequence.poses, sequence.trans, sequence.betas)
    limbs = [1, 2, 4, 5, 7, 8, 16, 17, 18, 19, 20, 21]
    assert np.linalg.norm(joints - found, axis=-1)[:, limbs].mean() < 0.01
    assert "SMPL was solved for from MHR's 70 points" in person.notes[0]


def test_spin_rows_are_seen_in_their_crops(tmp_path):
    motion = moving()
    weak = np.column_stack([np.linspace(0.8, 0.9, 5), np.full((5, 2), [0.02, 0.1])])
    path = tmp_path / "eval.npz"
    np.savez(path, pred_joints=np.zeros((5, 17, 3)), pose=motion.poses.reshape(5, 72),
             betas=motion.betas, camera=weak)  # fmt: skip
    assert sniff(path) == "spin"
    (person,) = read(path)
    shift = np.column_stack([weak[:, 1:], 2 * 5000 / (224 * weak[:, 0] + 1e-9)])  # SPIN's demo.py
    seen = joints_of(motion.poses, shift, motion.betas)
    assert worst(pixels_of(person.sequence), pinhole_pixels(seen, 5000.0, (112.0, 112.0))) < 1e-3
    with pytest.raises(ImporterError, match="give the crops themselves as footage"):
        read(path, ImportOptions(image_size=SIZE))
