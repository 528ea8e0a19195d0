# SPDX-License-Identifier: GPL-3.0-or-later
"""An SMPL body as Blender has bodies: armature, skinned mesh, shape keys, UVs.

SMPL's rest pose is y up; the armature's data is turned to z up, so that the object itself needs no
rotation and an unposed body stands. Bones keep one orientation whatever the shape is: when joints
move with the shape, only heads and tails are shifted, so that keyed rotations stay right.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import bpy
import numpy as np
import numpy.typing as npt

from posefit_shared import body_files, frames, sequence, skeleton
from posefit_shared.body_files import BodyArrays

from ..keys.transform_sampling import bone_prefix
from .bone_rotations import pose_corrective_expression
from .rig import SceneError

Array = npt.NDArray[np.float64]

BODY_KEY, HASH_KEY, MODEL_KEY = "posefit_body", "posefit_body_hash", "posefit_model_type"
GENDER_KEY, SCHEMA_KEY = "posefit_gender", "posefit_schema"
SHAPE_PREFIX, POSE_PREFIX = "Shape", "Pose"
SHAPE_LIMIT = 5.0
"""Range of the shape sliders, in standard deviations."""
WEIGHT_FLOOR = 1e-6
"""Skinning weights below this are left out."""

_ZUP = frames.YUP_TO_ZUP[:3, :3]
"""SMPL's rest axes in the armatures built here."""


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


@functools.lru_cache(maxsize=2)
def load_body(source: str) -> BodyArrays:
    """A body file's arrays, kept: `free`, or a path.

    Raises:
        BodyFileError: the file is no body file; the message says why.
    """
    path = body_files.FREE_BODY if source == body_files.FREE_BODY else bpy.path.abspath(source)
    return body_files.read_body(path)


def rest_joints(body: BodyArrays, betas: npt.ArrayLike) -> Array:
    """(J, 3) rest joints of a shaped body, SMPL's rest space, metres."""
    return np.asarray(body.J_regressor, np.float64) @ shaped_vertices(body, betas)


def shaped_vertices(body: BodyArrays, betas: npt.ArrayLike) -> Array:
    """(V, 3) rest vertices of a shaped body, SMPL's rest space, metres."""
    betas = np.asarray(betas, np.float64)
    used = min(len(betas), body.shapedirs.shape[-1])
    offsets = body.shapedirs[..., :used].astype(np.float64) @ betas[:used]
    return body.v_template.astype(np.float64) + offsets


def build_body(
    context: bpy.types.Context, body: BodyArrays, betas: npt.ArrayLike, options: BodyOptions
) -> bpy.types.Object:
    """A new armature with its skinned mesh, in the context's collection.

    Args:
        context: where to put them.
        body: the model's arrays.
        betas: (N,) shape.
        options: names and what to make.

    Returns:
        The armature object; it is the active one.
    """
    armature = _build_armature(context, body, rest_joints(body, betas), options.name)
    armature[BODY_KEY] = options.source
    armature[HASH_KEY] = body.content_hash
    armature[MODEL_KEY] = skeleton.model_type_from_joint_count(body.num_joints)
    armature[GENDER_KEY] = options.gender
    armature[SCHEMA_KEY] = sequence.SCHEMA
    mesh = _build_mesh(context, body, armature, f"{options.name}.mesh")
    _add_shape_keys(mesh, body)
    set_betas(mesh, betas)
    if options.pose_correctives:
        _add_pose_correctives(mesh, body, armature)
    return armature


def mesh_of(armature: bpy.types.Object) -> bpy.types.Object | None:
    """The mesh with shape keys that an armature deforms, if there is one."""
    for item in bpy.data.objects:
        deformed = item.type == "MESH" and any(
            m.type == "ARMATURE" and m.object == armature for m in item.modifiers
        )
        if deformed and shape_keys(item):
            return item
    return None


def shape_keys(mesh: bpy.types.Object) -> list[bpy.types.ShapeKey]:
    """A mesh's shape keys for betas, in their order."""
    keys = mesh.data.shape_keys
    if keys is None:
        return []
    found = [k for k in keys.key_blocks if _shape_index(k.name) is not None]
    return sorted(found, key=lambda k: _shape_index(k.name) or 0)


def read_betas(armature: bpy.types.Object) -> npt.NDArray[np.float32]:
    """(N,) betas of the mesh that an armature deforms, now; ten zeros where it has none."""
    mesh = mesh_of(armature)
    if mesh is None:
        return np.zeros(10, np.float32)
    return np.array([k.value for k in shape_keys(mesh)], np.float32)


def set_betas(mesh: bpy.types.Object, betas: npt.ArrayLike) -> None:
    """Set a mesh's shape sliders; those beyond the given betas to zero."""
    values = np.asarray(betas, np.float64)
    for index, key in enumerate(shape_keys(mesh)):
        value = float(values[index]) if index < len(values) else 0.0
        key.slider_min = min(key.slider_min, value)
        key.slider_max = max(key.slider_max, value)
        key.value = value


def body_to_reshape(armature: bpy.types.Object) -> tuple[BodyArrays, bpy.types.Object]:
    """The body whose shape an armature's mesh has, and that mesh.

    Raises:
        SceneError: the armature was not built from such a body.
        BodyFileError: the body's file cannot be read.
    """
    mesh, source = mesh_of(armature), armature.get(BODY_KEY)
    if mesh is None or source is None:
        raise SceneError(
            f"{armature.name} has no shape sliders: turn Shape off, or add a body of posefit's own"
        )
    body = load_body(str(source))
    _check_is_of(armature, body)
    return body, mesh


def fit_joints(context: bpy.types.Context, armature: bpy.types.Object, body: BodyArrays) -> None:
    """Put an armature's rest joints where its mesh's shape has them.

    Only for armatures that `build_body` made from this very body: bones keep their orientation, so
    the keyed rotations stay as they are.

    Raises:
        SceneError: the armature was not built from this body.
    """
    _check_is_of(armature, body)
    heads = armature_heads(rest_joints(body, read_betas(armature)))
    with _edit_mode(context, armature):
        for name, head in zip(body.joint_names, heads, strict=True):
            bone = armature.data.edit_bones[name]
            direction = bone.tail - bone.head
            bone.head = head
            bone.tail = bone.head + direction


def armature_heads(joints: Array) -> Array:
    """(J, 3) heads of the bones, armature space, from rest joints in SMPL's rest space."""
    return joints @ _ZUP.T


def _check_is_of(armature: bpy.types.Object, body: BodyArrays) -> None:
    if armature.get(HASH_KEY) != body.content_hash:
        raise SceneError(
            f"{armature.name} was not built from body {body.name}: add the body again, or choose "
            "the file that it was built from"
        )


def stand_at(armature: bpy.types.Object, body: BodyArrays, location: npt.ArrayLike) -> None:
    """Put an unposed body's feet on a point of the world."""
    lowest = float(shaped_vertices(body, read_betas(armature))[:, 1].min())
    armature.location = np.asarray(location, np.float64) - (0.0, 0.0, lowest)


class _edit_mode:
    """Edit mode of one object for the length of a block; mode and active object come back."""

    def __init__(self, context: bpy.types.Context, item: bpy.types.Object) -> None:
        self.layer, self.item = context.view_layer, item
        self.before = self.layer.objects.active
        self.mode = "OBJECT" if self.before is None else self.before.mode

    def __enter__(self) -> None:
        if self.before is not None and self.mode != "OBJECT":
            bpy.ops.object.mode_set(mode="OBJECT")
        self.layer.objects.active = self.item
        bpy.ops.object.mode_set(mode="EDIT")

    def __exit__(self, *_: object) -> None:
        bpy.ops.object.mode_set(mode="OBJECT")
        self.layer.objects.active = self.before
        if self.before is not None and self.mode != "OBJECT":
            bpy.ops.object.mode_set(mode=self.mode)


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
    directions = bone_directions(mean, body.parents.tolist())
    with _edit_mode(context, armature):
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


def bone_directions(joints: Array, parents: Sequence[int]) -> Array:
    """(J, 3) from each joint's head to its tail: to its highest child, or on from its parent."""
    directions = np.zeros_like(joints)
    for joint, parent in enumerate(parents):
        children = [child for child, above in enumerate(parents) if above == joint]
        if children:
            highest = max(children, key=lambda child: joints[child, 2])
            directions[joint] = joints[highest] - joints[joint]
        else:
            directions[joint] = 0.6 * directions[parent] if parent >= 0 else (0.0, 0.0, 0.1)
    short = np.linalg.norm(directions, axis=-1) < 0.01
    directions[short] = (0.0, 0.0, 0.03)
    return directions


def _build_mesh(
    context: bpy.types.Context, body: BodyArrays, armature: bpy.types.Object, name: str
) -> bpy.types.Object:
    data = bpy.data.meshes.new(name)
    vertices = (body.v_template.astype(np.float64) @ _ZUP.T).astype(np.float32)
    faces = np.ascontiguousarray(body.faces, np.int32)
    data.vertices.add(len(vertices))
    data.vertices.foreach_set("co", vertices.ravel())
    data.loops.add(faces.size)
    data.loops.foreach_set("vertex_index", faces.ravel())
    data.polygons.add(len(faces))
    data.polygons.foreach_set("loop_start", np.arange(0, faces.size, 3, dtype=np.int32))
    data.polygons.foreach_set("use_smooth", np.ones(len(faces), bool))
    if body.vt is not None and body.ft is not None:
        layer = data.uv_layers.new(name="UVMap")
        coordinates = np.asarray(body.vt, np.float32)[np.asarray(body.ft).ravel()]
        layer.data.foreach_set("uv", np.ascontiguousarray(coordinates).ravel())
    data.update(calc_edges=True)
    data.validate()
    mesh = bpy.data.objects.new(name, data)
    context.collection.objects.link(mesh)
    mesh.parent = armature
    modifier = mesh.modifiers.new("Armature", "ARMATURE")
    modifier.object = armature
    modifier.use_deform_preserve_volume = False
    _add_weights(mesh, body)
    return mesh


def _add_weights(mesh: bpy.types.Object, body: BodyArrays) -> None:
    for joint, name in enumerate(body.joint_names):
        group = mesh.vertex_groups.new(name=name)
        weights = body.lbs_weights[:, joint]
        alike: dict[float, list[int]] = {}  # half of the vertices have another one's weight
        for vertex in np.flatnonzero(weights > WEIGHT_FLOOR).tolist():
            alike.setdefault(float(weights[vertex]), []).append(vertex)
        for weight, vertices in alike.items():
            group.add(vertices, weight, "REPLACE")


def _add_shape_keys(mesh: bpy.types.Object, body: BodyArrays) -> None:
    mesh.shape_key_add(name="Basis", from_mix=False)
    for index in range(body.shapedirs.shape[-1]):
        name = f"{SHAPE_PREFIX}{index:03d}"
        key = _add_key(mesh, name, body.v_template + body.shapedirs[..., index])
        key.slider_min, key.slider_max = -SHAPE_LIMIT, SHAPE_LIMIT


def _add_pose_correctives(
    mesh: bpy.types.Object, body: BodyArrays, armature: bpy.types.Object
) -> None:
    for index in range(body.posedirs.shape[-1]):
        name = f"{POSE_PREFIX}{index:03d}"
        key = _add_key(mesh, name, body.v_template + body.posedirs[..., index])
        key.slider_min, key.slider_max = -2.0, 2.0
        joint, entry = 1 + index // 9, index % 9
        bone = armature.data.bones[body.joint_names[joint]]
        bone_to_smpl = _ZUP.T @ np.array(bone.matrix_local, np.float64)[:3, :3]
        driver = key.driver_add("value").driver
        for component, letter in enumerate("wxyz"):
            variable = driver.variables.new()
            variable.name = letter
            variable.targets[0].id = armature
            variable.targets[
                0
            ].data_path = f"{bone_prefix(bone.name)}rotation_quaternion[{component}]"
        driver.expression = pose_corrective_expression(bone_to_smpl, entry // 3, entry % 3)


def _add_key(mesh: bpy.types.Object, name: str, vertices: npt.ArrayLike) -> bpy.types.ShapeKey:
    key = mesh.shape_key_add(name=name, from_mix=False)
    turned = np.asarray(vertices, np.float64) @ _ZUP.T
    key.data.foreach_set("co", turned.astype(np.float32).ravel())
    key.value = 0.0  # Blender 5 starts at 1
    return key


def _shape_index(name: str) -> int | None:
    digits = name.removeprefix(SHAPE_PREFIX)
    return int(digits) if digits != name and digits.isdigit() else None
