# SPDX-License-Identifier: GPL-3.0-or-later
"""A new body: its mesh with weights and sliders bit by bit beside the scene, then its armature.

The mesh takes long and nothing of it needs the scene. The armature's bones can be made in edit mode
alone, and so only in the scene that is shown.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass

import bpy
import numpy as np
import numpy.typing as npt

from posefit_shared import sequence, skeleton
from posefit_shared.body_files import BodyArrays

from ..keys.transform_sampling import bone_prefix
from ..keys.unfinished import UNFINISHED, still_there
from ..slices import to_end
from . import body_builder
from .body_builder import POSE_PREFIX, SHAPE_PREFIX, ZUP, armature_heads, rest_joints
from .bone_rotations import pose_corrective_expression

Array = npt.NDArray[np.float64]

SHAPE_LIMIT = 5.0
"""Range of the shape sliders, in standard deviations."""
WEIGHT_FLOOR = 1e-6
"""Skinning weights below this are left out."""
_PAUSE_KEYS = 8
"""After so many shape keys there is a pause: some milliseconds."""


@dataclass(frozen=True)
class BodyOptions:
    """How a body is built."""

    name: str = "Body"
    """The armature's name; the mesh is called the same with `.mesh`."""
    source: str = "free"
    """`free` or the path of the body file: kept on the armature."""
    gender: str = "neutral"
    """Kept on the armature."""
    pose_correctives: bool = False
    """Also make the pose correctives: nine driven shape keys a joint, heavy to evaluate."""


def build_body(
    context: bpy.types.Context, body: BodyArrays, betas: npt.ArrayLike, options: BodyOptions
) -> bpy.types.Object:
    """A new armature with its skinned mesh, in the context's collection, at once.

    Args:
        context: where to put them.
        body: the model's arrays.
        betas: (N,) shape.
        options: names and what to make.

    Returns:
        The armature object; it is the active one.
    """
    mesh = to_end(mesh_slices(body, betas, options))
    return place_body(context, body, betas, options, mesh)


def mesh_slices(
    body: BodyArrays, betas: npt.ArrayLike, options: BodyOptions
) -> Generator[None, None, int]:
    """A body's mesh in no scene, weighted, with its sliders set.

    Yields:
        Where it may pause.

    Returns:
        Blender's number of the object, which nothing uses.

    Raises:
        RemovedError: it was removed in a pause.
    """
    mesh = bpy.data.objects.new(UNFINISHED, bpy.data.meshes.new(UNFINISHED))
    uid = mesh.session_uid
    _add_faces(mesh.data, body)
    yield
    data = still_there(uid).data
    _add_uvs(data, body)
    data.update(calc_edges=True)
    yield
    still_there(uid).data.validate()
    yield
    for joint, name in enumerate(body.joint_names):
        _add_weights(still_there(uid), name, body.lbs_weights[:, joint])
        yield
    still_there(uid).shape_key_add(name="Basis", from_mix=False)
    offsets = [(SHAPE_PREFIX, body.shapedirs, SHAPE_LIMIT)]
    if options.pose_correctives:
        offsets.append((POSE_PREFIX, body.posedirs, 2.0))
    for prefix, directions, limit in offsets:
        for indices in _in_groups(directions.shape[-1], _PAUSE_KEYS):
            mesh = still_there(uid)
            for index in indices:
                _add_key(mesh, f"{prefix}{index:03d}", body, directions[..., index], limit)
            yield
    body_builder.set_betas(still_there(uid), betas)
    return uid


def place_body(
    context: bpy.types.Context,
    body: BodyArrays,
    betas: npt.ArrayLike,
    options: BodyOptions,
    mesh_uid: int,
) -> bpy.types.Object:
    """A new armature, in the context's collection, that deforms a mesh of `mesh_slices`.

    Returns:
        The armature object; it is the active one.

    Raises:
        RemovedError: the mesh is gone.
    """
    mesh = still_there(mesh_uid)
    armature = _build_armature(context, body, rest_joints(body, betas), options.name)
    armature[body_builder.BODY_KEY] = options.source
    armature[body_builder.HASH_KEY] = body.content_hash
    armature[body_builder.MODEL_KEY] = skeleton.model_type_from_joint_count(body.num_joints)
    armature[body_builder.GENDER_KEY] = options.gender
    armature[body_builder.SCHEMA_KEY] = sequence.SCHEMA
    mesh.name = mesh.data.name = f"{options.name}.mesh"
    context.collection.objects.link(mesh)
    mesh.parent = armature
    modifier = mesh.modifiers.new("Armature", "ARMATURE")
    modifier.object = armature
    modifier.use_deform_preserve_volume = False
    if options.pose_correctives:
        _drive_correctives(mesh, body, armature)
    return armature


def _in_groups(count: int, size: int) -> Iterator[range]:
    for start in range(0, count, size):
        yield range(start, min(start + size, count))


def _build_armature(
    context: bpy.types.Context, body: BodyArrays, joints: Array, name: str
) -> bpy.types.Object:
    armature = bpy.data.objects.new(name, bpy.data.armatures.new(name))
    context.collection.objects.link(armature)
    armature.show_in_front = True
    armature.data.display_type = "STICK"
    heads = armature_heads(joints)
    # Orientation comes from the mean body: it must not change with the shape.
    mean = armature_heads(rest_joints(body, np.zeros(0)))
    directions = body_builder.bone_directions(mean, body.parents.tolist())
    with body_builder.edit_mode(context, armature):
        bones = []
        for joint, bone_name in enumerate(body.joint_names):
            bone = armature.data.edit_bones.new(bone_name)
            bone.head = heads[joint]
            bone.tail = heads[joint] + directions[joint]
            if body.parents[joint] >= 0:
                bone.parent = bones[body.parents[joint]]
            bones.append(bone)
    for pose_bone in armature.pose.bones:
        pose_bone.rotation_mode = "QUATERNION"
    for item in context.view_layer.objects.selected:
        item.select_set(False)
    armature.select_set(True)
    context.view_layer.objects.active = armature
    return armature


def _add_faces(data: bpy.types.Mesh, body: BodyArrays) -> None:
    vertices = (body.v_template.astype(np.float64) @ ZUP.T).astype(np.float32)
    faces = np.ascontiguousarray(body.faces, np.int32)
    data.vertices.add(len(vertices))
    data.vertices.foreach_set("co", vertices.ravel())
    data.loops.add(faces.size)
    data.loops.foreach_set("vertex_index", faces.ravel())
    data.polygons.add(len(faces))
    data.polygons.foreach_set("loop_start", np.arange(0, faces.size, 3, dtype=np.int32))
    data.polygons.foreach_set("use_smooth", np.ones(len(faces), bool))


def _add_uvs(data: bpy.types.Mesh, body: BodyArrays) -> None:
    if body.vt is None or body.ft is None:
        return
    layer = data.uv_layers.new(name="UVMap")
    coordinates = np.asarray(body.vt, np.float32)[np.asarray(body.ft).ravel()]
    layer.data.foreach_set("uv", np.ascontiguousarray(coordinates).ravel())


def _add_weights(mesh: bpy.types.Object, name: str, weights: npt.NDArray[np.float32]) -> None:
    group = mesh.vertex_groups.new(name=name)
    alike: dict[float, list[int]] = {}  # half of the vertices have another one's weight
    for vertex in np.flatnonzero(weights > WEIGHT_FLOOR).tolist():
        alike.setdefault(float(weights[vertex]), []).append(vertex)
    for weight, vertices in alike.items():
        group.add(vertices, weight, "REPLACE")


def _add_key(
    mesh: bpy.types.Object,
    name: str,
    body: BodyArrays,
    offsets: npt.NDArray[np.float32],
    limit: float,
) -> None:
    """A slider that adds offsets (V, 3), SMPL's rest space."""
    key = mesh.shape_key_add(name=name, from_mix=False)
    turned = np.asarray(body.v_template + offsets, np.float64) @ ZUP.T
    key.data.foreach_set("co", turned.astype(np.float32).ravel())
    key.value = 0.0  # Blender 5 starts at 1
    key.slider_min, key.slider_max = -limit, limit


def _drive_correctives(
    mesh: bpy.types.Object, body: BodyArrays, armature: bpy.types.Object
) -> None:
    keys = mesh.data.shape_keys.key_blocks
    for index in range(body.posedirs.shape[-1]):
        joint, entry = 1 + index // 9, index % 9
        bone = armature.data.bones[body.joint_names[joint]]
        bone_to_smpl = ZUP.T @ np.array(bone.matrix_local, np.float64)[:3, :3]
        driver = keys[f"{POSE_PREFIX}{index:03d}"].driver_add("value").driver
        for component, letter in enumerate("wxyz"):
            variable = driver.variables.new()
            variable.name = letter
            target = variable.targets[0]
            target.id = armature
            target.data_path = f"{bone_prefix(bone.name)}rotation_quaternion[{component}]"
        driver.expression = pose_corrective_expression(bone_to_smpl, entry // 3, entry % 3)
