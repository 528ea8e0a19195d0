# SPDX-License-Identifier: GPL-3.0-or-later
"""A body in Blender is SMPL's: its vertices are those of the model's own equations."""

import numpy as np
import pytest
from scene_makers import evaluated_vertices, random_sequence, skin

pytestmark = pytest.mark.bpy


@pytest.mark.parametrize("seed", range(3))
def test_blenders_vertices_are_those_of_smpl_for_any_pose_shape_and_place(context, body, seed):
    from blender_addon.rigs import body_builder
    from blender_addon.sequences import sequence_import

    rng = np.random.default_rng(seed)
    motion = random_sequence(rng, count=3, betas=rng.normal(size=10).astype(np.float32) * 1.5)
    options = sequence_import.ImportOptions("Test")
    imported = sequence_import.import_sequence(context, motion, options)
    mesh = body_builder.mesh_of(imported.armature)
    for index in range(len(motion)):
        context.scene.frame_set(1 + index)
        expected = skin(body, motion.betas, motion.poses[index], motion.trans[index])
        assert np.abs(evaluated_vertices(mesh) - expected).max() < 1e-4


def test_pose_correctives_are_smpls(context, body):
    from blender_addon.rigs import body_builder
    from blender_addon.sequences import sequence_import

    from posefit_shared import rotations

    motion = random_sequence(np.random.default_rng(4), count=1, angle=0.4)
    options = sequence_import.ImportOptions("Test", pose_correctives=True)
    imported = sequence_import.import_sequence(context, motion, options)
    feature = (rotations.rotvec_to_matrix(motion.poses[0, 1:]) - np.eye(3)).ravel()
    from dataclasses import replace

    corrected = (body.v_template + body.posedirs.astype(float) @ feature).astype(np.float32)
    # The correctives bend the mesh, not the joints.
    joints = body.J_regressor.astype(float) @ body.v_template
    regressor = np.linalg.lstsq(corrected.T.astype(float), joints.T, rcond=None)[0].T
    bent = replace(body, v_template=corrected, J_regressor=regressor.astype(np.float32))
    expected = skin(bent, np.zeros(10), motion.poses[0], motion.trans[0])
    found = evaluated_vertices(body_builder.mesh_of(imported.armature))
    assert np.abs(found - expected).max() < 2e-4


def test_an_unposed_body_stands_with_its_feet_on_the_cursor(context):
    import bpy
    from blender_addon.rigs import body_builder

    context.scene.cursor.location = (1.0, 2.0, 0.5)
    assert bpy.ops.posefit.add_body() == {"FINISHED"}
    points = evaluated_vertices(body_builder.mesh_of(context.object))
    assert points[:, 2].min() == pytest.approx(0.5, abs=1e-4)
    assert np.ptp(points[:, 2]) > 1.4


def test_joints_follow_the_shape_and_keyed_rotations_stay(context, body):
    import bpy
    from blender_addon.rigs import body_builder
    from blender_addon.sequences import sequence_import

    motion = random_sequence(np.random.default_rng(5), count=1)
    imported = sequence_import.import_sequence(context, motion, sequence_import.ImportOptions("T"))
    betas = np.linspace(-2, 2, 10)
    body_builder.set_betas(body_builder.mesh_of(imported.armature), betas)
    context.view_layer.objects.active = imported.armature
    assert bpy.ops.posefit.fit_joints() == {"FINISHED"}
    found = evaluated_vertices(body_builder.mesh_of(imported.armature))
    expected = skin(body, betas, motion.poses[0], motion.trans[0])
    # The pelvis stays where it was keyed: only a shift is between them.
    shift = (expected - found).mean(axis=0)
    assert np.abs(found + shift - expected).max() < 1e-4


def test_a_mesh_has_uvs_weights_and_sliders_at_zero(context, body):
    import bpy
    from blender_addon.rigs import body_builder

    bpy.ops.posefit.add_body()
    mesh = body_builder.mesh_of(context.object)
    keys = body_builder.shape_keys(mesh)
    assert [k.name for k in keys] == [f"Shape{i:03d}" for i in range(10)]
    assert all(k.value == 0 and (k.slider_min, k.slider_max) == (-5, 5) for k in keys)
    assert len(mesh.data.uv_layers) == 1
    uv = np.empty(2 * len(mesh.data.loops), np.float32)
    mesh.data.uv_layers[0].data.foreach_get("uv", uv)
    assert np.allclose(uv.reshape(-1, 2), body.vt[body.ft.ravel()])
    assert {g.name for g in mesh.vertex_groups} == set(body.joint_names)
    assert context.object["posefit_body_hash"] == body.content_hash


def test_a_new_body_is_the_only_thing_selected(context):
    import bpy

    other = bpy.data.objects.new("Other", None)
    context.collection.objects.link(other)
    other.select_set(True)
    assert bpy.ops.posefit.add_body() == {"FINISHED"}
    assert [item.name for item in context.selected_objects] == [context.object.name]
    assert context.object.type == "ARMATURE"
