# SPDX-License-Identifier: GPL-3.0-or-later
"""SMPL bodies in Blender: their files, their shape, and the joints that follow it.

SMPL's rest pose is y up; the armature's data is turned to z up, so that the object itself needs no
rotation and an unposed body stands. Bones keep one orientation whatever the shape is: when joints
move with the shape, only heads and tails are shifted, so that keyed rotations stay right.
"""

from __future__ import annotations

import functools
from collections.abc import Generator, Sequence

import bpy
import numpy as np
import numpy.typing as npt

from posefit_shared import body_files, frames
from posefit_shared.body_files import BodyArrays

from ..slices import to_end
from .rig import SceneError

Array = npt.NDArray[np.float64]

BODY_KEY, HASH_KEY, MODEL_KEY = "posefit_body", "posefit_body_hash", "posefit_model_type"
GENDER_KEY, SCHEMA_KEY = "posefit_gender", "posefit_schema"
SHAPE_PREFIX, POSE_PREFIX = "Shape", "Pose"

ZUP = frames.YUP_TO_ZUP[:3, :3]
"""SMPL's rest axes in the armatures built here."""


def load_body(source: str) -> BodyArrays:
    """A body file's arrays, kept: `free`, or a path.

    Raises:
        BodyFileError: the file is no body file; the message says why.
    """
    return to_end(loading(source))


def loading(source: str) -> Generator[None, None, BodyArrays]:
    """`load_body` with pauses, where it is not there yet."""
    shelf = _shelf(source)
    if "body" not in shelf:
        path = body_files.FREE_BODY if source == body_files.FREE_BODY else bpy.path.abspath(source)
        shelf["body"] = yield from body_files.body_slices(path)
    return shelf["body"]


def loaded(source: str) -> BodyArrays | None:
    """A body file's arrays, if they were read already."""
    return _shelf(source).get("body")


@functools.lru_cache(maxsize=2)
def _shelf(source: str) -> dict[str, BodyArrays]:
    """Where the arrays of the last two bodies are kept."""
    return {}


def rest_joints(body: BodyArrays, betas: npt.ArrayLike) -> Array:
    """(J, 3) rest joints of a shaped body, SMPL's rest space, metres."""
    return np.asarray(body.J_regressor, np.float64) @ shaped_vertices(body, betas)


def shaped_vertices(body: BodyArrays, betas: npt.ArrayLike) -> Array:
    """(V, 3) rest vertices of a shaped body, SMPL's rest space, metres."""
    betas = np.asarray(betas, np.float64)
    used = min(len(betas), body.shapedirs.shape[-1])
    offsets = body.shapedirs[..., :used].astype(np.float64) @ betas[:used]
    return body.v_template.astype(np.float64) + offsets


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

    Only for armatures that `new_body` made from this very body: bones keep their orientation, so
    the keyed rotations stay as they are.

    Raises:
        SceneError: the armature was not built from this body.
    """
    _check_is_of(armature, body)
    heads = armature_heads(rest_joints(body, read_betas(armature)))
    with edit_mode(context, armature):
        for name, head in zip(body.joint_names, heads, strict=True):
            bone = armature.data.edit_bones[name]
            direction = bone.tail - bone.head
            bone.head = head
            bone.tail = bone.head + direction


def armature_heads(joints: Array) -> Array:
    """(J, 3) heads of the bones, armature space, from rest joints in SMPL's rest space."""
    return joints @ ZUP.T


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


class edit_mode:
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


def _shape_index(name: str) -> int | None:
    digits = name.removeprefix(SHAPE_PREFIX)
    return int(digits) if digits != name and digits.isdigit() else None
