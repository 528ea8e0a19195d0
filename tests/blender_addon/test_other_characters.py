# SPDX-License-Identifier: GPL-3.0-or-later
"""Who else stands before the camera goes along with a refinement, in the refined one's world."""

import numpy as np
import pytest
from scene_makers import random_sequence
from session_makers import add_shot, refine_range
from test_session import session

__all__ = ["session"]

pytestmark = pytest.mark.bpy


@pytest.fixture
def shot(context, tmp_path):
    """Eight frames from scene frame 3 on, before a camera."""
    return add_shot(tmp_path)


def add_other(context, shot, name="Other", first=3, count=8):
    """Another body four metres before the camera on some frames; the shot stays active."""
    from blender_addon.sequences import sequence_import
    from mathutils import Vector

    places = []
    for frame in range(first, first + count):
        context.scene.frame_set(frame)
        places.append(context.scene.camera.matrix_world @ Vector((0, 0, -4)))
    motion = random_sequence(np.random.default_rng(4), count=count)
    motion = motion.replace(trans=np.array(places, np.float32))
    options = sequence_import.ImportOptions(name, with_camera=False, first_scene_frame=first)
    armature = sequence_import.import_sequence(context, motion, options).armature
    for item in (shot, armature):
        item.select_set(item == shot)
    context.view_layer.objects.active = shot
    return armature, motion


def test_another_character_goes_along_on_the_same_frames(context, shot, session):
    other, motion = add_other(context, shot)
    people = refine_range(session, context, (4, 7)).others
    assert people.poses.shape == (1, 4, 24, 3)
    assert people.poses[0] == pytest.approx(motion.poses[1:5], abs=1e-4)
    assert people.trans[0] == pytest.approx(motion.trans[1:5], abs=1e-4)
    assert people.betas[0] == pytest.approx(motion.betas, abs=1e-5)
    assert people.to_world[0, 0] == pytest.approx(np.eye(4), abs=1e-5)
    assert people.is_there.all()


def test_those_who_are_alone_hidden_elsewhere_or_unwanted_send_nobody(context, shot, session):
    from mathutils import Vector

    assert refine_range(session, context, (4, 5)).others is None
    other, _ = add_other(context, shot)
    assert refine_range(session, context, (4, 5)).others is not None
    other.hide_viewport = True
    assert refine_range(session, context, (4, 5)).others is None
    other.hide_viewport = False
    other.location = 100 * (context.scene.camera.matrix_world.to_3x3() @ Vector((0, 0, 1)))
    context.view_layer.update()
    assert refine_range(session, context, (4, 5)).others is None  # behind the camera
    other.location = (0, 0, 0)
    context.scene.posefit.use_others = False
    assert refine_range(session, context, (4, 5)).others is None


def test_outside_of_its_own_motion_a_character_is_not_there(context, shot, session):
    add_other(context, shot, first=5, count=2)
    people = refine_range(session, context, (4, 7)).others
    assert people.is_there[0].tolist() == [0, 1, 1, 0]


def test_each_has_its_own_footage_offset(context, shot, session):
    other, motion = add_other(context, shot)
    other.posefit_footage_offset = 1.0  # its frame 4 is seen in the picture of frame 5
    people = refine_range(session, context, (5, 7)).others
    assert people.poses[0] == pytest.approx(motion.poses[1:4], abs=1e-4)


def test_a_character_of_another_size_is_placed_where_it_stands(context, shot, session):
    other, motion = add_other(context, shot)
    other.scale = (0.5, 0.5, 0.5)
    context.view_layer.update()
    people = refine_range(session, context, (4, 5)).others
    assert people.to_world[0, 0] == pytest.approx(np.diag([0.5, 0.5, 0.5, 1.0]), abs=1e-5)
    context.scene.frame_set(4)
    root = people.to_world[0, 0] @ [*people.trans[0, 0], 1.0]
    from blender_addon.rigs import body_builder

    pelvis = body_builder.rest_joints(body_builder.load_body("free"), motion.betas)[0]
    seen = other.matrix_world @ other.pose.bones["Pelvis"].head
    assert root[:3] + 0.5 * pelvis == pytest.approx(np.array(seen), abs=1e-4)


def test_no_more_go_along_than_the_wire_takes_and_what_is_no_smpl_is_left_out(
    context, shot, session, monkeypatch
):
    import bpy
    from blender_addon.scenes import other_characters

    horse = bpy.data.objects.new("Horse", bpy.data.armatures.new("Horse"))
    context.collection.objects.link(horse)
    for number in range(3):
        add_other(context, shot, f"Other{number}", count=8 if number else 2)
    monkeypatch.setattr(other_characters, "MOST_OTHERS", 2)
    people = refine_range(session, context, (3, 7)).others
    assert people.is_there.all()  # the two that are there on all frames
    assert len(people.poses) == 2


def test_the_panel_says_how_many(context, shot):
    from types import SimpleNamespace

    from blender_addon.panels.refine import _others_words

    add_other(context, shot)
    add_other(context, shot, "Third")
    assert _others_words(context) == "Other Characters (2)"
    nobody = SimpleNamespace(object=None, scene=context.scene)
    assert _others_words(nobody) == "Other Characters"
