# SPDX-License-Identifier: Apache-2.0
"""Rotation vectors and matrices on a GPU, a launch each; `posefit.rotations` comes here by itself.

Without gradients and in float32; everything else is computed by torch.
"""

from __future__ import annotations

from typing import Any

import torch
import warp as wp
from jaxtyping import Float
from torch import Tensor

from . import rotation_kernels as kernels
from .warp_runtime import launch, warp_array

__all__ = ["inverse_left_jacobians", "matrices_to_vectors", "vectors_to_matrices"]


def vectors_to_matrices(vectors: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """`rotations.axis_angle_to_matrix` by one launch.

    Args:
        vectors: radians; float32.
    """
    return _each(kernels.vectors_to_matrices, vectors, wp.vec3, (3,), wp.mat33, (3, 3))


def matrices_to_vectors(matrices: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3"]:
    """`rotations.matrix_to_axis_angle` by one launch.

    Args:
        matrices: float32.
    """
    return _each(kernels.matrices_to_vectors, matrices, wp.mat33, (3, 3), wp.vec3, (3,))


def inverse_left_jacobians(vectors: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """`rotation_vectors.inverse_left_jacobian` by one launch.

    Args:
        vectors: radians, shorter than 2π; float32.
    """
    return _each(kernels.inverse_left_jacobians, vectors, wp.vec3, (3,), wp.mat33, (3, 3))


def _each(
    kernel: Any, values: Tensor, taken: Any, taken_shape: tuple, given: Any, given_shape: tuple
) -> Tensor:
    """A kernel over all values of a batch of any shape."""
    batch = values.shape[: values.ndim - len(taken_shape)]
    values = values.detach().contiguous()
    result = torch.empty((*batch, *given_shape), dtype=values.dtype, device=values.device)
    if result.numel():
        launch(
            kernel, values.device, (batch.numel(),),
            warp_array(values.view(-1, *taken_shape), taken),
            warp_array(result.view(-1, *given_shape), given),
        )  # fmt: skip
    return result
