# SPDX-License-Identifier: Apache-2.0
"""A body model's tensors: a file's arrays on a device, with what posing needs worked out once."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from posefit_shared.body_files import BodyArrays

from .gpu.graphs import device_constant
from .rest_colors import rest_pose_colors
from .unwrap import unwrap_body

__all__ = ["BodyModel", "body_from_arrays", "kept_with_body"]

Options = ParamSpec("Options")
Result = TypeVar("Result")


@device_constant
@dataclass(frozen=True)
class BodyModel:
    """One body model's tensors, on one device, with what posing needs worked out once."""

    v_template: Float[Tensor, "vertex 3"]
    """Mean body at rest, y up, metres."""
    faces: Int[Tensor, "face 3"]
    """Triangles, int64, counter-clockwise from outside."""
    shapedirs: Float[Tensor, "vertex 3 beta"]
    """Displacement by one unit of each shape coefficient."""
    posedirs: Float[Tensor, "active 3 feature"]
    """Pose correctives of `corrective_vertices` alone; the other vertices have none."""
    corrective_vertices: Int[Tensor, " active"]
    """Vertices that pose correctives move; every vertex for the official models."""
    J_regressor: Float[Tensor, "joint vertex"]
    """Joints from rest vertices."""
    lbs_weights: Float[Tensor, "vertex joint"]
    """Share of each joint in each vertex."""
    joint_template: Float[Tensor, "joint 3"]
    """Joints of the mean body at rest: `J_regressor @ v_template`."""
    joint_shapedirs: Float[Tensor, "joint 3 beta"]
    """How joints move with shape: `J_regressor @ shapedirs`."""
    is_descendant: Bool[Tensor, "joint joint"]
    """`[a, d]` is true where joint d is a itself or hangs below it: turning a moves d's frame."""
    vertex_colors: Float[Tensor, "vertex 3"]
    """A colour per surface point, 0 to 1, alike on every body (`rest_colors`)."""
    vt: Float[Tensor, "uv 2"] | None
    """Texture coordinates, v up; worked out (`unwrap`) when the file has none."""
    ft: Int[Tensor, "face 3"] | None
    """Texture coordinate of each face corner, int64."""
    parents: tuple[int, ...]
    """Parent of each joint; −1 for the root."""
    joint_names: tuple[str, ...]
    """Names in joint order."""
    landmarks: dict[str, int]
    """Vertex of each named surface point (docs/body.md lists the names)."""
    name: str
    """`free`, or the file's name."""
    content_hash: str
    """Which body `betas` belong to; the same for .npz and .pkl."""

    @property
    def num_vertices(self) -> int:
        """Vertices of the mesh."""
        return self.v_template.shape[0]

    @property
    def num_joints(self) -> int:
        """Joints posed, root included."""
        return len(self.parents)

    @property
    def num_betas(self) -> int:
        """Shape coefficients."""
        return self.shapedirs.shape[2]

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.v_template.device

    @property
    def dtype(self) -> torch.dtype:
        """float32 or float64."""
        return self.v_template.dtype

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> BodyModel:
        """The same body on another device, or in another precision.

        Args:
            device: where to put it; None leaves it.
            dtype: float32 or float64; None leaves it. Indices stay what they are.

        Returns:
            A new model; tensors that need no move are shared.
        """
        changes: dict[str, Tensor] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                target = dtype if value.is_floating_point() else None
                changes[field.name] = value.to(device=device, dtype=target)
        return dataclasses.replace(self, **changes)


def body_from_arrays(
    arrays: BodyArrays, device: torch.device | str = "cpu", *, dtype: torch.dtype = torch.float32
) -> BodyModel:
    """The model of arrays that were read or sent.

    Args:
        arrays: checked arrays of a body file.
        device: where to put it.
        dtype: float32 or float64.

    Returns:
        The model, with joint positions, descendants and colours worked out.
    """
    regressor = arrays.J_regressor.astype(np.float64)
    corrective = np.flatnonzero(np.abs(arrays.posedirs).max(axis=(1, 2)) > 0)
    joint_template = regressor @ arrays.v_template.astype(np.float64)
    joint_shapedirs = np.einsum("jv,vkn->jkn", regressor, arrays.shapedirs, optimize=True)

    vt, ft = arrays.vt, arrays.ft
    if vt is None or ft is None:
        vt, ft = unwrap_body(
            arrays.v_template, arrays.faces, arrays.lbs_weights, joint_template, arrays.parents
        )

    def real(values: np.ndarray) -> Tensor:
        return torch.tensor(values, dtype=dtype, device=device)

    def whole(values: np.ndarray) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=device)

    return BodyModel(
        v_template=real(arrays.v_template),
        faces=whole(arrays.faces),
        shapedirs=real(arrays.shapedirs),
        posedirs=real(arrays.posedirs[corrective]),
        corrective_vertices=whole(corrective),
        J_regressor=real(arrays.J_regressor),
        lbs_weights=real(arrays.lbs_weights),
        joint_template=real(joint_template),
        joint_shapedirs=real(joint_shapedirs),
        is_descendant=torch.tensor(_descendants(arrays.parents), device=device),
        vertex_colors=real(rest_pose_colors(arrays.v_template, joint_template)),
        vt=real(vt),
        ft=whole(ft),
        parents=tuple(int(parent) for parent in arrays.parents),
        joint_names=arrays.joint_names,
        landmarks=dict(arrays.landmarks),
        name=arrays.name,
        content_hash=arrays.content_hash,
    )


def _descendants(parents: np.ndarray) -> np.ndarray:
    below = np.eye(len(parents), dtype=bool)
    for joint in range(1, len(parents)):
        below[:, joint] |= below[:, parents[joint]]
    return below


def kept_with_body(
    function: Callable[Concatenate[BodyModel, Options], Result],
) -> Callable[Concatenate[BodyModel, Options], Result]:
    """Remembers what a function works out of a body, as long as the body lives.

    Args:
        function: of a body and hashable options alone.

    Returns:
        The same function; a body's second call gives the first one's very object.
    """

    @functools.wraps(function)
    def remembered(body: BodyModel, *arguments: Options.args, **options: Options.kwargs) -> Result:
        kept: dict[Any, Any] = body.__dict__.setdefault("_kept", {})
        key = (function, arguments, tuple(sorted(options.items())))
        if key not in kept:
            kept[key] = function(body, *arguments, **options)
        return kept[key]

    return remembered
