# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be drawn over a refined body at the frame that is shown: surfaces and lines.

Reads the scene and gives arrays; `overlay` draws them. Nothing in the file is changed.
"""

from __future__ import annotations

from dataclasses import dataclass

import bpy
import numpy as np
import numpy.typing as npt

from posefit_shared import frames

from ..results import compared_sides, comparison, findings, side_poses
from ..rigs.rig import RigMatch
from ..rigs.rig_match import match_armature
from . import mesh_skin, overlay_geometry
from .mesh_skin import SkinCache

Array = npt.NDArray[np.float64]
FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]

SHORTEST_ARROW_MM = 2.0
"""Joints that moved less than this get no arrow."""


@dataclass(frozen=True)
class Surface:
    """A body to be drawn."""

    points: FloatArray
    """(V, 3) world."""
    colours: FloatArray
    """(V, 4) sRGB and opacity."""
    triangles: IntArray
    """(F, 3)."""


@dataclass(frozen=True)
class Textured:
    """A body that wears an image."""

    points: FloatArray
    """(3 F, 3) world, corner by corner."""
    coordinates: FloatArray
    """(3 F, 2) of the image."""
    image: str
    """Its name; it may be gone when it is drawn."""


@dataclass(frozen=True)
class Ghost:
    """A body that is seen through everything, mostly by its outline."""

    points: FloatArray
    """(V, 3) world."""
    normals: FloatArray
    """(V, 3) world."""
    triangles: IntArray
    """(F, 3)."""


@dataclass(frozen=True)
class Lines:
    """Straight lines, drawn in front of everything."""

    points: FloatArray
    """(N, 3) world; each two are a line."""
    colours: FloatArray
    """(N, 4)."""
    width_px: float
    """In pixels of an ordinary screen."""


Shape = Surface | Textured | Ghost | Lines


@dataclass(frozen=True)
class _Body:
    """One armature and how it stands now; lives no longer than one call."""

    armature: bpy.types.Object
    match: RigMatch
    shown: bpy.types.Object
    """The armature as Blender evaluated it."""
    graph: bpy.types.Depsgraph

    @property
    def to_world(self) -> Array:
        """(4, 4) from armature space."""
        return np.array(self.shown.matrix_world, np.float64)


def shapes_of(
    context: bpy.types.Context,
    graph: bpy.types.Depsgraph,
    armature: bpy.types.Object,
    cache: SkinCache,
) -> list[Shape]:
    """All that the scene's settings want drawn of one armature, in the order of drawing.

    Args:
        context: whose scene and view layer are shown.
        graph: the evaluated scene.
        armature: an SMPL armature.
        cache: what was read of meshes before.
    """
    settings = context.scene.posefit_review
    match = match_armature(armature)
    body = _Body(armature, match, armature.evaluated_get(graph), graph)
    meshes = mesh_skin.deformed_meshes(context, armature)
    shapes: list[Shape] = []
    if settings.use_texture and armature.posefit_texture is not None:
        shapes += _textured_body(body, meshes, cache)
    if settings.colours != "OFF":
        goodness = joint_goodness(context.scene, armature)
        if goodness is not None:
            shapes += _coloured_body(body, meshes, goodness, settings.opacity, cache)
    if (settings.ghost == "OFF" and not settings.use_arrows) or comparison.problem(armature):
        return shapes
    if armature.posefit_comparison.is_over_strips:
        return shapes  # strips are the original: no curve says where it is
    posed = ghost_bones(armature, body.shown, context.scene.frame_current_final)
    if settings.ghost == "BODY" and meshes:
        shapes += [_ghost_mesh(body, mesh, posed, cache) for mesh in meshes]
    elif settings.ghost != "OFF":
        shapes.append(_bone_lines(body, posed, (*overlay_geometry.GHOST, 0.9)))
    if settings.use_arrows:
        shapes += _arrows(body, posed)
    return shapes


def joint_goodness(scene: bpy.types.Scene, armature: bpy.types.Object) -> Array | None:
    """(J,) how good each joint is at the frame that is shown; none where that was not refined."""
    found = findings.of_armature(armature)
    row = None if found is None else found.at(scene.frame_current)
    if found is None or row is None:
        return None
    settings = scene.posefit_review
    if settings.colours == "CHANGE":
        limit = settings.change_limit_mm
        return overlay_geometry.goodness_of_change(found.moved_mm[row], limit)
    return overlay_geometry.goodness_of_confidence(found.confidence[row], settings.threshold)


def ghost_bones(armature: bpy.types.Object, shown: bpy.types.Object, frame: float) -> Array:
    """P (J, 4, 4) of the original motion at a frame, armature space.

    Args:
        armature: which has an original to compare with.
        shown: the same as Blender evaluated it, which says where bones above the root are.
        frame: scene frame, whole or not.
    """
    original, _ = compared_sides.sides(armature)
    turns = side_poses.bone_turns(armature, original, [frame])
    bones = match_armature(armature).bones
    above = armature.data.bones[bones[0]].parent
    above_root = None
    if above is not None:
        posed = np.array(shown.pose.bones[above.name].matrix, np.float64)
        above_root = posed @ np.linalg.inv(np.array(above.matrix_local, np.float64))
    return side_poses.posed_bones(armature, turns, above_root)[0]


def _coloured_body(
    body: _Body,
    meshes: list[bpy.types.Object],
    goodness: Array,
    opacity: float,
    cache: SkinCache,
) -> list[Shape]:
    """The body as it is shown, coloured; its bones where no mesh is seen."""
    if not meshes:
        posed = _shown_bones(body)
        colours = overlay_geometry.ramp_colours(goodness)
        colours = np.concatenate([colours, np.ones((len(colours), 1), np.float32)], -1)
        return [_bone_lines(body, posed, colours, width_px=5.0)]
    shapes: list[Shape] = []
    for mesh in meshes:
        shown = mesh.evaluated_get(body.graph)
        skin = cache.skin(mesh, shown.data, body.match.bones)
        now = mesh_skin.read_points(shown.data)
        to_world = np.array(shown.matrix_world, np.float64)
        colours = overlay_geometry.shaded(
            overlay_geometry.skin_colours(skin.weights, goodness),
            now.normals @ _turn(to_world),
            opacity,
        )
        shapes.append(Surface(_moved(to_world, now.points), colours, skin.triangles))
    return shapes


def _textured_body(body: _Body, meshes: list[bpy.types.Object], cache: SkinCache) -> list[Shape]:
    """The meshes as they are shown, wearing the armature's texture."""
    shapes: list[Shape] = []
    for mesh in meshes:
        coordinates = cache.corners(mesh)
        if coordinates is None:
            continue
        shown = mesh.evaluated_get(body.graph)
        if len(shown.data.vertices) != len(mesh.data.vertices):
            continue  # a modifier made other vertices than those that have the coordinates
        points = mesh_skin.read_points(shown.data).points
        placed = _moved(np.array(shown.matrix_world, np.float64), points)
        image = body.armature.posefit_texture.name
        shapes.append(Textured(placed[coordinates.vertices], coordinates.uvs, image))
    return shapes


def _ghost_mesh(body: _Body, mesh: bpy.types.Object, posed: Array, cache: SkinCache) -> Ghost:
    """A mesh as the original motion has it, in the shape that it has now."""
    skin = cache.skin(mesh, mesh.data, body.match.bones)
    rest = cache.rest(mesh)
    to_armature = np.linalg.inv(body.to_world) @ np.array(
        mesh.evaluated_get(body.graph).matrix_world, np.float64
    )
    transforms = posed @ np.linalg.inv(side_poses.rest_bones(body.armature))
    points, normals = overlay_geometry.skinned(
        _moved(to_armature, rest.points),
        rest.normals @ _turn(to_armature),
        skin.weights,
        transforms,
    )
    return Ghost(_moved(body.to_world, points), normals @ _turn(body.to_world), skin.triangles)


def _bone_lines(body: _Body, posed: Array, colours: npt.ArrayLike, width_px: float = 3.0) -> Lines:
    """The bones as lines, in colours (4,) or (J, 4)."""
    heads, tails = _heads_and_tails(body, posed)
    pairs = overlay_geometry.bone_lines(heads, tails, body.match.parents)
    points = np.concatenate([heads, tails])[pairs.ravel()]
    each = np.broadcast_to(np.asarray(colours, np.float32), (len(heads), 4))
    # A line has the colour of the joint that it starts from: that one turns it.
    starts = np.repeat(pairs[:, 0], 2)
    return Lines(points.astype(np.float32), each[starts], width_px)


def _arrows(body: _Body, posed: Array) -> list[Shape]:
    """From where the original has each joint to where it is shown, light with a dark rim."""
    starts, _ = _heads_and_tails(body, posed)
    ends, _ = _heads_and_tails(body, _shown_bones(body))
    scale = np.cbrt(abs(np.linalg.det(body.to_world[:3, :3])))
    per_mm = side_poses.units_per_metre(body.armature) * scale / 1000.0
    points = overlay_geometry.arrow_lines(starts, ends, SHORTEST_ARROW_MM * per_mm).reshape(-1, 3)
    rim, light = (np.tile(np.float32([grey] * 3 + [1.0]), (len(points), 1)) for grey in (0.05, 1.0))
    return [Lines(points, rim, 4.5), Lines(points, light, 2.0)] if len(points) else []


def _shown_bones(body: _Body) -> Array:
    bones = body.shown.pose.bones
    return np.stack([np.array(bones[name].matrix, np.float64) for name in body.match.bones])


def _heads_and_tails(body: _Body, posed: Array) -> tuple[Array, Array]:
    """Both (J, 3), world."""
    lengths = [body.armature.data.bones[name].length for name in body.match.bones]
    heads = posed[:, :3, 3]
    tails = heads + posed[:, :3, 1] * np.array(lengths)[:, None]  # a bone lies along its y axis
    return frames.apply(body.to_world, heads), frames.apply(body.to_world, tails)


def _moved(matrix: Array, points: FloatArray) -> FloatArray:
    """Points (V, 3) under a transform, in float32 throughout."""
    linear, shift = matrix[:3, :3].astype(np.float32), matrix[:3, 3].astype(np.float32)
    return points @ linear.T + shift


def _turn(matrix: Array) -> FloatArray:
    """(3, 3) that turns rows of normals as a transform without skew does."""
    return matrix[:3, :3].T.astype(np.float32)
