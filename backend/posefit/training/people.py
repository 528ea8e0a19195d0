# SPDX-License-Identifier: Apache-2.0
"""The surface of clothed people: the body and its garments as one mesh, posed together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import cKDTree  # pyright: ignore
from torch import Tensor

from ..body import BodyModel, vertex_normals
from .scenes import Posed

__all__ = ["ClothedSurface", "load_surface", "pose_garments"]

PART_KEYS = ("v", "f", "shapedirs", "posedirs", "weights", "covering_face")


@dataclass(frozen=True)
class ClothedSurface:
    """Body and garments as one mesh at rest; the body's vertices and faces come first."""

    rest: Float[Tensor, "all_vertex 3"]
    """Mean body and garments at rest, metres."""
    normals: Float[Tensor, "all_vertex 3"]
    """Their normals."""
    colors: Float[Tensor, "all_vertex 3"]
    """The body's vertex colours; garments have those of the body beneath."""
    faces: Int[Tensor, "all_face 3"]
    """Triangles of all parts, int32."""
    part_ranges: tuple[tuple[int, int], ...]
    """First and last + 1 face of each garment."""
    part_names: tuple[str, ...]
    """Names of the garments."""
    covering: Int[Tensor, "garment body_face"]
    """The face of each garment that lies over each of the body's faces; −1 where none does."""
    garment_rest: Float[Tensor, "garment_vertex 3"]
    """Garments at rest, metres."""
    garment_shapedirs: Float[Tensor, "garment_vertex 3 beta"]
    """How garments follow the body's shape."""
    garment_posedirs: Float[Tensor, "garment_vertex 3 feature"]
    """How garments follow its pose beyond skinning."""
    garment_weights: Float[Tensor, "garment_vertex joint"]
    """Share of each joint in each garment vertex."""
    face_colors: Float[Tensor, "all_face 3"]
    """Vertex colours at the middle of each face, to clip garments by."""

    @property
    def num_body_faces(self) -> int:
        """Faces of the body itself."""
        return self.covering.shape[1]


def load_surface(body: BodyModel, garments: Path) -> ClothedSurface:
    """Reads garments and joins them to the body.

    Args:
        body: the body that the garments were made for.
        garments: .npz with the arrays that assets/training/README-free_garments.md describes.

    Returns:
        The surface, on the body's device.

    Raises:
        ValueError: the file holds no garment, or one that doesn't fit the body.
    """
    with np.load(garments) as data:
        names = tuple(key[:-2] for key in data.files if key.endswith("_v"))
        if not names:
            raise ValueError(f"{garments} has no arrays NAME_v, expected at least one garment")
        parts = [{key: data[f"{name}_{key}"] for key in PART_KEYS} for name in names]
    if any(len(part["covering_face"]) != len(body.faces) for part in parts):
        raise ValueError(
            f"{garments} was made for another mesh than that of the body {body.name!r}"
        )
    return _join(body, names, parts)


def _join(body: BodyModel, names: tuple[str, ...], parts: list[dict]) -> ClothedSurface:
    device = body.device
    body_rest = body.v_template.cpu().numpy()
    body_faces = body.faces.cpu().numpy()
    tree = cKDTree(body_rest)
    vertices = np.concatenate([part["v"] for part in parts]).astype(np.float32)
    under = torch.from_numpy(tree.query(vertices)[1]).to(device)
    faces, ranges, covering = [body_faces], [], []
    first_vertex, first_face = len(body_rest), len(body_faces)
    for part in parts:
        faces.append(part["f"].astype(np.int64) + first_vertex)
        ranges.append((first_face, first_face + len(part["f"])))
        over = part["covering_face"].astype(np.int64)
        covering.append(np.where(over < 0, -1, over + first_face))
        first_vertex, first_face = first_vertex + len(part["v"]), ranges[-1][1]
    all_faces = torch.from_numpy(np.concatenate(faces)).to(device)
    garment_rest = torch.from_numpy(vertices).to(device)
    rest = torch.cat([body.v_template, garment_rest])
    colors = torch.cat([body.vertex_colors, body.vertex_colors[under]])
    betas = body.num_betas
    return ClothedSurface(
        rest=rest,
        normals=vertex_normals(rest[None], all_faces)[0],
        colors=colors,
        faces=all_faces.to(torch.int32).contiguous(),
        part_ranges=tuple(ranges),
        part_names=names,
        covering=torch.from_numpy(np.stack(covering)).to(device),
        garment_rest=garment_rest,
        garment_shapedirs=_tensor(parts, "shapedirs", device)[..., :betas],
        garment_posedirs=_tensor(parts, "posedirs", device),
        garment_weights=_tensor(parts, "weights", device),
        face_colors=colors[all_faces].mean(dim=1),
    )


def _tensor(parts: list[dict], key: str, device: torch.device) -> Tensor:
    return torch.from_numpy(np.concatenate([p[key] for p in parts]).astype(np.float32)).to(device)


def pose_garments(
    surface: ClothedSurface, betas: Float[Tensor, "batch beta"], posed: Posed
) -> Float[Tensor, "batch all_vertex 3"]:
    """Body and garments posed together.

    Args:
        surface: body and garments.
        betas: shape of each body.
        posed: the posed bodies.

    Returns:
        Vertices of all parts in the posed body's frame, the body's own first.
    """
    shaped = surface.garment_rest + torch.einsum("vcb,nb->nvc", surface.garment_shapedirs, betas)
    corrections = posed.pose_feature @ surface.garment_posedirs.flatten(0, 1).T
    shaped = shaped + corrections.unflatten(1, (-1, 3))
    motions = posed.joint_motions.flatten(2)
    blended = (surface.garment_weights @ motions).unflatten(2, (3, 4))
    moved = (blended[..., :3] @ shaped[..., None])[..., 0] + blended[..., 3]
    return torch.cat([posed.vertices, moved], dim=1)
