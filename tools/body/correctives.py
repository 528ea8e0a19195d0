# SPDX-License-Identifier: Apache-2.0
"""Pose correctives: what linear blending must add to bend like dual quaternions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rest_pose import BoneMotion, skin_dual_quaternions
from scipy.spatial.transform import Rotation
from skin_mesh import smooth_over_mesh

from posefit_shared.skeleton import SMPL_JOINT_NAMES, SMPL_PARENTS

__all__ = ["Bending", "CorrectiveFit", "fit_correctives"]

Array = npt.NDArray[np.float64]

_LIMIT_DEGREES = {
    "Spine1": 35, "Spine2": 30, "Spine3": 30, "Neck": 40, "Head": 40, "Collar": 30, "Hip": 105,
    "Knee": 125, "Ankle": 45, "Foot": 40, "Shoulder": 95, "Elbow": 125, "Wrist": 60, "Hand": 60,
}  # fmt: skip
"""How far each joint is bent, about any axis, in the poses that correctives are fitted to."""

_SAMPLES = 90
_RIDGE = 0.2
_CAP_M = 0.03
_LEAST_M = 2e-4
_SMOOTHING_ROUNDS = 4
_TEST_POSES = 20


@dataclass(frozen=True)
class Bending:
    """The mean body with both of its skeletons: MakeHuman's fine one, and SMPL's."""

    sculpted: Array
    """(V, 3) the mean body in the pose that it was sculpted in."""
    bone_weights: Array
    """(V, bones) weights of the fine skeleton."""
    to_t: BoneMotion
    """From the sculpted pose to the T-pose."""
    bone_parents: tuple[int, ...]
    """Parents of the fine bones."""
    bone_joints: npt.NDArray[np.int64]
    """(bones,) the SMPL joint that each bone moves with."""
    joints: Array
    """(24, 3) T-posed SMPL joints."""
    lbs_weights: Array
    """(V, 24) weights of SMPL's skeleton."""
    faces: npt.NDArray[np.int64]
    """(F, 3) triangles."""

    def goal(self, rotations: Array, vertices: npt.NDArray[np.int64]) -> Array:
        """Where some vertices belong in a pose: dual quaternions over the fine skeleton.

        Args:
            rotations: (24, 3, 3) of each joint in its parent's frame.
            vertices: which.

        Returns:
            (len(vertices), 3) metres.
        """
        turned, moved = self.joint_motions(rotations)
        turned, moved = turned[self.bone_joints], moved[self.bone_joints]
        motion = BoneMotion(
            rotations=turned @ self.to_t.rotations,
            translations=np.einsum("bij,bj->bi", turned, self.to_t.translations) + moved,
            heads=self.to_t.heads,
        )
        return skin_dual_quaternions(
            self.sculpted[vertices], self.bone_weights[vertices], motion, self.bone_parents
        )

    def joint_motions(self, rotations: Array) -> tuple[Array, Array]:
        """Rotation and translation (24, …) of what hangs on each joint, from the T-pose."""
        turned, placed = rotations.copy(), self.joints.copy()
        for joint in range(1, len(turned)):
            above = SMPL_PARENTS[joint]
            turned[joint] = turned[above] @ rotations[joint]
            placed[joint] = placed[above] + turned[above] @ (
                self.joints[joint] - self.joints[above]
            )
        return turned, placed - np.einsum("jab,jb->ja", turned, self.joints)


@dataclass(frozen=True)
class CorrectiveFit:
    """Correctives, and how far linear blending is from its goal without and with them."""

    posedirs: Array
    """(V, 3, 207)"""
    error_mm: dict[str, float]
    """Mean and 99th percentile over random poses that were not fitted to."""


def fit_correctives(bending: Bending, rng: np.random.Generator) -> CorrectiveFit:
    """Correctives by least squares, joint by joint.

    Args:
        bending: the mean body.
        rng: where the poses come from.

    Returns:
        The fit.
    """
    everything = np.arange(len(bending.sculpted))
    t_pose = bending.goal(np.tile(np.eye(3), (24, 1, 1)), everything)
    posedirs = np.zeros((len(everything), 3, 9 * (len(SMPL_PARENTS) - 1)))
    for joint in range(1, len(SMPL_PARENTS)):
        active = _moved_differently(bending.lbs_weights, joint)
        solved = _fit_joint(bending, joint, active, t_pose[active], rng)
        columns = slice(9 * (joint - 1), 9 * joint)
        posedirs[active, :, columns] = solved
        posedirs[:, :, columns] = _smoothed(posedirs[:, :, columns], bending.faces, active)
    posedirs[np.abs(posedirs) < _LEAST_M] = 0
    return CorrectiveFit(posedirs=posedirs, error_mm=_test(bending, posedirs, t_pose, rng))


def _moved_differently(lbs_weights: Array, joint: int) -> npt.NDArray[np.int64]:
    """Vertices that a bend of this joint deforms: neither all its own nor all another's."""
    own, above = lbs_weights[:, joint], lbs_weights[:, SMPL_PARENTS[joint]]
    return np.flatnonzero((own > 1e-3) & ((own < 0.9999) | (above > 1e-3)))


def _fit_joint(
    bending: Bending,
    joint: int,
    active: npt.NDArray[np.int64],
    t_pose: Array,
    rng: np.random.Generator,
) -> Array:
    """(active, 3, 9) correctives of one joint from bends about random axes."""
    limit = np.deg2rad(_LIMIT_DEGREES[SMPL_JOINT_NAMES[joint].split("_")[-1]])
    features, offsets = [], []
    for _ in range(_SAMPLES):
        rotations = np.tile(np.eye(3), (24, 1, 1))
        rotations[joint] = _random_rotation(limit * np.sqrt(rng.random()), rng)
        turned, moved = bending.joint_motions(rotations)
        blended = np.einsum("vj,jab->vab", bending.lbs_weights[active], turned)
        shift = bending.lbs_weights[active] @ moved
        wanted = bending.goal(rotations, active) - shift
        rest = np.linalg.solve(blended + 1e-3 * np.eye(3), wanted[..., None])[..., 0]
        offset = rest - t_pose
        length = np.linalg.norm(offset, axis=1, keepdims=True)
        offsets.append(offset * np.minimum(1, _CAP_M / (length + 1e-9)))
        features.append((rotations[joint] - np.eye(3)).reshape(-1))
    feature, goal = np.array(features), np.array(offsets).reshape(_SAMPLES, -1)
    normal = feature.T @ feature + _RIDGE * np.eye(9)
    return np.linalg.solve(normal, feature.T @ goal).reshape(9, -1, 3).transpose(1, 2, 0)


def _smoothed(
    directions: Array, faces: npt.NDArray[np.int64], active: npt.NDArray[np.int64]
) -> Array:
    """Correctives drawn towards their neighbours', so that they fade out without a fold."""
    strength = np.zeros(len(directions))
    strength[active] = 0.5
    flat = directions.reshape(len(directions), -1)
    return smooth_over_mesh(flat, faces, strength, _SMOOTHING_ROUNDS).reshape(directions.shape)


def _test(
    bending: Bending, posedirs: Array, t_pose: Array, rng: np.random.Generator
) -> dict[str, float]:
    everything = np.arange(len(t_pose))
    plain, corrected = [], []
    for _ in range(_TEST_POSES):
        rotations = np.tile(np.eye(3), (24, 1, 1))
        for joint in range(1, 24):
            limit = np.deg2rad(_LIMIT_DEGREES[SMPL_JOINT_NAMES[joint].split("_")[-1]])
            rotations[joint] = _random_rotation(0.5 * limit * rng.random(), rng)
        goal = bending.goal(rotations, everything)
        turned, moved = bending.joint_motions(rotations)
        blended = np.einsum("vj,jab->vab", bending.lbs_weights, turned)
        shift = bending.lbs_weights @ moved
        offsets = posedirs @ (rotations[1:] - np.eye(3)).reshape(-1)
        for points, errors in ((t_pose, plain), (t_pose + offsets, corrected)):
            posed = np.einsum("vab,vb->va", blended, points) + shift
            errors.append(1e3 * np.linalg.norm(posed - goal, axis=1))
    return {
        "linear_blending_mean": float(np.mean(plain)),
        "linear_blending_p99": float(np.percentile(plain, 99)),
        "with_correctives_mean": float(np.mean(corrected)),
        "with_correctives_p99": float(np.percentile(corrected, 99)),
    }


def _random_rotation(angle: float, rng: np.random.Generator) -> Array:
    axis = rng.normal(size=3)
    return Rotation.from_rotvec(axis / np.linalg.norm(axis) * angle).as_matrix()
