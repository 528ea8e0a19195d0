# SPDX-License-Identifier: GPL-3.0-or-later
"""Bones of any roll, scale and parent mean the same SMPL pose; runs without Blender."""

import numpy as np
import pytest
from blender_addon.rigs import bone_rotations, rig, rig_names

from posefit_shared import frames, rotations, skeleton

PARENTS = skeleton.SMPL_PARENTS


def random_rotations(rng, *shape):
    return rotations.rotvec_to_matrix(rng.normal(size=(*shape, 3)))


def random_rig(rng, count, axes=None, scale=1.0):
    """A rig whose bones have rolls of their own, on an object that is turned and scaled."""
    axes = np.eye(3) if axes is None else axes
    rest = np.tile(np.eye(4), (24, 1, 1))
    rest[:, :3, :3] = random_rotations(rng, 24)
    rest[:, :3, 3] = rng.normal(size=(24, 3))
    matrices = np.tile(np.eye(4), (count, 1, 1))
    matrices[:, :3, :3] = random_rotations(rng, count) * scale
    matrices[:, :3, 3] = rng.normal(size=(count, 3))
    above = np.tile(np.eye(4), (count, 1, 1))
    above[:, :3, :3] = random_rotations(rng, count)
    above[:, :3, 3] = rng.normal(size=(count, 3))
    return rig.RigFrames(
        match=rig.match_bones(skeleton.SMPL_JOINT_NAMES),
        rest=rest,
        rest_axes=axes,
        units_per_metre=scale,
        rest_pelvis=rng.normal(size=3),
        scene_frames=tuple(range(count)),
        object_matrices=matrices,
        above_root=above,
    )


def blender_posed(rig_frames, motion):
    """Posed matrices as Blender chains them from what is keyed."""
    basis = np.tile(np.eye(4), (len(motion.rotations), 24, 1, 1))
    basis[:, :, :3, :3] = motion.rotations
    basis[:, 0, :3, 3] = motion.root_locations
    posed = bone_rotations.chain_posed_matrices(basis, rig_frames.rest, PARENTS)
    return rig_frames.above_root[:, None] @ posed


@pytest.mark.parametrize("seed", range(5))
def test_reading_undoes_writing_for_any_roll_scale_and_parent(seed):
    rng = np.random.default_rng(seed)
    axes = frames.YUP_TO_ZUP[:3, :3] if seed % 2 else random_rotations(rng)
    rig_frames = random_rig(rng, 4, axes, scale=(1.0, 0.01, 3.0)[seed % 3])
    poses, trans = rng.normal(size=(4, 24, 3)) * 0.7, rng.normal(size=(4, 3))
    motion = rig.pose_to_motion(poses, trans, rig_frames)
    found, found_trans = rig.read_pose(rig_frames, blender_posed(rig_frames, motion))
    assert np.abs(
        rotations.rotvec_to_matrix(found) - rotations.rotvec_to_matrix(poses)
    ).max() == pytest.approx(0, abs=1e-9)
    assert found_trans == pytest.approx(trans, abs=1e-9)


def test_the_pelvis_lands_where_smpl_puts_it(rng):
    rig_frames = random_rig(rng, 2, scale=2.0)
    trans = rng.normal(size=(2, 3))
    motion = rig.pose_to_motion(rng.normal(size=(2, 24, 3)), trans, rig_frames)
    posed = blender_posed(rig_frames, motion)[:, 0]
    world = (rig_frames.object_matrices @ posed)[:, :3, 3]
    assert world == pytest.approx(2.0 * (trans + rig_frames.rest_pelvis), abs=1e-9)


@pytest.mark.parametrize(
    ("name", "joint"),
    [
        ("L_Hip", "left_hip"),
        ("m_avg_L_Hip", "left_hip"),
        ("f_avg_Pelvis", "pelvis"),
        ("left_hip", "left_hip"),
        ("Armature:R_Wrist", "right_wrist"),
        ("left_eye_smplhf", "left_eye"),
        ("Spine1", "spine1"),
        ("spine_02", "spine_02"),
        ("Spine_2", "spine2"),
        ("n_avg_Spine3", "spine3"),
        ("Armature|m_avg_L_Knee", "left_knee"),
        ("actor:smpl|R_Foot", "right_foot"),
        ("Pelvis.001", "pelvis"),
        ("LeftShoulder", "left_shoulder"),
        ("rightWrist", "right_wrist"),
        ("Hip.L", "left_hip"),
        ("ankle_r", "right_ankle"),
        ("L Collar", "left_collar"),
        ("left_index1", "left_index1"),
        ("R_Thumb3", "right_thumb3"),
        ("f_avg_root", "root"),
    ],
)
def test_bone_names_of_public_rigs_are_known(name, joint):
    assert rig_names.joint_key(name) == joint


@pytest.mark.parametrize("model_type", ["smpl", "smplh", "smplx"])
def test_each_model_is_told_apart_by_its_bones(model_type):
    names = ["root", *reversed(skeleton.JOINT_NAMES[model_type]), "Camera_target"]
    match = rig.match_bones(names)
    assert match.model_type == model_type
    assert match.bones == skeleton.JOINT_NAMES[model_type]


ADDON_SMPLX = [
    "root", "pelvis", "left_hip", "left_knee", "left_ankle", "left_foot", "right_hip", "right_knee",
    "right_ankle", "right_foot", "spine1", "spine2", "spine3", "neck", "head", "jaw",
    "left_eye_smplhf", "right_eye_smplhf", "left_collar", "left_shoulder", "left_elbow",
    "left_wrist", "right_collar", "right_shoulder", "right_elbow", "right_wrist",
    *(f"{side}_{finger}{k}" for side in ("left", "right")
      for finger in ("index", "middle", "pinky", "ring", "thumb") for k in (1, 2, 3)),
]  # fmt: skip
"""Bones of the SMPL-X add-on for Blender, root first, as its models have them."""


def bones_named(make):
    return [make(name) for name in skeleton.SMPL_JOINT_NAMES]


@pytest.mark.parametrize(
    ("names", "model_type", "first"),
    [
        (ADDON_SMPLX, "smplx", ("pelvis", "left_hip")),
        ([n for n in ADDON_SMPLX if n != "jaw" and "eye" not in n], "smplh", ("pelvis",)),
        (["f_avg_root", *bones_named("f_avg_{}".format)], "smpl", ("f_avg_Pelvis", "f_avg_L_Hip")),
        (["m_avg_root", *bones_named("m_avg_{}".format)], "smpl", ("m_avg_Pelvis",)),
        (["Armature|root", *bones_named("Armature|m_avg_{}".format)], "smpl", ()),
        (bones_named("hero:SMPL:{}".format), "smpl", ("hero:SMPL:Pelvis",)),
        (["SMPLX_neutral_" + n for n in ADDON_SMPLX], "smplx", ("SMPLX_neutral_pelvis",)),
        (bones_named("{}.001".format), "smpl", ("Pelvis.001",)),
    ],
)
def test_public_rigs_are_matched_whole(names, model_type, first):
    match = rig.match_bones(names)
    assert match.model_type == model_type
    assert match.bones[: len(first)] == first
    keys = [rig_names.joint_key(b.removeprefix("SMPLX_neutral_")) for b in match.bones]
    assert keys == list(rig_names.joint_keys(model_type))


def test_bones_that_the_artist_chose_go_before_names():
    names = [n for n in skeleton.SMPL_JOINT_NAMES if n not in ("L_Knee", "Neck")]
    names += ["Shin", "Nape", "other"]
    assert rig_names.nearest_bones(names)[1].count(None) == 2
    given = {"left_knee": "Shin", "neck": "Nape", "head": "other"}
    match = rig.match_bones(names, given)
    assert [match.bones[joint] for joint in (4, 12, 15)] == ["Shin", "Nape", "other"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"neck": "Nape"}, "no bone Nape, which was chosen for neck"),
        ({"neck": "Head"}, "bone Head is chosen for more than one joint"),
    ],
)
def test_a_choice_that_cannot_be_is_refused(given, words):
    with pytest.raises(rig.SceneError, match=words):
        rig.match_bones(skeleton.SMPL_JOINT_NAMES, given)


def test_a_rig_that_is_not_smpl_is_refused_by_naming_what_is_missing():
    names = [n for n in skeleton.SMPL_JOINT_NAMES if n not in ("L_Knee", "Neck")]
    with pytest.raises(rig.SceneError, match="no bones found for left_knee, neck"):
        rig.match_bones(names)
    with pytest.raises(rig.SceneError, match="no SMPL rig"):
        rig.match_bones(["mixamorig:Hips", "mixamorig:Spine"])


def test_rest_axes_are_exact_quarter_turns_for_upright_rigs(rng):
    heads = _rest_heads()
    for axes in (np.eye(3), frames.YUP_TO_ZUP[:3, :3], np.diag([-1.0, 1.0, -1.0])):
        tilted = heads @ rotations.rotvec_to_matrix([0.1, 0.02, -0.03]).T
        assert np.array_equal(rig.find_rest_rotation(tilted @ axes.T), axes)


def test_a_rig_at_rest_at_an_angle_keeps_that_angle():
    axes = rotations.rotvec_to_matrix([0.3, 0.5, 0.4])
    assert rig.find_rest_rotation(_rest_heads() @ axes.T) == pytest.approx(axes, abs=0.03)


def _rest_heads():
    heads = np.zeros((24, 3))
    heads[[1, 2]] = [[0.1, 0, 0], [-0.1, 0, 0]]
    heads[[16, 17]] = [[0.2, 0.4, 0], [-0.2, 0.4, 0]]
    heads[12] = (0, 0.5, 0)
    return heads


@pytest.mark.parametrize("scale", [1.0, 100.0, 0.01])
def test_units_of_a_rig_are_found_whatever_the_stature(scale):
    assert rig.find_rest_scale(_rest_heads() * scale * 1.25) == pytest.approx(scale)
    assert rig.find_rest_scale(_rest_heads() * scale * 0.8) == pytest.approx(scale)


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        (np.diag([0.0, 0.0, 0.0, 1.0]), "scale is zero"),
        (np.diag([1.0, 2.0, 1.0, 1.0]), "differs by axis"),
        (np.diag([-1.0, 1.0, 1.0, 1.0]), "mirrored"),
    ],
)
def test_scales_that_smpl_cannot_have_are_refused(matrix, words):
    with pytest.raises(rig.SceneError, match=words):
        rig.object_scale(matrix)


def test_quaternions_over_time_never_flip_their_sign(rng):
    steps = np.cumsum(np.full((200, 3), 0.1), axis=0)  # several whole turns
    wxyz = bone_rotations.continuous_wxyz(rotations.rotvec_to_matrix(steps))
    assert ((wxyz[1:] * wxyz[:-1]).sum(-1) > 0.9).all()
    again = bone_rotations.continuous_wxyz(rotations.rotvec_to_matrix(steps), before=-wxyz[0])
    assert again == pytest.approx(-wxyz)


def test_a_driver_computes_smpls_pose_feature(rng):
    conversion = random_rotations(rng)
    wxyz = rng.normal(size=4)
    rotation = conversion @ rotations.wxyz_to_matrix(wxyz) @ conversion.T
    names = dict(zip("wxyz", wxyz, strict=True))
    for row in range(3):
        for column in range(3):
            text = bone_rotations.pose_corrective_expression(conversion, row, column)
            assert len(text) < 256
            value = eval(text, {}, names)
            assert value == pytest.approx(rotation[row, column] - (row == column), abs=1e-4)
