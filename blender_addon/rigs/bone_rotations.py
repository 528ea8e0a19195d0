# SPDX-License-Identifier: GPL-3.0-or-later
"""What bones' transforms mean as SMPL rotations, and back (numpy only).

Frames and letters as in `rig`: R rest and P posed matrices of bones in armature space, O the
armature in the world, S SMPL's rest axes in armature space. Every array has frames first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from posefit_shared import rotations

Array = npt.NDArray[np.float64]


def global_rotations(
    posed: npt.ArrayLike, rest: npt.ArrayLike, object_matrices: npt.ArrayLike, rest_axes: Array
) -> Array:
    """G (T, J, 3, 3): global SMPL rotations of posed bones.

    Args:
        posed: (T, J, 4, 4) P, armature space.
        rest: (J, 4, 4) R, armature space.
        object_matrices: (T, 4, 4) O.
        rest_axes: (3, 3) S.
    """
    posed_rotation = orthonormal(np.asarray(posed, np.float64)[..., :3, :3])
    rest_rotation = np.asarray(rest, np.float64)[:, :3, :3]
    world = orthonormal(np.asarray(object_matrices, np.float64)[:, :3, :3])
    turned = posed_rotation @ np.swapaxes(rest_rotation, -1, -2)
    return world[:, None] @ turned @ rest_axes


def local_rotations(global_rotation: npt.ArrayLike, parents: Sequence[int]) -> Array:
    """A (T, J, 3, 3): each joint's rotation against its parent's, as SMPL's pose has them."""
    rotation = np.asarray(global_rotation, np.float64)
    local = rotation.copy()
    for joint, parent in enumerate(parents):
        if parent >= 0:
            local[:, joint] = np.swapaxes(rotation[:, parent], -1, -2) @ rotation[:, joint]
    return local


def compose_rotations(local_rotation: npt.ArrayLike, parents: Sequence[int]) -> Array:
    """G (T, J, 3, 3) from each joint's own rotation; undoes `local_rotations`."""
    result = np.array(local_rotation, np.float64)
    for joint, parent in enumerate(parents):
        if parent >= 0:
            result[:, joint] = result[:, parent] @ result[:, joint]
    return result


def chain_posed_matrices(
    basis: npt.ArrayLike, rest: npt.ArrayLike, parents: Sequence[int]
) -> Array:
    """P (T, N, 4, 4): what Blender makes of bones' own transforms, parents first.

    Args:
        basis: (T, N, 4, 4) `pose_bone.matrix_basis`.
        rest: (N, 4, 4) `bone.matrix_local`.
        parents: (N,) index of each bone's parent, −1 for none.
    """
    basis, rest = np.asarray(basis, np.float64), np.asarray(rest, np.float64)
    posed = np.empty_like(basis)
    for bone, parent in enumerate(parents):
        if parent < 0:
            posed[:, bone] = rest[bone] @ basis[:, bone]
        else:
            posed[:, bone] = (
                posed[:, parent] @ np.linalg.solve(rest[parent], rest[bone]) @ basis[:, bone]
            )
    return posed


@dataclass(frozen=True)
class BoneMotion:
    """What to key: transforms of the SMPL bones against their rest and parents."""

    rotations: Array
    """(T, J, 3, 3) rotation part of `matrix_basis`."""
    root_locations: Array
    """(T, 3) location of the root bone, in its own rest frame, armature units."""


def bone_motion(
    local_rotation: npt.ArrayLike,
    pelvis_armature: npt.ArrayLike,
    rest: npt.ArrayLike,
    object_matrices: npt.ArrayLike,
    rest_axes: Array,
    parents: Sequence[int],
    above_root: npt.ArrayLike | None = None,
) -> BoneMotion:
    """Bone transforms that give the SMPL rotations `local_rotation` and put the pelvis in place.

    Args:
        local_rotation: (T, J, 3, 3) A, root first.
        pelvis_armature: (T, 3) where the root bone's head must lie, armature space.
        rest: (J, 4, 4) R, armature space.
        object_matrices: (T, 4, 4) O.
        rest_axes: (3, 3) S.
        parents: (J,) parent joint, −1 for the root.
        above_root: (T, 4, 4) P · R⁻¹ of the bone above the root, where there is one.
    """
    turned = compose_rotations(local_rotation, parents)
    world = orthonormal(np.asarray(object_matrices, np.float64)[:, :3, :3])
    rest = np.asarray(rest, np.float64)
    rest_rotation = rest[:, :3, :3]
    # D = Oᵀ G Sᵀ turns a bone from its rest in armature space.
    turned = np.swapaxes(world, -1, -2)[:, None] @ turned @ rest_axes.T
    if above_root is None:
        above_root = np.broadcast_to(np.eye(4), (len(turned), 4, 4))
    above = np.asarray(above_root, np.float64)
    result = np.empty_like(turned)
    for joint, parent in enumerate(parents):
        base = orthonormal(above[:, :3, :3]) if parent < 0 else turned[:, parent]
        relative = np.swapaxes(base, -1, -2) @ turned[:, joint]
        result[:, joint] = rest_rotation[joint].T @ relative @ rest_rotation[joint]
    head = np.concatenate([np.asarray(pelvis_armature, np.float64), np.ones((len(turned), 1))], -1)
    # P₀ = above · R₀ · B₀, so the head's place in the bone's frame is B₀'s translation.
    local = np.linalg.solve(above @ rest[0], head[..., None])[:, :3, 0]
    return BoneMotion(result, local)


def continuous_wxyz(matrices: npt.ArrayLike, before: npt.ArrayLike | None = None) -> Array:
    """Quaternions (T, …, 4) without sign flips along the first axis.

    Args:
        matrices: (T, …, 3, 3) rotations in order of time.
        before: (…, 4) quaternions that the first ones should be near to.
    """
    wxyz = rotations.matrix_to_wxyz(matrices)
    if before is not None:
        wxyz = np.concatenate([np.asarray(before, np.float64)[None], wxyz])
    same_side = np.where((wxyz[1:] * wxyz[:-1]).sum(-1) < 0, -1.0, 1.0)
    wxyz[1:] *= np.cumprod(same_side, axis=0)[..., None]
    return wxyz if before is None else wxyz[1:]


def orthonormal(matrices: npt.ArrayLike) -> Array:
    """The rotations nearest to matrices (…, 3, 3), which may carry scale."""
    matrices = np.asarray(matrices, np.float64)
    for _ in range(_NEWTON_STEPS):
        gram = np.swapaxes(matrices, -1, -2) @ matrices
        off = np.abs(gram - np.eye(3)).max(initial=0.0)
        if off < 1e-12:
            return matrices
        if not off < _NEARLY:
            break
        # Newton's step towards the polar factor: what is off is squared. A fifth of an SVD's time.
        matrices = matrices @ (1.5 * np.eye(3) - 0.5 * gram)
    left, _, right = np.linalg.svd(matrices)
    return left @ right


_NEWTON_STEPS, _NEARLY = 4, 0.01
"""Matrices that are nearly rotations already need no SVD: this off, four steps do."""


def pose_corrective_expression(
    bone_to_smpl: npt.ArrayLike, row: int, column: int, digits: int = 5
) -> str:
    """A driver expression in w, x, y, z: one entry of R(pose) − 1, SMPL's pose feature.

    With C = Sᵀ R_j, the joint's rotation is C · B · Cᵀ for the bone's own rotation B. Each entry of
    B is quadratic in its quaternion, so each entry of the feature is one quadratic form, which
    Blender evaluates without running Python.

    Args:
        bone_to_smpl: (3, 3) C.
        row, column: which entry.
        digits: decimals of the coefficients (a driver holds 255 characters).
    """
    conjugate = np.outer(np.asarray(bone_to_smpl)[row], np.asarray(bone_to_smpl)[column])
    terms = {"w*w": 0.0}
    for (p, q), quadratic in _QUATERNION_MATRIX.items():
        for product, sign in quadratic:
            terms[product] = terms.get(product, 0.0) + sign * conjugate[p, q]
    shown = [
        f"{value:+.{digits}f}*{product}" for product, value in terms.items() if abs(value) > 1e-6
    ]
    offset = "-1" if row == column else ""
    return f"({''.join(shown) or '0'})/(w*w+x*x+y*y+z*z){offset}"


_QUATERNION_MATRIX = {
    (0, 0): (("w*w", 1), ("x*x", 1), ("y*y", -1), ("z*z", -1)),
    (1, 1): (("w*w", 1), ("x*x", -1), ("y*y", 1), ("z*z", -1)),
    (2, 2): (("w*w", 1), ("x*x", -1), ("y*y", -1), ("z*z", 1)),
    (0, 1): (("x*y", 2), ("w*z", -2)),
    (1, 0): (("x*y", 2), ("w*z", 2)),
    (0, 2): (("x*z", 2), ("w*y", 2)),
    (2, 0): (("x*z", 2), ("w*y", -2)),
    (1, 2): (("y*z", 2), ("w*x", -2)),
    (2, 1): (("y*z", 2), ("w*x", 2)),
}
"""Each entry of the rotation matrix of a unit quaternion as a quadratic form."""
