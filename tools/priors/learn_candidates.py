# SPDX-License-Identifier: Apache-2.0
"""Learns the pose priors that benchmarks/priors.py compares, on the training side of the clips.

    python tools/priors/learn_candidates.py MOTION_DIR benchmarks/data/motion/prior_candidates.npz

One Gaussian, the mixture that the solver ships with, and a normalising flow (real NVP with affine
couplings, Dinh et al. 2017), all of SMPL's joints 1…21 as rotation vectors. Captured hinges don't
turn and captured collars don't move, so each pose gets the noise of learn_pose_prior's floors: then
all three are densities of the same data, and their likelihoods compare. About ten minutes on one
core that others use as well.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from learn_pose_prior import FLOOR_RAD, OTHER_FLOOR_RAD, _per_joint, learn_mixture, sample_poses
from motion_clips import read_archives

from posefit.training.poses import is_validation

JOINTS = 21
HIDDEN, LAYERS = 96, 6
STEPS, BATCH = 5000, 256


class Flow(torch.nn.Module):
    """Affine couplings between two halves of whitened coordinates that swap places."""

    def __init__(self, size: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.orders = [torch.randperm(size, generator=generator) for _ in range(LAYERS)]
        self.kept = size // 2
        self.nets = torch.nn.ModuleList(
            torch.nn.Sequential(
                torch.nn.Linear(self.kept, HIDDEN),
                torch.nn.SiLU(),
                torch.nn.Linear(HIDDEN, HIDDEN),
                torch.nn.SiLU(),
                torch.nn.Linear(HIDDEN, 2 * (size - self.kept)),
            )
            for _ in range(LAYERS)
        )
        for net in self.nets:
            torch.nn.init.zeros_(net[-1].weight)
            torch.nn.init.zeros_(net[-1].bias)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Latent coordinates and log |det| of the map."""
        total = x.new_zeros(len(x))
        for order, net in zip(self.orders, self.nets, strict=True):
            x = x[:, order]
            kept, moved = x[:, : self.kept], x[:, self.kept :]
            log_scale, shift = net(kept).chunk(2, 1)
            log_scale = torch.tanh(log_scale)
            x = torch.cat([kept, moved * log_scale.exp() + shift], 1)
            total = total + log_scale.sum(1)
        return x, total


def learn_flow(flat: np.ndarray, floor: np.ndarray, check: np.ndarray) -> tuple[Flow, np.ndarray]:
    """The flow that explains `check` best while learning `flat`, and the whitening before it."""
    mean, deviation = flat.mean(0), np.sqrt(flat.var(0) + floor**2)
    whitening = np.stack([mean, deviation])
    torch.manual_seed(0)
    flow = Flow(flat.shape[1])
    optimiser = torch.optim.AdamW(flow.parameters(), lr=1e-3, weight_decay=1e-2)
    data, noise = (torch.tensor(a, dtype=torch.float32) for a in (flat, floor))
    held = torch.tensor(check, dtype=torch.float32)
    centre, scale = (torch.tensor(row, dtype=torch.float32) for row in whitening)
    best, kept = np.inf, {}
    for step in range(STEPS):
        rows = torch.randint(0, len(data), (BATCH,))
        pose = data[rows] + noise * torch.randn(BATCH, data.shape[1])
        latent, volume = flow((pose - centre) / scale)
        loss = (0.5 * latent.square().sum(1) - volume).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(flow.parameters(), 5.0)
        optimiser.step()
        if step % 250 == 249:
            with torch.no_grad():
                latent, volume = flow((held - centre) / scale)
                now = float((0.5 * latent.square().sum(1) - volume).mean())
            if now < best:
                best = now
                kept = {key: value.clone() for key, value in flow.state_dict().items()}
            print(f"step {step + 1}: {float(loss.detach()):.2f} learning, {now:.2f} check")
    flow.load_state_dict(kept)
    return flow, whitening


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("motion", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    clips = [clip for clip in read_archives(arguments.motion) if not is_validation(clip.name)]
    # Every tenth training clip says when the flow has learned enough.
    learning = sample_poses([c for k, c in enumerate(clips) if k % 10])[:, :JOINTS]
    check = sample_poses(clips[::10])[:, :JOINTS]
    floor = np.repeat(_per_joint(FLOOR_RAD, OTHER_FLOOR_RAD)[:JOINTS], 3)
    poses = np.concatenate([learning, check])
    # learn_mixture wants all 23 joints; the hands are zero and are cut off again.
    wide = np.concatenate([poses, np.zeros((len(poses), 2, 3))], 1).reshape(len(poses), -1)
    weights, means, covariances = learn_mixture(wide, seed=0)
    size = 3 * JOINTS
    rng = np.random.default_rng(0)
    noisy = check.reshape(len(check), -1)
    noisy = noisy + floor * rng.normal(size=noisy.shape)
    flow, whitening = learn_flow(learning.reshape(len(learning), -1), floor, noisy)
    flat = poses.reshape(len(poses), -1)
    state = {
        f"flow/{key}": value.numpy().astype(np.float16) for key, value in flow.state_dict().items()
    }
    np.savez_compressed(
        arguments.output,
        weights=weights.astype(np.float32),
        means=means[:, :size].astype(np.float32),
        covariances=covariances[:, :size, :size].astype(np.float16),
        mean=flat.mean(0).astype(np.float32),
        covariance=(np.cov(flat.T) + np.diag(floor**2)).astype(np.float32),
        floor=floor.astype(np.float32),
        orders=np.stack([order.numpy() for order in flow.orders]).astype(np.int16),
        whitening=whitening.astype(np.float32),
        **state,
    )
    print(f"{len(clips)} clips, {len(poses)} poses")


if __name__ == "__main__":
    main()
