# SPDX-License-Identifier: Apache-2.0
"""Pose priors on held-out clips: likelihood, and what each does where the evidence is partial.

    python benchmarks/priors.py [--output FILE]

Candidates were learned on the training side of the clips by tools/priors/learn_candidates.py; all
numbers are of the held-out clips of `data/motion`. Estimates and evidence are simulated.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
import tyro
from simulated_clips import CLIPS, Scene, make_scene, read_clips
from torch import Tensor

from posefit.body import BodyModel, PoseParameters, load_body, pose_body
from posefit.solver import (
    Evidence,
    LandmarkPixels,
    SolverConfig,
    joint_table,
    solve,
)
from posefit.solver.evidence import BoundEvidence
from posefit.solver.pose_prior import PosePrior, load_pose_prior
from posefit.solver.priors import local_rotations, pose_prior_term
from posefit.solver.skeleton import Skeleton
from posefit.solver.terms import Term

CANDIDATES = CLIPS.with_name("prior_candidates.npz")
JOINTS = 21
EVERY = 8
"""Frames apart: neighbours tell nothing new, as frames are solved alone."""
LEGS, ARMS = (1, 2, 4, 5, 7, 8, 10, 11), (16, 17, 18, 19, 20, 21, 22, 23)


@dataclass(frozen=True)
class Options:
    """Where results go."""

    output: Path = field(default=Path(__file__).parent / "results/priors.json")


@dataclass(frozen=True)
class Flow:
    """The normalising flow of tools/priors/learn_candidates.py: pose to standard normal."""

    orders: list[Tensor]
    layers: list[list[tuple[Tensor, Tensor]]]
    mean: Tensor
    scale: Tensor

    def __call__(self, pose: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Latent (batch, 63), its derivative by the pose, and log |det|."""
        x = (pose - self.mean) / self.scale
        by_pose = torch.diag_embed((1.0 / self.scale).expand_as(x))
        volume = -self.scale.log().sum() + x.new_zeros(len(x))
        kept = x.shape[1] // 2
        for order, layer in zip(self.orders, self.layers, strict=True):
            x, by_pose = x[:, order], by_pose[:, order]
            still, moved = x[:, :kept], x[:, kept:]
            out, slope = self._net(layer, still)
            log_scale, shift = out.chunk(2, 1)
            bent = torch.tanh(log_scale)
            grow = bent.exp()
            by_scale, by_shift = slope.chunk(2, 1)
            own = (moved * grow * (1.0 - bent.square()))[..., None] * by_scale + by_shift
            lower = grow[..., None] * by_pose[:, kept:] + own @ by_pose[:, :kept]
            x = torch.cat([still, moved * grow + shift], 1)
            by_pose = torch.cat([by_pose[:, :kept], lower], 1)
            volume = volume + bent.sum(1)
        return x, by_pose, volume

    @staticmethod
    def _net(layer: list[tuple[Tensor, Tensor]], x: Tensor) -> tuple[Tensor, Tensor]:
        """A small network's output and its Jacobian."""
        slope = torch.eye(x.shape[1]).expand(len(x), -1, -1)
        for index, (weight, bias) in enumerate(layer):
            x, slope = x @ weight.T + bias, weight @ slope
            if index < len(layer) - 1:
                gate = torch.sigmoid(x)
                slope = (gate * (1.0 + x * (1.0 - gate)))[..., None] * slope
                x = x * gate
        return x, slope


def read_candidates() -> tuple[dict[str, PosePrior | Flow], np.ndarray, dict]:
    """Priors by name, the noise floor of the densities, and what is needed for likelihoods."""
    with np.load(CANDIDATES) as data:
        arrays = {key: data[key].astype(np.float64) for key in data.files}
    limits = load_pose_prior(load_body("free").joint_names, "cpu", torch.float32)

    def mixture(weights: np.ndarray, means: np.ndarray, covariances: np.ndarray) -> PosePrior:
        offsets = -2 * np.log(weights) + np.linalg.slogdet(covariances)[1]
        whitening = np.linalg.cholesky(np.linalg.inv(covariances))
        parts = (torch.tensor(a, dtype=torch.float32) for a in (means, whitening, offsets))
        mean, root, offset = parts
        return PosePrior(
            mean, root, offset - offset.min(), limits.lower[:JOINTS], limits.upper[:JOINTS]
        )

    layers, index = [], 0
    while f"flow/nets.{index}.0.weight" in arrays:
        rows = [
            tuple(
                torch.tensor(arrays[f"flow/nets.{index}.{k}.{part}"], dtype=torch.float32)
                for part in ("weight", "bias")
            )
            for k in (0, 2, 4)
        ]
        layers.append(rows)
        index += 1
    mean, scale = (torch.tensor(row, dtype=torch.float32) for row in arrays["whitening"])
    flow = Flow([torch.tensor(o).long() for o in arrays["orders"]], layers, mean, scale)
    one = np.ones(1), arrays["mean"][None], arrays["covariance"][None]
    many = arrays["weights"], arrays["means"], arrays["covariances"]
    found = {"one Gaussian": mixture(*one), "mixture of 9": mixture(*many), "flow": flow}
    return found, arrays["floor"], {"one Gaussian": one, "mixture of 9": many}


def likelihoods(poses: Tensor, floor: np.ndarray, mixtures: dict, flow: Flow) -> dict[str, float]:
    """Mean negative log-likelihood of held-out poses with the floor's noise, nats a pose."""
    rng = np.random.default_rng(0)
    flat = poses.flatten(1).double().numpy()
    noisy = flat + floor * rng.normal(size=flat.shape)
    size, found = flat.shape[1], {}
    for name, (weights, means, covariances) in mixtures.items():
        parts = []
        for weight, mean, covariance in zip(weights, means, covariances, strict=True):
            root = np.linalg.cholesky(covariance)
            white = np.linalg.solve(root, (noisy - mean).T)
            volume = np.log(np.diag(root)).sum() + 0.5 * size * math.log(2 * math.pi)
            parts.append(np.log(weight) - 0.5 * (white**2).sum(0) - volume)
        found[name] = float(-np.logaddexp.reduce(parts, axis=0).mean())
    latent, _, volume = flow(torch.tensor(noisy, dtype=torch.float32))
    energy = 0.5 * latent.square().sum(1) - volume + 0.5 * size * math.log(2 * math.pi)
    return {**found, "flow": float(energy.mean())}


@dataclass(frozen=True)
class PriorAsEvidence:
    """A candidate in the solver: the entry of a list that says nothing of what was seen."""

    prior: PosePrior | Flow
    weight: float

    def bind(self, body, model, frames: slice, config: SolverConfig) -> BoundEvidence:
        """See `posefit.solver.Evidence`."""

        def term(skeleton: Skeleton) -> Term:
            (rest,) = local_rotations(skeleton, None)
            betas = skeleton.joint_shape_jacobian.shape[-1]
            size = 3 * skeleton.joints.shape[1] + 3 + betas
            if isinstance(self.prior, PosePrior):
                return pose_prior_term(rest, self.prior, self.weight**0.5, size)
            judged = slice(1, 1 + JOINTS)
            latent, by_pose, volume = self.prior(rest.rotvec[:, judged].flatten(1))
            blocks = by_pose.unflatten(2, (JOINTS, 3))
            turned = torch.einsum("brjt,bjts->bjsr", blocks, rest.by_turn[:, judged])
            jacobian = latent.new_zeros(len(latent), size, latent.shape[1])
            jacobian[:, 3 : 3 + 3 * JOINTS] = turned.flatten(1, 2) * self.weight**0.5
            cost = self.weight * latent.square().sum(1)
            return Term(latent * self.weight**0.5, jacobian, cost)

        count = len(range(*frames.indices(10**9)))
        return BoundEvidence(term, torch.zeros(count), 0)


def scattered(scene: Scene) -> tuple[PoseParameters, PoseParameters, list[Evidence], Tensor]:
    """Every eighth frame: truth, estimate, evidence, camera."""
    rows = torch.arange(0, len(scene.clip.times), EVERY)
    seen: list[Evidence] = [
        replace(
            entry,
            **{
                name: getattr(entry, name)[rows]
                for name in ("targets", "weights", "scales", "intrinsics", "world_to_camera")
            },
        )
        for entry in scene.evidence
    ]
    camera = scene.world_to_camera[0][rows]
    return scene.clip.parameters[rows], scene.start[rows], seen, camera


def keypoints(body: BodyModel, true: PoseParameters, scene: Scene, camera: Tensor, seed: int):
    """Simulated 2D keypoints of the body's joints, 6 px off."""
    generator = torch.Generator().manual_seed(seed)
    joints = pose_body(body, true).joints
    intrinsics = scene.intrinsics[: len(joints)]
    seen = joints @ camera[:, :3, :3].transpose(1, 2) + camera[:, None, :3, 3]
    image = seen @ intrinsics.transpose(1, 2)
    pixels = image[..., :2] / image[..., 2:]
    pixels = pixels + 6.0 * torch.randn(pixels.shape, generator=generator)
    weights = torch.ones(joints.shape[:2])
    names = body.joint_names
    weights[:, [names.index(n) for n in names if n.startswith(("Spine", "L_Coll", "R_Coll"))]] = 0
    table = joint_table(names)
    return LandmarkPixels(table, pixels, weights, torch.full_like(weights, 6.0), intrinsics, camera)


def errors(body: BodyModel, found: PoseParameters, true: PoseParameters) -> tuple[float, list]:
    """Pelvis-aligned vertex error, and that of each joint, mm."""
    one, two = pose_body(body, found), pose_body(body, true)
    offset = one.joints[:, :1] - two.joints[:, :1]
    vertices = (one.vertices - offset - two.vertices).norm(dim=-1).mean()
    joints = (one.joints - offset - two.joints).norm(dim=-1).mean(0)
    return 1e3 * float(vertices), (1e3 * joints).tolist()


def refine_with_priors(body: BodyModel, priors: dict[str, PosePrior | Flow]) -> list[dict]:
    """Rows of case, prior and weight."""
    clips = [clip for clip in read_clips() if clip.is_held_out]
    cases = {
        "all seen": {}, "legs hidden": {"hidden": LEGS}, "arms hidden": {"hidden": ARMS},
        "keypoints alone": None, "keypoints, no estimate": None,
    }  # fmt: skip
    mean_pose = load_pose_prior(body.joint_names, "cpu", torch.float32).mean_pose
    choices = [("none", 0.0, 0.0), ("limits", 0.0, 1.0)]
    choices += [(name, weight, 1.0) for name in priors for weight in (0.1, 0.3, 1.0)]
    rows = []
    for case, options in cases.items():
        scenes = [make_scene(body, c, seed=20 + k, **(options or {})) for k, c in enumerate(clips)]
        for name, weight, limits in choices:
            values = []
            for k, scene in enumerate(scenes):
                true, start, seen, camera = scattered(scene)
                if options is None:
                    seen = [keypoints(body, true, scene, camera, k)]
                reference: PoseParameters | None = start
                if case == "keypoints, no estimate":
                    pose = mean_pose.expand_as(start.body_pose).contiguous()
                    start, reference = replace(start, body_pose=pose), None
                if weight:
                    seen = [*seen, PriorAsEvidence(priors[name], weight)]
                config = SolverConfig(
                    shape="fixed", limit_weight=limits, max_iterations=12,
                    robust_widening=4.0 if reference is None else 1.0,
                )  # fmt: skip
                found = solve(body, start, seen, config, reference=reference).parameters
                values.append(errors(body, found, true))
            joints = np.mean([v[1] for v in values], 0)
            row = {
                "case": case, "prior": name, "weight": weight,
                "pve_mm": float(np.mean([v[0] for v in values])),
                "legs_mm": float(joints[[4, 5, 7, 8]].mean()),
                "arms_mm": float(joints[[18, 19, 20, 21]].mean()),
            }  # fmt: skip
            rows.append(row)
            numbers = [f"{key} {row[key]:6.1f}" for key in ("pve_mm", "legs_mm", "arms_mm")]
            print(f"{case:24s} {name:14s} {weight:4.1f} ", *numbers, flush=True)
    return rows


def main(options: Options) -> None:
    """Measures, prints and writes."""
    torch.set_num_threads(1)
    body = load_body("free")
    priors, floor, mixtures = read_candidates()
    held_out = [clip for clip in read_clips() if clip.is_held_out]
    poses = torch.cat([clip.parameters.body_pose[::EVERY, :JOINTS] for clip in held_out])
    flow = priors["flow"]
    assert isinstance(flow, Flow)
    with torch.no_grad():
        nll = likelihoods(poses, floor, mixtures, flow)
        print("negative log-likelihood, nats a pose:", {k: round(v, 1) for k, v in nll.items()})
        rows = refine_with_priors(body, priors)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    found = {"nll_nats_a_pose": nll, "poses": len(poses), "refinement": rows}
    options.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Options))
