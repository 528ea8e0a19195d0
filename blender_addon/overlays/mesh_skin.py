# SPDX-License-Identifier: GPL-3.0-or-later
"""Meshes that an armature deforms, as arrays: as they stand, at rest, and which bones move them.

Meshes are only read. Weights and faces do not change while an artist looks at a shot, and reading
weights is slow (Blender hands them out one by one), so a `SkinCache` keeps them.
"""

from __future__ import annotations

from dataclasses import dataclass

import bpy
import numpy as np
import numpy.typing as npt

from ..rigs import body_builder

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Skin:
    """What of a mesh stays while it moves."""

    weights: FloatArray
    """(V, J) of the SMPL bones, summing to one where any of them moves the vertex."""
    triangles: IntArray
    """(F, 3)."""


@dataclass(frozen=True)
class Corners:
    """A mesh's triangles corner by corner, as its texture coordinates have them."""

    vertices: IntArray
    """(3 F,) which vertex each is."""
    uvs: FloatArray
    """(3 F, 2)."""


@dataclass(frozen=True)
class MeshPoints:
    """Where a mesh's vertices are."""

    points: FloatArray
    """(V, 3)."""
    normals: FloatArray
    """(V, 3)."""


class SkinCache:
    """Weights and faces of meshes, and shaped meshes at rest, read once."""

    def __init__(self) -> None:
        self._skins: dict[tuple, Skin] = {}
        self._rest: dict[tuple, MeshPoints] = {}
        self._corners: dict[tuple, Corners | None] = {}

    def clear(self) -> None:
        """Read everything anew."""
        self._skins.clear()
        self._rest.clear()
        self._corners.clear()

    def skin(self, item: bpy.types.Object, data: bpy.types.Mesh, bones: tuple[str, ...]) -> Skin:
        """Weights and faces.

        Args:
            item: the mesh's object, which names the vertex groups.
            data: the mesh itself: as it was made, or as Blender evaluated it.
            bones: (J,) the SMPL bones.
        """
        key = (item.name_full, len(data.vertices), len(data.polygons), len(item.vertex_groups))
        key = (*key, bones)
        if key not in self._skins:
            self._skins[key] = Skin(_read_weights(item, data, bones), _read_triangles(data))
        return self._skins[key]

    def corners(self, item: bpy.types.Object) -> Corners | None:
        """A mesh's corners with their texture coordinates; none where it has no UV map."""
        key = (item.name_full, len(item.data.vertices), len(item.data.polygons))
        if key not in self._corners:
            self._corners[key] = _read_corners(item.data)
        return self._corners[key]

    def rest(self, item: bpy.types.Object) -> MeshPoints:
        """A mesh with its shape sliders but unposed, in its own space."""
        sliders = tuple(key.value for key in body_builder.shape_keys(item))
        key = (item.name_full, len(item.data.vertices), sliders)
        if key not in self._rest:
            self._rest = {kept: v for kept, v in self._rest.items() if kept[0] != item.name_full}
            self._rest[key] = _read_rest(item)
        return self._rest[key]


def deformed_meshes(
    context: bpy.types.Context, armature: bpy.types.Object
) -> list[bpy.types.Object]:
    """The visible meshes that an armature deforms."""
    return [
        item
        for item in context.view_layer.objects
        if item.type == "MESH"
        and item.mode != "EDIT"  # its evaluated mesh is not what is shown then
        and any(m.type == "ARMATURE" and m.object == armature for m in item.modifiers)
        and item.visible_get()
    ]


def read_points(data: bpy.types.Mesh) -> MeshPoints:
    """A mesh's vertices and their normals, in its own space."""
    points, normals = (np.empty(3 * len(data.vertices), np.float32) for _ in range(2))
    data.vertices.foreach_get("co", points)
    data.vertex_normals.foreach_get("vector", normals)
    return MeshPoints(points.reshape(-1, 3), normals.reshape(-1, 3))


def _read_corners(data: bpy.types.Mesh) -> Corners | None:
    layer = data.uv_layers.active
    if layer is None:
        return None
    data.calc_loop_triangles()
    loops = np.empty(3 * len(data.loop_triangles), np.int32)
    data.loop_triangles.foreach_get("loops", loops)
    vertices = np.empty(len(data.loops), np.int32)
    data.loops.foreach_get("vertex_index", vertices)
    uvs = np.empty(2 * len(data.loops), np.float32)
    layer.data.foreach_get("uv", uvs)
    return Corners(vertices[loops], uvs.reshape(-1, 2)[loops])


def _read_rest(item: bpy.types.Object) -> MeshPoints:
    now = read_points(item.data)
    sliders = body_builder.shape_keys(item)
    if not sliders:
        return now
    points = _key_points(item.data.shape_keys.reference_key)
    basis = points.copy()
    for key in sliders:
        if key.value:
            points += key.value * (_key_points(key) - basis)
    return MeshPoints(points, now.normals)


def _key_points(key: bpy.types.ShapeKey) -> FloatArray:
    points = np.empty(3 * len(key.data), np.float32)
    key.data.foreach_get("co", points)
    return points.reshape(-1, 3)


def _read_weights(
    item: bpy.types.Object, data: bpy.types.Mesh, bones: tuple[str, ...]
) -> FloatArray:
    column = {
        group.index: bones.index(group.name) for group in item.vertex_groups if group.name in bones
    }
    weights = np.zeros((len(data.vertices), len(bones)), np.float32)
    for row, vertex in enumerate(data.vertices):
        for element in vertex.groups:
            if element.group in column:
                weights[row, column[element.group]] = element.weight
    total = weights.sum(-1, keepdims=True)
    return np.where(total > 1e-4, weights / np.maximum(total, 1e-4), 0.0).astype(np.float32)


def _read_triangles(data: bpy.types.Mesh) -> IntArray:
    data.calc_loop_triangles()
    triangles = np.empty(3 * len(data.loop_triangles), np.int32)
    data.loop_triangles.foreach_get("vertices", triangles)
    return triangles.reshape(-1, 3)
