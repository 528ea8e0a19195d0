# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be drawn over a refined body is where it should be; the body stays untouched."""

import numpy as np
import pytest
from comparison_makers import BONES
from review_makers import LEFT_ARM, add_reviewed_body
from scene_makers import evaluated_vertices

pytestmark = pytest.mark.bpy

FRAME = 5


@pytest.fixture
def armature(context):
    """A refined body of a shape of its own that is scaled, turned, and hangs on a moved empty."""
    import bpy
    from blender_addon.rigs import body_builder

    armature = add_reviewed_body(context)
    mesh = body_builder.mesh_of(armature)
    body_builder.set_betas(mesh, [1.5, -1.0, 0.5])
    parent = bpy.data.objects.new("Parent", None)
    context.collection.objects.link(parent)
    parent.location, parent.rotation_euler = (1.0, -2.0, 0.5), (0.3, 0.2, 2.0)
    armature.parent = parent
    armature.scale = (1.2, 1.2, 1.2)
    context.scene.frame_set(FRAME)
    return armature


def shapes(context, armature, **settings):
    from blender_addon.overlays import mesh_skin, overlay_shapes

    for name, value in settings.items():
        setattr(context.scene.posefit_review, name, value)
    graph = context.evaluated_depsgraph_get()
    return overlay_shapes.shapes_of(context, graph, armature, mesh_skin.SkinCache())


def shown_heads(context, armature):
    """(24, 3) where Blender shows the joints, world."""
    shown = armature.evaluated_get(context.evaluated_depsgraph_get())
    return np.stack([np.array(shown.matrix_world @ shown.pose.bones[n].head) for n in BONES])


def mesh_of(armature):
    from blender_addon.rigs import body_builder

    return body_builder.mesh_of(armature)


def original_shown(context, armature):
    armature.posefit_comparison.amount = 0
    context.view_layer.update()


@pytest.mark.parametrize("frame", [FRAME, 6.4])
def test_the_ghosts_joints_are_those_of_the_original(context, armature, frame):
    from blender_addon.overlays import overlay_shapes

    context.scene.frame_set(int(frame), subframe=frame % 1)
    shown = armature.evaluated_get(context.evaluated_depsgraph_get())
    posed = overlay_shapes.ghost_bones(armature, shown, context.scene.frame_current_final)
    world = np.array(shown.matrix_world) @ posed
    refined = shown_heads(context, armature)
    original_shown(context, armature)
    wanted = shown_heads(context, armature)
    assert world[:, :3, 3] == pytest.approx(wanted, abs=2e-5)
    assert np.abs(refined - wanted).max() > 0.05


def test_the_ghost_body_is_the_original_one(context, armature):
    (surface,) = shapes(context, armature, ghost="BODY")
    original_shown(context, armature)
    assert surface.points == pytest.approx(evaluated_vertices(mesh_of(armature)), abs=1e-4)
    assert len(surface.triangles) == len(mesh_of(armature).data.polygons)


def test_the_ghosts_bones_are_lines_between_its_joints(context, armature):
    (lines,) = shapes(context, armature, ghost="BONES")
    original_shown(context, armature)
    heads = shown_heads(context, armature)
    pairs = lines.points.reshape(-1, 2, 3)
    elbow, wrist = heads[BONES.index("L_Elbow")], heads[BONES.index("L_Wrist")]
    assert any(np.allclose(pair, [elbow, wrist], atol=1e-4) for pair in pairs)
    assert len(pairs) == 23 + 5  # one to each parent, and five ends: hands, feet, head


def test_colours_lie_on_the_body_and_show_the_doubtful_arm(context, armature):
    from blender_addon.overlays.overlay_geometry import BAD, GOOD

    (surface,) = shapes(context, armature, colours="CONFIDENCE", opacity=0.5)
    mesh = mesh_of(armature)
    assert surface.points == pytest.approx(evaluated_vertices(mesh), abs=1e-5)
    assert surface.colours[:, 3] == pytest.approx(0.5)
    weights = np.zeros((len(mesh.data.vertices), 24))
    for vertex in mesh.data.vertices:
        for element in vertex.groups:
            joint = BONES.index(mesh.vertex_groups[element.group].name)
            weights[vertex.index, joint] = element.weight
    arm = weights[:, LEFT_ARM].sum(-1)
    warmth = surface.colours[:, 0] - surface.colours[:, 2]
    assert (warmth[arm > 0.99] > 0.2).all()
    assert (warmth[arm < 0.01] < 0).all()
    assert BAD[0] > BAD[2]
    assert GOOD[0] < GOOD[2]


def test_a_subdivided_body_is_coloured_as_it_is_shown(context, armature):
    mesh = mesh_of(armature)
    subdivision = mesh.modifiers.new("Subdivision", "SUBSURF")
    subdivision.levels, subdivision.use_limit_surface = 1, False  # the limit takes Blender 15 s
    (surface,) = shapes(context, armature, colours="CONFIDENCE")
    assert surface.points == pytest.approx(evaluated_vertices(mesh), abs=1e-5)
    assert len(surface.points) > 2 * len(mesh.data.vertices)
    warm = surface.colours[:, 0] - surface.colours[:, 2] > 0.2
    assert 0.02 < warm.mean() < 0.3


def test_bones_are_coloured_where_no_mesh_is_seen(context, armature):
    mesh_of(armature).hide_set(True)
    (lines,) = shapes(context, armature, colours="CONFIDENCE")
    heads = shown_heads(context, armature)
    elbow, wrist = heads[BONES.index("L_Elbow")], heads[BONES.index("L_Wrist")]
    pairs = lines.points.reshape(-1, 2, 3)
    (row,) = [i for i, p in enumerate(pairs) if np.allclose(p, [elbow, wrist], atol=1e-4)]
    warmth = lines.colours[:, 0] - lines.colours[:, 2]
    assert warmth[2 * row] > 0.2
    assert (warmth < 0).sum() > len(warmth) / 2


def test_frames_that_were_not_refined_have_no_colours(context, armature):
    context.scene.frame_set(2)
    assert shapes(context, armature, colours="CONFIDENCE") == []


def test_change_colours_follow_the_millimetres(context, armature):
    (surface,) = shapes(context, armature, colours="CHANGE", change_limit_mm=0.1)
    assert (surface.colours[:, 0] > surface.colours[:, 2]).all()
    (surface,) = shapes(context, armature, colours="CHANGE", change_limit_mm=10000.0)
    assert (surface.colours[:, 0] < surface.colours[:, 2]).all()


def test_arrows_lead_from_the_original_to_what_is_shown(context, armature):
    rim, lines = shapes(context, armature, use_arrows=True)
    assert rim.width_px > lines.width_px
    assert np.array_equal(rim.points, lines.points)
    arrows = lines.points.reshape(-1, 6, 3)
    after = shown_heads(context, armature)
    original_shown(context, armature)
    before = shown_heads(context, armature)
    assert len(arrows) == 24
    assert arrows[:, 0] == pytest.approx(before, abs=1e-4)
    assert arrows[:, 1] == pytest.approx(after, abs=1e-4)
    assert shapes(context, armature, use_arrows=True) == []


def test_after_accepting_there_is_no_ghost_but_still_colours(context, armature):
    import bpy

    bpy.ops.posefit.accept()
    (surface,) = shapes(context, armature, colours="CONFIDENCE", ghost="BODY", use_arrows=True)
    assert surface.points == pytest.approx(evaluated_vertices(mesh_of(armature)), abs=1e-5)


def test_nothing_is_read_again_until_something_changes(context, armature):
    from blender_addon.overlays.overlay import Overlay

    overlay = Overlay()
    settings = context.scene.posefit_review
    settings.colours, settings.ghost = "CONFIDENCE", "BODY"

    def kept():
        return overlay.kept_shapes(context, context.evaluated_depsgraph_get(), armature)

    first = kept()
    assert kept() is first
    context.scene.frame_set(6)
    second = kept()
    assert second is not first
    settings.threshold = 0.7
    third = kept()
    assert third is not second
    overlay.scene_changed()
    assert kept() is not third
    assert kept() is kept()


def test_the_artists_mesh_is_left_as_it_was(context, armature):
    import bpy

    mesh = mesh_of(armature)

    def counts():
        data = mesh.data
        return (
            len(data.attributes),
            len(data.color_attributes),
            len(data.shape_keys.key_blocks),
            len(mesh.modifiers),
            len(bpy.data.objects),
            len(bpy.data.meshes),
            armature.animation_data.action.name,
        )

    before = counts()
    shapes(context, armature, colours="CONFIDENCE", ghost="BODY", use_arrows=True)
    assert counts() == before


def test_nothing_is_drawn_or_listened_to_without_a_window(addon):
    import bpy
    from blender_addon.overlays import overlay

    assert bpy.app.background
    assert overlay._drawing == []
    assert overlay._on_update not in bpy.app.handlers.depsgraph_update_post
