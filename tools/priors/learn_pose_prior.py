# SPDX-License-Identifier: Apache-2.0
"""Learns the pose mixture and the joint limits that the solver ships with.

    python tools/priors/learn_pose_prior.py MOTION_DIR backend/posefit/assets/priors/pose_prior.npz

MOTION_DIR holds the unpacked clips (`cmu_asfamc`, `cmu_expmap`, `deepmimic`); see the README beside
the output for where they come from. Clips that are kept for validation are left out. Runs in about
a minute; the same input gives the same file.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from motion_clips import Clip, read_archives
from scipy.cluster.vq import kmeans2

from posefit.training.poses import is_validation
from posefit_shared.skeleton import SMPL_JOINT_NAMES, SMPL_MIRROR

JOINTS = 23
"""SMPL's joints 1…23. The motion says nothing about the hands, the last two: they come out still,
with the least width of a joint."""
SAMPLES_PER_SECOND = 6.0
COMPONENTS = 8
SHRINKAGE = 0.25
"""How far each component's covariance is drawn to that of all poses."""
BROADENING = 1.5
"""The last component is all poses, this much wider: it takes in what no clip shows."""
BROAD_WEIGHT = 0.1
FLOOR_RAD = {
    "Spine": 0.1,
    "Knee": 0.12,
    "Elbow": 0.15,
    "Collar": 0.15,
    "Foot": 0.1,
    "Wrist": 0.3,
    "Hand": 0.1,
}
"""σ added to each joint: captured hinges are rigid and collars still, people's are neither."""
OTHER_FLOOR_RAD = 0.1
MARGIN_RAD = {"Hip": 0.35, "Shoulder": 0.4, "Knee": 0.1, "Elbow": 0.1}
"""How far beyond the motion's extremes the limits lie; the clips show few extreme poses."""
OTHER_MARGIN_RAD = 0.25
LEAST_HALF_WIDTH_RAD = {"Elbow": 0.8, "Collar": 0.5}
OTHER_LEAST_HALF_WIDTH_RAD = 0.3
"""Captured elbows don't pronate and captured collars don't move; people's do."""
HINGES = {"L_Knee": 0, "R_Knee": 0, "L_Elbow": 1, "R_Elbow": 1}
"""Axis of flexion, whose limits the least width must not open."""
WIDEST_RAD = 2.8
EXTREME_QUANTILE = 5e-4


def sample_poses(clips: list[Clip]) -> np.ndarray:
    """(N, 21, 3) poses at a common rate and their mirror images; broken frames left out."""
    parts = []
    for clip in clips:
        stride = max(1, round(clip.framerate / SAMPLES_PER_SECOND))
        parts.append(clip.body_pose[::stride, :JOINTS])
    poses = np.concatenate(parts)
    ankles = [SMPL_JOINT_NAMES.index(name) - 1 for name in ("L_Ankle", "R_Ankle")]
    poses = poses[(np.linalg.norm(poses[:, ankles], axis=-1) < 1.2).all(1)]
    mirror = [joint - 1 for joint in SMPL_MIRROR[1 : 1 + JOINTS]]
    mirrored = poses[:, mirror] * np.array([1.0, -1.0, -1.0])
    return np.concatenate([poses, mirrored])


def _per_joint(table: dict[str, float], default: float) -> np.ndarray:
    names = [name.removeprefix("L_").removeprefix("R_").rstrip("123") for name in SMPL_JOINT_NAMES]
    return np.array([table.get(name, default) for name in names[1 : 1 + JOINTS]])


def learn_limits(poses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Box of each joint's rotation vector: extremes, a margin, and a least width."""
    low, middle, high = np.quantile(poses, [EXTREME_QUANTILE, 0.5, 1 - EXTREME_QUANTILE], axis=0)
    margin = _per_joint(MARGIN_RAD, OTHER_MARGIN_RAD)[:, None]
    half_width = _per_joint(LEAST_HALF_WIDTH_RAD, OTHER_LEAST_HALF_WIDTH_RAD)[:, None]
    lower = np.minimum(low - margin, middle - half_width)
    upper = np.maximum(high + margin, middle + half_width)
    for name, axis in HINGES.items():
        joint = SMPL_JOINT_NAMES.index(name) - 1
        lower[joint, axis] = (low - margin)[joint, axis]
        upper[joint, axis] = (high + margin)[joint, axis]
    return np.maximum(lower, -WIDEST_RAD), np.minimum(upper, WIDEST_RAD)


def learn_mixture(flat: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights, means and covariances: k-means components, shrunk, and a broad one."""
    floor = np.repeat(_per_joint(FLOOR_RAD, OTHER_FLOOR_RAD) ** 2, 3)
    pooled = np.cov(flat.T)
    _, labels = kmeans2(flat, COMPONENTS, iter=50, minit="++", seed=seed)
    weights, means, covariances = [], [], []
    for component in range(COMPONENTS):
        members = flat[labels == component]
        own = np.cov(members.T)
        weights.append((1 - BROAD_WEIGHT) * len(members) / len(flat))
        means.append(members.mean(0))
        covariances.append((1 - SHRINKAGE) * own + SHRINKAGE * pooled + np.diag(floor))
    weights.append(BROAD_WEIGHT)
    means.append(flat.mean(0))
    covariances.append(BROADENING**2 * (pooled + np.diag(floor)))
    return np.array(weights), np.array(means), np.array(covariances)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("motion", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    clips = [clip for clip in read_archives(arguments.motion) if not is_validation(clip.name)]
    poses = sample_poses(clips)
    lower, upper = learn_limits(poses)
    weights, means, covariances = learn_mixture(poses.reshape(len(poses), -1), seed=0)
    precisions = np.linalg.inv(covariances)
    offsets = -2 * np.log(weights) + np.linalg.slogdet(covariances)[1]
    np.savez_compressed(
        arguments.output,
        means=means.astype(np.float32),
        whitening=np.linalg.cholesky(precisions).astype(np.float32),
        offsets=(offsets - offsets.min()).astype(np.float32),
        lower=lower.astype(np.float32),
        upper=upper.astype(np.float32),
    )
    print(f"{len(clips)} clips, {len(poses)} poses, weights {weights.round(3)}")
    for joint in range(JOINTS):
        box = np.stack([lower[joint], upper[joint]]).round(2).tolist()
        print(f"{SMPL_JOINT_NAMES[joint + 1]:>12} {box}")


if __name__ == "__main__":
    main()
