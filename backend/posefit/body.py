# SPDX-License-Identifier: Apache-2.0
"""Body models in torch: loading one, and the vertices and joints of posed bodies.

Linear blend skinning as SMPL defines it (Loper et al., SIGGRAPH Asia 2015), batched, without a
loop over the batch. Reading files is `posefit_shared.body_files`' business, the derivatives that
the solver needs are the solver's.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from posefit_shared.body_files import BodyFileError, read_body

from .body_model import BodyModel, body_from_arrays
from .gpu.graphs import replayed
from .rotations import axis_angle_to_matrix, matrix_to_axis_angle
from .skinning import joint_frames, pose_feature, skin
from .uv_files import with_texture_coordinates

__all__ = [
    "BodyFileError",
    "BodyModel",
    "PoseParameters",
    "PosedBody",
    "axis_angle_to_matrix",
    "body_from_arrays",
    "corrective_rows",
    "load_body",
    "matrix_to_axis_angle",
    "pose_body",
    "pose_joints",
    "pose_vertices",
    "vertex_normals",
]


@dataclass(frozen=True)
class PoseParameters:
    """Shape and pose of a batch of bodies."""

    betas: Float[Tensor, "batch beta"]
    """Shape coefficients; the model's first ones where there are fewer than it has."""
    global_orient: Float[Tensor, "batch 3"]
    """Root rotation, rotation vectors, radians."""
    body_pose: Float[Tensor, "batch jointwithoutroot 3"]
    """Rotations of the other joints, rotation vectors, radians."""
    transl: Float[Tensor, "batch 3"]
    """Added after posing, metres."""

    @staticmethod
    def rest(body: BodyModel, batch_size: int = 1) -> PoseParameters:
        """The mean body in its rest pose, at the model's own origin.

        Args:
            body: whose joints and coefficients to count.
            batch_size: how many.

        Returns:
            Zeros of the right shapes, on the body's device.
        """
        zeros = body.v_template.new_zeros
        return PoseParameters(
            betas=zeros(batch_size, body.num_betas),
            global_orient=zeros(batch_size, 3),
            body_pose=zeros(batch_size, body.num_joints - 1, 3),
            transl=zeros(batch_size, 3),
        )

    def __len__(self) -> int:
        return self.global_orient.shape[0]

    def __getitem__(self, index: slice | Tensor) -> PoseParameters:
        """Some of the batch: a slice, an index tensor or a mask."""
        return PoseParameters(*(getattr(self, field.name)[index] for field in _PARAMETER_FIELDS))

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> PoseParameters:
        """The same parameters on another device, or in another precision."""
        return PoseParameters(
            *(getattr(self, field.name).to(device, dtype) for field in _PARAMETER_FIELDS)
        )

    def detach(self) -> PoseParameters:
        """The same parameters without their history."""
        return PoseParameters(*(getattr(self, field.name).detach() for field in _PARAMETER_FIELDS))


_PARAMETER_FIELDS = dataclasses.fields(PoseParameters)


@dataclass(frozen=True)
class PosedBody:
    """What posing gives, in the frame that `transl` is in."""

    vertices: Float[Tensor, "batch vertex 3"]
    """Posed surface, metres."""
    joints: Float[Tensor, "batch joint 3"]
    """Posed joints, metres."""
    joint_matrices: Float[Tensor, "batch joint 4 4"]
    """Rest surface to posed surface for what hangs on each joint, `transl` included."""
    global_rotations: Float[Tensor, "batch joint 3 3"]
    """Rotation of each joint's frame from rest."""


def load_body(
    source: str | Path = "free",
    device: torch.device | str = "cpu",
    *,
    dtype: torch.dtype = torch.float32,
    num_betas: int = 10,
    uv: str | Path | None = None,
) -> BodyModel:
    """The body in a file, or the free one, ready to pose.

    Args:
        source: `"free"`, or the path of an SMPL, SMPL-H or SMPL-X file (.npz or .pkl).
        device: where to put it.
        dtype: float32 or float64.
        num_betas: shape coefficients to keep.
        uv: `.obj` with the body's texture coordinates, or `xatlas` to have them made; the file's
            own unless given, and where it has none the body is unrolled (`unwrap`).

    Returns:
        The model.

    Raises:
        BodyFileError: a file cannot be used; the message says why.
    """
    arrays = read_body(source, num_betas=num_betas)
    if uv is not None:
        arrays = with_texture_coordinates(arrays, uv)
    return body_from_arrays(arrays, device, dtype=dtype)


def pose_body(body: BodyModel, parameters: PoseParameters) -> PosedBody:
    """Vertices, joints and joint motions of posed bodies.

    Args:
        body: the model.
        parameters: on the body's device, in its precision; `transl` may be in any frame, and what
            comes out is in that frame.

    Returns:
        The posed bodies; differentiable by every parameter.

    Raises:
        ValueError: the parameters do not fit the body.

    Source:
        Loper et al. 2015, equations 2–4 and 7–10.
    """
    return replayed(_posed, body, parameters)


def _posed(body: BodyModel, parameters: PoseParameters) -> PosedBody:
    rotations, joints = _local_rotations(body, parameters), _rest_joints(body, parameters)
    turned, placed = joint_frames(rotations, joints, body.parents)
    placed = placed + parameters.transl[:, None]
    shaped = body.v_template + _blend(body.shapedirs, parameters.betas)
    if len(body.corrective_vertices):
        corrections = _blend(body.posedirs, pose_feature(rotations))
        shaped = shaped.index_add(1, body.corrective_vertices, corrections)
    translations = placed - (turned @ joints[..., None])[..., 0]
    return PosedBody(
        vertices=skin(shaped, body.lbs_weights, turned, translations),
        joints=placed,
        joint_matrices=_rigid(turned, translations),
        global_rotations=turned,
    )


def pose_joints(body: BodyModel, parameters: PoseParameters) -> Float[Tensor, "batch joint 3"]:
    """Posed joints alone, without touching a vertex.

    Args:
        body: the model.
        parameters: as for `pose_body`.

    Returns:
        Joints in the frame that `transl` is in, metres.
    """
    rotations, joints = _local_rotations(body, parameters), _rest_joints(body, parameters)
    return joint_frames(rotations, joints, body.parents)[1] + parameters.transl[:, None]


def pose_vertices(
    body: BodyModel,
    parameters: PoseParameters,
    vertex_indices: Int[Tensor, " point"] | Int[Tensor, "batch point"],
) -> Float[Tensor, "batch point 3"]:
    """Some vertices of posed bodies, at a cost that follows their number.

    Args:
        body: the model.
        parameters: as for `pose_body`.
        vertex_indices: the same vertices for all, or a row for each body of the batch.

    Returns:
        Posed vertices in the order asked for; equal to `pose_body(…).vertices` there.
    """
    rotations, joints = _local_rotations(body, parameters), _rest_joints(body, parameters)
    turned, placed = joint_frames(rotations, joints, body.parents)
    translations = placed - (turned @ joints[..., None])[..., 0] + parameters.transl[:, None]
    count = parameters.betas.shape[1]
    directions = body.shapedirs[vertex_indices][..., :count]
    points = body.v_template[vertex_indices] + _blend(directions, parameters.betas)
    points = points + _blend(corrective_rows(body, vertex_indices), pose_feature(rotations))
    return skin(points, body.lbs_weights[vertex_indices], turned, translations)


def corrective_rows(
    body: BodyModel, vertex_indices: Int[Tensor, "*point"]
) -> Float[Tensor, "*point 3 feature"]:
    """Pose correctives of some vertices, zero for those that have none.

    Args:
        body: the model.
        vertex_indices: which vertices.

    Returns:
        Displacement by each entry of `rotation − identity`, metres.
    """
    active = body.corrective_vertices
    if not len(active):
        return body.posedirs.new_zeros(*vertex_indices.shape, *body.posedirs.shape[1:])
    place = torch.searchsorted(active, vertex_indices.contiguous()).clamp(max=len(active) - 1)
    is_active = active[place] == vertex_indices
    return body.posedirs[place] * is_active[..., None, None]


def vertex_normals(
    vertices: Float[Tensor, "batch vertex 3"], faces: Int[Tensor, "face 3"]
) -> Float[Tensor, "batch vertex 3"]:
    """Unit normals of the surface at its vertices, outwards, weighted by face area.

    Args:
        vertices: of any frame.
        faces: counter-clockwise from outside.

    Returns:
        Normals in the vertices' frame; zero where all faces of a vertex are degenerate.
    """
    first, second, third = (vertices[:, faces[:, corner]] for corner in range(3))
    face_normals = torch.linalg.cross(second - first, third - first)
    normals = torch.zeros_like(vertices)
    for corner in range(3):
        normals = normals.index_add(1, faces[:, corner], face_normals)
    return torch.nn.functional.normalize(normals, dim=-1, eps=1e-12)


def _local_rotations(
    body: BodyModel, parameters: PoseParameters
) -> Float[Tensor, "batch joint 3 3"]:
    batch_size, joint_count = len(parameters), body.num_joints
    if parameters.body_pose.shape != (batch_size, joint_count - 1, 3):
        raise ValueError(
            f"body_pose is {tuple(parameters.body_pose.shape)}, expected "
            f"({batch_size}, {joint_count - 1}, 3) for the body {body.name!r}"
        )
    vectors = torch.cat([parameters.global_orient[:, None], parameters.body_pose], dim=1)
    return axis_angle_to_matrix(vectors)


def _rest_joints(body: BodyModel, parameters: PoseParameters) -> Float[Tensor, "batch joint 3"]:
    if parameters.betas.shape[1] > body.num_betas:
        raise ValueError(
            f"betas have {parameters.betas.shape[1]} coefficients, the body {body.name!r} has "
            f"{body.num_betas}; load it with num_betas={parameters.betas.shape[1]}"
        )
    return body.joint_template + _blend(body.joint_shapedirs, parameters.betas)


def _blend(
    directions: Float[Tensor, "*batch point 3 coefficient"],
    coefficients: Float[Tensor, "batch given"],
) -> Float[Tensor, "batch point 3"]:
    """Displacements: directions times coefficients; the first directions if fewer are given."""
    directions = directions[..., : coefficients.shape[1]]
    if directions.ndim == 3:
        return (coefficients @ directions.flatten(0, 1).T).unflatten(1, (-1, 3))
    flat = directions.flatten(1, 2) @ coefficients[..., None]
    return flat[..., 0].unflatten(1, (-1, 3))


def _rigid(
    rotations: Float[Tensor, "batch joint 3 3"], translations: Float[Tensor, "batch joint 3"]
) -> Float[Tensor, "batch joint 4 4"]:
    top = torch.cat([rotations, translations[..., None]], dim=-1)
    bottom = torch.eye(4, dtype=top.dtype, device=top.device)[3:]
    return torch.cat([top, bottom.expand(*top.shape[:2], 1, 4)], dim=2)
