# SPDX-License-Identifier: Apache-2.0
"""Files of motion alone: AMASS, plain SMPL parameters, AIST++, BVH."""

import json
import pickle

import numpy as np
import pytest
from import_layouts import FRAMES, body, joints_of, moving, pinhole_pixels, pixels_of, worst

from posefit.importers import ImporterError, ImportOptions, read, sniff
from posefit_shared.rotations import (
    matrix_to_6d,
    rotvec_to_matrix,
)
from posefit_shared.sequence import write_sequence
from posefit_shared.skeleton import SMPL_JOINT_NAMES, SMPL_PARENTS


def amass(width, rate_name):
    rng = np.random.default_rng(0)
    return {
        "poses": 0.2 * rng.normal(size=(FRAMES, width)),
        "trans": rng.normal(size=(FRAMES, 3)),
        "betas": rng.normal(size=16),
        "gender": np.array("female"),
        rate_name: np.array(120.0),
        "dmpls": np.zeros((FRAMES, 8)),
        "labels": np.array([None, "x"], dtype=object),
    }


@pytest.mark.parametrize(
    ("width", "rate_name", "model"),
    [(156, "mocap_framerate", "smplh"), (165, "mocap_frame_rate", "smplx")],
)
def test_amass_comes_in_as_it_is(tmp_path, width, rate_name, model):
    data = amass(width, rate_name)
    np.savez(tmp_path / "walk_poses.npz", **data)
    assert sniff(tmp_path / "walk_poses.npz") == "amass"
    (person,) = read(tmp_path / "walk_poses.npz")
    sequence = person.sequence
    assert (sequence.model_type, sequence.gender, sequence.world) == (model, "female", "gravity")
    assert sequence.mocap_framerate == 120
    np.testing.assert_allclose(sequence.poses.reshape(FRAMES, -1), data["poses"], atol=1e-6)
    np.testing.assert_allclose(sequence.trans, data["trans"], atol=1e-6)
    np.testing.assert_allclose(sequence.betas, data["betas"], atol=1e-6)


def forms_of(motion):
    """The same motion under the names and in the forms that are common."""
    flat = motion.poses.reshape(FRAMES, 72)
    matrices = motion.matrices
    return {
        "poses": {"poses": flat, "trans": motion.trans},
        "axes": {"poses": motion.poses, "transl": motion.trans},
        "matrices": {"pose": matrices, "trans": motion.trans},
        "six": {"pose": matrix_to_6d(matrices).reshape(FRAMES, 144), "trans": motion.trans},
        "parts": {
            "global_orient": motion.poses[:, :1], "body_pose": flat[:, 3:], "transl": motion.trans,
        },
        "matrix parts": {
            "global_orient": matrices[:, :1], "body_pose": matrices[:, 1:], "transl": motion.trans,
        },
        "inside": {"smpl_params": {"root_orient": flat[:, :3], "pose_body": flat[:, 3:],
                                   "trans": motion.trans}},
    }  # fmt: skip


@pytest.mark.parametrize("ending", ["npz", "pkl"])
@pytest.mark.parametrize("form", list(forms_of(moving())))
def test_plain_smpl_parameters_come_in_under_their_names(tmp_path, form, ending):
    motion = moving()
    data = forms_of(motion)[form] | {"betas": motion.betas[0], "gender": "m", "fps": 25}
    path = tmp_path / f"m.{ending}"
    if ending == "npz":
        np.savez(path, **data)
    else:
        path.write_bytes(pickle.dumps(data))
    assert sniff(path) == "smpl"
    (person,) = read(path)
    sequence = person.sequence
    assert sequence.model_type == "smpl"
    np.testing.assert_allclose(rotvec_to_matrix(sequence.poses), motion.matrices, atol=1e-5)
    np.testing.assert_allclose(sequence.trans, motion.trans, atol=1e-6)
    if form != "inside":
        assert (sequence.gender, sequence.mocap_framerate) == ("male", 25)
        np.testing.assert_allclose(sequence.betas, motion.betas[0], atol=1e-6)


def test_smplx_stays_smplx_with_hands_and_face(tmp_path):
    rng = np.random.default_rng(1)
    parts = {
        "global_orient": (1, 3), "body_pose": (21, 63), "jaw_pose": (1, 3), "leye_pose": (1, 3),
        "reye_pose": (1, 3), "left_hand_pose": (15, 45), "right_hand_pose": (15, 45),
    }  # fmt: skip
    data = {name: 0.1 * rng.normal(size=(FRAMES, width)) for name, (_, width) in parts.items()}
    data |= {"expression": rng.normal(size=(FRAMES, 10)), "transl": np.zeros((FRAMES, 3))}
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(data))
    (person,) = read(tmp_path / "x.pkl")
    sequence = person.sequence
    assert sequence.model_type == "smplx"
    expected = np.concatenate([data[name] for name in parts], axis=1)
    np.testing.assert_allclose(sequence.poses.reshape(FRAMES, -1), expected, atol=1e-6)
    np.testing.assert_allclose(sequence.expression, data["expression"], atol=1e-6)


def test_hands_as_coefficients_stay_at_rest_and_that_is_said(tmp_path):
    data = {
        "global_orient": np.zeros((1, 3)), "body_pose": np.zeros((1, 63)),
        "jaw_pose": np.zeros((1, 3)), "left_hand_pose": np.ones((1, 12)),
        "right_hand_pose": np.ones((1, 12)), "betas": np.zeros((1, 10)),
    }  # fmt: skip
    np.savez(tmp_path / "s.npz", **data)
    (person,) = read(tmp_path / "s.npz")
    assert not person.sequence.poses.any()
    assert sum("coefficients" in note for note in person.notes) == 2


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"global_orient": np.zeros((1, 3)), "body_pose": np.zeros((1, 32))}, "VPoser"),
        ({"poses": np.zeros((4, 70))}, r"the pose is \(4, 70\)"),
        ({"poses": np.full((4, 72), np.nan)}, "NaN"),
        ({"poses": np.zeros((4, 72)), "trans": np.zeros((3, 3))}, r"trans is \(3, 3\), expected"),
        ({"other": np.zeros(3)}, "none of the formats that posefit imports"),
    ],
)
def test_what_is_no_motion_is_refused_in_words(tmp_path, data, words):
    np.savez(tmp_path / "b.npz", **data)
    with pytest.raises(ImporterError, match=words):
        read(tmp_path / "b.npz")


@pytest.mark.parametrize(("up", "axis"), [("y", 1), ("-y", 1), ("z", 2)])
def test_the_stated_up_axis_becomes_z(tmp_path, up, axis):
    motion = moving()
    np.savez(tmp_path / "m.npz", poses=motion.poses.reshape(FRAMES, 72), trans=motion.trans,
             betas=motion.betas[0])  # fmt: skip
    (person,) = read(tmp_path / "m.npz", ImportOptions(up=up))
    sequence = person.sequence
    there = joints_of(motion.poses, motion.trans, motion.betas)
    here = joints_of(sequence.poses, sequence.trans, sequence.betas)
    sign = -1 if up == "-y" else 1
    np.testing.assert_allclose(here[..., 2], sign * there[..., axis], atol=1e-5)
    np.testing.assert_allclose(here[..., 0], there[..., 0], atol=1e-5)


def test_posefits_own_sequences_come_in_unchanged(tmp_path):
    motion = moving()
    np.savez(tmp_path / "m.npz", poses=motion.poses.reshape(FRAMES, 72), trans=motion.trans)
    (person,) = read(tmp_path / "m.npz")
    own = person.sequence.replace(
        intrinsics=np.diag([500.0, 500, 1]), world_to_camera=np.eye(4), image_size=(64, 48),
        world="camera", frame_indices=np.array([3, 4, 5, 8, 9]), person_id=2,
    )  # fmt: skip
    write_sequence(tmp_path / "own.npz", own)
    (again,) = read(tmp_path / "own.npz")
    assert again.sequence.world == "camera"
    assert again.sequence.frame_indices.tolist() == [3, 4, 5, 8, 9]
    np.testing.assert_array_equal(again.sequence.poses, own.poses)


def write_aist(root, motion, scaling):
    """A motion in centimetres with y up, and the cameras of its setting."""
    (root / "motions").mkdir(parents=True)
    (root / "cameras").mkdir()
    name = "gBR_sBM_cAll_d04_mBR0_ch01"
    data = {
        "smpl_poses": motion.poses.reshape(FRAMES, 72).astype(np.float32),
        "smpl_scaling": np.array([scaling], np.float32),
        "smpl_trans": (motion.trans * scaling).astype(np.float32),
        "smpl_loss": 1.5,
    }
    (root / "motions" / f"{name}.pkl").write_bytes(pickle.dumps(data, 5))
    camera = {
        "name": "c01", "size": [1920, 1080],
        "matrix": [[1500.0, 0, 960], [0, 1500, 540], [0, 0, 1]],
        "rotation": [0.05, 0.1, -0.02], "translation": [2.0, 30.0, 250.0],
        "distortions": [0.0, 0.0, 0.0, 0.0, 0.0],
    }  # fmt: skip
    other = camera | {"name": "c02", "translation": [0.0, 0.0, 900.0]}
    (root / "cameras" / "setting1.json").write_text(json.dumps([other, camera]))
    (root / "cameras" / "mapping.txt").write_text(f"{name} setting1\n")
    return root / "motions" / f"{name}.pkl", camera


def test_aist_bodies_are_seen_where_aist_projects_them(tmp_path):
    motion, scaling = moving(), np.float32(93.5)
    path, camera = write_aist(tmp_path, motion, scaling)
    assert sniff(path) == "aist"
    (person,) = read(path)
    sequence = person.sequence
    assert (sequence.gender, sequence.mocap_framerate, sequence.world) == ("male", 60, "gravity")
    # smplx with `scaling`, in centimetres, through aniposelib's camera.
    scaled = float(scaling) * joints_of(motion.poses, np.zeros((FRAMES, 3)), np.zeros((FRAMES, 10)))
    scaled += (motion.trans * scaling).astype(np.float32)[:, None]
    seen = scaled @ rotvec_to_matrix(camera["rotation"]).T + camera["translation"]
    assert worst(pixels_of(sequence), pinhole_pixels(seen, 1500.0, (960, 540))) < 1e-3


def test_aist_without_cameras_has_the_motion_upright(tmp_path):
    path, _ = write_aist(tmp_path, moving(), 93.5)
    (tmp_path / "cameras" / "mapping.txt").unlink()
    (person,) = read(path)
    assert not person.sequence.has_camera
    there = joints_of(moving().poses, moving().trans, np.zeros((FRAMES, 10)))
    here = joints_of(person.sequence.poses, person.sequence.trans, person.sequence.betas)
    np.testing.assert_allclose(here[..., 2], there[..., 1], atol=1e-4)


CMU_NAMES = (
    "Hips", "LeftUpLeg", "RightUpLeg", "LowerBack", "LeftLeg", "RightLeg", "Spine", "LeftFoot",
    "RightFoot", "Spine1", "LeftToeBase", "RightToeBase", "Neck", "LeftShoulder", "RightShoulder",
    "Head", "LeftArm", "RightArm", "LeftForeArm", "RightForeArm", "LeftHand", "RightHand",
    "LeftFingerBase", "RightFingerBase",
)  # fmt: skip
"""CMU's names for SMPL's joints, in SMPL's order."""


def write_bvh(path, rest, poses, places, *, scale, yaw=0.0, names=CMU_NAMES, rate=30.0):
    """A BVH of SMPL's own skeleton, in other units and turned about the upright axis."""
    turn = rotvec_to_matrix([0.0, yaw, 0.0])
    rest = scale * rest @ turn.T
    lines = ["HIERARCHY"]
    order = []

    def joint(k, depth):
        pad = "  " * depth
        order.append(k)
        offset = rest[k] - (rest[SMPL_PARENTS[k]] if k else rest[k])
        lines.append(f"{pad}{'JOINT' if k else 'ROOT'} {names[k]}")
        lines.append(f"{pad}{{")
        lines.append(f"{pad}  OFFSET {offset[0]:.9f} {offset[1]:.9f} {offset[2]:.9f}")
        position = "" if k else "Xposition Yposition Zposition "
        lines.append(f"{pad}  CHANNELS {3 if k else 6} {position}Zrotation Yrotation Xrotation")
        children = [c for c in range(24) if SMPL_PARENTS[c] == k]
        for child in children:
            joint(child, depth + 1)
        if not children:
            lines.extend([f"{pad}  End Site", f"{pad}  {{", f"{pad}    OFFSET 0 1 0", f"{pad}  }}"])
        lines.append(f"{pad}}}")

    joint(0, 0)
    lines += ["MOTION", f"Frames: {len(poses)}", f"Frame Time: {1 / rate:.9f}"]
    for pose, place in zip(poses, places, strict=True):
        row = list(scale * turn @ place)
        for k in order:
            m = turn @ rotvec_to_matrix(pose[k]) @ turn.T
            y = np.arcsin(np.clip(-m[2, 0], -1, 1))
            z, x = np.arctan2(m[1, 0], m[0, 0]), np.arctan2(m[2, 1], m[2, 2])
            row += list(np.degrees([z, y, x]))
        lines.append(" ".join(f"{n:.9f}" for n in row))
    path.write_text("\n".join(lines) + "\n")
    return path


def bvh_motion():
    rng = np.random.default_rng(5)
    poses = 0.3 * rng.normal(size=(FRAMES, 24, 3))
    poses[:, 22:] = 0
    places = np.array([0.1, 0.9, 0.2]) + 0.1 * rng.normal(size=(FRAMES, 3))
    return poses, places


@pytest.mark.parametrize("names", ["cmu", "mixamo"])
def test_a_bvh_of_smpls_own_skeleton_gives_back_its_rotations(tmp_path, names):
    rest = body().joint_template.numpy()
    poses, places = bvh_motion()
    chosen = CMU_NAMES
    if names == "mixamo":
        swap = {"LowerBack": "Spine", "Spine": "Spine1", "Spine1": "Spine2"}
        chosen = tuple(f"mixamorig:{swap.get(name, name)}" for name in CMU_NAMES)
    path = write_bvh(tmp_path / "b.bvh", rest, poses, places, scale=17.0, names=chosen, rate=120)
    assert sniff(path) == "bvh"
    (person,) = read(path)
    sequence = person.sequence
    assert sequence.mocap_framerate == pytest.approx(120, abs=1e-3)
    there = joints_of(poses, places - rest[0], np.zeros((FRAMES, 10)))
    here = joints_of(sequence.poses, sequence.trans, sequence.betas)
    np.testing.assert_allclose(here[..., 2], there[..., 1], atol=1e-5)  # y up became z up
    np.testing.assert_allclose(here[..., 0], there[..., 0], atol=1e-5)
    np.testing.assert_allclose(sequence.poses[:, 1:], poses[:, 1:], atol=1e-5)


def test_a_bvh_that_faces_sideways_gives_the_same_joint_rotations(tmp_path):
    rest = body().joint_template.numpy()
    poses, places = bvh_motion()
    path = write_bvh(tmp_path / "b.bvh", rest, poses, places, scale=1.0, yaw=1.2)
    (person,) = read(path)
    found = rotvec_to_matrix(person.sequence.poses[:, 1:])
    np.testing.assert_allclose(found, rotvec_to_matrix(poses[:, 1:]), atol=1e-5)


def test_limbs_point_where_the_bvhs_limbs_point_though_it_rests_otherwise(tmp_path):
    """A skeleton that rests with its arms down: SMPL's arms must follow the bones."""
    rest = body().joint_template.numpy().copy()
    for side, sign in (("L", 1), ("R", -1)):
        shoulder = SMPL_JOINT_NAMES.index(f"{side}_Shoulder")
        for name in ("Elbow", "Wrist", "Hand"):
            k = SMPL_JOINT_NAMES.index(f"{side}_{name}")
            along = rest[k] - rest[shoulder]
            rest[k] = rest[shoulder] + rotvec_to_matrix([0, 0, -sign * 1.2]) @ along
    poses, places = bvh_motion()
    (person,) = read(write_bvh(tmp_path / "b.bvh", rest, poses, places, scale=3.0))
    joints = joints_of(person.sequence.poses, person.sequence.trans, person.sequence.betas)
    turned = np.zeros((FRAMES, 24, 3, 3))
    placed = np.zeros((FRAMES, 24, 3))
    for k, parent in enumerate(SMPL_PARENTS):
        local = rotvec_to_matrix(poses[:, k])
        turned[:, k] = local if k == 0 else turned[:, parent] @ local
        if k:
            offset = rest[k] - rest[parent]
            placed[:, k] = placed[:, parent] + turned[:, parent] @ offset
    for first, other in (("L_Shoulder", "L_Elbow"), ("R_Elbow", "R_Wrist"), ("L_Knee", "L_Ankle")):
        a, b = SMPL_JOINT_NAMES.index(first), SMPL_JOINT_NAMES.index(other)
        theirs = (placed[:, b] - placed[:, a])[:, [0, 2, 1]] * [1, -1, 1]
        ours = joints[:, b] - joints[:, a]
        unit = [v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (theirs, ours)]
        np.testing.assert_allclose(unit[0], unit[1], atol=1e-5)


def test_bones_of_no_length_turn_nothing(tmp_path):
    """CMU's shoulders begin where the chest does."""
    rest = body().joint_template.numpy().copy()
    for side in "LR":
        rest[SMPL_JOINT_NAMES.index(f"{side}_Shoulder")] = rest[
            SMPL_JOINT_NAMES.index(f"{side}_Collar")
        ]
    poses, places = bvh_motion()
    (person,) = read(write_bvh(tmp_path / "b.bvh", rest, poses, places, scale=1.0))
    collar = SMPL_JOINT_NAMES.index("L_Collar")
    found = rotvec_to_matrix(person.sequence.poses[:, collar])
    np.testing.assert_allclose(found, rotvec_to_matrix(poses[:, collar]), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("LeftUpLeg", "Oberschenkel"), "no joint for L_Hip"),
        (("Frames: 5", "Frames: 9"), "says 9 frames and has 5"),
        (("MOTION", "MOTIO"), "no MOTION part"),
        (("Zrotation Yrotation", "Zrotation"), "is no BVH file|numbers a frame|unknown"),
    ],
)
def test_broken_bvh_files_are_refused_in_words(tmp_path, change, words):
    rest = body().joint_template.numpy()
    path = write_bvh(tmp_path / "b.bvh", rest, *bvh_motion(), scale=1.0)
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(ImporterError, match=words):
        read(path)
