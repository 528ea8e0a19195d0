# SPDX-License-Identifier: GPL-3.0-or-later
"""Characters linked from another file: overrides are refined, all others say what to do."""

from types import SimpleNamespace

import numpy as np
import pytest
from comparison_makers import EVERY, add_animated_body, keys_of, same_keys, smooth_motion
from scene_makers import camera_fields, random_sequence, write_footage
from scripted_backend import ScriptedBackend, turned_result
from session_makers import connect, finished

pytestmark = pytest.mark.bpy


@pytest.fixture
def library(context, tmp_path):
    """A file with a character in a collection, animated over forty frames."""
    import bpy

    collection = bpy.data.collections.new("Character")
    context.scene.collection.children.link(collection)
    layer = context.view_layer.layer_collection.children["Character"]
    context.view_layer.active_layer_collection = layer
    add_animated_body(context, smooth_motion(40), EVERY)
    path = tmp_path / "hero.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    return path


@pytest.fixture
def shot(library, tmp_path):
    """A file with camera and footage, into which the character's collection is linked."""
    import bpy
    from blender_addon.sequences import sequence_import

    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    rng = np.random.default_rng(3)
    motion = random_sequence(rng, count=8, **camera_fields(rng))
    footage = write_footage(tmp_path / "footage", 8)
    options = sequence_import.ImportOptions("Filmed", footage=footage)
    imported = sequence_import.import_sequence(bpy.context, motion, options)
    bpy.data.objects.remove(imported.armature)
    with bpy.data.libraries.load(str(library), link=True) as (_, wanted):
        wanted.collections = ["Character"]
    return bpy.data.collections["Character"]


@pytest.fixture
def session(addon):
    from blender_addon.session import SESSION

    yield SESSION
    SESSION.disconnect()
    SESSION._jobs.clear()


def override_of(collection, context, editable=True):
    made = collection.override_hierarchy_create(
        context.scene, context.view_layer, do_fully_editable=editable
    )
    armature = next(item for item in made.all_objects if item.type == "ARMATURE")
    context.view_layer.objects.active = armature
    return armature


def refuse(session, words):
    import bpy

    with ScriptedBackend(answer=turned_result) as backend:
        connect(session, backend)
        with pytest.raises(RuntimeError, match=words) as error:
            bpy.ops.posefit.refine_frame()
        assert "Traceback" not in str(error.value)
    assert backend.requests == []


def test_an_override_is_refined_and_keeps_its_result_in_the_file(context, shot, session, tmp_path):
    import bpy

    armature = override_of(shot, bpy.context)
    walk = armature.animation_data.action
    before = keys_of(walk)
    assert walk.library is not None
    armature.pose.bones["L_Hip"].posefit_locked = True
    armature.posefit_pinned_frames = "2"
    bpy.context.scene.posefit.use_scene_range = False
    bpy.context.scene.posefit.frame_start, bpy.context.scene.posefit.frame_end = 1, 4
    with ScriptedBackend(answer=turned_result) as backend:
        connect(session, backend)
        bpy.ops.posefit.refine_range()
        job = finished(session)
    assert not job.is_problem, job.words
    assert (backend.requests[0].locked_joints, backend.requests[0].pinned_frames) == ((1,), (1,))
    armature.posefit_comparison.amount = 0.5
    assert bpy.ops.posefit.accept() == {"FINISHED"}
    refined = armature.animation_data.action
    assert refined.library is None
    assert same_keys(keys_of(walk), before)
    wanted, name = keys_of(refined), armature.name
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "shot.blend"))
    again = next(o for o in bpy.data.objects if o.name == name and o.library is None)
    assert same_keys(keys_of(again.animation_data.action), wanted)
    assert not same_keys(wanted, before)
    assert again.pose.bones["L_Hip"].posefit_locked
    assert again.posefit_pinned_frames == "2"


def test_a_mended_override_stays_mended(context, shot, tmp_path):
    import bpy

    armature = override_of(shot, bpy.context)
    armature.posefit_bone_left_hip = "L_Knee"
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "shot.blend"))
    again = next(o for o in bpy.data.objects if o.override_library and o.type == "ARMATURE")
    assert again.posefit_bone_left_hip == "L_Knee"


def test_what_an_artist_sets_on_an_override_is_not_greyed_out(context, shot):
    import bpy

    armature = override_of(shot, bpy.context)
    assert armature.is_property_overridable_library("posefit_pinned_frames")
    assert armature.pose.bones[0].is_property_overridable_library("posefit_locked")
    for name in ("amount", "bones", "frames", "keys", "tolerance_mm"):
        assert armature.posefit_comparison.is_property_overridable_library(name)


def test_a_linked_armature_says_that_it_needs_an_override(context, shot, session):
    import bpy

    bpy.context.scene.collection.children.link(shot)
    armature = next(item for item in shot.all_objects if item.type == "ARMATURE")
    bpy.context.view_layer.objects.active = armature
    refuse(session, "linked from hero.blend, .* make a library override")
    for operator in (bpy.ops.posefit.pin_frames, bpy.ops.posefit.lock_bones):
        with pytest.raises(RuntimeError, match="make a library override"):
            operator()
    assert "library override" in " ".join(drawn_body())


def drawn_body():
    import bpy
    from blender_addon.panels.body import POSEFIT_PT_body
    from test_panels import Recorder

    layout = Recorder([])
    POSEFIT_PT_body.draw(SimpleNamespace(layout=layout), bpy.context)
    return layout.words


def test_an_override_that_is_not_editable_says_so(context, shot, session):
    import bpy

    override_of(shot, bpy.context, editable=False)
    refuse(session, "an override that is not editable")


def test_a_linked_shape_is_not_refined(context, shot, session):
    import bpy

    override_of(shot, bpy.context)
    bpy.context.scene.posefit.refine_shape = True
    refuse(session, "the shape of .* belongs to hero.blend")


def test_an_empty_that_shows_a_linked_character_says_what_to_do(context, shot, session):
    import bpy
    from blender_addon.rigs.library_link import linked_armature

    empty = bpy.data.objects.new("Hero", None)
    empty.instance_type, empty.instance_collection = "COLLECTION", shot
    bpy.context.scene.collection.objects.link(empty)
    bpy.context.view_layer.objects.active = empty
    assert linked_armature(empty) == "Body"
    with ScriptedBackend(answer=turned_result) as backend:
        connect(session, backend)
        with pytest.raises(RuntimeError, match="Body is linked with its collection"):
            bpy.ops.posefit.refine_frame()
