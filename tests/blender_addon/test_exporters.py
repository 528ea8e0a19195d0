# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender's own exporters carry what was accepted: what comes back in moves the same."""

import numpy as np
import pytest
from comparison_makers import add_animated_body, refine, smooth_motion, turned

pytestmark = pytest.mark.bpy

FRAMES = range(1, 11)
IMPORTED_LATER = {"fbx": 1}
"""Blender's FBX importer begins a frame later unless its Animation Offset is 0."""
MODULES = {"fbx": "io_scene_fbx", "glb": "io_scene_gltf2", "bvh": "io_anim_bvh"}


@pytest.fixture(params=MODULES)
def kind(request, context):
    """A kind of file whose exporter and importer are there."""
    import addon_utils
    import bpy

    if request.param == "glb" and bpy.app.version < (4, 5):
        pytest.skip("glTF's importer makes Blender 4.2 as a module crash when it ends")
    module = MODULES[request.param]
    assert addon_utils.enable(module) is not None
    yield request.param
    addon_utils.disable(module)


@pytest.fixture
def accepted(context):
    """A body whose refinement was accepted; its original stays in the file."""
    import bpy

    motion = smooth_motion(len(FRAMES))
    armature = add_animated_body(context, motion, FRAMES)
    refine(context, armature, FRAMES, turned(motion))
    bpy.ops.posefit.accept()
    context.scene.frame_start, context.scene.frame_end = FRAMES[0], FRAMES[-1]
    return armature


def heads(context, armature, frame):
    context.scene.frame_set(frame)
    return {b.name: np.array(armature.matrix_world @ b.head) for b in armature.pose.bones}


def write(kind, path):
    import bpy

    if kind == "fbx":
        bpy.ops.export_scene.fbx(
            filepath=path,
            use_selection=True,
            bake_anim_use_all_actions=False,
            bake_anim_use_nla_strips=False,
            add_leaf_bones=False,
        )
    elif kind == "glb":
        bpy.ops.export_scene.gltf(
            filepath=path, use_selection=True, export_anim_single_armature=False
        )
    else:
        bpy.ops.export_anim.bvh(
            filepath=path, frame_start=FRAMES[0], frame_end=FRAMES[-1], root_transform_only=False
        )


def read(kind, path):
    import bpy

    if kind == "fbx":
        bpy.ops.import_scene.fbx(filepath=path)
    elif kind == "glb":
        bpy.ops.import_scene.gltf(filepath=path)
    else:
        bpy.ops.import_anim.bvh(filepath=path, axis_forward="Y", axis_up="Z")


def test_the_motion_survives(context, accepted, kind, tmp_path):
    import bpy

    path = str(tmp_path / f"walk.{kind}")
    if kind == "bvh":
        accepted.location = (0.0, 0.0, 0.0)  # which Blender's exporter leaves out
    for mesh in accepted.children:
        mesh.select_set(True)
    shown = {frame: heads(context, accepted, frame) for frame in FRAMES}
    write(kind, path)
    before = set(bpy.data.objects)
    read(kind, path)
    (armature,) = (
        item for item in bpy.data.objects if item not in before and item.type == "ARMATURE"
    )
    for frame in FRAMES:
        found = heads(context, armature, frame + IMPORTED_LATER.get(kind, 0))
        for bone, place in shown[frame].items():
            assert found[bone] == pytest.approx(place, abs=1e-4), (frame, bone)
